/* SPDX-License-Identifier: Apache-2.0
 * feed.c: see feed.h. */
#include "cli/feed.h"

#include "cli/http.h"
#include "cli/source.h"
#include "lib/util/crypto.h"
#include <stdlib.h>
#include <string.h>

enum { PEEK_BYTES = 64 * 1024, OUT_BYTES = 64 * 1024 };
enum format { FORMAT_NDJSON, FORMAT_CSV, FORMAT_NPY };

/* Rows from <= row < to; with n > 0 only those with row % n == k, or (inverse) all others. */
struct selection {
        uint64_t from, to, k, n;
        bool inverse, given;
};

struct feed {
        const char *path;
        const struct file_options *options;
        enum feed_use use;
        struct source *source;
        enum format format;
        struct csv_options csv_options;
        struct selection selection;
        bool as_is; /* bytes are passed through */

        /* conversion */
        struct csv *csv;
        struct layout layout;
        struct csv_record first; /* of a file without a header: read to count its fields */
        bool has_first;
        uint64_t row; /* the next one */
        struct buf out;
        size_t out_at;
        struct feed_refusals refusals;

        char *peek; /* [PEEK_BYTES] */
        size_t peek_len;
};

static int feed_complain(const struct feed *f, const struct errinfo *e)
{
        return complain("%s: %s", strcmp(f->path, "-") == 0 ? "standard input" : f->path,
                        e->detail);
}

/* --- options --- */

static bool take_u64(const char **p, uint64_t *out)
{
        char *end = NULL;
        if (**p < '0' || **p > '9')
                return false;
        unsigned long long v = strtoull(*p, &end, 10);
        if (end - *p > 18)
                return false;
        *p = end;
        *out = v;
        return true;
}

static int read_selection(const struct file_options *o, enum feed_use use, struct selection *s)
{
        const char *p = o->rows;
        *s = (struct selection){.to = UINT64_MAX, .inverse = use == FEED_LOAD};
        s->given = o->rows != NULL || o->holdout != NULL;
        if (p != NULL) {
                bool good = *p == ':' || take_u64(&p, &s->from);
                good = good && *p++ == ':' && (*p == '\0' || take_u64(&p, &s->to));
                if (!good || *p != '\0')
                        return complain_usage("--rows takes A:B, as in --rows 0:1000");
        }
        p = o->holdout;
        if (p != NULL && (!take_u64(&p, &s->k) || *p++ != '/' || !take_u64(&p, &s->n) ||
                          *p != '\0' || s->n < 2 || s->k >= s->n))
                return complain_usage("--holdout takes K/N with K below N, as in --holdout 0/5");
        return 0;
}

static bool selected(const struct selection *s, uint64_t row)
{
        if (row < s->from || row >= s->to)
                return false;
        return s->n == 0 || ((row % s->n == s->k) != s->inverse);
}

static int sniff_format(struct feed *f)
{
        static const char npy[] = "\x93NUMPY";
        const char *name = f->options->format, *p = f->peek, *end = f->peek + f->peek_len;
        if (name != NULL && strcmp(name, "auto") != 0) {
                if (strcmp(name, "ndjson") == 0)
                        f->format = FORMAT_NDJSON;
                else if (strcmp(name, "csv") == 0)
                        f->format = FORMAT_CSV;
                else if (strcmp(name, "npy") == 0)
                        f->format = FORMAT_NPY;
                else
                        return complain_usage("--format takes ndjson, csv, npy or auto");
                return 0;
        }
        while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
                p++;
        f->format = FORMAT_CSV;
        if (f->peek_len >= sizeof npy - 1 && memcmp(f->peek, npy, sizeof npy - 1) == 0)
                f->format = FORMAT_NPY;
        else if (p < end && (*p == '{' || (*p == '[' && f->use == FEED_PREDICT)))
                f->format = FORMAT_NDJSON;
        return 0;
}

static int sniff_csv(struct feed *f)
{
        const char *d = f->options->delimiter, *q = f->options->quotes;
        if (d == NULL || strcmp(d, "auto") == 0)
                f->csv_options.delimiter = csv_delimiter(f->peek, f->peek_len);
        else if (strcmp(d, "tab") == 0 || strcmp(d, "\\t") == 0)
                f->csv_options.delimiter = '\t';
        else if (strlen(d) == 1 && *d != '"' && *d != '\n' && *d != '\r')
                f->csv_options.delimiter = *d;
        else
                return complain_usage("--delimiter takes one character, tab or auto");
        /* text/tab-separated-values knows no quotes, and texts in it are full of them */
        f->csv_options.quotes = f->csv_options.delimiter != '\t';
        if (q != NULL && strcmp(q, "yes") != 0 && strcmp(q, "no") != 0)
                return complain_usage("--quotes takes yes or no");
        if (q != NULL)
                f->csv_options.quotes = strcmp(q, "yes") == 0;
        return 0;
}

/* Options that would have no effect on this format are refused. */
static int check_options(const struct feed *f)
{
        const struct file_options *o = f->options;
        const bool csv = o->delimiter != NULL || o->quotes != NULL || o->columns != NULL ||
                         o->no_header || o->label_last || o->id != NULL || o->subject != NULL ||
                         o->label != NULL || o->text != NULL || o->likelihood != NULL ||
                         o->subject_every.given;
        if (f->format != FORMAT_CSV && csv)
                return complain_usage("--delimiter, --quotes, --columns, --no-header, --id, "
                                      "--subject, --label and the like are for CSV files");
        if (f->format == FORMAT_NDJSON && o->id_prefix != NULL && f->use != FEED_PREDICT)
                return complain_usage("--id-prefix is not for NDJSON: its lines have ids");
        if (f->format == FORMAT_NPY && f->selection.given)
                return complain_usage("--rows and --holdout are not for npy files");
        if (f->format == FORMAT_NPY && f->use == FEED_PREDICT)
                return complain_usage("predict reads NDJSON and CSV files");
        if (!o->no_header && (o->columns != NULL || o->label_last))
                return complain_usage("--columns and --label-last go with --no-header");
        if (o->label_last && (o->label != NULL || o->columns != NULL))
                return complain_usage("--label-last goes with neither --label nor --columns");
        if (o->subject_every.given && (o->subject_every.value == 0 || o->subject != NULL))
                return complain_usage("--subject-every takes a number from 1, without --subject");
        return 0;
}

int feed_open(const char *path, const struct file_options *o, enum feed_use use, struct feed **out)
{
        struct errinfo e = {0};
        struct feed *f = calloc(1, sizeof *f);
        *out = f;
        if (f == NULL)
                return complain_memory();
        *f = (struct feed){.path = path, .options = o, .use = use};
        f->peek = malloc(PEEK_BYTES);
        if (f->peek == NULL)
                return complain_memory();
        int status = read_selection(o, use, &f->selection);
        if (status != 0)
                return status;
        if (source_open(path, &f->source, &e) != 0)
                return complain_about(&e);
        if (source_peek(f->source, f->peek, PEEK_BYTES, &f->peek_len, &e) != 0)
                return feed_complain(f, &e);
        if (f->peek_len == 0)
                return complain("%s is empty", path);
        status = sniff_format(f);
        if (status == 0)
                status = check_options(f);
        if (status == 0 && f->format == FORMAT_CSV)
                status = sniff_csv(f);
        return status;
}

bool feed_is_table(const struct feed *f)
{
        return f->format == FORMAT_CSV;
}

bool feed_is_npy(const struct feed *f)
{
        return f->format == FORMAT_NPY;
}

void feed_close(struct feed **f)
{
        if (*f == NULL)
                return;
        csv_close(&(*f)->csv);
        layout_free(&(*f)->layout);
        source_close(&(*f)->source);
        buf_free(&(*f)->out, true);
        if ((*f)->peek != NULL)
                wipe((*f)->peek, PEEK_BYTES);
        free((*f)->peek);
        free(*f);
        *f = NULL;
}

/* --- preparing --- */

static int read_decoded(void *arg, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        struct feed *f = arg;
        return source_read(f->source, out, cap, len, e);
}

struct span {
        const char *at;
        size_t left;
};

static int read_span(void *arg, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        struct span *s = arg;
        (void)e;
        *len = s->left < cap ? s->left : cap;
        memcpy(out, s->at, *len);
        s->at += *len;
        s->left -= *len;
        return 0;
}

/* Whether the daemon reads this CSV by itself: tried on the header in the first bytes. */
static int try_as_is(struct feed *f, const struct model_shape *shape)
{
        const struct file_options *o = f->options;
        const char *newline = memchr(f->peek, '\n', f->peek_len);
        struct csv_record header;
        struct csv *csv = NULL;
        struct span span = {f->peek, newline != NULL ? (size_t)(newline + 1 - f->peek) : 0};
        if (f->use == FEED_PREDICT || o->no_header || f->selection.given ||
            o->subject_every.given || f->csv_options.delimiter != ',' || !f->csv_options.quotes ||
            span.left < 3 || memcmp(f->peek, "\xEF\xBB\xBF", 3) == 0)
                return 0;
        if (csv_open(read_span, &span, &f->csv_options, &csv, NULL) != 0)
                return complain_memory();
        int status = 0;
        if (csv_next(csv, &header, NULL) == 1) {
                status = layout_make(o, shape, f->use, &header, header.count, &f->layout);
                f->as_is = status == 0 && f->layout.as_is;
        }
        csv_close(&csv);
        return status;
}

static void pad(struct feed *f, uint64_t lines)
{
        for (uint64_t i = 0; i < lines; i++)
                buf_append(&f->out, "\n", 1);
}

static int prepare_csv(struct feed *f, const struct model_shape *shape)
{
        struct errinfo e = {0};
        struct csv_record r;
        int status = try_as_is(f, shape);
        if (status != 0 || f->as_is)
                return status;
        if (csv_open(read_decoded, f, &f->csv_options, &f->csv, &e) != 0)
                return feed_complain(f, &e);
        int n = csv_next(f->csv, &r, &e);
        if (n < 0)
                return feed_complain(f, &e);
        if (n == 0)
                return complain("%s is empty", f->path);
        f->first = r;
        f->has_first = f->options->no_header;
        if (f->layout.columns == NULL)
                status = layout_make(f->options, shape, f->use, f->has_first ? NULL : &r, r.count,
                                     &f->layout);
        if (!f->has_first)
                pad(f, r.lines);
        return status;
}

int feed_prepare(struct feed *f, const struct model_shape *shape)
{
        static const struct csv_options lines = {0, false};
        struct errinfo e = {0};
        buf_init(&f->out, 0);
        if (f->format == FORMAT_CSV)
                return prepare_csv(f, shape);
        f->as_is = f->use != FEED_PREDICT && !f->selection.given;
        if (!f->as_is && csv_open(read_decoded, f, &lines, &f->csv, &e) != 0)
                return feed_complain(f, &e);
        return 0;
}

const char *feed_content_type(const struct feed *f)
{
        static const char *const types[] = {[FORMAT_NDJSON] = "application/x-ndjson",
                                            [FORMAT_CSV] = "text/csv",
                                            [FORMAT_NPY] = "application/x-npy"};
        return f->as_is ? types[f->format] : types[FORMAT_NDJSON];
}

const char *feed_content_encoding(const struct feed *f)
{
        return f->as_is ? source_encoding(f->source) : NULL;
}

uint64_t feed_size(const struct feed *f)
{
        return source_size(f->source);
}

uint64_t feed_position(const struct feed *f)
{
        return source_position(f->source);
}

const struct feed_refusals *feed_refused(const struct feed *f)
{
        return &f->refusals;
}

/* --- rows --- */

/* The next record; 1, 0 at the end, -1 (told). */
static int next_record(struct feed *f, struct csv_record *r)
{
        struct errinfo e = {0};
        if (f->has_first) {
                f->has_first = false;
                *r = f->first;
                return 1;
        }
        int n = csv_next(f->csv, r, &e);
        if (n < 0)
                (void)feed_complain(f, &e);
        return n < 0 ? -1 : n;
}

static bool is_blank(const struct csv_record *r)
{
        return r->count == 1 && strspn(r->fields[0].text, " \t\r") >= r->fields[0].len;
}

static void refuse(struct feed *f, uint64_t line, const char *reason)
{
        struct feed_refusals *all = &f->refusals;
        if (all->count < FEED_REFUSALS_MAX) {
                all->first[all->count].line = line;
                (void)snprintf(all->first[all->count].reason, FEED_REASON_MAX, "%s", reason);
        }
        all->count++;
}

/* One record into the body. */
static int convert(struct feed *f, const struct csv_record *r, bool stop_at_refusal)
{
        const size_t before = f->out.len;
        if (is_blank(r)) {
                pad(f, r->lines);
                return 0;
        }
        const uint64_t row = f->row++;
        if (selected(&f->selection, row)) {
                const char *why = NULL;
                if (f->format == FORMAT_CSV)
                        why = layout_write(&f->layout, r, row, &f->out, NULL);
                else
                        buf_append(&f->out, r->fields[0].text, r->fields[0].len);
                if (why != NULL) {
                        f->out.len = before;
                        refuse(f, r->line, why);
                        if (stop_at_refusal)
                                return complain("%s: line %llu: %s", f->path,
                                                (unsigned long long)r->line, why);
                }
        }
        pad(f, r->lines);
        return f->out.failed ? complain_memory() : 0;
}

static long read_raw(struct feed *f, char *out, size_t cap)
{
        struct errinfo e = {0};
        size_t n = 0;
        if (source_read_raw(f->source, out, cap, &n, &e) != 0) {
                (void)feed_complain(f, &e);
                return -1;
        }
        return (long)n;
}

long feed_read(struct feed *f, char *out, size_t cap, bool stop_at_refusal)
{
        struct csv_record r;
        if (f->as_is)
                return read_raw(f, out, cap);
        if (f->out_at == f->out.len) {
                buf_reset(&f->out, f->out_at > 0);
                f->out_at = 0;
        }
        while (f->out.len < OUT_BYTES) {
                int n = next_record(f, &r);
                if (n == 0)
                        break;
                if (n < 0 || convert(f, &r, stop_at_refusal) != 0)
                        return -1;
        }
        size_t n = f->out.len - f->out_at < cap ? f->out.len - f->out_at : cap;
        if (n > 0)
                memcpy(out, f->out.data + f->out_at, n);
        f->out_at += n;
        return (long)n;
}

/* --- predictions --- */

static int no_input(const struct feed *f, uint64_t line)
{
        (void)complain("%s: line %llu: want features, text or columns", f->path,
                       (unsigned long long)line);
        return -1;
}

/* A line of NDJSON: its input alone, as an instance. */
static int instance(struct feed *f, const struct csv_record *r, uint64_t row, struct buf *input,
                    struct buf *id)
{
        static const char *const members[] = {"features", "text", "columns"};
        const char *prefix = f->options->id_prefix != NULL ? f->options->id_prefix : "row-";
        struct errinfo e = {0};
        struct json *doc = NULL;
        struct json_writer w;
        if (json_parse(r->fields[0].text, r->fields[0].len, &doc, &e) != 0) {
                (void)complain("%s: line %llu: %s", f->path, (unsigned long long)r->line, e.detail);
                return -1;
        }
        int status = 1;
        /* a list and a text stand for the objects that have them: one batch has one form */
        const struct json *v = doc;
        size_t m = json_type_of(doc) == JSON_STRING ? 1 : 0;
        const char *own = NULL;
        if (json_type_of(doc) == JSON_OBJECT) {
                own = json_string(json_get(doc, "id"));
                while (m < 3 && json_get(doc, members[m]) == NULL)
                        m++;
                v = m < 3 ? json_get(doc, members[m]) : NULL;
        }
        if (v == NULL) {
                status = no_input(f, r->line);
                goto out;
        }
        jw_init(&w, input);
        jw_object(&w);
        jw_key(&w, members[m]);
        json_copy(&w, v);
        jw_end_object(&w);
        if (own != NULL)
                buf_append_str(id, own);
        else
                buf_printf(id, "%s%llu", prefix, (unsigned long long)row);
out:
        json_free(&doc);
        return status;
}

int feed_next(struct feed *f, struct buf *input, struct buf *id)
{
        struct csv_record r;
        for (;;) {
                int n = next_record(f, &r);
                if (n <= 0)
                        return n;
                if (is_blank(&r))
                        continue;
                const uint64_t row = f->row++;
                if (!selected(&f->selection, row))
                        continue;
                if (f->format == FORMAT_NDJSON)
                        return instance(f, &r, row, input, id);
                const char *why = layout_write(&f->layout, &r, row, input, id);
                if (why == NULL)
                        return 1;
                (void)complain("%s: line %llu: %s", f->path, (unsigned long long)r.line, why);
                return -1;
        }
}
