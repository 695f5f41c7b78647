# SPDX-License-Identifier: Apache-2.0
"""What cannot be overwritten keeps nothing else on the disk: a row file that is away holds up the
erasures of the people in it, and those only, and the log says so once."""
import errno
import json
import threading

import faults as F
import pytest
import requests
from conftest import BIN, DIGITS
from world import LOST, Held, wait

OPTIONS = ["--gather-window-ms", "0", "--retry-first-ms", "20"]
CONFIG = {**DIGITS, "name": "m", "kind": "softmax", "features": 16, "shards": 2, "slices": 1, "epochs": 1}
CONFIG.pop("hidden")
PASS_TARGETS, PASS_RECORDS = 256, 2048  # daemon/scrub.c
HEADER_BYTES = 64


def row(number, subject):
    """A record whose bytes no other has."""
    return {"id": f"r{number}", "subject": subject, "label": str(number % 10),
            "features": list(b"x%015d" % number)}


def rows_of(daemon, model, shard, slice=1):
    return daemon.data_dir / "models" / model / f"shard-{shard:03}" / f"slice-{slice:03}.rows"


def where(daemon, record, model="m"):
    return daemon.ok("GET", f"/v1/models/{model}/records/{record['id']}")


def scrubbed(daemon, erasure):
    return daemon.ok("GET", f"/v1/erasures/{erasure['id']}")["scrubbed_at"]


def lines(daemon, event):
    return [line for line in daemon.log if event in line]


def count_in(daemon, what):
    return sum(p.read_bytes().count(bytes(what["features"])) for p in daemon.data_dir.rglob("*.rows"))


def put_aside(daemon, tmp_path, shard, slice=1):
    """The row file, away; a function that brings it back."""
    rows = rows_of(daemon, "m", shard, slice)
    rows.rename(tmp_path / "aside")
    return lambda: (tmp_path / "aside").rename(rows)


def test_many_people_in_a_missing_file_do_not_hold_up_the_people_elsewhere(make_daemon, tmp_path):
    daemon = make_daemon(*OPTIONS)
    daemon.create(**CONFIG)
    people = [row(n, f"p{n}") for n in range(4 * PASS_TARGETS)]
    daemon.load("m", people)
    at = {r["subject"]: where(daemon, r)["shard"] for r in people}
    away = [r for r in people if at[r["subject"]] == 0][:PASS_TARGETS + 50]
    held = [r for r in people if at[r["subject"]] == 1]
    assert len(away) == PASS_TARGETS + 50
    back = put_aside(daemon, tmp_path, 0)

    first = daemon.erase(wait=False, subjects=[r["subject"] for r in away])
    wait("a failure", lambda: lines(daemon, "scrub_failed"))
    for r in held[:5]:
        e = daemon.erase(wait=False, subjects=[r["subject"]])
        wait("somebody else's scrub", lambda e=e: scrubbed(daemon, e))
        assert count_in(daemon, r) == 0
    assert not scrubbed(daemon, first)

    back()
    wait("the rest, once the file is there again", lambda: scrubbed(daemon, first))
    assert not any(count_in(daemon, r) for r in away)


def test_a_person_with_many_records_in_a_missing_file_does_not_take_the_room_of_others(make_daemon, tmp_path):
    daemon = make_daemon(*OPTIONS)
    daemon.create(**CONFIG)
    many = [row(n, "many") for n in range(PASS_RECORDS + 10)]
    others = [row(10000 + n, f"p{n}") for n in range(40)]
    daemon.load("m", many + others)
    shard = where(daemon, many[0])["shard"]
    other = next(r for r in others if where(daemon, r)["shard"] != shard)
    back = put_aside(daemon, tmp_path, shard)

    first = daemon.erase(wait=False, subjects=["many"])
    wait("a failure", lambda: lines(daemon, "scrub_failed"))
    e = daemon.erase(wait=False, subjects=[other["subject"]])
    wait("somebody else's scrub", lambda: scrubbed(daemon, e))
    assert count_in(daemon, other) == 0 and not scrubbed(daemon, first)

    back()
    wait("the rest, once the file is there again", lambda: scrubbed(daemon, first))
    assert not any(count_in(daemon, r) for r in many)


@pytest.mark.parametrize("away", [1, 2])
def test_a_persons_rows_in_files_that_are_there_are_overwritten_though_another_is_away(make_daemon, tmp_path,
                                                                                       away):
    daemon = make_daemon(*OPTIONS)
    daemon.create(**{**CONFIG, "shards": 1, "slices": 1})
    before = [row(n, "p") for n in range(3)]
    daemon.load("m", before + [row(100 + n, f"q{n}") for n in range(20)])
    daemon.train("m")
    after = [row(10 + n, "p") for n in range(3)]  # into a slice of its own
    daemon.load("m", after)
    assert {where(daemon, r)["slice"] for r in before} == {1}
    assert {where(daemon, r)["slice"] for r in after} == {2}
    there = before if away == 2 else after
    back = put_aside(daemon, tmp_path, 0, slice=away)

    e = daemon.erase(wait=False, subjects=["p"])
    wait("the rows that are there", lambda: not any(count_in(daemon, r) for r in there))
    wait("a failure", lambda: lines(daemon, "scrub_failed"))
    assert not scrubbed(daemon, e)
    daemon.restart()
    assert not scrubbed(daemon, e)
    back()
    wait("all of them", lambda: scrubbed(daemon, e))
    assert not any(count_in(daemon, r) for r in before + after)


def test_who_is_not_overwritten_yet_is_not_taken_again(make_daemon, tmp_path):
    """Though the suppression was lifted: the scrub would take the new record with the old one."""
    daemon = make_daemon(*OPTIONS)
    daemon.create(**CONFIG)
    old, new = row(1, "p1"), row(2, "p1")
    daemon.load("m", [old])
    back = put_aside(daemon, tmp_path, where(daemon, old)["shard"])
    e = daemon.erase(wait=False, subjects=["p1"])
    (item,) = daemon.ok("GET", "/v1/suppressions")["items"]
    daemon.ok("DELETE", f"/v1/suppressions/{item['pseudonym']}", status=204)
    assert daemon.load("m", [new])["suppressed"] == 1
    back()
    wait("the scrub", lambda: scrubbed(daemon, e))
    assert daemon.load("m", [new])["accepted"] == 1


def test_the_log_names_a_missing_file_once_and_not_at_every_attempt(make_daemon, tmp_path):
    daemon = make_daemon(*OPTIONS)
    daemon.create(**CONFIG)
    people = [row(n, f"p{n}") for n in range(60)]
    daemon.load("m", people)
    away = next(r for r in people if where(daemon, r)["shard"] == 0)
    held = [r for r in people if where(daemon, r)["shard"] == 1][:10]
    put_aside(daemon, tmp_path, 0)
    daemon.erase(wait=False, subjects=[away["subject"]])
    wait("a failure", lambda: lines(daemon, "scrub_failed"))
    for r in held:  # each wakes the loop more than once
        e = daemon.erase(wait=False, subjects=[r["subject"]])
        wait("somebody else's scrub", lambda e=e: scrubbed(daemon, e))
    assert len(lines(daemon, "scrub_failed")) == 1, daemon.log
    assert len(lines(daemon, "rows_damaged")) == 1, daemon.log
    assert daemon.model("m")["damaged_shards"] == 1


def test_an_upload_that_cannot_be_removed_does_not_keep_the_next_one(make_daemon, tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    faults = F.Faults(tmp_path / "faults", data)
    daemon = make_daemon(*OPTIONS, data_dir=data, env=faults.env)
    go_on, threads = threading.Event(), []

    def commits():
        metrics = daemon.get("/metrics").text
        return float(next(line for line in metrics.splitlines()
                          if line.startswith("unlearnd_commits_total")).split()[1])

    def upload(model):
        def body():
            yield b"".join(json.dumps(row(n, f"p{n}")).encode() + b"\n" for n in range(2100))
            assert go_on.wait(60)
            raise OSError("the client is gone")
        try:
            requests.post(f"{daemon.url}/v1/models/{model}/records?atomic=true", data=body(), timeout=60,
                          headers={"Content-Type": "application/x-ndjson"})
        except (OSError, *LOST):
            pass

    for model in ("first", "second"):
        daemon.create(**{**CONFIG, "name": model})
        before = commits()
        threads.append(threading.Thread(target=upload, args=(model,)))
        threads[-1].start()
        wait("a batch that is staged", lambda before=before: commits() > before)
    faults.on(F.WRITE | F.SYNC | F.TRUNCATE | F.ALLOCATE, errno.EIO, "models/first/")
    go_on.set()
    for t in threads:
        t.join(60)
    wait("a failure", lambda: lines(daemon, "upload_not_removed"))

    def loads(model):
        return daemon.request("POST", f"/v1/models/{model}/records", data=json.dumps(row(0, "p0")).encode(),
                              headers={"Content-Type": "application/x-ndjson"}).status_code
    wait("the second one's removal", lambda: loads("second") == 200)
    assert loads("first") != 200
    faults.off()
    wait("the first one's removal", lambda: loads("first") == 200)


# --- a stop does not wait for long work ---

def test_a_pass_closes_a_compactions_window_once(make_daemon, tmp_path):
    """Not once for each of the people in it: each time syncs a file."""
    passes = tmp_path / "passes"
    passes.mkdir()
    daemon = make_daemon(*OPTIONS, programs=BIN / "faults",
                         env={"UNLEARND_CRASH_PASSES": str(passes)})
    daemon.create(**{**CONFIG, "shards": 1})
    people = [row(n, f"p{n}") for n in range(2000)]
    daemon.load("m", people[:500])
    daemon.train("m")
    daemon.load("m", people[500:])

    def passed(point):
        path = passes / f"unlearnd.{point}"
        return path.stat().st_size if path.exists() else 0

    def moved():
        (shard,) = daemon.ok("GET", "/v1/models/m/shards")["shards"]
        return shard["slices"][0]["live"] > 500

    held = Held(passes, "compact.committed")
    job = daemon.ok("POST", "/v1/models/m/compact", status=202)
    while not moved():
        held.let_one_by()
    before = passed("compact.rows_zeroed")
    batch = [json.dumps({"subjects": [r["subject"]]}) + "\n" for r in people[:PASS_TARGETS // 2]]
    r = daemon.request("POST", "/v1/erasures:batch", data="".join(batch).encode(),
                       headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200, r.text
    held.let_go()
    for line in r.text.splitlines():
        daemon.wait_erasure(json.loads(line)["id"])
    assert daemon.wait_job(job["id"])["state"] == "succeeded"
    held.end()
    closed = passed("compact.rows_zeroed") - before
    assert closed <= passed("scrub.recorded") + passed("compact.moved"), closed


def test_whoever_was_moved_a_moment_ago_is_overwritten_in_both_places(make_daemon, tmp_path):
    """A compaction's last step leaves rows in their old places; the scrub does not wait for the next."""
    passes = tmp_path / "passes"
    passes.mkdir()
    daemon = make_daemon(*OPTIONS, programs=BIN / "faults",
                         env={"UNLEARND_CRASH_PASSES": str(passes)})
    daemon.create(**{**CONFIG, "shards": 1})
    people = [row(n, f"p{n}") for n in range(100)]
    daemon.load("m", people[:50])
    daemon.train("m")
    daemon.load("m", people[50:])

    def moved():
        return [r for r in people[50:] if where(daemon, r)["slice"] == 1]

    def copies(of):
        rows = b"".join(p.read_bytes() for p in daemon.data_dir.rglob("*.rows"))
        return sorted(rows.count(bytes(r["features"])) for r in of)

    moving = Held(passes, "compact.committed")
    job = daemon.ok("POST", "/v1/models/m/compact", status=202)
    while not moved():
        moving.let_one_by()
    window = moved()
    assert copies(window) == [2] * len(window)
    scrubbing = Held(passes, "scrub.rows_synced")  # nobody carries the compaction on meanwhile
    e = daemon.erase(wait=False, subjects=[window[-1]["subject"]])
    moving.let_go()
    try:
        wait("both places", lambda: copies(window) == [0] + [1] * (len(window) - 1), 20)
        assert not scrubbed(daemon, e)
    finally:
        scrubbing.let_go()
    daemon.wait_erasure(e["id"])
    assert daemon.wait_job(job["id"])["state"] == "succeeded"
    moving.end()
    scrubbing.end()


def listens(daemon):
    try:
        requests.get(daemon.url + "/v2/health/live", timeout=10)
        return True
    except requests.RequestException:
        return False


def delete(daemon, passes):
    with pytest.raises(LOST):
        daemon.delete("/v1/models/m")


def break_off_an_upload(daemon, passes):
    """Killed when more is staged than one step takes back."""
    batches = passes / "unlearnd.upload.committed"
    before = batches.stat().st_size

    def body():
        for n in range(0, 12000, 1000):
            yield b"".join(json.dumps(row(100000 + k, f"p{k}")).encode() + b"\n"
                           for k in range(n, n + 1000))
        wait("what is staged", lambda: batches.stat().st_size >= before + 3)
        daemon.process.kill()
        daemon.process.wait(30)
        yield b"\n"
    with pytest.raises(LOST):
        requests.post(f"{daemon.url}/v1/models/m/records?atomic=true", data=body(), timeout=60,
                      headers={"Content-Type": "application/x-ndjson"})


@pytest.mark.parametrize("point, begin", [("delete.recorded", delete),
                                          ("staged.abort_recorded", break_off_an_upload)])
def test_a_stop_does_not_wait_for_a_removal_that_the_next_start_goes_on_with(make_daemon, tmp_path, point,
                                                                             begin):
    passes = tmp_path / "passes"
    passes.mkdir()
    counts = {"UNLEARND_CRASH_PASSES": str(passes)}
    daemon = make_daemon(*OPTIONS, programs=BIN / "faults",
                         env={**counts, "UNLEARND_CRASH_POINT": f"unlearnd/{point}"})
    daemon.create(**CONFIG)
    daemon.load("m", [row(n, f"p{n}") for n in range(12000)])
    begin(daemon, passes)
    daemon.process.wait(30)

    held = Held(passes, point)
    daemon.start(counts)  # and there the writer stands
    daemon.process.terminate()
    wait("the end of the HTTP side", lambda: not listens(daemon))
    held.let_go()
    assert daemon.process.wait(60) == 0, daemon.log
    held.end()

    daemon.start(counts)
    wait("the rest of it", lambda: (passes / f"unlearnd.{point}").exists())
    if begin is delete:
        wait("the model's end", lambda: not (daemon.data_dir / "models" / "m").exists()
             and not daemon.ok("GET", "/v1/models")["items"])
    else:
        wait("room for an upload", lambda: daemon.post(
            "/v1/models/m/records", data=json.dumps(row(20000, "new")).encode(),
            headers={"Content-Type": "application/x-ndjson"}).status_code == 200)
        assert daemon.model("m")["records"] == 12001
