/* SPDX-License-Identifier: Apache-2.0
 * layout.c: see layout.h. Columns have their role by an option, else by the daemon's own name for
 * it (id, subject, label, erasure_likelihood, text), else by the model's columns; of a table with
 * one column too many and no label, that one is the label. */
#include "cli/layout.h"

#include "lib/util/json_scan.h"
#include "lib/util/limits.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum layout_role {
        ROLE_IGNORED,
        ROLE_ID,
        ROLE_SUBJECT,
        ROLE_LIKELIHOOD,
        ROLE_LABEL,  /* a class, or the one target */
        ROLE_TARGET, /* label.N */
        ROLE_TEXT,
        ROLE_FEATURE,
        ROLE_COLUMN,
};
struct layout_column {
        enum layout_role role;
        uint32_t index; /* of a target */
        char *name;
};

/* --- numbers and texts --- */

static size_t digits(const char *p, const char *end)
{
        const char *at = p;
        while (at < end && *at >= '0' && *at <= '9')
                at++;
        return (size_t)(at - p);
}

/* The grammar of RFC 8259. */
static bool is_json_number(const char *p, size_t len)
{
        const char *end = p + len;
        p += p < end && *p == '-';
        size_t n = digits(p, end);
        if (n == 0 || (n > 1 && *p == '0'))
                return false;
        p += n;
        if (p < end && *p == '.') {
                n = digits(p + 1, end);
                if (n == 0)
                        return false;
                p += n + 1;
        }
        if (p < end && (*p == 'e' || *p == 'E')) {
                p += 1 + (p + 1 < end && (p[1] == '+' || p[1] == '-'));
                n = digits(p, end);
                if (n == 0)
                        return false;
                p += n;
        }
        return p == end;
}

static void trim(const char **text, size_t *len)
{
        while (*len > 0 && (**text == ' ' || **text == '\t')) {
                (*text)++;
                (*len)--;
        }
        while (*len > 0 && ((*text)[*len - 1] == ' ' || (*text)[*len - 1] == '\t'))
                (*len)--;
}

bool is_number_text(const char *text, size_t len, double *value)
{
        static const char allowed[] = "0123456789+-.eE";
        char copy[64];
        char *end = NULL;
        trim(&text, &len);
        if (len == 0 || len >= sizeof copy)
                return false;
        for (size_t i = 0; i < len; i++)
                if (text[i] == '\0' || strchr(allowed, text[i]) == NULL)
                        return false;
        memcpy(copy, text, len);
        copy[len] = '\0';
        *value = strtod(copy, &end);
        return *end == '\0' && isfinite(*value);
}

bool write_number(struct json_writer *w, const char *text, size_t len)
{
        double value = 0;
        trim(&text, &len);
        if (!is_number_text(text, len, &value))
                return false;
        if (is_json_number(text, len))
                jw_raw(w, text, len);
        else
                jw_double(w, value);
        return true;
}

bool is_plain_text(const char *text, size_t len)
{
        const uint8_t *p = (const uint8_t *)text;
        for (size_t at = 0; at < len;) {
                size_t n = json_utf8_bytes(p + at, len - at);
                if (n == 0 || p[at] == '\0')
                        return false;
                at += n;
        }
        return true;
}

/* --- roles --- */

static bool named(const struct layout_column *c, const char *name)
{
        assert(c->name != NULL); /* take_names has named all of them */
        return name != NULL && strcmp(c->name, name) == 0;
}

/* Names: of the header, of --columns, or the position from 1. */
static int take_names(const struct file_options *o, const struct csv_record *names,
                      struct layout *l)
{
        const char *listed = o->columns;
        for (size_t i = 0; i < l->count; i++) {
                struct buf name = {0};
                if (names != NULL) {
                        buf_append(&name, names->fields[i].text, names->fields[i].len);
                } else if (o->columns != NULL) {
                        if (listed == NULL)
                                return complain("the file has %zu columns, --columns names %zu",
                                                l->count, i);
                        const char *comma = strchr(listed, ',');
                        buf_append(&name, listed,
                                   comma != NULL ? (size_t)(comma - listed) : strlen(listed));
                        listed = comma != NULL ? comma + 1 : NULL;
                } else if (o->label_last && i + 1 == l->count) {
                        buf_append_str(&name, "label");
                } else {
                        buf_printf(&name, "%zu", i + 1);
                }
                buf_append(&name, "", 1);
                if (name.failed) {
                        buf_free(&name, false);
                        return complain_memory();
                }
                l->columns[i].name = (char *)name.data; /* taken over */
        }
        return listed == NULL || names != NULL
                       ? 0
                       : complain("the file has %zu columns, --columns names more", l->count);
}

/* Gives one role to the column of that name. An option must find its column; a default need not. */
static int give_role(struct layout *l, enum layout_role role, const char *option,
                     const char *wanted, const char *usual, bool *found)
{
        const char *name = wanted != NULL ? wanted : usual;
        *found = false;
        for (size_t i = 0; i < l->count; i++) {
                if (!named(&l->columns[i], name))
                        continue;
                if (*found)
                        return complain("there are two columns \"%s\"", name);
                if (l->columns[i].role != ROLE_IGNORED && wanted != NULL)
                        return complain("column \"%s\" cannot be two things at once", name);
                if (l->columns[i].role == ROLE_IGNORED) {
                        l->columns[i].role = role;
                        *found = true;
                }
        }
        if (wanted != NULL && !*found)
                return complain("the file has no column \"%s\", which --%s names", wanted, option);
        return 0;
}

static bool is_model_column(const struct layout *l, const struct layout_column *c)
{
        return l->shape->encoder == SHAPE_TABLE &&
               shape_column(l->shape, c->name, strlen(c->name)) != NULL;
}

/* label.0, label.1, ... of a regression with several targets */
static uint32_t give_targets(struct layout *l)
{
        uint32_t found = 0;
        for (size_t i = 0; i < l->count; i++) {
                for (uint32_t t = 0; t < l->shape->targets; t++) {
                        char name[24];
                        (void)snprintf(name, sizeof name, "label.%u", t);
                        if (l->columns[i].role == ROLE_IGNORED && named(&l->columns[i], name)) {
                                l->columns[i].role = ROLE_TARGET;
                                l->columns[i].index = t;
                                found++;
                        }
                }
        }
        return found;
}

/* The input: what the model learns from. */
static void give_inputs(struct layout *l)
{
        for (size_t i = 0; i < l->count; i++) {
                struct layout_column *c = &l->columns[i];
                if (c->role != ROLE_IGNORED)
                        continue;
                if (l->shape->encoder == SHAPE_NUMBERS)
                        c->role = ROLE_FEATURE;
                else if (is_model_column(l, c))
                        c->role = ROLE_COLUMN;
        }
}

/* The one column that a table has too many. */
static bool spare_label(struct layout *l)
{
        struct layout_column *spare = NULL;
        for (size_t i = 0; l->shape->encoder == SHAPE_TABLE && i < l->count; i++) {
                if (l->columns[i].role != ROLE_IGNORED)
                        continue;
                if (spare != NULL)
                        return false;
                spare = &l->columns[i];
        }
        if (spare == NULL)
                return false;
        spare->role = ROLE_LABEL;
        if (l->use != FEED_PREDICT)
                remark("column \"%s\" is taken for the label", spare->name);
        return true;
}

static int give_roles(struct layout *l)
{
        const struct file_options *o = l->options;
        const bool several = l->shape->regression && l->shape->targets > 1;
        bool label = false, text = false, other = false;
        int err = give_role(l, ROLE_ID, "id", o->id, "id", &l->has_id);
        if (err == 0)
                err = give_role(l, ROLE_SUBJECT, "subject", o->subject, "subject", &other);
        if (err == 0)
                err = give_role(l, ROLE_LIKELIHOOD, "likelihood", o->likelihood,
                                "erasure_likelihood", &other);
        if (err == 0 && several)
                label = give_targets(l) == l->shape->targets;
        else if (err == 0)
                err = give_role(l, ROLE_LABEL, "label", o->label, "label", &label);
        if (err == 0 && l->shape->encoder == SHAPE_TEXT)
                err = give_role(l, ROLE_TEXT, "text", o->text, "text", &text);
        if (err != 0)
                return err;
        give_inputs(l);
        label = label || (!several && spare_label(l));
        if (!label && l->use != FEED_PREDICT)
                return complain("the file has no column \"label\"; say which it is with --label "
                                "COLUMN%s",
                                o->no_header ? " (or --label-last)" : "");
        if (l->shape->encoder == SHAPE_TEXT && !text)
                return complain("the file has no column \"text\"; say which it is with --text "
                                "COLUMN");
        return 0;
}

/* A table's columns are all there; and a word on those that are not used. */
static int check_table(const struct layout *l)
{
        for (const struct json *v = json_first(l->shape->columns); v != NULL; v = json_next(v)) {
                const char *name = json_string(json_get(v, "name"));
                bool there = false;
                for (size_t i = 0; i < l->count && name != NULL; i++)
                        there = there ||
                                (l->columns[i].role == ROLE_COLUMN && named(&l->columns[i], name));
                if (!there)
                        return complain("the file has no column \"%s\", which the model has",
                                        name != NULL ? name : "");
        }
        return 0;
}

static void find_as_is(struct layout *l)
{
        static const char *const usual[] = {[ROLE_ID] = "id",
                                            [ROLE_SUBJECT] = "subject",
                                            [ROLE_LIKELIHOOD] = "erasure_likelihood",
                                            [ROLE_LABEL] = "label",
                                            [ROLE_TEXT] = "text"};
        l->as_is = l->has_id;
        for (size_t i = 0; i < l->count; i++) {
                const struct layout_column *c = &l->columns[i];
                if (c->role == ROLE_IGNORED ||
                    (c->role < ROLE_FEATURE && c->role != ROLE_TARGET && !named(c, usual[c->role])))
                        l->as_is = false;
                if (c->role == ROLE_IGNORED && l->use == FEED_LOAD)
                        remark("column \"%s\" is not the model's and is left out", c->name);
        }
}

int layout_make(const struct file_options *o, const struct model_shape *m, enum feed_use use,
                const struct csv_record *names, size_t count, struct layout *out)
{
        *out = (struct layout){.options = o, .shape = m, .use = use, .count = count};
        out->columns = calloc(count + 1, sizeof *out->columns);
        if (out->columns == NULL)
                return complain_memory();
        int err = take_names(o, names, out);
        if (err == 0)
                err = give_roles(out);
        if (err == 0 && m->encoder == SHAPE_TABLE)
                err = check_table(out);
        if (err == 0)
                find_as_is(out);
        return err;
}

void layout_free(struct layout *l)
{
        for (size_t i = 0; l->columns != NULL && i < l->count; i++)
                free(l->columns[i].name);
        free(l->columns);
        *l = (struct layout){0};
}

/* --- rows --- */

static const struct csv_field *field_of(const struct layout *l, const struct csv_record *r,
                                        enum layout_role role)
{
        for (size_t i = 0; i < l->count; i++)
                if (l->columns[i].role == role)
                        return &r->fields[i];
        return NULL;
}

static void write_member(struct json_writer *w, const char *key, const struct csv_field *f)
{
        assert(f != NULL);
        jw_key(w, key);
        jw_string_n(w, f->text, f->len);
}

static void write_number_or_text(struct json_writer *w, const struct csv_field *f)
{
        assert(f != NULL);
        if (!write_number(w, f->text, f->len))
                jw_string_n(w, f->text, f->len); /* the daemon says what is wrong with it */
}

static void write_label(const struct layout *l, const struct csv_record *r, struct json_writer *w)
{
        const struct csv_field *f = field_of(l, r, ROLE_LABEL);
        if (f != NULL) {
                jw_key(w, "label");
                if (!l->shape->regression && shape_has_label(l->shape, f->text, f->len))
                        jw_string_n(w, f->text, f->len);
                else
                        write_number_or_text(w, f); /* 3.0 is the class "3" */
                return;
        }
        if (l->shape->targets < 2)
                return;
        jw_key(w, "label");
        jw_array(w);
        for (uint32_t t = 0; t < l->shape->targets; t++)
                for (size_t i = 0; i < l->count; i++)
                        if (l->columns[i].role == ROLE_TARGET && l->columns[i].index == t)
                                write_number_or_text(w, &r->fields[i]);
        jw_end_array(w);
}

static void write_input(const struct layout *l, const struct csv_record *r, struct json_writer *w)
{
        if (l->shape->encoder == SHAPE_TEXT) {
                write_member(w, "text", field_of(l, r, ROLE_TEXT));
                return;
        }
        const bool table = l->shape->encoder == SHAPE_TABLE;
        jw_key(w, table ? "columns" : "features");
        if (table)
                jw_object(w);
        else
                jw_array(w);
        for (size_t i = 0; i < l->count; i++) {
                if (l->columns[i].role == ROLE_COLUMN)
                        write_member(w, l->columns[i].name, &r->fields[i]);
                else if (l->columns[i].role == ROLE_FEATURE)
                        write_number_or_text(w, &r->fields[i]);
        }
        if (table)
                jw_end_object(w);
        else
                jw_end_array(w);
}

static void write_id(const struct layout *l, const struct csv_record *r, uint64_t row,
                     struct buf *id)
{
        const struct csv_field *f = field_of(l, r, ROLE_ID);
        const char *prefix = l->options->id_prefix != NULL ? l->options->id_prefix : "row-";
        if (f != NULL)
                buf_append(id, f->text, f->len);
        else
                buf_printf(id, "%s%llu", prefix, (unsigned long long)row);
}

static void write_whom(const struct layout *l, const struct csv_record *r, uint64_t row,
                       struct json_writer *w)
{
        const struct csv_field *subject = field_of(l, r, ROLE_SUBJECT);
        const struct csv_field *likelihood = field_of(l, r, ROLE_LIKELIHOOD);
        if (l->options->subject_every.given) {
                jw_key(w, "subject");
                char text[40];
                (void)snprintf(text, sizeof text, "subject-%llu",
                               (unsigned long long)(row / l->options->subject_every.value));
                jw_string(w, text);
        } else if (subject != NULL && subject->len > 0) {
                write_member(w, "subject", subject);
        }
        if (likelihood != NULL && likelihood->len > 0)
                write_member(w, "erasure_likelihood", likelihood);
}

const char *layout_write(const struct layout *l, const struct csv_record *r, uint64_t row,
                         struct buf *out, struct buf *id)
{
        struct json_writer w;
        struct buf own = {0};
        const char *refused = NULL;
        if (r->count != l->count)
                return r->count < l->count ? "it has fewer fields than the file has columns"
                                           : "it has more fields than the file has columns";
        const struct csv_field *subject = field_of(l, r, ROLE_SUBJECT);
        if (subject != NULL && !is_plain_text(subject->text, subject->len))
                return "the subject is not UTF-8";
        write_id(l, r, row, &own);
        if (!is_plain_text((const char *)own.data, own.len)) {
                refused = "the id is not UTF-8";
                goto out;
        }
        if (id != NULL)
                buf_append(id, own.data, own.len);
        jw_init(&w, out);
        jw_object(&w);
        if (l->use != FEED_PREDICT) {
                jw_key(&w, "id");
                jw_string_n(&w, (const char *)own.data, own.len);
                write_whom(l, r, row, &w);
                write_label(l, r, &w);
        }
        write_input(l, r, &w);
        jw_end_object(&w);
out:
        buf_free(&own, true);
        return refused;
}
