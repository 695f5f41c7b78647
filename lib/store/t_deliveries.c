/* SPDX-License-Identifier: Apache-2.0
 * t_deliveries.c: ulid -> what is to be sent, and the index (endpoint, time, ulid) -> nothing by
 * which each endpoint's next one is found without looking at the others'. What was delivered or
 * given up is not kept: the audit log tells. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <string.h>

enum {
        DUE_BYTES = ENDPOINT_HASH_BYTES + 8 + ULID_BYTES,
        /* value: endpoint, kind u8, attempts u32, created, next i64, erasure, type text, length of
         * the headers u32, headers, then the body */
        ROW_BYTES_MAX = ENDPOINT_HASH_BYTES + 1 + 4 + 2 * 8 + ULID_BYTES + 1 + DELIVERY_TYPE_MAX,
};

static void due_key(uint8_t key[DUE_BYTES], const struct delivery_row *row,
                    const uint8_t id[ULID_BYTES])
{
        assert(row->next_ms >= 0); /* else it would not sort */
        memcpy(key, row->endpoint, ENDPOINT_HASH_BYTES);
        put_be64(key + ENDPOINT_HASH_BYTES, (uint64_t)row->next_ms);
        memcpy(key + ENDPOINT_HASH_BYTES + 8, id, ULID_BYTES);
}

static void unpack_row(struct unpacker *u, struct delivery_row *row)
{
        memset(row, 0, sizeof *row);
        unpack_bytes(u, row->endpoint, ENDPOINT_HASH_BYTES);
        row->kind = unpack_u8(u);
        row->attempts = unpack_u32(u);
        row->created_ms = unpack_i64(u);
        row->next_ms = unpack_i64(u);
        unpack_bytes(u, row->erasure, ULID_BYTES);
        unpack_text(u, row->type, sizeof row->type);
        if (row->next_ms < 0)
                u->bad = true;
}

/* Leaves u at the body. */
static const char *unpack_headers(struct unpacker *u, size_t *len)
{
        *len = unpack_u32(u);
        const uint8_t *at = *len <= DELIVERY_HEADERS_MAX ? unpack_room(u, *len) : NULL;
        if (at == NULL)
                u->bad = true;
        return (const char *)at;
}

int t_delivery_get(struct txn *t, const uint8_t id[ULID_BYTES], struct delivery_row *row,
                   struct buf *headers, struct buf *body)
{
        struct unpacker v;
        size_t len = 0;
        memset(row, 0, sizeof *row);
        int err = db_get(t, TABLE_DELIVERIES, id, ULID_BYTES, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        const char *lines = unpack_headers(&v, &len);
        if (v.bad || v.left > DELIVERY_BODY_MAX)
                return txn_fail(t, UL_CORRUPT);
        if (headers != NULL)
                buf_append(headers, lines, len);
        if (body != NULL)
                buf_append(body, v.at, v.left);
        bool failed = (headers != NULL && headers->failed) || (body != NULL && body->failed);
        return failed ? txn_fail(t, UL_NOMEM) : 0;
}

static int put_value(struct txn *t, const uint8_t id[ULID_BYTES], const struct delivery_row *row,
                     const struct buf *headers, const struct buf *body)
{
        struct buf value = {0};
        uint8_t *room = buf_extend(&value, ROW_BYTES_MAX + 4 + headers->len + body->len);
        if (room == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(room, value.len);
        pack_bytes(&p, row->endpoint, ENDPOINT_HASH_BYTES);
        pack_u8(&p, row->kind);
        pack_u32(&p, row->attempts);
        pack_i64(&p, row->created_ms);
        pack_i64(&p, row->next_ms);
        pack_bytes(&p, row->erasure, ULID_BYTES);
        pack_text(&p, row->type, sizeof row->type);
        pack_u32(&p, (uint32_t)headers->len);
        pack_bytes(&p, headers->data, headers->len);
        pack_bytes(&p, body->data, body->len);
        int err = db_put(t, TABLE_DELIVERIES, id, ULID_BYTES, room, packed(&p));
        buf_free(&value, false);
        return err;
}

int t_delivery_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct delivery_row *row,
                   const char *headers, const void *body, size_t body_len)
{
        uint8_t due[DUE_BYTES];
        struct delivery_row old;
        struct buf lines = {0}, bytes = {0};
        bool keep = body == NULL;
        int err = t_delivery_get(t, id, &old, keep ? &lines : NULL, keep ? &bytes : NULL);
        if (err == 0) {
                due_key(due, &old, id);
                err = db_del(t, TABLE_DELIVERIES_DUE, due, sizeof due);
        } else if (err == UL_NOT_FOUND && !keep) {
                err = 0;
        }
        if (!keep) {
                buf_append(&bytes, body, body_len);
                if (headers != NULL)
                        buf_append_str(&lines, headers);
        }
        assert(lines.len <= DELIVERY_HEADERS_MAX && bytes.len <= DELIVERY_BODY_MAX);
        if (err == 0 && (lines.failed || bytes.failed))
                err = txn_fail(t, UL_NOMEM);
        if (err == 0)
                err = put_value(t, id, row, &lines, &bytes);
        due_key(due, row, id);
        if (err == 0)
                err = db_put(t, TABLE_DELIVERIES_DUE, due, sizeof due, NULL, 0);
        buf_free(&lines, false);
        buf_free(&bytes, false);
        return err;
}

int t_delivery_del(struct txn *t, const uint8_t id[ULID_BYTES])
{
        uint8_t due[DUE_BYTES];
        struct delivery_row row;
        int err = t_delivery_get(t, id, &row, NULL, NULL);
        if (err != 0)
                return err;
        due_key(due, &row, id);
        err = db_del(t, TABLE_DELIVERIES_DUE, due, sizeof due);
        if (err == 0)
                err = db_del(t, TABLE_DELIVERIES, id, ULID_BYTES);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

int t_delivery_count(struct txn *t, uint64_t *out)
{
        return db_count(t, TABLE_DELIVERIES, out);
}

static int first_endpoint(void *arg, struct unpacker *key, struct unpacker *value)
{
        (void)value;
        unpack_bytes(key, arg, ENDPOINT_HASH_BYTES);
        return 1;
}

int t_delivery_next_endpoint(struct txn *t, const uint8_t *after, uint8_t out[ENDPOINT_HASH_BYTES])
{
        uint8_t from[DUE_BYTES];
        struct db_span span = {.from_len = sizeof from, .past = true};
        if (after != NULL) {
                memset(from, 0xff, sizeof from);
                memcpy(from, after, ENDPOINT_HASH_BYTES);
                span.from = from;
        }
        int err = db_walk(t, TABLE_DELIVERIES_DUE, &span, first_endpoint, out);
        return err == 1 ? 0 : err == 0 ? UL_NOT_FOUND : err;
}

struct due_walk {
        struct txn *t;
        t_delivery_due_fn fn;
        void *arg;
};

static int on_due(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct due_walk *w = arg;
        uint8_t endpoint[ENDPOINT_HASH_BYTES], id[ULID_BYTES];
        (void)value;
        unpack_bytes(key, endpoint, sizeof endpoint);
        int64_t next_ms = (int64_t)unpack_key64(key);
        unpack_bytes(key, id, sizeof id);
        if (!unpacked(key))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, id, next_ms);
}

int t_delivery_each_due(struct txn *t, const uint8_t endpoint[ENDPOINT_HASH_BYTES],
                        t_delivery_due_fn fn, void *arg)
{
        struct due_walk w = {.t = t, .fn = fn, .arg = arg};
        struct db_span span = {.prefix = endpoint, .prefix_len = ENDPOINT_HASH_BYTES};
        return db_walk(t, TABLE_DELIVERIES_DUE, &span, on_due, &w);
}
