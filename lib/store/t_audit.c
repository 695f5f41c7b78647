/* SPDX-License-Identifier: Apache-2.0
 * t_audit.c: the audit log's leaves (index -> entry), tree nodes (level, index -> hash; level 0 is
 * the leaf hashes) and the index (kind, value, index -> nothing). It knows nothing of hashing. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <stdlib.h>
#include <string.h>

enum {
        VALUE_BYTES = 16,
        KEY_BYTES_NODE = 4 + 8,
        KEY_BYTES_INDEX = 1 + VALUE_BYTES + 8,
};

int t_audit_leaf_put(struct txn *t, uint64_t index, const void *entry, size_t len)
{
        uint8_t key[8];
        put_be64(key, index);
        return db_put_last(t, TABLE_AUDIT_LEAVES, key, sizeof key, entry, len);
}

int t_audit_leaf_get(struct txn *t, uint64_t index, struct buf *out)
{
        uint8_t key[8];
        struct unpacker v;
        put_be64(key, index);
        int err = db_get(t, TABLE_AUDIT_LEAVES, key, sizeof key, &v);
        if (err != 0)
                return err;
        buf_append(out, v.at, v.left);
        return out->failed ? txn_fail(t, UL_NOMEM) : 0;
}

int t_audit_leaf_del(struct txn *t, uint64_t index)
{
        uint8_t key[8];
        put_be64(key, index);
        return db_del(t, TABLE_AUDIT_LEAVES, key, sizeof key);
}

static void node_key(uint8_t key[KEY_BYTES_NODE], uint32_t level, uint64_t index)
{
        put_be32(key, level);
        put_be64(key + 4, index);
}

int t_audit_node_put(struct txn *t, uint32_t level, uint64_t index, const uint8_t hash[32])
{
        uint8_t key[KEY_BYTES_NODE];
        node_key(key, level, index);
        return db_put(t, TABLE_AUDIT_NODES, key, sizeof key, hash, SHA256_BYTES);
}

int t_audit_node_get(struct txn *t, uint32_t level, uint64_t index, uint8_t hash[32])
{
        uint8_t key[KEY_BYTES_NODE];
        struct unpacker v;
        memset(hash, 0, SHA256_BYTES);
        node_key(key, level, index);
        int err = db_get(t, TABLE_AUDIT_NODES, key, sizeof key, &v);
        if (err != 0)
                return err;
        unpack_bytes(&v, hash, SHA256_BYTES);
        return db_unpacked(t, &v);
}

static void index_key(uint8_t key[KEY_BYTES_INDEX], uint8_t kind, const uint8_t *value,
                      uint64_t index)
{
        key[0] = kind;
        memcpy(key + 1, value, VALUE_BYTES);
        put_be64(key + 1 + VALUE_BYTES, index);
}

int t_audit_index_put(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t index)
{
        uint8_t key[KEY_BYTES_INDEX];
        index_key(key, kind, value, index);
        return db_put(t, TABLE_AUDIT_INDEX, key, sizeof key, NULL, 0);
}

int t_audit_index_has(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t index)
{
        uint8_t key[KEY_BYTES_INDEX];
        struct unpacker v;
        index_key(key, kind, value, index);
        return db_get(t, TABLE_AUDIT_INDEX, key, sizeof key, &v);
}

struct index_walk {
        struct txn *t;
        t_audit_index_fn fn;
        void *arg;
};

static int on_index(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct index_walk *w = arg;
        (void)unpack_room(key, 1 + VALUE_BYTES);
        uint64_t index = unpack_key64(key);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, index);
}

int t_audit_index_each(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t from,
                       bool descending, t_audit_index_fn fn, void *arg)
{
        uint8_t key[KEY_BYTES_INDEX];
        struct index_walk w = {.t = t, .fn = fn, .arg = arg};
        index_key(key, kind, value, from);
        struct db_span span = {.prefix = key,
                               .prefix_len = 1 + VALUE_BYTES,
                               .from = key,
                               .from_len = sizeof key,
                               .descending = descending};
        return db_walk(t, TABLE_AUDIT_INDEX, &span, on_index, &w);
}

struct index_prune {
        struct txn *t;
        uint64_t below;
        uint32_t left;
        uint8_t *last;
        uint8_t (*keys)[KEY_BYTES_INDEX]; /* [count] to be removed */
        uint32_t count;
};

static int on_prune(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct index_prune *p = arg;
        (void)value;
        if (key->left != KEY_BYTES_INDEX)
                return txn_fail(p->t, UL_CORRUPT);
        if (p->left == 0)
                return 1;
        p->left--;
        memcpy(p->last, key->at, KEY_BYTES_INDEX);
        if (get_be64(key->at + 1 + VALUE_BYTES) < p->below)
                memcpy(p->keys[p->count++], key->at, KEY_BYTES_INDEX);
        return 0;
}

int t_audit_index_prune(struct txn *t, uint64_t below, uint32_t max,
                        const uint8_t after[AUDIT_INDEX_KEY_BYTES],
                        uint8_t last[AUDIT_INDEX_KEY_BYTES], bool *left)
{
        _Static_assert((int)AUDIT_INDEX_KEY_BYTES == (int)KEY_BYTES_INDEX, "one key");
        uint8_t from[KEY_BYTES_INDEX];
        struct index_prune p = {.t = t,
                                .below = below,
                                .left = max,
                                .last = last,
                                .keys = malloc((size_t)max * KEY_BYTES_INDEX)};
        if (p.keys == NULL)
                return txn_fail(t, UL_NOMEM);
        if (after != NULL)
                memcpy(from, after, sizeof from); /* `last` may be the same memory */
        struct db_span span = {
                .from = after != NULL ? from : NULL, .from_len = sizeof from, .past = true};
        int err = db_walk(t, TABLE_AUDIT_INDEX, &span, on_prune, &p);
        *left = err == 1;
        err = *left ? 0 : err;
        for (uint32_t i = 0; i < p.count && err == 0; i++)
                err = db_del(t, TABLE_AUDIT_INDEX, p.keys[i], KEY_BYTES_INDEX);
        free(p.keys);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}
