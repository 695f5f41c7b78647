# SPDX-License-Identifier: Apache-2.0
"""Suppressions carried from one instance to another that has the same pseudonym key."""
import json
import subprocess
import time

import pytest
import requests
from conftest import BIN, DIGITS

NDJSON = {"Content-Type": "application/x-ndjson"}
FAST = ["--gather-window-ms", "0"]


def export(d):
    r = d.get("/v1/suppressions", headers={"Accept": "application/x-ndjson"})
    assert r.status_code == 200 and r.headers["Content-Type"] == "application/x-ndjson", r.text
    return r.text


def bring(d, text, status=200, **params):
    r = d.request("POST", "/v1/suppressions:import", data=text.encode(), headers=NDJSON, params=params)
    assert r.status_code == status, f"{r.status_code} {r.text}"
    return r.json()


def entries(text):
    return [json.loads(line) for line in text.splitlines()][1:-1]


def listed(d):
    items, cursor = [], ""
    while True:
        page = d.ok("GET", "/v1/suppressions?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        items += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return items


def events(d, type_, **params):
    return d.ok("GET", "/v1/audit", params={"type": type_, "limit": 1000, **params})["items"]


@pytest.fixture
def pair(make_daemon, digits):
    """Two instances of one key; three people are erased in the first one."""
    a = make_daemon(*FAST)
    b = make_daemon(*FAST, key_of=a)
    a.create(**DIGITS)
    a.load("digits", digits[:100])
    a.erase(subjects=["s1", "s2"])
    a.erase(subjects=["s3"], models=["digits"])
    a.erase(records=[{"model": "digits", "id": "r50"}])
    return a, b


def test_an_export_is_the_list_between_a_first_and_a_last_line(pair):
    a, _ = pair
    text = export(a)
    lines = [json.loads(line) for line in text.splitlines()]
    assert set(lines[0]) == {"format", "version", "key_check", "exported_at"}
    assert lines[0]["format"] == "unlearnd-suppressions" and lines[0]["version"] == 1
    assert lines[-1] == {"suppressions": 4}
    assert entries(text) == listed(a) and len(listed(a)) == 4
    assert events(a, "suppressions.exported")[0]["data"] == {"suppressions": 4}
    key = (a.data_dir / "keys" / "pseudonym.key").read_bytes()
    assert key.hex() not in text and lines[0]["key_check"] not in key.hex()


def test_whoever_was_erased_there_cannot_be_loaded_here(pair, digits):
    a, b = pair
    counts = bring(b, export(a))
    assert counts == {"added": 4, "already": 0, "lifted": 0, "held": 0, "erasures": 0,
                      "held_pseudonyms": [], "erasure_ids": [], "advice": None}
    b.create(**DIGITS)
    loaded = b.load("digits", digits[:100])
    assert loaded["suppressed"] == 16 and loaded["accepted"] == 84
    assert listed(b) == listed(a)
    assert entries(export(b)) == entries(export(a)), "and a third one can take it from here"


def test_an_import_is_idempotent_and_every_one_is_in_the_log(pair):
    a, b = pair
    text = export(a)
    bring(b, text)
    again = bring(b, text)
    assert (again["added"], again["already"]) == (0, 4)
    log = events(b, "suppressions.imported")
    assert [(e["data"]["added"], e["data"]["already"]) for e in log] == [(4, 0), (0, 4)]
    assert len(events(b, "suppressions.imported", subject="s1")) == 1
    assert len(events(b, "suppressions.imported", record="r50")) == 1
    assert events(b, "suppressions.imported", subject="s9") == []


def test_an_import_outlives_a_kill(pair, digits):
    a, b = pair
    bring(b, export(a))
    b.kill()
    b.start()
    assert listed(b) == listed(a)


def test_another_key_is_refused_and_nothing_is_imported(pair, make_daemon):
    a, _ = pair
    other = make_daemon()
    problem = bring(other, export(a), status=409)
    assert problem["errors"][0]["pointer"] == "/key_check" and "key" in problem["detail"]
    assert listed(other) == [] and problem["added"] == 0


def test_whoever_is_held_is_reported_and_stays_until_erased(pair, digits):
    a, b = pair
    b.create(**DIGITS)
    b.load("digits", digits[:100])
    b.train("digits")
    text = export(a)
    counts = bring(b, text)
    assert counts["added"] == 4 and counts["held"] == 4 and counts["erasures"] == 0
    assert sorted(counts["held_pseudonyms"]) == sorted(e["pseudonym"] for e in entries(text))
    assert "erase_held=true" in counts["advice"]
    assert b.get("/v1/models/digits/records/r5").status_code == 200, "nothing was taken away"
    assert events(b, "suppressions.imported")[0]["data"]["held"] == 4

    counts = bring(b, text, erase_held="true")
    assert counts["already"] == 4 and counts["held"] == 4 and counts["advice"] is None
    assert counts["erasures"] == len(counts["erasure_ids"]) > 0
    # forgotten before the answer
    gone = [f"r{i}" for i in [*range(5, 20), 50]]
    assert {b.get(f"/v1/models/digits/records/{r}").status_code for r in gone} == {404}
    matched = [b.wait_erasure(e)["matched"] for e in counts["erasure_ids"]]
    assert sum(matched) == 16
    assert all(s["identical"] for s in b.verify("digits"))
    assert bring(b, text, erase_held="true")["held"] == 0, "there is nobody left"


def test_held_records_are_erased_model_by_model(pair, digits):
    """One request a model, so that none is refused because another one's model was deleted meanwhile."""
    a, b = pair
    for d in (a, b):
        d.create(**{**DIGITS, "name": "other"})
        d.load("other", digits[:100])
    for name in ("digits", "other"):
        a.erase(records=[{"model": name, "id": f"r{i}"} for i in (60, 61, 62)])
    b.create(**DIGITS)
    b.load("digits", digits[:100])
    counts = bring(b, export(a), erase_held="true")
    erasures = [b.wait_erasure(e) for e in counts["erasure_ids"]]
    models = [sorted({x["model"] for x in e["affected"]}) for e in erasures]
    assert models.count(["other"]) == 1, "its records; of subjects both models hold some"
    assert {b.get(f"/v1/models/{m}/records/r{i}").status_code
            for m in ("digits", "other") for i in (60, 61, 62)} == {404}


def test_a_model_s_suppression_holds_whom_other_models_hold(pair, digits):
    a, b = pair
    b.create(**{**DIGITS, "name": "other"})
    b.load("other", digits[:100])
    counts = bring(b, export(a))
    # s1 and s2 are suppressed everywhere; s3 and r50 in models called digits alone
    assert counts["held"] == 2
    b.create(**DIGITS)
    assert b.load("digits", digits[15:20])["suppressed"] == 5


def test_what_was_lifted_here_stays_lifted(pair, digits):
    a, b = pair
    text = export(a)
    bring(b, text)
    victim = entries(text)[0]
    b.ok("DELETE", f"/v1/suppressions/{victim['pseudonym']}")
    counts = bring(b, text)
    assert (counts["added"], counts["already"], counts["lifted"]) == (0, 3, 1)
    assert len(listed(b)) == 3
    # a new erasure of the same person there is another matter
    for s in ("s1", "s2", "s3"):
        a.erase(subjects=[s])
    assert bring(b, export(a))["added"] >= 1
    assert victim["pseudonym"] in {e["pseudonym"] for e in listed(b)} or victim["kind"] == "record"


def test_a_staged_upload_does_not_bring_a_suppressed_person_in(pair, digits):
    a, b = pair
    b.create(**DIGITS)
    text = export(a)

    def body():
        for r in digits[:100]:
            yield (json.dumps(r) + "\n").encode()
        # enough for a batch of the upload to be staged before the import
        for i in range(6000):
            yield (json.dumps({**digits[0], "id": f"x{i}", "subject": f"x{i}"}) + "\n").encode()
        counts.update(bring(b, text))

    counts = {}
    s = requests.Session()
    r = s.post(b.url + "/v1/models/digits/records?atomic=true", data=body(), headers=NDJSON, timeout=60)
    assert counts["added"] == 4 and counts["held"] == 0
    # called off, as by an erasure; or refused line by line where it had not got that far
    assert r.status_code == 409 or r.json()["suppressed"] == 16, r.text
    assert {b.get(f"/v1/models/digits/records/r{i}").status_code for i in range(5, 20)} == {404}


def line(**changes):
    return json.dumps({"pseudonym": "ab" * 16, "kind": "subject", "model": None,
                       "erasure": "01M8854P3FMPWKZ3V5DDT2W63G", "since": "2026-01-31T09:00:00Z",
                       **changes})


WRONG = [
    (line(pseudonym="xy" * 16), "/pseudonym"), (line(pseudonym="ab"), "/pseudonym"),
    (line(pseudonym=7), "/pseudonym"), (line(kind="person"), "/kind"), (line(kind=None), "/kind"),
    (line(kind="record"), "/model"), (line(model="NO/../pe"), "/model"), (line(model=""), "/model"),
    (line(erasure="x"), "/erasure"), (line(since="yesterday"), "/since"),
    (line(since="1970-01-01T00:00:00+14:00"), "/since"), (line(since="1970-01-01T00:00:00Z"), "/since"),
    (line(subject="jane@example.org"), "/subject"), ("{}", "/pseudonym"), ("[]", None), ("", None),
    ("{", None), ("x" * 5000, None), ('{"suppressions": 7}', "/suppressions"),
]


@pytest.mark.parametrize("wrong,pointer", WRONG, ids=range(len(WRONG)))
def test_a_wrong_line_is_named_and_what_came_before_stays(daemon, wrong, pointer):
    head = export(daemon).splitlines()[0]
    text = "\n".join([head, line(), wrong, line(pseudonym="cd" * 16), '{"suppressions": 2}'])
    r = daemon.request("POST", "/v1/suppressions:import", data=text.encode(), headers=NDJSON)
    assert r.status_code in (400, 422), r.text
    problem = r.json()
    assert problem["detail"].startswith("line 3: ") and "jane" not in r.text, problem
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer, problem
    assert problem["added"] == 1
    assert [e["pseudonym"] for e in listed(daemon)] == ["ab" * 16]


def test_a_file_that_is_cut_short_is_told(daemon):
    head = export(daemon).splitlines()[0]
    for text in (head, head + "\n" + line(), head + "\n" + line() + "\n"):
        problem = bring(daemon, text, status=422)
        assert "not whole" in problem["detail"]
    assert bring(daemon, "", status=400)["added"] == 0
    bring(daemon, line(), status=422)  # without its first line
    bring(daemon, head + '\n{"suppressions": 0}\n' + line(), status=422)
    assert bring(daemon, head + '\r\n{"suppressions": 0}')["added"] == 0
    for kind in ("text/plain", "application/json"):
        r = daemon.request("POST", "/v1/suppressions:import", data=b"x", headers={"Content-Type": kind})
        assert r.status_code == 415
    assert daemon.get("/v1/suppressions?limit=3",
                      headers={"Accept": "application/x-ndjson"}).status_code == 400


def rss(d):
    for row in open(f"/proc/{d.process.pid}/status"):
        if row.startswith("VmHWM"):
            return int(row.split()[1]) * 1024


def many(head, count):
    yield head + "\n"
    for i in range(count):
        yield line(pseudonym=f"{i * 2654435761 % (1 << 32):08x}{i:024x}") + "\n"
    yield json.dumps({"suppressions": count}) + "\n"


def test_memory_does_not_grow_with_the_number(daemon):
    count = 100_000
    head = export(daemon).splitlines()[0]
    bring(daemon, "".join(many(head, 2000)))
    before = rss(daemon)
    r = daemon.request("POST", "/v1/suppressions:import", headers=NDJSON, timeout=300,
                       data=(x.encode() for x in many(head, count)))
    assert r.status_code == 200 and r.json()["added"] + r.json()["already"] == count, r.text
    with daemon.get("/v1/suppressions", headers={"Accept": "application/x-ndjson"}, stream=True) as r:
        lines = sum(1 for _ in r.iter_lines())
    assert lines == count + 2
    # the map's own pages are counted, too: a few hundred bytes an entry of the database and the log
    map_bytes = (daemon.data_dir / "control.mdb").stat().st_blocks * 512
    assert rss(daemon) - before < map_bytes + 32 * 1024 * 1024, (rss(daemon), before, map_bytes)


def test_a_client_that_leaves_leaves_nothing_half_done(daemon):
    head = export(daemon).splitlines()[0]

    def body():
        yield from (x.encode() for x in many(head, 3000))
        raise OSError("gone")

    with pytest.raises(Exception):
        daemon.request("POST", "/v1/suppressions:import", data=body(), headers=NDJSON)
    end = time.monotonic() + 10
    while len(listed(daemon)) < 2560:  # whole steps of it
        assert time.monotonic() < end
        time.sleep(0.05)
    assert bring(daemon, "".join(many(head, 3000)))["already"] >= 2560


def test_the_client_carries_them(pair, tmp_path, digits):
    a, b = pair
    file = tmp_path / "suppressions.ndjson"
    a.ctl("suppressions", "export", "--output", file)
    assert file.read_text().splitlines()[1:] == a.ctl("suppressions", "export").stdout.splitlines()[1:]
    b.create(**DIGITS)
    b.load("digits", digits[:100])
    r = b.ctl("suppressions", "import", file)
    assert "added" in r.stdout and "--erase-held" in r.stderr
    r = json.loads(b.ctl("--json", "suppressions", "import", "-", "--erase-held",
                         input=file.read_text()).stdout)
    assert r["already"] == 4 and r["held"] == 4 and r["erasures"] > 0
    assert b.ctl("suppressions", "list").stdout == b.ctl("suppressions").stdout
    one = listed(b)[0]["pseudonym"]
    b.ctl("suppressions", "lift", one)
    assert one not in b.ctl("suppressions").stdout
    file.write_text(file.read_text().replace('"version":1', '"version":2'))
    r = b.ctl("suppressions", "import", file, check=False)
    assert r.returncode == 1 and "version" in r.stderr
    assert b.ctl("suppressions", "import", tmp_path / "nothing", check=False).returncode == 1


def test_only_an_administrator_may_carry_them(make_daemon, tmp_path):
    tokens = tmp_path / "tokens"
    made = {}
    text = ""
    for scope in ("erase", "audit", "ingest", "admin"):
        out = json.loads(subprocess.run([str(BIN / "unlearnctl"), "--json", "token", "new", "--name", scope,
                                         "--scope", scope], capture_output=True, text=True,
                                        check=True).stdout)
        made[scope] = out["token"]
        text += out["line"] + "\n"
    tokens.write_text(text)
    d = make_daemon("--tokens-file", str(tokens), auth=True)
    for scope, expected in (("erase", 403), ("audit", 403), ("ingest", 403), ("admin", 200)):
        headers = {"Authorization": "Bearer " + made[scope], "Accept": "application/x-ndjson"}
        assert d.get("/v1/suppressions", headers=headers).status_code == expected
        r = d.request("POST", "/v1/suppressions:import", data=b"", headers={**headers, **NDJSON})
        assert r.status_code == (400 if scope == "admin" else expected)
