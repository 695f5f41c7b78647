/* SPDX-License-Identifier: Apache-2.0
 * t_lifts.c: ulid -> a lifted suppression, and the entries that it took away: what the erasure
 * ledger is compared with and completed from. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <stdlib.h>
#include <string.h>

/* value: pseudonym, lifted i64, count u32, then each entry: model u32, kind u32, erasure, since
 * i64, import */
enum {
        ROW_BYTES = PSEUDONYM_BYTES + 8 + 4,
        ENTRY_BYTES = 2 * 4 + ULID_BYTES + 8 + ULID_BYTES,
};

int t_lift_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct lift_row *row,
               const struct lift_entry *entries)
{
        size_t size = ROW_BYTES + (size_t)row->entry_count * ENTRY_BYTES;
        uint8_t *value = malloc(size);
        if (value == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(value, size);
        pack_bytes(&p, row->pseudonym, PSEUDONYM_BYTES);
        pack_i64(&p, row->lifted_ms);
        pack_u32(&p, row->entry_count);
        for (uint32_t i = 0; i < row->entry_count; i++) {
                pack_u32(&p, entries[i].model);
                pack_u32(&p, entries[i].kind);
                pack_bytes(&p, entries[i].row.erasure, ULID_BYTES);
                pack_i64(&p, entries[i].row.since_ms);
                pack_bytes(&p, entries[i].row.import, ULID_BYTES);
        }
        int err = db_put(t, TABLE_LIFTS, id, ULID_BYTES, value, packed(&p));
        free(value);
        for (uint32_t i = 0; i < row->entry_count && err == 0; i++)
                err = t_suppression_note(t, row->pseudonym, entries[i].model, entries[i].kind,
                                         entries[i].row.erasure);
        return err;
}

int t_lift_has(struct txn *t, const uint8_t id[ULID_BYTES])
{
        struct unpacker v;
        return db_get(t, TABLE_LIFTS, id, ULID_BYTES, &v);
}

struct lift_walk {
        struct txn *t;
        t_lift_fn fn;
        void *arg;
};

static int on_lift(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct lift_walk *w = arg;
        struct lift_row row;
        uint8_t id[ULID_BYTES];
        unpack_bytes(key, id, sizeof id);
        unpack_bytes(value, row.pseudonym, PSEUDONYM_BYTES);
        row.lifted_ms = unpack_i64(value);
        row.entry_count = unpack_u32(value);
        if (!unpacked(key) || value->bad || row.entry_count != value->left / ENTRY_BYTES)
                return txn_fail(w->t, UL_CORRUPT);
        struct lift_entry *entries = calloc(row.entry_count + 1, sizeof *entries);
        if (entries == NULL)
                return txn_fail(w->t, UL_NOMEM);
        for (uint32_t i = 0; i < row.entry_count; i++) {
                entries[i].model = unpack_u32(value);
                entries[i].kind = unpack_u32(value);
                unpack_bytes(value, entries[i].row.erasure, ULID_BYTES);
                entries[i].row.since_ms = unpack_i64(value);
                unpack_bytes(value, entries[i].row.import, ULID_BYTES);
        }
        int err = db_unpacked(w->t, value);
        if (err == 0)
                err = w->fn(w->arg, id, &row, entries);
        free(entries);
        return err;
}

int t_lift_each(struct txn *t, t_lift_fn fn, void *arg)
{
        struct lift_walk w = {.t = t, .fn = fn, .arg = arg};
        return db_walk(t, TABLE_LIFTS, &(struct db_span){0}, on_lift, &w);
}
