/* SPDX-License-Identifier: Apache-2.0
 * pick.c: asks schedule.c which dirty shards are trained now, and carries it out: from the store
 * and the runs under way to its items, and from its answer to runs started and stopped. It decides
 * nothing. */
#include "daemon/compact.h"
#include "daemon/loop.h"
#include "daemon/run.h"
#include "daemon/schedule.h"
#include "daemon/views.h"

#include "lib/util/log.h"
#include <stdlib.h>
#include <string.h>

/* Below it a run's own word says little. */
#define FRACTION_TOLD 0.02

/* What schedule.c decides about: one shard of one model. */
struct candidates {
        struct schedule_item *items; /* [count] */
        struct model **models;       /* [count], by tag, as shards and runs; borrowed */
        uint32_t *shards;
        struct run **runs; /* NULL: it does not run */
        uint32_t count;
};

/* Estimated anew where an erasure, a publication or a measurement changed something. */
static int64_t estimate_ms(struct scheduler *k, struct txn *t, struct model *m, uint32_t shard,
                           const struct shard_row *row, uint32_t from)
{
        struct cost *kept = &k->costs[(m->id * 2654435761u + shard) % COSTS_KEPT];
        struct cost now = {.model = m->id,
                           .shard = shard,
                           .from = from,
                           .slices = row->slices,
                           .fence = row->fence,
                           .samples_per_second = atomic_load(&m->samples_per_second)};
        double seconds = 0;
        now.ms = kept->ms;
        if (memcmp(kept, &now, sizeof now) == 0)
                return kept->ms;
        if (from > row->slices || estimate_retrain(m, t, shard, from, &seconds) != 0)
                return 0;
        now.ms = (int64_t)(seconds * 1e3);
        *kept = now;
        return now.ms;
}

/* What is left of a run: by what it says itself, else by the estimate. One that has outrun that is
 * taken to need as long again: it is not about to be free. */
static int64_t left_ms(const struct run *r, int64_t estimated_ms)
{
        int64_t ran = (int64_t)((mono_us() - r->started_us) / 1000);
        if (r->fraction > FRACTION_TOLD)
                return (int64_t)((double)ran * (1 - r->fraction) / r->fraction);
        return estimated_ms > ran ? estimated_ms - ran : ran;
}

/* Of its retrain, or of what is left of that; 0 where it cannot be told. Until a run has started,
 * what is in it is the writer's to fill in. */
static int64_t cost_ms(struct scheduler *k, struct txn *t, struct model *m, uint32_t shard,
                       const struct shard_row *row, const struct run *r)
{
        bool started = r != NULL && r->started_us != 0;
        int64_t ms = estimate_ms(k, t, m, shard, row, started ? r->from : row->clean + 1);
        return started ? left_ms(r, ms) : ms;
}

static void add(struct candidates *c, struct scheduler *k, struct txn *t, struct model *m,
                uint32_t shard, const struct shard_row *row)
{
        struct run *r = run_find(k, m->id, shard);
        if (r != NULL ? r->leaving : runs_backing_off(k, m->id, shard))
                return;
        uint32_t tag = c->count++;
        c->models[tag] = m;
        c->shards[tag] = shard;
        c->runs[tag] = r;
        c->items[tag] = (struct schedule_item){
                .dirty_since_ms = row->dirty_since_ms,
                .deadline_ms = row->deadline_ms != 0 ? row->deadline_ms : INT64_MAX,
                .cost_ms = cost_ms(k, t, m, shard, row, r),
                .waiting = row->waiting,
                .tag = tag,
                .running = r != NULL,
                /* killed, or its worker has ended and it is being published */
                .stopping =
                        r != NULL && (r->killed || (r->started_us != 0 && r->execution == NULL))};
}

static void collect(struct candidates *c, struct scheduler *k, struct txn *t, struct model *m)
{
        struct model_row model;
        struct training training = {0};
        if (t_model_get(t, m->config->name, &model, NULL) != 0 || !model.trained)
                return;
        (void)training_get(t, m->id, &training); /* none: it has no shard */
        for (uint32_t shard = 0; shard < m->config->shards; shard++) {
                struct shard_row row;
                const struct run *r = run_find(k, m->id, shard);
                if (t_shard_get(t, m->id, shard, &row) != 0)
                        continue;
                bool runs = r != NULL && r->kind == RUN_TRAIN;
                struct compaction compaction;
                if (!runs && (r != NULL || !shard_dirty(&model, &row) || row.scrubs > 0))
                        continue;
                if (!runs && (compaction_get(t, m->id, shard, &compaction) != 0 ||
                              compaction_holds(&compaction)))
                        continue;
                /* a training that waits for damaged rows is told so, by its run */
                if (!runs && rows_known_damaged(m, shard) && !training_has(&training, shard))
                        continue;
                add(c, k, t, m, shard, &row);
        }
}

/* Verifications and runs of deleted models have their workers too. */
static uint32_t workers_left(const struct scheduler *k, const struct candidates *c)
{
        uint32_t other = 0;
        for (const struct run *r = k->runs; r != NULL; r = r->next)
                other += !r->leaving;
        for (uint32_t i = 0; i < c->count; i++)
                other -= c->runs[i] != NULL;
        return k->service->config.workers > other ? k->service->config.workers - other : 0;
}

static void carry_out(struct scheduler *k, const struct candidates *c)
{
        for (uint32_t i = 0; i < c->count; i++) {
                uint32_t at = c->items[i].tag;
                if (c->items[i].action == SCHEDULE_START && runs_free(k)) {
                        run_start(k, c->models[at], c->shards[at], RUN_TRAIN, NULL);
                } else if (c->items[i].action == SCHEDULE_STOP && c->runs[at]->execution != NULL) {
                        c->runs[at]->preempted = true;
                        log_event(LOG_LEVEL_INFO, "job_put_off",
                                  "model=%s shard=%u reason=another_deadline_is_nearer",
                                  c->models[at]->config->name, c->shards[at]);
                        run_kill(k, c->runs[at]);
                }
        }
}

static void decide(struct scheduler *k, struct candidates *c)
{
        const struct schedule_rules rules = {.gather_ms = k->service->config.gather_window_ms,
                                             .workers = workers_left(k, c)};
        int64_t now = now_ms();
        int64_t next = schedule_decide(c->items, c->count, &rules, now);
        if (next != INT64_MAX)
                loop_due(k, mono_us() + (uint64_t)(next - now) * 1000);
        carry_out(k, c);
}

void runs_pass(struct scheduler *k)
{
        struct model **models = NULL;
        struct candidates c = {0};
        struct txn *t = NULL;
        uint32_t count = 0;
        size_t room = 1;
        if (health_stands(&k->service->health, HEALTH_FILES) ||
            registry_all(k->service, &models, &count, NULL) != 0)
                return;
        for (uint32_t i = 0; i < count; i++)
                room += models[i]->config->shards;
        c.items = calloc(room, sizeof *c.items);
        c.models = calloc(room, sizeof(struct model *));
        c.shards = calloc(room, sizeof *c.shards);
        c.runs = calloc(room, sizeof(struct run *));
        if (c.items == NULL || c.models == NULL || c.shards == NULL || c.runs == NULL ||
            store_read(k->service->store, &t, NULL) != 0)
                goto out;
        for (uint32_t i = 0; i < count; i++)
                collect(&c, k, t, models[i]);
        txn_abort(&t);
        decide(k, &c);
out:
        free(c.items);
        free(c.models);
        free(c.shards);
        free(c.runs);
        registry_release(models, count);
}
