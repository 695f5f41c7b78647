# SPDX-License-Identifier: Apache-2.0
"""The log's key is exchanged: announced in the log under the old key's last signature, which whoever
trusts the old key can follow, and nobody else's can be slipped in."""
import base64
import json
import shutil
import subprocess

import pytest
import rfc6962
from conftest import BIN, START_SECONDS, Daemon
from liar import between

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def rotate(data_dir):
    return subprocess.run([str(BIN / "unlearnctl"), "audit", "rotate-key", "--data-dir", str(data_dir)],
                          capture_output=True, text=True, timeout=60)


def signed(note, vkey):
    text, signature, public = rfc6962.signature_of(note, vkey)
    ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    return True


def key(d):
    return d.get("/v1/audit/key").text


@pytest.fixture
def d(daemon):
    daemon.create(name="m", kind="softmax", features=2, classes=2, shards=2, slices=2, epochs=2)
    daemon.load("m", [{"id": f"r{i}", "subject": f"s{i // 2}", "label": str(i % 2), "features": [i % 2, i]}
                      for i in range(40)])
    daemon.train("m")
    daemon.erasure = daemon.erase(subjects=["s3"])["id"]
    return daemon


def exchange(d):
    d.stop()
    r = rotate(d.data_dir)
    assert r.returncode == 0, r.stderr
    assert (d.data_dir / "keys/log.key.old").exists()
    d.start()
    assert not (d.data_dir / "keys/log.key.old").exists()


def test_the_old_key_hands_over_to_the_new_one(d):
    first, before = key(d), d.get("/v1/audit/checkpoint").text
    assert d.ok("GET", "/v1/audit/keys")["items"] == [
        {"vkey": first, "current": True, "announced": None, "entry": None, "handover": None}]
    exchange(d)
    second = key(d)
    assert second != first and second.split("+")[0] == first.split("+")[0]
    old, new = d.ok("GET", "/v1/audit/keys")["items"]
    assert old == {"vkey": first, "current": False, "announced": None, "entry": None, "handover": None}
    assert new["vkey"] == second and new["current"] is True
    entry = d.ok("GET", f"/v1/audit/{new['announced']}")
    assert entry["type"] == "log.key_rotated" and entry["data"] == {"old": first, "new": second}
    assert rfc6962.leaf(new["entry"].encode()).hex() == entry["leaf_hash"]
    assert signed(new["handover"], first) and signed(new["handover"], second)
    assert rfc6962.parse_checkpoint(new["handover"])[1] == new["announced"] + 1
    # what the old key signed goes on to verify, and the log goes on from it
    assert signed(before, first)
    now = rfc6962.check_growth(d, before)
    rfc6962.check_growth(d, new["handover"])
    assert signed(now, second)
    with pytest.raises(AssertionError):
        signed(now, first)
    exchange(d)
    items = d.ok("GET", "/v1/audit/keys")["items"]
    assert [i["vkey"] for i in items] == [first, second, key(d)]
    assert signed(items[2]["handover"], second) and items[1]["handover"] == new["handover"]
    d.restart()
    assert d.ok("GET", "/v1/audit/keys")["items"] == items


def test_verifiers_follow_it(d, tmp_path):
    first = key(d)
    d.ctl("audit", "verify")
    early = tmp_path / "early.json"
    d.ctl("certificate", d.erasure, "-o", early)
    exchange(d)
    exchange(d)
    d.erase(subjects=["s5"])
    state = next((tmp_path / "state/unlearnd").iterdir())
    # the address has another port now: what was remembered of the old one is the same log's
    d.ctl("audit", "verify", "--key", key(d))
    for path in (tmp_path / "state/unlearnd").iterdir():
        path.write_bytes(state.read_bytes())
    r = d.ctl("audit", "verify")
    assert "goes on" in r.stdout and "exchanged: the one that is remembered handed over" in r.stderr
    r = d.ctl("audit", "verify")
    assert "goes on" in r.stdout and r.stderr == ""
    r = d.ctl("audit", "verify", "--key", first)
    assert r.returncode == 0 and "exchanged: the one that --key pins handed over" in r.stderr
    # a certificate is signed with the key of the moment: old files with the old one, new with the new
    late, proof = tmp_path / "late.json", tmp_path / "late.tlog-proof"
    d.ctl("certificate", d.erasure, "-o", late, "--proof", proof)
    verify = ["certificate", "--verify"]
    assert d.ctl(*verify, early, "--key", first).returncode == 0
    assert d.ctl(*verify, late, "--key", key(d), "--proof", proof).returncode == 0
    assert d.ctl(*verify, late, "--key", first, check=False).returncode == 1
    assert json.loads(early.read_text())["payload"] == json.loads(late.read_text())["payload"]


@pytest.fixture
def liar(d):
    with between(d) as server:
        yield server


def in_keys(change):
    def apply(path, text):
        if path != "/v1/audit/keys":
            return text
        doc = json.loads(text)
        change(doc["items"])
        return json.dumps(doc)
    return apply


def wrong_signature(items):
    """One letter of the old key's signature is another."""
    head, ours = items[1]["handover"].split("\u2014 ", 1)
    at = ours.index(" ") + 40
    items[1]["handover"] = head + "\u2014 " + ours[:at] + ("B" if ours[at] == "A" else "A") + ours[at + 1:]


def earlier_tree(items):
    """A handover of another size, which nobody signed."""
    name, size, rest = items[1]["handover"].split("\n", 2)
    items[1]["handover"] = f"{name}\n{int(size) - 1}\n{rest}"


def other_entry(items):
    """The announcement says another key."""
    items[1]["entry"] = items[1]["entry"].replace(items[0]["vkey"], items[1]["vkey"])


def other_data(items):
    """The names hold, the leaf does not."""
    items[1]["entry"] = items[1]["entry"].replace('"time":"20', '"time":"19')


def ctl_of(liar, *args):
    return subprocess.run([str(BIN / "unlearnctl"), "--url", liar.url, *map(str, args)],
                          capture_output=True, text=True, timeout=60)


LIES = {
    "forgotten": (in_keys(lambda items: items.pop(0)), "is not the one that --key pins"),
    "cut": (in_keys(lambda items: items.pop(1)), "the log's last key is not the one that it gives"),
    "forged": (in_keys(wrong_signature), "the last checkpoint of the old key"),
    "another tree": (in_keys(earlier_tree), "the last checkpoint of the old key"),
    "missing": (in_keys(lambda items: items[1].update(handover=None)), "is not in the form of one"),
    "another name": (in_keys(other_entry), "does not announce the new key"),
    "another entry": (in_keys(other_data), "is not in the log that the old key signed last"),
}


@pytest.mark.parametrize("what", LIES)
def test_no_key_is_slipped_in(d, liar, what):
    first = key(d)
    exchange(d)
    verify = ["audit", "verify", "--key", first]
    assert ctl_of(liar, *verify).returncode == 0
    liar.change, says = LIES[what]
    r = ctl_of(liar, *verify)
    assert r.returncode == 1 and says in r.stderr, r.stderr


@pytest.fixture
def rewritten(d, tmp_path, make_daemon):
    """The log once more, under the new key: other entries where the old one signed, and its handover
    from before. d.old: the old key."""
    d.old = key(d)
    d.stop()
    copy = tmp_path / "copy"
    shutil.copytree(d.data_dir, copy)
    d.start()
    d.erase(subjects=["s5"])
    exchange(d)
    handover = d.ok("GET", "/v1/audit/keys")["items"][1]["handover"]
    size = rfc6962.parse_checkpoint(handover)[1]
    shutil.move(copy / "keys/log.key", copy / "keys/log.key.old")
    shutil.copy(d.data_dir / "keys/log.key", copy / "keys/log.key")
    other = make_daemon(data_dir=copy)
    other.erase(subjects=["s7"])
    other.erase(subjects=["s9"])
    other.erasure = d.erasure
    assert key(other) == key(d) and other.ok("GET", "/v1/audit/keys")["items"][0]["vkey"] == d.old
    true = ("/v1/audit/keys", f"/v1/audit/{size - 1}/proof?size={size}")
    with between(other, lambda path, text: d.get(path).text if path in true else text) as server:
        yield server


def test_what_the_old_key_signed_cannot_be_rewritten(d, rewritten, tmp_path):
    """On a machine that never saw the log, the pinned key's last signature is what it is held against."""
    r = ctl_of(rewritten, "audit", "verify", "--key", d.old)
    assert r.returncode == 1 and "The log is whole" not in r.stdout
    assert "that the pinned key handed over: its history was changed" in r.stderr
    assert not (tmp_path / "state/unlearnd").exists()


def test_a_certificate_of_a_rewritten_log_is_refused(d, rewritten, tmp_path):
    never = tmp_path / "never.json"
    certificate = ["certificate", d.erasure, "-o", never]
    r = ctl_of(rewritten, *certificate, "--key", d.old)
    assert r.returncode == 1 and not never.exists()
    assert "checkpoint: the log of the proof does not go on from the one that the pinned key" in r.stderr
    # nor where the log was seen as it was
    assert d.ctl("audit", "verify").returncode == 0
    seen, = (tmp_path / "state/unlearnd").iterdir()
    text = seen.read_bytes()
    ctl_of(rewritten, "audit", "verify")
    for path in (tmp_path / "state/unlearnd").iterdir():
        path.write_bytes(text)
    r = ctl_of(rewritten, *certificate)
    assert r.returncode == 1 and not never.exists() and "from the one seen before" in r.stderr
    r = d.ctl(*certificate, "--key", d.old)
    assert "records this certificate" in r.stdout and never.exists()


def test_nor_where_the_new_key_was_trusted_before(d, rewritten):
    assert ctl_of(rewritten, "audit", "verify").returncode == 0  # on first use
    r = ctl_of(rewritten, "audit", "verify", "--key", d.old)
    assert r.returncode == 1 and "does not go on from the one that the pinned key handed over" in r.stderr


def test_the_pinned_handover_is_remembered_as_what_was_seen(d):
    first = key(d)
    exchange(d)
    size = rfc6962.parse_checkpoint(d.ok("GET", "/v1/audit/keys")["items"][1]["handover"])[1]
    r = d.ctl("audit", "verify", "--key", first)
    assert f"goes on from the {size} entries that the pinned key handed over" in r.stdout
    for again in (["--key", first], []):
        assert "entries seen before" in d.ctl("audit", "verify", *again).stdout


def test_a_log_that_went_back_to_a_key_is_followed_from_where_it_had_it_last(d):
    first, keys = key(d), d.data_dir / "keys"
    seed = (keys / "log.key").read_bytes()
    exchange(d)
    second = key(d)
    d.stop()
    (keys / "log.key").rename(keys / "log.key.old")
    (keys / "log.key").write_bytes(seed)
    d.start()
    d.erase(subjects=["s5"])
    with between(d) as server:
        assert ctl_of(server, "audit", "verify", "--key", first).returncode == 0
        exchange(d)
        assert [i["vkey"] for i in d.ok("GET", "/v1/audit/keys")["items"]] == [first, second, first, key(d)]
        r = ctl_of(server, "audit", "verify")
        assert r.returncode == 0 and "the one that is remembered handed over" in r.stderr, r.stderr
        r = ctl_of(server, "audit", "verify", "--key", first)
        assert r.returncode == 0 and "the one that --key pins handed over" in r.stderr, r.stderr


@pytest.fixture
def older(d, tmp_path, make_daemon):
    """The log as it was before the old key was exchanged, gone on otherwise. d.old: that key."""
    d.old = key(d)
    d.stop()
    shutil.copytree(d.data_dir, tmp_path / "older")
    d.start()
    d.erase(subjects=["s5"])
    d.erase(subjects=["s7"])
    exchange(d)
    other = make_daemon(data_dir=tmp_path / "older")
    assert key(other) == d.old
    return other


@pytest.mark.parametrize("command", ["audit verify", "certificate"])
def test_a_pin_does_not_make_what_was_seen_forgotten(d, older, tmp_path, command):
    """Who goes on to pin the old key, after he saw the log under the new one, is not shown a fork of it
    that the old key signs."""
    command = command.split() + ([d.erasure] if command == "certificate" else [])
    with between(d) as liar:
        assert ctl_of(liar, "audit", "verify", "--key", d.old).returncode == 0
        seen, = (tmp_path / "state/unlearnd").iterdir()
        text = seen.read_bytes()
        liar.daemon = older
        r = ctl_of(liar, *command, "--key", d.old)
        assert r.returncode == 1 and f"If that is right, remove {seen}" in r.stderr, r.stderr
        assert seen.read_bytes() == text and "records this certificate" not in r.stdout
        liar.daemon = d
        assert ctl_of(liar, *command, "--key", d.old).returncode == 0


def test_another_log_at_the_address_is_taken_where_its_key_is_pinned(d, make_daemon):
    with between(d) as server:
        assert ctl_of(server, "audit", "verify").returncode == 0
        server.daemon = make_daemon("--origin", "example.org/another")
        server.daemon.erase(subjects=["nobody"])
        r = ctl_of(server, "audit", "verify")
        assert r.returncode == 1 and "give it with --key" in r.stderr
        r = ctl_of(server, "audit", "verify", "--key", key(server.daemon))
        assert r.returncode == 0 and "seen for the first time" in r.stdout, r.stderr


def test_a_strangers_key_is_not_followed(d, make_daemon):
    exchange(d)
    r = d.ctl("audit", "verify", "--key", key(make_daemon()), check=False)
    assert r.returncode == 1 and "not the one that --key pins" in r.stderr


def test_not_while_a_daemon_serves_and_not_twice(d):
    r = rotate(d.data_dir)
    assert r.returncode == 1 and "stop it first" in r.stderr
    d.stop()
    assert rotate(d.data_dir).returncode == 0
    r = rotate(d.data_dir)
    assert r.returncode == 1 and "waits already" in r.stderr
    (d.data_dir / "keys/log.key").unlink()  # as if it had been cut short
    assert rotate(d.data_dir).returncode == 0
    d.start()
    assert len(d.ok("GET", "/v1/audit/keys")["items"]) == 2
    d.stop()
    shutil.rmtree(d.data_dir / "keys")
    assert rotate(d.data_dir).returncode == 1
    r = subprocess.run([str(BIN / "unlearnctl"), "audit", "rotate-key"], capture_output=True)
    assert r.returncode == 2


def test_a_key_that_nobody_announced_is_refused(d, tmp_path):
    d.stop()
    copy = tmp_path / "copy"
    shutil.copytree(d.data_dir, copy)
    (copy / "keys/log.key").write_bytes(bytes(range(32)))
    for old in (None, bytes(32)):  # and an old one that is not the log's makes no difference
        if old is not None:
            (copy / "keys/log.key.old").write_bytes(old)
        r = subprocess.run([str(BIN / "unlearnd"), "--data-dir", str(copy), "--insecure-no-auth", "--listen",
                            "127.0.0.1:0"], capture_output=True, text=True, timeout=START_SECONDS)
        assert r.returncode == 1 and "log.key is not the key" in r.stderr
        assert (copy / "keys/log.key.old").exists() == (old is not None)


def test_a_backup_from_before_goes_on_with_the_new_key(d, tmp_path):
    """The old key, put beside it, hands over once more."""
    first = key(d)
    d.stop()
    copy = tmp_path / "copy"
    shutil.copytree(d.data_dir, copy)
    d.start()
    exchange(d)
    shutil.move(copy / "keys/log.key", copy / "keys/log.key.old")
    shutil.copy(d.data_dir / "keys/log.key", copy / "keys/log.key")
    other = Daemon(copy)
    try:
        assert key(other) == key(d)
        assert [i["vkey"] for i in other.ok("GET", "/v1/audit/keys")["items"]] == [first, key(d)]
        assert other.ctl("audit", "verify", "--key", first).returncode == 0
    finally:
        other.stop()


def test_keys_that_are_credentials(d, tmp_path):
    """The operator gives both for one start; nothing of them is in the data directory."""
    first = key(d)
    d.stop()
    folder = tmp_path / "credentials"
    shutil.move(d.data_dir / "keys", folder)
    shutil.move(folder / "log.key", folder / "log.key.old")
    (folder / "log.key").write_bytes(bytes(range(32)))
    env = {"CREDENTIALS_DIRECTORY": str(folder)}
    d.start(env)
    assert [i["vkey"] for i in d.ok("GET", "/v1/audit/keys")["items"]] == [first, key(d)]
    d.stop()
    assert (folder / "log.key.old").exists()
    d.start(env)  # still there: nothing happens
    assert len(d.ok("GET", "/v1/audit/keys")["items"]) == 2
    public = base64.b64decode(key(d).split("+", 2)[2])[1:]
    secret = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    assert secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) == public
