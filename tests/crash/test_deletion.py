# SPDX-License-Identifier: Apache-2.0
"""What is large is overwritten in steps: while a model is deleted, or a compaction removes what it
emptied, nobody else waits for the loop, and a kill in the middle costs nothing of what is done."""
import json
import threading
from contextlib import contextmanager

import pytest
import requests
from conftest import BIN, DIGITS
from world import LOST, Held, wait

OPTIONS = ["--gather-window-ms", "0", "--retry-first-ms", "20"]
CONFIG = {**DIGITS, "kind": "softmax", "features": 16, "slices": 1, "epochs": 1}
CONFIG.pop("hidden")
SECONDS = 20


def row(number):
    return {"id": f"r{number}", "subject": f"p{number}", "label": str(number % 10),
            "features": list(b"x%015d" % number)}


def on_disk(daemon, what):
    return sum(p.read_bytes().count(bytes(what["features"])) for p in daemon.data_dir.rglob("*.rows"))


def scrubbed(daemon, erasure):
    return daemon.ok("GET", f"/v1/erasures/{erasure['id']}")["scrubbed_at"]


@contextmanager
def holding(passes, point, end):
    """Held at the point; then let go until `end`."""
    held = Held(passes, point)
    try:
        yield held
    finally:
        held.let_go()
        wait("the end of it", end, SECONDS)
        held.end()


class Deletion:
    def __init__(self, daemon, model):
        self.status = None
        self.thread = threading.Thread(target=self.send, args=(f"{daemon.url}/v1/models/{model}",))
        self.thread.start()

    def send(self, url):
        try:
            self.status = requests.delete(url, timeout=60).status_code
        except LOST:
            pass


@pytest.fixture
def passes(tmp_path):
    (tmp_path / "passes").mkdir()
    return tmp_path / "passes"


@pytest.fixture
def daemon(make_daemon, passes):
    d = make_daemon(*OPTIONS, programs=BIN / "faults", env={"UNLEARND_CRASH_PASSES": str(passes)})
    d.create(**{**CONFIG, "name": "other", "shards": 1})
    d.load("other", [row(n) for n in range(20)])
    return d


def scrubs_somebody_else(daemon, held):
    e = daemon.erase(wait=False, subjects=["p1"], models=["other"])
    held.let_one_by()
    wait("somebody else's scrub", lambda: scrubbed(daemon, e), SECONDS)
    assert not any("rows_damaged" in line or "_failed" in line for line in daemon.log)


def test_a_model_of_many_files_is_deleted_in_steps(daemon, passes):
    daemon.create(**{**CONFIG, "name": "m", "shards": 40})
    daemon.load("m", [row(n) for n in range(2000)])
    folder = daemon.data_dir / "models" / "m"
    files = len(list(folder.rglob("*.rows")))
    assert files == 40
    with holding(passes, "scrub_file.unlinked", lambda: not folder.exists()) as held:
        deletion = Deletion(daemon, "m")
        wait("the first file's end", lambda: len(list(folder.rglob("*.rows"))) < files)
        scrubs_somebody_else(daemon, held)
        assert len(list(folder.rglob("*.rows"))) > files // 2
    deletion.thread.join(60)
    assert deletion.status == 204


def test_a_large_file_of_a_deleted_model_goes_in_steps_and_a_kill_takes_none_back(daemon, passes):
    daemon.create(**{**CONFIG, "name": "m", "shards": 1})
    people = [row(n) for n in range(8000)]
    daemon.load("m", people)
    (rows,) = (daemon.data_dir / "models/m").rglob("*.rows")
    whole = rows.read_bytes()
    with holding(passes, "scrub_file.truncated", lambda: not rows.exists()) as held:
        deletion = Deletion(daemon, "m")
        wait("the first step", lambda: rows.stat().st_size < len(whole))
        left = rows.read_bytes()
        assert left == whole[:len(left)] and len(left) > 0
        scrubs_somebody_else(daemon, held)
        wait("the second step", lambda: rows.stat().st_size < len(left))
        left = rows.read_bytes()
        assert left == whole[:len(left)] and len(left) > 0
        daemon.kill()
        deletion.thread.join(60)
        daemon.http = requests.Session()
        daemon.start({"UNLEARND_CRASH_PASSES": str(passes)})
        wait("the third step", lambda: rows.stat().st_size < len(left))
    wait("its end", lambda: daemon.get("/v1/models/m").status_code == 404
         and not rows.parent.parent.exists())
    assert not any(on_disk(daemon, r) for r in people[20::100])


def test_a_large_file_that_a_compaction_emptied_goes_in_steps(daemon, passes):
    daemon.create(**{**CONFIG, "name": "m", "shards": 1})
    daemon.load("m", [row(n) for n in range(40)])
    daemon.train("m")
    body = "".join(json.dumps(row(n)) + "\n" for n in range(100, 10100))
    daemon.ok("POST", "/v1/models/m/records", data=body.encode(),
              headers={"Content-Type": "application/x-ndjson"})
    rows = daemon.data_dir / "models/m/shard-000/slice-002.rows"
    before = rows.stat().st_size
    with holding(passes, "scrub_file.truncated", lambda: not rows.exists()) as held:
        job = daemon.ok("POST", "/v1/models/m/compact", status=202)
        while rows.stat().st_size == before:
            held.let_one_by()
        scrubs_somebody_else(daemon, held)
        assert 0 < rows.stat().st_size < before
    assert daemon.wait_job(job["id"])["state"] == "succeeded"
    assert daemon.model("m")["records"] == 10040
