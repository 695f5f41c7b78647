# SPDX-License-Identifier: Apache-2.0
"""Compaction: after it a model is, to the bit, the one that was loaded with what is held and trained
once. Erasures before, during and after it, restarts in its middle and whatever else comes must not
show in a byte of it; and it is served all the while."""
import base64
import json
import random
import re
import shutil
import struct
import subprocess
import threading
import time

import pytest
import requests
from conftest import BIN, Daemon

MODEL = {"name": "m", "kind": "mlp", "hidden": [6], "features": 5, "dtype": "f32", "classes": 2,
         "shards": 2, "slices": 3, "epochs": 3, "batch_size": 8, "learning_rate": 0.05, "seed": 3}
SHARDS, SLICES = MODEL["shards"], MODEL["slices"]
TOP = SLICES + 2  # of a model that has grown: one appended slice is trained, and one is open
LIKELIHOODS = [None, None, "low", "normal", "high"]


def people(name, count, features=5):
    """Some records each; the rows are nobody else's."""
    rng = random.Random(name)
    records = []
    for i in range(count):
        likelihood = rng.choice(LIKELIHOODS)
        for k in range(rng.choice([1, 1, 2, 4])):
            r = {"id": f"{name}-record-{i}-{k}", "subject": f"{name}-person-{i}",
                 "label": str(rng.randrange(2)),
                 "features": [round(rng.gauss(0, 2), 5) for _ in range(features)]}
            if likelihood:
                r["erasure_likelihood"] = likelihood
            records.append(r)
    return records


def more_of(records, name, count):
    """Further records of people who are held already."""
    rng = random.Random(name)
    return [{**r, "id": f"{name}-{i}", "features": [round(rng.gauss(0, 2), 5) for _ in r["features"]]}
            for i, r in enumerate(rng.sample(records, count))]


FIRST, SECOND, UNTRAINED, NEW = (people(n, 25) for n in ("first", "second", "untrained", "new"))
AGAIN = more_of(FIRST, "again", 8)
ALL = FIRST + SECOND + AGAIN + UNTRAINED


def without(records, gone):
    return [r for r in records if r["subject"] not in gone and r["id"] not in gone]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The data directory of a model that has grown, under a key that nobody chose."""
    d = Daemon(tmp_path_factory.mktemp("grown"))
    d.create(**MODEL)
    d.load("m", FIRST)
    d.train("m")
    d.load("m", SECOND + AGAIN)
    d.train("m")
    d.load("m", UNTRAINED)
    d.stop()
    return d.data_dir


@pytest.fixture
def grown(make_daemon, begun, tmp_path):
    """grown(options...): a daemon of its own that serves it."""
    def make(*options):
        shutil.copytree(begun, tmp_path / "data")
        return make_daemon("--gather-window-ms", "1", *options, data_dir=tmp_path / "data")
    return make


def served(daemon):
    m = daemon.model("m")
    assert m["state"] == "ready" and m["degraded_constituents"] == 0, m
    return m["served_hash"]


def trained_once(make_daemon, of, records, then=(), model=MODEL):
    """What is served by one that was loaded with these records, in another order, and trained once;
    and once more with what came then."""
    d = make_daemon(key_of=of)
    d.create(**model)
    for part in filter(None, (records, then)):
        d.load("m", random.sample(part, len(part)))
        d.train("m")
    hash_ = served(d)
    d.stop()
    return hash_


@pytest.fixture(scope="module")
def of_all(begun, tmp_path_factory):
    """The hash of the model that was trained once on everybody."""
    folder = tmp_path_factory.mktemp("of-all")
    shutil.copytree(begun / "keys", folder / "keys")
    d = Daemon(folder)
    d.create(**MODEL)
    d.load("m", random.sample(ALL, len(ALL)))
    d.train("m")
    hash_ = served(d)
    d.stop()
    return hash_


class Gate:
    """A worker that waits until it is let through."""

    def __init__(self, folder):
        self.held, self.path = folder / "held", folder / "worker"
        self.path.write_text(f"#!/bin/sh\nwhile [ -e {self.held} ]; do /bin/sleep 0.01; done\n"
                             f'exec {BIN / "unlearn-worker"} "$@"\n')
        self.path.chmod(0o700)
        self.options = ["--worker-path", str(self.path), "--gather-window-ms", "1",
                        "--workers", str(SHARDS)]

    def shut(self):
        self.held.touch()

    def open(self):
        self.held.unlink(missing_ok=True)


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


def wait(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.005)
    return found


def ask(d):
    return d.ok("POST", "/v1/models/m/compact", status=202)


def ended(d, job):
    job = d.wait_job(job["id"])
    assert job["state"] == "succeeded", job
    return job


def entries(d, kind):
    return d.ok("GET", f"/v1/audit?type={kind}")["items"]


def shards(d):
    return d.ok("GET", "/v1/models/m/shards")["shards"]


def moved(d):
    """All records are where they belong, and no worker has got anywhere yet."""
    wait("moves", lambda: len(entries(d, "shard.compacted")) == SHARDS)


def row_files(d):
    """{(shard, slice): rows}, erased ones included"""
    width = 16 + 4 + 4 + 4 * MODEL["features"]
    return {tuple(map(int, re.findall(r"\d{3}", "/".join(p.parts[-2:])))):
            (p.stat().st_size - 64) // width for p in (d.data_dir / "models/m").rglob("*.rows")}


def check_layout(d, held):
    """Every row is somebody's, in a configured slice; nothing else is on the disk."""
    live = {(s["shard"], x["slice"]): x["live"] for s in shards(d) for x in s["slices"]}
    assert max(s for _, s in live) == SLICES, live
    assert row_files(d) == {k: n for k, n in live.items() if n}
    assert sum(live.values()) == len(held) == d.model("m")["records"]
    names = {p.name for p in (d.data_dir / "models/m").rglob("*.ckpt")}
    assert names == {f"slice-{i:03}.ckpt" for i in range(1, SLICES + 1)}
    assert not any((d.data_dir / "scratch").iterdir())


def scan_clean(d, gone):
    """`unlearnctl scan`, with the erased rows themselves."""
    r = subprocess.run([str(BIN / "unlearnctl"), "--json", "scan", "--data-dir", str(d.data_dir),
                        "--record-file", "-"], capture_output=True, text=True, timeout=60,
                       input="".join(json.dumps(x) + "\n" for x in gone))
    assert r.returncode == 0, r.stdout + r.stderr


def persons(name, *numbers):
    return [f"{name}-person-{n}" for n in numbers]


def row_of(record):
    """The features as they stand in a row file."""
    return struct.pack(f"<{MODEL['features']}f", *record["features"])


def no_row_of(d, gone):
    for path in (d.data_dir / "models").rglob("*.rows"):
        content = path.read_bytes()
        assert not [r["id"] for r in gone if row_of(r) in content], path


# --- exactness ---

def test_it_is_the_model_that_was_trained_once(grown, of_all):
    d = grown()

    def metric(name):
        return int(re.search(rf"^{name} (\d+)$", d.get("/metrics").text, re.M)[1])

    assert max(x["slice"] for s in shards(d) for x in s["slices"]) == TOP
    assert metric("unlearnd_appended_slices") == SHARDS
    job = d.compact("m")
    assert job["kind"] == "compact" and job["progress"] == 1 and job["shard"] is None
    late = len(SECOND + AGAIN + UNTRAINED)
    assert job["result"] == {"shards": SHARDS, "slices_removed": SHARDS, "records_moved": late}
    check_layout(d, ALL)
    assert served(d) == of_all
    assert all(s["identical"] for s in d.verify("m"))
    assert metric("unlearnd_appended_slices") == 0
    assert metric("unlearnd_records_compacted_total") == late
    # the log
    (asked,), (done,) = entries(d, "compaction.requested"), entries(d, "model.compacted")
    assert asked["data"] == done["data"] == {"model": "m", "job": job["id"]}
    of = [e["data"] for e in entries(d, "shard.compacted")]
    assert sorted(e["shard"] for e in of) == list(range(SHARDS))
    assert all((e["slices_before"], e["slices"]) == (TOP - 1, SLICES) for e in of)
    assert sum(e["records_moved"] for e in of) == late
    trained = [e["data"] for e in entries(d, "shard.trained") if e["data"]["job"] == job["id"]]
    assert sorted(e["shard"] for e in trained) == list(range(SHARDS))
    d.restart()
    assert served(d) == of_all


def test_and_it_grows_and_is_compacted_again(make_daemon, grown):
    d = grown()
    d.ctl("compact", "m", "--wait")
    d.load("m", NEW)
    d.train("m")
    assert served(d) == trained_once(make_daemon, d, ALL, NEW)
    gone = persons("first", 3) + persons("new", 1)
    d.erase(subjects=gone)
    assert served(d) == trained_once(make_daemon, d, without(ALL, gone), without(NEW, gone))
    r = d.ctl("compact", "m", "--wait", "--idempotency-key", "k")
    assert "compact" in r.stdout and "succeeded" in r.stdout
    job = json.loads(d.ctl("--json", "compact", "m", "--idempotency-key", "k").stdout)
    assert job["state"] == "succeeded" and job["result"]["shards"] == SHARDS
    check_layout(d, without(ALL + NEW, gone))
    assert served(d) == trained_once(make_daemon, d, without(ALL + NEW, gone))
    assert d.ctl("compact", "nobody", check=False).returncode == 1


def test_erasures_before_during_and_after_it_leave_no_trace(make_daemon, grown):
    dice = random.Random()
    d = grown()
    names = sorted({r["subject"] for r in ALL})
    gone = dice.sample(names, 16)
    alone = dice.sample([r["id"] for r in without(ALL, gone)], 6)
    d.erase(subjects=gone[:3] + persons("nobody", 1))
    ids = [d.erase(wait=False, subjects=gone[3:5])["id"]]
    job = ask(d)
    for who in gone[5:13]:
        time.sleep(dice.uniform(0, 0.01))
        ids.append(d.erase(wait=False, subjects=[who])["id"])
    for record in alone:
        e = d.erase(wait=False, records=[{"model": "m", "id": record}])
        assert e["matched"] == 1
        ids.append(e["id"])
    taken = [r for r in ALL if r["subject"] in gone[:13] or r["id"] in alone]
    for e in ids:
        wait("a scrub", lambda e=e: d.ok("GET", f"/v1/erasures/{e}")["scrubbed_at"])
    no_row_of(d, taken)
    for e in ids:
        d.wait_erasure(e)
    ended(d, job)
    no_row_of(d, taken)
    d.erase(subjects=gone[13:])
    scan_clean(d, [r for r in ALL if r["subject"] in gone])
    left = without(ALL, {*gone, *alone})
    assert sum(x["live"] for s in shards(d) for x in s["slices"]) == len(left)
    assert served(d) == trained_once(make_daemon, d, left)
    r = d.load("m", ALL)  # and nobody comes back by a reload
    assert r["accepted"] == 0 and r["suppressed"] == len(ALL) - len(left), r


def test_rows_of_the_erased_are_gone_from_the_files(make_daemon, grown):
    d = grown()
    gone = persons("first", *range(0, 20)) + persons("second", 1, 2)
    d.erase(subjects=gone)
    assert sum(row_files(d).values()) == len(ALL), "zeroed rows keep their place"
    d.compact("m")
    left = without(ALL, gone)
    check_layout(d, left)
    scan_clean(d, [r for r in ALL if r["subject"] in gone])
    assert served(d) == trained_once(make_daemon, d, left)


def test_a_person_in_many_slices_is_moved_from_each(make_daemon, grown):
    d = grown("--gather-window-ms", "0")
    mine = [{**r, "id": f"mine-{i}", "subject": "collector@example.org"} for i, r in enumerate(NEW[:10])]
    for r in mine:
        d.load("m", [{k: v for k, v in r.items() if k != "erasure_likelihood"}])
        d.train("m")
    d.compact("m")
    check_layout(d, ALL + mine)
    assert d.erase(subjects=["collector@example.org"])["matched"] == len(mine)
    assert served(d) == trained_once(make_daemon, d, ALL)
    scan_clean(d, mine)


# --- serving ---

class Watch:
    """Predicts all the while, and notes what it is answered."""

    def __init__(self, d):
        self.d, self.seen, self.stop = d, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        body = {"inputs": [{"name": "input", "shape": [1, MODEL["features"]], "datatype": "FP32",
                            "data": FIRST[0]["features"]}]}
        with requests.Session() as http:
            while not self.stop.is_set():
                r = http.post(f"{self.d.url}/v2/models/m/infer", json=body, timeout=30)
                self.seen.append((r.status_code, r.json().get("parameters", {})
                                  .get("clean_constituents")))

    def end(self):
        self.stop.set()
        self.thread.join(30)
        return set(self.seen)


def test_it_is_served_without_a_gap(grown, gate, of_all):
    d = grown(*gate.options)
    before = d.model("m")
    gate.shut()
    watch = Watch(d)
    job = ask(d)
    moved(d)
    m = d.model("m")
    assert m["state"] == "training" and m["degraded_constituents"] == 0
    assert (m["served_hash"], m["generation"]) == (before["served_hash"], before["generation"])
    assert {s["served_from_slice"] for s in shards(d)} == {TOP - 1}
    gate.open()
    ended(d, job)
    assert watch.end() == {(200, SHARDS)} and len(watch.seen) > 20
    assert served(d) == of_all


def test_an_erasure_takes_what_stands_out_of_service_before_its_answer(make_daemon, grown, gate,
                                                                       tmp_path):
    d = grown(*gate.options)
    stood = {s["shard"]: s["slices"][TOP - 2]["checkpoint_hash"] for s in shards(d)}
    gate.shut()
    job = ask(d)
    moved(d)
    who = persons("second", 4)
    (preview,) = d.ok("POST", "/v1/erasures?dry_run=true", {"subjects": who})["affected"]
    e = d.erase(wait=False, subjects=who)
    (a,) = e["affected"]
    assert a["slice"] <= SLICES and a["served_from_slice"] == 0, a
    assert preview.items() <= a.items()
    m = d.model("m")
    assert (m["clean_constituents"], m["degraded_constituents"]) == (SHARDS - 1, 1)
    assert [s["served_from_slice"] for s in shards(d)].count(0) == 1
    wait("its scrub", lambda: d.ok("GET", f"/v1/erasures/{e['id']}")["scrubbed_at"])
    assert not (d.data_dir / f"models/m/shard-{a['shard']:03}/slice-{TOP - 1:03}.ckpt").exists()
    no_row_of(d, [r for r in ALL if r["subject"] in who])
    d.restart()
    assert d.model("m")["clean_constituents"] == SHARDS - 1
    gate.open()
    ended(d, job)
    d.wait_erasure(e["id"])
    assert served(d) == trained_once(make_daemon, d, without(ALL, who))
    envelope = d.ok("GET", f"/v1/erasures/{e['id']}/certificate")
    (c,) = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["constituents"]
    assert c["before"] == {"slices": TOP - 1, "sha256": stood[a["shard"]]}
    assert c["checkpoints_destroyed"]["digests"] == [stood[a["shard"]]]
    assert c["after"]["slices"] == SLICES and c["slice"] == a["slice"]
    (recall,) = d.ok("GET", "/v1/models/m/recalls")["items"]
    assert recall["erasure"] == e["id"]
    d.ctl("certificate", e["id"], "-o", tmp_path / "certificate")
    r = d.ctl("verify", "--certificate", tmp_path / "certificate", "--data-dir", d.data_dir)
    assert "identical" in r.stdout, r.stdout


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_in_its_middle_goes_on(grown, gate, of_all, how):
    d = grown(*gate.options)
    before = d.model("m")["served_hash"]
    gate.shut()
    job = ask(d)
    if how == "stop":
        moved(d)
    getattr(d, how)()
    d.http = requests.Session()
    d.start()
    m = d.model("m")
    assert (m["served_hash"], m["clean_constituents"]) == (before, SHARDS), "what stood is served"
    gate.open()
    ended(d, job)
    check_layout(d, ALL)
    assert served(d) == of_all


# --- what else may come ---

def test_what_it_refuses_and_what_it_is_refused_beside(make_daemon, gate):
    d = make_daemon(*gate.options)
    assert d.post("/v1/models/m/compact").status_code == 404
    d.create(**MODEL)
    d.load("m", FIRST)

    def refused(what, why):
        r = d.post(f"/v1/models/m/{what}")
        assert r.status_code == 409 and why in r.json()["detail"], r.text

    refused("compact", "never trained")
    d.train("m")
    nothing = d.compact("m")
    assert nothing["result"] == {"shards": 0, "slices_removed": 0, "records_moved": 0}
    assert not entries(d, "model.compacted") and len(entries(d, "compaction.requested")) == 1
    d.load("m", SECOND)
    gate.shut()
    training = d.ok("POST", "/v1/models/m/train", status=202)
    refused("compact", "under way")
    gate.open()
    d.wait_job(training["id"])
    assert d.post("/v1/models/m/compact", {"shards": [0]}).status_code == 422
    gate.shut()
    key = {"Idempotency-Key": "once"}
    r = d.post("/v1/models/m/compact", headers=key)
    job = r.json()
    assert r.status_code == 202 and r.headers["Location"] == f"/v1/jobs/{job['id']}"
    again = d.post("/v1/models/m/compact", headers=key)
    assert again.json()["id"] == job["id"] and again.headers["Idempotency-Replayed"] == "true"
    refused("compact", "under way")
    refused("train", "under way")
    moved(d)
    refused("verify", "no clean checkpoint")
    gate.open()
    ended(d, job)
    assert served(d) == trained_once(make_daemon, d, FIRST + SECOND)


def test_uploads_go_on(make_daemon, grown, gate, of_all):
    """What comes after its shard's records were moved waits for a training, as ever."""
    d = grown(*gate.options)
    gate.shut()
    job = ask(d)
    moved(d)
    half = len(NEW) // 2
    d.load("m", NEW[:half])
    d.load("m", NEW[half:], atomic="true")
    gate.open()
    ended(d, job)
    d.restart()
    assert served(d) == of_all
    d.erase(subjects=persons("new", 2))
    d.train("m")
    assert served(d) == trained_once(make_daemon, d, ALL, without(NEW, persons("new", 2)))


class Stream:
    """Uploads one after another, each a batch of the daemon's and so all of it in one commit."""

    def __init__(self, d, number):
        self.d, self.name, self.loads, self.stop = d, f"stream{number}", [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with requests.Session() as http:
            while not self.stop.is_set():
                records = people(f"{self.name}-{len(self.loads)}", 400)
                while (counts := self.send(http, records)) is None:
                    time.sleep(0.02)  # the daemon is down: once more, for it may have them or not
                assert counts["accepted"] + counts["duplicates"] == len(records), counts
                self.loads.append(records)

    def send(self, http, records):
        try:
            r = http.post(f"{self.d.url}/v1/models/m/records", data=lines_of(records), timeout=60,
                          headers={"Content-Type": "application/x-ndjson"})
        except requests.RequestException:
            return None
        assert r.status_code == 200, r.text
        return r.json()

    def end(self):
        self.stop.set()
        self.thread.join(60)
        return self.loads


@pytest.mark.parametrize("kills", [0, 2])
def test_it_ends_while_uploads_go_on(make_daemon, kills):
    """And takes in what came before its shard's records were all where they belong: whatever way
    that went, the model is the one that was loaded with it and trained once."""
    model = {**MODEL, "shards": 1, "epochs": 1}
    gone = persons("first", 1, 2, 3) + persons("second", 1, 2)
    d = make_daemon("--gather-window-ms", "1")
    d.create(**model)
    d.load("m", FIRST)
    d.train("m")
    d.load("m", SECOND)
    d.train("m")
    d.erase(subjects=gone[:3])
    streams = [Stream(d, n) for n in range(2)]
    try:
        wait("uploads", lambda: all(len(s.loads) > 1 for s in streams))
        before = sum(len(s.loads) for s in streams)
        job = ask(d)
        gone += streams[0].loads[0][0]["subject"], streams[1].loads[-1][-1]["subject"]
        erasures = [d.erase(wait=False, subjects=[who]) for who in gone[3:]]
        for _ in range(kills):
            time.sleep(random.uniform(0, 0.3))
            d.kill()
            d.http = requests.Session()
            d.start()
        ended(d, job)
        for e in erasures:
            d.wait_erasure(e["id"])
    finally:
        loads = sum((s.end() for s in streams), [])

    def slice_of(records):
        return d.ok("GET", f"/v1/models/m/records/{without(records, gone)[0]['id']}")["slice"]

    taken_in = [x for x in loads if slice_of(x) <= SLICES]
    waiting = [x for x in loads if slice_of(x) > SLICES]
    assert len(taken_in) >= before and {slice_of(x) for x in waiting} <= {SLICES + 1}
    held = without(FIRST + SECOND + sum(taken_in, []), gone)
    assert served(d) == trained_once(make_daemon, d, held, model=model)
    assert all(s["identical"] for s in d.verify("m"))
    scan_clean(d, [r for r in FIRST + SECOND + sum(loads, []) if r["subject"] in gone])
    late = without(sum(waiting, []), gone)
    d.train("m")
    assert served(d) == trained_once(make_daemon, d, held, late, model=model)


def lines_of(records):
    return "".join(json.dumps(r) + "\n" for r in records).encode()


def upload(d, records, **params):
    return d.request("POST", "/v1/models/m/records", data=lines_of(records), params=params,
                     headers={"Content-Type": "application/x-ndjson"})


class Slow:
    """An atomic upload that is not at its end before it is told so."""

    def __init__(self, d, records, last=b""):
        self.url, self.records, self.last, self.go = d.url, records, last, threading.Event()
        self.answer = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        # the first line is sent before the records are: it is a duplicate
        wait("a staged upload", lambda: upload(d, FIRST[:1]).status_code == 409)

    def body(self):
        yield lines_of(self.records[:1]) * 2500 + lines_of(self.records)
        assert self.go.wait(60)
        yield self.last

    def run(self):
        self.answer = requests.post(f"{self.url}/v1/models/m/records?atomic=true", data=self.body(),
                                    timeout=60, headers={"Content-Type": "application/x-ndjson"})

    def end(self):
        self.go.set()
        self.thread.join(60)
        return self.answer


def test_an_atomic_upload_that_is_on_its_way_is_waited_for(grown, of_all):
    d = grown()
    slow = Slow(d, NEW[:1], b"x\n")
    try:
        r = d.post("/v1/models/m/compact")
        assert r.status_code == 409 and "atomic upload" in r.json()["detail"], r.text
    finally:
        assert slow.end().status_code in (400, 422), slow.answer.text
    job = wait("its end", lambda: (r := d.post("/v1/models/m/compact")).status_code == 202 and r.json())
    ended(d, job)
    assert served(d) == of_all


def test_an_atomic_upload_between_two_shards_turns_delays_the_second_alone(make_daemon, grown, gate):
    """What the one needs to be whole again, and what the other serves, do not wait for a client."""
    d = grown(*gate.options, "--workers", "1")
    gate.shut()
    job = ask(d)
    wait("the moves of one", lambda: len(entries(d, "shard.compacted")) == 1)
    gone = ["nobody"]
    slow = Slow(d, NEW)
    try:
        gate.open()
        wait("the training of one", lambda: len(entries(d, "shard.trained")) == 2 * SHARDS + 1)
        at = {}  # somebody of each shard
        for r in ALL:
            at.setdefault(d.ok("GET", f"/v1/models/m/records/{r['id']}")["shard"], r["subject"])
        gone = [at[shard] for shard in range(SHARDS)]
        e = d.erase(subjects=gone)
        assert e["state"] == "completed" and len(e["affected"]) == SHARDS
        assert d.model("m")["clean_constituents"] == SHARDS
        assert d.ok("GET", f"/v1/jobs/{job['id']}")["state"] == "running"
        assert len(entries(d, "shard.compacted")) == 1
    finally:
        r = slow.end()
    assert r.status_code == 200 and r.json()["accepted"] == len(NEW), r.text
    ended(d, job)
    d.compact("m")  # and what came with the upload for the first one
    check_layout(d, without(ALL + NEW, gone))
    assert served(d) == trained_once(make_daemon, d, without(ALL + NEW, gone))


def test_no_atomic_upload_begins_while_records_move(make_daemon):
    """They would wait for its end, and with them the shard and whoever is to be forgotten in it."""
    model = {**MODEL, "epochs": 1}
    d = make_daemon("--gather-window-ms", "1")
    d.create(**model)
    d.load("m", FIRST)
    d.train("m")
    late = people("late", 4000)
    d.load("m", late)
    job = ask(d)
    refused, taken = [], []
    for i in range(len(NEW)):
        if len(entries(d, "shard.compacted")) == SHARDS:
            break
        r = upload(d, NEW[i:i + 1], atomic="true")
        (taken if r.status_code == 200 else refused).append((NEW[i], r))
    ended(d, job)
    assert refused
    for record, r in refused:
        assert r.status_code == 409 and "moving the model's records" in r.json()["detail"], r.text
        r = upload(d, [record], atomic="true")  # sent again after it, as it says
        assert r.status_code == 200 and r.json()["accepted"] == 1, r.text
    d.compact("m")
    held = FIRST + late + [record for record, _ in taken + refused]
    assert served(d) == trained_once(make_daemon, d, held, model=model)


def test_a_model_is_deleted_in_its_middle(grown, gate):
    d = grown(*gate.options)
    gate.shut()
    job = ask(d)
    assert d.delete("/v1/models/m").status_code == 204
    assert d.wait_job(job["id"])["state"] == "cancelled"
    gate.open()
    assert not (d.data_dir / "models/m").exists()
    scan_clean(d, ALL)
    d.create(**MODEL)  # the same name again
    d.load("m", FIRST)
    d.train("m")
    assert d.compact("m")["result"]["shards"] == 0


def test_a_backup_of_its_middle_is_a_model_that_goes_on(make_daemon, grown, gate, of_all, tmp_path):
    backups = tmp_path / "backups"
    d = grown(*gate.options, "--backup-dir", str(backups))
    gate.shut()
    job = ask(d)
    moved(d)
    backup = d.ok("POST", "/v1/backups", {"directory": "b", "with_keys": True}, status=202)
    assert d.wait_job(backup["id"])["state"] == "succeeded"
    gate.open()
    d.kill()
    subprocess.run([str(BIN / "unlearnctl"), "restore", str(backups / "b"), "--data-dir",
                    str(tmp_path / "restored")], check=True, capture_output=True, timeout=60)
    twin = make_daemon(*gate.options, data_dir=tmp_path / "restored")
    assert twin.model("m")["clean_constituents"] == SHARDS
    ended(twin, job)
    assert served(twin) == of_all
    check_layout(twin, ALL)


def test_backups_beside_it_never_lack_what_they_know(make_daemon, gate, tmp_path):
    """Where only the open slice is taken back, what stands is replaced in its own place."""
    backups = tmp_path / "backups"
    d = make_daemon(*gate.options, "--backup-dir", str(backups))
    d.create(**MODEL)
    d.load("m", FIRST)
    d.train("m")
    d.load("m", SECOND)
    gate.shut()
    job = ask(d)
    moved(d)
    assert {s["served_from_slice"] for s in shards(d)} == {SLICES}
    gate.open()
    made = 0
    while made < 4 or d.ok("GET", f"/v1/jobs/{job['id']}")["state"] == "running":
        backup = d.ok("POST", "/v1/backups", {"directory": f"b{made}", "with_keys": True}, status=202)
        assert d.wait_job(backup["id"])["state"] == "succeeded"
        made += 1
    ended(d, job)
    expected = trained_once(make_daemon, d, FIRST + SECOND)
    assert served(d) == expected
    for i in range(2):
        folder = tmp_path / f"restored{i}"
        subprocess.run([str(BIN / "unlearnctl"), "restore", str(backups / f"b{i}"), "--data-dir",
                        str(folder)], check=True, capture_output=True, timeout=60)
        twin = make_daemon(*gate.options, data_dir=folder)
        assert twin.model("m")["clean_constituents"] == SHARDS
        ended(twin, job)
        assert served(twin) == expected
        assert not [x for x in twin.log if "unreadable" in x]


def test_an_erasure_under_hold_is_executed_in_it(make_daemon, grown, gate):
    d = grown(*gate.options)
    who = persons("second", 7)
    e = d.ok("POST", "/v1/erasures", {"subjects": who, "hold": True}, status=202)
    gate.shut()
    job = ask(d)
    moved(d)
    d.ok("POST", f"/v1/erasures/{e['id']}/release", status=202)
    gate.open()
    ended(d, job)
    d.wait_erasure(e["id"])
    assert served(d) == trained_once(make_daemon, d, without(ALL, who))


def test_a_shard_whose_files_cannot_be_settled_holds_up_no_other(grown, of_all):
    d = grown("--workers", str(SHARDS))
    path = d.data_dir / "models/m/shard-000/slice-001.ckpt"
    path.unlink()
    path.mkdir()  # what is to be overwritten and unlinked
    job = ask(d)
    other = wait("the other one", lambda: entries(d, "shard.compacted"))
    assert [e["data"]["shard"] for e in other] == [1]
    wait("its training", lambda: len(entries(d, "shard.trained")) == 2 * SHARDS + 1)
    time.sleep(1.2)  # a round more
    m = d.model("m")
    assert (m["state"], m["clean_constituents"]) == ("training", SHARDS)
    assert d.ok("GET", f"/v1/jobs/{job['id']}")["state"] == "running"
    r = d.get("/v2/health/ready")
    assert r.status_code == 503 and "scrub" in r.text, r.text
    assert not [x for x in d.log if "recovered" in x], "it is not over between two tries"
    path.rmdir()
    ended(d, job)
    assert [x for x in d.log if "recovered" in x]
    check_layout(d, ALL)
    assert served(d) == of_all


def test_damaged_rows_are_said_and_nothing_is_lost(grown, of_all):
    d = grown()
    path = sorted((d.data_dir / "models/m").rglob(f"slice-{TOP:03}.rows"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    job = d.wait_job(ask(d)["id"])
    assert job["state"] == "failed" and "damaged rows" in job["error"], job
    assert len(entries(d, "model.compaction_failed")) == 1
    m = d.model("m")
    assert (m["state"], m["clean_constituents"]) == ("degraded", SHARDS)
    assert d.infer("m", [FIRST[0]["features"]]).status_code == 200
    r = upload(d, FIRST[:1], atomic="true")  # records that were to be moved wait for somebody
    assert r.status_code == 200 or (r.status_code == 409 and "failed" in r.json()["detail"]), r.text
    d.stop()
    path.write_bytes(whole)  # as it was: nothing of the slice had been moved
    d.start()
    r = d.post("/v1/models/m/train")
    if r.status_code == 202:  # the damage was found before the shard's turn: nothing is half done
        assert d.wait_job(r.json()["id"])["state"] == "succeeded"
    else:
        assert r.status_code == 409 and "compaction" in r.json()["detail"], r.text
    d.compact("m")
    assert served(d) == of_all
