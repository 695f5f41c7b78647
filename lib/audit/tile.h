/* SPDX-License-Identifier: Apache-2.0
 * tile.h: the paths of C2SP tlog-tiles, pure. A tile is up to 256 hashes of one level, or up to 256
 * entries; every proof of a log can be had from a few of them, and full ones never change.
 *
 *      0/x001/x234/067        level 0 (leaf hashes), tile 1234067: nodes 1234067 * 256 on
 *      1/000.p/3              level 1 (roots of 256 leaves, Merkle level 8), the first 3 so far
 *      entries/x001/000       the entries themselves */
#ifndef UNLEARND_AUDIT_TILE_H
#define UNLEARND_AUDIT_TILE_H

#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        TILE_WIDTH = 256,
        TILE_HEIGHT = 8,    /* Merkle levels of one tile level */
        TILE_LEVEL_MAX = 7, /* the root of 2^64 leaves is at Merkle level 64 */
        TILE_PATH_SIZE = 64,
};

struct tile {
        bool entries;   /* else hashes, of */
        uint32_t level; /* Merkle level / TILE_HEIGHT; 0 for entries */
        uint64_t index;
        uint32_t width; /* 1 to TILE_WIDTH */
};

/* The path behind "tile/". Only the canonical form is one: UL_SYNTAX. */
int tile_path_parse(const char *path, struct tile *out, struct errinfo *e);
char *tile_path_format(const struct tile *t, char out[TILE_PATH_SIZE]);
/* How many nodes (or entries) of the tile a log of `size` entries has: 0 to TILE_WIDTH. */
uint32_t tile_available(const struct tile *t, uint64_t size);

#endif
