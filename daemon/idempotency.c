/* SPDX-License-Identifier: Apache-2.0
 * idempotency.c: the same key and body give the same answer. The table holds keyed hashes and the
 * id of what was made, never a body. Commands run one after another on the writer thread, so a
 * second request with the key either finds the first's row or waits behind it. */
#include "daemon/state.h"

#include <stdio.h>
#include <string.h>

int idempotency_check(struct txn *t, const struct idempotency *idem, struct idempotency_row *row,
                      struct errinfo *e)
{
        if (!idem->present)
                return 0;
        int err = t_idempotency_get(t, idem->key, row);
        if (err == UL_NOT_FOUND)
                return 0;
        if (err != 0)
                return ul_fail(e, err, "the idempotency table cannot be read");
        if (row->expires_ms <= now_ms())
                return 0;
        if (!equal_ct(row->body, idem->body, sizeof row->body))
                return ul_fail_field(e, UL_MISMATCH, "Idempotency-Key",
                                     "this key was used with another body; use a new key");
        return UL_EXISTS;
}

int idempotency_keep(struct txn *t, const struct idempotency *idem, const char *resource,
                     uint32_t status)
{
        struct idempotency_row row = {0};
        uint32_t removed = 0;
        if (!idem->present)
                return 0;
        int64_t now = now_ms();
        int err = t_idempotency_expire(t, now, 2, &removed); /* two out for one in: it shrinks */
        if (err != 0)
                return err;
        memcpy(row.body, idem->body, sizeof row.body);
        row.expires_ms = now + (int64_t)IDEMPOTENCY_TTL_S * 1000;
        row.status = status;
        (void)snprintf(row.resource, sizeof row.resource, "%s", resource);
        return t_idempotency_put(t, idem->key, &row);
}
