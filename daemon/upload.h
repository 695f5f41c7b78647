/* SPDX-License-Identifier: Apache-2.0
 * upload.h: rows into files and index, inside a transaction. */
#ifndef UNLEARND_DAEMON_UPLOAD_H
#define UNLEARND_DAEMON_UPLOAD_H

#include "daemon/state.h"

/* --- upload.c: rows into files and index, inside a transaction --- */
struct upload_item {
        uint8_t record[PSEUDONYM_BYTES];
        uint8_t subject[PSEUDONYM_BYTES];
        uint32_t likelihood;
        uint64_t line;
};
struct upload_batch {
        struct model *model;       /* borrowed */
        const char *actor;         /* borrowed */
        struct upload_item *items; /* [count] */
        uint8_t *rows;             /* [count, row_bytes] sealed */
        uint32_t count;
        bool atomic;
        uint32_t *upload;             /* atomic: the staged upload's id, 0 before its first batch */
        struct intake_result *result; /* of the whole upload */
        struct intake_result counts;  /* of this batch */
        bool wrote;                   /* rows reached files: undo them where it failed */
        bool began;                   /* *upload was made by this batch: void where it failed */
};
int upload_apply(struct service *s, struct txn *t, struct upload_batch *b, struct errinfo *e);
/* After the commit: adds what the batch brought to the upload's result. */
void upload_counted(struct upload_batch *b);
/* Rows could not be written or synced: nothing is appended before they are cut off. Returns what
 * the client is told. */
int upload_rows_failed(struct service *s, struct model *m, int err, struct errinfo *e);
/* The audit entry of what was loaded, in the transaction that made it live. */
int upload_audit(struct service *s, struct txn *t, const struct model *m, const char *actor,
                 const struct intake_result *counts);
int upload_set_staged(struct txn *t, uint32_t model, uint32_t upload); /* 0: none any more */
/* Makes a staged upload live. UL_CONFLICT where an erasure called it off. */
int upload_commit(struct service *s, struct txn *t, struct model *m, uint32_t upload,
                  const char *actor, const struct intake_result *counts, struct errinfo *e);
/* Calls a staged upload off: it can never commit any more, and the loop removes it. */
int upload_call_off(struct txn *t, uint32_t upload);
bool upload_called_off(const struct upload_row *row);
/* Removes index entries of a staged upload after `after`, a bounded number; *left: call again. Its
 * rows are cut off before the first step (upload_cut). */
struct upload_abort {
        uint32_t upload;
        bool started;
        uint8_t after[PSEUDONYM_BYTES];
};
int upload_abort_step(struct txn *t, struct model *m, struct upload_abort *a, bool *left);
/* The id of the model's staged upload, 0 where there is none. */
int upload_staged(struct txn *t, uint32_t model, uint32_t *upload);
/* Where a record of this row stands: is it in an upload that has not committed? */
int record_staged(struct txn *t, const struct record_row *row, bool *staged);
void intake_result_error(struct intake_result *r, uint64_t line, const struct errinfo *why);

/* --- trim.c: what stands in row files and is not, or not yet, a committed row --- */
/* At start: overwrites and cuts off what stands past the committed (and staged) counts. Files that
 * are damaged or away are reported and passed over. */
int upload_trim(struct model *m, bool keep_staged, struct errinfo *e);
/* Writer thread, between groups: takes what a failed batch left in row files off the disk. Where
 * that fails too, no upload to the model is accepted until it is done (probe.c). */
void upload_undo(struct model *m);
/* The same for one shard of a model whose staged upload was called off, and for what was staged; in
 * steps where there is a budget (util/file.h: NULL, UL_AGAIN). UL_NOT_FOUND, UL_CORRUPT: a file
 * with staged rows cannot be opened, and may come back with them; the shard's others are cut. */
int upload_cut(struct txn *t, struct model *m, uint32_t shard, uint64_t *budget, struct errinfo *e);

/* --- intake.c --- */
/* Writer thread: calls off again what could not be (probe.c). */
void intake_call_off_again(struct service *s);
/* At the end; the next start calls every staged upload off. */
void intake_forget(struct service *s);

#endif
