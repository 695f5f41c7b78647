/* SPDX-License-Identifier: Apache-2.0
 * t_imports.c: ulid -> when a step of an import was, and how many suppressions it added: so that
 * the erasure ledger does not bring it twice, nor bring back what was lifted after it. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

enum { ROW_BYTES = 8 + 4 }; /* value: imported i64, added u32 */

int t_import_put(struct txn *t, const uint8_t id[ULID_BYTES], int64_t imported_ms, uint32_t added)
{
        uint8_t value[ROW_BYTES];
        struct packer p = pack_into(value, sizeof value);
        pack_i64(&p, imported_ms);
        pack_u32(&p, added);
        return db_put(t, TABLE_IMPORTS, id, ULID_BYTES, value, packed(&p));
}

int t_import_has(struct txn *t, const uint8_t id[ULID_BYTES])
{
        struct unpacker v;
        return db_get(t, TABLE_IMPORTS, id, ULID_BYTES, &v);
}
