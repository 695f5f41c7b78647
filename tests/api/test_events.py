# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: every durable event exactly once and in order, over disconnects and kills; never
one that did not happen; and no stream that costs the others anything."""
import json
import socket
import threading
import time

import pytest
import requests
from conftest import DIGITS

PUBLIC = ("erasure.", "shard.", "model.", "training.", "records.", "verification.", "checkpoint.")


class Stream(threading.Thread):
    """Reads one connection's events until it ends."""

    def __init__(self, daemon, last=None):
        super().__init__(daemon=True)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(last)} if last is not None else {})}
        self.response = requests.get(daemon.url + "/v1/events", headers=headers, stream=True, timeout=60)
        assert self.response.status_code == 200, self.response.text
        assert self.response.headers["Content-Type"] == "text/event-stream"
        self.events, self.comments, self.ended = [], 0, False
        self.start()

    def run(self):
        event = {}
        try:
            for line in self.response.iter_lines(chunk_size=1):
                line = line.decode()
                if not line:
                    if "data" in event:
                        self.events.append((event.get("id"), event.get("event"), json.loads(event["data"])))
                    event = {}
                elif line.startswith(":"):
                    self.comments += 1
                else:
                    key, _, value = line.partition(": ")
                    event[key] = value
            self.ended = True
        except Exception:  # the connection was cut
            pass

    def durable(self):
        return [(int(i), t, d) for i, t, d in list(self.events) if i is not None]

    def cut(self):
        self.response.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)
        self.join(10)

    def wait(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < end, [t for _, t, _ in self.events[-20:]]
            time.sleep(0.01)


def log(daemon):
    """What the streams must have told."""
    items, cursor = [], None
    while True:
        page = daemon.ok("GET", "/v1/audit?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return [(e["index"], e["type"], {k: e[k] for k in ("index", "time", "type", "data")})
                    for e in items if e["type"].startswith(PUBLIC)]


def has(type_):
    return lambda s: any(t == type_ for _, t, _ in s.events)


def test_an_erasure_is_told_step_by_step(daemon, digits):
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    daemon.train("digits")
    begun = len(log(daemon))
    s = Stream(daemon)
    e = daemon.erase(subjects=["s3"], reference="DSR-9")
    s.wait(has("erasure.completed"))
    assert s.durable() == log(daemon)[begun:]
    types = [t for _, t, _ in s.durable()]
    assert types == ["erasure.accepted", "erasure.forgotten", "erasure.scrubbed", "shard.retrained",
                     "erasure.completed"]
    assert all(d["data"]["erasure"] == e["id"] for _, t, d in s.durable() if t.startswith("erasure."))
    assert '"s3"' not in json.dumps(s.events) and "actor" not in json.dumps(s.events)
    s.cut()


def test_progress_is_told_and_has_no_id(daemon, digits):
    daemon.create(**{**DIGITS, "epochs": 60})
    daemon.load("digits", digits)
    s = Stream(daemon)
    job = daemon.train("digits")
    s.wait(has("model.trained"))
    told = [d["data"] for i, t, d in s.events if t == "job.progress"]
    assert all(i is None for i, t, _ in s.events if t == "job.progress")
    assert told and all(p["job"] == job["id"] and p["model"] == "digits" and 0 <= p["progress"] <= 1 for p in told)
    s.cut()


def test_over_disconnects_and_kills_each_comes_once_and_in_order(make_daemon, digits):
    d = make_daemon()
    d.create(**DIGITS)
    d.load("digits", digits[:600])
    d.train("digits")
    got = []
    for round_ in range(6):
        # the first of all begins with the log's second entry
        s = Stream(d, got[-1][0] if got else 0)
        for k in range(3):
            d.erase(wait=False, subjects=[f"s{round_ * 3 + k}"])
        s.wait(lambda s: len(s.durable()) >= 4)
        if round_ % 2 == 0:
            d.kill()
            s.join(20)
            d.start()
        else:
            s.cut()
        got += s.durable()
    for e in d.ok("GET", "/v1/erasures")["items"]:
        d.wait_erasure(e["id"])
    whole = log(d)
    s = Stream(d, got[-1][0])
    s.wait(lambda s: s.durable() and s.durable()[-1][0] == whole[-1][0])
    got += s.durable()
    s.cut()
    assert [i for i, _, _ in got] == [i for i, _, _ in whole if i > 0]
    assert got == [x for x in whole if x[0] > 0], "told is what is in the log"
    assert len({i for i, _, _ in got}) == len(got) >= 6 * 3 * 4


def test_what_was_told_was_durable_and_forgotten(make_daemon, digits):
    """Killed at once when "forgotten" is heard: it is so."""
    d = make_daemon()
    d.create(**DIGITS)
    d.load("digits", digits[:300])
    d.train("digits")
    for k in range(5):
        s = Stream(d)
        thread = threading.Thread(target=lambda k=k: erase_quietly(d.url, f"s{k}"))
        thread.start()
        s.wait(has("erasure.forgotten"))
        d.kill()
        thread.join(20)
        s.join(20)
        d.start()
        index, _, told = next(x for x in s.durable() if x[1] == "erasure.forgotten")
        entry = d.ok("GET", f"/v1/audit/{index}")
        assert entry["data"] == told["data"]
        assert d.get(f"/v1/models/digits/records/r{5 * k}").status_code == 404


def erase_quietly(url, subject):
    try:
        requests.post(url + "/v1/erasures", json={"subjects": [subject]}, timeout=20)
    except requests.exceptions.ConnectionError:
        pass


@pytest.mark.parametrize("value,status", [("-1", 400), ("x", 400), ("1 2", 400), ("9" * 30, 400), ("1e3", 400),
                                          ("999999999", 409), ("0", 409)])
def test_a_place_that_is_none_is_refused(daemon, value, status):
    r = daemon.get("/v1/events", headers={"Last-Event-ID": value})
    assert r.status_code == status, r.text
    assert "Last-Event-ID" in r.text


def test_streams_are_counted_and_free_again(make_daemon):
    d = make_daemon()
    streams = [Stream(d) for _ in range(64)]
    r = d.get("/v1/events")
    assert r.status_code == 503 and int(r.headers["Retry-After"]) > 0
    e = d.erase(subjects=["nobody"])
    for s in streams:
        s.wait(has("erasure.completed"))
        assert [d["data"]["erasure"] for _, _, d in s.durable()] == [e["id"]] * 4
    for s in streams[:10]:
        s.cut()
    end = time.monotonic() + 30
    while True:  # that they are gone is seen when something is to be sent
        d.erase(subjects=["nobody"])
        r = d.request("GET", "/v1/events", stream=True)
        if r.status_code == 200:
            break
        assert time.monotonic() < end
        time.sleep(0.1)
    began = time.monotonic()
    d.stop()
    assert time.monotonic() - began < 4, "a stream holds up the stop"
    assert streams[20].ended, "the stream was cut off, not ended"


def test_one_who_does_not_read_is_dropped_and_costs_no_memory(make_daemon):
    d = make_daemon("--idle-timeout-s", "3")
    host, port = d.url.removeprefix("http://").split(":")
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect((host, int(port)))
        s.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(15).startswith(b"HTTP/1.1 200")
        before = rss(d)
        reader = Stream(d)
        for _ in range(40):
            lines = "".join(json.dumps({"subjects": [f"n{i}"], "reference": "R" * 64}) + "\n" for i in range(100))
            r = d.request("POST", "/v1/erasures:batch", data=lines.encode(),
                          headers={"Content-Type": "application/x-ndjson"})
            assert r.status_code == 200
        reader.wait(lambda r: len(r.durable()) == 40 * 100 * 4)
        assert rss(d) - before < 64 << 20
        time.sleep(7)
        d.erase(subjects=["nobody"])
        s.settimeout(10)
        received = 0
        while True:  # what the kernel had taken, and then the end
            piece = s.recv(65536)
            received += len(piece)
            if not piece:
                break
        assert received < 12 << 20
    reader.cut()


def rss(daemon):
    return int(open(f"/proc/{daemon.process.pid}/statm").read().split()[1]) * 4096


def test_it_takes_scope_erase(make_daemon, tmp_path):
    import subprocess
    from conftest import BIN
    lines, tokens = [], {}
    for scope in ("erase", "audit"):
        r = subprocess.run([str(BIN / "unlearnctl"), "--json", "token", "new", "--name", scope, "--scope", scope],
                           capture_output=True, text=True, check=True)
        a = json.loads(r.stdout)
        tokens[scope] = a["token"]
        lines.append(a["line"])
    (tmp_path / "tokens").write_text("\n".join(lines) + "\n")
    d = make_daemon("--tokens-file", str(tmp_path / "tokens"), auth=True)
    for scope, status in (("erase", 200), ("audit", 403)):
        r = requests.get(d.url + "/v1/events", headers={"Authorization": f"Bearer {tokens[scope]}"}, stream=True,
                         timeout=10)
        assert r.status_code == status
        r.close()


def test_a_sign_of_life_comes_where_nothing_happens(daemon):
    s = Stream(daemon)
    s.wait(lambda s: s.comments >= 1, 20)
    assert not s.events
    s.cut()
