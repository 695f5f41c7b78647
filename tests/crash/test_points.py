# SPDX-License-Identifier: Apache-2.0
"""Every crash point (lib/util/crash_point.h) of the daemon and of the worker: the process is killed
at its first pass (and at UNLEARND_CRASH_LATER=N later ones, drawn by UNLEARND_CRASH_SEED, which is
printed), the daemon is started again, and everything that the design promises is checked
from outside. UNLEARND_CRASH_ONLY=TEXT tries the cases that have it in their name, such as
unlearnd/scrub.recorded:1."""
import atexit
import functools
import os
import random
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rfc6962
from conftest import FAULTS
from controller import make_identity
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from figures import figure
from scenario import OPTIONS, LargeStory, Listener, Mortal, Story
from witness import Key, Witness
from world import served_hash, wait

SEED = int(os.environ.get("UNLEARND_CRASH_SEED", random.SystemRandom().randrange(1 << 32)))
LATER = int(os.environ.get("UNLEARND_CRASH_LATER", "0"))
ONLY = os.environ.get("UNLEARND_CRASH_ONLY")
# SIGKILL loses no page: no disk is needed
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
KEY = bytes(range(32))
AT_ONCE = 2
# What the worker links and never does: it unlinks nothing, trims nothing and makes no folder.
NOT_THE_WORKER = ("scrub_file.", "trim.", "file.dir_made")
# Debris that the first kill leaves for the second one, in the recovery, to come into.
DEBRIS = ["unlearnd/upload.rows_written:1", "unlearnd/staged.promoted:1",
          "unlearnd/run.stage_heard:3", "unlearnd/publish.renamed:2",
          "unlearnd/delete.mark_committed:1"]
RECOVERY = ("unlearnd/recover.", "unlearnd/trim.", "unlearnd/scrub_file.", "unlearnd/staged.",
            "unlearnd/delete.")
# What is done in bounded steps where it is large.
LARGE = ("unlearnd/scrub.", "unlearnd/staged.", "unlearnd/delete.", "unlearnd/upload.",
         "unlearnd/compact.")


def points_of(program):
    out = subprocess.run([str(FAULTS / program)], env={"UNLEARND_CRASH_POINT": "list"}, check=True,
                         capture_output=True, text=True, timeout=30).stdout.split()
    assert len(out) == len(set(out)), "two points have one name"
    return out


@functools.cache
def processor():
    """The key and certificate that OpenDSR's answers are signed with."""
    folder = tempfile.mkdtemp(prefix="unlearnd-crash-opendsr-")
    atexit.register(shutil.rmtree, folder)
    return make_identity(folder, "example.org")


@functools.cache
def witness_key():
    folder = tempfile.mkdtemp(prefix="unlearnd-crash-witness-")
    atexit.register(shutil.rmtree, folder)
    return Key(folder, "any").file


class Trusting(Witness):
    """It takes any key of the log for the log's, and no tree that does not go on from the last. It signs
    without a process for each signature: there are many of them here."""

    def __init__(self, folder):
        super().__init__(folder, "witness.example/w1")
        self.key.sign = load_pem_private_key(self.key.file.read_bytes(), None).sign

    def check_signature(self, origin, text, lines):
        pass


class Trial:
    """A data directory, a folder of passes, and what is to go wrong."""

    def __init__(self, armed=None, key=KEY):
        self.folder = Path(tempfile.mkdtemp(prefix="unlearnd-crash-", dir=SHM))
        self.data, self.counts = self.folder / "data", self.folder / "passes"
        self.counts.mkdir()
        (self.data / "keys").mkdir(parents=True, mode=0o700)
        if key is not None:
            (self.data / "keys" / "pseudonym.key").write_bytes(key)
        self.listener = Listener()
        (self.folder / "witness").mkdir()
        shutil.copy(witness_key(), self.folder / "witness")
        self.witness = Trusting(self.folder / "witness")
        config = self.folder / "unlearnd.conf"
        key, certificate = processor()
        config.write_text(f"[webhook all]\nurl = {self.listener.url}/all\nevents = *\n"
                          f"{self.witness.section('one')}"
                          "[opendsr]\nopendsr_domain = example.org\n"
                          f"opendsr_key_file = {key}\nopendsr_certificate_file = {certificate}\n")
        self.daemon = Mortal(self.data, *OPTIONS, "--ledger-dir", str(self.folder / "ledger"),
                             "--backup-dir", str(self.folder / "backups"), "-c", str(config),
                             programs=FAULTS, env=self.env(armed))
        self.daemon.listener = self.listener

    def env(self, armed):
        return {"UNLEARND_CRASH_PASSES": str(self.counts),
                **({"UNLEARND_CRASH_POINT": armed} if armed else {})}

    def passes(self):
        """{"PROGRAM/POINT": passes} so far"""
        return {f.name.replace(".", "/", 1): f.stat().st_size for f in self.counts.iterdir()}

    def forget_passes(self):
        for f in self.counts.iterdir():
            f.unlink()

    def reached(self, armed):
        point, n = armed.split(":")
        return self.passes().get(point, 0) >= int(n)

    def restart(self, armed=None):
        if not self.daemon.died():
            self.daemon.stop()
        self.daemon.start(self.env(armed))

    def end(self):
        if self.daemon.process.poll() is None:
            self.daemon.kill()
        self.listener.close()
        self.witness.close()
        shutil.rmtree(self.folder)


def makes_keys(point):
    """Its first two passes make the two keys, where a start finds none."""
    return point.startswith(("unlearnd/key.", "unlearnd/file."))


def never_saw(key=KEY, kind=Story):
    """The hash of the model that never saw the erased."""
    t = Trial(key=key)
    try:
        story = kind(t.daemon, never=True)
        assert story.go_on()
        return served_hash(t.daemon, "m")
    finally:
        t.end()


def went_wrong(story, armed):
    """The process was killed where it was to be: the daemon is down, or its worker was. How often a
    point is passed depends a little on what runs at once, so only the first pass is a must. Whether
    it was reached is what counts as a kill."""
    t = story.trial
    reached = t.reached(armed)
    assert reached or not armed.endswith(":1"), f"{armed} was not reached"
    assert t.daemon.died() == (reached and armed.startswith("unlearnd/"))
    return reached


def tell(armed, kind=Story):
    """A story that is told until `armed` kills."""
    own_key = makes_keys(armed) and armed.endswith((":1", ":2"))
    t = Trial(armed, key=None if own_key else KEY)
    story = kind(t.daemon)
    story.trial = t
    try:
        if not t.daemon.died():
            story.go_on()
        story.killed = went_wrong(story, armed)
    except BaseException:
        t.end()
        raise
    return story


def check_witnessed(trial):
    """The log was one all the time, and what was cosigned of it is all of it."""
    def caught_up():
        w = trial.daemon.ok("GET", "/v1/audit/witnesses")["items"][0]
        size = rfc6962.parse_checkpoint(trial.daemon.get("/v1/audit/checkpoint").text)[1]
        return w["size"] == size and w["failures"] == 0 and w
    w = wait("the witness", caught_up)
    assert trial.witness.key.holds(w["checkpoint"]) and {422, 400}.isdisjoint(trial.witness.answers)


def conclude(story, expected):
    """The last restart, without a fault: the story is told to its end, twice looked at."""
    t = story.trial
    t.restart()
    story.check()
    assert story.go_on(), "it died without a crash point"
    key = (t.data / "keys" / "pseudonym.key").read_bytes()
    expected = expected if key == KEY else never_saw(key)
    story.check_end(expected)
    check_witnessed(t)
    t.restart()
    story.check()
    assert t.daemon.model("m")["served_hash"] == expected, "another model after a clean restart"
    t.daemon.stop()


def killed_once(armed, expected, kind=Story):
    story = tell(armed, kind)
    try:
        conclude(story, expected)
        return story.killed
    finally:
        story.trial.end()


def killed_again(debris, armed, expected):
    """The second kill comes while the start mends what the first one left."""
    story = tell(debris)
    t = story.trial
    try:
        t.daemon.died() or t.daemon.kill()
        t.forget_passes()
        t.restart(armed)
        if not t.daemon.died():
            story.check_or_die()
            story.go_on()
        killed = went_wrong(story, armed)
        conclude(story, expected)
        return killed
    finally:
        t.end()


def passes_of_a_recovery(debris):
    """Which points a start passes before it listens, after `debris`."""
    story = tell(debris)
    t = story.trial
    try:
        t.daemon.died() or t.daemon.kill()
        t.forget_passes()
        t.restart()
        return t.passes()
    finally:
        t.end()


@pytest.fixture(scope="module")
def expected():
    print(f"UNLEARND_CRASH_SEED={SEED}")
    return never_saw()


def passes_of_a_story(expected, kind=Story):
    """The passes of the whole story, where nothing goes wrong."""
    t = Trial()
    try:
        story = kind(t.daemon)
        assert story.go_on()
        story.check_end(expected)
        return t.passes()
    finally:
        t.end()


@pytest.fixture(scope="module")
def told(expected):
    return passes_of_a_story(expected)


def try_all(name, cases, trial):
    """Each trial says whether its kill came; only those that did are counted."""
    assert cases, "nothing to try"
    if ONLY:
        cases = [c for c in cases if ONLY in " then ".join(c)]
        if not cases:
            pytest.skip("none of these is UNLEARND_CRASH_ONLY")

    def attempt(case):
        try:
            return trial(*case), None
        except Exception as e:  # the others are tried all the same
            return False, f"{' then '.join(case)}: {e!r}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = list(pool.map(attempt, cases))
    killed = [c for c, (came, _) in zip(cases, ends) if came]
    wrong = [w for _, w in ends if w]
    figure(name, points=len({c[-1].split(":")[0] for c in killed}), kills=len(killed),
           violations=len(wrong))
    assert not wrong, f"{len(wrong)} of {len(cases)}, seed {SEED}:\n" + "\n".join(wrong)
    assert len(killed) > len(cases) // 2, f"{len(killed)} of {len(cases)} were reached, seed {SEED}"


def first_and_later(point, passes, dice):
    first = 2 if makes_keys(point) else 1
    later = range(first + 1, passes + 1)
    return [*range(1, first + 1)] + sorted(dice.sample(later, min(LATER, len(later))))


def test_no_crash_point_is_in_what_ships():
    from conftest import BIN
    for program in ("unlearnd", "unlearn-worker"):
        r = subprocess.run([str(BIN / program), "--version"], timeout=30, capture_output=True,
                           env={"UNLEARND_CRASH_POINT": "list"}, text=True)
        assert r.returncode == 0 and r.stdout.startswith(program)
        assert b"UNLEARND_CRASH" not in (BIN / program).read_bytes()


def test_killed_at_every_point_nothing_is_lost_and_nobody_comes_back(told, expected):
    dice = random.Random(SEED)
    cases = [(f"{point}:{n}",) for point, passes in sorted(told.items())
             for n in first_and_later(point, passes, dice)]
    try_all("crash points", cases, lambda armed: killed_once(armed, expected))


def test_killed_again_at_every_point_of_the_recovery_it_still_recovers(expected):
    after = {}  # the debris in which a start comes by a point
    for debris in DEBRIS:
        for point in passes_of_a_recovery(debris):
            if point.startswith(RECOVERY):
                after.setdefault(point, []).append(debris)
    dice = random.Random(SEED)
    cases = [(debris, f"{point}:1") for point in sorted(after)
             for debris in dice.sample(after[point], min(1 + LATER, len(after[point])))]
    try_all("crash points in recovery", cases,
            lambda debris, armed: killed_again(debris, armed, expected))


def test_killed_between_the_steps_of_something_large_it_is_finished():
    expected = never_saw(kind=LargeStory)
    told = passes_of_a_story(expected, LargeStory)
    dice = random.Random(SEED)
    cases = [(f"{point}:{dice.randrange(2, passes + 1)}",)
             for point, passes in sorted(told.items()) if point.startswith(LARGE) and passes > 1]
    small = [kind for kind in LARGE if not any(case.startswith(kind) for case, in cases)]
    assert not small, f"in one step only: {small}"
    try_all("crash points between bounded steps", cases,
            lambda armed: killed_once(armed, expected, LargeStory))


def test_every_point_that_is_compiled_in_is_one_that_these_tests_reach(told):
    reached = set(told)
    for debris in DEBRIS:
        reached |= {p for p in passes_of_a_recovery(debris) if p.startswith(RECOVERY)}
    missed = [f"unlearnd/{p}" for p in points_of("unlearnd") if f"unlearnd/{p}" not in reached]
    missed += [f"unlearn-worker/{p}" for p in points_of("unlearn-worker")
               if f"unlearn-worker/{p}" not in reached and not p.startswith(NOT_THE_WORKER)]
    assert not missed, f"no test kills at {missed}"
