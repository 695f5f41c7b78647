# SPDX-License-Identifier: Apache-2.0
"""What unlearnctl says of certificates and logs: what holds, offline too, and of every lie the check
that finds it."""
import base64
import hashlib
import json
import subprocess

import pytest

from conftest import BIN
from liar import between


def ctl(*args, **kw):
    return subprocess.run([str(BIN / "unlearnctl"), "--url", "http://127.0.0.1:1", *map(str, args)],
                          capture_output=True, text=True, timeout=60, **kw)


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def d(daemon):
    daemon.create(name="m", kind="softmax", features=2, classes=2, shards=2, slices=2, epochs=2)
    daemon.load("m", [{"id": f"r{i}", "subject": f"s{i // 2}", "label": str(i % 2), "features": [i % 2, i]}
                      for i in range(40)])
    daemon.train("m")
    daemon.erasure = daemon.erase(subjects=["s3"], reference="DSR-1", regulation="ccpa")
    return daemon


@pytest.fixture
def files(d, tmp_path):
    """certificate, proof, page, and the key"""
    paths = [tmp_path / n for n in ("c.json", "c.tlog-proof", "c.html")]
    r = d.ctl("certificate", d.erasure["id"], "-o", paths[0], "--proof", paths[1], "--html", paths[2])
    key = d.get("/v1/audit/key").text
    for said in (d.erasure["id"], "DSR-1", "ccpa", "exact", "good, by " + key, "records this certificate"):
        assert said in r.stdout
    return *paths, key


def test_what_is_fetched_is_what_is_served(d, files):
    certificate, proof, page, _ = files
    path = f"/v1/erasures/{d.erasure['id']}"
    assert certificate.read_bytes() == d.get(path + "/certificate").content
    assert proof.read_bytes() == d.get(path + "/proof").content
    assert page.read_bytes() == d.get(path + "/certificate", headers={"Accept": "text/html"}).content
    assert d.ctl("--json", "certificate", d.erasure["id"]).stdout.encode().rstrip() == certificate.read_bytes()


def test_a_page_that_a_daemon_made_up_is_not_written(d, tmp_path):
    def change(path, text):
        return "<!doctype html><h1>All 5000 records were erased</h1>" if text.startswith("<!") else text

    page = tmp_path / "page.html"
    with between(d, change) as liar:
        r = ctl("--url", liar.url, "certificate", d.erasure["id"], "--html", page)
    assert r.returncode == 0, r.stderr
    assert "5000" not in page.read_text() and "2 records were erased" in page.read_text()


def test_a_proof_is_not_withheld_as_pruned(d, tmp_path):
    never = tmp_path / "never"
    with between(d, lambda path, text: (410, "{}") if path.endswith("/proof") else text) as liar:
        for options in ([], ["--json"]):
            r = ctl("--url", liar.url, *options, "certificate", d.erasure["id"], "-o", never)
            assert r.returncode == 1 and "the proof is withheld" in r.stderr and not never.exists(), r.stderr
            assert r.stdout == ""


def test_an_id_may_be_written_in_lower_case(d, tmp_path):
    out = tmp_path / "c.json"
    said = json.loads(d.ctl("--json", "certificate", d.erasure["id"].lower(), "-o", out).stdout)
    assert said["proof_checked"] is True and said["erasure"] == d.erasure["id"] and out.exists()


def test_it_is_checked_without_any_daemon(d, files):
    certificate, proof, _, key = files
    d.stop()
    r = ctl("certificate", "--verify", certificate, "--key", key, "--proof", proof)
    assert r.returncode == 0 and "records this certificate" in r.stdout, r.stderr
    r = ctl("certificate", "--verify", certificate, "--key", key)
    assert r.returncode == 0 and "was not checked" in r.stdout
    said = json.loads(ctl("--json", "certificate", "--verify", certificate, "--key", key).stdout)
    assert said["proof_checked"] is False and said["log_size"] is None
    said = json.loads(ctl("--json", "certificate", "--verify", certificate, "--key", key, "--proof", proof).stdout)
    assert said["verified"] is True and said["erasure"] == d.erasure["id"] == said["predicate"]["erasure"]
    assert said["proof_checked"] is True and said["log_index"] < said["log_size"] and said["key"] == key


def forge_payload(text):
    """matched: 2 becomes 3, under the old signature."""
    doc = json.loads(text)
    payload = base64.b64decode(doc["payload"])
    assert b'"matched":2' in payload
    doc["payload"] = base64.b64encode(payload.replace(b'"matched":2', b'"matched":3')).decode()
    return json.dumps(doc)


def forge_entry(text):
    """The proof's entry becomes another, under the old hashes."""
    lines = text.split("\n")
    entry = base64.b64decode(lines[1][6:]).replace(b'"matched":2', b'"matched":3')
    lines[1] = "extra " + base64.b64encode(entry).decode()
    return "\n".join(lines)


def forge_size(text):
    head, note = text.split("\n\n", 1)
    name, size, rest = note.split("\n", 2)
    return f"{head}\n\n{name}\n{int(size) + 1}\n{rest}"


LIES = [("certificate", forge_payload, "signature"),
        ("certificate", lambda t: t[:-1], "signature"),
        ("certificate", lambda t: t.replace("application/vnd.in-toto+json", "text/plain"), "signature"),
        ("proof", forge_entry, "inclusion"),
        ("proof", forge_size, "checkpoint"),
        ("proof", lambda t: t.replace("\u2014 ", "- "), "checkpoint")]


@pytest.mark.parametrize("what,forge,check", LIES)
def test_a_forged_file_is_refused_and_the_check_named(files, what, forge, check):
    certificate, proof, _, key = files
    path = certificate if what == "certificate" else proof
    text = path.read_text()
    forged = forge(text)
    assert forged != text
    path.write_text(forged)
    r = ctl("certificate", "--verify", certificate, "--key", key, "--proof", proof)
    assert r.returncode == 1 and f"error: {check}: " in r.stderr, r.stderr
    assert r.stdout == ""


def test_another_erasures_proof_and_another_logs_key_are_refused(d, files, make_daemon, tmp_path):
    certificate, proof, _, key = files
    other = d.erase(subjects=["s5"])
    d.ctl("certificate", other["id"], "--proof", proof)
    r = ctl("certificate", "--verify", certificate, "--key", key, "--proof", proof)
    assert r.returncode == 1 and "error: entry: the proof is of another entry" in r.stderr
    stranger = make_daemon().get("/v1/audit/key").text
    r = ctl("certificate", "--verify", certificate, "--key", stranger)
    assert r.returncode == 1 and "error: signature: " in r.stderr
    r = d.ctl("certificate", d.erasure["id"], "--key", stranger, "-o", tmp_path / "never", check=False)
    assert r.returncode == 1 and not (tmp_path / "never").exists()


def test_what_cannot_be_is_told(d, tmp_path):
    r = d.ctl("certificate", "01M8854P3FMPWKZ3V5DDT2W63G", check=False)
    assert r.returncode == 1 and "no erasure of this id" in r.stderr
    for args in ([], ["X", "--verify", "f"], ["--verify", "f"], ["--verify", "f", "--key", "nonsense"],
                 ["--verify", "f", "--key", "k", "-o", "x"]):
        assert d.ctl("certificate", *args, check=False).returncode == 2, args
    r = d.ctl("certificate", "--verify", tmp_path / "absent", "--key", d.get("/v1/audit/key").text, check=False)
    assert r.returncode == 1


# --- a log as files ------------------------------------------------------------------------------

@pytest.fixture
def export(d, tmp_path):
    log, checkpoint = tmp_path / "log.ndjson", tmp_path / "log.checkpoint"
    d.ctl("audit", "--export", "ndjson", "-o", log, "--checkpoint", checkpoint)
    return log, checkpoint, d.get("/v1/audit/key").text


def offline(log, checkpoint, key, **kw):
    return ctl("audit", "verify", "--offline", log, "--checkpoint", checkpoint, "--key", key, **kw)


def test_an_export_is_checked_without_any_daemon(d, export):
    log, checkpoint, key = export
    d.stop()
    r = offline(*export)
    assert r.returncode == 0 and "The log is whole." in r.stdout, r.stderr
    r = subprocess.run([str(BIN / "unlearnctl"), "--json", "audit", "verify", "--offline", "-", "--checkpoint",
                        str(checkpoint), "--key", key], input=log.read_text(), capture_output=True, text=True)
    said = json.loads(r.stdout)
    assert said["verified"] is True and said["entries"] == len(log.read_text().splitlines())


def swap(lines):
    lines[2], lines[3] = lines[3], lines[2]


def alter(lines):
    lines[4] = lines[4].replace('"actor":"', '"actor":"x', 1)


def alter_with_its_hash(lines):
    lines[4] = lines[4].replace('"actor":"', '"actor":"x', 1)
    entry = lines[4][:lines[4].rindex(',"leaf_hash"')] + "}"
    lines[4] = entry[:-1] + f',"leaf_hash":"{hashlib.sha256(bytes(1) + entry.encode()).hexdigest()}"}}'


CUTS = [("an entry changed", alter, "entry 4 is not what was hashed"),
        ("an entry changed with its hash", alter_with_its_hash, "do not make the root that is signed"),
        ("an entry dropped", lambda x: x.pop(3), "entry 3 is missing"),
        ("the end cut off", lambda x: x.pop(), "entries, its checkpoint says"),
        ("two exchanged", swap, "entry 2 is missing or out of order"),
        ("no entry", lambda x: x.insert(0, "{}"), "entry 0 is not in the form")]


@pytest.mark.parametrize("what,change,says", CUTS, ids=[c[0] for c in CUTS])
def test_a_changed_export_is_refused_and_the_place_named(export, what, change, says):
    log = export[0]
    lines = log.read_text().splitlines()
    change(lines)
    log.write_text("\n".join(lines) + "\n")
    r = offline(*export)
    assert r.returncode == 1 and says in r.stderr, r.stderr


def test_of_two_verifications_at_once_the_larger_log_is_remembered(d, tmp_path):
    """One of them reads the entries while the other begins and ends."""
    sizes = []

    def verify():
        r = ctl("--url", liar.url, "--json", "audit", "verify")
        assert r.returncode == 0, r.stderr
        return json.loads(r.stdout)["size"]

    def change(path, text):
        if path == "/v1/audit" and not sizes:
            sizes.append(0)
            d.erase(subjects=["s7"])
            sizes[0] = verify()
        return text

    with between(d, change) as liar:
        assert verify() < sizes[0]
        seen, = (tmp_path / "state/unlearnd").iterdir()
        assert int(seen.read_text().split("\n")[2]) == sizes[0]


def forged_entry(index):
    """One that nobody signed, with the hash of its own bytes."""
    entry = (f'{{"v":1,"index":{index},"time":"2026-01-01T00:00:00.000Z","type":"erasure.completed",'
             '"actor":"unlearnd","data":{}}')
    return entry[:-1] + f',"leaf_hash":"{hashlib.sha256(bytes(1) + entry.encode()).hexdigest()}"}}\n'


def check_not_covered(verify, size, tail):
    """What is said of a log of `size` signed entries, and how many more."""
    r = verify()
    assert r.returncode == 0 and f"entries      {size}, every one hashed again" in r.stdout, r.stdout + r.stderr
    assert f"not covered  {tail} after the checkpoint: nothing vouches for them" in r.stdout
    assert "The log is whole." not in r.stdout and "The log is whole as far as the checkpoint." in r.stdout
    said = json.loads(verify("--json").stdout)
    assert (said["entries"], said["size"], said["not_covered"]) == (size, size, tail)


def test_entries_after_the_checkpoint_are_not_counted_as_verified(d, export):
    """An export may have more than its checkpoint covers, and anybody could have written that."""
    log, checkpoint, key = export
    command = ["audit", "verify", "--offline", log, "--checkpoint", checkpoint, "--key", key]
    size = len(log.read_text().splitlines())
    r = ctl(*command)
    assert f"entries      {size}," in r.stdout and "not covered" not in r.stdout
    assert json.loads(ctl("--json", *command).stdout)["not_covered"] == 0
    with log.open("a") as f:
        f.write(forged_entry(size) + forged_entry(size + 1))
    check_not_covered(lambda *options: ctl(*options, *command), size, 2)


def test_nor_are_those_that_a_daemon_has_not_signed(d):
    size = len(d.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).text.splitlines())
    with between(d, lambda path, text: text + forged_entry(size) if path == "/v1/audit" else text) as liar:
        check_not_covered(lambda *options: ctl("--url", liar.url, *options, "audit", "verify"), size, 1)


def test_a_forked_log_is_refused(d, export, make_daemon, tmp_path):
    """A log with the same name and another history, under the key of the first."""
    log, checkpoint, key = export
    other = make_daemon(key_of=d)
    other.create(name="other", kind="softmax", features=2, classes=2)
    other.ctl("audit", "--export", "ndjson", "-o", tmp_path / "fork")
    r = offline(tmp_path / "fork", checkpoint, key)
    assert r.returncode == 1 and "its checkpoint says" in r.stderr
    r = offline(log, checkpoint, other.get("/v1/audit/key").text)
    assert r.returncode == 1 and "the checkpoint: " in r.stderr


def test_usage_of_offline(d, export):
    log, checkpoint, key = export
    assert ctl("audit", "verify", "--offline", log).returncode == 2
    assert ctl("audit", "verify", "--checkpoint", checkpoint).returncode == 2
    assert ctl("audit", "verify", "--offline", log, "--checkpoint", checkpoint, "--key", "x").returncode == 2
    assert d.ctl("audit", "--checkpoint", "x", check=False).returncode == 2
    assert offline(log.parent / "absent", checkpoint, key).returncode == 1
