/* SPDX-License-Identifier: Apache-2.0
 * train.c: what training does to the store: a training that was asked for freezes the open slices
 * and marks shards dirty; a run takes one dirty shard from its last clean checkpoint to its end;
 * its results are published under the fence. It knows nothing of processes or of when: scheduler.c
 * does.
 *
 * The fence (invariant 4): a run remembers the shard's fence; every erasure that touches the shard
 * raises it and lowers `touched`. A run that ends under another fence may publish only checkpoints
 * below `touched`: those the erasures did not reach. */
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/run.h"
#include "daemon/state.h"

#include "lib/checkpoint/checkpoint.h"
#include "lib/sisa/job.h"
#include "lib/sisa/plan.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        COMPLETE_STEP = 256,    /* erasures completed with the publication itself */
        TRAIN_ATTEMPTS_MAX = 5, /* of one shard, before the job that was asked for fails */
};

/* --- the training that was asked for --- */

static void blob_name(char out[32], const char *what, uint32_t model)
{
        (void)snprintf(out, 32, "%s/%u", what, model);
}

int training_get(struct txn *t, uint32_t model, struct training *out)
{
        char name[32];
        struct buf b = {0};
        blob_name(name, "training", model);
        int err = t_blob_get(t, name, &b);
        if (err == 0 && b.len == 0)
                err = UL_NOT_FOUND;
        if (err == 0 && b.len != sizeof out->job + sizeof out->left)
                err = txn_fail(t, UL_CORRUPT);
        if (err == 0) {
                memcpy(out->job, b.data, sizeof out->job);
                memcpy(out->left, b.data + sizeof out->job, sizeof out->left);
        }
        buf_free(&b, false);
        return err;
}

int training_put(struct txn *t, uint32_t model, const struct training *tr)
{
        char name[32];
        uint8_t packed[sizeof tr->job + sizeof tr->left];
        blob_name(name, "training", model);
        if (tr == NULL)
                return t_blob_put(t, name, "", 0);
        memcpy(packed, tr->job, sizeof tr->job);
        memcpy(packed + sizeof tr->job, tr->left, sizeof tr->left);
        return t_blob_put(t, name, packed, sizeof packed);
}

bool training_has(const struct training *tr, uint32_t shard)
{
        return (tr->left[shard / 8] >> (shard % 8) & 1) != 0;
}

uint32_t training_left(const struct training *tr)
{
        uint32_t n = 0;
        for (size_t i = 0; i < sizeof tr->left; i++)
                n += (uint32_t)__builtin_popcount(tr->left[i]);
        return n;
}

int job_end(struct txn *t, const uint8_t id[ULID_BYTES], enum job_state state, const char *error,
            const char *result, size_t result_len)
{
        struct job_row row;
        int err = t_job_get(t, id, &row, NULL);
        if (err != 0)
                return err == UL_NOT_FOUND ? 0 : err;
        row.state = (uint8_t)state;
        row.ended_ms = now_ms();
        if (row.ended_ms < row.started_ms) /* the clock was set back */
                row.ended_ms = row.started_ms;
        (void)snprintf(row.error, sizeof row.error, "%s", error != NULL ? error : "");
        err = t_job_put(t, id, &row, result, result_len);
        return err != 0 ? err : t_job_prune(t, JOBS_KEPT);
}

/* The end of the job that was asked for. */
static int training_ended(struct service *s, struct txn *t, struct model *m,
                          const uint8_t id[ULID_BYTES], const char *failed)
{
        static const char *const types[2][2] = {{"model.trained", "model.training_failed"},
                                                {"model.compacted", "model.compaction_failed"}};
        struct job_row job;
        struct buf result = {0};
        struct event ev;
        struct audit_keys keys = {.model = m->config->name};
        int err = t_job_get(t, id, &job, NULL);
        bool compact = err == 0 && job.kind == JOB_COMPACT;
        if (compact && failed == NULL)
                err = compaction_take_result(t, m, &result);
        else if (compact)
                err = compaction_withdraw(t, m);
        if (err == 0)
                err = job_end(t, id, failed == NULL ? JOB_SUCCEEDED : JOB_FAILED, failed,
                              (const char *)result.data, result.len);
        buf_free(&result, false);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "model", m->config->name);
        event_ulid(&ev, "job", id);
        return event_append(&ev, s, t, types[compact][failed != NULL], "unlearnd", &keys, NULL);
}

int training_less(struct service *s, struct txn *t, struct model *m, uint32_t shard,
                  const char *failed)
{
        struct training tr;
        struct compaction c = {0};
        int err = training_get(t, m->id, &tr);
        if (err == 0 && training_has(&tr, shard) && failed == NULL)
                err = compaction_get(t, m->id, shard, &c);
        if (err != 0 || !training_has(&tr, shard) || c.state != COMPACTION_NONE)
                return err == UL_NOT_FOUND ? 0 : err;
        tr.left[shard / 8] &= (uint8_t) ~(1u << (shard % 8));
        bool ended = failed != NULL || training_left(&tr) == 0;
        err = training_put(t, m->id, ended ? NULL : &tr);
        return err == 0 && ended ? training_ended(s, t, m, tr.job, failed) : err;
}

/* --- runs --- */

void run_destroy(struct run **pr)
{
        struct run *r = *pr;
        if (r == NULL)
                return;
        model_unref(r->model);
        free(r->slice);
        free(r->stages);
        free(r->command);
        free(r);
        *pr = NULL;
}

static int pinned_kernel(struct run *r, struct txn *t)
{
        char name[32];
        struct buf b = {0};
        const char *configured = r->service->config.blas_kernel;
        if (configured[0] != '\0') {
                (void)snprintf(r->kernel, sizeof r->kernel, "%s", configured);
                return 0;
        }
        blob_name(name, "kernel", r->model->id);
        int err = t_blob_get(t, name, &b);
        if (err == 0 && b.len < sizeof r->kernel)
                memcpy(r->kernel, b.data, b.len);
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

/* Fills in what the worker needs to know of slices 1..r->slices. */
static int describe(struct run *r, struct txn *t)
{
        struct slice_row row;
        uint64_t *live = calloc(r->slices, sizeof *live);
        struct plan_stage *stages = calloc(r->slices, sizeof *stages);
        const struct model_config *c = r->model->config;
        int err = 0;
        r->slice = calloc(r->slices, sizeof *r->slice);
        r->stages = calloc(r->slices, sizeof *r->stages);
        if (live == NULL || stages == NULL || r->slice == NULL || r->stages == NULL) {
                err = UL_NOMEM;
                (void)txn_fail(t, err);
        }
        for (uint32_t i = 0; i < r->slices && err == 0; i++) {
                err = t_slice_get(t, r->model->id, r->shard, i + 1, &row);
                if (err == UL_NOT_FOUND)
                        err = 0; /* zeroed: there is no file */
                r->slice[i] = (struct job_slice){.rows = row.rows, .live = row.live};
                live[i] = row.live;
                if (err == 0 && i + 2 == r->from)
                        memcpy(r->parent, row.file_hash, SHA256_BYTES);
        }
        if (err == 0) {
                uint32_t n = plan_stages(live, r->slices, c->slices, c->epochs, r->from, stages);
                r->cost = plan_cost(stages, n);
                err = pinned_kernel(r, t);
        }
        free(live);
        free(stages);
        return err;
}

/* The job that clients see: the training's, or a retrain of its own. */
static int run_job(struct run *r, struct txn *t, uint32_t attempts)
{
        struct training tr;
        struct job_row row;
        int err = training_get(t, r->model->id, &tr);
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        if (err == 0 && training_has(&tr, r->shard)) {
                memcpy(r->job, tr.job, ULID_BYTES);
                err = t_job_get(t, r->job, &row, NULL);
                if (err != 0)
                        return err;
        } else {
                memcpy(r->job, r->id, ULID_BYTES);
                row = (struct job_row){.kind = JOB_RETRAIN,
                                       .model = r->model->id,
                                       .shard = r->shard,
                                       .attempts = attempts,
                                       .cost = r->cost,
                                       .created_ms = now_ms()};
                (void)snprintf(row.model_name, sizeof row.model_name, "%s", r->model->config->name);
        }
        row.state = JOB_RUNNING;
        if (row.started_ms == 0)
                row.started_ms = now_ms();
        return t_job_put(t, r->job, &row, NULL, 0);
}

int run_prepare(struct run *r, struct txn *t, struct errinfo *e)
{
        struct model_row model;
        struct shard_row shard;
        struct compaction compaction;
        int err = t_model_get(t, r->model->config->name, &model, NULL);
        if (err == 0)
                err = t_shard_get(t, r->model->id, r->shard, &shard);
        if (err == 0)
                err = compaction_get(t, r->model->id, r->shard, &compaction);
        if (err != 0)
                return err;
        bool train = r->kind == RUN_TRAIN;
        if (model.deleting || shard.scrubs > 0 || compaction_holds(&compaction) ||
            (train && !shard_dirty(&model, &shard)) || (!train && shard.clean == 0))
                return ul_fail(e, UL_CONFLICT, "the shard has no work");
        r->from = train ? shard.clean + 1 : 1;
        r->slices = train ? shard.slices : shard.clean;
        r->replaces = compaction.standing != 0 && compaction.standing <= r->slices;
        err = describe(r, t);
        if (err == 0 && train) {
                shard.fence++;
                shard.touched = UINT32_MAX;
                err = t_shard_put(t, r->model->id, r->shard, &shard);
                if (err == 0)
                        err = run_job(r, t, shard.attempts + 1);
        } else if (err == 0) {
                struct job_row row;
                err = t_job_get(t, r->job, &row, NULL);
                row.state = JOB_RUNNING;
                if (err == 0 && row.started_ms == 0) {
                        row.started_ms = now_ms();
                        err = t_job_put(t, r->job, &row, NULL, 0);
                }
        }
        r->fence = shard.fence;
        CRASH_POINT("run.fenced");
        return err;
}

/* --- publication --- */

static int publish_stage(struct run *r, struct txn *t, const struct run_stage *st,
                         struct shard_row *shard, struct errinfo *e)
{
        char from[PATH_SIZE];
        char to[PATH_SIZE];
        struct slice_row row;
        int err = scratch_path(from, r->scratch, st->slice, e);
        if (err == 0)
                err = checkpoint_path(to, r->model->root, r->shard, st->slice, e);
        if (err == 0)
                err = t_slice_get(t, r->model->id, r->shard, st->slice, &row);
        if (err == UL_NOT_FOUND)
                err = 0; /* a slice without a row has a checkpoint all the same */
        if (err == 0)    /* one that no commit knows, or a damaged one: not a freed block either */
                err = scrub_and_unlink(to, e);
        CRASH_POINT("publish.place_free");
        if (err == 0 && rename(from, to) != 0) /* durable with the folder's sync, in run_publish */
                err = ul_fail_errno(e, "moving a checkpoint into place");
        CRASH_POINT("publish.renamed");
        if (err != 0)
                return err;
        row.has_checkpoint = 1;
        memcpy(row.file_hash, st->file_hash, SHA256_BYTES);
        memcpy(row.data_hash, st->data_hash, SHA256_BYTES);
        memcpy(row.retained, st->retained, SHA256_BYTES);
        row.records = st->records;
        row.trained_ms = now_ms();
        shard->clean = st->slice;
        return t_slice_put(t, r->model->id, r->shard, st->slice, &row);
}

/* One sync for all of the run's renames: the writer must not wait for one a slice. */
static int sync_shard(struct run *r, struct errinfo *e)
{
        char dir[PATH_SIZE];
        int err = path_format(dir, e, "%s/shard-%03u", r->model->root, r->shard);
        return err == 0 ? sync_dir(dir, e) : err;
}

static int audit_trained(struct run *r, struct txn *t, const struct shard_row *shard)
{
        const struct run_stage *last = &r->stages[r->stage_count - 1];
        struct event ev;
        struct audit_keys keys = {.model = r->model->config->name};
        event_begin(&ev);
        jw_member_text(&ev.w, "model", r->model->config->name);
        jw_member_u64(&ev.w, "shard", r->shard);
        jw_member_u64(&ev.w, "from_slice", r->from);
        jw_member_u64(&ev.w, "slices", shard->clean);
        jw_member_u64(&ev.w, "records", last->records);
        event_ulid(&ev, "job", r->job);
        jw_member_hex(&ev.w, "checkpoint", last->file_hash, SHA256_BYTES);
        jw_member_hex(&ev.w, "retained", last->retained, SHA256_BYTES);
        return event_append(&ev, r->service, t,
                            memcmp(r->job, r->id, ULID_BYTES) == 0 ? "shard.retrained"
                                                                   : "shard.trained",
                            "unlearnd", &keys, NULL);
}

static int pin_kernel(struct run *r, struct txn *t)
{
        char name[32];
        if (r->kernel[0] == '\0')
                return 0;
        blob_name(name, "kernel", r->model->id);
        return t_blob_put(t, name, r->kernel, strlen(r->kernel));
}

/* A training goes on after a failure of one of its shards: how often so far, and the last reason.
 */
static int note_failure(struct txn *t, const uint8_t id[ULID_BYTES], const char *why)
{
        struct job_row row;
        struct buf result = {0};
        int err = t_job_get(t, id, &row, &result);
        if (err == 0) {
                row.attempts++;
                (void)snprintf(row.error, sizeof row.error, "%.127s", why);
                err = t_job_put(t, id, &row, (const char *)result.data, result.len);
        }
        buf_free(&result, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

/* The run did not reach the end of its shard: why, for its job. */
static int not_clean(struct run *r, struct txn *t, struct shard_row *shard)
{
        bool own_job = memcmp(r->job, r->id, ULID_BYTES) == 0;
        const char *why = r->fenced || (r->killed && !r->preempted)
                                  ? "superseded: an erasure came while it ran"
                          : r->preempted ? "put off: another shard's deadline was nearer"
                                         : r->e.detail;
        /* it diverged, or its rows are damaged: the same bytes would again */
        bool hopeless = r->err == UL_INVALID || r->err == UL_DAMAGED;
        bool failed = r->err != 0 && !r->killed && !r->fenced;
        int err = 0;
        if (failed)
                shard->attempts++;
        if (own_job)
                err = job_end(t, r->job, failed ? JOB_FAILED : JOB_CANCELLED, why, NULL, 0);
        else if (failed && (shard->attempts >= TRAIN_ATTEMPTS_MAX || hopeless))
                err = training_less(r->service, t, r->model, r->shard, why);
        else if (failed)
                err = note_failure(t, r->job, why);
        return err;
}

/* Those of the run's checkpoints that its fence allows. While an old one stands (compact.c), the
 * new ones replace it as a whole or not at all. */
static int publish_stages(struct run *r, struct txn *t, const struct compaction *c,
                          struct shard_row *shard, struct errinfo *e)
{
        uint32_t limit = shard->fence == r->fence ? UINT32_MAX : shard->touched;
        int err = 0;
        r->fenced = false;
        if (c->standing != 0 && (r->stage_count < r->slices || limit != UINT32_MAX))
                return 0;
        for (uint32_t i = 0; i < r->stage_count && err == 0; i++) {
                if (r->stages[i].slice >= limit || r->stages[i].slice != shard->clean + 1) {
                        r->fenced = true;
                        break;
                }
                err = publish_stage(r, t, &r->stages[i], shard, e);
        }
        return err;
}

/* Another model is served from this commit on. */
static int serve_published(struct run *r, struct txn *t, struct compaction *c,
                           const struct shard_row *shard, uint32_t before, struct model_row *model,
                           struct effects *fx)
{
        model->generation++;
        int err = t_model_put(t, r->model->config->name, model, NULL, 0);
        if (err == 0 && c->standing == 0)
                err = served_begin(t, r->model, r->shard, before + 1, shard->clean,
                                   model->generation);
        if (err == 0 && c->state >= COMPACTION_TRAINING)
                err = compaction_published(t, r->model, r->shard, c, shard, model->generation);
        if (err == 0)
                err = pin_kernel(r, t);
        return err == 0 ? effects_drop(fx, r->model, r->shard, before + 1) : err;
}

int run_publish(struct run *r, struct txn *t, struct effects *fx, struct errinfo *e)
{
        struct model_row model;
        struct shard_row shard;
        struct compaction compaction;
        bool left = false;
        int err = t_model_get(t, r->model->config->name, &model, NULL);
        if (err == 0)
                err = t_shard_get(t, r->model->id, r->shard, &shard);
        if (err == 0)
                err = compaction_get(t, r->model->id, r->shard, &compaction);
        if (err != 0)
                return err;
        bool own_job = memcmp(r->job, r->id, ULID_BYTES) == 0;
        if (model.deleting) /* a training's job ends with the model */
                return own_job ? job_end(t, r->job, JOB_CANCELLED, "the model was deleted", NULL, 0)
                               : 0;
        uint32_t before = shard.clean;
        err = publish_stages(r, t, &compaction, &shard, e);
        /* Under another fence rows were overwritten beneath the run, and it may take that for
         * damage. */
        if (r->err == UL_DAMAGED && shard.fence != r->fence)
                r->fenced = true;
        else if (r->err == UL_DAMAGED)
                rows_damaged(r->model, r->shard, r->e.detail);
        if (err == 0 && shard.clean > before)
                err = sync_shard(r, e);
        CRASH_POINT("publish.synced");
        if (err != 0)
                return err;
        r->clean = shard.clean >= shard.slices;
        r->whole = r->clean || (!r->fenced && r->err == 0 && shard.clean == r->slices);
        if (r->whole)
                shard.attempts = 0;
        else
                err = not_clean(r, t, &shard);
        if (r->clean)
                shard.dirty_since_ms = 0;
        if (err == 0)
                err = t_shard_put(t, r->model->id, r->shard, &shard);
        if (err == 0 && shard.clean > before)
                err = serve_published(r, t, &compaction, &shard, before, &model, fx);
        if (err == 0 && r->whole) {
                err = audit_trained(r, t, &shard);
                if (err == 0 && own_job)
                        err = job_end(t, r->job, JOB_SUCCEEDED, NULL, NULL, 0);
        }
        if (err == 0 && r->clean) {
                err = training_less(r->service, t, r->model, r->shard, NULL);
                if (err == 0)
                        err = erasures_complete_shard(r->service, t, r->model->id, r->shard,
                                                      COMPLETE_STEP, &left);
        }
        CRASH_POINT("publish.recorded");
        fx->wake = true; /* more that waits, or the next shard */
        return err;
}
