# SPDX-License-Identifier: Apache-2.0
"""Invariants 4, 5, 7 and 8, seen from outside: forgotten at the 202, scrubbed from the disk, never back,
and predictions go on."""
import json
import threading
import time

import pytest
import requests
from conftest import DIGITS

LONG_RETRAIN = ["--gather-window-ms", "3000"]


def trained(daemon, digits, **more):
    daemon.create(**{**DIGITS, **more})
    daemon.load("digits", digits)
    daemon.train("digits")


def outputs(daemon, rows):
    r = daemon.infer("digits", rows)
    assert r.status_code == 200, r.text
    return r.json()


def where(daemon, record):
    return daemon.ok("GET", f"/v1/models/digits/records/{record}")


def subject_in_slice(daemon, digits, slice_, skip=()):
    for r in digits[::5]:
        if r["subject"] not in skip and where(daemon, r["id"])["slice"] == slice_:
            return r
    raise AssertionError(f"nobody in slice {slice_}")


def test_the_answer_comes_after_the_person_is_out_of_the_served_model(make_daemon, digits):
    """Between 202 and completion the bits are those of a model trained up to the slice before."""
    probe = [r["features"] for r in digits[:40]]
    daemon = make_daemon(*LONG_RETRAIN)
    trained(daemon, digits, shards=1)
    full = outputs(daemon, probe)
    victim = subject_in_slice(daemon, digits, 3)
    late = sorted({r["subject"] for r in digits[::5] if where(daemon, r["id"])["slice"] >= 3})
    accepted = daemon.erase(wait=False, subjects=[victim["subject"]])
    assert accepted["state"] == "forgotten"
    assert accepted["affected"][0]["served_from_slice"] == 2
    rolled_back = outputs(daemon, probe)
    assert daemon.ok("GET", f"/v1/erasures/{accepted['id']}")["state"] == "forgotten"

    # The model that only ever had slices 1 and 2, in a directory of its own: everybody in 3 and 4
    # is erased before training, so that its first two stages are all there is to serve.
    reference = make_daemon(*LONG_RETRAIN, key_of=daemon)
    reference.create(**{**DIGITS, "shards": 1})
    reference.load("digits", digits)
    reference.train("digits")
    reference.erase(wait=False, subjects=late)
    assert rolled_back["outputs"] == outputs(reference, probe)["outputs"]
    assert rolled_back["outputs"] != full["outputs"]
    done = daemon.wait_erasure(accepted["id"])
    assert done["scrubbed_at"] and done["completed_at"] >= done["scrubbed_at"]
    assert daemon.model("digits")["degraded_constituents"] == 0


def test_first_slice_hit_leaves_the_constituent_out_and_none_left_is_503(make_daemon, digits):
    daemon = make_daemon(*LONG_RETRAIN)
    trained(daemon, digits, shards=2)
    probe = [digits[0]["features"]]
    hit = {}
    for r in digits[::5]:
        w = where(daemon, r["id"])
        if w["slice"] == 1:
            hit.setdefault(w["shard"], r["subject"])
    a = daemon.erase(wait=False, subjects=[hit[0]])
    assert a["affected"][0]["served_from_slice"] == 0
    assert daemon.model("digits")["clean_constituents"] == 1
    assert outputs(daemon, probe)["parameters"]["clean_constituents"] == 1
    daemon.erase(wait=False, subjects=[hit[1]])
    r = daemon.infer("digits", probe)
    assert r.status_code == 503 and int(r.headers["Retry-After"]) >= 1
    assert "error" in r.json()
    assert daemon.get("/v2/models/digits/ready").status_code != 200
    daemon.wait_erasure(a["id"])


def test_no_prediction_of_the_old_model_leaves_after_the_answer(make_daemon, digits):
    """8 clients predict without pause; what they ask after the 202 is never answered by the old model."""
    daemon = make_daemon(*LONG_RETRAIN)
    trained(daemon, digits)
    probe = [r["features"] for r in digits[:4]]
    seen, stop, errors = [], threading.Event(), []

    def client():
        session = requests.Session()
        body = {"inputs": [{"name": "input", "shape": [4, 64], "datatype": "FP32", "data": probe}]}
        while not stop.is_set():
            asked = time.monotonic()
            r = session.post(daemon.url + "/v2/models/digits/infer", json=body, timeout=30)
            if r.status_code != 200:
                errors.append(r.text)
                return
            seen.append((asked, r.json()["parameters"]["generation"], r.text))

    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    answered = []
    victims = [subject_in_slice(daemon, digits, 2), subject_in_slice(daemon, digits, 3),
               subject_in_slice(daemon, digits, 4)]
    for v in victims:
        time.sleep(0.3)
        e = daemon.erase(wait=False, subjects=[v["subject"]])
        answered.append((time.monotonic(), daemon.model("digits")["generation"], e["id"]))
    time.sleep(0.3)
    stop.set()
    for t in threads:
        t.join()
    assert not errors, errors[0]
    checked = 0
    for asked, generation, _ in seen:
        for at, least, _ in answered:
            if asked > at:
                assert generation >= least
                checked += 1
    assert checked > 100
    by_generation = {}
    for _, generation, text in seen:
        by_generation.setdefault(generation, set()).add(json.dumps(json.loads(text)["outputs"]))
    assert all(len(v) == 1 for v in by_generation.values()), "a generation has one answer"
    for _, _, i in answered:
        daemon.wait_erasure(i)


def test_nothing_of_the_person_is_left_in_the_data_directory(daemon, digits):
    trained(daemon, digits)
    before = {p: p.read_bytes() for p in daemon.data_dir.rglob("*.rows")}
    victim = digits[35]
    mine = [r for r in digits if r["subject"] == victim["subject"]]
    needles = [bytes(r["features"]) for r in mine]
    assert all(any(n in b for b in before.values()) for n in needles), "the scan can find them"
    daemon.erase(subjects=[victim["subject"]])
    for path in daemon.data_dir.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes() if path.name != "control.mdb" else path.open("rb").read(1 << 26)
        for r, n in zip(mine, needles):
            assert n not in data, path
            assert f'"{r["id"]}"'.encode() not in data, path
        assert victim["subject"].encode() + b'"' not in data, path
    end = time.monotonic() + 10  # the clean run's own scratch folder goes right after it
    while any((daemon.data_dir / "scratch").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_erased_person_cannot_be_loaded_again_until_the_suppression_is_lifted(daemon, digits):
    trained(daemon, digits[:300])
    mine = [r for r in digits if r["subject"] == "s3"]
    daemon.erase(subjects=["s3"])
    again = daemon.load("digits", digits[:300])
    assert again == {**again, "accepted": 0, "suppressed": len(mine), "duplicates": 300 - len(mine)}
    assert daemon.get("/v1/models/digits/records/r15").status_code == 404
    items = daemon.ok("GET", "/v1/suppressions")["items"]
    assert len(items) == 1 and items[0]["kind"] == "subject"
    assert daemon.delete(f"/v1/suppressions/{items[0]['pseudonym']}").status_code == 204
    assert daemon.delete(f"/v1/suppressions/{items[0]['pseudonym']}").status_code == 404
    assert daemon.load("digits", mine)["accepted"] == len(mine)
    types = [e["type"] for e in daemon.ok("GET", "/v1/audit?order=desc")["items"]]
    assert "suppression.lifted" in types


def test_an_erased_person_does_not_come_back_as_a_record_of_somebody_else(daemon, digits):
    daemon.create(**DIGITS)
    daemon.erase(subjects=["s1"])
    again = {**digits[5], "id": "s1", "subject": "s1s household"}
    assert daemon.load("digits", [again])["suppressed"] == 1
    assert daemon.load("digits", [{**again, "id": "s2"}])["accepted"] == 1


def test_a_suppression_outlives_the_model_that_it_was_for(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:50])
    daemon.erase(subjects=["s1"], models=["digits"])
    assert daemon.delete("/v1/models/digits").status_code == 204
    assert daemon.ok("GET", "/v1/suppressions")["items"][0]["model"] == "digits"
    daemon.restart()
    daemon.create(**DIGITS)
    assert daemon.load("digits", digits[:50])["suppressed"] == 5
    daemon.create(**{**DIGITS, "name": "other"})
    assert daemon.load("other", digits[:50])["suppressed"] == 0


def test_a_person_who_is_not_held_completes_at_once_and_stays_out(daemon, digits):
    daemon.create(**DIGITS)
    e = daemon.erase(wait=False, subjects=["s1"])
    assert e["state"] == "completed" and e["matched"] == 0 and e["affected"] == []
    loaded = daemon.load("digits", digits[:50])
    assert loaded["suppressed"] == 5 and loaded["accepted"] == 45


def test_an_erasure_before_training_is_forgotten_and_completed_once_scrubbed(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:100])
    e = daemon.erase(wait=False, subjects=["s2"])
    assert e["state"] in ("forgotten", "completed") and e["matched"] == 5
    done = daemon.wait_erasure(e["id"])
    assert done["scrubbed_at"] and done["affected"][0]["state"] == "completed"
    assert daemon.model("digits")["records"] == 95


def test_the_same_key_and_body_give_the_same_erasure(daemon, digits):
    trained(daemon, digits[:200])
    body, headers = {"subjects": ["s4"]}, {"Idempotency-Key": '"k1"'}
    a = daemon.post("/v1/erasures", body, headers=headers)
    b = daemon.post("/v1/erasures", body, headers={"Idempotency-Key": "k1"})
    assert (a.status_code, b.status_code) == (202, 202)
    assert a.json()["id"] == b.json()["id"]
    assert b.headers["Idempotency-Replayed"] == "true" and "Idempotency-Replayed" not in a.headers
    c = daemon.post("/v1/erasures", {"subjects": ["s5"]}, headers=headers)
    assert c.status_code == 422
    daemon.restart()
    d = daemon.post("/v1/erasures", body, headers=headers)
    assert d.json()["id"] == a.json()["id"] and d.headers["Idempotency-Replayed"] == "true"


def test_a_person_in_many_slices_is_counted_in_each(make_daemon, digits):
    """Ten trainings, ten slices: what is left after each erasure is known, and after the last one nothing is, not even
    the hint, which belongs to whoever is held."""
    daemon = make_daemon("--gather-window-ms", "0")
    daemon.create(**{**DIGITS, "shards": 1, "slices": 1, "epochs": 1})
    daemon.load("digits", digits[:40])
    mine = [{**r, "id": f"mine-{i}", "subject": "collector"} for i, r in enumerate(digits[40:52])]
    for r in mine[:10]:
        daemon.load("digits", [{**r, "erasure_likelihood": "low"}])
        daemon.train("digits")
    dry = daemon.ok("POST", "/v1/erasures?dry_run=true", {"subjects": ["collector"]})
    assert dry["matched"] == 10
    e = daemon.erase(records=[{"model": "digits", "id": r["id"]} for r in mine[1:10]])
    assert e["matched"] == 9
    assert daemon.erase(records=[{"model": "digits", "id": mine[0]["id"]}])["matched"] == 1
    loaded = daemon.load("digits", [{**mine[10], "erasure_likelihood": "high"}])
    assert loaded["accepted"] == 1, loaded
    daemon.train("digits")
    assert daemon.erase(subjects=["collector"])["matched"] == 1
    assert daemon.load("digits", mine)["suppressed"] == len(mine)


def test_a_dry_run_changes_nothing(daemon, digits):
    trained(daemon, digits[:300])
    before = daemon.model("digits")
    size = daemon.get("/v1/audit/checkpoint").text
    r = daemon.post("/v1/erasures?dry_run=true", {"subjects": ["s4", "s4", "nobody"]})
    assert r.status_code == 200 and r.json()["matched"] == 5
    assert r.json()["retrain_seconds"] > 0 and len(r.json()["affected"]) == 1
    assert daemon.model("digits") == before
    assert daemon.get("/v1/audit/checkpoint").text == size
    assert daemon.ok("GET", "/v1/erasures")["items"] == []


def test_a_batch_answers_line_by_line_in_order(daemon, digits):
    trained(daemon, digits[:300])
    lines = [{"subjects": ["s1"]}, {"subjects": []}, {"subject": "s2"}, {"subjects": ["s3"]},
             {"records": [{"model": "nope", "id": "x"}]}, {"subjects": ["nobody"]}]
    r = daemon.request("POST", "/v1/erasures:batch",
                       data="".join(json.dumps(x) + "\n" for x in lines) + "{bad\n",
                       headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200, r.text
    results = [json.loads(x) for x in r.text.splitlines()]
    assert len(results) == 7
    assert [x.get("matched") for x in results] == [5, None, None, 5, None, 0, None]
    assert all(x["status"] in (400, 422, 404) for x in results if "matched" not in x), results
    for x in results:
        if "matched" in x:
            daemon.wait_erasure(x["id"])
    assert daemon.model("digits")["records"] == 290


def test_an_erasure_during_training_is_not_undone_by_the_worker_that_ran(make_daemon, digits):
    """The fence: a worker started before the erasure can never publish what it touched."""
    daemon = make_daemon()
    daemon.create(**{**DIGITS, "epochs": 400, "shards": 2})
    daemon.load("digits", digits)
    job = daemon.ok("POST", "/v1/models/digits/train")
    victims = [r["subject"] for r in digits[::5]][10:16]
    ids = []
    for v in victims:
        time.sleep(0.15)
        ids.append(daemon.erase(wait=False, subjects=[v])["id"])
    assert daemon.wait_job(job["id"])["state"] == "succeeded"
    for i in ids:
        daemon.wait_erasure(i)
    assert all(s["identical"] for s in daemon.verify("digits"))
    never = make_daemon(key_of=daemon)
    never.create(**{**DIGITS, "epochs": 400, "shards": 2})
    never.load("digits", [r for r in digits if r["subject"] not in victims])
    never.train("digits")
    assert daemon.model("digits")["served_hash"] == never.model("digits")["served_hash"]


def test_erasing_everybody_leaves_an_empty_model_that_says_so(daemon, digits):
    few = digits[:40]
    trained(daemon, few)
    for s in sorted({r["subject"] for r in few}):
        daemon.erase(subjects=[s])
    m = daemon.model("digits")
    assert m["records"] == 0 and not m["ready"] and m["served_hash"] is None
    assert daemon.infer("digits", [few[0]["features"]]).status_code == 503


def test_an_erasure_names_models_or_means_all(daemon, digits):
    for name in ("digits", "other"):
        daemon.create(**{**DIGITS, "name": name})
        daemon.load(name, digits[:50])
    e = daemon.erase(subjects=["s1"], models=["other"])
    assert e["matched"] == 5
    assert daemon.get("/v1/models/digits/records/r5").status_code == 200
    assert daemon.get("/v1/models/other/records/r5").status_code == 404
    e = daemon.erase(subjects=["s2"])
    assert e["matched"] == 10
    r = daemon.post("/v1/erasures", {"subjects": ["s3"], "models": ["digits", "nope"]})
    assert r.status_code == 422 and r.json()["errors"][0]["pointer"] == "/models/1"
    assert daemon.get("/v1/models/digits/records/r15").status_code == 200


@pytest.mark.parametrize("regulation,days", [("ccpa", [45]), ("gdpr", [28, 29, 30, 31])])
def test_deadlines_follow_the_regulation(daemon, regulation, days):
    from datetime import datetime
    daemon.create(**DIGITS)
    e = daemon.erase(subjects=["x"], regulation=regulation, reference="DSR-1",
                     received_at="2026-01-31T09:00:00Z")
    received, deadline = (datetime.fromisoformat(e[k].replace("Z", "+00:00"))
                          for k in ("received_at", "deadline"))
    assert (deadline - received).days in days
    if regulation == "gdpr":
        assert e["deadline"].startswith("2026-02-28")


def test_an_atomic_upload_that_an_erasure_hits_is_called_off(daemon, digits):
    """Half of an upload that will never commit must not bring anybody back."""
    daemon.create(**DIGITS)
    twice = digits + [{**r, "id": r["id"] + "b", "subject": r["subject"] + "b"} for r in digits]
    lines = [json.dumps(r) + "\n" for r in twice]
    release, result = threading.Event(), {}

    def body():
        yield "".join(lines[:3000]).encode()  # a batch is 2,048 rows: one is staged
        release.wait(30)
        yield "".join(lines[3000:]).encode()

    def upload():
        result["r"] = requests.post(daemon.url + "/v1/models/digits/records?atomic=true",
                                    data=body(), timeout=60,
                                    headers={"Content-Type": "application/x-ndjson"})

    t = threading.Thread(target=upload)
    t.start()
    end = time.monotonic() + 30
    while sum(p.stat().st_size for p in daemon.data_dir.rglob("*.rows")) < 150000:
        assert time.monotonic() < end, "nothing was staged"
        time.sleep(0.02)
    assert daemon.model("digits")["records"] == 0, "staged records do not exist yet"
    assert daemon.get("/v1/models/digits/records/r5").status_code == 404
    e = daemon.erase(subjects=["s1"])  # completes: its staged rows are gone from the files
    assert e["matched"] == 0 and e["scrubbed_at"]
    assert sum(p.stat().st_size for p in daemon.data_dir.rglob("*.rows")) < 5000
    release.set()
    t.join()
    assert result["r"].status_code == 409, result["r"].text
    assert daemon.model("digits")["records"] == 0
    assert not any(s["live"] for sh in daemon.ok("GET", "/v1/models/digits/shards")["shards"]
                   for s in sh["slices"])
    again = daemon.load("digits", digits, atomic="true")
    assert again["suppressed"] == 5 and again["accepted"] == len(digits) - 5
    assert daemon.model("digits")["records"] == len(digits) - 5
    daemon.train("digits")
