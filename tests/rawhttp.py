# SPDX-License-Identifier: Apache-2.0
"""HTTP by hand for tests of hostile clients: bytes out, answers in, and what the daemon holds meanwhile."""
import json
import os
import resource
import socket
import tempfile
import time

import pytest
from conftest import Daemon

BUDGET = 60  # seconds that a condition may take on a very busy machine
MIB = 1024 * 1024
ESTABLISHED, CLOSE_WAIT = "01", "08"

SMALL = {"name": "m", "kind": "softmax", "features": 2, "classes": 2, "dtype": "f32", "shards": 2,
         "slices": 2, "epochs": 4, "batch_size": 8}
ROWS = [[0.5, 2.0], [3.0, -1.0], [-2.5, 0.25]]
INFER = json.dumps({"inputs": [{"name": "input", "shape": [len(ROWS), 2], "datatype": "FP32",
                                "data": [v for row in ROWS for v in row]}]}).encode()


def wait_for(condition, what):
    end = time.monotonic() + BUDGET
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {BUDGET} s for: {what}")


def figure(item, **values):
    print(f"figure: {item} " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in values.items()))
    if path := os.environ.get("UNLEARND_FIGURES"):
        with open(path, "a") as f:
            f.write(json.dumps({"item": item, **values}) + "\n")


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def request(method, path, *headers, body=None, version=b"HTTP/1.1", host=b"Host: x"):
    head = [b"%s %s %s" % (method, path, version), *([host] if host else []), *headers]
    if body is not None:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + (body or b"")


LIVE = request(b"GET", b"/v2/health/live")
PREDICT = request(b"POST", b"/v2/models/m/infer", b"Content-Type: application/json", body=INFER)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"<{self.status} {self.body[:80]!r}>"

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One connection. answer() reads one response; None: the connection was closed instead."""

    def __init__(self, daemon):
        host, port = daemon.url.removeprefix("http://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=BUDGET)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        """False: the other side has closed already, which a hostile client must expect."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def end_sending(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def more(self):
        try:
            piece = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.got += piece
        return piece != b""

    def closed(self):
        """Waits for the end of what is sent to us."""
        while self.more():
            pass
        return True

    def answer(self, head=False):
        while b"\r\n\r\n" not in self.got:
            if not self.more():
                return None
        top, self.got = self.got.split(b"\r\n\r\n", 1)
        lines = top.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, v in (l.split(":", 1) for l in lines[1:])}
        status = int(lines[0].split(" ", 2)[1])
        if head or status in (100, 204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self.chunks()
        else:
            body = self.bytes(int(headers.get("content-length", "0")))
        return Answer(status, headers, body)

    def bytes(self, count):
        while len(self.got) < count and self.more():
            pass
        taken, self.got = self.got[:count], self.got[count:]
        return taken

    def chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.got and self.more():
                pass
            size, _, self.got = self.got.partition(b"\r\n")
            piece = self.bytes(int(size, 16) + 2)
            if len(piece) <= 2:
                return body
            body += piece[:-2]


def ask(daemon, data, end=False):
    """The answer to `data` on a connection of its own; None: it was closed without one."""
    with Client(daemon) as c:
        c.send(data)
        if end:
            c.end_sending()
        return c.answer()


def may_open(files):
    """Skips the test, visibly, where this process may not have so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= files:
        return
    if hard != resource.RLIM_INFINITY and hard < files:
        pytest.skip(f"needs {files} open files, RLIMIT_NOFILE allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


class Victim(Daemon):
    """A daemon with a trained model, whose predictions are known."""

    def __init__(self, folder, *options, **kw):
        super().__init__(folder, *options, **kw)
        self.create(**SMALL)
        self.load("m", [{"id": f"r{i}", "label": str(i % 2), "features": [i % 7, (i % 2) * 3 - 1]}
                        for i in range(64)])
        self.train("m")
        self.http.close()
        self.expected = ask(self, PREDICT).json["outputs"]
        self.forget_clients()
        self.base_rss = self.rss()

    @property
    def sanitized(self):
        """Sanitizers keep what was freed: memory says nothing."""
        return self.programs.name in ("asan", "tsan")

    def sound(self, grown_mib=64, crowded=False):
        """Alive, right, and not grown; returns the seconds of one prediction. `crowded`: we may be shown out
        ourselves before we have sent anything, and then come again."""
        def asked(data):
            return wait_for(lambda: ask(self, data), "an answer") if crowded else ask(self, data)

        assert self.process.poll() is None, "\n".join(self.log[-30:])
        assert asked(LIVE).status == 200
        began = time.monotonic()
        answer = asked(PREDICT)
        seconds = time.monotonic() - began
        assert answer.status == 200 and answer.json["outputs"] == self.expected
        if not self.sanitized:
            assert self.rss() - self.base_rss < grown_mib * MIB
        return seconds

    def _status(self, name):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith(name))

    def rss(self):
        return self._status("VmRSS:")

    def peak_rss(self):
        return self._status("VmHWM:")

    def connections(self):
        """Connections that the daemon holds, by what the kernel says: not yet closed by it."""
        port = f":{int(self.url.rsplit(':', 1)[1]):04X}"
        with open("/proc/net/tcp") as f:
            rows = [line.split() for line in f][1:]
        return sum(r[1].endswith(port) and r[3] in (ESTABLISHED, CLOSE_WAIT) and r[9] != "0"
                   for r in rows)

    def forget_clients(self):
        self.http.close()
        wait_for(lambda: self.connections() == 0, "the connections to be closed")


def victim_fixture(*options):
    @pytest.fixture(scope="module")
    def victim():
        with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as folder:
            v = Victim(folder, *options)
            try:
                yield v
            finally:
                v.stop()
    return victim
