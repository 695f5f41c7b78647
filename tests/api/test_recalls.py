# SPDX-License-Identifier: Apache-2.0
"""The recall feed against what was seen from outside: a person had a part in a generation if the shard
was then served from the person's slice or a later one. Nothing else is withdrawn, and nothing is left
out, over restarts and kills."""
import json
import threading
import time

import pytest
from conftest import DIGITS, read_digits

PERSONS = [f"s{i}" for i in range(60)]


class Witness(threading.Thread):
    """Writes down, as often as it can, which slice each shard is served from, by generation."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.d, self.seen, self.stop = daemon, {}, threading.Event()
        self.url = daemon.url
        import requests
        self.http = requests.Session()

    def look(self):
        before = self.http.get(self.url + "/v1/models/digits", timeout=20).json()["generation"]
        shards = self.http.get(self.url + "/v1/models/digits/shards", timeout=20).json()["shards"]
        time.sleep(0.02)  # what is committed is served a moment later, and counted as served then
        after = self.http.get(self.url + "/v1/models/digits", timeout=20).json()["generation"]
        if before == after:
            served = {s["shard"]: s["served_from_slice"] for s in shards}
            assert self.seen.setdefault(before, served) == served, "one generation, two models"

    def run(self):
        try:
            while not self.stop.is_set():
                self.look()
        except (OSError, ValueError, KeyError):
            pass  # the daemon is down


class History:
    def __init__(self, make_daemon, *options):
        self.d = make_daemon(*options)
        self.seen, self.place, self.erased = {}, {}, {}
        self.d.create(**{**DIGITS, "shards": 3, "slices": 4, "epochs": 2})
        self.d.load("digits", read_digits(300))
        for p in PERSONS:
            r = self.d.ok("GET", f"/v1/models/digits/records/r{5 * int(p[1:])}")
            self.place[p] = (r["shard"], r["slice"])
        self.watch()

    def watch(self):
        self.witness = Witness(self.d)
        self.witness.look()
        self.witness.start()

    def rest(self):
        """Ends the watching, with a last look."""
        self.witness.stop.set()
        self.witness.join(20)
        self.witness.look()
        for generation, served in self.witness.seen.items():
            assert self.seen.setdefault(generation, served) == served

    def erase(self, *persons):
        before = self.d.model("digits")["generation"]
        e = self.d.ok("POST", "/v1/erasures", {"subjects": list(persons), "regulation": "gdpr"}, status=202)
        self.erased[e["id"]] = (persons, before, self.d.model("digits")["generation"])
        self.witness.look()
        return e["id"]

    def feed(self, query=""):
        items, cursor, pages = [], None, 0
        while True:
            page = self.d.ok("GET", f"/v1/models/digits/recalls?limit=2{query}" +
                             (f"&cursor={cursor}" if cursor else ""))
            assert len(page["items"]) <= 2
            items += page["items"]
            cursor, pages = page["next_cursor"], pages + 1
            if cursor is None:
                return items

    def check(self):
        items = {x["erasure"]: x for x in self.feed()}
        assert len(self.seen) > 5
        for e, (persons, before, after) in self.erased.items():
            # what came between the two looks was before the erasure or after it: who knows
            seen = {g: served for g, served in self.seen.items() if g <= before or g > after}
            truth = {g for g, served in seen.items() if g <= before and
                     any(served[self.place[p][0]] >= self.place[p][1] for p in persons)}
            told = {g for g in seen if e in items and
                    any(r["first"] <= g <= r["last"] for r in items[e]["generations"])}
            assert told == truth, (e, persons, sorted(told ^ truth))
            if e not in items:
                continue
            ranges = [(r["first"], r["last"]) for r in items[e]["generations"]]
            assert all(a <= b for a, b in ranges)
            assert all(b + 1 < c for (_, b), (c, _) in zip(ranges, ranges[1:])), "ranges that touch"
            assert items[e]["replaced_by"] == ranges[-1][1] + 1
            assert all(r["served_from"] <= r["served_until"] <= items[e]["withdrawn_at"]
                       for r in items[e]["generations"])
        assert set(items) <= set(self.erased)
        for g in list(self.seen)[::5]:  # the same, asked for one generation
            some = {x["erasure"] for x in self.feed(f"&generation={g}")}
            assert some == {e for e, x in items.items()
                            if any(r["first"] <= g <= r["last"] for r in x["generations"])}
        return items


def test_exactly_the_generations_that_knew_a_person_are_withdrawn(make_daemon):
    h = History(make_daemon, "--gather-window-ms", "300")
    never_trained = h.erase("s50")
    h.d.wait_erasure(never_trained)
    h.d.train("digits")
    first = [h.erase("s1"), h.erase("s2"), h.erase("s3", "s4")]  # in one window: some shards are down already
    for e in first:
        h.d.wait_erasure(e)
    by_slice = {}
    for p in PERSONS[10:50]:  # those before are erased by name
        by_slice.setdefault(h.place[p], []).append(p)
    a, b = next(ps for ps in by_slice.values() if len(ps) > 1)[:2]
    together = [h.erase(a), h.erase(b)]  # the second finds its slice rolled back, and was served before
    h.rest()
    h.d.kill()
    h.d.start()
    h.watch()
    for e in together:
        h.d.wait_erasure(e)
    # people who come later stand in a slice of their own
    later = [{**r, "id": "late-" + r["id"], "subject": "late-" + r["subject"]} for r in read_digits(50)]
    h.d.load("digits", later)
    for i in range(10):
        r = h.d.ok("GET", f"/v1/models/digits/records/late-r{5 * i}")
        h.place[f"late-s{i}"] = (r["shard"], r["slice"])
    h.d.train("digits")
    for e in [h.erase("late-s1"), h.erase("s7"), h.erase("late-s2")]:
        h.d.wait_erasure(e)
    h.rest()
    items = h.check()
    assert never_trained not in items, "it was in no generation"
    assert set(items) == set(h.erased) - {never_trained}
    assert all(x["completed_at"] and x["regulation"] == "gdpr" for x in items.values())
    order = [x["erasure"] for x in h.feed()]
    assert order == [e for e in h.erased if e in items], "the oldest first"
    times = [items[e]["withdrawn_at"] for e in order]
    assert [x["erasure"] for x in h.feed("&since=" + times[3])] == [e for e, t in zip(order, times) if t >= times[3]]
    text = json.dumps(h.feed())
    assert not any(p in text for p in PERSONS if len(p) > 2)
    h.d.restart()
    assert {x["erasure"]: x for x in h.feed()} == items
    # who reads on hears only of what is new
    cursor = h.d.ok("GET", "/v1/models/digits/recalls?limit=1000")
    assert cursor["next_cursor"] is None
    page = h.d.ok("GET", "/v1/models/digits/recalls?limit=2")
    h.d.erase(subjects=["s9"])
    rest = h.d.ok("GET", f"/v1/models/digits/recalls?limit=1000&cursor={page['next_cursor']}")["items"]
    assert len(rest) == len(items) - 2 + 1


def test_a_page_is_bounded_by_the_work_that_it_is(make_daemon):
    """Every retrain adds an interval to each slice, and every later erasure is of all of them."""
    daemon = make_daemon("--gather-window-ms", "0")
    daemon.create(**{**DIGITS, "shards": 1, "slices": 1, "epochs": 1})
    daemon.load("digits", read_digits(525))
    daemon.train("digits")
    erased = [daemon.erase(subjects=[f"s{i}"])["id"] for i in range(105)]  # 105 * 106 / 2 intervals
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = daemon.ok("GET", "/v1/models/digits/recalls?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        assert page["items"], "there is progress in every page"
        seen += [(x["erasure"], x["generations"][0]["first"]) for x in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert [e for e, _ in seen] == erased and {first for _, first in seen} == {1}
    assert pages == 2, "5000 intervals a page"


def test_a_model_that_is_made_anew_has_no_past(daemon):
    for _ in range(2):
        daemon.create(**{**DIGITS, "epochs": 1})
        daemon.load("digits", read_digits(100))
        assert daemon.ok("GET", "/v1/models/digits/recalls")["items"] == []
        daemon.train("digits")
        for s in daemon.ok("GET", "/v1/suppressions")["items"]:
            daemon.delete(f"/v1/suppressions/{s['pseudonym']}")
        e = daemon.erase(subjects=["s1"])
        assert [x["erasure"] for x in daemon.ok("GET", "/v1/models/digits/recalls")["items"]] == [e["id"]]
        for s in daemon.ok("GET", "/v1/suppressions")["items"]:
            daemon.delete(f"/v1/suppressions/{s['pseudonym']}")
        assert daemon.delete("/v1/models/digits").status_code == 204
    assert daemon.get("/v1/models/digits/recalls").status_code == 404


@pytest.mark.parametrize("query", ["cursor=x", "cursor=-1", "cursor=" + "9" * 30, "since=yesterday", "generation=-1",
                                   "generation=x", "limit=0", "until=2026-01-01T00:00:00Z"])
def test_what_is_not_understood_is_refused(daemon, query):
    daemon.create(**DIGITS)
    assert daemon.get(f"/v1/models/digits/recalls?{query}").status_code == 400


def test_a_prediction_says_whether_it_is_recalled(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    daemon.train("digits")
    r = daemon.infer("digits", [digits[0]["features"]])
    generation = r.json()["parameters"]["generation"]
    assert daemon.ok("GET", f"/v1/models/digits/recalls?generation={generation}")["items"] == []
    e = daemon.erase(subjects=["s5"])
    found = daemon.ok("GET", f"/v1/models/digits/recalls?generation={generation}")["items"]
    assert [x["erasure"] for x in found] == [e["id"]]
    now = daemon.infer("digits", [digits[0]["features"]]).json()["parameters"]["generation"]
    assert daemon.ok("GET", f"/v1/models/digits/recalls?generation={now}")["items"] == []


def test_the_client_shows_them(daemon, digits):
    daemon.create(**{**DIGITS, "epochs": 1})
    daemon.load("digits", digits[:100])
    daemon.train("digits")
    generation = daemon.model("digits")["generation"]
    e = daemon.erase(subjects=["s1"])
    said = daemon.ctl("recalls", "digits", "--generation", generation).stdout
    assert e["id"] in said and str(generation) in said
    assert e["id"] not in daemon.ctl("recalls", "digits", "--generation", generation + 1).stdout
    items = json.loads(daemon.ctl("--json", "recalls", "digits").stdout)["items"]
    assert items == daemon.ok("GET", "/v1/models/digits/recalls")["items"]
