/* SPDX-License-Identifier: Apache-2.0
 * t_idempotency.c: keyed hash of (token, route, key) -> what was answered, and the index
 * (expiry, hash) -> nothing by which old ones are found. The body is there as a keyed hash only. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <string.h>

enum {
        HASH_BYTES = 32,
        KEY_BYTES_UNTIL = 8 + HASH_BYTES,
        /* value: body [32], expires i64, status u32, resource text */
        ROW_BYTES_MAX = HASH_BYTES + 8 + 4 + 1 + MODEL_NAME_MAX + 1,
};

static void until_key(uint8_t key[KEY_BYTES_UNTIL], int64_t expires_ms, const uint8_t *hash)
{
        assert(expires_ms >= 0); /* else it would not sort */
        put_be64(key, (uint64_t)expires_ms);
        memcpy(key + 8, hash, HASH_BYTES);
}

int t_idempotency_get(struct txn *t, const uint8_t key[32], struct idempotency_row *row)
{
        struct unpacker v;
        memset(row, 0, sizeof *row);
        int err = db_get(t, TABLE_IDEMPOTENCY, key, HASH_BYTES, &v);
        if (err != 0)
                return err;
        unpack_bytes(&v, row->body, HASH_BYTES);
        row->expires_ms = unpack_i64(&v);
        row->status = unpack_u32(&v);
        unpack_text(&v, row->resource, sizeof row->resource);
        if (row->expires_ms < 0)
                v.bad = true;
        return db_unpacked(t, &v);
}

int t_idempotency_put(struct txn *t, const uint8_t key[32], const struct idempotency_row *row)
{
        uint8_t value[ROW_BYTES_MAX], until[KEY_BYTES_UNTIL];
        struct idempotency_row old;
        struct packer p = pack_into(value, sizeof value);
        pack_bytes(&p, row->body, HASH_BYTES);
        pack_i64(&p, row->expires_ms);
        pack_u32(&p, row->status);
        pack_text(&p, row->resource, sizeof row->resource);

        int err = t_idempotency_get(t, key, &old);
        if (err == 0) {
                until_key(until, old.expires_ms, key);
                err = db_del(t, TABLE_IDEMPOTENCY_UNTIL, until, sizeof until);
        }
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        err = db_put(t, TABLE_IDEMPOTENCY, key, HASH_BYTES, value, packed(&p));
        if (err != 0)
                return err;
        until_key(until, row->expires_ms, key);
        return db_put(t, TABLE_IDEMPOTENCY_UNTIL, until, sizeof until, NULL, 0);
}

int t_idempotency_expire(struct txn *t, int64_t now, uint32_t max, uint32_t *removed)
{
        uint8_t until[KEY_BYTES_UNTIL];
        int err = t->err;
        *removed = 0;
        while (err == 0 && *removed < max) {
                err = db_first(t, TABLE_IDEMPOTENCY_UNTIL, NULL, 0, until, sizeof until);
                if (err != 0 || now < 0 || get_be64(until) >= (uint64_t)now)
                        break;
                err = db_del(t, TABLE_IDEMPOTENCY_UNTIL, until, sizeof until);
                if (err == 0)
                        err = db_del(t, TABLE_IDEMPOTENCY, until + 8, HASH_BYTES);
                if (err == UL_NOT_FOUND)
                        err = txn_fail(t, UL_CORRUPT);
                if (err == 0)
                        ++*removed;
        }
        return err == UL_NOT_FOUND ? 0 : err;
}
