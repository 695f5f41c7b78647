/* SPDX-License-Identifier: Apache-2.0
 * load.c: load and evaluate: a file of labelled records, streamed to the daemon, which stores them
 * or only compares. Rows that could not be sent count as rejected like those that it refused. */
#include "cli/commands.h"
#include "cli/feed.h"
#include "cli/http.h"
#include "cli/progress.h"
#include "cli/table.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

struct load_options {
        struct file_options file;
        bool atomic;
};
const struct option_spec load_options[] = {
        FILE_OPTIONS(struct load_options),
        {"subject", "COLUMN", OPTION_TEXT, FILE_OPTION(struct load_options, subject),
         "column of whom a record is about (subject)"},
        {"subject-every", "N", OPTION_COUNT, FILE_OPTION(struct load_options, subject_every),
         "N rows in a row are about one subject-0, subject-1, ..."},
        {"likelihood", "COLUMN", OPTION_TEXT, FILE_OPTION(struct load_options, likelihood),
         "column of low, normal or high (erasure_likelihood)"},
        {"holdout", "K/N", OPTION_TEXT, FILE_OPTION(struct load_options, holdout),
         "leave out every row whose number is K modulo N"},
        {"atomic", NULL, OPTION_FLAG, offsetof(struct load_options, atomic), "all rows or none"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t load_options_size = sizeof(struct load_options);

struct evaluate_options {
        struct file_options file;
};
const struct option_spec evaluate_options[] = {
        FILE_OPTIONS(struct evaluate_options),
        {"holdout", "K/N", OPTION_TEXT, FILE_OPTION(struct evaluate_options, holdout),
         "only the rows whose number is K modulo N"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t evaluate_options_size = sizeof(struct evaluate_options);

/* --- sending --- */

struct sending {
        struct feed *feed;
        bool atomic;
        struct progress progress;
};

static long send_piece(void *arg, char *out, size_t cap)
{
        struct sending *s = arg;
        long n = feed_read(s->feed, out, cap, s->atomic);
        progress_bytes(&s->progress, feed_position(s->feed));
        if (n < 0)
                progress_end(&s->progress);
        return n < 0 ? HTTP_READ_FAILED : n;
}

static int upload_path(const struct feed *f, const char *model, const struct file_options *o,
                       enum feed_use use, bool atomic, struct buf *path)
{
        model_path(path, model, use == FEED_LOAD ? "/records" : "/evaluate");
        if (atomic)
                path_query(path, "atomic", "true");
        if (use == FEED_LOAD && feed_is_npy(f))
                path_query(path, "id_prefix", o->id_prefix != NULL ? o->id_prefix : "row-");
        return path_text(path) != NULL ? 0 : EXIT_FAILED;
}

/* Sends the whole file; `a` has the answer. */
static int send_file(struct ctl *c, const char *model, struct feed *f, const struct file_options *o,
                     enum feed_use use, bool atomic, struct http_answer *a)
{
        struct sending s = {.feed = f, .atomic = atomic};
        struct buf path = {0};
        int status = upload_path(f, model, o, use, atomic, &path);
        if (status == 0) {
                const struct http_request r = {.method = "POST",
                                               .path = (const char *)path.data,
                                               .accept = "application/json",
                                               .content_type = feed_content_type(f),
                                               .content_encoding = feed_content_encoding(f),
                                               .read = send_piece,
                                               .arg = &s};
                progress_begin(&s.progress, use == FEED_LOAD ? "loading" : "evaluating",
                               feed_size(f));
                status = http_call(c, &r, a);
                progress_end(&s.progress);
        }
        if (status == 0 && a->status / 100 != 2)
                status = api_complain(a);
        buf_free(&path, false);
        return status;
}

/* Opens, prepares, sends and parses. The caller closes and frees all three. */
static int exchange(struct ctl *c, const struct operands *in, const struct file_options *o,
                    enum feed_use use, bool atomic, struct feed **f, struct http_answer *a,
                    struct json **doc)
{
        struct model_shape shape = {0};
        int status = feed_open(in->items[1], o, use, f);
        if (status == 0 && feed_is_table(*f))
                status = shape_get(c, in->items[0], &shape);
        if (status == 0)
                status = feed_prepare(*f, &shape);
        if (status == 0)
                status = send_file(c, in->items[0], *f, o, use, atomic, a);
        if (status == 0 && json_parse((const char *)a->body.data, a->body.len, doc, NULL) != 0)
                status = complain("the answer is no JSON: is that an unlearnd?");
        shape_free(&shape); /* the feed is not read any more */
        return status;
}

/* --- answers --- */

static uint64_t count_of(const struct json *doc, const char *key)
{
        int64_t n = 0;
        (void)json_integer(json_get(doc, key), 0, INT64_MAX / 2048, &n);
        return (uint64_t)n;
}

/* The answer again, with the rows that were not sent among the rejected. */
static int print_answer(const struct json *doc, const struct feed_refusals *own)
{
        struct buf out = {0};
        struct json_writer w;
        jw_init(&w, &out);
        jw_object(&w);
        for (const struct json *v = json_first(doc); v != NULL; v = json_next(v)) {
                jw_key(&w, json_key(v));
                if (strcmp(json_key(v), "rejected") == 0) {
                        jw_u64(&w, count_of(doc, "rejected") + own->count);
                } else if (strcmp(json_key(v), "errors") == 0) {
                        jw_array(&w);
                        for (const struct json *i = json_first(v); i != NULL; i = json_next(i))
                                json_copy(&w, i);
                        for (uint64_t i = 0; i < own->count && i < FEED_REFUSALS_MAX; i++) {
                                jw_object(&w);
                                jw_member_u64(&w, "line", own->first[i].line);
                                jw_member_string(&w, "reason", own->first[i].reason);
                                jw_end_object(&w);
                        }
                        jw_end_array(&w);
                } else {
                        json_copy(&w, v);
                }
        }
        jw_end_object(&w);
        int status = print_json(&out);
        buf_free(&out, false);
        return status;
}

/* On stderr: lines that were refused, ours and the daemon's. EXIT_FAILED if there are any. */
static int tell_rejected(const struct json *doc, const struct feed_refusals *own)
{
        const uint64_t total = count_of(doc, "rejected") + own->count;
        if (total == 0)
                return 0;
        int status = complain("%llu line%s rejected", (unsigned long long)total,
                              total == 1 ? " was" : "s were");
        for (uint64_t i = 0; i < own->count && i < FEED_REFUSALS_MAX; i++)
                (void)fprintf(stderr, "  line %llu: %s\n", (unsigned long long)own->first[i].line,
                              own->first[i].reason);
        const struct json *errors = json_get(doc, "errors");
        for (const struct json *v = json_first(errors); v != NULL; v = json_next(v)) {
                const char *reason = json_string(json_get(v, "reason"));
                const char *pointer = json_string(json_get(v, "pointer"));
                (void)fprintf(stderr, "  line %llu: ", (unsigned long long)count_of(v, "line"));
                if (pointer != NULL) {
                        print_text(stderr, pointer);
                        (void)fputs(": ", stderr);
                }
                print_text(stderr, reason != NULL ? reason : "");
                (void)fputc('\n', stderr);
        }
        return status;
}

int load_run(struct ctl *c, const struct operands *in, const void *options)
{
        static const char *const heads[] = {"accepted", "duplicates", "suppressed", "rejected",
                                            NULL};
        const struct load_options *o = options;
        struct feed *f = NULL;
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct table t;
        int status = exchange(c, in, &o->file, FEED_LOAD, o->atomic, &f, &a, &doc);
        if (status != 0)
                goto out;
        const struct feed_refusals *own = feed_refused(f);
        if (c->json) {
                status = print_answer(doc, own);
        } else {
                table_begin(&t, heads);
                for (int i = 0; i < 3; i++)
                        table_add_member(&t, doc, heads[i]);
                table_add_format(&t, "%" PRIu64, count_of(doc, "rejected") + own->count);
                status = table_print(&t, stdout);
        }
        if (status == 0)
                status = tell_rejected(doc, own);
out:
        json_free(&doc);
        http_answer_free(&a);
        feed_close(&f);
        return status;
}

/* --- evaluate --- */

/* The confusion matrix of up to ten classes, true classes down. */
static int print_confusion(const struct json *rows)
{
        enum { CLASSES_SHOWN = 10 };
        static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
        const char *heads[CLASSES_SHOWN + 2] = {"true \\ predicted"};
        const size_t n = json_length(rows);
        struct table t;
        if (n == 0 || n > CLASSES_SHOWN)
                return 0;
        for (size_t i = 0; i < n; i++)
                heads[i + 1] = digits[i];
        table_begin(&t, heads);
        size_t i = 0;
        for (const struct json *r = json_first(rows); r != NULL; r = json_next(r), i++) {
                table_add(&t, digits[i]);
                size_t k = 0;
                for (const struct json *v = json_first(r); v != NULL && k < n; v = json_next(v)) {
                        table_add_format(&t, "%.0f", json_number(v));
                        k++;
                }
                for (; k < n; k++)
                        table_add(&t, NULL);
        }
        (void)fputc('\n', stdout);
        return table_print(&t, stdout);
}

static int print_evaluation(const struct json *doc)
{
        static const char *const classes[] = {"evaluated", "accuracy", "log_loss",
                                              "clean_constituents", NULL};
        static const char *const values[] = {"evaluated", "mean_squared_error",
                                             "clean_constituents", NULL};
        const char *const *heads = json_get(doc, "accuracy") != NULL ? classes : values;
        struct table t;
        table_begin(&t, heads);
        for (int i = 0; heads[i] != NULL; i++) {
                double v = json_number(json_get(doc, heads[i]));
                if (strcmp(heads[i], "accuracy") == 0 && isfinite(v))
                        table_add_format(&t, "%.2f %%", 100 * v);
                else
                        table_add_member(&t, doc, heads[i]);
        }
        int status = table_print(&t, stdout);
        return status != 0 ? status : print_confusion(json_get(doc, "confusion"));
}

int evaluate_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct evaluate_options *o = options;
        struct feed *f = NULL;
        struct http_answer a = {0};
        struct json *doc = NULL;
        int status = exchange(c, in, &o->file, FEED_EVALUATE, false, &f, &a, &doc);
        if (status == 0)
                status = c->json ? print_answer(doc, feed_refused(f)) : print_evaluation(doc);
        if (status == 0)
                status = tell_rejected(doc, feed_refused(f));
        json_free(&doc);
        http_answer_free(&a);
        feed_close(&f);
        return status;
}
