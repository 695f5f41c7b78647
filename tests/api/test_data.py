# SPDX-License-Identifier: Apache-2.0
"""Real data sets through every way in, and as good a model as others make of them."""
import csv
import gzip
import io
import json
import random

import numpy as np
import pytest
from conftest import BIN, DIGITS, read_digits


@pytest.fixture
def daemon(make_daemon, tmp_path):
    """With a fixed key: placement, and so the accuracy, is the same in every run."""
    keys = tmp_path / "data" / "keys"
    keys.mkdir(mode=0o700, parents=True)
    (keys / "pseudonym.key").write_bytes(bytes(range(32)))
    return make_daemon(data_dir=tmp_path / "data")


def evaluate(d, model, records):
    r = d.request("POST", f"/v1/models/{model}/evaluate", headers={"Content-Type": "application/x-ndjson"},
                  data="".join(json.dumps(x) + "\n" for x in records).encode())
    assert r.status_code == 200, r.text
    assert r.json()["evaluated"] == len(records) and r.json()["rejected"] == 0, r.text[:500]
    return r.json()


def split(records, seed=1):
    records = list(records)
    random.Random(seed).shuffle(records)
    n = len(records) // 5
    return records[n:], records[:n]


def test_digits(daemon, digits):
    train, held = split(digits)
    daemon.create(**{**DIGITS, "hidden": [64], "epochs": 40, "learning_rate": 0.03})
    daemon.load("digits", train)
    daemon.train("digits")
    e = evaluate(daemon, "digits", held)
    assert e["accuracy"] > 0.95
    confusion = np.array(e["confusion"])
    assert confusion.shape == (10, 10) and confusion.sum() == len(held)
    assert np.trace(confusion) / len(held) == pytest.approx(e["accuracy"])
    o = {x["name"]: x for x in daemon.infer("digits", [r["features"] for r in held]).json()["outputs"]}
    p = np.array(o["probabilities"]["data"]).reshape(-1, 10)
    labels = [int(r["label"]) for r in held]
    assert e["log_loss"] == pytest.approx(-np.log(p[range(len(held)), labels]).mean(), rel=1e-3)
    assert np.mean([a == r["label"] for a, r in zip(o["label"]["data"], held)]) == pytest.approx(e["accuracy"])
    # what was evaluated was not stored
    assert daemon.model("digits")["records"] == len(train)
    assert daemon.get(f"/v1/models/digits/records/{held[0]['id']}").status_code == 404


def test_spam(daemon, shared_data):
    with gzip.open(shared_data / "sms_spam.tsv.gz", "rt", encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t", 1) for line in f]
    train, held = split({"id": f"m{i}", "label": a, "text": b} for i, (a, b) in enumerate(rows))
    daemon.create(name="spam", kind="softmax", encoder="hash_text", features=4096, classes=2,
                  labels=["ham", "spam"], shards=8)
    assert daemon.load("spam", train)["accepted"] == len(train)
    daemon.train("spam")
    assert evaluate(daemon, "spam", held)["accuracy"] > 0.95
    spam = next(r for r in train if r["label"] == "spam")
    needle = spam["text"].encode()
    assert not any(needle in p.read_bytes() for p in daemon.data_dir.rglob("*.rows"))


def one_hot(rows, columns):
    out = np.zeros((len(rows), sum(1 if c["type"] == "numeric" else len(c["values"]) + 1 for c in columns)))
    at = 0
    for c in columns:
        if c["type"] == "numeric":
            out[:, at] = [float(r[c["name"]]) for r in rows]
            at += 1
        else:
            place = {v: k for k, v in enumerate(c["values"])}
            for i, r in enumerate(rows):
                out[i, at + place.get(r[c["name"]], len(place))] = 1
            at += len(place) + 1
    return out


def logistic_regression(x, y, x2):
    """scikit-learn's where it is there, else Newton's method with the same penalty."""
    mean, scale = x.mean(0), x.std(0) + 1e-9
    x, x2 = (x - mean) / scale, (x2 - mean) / scale
    try:
        from sklearn.linear_model import LogisticRegression
        return LogisticRegression(max_iter=500).fit(x, y).predict(x2)
    except ImportError:
        pass
    x = np.hstack([x, np.ones((len(x), 1))])
    w, penalty = np.zeros(x.shape[1]), np.eye(x.shape[1])
    penalty[-1, -1] = 0
    for _ in range(12):
        p = 1 / (1 + np.exp(-x @ w))
        w -= np.linalg.solve((x.T * (p * (1 - p))) @ x + penalty, x.T @ (p - y) + penalty @ w)
    return np.hstack([x2, np.ones((len(x2), 1))]) @ w > 0


def adult(shared_data):
    with gzip.open(shared_data / "adult.csv.gz", "rt") as f:
        rows = list(csv.DictReader(f, delimiter=";"))
    columns = []
    for name in rows[0]:
        if name == "salary-class":
            continue
        values = sorted({r[name] for r in rows})
        columns.append({"name": name, "type": "numeric"} if name == "age" else
                       {"name": name, "type": "categorical", "values": values})
    return rows, columns


def test_adult(daemon, shared_data):
    rows, columns = adult(shared_data)
    train, held = split(enumerate(rows))
    daemon.create(name="adult", kind="softmax", encoder="tabular", columns=columns, classes=2,
                  labels=["<=50K", ">50K"], shards=8, epochs=10, learning_rate=0.02, batch_size=64)
    wide = daemon.model("adult")["features"]
    assert wide == one_hot(rows[:1], columns).shape[1]
    names = [c["name"] for c in columns]
    out = io.StringIO()
    w = csv.writer(out)
    w.writerow(["id", "label", *names])
    w.writerows([f"p{i}", r["salary-class"], *[r[n] for n in names]] for i, r in train)
    r = daemon.request("POST", "/v1/models/adult/records", data=gzip.compress(out.getvalue().encode()),
                       headers={"Content-Type": "text/csv", "Content-Encoding": "gzip"})
    assert r.status_code == 200 and r.json()["accepted"] == len(train), r.text[:500]
    daemon.train("adult")
    e = evaluate(daemon, "adult", [{"id": f"p{i}", "label": r["salary-class"],
                                    "columns": {n: r[n] for n in names}} for i, r in held])
    y = np.array([r["salary-class"] == ">50K" for _, r in train], dtype=float)
    y2 = np.array([r["salary-class"] == ">50K" for _, r in held])
    other = (logistic_regression(one_hot([r for _, r in train], columns), y,
                                 one_hot([r for _, r in held], columns)) == y2).mean()
    print(f"unlearnd {e['accuracy']:.4f}, logistic regression {other:.4f}")
    assert e["accuracy"] > other - 0.01


def served(d):
    m = d.model("digits")
    assert m["state"] == "ready"
    return m["served_hash"]


def test_the_same_rows_as_lines_csv_and_npy_train_to_the_same_bytes(make_daemon):
    digits = [{"id": f"n{i}", "label": r["label"], "features": r["features"]}
              for i, r in enumerate(read_digits(500))]
    d = make_daemon()
    d.create(**DIGITS)
    d.load("digits", digits)
    d.train("digits")
    other = make_daemon(key_of=d)
    other.create(**DIGITS)
    header = "id,label," + ",".join(f"f{i}" for i in range(64))
    text = "\r\n".join([header, *[",".join(map(str, (f'"{r["id"]}"', r["label"], *r["features"])))
                                  for r in digits]])
    r = other.request("POST", "/v1/models/digits/records", data=text, headers={"Content-Type": "text/csv"})
    assert r.status_code == 200 and r.json()["accepted"] == 500, r.text[:300]
    other.train("digits")
    assert served(other) == served(d)
    table = np.array([[*r["features"], int(r["label"])] for r in digits])
    for kind in ("u1", "<f4", "<f8", "<i8"):
        third = make_daemon(key_of=d)
        third.create(**DIGITS)
        f = io.BytesIO()
        np.save(f, table.astype(kind))
        r = third.request("POST", "/v1/models/digits/records?id_prefix=n", data=f.getvalue(),
                          headers={"Content-Type": "application/x-npy"})
        assert r.status_code == 200 and r.json()["accepted"] == 500, r.text[:300]
        third.train("digits")
        assert served(third) == served(d), kind


def test_mnist_as_an_array(daemon, shared_data):
    with gzip.open(shared_data / "mnist-t10k-images-idx3-ubyte.gz") as f:
        images = np.frombuffer(f.read(), "u1", offset=16).reshape(-1, 784)
    with gzip.open(shared_data / "mnist-t10k-labels-idx1-ubyte.gz") as f:
        labels = np.frombuffer(f.read(), "u1", offset=8)
    table = np.hstack([images, labels[:, None]])
    daemon.create(name="mnist", kind="mlp", features=784, dtype="u8", classes=10, hidden=[64], shards=2,
                  epochs=10, learning_rate=0.002)

    def npy(a):
        f = io.BytesIO()
        np.save(f, a)
        return f.getvalue()
    r = daemon.request("POST", "/v1/models/mnist/records?id_prefix=t", data=npy(table[:8000]),
                       headers={"Content-Type": "application/x-npy"})
    assert r.status_code == 200 and r.json()["accepted"] == 8000
    daemon.train("mnist")
    r = daemon.request("POST", "/v1/models/mnist/evaluate", data=npy(table[8000:]),
                       headers={"Content-Type": "application/x-npy"})
    assert r.status_code == 200 and r.json()["evaluated"] == 2000, r.text[:300]
    assert r.json()["accuracy"] > 0.91


def test_a_csv_through_the_client(daemon, tmp_path, digits):
    if not (BIN / "unlearnctl").exists():
        pytest.skip("unlearnctl is not built")
    daemon.create(**DIGITS)
    path = tmp_path / "digits.csv"
    path.write_text("id,subject,label," + ",".join(f"f{i}" for i in range(64)) + "\n" + "".join(
        f"{r['id']},{r['subject']},{r['label']},{','.join(map(str, r['features']))}\n" for r in digits))
    daemon.ctl("load", "digits", path)
    assert daemon.model("digits")["records"] == len(digits)
    assert daemon.ok("GET", "/v1/models/digits/records/r0")["state"] == "loaded"
