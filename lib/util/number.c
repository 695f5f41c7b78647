/* SPDX-License-Identifier: Apache-2.0
 * number.c: reads decimal numbers exactly as strtof and strtod do, most of them without calling
 * either. A short path is taken only where its result is proven to be the correctly rounded one;
 * every doubt goes to the C library, with a bounded text that holds no decimal point, so that no
 * locale matters. It allocates nothing and leaves errno alone. */
#include "lib/util/number.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "the short paths need arithmetic in the declared type");

enum {
        MANTISSA_DIGITS = 19,  /* as many as always fit 64 bits */
        EXACT_DIGITS = 800,    /* no midpoint of two doubles has more than 768 digits */
        EXPONENT_MAX = 100000, /* beyond every double at EXACT_DIGITS digits */
        REWRITE_SIZE = EXACT_DIGITS + 32,
};

/* The text's value is (-1)^negative * (its digits as one integer) * 10^unit. */
struct decimal {
        const char *first; /* the digits, with a point between them somewhere */
        const char *end;
        int64_t unit;
        int64_t dropped;   /* digits at the end that are not in mantissa */
        uint64_t mantissa; /* the digits before those, as an integer */
        bool negative;
};

static bool is_digit(const char *p, const char *end)
{
        return p < end && (unsigned char)(*p - '0') < 10;
}

static const char *read_digits(const char *p, const char *end, uint64_t *mantissa)
{
        uint64_t m = *mantissa;
        for (; is_digit(p, end); p++)
                m = m * 10 + (unsigned char)(*p - '0');
        *mantissa = m;
        return p;
}

/* Reads the digits once more where they were too many for the mantissa. */
static void keep_first_digits(struct decimal *d)
{
        int kept = 0;
        d->mantissa = 0;
        for (const char *p = d->first; p != d->end; p++) {
                if (*p == '.')
                        continue;
                if (kept == MANTISSA_DIGITS) {
                        d->dropped++;
                        continue;
                }
                d->mantissa = d->mantissa * 10 + (unsigned char)(*p - '0');
                kept += d->mantissa != 0; /* leading zeros do not count */
        }
}

/* Reads an exponent into d->unit; returns p itself where there is none. */
static const char *read_exponent(const char *p, const char *end, struct decimal *d)
{
        const char *q = p;
        int64_t exponent = 0;
        if (q == end || (*q != 'e' && *q != 'E'))
                return p;
        q++;
        bool negative = q < end && *q == '-';
        if (q < end && (*q == '-' || *q == '+'))
                q++;
        if (!is_digit(q, end))
                return p;
        for (; is_digit(q, end); q++) {
                if (exponent < INT64_C(1000000000000000)) /* more than a text can have digits */
                        exponent = exponent * 10 + (*q - '0');
        }
        d->unit += negative ? -exponent : exponent;
        return q;
}

/* The grammar of RFC 8259, section 6. Returns the end of the number, or NULL. */
static const char *read_decimal(const char *text, const char *end, struct decimal *d)
{
        const char *p = text;
        *d = (struct decimal){.negative = p < end && *p == '-'};
        if (d->negative)
                p++;
        if (!is_digit(p, end))
                return NULL;
        d->first = p;
        p = *p == '0' ? p + 1 : read_digits(p, end, &d->mantissa);
        if (p < end && *p == '.' && is_digit(p + 1, end)) {
                const char *fraction = p + 1;
                p = read_digits(fraction, end, &d->mantissa);
                d->unit = -(p - fraction);
        }
        d->end = p;
        if (p - d->first - (d->unit != 0) > MANTISSA_DIGITS)
                keep_first_digits(d);
        return read_exponent(p, end, d);
}

/* Writes the value as "-ddd...e-x" with at most EXACT_DIGITS digits and, where others that are not
 * zero follow, one digit 1, which keeps it off every midpoint: the same rounding, a bounded text.
 */
static void rewrite(const struct decimal *d, char out[static REWRITE_SIZE])
{
        size_t n = 0;
        int64_t taken = 0;
        int64_t exponent = d->unit;
        bool rest = false;
        if (d->negative)
                out[n++] = '-';
        for (const char *p = d->first; p != d->end; p++) {
                if (*p == '.' || (*p == '0' && taken == 0))
                        continue;
                if (taken < EXACT_DIGITS) {
                        out[n++] = *p;
                        taken++;
                } else {
                        rest |= *p != '0';
                        exponent++;
                }
        }
        if (rest) {
                out[n++] = '1';
                exponent--;
        }
        if (exponent > EXPONENT_MAX)
                exponent = EXPONENT_MAX;
        if (exponent < -EXPONENT_MAX)
                exponent = -EXPONENT_MAX;
        snprintf(out + n, REWRITE_SIZE - n, "e%" PRId64, exponent);
}

static float slow_f32(const struct decimal *d)
{
        char text[REWRITE_SIZE];
        int saved = errno;
        rewrite(d, text);
        float v = strtof(text, NULL);
        errno = saved;
        return v;
}

static double slow_f64(const struct decimal *d)
{
        char text[REWRITE_SIZE];
        int saved = errno;
        rewrite(d, text);
        double v = strtod(text, NULL);
        errno = saved;
        return v;
}

/* Powers of ten that a double holds exactly; those to 10^10 are exact in a float too. */
static const double power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
enum { POWER_MAX = 22, POWER_MAX_F32 = 10 };

/* An integer and a power of ten that are both exact, and one operation: correctly rounded
 * (Clinger, "How to read floating point numbers accurately", 1990). */
static bool exact_f32(const struct decimal *d, float *out)
{
        if (d->dropped > 0 || d->mantissa > UINT64_C(1) << 24 || d->unit < -POWER_MAX_F32 ||
            d->unit > POWER_MAX_F32)
                return false;
        float m = (float)d->mantissa;
        *out = d->unit < 0 ? m / (float)power[-d->unit] : m * (float)power[d->unit];
        return true;
}

/* By way of a double that is at most 4 units of its last place off the value: taken where no
 * midpoint of two floats (the low 29 bits 1000...) lies that near, so that both round alike. */
static bool near_f32(const struct decimal *d, float *out)
{
        enum { DOUBT = 8 };
        int64_t unit = d->unit + d->dropped;
        if (unit < -2 * POWER_MAX || unit > 2 * POWER_MAX)
                return false;
        double v = (double)d->mantissa;
        int64_t rest = unit < 0 ? -unit : unit;
        int64_t step = rest > POWER_MAX ? POWER_MAX : rest;
        rest -= step;
        v = unit < 0 ? v / power[step] : v * power[step];
        if (rest > 0)
                v = unit < 0 ? v / power[rest] : v * power[rest];
        if (v < 2.0 * (double)FLT_MIN || v > (double)FLT_MAX / 2.0)
                return false;
        uint64_t bits;
        memcpy(&bits, &v, sizeof bits);
        int64_t off = (int64_t)(bits & 0x1FFFFFFF) - 0x10000000;
        if (off >= -DOUBT && off <= DOUBT)
                return false;
        *out = (float)v;
        return true;
}

static bool exact_f64(const struct decimal *d, double *out)
{
        if (d->dropped > 0 || d->mantissa > UINT64_C(1) << 53 || d->unit < -POWER_MAX ||
            d->unit > POWER_MAX)
                return false;
        double m = (double)d->mantissa;
        *out = d->unit < 0 ? m / power[-d->unit] : m * power[d->unit];
        return true;
}

size_t parse_f32(const char *text, size_t len, float *out)
{
        struct decimal d;
        const char *end = read_decimal(text, text + len, &d);
        if (end == NULL)
                return 0;
        float v = 0;
        if (d.mantissa != 0 && !exact_f32(&d, &v) && !near_f32(&d, &v)) {
                *out = slow_f32(&d);
                return (size_t)(end - text);
        }
        *out = d.negative ? -v : v;
        return (size_t)(end - text);
}

size_t parse_f64(const char *text, size_t len, double *out)
{
        struct decimal d;
        const char *end = read_decimal(text, text + len, &d);
        if (end == NULL)
                return 0;
        double v = 0;
        if (d.mantissa != 0 && !exact_f64(&d, &v)) {
                *out = slow_f64(&d);
                return (size_t)(end - text);
        }
        *out = d.negative ? -v : v;
        return (size_t)(end - text);
}
