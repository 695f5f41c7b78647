/* SPDX-License-Identifier: Apache-2.0
 * t_witnesses.c: a witness's name -> what it cosigned last, and how it fares. The rows stand among
 * the blobs, under "witness/NAME": they are a few, and a database that was made before there were
 * witnesses stays whole. One that leaves the configuration keeps its row. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <stdio.h>
#include <string.h>

/* value: version u8, outcome u8, status u32, failures u32, attempt, cosigned i64, size u64, key id
 * [4], public key [32], time u64, signature [64], then the note */
enum {
        VERSION = 1,
        ROW_BYTES =
                2 + 2 * 4 + 2 * 8 + 8 + WITNESS_KEY_ID_BYTES + SIGN_PUBLIC_BYTES + 8 + SIGN_BYTES,
        BLOB_NAME_SIZE = 8 + WITNESS_ROW_NAME_MAX + 1,
};

static const char *blob_name(const char *name, char out[BLOB_NAME_SIZE])
{
        assert(strlen(name) <= WITNESS_ROW_NAME_MAX);
        (void)snprintf(out, BLOB_NAME_SIZE, "witness/%s", name);
        return out;
}

int t_witness_get(struct txn *t, const char *name, struct witness_row *row, struct buf *note)
{
        char blob[BLOB_NAME_SIZE];
        struct buf b = {0};
        memset(row, 0, sizeof *row);
        int err = t_blob_get(t, blob_name(name, blob), &b);
        if (err != 0)
                return err;
        struct unpacker u = unpack_from(b.data, b.len);
        u.bad = unpack_u8(&u) != VERSION;
        row->outcome = unpack_u8(&u);
        row->status = unpack_u32(&u);
        row->failures = unpack_u32(&u);
        row->attempt_ms = unpack_i64(&u);
        row->cosigned_ms = unpack_i64(&u);
        row->size = unpack_u64(&u);
        unpack_bytes(&u, row->key_id, sizeof row->key_id);
        unpack_bytes(&u, row->public_key, sizeof row->public_key);
        row->time_s = unpack_u64(&u);
        unpack_bytes(&u, row->signature, sizeof row->signature);
        if (!u.bad && note != NULL)
                buf_append(note, u.at, u.left);
        err = u.bad ? UL_CORRUPT : note != NULL && note->failed ? UL_NOMEM : 0;
        buf_free(&b, false);
        return err == 0 ? 0 : txn_fail(t, err);
}

int t_witness_put(struct txn *t, const char *name, const struct witness_row *row, const void *note,
                  size_t note_len)
{
        char blob[BLOB_NAME_SIZE];
        uint8_t fixed[ROW_BYTES];
        struct buf b = {0};
        struct packer p = pack_into(fixed, sizeof fixed);
        pack_u8(&p, VERSION);
        pack_u8(&p, row->outcome);
        pack_u32(&p, row->status);
        pack_u32(&p, row->failures);
        pack_i64(&p, row->attempt_ms);
        pack_i64(&p, row->cosigned_ms);
        pack_u64(&p, row->size);
        pack_bytes(&p, row->key_id, sizeof row->key_id);
        pack_bytes(&p, row->public_key, sizeof row->public_key);
        pack_u64(&p, row->time_s);
        pack_bytes(&p, row->signature, sizeof row->signature);
        buf_append(&b, fixed, packed(&p));
        buf_append(&b, note, note_len);
        int err = b.failed ? txn_fail(t, UL_NOMEM)
                           : t_blob_put(t, blob_name(name, blob), b.data, b.len);
        buf_free(&b, false);
        return err;
}
