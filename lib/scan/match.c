/* SPDX-License-Identifier: Apache-2.0
 * match.c: see match.h. Patterns of up to 7 bytes and longer ones have a table each, so that the
 * usual search, which has no short pattern, reads each byte of the data once.
 *
 * The anchor matters: rows begin alike (zeros, a common first column), and a window that thousands
 * of patterns share would have all of them compared wherever it occurs. */
#include "lib/scan/match.h"

#include "lib/util/bytes.h"
#include "lib/util/crypto.h"
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_ANCHOR = 8, SHORT_ANCHOR = 4 };
enum { FIELD_BITS_MIN = 16, FIELD_BITS_MAX = 24, COUNT_BITS = 20, CHANGES_ENOUGH = 4 };
static const uint32_t none = UINT32_MAX;

struct pattern {
        size_t at; /* in `bytes` */
        uint64_t anchor;
        uint32_t tag;
        uint32_t next; /* with the same head */
        uint8_t len, anchor_at;
};

struct table {
        uint32_t width;  /* of an anchor */
        uint32_t bits;   /* of a position's hash */
        uint64_t *field; /* [2^bits / 64]: an anchor of this hash exists */
        uint32_t *heads; /* [2^bits] first pattern, or none */
};

struct matcher {
        struct buf bytes; /* of all patterns */
        struct pattern *patterns;
        size_t count, capacity;
        size_t longest;
        struct table long_table, short_table; /* width 0: no such patterns */
};

/* Little-endian: see bytes.h, whose functions cost a call a byte here. */
static inline uint64_t window(const uint8_t *p, uint32_t width)
{
        uint64_t v = 0;
        if (width == LONG_ANCHOR)
                memcpy(&v, p, LONG_ANCHOR);
        else
                memcpy(&v, p, SHORT_ANCHOR);
        return v;
}

static inline uint64_t spread(uint64_t v, uint32_t bits)
{
        return (v * 0x9e3779b97f4a7c15u) >> (64 - bits);
}

/* --- building --- */

int matcher_create(struct matcher **out, struct errinfo *e)
{
        *out = calloc(1, sizeof **out);
        return *out != NULL ? 0 : ul_fail(e, UL_NOMEM, "no memory for a search");
}

static void drop_table(struct table *t)
{
        free(t->field);
        free(t->heads);
        *t = (struct table){0};
}

static void drop_tables(struct matcher *m)
{
        drop_table(&m->long_table);
        drop_table(&m->short_table);
}

void matcher_destroy(struct matcher **pm)
{
        struct matcher *m = *pm;
        *pm = NULL;
        if (m == NULL)
                return;
        drop_tables(m);
        buf_free(&m->bytes, true);
        if (m->patterns != NULL)
                wipe(m->patterns, m->count * sizeof *m->patterns);
        free(m->patterns);
        free(m);
}

int matcher_add(struct matcher *m, const void *bytes, size_t len, uint32_t tag, struct errinfo *e)
{
        assert(len >= MATCH_BYTES_MIN && len <= MATCH_BYTES_MAX);
        if (m->count == m->capacity) {
                size_t capacity = m->capacity == 0 ? 256 : 2 * m->capacity;
                struct pattern *grown = capacity < none ? malloc(capacity * sizeof *grown) : NULL;
                if (grown == NULL)
                        return ul_fail(e, UL_NOMEM, "no memory for so many things to look for");
                if (m->count > 0) {
                        memcpy(grown, m->patterns, m->count * sizeof *grown);
                        wipe(m->patterns, m->count * sizeof *grown);
                }
                free(m->patterns);
                m->patterns = grown;
                m->capacity = capacity;
        }
        const size_t at = m->bytes.len;
        buf_append(&m->bytes, bytes, len);
        if (m->bytes.failed)
                return ul_fail(e, UL_NOMEM, "no memory for so many things to look for");
        m->patterns[m->count++] = (struct pattern){.at = at, .tag = tag, .len = (uint8_t)len};
        m->longest = len > m->longest ? len : m->longest;
        return 0;
}

size_t matcher_count(const struct matcher *m)
{
        return m->count;
}

static uint32_t width_of(const struct pattern *p)
{
        return p->len >= LONG_ANCHOR ? LONG_ANCHOR : SHORT_ANCHOR;
}

/* How often a byte differs from the one before it. */
static uint32_t changes(const uint8_t *p, uint32_t width)
{
        uint32_t n = 0;
        for (uint32_t i = 1; i < width; i++)
                n += p[i] != p[i - 1];
        return n;
}

/* The window that others share least; one that could stand on any page of zeros or small numbers
 * only where there is no better. */
static void choose_anchor(const struct matcher *m, struct pattern *p, const uint32_t *counts)
{
        const uint8_t *bytes = m->bytes.data + p->at;
        const uint32_t width = width_of(p);
        uint64_t best = UINT64_MAX;
        for (uint32_t i = 0; i + width <= p->len; i++) {
                const uint64_t v = window(bytes + i, width);
                const uint32_t varied = changes(bytes + i, width);
                uint64_t cost = counts[spread(v, COUNT_BITS)];
                cost = cost * 16 + (15 - varied);
                if (width == LONG_ANCHOR && varied < CHANGES_ENOUGH)
                        cost += (uint64_t)1 << 40;
                if (cost < best) {
                        best = cost;
                        p->anchor = v;
                        p->anchor_at = (uint8_t)i;
                }
        }
}

static int choose_anchors(struct matcher *m, struct errinfo *e)
{
        uint32_t *counts = calloc((size_t)1 << COUNT_BITS, sizeof *counts);
        if (counts == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a search");
        for (size_t k = 0; k < m->count; k++) {
                const struct pattern *p = &m->patterns[k];
                const uint32_t width = width_of(p);
                for (uint32_t i = 0; i + width <= p->len; i++)
                        counts[spread(window(m->bytes.data + p->at + i, width), COUNT_BITS)]++;
        }
        for (size_t k = 0; k < m->count; k++)
                choose_anchor(m, &m->patterns[k], counts);
        free(counts);
        return 0;
}

static int fill_table(struct matcher *m, struct table *t, uint32_t width, struct errinfo *e)
{
        size_t n = 0;
        for (size_t k = 0; k < m->count; k++)
                n += width_of(&m->patterns[k]) == width;
        if (n == 0)
                return 0;
        t->bits = FIELD_BITS_MIN;
        while (t->bits < FIELD_BITS_MAX && (size_t)1 << t->bits < 16 * n)
                t->bits++;
        const size_t size = (size_t)1 << t->bits;
        t->field = calloc(size / 64, sizeof *t->field);
        t->heads = malloc(size * sizeof *t->heads);
        if (t->field == NULL || t->heads == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a search");
        memset(t->heads, 0xff, size * sizeof *t->heads); /* none */
        for (size_t k = 0; k < m->count; k++) {
                struct pattern *p = &m->patterns[k];
                if (width_of(p) != width)
                        continue;
                const uint64_t h = spread(p->anchor, t->bits);
                t->field[h / 64] |= (uint64_t)1 << (h % 64);
                p->next = t->heads[h];
                t->heads[h] = (uint32_t)k;
        }
        t->width = width;
        return 0;
}

int matcher_build(struct matcher *m, struct errinfo *e)
{
        drop_tables(m);
        int err = choose_anchors(m, e);
        if (err == 0)
                err = fill_table(m, &m->long_table, LONG_ANCHOR, e);
        if (err == 0)
                err = fill_table(m, &m->short_table, SHORT_ANCHOR, e);
        if (err != 0)
                drop_tables(m);
        return err;
}

/* --- searching --- */

struct run {
        const uint8_t *data;
        size_t len, from, to;
        match_fn fn;
        void *arg;
};

/* The patterns whose anchor may stand at `at`. */
static int compare(const struct matcher *m, const struct table *t, const struct run *r, size_t at,
                   uint64_t v, uint64_t h)
{
        for (uint32_t k = t->heads[h]; k != none; k = m->patterns[k].next) {
                const struct pattern *p = &m->patterns[k];
                if (p->anchor != v || at < p->anchor_at)
                        continue;
                const size_t start = at - p->anchor_at;
                if (start < r->from || start >= r->to || p->len > r->len - start ||
                    memcmp(r->data + start, m->bytes.data + p->at, p->len) != 0)
                        continue;
                int err = r->fn(r->arg, p->tag, start, p->len);
                if (err != 0)
                        return err;
        }
        return 0;
}

static inline int run_table(const struct matcher *m, const struct table *t, const struct run *r,
                            const uint32_t width)
{
        const uint32_t bits = t->bits;
        const uint64_t *field = t->field;
        /* an anchor may stand this far behind the beginning of its pattern */
        size_t end = r->to + m->longest;
        end = end > r->len ? r->len : end;
        if (end < width)
                return 0;
        for (size_t at = r->from; at <= end - width; at++) {
                const uint64_t v = window(r->data + at, width), h = spread(v, bits);
                if ((field[h / 64] >> (h % 64) & 1) == 0)
                        continue;
                int err = compare(m, t, r, at, v, h);
                if (err != 0)
                        return err;
        }
        return 0;
}

int matcher_run(const struct matcher *m, const uint8_t *data, size_t len, size_t from, size_t to,
                match_fn fn, void *arg)
{
        const struct run r = {
                .data = data, .len = len, .from = from, .to = to, .fn = fn, .arg = arg};
        assert(from <= to && to <= len);
        int err = 0;
        if (m->long_table.width > 0)
                err = run_table(m, &m->long_table, &r, LONG_ANCHOR);
        if (err == 0 && m->short_table.width > 0)
                err = run_table(m, &m->short_table, &r, SHORT_ANCHOR);
        return err;
}
