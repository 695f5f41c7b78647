/* SPDX-License-Identifier: Apache-2.0
 * t_waiting.c: (model, shard, erasure) -> nothing: the erasures that a clean shard completes. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <string.h>

enum { KEY_BYTES_WAITING = 4 + 4 + ULID_BYTES };

static void waiting_key(uint8_t key[KEY_BYTES_WAITING], uint32_t model, uint32_t shard,
                        const uint8_t *id)
{
        put_be32(key, model);
        put_be32(key + 4, shard);
        memcpy(key + 8, id, ULID_BYTES);
}

int t_waiting_put(struct txn *t, uint32_t model, uint32_t shard, const uint8_t id[ULID_BYTES])
{
        uint8_t key[KEY_BYTES_WAITING];
        waiting_key(key, model, shard, id);
        return db_put(t, TABLE_WAITING, key, sizeof key, NULL, 0);
}

int t_waiting_del(struct txn *t, uint32_t model, uint32_t shard, const uint8_t id[ULID_BYTES])
{
        uint8_t key[KEY_BYTES_WAITING];
        waiting_key(key, model, shard, id);
        return db_del(t, TABLE_WAITING, key, sizeof key);
}

struct waiting_walk {
        struct txn *t;
        t_waiting_fn fn;
        void *arg;
};

static int on_waiting(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct waiting_walk *w = arg;
        uint8_t id[ULID_BYTES];
        (void)unpack_key32(key);
        (void)unpack_key32(key);
        unpack_bytes(key, id, sizeof id);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, id);
}

int t_waiting_each(struct txn *t, uint32_t model, uint32_t shard, t_waiting_fn fn, void *arg)
{
        uint8_t prefix[8];
        struct waiting_walk w = {.t = t, .fn = fn, .arg = arg};
        put_be32(prefix, model);
        put_be32(prefix + 4, shard);
        struct db_span span = {.prefix = prefix, .prefix_len = sizeof prefix};
        return db_walk(t, TABLE_WAITING, &span, on_waiting, &w);
}
