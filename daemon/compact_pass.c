/* SPDX-License-Identifier: Apache-2.0
 * compact_pass.c: carries compactions on, a step at a time. Before every step the loop does with
 * the files what the step before it left to do: rows that were moved are overwritten in their old
 * places, emptied row files and given-up checkpoints are overwritten and unlinked, a bounded number
 * of bytes at a look; the next step says that this was done. After a crash it is done again. So one
 * step's rows at most stand in two places, and a scrub of any of them overwrites those first
 * (scrub.c).
 *
 * Not more shards than there are workers are under way at once: each is without its chain of
 * checkpoints from its turn on, and an erasure in it then leaves nothing of it to be served. One
 * whose step fails holds up none of the others: it is passed over until the next round. */
#include "daemon/compact.h"
#include "daemon/loop.h"
#include "daemon/run.h"
#include "daemon/scheduler.h"
#include "daemon/upload.h"

#include "lib/sisa/job.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        BUSY_US = 20000,
        RETRY_US = 1000000,
        SETTLE_BYTES = CRASH_POINTS ? 1 << 16 : 8 << 20, /* of files, at a look */
};

/* --- rounds --- */

static bool turn_before(const struct compact_turn *a, const struct compact_turn *b)
{
        if (a->waiting != b->waiting)
                return b->waiting;
        return a->model != b->model ? a->model < b->model : a->shard < b->shard;
}

/* Whether it was passed over in this round, or comes before what was. */
static bool had_turn(const struct compact_round *r, const struct compact_turn *x)
{
        return r->begun && !turn_before(&r->after, x);
}

/* The turn went well; NULL: nobody is left to have one. */
static void fault_ends(struct compact_round *r, const struct compact_turn *x)
{
        if (x == NULL || (!turn_before(x, &r->faulty) && !turn_before(&r->faulty, x)))
                r->fault = false;
}

static void pass_over(struct scheduler *k, const struct compact_turn *x, uint64_t us)
{
        struct compact_round *r = &k->compact;
        uint64_t again = mono_us() + us;
        if (!r->begun || again > r->again_us)
                r->again_us = again;
        r->after = *x;
        r->begun = true;
        loop_due(k, mono_us()); /* whose turn is next */
}

/* --- files --- */

int compact_close(struct txn *t, struct model *m, uint32_t shard, struct errinfo *e)
{
        struct compaction c;
        struct rowfile *f = NULL;
        int err = compaction_get(t, m->id, shard, &c);
        if (err != 0 || c.state != COMPACTION_MOVING || c.closed == c.moved)
                return err;
        err = rows_open_to_erase(m, shard, c.source, &f, NULL, e);
        for (uint32_t i = c.closed; i < c.moved && err == 0; i++)
                err = rowfile_erase(f, i, e);
        CRASH_POINT("compact.rows_zeroed");
        if (err == UL_NOT_FOUND) { /* away or cut off: there is nothing left to overwrite */
                rows_damaged(m, shard, e->detail);
                err = 0;
        }
        if (err == 0 && f != NULL)
                err = rowfile_sync(f, e);
        if (f != NULL)
                rowfile_close(&f);
        return err;
}

/* Checkpoints of the old chain: no commit knows them. */
static int unlink_checkpoints(struct txn *t, struct model *m, uint32_t shard,
                              const struct compaction *c, uint64_t *budget, struct errinfo *e)
{
        struct shard_row row;
        int err = t_shard_get(t, m->id, shard, &row);
        uint32_t to = row.slices >= c->source ? row.slices : c->source - 1;
        for (uint32_t i = 1; i <= to && err == 0; i++) {
                char path[PATH_SIZE];
                struct slice_row slice;
                err = t_slice_get(t, m->id, shard, i, &slice);
                if (err == 0 && slice.has_checkpoint)
                        continue;
                if (err == 0 || err == UL_NOT_FOUND)
                        err = checkpoint_path(path, m->root, shard, i, e);
                if (err == 0)
                        err = scrub_some(path, budget, e);
        }
        CRASH_POINT("compact.checkpoints_gone");
        return err;
}

/* What the last step left to do with the shard's files. UL_AGAIN: there is more of it. */
static int settle(struct txn *t, struct model *m, uint32_t shard, const struct compaction *c,
                  struct errinfo *e)
{
        char path[PATH_SIZE];
        uint64_t budget = SETTLE_BYTES;
        int err = compact_close(t, m, shard, e);
        if (err == 0 && (c->state == COMPACTION_TIDYING || c->state == COMPACTION_SWEEPING))
                err = unlink_checkpoints(t, m, shard, c, &budget, e);
        if (err != 0 || c->emptied == 0)
                return err;
        err = rows_path(path, m->root, shard, c->emptied, e);
        if (err == 0)
                err = scrub_some(path, &budget, e);
        CRASH_POINT("compact.file_gone");
        return err;
}

/* --- steps --- */

struct step {
        struct loop_command lc;
        struct model *model; /* referenced */
        struct compact_turn turn;
        struct compaction seen;
        bool give_up; /* its rows are damaged: the job fails */
        struct compact_outcome out;
};

static int step_run(struct loop_command *lc, struct txn *t)
{
        struct step *st = (struct step *)lc;
        char why[128];
        if (!st->give_up)
                return compact_step(lc->k->service, t, st->model, st->turn.shard, &st->seen,
                                    &st->out, &lc->cmd.e);
        (void)snprintf(why, sizeof why,
                       "damaged rows: shard %u is out of service; restore the newest backup",
                       st->turn.shard);
        return training_less(lc->k->service, t, st->model, st->turn.shard, why);
}

static void step_undo(struct loop_command *lc)
{
        struct step *st = (struct step *)lc;
        if (st->out.wrote)
                upload_undo(st->model);
}

static void step_back(struct loop_command *lc, int err)
{
        struct step *st = (struct step *)lc;
        struct scheduler *k = lc->k;
        CRASH_POINT("compact.committed");
        k->compacting = false;
        if (err == 0) {
                metric_add(METRIC_RECORDS_COMPACTED, st->out.records);
        } else if (err == UL_BUSY) {
                pass_over(k, &st->turn, BUSY_US);
        } else if (err != UL_CONFLICT && err != UL_DAMAGED) {
                if (err != UL_UNAVAILABLE) /* the store's fault tells of itself */
                        log_event(LOG_LEVEL_WARN, "compaction_delayed",
                                  "model=%s shard=%u error=%s detail=\"%s\" action=\"tried again\"",
                                  st->model->config->name, st->turn.shard, ul_err_name(err),
                                  lc->cmd.e.detail);
                pass_over(k, &st->turn, RETRY_US);
        }
        model_unref(st->model);
        free(st);
        scheduler_wake(k);
}

/* --- whose turn it is --- */

struct found {
        struct model *model; /* borrowed; NULL: nothing is to be done */
        struct compact_turn turn;
        struct compaction c;
        bool give_up;
};

static void submit(struct scheduler *k, const struct found *x)
{
        struct step *st = calloc(1, sizeof *st);
        if (st == NULL) {
                pass_over(k, &x->turn, RETRY_US);
                return;
        }
        st->lc.run = step_run;
        st->lc.undo = step_undo;
        st->lc.back = step_back;
        st->model = model_ref(x->model);
        st->turn = x->turn;
        st->seen = x->c;
        st->give_up = x->give_up;
        k->compacting = true;
        loop_submit(k, &st->lc);
}

struct turn {
        struct scheduler *k;
        struct txn *t;
        struct found next;    /* a shard under way */
        struct found waiting; /* one whose turn has not come */
        uint32_t under_way;
};

/* Whether the next step would only find that it has to wait. */
static bool has_to_wait(const struct turn *u, struct model *m, uint32_t shard,
                        const struct compaction *c)
{
        struct shard_row row;
        struct slice_row source;
        uint32_t staged = 0;
        if (c->state == COMPACTION_SWEEPING)
                return false;
        if (c->state == COMPACTION_WAITING && run_find(u->k, m->id, shard) != NULL)
                return true;
        if (upload_staged(u->t, m->id, &staged) != 0 || staged != 0)
                return true;
        return c->state == COMPACTION_MOVING && c->moved > 0 &&
               t_shard_get(u->t, m->id, shard, &row) == 0 && row.scrubs > 0 &&
               t_slice_get(u->t, m->id, shard, c->source, &source) == 0 && source.rows == c->moved;
}

static void keep_first(struct found *at, const struct found *x)
{
        if (at->model == NULL || turn_before(&x->turn, &at->turn))
                *at = *x;
}

static void look_at(struct turn *u, struct model *m, uint32_t shard, const struct training *tr)
{
        struct found x = {.model = m, .turn = {.model = m->id, .shard = shard}};
        if (compaction_get(u->t, m->id, shard, &x.c) != 0 || x.c.state == COMPACTION_NONE)
                return;
        u->under_way += x.c.state != COMPACTION_WAITING;
        x.turn.waiting = x.c.state == COMPACTION_WAITING;
        if (x.c.state == COMPACTION_TRAINING || had_turn(&u->k->compact, &x.turn))
                return;
        if (rows_known_damaged(m, shard) && x.c.state != COMPACTION_SWEEPING) {
                x.give_up = training_has(tr, shard);
                if (x.give_up)
                        keep_first(&u->next, &x);
                return;
        }
        if (has_to_wait(u, m, shard, &x.c)) {
                loop_due(u->k, mono_us() + BUSY_US);
                return;
        }
        keep_first(x.turn.waiting ? &u->waiting : &u->next, &x);
}

static void find_turn(struct turn *u, struct model **models, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                struct training tr = {0};
                bool any = false;
                if (atomic_load(&models[i]->deleting) ||
                    compaction_any(u->t, models[i], &any) != 0 || !any)
                        continue;
                (void)training_get(u->t, models[i]->id, &tr); /* none: its job failed */
                for (uint32_t shard = 0; shard < models[i]->config->shards; shard++)
                        look_at(u, models[i], shard, &tr);
        }
        if (u->next.model == NULL && u->under_way < u->k->service->config.workers)
                u->next = u->waiting;
}

static void carry_on(struct turn *u)
{
        struct found *x = &u->next;
        struct scheduler *k = u->k;
        struct errinfo e = {0};
        int err = x->give_up ? 0 : settle(u->t, x->model, x->turn.shard, &x->c, &e);
        if (err == 0) {
                fault_ends(&k->compact, &x->turn);
                submit(k, x);
                return;
        }
        if (err == UL_AGAIN) {
                loop_due(k, mono_us());
                return;
        }
        if (health_is_fault(err)) {
                k->compact.fault = k->scrub_failed = true;
                k->compact.faulty = x->turn;
        }
        health_begin(&k->service->health, HEALTH_SCRUB, err, e.detail);
        if (!health_is_fault(err))
                log_event(LOG_LEVEL_ERROR, "compaction_delayed",
                          "model=%s shard=%u error=%s detail=\"%s\" action=\"tried again\"",
                          x->model->config->name, x->turn.shard, ul_err_name(err), e.detail);
        pass_over(k, &x->turn, RETRY_US);
}

/* Begins a round where it is time to. */
static void round_next(struct scheduler *k)
{
        struct compact_round *r = &k->compact;
        if (r->begun && mono_us() < r->again_us) {
                loop_due(k, r->again_us);
                return;
        }
        r->begun = false;
}

void compact_pass(struct scheduler *k)
{
        struct model **models = NULL;
        struct turn u = {.k = k};
        uint32_t count = 0;
        k->scrub_failed |= k->compact.fault;
        if (k->compacting || health_stands(&k->service->health, HEALTH_ROWS))
                return;
        round_next(k);
        if (registry_all(k->service, &models, &count, NULL) != 0)
                return;
        if (store_read(k->service->store, &u.t, NULL) == 0) {
                find_turn(&u, models, count);
                if (u.next.model != NULL)
                        carry_on(&u);
                else if (!k->compact.begun)
                        fault_ends(&k->compact, NULL);
                txn_abort(&u.t);
        }
        registry_release(models, count);
}
