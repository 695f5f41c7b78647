#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lint.sh SOURCES...: what both compilers warn of (WARN), the functions that the house refuses; cppcheck
# and clang-tidy over what ships. What gcc sees only as it optimises, a build with WERROR=-Werror shows.
set -eu
for cc in gcc clang; do
        # shellcheck disable=SC2086
        printf '%s\n' "$@" | xargs -P2 -n8 $cc -fsyntax-only $WARN -std=c17 -D_GNU_SOURCE -I. \
                -DUNLEARND_VERSION='"0"' -DOPENAPI_JSON_FILE='"x"'
done
refused='\b(strcpy|strcat|sprintf|vsprintf|strtok|alloca|atoi|atol|atof|gets)[[:space:]]*\('
if grep -nE "$refused" "$@"; then
        echo "lint: a refused function (see CONTRIBUTING.md)" >&2
        exit 1
fi
shipped=$(printf '%s\n' "$@" | grep -v '^tests/')
# shellcheck disable=SC2086
cppcheck --quiet --std=c11 --language=c -j2 --enable=warning,portability --inline-suppr \
        --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
        --error-exitcode=1 -I. -D_GNU_SOURCE -DUNLEARND_VERSION='"0"' \
        -DOPENAPI_JSON_FILE='"x"' $shipped
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! printf '%s\n' $shipped | xargs -P2 -n8 clang-tidy --quiet \
        --warnings-as-errors='*' >"$log" 2>&1; then
        grep -E 'error:|warning:' "$log" || tail -n 20 "$log"
        exit 1
fi
