/* SPDX-License-Identifier: Apache-2.0
 * intake.c: records that stream in, from the HTTP thread's bytes to the writer's batches. While one
 * batch is in flight the next is filled; when both are full the client waits (UL_AGAIN), so an
 * upload of any size takes two batches of memory. It knows nothing of files or of the index.
 *
 *   feed:   parse -> fill -> full? -> nothing in flight? -> submit, swap, go on
 *                                  -> else UL_AGAIN, and `wake` when the flight has landed
 *   finish: the rest of the last line -> last batch -> (atomic) commit -> 0 */
#include "daemon/intake.h"
#include "daemon/scheduler.h"
#include "daemon/upload.h"

#include "lib/records/ingest.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct intake {
        /* set once */
        struct service *service;
        struct model *model; /* referenced */
        bool atomic, evaluate;
        char actor[ACTOR_MAX];
        char id_prefix[ID_BYTES_MAX + 1];
        void (*wake)(void *arg);
        void *wake_arg;
        uint32_t batch_rows;
        /* the thread that feeds */
        struct ingest *ingest;
        struct batch *filling;
        bool ended;     /* ingest_finish is through */
        bool committed; /* the staged upload is live */
        bool given_up;  /* it ends with last_err, once nothing is in flight */
        int last_err;
        struct errinfo last_e;
        struct intake_result result; /* while nothing is in flight */
        struct intake_result parsed; /* lines that the parser refused */
        /* the flight: handed over with `flying` under the lock */
        struct command cmd;
        struct batch *flight;
        struct upload_batch upload;
        uint32_t upload_id;
        struct call_off *off; /* atomic: made at the beginning, so that it cannot fail at the end */
        struct evaluation evaluation;
        /* shared, under lock */
        pthread_mutex_t lock;
        bool flying, waiting, closed;
        int err;
        struct errinfo e;
};

static void batch_free(struct batch *b, size_t bytes)
{
        if (b == NULL)
                return;
        if (b->rows != NULL)
                wipe(b->rows, bytes);
        if (b->items != NULL)
                wipe(b->items, UPLOAD_BATCH_ROWS * sizeof *b->items);
        free(b->rows);
        free(b->items);
        free(b);
}

static struct batch *batch_new(size_t bytes)
{
        struct batch *b = calloc(1, sizeof *b);
        if (b == NULL)
                return NULL;
        b->items = calloc(UPLOAD_BATCH_ROWS, sizeof *b->items);
        b->rows = calloc(1, bytes);
        if (b->items != NULL && b->rows != NULL)
                return b;
        batch_free(b, bytes);
        return NULL;
}

static size_t batch_bytes(const struct intake *in)
{
        return (size_t)in->batch_rows * row_bytes(&in->model->encoding.e.shape);
}

static void intake_free(struct intake *in)
{
        batch_free(in->filling, batch_bytes(in));
        batch_free(in->flight, batch_bytes(in));
        if (in->ingest != NULL)
                ingest_destroy(&in->ingest);
        evaluation_clear(&in->evaluation);
        free(in->off);
        wipe(in->id_prefix, sizeof in->id_prefix);
        pthread_mutex_destroy(&in->lock);
        model_unref(in->model);
        atomic_fetch_sub(&in->service->intakes, 1);
        free(in);
}

/* --- a staged upload that will not commit --- */

struct call_off {
        struct command cmd;
        struct call_off *next; /* of the service's */
        struct service *service;
        uint32_t upload;
};

static int call_off_run(struct command *c, struct txn *t)
{
        int err = upload_call_off(t, ((struct call_off *)c)->upload);
        CRASH_POINT("staged.called_off");
        return err == UL_NOT_FOUND ? 0 : err;
}

/* Any thread: tried again by probe.c, since no other upload is accepted before it. */
static void keep_call_off(struct call_off *o)
{
        struct service *s = o->service;
        o->next = atomic_load(&s->called_off);
        while (!atomic_compare_exchange_weak(&s->called_off, &o->next, o))
                continue;
        atomic_store(&s->unsettled, true);
        scheduler_wake(s->scheduler);
}

static void call_off_done(struct command *c, int err)
{
        struct call_off *o = (struct call_off *)c;
        if (err != 0) {
                keep_call_off(o);
                return;
        }
        scheduler_wake(o->service->scheduler);
        free(o);
}

static void call_off(struct intake *in)
{
        struct call_off *o = in->off;
        in->off = NULL;
        o->cmd.run = call_off_run;
        o->cmd.done = call_off_done;
        o->service = in->service;
        o->upload = in->upload_id;
        if (writer_submit(in->service->writer, &o->cmd, NULL) != 0)
                keep_call_off(o);
}

void intake_call_off_again(struct service *s)
{
        struct call_off *list = atomic_exchange(&s->called_off, NULL);
        while (list != NULL) {
                struct call_off *next = list->next;
                if (writer_submit(s->writer, &list->cmd, NULL) != 0)
                        keep_call_off(list);
                list = next;
        }
}

void intake_forget(struct service *s)
{
        struct call_off *list = atomic_exchange(&s->called_off, NULL);
        while (list != NULL) {
                struct call_off *next = list->next;
                free(list);
                list = next;
        }
}

/* --- the flight --- */

/* The flight has landed: keeps its error, wakes who waits, or ends an intake that was closed. */
static void landed(struct intake *in, int err, const struct errinfo *e)
{
        pthread_mutex_lock(&in->lock);
        assert(in->flying);
        in->flying = false;
        if (err != 0 && in->err == 0) {
                in->err = err;
                in->e = *e;
        }
        bool closed = in->closed;
        /* Under the lock: close() takes it, so no wake comes after close() has returned. */
        if (in->waiting && !closed)
                in->wake(in->wake_arg);
        in->waiting = false;
        pthread_mutex_unlock(&in->lock);
        if (!closed)
                return; /* it is the feeding thread's again */
        if (in->upload_id != 0 && !in->committed)
                call_off(in);
        intake_free(in);
}

static int batch_run(struct command *c, struct txn *t)
{
        struct intake *in = (struct intake *)((char *)c - offsetof(struct intake, cmd));
        return upload_apply(in->service, t, &in->upload, &c->e);
}

static void batch_done(struct command *c, int err)
{
        struct intake *in = (struct intake *)((char *)c - offsetof(struct intake, cmd));
        CRASH_POINT("upload.committed");
        if (err == 0)
                upload_counted(&in->upload);
        if (err != 0 && in->upload.began)
                in->upload_id = 0; /* never committed: the id may be another upload's by now */
        if (err != 0 && in->upload.wrote)
                upload_undo(in->model);
        wipe(in->flight->rows, batch_bytes(in));
        in->flight->count = 0;
        landed(in, err, &c->e);
}

static int commit_run(struct command *c, struct txn *t)
{
        struct intake *in = (struct intake *)((char *)c - offsetof(struct intake, cmd));
        return upload_commit(in->service, t, in->model, in->upload_id, in->actor, &in->result,
                             &c->e);
}

static void commit_done(struct command *c, int err)
{
        struct intake *in = (struct intake *)((char *)c - offsetof(struct intake, cmd));
        CRASH_POINT("staged.committed");
        in->committed = err == 0;
        landed(in, err, &c->e);
}

static void evaluated(void *arg, int err, const struct errinfo *e)
{
        struct intake *in = arg;
        if (err == 0)
                evaluation_add(&in->evaluation, in->model, in->flight);
        else
                predict_close(&in->evaluation.predict);
        wipe(in->flight->rows, batch_bytes(in));
        in->flight->count = 0;
        landed(in, err, e);
}

static int launch(struct intake *in, int (*run)(struct command *, struct txn *),
                  void (*done)(struct command *, int))
{
        in->cmd = (struct command){.run = run, .done = done};
        return service_submit(in->service, &in->cmd, HEALTH_ADDS, &in->e);
}

/* Sends the filled batch off; the caller has seen that nothing is in flight. */
static int submit(struct intake *in)
{
        struct batch *b = in->filling;
        in->filling = in->flight;
        in->flight = b;
        in->flying = true;
        int err;
        if (in->evaluate) {
                err = evaluation_submit(&in->evaluation, in->service, in->model, b, evaluated, in,
                                        &in->e);
        } else {
                in->upload = (struct upload_batch){.model = in->model,
                                                   .actor = in->actor,
                                                   .items = b->items,
                                                   .rows = b->rows,
                                                   .count = b->count,
                                                   .atomic = in->atomic,
                                                   .upload = &in->upload_id,
                                                   .result = &in->result};
                err = launch(in, batch_run, batch_done);
        }
        if (err != 0) {
                in->flying = false;
                in->err = err;
        }
        return err;
}

/* 0: nothing is in flight; UL_AGAIN: `wake` will come; else the upload's error. */
static int settle(struct intake *in)
{
        int err;
        pthread_mutex_lock(&in->lock);
        err = in->err;
        if (in->flying) {
                in->waiting = true;
                err = UL_AGAIN;
        }
        pthread_mutex_unlock(&in->lock);
        return err;
}

/* --- parsing --- */

static int on_row(void *arg, const struct ingest_row *row)
{
        struct intake *in = arg;
        struct batch *b = in->filling;
        uint32_t width = row_bytes(&in->model->encoding.e.shape);
        assert(b->count < in->batch_rows);
        struct upload_item *it = &b->items[b->count];
        memcpy(it->record, row->record, PSEUDONYM_BYTES);
        memcpy(it->subject, row->subject, PSEUDONYM_BYTES);
        it->likelihood = row->likelihood;
        it->line = row->line;
        memcpy(b->rows + (size_t)b->count * width, row->row, width);
        b->count++;
        if (b->count < in->batch_rows)
                return 0;
        int err = settle(in);
        return err == 0 ? submit(in) : err;
}

static int on_bad(void *arg, uint64_t line, const struct errinfo *why)
{
        struct intake *in = arg;
        intake_result_error(&in->parsed, line, why);
        return 0;
}

/* Clients that open uploads and leave them there must not take all the memory. */
static int admit(struct service *s, struct errinfo *e)
{
        if (atomic_fetch_add(&s->intakes, 1) < INTAKES_MAX)
                return 0;
        atomic_fetch_sub(&s->intakes, 1);
        int err = ul_fail(e, UL_BUSY, "%d uploads are in progress; try again in a second",
                          INTAKES_MAX);
        if (e != NULL)
                e->retry_after_s = 1;
        return err;
}

int service_intake_begin(struct service *s, const char *model, const struct intake_options *o,
                         void (*wake)(void *arg), void *arg, struct intake **out, struct errinfo *e)
{
        static const struct ingest_events events = {.row = on_row, .bad = on_bad};
        struct model *m = NULL;
        int err = registry_get(s, model, &m, e);
        if (err != 0)
                return err;
        err = admit(s, e);
        if (err != 0) {
                model_unref(m);
                return err;
        }
        struct intake *in = calloc(1, sizeof *in);
        if (in == NULL) {
                atomic_fetch_sub(&s->intakes, 1);
                model_unref(m);
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        }
        in->service = s;
        in->model = m;
        in->atomic = o->atomic;
        in->evaluate = o->evaluate;
        in->wake = wake;
        in->wake_arg = arg;
        (void)snprintf(in->actor, sizeof in->actor, "%s", o->actor);
        (void)snprintf(in->id_prefix, sizeof in->id_prefix, "%s",
                       o->id_prefix != NULL ? o->id_prefix : "");
        pthread_mutex_init(&in->lock, NULL);
        uint32_t width = row_bytes(&m->encoding.e.shape);
        in->batch_rows = UPLOAD_BATCH_BYTES / width;
        if (in->batch_rows > UPLOAD_BATCH_ROWS)
                in->batch_rows = UPLOAD_BATCH_ROWS;
        if (in->batch_rows == 0)
                in->batch_rows = 1;
        in->filling = batch_new(batch_bytes(in));
        in->flight = batch_new(batch_bytes(in));
        if (in->filling == NULL || in->flight == NULL)
                err = ul_fail(e, UL_NOMEM, "no memory for an upload");
        if (err == 0 && o->atomic && (in->off = calloc(1, sizeof *in->off)) == NULL)
                err = ul_fail(e, UL_NOMEM, "no memory for an upload");
        if (err == 0 && o->evaluate)
                err = evaluation_init(&in->evaluation, m->config, e);
        struct ingest_options io = {.format = (enum ingest_format)o->format,
                                    .compression = (enum ingest_compression)o->compression,
                                    .encoding = &m->encoding.e,
                                    .pseudonym_key = s->pseudonym_key,
                                    .id_prefix = in->id_prefix,
                                    .labels_required = true};
        struct ingest_events ev = events;
        ev.arg = in;
        if (err == 0)
                err = ingest_create(&io, &ev, &in->ingest, e);
        if (err != 0) {
                intake_free(in);
                return err;
        }
        *out = in;
        return 0;
}

/* Sends off a batch that was full when the last call had to stop. While there is room, parsing goes
 * on beside the flight. */
static int resume(struct intake *in)
{
        if (in->filling->count < in->batch_rows) {
                pthread_mutex_lock(&in->lock);
                int failed = in->err;
                pthread_mutex_unlock(&in->lock);
                return failed;
        }
        int err = settle(in);
        return err == 0 ? submit(in) : err;
}

/* The parser's refusals and the writer's in one, when nothing is in flight any more. */
static void merge_results(struct intake *in)
{
        struct intake_result *r = &in->result;
        uint64_t refused = in->parsed.rejected;
        for (uint32_t i = 0; i < in->parsed.error_count; i++, refused--)
                intake_result_error(r, in->parsed.errors[i].line, &in->parsed.errors[i].why);
        r->rejected += refused;
        in->parsed = (struct intake_result){0};
        if (in->evaluate)
                evaluation_result(&in->evaluation, in->model->config, r);
}

/* The upload cannot go on. What was read before that is kept (unless it is atomic), and the error
 * is given when it is: its counts are then final. */
static int give_up(struct intake *in, int err, struct errinfo *e)
{
        if (!in->given_up) {
                in->given_up = true;
                in->last_err = err;
                in->last_e = *e;
        }
        err = settle(in);
        if (err == 0 && in->filling->count > 0 && !in->atomic && !in->evaluate) {
                err = submit(in);
                if (err == 0)
                        err = settle(in);
        }
        if (err == UL_AGAIN)
                return err;
        merge_results(in);
        if (in->atomic)
                in->result.accepted = 0;
        *e = in->last_e;
        return in->last_err;
}

/* 0 and UL_AGAIN as they are; an error of the flight with its text; any error after the drain. */
static int conclude(struct intake *in, int err, struct errinfo *e)
{
        if (err == 0 || err == UL_AGAIN)
                return err;
        pthread_mutex_lock(&in->lock);
        if (in->err == err && !in->given_up)
                *e = in->e;
        pthread_mutex_unlock(&in->lock);
        return give_up(in, err, e);
}

/* Before UL_AGAIN is returned: where no flight will wake the client, only the parser has had its
 * turn, and it may go on at once. */
static void promise_wake(struct intake *in)
{
        pthread_mutex_lock(&in->lock);
        bool waiting = in->waiting;
        pthread_mutex_unlock(&in->lock);
        if (!waiting)
                in->wake(in->wake_arg);
}

int service_intake_feed(struct intake *in, const void *data, size_t len, size_t *consumed,
                        struct errinfo *e)
{
        *consumed = 0;
        if (in->given_up)
                return give_up(in, 0, e);
        int err = resume(in);
        if (err == 0)
                err = ingest_feed(in->ingest, data, len, consumed, e);
        err = conclude(in, err, e);
        if (err == UL_AGAIN)
                promise_wake(in);
        return err;
}

static int finish(struct intake *in, struct errinfo *e)
{
        int err = resume(in);
        if (err == 0 && !in->ended) {
                err = ingest_finish(in->ingest, e);
                in->ended = err == 0;
        }
        if (err == 0)
                err = settle(in);
        if (err == 0 && in->filling->count > 0) {
                err = submit(in);
                if (err == 0)
                        err = settle(in);
        }
        if (err != 0)
                return err;
        merge_results(in);
        if (in->atomic && in->result.rejected > 0) {
                in->result.accepted = 0;
                return ul_fail(e, UL_INVALID,
                               "%llu lines were refused, so nothing of this atomic upload was kept",
                               (unsigned long long)in->result.rejected);
        }
        if (in->upload_id == 0 || in->committed)
                return 0;
        in->flying = true;
        err = launch(in, commit_run, commit_done);
        if (err != 0) {
                in->flying = false;
                in->err = err;
                return err;
        }
        return settle(in);
}

int service_intake_finish(struct intake *in, struct errinfo *e)
{
        if (in->given_up)
                return give_up(in, 0, e);
        int err = finish(in, e);
        if (err == 0) {
                metric_add(METRIC_RECORDS_ACCEPTED, in->result.accepted);
                metric_add(METRIC_RECORDS_DUPLICATE, in->result.duplicates);
                metric_add(METRIC_RECORDS_SUPPRESSED, in->result.suppressed);
                metric_add(METRIC_RECORDS_REJECTED, in->result.rejected);
        }
        err = conclude(in, err, e);
        if (err == UL_AGAIN)
                promise_wake(in);
        return err;
}

const struct intake_result *service_intake_result(const struct intake *in)
{
        return &in->result;
}

void service_intake_close(struct intake **pin)
{
        struct intake *in = *pin;
        if (in == NULL)
                return;
        *pin = NULL;
        pthread_mutex_lock(&in->lock);
        bool flying = in->flying;
        in->closed = true;
        pthread_mutex_unlock(&in->lock);
        if (flying)
                return; /* `landed` ends it */
        if (in->upload_id != 0 && !in->committed)
                call_off(in);
        intake_free(in);
}
