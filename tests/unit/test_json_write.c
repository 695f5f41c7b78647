/* SPDX-License-Identifier: Apache-2.0
 * test_json_write.c: the bytes of the writer, which audit leaves and checkpoint headers depend on:
 * commas, escapes, and numbers that read back the same from the shortest text. */
#include "lib/util/json.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

static struct json_writer w;
static struct buf out;

static void start(void)
{
        buf_reset(&out, false);
        jw_init(&w, &out);
}

static void assert_reads_back(void)
{
        struct json *doc;
        struct errinfo e;
        if (json_parse((char *)out.data, out.len, &doc, &e) != UL_OK)
                fail_msg("%.*s: %s", (int)out.len, (char *)out.data, e.detail);
        json_free(&doc);
}

static void assert_written(const char *expected)
{
        assert_false(out.failed);
        buf_append(&out, "", 1);
        assert_string_equal((const char *)out.data, expected);
}

static void the_writer_puts_commas_where_they_belong(void **state)
{
        (void)state;
        start();
        jw_object(&w);
        jw_key(&w, "a");
        jw_array(&w);
        jw_u64(&w, 1);
        jw_array(&w);
        jw_end_array(&w);
        jw_object(&w);
        jw_end_object(&w);
        jw_null(&w);
        jw_end_array(&w);
        jw_key(&w, "b");
        jw_object(&w);
        jw_key(&w, "c");
        jw_bool(&w, true);
        jw_key(&w, "d");
        jw_raw(&w, "[1,2]", 5);
        jw_key(&w, "e");
        jw_bool(&w, false);
        jw_end_object(&w);
        jw_key(&w, "f");
        jw_hex(&w, "\x01\xfe", 2);
        jw_end_object(&w);
        assert_written("{\"a\":[1,[],{},null],\"b\":{\"c\":true,\"d\":[1,2],\"e\":false},"
                       "\"f\":\"01fe\"}");
}

static void integers_and_times_are_written_whole(void **state)
{
        (void)state;
        start();
        jw_array(&w);
        jw_u64(&w, 0);
        jw_u64(&w, UINT64_MAX);
        jw_i64(&w, INT64_MIN);
        jw_i64(&w, -1);
        jw_i64(&w, INT64_MAX);
        jw_time(&w, 0);
        jw_time(&w, 1);
        jw_end_array(&w);
        assert_written("[0,18446744073709551615,-9223372036854775808,-1,9223372036854775807,null,"
                       "\"1970-01-01T00:00:00.001Z\"]");
}

static void strings_are_escaped_as_rfc_8785_says(void **state)
{
        (void)state;
        start();
        jw_array(&w);
        jw_string(&w, "\"\\/\b\f\n\r\t\x01\x0b\x1f\x7f");
        jw_string(&w, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xE2\x80\xA8");
        jw_string_n(&w, "a\0b", 3);
        jw_string_n(&w, "abc", 0);
        jw_end_array(&w);
        assert_written("[\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u000b\\u001f\x7f\","
                       "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xE2\x80\xA8\",\"a\\u0000b\",\"\"]");
}

static void what_is_not_utf8_is_replaced(void **state)
{
        (void)state;
        start();
        jw_array(&w);
        jw_string(&w, "a\xFFz");
        jw_string(&w, "\xE2\x82"); /* cut off */
        jw_string(&w, "\xED\xA0\x80");
        jw_end_array(&w);
        assert_written("[\"a\xEF\xBF\xBDz\",\"\xEF\xBF\xBD\xEF\xBF\xBD\","
                       "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"]");
}

static void any_bytes_read_back_as_a_document(void **state)
{
        (void)state;
        uint32_t r = 1;
        for (int i = 0; i < 20000; i++) {
                char bytes[12];
                for (size_t k = 0; k < sizeof bytes; k++) {
                        r = r * 1664525 + 1013904223;
                        bytes[k] = (char)(r >> 24);
                        if (bytes[k] == 0)
                                bytes[k] = 'x';
                }
                start();
                jw_object(&w);
                jw_key(&w, "k");
                jw_string_n(&w, bytes, sizeof bytes);
                jw_end_object(&w);
                assert_reads_back();
        }
}

static void check_double(double v, const char *expected)
{
        start();
        jw_double(&w, v);
        assert_written(expected);
}

static void check_float(float v, const char *expected)
{
        start();
        jw_float(&w, v);
        assert_written(expected);
}

/* Among them the table of RFC 8785, appendix B. */
static void doubles_have_their_shortest_text(void **state)
{
        (void)state;
        check_double(0.0, "0");
        check_double(-0.0, "-0"); /* reads back as itself */
        check_double(1.0, "1");
        check_double(-1.5, "-1.5");
        check_double(0.1, "0.1");
        check_double(0.3, "0.3");
        check_double(0.1 + 0.2, "0.30000000000000004");
        check_double(100, "100");
        check_double(1e20, "100000000000000000000");
        check_double(1e21, "1e+21");
        check_double(123456789012345680000.0, "123456789012345680000");
        check_double(0.000001, "0.000001");
        check_double(0.0000001, "1e-7");
        check_double(1.5e-9, "1.5e-9");
        check_double(5e-324, "5e-324");
        check_double(DBL_MIN, "2.2250738585072014e-308");
        check_double(DBL_MAX, "1.7976931348623157e+308");
        check_double(9007199254740992.0, "9007199254740992");
        check_double(-9007199254740992.0, "-9007199254740992");
        check_double(295147905179352830000.0, "295147905179352830000");
        check_double(9.999999999999997e22, "9.999999999999997e+22");
        check_double(1e23, "1e+23");
        check_double(1.0000000000000001e23, "1.0000000000000001e+23");
        check_double(999999999999999700000.0, "999999999999999700000");
        check_double(999999999999999900000.0, "999999999999999900000");
        check_double(333333333.33333329, "333333333.3333333");
        check_double(1424953923781206.2, "1424953923781206.2");
        check_double(0x1p-44, "5.684341886080802e-14"); /* not the nearest, yet in reach */
        check_double((double)NAN, "null");
        check_double((double)INFINITY, "null");
        check_double(-(double)INFINITY, "null");
}

static void floats_have_a_short_text(void **state)
{
        (void)state;
        check_float(0.1F, "0.1");
        check_float(0.5F, "0.5");
        check_float(-0.0F, "-0");
        check_float(16777216.0F, "16777216");
        check_float(3.4028235e38F, "3.4028235e+38");
        check_float(1e-45F, "1e-45");
        check_float(FLT_MIN, "1.1754944e-38");
        check_float(0.99999994F, "0.99999994");
        check_float(9.999999F, "9.999999");
        check_float(1e10F, "10000000000");
        check_float(0.33333334F, "0.33333334");
        check_float(1e-7F, "1e-7");
        check_float(NAN, "null");
        check_float(-INFINITY, "null");
}

/* Significant digits of a number's text. */
static int digits_of(const char *text)
{
        int n = 0, zeros = 0;
        for (; *text != '\0' && *text != 'e'; text++) {
                if (*text == '0') {
                        zeros += n > 0;
                } else if (*text > '0' && *text <= '9') {
                        n += zeros + 1;
                        zeros = 0;
                }
        }
        return n;
}

/* The fewest digits of printf that read back, found by trying them all. */
static int shortest_digits(double v)
{
        char text[64];
        for (int p = 0; p < 17; p++) {
                snprintf(text, sizeof text, "%.*e", p, v);
                if (memcmp(&(double){strtod(text, NULL)}, &v, sizeof v) == 0)
                        return p + 1;
        }
        return 17;
}

static void random_numbers_read_back_the_same_in_no_more_digits(void **state)
{
        (void)state;
        uint64_t r = 88172645463325252ULL;
        for (int i = 0; i < 300000; i++) {
                r ^= r << 13;
                r ^= r >> 7;
                r ^= r << 17;
                double d;
                float f;
                uint32_t low = (uint32_t)(r >> 16);
                memcpy(&d, &r, sizeof d);
                memcpy(&f, &low, sizeof f);
                if (i % 3 == 0) {
                        f = (float)(low >> 8) * 0x1p-24F;
                        d = (double)(r >> 11) * 0x1p-53;
                }
                if (isfinite(d) && d != 0) {
                        start();
                        jw_double(&w, d);
                        buf_append(&out, "", 1);
                        double back = strtod((char *)out.data, NULL);
                        assert_memory_equal(&back, &d, sizeof d);
                        if (i % 8 == 0)
                                assert_true(digits_of((char *)out.data) <= shortest_digits(d));
                }
                if (isfinite(f)) {
                        start();
                        jw_float(&w, f);
                        buf_append(&out, "", 1);
                        float back = strtof((char *)out.data, NULL);
                        assert_memory_equal(&back, &f, sizeof f);
                        assert_true(out.len <= 24);
                }
        }
}

static void nesting_is_written_down_to_the_limit(void **state)
{
        (void)state;
        start();
        for (int i = 0; i < JSON_DEPTH_MAX; i++)
                jw_array(&w);
        for (int i = 0; i < JSON_DEPTH_MAX; i++)
                jw_end_array(&w);
        assert_false(out.failed);
        assert_int_equal(out.len, 2 * JSON_DEPTH_MAX);
        assert_reads_back();
}

static void a_full_buffer_is_noticed_at_the_end(void **state)
{
        (void)state;
        struct buf small;
        struct json_writer writer;
        buf_init(&small, 8);
        jw_init(&writer, &small);
        jw_object(&writer);
        jw_key(&writer, "a");
        jw_string(&writer, "too long for this");
        jw_end_object(&writer);
        assert_true(small.failed);
        assert_true(small.len <= 8);
        buf_free(&small, false);
}

static int free_out(void **state)
{
        (void)state;
        buf_free(&out, false);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_writer_puts_commas_where_they_belong),
                cmocka_unit_test(integers_and_times_are_written_whole),
                cmocka_unit_test(strings_are_escaped_as_rfc_8785_says),
                cmocka_unit_test(what_is_not_utf8_is_replaced),
                cmocka_unit_test(any_bytes_read_back_as_a_document),
                cmocka_unit_test(doubles_have_their_shortest_text),
                cmocka_unit_test(floats_have_a_short_text),
                cmocka_unit_test(random_numbers_read_back_the_same_in_no_more_digits),
                cmocka_unit_test(nesting_is_written_down_to_the_limit),
                cmocka_unit_test(a_full_buffer_is_noticed_at_the_end),
        };
        return cmocka_run_group_tests(tests, NULL, free_out);
}
