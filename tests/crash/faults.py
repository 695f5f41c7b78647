# SPDX-License-Identifier: Apache-2.0
"""Faults in a running daemon: the Python side of tests/preload/faults.h. A Faults holds the control file
that the daemon's shim has mapped; rules are switched on and off while it runs."""
import mmap
import struct
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIM = ROOT / "build" / "tests" / "faults.so"

WRITE, META, SYNC, TRUNCATE, ALLOCATE, OPEN, SOCKET, MEMORY, MAP, RENAME, UNLINK, MKDIR, THREAD = (
    1 << i for i in range(13))
SHORT = -1  # in place of an errno: half of the bytes are written
SLOW = -2  # in place of an errno: the call takes 200 ms longer, and succeeds
LOSES = 1 << 16  # with the errno of a sync: what was written since the last one is lost
ALWAYS = (1 << 64) - 1

RULE = struct.Struct("<IiQQQQ64s")
RULES, RULES_AT, ROOT_BYTES = 8, 16 + 256, 256


def build_shim():
    """`make test` has built it; so that one file of tests can be run alone too."""
    subprocess.run(["make", "-s", "build/tests/faults.so"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)


class Faults:
    def __init__(self, control, data_dir):
        build_shim()
        self.path = Path(control)
        self.path.write_bytes(struct.pack("<8sq256s", b"ULFAULT1", 0,
                                          str(Path(data_dir).resolve()).encode())
                              + bytes(RULE.size * RULES))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)
        self.env = {"LD_PRELOAD": str(SHIM), "UNLEARND_FAULTS": str(self.path)}

    def on(self, kinds, error, name="", first=1, last=ALWAYS, rule=0):
        """From now on the calls first..last of these kinds on files whose path holds `name` fail.
        error: an errno, SHORT, or 0 to count only."""
        at = RULES_AT + rule * RULE.size
        self.map[at:at + 4] = bytes(4)  # off while it changes
        self.map[at + 4:at + RULE.size] = RULE.pack(0, error, first, last, 0, 0,
                                                    name.encode())[4:]
        self.map[at:at + 4] = struct.pack("<I", kinds)

    def off(self, rule=None):
        for i in range(RULES) if rule is None else [rule]:
            at = RULES_AT + i * RULE.size
            self.map[at:at + 4] = bytes(4)

    def seen(self, rule=0):
        return self._rule(rule)[4]

    def hit(self, rule=0):
        return self._rule(rule)[5]

    def _rule(self, rule):
        return RULE.unpack_from(self.map, RULES_AT + rule * RULE.size)

    def step_clock(self, seconds):
        """The wall clock of the daemon is this far from the true one; 0 sets it right."""
        self.map[8:16] = struct.pack("<q", round(seconds * 1000))
