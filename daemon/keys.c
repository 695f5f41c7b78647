/* SPDX-License-Identifier: Apache-2.0
 * keys.c: the two secrets of a data directory: keys/pseudonym.key (32 raw bytes: who is who) and
 * keys/log.key (32 raw bytes: the seed of the log's Ed25519 key). Made at the first start; under
 * systemd, credentials of the same names are taken instead. The log's key can be exchanged: the new
 * one is put in its place and the old one beside it, and the next start announces it. */
#include "daemon/keys.h"

#include "lib/audit/log.h"
#include "lib/store/tables.h"
#include "lib/util/bytes.h"
#include "lib/util/crash_point.h"
#include "lib/util/crypto.h"
#include "lib/util/file.h"
#include "lib/util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_key(const char *path, uint8_t out[KEY_BYTES], struct errinfo *e)
{
        struct buf b = {0};
        int err = read_file(path, KEY_BYTES + 1, &b, e);
        if (err == UL_TOO_LARGE || (err == 0 && b.len != KEY_BYTES))
                err = ul_fail(e, UL_CORRUPT,
                              "%s is damaged: it must hold exactly %d bytes; restore the key", path,
                              KEY_BYTES);
        if (err == 0)
                memcpy(out, b.data, KEY_BYTES);
        buf_free(&b, true);
        return err;
}

/* UL_NOT_FOUND where there is no such credential. */
static int credential(const char *name, uint8_t out[KEY_BYTES], struct errinfo *e)
{
        char path[PATH_SIZE];
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        if (credentials == NULL || path_format(path, NULL, "%s/%s", credentials, name) != 0 ||
            !file_exists(path))
                return UL_NOT_FOUND;
        return read_key(path, out, e);
}

int key_load(const char *data_dir, const char *name, bool may_create, uint8_t out[KEY_BYTES],
             struct errinfo *e)
{
        char path[PATH_SIZE];
        int err = credential(name, out, e);
        if (err != UL_NOT_FOUND)
                return err;
        err = path_format(path, e, "%s/keys", data_dir);
        if (err == 0)
                err = make_dirs(path, e);
        if (err == 0)
                err = path_format(path, e, "%s/keys/%s", data_dir, name);
        if (err != 0)
                return err;
        if (file_exists(path))
                return read_key(path, out, e);
        if (!may_create)
                return ul_fail(e, UL_NOT_FOUND,
                               "%s is missing, but the data directory is in use: restore the key",
                               path);
        random_bytes(out, KEY_BYTES);
        err = write_file_durably(path, out, KEY_BYTES, e);
        CRASH_POINT("key.made");
        return err;
}

enum { KEY_ID_BYTES = 16 };

/* A name for the key that says nothing about it. */
static void key_id(const uint8_t key[KEY_BYTES], uint8_t id[KEY_ID_BYTES])
{
        static const char label[] = "unlearnd: which key this is";
        keyed_hash(key, label, sizeof label - 1, id, KEY_ID_BYTES);
}

int key_recognise(struct store *store, const char *name, const uint8_t key[KEY_BYTES],
                  struct errinfo *e)
{
        uint8_t id[KEY_ID_BYTES];
        char blob[64];
        struct buf known = {0};
        struct txn *t = NULL;
        key_id(key, id);
        (void)snprintf(blob, sizeof blob, "key_id/%s", name);
        int err = store_write(store, &t, e);
        if (err != 0)
                return err;
        err = t_blob_get(t, blob, &known);
        bool same = err == 0 && known.len == sizeof id && memcmp(known.data, id, sizeof id) == 0;
        bool other = err == 0 && !same;
        if (err == UL_NOT_FOUND)
                (void)t_blob_put(t, blob, id, sizeof id);
        buf_free(&known, false);
        err = txn_commit(&t, e);
        if (err == 0 && other)
                err = ul_fail(e, UL_CORRUPT,
                              "%s is not the key that this data directory was made with: it is "
                              "damaged or another one; restore the key",
                              name);
        return err;
}

/* --- another key of the log --- */

static int hand_over(struct store *store, const char *origin, const uint8_t old[KEY_BYTES],
                     const uint8_t key[KEY_BYTES], key_announced_fn announced, void *arg,
                     struct errinfo *e)
{
        uint8_t id[KEY_ID_BYTES];
        struct buf data = {0};
        struct txn *t = NULL;
        int err = store_write(store, &t, e);
        if (err != 0)
                return err;
        key_id(key, id);
        err = audit_rotate(t, origin, old, key, now_ms(), &data, e);
        if (err == 0)
                err = announced(arg, t, (const char *)data.data, data.len);
        buf_free(&data, false);
        if (err == 0)
                err = t_blob_put(t, "key_id/" KEY_LOG, id, sizeof id);
        if (err != 0) {
                txn_abort(&t);
                return e->code != 0 ? err
                                    : ul_fail(e, err, "the log's new key could not be announced");
        }
        err = txn_commit(&t, e);
        CRASH_POINT("key.rotated");
        if (err == 0)
                log_event(LOG_LEVEL_INFO, "log_key_rotated",
                          "action=\"publish the key that GET /v1/audit/key gives now\"");
        return err;
}

int key_log_settle(struct store *store, const char *data_dir, const char *origin,
                   const uint8_t key[KEY_BYTES], key_announced_fn announced, void *arg,
                   struct errinfo *e)
{
        char path[PATH_SIZE];
        uint8_t old[KEY_BYTES];
        struct errinfo ignored = {0};
        int err = key_recognise(store, KEY_LOG, key, e);
        int had = path_format(path, &ignored, "%s/keys/" KEY_LOG_OLD, data_dir);
        if (had == 0)
                had = file_exists(path) ? read_key(path, old, &ignored)
                                        : credential(KEY_LOG_OLD, old, &ignored);
        if (err == UL_CORRUPT && had == 0 && key_recognise(store, KEY_LOG, old, &ignored) == 0) {
                *e = (struct errinfo){0};
                err = hand_over(store, origin, old, key, announced, arg, e);
        }
        wipe(old, sizeof old);
        if (err == 0 && file_exists(path)) {
                err = scrub_and_unlink(path, e);
                CRASH_POINT("key.old_gone");
        }
        return err;
}
