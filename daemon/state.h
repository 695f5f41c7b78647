/* SPDX-License-Identifier: Apache-2.0
 * state.h: what the files behind service.h share: the service, its models, and who may touch which
 * field. Nothing outside daemon/ includes it. One section a file; lock order: registry_lock, then
 * progress_lock, never the other way. */
#ifndef UNLEARND_DAEMON_STATE_H
#define UNLEARND_DAEMON_STATE_H

#include "config/config.h"
#include "daemon/encoding.h"
#include "daemon/health.h"
#include "daemon/metrics.h"
#include "daemon/predict.h"
#include "daemon/service.h"
#include "daemon/snapshot.h"
#include "daemon/writer.h"
#include "lib/audit/log.h"
#include "lib/backup/manifest.h"
#include "lib/ledger/ledger.h"
#include "lib/records/rowfile.h"
#include "lib/signing/rsa.h"
#include "lib/store/shown.h"
#include "lib/store/tables.h"
#include "lib/util/file.h"
#include <pthread.h>
#include <stdatomic.h>

/* A model at run time. Counted references; the registry holds one. */
struct model {
        _Atomic uint32_t refs;
        /* set once */
        struct service *service;
        uint32_t id;    /* of this model, never reused */
        uint32_t scope; /* of its name, for ever: a suppression outlives the model it was for */
        struct model_config *config;
        uint8_t key[KEY_BYTES]; /* placement and training draw from it */
        uint8_t config_hash[SHA256_BYTES];
        char root[PATH_SIZE]; /* models/NAME */
        int64_t created_ms;
        struct snapshot_cell *cell;
        struct encoding_holder encoding;
        /* writer thread (start: before it exists) */
        struct served **served; /* [shards * served_slices]: loaded clean checkpoints */
        uint32_t served_slices;
        bool refresh;   /* its snapshot must be published with this group */
        bool untrimmed; /* rows of a failed upload stand past the counts: no upload before they go
                         */
        /* any thread */
        _Atomic bool deleting;
        _Atomic uint64_t damaged[SHARDS_MAX / 64]; /* a bit a shard: see damage.c */
        _Atomic uint32_t unread; /* constituents left out as their checkpoint could not be read */
        _Atomic uint64_t samples_per_second; /* last seen of training: the cost estimate's unit */
};

/* Progress of a run, for GET /v1/jobs; kept in memory alone. */
struct progress {
        uint8_t job[ULID_BYTES];
        uint32_t shard;
        uint64_t done, total; /* sample steps */
        struct progress *next;
};

struct scheduler;
struct outgoing;
struct webhooks;
struct cosigner;
struct verification;
struct call_off;

struct service {
        /* set once at start, then read by any thread */
        struct config config;
        struct store *store;
        struct shown *shown; /* the store as it is served: told.c */
        struct audit_log *log;
        struct predictor *predictor;
        struct writer *writer;
        struct scheduler *_Atomic scheduler; /* the writer and the predictor run before it */
        uint8_t pseudonym_key[KEY_BYTES];
        uint8_t hash_key[KEY_BYTES]; /* idempotency keys and bodies */
        char models_dir[PATH_SIZE];
        char scratch_dir[PATH_SIZE]; /* a folder a run; same file system as models_dir */
        int lock_fd;                 /* held for life: one daemon a data directory */
        struct webhooks *webhooks;
        struct cosigner *cosigners;        /* [config.witness_count], in that order */
        struct rsa_signer *opendsr_signer; /* NULL: OpenDSR is not spoken */
        char opendsr_base_url[512];
        /* writer thread (start: before it exists) */
        struct ledger *ledger; /* NULL: none is kept */
        bool ledger_appended;  /* by the group that is about to commit */
        bool ledger_noted;     /* by that group: how far the ledger goes */
        bool ledger_due;       /* the next commit notes it */
        bool delivery_made;    /* by the present group */
        /* shared, under registry_lock; in name order */
        pthread_rwlock_t registry_lock;
        struct model **models;
        uint32_t model_count;
        /* shared, under progress_lock */
        pthread_mutex_t progress_lock;
        struct progress *progress;
        /* shared, under backup_lock */
        pthread_mutex_t backup_lock;
        pthread_cond_t backup_idle;
        bool backup_busy;
        /* any thread */
        _Atomic(struct call_off *) called_off; /* staged uploads whose end did not commit */
        struct health health;
        _Atomic bool unsettled; /* the writer thread has something to do again: see probe.c */
        _Atomic bool backup_cancelled;
        /* shared, under feed_lock */
        pthread_mutex_t feed_lock;
        struct event_watch *watches;
        /* loop thread */
        uint64_t beat_us;
        /* any thread */
        _Atomic uint64_t told; /* entries of the log that may be told of */
        _Atomic uint64_t progress_us;
        _Atomic uint32_t progress_number, beat_number; /* how often there was one */
        _Atomic bool ready;
        _Atomic uint32_t intakes;
        _Atomic uint32_t going;      /* models that are being deleted */
        _Atomic bool deliveries_due; /* the queue has grown */
};

/* writer_submit for a change that a client asked for: refused while health.h says so. */
int service_submit(struct service *s, struct command *c, enum health_change change,
                   struct errinfo *e);

/* The state of a shard in words of DESIGN.md: dirty is "clean checkpoints do not reach its end". */
static inline bool shard_dirty(const struct model_row *model, const struct shard_row *shard)
{
        return model->trained && shard->clean < shard->slices;
}

/* --- registry.c --- */
/* Takes the configuration in every case. */
int model_create(struct service *s, uint32_t id, uint32_t scope, struct model_config *config_take,
                 int64_t created_ms, struct model **out, struct errinfo *e);
/* What suppressions for models of this name are kept under; `make`: where there is none yet. */
int model_scope(struct txn *t, const char *name, bool make, uint32_t *scope);
struct model *model_ref(struct model *m);
void model_unref(struct model *m);
/* NULL: no such model, or it is being deleted. The caller unrefs. */
struct model *registry_find(struct service *s, const char *name);
struct model *registry_find_id(struct service *s, uint32_t id);
/* registry_find that fails with UL_NOT_FOUND and says so. */
int registry_get(struct service *s, const char *name, struct model **out, struct errinfo *e);
int registry_add(struct service *s, struct model *m_take, struct errinfo *e);
void registry_remove(struct service *s, const struct model *m);
/* References to all models, in name order, into an allocated array; registry_release frees it. */
int registry_all(struct service *s, struct model ***out, uint32_t *count, struct errinfo *e);
void registry_release(struct model **models, uint32_t count);

/* --- told.c: what of the store is served, and may be told of --- */
int told_start(struct service *s, struct errinfo *e);
void told_stop(struct service *s);
void told_published(void *service); /* the writer's hook: serves what was committed */
/* store_read for whatever others are shown: all that it sees is served, and so the last commit may
 * be missing. The writer thread, which serves it, is shown that too: there it is store_read. */
int told_read(struct service *s, struct txn **out, struct errinfo *e);

/* --- feed.c --- */
void feed_told(struct service *s, uint64_t size); /* so many entries may be told of */
void feed_progress(struct service *s);            /* a job went on; any thread */
void feed_beat(struct service *s);                /* loop thread, at every look */

/* --- serving.c: from what the store says is clean to a snapshot. Writer thread (or start). --- */
/* Builds and publishes the snapshot of what is clean now. A checkpoint that cannot be read is left
 * out and its shard rebuilt: what is served is always exact. */
void serving_publish(struct model *m);
/* The same for every model marked `refresh`: the writer's hook. */
void serving_publish_marked(void *service);
/* Forgets loaded checkpoints of a shard from a slice on (wiped with their last reader). */
void serving_drop(struct model *m, uint32_t shard, uint32_t from_slice);
void serving_clear(struct model *m);

/* --- damage.c: any thread --- */
/* Rows of the shard cannot be trusted: it is out of service. `detail`: which. Said once. */
void rows_damaged(struct model *m, uint32_t shard, const char *detail);
bool rows_known_damaged(const struct model *m, uint32_t shard);
void rows_try_again(struct model *m, uint32_t shard); /* they may be whole now */
uint32_t rows_damaged_shards(const struct model *m);
/* Opens a row file for erasing and trimming; a damaged header is reported and does not matter:
 * *whole (may be NULL) is false then. UL_NOT_FOUND; UL_CORRUPT for a file that is another slice's.
 */
int rows_open_to_erase(struct model *m, uint32_t shard, uint32_t slice, struct rowfile **out,
                       bool *whole, struct errinfo *e);
/* The checkpoint after the slice cannot be read: the shard is rolled back below it and rebuilt.
 * False: that could not be asked for now; whoever reads the checkpoint next finds it again. */
bool checkpoint_damaged(struct model *m, uint32_t shard, uint32_t slice, const char *detail);

/* --- effects.c: what memory must know of a command once it is committed --- */
struct effects {
        struct effect_drop {
                struct model *model; /* referenced */
                uint32_t shard;
                uint32_t from_slice; /* its loaded checkpoints from here on are forgotten */
        } * drops;
        uint32_t count, cap;
        bool wake; /* scrubs or jobs are waiting for the loop */
};
int effects_drop(struct effects *fx, struct model *m, uint32_t shard, uint32_t from_slice);
void effects_apply(struct service *s, struct effects *fx); /* after the commit; clears */
void effects_clear(struct effects *fx);

/* --- erase.c, erase_index.c: one erasure inside a transaction --- */
/* What an erasure found in one shard. */
struct hit {
        struct model *model; /* borrowed from the hits' models */
        uint32_t shard;
        uint32_t slice;   /* the lowest */
        uint64_t records; /* 0: an earlier erasure took them, and the shard waits for its retrain */
        uint32_t followed; /* where records is 0: the lowest slice that the earlier one touched */
        uint32_t scrubs;   /* targets in t_scrub that are rows of this shard */
        uint32_t from;     /* the lowest whose checkpoint goes */
        bool covered;      /* training covers it: the erasure waits for its retrain */
        bool rolled_back;  /* a checkpoint that was clean is not any more */
};
struct hits {
        struct hit *hit;
        uint32_t count, cap;
        uint64_t matched;
        struct model **models; /* [model_count], referenced */
        uint32_t model_count;
        uint32_t scope_count; /* the first ones: where subjects are looked for */
        uint32_t *uploads;    /* [upload_count] staged uploads that were hit and called off */
        uint32_t upload_count;
        uint8_t (*follows)[ULID_BYTES]; /* [follow_count] earlier erasures of the same people */
        uint32_t follow_count;
        uint8_t (*noted)[PSEUDONYM_BYTES]; /* [noted_count] whose records it takes one by one */
        uint32_t noted_count;
        bool going;           /* all models are asked for, and some are being deleted */
        uint32_t going_count; /* targets in t_scrub that end with such a model */
};
/* A scrub target beside those of tables.h: an earlier erasure (named in the key's pseudonym, model
 * 0) that took the data already and has not overwritten it yet. */
enum { SCRUB_FOLLOW = 5 };
_Static_assert((int)PSEUDONYM_BYTES == (int)ULID_BYTES,
               "an erasure's id stands in a pseudonym's place");
/* Resolves r->models (all where none is named). UL_INVALID names the field. */
int hits_scope(struct hits *h, struct service *s, const struct erase_request *r, struct errinfo *e);
/* Looks everything up; `id` NULL: only counts (dry run), else tombstones and fills t_scrub. */
int hits_collect(struct hits *h, struct txn *t, const struct erase_request *r, const uint8_t *id,
                 struct errinfo *e);
void hits_clear(struct hits *h);
/* The hit of this shard, a new one where there is none; NULL: no memory. */
struct hit *hit_of(struct hits *h, struct model *m, uint32_t shard);
int hits_scrub(struct txn *t, const uint8_t *id, uint32_t model, enum scrub_kind kind,
               const uint8_t pseudonym[PSEUDONYM_BYTES], const struct scrub_row *row);

/* --- overlap.c: whom an earlier erasure, or the deletion of a model, is taking away already --- */
/* By the suppression that the earlier one made, before it becomes this erasure's. */
int overlap_suppressed(struct hits *h, struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES],
                       struct model *m, enum suppression_kind kind, const uint8_t *id);
/* The same in every model of the scope, and earlier erasures of the person's records. */
int overlap_subject(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                    const uint8_t *id);
/* A record of this person goes by itself; overlap_keep() records all of them at the end. */
int overlap_note(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                 const uint8_t *id);
int overlap_keep(const struct hits *h, struct txn *t, const uint8_t *id);
/* The person in models that are being deleted. */
int overlap_going(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                  const uint8_t *id);
/* The suppression that the erasure made of this pseudonym is lifted: what overlaps with it is found
 * without, from now on. */
int overlap_lifted(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES],
                   const uint8_t erasure[ULID_BYTES]);
/* A record by its own name. */
int overlap_record(struct hits *h, struct txn *t, const uint8_t record[PSEUDONYM_BYTES],
                   struct model *m, const uint8_t *id);
/* It is completed: nobody has to wait for it any more. */
int overlap_end(struct txn *t, const uint8_t id[ULID_BYTES]);
int64_t erasure_default_deadline(enum erase_regulation regulation, int64_t received_ms);

/* Where an erasure comes from: a client now, a release, or the ledger. */
struct erasure_origin {
        uint8_t id[ULID_BYTES];
        uint8_t executed[ULID_BYTES]; /* see struct erasure_row */
        int64_t accepted_ms;
        const struct erasure_row *held; /* its row under hold; NULL: it is new */
        bool replayed;                  /* from the ledger: the database had forgotten it */
};
/* The row of an erasure that was accepted and not executed. */
struct erasure_row erasure_new_row(const struct erase_request *r, int64_t accepted_ms);
/* Appends erasure.accepted (with "hold" where it is held), .released or .replayed. */
int erasure_audit_accepted(struct service *s, struct txn *t, const struct erase_request *r,
                           const struct erasure_origin *from, const struct erasure_row *row);
/* An erasure that the ledger knows and the database does not, or (`held`) only under hold. */
int erasure_replay(struct service *s, struct txn *t, const struct ledger_entry *x,
                   const struct erasure_row *held, struct errinfo *e);
/* Executes a held erasure, as x says; fx is the caller's to apply. */
int erasure_release(struct service *s, struct txn *t, const struct ledger_entry *x,
                    const struct erasure_row *held, const char *actor, struct effects *fx,
                    struct errinfo *e);

/* --- hold.c: erasures that wait for somebody's decision --- */
/* Records the request without executing it; *row is what was recorded. */
int erasure_hold(struct service *s, struct txn *t, const struct erase_request *r,
                 const struct erasure_origin *from, struct erasure_row *row, struct errinfo *e);

/* --- pending.c: erasures that have not ended, by deadline --- */
int pending_begin(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row);
/* Gives it another deadline, before the present one has passed. */
int pending_extend(struct txn *t, const uint8_t id[ULID_BYTES], struct erasure_row *row,
                   int64_t deadline_ms);
/* It is completed or refused: what is late is noted. The caller puts the row. */
int pending_end(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                struct erasure_row *row, int64_t ended_ms);
void pending_gauges(struct txn *t, struct metric_gauges *g);

/* --- reasons.c: the codes that refusals and extensions give as their reason --- */
enum reason_use { REASON_REFUSAL, REASON_EXTENSION };
/* The number to store; 0: no such code for this use under this regulation. */
uint8_t reason_find(enum reason_use use, const char *code, enum erase_regulation regulation);
const char *reason_name(enum reason_use use, uint8_t reason); /* NULL: none */

/* --- ledger_request.c --- */
/* The entry of a request; its arrays but the records (free() them) are the request's. UL_NOMEM. */
int ledger_entry_of(const struct erase_request *r, const uint8_t id[ULID_BYTES],
                    struct ledger_entry *out);
/* What an entry asks for, of the models that exist: those of other names get the suppressions. The
 * actor is the caller's to set. Clear with erase_request_clear. */
int ledger_request(struct service *s, struct txn *t, const struct ledger_entry *x,
                   struct erase_request *out, struct errinfo *e);
/* When an erasure took effect: its row's `executed`; its id where there is no row. */
int erasure_order(struct txn *t, const uint8_t id[ULID_BYTES], uint8_t out[ULID_BYTES]);
/* The same of a suppression: an imported one took effect with its import. */
int suppression_order(struct txn *t, const struct suppression_row *row, uint8_t out[ULID_BYTES]);

/* --- opendsr.c --- */
/* Reads the signing key, where the configuration speaks OpenDSR. */
int opendsr_start(struct service *s, struct errinfo *e);
void opendsr_stop(struct service *s);
void opendsr_request_free(struct opendsr_request *r);
/* Like idempotency_check, for a request that came by OpenDSR; *row names the erasure. */
int opendsr_check(struct service *s, struct txn *t, const struct erase_request *r,
                  struct idempotency_row *row, struct errinfo *e);
int opendsr_keep(struct service *s, struct txn *t, const struct erase_request *r,
                 const uint8_t id[ULID_BYTES]);
/* --- opendsr_callback.c: the status of an erasure changed: whoever asked for it by OpenDSR is told
 * at every address that it gave. */
int opendsr_tell(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                 const struct erasure_row *row);

/* --- recalls.c: in a transaction --- */
/* From this generation on the shard is served from a checkpoint of to_slice, which was below
 * from_slice before; up to this one it was, and is below from_slice after. */
int served_begin(struct txn *t, const struct model *m, uint32_t shard, uint32_t from_slice,
                 uint32_t to_slice, uint64_t generation);
int served_end(struct txn *t, const struct model *m, uint32_t shard, uint32_t from_slice,
               uint32_t to_slice, uint64_t generation);
/* Notes that an erasure withdraws the generations before this one, if what it took was ever served.
 */
int recall_note(struct txn *t, const struct model *m, const struct hits *h,
                const uint8_t id[ULID_BYTES], uint64_t generation, int64_t now);
/* A backup was restored: which generations were served since (since_ms: not after that ended), and
 * with whom, is not known. Every model's count goes on far beyond them, so that none of them is
 * given to another model; and every slice is noted as served in them, so that they are withdrawn by
 * whatever erasure comes. Before anything is served. */
int served_lost(struct service *s, struct txn *t, int64_t since_ms, struct errinfo *e);

/* --- lift.c --- */
/* Takes a pseudonym's suppressions away and remembers the lift under `id`; *removed counts. A lift
 * that is replayed leaves those of later erasures. */
int suppression_lift(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                     int64_t lifted_ms, const uint8_t pseudonym[PSEUDONYM_BYTES], const char *actor,
                     bool replayed, uint32_t *removed);

/* --- import_apply.c --- */
/* One step of an import: one transaction, one line of the ledger, one entry of the log. */
struct import_step {
        uint8_t id[ULID_BYTES];
        const char *actor; /* borrowed */
        bool replayed;     /* from the ledger */
        /* what came of it */
        uint32_t taken; /* of the entries that were offered */
        uint32_t already, lifted, called_off;
        uint32_t added_count, held_count;
        struct ledger_suppression added[LEDGER_IMPORT_MAX];
        uint32_t held[LEDGER_IMPORT_MAX]; /* their places among those offered */
};
/* Takes entries (at most LEDGER_IMPORT_MAX) until all are taken or the budget (0: none) is spent.
 */
int import_apply(struct service *s, struct txn *t, const struct ledger_suppression *entries,
                 uint32_t count, int64_t imported_ms, uint64_t budget_us, struct import_step *step,
                 struct errinfo *e);

/* --- ledger_write.c: the erasure ledger while the daemon serves; see there for the order --- */
/* Adds the line of an erasure to a command's ledger lines, unless it was recorded before. */
void ledger_note_erasure(struct service *s, struct buf *lines, const struct erase_request *r,
                         const struct erasure_view *v);
void ledger_note_lift(struct service *s, struct buf *lines, const uint8_t id[ULID_BYTES],
                      int64_t lifted_ms, const uint8_t pseudonym[PSEUDONYM_BYTES]);
void ledger_note_import(struct service *s, struct buf *lines, const uint8_t id[ULID_BYTES],
                        int64_t imported_ms, struct ledger_suppression *suppressions,
                        uint32_t count);
/* The writer's hooks. */
int ledger_before_commit(void *service, const struct command *first, struct txn *t,
                         struct errinfo *e);
void ledger_commit_failed(void *service);
/* How far the database has followed the ledger; *known false: never. */
int ledger_mark_get(struct txn *t, struct ledger_mark *out, bool *known);
int ledger_mark_put(struct txn *t, const struct ledger_mark *mark); /* NULL: no ledger any more */

/* --- ledger_start.c: the ledger at start --- */
/* Opens the ledger and replays what the database does not know (a restored backup), or completes a
 * ledger that lost what the database knows. Before the writer exists. *replayed: scrubs of erasures
 * from the ledger may be under way, and how far it was followed is noted only after them. */
int ledger_start(struct service *s, bool *replayed, struct errinfo *e);
/* Waits until they are done, then sets *scrubbed, or until a stop is asked for: the loop runs,
 * nobody is served yet. */
void ledger_wait_scrubbed(struct service *s, bool (*stop_asked)(void), bool *scrubbed);

/* --- ledger_complete.c --- */
/* Appends what the database knows and the ledger does not; *count entries. */
int ledger_complete(struct service *s, uint32_t *count, struct errinfo *e);

/* --- estimate.c --- */
int estimate_retrain(struct model *m, struct txn *t, uint32_t shard, uint32_t from,
                     double *seconds);
/* Seconds until the shard that is next is likely clean again: advice while nothing is left. */
uint32_t estimate_retry_after(struct model *m);

/* --- complete.c: the last steps of an erasure, in a transaction --- */
/* `scrubs` scrub targets of the erasure are done. */
int erasure_scrubbed(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                     uint32_t scrubs);
/* Completes erasures that wait for a clean shard, at most `max`; *left: more wait. */
int erasures_complete_shard(struct service *s, struct txn *t, uint32_t model, uint32_t shard,
                            uint32_t max, bool *left);
/* Ends a fresh erasure at once where nothing is left to do for it. */
int erasure_settle(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                   struct erasure_row *row, struct erasure_affected *affected, int64_t now);

/* --- evidence.c: what an erasure's certificate says, kept from step to step --- */
/* In roll_back: the digests of the checkpoints that are given up, slice by slice from `first` on.
 */
struct evidence {
        uint32_t first, count;
        struct buf digests;
};
void evidence_took(struct evidence *ev, uint32_t slice, const struct slice_row *row);
int evidence_forgotten(struct evidence *ev, struct txn *t, const uint8_t id[ULID_BYTES],
                       uint32_t model, uint32_t shard); /* also frees */
/* The shard is clean, or its model is being deleted. */
int evidence_ended(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model,
                   uint32_t shard);
/* --- certificate.c --- */
/* Records the certificate of an erasure that is completed by this transaction, and appends the log
 * entry that commits to it. */
int certificate_record(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                       const struct erasure_row *row, const struct erasure_affected *affected);

/* --- views.c --- */
const char *regulation_name(uint8_t regulation); /* NULL: none */
int view_erasure(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                 struct erasure_view *out);
const char *erasure_state_name(uint8_t state);
bool erasure_overdue(const struct erasure_row *row); /* ended too late, or now is too late */
int view_erasure_row(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                     const struct erasure_affected *affected, struct erasure_view *out);
int view_model(struct model *m, struct txn *t, struct model_view *out);
int view_job(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
             const struct job_row *row, const char *result, size_t result_len,
             struct job_view *out);
/* The slice that a shard is served from; 0: it is left out. */
int view_served_from(struct txn *t, uint32_t model, uint32_t shard, uint32_t *slice);

/* --- idempotency.c: inside a transaction --- */
/* 0: not seen, UL_EXISTS: replay (row holds the resource), UL_MISMATCH, or the store's error. */
int idempotency_check(struct txn *t, const struct idempotency *idem, struct idempotency_row *row,
                      struct errinfo *e);
int idempotency_keep(struct txn *t, const struct idempotency *idem, const char *resource,
                     uint32_t status);

/* --- events.c: audit entries --- */
struct event {
        struct buf data;
        struct json_writer w;
};
/* Opens the data object; members are written through ev->w; event_append closes and appends it. */
void event_begin(struct event *ev);
void event_ulid(struct event *ev, const char *key, const uint8_t id[ULID_BYTES]);
int event_append(struct event *ev, struct service *s, struct txn *t, const char *type,
                 const char *actor, const struct audit_keys *keys, uint64_t *index);
/* Adds every model that an erasure touched to what its entry is found by. *models: free() it after
 * the entry was appended. */
int affected_models(struct txn *t, const struct erasure_affected *affected, uint32_t count,
                    const char ***models, struct audit_keys *keys);

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
/* Writer thread, between groups: takes what a failed batch left in row files off the disk. Where
 * that fails too, no upload to the model is accepted until it is done (probe.c). */
void upload_undo(struct model *m);
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
/* Removes index entries of a staged upload after `after`, a bounded number; *left: call again. The
 * row files are trimmed by upload_trim, before the last step. */
struct upload_abort {
        uint32_t upload;
        bool started;
        uint8_t after[PSEUDONYM_BYTES];
};
int upload_abort_step(struct txn *t, struct model *m, struct upload_abort *a, bool *left);
/* Overwrites and cuts off what stands in the row files past the committed (and staged) counts. */
int upload_trim(struct model *m, bool keep_staged, struct errinfo *e);
/* The id of the model's staged upload, 0 where there is none. */
int upload_staged(struct txn *t, uint32_t model, uint32_t *upload);
/* Where a record of this row stands: is it in an upload that has not committed? */
int record_staged(struct txn *t, const struct record_row *row, bool *staged);
void intake_result_error(struct intake_result *r, uint64_t line, const struct errinfo *why);

/* --- intake.c --- */
/* Writer thread: calls off again what could not be (probe.c). */
void intake_call_off_again(struct service *s);
/* At the end; the next start calls every staged upload off. */
void intake_forget(struct service *s);

/* --- train.c: what a job does to the store --- */
enum run_kind { RUN_TRAIN, RUN_VERIFY };
struct run_stage {
        uint32_t slice;
        uint8_t file_hash[SHA256_BYTES];
        uint8_t data_hash[SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
        uint64_t records;
};
/* One execution of a worker for one shard. */
struct run {
        struct run *next;
        struct service *service;
        struct model *model; /* referenced */
        enum run_kind kind;
        uint8_t id[ULID_BYTES];  /* of the run: its scratch folder */
        uint8_t job[ULID_BYTES]; /* of the job that clients see */
        uint32_t shard;
        /* by run_prepare, the writer thread's until that is done */
        uint32_t from, slices;
        uint64_t fence;
        uint8_t parent[SHA256_BYTES];
        struct job_slice *slice; /* [slices], owned */
        uint64_t cost;           /* sample steps */
        char scratch[PATH_SIZE];
        char kernel[32];
        /* what came of it */
        struct run_stage *stages; /* [stage_count], cap slices */
        uint32_t stage_count;
        int err;
        struct errinfo e;
        uint64_t started_us;
        /* loop thread */
        struct execution *execution;
        struct run_command *command; /* its commands, one after another; owned */
        double fraction;             /* done, as the worker says */
        bool killed;
        bool preempted;   /* killed for a shard whose deadline is nearer */
        bool unpublished; /* checkpoints may have been renamed that no commit knows */
        bool unrecorded;  /* its own job is over, and its row does not say so yet */
        bool recording;   /* a command that says it is at the writer */
        bool leaving;     /* ended; only its files and its job's row are not */
        bool parked;      /* checked, and to be published once nothing is held */
        bool publishing;  /* at the writer */
        /* writer thread, by run_prepare */
        bool replaces; /* a checkpoint that is served stands where it publishes one */
        /* writer thread, by run_publish */
        bool fenced; /* some of its stages were refused */
        bool whole;  /* all its stages are published; the shard may have a slice more by now */
        bool clean;  /* the shard is clean now */
};
void run_destroy(struct run **r);
/* Marks the shard as in training under a new fence and fills `r` (from, slices, parent...).
 * UL_CONFLICT: nothing to do for the shard any more. Creates a retrain job unless the shard belongs
 * to a training that was asked for. */
int run_prepare(struct run *r, struct txn *t, struct errinfo *e);
/* Renames checkpoints into place (verified), records them, completes what waited. */
int run_publish(struct run *r, struct txn *t, struct effects *fx, struct errinfo *e);
/* The model's training that was asked for: its job, and the shards that it still waits for. */
struct training {
        uint8_t job[ULID_BYTES];
        uint8_t left[SHARDS_MAX / 8];
};
int training_get(struct txn *t, uint32_t model, struct training *out);      /* UL_NOT_FOUND: none */
int training_put(struct txn *t, uint32_t model, const struct training *tr); /* NULL: it is over */
bool training_has(const struct training *tr, uint32_t shard);
uint32_t training_left(const struct training *tr);
/* One shard of the training or compaction that was asked for is done, or given up: `failed` says
 * why. One whose compaction is not over is not done. */
int training_less(struct service *s, struct txn *t, struct model *m, uint32_t shard,
                  const char *failed);
int job_end(struct txn *t, const uint8_t id[ULID_BYTES], enum job_state state, const char *error,
            const char *result, size_t result_len);

/* --- scheduler.c and the files beside it: the loop thread --- */
/* Puts it into the service, where the writer thread may find it at once. */
int scheduler_create(struct service *s, struct errinfo *e);
/* From any thread: look again at what is dirty, to be scrubbed, to be deleted. */
void scheduler_wake(struct scheduler *k);
/* Kills what runs, joins the loop. The writer must still run. */
void scheduler_stop(struct scheduler *k);
/* After the writer's end: its last commands still wake a stopped scheduler. */
void scheduler_destroy(struct scheduler *k);
uint64_t scheduler_heartbeat_us(const struct scheduler *k);
/* A verification of these shards (copied), made before its job is, so that a job never lacks one.
 * NULL: no memory. */
struct verification *verification_create(struct model *m, const uint32_t *shards, uint32_t count);
void verification_destroy(struct verification **v);
/* From any thread: begins it; the job's row exists already. */
void scheduler_verify(struct scheduler *k, struct verification *take,
                      const uint8_t job[ULID_BYTES]);
/* From any thread: scrub and purge a model that is marked `deleting`; done (may be NULL) after it.
 */
int scheduler_delete(struct scheduler *k, struct model *m_take, service_model_done done, void *arg);
uint32_t scheduler_running(const struct scheduler *k);
/* From another thread, while the loop runs: from its return on (until it is called with false) no
 * committed row is overwritten and no checkpoint unlinked. A checkpoint that a commit knows is
 * never replaced either: its shard is not trained before its scrubs are done. */
void scheduler_hold(struct scheduler *k, bool held);

/* --- backup.c --- */
void backup_init(struct service *s);
/* Removes what a backup that was interrupted left below backup_dir. */
int backup_start(struct service *s, struct errinfo *e);
/* Breaks off what runs; the writer and the loop still run. */
void backup_stop(struct service *s);

/* --- backup_copy.c: the files of one backup; on a thread of its own --- */
struct backup_progress {
        struct service *service;
        uint8_t job[ULID_BYTES];
        uint64_t done, total; /* bytes */
};
/* Fills `dir` (empty, exists) with a consistent copy, durable but for its own name. */
int backup_copy(struct backup_progress *p, const char *dir, bool with_keys,
                struct backup_manifest *out, struct errinfo *e);

/* --- recover.c --- */
/* Start is recovery: trims row files, removes what no commit knows, drops damaged checkpoints. */
int recover(struct service *s, struct errinfo *e);

/* --- progress.c --- */
void progress_set(struct service *s, const uint8_t job[ULID_BYTES], uint32_t shard, uint64_t done,
                  uint64_t total);
void progress_end(struct service *s, const uint8_t job[ULID_BYTES], uint32_t shard);
/* The sum of the fractions done of the job's runs under way. */
double progress_get(struct service *s, const uint8_t job[ULID_BYTES]);

#endif
