/* SPDX-License-Identifier: Apache-2.0
 * fuzz_tensor.c: the fast reader of numbers against the strict JSON reader. '0': what follows is a
 * request; cutting its arrays out must leave it exactly as valid as it was. '1' to '9': two digits
 * for rows and columns, one for the type (enum tensor_type from '0' on), and an array of numbers
 * that both readers must agree on; the same bytes are also read as a raw tensor. */
#include "api/tensor.h"
#include "tests/fuzz/fuzz.h"
#include <math.h>

/* --- cutting --- */

static bool valid_json(const char *text, size_t len)
{
        struct json *doc = NULL;
        const bool valid = json_parse(text, len, &doc, NULL) == 0;
        json_free(&doc);
        return valid;
}

static size_t depth_of(const char *text, size_t len)
{
        size_t depth = 0;
        for (size_t i = 0; i < len; i++)
                depth += text[i] == '[' || text[i] == '{';
        return depth;
}

static void check_cut(const char *text, size_t len)
{
        struct tensor_cuts cuts;
        struct errinfo e = {0};
        const int err = tensor_cut(text, len, "data", 3, &cuts, &e);
        bool parts = err == 0 && valid_json((const char *)cuts.envelope.data, cuts.envelope.len);
        for (uint32_t i = 0; i < cuts.count; i++) {
                const struct tensor_span *s = &cuts.spans[i];
                assert(s->text >= text && s->len >= 2 && s->text + s->len <= text + len);
                assert(s->text[0] == '[');
                parts = parts && valid_json(s->text, s->len);
        }
        /* Nested too deep, the parts may pass where the whole does not: depth is counted anew. */
        if (depth_of(text, len) <= JSON_DEPTH_MAX)
                assert(parts == valid_json(text, len));
        tensor_cuts_clear(&cuts);
}

/* --- one array --- */

/* The numbers of an array, flat or of rows, in order; false for anything else. */
static bool take_numbers(const struct json *v, size_t columns, uint32_t depth, size_t *at,
                         size_t count, double *out)
{
        const size_t start = *at;
        for (const struct json *c = json_first(v); c != NULL; c = json_next(c)) {
                if (json_type_of(c) == JSON_ARRAY && depth == 1) {
                        if (!take_numbers(c, columns, 2, at, count, out))
                                return false;
                        continue;
                }
                if (json_type_of(c) != JSON_NUMBER || *at == count)
                        return false;
                out[(*at)++] = json_number(c);
        }
        return depth == 1 || *at - start == columns;
}

/* Whether a strict reader sees rows * columns numbers in the one form or the other. */
static bool read_slowly(const char *text, size_t len, size_t rows, size_t columns, double *out)
{
        struct json *doc = NULL;
        size_t at = 0;
        if (json_parse(text, len, &doc, NULL) != 0)
                return false;
        bool good = json_type_of(doc) == JSON_ARRAY;
        const struct json *first = good ? json_first(doc) : NULL;
        const bool nested = first != NULL && json_type_of(first) == JSON_ARRAY;
        for (const struct json *c = first; good && c != NULL; c = json_next(c))
                good = (json_type_of(c) == JSON_ARRAY) == nested;
        good = good && take_numbers(doc, columns, 1, &at, rows * columns, out) &&
               at == rows * columns;
        json_free(&doc);
        return good;
}

static bool holds(enum tensor_type type, double v)
{
        static const double limits[][2] = {
                [TENSOR_BOOL] = {0, 1},
                [TENSOR_UINT8] = {0, 255},
                [TENSOR_UINT16] = {0, 65535},
                [TENSOR_UINT32] = {0, 4294967295.0},
                [TENSOR_UINT64] = {0, 18446744073709551615.0},
                [TENSOR_INT8] = {-128, 127},
                [TENSOR_INT16] = {-32768, 32767},
                [TENSOR_INT32] = {-2147483648.0, 2147483647.0},
                [TENSOR_INT64] = {-9223372036854775808.0, 9223372036854775807.0},
        };
        if (type == TENSOR_FP32 || type == TENSOR_FP64)
                return true;
        return v == floor(v) && v >= limits[type][0] && v <= limits[type][1];
}

/* The same f32, but for the double rounding of the slow way. */
static bool close_enough(float fast, double slow)
{
        const float f = (float)slow;
        return fast == f || fast == nextafterf(f, INFINITY) || fast == nextafterf(f, -INFINITY);
}

static void check_array(enum tensor_type type, size_t rows, size_t columns, const char *text,
                        size_t len)
{
        float fast[81];
        double slow[81];
        struct errinfo e = {0};
        const size_t count = rows * columns;
        const int err = tensor_numbers(text, len, type, rows, columns, fast, &e);
        const bool strict = read_slowly(text, len, rows, columns, slow);
        if (err != 0)
                fuzz_check_refusal(err, &e);
        if (!strict)
                return; /* booleans, NaN and Infinity are this reader's own */
        bool fits = true;
        for (size_t i = 0; i < count; i++)
                fits = fits && holds(type, slow[i]);
        assert((err == 0) == fits);
        for (size_t i = 0; err == 0 && i < count; i++)
                assert(close_enough(fast[i], slow[i]));
}

static void check_raw(enum tensor_type type, const uint8_t *data, size_t size)
{
        struct errinfo e = {0};
        const size_t count = size / tensor_type_size(type);
        float *out = malloc((count > 0 ? count : 1) * sizeof *out);
        assert(out != NULL);
        const int err = tensor_binary(data, count, type, out, &e);
        assert(err == 0 || (err == UL_INVALID && type == TENSOR_BOOL));
        free(out);
}

static void check_strings(const uint8_t *data, size_t size)
{
        struct errinfo e = {0};
        const char *text = NULL;
        size_t at = 0, len = 0;
        while (at < size) {
                const size_t before = at;
                const int err = tensor_next_bytes(data, size, &at, &text, &len, &e);
                if (err != 0) {
                        fuzz_check_refusal(err, &e);
                        return;
                }
                assert(at == before + 4 + len && at <= size);
                assert(text == (const char *)data + before + 4);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint32_t rows = fuzz_choice(&data, &size, 10);
        if (rows == 0) {
                check_cut((const char *)data, size);
                check_strings(data, size);
                return 0;
        }
        const uint32_t columns = fuzz_choice(&data, &size, 10);
        const enum tensor_type type = (enum tensor_type)(fuzz_choice(&data, &size, TENSOR_BYTES));
        if (columns > 0)
                check_array(type, rows, columns, (const char *)data, size);
        check_raw(type, data, size);
        return 0;
}
