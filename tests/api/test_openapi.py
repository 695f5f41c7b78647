# SPDX-License-Identifier: Apache-2.0
"""api/openapi.yaml says what the daemon does, and no route is left out of it."""
import re

import pytest
import yaml
from conftest import DIGITS, ROOT

SPEC = yaml.safe_load((ROOT / "api" / "openapi.yaml").read_text())
METHODS = ("get", "post", "put", "patch", "delete")
FILL = {"{m}": "digits", "{id}": "01M8854P3FMPWKZ3V5DDT2W63G", "{index}": "0",
        "{pseudonym}": "0" * 32, "{v}": "1", "{tile}": "0/000.p/1", "{webhook}": "crm"}


def operations():
    return {(m.upper(), p) for p, item in SPEC["paths"].items() for m in item if m in METHODS}


def routes_in_the_sources():
    found = set()
    for path in (ROOT / "api").glob("*.c"):
        text = path.read_text()
        for method, pattern in re.findall(
                r'\.method\s*=\s*"([A-Z]+)",\s*\.pattern\s*=\s*"([^"]+)"', text):
            found.add((method, pattern.replace("...}", "}")))
        found |= {("GET", p) for p in re.findall(r'^\s*GET_ROUTE\("([^"]+)"', text, re.M)}
        found |= {("POST", p) for p in re.findall(r'^\s*INFER_ROUTE\("([^"]+)"', text, re.M)}
    return found


def test_what_is_served_is_the_file(daemon):
    r = daemon.get("/openapi.json")
    assert r.headers["Content-Type"] == "application/json"
    assert r.json() == SPEC and r.json()["openapi"].startswith("3.1")


def test_the_route_tables_and_the_file_name_the_same_routes():
    sources = routes_in_the_sources()
    assert len(sources) > 30
    assert sources == operations(), sources ^ operations()


def test_every_path_answers_and_takes_exactly_its_methods(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:100])
    for path, item in SPEC["paths"].items():
        url = path
        for name, value in FILL.items():
            url = url.replace(name, value)
        assert "{" not in url, path
        r = daemon.request("PUT", url)
        assert r.status_code == 405, f"{path}: {r.status_code} {r.text}"
        allowed = {m.strip() for m in r.headers["Allow"].split(",")} - {"OPTIONS"}
        said = {m.upper() for m in item if m in METHODS}
        assert allowed == said | ({"HEAD"} if "GET" in said else set()), path


def test_answers_have_the_shape_that_is_promised(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    job = daemon.train("digits")
    e = daemon.erase(subjects=["s1"], regulation="gdpr")
    daemon.verify("digits")
    url = {"{m}": "digits", "{id}": e["id"], "{index}": "0", "{v}": "1",
           "{tile}": "0/000.p/1"}
    queries = {"/v1/audit/consistency": "?from=1&to=2"}
    for path, item in SPEC["paths"].items():
        if "get" not in item or "{pseudonym}" in path or "{webhook}" in path or path == "/v1/events":
            continue
        if path.startswith("/opendsr/"):  # test_opendsr.py
            continue
        real = path.replace("{id}", job["id"]) if path.startswith("/v1/jobs") else path
        real = real.replace("/records/{id}", "/records/r0")
        for name, value in url.items():
            real = real.replace(name, value)
        r = daemon.get(real + queries.get(path, ""))
        assert r.status_code == 200, f"{real} {r.text}"
        content = item["get"]["responses"]["200"]["content"]
        kind = r.headers["Content-Type"].split(";")[0]
        assert kind in content, path
        if kind == "application/json":
            check(content[kind]["schema"], r.json(), path)
    for body, status in (({}, 422), ({"subjects": ["s1"], "models": ["nope"]}, 422)):
        check({"$ref": "#/components/schemas/Problem"}, daemon.post("/v1/erasures", body).json(), "problem")
    check({"$ref": "#/components/schemas/DryRun"},
          daemon.ok("POST", "/v1/erasures?dry_run=true", {"subjects": ["s2"]}), "dry run")
    check({"$ref": "#/components/schemas/InferAnswer"}, daemon.infer("digits", [[0] * 64]).json(), "infer")
    ev = daemon.request("POST", "/v1/models/digits/evaluate", headers={"Content-Type": "application/x-ndjson"},
                        data='{"id": "a", "label": "1", "features": %s}\n' % ([0] * 64)).json()
    check({"$ref": "#/components/schemas/ClassificationEvaluation"}, ev, "evaluate")


def check(schema, value, where):
    """The part of JSON Schema that the file uses."""
    while "$ref" in schema:
        at = SPEC
        for part in schema["$ref"][2:].split("/"):
            at = at[part]
        schema = at
    if "oneOf" in schema:
        failures = []
        for s in schema["oneOf"]:
            try:
                return check(s, value, where)
            except AssertionError as e:
                failures.append(e)
        raise AssertionError(f"{where}: none of the forms fits: {failures}")
    types = schema.get("type")
    if types is not None:
        names = {bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}, str: {"string"},
                 list: {"array"}, dict: {"object"}, type(None): {"null"}}[type(value)]
        assert names & set([types] if isinstance(types, str) else types), f"{where}: {value!r} is no {types}"
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], f"{where}: {value!r}"
    if isinstance(value, str) and "pattern" in schema:
        assert re.search(schema["pattern"], value), f"{where}: {value!r}"
    if isinstance(value, str) and schema.get("format") == "date-time":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value), f"{where}: {value!r}"
    if type(value) in (int, float):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), f"{where}: {value}"
    if isinstance(value, dict) and "properties" in schema:
        missing = set(schema.get("required", ())) - set(value)
        assert not missing, f"{where} lacks {missing}"
        for k, v in value.items():
            if k in schema["properties"]:
                check(schema["properties"][k], v, f"{where}/{k}")
            else:
                assert schema.get("additionalProperties") is not False, f"{where}: {k} is not described"
    if isinstance(value, list):
        assert len(value) <= schema.get("maxItems", len(value)), where
        for i, v in enumerate(value):
            check(schema.get("items", {}), v, f"{where}/{i}")


@pytest.mark.parametrize("method,path", sorted(operations()))
def test_every_operation_is_described(method, path):
    op = SPEC["paths"][path][method.lower()]
    assert op["summary"] and op["operationId"] and op["tags"] and "security" in op and op["responses"]
    named = {p.get("name") or p["$ref"].rsplit("/", 1)[1] for p in
             op.get("parameters", []) + SPEC["paths"][path].get("parameters", [])}
    for name in re.findall(r"{(\w+)}", path):
        assert name in named or {"m": "model", "v": "version"}.get(name) in named


def test_the_example_of_the_interface_makes_a_model(daemon):
    """The body that the interface's documentation shows: its labels only begin to number the classes."""
    m = daemon.create(**{
        "name": "digits", "kind": "mlp", "features": 64, "dtype": "u8", "classes": 10,
        "labels": ["0", "1"], "hidden": [128], "shards": 8, "slices": 4, "epochs": 20,
        "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9, "l2": 0.0, "optimizer": "sgd",
        "aggregation": "mean", "seed": 1, "standardize": True})
    assert m["labels"] == [str(i) for i in range(10)] and m["state"] == "empty"
