/* SPDX-License-Identifier: Apache-2.0
 * test_clock.c: RFC 3339 text, calendar months and ULIDs, held against the C library's calendar. */
#include "lib/util/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

#define LAST_MS INT64_C(253402300799999)

static int64_t parsed(const char *text)
{
        int64_t ms = -1;
        return time_parse(text, strlen(text), &ms) ? ms : -1;
}

static void times_print_as_the_c_library_has_them(void **state)
{
        (void)state;
        for (int64_t ms = 0; ms <= LAST_MS; ms += INT64_C(86399999) * 31) {
                char text[RFC3339_SIZE], expected[64];
                time_t s = (time_t)(ms / 1000);
                struct tm tm;
                assert_non_null(gmtime_r(&s, &tm));
                size_t n = strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S", &tm);
                snprintf(expected + n, sizeof expected - n, ".%03dZ", (int)(ms % 1000));
                assert_string_equal(time_format(ms, text), expected);
                assert_true(parsed(text) == ms);
        }
}

static void the_ends_of_the_calendar_print(void **state)
{
        (void)state;
        char text[RFC3339_SIZE];
        assert_string_equal(time_format(0, text), "1970-01-01T00:00:00.000Z");
        assert_string_equal(time_format(-1, text), "1970-01-01T00:00:00.000Z");
        assert_string_equal(time_format(LAST_MS, text), "9999-12-31T23:59:59.999Z");
        assert_string_equal(time_format(INT64_MAX, text), "9999-12-31T23:59:59.999Z");
}

static void every_offset_is_read(void **state)
{
        (void)state;
        int64_t nine = parsed("2026-01-31T09:00:00Z");
        assert_true(nine == INT64_C(1769850000000));
        assert_true(parsed("2026-01-31T10:30:00+01:30") == nine);
        assert_true(parsed("2026-01-30T21:15:00-11:45") == nine);
        assert_true(parsed("2026-01-31T09:00:00-00:00") == nine);
        assert_true(parsed("2026-01-31t09:00:00z") == nine);
        assert_true(parsed("1970-01-01T00:00:00Z") == 0);
        assert_true(parsed("1970-01-01T01:00:00+01:00") == 0);
        assert_true(parsed("2026-02-01T08:59:00+23:59") == nine);
}

static void fractions_are_cut_to_milliseconds(void **state)
{
        (void)state;
        int64_t t = parsed("2026-01-31T09:00:00Z");
        assert_true(parsed("2026-01-31T09:00:00.1Z") == t + 100);
        assert_true(parsed("2026-01-31T09:00:00.12Z") == t + 120);
        assert_true(parsed("2026-01-31T09:00:00.123Z") == t + 123);
        assert_true(parsed("2026-01-31T09:00:00.123999999999999999999999Z") == t + 123);
        assert_true(parsed("2026-01-31T09:00:00.0004Z") == t);
}

static void leap_days_and_leap_seconds_follow_the_calendar(void **state)
{
        (void)state;
        assert_true(parsed("2024-02-29T00:00:00Z") > 0);
        assert_true(parsed("2000-02-29T00:00:00Z") > 0);
        assert_true(parsed("2023-02-29T00:00:00Z") == -1);
        assert_true(parsed("2100-02-29T00:00:00Z") == -1);
        assert_true(parsed("2016-12-31T23:59:60Z") == parsed("2017-01-01T00:00:00Z"));
        assert_true(parsed("2017-01-01T00:59:60+01:00") == parsed("2017-01-01T00:00:00Z"));
        assert_true(parsed("2016-12-30T23:59:60Z") == -1);
        assert_true(parsed("2016-12-31T22:59:60Z") == -1);
}

static void what_is_not_a_time_is_refused(void **state)
{
        (void)state;
        static const char *const wrong[] = {"",
                                            "2026",
                                            "2026-01-31",
                                            "2026-01-31T09:00:00",
                                            "2026-01-31T09:00Z",
                                            "2026-01-31 09:00:00Z",
                                            "2026-1-31T09:00:00Z",
                                            "2026-01-32T09:00:00Z",
                                            "2026-00-10T09:00:00Z",
                                            "2026-13-10T09:00:00Z",
                                            "2026-01-00T09:00:00Z",
                                            "2026-04-31T09:00:00Z",
                                            "2026-01-31T24:00:00Z",
                                            "2026-01-31T09:60:00Z",
                                            "2026-01-31T09:00:61Z",
                                            "2026-01-31T09:00:00.Z",
                                            "2026-01-31T09:00:00,5Z",
                                            "2026-01-31T09:00:00+0100",
                                            "2026-01-31T09:00:00+24:00",
                                            "2026-01-31T09:00:00+01:60",
                                            "2026-01-31T09:00:00+1:00",
                                            "2026-01-31T09:00:00ZZ",
                                            "2026-01-31T09:00:00Z ",
                                            " 2026-01-31T09:00:00Z",
                                            "+026-01-31T09:00:00Z",
                                            "2026-01-31T09:00:-1Z",
                                            "1969-12-31T23:59:59Z",
                                            "1970-01-01T00:00:00+00:01",
                                            "9999-12-31T23:59:59-00:01",
                                            "0000-01-01T00:00:00Z",
                                            "2026-01-31T0\xD9\xA0:00:00Z"};
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                if (parsed(wrong[i]) != -1)
                        fail_msg("accepted: %s", wrong[i]);
        }
        int64_t ms = 42;
        assert_false(time_parse("2026-01-31T09:00:00Z", 19, &ms)); /* cut before the Z */
        assert_false(time_parse("2026-01-31T09:00:00Z\0", 21, &ms));
        assert_false(time_parse(NULL, 0, &ms));
        assert_true(ms == 42);
}

static void check_months(const char *from, int months, const char *to)
{
        char text[RFC3339_SIZE];
        assert_string_equal(time_format(time_add_months(parsed(from), months), text), to);
}

static void a_month_later_is_the_same_day_or_the_last_one(void **state)
{
        (void)state;
        check_months("2026-01-31T09:08:07.006Z", 1, "2026-02-28T09:08:07.006Z");
        check_months("2024-01-31T09:00:00Z", 1, "2024-02-29T09:00:00.000Z");
        check_months("2026-01-15T23:59:59.999Z", 1, "2026-02-15T23:59:59.999Z");
        check_months("2026-12-31T00:00:00Z", 1, "2027-01-31T00:00:00.000Z");
        check_months("2026-12-31T00:00:00Z", 2, "2027-02-28T00:00:00.000Z");
        check_months("2026-03-31T00:00:00Z", -1, "2026-02-28T00:00:00.000Z");
        check_months("2026-01-31T00:00:00Z", -13, "2024-12-31T00:00:00.000Z");
        check_months("2026-05-31T00:00:00Z", 0, "2026-05-31T00:00:00.000Z");
        check_months("2024-02-29T00:00:00Z", 12, "2025-02-28T00:00:00.000Z");
        check_months("1970-01-15T00:00:00Z", -1, "1970-01-01T00:00:00.000Z");
        check_months("9999-12-15T00:00:00Z", 1, "9999-12-31T23:59:59.999Z");
}

static void a_fixed_clock_stands_still_until_it_is_released(void **state)
{
        (void)state;
        clock_use_fixed(1234, 5678);
        assert_true(now_ms() == 1234);
        assert_true(mono_us() == 5678);
        clock_use_system();
        assert_true(now_ms() / 1000 - (int64_t)time(NULL) <= 1);
        assert_true(now_ms() / 1000 - (int64_t)time(NULL) >= -1);
        uint64_t before = mono_us();
        assert_true(mono_us() >= before);
}

static void a_ulid_has_the_known_text(void **state)
{
        (void)state;
        uint8_t id[ULID_BYTES], back[ULID_BYTES];
        char text[ULID_TEXT + 1];
        memset(id, 0, sizeof id);
        assert_string_equal(ulid_format(id, text), "00000000000000000000000000");
        memset(id, 0xFF, sizeof id);
        assert_string_equal(ulid_format(id, text), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        /* the time of the specification's example: 01ARZ3NDEKTSV4RRFFQ69G5FAV */
        assert_true(ulid_parse("01ARZ3NDEKTSV4RRFFQ69G5FAV", 26, id));
        assert_memory_equal(id, "\x01\x56\x3E\x3A\xB5\xD3", 6);
        assert_string_equal(ulid_format(id, text), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_true(ulid_parse("01arz3ndektsv4rrffq69g5fav", 26, back));
        assert_memory_equal(id, back, sizeof id);
}

static void what_is_not_a_ulid_is_refused(void **state)
{
        (void)state;
        static const char *const wrong[] = {
                "80000000000000000000000000",   "0000000000000000000000000I",
                "0000000000000000000000000L",   "0000000000000000000000000O",
                "0000000000000000000000000U",   "0000000000000000000000000-",
                "0000000000000000000000000\xC3"};
        uint8_t id[ULID_BYTES] = {7};
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
                assert_false(ulid_parse(wrong[i], 26, id));
        assert_false(ulid_parse("0000000000000000000000000", 25, id));
        assert_false(ulid_parse("000000000000000000000000000", 27, id));
        assert_false(ulid_parse("0000000000000\0000000000000", 26, id));
        assert_int_equal(id[0], 7);
}

static void ulids_increase_even_where_the_clock_does_not(void **state)
{
        (void)state;
        uint8_t last[ULID_BYTES], next[ULID_BYTES];
        clock_use_system();
        int64_t now = now_ms();
        ulid_make(last);
        for (int i = 0; i < 20000; i++) {
                if (i == 5000)
                        clock_use_fixed(now, 0);
                if (i == 10000)
                        clock_use_fixed(now - 3600000, 0);
                if (i == 15000)
                        clock_use_fixed(now + 3600000, 0);
                ulid_make(next);
                assert_true(memcmp(last, next, sizeof next) < 0);
                memcpy(last, next, sizeof last);
        }
        char text[RFC3339_SIZE], expected[RFC3339_SIZE];
        uint64_t ms = 0;
        for (int i = 0; i < 6; i++)
                ms = ms << 8 | next[i];
        assert_string_equal(time_format((int64_t)ms, text), time_format(now + 3600000, expected));
        clock_use_system();
}

enum { THREADS = 4, EACH = 5000 };
static uint8_t made[THREADS][EACH][ULID_BYTES];

static void *make_many(void *arg)
{
        uint8_t(*mine)[ULID_BYTES] = arg;
        for (int i = 0; i < EACH; i++)
                ulid_make(mine[i]);
        return NULL;
}

static int compare_ids(const void *a, const void *b)
{
        return memcmp(a, b, ULID_BYTES);
}

static void threads_never_make_the_same_ulid(void **state)
{
        (void)state;
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, make_many, made[i]), 0);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        uint8_t(*all)[ULID_BYTES] = made[0];
        qsort(all, THREADS * EACH, ULID_BYTES, compare_ids);
        for (int i = 1; i < THREADS * EACH; i++)
                assert_true(memcmp(all[i - 1], all[i], ULID_BYTES) != 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(times_print_as_the_c_library_has_them),
                cmocka_unit_test(the_ends_of_the_calendar_print),
                cmocka_unit_test(every_offset_is_read),
                cmocka_unit_test(fractions_are_cut_to_milliseconds),
                cmocka_unit_test(leap_days_and_leap_seconds_follow_the_calendar),
                cmocka_unit_test(what_is_not_a_time_is_refused),
                cmocka_unit_test(a_month_later_is_the_same_day_or_the_last_one),
                cmocka_unit_test(a_fixed_clock_stands_still_until_it_is_released),
                cmocka_unit_test(a_ulid_has_the_known_text),
                cmocka_unit_test(what_is_not_a_ulid_is_refused),
                cmocka_unit_test(ulids_increase_even_where_the_clock_does_not),
                cmocka_unit_test(threads_never_make_the_same_ulid),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
