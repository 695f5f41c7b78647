/* SPDX-License-Identifier: Apache-2.0
 * train.c: what runs as jobs: train, compact and verify, with waiting, and the jobs themselves. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/job_wait.h"
#include "cli/progress.h"
#include "cli/replay.h"
#include "cli/shape.h"
#include "cli/table.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- waiting --- */

static bool job_ended(const char *state)
{
        return state == NULL || strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 ||
               strcmp(state, "cancelled") == 0;
}

int job_wait(struct ctl *c, const char *what, struct http_answer *a, struct json **doc)
{
        struct progress p;
        struct buf path = {0};
        uint32_t round = 0;
        const char *id = json_string(json_get(*doc, "id"));
        buf_append_str(&path, "/v1/jobs/");
        path_escape(&path, id != NULL ? id : "");
        int status = path_text(&path) != NULL ? 0 : EXIT_FAILED;
        progress_begin(&p, what, 0);
        while (status == 0 && !job_ended(json_string(json_get(*doc, "state")))) {
                double eta = json_number(json_get(*doc, "eta_seconds"));
                double done = json_number(json_get(*doc, "progress"));
                progress_fraction(&p, isfinite(done) ? done : 0, isfinite(eta) ? eta : -1);
                poll_pause(&round);
                json_free(doc);
                http_answer_free(a);
                status = api_poll(c, (const char *)path.data, a, doc);
        }
        progress_end(&p);
        buf_free(&path, false);
        if (status != 0)
                return status;
        const char *state = json_string(json_get(*doc, "state"));
        const char *error = json_string(json_get(*doc, "error"));
        if (state != NULL && strcmp(state, "succeeded") == 0)
                return 0;
        return complain("the job %s%s%s", state != NULL ? state : "has no state",
                        error != NULL ? ": " : "", error != NULL ? error : "");
}

/* --- tables --- */

static const char *const job_heads[] = {"id",       "kind",       "model", "shard", "state",
                                        "progress", "created_at", "error", NULL};

static void add_job(struct table *t, const struct json *job)
{
        for (int i = 0; job_heads[i] != NULL; i++) {
                double v = json_number(json_get(job, job_heads[i]));
                if (strcmp(job_heads[i], "progress") == 0 && isfinite(v))
                        table_add_format(t, "%.0f %%", 100 * v);
                else
                        table_add_member(t, job, job_heads[i]);
        }
}

static int print_job(const struct ctl *c, const struct http_answer *a, const struct json *job)
{
        struct table t;
        if (c->json)
                return print_json(&a->body);
        table_begin(&t, job_heads);
        add_job(&t, job);
        return table_print(&t, stdout);
}

/* --- train --- */

struct train_options {
        bool wait;
        const char *idempotency_key;
};
const struct option_spec train_options[] = {
        {"wait", NULL, OPTION_FLAG, offsetof(struct train_options, wait),
         "until it is trained; exit status 1 if it fails"},
        {"idempotency-key", "K", OPTION_TEXT, offsetof(struct train_options, idempotency_key),
         "the same key starts one job, however often it is sent"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t train_options_size = sizeof(struct train_options);

static int start_job(struct ctl *c, const char *model, const char *call, const char *what,
                     const struct train_options *o)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf path = {0}, body = {0};
        model_path(&path, model, call);
        buf_append_str(&body, "{}");
        const char *text = path_text(&path);
        int status =
                text == NULL ? EXIT_FAILED : api_post(c, text, o->idempotency_key, &body, &a, &doc);
        if (status == 0 && o->wait)
                status = job_wait(c, what, &a, &doc);
        if (doc != NULL) {
                int printed = print_job(c, &a, doc);
                status = status != 0 ? status : printed;
        }
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&path, false);
        buf_free(&body, false);
        return status;
}

int train_run(struct ctl *c, const struct operands *in, const void *options)
{
        return start_job(c, in->items[0], "/train", "training", options);
}

/* --- compact --- */

const struct option_spec compact_options[] = {
        {"wait", NULL, OPTION_FLAG, offsetof(struct train_options, wait),
         "until it is done; exit status 1 if it fails"},
        {"idempotency-key", "K", OPTION_TEXT, offsetof(struct train_options, idempotency_key),
         "the same key starts one job, however often it is sent"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t compact_options_size = sizeof(struct train_options);

int compact_run(struct ctl *c, const struct operands *in, const void *options)
{
        return start_job(c, in->items[0], "/compact", "compacting", options);
}

/* --- verify --- */

struct verify_options {
        struct text_list shards;
        struct replay_options replay;
};
#define REPLAY(m) offsetof(struct verify_options, replay.m)
const struct option_spec verify_options[] = {
        {"shard", "N", OPTION_LIST, offsetof(struct verify_options, shards),
         "only this one; may be given again"},
        {"certificate", "FILE", OPTION_TEXT, REPLAY(certificate),
         "offline: rebuild what this certificate names"},
        {"data-dir", "DIR", OPTION_TEXT, REPLAY(data_dir), "offline: from the rows in there"},
        {"key", "VKEY", OPTION_TEXT, REPLAY(key), "the log's key, that signed the certificate"},
        {"pseudonym-key", "FILE", OPTION_TEXT, REPLAY(pseudonym_key),
         "by default DIR/keys/pseudonym.key"},
        {"config", "FILE", OPTION_TEXT, REPLAY(config),
         "the model's configuration; by default looked for in DIR/control.mdb"},
        {"worker", "FILE", OPTION_TEXT, REPLAY(worker), "the program unlearn-worker"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t verify_options_size = sizeof(struct verify_options);

static int check_shards(const struct text_list *shards)
{
        for (size_t i = 0; i < shards->count; i++) {
                const char *text = shards->items[i];
                if (text[0] == '\0' || strlen(text) > 3 ||
                    strspn(text, "0123456789") != strlen(text))
                        return complain_usage("--shard takes a number, from 0");
        }
        return 0;
}

static int verify_body(const struct verify_options *o, struct buf *body)
{
        struct json_writer w;
        jw_init(&w, body);
        jw_object(&w);
        if (o->shards.count > 0) {
                jw_key(&w, "shards");
                jw_array(&w);
                for (size_t i = 0; i < o->shards.count; i++)
                        jw_u64(&w, strtoul(o->shards.items[i], NULL, 10));
                jw_end_array(&w);
        }
        jw_end_object(&w);
        return body->failed ? complain_memory() : 0;
}

/* The table, and EXIT_FAILED unless every shard is identical. */
static int print_verification(const struct ctl *c, const struct http_answer *a,
                              const struct json *job)
{
        static const char *const heads[] = {"shard", "identical", "served_hash", "rebuilt_hash",
                                            NULL};
        const struct json *shards = json_get(json_get(job, "result"), "shards");
        size_t bad = 0;
        struct table t;
        table_begin(&t, heads);
        for (const struct json *v = json_first(shards); v != NULL; v = json_next(v)) {
                for (int i = 0; heads[i] != NULL; i++)
                        table_add_member(&t, v, heads[i]);
                bad += !json_is_true(json_get(v, "identical"));
        }
        if (c->json)
                table_drop(&t);
        int status = c->json ? print_json(&a->body) : table_print(&t, stdout);
        if (status == 0 && shards == NULL)
                status = complain("the job has no result");
        if (status == 0 && bad > 0)
                status = complain("%zu shard%s: not the bytes that its records make", bad,
                                  bad == 1 ? "" : "s");
        return status;
}

static int verify_online(struct ctl *c, const char *model, const struct verify_options *o)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf path = {0}, body = {0};
        model_path(&path, model, "/verify");
        int status = verify_body(o, &body);
        if (status == 0 && path_text(&path) == NULL)
                status = EXIT_FAILED;
        if (status == 0)
                status = api_post(c, (const char *)path.data, NULL, &body, &a, &doc);
        if (status == 0)
                status = job_wait(c, "verifying", &a, &doc);
        if (status == 0)
                status = print_verification(c, &a, doc);
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&path, false);
        buf_free(&body, false);
        return status;
}

int verify_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct verify_options *o = options;
        const char *model = in->count > 0 ? in->items[0] : NULL;
        const struct replay_options *r = &o->replay;
        int status = check_shards(&o->shards);
        if (status != 0)
                return status;
        if (r->certificate != NULL || r->data_dir != NULL)
                return replay_run(c, r, model, &o->shards);
        if (r->key != NULL || r->pseudonym_key != NULL || r->config != NULL || r->worker != NULL)
                return complain_usage("--key, --pseudonym-key, --config and --worker go with "
                                      "--certificate and --data-dir");
        if (model == NULL)
                return complain_usage("usage: unlearnctl verify MODEL, or --certificate FILE "
                                      "--data-dir DIR");
        return verify_online(c, model, o);
}

/* --- jobs --- */

struct jobs_options {
        struct count_option limit;
};
const struct option_spec jobs_options[] = {
        {"limit", "N", OPTION_COUNT, offsetof(struct jobs_options, limit),
         "at most N, newest first (100; 0: all)"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t jobs_options_size = sizeof(struct jobs_options);

static int add_job_row(void *arg, const struct json *job)
{
        add_job(arg, job);
        return 0;
}

int jobs_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct jobs_options *o = options;
        (void)in;
        return print_list(c, "/v1/jobs", o->limit.given ? o->limit.value : 100, job_heads,
                          add_job_row);
}

struct job_options {
        bool wait;
};
const struct option_spec job_options[] = {
        {"wait", NULL, OPTION_FLAG, offsetof(struct job_options, wait),
         "until it has ended; exit status 1 if it fails"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t job_options_size = sizeof(struct job_options);

int job_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct job_options *o = options;
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf path = {0};
        buf_append_str(&path, "/v1/jobs/");
        path_escape(&path, in->items[0]);
        const char *text = path_text(&path);
        int status = text == NULL ? EXIT_FAILED : api_get(c, text, &a, &doc);
        if (status == 0 && o->wait)
                status = job_wait(c, "waiting", &a, &doc);
        if (doc != NULL) {
                int printed = print_job(c, &a, doc);
                status = status != 0 ? status : printed;
        }
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}
