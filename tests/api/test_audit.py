# SPDX-License-Identifier: Apache-2.0
"""Invariant 6 as an auditor sees it: everything is checked with rfc6962.py, nothing is believed."""
import base64
import csv
import io
import json
import tempfile

import pytest
import rfc6962
from conftest import DIGITS, Daemon, read_digits


@pytest.fixture(scope="module")
def d():
    with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as folder:
        d = Daemon(folder)
        try:
            records = read_digits(400)
            for r in records:
                r["id"], r["subject"] = f"record-of-{r['id']}", f"{r['subject']}@example.org"
            d.create(**DIGITS)
            d.create(**{**DIGITS, "name": "other"})
            d.load("digits", records)
            d.load("other", records[:50])
            d.train("digits")
            d.first = d.erase(subjects=["s1@example.org"], reference="DSR-1", regulation="gdpr")
            d.second = d.erase(records=[{"model": "digits", "id": "record-of-r77"}], reference="DSR-2")
            d.erase(subjects=["nobody@example.org"])
            for i in range(20):
                d.erase(subjects=[f"s{20 + i}@example.org"])
            yield d
        finally:
            d.stop()


def entries(d, query=""):
    found, cursor = [], ""
    while True:
        page = d.ok("GET", f"/v1/audit?limit=7{query}{cursor}")
        found += page["items"]
        assert len(page["items"]) <= 7
        if page["next_cursor"] is None:
            return found
        cursor = "&cursor=" + page["next_cursor"]


def head(d):
    note = d.get("/v1/audit/checkpoint").text
    origin, size, root, _, _ = rfc6962.parse_checkpoint(note)
    return note, size, root


def raw_of(entry_line):
    """The bytes that were hashed: the object as sent, without its leaf hash."""
    at = entry_line.rindex(',"leaf_hash":"')
    return (entry_line[:at] + "}").encode(), entry_line[at + 14:at + 78]


def test_the_whole_log_makes_the_signed_root(d):
    text = d.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).text
    _, size, root = head(d)
    leaves = []
    for i, line in enumerate(text.splitlines()):
        raw, claimed = raw_of(line)
        assert rfc6962.leaf(raw).hex() == claimed and json.loads(line)["index"] == i
        leaves.append(rfc6962.leaf(raw))
    assert len(leaves) == size and rfc6962.root_of(leaves) == root


def test_the_checkpoint_is_signed_by_the_key(d):
    key = d.get("/v1/audit/key")
    assert key.headers["Content-Type"].startswith("text/plain") and "\n" not in key.text
    text, signature, public = rfc6962.signature_of(d.get("/v1/audit/checkpoint").text, key.text)
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        pytest.skip("python3-cryptography is not installed: the Ed25519 signature is not checked here")
    Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    with pytest.raises(Exception):
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text + b"x")


def test_every_entry_is_proved_to_be_in(d):
    _, size, root = head(d)
    for e in entries(d):
        p = d.ok("GET", f"/v1/audit/{e['index']}/proof")
        hashes = [base64.b64decode(h, validate=True) for h in p["hashes"]]
        assert p["size"] == size and p["leaf_hash"] == e["leaf_hash"]
        leaf = bytes.fromhex(e["leaf_hash"])
        assert rfc6962.inclusion_holds(e["index"], size, leaf, hashes, root)
        assert not rfc6962.inclusion_holds(e["index"], size, rfc6962.leaf(b"x"), hashes, root)
        assert rfc6962.parse_checkpoint(p["checkpoint"])[1] >= size


def test_every_smaller_tree_is_a_prefix(d):
    all_ = [bytes.fromhex(e["leaf_hash"]) for e in entries(d)]
    _, size, root = head(d)
    for a in range(1, size + 1):
        for b in {size, min(size, a + 1), min(size, 2 * a), min(size, a + 7)}:
            p = d.ok("GET", f"/v1/audit/consistency?from={a}&to={b}")
            hashes = [base64.b64decode(h, validate=True) for h in p["hashes"]]
            assert rfc6962.consistency_holds(a, b, hashes, rfc6962.root_of(all_[:a]), rfc6962.root_of(all_[:b]))
    for n in (1, 2, 3, 7, 8, size):
        for i in {0, n - 1, n // 2}:
            p = d.ok("GET", f"/v1/audit/{i}/proof?size={n}")
            assert rfc6962.inclusion_holds(i, n, all_[i], [base64.b64decode(h) for h in p["hashes"]],
                                           rfc6962.root_of(all_[:n]))
    assert d.get("/v1/audit/3/proof?size=3").status_code == 400
    assert d.get(f"/v1/audit/0/proof?size={size + 1}").status_code in (400, 404)


def test_filters_agree_with_a_scan(d):
    everything = entries(d)
    assert [e["index"] for e in everything] == list(range(len(everything)))
    assert [e["index"] for e in entries(d, "&order=desc")] == list(reversed(range(len(everything))))
    for kind in {e["type"] for e in everything}:
        assert entries(d, f"&type={kind}") == [e for e in everything if e["type"] == kind]
    of_first = entries(d, f"&erasure={d.first['id']}")
    assert of_first == [e for e in everything if d.first["id"] in json.dumps(e["data"])]
    assert {e["type"] for e in of_first} >= {"erasure.forgotten", "erasure.scrubbed", "erasure.completed"}
    by_reference = entries(d, "&reference=DSR-2")
    assert by_reference and all(d.second["id"] in json.dumps(e["data"]) for e in by_reference)
    by_subject = entries(d, "&subject=s1%40example.org")
    assert by_subject and all(d.first["id"] in json.dumps(e["data"]) for e in by_subject)
    by_record = entries(d, "&record=record-of-r77&model=digits")
    assert by_record and all(d.second["id"] in json.dumps(e["data"]) for e in by_record)
    assert entries(d, "&subject=never-heard-of") == []
    assert entries(d, "&type=no.such.type") == []
    other = entries(d, "&model=other")
    assert other and len(other) < len(everything)
    middle = everything[len(everything) // 2]["time"]
    assert entries(d, f"&since={middle}") == [e for e in everything if e["time"] >= middle]
    assert entries(d, f"&until={middle}") in ([e for e in everything if e["time"] < middle],
                                              [e for e in everything if e["time"] <= middle])
    both = entries(d, f"&since={middle}&type=erasure.completed&order=desc")
    assert both == [e for e in reversed(everything) if e["time"] >= middle and e["type"] == "erasure.completed"]


def test_pages_link_to_the_next(d):
    r = d.get("/v1/audit?limit=3&order=desc")
    assert 'rel="next"' in r.headers["Link"] and r.json()["next_cursor"] in r.headers["Link"]
    url = r.headers["Link"].split(">")[0].strip("<")
    nxt = d.get(url if url.startswith("/") else url.replace(d.url, "")).json()["items"]
    assert [e["index"] for e in nxt] == [r.json()["items"][-1]["index"] - 1 - k for k in range(3)]
    assert d.get("/v1/audit?limit=1000").json()["next_cursor"] is None


def test_exports_say_the_same_as_pages(d):
    everything = entries(d)
    lines = d.get("/v1/audit", headers={"Accept": "application/x-ndjson"})
    assert lines.headers["Content-Type"].startswith("application/x-ndjson")
    assert [json.loads(x) for x in lines.text.splitlines()] == everything
    r = d.get("/v1/audit?order=desc&type=erasure.completed", headers={"Accept": "text/csv"})
    assert r.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(r.text, newline="")))
    assert list(rows[0]) == ["index", "time", "type", "actor", "data", "leaf_hash"]
    want = [e for e in reversed(everything) if e["type"] == "erasure.completed"]
    assert [(int(x["index"]), x["leaf_hash"], json.loads(x["data"])) for x in rows] == \
        [(e["index"], e["leaf_hash"], e["data"]) for e in want]
    for query in ("limit=1", "cursor=1"):
        assert d.get(f"/v1/audit?{query}", headers={"Accept": "text/csv"}).status_code == 400


def test_the_log_is_about_nobody(d):
    """No id, no subject, no label list: neither in the log nor in what the daemon writes."""
    text = d.get("/v1/audit", headers={"Accept": "application/x-ndjson"}).text + "\n".join(d.log)
    text += d.get("/v1/erasures?limit=1000").text + d.get("/metrics").text
    assert "example.org" not in text.replace("unlearnd.local", "") and "record-of-" not in text


def test_one_entry(d):
    for e in entries(d)[::5]:
        r = d.get(f"/v1/audit/{e['index']}")
        assert r.json() == e and rfc6962.leaf(raw_of(r.text)[0]).hex() == e["leaf_hash"]


def test_the_log_survives_a_restart(d):
    before = head(d)
    d.restart()
    rfc6962.check_growth(d, before[0])
    assert d.get("/v1/audit/checkpoint").text.split("\n")[0] == before[0].split("\n")[0]


def test_the_lift_of_a_records_suppression_is_found_by_the_record(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:20])
    record = digits[0]["id"]
    daemon.erase(records=[{"model": "digits", "id": record}])
    (held,) = daemon.ok("GET", "/v1/suppressions")["items"]
    assert daemon.delete(f"/v1/suppressions/{held['pseudonym']}").status_code == 204
    assert [e["type"] for e in daemon.ok("GET", f"/v1/audit?record={record}")["items"]] == \
        ["erasure.forgotten", "suppression.lifted"]
    assert daemon.ok("GET", f"/v1/audit?subject={record}")["items"] == []
