/* SPDX-License-Identifier: Apache-2.0
 * t_shards.c: (model, shard) -> how far it is clean and what waits for it. It keeps no rule between
 * the fields: those are the plan's and the erasure's. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <string.h>

enum {
        KEY_BYTES_SHARD = 4 + 4,
        /* value: the fields in their order in struct shard_row */
        ROW_BYTES = 8 + 4 * 4 + 2 * 8 + 2 * 4,
};

static void shard_key(uint8_t key[KEY_BYTES_SHARD], uint32_t model, uint32_t shard)
{
        put_be32(key, model);
        put_be32(key + 4, shard);
}

static void unpack_row(struct unpacker *u, struct shard_row *row)
{
        memset(row, 0, sizeof *row);
        row->fence = unpack_u64(u);
        row->slices = unpack_u32(u);
        row->clean = unpack_u32(u);
        row->touched = unpack_u32(u);
        row->attempts = unpack_u32(u);
        row->dirty_since_ms = unpack_i64(u);
        row->deadline_ms = unpack_i64(u);
        row->waiting = unpack_u32(u);
        row->scrubs = unpack_u32(u);
}

int t_shard_get(struct txn *t, uint32_t model, uint32_t shard, struct shard_row *row)
{
        uint8_t key[KEY_BYTES_SHARD];
        struct unpacker v;
        memset(row, 0, sizeof *row);
        shard_key(key, model, shard);
        int err = db_get(t, TABLE_SHARDS, key, sizeof key, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        return db_unpacked(t, &v);
}

int t_shard_put(struct txn *t, uint32_t model, uint32_t shard, const struct shard_row *row)
{
        uint8_t key[KEY_BYTES_SHARD], value[ROW_BYTES];
        struct packer p = pack_into(value, sizeof value);
        shard_key(key, model, shard);
        pack_u64(&p, row->fence);
        pack_u32(&p, row->slices);
        pack_u32(&p, row->clean);
        pack_u32(&p, row->touched);
        pack_u32(&p, row->attempts);
        pack_i64(&p, row->dirty_since_ms);
        pack_i64(&p, row->deadline_ms);
        pack_u32(&p, row->waiting);
        pack_u32(&p, row->scrubs);
        return db_put(t, TABLE_SHARDS, key, sizeof key, value, packed(&p));
}

struct shard_walk {
        struct txn *t;
        t_shard_fn fn;
        void *arg;
};

static int on_shard(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct shard_walk *w = arg;
        struct shard_row row;
        (void)unpack_key32(key);
        uint32_t shard = unpack_key32(key);
        unpack_row(value, &row);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, shard, &row);
}

int t_shard_each(struct txn *t, uint32_t model, t_shard_fn fn, void *arg)
{
        uint8_t prefix[4];
        struct shard_walk w = {.t = t, .fn = fn, .arg = arg};
        put_be32(prefix, model);
        struct db_span span = {.prefix = prefix, .prefix_len = sizeof prefix};
        return db_walk(t, TABLE_SHARDS, &span, on_shard, &w);
}
