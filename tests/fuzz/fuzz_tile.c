/* SPDX-License-Identifier: Apache-2.0
 * fuzz_tile.c: the path of a tile, which strangers write into a URL. What is accepted is the one
 * way to write it, and no log has more nodes of it than it asks for. */
#include "lib/audit/tile.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *path = fuzz_text(data, size), again[TILE_PATH_SIZE];
        struct tile t;
        struct errinfo e = {0};
        const int err = tile_path_parse(path, &t, &e);
        if (err != 0) {
                assert(err == UL_SYNTAX);
                fuzz_check_refusal(err, &e);
        } else {
                assert(strcmp(tile_path_format(&t, again), path) == 0);
                assert(t.level <= TILE_LEVEL_MAX && (!t.entries || t.level == 0));
                assert(t.width >= 1 && t.width <= TILE_WIDTH);
                assert(tile_available(&t, UINT64_MAX) <= TILE_WIDTH);
                assert(tile_available(&t, 0) == 0);
        }
        free(path);
        return 0;
}
