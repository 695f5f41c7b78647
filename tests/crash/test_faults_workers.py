# SPDX-License-Identifier: Apache-2.0
"""Workers that misbehave: they cost retries of one job, and no prediction."""
import errno
import json
import time

import faults as F
import pytest
from conftest import BIN
from faults_world import make_world, wait, world
from figures import figure

GOOD = 'exec "$worker" "$1"'
def rewrites(how):
    """Changes the headers of its checkpoints, and says their hashes as they are then."""
    return rf'''"$worker" "$1" > "$here/said"
        for f in "$scratch"/slice-*.ckpt; do
            LC_ALL=C sed -i '{how}' "$f"
            slice=${{f##*-00}}; hash=$(sha256sum < "$f" | cut -c-64)
            sed -i "s/^\(stage ${{slice%.ckpt}}\) [0-9a-f]*/\1 $hash/" "$here/said"
        done; cat "$here/said"; exit 0'''


WORKERS = {
    "hangs": "exec sleep 600",
    "exits with 3": "exit 3",
    "is killed": "kill -9 $$",
    "ends without a word": "exit 0",
    "says nonsense": "echo stage 1 zz; sleep 600",
    "says too much": "head -c 100000 /dev/zero | tr '\\0' x; sleep 600",
    "cannot have its memory": "ulimit -v 30000; exec \"$worker\" \"$1\"",
    "writes a wrong checkpoint": '"$worker" "$1" > "$here/said"; '
        'for f in "$scratch"/*.ckpt; do printf X | dd of="$f" bs=1 seek=700 conv=notrunc 2>/dev/null;'
        ' done; cat "$here/said"; exit 0',
    "writes a truncated checkpoint": '"$worker" "$1" > "$here/said"; '
        'for f in "$scratch"/*.ckpt; do truncate -s -9 "$f"; done; cat "$here/said"; exit 0',
    "writes to another place": '"$worker" "$1" > "$here/said"; '
        'mv "$scratch"/*.ckpt "$here/"; cat "$here/said"; exit 0',
    "writes one slice in place of another": '"$worker" "$1" > "$here/said"; '
        'for f in "$scratch"/*.ckpt; do cp "$scratch/slice-002.ckpt" "$f.new"; done; '
        'for f in "$scratch"/*.new; do mv "$f" "${f%.new}"; done; '
        'last=$(grep "^stage 2 " "$here/said" | cut -d" " -f3-); '
        'sed "s/^\\(stage [0-9]*\\) .*/\\1 $last/" "$here/said"; exit 0',
    "writes the checkpoints of another shard":
        rewrites('s/"shard":"0"/"shard":"1"/;t;s/"shard":"1"/"shard":"0"/'),
    "trains with another kernel": rewrites('s/"kernel":"./"kernel":"_/'),
    "says that others were retained": r'''"$worker" "$1" |
        sed -E 's/^(stage [0-9]+ [0-9a-f]+ [0-9a-f]+ )[0-9a-f]{8}/\100000000/'; exit 0''',
    "says that it was more records": r'''"$worker" "$1" | sed 's/^\(stage .* \)/\19/'; exit 0''',
}


class FakeWorker:
    """A worker program whose next runs misbehave."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "worker"
        self.path.write_text(f'''#!/bin/sh
PATH=/usr/bin:/bin; here={folder}; worker={BIN.resolve()}/unlearn-worker; scratch=$(dirname "$1")
echo run >> "$here/runs"
left=$(cat "$here/left")
bad=$(cat "$here/bad")
if [ "$left" -gt 0 ]; then
    echo $((left - 1)) > "$here/left"
    eval "$bad"
fi
{GOOD}
''')
        self.path.chmod(0o755)
        self.misbehave(GOOD, 0)

    def misbehave(self, how, times):
        (self.folder / "bad").write_text(how + "\n")
        (self.folder / "left").write_text(f"{times}\n")
        (self.folder / "runs").write_text("")

    def taken(self):
        """The last run that is to misbehave has begun, and has read how."""
        return (self.folder / "left").read_text() == "0\n"

    def runs(self):
        return len((self.folder / "runs").read_text().splitlines())


@pytest.fixture
def working(make_daemon, tmp_path):
    folder = tmp_path / "worker"
    folder.mkdir()
    fake = FakeWorker(folder)
    w = make_world(make_daemon, tmp_path, "--worker-path", str(fake.path), "--worker-seconds", "2",
                   "--workers", "1")
    return w, fake


@pytest.mark.parametrize("how", WORKERS)
def test_a_worker_that_misbehaves_costs_retries_of_one_job_and_no_prediction(working, how):
    w, fake = working
    fake.misbehave(WORKERS[how], 2)
    failed = w.metric("unlearnd_jobs_failed_total")
    e = w.erase(w.subject_in(slice=1)).json()["id"]  # both slices are trained again
    predictions = 0
    while w.daemon.ok("GET", f"/v1/erasures/{e}")["state"] != "completed":
        w.predict()
        assert w.ready().status_code == 200
        predictions += 1
        time.sleep(0.02)
    assert fake.runs() == 3  # two that failed and one that did not: bounded, with a pause between
    assert w.metric("unlearnd_jobs_failed_total") == failed + 2
    jobs = [j for j in w.daemon.ok("GET", "/v1/jobs")["items"] if j["kind"] == "retrain"]
    assert [j["state"] for j in jobs] == ["succeeded", "failed", "failed"]
    assert [j["attempts"] for j in jobs] == [3, 2, 1]
    assert all(j["error"] for j in jobs[1:]) and not jobs[0]["error"]
    assert all(s["identical"] for s in w.daemon.verify(w.name))
    wait(lambda: not any((w.daemon.data_dir / "scratch").iterdir()), "an empty scratch folder")
    w.check()
    figure("workers that misbehave", kind=how, runs=fake.runs(), predictions=predictions,
           predictions_lost=0)


def test_the_lowest_of_two_erasures_bounds_what_a_run_may_keep(make_daemon, tmp_path):
    """Both come between two looks of the loop, the one in the higher slice first (invariant 4)."""
    folder = tmp_path / "worker"
    folder.mkdir()
    fake = FakeWorker(folder)
    w = make_world(make_daemon, tmp_path, "--worker-path", str(fake.path), "--workers", "1")

    def person_in(shard, slice):
        path = f"/v1/models/{w.name}/records/"
        return next(r["subject"] for r in w.held.values()
                    if {"shard": shard, "slice": slice}.items() <= w.daemon.ok("GET", path + r["id"]).items())

    fake.misbehave('"$worker" "$1"; touch "$here/trained"; exec sleep 600', 1)
    e = w.erase(w.subject_in(slice=1)).json()  # both slices are trained again
    shard = e["affected"][0]["shard"]
    wait(lambda: (folder / "trained").exists(), "both checkpoints")
    both = [json.dumps({"subjects": [person_in(shard, slice)]}) + "\n" for slice in (2, 1)]
    r = w.daemon.request("POST", "/v1/erasures:batch", data="".join(both).encode(),
                         headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 200, r.text
    assert fake.runs() == 1, "it ran until they came"
    for line in r.text.splitlines():
        w.daemon.wait_erasure(json.loads(line)["id"])
    assert all(s["identical"] for s in w.daemon.verify(w.name))


def test_checkpoints_of_a_publication_that_did_not_commit_are_removed(working):
    """No commit knows them, so no erasure would: they must not wait for the next training."""
    w, fake = working
    fake.misbehave(f'while [ ! -e "$here/go" ]; do sleep 0.05; done; {GOOD}', 1)
    e = w.erase("s5").json()
    wait(lambda: fake.runs() == 1, "a worker")
    at = e["affected"][0]
    shard = w.daemon.data_dir / "models" / w.name / f"shard-{at['shard']:03}"
    stale = shard / f"slice-{at['slice']:03}.ckpt"
    assert not stale.exists()
    w.faults.on(F.SYNC, errno.EIO, "control.mdb")
    (fake.folder / "go").touch()
    wait(lambda: w.degraded("store"), "the fault")
    fake.misbehave("exec sleep 600", 1)  # nobody else puts a checkpoint there
    w.faults.off()
    w.recovered()
    wait(lambda: fake.runs() == 1, "the next worker")
    assert not stale.exists()
    w.daemon.wait_erasure(e["id"])
    assert stale.exists()
    jobs = [j for j in w.daemon.ok("GET", "/v1/jobs")["items"] if j["kind"] == "retrain"]
    assert jobs[-1]["state"] == "failed" and jobs[-1]["error"].startswith("not published: "), jobs
    assert all(j["ended_at"] for j in jobs), jobs
    w.check()


def test_a_verification_that_cannot_be_prepared_blames_no_worker(working):
    """Its shard is clean: no retrain would ever take the blame from it again."""
    w, fake = working
    # Of the store's syncs the 2nd, 4th and 6th: between them a probe finds it whole. A rule does
    # not count the calls that an earlier one failed.
    for rule, n in enumerate([2, 3, 4]):
        w.faults.on(F.SYNC, errno.EIO, "control.mdb", first=n, last=n, rule=rule)
    assert w.daemon.verify(w.name, shards=[0])[0]["identical"]
    assert [w.faults.hit(rule) for rule in range(3)] == [1, 1, 1]
    w.faults.off()
    w.recovered()
    subject = next(r["subject"] for r in w.held.values() if w.daemon.ok(
        "GET", f"/v1/models/{w.name}/records/{r['id']}")["shard"] == 1)
    fake.misbehave("exit 3", 1)
    w.daemon.wait_erasure(w.erase(subject).json()["id"])
    assert not w.logged("degraded reason=worker")


def test_a_verification_of_a_shard_whose_retrain_fails_for_ever_ends(working):
    w, fake = working
    wait(w.settled, "nothing else to run")
    fake.misbehave("exec sleep 600", 1)
    subject = w.subject_in(slice=1)
    shard = w.daemon.ok("GET", f"/v1/models/{w.name}/records/{subject.replace('s', 'r')}")["shard"]
    job = w.daemon.ok("POST", f"/v1/models/{w.name}/verify", {"shards": [shard]}, status=202)["id"]
    wait(fake.taken, "its worker")
    fake.misbehave("exit 3", 1000)
    assert w.erase(subject).status_code == 202  # nothing of the shard is clean now
    ended = w.daemon.wait_job(job)
    assert ended["state"] == "failed" and "retrain fails again and again" in ended["error"], ended
    fake.misbehave(GOOD, 0)
    wait(w.settled, "trained after all")
    assert all(s["identical"] for s in w.daemon.verify(w.name))


def test_workers_that_fail_again_and_again_are_told_to_operators(working):
    w, fake = working
    fake.misbehave("exit 3", 1000)
    e = w.erase("s5").json()["id"]
    wait(lambda: w.degraded("worker"), "the gauge")
    assert w.ready().status_code == 200  # predictions are served: nobody should go elsewhere
    w.predict()
    assert w.upload(w.fresh()) == 200
    w.told_once("degraded")
    fake.misbehave(GOOD, 0)
    w.daemon.wait_erasure(e)
    wait(lambda: not w.degraded("worker"), "the end of it")
    w.told_once("recovered")
    w.check()


def test_a_training_shows_its_failures_and_gives_up_after_five(working):
    w, fake = working
    assert w.upload(w.fresh(40)) == 200
    fake.misbehave("exit 3", 1)
    job = w.daemon.ok("POST", f"/v1/models/{w.name}/train", status=202)["id"]
    shown = wait(lambda: (lambda j: j if j["attempts"] else None)(
        w.daemon.ok("GET", f"/v1/jobs/{job}")), "a failure")
    assert "status 3" in shown["error"]
    ended = w.daemon.wait_job(job)
    assert ended["state"] == "succeeded" and not ended["error"], ended
    assert w.upload(w.fresh(40)) == 200
    fake.misbehave("exit 3", 1000)
    ended = w.daemon.wait_job(
        w.daemon.ok("POST", f"/v1/models/{w.name}/train", status=202)["id"])
    assert ended["state"] == "failed" and "status 3" in ended["error"], ended
    assert 5 <= fake.runs() <= 10  # five of one shard; the other waits its turn
    w.predict()
    fake.misbehave(GOOD, 0)
    wait(w.settled, "trained after all")
    w.check()


def test_a_worker_over_its_memory_limit_fails_its_job_and_nothing_else(make_daemon, tmp_path):
    w = make_world(make_daemon, tmp_path, "--worker-memory-bytes", "32M", train=False)
    job = w.daemon.ok("POST", f"/v1/models/{w.name}/train", status=202)["id"]
    ended = w.daemon.wait_job(job)
    assert ended["state"] == "failed" and ended["error"], ended
    assert w.ready().status_code == 200
    assert w.upload(w.fresh()) == 200
    w.check()


# --- the clock ---


def test_a_step_of_the_clock_during_a_retrain_neither_ends_nor_holds_it(working):
    w, fake = working
    fake.misbehave(f"sleep 1; {GOOD}", 1)
    e = w.erase("s5").json()["id"]
    wait(lambda: fake.runs() == 1, "a worker")
    w.faults.step_clock(-10 * 365 * 86400)
    job = [j for j in w.daemon.ok("GET", "/v1/jobs")["items"] if j["kind"] == "retrain"][0]
    assert job["eta_seconds"] is None or job["eta_seconds"] >= 0
    w.daemon.wait_erasure(e)
    assert fake.runs() == 1
    job = w.daemon.ok("GET", f"/v1/jobs/{job['id']}")
    assert job["started_at"] <= job["ended_at"]
