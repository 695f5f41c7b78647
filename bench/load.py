#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One daemon under its full load: a model of RECORDS rows of 600 bits from RECORDS / 10 people (the
shape of the Purchase data set), loaded, trained, and a tenth of the people erased while predictions go
on. Prints what it took in time, memory, disk and descriptors, and whether anything grew with the
number of erasures. `make load-run` runs it at a million records; it needs 5 GB of disk."""
import argparse
import io
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np

import rig

FEATURES, CLASSES, RECORDS_A_PERSON = 600, 10, 10
CHUNK = 2000  # records made at a time
MODEL = {"name": "purchase", "kind": "softmax", "features": FEATURES, "dtype": "bit",
         "classes": CLASSES, "shards": 16, "slices": 8, "epochs": 1, "batch_size": 128,
         "learning_rate": 0.01}


# --- the data ---------------------------------------------------------------------------------

def rows(rng, prototypes, n):
    """Bits that lean towards the prototype of their class."""
    labels = rng.integers(0, CLASSES, n)
    x = rng.random((n, FEATURES), dtype=np.float32) < 0.1 + 0.3 * prototypes[labels]
    return x.astype(np.uint8), labels


def csv_of(first, x, labels):
    text = np.full((len(x), 2 * FEATURES), ord(","), np.uint8)
    text[:, 1::2] = x + ord("0")
    return b"".join(b"r%d,s%d,%d" % (i, i // RECORDS_A_PERSON, labels[i - first])
                    + text[i - first].tobytes() + b"\n" for i in range(first, first + len(x)))


def body(records, seed):
    """The upload, made as it is sent: no part of it is kept."""
    rng = np.random.default_rng(seed)
    prototypes = rng.random((CLASSES, FEATURES)) < 0.5
    yield b"id,subject,label," + b",".join(b"f%d" % i for i in range(FEATURES)) + b"\n"
    for first in range(0, records, CHUNK):
        yield csv_of(first, *rows(rng, prototypes, min(CHUNK, records - first)))


# --- what the daemon uses ---------------------------------------------------------------------

def memory_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def disk_bytes(folder):
    total = {"control.mdb": 0, "rows": 0, "checkpoints": 0}
    for path in Path(folder).rglob("*"):
        try:
            size = path.stat().st_blocks * 512 if path.is_file() else 0
        except FileNotFoundError:
            continue
        kind = {"control.mdb": "control.mdb"}.get(path.name, path.suffix)
        kind = {".rows": "rows", ".ckpt": "checkpoints"}.get(kind, kind)
        if kind in total:
            total[kind] += size
    return total


class Sampler(threading.Thread):
    """Memory and descriptors of the daemon, ten times a second, under the phase of the moment, of which
    each has one sample at least."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.samples, self.ended = pid, {}, threading.Event()
        self.begin("start")

    def begin(self, phase):
        self.samples[phase] = []
        self.phase = phase
        self.take()

    def take(self):
        self.samples[self.phase].append((memory_bytes(self.pid), descriptors(self.pid)))

    def run(self):
        while not self.ended.wait(0.1):
            self.take()

    def halves(self, phase, what):
        """The largest of the first and of the second half."""
        values = [s[what] for s in self.samples[phase]]
        middle = max(1, len(values) // 2)
        return max(values[:middle]), max(values[middle:] or values)


class Predictions(threading.Thread):
    """One client that asks for 16 rows without pause; an answer that is not 200 or 503 is an error."""

    def __init__(self, daemon, seed):
        super().__init__(daemon=True)
        rng = np.random.default_rng(seed)
        x = (rng.random((16, FEATURES)) < 0.2).astype(int).tolist()
        self.daemon = rig.Daemon.__new__(rig.Daemon)
        self.daemon.port, self.daemon.http = daemon.port, None
        self.body = json.dumps({"inputs": [{"name": "input", "shape": [16, FEATURES],
                                            "datatype": "FP32", "data": x}]})
        self.ended, self.seconds, self.unavailable, self.error = threading.Event(), [], 0, None

    def run(self):
        while not self.ended.is_set():
            began = time.monotonic()
            status, data = self.daemon.request("POST", "/v2/models/purchase/infer", self.body)
            self.seconds.append(time.monotonic() - began)
            if status == 503:
                self.unavailable += 1
            elif status != 200:
                self.error = f"{status} {data[:200]!r}"
                return


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))]


# --- the run ----------------------------------------------------------------------------------

def upload(daemon, records, seed):
    import http.client
    c = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=3600)
    began = time.monotonic()
    c.request("POST", "/v1/models/purchase/records", body(records, seed),
              {"Content-Type": "text/csv"}, encode_chunked=True)
    answer = json.loads(c.getresponse().read())
    if answer.get("accepted") != records:
        raise RuntimeError(f"the upload was not taken whole: {answer}")
    return time.monotonic() - began


def erase(daemon, people, pause):
    """One request a person, as they come in a real service; milliseconds to each answer."""
    times = []
    for p in people:
        began = time.monotonic()
        answer = daemon.ok("POST", "/v1/erasures", {"subjects": [f"s{p}"]})
        times.append((time.monotonic() - began) * 1e3)
        if answer["matched"] != RECORDS_A_PERSON:
            raise RuntimeError(f"person {p}: {answer}")
        time.sleep(pause)
    return times


def check_gone(daemon, people):
    for p in people[:: max(1, len(people) // 200)]:
        status, _ = daemon.request("GET", f"/v1/models/purchase/records/r{p * RECORDS_A_PERSON}")
        if status != 404:
            raise RuntimeError(f"person {p} is still held ({status})")


def run(bin_dir, records, erased, seed, say=print):
    rng = random.Random(seed)
    people = rng.sample(range(records // RECORDS_A_PERSON), erased)
    result = {"records": records, "subjects": records // RECORDS_A_PERSON, "erased": erased,
              "seed": seed}
    with rig.Daemon(bin_dir) as daemon:
        sampler = Sampler(daemon.process.pid)
        sampler.start()

        def phase(name):
            sampler.begin(name)
            return time.monotonic()

        daemon.ok("POST", "/v1/models", MODEL)
        phase("load")
        result["load_seconds"] = upload(daemon, records, seed)
        say(f"loaded {records} records in {result['load_seconds']:.1f} s")
        phase("train")
        result["train_seconds"] = daemon.train("purchase")
        say(f"trained in {result['train_seconds']:.1f} s")
        result["disk_before"] = disk_bytes(daemon.folder)
        began = phase("erase")
        clients = Predictions(daemon, seed)
        clients.start()
        times = erase(daemon, people, 0)
        result["erase_seconds"] = time.monotonic() - began
        say(f"erased {erased} people in {result['erase_seconds']:.1f} s; waiting for retrains")
        began = phase("settle")
        if not daemon.settle(3600):
            raise RuntimeError("the erasures did not complete")
        result["settle_seconds"] = time.monotonic() - began
        clients.ended.set()
        clients.join()
        if clients.error:
            raise RuntimeError(f"a prediction failed: {clients.error}")
        phase("rest")
        check_gone(daemon, people)
        model = daemon.ok("GET", "/v1/models/purchase")
        if model["records"] != records - erased * RECORDS_A_PERSON:
            raise RuntimeError(f"the model holds {model['records']} records")
        time.sleep(1)
        sampler.ended.set()
        sampler.join()
        result["erase_ms"] = {"p50": percentile(times, .5), "p99": percentile(times, .99),
                              "max": max(times)}
        result["predict_ms"] = {"p50": percentile(clients.seconds, .5) * 1e3,
                                "p99": percentile(clients.seconds, .99) * 1e3,
                                "answers": len(clients.seconds), "unavailable": clients.unavailable}
        result["disk_after"] = disk_bytes(daemon.folder)
        result["memory"] = {p: sampler.halves(p, 0) for p in sampler.samples}
        result["descriptors"] = {p: sampler.halves(p, 1) for p in sampler.samples}
        result["map_bytes_used"] = daemon.gauge("unlearnd_store_used_bytes")
    return result


def table(r):
    mb = 1e6
    out = io.StringIO()
    print(f"| {r['records']:,} records of {FEATURES} bits, {r['subjects']:,} people | |\n|---|---|",
          file=out)
    print(f"| load (CSV over HTTP) | {r['load_seconds']:.1f} s, "
          f"{r['records'] / r['load_seconds']:,.0f} records/s |", file=out)
    print(f"| train, 16 shards x 8 slices | {r['train_seconds']:.1f} s |", file=out)
    print(f"| {r['erased']:,} erasures, one request each, one connection | "
          f"{r['erase_seconds']:.1f} s; 202 after p50 {r['erase_ms']['p50']:.2f}, p99 "
          f"{r['erase_ms']['p99']:.2f}, at most {r['erase_ms']['max']:.1f} ms |", file=out)
    print(f"| all of them completed after the last 202 | {r['settle_seconds']:.1f} s |", file=out)
    print(f"| predictions of 16 rows meanwhile | {r['predict_ms']['answers']:,} answers, p50 "
          f"{r['predict_ms']['p50']:.2f}, p99 {r['predict_ms']['p99']:.2f} ms; "
          f"{r['predict_ms']['unavailable']} times 503 |", file=out)
    for phase, (first, second) in r["memory"].items():
        print(f"| memory of the daemon, {phase} (first half, second half) | {first / mb:.0f} MB, "
              f"{second / mb:.0f} MB; descriptors {r['descriptors'][phase][0]}, "
              f"{r['descriptors'][phase][1]} |", file=out)
    for when in ("before", "after"):
        d = r[f"disk_{when}"]
        print(f"| disk {when} the erasures | control.mdb {d['control.mdb'] / mb:.0f} MB, rows "
              f"{d['rows'] / mb:.0f} MB, checkpoints {d['checkpoints'] / mb:.1f} MB |", file=out)
    return out.getvalue()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--bin", default="build")
    p.add_argument("--records", type=int, default=1000000)
    p.add_argument("--erased", type=int)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--json", help="also write the figures to this file")
    a = p.parse_args()
    r = run(rig.ROOT / a.bin, a.records, a.erased or a.records // 100, a.seed)
    print(table(r))
    if a.json:
        Path(a.json).write_text(json.dumps(r, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
