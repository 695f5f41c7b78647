/* SPDX-License-Identifier: Apache-2.0
 * clock.c: time, its text, and the ids that sort by it. It knows no time zones and calls neither
 * gmtime nor timegm: the proleptic Gregorian calendar in UTC is a few lines of integers, the same
 * on every machine. Times of this program lie in the years 1970 to 9999; others are refused. */
#include "lib/util/clock.h"

#include "lib/util/bytes.h"
#include "lib/util/crypto.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_MS INT64_C(86400000)
#define TIME_MAX_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

static _Atomic bool fixed;
static _Atomic int64_t fixed_wall_ms;
static _Atomic uint64_t fixed_mono_us;

int64_t now_ms(void)
{
        if (atomic_load(&fixed))
                return atomic_load(&fixed_wall_ms);
        struct timespec t;
        int r = clock_gettime(CLOCK_REALTIME, &t);
        assert(r == 0);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

uint64_t mono_us(void)
{
        if (atomic_load(&fixed))
                return atomic_load(&fixed_mono_us);
        struct timespec t;
        int r = clock_gettime(CLOCK_MONOTONIC, &t);
        assert(r == 0);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void clock_use_fixed(int64_t wall_ms, uint64_t monotonic_us)
{
        atomic_store(&fixed_wall_ms, wall_ms);
        atomic_store(&fixed_mono_us, monotonic_us);
        atomic_store(&fixed, true);
}

void clock_use_system(void)
{
        atomic_store(&fixed, false);
}

struct civil {
        int64_t year;
        int month; /* 1..12 */
        int day;   /* 1..31 */
};

static bool leap_year(int64_t year)
{
        return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int64_t year, int month)
{
        static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        return month == 2 && leap_year(year) ? 29 : days[month - 1];
}

/* Days since 1970-01-01, for years from 0. A year that starts in March has its leap day last. */
static int64_t days_of(struct civil c)
{
        int64_t y = c.month <= 2 ? c.year - 1 : c.year;
        int64_t month = c.month <= 2 ? c.month + 9 : c.month - 3;
        int64_t era = (y >= 0 ? y : y - 399) / 400;
        int64_t year_of_era = y - era * 400;
        int64_t day_of_year = (153 * month + 2) / 5 + c.day - 1;
        int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        return era * 146097 + day_of_era - 719468;
}

/* The inverse, for days from 1970-01-01 on. */
static struct civil civil_of(int64_t days)
{
        int64_t z = days + 719468;
        int64_t era = z / 146097;
        int64_t doe = z - era * 146097;
        int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
        int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        int64_t mp = (5 * doy + 2) / 153;
        struct civil c = {
                .year = yoe + era * 400,
                .month = (int)(mp < 10 ? mp + 3 : mp - 9),
                .day = (int)(doy - (153 * mp + 2) / 5 + 1),
        };
        if (c.month <= 2)
                c.year++;
        return c;
}

static int64_t in_range(int64_t ms)
{
        return ms < 0 ? 0 : ms > TIME_MAX_MS ? TIME_MAX_MS : ms;
}

char *time_format(int64_t ms, char out[RFC3339_SIZE])
{
        ms = in_range(ms);
        struct civil c = civil_of(ms / DAY_MS);
        int rest = (int)(ms % DAY_MS);
        snprintf(out, RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)c.year, c.month,
                 c.day, rest / 3600000, rest / 60000 % 60, rest / 1000 % 60, rest % 1000);
        return out;
}

/* What is left of a text that is being read. */
struct reader {
        const char *p;
        const char *end;
};

static bool read_char(struct reader *r, char c)
{
        if (r->p == r->end || *r->p != c)
                return false;
        r->p++;
        return true;
}

static bool read_digits(struct reader *r, int count, int *out)
{
        int v = 0;
        for (int i = 0; i < count; i++) {
                if (r->p == r->end || *r->p < '0' || *r->p > '9')
                        return false;
                v = v * 10 + (*r->p++ - '0');
        }
        *out = v;
        return true;
}

static bool read_date(struct reader *r, struct civil *c)
{
        int year;
        if (!read_digits(r, 4, &year) || !read_char(r, '-') || !read_digits(r, 2, &c->month) ||
            !read_char(r, '-') || !read_digits(r, 2, &c->day))
                return false;
        c->year = year;
        return c->month >= 1 && c->month <= 12 && c->day >= 1 &&
               c->day <= days_in_month(c->year, c->month);
}

/* The fraction of a second, cut to milliseconds; any number of digits. */
static bool read_fraction(struct reader *r, int *ms)
{
        *ms = 0;
        if (!read_char(r, '.'))
                return true;
        int digits = 0;
        for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++, digits++) {
                if (digits < 3)
                        *ms = *ms * 10 + (*r->p - '0');
        }
        for (int i = digits; i < 3; i++)
                *ms *= 10;
        return digits > 0;
}

static bool read_offset(struct reader *r, int *minutes)
{
        *minutes = 0;
        if (read_char(r, 'Z') || read_char(r, 'z'))
                return true;
        int sign = read_char(r, '-') ? -1 : 1;
        if (sign > 0 && !read_char(r, '+'))
                return false;
        int hour, minute;
        if (!read_digits(r, 2, &hour) || !read_char(r, ':') || !read_digits(r, 2, &minute))
                return false;
        *minutes = sign * (hour * 60 + minute);
        return hour <= 23 && minute <= 59;
}

/* RFC 3339, 5.7: a leap second is the last of a UTC month. */
static bool may_be_leap_second(int64_t utc_ms_of_second_60)
{
        if (utc_ms_of_second_60 % DAY_MS != 0 || utc_ms_of_second_60 <= 0)
                return false;
        return civil_of(utc_ms_of_second_60 / DAY_MS).day == 1;
}

bool time_parse(const char *text, size_t len, int64_t *ms)
{
        if (len == 0)
                return false;
        struct reader r = {text, text + len};
        struct civil c;
        int hour, minute, second, milli, offset;
        if (!read_date(&r, &c) || (!read_char(&r, 'T') && !read_char(&r, 't')) ||
            !read_digits(&r, 2, &hour) || !read_char(&r, ':') || !read_digits(&r, 2, &minute) ||
            !read_char(&r, ':') || !read_digits(&r, 2, &second) || !read_fraction(&r, &milli) ||
            !read_offset(&r, &offset) || r.p != r.end)
                return false;
        if (hour > 23 || minute > 59 || second > 60)
                return false;
        int64_t t =
                days_of(c) * DAY_MS + ((int64_t)(hour * 60 + minute - offset) * 60 + second) * 1000;
        if (second == 60 && !may_be_leap_second(t))
                return false;
        t += milli;
        if (t < 0 || t > TIME_MAX_MS)
                return false;
        *ms = t;
        return true;
}

int64_t time_add_months(int64_t ms, int months)
{
        ms = in_range(ms);
        struct civil c = civil_of(ms / DAY_MS);
        int64_t month = c.year * 12 + (c.month - 1) + months;
        if (month < 1970 * 12)
                return 0;
        c.year = month / 12;
        c.month = (int)(month % 12) + 1;
        if (c.year > 9999)
                return TIME_MAX_MS;
        if (c.day > days_in_month(c.year, c.month))
                c.day = days_in_month(c.year, c.month);
        return days_of(c) * DAY_MS + ms % DAY_MS;
}

/* The last id made, under ulid_mutex. */
static pthread_mutex_t ulid_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t ulid_ms;
static uint8_t ulid_random[10];

/* Adds one to the random part; true if it wrapped round. */
static bool ulid_increment(void)
{
        for (size_t i = sizeof ulid_random; i-- > 0;) {
                if (++ulid_random[i] != 0)
                        return false;
        }
        return true;
}

void ulid_make(uint8_t out[ULID_BYTES])
{
        int64_t wall = now_ms();
        uint64_t now = wall < 0 ? 0 : (uint64_t)wall;
        uint8_t time_bytes[8];
        pthread_mutex_lock(&ulid_mutex);
        if (now > ulid_ms) {
                ulid_ms = now;
                random_bytes(ulid_random, sizeof ulid_random);
        } else if (ulid_ms == 0) {
                ulid_ms = 1;
                random_bytes(ulid_random, sizeof ulid_random);
        } else if (ulid_increment()) {
                ulid_ms++;
        }
        put_be64(time_bytes, ulid_ms);
        memcpy(out, time_bytes + 2, 6);
        memcpy(out + 6, ulid_random, sizeof ulid_random);
        pthread_mutex_unlock(&ulid_mutex);
}

/* Crockford's base 32. 26 digits are 130 bits: the first digit holds three. */
char *ulid_format(const uint8_t id[ULID_BYTES], char out[ULID_TEXT + 1])
{
        static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        for (int i = 0; i < ULID_TEXT; i++) {
                unsigned v = 0;
                for (int bit = i * 5 - 2; bit < i * 5 + 3; bit++) {
                        v <<= 1;
                        if (bit >= 0)
                                v |= ((unsigned)id[bit / 8] >> (7 - bit % 8)) & 1U;
                }
                out[i] = digits[v];
        }
        out[ULID_TEXT] = '\0';
        return out;
}

static int ulid_digit(char c)
{
        static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        if (c >= 'a' && c <= 'z')
                c = (char)(c - 'a' + 'A');
        const char *at = c == '\0' ? NULL : strchr(digits, c);
        return at == NULL ? -1 : (int)(at - digits);
}

bool ulid_parse(const char *text, size_t len, uint8_t out[ULID_BYTES])
{
        uint8_t id[ULID_BYTES] = {0};
        if (len != ULID_TEXT)
                return false;
        for (int i = 0; i < ULID_TEXT; i++) {
                int v = ulid_digit(text[i]);
                if (v < 0 || (i == 0 && v > 7))
                        return false;
                for (int k = 0; k < 5; k++) {
                        int bit = i * 5 - 2 + k;
                        if (bit >= 0 && ((v >> (4 - k)) & 1))
                                id[bit / 8] = (uint8_t)(id[bit / 8] | (0x80 >> (bit % 8)));
                }
        }
        memcpy(out, id, sizeof id);
        return true;
}
