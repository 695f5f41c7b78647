/* SPDX-License-Identifier: Apache-2.0
 * test_webhook_secret.c: the published example of Standard Webhooks comes out; a rotation is
 * durable, keeps the old secret for its time and no longer; a file that is damaged is refused and
 * not told. */
#include "daemon/webhook_secret.h"

#include "lib/util/crypto.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FILE_NAME "webhook-x.secret"

static char dir[PATH_SIZE];

static int make_dir(void **state)
{
        const char *tmp = getenv("TMPDIR");
        (void)state;
        if (crypto_init() != 0 ||
            path_format(dir, NULL, "%s/secrets.XXXXXX", tmp != NULL ? tmp : "/tmp") != 0 ||
            mkdtemp(dir) == NULL)
                return -1;
        char keys[PATH_SIZE];
        return path_format(keys, NULL, "%s/keys", dir) | make_dirs(keys, NULL);
}

static int remove_dir(void **state)
{
        (void)state;
        return scrub_tree(dir, NULL);
}

static void write_text(const char *text)
{
        char path[PATH_SIZE];
        assert_int_equal(path_format(path, NULL, "%s/keys/%s", dir, FILE_NAME), 0);
        assert_int_equal(write_file_durably(path, text, strlen(text), NULL), 0);
}

static void drop_file(void)
{
        char path[PATH_SIZE];
        assert_int_equal(path_format(path, NULL, "%s/keys/%s", dir, FILE_NAME), 0);
        assert_int_equal(scrub_and_unlink(path, NULL), 0);
}

static void sign_at(const struct webhook_secrets *s, int64_t now, char out[1024])
{
        static const char body[] = "{\"test\": 2432232314}";
        struct buf b = {0};
        webhook_sign(s, now, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, sizeof body - 1, &b);
        buf_append(&b, "", 1);
        assert_true(!b.failed && b.len <= 1024);
        memcpy(out, b.data, b.len);
        buf_free(&b, false);
}

#define PUBLISHED "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static void the_published_example_comes_out(void **state)
{
        (void)state;
        struct webhook_secrets s;
        struct errinfo e;
        char signature[1024];
        write_text(PUBLISHED "\n");
        assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &s, &e), 0);
        sign_at(&s, 0, signature);
        assert_string_equal(signature, SIGNATURE);
}

static void a_first_secret_is_made_and_found_again(void **state)
{
        (void)state;
        struct webhook_secrets s, again;
        struct errinfo e;
        char one[1024], two[1024];
        drop_file();
        assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &s, &e), 0);
        assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &again, &e), 0);
        sign_at(&s, 0, one);
        sign_at(&again, 0, two);
        assert_string_equal(one, two);
        assert_string_not_equal(one, SIGNATURE);
}

static void the_old_secret_signs_too_until_its_time(void **state)
{
        (void)state;
        struct webhook_secrets s, again;
        struct errinfo e;
        char text[SECRET_TEXT_MAX], both[1024], later[1024];
        write_text(PUBLISHED "\n");
        assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &s, &e), 0);
        assert_int_equal(webhook_secrets_rotate(&s, 5000, 100000, text, &e), 0);
        assert_int_equal(strncmp(text, "whsec_", 6), 0);
        assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &again, &e), 0);
        for (const struct webhook_secrets *w = &s; w != NULL; w = w == &s ? &again : NULL) {
                sign_at(w, 104999, both);
                const char *space = strchr(both, ' ');
                assert_non_null(space);
                assert_string_equal(space + 1, SIGNATURE);
                sign_at(w, 105000, later);
                assert_null(strchr(later, ' '));
                assert_int_equal(strncmp(both, later, strlen(later)), 0);
        }
}

static void without_an_overlap_the_old_secret_ends_at_once(void **state)
{
        (void)state;
        struct webhook_secrets s;
        struct errinfo e;
        char text[SECRET_TEXT_MAX], signature[1024];
        write_text(PUBLISHED "\n");
        assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &s, &e), 0);
        assert_int_equal(webhook_secrets_rotate(&s, 0, 100000, text, &e), 0);
        assert_int_equal(s.count, 1);
        sign_at(&s, 100000, signature);
        assert_string_not_equal(signature, SIGNATURE);
}

static void rotations_never_make_more_secrets_than_a_file_may_hold(void **state)
{
        (void)state;
        struct webhook_secrets s, again;
        struct errinfo e;
        char text[SECRET_TEXT_MAX];
        drop_file();
        assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &s, &e), 0);
        for (int i = 0; i < 10; i++) {
                assert_int_equal(webhook_secrets_rotate(&s, 1000000, 100000 + i, text, &e), 0);
                assert_int_equal(webhook_secrets_open(dir, FILE_NAME, &again, &e), 0);
                assert_int_equal(again.count, i < 3 ? i + 2 : SECRETS_MAX);
        }
}

static void a_damaged_file_is_refused_and_its_text_is_not_told(void **state)
{
        (void)state;
        static const char *const bad[] = {
                "",
                "\n",
                "whsec_",
                "whsec_AAAA",
                "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                PUBLISHED " ",
                PUBLISHED " until",
                PUBLISHED " until yesterday",
                PUBLISHED " until 2026-01-31T09:00:00Z", /* the first has no end */
                PUBLISHED "\n" PUBLISHED " untilx",
                PUBLISHED "\n" PUBLISHED, /* nor have the others none */
                PUBLISHED "\n" PUBLISHED " until 1970-01-01T00:00:00Z",
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
                PUBLISHED "\n" PUBLISHED "\n" PUBLISHED "\n" PUBLISHED "\n" PUBLISHED "\n"};
        struct webhook_secrets s;
        struct errinfo e;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                e = (struct errinfo){0};
                write_text(bad[i]);
                if (webhook_secrets_open(dir, FILE_NAME, &s, &e) != UL_CORRUPT)
                        fail_msg("case %zu", i);
                assert_non_null(strstr(e.detail, FILE_NAME));
                assert_null(strstr(e.detail, "MfKQ9r8G"));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_published_example_comes_out),
                cmocka_unit_test(a_first_secret_is_made_and_found_again),
                cmocka_unit_test(the_old_secret_signs_too_until_its_time),
                cmocka_unit_test(without_an_overlap_the_old_secret_ends_at_once),
                cmocka_unit_test(rotations_never_make_more_secrets_than_a_file_may_hold),
                cmocka_unit_test(a_damaged_file_is_refused_and_its_text_is_not_told),
        };
        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
