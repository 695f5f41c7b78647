/* SPDX-License-Identifier: Apache-2.0
 * store.h: the control database: one LMDB environment, one transaction type, one file a table.
 *
 * Concepts. A transaction keeps its first error: after it every call on that transaction does
 * nothing and returns that error, and txn_commit returns it and aborts. "Not found" is not such an
 * error: lookups return UL_NOT_FOUND and leave the transaction usable. A write transaction may hold
 * child transactions (one at a time): a child that is aborted takes nothing of its parent with it.
 * Write transactions are made on the writer thread only (asserted from the first one on); read
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

/* Opens DIR/control.mdb (MDB_NOSUBDIR), creating it. map_bytes: the sparse map, so that growth
 * never fails a request. UL_CORRUPT for another schema version. */
int store_open(const char *path, uint64_t map_bytes, struct store **out, struct errinfo *e);
void store_close(struct store **s);
/* Bytes of map used and its size, for metrics. */
void store_usage(struct store *s, uint64_t *used_bytes, uint64_t *map_bytes);

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
