# SPDX-License-Identifier: Apache-2.0
"""Damage: every file of a data directory, one at a time, at many places. Whatever is flipped, zeroed,
cut off, removed or exchanged, the daemon serves the same bits as before (after a rebuild), or takes the
shard out of service and says so, or refuses to start and names the file. It never serves other bits,
never loses what was acknowledged, never crashes.

UNLEARND_DAMAGE_SEED repeats a run; UNLEARND_DAMAGE_CASES is how many random places a file gets."""
import json
import os
import random
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from conftest import DIGITS, Daemon
from figures import figure

SEED = int(os.environ.get("UNLEARND_DAMAGE_SEED", random.SystemRandom().randrange(1 << 32)))
CASES = int(os.environ.get("UNLEARND_DAMAGE_CASES", "3"))
OPTIONS = ["--gather-window-ms", "0", "--retry-first-ms", "20"]
CONFIG = {**DIGITS, "kind": "softmax", "shards": 2, "slices": 2, "epochs": 2}
CONFIG.pop("hidden")
HEADER_BYTES, ROW_BYTES, SECTOR = 64, 88, 512


class Trial(Daemon):
    """A daemon that may refuse to start."""
    refused = None

    def start(self, env=None):
        try:
            return super().start(env)
        except AssertionError:
            self.refused = self.process.wait(30)
            self.reader.join(10)
            return self


# --- what is damaged, and how ---

def flip(path, at, bit):
    with path.open("r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1 << bit]))


def zero(path, at):
    """A sector that the disk gave back empty; False where it was that already."""
    data = path.read_bytes()
    end = min(at + SECTOR, len(data))
    if not any(data[at:end]):
        return False
    path.write_bytes(data[:at] + bytes(end - at) + data[end:])


def cut(path, length):
    os.truncate(path, length)


def append(path, length):
    with path.open("ab") as f:
        f.write(os.urandom(length))


def exchange(path, other):
    a, b = path.read_bytes(), other.read_bytes()
    if a == b:
        return False
    path.write_bytes(b)
    other.write_bytes(a)


def places(path, dice):
    """Bytes worth a flip: the header, the starts of pages and rows, and anywhere."""
    size = path.stat().st_size
    step = 4096 if path.name == "control.mdb" else ROW_BYTES
    begin = 0 if path.name == "control.mdb" else HEADER_BYTES
    starts = range(begin, size, step)
    fixed = {0, 8, 40, size - 1} | {min(begin + d, size - 1) for d in (0, 10, 17, 21)}
    if path.name == "control.mdb":
        fixed = {page + at for page in (0, 4096) for at in (16, 40, 80, 136, 144)}
    fixed |= set(dice.sample(starts, min(CASES, len(starts))))
    return sorted(at for at in fixed if at < size) + [dice.randrange(size) for _ in range(CASES)]


def cases_of(data_dir, dice):
    """(file, what, function of the file's path in a copy)"""
    for path in sorted(p for p in data_dir.rglob("*") if p.is_file()):
        name, size = path.relative_to(data_dir), path.stat().st_size
        if size > 0:
            more = 8 if path.name == "control.mdb" else 1
            for at in places(path, dice) + [dice.randrange(size) for _ in range(CASES * (more - 1))]:
                bit = dice.randrange(8)
                yield name, f"bit {bit} of byte {at}", lambda p, at=at, bit=bit: flip(p, at, bit)
            for _ in range(CASES):
                at = dice.randrange(size) // SECTOR * SECTOR
                yield name, f"sector at {at}", lambda p, at=at: zero(p, at)
            for length in {0, size // 2, size - 1, dice.randrange(size)}:
                yield name, f"cut to {length}", lambda p, length=length: cut(p, length)
        yield name, "removed", lambda p: p.unlink()
        yield name, "longer", lambda p: append(p, 100)
        if path.suffix in (".ckpt", ".rows"):
            other = path.parent.parent / ("shard-000" if "001" in path.parent.name else "shard-001")
            yield (name, "exchanged",
                   lambda p, o=(other / path.name).relative_to(data_dir), n=name:
                   exchange(p, p.parents[len(n.parts) - 1] / o))


# --- what must hold ---

class Truth:
    """What clients were told before anything was damaged."""

    def __init__(self, daemon, digits, held, gone):
        self.held, self.gone = held, gone
        self.checkpoints = {p.relative_to(daemon.data_dir): p.read_bytes()
                            for p in daemon.data_dir.rglob("*.ckpt")}
        self.rows = [r["features"] for r in digits[:20]]
        self.predictions = self.predict(daemon)
        self.served = daemon.model("digits")["served_hash"]
        self.records = daemon.model("digits")["records"]
        self.erasures = self.list(daemon, "erasures")
        self.suppressions = self.list(daemon, "suppressions")
        self.audit = self.list(daemon, "audit")

    def predict(self, daemon):
        r = daemon.infer("digits", self.rows)
        assert r.status_code == 200, r.text
        return r.json()["outputs"]

    @staticmethod
    def list(daemon, what):
        items = daemon.ok("GET", f"/v1/{what}?limit=1000")["items"]
        return [{k: v for k, v in i.items() if k != "overdue"} for i in items]

    def check(self, daemon):
        assert daemon.model("digits")["served_hash"] == self.served
        assert self.predict(daemon) == self.predictions
        assert daemon.model("digits")["records"] == self.records
        assert self.list(daemon, "erasures") == self.erasures
        assert self.list(daemon, "suppressions") == self.suppressions
        assert self.list(daemon, "audit")[:len(self.audit)] == self.audit
        for r in self.held:
            assert daemon.get(f"/v1/models/digits/records/{r['id']}").status_code == 200, r["id"]
        for r in self.gone:
            assert daemon.get(f"/v1/models/digits/records/{r['id']}").status_code == 404, r["id"]


def settled(daemon, seconds=60):
    """When nothing is left to be rebuilt: the model."""
    end = time.monotonic() + seconds
    while True:
        m = daemon.model("digits")
        if m["state"] == "ready" or m["damaged_shards"] > 0:
            return m
        assert time.monotonic() < end, m
        time.sleep(0.01)


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def bytes_of(path):
    """None while the file is away: a rebuild removes it at any moment, and makes it again."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def judge(data_dir, name, truth):
    """The outcome in a word."""
    daemon = Trial(data_dir, *OPTIONS)
    try:
        if daemon.refused is not None:
            said = daemon.log[-1]
            assert daemon.refused == 1, (daemon.refused, daemon.log)
            assert name.name in said and "restore" in said, daemon.log
            assert name.parts[0] in ("control.mdb", "keys"), daemon.log
            return "refused"
        rebuilt, out = False, settled(daemon)["damaged_shards"] > 0
        if name.suffix == ".rows" and not out:
            ended = daemon.wait_job(daemon.ok("POST", "/v1/models/digits/verify", status=202)["id"])
            out = ended["state"] == "failed"
            if out:
                assert ended["error"].startswith("damaged rows: shard "), ended
            else:
                assert all(s["identical"] for s in ended["result"]["shards"]), ended
        if name.suffix == ".ckpt":  # not all of them are read at a start
            assert all(s["identical"] for s in daemon.verify("digits"))
            wait_for(lambda: all(bytes_of(data_dir / n) == was
                                 for n, was in truth.checkpoints.items()))
            assert settled(daemon)["damaged_shards"] == 0
            rebuilt = True
        truth.check(daemon)
        if out:
            m = daemon.model("digits")
            assert m["state"] == "degraded" and m["damaged_shards"] > 0, m
            assert f'\nunlearnd_damaged_shards {m["damaged_shards"]}\n' in daemon.get("/metrics").text
            assert any("rows_damaged" in line and "unlearnctl restore" in line
                       for line in daemon.log), daemon.log
        assert daemon.process.poll() is None
        return "out of service" if out else "rebuilt" if rebuilt else "same"
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A stopped data directory with something of everything, and what clients know of it."""
    from conftest import read_digits
    digits = read_digits(280)
    daemon = Daemon(tmp_path_factory.mktemp("damage") / "data", *OPTIONS)
    try:
        daemon.create(**CONFIG)
        daemon.load("digits", digits[:200])
        daemon.load("digits", digits[200:], atomic="true")
        daemon.train("digits")
        gone = ["s3", "s17", "s44"]
        for s in gone:
            daemon.erase(subjects=[s], reference=f"T-{s}")
        daemon.erase(subjects=["nobody"])
        truth = Truth(daemon, digits, [r for r in digits if r["subject"] not in gone][::20],
                      [r for r in digits if r["subject"] in gone])
        daemon.stop()
        yield daemon.data_dir, truth
    finally:
        if daemon.process.poll() is None:
            daemon.kill()


def test_damage_to_any_file_is_found_or_harmless(world, tmp_path):
    print(f"UNLEARND_DAMAGE_SEED={SEED}")
    data_dir, truth = world
    assert judge(shutil.copytree(data_dir, tmp_path / "whole"), data_dir, truth) == "same"

    def one(numbered):
        number, (name, what, damage) = numbered
        copy = shutil.copytree(data_dir, tmp_path / str(number))
        try:
            if damage(copy / name) is False:
                return None
            return name, what, judge(copy, name, truth)
        except (AssertionError, requests.RequestException) as e:
            raise AssertionError(f"{name}, {what} (seed {SEED}): {e}") from e
        finally:
            shutil.rmtree(copy)

    with ThreadPoolExecutor(2) as pool:
        cases = enumerate(cases_of(data_dir, random.Random(SEED)))
        done = [d for d in pool.map(one, cases) if d is not None]
    outcomes = Counter(outcome for _, _, outcome in done)
    files = {name for name, _, _ in done}
    figure("damage", seed=SEED, files=len(files), cases=len(done),
           refused=outcomes["refused"], out_of_service=outcomes["out of service"],
           rebuilt=outcomes["rebuilt"], harmless=outcomes["same"], wrong=0)
    of = {name: Counter(o for n, _, o in done if n == name) for name in files}
    for name in files:
        if name.suffix == ".rows":
            assert of[name]["out of service"] > 0, (name, of[name])
        elif name.suffix == ".key" or name.name == "control.mdb":
            assert of[name]["refused"] > 0, (name, of[name])
        elif name.suffix == ".ckpt":
            assert set(of[name]) == {"rebuilt"}, (name, of[name])


# --- beneath a running daemon ---

@pytest.fixture
def running(make_daemon, world, tmp_path):
    data_dir, truth = world
    daemon = make_daemon(*OPTIONS, data_dir=shutil.copytree(data_dir, tmp_path / "data"))
    daemon.truth = truth
    return daemon


def where(daemon, record):
    return daemon.ok("GET", f"/v1/models/digits/records/{record['id']}")


def file_of(daemon, at, kind):
    return (daemon.data_dir / "models" / "digits" / f"shard-{at['shard']:03}" /
            f"slice-{at['slice']:03}.{kind}")


def find(daemon, digits, shard=None, slice=None, but=()):
    """A person of the shard and slice whose first row's bytes nobody shares."""
    for r in digits[:280:5]:
        if r["subject"] in but or daemon.get(f"/v1/models/digits/records/{r['id']}").status_code != 200:
            continue
        at = where(daemon, r)
        if (shard is None or at["shard"] == shard) and (slice is None or at["slice"] == slice) and \
                file_of(daemon, at, "rows").read_bytes().count(bytes(r["features"])) == 1:
            return r, at
    raise AssertionError("the placement leaves nobody there")


def failures(daemon):
    jobs = daemon.ok("GET", "/v1/jobs?limit=1000")["items"]
    return [j for j in jobs if j["state"] == "failed" and j["error"].startswith("damaged rows: ")]


def test_a_damaged_row_stops_the_retrain_once_and_its_own_erasure_mends_the_shard(running, digits):
    victim, at = find(running, digits)
    rows = file_of(running, at, "rows")
    flip(rows, rows.read_bytes().index(bytes(victim["features"])) + 5, 0)
    other, _ = find(running, digits, shard=at["shard"], but={victim["subject"]})
    elsewhere, _ = find(running, digits, shard=1 - at["shard"])

    first = running.erase(wait=False, subjects=[other["subject"]])
    assert first["state"] == "forgotten"
    wait_for(lambda: failures(running))
    m = running.model("digits")
    assert m["state"] == "degraded" and m["damaged_shards"] == 1 and m["ready"]
    assert running.erase(subjects=[elsewhere["subject"]])["state"] == "completed"
    shards = running.ok("GET", "/v1/models/digits/shards")["shards"]
    assert shards[at["shard"]]["state"] == "damaged" and shards[1 - at["shard"]]["state"] == "clean"
    assert len(failures(running)) == 1, "it was tried again, and nothing had changed"
    assert running.ok("GET", f"/v1/erasures/{first['id']}")["scrubbed_at"]

    running.erase(subjects=[victim["subject"]])
    assert running.wait_erasure(first["id"])["state"] == "completed"
    m = running.model("digits")
    assert m["state"] == "ready" and m["damaged_shards"] == 0
    assert all(s["identical"] for s in running.verify("digits"))


@pytest.mark.parametrize("damage", ["header", "cut", "gone"])
def test_an_erasure_from_a_damaged_row_file_is_accepted_and_scrubbed_where_it_can_be(running, digits, damage):
    victim, at = find(running, digits)
    rows = file_of(running, at, "rows")
    if damage == "header":
        flip(rows, 17, 3)
    elif damage == "gone":
        rows.unlink()
    else:
        cut(rows, rows.read_bytes().index(bytes(victim["features"])) + 20)
    e = running.erase(wait=False, subjects=[victim["subject"]])
    wait_for(lambda: running.model("digits")["damaged_shards"] == 1)
    heads, values = (line.split() for line in running.ctl("status").stdout.splitlines()[2:4])
    assert dict(zip(heads, values))["damaged"] == "1"
    if damage == "gone":  # it may come back, with the row in it
        wait_for(lambda: any("scrub_failed" in line for line in running.log))
        assert not running.ok("GET", f"/v1/erasures/{e['id']}")["scrubbed_at"]
    else:
        wait_for(lambda: running.ok("GET", f"/v1/erasures/{e['id']}")["scrubbed_at"])
        assert bytes(victim["features"])[:20] not in rows.read_bytes() or \
            not any(victim["features"][:20])
    assert running.get(f"/v1/models/digits/records/{victim['id']}").status_code == 404
    assert running.get("/v2/health/ready").status_code == 200
    running.restart()
    m = running.model("digits")
    assert m["state"] == "degraded" and m["damaged_shards"] == 1 and not failures(running)
    assert running.ok("GET", f"/v1/erasures/{e['id']}")["state"] == "forgotten"
    assert running.get(f"/v1/models/digits/records/{victim['id']}").status_code == 404


def test_a_training_that_needs_damaged_rows_fails_and_says_which(running, digits):
    _, at = find(running, digits)
    flip(file_of(running, at, "rows"), HEADER_BYTES + 30, 1)
    new = [{**r, "id": f"n{i}", "subject": f"n{i}"} for i, r in enumerate(digits[:40])]
    running.load("digits", new)
    job = running.ok("POST", "/v1/models/digits/train", status=202)["id"]
    ended = running.wait_job(job)
    assert ended["state"] == "failed" and ended["error"].startswith(
        f"damaged rows: shard {at['shard']} slice {at['slice']} row 0"), ended
    again = running.wait_job(running.ok("POST", "/v1/models/digits/train", status=202)["id"])
    assert again["state"] == "failed" and again["error"].startswith("damaged rows: "), again
    assert running.infer("digits", running.truth.rows).status_code == 200


def test_rows_are_not_loaded_into_a_damaged_file(running, digits):
    running.create(**{**CONFIG, "name": "fresh"})
    running.load("fresh", digits[:100])
    rows = running.data_dir / "models" / "fresh" / "shard-001" / "slice-001.rows"
    flip(rows, 40, 0)
    before = running.model("fresh")["records"]
    body = "".join(json.dumps(r) + "\n" for r in digits[100:200])
    r = running.post("/v1/models/fresh/records", data=body.encode(),
                     headers={"Content-Type": "application/x-ndjson"})
    assert r.status_code == 500 and "shard 1 is out of service" in r.json()["detail"], r.text
    m = running.model("fresh")
    assert m["state"] == "degraded" and m["damaged_shards"] == 1 and m["records"] == before
    assert running.model("digits")["state"] == "ready"
    running.restart()
    assert running.model("fresh")["damaged_shards"] == 1
    running.truth.check(running)
    assert running.delete("/v1/models/fresh").status_code == 204


@pytest.mark.parametrize("loaded", [False, True])
def test_a_retrain_from_a_damaged_checkpoint_goes_back_to_the_rows(running, digits, loaded):
    victim, at = find(running, digits, slice=2)
    if loaded:  # it is served from memory meanwhile: the worker alone reads the file
        running.erase(subjects=[victim["subject"]])
        victim, at = find(running, digits, shard=at["shard"], slice=2)
    flip(file_of(running, {**at, "slice": 1}, "ckpt"), 3000, 2)
    running.erase(subjects=[victim["subject"]])
    assert any("checkpoint_unreadable" in line for line in running.log)
    assert running.model("digits")["state"] == "ready"
    assert all(s["identical"] for s in running.verify("digits"))


@pytest.mark.parametrize("slice", [1, 2])
def test_a_verification_finds_a_checkpoint_that_was_damaged_meanwhile(running, digits, slice):
    at = {"shard": 0, "slice": slice}
    before = file_of(running, at, "ckpt").read_bytes()
    flip(file_of(running, at, "ckpt"), len(before) - 7, 2)
    assert all(s["identical"] for s in running.verify("digits"))
    wait_for(lambda: any("checkpoint_unreadable" in line for line in running.log))
    wait_for(lambda: running.model("digits")["state"] == "ready" and
             bytes_of(file_of(running, at, "ckpt")) == before)
    running.truth.check(running)


def test_a_verification_of_a_shard_whose_rows_are_gone_ends(running, digits):
    """Its erasure can never be scrubbed, so the shard never has rest to be verified in."""
    victim, at = find(running, digits, slice=2)
    file_of(running, at, "rows").unlink()
    running.erase(wait=False, subjects=[victim["subject"]])
    wait_for(lambda: any("scrub_failed" in line for line in running.log))
    job = running.ok("POST", "/v1/models/digits/verify", {"shards": [at["shard"]]}, status=202)
    ended = running.wait_job(job["id"], seconds=30)
    assert ended["state"] == "failed", ended
    assert ended["error"].startswith(f"damaged rows: shard {at['shard']} "), ended


def says_that_the_database_is_damaged(d):
    """Nothing is accepted any more that the restore, which is the way out, would lose."""
    r = d.get("/v2/health/ready")
    assert r.status_code == 503 and "unlearnctl restore" in r.text, r.text
    assert "\nunlearnd_control_database_damaged 1\n" in d.get("/metrics").text
    assert sum("reason=damage" in line for line in d.log) == 1, d.log
    for path, body in (("/v1/erasures", {"subjects": ["nobody"]}),
                       ("/v1/models/digits/train", None)):
        r = d.post(path, body)
        assert r.status_code == 503 and int(r.headers["Retry-After"]) > 0, r.text
        assert "unlearnctl restore" in r.json()["detail"]


def test_damaged_pages_of_the_open_database_are_told(running):
    control = running.data_dir / "control.mdb"
    with control.open("r+b") as f:  # all but the meta pages: the tables are nowhere to be found
        f.seek(2 * 4096)
        f.write(bytes(control.stat().st_size - 2 * 4096))
    told = [running.get(path).status_code for path in ("/v1/models/digits", "/v1/erasures", "/v1/audit")]
    assert 200 not in told, told
    says_that_the_database_is_damaged(running)
    assert running.truth.predict(running) == running.truth.predictions


def test_a_damaged_value_of_the_open_database_is_an_error_and_never_read(running):
    control = running.data_dir / "control.mdb"
    data = control.read_bytes()
    at = data.find(b"T-s17")
    while at >= 0:
        flip(control, at + 3, 0)
        at = data.find(b"T-s17", at + 1)
    assert running.get("/v2/health/ready").status_code == 200
    r = running.get("/v1/erasures?limit=1000")
    assert r.status_code == 500 and "T-s0" not in r.text, r.text
    says_that_the_database_is_damaged(running)
    assert running.truth.predict(running) == running.truth.predictions
    running.kill()
    again = Trial(running.data_dir, *OPTIONS)
    assert again.refused == 1 and "control.mdb is damaged" in again.log[-1], again.log


def test_what_cannot_be_overwritten_is_not_called_scrubbed(running, digits):
    victim, at = find(running, digits)
    rows, foreign = (file_of(running, {**at, "shard": s}, "rows")
                     for s in (at["shard"], 1 - at["shard"]))
    kept = foreign.read_bytes()
    exchange(rows, foreign)
    e = running.erase(wait=False, subjects=[victim["subject"]])
    assert e["state"] == "forgotten"
    wait_for(lambda: running.model("digits")["damaged_shards"] >= 1)
    wait_for(lambda: any("scrub_failed" in line for line in running.log))
    assert not running.ok("GET", f"/v1/erasures/{e['id']}")["scrubbed_at"]
    assert rows.read_bytes() == kept, "somebody else's rows were overwritten"
    exchange(rows, foreign)
    running.wait_erasure(e["id"])
    assert bytes(victim["features"]) not in rows.read_bytes()
    assert running.model("digits")["state"] == "ready"
    assert all(s["identical"] for s in running.verify("digits"))


def test_a_shard_whose_folder_is_gone_is_left_out_and_everything_else_goes_on(world, tmp_path,
                                                                              make_daemon):
    data_dir, truth = world
    copy = shutil.copytree(data_dir, tmp_path / "data")
    shutil.rmtree(copy / "models" / "digits" / "shard-001")
    daemon = make_daemon(*OPTIONS, data_dir=copy)
    wait_for(lambda: daemon.ok("GET", "/v1/models/digits/shards")["shards"][1]["served_from_slice"] == 0)
    m = daemon.model("digits")
    assert m["state"] == "degraded" and m["damaged_shards"] == 1 and m["clean_constituents"] == 1
    assert m["served_hash"] != truth.served and daemon.infer("digits", truth.rows).status_code == 200
    for subject in ("s1", "s2", "s4", "s5"):
        assert daemon.erase(wait=False, subjects=[subject])["state"] == "forgotten"
    daemon.stop()


def test_another_key_in_a_keys_place_is_told_from_a_new_one(world, tmp_path):
    data_dir, _ = world
    for name in ("pseudonym.key", "log.key"):
        copy = shutil.copytree(data_dir, tmp_path / name)
        (copy / "keys" / name).write_bytes(os.urandom(32))
        d = Trial(copy, *OPTIONS)
        assert d.refused == 1 and f"{name} is not the key" in d.log[-1], d.log


def test_a_data_directory_without_its_database_is_not_taken_for_a_new_one(world, tmp_path):
    data_dir, truth = world
    copy = shutil.copytree(data_dir, tmp_path / "data")
    rows = sorted((copy / "models").rglob("*.rows"))
    before = [r.read_bytes() for r in rows]
    (copy / "control.mdb").rename(tmp_path / "aside")
    d = Trial(copy, *OPTIONS)
    assert d.refused == 1 and f"unlearnctl restore DIR --data-dir {copy}" in "\n".join(d.log), d.log
    assert [r.read_bytes() for r in rows] == before
    (tmp_path / "aside").rename(copy / "control.mdb")
    assert judge(copy, copy, truth) == "same"
