#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The layer table of ARCHITECTURE.md as a test: who may include what, which library belongs to
whom, and which program links which library. Run from the top of the checkout."""
import re
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.argv[1] if len(sys.argv) > 1 else "build")

# module (longest prefix wins) -> what it may include of ours, besides itself
LAYERS = {
    "lib/util": [],
    "lib/store": ["lib/util"],
    "lib/kernels": ["lib/util"],
    "lib/records": ["lib/util"],
    "lib/checkpoint": ["lib/util"],
    "lib/models": ["lib/kernels", "lib/util"],
    "lib/sisa": ["lib/models", "lib/records", "lib/checkpoint", "lib/kernels", "lib/util"],
    "lib/audit": ["lib/util"],
    "lib/scan": ["lib/records", "lib/models/config.h", "lib/util"],
    "lib/ledger": ["lib/util"],
    "lib/backup": ["lib/util"],
    "lib/signing": ["lib/util"],
    "config": ["lib/util"],
    "cli": ["lib/util", "lib/audit", "lib/ledger", "lib/backup", "lib/scan/scan.h",
            "lib/sisa/replay.h", "lib/sisa/job.h"],
    "api": ["daemon/service.h", "lib/util", "lib/models/config.h", "lib/audit/certificate_page.h"],
    "daemon": ["lib", "config"],
    "tests/unit": ["lib", "daemon", "api", "config", "tests"],
    "tests/reference": ["lib"],
    "tests/fuzz": ["lib", "daemon", "api", "config"],
}
# exceptions to the table, each a file of its own
ALSO = {
    "lib/audit/log.c": ["lib/store"], "lib/audit/log.h": ["lib/store"],
    "lib/audit/query.c": ["lib/store"], "lib/audit/prune.c": ["lib/store"],
    "lib/audit/rotate.c": ["lib/store"],
    "daemon/main.c": ["api/server.h"],
}
# the pure half of lib/audit: the proof, offline
PURE = {"lib/audit/merkle.c", "lib/audit/merkle.h", "lib/audit/note.c", "lib/audit/note.h",
        "lib/audit/tile.c", "lib/audit/tile.h", "lib/audit/dsse.c", "lib/audit/dsse.h",
        "lib/audit/proof.c", "lib/audit/proof.h", "lib/audit/certificate.c",
        "lib/audit/certificate.h", "lib/audit/cosignature.c", "lib/audit/cosignature.h",
        "lib/audit/certificate_page.c", "lib/audit/certificate_page.h"}
# a library's header is included by its one owner
OWNERS = {
    "lmdb.h": ["lib/store"], "cblas.h": ["lib/kernels"], "uv.h": ["daemon"],
    "microhttpd.h": ["api"], "cJSON.h": ["lib/util"], "cjson/cJSON.h": ["lib/util"],
    "sodium.h": ["lib/util"], "ini.h": ["config"], "curl/curl.h": ["cli", "daemon"],
    "systemd/sd-daemon.h": ["daemon"], "zstd.h": ["lib/records", "cli"],
    "zlib.h": ["lib/records", "cli"],
    "gnutls/abstract.h": ["lib/signing"], "gnutls/x509.h": ["lib/signing"],
}
# libraries that a program must not link
NOT_LINKED = {
    "unlearn-worker": ["lmdb", "microhttpd", "libuv", "curl", "systemd", "gnutls"],
    "unlearnctl": ["lmdb", "microhttpd", "libuv", "openblas", "systemd"],
}
MARK = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def module(path):
    found = [m for m in LAYERS if path == m or path.startswith(m + "/")]
    return max(found, key=len) if found else None


def allowed(path, target):
    own = module(path)
    if own is None:
        return True
    may = [own] + LAYERS[own] + ALSO.get(path, [])
    return any(target == m or target.startswith(m.rstrip("/") + "/") for m in may)


def main():
    problems, checked = [], 0
    files = [p for d in ("lib", "daemon", "api", "cli", "config", "tests/unit", "tests/fuzz", "tests/reference", "bench")
             for p in Path(d).rglob("*.[ch]")]
    for file in sorted(files):
        path = file.as_posix()
        for kind, target in MARK.findall(file.read_text()):
            checked += 1
            if kind == '"':
                if not allowed(path, target):
                    problems.append(f"{path} includes {target}: not in its layer")
                if path in PURE and target.startswith(("lib/store", "lib/audit/log")):
                    problems.append(f"{path} includes {target}: the offline proof knows no store")
            for header, owners in OWNERS.items():
                if target == header and not path.startswith("tests/") and not any(
                        path.startswith(o + "/") for o in owners):
                    problems.append(f"{path} includes {target}: it belongs to {owners[0]}")
    for program, libraries in NOT_LINKED.items():
        binary = BIN / program
        linked = subprocess.run(["readelf", "-d", str(binary)], capture_output=True, text=True,
                                check=True).stdout
        needed = re.findall(r"NEEDED.*\[(.*)\]", linked)
        checked += len(needed)
        for library in libraries:
            if any(library in n for n in needed):
                problems.append(f"{program} links {library}")
    for p in problems:
        print(p)
    print(f"layers: {checked} includes and linked libraries checked, {len(problems)} problems")
    return 1 if problems or checked < 500 else 0


if __name__ == "__main__":
    sys.exit(main())
