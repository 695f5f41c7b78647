/* SPDX-License-Identifier: Apache-2.0
 * state.h: what the files behind service.h share: the service, its models, who may touch which
 * field, and what all of them need (a section a file). What fewer need has headers of its own
 * beside it: erasure.h, upload.h, run.h... Nothing outside daemon/ includes any of them. Lock
 * order: registry_lock, then progress_lock, never the other way. */
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
#include "lib/records/rowfile.h"
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

struct ledger;
struct rsa_signer;
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
void slice_damaged(struct model *m, uint32_t shard, uint32_t slice, const struct errinfo *why);
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
