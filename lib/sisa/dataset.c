/* SPDX-License-Identifier: Apache-2.0
 * dataset.c: one sorted array of references to live rows, made once a job; a stage's selection is
 * the part of it whose slices are covered, which needs no second sort. It must not know what the
 * rows are trained into.
 *
 * Pseudonyms are copied into the references: sorting then stays inside one array instead of
 * jumping through mapped files. */
#include "lib/sisa/dataset.h"
#include "lib/records/rowfile.h"
#include "lib/util/bytes.h"
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row_ref {
        uint64_t high, low; /* the pseudonym, as a big-endian number */
        const uint8_t *row; /* in a mapped file */
        uint32_t slice;
        uint32_t class; /* classification */
};

struct dataset {
        /* set once */
        const struct model_config *config;
        struct row_shape shape;
        struct rowview *views; /* [view_count] */
        uint32_t view_count;
        struct row_ref *refs; /* [ref_count], sorted by pseudonym */
        uint32_t ref_count;
        /* the selection: indices into refs */
        uint32_t *canonical; /* [selected] */
        uint32_t *order;     /* [selected], as drawn */
        uint32_t selected;
        uint32_t shard;
};

/* --- opening --- */

__attribute__((format(printf, 2, 3))) static int damaged(struct errinfo *e, const char *format, ...)
{
        char what[ERRINFO_DETAIL_MAX];
        va_list args;
        va_start(args, format);
        int n = vsnprintf(what, sizeof what, format, args);
        va_end(args);
        return ul_fail(e, UL_DAMAGED, "damaged rows: %s", n < 0 ? "" : what);
}

static struct row_shape shape_of(const struct model_config *c)
{
        return (struct row_shape){.dtype = (uint32_t)c->dtype,
                                  .features = c->features,
                                  .targets = c->task == TASK_REGRESSION ? c->outputs : 0};
}

static bool targets_finite(const uint8_t *row, uint32_t targets)
{
        for (uint32_t i = 0; i < targets; i++) {
                float v;
                memcpy(&v, row + ROW_LABEL_OFFSET + 4 * (size_t)i, sizeof v);
                if (!isfinite(v))
                        return false;
        }
        return true;
}

static int take_row(struct dataset *d, const struct job *j, uint32_t slice, uint32_t at,
                    const uint8_t *row, struct errinfo *e)
{
        const bool classes = d->shape.targets == 0;
        uint32_t class = classes ? get_le32(row + ROW_LABEL_OFFSET) : 0;
        if (classes ? class >= d->config->outputs : !targets_finite(row, d->shape.targets))
                return damaged(e, "shard %u slice %u row %u: its label is out of range", j->shard,
                               slice, at);
        d->refs[d->ref_count++] = (struct row_ref){.high = get_be64(row),
                                                   .low = get_be64(row + 8),
                                                   .row = row,
                                                   .slice = slice,
                                                   .class = class};
        return 0;
}

static int take_slice(struct dataset *d, const struct job *j, uint32_t slice, struct errinfo *e)
{
        const struct rowview *v = &d->views[slice - 1];
        const uint64_t expected = j->slice[slice - 1].live;
        uint64_t live = 0;
        for (uint32_t at = 0; at < v->count; at++) {
                const uint8_t *row = v->rows + (size_t)at * v->row_bytes;
                if (!row_intact(row, v->row_bytes))
                        return damaged(e, "shard %u slice %u row %u: its checksum does not hold",
                                       j->shard, slice, at);
                if (row_erased(row))
                        continue;
                if (live++ == expected) /* refs has room for the promised ones alone */
                        break;
                int err = take_row(d, j, slice, at, row, e);
                if (err != 0)
                        return err;
        }
        if (live != expected)
                return damaged(e, "shard %u slice %u holds %s live rows than it should", j->shard,
                               slice, live > expected ? "more" : "fewer");
        return 0;
}

static int map_slices(struct dataset *d, const struct job *j, struct errinfo *e)
{
        char path[PATH_SIZE];
        struct errinfo why = {0};
        for (uint32_t slice = 1; slice <= j->slices; slice++) {
                struct rowview *v = &d->views[d->view_count++];
                if (j->slice[slice - 1].rows == 0)
                        continue; /* there is no file; the view stays empty */
                int err = rows_path(path, j->root, j->shard, slice, &why);
                if (err == 0)
                        err = rowview_open(path, &d->shape, j->shard, slice,
                                           j->slice[slice - 1].rows, v, &why);
                if (err == UL_CORRUPT || err == UL_NOT_FOUND)
                        return damaged(e, "shard %u slice %u: %s", j->shard, slice, why.detail);
                if (err != 0)
                        return ul_fail(e, err, "%s", why.detail);
        }
        return 0;
}

static int by_pseudonym(const void *a, const void *b)
{
        const struct row_ref *x = a;
        const struct row_ref *y = b;
        if (x->high != y->high)
                return x->high < y->high ? -1 : 1;
        if (x->low != y->low)
                return x->low < y->low ? -1 : 1;
        return 0;
}

static int sort_rows(struct dataset *d, const struct job *j, struct errinfo *e)
{
        if (d->ref_count == 0)
                return 0;
        qsort(d->refs, d->ref_count, sizeof *d->refs, by_pseudonym);
        for (uint32_t i = 1; i < d->ref_count; i++)
                if (by_pseudonym(&d->refs[i - 1], &d->refs[i]) == 0)
                        return damaged(e, "shard %u holds one record twice", j->shard);
        return 0;
}

static int allocate(struct dataset *d, const struct job *j, struct errinfo *e)
{
        uint64_t live = 0;
        for (uint32_t i = 0; i < j->slices; i++)
                live += j->slice[i].live; /* at most 4096 * 2^32 */
        if (live > UINT32_MAX)
                return ul_fail(e, UL_TOO_LARGE, "shard %u has over 2^32 rows; use more shards",
                               j->shard);
        size_t n = live > 0 ? (size_t)live : 1;
        d->views = calloc(j->slices, sizeof *d->views);
        d->refs = calloc(n, sizeof *d->refs);
        d->canonical = calloc(n, sizeof *d->canonical);
        d->order = calloc(n, sizeof *d->order);
        if (d->views == NULL || d->refs == NULL || d->canonical == NULL || d->order == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to index the rows of shard %u", j->shard);
        return 0;
}

int dataset_open(const struct job *j, struct dataset **out, struct errinfo *e)
{
        *out = NULL;
        struct dataset *d = calloc(1, sizeof *d);
        if (d == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a dataset");
        d->config = j->config;
        d->shape = shape_of(j->config);
        d->shard = j->shard;
        int err = allocate(d, j, e);
        if (err == 0)
                err = map_slices(d, j, e);
        for (uint32_t slice = 1; err == 0 && slice <= j->slices; slice++)
                err = take_slice(d, j, slice, e);
        if (err == 0)
                err = sort_rows(d, j, e);
        if (err != 0)
                dataset_close(&d);
        *out = d;
        return err;
}

void dataset_close(struct dataset **dataset)
{
        struct dataset *d = *dataset;
        if (d == NULL)
                return;
        for (uint32_t i = 0; i < d->view_count; i++)
                rowview_close(&d->views[i]);
        if (d->refs != NULL)
                wipe(d->refs, d->ref_count * sizeof *d->refs);
        free(d->order);
        free(d->canonical);
        free(d->refs);
        free(d->views);
        free(d);
        *dataset = NULL;
}

/* --- drawing --- */

uint32_t dataset_select(struct dataset *d, uint32_t slice, uint8_t retained[SHA256_BYTES])
{
        struct sha256_state commitment;
        uint8_t pseudonym[PSEUDONYM_BYTES];
        sha256_begin(&commitment);
        d->selected = 0;
        for (uint32_t i = 0; i < d->ref_count; i++) {
                const struct row_ref *ref = &d->refs[i];
                if (ref->slice > slice)
                        continue;
                d->canonical[d->selected] = i;
                d->order[d->selected] = i;
                d->selected++;
                put_be64(pseudonym, ref->high);
                put_be64(pseudonym + 8, ref->low);
                sha256_add(&commitment, pseudonym, sizeof pseudonym);
        }
        sha256_end(&commitment, retained);
        wipe(pseudonym, sizeof pseudonym);
        return d->selected;
}

int dataset_check(const struct dataset *d, struct errinfo *e)
{
        for (uint32_t i = 0; i < d->selected; i++) {
                const struct row_ref *ref = &d->refs[d->canonical[i]];
                const struct rowview *v = &d->views[ref->slice - 1];
                if (get_be64(ref->row) != ref->high || get_be64(ref->row + 8) != ref->low ||
                    !row_intact(ref->row, v->row_bytes))
                        return damaged(e, "shard %u slice %u row %zu: it changed while it was used",
                                       d->shard, ref->slice,
                                       (size_t)(ref->row - v->rows) / v->row_bytes);
        }
        return 0;
}

/* Fisher-Yates, from the end. */
void dataset_shuffle(struct dataset *d, struct prng *rng)
{
        memcpy(d->order, d->canonical, d->selected * sizeof *d->order);
        for (uint32_t i = d->selected; i > 1; i--) {
                uint32_t k = prng_below(rng, i);
                uint32_t held = d->order[i - 1];
                d->order[i - 1] = d->order[k];
                d->order[k] = held;
        }
}

void dataset_draw(const struct dataset *d, uint32_t at, uint32_t n, float *x, uint32_t *classes,
                  float *targets)
{
        assert(at <= d->selected && n <= d->selected - at);
        const size_t features = d->shape.features;
        const size_t width = d->shape.targets;
        for (uint32_t i = 0; i < n; i++) {
                const struct row_ref *ref = &d->refs[d->order[at + i]];
                row_widen(&d->shape, ref->row, x + i * features);
                if (width == 0)
                        classes[i] = ref->class;
                else
                        memcpy(targets + i * width, ref->row + ROW_LABEL_OFFSET,
                               width * sizeof *targets);
        }
}
