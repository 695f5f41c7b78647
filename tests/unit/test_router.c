/* SPDX-License-Identifier: Apache-2.0
 * test_router.c: which route a raw path finds, and how parameters are decoded. The routes are the
 * test's own, so that it links without the resources. */
#include "api/router.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum handler_result nothing(struct request *req)
{
        (void)req;
        return HANDLER_DONE;
}

#define ROUTE(m, p)                                                                                \
        {                                                                                          \
                .method = m, .pattern = p, .handle = nothing                                       \
        }
static const struct route some[] = {
        ROUTE("GET", "/"),
        ROUTE("GET", "/v1/models/{m}"),
        ROUTE("DELETE", "/v1/models/{m}"),
        ROUTE("POST", "/v1/models/{m}:predict"),
        ROUTE("GET", "/v1/models/{m}/records/{id}"),
        ROUTE("POST", "/v1/models/{m}/records"),
        {.method = NULL},
};
static const struct route others[] = {
        ROUTE("POST", "/v1/erasures"),           ROUTE("POST", "/v1/erasures:batch"),
        ROUTE("GET", "/v1/audit/{index}"),       ROUTE("GET", "/v1/audit/key"),
        ROUTE("GET", "/v1/audit/{index}/proof"), ROUTE("GET", "/v1/audit/tile/{path...}"),
        ROUTE("PUT", "/v1/audit/{index}"),       {.method = NULL},
};
static struct route_table table;
static struct route_match match;

static int build(void **state)
{
        (void)state;
        const struct route *const arrays[] = {others, some};
        route_table_build(&table, arrays, 2);
        return 0;
}

static const char *found(const char *method, const char *path)
{
        int status = route_find(&table, method, path, &match);
        return status == 200 ? match.route->pattern : status == 405 ? "405" : "404";
}

static void assert_param(uint32_t i, const char *name, const char *value)
{
        assert_true(i < match.param_count);
        assert_int_equal(match.params[i].name_len, strlen(name));
        assert_memory_equal(match.params[i].name, name, strlen(name));
        assert_int_equal(match.params[i].value_len, strlen(value));
        assert_memory_equal(match.params[i].value, value, strlen(value));
}

static void an_encoded_slash_stays_in_its_segment(void **state)
{
        (void)state;
        assert_string_equal(found("GET", "/v1/models/m/records/a%2Fb"),
                            "/v1/models/{m}/records/{id}");
        assert_param(0, "m", "m");
        assert_param(1, "id", "a%2Fb");
        assert_string_equal(found("GET", "/v1/models/m/records/a/b"), "404");
}

static void a_suffix_is_part_of_the_route_only_as_sent(void **state)
{
        (void)state;
        assert_string_equal(found("POST", "/v1/models/digits:predict"), "/v1/models/{m}:predict");
        assert_param(0, "m", "digits");
        assert_string_equal(found("POST", "/v1/models/a:predict:predict"),
                            "/v1/models/{m}:predict");
        assert_param(0, "m", "a:predict");
        /* an encoded colon is part of the name */
        assert_string_equal(found("GET", "/v1/models/digits%3Apredict"), "/v1/models/{m}");
        assert_string_equal(found("POST", "/v1/models/:predict"), "405");
        assert_string_equal(found("POST", "/v1/erasures:batch"), "/v1/erasures:batch");
        assert_string_equal(found("POST", "/v1/erasures:batches"), "404");
}

static void literals_win_over_parameters(void **state)
{
        (void)state;
        assert_string_equal(found("GET", "/v1/audit/key"), "/v1/audit/key");
        assert_string_equal(found("GET", "/v1/audit/17"), "/v1/audit/{index}");
        /* and decide alone: the parameter's PUT is not the literal's */
        assert_string_equal(found("PUT", "/v1/audit/key"), "405");
        assert_string_equal(match.allow, "GET, HEAD");
}

static void the_rest_of_a_path_may_be_one_parameter(void **state)
{
        (void)state;
        assert_string_equal(found("GET", "/v1/audit/tile/0/x001/067.p/3"),
                            "/v1/audit/tile/{path...}");
        assert_param(0, "path", "0/x001/067.p/3");
        assert_string_equal(found("GET", "/v1/audit/tile"), "/v1/audit/{index}");
}

static void empty_and_extra_segments_are_not_there(void **state)
{
        (void)state;
        static const char *const paths[] = {"",
                                            "v1/models/a",
                                            "/v1/models/",
                                            "//v1/erasures",
                                            "/v1//models/a",
                                            "/v1/models/a/",
                                            "/v1/erasures/",
                                            "/v1/models//records",
                                            "*"};
        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
                assert_string_equal(found("GET", paths[i]), "404");
        assert_string_equal(found("GET", "/"), "/");
}

static void another_method_gets_405_with_all_that_are_there(void **state)
{
        (void)state;
        assert_string_equal(found("PATCH", "/v1/models/a"), "405");
        assert_string_equal(match.allow, "DELETE, GET, HEAD");
        assert_null(match.route);
        assert_string_equal(found("get", "/v1/models/a"), "405");
}

static void head_is_served_by_get(void **state)
{
        (void)state;
        assert_string_equal(found("HEAD", "/v1/models/a"), "/v1/models/{m}");
        assert_string_equal(found("HEAD", "/v1/erasures"), "405");
}

static void percent_decoding_refuses_what_is_not_whole(void **state)
{
        (void)state;
        char out[32];
        assert_int_equal(percent_decode("a%2Fb", 5, false, out), 3);
        assert_string_equal(out, "a/b");
        assert_int_equal(percent_decode("%c3%A9+", 7, false, out), 3);
        assert_string_equal(out, "\xc3\xa9+");
        assert_int_equal(percent_decode("a+b", 3, true, out), 3);
        assert_string_equal(out, "a b");
        assert_int_equal(percent_decode("%", 1, false, out), -1);
        assert_int_equal(percent_decode("%2", 2, false, out), -1);
        assert_int_equal(percent_decode("%2g", 3, false, out), -1);
        assert_int_equal(percent_decode("a%00b", 5, false, out), -1);
        assert_int_equal(percent_decode("a\0b", 3, false, out), -1);
        /* the escape must end within the text, whatever lies behind it */
        assert_int_equal(percent_decode("%2F", 2, false, out), -1);
}

static void encoding_then_decoding_gives_the_same_bytes(void **state)
{
        (void)state;
        char text[255], out[256];
        struct buf b = {0};
        for (size_t i = 0; i < sizeof text; i++)
                text[i] = (char)(i + 1);
        percent_encode(&b, text, sizeof text);
        for (size_t i = 0; i < b.len; i++)
                assert_null(memchr("/?#&=+ \"", b.data[i], 8));
        assert_true(b.len < 3 * sizeof text);
        char *wide = malloc(b.len + 1);
        assert_non_null(wide);
        assert_int_equal(percent_decode((const char *)b.data, b.len, true, wide), sizeof text);
        memcpy(out, wide, sizeof text);
        assert_memory_equal(out, text, sizeof text);
        free(wide);
        buf_free(&b, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_encoded_slash_stays_in_its_segment),
                cmocka_unit_test(a_suffix_is_part_of_the_route_only_as_sent),
                cmocka_unit_test(literals_win_over_parameters),
                cmocka_unit_test(the_rest_of_a_path_may_be_one_parameter),
                cmocka_unit_test(empty_and_extra_segments_are_not_there),
                cmocka_unit_test(another_method_gets_405_with_all_that_are_there),
                cmocka_unit_test(head_is_served_by_get),
                cmocka_unit_test(percent_decoding_refuses_what_is_not_whole),
                cmocka_unit_test(encoding_then_decoding_gives_the_same_bytes),
        };
        return cmocka_run_group_tests(tests, build, NULL);
}
