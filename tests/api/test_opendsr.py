# SPDX-License-Identifier: Apache-2.0
"""OpenDSR 2.0, spoken by a controller that knows its specification alone (controller.py)."""
import base64
import ctypes
import hashlib
import json
import subprocess
import time
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from conftest import BIN, DIGITS
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from receiver import Receiver
from test_openapi import check
from controller import Controller, callbacks, email, make_identity, openssl, verify

DOMAIN = "processor.example.org"
FAST = ["--gather-window-ms", "0"]


@pytest.fixture(scope="session")
def identity(tmp_path_factory):
    return make_identity(tmp_path_factory.mktemp("opendsr"), DOMAIN)


def options(identity, *more):
    return [*FAST, "--opendsr-domain", DOMAIN, "--opendsr-key-file", str(identity[0]),
            "--opendsr-certificate-file", str(identity[1]), *more]


@pytest.fixture
def make_processor(make_daemon, identity):
    return lambda *more, **kw: make_daemon(*options(identity, *more), **kw)


@pytest.fixture
def processor(make_processor):
    return make_processor()


def controller_of(d, **kw):
    c = Controller(d.url + "/opendsr/v2", DOMAIN, **kw)
    c.discover()
    return c


@pytest.fixture
def controller(processor):
    return controller_of(processor)


def people(digits, count=20):
    """Records of people with e-mail addresses as their ids."""
    return [{**r, "subject": f"person{i // 5}@example.org"} for i, r in enumerate(digits[:5 * count])]


def held(d, record):
    return d.get(f"/v1/models/digits/records/{record}").status_code == 200


def wait_status(c, request_id, wanted, seconds=60):
    end = time.monotonic() + seconds
    while (s := c.status(request_id))["request_status"] != wanted:
        assert time.monotonic() < end, s
        time.sleep(0.02)
    return s


# --- what a processor offers ---
def test_discovery_says_what_is_supported(processor, identity):
    c = Controller(processor.url + "/opendsr/v2", DOMAIN)
    found = c.discover()
    assert found["api_version"] == "2.0" and found["supported_subject_request_types"] == ["erasure"]
    assert found["supported_identities"] == [
        {"identity_type": t, "identity_format": f}
        for t in ("controller_customer_id", "email") for f in ("raw", "sha256")]
    assert found["processor_certificate"] == f"https://{DOMAIN}/opendsr/v2/certificate"
    assert c.certificate == identity[1].read_bytes()


def test_the_address_of_the_certificate_is_configured(make_processor):
    d = make_processor("--opendsr-base-url", "https://dsr.example.org/v2", "--opendsr-identities",
                       "ios_vendor_id")
    found = controller_of(d).discover()
    assert found["processor_certificate"] == "https://dsr.example.org/v2/certificate"
    assert {i["identity_type"] for i in found["supported_identities"]} == {"ios_vendor_id"}


def test_without_a_domain_it_is_not_spoken(daemon):
    for path in ("/discovery", "/certificate", f"/requests/{uuid.uuid4()}"):
        Controller.error(daemon.get("/opendsr/v2" + path), 404)
    Controller.error(daemon.post("/opendsr/v2/requests", {}), 404)


# --- a request from beginning to end ---
def test_a_request_is_executed_and_completes(processor, controller, digits):
    d, c = processor, controller
    d.create(**DIGITS)
    d.load("digits", people(digits))
    d.train("digits")
    body = c.body(email("person1@example.org"))
    answer = c.submit(body)
    assert not held(d, "r5") and held(d, "r10"), "forgotten before the answer"
    assert answer["controller_id"] == "anonymous"
    received = datetime.fromisoformat(answer["received_time"].replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - received).total_seconds()) < 60
    expected = datetime.fromisoformat(answer["expected_completion_time"].replace("Z", "+00:00"))
    assert 27 <= (expected - received).days <= 31, "a month for gdpr"
    done = wait_status(c, body["subject_request_id"], "completed")
    assert done["results_count"] == 5 and done["api_version"] == "2.0"
    assert done["expected_completion_time"] == answer["expected_completion_time"]
    log = d.ok("GET", f"/v1/audit?reference={body['subject_request_id']}")["items"]
    assert {"erasure.accepted", "erasure.completed"} <= {e["type"] for e in log}
    assert all(s["identical"] for s in d.verify("digits"))


@pytest.mark.parametrize("form", ["raw", "sha256", "SHA256 in upper case", "extension"])
def test_every_format_finds_the_person_that_v1_erasures_finds(processor, controller, digits, form):
    d, c = processor, controller
    d.create(**DIGITS)
    d.load("digits", people(digits))
    value = "person2@example.org"
    digest = hashlib.sha256(value.encode()).hexdigest()
    if form == "raw":
        body = c.body(email(value))
    elif form == "extension":
        body = c.body(subject_identities=None,
                      extensions={DOMAIN: {"subject_identities": [email(digest, "sha256")]},
                                  "other.example.net": {"their": "own", "things": [1]}})
    else:
        body = c.body(email(digest if form == "sha256" else digest.upper(), "sha256"))
    c.submit(body)
    assert wait_status(c, body["subject_request_id"], "completed")["results_count"] == 5
    assert not held(d, "r10") and held(d, "r5")
    again = d.erase(subjects=[value])
    assert again["matched"] == 0, "it was the same person"
    assert d.load("digits", people(digits)[10:11])["suppressed"] == 1


def test_an_extension_can_name_models(processor, controller, digits):
    d, c = processor, controller
    for name in ("digits", "other"):
        d.create(**{**DIGITS, "name": name})
        d.load(name, people(digits))
    c.submit(c.body(email("person1@example.org"), extensions={DOMAIN: {"models": ["digits"]}}))
    assert not held(d, "r5") and d.get("/v1/models/other/records/r5").status_code == 200
    c.error(c.post(c.body(email("a@b.c"), extensions={DOMAIN: {"models": ["nope"]}})))


def test_hundreds_of_identities_of_one_person(processor, controller, digits):
    d, c = processor, controller
    d.create(**DIGITS)
    d.load("digits", people(digits))
    ids = [email(f"alias{i}@example.org") for i in range(997)]
    body = c.body(*ids, email("person3@example.org"), email("person3@example.org"),
                  email(hashlib.sha256(b"person3@example.org").hexdigest(), "sha256"))
    c.submit(body)
    assert wait_status(c, body["subject_request_id"], "completed")["results_count"] == 5
    accepted = d.ok("GET", f"/v1/audit?reference={body['subject_request_id']}"
                           "&type=erasure.accepted")["items"][0]
    assert accepted["data"]["subjects"] == 998, "named twice is one"
    c.error(c.post(c.body(*[email(f"x{i}@example.org") for i in range(1001)])))


def test_times_of_any_zone_are_read(processor, controller):
    c = controller
    now = datetime.now(timezone.utc).replace(microsecond=0)
    deadlines = set()
    for zone in (timezone.utc, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))):
        then = (now - timedelta(days=3)).astimezone(zone).isoformat()
        deadlines.add(c.submit(c.body(email("a@b.c"), submitted_time=then))["expected_completion_time"])
    assert len(deadlines) == 1, deadlines
    ccpa = c.submit(c.body(email("a@b.c"), regulation="ccpa", submitted_time=now.isoformat()))
    expected = datetime.fromisoformat(ccpa["expected_completion_time"].replace("Z", "+00:00"))
    assert expected == now + timedelta(days=45)


def test_a_regulation_that_is_not_named_is_the_configured_one(make_processor):
    c = controller_of(make_processor("--opendsr-regulation", "ccpa"))
    now = datetime.now(timezone.utc).replace(microsecond=0)
    answer = c.submit(c.body(email("a@b.c"), regulation=None, submitted_time=now.isoformat()))
    expected = datetime.fromisoformat(answer["expected_completion_time"].replace("Z", "+00:00"))
    assert expected == now + timedelta(days=45)


def test_the_names_of_the_first_version(processor, digits):
    d = processor
    d.create(**DIGITS)
    d.load("digits", people(digits))
    c = controller_of(d, old_names=True)
    body = c.body(email("person1@example.org"), api_version="1.0", regulation=None)
    c.submit(body)
    assert not held(d, "r5")
    wait_status(c, body["subject_request_id"], "completed")
    new = controller_of(d)
    assert new.status(body["subject_request_id"])["request_status"] == "completed"
    c.error(c.cancel(body["subject_request_id"]))


# --- repeated requests ---
def test_a_request_that_is_repeated_is_the_same_request(processor, controller, digits):
    d, c = processor, controller
    body = c.body(email("person1@example.org"))
    first = c.submit(body)
    d.restart()
    c.base = d.url + "/opendsr/v2"
    assert c.submit(body) == first
    assert len(d.ok("GET", "/v1/erasures")["items"]) == 1
    other = {**body, "subject_identities": [email("somebody.else@example.org")]}
    error = c.error(c.post(other))
    assert "subject_request_id" in error["message"] and "somebody" not in json.dumps(error)
    assert len(d.ok("GET", "/v1/erasures")["items"]) == 1
    assert c.status(body["subject_request_id"])["controller_id"] == "anonymous"


def tokens_of(tmp_path, **scopes):
    file, made, lines = tmp_path / "tokens", {}, []
    for name, scope in scopes.items():
        out = json.loads(subprocess.run([str(BIN / "unlearnctl"), "--json", "token", "new", "--name", name,
                                         "--scope", scope], capture_output=True, text=True,
                                        check=True).stdout)
        made[name] = out["token"]
        lines.append(out["line"])
    file.write_text("\n".join(lines) + "\n")
    return file, made


def test_an_id_belongs_to_the_controller_that_made_it(make_processor, tmp_path, digits):
    """Whoever takes somebody's id first blocks nothing, sees nothing and cancels nothing."""
    file, tokens = tokens_of(tmp_path, first="erase", second="erase", reader="audit", root="admin")
    d = make_processor("--tokens-file", str(file), "--opendsr-hold", auth=True)
    first, second = (controller_of(d, token=tokens[n]) for n in ("first", "second"))
    body = first.body(email("person1@example.org"))
    stolen = {**body, "subject_identities": [email("mallory@example.org")]}
    assert second.submit(stolen)["controller_id"] == "second"
    assert first.submit(body)["controller_id"] == "first"
    request_id = body["subject_request_id"]
    assert second.signed(second.cancel(request_id), 202)["controller_id"] == "second"
    assert second.status(request_id)["request_status"] == "cancelled"
    assert first.status(request_id)["request_status"] == "pending"
    mine = first.body(email("a@b.c"))
    first.submit(mine)
    for c in (second, controller_of(d, token=tokens["root"])):
        c.error(c.http.get(f"{c.base}/requests/{mine['subject_request_id']}"), 404)
        c.error(c.cancel(mine["subject_request_id"]), 404)
    reader = controller_of(d, token=tokens["reader"])
    reader.error(reader.post(body), 403)
    nobody = controller_of(d)
    nobody.error(nobody.post(body), 401)
    nobody.error(nobody.http.get(f"{nobody.base}/requests/{request_id}"), 401)


# --- held requests ---
def test_a_held_request_is_pending_until_it_is_released(make_processor, digits):
    d = make_processor("--opendsr-hold")
    c = controller_of(d)
    d.create(**DIGITS)
    d.load("digits", people(digits))
    body = c.body(email("person1@example.org"))
    c.submit(body)
    assert held(d, "r5") and c.status(body["subject_request_id"])["request_status"] == "pending"
    erasure, = d.ok("GET", "/v1/erasures?state=accepted")["items"]
    assert erasure["reference"] == body["subject_request_id"]
    d.kill()
    d.start()
    c.base = d.url + "/opendsr/v2"
    assert c.status(body["subject_request_id"])["request_status"] == "pending"
    d.ok("POST", f"/v1/erasures/{erasure['id']}/release")
    assert not held(d, "r5")
    wait_status(c, body["subject_request_id"], "completed")
    c.error(c.cancel(body["subject_request_id"]))


def test_a_pending_request_can_be_cancelled_and_blocks_no_other(make_processor, digits):
    d = make_processor("--opendsr-hold")
    c = controller_of(d)
    d.create(**DIGITS)
    d.load("digits", people(digits))
    unverified, verified = (c.body(email("person1@example.org")) for _ in range(2))
    c.submit(unverified)
    c.submit(verified)
    ids = {e["reference"]: e["id"] for e in d.ok("GET", "/v1/erasures")["items"]}
    d.ok("POST", f"/v1/erasures/{ids[verified['subject_request_id']]}/release")
    assert not held(d, "r5") and c.status(unverified["subject_request_id"])["request_status"] == "pending"
    answer = c.signed(c.cancel(unverified["subject_request_id"]), 202)
    assert {"controller_id", "subject_request_id", "received_time"} <= set(answer)
    assert c.status(unverified["subject_request_id"])["request_status"] == "cancelled"
    assert c.signed(c.cancel(unverified["subject_request_id"]), 202) == answer
    assert c.submit(unverified)["subject_request_id"] == unverified["subject_request_id"]
    assert c.status(unverified["subject_request_id"])["request_status"] == "cancelled"


def test_an_operator_s_refusal_is_cancelled_too(make_processor):
    d = make_processor("--opendsr-hold")
    c = controller_of(d)
    body = c.body(email("person1@example.org"))
    c.submit(body)
    erasure, = d.ok("GET", "/v1/erasures")["items"]
    d.ok("POST", f"/v1/erasures/{erasure['id']}/refuse", {"reason_code": "identity_not_verified"})
    assert c.status(body["subject_request_id"])["request_status"] == "cancelled"


# --- what is refused ---
SECRET = "jane.doe@example.org"
WRONG = {
    "no id": {"subject_request_id": None},
    "id in upper case": {"subject_request_id": str(uuid.uuid4()).upper()},
    "id of version 1": {"subject_request_id": "a7551968-d5d6-11b2-9831-815ac9017798"},
    "id of another variant": {"subject_request_id": "a7551968-d5d6-44b2-c831-815ac9017798"},
    "id without dashes": {"subject_request_id": "a7551968d5d644b29831815ac9017798"},
    "id that is a person": {"subject_request_id": SECRET},
    "id that is a number": {"subject_request_id": 7},
    "access": {"subject_request_type": "access"},
    "portability": {"subject_request_type": "portability"},
    "no such type": {"subject_request_type": SECRET},
    "no time": {"submitted_time": None},
    "a time without a zone": {"submitted_time": "2026-01-31T09:00:00"},
    "no time at all": {"submitted_time": "yesterday"},
    "a time of the future": {"submitted_time": "2999-01-31T09:00:00Z"},
    "a time before 1970": {"submitted_time": "1960-01-31T09:00:00Z"},
    "no such regulation": {"regulation": "lgpd"},
    "another version": {"api_version": "3.0"},
    "an unknown field": {SECRET: 1},
    "nobody": {"subject_identities": []},
    "no identities": {"subject_identities": None},
    "identities that are no list": {"subject_identities": {"email": SECRET}},
    "an identity that is a string": {"subject_identities": [SECRET]},
    "an identity without a type": {"subject_identities": [{"identity_value": SECRET,
                                                           "identity_format": "raw"}]},
    "an unknown member of an identity": {"subject_identities": [{**email(SECRET), SECRET: 1}]},
    "a type that is not supported": {"subject_identities": [{**email(SECRET),
                                                             "identity_type": "android_id"}]},
    "an unknown type": {"subject_identities": [{**email(SECRET), "identity_type": SECRET}]},
    "sha1": {"subject_identities": [email(hashlib.sha1(SECRET.encode()).hexdigest(), "sha1")]},
    "md5": {"subject_identities": [email(hashlib.md5(SECRET.encode()).hexdigest(), "md5")]},
    "an unknown format": {"subject_identities": [email(SECRET, "rot13")]},
    "a short digest": {"subject_identities": [email("abcd", "sha256")]},
    "a digest that is a person": {"subject_identities": [email(SECRET, "sha256")]},
    "an empty value": {"subject_identities": [email("")]},
    "a value that is too long": {"subject_identities": [email("x" * 513)]},
    "a value that is a number": {"subject_identities": [email(7)]},
    "one wrong among many": {"subject_identities": [email("a@b.c")] * 3 + [email(SECRET, "md5")]},
    "extensions that are a list": {"extensions": []},
    "our extension is a string": {"extensions": {DOMAIN: SECRET}},
    "unknown in our extension": {"extensions": {DOMAIN: {SECRET: 1}}},
    "callbacks that are a string": {"status_callback_urls": "https://controller.example.org/"},
    "a callback that is no URL": {"status_callback_urls": [SECRET]},
    "a callback of another scheme": {"status_callback_urls": ["file:///etc/passwd"]},
    "a callback with a password": {"status_callback_urls": ["https://jane:doe@example.org/"]},
    "eleven callbacks": {"status_callback_urls": [f"https://c{i}.example.org/" for i in range(11)]},
    "a long callback": {"status_callback_urls": ["https://example.org/" + "x" * 2000]},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from conftest import Daemon
    folder = tmp_path_factory.mktemp("opendsr-shared")
    d = Daemon(folder / "data", *options(make_identity(folder, DOMAIN)))
    yield d, controller_of(d)
    log = "\n".join(d.log)
    d.stop()
    assert SECRET not in log and "jane" not in log


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_400_and_says_nothing_of_anybody(shared, what):
    d, c = shared
    before = len(d.ok("GET", "/v1/erasures?limit=1000")["items"])
    r = c.post(c.body(**{"subject_identities": [email(SECRET)], **WRONG[what]}))
    error = c.error(r)
    assert "jane" not in r.text and "doe" not in r.text, error
    assert len(d.ok("GET", "/v1/erasures?limit=1000")["items"]) == before


@pytest.mark.parametrize("raw,kind,status", [
    (b"", "application/json", 400), (b"{", "application/json", 400), (b"[]", "application/json", 400),
    (b"null", "application/json", 400), (b'{"a": 1} x', "application/json", 400),
    (b'{"subject_request_id": "a", "subject_request_id": "b"}', "application/json", 400),
    (b"\xff\xfe", "application/json", 400), (b"{}", "text/plain", 415),
    (b"a=b", "application/x-www-form-urlencoded", 415), (b"x" * (2 << 20), "application/json", 413)])
def test_what_is_no_request_at_all(shared, raw, kind, status):
    _, c = shared
    c.error(c.post(raw, headers={"Content-Type": kind}), status)


def test_wrong_paths_and_methods_answer_in_the_same_shape(shared):
    d, c = shared
    for path in ("x", SECRET, str(uuid.uuid4()).upper()):
        r = d.get(f"/opendsr/v2/requests/{path}")
        c.error(r)
        assert "jane" not in r.text
        c.error(c.cancel(path))
    c.error(d.get(f"/opendsr/v2/requests/{uuid.uuid4()}"), 404)
    c.error(c.cancel(uuid.uuid4()), 404)
    c.error(d.get("/opendsr/v2/nothing"), 404)
    c.error(d.request("PUT", "/opendsr/v2/requests"), 405)
    c.error(d.get("/opendsr/v2/discovery?verbose=1"))


# --- signatures ---
def test_a_tampered_answer_does_not_verify(shared, tmp_path):
    d, c = shared
    r = c.post(c.body(email("a@b.c")))
    signature = r.headers["X-OpenDSR-Signature"]
    assert verify(c.certificate, r.content, signature)
    assert len(base64.b64decode(signature)) == 256
    changed = bytearray(r.content)
    changed[-3] ^= 1
    assert not verify(c.certificate, bytes(changed), signature)
    assert not verify(c.certificate, r.content + b" ", signature)
    other = make_identity(tmp_path, DOMAIN)[1].read_bytes()
    assert not verify(other, r.content, signature), "another key's certificate"
    answer = c.post(c.body(email("a@b.c")))
    assert not verify(c.certificate, answer.content, signature), "the signature of another answer"
    assert r.headers["X-OpenGDPR-Signature"] == signature


def start_fails(make_daemon, *args):
    with pytest.raises(AssertionError) as failure:
        make_daemon(*args)
    return str(failure.value)


def certificate_of(key, since, until, path):
    private = load_pem_private_key(key.read_bytes(), None)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, DOMAIN)])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7)
            .public_key(private.public_key()).not_valid_before(since).not_valid_after(until)
            .sign(private, hashes.SHA256()))
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


def test_a_key_that_cannot_sign_stops_the_start(make_daemon, identity, tmp_path):
    key, certificate = identity
    weak = make_identity(tmp_path, DOMAIN, bits=1024, name="weak")
    curve = make_identity(tmp_path, DOMAIN, kind="ec", name="curve")
    other = make_identity(tmp_path, DOMAIN, name="other")
    now = datetime.now(timezone.utc)
    expired = certificate_of(key, now - timedelta(days=9), now - timedelta(days=1), tmp_path / "expired")
    early = certificate_of(key, now + timedelta(days=1), now + timedelta(days=9), tmp_path / "early")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN NOTHING-----\n")
    locked = tmp_path / "locked.key"
    openssl("rsa", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)
    for pair, hint in [((weak[0], weak[1]), "2048"), ((curve[0], curve[1]), "not RSA"),
                       ((key, other[1]), "not the certificate"), ((key, expired), "expired"),
                       ((key, early), "not valid yet"),
                       ((garbage, certificate), "no private key"), ((key, garbage), "no certificate"),
                       ((locked, certificate), "encrypted"), ((tmp_path / "none", certificate), "none")]:
        said = start_fails(make_daemon, *options(pair))
        assert hint in said, (hint, said)
    assert "opendsr_key_file" in start_fails(make_daemon, "--opendsr-domain", DOMAIN)
    assert "lower case" in start_fails(make_daemon, *options(identity), "--opendsr-domain", "NO/PE")


@pytest.mark.parametrize("days", [29, 31])
def test_a_certificate_that_expires_soon_is_warned_of(make_daemon, identity, tmp_path, days):
    now = datetime.now(timezone.utc)
    until = now + timedelta(days=days)
    path = certificate_of(identity[0], now - timedelta(days=1), until, tmp_path / "c.pem")
    d = make_daemon(*options((identity[0], path)))
    said = [line for line in d.log if " warn opendsr_certificate_expires " in line]
    assert len(said) == (days < 30)
    assert all(f"at={until:%Y-%m-%d}" in line for line in said)


def test_a_large_key_signs_too(make_daemon, tmp_path):
    d = make_daemon(*options(make_identity(tmp_path, DOMAIN, bits=4096)))
    c = controller_of(d)
    r = c.post(c.body(email("a@b.c")))
    assert len(base64.b64decode(r.headers["X-OpenDSR-Signature"])) == 512 and r.status_code == 201
    c.check_signed(r.headers, r.content)


def test_answers_have_the_shape_that_the_description_promises(make_processor):
    d = make_processor("--opendsr-hold")
    c = controller_of(d)
    body = c.body(email("a@b.c"))
    schema = "#/components/schemas/"
    for name, answer in [("DsrDiscovery", c.discover()), ("DsrReceipt", c.submit(body)),
                         ("DsrStatus", c.status(body["subject_request_id"])),
                         ("DsrCancellation", c.cancel(body["subject_request_id"]).json()),
                         ("DsrError", c.post({}).json())]:
        check({"$ref": schema + name}, answer, name)


# --- callbacks ---
LOCAL = ["--allow-networks", "127.0.0.0/8", "--delivery-retry-ms", "20", "--delivery-timeout-ms", "2000"]


@pytest.fixture
def make_receiver():
    made = []

    def make(*args, **kw):
        made.append(Receiver(*args, **kw))
        return made[-1]
    yield make
    for r in made:
        r.close()


def wait_told(c, receiver, path, request_id, wanted, seconds=20):
    """The statuses that an address was told of a request, until all that are wanted are there."""
    end = time.monotonic() + seconds
    while True:
        told = [m["request_status"] for m in callbacks(receiver, path, c.certificate, DOMAIN)
                if m["subject_request_id"] == request_id]
        if set(wanted) <= set(told):
            return told
        assert time.monotonic() < end, f"told {told}, wanted {wanted}"
        time.sleep(0.05)


def test_every_address_is_told_of_every_change(make_processor, make_receiver, digits):
    d, receiver = make_processor(*LOCAL), make_receiver()
    c = controller_of(d)
    d.create(**DIGITS)
    d.load("digits", people(digits))
    d.train("digits")
    body = c.body(email("person1@example.org"),
                  status_callback_urls=[receiver.url + "/one", receiver.url + "/two"])
    answer = c.submit(body)
    for path in ("/one", "/two"):
        told = wait_told(c, receiver, path, body["subject_request_id"], ["in_progress", "completed"])
        assert sorted(told) == ["completed", "in_progress"], "each once"
    last = [m for m in callbacks(receiver, "/one", c.certificate, DOMAIN)
            if m["request_status"] == "completed"]
    assert last[0]["controller_id"] == "anonymous" and last[0]["results_count"] == 5
    assert last[0]["expected_completion_time"] == answer["expected_completion_time"]
    assert c.submit(body) == answer
    time.sleep(0.3)
    assert len(callbacks(receiver, "/one", c.certificate, DOMAIN)) == 2, "a repetition changes nothing"


def test_pending_released_and_cancelled_requests_are_told(make_processor, make_receiver):
    d, receiver = make_processor("--opendsr-hold", *LOCAL), make_receiver()
    c = controller_of(d)
    released, cancelled, refused = (c.body(email(f"{n}@example.org"),
                                           status_callback_urls=[receiver.url + "/status"])
                                    for n in ("a", "b", "c"))
    for body in (released, cancelled, refused):
        c.submit(body)
        wait_told(c, receiver, "/status", body["subject_request_id"], ["pending"])
    ids = {e["reference"]: e["id"] for e in d.ok("GET", "/v1/erasures")["items"]}
    d.ok("POST", f"/v1/erasures/{ids[released['subject_request_id']]}/release")
    c.signed(c.cancel(cancelled["subject_request_id"]), 202)
    d.ok("POST", f"/v1/erasures/{ids[refused['subject_request_id']]}/refuse",
         {"reason_code": "identity_not_verified"})
    for body, end in ((released, "completed"), (cancelled, "cancelled"), (refused, "cancelled")):
        told = wait_told(c, receiver, "/status", body["subject_request_id"], ["pending", end])
        assert len(told) == len(set(told)), told


def table_values(file, table):
    """The values of a table of the control database, without what its free pages hold."""
    class Value(ctypes.Structure):
        _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p)]
    lmdb = ctypes.CDLL("liblmdb.so.0")
    no_subdir, read_only, following = 0x4000, 0x20000, 8
    env, txn, cursor, dbi = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint()
    key, value, found = Value(), Value(), []
    assert lmdb.mdb_env_create(ctypes.byref(env)) == 0
    assert lmdb.mdb_env_set_maxdbs(env, 128) == 0
    assert lmdb.mdb_env_open(env, str(file).encode(), no_subdir | read_only, 0o600) == 0
    assert lmdb.mdb_txn_begin(env, None, read_only, ctypes.byref(txn)) == 0
    assert lmdb.mdb_dbi_open(txn, table.encode(), 0, ctypes.byref(dbi)) == 0
    assert lmdb.mdb_cursor_open(txn, dbi, ctypes.byref(cursor)) == 0
    while lmdb.mdb_cursor_get(cursor, ctypes.byref(key), ctypes.byref(value), following) == 0:
        found.append(ctypes.string_at(value.data, value.size))
    lmdb.mdb_cursor_close(cursor)
    lmdb.mdb_txn_abort(txn)
    lmdb.mdb_env_close(env)
    return found


def test_addresses_are_kept_until_the_request_has_ended(make_processor, make_receiver):
    d, receiver = make_processor("--opendsr-hold", *LOCAL), make_receiver()
    c = controller_of(d)
    bodies = {path: c.body(email(path + "@example.org"), status_callback_urls=[f"{receiver.url}/{path}"])
              for path in ("released", "cancelled", "waiting")}
    for body in bodies.values():
        c.submit(body)
    ids = {e["reference"]: e["id"] for e in d.ok("GET", "/v1/erasures")["items"]}
    d.ok("POST", f"/v1/erasures/{ids[bodies['released']['subject_request_id']]}/release")
    c.signed(c.cancel(bodies["cancelled"]["subject_request_id"]), 202)
    for path, end in (("released", "completed"), ("cancelled", "cancelled"), ("waiting", "pending")):
        wait_told(c, receiver, "/" + path, bodies[path]["subject_request_id"], [end])
    d.stop()
    rows = b"".join(table_values(d.data_dir / "control.mdb", "opendsr"))
    assert b"/waiting" in rows and b"/released" not in rows and b"/cancelled" not in rows
    d.start()
    c.base = d.url + "/opendsr/v2"
    for path, body in bodies.items():  # a repeated request is known all the same
        assert c.submit(body)["subject_request_id"] == body["subject_request_id"]
    assert len(d.ok("GET", "/v1/erasures")["items"]) == 3


def test_an_extended_deadline_is_told(make_processor, make_receiver):
    d, receiver = make_processor("--opendsr-hold", *LOCAL), make_receiver()
    c = controller_of(d)
    body = c.body(email("a@example.org"), status_callback_urls=[receiver.url + "/extended"])
    answer = c.submit(body)
    erasure, = d.ok("GET", "/v1/erasures")["items"]
    later = datetime.fromisoformat(erasure["deadline"].replace("Z", "+00:00")) + timedelta(days=20)
    extended = d.ok("POST", f"/v1/erasures/{erasure['id']}/extend",
                    {"deadline": later.isoformat(), "reason_code": "complexity"})
    end = time.monotonic() + 20
    while len(told := callbacks(receiver, "/extended", c.certificate, DOMAIN)) < 2:
        assert time.monotonic() < end, told
        time.sleep(0.05)
    assert {m["request_status"] for m in told} == {"pending"}
    times = {m["expected_completion_time"] for m in told}
    assert times == {answer["expected_completion_time"], extended["deadline"]} and len(times) == 2
    assert c.status(body["subject_request_id"])["expected_completion_time"] == extended["deadline"]


def test_a_callback_that_fails_is_tried_again_across_a_kill(make_processor, make_receiver):
    down = [True]
    receiver = make_receiver(lambda n, path: (500 if down[0] else 204, {}))
    d = make_processor(*LOCAL)
    c = controller_of(d)
    body = c.body(email("a@example.org"), status_callback_urls=[receiver.url + "/flaky"])
    c.submit(body)
    end = time.monotonic() + 20
    while len(receiver.requests) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    d.kill()
    down[0] = False
    with receiver.lock:
        receiver.requests.clear()
    d.start()
    wait_told(c, receiver, "/flaky", body["subject_request_id"], ["completed"])


def test_410_ends_nothing_for_other_requests(make_processor, make_receiver):
    receiver = make_receiver(lambda n, path: (410 if n == 0 else 204, {}))
    d = make_processor(*LOCAL)
    c = controller_of(d)
    for _ in range(2):
        body = c.body(email("a@example.org"), status_callback_urls=[receiver.url + "/gone"])
        c.submit(body)
        wait_told(c, receiver, "/gone", body["subject_request_id"], ["completed"])


def test_a_callback_to_a_private_address_is_never_made(make_processor, make_receiver):
    receiver = make_receiver()
    d = make_processor("--delivery-retry-ms", "20")
    c = controller_of(d)
    c.error(c.post(c.body(email("a@b.c"), status_callback_urls=[receiver.url + "/in"])))
    https = receiver.url.replace("http:", "https:")
    c.submit(c.body(email("a@b.c"), status_callback_urls=[https + "/in"]))
    time.sleep(0.5)
    assert receiver.requests == []


def test_nothing_of_a_request_is_stored(processor, controller, digits):
    d, c = processor, controller
    d.create(**DIGITS)
    d.load("digits", people(digits))
    value = "person1@example.org"
    digest = hashlib.sha256(value.encode()).hexdigest()
    body = c.body(email(value), email(digest, "sha256"), submitted_time="2026-01-31T09:00:01+01:00")
    c.submit(body)
    wait_status(c, body["subject_request_id"], "completed")
    d.stop()
    needles = [value.encode(), digest.encode(), bytes.fromhex(digest), b"subject_identities",
               base64.b64encode(json.dumps(body).encode())[:60]]
    for path in d.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [n for n in needles if n in content], path
    assert not [line for line in d.log if value in line or digest in line]
