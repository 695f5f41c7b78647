# SPDX-License-Identifier: Apache-2.0
"""What the tests of faults share: one model of a daemon under the shim, and what clients were told of it."""
import json
import os
import random
import re
import subprocess
import time

import faults as F
import pytest
import requests
from rfc6962 import check_growth

OPTIONS = ["--gather-window-ms", "20", "--retry-first-ms", "50"]
MODEL = {"kind": "softmax", "features": 24, "dtype": "u8", "classes": 3, "shards": 2, "slices": 2,
         "epochs": 2, "batch_size": 8, "learning_rate": 0.05}
ALL = os.environ.get("UNLEARND_FAULTS_ALL", "") not in ("", "0")
SECONDS = 120  # until a condition that will come has come
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
