/* SPDX-License-Identifier: Apache-2.0
 * t_subjects.c: (model, subject) -> hint, counts and whether it was erased. Every slice that the
 * subject is in is counted, so that whoever forgets it need not walk its records. Only those are
 * stored, as most subjects are one record. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <string.h>

enum {
        KEY_BYTES_SUBJECT = 4 + PSEUDONYM_BYTES,
        /* value: shard, likelihood, erased, staged, slice_count, then (slice, records) */
        ROW_BYTES_MAX = 5 * 4 + SLICES_TOTAL_MAX * 8,
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
        memset(row, 0, offsetof(struct subject_row, slices));
        subject_key(key, model, subject);
        int err = db_get(t, TABLE_SUBJECTS, key, sizeof key, &v);
        if (err != 0)
                return err;
        row->shard = unpack_u32(&v);
        row->likelihood = unpack_u32(&v);
        row->erased = unpack_u32(&v);
        row->staged = unpack_u32(&v);
        row->slice_count = unpack_u32(&v);
        if (row->slice_count > SLICES_TOTAL_MAX) {
                memset(row, 0, offsetof(struct subject_row, slices));
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
        assert(row->slice_count <= SLICES_TOTAL_MAX);
        subject_key(key, model, subject);
        pack_u32(&p, row->shard);
        pack_u32(&p, row->likelihood);
        pack_u32(&p, row->erased);
        pack_u32(&p, row->staged);
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

static struct subject_slice *find(struct subject_row *row, uint32_t slice)
{
        for (uint32_t i = 0; i < row->slice_count; i++)
                if (row->slices[i].slice == slice)
                        return &row->slices[i];
        return NULL;
}

void subject_more(struct subject_row *row, uint32_t slice)
{
        struct subject_slice *s = find(row, slice);
        if (s != NULL) {
                s->records++;
                return;
        }
        assert(row->slice_count < SLICES_TOTAL_MAX);
        row->slices[row->slice_count++] = (struct subject_slice){.slice = slice, .records = 1};
}

void subject_less(struct subject_row *row, uint32_t slice)
{
        struct subject_slice *s = find(row, slice);
        if (s != NULL && --s->records == 0)
                *s = row->slices[--row->slice_count];
}

int t_subject_less(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                   struct subject_row *row, uint32_t slice)
{
        subject_less(row, slice);
        return row->slice_count == 0 ? t_subject_del(t, model, subject)
                                     : t_subject_put(t, model, subject, row);
}
