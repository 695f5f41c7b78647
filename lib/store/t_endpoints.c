/* SPDX-License-Identifier: Apache-2.0
 * t_endpoints.c: hash -> an endpoint that deliveries go to, and how it fared. Whether one is in the
 * configuration, only its name tells. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <string.h>

/* value: kind u8, state u8, outcome u8, status u32, failures u32, pending u64, changed, attempt,
 * delivered i64, name text, then the address */
enum { ROW_BYTES_MAX = 3 + 2 * 4 + 8 + 3 * 8 + 1 + ENDPOINT_NAME_MAX + URL_MAX };

static void unpack_row(struct unpacker *u, struct endpoint_row *row)
{
        memset(row, 0, sizeof *row);
        row->kind = unpack_u8(u);
        row->state = unpack_u8(u);
        row->outcome = unpack_u8(u);
        row->status = unpack_u32(u);
        row->failures = unpack_u32(u);
        row->pending = unpack_u64(u);
        row->changed_ms = unpack_i64(u);
        row->attempt_ms = unpack_i64(u);
        row->delivered_ms = unpack_i64(u);
        unpack_text(u, row->name, sizeof row->name);
        if (u->left > URL_MAX || row->state > ENDPOINT_REMOVED)
                u->bad = true;
        else
                unpack_bytes(u, row->url, u->left);
}

int t_endpoint_get(struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES], struct endpoint_row *row)
{
        struct unpacker v;
        memset(row, 0, sizeof *row);
        int err = db_get(t, TABLE_ENDPOINTS, hash, ENDPOINT_HASH_BYTES, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        return db_unpacked(t, &v);
}

int t_endpoint_put(struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES],
                   const struct endpoint_row *row)
{
        uint8_t value[ROW_BYTES_MAX];
        struct packer p = pack_into(value, sizeof value);
        pack_u8(&p, row->kind);
        pack_u8(&p, row->state);
        pack_u8(&p, row->outcome);
        pack_u32(&p, row->status);
        pack_u32(&p, row->failures);
        pack_u64(&p, row->pending);
        pack_i64(&p, row->changed_ms);
        pack_i64(&p, row->attempt_ms);
        pack_i64(&p, row->delivered_ms);
        pack_text(&p, row->name, sizeof row->name);
        pack_bytes(&p, row->url, strnlen(row->url, URL_MAX));
        return db_put(t, TABLE_ENDPOINTS, hash, ENDPOINT_HASH_BYTES, value, packed(&p));
}

int t_endpoint_del(struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES])
{
        return db_del(t, TABLE_ENDPOINTS, hash, ENDPOINT_HASH_BYTES);
}

struct endpoint_walk {
        struct txn *t;
        t_endpoint_fn fn;
        void *arg;
};

static int on_endpoint(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct endpoint_walk *w = arg;
        struct endpoint_row row;
        uint8_t hash[ENDPOINT_HASH_BYTES];
        unpack_bytes(key, hash, sizeof hash);
        unpack_row(value, &row);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, hash, &row);
}

int t_endpoint_each(struct txn *t, const uint8_t *after, t_endpoint_fn fn, void *arg)
{
        struct endpoint_walk w = {.t = t, .fn = fn, .arg = arg};
        struct db_span span = {.from = after, .from_len = ENDPOINT_HASH_BYTES, .past = true};
        return db_walk(t, TABLE_ENDPOINTS, &span, on_endpoint, &w);
}
