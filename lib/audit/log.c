/* SPDX-License-Identifier: Apache-2.0
 * log.c: see log.h. The tree is in the store alone, so an aborted transaction leaves nothing of its
 * entries behind and no cache can disagree with what was committed (invariant 6). It knows nothing
 * of what the events mean. */
#include "lib/audit/log_private.h"

#include "lib/audit/dsse.h"
#include "lib/audit/entry.h"
#include "lib/audit/merkle.h"
#include "lib/util/crash_point.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BLOB_HEAD "audit_head"
#define BLOB_CHECKPOINT "audit_checkpoint"

enum { HEAD_BYTES = 3 * 8 };
struct head {
        uint64_t size;
        int64_t time_ms;  /* of the last entry */
        uint64_t covered; /* size of the stored checkpoint */
};

static int head_get(struct txn *t, struct head *head)
{
        struct buf b = {0};
        memset(head, 0, sizeof *head);
        int err = t_blob_get(t, BLOB_HEAD, &b);
        if (err == 0 && b.len == HEAD_BYTES) {
                head->size = get_le64(b.data);
                head->time_ms = (int64_t)get_le64(b.data + 8);
                head->covered = get_le64(b.data + 16);
        } else if (err == 0) {
                err = txn_fail(t, UL_CORRUPT);
        }
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

static int head_put(struct txn *t, const struct head *head)
{
        uint8_t b[HEAD_BYTES];
        put_le64(b, head->size);
        put_le64(b + 8, (uint64_t)head->time_ms);
        put_le64(b + 16, head->covered);
        return t_blob_put(t, BLOB_HEAD, b, sizeof b);
}

/* merkle_get_fn: a node that the tree needs and does not have is damage. */
static int get_node(void *arg, uint32_t level, uint64_t index, uint8_t hash[SHA256_BYTES])
{
        int err = t_audit_node_get(arg, level, index, hash);
        return err == UL_NOT_FOUND ? txn_fail(arg, UL_CORRUPT) : err;
}

static int put_node(void *arg, uint32_t level, uint64_t index, const uint8_t hash[SHA256_BYTES])
{
        return t_audit_node_put(arg, level, index, hash);
}

/* --- checking --- */

static int corrupt(struct errinfo *e, const char *what)
{
        return ul_fail(e, UL_CORRUPT, "the audit log was changed: %s", what);
}

/* One leaf, its hash, and every node that it completes from that node's own children. */
static int check_leaf(struct txn *t, uint64_t index, struct buf *entry)
{
        uint8_t hash[SHA256_BYTES], left[SHA256_BYTES], stored[SHA256_BYTES];
        buf_reset(entry, false);
        int err = audit_get(t, index, entry, hash);
        err = err == UL_GONE ? 0 : err; /* its hash is in the tree */
        uint32_t level = 0;
        for (uint64_t rest = index; err == 0 && (rest & 1) != 0; rest >>= 1) {
                err = get_node(t, level, rest - 1, left);
                if (err == 0)
                        err = get_node(t, ++level, rest >> 1, stored);
                if (err != 0)
                        break;
                merkle_node(left, hash, hash);
                if (memcmp(hash, stored, sizeof hash) != 0)
                        err = UL_CORRUPT;
        }
        return err;
}

int audit_check(struct txn *t, uint64_t from, uint32_t max, uint64_t *next, struct errinfo *e)
{
        struct head head;
        struct buf entry = {0};
        *next = UINT64_MAX;
        int err = head_get(t, &head);
        if (err != 0)
                return ul_fail(e, err, "the audit log's head cannot be read");
        uint64_t i = from;
        for (; err == 0 && i < head.size && i - from < max; i++) {
                err = check_leaf(t, i, &entry);
                if (err == UL_NOT_FOUND || err == UL_CORRUPT)
                        err = ul_fail(e, UL_CORRUPT, "the audit log was changed at entry %" PRIu64,
                                      i);
                else if (err != 0)
                        err = ul_fail(e, err, "the audit log cannot be read");
        }
        buf_free(&entry, false);
        if (err == 0 && i < head.size)
                *next = i;
        return err;
}

/* No entry has this index. */
static int expect_absent(struct txn *t, uint64_t index, struct errinfo *e)
{
        struct buf entry = {0};
        int err = t_audit_leaf_get(t, index, &entry);
        buf_free(&entry, false);
        if (err == UL_NOT_FOUND)
                return 0;
        return err == 0 ? corrupt(e, "there are entries beyond its end")
                        : ul_fail(e, err, "the audit log cannot be read");
}

static int check_checkpoint(struct txn *t, const struct audit_log *log, const struct head *head,
                            const struct buf *note, struct errinfo *e)
{
        struct checkpoint c;
        struct errinfo why;
        uint8_t root[SHA256_BYTES];
        if (checkpoint_verify((const char *)note->data, note->len, &log->key, &c, &why) != 0)
                return ul_fail(e, UL_CORRUPT, "the audit log's checkpoint does not hold: %s",
                               why.detail);
        if (c.size != head->size || head->covered != head->size)
                return corrupt(e, "its size is not that of its checkpoint");
        int err = merkle_root(head->size, get_node, t, root);
        if (err != 0)
                return ul_fail(e, err, "the audit log's nodes cannot be read");
        if (memcmp(root, c.root, sizeof root) != 0)
                return corrupt(e, "its root is not that of its checkpoint");
        return 0;
}

static int check_last_time(struct txn *t, const struct head *head, struct errinfo *e)
{
        struct buf entry = {0};
        int64_t ms = 0;
        int err = audit_get(t, head->size - 1, &entry, NULL);
        if (err == 0 &&
            (!entry_time(entry.data, entry.len, head->size - 1, &ms) || ms != head->time_ms))
                err = UL_CORRUPT;
        buf_free(&entry, false);
        if (err == UL_CORRUPT || err == UL_NOT_FOUND)
                return corrupt(e, "its last entry is not the one that was written");
        return err == 0 ? 0 : ul_fail(e, err, "the audit log cannot be read");
}

/* Everything that audit_open promises of what is stored. */
static int check_stored(struct txn *t, const struct audit_log *log, struct errinfo *e)
{
        struct head head;
        struct buf note = {0};
        uint64_t next;
        int err = head_get(t, &head);
        if (err != 0)
                return ul_fail(e, err, "the audit log's head cannot be read");
        err = t_blob_get(t, BLOB_CHECKPOINT, &note);
        if (err == UL_NOT_FOUND)
                err = head.size == 0 ? 0 : corrupt(e, "it has no checkpoint");
        else if (err != 0)
                err = ul_fail(e, err, "the audit log's checkpoint cannot be read");
        else if (head.size == 0)
                err = corrupt(e, "it has a checkpoint and no entries");
        else
                err = check_checkpoint(t, log, &head, &note, e);
        if (err == 0)
                err = expect_absent(t, head.size, e);
        if (err == 0 && head.size > 0)
                err = check_last_time(t, &head, e);
        if (err == 0)
                err = audit_check(t,
                                  head.size > AUDIT_OPEN_CHECK ? head.size - AUDIT_OPEN_CHECK : 0,
                                  AUDIT_OPEN_CHECK, &next, e);
        buf_free(&note, false);
        return err;
}

/* --- opening --- */

int log_make(const char *origin, const uint8_t seed[SIGN_SEED_BYTES], struct audit_log **out,
             struct errinfo *e)
{
        uint8_t public_key[SIGN_PUBLIC_BYTES];
        *out = NULL;
        struct audit_log *log = calloc(1, sizeof *log);
        if (log == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the audit log");
        memcpy(log->seed, seed, sizeof log->seed);
        sign_keypair(seed, public_key);
        int err = note_key_make(origin, public_key, &log->key, NULL);
        if (err != 0)
                err = ul_fail_field(e, err, "origin",
                                    "the log's name is 1 to %d bytes of UTF-8 without spaces and "
                                    "plus signs",
                                    NOTE_NAME_MAX);
        if (err != 0) {
                audit_close(&log);
                return err;
        }
        note_vkey_format(&log->key, log->vkey);
        *out = log;
        return 0;
}

int audit_open(struct txn *t, const char *origin, const uint8_t seed[SIGN_SEED_BYTES],
               struct audit_log **out, struct errinfo *e)
{
        int err = log_make(origin, seed, out, e);
        if (err == 0)
                err = check_stored(t, *out, e);
        if (err != 0)
                audit_close(out);
        return err;
}

void audit_close(struct audit_log **plog)
{
        struct audit_log *log = *plog;
        *plog = NULL;
        if (log == NULL)
                return;
        wipe(log->seed, sizeof log->seed);
        free(log);
}

const char *audit_vkey(const struct audit_log *log)
{
        return log->vkey;
}

const char *audit_origin(const struct audit_log *log)
{
        return log->key.name;
}

int audit_envelope(const struct audit_log *log, const char *type, const void *payload, size_t len,
                   struct buf *out)
{
        dsse_sign(&log->key, log->seed, type, payload, len, out);
        return out->failed ? UL_NOMEM : 0;
}

/* --- appending --- */

static void index_text(struct txn *t, enum entry_kind kind, const char *text, uint64_t index)
{
        uint8_t value[ENTRY_VALUE_BYTES];
        if (text == NULL || text[0] == '\0')
                return;
        entry_value(text, value);
        (void)t_audit_index_put(t, (uint8_t)kind, value, index);
}

/* Errors are the transaction's. */
static void index_entry(struct txn *t, const char *type, const struct audit_keys *keys,
                        uint64_t index)
{
        index_text(t, ENTRY_BY_TYPE, type, index);
        if (keys == NULL)
                return;
        index_text(t, ENTRY_BY_MODEL, keys->model, index);
        for (size_t i = 0; i < keys->model_count; i++)
                index_text(t, ENTRY_BY_MODEL, keys->models[i], index);
        index_text(t, ENTRY_BY_REFERENCE, keys->reference, index);
        if (keys->erasure != NULL)
                (void)t_audit_index_put(t, ENTRY_BY_ERASURE, keys->erasure, index);
        for (size_t i = 0; i < keys->subject_count; i++)
                (void)t_audit_index_put(t, ENTRY_BY_SUBJECT, keys->subjects[i], index);
        for (size_t i = 0; i < keys->record_count; i++)
                (void)t_audit_index_put(t, ENTRY_BY_RECORD, keys->records[i], index);
}

int audit_append(struct txn *t, const struct audit_log *log, int64_t time_ms, const char *type,
                 const char *actor, const struct audit_keys *keys, const char *data,
                 size_t data_len, uint64_t *index)
{
        _Static_assert((int)ULID_BYTES == (int)ENTRY_VALUE_BYTES &&
                               (int)PSEUDONYM_BYTES == (int)ENTRY_VALUE_BYTES,
                       "these are index values as they are");
        struct head head;
        struct buf entry = {0};
        uint8_t leaf[SHA256_BYTES];
        (void)log; /* entries are not signed, tree heads are */
        if (data_len > AUDIT_ENTRY_MAX)
                return txn_fail(t, UL_TOO_LARGE);
        int err = head_get(t, &head);
        if (err != 0)
                return err;
        if (time_ms > head.time_ms)
                head.time_ms = time_ms;
        entry_write(&entry, head.size, head.time_ms, type, actor, data, data_len);
        if (entry.failed || entry.len > AUDIT_ENTRY_MAX) {
                err = txn_fail(t, entry.failed ? UL_NOMEM : UL_TOO_LARGE);
                goto out;
        }
        merkle_leaf(entry.data, entry.len, leaf);
        (void)t_audit_leaf_put(t, head.size, entry.data, entry.len);
        (void)merkle_append(head.size, leaf, get_node, put_node, t);
        index_entry(t, type, keys, head.size);
        if (index != NULL)
                *index = head.size;
        head.size++;
        (void)head_put(t, &head);
        CRASH_POINT("audit.appended");
        err = txn_error(t);
out:
        buf_free(&entry, false);
        return err;
}

int audit_checkpoint_sign(struct txn *t, const struct audit_log *log)
{
        struct head head;
        struct buf text = {0}, note = {0};
        uint8_t root[SHA256_BYTES];
        int err = head_get(t, &head);
        if (err != 0 || head.size == head.covered)
                return err;
        err = merkle_root(head.size, get_node, t, root);
        if (err != 0)
                return err;
        checkpoint_format(log->key.name, head.size, root, &text);
        if (text.failed)
                err = txn_fail(t, UL_NOMEM);
        else if (note_sign(&log->key, log->seed, (const char *)text.data, text.len, &note, NULL) !=
                 0)
                err = txn_fail(t, note.failed ? UL_NOMEM : UL_INTERNAL);
        if (err == 0)
                err = t_blob_put(t, BLOB_CHECKPOINT, note.data, note.len);
        head.covered = head.size;
        if (err == 0)
                err = head_put(t, &head);
        CRASH_POINT("audit.signed");
        buf_free(&note, false);
        buf_free(&text, false);
        return err;
}

/* --- reading --- */

uint64_t audit_size(struct txn *t)
{
        struct head head;
        return head_get(t, &head) == 0 ? head.size : 0;
}

int64_t audit_time(struct txn *t)
{
        struct head head;
        return head_get(t, &head) == 0 ? head.time_ms : 0;
}

int audit_checkpoint(struct txn *t, struct buf *out)
{
        return t_blob_get(t, BLOB_CHECKPOINT, out);
}

int audit_get(struct txn *t, uint64_t index, struct buf *entry, uint8_t leaf_hash[SHA256_BYTES])
{
        uint8_t hash[SHA256_BYTES], stored[SHA256_BYTES];
        struct buf own = {0};
        struct buf *into = entry != NULL ? entry : &own;
        size_t start = into->len;
        int err = t_audit_leaf_get(t, index, into);
        if (err == UL_NOT_FOUND && index < audit_first(t)) {
                err = get_node(t, 0, index, stored);
                if (err == 0 && leaf_hash != NULL)
                        memcpy(leaf_hash, stored, sizeof stored);
                if (err == 0 && entry != NULL)
                        err = UL_GONE;
                goto out;
        }
        if (err != 0)
                goto out;
        merkle_leaf(into->data + start, into->len - start, hash);
        err = get_node(t, 0, index, stored);
        if (err == 0 && memcmp(hash, stored, sizeof hash) != 0)
                err = txn_fail(t, UL_CORRUPT);
        if (err != 0)
                into->len = start;
        else if (leaf_hash != NULL)
                memcpy(leaf_hash, hash, sizeof hash);
out:
        buf_free(&own, false);
        return err;
}

/* The log's size, or its error with a text. */
static int size_of(struct txn *t, uint64_t *size, struct errinfo *e)
{
        struct head head;
        int err = head_get(t, &head);
        *size = head.size;
        return err == 0 ? 0 : ul_fail(e, err, "the audit log cannot be read");
}

static int read_result(int err, struct errinfo *e)
{
        return err == 0 ? 0 : ul_fail(e, err, "the audit log's nodes cannot be read");
}

int audit_inclusion(struct txn *t, uint64_t index, uint64_t size,
                    uint8_t hashes[AUDIT_PROOF_MAX][SHA256_BYTES], uint32_t *count,
                    struct errinfo *e)
{
        uint64_t now;
        *count = 0;
        int err = size_of(t, &now, e);
        if (err != 0)
                return err;
        if (index >= now)
                return ul_fail(e, UL_NOT_FOUND, "the log has no entry %" PRIu64, index);
        if (size <= index || size > now)
                return ul_fail_field(e, UL_INVALID, "size",
                                     "the size must be over the index and at most %" PRIu64, now);
        return read_result(merkle_inclusion(index, size, get_node, t, hashes, count), e);
}

int audit_consistency(struct txn *t, uint64_t from, uint64_t to,
                      uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES], uint32_t *count,
                      struct errinfo *e)
{
        uint64_t now;
        *count = 0;
        int err = size_of(t, &now, e);
        if (err != 0)
                return err;
        if (to == 0 || to > now)
                return ul_fail_field(e, UL_INVALID, "to", "the size must be 1 to %" PRIu64, now);
        if (from == 0 || from > to)
                return ul_fail_field(e, UL_INVALID, "from", "the size must be 1 to %" PRIu64, to);
        return read_result(merkle_consistency(from, to, get_node, t, hashes, count), e);
}

int audit_root(struct txn *t, uint64_t size, uint8_t root[SHA256_BYTES], struct errinfo *e)
{
        uint64_t now;
        memset(root, 0, SHA256_BYTES);
        int err = size_of(t, &now, e);
        if (err != 0)
                return err;
        if (size > now)
                return ul_fail_field(e, UL_INVALID, "size", "the size must be at most %" PRIu64,
                                     now);
        return read_result(merkle_root(size, get_node, t, root), e);
}

static int tile_entry(struct txn *t, uint64_t index, struct buf *out)
{
        uint8_t length[2];
        size_t at = out->len;
        buf_append(out, "\0", sizeof length);
        int err = audit_get(t, index, out, NULL);
        if (err == 0 && out->failed)
                err = UL_NOMEM;
        if (err != 0)
                return err;
        _Static_assert(AUDIT_ENTRY_MAX <= UINT16_MAX, "an entry's length fits the tile's u16");
        size_t len = out->len - at - sizeof length;
        length[0] = (uint8_t)(len >> 8);
        length[1] = (uint8_t)len;
        memcpy(out->data + at, length, sizeof length);
        return 0;
}

int audit_tile(struct txn *t, const struct tile *tile, struct buf *out, struct errinfo *e)
{
        uint64_t size;
        uint8_t hash[SHA256_BYTES];
        int err = size_of(t, &size, e);
        if (err != 0)
                return err;
        if (tile->width > tile_available(tile, size))
                return ul_fail(e, UL_NOT_FOUND, "the log of %" PRIu64 " entries has no such tile",
                               size);
        uint64_t first = tile->index * TILE_WIDTH;
        for (uint64_t i = first; err == 0 && i < first + tile->width; i++) {
                if (tile->entries) {
                        err = tile_entry(t, i, out);
                } else {
                        err = get_node(t, tile->level * TILE_HEIGHT, i, hash);
                        buf_append(out, hash, sizeof hash);
                }
        }
        if (err == 0 && out->failed)
                err = UL_NOMEM;
        if (err == UL_GONE)
                return ul_fail(e, err,
                               "these entries were pruned after their retention; their "
                               "hashes are in the hash tiles");
        return err == 0 ? 0 : ul_fail(e, err, "the audit log's tile cannot be read");
}
