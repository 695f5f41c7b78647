/* SPDX-License-Identifier: Apache-2.0
 * test_tensor.c: arrays cut out of JSON, and the numbers read from them. */
#include "api/tensor.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct errinfo e;

static int numbers(const char *text, enum tensor_type type, size_t rows, size_t columns, float *out)
{
        memset(&e, 0, sizeof e);
        /* a copy without a NUL behind it, so that a sanitizer sees a step too far */
        size_t len = strlen(text);
        char *copy = malloc(len != 0 ? len : 1);
        assert_non_null(copy);
        memcpy(copy, text, len);
        int err = tensor_numbers(copy, len, type, rows, columns, out, &e);
        free(copy);
        return err;
}

static void flat_and_nested_numbers_are_the_same_tensor(void **state)
{
        (void)state;
        float a[4] = {0}, b[4] = {0};
        assert_int_equal(numbers(" [1, -2.5,3e2,\n4 ] ", TENSOR_FP32, 2, 2, a), 0);
        assert_int_equal(numbers("[ [1,-2.5] , [3e2,4]]", TENSOR_FP32, 2, 2, b), 0);
        assert_memory_equal(a, b, sizeof a);
        assert_true(a[0] == 1.0f && a[1] == -2.5f && a[2] == 300.0f && a[3] == 4.0f);
}

static void every_number_has_the_last_bit_of_strtof(void **state)
{
        (void)state;
        unsigned seed = 7;
        for (int i = 0; i < 20000; i++) {
                char text[64], wrapped[80];
                uint32_t bits = (uint32_t)rand_r(&seed) << 16 ^ (uint32_t)rand_r(&seed);
                float v, got;
                memcpy(&v, &bits, sizeof v);
                if (!isfinite(v))
                        continue;
                snprintf(text, sizeof text, i % 2 ? "%.9g" : "%.17g", (double)v);
                snprintf(wrapped, sizeof wrapped, "[%s]", text);
                assert_int_equal(numbers(wrapped, TENSOR_FP32, 1, 1, &got), 0);
                float want = strtof(text, NULL);
                assert_memory_equal(&got, &want, sizeof got);
        }
}

static void a_wrong_size_is_refused_whichever_way_it_is_wrong(void **state)
{
        (void)state;
        float x[6];
        static const char *const bad[] = {"[]",
                                          "[1,2,3]",
                                          "[1,2,3,4,5]",
                                          "[[1,2]]",
                                          "[[1,2],[3]]",
                                          "[[1,2],[3,4],[5,6]]",
                                          "[[1,2,3],[4]]",
                                          "[[1],[2,3,4]]",
                                          "[[],[]]",
                                          "[[1,2],3,4]",
                                          "[1,2,[3,4]]",
                                          "[[[1,2],[3,4]]]"};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                assert_int_equal(numbers(bad[i], TENSOR_FP32, 2, 2, x), UL_INVALID);
                assert_true(e.detail[0] != '\0');
        }
}

static void what_is_not_json_is_refused(void **state)
{
        (void)state;
        float x[4];
        static const char *const bad[] = {"",
                                          "[",
                                          "[1",
                                          "[1,",
                                          "[1,2,3,4",
                                          "[01,2,3,4]",
                                          "[1.,2,3,4]",
                                          "[.5,2,3,4]",
                                          "[+1,2,3,4]",
                                          "[1,,3,4]",
                                          "[1 2,3,4]",
                                          "[0x1,2,3,4]",
                                          "[1,2,3,4]]",
                                          "[1,2,3,4],",
                                          "[\"1\",2,3,4]",
                                          "[null,2,3,4]",
                                          "[nan,2,3,4]",
                                          "[true,2,3,4]",
                                          "[inf,2,3,4]",
                                          "[[1,2][3,4]]",
                                          "[[1,2],[3,4]",
                                          "[1,2,3,4}",
                                          "{1,2,3,4]",
                                          "[1,2,3,N"};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                int err = numbers(bad[i], TENSOR_FP32, 2, 2, x);
                assert_true(err == UL_SYNTAX || err == UL_INVALID);
        }
        assert_int_equal(numbers("[1,2,\"3\",4]", TENSOR_FP32, 2, 2, x), UL_INVALID);
        assert_string_equal(e.field, "/1/0");
}

static void what_is_not_finite_is_read_so_that_its_place_can_be_named(void **state)
{
        (void)state;
        float x[4];
        assert_int_equal(numbers("[NaN, Infinity, -Infinity, 1e39]", TENSOR_FP32, 2, 2, x), 0);
        assert_true(isnan(x[0]) && isinf(x[1]) && x[2] < 0 && isinf(x[2]) && isinf(x[3]));
}

static void whole_types_hold_only_what_they_can(void **state)
{
        (void)state;
        float x[2];
        assert_int_equal(numbers("[0,255]", TENSOR_UINT8, 1, 2, x), 0);
        assert_int_equal(numbers("[0,256]", TENSOR_UINT8, 1, 2, x), UL_INVALID);
        assert_string_equal(e.field, "/0/1");
        assert_int_equal(numbers("[-1,0]", TENSOR_UINT64, 1, 2, x), UL_INVALID);
        assert_int_equal(numbers("[-128,1.5]", TENSOR_INT8, 1, 2, x), UL_INVALID);
        assert_int_equal(numbers("[-128,1.0]", TENSOR_INT8, 1, 2, x), 0);
        assert_int_equal(numbers("[true,false]", TENSOR_BOOL, 1, 2, x), 0);
        assert_true(x[0] == 1.0f && x[1] == 0.0f);
        assert_int_equal(numbers("[1,2]", TENSOR_BOOL, 1, 2, x), UL_INVALID);
}

static void raw_elements_are_little_endian_and_need_no_alignment(void **state)
{
        (void)state;
        uint8_t bytes[1 + 16];
        float x[4];
        double d = -0.1;
        put_le16(bytes + 1, 0xfffe);
        assert_int_equal(tensor_binary(bytes + 1, 1, TENSOR_INT16, x, &e), 0);
        assert_true(x[0] == -2.0f);
        assert_int_equal(tensor_binary(bytes + 1, 1, TENSOR_UINT16, x, &e), 0);
        assert_true(x[0] == 65534.0f);
        put_le64(bytes + 1, UINT64_MAX);
        assert_int_equal(tensor_binary(bytes + 1, 1, TENSOR_INT64, x, &e), 0);
        assert_true(x[0] == -1.0f);
        memcpy(bytes + 1, &d, sizeof d);
        assert_int_equal(tensor_binary(bytes + 1, 1, TENSOR_FP64, x, &e), 0);
        assert_true(x[0] == -0.1f);
        bytes[1] = 2;
        assert_int_equal(tensor_binary(bytes + 1, 1, TENSOR_BOOL, x, &e), UL_INVALID);
}

static void raw_texts_never_run_over_their_end(void **state)
{
        (void)state;
        uint8_t bytes[] = {2, 0, 0, 0, 'h', 'i', 0, 0, 0, 0, 9, 0, 0, 0, 'x'};
        size_t at = 0, len = 0;
        const char *text = NULL;
        assert_int_equal(tensor_next_bytes(bytes, sizeof bytes, &at, &text, &len, &e), 0);
        assert_int_equal(len, 2);
        assert_memory_equal(text, "hi", 2);
        assert_int_equal(tensor_next_bytes(bytes, sizeof bytes, &at, &text, &len, &e), 0);
        assert_int_equal(len, 0);
        assert_int_equal(tensor_next_bytes(bytes, sizeof bytes, &at, &text, &len, &e), UL_INVALID);
        at = sizeof bytes - 3;
        assert_int_equal(tensor_next_bytes(bytes, sizeof bytes, &at, &text, &len, &e), UL_INVALID);
        put_le32(bytes, UINT32_MAX);
        at = 0;
        assert_int_equal(tensor_next_bytes(bytes, sizeof bytes, &at, &text, &len, &e), UL_INVALID);
}

/* --- cutting --- */

static struct tensor_cuts cuts;
static struct json *doc;

static int cut(const char *text, const char *key, uint32_t depth)
{
        memset(&e, 0, sizeof e);
        tensor_cuts_clear(&cuts);
        json_free(&doc);
        int err = tensor_cut(text, strlen(text), key, depth, &cuts, &e);
        if (err == 0)
                err = json_parse((const char *)cuts.envelope.data, cuts.envelope.len, &doc, &e);
        return err;
}

static int clear(void **state)
{
        (void)state;
        tensor_cuts_clear(&cuts);
        json_free(&doc);
        return 0;
}

static void only_the_named_array_at_its_depth_is_cut(void **state)
{
        (void)state;
        const char *text = "{\"data\":[9],\"id\":\"data\",\"inputs\":[{\"name\":\"data\","
                           "\"x\":{\"data\":[8]},\"data\" : [1,[2,\"]\\\"[\"],{}] ,\"y\":1}]}";
        assert_int_equal(cut(text, "data", 3), 0);
        assert_int_equal(cuts.count, 1);
        assert_int_equal(cuts.spans[0].len, strlen("[1,[2,\"]\\\"[\"],{}]"));
        assert_int_equal(cuts.spans[0].elements, 2);
        assert_int_equal(cuts.spans[0].first, '1');
        const struct json *input = json_first(json_get(doc, "inputs"));
        assert_ptr_equal(tensor_find(&cuts, json_get(input, "data")), &cuts.spans[0]);
        assert_null(tensor_find(&cuts, json_get(input, "name")));
        assert_true(json_number(json_get(input, "y")) == 1.0);
        assert_int_equal(json_length(json_get(doc, "data")), 1);
}

static void a_value_that_is_not_an_array_stays(void **state)
{
        (void)state;
        assert_int_equal(cut("{\"instances\": 0}", "instances", 1), 0);
        assert_int_equal(cuts.count, 0);
        assert_null(tensor_find(&cuts, json_get(doc, "instances")));
        assert_int_equal(cut("{\"instances\": \"tensor:0\"}", "instances", 1), 0);
        assert_null(tensor_find(&cuts, json_get(doc, "instances")));
}

static void cutting_never_makes_bad_json_good(void **state)
{
        (void)state;
        static const char *const bad[] = {
                "",
                "{",
                "{\"d\":[1,2}",
                "{\"d\":[1,2",
                "{\"d\":[\"",
                "{\"d\":[\"\\",
                "{\"d\" [1]}",
                "{\"d\":,[1]}",
                "{\"d\":[1][2]}",
                "{\"d\":[1]\"d\":[2]}",
                "{\"d\":[1],\"d\":[2]}",
                "{\"d\":[1]}}",
                "{\"d\":[1]},",
                "{,\"d\":[1]}",
                "[\"d\":[1]]",
        };
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                int err = cut(bad[i], "d", 1);
                assert_true(err == UL_SYNTAX);
        }
}

static void each_row_of_many_is_cut_in_order(void **state)
{
        (void)state;
        const char *text = "[{\"features\":[1,2]},{\"features\":[3,4]},{\"features\":[5,6]}]";
        float x[2];
        assert_int_equal(cut(text, "features", 2), 0);
        assert_int_equal(cuts.count, 3);
        const struct json *row = json_first(doc);
        for (int i = 0; i < 3; i++, row = json_next(row)) {
                const struct tensor_span *s = tensor_find(&cuts, json_get(row, "features"));
                assert_non_null(s);
                assert_int_equal(tensor_numbers(s->text, s->len, TENSOR_FP32, 1, 2, x, &e), 0);
                assert_true(x[0] == (float)(2 * i + 1));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(flat_and_nested_numbers_are_the_same_tensor),
                cmocka_unit_test(every_number_has_the_last_bit_of_strtof),
                cmocka_unit_test(a_wrong_size_is_refused_whichever_way_it_is_wrong),
                cmocka_unit_test(what_is_not_json_is_refused),
                cmocka_unit_test(what_is_not_finite_is_read_so_that_its_place_can_be_named),
                cmocka_unit_test(whole_types_hold_only_what_they_can),
                cmocka_unit_test(raw_elements_are_little_endian_and_need_no_alignment),
                cmocka_unit_test(raw_texts_never_run_over_their_end),
                cmocka_unit_test_teardown(only_the_named_array_at_its_depth_is_cut, clear),
                cmocka_unit_test_teardown(a_value_that_is_not_an_array_stays, clear),
                cmocka_unit_test_teardown(cutting_never_makes_bad_json_good, clear),
                cmocka_unit_test_teardown(each_row_of_many_is_cut_in_order, clear),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
