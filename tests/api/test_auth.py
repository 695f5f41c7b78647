# SPDX-License-Identifier: Apache-2.0
"""Who may do what: the whole matrix of routes and scopes, as api/openapi.yaml states it."""
import hashlib
import json
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from shutil import which

import pytest
import requests
import yaml
from conftest import BIN, OPTIONS, ROOT, Daemon
from controller import make_identity

SPEC = yaml.safe_load((ROOT / "api" / "openapi.yaml").read_text())
SCOPES = ("ingest", "predict", "erase", "audit", "admin")
ULID = "01M8854P3FMPWKZ3V5DDT2W63G"
FILL = {"{m}": "nobody-made-this", "{id}": ULID, "{index}": "999999", "{pseudonym}": "0" * 32, "{v}": "1",
        "{webhook}": "nobody"}
ROUTES = [(method.upper(), path, op["security"]) for path, item in SPEC["paths"].items()
          for method, op in item.items() if method in ("get", "post", "delete", "put", "patch")]


def token_line(name, scopes, token, rate=""):
    return f"{name} {scopes} {hashlib.sha256(token.encode()).hexdigest()} {rate}\n"


@pytest.fixture(scope="module")
def tokens():
    return {s: secrets.token_urlsafe(24) for s in SCOPES}


@pytest.fixture(scope="module")
def guarded(tokens):
    with tempfile.TemporaryDirectory(prefix="unlearnd-test-") as folder:
        path = Path(folder) / "tokens"
        path.write_text("# comment\n\n" + "".join(token_line("t-" + s, s, t) for s, t in tokens.items()))
        key, certificate = make_identity(folder, "example.org")
        d = Daemon(Path(folder) / "data", "--tokens-file", str(path), "--log-level", "debug",
                   "--opendsr-domain", "example.org", "--opendsr-key-file", str(key),
                   "--opendsr-certificate-file", str(certificate), auth=True)
        try:
            d.tokens_path = path
            yield d
        finally:
            d.stop()


def call(d, method, path, token=None, **kw):
    for name, value in FILL.items():
        path = path.replace(name, value)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if path == "/v1/events":
        headers["Last-Event-ID"] = "999999999"  # 409, in place of a stream without end
    return d.request(method, path, headers={**headers, **kw.pop("headers", {})}, **kw)


def wanted(security):
    """None: open; else the scopes that open it."""
    if not security or {} in security:
        return None
    return {s for alternative in security for s in alternative["bearer"]} | {"admin"}


@pytest.mark.parametrize("method,path,security", ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_every_route_against_every_scope(guarded, tokens, method, path, security):
    scopes = wanted(security)
    is_v2 = path.startswith(("/v2", "/opendsr/"))  # errors of shapes of their own
    r = call(guarded, method, path)
    if scopes is None:
        assert r.status_code == 200
    else:
        assert r.status_code == 401 and r.headers["WWW-Authenticate"].startswith("Bearer")
        assert ("error" in r.json()) if is_v2 else (r.json()["status"] == 401)
        r = call(guarded, method, path, "not-a-token")
        assert r.status_code == 401 and "invalid_token" in r.headers["WWW-Authenticate"]
    for scope, token in tokens.items():
        r = call(guarded, method, path, token)
        if scopes is None or scope in scopes:
            assert r.status_code not in (401, 403), (scope, r.text)
        else:
            assert r.status_code == 403, (scope, r.text)
            assert "insufficient_scope" in r.headers["WWW-Authenticate"]
            assert ("error" in r.json()) if is_v2 else (r.json()["status"] == 403)


def test_malformed_credentials(guarded, tokens):
    token = tokens["admin"]
    for header in ("", "Bearer", "Bearer ", f"Basic {token}", token, f"Bearer {token} x", f"Bearer {token}x",
                   f"Bearer {token[:-1]}", "Bearer " + "a" * 5000, "Bearer \xff",
                   "Bearer " + hashlib.sha256(token.encode()).hexdigest()):
        r = guarded.get("/v1/models", headers={"Authorization": header.encode("latin-1")})
        assert r.status_code == 401, header
    assert guarded.get("/v1/models", headers={"Authorization": f"bearer {token}"}).status_code == 200


def test_a_refused_upload_changes_nothing_and_its_end_is_not_waited_for(guarded, tokens):
    call(guarded, "POST", "/v1/models", tokens["ingest"], json={
        "name": "m", "kind": "softmax", "features": 1, "classes": 2})
    line = b'{"id": "a", "label": "0", "features": [1]}\n'
    for token, status in ((None, 401), (tokens["predict"], 403)):
        r = call(guarded, "POST", "/v1/models/m/records", token, data=line * 1000,
                 headers={"Content-Type": "application/x-ndjson"})
        assert r.status_code == status
    assert call(guarded, "GET", "/v1/models/m", tokens["ingest"]).json()["records"] == 0
    host, port = guarded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(b"POST /v1/models/m/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
                  b"Content-Length: 5000000000\r\n\r\n" + line)
        assert s.recv(100).startswith(b"HTTP/1.1 401")


def test_the_audit_log_names_the_token_and_never_shows_it(guarded, tokens):
    r = call(guarded, "POST", "/v1/erasures", tokens["erase"], json={"subjects": ["jane@example.org"]})
    assert r.status_code == 202
    entries = call(guarded, "GET", "/v1/audit?order=desc", tokens["audit"]).json()["items"]
    assert "t-erase" in {e["actor"] for e in entries}
    text = json.dumps(entries) + "\n".join(guarded.log)
    for token in tokens.values():
        assert token not in text
        assert hashlib.sha256(token.encode()).hexdigest() not in text
    assert "jane@example.org" not in text
    for p in guarded.data_dir.rglob("*"):
        if p.is_file():
            with p.open("rb") as f:
                data = f.read(1 << 24)
            assert not any(t.encode() in data for t in tokens.values()), p


def test_quotas_are_announced_and_kept(make_daemon, tmp_path):
    token, free = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    path = tmp_path / "tokens"
    path.write_text(token_line("few", "audit", token, "rate=5/30") + token_line("free", "audit", free))
    d = make_daemon("--tokens-file", str(path), auth=True)
    for k in range(5):
        r = call(d, "GET", "/v1/audit", token)
        assert r.status_code == 200
        assert r.headers["RateLimit-Policy"] == '"default";q=5;w=30'
        left, reset = re.fullmatch(r'"default";r=(\d+);t=(\d+)', r.headers["RateLimit"]).groups()
        assert int(left) == 4 - k and 1 <= int(reset) <= 30
    r = call(d, "GET", "/v1/audit", token)
    assert r.status_code == 429 and 1 <= int(r.headers["Retry-After"]) <= 30
    assert r.headers["Content-Type"].startswith("application/problem+json") and r.json()["status"] == 429
    assert r.headers["RateLimit"].startswith('"default";r=0;')
    r = call(d, "GET", "/v1/audit", free)
    assert r.status_code == 200 and "RateLimit" not in r.headers
    # a reload forgives nothing
    d.process.send_signal(signal.SIGHUP)
    wait_log(d, "reloaded")
    assert call(d, "GET", "/v1/audit", token).status_code == 429


def wait_log(d, word, seconds=10):
    end = time.monotonic() + seconds
    while not any(word in line for line in d.log):
        assert time.monotonic() < end, d.log
        time.sleep(0.01)


def test_sighup_reads_the_tokens_again_and_keeps_them_where_the_file_is_broken(make_daemon, tmp_path):
    old, new = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    path = tmp_path / "tokens"
    path.write_text(token_line("old", "admin", old))
    d = make_daemon("--tokens-file", str(path), auth=True)
    assert call(d, "GET", "/v1/models", old).status_code == 200
    path.write_text("nonsense\n")
    d.process.send_signal(signal.SIGHUP)
    wait_log(d, "reload_failed")
    assert call(d, "GET", "/v1/models", old).status_code == 200
    path.write_text(token_line("new", "admin", new))
    d.process.send_signal(signal.SIGHUP)
    wait_log(d, "reloaded")
    assert call(d, "GET", "/v1/models", old).status_code == 401
    assert call(d, "GET", "/v1/models", new).status_code == 200


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
@pytest.mark.parametrize("options", [[], ["--insecure-no-auth"]])
def test_without_tokens_it_listens_on_loopback_only(tmp_path, listen, options):
    r = subprocess.run([str(BIN / "unlearnd"), *OPTIONS, "--data-dir", str(tmp_path / "d"), "--listen", listen,
                        *options], capture_output=True, text=True, timeout=20)
    assert r.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT)
    assert "listening on" not in r.stderr and "refusing to listen on" in r.stderr, r.stderr
    assert "token" in r.stderr or "authentication" in r.stderr


def own_address():
    """One of this machine that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return s.getsockname()[0]


def test_with_tokens_it_may_listen_everywhere(tmp_path):
    """Metrics are for anybody on the machine itself, who comes by loopback."""
    path = tmp_path / "tokens"
    path.write_text(token_line("a", "admin", "x" * 32))
    p = subprocess.Popen([str(BIN / "unlearnd"), *OPTIONS, "--data-dir", str(tmp_path / "d"), "--listen", "0.0.0.0:0",
                          "--tokens-file", str(path)], stderr=subprocess.PIPE, text=True)
    try:
        line = next(x for x in p.stderr if x.startswith("listening on"))
        port = line.rsplit(":", 1)[1].strip()
        assert requests.get(f"http://127.0.0.1:{port}/v1/models", timeout=10).status_code == 401
        assert requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).status_code == 200
        if (address := own_address()) is None:
            pytest.skip("this machine has no address beside loopback; the rest of this test held")
        url = f"http://{address}:{port}/metrics"
        assert requests.get(url, timeout=10).status_code == 401
        r = requests.get(url, timeout=10, headers={"Authorization": "Bearer " + "x" * 32})
        assert r.status_code == 200
    finally:
        p.terminate()
        assert p.wait(20) == 0
        p.stderr.close()


@pytest.mark.parametrize("text", ["", "a admin\n", "a admin zz\n", "a root " + "0" * 64 + "\n",
                                  "a admin " + "0" * 64 + " rate=0/1\n", "a b c d e f\n"])
def test_a_broken_tokens_file_stops_the_start(tmp_path, text):
    path = tmp_path / "tokens"
    path.write_text(text)
    r = subprocess.run([str(BIN / "unlearnd"), *OPTIONS, "--data-dir", str(tmp_path / "d"), "--listen", "127.0.0.1:0",
                        "--tokens-file", str(path)], capture_output=True, text=True, timeout=20)
    assert r.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT) and "token" in r.stderr


def test_foreign_web_pages_are_kept_out_of_an_open_daemon(daemon):
    port = daemon.url.rsplit(":", 1)[1]
    for origin in ("https://evil.example", "null", f"http://localhost.evil:{port}", "http://127.0.0.1:1"):
        r = daemon.post("/v1/erasures", {"subjects": ["x"]}, headers={"Origin": origin})
        assert r.status_code == 403, origin
    r = daemon.get("/v1/models", headers={"Origin": f"http://127.0.0.1:{port}"})
    assert r.status_code == 200 and "Access-Control-Allow-Origin" not in r.headers


def test_metrics_are_what_prometheus_reads(daemon, digits):
    from conftest import DIGITS
    daemon.create(**DIGITS)
    daemon.load("digits", digits[:300])
    daemon.train("digits")
    daemon.infer("digits", [digits[0]["features"]])
    daemon.erase(subjects=["s1"])
    r = daemon.get("/metrics")
    assert r.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = set()
    for line in r.text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) unlearnd_[a-z0-9_]+ ", line), line
        else:
            m = re.fullmatch(r'(unlearnd_[a-z0-9_]+)(\{([a-z_]+="[^"\n]*",?)+\})? [0-9eE.+-]+|.*(NaN|\+Inf)', line)
            assert m, line
            names.add(line.split("{")[0].split(" ")[0])
    assert any("_total" in n for n in names) and any(n.endswith("_seconds_bucket") for n in names)
    assert "s1" not in re.findall(r'"([^"]*)"', r.text)
    if which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus); the rest of this test held")
    p = subprocess.run(["promtool", "check", "metrics"], input=r.text, capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
