/* SPDX-License-Identifier: Apache-2.0
 * t_records.c: (model, record) -> where it is, and the index (model, subject, record) -> nothing
 * that finds the records of a subject.
 *
 * Most records are their own subject, so that pair is not stored: a walk over a subject gives the
 * record of the same name its place in the order, where that record is there and is its own. Every
 * change of a record goes through here, so the index never disagrees with it. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <string.h>

enum {
        KEY_BYTES_RECORD = 4 + PSEUDONYM_BYTES,
        KEY_BYTES_INDEX = 4 + 2 * PSEUDONYM_BYTES,
        /* value: subject [16], shard u32, slice u32, row u32, upload u32 */
        ROW_BYTES = PSEUDONYM_BYTES + 4 * 4,
};

static void record_key(uint8_t key[KEY_BYTES_RECORD], uint32_t model, const uint8_t *record)
{
        put_be32(key, model);
        memcpy(key + 4, record, PSEUDONYM_BYTES);
}

static void index_key(uint8_t key[KEY_BYTES_INDEX], uint32_t model, const uint8_t *subject,
                      const uint8_t *record)
{
        put_be32(key, model);
        memcpy(key + 4, subject, PSEUDONYM_BYTES);
        memcpy(key + 4 + PSEUDONYM_BYTES, record, PSEUDONYM_BYTES);
}

static bool same(const uint8_t *a, const uint8_t *b)
{
        return memcmp(a, b, PSEUDONYM_BYTES) == 0;
}

static void unpack_row(struct unpacker *u, struct record_row *row)
{
        memset(row, 0, sizeof *row);
        unpack_bytes(u, row->subject, PSEUDONYM_BYTES);
        row->shard = unpack_u32(u);
        row->slice = unpack_u32(u);
        row->row = unpack_u32(u);
        row->upload = unpack_u32(u);
}

int t_record_get(struct txn *t, uint32_t model, const uint8_t record[PSEUDONYM_BYTES],
                 struct record_row *row)
{
        uint8_t key[KEY_BYTES_RECORD];
        struct unpacker v;
        memset(row, 0, sizeof *row);
        record_key(key, model, record);
        int err = db_get(t, TABLE_RECORDS, key, sizeof key, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        return db_unpacked(t, &v);
}

static int index_put(struct txn *t, uint32_t model, const uint8_t *subject, const uint8_t *record)
{
        uint8_t key[KEY_BYTES_INDEX];
        if (same(subject, record))
                return 0;
        index_key(key, model, subject, record);
        return db_put(t, TABLE_SUBJECT_RECORDS, key, sizeof key, NULL, 0);
}

static int index_del(struct txn *t, uint32_t model, const uint8_t *subject, const uint8_t *record)
{
        uint8_t key[KEY_BYTES_INDEX];
        if (same(subject, record))
                return 0;
        index_key(key, model, subject, record);
        int err = db_del(t, TABLE_SUBJECT_RECORDS, key, sizeof key);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

int t_record_put(struct txn *t, uint32_t model, const uint8_t record[PSEUDONYM_BYTES],
                 const struct record_row *row)
{
        uint8_t key[KEY_BYTES_RECORD], value[ROW_BYTES];
        struct unpacker v;
        struct record_row old;
        struct packer p = pack_into(value, sizeof value);
        record_key(key, model, record);
        pack_bytes(&p, row->subject, PSEUDONYM_BYTES);
        pack_u32(&p, row->shard);
        pack_u32(&p, row->slice);
        pack_u32(&p, row->row);
        pack_u32(&p, row->upload);

        int err = db_put_new(t, TABLE_RECORDS, key, sizeof key, value, packed(&p), &v);
        if (err == 0)
                return index_put(t, model, row->subject, record);
        if (err != UL_EXISTS)
                return err;
        unpack_row(&v, &old);
        err = db_unpacked(t, &v);
        if (err == 0)
                err = db_put(t, TABLE_RECORDS, key, sizeof key, value, packed(&p));
        if (err == 0 && !same(old.subject, row->subject)) {
                err = index_del(t, model, old.subject, record);
                if (err == 0)
                        err = index_put(t, model, row->subject, record);
        }
        return err;
}

int t_record_del(struct txn *t, uint32_t model, const uint8_t record[PSEUDONYM_BYTES])
{
        uint8_t key[KEY_BYTES_RECORD];
        struct record_row old;
        int err = t_record_get(t, model, record, &old);
        if (err != 0)
                return err;
        record_key(key, model, record);
        err = db_del(t, TABLE_RECORDS, key, sizeof key);
        return err != 0 ? err : index_del(t, model, old.subject, record);
}

struct record_walk {
        struct txn *t;
        uint32_t model;
        const uint8_t *subject;
        bool own; /* the record that is its own subject is still to be given */
        t_record_fn fn;
        void *arg;
};

static int on_record(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct record_walk *w = arg;
        struct record_row row;
        uint8_t record[PSEUDONYM_BYTES];
        (void)unpack_key32(key);
        unpack_bytes(key, record, sizeof record);
        unpack_row(value, &row);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, record, &row);
}

int t_record_each(struct txn *t, uint32_t model, const uint8_t *after, t_record_fn fn, void *arg)
{
        uint8_t key[KEY_BYTES_RECORD] = {0};
        struct record_walk w = {.t = t, .fn = fn, .arg = arg};
        put_be32(key, model);
        if (after != NULL)
                memcpy(key + 4, after, PSEUDONYM_BYTES);
        struct db_span span = {.prefix = key,
                               .prefix_len = 4,
                               .from = key,
                               .from_len = sizeof key,
                               .past = after != NULL};
        return db_walk(t, TABLE_RECORDS, &span, on_record, &w);
}

/* Looks the record up and hands it over; the index promises that it is there and the subject's. */
static int give(struct record_walk *w, const uint8_t *record)
{
        struct record_row row;
        int err = t_record_get(w->t, w->model, record, &row);
        if (err == UL_NOT_FOUND || (err == 0 && !same(row.subject, w->subject)))
                return txn_fail(w->t, UL_CORRUPT);
        return err != 0 ? err : w->fn(w->arg, record, &row);
}

static int give_own(struct record_walk *w)
{
        if (!w->own)
                return 0;
        w->own = false;
        return give(w, w->subject);
}

static int on_indexed(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct record_walk *w = arg;
        uint8_t subject[PSEUDONYM_BYTES], record[PSEUDONYM_BYTES];
        (void)unpack_key32(key);
        unpack_bytes(key, subject, sizeof subject);
        unpack_bytes(key, record, sizeof record);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        int err = memcmp(record, w->subject, PSEUDONYM_BYTES) > 0 ? give_own(w) : 0;
        return err != 0 ? err : give(w, record);
}

/* Is there a record of the subject's own name that is its own? */
static int find_own(struct record_walk *w)
{
        struct record_row row;
        int err = t_record_get(w->t, w->model, w->subject, &row);
        w->own = err == 0 && same(row.subject, w->subject);
        return err == UL_NOT_FOUND ? 0 : err;
}

int t_record_each_of_subject(struct txn *t, uint32_t model, const uint8_t subject[PSEUDONYM_BYTES],
                             const uint8_t *after, t_record_fn fn, void *arg)
{
        static const uint8_t lowest[PSEUDONYM_BYTES];
        uint8_t key[KEY_BYTES_INDEX];
        struct record_walk w = {.t = t, .model = model, .subject = subject, .fn = fn, .arg = arg};
        int err = 0;
        if (after == NULL || memcmp(after, subject, PSEUDONYM_BYTES) < 0)
                err = find_own(&w);
        if (err != 0)
                return err;
        index_key(key, model, subject, after != NULL ? after : lowest);
        struct db_span span = {.prefix = key,
                               .prefix_len = 4 + PSEUDONYM_BYTES,
                               .from = key,
                               .from_len = sizeof key,
                               .past = after != NULL};
        err = db_walk(t, TABLE_SUBJECT_RECORDS, &span, on_indexed, &w);
        return err != 0 ? err : give_own(&w);
}
