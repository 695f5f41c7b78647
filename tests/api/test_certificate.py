# SPDX-License-Identifier: Apache-2.0
"""The certificate of an erasure as a controller and an auditor get it: what it says is held against
what the daemon showed before and after, and checked with rfc6962.py; nothing of it is believed."""
import base64
import hashlib
import html.parser
import json
import re
from datetime import datetime, timedelta

import pytest
import rfc6962
from conftest import DIGITS, ROOT

SCHEMA = json.loads((ROOT / "docs" / "erasure-certificate-v1.schema.json").read_text())
TYPE = "urn:unlearnd:erasure-certificate:v1"


def certificate(d, erasure):
    """(envelope, statement's bytes, predicate)"""
    envelope = d.ok("GET", f"/v1/erasures/{erasure}/certificate", status=200)
    payload = base64.b64decode(envelope["payload"], validate=True)
    return envelope, payload, json.loads(payload)["predicate"]


def signature_holds(envelope, vkey):
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    name, key_id, public = rfc6962.parse_vkey(vkey)
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == f"{name}+{key_id.hex()}"
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(
            base64.b64decode(signature["sig"], validate=True), signed)
    except Exception:
        return False
    return True


def parse_proof(text):
    """(entry, index, hashes, checkpoint) of a C2SP tlog-proof."""
    head, note = text.split("\n\n", 1)
    version, extra, index, *hashes = head.split("\n")
    assert version == "c2sp.org/tlog-proof@v1"
    assert extra.startswith("extra ") and re.fullmatch(r"index (0|[1-9][0-9]*)", index)
    return (base64.b64decode(extra[6:], validate=True), int(index[6:]),
            [base64.b64decode(h, validate=True) for h in hashes], note)


def conforms(schema, value, where="predicate", root=SCHEMA):
    """The part of JSON Schema that the published one uses."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "oneOf" in schema:
        return sum(fits(s, value) for s in schema["oneOf"]) == 1 or fail(where, value)
    kinds = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object", type(None): "null"}
    if "type" in schema:
        wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert kinds[type(value)] in wanted, f"{where}: {value!r}"
    if "enum" in schema:
        assert value in schema["enum"], f"{where}: {value!r}"
    if isinstance(value, str) and "pattern" in schema:
        assert re.search(schema["pattern"], value), f"{where}: {value!r}"
    if type(value) is int:
        assert value >= schema.get("minimum", value), where
    if isinstance(value, list):
        assert len(value) <= schema.get("maxItems", len(value)), where
        for v in value:
            conforms(schema["items"], v, where + "[]")
    if isinstance(value, dict):
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), f"{where}: {sorted(value)}"
        for k, v in value.items():
            conforms(schema["properties"][k], v, f"{where}.{k}")
    return True


def fits(schema, value):
    try:
        return conforms(schema, value)
    except AssertionError:
        return False


def fail(where, value):
    raise AssertionError(f"{where}: {value!r}")


def checkpoints(d, model="digits"):
    """{(shard, slice): digest of the checkpoint's file}"""
    return {(s["shard"], x["slice"]): x["checkpoint_hash"]
            for s in d.ok("GET", f"/v1/models/{model}/shards")["shards"] for x in s["slices"]}


@pytest.fixture
def trained(daemon, digits):
    daemon.create(**{**DIGITS, "epochs": 2})
    daemon.load("digits", digits[:400])
    daemon.train("digits")
    return daemon


def test_it_says_what_happened(trained):
    d = trained
    before = checkpoints(d)
    e = d.erase(subjects=["s3", "s40"], regulation="gdpr", reference="DSR-7")
    after = checkpoints(d)
    envelope, payload, p = certificate(d, e["id"])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert signature_holds(envelope, d.get("/v1/audit/key").text)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == TYPE == SCHEMA["$id"]
    conforms(SCHEMA, p)
    for name in ("matched", "regulation", "reference", "received_at", "accepted_at", "forgotten_at",
                 "scrubbed_at", "completed_at", "deadline", "overdue", "guarantee"):
        assert p[name] == e[name], name
    assert p["erasure"] == e["id"] and p["constituents_left_out"] == 0
    assert {(c["shard"], c["slice"], c["records"]) for c in p["constituents"]} == \
        {(a["shard"], a["slice"], a["records"]) for a in e["affected"]}
    last = DIGITS["slices"]
    for c in p["constituents"]:
        lost = [before[c["shard"], r] for r in range(c["slice"], last + 1)]
        gone = c["checkpoints_destroyed"]
        assert (gone["count"], gone["first_slice"], gone["digests"]) == (len(lost), c["slice"], lost)
        over = hashlib.sha256(b"".join(map(bytes.fromhex, lost))).hexdigest()
        assert gone["digests_sha256"] == over
        assert c["outcome"] == "retrained"
        assert c["before"] == {"slices": last, "sha256": before[c["shard"], last]}
        assert c["after"]["sha256"] == after[c["shard"], last] != c["before"]["sha256"]
        assert c["after"]["slices"] == last
    assert statement["subject"] == [
        {"name": f"models/digits/shard-{c['shard']:03}/slice-{last:03}.ckpt",
         "digest": {"sha256": c["after"]["sha256"]}} for c in p["constituents"]]
    assert p["checkpoints_destroyed"] == sum(c["checkpoints_destroyed"]["count"] for c in p["constituents"])


def test_the_digest_is_that_of_the_file_and_the_commitment_that_of_its_provenance(trained):
    d = trained
    e = d.erase(subjects=["s3"])
    for c in certificate(d, e["id"])[2]["constituents"]:
        path = d.data_dir / "models/digits" / f"shard-{c['shard']:03}/slice-{c['after']['slices']:03}.ckpt"
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == c["after"]["sha256"]
        size = int.from_bytes(data[:8], "little")
        provenance = json.loads(data[8:8 + size])["__metadata__"]
        assert hashlib.sha256(data[8 + size:]).hexdigest() == c["after"]["parameters_sha256"]
        assert provenance["retained"] == c["after"]["retained"]["sha256"]
        assert int(provenance["records"]) == c["after"]["retained"]["records"]
        assert provenance["config_hash"] == c["after"]["config_sha256"]
        assert provenance["kernel"] == c["after"]["kernel"]


def test_the_log_commits_to_it_and_the_proof_needs_nothing_but_the_key(trained):
    d = trained
    e = d.erase(subjects=["s3"], reference="DSR-8")
    d.erase(subjects=["s9"])
    _, payload, p = certificate(d, e["id"])
    r = d.get(f"/v1/erasures/{e['id']}/proof")
    assert r.headers["Content-Type"].startswith("text/plain")
    entry, index, hashes, note = parse_proof(r.text)
    _, size, root, _, _ = rfc6962.parse_checkpoint(note)
    rfc6962.signature_of(note, d.get("/v1/audit/key").text)
    assert rfc6962.inclusion_holds(index, size, rfc6962.leaf(entry), hashes, root)
    entry = json.loads(entry)
    assert index == p["log_index"] == p["log"]["completed_index"] == entry["index"]
    assert entry["type"] == "erasure.completed"
    assert entry["data"]["certificate"] == hashlib.sha256(payload).hexdigest()
    assert entry["data"]["erasure"] == e["id"] and entry["data"]["reference"] == "DSR-8"
    forgotten = d.ok("GET", f"/v1/audit/{p['log']['forgotten_index']}")
    assert forgotten["type"] == "erasure.forgotten" and forgotten["data"]["erasure"] == e["id"]


def test_it_never_changes_whatever_comes_after(trained, digits):
    d = trained
    e = d.erase(subjects=["s3"])
    first = d.get(f"/v1/erasures/{e['id']}/certificate").content
    shards = {c["shard"] for c in certificate(d, e["id"])[2]["constituents"]}
    for i in range(20, 40):  # some of them in the same shard
        d.erase(subjects=[f"s{i}"])
    d.load("digits", digits[400:600])
    d.train("digits")
    d.restart()
    assert d.get(f"/v1/erasures/{e['id']}/certificate").content == first
    d.delete("/v1/models/digits")
    assert d.get(f"/v1/erasures/{e['id']}/certificate").content == first
    assert shards


def test_two_erasures_of_one_shard_each_say_what_they_took(make_daemon, digits):
    """The second finds the constituent withdrawn already, and takes what is left below."""
    d = make_daemon("--gather-window-ms", "3000")
    d.create(**{**DIGITS, "shards": 1, "epochs": 2})
    d.load("digits", digits[:200])
    d.train("digits")
    before = checkpoints(d)
    where = {s: d.ok("GET", f"/v1/models/digits/records/r{5 * s}")["slice"] for s in range(40)}
    high = next(s for s in where if where[s] == 4)
    low = next(s for s in where if where[s] == 2)
    a = d.erase(wait=False, subjects=[f"s{high}"])
    b = d.erase(wait=False, subjects=[f"s{low}"])
    c = d.erase(wait=False, subjects=[f"s{next(s for s in where if where[s] == 4 and s != high)}"])
    for x in (a, b, c):
        d.wait_erasure(x["id"])
    said = [certificate(d, x["id"])[2]["constituents"][0] for x in (a, b, c)]
    assert [s["checkpoints_destroyed"]["digests"] for s in said] == \
        [[before[0, 4]], [before[0, 2], before[0, 3]], []]
    assert [s["before"] and s["before"]["sha256"] for s in said] == [before[0, 4], before[0, 3], None]
    assert len({s["after"]["sha256"] for s in said}) == 1
    assert said[0]["after"]["retained"]["records"] == 200 - 15


def test_before_it_is_completed_there_is_none(make_daemon, digits):
    d = make_daemon("--gather-window-ms", "60000")
    d.create(**{**DIGITS, "epochs": 1})
    d.load("digits", digits[:200])
    d.train("digits")
    e = d.erase(wait=False, subjects=["s3"])
    assert e["state"] == "forgotten"
    for what in ("certificate", "proof"):
        r = d.get(f"/v1/erasures/{e['id']}/{what}")
        assert r.status_code == 409 and "not completed" in r.json()["detail"]
        assert d.get(f"/v1/erasures/01M8854P3FMPWKZ3V5DDT2W63G/{what}").status_code == 404
        assert d.get(f"/v1/erasures/nonsense/{what}").status_code == 404


def test_nobody_held_nothing_trained_and_a_deleted_model(make_daemon, digits):
    d = make_daemon("--gather-window-ms", "60000")
    d.create(**{**DIGITS, "epochs": 1})
    nobody = certificate(d, d.erase(subjects=["never-heard-of"])["id"])
    d.load("digits", digits[:200])
    untrained = certificate(d, d.erase(subjects=["s1"])["id"])
    d.train("digits")
    waits = d.erase(wait=False, subjects=["s3"])
    assert d.delete("/v1/models/digits").status_code == 204
    d.wait_erasure(waits["id"])
    deleted = certificate(d, waits["id"])
    for envelope, payload, p in (nobody, untrained, deleted):
        conforms(SCHEMA, p)
        (subject,) = json.loads(payload)["subject"]
        line = next(x for x in d.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).text.splitlines()
                    if json.loads(x)["index"] == p["log"]["forgotten_index"])
        entry = line[:line.rindex(',"leaf_hash":"')] + "}"
        assert subject == {"name": f"log entry {p['log']['forgotten_index']}",
                           "digest": {"sha256": hashlib.sha256(entry.encode()).hexdigest()}}
    assert nobody[2]["matched"] == 0 and nobody[2]["constituents"] == []
    (c,) = untrained[2]["constituents"]
    assert c["outcome"] == "never_trained" and c["before"] is None and c["after"] is None
    assert c["records"] == 5 and c["checkpoints_destroyed"]["count"] == 0
    (c,) = deleted[2]["constituents"]
    assert c["outcome"] == "model_deleted" and c["before"] and c["after"] is None
    assert c["checkpoints_destroyed"]["count"] == DIGITS["slices"] - c["slice"] + 1


def test_an_extended_deadline_and_a_refusal(trained):
    d = trained
    e = d.erase(wait=False, subjects=["s3"], regulation="gdpr", hold=True)
    assert d.get(f"/v1/erasures/{e['id']}/certificate").status_code == 409
    new = (datetime.fromisoformat(e["deadline"][:-1]) + timedelta(days=20)).isoformat(timespec="milliseconds") + "Z"
    d.ok("POST", f"/v1/erasures/{e['id']}/extend", {"deadline": new, "reason_code": "complexity"})
    d.ok("POST", f"/v1/erasures/{e['id']}/release", status=202)
    d.wait_erasure(e["id"])
    p = certificate(d, e["id"])[2]
    conforms(SCHEMA, p)
    assert p["deadline"] == new and p["first_deadline"] == e["deadline"] and p["overdue"] is False
    page = d.get(f"/v1/erasures/{e['id']}/certificate", headers={"Accept": "text/html"}).text
    assert "Extended from" in page
    e = d.erase(wait=False, subjects=["s9"], hold=True)
    d.ok("POST", f"/v1/erasures/{e['id']}/refuse", {"reason_code": "identity_not_verified"})
    r = d.get(f"/v1/erasures/{e['id']}/certificate")
    assert r.status_code == 409 and "was refused" in r.json()["detail"]


def test_it_names_nobody(trained):
    d = trained
    e = d.erase(subjects=["s3"], records=[{"model": "digits", "id": "r77"}])
    _, payload, _ = certificate(d, e["id"])
    page = d.get(f"/v1/erasures/{e['id']}/certificate", headers={"Accept": "text/html"}).text
    pseudonyms = {s["pseudonym"] for s in d.ok("GET", "/v1/suppressions")["items"]}
    assert len(pseudonyms) == 2
    for text in (payload.decode(), page, d.get(f"/v1/erasures/{e['id']}/proof").text):
        assert '"s3"' not in text and "r77" not in text
        assert not any(p in text for p in pseudonyms)


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.style, self.at = "", [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.at = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.at = None

    def handle_data(self, data):
        if self.at == "style":
            self.style += data
        else:
            self.text += data


def test_the_page_for_people(trained):
    d = trained
    e = d.erase(subjects=["s3"], regulation="gdpr", reference="DSR-9")
    r = d.get(f"/v1/erasures/{e['id']}/certificate",
              headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert r.status_code == 200 and r.headers["Content-Type"] == "text/html; charset=utf-8"
    assert r.headers["Vary"] == "Accept" and r.headers["X-Content-Type-Options"] == "nosniff"
    page = Page(r.text)
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    policy = r.headers["Content-Security-Policy"]
    assert policy == (f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
                      "form-action 'none'; frame-ancestors 'none'")
    assert "@media print" in page.style and "url(" not in page.style
    for tag, attrs in page.tags:
        assert tag not in ("script", "img", "link", "iframe", "a", "form"), tag
        assert not {a for a in attrs if a.startswith("on") or a in ("src", "href", "style")}, attrs
    _, payload, p = certificate(d, e["id"])
    for said in ("Certificate of erasure", e["id"], "DSR-9", "General Data Protection Regulation",
                 "5 records were erased", p["constituents"][0]["after"]["sha256"],
                 p["constituents"][0]["before"]["sha256"], d.get("/v1/audit/key").text,
                 hashlib.sha256(payload).hexdigest(), f"number {p['log_index']} records",
                 e["forgotten_at"][:10] + ", " + e["forgotten_at"][11:19] + " UTC", "In time"):
        assert said in page.text, said
    problem = d.get("/v1/erasures/01M8854P3FMPWKZ3V5DDT2W63G/certificate", headers={"Accept": "text/html"})
    assert problem.status_code == 404
    assert d.get(f"/v1/erasures/{e['id']}/certificate", headers={"Accept": "*/*"}).json()["payload"]


def test_it_says_no_more_than_was_asked_for(make_daemon, digits):
    """An erasure in one model by name says so, everywhere; the person stays in the other."""
    d = make_daemon("--gather-window-ms", "0")
    for name in ("alpha", "beta"):
        d.create(**{**DIGITS, "name": name, "epochs": 1})
        d.load(name, digits[:100])
        d.train(name)
    mine = next(r["id"] for r in digits if r["subject"] == "s3")
    narrow = d.erase(subjects=["s3"], models=["alpha"])
    record = d.erase(records=[{"model": "beta", "id": next(r["id"] for r in digits if r["subject"] == "s4")}])
    nobody = d.erase(subjects=["never-heard-of"], models=["beta"])
    held = d.erase(wait=False, subjects=["s5"], models=["beta"], hold=True)
    d.ok("POST", f"/v1/erasures/{held['id']}/release", status=202)
    d.wait_erasure(held["id"])
    wide = d.erase(subjects=["s6"])
    assert d.get(f"/v1/models/beta/records/{mine}").status_code == 200
    for e, scope, models in ((narrow, "named_models", ["alpha"]), (record, "named_models", None),
                             (nobody, "named_models", ["beta"]), (held, "named_models", ["beta"]),
                             (wide, "all_models", None)):
        _, _, p = certificate(d, e["id"])
        conforms(SCHEMA, p)
        assert p["scope"] == scope and d.ok("GET", f"/v1/erasures/{e['id']}")["scope"] == scope
        entry = d.ok("GET", f"/v1/audit/{p['log']['forgotten_index']}")
        assert entry["data"]["models"] == models
        page = d.get(f"/v1/erasures/{e['id']}/certificate", headers={"Accept": "text/html"}).text
        assert ("No model of the service takes them in again." in page) == (scope == "all_models")
        assert ("only they were looked at" in page) == (scope == "named_models")


def test_the_log_is_searched_by_every_model_that_was_touched(make_daemon, digits):
    d = make_daemon("--gather-window-ms", "0")
    for name in ("alpha", "beta", "gamma"):
        d.create(**{**DIGITS, "name": name, "epochs": 1})
        d.load(name, digits[:100] if name != "gamma" else digits[100:200])
    both = d.erase(subjects=["s3"])
    for name in ("alpha", "beta"):
        types = [e["type"] for e in d.ok("GET", f"/v1/audit?model={name}&erasure={both['id']}")["items"]]
        assert sorted(types) == ["erasure.completed", "erasure.forgotten", "erasure.scrubbed"]
    assert d.ok("GET", f"/v1/audit?model=gamma&erasure={both['id']}")["items"] == []
