# SPDX-License-Identifier: Apache-2.0
"""What a client reads is served (invariant 4): between a commit and the snapshot that goes with it lies the
reading of checkpoints, made slow here, and another client looks all the time."""
import concurrent.futures
import json
import threading
import time

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


def of_second_slices(daemon, records):
    """Somebody of each shard whose erasure makes its first checkpoint be read again."""
    found = {}
    for record in records:
        at = daemon.ok("GET", f"/v1/models/digits/records/{record['id']}")
        if at["slice"] == 2:
            found[at["shard"]] = record["subject"]
    return list(found.values())


def matched(daemon, subject):
    return requests.post(f"{daemon.url}/v1/erasures?dry_run=true",
                         json={"subjects": [subject]}).json()["matched"]


def gauges(daemon, _):
    return [line for line in requests.get(daemon.url + "/metrics").text.splitlines()
            if line.startswith(("unlearnd_erasures_total ", "unlearnd_records_erased_total ",
                                "unlearnd_dirty_shards ", "unlearnd_audit_entries "))]


def first_change(daemon, look, subject, row):
    before = look(daemon, subject)
    while look(daemon, subject) == before:
        pass
    return generation(daemon, row)


@pytest.mark.parametrize("look", [matched, gauges])
def test_neither_a_dry_run_nor_the_metrics_are_ahead_of_what_is_served(slow, digits, look):
    daemon, faults = slow
    daemon.create(**{**DIGITS, "epochs": 1})
    daemon.load("digits", digits[:400])
    daemon.train("digits")
    row = digits[0]["features"]
    subject = of_second_slices(daemon, digits[:400])[0]
    before = generation(daemon, row)
    faults.on(F.OPEN, F.SLOW, name=".ckpt")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        looking = pool.submit(first_change, daemon, look, subject, row)
        time.sleep(0.1)
        daemon.ok("POST", "/v1/erasures", {"subjects": [subject]}, status=202)
        assert looking.result(60) > before
    assert faults.hit() > 0, "nothing was slow: the test showed nothing"


def ask_until(done, ask):
    """Asks again and again; the longest that an answer took, and all statuses."""
    worst, statuses = 0.0, set()
    while not done.is_set():
        begun = time.monotonic()
        statuses.add(ask().status_code)
        worst = max(worst, time.monotonic() - begun)
        time.sleep(0.005)
    return worst, statuses


def test_nobody_waits_for_a_publication_that_is_slow_but_who_asked_for_the_change(slow, digits):
    """Invariant 8. There are two HTTP threads; eight clients look at what changes all the time."""
    daemon, faults = slow
    daemon.create(**{**DIGITS, "shards": 10, "slices": 2, "epochs": 1})
    daemon.load("digits", digits[:400])
    daemon.train("digits")
    subjects = of_second_slices(daemon, digits[:400])
    daemon.create(**{**DIGITS, "name": "other", "shards": 1, "epochs": 1})
    daemon.load("other", digits[:100])
    daemon.train("other")
    first = daemon.erase(subjects=["nobody"])["id"]
    infer = {"inputs": [{"name": "input", "shape": [1, 64], "datatype": "FP32",
                         "data": digits[0]["features"]}]}
    looks = ["/v2/health/live", f"/v1/erasures/{first}", "/v1/erasures?limit=1", "/v1/jobs?limit=1",
             "/v1/models", "/v1/models/digits/shards", "/v1/audit?limit=1", "/v1/audit/checkpoint",
             "/metrics"]
    done = threading.Event()
    faults.on(F.OPEN, F.SLOW, name=".ckpt")
    with concurrent.futures.ThreadPoolExecutor(len(looks) + 2) as pool:
        asking = [pool.submit(ask_until, done, lambda url=daemon.url + path: requests.get(url))
                  for path in looks]
        asking.append(pool.submit(ask_until, done, lambda: requests.post(
            f"{daemon.url}/v2/models/other/infer", json=infer)))
        asking.append(pool.submit(ask_until, done, lambda: requests.post(
            f"{daemon.url}/v1/erasures?dry_run=true", json={"subjects": ["s2"]})))
        begun = time.monotonic()
        daemon.ok("POST", "/v1/erasures", {"subjects": subjects}, status=202)
        published = time.monotonic() - begun
        done.set()
        answers = [a.result(60) for a in asking]
    assert faults.hit() >= 5 and published > 1, "it was not slow: the test showed nothing"
    for worst, statuses in answers:
        assert statuses == {200}
        assert worst < published / 2
