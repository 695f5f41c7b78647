# SPDX-License-Identifier: Apache-2.0
"""Docs stay true by execution: the README's first session is run as it stands."""
import os
import re
import subprocess

import pytest
from conftest import BIN, ROOT


def blocks():
    text = (ROOT / "README.md").read_text()
    session = text.split("## A first session")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", session, re.S)


def run(script, daemon, tmp_path):
    env = {**os.environ, "UNLEARND_URL": daemon.url, "PATH": f"{BIN}:{os.environ['PATH']}",
           "XDG_STATE_HOME": str(tmp_path)}
    script = script.replace("localhost:8417", daemon.url.removeprefix("http://"))
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script.replace("curl -s", "curl -sSf")],
                          cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)


def test_the_readme_starts_the_daemon_as_the_tests_do():
    start, client, curl = blocks()
    assert start.startswith("build/unlearnd --data-dir ") and "--insecure-no-auth" in start
    assert client.startswith("unlearnctl") and curl.startswith("curl")


def test_the_first_session_with_unlearnctl(daemon, tmp_path):
    if not (BIN / "unlearnctl").exists():
        pytest.fail("unlearnctl is not built")
    r = run(blocks()[1], daemon, tmp_path)
    assert r.returncode == 0, r.stdout + r.stderr
    m = daemon.model("digits")
    assert m["state"] == "ready" and m["records"] == 1797 - 5


def test_the_first_session_with_curl(make_daemon, tmp_path):
    """As it is pasted: a line does not wait for what the one before set going, and a training may take a while."""
    worker = tmp_path / "worker"
    worker.write_text(f'#!/bin/sh\n/bin/sleep 2\nexec {BIN / "unlearn-worker"} "$@"\n')
    worker.chmod(0o700)
    daemon = make_daemon("--worker-path", str(worker))
    r = run(blocks()[2], daemon, tmp_path)
    assert r.returncode == 0, r.stdout + r.stderr
    assert daemon.ok("GET", "/v1/erasures")["items"][0]["matched"] == 1


def test_what_the_readme_links_to_exists():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
