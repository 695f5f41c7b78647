# SPDX-License-Identifier: Apache-2.0
"""Sections `adult`, `digits` and `purchase`: whole stories through the daemon, on real data where it
is there, with the times that the daemon itself recorded (milliseconds)."""
import csv
import gzip
import json
import random
import tempfile
import time

import rig
from serving import DIGITS, digits, ndjson

ADULT_FILE = rig.SHARED_DATA / "adult.csv.gz"
ADULT_TRAIN = 24000
ADULT_REPEATS = 3
ERASED = 20
NO_WINDOW = ("--gather-window-ms", "0")


# --- one erasure after another ----------------------------------------------------------------

def erase_one(daemon, subject):
    """Milliseconds: the answer as the client saw it, scrubbed and completed after acceptance."""
    begin = time.monotonic()
    e = daemon.ok("POST", "/v1/erasures", {"subjects": [subject]})
    answered = (time.monotonic() - begin) * 1e3
    if e["matched"] == 0:
        raise RuntimeError("an erasure matched nothing")
    e = daemon.wait(f"/v1/erasures/{e['id']}", ("completed",), pause=0.001)
    return {"answered": answered,
            "scrubbed": rig.seconds_between(e["accepted_at"], e["scrubbed_at"]) * 1e3,
            "completed": rig.seconds_between(e["accepted_at"], e["completed_at"]) * 1e3}


def report_erasures(table, daemon, subjects):
    times = [erase_one(daemon, s) for s in subjects]
    table.group(f"{len(times)} people erased one after another, gather window 0 (its default of "
                "200 ms would be added to completed)")
    table.figure("forgotten: the 202, seen by the client", "ms", [t["answered"] for t in times])
    table.figure("scrubbed, after acceptance", "ms", [t["scrubbed"] for t in times])
    table.figure("completed, after acceptance", "ms", [t["completed"] for t in times])
    return times


# --- adult ------------------------------------------------------------------------------------

def adult_records():
    with gzip.open(ADULT_FILE, "rt") as f:
        rows = list(csv.DictReader(f, delimiter=";"))
    label = "salary-class"
    columns = [{"name": n, "type": "numeric"} if n == "age" else
               {"name": n, "type": "categorical", "values": sorted({r[n] for r in rows})}
               for n in rows[0] if n != label]
    records = [{"id": f"a{i}", "subject": f"p{i}", "label": r[label],
                "columns": {n: float(v) if n == "age" else v for n, v in r.items() if n != label}}
               for i, r in enumerate(rows)]
    random.Random(1).shuffle(records)
    return records, columns, sorted({r[label] for r in rows})


def adult(table, bin_dir, _full):
    table.heading("adult", "census income through the tabular encoder; softmax, 8 shards x 4 slices; "
                           f"{ADULT_TRAIN} rows, the rest held out")
    if not ADULT_FILE.exists():
        table.skip("adult.csv.gz is not there (UCI Adult; see bench/README.md)")
        return
    records, columns, labels = adult_records()
    body, held_out = ndjson(records[:ADULT_TRAIN]), records[ADULT_TRAIN:]
    with rig.Daemon(bin_dir, *NO_WINDOW) as daemon:
        loads, trains = [], []
        for i in range(ADULT_REPEATS):
            daemon.ok("POST", "/v1/models", {"name": f"adult{i}", "kind": "softmax",
                                             "encoder": "tabular", "columns": columns,
                                             "classes": len(labels), "labels": labels})
            loads.append(daemon.load(f"adult{i}", body))
            trains.append(daemon.train(f"adult{i}"))
        table.figure("load as NDJSON over HTTP", "s", loads)
        table.figure("  that is", "rows/s", [ADULT_TRAIN / s for s in loads])
        table.figure("train, defaults (20 epochs), all workers", "s", trains)
        tested = [{k: r[k] for k in ("id", "label", "columns")} for r in held_out]
        accuracy = evaluate(daemon, "adult0", tested)
        table.figure(f"accuracy on {len(held_out)} rows held out", "", [accuracy])
        for i in range(1, ADULT_REPEATS):
            daemon.ok("DELETE", f"/v1/models/adult{i}")
        report_erasures(table, daemon, [r["subject"] for r in records[:ERASED]])


def evaluate(daemon, model, records):
    answer = daemon.ok("POST", f"/v1/models/{model}/evaluate", ndjson(records),
                       "application/x-ndjson")
    if answer["evaluated"] != len(records):
        raise RuntimeError(f"not every row was evaluated: {answer['errors'][:1]}")
    return answer["accuracy"]


# --- digits -----------------------------------------------------------------------------------

def digits_story(table, bin_dir, _full):
    table.heading("digits", "1,797 handwritten digits, 64-32-10, 4 shards x 4 slices, 8 epochs")
    if not rig.DIGITS_FILE.exists():
        table.skip(f"{rig.DIGITS_FILE.name} is not there")
        return
    records = list(digits())
    with rig.Daemon(bin_dir, *NO_WINDOW) as daemon:
        daemon.ok("POST", "/v1/models", DIGITS)
        table.figure("load as NDJSON over HTTP", "s", [daemon.load("digits", ndjson(records))])
        table.figure("train, all workers", "s", [daemon.train("digits")])
        people = random.Random(1).sample([r["subject"] for r in records], ERASED)
        report_erasures(table, daemon, people)


# --- purchase ---------------------------------------------------------------------------------

PURCHASE_ROWS, PURCHASE_FEATURES = 311519, 600
SHARDS, SLICES, EPOCHS = 20, 10, 20
GROUPS, DENSITY = 40, 0.09
PASSES = {False: 3, True: 2}


def purchase_npy(file, rows):
    """u8 [rows, 601], the label last; by blocks, with the same bytes for the same rows."""
    import numpy as np
    rng = np.random.default_rng(1)
    taste = rng.random((GROUPS, PURCHASE_FEATURES)) ** 4
    taste *= DENSITY / taste.mean()
    plane = rng.standard_normal(PURCHASE_FEATURES)
    out = np.lib.format.open_memmap(file, "w+", np.uint8, (rows, PURCHASE_FEATURES + 1))
    score = np.empty(rows)
    for at in range(0, rows, 8192):
        n = min(8192, rows - at)
        group = rng.integers(0, GROUPS, n)
        bits = rng.random((n, PURCHASE_FEATURES)) < taste[group]
        out[at:at + n, :-1] = bits
        score[at:at + n] = bits @ plane
    out[:, -1] = score > np.median(score)
    out.flush()


def id_in_each_slice(daemon, model, rows, rng):
    """slice -> the id of a record in it, drawn at random."""
    found = {}
    for _ in range(100 * SLICES):
        i = rng.randrange(rows)
        status, data = daemon.request("GET", f"/v1/models/{model}/records/p{i}")
        if status == 200:
            found.setdefault(json.loads(data)["slice"], f"p{i}")
        if len(found) == SLICES:
            return found
    raise RuntimeError("1,000 records and not one in every slice")


def retrain_after(daemon, model, subject):
    """(seconds of the worker's run, seconds from acceptance to completed)."""
    e = daemon.ok("POST", "/v1/erasures", {"subjects": [subject], "models": [model]})
    e = daemon.wait(f"/v1/erasures/{e['id']}", ("completed",), pause=0.002)
    shard = e["affected"][0]["shard"]
    jobs = [j for j in daemon.ok("GET", "/v1/jobs?limit=1000")["items"]
            if j["kind"] == "retrain" and j["shard"] == shard and j["model"] == model
            and j["state"] == "succeeded"]
    last = max(jobs, key=lambda j: j["ended_at"])
    return daemon.job_seconds(last), rig.seconds_between(e["accepted_at"], e["completed_at"])


def purchase_pass(daemon, model, npy, rows, rng):
    """Load, train everything, then one erasure in each slice, one after another."""
    daemon.ok("POST", "/v1/models", {
        "name": model, "kind": "mlp", "features": PURCHASE_FEATURES, "dtype": "bit",
        "classes": 2, "hidden": [128], "activation": "tanh", "shards": SHARDS,
        "slices": SLICES, "epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.01,
        "momentum": 0.0, "standardize": False})
    begin = time.monotonic()
    answer = daemon.ok("POST", f"/v1/models/{model}/records?id_prefix=p", npy,
                       "application/x-npy")
    result = {"load": time.monotonic() - begin}
    if answer["accepted"] != rows:
        raise RuntimeError(f"the upload was not taken whole: {answer}")
    result["train"] = daemon.train(model)
    ids = id_in_each_slice(daemon, model, rows, rng)
    times = {s: retrain_after(daemon, model, ids[s]) for s in sorted(ids)}
    result["retrain"] = sum(t[0] for t in times.values()) / SLICES
    result["completed"] = sum(t[1] for t in times.values()) / SLICES
    result["last"] = times[SLICES][0]
    # or the next pass could not hold the same people
    for item in daemon.ok("GET", "/v1/suppressions?limit=1000")["items"]:
        daemon.ok("DELETE", f"/v1/suppressions/{item['pseudonym']}")
    daemon.ok("DELETE", f"/v1/models/{model}")
    return result


def purchase(table, bin_dir, full):
    rows = PURCHASE_ROWS if full else PURCHASE_ROWS // 10
    table.heading("purchase", f"time to unlearn on the shape of the SISA paper's Purchase: {rows} x "
                              f"{PURCHASE_FEATURES} bits, {SHARDS} shards x {SLICES} slices")
    table.note("synthetic: 40 latent groups, 9 % density, label from a random hyperplane; 600-128-2 "
               "tanh, batch 16, 20 epochs; one worker" + ("" if full else "; a tenth of the rows, "
                                                          "--full for all"))
    with tempfile.NamedTemporaryFile(suffix=".npy") as f:
        purchase_npy(f.name, rows)
        npy = f.read()
    rng = random.Random(1)
    with rig.Daemon(bin_dir, *NO_WINDOW, "--workers", "1") as daemon:
        passes = [purchase_pass(daemon, f"purchase{i}", npy, rows, rng)
                  for i in range(PASSES[full])]
    report_purchase(table, rows, passes)


def report_purchase(table, rows, passes):
    theory = SHARDS / (1 - (SLICES - 1) / (3 * SLICES))
    last = SHARDS * (SLICES + 1) / 2
    column = {key: [p[key] for p in passes] for key in passes[0]}
    whole = column["train"]
    table.group("each repeat: load, train everything, then one erasure in each of the slices, whose "
                "mean is what a uniform request costs")
    table.figure("load as .npy over HTTP", "s", column["load"])
    table.figure("train everything, one worker", "s", whole)
    table.figure("  that is, of row files to checkpoints", "samples/s",
                 [rows * EPOCHS / s for s in whole])
    table.figure("retrain after an erasure, the worker's run", "s", column["retrain"])
    table.figure("accepted to completed", "s", column["completed"])
    for name, key, expected in (("everything / retrain", "retrain", theory),
                                ("everything / accepted to completed", "completed", theory),
                                ("everything / retrain of the last slice", "last", last)):
        table.figure(name, "x", [w / t for w, t in zip(whole, column[key])],
                     [(f"theory's {expected:.1f}", [expected] * len(whole))])
