# SPDX-License-Identifier: Apache-2.0
"""What happens when two things happen at once: erasures beside erasures, uploads beside deletions, writes
that fail half way, and what a crash in between leaves behind."""
import concurrent.futures
import json
import random
import shutil
import threading
import time

import requests
from conftest import DIGITS

NDJSON = {"Content-Type": "application/x-ndjson"}
POINTS = {"name": "points", "kind": "softmax", "features": 8, "dtype": "f32", "classes": 2,
          "shards": 2, "slices": 2, "epochs": 2, "batch_size": 32, "learning_rate": 0.1}
BATCH_ROWS = 2048  # rows of one index commit


def points(n, features=8, prefix="p"):
    dice = random.Random(7)
    return [{"id": f"{prefix}{i}", "label": i % 2,
             "features": [round(dice.random(), 3) for _ in range(features)]} for i in range(n)]


def lines(records):
    return "".join(json.dumps(r) + "\n" for r in records).encode()


class Stream:
    """A request whose body stops after `first` until `go` is called with the rest."""

    def __init__(self, url, first):
        self.release, self.rest, self.answer = threading.Event(), b"", None
        self.thread = threading.Thread(target=self._send, args=(url, first))
        self.thread.start()

    def _send(self, url, first):
        def body():
            yield first
            assert self.release.wait(30)
            yield self.rest
        self.answer = requests.post(url, data=body(), headers=NDJSON, timeout=60)

    def go(self, rest):
        self.rest = rest
        self.release.set()
        self.thread.join(60)
        return self.answer


def wait_until(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def files_with(folder, needle):
    return [p for p in folder.rglob("*.rows") if needle in p.read_bytes()]


def same_group(daemon, *bodies):
    """One batch: one transaction, so that the second comes before anything of the first is scrubbed."""
    r = daemon.request("POST", "/v1/erasures:batch", data=lines(bodies), headers=NDJSON)
    assert r.status_code == 200, r.text
    return [json.loads(x) for x in r.text.splitlines()]


def test_a_second_erasure_of_a_person_is_not_scrubbed_before_the_first(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    daemon.train("digits")
    mine = [r["id"] for r in digits if r["subject"] == "s3"]
    first, *again = same_group(
        daemon, {"subjects": ["s3"]}, {"subjects": ["s3"]},
        {"records": [{"model": "digits", "id": mine[0]}]}, {"subjects": ["s3"], "models": ["digits"]})
    assert first["matched"] == 5 and first["state"] == "forgotten"
    for e in again:
        assert e["matched"] == 0 and e["state"] == "forgotten" and e["scrubbed_at"] is None, e
    first = daemon.wait_erasure(first["id"])
    for e in again:
        e = daemon.wait_erasure(e["id"])
        assert e["scrubbed_at"] >= first["scrubbed_at"]
    once_more = daemon.erase(wait=False, subjects=["s3"])
    assert once_more["state"] == "completed", "there is nothing to wait for any more"


def test_a_second_erasure_of_a_record_is_not_scrubbed_before_the_first(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    body = {"records": [{"model": "digits", "id": "r7"}]}
    first, again = same_group(daemon, body, body)
    assert (first["matched"], again["matched"]) == (1, 0)
    assert again["scrubbed_at"] is None
    first, again = (daemon.wait_erasure(e["id"]) for e in (first, again))
    assert again["scrubbed_at"] >= first["scrubbed_at"]
    daemon.erase(subjects=["s1"])  # the rest of the person


def test_erasures_that_follow_survive_the_deletion_of_the_model(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    daemon.train("digits")
    erasures = same_group(daemon, *[{"subjects": ["s3", "s4"]}] * 3)
    assert daemon.delete("/v1/models/digits").status_code == 204
    for e in erasures:
        assert daemon.wait_erasure(e["id"], 20)["scrubbed_at"]


def test_a_rollback_stops_at_the_lowest_slice_that_still_holds_the_person(make_daemon, digits):
    """The subject's entry keeps a count of nothing for a slice that a record erasure emptied."""
    daemon = make_daemon("--gather-window-ms", "3000")
    daemon.create(**{**DIGITS, "shards": 1, "slices": 2})
    daemon.load("digits", digits[:100])
    daemon.train("digits")
    late = {**digits[0], "id": "late"}
    daemon.load("digits", [late])
    daemon.train("digits")
    assert daemon.ok("GET", "/v1/models/digits/records/late")["slice"] == 3
    daemon.erase(records=[{"model": "digits", "id": r["id"]} for r in digits[:5]])
    e = daemon.erase(wait=False, subjects=["s0"])
    assert e["matched"] == 1
    assert [(a["slice"], a["served_from_slice"]) for a in e["affected"]] == [(3, 2)]


def test_an_upload_does_not_go_on_into_another_model_of_the_same_name(daemon):
    daemon.create(**POINTS)
    old = points(3 * BATCH_ROWS)
    url = daemon.url + "/v1/models/points/records"
    s = Stream(url, lines(old[:BATCH_ROWS + 10]))
    wait_until(lambda: daemon.model("points")["records"] >= BATCH_ROWS)
    assert daemon.delete("/v1/models/points").status_code == 204
    daemon.create(**{**POINTS, "features": 3})
    fresh = points(100, features=3, prefix="n")
    daemon.load("points", fresh)
    r = s.go(lines(old[BATCH_ROWS + 10:]))
    assert r.status_code == 404, r.text
    assert daemon.model("points")["records"] == len(fresh)
    assert daemon.get("/v1/models/points/records/p5000").status_code == 404
    daemon.train("points")
    assert all(x["identical"] for x in daemon.verify("points"))


def test_an_evaluation_does_not_go_on_with_another_model_of_the_same_name(daemon):
    daemon.create(**POINTS)
    old = points(3 * BATCH_ROWS)
    daemon.load("points", old)
    daemon.train("points")
    url = daemon.url + "/v1/models/points/evaluate"
    s = Stream(url, lines(old[:10]))
    assert daemon.delete("/v1/models/points").status_code == 204
    daemon.create(**{**POINTS, "features": 1})
    daemon.load("points", points(100, features=1))
    daemon.train("points")
    r = s.go(lines(old[10:]))
    assert r.status_code in (404, 409), r.text
    assert daemon.process.poll() is None
    assert daemon.model("points")["ready"]


def unwritable_shard(daemon, shard):
    root = daemon.data_dir / "models" / "points"
    root.mkdir(mode=0o700, exist_ok=True)
    blocker = root / f"shard-{shard:03d}"
    blocker.write_bytes(b"")
    return blocker


def test_rows_of_an_upload_that_failed_are_not_left_in_any_file(daemon):
    daemon.create(**{**POINTS, "dtype": "u8", "shards": 3})
    records = [{"id": f"x{i}", "label": 0, "features": [65 + i % 26] * 8} for i in range(200)]
    # whichever shard's file is written first: one of two that cannot be written comes after it
    for params, shard in (({}, 0), ({}, 1), ({"atomic": "true"}, 0), ({"atomic": "true"}, 1)):
        for path in (daemon.data_dir / "models").glob("points/shard-*"):
            shutil.rmtree(path)
        blocker = unwritable_shard(daemon, shard)
        r = daemon.request("POST", "/v1/models/points/records", data=lines(records),
                           headers=NDJSON, params=params)
        assert r.status_code >= 500, r.text
        wait_until(lambda: not any(p.stat().st_size > 64 for p in daemon.data_dir.rglob("*.rows")))
        assert daemon.model("points")["records"] == 0
        assert daemon.get("/v1/models/points/records/x1").status_code == 404
        blocker.unlink()
        wait_until(lambda: daemon.get("/v2/health/ready").status_code == 200)  # writes hold again
    assert daemon.load("points", records, atomic="true")["accepted"] == 200
    daemon.train("points")


def test_a_row_file_that_no_commit_knows_is_gone_after_a_start(daemon):
    """A crash between the rows of a new slice and its commit."""
    daemon.create(**{**POINTS, "dtype": "u8"})
    secret = [{"id": f"x{i}", "label": 0, "features": list(b"SECRET!%")} for i in range(50)]
    daemon.load("points", secret)
    assert files_with(daemon.data_dir, b"SECRET!%")
    daemon.kill()
    source = files_with(daemon.data_dir, b"SECRET!%")[0]
    left = source.with_name("slice-003.rows")
    shutil.copy(source, left)
    daemon.http = requests.Session()
    daemon.start()
    assert not left.exists() and source.exists()
    assert daemon.model("points")["records"] == 50


def test_one_damaged_row_file_does_not_keep_others_on_the_disk(daemon, digits):
    daemon.create(**{**POINTS, "dtype": "u8"})
    daemon.create(**DIGITS)
    daemon.load("points", [{"id": f"s{i}", "label": 0, "features": [i] * 8} for i in range(40)])
    daemon.load("digits", digits[:100])
    damaged = sorted((daemon.data_dir / "models" / "points").rglob("*.rows"))
    for path in damaged:
        path.rename(path.with_suffix(".away"))
    e = daemon.erase(wait=False, subjects=["s3"])
    needles = [bytes(r["features"]) for r in digits if r["subject"] == "s3"]
    wait_until(lambda: not any(files_with(daemon.data_dir, n) for n in needles))
    assert daemon.ok("GET", f"/v1/erasures/{e['id']}")["scrubbed_at"] is None
    for path in damaged:
        path.with_suffix(".away").rename(path)
    assert daemon.wait_erasure(e["id"], 20)["scrubbed_at"]


def test_equal_keys_at_the_same_moment_make_one_thing(daemon):
    """A second request may stand in the same group commit as the first."""
    for k in range(5):
        name, headers = f"m{k}", {"Idempotency-Key": f'"key-{k}"'}

        def create():
            return requests.post(daemon.url + "/v1/models", json={**POINTS, "name": name},
                                 headers=headers, timeout=30)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = [f.result() for f in [pool.submit(create) for _ in range(16)]]
        assert {r.status_code for r in answers} == {201}, [r.text for r in answers]
        assert sum("Idempotency-Replayed" not in r.headers for r in answers) == 1
        assert {r.json()["name"] for r in answers} == {name}

    def erase():
        return requests.post(daemon.url + "/v1/erasures", json={"subjects": ["x"]},
                             headers={"Idempotency-Key": '"e"'}, timeout=30)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = [f.result() for f in [pool.submit(erase) for _ in range(16)]]
    assert {r.status_code for r in answers} == {202}
    assert len({r.json()["id"] for r in answers}) == 1
    assert len(daemon.ok("GET", "/v1/erasures")["items"]) == 1


def test_more_erasures_than_one_publication_completes_all_complete_once(daemon, digits):
    """Erasures go on while the completion of the ones before is written down in steps."""
    daemon.create(**{**DIGITS, "shards": 1, "slices": 2, "epochs": 2})
    people = [{**digits[i % len(digits)], "id": f"q{i}", "subject": f"q{i}"} for i in range(1500)]
    daemon.load("digits", people)
    daemon.train("digits")
    bodies = [{"subjects": [f"q{i}"]} for i in range(1200)]
    ids = [e["id"] for e in same_group(daemon, *bodies)]
    more = []
    for i in range(1200, 1300):
        more.append(daemon.erase(wait=False, subjects=[f"q{i}"])["id"])
        time.sleep(0.005)
    for i in ids + more:
        done = daemon.wait_erasure(i, 60)
        assert done["affected"][0]["state"] == "completed"
    types = {}
    after = None
    while True:
        page = daemon.ok("GET", "/v1/audit?limit=1000" + (f"&cursor={after}" if after else ""))
        for entry in page["items"]:
            types[entry["type"]] = types.get(entry["type"], 0) + 1
        after = page.get("next_cursor")
        if not after:
            break
    for t in ("erasure.accepted", "erasure.forgotten", "erasure.scrubbed", "erasure.completed"):
        assert types[t] == 1300, types
    assert daemon.model("digits")["degraded_constituents"] == 0
    assert all(s["identical"] for s in daemon.verify("digits"))


def test_deleting_a_model_in_training_ends_its_jobs_and_its_erasures(daemon, digits):
    daemon.create(**{**DIGITS, "epochs": 3000})
    daemon.load("digits", digits)
    daemon.ok("POST", "/v1/models/digits/train", status=202)
    e = daemon.erase(wait=False, subjects=["s3"])
    time.sleep(0.3)
    assert daemon.delete("/v1/models/digits").status_code == 204
    assert daemon.wait_erasure(e["id"], 20)["completed_at"]
    states = {j["state"] for j in daemon.ok("GET", "/v1/jobs")["items"]}
    assert states <= {"cancelled", "failed", "succeeded"}, states
    assert not (daemon.data_dir / "models" / "digits").exists()
    daemon.create(**DIGITS)
    daemon.load("digits", digits)
    daemon.train("digits")


def test_a_retrain_of_a_deleted_model_does_not_run_for_ever(make_daemon, digits):
    daemon = make_daemon("--gather-window-ms", "0")
    daemon.create(**{**DIGITS, "epochs": 1500, "shards": 1})
    daemon.load("digits", digits)
    daemon.train("digits")
    e = daemon.erase(wait=False, subjects=["s3"])
    wait_until(lambda: any(j["kind"] == "retrain" and j["state"] == "running"
                           for j in daemon.ok("GET", "/v1/jobs")["items"]))
    assert daemon.delete("/v1/models/digits").status_code == 204
    assert daemon.wait_erasure(e["id"], 20)
    assert all(j["state"] not in ("running", "queued")
               for j in daemon.ok("GET", "/v1/jobs")["items"])


def test_a_training_that_is_asked_for_beside_a_retrain_fails_no_job(make_daemon, digits):
    """The retrain publishes all it was to do, but the shard has a slice more by then."""
    daemon = make_daemon("--gather-window-ms", "0", "--retry-first-ms", "60000")
    daemon.create(**{**DIGITS, "epochs": 600, "shards": 1, "slices": 2})
    daemon.load("digits", digits[:1500])
    daemon.train("digits")
    e = daemon.erase(wait=False, subjects=["s3"])
    wait_until(lambda: any(j["kind"] == "retrain" and j["state"] == "running"
                           for j in daemon.ok("GET", "/v1/jobs")["items"]))
    daemon.load("digits", digits[1500:])
    job = daemon.ok("POST", "/v1/models/digits/train", status=202)["id"]
    assert daemon.wait_job(job, 50)["state"] == "succeeded"
    daemon.wait_erasure(e["id"], 20)
    retrains = [j for j in daemon.ok("GET", "/v1/jobs")["items"] if j["kind"] == "retrain"]
    assert [j["state"] for j in retrains] == ["succeeded"], retrains
    assert all(s["identical"] for s in daemon.verify("digits"))


def test_stopping_with_an_atomic_upload_half_way_is_clean(make_daemon):
    daemon = make_daemon()
    daemon.create(**POINTS)
    s = Stream(daemon.url + "/v1/models/points/records?atomic=true",
               lines(points(BATCH_ROWS + 10)))
    wait_until(lambda: any(p.stat().st_size > 1000 for p in daemon.data_dir.rglob("*.rows")))
    s.go(b"{")  # a bad line: nothing may be kept
    daemon.restart()
    assert daemon.model("points")["records"] == 0
    wait_until(lambda: not any(p.stat().st_size > 64 for p in daemon.data_dir.rglob("*.rows")))
    answers = []
    wait_until(lambda: answers.append(daemon.request(
        "POST", "/v1/models/points/records", data=lines(points(10)), headers=NDJSON))
        or answers[-1].status_code != 409)  # until its index entries are gone too
    assert answers[-1].json()["accepted"] == 10, answers[-1].text
