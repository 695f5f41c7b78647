# SPDX-License-Identifier: Apache-2.0
"""Section `audit`: does the log get slower as it grows, and does somebody else's verifier agree with
all of it: a log of 100,000 entries with 1,000 erasures of people who were held, and their
certificates, checked by tests/verifier (Go, golang.org/x/mod)."""
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import rig

SMALLEST, ENTRIES, ENTRIES_FULL = 10_000, 1_000_000, 10_000_000
GROWTH_SECONDS = 3600  # on a machine that has other things to do as well
ERASURES, LOG_SIZE = 1000, 100_000
GOPATH = Path("/usr/share/gocode")  # where Debian keeps Go libraries


def sizes_to(entries):
    """A decade each."""
    sizes = [SMALLEST]
    while sizes[-1] < entries:
        sizes.append(min(10 * sizes[-1], entries))
    return sizes


def growth(table, bin_dir, full):
    entries = ENTRIES_FULL if full else ENTRIES
    table.group(f"to {entries:,} entries, durable, signed and indexed in groups of 512; at each size 2,000 proofs of a kind")
    folder = tempfile.mkdtemp(prefix="unlearnd-bench-log-")
    try:
        lines = rig.run_tool(bin_dir, "log", folder, *sizes_to(entries), seconds=GROWTH_SECONDS).splitlines()
    finally:
        shutil.rmtree(folder)
    steps = [json.loads(line) for line in lines]
    for name, unit, key in (("an entry appended, processor time", "us", "append_us"),
                            ("of that, in the program itself", "us", "append_user_us"),
                            ("appended, by the clock", "entries/s", "append_per_s"),
                            ("inclusion proof", "us", "inclusion_us"),
                            ("inclusion proof, right after a start", "us", "inclusion_first_us"),
                            ("consistency proof", "us", "consistency_us"), ("full tile", "us", "tile_us")):
        for before, step in zip([None, *steps], steps):
            table.figure(f"{name}, {'to' if key.startswith('append') else 'at'} {step['size']:,}", unit, [step[key]],
                         before and [(f"{before['size']:,}", [before[key]])])
    last = steps[-1]
    table.figure(f"an entry appended, the last tenth to {last['size']:,}", "us", [last["append_last_us"]],
                 [(f"{steps[0]['size']:,}", [steps[0]["append_us"]])])
    table.figure("on disk", "bytes/entry", [last["bytes"] / last["size"]])


def build_verifier(folder):
    """The program, or None where Go is not installed."""
    if shutil.which("go") is None or not (GOPATH / "src/golang.org/x/mod/sumdb").is_dir():
        return None
    program = folder / "verifier"
    sources = sorted((rig.ROOT / "tests" / "verifier").glob("*.go"))
    subprocess.run(["go", "build", "-o", str(program), *map(str, sources)], check=True, cwd=folder,
                   env={**os.environ, "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOCACHE": str(folder / "cache")})
    return program


def tile_paths(size):
    """Every tile of a log of that size (under 256,000 entries), as C2SP tlog-tiles names them."""
    nodes, level = size, 0
    while nodes > 0:
        for n in range((nodes + 255) // 256):
            width = min(256, nodes - 256 * n)
            name = f"{n:03}" + ("" if width == 256 else f".p/{width}")
            yield f"{level}/{name}"
            if level == 0:
                yield f"entries/{name}"
        nodes, level = nodes // 256, level + 1


def get(daemon, path):
    status, body = daemon.request("GET", path)
    if status != 200:
        raise RuntimeError(f"{path}: {status}")
    return body


def head(daemon):
    note = get(daemon, "/v1/audit/checkpoint").decode()
    return int(note.split("\n")[1]), note


def batch(daemon, lines):
    status, body = daemon.request("POST", "/v1/erasures:batch", "".join(lines), "application/x-ndjson")
    if status != 200:
        raise RuntimeError(f"a batch: {status}")
    return [json.loads(line)["id"] for line in body.splitlines()]


def fill(daemon):
    """A model of 3,000 people, a third of whom are erased one after another; then people who were never
    held, until the log is long enough. The ids of the first ones."""
    daemon.ok("POST", "/v1/models", {"name": "m", "kind": "softmax", "features": 4, "classes": 2, "shards": 8,
                                     "slices": 4, "epochs": 1})
    rows = "".join(json.dumps({"id": f"r{i}", "subject": f"s{i}", "label": str(i % 2), "features": [i % 2, i % 3, i, 1]})
                   + "\n" for i in range(3 * ERASURES))
    daemon.request("POST", "/v1/models/m/records", rows, "application/x-ndjson")
    job = daemon.ok("POST", "/v1/models/m/train")
    daemon.wait(f"/v1/jobs/{job['id']}", ("succeeded",))
    ids = [daemon.ok("POST", "/v1/erasures", {"subjects": [f"s{i}"], "regulation": "gdpr"})["id"]
           for i in range(ERASURES)]
    size, at = head(daemon)[0], 0
    while size < LOG_SIZE:
        count = min(5000, (LOG_SIZE - size + 3) // 4)
        batch(daemon, [json.dumps({"subjects": [f"nobody-{at + i}"]}) + "\n" for i in range(count)])
        size, at = head(daemon)[0], at + count
    for i in ids:
        daemon.wait(f"/v1/erasures/{i}", ("completed",))
    return ids


def take(daemon, folder, ids):
    """What an auditor takes home: the log with every 100th inclusion proof, and the certificates."""
    size, note = head(daemon)
    (folder / "checkpoint").write_text(note)
    for path in [f"tile/{p}" for p in tile_paths(size)] + [f"{i}/proof" for i in range(0, size, 100)]:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(get(daemon, f"/v1/audit/{path}" + (f"?size={size}" if path.endswith("proof") else "")))
    pairs = []
    for i in ids:
        for what in ("certificate", "proof"):
            pairs.append(folder / f"{i}.{what}")
            pairs[-1].write_bytes(get(daemon, f"/v1/erasures/{i}/{what}"))
    return size, pairs


def auditor(table, bin_dir):
    folder = Path(tempfile.mkdtemp(prefix="unlearnd-bench-audit-"))
    try:
        program = build_verifier(folder)
        if program is None:
            table.skip("Go and golang-golang-x-mod-dev are not installed")
            return
        with rig.Daemon(bin_dir, "--gather-window-ms", "0") as daemon:
            ids = fill(daemon)
            copy = folder / "copy"
            copy.mkdir()
            size, pairs = take(daemon, copy, ids)
            key = get(daemon, "/v1/audit/key").decode()
        table.group(f"the independent verifier (Go), on a copy of a log of {size:,} entries with {len(ids):,} erasures")
        for what, args in (("log", ["-dir", copy, "-every", 100]), ("certificates", ["-certificates"])):
            begin = time.monotonic()
            r = subprocess.run([str(program), *map(str, args), "-vkey", key,
                                *(map(str, pairs) if what == "certificates" else [])],
                               capture_output=True, text=True)
            seconds = time.monotonic() - begin
            last = r.stdout.strip().splitlines()[-1]
            if r.returncode != 0:
                raise RuntimeError(f"the verifier: {last}")
            table.figure(f"{what} verified", "s", [seconds])
            held = r.stdout.count("records the certificate")
            table.note(last if what == "log" else f"{held} certificates hold; the last: {last}")
            if what == "certificates" and held != len(ids):
                raise RuntimeError(f"{held} of {len(ids)} certificates were verified")
    finally:
        shutil.rmtree(folder)


def run(table, bin_dir, full):
    table.heading("audit", "the log as it grows, and its independent verifier")
    growth(table, bin_dir, full)
    auditor(table, bin_dir)
