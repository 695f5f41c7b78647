# SPDX-License-Identifier: Apache-2.0
"""No personal data in the log (invariant 6): known people go through every door that takes ids, rows or
texts, well-formed and malformed; then all that the log says to anybody, and all that the daemon writes of
itself, is searched for each value in every form in which it could have slipped in. The search is shown to
find what is planted, and the way back is shown to be there: by the key, through the index alone."""
import base64
import hashlib
import html
import io
import json
import secrets
import struct
import tempfile
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from conftest import Daemon
from controller import Controller, email, make_identity
from receiver import Receiver
from test_events import Stream
from test_webhooks import drained

NDJSON = {"Content-Type": "application/x-ndjson"}
CSV = {"Content-Type": "text/csv"}
NPY = {"Content-Type": "application/x-npy"}
DOMAIN = "processor.example.net"
OPTIONS = ["--log-level", "debug", "--gather-window-ms", "0", "--allow-networks", "127.0.0.0/8",
           "--delivery-retry-ms", "20", "--delivery-timeout-ms", "1000", "--opendsr-domain", DOMAIN]
VECTORS = {"name": "vectors", "kind": "softmax", "features": 3, "classes": 2, "shards": 2, "slices": 2,
           "epochs": 1, "standardize": True}
TEXTS = {"name": "texts", "kind": "softmax", "encoder": "hash_text", "features": 64, "classes": 2,
         "shards": 2, "slices": 2, "epochs": 1}
TOWNS = {"name": "towns", "kind": "softmax", "encoder": "tabular", "classes": 2, "shards": 2, "slices": 2,
         "epochs": 1, "columns": [{"name": "income", "type": "numeric"},
                                  {"name": "town", "type": "categorical", "values": ["Oslo", "Rome"]}]}


# --- what must not be found, and in which forms -------------------------------------------------

def base64_of(data):
    """What base64 makes of the data inside of something longer, at each of the three places where it can
    begin; without the characters that its neighbours have a part in."""
    found = []
    for before in range(3):
        coded = base64.b64encode(bytes(before) + data)
        bits = 8 * (before + len(data))
        piece = coded[(8 * before + 5) // 6:bits // 6]
        found += [piece, piece.replace(b"+", b"-").replace(b"/", b"_")]
    return found


def forms_of_bytes(data):
    return {data, data.hex().encode(), data.hex().upper().encode(), *base64_of(data)}


def forms_of_text(text):
    raw, digest = text.encode(), hashlib.sha256(text.encode()).digest()
    escaped = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text, safe=""),
               quote(text), html.escape(text), text.replace('"', '""')}
    escaped |= {json.dumps(e)[1:-1] for e in escaped} | {e.replace('"', '""') for e in escaped}
    return {e.encode() for e in escaped} | forms_of_bytes(raw) | forms_of_bytes(digest) \
        | {text.encode("utf-16-le"), text.encode("utf-16-be")}


def forms_of_row(row):
    """Of numbers: the digits that any way to print them shares, and the row's bytes."""
    return {str(v)[:8].encode() for v in row} | {
        f for kind in "fd" for f in forms_of_bytes(struct.pack(f"<{len(row)}{kind}", *row))}


class Known:
    """What the people of the test are known by; every value is its own, so a find says which door leaks."""

    def __init__(self):
        self.forms = {}  # what it is -> the forms
        self.count = 0

    def text(self, what):
        self.count += 1
        text = f'Ödön-{what}-{7919 * self.count}"<\\{what}>@people.example'
        self.forms[text] = forms_of_text(text)
        return text

    def row(self):
        self.count += 1
        row = [round(40000 + 331.0 * self.count + k * 7.37 + 0.123, 3) for k in range(3)]
        self.forms[f"row {row}"] = forms_of_row(row)
        return row

    def is_in(self, what, data):
        return [f for f in self.forms[what] if f in data]

    def found_in(self, data):
        return [(what, found) for what in self.forms if (found := self.is_in(what, data))]


# --- the doors ----------------------------------------------------------------------------------

def send(d, path, data, headers, *statuses):
    r = d.request("POST", path, data=data, headers=headers)
    assert r.status_code in statuses, f"{path}: {r.status_code} {r.text}"
    return r


def lines(*records):
    return "".join(json.dumps(r, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(records)).encode()


def quoted(*values):
    return ",".join('"' + str(v).replace('"', '""') + '"' for v in values) + "\n"


def array(rows):
    f = io.BytesIO()
    np.save(f, np.array(rows, "<f8"))
    return f.getvalue()


def upload_well(d, known):
    """Every format and encoder; who was loaded, for later."""
    people = [{"id": known.text("id"), "subject": known.text("subject"), "label": str(i % 2),
               "features": known.row()} for i in range(16)]
    send(d, "/v1/models/vectors/records", lines(*people), NDJSON, 200)
    table = "id,subject,label,a,b,c\n"
    for i in range(8):
        people.append({"id": known.text("csv-id"), "subject": known.text("csv-subject")})
        table += quoted(people[-1]["id"], people[-1]["subject"], i % 2, *known.row())
    send(d, "/v1/models/vectors/records", table.encode(), CSV, 200)
    prefix = known.text("prefix")
    send(d, f"/v1/models/vectors/records?id_prefix={quote(prefix, safe='')}",
         array([[*known.row(), i % 2] for i in range(8)]), NPY, 200)
    people += [{"id": f"{prefix}{i}"} for i in range(8)]
    letters = [{"id": known.text("letter"), "label": str(i % 2), "text": known.text("wrote")} for i in range(8)]
    send(d, "/v1/models/texts/records?atomic=true", lines(*letters), NDJSON, 200)
    citizens = [{"id": known.text("citizen"), "label": str(i % 2), "erasure_likelihood": "high",
                 "columns": {"income": known.row()[0], "town": known.text("town")}} for i in range(8)]
    send(d, "/v1/models/towns/records", lines(*citizens), NDJSON, 200)
    return people, letters, citizens


def upload_badly(d, known):
    """What is wrong in every place where it can be, so that an error has something to repeat."""
    def one(**changes):
        r = {"id": known.text("bad-id"), "subject": known.text("bad-subject"), "label": "0", "features": known.row()}
        return {k: v for k, v in {**r, **changes}.items() if v is not None}
    bad = [one(label=known.text("label")), one(features=known.row()[:2]), one(features=known.text("features")),
           one(**{known.text("field"): 1}), one(text=known.text("text")), one(id=None), one(subject=7),
           one(erasure_likelihood=known.text("likelihood")), one(features=[known.text("value"), 1, 2]),
           one(id=known.text("long") * 30), one(columns={known.text("column"): known.text("value")})]
    body = lines(*bad) + lines(one())[:-9] + b"\n" + known.text("nonsense").encode() + b"\n"
    for query in ("", "?atomic=true"):
        send(d, "/v1/models/vectors/records" + query, body, NDJSON, 200, 422)
        send(d, "/v1/models/towns/records" + query, body, NDJSON, 200, 422)
    send(d, "/v1/models/vectors/evaluate", body, NDJSON, 200, 422)
    header = f"id,subject,label,a,b,{quoted(known.text('column')).strip()}\n"
    for table in (header + quoted(known.text("csv-id"), known.text("csv-subject"), known.text("csv-label"), 1, 2, 3)
                  + quoted(known.text("csv-id"), "s", 0, known.text("csv-value"), 2, 3)
                  + quoted(known.text("csv-id"), "s", 0, 1, 2), known.text("header") + "\n" + known.text("line"),
                  header + '"' + known.text("open-quote")):
        send(d, "/v1/models/vectors/records", table.encode(), CSV, 200, 400, 422)
    send(d, f"/v1/models/vectors/records?id_prefix={quote(known.text('bad-prefix'), safe='')}",
         array([[*known.row(), 7]]), NPY, 200, 422)
    send(d, "/v1/models/vectors/records", lines(one()), {"Content-Type": "application/x-npy"}, 400, 422)
    send(d, "/v1/models/vectors/records", lines(one()), {**NDJSON, "Content-Encoding": "gzip"}, 400)
    send(d, "/v1/models/vectors/records", lines(one()), {"Content-Type": "application/octet-stream"}, 415)
    for path in ("records", "evaluate", "no-such-call"):
        send(d, f"/v1/models/{quote(known.text('model'), safe='')}/{path}", lines(one()), NDJSON, 404)
    send(d, "/v1/models", json.dumps({**VECTORS, "name": known.text("name")}), {"Content-Type": "application/json"}, 422)


def predict(d, known, letters):
    d.infer("vectors", [known.row(), known.row()])
    d.post("/v1/models/vectors:predict", {"instances": [known.row(), known.text("instance")]})
    texts = {"name": "input", "shape": [2], "datatype": "BYTES", "data": [letters[0]["text"], known.text("asked")]}
    assert d.post("/v2/models/texts/infer", {"inputs": [texts]}).status_code == 200
    for bad in ({"inputs": [{**texts, "datatype": known.text("datatype")}]}, {known.text("field"): known.text("value")},
                {"inputs": [{"name": known.text("input"), "shape": [1, 3], "datatype": "FP32", "data": known.row()}]}):
        assert d.post("/v2/models/texts/infer", bad).status_code in (400, 422)
    assert d.get(f"/v2/models/{quote(known.text('model'), safe='')}").status_code == 404
    for model in ("vectors", known.text("model")):
        assert d.get(f"/v1/models/{quote(model, safe='')}/records/{quote(known.text('asked-id'), safe='')}"
                     ).status_code == 404


def erase(d, known, people, letters, citizens, receiver):
    """Ids of the erasures that will complete."""
    done = [d.erase(wait=False, subjects=[people[0]["subject"], known.text("nobody")], regulation="gdpr",
                    reference="DSR-1", callback_url=receiver.url + "/cb"),
            d.erase(wait=False, records=[{"model": "vectors", "id": p["id"]} for p in (people[1], people[-1], people[17])],
                    reference="DSR-2"),
            d.erase(wait=False, records=[{"model": "texts", "id": letters[0]["id"]},
                                         {"model": "towns", "id": citizens[0]["id"]}], models=["texts", "towns"])]
    done = [e["id"] for e in done]
    key = {"Idempotency-Key": '"a-key"'}
    for _ in range(2):
        r = d.post("/v1/erasures", {"subjects": [people[2]["subject"]]}, headers=key)
        assert r.status_code == 202
    done.append(r.json()["id"])
    assert d.post("/v1/erasures", {"subjects": [known.text("another-body")]}, headers=key).status_code == 422
    dry = {"subjects": [people[3]["subject"], known.text("dry")], "records": [{"model": "texts", "id": known.text("dry-id")}]}
    assert d.post("/v1/erasures?dry_run=true", dry).status_code == 200
    batch = lines({"subjects": [people[4]["subject"]]}, {"records": [{"model": "vectors", "id": known.text("absent")}]},
                  {"subjects": [known.text("batch")], "regulation": known.text("regulation")},
                  {known.text("field"): 1}) + known.text("no-json").encode() + b"\n"
    answers = [json.loads(x) for x in send(d, "/v1/erasures:batch", batch, NDJSON, 200).text.splitlines()]
    done += [a["id"] for a in answers if a.get("state") in ("forgotten", "completed")]
    assert len(answers) == 5 and len(done) == 6
    for bad in ({"subjects": [known.text("s")], "reference": known.text("reference")},
                {"subjects": [known.text("s")], "models": [known.text("model")]},
                {"subjects": known.text("not-a-list")}, {"subject": known.text("unknown-field")},
                {"subjects": [known.text("s")], "callback_url": known.text("url")},
                {"subjects": [known.text("s")], "deadline": known.text("deadline")},
                {"records": [{"model": known.text("model"), "id": known.text("id")}]},
                {"records": [{"model": "vectors", "id": known.text("id"), known.text("field"): 1}]}):
        assert d.post("/v1/erasures", bad).status_code == 422, bad
    return done


def decide(d, known, people):
    """What is held, released and refused; and extended."""
    held = [d.erase(wait=False, hold=True, subjects=[people[n]["subject"]], regulation="gdpr",
                    records=[{"model": "vectors", "id": people[n]["id"]}]) for n in (5, 6)]
    for what, body in (("refuse", {"reason_code": known.text("reason")}),
                       ("refuse", {"reason_code": "gdpr_17_3_e", "note": known.text("note")}),
                       ("extend", {"deadline": known.text("deadline"), "reason_code": "gdpr_12_3_complexity"}),
                       ("release", {"why": known.text("why")})):
        assert d.post(f"/v1/erasures/{held[0]['id']}/{what}", body).status_code in (400, 415, 422)
    assert d.post(f"/v1/erasures/{held[0]['id']}/refuse", {"reason_code": "gdpr_17_3_e"}).status_code == 200
    assert d.post(f"/v1/erasures/{held[1]['id']}/release").status_code == 202
    assert d.post(f"/v1/erasures/{quote(known.text('erasure'), safe='')}/release").status_code == 404
    return [held[1]["id"]]


def dsr(d, known, people, receiver):
    c = Controller(d.url + "/opendsr/v2", DOMAIN)
    c.discover()
    body = c.body(email(people[7]["subject"]), status_callback_urls=[receiver.url + "/dsr"])
    c.submit(body)
    c.submit(c.body(email(hashlib.sha256(people[8]["subject"].encode()).hexdigest(), "sha256")))
    for bad in (c.body(email(known.text("dsr")), subject_request_type="access"),
                c.body({"identity_type": known.text("type"), "identity_value": known.text("value"),
                        "identity_format": "raw"}),
                c.body(email(known.text("dsr"), known.text("format"))), {known.text("field"): known.text("value")}):
        assert c.post(bad).status_code == 400, bad
    assert c.post(known.text("no-json").encode()).status_code == 400
    done = {d.ok("GET", f"/v1/audit?reference={body['subject_request_id']}")["items"][0]["data"]["erasure"]}
    done |= {e["id"] for e in d.ok("GET", "/v1/erasures?limit=1000")["items"] if e["state"] == "forgotten"}
    return list(done)


def suppress(d, known, people, other):
    """Export, import, a reload that is refused, a lift."""
    text = d.get("/v1/suppressions", headers={"Accept": "application/x-ndjson"}).text
    assert send(other, "/v1/suppressions:import", text.encode(), NDJSON, 200).json()["added"] > 0
    for bad in (known.text("no-json"), json.dumps({"format": known.text("format")}), text.replace('"subject"', json.dumps(
            known.text("kind")), 1), text[:-20] + known.text("cut")):
        assert d.request("POST", "/v1/suppressions:import", data=bad.encode(), headers=NDJSON).status_code in (400, 422)
    again = {**people[0], "id": known.text("again")}
    assert d.load("vectors", [again])["suppressed"] == 1
    pseudonym = pseudonym_of(d, people[0]["subject"])
    assert d.delete(f"/v1/suppressions/{pseudonym}").ok
    assert d.delete(f"/v1/suppressions/{quote(known.text('pseudonym'), safe='')}").status_code in (400, 404)
    assert d.load("vectors", [again])["accepted"] == 1


def pseudonym_of(d, name):
    key = (d.data_dir / "keys" / "pseudonym.key").read_bytes()
    return hashlib.blake2b(hashlib.sha256(name.encode()).digest(), key=key, digest_size=16).hexdigest()


# --- what is said -------------------------------------------------------------------------------

def look(d, known):
    """The filters take ids too, and what they were asked must not be noted."""
    for name in ("subject", "record", "reference", "erasure", "type", "model", "actor", "since", "cursor"):
        d.get("/v1/audit", params={name: known.text("filter")})
    d.get("/v1/erasures", params={"state": known.text("filter")})
    d.get(f"/v1/audit/{quote(known.text('index'), safe='')}")


def everything_said(d, done, stream):
    """Name -> bytes: the log in each of its forms, and what is told of it."""
    size = int(d.get("/v1/audit/checkpoint").text.split("\n")[1])
    said = {"pages": d.get("/v1/audit?limit=1000").content,
            "ndjson": d.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).content,
            "csv": d.get("/v1/audit", headers={"Accept": "text/csv"}).content,
            "report": d.get("/v1/audit/report").content,
            "report page": d.get("/v1/audit/report", headers={"Accept": "text/html"}).content,
            "keys": d.get("/v1/audit/keys").content, "metrics": d.get("/metrics").content,
            "erasures": d.get("/v1/erasures?limit=1000").content, "jobs": d.get("/v1/jobs?limit=1000").content,
            "recalls": d.get("/v1/models/vectors/recalls").content,
            "events": json.dumps(stream.events).encode()}
    for n in range((size + 255) // 256):
        width = min(256, size - 256 * n)
        said[f"tile {n}"] = d.get(f"/v1/audit/tile/entries/{n:03}" + ("" if width == 256 else f".p/{width}")).content
    for i in range(size):
        said[f"proof {i}"] = d.get(f"/v1/audit/{i}").content + d.get(f"/v1/audit/{i}/proof").content
    for e in done:
        for kind in ("application/json", "text/html"):
            r = d.get(f"/v1/erasures/{e}/certificate", headers={"Accept": kind})
            assert r.status_code == 200, r.text
            said[f"certificate of {e}, {kind}"] = r.content
            if kind == "application/json":
                said[f"statement of {e}"] = base64.b64decode(r.json()["payload"])
        said[f"proof of {e}"] = d.get(f"/v1/erasures/{e}/proof").content
    assert len(said["ndjson"].splitlines()) == size and all(said.values())
    return said


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Everything was done to everybody; said: what was made of it, by name."""
    identity = make_identity(tmp_path_factory.mktemp("identity"), DOMAIN)
    options = [*OPTIONS, "--opendsr-key-file", str(identity[0]), "--opendsr-certificate-file", str(identity[1])]
    known, receiver = Known(), Receiver()
    with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as folder:
        conf, first, second = (Path(folder) / n for n in ("conf", "first", "second"))
        first.mkdir()
        (second / "keys").mkdir(parents=True, mode=0o700)
        conf.write_text(f"[webhook everybody]\nurl = {receiver.url}/hook\n")
        d = Daemon(first, "-c", str(conf), *options)
        (second / "keys" / "pseudonym.key").write_bytes((first / "keys" / "pseudonym.key").read_bytes())
        other = Daemon(second, *OPTIONS[:4])
        try:
            for model in (VECTORS, TEXTS, TOWNS):
                d.create(**model)
            stream = Stream(d, last=0)
            people, letters, citizens = upload_well(d, known)
            for model in ("vectors", "texts", "towns"):
                d.train(model)
            upload_badly(d, known)
            predict(d, known, letters)
            done = erase(d, known, people, letters, citizens, receiver)
            done += decide(d, known, people)
            done = list({*done, *dsr(d, known, people, receiver)})
            suppress(d, known, people, other)
            look(d, known)
            for e in done:
                d.wait_erasure(e)
            stream.wait(lambda s: {x["data"]["erasure"] for _, t, x in s.events if t == "erasure.completed"} >= set(done))
            drained(d)
            d.restart()
            d.people = people
            said = everything_said(d, done, stream)
            said["the other's log"] = other.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).content
            yield d, known, said, receiver
        finally:
            for x in (d, other):
                if x.process.poll() is None:
                    x.stop()
            receiver.close()
    logs = "\n".join(d.log + other.log).encode()
    assert b"request" in logs and b"stopping" in logs and known.found_in(logs) == []


# --- the tests ----------------------------------------------------------------------------------

def test_the_search_finds_what_is_planted(world):
    """It can fail: each value, in each form, in the middle of what was said."""
    _, known, said, _ = world
    text = said["ndjson"]
    assert len(known.forms) > 150
    for what, forms in known.forms.items():
        assert known.is_in(what, text) == []
        for form in forms:
            assert len(form) >= 8 and form in known.is_in(what, text[:999] + form + text[999:])
    for before in ("", "x", "xy", "xyz"):  # wherever base64 begins, and whatever comes after it
        for what in list(known.forms)[:20:3]:
            for coded in (base64.b64encode, base64.urlsafe_b64encode):
                assert known.is_in(what, coded((before + what + before).encode())), what
    assert known.found_in(text) == [] and known.found_in(text + next(iter(known.forms)).encode())


def test_nobody_is_in_anything_that_the_log_says(world):
    _, known, said, _ = world
    for name, text in said.items():
        assert known.found_in(text) == [], name


def test_nobody_is_in_what_receivers_are_sent(world):
    d, known, _, receiver = world
    sent = receiver.seen()
    assert {path for path, _, _ in sent} == {"/hook", "/cb", "/dsr"}
    for path, headers, body in sent:
        assert known.found_in(body + json.dumps(headers).encode()) == [], path


def test_nobody_is_in_what_the_daemon_writes_of_itself(world):
    d, known, _, _ = world
    text = "\n".join(d.log)
    assert "request method=POST" in text, "the level is debug: every request has its line"
    assert known.found_in(text.encode()) == []


def test_no_pseudonym_is_in_an_entry_and_the_index_finds_it_all_the_same(world):
    d, _, said, _ = world
    erased = [d.people[n]["subject"] for n in (0, 2, 4, 6, 7)]
    listed = d.get("/v1/suppressions?limit=1000").text
    for name in erased:
        assert d.ok("GET", "/v1/audit", params={"subject": name})["items"]
    assert all(pseudonym_of(d, name) in listed for name in erased[1:]), "they are as this file makes them"
    for name in erased:
        pseudonym = bytes.fromhex(pseudonym_of(d, name))
        for where, text in said.items():
            assert not any(f in text for f in forms_of_bytes(pseudonym)), where


def test_the_reference_is_the_clients_own_and_stands_there_as_it_came(world):
    """It is documented: a ticket's number, and no personal data; what is none of the form is refused."""
    _, _, said, _ = world
    assert b"DSR-1" in said["ndjson"] and b"DSR-1" in said["csv"] and b"DSR-2" in said["tile 0"]


def test_the_trace_of_a_request_stands_in_its_line_if_it_is_one(make_daemon):
    """Version 00 of the W3C's form alone: anything else may be somebody's name."""
    d = make_daemon("--log-level", "debug")
    good = f"00-{secrets.token_hex(16)}-00f067aa0ba902b7-01"
    wrong = ["", good[:-1], good + "0", "01" + good[2:], good.upper(), good.replace("-", "_"), "alice"]
    for trace in [*wrong, good]:
        assert d.get("/v1/models", headers={"traceparent": trace}).status_code == 200
    d.stop()
    traces = [line.rsplit(" trace=", 1)[1] for line in d.log if " request method=" in line]
    assert sorted(traces) == ["-"] * len(wrong) + [good]
