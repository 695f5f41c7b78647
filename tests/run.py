#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every test and adds up: unit programs (cmocka), the layer table, the inputs of the fuzz targets,
the tests of the running daemon (pytest).
The last line is `N passed, N failed, N skipped`; exit status 0 only without a failure."""
import argparse
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNIT_SECONDS = 480
PRINTING = threading.Lock()
PYTEST = ["crash", "api", "browser", "reference"]  # the longest first
# An assertion that fails in a thread of a test fails the test; the Makefile says the same.
STRICT = ["-W", "error::pytest.PytestUnhandledThreadExceptionWarning"]
FIGURES = ROOT / "build" / "figures.jsonl"  # what the tests counted: see tests/reliability.py


def longest_first(binary):
    return (binary.name != "test_store_check", binary.name)


def run_unit(binary):
    """((passed, failed, skipped), report) of one cmocka program; a crash counts as a failure."""
    try:
        r = subprocess.run([str(binary)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=UNIT_SECONDS, cwd=ROOT)
        text, code = r.stdout.decode(errors="replace"), r.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode(errors="replace") + "\ntimed out", -1
    passed = len(re.findall(r"^\[       OK \]", text, re.M))
    failed = len(set(re.findall(r"^\[  FAILED  \] (?:[^:]+: )?([A-Za-z_]\w*)", text, re.M)))
    skipped = len(re.findall(r"^\[  SKIPPED \] (?!\w+: \d+ test|\d+ test)", text, re.M))
    skipped = min(skipped, 1000)
    if code != 0 and failed == 0:
        failed = 1
    if code == 0 and passed == 0 and skipped == 0:
        failed, text = 1, text + "\nran no test"
    return (passed, failed, skipped), text if failed else ""


def count_pytest(code, said, extra):
    """(passed, failed, skipped) of pytest's exit status and report. What is printed after the summary is not
    the summary, and an end that the summary does not explain is a failure."""
    summaries = re.findall(r"^(?:=+ )?(\d+ [a-z]+(?:, \d+ [a-z]+)*) in [0-9.]+s", said, re.M)
    count = {k: int(n) for n, k in re.findall(r"(\d+) ([a-z]+)", summaries[-1] if summaries else "")}
    passed, skipped = count.get("passed", 0), count.get("skipped", 0)
    failed = count.get("failed", 0) + count.get("error", 0) + count.get("errors", 0)
    if failed == 0 and (code not in (0, 5) or (passed + skipped == 0 and not extra)):
        failed = 1
    return passed, failed, skipped


def run_pytest(bin_dir, path, extra):
    """One file of tests; its whole report is kept in build/pytest/."""
    report = ROOT / "build" / "pytest" / f"{path.parent.name}-{path.stem}.log"
    report.parent.mkdir(parents=True, exist_ok=True)
    env = {"UNLEARND_FIGURES": str(FIGURES), **os.environ,
           "UNLEARND_BIN": str((ROOT / bin_dir).resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    r = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rsfE", "-p", "no:cacheprovider", *STRICT,
                        *extra, os.path.relpath(path, ROOT)], cwd=ROOT, env=env,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    report.write_text(r.stdout)
    counts = count_pytest(r.returncode, r.stdout, extra)
    skips = [line for line in r.stdout.splitlines() if line.startswith("SKIPPED")]
    return counts, r.stdout[-12000:] if counts[1] else "\n".join(skips)


def run_fuzz():
    """Every seed and regression input through its fuzz target."""
    r = subprocess.run([sys.executable, "tests/fuzz/run.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                       env={"UNLEARND_FIGURES": str(FIGURES), **os.environ})
    print(r.stdout)
    count = re.search(r"replayed: inputs (\d+), .* failed (\d+)$", r.stdout, re.M)
    return (int(count.group(1)), int(count.group(2)), 0) if count else (0, 1, 0)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", default="build")
    p.add_argument("--only", choices=["unit", "layers", "fuzz", *PYTEST])
    p.add_argument("rest", nargs="*", help="more arguments for pytest")
    args = p.parse_args()
    total = [0, 0, 0]
    FIGURES.parent.mkdir(exist_ok=True)
    if args.only is None:
        FIGURES.unlink(missing_ok=True)

    def add(name, counts, began):
        for i in range(3):
            total[i] += counts[i]
        state = "FAILED" if counts[1] else "ok"
        print(f"{name:32} {counts[0]:4} passed {counts[1]:3} failed {counts[2]:3} skipped"
              f"  {time.monotonic() - began:6.1f} s  {state}", flush=True)

    if args.only in (None, "unit"):
        binaries = [b for b in sorted((ROOT / args.bin / "tests").glob("test_*"), key=longest_first)
                    if (ROOT / "tests" / "unit" / f"{b.name}.c").exists()]  # or its source is gone
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            def run_one(binary):
                began = time.monotonic()
                counts, text = run_unit(binary)
                with PRINTING:
                    if text:
                        print(text)
                    add(binary.name, counts, began)
            list(pool.map(run_one, binaries))
    if args.only in (None, "layers"):
        began = time.monotonic()
        r = subprocess.run([sys.executable, "tests/layers/check.py", args.bin], cwd=ROOT)
        add("layers", (int(r.returncode == 0), int(r.returncode != 0), 0), began)
    if args.only in (None, "fuzz"):
        began = time.monotonic()
        add("fuzz", run_fuzz(), began)
    # three at a time: most of the time of a daemon under test is waiting
    folders = [f for f in PYTEST if args.only in (None, f)]
    files = [p for f in folders for p in sorted((ROOT / "tests" / f).glob("test_*.py"))]
    with ThreadPoolExecutor(3) as pool:
        def run(path):
            began = time.monotonic()
            counts, text = run_pytest(args.bin, path, args.rest)
            with PRINTING:
                if text:
                    print(text)
                add(f"{path.parent.name}/{path.stem}", counts, began)
        list(pool.map(run, files))
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
