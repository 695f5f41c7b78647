# SPDX-License-Identifier: Apache-2.0
"""Compaction: after it a model is, to the bit, the one that was loaded with what is held and trained
once. Erasures before, during and after it, restarts in its middle and whatever else comes must not
show in a byte of it; and it is served all the while."""
import json
import random
import subprocess
import threading
import time

import pytest
from conftest import BIN

MODEL = {"name": "m", "kind": "mlp", "hidden": [6], "features": 5, "dtype": "f32", "classes": 2,
         "shards": 3, "slices": 3, "epochs": 3, "batch_size": 8, "learning_rate": 0.05, "seed": 3}
SLOW = {"epochs": 4000}  # a shard takes seconds
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


FIRST, SECOND, THIRD, UNTRAINED = (people(n, 25) for n in ("first", "second", "third", "untrained"))
AGAIN = more_of(FIRST, "again", 8)
ALL = FIRST + SECOND + AGAIN + THIRD + UNTRAINED


def without(records, gone):
    return [r for r in records if r["subject"] not in gone and r["id"] not in gone]


def grown(daemon, **config):
    """A model with two appended slices, and an open one that was never trained."""
    daemon.create(**{**MODEL, **config})
    daemon.load("m", FIRST)
    daemon.train("m")
    daemon.load("m", SECOND + AGAIN)
    daemon.train("m")
    daemon.load("m", THIRD)
    daemon.train("m")
    daemon.load("m", UNTRAINED)
    return daemon


def served(daemon):
    m = daemon.model("m")
    assert m["state"] == "ready" and m["degraded_constituents"] == 0, m
    return m["served_hash"]


def fresh(make_daemon, of, records, **config):
    """What is served by one that was loaded with these records, in another order, and trained once."""
    d = make_daemon(key_of=of)
    d.create(**{**MODEL, **config})
    d.load("m", random.sample(records, len(records)))
    d.train("m")
    return served(d)


def test_it_is_the_model_that_was_trained_once(make_daemon):
    d = grown(make_daemon())
    assert max(len(s["slices"]) for s in d.ok("GET", "/v1/models/m/shards")["shards"]) == 6
    job = d.compact("m")
    assert job["kind"] == "compact" and job["result"]["slices_removed"] == 6
    assert served(d) == fresh(make_daemon, d, ALL)
    shards = d.ok("GET", "/v1/models/m/shards")["shards"]
    assert all(len(s["slices"]) <= 3 and s["served_from_slice"] == 3 for s in shards), shards
    assert sum(x["live"] for s in shards for x in s["slices"]) == len(ALL) == d.model("m")["records"]
    assert all(s["identical"] for s in d.verify("m"))
