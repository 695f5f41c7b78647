# SPDX-License-Identifier: Apache-2.0
"""Invariants 1 to 3 as a property: whatever the configuration, the data and the interleaving of
uploads, erasures, trainings, compactions and kill -9, a model ends as the very bytes of one that never saw what was
erased. A program of random steps runs on one daemon; what is left of it without the erased people
runs, in another order and undisturbed, on a second one; `served_hash` must agree.

UNLEARND_PROPERTY_SEED repeats a run, UNLEARND_PROPERTY_RUNS asks for more programs (make property)."""
import os
import random
import time

import pytest
import requests
from figures import figure

SEED = int(os.environ.get("UNLEARND_PROPERTY_SEED", random.SystemRandom().randrange(1 << 32)))
RUNS = int(os.environ.get("UNLEARND_PROPERTY_RUNS", "16"))
OPTIONS = ["--gather-window-ms", "5", "--retry-first-ms", "50"]
LIKELIHOODS = [None, None, None, "low", "normal", "high"]


def random_config(rng):
    task = rng.choice(["classification", "classification", "regression"])
    kind = rng.choice(["softmax", "mlp"])
    c = {"name": "m", "kind": kind, "task": task, "features": rng.choice([1, 3, 8, 17]),
         "dtype": rng.choice(["f32", "u8", "bit"]), "shards": rng.randint(1, 4),
         "slices": rng.randint(1, 4), "epochs": rng.randint(1, 4),
         "batch_size": rng.choice([1, 2, 7, 16, 64]), "seed": rng.randrange(1 << 20),
         "optimizer": rng.choice(["sgd", "adam"]), "learning_rate": 0.005,
         "standardize": rng.random() < 0.7,
         "l2": rng.choice([0, 0.001]), "learning_rate_decay": rng.choice([0, 0.1])}
    if kind == "mlp":
        c["hidden"] = [rng.randint(1, 12) for _ in range(rng.randint(1, 2))]
        c["activation"] = rng.choice(["relu", "tanh"])
    if task == "classification":
        c["classes"] = rng.randint(2, 4)
        c["aggregation"] = rng.choice(["mean", "vote"])
    else:
        c["targets"] = rng.randint(1, 2)
        c["standardize"] |= c["dtype"] == "u8"  # else it may diverge at any rate, which is refused
    return c


def random_feature(rng, dtype):
    if dtype == "bit":
        return int(rng.random() < 0.4)
    return rng.randrange(256) if dtype == "u8" else round(rng.gauss(0, 2), 3)


def random_person(rng, c, number):
    """All records that there will ever be of one person."""
    likelihood = rng.choice(LIKELIHOODS)
    records = []
    for k in range(rng.choice([1, 1, 1, 2, 4])):
        r = {"id": f"r{number}-{k}", "subject": f"person{number}",
             "features": [random_feature(rng, c["dtype"]) for _ in range(c["features"])]}
        if likelihood is not None:
            r["erasure_likelihood"] = likelihood
        if c["task"] == "classification":
            r["label"] = str(rng.randrange(c["classes"]))
        else:
            label = [round(rng.gauss(0, 1), 3) for _ in range(c["targets"])]
            r["label"] = label if c["targets"] > 1 else label[0]
        records.append(r)
    return records


def random_program(rng, c):
    """Steps, and the ids of the records that are erased by its end. The first step is a load, with
    somebody who stays: a model that never held anybody refuses to be trained, so the other daemon's
    history would not be the same one."""
    stays = random_person(rng, c, 0)
    people = [random_person(rng, c, n) for n in range(1, rng.randint(8, 60))]
    waiting = [r for p in people for r in p]
    rng.shuffle(waiting)
    waiting = stays + waiting
    steps, loaded, gone = [], [], set()
    for number in range(rng.randint(6, 14)):
        kind = "load" if number == 0 else rng.choice(
            ["load", "load", "train", "train", "train-and-go-on", "erase-subject", "erase-subject",
             "erase-record", "erase-many", "reload", "kill", "kill-in-training", "compact",
             "kill-in-compaction"])
        if kind == "load":
            n = rng.randint(len(stays), max(len(stays), len(waiting) // 2))
            batch, waiting = waiting[:n], waiting[n:]
            loaded += batch
            steps.append((kind, batch))
        elif kind == "reload":  # a nightly load brings everybody again, the erased too
            steps.append((kind, list(loaded)))
        elif kind == "erase-record":
            for r in rng.sample(loaded[len(stays):], min(1, len(loaded) - len(stays))):
                gone.add(r["id"])
                steps.append((kind, r["id"]))
        elif kind in ("erase-subject", "erase-many"):
            names = sorted({r["subject"] for p in people for r in p})
            chosen = rng.sample(names, 1 if kind == "erase-subject" else rng.randint(1, 5))
            gone |= {r["id"] for p in people for r in p if r["subject"] in chosen}
            steps.append(("erase-subject", chosen))
        else:
            steps.append((kind, rng.uniform(0, 0.1) if kind == "kill-in-compaction" else None))
    return steps + [("train", None)], gone


class Runner:
    """Carries steps out; an erased model may have nothing to train on, which is no error here."""

    def __init__(self, daemon, c):
        self.daemon, self.kills = daemon, 0
        self.compaction = None  # a job that may be under way
        daemon.create(**c)

    def load(self, records):
        if records:
            answer = self.daemon.load("m", records)
            assert answer["rejected"] == 0, answer

    def begin(self, what):
        """Exactly one job begins here: a refusal because one is under way is not one."""
        end = time.monotonic() + 120
        while True:
            r = self.daemon.post(f"/v1/models/m/{what}")
            if r.status_code != 409 or "under way" not in r.text:
                return r
            assert time.monotonic() < end, r.text
            time.sleep(0.005)

    def compact(self):
        """It goes on beside whatever comes, but for what would be a matter of luck: new records."""
        r = self.begin("compact")
        assert r.status_code == 202 or "never trained" in r.text, r.text
        self.compaction = r.json().get("id")

    def wait_for_compaction(self):
        if self.compaction:
            ended = self.daemon.wait_job(self.compaction)
            assert ended["state"] == "succeeded", ended
        self.compaction = None

    def train(self, wait=True):
        r = self.begin("train")
        if r.status_code == 409:
            assert self.daemon.model("m")["records"] == 0, r.text
            return
        assert r.status_code == 202, r.text
        if wait:
            ended = self.daemon.wait_job(r.json()["id"])
            assert ended["state"] == "succeeded", ended

    def kill(self):
        self.kills += 1
        self.daemon.kill()
        self.daemon.http = requests.Session()
        self.daemon.start()

    def step(self, kind, what):
        if kind == "load":
            self.wait_for_compaction()
        if kind in ("load", "reload"):
            self.load(what)
        elif kind == "compact":
            self.compact()
        elif kind == "train":
            self.train()
        elif kind == "train-and-go-on":
            self.train(wait=False)
        elif kind == "erase-subject":
            self.daemon.erase(wait=False, subjects=what)
        elif kind == "erase-record":
            self.daemon.erase(wait=False, records=[{"model": "m", "id": what}])
        else:
            if kind == "kill-in-training":
                self.train(wait=False)
            elif kind == "kill-in-compaction":
                self.compact()
                time.sleep(what)
            self.kill()

    def settle(self):
        """Every erasure completed, every constituent whole: the hash of what is served then."""
        self.wait_for_compaction()
        for e in self.daemon.ok("GET", "/v1/erasures?limit=1000")["items"]:
            self.daemon.wait_erasure(e["id"])
        self.train()
        m = self.daemon.model("m")
        assert m["degraded_constituents"] == 0, m
        return m["served_hash"], m["records"]


def without(steps, gone, rng):
    """The same history as it would have been without them, each load in another order; a compaction
    makes one load and one training of all that was before it."""
    history = []
    for kind, what in steps:
        if kind == "load":
            rest = [r for r in what if r["id"] not in gone]
            history.append((kind, rng.sample(rest, len(rest))))
        elif kind in ("train", "train-and-go-on", "kill-in-training"):
            history.append(("train", None))
        elif kind in ("compact", "kill-in-compaction") and ("train", None) in history:
            rest = [r for k, w in history if k == "load" for r in w]
            history = [("load", rng.sample(rest, len(rest))), ("train", None)]
    return history


@pytest.fixture(scope="module")
def count():
    total = {"programs": 0, "steps": 0, "erased": 0, "kills": 0, "equal": 0}
    yield total
    figure("property programs", seed=SEED, **total)


@pytest.mark.parametrize("run", range(RUNS))
def test_a_random_history_ends_as_one_without_the_erased(make_daemon, count, run):
    print(f"UNLEARND_PROPERTY_SEED={SEED}")
    rng = random.Random(f"{SEED} {run}")
    c = random_config(rng)
    steps, gone = random_program(rng, c)
    print(c, [s[0] for s in steps], sorted(gone))

    key = rng.randbytes(32)  # placement is part of what a seed repeats
    seen, never = (Runner(make_daemon(*OPTIONS, key=key), c) for _ in range(2))
    for kind, what in steps:
        seen.step(kind, what)
    for kind, what in without(steps, gone, rng):
        never.step(kind, what)
    count["programs"] += 1
    count["steps"] += len(steps)
    count["erased"] += len(gone)
    count["kills"] += seen.kills
    assert seen.settle() == never.settle()
    count["equal"] += 1
    if seen.daemon.model("m")["state"] == "ready":
        assert all(s["identical"] for s in seen.daemon.verify("m"))
