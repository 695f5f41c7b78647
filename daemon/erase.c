/* SPDX-License-Identifier: Apache-2.0
 * erase.c: one erasure, from the request to the answer: idempotency, index, rollback and audit in
 * one transaction (invariants 4 and 6). The writer publishes the rolled-back snapshot between the
 * commit and `done`, so whoever is told "forgotten" is told the truth. */
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/erasure_ledger.h"
#include "daemon/opendsr.h"
#include "daemon/state.h"
#include "daemon/views.h"
#include "lib/util/crash_point.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AUDIT_AFFECTED_MAX = 200 }; /* in one entry: a tile entry is under 64 KiB */

struct erase_one { /* what one request needs, alone or in a batch */
        struct erase_request request;
        struct erasure_view view;
        struct effects fx;
        uint64_t queued_us;
        int err;
        struct errinfo e;
};

void erase_request_clear(struct erase_request *r)
{
        if (r->subjects != NULL)
                wipe(r->subjects, r->subject_count * sizeof *r->subjects);
        if (r->records != NULL)
                wipe(r->records, r->record_count * sizeof *r->records);
        free(r->subjects);
        free(r->records);
        free(r->models);
        free(r->callback_url);
        opendsr_request_free(r->opendsr);
        *r = (struct erase_request){0};
}

void erasure_view_clear(struct erasure_view *v)
{
        free(v->affected);
        *v = (struct erasure_view){0};
}

int64_t erasure_default_deadline(enum erase_regulation regulation, int64_t received_ms)
{
        if (regulation == ERASE_CCPA) /* Cal. Civ. Code 1798.130(a)(2): 45 days */
                return received_ms + INT64_C(45) * 24 * 3600 * 1000;
        return time_add_months(received_ms, 1); /* GDPR art. 12(3): one month */
}

/* Lowers what is clean in the shard that was hit, and notes who waits for its retrain. */
static int roll_back(struct hit *h, struct txn *t, const uint8_t id[ULID_BYTES],
                     const struct model_row *model, int64_t deadline_ms, int64_t now)
{
        struct shard_row shard;
        struct slice_row slice;
        struct compaction compaction;
        struct evidence ev = {0};
        int err = t_shard_get(t, h->model->id, h->shard, &shard);
        if (err == 0)
                err = compaction_get(t, h->model->id, h->shard, &compaction);
        if (err != 0)
                return err;
        shard.scrubs += h->scrubs;
        h->from = h->slice;
        h->covered = model->trained && h->slice <= shard.slices;
        if (h->covered) {
                struct scrub_key key = {.model = h->model->id, .kind = SCRUB_CHECKPOINTS};
                uint32_t stood = compaction.standing;
                if (stood != 0 && stood < h->from)
                        h->from = stood;
                memcpy(key.erasure, id, ULID_BYTES);
                put_be32(key.pseudonym, h->shard);
                put_be32(key.pseudonym + 4, h->from);
                err = t_scrub_put(t, &key,
                                  &(struct scrub_row){.shard = h->shard, .slice = h->from});
                h->scrubs++;
                shard.scrubs++;
                shard.fence++;
                for (uint32_t i = h->slice; i <= shard.clean && err == 0; i++) {
                        err = t_slice_get(t, h->model->id, h->shard, i, &slice);
                        if (err != 0)
                                break;
                        evidence_took(&ev, i, &slice);
                        slice.has_checkpoint = 0;
                        err = t_slice_put(t, h->model->id, h->shard, i, &slice);
                        h->rolled_back = true;
                }
                if (err == 0 && stood != 0) {
                        err = compaction_drop_standing(t, h->model, h->shard, model->generation,
                                                       &compaction, &slice);
                        evidence_took(&ev, stood, &slice);
                        h->rolled_back = true;
                }
                if (err == 0)
                        err = served_end(t, h->model, h->shard, h->slice, shard.clean,
                                         model->generation);
                if (h->slice <= shard.clean)
                        shard.clean = h->slice - 1;
                if (h->slice < shard.touched)
                        shard.touched = h->slice;
                if (shard.dirty_since_ms == 0)
                        shard.dirty_since_ms = now;
                if (shard.deadline_ms == 0 || deadline_ms < shard.deadline_ms)
                        shard.deadline_ms = deadline_ms;
                shard.waiting++;
                int kept = evidence_forgotten(&ev, t, id, h->model->id, h->shard);
                err = err != 0 ? err : kept;
                if (err == 0)
                        err = t_waiting_put(t, h->model->id, h->shard, id);
        }
        return err == 0 ? t_shard_put(t, h->model->id, h->shard, &shard) : err;
}

/* Waits with an earlier erasure for the retrain of a shard that its own records do not ask for. */
static int stand_by(struct hit *h, struct txn *t, const uint8_t id[ULID_BYTES], int64_t deadline_ms)
{
        struct shard_row shard;
        struct evidence none = {0};
        int err = t_shard_get(t, h->model->id, h->shard, &shard);
        if (err != 0)
                return err;
        if (h->records == 0)
                h->slice = h->followed;
        h->covered = true;
        if (shard.deadline_ms == 0 || deadline_ms < shard.deadline_ms)
                shard.deadline_ms = deadline_ms;
        shard.waiting++;
        err = evidence_forgotten(&none, t, id, h->model->id, h->shard);
        if (err == 0)
                err = t_waiting_put(t, h->model->id, h->shard, id);
        return err == 0 ? t_shard_put(t, h->model->id, h->shard, &shard) : err;
}

/* Rolls back every shard that was hit; counts of the models follow. */
static int apply(struct erase_one *o, struct txn *t, struct hits *h, const uint8_t id[ULID_BYTES],
                 struct erasure_row *row, struct erasure_affected *affected)
{
        int err = 0;
        for (uint32_t m = 0; m < h->model_count && err == 0; m++) {
                struct model *model = h->models[m];
                struct model_row mrow;
                uint64_t records = 0;
                bool rolled_back = false;
                for (uint32_t i = 0; i < h->count; i++)
                        if (h->hit[i].model == model)
                                records += h->hit[i].records;
                err = t_model_get(t, model->config->name, &mrow, NULL);
                for (uint32_t i = 0; i < h->count && err == 0; i++) {
                        struct hit *hit = &h->hit[i];
                        if (hit->model != model)
                                continue;
                        if (hit->records > 0)
                                err = roll_back(hit, t, id, &mrow, row->deadline_ms,
                                                row->forgotten_ms);
                        if (err == 0 && !hit->covered && hit->followed != UINT32_MAX)
                                err = stand_by(hit, t, id, row->deadline_ms);
                        row->scrubs_left += hit->scrubs;
                        row->shards_left += hit->covered;
                        if (err == 0 && hit->rolled_back) {
                                rolled_back = true;
                                err = effects_drop(&o->fx, model, hit->shard, hit->from);
                        }
                        affected[i] = (struct erasure_affected){
                                .model = model->id,
                                .shard = hit->shard,
                                .slice = hit->slice,
                                .state = hit->covered ? AFFECTED_RETRAINING : AFFECTED_COMPLETED,
                                .records = hit->records};
                        memcpy(affected[i].model_name, model->config->name,
                               sizeof affected[i].model_name);
                }
                if (err != 0 || records == 0)
                        continue;
                mrow.records -= records;
                mrow.generation += rolled_back;
                err = t_model_put(t, model->config->name, &mrow, NULL, 0);
                if (err == 0)
                        err = recall_note(t, model, h, id, mrow.generation, row->forgotten_ms);
        }
        return err;
}

static void event_request(struct event *ev, const struct erase_request *r,
                          const uint8_t id[ULID_BYTES], const struct erasure_row *row)
{
        event_begin(ev);
        event_ulid(ev, "erasure", id);
        jw_key(&ev->w, "models");
        if (r->model_count == 0) {
                jw_null(&ev->w);
        } else {
                jw_array(&ev->w);
                for (uint32_t i = 0; i < r->model_count; i++)
                        jw_string(&ev->w, r->models[i]);
                jw_end_array(&ev->w);
        }
        jw_member_text(&ev->w, "reference", r->reference);
        jw_member_text(&ev->w, "regulation", regulation_name(row->regulation));
}

/* What the entry is found by; *records is allocated. */
static int request_keys(const struct erase_request *r, uint8_t (**records)[PSEUDONYM_BYTES],
                        struct audit_keys *keys)
{
        *records = calloc(r->record_count + 1, sizeof **records);
        if (*records == NULL)
                return UL_NOMEM;
        for (uint32_t i = 0; i < r->record_count; i++)
                memcpy((*records)[i], r->records[i].pseudonym, PSEUDONYM_BYTES);
        keys->subjects = (const uint8_t(*)[PSEUDONYM_BYTES])r->subjects;
        keys->subject_count = r->subject_count;
        keys->records = (const uint8_t(*)[PSEUDONYM_BYTES]) * records;
        keys->record_count = r->record_count;
        return 0;
}

int erasure_audit_accepted(struct service *s, struct txn *t, const struct erase_request *r,
                           const struct erasure_origin *from, const struct erasure_row *row)
{
        struct event ev;
        struct audit_keys keys = {.erasure = from->id, .reference = r->reference};
        uint8_t(*records)[PSEUDONYM_BYTES] = NULL;
        bool hold = row->state == ERASURE_ACCEPTED; /* no later entry may say whom it was about */
        int err = hold ? request_keys(r, &records, &keys) : 0;
        if (err != 0)
                return txn_fail(t, err);
        event_request(&ev, r, from->id, row);
        jw_member_time(&ev.w, "received_at", row->received_ms);
        jw_member_time(&ev.w, "deadline", row->deadline_ms);
        jw_member_u64(&ev.w, "subjects", r->subject_count);
        jw_member_u64(&ev.w, "records", r->record_count);
        if (hold)
                jw_member_bool(&ev.w, "hold", true);
        if (from->replayed)
                jw_member_time(&ev.w, "accepted_at", from->accepted_ms);
        err = event_append(&ev, s, t,
                           from->replayed       ? "erasure.replayed"
                           : from->held != NULL ? "erasure.released"
                                                : "erasure.accepted",
                           r->actor, &keys, NULL);
        free(records);
        return err;
}

static int audit(struct service *s, struct txn *t, const struct erase_request *r,
                 const struct erasure_origin *from, struct erasure_row *row,
                 const struct erasure_affected *affected)
{
        const uint8_t *id = from->id;
        struct event ev;
        struct audit_keys keys = {.erasure = id, .reference = r->reference};
        uint8_t(*records)[PSEUDONYM_BYTES] = NULL;
        const char **models = NULL;
        int err = erasure_audit_accepted(s, t, r, from, row);
        if (err == 0)
                err = request_keys(r, &records, &keys);
        if (err == 0)
                err = affected_models(t, affected, row->affected_count, &models, &keys);
        if (err != 0)
                goto out;
        event_request(&ev, r, id, row);
        jw_member_u64(&ev.w, "matched", row->matched);
        jw_member_u64(&ev.w, "affected_shards", row->affected_count);
        jw_key(&ev.w, "affected");
        jw_array(&ev.w);
        for (uint32_t i = 0; i < row->affected_count && i < AUDIT_AFFECTED_MAX; i++) {
                jw_object(&ev.w);
                jw_member_text(&ev.w, "model", affected[i].model_name);
                jw_member_u64(&ev.w, "shard", affected[i].shard);
                jw_member_u64(&ev.w, "slice", affected[i].slice);
                jw_member_u64(&ev.w, "records", affected[i].records);
                jw_end_object(&ev.w);
        }
        jw_end_array(&ev.w);
        err = event_append(&ev, s, t, "erasure.forgotten", r->actor, &keys, &row->audit_index);
out:
        free(models);
        free(records);
        return err;
}

static int replay(struct service *s, struct txn *t, struct erase_one *o,
                  const struct idempotency_row *row)
{
        uint8_t id[ULID_BYTES];
        if (!ulid_parse(row->resource, strlen(row->resource), id))
                return UL_CORRUPT;
        int err = view_erasure(s, t, id, &o->view);
        o->view.replayed = err == 0;
        return err;
}

struct erasure_row erasure_new_row(const struct erase_request *r, int64_t accepted_ms)
{
        struct erasure_row row = {.state = ERASURE_ACCEPTED,
                                  .regulation = (uint8_t)r->regulation,
                                  .held = r->hold,
                                  .scoped = r->model_count > 0 || r->subject_count == 0,
                                  .accepted_ms = accepted_ms};
        row.received_ms = r->received_ms != 0 ? r->received_ms : row.accepted_ms;
        row.deadline_ms = r->deadline_ms != 0
                                  ? r->deadline_ms
                                  : erasure_default_deadline(r->regulation, row.received_ms);
        memcpy(row.reference, r->reference, sizeof r->reference);
        return row;
}

static struct erasure_row executed_row(const struct erase_request *r,
                                       const struct erasure_origin *from, const struct hits *h)
{
        struct erasure_row row =
                from->held != NULL ? *from->held : erasure_new_row(r, from->accepted_ms);
        row.state = ERASURE_FORGOTTEN;
        row.matched = h->matched;
        row.affected_count = h->count;
        row.forgotten_ms = now_ms();
        memcpy(row.executed, from->executed, ULID_BYTES);
        return row;
}

static void clear_one(struct erase_one *o)
{
        effects_clear(&o->fx);
        erase_request_clear(&o->request);
        erasure_view_clear(&o->view);
}

/* The erasure itself; *row and *affected (allocated) are what was recorded. */
static int make_erasure(struct service *s, struct txn *t, struct erase_one *o,
                        const struct erasure_origin *from, struct erasure_row *row,
                        struct erasure_affected **affected, struct errinfo *e)
{
        struct hits h = {0};
        int err = hits_scope(&h, s, &o->request, e);
        if (err == 0)
                err = hits_collect(&h, t, &o->request, from->id, e);
        if (err == 0)
                err = overlap_going(&h, t, &o->request, from->entry, from->id);
        if (err == 0 && (*affected = calloc(h.count + 1, sizeof **affected)) == NULL)
                err = UL_NOMEM;
        if (err != 0)
                goto out;
        *row = executed_row(&o->request, from, &h);
        row->scrubs_left = h.upload_count + h.follow_count + h.going_count;
        err = apply(o, t, &h, from->id, row, *affected);
        if (err == 0)
                err = audit(s, t, &o->request, from, row, *affected);
        if (err == 0 && from->held == NULL)
                err = pending_begin(t, from->id, row);
        if (err == 0)
                err = erasure_settle(s, t, from->id, row, *affected, row->forgotten_ms);
        if (err == 0 && row->state == ERASURE_FORGOTTEN)
                err = overlap_keep(&h, t, from->id);
        if (err == 0 && row->state == ERASURE_FORGOTTEN)
                err = opendsr_tell(s, t, from->id, row);
        CRASH_POINT("erase.recorded");
        o->fx.wake = h.count > 0 || row->scrubs_left > 0;
out:
        hits_clear(&h);
        if (err != 0 && e->code == 0)
                (void)ul_fail(e, err, "the erasure could not be recorded");
        return err;
}

static int erase_in(struct service *s, struct txn *t, struct erase_one *o, struct errinfo *e)
{
        struct idempotency_row kept;
        struct erasure_origin from = {.accepted_ms = now_ms()};
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        char text[ULID_TEXT + 1];
        int err = opendsr_check(s, t, &o->request, &kept, e);
        if (err == 0)
                err = idempotency_check(t, &o->request.idem, &kept, e);
        if (err == UL_EXISTS)
                return replay(s, t, o, &kept);
        if (err != 0)
                return err;
        ulid_make(from.id);
        memcpy(from.executed, from.id, ULID_BYTES);
        err = opendsr_keep(s, t, &o->request, from.id);
        if (err == 0 && o->request.callback_url != NULL)
                err = t_callback_put(t, from.id, o->request.callback_url);
        if (err == 0)
                err = o->request.hold ? erasure_hold(s, t, &o->request, &from, &row, e)
                                      : make_erasure(s, t, o, &from, &row, &affected, e);
        if (err == 0)
                err = idempotency_keep(t, &o->request.idem, ulid_format(from.id, text), 202);
        if (err == 0)
                err = view_erasure_row(t, from.id, &row, affected, &o->view);
        free(affected);
        if (err != 0 && e->code == 0)
                (void)ul_fail(e, err, "the erasure could not be recorded");
        return err;
}

/* What is executed after the fact: what a held erasure, or an entry of the ledger, asks for. */
static int execute_entry(struct service *s, struct txn *t, const struct ledger_entry *x,
                         const char *actor, struct erasure_origin *from, struct effects *fx,
                         struct errinfo *e)
{
        struct erase_one o = {0};
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        memcpy(from->id, x->id, ULID_BYTES);
        memcpy(from->executed, x->executed, ULID_BYTES);
        from->accepted_ms = x->time_ms;
        from->entry = x;
        int err = ledger_request(s, t, x, &o.request, e);
        if (err != 0)
                return err;
        (void)snprintf(o.request.actor, sizeof o.request.actor, "%s", actor);
        o.request.hold = memcmp(x->id, x->executed, ULID_BYTES) != 0;
        err = make_erasure(s, t, &o, from, &row, &affected, e);
        if (err == 0 && from->held != NULL)
                err = t_held_del(t, x->id);
        free(affected);
        *fx = o.fx;
        o.fx = (struct effects){0};
        clear_one(&o);
        return err;
}

int erasure_replay(struct service *s, struct txn *t, const struct ledger_entry *x,
                   const struct erasure_row *held, struct errinfo *e)
{
        struct erasure_origin from = {.held = held, .replayed = true};
        struct effects fx = {0};
        int err = execute_entry(s, t, x, "unlearnd", &from, &fx, e);
        effects_clear(&fx); /* nothing is served yet */
        return err;
}

int erasure_release(struct service *s, struct txn *t, const struct ledger_entry *x,
                    const struct erasure_row *held, const char *actor, struct effects *fx,
                    struct errinfo *e)
{
        struct erasure_origin from = {.held = held};
        return execute_entry(s, t, x, actor, &from, fx, e);
}

static void committed_one(struct service *s, struct erase_one *o)
{
        CRASH_POINT("erase.committed");
        effects_apply(s, &o->fx);
}

/* What it made is served by now, so that the metrics are not ahead of the answer. */
static void count_one(const struct erase_one *o)
{
        if (o->view.replayed)
                return;
        metric_add(METRIC_ERASURES, 1);
        metric_add(METRIC_RECORDS_ERASED, o->view.matched);
        if (!o->request.hold)
                metric_observe(METRIC_TIME_TO_FORGOTTEN, (double)(mono_us() - o->queued_us) / 1e6);
}

/* --- one request --- */

struct erase_command {
        struct command cmd;
        struct service *service;
        struct erase_one one;
        service_erase_done done;
        void *arg;
};

static int erase_run(struct command *c, struct txn *t)
{
        struct erase_command *ec = (struct erase_command *)c;
        int err = erase_in(ec->service, t, &ec->one, &c->e);
        if (err == 0)
                ledger_note_erasure(ec->service, &c->ledger, &ec->one.request, &ec->one.view);
        return err;
}

static void erase_committed(struct command *c)
{
        struct erase_command *ec = (struct erase_command *)c;
        committed_one(ec->service, &ec->one);
}

static void erase_done(struct command *c, int err)
{
        struct erase_command *ec = (struct erase_command *)c;
        CRASH_POINT("erase.forgotten");
        if (err == 0)
                count_one(&ec->one);
        ec->done(ec->arg, err, &c->e, err == 0 ? &ec->one.view : NULL);
        clear_one(&ec->one);
        free(ec);
}

int service_erase(struct service *s, struct erase_request *take, service_erase_done done, void *arg,
                  struct errinfo *e)
{
        struct erase_command *ec = calloc(1, sizeof *ec);
        if (ec == NULL) {
                erase_request_clear(take);
                return ul_fail(e, UL_NOMEM, "no memory for an erasure");
        }
        ec->cmd.run = erase_run;
        ec->cmd.committed = erase_committed;
        ec->cmd.done = erase_done;
        ec->service = s;
        ec->one.request = *take;
        ec->one.queued_us = mono_us();
        ec->done = done;
        ec->arg = arg;
        *take = (struct erase_request){0};
        int err = service_submit(s, &ec->cmd, HEALTH_ERASES, e);
        if (err != 0) {
                clear_one(&ec->one);
                free(ec);
        }
        return err;
}

/* --- a batch: each in a child of its own, results in order --- */

struct batch_command {
        struct command cmd;
        struct service *service;
        struct erase_one *ones; /* [count] */
        uint32_t count;
        uint32_t at; /* the next one to run: a batch is run in bounded steps */
        uint32_t step;
        service_batch_done done;
        void *arg;
};

/* A batch longer than the writer's 50 ms goes in several commands, one after another. */
enum { BATCH_STEP = 128, BATCH_STEP_US = 20000 };

/* One line. A refusal is its own; what the store says is everybody's. */
static int batch_one(struct batch_command *b, struct txn *t, struct erase_one *o)
{
        struct txn *child = NULL;
        bool store = true;
        o->err = store_nested(t, &child, &o->e);
        if (o->err == 0) {
                o->err = erase_in(b->service, child, o, &o->e);
                store = o->err == 0 || txn_error(child) == o->err;
                if (o->err == 0)
                        o->err = txn_commit(&child, &o->e);
                else
                        txn_abort(&child);
        }
        if (o->err == 0)
                ledger_note_erasure(b->service, &b->cmd.ledger, &o->request, &o->view);
        if (o->err == 0 || !store)
                return 0;
        b->cmd.e = o->e;
        return txn_fail(t, o->err);
}

static int batch_run(struct command *c, struct txn *t)
{
        struct batch_command *b = (struct batch_command *)c;
        uint32_t end = b->at + BATCH_STEP < b->count ? b->at + BATCH_STEP : b->count;
        uint64_t began = mono_us();
        uint32_t i;
        for (i = b->at; i < end && (i == b->at || mono_us() - began < BATCH_STEP_US); i++) {
                int err = batch_one(b, t, &b->ones[i]);
                if (err != 0)
                        return err;
        }
        b->step = i - b->at;
        return 0;
}

static void batch_committed(struct command *c)
{
        struct batch_command *b = (struct batch_command *)c;
        for (uint32_t i = b->at; i < b->at + b->step; i++)
                if (b->ones[i].err == 0)
                        committed_one(b->service, &b->ones[i]);
}

static void batch_finish(struct batch_command *b, int err)
{
        struct erase_outcome *outcomes = calloc(b->count + 1, sizeof *outcomes);
        if (outcomes == NULL && err == 0)
                err = ul_fail(&b->cmd.e, UL_NOMEM, "the batch is done, but not its answer");
        for (uint32_t i = 0; i < b->count && outcomes != NULL; i++) {
                struct erase_one *o = &b->ones[i];
                outcomes[i].err = i < b->at ? o->err : err;
                outcomes[i].e = i < b->at ? o->e : b->cmd.e;
                outcomes[i].view = o->view;
        }
        /* What was committed stays: the outcomes tell line by line, also after an error. */
        bool any = b->at > 0 && outcomes != NULL;
        b->done(b->arg, any ? 0 : err, &b->cmd.e, outcomes, b->count);
        free(outcomes);
        for (uint32_t i = 0; i < b->count; i++)
                clear_one(&b->ones[i]);
        free(b->ones);
        free(b);
}

static void batch_done(struct command *c, int err)
{
        struct batch_command *b = (struct batch_command *)c;
        if (err == 0) {
                for (uint32_t i = b->at; i < b->at + b->step; i++)
                        if (b->ones[i].err == 0)
                                count_one(&b->ones[i]);
                b->at += b->step;
                if (b->at < b->count) {
                        err = service_submit(b->service, c, HEALTH_ERASES, &c->e);
                        if (err == 0)
                                return;
                }
        } else {
                for (uint32_t i = b->at; i < b->count; i++)
                        erasure_view_clear(&b->ones[i].view);
        }
        batch_finish(b, err);
}

int service_erase_batch(struct service *s, struct erase_request *take, uint32_t count,
                        service_batch_done done, void *arg, struct errinfo *e)
{
        struct batch_command *b = calloc(1, sizeof *b);
        struct erase_one *ones = calloc(count + 1, sizeof *ones);
        int err = 0;
        if (b == NULL || ones == NULL) {
                for (uint32_t i = 0; i < count; i++)
                        erase_request_clear(&take[i]);
                err = ul_fail(e, UL_NOMEM, "no memory for a batch of erasures");
                goto fail;
        }
        for (uint32_t i = 0; i < count; i++) {
                ones[i].request = take[i];
                ones[i].queued_us = mono_us();
                take[i] = (struct erase_request){0};
        }
        *b = (struct batch_command){
                .cmd = {.run = batch_run, .committed = batch_committed, .done = batch_done},
                .service = s,
                .ones = ones,
                .count = count,
                .done = done,
                .arg = arg};
        err = service_submit(s, &b->cmd, HEALTH_ERASES, e);
        if (err == 0)
                return 0;
        for (uint32_t i = 0; i < count; i++)
                clear_one(&ones[i]);
fail:
        free(ones);
        free(b);
        return err;
}
