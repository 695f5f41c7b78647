/* SPDX-License-Identifier: Apache-2.0
 * recalls.c: which generations of a model are withdrawn, and why (GDPR art. 19: whoever a model was
 * disclosed to is told of erasures). A record in slice r of shard s had a part in exactly those
 * generations in which s was served from a checkpoint of slice r or a later one: so it is noted, in
 * the transactions that change it, from when to when each slice was served; the rest is looked up.
 */
#include "daemon/erasure.h"
#include "daemon/state.h"
#include "daemon/views.h"

#include <stdlib.h>
#include <string.h>

enum {
        SCAN_ROWS = 5000,          /* looked at in one read transaction, or one erasure's */
        GENERATIONS_LOST = 1 << 20 /* more than a model had between a backup and its restore */
};

/* --- as it happens, in a transaction --- */

int served_begin(struct txn *t, const struct model *m, uint32_t shard, uint32_t from_slice,
                 uint32_t to_slice, uint64_t generation)
{
        int64_t now = now_ms();
        int err = 0;
        for (uint32_t i = from_slice; i <= to_slice && err == 0; i++)
                err = t_served_open(t, m->id, shard, i, generation, now);
        return err;
}

int served_end(struct txn *t, const struct model *m, uint32_t shard, uint32_t from_slice,
               uint32_t to_slice, uint64_t generation)
{
        int64_t now = now_ms();
        int err = 0;
        for (uint32_t i = from_slice; i <= to_slice && err == 0; i++)
                err = t_served_close(t, m->id, shard, i, generation, now);
        return err;
}

static int any(void *arg, const struct served_row *row)
{
        (void)arg;
        (void)row;
        return 1;
}

int recall_note(struct txn *t, const struct model *m, const struct hits *h,
                const uint8_t id[ULID_BYTES], uint64_t generation, int64_t now)
{
        struct recall_row row = {.generation = generation, .withdrawn_ms = now};
        int err = 0;
        memcpy(row.erasure, id, ULID_BYTES);
        for (uint32_t i = 0; i < h->count && err == 0; i++)
                if (h->hit[i].model == m)
                        err = t_served_each(t, m->id, h->hit[i].shard, h->hit[i].slice, any, NULL);
        return err == 1 ? t_recall_append(t, m->id, &row) : err;
}

/* --- after a restore --- */

struct lost {
        struct txn *t;
        uint32_t model;
        uint64_t first, last; /* generations */
        int64_t from_ms, until_ms;
};

static int take_newest(void *arg, const struct served_row *row)
{
        *(struct served_row *)arg = *row;
        return 0;
}

static int slice_lost(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row)
{
        const struct lost *l = arg;
        struct served_row newest = {.last = 1};
        (void)row;
        int err = t_served_each(l->t, l->model, shard, slice, take_newest, &newest);
        if (err != 0 || newest.last == 0) /* it is open, and goes on */
                return err;
        err = t_served_open(l->t, l->model, shard, slice, l->first, l->from_ms);
        return err == 0 ? t_served_close(l->t, l->model, shard, slice, l->last, l->until_ms) : err;
}

static int model_lost(struct txn *t, const struct model *m, struct lost *l)
{
        struct model_row row;
        int err = t_model_get(t, m->config->name, &row, NULL);
        if (err != 0 || row.deleting)
                return err;
        l->model = m->id;
        l->first = row.generation + 1;
        row.generation += GENERATIONS_LOST;
        l->last = row.generation - 1;
        err = t_slice_each(t, m->id, UINT32_MAX, slice_lost, l);
        return err == 0 ? t_model_put(t, m->config->name, &row, NULL, 0) : err;
}

int served_lost(struct service *s, struct txn *t, int64_t since_ms, struct errinfo *e)
{
        struct lost l = {.t = t, .until_ms = now_ms()};
        struct model **models = NULL;
        uint32_t count = 0;
        l.from_ms = since_ms < l.until_ms ? since_ms : l.until_ms;
        int err = registry_all(s, &models, &count, e);
        if (err != 0)
                return err;
        for (uint32_t i = 0; i < count && err == 0; i++)
                err = model_lost(t, models[i], &l);
        registry_release(models, count);
        return err == 0 ? 0 : ul_fail(e, err, "the models' generations cannot be counted on");
}

/* --- looked up --- */

struct ranges {
        struct recall_range *all; /* [count] */
        uint32_t count, cap;
        uint32_t seen;   /* rows */
        uint64_t before; /* generations from here on do not count */
        int64_t withdrawn_ms;
        int err;
};

static int add_range(void *arg, const struct served_row *row)
{
        struct ranges *r = arg;
        struct recall_range x = {.first = row->first,
                                 .last = row->last,
                                 .from_ms = row->from_ms,
                                 .until_ms = row->until_ms};
        r->seen++;
        if (x.first >= r->before)
                return 1;
        if (x.last == 0 || x.last >= r->before) { /* another erasure ended it, later */
                x.last = r->before - 1;
                x.until_ms = r->withdrawn_ms;
        }
        if (x.until_ms > r->withdrawn_ms) /* it ended this one, a moment after it had its time */
                x.until_ms = r->withdrawn_ms;
        if (r->count == r->cap) {
                uint32_t cap = r->cap == 0 ? 8 : 2 * r->cap;
                struct recall_range *grown = realloc(r->all, cap * sizeof *grown);
                if (grown == NULL) {
                        r->err = UL_NOMEM;
                        return 1;
                }
                r->all = grown;
                r->cap = cap;
        }
        r->all[r->count++] = x;
        return 0;
}

static int by_first(const void *a, const void *b)
{
        const struct recall_range *x = a, *y = b;
        return x->first < y->first ? -1 : x->first > y->first;
}

/* In order, none touching the next. */
static void unite(struct ranges *r)
{
        uint32_t kept = 0;
        if (r->count == 0)
                return;
        qsort(r->all, r->count, sizeof *r->all, by_first);
        for (uint32_t i = 1; i < r->count; i++) {
                struct recall_range *last = &r->all[kept], *x = &r->all[i];
                if (x->first > last->last + 1) {
                        r->all[++kept] = *x;
                        continue;
                }
                if (x->last > last->last) {
                        last->last = x->last;
                        last->until_ms = x->until_ms;
                }
        }
        r->count = kept + 1;
}

static int ranges_of(struct txn *t, uint32_t model, const struct recall_row *row,
                     const struct erasure_row *erasure, const struct erasure_affected *affected,
                     struct ranges *r)
{
        int err = 0;
        r->before = row->generation;
        r->withdrawn_ms = row->withdrawn_ms;
        for (uint32_t i = 0; i < erasure->affected_count && err == 0 && r->err == 0; i++) {
                if (affected[i].model != model)
                        continue;
                err = t_served_each(t, model, affected[i].shard, affected[i].slice, add_range, r);
                err = err == 1 ? 0 : err;
        }
        if (err == 0)
                err = r->err;
        if (err == 0)
                unite(r);
        return err;
}

struct listing {
        struct txn *t;
        uint32_t model;
        const struct recall_filter *filter;
        service_recall_fn fn;
        void *arg;
        int64_t left;  /* rows to be looked at */
        uint64_t last; /* the number of the last one that was given, or passed over */
        bool more;
};

static bool wanted(const struct recall_filter *f, const struct recall_view *v)
{
        if (v->withdrawn_ms < f->since_ms)
                return false;
        if (!f->has_generation)
                return v->range_count > 0;
        for (uint32_t i = 0; i < v->range_count; i++)
                if (v->ranges[i].first <= f->generation && f->generation <= v->ranges[i].last)
                        return true;
        return false;
}

static int show_recall(void *arg, uint64_t number, const struct recall_row *row)
{
        struct listing *l = arg;
        struct erasure_row erasure;
        struct erasure_affected *affected = NULL;
        struct ranges r = {0};
        if (l->left <= 0) {
                l->more = true;
                return 1;
        }
        int err = t_erasure_get(l->t, row->erasure, &erasure, &affected);
        if (err == UL_NOT_FOUND)
                err = txn_fail(l->t, UL_CORRUPT);
        if (err == 0) {
                err = ranges_of(l->t, l->model, row, &erasure, affected, &r);
                l->left -= 1 + (int64_t)erasure.affected_count + r.seen;
        }
        if (err == 0) {
                struct recall_view v = {.number = number,
                                        .regulation = regulation_name(erasure.regulation),
                                        .withdrawn_ms = row->withdrawn_ms,
                                        .completed_ms = erasure.completed_ms,
                                        .replaced_by = r.count > 0 ? r.all[r.count - 1].last + 1
                                                                   : row->generation,
                                        .ranges = r.all,
                                        .range_count = r.count};
                memcpy(v.erasure, row->erasure, ULID_BYTES);
                if (wanted(l->filter, &v) && l->fn(l->arg, &v) != 0) {
                        l->more = true; /* this one belongs to the next page */
                        err = 1;
                } else {
                        l->last = number;
                }
        }
        free(r.all);
        free(affected);
        return err;
}

int service_recall_list(struct service *s, const char *model, const struct recall_filter *f,
                        uint64_t after, service_recall_fn fn, void *arg, uint64_t *next,
                        struct errinfo *e)
{
        struct listing l = {.filter = f, .fn = fn, .arg = arg, .left = SCAN_ROWS, .last = after};
        struct model *m = NULL;
        int err = registry_get(s, model, &m, e);
        if (err != 0)
                return err;
        l.model = m->id;
        model_unref(m);
        err = told_read(s, &l.t, e);
        if (err != 0)
                return err;
        err = t_recall_each(l.t, l.model, after, show_recall, &l);
        txn_abort(&l.t);
        *next = l.more ? l.last : UINT64_MAX;
        return err < 0 ? ul_fail(e, err, "the recalls cannot be read") : 0;
}
