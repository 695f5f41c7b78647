# SPDX-License-Identifier: Apache-2.0
"""Each call of a kind fails once in a life of its own: UNLEARND_FAULTS_ALL=1 tries all of them in place of
a sample: the first, the last, and one between them that UNLEARND_FAULTS_SEED draws, which is printed."""
import errno
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor

import faults as F
import pytest
import requests
from conftest import Daemon
from faults_world import ALL, OPTIONS, SECONDS, World, insist, wait, world
from figures import figure

EVERY = {
    "writes": (F.WRITE, errno.ENOSPC), "writes cut short": (F.WRITE, F.SHORT),
    "syncs": (F.SYNC, errno.EIO), "meta pages": (F.META, errno.EIO),
    "syncs that lose": (F.SYNC, errno.EIO | F.LOSES), "truncations": (F.TRUNCATE, errno.EIO), "renames": (F.RENAME, errno.EIO),
    "unlinks": (F.UNLINK, errno.EIO), "folders": (F.MKDIR, errno.ENOSPC),
    "opens": (F.OPEN, errno.EMFILE),
}
SEED = int(os.environ.get("UNLEARND_FAULTS_SEED", random.SystemRandom().randrange(1 << 32)))


def sample(kind, calls):
    """Of the calls of a kind, where not all are tried."""
    between = range(2, calls)
    return sorted({1, *random.Random(f"{SEED} {kind}").sample(between, min(1, len(between))), calls})


def scenario(w):
    """The life of a model: every acknowledgement is noted, whatever has to be tried again."""
    records, late = w.fresh(12), w.fresh(6)
    insist(w, w.create, (201, 409))

    def upload(records):
        known = [r for r in records if w.record_held(r["id"])]
        assert len(known) in (0, len(records)), "half of an upload"
        if known:  # the answer was lost, the upload was not
            w.held.update({r["id"]: r for r in known})
            [w.refused.pop(r["id"], None) for r in known]
            return 200
        return w.upload(records)

    insist(w, lambda: upload(records), (200,))
    insist(w, lambda: w.daemon.post(f"/v1/models/{w.name}/train"), (202, 409))
    insist(w, lambda: 200 if w.settled() else 503, (200,))
    insist(w, lambda: w.erase(records[0]["subject"]), (202,))
    for id in [records[0]["id"]]:
        if id in w.held:
            w.erased[id] = w.held.pop(id)
    insist(w, lambda: 200 if w.settled() and not w.left_on_disk() else 503, (200,))
    insist(w, lambda: upload(late), (200,))
    insist(w, lambda: w.daemon.post(f"/v1/models/{w.name}/compact",
                                    headers={"Idempotency-Key": "compact"}), (202,))
    insist(w, lambda: 200 if w.settled() and not w.left_on_disk() else 503, (200,))
    insist(w, lambda: 200 if not list(w.daemon.data_dir.rglob("slice-003.*")) else 503, (200,))
    w.faults.off()
    insist(w, w.ready, (200,))
    w.check()


def one_life(folder, kind, n):
    """The scenario in a daemon of its own with call n failing; how many calls failed, or in a run
    with n None how many there are."""
    kinds, error = EVERY[kind]
    data = folder / "data"
    data.mkdir(mode=0o700, parents=True)
    faults = F.Faults(folder / "faults", data)
    daemon = Daemon(data, *OPTIONS, "--workers", "1", env=faults.env)
    try:
        w = World(daemon, faults)
        faults.on(kinds, 0 if n is None else error, first=n or 1, last=n or F.ALWAYS)
        scenario(w)
        number = faults.seen() if n is None else faults.hit()
        w.check_after_restart()
        w.daemon.stop()
        return number
    except Exception as e:
        raise AssertionError(f"{kind}, call {n}: {e!r}\n" + "\n".join(daemon.log[-20:])) from e
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


@pytest.mark.parametrize("kind", EVERY)
def test_whichever_call_fails_what_was_acknowledged_is_there(tmp_path, kind):
    print(f"UNLEARND_FAULTS_SEED={SEED}")
    F.build_shim()
    calls = one_life(tmp_path / "count", kind, None)
    assert calls > 0
    tried = range(1, calls + 1) if ALL else sample(kind, calls)
    with ThreadPoolExecutor(3) as pool:  # most of it is waiting for the next probe
        hits = list(pool.map(lambda n: one_life(tmp_path / str(n), kind, n), tried))
    assert sum(h > 0 for h in hits) >= len(hits) // 2  # threads may change places: not each is met
    n = calls * 2
    while ALL and one_life(tmp_path / f"over{n}", kind, n) > 0:  # until a run is clean
        n += 1
    figure("every call fails once", kind=kind, calls=calls, tried=len(tried),
           failed=sum(hits), violations=0)


START = ["writes", "syncs", "meta pages", "renames", "unlinks", "folders", "opens"]


def starts(w):
    """Whether the daemon comes up; where it does not, it says why and ends with 1."""
    w.daemon.http = requests.Session()
    w.daemon.log.clear()
    try:
        w.daemon.start(w.faults.env)
        return True
    except AssertionError:
        assert w.daemon.process.wait(SECONDS) == 1
        assert w.daemon.log[-1].startswith("unlearnd: "), w.daemon.log
        return False


def test_a_start_that_meets_a_fault_ends_with_a_reason_and_the_next_one_recovers(world, tmp_path):
    """From what a kill left behind: rows that nobody committed, a scratch folder, a scrub to do."""
    world.faults.on(F.SYNC, errno.EIO, ".rows")
    assert world.upload(world.fresh()) == 503
    assert world.erase("s5").status_code == 202
    wait(lambda: world.degraded("scrub"), "the fault")
    world.daemon.kill()
    world.faults.off()
    (world.daemon.data_dir / "scratch" / "left").mkdir()
    (world.daemon.data_dir / "scratch" / "left" / "slice-001.ckpt").write_bytes(bytes(100))
    left = tmp_path / "left"
    shutil.copytree(world.daemon.data_dir, left)
    tried = failed = 0
    for kind in START:
        kinds, error = EVERY[kind]
        calls = None
        n = 1
        while calls is None or n <= calls:
            shutil.rmtree(world.daemon.data_dir)
            shutil.copytree(left, world.daemon.data_dir)
            world.faults.on(kinds, 0 if calls is None else error, first=n, last=n)
            up = starts(world)
            tried += calls is not None
            if calls is None:
                calls = world.faults.seen()
                world.daemon.kill()
                continue
            world.faults.off()
            failed += not up
            if not up:
                assert starts(world)
            wait(lambda: world.ready().status_code == 200, "ready")
            wait(lambda: not world.left_on_disk(), "scrubbed")
            world.head = None  # each copy goes its own way from here
            world.check()
            world.daemon.kill()
            n += 1 if ALL else max(1, calls // 3)
    assert failed > 0
    world.daemon.start()
    figure("starts that meet a fault", tried=tried, refused=failed, violations=0)
