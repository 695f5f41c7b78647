# SPDX-License-Identifier: Apache-2.0
"""bench/load.py at a fiftieth of its size: everything is taken, everybody who was erased is gone, and
neither memory nor descriptors grow with the number of erasures."""
import os
import sys
from pathlib import Path

from conftest import BIN
from figures import figure

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
import load  # noqa: E402

RECORDS = int(os.environ.get("UNLEARND_LOAD_RECORDS", "20000"))
SLACK_BYTES = 4 << 20  # threads come and go, which takes half of one: a leak of 11 KB an erasure is more
SLACK_DESCRIPTORS = 24  # workers in flight, each with its pipes


def test_memory_and_descriptors_do_not_grow_with_erasures():
    r = load.run(BIN, RECORDS, RECORDS // 50, 1, say=lambda text: None)
    before = r["memory"]["train"][1]  # the end of it
    for phase in ("erase", "settle", "rest"):
        assert max(r["memory"][phase]) <= before + SLACK_BYTES, r["memory"]
    assert r["descriptors"]["rest"][1] <= r["descriptors"]["load"][0] + SLACK_DESCRIPTORS
    assert r["disk_after"]["rows"] == r["disk_before"]["rows"]
    figure("load", **{k: r[k] for k in ("records", "subjects", "erased")},
           memory_mb=round(max(m for pair in r["memory"].values() for m in pair) / 1e6, 1))
