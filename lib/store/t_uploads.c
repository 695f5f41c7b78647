/* SPDX-License-Identifier: Apache-2.0
 * t_uploads.c: upload -> what is staged of an atomic upload that has not committed. That there is
 * at most one a model is the caller's rule. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <string.h>

enum { ROW_BYTES = 2 * 4 + 2 * 8 }; /* value: model, called_off u32, records u64, started i64 */

static void unpack_row(struct unpacker *u, struct upload_row *row)
{
        memset(row, 0, sizeof *row);
        row->model = unpack_u32(u);
        row->called_off = unpack_u32(u);
        row->records = unpack_u64(u);
        row->started_ms = unpack_i64(u);
}

int t_upload_get(struct txn *t, uint32_t upload, struct upload_row *row)
{
        uint8_t key[4];
        struct unpacker v;
        memset(row, 0, sizeof *row);
        put_be32(key, upload);
        int err = db_get(t, TABLE_UPLOADS, key, sizeof key, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        return db_unpacked(t, &v);
}

int t_upload_put(struct txn *t, uint32_t upload, const struct upload_row *row)
{
        uint8_t key[4], value[ROW_BYTES];
        struct packer p = pack_into(value, sizeof value);
        put_be32(key, upload);
        pack_u32(&p, row->model);
        pack_u32(&p, row->called_off);
        pack_u64(&p, row->records);
        pack_i64(&p, row->started_ms);
        return db_put(t, TABLE_UPLOADS, key, sizeof key, value, packed(&p));
}

int t_upload_del(struct txn *t, uint32_t upload)
{
        uint8_t key[4];
        put_be32(key, upload);
        return db_del(t, TABLE_UPLOADS, key, sizeof key);
}

struct upload_walk {
        struct txn *t;
        t_upload_fn fn;
        void *arg;
};

static int on_upload(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct upload_walk *w = arg;
        struct upload_row row;
        uint32_t upload = unpack_key32(key);
        unpack_row(value, &row);
        if (!unpacked(key) || !unpacked(value))
                return txn_fail(w->t, UL_CORRUPT);
        return w->fn(w->arg, upload, &row);
}

int t_upload_each(struct txn *t, t_upload_fn fn, void *arg)
{
        struct upload_walk w = {.t = t, .fn = fn, .arg = arg};
        return db_walk(t, TABLE_UPLOADS, &(struct db_span){0}, on_upload, &w);
}
