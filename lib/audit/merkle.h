/* SPDX-License-Identifier: Apache-2.0
 * merkle.h: RFC 6962 Merkle trees, pure: hashes, roots, inclusion and consistency proofs, made and
 * verified. It knows nothing of where nodes are kept nor of what an entry says.
 *
 * A node (level, index) is the root of the complete subtree over the leaves
 * [index << level, (index + 1) << level); level 0 is the leaf hashes. Only complete subtrees are
 * ever stored, and they never change: the tree of any earlier size can be had from them.
 *
 *      level 2        (2,0)
 *      level 1   (1,0)     (1,1)            size 7: the frontier is (2,0) (1,2) (0,6)
 *      level 0  0     1   2     3   4 ...                                              */
#ifndef UNLEARND_AUDIT_MERKLE_H
#define UNLEARND_AUDIT_MERKLE_H

#include "lib/util/crypto.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Hashes of a proof: the depth of a tree of 2^64 leaves, and one more for consistency. */
enum { MERKLE_PROOF_MAX = 65 };

/* SHA-256(0x00 | entry), SHA-256(0x01 | left | right), SHA-256(""): RFC 6962, 2.1. `out` may be
 * left or right. */
void merkle_leaf(const void *entry, size_t len, uint8_t out[SHA256_BYTES]);
void merkle_node(const uint8_t left[SHA256_BYTES], const uint8_t right[SHA256_BYTES],
                 uint8_t out[SHA256_BYTES]);
void merkle_empty(uint8_t out[SHA256_BYTES]);

/* Gives a stored node; nonzero ends the caller with that value. */
typedef int (*merkle_get_fn)(void *arg, uint32_t level, uint64_t index, uint8_t hash[SHA256_BYTES]);
typedef int (*merkle_put_fn)(void *arg, uint32_t level, uint64_t index,
                             const uint8_t hash[SHA256_BYTES]);

/* Adds leaf number `size`: puts it and every node that it completes; gets their left halves (O(1)
 * amortised). */
int merkle_append(uint64_t size, const uint8_t leaf[SHA256_BYTES], merkle_get_fn get,
                  merkle_put_fn put, void *arg);
/* The root of the first `size` leaves. */
int merkle_root(uint64_t size, merkle_get_fn get, void *arg, uint8_t root[SHA256_BYTES]);
/* RFC 6962, 2.1.1: the audit path, from the leaf up. index < size; hashes: [MERKLE_PROOF_MAX]. */
int merkle_inclusion(uint64_t index, uint64_t size, merkle_get_fn get, void *arg,
                     uint8_t (*hashes)[SHA256_BYTES], uint32_t *count);
/* RFC 6962, 2.1.2. 0 < from <= to. */
int merkle_consistency(uint64_t from, uint64_t to, merkle_get_fn get, void *arg,
                       uint8_t (*hashes)[SHA256_BYTES], uint32_t *count);

/* RFC 9162, 2.1.3.2 and 2.1.4.2 (the same trees). False for anything but a proof that holds;
 * consistency with the empty tree (from 0) says nothing and is refused. */
bool merkle_verify_inclusion(uint64_t index, uint64_t size, const uint8_t leaf[SHA256_BYTES],
                             const uint8_t (*hashes)[SHA256_BYTES], size_t count,
                             const uint8_t root[SHA256_BYTES]);
bool merkle_verify_consistency(uint64_t from, uint64_t to, const uint8_t (*hashes)[SHA256_BYTES],
                               size_t count, const uint8_t root_from[SHA256_BYTES],
                               const uint8_t root_to[SHA256_BYTES]);

/* A tree that is built leaf by leaf and keeps nothing but its frontier: what an offline verifier
 * recomputes the root of an export with. Zero-initialise. */
struct merkle_frontier {
        uint64_t size;
        uint8_t node[64][SHA256_BYTES]; /* [level], where that bit of size is set */
};
void merkle_frontier_add(struct merkle_frontier *f, const uint8_t leaf[SHA256_BYTES]);
void merkle_frontier_root(const struct merkle_frontier *f, uint8_t root[SHA256_BYTES]);

#endif
