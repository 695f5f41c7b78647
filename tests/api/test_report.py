# SPDX-License-Identifier: Apache-2.0
"""The report of a period against a recomputation from the exported log, which shares nothing with it but
the definitions: received, completed, refused by reason, in time, overdue, extended, and how long it took."""
import base64
import hashlib
import json
import random
import statistics
import time
from datetime import datetime, timedelta, timezone

import pytest
from conftest import DIGITS

NOW = datetime.now(timezone.utc)


def moment(t):
    return t.strftime("%Y-%m-%dT%H:%M:%S.") + f"{t.microsecond // 1000:03d}Z"


def parse(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def log(d):
    text = d.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).text
    return [json.loads(x) for x in text.splitlines()]


def recompute(entries, since=None, until=None):
    """{regulation: group} from the log alone."""
    erasures = {}
    for x in entries:
        kind, data = x["type"].removeprefix("erasure."), x["data"]
        if not x["type"].startswith("erasure."):
            continue
        e = erasures.setdefault(data["erasure"], {})
        if kind == "accepted":
            e.update(received=parse(data["received_at"]), deadline=parse(data["deadline"]),
                     regulation=data["regulation"], state="held" if data.get("hold") else "pending")
        elif kind == "released":
            e["state"] = "pending"
        elif kind == "extended":
            e.update(deadline=parse(data["deadline"]), extension=data["reason_code"])
        elif kind == "refused":
            e.update(state="refused", refusal=data["reason_code"], ended=parse(x["time"]))
        elif kind == "forgotten":
            e["forgotten"] = parse(x["time"])
        elif kind == "completed":
            e.update(state="completed", ended=parse(x["time"]))
    groups = {}
    for e in erasures.values():
        if since and e["received"] < since or until and e["received"] > until:
            continue
        for name in (e["regulation"], "total"):
            groups.setdefault(name, []).append(e)
    return {name: group(of) for name, of in groups.items()}


def tally(values):
    return {v: values.count(v) for v in set(values)}


def group(of):
    def seconds(key, some):
        return [max(0.0, (e[key] - e["received"]).total_seconds()) for e in some if key in e]
    late = [e for e in of if e.get("ended", datetime.now(timezone.utc)) > e["deadline"]]
    return {
        "received": len(of), "completed": sum(e["state"] == "completed" for e in of),
        "refused": sum(e["state"] == "refused" for e in of),
        "pending": sum("ended" not in e for e in of), "held": sum(e["state"] == "held" for e in of),
        "in_time": sum("ended" in e and e not in late for e in of), "overdue": len(late),
        "overdue_pending": sum("ended" not in e for e in late),
        "extended": sum("extension" in e for e in of),
        "refused_by_reason": tally([e["refusal"] for e in of if "refusal" in e]),
        "extended_by_reason": tally([e["extension"] for e in of if "extension" in e]),
        "seconds_to_forgotten": seconds("forgotten", of),
        "seconds_to_completed": seconds("ended", [e for e in of if e["state"] == "completed"]),
        "seconds_to_answer": seconds("ended", of)}


def check(report, expected):
    got = {g["regulation"]: g for g in report["by_regulation"]}
    got["total"] = report["total"]
    empty = {**group([]), "received": 0}
    expected = {"total": empty, **expected}
    assert set(got) == set(expected)
    for name, want in expected.items():
        for key, value in want.items():
            have = got[name][key]
            if not isinstance(value, list):
                assert have == value, f"{name} {key}: {have}, {value} in the log"
                continue
            assert have["count"] == len(value), f"{name} {key}"
            if value:  # an entry is written a moment after the time that it tells
                close = {"abs": 0.25, "rel": 1e-6}
                assert have["median"] == pytest.approx(statistics.median(value), **close), f"{name} {key}"
                assert have["mean"] == pytest.approx(statistics.mean(value), **close)
                assert have["worst"] == pytest.approx(max(value), **close)
            else:
                assert have["median"] is have["mean"] is have["worst"] is None


def test_counts_are_those_of_the_log(make_daemon, digits):
    rng = random.Random(7)
    d = make_daemon("--gather-window-ms", "0")
    d.create(**DIGITS)
    d.load("digits", digits[:400])
    d.train("digits")
    assert d.ok("GET", "/v1/audit/report")["total"]["received"] == 0
    for i in range(60):
        regulation = rng.choice(["gdpr", "ccpa", "other", None])
        received = NOW - timedelta(days=rng.choice([0, 1, 10, 29, 44, 60, 400]), seconds=i)
        body = {"subjects": [f"s{i}"], "received_at": moment(received), "hold": rng.random() < 0.6}
        if regulation:
            body["regulation"] = regulation
        e = d.ok("POST", "/v1/erasures", body, status=202)
        url = f"/v1/erasures/{e['id']}"
        if not body["hold"]:
            continue
        if rng.random() < 0.4:
            d.post(url + "/extend", {"deadline": moment(received + timedelta(days=80)),
                                     "reason_code": rng.choice(["complexity", "number_of_requests"])})
        fate = rng.choice(["release", "refuse", "wait"])
        if fate == "release":
            d.ok("POST", url + "/release")
        elif fate == "refuse":
            reasons = ["identity_not_verified", "excessive"]
            reasons += {"gdpr": ["gdpr_17_3_b"], "ccpa": ["ccpa_1798_105_d_8"]}.get(regulation, [])
            d.ok("POST", url + "/refuse", {"reason_code": rng.choice(reasons)}, status=200)
    end = time.monotonic() + 60
    while d.ok("GET", "/v1/erasures?state=forgotten")["items"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    entries = log(d)
    report = d.ok("GET", "/v1/audit/report")
    check(report, recompute(entries))
    total = report["total"]
    assert total["received"] == 60 == total["completed"] + total["refused"] + total["pending"]
    assert min(total[k] for k in ("completed", "refused", "held", "overdue", "overdue_pending", "extended")) > 0
    assert total["overdue"] == len(d.ok("GET", "/v1/erasures?overdue=true")["items"])
    for since, until in ((NOW - timedelta(days=30), None), (None, NOW - timedelta(days=30)),
                         (NOW - timedelta(days=50), NOW - timedelta(days=5)),
                         (NOW + timedelta(days=1), None)):
        query = "&".join(f"{k}={moment(v)}" for k, v in (("since", since), ("until", until)) if v)
        report = d.ok("GET", "/v1/audit/report?" + query)
        check(report, recompute(entries, since, until))
        assert report["since"] == (moment(since) if since else None)
    page = d.get("/v1/audit/report", headers={"Accept": "text/html"})
    check_page(page, total)
    out = d.ctl("report").stdout
    assert "gdpr" in out and "ccpa" in out and str(total["received"]) in out.splitlines()[-1]
    assert json.loads(d.ctl("--json", "report", "--since", moment(NOW)).stdout)["total"]["received"] == 0
    assert "<h1>Erasure requests</h1>" in d.ctl("report", "--html").stdout


def check_page(page, total):
    """It stands alone: no script, nothing that is fetched, well-formed."""
    import xml.etree.ElementTree as ET
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script" not in page.text and "http" not in page.text and "url(" not in page.text
    style = page.text.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert page.headers["Content-Security-Policy"].startswith(
        f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    tree = ET.fromstring(page.text.replace("<!DOCTYPE html>", "").replace("&ndash;", "-")
                         .replace('<meta charset="utf-8">', ""))
    rows = {}
    for tr in tree.iter("tr"):
        cells = ["".join(td.itertext()) for td in tr.findall("td")]
        if cells:
            rows.setdefault(cells[0], cells[-1])
    assert rows["received"] == str(total["received"]) and rows["completed"] == str(total["completed"])
    assert rows["refused"] == str(total["refused"]) and rows["overdue"] == str(total["overdue"])
    assert rows["identity_not_verified"] == str(total["refused_by_reason"]["identity_not_verified"])
    assert rows["forgotten, worst"].endswith("days")


def test_a_report_is_asked_for_rightly(daemon):
    assert daemon.get("/v1/audit/report?since=yesterday").status_code == 400
    r = daemon.get("/v1/audit/report?since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z")
    assert r.status_code == 400 and r.json()["errors"][0]["pointer"] == "until"
    assert daemon.get("/v1/audit/report?regulation=gdpr").status_code == 400
    assert daemon.ctl("report", "--output", "/tmp/x", check=False).returncode == 2


def test_a_rare_erasure_is_found_among_many(daemon, digits):
    """The list looks at a bounded number of erasures at a time, and goes on."""
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:50])
    rare = daemon.erase(subjects=["s3"])
    held = daemon.erase(wait=False, subjects=["s4"], hold=True)
    for part in range(5):
        r = daemon.request("POST", "/v1/erasures:batch", headers={"Content-Type": "application/x-ndjson"},
                           data="".join(json.dumps({"subjects": [f"nobody-{part}-{i}"]}) + "\n" for i in range(1000)))
        assert r.status_code == 200 and len(r.text.splitlines()) == 1000

    def all_of(query):
        found, cursor = [], None
        while True:
            page = daemon.ok("GET", f"/v1/erasures?{query}" + (f"&cursor={cursor}" if cursor else ""))
            found += [e["id"] for e in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    assert all_of("model=digits&limit=1") == [rare["id"]]
    assert all_of("state=accepted") == [held["id"]]
    assert all_of("until=1970-01-01T00:00:00Z") == []
    everything = all_of("limit=700")
    assert len(everything) == len(set(everything)) == 5002 and everything == sorted(everything, reverse=True)
