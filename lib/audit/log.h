/* SPDX-License-Identifier: Apache-2.0
 * log.h: the audit log, stored: every event is a leaf of an RFC 6962 Merkle tree, appended in the
 * same transaction as the change that it reports; tree heads are C2SP checkpoints, signed.
 * An entry is canonical JSON {"v":1,"index":N,"time":"...","type":"...","actor":"...","data":{...}}
 * without personal data; the leaf is exactly those bytes. */
#ifndef UNLEARND_AUDIT_LOG_H
#define UNLEARND_AUDIT_LOG_H

#include "lib/store/tables.h"
#include "lib/util/json.h"

struct audit_log; /* origin and signing key; immutable after open, safe from any thread */

/* seed: Ed25519. origin: the log's name (no spaces, no plus). Verifies that the stored checkpoint
 * is signed by this key and agrees with the stored nodes (root recomputed from them); UL_CORRUPT.
 */
int audit_open(struct txn *t, const char *origin, const uint8_t seed[SIGN_SEED_BYTES],
               struct audit_log **out, struct errinfo *e);
void audit_close(struct audit_log **log);

/* What an entry can be found by, beside its type. */
struct audit_keys {
        const char *model;                          /* NULL: none */
        const uint8_t *erasure;                     /* [ULID_BYTES] */
        const uint8_t (*subjects)[PSEUDONYM_BYTES]; /* indexed, and NOT part of the entry */
        size_t subject_count;
        const uint8_t (*records)[PSEUDONYM_BYTES];
        size_t record_count;
        const char *reference;
};
/* data: a JSON object's text. Returns the index. Uses the write transaction's sticky error. */
int audit_append(struct txn *t, const struct audit_log *log, int64_t time_ms, const char *type,
                 const char *actor, const struct audit_keys *keys, const char *data,
                 size_t data_len, uint64_t *index);
/* Signs the tree head of this transaction, if it has grown since the last checkpoint. Once a group
 * commit, before the commit. */
int audit_checkpoint_sign(struct txn *t, const struct audit_log *log);

uint64_t audit_size(struct txn *t);
/* The latest signed checkpoint (a note), appended to out. */
int audit_checkpoint(struct txn *t, struct buf *out);
/* The verifier key, vkey form, NUL-terminated in a fixed buffer. */
const char *audit_vkey(const struct audit_log *log);

/* The entry's bytes, appended; UL_NOT_FOUND. leaf_hash may be NULL. */
int audit_get(struct txn *t, uint64_t index, struct buf *entry, uint8_t leaf_hash[SHA256_BYTES]);
/* RFC 6962 2.1.1 / 2.1.2. hashes: [*count], at most 64. UL_INVALID with field "size"/"from"/"to".
 */
enum { AUDIT_PROOF_MAX = 64 };
int audit_inclusion(struct txn *t, uint64_t index, uint64_t size,
                    uint8_t hashes[AUDIT_PROOF_MAX][SHA256_BYTES], uint32_t *count,
                    struct errinfo *e);
int audit_consistency(struct txn *t, uint64_t from, uint64_t to,
                      uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES], uint32_t *count,
                      struct errinfo *e);
/* A signed checkpoint for an earlier size is not kept; this is the root of it. */
int audit_root(struct txn *t, uint64_t size, uint8_t root[SHA256_BYTES], struct errinfo *e);

struct audit_filter {
        const char *type, *model, *reference;      /* NULL: any */
        const uint8_t *erasure, *subject, *record; /* NULL: any */
        int64_t since_ms, until_ms;                /* 0: open */
        bool descending;
        uint64_t from; /* first index to look at; UINT64_MAX with descending: the newest */
};
/* fn gets (arg, index, entry, len, leaf_hash); nonzero ends the walk. The narrowest index given is
 * walked, the other conditions are checked on the entry. At most `max_scanned` entries are looked
 * at; *next is the index to go on from (UINT64_MAX: the end was reached). */
typedef int (*audit_fn)(void *arg, uint64_t index, const char *entry, size_t len,
                        const uint8_t leaf_hash[SHA256_BYTES]);
int audit_query(struct txn *t, const struct audit_filter *f, uint32_t max_scanned, audit_fn fn,
                void *arg, uint64_t *next);

#endif
