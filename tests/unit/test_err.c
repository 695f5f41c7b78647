/* SPDX-License-Identifier: Apache-2.0
 * test_err.c: what err.h promises: bounded texts, whole characters, and the mapping of errno. */
#include "lib/util/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

static void a_failure_returns_its_code_and_fills_the_text(void **state)
{
        (void)state;
        struct errinfo e;
        memset(&e, 0xAA, sizeof e);
        assert_int_equal(ul_fail(&e, UL_CONFLICT, "shard %d is busy", 3), UL_CONFLICT);
        assert_int_equal(e.code, UL_CONFLICT);
        assert_string_equal(e.detail, "shard 3 is busy");
        assert_string_equal(e.field, "");
        assert_int_equal(e.retry_after_s, 0);
        assert_int_equal(ul_fail_field(&e, UL_INVALID, "/hidden/0", "must be %s", "positive"),
                         UL_INVALID);
        assert_string_equal(e.field, "/hidden/0");
        assert_string_equal(e.detail, "must be positive");
}

static void a_caller_without_errinfo_still_gets_the_code(void **state)
{
        (void)state;
        errno = EIO;
        assert_int_equal(ul_fail(NULL, UL_BUSY, "x"), UL_BUSY);
        assert_int_equal(ul_fail_field(NULL, UL_INVALID, "/a", "x"), UL_INVALID);
        assert_int_equal(ul_fail_errno(NULL, "x"), UL_IO);
}

static void long_texts_are_cut_and_terminated(void **state)
{
        (void)state;
        char text[1000];
        struct errinfo e;
        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        ul_fail_field(&e, UL_INVALID, text, "%s", text);
        assert_int_equal(strlen(e.field), ERRINFO_FIELD_MAX - 1);
        assert_int_equal(strlen(e.detail), ERRINFO_DETAIL_MAX - 1);
}

/* Whatever the alignment of the cut, no character is split. */
static void a_cut_never_splits_a_character(void **state)
{
        (void)state;
        const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
        for (size_t c = 0; c < 3; c++) {
                size_t width = strlen(characters[c]);
                for (size_t shift = 0; shift < width; shift++) {
                        char text[1024] = "xxxx";
                        text[shift] = '\0';
                        for (size_t n = shift; n + width < sizeof text; n += width)
                                memcpy(text + n, characters[c], width + 1);
                        struct errinfo e;
                        ul_fail_field(&e, UL_INVALID, text, "%s", text);
                        assert_int_equal((strlen(e.field) - shift) % width, 0);
                        assert_int_equal((strlen(e.detail) - shift) % width, 0);
                        assert_true(strlen(e.field) + width >= ERRINFO_FIELD_MAX);
                }
        }
}

static void an_error_may_be_wrapped_in_itself(void **state)
{
        (void)state;
        struct errinfo e;
        ul_fail_field(&e, UL_INVALID, "/a", "inner");
        ul_fail_field(&e, UL_INVALID, e.field, "outer: %s", e.detail);
        assert_string_equal(e.detail, "outer: inner");
        assert_string_equal(e.field, "/a");
}

static void errno_maps_to_the_codes_that_differ_for_a_client(void **state)
{
        (void)state;
        static const struct {
                int error;
                int code;
        } cases[] = {{ENOSPC, UL_NOSPACE}, {EDQUOT, UL_NOSPACE}, {ENOMEM, UL_NOMEM},
                     {EIO, UL_IO},         {EACCES, UL_IO},      {ENOENT, UL_IO}};
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct errinfo e;
                char expected[ERRINFO_DETAIL_MAX];
                errno = cases[i].error;
                assert_int_equal(ul_fail_errno(&e, "cannot write"), cases[i].code);
                assert_int_equal(errno, cases[i].error);
                snprintf(expected, sizeof expected, "cannot write: %s", strerror(cases[i].error));
                assert_string_equal(e.detail, expected);
        }
}

static void every_code_has_its_own_name(void **state)
{
        (void)state;
        for (int a = UL_GONE; a <= UL_OK; a++) {
                assert_non_null(ul_err_name(a));
                assert_string_not_equal(ul_err_name(a), "unknown");
                for (int b = UL_GONE; b < a; b++)
                        assert_string_not_equal(ul_err_name(a), ul_err_name(b));
        }
        assert_string_equal(ul_err_name(UL_NOT_FOUND), "not_found");
        assert_string_equal(ul_err_name(1), "unknown");
        assert_string_equal(ul_err_name(UL_GONE - 1), "unknown");
        assert_string_equal(ul_err_name(INT32_MIN), "unknown");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_failure_returns_its_code_and_fills_the_text),
                cmocka_unit_test(a_caller_without_errinfo_still_gets_the_code),
                cmocka_unit_test(long_texts_are_cut_and_terminated),
                cmocka_unit_test(a_cut_never_splits_a_character),
                cmocka_unit_test(an_error_may_be_wrapped_in_itself),
                cmocka_unit_test(errno_maps_to_the_codes_that_differ_for_a_client),
                cmocka_unit_test(every_code_has_its_own_name),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
