/* SPDX-License-Identifier: Apache-2.0
 * t_audit.c: the audit log's leaves (index -> entry), tree nodes (level, index -> hash; level 0 is
 * the leaf hashes) and the index (kind, value, index -> nothing). It knows nothing of hashing.
 *
 * The log must not slow down as it grows, so keys stand in the order in which they are made, as far
 * as they can: what an append touches, and what a proof reads, then lies together on few pages,
 * however long the log is.
 *
 *      leaf    index u64
 *      node    255 - tier u8 | end u64 | height u8
 *              A tier is NODE_TIER levels, as C2SP tlog-tiles cuts them, height the level in it,
 *              and end how many nodes of the tier's lowest level come up to the node's own end: a
 *              subtree's nodes stand in the order in which they are completed, 67 a page. The
 *              lowest tier is last, so that its nodes are appended to the table.
 *      index   era u48 | kind u8 | value [16] | place u24
 *              era and place are the entry's index, divided by INDEX_ERA: values are random, and
 *              those of one era are all that an append can fall among. A walk asks every era.
 *
 * All big-endian. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
        VALUE_BYTES = 16,
        NODE_TIER = 8,
        KEY_BYTES_NODE = 1 + 8 + 1,
        INDEX_ERA_BITS = 18, /* 262,144 entries; the walk of ten million asks 39 eras */
        ERA_BYTES = 6,
        PREFIX_BYTES = ERA_BYTES + 1 + VALUE_BYTES,
        PLACE_BYTES = 3,
        KEY_BYTES_INDEX = PREFIX_BYTES + PLACE_BYTES,
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
        const uint32_t height = level % NODE_TIER;
        assert(level < 64);
        key[0] = (uint8_t)(UINT8_MAX - level / NODE_TIER);
        put_be64(key + 1, (index + 1) << height);
        key[9] = (uint8_t)height;
}

int t_audit_node_put(struct txn *t, uint32_t level, uint64_t index, const uint8_t hash[32])
{
        uint8_t key[KEY_BYTES_NODE];
        node_key(key, level, index);
        return db_put_last(t, TABLE_AUDIT_NODES, key, sizeof key, hash, SHA256_BYTES);
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

static uint64_t be_of(const uint8_t *at, size_t len)
{
        uint8_t b[8] = {0};
        memcpy(b + sizeof b - len, at, len);
        return get_be64(b);
}

static void put_be(uint8_t *at, size_t len, uint64_t v)
{
        uint8_t b[8];
        put_be64(b, v);
        memcpy(at, b + sizeof b - len, len);
}

static void index_key(uint8_t key[KEY_BYTES_INDEX], uint8_t kind, const uint8_t *value,
                      uint64_t index)
{
        put_be(key, ERA_BYTES, index >> INDEX_ERA_BITS);
        key[ERA_BYTES] = kind;
        memcpy(key + ERA_BYTES + 1, value, VALUE_BYTES);
        put_be(key + PREFIX_BYTES, PLACE_BYTES, index & ((1U << INDEX_ERA_BITS) - 1));
}

static uint64_t index_of(const uint8_t key[KEY_BYTES_INDEX])
{
        return be_of(key, ERA_BYTES) << INDEX_ERA_BITS | be_of(key + PREFIX_BYTES, PLACE_BYTES);
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
        if (key->left != KEY_BYTES_INDEX || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, index_of(key->at));
}

/* Of one era, from that entry of it on. */
static int walk_era(struct index_walk *w, uint8_t kind, const uint8_t *value, uint64_t from,
                    bool descending)
{
        uint8_t key[KEY_BYTES_INDEX];
        index_key(key, kind, value, from);
        struct db_span span = {.prefix = key,
                               .prefix_len = PREFIX_BYTES,
                               .from = key,
                               .from_len = sizeof key,
                               .descending = descending};
        return db_walk(w->t, TABLE_AUDIT_INDEX, &span, on_index, w);
}

static int on_end(void *arg, struct unpacker *key, struct unpacker *value)
{
        (void)value;
        if (key->left == KEY_BYTES_INDEX)
                *(uint64_t *)arg = be_of(key->at, ERA_BYTES);
        return 1;
}

/* The era of the table's last key, or of its first one. UL_NOT_FOUND: it is empty. */
static int era_at_end(struct txn *t, bool last, uint64_t *era)
{
        struct db_span span = {.descending = last};
        *era = UINT64_MAX;
        int err = db_walk(t, TABLE_AUDIT_INDEX, &span, on_end, era);
        if (err == 0)
                return UL_NOT_FOUND;
        return err == 1 ? *era == UINT64_MAX ? txn_fail(t, UL_CORRUPT) : 0 : err;
}

int t_audit_index_each(struct txn *t, uint8_t kind, const uint8_t value[16], uint64_t from,
                       bool descending, t_audit_index_fn fn, void *arg)
{
        struct index_walk w = {.t = t, .fn = fn, .arg = arg};
        uint64_t first, last;
        int err = era_at_end(t, false, &first);
        if (err == 0)
                err = era_at_end(t, true, &last);
        if (err != 0)
                return err == UL_NOT_FOUND ? 0 : err;
        const uint64_t begin = first << INDEX_ERA_BITS;
        const uint64_t end = ((last + 1) << INDEX_ERA_BITS) - 1; /* the last of all: UINT64_MAX */
        if (descending ? from < begin : from > end)
                return 0;
        from = from < begin ? begin : from > end ? end : from;
        for (uint64_t era = from >> INDEX_ERA_BITS;; era += descending ? UINT64_MAX : 1) {
                err = walk_era(&w, kind, value, from, descending);
                if (err != 0 || era == (descending ? first : last))
                        return err;
                from = descending ? (era << INDEX_ERA_BITS) - 1 : (era + 1) << INDEX_ERA_BITS;
        }
}

enum { PRUNE_MORE = 1, PRUNE_OVER = 2 };
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
        if (index_of(key->at) >> INDEX_ERA_BITS > p->below >> INDEX_ERA_BITS)
                return PRUNE_OVER; /* and so are all that come after it */
        if (p->left == 0)
                return PRUNE_MORE;
        p->left--;
        memcpy(p->last, key->at, KEY_BYTES_INDEX);
        if (index_of(key->at) < p->below)
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
        *left = err == PRUNE_MORE;
        err = err == PRUNE_MORE || err == PRUNE_OVER ? 0 : err;
        for (uint32_t i = 0; i < p.count && err == 0; i++)
                err = db_del(t, TABLE_AUDIT_INDEX, p.keys[i], KEY_BYTES_INDEX);
        free(p.keys);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}
