/* SPDX-License-Identifier: Apache-2.0
 * models.c: model create, list, show, delete, and shards. The options of a configuration are one
 * table: an option's name with dashes is the member's with underscores. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/schema.h"
#include "cli/table.h"
#include "lib/util/file.h"
#include "lib/util/limits.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- model create --- */

struct create_options {
        const char *kind, *task, *encoder, *dtype, *optimizer, *activation, *aggregation;
        const char *features, *classes, *targets, *shards, *slices, *epochs, *batch_size, *seed;
        const char *learning_rate, *learning_rate_decay, *momentum, *l2;
        const char *labels, *hidden, *standardize;
        const char *config, *from_csv, *idempotency_key;
        bool print;
        struct file_options file;
};
#define OPT(m) OPTION_TEXT, offsetof(struct create_options, m)
const struct option_spec model_create_options[] = {
        {"kind", "softmax|mlp", OPT(kind), "softmax by default"},
        {"task", "T", OPT(task), "classification (the default) or regression"},
        {"encoder", "E", OPT(encoder), "none, hash_text or tabular (needs --config or --from-csv)"},
        {"dtype", "f32|u8|bit", OPT(dtype), "how features are kept"},
        {"features", "N", OPT(features), "width of a row, or buckets of hash_text"},
        {"classes", "N", OPT(classes), "of a classification"},
        {"labels", "A,B,...", OPT(labels), "names of the classes (0, 1, ...)"},
        {"targets", "N", OPT(targets), "of a regression"},
        {"hidden", "N,N,...", OPT(hidden), "hidden layers of an mlp"},
        {"activation", "relu|tanh", OPT(activation), "of an mlp"},
        {"shards", "N", OPT(shards), "constituents"},
        {"slices", "N", OPT(slices), "checkpoints of each"},
        {"epochs", "N", OPT(epochs), "passes over the data"},
        {"batch-size", "N", OPT(batch_size), "rows of a step"},
        {"learning-rate", "X", OPT(learning_rate), "of a step"},
        {"learning-rate-decay", "X", OPT(learning_rate_decay), "rate / (1 + decay * epoch)"},
        {"momentum", "X", OPT(momentum), "of sgd; of adam its first decay rate"},
        {"l2", "X", OPT(l2), "penalty on weights"},
        {"optimizer", "sgd|adam", OPT(optimizer), "sgd by default"},
        {"aggregation", "mean|vote", OPT(aggregation), "mean by default"},
        {"seed", "N", OPT(seed), "of placement and training"},
        {"standardize", "yes|no", OPT(standardize), "numbers to mean 0 and deviation 1"},
        {"config", "FILE", OPT(config), "the whole configuration as JSON (- is standard input)"},
        {"from-csv", "FILE", OPT(from_csv), "columns and classes by the data in FILE"},
        {"label", "COLUMN", OPT(file.label), "with --from-csv: what is to be predicted"},
        {"id", "COLUMN", OPT(file.id), "with --from-csv: the records' ids"},
        {"subject", "COLUMN", OPT(file.subject), "with --from-csv: whom a record is about"},
        {"likelihood", "COLUMN", OPT(file.likelihood), "with --from-csv: the erasure likelihood"},
        {"delimiter", "C", OPT(file.delimiter), "with --from-csv: one character, tab, or auto"},
        {"quotes", "yes|no", OPT(file.quotes), "with --from-csv: whether quotes have a meaning"},
        {"print", NULL, OPTION_FLAG, offsetof(struct create_options, print),
         "print the configuration, create nothing"},
        {"idempotency-key", "K", OPT(idempotency_key), "the same key creates one model"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t model_create_options_size = sizeof(struct create_options);

enum member_type { MEMBER_WORD, MEMBER_NUMBER, MEMBER_WORDS, MEMBER_NUMBERS, MEMBER_YES_NO };
static const struct {
        const char *name;
        enum member_type type;
        size_t offset;
        bool by_schema; /* --from-csv says it */
} members[] = {
        {"task", MEMBER_WORD, offsetof(struct create_options, task), true},
        {"encoder", MEMBER_WORD, offsetof(struct create_options, encoder), true},
        {"dtype", MEMBER_WORD, offsetof(struct create_options, dtype), false},
        {"features", MEMBER_NUMBER, offsetof(struct create_options, features), true},
        {"classes", MEMBER_NUMBER, offsetof(struct create_options, classes), true},
        {"labels", MEMBER_WORDS, offsetof(struct create_options, labels), true},
        {"targets", MEMBER_NUMBER, offsetof(struct create_options, targets), true},
        {"hidden", MEMBER_NUMBERS, offsetof(struct create_options, hidden), false},
        {"activation", MEMBER_WORD, offsetof(struct create_options, activation), false},
        {"shards", MEMBER_NUMBER, offsetof(struct create_options, shards), false},
        {"slices", MEMBER_NUMBER, offsetof(struct create_options, slices), false},
        {"epochs", MEMBER_NUMBER, offsetof(struct create_options, epochs), false},
        {"batch_size", MEMBER_NUMBER, offsetof(struct create_options, batch_size), false},
        {"learning_rate", MEMBER_NUMBER, offsetof(struct create_options, learning_rate), false},
        {"learning_rate_decay", MEMBER_NUMBER, offsetof(struct create_options, learning_rate_decay),
         false},
        {"momentum", MEMBER_NUMBER, offsetof(struct create_options, momentum), false},
        {"l2", MEMBER_NUMBER, offsetof(struct create_options, l2), false},
        {"optimizer", MEMBER_WORD, offsetof(struct create_options, optimizer), false},
        {"aggregation", MEMBER_WORD, offsetof(struct create_options, aggregation), false},
        {"seed", MEMBER_NUMBER, offsetof(struct create_options, seed), false},
        {"standardize", MEMBER_YES_NO, offsetof(struct create_options, standardize), false},
};
enum { MEMBERS = sizeof members / sizeof *members };

/* One part of a comma-separated list. */
static int write_part(struct json_writer *w, const char *name, const char *text, size_t len,
                      bool number)
{
        if (!number)
                jw_string_n(w, text, len);
        else if (!write_number(w, text, len))
                return complain_usage("--%s takes numbers", name);
        return 0;
}

static int write_list(struct json_writer *w, const char *name, const char *text, bool number)
{
        jw_array(w);
        for (;;) {
                const char *comma = strchr(text, ',');
                size_t len = comma != NULL ? (size_t)(comma - text) : strlen(text);
                int status = write_part(w, name, text, len, number);
                if (status != 0)
                        return status;
                if (comma == NULL)
                        break;
                text = comma + 1;
        }
        jw_end_array(w);
        return 0;
}

static int write_option(struct json_writer *w, size_t i, const char *text)
{
        jw_key(w, members[i].name);
        switch (members[i].type) {
        case MEMBER_WORD:
                jw_string(w, text);
                return 0;
        case MEMBER_NUMBER:
                return write_part(w, members[i].name, text, strlen(text), true);
        case MEMBER_WORDS:
                return write_list(w, members[i].name, text, false);
        case MEMBER_NUMBERS:
                return write_list(w, members[i].name, text, true);
        case MEMBER_YES_NO:
                jw_bool(w, strcmp(text, "yes") == 0 || strcmp(text, "true") == 0);
                if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0 &&
                    strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
                        return complain_usage("--%s takes yes or no", members[i].name);
                return 0;
        }
        return EXIT_FAILED;
}

static const char *option_text(const struct create_options *o, size_t i)
{
        return *(const char *const *)(const void *)((const char *)o + members[i].offset);
}

static int write_schema(const struct create_options *o, struct json_writer *w)
{
        const struct schema_request r = {.path = o->from_csv, .file = o->file, .task = o->task};
        for (size_t i = 0; i < MEMBERS; i++)
                if (members[i].by_schema && i != 0 && option_text(o, i) != NULL)
                        return complain_usage("--%s is what --from-csv works out", members[i].name);
        if (o->file.label == NULL)
                return complain_usage("--from-csv needs --label COLUMN");
        return schema_write(&r, w);
}

static int write_configuration(const char *name, const struct create_options *o, struct buf *out)
{
        struct json_writer w;
        int status = 0;
        jw_init(&w, out);
        jw_object(&w);
        jw_member_string(&w, "name", name);
        jw_member_string(&w, "kind", o->kind != NULL ? o->kind : "softmax");
        if (o->from_csv != NULL)
                status = write_schema(o, &w);
        for (size_t i = 0; i < MEMBERS && status == 0; i++)
                if (option_text(o, i) != NULL && !(o->from_csv != NULL && members[i].by_schema))
                        status = write_option(&w, i, option_text(o, i));
        if (status != 0)
                return status;
        jw_end_object(&w);
        return out->failed ? complain_memory() : 0;
}

static int read_all(const char *path, struct buf *out)
{
        struct errinfo e = {0};
        if (strcmp(path, "-") != 0)
                return read_file(path, MODEL_CONFIG_BYTES_MAX, out, &e) == 0 ? 0
                                                                             : complain_about(&e);
        char piece[4096];
        size_t n;
        while ((n = fread(piece, 1, sizeof piece, stdin)) > 0 && out->len < MODEL_CONFIG_BYTES_MAX)
                buf_append(out, piece, n);
        return ferror(stdin) || out->failed ? complain("the standard input cannot be read") : 0;
}

/* The file's object with this name in it. */
static int read_configuration(const char *name, const struct create_options *o, struct buf *out)
{
        struct errinfo e = {0};
        struct buf text = {0};
        struct json *doc = NULL;
        struct json_writer w;
        for (size_t i = 0; i < MEMBERS; i++)
                if (option_text(o, i) != NULL)
                        return complain_usage("--%s does not go with --config", members[i].name);
        if (o->kind != NULL || o->from_csv != NULL)
                return complain_usage("--kind and --from-csv do not go with --config");
        int status = read_all(o->config, &text);
        if (status != 0)
                goto out;
        if (json_parse((const char *)text.data, text.len, &doc, &e) != 0) {
                status = complain("%s: %s", o->config, e.detail);
                goto out;
        }
        if (json_type_of(doc) != JSON_OBJECT) {
                status = complain("%s: want a JSON object", o->config);
                goto out;
        }
        jw_init(&w, out);
        jw_object(&w);
        jw_member_string(&w, "name", name);
        for (const struct json *v = json_first(doc); v != NULL; v = json_next(v)) {
                if (strcmp(json_key(v), "name") == 0)
                        continue;
                jw_key(&w, json_key(v));
                json_copy(&w, v);
        }
        jw_end_object(&w);
        status = out->failed ? complain_memory() : 0;
out:
        json_free(&doc);
        buf_free(&text, false);
        return status;
}

static const char *const model_heads[] = {"name",   "kind",  "encoder",  "state",      "records",
                                          "shards", "clean", "degraded", "generation", NULL};

static int add_model(void *table, const struct json *m)
{
        static const char *const keys[] = {"name",
                                           "kind",
                                           "encoder",
                                           "state",
                                           "records",
                                           "shards",
                                           "clean_constituents",
                                           "degraded_constituents",
                                           "generation"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
                table_add_member(table, m, keys[i]);
        return 0;
}

int model_create_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct create_options *o = options;
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf body = {0};
        struct table t;
        if (o->from_csv == NULL &&
            (o->file.label != NULL || o->file.id != NULL || o->file.subject != NULL ||
             o->file.likelihood != NULL || o->file.delimiter != NULL || o->file.quotes != NULL))
                return complain_usage("--label, --id, --subject and the like go with --from-csv");
        int status = o->config != NULL ? read_configuration(in->items[0], o, &body)
                                       : write_configuration(in->items[0], o, &body);
        if (status == 0 && o->print) {
                status = print_json(&body);
                goto out;
        }
        if (status == 0)
                status = api_post(c, "/v1/models", o->idempotency_key, &body, &a, &doc);
        if (status == 0 && c->json) {
                status = print_json(&a.body);
        } else if (status == 0) {
                table_begin(&t, model_heads);
                (void)add_model(&t, doc);
                status = table_print(&t, stdout);
        }
out:
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&body, false);
        return status;
}

/* --- the others --- */

int model_list_run(struct ctl *c, const struct operands *in, const void *options)
{
        (void)in;
        (void)options;
        return print_list(c, "/v1/models", 0, model_heads, add_model);
}

/* A list on one line, cut short where it is long. */
static void add_list(struct table *t, const struct json *list)
{
        enum { SHOWN = 12 };
        struct buf text = {0};
        int n = 0;
        for (const struct json *v = json_first(list); v != NULL; v = json_next(v), n++) {
                char number[48];
                const char *name = json_string(v);
                if (name == NULL && json_type_of(v) == JSON_OBJECT)
                        name = json_string(json_get(v, "name"));
                if (name == NULL) {
                        format_number(json_number(v), number, sizeof number);
                        name = number;
                }
                if (n < SHOWN)
                        buf_printf(&text, "%s%s", n > 0 ? ", " : "", name);
        }
        if (n > SHOWN)
                buf_printf(&text, ", ... (%d)", n);
        buf_append(&text, "", 1);
        table_add(t, text.failed ? NULL : (const char *)text.data);
        buf_free(&text, false);
}

/* GET of a path below a model, and the answer as a table by `print`. */
static int show(struct ctl *c, const char *model, const char *tail,
                int (*print)(const struct json *doc))
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf path = {0};
        model_path(&path, model, tail);
        const char *text = path_text(&path);
        int status = text == NULL ? EXIT_FAILED : api_get(c, text, &a, &doc);
        if (status == 0)
                status = c->json ? print_json(&a.body) : print(doc);
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}

static int print_model(const struct json *doc)
{
        static const char *const heads[] = {"member", "value", NULL};
        struct table t;
        table_begin(&t, heads);
        for (const struct json *v = json_first(doc); v != NULL; v = json_next(v)) {
                table_add(&t, json_key(v));
                if (json_type_of(v) == JSON_ARRAY)
                        add_list(&t, v);
                else
                        table_add_member(&t, doc, json_key(v));
        }
        return table_print(&t, stdout);
}

int model_show_run(struct ctl *c, const struct operands *in, const void *options)
{
        (void)options;
        return show(c, in->items[0], "", print_model);
}

static int print_shards(const struct json *doc)
{
        static const char *const heads[] = {"shard",           "state", "dirty_from", "served_from",
                                            "slice",           "live",  "erased",     "slice_state",
                                            "checkpoint_hash", NULL};
        struct table t;
        table_begin(&t, heads);
        const struct json *s = json_first(json_get(doc, "shards"));
        for (; s != NULL; s = json_next(s)) {
                const struct json *v = json_first(json_get(s, "slices"));
                for (; v != NULL; v = json_next(v)) {
                        const char *hash = json_string(json_get(v, "checkpoint_hash"));
                        table_add_member(&t, s, "shard");
                        table_add_member(&t, s, "state");
                        table_add_member(&t, s, "dirty_from");
                        table_add_member(&t, s, "served_from_slice");
                        table_add_member(&t, v, "slice");
                        table_add_member(&t, v, "live");
                        table_add_member(&t, v, "erased");
                        table_add_member(&t, v, "state");
                        if (hash != NULL)
                                table_add_format(&t, "%.16s", hash);
                        else
                                table_add(&t, NULL);
                }
        }
        return table_print(&t, stdout);
}

int shards_run(struct ctl *c, const struct operands *in, const void *options)
{
        (void)options;
        return show(c, in->items[0], "/shards", print_shards);
}

struct delete_options {
        bool yes;
};
const struct option_spec model_delete_options[] = {
        {"yes", NULL, OPTION_FLAG, offsetof(struct delete_options, yes), "do not ask"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t model_delete_options_size = sizeof(struct delete_options);

/* The name typed again, on a terminal. */
static int confirm(const char *model)
{
        char line[MODEL_NAME_MAX + 2] = "";
        if (isatty(STDIN_FILENO) != 1)
                return complain_usage("say --yes: deleting a model cannot be undone");
        (void)fprintf(stderr, "All records and checkpoints of the model will be overwritten.\n"
                              "Type its name to go on: ");
        if (fgets(line, sizeof line, stdin) == NULL)
                return complain("nothing was deleted");
        line[strcspn(line, "\n")] = '\0';
        return strcmp(line, model) == 0 ? 0 : complain("nothing was deleted");
}

int model_delete_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct delete_options *o = options;
        struct http_answer a = {0};
        struct buf path = {0};
        int status = o->yes ? 0 : confirm(in->items[0]);
        model_path(&path, in->items[0], "");
        const char *text = path_text(&path);
        if (status == 0 && text == NULL)
                status = EXIT_FAILED;
        if (status == 0) {
                const struct http_request r = {.method = "DELETE", .path = text};
                status = api_call(c, &r, &a);
        }
        if (status == 0 && c->json)
                (void)puts("{\"deleted\":true}");
        else if (status == 0)
                (void)puts("deleted, and its bytes overwritten");
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}
