/* SPDX-License-Identifier: Apache-2.0
 * api.c: how the daemon answers: problem documents told to people, pages of lists, and polling
 * that waits where it is told to. It must not know libcurl nor any one command. */
#include "cli/http.h"

#include "cli/table.h"
#include "lib/util/limits.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- paths --- */

void path_escape(struct buf *path, const char *text)
{
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789-._~";
        for (; *text != '\0'; text++) {
                if (strchr(plain, *text) != NULL)
                        buf_append(path, text, 1);
                else
                        buf_printf(path, "%%%02X", (unsigned)(unsigned char)*text);
        }
}

void path_query(struct buf *path, const char *name, const char *value)
{
        if (value == NULL)
                return;
        bool first = path->len == 0 || memchr(path->data, '?', path->len) == NULL;
        buf_printf(path, "%c%s=", first ? '?' : '&', name);
        path_escape(path, value);
}

const char *path_text(struct buf *path)
{
        buf_append(path, "", 1);
        if (path->failed) {
                (void)complain_memory();
                return NULL;
        }
        path->len--; /* a query may still follow */
        return (const char *)path->data;
}

/* --- problems --- */

static void tell_places(const struct json *errors)
{
        for (const struct json *v = json_first(errors); v != NULL; v = json_next(v)) {
                const char *pointer = json_string(json_get(v, "pointer"));
                const char *detail = json_string(json_get(v, "detail"));
                int64_t line = 0;
                (void)fputs("  ", stderr);
                if (json_integer(json_get(v, "line"), 1, INT64_MAX / 2048, &line))
                        (void)fprintf(stderr, "line %lld: ", (long long)line);
                if (pointer != NULL) {
                        print_text(stderr, pointer);
                        (void)fputs(": ", stderr);
                }
                print_text(stderr, detail != NULL ? detail : "");
                (void)fputc('\n', stderr);
        }
}

static const char *advice(long status)
{
        if (status == 401)
                return "  Give a token with --token or UNLEARND_TOKEN; unlearnctl token new makes "
                       "one.\n";
        if (status == 403)
                return "  The token lacks the scope that this needs.\n";
        return NULL;
}

int api_complain(const struct http_answer *a)
{
        struct json *doc = NULL;
        const char *title = NULL, *detail = NULL;
        if (a->body.len > 0 &&
            json_parse((const char *)a->body.data, a->body.len, &doc, NULL) == 0 &&
            json_type_of(doc) == JSON_OBJECT) {
                title = json_string(json_get(doc, "title"));
                detail = json_string(json_get(doc, "detail"));
                if (title == NULL)
                        title = json_string(json_get(doc, "error"));
        }
        if (title != NULL)
                (void)complain("%s%s%s", title, detail != NULL ? ": " : "",
                               detail != NULL ? detail : "");
        else
                (void)complain("HTTP status %ld: is that an unlearnd?", a->status);
        if (doc != NULL && json_get(doc, "errors") != NULL)
                tell_places(json_get(doc, "errors"));
        if (advice(a->status) != NULL)
                (void)fputs(advice(a->status), stderr);
        if (a->retry_after_s > 0)
                (void)fprintf(stderr, "  Try again in %u s.\n", a->retry_after_s);
        json_free(&doc);
        return EXIT_FAILED;
}

/* --- calls --- */

int api_call(struct ctl *c, const struct http_request *r, struct http_answer *a)
{
        int status = http_call(c, r, a);
        if (status != 0)
                return status;
        return a->status / 100 == 2 ? 0 : api_complain(a);
}

static int parse_answer(const struct http_answer *a, struct json **doc)
{
        if (json_parse((const char *)a->body.data, a->body.len, doc, NULL) != 0)
                return complain("the answer is no JSON: is that an unlearnd?");
        return 0;
}

int api_get(struct ctl *c, const char *path, struct http_answer *a, struct json **doc)
{
        const struct http_request r = {.method = "GET", .path = path, .accept = "application/json"};
        *doc = NULL;
        int status = api_call(c, &r, a);
        return status != 0 ? status : parse_answer(a, doc);
}

int api_post(struct ctl *c, const char *path, const char *idempotency_key, const struct buf *body,
             struct http_answer *a, struct json **doc)
{
        const struct http_request r = {.method = "POST",
                                       .path = path,
                                       .accept = "application/json",
                                       .content_type = "application/json",
                                       .idempotency_key = idempotency_key,
                                       .body = body->data,
                                       .body_len = body->len};
        *doc = NULL;
        int status = api_call(c, &r, a);
        return status != 0 ? status : parse_answer(a, doc);
}

static void pause_ms(long ms)
{
        struct timespec t = {ms / 1000, ms % 1000 * 1000000};
        while (nanosleep(&t, &t) != 0) {
        }
}

void poll_pause(uint32_t *round)
{
        static const long steps[] = {20, 20, 30, 50, 50, 100, 100, 200, 200, 500};
        const size_t last = sizeof steps / sizeof *steps;
        pause_ms(*round < last ? steps[*round] : 1000);
        *round += 1;
}

int api_poll(struct ctl *c, const char *path, struct http_answer *a, struct json **doc)
{
        enum { PATIENCE = 60 };
        const struct http_request r = {.method = "GET", .path = path, .accept = "application/json"};
        *doc = NULL;
        for (int i = 0;; i++) {
                int status = http_call(c, &r, a);
                if (status != 0)
                        return status;
                bool later = (a->status == 429 || a->status == 503) && a->retry_after_s > 0;
                if (!later || i == PATIENCE)
                        break;
                pause_ms(1000L * (a->retry_after_s < 60 ? a->retry_after_s : 60));
                http_answer_free(a);
        }
        return a->status / 100 == 2 ? parse_answer(a, doc) : api_complain(a);
}

/* --- lists --- */

/* One page; *next is the cursor of the one after it, or empty. */
static int one_page(struct ctl *c, const char *path, uint64_t want,
                    int (*each)(void *arg, const struct json *item), void *arg, uint64_t *seen,
                    struct buf *next)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf page = {0};
        char limit[24];
        buf_append_str(&page, path);
        (void)snprintf(limit, sizeof limit, "%llu", (unsigned long long)want);
        path_query(&page, "limit", limit);
        if (next->len > 0)
                path_query(&page, "cursor", (const char *)next->data);
        const char *text = path_text(&page);
        int status = text == NULL ? EXIT_FAILED : api_get(c, text, &a, &doc);
        buf_reset(next, false);
        if (status != 0)
                goto out;
        for (const struct json *v = json_first(json_get(doc, "items")); v != NULL && status == 0;
             v = json_next(v)) {
                status = each(arg, v);
                *seen += 1;
        }
        const struct json *cursor = json_get(doc, "next_cursor");
        if (cursor != NULL && json_string(cursor) != NULL)
                buf_append(next, json_string(cursor), strlen(json_string(cursor)) + 1);
out:
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&page, true);
        return status;
}

int api_list(struct ctl *c, const char *path, uint64_t limit,
             int (*each)(void *arg, const struct json *item), void *arg, bool *more)
{
        struct buf next = {0};
        uint64_t seen = 0;
        int status = 0;
        do {
                uint64_t want = LIST_LIMIT_MAX;
                if (limit > 0 && limit - seen < want)
                        want = limit - seen;
                status = one_page(c, path, want, each, arg, &seen, &next);
        } while (status == 0 && next.len > 0 && (limit == 0 || seen < limit));
        *more = next.len > 0;
        buf_free(&next, false);
        return status;
}

static int copy_item(void *arg, const struct json *item)
{
        struct json_writer *w = arg;
        json_copy(w, item);
        return w->out->failed ? complain_memory() : 0;
}

static int print_items(struct ctl *c, const char *path, uint64_t limit)
{
        struct buf out = {0};
        struct json_writer w;
        bool more = false;
        jw_init(&w, &out);
        jw_object(&w);
        jw_key(&w, "items");
        jw_array(&w);
        int status = api_list(c, path, limit, copy_item, &w, &more);
        if (status == 0) {
                jw_end_array(&w);
                jw_member_bool(&w, "more", more);
                jw_end_object(&w);
                status = print_json(&out);
        }
        buf_free(&out, true);
        return status;
}

int print_list(struct ctl *c, const char *path, uint64_t limit, const char *const *heads,
               int (*row)(void *table, const struct json *item))
{
        struct table t;
        bool more = false;
        if (c->json)
                return print_items(c, path, limit);
        table_begin(&t, heads);
        int status = api_list(c, path, limit, row, &t, &more);
        if (status != 0) {
                table_drop(&t);
                return status;
        }
        if (t.count == 0 && !t.failed) {
                remark("there are none");
                return 0;
        }
        status = table_print(&t, stdout);
        if (status == 0 && more)
                remark("there are more; --limit N shows more, --limit 0 all");
        return status;
}

/* --- JSON out --- */

void json_copy(struct json_writer *w, const struct json *v)
{
        switch (json_type_of(v)) {
        case JSON_NULL:
                jw_null(w);
                return;
        case JSON_BOOL:
                jw_bool(w, json_is_true(v));
                return;
        case JSON_NUMBER:
                jw_double(w, json_number(v));
                return;
        case JSON_STRING:
                jw_string(w, json_string(v));
                return;
        case JSON_ARRAY:
                jw_array(w);
                for (const struct json *i = json_first(v); i != NULL; i = json_next(i))
                        json_copy(w, i);
                jw_end_array(w);
                return;
        case JSON_OBJECT:
                jw_object(w);
                for (const struct json *i = json_first(v); i != NULL; i = json_next(i)) {
                        jw_key(w, json_key(i));
                        json_copy(w, i);
                }
                jw_end_object(w);
                return;
        }
}

int write_output(const char *path, const struct buf *text)
{
        FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
        if (out == NULL)
                return complain("%s cannot be written: %s", path, strerror(errno));
        bool ok = fwrite(text->data, 1, text->len, out) == text->len;
        if (out != stdout && fclose(out) != 0)
                ok = false;
        return ok ? 0 : complain("%s cannot be written", path);
}

int print_json(const struct buf *text)
{
        if (text->failed)
                return complain_memory();
        (void)fwrite(text->data, 1, text->len, stdout);
        if (text->len == 0 || text->data[text->len - 1] != '\n')
                (void)fputc('\n', stdout);
        return 0;
}
