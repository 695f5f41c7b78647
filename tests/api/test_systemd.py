# SPDX-License-Identifier: Apache-2.0
"""The unit files, and the daemon under a manager that this file plays: sd_notify and a passed socket."""
import os
import re
import signal
import socket
import subprocess
import time
from shutil import which

import pytest
import requests
from conftest import BIN, OPTIONS, ROOT, Daemon
from manager import Manager


def analyse(unit):
    """The manual pages need not be installed here."""
    r = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True,
                       env={**os.environ, "SYSTEMD_UNIT_PATH": f"{unit.parent}:"})
    mine = [line for line in r.stderr.splitlines() if "unlearnd" in line]
    assert not mine, "\n".join(mine)
    assert r.returncode == 0, r.stderr


@pytest.mark.parametrize("unit", ["unlearnd.service", "unlearnd.socket"])
def test_the_units_are_valid(tmp_path, unit):
    if which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("unlearnd.service", "unlearnd.socket"):
        text = (ROOT / "systemd" / name).read_text()
        (tmp_path / name).write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={BIN / 'unlearnd'}", text))
    analyse(tmp_path / unit)


def test_what_is_installed_is_what_the_unit_and_the_programs_look_for(tmp_path):
    if BIN.resolve() != ROOT / "build":
        pytest.skip("another build is tested than the one that is installed")
    subprocess.run(["make", "-s", "install", f"DESTDIR={tmp_path}", "PREFIX=/opt/un"], cwd=ROOT, check=True,
                   capture_output=True)
    unit = (tmp_path / "opt/un/lib/systemd/system/unlearnd.service").read_text()
    program, config = re.search(r"(?m)^ExecStart=(\S+) -c (\S+)$", unit).groups()
    assert program == "/opt/un/bin/unlearnd"
    assert (tmp_path / config[1:]).read_text() == (ROOT / "config" / "unlearnd.conf").read_text()
    for name, section in re.findall(r"man:([a-z.]+)\((\d)\)", unit):
        assert (tmp_path / f"opt/un/share/man/man{section}/{name}.{section}").exists(), name
    d = Daemon(tmp_path / "data", programs=tmp_path / "opt/un/bin")
    try:
        d.create(name="m", kind="softmax", features=1, classes=2, epochs=1)
        d.load("m", [{"id": f"r{i}", "label": i % 2, "features": [i]} for i in range(9)])
        d.train("m")  # by the worker, which is elsewhere
    finally:
        d.stop()
    assert "@OPTIONS@" not in (tmp_path / "opt/un/share/man/man8/unlearnd.8").read_text()
    assert (tmp_path / "opt/un/share/man/man1/unlearnctl.1").exists()
    if which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; the rest of this test held")
    path = tmp_path / "unlearnd.service"
    path.write_text(unit.replace(program, f"{tmp_path}{program}"))
    analyse(path)


def test_the_unit_is_a_tight_sandbox(tmp_path):
    if which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager",
                        str(ROOT / "systemd" / "unlearnd.service")], capture_output=True, text=True)
    if "exposure level" not in r.stdout:
        pytest.skip("systemd-analyze security does not work here: " + r.stderr.strip()[:100])
    assert r.returncode == 0, r.stdout[-500:]


@pytest.fixture
def manager(tmp_path):
    m = Manager(tmp_path)
    yield m
    m.close()


def test_it_says_when_it_is_ready_alive_reloading_and_stopping(tmp_path, manager):
    tokens = tmp_path / "tokens"
    tokens.write_text("a admin " + "0" * 64 + "\n")
    env = {**os.environ, "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "3000000"}
    env.pop("WATCHDOG_PID", None)
    p = subprocess.Popen([str(BIN / "unlearnd"), *OPTIONS, "--data-dir", str(tmp_path / "d"), "--listen",
                          "127.0.0.1:0", "--tokens-file", str(tokens)], stderr=subprocess.PIPE, text=True,
                         env=env)
    try:
        url = "http://" + next(x for x in p.stderr if x.startswith("listening on")).split()[-1]
        manager.wait("READY=1")
        assert requests.get(url + "/v2/health/ready", timeout=5).status_code == 200
        time.sleep(4)
        fed = manager.times("WATCHDOG=1")
        assert len(fed) >= 2
        assert max(b - a for a, b in zip(fed, fed[1:])) < 2.5
        p.send_signal(signal.SIGHUP)
        manager.wait("RELOADING=1")
        reloading = next(lines for _, lines in manager.got if "RELOADING=1" in lines)
        at = int(next(x for x in reloading if x.startswith("MONOTONIC_USEC=")).split("=")[1])
        assert abs(at - time.monotonic_ns() // 1000) < 10_000_000
        end = time.monotonic() + 5
        while len(manager.times("READY=1")) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        p.terminate()
        assert p.wait(20) == 0
        manager.wait("STOPPING=1")
        assert manager.times("READY=1")[0] < manager.times("STOPPING=1")[0]
    finally:
        p.kill()
        p.wait()
        p.stderr.close()


def test_the_watchdog_is_not_fed_by_a_stopped_process_nor_without_being_asked(tmp_path, manager):
    env = {**os.environ, "NOTIFY_SOCKET": manager.path}
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        env.pop(name, None)
    p = subprocess.Popen([str(BIN / "unlearnd"), *OPTIONS, "--data-dir", str(tmp_path / "d"), "--listen",
                          "127.0.0.1:0", "--insecure-no-auth"], stderr=subprocess.DEVNULL, env=env)
    try:
        manager.wait("READY=1")
        time.sleep(0.7)
        assert manager.times("WATCHDOG=1") == []
    finally:
        p.terminate()
        assert p.wait(20) == 0


LAUNCH = """
import os, sys
fd = int(sys.argv[1])
if fd != 3:
    os.dup2(fd, 3, inheritable=True)
else:
    os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS=sys.argv[2], LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


def launch(tmp_path, listener, count="1", *options):
    return subprocess.Popen(
        ["/usr/bin/python3", "-c", LAUNCH, str(listener.fileno()), count, str(BIN / "unlearnd"), *OPTIONS, "--data-dir",
         str(tmp_path / "d"), *(options or ["--insecure-no-auth"])], pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE, text=True)


def test_it_takes_over_a_socket_and_answers_who_came_before_it(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        early = socket.create_connection(("127.0.0.1", port), timeout=20)
        early.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        p = launch(tmp_path, listener)
        try:
            assert early.recv(4096).startswith(b"HTTP/1.1 200")
            early.close()
            p.terminate()
            assert p.wait(20) == 0
            log = p.stderr.read()
            assert f"listening on 127.0.0.1:{port}" in log
            # the socket is the manager's: who connects during the restart is served after it
            late = socket.create_connection(("127.0.0.1", port), timeout=20)
            late.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            p.stderr.close()
            p = launch(tmp_path, listener)
            assert late.recv(4096).startswith(b"HTTP/1.1 200")
            late.close()
        finally:
            p.terminate()
            p.wait(20)
            p.stderr.close()


def test_a_passed_socket_beyond_loopback_needs_tokens_all_the_same(tmp_path):
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(8)
        p = launch(tmp_path, listener)
        assert p.wait(20) not in (0, -signal.SIGSEGV, -signal.SIGABRT)
        assert "refusing" in p.stderr.read()
        p.stderr.close()


def test_a_socket_that_does_not_listen_is_refused(tmp_path):
    with socket.socket() as s:
        p = launch(tmp_path, s)
        assert p.wait(20) not in (0, -signal.SIGSEGV, -signal.SIGABRT)
        p.stderr.close()
