# SPDX-License-Identifier: Apache-2.0
"""A drill on a restored backup beside the real daemon: it does everything and speaks to nobody. Without the
option it would, which the same test shows: otherwise it could not fail."""
import time

import pytest
from conftest import DIGITS
from receiver import Receiver
from rfc6962 import parse_checkpoint
from witness import Witness

ORIGIN = "example.org/log"
FAST = ["--allow-networks", "127.0.0.0/8", "--delivery-retry-ms", "20", "--witness-interval-ms", "50",
        "--gather-window-ms", "0", "--origin", ORIGIN]


def wait(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.02)
    return found


def pending(daemon):
    return next(float(line.split()[-1]) for line in daemon.get("/metrics").text.splitlines()
                if line.startswith("unlearnd_deliveries_pending "))


def witness_view(daemon):
    return daemon.ok("GET", "/v1/audit/witnesses")["items"][0]


def heard_in_the_end(receiver, witness):
    """What they count when the daemon is gone: an answer that it did not wait for is noted a little later."""
    counts, since = None, 0
    while time.monotonic() < since + 1 or counts is None:
        now = len(receiver.seen()), len(witness.answers)
        if now != counts:
            counts, since = now, time.monotonic()
        time.sleep(0.02)
    return counts


@pytest.fixture
def outside(tmp_path):
    """Who is spoken to: an endpoint that takes nothing yet, and a witness."""
    receiver, witness = Receiver(lambda n, path: (503, {})), Witness(tmp_path / "w", "witness.example/w1")
    yield receiver, witness
    receiver.close()
    witness.close()


def test_a_drill_on_a_restored_backup_speaks_to_nobody(make_daemon, digits, outside, tmp_path):
    receiver, witness = outside
    config = tmp_path / "unlearnd.conf"
    config.write_text(f"[webhook crm]\nurl = {receiver.url}/\n" + witness.section("one"))
    options = ["-c", str(config), *FAST]
    real = make_daemon(*options, "--backup-dir", str(tmp_path / "backups"))
    real.create(**DIGITS)
    real.load("digits", digits[:300])
    real.train("digits")
    witness.trust(real.get("/v1/audit/key").text)
    real.erase(subjects=["s3"])
    wait("the witness", lambda: witness_view(real)["last_outcome"] == "cosigned")
    queued = pending(real)
    assert queued > 0
    real.ctl("backup", "nightly", "--with-keys")
    real.erase(subjects=["s4"])  # the real log goes on, and is cosigned
    wait("the witness", lambda: witness.size(ORIGIN) ==
         parse_checkpoint(real.get("/v1/audit/checkpoint").text)[1])
    real.stop()
    heard, asked = heard_in_the_end(receiver, witness)

    scratch = tmp_path / "scratch"
    real.ctl("restore", str(tmp_path / "backups" / "nightly"), "--data-dir", str(scratch))
    drill = make_daemon(*options, "--hold-outgoing", data_dir=str(scratch))
    drill.erase(subjects=["s5"])
    assert all(s["identical"] for s in drill.verify("digits"))
    time.sleep(1)  # twenty rounds, or fifty attempts
    assert pending(drill) > queued, "what it would say waits"
    assert len(receiver.seen()) == heard and len(witness.answers) == asked
    assert witness_view(drill)["last_outcome"] != "inconsistent"

    drill.stop()
    loose = make_daemon(*options, data_dir=str(scratch))
    wait("a delivery of the drill", lambda: len(receiver.seen()) > heard)
    wait("an offer of the drill", lambda: len(witness.answers) > asked)
    loose.stop()
