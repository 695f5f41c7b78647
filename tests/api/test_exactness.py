# SPDX-License-Identifier: Apache-2.0
"""Invariants 1 and 2: erased and retrained is, to the bit, never having seen the person. Two data
directories share a pseudonym key; one is loaded with everything and erased, the other never saw the
erased subjects and was loaded in another order. `served_hash` covers every byte that is served."""
import random

import pytest
from conftest import BIN, DIGITS

KINDS = {
    "softmax": {"kind": "softmax"},
    "mlp": {"kind": "mlp", "hidden": [12]},
    "mlp-deep-tanh": {"kind": "mlp", "hidden": [8, 6], "activation": "tanh"},
    "mlp-adam": {"kind": "mlp", "hidden": [9], "optimizer": "adam", "learning_rate": 0.01,
                 "l2": 0.001, "learning_rate_decay": 0.1},
}


def make_records(seed, subjects, dtype, task, features=9, targets=1):
    """Several records a subject, labels that depend on the features."""
    rng = random.Random(seed)
    records = []
    for s in range(subjects):
        for k in range(rng.choice([1, 1, 2, 5])):
            if dtype == "bit":
                x = [int(rng.random() < 0.4) for _ in range(features)]
            elif dtype == "u8":
                x = [rng.randrange(256) for _ in range(features)]
            else:
                x = [round(rng.gauss(0, 3), 4) for _ in range(features)]
            if task == "regression":
                label = [round(sum(x[t::2]) / 7, 3) for t in range(targets)]
                label = label[0] if targets == 1 else label
            else:
                label = str((sum(1 for v in x[:4] if v > (100 if dtype == "u8" else 0))) % 3)
            records.append({"id": f"{seed}-{s}-{k}", "subject": f"person-{seed}-{s}",
                            "label": label, "features": x})
    return records


def config(kind, dtype, task, targets=1, **more):
    c = {"name": "m", "features": 9, "dtype": dtype, "shards": 3, "slices": 3, "epochs": 4,
         "batch_size": 16, "learning_rate": 0.05, "seed": 11, **KINDS[kind], **more}
    if task == "regression":
        c.update(task="regression", targets=targets, learning_rate=0.001)
    else:
        c["classes"] = 3
    return c


def served(daemon):
    m = daemon.model("m")
    assert m["state"] == "ready" and m["degraded_constituents"] == 0, m
    assert m["served_hash"]
    return m["served_hash"]


def without(records, gone):
    return [r for r in records if r["subject"] not in gone]


CASES = [(k, d, t) for k in KINDS for d in ("f32", "u8", "bit")
         for t in ("classification", "regression")]


@pytest.mark.parametrize("kind,dtype,task", CASES)
def test_erased_and_retrained_is_never_having_seen_the_person(make_daemon, kind, dtype, task):
    rng = random.Random(f"{kind}{dtype}{task}")
    targets = 2 if task == "regression" and kind == "mlp" else 1
    first = make_records(1, 60, dtype, task, targets=targets)
    later = make_records(2, 25, dtype, task, targets=targets)
    subjects = sorted({r["subject"] for r in first})
    late_subjects = sorted({r["subject"] for r in later})
    gone = set(rng.sample(subjects, 7)) | set(rng.sample(late_subjects, 3))
    c = config(kind, dtype, task, targets)

    seen = make_daemon()
    seen.create(**c)
    seen.load("m", first)
    early = sorted(gone)[0:2]
    seen.erase(subjects=early)  # before any training
    seen.train("m")
    for s in [s for s in sorted(gone & set(subjects)) if s not in early][:2]:
        seen.erase(subjects=[s])  # one after another
    seen.load("m", later)
    seen.train("m")
    rest = [s for s in sorted(gone) if s not in early]
    rng.shuffle(rest)
    ids = [seen.erase(wait=False, subjects=[s])["id"] for s in rest]  # all at once
    for i in ids:
        seen.wait_erasure(i)

    never = make_daemon(key_of=seen)
    never.create(**c)
    a, b = without(first, gone), without(later, gone)
    rng.shuffle(a)
    rng.shuffle(b)
    half = len(a) // 2
    never.load("m", a[:half])
    never.load("m", a[half:])
    never.train("m")
    never.load("m", b)
    never.train("m")

    assert served(seen) == served(never)
    assert all(s["identical"] for s in seen.verify("m"))
    # and it is not a constant: the person does make a difference
    probe = [r["features"] for r in a[:20]]
    assert seen.infer("m", probe).json()["outputs"] == never.infer("m", probe).json()["outputs"]
    control = make_daemon(key_of=seen)
    control.create(**c)
    control.load("m", first)
    control.train("m")
    control.load("m", later)
    control.train("m")
    assert served(control) != served(seen)


def test_a_person_who_is_all_of_an_appended_slice_leaves_no_trace(make_daemon):
    """A slice that holds nobody any more must not count as a stage."""
    first = make_records(1, 40, "f32", "classification")
    alone = [dict(r, subject="alone") for r in make_records(3, 2, "f32", "classification")]
    later = make_records(2, 20, "f32", "classification")
    c = config("mlp", "f32", "classification")
    seen = make_daemon()
    seen.create(**c)
    seen.load("m", first)
    seen.train("m")
    seen.load("m", alone)
    seen.train("m")
    seen.load("m", later)
    seen.train("m")
    seen.erase(subjects=["alone"])
    never = make_daemon(key_of=seen)
    never.create(**c)
    never.load("m", first)
    never.train("m")
    never.load("m", later)
    never.train("m")
    assert served(seen) == served(never)


def test_a_shard_whose_first_people_are_erased_equals_one_that_began_later(make_daemon):
    """The standardisation and the first weights belong to whoever is left."""
    few = make_records(1, 6, "f32", "classification")
    c = config("softmax", "f32", "classification", shards=4, slices=4)
    gone = sorted({r["subject"] for r in few})[:5]
    seen = make_daemon()
    seen.create(**c)
    seen.load("m", few)
    seen.train("m")
    for s in gone:
        seen.erase(subjects=[s])
    never = make_daemon(key_of=seen)
    never.create(**c)
    never.load("m", without(few, set(gone)))
    never.train("m")
    assert served(seen) == served(never)


def test_records_erased_one_by_one_equal_the_subject_erased_at_once(make_daemon):
    records = make_records(1, 30, "u8", "classification")
    who = max({r["subject"] for r in records},
              key=lambda s: sum(r["subject"] == s for r in records))
    mine = [r["id"] for r in records if r["subject"] == who]
    assert len(mine) > 2
    c = config("mlp", "u8", "classification")
    a = make_daemon()
    a.create(**c)
    a.load("m", records)
    a.train("m")
    for r in mine:
        e = a.erase(records=[{"model": "m", "id": r}])
        assert e["matched"] == 1
    b = make_daemon(key_of=a)
    b.create(**c)
    b.load("m", records)
    b.train("m")
    assert b.erase(subjects=[who])["matched"] == len(mine)
    assert served(a) == served(b)


def test_placement_does_not_depend_on_the_order_or_on_other_records(make_daemon):
    records = make_records(1, 50, "f32", "classification")
    a = make_daemon()
    c = config("softmax", "f32", "classification")
    a.create(**c)
    a.load("m", records)
    b = make_daemon(key_of=a)
    b.create(**c)
    b.load("m", list(reversed(records))[:60])
    for r in list(reversed(records))[:60]:
        where = a.ok("GET", f"/v1/models/m/records/{r['id']}")
        assert where == b.ok("GET", f"/v1/models/m/records/{r['id']}")
    by_subject = {}
    for r in records:
        where = a.ok("GET", f"/v1/models/m/records/{r['id']}")
        by_subject.setdefault(r["subject"], set()).add((where["shard"], where["slice"]))
    assert all(len(places) == 1 for places in by_subject.values())
    assert len({p for places in by_subject.values() for p in places}) > 4


# --- and where the bytes are others, that is said ---

LYING_WORKER = """#!/usr/bin/python3
import hashlib, os, re, sys
if os.path.exists({flag!r}):
    text = open(sys.argv[1]).read().rsplit("\\n", 2)[0]
    at = re.search(r'"model_key": ?"', text).end()
    text = text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1:]
    open(sys.argv[1], "w").write(text + "\\n" + hashlib.sha256(text.encode()).hexdigest() + "\\n")
os.execv({worker!r}, [{worker!r}, *sys.argv[1:]])
"""


def test_a_verification_that_finds_other_bytes_says_so(make_daemon, digits, tmp_path):
    """The worker trains with another key of the model while a file lies there: other weights at first."""
    flag, path = tmp_path / "flag", tmp_path / "worker"
    path.write_text(LYING_WORKER.format(flag=str(flag), worker=str(BIN / "unlearn-worker")))
    path.chmod(0o755)
    d = make_daemon("--worker-path", str(path))
    d.create(**{**DIGITS, "epochs": 1, "shards": 2})
    d.load("digits", digits[:200])
    d.train("digits")
    before = d.model("digits")["served_hash"]
    assert [s["identical"] for s in d.verify("digits")] == [True, True]
    flag.touch()
    said = d.verify("digits", shards=[1])
    assert [(s["shard"], s["identical"]) for s in said] == [(1, False)]
    assert said[0]["served_hash"] != said[0]["rebuilt_hash"]
    assert [line for line in d.log if "verification_differs model=digits shard=1" in line]
    r = d.ctl("verify", "digits", check=False)
    assert r.returncode == 1 and "2 shards: not the bytes" in r.stderr, r.stderr
    flag.unlink()
    assert d.model("digits")["served_hash"] == before, "what is served is left alone"
    assert [s["identical"] for s in d.verify("digits")] == [True, True]
