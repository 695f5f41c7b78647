/* SPDX-License-Identifier: Apache-2.0
 * db.h (private to lib/store): what a table file may do with LMDB. Only store.c, shown.c and
 * db.c include lmdb.h; the t_*.c files speak of tables, keys and values, and leave errors to the
 * transaction.
 *
 * Every function returns 0, UL_NOT_FOUND where it says so, or the transaction's sticky error. What
 * a lookup points to is LMDB's own page: good until the next change in the same transaction.
 *
 * LMDB has no checksums, so every value carries its own:
 *
 *      the row's bytes as packed | tag u64 le, of table, key and those bytes
 *
 * A value whose tag does not hold is UL_CORRUPT, sticky, and the error names the table. */
#ifndef UNLEARND_STORE_DB_H
#define UNLEARND_STORE_DB_H

#include "lib/store/pack.h"
#include "lib/store/store.h"

struct MDB_txn;
struct MDB_cursor;

/* One named database each; names and numbers are part of the file's layout (the tags hold the
 * number): new ones go to the end. */
enum table {
        TABLE_META,              /* "schema" -> u32; "commit" -> u64: see txn_commit */
        TABLE_COUNTERS,          /* name -> u64 */
        TABLE_BLOBS,             /* name -> bytes */
        TABLE_MODELS,            /* name -> row, configuration text */
        TABLE_RECORDS,           /* model, record -> row */
        TABLE_SUBJECT_RECORDS,   /* model, subject, record -> nothing; only where they differ */
        TABLE_SUBJECTS,          /* model, subject -> row */
        TABLE_SHARDS,            /* model, shard -> row */
        TABLE_SLICES,            /* model, shard, slice -> row */
        TABLE_ERASURES,          /* ulid -> row, affected shards */
        TABLE_WAITING,           /* model, shard, ulid -> nothing */
        TABLE_SCRUB,             /* ulid, model, kind, pseudonym -> row */
        TABLE_SUPPRESSIONS,      /* pseudonym, model, kind -> row */
        TABLE_JOBS,              /* ulid -> row, result text */
        TABLE_IDEMPOTENCY,       /* keyed hash -> row */
        TABLE_IDEMPOTENCY_UNTIL, /* expiry, keyed hash -> nothing */
        TABLE_AUDIT_LEAVES,      /* index -> entry */
        TABLE_AUDIT_NODES,       /* level and index, as completed -> hash: see t_audit.c */
        TABLE_AUDIT_INDEX,       /* era, kind, value, index in it -> nothing */
        TABLE_UPLOADS,           /* upload -> row */
        TABLE_LIFTS,             /* ulid -> row, the suppressions that it took away */
        TABLE_HELD,              /* ulid -> what the erasure asks for while it is held */
        TABLE_DEADLINES,         /* noted, deadline, ulid -> nothing; of erasures not ended */
        TABLE_ENDPOINTS,         /* hash -> row, address */
        TABLE_DELIVERIES,        /* ulid -> row, headers, body */
        TABLE_DELIVERIES_DUE,    /* endpoint, time, ulid -> nothing */
        TABLE_CALLBACKS,         /* ulid of an erasure -> address */
        TABLE_EVIDENCE,          /* ulid, model, shard -> row, digests of destroyed checkpoints */
        TABLE_CERTIFICATES,      /* ulid -> log index, statement text */
        TABLE_NOTED,             /* pseudonym, erasure, scope, kind -> nothing; tables.h */
        TABLE_IMPORTS,           /* ulid -> row */
        TABLE_OPENDSR,           /* keyed hash of controller and request id -> row, addresses */
        TABLE_OPENDSR_OF,        /* ulid of the erasure -> that hash */
        TABLE_SERVED,            /* model, shard, slice, generation -> row */
        TABLE_RECALLS,           /* model, number -> row */
        TABLE_COUNT
};

enum { DB_KEY_MAX = 511 }; /* LMDB's own */
enum { DB_TAG_BYTES = 8, DB_SCHEMA_VERSION = 5 };
/* Keys of TABLE_META. */
#define DB_SCHEMA "schema"
#define DB_COMMIT "commit"

struct txn {
        struct store *store;
        struct txn *parent; /* NULL: top level */
        struct MDB_txn *mdb;
        bool write;
        bool child_open;     /* only the child may be used */
        int err;             /* the first error; sticky */
        int cause;           /* LMDB's code for it, 0 where it was not LMDB's */
        const char *damaged; /* the table whose value failed its tag; NULL: none */
        bool changed;        /* something was written */
        struct shown *shown; /* whom it goes back to instead of an end; NULL: nobody */
        struct txn *next;    /* in a list of theirs */
        uint64_t advance;    /* the shown_advance that it is of */
};

/* shown.c: what txn_abort is for one of theirs. */
void shown_take_back(struct txn *t);

/* A value failed its tag: the sticky error, and what store_damaged says. */
int db_damaged(struct txn *t, enum table table);
/* The same of pages, or of a value that says what cannot be: UL_CORRUPT. */
int db_pages_damaged(struct store *s);
const char *db_table_name(enum table table);
/* What a value's last bytes must hold. */
uint64_t db_tag(enum table table, const void *key, size_t key_len, const void *value,
                size_t value_len);
unsigned db_handle(const struct txn *t, enum table table);
/* The ul_err for a code of LMDB or errno. */
int db_error(int mdb_code);
/* LMDB says EIO of a write that was cut short, which is what a disk that fills up does first: then
 * ENOSPC, else the code itself. */
int db_cause(const struct store *s, int mdb_code);
/* Makes it the transaction's error, unless it has one. */
int db_fail(struct txn *t, int mdb_code);

/* UL_NOT_FOUND. */
int db_get(struct txn *t, enum table table, const void *key, size_t key_len,
           struct unpacker *value);
/* 0 if the value was unpacked to its last byte, else the sticky UL_CORRUPT. */
int db_unpacked(struct txn *t, const struct unpacker *value);

int db_put(struct txn *t, enum table table, const void *key, size_t key_len, const void *value,
           size_t value_len);
/* Not over an existing value: UL_EXISTS (not sticky), and *old is that value. */
int db_put_new(struct txn *t, enum table table, const void *key, size_t key_len, const void *value,
               size_t value_len, struct unpacker *old);
/* db_put that packs pages full where the key comes after all others. */
int db_put_last(struct txn *t, enum table table, const void *key, size_t key_len, const void *value,
                size_t value_len);
/* UL_NOT_FOUND. */
int db_del(struct txn *t, enum table table, const void *key, size_t key_len);

/* How many entries the table has; does not walk it. */
int db_count(struct txn *t, enum table table, uint64_t *out);

/* The first key with the prefix, copied (the caller may delete it then). UL_NOT_FOUND; a key of
 * another length is UL_CORRUPT. */
int db_first(struct txn *t, enum table table, const void *prefix, size_t prefix_len, void *key,
             size_t key_len);

/* Which keys, in which order. */
struct db_span {
        const void *prefix; /* only keys that begin so */
        size_t prefix_len;
        const void *from; /* where to begin; NULL: at the end of the order that comes first */
        size_t from_len;  /* (descending with a prefix needs a `from`) */
        bool past;        /* `from` itself is left out */
        bool descending;
};
typedef int (*db_walk_fn)(void *arg, struct unpacker *key, struct unpacker *value);
/* Nonzero from fn ends the walk with that value. fn may look up in the same transaction, and must
 * not change it. */
int db_walk(struct txn *t, enum table table, const struct db_span *span, db_walk_fn fn, void *arg);

#endif
