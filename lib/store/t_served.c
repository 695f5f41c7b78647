/* SPDX-License-Identifier: Apache-2.0
 * t_served.c: (model, shard, slice, first generation) -> the last one: in which generations of a
 * model a shard was served from a checkpoint of this slice or a later one, so that what stood in
 * the slice had a part in them. Intervals of one slice never overlap; the newest may be open. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

enum { PREFIX_BYTES = 3 * 4, SERVED_KEY_BYTES = PREFIX_BYTES + 8, SERVED_ROW_BYTES = 3 * 8 };

static void prefix_of(uint8_t key[SERVED_KEY_BYTES], uint32_t model, uint32_t shard, uint32_t slice)
{
        put_be32(key, model);
        put_be32(key + 4, shard);
        put_be32(key + 8, slice);
}

static int put(struct txn *t, const uint8_t key[SERVED_KEY_BYTES], const struct served_row *row)
{
        uint8_t value[SERVED_ROW_BYTES];
        struct packer p = pack_into(value, sizeof value);
        pack_u64(&p, row->last);
        pack_i64(&p, row->from_ms);
        pack_i64(&p, row->until_ms);
        return db_put(t, TABLE_SERVED, key, SERVED_KEY_BYTES, value, packed(&p));
}

int t_served_open(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                  uint64_t generation, int64_t now_ms)
{
        uint8_t key[SERVED_KEY_BYTES];
        prefix_of(key, model, shard, slice);
        put_be64(key + PREFIX_BYTES, generation);
        return put(t, key, &(struct served_row){.from_ms = now_ms});
}

struct served_walk {
        struct txn *t;
        t_served_fn fn;
        void *arg;
};

static int on_served(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct served_walk *w = arg;
        struct served_row row = {0};
        (void)unpack_room(key, PREFIX_BYTES);
        row.first = unpack_key64(key);
        row.last = unpack_u64(value);
        row.from_ms = unpack_i64(value);
        row.until_ms = unpack_i64(value);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, &row);
}

int t_served_each(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice, t_served_fn fn,
                  void *arg)
{
        uint8_t prefix[SERVED_KEY_BYTES];
        struct served_walk w = {.t = t, .fn = fn, .arg = arg};
        prefix_of(prefix, model, shard, slice);
        struct db_span span = {.prefix = prefix, .prefix_len = PREFIX_BYTES};
        return db_walk(t, TABLE_SERVED, &span, on_served, &w);
}

static int take_newest(void *arg, const struct served_row *row)
{
        *(struct served_row *)arg = *row;
        return 1;
}

int t_served_close(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                   uint64_t generation, int64_t now_ms)
{
        uint8_t key[SERVED_KEY_BYTES];
        struct served_row row = {0};
        struct served_walk w = {.t = t, .fn = take_newest, .arg = &row};
        prefix_of(key, model, shard, slice);
        put_be64(key + PREFIX_BYTES, UINT64_MAX);
        struct db_span span = {.prefix = key,
                               .prefix_len = PREFIX_BYTES,
                               .from = key,
                               .from_len = sizeof key,
                               .descending = true};
        int err = db_walk(t, TABLE_SERVED, &span, on_served, &w);
        if (err != 1 || row.last != 0)
                return err == 1 ? 0 : err;
        row.last = generation;
        row.until_ms = now_ms;
        put_be64(key + PREFIX_BYTES, row.first);
        return put(t, key, &row);
}
