/* SPDX-License-Identifier: Apache-2.0
 * t_suppressions.c: (pseudonym, model, kind) -> which erasure, since when: who may not be loaded
 * again (invariant 7). Model 0 stands for all models, also those that are made later. Beside it,
 * which suppressions were here: an import must not bring back what was lifted. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <string.h>

enum {
        KEY_BYTES_SUPPRESSION = PSEUDONYM_BYTES + 4 + 4,
        ROW_BYTES = ULID_BYTES + 8 + ULID_BYTES, /* value: erasure, since, import */
};

static void suppression_key(uint8_t key[KEY_BYTES_SUPPRESSION], const uint8_t *pseudonym,
                            uint32_t model, uint32_t kind)
{
        memcpy(key, pseudonym, PSEUDONYM_BYTES);
        put_be32(key + PSEUDONYM_BYTES, model);
        put_be32(key + PSEUDONYM_BYTES + 4, kind);
}

static void unpack_row(struct unpacker *u, struct suppression_row *row)
{
        memset(row, 0, sizeof *row);
        unpack_bytes(u, row->erasure, ULID_BYTES);
        row->since_ms = unpack_i64(u);
        unpack_bytes(u, row->import, ULID_BYTES);
}

bool suppression_imported(const struct suppression_row *row)
{
        static const uint8_t none[ULID_BYTES];
        return memcmp(row->import, none, ULID_BYTES) != 0;
}

static int get_one(struct txn *t, const uint8_t *pseudonym, uint32_t model, uint32_t kind,
                   struct suppression_row *row)
{
        uint8_t key[KEY_BYTES_SUPPRESSION];
        struct unpacker v;
        memset(row, 0, sizeof *row);
        suppression_key(key, pseudonym, model, kind);
        int err = db_get(t, TABLE_SUPPRESSIONS, key, sizeof key, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        return db_unpacked(t, &v);
}

int t_suppression_put(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                      uint32_t kind, const struct suppression_row *row)
{
        uint8_t key[KEY_BYTES_SUPPRESSION], value[ROW_BYTES];
        struct packer p = pack_into(value, sizeof value);
        struct suppression_row there;
        int err = get_one(t, pseudonym, model, kind, &there);
        if (err == 0 && !suppression_imported(&there) &&
            memcmp(there.erasure, row->erasure, ULID_BYTES) > 0)
                return 0;
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        suppression_key(key, pseudonym, model, kind);
        pack_bytes(&p, row->erasure, ULID_BYTES);
        pack_i64(&p, row->since_ms);
        pack_bytes(&p, row->import, ULID_BYTES);
        return db_put(t, TABLE_SUPPRESSIONS, key, sizeof key, value, packed(&p));
}

int t_suppression_get(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                      uint32_t kind, struct suppression_row *row)
{
        int err = get_one(t, pseudonym, model, kind, row);
        if (err == UL_NOT_FOUND && model != 0)
                err = get_one(t, pseudonym, 0, kind, row);
        return err;
}

int t_suppression_lift(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t *removed)
{
        uint8_t key[KEY_BYTES_SUPPRESSION];
        int err;
        *removed = 0;
        while ((err = db_first(t, TABLE_SUPPRESSIONS, pseudonym, PSEUDONYM_BYTES, key,
                               sizeof key)) == 0) {
                err = db_del(t, TABLE_SUPPRESSIONS, key, sizeof key);
                if (err != 0)
                        break;
                ++*removed;
        }
        return err == UL_NOT_FOUND ? 0 : err;
}

/* --- noted --- */

enum { KEY_BYTES_NOTED = PSEUDONYM_BYTES + ULID_BYTES + 4 + 4 };

static void noted_key(uint8_t key[KEY_BYTES_NOTED], const uint8_t *pseudonym, uint32_t model,
                      uint32_t kind, const uint8_t *erasure)
{
        memcpy(key, pseudonym, PSEUDONYM_BYTES);
        memcpy(key + PSEUDONYM_BYTES, erasure, ULID_BYTES);
        put_be32(key + PSEUDONYM_BYTES + ULID_BYTES, model);
        put_be32(key + PSEUDONYM_BYTES + ULID_BYTES + 4, kind);
}

int t_suppression_note(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                       uint32_t kind, const uint8_t erasure[ULID_BYTES])
{
        uint8_t key[KEY_BYTES_NOTED];
        noted_key(key, pseudonym, model, kind, erasure);
        return db_put(t, TABLE_NOTED, key, sizeof key, NULL, 0);
}

int t_suppression_noted(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                        uint32_t kind, const uint8_t erasure[ULID_BYTES])
{
        uint8_t key[KEY_BYTES_NOTED];
        struct unpacker v;
        noted_key(key, pseudonym, model, kind, erasure);
        return db_get(t, TABLE_NOTED, key, sizeof key, &v);
}

/* --- all --- */

int t_suppression_count(struct txn *t, uint64_t *out)
{
        return db_count(t, TABLE_SUPPRESSIONS, out);
}

struct suppression_walk {
        struct txn *t;
        t_suppression_fn fn;
        void *arg;
};

static int on_suppression(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct suppression_walk *w = arg;
        struct suppression_row row;
        uint8_t pseudonym[PSEUDONYM_BYTES];
        unpack_bytes(key, pseudonym, sizeof pseudonym);
        uint32_t model = unpack_key32(key);
        uint32_t kind = unpack_key32(key);
        unpack_row(value, &row);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, pseudonym, model, kind, &row);
}

int t_suppression_each(struct txn *t, const uint8_t *after, uint32_t after_model,
                       uint32_t after_kind, t_suppression_fn fn, void *arg)
{
        uint8_t key[KEY_BYTES_SUPPRESSION];
        struct suppression_walk w = {.t = t, .fn = fn, .arg = arg};
        struct db_span span = {0};
        if (after != NULL) {
                suppression_key(key, after, after_model, after_kind);
                span = (struct db_span){.from = key, .from_len = sizeof key, .past = true};
        }
        return db_walk(t, TABLE_SUPPRESSIONS, &span, on_suppression, &w);
}
