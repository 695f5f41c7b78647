/* SPDX-License-Identifier: Apache-2.0
 * t_slices.c: (model, shard, slice) -> row counts and the checkpoint after the slice. It never
 * looks at the files that it counts. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <string.h>

enum {
        KEY_BYTES_SLICE = 4 + 4 + 4,
        /* value: the fields in their order in struct slice_row */
        ROW_BYTES = 6 * 4 + 3 * SHA256_BYTES + 2 * 8,
};

static void slice_key(uint8_t key[KEY_BYTES_SLICE], uint32_t model, uint32_t shard, uint32_t slice)
{
        put_be32(key, model);
        put_be32(key + 4, shard);
        put_be32(key + 8, slice);
}

static void unpack_row(struct unpacker *u, struct slice_row *row)
{
        memset(row, 0, sizeof *row);
        row->rows = unpack_u32(u);
        row->live = unpack_u32(u);
        row->staged = unpack_u32(u);
        row->erased = unpack_u32(u);
        row->has_checkpoint = unpack_u32(u);
        row->stage = unpack_u32(u);
        unpack_bytes(u, row->file_hash, SHA256_BYTES);
        unpack_bytes(u, row->data_hash, SHA256_BYTES);
        unpack_bytes(u, row->retained, SHA256_BYTES);
        row->records = unpack_u64(u);
        row->trained_ms = unpack_i64(u);
}

int t_slice_get(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                struct slice_row *row)
{
        uint8_t key[KEY_BYTES_SLICE];
        struct unpacker v;
        memset(row, 0, sizeof *row);
        slice_key(key, model, shard, slice);
        int err = db_get(t, TABLE_SLICES, key, sizeof key, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        return db_unpacked(t, &v);
}

int t_slice_put(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                const struct slice_row *row)
{
        uint8_t key[KEY_BYTES_SLICE], value[ROW_BYTES];
        struct packer p = pack_into(value, sizeof value);
        slice_key(key, model, shard, slice);
        pack_u32(&p, row->rows);
        pack_u32(&p, row->live);
        pack_u32(&p, row->staged);
        pack_u32(&p, row->erased);
        pack_u32(&p, row->has_checkpoint);
        pack_u32(&p, row->stage);
        pack_bytes(&p, row->file_hash, SHA256_BYTES);
        pack_bytes(&p, row->data_hash, SHA256_BYTES);
        pack_bytes(&p, row->retained, SHA256_BYTES);
        pack_u64(&p, row->records);
        pack_i64(&p, row->trained_ms);
        return db_put(t, TABLE_SLICES, key, sizeof key, value, packed(&p));
}

int t_slice_del(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice)
{
        uint8_t key[KEY_BYTES_SLICE];
        slice_key(key, model, shard, slice);
        return db_del(t, TABLE_SLICES, key, sizeof key);
}

struct slice_walk {
        struct txn *t;
        t_slice_fn fn;
        void *arg;
};

static int on_slice(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct slice_walk *w = arg;
        struct slice_row row;
        (void)unpack_key32(key);
        uint32_t shard = unpack_key32(key);
        uint32_t slice = unpack_key32(key);
        unpack_row(value, &row);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, shard, slice, &row);
}

int t_slice_each(struct txn *t, uint32_t model, uint32_t shard, t_slice_fn fn, void *arg)
{
        uint8_t prefix[8];
        struct slice_walk w = {.t = t, .fn = fn, .arg = arg};
        put_be32(prefix, model);
        put_be32(prefix + 4, shard);
        struct db_span span = {.prefix = prefix, .prefix_len = shard == UINT32_MAX ? 4 : 8};
        return db_walk(t, TABLE_SLICES, &span, on_slice, &w);
}
