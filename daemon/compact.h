/* SPDX-License-Identifier: Apache-2.0
 * compact.h: compaction, for the writer thread and readers: what it has done to a shard, and what
 * whoever changes the shard must know of that. The states and their legal moves are in compact.c.
 */
#ifndef UNLEARND_DAEMON_COMPACT_H
#define UNLEARND_DAEMON_COMPACT_H

#include "daemon/run.h"
#include "daemon/state.h"

enum compaction_state {
        COMPACTION_NONE,
        COMPACTION_WAITING,
        COMPACTION_TIDYING,
        COMPACTION_MOVING,
        COMPACTION_TRAINING,
        COMPACTION_SWEEPING
};
/* What it has done to one shard. */
struct compaction {
        uint64_t records; /* brought into configured slices */
        uint32_t state;
        uint32_t standing; /* the slice of the old checkpoint that is served; 0: there is none */
        uint32_t whole;    /* 1: that one was trained on all that the shard held then */
        uint32_t before;   /* slices that training covered then */
        uint32_t source;   /* the slice whose rows are moved; past the last one once all were */
        uint32_t moved;    /* its rows before this one stand elsewhere, or were erased... */
        uint32_t closed;   /* ...and those before this one are overwritten */
        uint32_t emptied;  /* the slice whose row file is to be removed next; 0: none */
};
/* Zeroed where there is none. */
int compaction_get(struct txn *t, uint32_t model, uint32_t shard, struct compaction *c);
int compaction_put(struct txn *t, uint32_t model, uint32_t shard,
                   const struct compaction *c); /* NULL: it is over */
/* A legal move, asserted. */
void compaction_go(struct compaction *c, enum compaction_state to);
/* Whether no worker may start on the shard. */
bool compaction_holds(const struct compaction *c);
/* Whether records of some shard are being moved. */
int compaction_moves(struct txn *t, const struct model *m, bool *moving);
/* Marks the shards that have work, and sets their bits. */
int compaction_ask(struct txn *t, const struct model *m, struct training *tr);
/* The job failed: shards whose turn has not come stay as they are. */
int compaction_withdraw(struct txn *t, const struct model *m);
/* Whether the model is compacted: false spares a look at each of its shards. */
int compaction_any(struct txn *t, const struct model *m, bool *any);
/* What the job did, as the JSON of its result; with this it is over. */
int compaction_take_result(struct txn *t, const struct model *m, struct buf *out);
int compaction_forget(struct txn *t, const struct model *m); /* with its model */
int compaction_begin(struct txn *t, const struct model *m, uint32_t shard, struct compaction *c);
/* Every record was moved. The caller puts *c. */
int compaction_moved(struct service *s, struct txn *t, const struct model *m, uint32_t shard,
                     struct compaction *c);
int compaction_end(struct service *s, struct txn *t, struct model *m, uint32_t shard,
                   const struct compaction *c);
/* A chain was published up to row->clean, served as `generation`: nothing old stands any more. */
int compaction_published(struct txn *t, const struct model *m, uint32_t shard, struct compaction *c,
                         const struct shard_row *row, uint64_t generation);
/* The standing checkpoint is not to be served after this generation; *dropped: its slice. */
int compaction_drop_standing(struct txn *t, const struct model *m, uint32_t shard,
                             uint64_t generation, struct compaction *c, struct slice_row *dropped);
/* Where a subject's records in *slice will be once a move under way is over: its erasure counts
 * from there. */
int compaction_slice(struct txn *t, const struct model *m, const uint8_t subject[PSEUDONYM_BYTES],
                     const struct subject_row *row, uint32_t *slice);

/* Whether rows that come now go straight to where placement.h puts them: behind the moves these
 * would follow them for as long as some come. */
int compaction_takes_rows(struct txn *t, const struct model *m, uint32_t shard, bool *takes);

/* --- compact_move.c --- */
struct compact_outcome {
        bool wrote;       /* rows reached files: upload_undo where the step failed */
        uint64_t records; /* brought into configured slices */
};
/* The next bounded step of a shard, if *seen is still what was done to it. UL_BUSY: not now.
 * UL_DAMAGED: rows that cannot be read. */
int compact_step(struct service *s, struct txn *t, struct model *m, uint32_t shard,
                 const struct compaction *seen, struct compact_outcome *out, struct errinfo *e);

#endif
