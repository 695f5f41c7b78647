# SPDX-License-Identifier: Apache-2.0
"""What the crash tests share: a World remembers what clients were told and checks it after a
restart; beside it the loads that clients make, and how to find workers and traces."""
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import requests
import rfc6962

LOST = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)


def wait(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.01)
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False


def children(pid):
    out = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(p) for p in out.split()]


def wait_for_children(pid, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = children(pid)
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError("no worker was started")


def kill_a_worker(daemon, dice):
    """At a random moment of its first tenth of a second; one that is gone by then does not count."""
    for _ in range(20):
        victim = dice.choice(wait_for_children(daemon.process.pid))
        time.sleep(dice.uniform(0, 0.1))
        if victim in children(daemon.process.pid):
            os.kill(victim, signal.SIGKILL)
            return
    raise AssertionError("workers end too soon for this test")


def check_whole_log(daemon):
    """Every entry, from the export, makes the root of the signed checkpoint."""
    note = daemon.get("/v1/audit/checkpoint").text
    _, size, root, _, _ = rfc6962.parse_checkpoint(note)
    rfc6962.signature_of(note, daemon.get("/v1/audit/key").text)
    lines = daemon.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).text.splitlines()
    leaves = [rfc6962.leaf((x[:x.rindex(',"leaf_hash":"')] + "}").encode()) for x in lines]
    assert len(leaves) == size and rfc6962.root_of(leaves) == root, "the log is not its root"
    return [json.loads(x) for x in lines]


def served_hash(daemon, model):
    """Of what is served once everything is: a job is over with its commit, and what it made is
    served a moment later, which only a start waits for."""
    daemon.restart()
    return daemon.model(model)["served_hash"]


def check_rolled_back(daemon, erasure):
    """What an erasure that is not completed touched is not served (invariant 4)."""
    served = {}
    for a in erasure["affected"]:
        if a["state"] != "retraining":
            continue
        if a["model"] not in served:
            shards = daemon.ok("GET", f"/v1/models/{a['model']}/shards")["shards"]
            served[a["model"]] = {s["shard"]: s["served_from_slice"] for s in shards}
        if served[a["model"]][a["shard"]] < a["slice"]:
            continue
        # it was retrained since, in part or whole, which comes after the scrub alone
        again = daemon.ok("GET", f"/v1/erasures/{erasure['id']}")
        assert again["scrubbed_at"], f"served: {erasure}"


class World:
    """What clients were told about one model, and the checks of it. A person's records are uploaded
    in one request, and a person is erased whole."""

    def __init__(self, daemon, records, model="digits"):
        self.daemon, self.records, self.model = daemon, records, model
        self.by_subject = {}
        for r in records:
            self.by_subject.setdefault(r["subject"], []).append(r)
        self.models, self.uploaded, self.sent = {model}, set(), []  # sent: not answered
        self.erased, self.asked, self.erasures = set(), set(), []
        self.head = None
        self.lock = threading.Lock()
        self.stop = threading.Event()  # for loads that have no end of their own

    def observe(self):
        self.head = rfc6962.check_growth(self.daemon, self.head)

    def crash_after(self, seconds, threads=()):
        """Kills the daemon while `threads` speak to it, and looks when they have all noticed."""
        time.sleep(seconds)
        self.observe()
        self.daemon.kill()
        self.stop.set()
        joined(threads)
        self.daemon.http = requests.Session()
        self.daemon.start()
        self.check()

    def held(self, record):
        status = self.daemon.get(f"/v1/models/{self.model}/records/{record['id']}").status_code
        assert status in (200, 404)
        return status == 200

    def settle(self):
        """What was not answered was done or not: a person is erased wholly or not at all."""
        for s in sorted(self.asked - self.erased):
            mine = [self.held(r) for r in self.by_subject[s] if r["id"] in self.uploaded]
            assert len(set(mine)) <= 1, f"half of {s} is left"
            if mine and not mine[0]:
                self.erased.add(s)
        self.asked -= self.erased
        self.uploaded |= {r["id"] for r in self.sent if self.held(r)}
        self.sent = []

    def alive(self):
        return [r for r in self.records
                if r["id"] in self.uploaded and r["subject"] not in self.erased]

    def check(self, everything=False):
        """While nobody changes anything."""
        self.observe()
        self.settle()
        names = {m["name"] for m in self.daemon.ok("GET", "/v1/models?limit=1000")["items"]}
        assert self.models <= names, self.models - names
        for id_ in self.erasures:
            e = self.daemon.ok("GET", f"/v1/erasures/{id_}")
            assert e["state"] in ("forgotten", "completed")
            if e["state"] == "forgotten":
                check_rolled_back(self.daemon, e)
        for s in self.erased:
            assert not self.held(self.by_subject[s][0]), f"{s} is back"
        alive = self.alive()
        for r in alive if everything else random.sample(alive, min(100, len(alive))):
            assert self.held(r), f"{r['id']} was acknowledged and is lost"
        shards = self.daemon.ok("GET", f"/v1/models/{self.model}/shards")["shards"]
        live = sum(s["live"] for shard in shards for s in shard["slices"])
        assert self.daemon.model(self.model)["records"] == live >= len(alive)
        if everything:
            assert live == len(alive)

    def check_traces(self):
        """Row bytes of the erased, and of uploads that were lost, are in no file; those of the
        others are, or the scan is blind."""
        staying = {r["subject"] for r in self.alive()}
        gone = unique_rows(self.records, set(self.by_subject) - staying)
        left = unique_rows(self.records, staying)[:5]
        assert len({n for _, n in files_with(self.daemon.data_dir, left)}) == len(left)
        assert list(files_with(self.daemon.data_dir, gone)) == []
        scratch = self.daemon.data_dir / "scratch"
        wait("an empty scratch folder", lambda: not any(scratch.iterdir()))
        return len(gone)

    def wait_until_completed(self, seconds=60):
        """All erasures, the unanswered among them too, and every shard."""
        for e in self.erasures:
            assert self.daemon.wait_erasure(e, seconds)["scrubbed_at"]
        wait("a ready model", lambda: self.daemon.model(self.model)["state"] == "ready")
        wait("the last erasure", lambda: not self.daemon.ok(
            "GET", "/v1/erasures?state=forgotten")["items"])
        wait("the last snapshot", lambda: self.daemon.model(
            self.model)["degraded_constituents"] == 0)

    # --- loads ---
    def stream(self, records, pause):
        def body():
            for i in range(0, len(records), 50):
                yield "".join(json.dumps(r) + "\n" for r in records[i:i + 50]).encode()
                time.sleep(pause)
        self.send(body(), records)

    def upload(self, records, atomic=False):
        self.send("".join(json.dumps(r) + "\n" for r in records).encode(), records, atomic)

    def send(self, body, records, atomic=False):
        """False where the daemon died of it."""
        try:
            r = requests.post(f"{self.daemon.url}/v1/models/{self.model}/records", data=body,
                              params={"atomic": "true"} if atomic else {}, timeout=60,
                              headers={"Content-Type": "application/x-ndjson"})
        except LOST:
            with self.lock:
                self.sent += records
            return False
        assert r.status_code == 200 or (atomic and r.status_code == 409), r.text
        if r.status_code == 200:
            with self.lock:
                self.uploaded |= {x["id"] for x in records}
        return True

    def storm(self, subjects):
        session = requests.Session()
        for s in subjects:
            if not self.erase(session, s, {"subjects": [s]}):
                return

    def erase(self, session, subject, body):
        """False where the daemon died of it."""
        with self.lock:
            self.asked.add(subject)
        try:
            r = session.post(self.daemon.url + "/v1/erasures", json=body, timeout=60)
        except LOST:
            return False
        assert r.status_code == 202, r.text
        with self.lock:
            self.erased.add(subject)
            self.erasures.append(r.json()["id"])
        return True

    def make_models(self, prefix):
        session = requests.Session()
        for i in range(200):
            name = f"{prefix}-{i}"
            try:
                r = session.post(self.daemon.url + "/v1/models", timeout=60, json={
                    "name": name, "kind": "softmax", "features": 2, "classes": 2, "shards": 1,
                    "slices": 1})
            except LOST:
                return
            assert r.status_code == 201, r.text
            with self.lock:
                self.models.add(name)


def started(*threads):
    threads = [threading.Thread(target=t[0], args=t[1:]) for t in threads]
    for t in threads:
        t.start()
    return threads


def joined(threads):
    for t in threads:
        t.join(90)
        assert not t.is_alive()


def contents(folder):
    """(path, bytes) of every file below a folder; one that is removed meanwhile holds nothing."""
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            try:
                yield path, path.read_bytes()
            except FileNotFoundError:
                continue


def files_with(folder, needles):
    for path, data in contents(folder):
        for n in needles:
            if n in data:
                yield path, n


def unique_rows(records, subjects):
    """Row bytes (of dtype u8) that nobody else has too."""
    count = {}
    for r in records:
        count[bytes(r["features"])] = count.get(bytes(r["features"]), 0) + 1
    return [bytes(r["features"]) for r in records
            if r["subject"] in subjects and count[bytes(r["features"])] == 1]


class Held:
    """A FIFO in the place of a crash point's count of passes: who comes by waits until it is read."""

    def __init__(self, folder, point):
        self.path = folder / f"unlearnd.{point}"
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path)

    def let_one_by(self):
        with self.path.open("rb") as f:
            f.read()

    def let_go(self):
        def read():
            while True:
                with self.path.open("rb") as f:
                    if b"end" in f.read():
                        return
        self.reader = threading.Thread(target=read, daemon=True)  # a test that fails ends too
        self.reader.start()

    def end(self):
        with self.path.open("wb") as f:
            f.write(b"end")
        self.reader.join(10)
        self.path.unlink()
