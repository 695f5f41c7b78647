/* SPDX-License-Identifier: Apache-2.0
 * t_opendsr.c: the requests that came by OpenDSR, found by what the controller calls them and by
 * the erasure that each became. The addresses stand here until its end. No identity and nothing of
 * the request's body is kept. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <stdlib.h>
#include <string.h>

/* value: erasure, body, id (text), controller (text), count u32, then each address: length u32,
 * bytes */
enum {
        ROW_BYTES_MAX = ULID_BYTES + 32 + 1 + OPENDSR_ID_TEXT + 1 + OPENDSR_CONTROLLER_MAX + 4,
};

static int put_of(struct txn *t, const uint8_t *erasure, const uint8_t *hash)
{
        return db_put(t, TABLE_OPENDSR_OF, erasure, ULID_BYTES, hash, OPENDSR_HASH_BYTES);
}

int t_opendsr_put(struct txn *t, const uint8_t hash[OPENDSR_HASH_BYTES],
                  const struct opendsr_row *row, const char (*urls)[OPENDSR_URL_MAX + 1])
{
        size_t size = ROW_BYTES_MAX + (size_t)row->url_count * (4 + OPENDSR_URL_MAX);
        uint8_t *value = malloc(size);
        if (value == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(value, size);
        pack_bytes(&p, row->erasure, ULID_BYTES);
        pack_bytes(&p, row->body, sizeof row->body);
        pack_text(&p, row->id, sizeof row->id);
        pack_text(&p, row->controller, sizeof row->controller);
        pack_u32(&p, row->url_count);
        for (uint32_t i = 0; i < row->url_count; i++) {
                size_t len = strnlen(urls[i], OPENDSR_URL_MAX);
                pack_u32(&p, (uint32_t)len);
                pack_bytes(&p, urls[i], len);
        }
        int err = db_put(t, TABLE_OPENDSR, hash, OPENDSR_HASH_BYTES, value, packed(&p));
        free(value);
        return err == 0 ? put_of(t, row->erasure, hash) : err;
}

static void unpack_url(struct unpacker *u, char out[OPENDSR_URL_MAX + 1])
{
        uint32_t len = unpack_u32(u);
        if (len > OPENDSR_URL_MAX) {
                u->bad = true;
                return;
        }
        unpack_bytes(u, out, len);
        out[len] = '\0';
}

int t_opendsr_get(struct txn *t, const uint8_t hash[OPENDSR_HASH_BYTES], struct opendsr_row *row,
                  char (**urls)[OPENDSR_URL_MAX + 1])
{
        struct unpacker v;
        memset(row, 0, sizeof *row);
        if (urls != NULL)
                *urls = NULL;
        int err = db_get(t, TABLE_OPENDSR, hash, OPENDSR_HASH_BYTES, &v);
        if (err != 0)
                return err;
        unpack_bytes(&v, row->erasure, ULID_BYTES);
        unpack_bytes(&v, row->body, sizeof row->body);
        unpack_text(&v, row->id, sizeof row->id);
        unpack_text(&v, row->controller, sizeof row->controller);
        row->url_count = unpack_u32(&v);
        if (v.bad || row->url_count > OPENDSR_URLS_MAX)
                return txn_fail(t, UL_CORRUPT);
        char(*all)[OPENDSR_URL_MAX + 1] = calloc(row->url_count + 1, sizeof *all);
        if (all == NULL)
                return txn_fail(t, UL_NOMEM);
        for (uint32_t i = 0; i < row->url_count; i++)
                unpack_url(&v, all[i]);
        err = db_unpacked(t, &v);
        if (err == 0 && urls != NULL) {
                *urls = all;
                return 0;
        }
        free(all);
        return err;
}

int t_opendsr_of(struct txn *t, const uint8_t erasure[ULID_BYTES], uint8_t hash[OPENDSR_HASH_BYTES])
{
        struct unpacker v;
        int err = db_get(t, TABLE_OPENDSR_OF, erasure, ULID_BYTES, &v);
        if (err != 0)
                return err;
        unpack_bytes(&v, hash, OPENDSR_HASH_BYTES);
        return db_unpacked(t, &v);
}
