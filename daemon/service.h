/* SPDX-License-Identifier: Apache-2.0
 * service.h: all that the API may ask of the daemon, in one page. It knows nothing of HTTP, and the
 * API knows nothing of what is behind it: no LMDB, no loop, no workers.
 *
 * Reads answer at once, from an LMDB read transaction or the current snapshot, on the caller's
 * thread. Writes return 0 when queued; then `done` is called exactly once, on another thread (the
 * writer, or a predict thread), with the result borrowed for the duration of the call. A nonzero
 * return means that nothing was queued and `done` will not be called.
 *
 * Raw ids enter only through service_pseudonym() and the intake; the caller wipes them. */
#ifndef UNLEARND_DAEMON_SERVICE_H
#define UNLEARND_DAEMON_SERVICE_H

#include "lib/models/config.h"
#include "lib/util/bytes.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include "lib/util/limits.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct service;

enum { ACTOR_MAX = 64 };

/* Idempotency of one POST; `present` false: none. key: keyed hash over token name, route and the
 * header's key; body: keyed hash of the body (service_keyed_hash makes both). */
struct idempotency {
        bool present;
        uint8_t key[32];
        uint8_t body[32];
};
void service_keyed_hash(struct service *s, const void *data, size_t len, uint8_t out[32]);
void service_pseudonym(struct service *s, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES]);

/* --- models ---------------------------------------------------------------------------------- */
enum model_state {
        MODEL_EMPTY,    /* no records, never trained */
        MODEL_LOADED,   /* records, never trained */
        MODEL_TRAINING, /* a training that was asked for is not finished */
        MODEL_READY,    /* every constituent at full strength */
        MODEL_DEGRADED, /* some constituents rolled back or left out */
};
const char *model_state_name(enum model_state v);

struct model_view {
        const struct model_config *config; /* borrowed until model_view_release */
        enum model_state state;
        uint64_t records;
        bool ready; /* predictions are answered */
        uint64_t generation;
        uint32_t clean_constituents;    /* in the served aggregate */
        uint32_t degraded_constituents; /* rolled back or left out */
        bool has_served_hash;
        uint8_t served_hash[SHA256_BYTES];
        int64_t created_ms;
        void *hold;
};
void model_view_release(struct model_view *v);
int service_model_get(struct service *s, const char *name, struct model_view *out,
                      struct errinfo *e);
/* In name order, those after `after` (NULL: from the first), at most `limit`; returns the number in
 * *count. Every view is released by the caller. */
int service_model_list(struct service *s, const char *after, uint32_t limit, struct model_view *out,
                       uint32_t *count, struct errinfo *e);

typedef void (*service_model_done)(void *arg, int err, const struct errinfo *e,
                                   const struct model_view *view, bool replayed);
/* Takes the configuration (destroys it in every case). UL_EXISTS; UL_MISMATCH for idempotency. */
int service_model_create(struct service *s, struct model_config *config_take, const char *actor,
                         const struct idempotency *idem, service_model_done done, void *arg,
                         struct errinfo *e);
/* done (view NULL) after everything of the model is scrubbed. */
int service_model_delete(struct service *s, const char *name, const char *actor,
                         service_model_done done, void *arg, struct errinfo *e);

struct slice_view {
        uint32_t shard, slice; /* slice 1-based */
        uint64_t live, erased;
        bool has_checkpoint;                   /* clean and on disk */
        uint8_t checkpoint_hash[SHA256_BYTES]; /* of the file */
};
struct shard_view {
        uint32_t shard;
        uint32_t dirty_from;        /* 0: clean */
        uint32_t served_from_slice; /* 0: left out */
        const char *state;          /* "empty", "loaded", "clean", "dirty", "training" */
        uint32_t slice_count;
        const struct slice_view *slices; /* borrowed during the call */
};
typedef int (*service_shard_fn)(void *arg, const struct shard_view *shard);
int service_shards(struct service *s, const char *model, service_shard_fn fn, void *arg,
                   struct errinfo *e);

struct record_view {
        uint32_t shard, slice;
        const char *state; /* "loaded" (waits for training) or "trained" */
};
int service_record_get(struct service *s, const char *model, const uint8_t record[PSEUDONYM_BYTES],
                       struct record_view *out, struct errinfo *e);

/* --- jobs ------------------------------------------------------------------------------------- */
struct job_view {
        uint8_t id[ULID_BYTES];
        const char *kind;  /* "train", "retrain", "verify" */
        const char *state; /* "queued", "running", "succeeded", "failed", "cancelled" */
        char model[MODEL_NAME_MAX + 1];
        int64_t shard;      /* -1: the whole model */
        double progress;    /* 0..1 */
        double eta_seconds; /* < 0: unknown */
        int64_t created_ms, started_ms, ended_ms;
        uint32_t attempts;
        char error[128];
        struct buf result; /* JSON text, or empty */
};
void job_view_clear(struct job_view *v);
int service_job_get(struct service *s, const uint8_t id[ULID_BYTES], struct job_view *out,
                    struct errinfo *e);
/* Newest first, before `before` (NULL: the newest); the callback's view is cleared for it. Nonzero
 * from the callback ends the walk. */
typedef int (*service_job_fn)(void *arg, const struct job_view *job);
int service_job_list(struct service *s, const uint8_t *before, service_job_fn fn, void *arg,
                     struct errinfo *e);
typedef void (*service_job_done)(void *arg, int err, const struct errinfo *e,
                                 const struct job_view *job, bool replayed);
/* UL_CONFLICT when a training of the model is under way, or there is nothing to train on. */
int service_train(struct service *s, const char *model, const char *actor,
                  const struct idempotency *idem, service_job_done done, void *arg,
                  struct errinfo *e);
/* shards: NULL/0 means all. */
int service_verify(struct service *s, const char *model, const uint32_t *shards, uint32_t count,
                   const char *actor, const struct idempotency *idem, service_job_done done,
                   void *arg, struct errinfo *e);

/* --- intake: records that stream in, to be kept or to be evaluated ------------------------------
 */
enum intake_format { INTAKE_NDJSON, INTAKE_CSV, INTAKE_NPY };
enum intake_compression { INTAKE_PLAIN, INTAKE_GZIP, INTAKE_ZSTD };
struct intake_options {
        enum intake_format format;
        enum intake_compression compression;
        const char *id_prefix; /* npy */
        bool atomic;
        bool evaluate; /* predict and compare instead of keeping anything */
        const char *actor;
};
struct intake_error {
        uint64_t line;
        struct errinfo why;
};
struct intake_result {
        uint64_t accepted, duplicates, suppressed, rejected;
        uint32_t error_count;
        struct intake_error errors[UPLOAD_ERRORS_MAX];
        /* evaluate only */
        uint64_t evaluated, generation;
        uint32_t clean_constituents;
        double accuracy, log_loss; /* classification */
        double mean_squared_error; /* regression */
        const uint64_t *confusion; /* [classes, classes], row: true class; NULL for regression */
};
struct intake;
/* `wake` is called (any thread) when feed or finish that returned UL_AGAIN should be called again.
 */
int service_intake_begin(struct service *s, const char *model, const struct intake_options *o,
                         void (*wake)(void *arg), void *arg, struct intake **out,
                         struct errinfo *e);
/* Takes bytes; *consumed < len only with UL_AGAIN: suspend, and offer the rest after wake. Any
 * other error ends the intake: render it, then close. */
int service_intake_feed(struct intake *in, const void *data, size_t len, size_t *consumed,
                        struct errinfo *e);
/* After the last byte. 0: all is durable, result holds. UL_INVALID: an atomic upload with a bad
 * line (nothing was kept; the result's errors say why). */
int service_intake_finish(struct intake *in, struct errinfo *e);
const struct intake_result *service_intake_result(const struct intake *in);
/* Also ends an intake half way: what was committed stays, an atomic one leaves nothing. */
void service_intake_close(struct intake **in);

/* --- erasures -----------------------------------------------------------------------------------
 */
enum erase_regulation { ERASE_NONE, ERASE_GDPR, ERASE_CCPA, ERASE_OTHER };
struct erase_record {
        char model[MODEL_NAME_MAX + 1];
        uint8_t pseudonym[PSEUDONYM_BYTES];
};
struct erase_request {
        uint8_t (*subjects)[PSEUDONYM_BYTES]; /* [subject_count], owned (malloc) */
        uint32_t subject_count;
        struct erase_record *records; /* [record_count], owned */
        uint32_t record_count;
        char (*models)[MODEL_NAME_MAX + 1]; /* [model_count], owned; 0: all models */
        uint32_t model_count;
        enum erase_regulation regulation;
        int64_t received_ms; /* 0: now */
        int64_t deadline_ms; /* 0: a calendar month, or 45 days for ccpa */
        char reference[REFERENCE_MAX + 1];
        char actor[ACTOR_MAX];
        struct idempotency idem;
};
void erase_request_clear(struct erase_request *r); /* wipes and frees the arrays */

struct affected_view {
        char model[MODEL_NAME_MAX + 1];
        uint32_t shard, slice;
        uint64_t records;
        const char *state;          /* "retraining" or "completed" */
        uint32_t served_from_slice; /* 0: left out */
};
struct erasure_view {
        uint8_t id[ULID_BYTES];
        const char *state; /* "accepted", "forgotten", "completed", "refused" */
        uint64_t matched;
        const char *regulation; /* "gdpr", "ccpa", "other", or NULL */
        char reference[REFERENCE_MAX + 1];
        int64_t received_ms, accepted_ms, forgotten_ms, scrubbed_ms, completed_ms, deadline_ms;
        bool overdue;
        const char *guarantee; /* "exact" */
        uint32_t affected_count;
        struct affected_view *affected; /* owned */
        double retrain_seconds;         /* dry run only */
        bool replayed;
};
void erasure_view_clear(struct erasure_view *v);

/* Takes the request (cleared in every case). done: durable and forgotten (invariant 4). */
typedef void (*service_erase_done)(void *arg, int err, const struct errinfo *e,
                                   const struct erasure_view *view);
int service_erase(struct service *s, struct erase_request *take, service_erase_done done, void *arg,
                  struct errinfo *e);
/* One group commit; results in order. Takes the requests' contents. */
struct erase_outcome {
        int err;
        struct errinfo e;
        struct erasure_view view; /* when err == 0 */
};
typedef void (*service_batch_done)(void *arg, int err, const struct errinfo *e,
                                   const struct erase_outcome *outcomes, uint32_t count);
int service_erase_batch(struct service *s, struct erase_request *take, uint32_t count,
                        service_batch_done done, void *arg, struct errinfo *e);
/* Dry run: nothing changes, nothing is logged as an erasure. Does not take the request. */
int service_erase_preview(struct service *s, const struct erase_request *r,
                          struct erasure_view *out, struct errinfo *e);

int service_erasure_get(struct service *s, const uint8_t id[ULID_BYTES], struct erasure_view *out,
                        struct errinfo *e);
struct erasure_filter {
        const char *state; /* NULL: any */
        const char *model;
        int overdue;                /* -1: any, 0, 1 */
        int64_t since_ms, until_ms; /* of accepted_at; 0: open */
};
typedef int (*service_erasure_fn)(void *arg, const struct erasure_view *view);
int service_erasure_list(struct service *s, const struct erasure_filter *f, const uint8_t *before,
                         service_erasure_fn fn, void *arg, struct errinfo *e);

struct suppression_view {
        uint8_t pseudonym[PSEUDONYM_BYTES];
        char model[MODEL_NAME_MAX + 1]; /* "": all models */
        const char *kind;               /* "subject" or "record" */
        uint8_t erasure[ULID_BYTES];
        int64_t since_ms;
};
typedef int (*service_suppression_fn)(void *arg, const struct suppression_view *v);
/* after: the last pseudonym of the page before, whose entries are skipped whole; NULL: the first.
 */
int service_suppression_list(struct service *s, const uint8_t *after, service_suppression_fn fn,
                             void *arg, struct errinfo *e);
/* done(err): UL_NOT_FOUND where the pseudonym is not suppressed. */
typedef void (*service_simple_done)(void *arg, int err, const struct errinfo *e);
int service_suppression_lift(struct service *s, const uint8_t pseudonym[PSEUDONYM_BYTES],
                             const char *actor, service_simple_done done, void *arg,
                             struct errinfo *e);

/* --- predictions
 * ---------------------------------------------------------------------------------- */
struct predict;
/* UL_NOT_FOUND; UL_UNAVAILABLE with retry_after_s when nothing clean can answer. */
int service_predict_open(struct service *s, const char *model, struct predict **out,
                         struct errinfo *e);
const struct model_config *predict_config(const struct predict *p);
/* A zeroed input of [n, features] to fill; once. UL_TOO_LARGE over PREDICT_ROWS_MAX. */
int predict_rows(struct predict *p, uint32_t n, float **x, struct errinfo *e);
int predict_encode_text(struct predict *p, uint32_t row, const char *text, size_t len,
                        struct errinfo *e);
/* Column by its position in the configuration. */
int predict_encode_column(struct predict *p, uint32_t row, uint32_t column, const char *text,
                          size_t len, struct errinfo *e);
/* Queued to be answered with whatever else is waiting. UL_INVALID with field "/row/feature" for
 * input that is not finite. In done (a predict thread) the accessors below hold. */
typedef void (*service_predict_done)(void *arg, int err, const struct errinfo *e);
int service_predict(struct predict *p, service_predict_done done, void *arg, struct errinfo *e);
const float *predict_output(const struct predict *p); /* [n, outputs] probabilities or values */
uint32_t predict_count(const struct predict *p);
uint64_t predict_generation(const struct predict *p);
uint32_t predict_clean(const struct predict *p);
void predict_close(struct predict **p); /* wipes input and output */

/* --- audit
 * ------------------------------------------------------------------------------------------ */
struct audit_view {
        uint64_t index;
        const char *entry; /* canonical JSON; borrowed during the call */
        size_t entry_len;
        uint8_t leaf_hash[SHA256_BYTES];
};
struct audit_query {
        const char *type, *model, *reference; /* NULL: any */
        const uint8_t *erasure;               /* [ULID_BYTES] */
        const uint8_t *subject, *record;      /* pseudonyms */
        int64_t since_ms, until_ms;
        bool descending;
        uint64_t from; /* UINT64_MAX with descending: the newest */
};
typedef int (*service_audit_fn)(void *arg, const struct audit_view *v);
/* Looks at a bounded number of entries a call; *next: go on from here, UINT64_MAX: the end. A
 * callback that returns nonzero ends the walk after that entry. */
int service_audit_query(struct service *s, const struct audit_query *q, service_audit_fn fn,
                        void *arg, uint64_t *next, struct errinfo *e);
int service_audit_get(struct service *s, uint64_t index, service_audit_fn fn, void *arg,
                      struct errinfo *e);
struct audit_proof {
        uint64_t index, size;
        uint8_t leaf_hash[SHA256_BYTES];
        uint32_t count;
        uint8_t hashes[128][SHA256_BYTES];
        uint8_t root[SHA256_BYTES];
        struct buf checkpoint; /* the latest signed note; its size may be larger than `size` */
};
/* size 0: that of the latest checkpoint. */
int service_audit_inclusion(struct service *s, uint64_t index, uint64_t size,
                            struct audit_proof *out, struct errinfo *e);
int service_audit_consistency(struct service *s, uint64_t from, uint64_t to,
                              struct audit_proof *out, struct errinfo *e);
void audit_proof_clear(struct audit_proof *p);
int service_audit_checkpoint(struct service *s, struct buf *out, struct errinfo *e);
const char *service_audit_vkey(struct service *s);

/* --- operations
 * --------------------------------------------------------------------------------------- */
/* 0, or UL_UNAVAILABLE/UL_CLOSED with the reason in e. */
int service_ready(struct service *s, struct errinfo *e);
int service_metrics(struct service *s, struct buf *out, struct errinfo *e);
/* The API reports every answered request: route is the route table's pattern. */
void service_count_request(struct service *s, const char *method, const char *route, int status,
                           double seconds);
const char *service_version(void);

#endif
