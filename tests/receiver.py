# SPDX-License-Identifier: Apache-2.0
"""A receiver of webhooks for tests: keeps what comes, answers as it is told, and checks signatures
with nothing but the standard library, by the text of Standard Webhooks."""
import base64
import hashlib
import hmac
import http.server
import json
import threading
import time


def sign(secret, id_, timestamp, body):
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    text = f"{id_}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def verify(secret, headers, body):
    """The message, or an AssertionError. secret: one, or several of which one must fit."""
    id_, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    assert abs(int(timestamp) - time.time()) < 300, "the timestamp is not of now"
    signatures = headers["webhook-signature"].split(" ")
    secrets = [secret] if isinstance(secret, str) else secret
    assert any(sign(s, id_, timestamp, body) in signatures for s in secrets), "no signature fits"
    return json.loads(body)


class Receiver:
    """answer(n, path): (status, headers) of the n-th request to that path, or a function of the
    handler that answers by itself."""

    def __init__(self, answer=lambda n, path: (204, {}), port=0):
        self.answer = answer
        self.requests = []  # (path, headers, body)
        self.lock = threading.Lock()
        self.closing = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with outer.lock:
                    n = sum(p == self.path for p, _, _ in outer.requests)
                    outer.requests.append((self.path, dict(self.headers.items()), body))
                said = outer.answer(n, self.path)
                if callable(said):
                    said(self)
                    self.close_connection = True
                    return
                status, headers = said
                self.send_response(status)
                for k, v in headers.items():
                    self.send_header(k, v)
                if status != 204:
                    self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # a client that was killed

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def hang(self, handler):
        """An answer: none."""
        self.closing.wait(60)

    def seen(self, path=None):
        with self.lock:
            return [r for r in self.requests if path is None or r[0] == path]

    def messages(self, secret, path=None):
        """Every message, verified, in order of arrival, each id once."""
        found = {}
        for _, headers, body in self.seen(path):
            h = {k.lower(): v for k, v in headers.items()}
            m = verify(secret, h, body)
            assert found.setdefault(h["webhook-id"], m) == m, "one id, two messages"
        return list(found.values())

    def wait(self, count, path=None, seconds=20):
        end = time.monotonic() + seconds
        while len(self.seen(path)) < count:
            assert time.monotonic() < end, f"{len(self.seen(path))} of {count} requests came"
            time.sleep(0.01)
        return self.seen(path)

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
