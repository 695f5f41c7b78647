# SPDX-License-Identifier: Apache-2.0
"""What the daemon does with its one worker when deadlines are near (daemon/schedule.c decides; a year of
it is in tests/unit/test_schedule.c)."""
import time
from datetime import datetime, timedelta, timezone

from conftest import DIGITS


def soon(**delta):
    t = datetime.now(timezone.utc) + timedelta(**delta)
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + f"{t.microsecond // 1000:03d}Z"


def running(d, model):
    return [j for j in d.ok("GET", "/v1/jobs")["items"] if j["model"] == model and j["state"] == "running"]


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


def test_a_long_run_makes_room_for_a_near_deadline_and_is_finished_later(make_daemon, digits):
    d = make_daemon("--workers", "1", "--gather-window-ms", "0")
    d.create(**DIGITS)
    d.load("digits", digits[:300])
    d.train("digits")
    d.create(**{**DIGITS, "name": "long", "epochs": 8000, "shards": 1})
    d.load("long", digits)
    job = d.ok("POST", "/v1/models/long/train", status=202)
    progress = wait_for(lambda: d.ok("GET", f"/v1/jobs/{job['id']}")["progress"] > 0.05 and
                        d.ok("GET", f"/v1/jobs/{job['id']}"))
    far = d.erase(wait=False, subjects=["s4"], models=["digits"], deadline=soon(days=30))
    time.sleep(0.7)
    assert d.ok("GET", f"/v1/erasures/{far['id']}")["state"] == "forgotten", "nothing made room"
    assert d.ok("GET", f"/v1/jobs/{job['id']}")["state"] == "running"
    # waiting for the run would miss it, whatever this machine's speed
    seconds = max(4, 0.8 * progress["eta_seconds"])
    near = d.erase(wait=False, subjects=["s5"], models=["digits"], deadline=soon(seconds=seconds))
    done = d.wait_erasure(near["id"])
    assert not done["overdue"]
    assert any("job_put_off" in line and "model=long" in line for line in d.log), d.log[-20:]
    assert d.ok("GET", f"/v1/jobs/{job['id']}")["state"] == "running", "the training goes on"
    assert d.wait_erasure(far["id"])["state"] == "completed"
    assert d.wait_job(job["id"])["state"] == "succeeded"
    assert all(s["identical"] for s in d.verify("digits"))


def test_a_near_deadline_ends_the_gathering(make_daemon, digits):
    d = make_daemon("--gather-window-ms", "60000")
    d.create(**DIGITS)
    d.load("digits", digits[:300])
    d.train("digits")
    far = d.erase(wait=False, subjects=["s4"])
    time.sleep(1.5)
    assert d.ok("GET", f"/v1/erasures/{far['id']}")["state"] == "forgotten"
    near = d.erase(wait=False, subjects=["s4", "s5"], deadline=soon(seconds=30))
    assert not d.wait_erasure(near["id"], 20)["overdue"]
