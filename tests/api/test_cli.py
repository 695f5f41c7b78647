# SPDX-License-Identifier: Apache-2.0
"""unlearnctl against a running daemon: what it sends, what it prints, its exit statuses."""
import gzip
import hashlib
import json
import re
import shutil
import struct
import subprocess

import pytest

from conftest import BIN, ROOT

DIGITS = ROOT / "tests" / "data" / "digits.csv.gz"
NO_DAEMON = "http://127.0.0.1:1"


def ctl(*args, **kw):
    return subprocess.run([str(BIN / "unlearnctl"), *map(str, args)], capture_output=True,
                          text=True, timeout=60, **kw)


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def js(daemon, *args, **kw):
    return json.loads(daemon.ctl("--json", *args, **kw).stdout)


def small(daemon, name="m", **more):
    options = {"features": 2, "classes": 2, "shards": 2, "slices": 2, "epochs": 2, **more}
    flags = [x for k, v in options.items() for x in (f"--{k}", v)]
    return js(daemon, "model", "create", name, *flags)


def table_file(path, rows=200, delimiter=","):
    lines = [delimiter.join(("who", "age", "town", "pay"))]
    for i in range(rows):
        town = "rare" + str(i) if i % 50 == 0 else ("Ulm", "Jena")[i % 2]
        lines.append(delimiter.join((f"p{i // 2}", str(20 + i % 40), town, ("lo", "hi")[i % 2])))
    path.write_text("\n".join(lines) + "\n")
    return path


# --- the story -----------------------------------------------------------------------------------

def test_digits_from_load_to_verified_erasure(daemon):
    how = ["--no-header", "--label-last"]
    made = js(daemon, "model", "create", "digits", "--kind", "mlp", "--features", 64, "--dtype",
              "u8", "--classes", 10, "--hidden", "32", "--shards", 4, "--epochs", 8)
    assert made["hidden"] == [32] and made["state"] == "empty"
    loaded = js(daemon, "load", "digits", DIGITS, *how, "--subject-every", 5, "--holdout", "0/5")
    assert loaded["accepted"] == 1437 and loaded["rejected"] == 0
    assert js(daemon, "train", "digits", "--wait")["state"] == "succeeded"
    seen = js(daemon, "evaluate", "digits", DIGITS, *how, "--holdout", "0/5")
    assert seen["evaluated"] == 360 and seen["accuracy"] > 0.9
    rows = js(daemon, "predict", "digits", DIGITS, *how, "--rows", "0:30")["predictions"]
    assert [r["id"] for r in rows] == [f"row-{i}" for i in range(30)]
    plan = js(daemon, "erase", "--subject", "subject-3", "--dry-run")
    assert plan["matched"] == 4  # five rows, one of them held out
    assert js(daemon, "erasures")["items"] == []
    done = js(daemon, "erase", "--subject", "subject-3", "--wait", "--reference", "T-1")
    assert done["state"] == "completed" and done["matched"] == 4 and done["scrubbed_at"]
    assert daemon.get("/v1/models/digits/records/row-16").status_code == 404
    verified = js(daemon, "verify", "digits")
    assert [s["identical"] for s in verified["result"]["shards"]] == [True] * 4
    assert js(daemon, "audit", "verify")["verified"] is True


def test_waiting_shows_the_three_times_of_an_erasure(daemon):
    small(daemon)
    daemon.load("m", [{"id": f"r{i}", "label": i % 2, "features": [i, 1]} for i in range(40)])
    daemon.ctl("train", "m", "--wait")
    out = daemon.ctl("erase", "--record", "m:r7", "--wait").stdout
    times = [line.split()[0] for line in out.splitlines()]
    assert [t for t in times if t in ("accepted", "forgotten", "scrubbed", "completed")] == [
        "accepted", "forgotten", "scrubbed", "completed"]


def test_a_file_of_subjects_makes_an_erasure_each_and_can_be_sent_again(daemon, tmp_path):
    small(daemon)
    daemon.load("m", [{"id": f"r{i}", "subject": f"s{i}", "label": 0, "features": [i, 1]}
                      for i in range(10)])
    file = tmp_path / "subjects"
    file.write_text("s1\r\ns2\n\nnobody\n" + "x" * 600 + "\n")
    r = daemon.ctl("erase", "--from-file", file, "--idempotency-key", "K", "--wait", check=False)
    assert r.returncode == 1 and "line 5" in r.stderr
    assert r.stdout.startswith("3 erasures, 2 records")
    daemon.ctl("erase", "--from-file", file, "--idempotency-key", "K", check=False)
    assert len(js(daemon, "erasures")["items"]) == 3
    assert js(daemon, "load", "m", "-", input='{"id":"r1","label":0,"features":[1,1]}\n')[
        "suppressed"] == 0  # s1 was erased, the record's id alone was not
    again = '{"id":"new","subject":"s1","label":0,"features":[1,1]}\n'
    assert js(daemon, "load", "m", "-", input=again)["suppressed"] == 1


# --- files ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_schema_is_worked_out_and_names_no_rare_value(daemon, tmp_path, delimiter):
    file = table_file(tmp_path / "t.csv", delimiter=delimiter)
    r = daemon.ctl("model", "create", "t", "--from-csv", file, "--label", "pay", "--subject", "who")
    model = daemon.model("t")
    assert model["labels"] == ["hi", "lo"] and model["encoder"] == "tabular"
    assert model["columns"] == [{"name": "age", "type": "numeric"},
                                {"name": "town", "type": "categorical", "values": ["Jena", "Ulm"]}]
    assert "rare" not in json.dumps(model) and "rarer" in r.stderr
    loaded = js(daemon, "load", "t", file, "--label", "pay", "--subject", "who")
    assert loaded == {"accepted": 200, "duplicates": 0, "suppressed": 0, "rejected": 0,
                      "errors": []}
    assert daemon.erase(subjects=["p3"])["matched"] == 2


def test_a_value_shared_by_many_rows_of_few_people_is_rare(daemon, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("who,town,pay\n" + "".join(
        f"p{i % 9 if i < 90 else i},{'few' if i < 90 else 'many'},{i % 2}\n" for i in range(180)))
    made = json.loads(daemon.ctl("model", "create", "t", "--from-csv", file, "--label", "pay",
                                 "--subject", "who", "--print").stdout)
    assert made["columns"][0]["values"] == ["many"]
    assert daemon.get("/v1/models/t").status_code == 404  # --print creates nothing
    rows = json.loads(daemon.ctl("model", "create", "t", "--from-csv", file, "--label", "pay",
                                 "--print").stdout)
    assert rows["columns"][1]["values"] == ["few", "many"]


def test_a_label_of_many_numbers_makes_a_regression(daemon, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("x,y\n" + "".join(f"{i},{i * 1.5}\n" for i in range(60)))
    daemon.ctl("model", "create", "t", "--from-csv", file, "--label", "y")
    model = daemon.model("t")
    assert model["task"] == "regression" and [c["name"] for c in model["columns"]] == ["x"]
    assert js(daemon, "load", "t", file, "--label", "y")["accepted"] == 60


@pytest.mark.parametrize("pack", ["plain", "gzip", "members", "zstd"])
def test_compressed_files_pass_and_convert_alike(daemon, tmp_path, pack):
    small(daemon)
    plain = "id,label,a,b\n" + "".join(f"r{i},{i % 2},{i},1\n" for i in range(500))
    file = tmp_path / "f"
    if pack == "zstd":
        subprocess.run(["zstd", "-q", "-o", file], input=plain.encode(), check=True)
    elif pack == "members":
        file.write_bytes(gzip.compress(plain[:100].encode()) + gzip.compress(plain[100:].encode()))
    else:
        file.write_bytes(gzip.compress(plain.encode()) if pack == "gzip" else plain.encode())
    assert js(daemon, "load", "m", file)["accepted"] == 500
    # another id column: every row is turned into NDJSON
    assert js(daemon, "load", "m", file, "--id", "id", "--rows", "100:")["duplicates"] == 400


def test_a_cut_off_gzip_file_is_told(daemon, tmp_path):
    small(daemon)
    file = tmp_path / "f.gz"
    file.write_bytes(gzip.compress(b"id,label,a,b\n" + b"x,1,2,3\n" * 9)[:-6])
    r = daemon.ctl("load", "m", file, "--rows", "0:", check=False)
    assert r.returncode == 1 and "cut off" in r.stderr


def test_line_numbers_of_refusals_are_those_of_the_file(daemon, tmp_path):
    small(daemon)
    file = tmp_path / "f.csv"
    file.write_text('key;label;a;b\n"two\nlines";0;1;2\nshort;0;1\n\nbad;0;x;2\nlong;0;1;2;3\n'
                    'good;1;+1;.5\nworse;7;1;1\n')
    r = daemon.ctl("--json", "load", "m", file, "--id", "key", check=False)
    answer = json.loads(r.stdout)
    assert r.returncode == 1
    assert answer["accepted"] == 2 and answer["rejected"] == 4
    assert sorted(e["line"] for e in answer["errors"]) == [4, 6, 7, 9]
    assert daemon.get("/v1/models/m/records/two%0Alines").status_code == 200


def test_an_atomic_load_with_a_bad_row_leaves_nothing(daemon, tmp_path):
    small(daemon)
    file = tmp_path / "f.csv"
    file.write_text("key;label;a;b\nr1;0;1;2\nr2;0;1\n")
    r = daemon.ctl("load", "m", file, "--id", "key", "--atomic", check=False)
    assert r.returncode == 1 and "line 3" in r.stderr
    assert daemon.model("m")["records"] == 0


def test_load_and_evaluate_split_the_rows_between_them(daemon, tmp_path):
    small(daemon)
    file = tmp_path / "f.ndjson"
    file.write_text("".join(json.dumps({"id": f"r{i}", "label": i % 2, "features": [i % 2, i]})
                            + "\n" for i in range(100)))
    assert js(daemon, "load", "m", file, "--holdout", "3/10")["accepted"] == 90
    assert daemon.get("/v1/models/m/records/r13").status_code == 404
    daemon.ctl("train", "m", "--wait")
    assert js(daemon, "evaluate", "m", file, "--holdout", "3/10")["evaluated"] == 10


def test_texts_with_stray_quotes_load_from_tab_separated_lines(daemon, tmp_path):
    small(daemon, encoder="hash_text", features=64, labels="ham,spam")
    file = tmp_path / "f.tsv"
    file.write_text('ham\t"unclosed, quote; here\nspam\tbuy | now\nham\tbye "bye"\n')
    assert js(daemon, "load", "m", file, "--no-header", "--columns", "label,text")["accepted"] == 3
    daemon.ctl("train", "m", "--wait")
    assert len(js(daemon, "predict", "m", file, "--no-header", "--columns",
                  "label,text")["predictions"]) == 3


def test_predictions_need_no_label_and_keep_ids(daemon, tmp_path):
    small(daemon)
    daemon.load("m", [{"id": f"r{i}", "label": i % 2, "features": [i % 2, 1]} for i in range(40)])
    daemon.ctl("train", "m", "--wait")
    r = daemon.ctl("predict", "m", "-", input='{"id":"a","features":[0,1],"label":1}\n[1,1]\n')
    assert r.stdout.splitlines()[0] == "id\tprediction"
    assert [line.split("\t")[0] for line in r.stdout.splitlines()[1:]] == ["a", "row-1"]


# --- audit ---------------------------------------------------------------------------------------

def test_the_log_is_remembered_and_another_key_is_refused(daemon, make_daemon, tmp_path):
    small(daemon)
    assert "first time" in daemon.ctl("audit", "verify").stdout
    small(daemon, "n")
    assert "goes on" in daemon.ctl("audit", "verify").stdout
    key = daemon.get("/v1/audit/key").text
    assert js(daemon, "audit", "verify", "--key", key)["key"] == key
    # what is remembered of this address is another daemon's
    other = make_daemon()
    folder = tmp_path / "state" / "unlearnd"
    mine = folder / (hashlib.sha256(daemon.url.encode()).hexdigest()[:32] + ".log")
    (folder / (hashlib.sha256(other.url.encode()).hexdigest()[:32] + ".log")).write_bytes(
        mine.read_bytes())
    r = other.ctl("audit", "verify", check=False)
    assert r.returncode == 1 and "another key" in r.stderr
    assert other.ctl("audit", "verify", "--key", key, check=False).returncode == 1


def test_what_is_remembered_may_be_older_and_must_be_whole(daemon, tmp_path):
    small(daemon)
    old = daemon.get("/v1/audit/checkpoint").text
    small(daemon, "n")
    daemon.ctl("audit", "verify")
    file = next((tmp_path / "state" / "unlearnd").iterdir())
    vkey = file.read_text().splitlines()[0]
    good = file.read_text()
    file.write_text(vkey + "\n" + old)
    assert daemon.ctl("audit", "verify").returncode == 0
    root = good.splitlines()[3]
    file.write_text(good.replace(root, ("B" if root[0] == "A" else "A") + root[1:]))
    assert daemon.ctl("audit", "verify", check=False).returncode == 1


def test_a_log_that_was_cut_back_is_refused(make_daemon, tmp_path):
    """An old copy of the data directory, at the same address: first shorter than what was seen, then another
    history of the same length and more."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    d = make_daemon(data_dir=data)
    d.options += ["--listen", d.url.removeprefix("http://")]
    d.erase(subjects=["a"])
    d.stop()
    shutil.copytree(data, copy)
    d.start()
    d.erase(subjects=["b"])
    d.ctl("audit", "verify")
    d.stop()
    shutil.rmtree(data)
    copy.rename(data)
    d.start()
    r = d.ctl("audit", "verify", check=False)
    assert r.returncode == 1 and "entries were taken away" in r.stderr, r.stderr
    for subject in "cdef":
        d.erase(subjects=[subject])
    r = d.ctl("audit", "verify", check=False)
    assert r.returncode == 1 and "history was changed" in r.stderr, r.stderr


def test_exports_are_the_daemons_bytes(daemon, tmp_path):
    small(daemon)
    out = tmp_path / "log"
    daemon.ctl("audit", "--export", "ndjson", "--output", out)
    assert out.read_text() == daemon.get(
        "/v1/audit", headers={"Accept": "application/x-ndjson"}).text
    assert daemon.ctl("audit", "--export", "csv").stdout.startswith("index,time,type")


# --- tokens --------------------------------------------------------------------------------------

def test_a_new_token_opens_what_its_scopes_say(make_daemon, tmp_path):
    made = [json.loads(ctl("--json", "token", "new", "--name", name, "--scope", scope).stdout)
            for name, scope in (("root", "admin"), ("reader", "predict"))]
    for m in made:
        assert m["line"].split()[2] == hashlib.sha256(m["token"].encode()).hexdigest()
    data = tmp_path / "d"
    data.mkdir()
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(m["line"] + "\n" for m in made))
    config = tmp_path / "unlearnd.conf"
    config.write_text(f"[server]\ntokens_file = {tokens}\n")
    daemon = make_daemon("-c", config, auth=True, data_dir=data)
    root, reader = (m["token"] for m in made)
    assert daemon.ctl("--token", root, "model", "list").returncode == 0
    r = daemon.ctl("model", "list", check=False, env={"UNLEARND_TOKEN": reader})
    assert r.returncode == 1 and "scope" in r.stderr
    r = daemon.ctl("model", "list", check=False)
    assert r.returncode == 1 and "UNLEARND_TOKEN" in r.stderr


@pytest.mark.parametrize("args", [
    ("--name", "a b", "--scope", "erase"), ("--name", "a", "--scope", "erase,all"),
    ("--name", "a", "--scope", "erase", "--rate", "10"),
    ("--name", "a", "--scope", "erase", "--rate", "10/86401"), ("--name", "a"),
    ("--name", "-a", "--scope", "erase"), ("--name", "a", "--scope", "erase,")])
def test_a_token_that_the_daemon_would_not_read_is_not_made(args):
    assert ctl("token", "new", *args).returncode == 2


# --- errors --------------------------------------------------------------------------------------

def test_problems_are_told_with_their_places(daemon):
    r = daemon.ctl("model", "create", "m", "--features", 0, "--classes", 2, check=False)
    assert r.returncode == 1 and r.stdout == ""
    assert r.stderr.startswith("error: ") and "/features" in r.stderr
    r = daemon.ctl("train", "nothing", check=False)
    assert r.returncode == 1 and "error: " in r.stderr


def test_nobody_listening_says_how_to_start_the_daemon():
    r = ctl("--url", NO_DAEMON, "status")
    assert r.returncode == 1 and "unlearnd --data-dir" in r.stderr


@pytest.mark.parametrize("args, hint", [
    (("erasurs",), "erasures"), (("modle", "list"), "model list"), (("model",), "model"),
    (("frobnicate",), "--help"), (("train",), "usage"), (("train", "m", "--wiat"), "--wiat"),
    (("load", "m", "f", "--rows", "x"), "--rows"), (("erase",), "--subject"),
    (("erase", "--record", "nocolon"), "MODEL:ID"), (("job", "a", "b"), "usage"),
    (("load", "m", "f", "--holdout", "5/5"), "--holdout"),
    (("model", "delete", "m"), "--yes"), ((), "usage")])
def test_wrong_usage_is_status_2_with_a_hint(args, hint):
    r = ctl("--url", NO_DAEMON, *args, stdin=subprocess.DEVNULL)
    assert r.returncode == 2 and r.stdout == "" and hint in r.stderr


def commands():
    lines = ctl("--help").stdout.splitlines()
    return [line[2:22].strip() for line in lines if line.startswith("  ") and line[2].isalpha()]


def test_every_command_has_help_and_stands_in_the_manual():
    manual = (ROOT / "docs" / "unlearnctl.1").read_text().replace("\\-", "-")
    found = commands()
    assert len(found) >= 20
    for command in found:
        r = ctl(*command.split(), "--help")
        assert r.returncode == 0 and r.stdout.startswith(f"usage: unlearnctl {command}")
        assert command in manual, command
        for option in re.findall(r"--[a-z][a-z0-9-]+", r.stdout):
            assert re.search(rf"{option}(?![a-z0-9-])", manual), f"{command} {option}"


def test_control_characters_of_others_do_not_reach_the_terminal(daemon):
    r = daemon.ctl("job", "\x1b[31mred", check=False)
    assert r.returncode == 1 and "\x1b" not in r.stdout + r.stderr


def complete(words):
    """What bash would offer for the last word."""
    script = (f'source {ROOT}/cli/unlearnctl.bash-completion; '
              f'COMP_WORDS=({" ".join(map(repr, words))}); COMP_CWORD={len(words) - 1}; '
              '_unlearnctl; printf "%s\\n" "${COMPREPLY[@]}"')
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True,
                          timeout=60).stdout.split()


def test_completion_offers_commands_options_and_models(daemon, monkeypatch):
    program = str(BIN / "unlearnctl")
    assert {"erase", "erasure", "erasures"} <= set(complete([program, "era"]))
    assert complete([program, "model", "cr"]) == ["create"]
    assert complete([program, "erase", "--wa"]) == ["--wait"]
    assert "--from-csv" in complete([program, "model", "create", "--fr"])
    small(daemon, "mine")
    monkeypatch.setenv("UNLEARND_URL", daemon.url)
    assert complete([program, "train", ""]) == ["mine"]


def test_a_regression_of_several_targets_needs_all_of_them(daemon, tmp_path):
    daemon.create(name="r", kind="softmax", task="regression", features=1, targets=2)
    file = tmp_path / "f.csv"
    file.write_text("x;label.0;label.1\n1;2;3\n4;5;6\n")
    assert js(daemon, "load", "r", file)["accepted"] == 2
    file.write_text("x;label.0\n1;2\n")
    assert daemon.ctl("load", "r", file, check=False).returncode == 1


def test_a_file_that_the_daemon_reads_as_it_is_stays_so(daemon, tmp_path):
    small(daemon)
    npy = b"\x93NUMPY\x01\x00"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    file = tmp_path / "f.npy"
    file.write_bytes(npy + struct.pack("<H", len(header)) + header
                     + struct.pack("<6f", 1, 2, 0, 3, 4, 1))
    assert js(daemon, "load", "m", file, "--id-prefix", "n")["accepted"] == 2
    assert daemon.get("/v1/models/m/records/n1").status_code == 200
    r = daemon.ctl("load", "m", file, "--rows", "0:1", check=False)
    assert r.returncode == 2
