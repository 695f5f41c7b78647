# SPDX-License-Identifier: Apache-2.0
"""Predictions as stock clients ask for them, and as numpy computes them from the checkpoints."""
import json
import struct
import tempfile
import threading

import numpy as np
import pytest
import requests
from conftest import DIGITS, Daemon, read_digits

HEADER = "Inference-Header-Content-Length"
ROWS = np.array([r["features"] for r in read_digits(1100)], dtype=np.float32)


@pytest.fixture(scope="module")
def d():
    with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as folder:
        d = Daemon(folder)
        try:
            d.create(**DIGITS)
            d.create(**{**DIGITS, "name": "votes", "aggregation": "vote", "epochs": 1, "shards": 5})
            d.create(**{**DIGITS, "name": "tanh", "activation": "tanh", "hidden": [24, 12], "epochs": 2})
            d.create(**{**{k: v for k, v in DIGITS.items() if k != "hidden"}, "name": "line",
                        "kind": "softmax", "epochs": 2})
            for name in ("digits", "votes", "tanh", "line"):
                d.load(name, read_digits(700))
                d.train(name)
            for name, targets in (("one", 1), ("two", 2)):
                d.create(name=name, kind="softmax", task="regression", targets=targets, features=3,
                         shards=2, learning_rate=0.01)
                d.load(name, [{"id": f"r{i}", "features": [i / 50, 1, -i / 70],
                               "label": i / 9 if targets == 1 else [i / 9, -i]} for i in range(60)])
                d.train(name)
            d.create(name="texts", kind="softmax", encoder="hash_text", features=256, classes=2,
                     labels=["ham", "spam"], shards=2)
            d.load("texts", [{"id": f"t{i}", "label": ("ham", "spam")[i % 2],
                              "text": ("see you at home", "win free cash")[i % 2] + f" {i}"}
                             for i in range(60)])
            d.train("texts")
            d.create(name="table", kind="softmax", encoder="tabular", classes=2, labels=["no", "yes"],
                     shards=2, columns=[{"name": "age", "type": "numeric"},
                                        {"name": "job", "type": "categorical", "values": ["a", "b"]}])
            d.load("table", [{"id": f"c{i}", "label": ("no", "yes")[i % 2],
                              "columns": {"age": i, "job": "ab"[i % 2]}} for i in range(60)])
            d.train("table")
            d.create(name="empty", kind="softmax", features=2, classes=2)
            yield d
        finally:
            d.stop()


def v2(d, model, **body):
    r = d.post(f"/v2/models/{model}/infer", body)
    assert r.status_code == 200, r.text
    a = r.json()
    assert a["model_name"] == model and a["model_version"] == "1"
    return {o["name"]: o for o in a["outputs"]}, a


def tensor(rows, datatype="FP32", **more):
    rows = np.asarray(rows)
    return {"name": "input", "shape": list(rows.shape), "datatype": datatype,
            "data": rows.ravel().tolist(), **more}


def probabilities(d, model, rows):
    """[n, classes] float32, the very bits (shortest decimals round-trip)."""
    o, _ = v2(d, model, inputs=[tensor(rows)])
    return np.array(o["probabilities"]["data"], dtype=np.float32).reshape(o["probabilities"]["shape"])


def triton(d, model, rows, datatype, outputs=("label", "class", "probabilities"), binary=True, ask=True,
           **more):
    """What tritonclient.http sends: the JSON, then the raw tensor; and how it reads the answer."""
    raw = rows if isinstance(rows, bytes) else np.ascontiguousarray(rows).tobytes()
    shape = more.pop("shape", None) or list(np.shape(rows))
    request = {"id": "7", **more, "inputs": [{"name": "input", "shape": shape, "datatype": datatype,
               "parameters": {"binary_data_size": len(raw)}}]}
    if ask:
        request["outputs"] = [{"name": o, "parameters": {"binary_data": binary}} for o in outputs]
    head = json.dumps(request, separators=(",", ":")).encode()
    r = requests.post(f"{d.url}/v2/models/{model}/infer", data=head + raw, timeout=30, headers={
        HEADER: str(len(head)), "Content-Type": "application/octet-stream"})
    if r.status_code != 200:
        return r
    if HEADER not in r.headers:
        a = r.json()
        return {o["name"]: o["data"] for o in a["outputs"]}
    n = int(r.headers[HEADER])
    a, at, result = json.loads(r.content[:n]), n, {}
    assert a["id"] == "7"
    for o in a["outputs"]:
        size = o.get("parameters", {}).get("binary_data_size")
        if size is None:
            result[o["name"]] = o["data"]
            continue
        piece, at = r.content[at:at + size], at + size
        if o["datatype"] == "BYTES":
            items = []
            while piece:
                k, = struct.unpack_from("<I", piece)
                items.append(piece[4:4 + k].decode())
                piece = piece[4 + k:]
            result[o["name"]] = items
        else:
            kind = {"INT64": "<i8", "FP32": "<f4"}[o["datatype"]]
            result[o["name"]] = np.frombuffer(piece, kind).reshape(o["shape"])
    assert at == len(r.content)
    return result


def test_metadata(d):
    s = d.ok("GET", "/v2")
    assert s["name"] == "unlearnd" and "binary_tensor_data" in s["extensions"] and s["version"]
    assert d.ok("GET", "/v2/") == s
    assert d.get("/v2/health/live").json() == {"live": True}
    assert d.get("/v2/health/ready").json() == {"ready": True}
    m = d.ok("GET", "/v2/models/digits")
    assert m == {"name": "digits", "versions": ["1"], "platform": "unlearnd", "inputs": [
        {"name": "input", "datatype": "FP32", "shape": [-1, 64]}], "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "class", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]}
    assert d.ok("GET", "/v2/models/digits/versions/1") == m
    assert d.ok("GET", "/v2/models/two")["outputs"] == [
        {"name": "value", "datatype": "FP32", "shape": [-1, 2]}]
    assert d.ok("GET", "/v2/models/texts")["inputs"][0] == {
        "name": "input", "datatype": "BYTES", "shape": [-1]}
    assert d.ok("GET", "/v2/models/table")["inputs"][0]["shape"] == [-1, 2]
    for path in ("/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"):
        assert d.ok("GET", path)["ready"] is True
    assert d.get("/v2/models/empty/ready").status_code == 503


def test_json_tensors(d):
    o, a = v2(d, "digits", inputs=[tensor(ROWS[:3])], id="abc")
    assert a["id"] == "abc" and a["parameters"]["clean_constituents"] == 4
    assert list(o) == ["label", "class", "probabilities"]
    p = np.array(o["probabilities"]["data"]).reshape(3, 10)
    assert np.allclose(p.sum(1), 1, atol=1e-5)
    assert o["class"]["data"] == p.argmax(1).tolist()
    assert o["label"]["data"] == [str(c) for c in o["class"]["data"]]
    nested, b = v2(d, "digits", inputs=[{**tensor(ROWS[:3]), "data": ROWS[:3].tolist()}])
    assert nested == o and "id" not in b
    for outputs in (["class"], ["probabilities", "label"]):
        got, _ = v2(d, "digits", inputs=[tensor(ROWS[:3])], outputs=[{"name": n} for n in outputs])
        assert list(got) == outputs and all(got[n] == o[n] for n in outputs)


@pytest.mark.parametrize("datatype,kind", [
    ("FP32", "<f4"), ("FP64", "<f8"), ("INT8", "i1"), ("INT16", "<i2"), ("INT32", "<i4"),
    ("INT64", "<i8"), ("UINT8", "u1"), ("UINT16", "<u2"), ("UINT32", "<u4"), ("UINT64", "<u8")])
def test_every_datatype_both_ways(d, datatype, kind):
    rows = ROWS[:5].astype(kind)
    want = probabilities(d, "digits", ROWS[:5])
    o, _ = v2(d, "digits", inputs=[tensor(rows, datatype)])
    assert np.array(o["probabilities"]["data"], dtype=np.float32).tobytes() == want.tobytes()
    for binary in (True, False):
        got = triton(d, "digits", rows, datatype, binary=binary)
        assert np.asarray(got["probabilities"], dtype=np.float32).tobytes() == want.tobytes()
        assert list(got["class"]) == want.argmax(1).tolist()
        assert list(got["label"]) == [str(c) for c in want.argmax(1)]


def test_booleans(d):
    rows = ROWS[:4] > 7
    want = probabilities(d, "digits", rows.astype("f4"))
    got = triton(d, "digits", rows, "BOOL")
    assert got["probabilities"].tobytes() == want.tobytes()
    o, _ = v2(d, "digits", inputs=[tensor(rows, "BOOL")])
    assert np.array(o["probabilities"]["data"], dtype="f4").tobytes() == want.tobytes()


def test_binary_answers_where_no_output_is_named(d):
    want = probabilities(d, "digits", ROWS[:2])
    got = triton(d, "digits", ROWS[:2], "FP32", ask=False, parameters={"binary_data_output": True})
    assert got["probabilities"].tobytes() == want.tobytes()
    got = triton(d, "digits", ROWS[:2], "FP32", ask=False)
    assert np.array(got["probabilities"], dtype="f4").tobytes() == want.tobytes()
    r = d.post("/v2/models/digits/infer", {"inputs": [tensor(ROWS[:2])], "outputs": [
        {"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "class"}]})
    n = int(r.headers[HEADER])
    assert r.content[n:] == want.tobytes()
    assert json.loads(r.content[:n])["outputs"][1]["data"] == want.argmax(1).tolist()


def bytes_tensor(texts):
    return b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)


def test_texts(d):
    texts = ["win free cash now", "see you at home", "", "für 漢字"]
    o, _ = v2(d, "texts", inputs=[{"name": "input", "shape": [4], "datatype": "BYTES", "data": texts}])
    assert o["label"]["data"][:2] == ["spam", "ham"]
    square, _ = v2(d, "texts", inputs=[{"name": "input", "shape": [4, 1], "datatype": "BYTES",
                                        "data": [[t] for t in texts]}])
    assert square == o
    for shape in ([4], [4, 1]):
        got = triton(d, "texts", bytes_tensor(texts), "BYTES", shape=shape)
        assert got["label"] == o["label"]["data"]
        assert got["probabilities"].ravel().tolist() == \
            np.array(o["probabilities"]["data"], dtype="f4").tolist()
    v1 = d.ok("POST", "/v1/models/texts:predict", {"instances": texts})["predictions"]
    assert v1 == o["label"]["data"]
    assert d.ok("POST", "/v1/models/texts:predict",
                {"instances": [{"text": t} for t in texts]})["predictions"] == v1


def test_tables(d):
    rows = [["30", "a"], ["31", "b"], ["5.5", "other"]]
    o, _ = v2(d, "table", inputs=[{"name": "input", "shape": [3, 2], "datatype": "BYTES", "data": rows}])
    assert o["label"]["data"][:2] == ["no", "yes"]
    got = triton(d, "table", bytes_tensor(sum(rows, [])), "BYTES", shape=[3, 2])
    assert got["label"] == o["label"]["data"]
    v1 = d.ok("POST", "/v1/models/table:predict", {"instances": [
        {"columns": {"age": 30, "job": "a"}}, {"columns": {"job": "b", "age": "31"}},
        {"columns": {"age": 5.5, "job": None}}]})["predictions"]
    assert v1 == o["label"]["data"]


def test_v1(d):
    want = [str(c) for c in probabilities(d, "digits", ROWS[:6]).argmax(1)]
    for instances in (ROWS[:6].tolist(), [{"features": r} for r in ROWS[:6].tolist()]):
        assert d.ok("POST", "/v1/models/digits:predict", {"instances": instances}) == {
            "predictions": want}
    one = d.ok("POST", "/v1/models/one:predict", {"instances": [[1, 1, -1]]})["predictions"]
    two = d.ok("POST", "/v1/models/two:predict", {"instances": [[1, 1, -1]]})["predictions"]
    assert isinstance(one[0], (int, float)) and len(two[0]) == 2


def test_regression(d):
    x = np.array([[0.5, 1, -0.3], [1, 1, -0.7]])
    o, _ = v2(d, "two", inputs=[tensor(x)])
    assert list(o) == ["value"] and o["value"]["shape"] == [2, 2]
    got = triton(d, "two", x.astype("f4"), "FP32", outputs=("value",))
    assert got["value"].ravel().tolist() == np.array(o["value"]["data"], dtype="f4").tolist()
    expect = forward(d, "two", x.astype("f4"))
    assert np.abs(got["value"] - expect).max() < 1e-4 * max(1, np.abs(expect).max())


# --- numbers ---

def read_safetensors(path):
    raw = path.read_bytes()
    n, = struct.unpack_from("<Q", raw)
    head = json.loads(raw[8:8 + n])
    head.pop("__metadata__")
    return {k: np.frombuffer(raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]],
                             "<f4").reshape(t["shape"]) for k, t in head.items()}


def forward(d, model, x, vote=False):
    config, outs = d.model(model), []
    for shard in range(config["shards"]):
        folder = d.data_dir / "models" / model / f"shard-{shard:03d}"
        t = read_safetensors(sorted(folder.glob("slice-*.ckpt"))[-1])
        h = x.astype(np.float64)
        if "mean" in t:
            h = (h - t["mean"]) * t["scale"]
        layers = sum(k.endswith(".weight") for k in t)
        for i in range(layers):
            h = h @ t[f"layers.{i}.weight"] + t[f"layers.{i}.bias"]
            if i + 1 < layers:
                h = np.tanh(h) if config["activation"] == "tanh" else np.maximum(h, 0)
        if config["task"] == "classification":
            h = np.exp(h - h.max(1, keepdims=True))
            h /= h.sum(1, keepdims=True)
            if vote:
                h = np.eye(h.shape[1])[h.argmax(1)]
        outs.append(h)
    return np.mean(outs, axis=0)


@pytest.mark.parametrize("model", ["digits", "tanh", "line", "votes"])
def test_predictions_are_those_of_the_checkpoints_on_disk(d, model):
    got = probabilities(d, model, ROWS)
    want = forward(d, model, ROWS, vote=model == "votes")
    assert np.abs(got - want).max() < 1e-5
    if model == "votes":
        assert set(np.unique(np.round(got * 5))) <= {0, 1, 2, 3, 4, 5}
        assert ((got * 5 - np.round(got * 5)) ** 2).max() < 1e-10
        o, _ = v2(d, model, inputs=[tensor(ROWS)])
        assert o["class"]["data"] == got.argmax(1).tolist(), "the lowest class wins a tie"


SIZES = [*range(1, 65), 65, 127, 128, 834, 1000]


@pytest.mark.parametrize("model", ["digits", "tanh", "line", "votes"])
def test_a_rows_bits_do_not_depend_on_its_batch(d, model):
    alone = np.concatenate([triton(d, model, ROWS[i:i + 1], "FP32", ("probabilities",))[
        "probabilities"] for i in range(128)])
    whole = triton(d, model, ROWS[:1000], "FP32", ("probabilities",))["probabilities"]
    assert whole[:128].tobytes() == alone.tobytes()
    for n in SIZES:
        for start in (0, 7):
            got = triton(d, model, ROWS[start:start + n], "FP32", ("probabilities",))["probabilities"]
            want = whole[start:start + n]
            assert got[:len(want)].tobytes() == want.tobytes(), n


def test_a_rows_bits_do_not_depend_on_who_else_asks(d):
    whole = triton(d, "digits", ROWS, "FP32", ("probabilities",))["probabilities"]
    wrong, asked = [], [0]

    def client(k):
        rng = np.random.default_rng(k)
        for _ in range(60):
            n, start = int(rng.integers(1, 70)), int(rng.integers(0, 1000))
            got = triton(d, "digits", ROWS[start:start + n], "FP32", ("probabilities",))
            if got["probabilities"].tobytes() != whole[start:start + n].tobytes():
                wrong.append((n, start))
            asked[0] += 1
    threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and asked[0] == 480


# --- refusals ---

def error(r, status):
    assert r.status_code == status, f"{r.status_code} {r.text}"
    assert list(r.json()) == ["error"]


@pytest.mark.parametrize("change", [
    {"shape": [1, 63]}, {"shape": [2, 64]}, {"shape": [64]}, {"shape": [1, 1, 64]}, {"shape": []},
    {"shape": [-1, 64]}, {"shape": [1.5, 64]}, {"shape": [10**12, 64]}, {"name": "x"},
    {"datatype": "FP16"}, {"datatype": "BYTES"}, {"data": [0] * 63}, {"data": [0] * 65},
    {"data": [[0] * 64, [0] * 64]}, {"data": "x"}, {"data": ["1"] * 64}, {"data": [None] * 64},
    {"data": [1e39] + [0] * 63}, {"datatype": "UINT8", "data": [256] + [0] * 63},
    {"datatype": "INT8", "data": [0.5] + [0] * 63}, {"datatype": "BOOL", "data": [2] + [0] * 63},
    {"extra": 1}], ids=range(22))
def test_wrong_inputs_are_422(d, change):
    error(d.post("/v2/models/digits/infer", {"inputs": [{**tensor(ROWS[:1]), **change}]}), 422)


def test_what_is_not_finite_is_422(d):
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = json.dumps({"inputs": [tensor(ROWS[:1])]}).replace("[0.0, 0.0", f"[{word}, 0.0", 1)
        assert word in body
        r = d.request("POST", "/v2/models/digits/infer", data=body)
        assert r.status_code in (400, 422) and "error" in r.json()
    for bad in (np.nan, np.inf, -np.inf):
        rows = ROWS[:2].copy()
        rows[1, 5] = bad
        error(triton(d, "digits", rows, "FP32"), 422)
        error(triton(d, "digits", rows.astype("f8"), "FP64"), 422)
    error(triton(d, "digits", np.full((1, 64), 1e300), "FP64"), 422)


def test_wrong_binary_requests(d):
    raw = ROWS[:1].tobytes()
    error(triton(d, "digits", raw[:-4], "FP32", shape=[1, 64]), 422)
    error(triton(d, "digits", raw + b"\0\0\0\0", "FP32", shape=[1, 64]), 422)
    for value in ("x", "-1", "999999", "1", ""):
        r = requests.post(f"{d.url}/v2/models/digits/infer", data=b'{"inputs":[]}' + raw,
                          headers={HEADER: value})
        assert r.status_code in (400, 422), (value, r.text)
    error(triton(d, "texts", b"\xff\xff\xff\xff", "BYTES", shape=[1]), 422)
    error(triton(d, "texts", bytes_tensor(["a"]), "BYTES", shape=[2]), 422)
    error(triton(d, "texts", bytes_tensor(["a", "b"]), "BYTES", shape=[1]), 422)


def test_wrong_requests(d):
    good = tensor(ROWS[:1])
    for body in ({}, {"inputs": []}, {"inputs": [good, good]}, {"inputs": good},
                 {"inputs": [good], "outputs": [{"name": "nope"}]},
                 {"inputs": [good], "outputs": [{"name": "value"}]},
                 {"inputs": [good], "outputs": [{"name": "class"}, {"name": "class"}]},
                 {"inputs": [good], "id": 7}, {"inputs": [good], "extra": 1},
                 {"inputs": [good], "parameters": {"priority": 1}}):
        error(d.post("/v2/models/digits/infer", body), 422)
    error(d.post("/v2/models/nope/infer", {"inputs": [good]}), 404)
    error(d.post("/v2/models/digits/versions/2/infer", {"inputs": [good]}), 404)
    assert d.post("/v2/models/digits/versions/1/infer", {"inputs": [good]}).status_code == 200
    for instances in ([], [[1]], [[1] * 65], ["a"], [1], [{}], [{"text": "x"}], "x", None,
                      [[1] * 64, {"features": [1] * 64}], [["1"] * 64]):
        r = d.post("/v1/models/digits:predict", {"instances": instances})
        assert r.status_code == 422 and r.json()["status"] == 422, r.text


def test_a_model_that_cannot_answer_is_503(d):
    r = d.infer("empty", [[1, 2]])
    error(r, 503)
    assert int(r.headers["Retry-After"]) >= 1
    r = d.post("/v1/models/empty:predict", {"instances": [[1, 2]]})
    assert r.status_code == 503 and r.json()["status"] == 503 and "Retry-After" in r.headers


def test_no_rows_at_all(d):
    r = d.post("/v2/models/digits/infer", {"inputs": [{**tensor(ROWS[:1]), "shape": [0, 64], "data": []}]})
    assert r.status_code in (200, 422), r.text
    if r.status_code == 200:
        assert all(o["data"] == [] for o in r.json()["outputs"])
