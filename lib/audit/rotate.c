/* SPDX-License-Identifier: Apache-2.0
 * rotate.c: the log's key is exchanged: see log.h. Whoever trusts the old key finds the new one
 * under the old one's last signature. Each key of the log is kept, in a blob
 *      "audit_key/N"   index of the entry that announced it u64 (UINT64_MAX: the first key), its
 *                      vkey, a newline, the entry (which outlives its pruning here), a newline,
 *                      the handover note
 * and the counter "audit_keys" says how many; a log whose key was never exchanged has none. */
#include "lib/audit/log_private.h"

#include "lib/util/bytes.h"
#include "lib/util/crash_point.h"
#include "lib/util/json.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNTER_KEYS "audit_keys"

static void blob_name(char out[40], uint64_t n)
{
        (void)snprintf(out, 40, "audit_key/%" PRIu64, n);
}

static int put_key(struct txn *t, uint64_t n, uint64_t announced, const char *vkey,
                   const struct buf *entry, const struct buf *handover)
{
        char name[40];
        uint8_t number[8];
        struct buf b = {0};
        blob_name(name, n);
        put_le64(number, announced);
        buf_append(&b, number, sizeof number);
        buf_append_str(&b, vkey);
        buf_append_str(&b, "\n");
        if (entry != NULL)
                buf_append(&b, entry->data, entry->len);
        buf_append_str(&b, "\n");
        if (handover != NULL)
                buf_append(&b, handover->data, handover->len);
        int err = b.failed ? txn_fail(t, UL_NOMEM) : t_blob_put(t, name, b.data, b.len);
        buf_free(&b, false);
        return err != 0 ? err : t_counter_put(t, COUNTER_KEYS, n + 1);
}

static int announce(struct txn *t, const struct audit_log *old, const struct audit_log *new,
                    int64_t now_ms, struct buf *data, uint64_t *index)
{
        struct json_writer w;
        jw_init(&w, data);
        jw_object(&w);
        jw_member_string(&w, "old", old->vkey);
        jw_member_string(&w, "new", new->vkey);
        jw_end_object(&w);
        return data->failed ? txn_fail(t, UL_NOMEM)
                            : audit_append(t, old, now_ms, AUDIT_KEY_ROTATED, "unlearnd", NULL,
                                           (const char *)data->data, data->len, index);
}

/* The tree head that ends with the announcement, signed by both. */
static int sign_handover(struct txn *t, const struct audit_log *old, const struct audit_log *new,
                         uint64_t size, struct buf *out, struct errinfo *e)
{
        struct buf text = {0}, other = {0};
        uint8_t root[SHA256_BYTES];
        int err = audit_root(t, size, root, e);
        if (err == 0) {
                checkpoint_format(old->key.name, size, root, &text);
                err = note_sign(&old->key, old->seed, (const char *)text.data, text.len, out, e);
        }
        if (err == 0)
                err = note_sign(&new->key, new->seed, (const char *)text.data, text.len, &other, e);
        if (err == 0) /* the signature alone: text and empty line are there */
                buf_append(out, other.data + text.len + 1, other.len - text.len - 1);
        if (err == 0 && out->failed)
                err = ul_fail(e, UL_NOMEM, "no memory for a checkpoint");
        buf_free(&other, false);
        buf_free(&text, false);
        return err;
}

static int hand_over(struct txn *t, const struct audit_log *old, const struct audit_log *new,
                     int64_t now_ms, struct buf *data, struct errinfo *e)
{
        struct buf note = {0}, entry = {0};
        uint64_t keys = 0, index = 0;
        int err = announce(t, old, new, now_ms, data, &index);
        if (err == 0)
                err = audit_get(t, index, &entry, NULL);
        if (err == 0)
                err = sign_handover(t, old, new, index + 1, &note, e);
        if (err == 0)
                err = t_counter_get(t, COUNTER_KEYS, &keys);
        if (err == 0 && keys == 0)
                err = put_key(t, keys++, UINT64_MAX, old->vkey, NULL, NULL);
        if (err == 0)
                err = put_key(t, keys, index, new->vkey, &entry, &note);
        if (err == 0)
                err = audit_checkpoint_sign(t, new);
        CRASH_POINT("audit.key_rotated");
        buf_free(&entry, false);
        buf_free(&note, false);
        return err;
}

int audit_rotate(struct txn *t, const char *origin, const uint8_t old_seed[SIGN_SEED_BYTES],
                 const uint8_t new_seed[SIGN_SEED_BYTES], int64_t now_ms, struct buf *data,
                 struct errinfo *e)
{
        struct audit_log *old = NULL, *new = NULL;
        int err = audit_open(t, origin, old_seed, &old, e);
        if (err == 0)
                err = log_make(origin, new_seed, &new, e);
        if (err == 0 && strcmp(old->vkey, new->vkey) == 0)
                err = ul_fail(e, UL_INVALID, "the new key of the log is the old one");
        if (err == 0) {
                err = hand_over(t, old, new, now_ms, data, e);
                if (err != 0 && e != NULL && e->code == 0)
                        (void)ul_fail(e, err, "the log's new key could not be announced");
        }
        audit_close(&new);
        audit_close(&old);
        return err;
}

/* Cuts the next line off, and ends it. */
static char *next_line(char **at, const char *end)
{
        char *line = *at;
        char *newline = memchr(line, '\n', (size_t)(end - line));
        if (newline == NULL)
                return NULL;
        *newline = '\0';
        *at = newline + 1;
        return line;
}

static int show_key(struct txn *t, uint64_t n, bool last, audit_key_fn fn, void *arg)
{
        char name[40];
        struct buf b = {0};
        blob_name(name, n);
        int err = t_blob_get(t, name, &b);
        if (err != 0 || b.len <= 8) {
                err = err == 0 || err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
                goto out;
        }
        char *at = (char *)b.data + 8;
        const char *end = (const char *)b.data + b.len;
        struct audit_key key = {.announced = get_le64(b.data), .current = last};
        key.vkey = next_line(&at, end);
        key.entry = key.vkey != NULL ? next_line(&at, end) : NULL;
        key.handover = at;
        key.handover_len = (size_t)(end - at);
        err = key.entry != NULL ? fn(arg, &key) : txn_fail(t, UL_CORRUPT);
out:
        buf_free(&b, false);
        return err;
}

int audit_keys(struct txn *t, const struct audit_log *log, audit_key_fn fn, void *arg)
{
        uint64_t keys = 0;
        const struct audit_key only = {.vkey = log->vkey,
                                       .announced = UINT64_MAX,
                                       .entry = "",
                                       .handover = "",
                                       .current = true};
        int err = t_counter_get(t, COUNTER_KEYS, &keys);
        if (err == 0 && keys == 0)
                return fn(arg, &only);
        for (uint64_t n = 0; n < keys && err == 0; n++)
                err = show_key(t, n, n + 1 == keys, fn, arg);
        return err;
}
