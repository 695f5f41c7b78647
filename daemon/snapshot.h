/* SPDX-License-Identifier: Apache-2.0
 * snapshot.h: what is being served. A snapshot is immutable; readers take the current one without a
 * lock, and publishing another returns only after the last reader of the old one has left: then,
 * and not before, an erasure may be answered (invariant 4). It knows nothing of LMDB or of
 * erasures. */
#ifndef UNLEARND_DAEMON_SNAPSHOT_H
#define UNLEARND_DAEMON_SNAPSHOT_H

#include "lib/models/config.h"
#include "lib/models/model.h"
#include "lib/util/crypto.h"
#include <stdbool.h>
#include <stdint.h>

/* One constituent as served: shared by successive snapshots, wiped with its last reference. */
struct served;
/* Takes `k`. data_hash: of the checkpoint's tensor data. */
struct served *served_create(struct constituent *k_take, uint32_t shard, uint32_t slice,
                             const uint8_t data_hash[SHA256_BYTES]);
struct served *served_ref(struct served *k);
void served_unref(struct served **k);
uint32_t served_slice(const struct served *k);

struct snapshot {
        uint64_t generation;
        uint32_t clean;               /* members of the aggregate */
        uint32_t degraded;            /* constituents rolled back or left out */
        struct constituent **members; /* [clean], in shard order, borrowed from `held` */
        struct served **held;         /* [clean] */
        uint8_t hash[SHA256_BYTES];   /* SHA-256 over the members' data hashes in shard order */
};
/* References each of the `count` served constituents (in shard order). NULL: out of memory. */
struct snapshot *snapshot_create(uint64_t generation, struct served *const *served, uint32_t count,
                                 uint32_t degraded);

struct snapshot_cell; /* one a model */
struct snapshot_cell *snapshot_cell_create(void);
void snapshot_cell_destroy(struct snapshot_cell **cell); /* no reader may be left */
/* NULL where nothing was published yet. Lock-free; pair with snapshot_release. */
const struct snapshot *snapshot_acquire(struct snapshot_cell *cell);
void snapshot_release(struct snapshot_cell *cell, const struct snapshot *s);
/* Whether another one was published since `s` was acquired: somebody waits for `s` to be released.
 */
bool snapshot_superseded(const struct snapshot_cell *cell, const struct snapshot *s);
/* Makes `take` (may be NULL: nothing to serve) current, waits out the readers of the one before and
 * destroys it. Writer thread only. */
void snapshot_publish(struct snapshot_cell *cell, struct snapshot *take);

#endif
