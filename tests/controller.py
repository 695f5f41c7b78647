# SPDX-License-Identifier: Apache-2.0
"""A controller that knows the OpenDSR specification and nothing of unlearnd: it discovers, sends
requests, polls, cancels, receives callbacks, and believes no answer whose signature openssl does not
verify with the processor's certificate. It shares no code with what it talks to."""
import base64
import json
import subprocess
import tempfile
import uuid
from datetime import datetime, timezone
from pathlib import Path

import requests

STATUSES = ("pending", "in_progress", "completed", "cancelled")


def openssl(*args, data=None):
    return subprocess.run(["openssl", *map(str, args)], input=data, capture_output=True, check=True,
                          timeout=60).stdout


def make_identity(folder, domain, bits=2048, days=365, kind="rsa", name="opendsr"):
    """A key and its certificate, as (key file, certificate file)."""
    key, certificate = Path(folder) / f"{name}.key", Path(folder) / f"{name}.pem"
    if kind == "rsa":
        openssl("genrsa", "-out", key, str(bits))
    else:
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-x509", "-key", key, "-out", certificate, "-days", str(days),
            "-subj", f"/CN={domain}", "-sha256")
    return key, certificate


def verify(certificate_pem, body, signature):
    """Whether the signature (base64) is one of the certificate's key over these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        cert, pub, sig = (Path(folder) / n for n in ("cert.pem", "pub.pem", "sig"))
        cert.write_bytes(certificate_pem)
        pub.write_bytes(openssl("x509", "-in", cert, "-pubkey", "-noout"))
        sig.write_bytes(base64.b64decode(signature, validate=True))
        r = subprocess.run(["openssl", "dgst", "-sha256", "-verify", str(pub), "-signature", str(sig)],
                           input=body, capture_output=True, timeout=60)
        return r.returncode == 0


class Controller:
    def __init__(self, base, domain, token=None, old_names=False):
        self.base, self.domain, self.old = base, domain, old_names
        self.http = requests.Session()
        if token is not None:
            self.http.headers["Authorization"] = f"Bearer {token}"
        self.collection = "opengdpr_requests" if old_names else "requests"
        self.certificate = None

    # --- what every answer must have ---
    def check_signed(self, headers, body):
        name = "OpenGDPR" if self.old else "OpenDSR"
        assert headers[f"X-{name}-Processor-Domain"] == self.domain
        assert verify(self.certificate, body, headers[f"X-{name}-Signature"])

    def signed(self, response, status):
        assert response.status_code == status, f"{response.status_code} {response.text}"
        self.check_signed(response.headers, response.content)
        return response.json()

    @staticmethod
    def error(response, status=400):
        assert response.status_code == status, f"{response.status_code} {response.text}"
        error = response.json()["error"]
        assert set(response.json()) == {"error"} and error["code"] == status and error["message"]
        for e in error["errors"]:
            assert set(e) == {"domain", "reason", "message"}
        return error

    # --- the protocol ---
    def discover(self, certificate=None):
        r = self.http.get(self.base + "/discovery", timeout=30)
        self.certificate = certificate or self.http.get(self.base + "/certificate", timeout=30).content
        found = self.signed(r, 200)
        assert set(found) == {"api_version", "supported_identities",
                              "supported_subject_request_types", "processor_certificate"}
        return found

    def body(self, *identities, **changes):
        body = {"subject_request_id": str(uuid.uuid4()), "subject_request_type": "erasure",
                "submitted_time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "regulation": "gdpr", "subject_identities": list(identities), "api_version": "2.0"}
        body.update(changes)
        return {k: v for k, v in body.items() if v is not None}

    def post(self, body, **kw):
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        kw.setdefault("headers", {"Content-Type": "application/json"})
        return self.http.post(f"{self.base}/{self.collection}", data=data, timeout=60, **kw)

    def submit(self, body):
        data = json.dumps(body).encode()
        answer = self.signed(self.post(data), 201)
        assert set(answer) == {"controller_id", "expected_completion_time", "received_time",
                               "encoded_request", "subject_request_id"}
        assert base64.b64decode(answer["encoded_request"], validate=True) == data
        assert answer["subject_request_id"] == body["subject_request_id"]
        return answer

    def status(self, request_id):
        answer = self.signed(self.http.get(f"{self.base}/{self.collection}/{request_id}", timeout=30), 200)
        assert {"controller_id", "expected_completion_time", "subject_request_id",
                "request_status"} <= set(answer)
        assert answer["subject_request_id"] == request_id and answer["request_status"] in STATUSES
        return answer

    def cancel(self, request_id):
        return self.http.delete(f"{self.base}/{self.collection}/{request_id}", timeout=30)


def email(value, kind="raw"):
    return {"identity_type": "email", "identity_value": value, "identity_format": kind}


def callbacks(receiver, path, certificate, domain):
    """Of one address, in the order of their arrival; each as the specification wants it."""
    with receiver.lock:
        found = [r for r in receiver.requests if r[0] == path]
    told = []
    for _, headers, body in found:
        for name in ("OpenDSR", "OpenGDPR"):
            assert headers[f"X-{name}-Processor-Domain"] == domain
            assert verify(certificate, body, headers[f"X-{name}-Signature"])
        assert headers["Content-Type"] == "application/json"
        message = json.loads(body)
        assert {"controller_id", "expected_completion_time", "status_callback_url",
                "subject_request_id", "request_status"} <= set(message)
        assert message["request_status"] in STATUSES
        assert message["status_callback_url"] == receiver.url + path, "it is somebody else's"
        told.append(message)
    return told
