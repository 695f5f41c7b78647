# SPDX-License-Identifier: Apache-2.0
"""Faults of the ground under a running daemon: full and failing disks, no descriptors, no memory, a clock
that jumps. What was acknowledged is there after the fault and after a restart, what was refused is
nowhere, and the daemon recovers by itself."""
import errno
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import faults as F
import pytest
import requests
from faults_world import (ALL, LOST, MODEL, OPTIONS, SECONDS, World, insist, make_world, record, wait,
                          world)
from figures import figure

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
    counts = ("erasures_completed_total", "audit_entries_total", "erasure_completed_seconds_count")

    def counted():
        return [world.metric(f"unlearnd_{name}") for name in counts]

    at_first = counted()
    world.faults.on(F.SYNC, errno.EIO, "control.mdb")
    assert world.erase("nobody").status_code == 503  # else completed by the same commit
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
    why = world.daemon.get("/v2/health/ready").json()["error"]
    r = world.daemon.ctl("status", check=False)
    assert r.returncode == 1 and f"{world.daemon.url} is not ready: {why}\n" in r.stdout, r.stdout + r.stderr
    r = world.daemon.ctl("--json", "status", check=False)
    assert r.returncode == 1 and json.loads(r.stdout)["reason"] == why
    world.faults.off()
    world.recovered()
    world.told_once("degraded")
    assert counted() == at_first, "what did not commit is not counted"
    assert world.erase("nobody").json()["state"] == "completed"
    assert [a - b for a, b in zip(counted(), at_first)][::2] == [1, 1]
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
