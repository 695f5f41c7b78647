/* SPDX-License-Identifier: Apache-2.0
 * t_certificates.c: ulid -> an erasure's statement as it was hashed into the log. What it says is
 * not known here. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <stdlib.h>

/* value: log index u64, the statement's text */
int t_certificate_put(struct txn *t, const uint8_t id[ULID_BYTES], uint64_t log_index,
                      const void *statement, size_t len)
{
        uint8_t *value = malloc(8 + len);
        if (value == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(value, 8 + len);
        pack_u64(&p, log_index);
        pack_bytes(&p, statement, len);
        int err = db_put(t, TABLE_CERTIFICATES, id, ULID_BYTES, value, packed(&p));
        free(value);
        return err;
}

int t_certificate_get(struct txn *t, const uint8_t id[ULID_BYTES], uint64_t *log_index,
                      struct buf *statement)
{
        struct unpacker v;
        int err = db_get(t, TABLE_CERTIFICATES, id, ULID_BYTES, &v);
        if (err != 0)
                return err;
        *log_index = unpack_u64(&v);
        if (v.bad)
                return txn_fail(t, UL_CORRUPT);
        if (statement != NULL)
                buf_append(statement, v.at, v.left);
        return statement != NULL && statement->failed ? txn_fail(t, UL_NOMEM) : 0;
}
