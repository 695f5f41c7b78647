# SPDX-License-Identifier: Apache-2.0
"""What a client reads is served (invariant 4): between a commit and the snapshot that goes with it lies the
reading of checkpoints, made slow here, and another client looks all the time."""
import concurrent.futures
import json

import pytest
import requests
from conftest import DIGITS

import faults as F


@pytest.fixture
def slow(make_daemon, tmp_path):
    data = tmp_path / "data"
    faults = F.Faults(tmp_path / "faults", data)
    daemon = make_daemon("--gather-window-ms", "1", data_dir=data, env=faults.env)
    return daemon, faults


def generation(daemon, row):
    """Of what answers a prediction now; None where nothing clean is left to serve."""
    r = requests.post(f"{daemon.url}/v2/models/digits/infer", json={"inputs": [
        {"name": "input", "shape": [1, 64], "datatype": "FP32", "data": row}]})
    assert r.status_code in (200, 503), r.text
    return r.json()["parameters"]["generation"] if r.ok else None


def first_sight(daemon, path, seen, row):
    """Asks until `seen` holds of the answer; what was served right after it."""
    while True:
        answer = requests.get(daemon.url + path)
        if answer.ok and seen(answer.text):
            return generation(daemon, row)


PATHS = ["/v1/erasures?limit=1", "/v1/audit?type=erasure.forgotten&order=desc&limit=1"]


@pytest.mark.parametrize("path", PATHS)
def test_whoever_reads_that_a_person_is_forgotten_is_served_without_them(slow, digits, path):
    daemon, faults = slow
    daemon.create(**{**DIGITS, "epochs": 1})
    daemon.load("digits", digits[:400])
    daemon.train("digits")
    row = digits[0]["features"]
    before = generation(daemon, row)
    faults.on(F.OPEN, F.SLOW, name=".ckpt")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for subject in ("s3", "s11", "s29"):
            looking = pool.submit(first_sight, daemon, path, lambda t: f'"{subject}"' in t, row)
            e = daemon.ok("POST", "/v1/erasures", {"subjects": [subject], "reference": subject},
                          status=202)
            forgotten = looking.result(60)
            assert forgotten is None or forgotten > before
            completed = first_sight(daemon, f"/v1/erasures/{e['id']}",
                                    lambda t: json.loads(t)["state"] == "completed", row)
            assert completed > (forgotten or before)
            before = completed
    assert faults.hit() > 0, "nothing was slow: the test showed nothing"
