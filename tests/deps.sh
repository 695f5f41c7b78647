#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building and testing need, and that are missing: says what it
# does, does nothing when nothing is missing. As root, or through sudo.
set -eu
packages="gcc make pkg-config binutils
libmicrohttpd-dev libuv1-dev liblmdb-dev libopenblas-pthread-dev libcjson-dev libsodium-dev
libcurl4-gnutls-dev libgnutls28-dev openssl ca-certificates zlib1g-dev libzstd-dev libinih-dev libsystemd-dev
libcmocka-dev python3 python3-yaml python3-pytest python3-requests python3-numpy python3-sklearn
python3-cryptography zstd
clang libclang-rt-14-dev clang-format clang-tidy cppcheck valgrind curl systemd prometheus
golang-go golang-golang-x-mod-dev"

missing=""
for p in $packages; do
        state=$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true)
        [ "$state" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

root=""
if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
                echo "missing packages:$missing" >&2
                echo "run as root: apt-get install --no-install-recommends$missing" >&2
                exit 1
        }
        root=sudo
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086
if ! { $root apt-get update -q && $root apt-get install -q -y --no-install-recommends $missing; } \
        >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        exit 1
fi
rm -f "$log"
