# SPDX-License-Identifier: Apache-2.0
"""Webhooks and callbacks, as their receivers see them: signed, at least once, in spite of kills, and
never to where they must not go."""
import json
import socket
import time

import pytest
from conftest import DIGITS
from receiver import Receiver, verify

FAST = ["--delivery-retry-ms", "20", "--delivery-timeout-ms", "1000"]
LOCAL = ["--allow-networks", "127.0.0.0/8", *FAST]
STEPS = ["erasure.accepted", "erasure.forgotten", "erasure.scrubbed", "erasure.completed"]


@pytest.fixture
def receiver():
    made = []

    def make(answer=lambda n, path: (204, {})):
        made.append(Receiver(answer))
        return made[-1]

    yield make
    for r in made:
        r.close()


def secret_of(daemon, name=None):
    file = f"webhook-{name}.secret" if name else "webhook.secret"
    return (daemon.data_dir / "keys" / file).read_text().split()[0]


def metric(daemon, name):
    for line in daemon.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    raise AssertionError(f"no metric {name}")


def attempts(daemon, outcome):
    return metric(daemon, f'unlearnd_delivery_attempts_total{{outcome="{outcome}"}}')


def wait(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.01)
    return found


def drained(daemon):
    wait("an empty queue", lambda: metric(daemon, "unlearnd_deliveries_pending") == 0)


def audit(daemon, type_):
    return daemon.ok("GET", f"/v1/audit?type={type_}")["items"]


def test_a_callback_hears_every_step_signed_and_without_personal_data(make_daemon, receiver, digits):
    d, r = make_daemon(*LOCAL), receiver()
    d.create(**DIGITS)
    d.load("digits", digits[:300])
    d.train("digits")
    e = d.erase(subjects=["s3"], reference="DSR-7", callback_url=r.url + "/cb?token=x")
    r.wait(4, "/cb?token=x")
    drained(d)
    messages = r.messages(secret_of(d))
    assert sorted(m["type"] for m in messages) == sorted(STEPS)
    for m in messages:
        assert set(m) == {"type", "timestamp", "data"}
        assert m["data"]["erasure"] == e["id"] and m["data"]["reference"] == "DSR-7"
    for _, headers, body in r.seen():
        assert b'"s3"' not in body and headers["Content-Type"] == "application/json"
        assert headers["webhook-id"].startswith("msg_")
    forgotten = next(m for m in messages if m["type"] == "erasure.forgotten")
    entry = audit(d, "erasure.forgotten")[0]
    assert forgotten["data"] == entry["data"] and forgotten["timestamp"] == entry["time"]
    # an erasure without one tells nobody
    d.erase(subjects=["s4"])
    drained(d)
    assert len(r.seen()) == 4
    assert attempts(d, "delivered") == 4


def test_another_secret_or_another_byte_does_not_verify(make_daemon, receiver):
    d, r = make_daemon(*LOCAL), receiver()
    d.erase(subjects=["nobody"], callback_url=r.url)
    _, headers, body = r.wait(1)[0]
    headers = {k.lower(): v for k, v in headers.items()}
    secret = secret_of(d)
    verify(secret, headers, body)
    with pytest.raises(AssertionError):
        verify(secret, headers, body.replace(b"erasure", b"Erasure", 1))
    with pytest.raises(AssertionError):
        verify(secret, {**headers, "webhook-id": "msg_x"}, body)
    with pytest.raises(AssertionError):
        verify("whsec_" + "A" * 44, headers, body)


def test_what_fails_is_tried_again_with_the_same_id_until_it_is_taken(make_daemon, receiver):
    d, r = make_daemon(*LOCAL), receiver(lambda n, path: (500, {}) if n < 3 else (200, {}))
    d.erase(subjects=["nobody"], callback_url=r.url + "/x")
    drained(d)
    assert len(r.messages(secret_of(d))) == 4
    first = r.seen()[0][1]["webhook-id"]
    again = [h for _, h, _ in r.seen() if h["webhook-id"] == first]
    assert len(again) >= 2, "it was not repeated"
    assert attempts(d, "status") == 3 and attempts(d, "delivered") == 4


def test_a_retry_never_comes_before_retry_after(make_daemon, receiver):
    times = []

    def answer(n, path):
        times.append(time.monotonic())
        return (503, {"Retry-After": "2"}) if n == 0 else (200, {})

    d, r = make_daemon(*LOCAL), receiver(answer)
    d.erase(subjects=["nobody"], callback_url=r.url)
    first = r.wait(1)[0][1]["webhook-id"]
    drained(d)
    again = [i for i, (_, h, _) in enumerate(r.seen()) if h["webhook-id"] == first]
    assert len(again) == 2 and times[again[1]] - times[again[0]] >= 2


def test_410_disables_an_endpoint_and_drops_what_waits_for_it(make_daemon, receiver):
    d, r = make_daemon(*LOCAL), receiver(lambda n, path: (410, {}))
    url = r.url + "/gone"
    d.erase(subjects=["nobody"], callback_url=url)
    r.wait(1)
    drained(d)
    wait("its audit entry", lambda: audit(d, "endpoint.disabled"))
    count = len(r.seen())
    d.restart()
    d.erase(subjects=["nobody else"], callback_url=url)
    drained(d)
    assert len(r.seen()) == count, "it is told of more"
    assert len(audit(d, "endpoint.disabled")) == 1
    assert url not in json.dumps(audit(d, "endpoint.disabled")), "the address is in the log"


def test_a_callback_that_was_gone_is_tried_again_later(make_daemon, receiver):
    """It has no name that an operator could enable."""
    d, r = make_daemon(*LOCAL, "--delivery-give-up-s", "2"), receiver(lambda n, path: (410 if n == 0 else 200, {}))
    d.erase(subjects=["nobody"], callback_url=r.url)
    wait("its audit entry", lambda: audit(d, "endpoint.disabled"))
    drained(d)
    count = len(r.seen())
    time.sleep(2.5)
    d.erase(subjects=["nobody else"], callback_url=r.url)
    drained(d)
    assert len(r.seen()) > count


def test_redirects_are_failures_and_are_not_followed(make_daemon, receiver):
    other = receiver()
    d, r = make_daemon(*LOCAL), receiver(
        lambda n, path: (302, {"Location": other.url}) if n < 2 else (200, {}))
    d.erase(subjects=["nobody"], callback_url=r.url)
    drained(d)
    assert not other.seen() and len(r.seen()) > 4


def test_one_that_is_too_old_is_given_up_with_an_audit_entry(make_daemon, receiver):
    d = make_daemon(*LOCAL, "--delivery-give-up-s", "3")
    r = receiver(lambda n, path: (500, {}))
    e = d.erase(subjects=["nobody"], callback_url=r.url)
    drained(d)
    entries = audit(d, "delivery.abandoned")
    assert len(entries) == 4
    for x in entries:
        assert x["data"]["erasure"] == e["id"] and x["data"]["status"] == 500
        assert x["data"]["type"] in STEPS and r.url not in json.dumps(x)
    assert max(x["data"]["attempts"] for x in entries) >= 2
    assert metric(d, "unlearnd_deliveries_abandoned_total") == 4


def gigabytes(handler):
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x" * 65536)
    except OSError:
        pass


def test_receivers_that_hang_or_never_stop_keep_nobody_waiting(make_daemon, receiver):
    """Forty of them, over the places that there are; the good one hears at once."""
    d = make_daemon(*LOCAL)
    bad = receiver(lambda n, path: bad.hang)
    endless = receiver(lambda n, path: gigabytes)
    good = receiver()
    for i in range(40):
        d.erase(wait=False, subjects=["nobody"], callback_url=f"{bad.url}/{i}")
    bad.wait(10)
    began = time.monotonic()
    for i in range(20):
        d.erase(wait=False, subjects=["nobody"], callback_url=f"{good.url}/good")
    good.wait(80)
    assert time.monotonic() - began < 10
    d.erase(wait=False, subjects=["nobody"], callback_url=endless.url)
    endless.wait(4)  # it said 200: taken, whatever follows
    wait("timeouts", lambda: attempts(d, "timeout") >= 16)
    memory = int((d.process and open(f"/proc/{d.process.pid}/statm").read().split()[1])) * 4096
    assert memory < 300 << 20
    d.stop()  # with attempts under way


def test_only_public_addresses_are_spoken_to_by_default(make_daemon, receiver):
    """Whatever name or number leads there: no connection comes."""
    d, r = make_daemon(*FAST), receiver()
    hosts = ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0.0.0.0", "[::1]",
             "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "[fd00:ec2::254]", "[fe80::1]"]
    for host in hosts:
        e = d.post("/v1/erasures", {"subjects": ["nobody"], "callback_url": f"https://{host}:{r.port}/"})
        assert e.status_code == 202, e.text  # where a name leads is known when it is connected to
    wait("refusals", lambda: attempts(d, "refused") >= 4 * len(hosts))
    assert attempts(d, "delivered") == attempts(d, "unreachable") == attempts(d, "tls") == 0
    assert not r.seen()


@pytest.mark.parametrize("url", ["http://example.org/", "ftp://example.org/", "example.org", "", "https://",
                                 "https://u:p@example.org/", "https://example.org/#f", 7, None,
                                 "https://example.org/" + "x" * 2048, "https://exa mple.org/"])
def test_an_address_that_is_none_is_refused_by_name(daemon, url):
    r = daemon.post("/v1/erasures", {"subjects": ["nobody"], "callback_url": url})
    assert r.status_code == 422, r.text
    assert r.json()["errors"][0]["pointer"] == "/callback_url"
    assert not daemon.ok("GET", "/v1/erasures")["items"]


def test_tls_is_verified(make_daemon, receiver, tmp_path):
    """A certificate that nobody we trust has signed, one of another name, and one that is right."""
    import ssl
    import subprocess
    for name, san in (("good", "IP:127.0.0.1"), ("other", "DNS:example.org")):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", f"/CN={name}", "-addext", f"subjectAltName={san}",
                        "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"],
                       check=True, capture_output=True)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes((tmp_path / "good.pem").read_bytes() + (tmp_path / "other.pem").read_bytes())

    def serve(name):
        r = receiver()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        r.server.socket = context.wrap_socket(r.server.socket, server_side=True)
        return r

    good, other = serve("good"), serve("other")
    patient = [*LOCAL, "--delivery-timeout-ms", "20000"]  # a handshake is slow on a busy machine
    strict = make_daemon(*patient)
    strict.erase(subjects=["nobody"], callback_url=f"https://127.0.0.1:{good.port}/")
    wait("distrust", lambda: attempts(strict, "tls") >= 2)
    trusting = make_daemon(*patient, "--ca-file", str(bundle))
    trusting.erase(subjects=["nobody"], callback_url=f"https://127.0.0.1:{good.port}/")
    drained(trusting)
    assert len(good.messages(secret_of(trusting))) == 4
    trusting.erase(subjects=["nobody"], callback_url=f"https://127.0.0.1:{other.port}/")
    wait("distrust", lambda: attempts(trusting, "tls") >= 2)
    assert not other.seen()


def test_a_kill_between_the_answer_and_the_delivery_loses_none(make_daemon, receiver):
    """The receiver is down while the erasures come; then the daemon is killed, and tells the rest."""
    d = make_daemon(*LOCAL)
    with socket.socket() as s:  # a port where nobody listens
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        expected = set()
        for i in range(20):
            e = d.erase(wait=False, subjects=[f"nobody{i}"],
                        callback_url=f"http://127.0.0.1:{port}/{i}")
            expected |= {(e["id"], step) for step in STEPS}
        d.kill()
    r = Receiver(port=port)
    try:
        d.start()
        for e in {e for e, _ in expected}:
            d.wait_erasure(e)
        for _ in range(3):
            d.kill()
            d.start()
        drained(d)
        got = [(m["data"]["erasure"], m["type"]) for m in r.messages(secret_of(d))]
        assert set(got) == expected and len(got) == len(expected), "told exactly what happened"
    finally:
        r.close()


def test_a_repeated_request_or_a_dry_run_tells_nothing_twice(make_daemon, receiver):
    d, r = make_daemon(*LOCAL), receiver()
    body = {"subjects": ["nobody"], "callback_url": r.url}
    for _ in range(3):
        d.ok("POST", "/v1/erasures", body, status=202, headers={"Idempotency-Key": "k"})
    d.ok("POST", "/v1/erasures?dry_run=true", body, status=200)
    r.wait(4)
    drained(d)
    assert len(r.seen()) == 4


def test_a_batch_has_callbacks_too(make_daemon, receiver):
    d, r = make_daemon(*LOCAL), receiver()
    lines = [{"subjects": [f"n{i}"], "callback_url": f"{r.url}/{i}"} for i in range(3)]
    lines.append({"subjects": ["n9"], "callback_url": "https://"})
    a = d.request("POST", "/v1/erasures:batch", data="".join(json.dumps(x) + "\n" for x in lines).encode(),
                  headers={"Content-Type": "application/x-ndjson"})
    assert a.status_code == 200
    assert "/callback_url" in a.text.splitlines()[3]
    for i in range(3):
        r.wait(4, f"/{i}")


def test_a_held_erasure_tells_of_its_decision(make_daemon, receiver):
    d, r = make_daemon(*LOCAL), receiver()
    ends = {"release": STEPS, "refuse": ["erasure.accepted", "erasure.refused"]}
    for decision, types in ends.items():
        e = d.ok("POST", "/v1/erasures", {"subjects": ["nobody"], "hold": True, "regulation": "gdpr",
                                          "callback_url": f"{r.url}/{decision}"}, status=202)
        assert e["state"] == "accepted"
        r.wait(1, f"/{decision}")
        body = {"reason_code": "identity_not_verified"} if decision == "refuse" else None
        assert d.post(f"/v1/erasures/{e['id']}/{decision}", body).ok
        drained(d)
        told = [m["type"] for m in r.messages(secret_of(d), f"/{decision}")]
        assert set(told) >= set(types) and told.count(types[-1]) == 1, told
