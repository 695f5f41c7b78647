/* SPDX-License-Identifier: Apache-2.0
 * tables.h: the rows of every table and what can be done with them. One table, one t_*.c file.
 * All functions follow store.h's errors: 0, UL_NOT_FOUND, or the transaction's sticky error.
 * Cursors walk in key order; a callback that returns nonzero ends the walk with that value. */
#ifndef UNLEARND_STORE_TABLES_H
#define UNLEARND_STORE_TABLES_H

#include "lib/store/store.h"
#include "lib/util/bytes.h"

/* --- counters: named u64 ("next_model_id", ...) and small blobs --- */
int t_counter_get(struct txn *t, const char *name, uint64_t *out); /* absent: 0 */
int t_counter_put(struct txn *t, const char *name, uint64_t value);
int t_blob_get(struct txn *t, const char *name, struct buf *out); /* appended */
int t_blob_put(struct txn *t, const char *name, const void *data, size_t len);
int t_blob_del(struct txn *t, const char *name); /* absent: 0 */

/* --- models: name -> row + configuration text --- */
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

/* --- records: (model, record pseudonym) -> where --- */
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

/* --- subjects: (model, subject pseudonym) -> hint, counts, and whether it was erased --- */
struct subject_slice {
        uint32_t slice;
        uint32_t records; /* never 0 */
};
/* 32 KiB: one of them on a stack, not several, and only what is in use is read or written. */
struct subject_row {
        uint32_t shard;
        uint32_t likelihood; /* enum erasure_likelihood */
        uint32_t erased;     /* 1: forgotten; its index entries are tombstoned in steps after it */
        uint32_t staged;     /* the last staged upload that held some of it, counted below; or 0 */
        uint32_t slice_count;
        struct subject_slice slices[SLICES_TOTAL_MAX]; /* each slice once, in no order */
};
int t_subject_get(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                  struct subject_row *row);
int t_subject_put(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                  const struct subject_row *row);
int t_subject_del(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES]);
/* A record more, or less, in a slice of the row alone. */
void subject_more(struct subject_row *row, uint32_t slice);
void subject_less(struct subject_row *row, uint32_t slice);
/* A record less in the row and its entry, which the last one takes along. */
int t_subject_less(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                   struct subject_row *row, uint32_t slice);

/* --- shards and slices --- */
struct shard_row {
        uint64_t fence;    /* raised at every job start and every erasure that touches the shard */
        uint32_t slices;   /* slices that training covers (appended ones join when frozen) */
        uint32_t clean;    /* checkpoints 1..clean hold nothing erased; clean < slices: dirty */
        uint32_t touched;  /* lowest slice touched since the last job started; UINT32_MAX: none */
        uint32_t attempts; /* failed jobs since the last success */
        int64_t dirty_since_ms; /* 0: clean */
        int64_t deadline_ms;    /* earliest deadline among waiting erasures; 0: none */
        uint32_t waiting;       /* erasures waiting for this shard */
        uint32_t scrubs;        /* entries of t_scrub in this shard: no job starts before */
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
int t_slice_del(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice);
typedef int (*t_slice_fn)(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row);
/* One shard's slices; shard UINT32_MAX: all of the model. */
int t_slice_each(struct txn *t, uint32_t model, uint32_t shard, t_slice_fn fn, void *arg);

/* --- erasures --- */
enum erasure_state { ERASURE_ACCEPTED, ERASURE_FORGOTTEN, ERASURE_COMPLETED, ERASURE_REFUSED };
enum regulation { REGULATION_NONE, REGULATION_GDPR, REGULATION_CCPA, REGULATION_OTHER };
struct erasure_row {
        uint8_t state;
        uint8_t regulation;
        uint8_t held;      /* 1: it was submitted under hold */
        uint8_t refusal;   /* why it was refused, the caller's code; 0: it was not */
        uint8_t extension; /* why its deadline was extended; 0: it was not */
        uint8_t overdue;   /* 1: the log has said that it is */
        uint8_t scoped;    /* 1: in the models that the request named; 0: in all that there were */
        uint8_t reserved;
        uint64_t matched;
        int64_t received_ms, accepted_ms, forgotten_ms, scrubbed_ms, completed_ms, deadline_ms;
        int64_t refused_ms;
        int64_t first_deadline_ms;    /* before its extension; 0: it was not extended */
        uint8_t executed[ULID_BYTES]; /* when it took effect among other erasures and lifts: its id,
                                         or for a held one an id made at its release; zeros before
                                       */
        uint32_t scrubs_left;         /* targets in t_scrub */
        uint32_t shards_left;         /* entries in t_waiting */
        uint64_t audit_index;         /* of its erasure.forgotten entry */
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

/* held: ulid -> what an erasure under hold asks for, as the caller writes it */
int t_held_put(struct txn *t, const uint8_t id[ULID_BYTES], const void *request, size_t len);
int t_held_get(struct txn *t, const uint8_t id[ULID_BYTES], struct buf *out); /* appended */
int t_held_del(struct txn *t, const uint8_t id[ULID_BYTES]);

/* deadlines: (noted, deadline, ulid) of every erasure that has not ended; noted:
 * erasure_row.overdue */
int t_deadline_put(struct txn *t, bool noted, int64_t deadline_ms, const uint8_t id[ULID_BYTES]);
int t_deadline_del(struct txn *t, bool noted, int64_t deadline_ms, const uint8_t id[ULID_BYTES]);
typedef int (*t_deadline_fn)(void *arg, int64_t deadline_ms, const uint8_t id[ULID_BYTES]);
/* Earliest first. */
int t_deadline_each(struct txn *t, bool noted, t_deadline_fn fn, void *arg);

/* evidence: (erasure, model, shard) -> what became of the shard's checkpoints, while the erasure is
 * not completed: its certificate is made of it */
struct evidence_row {
        /* when the erasure was forgotten */
        uint32_t first;     /* lowest slice whose checkpoint it destroyed */
        uint32_t destroyed; /* checkpoints, of that slice and those after it */
        /* when its shard was clean again, or never will be */
        uint32_t deleted; /* 1: the model was deleted instead */
        uint32_t slices;  /* that the new constituent is trained on; 0: there is none (yet) */
        uint8_t file_hash[SHA256_BYTES];
        uint8_t data_hash[SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
        uint8_t config_hash[SHA256_BYTES];
        uint64_t records;
        int64_t trained_ms;
        char kernel[32];
};
/* digests: [row.destroyed], in the order of their slices */
int t_evidence_put(struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model, uint32_t shard,
                   const struct evidence_row *row, const uint8_t (*digests)[SHA256_BYTES]);
/* *digests is allocated (free() it), also where there are none. UL_NOT_FOUND. */
int t_evidence_get(struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model, uint32_t shard,
                   struct evidence_row *row, uint8_t (**digests)[SHA256_BYTES]);
int t_evidence_del(struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model, uint32_t shard);

/* certificates: ulid -> the statement that is signed, and the log entry that it was recorded with
 */
int t_certificate_put(struct txn *t, const uint8_t id[ULID_BYTES], uint64_t log_index,
                      const void *statement, size_t len);
/* The statement is appended; may be NULL. UL_NOT_FOUND. */
int t_certificate_get(struct txn *t, const uint8_t id[ULID_BYTES], uint64_t *log_index,
                      struct buf *statement);

/* waiting: (model, shard, erasure): erasures that a clean shard completes */
int t_waiting_put(struct txn *t, uint32_t model, uint32_t shard, const uint8_t id[ULID_BYTES]);
int t_waiting_del(struct txn *t, uint32_t model, uint32_t shard, const uint8_t id[ULID_BYTES]);
typedef int (*t_waiting_fn)(void *arg, const uint8_t id[ULID_BYTES]);
/* Collect first, then change: the callback must not write. */
int t_waiting_each(struct txn *t, uint32_t model, uint32_t shard, t_waiting_fn fn, void *arg);

/* scrub: what must be overwritten, until it is. Key (erasure, model, kind, pseudonym). */
enum scrub_kind { SCRUB_SUBJECT = 1, SCRUB_RECORD = 2, SCRUB_CHECKPOINTS = 3, SCRUB_UPLOAD = 4 };
struct scrub_key {
        uint8_t erasure[ULID_BYTES];
        uint32_t model;
        uint32_t kind;
        uint8_t pseudonym[PSEUDONYM_BYTES]; /* SCRUB_CHECKPOINTS: shard, slice as two be32, zeros;
                                               SCRUB_UPLOAD: its id as be32, zeros */
};
struct scrub_row {
        uint32_t shard, slice, row; /* SCRUB_RECORD: the row; the index entry is already gone */
        uint32_t reserved;
};
int t_scrub_put(struct txn *t, const struct scrub_key *k, const struct scrub_row *row);
int t_scrub_del(struct txn *t, const struct scrub_key *k);
typedef int (*t_scrub_fn)(void *arg, const struct scrub_key *k, const struct scrub_row *row);
/* Those past `after`; NULL: all. */
int t_scrub_each(struct txn *t, const struct scrub_key *after, t_scrub_fn fn, void *arg);

/* --- suppressions: (pseudonym, scope or 0 for all models, kind) --- */
enum suppression_kind { SUPPRESS_SUBJECT = 1, SUPPRESS_RECORD = 2 };
struct suppression_row {
        uint8_t erasure[ULID_BYTES]; /* for which it was made, here or in another instance */
        int64_t since_ms;
        uint8_t import[ULID_BYTES]; /* that brought it here; zeros: the erasure was made here */
};
bool suppression_imported(const struct suppression_row *row);
/* An entry of a later erasure stays as it is: while it stands nothing of the person is loaded, so
 * that erasure covers this one too. An imported one gives way to an erasure here, whose data may
 * still be on the disk. */
int t_suppression_put(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                      uint32_t kind, const struct suppression_row *row);
/* Is this (pseudonym, kind) suppressed for the model (by an entry of its own or one for all)? */
int t_suppression_get(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                      uint32_t kind, struct suppression_row *row);
/* Removes every entry of the pseudonym; *removed counts them. */
int t_suppression_lift(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t *removed);
/* An import notes each suppression that it brings, added or not, and a lift those that it takes
 * away: where one that was noted does not stand any more, it was lifted here. 0 or UL_NOT_FOUND. */
int t_suppression_note(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                       uint32_t kind, const uint8_t erasure[ULID_BYTES]);
int t_suppression_noted(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                        uint32_t kind, const uint8_t erasure[ULID_BYTES]);
int t_suppression_count(struct txn *t, uint64_t *out);
typedef int (*t_suppression_fn)(void *arg, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                                uint32_t kind, const struct suppression_row *row);
/* From the key after (pseudonym, model, kind); after NULL: the first. */
int t_suppression_each(struct txn *t, const uint8_t *after, uint32_t after_model,
                       uint32_t after_kind, t_suppression_fn fn, void *arg);

/* --- lifts: ulid -> a suppression that was lifted, and what it was: kept for the ledger --- */
struct lift_entry {
        uint32_t model; /* the scope, 0: all models */
        uint32_t kind;
        struct suppression_row row;
};
struct lift_row {
        uint8_t pseudonym[PSEUDONYM_BYTES];
        int64_t lifted_ms;
        uint32_t entry_count;
};
int t_lift_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct lift_row *row,
               const struct lift_entry *entries);
/* Is there one of this id? 0 or UL_NOT_FOUND. */
int t_lift_has(struct txn *t, const uint8_t id[ULID_BYTES]);
typedef int (*t_lift_fn)(void *arg, const uint8_t id[ULID_BYTES], const struct lift_row *row,
                         const struct lift_entry *entries);
int t_lift_each(struct txn *t, t_lift_fn fn, void *arg);

/* --- imports: ulid -> suppressions of another instance that came in one step --- */
int t_import_put(struct txn *t, const uint8_t id[ULID_BYTES], int64_t imported_ms, uint32_t added);
/* Is there one of this id? 0 or UL_NOT_FOUND. */
int t_import_has(struct txn *t, const uint8_t id[ULID_BYTES]);

/* --- jobs --- */
enum job_kind { JOB_TRAIN, JOB_RETRAIN, JOB_VERIFY, JOB_BACKUP, JOB_COMPACT };
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
/* Deletes the oldest while there are more than `keep` of them and it has ended: a job that is still
 * under way keeps those after it. A few at a time: called whenever one ends. */
int t_job_prune(struct txn *t, uint64_t keep);
int t_job_each_desc(struct txn *t, const uint8_t *before, t_job_fn fn, void *arg);

/* --- idempotency: keyed hash of (token, route, key) --- */
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

/* --- audit: leaves, tree nodes, and an index of (kind, value) -> leaf --- */
int t_audit_leaf_put(struct txn *t, uint64_t index, const void *entry, size_t len);
int t_audit_leaf_get(struct txn *t, uint64_t index, struct buf *out);
int t_audit_leaf_del(struct txn *t, uint64_t index); /* UL_NOT_FOUND */
int t_audit_node_put(struct txn *t, uint32_t level, uint64_t index, const uint8_t hash[32]);
int t_audit_node_get(struct txn *t, uint32_t level, uint64_t index, uint8_t hash[32]);
/* kind: one byte of the caller's; value: 16 bytes. */
int t_audit_index_put(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t index);
/* 0: the leaf is indexed under it; UL_NOT_FOUND. */
int t_audit_index_has(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t index);
typedef int (*t_audit_index_fn)(void *arg, uint64_t index);
/* Ascending from `from`, or descending from it. One lookup for each 262,144 entries of the log. */
int t_audit_index_each(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t from,
                       bool descending, t_audit_index_fn fn, void *arg);

/* --- outgoing deliveries: what must be sent until it was, and to whom --- */
enum { ENDPOINT_HASH_BYTES = 16, ENDPOINT_NAME_MAX = 32, DELIVERY_TYPE_MAX = 48 };
enum endpoint_state {
        ENDPOINT_ENABLED,
        ENDPOINT_GONE,    /* it answered 410 */
        ENDPOINT_REMOVED, /* it left the configuration; forgotten once nothing waits for it */
};
struct endpoint_row {
        uint8_t kind; /* of its deliveries */
        uint8_t state;
        uint8_t outcome;                              /* of the last attempt, enum http_outcome */
        uint32_t status;                              /* HTTP's, of the last answer; 0: none came */
        uint32_t failures;                            /* attempts in a row */
        uint64_t pending;                             /* deliveries */
        int64_t changed_ms, attempt_ms, delivered_ms; /* 0: never */
        char name[ENDPOINT_NAME_MAX + 1];             /* in the configuration; "": none */
        char url[URL_MAX + 1];
};
int t_endpoint_get(struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES],
                   struct endpoint_row *row);
int t_endpoint_put(struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES],
                   const struct endpoint_row *row);
int t_endpoint_del(struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES]);
typedef int (*t_endpoint_fn)(void *arg, const uint8_t hash[ENDPOINT_HASH_BYTES],
                             const struct endpoint_row *row);
/* From the one after `after`; NULL: the first. */
int t_endpoint_each(struct txn *t, const uint8_t *after, t_endpoint_fn fn, void *arg);

struct delivery_row {
        uint8_t endpoint[ENDPOINT_HASH_BYTES];
        uint8_t kind;
        uint32_t attempts; /* that failed */
        int64_t created_ms, next_ms;
        uint8_t erasure[ULID_BYTES];      /* that it tells of; zeros: none */
        char type[DELIVERY_TYPE_MAX + 1]; /* "erasure.completed" */
};
/* headers: lines, may be NULL; body: bytes. A delivery that is there changes its row alone where
 * body is NULL. */
int t_delivery_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct delivery_row *row,
                   const char *headers, const void *body, size_t body_len);
/* headers and body are appended; either may be NULL. */
int t_delivery_get(struct txn *t, const uint8_t id[ULID_BYTES], struct delivery_row *row,
                   struct buf *headers, struct buf *body);
int t_delivery_del(struct txn *t, const uint8_t id[ULID_BYTES]);
int t_delivery_count(struct txn *t, uint64_t *out);
/* The next endpoint, in the order of the hashes, that something waits for; `after` NULL: the first.
 * UL_NOT_FOUND. */
int t_delivery_next_endpoint(struct txn *t, const uint8_t *after, uint8_t out[ENDPOINT_HASH_BYTES]);
typedef int (*t_delivery_due_fn)(void *arg, const uint8_t id[ULID_BYTES], int64_t next_ms);
/* What waits for an endpoint, the earliest first. */
int t_delivery_each_due(struct txn *t, const uint8_t endpoint[ENDPOINT_HASH_BYTES],
                        t_delivery_due_fn fn, void *arg);

/* --- witnesses: name in the configuration -> what it cosigned last, and how it fares --- */
enum { WITNESS_ROW_NAME_MAX = 32, WITNESS_KEY_ID_BYTES = 4 };
struct witness_row {
        uint8_t outcome;                      /* of the last attempt, enum witness_outcome */
        uint32_t status;                      /* HTTP's, of the last answer; 0: none came */
        uint32_t failures;                    /* attempts in a row */
        int64_t attempt_ms, cosigned_ms;      /* 0: never */
        uint64_t size;                        /* of the newest tree that it cosigned; 0: none */
        uint8_t key_id[WITNESS_KEY_ID_BYTES]; /* whose all this is: another key begins anew */
        uint8_t public_key[SIGN_PUBLIC_BYTES];
        uint64_t time_s; /* that its cosignature says */
        uint8_t signature[SIGN_BYTES];
};
/* note: the checkpoint of that tree as the log signed it, with the cosignatures of all who cosigned
 * it; appended, may be NULL; empty where size is 0. */
int t_witness_get(struct txn *t, const char *name, struct witness_row *row, struct buf *note);
int t_witness_put(struct txn *t, const char *name, const struct witness_row *row, const void *note,
                  size_t note_len);

/* --- served: in which generations a slice had a part, and who had it withdrawn --- */
struct served_row {
        uint64_t first, last; /* generations, both included; last 0: it has one still */
        int64_t from_ms, until_ms;
};
int t_served_open(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                  uint64_t generation, int64_t now_ms);
/* Ends the open interval, if there is one, with this generation. */
int t_served_close(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                   uint64_t generation, int64_t now_ms);
typedef int (*t_served_fn)(void *arg, const struct served_row *row);
int t_served_each(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice, t_served_fn fn,
                  void *arg);
struct recall_row {
        uint8_t erasure[ULID_BYTES];
        uint64_t generation; /* the first one without what was erased */
        int64_t withdrawn_ms;
};
int t_recall_append(struct txn *t, uint32_t model, const struct recall_row *row);
typedef int (*t_recall_fn)(void *arg, uint64_t number, const struct recall_row *row);
/* Numbers begin with 1. */
int t_recall_each(struct txn *t, uint32_t model, uint64_t after, t_recall_fn fn, void *arg);

/* --- callbacks: erasure -> the address that is told of it, until its end --- */
int t_callback_put(struct txn *t, const uint8_t erasure[ULID_BYTES], const char *url);
int t_callback_get(struct txn *t, const uint8_t erasure[ULID_BYTES],
                   struct buf *url); /* appended */
int t_callback_del(struct txn *t, const uint8_t erasure[ULID_BYTES]);
/* Removes keys of leaves before `below`, of the `max` keys after `after` (NULL: the first ones);
 * last: the last one seen, where *left says that there are more. */
enum { AUDIT_INDEX_KEY_BYTES = 6 + 1 + 16 + 3 };
int t_audit_index_prune(struct txn *t, uint64_t below, uint32_t max,
                        const uint8_t after[AUDIT_INDEX_KEY_BYTES],
                        uint8_t last[AUDIT_INDEX_KEY_BYTES], bool *left);

/* --- OpenDSR: what a controller calls an erasure, and where it wants to be told of it --- */
enum { OPENDSR_HASH_BYTES = 16, OPENDSR_ID_TEXT = 36, OPENDSR_CONTROLLER_MAX = 63 };
struct opendsr_row {
        uint8_t erasure[ULID_BYTES];
        uint8_t body[32];             /* keyed hash of the request: what a repeated one must be */
        char id[OPENDSR_ID_TEXT + 1]; /* the controller's, a UUID */
        char controller[OPENDSR_CONTROLLER_MAX + 1]; /* the name of its token */
        uint32_t url_count;
};
/* urls: [row.url_count], each at most OPENDSR_URL_MAX bytes. */
int t_opendsr_put(struct txn *t, const uint8_t hash[OPENDSR_HASH_BYTES],
                  const struct opendsr_row *row, const char (*urls)[OPENDSR_URL_MAX + 1]);
/* *urls is allocated (free() it; never NULL on success); pass NULL to leave them. */
int t_opendsr_get(struct txn *t, const uint8_t hash[OPENDSR_HASH_BYTES], struct opendsr_row *row,
                  char (**urls)[OPENDSR_URL_MAX + 1]);
/* The hash of the request that an erasure came from; UL_NOT_FOUND: from none. */
int t_opendsr_of(struct txn *t, const uint8_t erasure[ULID_BYTES],
                 uint8_t hash[OPENDSR_HASH_BYTES]);

/* --- uploads that are staged (?atomic=true): at most one a model --- */
struct upload_row {
        uint32_t model;
        uint32_t called_off; /* 1: it can never commit; what is staged is being removed */
        uint64_t records;
        int64_t started_ms;
};
int t_upload_get(struct txn *t, uint32_t upload, struct upload_row *row);
int t_upload_put(struct txn *t, uint32_t upload, const struct upload_row *row);
int t_upload_del(struct txn *t, uint32_t upload);
typedef int (*t_upload_fn)(void *arg, uint32_t upload, const struct upload_row *row);
int t_upload_each(struct txn *t, t_upload_fn fn, void *arg);

/* --- bounded removal of everything a deleted model left --- */
/* Removes up to `max` entries of records, subjects, shards, slices, waiting, served, recalls; *left
 * says if more. */
int t_model_purge(struct txn *t, uint32_t model, uint32_t max, bool *left);

#endif
