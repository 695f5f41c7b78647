/* SPDX-License-Identifier: Apache-2.0
 * test_cosignature.c: what witnesses sign: cosignatures that real ones gave to somebody else's log
 * verify, and nothing that was changed, cut, moved or signed by another does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/cosignature.h"
#include "lib/audit/merkle.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DASH "\xe2\x80\x94 "

/* A checkpoint of a public Certificate Transparency log, with its own two signatures (of other
 * algorithms) and those of three public witnesses, as it was published in May 2026. */
#define CT_TEXT                                                                                    \
        "arche2025h1.staging.ct.transparency.dev\n"                                                \
        "1432088532\n"                                                                             \
        "U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n"
#define CT_LINES                                                                                   \
        DASH "arche2025h1.staging.ct.transparency.dev "                                            \
             "zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2B" \
             "XaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n" DASH "arche2025h1.staging.ct.transparency.dev " \
             "ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry" \
             "1k3ZFWwQ=\n" DASH "transparency.dev/DEV:witness-little-garden "                      \
             "2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/"                                            \
             "KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErum"                                        \
             "C2q44vdgJY096st5BQ==\n" DASH "witness1.smartit.nu/witness1 "                         \
             "pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/"                           \
             "iEcxZ75W3u5hNI7TOQtmJbqmNWV"                                                         \
             "uE0tgh0XwzdZsDsUAQ==\n" DASH "remora.n621.de "                                       \
             "2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/"                               \
             "KSiXCg9DEZI+aVCIobWX9sXTynk5XeU"                                                     \
             "/zZ0WBxtqB0DrAWfBw==\n"
#define GARDEN "transparency.dev/DEV:witness-little-garden+d8042a87+"
static const char *const ct_witnesses[] = {
        GARDEN "BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
        "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
        "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
};
enum { CT_TIME = 1779573024 };

static struct cosigner parsed(const char *vkey)
{
        struct cosigner w;
        struct errinfo e = {0};
        if (cosigner_parse(vkey, strlen(vkey), &w, &e) != 0)
                fail_msg("%s: %s", vkey, e.detail);
        return w;
}

/* A witness of ours: its key is made here, from the specification's text. */
static struct cosigner made(const char *name, const uint8_t seed[SIGN_SEED_BYTES])
{
        uint8_t typed[33] = {4}, digest[SHA256_BYTES];
        char hex[9], base64[45], vkey[NOTE_VKEY_SIZE];
        struct buf b = {0};
        sign_keypair(seed, typed + 1);
        buf_append_str(&b, name);
        buf_append_str(&b, "\n");
        buf_append(&b, typed, sizeof typed);
        sha256(b.data, b.len, digest);
        buf_free(&b, false);
        (void)snprintf(vkey, sizeof vkey, "%s+%s+%s", name, hex_encode(digest, 4, hex),
                       base64_encode(typed, sizeof typed, base64));
        return parsed(vkey);
}

static struct cosignature signed_at(const uint8_t seed[SIGN_SEED_BYTES], uint64_t time,
                                    const char *text)
{
        struct cosignature c = {.time = time};
        struct buf b = {0};
        buf_printf(&b, "cosignature/v1\ntime %" PRIu64 "\n%s", time, text);
        sign_detached(seed, b.data, b.len, c.signature);
        buf_free(&b, false);
        return c;
}

static int find(const char *lines, const char *text, const struct cosigner *w,
                struct cosignature *c)
{
        struct errinfo e = {0};
        int err = cosignature_find(lines, strlen(lines), text, strlen(text), w, c, &e);
        assert_int_equal(e.code, err);
        assert_true(err == 0 || e.detail[0] != '\0');
        return err;
}

static void cosignatures_of_public_witnesses_verify(void **state)
{
        static const char note[] = CT_TEXT "\n" CT_LINES;
        (void)state;
        for (size_t i = 0; i < sizeof ct_witnesses / sizeof ct_witnesses[0]; i++) {
                const struct cosigner w = parsed(ct_witnesses[i]);
                struct cosignature c;
                size_t text_len = 0;
                assert_int_equal(find(CT_LINES, CT_TEXT, &w, &c), 0);
                assert_int_equal(c.time, CT_TIME);
                assert_int_equal(
                        cosignature_find_in_note(note, strlen(note), &w, &c, &text_len, NULL), 0);
                assert_int_equal(text_len, strlen(CT_TEXT));
                assert_int_equal(c.time, CT_TIME);
        }
}

static void what_they_signed_is_written_as_they_wrote_it(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof ct_witnesses / sizeof ct_witnesses[0]; i++) {
                const struct cosigner w = parsed(ct_witnesses[i]);
                struct cosignature c;
                struct buf b = {0};
                assert_int_equal(find(CT_LINES, CT_TEXT, &w, &c), 0);
                cosignature_write(&w, &c, &b);
                buf_append(&b, "", 1);
                assert_non_null(strstr(CT_LINES, (const char *)b.data));
                buf_free(&b, false);
        }
}

static void a_key_reads_back_in_either_form_that_witnesses_publish(void **state)
{
        char out[NOTE_VKEY_SIZE];
        (void)state;
        for (size_t i = 0; i < sizeof ct_witnesses / sizeof ct_witnesses[0]; i++) {
                const struct cosigner w = parsed(ct_witnesses[i]);
                assert_string_equal(cosigner_format(&w, out), ct_witnesses[i]);
        }
        /* the first one's key, as an Ed25519 key of a note */
        const struct cosigner plain = parsed("transparency.dev/DEV:witness-little-garden+4b7fca75+"
                                             "AStusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM");
        assert_string_equal(cosigner_format(&plain, out), ct_witnesses[0]);
}

static void what_is_no_key_of_a_witness_is_refused(void **state)
{
        static const struct {
                const char *vkey;
                int err;
        } bad[] = {
                {"", UL_SYNTAX},
                {"name", UL_SYNTAX},
                {"+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM", UL_SYNTAX},
                {"a b+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM", UL_SYNTAX},
                {"name+d8042a8+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM", UL_SYNTAX},
                {"name+d8042a8x+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM", UL_SYNTAX},
                {"name+d8042a87+", UL_SYNTAX},
                {"name+d8042a87+BCtus", UL_SYNTAX},
                {"name+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM\n", UL_SYNTAX},
                {GARDEN "BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEP\xcd", UL_SYNTAX},
                {GARDEN "BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEA=", UL_UNSUPPORTED}, /* short */
                {GARDEN "BStusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM", UL_UNSUPPORTED},
                {GARDEN "BitusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
                 UL_UNSUPPORTED}, /* ML-DSA */
                {GARDEN "BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPN", UL_CORRUPT},
                {GARDEN "AStusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM", UL_CORRUPT}, /* id of 4 */
                {"another.name+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM", UL_CORRUPT},
        };
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                struct cosigner w;
                struct errinfo e = {0};
                int err = cosigner_parse(bad[i].vkey, strlen(bad[i].vkey), &w, &e);
                if (err != bad[i].err || e.detail[0] == '\0')
                        fail_msg("%s: %d (%s)", bad[i].vkey, err, e.detail);
        }
}

static void no_cosignature_of_another_text_or_key_verifies(void **state)
{
        const struct cosigner w = parsed(ct_witnesses[0]);
        struct cosigner other = w;
        struct cosignature c;
        char text[] = CT_TEXT;
        (void)state;
        for (size_t i = 0; i < strlen(text); i++) {
                text[i] ^= 1;
                assert_int_equal(find(CT_LINES, text, &w, &c), UL_CORRUPT);
                text[i] ^= 1;
        }
        assert_int_equal(find(CT_LINES, CT_TEXT "more\n", &w, &c), UL_CORRUPT);
        other.public_key[0] ^= 1; /* its name and id are still the same */
        assert_int_equal(find(CT_LINES, CT_TEXT, &other, &c), UL_CORRUPT);
        other = w;
        other.id[3] ^= 1;
        assert_int_equal(find(CT_LINES, CT_TEXT, &other, &c), UL_NOT_FOUND);
        other = w;
        other.name[0] ^= 1;
        assert_int_equal(find(CT_LINES, CT_TEXT, &other, &c), UL_NOT_FOUND);
        assert_int_equal(find("", CT_TEXT, &w, &c), UL_NOT_FOUND);
}

static void every_flipped_bit_of_a_cosignature_shows(void **state)
{
        static const uint8_t seed[SIGN_SEED_BYTES] = {3};
        const struct cosigner w = made("witness.example/w1", seed);
        const struct cosignature good = signed_at(seed, 1700000000, CT_TEXT);
        (void)state;
        for (size_t bit = 0; bit < 8 * (size_t)COSIGNATURE_BYTES; bit++) {
                struct cosignature c = good, got;
                struct buf b = {0};
                if (bit < 64)
                        c.time ^= UINT64_C(1) << bit; /* also over 2^63 - 1 */
                else
                        c.signature[(bit - 64) / 8] ^= (uint8_t)(1u << bit % 8);
                cosignature_write(&w, &c, &b);
                buf_append(&b, "", 1);
                assert_int_equal(find((const char *)b.data, CT_TEXT, &w, &got), UL_CORRUPT);
                buf_free(&b, false);
        }
}

static void a_time_past_2_to_the_63_is_refused_though_it_was_signed(void **state)
{
        static const uint8_t seed[SIGN_SEED_BYTES] = {3};
        const struct cosigner w = made("witness.example/w1", seed);
        struct cosignature got;
        (void)state;
        for (int over = 0; over < 2; over++) {
                const struct cosignature c =
                        signed_at(seed, (uint64_t)INT64_MAX + (uint64_t)over, CT_TEXT);
                struct buf b = {0};
                cosignature_write(&w, &c, &b);
                buf_append(&b, "", 1);
                assert_int_equal(find((const char *)b.data, CT_TEXT, &w, &got),
                                 over ? UL_CORRUPT : 0);
                buf_free(&b, false);
        }
        assert_int_equal(
                cosignature_timely(&(struct cosignature){.time = INT64_MAX}, 0, INT64_MAX, NULL),
                0);
}

static void the_newest_of_several_by_one_witness_counts_and_a_forged_one_refuses_all(void **state)
{
        static const uint8_t seed[SIGN_SEED_BYTES] = {3};
        const struct cosigner w = made("witness.example/w1", seed);
        struct cosignature got, c[3] = {signed_at(seed, 5, CT_TEXT), signed_at(seed, 9, CT_TEXT),
                                        signed_at(seed, 7, CT_TEXT)};
        struct buf b = {0};
        (void)state;
        for (int i = 0; i < 3; i++)
                cosignature_write(&w, &c[i], &b);
        buf_append(&b, "", 1);
        assert_int_equal(find((const char *)b.data, CT_TEXT, &w, &got), 0);
        assert_int_equal(got.time, 9);
        b.len--;
        c[0].time++;
        cosignature_write(&w, &c[0], &b);
        buf_append(&b, "", 1);
        assert_int_equal(find((const char *)b.data, CT_TEXT, &w, &got), UL_CORRUPT);
        buf_free(&b, false);
}

/* ML-DSA-44, whose signatures are long, and algorithms to come. */
static void longer_signatures_of_other_keys_are_passed_over(void **state)
{
        static uint8_t long_one[NOTE_SIGNATURE_MAX];
        static const size_t sizes[] = {1, 8 + 2420, 5000, NOTE_SIGNATURE_MAX};
        const struct cosigner w = parsed(ct_witnesses[0]);
        (void)state;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                struct buf b = {0};
                struct cosignature c;
                static const uint8_t id[NOTE_KEY_ID_BYTES] = {1, 2, 3, 4};
                note_signature_write("witness.example/pq", id, long_one, sizes[i], &b);
                buf_append_str(&b, CT_LINES);
                buf_append(&b, "", 1);
                assert_int_equal(find((const char *)b.data, CT_TEXT, &w, &c), 0);
                buf_free(&b, false);
        }
}

static void what_is_not_lines_of_signatures_is_refused(void **state)
{
        static const char *const bad[] = {
                "\n",
                "ok\n",
                CT_LINES "\n",
                CT_LINES "more\n",
                CT_LINES DASH "name",
                DASH "name\n" CT_LINES,
                DASH "na+me AAAAAAAA\n" CT_LINES,
                DASH "name AAAA\n" CT_LINES, /* a key id and no signature */
                DASH "name AAAA AAAA\n" CT_LINES,
                DASH "name !!!!!!!!\n" CT_LINES,
                "- name AAAAAAAA\n" CT_LINES,
                "<html>moved</html>\n",
        };
        const struct cosigner w = parsed(ct_witnesses[0]);
        struct cosignature c;
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                if (find(bad[i], CT_TEXT, &w, &c) != UL_SYNTAX)
                        fail_msg("accepted: %s", bad[i]);
        /* cut anywhere but at a line's end */
        for (size_t len = 1; len < strlen(CT_LINES); len++) {
                int err = cosignature_find(CT_LINES, len, CT_TEXT, strlen(CT_TEXT), &w, &c, NULL);
                assert_true(CT_LINES[len - 1] == '\n' ? err == 0 || err == UL_NOT_FOUND
                                                      : err == UL_SYNTAX);
        }
        struct buf b = {0};
        for (int i = 0; i <= NOTE_SIGNATURES_MAX; i++)
                buf_append_str(&b, DASH "name AAAAAAAA\n");
        assert_int_equal(cosignature_find((const char *)b.data, b.len, CT_TEXT, strlen(CT_TEXT), &w,
                                          &c, NULL),
                         UL_SYNTAX);
        while (b.len <= NOTE_BYTES_MAX)
                buf_append_str(&b, CT_LINES);
        assert_int_equal(cosignature_find((const char *)b.data, b.len, CT_TEXT, strlen(CT_TEXT), &w,
                                          &c, NULL),
                         UL_TOO_LARGE);
        buf_free(&b, false);
}

static void a_cosignature_is_of_the_time_between_its_checkpoint_and_now(void **state)
{
        static const struct {
                uint64_t time;
                int64_t since, now;
                bool timely;
        } cases[] = {
                {1000000, 999000, 1000000, true},
                {1000000 + COSIGNATURE_SKEW_S, 0, 1000000, true},
                {1000001 + COSIGNATURE_SKEW_S, 0, 1000000, false},
                {INT64_MAX, 0, 1000000, false},
                {1000000 - COSIGNATURE_SKEW_S, 1000000, 1000000, true},
                {999999 - COSIGNATURE_SKEW_S, 1000000, 1000000, false},
                {0, 1000000, 1000000, false},
                {0, 0, 1000000, true},
        };
        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                const struct cosignature c = {.time = cases[i].time};
                struct errinfo e = {0};
                int err = cosignature_timely(&c, cases[i].since, cases[i].now, &e);
                assert_int_equal(err, cases[i].timely ? 0 : UL_INVALID);
        }
}

static void a_request_is_the_specifications_own(void **state)
{
        static const char expected[] = "old 20852014\n"
                                       "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
                                       "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
                                       "\n" CT_TEXT "\n" CT_LINES;
        static const char *const proof[] = {"PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=",
                                            "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk="};
        static const char note[] = CT_TEXT "\n" CT_LINES;
        uint8_t hashes[2][SHA256_BYTES];
        struct buf b = {0};
        (void)state;
        for (int i = 0; i < 2; i++)
                assert_int_equal(base64_decode(proof[i], 44, hashes[i], SHA256_BYTES), 32);
        witness_request(20852014, (const uint8_t(*)[SHA256_BYTES])hashes, 2, note, strlen(note),
                        &b);
        assert_int_equal(b.len, strlen(expected));
        assert_memory_equal(b.data, expected, b.len);
        buf_reset(&b, false);
        witness_request(0, NULL, 0, "x", 1, &b);
        assert_memory_equal(b.data, "old 0\n\nx", b.len);
        buf_free(&b, false);
}

static void a_size_is_one_decimal_number_on_a_line(void **state)
{
        static const struct {
                const char *body;
                bool ok;
                uint64_t size;
        } cases[] = {
                {"0\n", true, 0},       {"20852014\n", true, 20852014},
                {"", false, 0},         {"\n", false, 0},
                {"7", false, 0},        {"07\n", false, 0},
                {"7 \n", false, 0},     {"-7\n", false, 0},
                {"7\n\n", false, 0},    {"18446744073709551615\n", true, UINT64_MAX},
                {"7.0\n", false, 0},    {"18446744073709551616\n", false, 0},
                {"0x7\n", false, 0},    {"99999999999999999999999\n", false, 0},
                {"size 7\n", false, 0}, {"7\r\n", false, 0},
        };
        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                uint64_t size = 1;
                bool ok = witness_size(cases[i].body, strlen(cases[i].body), &size);
                if (ok != cases[i].ok || size != cases[i].size)
                        fail_msg("%s: %d %" PRIu64, cases[i].body, ok, size);
        }
}

static int init(void **state)
{
        (void)state;
        return crypto_init();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(cosignatures_of_public_witnesses_verify),
                cmocka_unit_test(what_they_signed_is_written_as_they_wrote_it),
                cmocka_unit_test(a_key_reads_back_in_either_form_that_witnesses_publish),
                cmocka_unit_test(what_is_no_key_of_a_witness_is_refused),
                cmocka_unit_test(no_cosignature_of_another_text_or_key_verifies),
                cmocka_unit_test(every_flipped_bit_of_a_cosignature_shows),
                cmocka_unit_test(a_time_past_2_to_the_63_is_refused_though_it_was_signed),
                cmocka_unit_test(
                        the_newest_of_several_by_one_witness_counts_and_a_forged_one_refuses_all),
                cmocka_unit_test(longer_signatures_of_other_keys_are_passed_over),
                cmocka_unit_test(what_is_not_lines_of_signatures_is_refused),
                cmocka_unit_test(a_cosignature_is_of_the_time_between_its_checkpoint_and_now),
                cmocka_unit_test(a_request_is_the_specifications_own),
                cmocka_unit_test(a_size_is_one_decimal_number_on_a_line),
        };
        return cmocka_run_group_tests(tests, init, NULL);
}
