/* SPDX-License-Identifier: Apache-2.0
 * ingest_ndjson.c: one JSON object a line. The array of features is most of a line, and a tree of
 * it would cost twenty times its parsing: so a small scanner finds the array, one pass turns it
 * into floats, and the JSON reader gets the rest of the line with a 0 in its place. Replacing one
 * value by another keeps JSON exactly as valid as it was, so the reader's strictness still holds.
 */
#include "lib/records/ingest_private.h"

#include "lib/util/json.h"
#include "lib/util/number.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* What a line says, borrowed from its document. */
struct envelope {
        const struct json *id, *subject, *label, *likelihood;
        const struct json *input; /* features (a 0 in their place), text or columns */
};

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_blanks(const char *p, size_t at, size_t len)
{
        while (at < len && is_blank(p[at]))
                at++;
        return at;
}

/* --- the array of features --- */

/* The position behind the string that opens at `at`, or 0 where it does not end. */
static size_t string_end(const char *p, size_t at, size_t len)
{
        for (at++; at < len; at++) {
                if (p[at] == '\\')
                        at++;
                else if (p[at] == '"')
                        return at + 1;
        }
        return 0;
}

/* Where the array of the top-level member "features" opens; false where there is none, which the
 * JSON reader will then see as well. */
static bool find_features(const char *p, size_t len, size_t *open)
{
        static const char key[] = "\"features\"";
        const size_t key_len = sizeof key - 1;
        bool key_next = false; /* a string here would be a key of the top-level object */
        uint32_t depth = 0;
        for (size_t at = 0; at < len;) {
                const char c = p[at];
                if (c != '"') {
                        if (c == '{' || c == '[')
                                depth++;
                        else if ((c == '}' || c == ']') && depth-- == 0)
                                return false;
                        if (!is_blank(c))
                                key_next = depth == 1 && (c == '{' || c == ',');
                        at++;
                        continue;
                }
                const size_t end = string_end(p, at, len);
                if (end == 0)
                        return false;
                if (key_next && end - at == key_len && memcmp(p + at, key, key_len) == 0) {
                        at = skip_blanks(p, end, len);
                        if (at == len || p[at] != ':')
                                return false;
                        *open = skip_blanks(p, at + 1, len);
                        return *open < len && p[*open] == '[';
                }
                key_next = false;
                at = end;
        }
        return false;
}

static int wrong_count(uint32_t features, struct errinfo *e)
{
        return ul_fail_field(e, UL_INVALID, "/features", "must be an array of exactly %u numbers",
                             features);
}

static int not_a_number(uint32_t at, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        (void)snprintf(field, sizeof field, "/features/%u", at);
        return ul_fail_field(e, UL_INVALID, field, "a feature must be a number");
}

/* Reads the array that opens at `at` in one pass; *end: the position behind it. */
static int read_features(struct ingest *in, const char *p, size_t len, size_t at, size_t *end,
                         struct errinfo *e)
{
        const uint32_t features = in->enc->shape.features;
        float *x = in->features;
        at = skip_blanks(p, at + 1, len);
        for (uint32_t i = 0; i < features; i++) {
                if (i == 0 && at < len && p[at] == ']')
                        return wrong_count(features, e);
                /* parse_f32 reads RFC 8259's grammar: of "01" and "1." it leaves a rest behind. */
                const size_t n = parse_f32(p + at, len - at, &x[i]);
                if (n == 0)
                        return not_a_number(i, e);
                at = skip_blanks(p, at + n, len);
                const char want = i + 1 < features ? ',' : ']';
                if (at == len)
                        return ul_fail_field(e, UL_SYNTAX, "/features", "the array does not end");
                if (p[at] != want)
                        return p[at] == ',' || p[at] == ']' ? wrong_count(features, e)
                                                            : not_a_number(i, e);
                at = want == ',' ? skip_blanks(p, at + 1, len) : at + 1;
        }
        *end = at;
        return 0;
}

/* --- the rest of the line --- */

static int need_string(const struct json *v, const char *field, struct errinfo *e)
{
        if (json_type_of(v) == JSON_STRING)
                return 0;
        return ul_fail_field(e, UL_INVALID, field, "must be a string");
}

static int take_targets(struct ingest *in, const struct json *v, struct errinfo *e)
{
        uint32_t n = 0;
        if (json_type_of(v) == JSON_NUMBER) {
                in->targets[n++] = (float)json_number(v);
                return encode_targets(in->enc, in->targets, n, in->row, e);
        }
        if (json_type_of(v) != JSON_ARRAY || json_length(v) != in->enc->shape.targets)
                return ul_fail_field(e, UL_INVALID, "/label",
                                     "must be a number, or an array of %u numbers",
                                     in->enc->shape.targets);
        for (const struct json *c = json_first(v); c != NULL; c = json_next(c)) {
                if (json_type_of(c) != JSON_NUMBER)
                        return ul_fail_field(e, UL_INVALID, "/label", "a target must be a number");
                in->targets[n++] = (float)json_number(c);
        }
        return encode_targets(in->enc, in->targets, n, in->row, e);
}

static int take_label(struct ingest *in, const struct json *v, struct errinfo *e)
{
        if (v == NULL) {
                if (!in->labels_required)
                        return 0;
                return ul_fail_field(e, UL_INVALID, "/label", "is missing");
        }
        if (in->enc->classes == 0)
                return take_targets(in, v, e);
        if (json_type_of(v) == JSON_NUMBER)
                return ingest_set_label_number(in, json_number(v), e);
        const char *text = json_string(v);
        if (text == NULL)
                return ul_fail_field(e, UL_INVALID, "/label", "must be a string or a number");
        return encode_label_text(in->enc, text, strlen(text), in->row, e);
}

static int take_names(struct ingest *in, const struct envelope *v, struct errinfo *e)
{
        const char *id = json_string(v->id);
        int err = need_string(v->id, "/id", e);
        if (err == 0)
                err = ingest_set_id(in, id, strlen(id), e);
        if (err == 0 && v->subject != NULL) {
                const char *subject = json_string(v->subject);
                err = need_string(v->subject, "/subject", e);
                if (err == 0)
                        err = ingest_set_subject(in, subject, strlen(subject), e);
        }
        if (err == 0 && v->likelihood != NULL) {
                const char *text = json_string(v->likelihood);
                err = need_string(v->likelihood, "/erasure_likelihood", e);
                if (err == 0)
                        err = ingest_set_likelihood(in, text, strlen(text), e);
        }
        return err;
}

static int take_column(struct ingest *in, uint32_t column, const struct json *v, struct errinfo *e)
{
        const struct encoding_column *c = &in->enc->columns[column];
        char number[NUMBER_TEXT_SIZE], field[ERRINFO_FIELD_MAX];
        int err;
        switch (json_type_of(v)) {
        case JSON_STRING:
                return encode_column(in->enc, column, json_string(v), strlen(json_string(v)),
                                     in->features, e);
        case JSON_NULL:
                return encode_column(in->enc, column, NULL, 0, in->features, e);
        case JSON_NUMBER:
                if (!c->categorical)
                        return encode_number_column(in->enc, column, (float)json_number(v),
                                                    in->features, e);
                err = encode_column(in->enc, column, number, number_text(json_number(v), number),
                                    in->features, e);
                wipe(number, sizeof number);
                return err;
        default:
                return ul_fail_field(e, UL_INVALID, column_pointer(c->name, field),
                                     "must be a string, a number or null");
        }
}

static int missing_column(struct ingest *in, const struct json *object, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        uint32_t i = 0;
        while (i + 1 < in->enc->column_count && json_get(object, in->enc->columns[i].name) != NULL)
                i++;
        return ul_fail_field(e, UL_INVALID, column_pointer(in->enc->columns[i].name, field),
                             "is missing: every column must be there");
}

/* The reader refuses a key that is there twice, so known and as many as configured means all. */
static int take_columns(struct ingest *in, const struct json *object, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        if (json_type_of(object) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, "/columns", "must be an object");
        for (const struct json *v = json_first(object); v != NULL; v = json_next(v)) {
                const long column = column_find(in, json_key(v), strlen(json_key(v)));
                if (column < 0)
                        return ul_fail_field(e, UL_INVALID, column_pointer(json_key(v), field),
                                             "is not a column of the model");
                int err = take_column(in, (uint32_t)column, v, e);
                if (err)
                        return err;
        }
        if (json_length(object) != in->enc->column_count)
                return missing_column(in, object, e);
        return ingest_set_features(in, e);
}

static int take_input(struct ingest *in, const struct json *v, bool cut, struct errinfo *e)
{
        if (in->enc->encoder == ENCODE_TABULAR)
                return take_columns(in, v, e);
        if (in->enc->encoder == ENCODE_NONE)
                return cut ? ingest_set_features(in, e) : wrong_count(in->enc->shape.features, e);
        const char *text = json_string(v);
        int err = need_string(v, "/text", e);
        if (err)
                return err;
        encode_text(text, strlen(text), in->enc->shape.features, in->features);
        return ingest_set_features(in, e);
}

static int decode_envelope(const struct ingest *in, const struct json *doc, struct envelope *out,
                           struct errinfo *e)
{
        static const char *const inputs[] = {[ENCODE_NONE] = "features",
                                             [ENCODE_HASH_TEXT] = "text",
                                             [ENCODE_TABULAR] = "columns"};
        const struct json_field fields[] = {
                {.name = "id",
                 .type = JF_VALUE,
                 .offset = offsetof(struct envelope, id),
                 .required = true},
                {.name = "subject", .type = JF_VALUE, .offset = offsetof(struct envelope, subject)},
                {.name = "label", .type = JF_VALUE, .offset = offsetof(struct envelope, label)},
                {.name = "erasure_likelihood",
                 .type = JF_VALUE,
                 .offset = offsetof(struct envelope, likelihood)},
                {.name = inputs[in->enc->encoder],
                 .type = JF_VALUE,
                 .offset = offsetof(struct envelope, input),
                 .required = true},
        };
        *out = (struct envelope){0};
        if (json_type_of(doc) != JSON_OBJECT)
                return ul_fail(e, UL_INVALID, "a line must be a JSON object");
        return json_decode(doc, fields, sizeof fields / sizeof fields[0], out, "", e);
}

/* --- lines --- */

/* The JSON reader's view of the line: itself, or a copy with the features cut out. */
static int parse_line(struct ingest *in, const char *p, size_t len, struct json **doc, bool *cut,
                      struct errinfo *e)
{
        size_t open, end = 0;
        *cut = false;
        if (in->enc->encoder != ENCODE_NONE || !find_features(p, len, &open))
                return json_parse(p, len, doc, e);
        int err = read_features(in, p, len, open, &end, e);
        if (err)
                return err;
        *cut = true;
        const size_t rest = open + 1 + (len - end);
        memcpy(in->scratch, p, open);
        in->scratch[open] = '0';
        memcpy(in->scratch + open + 1, p + end, len - end);
        err = json_parse(in->scratch, rest, doc, e);
        wipe(in->scratch, rest);
        /* An offset into the shortened line would mislead. */
        if (err == UL_SYNTAX)
                return ul_fail(e, err, "the line is not JSON outside of its features");
        return err;
}

static int decode_line(struct ingest *in, const char *p, size_t len, struct errinfo *e)
{
        struct json *doc = NULL;
        struct envelope v;
        bool cut;
        int err = parse_line(in, p, len, &doc, &cut, e);
        if (err)
                return err;
        ingest_row_begin(in);
        err = decode_envelope(in, doc, &v, e);
        if (err == 0)
                err = take_names(in, &v, e);
        if (err == 0)
                err = take_label(in, v.label, e);
        if (err == 0)
                err = take_input(in, v.input, cut, e);
        json_free(&doc);
        return err;
}

/* One whole line, without its newline. Out of memory ends the upload; all else ends the line. */
static int take_line(struct ingest *in, const char *p, size_t len, struct errinfo *e)
{
        const uint64_t line = ++in->lines;
        if (len > NDJSON_LINE_MAX)
                return ingest_refuse_overlong(in, line);
        if (skip_blanks(p, 0, len) == len)
                return 0;
        struct errinfo why = {0}; /* here: a bomb of empty lines must be cheap */
        int err = decode_line(in, p, len, &why);
        if (err == UL_NOMEM)
                return ul_fail(e, err, "no memory for a line of an upload");
        return err ? ingest_refuse(in, line, &why) : ingest_deliver(in, line);
}

/* The line that was held; the buffer is wiped whatever becomes of it. */
static int take_held(struct ingest *in, struct errinfo *e)
{
        int err;
        if (in->held.overlong)
                err = ingest_refuse_overlong(in, ++in->lines);
        else
                err = take_line(in, in->held.data, in->held.len, e);
        held_clear(&in->held);
        return err;
}

static int ndjson_feed(struct ingest *in, const char *data, size_t len, size_t *consumed,
                       struct errinfo *e)
{
        while (*consumed < len) {
                const char *at = data + *consumed;
                const char *newline = memchr(at, '\n', len - *consumed);
                const size_t line = newline != NULL ? (size_t)(newline - at) : len - *consumed;
                int err;
                if (newline == NULL) {
                        held_add(&in->held, at, line);
                        *consumed = len;
                        return 0;
                }
                *consumed += line + 1;
                if (in->held.len == 0 && !in->held.overlong) {
                        err = take_line(in, at, line, e);
                } else {
                        held_add(&in->held, at, line);
                        err = take_held(in, e);
                }
                if (err)
                        return err;
        }
        return 0;
}

static int ndjson_create(struct ingest *in, struct errinfo *e)
{
        (void)in;
        (void)e;
        return 0;
}

static int ndjson_finish(struct ingest *in, struct errinfo *e)
{
        if (in->held.len == 0 && !in->held.overlong)
                return 0;
        return take_held(in, e);
}

static void ndjson_destroy(struct ingest *in)
{
        (void)in;
}

const struct ingest_parser ndjson_parser = {
        .create = ndjson_create,
        .feed = ndjson_feed,
        .finish = ndjson_finish,
        .destroy = ndjson_destroy,
};
