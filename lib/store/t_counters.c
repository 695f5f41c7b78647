/* SPDX-License-Identifier: Apache-2.0
 * t_counters.c: named numbers and named blobs: name -> u64, name -> bytes. It knows nothing of what
 * a name means; names are literals of the program, so their length is its promise. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <string.h>

enum { NAME_MAX_BYTES = 128 };

static size_t name_len(const char *name)
{
        size_t len = strnlen(name, NAME_MAX_BYTES + 1);
        assert(len > 0 && len <= NAME_MAX_BYTES);
        return len;
}

int t_counter_get(struct txn *t, const char *name, uint64_t *out)
{
        struct unpacker v;
        *out = 0;
        int err = db_get(t, TABLE_COUNTERS, name, name_len(name), &v);
        if (err == UL_NOT_FOUND)
                return 0;
        if (err != 0)
                return err;
        *out = unpack_u64(&v);
        return db_unpacked(t, &v);
}

int t_counter_put(struct txn *t, const char *name, uint64_t value)
{
        uint8_t v[8];
        put_le64(v, value);
        return db_put(t, TABLE_COUNTERS, name, name_len(name), v, sizeof v);
}

int t_blob_get(struct txn *t, const char *name, struct buf *out)
{
        struct unpacker v;
        int err = db_get(t, TABLE_BLOBS, name, name_len(name), &v);
        if (err != 0)
                return err;
        buf_append(out, v.at, v.left);
        return out->failed ? txn_fail(t, UL_NOMEM) : 0;
}

int t_blob_put(struct txn *t, const char *name, const void *data, size_t len)
{
        return db_put(t, TABLE_BLOBS, name, name_len(name), data, len);
}

int t_blob_del(struct txn *t, const char *name)
{
        int err = db_del(t, TABLE_BLOBS, name, name_len(name));
        return err == UL_NOT_FOUND ? 0 : err;
}
