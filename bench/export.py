# SPDX-License-Identifier: Apache-2.0
"""Section `export`: how fast the audit log leaves the daemon as CSV and as NDJSON, and what memory that
takes, beside sqlite3's own exports of the same rows. Both sides are read through a pipe or a socket by
this program, which counts and keeps nothing. It must not know what the entries mean."""
import csv
import http.client
import io
import json
import os
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import audit
import rig

ENTRIES, ENTRIES_FULL, REPEATS = 100_000, 1_000_000, 3
BATCH = 5000  # erasures of one request; four entries each, once it has completed
PIECE = 1 << 20
MIB = 1 << 20


class Memory(threading.Thread):
    """The most anonymous memory that a process has while this runs, over what it had before."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status = Path(f"/proc/{pid}/status")
        self.before = self.most = self.now()
        self.over = threading.Event()

    def now(self):
        text = self.status.read_text()
        return int(text.split("RssAnon:")[1].split()[0]) * 1024

    def run(self):
        while not self.over.wait(0.005):
            self.most = max(self.most, self.now())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def growth(self):
        return self.most - self.before


def drain(stream):
    """(lines, bytes)"""
    lines = size = 0
    while piece := stream.read(PIECE):
        lines += piece.count(b"\n")
        size += len(piece)
    return lines, size


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def export(daemon, kind):
    """(seconds, processor seconds of the daemon, lines, bytes, growth of its memory)"""
    http_ = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=rig.WAIT_SECONDS)
    with Memory(daemon.process.pid) as memory:
        begin, spent = time.monotonic(), processor_seconds(daemon.process.pid)
        http_.request("GET", "/v1/audit", headers={"Accept": kind})
        r = http_.getresponse()
        if r.status != 200:
            raise RuntimeError(f"export as {kind}: {r.status}")
        lines, size = drain(r)
        seconds, spent = time.monotonic() - begin, processor_seconds(daemon.process.pid) - spent
    http_.close()
    return seconds, spent, lines, size, memory.growth()


def fill(daemon, entries):
    """People who were never held are erased until the log is long enough; its length then, once nothing
    is added to it any more."""
    size, at = 0, 0
    while size < entries:
        count = min(BATCH, (entries - size + 3) // 4)
        audit.batch(daemon, [json.dumps({"subjects": [f"nobody-{at + i}"], "regulation": "gdpr"}) + "\n"
                             for i in range(count)])
        if not daemon.settle(rig.WAIT_SECONDS):
            raise RuntimeError("the erasures did not complete")
        size, at = audit.head(daemon)[0], at + count
    return size


def as_table(daemon, path):
    """The same rows in a table of sqlite3, six columns each, as the CSV has them."""
    import sqlite3
    http_ = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=rig.WAIT_SECONDS)
    http_.request("GET", "/v1/audit", headers={"Accept": "text/csv"})
    rows = csv.reader(io.TextIOWrapper(http_.getresponse(), encoding="utf-8", newline=""))
    columns = ", ".join(f'"{name}"' for name in next(rows))
    db = sqlite3.connect(path)
    with db:
        db.execute(f"create table log ({columns}, primary key (\"index\"))")
        db.executemany(f"insert into log values ({', '.join('?' * (columns.count(',') + 1))})", rows)
    db.close()
    http_.close()


def children_seconds():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def peer(path, option):
    """(seconds, processor seconds) of one export by the command line program."""
    begin, spent = time.monotonic(), children_seconds()
    with subprocess.Popen(["sqlite3", option, str(path), "select * from log"], stdout=subprocess.PIPE) as p:
        drain(p.stdout)
    if p.returncode != 0:
        raise RuntimeError(f"sqlite3 {option}: {p.returncode}")
    return time.monotonic() - begin, children_seconds() - spent


def exports(daemon, size, path):
    """[(name, sqlite3's option, ours, theirs)], each repeat of ours beside one of theirs."""
    found = []
    for name, kind, option, head in (("CSV", "text/csv", "-csv", 1), ("NDJSON", "application/x-ndjson", "-json", 0)):
        ours, theirs = [], []
        for _ in range(REPEATS):
            ours.append(export(daemon, kind))
            if ours[-1][2] - head != size:
                raise RuntimeError(f"{ours[-1][2] - head} of {size} entries were exported as {name}")
            if path is not None:
                theirs.append(peer(path, option))
        found.append((name, option, ours, theirs))
    return found


def measure(table, bin_dir, entries):
    with rig.Daemon(bin_dir) as daemon, tempfile.TemporaryDirectory(prefix="unlearnd-bench-export-") as folder:
        size = fill(daemon, entries)
        path = os.path.join(folder, "log.db") if shutil.which("sqlite3") is not None else None
        if path is not None:
            as_table(daemon, path)
        found = exports(daemon, size, path)
    table.group(f"a log of {size:,} entries")
    for name, option, ours, theirs in found:
        def beside(values, option=option):
            return [(f"sqlite3 {option}", values)] if values else None
        table.figure(f"{name}, processor time", "us/entry", [spent / size * 1e6 for _, spent, *_ in ours],
                     beside([spent / size * 1e6 for _, spent in theirs]))
        table.figure(f"{name}, by the clock", "entries/s", [size / t for t, *_ in ours],
                     beside([size / t for t, _ in theirs]))
        table.figure(f"{name}, by the clock", "MB/s", [b / t / 1e6 for t, _, _, b, _ in ours])
        table.figure(f"{name}, memory that the daemon took", "MiB", [m / MIB for *_, m in ours])
    if path is None:
        table.skip("sqlite3 is not installed, so that nothing stands beside it (apt-get install sqlite3)")


def run(table, bin_dir, full):
    table.heading("export", "the audit log as CSV and NDJSON, streamed over HTTP")
    for entries in (ENTRIES, ENTRIES_FULL) if full else (ENTRIES,):
        measure(table, bin_dir, entries)
