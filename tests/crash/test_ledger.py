# SPDX-License-Identifier: Apache-2.0
"""The erasure ledger: what was erased after a copy of the data directory was made is erased again when
that copy is put back, before anybody is served. The copies here are plain ones of a stopped daemon;
test_backup.py takes them while it serves."""
import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from conftest import BIN, read_digits
from conftest import DIGITS as FULL
from faults import SYNC, Faults
from figures import figure
from small_disk import small_disk  # noqa: F401 (a fixture)

DIGITS = {**FULL, "epochs": 2}
FAST = ["--gather-window-ms", "0", "--retry-first-ms", "50"]


def ledger_options(folder):
    return [*FAST, "--ledger-dir", str(folder)]


def lines_of(ledger):
    return (ledger / "erasures.ledger").read_text().splitlines()


def erasures_in(ledger):
    return [line.split()[1] for line in lines_of(ledger) if line.startswith("e ")]


def audit_types(d):
    items, cursor = [], ""
    while True:
        page = d.ok("GET", "/v1/audit?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        items += [e["type"] for e in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            return items


def all_erasures(d):
    found, cursor = set(), ""
    while True:
        page = d.ok("GET", "/v1/erasures?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        found |= {e["id"] for e in page["items"]}
        cursor = page["next_cursor"]
        if not cursor:
            return found


def bytes_of(record):
    return bytes(record["features"])


def traces(folder, records):
    """The records whose row bytes stand in some file below the folder (all rows differ)."""
    found = set()
    for path in Path(folder).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found |= {r["id"] for r in records if bytes_of(r) in content}
    return found


def lift_until_loaded(d, record):
    """Nobody can tell whose pseudonym it is: one after the other, until the record is taken."""
    for item in d.ok("GET", "/v1/suppressions")["items"]:
        d.ok("DELETE", f"/v1/suppressions/{item['pseudonym']}")
        if d.load("digits", [record])["accepted"] == 1:
            return
    raise AssertionError("no suppression was the record's")


@pytest.fixture(scope="session")
def digits():
    return read_digits(400)


@pytest.fixture
def world(make_daemon, digits, tmp_path):
    """A trained model, and a copy of its data directory from before anybody was erased."""
    ledger = tmp_path / "second-place"
    d = make_daemon(*ledger_options(ledger), data_dir=str(tmp_path / "data"))
    d.create(**DIGITS)
    d.load("digits", digits)
    d.train("digits")
    d.stop()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    d.start()
    return d, ledger, tmp_path / "copy"


def put_back(d, copy):
    shutil.rmtree(d.data_dir)
    shutil.copytree(copy, d.data_dir)


def held(d, record):
    status = d.get(f"/v1/models/digits/records/{record['id']}").status_code
    assert status in (200, 404)
    return status == 200


def test_an_erasure_after_the_copy_is_erased_again_before_anybody_is_served(world, digits,
                                                                            make_daemon):
    d, ledger, copy = world
    gone = [f"s{i}" for i in range(10)]
    for s in gone:
        d.erase(subjects=[s], reference="DSR-" + s, regulation="gdpr")
    one = d.erase(records=[{"model": "digits", "id": digits[100]["id"]}])
    expected = d.model("digits")["served_hash"]
    d.stop()
    erased = [r for r in digits if r["subject"] in gone] + [digits[100]]
    put_back(d, copy)
    assert traces(d.data_dir, erased) == {r["id"] for r in erased}
    d.start()
    assert not any(held(d, r) for r in erased)
    assert not traces(d.data_dir, erased)
    d.wait_erasure(one["id"])
    first = d.ok("GET", f"/v1/erasures/{erasures_in(ledger)[0]}")
    assert first["reference"] == "DSR-s0" and first["regulation"] == "gdpr"
    for e in erasures_in(ledger):
        d.wait_erasure(e)
    assert d.model("digits")["served_hash"] == expected
    assert d.load("digits", [r for r in digits if r["subject"] == "s3"])["suppressed"] == 5
    assert audit_types(d).count("erasure.replayed") == 11
    d.ctl("audit", "verify")
    assert len(erasures_in(ledger)) == 11


def test_a_replay_is_done_once(world, digits):
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    d.stop()
    put_back(d, copy)
    d.start()
    before = audit_types(d).count("erasure.replayed")
    d.restart()
    assert audit_types(d).count("erasure.replayed") == before == 1
    assert len(erasures_in(ledger)) == 1


def wait_until(what):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_start_that_ends_before_it_scrubbed_what_it_replayed_leaves_it_to_the_next(world, digits,
                                                                                     tmp_path):
    """A crash meanwhile, a second start that waits as well, and a clean stop of that one."""
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    d.stop()
    put_back(d, copy)
    faults, log = Faults(tmp_path / "faults", d.data_dir), tmp_path / "log"
    faults.on(SYNC, errno.EIO, ".rows")
    for ending, status in [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)]:
        with open(log, "w") as stderr:
            p = subprocess.Popen([str(BIN / "unlearnd"), "--data-dir", str(d.data_dir), "--listen",
                                  "127.0.0.1:0", *d.options], stderr=stderr,
                                 env={**os.environ, **faults.env})
        try:
            wait_until(lambda: "degraded reason=scrub" in log.read_text())
            hit = faults.hit()
            wait_until(lambda: faults.hit() > hit)  # a second later
            assert "listening" not in log.read_text()
            p.send_signal(ending)
            assert p.wait(30) == status, log.read_text()
            assert "listening" not in log.read_text()
        finally:
            p.kill()
            p.wait(30)
    faults.off()
    d.start()
    assert not traces(d.data_dir, [r for r in digits if r["subject"] == "s1"])
    assert audit_types(d).count("erasure.replayed") == 1
    d.restart()
    assert not any("ledger_incomplete" in line for line in d.log)


def test_a_lifted_suppression_stays_lifted(world, digits):
    d, ledger, copy = world
    d.erase(subjects=["s1", "s2"])
    lift_until_loaded(d, digits[5])
    other = [r for r in digits if r["subject"] == "s2"]
    was = d.load("digits", other)["suppressed"]
    d.stop()
    put_back(d, copy)
    d.start()
    assert not held(d, digits[5]), "what the copy held of the person is gone"
    assert d.load("digits", [digits[5]])["accepted"] == 1
    assert d.load("digits", other)["suppressed"] == was
    assert "suppression.replayed" in audit_types(d)


def test_a_replayed_lift_leaves_the_suppression_of_a_later_erasure(world, digits):
    """The copy was served without the ledger for a while, and the person was erased again there."""
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    lift_until_loaded(d, digits[5])
    d.stop()
    put_back(d, copy)
    with_ledger = list(d.options)
    d.options = [*FAST, "--insecure-no-auth", "--ledger-dir", "none"]
    d.start()
    d.erase(subjects=["s1"])
    d.stop()
    d.options = with_ledger
    d.start()
    assert d.load("digits", [digits[5]])["suppressed"] == 1
    assert not held(d, digits[5]) and len(erasures_in(ledger)) == 2


@pytest.mark.parametrize("trained", [True, False])
def test_generations_after_the_copy_stay_withdrawn_and_are_not_given_again(world, digits, trained):
    """Also those of a slice that the copy holds and had not served."""
    d, _, copy = world
    if not trained:
        d.create(**{**DIGITS, "name": "fresh"})
        d.load("fresh", digits)
        d.stop()
        shutil.rmtree(copy)
        shutil.copytree(d.data_dir, copy)
        d.start()
        d.train("fresh")
    name = "digits" if trained else "fresh"
    for i in (1, 2):
        d.erase(subjects=[f"s{i}"])
    between = d.model(name)["generation"]
    e = d.erase(subjects=["s3"])
    last = d.model(name)["generation"]
    d.stop()
    put_back(d, copy)
    d.start()
    if not trained:
        d.train(name)
    d.wait_erasure(e["id"])

    def withdrawn(generation):
        return {x["erasure"] for x in
                d.ok("GET", f"/v1/models/{name}/recalls?generation={generation}&limit=1000")["items"]}

    now = d.model(name)["generation"]
    assert now > last + 1000 and withdrawn(now) == set()
    assert e["id"] in withdrawn(between)
    later = d.erase(subjects=["s9"])
    assert later["id"] in withdrawn(between) & withdrawn(now)
    d.restart()
    assert now < d.model(name)["generation"] < now + 1000, "once"
    assert later["id"] in withdrawn(between) & withdrawn(now)


def test_a_held_request_is_in_the_ledger_from_its_release_on(world, digits):
    """Only what was executed may be replayed: not what waits for a decision, nor what was refused."""
    d, ledger, _ = world
    first = d.ok("POST", "/v1/erasures", {"subjects": ["s5"], "hold": True})
    second = d.ok("POST", "/v1/erasures", {"subjects": ["s6"], "hold": True})
    never = d.ok("POST", "/v1/erasures", {"subjects": ["s7"], "hold": True})
    d.ok("POST", f"/v1/erasures/{never['id']}/refuse", {"reason_code": "identity_not_verified"})
    assert not [line for line in lines_of(ledger) if line[:2] in ("e ", "h ")]
    d.stop()
    with_holds = d.data_dir.parent / "with-holds"
    shutil.copytree(d.data_dir, with_holds)
    d.start()
    d.ok("POST", f"/v1/erasures/{first['id']}/release")
    d.wait_erasure(first["id"])
    released, = [line for line in lines_of(ledger) if line[:2] in ("e ", "h ")]
    assert released.split()[:2] == ["h", first["id"]]
    expected = d.model("digits")["served_hash"]

    # a copy in which it waits: the ledger knows that it was released
    d.stop()
    put_back(d, with_holds)
    d.start()
    done = d.wait_erasure(first["id"])
    assert done["matched"] == 5 and done["hold"] and done["accepted_at"] == first["accepted_at"]
    assert not held(d, digits[25]) and held(d, digits[30]) and held(d, digits[35])
    assert d.ok("GET", f"/v1/erasures/{second['id']}")["state"] == "accepted"
    assert d.ok("GET", f"/v1/erasures/{never['id']}")["state"] == "refused"
    assert d.model("digits")["served_hash"] == expected
    assert "unlearnd_pending_erasures 1\n" in d.get("/metrics").text
    r = d.post(f"/v1/erasures/{first['id']}/release")
    assert r.status_code == 202 and r.headers["Idempotency-Replayed"] == "true"
    d.ok("POST", f"/v1/erasures/{second['id']}/release")
    assert not held(d, digits[30])


def test_a_release_after_the_copy_is_carried_out_where_the_copy_never_heard_of_it(world, digits):
    d, _, copy = world
    e = d.ok("POST", "/v1/erasures", {"subjects": ["s5"], "hold": True, "regulation": "gdpr"})
    d.ok("POST", f"/v1/erasures/{e['id']}/release")
    d.wait_erasure(e["id"])
    d.stop()
    put_back(d, copy)
    d.start()
    done = d.wait_erasure(e["id"])
    assert done["matched"] == 5 and done["hold"] and done["deadline"] == e["deadline"]
    assert not held(d, digits[25])


def test_a_release_after_a_lift_is_later_than_the_lift_whatever_its_id(world, digits):
    """The request is older than the lift, its execution younger: the person stays away, also where
    the ledger has to be made anew and is replayed over an older copy."""
    d, ledger, copy = world
    waiting = d.ok("POST", "/v1/erasures", {"subjects": ["s5"], "hold": True})
    d.erase(subjects=["s5"])
    lift_until_loaded(d, {**digits[25], "id": "again"})
    d.ok("POST", f"/v1/erasures/{waiting['id']}/release")
    d.wait_erasure(waiting["id"])
    assert not d.load("digits", [{**digits[25], "id": "once more"}])["accepted"]
    d.stop()
    (ledger / "erasures.ledger").unlink()
    begin_anew(d)
    d.stop()
    put_back(d, copy)
    d.start()
    assert not held(d, digits[25])
    assert not d.load("digits", [{**digits[25], "id": "once more"}])["accepted"]


@pytest.fixture
def foreign(world, make_daemon, digits):
    """What another instance of the same key exports: s1, s2 and s3 were erased there."""
    d, _, _ = world
    other = make_daemon(*FAST, key_of=d)
    other.create(**DIGITS)
    other.load("digits", digits[:50])
    other.erase(subjects=["s1"], models=["digits"])
    other.erase(subjects=["s2", "s3"])
    return other.get("/v1/suppressions", headers={"Accept": "application/x-ndjson"}).text


def bring(d, text, **params):
    r = d.request("POST", "/v1/suppressions:import", data=text.encode(), params=params,
                  headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200, r.text
    return r.json()


def suppressions(d):
    return {(s["pseudonym"], s["model"], s["kind"], s["erasure"], s["since"])
            for s in d.ok("GET", "/v1/suppressions")["items"]}


def test_an_import_after_the_copy_is_replayed_and_whoever_is_held_is_told(world, foreign, digits):
    d, ledger, copy = world
    assert bring(d, foreign)["held"] == 3
    before = suppressions(d)
    d.stop()
    put_back(d, copy)
    d.start()
    assert suppressions(d) == before
    assert held(d, digits[5]), "an import takes nothing away, a replayed one neither"
    assert "suppressions.import_replayed" in audit_types(d)
    assert any("suppressed_and_held people=3" in line for line in d.log), d.log
    assert d.load("digits", [{**digits[5], "id": "new"}])["suppressed"] == 1
    assert bring(d, foreign, erase_held="true")["held"] == 3
    assert not held(d, digits[5])
    d.restart()
    assert audit_types(d).count("suppressions.import_replayed") == 1


def test_an_import_that_erased_erases_again_after_a_restore(world, foreign, digits):
    d, ledger, copy = world
    assert bring(d, foreign, erase_held="true")["erasures"] > 0
    d.stop()
    put_back(d, copy)
    d.start()
    assert not any(held(d, r) for r in digits[5:20])
    assert not traces(d.data_dir, digits[5:20])


def test_what_was_lifted_after_an_import_stays_lifted(world, foreign, digits):
    d, ledger, copy = world
    bring(d, foreign, erase_held="true")
    for item in d.ok("GET", "/v1/suppressions")["items"]:
        d.ok("DELETE", f"/v1/suppressions/{item['pseudonym']}")
    assert bring(d, foreign) == {**bring(d, foreign), "added": 0}
    d.stop()
    put_back(d, copy)
    d.start()
    assert suppressions(d) == set()
    assert d.load("digits", digits[5:20])["accepted"] == 15
    # and from a ledger that was completed: the import is told by the erasures that came after it
    d.stop()
    told = [line.split()[:2] for line in lines_of(ledger) if line[0] in "el"]
    shutil.rmtree(ledger)
    begin_anew(d)
    assert suppressions(d) == set()
    assert told == [line.split()[:2] for line in lines_of(ledger) if line[0] in "eli"]
    d.stop()
    put_back(d, copy)
    d.start()
    assert suppressions(d) == set() and not held(d, digits[5])


def test_imports_are_in_a_ledger_that_is_completed(world, foreign, digits):
    d, ledger, copy = world
    bring(d, foreign)
    before = suppressions(d)
    d.stop()
    shutil.rmtree(ledger)
    begin_anew(d)
    assert sum(line.startswith("i ") for line in lines_of(ledger)) == 1
    d.stop()
    put_back(d, copy)
    d.start()
    assert suppressions(d) == before


def test_an_import_after_a_lift_stands_when_both_are_replayed(world, make_daemon, digits):
    """Erased and lifted here; erased again elsewhere by an older id, which was imported after it."""
    d, ledger, copy = world
    other = make_daemon(*FAST, key_of=d)
    other.create(**DIGITS)
    other.load("digits", digits[:50])
    other.erase(subjects=["s1"])
    text = other.get("/v1/suppressions", headers={"Accept": "application/x-ndjson"}).text
    d.erase(subjects=["s1"])
    lift_until_loaded(d, digits[5])
    assert bring(d, text)["added"] == 1
    for lost in (False, True):
        d.stop()
        if lost:
            shutil.rmtree(ledger)
            begin_anew(d)
            d.stop()
        put_back(d, copy)
        d.start()
        assert d.load("digits", [digits[5]])["suppressed"] == 1, f"ledger completed: {lost}"
        d.stop()
        put_back(d, copy)
        d.start()


def test_a_model_that_is_not_there_yet_finds_its_people_suppressed(world, digits):
    d, ledger, copy = world
    d.create(**{**DIGITS, "name": "later"})
    d.load("later", digits[:50])
    d.erase(subjects=["s1"], models=["later"])
    d.erase(records=[{"model": "later", "id": digits[20]["id"]}])
    d.stop()
    put_back(d, copy)
    d.start()
    assert held(d, digits[5]), "the erasure was of the other model alone"
    d.create(**{**DIGITS, "name": "later"})
    assert d.load("later", digits[:50])["suppressed"] == 6


def well_again(d):
    end = time.monotonic() + 60
    while d.get("/v2/health/ready").status_code != 200:
        assert time.monotonic() < end, d.get("/v2/health/ready").text
        time.sleep(0.05)


def begin_anew(d):
    """The way that the refusal names: a ledger is made from the database after a start without."""
    options = list(d.options)
    d.options[d.options.index("--ledger-dir") + 1] = "none"
    d.start()
    d.stop()
    d.options = options
    d.start()


def test_a_ledger_that_was_lost_is_completed_from_the_database(world, digits):
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    d.erase(subjects=["s2"], models=["digits"])
    d.erase(records=[{"model": "digits", "id": digits[100]["id"]}])
    for item in d.ok("GET", "/v1/suppressions")["items"][:1]:
        d.ok("DELETE", f"/v1/suppressions/{item['pseudonym']}")
    still = {(s["pseudonym"], s["model"], s["kind"])
             for s in d.ok("GET", "/v1/suppressions")["items"]}
    d.stop()
    shutil.rmtree(ledger)
    assert "erasures.ledger is not in" in refuses_to_start(d), "it could be a disk that is not mounted"
    assert not ledger.exists()
    begin_anew(d)
    assert len(erasures_in(ledger)) == 3
    d.stop()
    put_back(d, copy)
    d.start()
    assert not held(d, digits[5]) and not held(d, digits[10]) and not held(d, digits[100])
    assert still == {(s["pseudonym"], s["model"], s["kind"])
                     for s in d.ok("GET", "/v1/suppressions")["items"]}


def test_a_ledger_that_was_cut_short_is_completed_from_the_database(world, digits):
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    first = (ledger / "erasures.ledger").read_bytes()
    d.erase(subjects=["s2"])
    d.stop()
    (ledger / "erasures.ledger").write_bytes(first)
    d.start()
    assert any("ledger_incomplete" in line for line in d.log)
    assert len(erasures_in(ledger)) == 2


def test_a_restored_backup_does_not_start_on_an_empty_place(world, digits):
    """Not mounted, or mistyped: whoever was erased since would be back."""
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    d.stop()
    put_back(d, copy)
    elsewhere = ledger.with_name("elsewhere")
    ledger.rename(elsewhere)
    assert "mount its disk" in refuses_to_start(d)
    ledger.mkdir()  # the mount point
    assert "mount its disk" in refuses_to_start(d)
    assert not list(ledger.iterdir())
    ledger.rmdir()
    elsewhere.rename(ledger)
    d.start()
    assert not held(d, digits[5])


@pytest.mark.parametrize("harm", ["moved away", "replaced", "cut"])
def test_nothing_is_accepted_that_the_ledger_in_its_place_does_not_have(world, digits, harm):
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    file, aside = ledger / "erasures.ledger", ledger / "aside"
    whole = file.read_bytes()
    if harm == "cut":
        os.truncate(file, len(whole) // 2)
    else:
        file.rename(aside)
    if harm == "replaced":
        file.write_bytes(whole)
    r = d.post("/v1/erasures", {"subjects": ["s2"]})
    assert r.status_code == 503 and int(r.headers["Retry-After"]) > 0, r.text
    ready = d.get("/v2/health/ready")
    assert ready.status_code == 503 and "ledger_dir" in ready.text
    assert held(d, digits[10])
    time.sleep(2.5)  # two probes, which see it too
    assert d.get("/v2/health/ready").status_code == 503
    if harm == "cut":
        file.write_bytes(whole)
    else:
        aside.rename(file)
    well_again(d)
    d.erase(subjects=["s2"])
    d.stop()
    assert len(erasures_in(ledger)) == 2
    put_back(d, copy)
    d.start()
    assert not held(d, digits[5]) and not held(d, digits[10])


def test_a_damaged_database_takes_what_the_ledger_keeps_and_nothing_else(world, digits):
    """The way out is a restore: an erasure outlives it, an upload would not."""
    d, ledger, copy = world
    d.erase(subjects=["nobody"], reference="T-find-me")
    control = d.data_dir / "control.mdb"
    data = control.read_bytes()
    with control.open("r+b") as f:
        at = data.find(b"T-find-me")
        while at >= 0:
            f.seek(at + 3)
            f.write(b"F")
            at = data.find(b"T-find-me", at + 1)
    assert d.get("/v1/erasures").status_code == 500
    assert d.get("/v2/health/ready").status_code == 503
    r = d.post("/v1/models/digits/records", data=json.dumps({**digits[0], "id": "new"}),
               headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 503 and "unlearnctl restore" in r.json()["detail"], r.text
    assert d.post("/v1/erasures", {"subjects": ["s2"]}).status_code == 202
    assert len(erasures_in(ledger)) == 2
    d.kill()
    put_back(d, copy)
    d.start()
    assert not held(d, digits[10])


def acknowledged_by(url, names):
    """Erasures that were answered, until the daemon is gone."""
    session, found = requests.Session(), []
    for name in names:
        try:
            r = session.post(url + "/v1/erasures", json={"subjects": [name]}, timeout=60)
        except requests.exceptions.RequestException:
            return found
        assert r.status_code == 202, r.text
        found.append(r.json()["id"])
    return found


def test_ledger_and_database_agree_after_every_kill(world):
    """An erasure in one of them alone is one that nobody was told of, and only until the next start."""
    d, ledger, copy = world
    seed = int(os.environ.get("UNLEARND_CRASH_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"UNLEARND_CRASH_SEED={seed}")
    dice, answered, ahead = random.Random(seed), set(), 0
    for kill in range(8):
        with ThreadPoolExecutor(4) as pool:
            storm = [pool.submit(acknowledged_by, d.url,
                                 [f"s{dice.randrange(80)}-{kill}-{t}-{i}" for i in range(400)])
                     for t in range(4)]
            time.sleep(dice.uniform(0.02, 0.2))
            d.process.kill()
            d.process.wait(30)
            answered |= {e for s in storm for e in s.result()}
        d.http = requests.Session()
        begun = len(d.log)
        d.start()
        ahead += sum("ledger_replayed" in line for line in d.log[begun:])
        assert not any("ledger_incomplete" in line for line in d.log)
        known = all_erasures(d)
        assert answered <= known and set(erasures_in(ledger)) == known
        assert len(erasures_in(ledger)) == len(known)
    figure("kills between ledger and database", f"8 in a storm of erasures, answered "
           f"{len(answered)}, lost 0, starts that replayed one that was not answered {ahead}",
           kills=8, answered=len(answered), lost=0, replayed=ahead)


def refuses_to_start(d):
    with pytest.raises(AssertionError) as said:
        d.start()
    return str(said.value)


def test_a_damaged_ledger_and_one_of_another_installation_are_refused(world, make_daemon):
    d, ledger, copy = world
    d.erase(subjects=["s1"])
    d.erase(subjects=["s2"])
    d.stop()
    file = ledger / "erasures.ledger"
    good = file.read_bytes()
    file.write_bytes(good.replace(b"e 01", b"e 02", 1))
    assert "damaged after byte" in refuses_to_start(d)
    file.write_bytes(good)
    d.start()
    d.stop()
    other = make_daemon(*FAST)
    other.stop()
    other.options += ["--ledger-dir", str(ledger)]
    assert "another installation" in refuses_to_start(other)
    other.options = other.options[:-2]
    other.start()


def test_a_ledger_is_not_forgotten_by_a_missing_option(world):
    d, ledger, copy = world
    with_ledger = list(d.options)
    d.stop()
    d.options = [*FAST, "--insecure-no-auth"]
    assert "ledger_dir" in refuses_to_start(d)
    d.options += ["--ledger-dir", "none"]
    d.start()
    d.erase(subjects=["s1"])
    d.stop()
    d.options = with_ledger
    d.start()
    assert len(erasures_in(ledger)) == 1, "completed with what came meanwhile"


def test_the_ledger_must_not_be_below_the_data_directory(make_daemon, tmp_path):
    d = make_daemon(*FAST)
    d.stop()
    d.options += ["--ledger-dir", str(d.data_dir / "ledger")]
    assert "must not be below" in refuses_to_start(d)
    d.options = d.options[:-2]
    d.start()


def test_an_erasure_is_refused_while_the_ledgers_disk_is_full(make_daemon, digits, small_disk):
    small_disk = small_disk("64k")
    d = make_daemon(*ledger_options(small_disk))
    d.create(**DIGITS)
    d.load("digits", digits)
    d.erase(subjects=["s1"])
    before = lines_of(small_disk)
    ballast = small_disk / "ballast"
    with open(ballast, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(512))
    many = [f"nobody{i}" for i in range(900)]  # more than what is left of the last page
    r = d.post("/v1/erasures", {"subjects": ["s2", *many]})
    assert r.status_code == 503 and int(r.headers["Retry-After"]) > 0, r.text
    assert "erasure ledger" in r.json()["detail"]
    ready = d.get("/v2/health/ready")
    assert ready.status_code == 503 and "ledger_dir" in ready.text
    assert 'unlearnd_degraded{reason="ledger"} 1' in d.get("/metrics").text
    assert held(d, digits[10]) and len(d.ok("GET", "/v1/erasures")["items"]) == 1
    assert d.load("digits", [{**digits[0], "id": "new"}])["accepted"] == 1, "others go on"
    r = d.post("/v1/erasures", {"subjects": ["s2", *many]})
    assert r.status_code == 503
    assert "unlearnd_ledger_failures_total 1" in d.get("/metrics").text
    ballast.unlink()
    well_again(d)  # nobody needs to ask for an erasure
    assert 'unlearnd_degraded{reason="ledger"} 0' in d.get("/metrics").text
    d.erase(subjects=["s2", *many])
    assert lines_of(small_disk)[:len(before)] == before and len(erasures_in(small_disk)) == 2
    d.restart()
    assert not held(d, digits[10]) and len(d.ok("GET", "/v1/erasures")["items"]) == 2
    assert not any("ledger_incomplete" in line for line in d.log)


def test_an_erasure_is_answered_only_after_the_ledger_is_synced(make_daemon, digits, tmp_path):
    """A daemon that did not sync it would never meet the fault."""
    ledger = tmp_path / "second-place"
    faults = Faults(tmp_path / "faults", ledger)
    d = make_daemon(*ledger_options(ledger), env=faults.env)
    d.create(**DIGITS)
    d.load("digits", digits)
    faults.on(SYNC, errno.EIO, "erasures.ledger")
    r = d.post("/v1/erasures", {"subjects": ["s2"]})
    assert r.status_code == 503 and "erasure ledger" in r.json()["detail"], r.text
    assert held(d, digits[10]) and d.ok("GET", "/v1/erasures")["items"] == []
    faults.off()
    wait_until(lambda: d.get("/v2/health/ready").status_code == 200)
    d.erase(subjects=["s2"])
    assert not held(d, digits[10]) and len(erasures_in(ledger)) == 1
