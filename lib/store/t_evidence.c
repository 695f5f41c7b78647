/* SPDX-License-Identifier: Apache-2.0
 * t_evidence.c: (erasure, model, shard) -> which checkpoints an erasure destroyed and what stands
 * in their place, until its certificate says it. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <stdlib.h>
#include <string.h>

enum {
        KEY_BYTES_EVIDENCE = ULID_BYTES + 2 * 4,
        /* value: the fields in their order in struct evidence_row, the digests */
        ROW_BYTES_MAX =
                4 * 4 + 4 * SHA256_BYTES + 2 * 8 + (int)sizeof((struct evidence_row *)0)->kernel,
};

static void evidence_key(uint8_t key[KEY_BYTES_EVIDENCE], const uint8_t *id, uint32_t model,
                         uint32_t shard)
{
        memcpy(key, id, ULID_BYTES);
        put_be32(key + ULID_BYTES, model);
        put_be32(key + ULID_BYTES + 4, shard);
}

int t_evidence_put(struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model, uint32_t shard,
                   const struct evidence_row *row, const uint8_t (*digests)[SHA256_BYTES])
{
        uint8_t key[KEY_BYTES_EVIDENCE];
        size_t digests_bytes = (size_t)row->destroyed * SHA256_BYTES;
        uint8_t *value = malloc(ROW_BYTES_MAX + digests_bytes);
        if (value == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(value, ROW_BYTES_MAX + digests_bytes);
        evidence_key(key, id, model, shard);
        pack_u32(&p, row->first);
        pack_u32(&p, row->destroyed);
        pack_u32(&p, row->deleted);
        pack_u32(&p, row->slices);
        pack_bytes(&p, row->file_hash, SHA256_BYTES);
        pack_bytes(&p, row->data_hash, SHA256_BYTES);
        pack_bytes(&p, row->retained, SHA256_BYTES);
        pack_bytes(&p, row->config_hash, SHA256_BYTES);
        pack_u64(&p, row->records);
        pack_i64(&p, row->trained_ms);
        pack_text(&p, row->kernel, sizeof row->kernel);
        if (digests_bytes > 0)
                pack_bytes(&p, digests, digests_bytes);
        int err = db_put(t, TABLE_EVIDENCE, key, sizeof key, value, packed(&p));
        free(value);
        return err;
}

int t_evidence_get(struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model, uint32_t shard,
                   struct evidence_row *row, uint8_t (**digests)[SHA256_BYTES])
{
        uint8_t key[KEY_BYTES_EVIDENCE];
        struct unpacker v;
        memset(row, 0, sizeof *row);
        *digests = NULL;
        evidence_key(key, id, model, shard);
        int err = db_get(t, TABLE_EVIDENCE, key, sizeof key, &v);
        if (err != 0)
                return err;
        row->first = unpack_u32(&v);
        row->destroyed = unpack_u32(&v);
        row->deleted = unpack_u32(&v);
        row->slices = unpack_u32(&v);
        unpack_bytes(&v, row->file_hash, SHA256_BYTES);
        unpack_bytes(&v, row->data_hash, SHA256_BYTES);
        unpack_bytes(&v, row->retained, SHA256_BYTES);
        unpack_bytes(&v, row->config_hash, SHA256_BYTES);
        row->records = unpack_u64(&v);
        row->trained_ms = unpack_i64(&v);
        unpack_text(&v, row->kernel, sizeof row->kernel);
        if (v.bad || row->destroyed > v.left / SHA256_BYTES)
                return txn_fail(t, UL_CORRUPT);
        *digests = calloc((size_t)row->destroyed + 1, sizeof **digests);
        if (*digests == NULL)
                return txn_fail(t, UL_NOMEM);
        unpack_bytes(&v, *digests, (size_t)row->destroyed * SHA256_BYTES);
        err = db_unpacked(t, &v);
        if (err != 0) {
                free(*digests);
                *digests = NULL;
        }
        return err;
}

int t_evidence_del(struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model, uint32_t shard)
{
        uint8_t key[KEY_BYTES_EVIDENCE];
        evidence_key(key, id, model, shard);
        return db_del(t, TABLE_EVIDENCE, key, sizeof key);
}
