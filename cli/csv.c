/* SPDX-License-Identifier: Apache-2.0
 * csv.c: see csv.h. Two passes over a record in one buffer: one finds its end (newlines within
 * quotes do not end it), one cuts it into fields in place. A quote opens a quoted field only where
 * the field begins. What follows a closing quote is kept as it stands. */
#include "cli/csv.h"

#include "lib/util/crypto.h"
#include "lib/util/limits.h"
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 2 * NDJSON_LINE_MAX, FIELDS_MAX = FEATURES_MAX + 256 };

struct csv {
        csv_read_fn read;
        void *arg;
        struct csv_options options;
        uint64_t line;
        bool ended, begun;
        size_t at, len; /* of the buffer */
        char *buffer;   /* [BUFFER_BYTES] */
        size_t capacity;
        struct csv_field *fields; /* [capacity] */
};

int csv_open(csv_read_fn read, void *arg, const struct csv_options *o, struct csv **out,
             struct errinfo *e)
{
        struct csv *c = calloc(1, sizeof *c);
        *out = NULL;
        if (c == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to read a file");
        *c = (struct csv){.read = read, .arg = arg, .options = *o, .line = 1};
        c->buffer = malloc(BUFFER_BYTES);
        if (c->buffer == NULL) {
                free(c);
                return ul_fail(e, UL_NOMEM, "no memory to read a file");
        }
        *out = c;
        return 0;
}

void csv_close(struct csv **c)
{
        if (*c == NULL)
                return;
        wipe((*c)->buffer, BUFFER_BYTES);
        free((*c)->buffer);
        free((*c)->fields);
        free(*c);
        *c = NULL;
}

/* More bytes behind what is held, which moves to the front. */
static int more(struct csv *c, struct errinfo *e)
{
        size_t n = 0;
        if (c->at > 0) {
                memmove(c->buffer, c->buffer + c->at, c->len - c->at);
                c->len -= c->at;
                c->at = 0;
        }
        int err = c->read(c->arg, c->buffer + c->len, BUFFER_BYTES - c->len, &n, e);
        c->ended = err == 0 && n == 0;
        c->len += n;
        return err;
}

enum place { FIELD_START, IN_PLAIN, IN_QUOTES, AFTER_QUOTE };

/* Where the scan of a record stands; it goes on where it stopped when more bytes have come. */
struct scan {
        size_t at; /* from the record's first byte */
        enum place place;
        uint64_t breaks; /* newlines within quotes */
};

/* Looks on for the newline that ends the record; true where it is at s->at. */
static bool scan_on(const struct csv *c, struct scan *s)
{
        const char *p = c->buffer + c->at;
        const size_t len = c->len - c->at;
        if (!c->options.quotes) {
                const char *newline = memchr(p + s->at, '\n', len - s->at);
                s->at = newline != NULL ? (size_t)(newline - p) : len;
                return newline != NULL;
        }
        for (; s->at < len; s->at++) {
                const char ch = p[s->at];
                if (s->place == IN_QUOTES) {
                        s->breaks += ch == '\n';
                        s->place = ch == '"' ? AFTER_QUOTE : IN_QUOTES;
                } else if (ch == '\n') {
                        return true;
                } else if (ch == '"' && (s->place == FIELD_START || s->place == AFTER_QUOTE)) {
                        s->place = IN_QUOTES;
                } else {
                        s->place = ch == c->options.delimiter ? FIELD_START : IN_PLAIN;
                }
        }
        return false;
}

static int add_field(struct csv *c, size_t n, const char *text, size_t len, struct errinfo *e)
{
        if (n == FIELDS_MAX)
                return ul_fail(e, UL_TOO_LARGE, "line %llu has more than %d fields",
                               (unsigned long long)c->line, (int)FIELDS_MAX);
        if (n == c->capacity) {
                size_t capacity = n == 0 ? 64 : 2 * n;
                struct csv_field *fields = realloc(c->fields, capacity * sizeof *fields);
                if (fields == NULL)
                        return ul_fail(e, UL_NOMEM, "no memory for the fields of a line");
                c->fields = fields;
                c->capacity = capacity;
        }
        c->fields[n] = (struct csv_field){text, len};
        return 0;
}

/* A quoted field at p, unescaped in place; returns its end (the delimiter, or `end`). */
static char *quoted_field(char *p, char *end, char delimiter, size_t *len)
{
        char *to = p, *from = p + 1;
        while (from < end) {
                if (*from == '"' && (from + 1 == end || from[1] != '"'))
                        break;
                from += *from == '"';
                *to++ = *from++;
        }
        from += from < end;
        while (from < end && *from != delimiter)
                *to++ = *from++;
        *len = (size_t)(to - p);
        return from;
}

static int split(struct csv *c, size_t len, struct csv_record *r, struct errinfo *e)
{
        char *p = c->buffer + c->at, *end = p + len;
        size_t n = 0;
        if (c->options.delimiter != 0 && end > p && end[-1] == '\r')
                end--;
        for (;; p++) {
                char *stop = end;
                size_t field = 0;
                if (c->options.quotes && p < end && *p == '"') {
                        stop = quoted_field(p, end, c->options.delimiter, &field);
                } else {
                        if (c->options.delimiter != 0 && p < end)
                                stop = memchr(p, c->options.delimiter, (size_t)(end - p));
                        stop = stop != NULL ? stop : end;
                        field = (size_t)(stop - p);
                }
                int err = add_field(c, n, p, field, e);
                if (err != 0)
                        return err;
                n++;
                p = stop;
                if (p >= end)
                        break;
        }
        r->count = n;
        r->fields = c->fields;
        return 0;
}

static void pass_mark(struct csv *c)
{
        static const char mark[] = "\xEF\xBB\xBF";
        if (!c->begun && c->len - c->at >= 3 && memcmp(c->buffer + c->at, mark, 3) == 0)
                c->at += 3;
        c->begun = true;
}

int csv_next(struct csv *c, struct csv_record *r, struct errinfo *e)
{
        struct scan s = {.place = FIELD_START};
        int err = 0;
        while (!c->begun && !c->ended && c->len < 3 && err == 0)
                err = more(c, e);
        if (err != 0)
                return err;
        pass_mark(c);
        bool newline = scan_on(c, &s);
        while (!newline && !c->ended) {
                if (s.at > NDJSON_LINE_MAX)
                        return ul_fail(e, UL_TOO_LARGE, "line %llu is longer than %d bytes",
                                       (unsigned long long)c->line, (int)NDJSON_LINE_MAX);
                err = more(c, e);
                if (err != 0)
                        return err;
                newline = scan_on(c, &s);
        }
        if (!newline && s.place == IN_QUOTES)
                return ul_fail(e, UL_SYNTAX,
                               "the quotes that begin in line %llu never end; where quotes have "
                               "no meaning, say --quotes no",
                               (unsigned long long)c->line);
        if (!newline && s.at == 0)
                return 0;
        err = split(c, s.at, r, e);
        if (err != 0)
                return err;
        r->line = c->line;
        r->lines = s.breaks + 1;
        c->line += r->lines;
        c->at += s.at + (newline ? 1 : 0);
        return 1;
}

/* --- which delimiter --- */

struct text {
        const char *at;
        size_t left;
};

static int read_text(void *arg, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        struct text *t = arg;
        (void)e;
        *len = t->left < cap ? t->left : cap;
        memcpy(out, t->at, *len);
        t->at += *len;
        t->left -= *len;
        return 0;
}

/* How well a delimiter fits: records that have as many fields as the first, in thousandths. */
static uint32_t fit(const char *text, size_t len, char delimiter, size_t *fields)
{
        enum { RECORDS = 50 };
        const struct csv_options o = {delimiter, delimiter != '\t'};
        struct text t = {text, len};
        struct csv *c = NULL;
        struct csv_record r = {0};
        uint32_t seen = 0, same = 0;
        *fields = 0;
        if (csv_open(read_text, &t, &o, &c, NULL) != 0)
                return 0;
        while (seen < RECORDS && csv_next(c, &r, NULL) == 1) {
                *fields = seen == 0 ? r.count : *fields;
                same += r.count == *fields;
                seen++;
        }
        csv_close(&c);
        return seen == 0 || *fields < 2 ? 0 : 1000 * same / seen;
}

char csv_delimiter(const char *text, size_t len)
{
        static const char candidates[] = {',', ';', '\t', '|'};
        const char *last = memrchr(text, '\n', len); /* without the record that is cut off */
        uint32_t best = 0;
        size_t best_fields = 0;
        char chosen = ',';
        len = last != NULL ? (size_t)(last - text) + 1 : len;
        for (size_t i = 0; i < sizeof candidates; i++) {
                size_t fields = 0;
                uint32_t score = fit(text, len, candidates[i], &fields);
                if (score > best || (score == best && score > 0 && fields > best_fields)) {
                        best = score;
                        best_fields = fields;
                        chosen = candidates[i];
                }
        }
        return chosen;
}
