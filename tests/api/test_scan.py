# SPDX-License-Identifier: Apache-2.0
"""Invariant 5 with the auditors' own tool, `unlearnctl scan`: it finds what is there, wherever it is
planted, and after an erasure was scrubbed there is nothing to find, however the daemon or its workers
ended. A scanner that could not fail would prove nothing, so every kind of trace is planted first."""
import gzip
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import requests
from conftest import BIN, DIGITS, ROOT
from figures import figure

figures = {"planted": 0, "planted_found": 0, "scans_after_erasure": 0,
           "files_scanned": 0, "bytes_scanned": 0, "traces_left": 0}


@pytest.fixture(scope="module", autouse=True)
def tell_figures():
    yield
    figure("nothing left", **figures)


def scan(*args, expect=None, stdin=None):
    r = subprocess.run([str(BIN / "unlearnctl"), "--json", "scan", *map(str, args)],
                       capture_output=True, text=True, input=stdin, timeout=300)
    assert r.returncode in (0, 1, 2), f"{r.returncode}: {r.stderr}"
    report = json.loads(r.stdout) if r.stdout else {"findings": [], "stderr": r.stderr}
    if expect is not None:
        assert r.returncode == expect, json.dumps(report) + r.stderr
    return report


def lines(records):
    return "".join(json.dumps(r) + "\n" for r in records)


def nothing_left(data_dir, records, *more):
    """The scan of an auditor who has everything: key, ids and the rows themselves."""
    subjects = [x for s in sorted({r["subject"] for r in records if "subject" in r})
                for x in ("--subject", s)]
    report = scan("--data-dir", data_dir, *subjects, "--record-file", "-", *more, stdin=lines(records))
    figures["scans_after_erasure"] += 1
    figures["files_scanned"] += report["files"]
    figures["bytes_scanned"] += report["bytes"]
    figures["traces_left"] += report["traces"]
    assert report["clean"] and report["traces"] == 0, json.dumps(report)
    assert report["files"] >= 4 and report["not_searchable"] == []
    return report


def of_subject(digits, subject):
    return [r for r in digits if r["subject"] == subject]


def renamed(digits):
    """Ids as people have them; those of the data set are too short to be looked for in the clear."""
    return [{**r, "id": f"image-{r['id']}@example.org", "subject": f"person-{r['subject']}@example.org"}
            for r in digits]


@pytest.fixture(scope="session")
def people(digits):
    return renamed(digits)


def trained(daemon, people, **more):
    daemon.create(**{**DIGITS, **more})
    daemon.load("digits", people)
    daemon.train("digits")


def wait_scrubbed(daemon, erasure):
    end = time.monotonic() + 60
    while not (e := daemon.ok("GET", f"/v1/erasures/{erasure}"))["scrubbed_at"]:
        assert time.monotonic() < end, e
        time.sleep(0.01)
    return e


def kinds(report):
    return {f["kind"] for f in report["findings"] if f["trace"]}


# --- it finds what is there ---


def test_before_the_erasure_it_finds_the_rows_and_after_it_nothing(daemon, people):
    trained(daemon, people)
    mine = of_subject(people, people[35]["subject"])
    by_subject = scan("--data-dir", daemon.data_dir, "--subject", mine[0]["subject"], expect=1)
    assert by_subject["traces"] == len(mine), "the rows of a subject are found by the subject's id alone"
    by_rows = scan("--data-dir", daemon.data_dir, "--record-file", "-", stdin=lines(mine), expect=1)
    assert {f["of"] for f in by_rows["findings"] if f["kind"] == "row"} == {
        f"line {i + 1}" for i in range(len(mine))}
    erasure = daemon.erase(wait=False, subjects=[mine[0]["subject"]])
    wait_scrubbed(daemon, erasure["id"])
    nothing_left(daemon.data_dir, mine)
    daemon.wait_erasure(erasure["id"])
    nothing_left(daemon.data_dir, mine)
    daemon.restart()
    nothing_left(daemon.data_dir, mine)
    scan("--data-dir", daemon.data_dir, "--subject", mine[0]["subject"], expect=0)


def test_without_the_key_the_rows_are_found_all_the_same(daemon, people, tmp_path):
    trained(daemon, people)
    daemon.stop()
    copy = tmp_path / "copy"
    shutil.copytree(daemon.data_dir, copy)
    shutil.rmtree(copy / "keys")
    packed = tmp_path / "people.ndjson.gz"
    packed.write_bytes(gzip.compress(lines(people[:3]).encode()))
    report = scan("--data-dir", copy, "--record-file", packed, expect=1)
    assert kinds(report) == {"row"} and report["traces"] == 3


def test_people_read_a_line_for_each_trace_and_a_sum(daemon, people):
    trained(daemon, people[:300])
    mine = of_subject(people, people[35]["subject"])
    r = subprocess.run([str(BIN / "unlearnctl"), "scan", "--data-dir", str(daemon.data_dir), "--subject",
                        mine[0]["subject"], "--explained"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and r.stderr == ""
    told = r.stdout.splitlines()
    rows = [x for x in told if x.startswith("trace     row ")]
    assert len(rows) == len(mine) and all(".rows at " in x and "(subject 1)" in x for x in rows)
    assert any(x.startswith("explained pseudonym ") and "control.mdb at " in x for x in told)
    assert f"{len(mine)} traces" in told[-1] and told[-1].endswith("0 not searchable, 0 not read")


def test_a_model_that_was_deleted_leaves_nothing(daemon, people):
    trained(daemon, people)
    assert daemon.delete("/v1/models/digits").status_code in (200, 202, 204)
    end = time.monotonic() + 60
    while any((daemon.data_dir / "models").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.02)
    nothing_left(daemon.data_dir, people)
    daemon.restart()
    nothing_left(daemon.data_dir, people)


TEXTS = [f"Dear Sir or Madam, my name is Person Number{i} and my account is DE{i:018d}; please call "
         f"me under +49 30 {i:07d} about the invoice of last month." for i in range(60)]


def test_texts_are_found_by_their_hashed_rows_and_leave_nothing(daemon):
    records = [{"id": f"letter-{i}@example.org", "label": str(i % 2), "text": t}
               for i, t in enumerate(TEXTS)]
    daemon.create(name="letters", kind="softmax", encoder="hash_text", features=256, classes=2,
                  shards=2, slices=2, epochs=2)
    daemon.load("letters", records)
    daemon.train("letters")
    mine = records[7:9]
    before = scan("--data-dir", daemon.data_dir, "--record-file", "-", stdin=lines(mine), expect=1)
    assert "row" in kinds(before)
    daemon.erase(records=[{"model": "letters", "id": r["id"]} for r in mine])
    nothing_left(daemon.data_dir, mine)


def test_columns_are_encoded_as_the_model_does_and_leave_nothing(daemon):
    columns = [{"name": f"n{i}", "type": "numeric"} for i in range(6)]
    columns.append({"name": "town", "type": "categorical", "values": ["Paris", "Rome", "Oslo"]})
    daemon.create(name="towns", kind="softmax", encoder="tabular", classes=2, shards=2, slices=2,
                  epochs=2, columns=columns)
    records = [{"id": f"citizen-{i}@example.org", "label": str(i % 2),
                "columns": {**{f"n{k}": (i * 37 + k * 11) % 101 / 7 for k in range(6)},
                            "town": ["Paris", "Rome", "Elsewhere"][i % 3]}} for i in range(60)]
    daemon.load("towns", records)
    daemon.train("towns")
    mine = records[10:12]
    before = scan("--data-dir", daemon.data_dir, "--record-file", "-", stdin=lines(mine), expect=1)
    assert sum(f["kind"] == "row" for f in before["findings"]) == 2
    table = "id,label," + ",".join(mine[0]["columns"]) + "\n" + "".join(
        f"{r['id']},{r['label']}," + ",".join(map(str, r["columns"].values())) + "\n" for r in mine)
    as_csv = scan("--data-dir", daemon.data_dir, "--record-file", "-", stdin=table, expect=1)
    assert sum(f["kind"] == "row" for f in as_csv["findings"]) == 2
    daemon.erase(records=[{"model": "towns", "id": r["id"]} for r in mine])
    nothing_left(daemon.data_dir, mine)


@pytest.fixture(scope="module")
def stopped(people, tmp_path_factory):
    """A stopped daemon's directory in which a subject was erased, and what is known of the subject."""
    from conftest import Daemon
    folder = tmp_path_factory.mktemp("stopped")
    daemon = Daemon(folder)
    trained(daemon, people)
    mine = of_subject(people, people[35]["subject"])
    before = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    daemon.erase(subjects=[mine[0]["subject"]])
    daemon.stop()
    stale = next(data for p, data in before.items()
                 if p.suffix == ".ckpt" and (folder / p).read_bytes() != data)
    return folder, mine, stale


def forms(mine, key):
    r = mine[0]
    id_, subject = r["id"].encode(), r["subject"].encode()
    digest = hashlib.sha256(id_).digest()
    return {
        "the id": id_,
        "the id in JSON": json.dumps({"id": r["id"]}).encode(),
        "the id in a URL": id_.replace(b"@", b"%40"),
        "the id in UTF-16": r["id"].encode("utf-16-le"),
        "the subject": subject,
        "a hash": digest,
        "a hash in hex": digest.hex().encode(),
        "a pseudonym in hex": hashlib.blake2b(digest, key=key, digest_size=16).hexdigest().encode(),
        "a row of bytes": bytes(r["features"]),
        "a row of floats": struct.pack("<64f", *r["features"]),
        "the line that was uploaded": json.dumps(r).encode(),
    }


PLACES = ["control.mdb", "rows", "ckpt", "keys", "new", "deep", "tmp"]


def plant(folder, place, bytes_):
    """Behind the data of a file of each kind, or in a file of its own."""
    if place == "control.mdb":
        path = folder / "control.mdb"
    elif place in ("rows", "ckpt"):
        path = sorted(folder.rglob(f"*.{place}"))[0]
    elif place == "keys":
        path = folder / "keys" / "log.key"
    else:
        path = folder / {"new": "left", "deep": "scratch/01JOB/job.json",
                         "tmp": "models/digits/shard-000/slice-001.ckpt.tmp"}[place]
        path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as f:
        f.write(bytes_)
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_planted_trace_is_found_in_every_kind_of_file(stopped, tmp_path, place):
    folder, mine, _ = stopped
    nothing_left(folder, mine)
    key = (folder / "keys" / "pseudonym.key").read_bytes()
    for name, bytes_ in forms(mine, key).items():
        copy = tmp_path / hashlib.sha256(name.encode()).hexdigest()[:8]
        shutil.copytree(folder, copy)
        path = plant(copy, place, b"\0\1\2" + bytes_ + b"\0")
        figures["planted"] += 1
        report = scan("--data-dir", copy, "--subject", mine[0]["subject"], "--record-file", "-",
                      "--explained", stdin=lines(mine))
        if name.startswith("a pseudonym") and place == "control.mdb":
            assert report["clean"] and report["explained"] > 0
        else:
            assert report["traces"] > 0, f"{name} in {path}"
            assert str(path) in {f["path"] for f in report["findings"] if f["trace"]}, name
        figures["planted_found"] += 1
        shutil.rmtree(copy)


def test_a_row_that_comes_back_in_its_file_is_found(stopped, tmp_path):
    folder, mine, _ = stopped
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    rows = max(copy.rglob("*.rows"), key=lambda p: p.stat().st_size)
    with open(rows, "r+b") as f:
        f.seek(64 + 24)  # the features of the first row, under its checksum and pseudonym
        f.write(bytes(mine[0]["features"]))
    report = scan("--data-dir", copy, "--record-file", "-", stdin=lines(mine), expect=1)
    assert {f["path"] for f in report["findings"] if f["kind"] == "row"} == {str(rows)}


@pytest.mark.parametrize("where", ["live", "temporary", "fragment"])
def test_a_checkpoint_that_was_trained_on_the_erased_is_found(stopped, tmp_path, where):
    folder, mine, stale = stopped
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if where == "fragment":  # what a file system has kept of it on a page of its own
        path = copy / "image"
        path.write_bytes(bytes(1 << 20) + stale[100:900] + os.urandom(5000))
    else:
        path = copy / "models/digits/shard-000" / (
            "slice-001.ckpt" if where == "live" else "slice-004.ckpt.tmp")
        path.write_bytes(stale)
    report = scan("--data-dir", copy, "--subject", mine[0]["subject"], "--record-file", "-",
                  stdin=lines(mine), expect=1)
    found = [f for f in report["findings"] if f["kind"] == "checkpoint"]
    assert [f["path"] for f in found] == [str(path)]
    assert found[0]["what"] == "a checkpoint that was trained on the record" and found[0]["of"]
    unnamed = scan("--data-dir", copy, expect=1)["findings"]
    assert [f["what"] for f in unnamed] == [
        "a checkpoint that was trained on records that are no longer there"]


def test_an_image_a_log_or_a_device_is_read_as_it_is(stopped, tmp_path):
    folder, mine, _ = stopped
    image = tmp_path / "disk.img"
    with open(image, "wb") as f:  # sparse: the trace stands behind a hole of 64 MiB
        f.seek(64 << 20)
        f.write(b"\0" * 77 + bytes(mine[0]["features"]) + b"\0" * 99)
    report = scan("--image", image, "--record-file", "-", stdin=lines(mine), expect=1)
    assert kinds(report) == {"row"} and report["findings"][0]["offset"] == (64 << 20) + 77
    assert report["bytes"] < 1 << 20, "holes are passed over"


def test_what_could_not_be_read_is_never_clean(stopped, tmp_path):
    folder, mine, _ = stopped
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "elsewhere").symlink_to(folder)
    report = scan("--data-dir", copy, "--subject", mine[0]["subject"], expect=2)
    assert not report["clean"] and [n["path"] for n in report["not_read"]] == [str(copy / "elsewhere")]
    scan("--data-dir", tmp_path / "absent", "--subject", "someone@example.org", expect=2)
    scan("--image", tmp_path / "absent", expect=2)
    scan("--data-dir", folder, "--record-file", tmp_path / "absent", expect=2)
    scan("--data-dir", folder, "--key", folder / "control.mdb", expect=2)
    scan("--data-dir", folder, "--record-file", "-", stdin='{"id": "x"', expect=2)
    scan(expect=2)


def test_what_cannot_be_told_from_chance_is_said_and_not_left_out(stopped):
    folder, _, _ = stopped
    report = scan("--data-dir", folder, "--record-file", "-",
                  stdin=lines([{"id": "r1", "features": [0] * 64}]), expect=0)
    whys = [n["why"] for n in report["not_searchable"]]
    assert any("uniform" in w for w in whys) and any("too short" in w for w in whys)


def test_the_personal_value_is_never_repeated(stopped, tmp_path):
    folder, mine, _ = stopped
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    plant(copy, "new", mine[0]["id"].encode())
    (copy / mine[0]["id"]).mkdir()
    (copy / mine[0]["id"] / "x").write_bytes(b"x")
    for option in ([], ["--json"]):
        r = subprocess.run([str(BIN / "unlearnctl"), *option, "scan", "--data-dir", str(copy),
                            "--record", mine[0]["id"]], capture_output=True, text=True, timeout=60)
        assert r.returncode == 1
        assert mine[0]["id"] not in r.stdout + r.stderr


def test_another_record_with_the_same_features_is_no_trace(make_daemon, people):
    # a key with which the twin is not alone in a shard's first slice: its row would be the mean there
    daemon = make_daemon(key=bytes(range(32)))
    twin = {**people[35], "id": "twin@example.org", "subject": "twin-subject@example.org"}
    daemon.create(**DIGITS)
    daemon.load("digits", [*people[:300], twin])
    daemon.train("digits")
    daemon.erase(records=[{"model": "digits", "id": people[35]["id"]}])
    erased = {k: v for k, v in people[35].items() if k != "subject"}  # who has other records, which stay
    report = nothing_left(daemon.data_dir, [erased], "--explained")
    assert "another record has the same features" in {f["what"] for f in report["findings"]}
    scan("--data-dir", daemon.data_dir, "--record-file", "-", stdin=lines([twin]), expect=1)


# --- nothing is left, however things end ---


def children(pid):
    out = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(p) for p in out.split()]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
    return value


def scratch_checkpoints(daemon):
    return list((daemon.data_dir / "scratch").rglob("*.ckpt"))


LONG = {**DIGITS, "epochs": 3000, "shards": 1}
FAST = ["--gather-window-ms", "30", "--retry-first-ms", "50"]


def start_long_training(daemon, people):
    daemon.create(**LONG)
    daemon.load("digits", people)
    daemon.ok("POST", "/v1/models/digits/train", status=202)
    wait_for(lambda: scratch_checkpoints(daemon))


def first_slice(daemon, people):
    """Somebody whom the first checkpoint was trained on."""
    return next(of_subject(people, r["subject"]) for r in people[::5] if daemon.ok(
        "GET", f"/v1/models/digits/records/{r['id']}")["slice"] == 1)


def test_a_killed_worker_leaves_nothing_in_its_scratch_folder(make_daemon, people):
    daemon = make_daemon(*FAST)
    start_long_training(daemon, people)
    mine = first_slice(daemon, people)
    for pid in children(daemon.process.pid):
        os.kill(pid, signal.SIGKILL)
    erasure = daemon.erase(wait=False, subjects=[mine[0]["subject"]])
    wait_scrubbed(daemon, erasure["id"])
    nothing_left(daemon.data_dir, mine)


def test_an_erasure_in_the_middle_of_a_training_leaves_nothing_of_it(make_daemon, people):
    daemon = make_daemon(*FAST)
    start_long_training(daemon, people)
    mine = first_slice(daemon, people)
    erasure = daemon.erase(wait=False, subjects=[mine[0]["subject"]])
    wait_scrubbed(daemon, erasure["id"])
    nothing_left(daemon.data_dir, mine)


@pytest.mark.parametrize("worker_first", [False, True])
def test_a_daemon_killed_in_a_training_leaves_nothing_of_it(make_daemon, people, worker_first):
    daemon = make_daemon(*FAST)
    start_long_training(daemon, people)
    mine = first_slice(daemon, people)
    if worker_first:
        for pid in children(daemon.process.pid):
            os.kill(pid, signal.SIGKILL)
    daemon.kill()
    before = scan("--data-dir", daemon.data_dir, "--subject", mine[0]["subject"], expect=1)
    assert kinds(before) == {"row"}
    daemon.http = requests.Session()
    daemon.start()
    erasure = daemon.erase(wait=False, subjects=[mine[0]["subject"]])
    wait_scrubbed(daemon, erasure["id"])
    nothing_left(daemon.data_dir, mine)


def test_a_daemon_killed_right_after_the_202_has_scrubbed_at_its_next_start(make_daemon, people):
    daemon = make_daemon(*FAST)
    trained(daemon, people)
    mine = of_subject(people, people[35]["subject"])
    erasure = daemon.erase(wait=False, subjects=[mine[0]["subject"]])
    daemon.kill()
    daemon.http = requests.Session()
    daemon.start()
    wait_scrubbed(daemon, erasure["id"])
    nothing_left(daemon.data_dir, mine)


def test_an_erasure_in_the_middle_of_a_verification_leaves_nothing_of_it(make_daemon, people):
    daemon = make_daemon(*FAST)
    trained(daemon, people, epochs=3000, shards=1)
    mine = first_slice(daemon, people)
    daemon.ok("POST", "/v1/models/digits/verify", status=202)
    wait_for(lambda: scratch_checkpoints(daemon))
    erasure = daemon.erase(wait=False, subjects=[mine[0]["subject"]])
    wait_scrubbed(daemon, erasure["id"])
    nothing_left(daemon.data_dir, mine)


IDLE_TIMEOUT_SECONDS = 60  # the daemon's default


def half_an_upload(daemon, records, query):
    """Everything but the last line of a body that was announced, and then the connection goes."""
    body = lines(records).encode()
    host, port = daemon.url.removeprefix("http://").split(":")
    s = socket.create_connection((host, int(port)), timeout=30)
    s.sendall(f"POST /v1/models/digits/records{query} HTTP/1.1\r\nHost: x\r\n"
              f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    s.sendall(body[:-20])
    return s


def rows_bytes(daemon):
    return sum(p.stat().st_size - 64 for p in daemon.data_dir.rglob("*.rows"))


def many(people):
    """More than two batches of an upload, so that the first are in the files before it ends."""
    return [{**r, "id": f"{n}-{r['id']}"} for n in range(3) for r in people]


@pytest.mark.parametrize("at_once", [True, False])
def test_an_atomic_upload_whose_client_went_away_leaves_nothing(daemon, people, at_once):
    """At once: its goodbye comes with its last bytes, and is noticed long before the idle timeout."""
    daemon.create(**DIGITS)
    s = half_an_upload(daemon, many(people), "?atomic=true")
    wait_for(lambda: rows_bytes(daemon) > 0)
    if not at_once:
        held = scan("--data-dir", daemon.data_dir, "--record-file", "-", stdin=lines(many(people)[:200]))
        assert held["traces"] > 0, "it was on its way into the files"
    s.close()
    wait_for(lambda: rows_bytes(daemon) == 0, seconds=IDLE_TIMEOUT_SECONDS / 2)
    nothing_left(daemon.data_dir, many(people))


def test_an_atomic_upload_with_a_bad_line_leaves_nothing(daemon, people):
    daemon.create(**DIGITS)
    body = lines(many(people)) + '{"id": "bad", "label": "1", "features": [1]}\n'
    r = daemon.request("POST", "/v1/models/digits/records?atomic=true", data=body.encode(),
                       headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 422
    wait_for(lambda: rows_bytes(daemon) == 0)
    nothing_left(daemon.data_dir, many(people))


def commits(daemon):
    return next(float(line.split()[1]) for line in daemon.get("/metrics").text.splitlines()
                if line.startswith("unlearnd_commits_total "))


def test_an_atomic_upload_that_the_daemon_died_in_leaves_nothing(daemon, people):
    daemon.create(**DIGITS)
    before = commits(daemon)
    s = half_an_upload(daemon, many(people), "?atomic=true")
    wait_for(lambda: rows_bytes(daemon) > 0 and commits(daemon) > before)
    daemon.kill()
    s.close()
    daemon.http = requests.Session()
    daemon.start()
    wait_for(lambda: rows_bytes(daemon) == 0)
    nothing_left(daemon.data_dir, many(people))
    assert daemon.load("digits", people[:10])["accepted"] == 10, "it was called off"


def test_rows_that_were_refused_never_reach_a_file(daemon, people):
    trained(daemon, people[:300])
    mine = of_subject(people, people[35]["subject"])
    daemon.erase(subjects=[mine[0]["subject"]])
    again = daemon.load("digits", people[:300])
    assert again["suppressed"] == len(mine)
    bad = [{**r, "label": "no such label", "id": f"bad-{r['id']}"} for r in people[300:320]]
    r = daemon.request("POST", "/v1/models/digits/records", data=lines(bad).encode(),
                       headers={"Content-Type": "application/x-ndjson"})
    assert r.json()["rejected"] == len(bad)
    s = half_an_upload(daemon, [{**people[330], "id": "half@example.org"}], "")
    s.close()
    nothing_left(daemon.data_dir, mine)
    nothing_left(daemon.data_dir, bad)
    nothing_left(daemon.data_dir, [{**people[330], "id": "half@example.org"}])


def test_what_is_only_predicted_or_evaluated_is_never_written(daemon, people):
    trained(daemon, people[:300])
    strangers = people[300:600]
    r = daemon.request("POST", "/v1/models/digits/evaluate", data=lines(strangers).encode(),
                       headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200, r.text
    assert daemon.infer("digits", [r["features"] for r in strangers]).status_code == 200
    daemon.erase(subjects=[strangers[0]["subject"]])
    nothing_left(daemon.data_dir, strangers)


def test_the_log_names_nobody_at_its_most_talkative(make_daemon, people, tmp_path):
    daemon = make_daemon("--log-level", "debug", *FAST)
    trained(daemon, people)
    mine = of_subject(people, people[35]["subject"])
    record = mine[0]["id"]
    daemon.get(f"/v1/models/digits/records/{record}")
    daemon.get(f"/v1/models/{record}")
    daemon.infer("digits", [mine[0]["features"]])
    daemon.post("/v1/erasures", {"subjects": [mine[0]["subject"]], record: 1})
    daemon.request("POST", "/v1/models/digits/records", data=lines(
        [{**mine[0], "label": mine[0]["subject"]}]).encode() + b'{"id": "' + record.encode(),
        headers={"Content-Type": "application/x-ndjson"})
    daemon.erase(subjects=[mine[0]["subject"]])
    daemon.load("digits", mine)
    nothing_left(daemon.data_dir, mine)
    daemon.stop()
    log = tmp_path / "log"
    log.write_text("\n".join(daemon.log) + "\n")
    assert len(daemon.log) > 10
    report = scan("--image", log, "--key", daemon.data_dir / "keys" / "pseudonym.key", "--subject",
                  mine[0]["subject"], "--record-file", "-", "--explained", stdin=lines(mine), expect=0)
    assert report["explained"] == 0, "not even a pseudonym"


# --- no core dumps ---


def limits_of(pid):
    line = next(x for x in Path(f"/proc/{pid}/limits").read_text().splitlines()
                if x.startswith("Max core file size"))
    return line.split()[4:6]


def test_neither_the_daemon_nor_a_worker_may_dump_core(make_daemon, people):
    daemon = make_daemon(*FAST)
    start_long_training(daemon, people)
    for pid in (daemon.process.pid, *wait_for(lambda: children(daemon.process.pid))):
        assert limits_of(pid) == ["0", "0"], "RLIMIT_CORE, soft and hard"


NOBODY = 65534


def is_dumpable(pid):
    """The kernel gives the files of /proc/PID to root where a process may not be dumped nor traced."""
    return os.stat(f"/proc/{pid}/environ").st_uid != 0


def as_nobody(folder, program):
    """`program` in the folder becomes a script that gives up root first: of root's own processes /proc
    tells nothing."""
    (folder / program).write_text(f"#!/bin/sh\nexec setpriv --reuid={NOBODY} --regid={NOBODY} "
                                  f'--clear-groups {folder}/bin/{program} "$@"\n')
    (folder / program).chmod(0o755)


def test_neither_the_daemon_nor_a_worker_is_dumpable(make_daemon, people):
    """PR_SET_DUMPABLE stands behind the limit: it also keeps the memory from a debugger."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user takes root and setpriv")
    with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "bin").mkdir()
        for program in ("unlearnd", "unlearn-worker"):
            shutil.copy(BIN / program, folder / "bin" / program)
        shutil.copy(shutil.which("sleep"), folder / "bin" / "sleep")
        as_nobody(folder, "unlearnd")
        as_nobody(folder, "sleep")
        (folder / "data").mkdir(mode=0o700)
        os.chown(folder / "data", NOBODY, NOBODY)
        control = subprocess.Popen([folder / "sleep", "60"])
        wait_for(lambda: is_dumpable(control.pid))  # of any other program it can be told
        control.kill()
        control.wait()
        daemon = make_daemon(*FAST, data_dir=folder / "data", programs=folder)
        start_long_training(daemon, people)
        for pid in (daemon.process.pid, *wait_for(lambda: children(daemon.process.pid))):
            assert f"Uid:\t{NOBODY}\t" in Path(f"/proc/{pid}/status").read_text()
            assert not is_dumpable(pid)
        daemon.stop()


def test_the_unit_keeps_memory_off_the_disk():
    unit = (ROOT / "systemd" / "unlearnd.service").read_text().splitlines()
    assert "LimitCORE=0" in unit and "MemorySwapMax=0" in unit
