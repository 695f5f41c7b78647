# SPDX-License-Identifier: Apache-2.0
"""A witness for tests, by the text of C2SP tlog-witness, tlog-cosignature and signed-note alone. It keeps
what it has cosigned in a file, written before it answers, and it cosigns no tree that does not go on from
that. Its keys and signatures are OpenSSL's. Run as a program it serves until it is killed:
witness.py FOLDER PORT LOG_VKEY..."""
import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
from rfc6962 import consistency_holds, parse_vkey  # noqa: E402

SPKI = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what stands before an Ed25519 public key


def openssl(*args, input=None):
    return subprocess.run(["openssl", *map(str, args)], input=input, check=True, capture_output=True).stdout


def ed25519_holds(folder, public, message, signature):
    """OpenSSL's own word for it."""
    name = f"{threading.get_ident()}-{time.monotonic_ns()}"
    files = {kind: Path(folder) / f"{name}.{kind}" for kind in ("pub", "msg", "sig")}
    for kind, data in (("pub", SPKI + public), ("msg", message), ("sig", signature)):
        files[kind].write_bytes(data)
    r = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", files["pub"], "-rawin",
                        "-in", files["msg"], "-sigfile", files["sig"]], capture_output=True)
    for f in files.values():
        f.unlink()
    return r.returncode == 0


class Key:
    """An Ed25519 key in a file, under a name."""

    def __init__(self, folder, name):
        self.folder, self.name = Path(folder), name
        self.file = self.folder / "witness.pem"
        if not self.file.exists():
            openssl("genpkey", "-algorithm", "ed25519", "-out", self.file)
        self.public = openssl("pkey", "-in", self.file, "-pubout", "-outform", "DER")[-32:]
        self.id = self.id_of(4)

    def id_of(self, kind):
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([kind]) + self.public).digest()[:4]

    def vkey(self, kind=4):
        key = base64.b64encode(bytes([kind]) + self.public).decode()
        return f"{self.name}+{self.id_of(kind).hex()}+{key}"

    def sign(self, message):
        file = self.folder / f"{threading.get_ident()}.tosign"
        file.write_bytes(message)
        signature = openssl("pkeyutl", "-sign", "-inkey", self.file, "-rawin", "-in", file)
        file.unlink()
        return signature

    def cosign(self, text, when=None):
        """A signature line over a checkpoint's text."""
        when = int(time.time()) if when is None else when
        raw = self.id + when.to_bytes(8, "big") + self.sign(f"cosignature/v1\ntime {when}\n{text}".encode())
        return f"\u2014 {self.name} {base64.b64encode(raw).decode()}\n"

    def holds(self, note):
        """The time of this key's cosignature of a note, or None; it must verify."""
        text, lines = note[:note.rindex("\n\n") + 1], note[note.rindex("\n\n") + 2:]
        for line in lines.splitlines():
            _, name, value = line.split(" ")
            raw = base64.b64decode(value, validate=True)
            if name == self.name and raw[:4] == self.id:
                when = int.from_bytes(raw[4:12], "big")
                message = f"cosignature/v1\ntime {when}\n{text}".encode()
                assert len(raw) == 76 and ed25519_holds(self.folder, self.public, message, raw[12:])
                return when
        return None


class Refusal(Exception):
    def __init__(self, status, body=b"", kind="text/plain"):
        super().__init__(status)
        self.status, self.body, self.kind = status, body, kind


def number(text):
    if not text.isascii() or not text.isdigit() or text != str(int(text)):
        raise Refusal(400)
    return int(text)


def read_request(body):
    """(old size, hashes, text of the checkpoint, its signature lines); a Refusal where it is malformed."""
    try:
        text = body.decode("utf-8")
        head, _, note = text.partition("\n\n")
        first, *hashes = head.split("\n")
        word, _, old = first.partition(" ")
        hashes = [base64.b64decode(h, validate=True) for h in hashes]
        at = note.rindex("\n\n")
        text, lines = note[:at + 1], note[at + 2:]
    except ValueError as e:
        raise Refusal(400) from e
    if word != "old" or len(hashes) > 63 or any(len(h) != 32 for h in hashes) or not lines.endswith("\n"):
        raise Refusal(400)
    return number(old), hashes, text, lines.splitlines()


class Witness:
    """answer(handler, body, default) may answer in its place."""

    def __init__(self, folder, name, logs=(), port=0):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.key = Key(self.folder, name)
        self.state_file = self.folder / "state.json"
        self.logs = {}  # origin -> public keys by their id
        for vkey in logs:
            self.trust(vkey)
        self.lock = threading.Lock()
        self.answer = None
        self.requests = []  # bodies, in order
        self.answers = []  # statuses
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append(body)
                if outer.answer is not None:
                    outer.answer(self, body)
                    return
                if self.path != "/w/add-checkpoint":
                    self.send(404, b"no such page\n")
                    return
                self.send(*outer.add_checkpoint(body))

            def send(self, status, body, kind="text/plain", **headers):
                outer.answers.append(status)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that was killed, or has lost patience

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/w"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def trust(self, vkey):
        name, key_id, public = parse_vkey(vkey)
        self.logs.setdefault(name, {})[key_id] = public

    def vkey(self, kind=4):
        return self.key.vkey(kind)

    def section(self, name):
        return f"[witness {name}]\nurl = {self.url}\nkey = {self.vkey()}\n"

    # --- the protocol ---
    def state(self):
        return json.loads(self.state_file.read_text()) if self.state_file.exists() else {}

    def keep(self, state):
        new = self.folder / "state.json.new"
        with open(new, "w", encoding="utf-8") as f:
            json.dump(state, f)
            f.flush()
            os.fsync(f.fileno())
        new.rename(self.state_file)

    def check_signature(self, origin, text, lines):
        known = self.logs.get(origin)
        if known is None:
            raise Refusal(404)
        for line in lines:
            try:
                dash, name, value = line.split(" ")
                raw = base64.b64decode(value, validate=True)
            except ValueError as e:
                raise Refusal(400) from e
            if dash != "\u2014" or len(raw) < 5:
                raise Refusal(400)
            public = known.get(raw[:4]) if name == origin else None
            if public is not None and ed25519_holds(self.folder, public, text.encode(), raw[4:]):
                return
        raise Refusal(403)

    def judge(self, body):
        old, hashes, text, lines = read_request(body)
        parts = text.split("\n")
        if len(parts) < 4:
            raise Refusal(400)
        origin, size, root = parts[0], number(parts[1]), parts[2]
        self.check_signature(origin, text, lines)
        if old > size:
            raise Refusal(400)
        with self.lock:  # atomically: look, check, keep
            state = self.state()
            seen = state.get(origin, {"size": 0, "root": None})
            if old != seen["size"]:
                raise Refusal(409, f"{seen['size']}\n".encode(), "text/x.tlog.size")
            if old == size and old > 0 and root != seen["root"]:
                raise Refusal(409, b"another tree of this size\n")
            raw = base64.b64decode(root, validate=True)
            if old == 0:
                if hashes:
                    raise Refusal(422)
            elif not consistency_holds(old, size, hashes, base64.b64decode(seen["root"]), raw):
                raise Refusal(422)
            self.keep({**state, origin: {"size": size, "root": root}})
        return self.key.cosign(text)

    def add_checkpoint(self, body):
        """(status, body, content type)"""
        try:
            return 200, self.judge(body).encode(), "text/plain"
        except Refusal as r:
            return r.status, r.body, r.kind

    def size(self, origin):
        return self.state().get(origin, {"size": 0})["size"]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    w = Witness(sys.argv[1], "witness.example/program", sys.argv[3:], int(sys.argv[2]))
    print(w.url, w.vkey(), flush=True)
    w.thread.join()
