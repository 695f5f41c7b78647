/* SPDX-License-Identifier: Apache-2.0
 * delete.c: the end of a model: nothing of it is served from the commit on that marks it, then its
 * workers end, its files are overwritten and unlinked, and its index is removed, both in bounded
 * steps: the loop has others to look after meanwhile. Erasures that waited for it are complete with
 * that: nothing is left to retrain. A crash in between goes on at the next start. */
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/loop.h"
#include "daemon/run.h"
#include "daemon/scheduler.h"
#include "daemon/upload.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        STEP = 1000,
        RETRY_US = 1000000,
        STEP_ERASURES = 128,
        STEP_BYTES = CRASH_POINTS ? 1 << 16 : 8 << 20, /* of files, at a look */
};

struct deletion {
        struct deletion *next;
        struct call call;
        struct scheduler *k;
        struct model *model; /* referenced */
        service_model_done done;
        void *arg;
        bool scrubbed; /* the files are gone */
        bool busy;     /* a step is at the writer */
};

static void arrived(struct call *c)
{
        struct deletion *d = (struct deletion *)((char *)c - offsetof(struct deletion, call));
        d->next = d->k->deletions;
        d->k->deletions = d;
}

int scheduler_delete(struct scheduler *k, struct model *m_take, service_model_done done, void *arg)
{
        struct deletion *d = calloc(1, sizeof *d);
        if (d == NULL) {
                model_unref(m_take);
                return UL_NOMEM;
        }
        d->k = k;
        d->model = m_take;
        d->done = done;
        d->arg = arg;
        d->call.fn = arrived;
        loop_post(k, &d->call);
        return 0;
}

static void finish(struct scheduler *k, struct deletion *d, int err, const struct errinfo *e)
{
        for (struct deletion **at = &k->deletions; *at != NULL; at = &(*at)->next) {
                if (*at == d) {
                        *at = d->next;
                        break;
                }
        }
        atomic_fetch_sub(&k->service->going, 1);
        if (d->done != NULL)
                d->done(d->arg, err, e, NULL, false);
        model_unref(d->model);
        free(d);
}

/* --- steps, each bounded --- */

struct step {
        struct loop_command lc;
        struct deletion *d;
        bool left;
        struct scrub_key keys[STEP_ERASURES];
        uint32_t count;
};

static int collect(void *arg, const struct scrub_key *key, const struct scrub_row *row)
{
        struct step *s = arg;
        (void)row;
        if (key->model != s->d->model->id)
                return 0;
        if (s->count == STEP_ERASURES)
                return 1;
        s->keys[s->count++] = *key;
        return 0;
}

static int end_scrubs(struct step *s, struct txn *t)
{
        int err = t_scrub_each(t, NULL, collect, s);
        s->left = err == 1;
        err = s->left ? 0 : err;
        for (uint32_t i = 0; i < s->count && err == 0; i++) {
                err = t_scrub_del(t, &s->keys[i]);
                if (err == 0)
                        err = erasure_scrubbed(s->lc.k->service, t, s->keys[i].erasure, 1);
        }
        return err;
}

static int end_waiting(struct step *s, struct txn *t)
{
        struct model *m = s->d->model;
        int err = 0;
        for (uint32_t i = 0; i < m->config->shards && err == 0 && !s->left; i++)
                err = erasures_complete_shard(s->lc.k->service, t, m->id, i, STEP_ERASURES,
                                              &s->left);
        return err == UL_NOT_FOUND ? 0 : err; /* the shards went in a step before */
}

static int end_model(struct step *s, struct txn *t)
{
        static const char *const blobs[] = {"training", "kernel"};
        struct model *m = s->d->model;
        struct training tr;
        struct event ev;
        struct audit_keys keys = {.model = m->config->name};
        char name[32];
        uint32_t upload = 0;
        int err = training_get(t, m->id, &tr);
        if (err == 0)
                err = job_end(t, tr.job, JOB_CANCELLED, "the model was deleted", NULL, 0);
        err = err == UL_NOT_FOUND ? 0 : err;
        if (err == 0)
                err = upload_staged(t, m->id, &upload);
        if (err == 0 && upload != 0)
                err = t_upload_del(t, upload);
        for (size_t i = 0; i < sizeof blobs / sizeof blobs[0] && err == 0; i++) {
                (void)snprintf(name, sizeof name, "%s/%u", blobs[i], m->id);
                err = t_blob_put(t, name, "", 0);
        }
        if (err == 0)
                err = compaction_forget(t, m);
        if (err == 0)
                err = t_model_del(t, m->config->name);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "model", m->config->name);
        return event_append(&ev, s->lc.k->service, t, "model.deleted", "unlearnd", &keys, NULL);
}

static int step_run(struct loop_command *lc, struct txn *t)
{
        struct step *s = (struct step *)lc;
        s->left = false;
        s->count = 0;
        int err = end_scrubs(s, t);
        if (err == 0 && !s->left)
                err = end_waiting(s, t);
        if (err == 0 && !s->left)
                err = t_model_purge(t, s->d->model->id, STEP, &s->left);
        if (err == 0 && !s->left)
                err = end_model(s, t);
        CRASH_POINT("delete.recorded");
        return err;
}

static void step_back(struct loop_command *lc, int err)
{
        struct step *s = (struct step *)lc;
        struct deletion *d = s->d;
        struct scheduler *k = lc->k;
        if (err == 0 && s->left && !k->stopping) {
                loop_submit(k, lc);
                return;
        }
        CRASH_POINT("delete.committed");
        d->busy = false;
        if (err != 0) {
                log_event(LOG_LEVEL_ERROR, "deletion_failed", "error=%s action=\"tried again\"",
                          ul_err_name(err));
                loop_due(k, mono_us() + RETRY_US);
        } else if (!s->left) { /* else the next start goes on */
                finish(k, d, 0, NULL);
        }
        free(s);
}

/* Some of its files; UL_AGAIN: there are more. */
static int scrub_files(struct scheduler *k, struct deletion *d, uint64_t *budget)
{
        struct errinfo e = {0};
        int err = scrub_tree_some(d->model->root, budget, &e);
        if (err == UL_AGAIN) {
                CRASH_POINT("delete.files_cut");
                loop_due(k, mono_us());
        } else if (err != 0) {
                k->scrub_failed = true;
                health_begin(&k->service->health, HEALTH_SCRUB, err, e.detail);
                if (!health_is_fault(err))
                        log_event(LOG_LEVEL_ERROR, "deletion_failed", "detail=\"%s\"", e.detail);
                loop_due(k, mono_us() + RETRY_US);
        } else {
                CRASH_POINT("delete.files_gone");
                d->scrubbed = true;
        }
        return err;
}

static void submit(struct scheduler *k, struct deletion *d)
{
        struct step *s = calloc(1, sizeof *s);
        if (s == NULL) {
                loop_due(k, mono_us() + RETRY_US);
                return;
        }
        s->lc.run = step_run;
        s->lc.back = step_back;
        s->d = d;
        d->busy = true;
        loop_submit(k, &s->lc);
}

void delete_pass(struct scheduler *k)
{
        uint64_t budget = STEP_BYTES;
        for (struct deletion *d = k->deletions; d != NULL; d = d->next) {
                if (d->busy || runs_of(k, d->model->id) > 0)
                        continue;
                if (d->scrubbed || scrub_files(k, d, &budget) == 0)
                        submit(k, d);
        }
}

void delete_clear(struct scheduler *k)
{
        struct errinfo e = {0};
        (void)ul_fail(&e, UL_CLOSED, "the daemon is stopping; the deletion goes on at its start");
        while (k->deletions != NULL)
                finish(k, k->deletions, UL_CLOSED, &e);
}
