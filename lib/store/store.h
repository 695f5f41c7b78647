/* SPDX-License-Identifier: Apache-2.0
 * store.h: the control database: one LMDB environment, one transaction type, one file a table.
 *
 * Concepts. A transaction keeps its first error: after it every call on that transaction does
 * nothing and returns that error, and txn_commit returns it and aborts. "Not found" is not such an
 * error: lookups return UL_NOT_FOUND and leave the transaction usable. A write transaction may hold
 * child transactions (one at a time): a child that is aborted takes nothing of its parent with it.
 * Write transactions are made on the writer thread only (asserted once it has called
 * store_bind_writer), so a parent, its children and their commits stay on one thread; read
 * transactions on any thread, short, since a long one makes the file grow.
 *
 * Never MDB_NOMEMINIT (stale memory would reach the disk), never MDB_WRITEMAP (a stray pointer
 * would be durable). Only pseudonyms and bookkeeping are stored: LMDB does not free pages securely.
 *
 * Values are packed little-endian structs; keys are big-endian, so that they sort. */
#ifndef UNLEARND_STORE_STORE_H
#define UNLEARND_STORE_STORE_H

#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include "lib/util/limits.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;
struct txn;

/* Opens the file at `path`, or control.mdb in it where it is a directory (MDB_NOSUBDIR, mode 0600),
 * creating it: whole, or not at all. What can be read from then on is on the disk, also where a
 * killed process wrote it. map_bytes: the sparse map, so that growth never fails a request.
 * UL_CORRUPT for another schema version, UL_INVALID with field "map_bytes" for a map under 64 KiB.
 * Once in a process, and one process at a time: the caller holds the data directory's lock. */
int store_open(const char *path, uint64_t map_bytes, struct store **out, struct errinfo *e);
void store_close(struct store **s);
struct store_found {
        bool empty;    /* there is no file, or no transaction was ever committed to it */
        bool finished; /* the last commit: its meta page had not been written, or lost a bit */
};
/* Reads all of the file before it is opened, without LMDB: pages, tables, keys, every value's tag,
 * free pages, and that neither meta page stands for another transaction. UL_CORRUPT says what is
 * damaged, UL_INVALID that another version wrote it. A commit that is whole but for its meta page
 * is finished, durably: nothing that was acknowledged goes back. Some 100 MB a second at the least;
 * nobody may write meanwhile. */
int store_check(const char *file, struct store_found *found, struct errinfo *e);
/* What was found damaged since the store was opened: the table in which a value failed its
 * checksum, or "pages"; NULL: nothing. */
const char *store_damaged(const struct store *s);
/* Called once, by the thread that finds it; set before other threads use the store. */
typedef void (*store_damage_fn)(void *arg, const char *what);
void store_watch(struct store *s, store_damage_fn fn, void *arg);
/* Bytes of map used and its size, for metrics. */
void store_usage(struct store *s, uint64_t *used_bytes, uint64_t *map_bytes);
/* Whether LMDB refuses to go on: a meta page could not be written, so that only the next
 * store_open knows whether the last commit was made. */
bool store_broken(struct store *s);
/* Bytes that can still be written: beyond the last page, and of pages that were freed. Walks the
 * list of free pages. */
int store_room(struct store *s, uint64_t *bytes, struct errinfo *e);
/* Called once by the writer thread when it begins: from then on write transactions are asserted to
 * be its own. Before it (recovery, on the main thread) any thread may write. */
void store_bind_writer(struct store *s);

/* Writes a compacted copy of what is committed now to a file that must not exist, while others read
 * and write. Not synced. UL_NOSPACE, UL_IO. */
int store_copy(struct store *s, const char *path, struct errinfo *e);
/* Opens such a copy to be read, beside the store and while other threads open files: nothing is
 * written and no lock file made, so nobody else may have it open. */
int store_open_copy(const char *path, struct store **out, struct errinfo *e);

int store_read(struct store *s, struct txn **out, struct errinfo *e);
int store_write(struct store *s, struct txn **out, struct errinfo *e);
int store_nested(struct txn *parent, struct txn **out, struct errinfo *e);
int txn_error(const struct txn *t);
/* Puts an error into the transaction (a caller's own check failed). */
int txn_fail(struct txn *t, int code);
/* Durable on return (top-level). Nulls the pointer in every case. */
int txn_commit(struct txn **t, struct errinfo *e);
void txn_abort(struct txn **t);

#endif
