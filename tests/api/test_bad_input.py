# SPDX-License-Identifier: Apache-2.0
"""What is wrong is refused with the right status, named by place, changes nothing, and leaves a
healthy daemon. One daemon serves the whole file; every test ends with the same check of it."""
import gzip
import json
import re
import socket
import subprocess
import tempfile
import time
from shutil import which

import pytest
import requests
from conftest import DIGITS, Daemon, read_digits

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
SOFTMAX = {"name": "fresh", "kind": "softmax", "features": 2, "classes": 2}


@pytest.fixture(scope="module")
def one():
    with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as folder:
        d = Daemon(folder, "--idle-timeout-s", "5")
        try:
            d.create(**DIGITS)
            d.load("digits", read_digits(300))
            d.train("digits")
            d.create(**{**SOFTMAX, "name": "floats", "shards": 2, "labels": ["no", "yes"]})
            d.load("floats", [{"id": f"f{i}", "label": ("no", "yes")[i % 2], "features": [i, -i]} for i in range(20)])
            d.train("floats")
            d.create(name="texts", kind="softmax", encoder="hash_text", features=64, classes=2)
            yield d
        finally:
            d.stop()
        assert not any(" error " in line for line in d.log), d.log[-5:]


def state(d):
    return (d.ok("GET", "/v1/models?limit=1000"), d.ok("GET", "/v1/erasures"),
            d.get("/v1/audit/checkpoint").text, d.ok("GET", "/v1/jobs"))


@pytest.fixture
def d(one):
    """The daemon; afterwards it must be what it was."""
    before = state(one)
    yield one
    assert one.process.poll() is None
    one.http = requests.Session()
    assert one.get("/v2/health/ready").status_code == 200
    assert state(one) == before


@pytest.fixture
def loading(one):
    """The daemon, for a test that does load something: its rows are back to what they were."""
    yield one
    assert one.process.poll() is None
    assert one.get("/v2/health/ready").status_code == 200


def problem(r, status, pointer=None):
    assert r.status_code == status, f"{r.status_code} {r.text}"
    assert r.headers["Content-Type"].split(";")[0] == "application/problem+json"
    p = r.json()
    assert p["status"] == status and p["type"] and p["title"] and p["detail"]
    assert p["instance"] == re.sub(r"^http://[^/]+", "", r.request.url).split("?")[0]
    if status == 503:
        assert int(r.headers["Retry-After"]) >= 1
    if pointer is not None:
        assert p["errors"][0]["pointer"] == pointer, p
    return p


def v2_error(r, status):
    assert r.status_code == status, f"{r.status_code} {r.text}"
    assert r.headers["Content-Type"].split(";")[0] == "application/json"
    assert list(r.json()) == ["error"] and r.json()["error"]
    return r.json()["error"]


# --- JSON in general ---

BROKEN = [b"", b"{", b"[1,", b"{\"name\":}", b"nul", b"{} {}", b"{'a':1}", b"\xff\xfe{}", b"{\"a\":1,}",
          b"{\"name\": \"\xff\"}", b"{\"name\": \"\xed\xa0\x80\"}", b"{\"name\": \"\\ud800\"}",
          b"{\"name\": \"a\nb\"}", b"{\"a\": 01}", b"{\"a\": NaN}", b"{\"a\": +1}", b"\x00",
          b"{\"name\": \"a\\u0000b\"}",
          b"{\"name\": \"x\", \"name\": \"y\"}", b"[" * 100000, b"{\"a\":" * 5000 + b"1" + b"}" * 5000]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/erasures", "/v1/models/floats:predict",
                                  "/v1/models/floats/verify"])
@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
def test_broken_json_is_malformed(d, path, body):
    if body == b"" and path.endswith("verify"):
        body = b" "  # an empty one means all shards there
    r = d.request("POST", path, data=body, headers=JSON)
    p = problem(r, r.status_code)
    assert r.status_code in (400, 422), p
    if body[:1] not in (b"{",):
        assert r.status_code == 400


@pytest.mark.parametrize("body", BROKEN, ids=range(len(BROKEN)))
def test_broken_json_to_infer(d, body):
    r = d.request("POST", "/v2/models/floats/infer", data=body, headers=JSON)
    v2_error(r, r.status_code)
    assert r.status_code in (400, 422)


@pytest.mark.parametrize("body", [b"[]", b"1", b"\"x\"", b"null", b"true"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/erasures", "/v1/models/floats:predict",
                                  "/v1/models/floats/train", "/v1/models/floats/verify"])
def test_json_that_is_no_object(d, path, body):
    problem(d.request("POST", path, data=body, headers=JSON), 422)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/erasures", "/v1/models/floats:predict",
                                  "/v1/models/floats/train", "/v1/models/floats/verify"])
def test_ten_megabytes_are_refused_at_the_limit(d, path):
    body = b'{"name": "' + b"x" * 10_000_000 + b'"}'
    if path.endswith(":predict"):
        body *= 2  # its limit is infer_max_bytes, 16 MiB
    problem(requests.post(d.url + path, data=body, headers=JSON, timeout=30), 413)

    def pieces():
        for _ in range(50):  # few enough for the daemon to read them after its answer
            yield b" " * 100_000
    if not path.endswith(":predict"):
        problem(requests.post(d.url + path, data=pieces(), headers=JSON, timeout=30), 413)


def test_the_limits_of_bodies_are_configured(make_daemon):
    limited = make_daemon("--upload-max-bytes", "2000", "--infer-max-bytes", "3000")
    limited.create(name="m", kind="softmax", features=2, classes=2)
    line = b'{"id":"a","label":"0","features":[1,2]}\n'
    lines = {"headers": {"Content-Type": "application/x-ndjson"}}
    url = "/v1/models/m/records"
    problem(limited.post(url, data=line + b"\n" * (2001 - len(line)), **lines), 413)
    assert limited.model("m")["records"] == 0
    r = limited.post(url, data=line + b"\n" * (2000 - len(line)), **lines)
    assert r.status_code == 200 and r.json()["accepted"] == 1, r.text
    body = b'{"inputs":[]}'
    v2_error(limited.post("/v2/models/m/infer", data=body.ljust(3001), headers=JSON), 413)
    r = limited.post("/v2/models/m/infer", data=body.ljust(3000), headers=JSON)
    assert r.status_code != 413, r.text


def test_wrong_media_types(d):
    for path in ("/v1/models", "/v1/erasures", "/v1/models/floats/verify",
                 "/v1/models/floats/train"):
        problem(d.request("POST", path, data=b"{}", headers={"Content-Type": "text/plain"}), 415)
    for content_type in ("application/json", "text/plain", "application/x-ndjsonx", ""):
        headers = {"Content-Type": content_type} if content_type else {}
        problem(d.request("POST", "/v1/models/floats/records", data=b"{}\n", headers=headers), 415)
        problem(d.request("POST", "/v1/models/floats/evaluate", data=b"{}\n", headers=headers), 415)
    problem(d.request("POST", "/v1/erasures:batch", data=b"{}\n", headers=JSON), 415)
    for encoding in ("br", "deflate", "gzip, gzip", "x"):
        problem(d.request("POST", "/v1/models/floats/records", data=b"{}\n",
                          headers={**NDJSON, "Content-Encoding": encoding}), 415)
    problem(d.request("POST", "/v1/models", data=gzip.compress(b"{}"),
                      headers={**JSON, "Content-Encoding": "gzip"}), 415)


# --- POST /v1/models ---

WRONG = [("name", "A"), ("name", ""), ("name", "a" * 64), ("name", "a/b"), ("name", "-a"),
         ("name", 1), ("name", None), ("kind", "forest"), ("kind", 7), ("task", "rank"),
         ("encoder", "magic"), ("dtype", "f16"), ("features", 0), ("features", 65537),
         ("features", 1.5), ("features", "2"), ("features", -1), ("features", 1e400),
         ("features", [2]), ("classes", 1), ("classes", 1001), ("classes", True),
         ("labels", ["a"]), ("labels", ["a", "a"]), ("labels", ["a", ""]), ("labels", ["a", 1]),
         ("labels", "ab"), ("shards", 0), ("shards", 257), ("slices", 0), ("slices", 65),
         ("epochs", 0), ("epochs", 10001), ("batch_size", 0), ("batch_size", 4097),
         ("learning_rate", 0), ("learning_rate", -1), ("learning_rate", 1001),
         ("learning_rate", "fast"), ("learning_rate_decay", -0.1), ("momentum", 1),
         ("momentum", -0.5), ("l2", -1), ("l2", 1001), ("optimizer", "lbfgs"),
         ("aggregation", "median"), ("seed", -1), ("seed", 2**53 + 1), ("seed", 1.5),
         ("standardize", 1), ("standardize", "yes"), ("hidden", [8]), ("activation", "relu"),
         ("targets", 1), ("columns", [{"name": "a", "type": "numeric"}]), ("nonsense", 1),
         ("Name", "x"), ("", 1)]


@pytest.mark.parametrize("field,value", WRONG, ids=[f"{f}={str(v)[:12]}" for f, v in WRONG])
def test_a_model_with_one_wrong_field_is_refused_and_the_field_is_named(d, field, value):
    body = json.dumps({**SOFTMAX, field: value}).replace("Infinity", "1e400")
    r = d.request("POST", "/v1/models", data=body, headers=JSON)
    p = problem(r, 422 if "1e400" not in body else r.status_code)
    assert r.status_code in (400, 422)
    if r.status_code == 422:
        assert p["errors"][0]["pointer"].startswith("/" + field), p
    assert d.get("/v1/models/fresh").status_code == 404


@pytest.mark.parametrize("change,pointer", [
    ({"hidden": []}, "/hidden"), ({"hidden": [0]}, "/hidden"), ({"hidden": [8193]}, "/hidden"),
    ({"hidden": [1] * 9}, "/hidden"), ({"hidden": 8}, "/hidden"), ({"activation": "gelu"}, "/activation"),
    ({"optimizer": "adamw"}, "/optimizer")])
def test_wrong_networks(d, change, pointer):
    p = problem(d.post("/v1/models", {**SOFTMAX, "kind": "mlp", **change}), 422)
    assert p["errors"][0]["pointer"].startswith(pointer), p


@pytest.mark.parametrize("columns", [
    [], [{"name": "a"}], [{"name": "a", "type": "date"}], [{"name": "", "type": "numeric"}],
    [{"name": "a", "type": "categorical"}], [{"name": "a", "type": "categorical", "values": []}],
    [{"name": "a", "type": "categorical", "values": ["x", "x"]}],
    [{"name": "a", "type": "numeric", "values": ["x"]}],
    [{"name": "a", "type": "numeric"}, {"name": "a", "type": "numeric"}], "a", [1],
    [{"name": "a", "type": "numeric", "unit": "m"}]])
def test_wrong_columns(d, columns):
    p = problem(d.post("/v1/models", {"name": "fresh", "kind": "softmax", "encoder": "tabular",
                                      "classes": 2, "columns": columns}), 422)
    assert p["errors"][0]["pointer"].startswith("/columns"), p


@pytest.mark.parametrize("missing", ["name", "kind", "features", "classes"])
def test_what_a_model_needs(d, missing):
    problem(d.post("/v1/models", {k: v for k, v in SOFTMAX.items() if k != missing}), 422,
            "/" + missing)


def test_a_model_that_exists_is_a_conflict(d):
    problem(d.post("/v1/models", {**SOFTMAX, "name": "floats"}), 409)


# --- POST /v1/erasures ---

WRONG_ERASURES = [
    ({}, None), ({"subjects": []}, None), ({"subjects": [], "records": []}, None),
    ({"subjects": "x"}, "/subjects"), ({"subjects": [1]}, "/subjects/0"),
    ({"subjects": ["x", ""]}, "/subjects/1"), ({"subjects": ["x" * 513]}, "/subjects/0"),
    ({"subjects": [None]}, "/subjects/0"), ({"subjects": ["x"] * 1001}, "/subjects"),
    ({"records": [{"model": "digits", "id": "r"}] * 1001}, "/records"),
    ({"records": ["r1"]}, "/records/0"), ({"records": [{"id": "r1"}]}, "/records/0/model"),
    ({"records": [{"model": "digits"}]}, "/records/0/id"),
    ({"records": [{"model": "digits", "id": "r", "x": 1}]}, "/records/0/x"),
    ({"records": [{"model": "nope", "id": "r1"}]}, "/records/0/model"),
    ({"subjects": ["x"], "records": [{"model": "digits", "id": "r1"}, {"model": "nope", "id": "r"}]},
     "/records/1/model"),
    ({"subjects": ["x"], "models": []}, "/models"), ({"subjects": ["x"], "models": "digits"}, "/models"),
    ({"subjects": ["x"], "models": ["nope"]}, "/models/0"),
    ({"subjects": ["x"], "models": ["digits", "Not A Name"]}, "/models/1"),
    ({"subjects": ["x"], "regulation": "hipaa"}, "/regulation"),
    ({"subjects": ["x"], "regulation": 5}, "/regulation"),
    ({"subjects": ["x"], "received_at": "yesterday"}, "/received_at"),
    ({"subjects": ["x"], "received_at": "2026-02-30T00:00:00Z"}, "/received_at"),
    ({"subjects": ["x"], "received_at": 17}, "/received_at"),
    ({"subjects": ["x"], "deadline": "2026-13-01T00:00:00Z"}, "/deadline"),
    ({"subjects": ["x"], "reference": "Jane Doe"}, "/reference"),
    ({"subjects": ["x"], "reference": "x" * 65}, "/reference"),
    ({"subjects": ["x"], "reference": ""}, "/reference"),
    ({"subjects": ["x"], "subject": "y"}, "/subject"),
    ({"subjects": ["x"], "nonsense": {"deep": 1}}, "/nonsense"),
    ({"subjects": ["s1"], "a/b~c": 1}, "/a~1b~0c")]


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
@pytest.mark.parametrize("body,pointer", WRONG_ERASURES, ids=range(len(WRONG_ERASURES)))
def test_a_wrong_erasure_erases_nobody(d, body, pointer, query):
    p = problem(d.post("/v1/erasures" + query, body), 422)
    if pointer is not None:
        assert p["errors"][0]["pointer"] == pointer, p
    assert "Jane" not in json.dumps(p)


def test_what_is_unknown_is_404(d):
    ulid = "01M8854P3FMPWKZ3V5DDT2W63G"
    for method, path in [("GET", "/v1/models/nope"), ("DELETE", "/v1/models/nope"),
                         ("GET", "/v1/models/nope/shards"), ("POST", "/v1/models/nope/train"),
                         ("POST", "/v1/models/nope/verify"), ("GET", "/v1/models/nope/records/r1"),
                         ("GET", "/v1/models/digits/records/nope"), ("GET", f"/v1/jobs/{ulid}"),
                         ("GET", f"/v1/erasures/{ulid}"), ("GET", "/v1/audit/999999"),
                         ("GET", "/v1/audit/999999/proof"), ("GET", "/nowhere"), ("GET", "/v1"),
                         ("GET", "/v1/models/"), ("GET", "/v1/models//shards"), ("GET", "/v3/models"),
                         ("DELETE", "/v1/suppressions/" + "0" * 32)]:
        problem(d.request(method, path), 404)
    for name in ("NOPE", "..", "a%20b"):
        r = d.get("/v1/models/" + name.replace("..", "%2E%2E"))
        problem(r, r.status_code)
        assert r.status_code in (400, 404)
    problem(d.request("POST", "/v1/models/nope/records", data=b"{}\n", headers=NDJSON), 404)
    problem(d.post("/v1/models/nope:predict", {"instances": [[1, 2]]}), 404)
    v2_error(d.get("/v2/models/nope"), 404)
    v2_error(d.get("/v2/models/nope/ready"), 404)
    v2_error(d.get("/v2/models/floats/versions/2"), 404)
    v2_error(d.get("/v2/nowhere"), 404)
    v2_error(d.infer("nope", [[1, 2]]), 404)
    for bad in ("x", "01M8854P3FMPWKZ3V5DDT2W63", "01M8854P3FMPWKZ3V5DDT2W63U"):
        for kind in ("jobs", "erasures"):
            r = d.get(f"/v1/{kind}/{bad}")
            problem(r, r.status_code)
            assert r.status_code in (400, 404)


def test_wrong_methods_say_what_is_allowed(d):
    for path, allow in [("/v1/models", {"GET", "HEAD", "POST"}),
                        ("/v1/models/digits", {"GET", "HEAD", "DELETE"}),
                        ("/v1/erasures:batch", {"POST"}), ("/v1/models/digits/train", {"POST"}),
                        ("/v1/models/digits:predict", {"POST"}), ("/metrics", {"GET", "HEAD"}),
                        ("/openapi.json", {"GET", "HEAD"})]:
        for method in ("PUT", "PATCH", "OPTIONS", "BREW"):
            r = d.request(method, path)
            problem(r, 405)
            assert {m.strip() for m in r.headers["Allow"].split(",")} - {"OPTIONS"} == allow
    r = d.request("PUT", "/v2/models/digits/infer")
    v2_error(r, 405)
    assert r.headers["Allow"] == "POST"


def test_head_is_get_without_the_body(d):
    for path in ("/v1/models", "/v1/models/digits", "/v2/health/live", "/openapi.json", "/v1/audit",
                 "/v1/models/nope", "/metrics", "/v2/models/digits"):
        get, head = d.get(path), d.request("HEAD", path)
        assert head.status_code == get.status_code and head.content == b""
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
        if path != "/metrics":
            assert head.headers["Content-Length"] == str(len(get.content))
    r = d.request("HEAD", "/v1/audit", headers={"Accept": "application/x-ndjson"})
    assert r.status_code == 200 and r.content == b""


def test_query_parameters_are_known_and_in_range(d):
    for query in ("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1.0",
                  "limit=99999999999999999999", "cursor=nonsense", "cursor=", "page=2", "limit=1&limit=2",
                  "Limit=1", "limit=%zz"):
        for path in ("/v1/models", "/v1/jobs", "/v1/erasures", "/v1/audit", "/v1/suppressions"):
            if path == "/v1/models" and query == "cursor=nonsense":
                continue  # names are cursors there
            problem(d.get(f"{path}?{query}"), 400)
    for query in ("state=gone", "overdue=maybe", "since=today", "model=A", "since=2026-01-02T00:00:00Z"
                  "&until=2026-01-01T00:00:00Z"):
        problem(d.get(f"/v1/erasures?{query}"), 400)
    for query in ("order=up", "type=%20", "erasure=x", "until=1", "subject=", "reference=a%20b"):
        problem(d.get(f"/v1/audit?{query}"), 400)
    for query in ("", "from=1", "from=0&to=1", "from=2&to=1", "from=1&to=999999", "from=x&to=1"):
        r = d.get(f"/v1/audit/consistency?{query}")
        problem(r, r.status_code)
        assert r.status_code in (400, 404), query
    for path in ("/v1/models/digits?x=1", "/metrics?x", "/openapi.json?a=b", "/v1/audit/0?size=1"):
        problem(d.get(path), 400)
    v2_error(d.get("/v2?x=1"), 400)
    problem(d.post("/v1/erasures?dry_run=perhaps", {"subjects": ["s1"]}), 400)
    problem(d.post("/v1/erasures?dryrun=true", {"subjects": ["s1"]}), 400)
    problem(d.request("POST", "/v1/models/floats/records?atomic=2", data=b"", headers=NDJSON), 400)
    problem(d.request("POST", "/v1/models/floats/records?id_prefix=a", data=b"", headers=NDJSON), 400)


def test_a_body_where_there_is_none(d):
    problem(d.request("GET", "/v1/models", data=b"{}", headers=JSON), 400)
    problem(d.request("DELETE", "/v1/models/digits", data=b"{}", headers=JSON), 400)


def raw(d, request, wait=10):
    """What comes back for these bytes, until the daemon closes or is silent."""
    host, port = d.url[7:].split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as s:
        s.sendall(request)
        got = b""
        try:
            while True:
                piece = s.recv(65536)
                if not piece:
                    return got
                got += piece
                head, _, body = got.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if length and len(body) >= int(length[1]):
                    return got
        except (socket.timeout, ConnectionResetError):
            return got


@pytest.mark.parametrize("path", ["/v1/models/%", "/v1/models/%4", "/v1/models/%zz", "/v1/models/%00",
                                  "/v1/models/a%00b", "/v1/models/digits/records/%ff",
                                  "/v1/models/digits/records/%c3%28", "/v1/audit?subject=%f"])
def test_bad_percent_encoding(d, path):
    got = raw(d, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    status = int(got.split()[1])
    assert status in (400, 404), got
    if "%ff" not in path and "%c3" not in path:
        assert status == 400, got
    assert b"application/problem+json" in got


@pytest.mark.parametrize("request_", [
    b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}",
    b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    b"POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % i for i in range(20000)) + b"\r\n"],
    ids=range(9))
def test_what_is_hardly_http(d, request_):
    try:
        got = raw(d, request_, wait=2)
    except (BrokenPipeError, ConnectionResetError):
        got = b""
    assert not got or 400 <= int(got.split()[1]) < 600, got[:200]


# --- uploads that break off ---

def line(i, **more):
    return json.dumps({"id": f"b{i}", "label": "no", "features": [i, 1], **more}).encode() + b"\n"


def rows(d, model="floats"):
    return d.model(model)["records"]


def upload(d, query="", data=b"", **headers):
    """To floats. An atomic upload that was refused just before is cleared up behind its answer, and
    a following one may be told 409 until then; that must be soon."""
    began = time.monotonic()
    while True:
        r = d.request("POST", "/v1/models/floats/records" + query, data=data,
                      headers={**NDJSON, **{k.replace("_", "-"): v for k, v in headers.items()}})
        if r.status_code != 409:
            return r
        problem(r, 409)
        assert time.monotonic() - began < 2, "the refused atomic upload is still in the way"
        time.sleep(0.005)


def drop(d, ids):
    """Takes what a test loaded out again."""
    for i in ids:
        d.erase(records=[{"model": "floats", "id": i}])


def test_an_upload_that_ends_before_its_length_keeps_whole_lines_only(loading):
    d = loading
    body = line(1) + line(2) + line(3)[:-10]
    host, port = d.url[7:].split(":")
    before = rows(d)
    with socket.create_connection((host, int(port))) as s:
        s.sendall(b"POST /v1/models/floats/records HTTP/1.1\r\nHost: x\r\nContent-Type: "
                  b"application/x-ndjson\r\nContent-Length: 9000\r\n\r\n" + body)
        time.sleep(0.3)
    end = time.monotonic() + 5
    while rows(d) not in (before, before + 2) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    assert rows(d) in (before, before + 2)
    assert d.get("/v1/models/floats/records/b3").status_code == 404
    drop(d, [i for i in ("b1", "b2") if d.get(f"/v1/models/floats/records/{i}").ok])
    assert rows(d) == before


def test_an_atomic_upload_that_breaks_off_leaves_nothing(d):
    host, port = d.url[7:].split(":")
    for head, body in [(b"Content-Length: 9000", line(11) + line(12)),
                       (b"Transfer-Encoding: chunked", b"%x\r\n" % len(line(11)) + line(11) + b"\r\n5")]:
        with socket.create_connection((host, int(port))) as s:
            s.sendall(b"POST /v1/models/floats/records?atomic=true HTTP/1.1\r\nHost: x\r\nContent-Type: "
                      b"application/x-ndjson\r\n" + head + b"\r\n\r\n" + body)
            time.sleep(0.3)
        time.sleep(0.2)
        assert d.get("/v1/models/floats/records/b11").status_code == 404


def test_a_truncated_or_damaged_gzip_is_malformed(d):
    body = gzip.compress(b"".join(line(20 + i) for i in range(50)))
    headers = {"Content-Encoding": "gzip"}
    for bad in (body[:-1], body[:-8], body[:len(body) // 2], body[:-8] + b"\0" * 8, b"no gzip", body + b"x"):
        p = problem(upload(d, "?atomic=true", bad, **headers), 400)
        assert p["accepted"] == 0
        assert d.get("/v1/models/floats/records/b20").status_code == 404


def test_gzip_and_zstd_uploads(loading):
    d = loading
    if which("zstd") is None:
        pytest.skip("zstd is not installed")
    packed = [("gzip", gzip.compress(line(101) + line(102))),
              ("gzip", gzip.compress(line(103)) + gzip.compress(line(104))),
              ("zstd", subprocess.run(["zstd", "-c"], input=line(105) + line(106), capture_output=True,
                                      check=True).stdout), ("identity", line(107) + line(108))]
    before = rows(d)
    for encoding, body in packed:
        r = upload(d, data=body, Content_Encoding=encoding)
        assert r.status_code == 200 and r.json()["accepted"] == 2, f"{encoding} {r.text}"
    assert rows(d) == before + 8
    drop(d, [f"b{i}" for i in range(101, 109)])
    assert rows(d) == before


def test_a_gzip_bomb_is_stopped(d):
    bomb = gzip.compress(b"x" * 50_000_000)
    r = d.request("POST", "/v1/models/floats/records", data=bomb,
                  headers={**NDJSON, "Content-Encoding": "gzip"})
    assert r.status_code in (200, 400, 413, 422), r.text
    if r.status_code == 200:
        assert r.json()["accepted"] == 0 and r.json()["rejected"] == 1


# --- lines ---

BAD_LINES = [
    b'{"id": "x", "label": "no", "features": [1]}',
    b'{"id": "x", "label": "no", "features": [1, 2, 3]}',
    b'{"id": "x", "label": "no", "features": []}',
    b'{"id": "x", "label": "no", "features": [1, NaN]}',
    b'{"id": "x", "label": "no", "features": [1, Infinity]}',
    b'{"id": "x", "label": "no", "features": [1, 1e999]}',
    b'{"id": "x", "label": "no", "features": [1, -1e39]}',
    b'{"id": "x", "label": "no", "features": [1, "2"]}',
    b'{"id": "x", "label": "no", "features": [1, null]}',
    b'{"id": "x", "label": "no", "features": [1, [2]]}',
    b'{"id": "x", "label": "no", "features": "12"}',
    b'{"id": "x", "label": "maybe", "features": [1, 2]}',
    b'{"id": "x", "label": 2, "features": [1, 2]}',
    b'{"id": "x", "label": -1, "features": [1, 2]}',
    b'{"id": "x", "label": 0.5, "features": [1, 2]}',
    b'{"id": "x", "label": null, "features": [1, 2]}',
    b'{"id": "x", "features": [1, 2]}',
    b'{"id": "", "label": "no", "features": [1, 2]}',
    b'{"id": 5, "label": "no", "features": [1, 2]}',
    b'{"label": "no", "features": [1, 2]}',
    b'{"id": "' + b"i" * 513 + b'", "label": "no", "features": [1, 2]}',
    b'{"id": "x", "subject": "", "label": "no", "features": [1, 2]}',
    b'{"id": "x", "subject": 7, "label": "no", "features": [1, 2]}',
    b'{"id": "x", "label": "no", "features": [1, 2], "erasure_likelihood": "never"}',
    b'{"id": "x", "label": "no", "text": "hello"}',
    b'{"id": "x", "label": "no", "columns": {"a": 1}}',
    b'{"id": "x", "label": "no", "features": [1, 2], "text": "hello"}',
    b'{"id": "x", "label": "no", "features": [1, 2], "extra": 1}',
    b'{"id": "x", "id": "y", "label": "no", "features": [1, 2]}',
    b'{"id": "x", "label": "no", "features": [1, 2]',
    b'{"id": "x", "label": "no", "features": [1, 2]} {}',
    b'{"id": "\xff", "label": "no", "features": [1, 2]}',
    b'{"id": "a\\u0000b", "label": "no", "features": [1, 2]}',
    b'[1, 2]', b'null', b'nonsense', b'{"id": "x", "label": "no", "features": [1, 2,]}',
    b'[' * 5000, b'{"a":' * 5000]


@pytest.mark.parametrize("bad", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_is_refused_with_its_number_and_a_reason(d, bad):
    good = b'{"id": "f0", "label": "no", "features": [0, 0]}\n'  # held: a duplicate
    r = upload(d, data=good + bad + b"\n" + good)
    assert r.status_code == 200, r.text
    u = r.json()
    assert (u["accepted"], u["duplicates"], u["rejected"]) == (0, 2, 1), u
    assert u["errors"][0]["line"] == 2 and u["errors"][0]["reason"]
    # no message repeats what may be personal
    assert "hello" not in r.text and "iiii" not in r.text
    r = upload(d, "?atomic=true", line(300) + bad + b"\n")
    p = problem(r, 422)
    assert p["errors"][0]["line"] == 2 and p["accepted"] == 0
    assert d.get("/v1/models/floats/records/b300").status_code == 404
    assert d.get("/v1/models/floats/records/x").status_code == 404


@pytest.mark.parametrize("features", [[256, *[0] * 63], [-1, *[0] * 63], [0.5, *[0] * 63], [0] * 63,
                                      [0] * 65])
def test_bytes_are_bytes(d, features):
    u = d.request("POST", "/v1/models/digits/records", headers=NDJSON, data=json.dumps(
        {"id": "x", "label": "1", "features": features}) + "\n").json()
    assert u["rejected"] == 1 and u["accepted"] == 0


def test_the_first_hundred_errors_are_listed_and_all_are_counted(d):
    u = d.request("POST", "/v1/models/floats/records", data=b"bad\n" * 1000, headers=NDJSON).json()
    assert u["rejected"] == 1000
    assert [e["line"] for e in u["errors"]] == list(range(1, 101))


def test_an_id_twice_in_one_upload_is_loaded_once(loading):
    d, before = loading, rows(loading)
    u = upload(d, data=line(400) + line(400, label="yes") + line(401) + line(400)).json()
    assert (u["accepted"], u["duplicates"], u["rejected"]) == (2, 2, 0), u
    u = upload(d, "?atomic=true", line(402) + line(402)).json()
    assert (u["accepted"], u["duplicates"]) == (1, 1), u
    assert rows(d) == before + 3
    drop(d, ["b400", "b401", "b402"])
    assert rows(d) == before


def test_ids_with_every_kind_of_character(loading):
    d, before = loading, rows(loading)
    ids = ["a/b", "a%2Fb", "ü/ñ 漢字", "a b", "a+b", "a?b#c", ".", "..", "x" * 512, "\"quoted\"", "\U0001f600"]
    u = d.load("floats", [{"id": i, "label": "no", "features": [1, 2]} for i in ids])
    assert u["accepted"] == len(ids), u
    from urllib.parse import quote
    for i in ids:
        path = "/v1/models/floats/records/" + quote(i, safe="").replace(".", "%2E")
        got = raw(d, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert int(got.split()[1]) == 200, (i, got)
    assert d.get("/v1/models/floats/records/a/b").status_code == 404
    for i in ids:
        assert d.erase(records=[{"model": "floats", "id": i}])["matched"] == 1
    assert rows(d) == before


@pytest.mark.parametrize("body", [
    b"", b"id,label\n", b"label,a,b\nno,1,2\n", b"id,label,a\nx,no,1\n", b"id,label,a,b,c\nx,no,1,2,3\n",
    b"id,id,label,a,b\n", b"id,a,b\nx,1,2\n", b"\xff\xfe\n"], ids=range(8))
def test_csv_headers_that_do_not_fit(d, body):
    r = d.request("POST", "/v1/models/floats/records", data=body, headers={"Content-Type": "text/csv"})
    p = problem(r, r.status_code) if r.status_code != 200 else r.json()
    assert r.status_code in (400, 422) or (r.status_code == 200 and body == b""), p


def test_csv_rows_that_do_not_fit(d):
    body = ("id,label,a,b\nx,no,1\nx,no,1,2,3\nx,maybe,1,2\nx,no,1,nan\nx,no,1,\nx,no,inf,1\n,no,1,2\n"
            "x,no,1e999,1\nx,no,0x10,1\nx,no, ,1\n").encode()
    r = d.request("POST", "/v1/models/floats/records", data=body, headers={"Content-Type": "text/csv"})
    assert r.status_code == 200, r.text
    assert r.json()["accepted"] == 0 and r.json()["rejected"] == 10, r.json()
    assert [e["line"] for e in r.json()["errors"]] == list(range(2, 12))


def test_npy_that_does_not_fit(d):
    import io
    import numpy as np

    def npy(a):
        f = io.BytesIO()
        np.save(f, a)
        return f.getvalue()
    good = npy(np.zeros((3, 3), dtype=np.float32))
    for bad in (b"", b"\x93NUMPY", good[:60], good[:-1], good + b"x", npy(np.zeros((3, 2), "f4")),
                npy(np.zeros(3, "f4")), npy(np.zeros((3, 3, 1), "f4")), npy(np.zeros((3, 3), "c8")),
                npy(np.asfortranarray(np.arange(9, dtype="f4").reshape(3, 3)))):
        r = d.request("POST", "/v1/models/floats/records?id_prefix=n&atomic=true", data=bad,
                      headers={"Content-Type": "application/x-npy"})
        p = problem(r, r.status_code)
        assert r.status_code in (400, 415, 422), p
    r = d.request("POST", "/v1/models/floats/records", data=good,
                  headers={"Content-Type": "application/x-npy"})
    problem(r, 400)


def test_evaluating_bad_lines_counts_them(d):
    r = d.request("POST", "/v1/models/floats/evaluate", headers=NDJSON,
                  data=line(1) + b"bad\n" + line(2, label="yes"))
    assert r.status_code == 200, r.text
    assert r.json()["evaluated"] == 2 and r.json()["rejected"] == 1
    assert r.json()["errors"][0]["line"] == 2


def test_idempotency_keys_that_are_none(d):
    for key in ("", "\"", "x" * 256, "\"a\"b"):
        r = d.post("/v1/erasures", {"subjects": ["s1"]}, headers={"Idempotency-Key": key})
        problem(r, 400)


def test_a_slow_client_is_closed_and_holds_up_nobody(d):
    host, port = d.url[7:].split(":")
    socks = []
    for i in range(100):
        s = socket.create_connection((host, int(port)), timeout=20)
        s.sendall(b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Content-Length: 100\r\n\r\n{"[: 20 + i % 70])
        socks.append(s)
    began = time.monotonic()
    assert d.get("/v2/health/live").status_code == 200
    assert time.monotonic() - began < 1
    for s in socks:
        while s.recv(4096):
            pass
        s.close()
    assert time.monotonic() - began < 15
