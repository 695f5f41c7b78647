/* SPDX-License-Identifier: Apache-2.0
 * service.c: start and stop of everything behind service.h, and what concerns all of it: keys,
 * readiness, metrics. Start is recovery; a stop only makes the next one shorter. */
#include "daemon/backup.h"
#include "daemon/erasure.h"
#include "daemon/erasure_ledger.h"
#include "daemon/opendsr.h"
#include "daemon/scheduler.h"
#include "daemon/service_start.h"
#include "daemon/upload.h"
#include "daemon/views.h"

#include "daemon/keys.h"
#include "daemon/state.h"
#include "daemon/webhook.h"
#include "daemon/witness.h"
#include "lib/audit/note.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

const char *service_version(void)
{
        return UNLEARND_VERSION;
}

void service_keyed_hash(struct service *s, const void *data, size_t len, uint8_t out[32])
{
        keyed_hash(s->hash_key, data, len, out, 32);
}

void service_pseudonym(struct service *s, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES])
{
        pseudonym_of(s->pseudonym_key, id, len, out);
}

/* --- start --- */

static int lock_data_dir(struct service *s, struct errinfo *e)
{
        char path[PATH_SIZE];
        int err = path_format(path, e, "%s/lock", s->config.data_dir);
        if (err != 0)
                return err;
        s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (s->lock_fd < 0)
                return ul_fail_errno(e, "opening the data directory's lock");
        if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
                return ul_fail(e, UL_CONFLICT,
                               "another unlearnd serves %s; stop it, or give --data-dir",
                               s->config.data_dir);
        return 0;
}

/* A restore that was interrupted left a part of a data directory, which must not be served. */
static int check_restored(const char *data_dir, struct errinfo *e)
{
        char mark[PATH_SIZE];
        int err = path_format(mark, e, "%s/" RESTORE_MARK, data_dir);
        if (err == 0 && file_exists(mark))
                err = ul_fail(e, UL_CONFLICT,
                              "a restore into %s was not finished: run `unlearnctl restore` again",
                              data_dir);
        return err;
}

static int open_paths(struct service *s, struct errinfo *e)
{
        char real[PATH_SIZE];
        int err = make_dirs(s->config.data_dir, e);
        if (err != 0)
                return err;
        char *resolved = realpath(s->config.data_dir, NULL); /* workers get absolute paths */
        if (resolved == NULL)
                return ul_fail_errno(e, "resolving the data directory");
        err = path_format(real, e, "%s", resolved);
        free(resolved);
        if (err != 0)
                return err;
        memcpy(s->config.data_dir, real, sizeof s->config.data_dir);
        err = check_restored(real, e);
        if (err == 0)
                err = path_format(s->models_dir, e, "%s/models", real);
        if (err == 0)
                err = path_format(s->scratch_dir, e, "%s/scratch", real);
        return err == 0 ? lock_data_dir(s, e) : err;
}

/* The log's name is chosen once: the configured one, or a default, kept from the first start on. */
static int log_origin(struct service *s, char out[160], struct errinfo *e)
{
        struct buf kept = {0};
        struct txn *t = NULL;
        char host[64] = "";
        int err = store_write(s->store, &t, e);
        if (err != 0)
                return err;
        err = t_blob_get(t, "origin", &kept);
        if (err == 0 && kept.len > 0 && kept.len < 160) {
                (void)snprintf(out, 160, "%.*s", (int)kept.len, (const char *)kept.data);
                if (s->config.origin[0] != '\0' && strcmp(out, s->config.origin) != 0)
                        err = ul_fail_field(e, UL_CONFLICT, "audit.origin",
                                            "this log's origin is %s and cannot change", out);
        } else if (err == UL_NOT_FOUND || err == 0) {
                (void)gethostname(host, sizeof host - 1);
                if (s->config.origin[0] != '\0')
                        (void)snprintf(out, 160, "%s", s->config.origin);
                else
                        (void)snprintf(out, 160, "unlearnd.local/%s", host);
                err = t_blob_put(t, "origin", out, strlen(out));
        }
        buf_free(&kept, false);
        if (err == 0) {
                err = txn_commit(&t, e);
                CRASH_POINT("start.origin_kept");
                return err;
        }
        txn_abort(&t);
        return e->code != 0 ? err : ul_fail(e, err, "the log's origin cannot be read");
}

/* Says what is damaged, and the way out; the start ends with it. */
static int control_damaged(const struct service *s, struct errinfo *e)
{
        const struct errinfo why = *e;
        log_event(LOG_LEVEL_ERROR, "control_database_damaged",
                  "file=control.mdb detail=\"%s\" action=\"unlearnctl restore DIR --data-dir %s, "
                  "with the newest backup as DIR\"",
                  why.detail, s->config.data_dir);
        return ul_fail(e, why.code,
                       "control.mdb is damaged (%.120s); run: unlearnctl restore DIR --data-dir "
                       "%.80s",
                       why.detail, s->config.data_dir);
}

/* LMDB would take a damaged file as it is, and make a new one where it is gone. */
static int check_control(struct service *s, const char *path, bool *fresh, struct errinfo *e)
{
        struct store_found found;
        int err = store_check(path, &found, e);
        *fresh = found.empty;
        if (err == 0 && found.finished)
                log_event(
                        LOG_LEVEL_WARN, "commit_finished",
                        "file=control.mdb reason=\"the meta page of the last commit had not been "
                        "written or was damaged\" advice=\"look at the disk of the data directory "
                        "and at the kernel's log\"");
        /* models/ is made when the first transaction is durable */
        if (err == 0 && *fresh && file_exists(s->models_dir))
                err = ul_fail(e, UL_CORRUPT, "the file is missing or empty, and models/ is there");
        if (err == 0 && *fresh && file_exists(path)) /* a first start that was cut short */
                err = scrub_and_unlink(path, e);
        return err == UL_CORRUPT ? control_damaged(s, e) : err;
}

/* Whoever wants to hear of the log's entries hears of this one too. */
static int key_announced(void *arg, struct txn *t, const char *data, size_t len)
{
        metric_add(METRIC_AUDIT_ENTRIES, 1);
        return webhook_tell(arg, t, AUDIT_KEY_ROTATED, now_ms(), NULL, data, len);
}

static int open_log(struct service *s, const uint8_t seed[SIGN_SEED_BYTES], struct errinfo *e)
{
        char origin[160];
        struct txn *t = NULL;
        int err = log_origin(s, origin, e);
        if (err == 0) { /* one that is damaged is no fault of the database */
                err = key_log_settle(s->store, s->config.data_dir, origin, seed, key_announced, s,
                                     e);
                if (err != 0)
                        return err;
        }
        if (err == 0)
                err = store_read(s->store, &t, e);
        if (err == 0) {
                err = audit_open(t, origin, seed, &s->log, e);
                txn_abort(&t);
        }
        return err == UL_CORRUPT ? control_damaged(s, e) : err;
}

static void found_damaged(void *arg, const char *what)
{
        struct service *s = arg;
        char detail[64];
        (void)snprintf(detail, sizeof detail, "control.mdb: %.40s", what);
        health_begin(&s->health, HEALTH_DAMAGE, UL_CORRUPT, detail);
}

static int open_store(struct service *s, struct errinfo *e)
{
        char path[PATH_SIZE];
        uint8_t seed[SIGN_SEED_BYTES];
        bool fresh = false;
        int err = path_format(path, e, "%s/control.mdb", s->config.data_dir);
        if (err == 0)
                err = check_control(s, path, &fresh, e);
        if (err != 0)
                return err;
        err = key_load(s->config.data_dir, KEY_PSEUDONYM, fresh, s->pseudonym_key, e);
        if (err == 0)
                err = key_load(s->config.data_dir, KEY_LOG, fresh, seed, e);
        if (err == 0)
                err = store_open(path, s->config.map_bytes, &s->store, e);
        if (err == 0)
                store_watch(s->store, found_damaged, s);
        if (err == 0)
                err = key_recognise(s->store, KEY_PSEUDONYM, s->pseudonym_key, e);
        if (err != 0)
                goto out;
        keyed_hash(s->pseudonym_key, "idempotency", 11, s->hash_key, KEY_BYTES);
        err = open_log(s, seed, e);
out:
        wipe(seed, sizeof seed);
        return err;
}

/* A commit failed: what clients are told. Where LMDB gives up, what it holds is known only after
 * it is opened again, and start is recovery: the process ends. */
static int store_failed(void *arg, int err, struct errinfo *e)
{
        struct service *s = arg;
        if (store_broken(s->store))
                health_fail(&s->health, e->detail);
        else
                health_begin(&s->health, HEALTH_STORE, err, e->detail);
        int refused = health_accepts(&s->health, HEALTH_ERASES, e);
        return refused != 0 ? refused : err;
}

int service_submit(struct service *s, struct command *c, enum health_change change,
                   struct errinfo *e)
{
        /* The way out is a restore, which keeps what the ledger has, and nothing else. */
        if (s->ledger == NULL && health_stands(&s->health, HEALTH_DAMAGE))
                change = HEALTH_ADDS;
        int err = health_accepts(&s->health, change, e);
        return err != 0 ? err : writer_submit(s->writer, c, e);
}

bool service_failed(const struct service *s)
{
        return health_failed(&s->health);
}

/* A command of the start, waited for: what only the writer thread may do. */
struct start_command {
        struct command cmd;
        struct service *service;
        sem_t done;
        int err;
};

static void start_done(struct command *c, int err)
{
        struct start_command *p = (struct start_command *)c;
        p->err = err;
        (void)sem_post(&p->done);
}

static int at_writer(struct service *s, int (*run)(struct command *, struct txn *),
                     void (*committed)(struct command *), struct errinfo *e)
{
        struct start_command p = {.cmd = {.run = run, .committed = committed, .done = start_done},
                                  .service = s};
        if (sem_init(&p.done, 0, 0) != 0)
                return ul_fail_errno(e, "making a semaphore");
        int err = writer_submit(s->writer, &p.cmd, e);
        if (err == 0) {
                while (sem_wait(&p.done) != 0)
                        continue; /* EINTR */
                err = p.err;
                if (err != 0)
                        *e = p.cmd.e;
        }
        (void)sem_destroy(&p.done);
        return err;
}

static int nothing(struct command *c, struct txn *t)
{
        (void)c;
        (void)t;
        return 0;
}

static void mark_all(struct command *c)
{
        struct service *s = ((struct start_command *)c)->service;
        for (uint32_t i = 0; i < s->model_count; i++) /* nobody else changes the registry yet */
                s->models[i]->refresh = !atomic_load(&s->models[i]->deleting);
}

/* Every model's first snapshot. */
static int publish_all(struct service *s, struct errinfo *e)
{
        return at_writer(s, nothing, mark_all, e);
}

static int ledger_followed(struct command *c, struct txn *t)
{
        (void)t;
        ((struct start_command *)c)->service->ledger_due = true; /* noted by this commit */
        return 0;
}

static void finish_replay(struct service *s, bool (*stop_asked)(void))
{
        struct errinfo e = {0};
        bool scrubbed = false;
        ledger_wait_scrubbed(s, stop_asked, &scrubbed);
        if (scrubbed && at_writer(s, ledger_followed, NULL, &e) != 0)
                log_event(LOG_LEVEL_WARN, "ledger_mark_not_noted",
                          "detail=\"%s\" action=\"noted by a later commit\"", e.detail);
}

/* Deletions that a stop interrupted. */
static int resume_deletions(struct service *s)
{
        int err = 0;
        for (uint32_t i = 0; i < s->model_count && err == 0;) {
                struct model *m = s->models[i];
                if (!atomic_load(&m->deleting)) {
                        i++;
                        continue;
                }
                model_ref(m);
                registry_remove(s, m);
                err = scheduler_delete(s->scheduler, m, NULL, NULL);
        }
        return err;
}

int service_start(const struct config *c, bool (*stop_asked)(void), struct service **out,
                  struct errinfo *e)
{
        struct service *s = calloc(1, sizeof *s);
        if (s == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the service");
        s->config = *c;
        s->lock_fd = -1;
        pthread_rwlock_init(&s->registry_lock, NULL);
        pthread_mutex_init(&s->progress_lock, NULL);
        pthread_mutex_init(&s->feed_lock, NULL);
        health_init(&s->health);
        backup_init(s);
        int err = opendsr_start(s, e);
        if (err == 0)
                err = open_paths(s, e);
        if (err == 0)
                err = open_store(s, e);
        bool replayed = false;
        if (err == 0)
                err = told_start(s, e);
        if (err == 0)
                err = webhook_start(s, e);
        if (err == 0)
                err = witness_start(s, e);
        if (err == 0)
                err = recover(s, e);
        if (err == 0)
                err = ledger_start(s, &replayed, e);
        if (err == 0)
                err = backup_start(s, e);
        if (err == 0)
                err = predictor_create(c->predict_threads, &s->predictor, e);
        struct writer_hooks hooks = {.publish = told_published,
                                     .failed = store_failed,
                                     .before_commit = ledger_before_commit,
                                     .commit_failed = ledger_commit_failed,
                                     .arg = s};
        if (err == 0)
                err = writer_create(s->store, s->log, &hooks, &s->writer, e);
        if (err == 0)
                err = publish_all(s, e);
        if (err == 0)
                err = scheduler_create(s, e);
        if (err == 0)
                err = resume_deletions(s);
        if (err != 0) {
                service_stop(&s);
                return err;
        }
        *out = s;
        if (replayed)
                finish_replay(s, stop_asked);
        if (stop_asked())
                return 0;
        atomic_store(&s->ready, true);
        log_event(LOG_LEVEL_INFO, "started", "version=%s models=%u", UNLEARND_VERSION,
                  s->model_count);
        return 0;
}

void service_stop(struct service **ps)
{
        struct service *s = *ps;
        if (s == NULL)
                return;
        atomic_store(&s->ready, false);
        backup_stop(s);
        scheduler_stop(s->scheduler);
        writer_destroy(&s->writer);
        intake_forget(s);
        scheduler_destroy(s->scheduler);
        if (s->predictor != NULL)
                predictor_destroy(&s->predictor);
        while (s->model_count > 0)
                registry_remove(s, s->models[0]);
        free(s->models);
        while (s->progress != NULL) {
                struct progress *next = s->progress->next;
                free(s->progress);
                s->progress = next;
        }
        webhook_stop(s);
        witness_end(s);
        opendsr_stop(s);
        ledger_close(&s->ledger);
        if (s->log != NULL)
                audit_close(&s->log);
        told_stop(s);
        if (s->store != NULL)
                store_close(&s->store);
        if (s->lock_fd >= 0)
                (void)close(s->lock_fd);
        wipe(s->pseudonym_key, sizeof s->pseudonym_key);
        wipe(s->hash_key, sizeof s->hash_key);
        pthread_rwlock_destroy(&s->registry_lock);
        pthread_mutex_destroy(&s->progress_lock);
        pthread_mutex_destroy(&s->feed_lock);
        health_destroy(&s->health);
        pthread_mutex_destroy(&s->backup_lock);
        pthread_cond_destroy(&s->backup_idle);
        free(s);
        *ps = NULL;
}

bool service_alive(struct service *s, uint32_t ms)
{
        uint64_t now = mono_us();
        uint64_t limit = (uint64_t)ms * 1000;
        uint64_t writer = writer_heartbeat_us(s->writer);
        uint64_t loop = scheduler_heartbeat_us(s->scheduler);
        return (now < writer || now - writer < limit) && (now < loop || now - loop < limit);
}

/* --- predictions --- */

static void release_model(void *hold)
{
        model_unref(hold);
}

int service_predict_open(struct service *s, const char *model, struct predict **out,
                         struct errinfo *e)
{
        struct model *m = NULL;
        int err = registry_get(s, model, &m, e);
        if (err != 0)
                return err;
        err = predict_create(s->predictor, m->config, &m->encoding.e, m->cell, m, release_model,
                             out, e);
        if (err == UL_UNAVAILABLE)
                e->retry_after_s = estimate_retry_after(m);
        if (err != 0)
                model_unref(m);
        return err;
}

/* --- operations --- */

int service_ready(struct service *s, struct errinfo *e)
{
        if (!atomic_load(&s->ready))
                return ul_fail(e, UL_CLOSED, "the daemon is starting or stopping");
        if (!service_alive(s, 30000))
                return ul_fail(e, UL_UNAVAILABLE, "the writer or the loop does not move");
        return health_ready(&s->health, e);
}

void service_count_request(struct service *s, const char *method, const char *route, int status,
                           double seconds)
{
        (void)s;
        metric_request(method, route, status, seconds);
}

static void gauge_model(struct model *m, struct txn *t, struct metric_gauges *g)
{
        struct model_row row;
        if (t_model_get(t, m->config->name, &row, NULL) != 0)
                return;
        g->models++;
        g->records += row.records;
        g->damaged_shards += rows_damaged_shards(m);
        for (uint32_t i = 0; i < m->config->shards; i++) {
                struct shard_row shard;
                if (t_shard_get(t, m->id, i, &shard) != 0)
                        continue;
                g->dirty_shards += shard_dirty(&row, &shard);
                g->appended_slices += shard.slices - m->config->slices;
        }
}

int service_metrics(struct service *s, struct buf *out, struct errinfo *e)
{
        struct metric_gauges g = {0};
        struct model **models = NULL;
        uint32_t count = 0;
        struct txn *t = NULL;
        int err = registry_all(s, &models, &count, e);
        if (err == 0)
                err = told_read(s, &t, e);
        if (err != 0) {
                registry_release(models, count);
                return err;
        }
        for (uint32_t i = 0; i < count; i++)
                gauge_model(models[i], t, &g);
        pending_gauges(t, &g);
        (void)t_suppression_count(t, &g.suppressions);
        (void)t_delivery_count(t, &g.deliveries);
        g.audit_entries = audit_size(t);
        witness_gauges(s, t, &g);
        txn_abort(&t);
        registry_release(models, count);
        g.running_jobs = scheduler_running(s->scheduler);
        store_usage(s->store, &g.store_used_bytes, &g.store_map_bytes);
        struct errinfo ignored = {0};
        g.store_damaged = store_damaged(s->store) != NULL;
        g.ready = service_ready(s, &ignored) == 0;
        for (enum health_reason r = 0; r < HEALTH_REASONS; r++)
                g.faults[r] = (struct metric_fault){.reason = health_name(r),
                                                    .stands = health_stands(&s->health, r),
                                                    .count = health_count(&s->health, r)};
        metrics_render(&g, out);
        return out->failed ? ul_fail(e, UL_NOMEM, "no memory for the metrics") : 0;
}
