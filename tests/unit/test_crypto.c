/* SPDX-License-Identifier: Apache-2.0
 * test_crypto.c: published vectors, and golden values of what must never change: the pseudonyms
 * that are on disk and the random stream that places and trains (DESIGN.md, invariants 1 and 2).
 * The golden values were computed by a second implementation, from RFC 7693 and RFC 8439. */
#include "lib/util/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

static const uint8_t *counting_key(void)
{
        static uint8_t key[KEY_BYTES];
        for (uint8_t i = 0; i < KEY_BYTES; i++)
                key[i] = i;
        return key;
}

static void assert_hex(const void *data, size_t len, const char *expected)
{
        char text[200];
        assert_true(2 * len < sizeof text);
        assert_string_equal(hex_encode(data, len, text), expected);
}

static void sha256_gives_the_published_values(void **state)
{
        (void)state;
        uint8_t d[SHA256_BYTES];
        sha256("", 0, d);
        assert_hex(d, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        sha256(NULL, 0, d);
        assert_hex(d, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        sha256("abc", 3, d);
        assert_hex(d, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void sha256_of_parts_is_that_of_the_whole(void **state)
{
        (void)state;
        uint8_t data[300], whole[SHA256_BYTES], parts[SHA256_BYTES];
        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (uint8_t)(i * 31);
        sha256(data, sizeof data, whole);
        for (size_t cut = 0; cut <= sizeof data; cut++) {
                struct sha256_state s, clean;
                memset(&clean, 0, sizeof clean);
                sha256_begin(&s);
                sha256_add(&s, data, cut);
                sha256_add(&s, NULL, 0);
                sha256_add(&s, data + cut, sizeof data - cut);
                sha256_end(&s, parts);
                assert_memory_equal(whole, parts, sizeof whole);
                assert_memory_equal(&s, &clean, sizeof s);
        }
}

static void a_keyed_hash_is_blake2b(void **state)
{
        (void)state;
        uint8_t d[64];
        keyed_hash(counting_key(), "abc", 3, d, 64);
        assert_hex(d, 64,
                   "9af0244b7da7fe29d90a89727e06a0c93977ce1ad7edcb76ac0b24142194ea00"
                   "c77be4a1d3fededd31d5a593625a508e742fc90d708f8b48a5c246e4e8e42d94");
        uint8_t shorter[32];
        keyed_hash(counting_key(), "abc", 3, shorter, 32);
        assert_memory_not_equal(d, shorter, 32); /* the length is part of the hash */
}

static void a_pseudonym_has_its_golden_value(void **state)
{
        (void)state;
        uint8_t p[PSEUDONYM_BYTES], q[PSEUDONYM_BYTES];
        pseudonym_of(counting_key(), "alice@example.org", 17, p);
        assert_hex(p, sizeof p, "2d048562f185a78fc672c1d8ea5c53b4");
        uint8_t other[KEY_BYTES] = {1};
        pseudonym_of(other, "alice@example.org", 17, q);
        assert_memory_not_equal(p, q, sizeof p);
}

/* RFC 8032, 7.1, test 1: the empty message. */
static void signatures_give_the_published_values(void **state)
{
        (void)state;
        uint8_t seed[32], key[32], sig[64];
        assert_int_equal(
                hex_decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", 64,
                           seed, sizeof seed),
                32);
        sign_keypair(seed, key);
        assert_hex(key, 32, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        sign_detached(seed, "", 0, sig);
        assert_hex(sig, 64,
                   "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
                   "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
        assert_true(sign_verify(key, "", 0, sig));
}

static void a_signature_fails_for_anything_that_was_not_signed(void **state)
{
        (void)state;
        uint8_t seed[32], key[32], sig[64];
        random_bytes(seed, sizeof seed);
        sign_keypair(seed, key);
        sign_detached(seed, "message", 7, sig);
        assert_true(sign_verify(key, "message", 7, sig));
        assert_false(sign_verify(key, "messagE", 7, sig));
        assert_false(sign_verify(key, "message", 6, sig));
        for (size_t i = 0; i < sizeof sig; i++) {
                sig[i] ^= 1;
                assert_false(sign_verify(key, "message", 7, sig));
                sig[i] ^= 1;
        }
        key[0] ^= 1;
        assert_false(sign_verify(key, "message", 7, sig));
}

static void the_stream_has_its_golden_values(void **state)
{
        (void)state;
        const uint64_t words[] = {1, 2, UINT64_C(0x123456789abcdef0)};
        struct prng p;
        uint32_t v[1024];
        prng_init(&p, counting_key(), words, 3);
        for (size_t i = 0; i < 1024; i++)
                v[i] = prng_u32(&p);
        assert_int_equal(v[0], 0x1849f987);
        assert_int_equal(v[1], 0x02d124d3);
        assert_int_equal(v[2], 0xa8dc4d84);
        assert_int_equal(v[3], 0x5bda9987);
        /* over the seam of the pool of 256 numbers */
        assert_int_equal(v[255], 0x48468409);
        assert_int_equal(v[256], 0xdeddaf8d);
        assert_int_equal(v[257], 0x51051171);
        assert_int_equal(v[1023], 0x3c48473e);
        prng_init(&p, counting_key(), NULL, 0);
        assert_int_equal(prng_u32(&p), 0x0dbd7442);
}

static void bounded_numbers_and_floats_have_their_golden_values(void **state)
{
        (void)state;
        const uint64_t words[] = {1, 2, UINT64_C(0x123456789abcdef0)};
        static const uint32_t small[] = {94, 11, 659, 358, 581, 610, 120, 919};
        /* a bound near 3/4 of 2^32 makes every fourth draw be thrown away */
        static const uint32_t large[] = {284636293,  33011345,  1978834662, 1743236728,
                                         1830779334, 360216016, 2757324540, 2408493578};
        struct prng p;
        prng_init(&p, counting_key(), words, 3);
        for (size_t i = 0; i < 8; i++)
                assert_int_equal(prng_below(&p, 1000), small[i]);
        prng_init(&p, counting_key(), words, 3);
        for (size_t i = 0; i < 8; i++)
                assert_int_equal(prng_below(&p, 3000000001U), large[i]);
        prng_init(&p, counting_key(), words, 3);
        assert_true(prng_float(&p) == 0.09487873315811157F);
        assert_true(prng_float(&p) == 0.011003732681274414F);
        assert_true(prng_float(&p) == 0.6596115231513977F);
}

static void other_words_give_another_stream(void **state)
{
        (void)state;
        const uint64_t a[] = {1, 2}, b[] = {2, 1}, c[] = {1, 2, 0};
        uint32_t first[4];
        struct prng p;
        prng_init(&p, counting_key(), a, 2);
        first[0] = prng_u32(&p);
        prng_init(&p, counting_key(), b, 2);
        first[1] = prng_u32(&p);
        prng_init(&p, counting_key(), c, 3);
        first[2] = prng_u32(&p);
        prng_init(&p, counting_key(), a, 1);
        first[3] = prng_u32(&p);
        for (int i = 0; i < 4; i++) {
                for (int k = 0; k < i; k++)
                        assert_int_not_equal(first[i], first[k]);
        }
}

static void bounded_numbers_are_uniform(void **state)
{
        (void)state;
        enum { BINS = 7, DRAWS = 700000 };
        uint32_t count[BINS] = {0};
        struct prng p;
        prng_init(&p, counting_key(), NULL, 0);
        for (int i = 0; i < DRAWS; i++)
                count[prng_below(&p, BINS)]++;
        double chi2 = 0;
        for (int i = 0; i < BINS; i++) {
                double off = (double)count[i] - DRAWS / BINS;
                chi2 += off * off / (DRAWS / BINS);
        }
        assert_true(chi2 < 22.5); /* 6 degrees of freedom: p = 0.001 */
        for (int i = 0; i < 100; i++)
                assert_int_equal(prng_below(&p, 1), 0);
        /* A modulo in place of rejection would hit the lower half twice as often. */
        uint32_t low = 0;
        for (int i = 0; i < 100000; i++)
                low += prng_below(&p, 0xC0000000U) < 0x60000000U;
        assert_in_range(low, 49000, 51000);
}

static void floats_stay_below_one(void **state)
{
        (void)state;
        struct prng p;
        prng_init(&p, counting_key(), NULL, 0);
        double sum = 0;
        for (int i = 0; i < 100000; i++) {
                float v = prng_float(&p);
                assert_true(v >= 0 && v < 1);
                sum += (double)v;
        }
        assert_true(sum > 49500 && sum < 50500);
}

static void hex_goes_both_ways(void **state)
{
        (void)state;
        uint8_t all[256], back[256];
        char text[513];
        for (size_t i = 0; i < 256; i++)
                all[i] = (uint8_t)i;
        hex_encode(all, 256, text);
        assert_int_equal(strlen(text), 512);
        assert_int_equal(hex_decode(text, 512, back, 256), 256);
        assert_memory_equal(all, back, 256);
        assert_int_equal(hex_decode("aBcD", 4, back, 2), 2);
        assert_memory_equal(back, "\xab\xcd", 2);
        assert_string_equal(hex_encode(NULL, 0, text), "");
        assert_int_equal(hex_decode("", 0, back, 0), 0);
}

static void bad_hex_is_refused(void **state)
{
        (void)state;
        uint8_t out[8];
        assert_int_equal(hex_decode("abc", 3, out, 8), -1);
        assert_int_equal(hex_decode("0g", 2, out, 8), -1);
        assert_int_equal(hex_decode("0x12", 4, out, 8), -1);
        assert_int_equal(hex_decode(" 12", 3, out, 8), -1);
        assert_int_equal(hex_decode("12:34", 5, out, 8), -1);
        assert_int_equal(hex_decode("112233", 6, out, 2), -1);
        assert_int_equal(hex_decode("1\0", 2, out, 8), -1);
}

/* RFC 4648, section 10. */
static void base64_gives_the_published_values(void **state)
{
        (void)state;
        static const char *const texts[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                            "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
        for (size_t n = 0; n <= 6; n++) {
                char text[16];
                uint8_t back[8];
                assert_string_equal(base64_encode("foobar", n, text), texts[n]);
                assert_int_equal(base64_size(n), strlen(texts[n]) + 1);
                assert_int_equal(base64_decode(text, strlen(text), back, n), (long)n);
                assert_memory_equal(back, "foobar", n);
        }
        char text[16];
        assert_string_equal(base64_encode("\xFB\xFF\xBF", 3, text), "+/+/");
}

static void base64_is_strict(void **state)
{
        (void)state;
        static const char *const wrong[] = {
                "Zg", "Zg=",  "Zg===", "Zh==",     "Zm9=",  "Zm9v\n",   "Zm 9v", "-_-_",
                "=",  "====", "Z===",  "Zg==Zg==", "Zm9v=", "Zm9v====", "Zg==A", "Zg==AAA"};
        uint8_t out[16];
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                if (base64_decode(wrong[i], strlen(wrong[i]), out, sizeof out) != -1)
                        fail_msg("accepted: %s", wrong[i]);
        }
        assert_int_equal(base64_decode("Zm9v", 4, out, 2), -1);
        assert_int_equal(base64_decode("Zm9v\0", 5, out, 16), -1);
        assert_int_equal(base64_decode("Zg=\0", 4, out, 16), -1);
}

static void wiping_and_comparing_do_what_they_say(void **state)
{
        (void)state;
        char a[32] = "secret", b[32] = "secret";
        assert_true(equal_ct(a, b, sizeof a));
        b[31] = 1;
        assert_false(equal_ct(a, b, sizeof a));
        assert_true(equal_ct(NULL, NULL, 0));
        wipe(a, 3);
        assert_memory_equal(a, "\0\0\0ret", 7);
        wipe(NULL, 0);
        uint8_t x[32], y[32];
        random_bytes(x, sizeof x);
        random_bytes(y, sizeof y);
        assert_memory_not_equal(x, y, sizeof x);
}

static int init(void **state)
{
        (void)state;
        return crypto_init() != 0 || crypto_init() != 0; /* a second call is harmless */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sha256_gives_the_published_values),
                cmocka_unit_test(sha256_of_parts_is_that_of_the_whole),
                cmocka_unit_test(a_keyed_hash_is_blake2b),
                cmocka_unit_test(a_pseudonym_has_its_golden_value),
                cmocka_unit_test(signatures_give_the_published_values),
                cmocka_unit_test(a_signature_fails_for_anything_that_was_not_signed),
                cmocka_unit_test(the_stream_has_its_golden_values),
                cmocka_unit_test(bounded_numbers_and_floats_have_their_golden_values),
                cmocka_unit_test(other_words_give_another_stream),
                cmocka_unit_test(bounded_numbers_are_uniform),
                cmocka_unit_test(floats_stay_below_one),
                cmocka_unit_test(hex_goes_both_ways),
                cmocka_unit_test(bad_hex_is_refused),
                cmocka_unit_test(base64_gives_the_published_values),
                cmocka_unit_test(base64_is_strict),
                cmocka_unit_test(wiping_and_comparing_do_what_they_say),
        };
        return cmocka_run_group_tests(tests, init, NULL);
}
