/* SPDX-License-Identifier: Apache-2.0
 * test_rsa.c: signatures under a certificate, against openssl: keys and certificates are its own,
 * and what is signed here it verifies. What is no such pair, or out of its time, signs nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/signing/rsa.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/file.h"
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DAY_MS = 24 * 3600 * 1000, FILE_MAX = 1 << 20, THREADS = 4 };
static char dir[64]; /* everything that openssl made, once for all tests */

static const char *at(const char *name)
{
        static char paths[4][PATH_SIZE];
        static unsigned next;
        char *path = paths[next++ % 4];
        assert_int_equal(path_format(path, NULL, "%s/%s", dir, name), 0);
        return path;
}

/* A command of the shell, in the folder. */
static int run(const char *command)
{
        char line[1024];
        int n = snprintf(line, sizeof line, "cd %s && (%s) >/dev/null 2>&1", dir, command);
        assert_true(n > 0 && (size_t)n < sizeof line);
        return system(line);
}

static void must(const char *command)
{
        if (run(command) != 0)
                fail_msg("%s", command);
}

static struct buf contents(const char *path)
{
        struct buf b = {0};
        struct errinfo e = {0};
        if (read_file(path, FILE_MAX, &b, &e) != 0)
                fail_msg("%s", e.detail);
        return b;
}

static void put(const char *name, const void *data, size_t len)
{
        FILE *f = fopen(at(name), "we");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, len, f), len);
        assert_int_equal(fclose(f), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        return remove(path);
}

static int make_identities(void **state)
{
        const char *tmp = getenv("TMPDIR");
        (void)state;
        if (crypto_init() != 0)
                return -1;
        (void)snprintf(dir, sizeof dir, "%.40s/unlearnd-rsa-XXXXXX", tmp != NULL ? tmp : "/tmp");
        if (mkdtemp(dir) == NULL)
                return -1;
        must("openssl genrsa -traditional -out one.key 2048");
        must("openssl genrsa -out two.key 2048");
        must("openssl genrsa -out short.key 1024");
        must("openssl ecparam -name prime256v1 -genkey -noout -out ec.key");
        must("openssl rsa -in one.key -aes128 -passout pass:secret -out locked.key");
        must("openssl rsa -in one.key -outform DER -out der.key");
        must("for k in one two short ec; do openssl req -new -x509 -key $k.key -out $k.pem -days "
             "30 "
             "-subj /CN=$k.example -sha256 || exit 1; done");
        must("openssl x509 -in one.pem -outform DER -out der.pem");
        must("openssl x509 -in one.pem -pubkey -noout > one.pub");
        must("openssl x509 -in two.pem -pubkey -noout > two.pub");
        return 0;
}

static int remove_identities(void **state)
{
        (void)state;
        return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct rsa_signer *signer(const char *key, const char *certificate)
{
        struct rsa_signer *s = NULL;
        struct errinfo e = {0};
        if (rsa_signer_open(at(key), at(certificate), now_ms(), &s, &e) != 0)
                fail_msg("%s", e.detail);
        return s;
}

/* Whether openssl takes the signature of `text` for one by the public key of this file. */
static bool openssl_verifies(const char *pub, const void *text, size_t len, const char *base64)
{
        char command[256];
        uint8_t raw[RSA_BITS_MAX / 8];
        long n = base64_decode(base64, strlen(base64), raw, sizeof raw);
        assert_true(n > 0);
        put("text", text, len);
        put("sig", raw, (size_t)n);
        (void)snprintf(command, sizeof command,
                       "openssl dgst -sha256 -verify %s -signature sig text", pub);
        return run(command) == 0;
}

static void a_signature_is_what_openssl_makes_and_verifies(void **state)
{
        static uint8_t text[100000];
        static const size_t lengths[] = {0, 1, 55, 64, sizeof text};
        struct rsa_signer *s = signer("one.key", "one.pem");
        (void)state;
        random_bytes(text, sizeof text);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
                char out[RSA_SIGNATURE_SIZE], other[RSA_SIGNATURE_SIZE];
                assert_int_equal(rsa_sign(s, text, lengths[i], out, NULL), 0);
                assert_true(openssl_verifies("one.pub", text, lengths[i], out));
                must("openssl dgst -sha256 -sign one.key -out theirs text");
                struct buf theirs = contents(at("theirs"));
                assert_true(base64_size(theirs.len) <= sizeof other);
                assert_string_equal(out, base64_encode(theirs.data, theirs.len, other));
                buf_free(&theirs, false);
        }
        rsa_signer_close(&s);
        assert_null(s);
        rsa_signer_close(&s); /* of nothing: nothing */
}

static void a_signature_is_of_one_text_and_by_one_key(void **state)
{
        struct rsa_signer *s = signer("one.key", "one.pem");
        char out[RSA_SIGNATURE_SIZE];
        (void)state;
        assert_int_equal(rsa_sign(s, "erased", 6, out, NULL), 0);
        assert_true(openssl_verifies("one.pub", "erased", 6, out));
        assert_false(openssl_verifies("two.pub", "erased", 6, out));
        assert_false(openssl_verifies("one.pub", "erasec", 6, out));
        assert_false(openssl_verifies("one.pub", "erased\n", 7, out));
        char *flip = &out[20];
        *flip = *flip == 'A' ? 'B' : 'A';
        assert_false(openssl_verifies("one.pub", "erased", 6, out));
        rsa_signer_close(&s);
}

static void the_certificate_is_given_as_it_was_read_with_its_issuers(void **state)
{
        (void)state;
        must("cat one.pem two.pem > chain.pem");
        static const char *const files[] = {"one.pem", "chain.pem"};
        for (size_t i = 0; i < 2; i++) {
                struct rsa_signer *s = signer("one.key", files[i]);
                struct buf file = contents(at(files[i]));
                size_t len = 0;
                const char *text = rsa_signer_certificate(s, &len);
                assert_int_equal(len, file.len);
                assert_memory_equal(text, file.data, len);
                int64_t left = rsa_signer_expires_ms(s) - now_ms();
                assert_true(left > 29 * (int64_t)DAY_MS && left <= 30 * (int64_t)DAY_MS);
                buf_free(&file, false);
                rsa_signer_close(&s);
        }
}

static void a_certificate_counts_from_its_first_to_before_its_last_moment(void **state)
{
        struct rsa_signer *s = signer("one.key", "one.pem");
        const int64_t end = rsa_signer_expires_ms(s), begin = end - 30 * (int64_t)DAY_MS;
        const struct {
                int64_t now;
                const char *says; /* NULL: it is valid */
        } cases[] = {{begin, NULL},    {begin - 1, "not valid yet"}, {end - 1, NULL},
                     {end, "expired"}, {end + DAY_MS, "expired"},    {0, "not valid yet"}};
        (void)state;
        rsa_signer_close(&s);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                struct errinfo e = {0};
                int err = rsa_signer_open(at("one.key"), at("one.pem"), cases[i].now, &s, &e);
                assert_int_equal(err, cases[i].says == NULL ? 0 : UL_INVALID);
                if (cases[i].says != NULL && strstr(e.detail, cases[i].says) == NULL)
                        fail_msg("%s", e.detail);
                assert_int_equal(s == NULL, err != 0);
                rsa_signer_close(&s);
        }
}

/* Each of them one file that is not what it has to be; the error names it and says why. */
static void what_is_no_key_with_its_certificate_is_refused(void **state)
{
        static const struct {
                const char *key, *certificate;
                int err;
                const char *names, *says;
        } cases[] = {
                {"absent.key", "one.pem", UL_NOT_FOUND, "absent.key", ""},
                {"one.key", "absent.pem", UL_NOT_FOUND, "absent.pem", ""},
                {"empty", "one.pem", UL_INVALID, "empty", "no private key"},
                {"one.key", "empty", UL_INVALID, "empty", "no certificate"},
                {"words", "one.pem", UL_INVALID, "words", "no private key"},
                {"one.key", "words", UL_INVALID, "words", "no certificate"},
                {"one.pem", "one.pem", UL_INVALID, "one.pem", "no private key"},
                {"one.key", "one.key", UL_INVALID, "one.key", "no certificate"},
                {"one.pub", "one.pem", UL_INVALID, "one.pub", "no private key"},
                {"locked.key", "one.pem", UL_INVALID, "locked.key", "encrypted"},
                {"der.key", "one.pem", UL_INVALID, "der.key", "no private key in PEM"},
                {"one.key", "der.pem", UL_INVALID, "der.pem", "no certificate in PEM"},
                {"ec.key", "ec.pem", UL_INVALID, "ec.key", "not RSA"},
                {"short.key", "short.pem", UL_INVALID, "short.key", "less than 2048"},
                {"long.key", "one.pem", UL_INVALID, "long.key", "more than 8192"},
                {"one.key", "two.pem", UL_INVALID, "two.pem", "not the certificate"},
                {"two.key", "one.pem", UL_INVALID, "one.pem", "not the certificate"},
                {"one.key", "ec.pem", UL_INVALID, "ec.pem", "not the certificate"},
                {"cut.key", "one.pem", UL_INVALID, "cut.key", "no private key"},
                {"one.key", "cut.pem", UL_INVALID, "cut.pem", "no certificate"},
                {"one.key", "bad-issuer.pem", UL_INVALID, "bad-issuer.pem", "no certificate"},
                {"one.key", "crowd.pem", UL_INVALID, "crowd.pem", "more than 16"},
                {"huge", "one.pem", UL_INVALID, "huge", "too long"},
                {"one.key", "huge", UL_INVALID, "huge", "too long"},
        };
        (void)state;
        put("empty", "", 0);
        put("words", "-----BEGIN NOTHING-----\n", 24);
        struct buf long_key = contents("tests/data/rsa-8676.pem");
        put("long.key", long_key.data, long_key.len);
        buf_free(&long_key, false);
        must("head -c 900 one.key > cut.key; head -c 600 one.pem > cut.pem");
        must("(cat one.pem; sed '3s/./!/g' two.pem) > bad-issuer.pem");
        must("for i in $(seq 20); do cat one.pem; done > crowd.pem");
        must("(cat one.key one.pem; head -c 300000 /dev/zero) > huge");
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                struct rsa_signer *s = NULL;
                struct errinfo e = {0};
                int err = rsa_signer_open(at(cases[i].key), at(cases[i].certificate), now_ms(), &s,
                                          &e);
                if (err != cases[i].err || s != NULL || strstr(e.detail, cases[i].names) == NULL ||
                    strstr(e.detail, cases[i].says) == NULL)
                        fail_msg("%s with %s: %d: %s", cases[i].key, cases[i].certificate, err,
                                 e.detail);
        }
}

static void no_byte_of_a_key_file_can_be_lost_unseen(void **state)
{
        (void)state;
        struct buf key = contents(at("one.key"));
        for (size_t len = 0; len + 40 < key.len; len += 61) {
                struct rsa_signer *s = NULL;
                put("cut.key", key.data, len);
                assert_int_equal(rsa_signer_open(at("cut.key"), at("one.pem"), now_ms(), &s, NULL),
                                 UL_INVALID);
                assert_null(s);
        }
        buf_free(&key, false);
}

static void *sign_many(void *arg)
{
        char *out = malloc(RSA_SIGNATURE_SIZE);
        for (int i = 0; out != NULL && i < 20; i++)
                if (rsa_sign(arg, "erased", 6, out, NULL) != 0)
                        out[0] = '\0';
        return out;
}

static void many_threads_sign_with_one_key(void **state)
{
        struct rsa_signer *s = signer("one.key", "one.pem");
        pthread_t thread[THREADS];
        char expected[RSA_SIGNATURE_SIZE];
        (void)state;
        assert_int_equal(rsa_sign(s, "erased", 6, expected, NULL), 0);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&thread[i], NULL, sign_many, s), 0);
        for (int i = 0; i < THREADS; i++) {
                void *out = NULL;
                assert_int_equal(pthread_join(thread[i], &out), 0);
                assert_non_null(out);
                assert_string_equal(out, expected);
                free(out);
        }
        rsa_signer_close(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_signature_is_what_openssl_makes_and_verifies),
                cmocka_unit_test(a_signature_is_of_one_text_and_by_one_key),
                cmocka_unit_test(the_certificate_is_given_as_it_was_read_with_its_issuers),
                cmocka_unit_test(a_certificate_counts_from_its_first_to_before_its_last_moment),
                cmocka_unit_test(what_is_no_key_with_its_certificate_is_refused),
                cmocka_unit_test(no_byte_of_a_key_file_can_be_lost_unseen),
                cmocka_unit_test(many_threads_sign_with_one_key),
        };
        return cmocka_run_group_tests(tests, make_identities, remove_identities);
}
