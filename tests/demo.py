#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make demo: the whole story on real data, through the two programs a user has. Starts a daemon on a
free port in a scratch directory, loads, trains, predicts, erases a person, shows the three times of
the erasure, verifies the audit log, the certificate and the bytes of every retrained shard, and stops.
Exit status 0 only if all of it held."""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOLDOUT = "0/5"


class Demo:
    def __init__(self, bin_dir):
        self.bin = (ROOT / bin_dir).resolve()
        os.chdir(ROOT)
        self.dir = tempfile.mkdtemp(prefix="unlearnd-demo-")
        self.process = subprocess.Popen(
            [str(self.bin / "unlearnd"), "--data-dir", self.dir + "/data",
             "--listen", "127.0.0.1:0", "--insecure-no-auth", "--gather-window-ms", "1500"],
            stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.match(r"listening on (\S+)", line)
            if found:
                self.url = "http://" + found.group(1)
                break
        else:
            raise SystemExit("the daemon did not start")
        self.drain = subprocess.DEVNULL
        import threading
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        self.env = {**os.environ, "UNLEARND_URL": self.url, "XDG_STATE_HOME": self.dir + "/state"}

    def say(self, text):
        print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)

    def ctl(self, *args, show=True):
        """Runs unlearnctl as a user would, and shows it."""
        args = [str(a) for a in args]
        if show:
            print("$ unlearnctl " + " ".join(args), flush=True)
            r = subprocess.run([str(self.bin / "unlearnctl"), *args], env=self.env)
        else:
            r = subprocess.run([str(self.bin / "unlearnctl"), "--json", *args], env=self.env,
                               stdout=subprocess.PIPE, text=True)
        if r.returncode != 0:
            raise SystemExit(f"demo: unlearnctl {' '.join(args)} failed ({r.returncode})")
        return r.stdout

    def get(self, path, body=None):
        request = urllib.request.Request(
            self.url + path, data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as r:
            return json.load(r)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        shutil.rmtree(self.dir, ignore_errors=True)
        return code


def milliseconds(erasure, key):
    begin, end = (datetime.fromisoformat(erasure[k].replace("Z", "+00:00"))
                  for k in ("accepted_at", key))
    return (end - begin).total_seconds() * 1000


def score(evaluation):
    return evaluation["accuracy"] if "accuracy" in evaluation else evaluation["mean_squared_error"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", default="build")
    p.add_argument("--data")
    p.add_argument("--label")
    args = p.parse_args()
    if args.data and not args.label:
        raise SystemExit("demo: with DATA=FILE give LABEL=COLUMN, the column to predict")
    demo = Demo(args.bin)
    failures = []

    def check(what, held):
        print(f"  {'ok  ' if held else 'FAIL'}  {what}", flush=True)
        if not held:
            failures.append(what)

    try:
        if args.data:
            model, path = "demo", args.data
            columns = ["--label", args.label]
            shape, subjects = columns, []
            demo.say(f"A model for {path}: the schema is worked out from the file")
            demo.ctl("model", "create", model, "--from-csv", path, *columns, "--shards", 4,
                     "--slices", 4, "--epochs", 10)
        else:
            model, path = "digits", "tests/data/digits.csv.gz"
            shape, subjects = ["--no-header", "--label-last"], ["--subject-every", 5]
            demo.say("A model: 4 shards of 4 slices, an MLP of 64-128-10 each")
            demo.ctl("model", "create", model, "--kind", "mlp", "--features", 64, "--dtype", "u8",
                     "--classes", 10, "--hidden", 128, "--shards", 4, "--slices", 4,
                     "--epochs", 40)
        demo.say("Load four fifths of the records; the rest is held out")
        demo.ctl("load", model, path, *shape, *subjects, "--holdout", HOLDOUT)
        demo.say("Train")
        demo.ctl("train", model, "--wait")

        def evaluate():
            return json.loads(demo.ctl("evaluate", model, path, *shape, "--holdout", HOLDOUT,
                                       show=False))

        before = evaluate()
        demo.ctl("evaluate", model, path, *shape, "--holdout", HOLDOUT)

        # Somebody who is held: row 1 (row 0 is held out). Without a column of ids a row is a person.
        subject = "row-1" if args.data else "subject-0"
        served = demo.get(f"/v1/models/{model}")["served_hash"]

        demo.say("Somebody asks to be forgotten. What would it cost?")
        demo.ctl("erase", "--subject", subject, "--regulation", "gdpr", "--dry-run")
        demo.say("Forget them")
        began = time.monotonic()
        erasure = demo.get("/v1/erasures", {"subjects": [subject], "regulation": "gdpr",
                                            "reference": "DEMO-1"})
        answered = (time.monotonic() - began) * 1000
        rolled_back = evaluate()
        state = demo.get(f"/v1/models/{model}")
        matched = erasure["matched"]
        print(f"  202 after {answered:.1f} ms: {matched} records of one subject are out of the "
              f"served model ({state['degraded_constituents']} constituent rolled back)")
        check("the person was held", matched > 0)
        check("the served bytes changed before the answer", state["served_hash"] != served)
        while True:
            erasure = demo.get(f"/v1/erasures/{erasure['id']}")
            if erasure["state"] == "completed":
                break
            time.sleep(0.02)
        after = evaluate()
        demo.ctl("erasure", erasure["id"])

        demo.say("The three times of the erasure, and what the model was worth meanwhile")
        name = "accuracy" if "accuracy" in before else "mean squared error"
        print(f"  forgotten  {answered:8.1f} ms  (the answer, over HTTP)")
        print(f"  scrubbed   {milliseconds(erasure, 'scrubbed_at'):8.1f} ms")
        print(f"  completed  {milliseconds(erasure, 'completed_at'):8.1f} ms  "
              f"(of which 1500 ms gather further erasures for the same retrain)")
        print(f"  {name}: {score(before):.4f} before, {score(rolled_back):.4f} while rolled back, "
              f"{score(after):.4f} after")

        demo.say("Check it: the bytes of every shard against one retrained from nothing")
        demo.ctl("verify", model)
        check("retrained from nothing, every shard has the same bytes",
              all(s["identical"] for s in json.loads(demo.ctl("verify", model, show=False))
                  .get("result", {}).get("shards", [{"identical": False}])))
        demo.say("The audit log: signature, every leaf, the root")
        demo.ctl("audit", "verify")
        demo.say("The certificate: fetched, and checked again as a file, without the daemon")
        files = [demo.dir + "/certificate.json", demo.dir + "/certificate.tlog-proof"]
        demo.ctl("certificate", erasure["id"], "-o", files[0], "--proof", files[1])
        with urllib.request.urlopen(demo.url + "/v1/audit/key", timeout=60) as r:
            key = r.read().decode()
        said = json.loads(demo.ctl("--url", "http://127.0.0.1:1", "certificate", "--verify", files[0],
                                   "--proof", files[1], "--key", key, show=False))
        check("the certificate is signed, and the log records it",
              said["verified"] and said["erasure"] == erasure["id"] and said["log_size"] > said["log_index"])
        check("it says what the shards show", sorted(
            c["after"]["sha256"] for c in said["predicate"]["constituents"]) == sorted(
            s["slices"][-1]["checkpoint_hash"] for s in demo.get(f"/v1/models/{model}/shards")["shards"]
            if s["shard"] in {a["shard"] for a in erasure["affected"]}))
        demo.say("And a reload does not bring them back")
        demo.ctl("load", model, path, *shape, *subjects, "--holdout", HOLDOUT)
        held = demo.get(f"/v1/models/{model}")
        check("the person is still forgotten", held["served_hash"] !=
              served and held["records"] == state["records"])
        check("the model is at full strength", held["state"] == "ready")
    finally:
        code = demo.stop()
    check("the daemon stopped cleanly", code == 0)
    print()
    if failures:
        print("demo: " + "; ".join(failures))
        return 1
    print("demo: everything held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
