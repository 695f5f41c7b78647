# SPDX-License-Identifier: Apache-2.0
"""The life of an erasure under valgrind's memcheck, daemon and workers alike: no byte is read that was not written, none
outside what was allocated, and nothing is lost. `make valgrind` sets UNLEARND_WRAPPER and UNLEARND_MEMCHECK, the folder of
the reports. Memcheck's processor has no AVX-512, so the AVX2 lanes and OpenBLAS's Haswell kernels are what runs."""
import json
import os
import re
from pathlib import Path

import pytest

from conftest import DIGITS

REPORTS = os.environ.get("UNLEARND_MEMCHECK")
pytestmark = pytest.mark.skipif(not REPORTS, reason="run by make valgrind")
FEW = DIGITS | {"shards": 2, "slices": 2, "epochs": 2, "hidden": [8], "optimizer": "adam"}


def errors_of(report):
    """(errors, bytes definitely lost) of one process."""
    text = report.read_text()
    errors = re.findall(r"ERROR SUMMARY: ([\d,]+) errors", text)
    assert errors, f"{report} has no summary: {text[-500:]}"
    lost = re.findall(r"definitely lost: ([\d,]+) bytes", text)
    return int(errors[-1].replace(",", "")), sum(int(n.replace(",", "")) for n in lost)


def live_through_an_erasure(daemon, digits):
    daemon.create(**FEW)
    assert daemon.load("digits", digits[:60])["accepted"] == 60
    daemon.train("digits")
    row = digits[7]["features"]
    assert daemon.infer("digits", [row, digits[8]["features"]]).status_code == 200
    assert daemon.erase(subjects=[digits[7]["subject"]])["state"] == "completed"  # scrubbed and retrained
    assert daemon.infer("digits", [row]).status_code == 200
    assert all(s["identical"] for s in daemon.verify("digits"))
    assert daemon.load("digits", digits[5:10])["accepted"] == 0  # no resurrection
    assert daemon.post("/v1/erasures", {"subjects": []}).status_code == 422
    daemon.ok("GET", "/v1/audit")
    daemon.restart()
    assert daemon.infer("digits", [row]).status_code == 200
    daemon.ok("DELETE", "/v1/models/digits")


def test_an_erasure_reads_no_unwritten_byte_and_loses_none(daemon, digits):
    live_through_an_erasure(daemon, digits)
    daemon.stop()
    reports = sorted(Path(REPORTS).glob("memcheck.*"))
    assert len(reports) >= 2 + 2 * FEW["shards"]  # two lives of the daemon, workers of a training and of a retrain
    counts = {r.name: errors_of(r) for r in reports}
    errors, lost = (sum(c[i] for c in counts.values()) for i in (0, 1))
    print(f"figure: memcheck processes {len(reports)}, errors {errors}, bytes lost {lost}")
    if os.environ.get("UNLEARND_FIGURES"):
        with open(os.environ["UNLEARND_FIGURES"], "a", encoding="utf-8") as f:
            f.write(json.dumps({"item": "memcheck", "processes": len(reports), "errors": errors, "lost": lost}) + "\n")
    assert errors == lost == 0, counts
