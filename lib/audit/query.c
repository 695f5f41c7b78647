/* SPDX-License-Identifier: Apache-2.0
 * query.c: audit_query (log.h): which entries, in which order, a bounded number a call. Entry times
 * never decrease, so since and until become a range of indexes by binary search; every other filter
 * is a key of the index, of which the narrowest is walked and the rest are looked up. */
#include "lib/audit/log.h"

#include "lib/audit/entry.h"
#include <assert.h>
#include <string.h>

enum { CONDITIONS_MAX = 6, WALK_END = 1 };

struct condition {
        uint8_t kind;
        uint8_t value[ENTRY_VALUE_BYTES];
};

struct query {
        struct txn *t;
        struct condition condition[CONDITIONS_MAX]; /* the narrowest first */
        uint32_t condition_count;
        uint64_t kept;   /* the first entry that was not pruned */
        uint64_t lo, hi; /* the indexes in the range of time: [lo, hi) */
        uint32_t left;   /* entries that may still be looked at */
        audit_fn fn;
        void *arg;
        struct buf entry; /* the one being looked at */
        int stop;         /* what fn ended the walk with */
        uint64_t next;
};

static void add_value(struct query *q, enum entry_kind kind, const uint8_t *value)
{
        if (value == NULL)
                return;
        struct condition *c = &q->condition[q->condition_count++];
        c->kind = (uint8_t)kind;
        memcpy(c->value, value, sizeof c->value);
}

static void add_text(struct query *q, enum entry_kind kind, const char *text)
{
        uint8_t value[ENTRY_VALUE_BYTES];
        if (text == NULL)
                return;
        entry_value(text, value);
        add_value(q, kind, value);
}

static void add_conditions(struct query *q, const struct audit_filter *f)
{
        add_value(q, ENTRY_BY_RECORD, f->record);
        add_value(q, ENTRY_BY_SUBJECT, f->subject);
        add_value(q, ENTRY_BY_ERASURE, f->erasure);
        add_text(q, ENTRY_BY_REFERENCE, f->reference);
        add_text(q, ENTRY_BY_MODEL, f->model);
        add_text(q, ENTRY_BY_TYPE, f->type);
}

static int load(struct query *q, uint64_t index, uint8_t leaf_hash[SHA256_BYTES])
{
        buf_reset(&q->entry, false);
        int err = audit_get(q->t, index, &q->entry, leaf_hash);
        return err == UL_NOT_FOUND || err == UL_GONE ? txn_fail(q->t, UL_CORRUPT) : err;
}

/* The first index below `size` whose time is at least `ms`; size where there is none. */
static int first_since(struct query *q, uint64_t size, int64_t ms, uint64_t *out)
{
        uint64_t lo = q->kept, hi = size;
        while (lo < hi) {
                uint64_t middle = lo + (hi - lo) / 2;
                int64_t time = 0;
                int err = load(q, middle, NULL);
                if (err == 0 && !entry_time(q->entry.data, q->entry.len, middle, &time))
                        err = txn_fail(q->t, UL_CORRUPT);
                if (err != 0)
                        return err;
                if (time >= ms)
                        hi = middle;
                else
                        lo = middle + 1;
        }
        *out = lo;
        return 0;
}

static int set_range(struct query *q, const struct audit_filter *f)
{
        uint64_t size = audit_size(q->t);
        q->kept = audit_first(q->t);
        int err = txn_error(q->t);
        q->lo = q->kept;
        q->hi = size;
        if (err == 0 && f->since_ms != 0)
                err = first_since(q, size, f->since_ms, &q->lo);
        if (err == 0 && f->until_ms != 0 && f->until_ms < INT64_MAX)
                err = first_since(q, size, f->until_ms + 1, &q->hi);
        return err;
}

/* Do all conditions but the walked one hold? UL_NOT_FOUND: no. */
static int check_others(struct query *q, uint64_t index)
{
        int err = 0;
        for (uint32_t i = 1; err == 0 && i < q->condition_count; i++)
                err = t_audit_index_has(q->t, q->condition[i].kind, q->condition[i].value, index);
        return err;
}

/* t_audit_index_fn. Walks begin inside the range, so an index outside of it is past its far end.
 * Once stopped, the next candidate is where to go on. */
static int visit(void *arg, uint64_t index)
{
        struct query *q = arg;
        uint8_t leaf_hash[SHA256_BYTES];
        if (index < q->lo || index >= q->hi)
                return WALK_END;
        if (q->stop != 0 || q->left == 0) {
                q->next = index;
                return WALK_END;
        }
        q->left--;
        int err = check_others(q, index);
        if (err == UL_NOT_FOUND)
                return 0;
        if (err == 0)
                err = load(q, index, leaf_hash);
        if (err == 0)
                q->stop =
                        q->fn(q->arg, index, (const char *)q->entry.data, q->entry.len, leaf_hash);
        return err;
}

/* No index: every entry. from is in [lo, hi). */
static int walk_all(struct query *q, uint64_t from, bool descending)
{
        int err = 0;
        for (uint64_t i = from; err == 0; i += descending ? UINT64_MAX : 1)
                err = visit(q, i); /* before 0 comes UINT64_MAX, which ends it too */
        return err;
}

/* The string behind `name`, as it stands in the text; *at goes on behind it. */
static bool part(const char **at, const char *end, const char *name, const char **out, size_t *len)
{
        size_t n = strlen(name);
        if ((size_t)(end - *at) < n || memcmp(*at, name, n) != 0)
                return false;
        *out = *at + n;
        const char *quote = *out;
        while (quote < end && *quote != '"')
                quote += *quote == '\\' ? 2 : 1;
        if (quote >= end)
                return false;
        *len = (size_t)(quote - *out);
        *at = quote + 1;
        return true;
}

bool audit_entry_parts(const void *entry, size_t len, struct audit_parts *out)
{
        static const char index[] = "{\"v\":1,\"index\":", data[] = ",\"data\":";
        const char *at = entry, *end = at + len;
        if (len < sizeof index || memcmp(at, index, sizeof index - 1) != 0)
                return false;
        at += sizeof index - 1;
        while (at < end && *at >= '0' && *at <= '9')
                at++;
        if (!part(&at, end, ",\"time\":\"", &out->time, &out->time_len) ||
            !part(&at, end, ",\"type\":\"", &out->type, &out->type_len))
                return false;
        const char *actor;
        size_t actor_len;
        if (!part(&at, end, ",\"actor\":\"", &actor, &actor_len) ||
            (size_t)(end - at) < sizeof data + 2 || memcmp(at, data, sizeof data - 1) != 0)
                return false;
        out->data = at + sizeof data - 1;
        out->data_len = (size_t)(end - out->data) - 1; /* the entry's own brace is last */
        return out->data[0] == '{' && out->data[out->data_len - 1] == '}' && end[-1] == '}';
}

int audit_query(struct txn *t, const struct audit_filter *f, uint32_t max_scanned, audit_fn fn,
                void *arg, uint64_t *next)
{
        struct query q = {.t = t, .left = max_scanned, .fn = fn, .arg = arg, .next = UINT64_MAX};
        assert(max_scanned > 0);
        *next = UINT64_MAX;
        int err = set_range(&q, f);
        if (err != 0 || q.lo >= q.hi)
                goto out;
        uint64_t from = f->from;
        if (f->descending && from >= q.hi)
                from = q.hi - 1;
        if (!f->descending && from < q.lo)
                from = q.lo;
        if (from < q.lo || from >= q.hi)
                goto out;
        add_conditions(&q, f);
        if (q.condition_count > 0)
                err = t_audit_index_each(t, q.condition[0].kind, q.condition[0].value, from,
                                         f->descending, visit, &q);
        else
                err = walk_all(&q, from, f->descending);
        if (err == WALK_END)
                err = 0;
        if (err == 0) {
                *next = q.next;
                err = q.stop;
        }
out:
        buf_free(&q.entry, false);
        return err;
}
