# SPDX-License-Identifier: Apache-2.0
"""The BLAS kernel is part of what makes bytes: pinned, recorded, and a mismatch is refused with a
clear message instead of differing. OPENBLAS_CORETYPE chooses the kernel of a process. Where the
machine's own environment sets it, as on processors for which this OpenBLAS has a faulty kernel, no other
kernel is run here: what would need a second one skips."""
import json
import os
import struct
import time
from pathlib import Path

import pytest
from conftest import DIGITS

KERNELS = ["Haswell", "SkylakeX"]
OPTIONS = ["--gather-window-ms", "5", "--retry-first-ms", "50"]


SET = os.environ.get("OPENBLAS_CORETYPE")


def usable(kernel):
    if SET is not None and SET != kernel:
        pytest.skip(f"OPENBLAS_CORETYPE={SET} is set on this machine: {kernel} is not to be run")
    if kernel == "SkylakeX" and "avx512f" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no AVX-512")
    return kernel


@pytest.fixture(params=KERNELS)
def kernel(request):
    return usable(request.param)


@pytest.fixture
def other(kernel):
    return usable("SkylakeX" if kernel == "Haswell" else "Haswell")


def recorded_kernels(daemon):
    """Of every checkpoint in the data directory, as any reader of safetensors sees it."""
    found = set()
    for path in sorted(daemon.data_dir.glob("models/**/*.ckpt")):
        data = path.read_bytes()
        n = struct.unpack("<Q", data[:8])[0]
        found.add(json.loads(data[8:8 + n])["__metadata__"]["kernel"])
    return found


def trained(daemon, digits):
    daemon.create(**{**DIGITS, "epochs": 2})
    daemon.load("digits", digits[:400])
    daemon.train("digits")
    return daemon.model("digits")["served_hash"]


def test_the_kernel_is_recorded_and_erasure_is_exact_under_it(make_daemon, digits, kernel):
    env = {"OPENBLAS_CORETYPE": kernel}
    seen = make_daemon(*OPTIONS, env=env)
    before = trained(seen, digits)
    assert recorded_kernels(seen) == {kernel}
    gone = {"s1", "s40", "s60"}
    for s in sorted(gone):
        seen.erase(subjects=[s])
    never = make_daemon(*OPTIONS, key_of=seen, env=env)
    after = trained(never, [r for r in digits[:400] if r["subject"] not in gone])
    assert seen.model("digits")["served_hash"] == after != before
    assert all(s["identical"] for s in seen.verify("digits"))


def test_kernels_do_differ(make_daemon, digits, kernel, other):
    """Else the tests beside this one would prove nothing."""
    a = make_daemon(env={"OPENBLAS_CORETYPE": kernel})
    b = make_daemon(env={"OPENBLAS_CORETYPE": other}, key_of=a)
    assert trained(a, digits) != trained(b, digits)


def test_a_pinned_kernel_is_what_workers_use_whatever_the_machine_prefers(make_daemon, digits,
                                                                          kernel):
    pinned = make_daemon("--blas-kernel", kernel)
    forced = make_daemon(env={"OPENBLAS_CORETYPE": kernel}, key_of=pinned)
    assert trained(pinned, digits) == trained(forced, digits)
    assert recorded_kernels(pinned) == {kernel}


def test_a_model_keeps_the_kernel_of_its_first_training(make_daemon, digits, kernel):
    """The directory moves to a machine whose own choice is another: nothing changes."""
    d = make_daemon(*OPTIONS, env={"OPENBLAS_CORETYPE": kernel})
    before = trained(d, digits)
    d.restart()
    assert d.model("digits")["served_hash"] == before
    d.erase(subjects=["s1"])
    assert recorded_kernels(d) == {kernel}
    assert all(s["identical"] for s in d.verify("digits"))


def test_another_kernel_than_the_pinned_one_is_refused(make_daemon, digits, kernel, other):
    d = make_daemon(*OPTIONS, env={"OPENBLAS_CORETYPE": kernel})
    trained(d, digits)
    d.stop()
    d.start(env={"OPENBLAS_CORETYPE": other})
    row = digits[6]["features"]
    e = d.erase(wait=False, subjects=["s1"])
    end = time.monotonic() + 30
    said = []
    while not said and time.monotonic() < end:
        said = [line for line in d.log if f"pinned to the kernel {kernel}" in line]
        time.sleep(0.02)
    assert said and other in said[0], d.log
    assert d.ok("GET", f"/v1/erasures/{e['id']}")["state"] == "forgotten"
    assert d.infer("digits", [row]).status_code == 200  # from before the slice that was hit
    assert recorded_kernels(d) == {kernel}
    d.stop()
    d.start(env={"OPENBLAS_CORETYPE": kernel})
    d.wait_erasure(e["id"])
    never = make_daemon(key_of=d, env={"OPENBLAS_CORETYPE": kernel})
    want = trained(never, [r for r in digits[:400] if r["subject"] != "s1"])
    assert d.model("digits")["served_hash"] == want


def refusal_of(daemon, digits):
    daemon.create(**{**DIGITS, "epochs": 1})
    daemon.load("digits", digits[:100])
    job = daemon.ok("POST", "/v1/models/digits/train", status=202)
    ended = daemon.wait_job(job["id"])
    assert ended["state"] == "failed"
    assert recorded_kernels(daemon) == set()
    return json.dumps(ended)


def test_a_kernel_that_the_machine_cannot_run_is_refused_by_name(make_daemon, digits):
    assert "pinned to the kernel Z14" in refusal_of(make_daemon("--blas-kernel", "Z14"), digits)


def test_the_environments_kernel_goes_before_the_configured_one(make_daemon, digits):
    """An operator who sets the variable knows of a kernel that computes wrongly on this machine."""
    ours = SET or "Haswell"
    pinned = "SkylakeX" if ours == "Haswell" else "Haswell"
    d = make_daemon("--blas-kernel", pinned, env={"OPENBLAS_CORETYPE": ours})
    said = refusal_of(d, digits)
    assert f"pinned to the kernel {pinned}" in said and f"runs {ours}" in said, said
