/* SPDX-License-Identifier: Apache-2.0
 * predict.c: predictions for the rows of a file, a batch of them at a time. */
#include "cli/commands.h"
#include "cli/feed.h"
#include "cli/http.h"
#include "cli/table.h"
#include <string.h>

struct predict_options {
        struct file_options file;
};
const struct option_spec predict_options[] = {
        FILE_OPTIONS(struct predict_options),
        {"holdout", "K/N", OPTION_TEXT, FILE_OPTION(struct predict_options, holdout),
         "only the rows whose number is K modulo N"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t predict_options_size = sizeof(struct predict_options);

enum { BATCH_ROWS = 1024, BATCH_BYTES = 4 * 1024 * 1024 };

struct batch {
        struct ctl *c;
        const char *path;
        struct buf body; /* {"instances":[... */
        struct buf ids;  /* NUL after NUL */
        uint32_t rows;
        uint64_t printed;
};

/* Cells are set apart by tabs: rows stream, so no column's width is known. */
static void print_prediction(struct batch *b, const char *id, const struct json *v)
{
        struct buf text = {0};
        struct json_writer w;
        jw_init(&w, &text);
        if (b->c->json) {
                buf_append_str(&text, b->printed > 0 ? ",\n" : "\n");
                jw_object(&w);
                jw_member_string(&w, "id", id);
                jw_key(&w, "prediction");
                json_copy(&w, v);
                jw_end_object(&w);
                (void)fwrite(text.data, 1, text.len, stdout);
        } else {
                if (b->printed == 0)
                        (void)fputs("id\tprediction\n", stdout);
                print_text(stdout, id);
                (void)fputc('\t', stdout);
                if (json_string(v) != NULL) {
                        print_text(stdout, json_string(v));
                } else {
                        json_copy(&w, v);
                        (void)fwrite(text.data, 1, text.len, stdout);
                }
                (void)fputc('\n', stdout);
        }
        b->printed++;
        buf_free(&text, false);
}

static int send_batch(struct batch *b)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        if (b->rows == 0)
                return 0;
        buf_append_str(&b->body, "]}");
        int status = b->body.failed || b->ids.failed
                             ? complain_memory()
                             : api_post(b->c, b->path, NULL, &b->body, &a, &doc);
        const struct json *list = json_get(doc, "predictions");
        if (status == 0 && json_length(list) != b->rows)
                status = complain("the answer has another number of predictions");
        const char *id = (const char *)b->ids.data;
        for (const struct json *v = status == 0 ? json_first(list) : NULL; v != NULL;
             v = json_next(v)) {
                print_prediction(b, id, v);
                id += strlen(id) + 1;
        }
        json_free(&doc);
        http_answer_free(&a);
        buf_reset(&b->body, true);
        buf_reset(&b->ids, true);
        b->rows = 0;
        return status;
}

static int predict_rows(struct batch *b, struct feed *f)
{
        for (;;) {
                buf_append_str(&b->body, b->rows == 0 ? "{\"instances\":[" : ",");
                int n = feed_next(f, &b->body, &b->ids);
                if (n < 0)
                        return EXIT_FAILED;
                if (n == 0) {
                        b->body.len -= b->rows > 0 && !b->body.failed ? 1 : 0; /* the comma */
                        return send_batch(b);
                }
                buf_append(&b->ids, "", 1);
                b->rows++;
                if (b->rows == BATCH_ROWS || b->body.len > BATCH_BYTES) {
                        int status = send_batch(b);
                        if (status != 0)
                                return status;
                }
        }
}

int predict_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct predict_options *o = options;
        struct model_shape shape = {0};
        struct feed *f = NULL;
        struct buf path = {0};
        struct batch b = {.c = c};
        int status = feed_open(in->items[1], &o->file, FEED_PREDICT, &f);
        if (status == 0 && feed_is_table(f))
                status = shape_get(c, in->items[0], &shape);
        if (status == 0)
                status = feed_prepare(f, &shape);
        model_path(&path, in->items[0], ":predict");
        b.path = path_text(&path);
        if (status == 0 && b.path == NULL)
                status = EXIT_FAILED;
        if (status == 0) {
                if (c->json)
                        (void)fputs("{\"predictions\":[", stdout);
                status = predict_rows(&b, f);
                if (c->json)
                        (void)fputs("]}\n", stdout);
        }
        feed_close(&f);
        shape_free(&shape);
        buf_free(&path, false);
        buf_free(&b.body, true);
        buf_free(&b.ids, true);
        return status;
}
