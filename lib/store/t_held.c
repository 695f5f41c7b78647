/* SPDX-License-Identifier: Apache-2.0
 * t_held.c: ulid -> what a held erasure asks for: text of the caller's, of pseudonyms. It is there
 * from the acceptance until the erasure is released or refused. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

int t_held_put(struct txn *t, const uint8_t id[ULID_BYTES], const void *request, size_t len)
{
        return db_put(t, TABLE_HELD, id, ULID_BYTES, request, len);
}

int t_held_get(struct txn *t, const uint8_t id[ULID_BYTES], struct buf *out)
{
        struct unpacker v;
        int err = db_get(t, TABLE_HELD, id, ULID_BYTES, &v);
        if (err != 0)
                return err;
        buf_append(out, v.at, v.left);
        return out->failed ? txn_fail(t, UL_NOMEM) : 0;
}

int t_held_del(struct txn *t, const uint8_t id[ULID_BYTES])
{
        return db_del(t, TABLE_HELD, id, ULID_BYTES);
}
