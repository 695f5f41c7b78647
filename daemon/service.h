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

/* --- models --- */
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
        uint32_t damaged_shards;        /* out of service: their rows are damaged */
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
        const char *state;          /* "empty", "loaded", "clean", "dirty", "training",
                                     * "damaged" */
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

/* --- jobs --- */
struct job_view {
        uint8_t id[ULID_BYTES];
        const char *kind;  /* "train", "retrain", "verify", "backup", "compact" */
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
/* Brings the records of appended slices back into the configured ones and trains their shards anew.
 * UL_CONFLICT when a training or compaction of the model is under way, or it was never trained; a
 * job that succeeded already where nothing has to move. */
int service_compact(struct service *s, const char *model, const char *actor,
                    const struct idempotency *idem, service_job_done done, void *arg,
                    struct errinfo *e);
/* shards: NULL/0 means all. */
int service_verify(struct service *s, const char *model, const uint32_t *shards, uint32_t count,
                   const char *actor, const struct idempotency *idem, service_job_done done,
                   void *arg, struct errinfo *e);

/* Has the daemon write a backup below backup_dir: `directory` is its name there, or its whole path.
 * UL_CONFLICT: none is configured, or one is being written; UL_EXISTS; UL_INVALID. */
int service_backup(struct service *s, const char *directory, bool with_keys, const char *actor,
                   const struct idempotency *idem, service_job_done done, void *arg,
                   struct errinfo *e);

/* --- intake: records that stream in, to be kept or to be evaluated --- */
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

/* --- erasures --- */
enum erase_regulation { ERASE_NONE, ERASE_GDPR, ERASE_CCPA, ERASE_OTHER };
struct erase_record {
        char model[MODEL_NAME_MAX + 1];
        uint8_t pseudonym[PSEUDONYM_BYTES];
};
struct opendsr_request;
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
        bool hold;           /* durable, and not executed before service_erasure_release */
        char reference[REFERENCE_MAX + 1];
        char *callback_url; /* owned (malloc); NULL: none */
        char actor[ACTOR_MAX];
        struct idempotency idem;
        struct opendsr_request *opendsr; /* that it came by; owned; NULL: none */
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
        bool held;                 /* it was submitted under hold */
        int64_t refused_ms;        /* 0: it was not */
        const char *refusal;       /* the reason's code, or NULL */
        int64_t first_deadline_ms; /* before its extension; 0: it was not extended */
        const char *extension;     /* the reason's code, or NULL */
        const char *scope;         /* "all_models", "named_models" */
        const char *guarantee;     /* "exact" */
        uint32_t affected_count;
        struct affected_view *affected; /* owned */
        double retrain_seconds;         /* dry run only */
        bool replayed;
};
void erasure_view_clear(struct erasure_view *v);

/* Whether deliveries may be sent to this address, as far as its text tells; UL_INVALID. */
int service_callback_check(struct service *s, const char *url, struct errinfo *e);
/* Takes the request (cleared in every case). done: durable and forgotten (invariant 4); under hold:
 * durable. */
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

/* What becomes of a held erasure, and of a deadline. UL_NOT_FOUND; UL_CONFLICT says which state it
 * is in; UL_INVALID with field "/reason_code" or "/deadline". Asked for again, each answers the
 * same with view->replayed. */
/* Executes a held erasure, the way of every other: done when it is durable and forgotten. */
int service_erasure_release(struct service *s, const uint8_t id[ULID_BYTES], const char *actor,
                            service_erase_done done, void *arg, struct errinfo *e);
/* A held one only: nothing was forgotten, and nothing will be. */
int service_erasure_refuse(struct service *s, const uint8_t id[ULID_BYTES], const char *reason_code,
                           const char *actor, service_erase_done done, void *arg,
                           struct errinfo *e);
/* Once, before the deadline has passed, within GDPR art. 12(3) or 11 CCR 7021(b). */
int service_erasure_extend(struct service *s, const uint8_t id[ULID_BYTES], int64_t deadline_ms,
                           const char *reason_code, const char *actor, service_erase_done done,
                           void *arg, struct errinfo *e);

int service_erasure_get(struct service *s, const uint8_t id[ULID_BYTES], struct erasure_view *out,
                        struct errinfo *e);
struct erasure_filter {
        const char *state; /* NULL: any */
        const char *model;
        int overdue;                /* -1: any, 0, 1 */
        int64_t since_ms, until_ms; /* of accepted_at, both included; 0: open */
};
typedef int (*service_erasure_fn)(void *arg, const struct erasure_view *view);
/* Newest first, from the one before `before` (NULL: the newest), until fn returns nonzero or enough
 * were looked at for one call: then *more, and `next` is where the next one goes on. */
int service_erasure_list(struct service *s, const struct erasure_filter *f, const uint8_t *before,
                         service_erasure_fn fn, void *arg, uint8_t next[ULID_BYTES], bool *more,
                         struct errinfo *e);

/* --- webhooks: endpoints that are told of events --- */
#define WEBHOOK_CALLBACKS "callbacks" /* instead of a name: the secret of all callbacks */
enum { WEBHOOK_KEY_BYTES = 16 };
struct webhook_view {
        uint8_t key[WEBHOOK_KEY_BYTES]; /* the list's cursor */
        char name[33];                  /* "": the callback of an erasure */
        char url[URL_MAX + 1];
        char events[512]; /* "": of its erasure */
        bool enabled;
        uint64_t pending;
        uint32_t failures;   /* attempts in a row */
        const char *outcome; /* of the last attempt; NULL: none */
        uint32_t status;     /* HTTP's; 0: none */
        int64_t changed_ms, attempt_ms, delivered_ms;
};
typedef int (*service_webhook_fn)(void *arg, const struct webhook_view *v);
/* Those after `after` (NULL: from the first). */
int service_webhook_list(struct service *s, const uint8_t *after, service_webhook_fn fn, void *arg,
                         struct errinfo *e);
int service_webhook_get(struct service *s, const char *name, struct webhook_view *out,
                        struct errinfo *e);
struct webhook_result {
        char secret[96]; /* rotate; whoever copies it wipes the copy */
        int64_t previous_until_ms;
        uint8_t id[ULID_BYTES]; /* test */
        int64_t queued_ms;
        struct webhook_view view; /* enable */
};
typedef void (*service_webhook_done)(void *arg, int err, const struct errinfo *e,
                                     const struct webhook_result *r);
/* A new secret; the present one signs too for overlap_s. */
int service_webhook_rotate(struct service *s, const char *name, uint32_t overlap_s,
                           const char *actor, service_webhook_done done, void *arg,
                           struct errinfo *e);
int service_webhook_enable(struct service *s, const char *name, const char *actor,
                           service_webhook_done done, void *arg, struct errinfo *e);
/* Queues a message of type webhook.test. UL_CONFLICT where the endpoint is disabled. */
int service_webhook_test(struct service *s, const char *name, const char *actor,
                         service_webhook_done done, void *arg, struct errinfo *e);

/* --- recalls: generations of a model that are withdrawn --- */
struct recall_range { /* generations, both included; numbers may be among them that were never
                       * served
                       */
        uint64_t first, last;
        int64_t from_ms, until_ms;
};
struct recall_view {
        uint64_t number; /* the list's cursor */
        uint8_t erasure[ULID_BYTES];
        const char *regulation; /* NULL: none was named */
        int64_t withdrawn_ms, completed_ms;
        uint64_t replaced_by;              /* the first one behind them all */
        const struct recall_range *ranges; /* [range_count], borrowed during the call; in order */
        uint32_t range_count;
};
struct recall_filter {
        int64_t since_ms; /* of withdrawn_ms; 0: open */
        bool has_generation;
        uint64_t generation; /* that is among those withdrawn */
};
typedef int (*service_recall_fn)(void *arg, const struct recall_view *v);
/* The oldest first, after `after` (0: all), a bounded number; an item for which fn returns nonzero
 * belongs to the next page. *next: go on from here, UINT64_MAX: the end. */
int service_recall_list(struct service *s, const char *model, const struct recall_filter *f,
                        uint64_t after, service_recall_fn fn, void *arg, uint64_t *next,
                        struct errinfo *e);

/* --- events, as they happen --- */
struct event_watch;
struct event_view {
        bool durable;   /* an entry of the audit log, told once it is committed and served */
        uint64_t index; /* of it */
        const char *type, *time, *data; /* data: a JSON object's text; borrowed during the call */
        size_t type_len, time_len, data_len;
};
typedef int (*service_event_fn)(void *arg, const struct event_view *v);
/* From the entry after `last` where resume, else from now on. `wake` is called, from any thread,
 * when a read that found nothing should be tried again. UL_BUSY: EVENT_STREAMS_MAX there are;
 * UL_CONFLICT: the log has no entry `last`. */
int service_watch_begin(struct service *s, bool resume, uint64_t last, void (*wake)(void *arg),
                        void *arg, struct event_watch **out, struct errinfo *e);
/* Offers what has happened since the last read, a bounded number; fn that returns nonzero ends it
 * after that event. *more: read again at once. *beat: it is time for a sign of life. */
int service_watch_read(struct event_watch *w, service_event_fn fn, void *arg, bool *more,
                       bool *beat, struct errinfo *e);
/* From its return on `wake` is not called. */
void service_watch_end(struct event_watch **w);
/* --- the report of a period: erasures received in it, by what became of them --- */
enum { REPORT_REASONS = 32 };
struct report_times { /* from received_at; all 0 where count is */
        uint64_t count;
        double median_s, mean_s, worst_s;
};
struct report_group {
        const char *regulation;                         /* NULL: none was named (of `total`: all) */
        uint64_t received, completed, refused, pending; /* received is the sum of the others */
        uint64_t held;                                  /* of the pending ones */
        uint64_t in_time;                               /* completed or refused by their deadline */
        uint64_t overdue;                               /* ended after it, or past it and pending */
        uint64_t overdue_pending;                       /* of those */
        uint64_t extended;
        uint64_t refused_for[REPORT_REASONS], extended_for[REPORT_REASONS]; /* by code */
        struct report_times forgotten, completed_in, answered; /* answered: completed or refused */
};
struct report_view {
        int64_t since_ms, until_ms, generated_ms;
        const char *log_name; /* the log's verifier key */
        const struct report_group *total, *groups;
        uint32_t group_count;
};
struct report;
/* since, until: of received_at, both included; 0: open. */
int service_report_begin(struct service *s, int64_t since_ms, int64_t until_ms, struct report **out,
                         struct errinfo *e);
/* A bounded piece of the work; then, where *done, service_report_view holds. */
int service_report_step(struct report *r, bool *done, struct errinfo *e);
void service_report_view(const struct report *r, struct report_view *out);
void service_report_free(struct report **r);
const char *service_refusal_reason(uint32_t code); /* NULL: none of this number */
const char *service_extension_reason(uint32_t code);
/* The certificate of a completed erasure: the in-toto statement as it was recorded, and the DSSE
 * envelope of it (may be NULL); both are appended. UL_CONFLICT before it is completed. */
int service_certificate(struct service *s, const uint8_t id[ULID_BYTES], struct buf *statement,
                        struct buf *envelope, struct errinfo *e);
/* A C2SP tlog-proof of the log entry that records the certificate, under the latest checkpoint; or
 * (`cosigned`) the newest that a witness cosigned, UL_CONFLICT while there is none that covers it.
 */
int service_erasure_proof(struct service *s, const uint8_t id[ULID_BYTES], bool cosigned,
                          struct buf *out, struct errinfo *e);

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
typedef void (*service_simple_done)(void *arg, int err, const struct errinfo *e);
/* A check value of the pseudonym key that says nothing about it: two instances whose values are
 * equal mean the same person by a pseudonym. */
enum { KEY_CHECK_BYTES = 16 };
void service_key_check(struct service *s, uint8_t out[KEY_CHECK_BYTES]);
/* Audits that an export begins; it is made of walks after `done`. */
int service_suppression_export(struct service *s, const char *actor, service_simple_done done,
                               void *arg, struct errinfo *e);
/* From a place on (zeroed: the first) until fn returns nonzero; *place is then that of the last one
 * that fn saw, and *more true. One read transaction: keep it short. */
struct suppression_place {
        bool begun;
        uint8_t pseudonym[PSEUDONYM_BYTES];
        uint32_t scope, kind;
};
int service_suppression_walk(struct service *s, struct suppression_place *place,
                             service_suppression_fn fn, void *arg, bool *more, struct errinfo *e);

/* Suppressions of another instance with the same pseudonym key, one after the other; what was added
 * before an error stays. `erase`: people who are held here are erased; else they are only counted
 * and named. `wake` is called (any thread) when a call that returned UL_AGAIN, having done nothing,
 * should be made again. */
enum { IMPORT_SHOWN_MAX = 100 };
struct import_result {
        uint64_t added;   /* new here */
        uint64_t already; /* suppressed here before */
        uint64_t lifted;  /* of an erasure whose suppression was lifted here: that stands */
        uint64_t held;    /* of people who are held here, among the first two */
        uint64_t erasures;
        uint8_t held_pseudonyms[IMPORT_SHOWN_MAX][PSEUDONYM_BYTES]; /* the first ones */
        uint8_t erasure_ids[IMPORT_SHOWN_MAX][ULID_BYTES];
};
struct suppression_import;
int service_import_begin(struct service *s, const char *actor, bool erase, void (*wake)(void *arg),
                         void *arg, struct suppression_import **out, struct errinfo *e);
int service_import_add(struct suppression_import *in, const struct suppression_view *v,
                       struct errinfo *e);
/* 0: all that was added is durable, and who was to be erased is forgotten; the result holds. */
int service_import_finish(struct suppression_import *in, struct errinfo *e);
const struct import_result *service_import_result(const struct suppression_import *in);
void service_import_close(struct suppression_import **in);

/* done(err): UL_NOT_FOUND where the pseudonym is not suppressed. */
int service_suppression_lift(struct service *s, const uint8_t pseudonym[PSEUDONYM_BYTES],
                             const char *actor, service_simple_done done, void *arg,
                             struct errinfo *e);

/* --- OpenDSR --- */
/* What the configuration says of it; the texts are the service's. */
struct opendsr_info {
        bool spoken; /* else the rest is empty */
        bool hold;
        const char *domain, *base_url;
        const char *identities; /* types, separated by commas */
        enum erase_regulation regulation;
        const char *certificate; /* PEM */
        size_t certificate_len;
};
void service_opendsr_info(struct service *s, struct opendsr_info *out);
/* RSA-SHA256 in base64; some milliseconds. */
enum { OPENDSR_SIGNATURE_SIZE = 1400 };
int service_opendsr_sign(struct service *s, const void *data, size_t len,
                         char out[OPENDSR_SIGNATURE_SIZE], struct errinfo *e);
void service_pseudonym_of_digest(struct service *s, const uint8_t sha256[SHA256_BYTES],
                                 uint8_t out[PSEUDONYM_BYTES]);
enum { OPENDSR_ID_SIZE = 36 + 1 };
/* Beside an erase_request (`opendsr`, owned): what the controller, its actor, calls it. An erasure
 * of that name and body is replayed; UL_MISMATCH where the body was another. */
struct opendsr_request {
        char id[OPENDSR_ID_SIZE];
        uint8_t body[32];                  /* keyed hash */
        char (*urls)[OPENDSR_URL_MAX + 1]; /* [url_count], owned */
        uint32_t url_count;
};
/* An erasure's state as the specification calls it. */
const char *service_opendsr_status(const char *state);
/* Whether it may be called back there. UL_INVALID says why not. */
int service_opendsr_url_check(struct service *s, const char *url, struct errinfo *e);
int service_opendsr_get(struct service *s, const char *controller, const char *id,
                        struct erasure_view *out, struct errinfo *e);
/* Refuses what is held, as withdrawn. UL_CONFLICT where it is not held (any more). */
int service_opendsr_cancel(struct service *s, const char *controller, const char *id,
                           service_erase_done done, void *arg, struct errinfo *e);

/* --- witnesses of the audit log --- */
struct witness_view {
        const char *name, *key;          /* key: with type 0x04; all borrowed during the call */
        uint64_t size;                   /* of the newest tree that it cosigned; 0: none */
        int64_t cosignature_s;           /* the time that its cosignature says */
        int64_t cosigned_ms, attempt_ms; /* 0: never */
        const char *outcome;             /* of the last attempt; NULL: none */
        uint32_t status;                 /* HTTP's; 0: none */
        uint32_t failures;               /* attempts in a row */
        const char *checkpoint; /* that tree's, with all cosignatures of it; not terminated */
        size_t checkpoint_len;
};
typedef int (*service_witness_fn)(void *arg, const struct witness_view *v);
/* In the configuration's order. */
int service_witness_list(struct service *s, service_witness_fn fn, void *arg, struct errinfo *e);
/* The newest checkpoint that a witness cosigned, with all cosignatures of it. UL_NOT_FOUND. */
int service_audit_cosigned(struct service *s, struct buf *out, struct errinfo *e);

/* --- predictions --- */
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

/* --- audit --- */
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
/* `path`: what stands behind "tile/" (lib/audit/tile.h). *full: the tile will never change.
 * UL_SYNTAX for a path that is no tile, UL_NOT_FOUND for one that the log has not filled so far. */
int service_audit_tile(struct service *s, const char *path, struct buf *out, bool *full,
                       struct errinfo *e);
const char *service_audit_vkey(struct service *s);
struct audit_key_view {
        const char *vkey;
        uint64_t announced; /* index of the log.key_rotated entry; UINT64_MAX: the first key */
        const char *entry;  /* its text; "": the first key */
        const char
                *handover; /* note, not terminated, borrowed during the call; "": the first key */
        size_t handover_len;
        bool current;
};
typedef int (*service_audit_key_fn)(void *arg, const struct audit_key_view *v);
/* Every key that the log ever had, oldest first. */
int service_audit_keys(struct service *s, service_audit_key_fn fn, void *arg, struct errinfo *e);

/* --- operations --- */
/* 0, or UL_UNAVAILABLE/UL_CLOSED with the reason in e. */
int service_ready(struct service *s, struct errinfo *e);
int service_metrics(struct service *s, struct buf *out, struct errinfo *e);
/* The API reports every answered request: route is the route table's pattern. */
void service_count_request(struct service *s, const char *method, const char *route, int status,
                           double seconds);
const char *service_version(void);

#endif
