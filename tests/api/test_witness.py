# SPDX-License-Identifier: Apache-2.0
"""Witnesses (C2SP tlog-witness), as they see the daemon and as an auditor sees what they signed. They are
tests/witness.py, which is written by the specification and signs with OpenSSL."""
import base64
import contextlib
import json
import socket
import subprocess
import sys
import time

import pytest
from conftest import BIN, ROOT
from rfc6962 import consistency_holds, parse_checkpoint, signature_of
from witness import Witness

FAST = ["--witness-interval-s", "1", "--delivery-timeout-ms", "1000", "--allow-networks", "127.0.0.0/8"]
ORIGIN = "example.org/log"


def wait(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.02)
    return found


@pytest.fixture
def witness(tmp_path):
    """witness(NAME): a new one, which trusts nobody yet."""
    made = []

    def make(name="witness.example/w1", **kw):
        made.append(Witness(tmp_path / f"witness-{len(made)}", name, **kw))
        return made[-1]

    yield make
    for w in made:
        w.close()


@pytest.fixture
def witnessed(make_daemon, tmp_path):
    """witnessed(sections, ...): a daemon with these witnesses, whose log has two entries or more."""

    def make(*sections, options=(), **kw):
        config = tmp_path / "unlearnd.conf"
        config.write_text("".join(sections))
        d = make_daemon("-c", str(config), "--origin", ORIGIN, *FAST, *options, **kw)
        grow(d)
        return d

    return make


def grow(daemon):
    """More entries of the log: an erasure that finds nobody."""
    daemon.ok("POST", "/v1/erasures", {"subjects": [f"nobody-{time.monotonic_ns()}"]}, status=202)


def trusts(w, daemon):
    w.trust(daemon.get("/v1/audit/key").text)
    return w


def view(daemon, name="one"):
    return next(v for v in daemon.ok("GET", "/v1/audit/witnesses")["items"] if v["name"] == name)


def size_of(daemon):
    return parse_checkpoint(daemon.get("/v1/audit/checkpoint").text)[1]


def cosigned(daemon):
    r = daemon.get("/v1/audit/checkpoint?cosigned=true")
    return r.text if r.status_code == 200 else None


def caught_up(daemon, *names, seconds=20):
    """Every one of them has cosigned the whole log; the checkpoint that all of them did."""
    wait(f"{names} to cosign", lambda: all(view(daemon, n)["size"] == size_of(daemon) for n in names or ("one",)),
         seconds)
    return cosigned(daemon)


def fails_as(daemon, outcome, name="one"):
    return wait(outcome, lambda: (v := view(daemon, name))["last_outcome"] == outcome and v["failures"] > 0 and v)


def metric(daemon, name):
    for line in daemon.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    raise AssertionError(f"no metric {name}")


def test_the_newest_checkpoint_is_cosigned_by_all_and_an_auditor_sees_it(witnessed, witness):
    one, two = witness(), witness("witness.example/w2")
    d = witnessed(one.section("one"), two.section("two"))
    assert cosigned(d) is None and "yet" in d.get("/v1/audit/checkpoint?cosigned=true").json()["detail"]
    trusts(one, d), trusts(two, d)
    note = caught_up(d, "one", "two", seconds=40)
    # the log's own signature is the first line, as it is served without them
    plain = d.get("/v1/audit/checkpoint").text
    assert note.startswith(plain) and plain.count("\u2014") == 1 and note.count("\u2014") == 3
    signature_of(note, d.get("/v1/audit/key").text)
    for w in (one, two):
        assert abs(w.key.holds(note) - time.time()) < 60
    for name, w in (("one", one), ("two", two)):
        v = view(d, name)
        assert v["checkpoint"] == note and v["vkey"] == w.vkey() and v["failures"] == 0
        assert v["last_outcome"] == "cosigned" and v["last_status"] == 200
        assert metric(d, f'unlearnd_witness_cosigned_entries{{witness="{name}"}}') == v["size"]
        assert metric(d, f'unlearnd_witness_cosigned_age_seconds{{witness="{name}"}}') < 60
        assert metric(d, f'unlearnd_witness_failures{{witness="{name}"}}') == 0
    # it goes on, from what they have cosigned, and says nothing of it in the log
    before = size_of(d)
    grow(d)
    caught_up(d, "one", "two")
    assert size_of(d) > before and one.requests[-1].startswith(b"old %d\n" % before)
    size = size_of(d)
    time.sleep(1.5)
    assert size_of(d) == size and len(one.requests) == len(two.requests), "a log at rest is not offered"
