/* SPDX-License-Identifier: Apache-2.0
 * test_number.c: parse_f32 and parse_f64 against strtof and strtod, bit for bit: on millions of
 * random texts of every shape, and on the texts that catch the usual mistakes (double rounding,
 * midpoints, subnormals, very long digits). UNLEARND_TEST_NUMBERS sets the count. */
#include "lib/util/number.h"

#include <errno.h>
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

static void check(const char *text)
{
        size_t len = strlen(text);
        float f = -77, f_expected = strtof(text, NULL);
        double d = -77, d_expected = strtod(text, NULL);
        if (parse_f32(text, len, &f) != len || memcmp(&f, &f_expected, sizeof f) != 0)
                fail_msg("%.100s: f32 gives %a, strtof %a", text, (double)f, (double)f_expected);
        if (parse_f64(text, len, &d) != len || memcmp(&d, &d_expected, sizeof d) != 0)
                fail_msg("%.100s: f64 gives %a, strtod %a", text, d, d_expected);
}

static uint64_t random_state = UINT64_C(0x9E3779B97F4A7C15);

static uint64_t next_random(void)
{
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        return random_state;
}

static uint32_t below(uint32_t n)
{
        return (uint32_t)((next_random() >> 32) * n >> 32);
}

static long rounds(void)
{
        const char *n = getenv("UNLEARND_TEST_NUMBERS");
        return n != NULL ? strtol(n, NULL, 10) : 400000;
}

static void known_difficult_texts_are_read_right(void **state)
{
        (void)state;
        static const char *const texts[] = {
                "0", "-0", "0.0", "-0.000e5", "0e999999999999999999999", "1", "-1", "10", "0.1",
                "1e10", "1e11", "16777215", "16777216", "16777217", "16777218", "16777219",
                "33554435", "9007199254740991", "9007199254740992", "9007199254740993",
                "9007199254740994", "9007199254740995", "18446744073709551615",
                "18446744073709551616", "9999999999999999999", "99999999999999999999",
                /* a double in between makes these wrong: a float's midpoint plus a trifle */
                "1.00000017881393432617187499", "1.000000178813934326171875",
                "1.00000017881393432617187501", "16777217.0000000000000000000000001",
                "16777216.9999999999999999999999999", "8388608.5000000000000000000000000001",
                /* the ends of the ranges */
                "3.4028234e38", "3.4028235e38", "3.40282356e38", "3.40282357e38", "3.5e38", "1e39",
                "340282356779733661637539395458142568447",
                "340282356779733661637539395458142568448", "1.17549435e-38", "1.17549429e-38",
                "1.4e-45", "0.7e-45", "0.70064923e-45", "0.70064924e-45", "0.8e-45", "1e-46",
                "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308",
                "1e309", "1e-400", "2.2250738585072011e-308", "2.2250738585072012e-308",
                "2.2250738585072014e-308", "4.9e-324", "2.4703282292062327e-324",
                "2.4703282292062328e-324", "5e-324", "1e99999999999999999999",
                "1e-99999999999999999999", "123456789012345678901e-45",
                "0.000000000000000000000000000000000000000000001", "1e22", "1e23", "1e-22", "1e-23",
                "8.5e-21", "6.25e-2", "7.2057594037927933e16", "1.5e+5", "1.5E-5", "-1.5E+05"};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
                check(texts[i]);
}

static void short_decimals_are_read_like_strtof(void **state)
{
        (void)state;
        char text[64];
        for (long i = rounds(); i > 0; i--) {
                uint32_t width = 1 + below(9), places = below(12);
                static const uint32_t scale[] = {10,      100,      1000,      10000,     100000,
                                                 1000000, 10000000, 100000000, 1000000000};
                snprintf(text, sizeof text, "%s%u.%0*u", below(2) ? "-" : "",
                         below(scale[width - 1]), (int)places + 1,
                         below(scale[places > 8 ? 8 : places]));
                check(text);
        }
}

static void any_digits_and_exponent_are_read_like_strtof(void **state)
{
        (void)state;
        char text[96];
        for (long i = rounds(); i > 0; i--) {
                size_t n = 0;
                text[n++] = (char)('1' + below(9));
                uint32_t digits = below(28);
                uint32_t point = below(30);
                for (uint32_t k = 0; k < digits; k++) {
                        if (k == point)
                                text[n++] = '.';
                        text[n++] = (char)('0' + below(10));
                }
                snprintf(text + n, sizeof text - n, "e%d", (int)below(110) - 60);
                check(text);
        }
}

/* What float64 arrays look like when they are printed: 17 digits. */
static void printed_floats_and_doubles_are_read_back(void **state)
{
        (void)state;
        char text[64];
        for (long i = rounds(); i > 0; i--) {
                uint32_t bits = (uint32_t)next_random();
                float f;
                memcpy(&f, &bits, sizeof f);
                if (!isfinite(f))
                        continue;
                snprintf(text, sizeof text, "%.*g", 1 + (int)below(12), (double)f);
                check(text);
                snprintf(text, sizeof text, "%.17g", ldexp((double)next_random(), -64));
                check(text);
        }
}

/* The exact decimal text of a midpoint between two neighbours, and a last digit off it. */
static void midpoints_and_their_neighbourhood_round_right(void **state)
{
        (void)state;
        char text[256];
        for (long i = rounds() / 8; i > 0; i--) {
                uint32_t bits = (uint32_t)next_random() & 0x7FFFFFFF;
                float f, g;
                memcpy(&f, &bits, sizeof f);
                bits++;
                memcpy(&g, &bits, sizeof g);
                if (!isfinite(f) || !isfinite(g))
                        continue;
                double middle = ((double)f + (double)g) / 2;
                int n = snprintf(text, sizeof text, "%.*e", 112, middle);
                assert_true(n > 0 && n < (int)sizeof text);
                check(text);
                char *e = strchr(text, 'e');
                e[-1] = '1'; /* the 112th place is 0 in most of them: just above */
                check(text);
                double under = nextafter(middle, 0), over = nextafter(middle, INFINITY);
                snprintf(text, sizeof text, "%.17g", under);
                check(text);
                snprintf(text, sizeof text, "%.17g", over);
                check(text);
        }
}

static void midpoints_of_doubles_with_all_their_digits_round_right(void **state)
{
        (void)state;
        static char text[1400];
        for (int i = 0; i < 3000; i++) {
                uint64_t bits = next_random() & UINT64_C(0x7FFFFFFFFFFFFFFF);
                if (i % 3 == 0)
                        bits &= UINT64_C(0x001FFFFFFFFFFFFF); /* subnormal: the longest */
                double d;
                memcpy(&d, &bits, sizeof d);
                if (!isfinite(d) || d > 1e300)
                        continue;
                uint64_t up = bits + 1;
                double g;
                memcpy(&g, &up, sizeof g);
                long double middle = ((long double)d + (long double)g) / 2;
                snprintf(text, sizeof text, "%.*Le", 800, middle);
                check(text);
                char *e = strchr(text, 'e');
                e[-1] = '1';
                check(text);
                /* the deciding digit beyond the EXACT_DIGITS that are kept */
                snprintf(text, sizeof text, "%.*Le", 1200, middle);
                check(text);
                e = strchr(text, 'e');
                e[-1] = '1';
                check(text);
        }
}

static void very_long_numbers_are_read_exactly(void **state)
{
        (void)state;
        enum { LONG = 5000 };
        char *text = malloc(LONG + 64);
        assert_non_null(text);
        memset(text, '0', LONG);
        memcpy(text, "1.", 2);
        memcpy(text + LONG, "1e0", 4);
        check(text);
        memcpy(text, "0.", 2);
        snprintf(text + LONG, 64, "1234e%d", LONG - 2);
        check(text);
        memset(text, '9', LONG);
        snprintf(text + LONG, 64, "e-%d", LONG - 5);
        check(text);
        /* 2^24 + 1 is a midpoint of floats: the digit far behind decides */
        memset(text, '0', LONG);
        memcpy(text, "16777217.", 9);
        memcpy(text + LONG, "0", 2);
        check(text);
        text[LONG] = '1';
        check(text);
        memset(text, '0', LONG);
        memcpy(text, "-1", 2);
        snprintf(text + LONG, 64, ".5e-%d", LONG);
        check(text);
        free(text);
}

static void assert_consumed(const char *text, size_t expected)
{
        float f = -77;
        double d = -77;
        size_t a = parse_f32(text, strlen(text), &f), b = parse_f64(text, strlen(text), &d);
        if (a != expected || b != expected)
                fail_msg("'%s': %zu and %zu bytes, not %zu", text, a, b, expected);
        if (expected == 0)
                assert_true(f == -77 && d == -77);
}

static void only_the_number_is_consumed(void **state)
{
        (void)state;
        static const char *const none[] = {"",    "-",   "+1",  ".5",   "-.5",      "e5",
                                           "nan", "NaN", "inf", "-inf", "Infinity", " 1",
                                           "--1", "\t1", "-e1", "x",    ",1",       "\xEF\xBC\x91"};
        for (size_t i = 0; i < sizeof none / sizeof *none; i++)
                assert_consumed(none[i], 0);
        assert_consumed("1,2", 1);
        assert_consumed("1.", 1);
        assert_consumed("1.e5", 1);
        assert_consumed("1e", 1);
        assert_consumed("1e+", 1);
        assert_consumed("1e-x", 1);
        assert_consumed("1.5e5e5", 5);
        assert_consumed("1.5.5", 3);
        assert_consumed("007", 1);
        assert_consumed("-00", 2);
        assert_consumed("0x10", 1);
        assert_consumed("1d5", 1);
        assert_consumed("1 ", 1);
        assert_consumed("0.50]", 4);
}

/* The text is not terminated, and what follows it belongs to somebody else. */
static void nothing_behind_the_length_is_read(void **state)
{
        (void)state;
        const char whole[] = "-123.456e+12";
        static const size_t expected[] = {0, 0, 2, 3, 4, 4, 6, 7, 8, 8, 8, 11, 12};
        for (size_t len = 0; len < sizeof whole; len++) {
                char *copy = malloc(len > 0 ? len : 1); /* an overrun is the sanitizer's to see */
                assert_non_null(copy);
                memcpy(copy, whole, len);
                double d;
                float f;
                assert_int_equal(parse_f64(copy, len, &d), expected[len]);
                assert_int_equal(parse_f32(copy, len, &f), expected[len]);
                free(copy);
        }
}

static void errno_is_left_alone(void **state)
{
        (void)state;
        float f;
        double d;
        errno = EDOM;
        parse_f32("1e99", 4, &f);
        parse_f64("1e999", 5, &d);
        parse_f64("1e-999", 6, &d);
        assert_int_equal(errno, EDOM);
        assert_true(isinf(f));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(known_difficult_texts_are_read_right),
                cmocka_unit_test(short_decimals_are_read_like_strtof),
                cmocka_unit_test(any_digits_and_exponent_are_read_like_strtof),
                cmocka_unit_test(printed_floats_and_doubles_are_read_back),
                cmocka_unit_test(midpoints_and_their_neighbourhood_round_right),
                cmocka_unit_test(midpoints_of_doubles_with_all_their_digits_round_right),
                cmocka_unit_test(very_long_numbers_are_read_exactly),
                cmocka_unit_test(only_the_number_is_consumed),
                cmocka_unit_test(nothing_behind_the_length_is_read),
                cmocka_unit_test(errno_is_left_alone),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
