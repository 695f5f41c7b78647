/* SPDX-License-Identifier: Apache-2.0
 * scan_records.c: see scan_records.h. A CSV alone does not say which encoder its model has, so its
 * other columns are given both ways: as features where all are numbers, and by name. It must not
 * know what is looked for. */
#include "cli/scan_records.h"

#include "cli/cli.h"
#include "cli/csv.h"
#include "cli/layout.h"
#include "cli/source.h"
#include "lib/util/json.h"
#include <stdlib.h>
#include <string.h>

enum { COULD_NOT_LOOK = 2, PEEK_BYTES = 64 * 1024 };

enum role { ROLE_INPUT, ROLE_ID, ROLE_SUBJECT, ROLE_TEXT, ROLE_NOT_KEPT };

struct intake {
        struct scan *scan;
        const struct scan_columns *columns;
        const char *path;
        struct source *source;
        struct csv_options csv_options;
        /* of a CSV */
        char **names; /* [count] */
        size_t count;
        uint64_t row;
        struct errinfo e;
};

static int refuse(struct intake *in, uint64_t line, const char *why)
{
        (void)complain("%s: line %llu: %s",
                       strcmp(in->path, "-") == 0 ? "standard input" : in->path,
                       (unsigned long long)line, why);
        return COULD_NOT_LOOK;
}

static int take(struct intake *in, const struct buf *json, const struct buf *line, uint64_t number)
{
        struct json *doc = NULL;
        char who[SCAN_WHO_MAX];
        (void)snprintf(who, sizeof who, "line %llu", (unsigned long long)number);
        if (json->failed || line->failed)
                return refuse(in, number, "no memory for it");
        int err = json_parse((const char *)json->data, json->len, &doc, &in->e);
        if (err == 0)
                err = scan_line(in->scan, doc, (const char *)line->data, line->len, who, &in->e);
        json_free(&doc);
        return err == 0 ? 0 : refuse(in, number, in->e.detail);
}

/* --- a row of a CSV --- */

static bool is_named(const char *name, const char *given, const char *usual)
{
        return strcmp(name, given != NULL ? given : usual) == 0;
}

static enum role role_of(const struct intake *in, size_t column)
{
        const struct scan_columns *c = in->columns;
        const char *name = in->names[column];
        if (is_named(name, c->id, "id"))
                return ROLE_ID;
        if (is_named(name, c->subject, "subject"))
                return ROLE_SUBJECT;
        if (is_named(name, c->text, "text"))
                return ROLE_TEXT;
        if (is_named(name, c->label, "label") || strncmp(name, "label.", 6) == 0 ||
            strcmp(name, "erasure_likelihood") == 0)
                return ROLE_NOT_KEPT;
        return ROLE_INPUT;
}

/* The field of a role, where it is there and not empty. */
static const struct csv_field *field_of(const struct intake *in, const struct csv_record *r,
                                        enum role role)
{
        for (size_t i = 0; i < r->count; i++)
                if (role_of(in, i) == role && r->fields[i].len > 0)
                        return &r->fields[i];
        return NULL;
}

static bool all_numbers(const struct intake *in, const struct csv_record *r)
{
        double value;
        for (size_t i = 0; i < r->count; i++)
                if (role_of(in, i) == ROLE_INPUT &&
                    !is_number_text(r->fields[i].text, r->fields[i].len, &value))
                        return false;
        return field_of(in, r, ROLE_INPUT) != NULL;
}

static void write_member(struct json_writer *w, const char *key, const struct csv_field *f)
{
        jw_key(w, key);
        jw_string_n(w, f->text, f->len);
}

static void write_whom(const struct intake *in, const struct csv_record *r, struct json_writer *w)
{
        const struct csv_field *id = field_of(in, r, ROLE_ID);
        const struct csv_field *subject = field_of(in, r, ROLE_SUBJECT);
        char text[32];
        if (id == NULL) {
                (void)snprintf(text, sizeof text, "row-%llu", (unsigned long long)in->row);
                jw_member_string(w, "id", text);
        } else {
                write_member(w, "id", id);
        }
        if (subject != NULL)
                write_member(w, "subject", subject);
}

static void write_inputs(const struct intake *in, const struct csv_record *r, struct json_writer *w)
{
        const struct csv_field *text = field_of(in, r, ROLE_TEXT);
        if (text != NULL)
                write_member(w, "text", text);
        if (field_of(in, r, ROLE_INPUT) == NULL)
                return;
        const bool numbers = all_numbers(in, r);
        if (numbers) {
                jw_key(w, "features");
                jw_array(w);
                for (size_t i = 0; i < r->count; i++)
                        if (role_of(in, i) == ROLE_INPUT)
                                (void)write_number(w, r->fields[i].text, r->fields[i].len);
                jw_end_array(w);
        }
        jw_key(w, "columns");
        jw_object(w);
        for (size_t i = 0; i < r->count; i++)
                if (role_of(in, i) == ROLE_INPUT)
                        write_member(w, in->names[i], &r->fields[i]);
        jw_end_object(w);
}

static int take_row(struct intake *in, const struct csv_record *r)
{
        struct buf json = {0}, line = {0};
        struct json_writer w;
        if (r->count != in->count)
                return refuse(in, r->line, "it has another number of fields than the header");
        for (size_t i = 0; i < r->count; i++) {
                if (i > 0)
                        buf_append(&line, &in->csv_options.delimiter, 1);
                buf_append(&line, r->fields[i].text, r->fields[i].len);
                if (!is_plain_text(r->fields[i].text, r->fields[i].len)) {
                        buf_free(&line, true);
                        return refuse(in, r->line, "it is not UTF-8");
                }
        }
        jw_init(&w, &json);
        jw_object(&w);
        write_whom(in, r, &w);
        write_inputs(in, r, &w);
        jw_end_object(&w);
        int status = take(in, &json, &line, r->line);
        in->row++;
        buf_free(&json, true);
        buf_free(&line, true);
        return status;
}

/* --- the file --- */

static int take_header(struct intake *in, const struct csv_record *r)
{
        in->names = calloc(r->count, sizeof *in->names);
        if (in->names == NULL)
                return refuse(in, r->line, "no memory for it");
        for (; in->count < r->count; in->count++) {
                const struct csv_field *f = &r->fields[in->count];
                if (!is_plain_text(f->text, f->len))
                        return refuse(in, r->line, "a column's name is not UTF-8");
                in->names[in->count] = strndup(f->text, f->len);
                if (in->names[in->count] == NULL)
                        return refuse(in, r->line, "no memory for it");
        }
        return 0;
}

static int take_record(struct intake *in, const struct csv_record *r)
{
        const struct csv_field *f = r->fields;
        if (r->count == 1 && strspn(f->text, " \t\r") >= f->len)
                return 0; /* a blank line */
        if (in->csv_options.delimiter != 0)
                return in->names == NULL ? take_header(in, r) : take_row(in, r);
        struct buf line = {0};
        buf_append(&line, f->text, f->len);
        int status = take(in, &line, &line, r->line);
        buf_free(&line, true);
        return status;
}

static int read_decoded(void *arg, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        struct intake *in = arg;
        return source_read(in->source, out, cap, len, e);
}

static int read_records(struct intake *in)
{
        struct csv *csv = NULL;
        struct csv_record r;
        uint64_t line = 1;
        int status = 0;
        int n = csv_open(read_decoded, in, &in->csv_options, &csv, &in->e) == 0 ? 1 : -1;
        while (n == 1 && status == 0) {
                n = csv_next(csv, &r, &in->e);
                line = n == 1 ? r.line : line;
                status = n == 1 ? take_record(in, &r) : 0;
        }
        csv_close(&csv);
        return n < 0 ? refuse(in, line, in->e.detail) : status;
}

/* NDJSON begins with a brace; all else is a CSV. */
static int sniff(struct intake *in)
{
        char *peek = malloc(PEEK_BYTES);
        size_t len = 0, at = 0;
        if (peek == NULL)
                return refuse(in, 1, "no memory for it");
        int err = source_peek(in->source, peek, PEEK_BYTES, &len, &in->e);
        while (at < len && strchr(" \t\r\n", peek[at]) != NULL)
                at++;
        const bool json = at < len && peek[at] == '{';
        const bool npy = len >= 6 && memcmp(peek, "\x93NUMPY", 6) == 0;
        if (err == 0 && !json) {
                in->csv_options.delimiter = csv_delimiter(peek, len);
                in->csv_options.quotes = in->csv_options.delimiter != '\t';
        }
        wipe(peek, PEEK_BYTES);
        free(peek);
        if (err != 0)
                return refuse(in, 1, in->e.detail);
        return npy ? refuse(in, 1,
                            "NumPy arrays are not read here: give the rows as NDJSON, with "
                            "their ids")
                   : 0;
}

int scan_records_read(const char *path, const struct scan_columns *columns, struct scan *scan)
{
        struct intake in = {.scan = scan, .columns = columns, .path = path};
        if (source_open(path, &in.source, &in.e) != 0) {
                (void)complain_about(&in.e);
                return COULD_NOT_LOOK;
        }
        int status = sniff(&in);
        if (status == 0)
                status = read_records(&in);
        source_close(&in.source);
        for (size_t i = 0; i < in.count; i++)
                free(in.names[i]);
        free(in.names);
        return status;
}
