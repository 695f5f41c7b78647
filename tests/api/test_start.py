# SPDX-License-Identifier: Apache-2.0
"""A start that is refused ends, with its reason and its status, also where memory is too short for the libraries' threads."""
import os
import resource
import subprocess

import pytest
from conftest import BIN, WRAPPER

pytestmark = pytest.mark.skipif(bool(WRAPPER) or BIN.name in ("asan", "tsan"),
                                reason="a sanitizer needs the address space")
MEMORY = 180_000 * 1024  # the libraries fit, a buffer of OpenBLAS does not
CASES = {
    "nothing but a version": (["--version"], 0, "unlearnd "),
    "a flag that is none": (["--nope"], 2, "unknown flag --nope"),
    "a store that does not fit": (["--insecure-no-auth", "--listen", "127.0.0.1:0"], 1, "cannot open the control database"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_daemon_that_is_short_of_memory_does_not_stay(tmp_path, case):
    flags, status, said = CASES[case]
    r = subprocess.run([str(BIN / "unlearnd"), "--data-dir", str(tmp_path / "d"), *flags], capture_output=True, text=True,
                       timeout=60, env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)))
    assert r.returncode == status and said in r.stdout + r.stderr, r
