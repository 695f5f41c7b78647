/* SPDX-License-Identifier: Apache-2.0
 * tables.h: the rows of every table and what can be done with them. One table, one t_*.c file.
 * All functions follow store.h's errors: 0, UL_NOT_FOUND, or the transaction's sticky error.
 * Cursors walk in key order; a callback that returns nonzero ends the walk with that value. */
#ifndef UNLEARND_STORE_TABLES_H
#define UNLEARND_STORE_TABLES_H

#include "lib/store/store.h"
#include "lib/util/bytes.h"

/* --- counters: named u64 ("next_model_id", ...) and small blobs ------------------------------- */
int t_counter_get(struct txn *t, const char *name, uint64_t *out); /* absent: 0 */
int t_counter_put(struct txn *t, const char *name, uint64_t value);
int t_blob_get(struct txn *t, const char *name, struct buf *out); /* appended */
int t_blob_put(struct txn *t, const char *name, const void *data, size_t len);

/* --- models: name -> row + configuration text ---------------------------------------------- */
struct model_row {
        uint32_t id;       /* never reused */
        uint32_t deleting; /* 1: being scrubbed; not visible to clients */
        uint32_t trained;  /* 1: a training was asked for; later uploads go to appended slices */
        uint32_t reserved;
        uint64_t generation; /* of the last published snapshot */
        uint64_t records;    /* live */
        int64_t created_ms;
};
int t_model_get(struct txn *t, const char *name, struct model_row *row, struct buf *config_json);
int t_model_put(struct txn *t, const char *name, const struct model_row *row, const void *config,
                size_t config_len); /* config NULL: keep what is stored */
int t_model_del(struct txn *t, const char *name);
typedef int (*t_model_fn)(void *arg, const char *name, const struct model_row *row,
                          const char *config, size_t config_len);
int t_model_each(struct txn *t, t_model_fn fn, void *arg);

/* --- records: (model, record pseudonym) -> where --------------------------------------------- */
struct record_row {
        uint8_t subject[PSEUDONYM_BYTES];
        uint32_t shard;
        uint32_t slice; /* 1-based */
        uint32_t row;   /* position in its row file */
        uint32_t
                upload; /* 0, or the staged (atomic) upload that it belongs to until that commits */
};
int t_record_get(struct txn *t, uint32_t model, const uint8_t record[PSEUDONYM_BYTES],
                 struct record_row *row);
/* Also keeps the subject -> record index (implied where subject == record). */
int t_record_put(struct txn *t, uint32_t model, const uint8_t record[PSEUDONYM_BYTES],
                 const struct record_row *row);
int t_record_del(struct txn *t, uint32_t model, const uint8_t record[PSEUDONYM_BYTES]);
typedef int (*t_record_fn)(void *arg, const uint8_t record[PSEUDONYM_BYTES],
                           const struct record_row *row);
/* All records of a subject, in pseudonym order, from the one after `after` (NULL: the first). */
int t_record_each_of_subject(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                             const uint8_t *after, t_record_fn fn, void *arg);
int t_record_each(struct txn *t, uint32_t model, const uint8_t *after, t_record_fn fn, void *arg);

/* --- subjects: (model, subject pseudonym) -> hint, counts, and whether it was erased -----------
 */
enum { SUBJECT_SLICES_MAX = 4096 };
struct subject_slice {
        uint32_t slice;
        uint32_t records;
};
struct subject_row {
        uint32_t shard;
        uint32_t likelihood; /* enum erasure_likelihood */
        uint32_t erased;     /* 1: forgotten; its index entries are tombstoned in steps after it */
        uint32_t staged;     /* records of it in a staged upload (not counted below) */
        uint32_t slice_count;
        struct subject_slice slices[8]; /* the first ones; more are merged into the last: see
                                           `overflow` */
        uint32_t overflow; /* 1: more than 8 slices; walk the records to know them all */
        uint32_t reserved;
};
int t_subject_get(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                  struct subject_row *row);
int t_subject_put(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                  const struct subject_row *row);
int t_subject_del(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES]);

/* --- shards and slices ----------------------------------------------------------------------- */
struct shard_row {
        uint64_t fence;    /* raised at every job start and every erasure that touches the shard */
        uint32_t slices;   /* slices that training covers (appended ones join when frozen) */
        uint32_t clean;    /* checkpoints 1..clean hold nothing erased; clean < slices: dirty */
        uint32_t touched;  /* lowest slice touched since the last job started; UINT32_MAX: none */
        uint32_t attempts; /* failed jobs since the last success */
        int64_t dirty_since_ms; /* 0: clean */
        int64_t deadline_ms;    /* earliest deadline among waiting erasures; 0: none */
        uint32_t waiting;       /* erasures waiting for this shard */
        uint32_t reserved;
};
int t_shard_get(struct txn *t, uint32_t model, uint32_t shard, struct shard_row *row);
int t_shard_put(struct txn *t, uint32_t model, uint32_t shard, const struct shard_row *row);
typedef int (*t_shard_fn)(void *arg, uint32_t shard, const struct shard_row *row);
int t_shard_each(struct txn *t, uint32_t model, t_shard_fn fn, void *arg);

struct slice_row {
        uint32_t rows; /* committed rows of the row file, erased ones included */
        uint32_t live;
        uint32_t staged; /* rows after those, of the one staged upload */
        uint32_t erased; /* ever */
        uint32_t has_checkpoint;
        uint32_t stage; /* effective stage number of the checkpoint */
        uint8_t file_hash[SHA256_BYTES];
        uint8_t data_hash[SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
        uint64_t records; /* live records that the checkpoint was trained on; 0: nothing to serve */
        int64_t trained_ms;
};
int t_slice_get(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                struct slice_row *row); /* absent: UL_NOT_FOUND and *row zeroed */
int t_slice_put(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                const struct slice_row *row);
typedef int (*t_slice_fn)(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row);
/* One shard's slices; shard UINT32_MAX: all of the model. */
int t_slice_each(struct txn *t, uint32_t model, uint32_t shard, t_slice_fn fn, void *arg);

/* --- erasures ----------------------------------------------------------------------------------
 */
enum erasure_state { ERASURE_ACCEPTED, ERASURE_FORGOTTEN, ERASURE_COMPLETED, ERASURE_REFUSED };
enum regulation { REGULATION_NONE, REGULATION_GDPR, REGULATION_CCPA, REGULATION_OTHER };
struct erasure_row {
        uint8_t state;
        uint8_t regulation;
        uint8_t reserved[6];
        uint64_t matched;
        int64_t received_ms, accepted_ms, forgotten_ms, scrubbed_ms, completed_ms, deadline_ms;
        uint32_t scrubs_left; /* targets in t_scrub */
        uint32_t shards_left; /* entries in t_waiting */
        uint64_t audit_index; /* of its erasure.forgotten entry */
        char reference[REFERENCE_MAX + 8];
        uint32_t affected_count;
};
/* affected_state */
enum { AFFECTED_RETRAINING, AFFECTED_COMPLETED };
struct erasure_affected {
        uint32_t model;
        uint32_t shard;
        uint32_t slice; /* the lowest slice of the shard that it touched */
        uint32_t state;
        uint64_t records; /* in this shard */
        char model_name[MODEL_NAME_MAX + 1];
};
/* affected: [row.affected_count]. */
int t_erasure_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                  const struct erasure_affected *affected);
/* *affected is allocated (free() it); NULL when the count is 0. Pass NULL to leave it. */
int t_erasure_get(struct txn *t, const uint8_t id[ULID_BYTES], struct erasure_row *row,
                  struct erasure_affected **affected);
typedef int (*t_erasure_fn)(void *arg, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                            const struct erasure_affected *affected);
/* Newest first, from the one before `before` (NULL: the newest). */
int t_erasure_each_desc(struct txn *t, const uint8_t *before, t_erasure_fn fn, void *arg);

/* waiting: (model, shard, erasure): erasures that a clean shard completes */
int t_waiting_put(struct txn *t, uint32_t model, uint32_t shard, const uint8_t id[ULID_BYTES]);
int t_waiting_del(struct txn *t, uint32_t model, uint32_t shard, const uint8_t id[ULID_BYTES]);
typedef int (*t_waiting_fn)(void *arg, const uint8_t id[ULID_BYTES]);
/* Collect first, then change: the callback must not write. */
int t_waiting_each(struct txn *t, uint32_t model, uint32_t shard, t_waiting_fn fn, void *arg);

/* scrub: what must be overwritten, until it is. Key (erasure, model, kind, pseudonym). */
enum scrub_kind { SCRUB_SUBJECT = 1, SCRUB_RECORD = 2, SCRUB_CHECKPOINTS = 3 };
struct scrub_key {
        uint8_t erasure[ULID_BYTES];
        uint32_t model;
        uint32_t kind;
        uint8_t pseudonym[PSEUDONYM_BYTES]; /* SCRUB_CHECKPOINTS: shard, slice as two be32, zeros */
};
struct scrub_row {
        uint32_t shard, slice, row; /* SCRUB_RECORD: the row; the index entry is already gone */
        uint32_t reserved;
};
int t_scrub_put(struct txn *t, const struct scrub_key *k, const struct scrub_row *row);
int t_scrub_del(struct txn *t, const struct scrub_key *k);
typedef int (*t_scrub_fn)(void *arg, const struct scrub_key *k, const struct scrub_row *row);
int t_scrub_each(struct txn *t, t_scrub_fn fn, void *arg);

/* --- suppressions: (pseudonym, model or 0 for all, kind) ----------------------------------------
 */
enum suppression_kind { SUPPRESS_SUBJECT = 1, SUPPRESS_RECORD = 2 };
struct suppression_row {
        uint8_t erasure[ULID_BYTES];
        int64_t since_ms;
};
int t_suppression_put(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                      uint32_t kind, const struct suppression_row *row);
/* Is this (pseudonym, kind) suppressed for the model (by an entry of its own or one for all)? */
int t_suppression_get(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                      uint32_t kind, struct suppression_row *row);
/* Removes every entry of the pseudonym; *removed counts them. */
int t_suppression_lift(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t *removed);
typedef int (*t_suppression_fn)(void *arg, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                                uint32_t kind, const struct suppression_row *row);
/* From the key after (pseudonym, model, kind); after NULL: the first. */
int t_suppression_each(struct txn *t, const uint8_t *after, uint32_t after_model,
                       uint32_t after_kind, t_suppression_fn fn, void *arg);

/* --- jobs ----------------------------------------------------------------------------------------
 */
enum job_kind { JOB_TRAIN, JOB_RETRAIN, JOB_VERIFY };
enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED };
struct job_row {
        uint8_t kind;
        uint8_t state;
        uint8_t reserved[2];
        uint32_t model;
        uint32_t shard; /* UINT32_MAX: the whole model */
        uint32_t attempts;
        int64_t created_ms, started_ms, ended_ms;
        uint64_t cost; /* sample steps planned */
        char model_name[MODEL_NAME_MAX + 1];
        char error[128];
};
/* result: JSON text, may be NULL/0. */
int t_job_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct job_row *row,
              const char *result, size_t result_len);
int t_job_get(struct txn *t, const uint8_t id[ULID_BYTES], struct job_row *row, struct buf *result);
typedef int (*t_job_fn)(void *arg, const uint8_t id[ULID_BYTES], const struct job_row *row,
                        const char *result, size_t result_len);
int t_job_each_desc(struct txn *t, const uint8_t *before, t_job_fn fn, void *arg);

/* --- idempotency: keyed hash of (token, route, key)
 * ------------------------------------------------ */
struct idempotency_row {
        uint8_t body[32]; /* keyed hash of the body */
        int64_t expires_ms;
        uint32_t status;                   /* HTTP status first answered */
        char resource[MODEL_NAME_MAX + 1]; /* ULID text or model name */
        uint32_t reserved;
};
int t_idempotency_get(struct txn *t, const uint8_t key[32], struct idempotency_row *row);
int t_idempotency_put(struct txn *t, const uint8_t key[32], const struct idempotency_row *row);
/* Removes up to `max` entries that expired before now; *removed counts them. */
int t_idempotency_expire(struct txn *t, int64_t now_ms, uint32_t max, uint32_t *removed);

/* --- audit: leaves, tree nodes, and an index of (kind, value) -> leaf
 * ------------------------------- */
int t_audit_leaf_put(struct txn *t, uint64_t index, const void *entry, size_t len);
int t_audit_leaf_get(struct txn *t, uint64_t index, struct buf *out);
int t_audit_node_put(struct txn *t, uint32_t level, uint64_t index, const uint8_t hash[32]);
int t_audit_node_get(struct txn *t, uint32_t level, uint64_t index, uint8_t hash[32]);
/* kind: one byte of the caller's; value: 16 bytes. */
int t_audit_index_put(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t index);
typedef int (*t_audit_index_fn)(void *arg, uint64_t index);
/* Ascending from `from`, or descending from it. */
int t_audit_index_each(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t from,
                       bool descending, t_audit_index_fn fn, void *arg);

/* --- uploads that are staged (?atomic=true): at most one a model
 * ------------------------------------ */
struct upload_row {
        uint32_t model;
        uint32_t reserved;
        uint64_t records;
        int64_t started_ms;
};
int t_upload_get(struct txn *t, uint32_t upload, struct upload_row *row);
int t_upload_put(struct txn *t, uint32_t upload, const struct upload_row *row);
int t_upload_del(struct txn *t, uint32_t upload);
typedef int (*t_upload_fn)(void *arg, uint32_t upload, const struct upload_row *row);
int t_upload_each(struct txn *t, t_upload_fn fn, void *arg);

/* --- bounded removal of everything a deleted model left
 * ---------------------------------------------- */
/* Removes up to `max` entries of records, subjects, shards, slices, waiting; *left says if more. */
int t_model_purge(struct txn *t, uint32_t model, uint32_t max, bool *left);

#endif
