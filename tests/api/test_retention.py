# SPDX-License-Identifier: Apache-2.0
"""Entries of the log that are older than retention_months go: their bytes, not their hashes. Months pass
by a preloaded clock (tests/preload/clock.c)."""
import base64
import hashlib
import json
import subprocess
import time

import rfc6962
from conftest import BIN, DIGITS, days_later
from liar import between


def months_later(months):
    return days_later(31 * months)


def erase_many(d, first, count):
    body = "".join(json.dumps({"subjects": [f"p{k}"]}) + "\n" for k in range(first, first + count))
    r = d.request("POST", "/v1/erasures:batch", data=body.encode(),
                  headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200


def export(d, query=""):
    text = d.get("/v1/audit" + query, headers={"Accept": "application/x-ndjson"}).text
    return [json.loads(x) for x in text.splitlines()]


def head(d):
    _, size, root, _, _ = rfc6962.parse_checkpoint(d.get("/v1/audit/checkpoint").text)
    return size, root


def wait_pruned(d, seconds=10):
    end = time.monotonic() + seconds
    while not d.ok("GET", "/v1/audit?type=audit.pruned")["items"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.3)  # the steps after the first
    return d.ok("GET", "/v1/audit?type=audit.pruned")["items"]


def test_old_entries_go_and_every_proof_still_holds(make_daemon, tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path)}
    options = ["--retention-months", "24"]
    d = make_daemon(*options)
    d.create(**DIGITS)
    erase_many(d, 0, 400)
    old = export(d)
    size, root = head(d)
    assert size == len(old) > 1600
    d.ctl("audit", "verify", env=state)
    erasure = d.ok("GET", "/v1/erasures?limit=1")["items"][0]["id"]
    d.first = old[3]["data"]["erasure"]
    address = d.url.removeprefix("http://")
    d.stop()

    d.start(months_later(23))
    erase_many(d, 1000, 40)
    time.sleep(1.5)
    assert len(export(d)) == head(d)[0] and not d.ok("GET", "/v1/audit?type=audit.pruned")["items"]
    d.stop()

    d.options += ["--listen", address]
    d.start(months_later(25))
    said = wait_pruned(d)
    kept = size - size % 256
    assert [(e["data"]["from"], e["data"]["to"]) for e in said] == [(0, 1024), (1024, kept)]
    assert said[0]["data"]["retention_months"] == 24
    left = export(d)
    assert [e["index"] for e in left] == list(range(kept, head(d)[0]))
    assert left[:size - kept] == old[kept:]
    check_pruned(d, old, kept)
    check_tree(d, old, left, kept, (size, root))
    assert export(d, "?subject=p3") == [] and export(d, "?subject=p1003") != []
    assert d.ok("GET", f"/v1/erasures/{erasure}")["state"] == "completed"
    assert d.get(f"/v1/erasures/{erasure}/certificate").status_code == 200
    r = d.get(f"/v1/erasures/{d.first}/proof")
    assert r.status_code == 410 and "pruned" in r.json()["detail"]
    out = d.ctl("audit", "verify", env=state).stdout
    assert f"pruned       {kept}" in out and f"goes on from the {size} entries" in out
    seen = json.loads(d.ctl("--json", "audit", "verify", env={"XDG_STATE_HOME": str(tmp_path / "new")}).stdout)
    assert seen["pruned"] == kept and seen["verified"]
    d.restart()  # by today's clock again
    assert d.get(f"/v1/audit/{kept - 1}").status_code == 410
    assert d.get(f"/v1/audit/{kept}").json() == old[kept]


def check_pruned(d, old, kept):
    for i in (0, 5, 255, 256, kept - 1):
        r = d.get(f"/v1/audit/{i}")
        assert r.status_code == 410 and old[i]["leaf_hash"] in r.json()["detail"], r.text
    assert d.get(f"/v1/audit/{kept}").json() == old[kept]
    r = d.get("/v1/audit/tile/entries/000")
    assert r.status_code == 410 and "hash tiles" in r.json()["detail"]
    r = d.get("/v1/events", headers={"Last-Event-ID": "3"})
    assert r.status_code == 410 and r.json()["errors"][0]["pointer"] == "Last-Event-ID"
    with d.get("/v1/events", headers={"Last-Event-ID": str(kept)}, stream=True) as r:
        assert r.status_code == 200
    assert d.get("/v1/audit?limit=1&cursor=3").json()["items"][0]["index"] == kept


def check_tree(d, old, left, kept, before):
    """All leaf hashes, from the hash tiles and from what is left, make the root; each is proved."""
    hashes = b"".join(d.get(f"/v1/audit/tile/0/{i:03}").content for i in range(kept // 256))
    leaves = [hashes[i:i + 32] for i in range(0, len(hashes), 32)]
    assert [x.hex() for x in leaves] == [e["leaf_hash"] for e in old[:kept]]
    leaves += [bytes.fromhex(e["leaf_hash"]) for e in left]
    size, root = head(d)
    assert rfc6962.root_of(leaves) == root and rfc6962.root_of(leaves[:before[0]]) == before[1]
    for i in (0, 100, kept - 1, kept, size - 1):
        p = d.ok("GET", f"/v1/audit/{i}/proof?size={size}")
        path = [base64.b64decode(h) for h in p["hashes"]]
        assert rfc6962.inclusion_holds(i, size, leaves[i], path, root)
    p = d.ok("GET", f"/v1/audit/consistency?from={before[0]}&to={size}")
    path = [base64.b64decode(h) for h in p["hashes"]]
    assert rfc6962.consistency_holds(before[0], size, path, before[1], root)


def test_certificates_and_keys_outlive_the_entries(make_daemon, tmp_path):
    """The statement and the announcement of a key are kept; a proof from before goes on to hold."""
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    options = ["--retention-months", "24"]
    d = make_daemon(*options)
    d.create(**DIGITS)
    erase_many(d, 0, 100)
    erasure = d.ok("GET", "/v1/erasures?limit=1")["items"][0]["id"]
    files = [tmp_path / "certificate.json", tmp_path / "certificate.tlog-proof"]
    d.ctl("certificate", erasure, "-o", files[0], "--proof", files[1], env=state)
    first = d.get("/v1/audit/key").text
    d.stop()
    subprocess.run([str(BIN / "unlearnctl"), "audit", "rotate-key", "--data-dir", str(d.data_dir)], check=True,
                   capture_output=True)
    d.start()
    erase_many(d, 1000, 100)
    d.stop()
    d.start(months_later(25))
    wait_pruned(d)
    announced = d.ok("GET", "/v1/audit/keys")["items"][1]["announced"]
    assert d.get(f"/v1/audit/{announced}").status_code == 410
    out = d.ctl("audit", "verify", "--key", first, env=state)
    assert "pruned" in out.stdout and "handed over" in out.stderr
    r = d.get(f"/v1/erasures/{erasure}/proof")
    assert r.status_code == 410 and "pruned" in r.json()["detail"]
    payload = d.ok("GET", f"/v1/erasures/{erasure}/certificate", status=200)["payload"]
    assert payload == json.loads(files[0].read_text())["payload"]
    r = d.ctl("certificate", erasure, "-o", tmp_path / "late.json", env=state)
    assert "no proof any more" in r.stderr and "was not checked" in r.stdout
    r = d.ctl("--json", "certificate", erasure, "-o", tmp_path / "late.json", env=state)
    assert json.loads(r.stdout)["proof_checked"] is False and "was not checked" in r.stderr
    r = d.ctl("certificate", erasure, "--proof", tmp_path / "late", check=False, env=state)
    assert r.returncode == 1 and not (tmp_path / "late").exists()
    r = d.ctl("certificate", "--verify", files[0], "--proof", files[1], "--key", first)
    assert r.returncode == 0


def pruned_log(make_daemon):
    d = make_daemon("--retention-months", "24")
    d.create(**DIGITS)
    erase_many(d, 0, 400)
    d.stop()
    d.start(months_later(25))
    wait_pruned(d)
    d.first_index = export(d)[0]["index"]
    assert d.first_index > 1024
    return d


def begins(index):
    """The daemon says that the log begins there."""
    def change(text):
        doc = json.loads(text)
        doc["items"][0]["index"] = index
        return json.dumps(doc)
    return change


def test_a_log_may_be_pruned_while_it_is_verified(make_daemon, tmp_path):
    d = pruned_log(make_daemon)
    looks = []

    def change(path, text):
        """At the first looks less is pruned than when the entries are read."""
        if path != "/v1/audit?limit=1":
            return text
        looks.append(path)
        return begins(256 * (len(looks) - 1))(text) if len(looks) <= before else text

    def verify():
        looks.clear()
        return subprocess.run([str(BIN / "unlearnctl"), "--url", liar.url, "audit", "verify"], timeout=60,
                              capture_output=True, text=True, env={"XDG_STATE_HOME": str(tmp_path / "state")})

    with between(d, change) as liar:
        before = 1
        r = verify()
        assert r.returncode == 0 and f"pruned       {d.first_index}" in r.stdout, r.stderr
        assert len(looks) == 2
        before = 1000  # it is no race where the daemon goes on to say so
        r = verify()
        assert r.returncode == 1 and "entry 256 is missing" in r.stderr and len(looks) == 2


def test_it_does_not_begin_again_for_ever(make_daemon, tmp_path):
    d = make_daemon()
    d.create(**DIGITS)
    erase_many(d, 0, 600)
    assert head(d)[0] > 9 * 256
    looks = []

    def change(path, text):
        """Each time one tile more is gone when the entries are read."""
        if path == "/v1/audit?limit=1":
            looks.append(path)
            return begins(256 * (len(looks) - 1))(text)
        if path == "/v1/audit":
            return "".join(text.splitlines(keepends=True)[256 * len(looks):])
        return text

    with between(d, change) as liar:
        r = subprocess.run([str(BIN / "unlearnctl"), "--url", liar.url, "audit", "verify"], timeout=60,
                           capture_output=True, text=True, env={"XDG_STATE_HOME": str(tmp_path / "state")})
    assert r.returncode == 1 and len(looks) == 8
    assert r.stderr == "error: entry 1792 is missing or out of order\n"


def withheld(index, tail=""):
    """The daemon does not give the entries before that one, and says that they were pruned."""
    def change(path, text):
        if path == "/v1/audit?limit=1":
            return begins(index)(text)
        return "".join(text.splitlines(keepends=True)[index:]) + tail if path == "/v1/audit" else text
    return change


def announcement(index, to):
    """An entry that nobody signed, with the hash of its own bytes."""
    entry = (f'{{"v":1,"index":{index},"time":"2026-01-01T00:00:00.000Z","type":"audit.pruned","actor":"unlearnd",'
             f'"data":{{"from":0,"to":{to}}}}}')
    return entry[:-1] + f',"leaf_hash":"{hashlib.sha256(bytes(1) + entry.encode()).hexdigest()}"}}\n'


def test_nothing_is_withheld_as_pruned(make_daemon, tmp_path):
    """The log itself has to say that entries were pruned, and how many, before its checkpoint."""
    d = make_daemon()
    d.create(**DIGITS)
    erase_many(d, 0, 200)
    size = head(d)[0]
    lies = [(withheld(256), "they are withheld"),
            (withheld(256, announcement(size, 256)), "they are withheld"),
            (withheld(size + 256 - size % 256), "does not begin where it may"),
            (withheld(255), "does not begin where it may")]
    with between(d) as liar:
        for liar.change, says in lies:
            r = subprocess.run([str(BIN / "unlearnctl"), "--url", liar.url, "audit", "verify"], timeout=60,
                               capture_output=True, text=True, env={"XDG_STATE_HOME": str(tmp_path / "state")})
            assert r.returncode == 1 and says in r.stderr, r.stderr


def test_no_more_is_withheld_than_was_pruned(make_daemon, tmp_path):
    d = pruned_log(make_daemon)
    erase_many(d, 5000, 150)
    first = d.first_index + 256
    assert head(d)[0] > first
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with between(d) as liar:
        verify = [str(BIN / "unlearnctl"), "--url", liar.url, "audit", "verify"]
        r = subprocess.run(verify, timeout=60, capture_output=True, text=True, env=state)
        assert r.returncode == 0 and f"pruned       {d.first_index}" in r.stdout, r.stderr
        withhold = withheld(256)  # of what there is
        liar.change = lambda path, text: begins(first)(text) if path == "/v1/audit?limit=1" else withhold(path, text)
        r = subprocess.run(verify, timeout=60, capture_output=True, text=True, env=state)
        assert r.returncode == 1 and f"the first {first} entries are not there" in r.stderr, r.stderr


def test_offline_it_is_said_that_the_log_was_pruned(make_daemon, tmp_path):
    d = pruned_log(make_daemon)
    log, checkpoint = tmp_path / "log", tmp_path / "checkpoint"
    d.ctl("audit", "--export", "ndjson", "-o", log, "--checkpoint", checkpoint)
    command = ["audit", "verify", "--offline", log, "--checkpoint", checkpoint, "--key", d.get("/v1/audit/key").text]
    r = d.ctl(*command, check=False)
    assert r.returncode == 1 and f"begins with entry {d.first_index}: the log was pruned" in r.stderr
    assert "online" in r.stderr and r.stderr.count("error:") == 1
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[1:]))  # that is no pruning
    r = d.ctl(*command, check=False)
    assert r.returncode == 1 and "entry 0 is missing or out of order" in r.stderr


def test_what_a_certificate_will_be_made_of_stays(make_daemon, digits):
    """An erasure that is not completed after all that time (its worker never runs)."""
    d = make_daemon("--retention-months", "24")
    d.create(**DIGITS)
    d.load("digits", digits[:100])
    d.train("digits")
    erase_many(d, 1000, 100)
    d.stop()
    d.options += ["--worker-path", "/bin/false", "--retry-first-ms", "300000"]
    d.start()
    stuck = d.erase(wait=False, subjects=["s3"])
    assert stuck["state"] == "forgotten"
    erase_many(d, 2000, 200)
    d.stop()
    d.start(months_later(25))
    said = wait_pruned(d)
    forgotten, = [e["index"] for e in d.ok("GET", f"/v1/audit?erasure={stuck['id']}")["items"]
                  if e["type"] == "erasure.forgotten"]
    assert [e["data"]["to"] for e in said] == [forgotten - forgotten % 256] == [256]
    d.stop()
    d.options = ["--retention-months", "24", "--insecure-no-auth"]
    d.start(months_later(25))
    d.wait_erasure(stuck["id"])
    assert d.get(f"/v1/erasures/{stuck['id']}/certificate").status_code == 200


def test_nothing_goes_unless_it_is_asked_for(make_daemon):
    d = make_daemon()
    d.create(**DIGITS)
    erase_many(d, 0, 100)
    d.stop()
    d.start(months_later(600))
    time.sleep(1.2)
    assert d.get("/v1/audit/0").status_code == 200


def test_less_than_two_years_is_refused(tmp_path):
    r = subprocess.run([str(BIN / "unlearnd"), "--data-dir", str(tmp_path), "--retention-months", "23"],
                       capture_output=True, text=True, timeout=30)
    assert r.returncode != 0 and "at least 24" in r.stderr


def test_a_key_is_known_for_seven_days(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:50])

    def ask():
        return daemon.post("/v1/erasures", {"subjects": ["s4"]}, headers={"Idempotency-Key": "k"})
    first = ask()
    for days, replayed in ((6, True), (8, False)):
        daemon.stop()
        daemon.start(days_later(days))
        again = ask()
        assert again.status_code == 202 and ("Idempotency-Replayed" in again.headers) == replayed, days
        assert (again.json()["id"] == first.json()["id"]) == replayed, days
