#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what the machine is, then every section, each beside its peers or its limits in the
same run. Prints a table and writes build/bench.json. See bench/README.md."""
import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import audit
import export
import rig
import serving
import training
import whole

SECTIONS = {"training": training.run, "erasures": serving.erasures,
            "predictions": serving.predictions, "adult": whole.adult,
            "digits": whole.digits_story, "purchase": whole.purchase, "audit": audit.run, "export": export.run}
PACKAGES = ["libopenblas0-pthread", "liblmdb0", "libmicrohttpd12", "libuv1", "libsodium23"]


def output_of(*command):
    try:
        r = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return r.stdout.strip() if r.returncode == 0 else ""
    except OSError:
        return ""


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def machine_of(bin_dir):
    blas, lanes = rig.run_tool(bin_dir, "train", "info").split()
    scratch = tempfile.gettempdir()
    versions = output_of("dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *PACKAGES)
    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)),
            "kernel": f"{platform.system()} {platform.release()}",
            "blas_kernel": blas, "serving_kernel": lanes,
            "scratch": f"{scratch} on {output_of('stat', '-f', '-c', '%T', scratch)}",
            "load_average": os.getloadavg()[0],
            "unlearnd": output_of(str(bin_dir / "unlearnd"), "--version").removeprefix("unlearnd "),
            "versions": versions.splitlines() + [f"python3 {platform.python_version()}"]}


def say_machine(m, say):
    say(f"machine: {m['cpu']}, {m['cores']} cores, {m['kernel']}")
    say(f"kernels: OpenBLAS {m['blas_kernel']} (training), own {m['serving_kernel']} (serving); "
        f"data in {m['scratch']}")
    say(f"versions: unlearnd {m['unlearnd']}, {', '.join(m['versions'])}")
    say("median, then min .. max of the repeats; `= N x peer` is the median over repeats of our "
        "figure divided by the peer's")
    if m["load_average"] > 0.5:
        say(f"warning: the machine was not idle (load {m['load_average']:.2f}): rates are too low")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--bin", default="build", help="folder of the programs")
    p.add_argument("--only", default=",".join(SECTIONS), metavar="A,B",
                   help="sections: " + ", ".join(SECTIONS))
    p.add_argument("--full", action="store_true",
                   help="purchase with all its rows, audit with 10 million entries, export with a million (minutes)")
    args = p.parse_args()
    chosen = [s for s in args.only.split(",") if s]
    unknown = [s for s in chosen if s not in SECTIONS]
    if unknown:
        p.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    bin_dir = (rig.ROOT / args.bin).resolve()
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that daemons and folders go
    begin = time.monotonic()
    machine = machine_of(bin_dir)
    say_machine(machine, print)
    table = rig.Table()
    failed = []
    for name in SECTIONS:
        if name not in chosen:
            continue
        try:
            SECTIONS[name](table, bin_dir, args.full)
        except (OSError, RuntimeError, subprocess.SubprocessError) as e:
            failed.append(name)
            print(f"    failed: {e}")
    seconds = time.monotonic() - begin
    table.save(rig.ROOT / "build" / "bench.json", machine, seconds)
    print(f"\n{len(table.figures)} figures in {seconds:.0f} s: build/bench.json"
          + (f"; FAILED: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
