# SPDX-License-Identifier: Apache-2.0
"""Section `training`: samples a second of one thread, beside the same matrix products alone, PyTorch
and scikit-learn. The sides take turns within every repeat, so that a ratio is of neighbours in
time."""
import subprocess
from pathlib import Path

import rig

REPEATS = 7
OURS_MS, PEER_MS = 150, 250
CASES = [
    ("wide", "784-128-10 relu, SGD batch 64, no momentum"),
    ("wide-momentum", "784-128-10 relu, SGD batch 64, momentum 0.9"),
    ("purchase", "600-128-2 tanh, SGD batch 16, rows of 0 and 1 at 9 %"),
    ("softmax", "softmax 784-10, SGD batch 64"),
]


class Peer:
    def __init__(self, name, package):
        self.process = subprocess.Popen(
            ["/usr/bin/python3", str(Path(__file__).with_name("peer.py")), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self.process.stdout.readline().strip()
        self.package = package
        self.present = self.version not in ("", "absent")

    def measure(self, side, case, ms):
        self.process.stdin.write(f"{side} {case} {ms}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def ours(bin_dir, side, case):
    return float(rig.run_tool(bin_dir, "train", side, case, OURS_MS))


def run_case(table, bin_dir, case, text, torch, sklearn):
    linear = case == "softmax"
    sides = {"unlearnd trainer": lambda: ours(bin_dir, "ours", case),
             "the matrix products alone (sgemm)": lambda: ours(bin_dir, "sgemm", case)}
    if torch.present:
        sides["PyTorch eager loop"] = lambda: torch.measure("eager", case, PEER_MS)
        sides["PyTorch DataLoader loop"] = lambda: torch.measure("loader", case, PEER_MS)
    if sklearn.present:
        name = "SGDClassifier" if linear else "MLPClassifier"
        sides[f"scikit-learn {name}"] = lambda: sklearn.measure("fit", case, PEER_MS)
    values = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, measure in sides.items():
            values[name].append(measure())
    names = list(sides)
    table.group(text)
    table.figure(names[0], "samples/s", values[names[0]], [(n, values[n]) for n in names[1:]])
    for name in names[1:]:
        table.figure(f"  {name}", "samples/s", values[name])
    if linear and sklearn.present:
        table.note("SGDClassifier takes one row a step and fits one binary model a class: the "
                   "nearest that scikit-learn has, not the same algorithm")


def run(table, bin_dir, _full):
    table.heading("training", "one thread, rows in memory as f32; sides in turns, "
                              f"{REPEATS} repeats")
    torch, sklearn = Peer("torch", "python3-torch"), Peer("sklearn", "python3-sklearn")
    for peer in (torch, sklearn):
        if not peer.present:
            table.skip(f"{peer.package} is not installed")
        else:
            table.note(f"{peer.package} {peer.version}, one thread")
    try:
        square = [float(rig.run_tool(bin_dir, "train", "square", 2048)) for _ in range(REPEATS)]
        table.figure("sgemm 2048 x 2048 x 2048", "GFLOP/s", square)
        for case, text in CASES:
            run_case(table, bin_dir, case, text, torch, sklearn)
    finally:
        torch.close()
        sklearn.close()
