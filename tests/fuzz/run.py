#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzz targets. By default every seed and regression input once (`make test`); with --seconds N also N seconds
of fuzzing for each target, --jobs at a time (`make fuzz SECONDS=N`). An input that fails is kept in build/fuzz/findings/;
once the defect is mended, move it to tests/fuzz/regress/TARGET/ under a name that says what it was."""
import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from figures import figure  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
FINDINGS = ROOT / "build" / "fuzz" / "findings"
CORPUS = ROOT / "build" / "fuzz" / "corpus"
INPUT_BYTES_MAX = 4096
TARGETS = sorted(p.stem.removeprefix("fuzz_") for p in HERE.glob("fuzz_*.c"))


def run(target, arguments, seconds, scratch):
    env = {**os.environ, "TMPDIR": scratch, "UBSAN_OPTIONS": "print_stacktrace=1"}
    try:
        r = subprocess.run([str(ROOT / "build" / "fuzz" / f"fuzz_{target}"), *map(str, arguments)], env=env,
                           cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
        return r.returncode, r.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as e:
        return -1, (e.stdout or b"").decode(errors="replace") + "\nhangs"


def inputs_of(target):
    return sorted(p for kind in ("seeds", "regress") for p in (HERE / kind / target).glob("*"))


def replay(target, scratch):
    """(inputs that passed, output if one failed): a target stops at its first failure."""
    inputs = inputs_of(target)
    code, text = run(target, ["-timeout=10", f"-artifact_prefix={FINDINGS}/{target}-", *inputs], 300, scratch)
    passed = len(re.findall(r"^Executed ", text, re.M))
    ok = code == 0 and passed == len(inputs) > 0
    return passed, None if ok else text


def fuzz(target, seconds, seed, scratch):
    """One target for some seconds: executions, coverage, and the output if there was a finding."""
    corpus = CORPUS / target
    corpus.mkdir(parents=True, exist_ok=True)
    folders = [p for p in (corpus, HERE / "seeds" / target, HERE / "regress" / target) if p.is_dir()]
    code, text = run(target, [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={INPUT_BYTES_MAX}", "-timeout=10",
                              "-rss_limit_mb=2048", "-print_final_stats=1", f"-dict={HERE}/fuzz_{target}.dict",
                              f"-artifact_prefix={FINDINGS}/{target}-", *folders], seconds + 120, scratch)
    executions = re.search(r"number_of_executed_units: (\d+)", text)
    coverage = re.findall(r"cov: (\d+)", text)
    return (target, int(executions.group(1)) if executions else 0, int(coverage[-1]) if coverage else 0,
            text if code != 0 else None)


def show_failure(target, text):
    print(f"--- {target} ---")
    print("\n".join(text.splitlines()[-60:]))


def replay_all(scratch):
    with ThreadPoolExecutor(2) as pool:
        results = list(zip(TARGETS, pool.map(lambda t: replay(t, scratch), TARGETS)))
    for target, (_, text) in results:
        if text is not None:
            show_failure(target, text)
    return sum(n for _, (n, _) in results), sum(text is not None for _, (_, text) in results)


def fuzz_all(seconds, seed, jobs, scratch):
    executions = findings = 0
    with ThreadPoolExecutor(jobs) as pool:
        for target, n, coverage, text in pool.map(lambda t: fuzz(t, seconds, seed, scratch), TARGETS):
            found = int(text is not None)
            print(f"{target:12} {n:10} executions {coverage:6} edges {found:3} findings", flush=True)
            executions += n
            findings += found
            if found:
                show_failure(target, text)
    figure("fuzzing", targets=len(TARGETS), seconds_each=seconds, executions=executions, findings=findings)
    return findings


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seconds", type=int, default=0)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--seed", type=int, default=0, help="of libFuzzer's dice; 0: another one each time")
    args = p.parse_args()
    FINDINGS.mkdir(parents=True, exist_ok=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # targets that read files write one an input
    with tempfile.TemporaryDirectory(prefix="unlearnd-fuzz-", dir=memory) as scratch:
        passed, failed = replay_all(scratch)
        figure("fuzz inputs replayed", inputs=passed, targets=len(TARGETS), failed=failed)
        if args.seconds > 0:
            failed += fuzz_all(args.seconds, args.seed, args.jobs, scratch)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
