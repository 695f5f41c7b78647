# SPDX-License-Identifier: Apache-2.0
"""Black-box tests: a real daemon, real HTTP. The fixture `daemon` is one daemon with a data directory
of its own; `make_daemon` makes more of them (same key, another directory, options)."""
import gzip
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(os.environ.get("UNLEARND_BIN", ROOT / "build"))
SHARED = Path(os.environ.get("UNLEARND_SHARED", ROOT.parent / "shared"))
FAULTS = BIN / "faults"  # the same programs with crash points compiled in
# For runs under a sanitizer or memcheck: more options of every daemon, and what runs it.
OPTIONS = os.environ.get("UNLEARND_OPTIONS", "").split()
WRAPPER = os.environ.get("UNLEARND_WRAPPER", "").split()
START_SECONDS = float(os.environ.get("UNLEARND_START_SECONDS", "60"))


class Daemon:
    def __init__(self, data_dir, *options, auth=False, programs=BIN, env=None):
        self.data_dir = Path(data_dir)
        self.programs = Path(programs)
        self.options = list(options) + ([] if auth else ["--insecure-no-auth"])
        self.process = None
        self.url = None
        self.log = []
        self.http = requests.Session()
        self.start(env)

    def start(self, env=None):
        command = [*WRAPPER, str(self.programs / "unlearnd"), "--data-dir", str(self.data_dir),
                   "--listen", "127.0.0.1:0", *OPTIONS, *self.options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        listening = threading.Event()

        def read():
            for line in self.process.stderr:
                self.log.append(line.rstrip())
                found = re.match(r"listening on (\S+)", line)
                if found:
                    self.url = "http://" + found.group(1)
                    listening.set()
            listening.set()

        self.url = None
        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        assert listening.wait(START_SECONDS) and self.url, "\n".join(self.log)
        return self

    def stop(self):
        """A clean stop; the exit status must be 0."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.reader.join(10)
        # the last line of the log first: a report that is cut short still says why
        assert status == 0, f"ended with {status}: " + "\n".join(self.log[-1:-30:-1])

    def kill(self):
        self.process.kill()
        self.process.wait(30)
        self.reader.join(10)

    def restart(self):
        self.stop()
        return self.start()

    # --- HTTP ---
    def request(self, method, path, **kw):
        kw.setdefault("timeout", 60)
        return self.http.request(method, self.url + path, **kw)

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        if body is not None:
            kw["json"] = body
        return self.request("POST", path, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    def ok(self, method, path, body=None, status=None, **kw):
        r = self.request(method, path, **({"json": body} if body is not None else {}), **kw)
        assert r.status_code == status if status else r.ok, f"{r.status_code} {r.text}"
        return r.json() if r.content and "json" in r.headers.get("content-type", "") else r

    # --- the usual steps ---
    def create(self, **config):
        return self.ok("POST", "/v1/models", config, status=201)

    def load(self, model, records, **params):
        body = "".join(json.dumps(r) + "\n" for r in records)
        r = self.request("POST", f"/v1/models/{model}/records", data=body.encode(), params=params,
                         headers={"Content-Type": "application/x-ndjson"})
        assert r.status_code == 200, f"{r.status_code} {r.text}"
        return r.json()

    def wait_job(self, job, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.ok("GET", f"/v1/jobs/{job}")
            if state["state"] in ("succeeded", "failed", "cancelled"):
                return state
            time.sleep(0.02)
        raise AssertionError(f"job {job} did not end: {state}")

    def train(self, model):
        job = self.ok("POST", f"/v1/models/{model}/train", status=202)
        ended = self.wait_job(job["id"])
        assert ended["state"] == "succeeded", ended
        return ended

    def compact(self, model):
        job = self.ok("POST", f"/v1/models/{model}/compact", status=202)
        ended = self.wait_job(job["id"])
        assert ended["state"] == "succeeded", ended
        return ended

    def erase(self, wait=True, **body):
        e = self.ok("POST", "/v1/erasures", body, status=202)
        return self.wait_erasure(e["id"]) if wait else e

    def wait_erasure(self, erasure, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            e = self.ok("GET", f"/v1/erasures/{erasure}")
            if e["state"] == "completed":
                return e
            time.sleep(0.02)
        raise AssertionError(f"erasure {erasure} did not complete: {e}")

    def verify(self, model, **body):
        job = self.ok("POST", f"/v1/models/{model}/verify", body or None, status=202)
        ended = self.wait_job(job["id"])
        assert ended["state"] == "succeeded", ended
        assert ended["result"]["shards"], "nothing was compared"
        return ended["result"]["shards"]

    def model(self, name):
        return self.ok("GET", f"/v1/models/{name}")

    def infer(self, model, rows):
        body = {"inputs": [{"name": "input", "shape": [len(rows), len(rows[0])],
                            "datatype": "FP32", "data": rows}]}
        return self.post(f"/v2/models/{model}/infer", body)

    def ctl(self, *args, check=True, input=None, env=None):
        r = subprocess.run([str(BIN / "unlearnctl"), "--url", self.url, *map(str, args)],
                           capture_output=True, text=True, input=input, timeout=300,
                           env={**os.environ, **(env or {})})
        if check:
            assert r.returncode == 0, f"{args}: {r.returncode}\n{r.stdout}\n{r.stderr}"
        return r


def days_later(days):
    """The environment of a daemon whose wall clock is ahead (tests/preload/clock.c)."""
    subprocess.run(["make", "-s", "build/tests/clock.so"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return {"LD_PRELOAD": str(ROOT / "build" / "tests" / "clock.so"),
            "UNLEARND_TEST_CLOCK": str(days * 86400)}


@pytest.fixture
def make_daemon():
    """make_daemon(key_of=other, options...) -> Daemon; all are stopped at the end of the test.
    key: the pseudonym key itself; key_of: another daemon's."""
    daemons, folders = [], []

    def make(*options, key=None, key_of=None, auth=False, data_dir=None, programs=BIN,
             env=None):
        if data_dir is None:
            folder = tempfile.TemporaryDirectory(prefix="unlearnd-test-")
            folders.append(folder)
            data_dir = folder.name
        if key_of is not None:
            key = (key_of.data_dir / "keys" / "pseudonym.key").read_bytes()
        if key is not None:
            keys = Path(data_dir) / "keys"
            keys.mkdir(mode=0o700, exist_ok=True)
            (keys / "pseudonym.key").write_bytes(key)
        d = Daemon(data_dir, *options, auth=auth, programs=programs, env=env)
        daemons.append(d)
        return d

    yield make
    for d in daemons:
        if d.process.poll() is None:
            d.stop()
    for folder in folders:
        folder.cleanup()


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture(scope="session")
def shared_data():
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("the shared data sets are not beside this checkout")
    return data


def read_digits(limit=None):
    """Records of the digits data set: five rows a subject."""
    records = []
    with gzip.open(ROOT / "tests" / "data" / "digits.csv.gz", "rt") as f:
        for i, line in enumerate(f):
            if limit is not None and i == limit:
                break
            values = [int(float(v)) for v in line.split(",")]
            records.append({"id": f"r{i}", "subject": f"s{i // 5}", "label": str(values[64]),
                            "features": values[:64]})
    return records


@pytest.fixture(scope="session")
def digits():
    return read_digits()


DIGITS = {"name": "digits", "kind": "mlp", "features": 64, "dtype": "u8", "classes": 10,
          "hidden": [32], "shards": 4, "slices": 4, "epochs": 8, "batch_size": 32,
          "learning_rate": 0.1}
