/* SPDX-License-Identifier: Apache-2.0
 * test_problem.c: errors as clients see them. */
#include "api/http.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct json *parse(struct buf *b)
{
        struct json *doc = NULL;
        assert_false(b->failed);
        assert_int_equal(json_parse((const char *)b->data, b->len, &doc, NULL), 0);
        buf_free(b, false);
        return doc;
}

static void every_error_has_the_status_that_its_comment_promises(void **state)
{
        (void)state;
        static const struct {
                int err, status;
        } want[] = {{UL_SYNTAX, 400},      {UL_INVALID, 422},  {UL_NOT_FOUND, 404},
                    {UL_EXISTS, 409},      {UL_CONFLICT, 409}, {UL_TOO_LARGE, 413},
                    {UL_UNSUPPORTED, 415}, {UL_MISMATCH, 422}, {UL_BUSY, 503},
                    {UL_UNAVAILABLE, 503}, {UL_CLOSED, 503},   {UL_IO, 500},
                    {UL_NOSPACE, 503},     {UL_NOMEM, 503},    {UL_CORRUPT, 500},
                    {UL_FENCED, 409},      {UL_TIMEOUT, 503},  {UL_INTERNAL, 500},
                    {UL_DAMAGED, 500}};
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
                assert_int_equal(problem_status(want[i].err), want[i].status);
        assert_int_equal(problem_status(-1000), 500);
        /* none that the table leaves out: those would come out as 500 without a word */
        for (int err = UL_GONE; err < 0; err++)
                assert_true(problem_status(err) != 500 || err == UL_IO || err == UL_CORRUPT ||
                            err == UL_INTERNAL || err == UL_DAMAGED);
}

static void a_problem_says_type_title_status_detail_instance_and_where(void **state)
{
        (void)state;
        struct errinfo e = {0};
        struct buf b = {0};
        ul_fail_field(&e, UL_INVALID, "/hidden/0", "must be at least 1, not \"%s\"", "a\nb");
        problem_write(&b, 422, UL_INVALID, &e, NULL, "/v1/models");
        struct json *doc = parse(&b);
        assert_string_equal(json_string(json_get(doc, "type")), "urn:unlearnd:problem:invalid");
        assert_non_null(json_string(json_get(doc, "title")));
        assert_true(json_number(json_get(doc, "status")) == 422.0);
        assert_string_equal(json_string(json_get(doc, "detail")), e.detail);
        assert_string_equal(json_string(json_get(doc, "instance")), "/v1/models");
        const struct json *first = json_first(json_get(doc, "errors"));
        assert_non_null(first);
        assert_string_equal(json_string(json_get(first, "pointer")), "/hidden/0");
        assert_null(json_next(first));
        json_free(&doc);
}

static void a_problem_without_a_field_has_no_errors(void **state)
{
        (void)state;
        struct buf b = {0};
        problem_write(&b, 404, 0, NULL, NULL, NULL);
        struct json *doc = parse(&b);
        assert_string_equal(json_string(json_get(doc, "type")), "about:blank");
        assert_string_equal(json_string(json_get(doc, "title")), "Not Found");
        assert_null(json_get(doc, "errors"));
        assert_null(json_get(doc, "instance"));
        json_free(&doc);
}

static void the_inference_protocol_has_errors_of_its_own_shape(void **state)
{
        (void)state;
        struct errinfo e = {0};
        struct buf b = {0};
        ul_fail_field(&e, UL_INVALID, "/inputs/0/shape", "wrong size");
        problem_write_v2(&b, 422, &e, NULL);
        struct json *doc = parse(&b);
        assert_int_equal(json_length(doc), 1);
        assert_string_equal(json_string(json_get(doc, "error")), "wrong size (at /inputs/0/shape)");
        json_free(&doc);
        assert_true(problem_is_v2_path("/v2"));
        assert_true(problem_is_v2_path("/v2/models/a"));
        assert_false(problem_is_v2_path("/v22"));
        assert_false(problem_is_v2_path("/v1/models"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_error_has_the_status_that_its_comment_promises),
                cmocka_unit_test(a_problem_says_type_title_status_detail_instance_and_where),
                cmocka_unit_test(a_problem_without_a_field_has_no_errors),
                cmocka_unit_test(the_inference_protocol_has_errors_of_its_own_shape),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
