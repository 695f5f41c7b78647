# SPDX-License-Identifier: Apache-2.0
"""Backups are taken while people are erased, and put back: nobody who was erased after one is held or
served again, whatever is killed on the way. Moments are random where they are moments; the seed is
printed, and UNLEARND_CRASH_SEED repeats it."""
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from conftest import BIN
from conftest import DIGITS as FULL
from faults import SYNC, THREAD, Faults
from figures import figure
from rfc6962 import check_growth
from small_disk import small_disk  # noqa: F401 (a fixture)

SEED = int(os.environ.get("UNLEARND_CRASH_SEED", random.SystemRandom().randrange(1 << 32)))
DIGITS = {**FULL, "epochs": 2}
# for sanitizers that have no room for the default terabyte of addresses
MAP = ["--map-bytes", os.environ["UNLEARND_MAP_BYTES"]] if "UNLEARND_MAP_BYTES" in os.environ else []
FAST = ["--gather-window-ms", "0", "--retry-first-ms", "50"]


@pytest.fixture
def dice(request):
    print(f"UNLEARND_CRASH_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def world(make_daemon, digits, tmp_path):
    """A trained model, a ledger in a second place, a place for backups."""
    d = make_daemon(*FAST, *MAP, "--ledger-dir", str(tmp_path / "ledger"),
                    "--backup-dir", str(tmp_path / "backups"), data_dir=str(tmp_path / "data"))
    d.create(**DIGITS)
    d.load("digits", digits)
    d.train("digits")
    return d, tmp_path


def restore(backup, data, *more, check=True, env=None):
    r = subprocess.run([str(BIN / "unlearnctl"), "restore", str(backup), "--data-dir", str(data),
                        *map(str, more)], capture_output=True, text=True, timeout=120,
                       env={**os.environ, **(env or {})})
    if check:
        assert r.returncode == 0, r.stdout + r.stderr
    return r


def lose_and_restore(d, tmp, name, *more):
    """The data directory is gone, but for a copy of its keys."""
    keys = tmp / "keys"
    if not keys.exists():
        shutil.copytree(d.data_dir / "keys", keys)
    shutil.rmtree(d.data_dir)
    d.data_dir.mkdir()
    shutil.copytree(keys, d.data_dir / "keys")
    return restore(tmp / "backups" / name, d.data_dir, *more)


def held(d, record, model="digits"):
    status = d.get(f"/v1/models/{model}/records/{record['id']}").status_code
    assert status in (200, 404)
    return status == 200


def traces(folder, records):
    """The records whose row bytes stand in some file below the folder (all rows differ)."""
    found = set()
    wanted = [(r["id"], bytes(r["features"])) for r in records]
    for path in Path(folder).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found |= {i for i, row in wanted if row in content}
    return found


class Load:
    """Uploads to a model of its own, erasures of the people given, and predictions, until it ends."""

    def __init__(self, d, digits, subjects):
        self.d, self.digits, self.subjects = d, digits, list(subjects)
        self.erased, self.answers, self.problems = [], 0, []
        self.over = threading.Event()
        d.create(**{**DIGITS, "name": "noise"})
        self.threads = [threading.Thread(target=self.run, args=(f,))
                        for f in (self.upload, self.erase, self.predict)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join(60)
        assert not self.problems, self.problems

    def run(self, step):
        session, n = requests.Session(), 0
        while not self.over.is_set():
            try:
                step(session, n)
            except Exception as e:  # told where the test looks
                self.problems.append(repr(e))
                return
            n += 1

    def upload(self, session, n):
        body = "".join(json.dumps({"id": f"n{n}-{r['id']}", "subject": f"n{n}-{r['subject']}",
                                   "label": r["label"], "features": [255 - v for v in r["features"]]})
                       + "\n" for r in self.digits[:50])
        r = session.post(self.d.url + "/v1/models/noise/records", data=body,
                         headers={"Content-Type": "application/x-ndjson"}, timeout=60)
        assert r.status_code == 200, r.text

    def erase(self, session, n):
        if n < len(self.subjects):
            r = session.post(self.d.url + "/v1/erasures", json={"subjects": [self.subjects[n]]},
                             timeout=60)
            assert r.status_code == 202, r.text
            self.erased.append(self.subjects[n])
        else:
            self.over.wait(0.01)

    def predict(self, session, n):
        row = self.digits[n % len(self.digits)]["features"]
        body = {"inputs": [{"name": "input", "shape": [1, 64], "datatype": "FP32", "data": row}]}
        r = session.post(self.d.url + "/v2/models/digits/infer", json=body, timeout=60)
        assert r.status_code in (200, 503), r.text
        self.answers += 1


def lift_until_loaded(d, record):
    """Nobody can tell whose pseudonym it is: one after the other, until the record is taken."""
    for item in d.ok("GET", "/v1/suppressions?limit=1000")["items"]:
        d.ok("DELETE", f"/v1/suppressions/{item['pseudonym']}")
        if d.load("digits", [record])["accepted"] == 1:
            return
    raise AssertionError("no suppression was the record's")


def ready_again(d):
    end = time.monotonic() + 120
    while d.model("digits")["state"] != "ready":
        assert time.monotonic() < end, d.model("digits")
        time.sleep(0.02)
    return d.model("digits")["served_hash"]


def test_a_backup_from_before_100_erasures_brings_nobody_back(world, digits, make_daemon):
    d, tmp = world
    subjects = sorted({r["subject"] for r in digits}, key=lambda s: int(s[1:]))
    with Load(d, digits, subjects[:40]) as load:
        while load.answers < 20:
            time.sleep(0.01)
        at_backup = check_growth(d, None)
        made = json.loads(d.ctl("--json", "backup", "monday").stdout)["result"]
    after = [s for s in subjects if s not in load.erased][:100]
    d.erase(subjects=after[:50], wait=False)
    for s in after[50:]:
        d.erase(subjects=[s], wait=False)
    gone = [r for r in digits if r["subject"] in {*load.erased, *after}]
    assert len(after) == 100 and made["erasures"] <= len(load.erased)
    d.kill()
    said = lose_and_restore(d, tmp, "monday", "--ledger-dir", tmp / "ledger")
    assert f"{len(load.erased) - made['erasures'] + 51} erasures" in said.stderr, said.stderr
    d.start()
    assert not any(held(d, r) for r in gone)
    assert not traces(d.data_dir, gone)
    sample = [{**r, "id": "again-" + r["id"]} for r in gone[:5] + gone[-5:]]
    assert d.load("digits", sample)["suppressed"] == 10
    served = ready_again(d)
    assert all(s["identical"] for s in d.verify("digits"))
    check_growth(d, at_backup)
    d.ctl("audit", "verify", env={"XDG_STATE_HOME": str(tmp / "state")})
    kept = [r for r in digits if r["subject"] not in {*load.erased, *after}]
    assert all(held(d, r) for r in kept[::20])
    other = make_daemon(*FAST, *MAP, key_of=d)
    other.create(**DIGITS)
    other.load("digits", kept)
    other.train("digits")
    assert other.model("digits")["served_hash"] == served
    figure("restored old backups", f"people erased after the backup 100, under load around it "
           f"{len(load.erased)}, their records {len(gone)}, held 0, served 0, traces 0",
           people=100 + len(load.erased), records=len(gone), held=0, served=0, traces=0)


def erase_all(d, subjects):
    lines = "".join(json.dumps({"subjects": [s]}) + "\n" for s in subjects)
    r = d.request("POST", "/v1/erasures:batch", data=lines.encode(),
                  headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200, r.text


def test_the_rows_of_replayed_erasures_are_overwritten_before_the_daemon_listens(world, digits):
    """The process is stopped the moment it says that it listens, and its files are looked through."""
    d, tmp = world
    d.ctl("backup", "b")
    subjects = sorted({r["subject"] for r in digits})[20:]
    erase_all(d, subjects)
    d.stop()
    lose_and_restore(d, tmp, "b")
    gone = [r for r in digits if r["subject"] in set(subjects)]
    assert len(traces(d.data_dir, gone)) == len(gone)
    p = subprocess.Popen([str(BIN / "unlearnd"), "--data-dir", str(d.data_dir), "--listen",
                          "127.0.0.1:0", *d.options], stderr=subprocess.PIPE)
    try:
        for line in p.stderr:
            if line.startswith(b"listening on"):
                p.send_signal(signal.SIGSTOP)
                break
        assert not traces(d.data_dir, gone)
    finally:
        p.kill()
        p.wait(30)
        p.stderr.close()
    d.start()
    assert not any(held(d, r) for r in gone[::10])


def test_a_suppression_that_was_lifted_after_the_backup_stays_lifted(world, digits):
    d, tmp = world
    d.erase(subjects=["s1"])
    d.ctl("backup", "b")
    lift_until_loaded(d, digits[5])
    d.erase(subjects=["s2"])
    d.stop()
    lose_and_restore(d, tmp, "b")
    d.start()
    assert not held(d, digits[5])
    assert d.load("digits", [digits[5]])["accepted"] == 1
    assert d.load("digits", [digits[10]])["suppressed"] == 1


def test_backups_while_people_are_erased_are_whole_without_the_ledger_too(world, digits):
    d, tmp = world
    people = sorted({r["subject"] for r in digits})[:120]
    with Load(d, digits, people) as load:
        for i in range(3):
            d.ctl("backup", f"b{i}")
    d.stop()
    for i in range(3):
        lose_and_restore(d, tmp, f"b{i}")
        d.options[d.options.index("--ledger-dir") + 1] = "none"
        d.start()
        shards = d.ok("GET", "/v1/models/digits/shards")["shards"]
        live = sum(s["live"] for shard in shards for s in shard["slices"])
        assert live == d.model("digits")["records"]
        assert len(digits) - live == sum(not held(d, r) for r in digits if r["subject"] in people)
        ready_again(d)
        assert all(s["identical"] for s in d.verify("digits"))
        d.stop()
    assert load.erased


def test_an_atomic_upload_that_is_under_way_is_not_in_a_backup(world, digits):
    d, tmp = world
    arrived, go_on = threading.Event(), threading.Event()
    more = [{**r, "id": "more-" + r["id"], "subject": "more-" + r["subject"]} for r in digits]

    def body():  # batches of the daemon are smaller than this
        for i in range(8):
            yield "".join(json.dumps({**r, "id": f"{r['id']}-{i}"}) + "\n" for r in more).encode()
        arrived.set()
        assert go_on.wait(60)

    def upload():
        r = requests.post(d.url + "/v1/models/digits/records?atomic=true", data=body(), timeout=120,
                          headers={"Content-Type": "application/x-ndjson"})
        assert r.status_code == 200, r.text
    thread = threading.Thread(target=upload)
    thread.start()
    assert arrived.wait(60)
    d.ctl("backup", "b")
    go_on.set()
    thread.join(60)
    assert d.model("digits")["records"] == 9 * len(digits)
    d.stop()
    lose_and_restore(d, tmp, "b")
    d.start()
    assert d.model("digits")["records"] == len(digits)
    line = json.dumps(more[0]).encode()
    end = time.monotonic() + 60
    while d.request("POST", "/v1/models/digits/records", data=line, headers={
            "Content-Type": "application/x-ndjson"}).status_code == 409:  # its rest is being removed
        assert time.monotonic() < end
        time.sleep(0.02)
    assert d.load("digits", more)["accepted"] == len(more) - 1
    d.train("digits")
    assert all(s["identical"] for s in d.verify("digits"))


# --- places and manners ---

def test_a_backup_goes_nowhere_but_below_backup_dir(world):
    d, tmp = world
    for bad in ("..", "../x", "a/b", ".hidden", "-x", str(tmp / "elsewhere"), "x\ny", "a" * 101,
                str(tmp / "backups" / ".." / "x"), str(tmp / "backups") + "x/y", "/"):
        r = d.post("/v1/backups", {"directory": bad})
        assert r.status_code == 422 and r.json()["errors"][0]["pointer"] == "/directory", (bad, r.text)
    assert d.post("/v1/backups", {"directory": ""}).status_code == 422
    assert d.post("/v1/backups", {"directory": "x", "to": "y"}).status_code == 422
    d.ctl("backup", str(tmp / "backups" / "whole-path"))
    assert sorted(p.name for p in (tmp / "backups").iterdir()) == ["whole-path"]
    assert d.post("/v1/backups", {"directory": "whole-path"}).status_code == 409


def test_backups_are_refused_where_no_place_is_configured(daemon):
    r = daemon.post("/v1/backups", {"directory": "b"})
    assert r.status_code == 409 and "backup_dir" in r.json()["detail"]


def test_the_same_idempotency_key_makes_one_backup(world):
    d, _ = world
    headers = {"Idempotency-Key": "k1"}
    first = d.post("/v1/backups", {"directory": "b"}, headers=headers).json()
    d.wait_job(first["id"])
    again = d.post("/v1/backups", {"directory": "b"}, headers=headers)
    assert again.json()["id"] == first["id"] and again.headers["Idempotency-Replayed"] == "true"


def test_a_backup_is_asked_for_again_with_its_key_while_it_is_written(world):
    d, _ = world

    def ask(_):
        return requests.post(d.url + "/v1/backups", json={"directory": "b"}, timeout=60,
                             headers={"Idempotency-Key": "k1"})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert [a.status_code for a in answers] == [202] * 8, [a.text for a in answers]
    assert len({a.json()["id"] for a in answers}) == 1
    assert sum("Idempotency-Replayed" in a.headers for a in answers) == 7


@pytest.fixture
def failing(make_daemon, digits, tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    faults = Faults(tmp_path / "faults", data)
    d = make_daemon(*FAST, "--backup-dir", str(tmp_path / "backups"), data_dir=data, env=faults.env)
    d.create(**DIGITS)
    d.load("digits", digits[:50])
    yield d, faults, tmp_path
    faults.off()


def test_a_backup_that_finds_no_thread_is_refused_and_leaves_no_job(failing):
    d, faults, _ = failing
    faults.on(THREAD, errno.EAGAIN)
    r = d.post("/v1/backups", {"directory": "b"})
    faults.off()
    assert r.status_code == 503 and "no thread" in r.json()["detail"], r.text
    assert all(j["kind"] != "backup" for j in d.ok("GET", "/v1/jobs")["items"])
    d.ctl("backup", "b")


def test_the_end_of_a_backup_is_recorded_when_the_store_lets_it(failing):
    d, faults, tmp = failing
    faults.on(SYNC, errno.EIO, "control.mdb", first=2)  # the first is the request's
    job = d.post("/v1/backups", {"directory": "b"}).json()["id"]
    end = time.monotonic() + 60
    while not any("backup_not_recorded" in line for line in d.log):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert (tmp / "backups" / "b").exists()
    assert d.ok("GET", f"/v1/jobs/{job}")["state"] == "running"
    faults.off()
    assert d.wait_job(job)["state"] == "succeeded"
    assert len(d.ok("GET", "/v1/audit?type=backup.made")["items"]) == 1
    restore(tmp / "backups" / "b", tmp / "target")


def test_keys_are_in_a_backup_only_where_they_are_asked_for(world):
    d, tmp = world
    d.ctl("backup", "without")
    d.ctl("backup", "with", "--with-keys")
    key = (d.data_dir / "keys" / "pseudonym.key").read_bytes()
    seed = (d.data_dir / "keys" / "log.key").read_bytes()

    def holds(name):
        return {k for k in (key, seed) for p in (tmp / "backups" / name).rglob("*")
                if p.is_file() and k in p.read_bytes()}
    assert holds("without") == set() and holds("with") == {key, seed}
    d.stop()
    served = tmp / "elsewhere"
    restore(tmp / "backups" / "with", served)
    assert (served / "keys" / "pseudonym.key").read_bytes() == key
    bare = tmp / "bare"
    assert "keys" in restore(tmp / "backups" / "without", bare).stderr
    other = tmp / "other"
    (other / "keys").mkdir(parents=True)
    (other / "keys" / "pseudonym.key").write_bytes(bytes(32))
    r = restore(tmp / "backups" / "without", other, check=False)
    assert r.returncode == 1 and "not the one" in r.stderr


def test_a_restore_refuses_what_is_in_use_or_not_empty(world):
    d, tmp = world
    d.ctl("backup", "b")
    r = restore(tmp / "backups" / "b", d.data_dir, "--force", check=False)
    assert r.returncode == 1 and "stop it first" in r.stderr
    d.stop()
    before = (d.data_dir / "control.mdb").read_bytes()
    r = restore(tmp / "backups" / "b", d.data_dir, check=False)
    assert r.returncode == 1 and "not empty" in r.stderr
    assert (d.data_dir / "control.mdb").read_bytes() == before
    restore(tmp / "backups" / "b", d.data_dir, "--force")
    d.start()
    assert d.model("digits")["state"] == "ready"
    r = restore(tmp / "data", tmp / "x", check=False)
    assert r.returncode == 1 and "no backup" in r.stderr and not (tmp / "x").exists()


def test_a_damaged_backup_is_refused_before_anything_is_written(world, dice):
    d, tmp = world
    d.ctl("backup", "b", "--with-keys")
    d.stop()
    backup, target = tmp / "backups" / "b", tmp / "target"
    files = [p for p in sorted(backup.rglob("*")) if p.is_file()]
    tried = 0
    for path in files:
        good = path.read_bytes()
        for damage in ("flip", "cut", "gone"):
            at = dice.randrange(len(good))
            if damage == "flip":
                path.write_bytes(good[:at] + bytes([good[at] ^ (1 << dice.randrange(8))])
                                 + good[at + 1:])
            elif damage == "cut":
                path.write_bytes(good[:at])
            else:
                path.unlink()
            r = restore(backup, target, check=False)
            assert r.returncode == 1, (path, damage, at, r.stdout)
            assert not target.exists()
            tried += 1
        path.write_bytes(good)
    restore(backup, target)
    figure("damaged backups", f"{tried} damages (a bit, a cut, a missing file), refused {tried}",
           damaged=tried, refused=tried)


@pytest.mark.parametrize("commits", range(5))
def test_a_backup_of_what_a_backup_was_restored_to_is_as_good(make_daemon, tmp_path, commits):
    """However little was committed in between: a copy of a copy, and a third one of that."""
    d = make_daemon(*FAST, *MAP, "--backup-dir", str(tmp_path / "backups"),
                    data_dir=str(tmp_path / "data"))
    for generation in range(3):
        d.ctl("backup", f"b{generation}")
        d.stop()
        lose_and_restore(d, tmp_path, f"b{generation}")
        d.start()
        for i in range(commits):
            assert d.erase(wait=False, subjects=[f"nobody-{generation}-{i}"])["state"] == "completed"
    d.restart()
    assert len(d.ok("GET", "/v1/erasures?limit=1000")["items"]) == 3 * commits


def test_a_backup_of_a_database_that_is_damaged_meanwhile_fails_when_it_is_made(world):
    d, tmp = world
    d.ctl("backup", "good")
    database = d.data_dir / "control.mdb"
    data = bytearray(database.read_bytes())
    entry = b'"type":"model.created"'  # of the audit log: nothing that a backup looks at
    assert entry in data
    with database.open("r+b") as f:
        for at in (m.start() for m in re.finditer(re.escape(entry), data)):
            f.seek(at)
            f.write(b"X")
    r = d.ctl("backup", "bad", check=False)
    assert r.returncode != 0 and "audit_leaves" in r.stdout + r.stderr, r.stdout + r.stderr
    assert not (tmp / "backups" / "bad").exists()
    d.stop()
    assert "control.mdb is damaged" in refuses_to_start(d)
    restore(tmp / "backups" / "good", d.data_dir, "--force")
    d.start()


def test_a_backup_that_does_not_fit_leaves_nothing_and_says_so(make_daemon, digits, small_disk):
    place = small_disk("200k")
    d = make_daemon(*FAST, "--backup-dir", str(place))
    d.create(**DIGITS)
    d.load("digits", digits)
    d.train("digits")
    d.erase(subjects=["s1"])
    r = d.ctl("backup", "b", check=False)
    assert r.returncode == 1 and "No space left" in r.stderr, r.stderr
    assert list(place.iterdir()) == []
    assert "unlearnd_backups_failed_total 1" in d.get("/metrics").text
    d.erase(subjects=["s2"])
    assert d.ok("GET", "/v1/erasures")["items"][0]["scrubbed_at"], "scrubs go on"


# --- synced: who did not sync would never meet the fault ---

def test_a_backup_whose_files_were_not_synced_is_none(make_daemon, digits, tmp_path):
    backups = tmp_path / "backups"
    faults = Faults(tmp_path / "faults", backups)
    d = make_daemon(*FAST, "--backup-dir", str(backups), env=faults.env)
    d.create(**DIGITS)
    d.load("digits", digits[:50])
    d.train("digits")
    for name in ("control.mdb", ".rows", ".ckpt"):
        faults.on(SYNC, errno.EIO, name)
        job = d.ok("POST", "/v1/backups", {"directory": "b"}, status=202)["id"]
        assert d.wait_job(job)["state"] == "failed", name
        assert not (backups / "b").exists()
    faults.off()
    d.ctl("backup", "b")


def test_a_restore_whose_files_were_not_synced_is_not_finished(world):
    d, tmp = world
    d.ctl("backup", "b", "--with-keys")
    d.stop()
    shutil.rmtree(d.data_dir)
    faults = Faults(tmp / "faults", d.data_dir)
    for name in ("control.mdb", ".rows", ".ckpt"):
        faults.on(SYNC, errno.EIO, name)
        r = restore(tmp / "backups" / "b", d.data_dir, check=False, env=faults.env)
        assert r.returncode != 0 and (d.data_dir / "restoring").exists(), name
    restore(tmp / "backups" / "b", d.data_dir)
    d.start()


# --- kill -9 ---

def test_a_daemon_that_is_killed_while_it_writes_a_backup_leaves_none(world, dice):
    d, tmp = world
    backups = tmp / "backups"
    kills = whole = 0
    for i in range(8):
        job = d.post("/v1/backups", {"directory": f"b{i}"}).json()["id"]
        time.sleep(dice.uniform(0, 0.4))
        d.kill()
        d.http = requests.Session()
        d.start()
        kills += 1
        assert not [p for p in backups.iterdir() if p.name.startswith(".")]
        state = d.ok("GET", f"/v1/jobs/{job}")["state"]
        assert state in ("cancelled", "succeeded")
        if (backups / f"b{i}").exists():
            whole += 1
            restore(backups / f"b{i}", tmp / f"target{i}")
        else:
            assert state == "cancelled"
    d.ctl("backup", "last")
    restore(backups / "last", tmp / "last")
    figure("kills during a backup", f"{kills}, of which whole already {whole}, partial ones left 0",
           kills=kills, whole=whole, partial=0)


def refuses_to_start(d):
    with pytest.raises(AssertionError) as said:
        d.start()
    return str(said.value)


def test_a_restore_that_is_killed_is_never_served_and_can_be_run_again(world, dice):
    d, tmp = world
    d.ctl("backup", "b", "--with-keys")
    served = d.model("digits")["served_hash"]
    d.stop()
    kills = interrupted = 0
    for _ in range(8):
        shutil.rmtree(d.data_dir)
        p = subprocess.Popen([str(BIN / "unlearnctl"), "restore", str(tmp / "backups" / "b"),
                              "--data-dir", str(d.data_dir)], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        while p.poll() is None and not (d.data_dir / "restoring").exists():
            pass
        time.sleep(dice.uniform(0, 0.08))
        p.kill()
        p.wait(30)
        kills += 1
        if (d.data_dir / "restoring").exists():
            interrupted += 1
            assert "was not finished" in refuses_to_start(d)
            restore(tmp / "backups" / "b", d.data_dir)
        d.start()
        assert d.model("digits")["served_hash"] == served
        d.stop()
    assert interrupted > 0
    figure("kills during a restore", f"{kills}, of which unfinished {interrupted}, served so 0",
           kills=kills, unfinished=interrupted, served=0)


def test_a_daemon_that_is_killed_while_it_replays_goes_on_with_it(world, digits, dice):
    d, tmp = world
    d.ctl("backup", "b")
    subjects = sorted({r["subject"] for r in digits})[:150]
    erase_all(d, subjects)
    ids = {e["id"] for e in d.ok("GET", "/v1/erasures?limit=1000")["items"]}
    d.stop()
    lose_and_restore(d, tmp, "b")
    command = [str(BIN / "unlearnd"), "--data-dir", str(d.data_dir), "--listen", "127.0.0.1:0",
               *d.options]
    kills = 0
    for i in range(10):
        p = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(0.005, 0.15))
        p.send_signal(signal.SIGKILL)
        p.wait(30)
        kills += 1
    d.start()
    gone = [r for r in digits if r["subject"] in set(subjects)]
    assert not any(held(d, r) for r in gone) and not traces(d.data_dir, gone)
    assert {e["id"] for e in d.ok("GET", "/v1/erasures?limit=1000")["items"]} == ids
    page = d.ok("GET", "/v1/audit?limit=1000&type=erasure.replayed")["items"]
    assert len(page) == len(ids), "each is replayed once"
    ready_again(d)
    assert all(s["identical"] for s in d.verify("digits"))
    figure("kills during a replay", f"{kills}, erasures {len(ids)}, replayed twice 0, lost 0",
           kills=kills, erasures=len(ids), twice=0, lost=0)
