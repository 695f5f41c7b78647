/* SPDX-License-Identifier: Apache-2.0
 * jobs.c: the jobs that clients ask for: a training freezes the open slices and marks shards dirty;
 * a compaction marks those whose records have to move; a verification is handed to the loop. What
 * runs do with it is train.c's, what becomes of a shard's records compact.c's. */
#include "daemon/compact.h"
#include "daemon/run.h"
#include "daemon/scheduler.h"
#include "daemon/state.h"
#include "daemon/upload.h"
#include "daemon/views.h"

#include "lib/util/crash_point.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job_command {
        struct command cmd;
        struct service *service;
        struct model *model; /* referenced */
        char actor[ACTOR_MAX];
        struct idempotency idem;
        service_job_done done;
        void *arg;
        uint32_t *shards; /* verify: [count], owned */
        uint32_t count;
        struct verification *verification; /* until its job is there */
        bool compact;
        struct job_view view;
        bool replayed;
};

static struct job_command *job_command_new(struct service *s, struct model *m_take,
                                           const char *actor, const struct idempotency *idem,
                                           service_job_done done, void *arg)
{
        struct job_command *jc = calloc(1, sizeof *jc);
        if (jc == NULL)
                return NULL;
        jc->service = s;
        jc->model = m_take;
        (void)snprintf(jc->actor, sizeof jc->actor, "%s", actor);
        if (idem != NULL)
                jc->idem = *idem;
        jc->done = done;
        jc->arg = arg;
        return jc;
}

static void job_command_free(struct job_command *jc)
{
        job_view_clear(&jc->view);
        model_unref(jc->model);
        verification_destroy(&jc->verification);
        free(jc->shards);
        free(jc);
}

static void job_command_done(struct command *c, int err)
{
        struct job_command *jc = (struct job_command *)c;
        CRASH_POINT("job.committed");
        jc->done(jc->arg, err, &c->e, err == 0 ? &jc->view : NULL, jc->replayed);
        job_command_free(jc);
}

static int submit_job(struct job_command *jc, int (*run)(struct command *, struct txn *),
                      void (*committed)(struct command *), struct errinfo *e)
{
        jc->cmd.run = run;
        jc->cmd.committed = committed;
        jc->cmd.done = job_command_done;
        int err = service_submit(jc->service, &jc->cmd, HEALTH_ADDS, e);
        if (err != 0)
                job_command_free(jc);
        return err;
}

/* UL_EXISTS: the view of the job that was made before. */
static int job_replay(struct job_command *jc, struct txn *t)
{
        struct idempotency_row kept;
        struct job_row row;
        struct buf result = {0};
        uint8_t id[ULID_BYTES];
        int err = idempotency_check(t, &jc->idem, &kept, &jc->cmd.e);
        if (err != UL_EXISTS)
                return err;
        if (!ulid_parse(kept.resource, strlen(kept.resource), id))
                return UL_CORRUPT;
        err = t_job_get(t, id, &row, &result);
        if (err == 0)
                err = view_job(jc->service, t, id, &row, (const char *)result.data, result.len,
                               &jc->view);
        buf_free(&result, false);
        jc->replayed = true;
        if (err == UL_NOT_FOUND)
                return ul_fail(&jc->cmd.e, err,
                               "this Idempotency-Key began job %.26s, which was one of the oldest "
                               "and is not kept any more",
                               kept.resource);
        return err == 0 ? UL_EXISTS : err;
}

/* Makes the job's row, its audit entry and its view; result: of one that is over at once, or NULL.
 */
static int job_begin(struct job_command *jc, struct txn *t, const uint8_t id[ULID_BYTES],
                     struct job_row *row, const char *event, const struct buf *result)
{
        const char *said = result != NULL ? (const char *)result->data : NULL;
        size_t len = result != NULL ? result->len : 0;
        char text[ULID_TEXT + 1];
        struct event ev;
        struct audit_keys keys = {.model = jc->model->config->name};
        row->model = jc->model->id;
        row->created_ms = now_ms();
        if (row->state == JOB_SUCCEEDED)
                row->started_ms = row->ended_ms = row->created_ms;
        (void)snprintf(row->model_name, sizeof row->model_name, "%s", jc->model->config->name);
        int err = t_job_put(t, id, row, said, len);
        if (err == 0)
                err = idempotency_keep(t, &jc->idem, ulid_format(id, text), 202);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "model", jc->model->config->name);
        event_ulid(&ev, "job", id);
        err = event_append(&ev, jc->service, t, event, jc->actor, &keys, NULL);
        CRASH_POINT("job.recorded");
        return err != 0 ? err : view_job(jc->service, t, id, row, said, len, &jc->view);
}

/* Freezes the shard's open slice if it holds something; marks it dirty if there is work. */
static int freeze_shard(struct txn *t, struct model *m, uint32_t shard, struct training *tr,
                        int64_t now)
{
        struct shard_row row;
        struct slice_row open;
        int err = t_shard_get(t, m->id, shard, &row);
        if (err != 0)
                return err;
        err = t_slice_get(t, m->id, shard, row.slices + 1, &open);
        if (err == 0 && open.live > 0)
                row.slices++;
        else if (err != 0 && err != UL_NOT_FOUND)
                return err;
        if (row.clean >= row.slices)
                return 0;
        tr->left[shard / 8] |= (uint8_t)(1u << (shard % 8));
        row.attempts = 0;
        if (row.dirty_since_ms == 0)
                row.dirty_since_ms = now;
        return t_shard_put(t, m->id, shard, &row);
}

/* What a training and a compaction need alike. UL_EXISTS: the job was made before. */
static int may_begin(struct job_command *jc, struct txn *t, struct model_row *row)
{
        struct model *m = jc->model;
        struct errinfo *e = &jc->cmd.e;
        struct training tr = {0};
        uint32_t staged = 0;
        int err = job_replay(jc, t);
        if (err != 0)
                return err;
        err = t_model_get(t, m->config->name, row, NULL);
        if (err == UL_NOT_FOUND || (err == 0 && (row->deleting || row->id != m->id)))
                return ul_fail(e, UL_NOT_FOUND, "the model is being deleted");
        if (err == 0)
                err = training_get(t, m->id, &tr);
        if (err == 0)
                return ul_fail(e, UL_CONFLICT,
                               "a training or compaction of this model is under way; wait for its "
                               "job to end");
        if (err == UL_NOT_FOUND)
                err = upload_staged(t, m->id, &staged);
        if (err == 0 && staged != 0)
                return ul_fail(e, UL_CONFLICT,
                               "an atomic upload to this model is in progress; %s after it",
                               jc->compact ? "compact" : "train");
        return err;
}

static int train_run(struct command *c, struct txn *t)
{
        struct job_command *jc = (struct job_command *)c;
        struct model *m = jc->model;
        struct model_row row;
        struct training tr = {0};
        bool moving = false;
        int err = may_begin(jc, t, &row);
        if (err != 0)
                return err == UL_EXISTS ? 0 : err;
        if (row.records == 0 && !row.trained)
                return ul_fail(&c->e, UL_CONFLICT, "the model holds no records; load some first");
        err = compaction_moves(t, m, &moving);
        if (err == 0 && moving)
                return ul_fail(&c->e, UL_CONFLICT,
                               "a compaction of this model failed and is not finished; ask for it "
                               "again");
        ulid_make(tr.job);
        row.trained = 1;
        for (uint32_t i = 0; i < m->config->shards && err == 0; i++)
                err = freeze_shard(t, m, i, &tr, now_ms());
        if (err == 0)
                err = t_model_put(t, m->config->name, &row, NULL, 0);
        bool work = training_left(&tr) > 0;
        if (err == 0 && work)
                err = training_put(t, m->id, &tr);
        struct job_row job = {
                .kind = JOB_TRAIN, .state = work ? JOB_QUEUED : JOB_SUCCEEDED, .shard = UINT32_MAX};
        return err != 0 ? err : job_begin(jc, t, tr.job, &job, "training.requested", NULL);
}

/* --- compact --- */

static int compact_run(struct command *c, struct txn *t)
{
        struct job_command *jc = (struct job_command *)c;
        struct model *m = jc->model;
        struct model_row row;
        struct training tr = {0};
        struct buf result = {0};
        int err = may_begin(jc, t, &row);
        if (err != 0)
                return err == UL_EXISTS ? 0 : err;
        if (!row.trained)
                return ul_fail(&c->e, UL_CONFLICT,
                               "the model was never trained: its records are where a compaction "
                               "would bring them");
        ulid_make(tr.job);
        err = compaction_ask(t, m, &tr);
        bool work = training_left(&tr) > 0;
        if (err == 0 && work)
                err = training_put(t, m->id, &tr);
        else if (err == 0)
                err = compaction_take_result(t, m, &result);
        struct job_row job = {.kind = JOB_COMPACT,
                              .state = work ? JOB_QUEUED : JOB_SUCCEEDED,
                              .shard = UINT32_MAX};
        if (err == 0)
                err = job_begin(jc, t, tr.job, &job, "compaction.requested", &result);
        buf_free(&result, false);
        return err;
}

static void whole_committed(struct command *c)
{
        scheduler_wake(((struct job_command *)c)->service->scheduler);
}

static int service_whole(struct service *s, const char *model, bool compact, const char *actor,
                         const struct idempotency *idem, service_job_done done, void *arg,
                         struct errinfo *e)
{
        struct model *m = NULL;
        int err = registry_get(s, model, &m, e);
        if (err != 0)
                return err;
        struct job_command *jc = job_command_new(s, m, actor, idem, done, arg);
        if (jc == NULL) {
                model_unref(m);
                return ul_fail(e, UL_NOMEM, "no memory for a job");
        }
        jc->compact = compact;
        return submit_job(jc, compact ? compact_run : train_run, whole_committed, e);
}

int service_train(struct service *s, const char *model, const char *actor,
                  const struct idempotency *idem, service_job_done done, void *arg,
                  struct errinfo *e)
{
        return service_whole(s, model, false, actor, idem, done, arg, e);
}

int service_compact(struct service *s, const char *model, const char *actor,
                    const struct idempotency *idem, service_job_done done, void *arg,
                    struct errinfo *e)
{
        return service_whole(s, model, true, actor, idem, done, arg, e);
}

/* --- verify --- */

static int verify_run(struct command *c, struct txn *t)
{
        struct job_command *jc = (struct job_command *)c;
        struct model *m = jc->model;
        uint8_t id[ULID_BYTES];
        int err = job_replay(jc, t);
        if (err != 0)
                return err == UL_EXISTS ? 0 : err;
        for (uint32_t i = 0; i < jc->count; i++) {
                struct shard_row row;
                err = t_shard_get(t, m->id, jc->shards[i], &row);
                if (err != 0)
                        return err;
                if (row.clean == 0)
                        return ul_fail(&c->e, UL_CONFLICT,
                                       "shard %u has no clean checkpoint to verify; wait until its "
                                       "training is done",
                                       jc->shards[i]);
        }
        /* attempts holds the number of shards: see views.c */
        struct job_row job = {.kind = JOB_VERIFY,
                              .state = JOB_QUEUED,
                              .shard = jc->count == 1 ? jc->shards[0] : UINT32_MAX,
                              .attempts = jc->count};
        ulid_make(id);
        return job_begin(jc, t, id, &job, "verification.requested", NULL);
}

static void verify_committed(struct command *c)
{
        struct job_command *jc = (struct job_command *)c;
        if (jc->replayed)
                return;
        scheduler_verify(jc->service->scheduler, jc->verification, jc->view.id);
        jc->verification = NULL;
}

int service_verify(struct service *s, const char *model, const uint32_t *shards, uint32_t count,
                   const char *actor, const struct idempotency *idem, service_job_done done,
                   void *arg, struct errinfo *e)
{
        struct model *m = NULL;
        char field[32];
        int err = registry_get(s, model, &m, e);
        if (err != 0)
                return err;
        bool all = count == 0;
        count = all ? m->config->shards : count;
        struct job_command *jc = job_command_new(s, m, actor, idem, done, arg);
        if (jc == NULL || (jc->shards = calloc(count, sizeof *jc->shards)) == NULL) {
                free(jc);
                model_unref(m);
                return ul_fail(e, UL_NOMEM, "no memory for a job");
        }
        jc->count = count;
        for (uint32_t i = 0; i < count; i++) {
                jc->shards[i] = all ? i : shards[i];
                if (jc->shards[i] < m->config->shards)
                        continue;
                (void)snprintf(field, sizeof field, "/shards/%u", i);
                err = ul_fail_field(e, UL_INVALID, field, "the model has shards 0..%u",
                                    m->config->shards - 1);
                job_command_free(jc);
                return err;
        }
        jc->verification = verification_create(m, jc->shards, count);
        if (jc->verification == NULL) {
                job_command_free(jc);
                return ul_fail(e, UL_NOMEM, "no memory for a verification");
        }
        return submit_job(jc, verify_run, verify_committed, e);
}
