# SPDX-License-Identifier: Apache-2.0
"""The fixed story that the crash points are tried on: everything that changes state, in small. A
`Story` remembers what it was told by an answer; after a crash it checks that from outside, goes on
where it was, and ends in the same state whatever happened on the way. So that it can, every request
carries an idempotency key."""
import base64
import hashlib
import json
import random
import signal
import struct
import subprocess
import threading
from datetime import datetime, timedelta

import requests
import rfc6962
from conftest import BIN, Daemon
from receiver import Receiver
from world import LOST, check_rolled_back, check_whole_log, contents, wait

OPTIONS = ["--gather-window-ms", "1", "--retry-first-ms", "10", "--http-threads", "1",
           "--map-bytes", "64M", "--allow-networks", "127.0.0.0/8", "--delivery-retry-ms", "10",
           "--retention-months", "24", "--witness-interval-ms", "250"]
FEATURES = 6
MODEL = {"kind": "softmax", "features": FEATURES, "dtype": "f32", "classes": 2, "shards": 2,
         "slices": 2, "epochs": 2, "batch_size": 8, "seed": 5}


def people(name, count):
    """Two records a person, whose rows nobody else has."""
    rng = random.Random(name)
    return [{"id": f"{name}-record-{i}", "subject": f"{name}-person-{i // 2}",
             "label": str(rng.randrange(2)),
             "features": [round(rng.gauss(0, 2), 5) for _ in range(FEATURES)]}
            for i in range(2 * count)]


PLAIN, ATOMIC, REFUSED = people("plain", 8), people("atomic", 4), people("refused", 3)
LATE, MORE, OTHER = people("late", 4), people("more", 3), people("other", 3)
EVERYBODY = PLAIN + ATOMIC + REFUSED + LATE + MORE  # of the model "m"
# who is erased, in order: (the request, the records that it takes)
ERASURES = [
    ({"subjects": ["plain-person-0"], "records": [{"model": "m", "id": "atomic-record-2"}]},
     ["plain-record-0", "plain-record-1", "atomic-record-2"]),
    ({"subjects": ["plain-person-5"]}, ["plain-record-10", "plain-record-11"]),
    ({"subjects": ["atomic-person-3"]}, ["atomic-record-6", "atomic-record-7"]),
    ({"subjects": ["late-person-1"]}, ["late-record-2", "late-record-3"]),
    ({"subjects": ["more-person-1"]}, ["more-record-2", "more-record-3"]),
    ({"subjects": ["late-person-3"]}, ["late-record-6", "late-record-7"]),
]
GONE = {r for _, records in ERASURES for r in records}


def row_bytes(record):
    """The features as they stand in a row file."""
    return struct.pack(f"<{FEATURES}f", *record["features"])


def traces(folder, records):
    """(file, id) of every record of which something is left below a folder."""
    needles = {r["id"]: (row_bytes(r), r["id"].encode(), json.dumps(r["features"]).encode())
               for r in records}
    found = []
    for path, data in contents(folder):
        found += [(path, k) for k, some in needles.items() if any(n in data for n in some)]
    return found


class Listener(Receiver):
    """The endpoint of the configuration fails at first; a callback that is told of its erasures' end
    wants no more."""

    def __init__(self):
        super().__init__(self.say)
        self.enough = threading.Event()

    def say(self, n, path):
        if path == "/all":
            return (500, {}) if n == 0 else (204, {})
        if path == "/opendsr":
            return (204, {})
        self.enough.wait(10)
        return (410, {})


class Mortal(Daemon):
    """A daemon that may be killed before it listens."""

    def start(self, env=None):
        self.http = requests.Session()
        self.env = env
        try:
            return super().start(env)
        except AssertionError:
            if self.process.wait(30) != -signal.SIGKILL:
                raise
            return self

    def restart_or_die(self, between):
        """A clean stop, something, a start; LOST where the daemon died at either."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        if not self.died_of_a_point():
            self.stop()
            between()
            self.start(self.env)
        if self.died_of_a_point():
            raise LOST[0]("it died")

    def died_of_a_point(self):
        return self.process.poll() == -signal.SIGKILL

    def died(self):
        """Whether a crash point killed it; anything else that ended it is an error."""
        if self.process.poll() is None:
            return False
        self.reader.join(10)
        assert self.process.returncode == -signal.SIGKILL, \
            f"ended with {self.process.returncode}: " + "\n".join(self.log[-20:])
        return True


class Story:
    def __init__(self, daemon, never=False):
        self.d = daemon
        self.never = never  # the same story without those who are erased in it
        self.at = 0
        self.head = None
        # told by an answer
        self.held, self.held_by_other, self.gone = set(), set(), set()
        self.models, self.deleted, self.erasures, self.jobs = set(), False, {}, set()
        self.suppressed, self.dsr = None, None
        # asked, and not answered yet
        self.asked_upload, self.asked_erasure = None, None
        self.on_hold, self.refused = {}, None
        self.steps = self.without_the_erased() if never else [
            lambda: self.create("m"),
            lambda: self.upload("m", PLAIN),
            lambda: self.upload("m", ATOMIC, atomic=True),
            self.refused_upload,
            lambda: self.train("m", "first"),
            self.predict,
            lambda: self.erase(0),
            self.batch,
            lambda: self.upload("m", LATE),
            lambda: self.train("m", "second"),
            lambda: self.hold(3),
            lambda: self.extend(3),
            self.refuse_a_request,
            lambda: self.release(3),
            self.erase_in_compaction,
            lambda: self.upload("m", MORE),
            self.erase_in_training,
            self.verify,
            self.backup,
            self.rotate,
            self.rotate_key,
            lambda: self.create("other"),
            lambda: self.upload("other", OTHER),
            lambda: self.train("other", "fourth"),
            self.import_suppressions,
            self.opendsr_request,
            self.delete,
        ]

    def without_the_erased(self):
        def left(records):
            return [r for r in records if r["id"] not in GONE]
        return [
            lambda: self.create("m"),
            lambda: self.upload("m", left(PLAIN + ATOMIC + LATE)),  # as a compaction makes of it
            lambda: self.train("m", "first"),
            lambda: self.upload("m", left(MORE)),
            lambda: self.train("m", "third"),
        ]

    def go_on(self):
        """True at the end of the story; False where the daemon died on the way."""
        try:
            while self.at < len(self.steps):
                self.steps[self.at]()
                self.at += 1
                self.observe()
        except LOST:
            wait("the daemon's end", self.d.died, 10)
            return False
        return True

    def observe(self):
        if self.head is None and self.d.get("/v1/audit/checkpoint").status_code == 404:
            return  # nothing has happened yet
        self.head = rfc6962.check_growth(self.d, self.head)

    # --- steps: each may be repeated until it was answered ---
    def post(self, path, body, key, status):
        r = self.d.post(path, body, headers={"Idempotency-Key": key})
        assert r.status_code == status, f"{path}: {r.status_code} {r.text}"
        return r

    def create(self, name):
        self.post("/v1/models", {"name": name, **MODEL}, f"create-{name}", 201)
        self.models.add(name)

    def upload(self, model, records, atomic=False):
        self.asked_upload = (records, atomic)
        counts = self.d.load(model, records, **({"atomic": "true"} if atomic else {}))
        assert counts["accepted"] + counts["duplicates"] == len(records), counts
        self.asked_upload = None
        (self.held if model == "m" else self.held_by_other).update(r["id"] for r in records)

    def refused_upload(self):
        """Its last line is wrong: nothing of it is kept, and nobody is suppressed by it."""
        self.refuse(REFUSED)
        self.wait_for_no_trace_of(REFUSED)

    def refuse(self, records):
        lines = [json.dumps(r) for r in records] + ['{"id":"x","label":"0"}', ""]
        r = self.d.request("POST", "/v1/models/m/records?atomic=true",
                           data="\n".join(lines).encode(),
                           headers={"Content-Type": "application/x-ndjson"})
        assert r.status_code == 422, f"{r.status_code} {r.text}"

    def wait_for_no_trace_of(self, records):
        def gone():
            self.d.get("/v2/health/live")  # a dead daemon scrubs nothing
            return not traces(self.d.data_dir, records)
        wait("the end of refused or deleted rows", gone)

    def train(self, model, key):
        job = self.ask_for_training(model, key)
        assert self.d.wait_job(job, 60)["state"] == "succeeded"

    def erase_in_training(self):
        """Whatever of the training the erasure comes into, the end is the same."""
        job = self.ask_for_training("m", "third")
        self.erase(4)
        assert self.d.wait_job(job, 60)["state"] == "succeeded"

    def erase_in_compaction(self):
        """Wherever the person's rows are just then."""
        job = self.post("/v1/models/m/compact", {}, "compact", 202).json()["id"]
        self.jobs.add(job)
        self.erase(5)
        assert traces(self.d.data_dir, [r for r in LATE if r["id"] in ERASURES[5][1]]) == []
        assert self.d.wait_job(job, 60)["state"] == "succeeded"
        shards = self.d.ok("GET", "/v1/models/m/shards")["shards"]
        assert all(len(s["slices"]) == MODEL["slices"] for s in shards), shards

    def ask_for_training(self, model, key):
        # a training waits for a called-off upload that is still being removed
        def ask():
            r = self.d.post(f"/v1/models/{model}/train", headers={"Idempotency-Key": key})
            assert r.status_code in (202, 409), r.text
            return r.json() if r.status_code == 202 else None
        job = wait("a training's turn", ask)["id"]
        self.jobs.add(job)
        return job

    def predict(self):
        r = self.d.infer("m", [x["features"] for x in PLAIN[:3]])
        assert r.status_code == 200, r.text

    def took(self, k, id_):
        self.erasures[k] = id_
        self.gone |= set(ERASURES[k][1])

    def erase(self, k):
        self.asked_erasure = [k]
        before = self.holds(ERASURES[k][1][0])
        r = self.post("/v1/erasures", ERASURES[k][0], f"erase-{k}", 202)
        # exactly once: the key finds the erasure where it was committed, and only there
        replayed = r.headers.get("Idempotency-Replayed") == "true"
        if not before and not replayed:
            # in the ledger and not yet in the database: the start carried it out, without its key
            assert self.d.ok("GET", "/v1/audit?type=erasure.replayed")["items"], f"erasure {k}"
            assert r.json()["matched"] == 0
        else:
            assert replayed != before, f"erasure {k}: held before {before}, replayed {replayed}"
            assert r.json()["matched"] == len(ERASURES[k][1])
        self.took(k, r.json()["id"])
        self.asked_erasure = None
        assert not self.holds(ERASURES[k][1][0])
        self.d.wait_erasure(r.json()["id"], 60)

    def hold(self, k):
        """Durable, and nobody is forgotten."""
        body = {**ERASURES[k][0], "hold": True, "regulation": "ccpa"}
        e = self.post("/v1/erasures", body, f"hold-{k}", 202).json()
        assert e["state"] == "accepted" and self.holds(ERASURES[k][1][0])
        self.on_hold[k] = e["id"]

    def extend(self, k):
        url = f"/v1/erasures/{self.on_hold[k]}"
        received = datetime.fromisoformat(self.d.ok("GET", url)["received_at"].replace("Z", "+00:00"))
        to = (received + timedelta(days=80)).strftime("%Y-%m-%dT%H:%M:%SZ")
        e = self.d.ok("POST", url + "/extend", {"deadline": to, "reason_code": "complexity"}, status=200)
        assert e["first_deadline"] < e["deadline"] and e["state"] == "accepted"

    def refuse_a_request(self):
        body = {"subjects": ["plain-person-1"], "hold": True, "received_at": "2020-01-31T09:00:00Z"}
        self.refused = self.post("/v1/erasures", body, "refused", 202).json()["id"]
        wait("an entry that it is overdue", lambda: self.d.ok(
            "GET", f"/v1/audit?type=erasure.overdue&erasure={self.refused}")["items"])
        e = self.d.ok("POST", f"/v1/erasures/{self.refused}/refuse",
                      {"reason_code": "identity_not_verified"}, status=200)
        assert e["state"] == "refused" and self.holds("plain-record-2")

    def release(self, k):
        self.asked_erasure = [k]
        e = self.d.ok("POST", f"/v1/erasures/{self.on_hold[k]}/release", status=202)
        assert e["matched"] == len(ERASURES[k][1]), e
        self.took(k, e["id"])
        self.asked_erasure = None
        assert not self.holds(ERASURES[k][1][0])
        self.d.wait_erasure(e["id"], 60)

    def batch(self):
        self.asked_erasure = [1, 2]
        told = {"callback_url": self.d.listener.url + "/callback"}
        body = "".join(json.dumps({**ERASURES[k][0], **told}) + "\n" for k in (1, 2))
        r = self.d.request("POST", "/v1/erasures:batch", data=body.encode(),
                           headers={"Content-Type": "application/x-ndjson"})
        assert r.status_code == 200, r.text
        for k, line in zip((1, 2), r.text.splitlines()):
            # a batch has no key: repeated, it finds nobody, and says so
            self.took(k, json.loads(line)["id"])
        self.asked_erasure = None
        for k in (1, 2):
            self.d.wait_erasure(self.erasures[k], 60)
        self.d.listener.enough.set()
        self.wait_until_told()

    def rotate(self):
        r = self.d.post("/v1/webhooks/all/rotate", {"overlap_seconds": 3600})
        assert r.status_code == 200 and self.secrets()[0] == r.json()["secret"]

    def secrets(self):
        lines = (self.d.data_dir / "keys/webhook-all.secret").read_text().splitlines()
        return [line.split()[0] for line in lines]

    def wait_until_told(self):
        wait("deliveries", lambda: "\nunlearnd_deliveries_pending 0\n" in self.d.get("/metrics").text)

    def verify(self):
        shards = self.d.verify("m")
        assert len(shards) == 2 and all(s["identical"] for s in shards), shards

    def backup(self):
        """One that a crash cut off is made again, under another name; a whole one stands."""
        def made():
            name = f"backup-{random.SystemRandom().randrange(1 << 32)}"
            job = self.post("/v1/backups", {"directory": name}, name, 202).json()["id"]
            return self.d.wait_job(job, 60)["state"] == "succeeded"
        wait("a backup", made)

    def rotate_key(self):
        """Once: a start that died may have announced it, and the next one did where it had not."""
        def exchange():
            if not (self.d.data_dir / "keys/log.key.old").exists():
                subprocess.run([str(BIN / "unlearnctl"), "audit", "rotate-key", "--data-dir",
                                str(self.d.data_dir)], check=True, capture_output=True, timeout=30)
        if len(self.d.ok("GET", "/v1/audit/keys")["items"]) == 1:
            self.d.restart_or_die(exchange)
        old, new = self.d.ok("GET", "/v1/audit/keys")["items"]
        for key in (old, new):
            rfc6962.signature_of(new["handover"], key["vkey"])
        self.head = rfc6962.check_growth(self.d, new["handover"])
        assert not (self.d.data_dir / "keys/log.key.old").exists()
    def import_suppressions(self):
        """Of one who was never held; it may be repeated."""
        stranger = {"pseudonym": "ab" * 16, "kind": "subject", "model": None,
                    "erasure": "01M8854P3FMPWKZ3V5DDT2W63G", "since": "2026-01-31T09:00:00Z"}
        r = self.d.get("/v1/suppressions", headers={"Accept": "application/x-ndjson"})
        head = r.text.splitlines()[0]
        r = self.d.request("POST", "/v1/suppressions:import",
                           data="\n".join([head, json.dumps(stranger), '{"suppressions":1}']),
                           headers={"Content-Type": "application/x-ndjson"})
        assert r.status_code == 200 and r.json()["added"] + r.json()["already"] == 1, r.text
        self.suppressed = stranger["pseudonym"]

    DSR = {"subject_request_id": "a7551968-d5d6-44b2-9831-815ac9017798",
           "subject_request_type": "erasure", "submitted_time": "2026-01-31T09:00:00Z"}

    def opendsr_request(self):
        """Of one whom nobody knows: repeated, it is the same request, or a new one where no commit
        knows the first."""
        r = self.d.post("/opendsr/v2/requests", {
            **self.DSR, "status_callback_urls": [self.d.listener.url + "/opendsr"],
            "subject_identities": [{"identity_type": "email", "identity_value": "no@example.org",
                                    "identity_format": "raw"}]})
        assert r.status_code == 201, r.text
        self.dsr = r.json()

    def check_dsr(self):
        r = self.d.ok("GET", f"/opendsr/v2/requests/{self.DSR['subject_request_id']}")
        assert r["request_status"] == "completed"
        assert r["expected_completion_time"] == self.dsr["expected_completion_time"]

    def delete(self):
        r = self.d.delete("/v1/models/other")
        assert r.status_code in (204, 404), r.text
        self.deleted = True
        self.wait_for_no_trace_of(OTHER)

    # --- what is true from outside ---
    def holds(self, record, model="m"):
        status = self.d.get(f"/v1/models/{model}/records/{record}").status_code
        assert status in (200, 404), status
        return status == 200

    def check(self):
        """After a restart: whatever an answer promised is so, and the rest is so wholly or not."""
        self.observe()
        assert self.d.get("/v2/health/ready").status_code == 200
        listed = {m["name"] for m in self.d.ok("GET", "/v1/models")["items"]}
        assert self.models - {"other"} <= listed, f"models {listed}"
        assert not self.deleted or "other" not in listed, "a deleted model is back"
        there = {r["id"] for r in EVERYBODY if self.holds(r["id"])} if "m" in listed else set()
        lost = self.held - self.gone - self.unanswered_erasure() - there
        assert not lost, f"acknowledged and lost: {lost}"
        assert not self.gone & there, f"back: {self.gone & there}"
        self.check_unanswered(there)
        self.check_erasures()
        if self.suppressed is not None:
            items = self.d.ok("GET", "/v1/suppressions?limit=1000")["items"]
            assert self.suppressed in {i["pseudonym"] for i in items}, "an import is lost"
        if self.dsr is not None:
            self.check_dsr()
        for job in self.jobs:
            assert self.d.get(f"/v1/jobs/{job}").status_code == 200, f"job {job} is lost"
        if "m" in listed:
            self.check_counts(len(there))
        if self.at < len(self.steps) - 1:  # afterwards it may be deleted
            for record in self.held_by_other:
                assert self.holds(record, "other"), f"{record} was acknowledged and is lost"

    def check_or_die(self):
        """`check`, by a daemon that may be killed while it answers."""
        try:
            self.check()
        except LOST:
            wait("the daemon's end", self.d.died, 10)

    def unanswered_erasure(self):
        return {r for k in self.asked_erasure or [] for r in ERASURES[k][1]}

    def check_unanswered(self, there):
        if self.asked_upload is not None and self.asked_upload[1]:
            ids = {r["id"] for r in self.asked_upload[0]}
            assert ids & there in (set(), ids), "half of an atomic upload is there"
        for k in self.asked_erasure or []:
            ids = set(ERASURES[k][1])
            assert ids & there in (set(), ids), f"half of erasure {k} was done"
        # a start removes the rows that no commit knows before it serves
        unknown = [r for r in (self.asked_upload or ([], False))[0] + REFUSED
                   if r in EVERYBODY and r["id"] not in there]
        assert traces(self.d.data_dir, unknown) == [], "rows that no commit knows"

    def check_erasures(self):
        for id_ in self.erasures.values():
            e = self.d.ok("GET", f"/v1/erasures/{id_}")
            assert e["state"] in ("forgotten", "completed"), e
            check_rolled_back(self.d, e)
        for k, id_ in self.on_hold.items():
            e = self.d.ok("GET", f"/v1/erasures/{id_}")
            assert e["hold"] and (e["state"] == "accepted") == self.holds(ERASURES[k][1][0]), e

    def check_counts(self, held):
        shards = self.d.ok("GET", "/v1/models/m/shards")["shards"]
        live = sum(s["live"] for shard in shards for s in shard["slices"])
        assert live == held == self.d.model("m")["records"], f"{live} live, {held} held"

    def check_end(self, expected):
        """The story is over: the model is as if the erased had never been, and so is the disk."""
        for id_ in self.erasures.values():
            e = self.d.wait_erasure(id_, 60)
            assert e["scrubbed_at"], e
        wait("a ready model", lambda: self.d.model("m")["state"] == "ready")
        self.check()
        self.check_model(expected)
        left = [r for r in PLAIN + ATOMIC + LATE + MORE if r["id"] not in GONE]
        away = [r for r in EVERYBODY if r["id"] in GONE] + REFUSED + OTHER
        # a row may stand in a checkpoint too: the mean of a single row is that row
        seen = {id_ for _, id_ in traces(self.d.data_dir, left)}
        assert seen == {r["id"] for r in left}, "the scan does not see"
        assert traces(self.d.data_dir, away) == []
        wait("an empty scratch folder",
             lambda: not any((self.d.data_dir / "scratch").iterdir()))
        assert not list(self.d.data_dir.rglob("*.tmp"))
        self.check_log()
        self.check_told()
        with self.d.listener.lock:
            told = [json.loads(b) for p, _, b in self.d.listener.requests if p == "/opendsr"]
        assert "completed" in {m["request_status"] for m in told}, "the controller was not told"
        self.check_recalled()

    def check_model(self, expected):
        # what the last commit made is served a moment after it
        wait("the model that never saw the erased",
             lambda: self.d.model("m")["served_hash"] == expected, 10)
        assert self.d.model("m")["degraded_constituents"] == 0

    def check_told(self):
        """The endpoint heard of every entry that is not about deliveries, by one message each."""
        self.wait_until_told()
        told = [(m["type"], json.dumps(m["data"]))
                for m in self.d.listener.messages(self.secrets(), "/all")]
        happened = [(e["type"], json.dumps(e["data"])) for e in check_whole_log(self.d)
                    if not e["type"].startswith(("delivery.", "endpoint.", "webhook."))]
        assert sorted(told) == sorted(happened), set(told) ^ set(happened)

    def check_recalled(self):
        """Who was in what was served is in the feed, once."""
        items = self.d.ok("GET", "/v1/models/m/recalls")["items"]
        told = [x["erasure"] for x in items]
        assert len(set(told)) == len(told), told
        for k in (0, 3):
            e = self.d.ok("GET", f"/v1/erasures/{self.erasures[k]}")
            assert (e["id"] in told) == (e["matched"] > 0), (k, e, items)

    def check_log(self):
        entries = check_whole_log(self.d)
        count = {}
        for e in entries:
            count[e["type"]] = count.get(e["type"], 0) + 1
        of = {e: sorted(x["type"].removeprefix("erasure.") for x in entries
                        if x["data"].get("erasure") == e)
              for e in [*self.erasures.values(), self.refused]}
        assert of[self.refused] == ["accepted", "overdue", "refused"], of
        for e in self.erasures.values():
            if e in self.on_hold.values():
                # in the ledger and not yet in the database: the start released it
                of[e].remove("replayed" if "replayed" in of[e] else "released")
                of[e].remove("extended")
            assert of[e] == ["accepted", "completed", "forgotten", "scrubbed"], of[e]
            self.check_certificate(e, entries)
        assert count["log.key_rotated"] == 1, count
        assert count["model.created"] == 2 and count["model.deleted"] == 1, count
        assert count["training.requested"] == 4 == count["model.trained"], count
        assert count["compaction.requested"] == 1 == count["model.compacted"], count
        assert 1 <= count["shard.compacted"] <= MODEL["shards"], count
        loaded = sum(e["data"]["accepted"] for e in entries if e["type"] == "records.loaded")
        assert loaded == len(PLAIN + ATOMIC + LATE + MORE + OTHER), "records were loaded twice"

    def check_certificate(self, erasure, entries):
        """The one that the log committed to when the erasure was completed."""
        envelope = self.d.ok("GET", f"/v1/erasures/{erasure}/certificate", status=200)
        payload = base64.b64decode(envelope["payload"])
        said = json.loads(payload)["predicate"]
        entry = entries[said["log_index"]]
        assert entry["type"] == "erasure.completed" and entry["data"]["erasure"] == erasure, entry
        assert entry["data"]["certificate"] == hashlib.sha256(payload).hexdigest()
        assert all(c["outcome"] != "retrained" or c["after"] for c in said["constituents"]), said


MANY = 5000  # over what one step of a scrub, of an abort or of a deletion takes


def crowd(name, count, mark=None):
    """`count` records of one person; two features are the person's mark."""
    records = people(name, (count + 1) // 2)[:count]
    for r in records:
        r["subject"] = f"{name}-person"
        if mark is not None:
            r["features"][:2] = mark
    return records


class LargeStory(Story):
    """One person with thousands of records, a refused upload of as many and a model of as many: what
    is done in bounded steps, of which each may be the last one before a crash."""
    MARKS = {"erased": [1234.5, -77.25], "refused": [4321.5, -99.75], "deleted": [3142.5, -55.125]}
    UPLOAD_OF_THOSE_WHO_STAY = 6  # the step's number
    STAYS = crowd("stays", MANY // 3)  # comes after the first training

    def __init__(self, daemon, never=False):
        super().__init__(daemon)
        self.sent = {k: crowd(k, MANY, mark) for k, mark in self.MARKS.items()}
        self.id = None
        self.steps = [
            lambda: self.create("m"),
            lambda: self.upload("m", PLAIN + self.STAYS),
            lambda: self.train("m", "first"),
        ] if never else [
            lambda: self.create("m"),
            lambda: self.upload("m", PLAIN),
            lambda: self.upload("m", self.sent["erased"]),
            self.refused_upload,
            lambda: self.train("m", "first"),
            self.erase_the_person,
            lambda: self.upload("m", self.STAYS),
            self.compact,
            lambda: self.create("other"),
            lambda: self.upload("other", self.sent["deleted"]),
            self.delete,
        ]

    def left_of(self, who):
        mark = struct.pack("<2f", *self.MARKS[who])
        return [path for path, data in contents(self.d.data_dir) if mark in data]

    def wait_for_no_trace_of(self, who):
        def gone():
            self.d.get("/v2/health/live")
            return not self.left_of(who)
        wait(f"the end of the {who} rows", gone)

    def refused_upload(self):
        self.refuse(self.sent["refused"])
        self.wait_for_no_trace_of("refused")

    def erase_the_person(self):
        r = self.post("/v1/erasures", {"subjects": ["erased-person"]}, "erase", 202).json()
        assert r["matched"] == MANY
        self.id = r["id"]
        self.d.wait_erasure(self.id, 60)

    def compact(self):
        job = self.post("/v1/models/m/compact", {}, "compact", 202).json()["id"]
        assert self.d.wait_job(job, 60)["state"] == "succeeded"

    def delete(self):
        r = self.d.delete("/v1/models/other")
        assert r.status_code in (204, 404), r.text
        self.wait_for_no_trace_of("deleted")

    def check(self):
        self.observe()
        if self.at == 0:
            return
        shards = self.d.ok("GET", "/v1/models/m/shards")["shards"]
        live = sum(s["live"] for shard in shards for s in shard["slices"])
        assert live == self.d.model("m")["records"] and live <= len(PLAIN) + MANY, live
        if self.at > self.UPLOAD_OF_THOSE_WHO_STAY:
            assert live == len(PLAIN + self.STAYS)
            assert all(self.holds(r["id"]) for r in self.STAYS[::100])
        assert all(self.holds(r["id"]) for r in PLAIN) or self.at == 1
        there = {self.holds(r["id"]) for r in self.sent["erased"][::500]}
        if self.id is not None:
            assert there == {False} and len(PLAIN) <= live <= len(PLAIN + self.STAYS)
            check_rolled_back(self.d, self.d.ok("GET", f"/v1/erasures/{self.id}"))
        elif self.at > 2:
            assert len(there) == 1, "half of the person is left"
        assert not any(self.holds(r["id"]) for r in self.sent["refused"][::500])

    def check_end(self, expected):
        assert self.d.wait_erasure(self.id, 60)["scrubbed_at"]
        wait("a ready model", lambda: self.d.model("m")["state"] == "ready")
        self.check()
        self.check_model(expected)
        for who in self.MARKS:
            self.wait_for_no_trace_of(who)
        wait("the end of the deletion", lambda: not (self.d.data_dir / "models/other").exists())
        check_whole_log(self.d)
