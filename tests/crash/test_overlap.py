# SPDX-License-Identifier: Apache-2.0
"""Nobody is told that a person is scrubbed, or completed, while another erasure of the person, or the
deletion of a model, has yet to do it: the second request finds nothing in the index, and must wait."""
import errno
import shutil
import threading

import faults as F
import pytest
from test_scrub import CONFIG, OPTIONS, count_in, put_aside, row, scrubbed
from world import LOST, wait

PEOPLE = [row(n, f"p{n % 10}") for n in range(40)]
P3 = [r for r in PEOPLE if r["subject"] == "p3"]


def state(daemon, erasure):
    return daemon.ok("GET", f"/v1/erasures/{erasure['id']}")


def certified(daemon, erasure):
    return daemon.get(f"/v1/erasures/{erasure['id']}/certificate").status_code


@pytest.fixture
def m(make_daemon):
    daemon = make_daemon(*OPTIONS)
    daemon.create(**{**CONFIG, "shards": 1})
    daemon.load("m", PEOPLE)
    return daemon


def records(people, model="m"):
    return {"records": [{"model": model, "id": r["id"]} for r in people]}


FIRST_AND_SECOND = {
    "the subject, and again": ([{"subjects": ["p3"]}], {"subjects": ["p3"]}),
    "all records, then the subject": ([records(P3)], {"subjects": ["p3"]}),
    "records one by one, then the subject": ([records(P3[:1]), records(P3[1:2]), records(P3[2:])],
                                             {"subjects": ["p3"]}),
    "the subject, then a record": ([{"subjects": ["p3"]}], records(P3[:1])),
    "a record, and again": ([records(P3[:1])], records(P3[:1])),
}


@pytest.mark.parametrize("story", FIRST_AND_SECOND)
def test_who_comes_second_is_scrubbed_no_sooner(m, tmp_path, story):
    before, after = FIRST_AND_SECOND[story]
    back = put_aside(m, tmp_path, 0)
    earlier = [m.erase(wait=False, **body) for body in before]
    second = m.erase(wait=False, **after)
    other = m.erase(wait=False, subjects=["nobody"])
    assert second["matched"] == 0
    wait("somebody else's end", lambda: state(m, other)["state"] == "completed")
    wait("a failure", lambda: any("scrub_failed" in line for line in m.log))
    assert not any(scrubbed(m, e) for e in earlier)
    assert not scrubbed(m, second) and certified(m, second) == 409
    m.restart()
    assert not scrubbed(m, second)
    back()
    wait("the end", lambda: state(m, second)["state"] == "completed")
    assert all(scrubbed(m, e) <= scrubbed(m, second) for e in earlier)
    gone = [r for r in P3 if r["id"] in str(before)] or P3
    assert not any(count_in(m, r) for r in gone)


def test_who_comes_second_is_completed_no_sooner(make_daemon):
    """The shard waits for its retrain by a long gathering window; a near deadline ends it."""
    d = make_daemon("--gather-window-ms", "3600000")
    d.create(**{**CONFIG, "slices": 2, "shards": 2})
    d.load("m", PEOPLE)
    d.train("m")
    first = d.erase(wait=False, subjects=["p3"])
    again = d.erase(wait=False, subjects=["p3"])
    third = d.erase(wait=False, subjects=["p3"])
    wait("the scrubs", lambda: all(scrubbed(d, e) for e in (first, again, third)))
    for e in (first, again, third):
        assert state(d, e)["state"] == "forgotten" and certified(d, e) == 409
        assert [(a["shard"], a["state"]) for a in state(d, e)["affected"]] == \
            [(state(d, first)["affected"][0]["shard"], "retraining")]
    assert [a["records"] for a in state(d, again)["affected"]] == [0]
    d.restart()
    assert state(d, again)["state"] == "forgotten"
    # somebody else of that shard is erased in haste, and the retrain is for all of them
    d.stop()
    quick = make_daemon("--gather-window-ms", "0", data_dir=str(d.data_dir))
    for e in (first, again, third):
        wait("the end", lambda e=e: state(quick, e)["state"] == "completed")
        c = quick.ok("GET", f"/v1/erasures/{e['id']}/certificate")
        assert c["payloadType"]
    page = quick.get(f"/v1/erasures/{again['id']}/certificate", headers={"Accept": "text/html"}).text
    assert "An earlier request had erased the records already" in page
    assert all(s["identical"] for s in quick.verify("m"))


def delete_m(d):
    try:
        d.delete("/v1/models/m")
    except LOST:
        pass  # the daemon is killed meanwhile


def test_a_person_in_a_model_that_is_being_deleted_is_scrubbed_with_it(make_daemon, tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    faults = F.Faults(tmp_path / "faults", data)
    d = make_daemon(*OPTIONS, data_dir=data, env=faults.env)
    for name in ("m", "stays"):
        d.create(**{**CONFIG, "name": name, "shards": 1})
        d.load(name, PEOPLE if name == "m" else PEOPLE[:5])
    faults.on(F.UNLINK | F.WRITE, errno.EIO, "models/m/")

    deletion = threading.Thread(target=delete_m, args=(d,))
    deletion.start()
    wait("the deletion", lambda: d.get("/v1/models/m").status_code == 404)
    here, elsewhere = d.erase(wait=False, subjects=["p7"]), d.erase(wait=False, subjects=["nobody"])
    narrow = d.erase(wait=False, subjects=["p8"], models=["stays"])
    wait("somebody else's end", lambda: state(d, elsewhere)["state"] == "completed")
    wait("who asked for another model's", lambda: state(d, narrow)["state"] == "completed")
    assert count_in(d, PEOPLE[7]) > 0, "it is on the disk still, or this test shows nothing"
    assert state(d, here)["state"] == "forgotten" and certified(d, here) == 409
    d.kill()
    d.start(faults.env)
    assert state(d, here)["state"] == "forgotten"
    faults.off()
    wait("the end", lambda: state(d, here)["state"] == "completed")
    assert count_in(d, PEOPLE[7]) == 0
    deletion.join(60)


@pytest.mark.parametrize("body", [{"subjects": ["p3"]}, records(P3[:1])], ids=["subject", "record"])
def test_a_lift_in_between_changes_nothing_of_it(m, tmp_path, body):
    """The second one finds the first though the suppression that names it is gone."""
    back = put_aside(m, tmp_path, 0)
    first = m.erase(wait=False, **body)
    (held,) = m.ok("GET", "/v1/suppressions")["items"]
    assert m.delete(f"/v1/suppressions/{held['pseudonym']}").status_code == 204
    second = m.erase(wait=False, **body)
    other = m.erase(wait=False, subjects=["nobody"])
    wait("somebody else's end", lambda: state(m, other)["state"] == "completed")
    assert second["matched"] == 0 and not scrubbed(m, first) and not scrubbed(m, second)
    m.restart()
    assert not scrubbed(m, second)
    back()
    wait("the end", lambda: state(m, second)["state"] == "completed")
    assert scrubbed(m, first) <= scrubbed(m, second) and not count_in(m, P3[0])


# --- not the newest one alone: each of those that the person waits for ---


def lift_all(daemon):
    for pseudonym in {held["pseudonym"] for held in daemon.ok("GET", "/v1/suppressions")["items"]}:
        assert daemon.delete(f"/v1/suppressions/{pseudonym}").status_code == 204


def elsewhere_is_done(daemon):
    """Whatever the daemon had to do at once is done."""
    other = daemon.erase(wait=False, subjects=["nobody"])
    wait("somebody else's end", lambda: state(daemon, other)["state"] == "completed")


TWO_MODELS = {
    "lifted, of one model each": ([{"subjects": ["p3"], "models": ["m"]},
                                   {"subjects": ["p3"], "models": ["b"]}], {"subjects": ["p3"]}),
    "records of one model each": ([records(P3), records(P3, "b")], {"subjects": ["p3"]}),
    "records, and lifted": ([records(P3), {"subjects": ["p3"], "models": ["b"]}], {"subjects": ["p3"]}),
}


@pytest.mark.parametrize("story", TWO_MODELS)
def test_the_third_waits_for_the_first_though_the_second_has_ended(m, tmp_path, story):
    before, after = TWO_MODELS[story]
    m.create(**{**CONFIG, "name": "b", "shards": 1})
    m.load("b", PEOPLE)
    back = put_aside(m, tmp_path, 0)
    first, second = [m.erase(wait=False, **body) for body in before]
    wait("the second's end", lambda: state(m, second)["state"] == "completed")
    lift_all(m)
    third = m.erase(wait=False, **after)
    elsewhere_is_done(m)
    assert not scrubbed(m, first) and not scrubbed(m, third) and certified(m, third) == 409
    m.restart()
    elsewhere_is_done(m)
    assert not scrubbed(m, third)
    back()
    wait("the end", lambda: state(m, third)["state"] == "completed")
    assert scrubbed(m, first) <= scrubbed(m, third) and not count_in(m, P3[0])


def test_a_lift_of_two_keeps_both(make_daemon, tmp_path):
    """Neither of them knows of the other, and whoever comes later for one model waits for that one."""
    d = make_daemon("--gather-window-ms", "3600000")
    for name in ("m", "b"):
        d.create(**{**CONFIG, "name": name, "shards": 1})
        d.load(name, PEOPLE)
        d.train(name)
    earlier = [d.erase(wait=False, subjects=["p3"], models=[name]) for name in ("m", "b")]
    wait("the scrubs", lambda: all(scrubbed(d, e) for e in earlier))
    lift_all(d)
    one = {name: d.erase(wait=False, subjects=["p3"], models=[name]) for name in ("m", "b")}
    lift_all(d)
    every = d.erase(wait=False, subjects=["p3"])
    wait("the scrubs", lambda: all(scrubbed(d, e) for e in [*one.values(), every]))
    for name, e in one.items():
        assert [(a["model"], a["state"]) for a in state(d, e)["affected"]] == [(name, "retraining")]
    assert sorted((a["model"], a["state"]) for a in state(d, every)["affected"]) == \
        [("b", "retraining"), ("m", "retraining")]
    assert certified(d, every) == 409
    d.stop()
    quick = make_daemon("--gather-window-ms", "0", data_dir=str(d.data_dir))
    for e in (*earlier, *one.values(), every):
        quick.wait_erasure(e["id"])
        assert certified(quick, e) == 200


def test_a_record_of_a_lifted_person_waits_for_the_person(m, tmp_path):
    back = put_aside(m, tmp_path, 0)
    m.erase(wait=False, subjects=["p3"])
    lift_all(m)
    second = m.erase(wait=False, **records(P3[:1]))
    elsewhere_is_done(m)
    assert second["matched"] == 0 and not scrubbed(m, second)
    back()
    wait("the end", lambda: state(m, second)["state"] == "completed")
    assert not count_in(m, P3[0])


def test_a_record_that_is_its_own_person_waits_for_the_retrain(make_daemon):
    """Scrubbed, it is not in the index any more: the person's suppression tells of it."""
    d = make_daemon("--gather-window-ms", "3600000")
    d.create(**{**CONFIG, "shards": 1})
    d.load("m", [{k: v for k, v in r.items() if k != "subject"} for r in PEOPLE])
    d.train("m")
    first = d.erase(wait=False, subjects=["r3"])
    wait("the scrub", lambda: scrubbed(d, first))
    second = d.erase(wait=False, **records(P3[:1]))
    assert second["matched"] == 0 and state(d, second)["state"] == "forgotten"
    assert [a["state"] for a in second["affected"]] == ["retraining"]


LATE = [row(100 + n, "p3") for n in range(2)]
OPEN_SLICE = {
    "records trained on, the rest of the person open":
        ([records(P3), None, {"subjects": ["p3"]}], {"subjects": ["p3"]}),
    "records trained on, an open record, the person":
        ([None, records(P3), records(LATE)], {"subjects": ["p3"]}),
    "the person, lifted and back": ([{"subjects": ["p3"]}, None, {"subjects": ["p3"]}],
                                    {"subjects": ["p3"]}),
}


@pytest.mark.parametrize("story", OPEN_SLICE)
def test_records_in_an_open_slice_do_not_end_the_wait_for_the_retrain(make_daemon, story):
    before, after = OPEN_SLICE[story]
    d = make_daemon("--gather-window-ms", "3600000")
    d.create(**{**CONFIG, "shards": 1, "slices": 2})
    d.load("m", PEOPLE)
    d.train("m")
    erasures = []
    for body in before:
        if body is None:  # more of the person arrives, in a slice that nothing covers
            wait("the scrubs", lambda: all(scrubbed(d, e) for e in erasures))
            lift_all(d)
            assert d.load("m", LATE)["accepted"] == len(LATE)
        else:
            erasures.append(d.erase(wait=False, **body))
    erasures.append(d.erase(wait=False, **after))
    wait("the scrubs", lambda: all(scrubbed(d, e) for e in erasures))
    assert [e["matched"] > 0 for e in erasures] == [True, True, False]
    for e in erasures:
        assert [(a["shard"], a["state"]) for a in state(d, e)["affected"]] == [(0, "retraining")]
        assert state(d, e)["state"] == "forgotten" and certified(d, e) == 409
    d.stop()
    quick = make_daemon("--gather-window-ms", "0", data_dir=str(d.data_dir))
    for e in erasures:
        quick.wait_erasure(e["id"])
        assert certified(quick, e) == 200
    assert all(s["identical"] for s in quick.verify("m"))


# --- what names a model that is being deleted ---

NAMING = {
    "the person there": (3, {"subjects": ["p3"], "models": ["m"]}, True),
    "a record there": (4, records(PEOPLE[4:5]), True),
    "the person everywhere": (5, {"subjects": ["p5"]}, True),
    "the person there and elsewhere": (6, {"subjects": ["p6"], "models": ["m", "stays"]}, True),
    "the person elsewhere": (8, {"subjects": ["p8"], "models": ["stays"]}, False),
}


def test_a_release_that_names_a_model_being_deleted_is_scrubbed_with_it(make_daemon, tmp_path):
    """The model is found by no name any more; its rows are there. The same where the ledger says it."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir(mode=0o700)
    faults = F.Faults(tmp_path / "faults", data)
    d = make_daemon(*OPTIONS, "--ledger-dir", str(tmp_path / "ledger"), data_dir=data, env=faults.env)
    for name in ("m", "stays"):
        d.create(**{**CONFIG, "name": name, "shards": 1})
        d.load(name, PEOPLE if name == "m" else PEOPLE[20:30])
    held = {story: d.erase(wait=False, hold=True, **body) for story, (_, body, _) in NAMING.items()}
    faults.on(F.UNLINK | F.WRITE, errno.EIO, "models/m/")

    def check():
        elsewhere_is_done(d)
        for story, (n, _, waits) in NAMING.items():
            if waits:
                assert count_in(d, PEOPLE[n]) == 1, "on the disk still, or this test shows nothing"
                assert not scrubbed(d, held[story]) and certified(d, held[story]) == 409, story
            else:
                d.wait_erasure(held[story]["id"])

    deletion = threading.Thread(target=delete_m, args=(d,))
    deletion.start()
    wait("the deletion", lambda: d.get("/v1/models/m").status_code == 404)
    d.kill()
    deletion.join(60)
    shutil.copytree(data, copy)
    d.start(faults.env)
    for e in held.values():
        assert d.post(f"/v1/erasures/{e['id']}/release").status_code == 202
    check()
    d.kill()
    d.start(faults.env)
    check()
    d.kill()
    shutil.rmtree(data)
    copy.rename(data)  # from before the releases: the ledger tells of them
    start = threading.Thread(target=d.start, args=[faults.env])
    start.start()
    wait("the replay", lambda: any("ledger_replayed" in line for line in d.log))
    tried = faults.hit()
    wait("another try", lambda: faults.hit() > tried + 1)
    assert d.url is None, "nobody is served before what was replayed is scrubbed"
    assert all(count_in(d, PEOPLE[n]) == 1 for n, _, waits in NAMING.values() if waits)
    faults.off()
    start.join(60)
    for e in held.values():
        d.wait_erasure(e["id"])
        assert certified(d, e) == 200
    assert not any(count_in(d, PEOPLE[n]) for n, _, waits in NAMING.values() if waits)
