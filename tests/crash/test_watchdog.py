# SPDX-License-Identifier: Apache-2.0
"""A daemon that does not move is not fed: systemd ends it, and its next start is a recovery."""
import threading
import time

import pytest
from conftest import FAULTS
from manager import Manager
from world import Held, wait

WATCHDOG_S = 3


@pytest.fixture
def manager(tmp_path):
    m = Manager(tmp_path)
    yield m
    m.close()


def test_while_the_writer_stands_the_watchdog_is_not_fed_and_the_log_says_so(make_daemon, tmp_path, manager):
    passes = tmp_path / "passes"
    passes.mkdir()
    d = make_daemon(programs=FAULTS, env={"UNLEARND_CRASH_PASSES": str(passes), "NOTIFY_SOCKET": manager.path,
                                          "WATCHDOG_USEC": str(WATCHDOG_S * 1000000)})
    manager.wait("WATCHDOG=1")
    held = Held(passes, "commit.committed")
    answers = []
    asking = threading.Thread(target=lambda: answers.append(d.post("/v1/erasures", {"subjects": ["nobody"]})))
    asking.start()  # and there the writer stands
    wait("a word of it", lambda: any(" error stuck no_move_ms=" in line for line in d.log))
    assert not answers
    stuck = time.monotonic()
    time.sleep(0.6 * WATCHDOG_S)  # another look, half of it apart
    assert [at for at in manager.times("WATCHDOG=1") if at > stuck] == []
    held.let_go()
    moving = time.monotonic()
    wait("the answer", lambda: answers and answers[0].status_code == 202)
    wait("food", lambda: [at for at in manager.times("WATCHDOG=1") if at > moving])
    asking.join(10)
    held.end()
    d.stop()
