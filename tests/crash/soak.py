#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""soak.py [--seconds N] [--seed S]: SIGKILL of the daemon or of a worker at random moments, under a
mixed load of uploads, erasures, predictions, retrains and compactions from several clients. Every promise is
checked after each restart. A chapter is one model: after a dozen kills everything settles, the
model must be, to the bit, the one that never saw the erased, and it is deleted, so that a soak of
a day needs no more room than one of a minute. The seed is printed, and repeats a run up to what
the machine does in between."""
import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import requests  # noqa: E402
from conftest import BIN, Daemon  # noqa: E402
from figures import figure  # noqa: E402
from world import (LOST, World, check_whole_log, children, files_with, joined,  # noqa: E402
                   served_hash, started, wait)

OPTIONS = ["--gather-window-ms", "20", "--retry-first-ms", "20", "--map-bytes", "1G"]
FEATURES, SLICES = 16, 3
CONFIG = {"kind": "mlp", "features": FEATURES, "dtype": "u8", "classes": 3, "hidden": [8],
          "shards": 3, "slices": SLICES, "epochs": 60, "batch_size": 16, "seed": 7}
PEOPLE, FIRST, STAYING = 600, 120, 30  # of a chapter: all, those of the first training
ROUNDS, ROUNDS_MIN = 12, 4


def make_people(dice, name):
    records = []
    for p in range(PEOPLE):
        for k in range(dice.choice([1, 1, 2, 3])):
            x = [dice.randrange(256) for _ in range(FEATURES)]
            records.append({"id": f"{name}-{p}-{k}", "subject": f"person-{name}-{p}",
                            "label": str(sum(x[:4]) % 3), "features": x})
    return records


def shard_table(daemon, model):
    """What a mismatch is looked into with: (slice, live, erased, checkpoint) of every shard."""
    for s in daemon.ok("GET", f"/v1/models/{model}/shards")["shards"]:
        yield f"{s['shard']}: " + " ".join(
            f"({x['slice']}, {x['live']}, {x['erased']}, {(x['checkpoint_hash'] or '')[:6]})"
            for x in s["slices"])


class Chapter(World):
    """One model from its creation to its deletion."""

    def __init__(self, soak, number):
        self.soak, self.name = soak, f"chapter-{number}"
        self.dice = random.Random(f"{soak.seed} {number}")
        super().__init__(soak.daemon, make_people(self.dice, self.name), model=self.name)
        everybody = list(self.by_subject)
        first, self.waiting = everybody[:FIRST], everybody[FIRST:]
        # Who may be asked for, answered or not. Some stay: a first training of which nobody is left
        # could not be told again to a model that never saw them.
        self.known = first[STAYING:]
        self.daemon.create(name=self.name, **CONFIG)
        self.upload([r for s in first for r in self.by_subject[s]])
        self.daemon.train(self.name)

    # --- clients; each ends when it is told to, or when the daemon dies ---
    def uploads(self, dice):
        while not self.stop.is_set() and self.waiting:
            with self.lock:
                n = dice.randrange(1, 13)
                mine, self.waiting = self.waiting[:n], self.waiting[n:]
                self.known += mine
            if not self.upload([r for s in mine for r in self.by_subject[s]], dice.random() < 0.3):
                return
            self.stop.wait(dice.uniform(0, 0.03))

    def choose(self, dice):
        """Somebody whose records are there, or on their way."""
        with self.lock:
            there = [s for s in self.known if s not in self.asked and s not in self.erased]
            if not there:
                return None
            chosen = dice.choice(there)
            self.asked.add(chosen)  # nobody else's
            return chosen

    def erases(self, dice):
        session = requests.Session()
        while not self.stop.is_set():
            self.stop.wait(dice.uniform(0, 0.1))
            who = self.choose(dice)
            if who is None:
                continue
            body = {"subjects": [who]} if dice.random() < 0.5 else {"records": [
                {"model": self.name, "id": r["id"]} for r in self.by_subject[who]]}
            if not self.erase(session, who, body):
                return
            self.soak.count["erasures"] += 1

    def predicts(self, dice):
        session = requests.Session()
        rows = [r["features"] for r in dice.sample(self.records, 4)]
        body = {"inputs": [{"name": "input", "shape": [4, FEATURES], "datatype": "FP32",
                            "data": rows}]}
        while not self.stop.is_set():
            try:
                r = session.post(f"{self.daemon.url}/v2/models/{self.name}/infer", json=body,
                                 timeout=60)
            except LOST:
                return
            assert r.status_code == 200 or (
                r.status_code == 503 and r.headers["Retry-After"]), r.text
            self.soak.count["predictions"] += r.status_code == 200
            self.stop.wait(0.005)

    def trains(self, dice):
        session = requests.Session()
        while not self.stop.wait(dice.uniform(0, 0.4)):
            try:
                what = dice.choice(["train", "train", "compact"])
                r = session.post(f"{self.daemon.url}/v1/models/{self.name}/{what}", timeout=60)
            except LOST:
                return
            self.soak.count["compactions"] += what == "compact" and r.status_code == 202
            # 409: another one is under way, or an atomic upload is, or nothing is loaded yet
            assert r.status_code in (202, 409), r.text

    # --- a round ---
    def round(self, number):
        self.stop.clear()
        clients = [self.uploads, self.erases, self.erases, self.predicts, self.trains]
        threads = started(*[(c, random.Random(f"{self.soak.seed} {self.name} {number} {i}"))
                            for i, c in enumerate(clients)])
        if self.dice.random() < 0.3:
            self.kill_workers(self.dice.randrange(1, 4))
            self.stop.set()
            joined(threads)
            self.check()
        else:
            self.crash_after(self.dice.uniform(0.02, 1), threads)
            self.soak.count["daemon kills"] += 1
        self.soak.no_failure()

    def kill_workers(self, count):
        """`count` of them, if so many are caught in 50 looks."""
        for _ in range(50):
            time.sleep(self.dice.uniform(0, 0.04))
            for victim in children(self.daemon.process.pid)[:1]:
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # it was done
                self.soak.count["worker kills"] += 1
                count -= 1
            if count == 0:
                return

    # --- the end ---
    def train_to_the_end(self):
        def asked():
            r = self.daemon.post(f"/v1/models/{self.name}/train")
            return r.json() if r.status_code == 202 else None
        job = wait("the last training's turn", asked)
        assert self.daemon.wait_job(job["id"])["state"] == "succeeded"

    def settle_everything(self):
        self.train_to_the_end()
        self.wait_until_completed()
        self.check(everything=True)
        self.check_traces()
        assert all(s["identical"] for s in self.daemon.verify(self.name))
        check_whole_log(self.daemon)
        self.check_never_saw()

    def check_never_saw(self):
        """The same people in the same slices, and nobody else ever."""
        by_slice = {}
        for r in self.alive():
            where = self.daemon.ok("GET", f"/v1/models/{self.name}/records/{r['id']}")
            by_slice.setdefault(max(where["slice"], SLICES), []).append(r)
        with tempfile.TemporaryDirectory(prefix="unlearnd-soak-") as folder:
            keys = Path(folder) / "keys"
            keys.mkdir(mode=0o700)
            (keys / "pseudonym.key").write_bytes(
                (self.daemon.data_dir / "keys" / "pseudonym.key").read_bytes())
            never = Daemon(folder, *OPTIONS)
            try:
                never.create(name=self.name, **CONFIG)
                for k in sorted(by_slice):
                    never.load(self.name, by_slice[k])
                    never.train(self.name)
                same = served_hash(never, self.name) == served_hash(self.daemon, self.name)
                assert same, "not as if never seen:\n" + "\n".join(
                    [*shard_table(self.daemon, self.name), "never:", *shard_table(never, self.name)])
            finally:
                never.stop()

    def delete(self):
        """With a kill in the middle of it, mostly; no row of the chapter is left."""
        def ask():
            try:
                r = requests.delete(f"{self.daemon.url}/v1/models/{self.name}", timeout=60)
                assert r.status_code == 204, r.text
            except LOST:
                pass
        threads = started((ask,))
        time.sleep(self.dice.uniform(0, 0.02))
        self.observe()
        self.daemon.kill()
        joined(threads)
        self.soak.no_failure()
        self.soak.count["daemon kills"] += 1
        self.daemon.http = requests.Session()
        self.daemon.start()
        self.observe()
        r = self.daemon.delete(f"/v1/models/{self.name}")
        assert r.status_code in (204, 404), r.text
        rows = [bytes(r["features"]) for r in self.records]
        wait("the deleted model's files to be gone",
             lambda: not (self.daemon.data_dir / "models" / self.name).exists())
        assert list(files_with(self.daemon.data_dir, rows)) == []


class Soak:
    def __init__(self, seed, folder):
        self.seed = seed
        self.count = {"daemon kills": 0, "worker kills": 0, "chapters": 0, "records": 0,
                      "erasures": 0, "predictions": 0, "compactions": 0}
        self.failures = []
        self.daemon = Daemon(folder, *OPTIONS)

    def no_failure(self):
        assert not self.failures, self.failures[0]

    def run(self, seconds):
        """At least one chapter, which may be a short one."""
        end, chapter, head = time.monotonic() + seconds, 0, None
        hook = threading.excepthook
        threading.excepthook = lambda a: self.failures.append(repr(a.exc_value))
        try:
            while chapter == 0 or time.monotonic() < end:
                c = Chapter(self, chapter)
                c.head = head
                for k in range(ROUNDS):
                    if k >= ROUNDS_MIN and time.monotonic() > end:
                        break
                    c.round(k)
                c.settle_everything()
                c.delete()
                head = c.head
                chapter += 1
                self.count["chapters"] += 1
                self.count["records"] += len(c.uploaded)
            self.daemon.stop()
        finally:
            threading.excepthook = hook
            if self.daemon.process.poll() is None:
                self.daemon.kill()


def soak(seconds, seed):
    print(f"UNLEARND_CRASH_SEED={seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="unlearnd-soak-") as folder:
        s = Soak(seed, folder)
        try:
            s.run(seconds)
        except BaseException:
            print("\n".join(s.daemon.log[-30:]))
            raise
    figure("soak", seconds=round(time.monotonic() - began), **s.count, violations=0)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seed", type=int, default=os.environ.get(
        "UNLEARND_CRASH_SEED", random.SystemRandom().randrange(1 << 32)))
    args = p.parse_args()
    if not (BIN / "unlearnd").exists():
        p.error(f"there is no {BIN}/unlearnd: run make, or set UNLEARND_BIN")
    soak(args.seconds, args.seed)


if __name__ == "__main__":
    main()
