# SPDX-License-Identifier: Apache-2.0
"""The power-loss tests' scenario: what a client does and is told, in the log that also holds what the
daemon does to its files (Recorder, Client); what a client knows at a point of that log (Known); and the
check of a daemon that was started from the state of a disk (Inspection)."""
import copy
import fcntl
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import requests
from conftest import BIN, Daemon
from rfc6962 import check_growth

import power_replay as replay

OPTIONS = ["--gather-window-ms", "0", "--retry-first-ms", "20", "--workers", "2", "--http-threads", "1"]
FEATURES = 200  # a row file of a few rows spans sectors
CONFIG = {"name": "tiny", "kind": "softmax", "features": FEATURES, "dtype": "u8", "classes": 2,
          "shards": 2, "slices": 2, "epochs": 2, "batch_size": 4, "learning_rate": 0.1}
OTHER = {**CONFIG, "name": "other", "shards": 1, "slices": 1}
MEMORY = Path("/dev/shm")  # syncs are recorded, not needed: the power does not really fail


def temporary():
    return tempfile.TemporaryDirectory(prefix="unlearnd-power-",
                                       dir=MEMORY if os.access(MEMORY, os.W_OK) else None)


def records(prefix, people, each):
    """Rows that nobody else has: random bytes from a seed."""
    dice = random.Random(prefix)
    return [{"id": f"{prefix}{p}-{i}", "subject": f"{prefix}{p}", "label": str((p + i) % 2),
             "features": [dice.randrange(256) for _ in range(FEATURES)]}
            for p in range(people) for i in range(each)]


PLAIN, ATOMIC, LATER, LAST, DELETED = (records("p", 6, 2), records("a", 4, 2), records("n", 4, 2),
                                       records("m", 3, 2), records("d", 2, 2))
FIRST_TRAINING = {"p": 1, "a": 1, "n": 2, "m": 3}  # that a person's records are in
ROWS = {r["id"]: r for r in PLAIN + ATOMIC + LATER + LAST}


def needles(rows):
    """Pieces of the rows as they stand in files: a torn sector may hold any of them."""
    out = []
    for r in rows:
        raw = bytes(r["features"])
        out += [raw[i:i + 20] for i in range(0, len(raw) - 20, 20)]
    return out


class Recorder:
    """The environment of a recorded daemon, and its log."""

    def __init__(self, folder, kill=0):
        self.folder = Path(folder).resolve()
        self.data, self.log = self.folder / "data", self.folder / "log"
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.log.touch()
        self.worker = self.folder / "worker"  # a worker gets only the environment that it needs
        recorder = BIN.resolve() / "tests" / "power.so"
        assert recorder.exists(), f"make {recorder}"
        self.env = {"LD_PRELOAD": str(recorder),
                    "UNLEARND_POWER_DIR": str(self.data), "UNLEARND_POWER_LOG": str(self.log)}
        exports = "".join(f"export {k}='{v}'\n" for k, v in self.env.items())
        self.worker.write_text(f"#!/bin/sh\n{exports}exec '{BIN.resolve()}/unlearn-worker' \"$@\"\n")
        self.worker.chmod(0o755)
        if kill:
            self.env["UNLEARND_POWER_KILL"] = str(kill)

    def options(self):
        return [*OPTIONS, "--worker-path", str(self.worker)]

    def mark(self, verb, what, value=None):
        with self.log.open("ab", buffering=0) as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.write(replay.mark_bytes(json.dumps([verb, what, value]).encode()))

    def events(self):
        return replay.read_log(self.log)


class Known:
    """What the client asked for and was told, up to some mark. What was asked for and not answered
    may have happened or not."""

    def __init__(self):
        self.phase = None
        self.asked, self.told = set(), set()  # (what, value)
        self.order = []
        self.ids, self.heads = {}, []
        self.traces = {}  # of an erased subject: pieces of what must be gone once it is scrubbed

    def fold(self, verb, what, value):
        value = tuple(value) if isinstance(value, list) else value
        if what == "phase":
            self.phase = value
        elif what == "head":
            self.heads = [value]
        elif what == "id":
            self.ids[value[0], value[1]] = value[2]
        elif what == "traces":
            self.traces[value[0]] = [bytes.fromhex(x) for x in value[1:]]
        else:
            (self.asked if verb == "asked" else self.told).add((what, value))

    def values(self, what, told=True):
        return {v for w, v in (self.told if told else self.asked) if w == what}

    def open(self, what):
        """Asked for, not told."""
        return self.values(what, told=False) - self.values(what)


def knowledge(events):
    """[(position in the log, Known from there on)]"""
    known, out = Known(), [(0, Known())]
    for i, e in enumerate(events):
        if e.kind == replay.MARK:
            known.fold(*json.loads(e.data))
            out.append((i + 1, copy.deepcopy(known)))
    return out


class Client:
    """Does each step, and writes into the log what it asks and what it was told."""

    def __init__(self, recorder, daemon):
        self.recorder, self.daemon, self.mark = recorder, daemon, recorder.mark
        self.trainings = 0

    def phase(self, name):
        self.mark("told", "phase", name)

    def head(self):
        self.mark("told", "head", self.daemon.get("/v1/audit/checkpoint").text)

    def create(self, config):
        self.mark("asked", "model", config["name"])
        self.daemon.create(**config)
        self.mark("told", "model", config["name"])

    def load(self, rows, model="tiny", **params):
        what = "atomic" if params else "upload"
        ids = [r["id"] for r in rows]
        self.mark("asked", what, ids)
        assert self.daemon.load(model, rows, **params)["accepted"] == len(rows)
        self.mark("told", what, ids)
        self.head()

    def ask_training(self, what="train"):
        self.trainings += 1
        self.mark("asked", "training", self.trainings)
        r = self.daemon.post(f"/v1/models/tiny/{what}")
        assert r.status_code in (202, 409), r.text
        # 409: asked before a crash, without an answer; it goes on
        job = r.json()["id"] if r.ok else self.daemon.ok("GET", "/v1/jobs")["items"][0]["id"]
        self.mark("told", "id", ["job", self.trainings, job])
        self.mark("told", "training", self.trainings)
        return job

    def await_training(self, job):
        assert self.daemon.wait_job(job)["state"] == "succeeded"
        self.mark("told", "trained", self.trainings)
        self.head()

    def train(self):
        self.await_training(self.ask_training())

    def traces(self, subject):
        """Into the log: what must be gone once this person is scrubbed."""
        rows = [r for r in ROWS.values() if r["subject"] == subject]
        out, stale, clean = needles(rows), [], b""
        touched = {}
        for r in rows:
            at = self.daemon.ok("GET", f"/v1/models/tiny/records/{r['id']}")
            touched[at["shard"]] = min(at["slice"], touched.get(at["shard"], at["slice"]))
        for path in self.recorder.data.rglob("shard-*/*.ckpt"):
            shard, slice_ = int(path.parent.name[6:]), int(path.stem[6:])
            raw = path.read_bytes()
            if slice_ >= touched.get(shard, 1 << 30):
                stale.append(raw[8 + int.from_bytes(raw[:8], "little"):])  # the parameters
            else:
                clean += raw  # what it learned is in later ones too
        for raw in stale:
            pieces = [raw[i:i + 24] for i in range(0, len(raw) - 24, 24)]
            out += [t for t in pieces if t not in clean and len(set(t)) > 16][-20:]
        self.mark("told", "traces", [subject] + [t.hex() for t in out])

    def erase(self, subject):
        self.mark("asked", "erasure", subject)
        e = self.daemon.ok("POST", "/v1/erasures", {"subjects": [subject]}, status=202,
                           headers={"Idempotency-Key": subject})
        self.mark("told", "id", ["erasure", subject, e["id"]])
        self.mark("told", "erasure", subject)
        self.head()
        e = self.wait(e["id"], lambda e: e["scrubbed_at"])
        self.mark("told", "scrubbed", subject)
        self.wait(e["id"], lambda e: e["state"] == "completed")
        self.mark("told", "completed", subject)
        self.head()

    def wait(self, erasure, ready):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            e = self.daemon.ok("GET", f"/v1/erasures/{erasure}")
            if ready(e):
                return e
            time.sleep(0.005)
        raise AssertionError(f"the erasure does not go on: {e}")

    def delete(self, model):
        self.mark("asked", "deletion", model)
        self.daemon.ok("DELETE", f"/v1/models/{model}", status=204)
        self.mark("told", "deletion", model)
        self.head()


def rest(daemon, seconds=30):
    """Waits until nothing is left to do; the models then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        erasures, jobs, models = (daemon.ok("GET", f"/v1/{what}")["items"]
                                  for what in ("erasures", "jobs", "models"))
        waits = [e["id"] for e in erasures if e["state"] != "completed" or not e["scrubbed_at"]] + \
            [j["id"] for j in jobs if j["state"] in ("queued", "running")] + \
            [m["name"] for m in models if m["state"] in ("training", "degraded")]
        if not waits:
            return models
        time.sleep(0.01)
    raise AssertionError(f"it does not come to rest: {waits}")


def hash_of(daemon):
    return daemon.model("tiny")["served_hash"]


class Life:
    """What was recorded of a daemon, and the hashes that its model has at rest:
    hashes[number of trainings, erased subjects]."""

    def __init__(self, folder, **recording):
        self.recorder = Recorder(folder, **recording)
        self.hashes = {(0, frozenset()): None}

    def disk(self):
        """As it was before the first event."""
        return replay.Disk()

    def end(self):
        self.events = self.recorder.events()
        self.known = knowledge(self.events)

    def known_at(self, position):
        """(from where on, what was known) after so many events."""
        return max((k for k in self.known if k[0] <= position), key=lambda k: k[0])


class Scenario(Life):
    """A whole life: uploads, trainings, erasures before, after and during one, a compaction (which
    counts as a training) with an erasure, a deletion, a clean stop. Hashes that this life has not seen at rest are those of another daemon that never saw the
    erased (invariant 2), `never`."""

    def __init__(self, folder):
        super().__init__(folder)
        daemon = self.daemon = Daemon(self.recorder.data, *self.recorder.options(),
                                      env=self.recorder.env)
        c = Client(self.recorder, daemon)
        c.phase("upload")
        c.create(CONFIG)
        c.load(PLAIN)
        c.load(ATOMIC, atomic="true")
        c.traces("p0")
        c.erase("p0")
        c.phase("training")
        c.train()
        self.learn(1, "p0")
        c.phase("erasure")
        c.traces("p1")
        c.erase("p1")
        self.learn(1, "p0", "p1")
        c.phase("growth")
        c.load(LATER)
        c.train()
        self.learn(2, "p0", "p1")
        c.traces("n2")
        c.erase("n2")
        self.learn(2, "p0", "p1", "n2")
        c.phase("race")
        c.load(LAST)
        c.traces("m1")
        job = c.ask_training()
        c.erase("m1")
        c.await_training(job)
        self.learn(3, "p0", "p1", "n2", "m1")
        c.phase("compaction")
        c.traces("a1")
        job = c.ask_training("compact")
        c.erase("a1")
        c.await_training(job)
        self.learn(4, "p0", "p1", "n2", "m1", "a1")
        c.phase("deletion")
        c.create(OTHER)
        c.load(DELETED, model="other")
        c.delete("other")
        daemon.stop()
        self.end()
        four = {"p0", "p1", "n2", "m1"}
        self.never = self.hashes_without(four)
        self.hashes[4, frozenset(four)] = self.compacted_without(four)
        self.never[4] = self.compacted_without(four | {"a1"})
        self.hashes[3, frozenset(four | {"a1"})] = self.hashes_without(four | {"a1"})[3]
        self.hashes[3, frozenset(["p0", "p1", "n2"])] = self.hashes_without({"p0", "p1", "n2"})[3]
        self.hashes[0, frozenset(["p0"])] = None

    def learn(self, trainings, *erased):
        self.hashes[trainings, frozenset(erased)] = hash_of(self.daemon)

    def hashes_without(self, people):
        """{number of trainings: hash} of a daemon with the same keys that never saw these people."""
        first, second, third = self.trained_without(people, (PLAIN, ATOMIC), (LATER,), (LAST,))
        return {1: first, 2: second, 3: third}

    def compacted_without(self, people):
        return self.trained_without(people, (PLAIN, ATOMIC, LATER, LAST))[0]

    def trained_without(self, people, *loads):
        """The hash after each of these loads."""
        def load(batches):
            daemon.load("tiny", [r for b in batches for r in b if r["subject"] not in people])
            daemon.train("tiny")
            return hash_of(daemon)

        with temporary() as data:
            shutil.copytree(self.recorder.data / "keys", Path(data) / "keys")
            daemon = Daemon(data, *OPTIONS)
            try:
                daemon.create(**CONFIG)
                return [load(batches) for batches in loads]
            finally:
                daemon.kill()


class KilledLife(Life):
    """A short life in which the daemon is killed in place of its nth sync, and the client does its step
    again with the daemon that is started next: what the dead one had written and not synced is still
    in memory, seen by the next, and not on the disk. `killed`: there was an nth sync."""
    steps = ()  # names of methods

    def __init__(self, folder, kill):
        super().__init__(folder, kill=kill)
        self.killed = False
        self.start()
        self.client = Client(self.recorder, self.daemon)
        for name in self.steps:
            self.step(getattr(self, name))
        self.daemon.kill()
        self.end()

    def start(self):
        try:
            self.daemon = Daemon(self.recorder.data, *self.recorder.options(), env=self.recorder.env)
        except AssertionError:
            if self.killed:
                raise
            self.restart()

    def restart(self):
        """Once: the next death is nobody's doing."""
        assert not self.killed, "the daemon died twice"
        self.killed = True
        self.recorder.mark("told", "phase", "restarted")
        del self.recorder.env["UNLEARND_POWER_KILL"]
        self.start()

    def step(self, what):
        try:
            what()
        except requests.exceptions.ConnectionError:
            assert self.daemon.process.wait(30) == -signal.SIGKILL, self.daemon.log
            self.daemon.http.close()
            self.restart()
            self.client.daemon = self.daemon
            what()

    def send(self, call, done, busy=409):
        """Asks until the daemon has ended what it was doing when it was killed."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            r = call()
            if r.status_code != busy or busy in done:
                assert r.status_code in done, r.text
                return r
            time.sleep(0.01)
        raise AssertionError(f"still {r.status_code}: {r.text}")

    def create(self, config=CONFIG):
        self.client.mark("asked", "model", config["name"])
        self.send(lambda: self.daemon.post("/v1/models", config), {201, 409})
        self.client.mark("told", "model", config["name"])

    def upload(self, rows, what, model="tiny", **params):
        ids = [r["id"] for r in rows]
        body = "".join(json.dumps(r) + "\n" for r in rows)
        self.client.mark("asked", what, ids)
        done = self.send(lambda: self.daemon.request(
            "POST", f"/v1/models/{model}/records", data=body, params=params,
            headers={"Content-Type": "application/x-ndjson"}), {200}).json()
        assert done["accepted"] + done["duplicates"] == len(rows), done
        self.client.mark("told", what, ids)
        self.client.head()


class KilledTraining(KilledLife):
    """Upload, training, an erasure and its retraining."""
    steps = ("create", "load", "train", "learn", "erase", "learn_again")

    def load(self):
        self.upload(PLAIN, "upload")

    def train(self):
        self.client.train()

    def learn(self, *erased):
        """A training that was asked for again finds nothing to do."""
        for n in range(1, self.client.trainings + 1):
            self.hashes[n, frozenset(erased)] = hash_of(self.daemon)

    def erase(self):
        if "p1" not in self.seen():
            self.client.traces("p1")
        self.client.erase("p1")

    def seen(self):
        """Who was asked to be erased: where they were is not answered any more."""
        return {v for e in self.recorder.events() if e.kind == replay.MARK
                for verb, what, v in [json.loads(e.data)] if (verb, what) == ("asked", "erasure")}

    def learn_again(self):
        self.learn("p1")


class KilledUploads(KilledLife):
    """An atomic upload, an erasure of what is not trained, and the deletion of a model."""
    steps = ("create", "create_other", "load_other", "load_atomic", "delete_other", "erase")

    def create_other(self):
        self.create(OTHER)

    def load_other(self):
        self.upload(DELETED, "upload", model="other")

    def load_atomic(self):
        self.upload(ATOMIC, "atomic", atomic="true")

    def delete_other(self):
        self.client.mark("asked", "deletion", "other")
        self.send(lambda: self.daemon.delete("/v1/models/other"), {204, 404})
        self.client.mark("told", "deletion", "other")

    def erase(self):
        self.hashes[0, frozenset(["a1"])] = None
        self.client.erase("a1")


class Recovery(Life):
    """The start from one crash state of a scenario, until nothing is left to do: for a second cut."""

    def __init__(self, folder, scenario, tree, known):
        super().__init__(folder)
        self.hashes, self.tree = scenario.hashes, tree
        data = self.recorder.data
        replay.write_tree(tree, data)
        self.inodes = {path: (data / path).stat().st_ino for path in tree}
        daemon = Daemon(data, *self.recorder.options(), env=self.recorder.env)
        rest(daemon)
        daemon.kill()
        self.events, self.known = self.recorder.events(), [(0, known)]

    def disk(self):
        return replay.Disk(self.tree, self.inodes)


class Inspection:
    """Starts a daemon from one state of the disk and looks for broken promises: `wrong`."""

    def __init__(self, scenario, tree, freed, knowns):
        self.scenario, self.knowns, self.wrong = scenario, knowns, []
        self.data = b"\0\0".join([d for d in tree.values() if d is not None] + list(freed))
        for known in knowns:
            self.nothing_left(known, self.data, "on the disk at the cut")
        with temporary() as folder:
            replay.write_tree(tree, Path(folder) / "data")
            self.start(Path(folder) / "data")

    def complain(self, text):
        if text not in self.wrong:
            self.wrong.append(text)

    def expect(self, holds, text):
        if not holds:
            self.complain(text)

    def start(self, folder):
        try:
            self.daemon = Daemon(folder, *OPTIONS)
        except AssertionError as e:
            self.complain(f"the daemon does not start: {e}")
            return
        try:
            self.look()
            if self.wrong:
                return
            self.settle()
            left = b"\0\0".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
            for known in self.knowns:
                self.nothing_left(known, left, "after the start", gone=self.erased)
        except Exception as e:  # an answer that cannot be read is a broken promise too
            self.complain(f"{type(e).__name__}: {str(e)[:300]}")
        finally:
            self.daemon.kill()
            self.daemon.http.close()

    # --- what is there ---
    def look(self):
        get = self.daemon.get
        models = {m["name"]: m for m in self.daemon.ok("GET", "/v1/models")["items"]}
        self.first = models.get("tiny", {}).get("served_hash") or None
        held = {i: get(f"/v1/models/tiny/records/{i}").status_code for i in ROWS} \
            if "tiny" in models else dict.fromkeys(ROWS, 404)
        self.held = {i for i, status in held.items() if status == 200}
        self.expect(set(held.values()) <= {200, 404}, f"records are answered with {held}")
        self.erased = set()
        for known in self.knowns:
            self.check(known, models)

    def check(self, known, models):
        names = known.values("model") - known.values("deletion", told=False)
        self.expect(names <= set(models), f"models {names - set(models)} are lost")
        self.expect(not known.values("deletion") & set(models), "a deleted model is back")
        self.check_records(known)
        self.check_erasures(known)
        for n in known.values("training"):
            job = self.daemon.get(f"/v1/jobs/{known.ids['job', n]}")
            self.expect(job.status_code == 200, f"training {n} was accepted and is lost")
            if n in known.values("trained") and job.ok:
                self.expect(job.json()["state"] == "succeeded", f"training {n} had succeeded")
        for head in known.heads:
            try:
                check_growth(self.daemon, head)
            except (AssertionError, ValueError) as e:
                self.complain(f"audit: {e}")
        self.check_served(known)

    def check_records(self, known):
        told = known.values("upload") | known.values("atomic")
        asked = known.values("upload", told=False) | known.values("atomic", told=False)
        for ids in told:
            for i in set(ids) & set(ROWS):
                person = ROWS[i]["subject"]
                if person not in known.values("erasure", told=False):
                    self.expect(i in self.held, f"{i} was acknowledged and is lost")
        for i in self.held:
            self.expect(any(i in ids for ids in asked), f"{i} was never sent")
            self.expect(ROWS[i]["subject"] not in known.values("erasure"), f"{i} is back")
        for ids in known.open("atomic"):
            there = set(ids) & self.held
            self.expect(there in (set(), set(ids)), f"half of an atomic upload is there: {there}")
        for person in known.open("erasure"):
            mine = {r["id"] for r in ROWS.values() if r["subject"] == person}
            self.expect(mine & self.held in (set(), mine), f"half of {person} is there")

    def check_erasures(self, known):
        for person in known.values("erasure", told=False):
            mine = {r["id"] for r in ROWS.values() if r["subject"] == person}
            if person in known.values("erasure") or not mine & self.held:
                self.erased.add(person)
        for person in known.values("erasure"):
            r = self.daemon.get(f"/v1/erasures/{known.ids['erasure', person]}")
            self.expect(r.status_code == 200, f"the erasure of {person} is lost")
            if r.ok:
                e = r.json()
                self.expect(e["state"] in ("forgotten", "completed"), f"{person} is {e['state']}")
                self.expect(person not in known.values("scrubbed") or e["scrubbed_at"],
                            f"{person} is not scrubbed any more")
                self.expect(person not in known.values("completed") or e["state"] == "completed",
                            f"the erasure of {person} is not completed any more")

    def possible(self, known):
        """The hashes that the model may have at rest."""
        told, asked = (len(known.values("training", told=t)) for t in (True, False))
        return {h for (n, gone), h in self.scenario.hashes.items()
                if told <= n <= asked and gone == self.erased}

    def check_served(self, known):
        forbidden = {h for (n, gone), h in self.scenario.hashes.items()
                     if any(FIRST_TRAINING[p[0]] <= n for p in self.erased - gone)}
        self.expect(self.first not in forbidden, "the model of before the erasure is served")
        resting = known.values("training", told=False) == known.values("trained") and \
            known.values("erasure", told=False) == known.values("completed")
        if resting:
            self.expect(self.first in self.possible(known), "the published model is not served")

    # --- and what comes of it ---
    def settle(self):
        models = rest(self.daemon)
        last = next((m["served_hash"] or None for m in models if m["name"] == "tiny"), None)
        for known in self.knowns:
            self.expect(last in self.possible(known),
                        f"the model is not what it would be without {sorted(self.erased)}")

    def nothing_left(self, known, data, where, gone=None):
        people = known.values("scrubbed") if gone is None else gone
        for person in people:
            rows = needles([r for r in ROWS.values() if r["subject"] == person])
            for trace in known.traces.get(person, rows):
                self.expect(trace not in data, f"a trace of {person} is {where}")
        if known.values("deletion"):
            for trace in needles(DELETED):
                self.expect(trace not in data, f"a trace of a deleted model is {where}")
