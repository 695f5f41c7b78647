/* SPDX-License-Identifier: Apache-2.0
 * log_walk.h: every entry of a log in the daemon's NDJSON, from wherever it comes: its place, its
 * hash from its bytes, and the root of all. It knows neither HTTP nor signatures. */
#ifndef UNLEARND_CLI_LOG_WALK_H
#define UNLEARND_CLI_LOG_WALK_H

#include "cli/progress.h"
#include "lib/audit/merkle.h"
#include "lib/audit/note.h"

struct walk {
        struct merkle_frontier frontier;
        struct checkpoint checkpoint; /* where the root is taken */
        uint8_t root[SHA256_BYTES];
        uint64_t remembered; /* size of the remembered tree; 0: none */
        uint8_t remembered_root[SHA256_BYTES];
        uint64_t entries; /* also those after the checkpoint, which vouches for none of them */
        uint64_t pruned;  /* the first ones, of which the log keeps the hashes alone */
        bool announced;   /* an entry that the checkpoint covers says that these were pruned */
        uint64_t gap; /* where the walk ended: at this entry, before which whole tiles are missing
                         as after pruning; 0: not at such a place */
        struct buf line;
        struct progress progress;
};

void walk_begin(struct walk *w); /* checkpoint and remembered are set; also once more */
void walk_leaf(struct walk *w, const uint8_t leaf[SHA256_BYTES]); /* an entry, by its hash alone */
/* Takes the next bytes, lines cut anywhere; false: what is wrong has been told, but for a gap. */
bool walk_take(void *walk, const char *data, size_t len);
/* How many entries came after those that the checkpoint covers. */
uint64_t walk_not_covered(const struct walk *w);
/* After the last byte: all entries are there and make the signed root. An exit status, told.
 * whole: false where the walk was broken off, and why has been told. */
int walk_end(struct walk *w, bool whole);
/* Tells that the next entry is not there. */
int walk_complain_missing(const struct walk *w);

#endif
