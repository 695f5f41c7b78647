/* SPDX-License-Identifier: Apache-2.0
 * log.h: the audit log, stored: every event is a leaf of an RFC 6962 Merkle tree, appended in the
 * same transaction as the change that it reports; tree heads are C2SP checkpoints, signed.
 * An entry is canonical JSON {"v":1,"index":N,"time":"...","type":"...","actor":"...","data":{...}}
 * without personal data; the leaf is exactly those bytes. Times never decrease: an entry whose
 * clock was set back gets the time of the one before it.
 *
 * Stored: every leaf; the leaf hashes and complete subtrees by (level, index), see merkle.h; the
 * index of t_audit_index_put; and two blobs:
 *      "audit_head"        size u64, time of the last entry i64, size last signed u64
 *      "audit_checkpoint"  the signed note */
#ifndef UNLEARND_AUDIT_LOG_H
#define UNLEARND_AUDIT_LOG_H

#include "lib/audit/tile.h"
#include "lib/store/tables.h"
#include "lib/util/json.h"

struct audit_log; /* origin and signing key; immutable after open, safe from any thread */

/* seed: Ed25519. origin: the log's name (no spaces, no plus; UL_INVALID with field "origin").
 * Verifies that the stored checkpoint is signed by this key, covers every entry (each committed
 * transaction that appends signs: audit_checkpoint_sign), and agrees with the stored nodes (root
 * recomputed from them), and checks the newest AUDIT_OPEN_CHECK entries; UL_CORRUPT. */
enum { AUDIT_OPEN_CHECK = 10000 }; /* some 30 ms */
int audit_open(struct txn *t, const char *origin, const uint8_t seed[SIGN_SEED_BYTES],
               struct audit_log **out, struct errinfo *e);
void audit_close(struct audit_log **log);
/* Recomputes leaf hashes, and the nodes that these leaves complete, for up to `max` entries from
 * `from` on; *next: go on from here, UINT64_MAX: the end. UL_CORRUPT says which entry. All entries
 * checked and the checkpoint's root recomputed: nothing of the log was changed. */
int audit_check(struct txn *t, uint64_t from, uint32_t max, uint64_t *next, struct errinfo *e);

/* What an entry can be found by, beside its type. */
struct audit_keys {
        const char *model;         /* NULL, "": none */
        const char *const *models; /* [model_count], more of them */
        size_t model_count;
        const uint8_t *erasure;                     /* [ULID_BYTES] */
        const uint8_t (*subjects)[PSEUDONYM_BYTES]; /* indexed, and NOT part of the entry */
        size_t subject_count;
        const uint8_t (*records)[PSEUDONYM_BYTES];
        size_t record_count;
        const char *reference; /* NULL, "": none */
};
/* data: a JSON object's text; keys and index may be NULL. Returns the index. Uses the write
 * transaction's sticky error; UL_TOO_LARGE for an entry over AUDIT_ENTRY_MAX. */
int audit_append(struct txn *t, const struct audit_log *log, int64_t time_ms, const char *type,
                 const char *actor, const struct audit_keys *keys, const char *data,
                 size_t data_len, uint64_t *index);
/* Signs the tree head of this transaction, if it has grown since the last checkpoint. Once a group
 * commit, before the commit, on the top-level transaction. */
int audit_checkpoint_sign(struct txn *t, const struct audit_log *log);

/* Exchanges the log's key: announces the new one in an entry {"old": vkey, "new": vkey}, and signs
 * the tree head that ends with it with both; that note is kept, as the old key's last word. Checks
 * the log as audit_open does, which the caller calls afterwards, with the new seed. data: what the
 * entry says is appended to it. UL_INVALID where the keys are one. */
int audit_rotate(struct txn *t, const char *origin, const uint8_t old_seed[SIGN_SEED_BYTES],
                 const uint8_t new_seed[SIGN_SEED_BYTES], int64_t now_ms, struct buf *data,
                 struct errinfo *e);
struct audit_key {
        const char *vkey;
        uint64_t announced;   /* index of the entry; UINT64_MAX: it is the log's first key */
        const char *entry;    /* its text, also after it was pruned; "" of the first key */
        const char *handover; /* the signed note, not terminated; "" of the first key */
        size_t handover_len;
        bool current;
};
typedef int (*audit_key_fn)(void *arg, const struct audit_key *key);
/* Every key that the log ever had, oldest first; nonzero from fn ends it with that value. */
int audit_keys(struct txn *t, const struct audit_log *log, audit_key_fn fn, void *arg);

uint64_t audit_size(struct txn *t);
int64_t audit_time(struct txn *t); /* of the last entry, in ms; 0: there is none */
/* The latest signed checkpoint (a note), appended to out. UL_NOT_FOUND while the log is empty. */
int audit_checkpoint(struct txn *t, struct buf *out);
/* The verifier key, vkey form, NUL-terminated in a fixed buffer. */
const char *audit_vkey(const struct audit_log *log);
const char *audit_origin(const struct audit_log *log);
/* Appends a DSSE envelope of the payload, signed with the log's key. UL_NOMEM. */
int audit_envelope(const struct audit_log *log, const char *type, const void *payload, size_t len,
                   struct buf *out);

/* --- prune.c: retention --- */
/* The first entry whose bytes are kept: those before it were pruned, their hashes are kept. */
uint64_t audit_first(struct txn *t);
/* Prunes entries that are older than before_ms, at most `max` (a multiple of TILE_WIDTH), whole
 * entry tiles from the beginning on and never the last entry: [*from, *to), which may be empty. */
int audit_prune(struct txn *t, int64_t before_ms, uint32_t max, uint64_t *from, uint64_t *to);
/* Removes what pruned entries could be found by: looks at `max` keys; *left: call again. */
int audit_sweep(struct txn *t, uint32_t max, bool *left);

/* The entry's bytes, appended; UL_NOT_FOUND. entry and leaf_hash may be NULL. UL_CORRUPT (sticky,
 * nothing is appended) where the bytes are not those of the stored leaf hash. UL_GONE where it was
 * pruned and its bytes are asked for: leaf_hash is filled all the same. */
int audit_get(struct txn *t, uint64_t index, struct buf *entry, uint8_t leaf_hash[SHA256_BYTES]);
/* The members of an entry, found without parsing it; they point into it. False: it is none. */
struct audit_parts {
        const char *time, *type, *data; /* data: the JSON object's text */
        size_t time_len, type_len, data_len;
};
bool audit_entry_parts(const void *entry, size_t len, struct audit_parts *out);
/* RFC 6962 2.1.1 / 2.1.2. hashes: [*count], at most 64. UL_INVALID with field "size"/"from"/"to"
 * (0 < from <= to <= the log's size; index < size <= the log's size); UL_NOT_FOUND where no entry
 * has the index. */
enum { AUDIT_PROOF_MAX = 64 };
int audit_inclusion(struct txn *t, uint64_t index, uint64_t size,
                    uint8_t hashes[AUDIT_PROOF_MAX][SHA256_BYTES], uint32_t *count,
                    struct errinfo *e);
int audit_consistency(struct txn *t, uint64_t from, uint64_t to,
                      uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES], uint32_t *count,
                      struct errinfo *e);
/* A signed checkpoint for an earlier size is not kept; this is the root of it. */
int audit_root(struct txn *t, uint64_t size, uint8_t root[SHA256_BYTES], struct errinfo *e);

/* Appends the tile's bytes (C2SP tlog-tiles): hashes of 32 bytes, or entries, each behind its
 * length as a big-endian u16. UL_NOT_FOUND where the log has not that many yet; UL_CORRUPT and
 * UL_GONE as audit_get. */
int audit_tile(struct txn *t, const struct tile *tile, struct buf *out, struct errinfo *e);

struct audit_filter {
        const char *type, *model, *reference;      /* NULL: any */
        const uint8_t *erasure, *subject, *record; /* NULL: any */
        int64_t since_ms, until_ms;                /* both included; 0: open */
        bool descending;
        uint64_t from; /* first index to look at; UINT64_MAX with descending: the newest */
};
/* fn gets (arg, index, entry, len, leaf_hash); nonzero ends the walk after that entry, and is what
 * audit_query returns. The narrowest index given is walked, the other conditions are looked up for
 * each entry. At most `max_scanned` > 0 entries are looked at; *next is the index to go on from
 * (UINT64_MAX: the end was reached), also where fn ended the walk. Each entry given is checked
 * against its stored hash: UL_CORRUPT. */
typedef int (*audit_fn)(void *arg, uint64_t index, const char *entry, size_t len,
                        const uint8_t leaf_hash[SHA256_BYTES]);
int audit_query(struct txn *t, const struct audit_filter *f, uint32_t max_scanned, audit_fn fn,
                void *arg, uint64_t *next);

#endif
