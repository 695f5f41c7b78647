# SPDX-License-Identifier: Apache-2.0
"""Endpoints of the configuration: who is told of what, new secrets without a gap, tests, and what an
operator sees; at last the official library of Standard Webhooks as the receiver."""
import json
import shutil
import subprocess

import pytest
from conftest import BIN, DIGITS, ROOT
from test_webhooks import (LOCAL, STEPS, attempts, audit, drained, metric, receiver,  # noqa: F401
                           secret_of, wait)


def configured(tmp_path, **webhooks):
    """-c FILE with a [webhook NAME] for each name=(url, events)."""
    text = "".join(f"[webhook {n}]\nurl = {u}\n" + (f"events = {e}\n" if e else "")
                   for n, (u, e) in webhooks.items())
    path = tmp_path / "unlearnd.conf"
    path.write_text(text)
    return ["-c", str(path)]


def listed(d):
    return {w["name"]: w for w in d.ok("GET", "/v1/webhooks")["items"]}


def test_each_endpoint_hears_of_what_it_asked_for(make_daemon, receiver, tmp_path, digits):  # noqa: F811
    r = receiver()
    d = make_daemon(*LOCAL, *configured(tmp_path, plain=(r.url + "/plain", None), all=(r.url + "/all", "*"),
                                        some=(r.url + "/some", "model.trained, erasure.completed")))
    d.create(**DIGITS)
    d.load("digits", digits[:300])
    d.train("digits")
    d.erase(subjects=["s3"])
    drained(d)
    types = {n: [m["type"] for m in r.messages(secret_of(d, n), "/" + n)] for n in ("plain", "all", "some")}
    assert sorted(types["plain"]) == sorted(STEPS)
    assert sorted(types["some"]) == ["erasure.completed", "model.trained"]
    log = [e["type"] for e in d.ok("GET", "/v1/audit?limit=1000")["items"]]
    assert sorted(types["all"]) == sorted(log)
    # secrets are the endpoint's own
    with pytest.raises(AssertionError):
        r.messages(secret_of(d, "all"), "/plain")
    w = listed(d)["some"]
    assert w["state"] == "enabled" and w["pending"] == 0 and w["last_outcome"] == "delivered"
    assert w["last_status"] == 204 and w["failures"] == 0 and w["last_delivered_at"]
    assert "whsec_" not in json.dumps(listed(d)) + "".join(d.log)


def test_a_new_secret_comes_without_a_gap(make_daemon, receiver, tmp_path):  # noqa: F811
    r = receiver()
    d = make_daemon(*LOCAL, *configured(tmp_path, crm=(r.url + "/crm", None)))
    old = secret_of(d, "crm")
    a = d.ok("POST", "/v1/webhooks/crm/rotate", {"overlap_seconds": 3600}, status=200)
    assert a["secret"] != old and a["secret"] == secret_of(d, "crm")
    for _ in range(2):
        d.erase(subjects=["nobody"])
        drained(d)
        assert r.messages(old) == r.messages(a["secret"]), "both verify every message"
        d.restart()
    last = d.ok("POST", "/v1/webhooks/crm/rotate", {"overlap_seconds": 0}, status=200)["secret"]
    count = len(r.seen())
    d.erase(subjects=["nobody"])
    drained(d)
    for secret in (old, a["secret"]):
        with pytest.raises(AssertionError):
            r.messages(secret)
    _, headers, body = r.seen()[count]
    from receiver import verify
    verify(last, {k.lower(): v for k, v in headers.items()}, body)
    entries = audit(d, "webhook.rotated")
    assert [e["data"]["webhook"] for e in entries] == ["crm", "crm"]
    assert not any(s in json.dumps(entries) + "".join(d.log) for s in (old, a["secret"], last, "whsec_"))
    # that of all callbacks
    callbacks = d.ok("POST", "/v1/webhooks/callbacks/rotate", status=200)["secret"]
    d.erase(subjects=["nobody"], callback_url=r.url + "/cb")
    r.wait(4, "/cb")
    assert len(r.messages(callbacks, "/cb")) == 4


def test_an_endpoint_that_went_away_is_told_again_once_enabled(make_daemon, receiver, tmp_path):  # noqa: F811
    gone = [True]
    r = receiver(lambda n, path: (410 if gone[0] else 204, {}))
    options = [*LOCAL, *configured(tmp_path, crm=(r.url + "/crm", "erasure.completed"))]
    d = make_daemon(*options)
    d.erase(subjects=["nobody"])
    wait("its end", lambda: listed(d)["crm"]["state"] == "disabled")
    d.erase(subjects=["nobody"])
    drained(d)
    assert len(r.seen()) == 1
    assert d.post("/v1/webhooks/crm/test").status_code == 409
    gone[0] = False
    d.restart()
    assert listed(d)["crm"]["state"] == "disabled", "a restart does not enable it"
    assert d.ok("POST", "/v1/webhooks/crm/enable", status=200)["state"] == "enabled"
    d.ok("POST", "/v1/webhooks/crm/enable", status=200)
    assert len(audit(d, "webhook.enabled")) == 1
    d.erase(subjects=["nobody"])
    r.wait(2)
    drained(d)
    assert listed(d)["crm"]["last_outcome"] == "delivered"


def test_one_that_leaves_the_configuration_is_told_nothing_more(make_daemon, receiver, tmp_path):  # noqa: F811
    r = receiver(lambda n, path: (503, {"Retry-After": "60"}))
    d = make_daemon(*LOCAL, *configured(tmp_path, crm=(r.url + "/crm", None)))
    d.erase(subjects=["nobody"])
    wait("an attempt", lambda: attempts(d, "status"))
    d.stop()
    (tmp_path / "unlearnd.conf").write_text("")
    d.start()
    drained(d)
    assert listed(d) == {}
    count = len(r.seen())
    d.stop()
    (tmp_path / "unlearnd.conf").write_text(f"[webhook crm]\nurl = {r.url}/new\n")
    r.answer = lambda n, path: (204, {})
    d.start()
    d.erase(subjects=["nobody"])
    drained(d)
    assert [p for p, _, _ in r.seen()[count:]] == ["/new"] * 4


def test_names_that_are_none_and_bodies_that_are_wrong(daemon):
    for call in ("rotate", "enable", "test"):
        assert daemon.post(f"/v1/webhooks/nobody/{call}").status_code == 404
    assert daemon.get("/v1/webhooks/nobody").status_code == 404
    assert daemon.get("/v1/webhooks/" + "x" * 300).status_code == 404
    assert daemon.get("/v1/webhooks?cursor=zz").status_code == 400
    for body in ({"overlap_seconds": -1}, {"overlap_seconds": 2592001}, {"overlap_seconds": "1"}, {"x": 1}):
        assert daemon.post("/v1/webhooks/callbacks/rotate", body).status_code == 422, body
    assert daemon.post("/v1/webhooks/callbacks/enable").status_code == 404


def test_a_configuration_that_cannot_be_is_refused_at_start(tmp_path):
    for url, word in (("http://example.org/", "https"), ("https://u:p@example.org/", "password"),
                      ("https://example.org/#x", "fragment")):
        options = configured(tmp_path, crm=(url, None))
        r = subprocess.run([str(BIN / "unlearnd"), "--data-dir", str(tmp_path / "d"), "--listen", "127.0.0.1:0",
                            *options], capture_output=True, text=True, timeout=30)
        assert r.returncode == 1 and word in r.stderr and "crm" in r.stderr, r.stderr
        assert url not in r.stderr


def test_a_damaged_secret_stops_the_start_and_is_not_told(make_daemon, tmp_path):
    d = make_daemon(*LOCAL)
    d.stop()
    path = d.data_dir / "keys" / "webhook.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("whsec_c2VjcmV0\n")
    r = subprocess.run([str(BIN / "unlearnd"), "--data-dir", str(d.data_dir), "--listen", "127.0.0.1:0"],
                       capture_output=True, text=True, timeout=30)
    assert r.returncode == 1 and "webhook.secret" in r.stderr and "c2VjcmV0" not in r.stderr


def test_a_backup_with_keys_has_the_secrets(make_daemon, tmp_path, receiver):  # noqa: F811
    r = receiver()
    options = [*LOCAL, "--backup-dir", str(tmp_path / "backups"), *configured(tmp_path, crm=(r.url, None))]
    d = make_daemon(*options)
    for name, with_keys in (("with", True), ("without", False)):
        job = d.ok("POST", "/v1/backups", {"directory": name, "with_keys": with_keys}, status=202)
        assert d.wait_job(job["id"])["state"] == "succeeded"
        kept = sorted(p.name for p in (tmp_path / "backups" / name / "keys").glob("*")) if with_keys else []
        assert kept == (["log.key", "pseudonym.key", "webhook-crm.secret", "webhook.secret"] if with_keys else [])
    assert not any(secret_of(d).encode() in p.read_bytes()
                   for p in (tmp_path / "backups/without").rglob("*") if p.is_file())
    d.ctl("restore", tmp_path / "backups/with", "--data-dir", tmp_path / "again")
    assert (tmp_path / "again/keys/webhook-crm.secret").read_text().split()[0] == secret_of(d, "crm")


def test_the_client_lists_tests_rotates_and_enables(make_daemon, receiver, tmp_path):  # noqa: F811
    say = [204]
    r = receiver(lambda n, path: (say[0], {}))
    d = make_daemon(*LOCAL, *configured(tmp_path, crm=(r.url + "/crm", None)))
    assert "delivered" in d.ctl("webhook", "test", "crm").stdout
    m = r.messages(secret_of(d, "crm"))
    assert [x["type"] for x in m] == ["webhook.test"] and m[0]["data"] == {"webhook": "crm"}
    said = d.ctl("webhook", "rotate", "crm", "--overlap", "60").stdout.strip()
    assert said == secret_of(d, "crm")
    assert json.loads(d.ctl("--json", "webhook", "rotate", "crm").stdout)["secret"] == secret_of(d, "crm")
    assert "crm" in d.ctl("webhook", "list").stdout
    say[0] = 500
    assert d.ctl("webhook", "test", "crm", check=False).returncode == 1
    say[0] = 410
    wait("its end", lambda: listed(d)["crm"]["state"] == "disabled")
    assert d.ctl("webhook", "test", "crm", check=False).returncode == 1
    d.ctl("webhook", "enable", "crm")
    assert listed(d)["crm"]["state"] == "enabled"
    assert d.ctl("webhook", "enable", "nobody", check=False).returncode == 1


@pytest.fixture(scope="session")
def official():
    """A folder with the official library, fetched once a build."""
    folder = ROOT / "build" / "npm"
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    if not (folder / "node_modules/standardwebhooks").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0",
                            "--prefix", str(folder), "standardwebhooks@1.0.0"], capture_output=True, timeout=120)
        if r.returncode != 0:
            pytest.skip("npm cannot fetch the package standardwebhooks")
    shutil.copy(ROOT / "tests" / "receiver.js", folder / "receiver.js")
    return folder


def test_the_official_library_takes_our_messages_and_no_others(make_daemon, official):
    d = make_daemon(*LOCAL)
    right = secret_of(d)
    wrong = "whsec_" + "QUFB" * 11
    for secret, taken in ((right, True), (wrong, False)):
        node = subprocess.Popen(["node", str(official / "receiver.js"), secret], stdout=subprocess.PIPE, text=True)
        try:
            port = int(node.stdout.readline())
            e = d.erase(subjects=["nobody"], reference="R-1", callback_url=f"http://127.0.0.1:{port}/x")
            lines = [json.loads(node.stdout.readline()) for _ in range(4)]
            if taken:
                assert sorted(x["message"]["type"] for x in lines) == sorted(STEPS), lines
                assert {x["message"]["data"]["erasure"] for x in lines} == {e["id"]}
                drained(d)
                # after a rotation both signatures stand in one header, and the old secret still verifies
                d.ok("POST", "/v1/webhooks/callbacks/rotate", status=200)
                d.erase(subjects=["nobody"], callback_url=f"http://127.0.0.1:{port}/y")
                lines = [json.loads(node.stdout.readline()) for _ in range(4)]
                assert all("message" in x and " v1," in x["headers"]["webhook-signature"] for x in lines)
                drained(d)
            else:
                assert all("No matching signature" in x["refused"] for x in lines), lines
                wait("refusals", lambda: attempts(d, "status") >= 4)
        finally:
            node.kill()
            node.wait()
