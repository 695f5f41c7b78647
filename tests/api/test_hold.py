# SPDX-License-Identifier: Apache-2.0
"""Erasures that wait for a decision: durable and not executed until they are released; refused with a
coded reason; a deadline extended as far as the law goes, once."""
import json
import re
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from conftest import DIGITS, ROOT


def moment(t):
    return t.strftime("%Y-%m-%dT%H:%M:%S.000Z")


NOW = datetime.now(timezone.utc).replace(microsecond=0)


def trained(d, digits):
    d.create(**DIGITS)
    d.load("digits", digits)
    d.train("digits")


def hold(d, **body):
    return d.ok("POST", "/v1/erasures", {"hold": True, **body}, status=202)


def decide(d, erasure, what, body=None):
    return d.post(f"/v1/erasures/{erasure['id']}/{what}", body)


def log_of(d, erasure):
    return d.ok("GET", f"/v1/audit?erasure={erasure['id']}")["items"]


def test_a_held_request_is_durable_and_nothing_is_forgotten(daemon, digits):
    trained(daemon, digits[:300])
    before = daemon.model("digits")
    e = hold(daemon, subjects=["s4"], records=[{"model": "digits", "id": "r5"}],
             regulation="gdpr", reference="DSR-7")
    assert e["state"] == "accepted" and e["hold"] and e["matched"] == 0 and e["affected"] == []
    assert e["forgotten_at"] is None and e["deadline"] and not e["overdue"]
    daemon.kill()
    daemon.start()
    assert daemon.ok("GET", f"/v1/erasures/{e['id']}") == e
    assert daemon.ok("GET", "/v1/erasures?state=accepted")["items"] == [e]
    assert daemon.model("digits") == before
    assert daemon.get("/v1/models/digits/records/r20").status_code == 200
    assert daemon.ok("GET", "/v1/suppressions")["items"] == []
    assert daemon.load("digits", digits[:300])["duplicates"] == 300
    entry, = log_of(daemon, e)
    assert entry["type"] == "erasure.accepted" and entry["data"]["hold"] is True
    assert [x["index"] for x in daemon.ok("GET", "/v1/audit?subject=s4")["items"]] == [entry["index"]]
    assert "unlearnd_pending_erasures 1\n" in daemon.get("/metrics").text


def test_a_release_is_the_erasure_itself(make_daemon, digits):
    """The same bytes as one that was never held, what was loaded meanwhile included."""
    daemon = make_daemon()
    trained(daemon, digits[:300])
    e = hold(daemon, subjects=["s4", "s70"])
    assert daemon.load("digits", digits[300:400])["accepted"] == 100  # s70 is among them
    r = decide(daemon, e, "release")
    assert r.status_code == 202, r.text
    out = r.json()
    assert out["state"] in ("forgotten", "completed") and out["matched"] == 10 and out["hold"]
    assert daemon.get("/v1/models/digits/records/r20").status_code == 404
    assert daemon.get("/v1/models/digits/records/r350").status_code == 404
    done = daemon.wait_erasure(e["id"])
    assert done["received_at"] == e["received_at"] and done["accepted_at"] == e["accepted_at"]
    types = [x["type"] for x in log_of(daemon, e)]
    assert types[:3] == ["erasure.accepted", "erasure.released", "erasure.forgotten"]
    assert sorted(types[3:]) == ["erasure.completed", "erasure.scrubbed"]
    assert daemon.load("digits", digits[20:25])["suppressed"] == 5
    daemon.train("digits")

    other = make_daemon(key_of=daemon)
    trained(other, digits[:300])
    other.load("digits", digits[300:400])
    other.erase(subjects=["s4", "s70"])
    other.train("digits")
    assert daemon.model("digits")["served_hash"] == other.model("digits")["served_hash"]


def test_a_release_is_answered_again(daemon, digits):
    trained(daemon, digits[:100])
    e = hold(daemon, subjects=["s4"])
    decide(daemon, e, "release")
    done = daemon.wait_erasure(e["id"])
    r = decide(daemon, e, "release", {})
    assert r.status_code == 202 and r.headers["Idempotency-Replayed"] == "true" and r.json() == done
    assert [x["type"] for x in log_of(daemon, e)].count("erasure.released") == 1


def test_a_release_finds_nobody_and_suppresses_by_the_name_of_a_deleted_model(daemon, digits):
    for name in ("digits", "other"):
        daemon.create(**{**DIGITS, "name": name})
        daemon.load(name, digits[:50])
    e = hold(daemon, subjects=["s1"], models=["other"])
    assert daemon.delete("/v1/models/other").status_code == 204
    out = decide(daemon, e, "release").json()
    assert out["state"] == "completed" and out["matched"] == 0
    assert daemon.get("/v1/models/digits/records/r5").status_code == 200
    daemon.create(**{**DIGITS, "name": "other"})
    assert daemon.load("other", digits[:50])["suppressed"] == 5


def test_a_refusal_has_a_coded_reason_and_is_final(daemon, digits):
    trained(daemon, digits[:100])
    e = hold(daemon, subjects=["s4"], regulation="gdpr", reference="DSR-9")
    for bad in ({}, {"reason_code": ""}, {"reason_code": "he was rude"}, {"reason_code": 7},
                {"reason_code": "ccpa_1798_105_d_1"}, {"reason_code": "identity_not_verified",
                                                       "note": "x"}):
        r = decide(daemon, e, "refuse", bad)
        assert r.status_code == 422 and r.json()["errors"][0]["pointer"] in ("/reason_code", "/note"), r.text
    out = decide(daemon, e, "refuse", {"reason_code": "gdpr_17_3_e"}).json()
    assert out["state"] == "refused" and out["refusal_reason"] == "gdpr_17_3_e" and out["refused_at"]
    again = decide(daemon, e, "refuse", {"reason_code": "gdpr_17_3_e"})
    assert again.status_code == 200 and again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == out
    assert decide(daemon, e, "refuse", {"reason_code": "excessive"}).status_code == 409
    r = decide(daemon, e, "release")
    assert r.status_code == 409 and "refused" in r.json()["detail"]
    assert decide(daemon, e, "extend", {"deadline": moment(NOW + timedelta(days=60)),
                                        "reason_code": "complexity"}).status_code == 409
    last = log_of(daemon, e)[-1]
    assert last["type"] == "erasure.refused" and last["data"]["reason_code"] == "gdpr_17_3_e"
    assert daemon.get("/v1/models/digits/records/r20").status_code == 200
    assert "unlearnd_pending_erasures 0\n" in daemon.get("/metrics").text
    daemon.restart()
    assert daemon.ok("GET", f"/v1/erasures/{e['id']}") == out


def test_the_codes_are_those_of_the_description(daemon):
    """Neither more nor fewer, each under its regulations."""
    schemas = yaml.safe_load((ROOT / "api" / "openapi.yaml").read_text())["components"]["schemas"]
    source = (ROOT / "daemon" / "reasons.c").read_text()
    codes = schemas["RefusalReason"]["enum"] + schemas["ExtensionReason"]["enum"]
    assert codes == re.findall(r'^ +\{"(\w+)",', source, re.M)
    daemon.create(**DIGITS)
    for regulation in ("gdpr", "ccpa", "other", None):
        named = {"regulation": regulation} if regulation else {}
        for code in schemas["RefusalReason"]["enum"]:
            e = hold(daemon, subjects=[code], **named)
            of = code.split("_")[0] if code.startswith(("gdpr", "ccpa")) else None
            fits = of is None or regulation not in ("gdpr", "ccpa") or of == regulation
            r = decide(daemon, e, "refuse", {"reason_code": code})
            assert r.status_code == (200 if fits else 422), f"{regulation} {code} {r.text}"


def test_only_what_is_held_can_be_released_or_refused(daemon, digits):
    trained(daemon, digits[:100])
    e = daemon.erase(subjects=["s4"])
    for what, body in (("release", None), ("refuse", {"reason_code": "excessive"})):
        r = decide(daemon, e, what, body)
        assert r.status_code == 409 and "hold" in r.json()["detail"], r.text
        assert daemon.post(f"/v1/erasures/01ARZ3NDEKTSV4RRFFQ69G5FAV/{what}", body).status_code == 404
    held = hold(daemon, subjects=["s5"])
    decide(daemon, held, "release")
    r = decide(daemon, held, "refuse", {"reason_code": "excessive"})
    assert r.status_code == 409 and "executed" in r.json()["detail"]
    assert decide(daemon, held, "release", {"now": True}).status_code == 422


@pytest.mark.parametrize("regulation,first,last,over", [
    ("gdpr", "2026-02-28", "2026-04-30", "2026-05-01"),
    ("ccpa", "2026-03-17", "2026-05-01", "2026-05-02"),
])
def test_an_extension_goes_as_far_as_the_law(make_daemon, regulation, first, last, over):
    """received_at on 31 January: the months end where the calendar has no 31st."""
    received = "2026-01-31T09:00:00.000Z"
    daemon = make_daemon()
    daemon.create(**DIGITS)
    day = "T09:00:00.000Z"
    e = hold(daemon, subjects=["a"], regulation=regulation, received_at=received)
    assert e["deadline"] == first + day
    if moment(NOW) > e["deadline"]:
        r = decide(daemon, e, "extend", {"deadline": last + day, "reason_code": "complexity"})
        assert r.status_code == 409 and "passed" in r.json()["detail"]
    # a deadline of the client's own, which has not passed, is bounded by received_at all the same
    e = hold(daemon, subjects=["b"], regulation=regulation, received_at=received,
             deadline=moment(NOW + timedelta(days=1)))
    r = decide(daemon, e, "extend", {"deadline": moment(NOW + timedelta(days=2)),
                                     "reason_code": "complexity"})
    allowed = moment(NOW + timedelta(days=2)) <= last + day
    assert r.status_code == (200 if allowed else 422), r.text
    recent = (NOW - timedelta(days=1)).replace(day=1)
    e = hold(daemon, subjects=["c"], regulation=regulation, received_at=moment(recent),
             deadline=moment(NOW + timedelta(days=20)))
    month = recent.month - 1 + 3
    limit = recent + timedelta(days=90) if regulation == "ccpa" else \
        recent.replace(year=recent.year + month // 12, month=month % 12 + 1)
    for deadline, code in ((limit + timedelta(seconds=1), 422), (NOW + timedelta(days=20), 422),
                           (NOW + timedelta(days=19), 422), (limit, 200)):
        r = decide(daemon, e, "extend", {"deadline": moment(deadline), "reason_code": "complexity"})
        assert r.status_code == code, f"{deadline} {r.text}"
        if code == 422:
            assert r.json()["errors"][0]["pointer"] == "/deadline"
    out = r.json()
    assert out["deadline"] == moment(limit) and out["extension_reason"] == "complexity"
    assert out["first_deadline"] == moment(NOW + timedelta(days=20)) and out["state"] == "accepted"
    again = decide(daemon, e, "extend", {"deadline": moment(limit), "reason_code": "complexity"})
    assert again.status_code == 200 and again.headers["Idempotency-Replayed"] == "true"
    r = decide(daemon, e, "extend", {"deadline": moment(limit), "reason_code": "number_of_requests"})
    assert r.status_code == 409 and "once" in r.json()["detail"]
    necessary = hold(daemon, subjects=["d"], regulation=regulation)
    r = decide(daemon, necessary, "extend", {"deadline": moment(NOW + timedelta(days=59)),
                                             "reason_code": "reasonably_necessary"})
    assert r.status_code == (200 if regulation == "ccpa" else 422)
    assert log_of(daemon, e)[-1]["type"] == "erasure.extended"
    assert log_of(daemon, e)[-1]["data"]["first_deadline"] == out["first_deadline"]


def test_an_erasure_that_is_under_way_can_be_extended(make_daemon, digits):
    daemon = make_daemon("--gather-window-ms", "3000")
    trained(daemon, digits[:300])
    e = daemon.erase(wait=False, subjects=["s4"])
    assert e["state"] == "forgotten" and not e["hold"]
    later = moment(NOW + timedelta(days=80))
    r = decide(daemon, e, "extend", {"deadline": later, "reason_code": "number_of_requests"})
    assert r.status_code == 200 and r.json()["deadline"] == later
    done = daemon.wait_erasure(e["id"])
    assert done["first_deadline"] == e["deadline"] and done["affected"] != []


def test_a_held_request_is_checked_and_repeated_like_any_other(daemon, digits):
    daemon.create(**DIGITS)
    r = daemon.post("/v1/erasures", {"hold": True, "subjects": ["a"], "models": ["nope"]})
    assert r.status_code == 422 and r.json()["errors"][0]["pointer"] == "/models/0"
    r = daemon.post("/v1/erasures", {"hold": "yes", "subjects": ["a"]})
    assert r.status_code == 422 and r.json()["errors"][0]["pointer"] == "/hold"
    headers, body = {"Idempotency-Key": "k"}, {"hold": True, "subjects": ["a"]}
    first = daemon.post("/v1/erasures", body, headers=headers)
    second = daemon.post("/v1/erasures", body, headers=headers)
    assert second.headers["Idempotency-Replayed"] == "true" and second.json() == first.json()
    lines = [{"hold": True, "subjects": ["b"]}, {"subjects": ["c"]}]
    r = daemon.request("POST", "/v1/erasures:batch", data="".join(json.dumps(x) + "\n" for x in lines),
                       headers={"Content-Type": "application/x-ndjson"})
    assert [json.loads(x)["state"] for x in r.text.splitlines()] == ["accepted", "completed"]


def test_only_pseudonyms_are_kept_of_a_held_request(daemon, digits):
    daemon.create(**DIGITS)
    hold(daemon, subjects=["held-person@example.org"],
         records=[{"model": "digits", "id": "held-record-77"}])
    daemon.stop()
    for path in daemon.data_dir.rglob("*"):
        if path.is_file():
            data = path.open("rb").read(1 << 26)
            assert b"held-person" not in data and b"held-record" not in data, path


def test_the_client_holds_and_decides(daemon, digits):
    trained(daemon, digits[:100])
    first = json.loads(daemon.ctl("--json", "erase", "--subject", "s1", "--hold").stdout)
    second = json.loads(daemon.ctl("--json", "erase", "--subject", "s2", "--hold").stdout)
    assert daemon.ctl("erase", "--subject", "s3", "--hold", "--wait", check=False).returncode == 2
    out = daemon.ctl("erasure", "extend", first["id"], "--deadline",
                     moment(NOW + timedelta(days=60)), "--reason", "complexity").stdout
    assert "accepted" in out
    assert "forgotten" in daemon.ctl("erasure", "release", first["id"]).stdout
    assert "refused" in daemon.ctl("erasure", "refuse", second["id"], "--reason", "withdrawn").stdout
    r = daemon.ctl("erasure", "release", second["id"], check=False)
    assert r.returncode == 1 and "refused" in r.stderr
    assert daemon.ctl("erasure", "refuse", second["id"], check=False).returncode == 2
