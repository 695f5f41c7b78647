/* SPDX-License-Identifier: Apache-2.0
 * fuzz_scalars.c: the small texts that are everywhere: numbers, times, ULIDs, hexadecimal, base64.
 * Numbers are held to the C library's last bit; everything else to what it is written as again. */
#include "lib/util/clock.h"
#include "lib/util/json.h"
#include "lib/util/number.h"
#include "tests/fuzz/fuzz.h"
#include <math.h>

/* --- numbers --- */

static void check_number(const char *text, size_t len)
{
        float f = -1;
        double d = -1;
        const size_t n = parse_f32(text, len, &f);
        assert(n <= len && parse_f64(text, len, &d) == n);
        if (n == 0)
                return;
        char *copy = fuzz_text((const uint8_t *)text, n);
        const float want_f = strtof(copy, NULL);
        const double want_d = strtod(copy, NULL);
        assert(memcmp(&f, &want_f, sizeof f) == 0 && memcmp(&d, &want_d, sizeof d) == 0);
        free(copy);
}

/* Any number that is written reads back as the same. */
static void check_written(const uint8_t *data, size_t size)
{
        struct json_writer w;
        struct buf b = {0};
        double d, back_d = 0;
        float f, back_f = 0;
        if (size < sizeof d)
                return;
        memcpy(&d, data, sizeof d);
        memcpy(&f, data, sizeof f);
        if (!isfinite(d) || !isfinite(f))
                return;
        jw_init(&w, &b);
        jw_double(&w, d);
        assert(parse_f64((const char *)b.data, b.len, &back_d) == b.len && back_d == d);
        buf_reset(&b, false);
        jw_init(&w, &b);
        jw_float(&w, f);
        assert(parse_f32((const char *)b.data, b.len, &back_f) == b.len && back_f == f);
        buf_free(&b, false);
}

/* --- times and ids --- */

static const int64_t DAY_MS = 86400000, YEAR_10000_MS = INT64_C(253402300800000);

static void check_time(const char *text, size_t len)
{
        int64_t ms = 0, again = 0, later = 0;
        char out[RFC3339_SIZE];
        if (!time_parse(text, len, &ms))
                return;
        assert(ms >= 0 && ms <= YEAR_10000_MS - 1);
        time_format(ms, out);
        assert(time_parse(out, strlen(out), &again) && again == ms);
        later = time_add_months(ms, 1);
        assert(later == YEAR_10000_MS - 1 || later - ms >= 28 * DAY_MS);
        assert(later - ms <= 31 * DAY_MS);
}

static void check_ulid(const char *text, size_t len)
{
        uint8_t id[ULID_BYTES], again[ULID_BYTES];
        char out[ULID_TEXT + 1];
        if (!ulid_parse(text, len, id))
                return;
        ulid_format(id, out);
        assert(ulid_parse(out, ULID_TEXT, again) && memcmp(id, again, ULID_BYTES) == 0);
}

/* --- bytes --- */

static void check_hex(const char *text, size_t len, const uint8_t *data, size_t size)
{
        uint8_t *bytes = malloc(size + 1);
        char *out = malloc(2 * size + 4);
        assert(bytes != NULL && out != NULL);
        const long n = hex_decode(text, len, bytes, size);
        assert(n == -1 || (size_t)n * 2 == len);
        hex_encode(data, size, out);
        assert(hex_decode(out, 2 * size, bytes, size) == (long)size);
        assert(memcmp(bytes, data, size) == 0);
        free(out);
        free(bytes);
}

static void check_base64(const char *text, size_t len, const uint8_t *data, size_t size)
{
        uint8_t *bytes = malloc(size + 3);
        char *out = malloc(base64_size(size) + 4);
        assert(bytes != NULL && out != NULL);
        const long n = base64_decode(text, len, bytes, size);
        if (n > 0) { /* strict: one text for each value */
                base64_encode(bytes, (size_t)n, out);
                assert(strlen(out) == len && memcmp(out, text, len) == 0);
        }
        base64_encode(data, size, out);
        assert(base64_decode(out, strlen(out), bytes, size) == (long)size);
        assert(memcmp(bytes, data, size) == 0);
        free(out);
        free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        check_number(text, size);
        check_written(data, size);
        check_time(text, size);
        check_ulid(text, size);
        check_hex(text, size, data, size);
        check_base64(text, size, data, size);
        return 0;
}
