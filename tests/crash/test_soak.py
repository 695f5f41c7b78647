# SPDX-License-Identifier: Apache-2.0
"""soak.py for UNLEARND_SOAK_SECONDS."""
import os
import random

from soak import soak


def test_killed_at_random_moments_under_load_every_promise_holds():
    soak(float(os.environ.get("UNLEARND_SOAK_SECONDS", "60")),
         int(os.environ.get("UNLEARND_CRASH_SEED", random.SystemRandom().randrange(1 << 32))))
