/* SPDX-License-Identifier: Apache-2.0
 * merkle.c: see merkle.h. Proofs are made from the root down, as RFC 6962 defines them, and turned
 * round at the end; they are verified from the leaf up, as RFC 9162 writes it. */
#include "lib/audit/merkle.h"

#include <assert.h>
#include <string.h>

void merkle_leaf(const void *entry, size_t len, uint8_t out[SHA256_BYTES])
{
        static const uint8_t prefix = 0x00;
        struct sha256_state s;
        sha256_begin(&s);
        sha256_add(&s, &prefix, 1);
        sha256_add(&s, entry, len);
        sha256_end(&s, out);
}

void merkle_node(const uint8_t left[SHA256_BYTES], const uint8_t right[SHA256_BYTES],
                 uint8_t out[SHA256_BYTES])
{
        uint8_t both[1 + 2 * SHA256_BYTES];
        both[0] = 0x01;
        memcpy(both + 1, left, SHA256_BYTES);
        memcpy(both + 1 + SHA256_BYTES, right, SHA256_BYTES);
        sha256(both, sizeof both, out);
}

void merkle_empty(uint8_t out[SHA256_BYTES])
{
        sha256("", 0, out);
}

static bool same(const uint8_t *a, const uint8_t *b)
{
        return memcmp(a, b, SHA256_BYTES) == 0;
}

/* --- making --- */

int merkle_append(uint64_t size, const uint8_t leaf[SHA256_BYTES], merkle_get_fn get,
                  merkle_put_fn put, void *arg)
{
        uint8_t hash[SHA256_BYTES], left[SHA256_BYTES];
        uint32_t level = 0;
        assert(size < UINT64_MAX);
        memcpy(hash, leaf, sizeof hash);
        int err = put(arg, 0, size, hash);
        for (uint64_t rest = size; err == 0 && (rest & 1) != 0; rest >>= 1) {
                err = get(arg, level, rest - 1, left);
                if (err != 0)
                        break;
                merkle_node(left, hash, hash);
                level++;
                err = put(arg, level, rest >> 1, hash);
        }
        return err;
}

/* The hash of the leaves [lo, hi), hi > lo. lo is a multiple of the largest power of two below or
 * at hi - lo, as it is for every range that RFC 6962 splits off: so each set bit of hi - lo is one
 * complete node, and they are folded from the right. */
static int range_root(uint64_t lo, uint64_t hi, merkle_get_fn get, void *arg, uint8_t *out)
{
        uint8_t node[SHA256_BYTES];
        bool first = true;
        for (uint32_t level = 0; level < 64; level++) {
                if (((hi - lo) >> level & 1) == 0)
                        continue;
                uint64_t index = (hi >> level) - 1;
                int err = get(arg, level, index, node);
                if (err != 0)
                        return err;
                if (first)
                        memcpy(out, node, SHA256_BYTES);
                else
                        merkle_node(node, out, out);
                first = false;
                hi = index << level;
        }
        return 0;
}

int merkle_root(uint64_t size, merkle_get_fn get, void *arg, uint8_t root[SHA256_BYTES])
{
        if (size == 0) {
                merkle_empty(root);
                return 0;
        }
        return range_root(0, size, get, arg, root);
}

/* Where a tree of n > 1 leaves is split: the largest power of two below n. */
static uint64_t split(uint64_t n)
{
        return UINT64_C(1) << (63 - __builtin_clzll(n - 1));
}

struct path {
        uint8_t (*hashes)[SHA256_BYTES];
        uint32_t count;
        merkle_get_fn get;
        void *arg;
};

static int push(struct path *p, uint64_t lo, uint64_t hi)
{
        assert(p->count < MERKLE_PROOF_MAX);
        return range_root(lo, hi, p->get, p->arg, p->hashes[p->count++]);
}

static void reverse(struct path *p)
{
        for (uint32_t i = 0, j = p->count; i + 1 < j; i++) {
                uint8_t swap[SHA256_BYTES];
                j--;
                memcpy(swap, p->hashes[i], SHA256_BYTES);
                memcpy(p->hashes[i], p->hashes[j], SHA256_BYTES);
                memcpy(p->hashes[j], swap, SHA256_BYTES);
        }
}

int merkle_inclusion(uint64_t index, uint64_t size, merkle_get_fn get, void *arg,
                     uint8_t (*hashes)[SHA256_BYTES], uint32_t *count)
{
        struct path p = {.hashes = hashes, .get = get, .arg = arg};
        uint64_t lo = 0, hi = size;
        int err = 0;
        assert(index < size);
        *count = 0;
        while (err == 0 && hi - lo > 1) {
                uint64_t middle = lo + split(hi - lo);
                if (index < middle) {
                        err = push(&p, middle, hi);
                        hi = middle;
                } else {
                        err = push(&p, lo, middle);
                        lo = middle;
                }
        }
        reverse(&p);
        if (err == 0)
                *count = p.count;
        return err;
}

/* SUBPROOF(m, D[lo:hi], b): `whole` is b, true while D[lo:hi] begins at leaf 0, so that the old
 * root itself is known to who verifies. */
int merkle_consistency(uint64_t from, uint64_t to, merkle_get_fn get, void *arg,
                       uint8_t (*hashes)[SHA256_BYTES], uint32_t *count)
{
        struct path p = {.hashes = hashes, .get = get, .arg = arg};
        uint64_t lo = 0, hi = to;
        bool whole = true;
        int err = 0;
        assert(from > 0 && from <= to);
        *count = 0;
        while (err == 0 && from != hi) {
                uint64_t middle = lo + split(hi - lo);
                if (from <= middle) {
                        err = push(&p, middle, hi);
                        hi = middle;
                } else {
                        err = push(&p, lo, middle);
                        lo = middle;
                        whole = false;
                }
        }
        if (err == 0 && !whole)
                err = push(&p, lo, hi);
        reverse(&p);
        if (err == 0)
                *count = p.count;
        return err;
}

/* --- verifying --- */

bool merkle_verify_inclusion(uint64_t index, uint64_t size, const uint8_t leaf[SHA256_BYTES],
                             const uint8_t (*hashes)[SHA256_BYTES], size_t count,
                             const uint8_t root[SHA256_BYTES])
{
        uint8_t r[SHA256_BYTES];
        if (index >= size)
                return false;
        uint64_t fn = index, sn = size - 1;
        memcpy(r, leaf, sizeof r);
        for (size_t i = 0; i < count; i++) {
                if (sn == 0)
                        return false;
                if ((fn & 1) != 0 || fn == sn) {
                        merkle_node(hashes[i], r, r);
                        while ((fn & 1) == 0 && fn != 0) {
                                fn >>= 1;
                                sn >>= 1;
                        }
                } else {
                        merkle_node(r, hashes[i], r);
                }
                fn >>= 1;
                sn >>= 1;
        }
        return sn == 0 && same(r, root);
}

/* Steps 3..7 of RFC 9162, 2.1.4.2; `start` is the first hash of the path. */
static bool climb(uint64_t fn, uint64_t sn, const uint8_t *start,
                  const uint8_t (*hashes)[SHA256_BYTES], size_t count, const uint8_t *root_from,
                  const uint8_t *root_to)
{
        uint8_t fr[SHA256_BYTES], sr[SHA256_BYTES];
        memcpy(fr, start, sizeof fr);
        memcpy(sr, start, sizeof sr);
        while ((fn & 1) != 0) {
                fn >>= 1;
                sn >>= 1;
        }
        for (size_t i = 0; i < count; i++) {
                if (sn == 0)
                        return false;
                if ((fn & 1) != 0 || fn == sn) {
                        merkle_node(hashes[i], fr, fr);
                        merkle_node(hashes[i], sr, sr);
                        while ((fn & 1) == 0 && fn != 0) {
                                fn >>= 1;
                                sn >>= 1;
                        }
                } else {
                        merkle_node(sr, hashes[i], sr);
                }
                fn >>= 1;
                sn >>= 1;
        }
        return sn == 0 && same(fr, root_from) && same(sr, root_to);
}

bool merkle_verify_consistency(uint64_t from, uint64_t to, const uint8_t (*hashes)[SHA256_BYTES],
                               size_t count, const uint8_t root_from[SHA256_BYTES],
                               const uint8_t root_to[SHA256_BYTES])
{
        if (from == 0 || from > to)
                return false;
        if (from == to)
                return count == 0 && same(root_from, root_to);
        if (count == 0)
                return false;
        if ((from & (from - 1)) == 0) /* the old tree is a node of the new one */
                return climb(from - 1, to - 1, root_from, hashes, count, root_from, root_to);
        return climb(from - 1, to - 1, hashes[0], hashes + 1, count - 1, root_from, root_to);
}

/* --- the frontier --- */

void merkle_frontier_add(struct merkle_frontier *f, const uint8_t leaf[SHA256_BYTES])
{
        uint8_t hash[SHA256_BYTES];
        uint32_t level = 0;
        assert(f->size < UINT64_MAX);
        memcpy(hash, leaf, sizeof hash);
        for (; (f->size >> level & 1) != 0; level++)
                merkle_node(f->node[level], hash, hash);
        memcpy(f->node[level], hash, sizeof hash);
        f->size++;
}

void merkle_frontier_root(const struct merkle_frontier *f, uint8_t root[SHA256_BYTES])
{
        bool first = true;
        if (f->size == 0)
                merkle_empty(root);
        for (uint32_t level = 0; level < 64; level++) {
                if ((f->size >> level & 1) == 0)
                        continue;
                if (first)
                        memcpy(root, f->node[level], SHA256_BYTES);
                else
                        merkle_node(f->node[level], root, root);
                first = false;
        }
}
