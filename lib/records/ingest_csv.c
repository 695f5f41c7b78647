/* SPDX-License-Identifier: Apache-2.0
 * ingest_csv.c: RFC 4180 in two passes over a record: one finds where it ends (newlines within
 * quotes do not end it), one takes its fields. A quote opens a quoted field only where the field
 * begins, in both passes alike, so that a stray quote costs its own line and not those that follow;
 * and text within quotes is never taken for a record, not even in a record over the limit. */
#include "lib/records/ingest_private.h"

#include "lib/util/number.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum csv_role {
        ROLE_ID,
        ROLE_SUBJECT,
        ROLE_LIKELIHOOD,
        ROLE_LABEL,   /* a class */
        ROLE_TARGET,  /* index: which */
        ROLE_FEATURE, /* index: which */
        ROLE_COLUMN,  /* index: which */
        ROLE_TEXT,
};

struct csv_column {
        uint32_t role;
        uint32_t index;
};

/* Where the scanner stands within a record. */
enum csv_state { FIELD_START, IN_PLAIN, IN_QUOTES, AFTER_QUOTE };

struct csv {
        /* from the header */
        bool has_header;
        uint32_t count;
        uint32_t capacity;          /* as many as a right header can have */
        struct csv_column *columns; /* [count] */
        bool *seen;                 /* [column_count] tabular */
        bool has_role[ROLE_TEXT + 1];
        bool has_target[TARGETS_MAX];
        uint32_t features; /* so far */

        /* the record at hand */
        enum csv_state state;
        uint64_t breaks; /* newlines within its quotes */
};

/* --- fields --- */

struct csv_field {
        const char *text;
        size_t len;
};

struct csv_cursor {
        const char *at, *end;
        char *scratch; /* unescaped fields go here: never longer than the record */
        bool more;     /* another field follows */
};

/* A quoted field, the cursor on its quote. Scratch moves with what is written to it, whatever the
 * outcome: it is wiped up to there. */
static bool quoted_field(struct csv_cursor *c, struct csv_field *f)
{
        const char *from = c->at + 1;
        const char *unescaped = c->scratch;
        for (;;) {
                const char *quote = memchr(from, '"', (size_t)(c->end - from));
                if (quote == NULL)
                        return false;
                const bool twice = quote + 1 < c->end && quote[1] == '"';
                const size_t n = (size_t)(quote - from) + (twice ? 1 : 0);
                c->at = quote + (twice ? 2 : 1);
                if (!twice && c->scratch == unescaped) {
                        *f = (struct csv_field){from, n};
                        break;
                }
                memcpy(c->scratch, from, n);
                c->scratch += n;
                if (!twice) {
                        *f = (struct csv_field){unescaped, (size_t)(c->scratch - unescaped)};
                        break;
                }
                from = c->at;
        }
        return c->at == c->end || *c->at == ',';
}

/* The next field; false where its quotes are broken. */
static bool next_field(struct csv_cursor *c, struct csv_field *f)
{
        if (c->at < c->end && *c->at == '"') {
                if (!quoted_field(c, f))
                        return false;
        } else {
                const char *comma = memchr(c->at, ',', (size_t)(c->end - c->at));
                const char *stop = comma != NULL ? comma : c->end;
                *f = (struct csv_field){c->at, (size_t)(stop - c->at)};
                c->at = stop;
                if (memchr(f->text, '"', f->len) != NULL)
                        return false;
        }
        c->more = c->at < c->end;
        if (c->more)
                c->at++;
        return true;
}

static int broken_quotes(struct errinfo *e)
{
        return ul_fail(e, UL_SYNTAX,
                       "the quotes of a field do not match: quote the whole field and double the "
                       "quotes in it");
}

/* --- the header --- */

static bool field_is(const struct csv_field *f, const char *name)
{
        return strlen(name) == f->len && memcmp(name, f->text, f->len) == 0;
}

/* Takes a role that can be there once. */
static void role_once(struct csv *c, enum csv_role role, struct csv_column *out, bool *again)
{
        *again = c->has_role[role];
        c->has_role[role] = true;
        *out = (struct csv_column){.role = role};
}

/* "label.3" of a regression with several targets; the index, or -1. */
static long target_index(const struct ingest *in, const struct csv_field *f)
{
        char name[32];
        for (uint32_t i = 0; i < in->enc->shape.targets; i++) {
                (void)snprintf(name, sizeof name, "label.%u", i);
                if (field_is(f, name))
                        return (long)i;
        }
        return -1;
}

static int unknown_column(const struct csv_field *f, const char *what, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        const int len = f->len < COLUMN_NAME_MAX - 1 ? (int)f->len : COLUMN_NAME_MAX - 1;
        (void)snprintf(field, sizeof field, "%.*s", len, f->text);
        return ul_fail_field(e, UL_SYNTAX, field, "column \"%s\" of the CSV header %s", field,
                             what);
}

/* "label", "label.3": of another model, or a copy of the label that pandas has renamed. As a
 * feature it would teach the model to read the answer. */
static bool looks_like_label(const struct csv_field *f)
{
        static const char head[] = "label.";
        const size_t n = sizeof head - 1;
        if (field_is(f, "label"))
                return true;
        if (f->len <= n || memcmp(f->text, head, n) != 0)
                return false;
        for (size_t i = n; i < f->len; i++)
                if (f->text[i] < '0' || f->text[i] > '9')
                        return false;
        return true;
}

/* One of the columns that hold the input, by the model's encoder. */
static int input_column(struct ingest *in, const struct csv_field *f, struct csv_column *out,
                        bool *again, struct errinfo *e)
{
        struct csv *c = in->state;
        if (in->enc->encoder == ENCODE_NONE) {
                if (looks_like_label(f))
                        return unknown_column(f, "is no label of this model, nor a feature", e);
                if (c->features == in->enc->shape.features)
                        return unknown_column(f, "is one more than the model has features", e);
                *out = (struct csv_column){.role = ROLE_FEATURE, .index = c->features++};
                return 0;
        }
        if (in->enc->encoder == ENCODE_HASH_TEXT && field_is(f, "text")) {
                role_once(c, ROLE_TEXT, out, again);
                return 0;
        }
        const long column =
                in->enc->encoder == ENCODE_TABULAR ? column_find(in, f->text, f->len) : -1;
        if (column < 0)
                return unknown_column(f, "is not known to the model", e);
        *again = c->seen[column];
        c->seen[column] = true;
        *out = (struct csv_column){.role = ROLE_COLUMN, .index = (uint32_t)column};
        return 0;
}

static int header_column(struct ingest *in, const struct csv_field *f, struct csv_column *out,
                         struct errinfo *e)
{
        struct csv *c = in->state;
        const uint32_t targets = in->enc->shape.targets;
        const long target = targets > 1 ? target_index(in, f) : -1;
        bool again = false;
        int err = 0;
        if (field_is(f, "id")) {
                role_once(c, ROLE_ID, out, &again);
        } else if (field_is(f, "subject")) {
                role_once(c, ROLE_SUBJECT, out, &again);
        } else if (field_is(f, "erasure_likelihood")) {
                role_once(c, ROLE_LIKELIHOOD, out, &again);
        } else if (field_is(f, "label") && targets <= 1) {
                role_once(c, targets == 0 ? ROLE_LABEL : ROLE_TARGET, out, &again);
                c->has_target[0] = true;
        } else if (target >= 0) {
                again = c->has_target[target];
                c->has_target[target] = true;
                *out = (struct csv_column){.role = ROLE_TARGET, .index = (uint32_t)target};
        } else {
                err = input_column(in, f, out, &again, e);
        }
        return again ? unknown_column(f, "is there twice", e) : err;
}

static int need_column(bool there, const char *name, struct errinfo *e)
{
        return there ? 0
                     : ul_fail_field(e, UL_SYNTAX, name, "the CSV header has no column \"%s\"",
                                     name);
}

/* A label is all there or, where it is not required, all absent. */
static int header_labels(const struct ingest *in, struct errinfo *e)
{
        const struct csv *c = in->state;
        const uint32_t targets = in->enc->shape.targets;
        uint32_t have = 0;
        char name[32] = "label";
        if (targets <= 1)
                return need_column(c->has_target[0] || !in->labels_required, name, e);
        for (uint32_t i = 0; i < targets; i++)
                have += c->has_target[i];
        if (have == 0 && !in->labels_required)
                return 0;
        for (uint32_t i = 0; i < targets; i++) {
                (void)snprintf(name, sizeof name, "label.%u", i);
                if (!c->has_target[i])
                        return need_column(false, name, e);
        }
        return 0;
}

static int header_complete(const struct ingest *in, struct errinfo *e)
{
        const struct csv *c = in->state;
        int err = need_column(c->has_role[ROLE_ID], "id", e);
        if (err == 0)
                err = header_labels(in, e);
        if (err == 0 && in->enc->encoder == ENCODE_HASH_TEXT)
                err = need_column(c->has_role[ROLE_TEXT], "text", e);
        for (uint32_t i = 0; err == 0 && i < in->enc->column_count; i++)
                err = need_column(c->seen[i], in->enc->columns[i].name, e);
        if (err == 0 && in->enc->encoder == ENCODE_NONE && c->features < in->enc->shape.features)
                err = ul_fail(e, UL_SYNTAX, "the CSV header has %u feature columns, the model %u",
                              c->features, in->enc->shape.features);
        return err;
}

static int take_header(struct ingest *in, const char *p, size_t len, struct errinfo *e)
{
        struct csv *c = in->state;
        struct csv_field f;
        struct csv_cursor cursor = {p, p + len, in->scratch, true};
        if (len >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
                cursor.at += 3;
        while (cursor.more) {
                if (!next_field(&cursor, &f))
                        return broken_quotes(e);
                if (c->count == c->capacity)
                        return unknown_column(&f, "is one more than the model can take", e);
                int err = header_column(in, &f, &c->columns[c->count], e);
                if (err)
                        return err;
                c->count++;
        }
        c->has_header = true;
        return header_complete(in, e);
}

/* --- records --- */

static int take_target(struct ingest *in, uint32_t index, const struct csv_field *f,
                       struct errinfo *e)
{
        if (!parse_field_f32(f->text, f->len, &in->targets[index]))
                return ul_fail_field(e, UL_INVALID, "/label", "a target must be a number");
        return 0;
}

static int take_feature(struct ingest *in, uint32_t index, const struct csv_field *f,
                        struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        if (parse_field_f32(f->text, f->len, &in->features[index]))
                return 0;
        (void)snprintf(field, sizeof field, "/features/%u", index);
        return ul_fail_field(e, UL_INVALID, field, "a feature must be a number");
}

static int take_field(struct ingest *in, const struct csv_column *column, const struct csv_field *f,
                      struct errinfo *e)
{
        switch ((enum csv_role)column->role) {
        case ROLE_ID:
                return ingest_set_id(in, f->text, f->len, e);
        case ROLE_SUBJECT: /* after the whole record: the id sets it too */
                return 0;
        case ROLE_LIKELIHOOD:
                return f->len == 0 ? 0 : ingest_set_likelihood(in, f->text, f->len, e);
        case ROLE_LABEL:
                if (f->len == 0 && !in->labels_required)
                        return 0;
                return encode_label_text(in->enc, f->text, f->len, in->row, e);
        case ROLE_TARGET:
                if (f->len == 0 && !in->labels_required) {
                        in->targets[column->index] = 0.0f;
                        return 0;
                }
                return take_target(in, column->index, f, e);
        case ROLE_FEATURE:
                return take_feature(in, column->index, f, e);
        case ROLE_COLUMN:
                return encode_column(in->enc, column->index, f->text, f->len, in->features, e);
        case ROLE_TEXT:
                encode_text(f->text, f->len, in->enc->shape.features, in->features);
                return 0;
        }
        return ul_fail(e, UL_INTERNAL, "a CSV column has no role");
}

/* A number that stands bare between commas, which is nearly every field there is. */
static bool fast_feature(struct csv_cursor *c, float *out)
{
        const size_t n = parse_f32(c->at, (size_t)(c->end - c->at), out);
        if (n == 0 || (c->at + n < c->end && c->at[n] != ','))
                return false;
        c->at += n;
        c->more = c->at < c->end;
        if (c->more)
                c->at++;
        return true;
}

static int wrong_fields(const struct csv *c, struct errinfo *e)
{
        return ul_fail(e, UL_SYNTAX, "the line does not have the %u fields of the header",
                       c->count);
}

static int take_fields(struct ingest *in, struct csv_cursor *cursor, struct csv_field *subject,
                       struct errinfo *e)
{
        const struct csv *c = in->state;
        for (uint32_t i = 0; i < c->count; i++) {
                const struct csv_column *column = &c->columns[i];
                struct csv_field f;
                if (!cursor->more)
                        return wrong_fields(c, e);
                if (column->role == ROLE_FEATURE &&
                    fast_feature(cursor, &in->features[column->index]))
                        continue;
                if (!next_field(cursor, &f))
                        return broken_quotes(e);
                if (column->role == ROLE_SUBJECT)
                        *subject = f;
                int err = take_field(in, column, &f, e);
                if (err)
                        return err;
        }
        return cursor->more ? wrong_fields(c, e) : 0;
}

static int decode_record(struct ingest *in, const char *p, size_t len, struct errinfo *e)
{
        const struct csv *c = in->state;
        const uint32_t targets = in->enc->shape.targets;
        struct csv_field subject = {NULL, 0};
        struct csv_cursor cursor = {p, p + len, in->scratch, true};
        ingest_row_begin(in);
        int err = take_fields(in, &cursor, &subject, e);
        if (err == 0 && subject.len > 0)
                err = ingest_set_subject(in, subject.text, subject.len, e);
        if (err == 0 && targets > 0 && c->has_target[0])
                err = encode_targets(in->enc, in->targets, targets, in->row, e);
        if (err == 0)
                err = ingest_set_features(in, e);
        wipe(in->scratch, (size_t)(cursor.scratch - in->scratch));
        return err;
}

/* --- finding the end of a record --- */

/* One byte of the slow path; true at the newline that ends the record. */
static bool scan_byte(struct csv *c, char byte)
{
        if (c->state == IN_QUOTES) {
                c->breaks += byte == '\n';
                if (byte == '"')
                        c->state = AFTER_QUOTE;
                return false;
        }
        if (byte == '"' && c->state == FIELD_START)
                c->state = IN_QUOTES;
        else if (byte == '"' && c->state == AFTER_QUOTE)
                c->state = IN_QUOTES; /* a doubled quote */
        else if (byte == ',')
                c->state = FIELD_START;
        else
                c->state = IN_PLAIN;
        return byte == '\n';
}

/* Bytes up to the newline that ends the record, or len where it is not in sight. */
static size_t scan_record(struct csv *c, const char *p, size_t len, bool *ended)
{
        size_t at = 0;
        if (c->state != IN_QUOTES) {
                const char *newline = memchr(p, '\n', len);
                const size_t span = newline != NULL ? (size_t)(newline - p) : len;
                if (memchr(p, '"', span) == NULL) {
                        if (span > 0)
                                c->state = p[span - 1] == ',' ? FIELD_START : IN_PLAIN;
                        *ended = newline != NULL;
                        return span;
                }
        }
        while (at < len && !scan_byte(c, p[at]))
                at++;
        *ended = at < len;
        return at;
}

/* One whole record, without its newline. The lines that it took are counted here. */
static int take_record(struct ingest *in, const char *p, size_t len, bool overlong,
                       struct errinfo *e)
{
        struct csv *c = in->state;
        struct errinfo why = {0};
        const uint64_t line = in->lines + 1;
        in->lines += 1 + c->breaks;
        c->breaks = 0;
        c->state = FIELD_START;
        if (overlong || len > NDJSON_LINE_MAX) {
                if (!c->has_header)
                        return ul_fail(e, UL_SYNTAX, "the CSV header is longer than %d bytes",
                                       NDJSON_LINE_MAX);
                return ingest_refuse_overlong(in, line);
        }
        if (len > 0 && p[len - 1] == '\r')
                len--;
        if (len == 0 && c->has_header)
                return 0;
        if (!c->has_header)
                return take_header(in, p, len, e);
        int err = decode_record(in, p, len, &why);
        return err ? ingest_refuse(in, line, &why) : ingest_deliver(in, line);
}

static int take_held(struct ingest *in, struct errinfo *e)
{
        int err = take_record(in, in->held.data, in->held.len, in->held.overlong, e);
        held_clear(&in->held);
        return err;
}

static int csv_feed(struct ingest *in, const char *data, size_t len, size_t *consumed,
                    struct errinfo *e)
{
        while (*consumed < len) {
                const char *at = data + *consumed;
                bool ended = false;
                const size_t span = scan_record(in->state, at, len - *consumed, &ended);
                *consumed += span + (ended ? 1 : 0);
                int err = 0;
                if (ended && in->held.len == 0 && !in->held.overlong) {
                        err = take_record(in, at, span, false, e);
                } else {
                        held_add(&in->held, at, span);
                        if (ended)
                                err = take_held(in, e);
                }
                if (err)
                        return err;
        }
        return 0;
}

static int csv_create(struct ingest *in, struct errinfo *e)
{
        const struct encoding *enc = in->enc;
        const uint32_t inputs = enc->encoder == ENCODE_NONE      ? enc->shape.features
                                : enc->encoder == ENCODE_TABULAR ? enc->column_count
                                                                 : 1;
        struct csv *c = calloc(1, sizeof *c);
        if (c == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        in->state = c;
        c->capacity = inputs + 3 + (enc->shape.targets > 0 ? enc->shape.targets : 1);
        c->columns = calloc(c->capacity, sizeof *c->columns);
        c->seen = calloc(enc->column_count + 1, sizeof *c->seen);
        if (c->columns == NULL || c->seen == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an upload");
        return 0;
}

static int csv_finish(struct ingest *in, struct errinfo *e)
{
        const struct csv *c = in->state;
        int err = 0;
        if (in->held.len > 0 || in->held.overlong)
                err = take_held(in, e);
        if ((err == 0 || err == UL_AGAIN) && !c->has_header)
                return ul_fail(e, UL_SYNTAX, "the CSV has no header");
        return err;
}

static void csv_destroy(struct ingest *in)
{
        struct csv *c = in->state;
        if (c == NULL)
                return;
        free(c->columns);
        free(c->seen);
        free(c);
        in->state = NULL;
}

const struct ingest_parser csv_parser = {
        .create = csv_create,
        .feed = csv_feed,
        .finish = csv_finish,
        .destroy = csv_destroy,
};
