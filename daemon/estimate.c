/* SPDX-License-Identifier: Apache-2.0
 * estimate.c: what a retrain will cost, before it is done: the plan's sample steps over the speed
 * last seen of this model's training. It feeds the dry run and Retry-After; nothing depends on it
 * being right. */
#include "daemon/erasure.h"
#include "daemon/state.h"
#include "daemon/views.h"

#include "lib/sisa/plan.h"
#include <stdlib.h>
#include <string.h>

enum { START_MS = 30, RETRY_MAX_S = 300 };

/* Before anything was trained: a core does some 20 G multiply-adds a second, six a parameter and
 * sample (forward, two products backward). */
static double samples_per_second(const struct model *m)
{
        uint64_t seen = atomic_load(&m->samples_per_second);
        if (seen > 0)
                return (double)seen;
        double flops = 6.0 * (double)model_parameter_count(m->config);
        return 2e10 / (flops + 1000);
}

int estimate_retrain(struct model *m, struct txn *t, uint32_t shard, uint32_t from, double *seconds)
{
        struct shard_row row;
        int err = t_shard_get(t, m->id, shard, &row);
        if (err != 0)
                return err;
        uint64_t *live = calloc(row.slices + 1, sizeof *live);
        struct plan_stage *stages = calloc(row.slices + 1, sizeof *stages);
        if (live == NULL || stages == NULL)
                err = UL_NOMEM;
        for (uint32_t i = 0; i < row.slices && err == 0; i++) {
                struct slice_row slice;
                err = t_slice_get(t, m->id, shard, i + 1, &slice);
                err = err == UL_NOT_FOUND ? 0 : err;
                live[i] = slice.live;
        }
        if (err == 0) {
                uint32_t n = plan_stages(live, row.slices, m->config->slices, m->config->epochs,
                                         from, stages);
                *seconds = START_MS / 1e3 + (double)plan_cost(stages, n) / samples_per_second(m);
        }
        free(live);
        free(stages);
        return err;
}

uint32_t estimate_retry_after(struct model *m)
{
        struct txn *t = NULL;
        double best = RETRY_MAX_S;
        if (store_read(m->service->store, &t, NULL) != 0)
                return 1;
        for (uint32_t i = 0; i < m->config->shards; i++) {
                struct shard_row row;
                double seconds;
                if (t_shard_get(t, m->id, i, &row) == 0 && row.clean < row.slices &&
                    estimate_retrain(m, t, i, row.clean + 1, &seconds) == 0 && seconds < best)
                        best = seconds;
        }
        txn_abort(&t);
        return (uint32_t)best + 1;
}

int service_erase_preview(struct service *s, const struct erase_request *r,
                          struct erasure_view *out, struct errinfo *e)
{
        struct hits h = {0};
        struct txn *t = NULL;
        *out = (struct erasure_view){.state = "preview", .guarantee = "exact"};
        int err = hits_scope(&h, s, r, e);
        if (err == 0)
                err = told_read(s, &t, e);
        if (err == 0)
                err = hits_collect(&h, t, r, NULL, e);
        if (err == 0 && h.count > 0 &&
            (out->affected = calloc(h.count, sizeof *out->affected)) == NULL)
                err = UL_NOMEM;
        out->matched = h.matched;
        for (uint32_t i = 0; i < h.count && err == 0; i++) {
                const struct hit *hit = &h.hit[i];
                struct affected_view *v = &out->affected[out->affected_count++];
                struct shard_row shard;
                struct model_row model;
                double seconds = 0;
                uint32_t served = 0;
                err = t_shard_get(t, hit->model->id, hit->shard, &shard);
                if (err == 0)
                        err = t_model_get(t, hit->model->config->name, &model, NULL);
                if (err == 0)
                        err = view_served_from(t, hit->model->id, hit->shard, &served);
                if (err != 0)
                        break;
                bool covered = model.trained && hit->slice <= shard.slices;
                *v = (struct affected_view){.shard = hit->shard,
                                            .slice = hit->slice,
                                            .records = hit->records,
                                            .state = covered ? "retraining" : "completed",
                                            .served_from_slice = covered && served >= hit->slice
                                                                         ? hit->slice - 1
                                                                         : served};
                memcpy(v->model, hit->model->config->name, sizeof v->model);
                if (covered)
                        err = estimate_retrain(hit->model, t, hit->shard, hit->slice, &seconds);
                out->retrain_seconds += seconds;
        }
        uint32_t lanes =
                s->config.workers < out->affected_count ? s->config.workers : out->affected_count;
        if (lanes > 1)
                out->retrain_seconds /= lanes;
        if (t != NULL)
                txn_abort(&t);
        hits_clear(&h);
        if (err != 0) {
                erasure_view_clear(out);
                if (e->code == 0)
                        (void)ul_fail(e, err, "the index cannot be read");
        }
        return err;
}
