# SPDX-License-Identifier: Apache-2.0
"""Sections `erasures` and `predictions`: latency and rate over HTTP against a real daemon. The load
generator shares the machine's cores with the daemon, so both are slower than on machines of their
own; what stands beside them ran in the same repeat."""
import gzip
import json
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import rig

REPEATS = 7
SYNC_MS = 120
FEATURES = 8
# connections: erasures of one repeat
ERASURES = {1: 300, 8: 1500, 64: 5000}
SETTLE_SECONDS = 20
PREDICT_MS = 500


def column(runs, key, scale=1.0):
    return [r[key] * scale for r in runs]


# --- erasures ---------------------------------------------------------------------------------

def people(count):
    for i in range(count):
        features = [(i * 31 + k * 17) % 97 / 97 for k in range(FEATURES)]
        yield json.dumps({"id": f"r{i}", "subject": f"person-{i}@example.org",
                          "label": str(i % 2), "features": features}) + "\n"


def erasure_repeat(bin_dir, daemon, bodies, first):
    """One repeat: the limits of the disk, then each number of connections once."""
    result = {"sync": json.loads(rig.run_tool(bin_dir, "sync", daemon.sync_folder, SYNC_MS))}
    shutil.rmtree(daemon.sync_folder)
    Path(daemon.sync_folder).mkdir()
    settled = True
    for connections, requests in ERASURES.items():
        result[connections] = rig.http_load(bin_dir, daemon.port, "/v1/erasures", bodies=bodies,
                                            connections=connections, requests=requests,
                                            first=first)
        first += requests
        settled = daemon.settle(SETTLE_SECONDS) and settled
    return result, first, settled


def report_erasures(table, runs):
    sync = {k: [r["sync"][k] for r in runs] for k in runs[0]["sync"]}
    fsync = column(sync["fdatasync"], "p50_us", 1e-3)
    commit8 = column(sync["lmdb_8"], "mean_us", 1e-3)
    commits = [1e3 / ms for ms in commit8]
    puts = [512e6 / r["mean_us"] for r in sync["lmdb_512"]]
    table.group("the disk, same directory")
    table.figure("fdatasync of 200 bytes in place, median", "ms", fsync)
    for n in (1, 8, 512):
        table.figure(f"LMDB commit of {n} puts of 200 bytes, mean", "ms",
                     column(sync[f"lmdb_{n}"], "mean_us", 1e-3))
    for connections in ERASURES:
        of = [r[connections] for r in runs]
        table.group(f"POST /v1/erasures to 202, {connections} connection"
                    f"{'s' if connections > 1 else ''}")
        alone = connections == 1
        table.figure("latency, median", "ms", column(of, "p50_us", 1e-3),
                     [("fdatasync", fsync), ("LMDB commit of 8 puts", commit8)] if alone else None)
        table.figure("latency, 99th percentile", "ms", column(of, "p99_us", 1e-3))
        table.figure("rate", "erasures/s", column(of, "per_second"),
                     [("LMDB commits of 8 puts, one at a time", commits)] if alone else
                     [("LMDB puts/s at 512 a commit, over 8", [p / 8 for p in puts])])


def erasures(table, bin_dir, _full):
    table.heading("erasures", "durable and forgotten, over HTTP; distinct subjects of a trained "
                              "model; retrains run meanwhile at idle priority")
    total = REPEATS * sum(ERASURES.values())
    with rig.Daemon(bin_dir) as daemon:
        daemon.sync_folder = tempfile.mkdtemp(prefix="sync-", dir=Path(daemon.folder).parent)
        bodies = Path(daemon.sync_folder).with_suffix(".bodies")
        try:
            bodies.write_text("".join(f'{{"subjects":["person-{i}@example.org"]}}\n'
                                      for i in range(total)))
            daemon.ok("POST", "/v1/models", {"name": "people", "kind": "softmax", "classes": 2,
                                             "features": FEATURES, "epochs": 2})
            seconds = daemon.load("people", "".join(people(total)).encode())
            table.note(f"{total} subjects loaded in {seconds:.2f} s; 8 shards x 4 slices, "
                       f"trained in {daemon.train('people'):.2f} s")
            runs, first, settled = [], 0, True
            for _ in range(REPEATS):
                one, first, calm = erasure_repeat(bin_dir, daemon, bodies, first)
                runs.append(one)
                settled = settled and calm
            if not settled:
                table.note("some runs began before the erasures of the one before were completed")
            report_erasures(table, runs)
        finally:
            bodies.unlink(missing_ok=True)
            shutil.rmtree(daemon.sync_folder, ignore_errors=True)


# --- predictions ------------------------------------------------------------------------------

def digits():
    with gzip.open(rig.DIGITS_FILE, "rt") as f:
        for i, line in enumerate(f):
            values = [int(float(v)) for v in line.split(",")]
            yield {"id": f"d{i}", "subject": f"s{i}", "label": str(values[64]),
                   "features": values[:64]}


def ndjson(records):
    return "".join(json.dumps(r) + "\n" for r in records).encode()


DIGITS = {"name": "digits", "kind": "mlp", "features": 64, "dtype": "u8", "classes": 10,
          "hidden": [32], "shards": 4, "slices": 4, "epochs": 8, "learning_rate": 0.1}


class Nginx:
    """`return 200` of 200 bytes: what a server costs that computes nothing."""
    CONFIG = ("daemon off; worker_processes {workers}; pid {folder}/pid; error_log {folder}/e crit;\n"
              "events {{ worker_connections 1024; }}\n"
              "http {{ access_log off; keepalive_requests 100000000; server {{ listen 127.0.0.1:"
              "{port}; location / {{ return 200 \"{body}\"; }} }} }}\n")

    def __init__(self, program):
        import socket
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix="nginx-bench-")
        config = Path(self.folder) / "conf"
        config.write_text(self.CONFIG.format(workers=2, folder=self.folder, port=self.port,
                                             body="x" * 200))
        self.process = subprocess.Popen([program, "-c", str(config), "-p", self.folder],
                                        stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def keep_training(daemon, stop):
    """Trains a second model over and over beside the predictions; its own connection."""
    rounds = 0
    while not stop.is_set():
        name = f"busy{rounds}"
        daemon.ok("POST", "/v1/models", {**DIGITS, "name": name, "hidden": [256], "epochs": 2000})
        daemon.load(name, daemon.rows)
        job = daemon.ok("POST", f"/v1/models/{name}/train")["id"]
        stop.ready.set()
        while not stop.is_set():
            if daemon.ok("GET", f"/v1/jobs/{job}")["state"] in ("succeeded", "failed"):
                break
            time.sleep(0.05)
        daemon.ok("DELETE", f"/v1/models/{name}")
        rounds += 1


def predict_runs(bin_dir, port, bodies, nginx):
    """What one repeat measures, by name."""
    infer = "/v2/models/digits/infer"
    result = {n: rig.http_load(bin_dir, port, infer, bodies=bodies, connections=n, ms=PREDICT_MS)
              for n in (1, 16, 64)}
    result["health"] = rig.http_load(bin_dir, port, "/v2/health/live", connections=64,
                                     ms=PREDICT_MS)
    if nginx:
        result["nginx"] = rig.http_load(bin_dir, nginx.port, "/", connections=64, ms=PREDICT_MS)
    return result


def busy_runs(bin_dir, daemon, bodies):
    stop = threading.Event()
    stop.ready = threading.Event()
    trainer = threading.Thread(target=keep_training, args=(daemon, stop))
    trainer.start()
    try:
        if not stop.ready.wait(60):
            raise RuntimeError("no training began")
        time.sleep(0.3)
        return [rig.http_load(bin_dir, daemon.port, "/v2/models/digits/infer", bodies=bodies,
                              connections=64, ms=PREDICT_MS) for _ in range(REPEATS)]
    finally:
        stop.set()
        trainer.join()


def report_predictions(table, runs, busy):
    floor = [("GET /v2/health/live of this server", [r["health"]["per_second"] for r in runs])]
    if "nginx" in runs[0]:
        floor.append(("nginx return", [r["nginx"]["per_second"] for r in runs]))
    for connections in (1, 16, 64):
        of = [r[connections] for r in runs]
        table.group(f"{connections} connection{'s' if connections > 1 else ''}")
        table.figure("rate", "requests/s", column(of, "per_second"),
                     floor if connections == 64 else None)
        table.figure("latency, median", "ms", column(of, "p50_us", 1e-3))
        table.figure("latency, 99th percentile", "ms", column(of, "p99_us", 1e-3))
    table.group("64 connections while another model trains on all workers")
    table.figure("rate", "requests/s", column(busy, "per_second"),
                 [("the rate without training", [r[64]["per_second"] for r in runs])])
    table.figure("latency, median", "ms", column(busy, "p50_us", 1e-3))
    table.figure("latency, 99th percentile", "ms", column(busy, "p99_us", 1e-3),
                 [("the same without training", [r[64]["p99_us"] / 1e3 for r in runs])])
    table.group("servers that compute nothing, 64 connections")
    for what, values in floor:
        table.figure(what, "requests/s", values)


def predictions(table, bin_dir, _full):
    table.heading("predictions", "one row of 64 features as JSON to /v2/models/digits/infer; digits, "
                                 "64-32-10, 4 shards; all three outputs")
    if not rig.DIGITS_FILE.exists():
        table.skip(f"{rig.DIGITS_FILE.name} is not there")
        return
    records = list(digits())
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    nginx = Nginx(program) if program else None
    if not nginx:
        table.skip("nginx is not installed, so its `return` is not beside the rates")
    with rig.Daemon(bin_dir) as daemon, tempfile.NamedTemporaryFile("w", suffix=".bodies") as f:
        try:
            daemon.ok("POST", "/v1/models", DIGITS)
            daemon.rows = ndjson(records)
            daemon.load("digits", daemon.rows)
            daemon.train("digits")
            for r in records[:512]:
                f.write(json.dumps({"inputs": [{"name": "input", "shape": [1, 64],
                                                "datatype": "FP32", "data": r["features"]}]}) + "\n")
            f.flush()
            runs = [predict_runs(bin_dir, daemon.port, f.name, nginx) for _ in range(REPEATS)]
            report_predictions(table, runs, busy_runs(bin_dir, daemon, f.name))
        finally:
            if nginx:
                nginx.close()
