/* SPDX-License-Identifier: Apache-2.0
 * runs.c: one worker for one shard, from "the shard is dirty" to "its checkpoints are published and
 * its scratch folder is gone". The life of a run:
 *
 *   prepare (writer: fence, slices) -> job file -> worker -> check what it wrote -> publish
 * (writer)
 *   -> scrub the scratch folder -> gone
 *
 * A run under a stale fence is killed and takes the same way: what the erasure did not reach is
 * published. It knows nothing of HTTP or of erasures beyond the fence. */
#include "daemon/loop.h"
#include "daemon/run.h"
#include "daemon/scheduler.h"

#include "lib/checkpoint/checkpoint.h"
#include "lib/sisa/job.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        BACKOFF_MAX_MS = 300000,
        FAILURES_MAX = 3, /* of one shard in a row, before an operator is told */
        LEAVE_AGAIN_US = 1000000,
};

struct run_command {
        struct loop_command lc;
        struct run *run;
};

static void submit(struct run *r, int (*run)(struct loop_command *, struct txn *),
                   void (*back)(struct loop_command *, int))
{
        *r->command = (struct run_command){.lc = {.run = run, .back = back}, .run = r};
        loop_submit(r->service->scheduler, &r->command->lc);
}

struct run *run_find(struct scheduler *k, uint32_t model, uint32_t shard)
{
        for (struct run *r = k->runs; r != NULL; r = r->next)
                if (r->model->id == model && r->shard == shard)
                        return r;
        return NULL;
}

uint32_t runs_of(struct scheduler *k, uint32_t model)
{
        uint32_t n = 0;
        for (const struct run *r = k->runs; r != NULL; r = r->next)
                n += r->model->id == model;
        return n;
}

bool runs_free(const struct scheduler *k)
{
        uint32_t n = 0;
        for (const struct run *r = k->runs; r != NULL; r = r->next)
                n += !r->leaving;
        return n < k->service->config.workers && !health_stands(&k->service->health, HEALTH_FILES);
}

/* --- backoff --- */

static struct backoff *backoff_find(struct scheduler *k, uint32_t model, uint32_t shard)
{
        for (struct backoff *b = k->backoffs; b != NULL; b = b->next)
                if (b->model == model && b->shard == shard)
                        return b;
        return NULL;
}

static void backoff_more(struct scheduler *k, uint32_t model, uint32_t shard)
{
        struct backoff *b = backoff_find(k, model, shard);
        if (b == NULL && (b = calloc(1, sizeof *b)) != NULL) {
                b->model = model;
                b->shard = shard;
                b->next = k->backoffs;
                k->backoffs = b;
        }
        if (b == NULL)
                return;
        b->failures++;
        b->delay_ms = b->delay_ms == 0 ? k->service->config.retry_first_ms : b->delay_ms * 2;
        if (b->delay_ms > BACKOFF_MAX_MS)
                b->delay_ms = BACKOFF_MAX_MS;
        b->until_us = mono_us() + (uint64_t)b->delay_ms * 1000;
}

static void backoff_clear(struct scheduler *k, uint32_t model, uint32_t shard)
{
        for (struct backoff **at = &k->backoffs; *at != NULL; at = &(*at)->next) {
                struct backoff *b = *at;
                if (b->model == model && b->shard == shard) {
                        *at = b->next;
                        free(b);
                        return;
                }
        }
}

bool runs_backing_off(struct scheduler *k, uint32_t model, uint32_t shard)
{
        const struct backoff *b = backoff_find(k, model, shard);
        if (b == NULL || b->until_us <= mono_us())
                return false;
        loop_due(k, b->until_us);
        return true;
}

/* --- the end of a run --- */

static void unlink_run(struct scheduler *k, struct run *r)
{
        for (struct run **at = &k->runs; *at != NULL; at = &(*at)->next) {
                if (*at == r) {
                        *at = r->next;
                        return;
                }
        }
        assert(false && "the run is in the list");
}

/* Checkpoints that were renamed into place by a publication that did not commit. Nobody else makes
 * any for this shard before the run is gone. */
static int drop_unpublished(struct run *r, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = store_read(r->service->store, &t, e);
        for (uint32_t i = 0; i < r->stage_count && err == 0; i++) {
                char path[PATH_SIZE];
                struct slice_row row;
                uint32_t slice = r->stages[i].slice;
                err = t_slice_get(t, r->model->id, r->shard, slice, &row);
                if (err == 0 && row.has_checkpoint)
                        continue;
                if (err == 0 || err == UL_NOT_FOUND)
                        err = checkpoint_path(path, r->model->root, r->shard, slice, e);
                if (err == 0)
                        err = scrub_and_unlink(path, e);
        }
        if (t != NULL)
                txn_abort(&t);
        return err;
}

static void run_gone(struct scheduler *k, struct run *r);

static int record_run(struct loop_command *lc, struct txn *t)
{
        const struct run *r = ((struct run_command *)lc)->run;
        return job_end(t, r->job, JOB_FAILED, r->e.detail, NULL, 0);
}

static void record_back(struct loop_command *lc, int err)
{
        struct run *r = ((struct run_command *)lc)->run;
        r->recording = false;
        if (err != 0) { /* once more, at a later look */
                loop_due(lc->k, mono_us() + LEAVE_AGAIN_US);
                return;
        }
        r->unrecorded = false;
        run_gone(lc->k, r);
}

/* The run ends when nothing of it is left on the disk and its job has ended: until then its shard
 * has no other, and no erasure of it says "scrubbed". What a stop leaves the next start ends. */
static void run_gone(struct scheduler *k, struct run *r)
{
        struct errinfo e = {0};
        int err = r->unpublished ? drop_unpublished(r, &e) : 0;
        if (err == 0)
                err = scrub_tree(r->scratch, &e);
        if (err != 0) {
                health_begin(&k->service->health, HEALTH_SCRUB, err, e.detail);
                k->scrub_failed = true;
        }
        CRASH_POINT("run.scratch_gone");
        if (!r->leaving)
                progress_end(k->service, r->job, r->shard);
        r->leaving = true;
        if ((err != 0 || r->unrecorded) && !k->stopping) {
                r->recording = r->unrecorded && !health_stands(&k->service->health, HEALTH_STORE);
                if (r->recording)
                        submit(r, record_run, record_back);
                else
                        loop_due(k, mono_us() + LEAVE_AGAIN_US);
                return;
        }
        unlink_run(k, r);
        run_destroy(&r);
        scheduler_wake(k);
}

void runs_leave(struct scheduler *k)
{
        for (struct run *r = k->runs; r != NULL;) {
                struct run *next = r->next; /* run_gone may free r */
                if (r->leaving && !r->recording)
                        run_gone(k, r);
                r = next;
        }
}

bool runs_failing_of(struct scheduler *k, uint32_t model, uint32_t shard)
{
        const struct backoff *b = backoff_find(k, model, shard);
        return b != NULL && b->failures >= FAILURES_MAX;
}

bool runs_failing(struct scheduler *k)
{
        for (struct backoff **at = &k->backoffs; *at != NULL;) {
                struct backoff *b = *at;
                struct model *m = registry_find_id(k->service, b->model);
                if (m == NULL) { /* deleted: nobody waits for it */
                        *at = b->next;
                        free(b);
                        continue;
                }
                model_unref(m);
                if (b->failures >= FAILURES_MAX)
                        return true;
                at = &b->next;
        }
        return false;
}

/* A worker failed: its shard waits, and after some failures an operator is told. */
static void worker_failed(struct scheduler *k, struct run *r)
{
        metric_add(METRIC_JOBS_FAILED, 1);
        log_event(LOG_LEVEL_WARN, "job_failed", "model=%s shard=%u error=%s detail=\"%s\"",
                  r->model->config->name, r->shard, ul_err_name(r->err), r->e.detail);
        backoff_more(k, r->model->id, r->shard);
        if (runs_failing(k))
                health_begin(&k->service->health, HEALTH_WORKER, r->err, r->e.detail);
}

static int publish_run(struct loop_command *lc, struct txn *t)
{
        struct run_command *c = (struct run_command *)lc;
        return run_publish(c->run, t, &lc->fx, &lc->cmd.e);
}

static void publish_back(struct loop_command *lc, int err)
{
        struct run_command *c = (struct run_command *)lc;
        struct run *r = c->run;
        struct scheduler *k = lc->k;
        r->publishing = false;
        CRASH_POINT("publish.committed");
        if (err != 0) {
                log_event(LOG_LEVEL_ERROR, "publication_failed", "model=%s shard=%u detail=\"%s\"",
                          r->model->config->name, r->shard, lc->cmd.e.detail);
                health_begin(&k->service->health, HEALTH_FILES, err, lc->cmd.e.detail);
                backoff_more(k, r->model->id, r->shard);
                r->unpublished = true;
                r->unrecorded = memcmp(r->job, r->id, ULID_BYTES) == 0;
                (void)ul_fail(&r->e, err, "not published: %s", lc->cmd.e.detail);
        } else if (r->whole) {
                double seconds = (double)(mono_us() - r->started_us) / 1e6;
                backoff_clear(k, r->model->id, r->shard);
                metric_add(METRIC_JOBS_SUCCEEDED, 1);
                metric_observe(METRIC_RETRAIN_SECONDS, seconds);
                if (seconds > 0 && r->cost > 0)
                        atomic_store(&r->model->samples_per_second,
                                     (uint64_t)((double)r->cost / seconds) + 1);
        } else if (r->fenced || r->killed) {
                metric_add(METRIC_JOBS_FENCED, 1);
        } else {
                worker_failed(k, r);
        }
        run_gone(k, r);
}

static void publish(struct run *r)
{
        r->publishing = true;
        submit(r, publish_run, publish_back);
}

/* Reads back every checkpoint that the worker says it wrote; keeps those that are what it says. */
static int check_stage(struct run *r, const struct run_stage *st)
{
        struct checkpoint c = {0};
        char path[PATH_SIZE];
        uint8_t file[SHA256_BYTES];
        uint8_t data[SHA256_BYTES];
        int err = scratch_path(path, r->scratch, st->slice, &r->e);
        if (err == 0)
                err = checkpoint_read(path, st->file_hash, &c, file, &r->e);
        if (err != 0)
                goto out;
        checkpoint_data_hash(&c, data);
        if (memcmp(c.config_hash, r->model->config_hash, SHA256_BYTES) != 0 ||
            c.shard != r->shard || c.slice != st->slice || c.records != st->records ||
            memcmp(data, st->data_hash, SHA256_BYTES) != 0 ||
            memcmp(c.retained, st->retained, SHA256_BYTES) != 0 ||
            (r->kernel[0] != '\0' && strcmp(r->kernel, c.kernel) != 0)) {
                err = ul_fail(&r->e, UL_CORRUPT,
                              "the worker wrote another checkpoint than it reported");
                goto out;
        }
        (void)snprintf(r->kernel, sizeof r->kernel, "%s", c.kernel);
        if (c.halvings > 0)
                log_event(LOG_LEVEL_WARN, "learning_rate_halved",
                          "model=%s shard=%u slice=%u times=%u advice=use_a_lower_learning_rate",
                          r->model->config->name, r->shard, st->slice, c.halvings);
out:
        checkpoint_clear(&c);
        return err;
}

static void check_stages(struct run *r)
{
        for (uint32_t i = 0; i < r->stage_count; i++) {
                int err = check_stage(r, &r->stages[i]);
                if (err != 0) {
                        r->err = err;
                        r->stage_count = i;
                }
        }
}

/* A worker that could not begin: is it the checkpoint that it was to go on from? */
static void check_parent(struct run *r)
{
        struct checkpoint c = {0};
        struct errinfo why = {0};
        uint8_t file[SHA256_BYTES];
        char path[PATH_SIZE];
        if (r->kind != RUN_TRAIN || r->err == 0 || r->killed || r->stage_count > 0 || r->from <= 1)
                return;
        int err = checkpoint_path(path, r->model->root, r->shard, r->from - 1, &why);
        if (err == 0)
                err = checkpoint_read(path, r->parent, &c, file, &why);
        checkpoint_clear(&c);
        if (err == UL_CORRUPT || err == UL_NOT_FOUND)
                (void)checkpoint_damaged(r->model, r->shard, r->from - 1, why.detail);
}

static void run_finish(struct scheduler *k, struct run *r)
{
        check_stages(r);
        check_parent(r);
        CRASH_POINT("publish.checked");
        if (r->err == 0 && r->stage_count != r->slices - r->from + 1)
                r->err = ul_fail(&r->e, UL_CORRUPT, "the worker ended before its last stage");
        if (r->kind == RUN_VERIFY) {
                verify_ended(k, r);
                run_gone(k, r);
                return;
        }
        r->parked = r->replaces && k->held;
        if (!r->parked)
                publish(r);
}

void runs_unpark(struct scheduler *k)
{
        for (struct run *r = k->runs; r != NULL; r = r->next) {
                if (!r->parked || k->held)
                        continue;
                r->parked = false;
                publish(r);
        }
}

bool runs_replacing(const struct scheduler *k)
{
        for (const struct run *r = k->runs; r != NULL; r = r->next)
                if (r->publishing && r->replaces)
                        return true;
        return false;
}

/* --- the executor's events --- */

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
        struct run *r = arg;
        r->fraction = total > 0 && done <= total ? (double)done / (double)total : 0;
        progress_set(r->service, r->job, r->shard, done, total);
}

static void on_stage(void *arg, const struct executor_stage *stage)
{
        struct run *r = arg;
        uint32_t capacity = r->slices - r->from + 1;
        if (r->stage_count == capacity || stage->slice != r->from + r->stage_count)
                return; /* counted as missing at the end */
        struct run_stage *st = &r->stages[r->stage_count++];
        st->slice = stage->slice;
        memcpy(st->file_hash, stage->file_hash, SHA256_BYTES);
        memcpy(st->data_hash, stage->data_hash, SHA256_BYTES);
        memcpy(st->retained, stage->retained, SHA256_BYTES);
        st->records = stage->records;
        CRASH_POINT("run.stage_heard");
}

static void on_ended(void *arg, int err, const struct errinfo *e)
{
        struct run *r = arg;
        r->execution = NULL;
        r->err = err;
        if (err != 0 && e != NULL)
                r->e = *e;
        run_finish(r->service->scheduler, r);
}

/* --- the start of a run --- */

static int write_job(struct run *r, char path[PATH_SIZE], struct errinfo *e)
{
        struct buf text = {0};
        char id[ULID_TEXT + 1];
        struct job job = {.fence = r->fence,
                          .config = r->model->config,
                          .shard = r->shard,
                          .from = r->from,
                          .slices = r->slices,
                          .slice = r->slice};
        (void)snprintf(job.id, sizeof job.id, "%s", ulid_format(r->id, id));
        (void)snprintf(job.root, sizeof job.root, "%s", r->model->root);
        (void)snprintf(job.scratch, sizeof job.scratch, "%s", r->scratch);
        (void)snprintf(job.kernel, sizeof job.kernel, "%s", r->kernel);
        memcpy(job.model_key, r->model->key, KEY_BYTES);
        memcpy(job.parent, r->parent, SHA256_BYTES);
        int err = make_dirs(r->scratch, e);
        CRASH_POINT("run.scratch_made");
        if (err == 0)
                err = path_format(path, e, "%s/job.json", r->scratch);
        if (err == 0)
                err = job_write(&job, &text);
        if (err == 0)
                err = job_seal(&text);
        if (err == 0)
                err = write_file_durably(path, text.data, text.len, e);
        CRASH_POINT("run.job_written");
        buf_free(&text, true);
        wipe(&job, sizeof job);
        return err;
}

static void launch(struct scheduler *k, struct run *r)
{
        char path[PATH_SIZE];
        char dir[PATH_SIZE];
        struct executor_limits limits = {.memory_bytes = k->service->config.worker_memory_bytes,
                                         .seconds = k->service->config.worker_seconds,
                                         .kernel = r->kernel};
        struct executor_events events = {
                .progress = on_progress, .stage = on_stage, .ended = on_ended, .arg = r};
        r->started_us = mono_us();
        int err = path_format(dir, &r->e, "%s/shard-%03u", r->model->root, r->shard);
        if (err == 0)
                err = make_dirs(dir, &r->e);
        if (err == 0)
                err = write_job(r, path, &r->e);
        if (err != 0)
                health_begin(&k->service->health, HEALTH_FILES, err, r->e.detail);
        if (err == 0)
                err = k->executor->ops->start(k->executor, path, &limits, &events, &r->execution,
                                              &r->e);
        CRASH_POINT("run.launched");
        if (err != 0) {
                r->err = err;
                run_finish(k, r);
        }
}

static int prepare_run(struct loop_command *lc, struct txn *t)
{
        return run_prepare(((struct run_command *)lc)->run, t, &lc->cmd.e);
}

static void prepare_back(struct loop_command *lc, int err)
{
        struct run *r = ((struct run_command *)lc)->run;
        struct scheduler *k = lc->k;
        CRASH_POINT("run.fence_committed");
        if (err == 0 && !k->stopping) {
                launch(k, r);
                return;
        }
        if (r->kind == RUN_VERIFY)
                verify_refused(k, r, err);
        else if (err != 0 && err != UL_CONFLICT)
                backoff_more(k, r->model->id, r->shard);
        run_gone(k, r);
}

void run_start(struct scheduler *k, struct model *m, uint32_t shard, enum run_kind kind,
               const uint8_t *job)
{
        char text[ULID_TEXT + 1];
        struct run *r = calloc(1, sizeof *r);
        if (r == NULL || (r->command = calloc(1, sizeof *r->command)) == NULL) {
                free(r);
                loop_due(k, mono_us() + 1000000);
                return;
        }
        r->service = k->service;
        r->model = model_ref(m);
        r->shard = shard;
        r->kind = kind;
        ulid_make(r->id);
        if (job != NULL)
                memcpy(r->job, job, ULID_BYTES);
        (void)path_format(r->scratch, NULL, "%s/%s", k->service->scratch_dir,
                          ulid_format(r->id, text));
        r->next = k->runs;
        k->runs = r;
        submit(r, prepare_run, prepare_back);
}

void run_kill(struct scheduler *k, struct run *r)
{
        if (r->execution == NULL || r->killed)
                return;
        r->killed = true;
        k->executor->ops->kill(r->execution);
}

void runs_kill_all(struct scheduler *k)
{
        for (struct run *r = k->runs; r != NULL; r = r->next)
                run_kill(k, r);
}

void runs_kill_stale(struct scheduler *k)
{
        struct txn *t = NULL;
        if (k->runs == NULL || store_read(k->service->store, &t, NULL) != 0)
                return;
        for (struct run *r = k->runs; r != NULL; r = r->next) {
                struct shard_row row;
                if (r->execution == NULL)
                        continue;
                if (atomic_load(&r->model->deleting) ||
                    t_shard_get(t, r->model->id, r->shard, &row) != 0 || row.fence != r->fence)
                        run_kill(k, r);
        }
        txn_abort(&t);
}
