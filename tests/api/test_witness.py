# SPDX-License-Identifier: Apache-2.0
"""Witnesses (C2SP tlog-witness), as they see the daemon and as an auditor sees what they signed. They are
tests/witness.py, which is written by the specification and signs with OpenSSL."""
import base64
import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import time

import pytest
from conftest import BIN, ROOT
from liar import between
from rfc6962 import consistency_holds, parse_checkpoint, signature_of
from witness import Witness

FAST = ["--witness-interval-ms", "50", "--delivery-timeout-ms", "1000", "--allow-networks", "127.0.0.0/8"]
ORIGIN = "example.org/log"


def wait(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.02)
    return found


@pytest.fixture
def witness(tmp_path):
    """witness(NAME): a new one, which trusts nobody yet."""
    made = []

    def make(name="witness.example/w1", **kw):
        made.append(Witness(tmp_path / f"witness-{len(made)}", name, **kw))
        return made[-1]

    yield make
    for w in made:
        w.close()


@pytest.fixture
def witnessed(make_daemon, tmp_path):
    """witnessed(sections, ...): a daemon with these witnesses, whose log has two entries or more."""

    def make(*sections, options=(), **kw):
        config = tmp_path / "unlearnd.conf"
        config.write_text("".join(sections))
        d = make_daemon("-c", str(config), "--origin", ORIGIN, *FAST, *options, **kw)
        grow(d)
        return d

    return make


def grow(daemon):
    """More entries of the log: an erasure that finds nobody."""
    daemon.ok("POST", "/v1/erasures", {"subjects": [f"nobody-{time.monotonic_ns()}"]}, status=202)


def trusts(w, daemon):
    w.trust(daemon.get("/v1/audit/key").text)
    return w


def view(daemon, name="one"):
    return next(v for v in daemon.ok("GET", "/v1/audit/witnesses")["items"] if v["name"] == name)


def size_of(daemon):
    return parse_checkpoint(daemon.get("/v1/audit/checkpoint").text)[1]


def cosigned(daemon):
    r = daemon.get("/v1/audit/checkpoint?cosigned=true")
    return r.text if r.status_code == 200 else None


def caught_up(daemon, *names, seconds=20):
    """Every one of them has cosigned the whole log; the checkpoint that all of them did."""
    wait(f"{names} to cosign", lambda: all(view(daemon, n)["size"] == size_of(daemon) for n in names or ("one",)),
         seconds)
    return cosigned(daemon)


def fails_as(daemon, outcome, name="one"):
    return wait(outcome, lambda: (v := view(daemon, name))["last_outcome"] == outcome and v["failures"] > 0 and v)


def metric(daemon, name):
    for line in daemon.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    raise AssertionError(f"no metric {name}")


def test_the_newest_checkpoint_is_cosigned_by_all_and_an_auditor_sees_it(witnessed, witness):
    one, two = witness(), witness("witness.example/w2")
    d = witnessed(one.section("one"), two.section("two"))
    assert cosigned(d) is None and "yet" in d.get("/v1/audit/checkpoint?cosigned=true").json()["detail"]
    trusts(one, d), trusts(two, d)
    note = caught_up(d, "one", "two", seconds=40)
    # the log's own signature is the first line, as it is served without them
    plain = d.get("/v1/audit/checkpoint").text
    assert note.startswith(plain) and plain.count("\u2014") == 1 and note.count("\u2014") == 3
    signature_of(note, d.get("/v1/audit/key").text)
    for w in (one, two):
        assert abs(w.key.holds(note) - time.time()) < 60
    for name, w in (("one", one), ("two", two)):
        v = view(d, name)
        assert v["checkpoint"] == note and v["vkey"] == w.vkey() and v["failures"] == 0
        assert v["last_outcome"] == "cosigned" and v["last_status"] == 200 and "url" not in v
        assert metric(d, f'unlearnd_witness_cosigned_entries{{witness="{name}"}}') == v["size"]
        assert metric(d, f'unlearnd_witness_cosigned_age_seconds{{witness="{name}"}}') < 60
        assert metric(d, f'unlearnd_witness_failures{{witness="{name}"}}') == 0
    # it goes on, from what they have cosigned, and says nothing of it in the log
    before = size_of(d)
    grow(d)
    caught_up(d, "one", "two")
    assert size_of(d) > before and any(r.startswith(b"old %d\n" % before) for r in one.requests)
    size = size_of(d)
    count = len(one.requests)
    time.sleep(0.5)
    assert size_of(d) == size and count == len(one.requests) == len(two.requests), "a log at rest is not offered"


def test_an_answer_that_was_lost_is_made_up_for_from_the_witness_own_size(witnessed, witness):
    """409: it has cosigned more than the daemon knows of, and the proof is made anew from there."""
    w = witness()
    lost = []

    def lose(handler, body):
        lost.append(w.add_checkpoint(body)[0])
        handler.close_connection = True

    d = witnessed(w.section("one"))
    trusts(w, d)
    first = caught_up(d)
    w.answer = lose
    grow(d)
    wait("an answer to be lost", lambda: 200 in lost)
    grow(d)  # and what it is offered next is larger again
    w.answer = None
    del w.requests[:], w.answers[:]
    note = caught_up(d, seconds=40)
    assert 409 in w.answers and w.answers[-1] == 200
    at = w.answers.index(409)
    old, corrected = (int(w.requests[i].split(b"\n")[0].split()[1]) for i in (at, at + 1))
    assert old == parse_checkpoint(first)[1] < corrected
    assert w.key.holds(note) and view(d)["failures"] == 0


def test_after_an_exchange_of_the_log_s_key_a_witness_needs_the_new_one(witnessed, witness, tmp_path):
    w = witness()
    d = witnessed(w.section("one"))
    trusts(w, d)
    old_key, before = d.get("/v1/audit/key").text, caught_up(d)
    d.stop()
    subprocess.run([str(BIN / "unlearnctl"), "audit", "rotate-key", "--data-dir", str(d.data_dir)], check=True)
    d.start()
    assert fails_as(d, "unknown_key")["last_status"] == 403
    assert cosigned(d) == before  # what the old key signed stands meanwhile
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    for key in (old_key, d.get("/v1/audit/key").text):
        r = d.ctl("audit", "verify", "--key", key, "--witness", w.vkey(), env=env)
        assert f"cosigned the first {parse_checkpoint(before)[1]} entries" in r.stdout
    trusts(w, d)
    note = caught_up(d, seconds=40)
    signature_of(note, d.get("/v1/audit/key").text)
    assert w.key.holds(note) and any("unknown_key" in line for line in d.log)


def test_a_forked_log_is_refused(witnessed, witness, make_daemon, tmp_path):
    """A copy of the data directory goes on otherwise than the log that the witness has seen."""
    w = witness()
    d = witnessed(w.section("one"))
    trusts(w, d)
    fork_at = parse_checkpoint(caught_up(d))[1]
    d.stop()
    subprocess.run(["cp", "-a", str(d.data_dir), str(tmp_path / "fork")], check=True)
    d.start()
    for _ in range(3):
        grow(d)
    real = caught_up(d)
    d.stop()
    fork = make_daemon("-c", str(tmp_path / "unlearnd.conf"), "--origin", ORIGIN, *FAST, data_dir=tmp_path / "fork")
    grow(fork)
    assert size_of(fork) < parse_checkpoint(real)[1]
    fails_as(fork, "ahead")
    while size_of(fork) <= parse_checkpoint(real)[1]:
        grow(fork)
    fails_as(fork, "inconsistent")  # of the same size as the real one it is another tree, and then no later one
    wait("422", lambda: (v := view(fork))["last_status"] == 422 and v["last_outcome"] == "inconsistent")
    assert parse_checkpoint(cosigned(fork))[1] == fork_at, "only what both have in common was ever cosigned"
    assert any("outcome=inconsistent" in line and "the witness has seen another" in line for line in fork.log), fork.log
    # an auditor who holds what the witness cosigned of the real log sees that the fork is another
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    (tmp_path / "real").write_text(real)
    key = fork.get("/v1/audit/key").text
    fork.ctl("audit", "--export", "ndjson", "-o", tmp_path / "log")
    r = fork.ctl("audit", "verify", "--offline", tmp_path / "log", "--checkpoint", tmp_path / "real", "--key", key,
                 "--witness", w.vkey(), check=False, env=env)
    assert r.returncode == 1 and "do not make the root" in r.stderr


def text_of(body):
    note = body.decode().split("\n\n", 1)[1]
    return note[:note.index("\n\n") + 1]


def other_text(body):
    """A checkpoint of the same size and another root."""
    lines = text_of(body).split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    return "\n".join(lines)


def flipped(line):
    head, value = line.rstrip("\n").rsplit(" ", 1)
    raw = bytearray(base64.b64decode(value))
    raw[-1] ^= 1
    return f"{head} {base64.b64encode(raw).decode()}\n"


def giant(handler):
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(1024):
            handler.wfile.write(("\u2014 somebody " + "A" * 1000 + "\n").encode())


def slow(handler):
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(200):
            handler.wfile.write(b"\xe2")
            handler.wfile.flush()
            time.sleep(0.05)


def says(line_of):
    return lambda w, h, body: h.send(200, line_of(w, body).encode())


def refuses(status, body=b"", kind="text/plain", **headers):
    return lambda w, h, _: h.send(status, body, kind, **headers)


NOW = int(time.time())
LIES = {  # how it answers, and what that is called
    "forged": (says(lambda w, b: flipped(w.key.cosign(text_of(b)))), "bad_signature"),
    "other-text": (says(lambda w, b: w.key.cosign(other_text(b))), "bad_signature"),
    "stranger": (says(lambda w, b: w.stranger.cosign(text_of(b))), "bad_signature"),
    "impostor": (says(lambda w, b: w.impostor.cosign(text_of(b))), "bad_signature"),
    "echo": (says(lambda w, b: b.decode().split("\n\n")[-1]), "bad_signature"),
    "empty": (says(lambda w, b: ""), "bad_signature"),
    "future": (says(lambda w, b: w.key.cosign(text_of(b), NOW + 86400)), "bad_time"),
    "past": (says(lambda w, b: w.key.cosign(text_of(b), NOW - 86400)), "bad_time"),
    "page": (says(lambda w, b: "<html>welcome</html>\n"), "malformed"),
    "cut": (says(lambda w, b: w.key.cosign(text_of(b))[:-1]), "malformed"),
    "giant": (lambda w, h, b: giant(h), "broken"),
    "slow": (lambda w, h, b: slow(h), "timeout"),
    "redirect": (refuses(307, b"", location="http://127.0.0.1:1/"), "status"),
    "busy": (refuses(503), "status"),
    "no-size": (refuses(409, b"conflict\n"), "malformed"),
    "bad-size": (refuses(409, b"-1\n", "text/x.tlog.size"), "malformed"),
    "far-size": (refuses(409, b"18446744073709551615\n", "text/x.tlog.size"), "ahead"),
    "same-size": (refuses(409, b"0\n", "text/x.tlog.size"), "inconsistent"),
}
BATCH = 9  # of them at a time: there may be 16 witnesses


@pytest.mark.parametrize("part", range(len(LIES) // BATCH))
def test_whatever_a_witness_says_nothing_is_kept_that_is_not_true(witnessed, witness, tmp_path, part):
    names = list(LIES)[part * BATCH:(part + 1) * BATCH]
    good, liars = witness("witness.example/good"), {}
    for name in names:
        w = liars[name] = witness(f"witness.example/{name}")
        w.stranger = witness("witness.example/stranger").key
        w.impostor = witness(w.key.name).key  # another key under its name,
        w.impostor.id = w.key.id  # and its key id
        w.answer = lambda h, body, w=w, lie=LIES[name][0]: lie(w, h, body)
    d = witnessed(good.section("good"), *(w.section(name) for name, w in liars.items()))
    trusts(good, d)
    for name in names:
        v = fails_as(d, LIES[name][1], name)
        assert v["checkpoint"] is None and v["size"] == 0 and v["cosignature_time"] is None
        assert metric(d, f'unlearnd_witness_cosigned_entries{{witness="{name}"}}') == 0
    assert "NaN" in d.get("/metrics").text.split(f'cosigned_age_seconds{{witness="{names[0]}"}}')[1].split("\n")[0]
    note = caught_up(d, "good", seconds=40)
    assert note.count("\u2014") == 2, "the log's signature and one more"
    counted = sum(metric(d, f'unlearnd_witness_attempts_total{{outcome="{LIES[n][1]}"}}') for n in names)
    assert counted >= len(names) and len(liars[names[0]].requests) >= 1
    log = d.ok("GET", "/v1/audit?limit=1000")["items"]
    assert not any("witness" in json.dumps(e) for e in log), "the log tells of itself"
    # one that comes to its senses is taken up again
    w = trusts(liars[names[0]], d)
    w.answer = None
    caught_up(d, names[0], seconds=60)
    assert any(f"witness={names[0]} outcome={LIES[names[0]][1]} " in line for line in d.log)
    assert not any(w.url in line for line in d.log), "an address may hold a secret"


def test_a_witness_that_names_a_time_is_left_alone_until_then(witnessed, witness):
    w, at = witness(), []
    say = refuses(503, retry_after="2")

    def later(handler, body):
        at.append(time.monotonic())
        say(w, handler, body)

    w.answer = later
    witnessed(w.section("one"))
    wait("two offers", lambda: len(at) == 2)
    assert at[1] - at[0] > 1.9, "else it would be a twentieth of a second"


def test_what_was_cosigned_outlives_kills(witnessed, witness):
    w = witness()
    d = witnessed(w.section("one"))
    trusts(w, d)
    caught_up(d)
    before, seen = cosigned(d), 0
    for i in range(6):
        grow(d)
        time.sleep(0.03 * i)  # before, in and after the next round
        d.kill()
        d.start()
        now = cosigned(d)
        assert parse_checkpoint(now)[1] >= parse_checkpoint(before)[1] and w.key.holds(now)
        assert w.size(ORIGIN) >= view(d)["size"]
        before, seen = now, seen + 1
    grow(d)
    d.restart()
    note = caught_up(d)
    assert w.key.holds(note) and parse_checkpoint(note)[1] == w.size(ORIGIN)
    # each checkpoint that it cosigned goes on from the one before: it would not have answered otherwise
    assert seen == 6 and 422 not in w.answers


def test_a_witness_in_another_process_that_is_killed_goes_on_too(witnessed, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    key = tmp_path / "key"

    def start():
        p = subprocess.Popen([sys.executable, str(ROOT / "tests/witness.py"), str(tmp_path / "w"), str(port),
                              *([key.read_text()] if key.exists() else [])], stdout=subprocess.PIPE, text=True)
        return p, *p.stdout.readline().split()

    p, url, vkey = start()
    try:
        d = witnessed(f"[witness one]\nurl = {url}/\nkey = {vkey}\n")  # a slash at its end
        fails_as(d, "unknown_log")
        key.write_text(d.get("/v1/audit/key").text)
        for _ in range(2):
            p.kill(), p.wait()
            p, _, again = start()
            assert again == vkey
            grow(d)
            caught_up(d, seconds=40)
        p.kill(), p.wait()
        grow(d)
        fails_as(d, "unreachable")
    finally:
        p.kill()
        p.stdout.close()


def test_an_auditor_requires_the_witnesses_that_he_trusts(witnessed, witness, tmp_path):
    one, two, none = witness(), witness("witness.example/w2"), witness("witness.example/w3")
    d = witnessed(one.section("one"), two.section("two"))
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}

    def verify(*args, check=False, of=d):
        return of.ctl("audit", "verify", *args, check=check, env=env)

    e = d.erase(subjects=["another"])["id"]
    r = d.get(f"/v1/erasures/{e}/proof?cosigned=true")
    assert r.status_code == 409 and "as far as this entry yet" in r.json()["detail"]
    r = verify("--witness", one.vkey())
    assert r.returncode == 1 and "no checkpoint that witness.example/w1 cosigned" in r.stderr
    trusts(one, d), trusts(two, d)
    size = parse_checkpoint(caught_up(d, "one", "two", seconds=40))[1]
    # a moment later the log is longer, and what was cosigned is still its beginning
    two.answer = lambda h, body: h.send(500, b"")
    grow(d)
    wait("one alone", lambda: view(d)["size"] > size and view(d, "two")["failures"] > 0)
    r = verify("--witness", one.vkey(), "--witness", two.vkey())
    assert r.returncode == 0 and r.stdout.count(f"cosigned the first {size} entries") == 2, r.stderr + r.stdout
    r = verify("--witness", one.vkey(kind=1))
    assert r.returncode == 0 and f"cosigned the first {view(d)['size']} entries" in r.stdout
    said = json.loads(d.ctl("--json", "audit", "verify", "--witness", one.vkey(), env=env).stdout)
    assert [(w["vkey"], w["size"]) for w in said["witnesses"]] == [(one.vkey(), view(d)["size"])]
    assert json.loads(d.ctl("--json", "audit", "verify", env=env).stdout)["witnesses"] == []
    r = verify("--witness", one.vkey(), "--witness", none.vkey())
    assert r.returncode == 1 and "all 2 witnesses" in r.stderr
    assert verify("--witness", "nonsense").returncode == 2
    # offline: the checkpoint itself has to be cosigned
    log, note, plain = tmp_path / "log", tmp_path / "note", tmp_path / "plain"
    d.ctl("audit", "--export", "ndjson", "-o", log, "--checkpoint", note, "--cosigned")
    d.ctl("audit", "--export", "ndjson", "-o", tmp_path / "log2", "--checkpoint", plain)
    key = d.get("/v1/audit/key").text
    offline = ["--offline", log, "--key", key, "--checkpoint"]
    r = verify(*offline, note, "--witness", one.vkey())
    assert r.returncode == 0 and "cosigned the first" in r.stdout
    for file, who, text in ((note, two, "no cosignature by"), (plain, one, "no cosignature by")):
        r = verify(*offline, file, "--witness", who.vkey())
        assert r.returncode == 1 and text in r.stderr, r.stderr
    head, last = note.read_text().rstrip("\n").rsplit("\n", 1)
    note.write_text(f"{head}\n{flipped(last)}")
    r = verify(*offline, note, "--witness", one.vkey())
    assert r.returncode == 1 and "does not verify" in r.stderr
    assert verify(*offline, note).returncode == 0, "who trusts no witness passes over its signature"
    assert d.ctl("audit", "--cosigned", check=False).returncode == 2
    # a certificate's proof, too
    e = d.erase(subjects=["a stranger"])["id"]
    wait("the proof to be cosigned", lambda: d.get(f"/v1/erasures/{e}/proof?cosigned=true").status_code == 200)
    proof, signed = tmp_path / "proof", tmp_path / "certificate"
    r = d.ctl("certificate", e, "-o", signed, "--proof", proof, "--witness", one.vkey(), env=env)
    assert "witness      witness.example/w1 cosigned" in r.stdout
    offline = ["certificate", "--verify", signed, "--key", key, "--proof", proof]
    said = json.loads(d.ctl("--json", *offline, "--witness", one.vkey()).stdout)
    assert said["verified"] and [w["vkey"] for w in said["witnesses"]] == [one.vkey()]
    r = d.ctl(*offline, "--witness", two.vkey(), check=False)
    assert r.returncode == 1 and "witness.example/w2" in r.stderr
    assert d.ctl("certificate", e, "--witness", two.vkey(), check=False, env=env).returncode == 1
    assert d.ctl(*offline[:-2], "--witness", one.vkey(), check=False).returncode == 2
    # what an operator sees
    r = d.ctl("status")
    assert "cosigned entries" in r.stdout and "one" in r.stdout and "two" in r.stdout
    assert [w["name"] for w in json.loads(d.ctl("--json", "status").stdout)["witnesses"]] == ["one", "two"]


@pytest.fixture
def signed(witnessed, witness, tmp_path):
    """A daemon, .verify(...) of what it exported under cosignatures that the test makes, and two keys."""
    d = witnessed()
    d.keys = [witness(f"witness.example/w{i}").key for i in (1, 2)]
    d.key = d.get("/v1/audit/key").text
    log, note = tmp_path / "log", tmp_path / "note"
    d.ctl("audit", "--export", "ndjson", "-o", log, "--checkpoint", note)
    d.note, d.text = note.read_text(), note.read_text().split("\n\n")[0] + "\n"

    def verify(lines, *args):
        note.write_text(d.note + lines)
        return d.ctl("audit", "verify", "--offline", log, "--checkpoint", note, "--key", d.key, *args, check=False)

    d.verify = verify
    return d


def test_two_witnesses_are_two_keys_and_none_is_the_log(signed):
    d, (one, two) = signed, signed.keys
    lines = one.cosign(d.text) + two.cosign(d.text)
    both = ["--witness", one.vkey(), "--witness", two.vkey()]
    assert d.verify(lines, *both).returncode == 0
    again = one.vkey()
    one.name = "witness.example/another"
    one.id = one.id_of(4)
    for other in (again, one.vkey()):
        r = d.verify(lines + one.cosign(d.text), "--witness", again, "--witness", other)
        assert r.returncode == 2 and "have the same key" in r.stderr, r.stderr
    for command in (["audit", "verify"], ["audit", "verify", "--key", d.key]):
        r = d.ctl(*command, "--witness", d.key, check=False)
        assert r.returncode == 2 and "has the log's own key" in r.stderr, r.stderr
    r = d.verify(lines, "--witness", d.key)
    assert r.returncode == 2 and "has the log's own key" in r.stderr
    e = d.erase(subjects=["somebody"])["id"]
    assert d.ctl("certificate", e, "--witness", d.key, check=False).returncode == 2


def test_an_old_cosignature_says_nothing_of_the_log_of_today(signed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    d, (one, two), now = signed, signed.keys, int(time.time())
    require = ["--witness", one.vkey(), "--witness", two.vkey()]

    def lines(*days):
        return "".join(k.cosign(d.text, now - int(n * 86400)) for k, n in zip((one, two), days))

    assert d.verify(lines(1.9, 0), *require).returncode == 0
    r = d.verify(lines(0, 2.1), *require)
    assert r.returncode == 1 and "witness.example/w2: it cosigned at" in r.stderr and "2 days ago" in r.stderr
    assert d.verify(lines(0, 2.1), *require[:2]).returncode == 0, "who did not have to, may be old"
    assert d.verify(lines(1.1, 2.1), *require, "--witness-max-age", "1").returncode == 1
    assert d.verify(lines(0, 400), *require, "--witness-max-age", "401").returncode == 0
    assert d.verify("", "--witness-max-age", "3").returncode == 2
    assert d.verify(lines(0, 0), *require, "--witness-max-age", "x").returncode == 2
    # the same of what a daemon shows: the fresh one of two checkpoints of one size, and none of an empty log
    empty = f"{ORIGIN}\n0\n{base64.b64encode(hashlib.sha256().digest()).decode()}\n"
    notes = {"stale": [d.note + lines(2.1, 2.1)], "both": [d.note + lines(2.1, 2.1), d.note + lines(0, 1)],
             "empty": [empty + "\n" + one.cosign(empty) + two.cosign(empty)]}

    def change(path, text):
        shown = [{"checkpoint": n} for n in notes[which]]
        return json.dumps({"items": shown}) if path == "/v1/audit/witnesses" else text

    with between(d, change) as liar:
        for which, status, says in (("stale", 1, "2 days ago"), ("both", 0, ""), ("empty", 1, "without entries")):
            r = d.ctl("--url", liar.url, "audit", "verify", *require, check=False)
            assert r.returncode == status and says in r.stderr, r.stderr
        which = "stale"
        assert d.ctl("--url", liar.url, "audit", "verify", *require, "--witness-max-age", "3").returncode == 0


def start_fails(config, tmp_path, *options):
    r = subprocess.run([str(BIN / "unlearnd"), "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "-c",
                        str(config), "--insecure-no-auth", *options], capture_output=True, text=True, timeout=30)
    assert r.returncode == 1, r.stderr
    return r.stderr


def test_a_witness_that_makes_no_sense_is_refused_at_the_start(make_daemon, witness, tmp_path):
    w, config = witness(), tmp_path / "unlearnd.conf"
    d = make_daemon(data_dir=tmp_path / "data")
    _, _, public = (key := d.get("/v1/audit/key").text).split("+", 2)
    d.stop()
    pq = base64.b64encode(bytes([6]) + bytes(32)).decode()
    bad = {
        f"[witness one]\nurl = https://w.example/\nkey = w.example+00000000+{public}\n": "key id",
        f"[witness one]\nurl = https://w.example/\nkey = w.example+00000000+{pq}\n": "ML-DSA-44",
        f"[witness one]\nurl = https://w.example/\nkey = {key}\n": "the log's own",
        f"[witness one]\nurl = https://w.example/?a=b\nkey = {w.vkey()}\n": "no query",
        f"[witness one]\nurl = https://u:p@w.example/\nkey = {w.vkey()}\n": "no user name",
        f"[witness one]\nurl = http://w.example/\nkey = {w.vkey()}\n": "https",
        f"[witness one]\nurl = https://w.example/\nkey = {w.vkey()}\n"
        f"[witness again]\nurl = https://v.example/\nkey = {w.vkey(1)}\n": "the same key",
        "[witness one]\nurl = https://w.example/\nkey = nonsense\n": "NAME+KEYID+KEY",
    }
    for text, word in bad.items():
        config.write_text(text)
        said = start_fails(config, tmp_path)
        assert word in said and ("[witness one]" in said or "[witness again]" in said), said


def test_no_witness_leads_to_where_the_daemon_must_not_go(make_daemon, witness, tmp_path):
    w, config = witness(), tmp_path / "unlearnd.conf"
    config.write_text(f"[witness one]\nurl = https://127.0.0.1:{w.port}/w\nkey = {w.vkey()}\n")
    d = make_daemon("-c", str(config), "--witness-interval-ms", "50")
    grow(d)
    assert fails_as(d, "refused")["last_status"] is None and w.requests == []
