# SPDX-License-Identifier: Apache-2.0
"""The removal of an atomic upload that was called off: nobody says `scrubbed` before its rows are
gone, and what takes long keeps nobody waiting."""
import errno
import json
import threading

import faults as F
import pytest
import requests
from conftest import BIN, DIGITS
from world import LOST, Held, wait

OPTIONS = ["--gather-window-ms", "0", "--retry-first-ms", "20"]
CONFIG = {**DIGITS, "name": "m", "kind": "softmax", "features": 16, "shards": 1, "slices": 2, "epochs": 1}
CONFIG.pop("hidden")
NDJSON = {"Content-Type": "application/x-ndjson"}
BATCH = 2048  # rows: daemon/service.h


def row(number, subject=None):
    """A record whose bytes no other has."""
    return {"id": f"r{number}", "subject": subject or f"p{number}", "label": str(number % 10),
            "features": list(b"x%015d" % number)}


def lines(daemon, event):
    return [line for line in daemon.log if event in line]


def on_disk(daemon, what):
    return sum(p.read_bytes().count(bytes(what["features"])) for p in daemon.data_dir.rglob("*.rows"))


def commits(daemon):
    return float(next(line for line in daemon.get("/metrics").text.splitlines()
                      if line.startswith("unlearnd_commits_total")).split()[1])


def scrubbed(daemon, erasure):
    return daemon.ok("GET", f"/v1/erasures/{erasure['id']}")["scrubbed_at"]


def loads(daemon, record, model="m"):
    return daemon.post(f"/v1/models/{model}/records", data=json.dumps(record).encode(),
                       headers=NDJSON).status_code


class Staged:
    """An atomic upload that stands still once `records` are staged; go_on() sends `rest` and ends it."""

    def __init__(self, daemon, records, rest=(), model="m", dropped=False):
        self.go, self.status, self.rest, self.dropped = threading.Event(), None, rest, dropped
        self.url = f"{daemon.url}/v1/models/{model}/records?atomic=true"
        before = commits(daemon)
        self.thread = threading.Thread(target=self.send, args=(records,))
        self.thread.start()
        wait("its whole batches", lambda: commits(daemon) >= before + len(records) // BATCH)

    def body(self, records):
        yield "".join(json.dumps(r) + "\n" for r in records).encode()
        assert self.go.wait(60)
        if self.dropped:
            raise OSError("the client is gone")
        yield "".join(json.dumps(r) + "\n" for r in self.rest).encode()

    def send(self, records):
        try:
            self.status = requests.post(self.url, data=self.body(records), headers=NDJSON,
                                        timeout=60).status_code
        except (OSError, *LOST):
            pass

    def go_on(self):
        self.go.set()
        self.thread.join(60)


@pytest.fixture
def passes(tmp_path):
    (tmp_path / "passes").mkdir()
    return tmp_path / "passes"


@pytest.mark.parametrize("committed", [0, 40])
def test_staged_rows_in_a_file_that_is_away_are_not_scrubbed(make_daemon, tmp_path, committed):
    daemon = make_daemon(*OPTIONS)
    daemon.create(**CONFIG)
    if committed:
        daemon.load("m", [row(n) for n in range(committed)])
    staged = [row(1000 + n) for n in range(BATCH + 1)]
    upload = Staged(daemon, staged)
    files = sorted(daemon.data_dir.rglob("*.rows"))
    assert len(files) == 2
    away, there = files
    victim = next(r for r in staged if bytes(r["features"]) in away.read_bytes())
    other = next(r for r in staged if bytes(r["features"]) in there.read_bytes())
    away.rename(tmp_path / "aside")

    e = daemon.erase(wait=False, subjects=[victim["subject"]])
    upload.go_on()
    assert upload.status == 409
    wait("the end, or that there is none yet",
         lambda: scrubbed(daemon, e) or lines(daemon, "upload_not_removed"))
    assert not scrubbed(daemon, e)
    assert daemon.get(f"/v1/erasures/{e['id']}/certificate").status_code != 200
    wait("the rows elsewhere", lambda: not on_disk(daemon, other))
    for n in range(5):  # each wakes the loop
        daemon.erase(wait=False, subjects=[f"nobody{n}"])
    daemon.restart()
    wait("another try", lambda: len(lines(daemon, "upload_not_removed")) == 2)
    assert not scrubbed(daemon, e)

    (tmp_path / "aside").rename(away)
    wait("the rest, once the file is there again", lambda: scrubbed(daemon, e))
    assert not any(on_disk(daemon, r) for r in staged)
    assert len(lines(daemon, "upload_not_removed")) == 2, "once a start"
    assert loads(daemon, row(10**6)) == 200
    assert daemon.model("m")["damaged_shards"] == 0


def test_staged_rows_in_a_file_with_a_damaged_header_are_removed(make_daemon):
    daemon = make_daemon(*OPTIONS)
    daemon.create(**CONFIG)
    staged = [row(1000 + n) for n in range(BATCH + 1)]
    upload = Staged(daemon, staged)
    damaged = sorted(daemon.data_dir.rglob("*.rows"))[0]
    with damaged.open("r+b") as f:
        f.write(b"damaged!")
    e = daemon.erase(wait=False, subjects=[staged[0]["subject"]])
    wait("the end", lambda: scrubbed(daemon, e))
    upload.go_on()
    assert not any(on_disk(daemon, r) for r in staged)
    wait("room for another", lambda: loads(daemon, row(10**6)) == 200)
    daemon.load("m", [row(n) for n in range(40)])
    daemon.train("m")


def test_a_fault_that_is_over_is_not_taken_for_damage(make_daemon, tmp_path, passes):
    """While a called-off upload is removed in several commits its rows are cut off already; what a
    failed batch left is looked for in between."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    faults = F.Faults(tmp_path / "faults", data)
    daemon = make_daemon(*OPTIONS, data_dir=data, programs=BIN / "faults",
                         env={**faults.env, "UNLEARND_CRASH_PASSES": str(passes)})
    daemon.create(**CONFIG)
    daemon.load("m", [row(n) for n in range(100)])
    upload = Staged(daemon, [row(1000 + n) for n in range(3 * BATCH + 1)],
                    rest=[row(20000 + n) for n in range(2 * BATCH)])
    held = Held(passes, "staged.abort_recorded")
    faults.on(F.WRITE, errno.EIO, "/probe", rule=1)  # no probe comes before the removal
    faults.on(F.SYNC, errno.EIO, ".rows", rule=0)
    upload.go_on()
    assert upload.status == 503
    faults.off(rule=0)
    wait("the removal", lambda: not on_disk(daemon, row(1000)))  # its first step is held now, or soon
    faults.on(F.UNLINK, 0, "/probe", rule=1)
    wait("a probe", lambda: faults.seen(1) > 0)  # it waits for the writer
    held.let_go()
    wait("the end of the fault", lambda: lines(daemon, "recovered"))
    wait("room for another", lambda: loads(daemon, row(10**6)) == 200)
    held.end()
    assert not lines(daemon, "rows_damaged") and daemon.model("m")["damaged_shards"] == 0
    daemon.train("m")


def make_wide(make_daemon, passes):
    """One that can be held at its crash points, with a model of wide rows and another one."""
    daemon = make_daemon(*OPTIONS, programs=BIN / "faults", env={"UNLEARND_CRASH_PASSES": str(passes)})
    for name in ("m", "other"):
        daemon.create(**{**CONFIG, "name": name, "slices": 1})
    daemon.load("other", [row(n) for n in range(20)])
    return daemon, [row(1000 + n) for n in range(3 * BATCH + 1)]


def test_nobody_waits_for_the_cutting_off_of_staged_rows(make_daemon, passes):
    """The writer has other things to do, however many of them there are."""
    daemon, staged = make_wide(make_daemon, passes)
    upload = Staged(daemon, staged, dropped=True)
    (rows,) = (daemon.data_dir / "models/m").rglob("*.rows")
    held = Held(passes, "trim.truncated")
    upload.go_on()
    wait("the cut", lambda: rows.stat().st_size == 64)  # and there it stands
    e = daemon.ok("POST", "/v1/erasures", {"subjects": ["p1"]}, status=202, timeout=15)
    assert loads(daemon, row(10**6), "other") == 200
    assert loads(daemon, row(10**6), "m") == 409, "nobody appends to what is being cut off"
    held.let_go()
    wait("somebody else's scrub", lambda: scrubbed(daemon, e))
    wait("room for another", lambda: loads(daemon, row(10**6), "m") == 200)
    held.end()


def test_others_are_scrubbed_between_the_steps_in_which_staged_rows_are_cut_off(make_daemon, passes):
    daemon, staged = make_wide(make_daemon, passes)
    upload = Staged(daemon, staged, dropped=True)
    (rows,) = (daemon.data_dir / "models/m").rglob("*.rows")
    before = rows.stat().st_size
    held = Held(passes, "scrub_file.truncated")
    upload.go_on()
    wait("the first step", lambda: rows.stat().st_size < before)
    assert rows.stat().st_size > 64
    e = daemon.erase(wait=False, subjects=["p1"])
    held.let_one_by()
    wait("somebody else's scrub", lambda: scrubbed(daemon, e))
    assert rows.stat().st_size > 64 and not lines(daemon, "rows_damaged")
    daemon.kill()  # what is done is done: the next start goes on from there
    held.path.unlink()
    daemon.http = requests.Session()
    daemon.start({"UNLEARND_CRASH_PASSES": str(passes)})
    wait("room for another", lambda: loads(daemon, row(10**6), "m") == 200)
    assert not any(on_disk(daemon, r) for r in staged)
