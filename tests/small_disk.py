# SPDX-License-Identifier: Apache-2.0
"""A fixture: file systems that fill up. Test modules import it."""
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """small_disk("64k") -> the folder of a file system of that size."""
    folders = []

    def make(size):
        folder = tmp_path / f"small-{len(folders)}"
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
                                 capture_output=True)
        if mounted.returncode != 0:
            pytest.skip("no right to mount a small file system")
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)
