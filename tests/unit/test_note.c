/* SPDX-License-Identifier: Apache-2.0
 * test_note.c: signed notes and checkpoints: byte for byte what other implementations make, and no
 * note that was changed, cut or signed by somebody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/merkle.h"
#include "lib/audit/note.h"
#include "lib/util/file.h"
#include "tests/unit/vectors.h"
#include <string.h>

/* The example of golang.org/x/mod/sumdb/note. */
static const char go_vkey[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
static const char go_skey[] = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
static const char go_text[] = "If you think cryptography is the answer to your problem,\n"
                              "then you don't know what your problem is.\n";
static const char go_note[] =
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
        "\n"
        "\xe2\x80\x94 PeterNeumann "
        "x08go/ZJkuBS9UG/"
        "SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

static struct note_key peter(uint8_t seed[SIGN_SEED_BYTES])
{
        uint8_t typed[33], public_key[32];
        struct note_key key;
        assert_int_equal(base64_decode(go_skey, strlen(go_skey), typed, sizeof typed), 33);
        memcpy(seed, typed + 1, 32);
        sign_keypair(seed, public_key);
        assert_int_equal(note_key_make("PeterNeumann", public_key, &key, NULL), 0);
        return key;
}

static struct note_key somebody(uint8_t seed[SIGN_SEED_BYTES], const char *name, uint8_t fill)
{
        uint8_t public_key[32];
        struct note_key key;
        memset(seed, fill, SIGN_SEED_BYTES);
        sign_keypair(seed, public_key);
        assert_int_equal(note_key_make(name, public_key, &key, NULL), 0);
        return key;
}

static void a_note_is_signed_as_other_implementations_sign_it(void **state)
{
        uint8_t seed[32];
        struct note_key key = peter(seed);
        struct buf b = {0};
        size_t text_len = 0;
        (void)state;
        assert_int_equal(note_sign(&key, seed, go_text, strlen(go_text), &b, NULL), 0);
        assert_int_equal(b.len, strlen(go_note));
        assert_memory_equal(b.data, go_note, b.len);
        assert_int_equal(note_verify(go_note, strlen(go_note), &key, &text_len, NULL), 0);
        assert_int_equal(text_len, strlen(go_text));
        buf_free(&b, false);
}

static void a_verifier_key_reads_back_and_is_written_as_others_write_it(void **state)
{
        uint8_t seed[32];
        char vkey[NOTE_VKEY_SIZE], longest[NOTE_NAME_MAX + 1];
        struct note_key key = peter(seed), got;
        (void)state;
        assert_string_equal(note_vkey_format(&key, vkey), go_vkey);
        assert_int_equal(note_vkey_parse(go_vkey, strlen(go_vkey), &got, NULL), 0);
        assert_memory_equal(&got, &key, sizeof key);
        memset(longest, 'n', sizeof longest);
        longest[NOTE_NAME_MAX] = '\0';
        key = somebody(seed, longest, 1);
        note_vkey_format(&key, vkey);
        assert_int_equal(note_vkey_parse(vkey, strlen(vkey), &got, NULL), 0);
        assert_memory_equal(&got, &key, sizeof key);
}

static void a_verifier_key_that_was_changed_is_refused(void **state)
{
        char text[sizeof go_vkey];
        struct note_key got;
        (void)state;
        size_t len = strlen(go_vkey);
        for (size_t i = 0; i < len; i++) {
                for (unsigned bit = 0; bit < 8; bit++) {
                        memcpy(text, go_vkey, sizeof text);
                        text[i] = (char)(text[i] ^ (1 << bit));
                        /* the id's letters may be capitals */
                        bool capital = i >= 13 && i < 21 && bit == 5 && text[i] >= 'A';
                        int err = note_vkey_parse(text, len, &got, NULL);
                        if ((err == 0) != capital)
                                fail_msg("byte %zu bit %u: %d", i, bit, err);
                }
        }
        for (size_t cut = 0; cut < len; cut++)
                assert_int_not_equal(note_vkey_parse(go_vkey, cut, &got, NULL), 0);
        memcpy(text, go_vkey, sizeof text);
        text[22 + 1] = 'h'; /* algorithm 0x02 */
        text[22] = 'A';
        assert_int_not_equal(note_vkey_parse(text, len, &got, NULL), 0);
}

static void names_are_utf8_without_spaces_and_plus(void **state)
{
        static const char *const good[] = {"a", "example.org/log", "\xc3\xa9", "\xf0\x9f\x98\x80"};
        static const char *const bad[] = {
                "",          "a b",          "a+b",          "a\n",          "a\tb",
                "\x7f",      "\xc2\xa0",     "\xe2\x80\x89", "\xe3\x80\x80", "\xc2\x85",
                "\xff",      "\xc0\x80",     "\xed\xa0\x80", "\xe2\x82",     "\xf4\x90\x80\x80",
                "\xe0\x80z", "\xf0\x80\x80", "\x80"};
        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
                assert_true(note_name_valid(good[i], strlen(good[i])));
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                assert_false(note_name_valid(bad[i], strlen(bad[i])));
        assert_false(note_name_valid("a\0b", 3));
}

static void no_note_with_a_flipped_bit_verifies(void **state)
{
        uint8_t seed[32];
        char note[sizeof go_note];
        size_t text_len;
        struct note_key key = peter(seed);
        (void)state;
        size_t len = strlen(go_note);
        for (size_t i = 0; i < len; i++) {
                for (unsigned bit = 0; bit < 8; bit++) {
                        memcpy(note, go_note, len);
                        note[i] = (char)(note[i] ^ (1 << bit));
                        assert_int_not_equal(note_verify(note, len, &key, &text_len, NULL), 0);
                        assert_int_equal(text_len, 0);
                }
        }
        for (size_t cut = 0; cut < len; cut++)
                assert_int_not_equal(note_verify(go_note, cut, &key, &text_len, NULL), 0);
        struct note_key other = somebody(seed, "PeterNeumann", 2);
        assert_int_equal(note_verify(go_note, len, &other, &text_len, NULL), UL_CORRUPT);
}

/* The signature line of a note that `key` made over go_text. */
static void line_of(const struct note_key *key, const uint8_t *seed, struct buf *out)
{
        assert_int_equal(note_sign(key, seed, go_text, strlen(go_text), out, NULL), 0);
        size_t skip = strlen(go_text) + 1;
        memmove(out->data, out->data + skip, out->len - skip);
        out->len -= skip;
}

static int verify_lines(const struct note_key *key, const struct buf *lines, int n)
{
        struct buf b = {0};
        size_t text_len;
        buf_append_str(&b, go_text);
        buf_append_str(&b, "\n");
        for (int i = 0; i < n; i++)
                buf_append(&b, lines[i].data, lines[i].len);
        int err = note_verify((const char *)b.data, b.len, key, &text_len, NULL);
        if (err == 0)
                assert_int_equal(text_len, strlen(go_text));
        buf_free(&b, false);
        return err;
}

static void signatures_of_others_are_passed_over_and_forged_ones_are_not(void **state)
{
        uint8_t seed[32], other_seed[32];
        struct note_key key = peter(seed);
        struct note_key other = somebody(other_seed, "witness.example", 3);
        struct buf lines[3] = {0};
        (void)state;
        line_of(&other, other_seed, &lines[0]);
        line_of(&key, seed, &lines[1]);
        assert_int_equal(verify_lines(&key, lines, 1), UL_CORRUPT);
        assert_int_equal(verify_lines(&key, lines, 2), 0);
        assert_int_equal(verify_lines(&other, lines, 2), 0);
        /* this key's name and id over another key's signature, beside a good one */
        struct note_key forged = key;
        line_of(&forged, other_seed, &lines[2]);
        assert_int_equal(verify_lines(&key, lines, 3), UL_CORRUPT);
        assert_int_equal(verify_lines(&other, lines, 3), 0);
        lines[2].data[0] = '-';
        assert_int_equal(verify_lines(&key, lines, 3), UL_SYNTAX);
        for (int i = 0; i < 3; i++)
                buf_free(&lines[i], false);
}

static void a_note_of_too_many_signatures_is_refused(void **state)
{
        uint8_t seed[32];
        struct note_key key = peter(seed);
        struct buf lines[NOTE_SIGNATURES_MAX + 1] = {0};
        (void)state;
        for (int i = 0; i <= NOTE_SIGNATURES_MAX; i++)
                line_of(&key, seed, &lines[i]);
        assert_int_equal(verify_lines(&key, lines, NOTE_SIGNATURES_MAX), 0);
        assert_int_equal(verify_lines(&key, lines, NOTE_SIGNATURES_MAX + 1), UL_SYNTAX);
        for (int i = 0; i <= NOTE_SIGNATURES_MAX; i++)
                buf_free(&lines[i], false);
}

static void only_clean_text_is_signed(void **state)
{
        static const char *const bad[] = {"",          "no newline", "tab\t\n",
                                          "nul\x01\n", "\xff\n",     "a\r\n"};
        uint8_t seed[32];
        struct note_key key = peter(seed);
        struct buf b = {0};
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                assert_int_equal(note_sign(&key, seed, bad[i], strlen(bad[i]), &b, NULL),
                                 UL_INVALID);
        assert_int_equal(b.len, 0);
        buf_free(&b, false);
}

static void a_text_with_an_empty_line_is_split_at_the_last_one(void **state)
{
        static const char text[] = "first\n\nsecond\n";
        uint8_t seed[32];
        struct note_key key = peter(seed);
        struct buf b = {0};
        size_t text_len = 0;
        (void)state;
        assert_int_equal(note_sign(&key, seed, text, strlen(text), &b, NULL), 0);
        assert_int_equal(note_verify((const char *)b.data, b.len, &key, &text_len, NULL), 0);
        assert_int_equal(text_len, strlen(text));
        buf_free(&b, false);
}

/* --- checkpoints --- */

static void a_checkpoint_reads_back(void **state)
{
        static const uint64_t sizes[] = {0, 1, 9, 10, 1234567, UINT64_MAX};
        uint8_t root[32];
        (void)state;
        memset(root, 0xfb, sizeof root);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct buf b = {0};
                struct checkpoint c;
                checkpoint_format("example.org/log", sizes[i], root, &b);
                assert_int_equal(checkpoint_parse((const char *)b.data, b.len, &c, NULL), 0);
                assert_string_equal(c.origin, "example.org/log");
                assert_true(c.size == sizes[i]);
                assert_memory_equal(c.root, root, sizeof root);
                buf_append_str(&b, "an extension\n");
                assert_int_equal(checkpoint_parse((const char *)b.data, b.len, &c, NULL), 0);
                buf_free(&b, false);
        }
}

static void a_malformed_checkpoint_is_refused(void **state)
{
#define ROOT "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        static const char *const bad[] = {"",
                                          "\n",
                                          "o\n",
                                          "o\n1\n",
                                          "o\n1\n" ROOT,
                                          "\n1\n" ROOT "\n",
                                          "o\n\n" ROOT "\n",
                                          "o\n01\n" ROOT "\n",
                                          "o\n-1\n" ROOT "\n",
                                          "o\n+1\n" ROOT "\n",
                                          "o\n1 \n" ROOT "\n",
                                          "o\n0x1\n" ROOT "\n",
                                          "o\n18446744073709551616\n" ROOT "\n",
                                          "o\n99999999999999999999\n" ROOT "\n",
                                          "o\n111111111111111111111\n" ROOT "\n",
                                          "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuF==\n",
                                          "o\n1\nAAAA\n",
                                          "o\n1\n" ROOT "AAAA\n",
                                          "o\n1\n" ROOT "\n\nx\n",
                                          "o\n1\n" ROOT "\nx"};
        struct checkpoint c;
        (void)state;
        assert_int_equal(checkpoint_parse("o\n1\n" ROOT "\n", strlen("o\n1\n" ROOT "\n"), &c, NULL),
                         0);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (checkpoint_parse(bad[i], strlen(bad[i]), &c, NULL) != UL_SYNTAX)
                        fail_msg("accepted: %s", bad[i]);
}

static void a_checkpoint_of_another_origin_is_refused(void **state)
{
        uint8_t seed[32], root[32] = {0};
        struct note_key key = peter(seed);
        struct checkpoint c;
        (void)state;
        for (int right = 0; right < 2; right++) {
                struct buf text = {0}, note = {0};
                checkpoint_format(right ? "PeterNeumann" : "another.example", 3, root, &text);
                assert_int_equal(
                        note_sign(&key, seed, (const char *)text.data, text.len, &note, NULL), 0);
                assert_int_equal(
                        checkpoint_verify((const char *)note.data, note.len, &key, &c, NULL),
                        right ? 0 : UL_CORRUPT);
                buf_free(&text, false);
                buf_free(&note, false);
        }
}

/* --- a published log --- */

static const char log_vkey[] =
        "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
enum { LOG_SIZE = 15 };

static void read_into(const char *dir, const char *name, struct buf *out)
{
        char path[512];
        (void)snprintf(path, sizeof path, "%s/log/%s", dir, name);
        assert_int_equal(read_file(path, 1 << 20, out, NULL), 0);
}

/* The leaf hashes of the largest entry tile: each entry a big-endian u16 length and the bytes. */
static void hash_entries(const char *dir, uint8_t leaf[LOG_SIZE][32])
{
        struct buf b = {0}, tile = {0};
        read_into(dir, "tile/entries/000.p/15", &b);
        size_t at = 0;
        for (int i = 0; i < LOG_SIZE; i++) {
                assert_true(at + 2 <= b.len);
                size_t len = (size_t)b.data[at] << 8 | b.data[at + 1];
                assert_true(at + 2 + len <= b.len);
                merkle_leaf(b.data + at + 2, len, leaf[i]);
                at += 2 + len;
        }
        assert_int_equal(at, b.len);
        read_into(dir, "tile/0/000.p/15", &tile);
        assert_int_equal(tile.len, LOG_SIZE * 32);
        assert_memory_equal(tile.data, leaf, tile.len);
        buf_free(&b, false);
        buf_free(&tile, false);
}

static void the_checkpoints_of_a_published_log_verify_over_its_entries(void **state)
{
        char dir[256], name[32];
        uint8_t leaf[LOG_SIZE][32], root[32];
        struct merkle_frontier f = {0};
        struct note_key key;
        struct checkpoint c;
        (void)state;
        if (!vectors_unpack("tlog-tiles-log.tar.gz", dir))
                skip();
        assert_int_equal(note_vkey_parse(log_vkey, strlen(log_vkey), &key, NULL), 0);
        hash_entries(dir, leaf);
        unsigned found = 0;
        for (uint64_t size = 0; size <= LOG_SIZE; size++) {
                struct buf b = {0};
                char path[512];
                if (size > 0)
                        merkle_frontier_add(&f, leaf[size - 1]);
                merkle_frontier_root(&f, root);
                (void)snprintf(name, sizeof name, "checkpoint.%u", (unsigned)size);
                (void)snprintf(path, sizeof path, "%s/log/%s", dir, name);
                if (!file_exists(path))
                        continue;
                found++;
                read_into(dir, name, &b);
                assert_int_equal(checkpoint_verify((const char *)b.data, b.len, &key, &c, NULL), 0);
                assert_true(c.size == size);
                assert_memory_equal(c.root, root, sizeof root);
                buf_free(&b, false);
        }
        vectors_remove(dir);
        assert_true(found >= 13);
}

static int init(void **state)
{
        (void)state;
        return crypto_init();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_note_is_signed_as_other_implementations_sign_it),
                cmocka_unit_test(a_verifier_key_reads_back_and_is_written_as_others_write_it),
                cmocka_unit_test(a_verifier_key_that_was_changed_is_refused),
                cmocka_unit_test(names_are_utf8_without_spaces_and_plus),
                cmocka_unit_test(no_note_with_a_flipped_bit_verifies),
                cmocka_unit_test(signatures_of_others_are_passed_over_and_forged_ones_are_not),
                cmocka_unit_test(a_note_of_too_many_signatures_is_refused),
                cmocka_unit_test(only_clean_text_is_signed),
                cmocka_unit_test(a_text_with_an_empty_line_is_split_at_the_last_one),
                cmocka_unit_test(a_checkpoint_reads_back),
                cmocka_unit_test(a_malformed_checkpoint_is_refused),
                cmocka_unit_test(a_checkpoint_of_another_origin_is_refused),
                cmocka_unit_test(the_checkpoints_of_a_published_log_verify_over_its_entries),
        };
        return cmocka_run_group_tests(tests, init, NULL);
}
