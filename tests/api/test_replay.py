# SPDX-License-Identifier: Apache-2.0
"""Replay: an auditor with a copy of a data directory and a certificate trains the constituents again,
without a daemon, and is told of rows that are others, of rows that were changed, and of forgeries."""
import json
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest

from conftest import BIN, DIGITS

CONFIG = {**DIGITS, "epochs": 2}


def verify(data, certificate, *args):
    return subprocess.run([str(BIN / "unlearnctl"), "--url", "http://127.0.0.1:1", "verify", "--data-dir",
                           str(data), "--certificate", str(certificate), *map(str, args)],
                          capture_output=True, text=True, timeout=120)


@pytest.fixture
def case(daemon, digits, tmp_path, monkeypatch):
    """(daemon, certificate, the log's key, a copy of its directory)"""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    daemon.create(**CONFIG)
    daemon.load("digits", digits[:400])
    daemon.train("digits")
    e = daemon.erase(subjects=["s3", "s40"])
    certificate = tmp_path / "certificate.json"
    daemon.ctl("certificate", e["id"], "-o", certificate)
    daemon.shards = sorted(a["shard"] for a in e["affected"])
    copy = tmp_path / "copy"
    shutil.copytree(daemon.data_dir, copy)
    return daemon, certificate, daemon.get("/v1/audit/key").text, copy


def test_the_rows_make_the_bytes_that_the_certificate_names(case):
    d, certificate, key, copy = case
    d.stop()
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    r = verify(copy, certificate, "--key", key)
    assert r.returncode == 0, r.stderr
    assert r.stderr == ""
    said = json.loads(subprocess.run(
        [str(BIN / "unlearnctl"), "--json", "verify", "digits", "--data-dir", str(copy), "--certificate",
         str(certificate), "--key", key], capture_output=True, text=True, check=True).stdout)["constituents"]
    assert sorted(c["shard"] for c in said) == d.shards
    for c in said:
        assert c["identical"] and c["certificate_hash"] == c["rebuilt_hash"]
        assert c["rebuilt_hash"] in r.stdout
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == before, "it wrote into the copy"


def test_one_shard_and_none(case):
    d, certificate, key, copy = case
    r = verify(copy, certificate, "--shard", d.shards[0])
    assert r.returncode == 0 and "who signed" in r.stderr
    assert len(r.stdout.splitlines()) == 2
    for s in (200, *(s for s in range(4) if s not in d.shards)):
        r = verify(copy, certificate, "--key", key, "--shard", s)
        assert r.returncode == 1 and "names no such constituent" in r.stderr


def test_a_shards_folder_and_the_configuration_are_enough(case, tmp_path):
    d, certificate, key, copy = case
    shard = d.shards[0]
    few = tmp_path / "few"
    (few / "models/digits").mkdir(parents=True)
    shutil.copytree(copy / f"models/digits/shard-{shard:03}", few / f"models/digits/shard-{shard:03}")
    for path in (few / "models/digits").rglob("*.ckpt"):
        path.unlink()
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    args = ["--key", key, "--shard", shard, "--pseudonym-key", copy / "keys/pseudonym.key", "--config", config]
    r = verify(few, certificate, *args)
    assert r.returncode == 0, r.stderr
    config.write_text(json.dumps({**CONFIG, "epochs": 3}))
    r = verify(few, certificate, *args)
    assert r.returncode == 1 and "not the configuration that the certificate names" in r.stderr


def test_what_changed_since_is_said_and_not_compared(case):
    d, certificate, key, copy = case
    i = 0
    while True:  # somebody else of the same shard
        i += 1
        r = d.get(f"/v1/models/digits/records/r{5 * i}")
        if r.status_code == 200 and r.json()["shard"] == d.shards[0]:
            break
    d.erase(subjects=[f"s{i}"])
    r = verify(d.data_dir, certificate, "--key", key, "--shard", d.shards[0])
    assert r.returncode == 1 and "does not hold the records that the certificate commits to" in r.stderr
    assert r.stdout == ""


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def change_row(copy, shard, reseal):
    """One feature of the first row of the shard that is not erased."""
    for path in sorted((copy / f"models/digits/shard-{shard:03}").glob("*.rows")):
        data = bytearray(path.read_bytes())
        width = struct.unpack_from("<I", data, 24)[0]
        for at in range(64, len(data), width):
            row = data[at:at + width]
            if not any(row[:16]):
                continue
            row[24 + 30] ^= 4
            if reseal:
                row[16:20] = bytes(4)
                row[16:20] = struct.pack("<I", crc32c(bytes(row)))
            data[at:at + width] = row
            path.write_bytes(data)
            return
    raise AssertionError("no row")


def test_a_row_that_was_changed_makes_other_bytes(case):
    d, certificate, key, copy = case
    change_row(copy, d.shards[0], reseal=True)
    r = verify(copy, certificate, "--key", key, "--shard", d.shards[0])
    assert r.returncode == 1 and "not the bytes that the certificate names" in r.stderr, r.stderr
    assert r.stdout.splitlines()[1].split()[2] == "no"


def test_a_damaged_row_is_told(case):
    d, certificate, key, copy = case
    change_row(copy, d.shards[0], reseal=False)
    r = verify(copy, certificate, "--key", key, "--shard", d.shards[0])
    assert r.returncode == 1 and "damaged" in r.stderr


def test_a_forged_certificate_another_key_and_no_key(case, make_daemon):
    d, certificate, key, copy = case
    r = verify(copy, certificate, "--key", make_daemon().get("/v1/audit/key").text)
    assert r.returncode == 1 and "error: signature: " in r.stderr
    (copy / "keys/pseudonym.key").write_bytes(bytes(32))
    r = verify(copy, certificate, "--key", key)
    assert r.returncode == 1 and "not the bytes" in r.stderr
    (copy / "keys/pseudonym.key").unlink()
    r = verify(copy, certificate, "--key", key)
    assert r.returncode == 1 and "--pseudonym-key" in r.stderr


def interruptible():
    """A test run in the background of a shell has the signal ignored, and would hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_replay_leaves_nothing(case, tmp_path):
    """The worker that stands in writes into its scratch folder and waits; Ctrl-C ends both."""
    d, certificate, key, copy = case
    worker = tmp_path / "worker"
    # a program that says so itself: a shell may take the signal between two of its own
    worker.write_text('#!/usr/bin/python3\nimport os, signal, sys, time\n'
                      'signal.signal(signal.SIGINT, signal.SIG_DFL)\n'
                      'open(os.path.dirname(sys.argv[1]) + "/begun", "x").close()\ntime.sleep(60)\n')
    worker.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    p = subprocess.Popen([str(BIN / "unlearnctl"), "verify", "--data-dir", str(copy), "--certificate", str(certificate),
                          "--key", key, "--worker", str(worker)], env={**os.environ, "TMPDIR": str(scratch)},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                         preexec_fn=interruptible)
    end = time.monotonic() + 30
    while not list(scratch.glob("*/begun")):
        assert time.monotonic() < end and p.poll() is None
        time.sleep(0.01)
    job = next(scratch.glob("*/job.json"))
    assert job.stat().st_mode & 0o777 == 0o600 and job.parent.stat().st_mode & 0o777 == 0o700
    os.killpg(p.pid, signal.SIGINT)
    assert p.wait(30) == -signal.SIGINT
    assert not list(scratch.iterdir())


def test_usage(case, tmp_path):
    d, certificate, key, copy = case
    assert d.ctl("verify", check=False).returncode == 2
    assert d.ctl("verify", "--certificate", certificate, check=False).returncode == 2
    assert d.ctl("verify", "digits", "--worker", "x", check=False).returncode == 2
    assert verify(copy, certificate, "--shard", "x").returncode == 2
    r = verify(copy, certificate, "--worker", tmp_path / "none")
    assert r.returncode == 1 and "no worker program" in r.stderr
    assert verify(tmp_path / "none", certificate).returncode == 1
