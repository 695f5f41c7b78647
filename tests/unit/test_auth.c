/* SPDX-License-Identifier: Apache-2.0
 * test_auth.c: tokens, scopes and quotas. */
#include "api/auth.h"
#include "api/http.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/limits.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[128], path[160];
static struct auth *auth;
static struct auth_result result;
static struct errinfo e;

static const char *hash_of(const char *token)
{
        static char hex[2 * SHA256_BYTES + 1];
        uint8_t hash[SHA256_BYTES];
        sha256(token, strlen(token), hash);
        return hex_encode(hash, sizeof hash, hex);
}

static void write_tokens(const char *text)
{
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
        assert_int_equal(fclose(f), 0);
}

static void write_token(const char *name, const char *scopes, const char *token, const char *rest)
{
        char line[512];
        snprintf(line, sizeof line, "%s %s %s %s\n", name, scopes, hash_of(token), rest);
        write_tokens(line);
}

static int open_dir(void **state)
{
        (void)state;
        const char *base = getenv("TMPDIR");
        snprintf(dir, sizeof dir, "%s/authXXXXXX", base != NULL ? base : "/tmp");
        if (crypto_init() != 0 || mkdtemp(dir) == NULL)
                return -1;
        snprintf(path, sizeof path, "%s/tokens", dir);
        return 0;
}

static int remove_dir(void **state)
{
        (void)state;
        unlink(path);
        return rmdir(dir);
}

static int close_auth(void **state)
{
        (void)state;
        clock_use_system();
        auth_close(&auth);
        return 0;
}

static void a_token_gives_its_name_and_scopes_and_nothing_else_does(void **state)
{
        (void)state;
        write_token("nightly-load", "ingest,audit", "secret-1", "# a comment");
        assert_int_equal(auth_open(path, &auth, &e), 0);
        assert_false(auth_is_open(auth));
        assert_int_equal(auth_check(auth, "Bearer secret-1", &result), AUTH_OK);
        assert_string_equal(result.actor, "nightly-load");
        assert_int_equal(result.scopes, SCOPE_INGEST | SCOPE_AUDIT);
        assert_int_equal(result.quota, 0);
        assert_int_equal(auth_check(auth, "bearer   secret-1", &result), AUTH_OK);

        static const char *const none[] = {
                NULL, "", "Bearer", "Bearer ", "Basic secret-1", "secret-1", "Bearersecret-1"};
        for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
                assert_int_equal(auth_check(auth, none[i], &result), AUTH_MISSING);
        static const char *const wrong[] = {"Bearer secret-2", "Bearer secret-1 ", "Bearer secret",
                                            "Bearer secret-1x"};
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
                assert_int_equal(auth_check(auth, wrong[i], &result), AUTH_UNKNOWN);
                assert_int_equal(result.scopes, 0);
                assert_string_equal(result.actor, "");
        }
        /* the hash is not a token */
        char header[128];
        snprintf(header, sizeof header, "Bearer %s", hash_of("secret-1"));
        assert_int_equal(auth_check(auth, header, &result), AUTH_UNKNOWN);
}

static void without_a_file_everything_is_open(void **state)
{
        (void)state;
        assert_int_equal(auth_open("", &auth, &e), 0);
        assert_true(auth_is_open(auth));
        assert_int_equal(auth_check(auth, NULL, &result), AUTH_OK);
        assert_string_equal(result.actor, "anonymous");
        assert_int_equal(result.scopes, SCOPE_ADMIN);
        assert_int_equal(auth_reload(auth, &e), 0);
}

static void a_file_that_is_not_understood_is_refused_with_its_line(void **state)
{
        (void)state;
        char hash[80], line[512];
        snprintf(hash, sizeof hash, "%s", hash_of("x"));
        const struct {
                const char *before, *after;
        } bad[] = {
                {"a ingest", ""},
                {"a nothing ", ""},
                {"a ingest,, ", ""},
                {"a ,ingest ", ""},
                {"a b/c ", ""},
                {"-a ingest ", ""},
                {"\xc3\xa9 ingest ", ""},
                {"a ingest ", "0"},
                {"a ingest ", " rate=1"},
                {"a ingest ", " rate=0/1"},
                {"a ingest ", " rate=1/0"},
                {"a ingest ", " rate=1/1x"},
                {"a ingest ", " quick"},
                {"a ingest ", " rate=1/1 more"},
                {"a ingest ", " rate=99999999999999999999/1"},
                {"a Ingest ", ""},
                {"a234567890123456789012345678901234567890123456789012345678901234 ingest ", ""},
        };
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                snprintf(line, sizeof line, "# first\n\n%s%s%s\n", bad[i].before, hash,
                         bad[i].after);
                write_tokens(line);
                memset(&e, 0, sizeof e);
                assert_int_equal(auth_open(path, &auth, &e), UL_INVALID);
                assert_null(auth);
                assert_non_null(strstr(e.detail, "line 3"));
                assert_null(strstr(e.detail, hash));
        }
        snprintf(line, sizeof line, "a ingest %s\nb audit %s\n", hash, hash);
        write_tokens(line);
        assert_int_equal(auth_open(path, &auth, &e), UL_INVALID);
        write_tokens("# nobody\n");
        assert_int_equal(auth_open(path, &auth, &e), UL_INVALID);
        unlink(path);
        assert_int_equal(auth_open(path, &auth, &e), UL_NOT_FOUND);
}

static void a_reload_that_fails_keeps_the_old_tokens(void **state)
{
        (void)state;
        write_token("old", "audit", "old-token", "");
        assert_int_equal(auth_open(path, &auth, &e), 0);
        write_tokens("rubbish\n");
        assert_int_equal(auth_reload(auth, &e), UL_INVALID);
        assert_int_equal(auth_check(auth, "Bearer old-token", &result), AUTH_OK);
        write_token("new", "audit", "new-token", "");
        assert_int_equal(auth_reload(auth, &e), 0);
        assert_int_equal(auth_check(auth, "Bearer old-token", &result), AUTH_UNKNOWN);
        assert_int_equal(auth_check(auth, "Bearer new-token", &result), AUTH_OK);
}

static void a_quota_ends_and_comes_back_with_the_next_window(void **state)
{
        (void)state;
        write_token("slow", "predict", "t", "rate=2/10");
        assert_int_equal(auth_open(path, &auth, &e), 0);
        clock_use_fixed(1000, 5000000);
        assert_int_equal(auth_check(auth, "Bearer t", &result), AUTH_OK);
        assert_int_equal(result.quota, 2);
        assert_int_equal(result.window_s, 10);
        assert_int_equal(result.remaining, 1);
        assert_int_equal(result.reset_s, 10);
        clock_use_fixed(1000, 5000000 + 9500000);
        assert_int_equal(auth_check(auth, "Bearer t", &result), AUTH_OK);
        assert_int_equal(result.remaining, 0);
        assert_int_equal(auth_check(auth, "Bearer t", &result), AUTH_OVER_QUOTA);
        assert_int_equal(result.remaining, 0);
        assert_int_equal(result.reset_s, 1);
        /* a reload does not give it a new one */
        assert_int_equal(auth_reload(auth, &e), 0);
        assert_int_equal(auth_check(auth, "Bearer t", &result), AUTH_OVER_QUOTA);
        clock_use_fixed(1000, 5000000 + 10000000);
        assert_int_equal(auth_check(auth, "Bearer t", &result), AUTH_OK);
        assert_int_equal(result.remaining, 1);
}

static void the_scope_that_is_missing_is_named(void **state)
{
        (void)state;
        char text[64];
        scopes_describe(SCOPE_ERASE, text, sizeof text);
        assert_string_equal(text, "erase or admin");
        scopes_describe(SCOPE_ADMIN, text, sizeof text);
        assert_string_equal(text, "admin");
        scopes_describe(0x1f, text, sizeof text);
        assert_string_equal(text, "ingest or predict or erase or audit or admin");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_token_gives_its_name_and_scopes_and_nothing_else_does,
                                          close_auth),
                cmocka_unit_test_teardown(without_a_file_everything_is_open, close_auth),
                cmocka_unit_test_teardown(a_file_that_is_not_understood_is_refused_with_its_line,
                                          close_auth),
                cmocka_unit_test_teardown(a_reload_that_fails_keeps_the_old_tokens, close_auth),
                cmocka_unit_test_teardown(a_quota_ends_and_comes_back_with_the_next_window,
                                          close_auth),
                cmocka_unit_test(the_scope_that_is_missing_is_named),
        };
        return cmocka_run_group_tests(tests, open_dir, remove_dir);
}
