/* SPDX-License-Identifier: Apache-2.0
 * tensor.c: see tensor.h. The scan that finds where an array ends looks only for brackets and
 * quotes, by a table of 256 classes; what is between them is checked by the reading that follows,
 * once, with the count that the shape promises. */
#include "api/tensor.h"
#include "lib/util/crypto.h"
#include "lib/util/number.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- types --- */

static const struct {
        const char *name;
        size_t size;
        double min, max; /* of the whole numbers that it holds */
} types[] = {
        [TENSOR_BOOL] = {"BOOL", 1, 0, 1},
        [TENSOR_UINT8] = {"UINT8", 1, 0, 255},
        [TENSOR_UINT16] = {"UINT16", 2, 0, 65535},
        [TENSOR_UINT32] = {"UINT32", 4, 0, 4294967295.0},
        [TENSOR_UINT64] = {"UINT64", 8, 0, 18446744073709551615.0},
        [TENSOR_INT8] = {"INT8", 1, -128, 127},
        [TENSOR_INT16] = {"INT16", 2, -32768, 32767},
        [TENSOR_INT32] = {"INT32", 4, -2147483648.0, 2147483647.0},
        [TENSOR_INT64] = {"INT64", 8, -9223372036854775808.0, 9223372036854775807.0},
        [TENSOR_FP32] = {"FP32", 4, 0, 0},
        [TENSOR_FP64] = {"FP64", 8, 0, 0},
        [TENSOR_BYTES] = {"BYTES", 0, 0, 0},
};

const char *tensor_type_name(enum tensor_type t)
{
        return types[t].name;
}

size_t tensor_type_size(enum tensor_type t)
{
        return types[t].size;
}

bool tensor_type_parse(const char *name, enum tensor_type *out)
{
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
                if (strcmp(types[i].name, name) == 0) {
                        *out = (enum tensor_type)i;
                        return true;
                }
        }
        return false;
}

/* --- cutting --- */

static bool is_blank(char c)
{
        return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static const char *skip_blanks(const char *p, const char *end)
{
        while (p < end && is_blank(*p))
                p++;
        return p;
}

/* Behind the string whose opening quote is at p; NULL where it does not end. */
static const char *skip_string(const char *p, const char *end)
{
        for (p++; p < end; p++) {
                if (*p == '\\')
                        p++;
                else if (*p == '"')
                        return p + 1;
        }
        return NULL;
}

enum class { PLAIN, QUOTE, OPEN, CLOSE };
static const uint8_t classes[256] = {
        ['"'] = QUOTE, ['['] = OPEN, ['{'] = OPEN, [']'] = CLOSE, ['}'] = CLOSE,
};

/* Fills the span of the array that opens at p; false where it does not end. */
static bool measure(const char *p, const char *end, struct tensor_span *out)
{
        const char *first = skip_blanks(p + 1, end);
        uint32_t depth = 0;
        *out = (struct tensor_span){.text = p, .first = first < end ? *first : '\0'};
        while (p != NULL && p < end) {
                enum class c = classes[(uint8_t)*p];
                if (c == PLAIN) {
                        p++;
                        continue;
                }
                if (depth == 1 && c != CLOSE)
                        out->elements++;
                if (c == QUOTE) {
                        p = skip_string(p, end);
                        continue;
                }
                depth = c == OPEN ? depth + 1 : depth - 1;
                p++;
                if (depth == 0) {
                        out->len = (size_t)(p - out->text);
                        return true;
                }
        }
        return false;
}

/* A client can write one only on purpose, and then reads its own array twice. */
static const char marker_head[] = "\\u0001tensor:";
static const char marker_text[] = "\001tensor:";

static int add_span(struct tensor_cuts *cuts, const struct tensor_span *span, struct errinfo *e)
{
        if (cuts->count == cuts->cap) {
                uint32_t cap = cuts->cap != 0 ? cuts->cap * 2 : 4;
                struct tensor_span *spans = realloc(cuts->spans, cap * sizeof *spans);
                if (spans == NULL)
                        return ul_fail(e, UL_NOMEM, "no memory for the arrays of a request");
                cuts->spans = spans;
                cuts->cap = cap;
        }
        cuts->spans[cuts->count] = *span;
        buf_printf(&cuts->envelope, "\"%s%u\"", marker_head, cuts->count);
        cuts->count++;
        return 0;
}

struct cutter {
        const char *end;
        const char *copied; /* all before it is in the envelope, or cut */
        const char *key;
        size_t key_len;
        uint32_t want_depth;
        struct tensor_cuts *cuts;
};

/* A key of the wanted depth at [p, after): cuts its value where that is an array. Returns where to
 * go on, or NULL. */
static const char *cut_value(struct cutter *c, const char *after, struct errinfo *e)
{
        const char *p = skip_blanks(after, c->end);
        if (p == c->end || *p != ':')
                return after;
        p = skip_blanks(p + 1, c->end);
        if (p == c->end || *p != '[')
                return p;
        struct tensor_span span;
        if (!measure(p, c->end, &span)) {
                ul_fail(e, UL_SYNTAX, "not valid JSON: an array does not end");
                return NULL;
        }
        buf_append(&c->cuts->envelope, c->copied, (size_t)(p - c->copied));
        if (add_span(c->cuts, &span, e) != 0)
                return NULL;
        c->copied = p + span.len;
        return c->copied;
}

static int cut_all(struct cutter *c, const char *text, struct errinfo *e)
{
        uint32_t depth = 0;
        bool key_next = false; /* a string here would be a key of an object of the wanted depth */
        for (const char *p = text; p < c->end;) {
                if (*p != '"') {
                        if (*p == '{' || *p == '[')
                                depth++;
                        else if ((*p == '}' || *p == ']') && depth > 0)
                                depth--;
                        if (!is_blank(*p))
                                key_next = depth == c->want_depth && (*p == '{' || *p == ',');
                        p++;
                        continue;
                }
                const char *after = skip_string(p, c->end);
                if (after == NULL)
                        break; /* the reader of the envelope will say so */
                if (key_next && (size_t)(after - p) == c->key_len + 2 &&
                    memcmp(p + 1, c->key, c->key_len) == 0) {
                        after = cut_value(c, after, e);
                        if (after == NULL)
                                return e != NULL ? e->code : UL_SYNTAX;
                }
                key_next = false;
                p = after;
        }
        buf_append(&c->cuts->envelope, c->copied, (size_t)(c->end - c->copied));
        if (c->cuts->envelope.failed)
                return ul_fail(e, UL_NOMEM, "no memory for a request");
        return 0;
}

int tensor_cut(const char *text, size_t len, const char *key, uint32_t depth,
               struct tensor_cuts *out, struct errinfo *e)
{
        struct errinfo own = {0};
        struct cutter c = {.end = text + len,
                           .copied = text,
                           .key = key,
                           .key_len = strlen(key),
                           .want_depth = depth,
                           .cuts = out};
        memset(out, 0, sizeof *out);
        return cut_all(&c, text, e != NULL ? e : &own);
}

const struct tensor_span *tensor_find(const struct tensor_cuts *cuts, const struct json *marker)
{
        const char *text = json_string(marker);
        size_t head = sizeof marker_text - 1;
        if (text == NULL || strncmp(text, marker_text, head) != 0)
                return NULL;
        char *end = NULL;
        unsigned long at = strtoul(text + head, &end, 10);
        return end != text + head && *end == '\0' && at < cuts->count ? &cuts->spans[at] : NULL;
}

void tensor_cuts_clear(struct tensor_cuts *cuts)
{
        buf_free(&cuts->envelope, true);
        free(cuts->spans);
        memset(cuts, 0, sizeof *cuts);
}

/* --- numbers of a text --- */

struct reader {
        const char *p, *end;
        enum tensor_type type;
        size_t row; /* where it is, for messages */
        bool nested;
};

static int refuse_at(const struct reader *r, size_t column, struct errinfo *e, const char *why)
{
        char field[ERRINFO_FIELD_MAX];
        snprintf(field, sizeof field, "/%zu/%zu", r->row, column);
        return ul_fail_field(e, UL_INVALID, field, "%s", why);
}

static bool take_word(struct reader *r, const char *word)
{
        size_t len = strlen(word);
        if ((size_t)(r->end - r->p) < len || memcmp(r->p, word, len) != 0)
                return false;
        r->p += len;
        return true;
}

/* What JSON itself has no number for, in the spelling of Python's writer; and booleans. */
static bool take_special(struct reader *r, float *out)
{
        if (r->type == TENSOR_BOOL && take_word(r, "true"))
                *out = 1;
        else if (r->type == TENSOR_BOOL && take_word(r, "false"))
                *out = 0;
        else if (take_word(r, "NaN"))
                *out = NAN;
        else if (take_word(r, "Infinity"))
                *out = INFINITY;
        else if (take_word(r, "-Infinity"))
                *out = -INFINITY;
        else
                return false;
        return true;
}

static bool is_whole_type(enum tensor_type t)
{
        return t < TENSOR_FP32;
}

static int take_whole(struct reader *r, size_t column, float *out, struct errinfo *e)
{
        double v = 0;
        size_t n = parse_f64(r->p, (size_t)(r->end - r->p), &v);
        if (n == 0)
                return UL_AGAIN;
        if (v != floor(v) || v < types[r->type].min || v > types[r->type].max)
                return refuse_at(r, column, e, "the value is not one that the datatype holds");
        r->p += n;
        *out = (float)v;
        return 0;
}

static int take_value(struct reader *r, size_t column, float *out, struct errinfo *e)
{
        int err = 0;
        if (is_whole_type(r->type)) {
                err = take_whole(r, column, out, e);
        } else {
                size_t n = parse_f32(r->p, (size_t)(r->end - r->p), out);
                r->p += n;
                err = n == 0 ? UL_AGAIN : 0;
        }
        if (err != UL_AGAIN)
                return err;
        if (r->p == r->end)
                return ul_fail(e, UL_SYNTAX, "not valid JSON: an array does not end");
        return take_special(r, out) ? 0 : refuse_at(r, column, e, "this is not a number");
}

static int wrong_count(const struct reader *r, size_t count, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX] = "";
        if (r->nested)
                snprintf(field, sizeof field, "/%zu", r->row);
        return ul_fail_field(e, UL_INVALID, field,
                             "wrong size: exactly %zu numbers are wanted here", count);
}

/* [v, v, ...]: exactly count numbers. r->p is at the opening bracket. */
static int take_list(struct reader *r, size_t count, size_t columns, float *out, struct errinfo *e)
{
        r->p = skip_blanks(r->p + 1, r->end);
        if (r->p < r->end && *r->p == ']' && count > 0)
                return wrong_count(r, count, e);
        for (size_t i = 0; i < count; i++) {
                if (!r->nested)
                        r->row = columns != 0 ? i / columns : 0;
                int err = take_value(r, r->nested ? i : i % columns, &out[i], e);
                if (err != 0)
                        return err;
                r->p = skip_blanks(r->p, r->end);
                char want = i + 1 < count ? ',' : ']';
                if (r->p == r->end)
                        return ul_fail(e, UL_SYNTAX, "not valid JSON: an array does not end");
                if (*r->p != want)
                        return *r->p == ',' || *r->p == ']'
                                       ? wrong_count(r, count, e)
                                       : ul_fail(e, UL_SYNTAX, "not valid JSON in a number");
                if (want == ',')
                        r->p = skip_blanks(r->p + 1, r->end);
        }
        r->p++;
        return 0;
}

static int take_rows(struct reader *r, size_t rows, size_t columns, float *out, struct errinfo *e)
{
        r->p = skip_blanks(r->p + 1, r->end);
        for (r->row = 0; r->row < rows; r->row++) {
                if (r->p == r->end || *r->p != '[')
                        return ul_fail(e, UL_INVALID, "wrong size: %zu rows are wanted", rows);
                int err = take_list(r, columns, columns, out + r->row * columns, e);
                if (err != 0)
                        return err;
                r->p = skip_blanks(r->p, r->end);
                char want = r->row + 1 < rows ? ',' : ']';
                if (r->p == r->end)
                        return ul_fail(e, UL_SYNTAX, "not valid JSON: an array does not end");
                if (*r->p != want)
                        return *r->p == ',' || *r->p == ']'
                                       ? ul_fail(e, UL_INVALID, "wrong size: %zu rows are wanted",
                                                 rows)
                                       : ul_fail(e, UL_SYNTAX, "not valid JSON between two rows");
                if (want == ',')
                        r->p = skip_blanks(r->p + 1, r->end);
        }
        r->p++;
        return 0;
}

int tensor_numbers(const char *text, size_t len, enum tensor_type type, size_t rows, size_t columns,
                   float *out, struct errinfo *e)
{
        struct reader r = {.p = skip_blanks(text, text + len), .end = text + len, .type = type};
        assert(rows > 0 && columns > 0);
        if (r.p == r.end || *r.p != '[')
                return ul_fail(e, UL_INVALID, "this must be an array of numbers");
        const char *first = skip_blanks(r.p + 1, r.end);
        r.nested = first < r.end && *first == '[';
        int err = r.nested ? take_rows(&r, rows, columns, out, e)
                           : take_list(&r, rows * columns, columns, out, e);
        if (err == 0 && skip_blanks(r.p, r.end) != r.end)
                return ul_fail(e, UL_SYNTAX, "not valid JSON behind an array");
        return err;
}

/* --- numbers of bytes --- */

static float read_element(const uint8_t *p, enum tensor_type type)
{
        switch (type) {
        case TENSOR_BOOL:
        case TENSOR_UINT8:
                return (float)*p;
        case TENSOR_UINT16:
                return (float)get_le16(p);
        case TENSOR_UINT32:
                return (float)get_le32(p);
        case TENSOR_UINT64:
                return (float)get_le64(p);
        case TENSOR_INT8:
                return (float)(int8_t)*p;
        case TENSOR_INT16:
                return (float)(int16_t)get_le16(p);
        case TENSOR_INT32:
                return (float)(int32_t)get_le32(p);
        case TENSOR_INT64:
                return (float)(int64_t)get_le64(p);
        case TENSOR_FP64: {
                double v;
                memcpy(&v, p, sizeof v);
                return (float)v;
        }
        case TENSOR_FP32:
        case TENSOR_BYTES:
                break;
        }
        return NAN;
}

int tensor_binary(const uint8_t *data, size_t count, enum tensor_type type, float *out,
                  struct errinfo *e)
{
        size_t size = tensor_type_size(type);
        if (type == TENSOR_FP32) {
                memcpy(out, data, count * sizeof *out);
                return 0;
        }
        for (size_t i = 0; i < count; i++) {
                out[i] = read_element(data + i * size, type);
                if (type == TENSOR_BOOL && data[i] > 1)
                        return ul_fail(e, UL_INVALID, "a BOOL is a byte of 0 or 1");
        }
        return 0;
}

int tensor_next_bytes(const uint8_t *data, size_t len, size_t *at, const char **text,
                      size_t *text_len, struct errinfo *e)
{
        if (len - *at < 4)
                return ul_fail(e, UL_INVALID, "wrong size: the BYTES elements end too early");
        size_t n = get_le32(data + *at);
        if (n > len - *at - 4)
                return ul_fail(e, UL_INVALID, "wrong size: a BYTES element runs over the end");
        *text = (const char *)data + *at + 4;
        *text_len = n;
        *at += 4 + n;
        return 0;
}
