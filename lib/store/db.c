/* SPDX-License-Identifier: Apache-2.0
 * db.c: see db.h. LMDB's calls, each with its error folded into the transaction's first one. It
 * knows nothing of what a table holds. */
#include "lib/store/db.h"

#include <assert.h>
#include <errno.h>
#include <lmdb.h>
#include <string.h>

_Static_assert(DB_KEY_MAX == 511, "the default MDB_MAXKEYSIZE");

int db_error(int mdb_code)
{
        switch (mdb_code) {
        case 0:
                return 0;
        case MDB_NOTFOUND:
                return UL_NOT_FOUND;
        case MDB_MAP_FULL:
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
                return UL_NOSPACE;
        case ENOMEM:
                return UL_NOMEM;
        case MDB_READERS_FULL:
                return UL_BUSY;
        case MDB_CORRUPTED:
        case MDB_PAGE_NOTFOUND:
        case MDB_VERSION_MISMATCH:
        case MDB_INVALID:
        case MDB_INCOMPATIBLE:
        case MDB_BAD_DBI: /* a table is not where it was */
        case MDB_CURSOR_FULL:
        case MDB_PAGE_FULL:
                return UL_CORRUPT;
        case MDB_PANIC: /* a meta page could not be written: nothing more can be, until a restart */
                return UL_IO;
        default:
                return mdb_code > 0 ? UL_IO : UL_INTERNAL;
        }
}

/* Where a table's root cannot be read, LMDB keeps that to itself and refuses the transaction. (One
 * that writes is refused for want of memory, too.) */
static int root_damaged(const struct txn *t, int mdb_code)
{
        return mdb_code == MDB_BAD_TXN && !t->write ? MDB_CORRUPTED : mdb_code;
}

int db_fail(struct txn *t, int mdb_code)
{
        if (t->err == 0) {
                t->cause = db_cause(t->store, root_damaged(t, mdb_code));
                t->err = db_error(t->cause);
                if (t->err == UL_CORRUPT)
                        (void)db_pages_damaged(t->store);
        }
        return t->err;
}

static int usable(const struct txn *t)
{
        assert(!t->child_open);
        return t->err;
}

static MDB_val val(const void *data, size_t len)
{
        return (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)data};
}

static MDB_val key_val(const void *key, size_t len)
{
        assert(len > 0 && len <= DB_KEY_MAX);
        return val(key, len);
}

/* --- tags --- */

/* SipHash of the key under a key of the table's, then of the value under the key's hash: neither is
 * copied, and a value that moved to another key or table does not pass. */
uint64_t db_tag(enum table table, const void *key, size_t key_len, const void *value,
                size_t value_len)
{
        uint8_t k[SHORT_KEY_BYTES] = "unlearnd tag   ";
        k[SHORT_KEY_BYTES - 1] = (uint8_t)table;
        put_le64(k, short_hash(k, key, key_len));
        return short_hash(k, value, value_len);
}

/* Leaves u at the row's bytes. */
static int check_tag(struct txn *t, enum table table, const MDB_val *k, const MDB_val *v,
                     struct unpacker *u)
{
        size_t len = v->mv_size < DB_TAG_BYTES ? 0 : v->mv_size - DB_TAG_BYTES;
        const uint8_t *data = v->mv_data;
        *u = (struct unpacker){.bad = true};
        if (v->mv_size < DB_TAG_BYTES ||
            get_le64(data + len) != db_tag(table, k->mv_data, k->mv_size, data, len))
                return db_damaged(t, table);
        *u = unpack_from(data, len);
        return 0;
}

int db_get(struct txn *t, enum table table, const void *key, size_t key_len, struct unpacker *value)
{
        MDB_val k = key_val(key, key_len), v;
        *value = (struct unpacker){.bad = true};
        if (usable(t) != 0)
                return t->err;
        int rc = mdb_get(t->mdb, db_handle(t, table), &k, &v);
        if (rc == MDB_NOTFOUND)
                return UL_NOT_FOUND;
        if (rc != 0)
                return db_fail(t, rc);
        return check_tag(t, table, &k, &v, value);
}

int db_unpacked(struct txn *t, const struct unpacker *value)
{
        return unpacked(value) ? 0 : txn_fail(t, UL_CORRUPT);
}

/* Reserves the room and fills it in place: the tag costs no copy of the value. *old is set where
 * MDB_NOOVERWRITE finds one. */
static int put(struct txn *t, enum table table, MDB_val *k, const void *value, size_t value_len,
               unsigned flags, MDB_val *old)
{
        MDB_val room = {.mv_size = value_len + DB_TAG_BYTES};
        assert(t->write);
        int rc = mdb_put(t->mdb, db_handle(t, table), k, &room, flags | MDB_RESERVE);
        if (rc == MDB_KEYEXIST && old != NULL)
                *old = room;
        if (rc != 0)
                return rc;
        uint8_t *at = room.mv_data;
        if (value_len > 0)
                memcpy(at, value, value_len);
        put_le64(at + value_len, db_tag(table, k->mv_data, k->mv_size, value, value_len));
        t->changed = true;
        return 0;
}

int db_put(struct txn *t, enum table table, const void *key, size_t key_len, const void *value,
           size_t value_len)
{
        MDB_val k = key_val(key, key_len);
        if (usable(t) != 0)
                return t->err;
        int rc = put(t, table, &k, value, value_len, 0, NULL);
        return rc == 0 ? 0 : db_fail(t, rc);
}

int db_put_new(struct txn *t, enum table table, const void *key, size_t key_len, const void *value,
               size_t value_len, struct unpacker *old)
{
        MDB_val k = key_val(key, key_len), v;
        *old = (struct unpacker){.bad = true};
        if (usable(t) != 0)
                return t->err;
        int rc = put(t, table, &k, value, value_len, MDB_NOOVERWRITE, &v);
        if (rc == MDB_KEYEXIST) {
                int err = check_tag(t, table, &k, &v, old);
                return err != 0 ? err : UL_EXISTS;
        }
        return rc == 0 ? 0 : db_fail(t, rc);
}

int db_put_last(struct txn *t, enum table table, const void *key, size_t key_len, const void *value,
                size_t value_len)
{
        MDB_val k = key_val(key, key_len);
        if (usable(t) != 0)
                return t->err;
        int rc = put(t, table, &k, value, value_len, MDB_APPEND, NULL);
        if (rc == MDB_KEYEXIST)
                return db_put(t, table, key, key_len, value, value_len);
        return rc == 0 ? 0 : db_fail(t, rc);
}

int db_del(struct txn *t, enum table table, const void *key, size_t key_len)
{
        MDB_val k = key_val(key, key_len);
        if (usable(t) != 0)
                return t->err;
        assert(t->write);
        int rc = mdb_del(t->mdb, db_handle(t, table), &k, NULL);
        t->changed |= rc == 0;
        if (rc == MDB_NOTFOUND)
                return UL_NOT_FOUND;
        return rc == 0 ? 0 : db_fail(t, rc);
}

static bool begins_with(const MDB_val *k, const void *prefix, size_t len)
{
        return k->mv_size >= len && (len == 0 || memcmp(k->mv_data, prefix, len) == 0);
}

static bool equals(const MDB_val *k, const void *key, size_t len)
{
        return k->mv_size == len && memcmp(k->mv_data, key, len) == 0;
}

int db_count(struct txn *t, enum table table, uint64_t *out)
{
        MDB_stat st;
        *out = 0;
        if (usable(t) != 0)
                return t->err;
        int rc = mdb_stat(t->mdb, db_handle(t, table), &st);
        if (rc != 0)
                return db_fail(t, rc);
        *out = st.ms_entries;
        return 0;
}

int db_first(struct txn *t, enum table table, const void *prefix, size_t prefix_len, void *key,
             size_t key_len)
{
        MDB_cursor *c = NULL;
        MDB_val k = val(prefix, prefix_len), v;
        if (usable(t) != 0)
                return t->err;
        int rc = mdb_cursor_open(t->mdb, db_handle(t, table), &c);
        if (rc != 0)
                return db_fail(t, rc);
        rc = mdb_cursor_get(c, &k, &v, prefix_len > 0 ? MDB_SET_RANGE : MDB_FIRST);
        int err = 0;
        if (rc == MDB_NOTFOUND || (rc == 0 && !begins_with(&k, prefix, prefix_len)))
                err = UL_NOT_FOUND;
        else if (rc != 0)
                err = db_fail(t, rc);
        else if (k.mv_size != key_len)
                err = txn_fail(t, UL_CORRUPT);
        else if ((err = check_tag(t, table, &k, &v, &(struct unpacker){0})) == 0)
                memcpy(key, k.mv_data, key_len);
        mdb_cursor_close(c);
        return err;
}

/* The first key at or after span->from, or the prefix, or of all. */
static int seek_ascending(MDB_cursor *c, const struct db_span *span, MDB_val *k, MDB_val *v)
{
        const void *from = span->from != NULL ? span->from : span->prefix;
        size_t len = span->from != NULL ? span->from_len : span->prefix_len;
        if (len == 0)
                return mdb_cursor_get(c, k, v, MDB_FIRST);
        *k = key_val(from, len);
        int rc = mdb_cursor_get(c, k, v, MDB_SET_RANGE);
        if (rc == 0 && span->from != NULL && span->past && equals(k, from, len))
                rc = mdb_cursor_get(c, k, v, MDB_NEXT);
        return rc;
}

/* The last key at or before span->from, or of all. */
static int seek_descending(MDB_cursor *c, const struct db_span *span, MDB_val *k, MDB_val *v)
{
        assert(span->from != NULL || span->prefix_len == 0);
        if (span->from == NULL)
                return mdb_cursor_get(c, k, v, MDB_LAST);
        *k = key_val(span->from, span->from_len);
        int rc = mdb_cursor_get(c, k, v, MDB_SET_RANGE);
        if (rc == MDB_NOTFOUND)
                return mdb_cursor_get(c, k, v, MDB_LAST);
        if (rc == 0 && (span->past || !equals(k, span->from, span->from_len)))
                rc = mdb_cursor_get(c, k, v, MDB_PREV);
        return rc;
}

static int walk_cursor(struct txn *t, enum table table, MDB_cursor *c, const struct db_span *span,
                       db_walk_fn fn, void *arg)
{
        MDB_val k, v;
        int rc = span->descending ? seek_descending(c, span, &k, &v)
                                  : seek_ascending(c, span, &k, &v);
        while (rc == 0 && begins_with(&k, span->prefix, span->prefix_len)) {
                struct unpacker key = unpack_from(k.mv_data, k.mv_size);
                struct unpacker value;
                int stop = check_tag(t, table, &k, &v, &value);
                if (stop == 0)
                        stop = fn(arg, &key, &value);
                if (stop != 0)
                        return stop;
                if (t->err != 0)
                        return t->err;
                rc = mdb_cursor_get(c, &k, &v, span->descending ? MDB_PREV : MDB_NEXT);
        }
        return rc == 0 || rc == MDB_NOTFOUND ? 0 : db_fail(t, rc);
}

int db_walk(struct txn *t, enum table table, const struct db_span *span, db_walk_fn fn, void *arg)
{
        MDB_cursor *c = NULL;
        if (usable(t) != 0)
                return t->err;
        int rc = mdb_cursor_open(t->mdb, db_handle(t, table), &c);
        if (rc != 0)
                return db_fail(t, rc);
        int err = walk_cursor(t, table, c, span, fn, arg);
        mdb_cursor_close(c);
        return err;
}
