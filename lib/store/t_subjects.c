/* SPDX-License-Identifier: Apache-2.0
 * t_subjects.c: (model, subject) -> hint, counts and whether it was erased. Only the slices in use
 * are stored, as most subjects are one record. What `overflow` means is the caller's. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <string.h>

enum {
        KEY_BYTES_SUBJECT = 4 + PSEUDONYM_BYTES,
        SLICES_KEPT = sizeof((struct subject_row *)0)->slices / sizeof(struct subject_slice),
        /* value: shard, likelihood, erased, staged, overflow, slice_count, then (slice, records) */
        ROW_BYTES_MAX = 6 * 4 + SLICES_KEPT * 8,
};

static void subject_key(uint8_t key[KEY_BYTES_SUBJECT], uint32_t model, const uint8_t *subject)
{
        put_be32(key, model);
        memcpy(key + 4, subject, PSEUDONYM_BYTES);
}

int t_subject_get(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                  struct subject_row *row)
{
        uint8_t key[KEY_BYTES_SUBJECT];
        struct unpacker v;
        memset(row, 0, sizeof *row);
        subject_key(key, model, subject);
        int err = db_get(t, TABLE_SUBJECTS, key, sizeof key, &v);
        if (err != 0)
                return err;
        row->shard = unpack_u32(&v);
        row->likelihood = unpack_u32(&v);
        row->erased = unpack_u32(&v);
        row->staged = unpack_u32(&v);
        row->overflow = unpack_u32(&v);
        row->slice_count = unpack_u32(&v);
        if (row->slice_count > SLICES_KEPT) {
                memset(row, 0, sizeof *row);
                return txn_fail(t, UL_CORRUPT);
        }
        for (uint32_t i = 0; i < row->slice_count; i++) {
                row->slices[i].slice = unpack_u32(&v);
                row->slices[i].records = unpack_u32(&v);
        }
        return db_unpacked(t, &v);
}

int t_subject_put(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                  const struct subject_row *row)
{
        uint8_t key[KEY_BYTES_SUBJECT], value[ROW_BYTES_MAX];
        struct packer p = pack_into(value, sizeof value);
        assert(row->slice_count <= SLICES_KEPT);
        subject_key(key, model, subject);
        pack_u32(&p, row->shard);
        pack_u32(&p, row->likelihood);
        pack_u32(&p, row->erased);
        pack_u32(&p, row->staged);
        pack_u32(&p, row->overflow);
        pack_u32(&p, row->slice_count);
        for (uint32_t i = 0; i < row->slice_count; i++) {
                pack_u32(&p, row->slices[i].slice);
                pack_u32(&p, row->slices[i].records);
        }
        return db_put(t, TABLE_SUBJECTS, key, sizeof key, value, packed(&p));
}

int t_subject_del(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES])
{
        uint8_t key[KEY_BYTES_SUBJECT];
        subject_key(key, model, subject);
        return db_del(t, TABLE_SUBJECTS, key, sizeof key);
}
