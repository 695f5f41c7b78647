/* SPDX-License-Identifier: Apache-2.0
 * damage.c: what is known of damaged files, and what follows from it.
 *
 * A damaged checkpoint is given up: its shard is rolled back below it and trained again from its
 * rows. Damaged rows take their shard out of service: checkpoints whose digest holds are exact and
 * stay served, but nothing is trained from those rows until they are restored, or erased. That is
 * known in memory alone: whoever reads rows finds the damage again, at the next start too. Rows
 * that an erasure overwrites may be the damaged ones, so the shard gets another try after it. */
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/state.h"

#include "lib/sisa/job.h"
#include "lib/util/log.h"
#include <stdio.h>
#include <stdlib.h>

/* --- rows --- */

static uint64_t bit_of(uint32_t shard)
{
        return UINT64_C(1) << (shard % 64);
}

void rows_damaged(struct model *m, uint32_t shard, const char *detail)
{
        if ((atomic_fetch_or(&m->damaged[shard / 64], bit_of(shard)) & bit_of(shard)) != 0)
                return; /* said before */
        log_event(LOG_LEVEL_ERROR, "rows_damaged",
                  "model=%s shard=%u detail=\"%s\" state=\"out of service: its checkpoints are "
                  "served, nothing is trained from its rows\" action=\"restore the newest backup "
                  "(unlearnctl restore), or delete the model and load its records again\"",
                  m->config->name, shard, detail);
}

void slice_damaged(struct model *m, uint32_t shard, uint32_t slice, const struct errinfo *why)
{
        char detail[ERRINFO_DETAIL_MAX];
        (void)snprintf(detail, sizeof detail, "slice %u: %.200s", slice, why->detail);
        rows_damaged(m, shard, detail);
}

bool rows_known_damaged(const struct model *m, uint32_t shard)
{
        return (atomic_load(&m->damaged[shard / 64]) & bit_of(shard)) != 0;
}

void rows_try_again(struct model *m, uint32_t shard)
{
        atomic_fetch_and(&m->damaged[shard / 64], ~bit_of(shard));
}

uint32_t rows_damaged_shards(const struct model *m)
{
        uint32_t n = 0;
        for (size_t i = 0; i < sizeof m->damaged / sizeof m->damaged[0]; i++)
                n += (uint32_t)__builtin_popcountll(atomic_load(&m->damaged[i]));
        return n;
}

int rows_open_to_erase(struct model *m, uint32_t shard, uint32_t slice, struct rowfile **out,
                       bool *whole, struct errinfo *e)
{
        char path[PATH_SIZE];
        const struct row_shape *shape = &m->encoding.e.shape;
        int err = rows_path(path, m->root, shard, slice, e);
        if (err == 0)
                err = rowfile_open(path, shape, shard, slice, false, out, e);
        if (whole != NULL)
                *whole = err == 0;
        if (err != UL_CORRUPT)
                return err;
        slice_damaged(m, shard, slice, e);
        return rowfile_open_to_erase(path, shape, shard, slice, out, e);
}

/* --- checkpoints --- */

/* A command that gives up a checkpoint which could not be read: its shard is trained again. */
struct damage {
        struct command cmd;
        struct model *model; /* referenced */
        uint32_t shard, slice;
        struct effects fx;
};

static int damage_run(struct command *c, struct txn *t)
{
        struct damage *d = (struct damage *)c;
        struct shard_row shard;
        struct slice_row slice;
        struct model_row model;
        struct compaction compaction;
        struct event ev;
        const char *name = d->model->config->name;
        int err = t_shard_get(t, d->model->id, d->shard, &shard);
        if (err != 0)
                return err;
        err = compaction_get(t, d->model->id, d->shard, &compaction);
        if (err != 0)
                return err;
        bool stood = compaction.standing == d->slice;
        if (shard.clean < d->slice && !stood)
                return 0; /* an erasure was faster */
        for (uint32_t i = d->slice; i <= shard.clean; i++) {
                if (t_slice_get(t, d->model->id, d->shard, i, &slice) != 0)
                        continue;
                slice.has_checkpoint = 0;
                (void)t_slice_put(t, d->model->id, d->shard, i, &slice);
        }
        uint32_t clean = shard.clean;
        if (!stood)
                shard.clean = d->slice - 1;
        shard.fence++;
        if (d->slice < shard.touched)
                shard.touched = d->slice;
        if (shard.dirty_since_ms == 0)
                shard.dirty_since_ms = now_ms();
        (void)t_shard_put(t, d->model->id, d->shard, &shard);
        if (t_model_get(t, name, &model, NULL) == 0 && model.id == d->model->id) {
                (void)served_end(t, d->model, d->shard, d->slice, clean, model.generation);
                if (stood)
                        (void)compaction_drop_standing(t, d->model, d->shard, model.generation,
                                                       &compaction, &slice);
                model.generation++; /* another model is served from here on */
                (void)t_model_put(t, name, &model, NULL, 0);
        }
        event_begin(&ev);
        jw_member_text(&ev.w, "model", d->model->config->name);
        jw_member_u64(&ev.w, "shard", d->shard);
        jw_member_u64(&ev.w, "slice", d->slice);
        struct audit_keys keys = {.model = d->model->config->name};
        err = event_append(&ev, d->model->service, t, "checkpoint.damaged", "unlearnd", &keys,
                           NULL);
        d->fx.wake = true;
        if (err == 0)
                err = effects_drop(&d->fx, d->model, d->shard, d->slice);
        return err != 0 ? err : txn_error(t);
}

static void damage_committed(struct command *c)
{
        struct damage *d = (struct damage *)c;
        effects_apply(d->model->service, &d->fx);
}

static void damage_done(struct command *c, int err)
{
        struct damage *d = (struct damage *)c;
        if (err != 0) { /* published again, it is found again: see probe.c */
                log_event(LOG_LEVEL_ERROR, "damage_not_recorded", "error=%s", ul_err_name(err));
                d->model->refresh = true;
                atomic_store(&d->model->service->unsettled, true);
        }
        effects_clear(&d->fx);
        model_unref(d->model);
        free(d);
}

bool checkpoint_damaged(struct model *m, uint32_t shard, uint32_t slice, const char *detail)
{
        log_event(LOG_LEVEL_ERROR, "checkpoint_unreadable",
                  "model=%s shard=%u slice=%u detail=\"%s\" action=\"rebuilt from its rows\"",
                  m->config->name, shard, slice, detail);
        struct damage *d = calloc(1, sizeof *d);
        if (d == NULL)
                return false;
        d->cmd.run = damage_run;
        d->cmd.committed = damage_committed;
        d->cmd.done = damage_done;
        d->model = model_ref(m);
        d->shard = shard;
        d->slice = slice;
        if (writer_submit(m->service->writer, &d->cmd, NULL) == 0)
                return true;
        model_unref(m);
        free(d);
        return false;
}
