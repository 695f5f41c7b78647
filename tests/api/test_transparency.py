# SPDX-License-Identifier: Apache-2.0
"""Invariant 6 before a stranger: the log's tiles (C2SP tlog-tiles), and a verifier in another language
that shares no code with ours and trusts only the key (tests/verifier, golang.org/x/mod/sumdb)."""
import base64
import hashlib
import json
import os
import shutil
import struct
import subprocess
import time

import pytest
from conftest import DIGITS, ROOT
from witness import Witness

GOPATH = "/usr/share/gocode"  # where Debian keeps Go libraries


@pytest.fixture(scope="session")
def verifier(tmp_path_factory):
    if shutil.which("go") is None or not os.path.isdir(f"{GOPATH}/src/golang.org/x/mod/sumdb"):
        pytest.skip("Go and golang-golang-x-mod-dev are not installed")
    folder = tmp_path_factory.mktemp("verifier")
    program = folder / "verifier"
    subprocess.run(["go", "build", "-o", str(program), *map(str, sorted((ROOT / "tests/verifier").glob("*.go")))],
                   check=True, cwd=folder,
                   env={**os.environ, "GO111MODULE": "off", "GOPATH": GOPATH,
                        "GOCACHE": str(folder / "cache"), "GOFLAGS": "-trimpath"})

    def run(copy, vkey, *args):
        where = ["-dir", str(copy)] if copy is not None else ["-certificates"]
        r = subprocess.run([str(program), *where, "-vkey", vkey, *map(str, args)],
                           capture_output=True, text=True, timeout=300)
        return r.returncode, r.stdout.strip()

    return run


@pytest.fixture
def log(daemon, digits):
    """A daemon whose log has some 700 entries."""
    daemon.create(**{**DIGITS, "epochs": 1})
    daemon.load("digits", digits[:400])
    daemon.train("digits")
    lines = "".join(f'{{"subjects": ["nobody-{i}"]}}\n' for i in range(300))
    r = daemon.request("POST", "/v1/erasures:batch", data=lines,
                       headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200
    daemon.erase(subjects=["s3"])
    return daemon


def checkpoint(daemon):
    name, size, root = daemon.get("/v1/audit/checkpoint").text.split("\n")[:3]
    return int(size), root


def tile(daemon, path):
    return daemon.get(f"/v1/audit/tile/{path}")


def test_hash_tiles_are_the_hashes_of_the_entry_tiles(log):
    size, _ = checkpoint(log)
    full, rest = divmod(size, 256)
    assert full >= 2 and rest > 0
    for n in range(full + 1):
        path = f"{n:03}" if n < full else f"{n:03}.p/{rest}"
        entries, hashes = tile(log, f"entries/{path}"), tile(log, f"0/{path}")
        assert entries.status_code == hashes.status_code == 200
        assert hashes.headers["Content-Type"] == "application/octet-stream"
        kept = "immutable" in hashes.headers["Cache-Control"]
        assert kept == (n < full), "only full tiles may be kept"
        at = 0
        for i in range(len(hashes.content) // 32):
            length = struct.unpack_from(">H", entries.content, at)[0]
            entry = entries.content[at + 2:at + 2 + length]
            assert hashlib.sha256(b"\0" + entry).digest() == hashes.content[32 * i:32 * i + 32]
            at += 2 + length
        assert at == len(entries.content)


def test_what_is_no_tile_or_not_there_yet_is_told_apart(log):
    size, _ = checkpoint(log)
    absent = [f"0/{size // 256:03}", "0/x999/999", "7/000.p/1", f"entries/{size // 256 + 1:03}.p/1"]
    for path in absent:
        assert tile(log, path).status_code == 404, path
    for path in ["0/0", "8/000", "0/000.p/0", "0/000.p/256", "0/x000/001", "data/000", "0/000%2Fx"]:
        r = tile(log, path)
        assert r.status_code == 400, path
        assert "x001/x234/067" in r.json()["detail"]


def tile_paths(size):
    """Every tile of a log of that size, as C2SP tlog-tiles names them."""
    paths, nodes, level = [], size, 0
    while nodes > 0:
        for n in range((nodes + 255) // 256):
            groups = [f"{n // 1000 ** k % 1000:03}" for k in range(len(str(n // 1000)) // 3 + 1)
                      if k == 0 or n >= 1000 ** k]
            name = "/".join("x" + g for g in groups[:0:-1]) + ("/" if len(groups) > 1 else "")
            width = min(256, nodes - 256 * n)
            name += groups[0] + ("" if width == 256 else f".p/{width}")
            paths += [f"{level}/{name}"] + ([f"entries/{name}"] if level == 0 else [])
        nodes, level = nodes // 256, level + 1
    return paths


def copy_log(daemon, folder, every=1, old_size=0):
    """What an auditor takes home. Returns the log's size and root."""
    size, root = checkpoint(daemon)
    wanted = ["checkpoint"] + [f"tile/{p}" for p in tile_paths(size)]
    wanted += [f"{i}/proof?size={size}" for i in range(0, size, every)]
    if old_size:
        wanted.append(f"consistency?from={old_size}&to={size}")
    for path in wanted:
        r = daemon.get(f"/v1/audit/{path}")
        assert r.status_code == 200, f"{path}: {r.text}"
        file = folder / path.split("?")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(r.content)
    return size, root


def test_an_independent_verifier_agrees_with_every_entry(log, verifier, tmp_path):
    old_size, old_root = checkpoint(log)
    log.erase(subjects=["s9"])
    size, root = copy_log(log, tmp_path, old_size=old_size)
    assert size > old_size > 600
    code, said = verifier(tmp_path, log.get("/v1/audit/key").text,
                          "-old-size", str(old_size), "-old-root", old_root)
    assert code == 0, said
    assert f"ok: {size} entries make the signed root {root}; {size} inclusion proofs" in said


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def forge_root(copy):
    lines = (copy / "checkpoint").read_text().split("\n")
    lines[2] = lines[2][:3] + ("A" if lines[2][3] != "A" else "B") + lines[2][4:]
    (copy / "checkpoint").write_text("\n".join(lines))


def drop_an_entry(copy):
    """The first of a tile; what is left is well formed."""
    path = copy / "tile" / "entries" / "001"
    data = path.read_bytes()
    path.write_bytes(data[2 + struct.unpack_from(">H", data)[0]:])


def exchange_proofs(copy):
    a, b = copy / "0" / "proof", copy / "20" / "proof"
    text = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(text)


LIES = {
    "an entry": (lambda c: flip(c / "tile" / "entries" / "001", 40), "entry 256 is not the one"),
    "an entry less": (drop_an_entry, "not the one|cut short"),
    "a leaf hash": (lambda c: flip(c / "tile" / "0" / "001", 70), "entry 258 is not|hash tiles"),
    "an inner hash": (lambda c: flip(next((c / "tile" / "1").rglob("*.p/*")), 3), "hash tiles"),
    "a proof": (exchange_proofs, "inclusion proof of entry 0"),
    "the root": (forge_root, "checkpoint"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_copy_that_was_changed_is_caught(log, verifier, tmp_path, what):
    change, says = LIES[what]
    key = log.get("/v1/audit/key").text
    copy_log(log, tmp_path, every=20)
    assert verifier(tmp_path, key, "-every", "20")[0] == 0
    change(tmp_path)
    code, said = verifier(tmp_path, key, "-every", "20")
    assert code == 1
    assert any(word in said for word in says.split("|")), said


def test_a_forked_log_and_another_key_are_caught(log, make_daemon, verifier, tmp_path):
    size, root = checkpoint(log)
    other = make_daemon(key_of=log)
    lines = "".join(f'{{"subjects": ["else-{i}"]}}\n' for i in range(size))
    other.request("POST", "/v1/erasures:batch", data=lines,
                  headers={"Content-Type": "application/x-ndjson"})
    copy_log(other, tmp_path, every=100, old_size=size)
    key = other.get("/v1/audit/key").text
    assert verifier(tmp_path, key, "-every", "100")[0] == 0
    code, said = verifier(tmp_path, key, "-every", "100", "-old-size", str(size), "-old-root", root)
    assert code == 1 and "consistency" in said
    code, said = verifier(tmp_path, log.get("/v1/audit/key").text)
    assert code == 1 and "checkpoint" in said


# --- witnesses -----------------------------------------------------------------------------------

def forge_cosignature(path):
    """The last line's signature, not its name and key id."""
    head, value = path.read_text().rstrip("\n").rsplit(" ", 1)
    raw = bytearray(base64.b64decode(value))
    raw[40] ^= 1
    path.write_text(f"{head} {base64.b64encode(raw).decode()}\n")


def test_a_cosigned_checkpoint_is_checked_without_our_code(make_daemon, verifier, tmp_path):
    w, copy = Witness(tmp_path / "w", "witness.example/w1"), tmp_path / "copy"
    copy.mkdir()
    config = tmp_path / "unlearnd.conf"
    config.write_text(w.section("one"))
    d = make_daemon("-c", str(config), "--witness-interval-ms", "50", "--allow-networks", "127.0.0.0/8")
    key = d.get("/v1/audit/key").text
    w.trust(key)
    d.erase(subjects=["nobody"])
    end = time.monotonic() + 20
    while d.get("/v1/audit/checkpoint?cosigned=true").status_code != 200:
        assert time.monotonic() < end, "nothing was cosigned"
        time.sleep(0.05)
    (copy / "cosigned").write_text(d.get("/v1/audit/checkpoint?cosigned=true").text)
    d.erase(subjects=["somebody else"])
    copy_log(d, copy)
    code, said = verifier(copy, key, "-witness", w.vkey())
    assert code == 0 and "entries by witness.example/w1 at" in said, said
    stranger = Witness(tmp_path / "v", "witness.example/w1")
    code, said = verifier(copy, key, "-witness", w.vkey(), "-witness", stranger.vkey())
    assert code == 1 and "has not cosigned it" in said
    forge_cosignature(copy / "cosigned")
    code, said = verifier(copy, key, "-witness", w.vkey())
    assert code == 1 and "cosigned checkpoint: the cosignature of witness.example/w1 does not verify" in said
    w.close(), stranger.close()


# --- certificates --------------------------------------------------------------------------------

def take_certificates(daemon, folder, ids):
    """[certificate, proof, ...] as files."""
    files = []
    for i in ids:
        for what in ("certificate", "proof"):
            files.append(folder / f"{i}.{what}")
            r = daemon.get(f"/v1/erasures/{i}/{what}")
            assert r.status_code == 200, r.text
            files[-1].write_bytes(r.content)
    return files


@pytest.fixture
def certified(log, tmp_path):
    """(daemon, key, [certificate, proof]) of an erasure that retrained a shard, under a longer log."""
    e = log.erase(subjects=["s9", "s50"])
    log.erase(subjects=["s11"])
    return log, log.get("/v1/audit/key").text, take_certificates(log, tmp_path, [e["id"]])


def test_an_independent_verifier_agrees_with_every_certificate(log, verifier, tmp_path):
    """Of people who were held and of three hundred who were not."""
    items = log.ok("GET", "/v1/erasures?limit=1000&state=completed")["items"]
    assert len(items) == 301
    files = take_certificates(log, tmp_path, [e["id"] for e in items])
    code, said = verifier(None, log.get("/v1/audit/key").text, *files)
    assert code == 0, said
    assert said.count("records the certificate") == 301


def forge(path, change):
    """The signed statement says something else, under the signature that it has."""
    envelope = json.loads(path.read_text())
    payload = base64.b64decode(envelope["payload"])
    forged = change(payload)
    assert forged != payload
    envelope["payload"] = base64.b64encode(forged).decode()
    path.write_text(json.dumps(envelope))


def change_entry(path):
    lines = path.read_text().split("\n")
    entry = base64.b64decode(lines[1][6:])
    lines[1] = "extra " + base64.b64encode(entry.replace(b'"matched":10', b'"matched":11')).decode()
    assert b'"matched":10' in entry
    path.write_text("\n".join(lines))


def change_line(number, text):
    def change(path):
        lines = path.read_text().split("\n")
        assert lines[number] != text
        lines[number] = text
        path.write_text("\n".join(lines))
    return change


FORGERIES = {
    "fewer checkpoints": (0, lambda p: forge(p, lambda s: s.replace(
        b'"checkpoints_destroyed":{"count":', b'"checkpoints_destroyed":{"count":9')), "signature: "),
    "an earlier time": (0, lambda p: forge(p, lambda s: s.replace(b'"completed_at":"20', b'"completed_at":"19')),
                        "signature: "),
    "an entry": (1, change_entry, "inclusion: "),
    "an index": (1, change_line(2, "index 3"), "inclusion: "),
    "a hash": (1, change_line(3, "A" * 43 + "="), "inclusion: "),
    "a tree": (1, lambda p: p.write_text(p.read_text().replace("\n\n", "\n\nx", 1)), "checkpoint: "),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_certificate_or_proof_is_caught_by_its_check(certified, verifier, what):
    _, key, files = certified
    which, change, check = FORGERIES[what]
    assert verifier(None, key, *files)[0] == 0
    change(files[which])
    code, said = verifier(None, key, *files)
    assert code == 1 and check in said, said


def test_a_certificate_under_another_proof_or_key_is_caught(certified, verifier, make_daemon, tmp_path):
    log, key, files = certified
    (tmp_path / "other").mkdir()
    other = take_certificates(log, tmp_path / "other", [log.erase(subjects=["s13"])["id"]])
    code, said = verifier(None, key, files[0], other[1])
    assert code == 1 and "entry: it is another one than the certificate names" in said
    code, said = verifier(None, make_daemon().get("/v1/audit/key").text, *files)
    assert code == 1 and "signature: " in said
