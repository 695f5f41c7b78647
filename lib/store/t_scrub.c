/* SPDX-License-Identifier: Apache-2.0
 * t_scrub.c: (erasure, model, kind, pseudonym) -> where: what must be overwritten, until it is. An
 * entry outlives a crash, so scrubbing is redone at start. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <string.h>

enum {
        KEY_BYTES_SCRUB = ULID_BYTES + 4 + 4 + PSEUDONYM_BYTES,
        ROW_BYTES = 3 * 4, /* value: shard, slice, row */
};

static void scrub_key(uint8_t key[KEY_BYTES_SCRUB], const struct scrub_key *k)
{
        struct packer p = pack_into(key, KEY_BYTES_SCRUB);
        pack_bytes(&p, k->erasure, ULID_BYTES);
        pack_key32(&p, k->model);
        pack_key32(&p, k->kind);
        pack_bytes(&p, k->pseudonym, PSEUDONYM_BYTES);
}

int t_scrub_put(struct txn *t, const struct scrub_key *k, const struct scrub_row *row)
{
        uint8_t key[KEY_BYTES_SCRUB], value[ROW_BYTES];
        struct packer p = pack_into(value, sizeof value);
        scrub_key(key, k);
        pack_u32(&p, row->shard);
        pack_u32(&p, row->slice);
        pack_u32(&p, row->row);
        return db_put(t, TABLE_SCRUB, key, sizeof key, value, packed(&p));
}

int t_scrub_del(struct txn *t, const struct scrub_key *k)
{
        uint8_t key[KEY_BYTES_SCRUB];
        scrub_key(key, k);
        return db_del(t, TABLE_SCRUB, key, sizeof key);
}

struct scrub_walk {
        struct txn *t;
        t_scrub_fn fn;
        void *arg;
};

static int on_scrub(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct scrub_walk *w = arg;
        struct scrub_key k = {0};
        struct scrub_row row = {0};
        unpack_bytes(key, k.erasure, ULID_BYTES);
        k.model = unpack_key32(key);
        k.kind = unpack_key32(key);
        unpack_bytes(key, k.pseudonym, PSEUDONYM_BYTES);
        row.shard = unpack_u32(value);
        row.slice = unpack_u32(value);
        row.row = unpack_u32(value);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, &k, &row);
}

int t_scrub_each(struct txn *t, const struct scrub_key *after, t_scrub_fn fn, void *arg)
{
        uint8_t key[KEY_BYTES_SCRUB];
        struct scrub_walk w = {.t = t, .fn = fn, .arg = arg};
        struct db_span span = {0};
        if (after != NULL) {
                scrub_key(key, after);
                span = (struct db_span){.from = key, .from_len = sizeof key, .past = true};
        }
        return db_walk(t, TABLE_SCRUB, &span, on_scrub, &w);
}
