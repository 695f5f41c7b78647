# SPDX-License-Identifier: Apache-2.0
"""Power loss (invariants 4, 5, 6 and 7): a recorded life of a daemon (power_world.py) is cut at every
point, every state that a disk may then hold (power_replay.py) is built, and a daemon that starts
from it must have kept every promise that a client had been given by then.

UNLEARND_POWER_STATES   how many states to start a daemon from (default 200; `all`, and every kill too)
UNLEARND_POWER_SEED     repeats a choice of states (the keys of a life, and so its placements, are new)
UNLEARND_POWER_KEEP     a folder: the states from which a daemon broke a promise are kept there"""
import collections
import itertools
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import power_replay as replay
import power_world
from figures import figure

SEED = int(os.environ.get("UNLEARND_POWER_SEED", random.SystemRandom().randrange(1 << 32)))
STATES = os.environ.get("UNLEARND_POWER_STATES", "200")
AFTER_A_KILL = 3 if STATES != "all" else 100
EACH_KILL = 3 if STATES != "all" else 1  # every third sync, from one that the seed chooses
PHASES = ["start", "upload", "training", "erasure", "growth", "race", "compaction", "deletion"]


@pytest.fixture(scope="module")
def scenario():
    print(f"UNLEARND_POWER_SEED={SEED}")
    with power_world.temporary() as folder:
        yield power_world.Scenario(folder)


class Survey:
    """The distinct crash states of a life: fingerprint -> [(cut, number of its choice)], and how
    each was come by. The choices of a cut are drawn again when the state is built."""

    def __init__(self, life, events=None, at=lambda event: True, choices=replay.choices):
        self.life, self.events, self.choose = life, events or life.events, choices
        self.found, self.why = collections.OrderedDict(), {}
        self.cuts = self.subsets = 0
        disk = self.life.disk()
        for cut, event in enumerate(self.events, 1):
            disk.play(event)
            if not at(event):
                continue
            self.cuts += 1
            for n, (why, kept) in enumerate(self.choices(disk, cut)):
                self.subsets += 1
                state = disk.fingerprint(kept)
                self.found.setdefault(state, {}).setdefault(id(self.life.known_at(cut)), (cut, n))
                self.why.setdefault(state, why)

    def choices(self, disk, cut):
        return self.choose(disk.pending(), replay.dice_for(SEED, cut))

    def phase_of(self, state):
        cut = min(cut for cut, _ in self.found[state].values())
        return self.life.known_at(cut)[1].phase or "start"

    def chosen(self, count, phases):
        """As many states of every kind, in turn, as there are."""
        kinds = collections.defaultdict(list)
        for state in self.found:
            if self.phase_of(state) in phases:
                kinds[self.why[state]].append(state)
        dice = replay.dice_for(SEED, "chosen")
        for states in kinds.values():
            dice.shuffle(states)
        out = []
        while any(kinds.values()) and len(out) < count:
            for states in kinds.values():
                if states:
                    out.append(states.pop())
        return out

    def built(self, states):
        """(label, tree, freed, what was known wherever the disk was in that state)"""
        wanted = collections.defaultdict(list)
        for state in states:
            places = self.found[state].values()
            wanted[min(places)[0]].append((state, min(places)[1]))
        disk = self.life.disk()
        for cut, event in enumerate(self.events, 1):
            disk.play(event)
            if cut not in wanted:
                continue
            choices = list(self.choices(disk, cut))
            for state, n in wanted[cut]:
                knowns = [self.life.known_at(c)[1] for c, _ in self.found[state].values()]
                yield (f"cut {cut}, choice {n}, {self.why[state]}", *disk.state(choices[n][1]), knowns)

    def inspect(self, states):
        """[(label, what is wrong)] of those states where something is; each of them is looked at."""
        assert states, "no state to start from"
        def one(built):
            label, *state = built
            wrong = power_world.Inspection(self.life, *state).wrong
            if wrong and "UNLEARND_POWER_KEEP" in os.environ:
                replay.write_tree(state[0], Path(os.environ["UNLEARND_POWER_KEEP"]) / label)
            return label, wrong
        built, looked_at, out = self.built(states), 0, []
        with ThreadPoolExecutor(2) as pool:
            while some := list(itertools.islice(built, 32)):  # all of them do not fit in memory
                looked_at += len(some)
                out += [(label, wrong) for label, wrong in pool.map(one, some) if wrong]
        assert looked_at == len(states)
        return out


@pytest.fixture(scope="module")
def survey(scenario):
    return Survey(scenario)


def real_tree(folder):
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes()
            for p in folder.rglob("*")}


def test_the_replay_of_everything_is_the_data_directory_byte_for_byte(scenario):
    disk = replay.Disk()
    for event in scenario.events:
        disk.play(event)
    replayed, real = disk.everything(), real_tree(scenario.recorder.data)
    assert set(replayed) == set(real)
    mapped = [p for p, node in disk.now.items() if not node.directory and node.mapped]
    assert mapped == ["control.mdb-lock"], "LMDB writes its data with calls, not through the map"
    assert [p for p in real if p not in mapped and replayed[p] != real[p]] == []


def test_the_recorded_model_is_that_of_a_daemon_that_never_saw_the_erased(scenario):
    erased = ["p0", "p1", "n2", "m1", "a1"]
    assert scenario.never == {1: scenario.hashes[1, frozenset(erased[:2])],
                              2: scenario.hashes[2, frozenset(erased[:3])],
                              3: scenario.hashes[3, frozenset(erased[:4])],
                              4: scenario.hashes[4, frozenset(erased)]}
    hashes = [h for h in scenario.hashes.values() if h is not None]
    assert len(set(hashes)) == len(hashes) == 9, "the check can tell them apart"


@pytest.mark.parametrize("phase", PHASES)
def test_no_power_cut_loses_what_was_acknowledged_or_brings_back_what_was_erased(survey, phase):
    count = int(STATES) / len(PHASES) if STATES != "all" else len(survey.found)
    states = survey.chosen(count, [phase])
    wrong = survey.inspect(states)
    figure(f"power cuts in phase {phase}", cuts_of_the_life=survey.cuts, losses_tried=survey.subsets,
           distinct_states=len(survey.found), started_from=len(states), violations=len(wrong), seed=SEED)
    assert wrong == []


def test_a_power_cut_while_a_daemon_recovers_from_one_loses_nothing_either(scenario, survey):
    wrong, started = [], 0
    first = survey.chosen(200 if STATES == "all" else 6, PHASES)
    for label, tree, _, knowns in survey.built(first):
        with power_world.temporary() as folder:
            second = Survey(power_world.Recovery(folder, scenario, tree, knowns[-1]))
        states = second.chosen(12, PHASES)
        started += len(states)
        wrong += [(label, *w) for w in second.inspect(states)]
    figure("power cuts during recovery from a power cut", first_cuts=len(first), started_from=started,
           violations=len(wrong), seed=SEED)
    assert wrong == []
    assert started > len(first) > 0


def nothing_kept(ops, dice):
    yield "none", {}


@pytest.mark.parametrize("kind", ["KilledTraining", "KilledUploads"])
def test_a_power_cut_after_a_kill_loses_nothing_that_the_next_daemon_was_asked_for(kind):
    """A kill in place of a sync; what was in memory only is seen by the next daemon."""
    def one(n):
        with power_world.temporary() as folder:
            life = getattr(power_world, kind)(folder, n)
        if not life.killed:
            return 0, 0, []
        survey = Survey(life, at=lambda event: event.kind == replay.MARK, choices=nothing_kept)
        # what it says first is what it has not written itself
        states = [s for s in survey.found if survey.phase_of(s) == "restarted"][:AFTER_A_KILL]
        wrong = survey.inspect(states) if states else []  # a kill may come before it says anything
        return 1, len(states), [(f"killed at sync {n}", *w) for w in wrong]

    kills, started, wrong = 0, 0, []
    with ThreadPoolExecutor(2) as pool:
        for first in itertools.count(1 + SEED % EACH_KILL, 8 * EACH_KILL):
            syncs = range(first, first + 8 * EACH_KILL, EACH_KILL)
            killed, states, found = zip(*pool.map(one, syncs))
            kills, started, wrong = kills + sum(killed), started + sum(states), wrong + sum(found, [])
            if not any(killed):
                break  # the life has fewer syncs
    figure(f"power cuts after a kill, {kind}", kills=kills, started_from=started, violations=len(wrong),
           seed=SEED)
    assert kills > 45 / EACH_KILL and started > kills
    assert wrong == []


def some_kept(ops, dice):
    yield "none", {}
    for _ in range(4):
        yield "random", {op: True for op in ops if dice.random() < 0.5}


CARELESS = {"anything": lambda path: True,
            "directories": lambda path: "." not in path and path != "lock",
            "row files": lambda path: path.endswith(".rows"),
            "the database": lambda path: path.startswith("control.mdb"),
            "checkpoints": lambda path: ".ckpt" in path,
            "keys": lambda path: ".key" in path}


@pytest.mark.parametrize("what", CARELESS)
def test_a_daemon_that_did_not_sync_would_be_caught(scenario, what):
    """The same life with syncs taken out: states of the disk where a client has just been told."""
    events = replay.without_syncs(scenario.events, CARELESS[what])
    survey = Survey(scenario, events, at=lambda event: event.kind == replay.MARK, choices=some_kept)
    states = survey.chosen(60, PHASES)
    caught, started = [], 0
    while states and not caught:
        some, states = states[:4], states[4:]
        started += len(some)
        caught += survey.inspect(some)
    figure(f"power cuts where {what} would not be synced", distinct_states=len(survey.found),
           started_from=started, caught=len(caught))
    assert caught, f"{started} states of {len(survey.found)} show nothing"
