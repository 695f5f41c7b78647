# SPDX-License-Identifier: Apache-2.0
"""What is overdue: in the views, in the metrics, and once in the log, whatever restarts or crashes."""
import time
from datetime import datetime, timedelta, timezone

from conftest import DIGITS


def soon(**delta):
    t = datetime.now(timezone.utc) + timedelta(**delta)
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + f"{t.microsecond // 1000:03d}Z"


def overdue_entries(d):
    return d.ok("GET", "/v1/audit?type=erasure.overdue")["items"]


def wait_for(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


def metric(d, name):
    return float(next(x for x in d.get("/metrics").text.splitlines() if x.startswith(name + " ")).split()[1])


def test_a_deadline_that_passes_is_said_once(make_daemon, digits):
    d = make_daemon()
    d.create(**DIGITS)
    d.load("digits", digits[:50])
    assert metric(d, "unlearnd_nearest_deadline_seconds") != metric(d, "unlearnd_nearest_deadline_seconds")
    late = d.ok("POST", "/v1/erasures", {"subjects": ["s1"], "hold": True, "reference": "DSR-1",
                                         "regulation": "ccpa", "deadline": soon(seconds=1)})
    other = d.ok("POST", "/v1/erasures", {"subjects": ["s2"], "hold": True, "deadline": soon(hours=1)})
    assert not late["overdue"] and metric(d, "unlearnd_overdue_erasures") == 0
    assert 0 < metric(d, "unlearnd_nearest_deadline_seconds") <= 1
    entry, = wait_for(lambda: overdue_entries(d))
    assert entry["data"] == {"erasure": late["id"], "reference": "DSR-1", "regulation": "ccpa",
                             "deadline": late["deadline"]}
    assert entry["time"] > late["deadline"]
    assert metric(d, "unlearnd_overdue_erasures") == 1
    assert metric(d, "unlearnd_nearest_deadline_seconds") < 0
    assert [e["id"] for e in d.ok("GET", "/v1/erasures?overdue=true")["items"]] == [late["id"]]
    assert [e["id"] for e in d.ok("GET", "/v1/erasures?overdue=false")["items"]] == [other["id"]]
    d.kill()
    d.start()
    time.sleep(1.2)
    d.restart()
    time.sleep(1.2)
    assert overdue_entries(d) == [entry]
    d.ok("POST", f"/v1/erasures/{late['id']}/release")
    assert d.wait_erasure(late["id"])["overdue"]
    assert overdue_entries(d) == [entry]
    assert metric(d, "unlearnd_overdue_erasures") == 0
    assert 3500 < metric(d, "unlearnd_nearest_deadline_seconds") <= 3600
    assert [e["id"] for e in d.ok("GET", "/v1/erasures?overdue=true")["items"]] == [late["id"]]


def test_a_deadline_that_passes_while_nobody_runs_is_said_at_the_start(make_daemon, digits):
    d = make_daemon()
    d.create(**DIGITS)
    ids = [d.ok("POST", "/v1/erasures", {"subjects": [f"s{i}"], "hold": True,
                                         "deadline": soon(seconds=1)})["id"] for i in range(300)]
    d.kill()
    time.sleep(1.1)
    d.start()
    wait_for(lambda: metric(d, "unlearnd_overdue_erasures") == 300)
    wait_for(lambda: len(d.ok("GET", "/v1/audit?type=erasure.overdue&limit=1000")["items"]) == 300)
    assert {e["data"]["erasure"] for e in
            d.ok("GET", "/v1/audit?type=erasure.overdue&limit=1000")["items"]} == set(ids)
    d.ok("POST", f"/v1/erasures/{ids[0]}/refuse", {"reason_code": "duplicate"})
    assert metric(d, "unlearnd_overdue_erasures") == 299


def test_what_ends_late_is_noted_as_it_ends(daemon, digits):
    """Its end comes before anybody has looked at the clock."""
    daemon.create(**DIGITS)
    e = daemon.erase(wait=False, subjects=["nobody"], received_at="2020-01-31T09:00:00Z")
    assert e["state"] == "completed" and e["overdue"] and e["deadline"].startswith("2020-02-29T09")
    entry, = overdue_entries(daemon)
    assert entry["data"]["erasure"] == e["id"]
    in_time = daemon.erase(wait=False, subjects=["nobody"])
    assert not in_time["overdue"] and len(overdue_entries(daemon)) == 1


def test_an_extension_moves_the_deadline_that_is_watched(daemon, digits):
    daemon.create(**DIGITS)
    e = daemon.ok("POST", "/v1/erasures", {"subjects": ["s1"], "hold": True, "deadline": soon(seconds=2)})
    daemon.ok("POST", f"/v1/erasures/{e['id']}/extend",
              {"deadline": soon(days=50), "reason_code": "complexity"})
    time.sleep(2.6)
    assert overdue_entries(daemon) == []
    assert metric(daemon, "unlearnd_nearest_deadline_seconds") > 49 * 86400
