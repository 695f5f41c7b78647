# SPDX-License-Identifier: Apache-2.0
"""Exports of a long log: whole, filtered, in constant memory, and at the reader's pace without holding up
the store."""
import csv
import io
import json
import socket
import tempfile
import time

import pytest
import requests
from conftest import DIGITS, Daemon

ERASURES = 26000  # four entries each


@pytest.fixture(scope="module")
def d():
    with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as folder:
        d = Daemon(folder)
        try:
            d.create(**DIGITS)
            for i in range(0, ERASURES, 6500):
                erase_many(d, i, 6500)
            yield d
        finally:
            d.stop()


def erase_many(d, first, count):
    body = "".join(json.dumps({"subjects": [f"p{k}"], "reference": f"DSR-{k % 100}"}) + "\n"
                   for k in range(first, first + count))
    r = d.request("POST", "/v1/erasures:batch", data=body.encode(), timeout=120,
                  headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200 and r.text.count('"state":"completed"') == count


def anonymous_kb(d):
    """What the process has allocated; the mapped database is not."""
    for line in open(f"/proc/{d.process.pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def size_of(d):
    return int(d.get("/v1/audit/checkpoint").text.splitlines()[1])


def stream(d, accept, query=""):
    return requests.get(d.url + "/v1/audit" + query, headers={"Accept": accept}, stream=True, timeout=120)


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/csv"])
def test_a_hundred_thousand_entries_are_exported_in_constant_memory(d, accept):
    size = size_of(d)
    assert size > 4 * ERASURES > 100000
    assert len(d.get("/v1/audit?limit=1000").json()["items"]) == 1000  # what a request needs is there
    before, most, lines, length = anonymous_kb(d), 0, 0, 0
    with stream(d, accept) as r:
        assert r.status_code == 200 and "Content-Length" not in r.headers
        for piece in r.iter_content(1 << 16):
            lines += piece.count(b"\n")
            length += len(piece)
            if lines % 7 == 0:
                most = max(most, anonymous_kb(d))
    assert lines == size + (accept == "text/csv") and length > 20e6
    assert most - before < 2048, f"grew by {most - before} KB for {length} bytes"


def test_a_filtered_export_is_what_the_filter_says(d):
    query = "?type=erasure.completed&reference=DSR-7&order=desc"
    rows = list(csv.DictReader(io.StringIO(stream(d, "text/csv", query).text, newline="")))
    lines = [json.loads(x) for x in stream(d, "application/x-ndjson", query).text.splitlines()]
    assert len(rows) == len(lines) == ERASURES // 100
    assert [int(r["index"]) for r in rows] == [e["index"] for e in lines]
    assert [e["index"] for e in lines] == sorted((e["index"] for e in lines), reverse=True)
    assert all(e["type"] == "erasure.completed" and e["data"]["reference"] == "DSR-7" for e in lines)


def used(d):
    text = d.get("/metrics").text
    return float(next(x for x in text.splitlines() if x.startswith("unlearnd_store_used_bytes ")).split()[1])


def commits(d, first, count):
    before = used(d)
    for k in range(first, first + count):
        d.ok("POST", "/v1/erasures", {"subjects": [f"q{k}"]}, status=202)
    return used(d) - before


def test_a_reader_that_stalls_pins_nothing(d):
    """A read transaction held meanwhile would keep every page that the commits replace."""
    commits(d, 0, 30)
    alone = commits(d, 100, 50)
    size = size_of(d)
    host, port = d.url.removeprefix("http://").split(":")
    s = socket.create_connection((host, int(port)))
    s.sendall(b"GET /v1/audit HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\nConnection: close\r\n\r\n")
    got = s.recv(2048)
    assert b"200 OK" in got
    time.sleep(0.5)
    assert commits(d, 1000, 50) < 2 * alone + (1 << 20)
    s.settimeout(60)
    lines = got.count(b'"leaf_hash"')
    tail = got[-20:]
    while piece := s.recv(1 << 20):
        lines += (tail + piece).count(b'"leaf_hash"') - tail.count(b'"leaf_hash"')
        tail = piece[-10:]
    assert size <= lines <= size_of(d)
