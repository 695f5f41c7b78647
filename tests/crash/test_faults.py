# SPDX-License-Identifier: Apache-2.0
"""Faults under a running daemon: full and failing disks, no descriptors, no memory, workers that
misbehave, a clock that jumps. What was acknowledged is there after the fault and after a restart,
what was refused is nowhere, and the daemon recovers by itself. UNLEARND_FAULTS_ALL=1 makes every
call fail once, instead of a sample of them."""
import errno
import json
import os
import random
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import faults as F
import pytest
import requests
from conftest import BIN, Daemon
from figures import figure
from rfc6962 import check_growth

OPTIONS = ["--gather-window-ms", "20", "--retry-first-ms", "50"]
MODEL = {"kind": "softmax", "features": 24, "dtype": "u8", "classes": 3, "shards": 2, "slices": 2,
         "epochs": 2, "batch_size": 8, "learning_rate": 0.05}
SECONDS = 120  # until a condition that will come has come
ALL = os.environ.get("UNLEARND_FAULTS_ALL", "") not in ("", "0")
LOST = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ReadTimeout)


def wait(condition, what, seconds=SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"never came: {what}")


def record(n):
    """Bytes that occur in no other record, so that a scan of the disk finds them."""
    dice = random.Random(n)
    return {"id": f"r{n}", "subject": f"s{n}", "label": str(dice.randrange(3)),
            "features": [dice.randrange(1, 256) for _ in range(24)]}


class World:
    """One model of a daemon: what clients were told about it, and the checks of that."""

    def __init__(self, daemon, faults, name="m", first=0):
        self.daemon, self.faults, self.name, self.next = daemon, faults, name, first
        self.held, self.refused, self.erased = {}, {}, {}
        self.head = None
        self.starving = False  # without memory there is not even room for a body or a header

    # --- what a client does ---
    def create(self):
        return self.daemon.post("/v1/models", {**MODEL, "name": self.name})

    def upload(self, records):
        """The status; what was not acknowledged must be nowhere."""
        body = "".join(json.dumps(r) + "\n" for r in records)
        r = self.daemon.request("POST", f"/v1/models/{self.name}/records", data=body.encode(),
                                headers={"Content-Type": "application/x-ndjson"})
        for record in records:
            if r.status_code == 200:
                self.held[record["id"]] = record
                self.refused.pop(record["id"], None)
            else:
                self.refused[record["id"]] = record
        if r.status_code == 200:
            assert r.json()["accepted"] == len(records)
        elif not self.starving and r.status_code != 409:
            assert r.status_code == 503 and int(r.headers["Retry-After"]) >= 1, r.text
            assert r.json().get("accepted", 0) == 0, r.text
        return r.status_code

    def fresh(self, count=6):
        self.next += count
        return [record(n) for n in range(self.next - count, self.next)]

    def erase(self, subject):
        r = self.daemon.post("/v1/erasures", {"subjects": [subject], "models": [self.name]})
        if r.status_code == 202:
            for id in [i for i, rec in self.held.items() if rec["subject"] == subject]:
                self.erased[id] = self.held.pop(id)
        elif not self.starving:
            assert r.status_code == 503 and int(r.headers["Retry-After"]) >= 1, r.text
        return r

    def predict(self, bare=False):
        """bare: where every constituent was rolled back past its first slice there is no answer."""
        rows = [record(n)["features"] for n in range(8)]
        body = {"inputs": [{"name": "input", "shape": [8, 24], "datatype": "FP32", "data": rows}]}
        r = self.daemon.post(f"/v2/models/{self.name}/infer", body)
        assert r.status_code == 200 or (bare and r.status_code == 503), f"{r.status_code} {r.text}"
        return r.json().get("outputs")

    def subject_in(self, slice):
        """Placement is keyed, and each daemon has a key of its own."""
        path = f"/v1/models/{self.name}/records/"
        return next(r["subject"] for r in self.held.values()
                    if self.daemon.ok("GET", path + r["id"])["slice"] == slice)

    # --- what operators see ---
    def ready(self):
        return self.daemon.get("/v2/health/ready")

    def metric(self, series):
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.daemon.get("/metrics").text, re.M)
        return float(found.group(1))

    def degraded(self, reason):
        return self.metric(f'unlearnd_degraded{{reason="{reason}"}}') == 1

    def says_degraded(self, reason):
        r = self.ready()
        return r.status_code == 503 and f"degraded ({reason}, " in r.json()["error"] and self.degraded(reason)

    def logged(self, event):
        return [line for line in self.daemon.log if re.search(f" (error|info) {event} ", line)]

    def recovered(self):
        ended = self.daemon.process.poll()
        assert ended is None, f"ended with {ended}: {self.daemon.log[-5:]}"
        wait(lambda: self.ready().status_code == 200, "ready again")

    def told_once(self, event):
        wait(lambda: self.logged(event), f"the log's {event}")
        assert len(self.logged(event)) == 1, self.daemon.log

    # --- what must hold ---
    def record_held(self, id):
        status = self.daemon.get(f"/v1/models/{self.name}/records/{id}").status_code
        assert status in (200, 404), status
        return status == 200

    def check(self, scan=True):
        self.head = check_growth(self.daemon, self.head)
        for id in self.held:
            assert self.record_held(id), f"{id} was acknowledged and is lost"
        for id in [*self.erased, *self.refused]:
            assert not self.record_held(id), f"{id} is there"
        assert self.daemon.model(self.name)["records"] == len(self.held)
        if scan:
            left = self.left_on_disk()
            assert left == [], left

    def left_on_disk(self):
        gone = [bytes(r["features"]) for r in [*self.erased.values(), *self.refused.values()]]
        found = []
        for path in self.daemon.data_dir.rglob("*"):
            try:
                data = path.read_bytes() if path.is_file() else b""
            except FileNotFoundError:  # a worker's scratch, gone meanwhile
                continue
            found += [(path.name, n) for n in gone if n in data]
        return found

    def scrubbed(self, erasure):
        return self.daemon.ok("GET", f"/v1/erasures/{erasure}")["scrubbed_at"] is not None

    def settled(self):
        return self.daemon.model(self.name)["state"] == "ready"

    def check_after_restart(self):
        """Without the shim: what is there is what the disk says."""
        if self.daemon.process.poll() is None:
            self.daemon.stop()
        self.daemon.http = requests.Session()
        self.daemon.start()
        self.check()
        if self.daemon.model(self.name)["state"] != "loaded":
            wait(self.settled, "the retrain")
            assert all(s["identical"] for s in self.daemon.verify(self.name))
        assert not any((self.daemon.data_dir / "scratch").iterdir())


def make_world(make_daemon, tmp_path, *options, train=True, count=40):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    faults = F.Faults(tmp_path / "faults", data)
    daemon = make_daemon(*OPTIONS, *options, data_dir=data, env=faults.env)
    w = World(daemon, faults)
    assert w.create().status_code == 201
    if count:
        assert w.upload(w.fresh(count)) == 200
    if train:
        daemon.train(w.name)
        wait(lambda: not any((data / "scratch").iterdir()), "an empty scratch folder")
    return w


@pytest.fixture
def world(make_daemon, tmp_path):
    w = make_world(make_daemon, tmp_path)
    yield w
    w.faults.off()


# --- the disk: what is written ---

# (which calls, the error, part of the path, the reason that the service gives)
UPLOAD_FAULTS = {
    "a full disk": (F.WRITE, errno.ENOSPC, "", "rows"),
    "a full quota": (F.WRITE, errno.EDQUOT, "", "rows"),
    "an error writing rows": (F.WRITE, errno.EIO, ".rows", "rows"),
    "an error syncing rows": (F.SYNC, errno.EIO, ".rows", "rows"),
    "an error syncing anything": (F.SYNC, errno.EIO, "", "rows"),
    "a sync that loses rows": (F.SYNC, errno.EIO | F.LOSES, ".rows", "rows"),
    "a sync that loses pages of the store": (F.SYNC, errno.EIO | F.LOSES, "control.mdb", "store"),
    "no descriptor for rows": (F.OPEN, errno.EMFILE, "", "rows"),
    "no space for the store": (F.WRITE, errno.ENOSPC, "control.mdb", "store"),
    "an error writing the store": (F.WRITE, errno.EIO, "control.mdb", "store"),
    "a store's write cut short": (F.WRITE, F.SHORT, "control.mdb", "store"),
    "an error syncing the store": (F.SYNC, errno.EIO, "control.mdb", "store"),
}


@pytest.mark.parametrize("name", UPLOAD_FAULTS)
def test_an_upload_that_meets_a_fault_is_refused_whole_and_accepted_after_it(world, name):
    kinds, error, path, reason = UPLOAD_FAULTS[name]
    records, before = world.fresh(), world.predict()
    world.faults.on(kinds, error, path)
    assert world.upload(records) == 503
    assert world.faults.hit() > 0
    assert world.predict() == before  # reads go on
    world.check(scan=False)
    # the probe of each second may take it for gone, until the next one that is refused
    until = time.monotonic() + 60
    while not world.says_degraded(reason):
        assert time.monotonic() < until, world.ready().text
        assert world.upload(records[:1]) == 503
    assert world.metric(f'unlearnd_faults_total{{reason="{reason}"}}') >= 1
    for _ in range(5):
        world.upload(records[:1])
    world.faults.off()
    world.recovered()
    assert not world.degraded(reason)
    if kinds != F.OPEN and path != ".rows":  # else the probe cannot see it
        for event in ["degraded", "recovered"]:
            world.told_once(f"{event} reason={reason}")
    assert world.left_on_disk() == []  # nothing of a refused row, before it comes again
    assert world.upload(records) == 200
    world.check()
    world.check_after_restart()
    figure("faults of uploads", kind=name, calls_failed=world.faults.hit())


def test_rows_of_a_refused_upload_that_cannot_be_taken_back_are_later(make_daemon, tmp_path):
    """Its sync fails, and so does overwriting it: no other upload comes after it before that."""
    world = make_world(make_daemon, tmp_path, train=False)
    records = world.fresh(1)  # one write
    world.faults.on(F.SYNC, errno.EIO, ".rows", rule=0)
    world.faults.on(F.WRITE, errno.EIO, ".rows", first=2, rule=1)
    assert world.upload(records) == 503
    assert world.left_on_disk()
    world.faults.off(rule=0)
    wait(lambda: world.faults.hit(1) > 2, "another try")
    assert world.degraded("rows")
    assert world.upload(world.fresh(1)) == 503
    assert world.left_on_disk()
    world.faults.off()
    world.recovered()
    assert world.left_on_disk() == []
    assert world.upload(records) == 200
    world.check_after_restart()


@pytest.mark.parametrize("kinds", [F.WRITE, F.SYNC, F.MEMORY])
def test_an_atomic_upload_that_a_fault_ends_leaves_nothing_in_the_way(world, kinds):
    """Calling it off is a commit too, and the fault is still there when it is called off."""
    commits = world.metric("unlearnd_commits_total")

    def body():
        yield b"".join(json.dumps(record(n)).encode() + b"\n" for n in range(10000, 12100))
        wait(lambda: world.metric("unlearnd_commits_total") > commits, "a batch that is staged")
        world.faults.on(kinds, errno.ENOMEM if kinds == F.MEMORY else errno.EIO)
        yield json.dumps(record(12100)).encode() + b"\n"

    try:
        r = requests.post(f"{world.daemon.url}/v1/models/{world.name}/records?atomic=true",
                          data=body(), headers={"Content-Type": "application/x-ndjson"},
                          timeout=SECONDS)
        assert r.status_code == 503, r.text
    except LOST:
        assert kinds == F.MEMORY
    world.faults.off()
    world.daemon.http = requests.Session()
    world.recovered()
    assert not world.record_held("r10000")
    insist(world, lambda: world.upload(world.fresh(1)), (200,))
    for n in range(10000, 10100):
        world.refused[f"r{n}"] = record(n)
    wait(lambda: not world.left_on_disk(), "its rows overwritten")
    world.refused = {}
    world.check_after_restart()


def test_a_folder_whose_name_may_not_survive_is_taken_back(make_daemon, tmp_path):
    """Else the next upload would find it, and take it for durable."""
    world = make_world(make_daemon, tmp_path, train=False, count=0)
    world.faults.on(F.SYNC, errno.EIO)
    assert world.upload(world.fresh(20)) == 503
    assert not any((world.daemon.data_dir / "models").iterdir())
    world.faults.off()
    world.recovered()
    assert world.upload(world.fresh(20)) == 200
    world.check_after_restart()


def test_a_write_of_rows_that_is_cut_short_is_continued(world):
    world.faults.on(F.WRITE, F.SHORT, ".rows")
    assert world.upload(world.fresh()) == 200
    assert world.faults.hit() > 4
    world.faults.off()
    world.check_after_restart()


def test_while_the_store_fails_nothing_is_changed_and_reads_go_on(world):
    subject, before = record(3)["subject"], world.predict()
    world.faults.on(F.SYNC, errno.EIO, "control.mdb")
    assert world.erase(subject).status_code == 503
    for method, path, body in [
            ("POST", "/v1/models", {**MODEL, "name": "other"}),
            ("POST", f"/v1/models/{world.name}/train", None),
            ("POST", f"/v1/models/{world.name}/verify", None),
            ("DELETE", f"/v1/models/{world.name}", None),
            ("POST", "/v1/erasures", {"subjects": [subject]})]:
        r = world.daemon.request(method, path, **({"json": body} if body else {}))
        assert r.status_code == 503 and r.headers["Retry-After"], (method, path, r.text)
    assert world.predict() == before
    assert world.record_held("r3")
    assert len(world.daemon.ok("GET", "/v1/models")["items"]) == 1
    world.faults.off()
    world.recovered()
    world.told_once("degraded")
    assert world.erase(subject).status_code == 202
    world.check_after_restart()


def test_after_a_meta_page_that_could_not_be_written_the_daemon_ends_and_the_next_recovers(world):
    """LMDB gives up for good, and whether the commit was made only the next start can tell."""
    records = world.fresh()
    world.faults.on(F.META, errno.EIO, "control.mdb", last=1)
    try:
        assert world.upload(records) == 503
    except LOST:
        pass
    assert world.faults.hit() == 1
    assert world.daemon.process.wait(SECONDS) == 1
    world.daemon.reader.join(10)
    world.told_once("store_failed")
    assert "control database failed" in world.daemon.log[-1]
    world.faults.off()
    world.daemon.http = requests.Session()
    world.daemon.start()
    there = [world.record_held(r["id"]) for r in records]
    assert len(set(there)) == 1, "half of an upload"
    for r in records:
        world.refused.pop(r["id"], None)
        (world.held if there[0] else world.refused)[r["id"]] = r
    world.check()
    world.check_after_restart()


def test_an_erasure_whose_meta_page_could_not_be_written_is_finished_and_told_to_who_asks_again(
        make_daemon, tmp_path):
    w = make_world(make_daemon, tmp_path, "--ledger-dir", str(tmp_path / "ledger"))
    key, body = {"Idempotency-Key": "k1"}, {"subjects": ["s5"]}
    w.faults.on(F.META, errno.EIO, "control.mdb", last=1)
    try:
        assert w.daemon.post("/v1/erasures", body, headers=key).status_code == 503
    except LOST:
        pass
    assert w.faults.hit() == 1
    assert w.daemon.process.wait(SECONDS) == 1
    w.faults.off()
    w.daemon.http = requests.Session()
    w.daemon.log.clear()
    w.daemon.start()
    assert sum("commit_finished" in line for line in w.daemon.log) == 1
    # the ledger went with the database: neither lacks what the other has
    assert not any("ledger_incomplete" in line or "ledger_replayed" in line for line in w.daemon.log)
    again = w.daemon.post("/v1/erasures", body, headers=key)
    assert again.status_code == 202 and again.headers["Idempotency-Replayed"] == "true"
    assert len(w.daemon.ok("GET", "/v1/erasures")["items"]) == 1
    for r in [r for r in w.held.values() if r["subject"] == "s5"]:
        w.erased[r["id"]] = w.held.pop(r["id"])
    w.daemon.wait_erasure(again.json()["id"])
    w.check()
    w.check_after_restart()


# --- the disk: what is overwritten ---

SCRUB_FAULTS = {
    "rows cannot be overwritten": (F.WRITE, errno.EIO, ".rows"),
    "rows cannot be synced": (F.SYNC, errno.EIO, ".rows"),
    "a sync loses what was overwritten": (F.SYNC, errno.EIO | F.LOSES, ".rows"),
    "a sync loses overwritten checkpoints": (F.SYNC, errno.EIO | F.LOSES, ".ckpt"),
    "checkpoints cannot be overwritten": (F.WRITE, errno.EIO, ".ckpt"),
    "checkpoints cannot be synced": (F.SYNC, errno.EIO, ".ckpt"),
    "checkpoints cannot be truncated": (F.TRUNCATE, errno.EIO, ".ckpt"),
    "checkpoints cannot be unlinked": (F.UNLINK, errno.EIO, ".ckpt"),
    "no descriptor is free": (F.OPEN, errno.EMFILE, "shard-"),
}


@pytest.mark.parametrize("name", SCRUB_FAULTS)
def test_an_erasure_is_forgotten_at_once_and_scrubbed_when_the_disk_lets_it(world, name):
    world.faults.on(*SCRUB_FAULTS[name])
    e = world.erase("s5")
    assert e.status_code == 202
    wait(lambda: world.degraded("scrub"), "the fault")
    assert "degraded (scrub, " in world.ready().json()["error"]
    before = world.faults.hit()
    wait(lambda: world.faults.hit() > before, "another try")
    assert not world.scrubbed(e.json()["id"])
    assert world.erase("s7").status_code == 202  # erasures go on
    assert world.upload(world.fresh()) == 503  # new data does not
    world.predict(bare=True)
    world.check(scan=False)
    world.faults.off()
    wait(lambda: world.scrubbed(e.json()["id"]), "scrubbed")
    world.recovered()
    world.told_once("degraded")
    world.daemon.wait_erasure(e.json()["id"])
    world.predict()
    world.check()
    world.check_after_restart()


# The first calls make the folder and the job file; those after them scrub.
@pytest.mark.parametrize("kinds, first", [(F.WRITE, 2), (F.SYNC, 4), (F.UNLINK, 1)],
                         ids=["written", "synced", "unlinked"])
def test_a_scratch_folder_that_cannot_be_scrubbed_is_scrubbed_later(world, kinds, first):
    scratch = world.daemon.data_dir / "scratch"
    world.faults.on(kinds, errno.EIO, "data/scratch", first=first)
    e = world.erase("s5").json()["id"]
    world.daemon.wait_erasure(e)  # the worker's work is not lost for it
    wait(lambda: world.degraded("scrub"), "the fault")
    assert any(scratch.iterdir())
    time.sleep(1.2)  # nothing is given up meanwhile
    assert world.degraded("scrub") and any(scratch.iterdir())
    world.faults.off()
    world.recovered()
    assert not any(scratch.iterdir())
    world.check()
    world.check_after_restart()


def test_a_deleted_model_is_gone_when_the_disk_lets_it(world):
    world.faults.on(F.SYNC, errno.EIO, ".rows")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.delete, f"{world.daemon.url}/v1/models/{world.name}",
                             timeout=60)
        wait(lambda: world.degraded("scrub"), "the fault")
        assert not answer.done()
        world.faults.off()
        assert answer.result(SECONDS).status_code == 204
    world.recovered()
    world.erased, world.held = world.held, {}
    assert world.left_on_disk() == []
    assert not any((world.daemon.data_dir / "models").iterdir())


# --- the disk: what training writes ---

PUBLISH_FAULTS = {
    "no folder for a job": (F.MKDIR, errno.ENOSPC, "data/scratch/"),
    "no job file": (F.WRITE, errno.ENOSPC, "data/scratch/"),
    "a job file that is not synced": (F.SYNC, errno.EIO, "data/scratch/"),
    "a checkpoint that cannot be renamed": (F.RENAME, errno.EIO, ".ckpt"),
    "a shard's folder that is not synced": (F.SYNC, errno.EIO, "shard-"),
    "a commit that fails": (F.SYNC, errno.EIO, "control.mdb"),
}


@pytest.mark.parametrize("name", PUBLISH_FAULTS)
def test_training_goes_on_when_its_files_can_be_written_again(make_daemon, tmp_path, name):
    world = make_world(make_daemon, tmp_path, train=False)
    job = world.daemon.ok("POST", f"/v1/models/{world.name}/train", status=202)["id"]
    world.faults.on(*PUBLISH_FAULTS[name])
    wait(lambda: world.ready().status_code == 503, "the fault")
    unrecorded = list(world.daemon.data_dir.glob("models/*/*/*.ckpt"))
    world.faults.off()
    world.recovered()
    if world.daemon.wait_job(job)["state"] == "failed":  # five times in a row
        world.daemon.train(world.name)
    wait(world.settled, "trained")
    world.check()
    world.check_after_restart()
    figure("faults of training", kind=name, unrecorded_checkpoints=len(unrecorded))


# --- a file system that is full indeed ---

def test_a_file_system_that_is_full_indeed_is_told_and_survived(make_daemon, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(data)],
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small file system is not allowed: {mounted.stderr.strip()}")
    try:
        daemon = make_daemon(*OPTIONS, data_dir=data)
        world = World(daemon, None)
        assert world.create().status_code == 201
        assert world.upload(world.fresh(40)) == 200
        daemon.train(world.name)
        before = world.predict()
        ballast = data / "ballast"
        with open(ballast, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4096))
            except OSError as full:
                assert full.errno == errno.ENOSPC
        records = world.fresh(200)
        assert world.upload(records) == 503
        assert "nospace" in world.ready().json()["error"]
        assert world.predict() == before
        world.check(scan=False)
        ballast.unlink()
        world.recovered()
        assert world.left_on_disk() == []
        assert world.upload(records[:100]) == 200
        for r in records[100:]:
            world.refused.pop(r["id"])
        assert world.erase("s5").status_code == 202
        world.check_after_restart()
        daemon.stop()
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def test_a_batch_of_erasures_that_finds_no_room_in_the_store_tells_operators(make_daemon, tmp_path):
    world = make_world(make_daemon, tmp_path, "--map-bytes", "16M", train=False, count=0)

    def fill():
        people = (f"nobody-{time.monotonic_ns()}-{i}" for i in range(40 * 400))
        lines = [json.dumps({"subjects": [next(people) for _ in range(400)]}) for _ in range(40)]
        r = world.daemon.request("POST", "/v1/erasures:batch", data="\n".join(lines).encode(),
                                 headers={"Content-Type": "application/x-ndjson"})
        results = [json.loads(x) for x in r.text.splitlines()] if r.status_code == 200 else [r.json()]
        return [x for x in results if "id" not in x]

    refused = wait(fill, "a full map")
    assert world.degraded("store"), refused[-1]
    assert "nospace" in world.ready().json()["error"]
    assert all(x["status"] == 503 for x in refused), refused


# --- descriptors and memory ---

def test_connections_wait_while_no_descriptor_is_free(world):
    before = world.predict()
    world.faults.on(F.SOCKET | F.OPEN, errno.EMFILE)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(requests.get, f"{world.daemon.url}/v1/models", timeout=SECONDS)
                   for _ in range(4)]
        wait(lambda: world.faults.hit() > 3, "refused calls")
        assert not any(a.done() for a in answers)  # they wait, and are not turned away
        world.faults.off()
        assert [a.result(SECONDS).status_code for a in answers] == [200] * 4
    assert world.predict() == before
    world.recovered()
    assert world.upload(world.fresh()) == 200
    world.check_after_restart()


@pytest.mark.parametrize("what", ["upload", "erase", "predict", "read", "verify"])
def test_a_request_that_finds_no_memory_fails_alone(world, what):
    """Its Nth allocation fails, with all after it for a moment; N is raised until none does."""
    def act():
        if what == "upload":
            return world.upload(world.fresh(2))
        if what == "erase":
            return world.erase(f"s{n % 40}").status_code
        if what == "predict":
            return world.daemon.post(f"/v2/models/{world.name}/infer", {"inputs": [
                {"name": "input", "shape": [1, 24], "datatype": "FP32",
                 "data": record(1)["features"]}]}).status_code
        if what == "verify":
            return world.daemon.post(f"/v1/models/{world.name}/verify", {"shards": [0]}).status_code
        return world.daemon.get("/v1/models").status_code

    world.starving = True
    n, failed, step = 1, 0, 1 if ALL else 3
    while True:
        world.faults.on(F.MEMORY, errno.ENOMEM, first=n, last=n + 2)
        try:
            status = act()
        except LOST:
            status = None
        hit = world.faults.hit()
        world.faults.off()
        assert world.daemon.process.poll() is None, (n, world.daemon.process.poll(), world.daemon.log[-5:])
        failed += status not in (200, 202)
        if hit == 0 or n > 400:
            break
        n += step
    assert failed > 0
    world.recovered()
    wait(lambda: world.daemon.model(world.name)["ready"], "served again")
    world.predict()
    for id in list(world.refused):  # done, and no memory to say so: as a lost answer
        if world.record_held(id):
            world.held[id] = world.refused.pop(id)
    for id in list(world.held) if what == "erase" else []:
        if not world.record_held(id):
            world.erased[id] = world.held.pop(id)
    wait(world.settled, "every retrain")
    wait(lambda: all(j["ended_at"] for j in world.daemon.ok("GET", "/v1/jobs?limit=1000")["items"]),
         "the end of every job")
    world.check_after_restart()
    figure("allocations that fail", request=what, calls=n, refused=failed)


def test_a_daemon_without_any_memory_for_a_while_lives_on(world):
    e = world.erase("s5").json()["id"]  # there is something to scrub and to train meanwhile
    world.faults.on(F.MEMORY | F.MAP, errno.ENOMEM)

    def ask(path):
        try:
            return requests.get(world.daemon.url + path, timeout=2).status_code
        except requests.exceptions.RequestException:
            return None

    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(ask, ["/v1/models", "/metrics", "/v1/jobs", "/v2/health/live"] * 5))
    assert 200 not in asked[:3] and world.faults.hit() > 20
    assert world.daemon.process.poll() is None, world.daemon.log[-5:]
    world.faults.off()
    world.daemon.http = requests.Session()
    world.recovered()
    world.daemon.wait_erasure(e)
    world.predict()
    assert world.upload(world.fresh()) == 200
    world.check_after_restart()


# --- workers ---

GOOD = 'exec "$worker" "$1"'
WORKERS = {
    "hangs": "exec sleep 600",
    "exits with 3": "exit 3",
    "is killed": "kill -9 $$",
    "ends without a word": "exit 0",
    "says nonsense": "echo stage 1 zz; sleep 600",
    "says too much": "head -c 100000 /dev/zero | tr '\\0' x; sleep 600",
    "cannot have its memory": "ulimit -v 30000; exec \"$worker\" \"$1\"",
    "writes a wrong checkpoint": '"$worker" "$1" > "$here/said"; '
        'for f in "$scratch"/*.ckpt; do printf X | dd of="$f" bs=1 seek=700 conv=notrunc 2>/dev/null;'
        ' done; cat "$here/said"; exit 0',
    "writes a truncated checkpoint": '"$worker" "$1" > "$here/said"; '
        'for f in "$scratch"/*.ckpt; do truncate -s -9 "$f"; done; cat "$here/said"; exit 0',
    "writes to another place": '"$worker" "$1" > "$here/said"; '
        'mv "$scratch"/*.ckpt "$here/"; cat "$here/said"; exit 0',
    "writes one slice in place of another": '"$worker" "$1" > "$here/said"; '
        'for f in "$scratch"/*.ckpt; do cp "$scratch/slice-002.ckpt" "$f.new"; done; '
        'for f in "$scratch"/*.new; do mv "$f" "${f%.new}"; done; '
        'last=$(grep "^stage 2 " "$here/said" | cut -d" " -f3-); '
        'sed "s/^\\(stage [0-9]*\\) .*/\\1 $last/" "$here/said"; exit 0',
}


class FakeWorker:
    """A worker program whose next runs misbehave."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "worker"
        self.path.write_text(f'''#!/bin/sh
PATH=/usr/bin:/bin; here={folder}; worker={BIN.resolve()}/unlearn-worker; scratch=$(dirname "$1")
echo run >> "$here/runs"
left=$(cat "$here/left")
if [ "$left" -gt 0 ]; then
    echo $((left - 1)) > "$here/left"
    . "$here/bad"
fi
{GOOD}
''')
        self.path.chmod(0o755)
        self.misbehave(GOOD, 0)

    def misbehave(self, how, times):
        (self.folder / "bad").write_text(how + "\n")
        (self.folder / "left").write_text(f"{times}\n")
        (self.folder / "runs").write_text("")

    def runs(self):
        return len((self.folder / "runs").read_text().splitlines())


@pytest.fixture
def working(make_daemon, tmp_path):
    folder = tmp_path / "worker"
    folder.mkdir()
    fake = FakeWorker(folder)
    w = make_world(make_daemon, tmp_path, "--worker-path", str(fake.path), "--worker-seconds", "2",
                   "--workers", "1")
    return w, fake


@pytest.mark.parametrize("how", WORKERS)
def test_a_worker_that_misbehaves_costs_retries_of_one_job_and_no_prediction(working, how):
    w, fake = working
    fake.misbehave(WORKERS[how], 2)
    failed = w.metric("unlearnd_jobs_failed_total")
    e = w.erase(w.subject_in(slice=1)).json()["id"]  # both slices are trained again
    predictions = 0
    while w.daemon.ok("GET", f"/v1/erasures/{e}")["state"] != "completed":
        w.predict()
        assert w.ready().status_code == 200
        predictions += 1
        time.sleep(0.02)
    assert fake.runs() == 3  # two that failed and one that did not: bounded, with a pause between
    assert w.metric("unlearnd_jobs_failed_total") == failed + 2
    jobs = [j for j in w.daemon.ok("GET", "/v1/jobs")["items"] if j["kind"] == "retrain"]
    assert [j["state"] for j in jobs] == ["succeeded", "failed", "failed"]
    assert [j["attempts"] for j in jobs] == [3, 2, 1]
    assert all(j["error"] for j in jobs[1:]) and not jobs[0]["error"]
    assert all(s["identical"] for s in w.daemon.verify(w.name))
    wait(lambda: not any((w.daemon.data_dir / "scratch").iterdir()), "an empty scratch folder")
    w.check()
    figure("workers that misbehave", kind=how, runs=fake.runs(), predictions=predictions,
           predictions_lost=0)


def test_checkpoints_of_a_publication_that_did_not_commit_are_removed(working):
    """No commit knows them, so no erasure would: they must not wait for the next training."""
    w, fake = working
    fake.misbehave(f'while [ ! -e "$here/go" ]; do sleep 0.05; done; {GOOD}', 1)
    e = w.erase("s5").json()
    wait(lambda: fake.runs() == 1, "a worker")
    at = e["affected"][0]
    shard = w.daemon.data_dir / "models" / w.name / f"shard-{at['shard']:03}"
    stale = shard / f"slice-{at['slice']:03}.ckpt"
    assert not stale.exists()
    w.faults.on(F.SYNC, errno.EIO, "control.mdb")
    (fake.folder / "go").touch()
    wait(lambda: w.degraded("store"), "the fault")
    fake.misbehave("exec sleep 600", 1)  # nobody else puts a checkpoint there
    w.faults.off()
    w.recovered()
    wait(lambda: fake.runs() == 1, "the next worker")
    assert not stale.exists()
    w.daemon.wait_erasure(e["id"])
    assert stale.exists()
    jobs = [j for j in w.daemon.ok("GET", "/v1/jobs")["items"] if j["kind"] == "retrain"]
    assert jobs[-1]["state"] == "failed" and jobs[-1]["error"].startswith("not published: "), jobs
    assert all(j["ended_at"] for j in jobs), jobs
    w.check()


def test_a_verification_that_cannot_be_prepared_blames_no_worker(working):
    """Its shard is clean: no retrain would ever take the blame from it again."""
    w, fake = working
    # Of the store's syncs the 2nd, 4th and 6th: between them a probe finds it whole. A rule does
    # not count the calls that an earlier one failed.
    for rule, n in enumerate([2, 3, 4]):
        w.faults.on(F.SYNC, errno.EIO, "control.mdb", first=n, last=n, rule=rule)
    assert w.daemon.verify(w.name, shards=[0])[0]["identical"]
    assert [w.faults.hit(rule) for rule in range(3)] == [1, 1, 1]
    w.faults.off()
    w.recovered()
    subject = next(r["subject"] for r in w.held.values() if w.daemon.ok(
        "GET", f"/v1/models/{w.name}/records/{r['id']}")["shard"] == 1)
    fake.misbehave("exit 3", 1)
    w.daemon.wait_erasure(w.erase(subject).json()["id"])
    assert not w.logged("degraded reason=worker")


def test_a_verification_of_a_shard_whose_retrain_fails_for_ever_ends(working):
    w, fake = working
    wait(w.settled, "nothing else to run")
    fake.misbehave("exec sleep 600", 1)
    subject = w.subject_in(slice=1)
    shard = w.daemon.ok("GET", f"/v1/models/{w.name}/records/{subject.replace('s', 'r')}")["shard"]
    job = w.daemon.ok("POST", f"/v1/models/{w.name}/verify", {"shards": [shard]}, status=202)["id"]
    wait(lambda: fake.runs() == 1, "its worker")
    fake.misbehave("exit 3", 1000)
    assert w.erase(subject).status_code == 202  # nothing of the shard is clean now
    ended = w.daemon.wait_job(job)
    assert ended["state"] == "failed" and "retrain fails again and again" in ended["error"], ended
    fake.misbehave(GOOD, 0)
    wait(w.settled, "trained after all")
    assert all(s["identical"] for s in w.daemon.verify(w.name))


def test_workers_that_fail_again_and_again_are_told_to_operators(working):
    w, fake = working
    fake.misbehave("exit 3", 1000)
    e = w.erase("s5").json()["id"]
    wait(lambda: w.degraded("worker"), "the gauge")
    assert w.ready().status_code == 200  # predictions are served: nobody should go elsewhere
    w.predict()
    assert w.upload(w.fresh()) == 200
    w.told_once("degraded")
    fake.misbehave(GOOD, 0)
    w.daemon.wait_erasure(e)
    wait(lambda: not w.degraded("worker"), "the end of it")
    w.told_once("recovered")
    w.check()


def test_a_training_shows_its_failures_and_gives_up_after_five(working):
    w, fake = working
    assert w.upload(w.fresh(40)) == 200
    fake.misbehave("exit 3", 1)
    job = w.daemon.ok("POST", f"/v1/models/{w.name}/train", status=202)["id"]
    shown = wait(lambda: (lambda j: j if j["attempts"] else None)(
        w.daemon.ok("GET", f"/v1/jobs/{job}")), "a failure")
    assert "status 3" in shown["error"]
    ended = w.daemon.wait_job(job)
    assert ended["state"] == "succeeded" and not ended["error"], ended
    assert w.upload(w.fresh(40)) == 200
    fake.misbehave("exit 3", 1000)
    ended = w.daemon.wait_job(
        w.daemon.ok("POST", f"/v1/models/{w.name}/train", status=202)["id"])
    assert ended["state"] == "failed" and "status 3" in ended["error"], ended
    assert 5 <= fake.runs() <= 10  # five of one shard; the other waits its turn
    w.predict()
    fake.misbehave(GOOD, 0)
    wait(w.settled, "trained after all")
    w.check()


def test_a_worker_over_its_memory_limit_fails_its_job_and_nothing_else(make_daemon, tmp_path):
    w = make_world(make_daemon, tmp_path, "--worker-memory-bytes", "32M", train=False)
    job = w.daemon.ok("POST", f"/v1/models/{w.name}/train", status=202)["id"]
    ended = w.daemon.wait_job(job)
    assert ended["state"] == "failed" and ended["error"], ended
    assert w.ready().status_code == 200
    assert w.upload(w.fresh()) == 200
    w.check()


# --- the clock ---

def moments(erasure):
    names = ["accepted_at", "forgotten_at", "scrubbed_at", "completed_at"]
    return [datetime.fromisoformat(erasure[n].replace("Z", "+00:00")) for n in names]


def test_a_clock_that_jumps_ten_years_either_way_holds_nothing_up(world):
    years, subjects, ids, seen = 10 * 365 * 86400, iter(range(40)), [], []
    for step in [0, years, 0, -years, 0, years, -years, 0]:
        world.faults.step_clock(step)
        e = world.erase(f"s{next(subjects)}").json()
        ids.append(e["id"])
        again = {"Idempotency-Key": f"k{len(ids)}"}
        body = {"subjects": [f"s{next(subjects)}"]}
        first = world.daemon.post("/v1/erasures", body, headers=again)
        assert first.status_code == 202
        replay = world.daemon.post("/v1/erasures", body, headers=again)
        assert replay.headers["Idempotency-Replayed"] == "true"
        assert replay.json()["id"] == first.json()["id"]
        for r in [r for r in world.held.values() if r["subject"] == body["subjects"][0]]:
            world.erased[r["id"]] = world.held.pop(r["id"])
        assert world.upload(world.fresh(2)) == 200
        world.predict(bare=True)
        assert world.ready().status_code == 200
        received = datetime.fromisoformat(e["received_at"].replace("Z", "+00:00"))
        deadline = datetime.fromisoformat(e["deadline"].replace("Z", "+00:00"))
        assert 28 <= (deadline - received).days <= 31
        seen.append((step, received.year))
    world.faults.step_clock(-years)  # the retrains end in the past of their beginning
    for id in ids:
        at = moments(world.daemon.wait_erasure(id))
        assert at == sorted(at), at
    world.faults.step_clock(0)
    year = datetime.now().year
    assert {y - year for s, y in seen if s == 0} <= {-1, 0, 1}
    assert {y - year for s, y in seen if s > 0} <= {9, 10, 11}
    assert ids == sorted(ids) and len(set(ids)) == len(ids)  # ULIDs of one process ascend
    times, cursor = [], ""
    while cursor is not None:
        page = world.daemon.ok("GET", f"/v1/audit?limit=1000{cursor and '&cursor=' + cursor}")
        times += [(i["index"], i["time"]) for i in page["items"]]
        cursor = page["next_cursor"]
    times.sort()
    assert [t for _, t in times] == sorted(t for _, t in times), "the audit log goes back in time"
    world.check()
    world.check_after_restart()
    figure("clock steps", steps=len(seen), years=10, entries_out_of_order=0)


def test_a_step_of_the_clock_during_a_retrain_neither_ends_nor_holds_it(working):
    w, fake = working
    fake.misbehave(f"sleep 1; {GOOD}", 1)
    e = w.erase("s5").json()["id"]
    wait(lambda: fake.runs() == 1, "a worker")
    w.faults.step_clock(-10 * 365 * 86400)
    job = [j for j in w.daemon.ok("GET", "/v1/jobs")["items"] if j["kind"] == "retrain"][0]
    assert job["eta_seconds"] is None or job["eta_seconds"] >= 0
    w.daemon.wait_erasure(e)
    assert fake.runs() == 1
    job = w.daemon.ok("GET", f"/v1/jobs/{job['id']}")
    assert job["started_at"] <= job["ended_at"]


# --- every call ---

EVERY = {
    "writes": (F.WRITE, errno.ENOSPC), "writes cut short": (F.WRITE, F.SHORT),
    "syncs": (F.SYNC, errno.EIO), "meta pages": (F.META, errno.EIO),
    "syncs that lose": (F.SYNC, errno.EIO | F.LOSES), "truncations": (F.TRUNCATE, errno.EIO), "renames": (F.RENAME, errno.EIO),
    "unlinks": (F.UNLINK, errno.EIO), "folders": (F.MKDIR, errno.ENOSPC),
    "opens": (F.OPEN, errno.EMFILE),
}
SAMPLE = 3  # of the calls of a kind, where not all are tried


def insist(world, act, good):
    """As a client does: again while it is refused; a lost answer is asked for again."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            r = act()
            status = r if isinstance(r, int) else r.status_code
            if status in good:
                return r
            assert status in (503, 409), r if isinstance(r, int) else r.text
        except LOST:
            restart_if_it_ended(world)
        assert time.monotonic() < end, "refused for too long"
        time.sleep(0.2)


def restart_if_it_ended(world):
    """A meta page that could not be written: what systemd does then."""
    try:
        status = world.daemon.process.wait(5)
    except subprocess.TimeoutExpired:
        return
    assert status == 1, world.daemon.log[-5:]
    world.daemon.http = requests.Session()
    world.daemon.start(world.faults.env)


def scenario(w):
    """The life of a model: every acknowledgement is noted, whatever has to be tried again."""
    records = w.fresh(12)
    insist(w, w.create, (201, 409))

    def upload():
        known = [r for r in records if w.record_held(r["id"])]
        assert len(known) in (0, len(records)), "half of an upload"
        if known:  # the answer was lost, the upload was not
            w.held.update({r["id"]: r for r in known})
            [w.refused.pop(r["id"], None) for r in known]
            return 200
        return w.upload(records)

    insist(w, upload, (200,))
    insist(w, lambda: w.daemon.post(f"/v1/models/{w.name}/train"), (202, 409))
    insist(w, lambda: 200 if w.settled() else 503, (200,))
    insist(w, lambda: w.erase(records[0]["subject"]), (202,))
    for id in [records[0]["id"]]:
        if id in w.held:
            w.erased[id] = w.held.pop(id)
    insist(w, lambda: 200 if w.settled() and not w.left_on_disk() else 503, (200,))
    w.faults.off()
    insist(w, w.ready, (200,))
    w.check()


def one_life(folder, kind, n):
    """The scenario in a daemon of its own with call n failing; how many calls failed, or in a run
    with n None how many there are."""
    kinds, error = EVERY[kind]
    data = folder / "data"
    data.mkdir(mode=0o700, parents=True)
    faults = F.Faults(folder / "faults", data)
    daemon = Daemon(data, *OPTIONS, "--workers", "1", env=faults.env)
    try:
        w = World(daemon, faults)
        faults.on(kinds, 0 if n is None else error, first=n or 1, last=n or F.ALWAYS)
        scenario(w)
        number = faults.seen() if n is None else faults.hit()
        w.check_after_restart()
        w.daemon.stop()
        return number
    except Exception as e:
        raise AssertionError(f"{kind}, call {n}: {e!r}\n" + "\n".join(daemon.log[-20:])) from e
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


@pytest.mark.parametrize("kind", EVERY)
def test_whichever_call_fails_what_was_acknowledged_is_there(tmp_path, kind):
    F.build_shim()
    calls = one_life(tmp_path / "count", kind, None)
    assert calls > 0
    every = list(range(1, calls + 1))
    tried = every if ALL else sorted({every[i * (calls - 1) // max(SAMPLE - 1, 1)]
                                      for i in range(SAMPLE)})
    with ThreadPoolExecutor(3) as pool:  # most of it is waiting for the next probe
        hits = list(pool.map(lambda n: one_life(tmp_path / str(n), kind, n), tried))
    assert sum(h > 0 for h in hits) >= len(hits) // 2  # threads may change places: not each is met
    n = calls * 2
    while ALL and one_life(tmp_path / f"over{n}", kind, n) > 0:  # until a run is clean
        n += 1
    figure("every call fails once", kind=kind, calls=calls, tried=len(tried),
           failed=sum(hits), violations=0)


START = ["writes", "syncs", "meta pages", "renames", "unlinks", "folders", "opens"]


def starts(w):
    """Whether the daemon comes up; where it does not, it says why and ends with 1."""
    w.daemon.http = requests.Session()
    w.daemon.log.clear()
    try:
        w.daemon.start(w.faults.env)
        return True
    except AssertionError:
        assert w.daemon.process.wait(SECONDS) == 1
        assert w.daemon.log[-1].startswith("unlearnd: "), w.daemon.log
        return False


def test_a_start_that_meets_a_fault_ends_with_a_reason_and_the_next_one_recovers(world, tmp_path):
    """From what a kill left behind: rows that nobody committed, a scratch folder, a scrub to do."""
    world.faults.on(F.SYNC, errno.EIO, ".rows")
    assert world.upload(world.fresh()) == 503
    assert world.erase("s5").status_code == 202
    wait(lambda: world.degraded("scrub"), "the fault")
    world.daemon.kill()
    world.faults.off()
    (world.daemon.data_dir / "scratch" / "left").mkdir()
    (world.daemon.data_dir / "scratch" / "left" / "slice-001.ckpt").write_bytes(bytes(100))
    left = tmp_path / "left"
    shutil.copytree(world.daemon.data_dir, left)
    tried = failed = 0
    for kind in START:
        kinds, error = EVERY[kind]
        calls = None
        n = 1
        while calls is None or n <= calls:
            shutil.rmtree(world.daemon.data_dir)
            shutil.copytree(left, world.daemon.data_dir)
            world.faults.on(kinds, 0 if calls is None else error, first=n, last=n)
            up = starts(world)
            tried += calls is not None
            if calls is None:
                calls = world.faults.seen()
                world.daemon.kill()
                continue
            world.faults.off()
            failed += not up
            if not up:
                assert starts(world)
            wait(lambda: world.ready().status_code == 200, "ready")
            wait(lambda: not world.left_on_disk(), "scrubbed")
            world.head = None  # each copy goes its own way from here
            world.check()
            world.daemon.kill()
            n += 1 if ALL else max(1, calls // 3)
    assert failed > 0
    world.daemon.start()
    figure("starts that meet a fault", tried=tried, refused=failed, violations=0)
