# SPDX-License-Identifier: Apache-2.0
"""tests/run.py, which says whether the tests passed: what pytest reports is counted, whatever comes after it."""
import os

import pytest
import run

ENDS = [  # exit status, report, more arguments; (passed, failed, skipped)
    (0, "....\n4 passed in 0.10s\n", [], (4, 0, 0)),
    (0, ".s\n1 passed, 1 skipped, 3 warnings in 61.20s (0:01:01)\n", [], (1, 0, 1)),
    (0, "==== 4 passed in 0.10s ====\n", [], (4, 0, 0)),
    (1, "F.\n1 failed, 1 passed in 0.10s\n", [], (1, 1, 0)),
    (1, "F.\n1 failed, 1 passed in 0.10s\ngoodbye\n", [], (1, 1, 0)),
    (1, "F.\n1 failed, 1 passed in 0.10s\n3 passed by\n", [], (1, 1, 0)),
    (1, "EE\n1 passed, 2 errors in 0.10s\n", [], (1, 2, 0)),
    (1, "goodbye\n", [], (0, 1, 0)),
    (1, "2 passed in 0.10s\n", [], (2, 1, 0)),
    (-11, "Fatal Python error\n", [], (0, 1, 0)),
    (-11, "2 passed in 0.10s\n", [], (2, 1, 0)),
    (0, "", [], (0, 1, 0)),
    (5, "no tests ran in 0.01s\n", [], (0, 1, 0)),
    (5, "3 deselected in 0.01s\n", ["-k", "some"], (0, 0, 0)),
]


@pytest.mark.parametrize("code, said, extra, counts", ENDS)
def test_no_end_of_pytest_passes_for_another(code, said, extra, counts):
    assert run.count_pytest(code, said, extra) == counts


def test_what_fails_in_a_thread_or_before_an_exit_is_counted(tmp_path):
    path = tmp_path / "test_some.py"
    path.write_text("import atexit, threading\n"
                    "atexit.register(lambda: print('goodbye'))\n"
                    "def say(): assert False, 'lost'\n"
                    "def test_thread():\n"
                    "    t = threading.Thread(target=say); t.start(); t.join()\n"
                    "def test_plain(): assert False\n"
                    "def test_good(): pass\n")
    try:
        assert run.run_pytest(os.environ.get("UNLEARND_BIN", "build"), path, [])[0] == (1, 2, 0)
    finally:
        (run.ROOT / "build" / "pytest" / f"{tmp_path.name}-test_some.log").unlink()
