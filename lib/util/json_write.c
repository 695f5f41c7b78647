/* SPDX-License-Identifier: Apache-2.0
 * json_write.c: the JSON writer. Compact and canonical: one text for one value, strings escaped as
 * RFC 8785 says, numbers as ECMAScript writes them (but -0 keeps its sign, since it must read back
 * as itself). Audit leaves are hashed and checkpoints compared by these bytes: they must not
 * change. Of the reader it knows
 * only what a UTF-8 character is. */
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/json.h"
#include "lib/util/json_scan.h"
#include "lib/util/number.h"
#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void jw_init(struct json_writer *w, struct buf *out)
{
        *w = (struct json_writer){.out = out};
}

/* Every value passes here once, before its first byte. */
static void begin_value(struct json_writer *w)
{
        if (w->after_key) {
                w->after_key = false;
                return;
        }
        if (w->comma[w->depth])
                buf_append(w->out, ",", 1);
        w->comma[w->depth] = true;
}

static void open_list(struct json_writer *w, const char *bracket)
{
        begin_value(w);
        assert(w->depth < JSON_DEPTH_MAX);
        w->depth++;
        w->comma[w->depth] = false;
        buf_append(w->out, bracket, 1);
}

static void close_list(struct json_writer *w, const char *bracket)
{
        assert(w->depth > 0 && !w->after_key);
        w->depth--;
        buf_append(w->out, bracket, 1);
}

void jw_object(struct json_writer *w)
{
        open_list(w, "{");
}

void jw_end_object(struct json_writer *w)
{
        close_list(w, "}");
}

void jw_array(struct json_writer *w)
{
        open_list(w, "[");
}

void jw_end_array(struct json_writer *w)
{
        close_list(w, "]");
}

void jw_key(struct json_writer *w, const char *key)
{
        assert(w->depth > 0 && !w->after_key);
        jw_string(w, key);
        buf_append(w->out, ":", 1);
        w->after_key = true;
}

void jw_string(struct json_writer *w, const char *s)
{
        jw_string_n(w, s, strlen(s));
}

static void append_control(struct buf *out, uint8_t c)
{
        static const char short_form[] = "btn?fr"; /* U+0008 to U+000D; U+000B has none */
        char text[8];
        int n;
        if (c >= 0x08 && c <= 0x0D && c != 0x0B)
                n = snprintf(text, sizeof text, "\\%c", short_form[c - 0x08]);
        else
                n = snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
        buf_append(out, text, (size_t)n);
}

void jw_string_n(struct json_writer *w, const char *s, size_t len)
{
        static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD for what is not UTF-8 */
        const uint8_t *p = (const uint8_t *)s;
        size_t from = 0; /* the start of what is copied as it is */
        size_t at = 0;
        begin_value(w);
        buf_append(w->out, "\"", 1);
        while (at < len) {
                size_t n = json_utf8_bytes(p + at, len - at);
                if (n > 0 && p[at] >= 0x20 && p[at] != '"' && p[at] != '\\') {
                        at += n;
                        continue;
                }
                buf_append(w->out, s + from, at - from);
                if (n == 0)
                        buf_append_str(w->out, replacement);
                else if (p[at] < 0x20)
                        append_control(w->out, p[at]);
                else
                        buf_append(w->out, p[at] == '"' ? "\\\"" : "\\\\", 2);
                from = ++at;
        }
        buf_append(w->out, s + from, len - from);
        buf_append(w->out, "\"", 1);
}

/* Digits of v, the last first written to the end of `text`; returns the first. */
static const char *decimal_digits(uint64_t v, char text[static 20])
{
        char *p = text + 20;
        do {
                *--p = (char)('0' + v % 10);
                v /= 10;
        } while (v != 0);
        return p;
}

static void append_u64(struct buf *out, uint64_t v)
{
        char text[20];
        const char *first = decimal_digits(v, text);
        buf_append(out, first, (size_t)(text + sizeof text - first));
}

void jw_u64(struct json_writer *w, uint64_t v)
{
        begin_value(w);
        append_u64(w->out, v);
}

void jw_i64(struct json_writer *w, int64_t v)
{
        begin_value(w);
        if (v < 0)
                buf_append(w->out, "-", 1);
        append_u64(w->out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

/* A positive decimal, digits * 10^exponent. */
struct decimal {
        uint64_t digits;
        int exponent;
};

/* v > 0 to six to nine digits by one scaling, where one is enough. Its error of 2^-53 matters
 * only where two neighbours are as near; the caller reads back what is chosen. */
static bool scaled_decimal(double v, int precision, struct decimal *d)
{
        static const double power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
        enum { POWER_MAX = 22 };
        int binary;
        frexp(v, &binary);
        /* log10(2) is about 1233 / 4096: the digits before the point, or one less */
        int scale = precision - ((binary * 1233) >> 12);
        if (precision > 9 || scale < -POWER_MAX + 1 || scale > POWER_MAX)
                return false;
        double scaled = scale < 0 ? v / power[-scale] : v * power[scale];
        if (scaled >= power[precision]) {
                scale--;
                scaled = scale < 0 ? v / power[-scale] : v * power[scale];
        }
        d->digits = (uint64_t)llrint(scaled);
        d->exponent = -scale;
        return true;
}

/* The decimal of `precision` digits that is nearest to v > 0. */
static struct decimal nearest_decimal(double v, int precision)
{
        char text[40];
        struct decimal d = {0};
        if (scaled_decimal(v, precision, &d))
                return d;
        int n = snprintf(text, sizeof text, "%.*e", precision - 1, v);
        assert(n > 0 && n < (int)sizeof text);
        const char *p = text;
        for (; *p != 'e'; p++) {
                if (*p >= '0' && *p <= '9') /* the point may be another locale's */
                        d.digits = d.digits * 10 + (uint64_t)(*p - '0');
        }
        d.exponent = (int)strtol(p + 1, NULL, 10) - (precision - 1);
        return d;
}

static struct decimal without_trailing_zeros(struct decimal d)
{
        while (d.digits != 0 && d.digits % 10 == 0) {
                d.digits /= 10;
                d.exponent++;
        }
        return d;
}

/* "digits e exponent", for the reader. */
static size_t exponential(struct decimal d, char text[static 48])
{
        char digits[20];
        const char *first = decimal_digits(d.digits, digits);
        size_t n = (size_t)(digits + sizeof digits - first);
        memcpy(text, first, n);
        text[n++] = 'e';
        if (d.exponent < 0)
                text[n++] = '-';
        first = decimal_digits((uint64_t)abs(d.exponent), digits);
        size_t m = (size_t)(digits + sizeof digits - first);
        memcpy(text + n, first, m);
        return n + m;
}

static bool reads_back_f64(struct decimal d, double v)
{
        char text[48];
        double back;
        size_t n = exponential(d, text);
        return parse_f64(text, n, &back) == n && memcmp(&back, &v, sizeof v) == 0;
}

static bool reads_back_f32(struct decimal d, float v)
{
        char text[48];
        float back;
        size_t n = exponential(d, text);
        return parse_f32(text, n, &back) == n && memcmp(&back, &v, sizeof v) == 0;
}

/* Its neighbour above is farther than the one below: the next decimal above may be in reach. */
static bool power_of_two(double v)
{
        int exponent;
        double m = frexp(v, &exponent);
        return m <= 0.5 && m >= 0.5;
}

/* The shortest decimal that reads back as v > 0. Where one of up to DBL_DIG digits does, it is v
 * rounded to DBL_DIG digits, so three precisions suffice; subnormal numbers hold fewer digits. */
static struct decimal shortest_f64(double v)
{
        for (int p = v < DBL_MIN ? 1 : DBL_DIG; p < DBL_DECIMAL_DIG; p++) {
                struct decimal d = nearest_decimal(v, p);
                if (reads_back_f64(d, v))
                        return d;
                d.digits++;
                if (power_of_two(v) && reads_back_f64(d, v))
                        return d;
        }
        return nearest_decimal(v, DBL_DECIMAL_DIG);
}

static struct decimal shortest_f32(float v)
{
        for (int p = v < FLT_MIN ? 1 : FLT_DIG; p < FLT_DECIMAL_DIG; p++) {
                struct decimal d = nearest_decimal((double)v, p);
                if (reads_back_f32(d, v))
                        return d;
                d.digits++;
                if (power_of_two((double)v) && reads_back_f32(d, v))
                        return d;
        }
        return nearest_decimal((double)v, FLT_DECIMAL_DIG);
}

static void append_zeros(struct buf *out, int n)
{
        static const char zeros[] = "000000000000000000000";
        assert(n >= 0 && n < (int)sizeof zeros);
        buf_append(out, zeros, (size_t)n);
}

/* ECMA-262, Number::toString: plain digits from 1e-6 to below 1e21, an exponent elsewhere. */
static void append_decimal(struct buf *out, struct decimal d)
{
        char text[20];
        d = without_trailing_zeros(d);
        const char *digits = decimal_digits(d.digits, text);
        int k = (int)(text + sizeof text - digits);
        int n = k + d.exponent; /* the point stands behind the nth digit */
        if (n >= k && n <= 21) {
                buf_append(out, digits, (size_t)k);
                append_zeros(out, n - k);
        } else if (n > 0 && n <= 21) {
                buf_append(out, digits, (size_t)n);
                buf_append(out, ".", 1);
                buf_append(out, digits + n, (size_t)(k - n));
        } else if (n > -6 && n <= 0) {
                buf_append(out, "0.", 2);
                append_zeros(out, -n);
                buf_append(out, digits, (size_t)k);
        } else {
                buf_append(out, digits, 1);
                if (k > 1)
                        buf_append(out, ".", 1);
                buf_append(out, digits + 1, (size_t)(k - 1));
                buf_printf(out, "e%+d", n - 1);
        }
}

void jw_double(struct json_writer *w, double v)
{
        if (!isfinite(v)) {
                jw_null(w);
                return;
        }
        begin_value(w);
        if (signbit(v))
                buf_append(w->out, "-", 1);
        double size = fabs(v);
        if (size <= 9007199254740992.0 && size == floor(size))
                append_u64(w->out, (uint64_t)size);
        else
                append_decimal(w->out, shortest_f64(size));
}

void jw_float(struct json_writer *w, float v)
{
        if (!isfinite(v)) {
                jw_null(w);
                return;
        }
        begin_value(w);
        if (signbit(v))
                buf_append(w->out, "-", 1);
        float size = fabsf(v);
        if (size <= 16777216.0F && size == floorf(size))
                append_u64(w->out, (uint64_t)size);
        else
                append_decimal(w->out, shortest_f32(size));
}

void jw_bool(struct json_writer *w, bool v)
{
        begin_value(w);
        buf_append_str(w->out, v ? "true" : "false");
}

void jw_null(struct json_writer *w)
{
        begin_value(w);
        buf_append_str(w->out, "null");
}

void jw_time(struct json_writer *w, int64_t ms)
{
        char text[RFC3339_SIZE];
        if (ms == 0)
                jw_null(w);
        else
                jw_string(w, time_format(ms, text));
}

void jw_hex(struct json_writer *w, const void *data, size_t len)
{
        const uint8_t *bytes = data;
        begin_value(w);
        buf_append(w->out, "\"", 1);
        for (size_t i = 0; i < len; i++) {
                char two[3];
                buf_append(w->out, hex_encode(bytes + i, 1, two), 2);
        }
        buf_append(w->out, "\"", 1);
}

void jw_raw(struct json_writer *w, const char *json, size_t len)
{
        begin_value(w);
        buf_append(w->out, json, len);
}

/* --- members --- */

void jw_member_string(struct json_writer *w, const char *key, const char *s)
{
        jw_key(w, key);
        jw_string(w, s);
}

void jw_member_u64(struct json_writer *w, const char *key, uint64_t v)
{
        jw_key(w, key);
        jw_u64(w, v);
}

void jw_member_i64(struct json_writer *w, const char *key, int64_t v)
{
        jw_key(w, key);
        jw_i64(w, v);
}

void jw_member_double(struct json_writer *w, const char *key, double v)
{
        jw_key(w, key);
        jw_double(w, v);
}

void jw_member_bool(struct json_writer *w, const char *key, bool v)
{
        jw_key(w, key);
        jw_bool(w, v);
}

void jw_member_time(struct json_writer *w, const char *key, int64_t ms)
{
        jw_key(w, key);
        jw_time(w, ms);
}

void jw_member_hex(struct json_writer *w, const char *key, const void *data, size_t len)
{
        jw_key(w, key);
        jw_hex(w, data, len);
}

void jw_member_text(struct json_writer *w, const char *key, const char *s)
{
        jw_key(w, key);
        if (s != NULL && s[0] != '\0')
                jw_string(w, s);
        else
                jw_null(w);
}
