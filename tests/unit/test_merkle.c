/* SPDX-License-Identifier: Apache-2.0
 * test_merkle.c: the tree against RFC 6962's own recursive definitions, every proof of every size
 * up to 130, proofs that were tampered with, and the published vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/merkle.h"
#include "lib/util/err.h"
#include "lib/util/file.h"
#include "lib/util/json.h"
#include "tests/unit/vectors.h"
#include <string.h>

enum { SIZE_MAX_TESTED = 130, LEVELS = 9 };
typedef uint8_t hash[SHA256_BYTES];

/* --- a store in memory --- */

struct memory {
        hash node[LEVELS][SIZE_MAX_TESTED + 1];
        bool has[LEVELS][SIZE_MAX_TESTED + 1];
        unsigned gets;
        int fail_at; /* this get fails; 0: none */
};

static struct memory tree;
static hash leaves[SIZE_MAX_TESTED];

static int get(void *arg, uint32_t level, uint64_t index, uint8_t out[SHA256_BYTES])
{
        struct memory *m = arg;
        assert_true(level < LEVELS && index <= SIZE_MAX_TESTED && m->has[level][index]);
        if (++m->gets == (unsigned)m->fail_at)
                return UL_IO;
        memcpy(out, m->node[level][index], SHA256_BYTES);
        return 0;
}

static int put(void *arg, uint32_t level, uint64_t index, const uint8_t in[SHA256_BYTES])
{
        struct memory *m = arg;
        assert_true(level < LEVELS && index <= SIZE_MAX_TESTED && !m->has[level][index]);
        memcpy(m->node[level][index], in, SHA256_BYTES);
        m->has[level][index] = true;
        return 0;
}

static int grow(void **state)
{
        (void)state;
        if (crypto_init() != 0)
                return -1;
        for (uint64_t i = 0; i < SIZE_MAX_TESTED; i++) {
                uint8_t entry[2] = {(uint8_t)i, 7};
                merkle_leaf(entry, i % 3, leaves[i]);
                if (merkle_append(i, leaves[i], get, put, &tree) != 0)
                        return -1;
        }
        return 0;
}

/* --- RFC 6962, section 2.1, as it is written --- */

static uint64_t rfc_split(uint64_t n)
{
        uint64_t k = 1;
        while (k * 2 < n)
                k *= 2;
        return k;
}

static void rfc_mth(const hash *d, uint64_t n, uint8_t out[SHA256_BYTES])
{
        uint8_t both[1 + 2 * SHA256_BYTES] = {1};
        if (n == 1) {
                memcpy(out, d[0], SHA256_BYTES);
                return;
        }
        uint64_t k = rfc_split(n);
        rfc_mth(d, k, both + 1);
        rfc_mth(d + k, n - k, both + 1 + SHA256_BYTES);
        sha256(both, sizeof both, out);
}

static uint32_t rfc_path(uint64_t m, const hash *d, uint64_t n, hash *out)
{
        if (n == 1)
                return 0;
        uint64_t k = rfc_split(n);
        uint32_t count = m < k ? rfc_path(m, d, k, out) : rfc_path(m - k, d + k, n - k, out);
        if (m < k)
                rfc_mth(d + k, n - k, out[count]);
        else
                rfc_mth(d, k, out[count]);
        return count + 1;
}

static uint32_t rfc_subproof(uint64_t m, const hash *d, uint64_t n, bool b, hash *out)
{
        if (m == n) {
                if (b)
                        return 0;
                rfc_mth(d, n, out[0]);
                return 1;
        }
        uint64_t k = rfc_split(n);
        uint32_t count = m <= k ? rfc_subproof(m, d, k, b, out)
                                : rfc_subproof(m - k, d + k, n - k, false, out);
        if (m <= k)
                rfc_mth(d + k, n - k, out[count]);
        else
                rfc_mth(d, k, out[count]);
        return count + 1;
}

/* --- making --- */

static void the_root_of_every_size_is_the_definitions(void **state)
{
        struct merkle_frontier f = {0};
        hash root, expected, frontier;
        (void)state;
        merkle_empty(expected);
        assert_int_equal(merkle_root(0, get, &tree, root), 0);
        assert_memory_equal(root, expected, sizeof root);
        merkle_frontier_root(&f, frontier);
        assert_memory_equal(frontier, expected, sizeof root);
        for (uint64_t n = 1; n <= SIZE_MAX_TESTED; n++) {
                rfc_mth(leaves, n, expected);
                assert_int_equal(merkle_root(n, get, &tree, root), 0);
                assert_memory_equal(root, expected, sizeof root);
                merkle_frontier_add(&f, leaves[n - 1]);
                merkle_frontier_root(&f, frontier);
                assert_memory_equal(frontier, expected, sizeof root);
        }
}

static void every_inclusion_proof_is_the_definitions_and_verifies(void **state)
{
        hash root, proof[MERKLE_PROOF_MAX], expected[MERKLE_PROOF_MAX];
        uint32_t count;
        (void)state;
        for (uint64_t n = 1; n <= SIZE_MAX_TESTED; n++) {
                rfc_mth(leaves, n, root);
                for (uint64_t i = 0; i < n; i++) {
                        assert_int_equal(merkle_inclusion(i, n, get, &tree, proof, &count), 0);
                        assert_int_equal(count, rfc_path(i, leaves, n, expected));
                        assert_memory_equal(proof, expected, count * sizeof(hash));
                        assert_true(merkle_verify_inclusion(i, n, leaves[i], proof, count, root));
                }
        }
}

static void every_consistency_proof_is_the_definitions_and_verifies(void **state)
{
        hash from, to, proof[MERKLE_PROOF_MAX], expected[MERKLE_PROOF_MAX];
        uint32_t count;
        (void)state;
        for (uint64_t n = 1; n <= SIZE_MAX_TESTED; n++) {
                rfc_mth(leaves, n, to);
                for (uint64_t m = 1; m <= n; m++) {
                        rfc_mth(leaves, m, from);
                        assert_int_equal(merkle_consistency(m, n, get, &tree, proof, &count), 0);
                        assert_int_equal(count, rfc_subproof(m, leaves, n, true, expected));
                        assert_memory_equal(proof, expected, count * sizeof(hash));
                        assert_true(merkle_verify_consistency(m, n, proof, count, from, to));
                }
        }
}

static void a_proof_costs_a_logarithm_of_gets_and_an_append_a_constant(void **state)
{
        hash proof[MERKLE_PROOF_MAX];
        uint32_t count;
        (void)state;
        tree.gets = 0;
        assert_int_equal(merkle_inclusion(63, 127, get, &tree, proof, &count), 0);
        assert_true(tree.gets <= 2 * 7);
        static struct memory again;
        for (uint64_t i = 0; i < 128; i++)
                assert_int_equal(merkle_append(i, leaves[i], get, put, &again), 0);
        assert_int_equal(again.gets, 127);
}

static void a_node_that_cannot_be_read_ends_every_maker(void **state)
{
        hash proof[MERKLE_PROOF_MAX];
        uint32_t count;
        (void)state;
        for (int n = 1; n <= 3; n++) {
                tree.fail_at = n;
                tree.gets = 0;
                assert_int_equal(merkle_root(127, get, &tree, proof[0]), UL_IO);
                tree.gets = 0;
                assert_int_equal(merkle_inclusion(5, 127, get, &tree, proof, &count), UL_IO);
                assert_int_equal(count, 0);
                tree.gets = 0;
                assert_int_equal(merkle_consistency(70, 127, get, &tree, proof, &count), UL_IO);
                assert_int_equal(count, 0);
        }
        tree.fail_at = 0;
}

/* --- refusing --- */

static void flip(uint8_t *h, unsigned bit)
{
        h[bit / 8] ^= (uint8_t)(1u << (bit % 8));
}

/* Which bits of each hash are flipped: all for small trees, else one that moves. */
static unsigned step(uint64_t n)
{
        return n <= 12 ? 1 : 256;
}

static void refuse_flipped_inclusion(uint64_t i, uint64_t n, hash *proof, uint32_t count,
                                     uint8_t *root)
{
        for (unsigned bit = (unsigned)(i * 7 + n) % step(n); bit < 256; bit += step(n)) {
                for (uint32_t h = 0; h < count; h++) {
                        flip(proof[h], bit);
                        assert_false(merkle_verify_inclusion(i, n, leaves[i], proof, count, root));
                        flip(proof[h], bit);
                }
                flip(root, bit);
                assert_false(merkle_verify_inclusion(i, n, leaves[i], proof, count, root));
                flip(root, bit);
                flip(leaves[i], bit);
                assert_false(merkle_verify_inclusion(i, n, leaves[i], proof, count, root));
                flip(leaves[i], bit);
        }
}

static void no_inclusion_proof_with_a_flipped_bit_verifies(void **state)
{
        hash root, proof[MERKLE_PROOF_MAX];
        uint32_t count;
        (void)state;
        for (uint64_t n = 1; n <= SIZE_MAX_TESTED; n++) {
                rfc_mth(leaves, n, root);
                for (uint64_t i = 0; i < n; i++) {
                        assert_int_equal(merkle_inclusion(i, n, get, &tree, proof, &count), 0);
                        refuse_flipped_inclusion(i, n, proof, count, root);
                        for (uint64_t other = 0; other <= n; other++)
                                assert_true(merkle_verify_inclusion(other, n, leaves[i], proof,
                                                                    count, root) == (other == i));
                        assert_false(
                                merkle_verify_inclusion(i, n, leaves[i], proof, count + 1, root));
                        if (count > 0) {
                                assert_false(merkle_verify_inclusion(i, n, leaves[i], proof,
                                                                     count - 1, root));
                                assert_false(merkle_verify_inclusion(i, n, leaves[i], proof + 1,
                                                                     count - 1, root));
                        }
                        assert_false(merkle_verify_inclusion(i, 0, leaves[i], proof, count, root));
                }
        }
}

static void refuse_flipped_consistency(uint64_t m, uint64_t n, hash *proof, uint32_t count,
                                       uint8_t *from, uint8_t *to)
{
        for (unsigned bit = (unsigned)(m * 7 + n) % step(n); bit < 256; bit += step(n)) {
                for (uint32_t h = 0; h < count; h++) {
                        flip(proof[h], bit);
                        assert_false(merkle_verify_consistency(m, n, proof, count, from, to));
                        flip(proof[h], bit);
                }
                flip(from, bit);
                assert_false(merkle_verify_consistency(m, n, proof, count, from, to));
                flip(from, bit);
                flip(to, bit);
                assert_false(merkle_verify_consistency(m, n, proof, count, from, to));
                flip(to, bit);
        }
}

static void no_consistency_proof_with_a_flipped_bit_verifies(void **state)
{
        hash from, to, proof[MERKLE_PROOF_MAX];
        uint32_t count;
        (void)state;
        for (uint64_t n = 1; n <= SIZE_MAX_TESTED; n++) {
                rfc_mth(leaves, n, to);
                for (uint64_t m = 1; m <= n; m++) {
                        rfc_mth(leaves, m, from);
                        assert_int_equal(merkle_consistency(m, n, get, &tree, proof, &count), 0);
                        refuse_flipped_consistency(m, n, proof, count, from, to);
                        assert_false(merkle_verify_consistency(m, n, proof, count + 1, from, to));
                        if (count > 0)
                                assert_false(merkle_verify_consistency(m, n, proof, count - 1, from,
                                                                       to));
                        if (m != n)
                                assert_false(
                                        merkle_verify_consistency(n, m, proof, count, to, from));
                        assert_false(merkle_verify_consistency(0, n, proof, count, from, to));
                }
        }
}

/* --- published vectors --- */

static unsigned checked;

/* Some roots of the consistency vectors are words, not hashes: padded, they compare as before. */
static bool decode(const struct json *v, uint8_t out[SHA256_BYTES], bool exact)
{
        uint8_t raw[64] = {0};
        const char *text = v != NULL ? json_string(v) : NULL;
        long n = text != NULL ? base64_decode(text, strlen(text), raw, sizeof raw) : -1;
        memcpy(out, raw, SHA256_BYTES);
        return exact ? n == SHA256_BYTES : n >= 0 && n <= SHA256_BYTES;
}

static bool decode_proof(const struct json *v, hash *out, size_t *count)
{
        *count = 0;
        for (const struct json *h = v != NULL && json_type_of(v) == JSON_ARRAY ? json_first(v)
                                                                               : NULL;
             h != NULL; h = json_next(h)) {
                if (*count == MERKLE_PROOF_MAX || !decode(h, out[*count], true))
                        return false;
                ++*count;
        }
        return true;
}

static uint64_t number(const struct json *doc, const char *key, bool *ok)
{
        int64_t v = 0;
        *ok = json_integer(json_get(doc, key), 0, INT64_MAX, &v) && *ok;
        return (uint64_t)v;
}

static int check_vector(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        struct buf b = {0};
        struct json *doc = NULL;
        hash proof[MERKLE_PROOF_MAX], a, r;
        size_t count;
        bool ok = true;
        (void)st;
        (void)ftw;
        if (type != FTW_F || strstr(path, ".json") == NULL)
                return 0;
        assert_int_equal(read_file(path, 1 << 20, &b, NULL), 0);
        assert_int_equal(json_parse((const char *)b.data, b.len, &doc, NULL), 0);
        ok = decode_proof(json_get(doc, "proof"), proof, &count);
        bool inclusion = json_get(doc, "leafHash") != NULL;
        if (inclusion) {
                uint64_t index = number(doc, "leafIdx", &ok), size = number(doc, "treeSize", &ok);
                ok = decode(json_get(doc, "leafHash"), a, true) && ok;
                ok = decode(json_get(doc, "root"), r, true) && ok;
                ok = ok && merkle_verify_inclusion(index, size, a, proof, count, r);
        } else {
                uint64_t from = number(doc, "size1", &ok), to = number(doc, "size2", &ok);
                ok = decode(json_get(doc, "root1"), a, false) && ok;
                ok = decode(json_get(doc, "root2"), r, false) && ok;
                ok = ok && merkle_verify_consistency(from, to, proof, count, a, r);
        }
        if (ok == json_is_true(json_get(doc, "wantErr")))
                fail_msg("%s: %s", path, ok ? "verified" : "was refused");
        checked++;
        json_free(&doc);
        buf_free(&b, false);
        return 0;
}

static void the_published_vectors_hold_and_fail_as_they_say(void **state)
{
        char dir[256];
        (void)state;
        if (!vectors_unpack("merkle-proofs.tar.gz", dir))
                skip();
        checked = 0;
        int rc = nftw(dir, check_vector, 16, FTW_PHYS);
        vectors_remove(dir);
        assert_int_equal(rc, 0);
        assert_true(checked > 150);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_root_of_every_size_is_the_definitions),
                cmocka_unit_test(every_inclusion_proof_is_the_definitions_and_verifies),
                cmocka_unit_test(every_consistency_proof_is_the_definitions_and_verifies),
                cmocka_unit_test(a_proof_costs_a_logarithm_of_gets_and_an_append_a_constant),
                cmocka_unit_test(a_node_that_cannot_be_read_ends_every_maker),
                cmocka_unit_test(no_inclusion_proof_with_a_flipped_bit_verifies),
                cmocka_unit_test(no_consistency_proof_with_a_flipped_bit_verifies),
                cmocka_unit_test(the_published_vectors_hold_and_fail_as_they_say),
        };
        return cmocka_run_group_tests(tests, grow, NULL);
}
