/* SPDX-License-Identifier: Apache-2.0
 * t_recalls.c: (model, number) -> an erasure that withdrew generations of the model, in the order
 * in which that happened. Which generations those are, t_served.c and the erasure's row tell. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

enum { RECALL_KEY_BYTES = 4 + 8, RECALL_ROW_BYTES = ULID_BYTES + 8 + 8 };

struct recall_walk {
        struct txn *t;
        t_recall_fn fn;
        void *arg;
};

static int on_recall(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct recall_walk *w = arg;
        struct recall_row row;
        (void)unpack_key32(key);
        uint64_t number = unpack_key64(key);
        unpack_bytes(value, row.erasure, ULID_BYTES);
        row.generation = unpack_u64(value);
        row.withdrawn_ms = unpack_i64(value);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, number, &row);
}

int t_recall_each(struct txn *t, uint32_t model, uint64_t after, t_recall_fn fn, void *arg)
{
        uint8_t key[RECALL_KEY_BYTES];
        struct recall_walk w = {.t = t, .fn = fn, .arg = arg};
        put_be32(key, model);
        put_be64(key + 4, after);
        struct db_span span = {
                .prefix = key, .prefix_len = 4, .from = key, .from_len = sizeof key, .past = true};
        return db_walk(t, TABLE_RECALLS, &span, on_recall, &w);
}

static int take_number(void *arg, uint64_t number, const struct recall_row *row)
{
        (void)row;
        *(uint64_t *)arg = number;
        return 1;
}

int t_recall_append(struct txn *t, uint32_t model, const struct recall_row *row)
{
        uint8_t key[RECALL_KEY_BYTES], value[RECALL_ROW_BYTES];
        uint64_t number = 0;
        struct recall_walk w = {.t = t, .fn = take_number, .arg = &number};
        put_be32(key, model);
        put_be64(key + 4, UINT64_MAX);
        struct db_span span = {.prefix = key,
                               .prefix_len = 4,
                               .from = key,
                               .from_len = sizeof key,
                               .descending = true};
        int err = db_walk(t, TABLE_RECALLS, &span, on_recall, &w);
        if (err != 0 && err != 1)
                return err;
        put_be64(key + 4, number + 1);
        struct packer p = pack_into(value, sizeof value);
        pack_bytes(&p, row->erasure, ULID_BYTES);
        pack_u64(&p, row->generation);
        pack_i64(&p, row->withdrawn_ms);
        return db_put(t, TABLE_RECALLS, key, sizeof key, value, packed(&p));
}
