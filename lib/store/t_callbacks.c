/* SPDX-License-Identifier: Apache-2.0
 * t_callbacks.c: ulid of an erasure -> the address that is told of it, until its end. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

int t_callback_put(struct txn *t, const uint8_t erasure[ULID_BYTES], const char *url)
{
        return db_put(t, TABLE_CALLBACKS, erasure, ULID_BYTES, url, strlen(url));
}

int t_callback_get(struct txn *t, const uint8_t erasure[ULID_BYTES], struct buf *url)
{
        struct unpacker v;
        int err = db_get(t, TABLE_CALLBACKS, erasure, ULID_BYTES, &v);
        if (err != 0)
                return err;
        if (v.left > URL_MAX)
                return txn_fail(t, UL_CORRUPT);
        buf_append(url, v.at, v.left);
        return url->failed ? txn_fail(t, UL_NOMEM) : 0;
}

int t_callback_del(struct txn *t, const uint8_t erasure[ULID_BYTES])
{
        return db_del(t, TABLE_CALLBACKS, erasure, ULID_BYTES);
}
