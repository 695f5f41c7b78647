/* SPDX-License-Identifier: Apache-2.0
 * suppress_import.c: suppressions that stream in from another instance. One batch of memory
 * whatever their number: what fills it goes to the writer in bounded steps, and the client waits
 * (UL_AGAIN). Where it was asked for, the people of a batch that are held here are erased before
 * the next one is taken, so an answer is given only when they are forgotten (invariant 4).
 *
 *   add -> full? -> step, step ... -> held, and to be erased? -> erasures -> landed -> `wake` */
#include "daemon/erasure_ledger.h"
#include "daemon/scheduler.h"
#include "daemon/state.h"
#include "daemon/suppress.h"

#include "lib/util/crash_point.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_US = 20000 }; /* of the writer's 50 ms */

struct suppression_import {
        /* set once */
        struct service *service;
        bool erase;
        char actor[ACTOR_MAX];
        void (*wake)(void *arg);
        void *wake_arg;
        /* the feeding thread's; the flight's while `flying` */
        struct ledger_suppression *entries; /* [LEDGER_IMPORT_MAX] */
        uint32_t count, at;                 /* `at`: those before it are committed */
        struct import_step step;
        bool stepped; /* once: an import of nothing leaves its entry in the log, too */
        struct erase_request *requests; /* [request_count]: of those who are held */
        uint32_t request_count;
        struct import_result result;
        struct command cmd;
        /* shared, under lock */
        pthread_mutex_t lock;
        bool flying, waiting, closed;
        int err;
        struct errinfo e;
};

static void requests_clear(struct suppression_import *in)
{
        for (uint32_t i = 0; i < in->request_count; i++)
                erase_request_clear(&in->requests[i]);
        free(in->requests);
        in->requests = NULL;
        in->request_count = 0;
}

static void import_free(struct suppression_import *in)
{
        requests_clear(in);
        free(in->entries);
        pthread_mutex_destroy(&in->lock);
        atomic_fetch_sub(&in->service->intakes, 1);
        free(in);
}

/* --- the flight --- */

static void landed(struct suppression_import *in, int err, const struct errinfo *e)
{
        in->count = in->at = 0;
        pthread_mutex_lock(&in->lock);
        assert(in->flying);
        in->flying = false;
        if (err != 0 && in->err == 0) {
                in->err = err;
                in->e = *e;
        }
        bool closed = in->closed;
        /* under the lock, as in intake.c: no wake comes after close has returned */
        if (in->waiting && !closed)
                in->wake(in->wake_arg);
        in->waiting = false;
        pthread_mutex_unlock(&in->lock);
        if (closed)
                import_free(in);
}

static void erased(void *arg, int err, const struct errinfo *e,
                   const struct erase_outcome *outcomes, uint32_t count)
{
        struct suppression_import *in = arg;
        struct import_result *r = &in->result;
        struct errinfo why = *e;
        for (uint32_t i = 0; i < count && outcomes != NULL; i++) {
                const struct erase_outcome *o = &outcomes[i];
                if (o->err == UL_INVALID)
                        continue; /* the model was deleted meanwhile, and everybody in it */
                if (o->err != 0) {
                        err = o->err;
                        why = o->e;
                        continue;
                }
                if (r->erasures < IMPORT_SHOWN_MAX)
                        memcpy(r->erasure_ids[r->erasures], o->view.id, ULID_BYTES);
                r->erasures++;
        }
        landed(in, err, &why);
}

/* The request that takes this model's subjects, or its records; made where there is none. One a
 * model: where the model is deleted meanwhile, its request is refused, and no other one. */
static struct erase_request *request_for(struct suppression_import *in,
                                         const struct ledger_suppression *x)
{
        for (uint32_t i = 0; i < in->request_count; i++) {
                struct erase_request *r = &in->requests[i];
                const char *model = r->models != NULL    ? r->models[0]
                                    : r->records != NULL ? r->records[0].model
                                                         : "";
                if (x->record == (r->records != NULL) && strcmp(model, x->model) == 0)
                        return r;
        }
        struct erase_request *grown =
                realloc(in->requests, (in->request_count + 1) * sizeof *grown);
        if (grown == NULL)
                return NULL;
        in->requests = grown;
        struct erase_request *r = &grown[in->request_count++];
        *r = (struct erase_request){0};
        memcpy(r->actor, in->actor, sizeof r->actor);
        if (x->record)
                r->records = calloc(1, sizeof *r->records); /* grows: there may be many models */
        else
                r->subjects = calloc(LEDGER_IMPORT_MAX, sizeof *r->subjects);
        if (!x->record && x->model[0] != '\0' && (r->models = calloc(1, sizeof *r->models)) != NULL)
                memcpy(r->models[r->model_count++], x->model, sizeof x->model);
        bool made = (x->record ? (void *)r->records : (void *)r->subjects) != NULL &&
                    (x->record || x->model[0] == '\0' || r->model_count == 1);
        return made ? r : NULL;
}

static int ask_erasure(struct suppression_import *in, const struct ledger_suppression *x)
{
        struct erase_request *r = request_for(in, x);
        if (r == NULL)
                return UL_NOMEM;
        if (x->record) {
                struct erase_record *grown =
                        realloc(r->records, (r->record_count + 1) * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                r->records = grown;
                struct erase_record *to = &grown[r->record_count++];
                *to = (struct erase_record){0};
                memcpy(to->model, x->model, sizeof to->model);
                memcpy(to->pseudonym, x->pseudonym, PSEUDONYM_BYTES);
        } else {
                memcpy(r->subjects[r->subject_count++], x->pseudonym, PSEUDONYM_BYTES);
        }
        return 0;
}

/* What a committed step brought, into the result. */
static int count_step(struct suppression_import *in)
{
        struct import_result *r = &in->result;
        const struct import_step *step = &in->step;
        int err = 0;
        r->added += step->added_count;
        r->already += step->already;
        r->lifted += step->lifted;
        for (uint32_t i = 0; i < step->held_count && err == 0; i++) {
                const struct ledger_suppression *x = &in->entries[in->at + step->held[i]];
                if (r->held < IMPORT_SHOWN_MAX)
                        memcpy(r->held_pseudonyms[r->held], x->pseudonym, PSEUDONYM_BYTES);
                r->held++;
                if (in->erase)
                        err = ask_erasure(in, x);
        }
        in->at += step->taken;
        in->stepped = true;
        return err;
}

static int step_run(struct command *c, struct txn *t)
{
        struct suppression_import *in =
                (struct suppression_import *)((char *)c - offsetof(struct suppression_import, cmd));
        struct import_step *step = &in->step;
        const int64_t now = now_ms();
        *step = (struct import_step){.actor = in->actor};
        ulid_make(step->id);
        int err = import_apply(in->service, t, in->entries + in->at, in->count - in->at, now,
                               STEP_US, step, &c->e);
        if (err == 0)
                ledger_note_import(in->service, &c->ledger, step->id, now, step->added,
                                   step->added_count);
        return err;
}

static void step_done(struct command *c, int err)
{
        struct suppression_import *in =
                (struct suppression_import *)((char *)c - offsetof(struct suppression_import, cmd));
        CRASH_POINT("import.committed");
        if (err == 0 && in->step.called_off > 0)
                scheduler_wake(in->service->scheduler);
        if (err == 0 && (err = count_step(in)) != 0)
                (void)ul_fail(&c->e, err, "no memory to erase those who are held");
        if (err == 0 && in->at < in->count) {
                err = service_submit(in->service, c, HEALTH_ERASES, &c->e);
                if (err == 0)
                        return;
        }
        if (err == 0 && in->request_count > 0) {
                err = service_erase_batch(in->service, in->requests, in->request_count, erased, in,
                                          &c->e);
                free(in->requests); /* what stood in it was taken */
                in->requests = NULL;
                in->request_count = 0;
                if (err == 0)
                        return;
        }
        landed(in, err, &c->e);
}

static int submit(struct suppression_import *in)
{
        in->cmd = (struct command){.run = step_run, .done = step_done};
        in->flying = true;
        int err = service_submit(in->service, &in->cmd, HEALTH_ERASES, &in->e);
        if (err != 0) {
                in->flying = false;
                in->err = err;
        }
        return err;
}

/* 0: nothing is in flight; UL_AGAIN: `wake` will come; else the import's error. */
static int settle(struct suppression_import *in, struct errinfo *e)
{
        pthread_mutex_lock(&in->lock);
        int err = in->err;
        if (in->flying) {
                in->waiting = true;
                err = UL_AGAIN;
        } else if (err != 0 && e != NULL) {
                *e = in->e;
        }
        pthread_mutex_unlock(&in->lock);
        return err;
}

/* --- the API's side --- */

int service_import_begin(struct service *s, const char *actor, bool erase, void (*wake)(void *arg),
                         void *arg, struct suppression_import **out, struct errinfo *e)
{
        if (atomic_fetch_add(&s->intakes, 1) >= INTAKES_MAX) {
                atomic_fetch_sub(&s->intakes, 1);
                int err = ul_fail(e, UL_BUSY, "%d uploads are in progress; try again in a second",
                                  INTAKES_MAX);
                if (e != NULL)
                        e->retry_after_s = 1;
                return err;
        }
        struct suppression_import *in = calloc(1, sizeof *in);
        struct ledger_suppression *entries = calloc(LEDGER_IMPORT_MAX, sizeof *entries);
        if (in == NULL || entries == NULL) {
                atomic_fetch_sub(&s->intakes, 1);
                free(in);
                free(entries);
                return ul_fail(e, UL_NOMEM, "no memory for an import");
        }
        in->service = s;
        in->erase = erase;
        in->entries = entries;
        in->wake = wake;
        in->wake_arg = arg;
        (void)snprintf(in->actor, sizeof in->actor, "%s", actor);
        pthread_mutex_init(&in->lock, NULL);
        *out = in;
        return 0;
}

int service_import_add(struct suppression_import *in, const struct suppression_view *v,
                       struct errinfo *e)
{
        int err = settle(in, e);
        if (err != 0)
                return err;
        struct ledger_suppression *x = &in->entries[in->count++];
        *x = (struct ledger_suppression){.record = strcmp(v->kind, "record") == 0,
                                         .since_ms = v->since_ms};
        memcpy(x->model, v->model, sizeof x->model);
        memcpy(x->pseudonym, v->pseudonym, PSEUDONYM_BYTES);
        memcpy(x->erasure, v->erasure, ULID_BYTES);
        if (in->count < LEDGER_IMPORT_MAX)
                return 0;
        err = submit(in);
        return err == 0 ? 0 : settle(in, e);
}

int service_import_finish(struct suppression_import *in, struct errinfo *e)
{
        int err = settle(in, e);
        if (err == 0 && (in->count > 0 || !in->stepped)) {
                (void)submit(in);
                err = settle(in, e);
        }
        return err;
}

const struct import_result *service_import_result(const struct suppression_import *in)
{
        return &in->result;
}

void service_import_close(struct suppression_import **pin)
{
        struct suppression_import *in = *pin;
        if (in == NULL)
                return;
        *pin = NULL;
        pthread_mutex_lock(&in->lock);
        bool flying = in->flying;
        in->closed = true;
        pthread_mutex_unlock(&in->lock);
        if (!flying)
                import_free(in); /* else `landed` ends it */
}
