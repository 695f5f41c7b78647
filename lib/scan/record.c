/* SPDX-License-Identifier: Apache-2.0
 * record.c: a record as it was uploaded, turned into the bytes that a row file could still hold of
 * it, through the same encoders as an upload; and pieces of what was written. Long rows and texts
 * are looked for in pieces, so that a part that survived is found as well. It must not know where
 * they are looked for. */
#include "lib/scan/scan_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
        ROW_PIECE_BYTES = 64,
        PIECES_MAX = 32,        /* of one row */
        TEXT_PIECE_BYTES = 24,  /* what no two people write by chance */
        TEXT_PIECES_MAX = 4096, /* of one text */
        LINE_PIECE_BYTES = 64,
        LINE_PIECES_MAX = 8,
        TOKEN_BYTES_MIN = 8,
};

struct taking {
        struct scan *s;
        uint32_t who;
        bool row_wanted, row_found; /* of the encodings that there are */
        struct errinfo *e;
};

/* --- rows --- */

static bool shape_is_held(const struct scan *s, const struct row_shape *shape)
{
        for (size_t i = 0; i < s->shape_count; i++)
                if (s->shapes[i].dtype == shape->dtype && s->shapes[i].features == shape->features)
                        return true;
        return false;
}

/* The needles of one encoded row; *pieces is how many are evidence. Whatever is left of a row of up
 * to 2 KiB is found if it is twice as long as a piece. */
static int add_pieces(struct taking *t, uint32_t index, const uint8_t *bytes, uint32_t len,
                      uint32_t *pieces)
{
        const uint32_t whole = (len + ROW_PIECE_BYTES - 1) / ROW_PIECE_BYTES;
        const uint32_t n = whole < PIECES_MAX ? whole : PIECES_MAX;
        *pieces = 0;
        for (uint32_t i = 0; i < n; i++) {
                /* spread over the row; the last one ends with it */
                const uint32_t last = len < ROW_PIECE_BYTES ? 0 : len - ROW_PIECE_BYTES;
                const uint32_t at = n == 1 ? 0 : (uint32_t)((uint64_t)last * i / (n - 1));
                const uint32_t size = len - at < ROW_PIECE_BYTES ? len - at : ROW_PIECE_BYTES;
                const struct needle needle = {
                        .kind = SCAN_ROW, .who = t->who, .features = index, .within = at};
                if (!is_evidence(bytes + at, size))
                        continue;
                int err = needle_add(t->s, &needle, bytes + at, size, t->e);
                if (err != 0)
                        return err;
                ++*pieces;
        }
        return 0;
}

static int add_row(struct taking *t, const struct row_shape *shape, const float *x)
{
        struct scan *s = t->s;
        uint8_t *row = calloc(1, row_bytes(shape));
        uint32_t pieces = 0;
        if (row == NULL)
                return ul_fail(t->e, UL_NOMEM, "no memory for a row");
        int err = encode_features(shape, x, row, NULL);
        if (err != 0) { /* the record does not fit this type: it was never stored so */
                err = 0;
                goto out;
        }
        const uint8_t *bytes = row + row_feature_offset(shape);
        const uint32_t len = row_feature_bytes(shape);
        err = scan_grow(&s->features, s->feature_count, &s->feature_capacity, sizeof *s->features,
                        t->e);
        if (err != 0)
                goto out;
        const struct features f = {.at = s->feature_bytes.len, .bytes = len};
        buf_append(&s->feature_bytes, bytes, len);
        if (s->feature_bytes.failed) {
                err = ul_fail(t->e, UL_NOMEM, "no memory for a row");
                goto out;
        }
        s->features[s->feature_count++] = f;
        err = add_pieces(t, (uint32_t)s->feature_count - 1, bytes, len, &pieces);
        t->row_found |= pieces > 0;
        if (err == 0 && pieces == 0 && shape_is_held(s, shape))
                t->row_wanted = true;
out:
        wipe(row, row_bytes(shape));
        free(row);
        return err;
}

static int add_features(struct taking *t, const struct json *array)
{
        const size_t n = json_length(array);
        if (json_type_of(array) != JSON_ARRAY || n == 0 || n > FEATURES_MAX)
                return ul_fail(t->e, UL_INVALID, "features must be an array of 1..%d numbers",
                               FEATURES_MAX);
        float *x = malloc(n * sizeof *x);
        size_t k = 0;
        int err = x == NULL ? ul_fail(t->e, UL_NOMEM, "no memory for a row") : 0;
        for (const struct json *v = json_first(array); v != NULL && err == 0; v = json_next(v)) {
                x[k] = (float)json_number(v);
                if (!isfinite(x[k++]))
                        err = ul_fail(t->e, UL_INVALID, "a feature must be a finite number");
        }
        for (uint32_t dtype = DTYPE_F32; dtype <= DTYPE_BIT && err == 0; dtype++) {
                const struct row_shape shape = {.dtype = dtype, .features = (uint32_t)n};
                err = add_row(t, &shape, x);
        }
        if (x != NULL)
                wipe(x, n * sizeof *x);
        free(x);
        return err;
}

/* --- texts --- */

static int add_text_pieces(struct taking *t, const char *text, size_t len, const char *what,
                           size_t piece, size_t max, bool *any)
{
        const struct needle n = {.kind = SCAN_TEXT, .who = t->who, .what = what};
        const size_t size = len < piece ? len : piece;
        size_t count = size == 0 ? 0 : (len + piece - 1) / piece;
        count = count < max ? count : max;
        int err = 0;
        for (size_t i = 0; i < count && err == 0; i++) {
                const size_t at = count == 1 ? 0 : (len - size) * i / (count - 1);
                if (size < TEXT_PIECE_BYTES / 2 || !is_evidence((const uint8_t *)text + at, size))
                        continue;
                err = needle_add(t->s, &n, text + at, size, t->e);
                *any = true;
        }
        return err;
}

static bool is_token_byte(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (uint8_t)c > 127 || strchr("@._+-/", c) != NULL;
}

/* A word with a digit or an @ in it is an address, a number, a name of somebody's own making; the
 * rest are words that others use too. */
static int add_token(struct taking *t, const char *p, size_t len, bool words)
{
        bool own = false;
        while (len > 0 && strchr("._+-/", p[len - 1]) != NULL)
                len--;
        for (size_t i = 0; i < len; i++)
                own |= p[i] == '@' || (p[i] >= '0' && p[i] <= '9');
        if (len < TOKEN_BYTES_MIN || (!own && !words))
                return 0;
        const struct needle n = {.kind = own ? SCAN_TOKEN : SCAN_WORD,
                                 .rule = RULE_WHOLE_WORD,
                                 .who = t->who,
                                 .what = own ? "an address or a number of the text"
                                             : "a word of the text, which others may use too"};
        return needle_add(t->s, &n, p, len, t->e);
}

static int add_tokens(struct taking *t, const char *text, size_t len, bool words)
{
        int err = 0;
        for (size_t i = 0; i < len && err == 0;) {
                size_t end = i;
                while (end < len && text[end] != '\0' && is_token_byte(text[end]))
                        end++;
                if (end > i)
                        err = add_token(t, text + i, end - i, words);
                i = end + 1;
        }
        return err;
}

/* A shape whose model is known, and is not of texts, holds none. */
static bool may_hold_text(const struct scan *s, const struct row_shape *shape)
{
        bool known = false, text = false;
        for (size_t i = 0; i < s->config_count; i++) {
                const struct model_config *c = s->configs[i];
                if (c->features != shape->features || (uint32_t)c->dtype != shape->dtype)
                        continue;
                known = true;
                text |= c->encoder == ENCODER_HASH_TEXT;
        }
        return text || !known;
}

static int add_text_rows(struct taking *t, const char *text, size_t len)
{
        const struct scan *s = t->s;
        float *x = malloc(FEATURES_MAX * sizeof *x);
        int err = x == NULL ? ul_fail(t->e, UL_NOMEM, "no memory for a row") : 0;
        for (size_t i = 0; i < s->shape_count && err == 0; i++) {
                const struct row_shape shape = {.dtype = s->shapes[i].dtype,
                                                .features = s->shapes[i].features};
                if (!may_hold_text(s, &shape))
                        continue;
                encode_text(text, len, shape.features, x);
                err = add_row(t, &shape, x);
                wipe(x, FEATURES_MAX * sizeof *x);
        }
        free(x);
        return err;
}

static int add_text(struct taking *t, const char *text)
{
        const size_t len = text != NULL ? strlen(text) : 0;
        struct buf escaped = {0};
        struct json_writer w;
        bool any = false;
        if (text == NULL)
                return ul_fail(t->e, UL_INVALID, "text must be a string");
        int err = add_text_pieces(t, text, len, "a piece of the text", TEXT_PIECE_BYTES,
                                  TEXT_PIECES_MAX, &any);
        jw_init(&w, &escaped);
        jw_string_n(&w, text, len);
        if (err == 0 && escaped.failed)
                err = ul_fail(t->e, UL_NOMEM, "no memory for a text");
        if (err == 0 && escaped.len != len + 2)
                err = add_text_pieces(t, (const char *)escaped.data + 1, escaped.len - 2,
                                      "a piece of the text, escaped for JSON", TEXT_PIECE_BYTES,
                                      TEXT_PIECES_MAX, &any);
        if (err == 0 && !any)
                tell_unsearchable(t->s, t->s->people[t->who].who,
                                  "the text is too short to be told from chance");
        if (err == 0)
                err = add_tokens(t, text, len, true);
        buf_free(&escaped, true);
        return err == 0 ? add_text_rows(t, text, len) : err;
}

/* --- columns --- */

/* The features of a record of columns; UL_INVALID where they are not those of the model. */
static int encode_columns(const struct model_config *c, const struct json *object, float *x)
{
        int err = json_length(object) == c->column_count ? 0 : UL_INVALID;
        for (uint32_t i = 0; i < c->column_count && err == 0; i++) {
                const struct column_spec *from = &c->columns[i];
                const struct encoding_column column = {.name = from->name,
                                                       .categorical = from->categorical,
                                                       .value_count = from->value_count,
                                                       .values = (const char *const *)from->values,
                                                       .first_feature = from->first_feature};
                const struct encoding enc = {.column_count = 1, .columns = (void *)&column};
                const struct json *v = json_get(object, from->name);
                struct buf number = {0};
                struct json_writer w;
                jw_init(&w, &number);
                if (json_type_of(v) == JSON_NUMBER && v != NULL)
                        jw_double(&w, json_number(v)); /* the shortest text that reads back */
                const char *text = json_string(v);
                if (v == NULL || number.failed)
                        err = UL_INVALID;
                else if (number.len > 0 && !from->categorical)
                        x[from->first_feature] = (float)json_number(v);
                else if (number.len > 0)
                        err = encode_column(&enc, 0, (const char *)number.data, number.len, x,
                                            NULL);
                else
                        err = encode_column(&enc, 0, text, text != NULL ? strlen(text) : 0, x,
                                            NULL);
                buf_free(&number, true);
        }
        return err;
}

static int add_columns(struct taking *t, const struct json *object)
{
        const struct scan *s = t->s;
        bool any = false;
        int err = 0;
        if (json_type_of(object) != JSON_OBJECT)
                return ul_fail(t->e, UL_INVALID, "columns must be an object");
        for (size_t i = 0; i < s->config_count && err == 0; i++) {
                const struct model_config *c = s->configs[i];
                const struct row_shape shape = {.dtype = (uint32_t)c->dtype,
                                                .features = c->features};
                if (c->encoder != ENCODER_TABULAR)
                        continue;
                float *x = calloc(c->features, sizeof *x);
                if (x == NULL)
                        return ul_fail(t->e, UL_NOMEM, "no memory for a row");
                if (encode_columns(c, object, x) == 0) {
                        any = true;
                        err = add_row(t, &shape, x);
                }
                wipe(x, c->features * sizeof *x);
                free(x);
        }
        for (const struct json *v = json_first(object); v != NULL && err == 0; v = json_next(v))
                if (json_type_of(v) == JSON_STRING)
                        err = add_tokens(t, json_string(v), strlen(json_string(v)), false);
        if (err == 0 && !any)
                tell_unsearchable(t->s, t->s->people[t->who].who,
                                  "no configuration of a model with these columns was found, so "
                                  "its row cannot be encoded");
        t->row_found |= !any; /* said already */
        return err;
}

/* --- a line --- */

static int add_people(struct taking *t, const struct json *record, const char *who)
{
        struct scan *s = t->s;
        const char *id = json_string(json_get(record, "id"));
        const char *subject = json_string(json_get(record, "subject"));
        uint32_t group = NOBODY;
        if (id == NULL)
                return ul_fail(t->e, UL_INVALID, "a record needs an id, a string");
        int err = person_add(s, id, strlen(id), false, who, &t->who, t->e);
        if (err == 0 && subject != NULL)
                err = person_add(s, subject, strlen(subject), true, who, &group, t->e);
        if (err == 0 && group != NOBODY)
                s->people[t->who].group = group;
        return err;
}

int scan_line(struct scan *s, const struct json *record, const char *line, size_t len,
              const char *who, struct errinfo *e)
{
        struct taking t = {.s = s, .who = NOBODY, .e = e};
        bool any = false;
        if (json_type_of(record) != JSON_OBJECT)
                return ul_fail(e, UL_INVALID, "a record is a JSON object");
        const struct json *features = json_get(record, "features");
        const struct json *text = json_get(record, "text");
        const struct json *columns = json_get(record, "columns");
        int err = add_people(&t, record, who);
        if (err == 0)
                err = add_text_pieces(&t, line, len, "a piece of the line as it was uploaded",
                                      LINE_PIECE_BYTES, LINE_PIECES_MAX, &any);
        if (err == 0 && features != NULL)
                err = add_features(&t, features);
        if (err == 0 && text != NULL)
                err = add_text(&t, json_string(text));
        if (err == 0 && columns != NULL)
                err = add_columns(&t, columns);
        const bool input = features != NULL || text != NULL || columns != NULL;
        if (err == 0 && input && (t.row_wanted || !t.row_found))
                tell_unsearchable(s, who,
                                  s->key != NULL ? "its row is too short or too uniform to be told "
                                                   "from chance; its pseudonym is looked for"
                                                 : "its row is too short or too uniform to be told "
                                                   "from chance; with the key its pseudonym could "
                                                   "be looked for");
        return err;
}
