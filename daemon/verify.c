/* SPDX-License-Identifier: Apache-2.0
 * verify.c: retrains shards from nothing, in scratch folders, and compares the bytes with what is
 * served (invariant 2). A shard that an erasure touches meanwhile is begun again. Its state is kept
 * in memory alone: at a restart a verification is cancelled, and can be asked for again. */
#include "daemon/loop.h"
#include "daemon/run.h"
#include "daemon/scheduler.h"

#include "lib/checkpoint/checkpoint.h"
#include "lib/sisa/job.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        AGAIN_US = 200000,
        ATTEMPTS_MAX = 3, /* of one shard: a worker that dies costs a retry, not the job */
};

enum shard_progress { PENDING, RUNNING, DONE };

struct verified {
        uint32_t shard;
        uint32_t failures; /* of its workers */
        enum shard_progress progress;
        bool identical;
        uint8_t served[SHA256_BYTES], rebuilt[SHA256_BYTES];
};

struct verification {
        struct verification *next;
        struct call call; /* on its way to the loop thread */
        struct scheduler *k;
        struct model *model; /* referenced */
        uint8_t job[ULID_BYTES];
        struct verified *shards; /* [count] */
        uint32_t count;
        char error[128];
        bool ending;
        uint64_t not_before_us; /* a shard was not ready to be verified: look again then */
};

void verification_destroy(struct verification **pv)
{
        struct verification *v = *pv;
        if (v == NULL)
                return;
        model_unref(v->model);
        free(v->shards);
        free(v);
        *pv = NULL;
}

struct verification *verification_create(struct model *m, const uint32_t *shards, uint32_t count)
{
        struct verification *v = calloc(1, sizeof *v);
        if (v == NULL || (v->shards = calloc(count, sizeof *v->shards)) == NULL) {
                free(v);
                return NULL;
        }
        v->model = model_ref(m);
        v->count = count;
        for (uint32_t i = 0; i < count; i++)
                v->shards[i].shard = shards[i];
        return v;
}

static void arrived(struct call *c)
{
        struct verification *v =
                (struct verification *)((char *)c - offsetof(struct verification, call));
        v->next = v->k->verifications;
        v->k->verifications = v;
}

void scheduler_verify(struct scheduler *k, struct verification *take, const uint8_t job[ULID_BYTES])
{
        take->k = k;
        memcpy(take->job, job, ULID_BYTES);
        take->call.fn = arrived;
        loop_post(k, &take->call);
}

/* --- the end --- */

struct end_command {
        struct loop_command lc;
        struct verification *v;
};

static void write_result(const struct verification *v, struct buf *out)
{
        struct json_writer w;
        jw_init(&w, out);
        jw_object(&w);
        jw_key(&w, "shards");
        jw_array(&w);
        for (uint32_t i = 0; i < v->count; i++) {
                const struct verified *s = &v->shards[i];
                jw_object(&w);
                jw_member_u64(&w, "shard", s->shard);
                jw_member_bool(&w, "identical", s->identical);
                jw_member_hex(&w, "served_hash", s->served, SHA256_BYTES);
                jw_member_hex(&w, "rebuilt_hash", s->rebuilt, SHA256_BYTES);
                jw_end_object(&w);
        }
        jw_end_array(&w);
        jw_end_object(&w);
}

static int end_run(struct loop_command *lc, struct txn *t)
{
        struct verification *v = ((struct end_command *)lc)->v;
        struct buf result = {0};
        struct event ev;
        struct audit_keys keys = {.model = v->model->config->name};
        uint32_t identical = 0;
        bool failed = v->error[0] != '\0';
        for (uint32_t i = 0; i < v->count; i++)
                identical += v->shards[i].identical;
        if (!failed)
                write_result(v, &result);
        int err = result.failed ? txn_fail(t, UL_NOMEM)
                                : job_end(t, v->job, failed ? JOB_FAILED : JOB_SUCCEEDED, v->error,
                                          (const char *)result.data, result.len);
        buf_free(&result, false);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "model", v->model->config->name);
        event_ulid(&ev, "job", v->job);
        jw_member_u64(&ev.w, "shards", v->count);
        jw_member_u64(&ev.w, "identical", identical);
        err = event_append(&ev, lc->k->service, t,
                           failed ? "model.verification_failed" : "model.verified", "unlearnd",
                           &keys, NULL);
        CRASH_POINT("verify.recorded");
        return err;
}

static void end_back(struct loop_command *lc, int err)
{
        struct verification *v = ((struct end_command *)lc)->v;
        struct scheduler *k = lc->k;
        free(lc);
        CRASH_POINT("verify.committed");
        if (err != 0) {
                v->ending = false; /* once more, at the next look */
                loop_due(k, mono_us() + 1000000);
                return;
        }
        for (struct verification **at = &k->verifications; *at != NULL; at = &(*at)->next) {
                if (*at == v) {
                        *at = v->next;
                        break;
                }
        }
        verification_destroy(&v);
}

static void end(struct scheduler *k, struct verification *v)
{
        struct end_command *c = calloc(1, sizeof *c);
        if (c == NULL) {
                loop_due(k, mono_us() + 1000000);
                return;
        }
        v->ending = true;
        c->lc.run = end_run;
        c->lc.back = end_back;
        c->v = v;
        loop_submit(k, &c->lc);
}

/* --- runs --- */

/* `superseded`: an erasure overwrote rows beneath the run, which it may take for damage. */
static void verify_failed(struct verification *v, struct verified *s, const struct run *r,
                          bool superseded)
{
        bool again = r->err == UL_DAMAGED ? superseded
                                          : r->err != UL_INVALID && ++s->failures < ATTEMPTS_MAX;
        if (again) {
                log_event(LOG_LEVEL_WARN, "verification_retried",
                          "model=%s shard=%u error=%s detail=\"%s\"", r->model->config->name,
                          r->shard, ul_err_name(r->err), r->e.detail);
                v->not_before_us = mono_us() + AGAIN_US;
                return;
        }
        (void)snprintf(v->error, sizeof v->error, "%.127s", r->e.detail);
        if (r->err == UL_DAMAGED)
                rows_damaged(r->model, r->shard, r->e.detail);
}

/* What is served was read long ago: are the files still what they were? */
static void check_files(const struct run *r, struct txn *t)
{
        for (uint32_t slice = 1; slice <= r->slices; slice++) {
                char path[PATH_SIZE];
                struct slice_row row;
                struct checkpoint c = {0};
                struct errinfo why = {0};
                uint8_t file[SHA256_BYTES];
                if (t_slice_get(t, r->model->id, r->shard, slice, &row) != 0 || !row.has_checkpoint)
                        continue;
                int err = checkpoint_path(path, r->model->root, r->shard, slice, &why);
                if (err == 0)
                        err = checkpoint_read(path, row.file_hash, &c, file, &why);
                checkpoint_clear(&c);
                if (err != UL_CORRUPT && err != UL_NOT_FOUND)
                        continue;
                (void)checkpoint_damaged(r->model, r->shard, slice, why.detail);
                return; /* those after it are rebuilt with it */
        }
}

/* The shard of a verification that the run was for, pending again. NULL: there is none. */
static struct verified *take_back(struct scheduler *k, const struct run *r,
                                  struct verification **of)
{
        struct verification *v = k->verifications;
        struct verified *s = NULL;
        while (v != NULL && memcmp(v->job, r->job, ULID_BYTES) != 0)
                v = v->next;
        for (uint32_t i = 0; v != NULL && i < v->count; i++)
                if (v->shards[i].shard == r->shard && v->shards[i].progress == RUNNING)
                        s = &v->shards[i];
        if (s != NULL)
                s->progress = PENDING;
        *of = v;
        return s;
}

/* It is waited for while its scrubs or its retrain are under way, not where they cannot end. */
void verify_refused(struct scheduler *k, const struct run *r, int err)
{
        struct verification *v;
        if (take_back(k, r, &v) == NULL)
                return;
        v->not_before_us = mono_us() + AGAIN_US;
        if (err != UL_CONFLICT)
                return;
        if (rows_known_damaged(r->model, r->shard))
                (void)snprintf(v->error, sizeof v->error,
                               "damaged rows: shard %u is out of service and cannot be verified; "
                               "restore the newest backup",
                               r->shard);
        else if (runs_failing_of(k, r->model->id, r->shard))
                (void)snprintf(v->error, sizeof v->error,
                               "shard %u has nothing to verify: its retrain fails again and again; "
                               "see the errors of its jobs",
                               r->shard);
}

void verify_ended(struct scheduler *k, struct run *r)
{
        struct verification *v;
        struct txn *t = NULL;
        struct shard_row shard = {0};
        struct slice_row slice = {0};
        struct verified *s = take_back(k, r, &v);
        if (s == NULL)
                return;
        if (r->killed) { /* superseded: once more */
                v->not_before_us = mono_us() + AGAIN_US;
                return;
        }
        if (store_read(k->service->store, &t, NULL) != 0)
                return;
        int err = t_shard_get(t, r->model->id, r->shard, &shard);
        if (r->err != 0) {
                txn_abort(&t);
                verify_failed(v, s, r, err == 0 && shard.fence != r->fence);
                return;
        }
        if (err == 0 && shard.fence == r->fence)
                err = t_slice_get(t, r->model->id, r->shard, r->slices, &slice);
        if (err == 0 && shard.fence == r->fence && slice.has_checkpoint) {
                const struct run_stage *last = &r->stages[r->stage_count - 1];
                memcpy(s->served, slice.file_hash, SHA256_BYTES);
                memcpy(s->rebuilt, last->file_hash, SHA256_BYTES);
                s->identical = memcmp(s->served, s->rebuilt, SHA256_BYTES) == 0;
                s->progress = DONE;
                check_files(r, t);
                if (!s->identical)
                        log_event(LOG_LEVEL_ERROR, "verification_differs", "model=%s shard=%u",
                                  r->model->config->name, r->shard);
        }
        txn_abort(&t);
}

void verify_pass(struct scheduler *k)
{
        for (struct verification *v = k->verifications; v != NULL; v = v->next) {
                uint32_t open = 0;
                if (v->ending)
                        continue;
                if (atomic_load(&v->model->deleting))
                        (void)snprintf(v->error, sizeof v->error, "the model was deleted");
                for (uint32_t i = 0; i < v->count; i++) {
                        struct verified *s = &v->shards[i];
                        if (s->progress == PENDING && v->error[0] == '\0' && runs_free(k) &&
                            v->not_before_us <= mono_us() &&
                            run_find(k, v->model->id, s->shard) == NULL) {
                                run_start(k, v->model, s->shard, RUN_VERIFY, v->job);
                                if (run_find(k, v->model->id, s->shard) != NULL)
                                        s->progress = RUNNING; /* else no memory: at a later look */
                        }
                        open += s->progress == RUNNING ||
                                (s->progress == PENDING && v->error[0] == '\0');
                }
                if (open == 0)
                        end(k, v);
                else if (v->not_before_us > mono_us())
                        loop_due(k, v->not_before_us);
        }
}

void verify_clear(struct scheduler *k)
{
        while (k->verifications != NULL) {
                struct verification *v = k->verifications;
                k->verifications = v->next;
                verification_destroy(&v);
        }
}
