/* SPDX-License-Identifier: Apache-2.0
 * erase.c: the request to forget: subjects and records by name, or a file of subjects as batches.
 * With --wait the three times of an erasure are shown as they come. Names are wiped after use. */
#include "cli/commands.h"
#include "cli/csv.h"
#include "cli/erasure_print.h"
#include "cli/http.h"
#include "cli/layout.h"
#include "cli/progress.h"
#include "cli/source.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/limits.h"
#include <math.h>
#include <string.h>

struct erase_options {
        struct text_list subjects, records, models;
        const char *from_file, *regulation, *reference, *received_at, *deadline, *idempotency_key;
        bool dry_run, wait, hold;
};
#define AT(m) offsetof(struct erase_options, m)
const struct option_spec erase_options[] = {
        {"subject", "S", OPTION_LIST, AT(subjects), "forget this subject; may be given again"},
        {"record", "MODEL:ID", OPTION_LIST, AT(records), "forget one record; may be given again"},
        {"model", "M", OPTION_LIST, AT(models), "look for subjects in this model only (all)"},
        {"from-file", "FILE", OPTION_TEXT, AT(from_file), "one subject a line, an erasure each"},
        {"regulation", "gdpr|ccpa|other", OPTION_TEXT, AT(regulation), "sets the deadline"},
        {"reference", "R", OPTION_TEXT, AT(reference), "your ticket; no personal data"},
        {"received-at", "TIME", OPTION_TEXT, AT(received_at), "when the person asked (now)"},
        {"deadline", "TIME", OPTION_TEXT, AT(deadline), "in place of the regulation's"},
        {"dry-run", NULL, OPTION_FLAG, AT(dry_run), "tell what it would touch; nothing changes"},
        {"wait", NULL, OPTION_FLAG, AT(wait), "until it is completed"},
        {"hold", NULL, OPTION_FLAG, AT(hold), "accept it; nothing is forgotten before its release"},
        {"idempotency-key", "K", OPTION_TEXT, AT(idempotency_key),
         "the same key makes one erasure; K/LINE with --from-file"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t erase_options_size = sizeof(struct erase_options);

/* --- requests --- */

static void write_texts(struct json_writer *w, const char *key, const struct text_list *list)
{
        if (list->count == 0)
                return;
        jw_key(w, key);
        jw_array(w);
        for (size_t i = 0; i < list->count; i++)
                jw_string(w, list->items[i]);
        jw_end_array(w);
}

static int write_records(struct json_writer *w, const struct text_list *list)
{
        if (list->count == 0)
                return 0;
        jw_key(w, "records");
        jw_array(w);
        for (size_t i = 0; i < list->count; i++) {
                const char *colon = strchr(list->items[i], ':');
                if (colon == NULL)
                        return complain_usage("--record takes MODEL:ID");
                jw_object(w);
                jw_key(w, "model");
                jw_string_n(w, list->items[i], (size_t)(colon - list->items[i]));
                jw_member_string(w, "id", colon + 1);
                jw_end_object(w);
        }
        jw_end_array(w);
        return 0;
}

/* The members that all forms of a request share. */
static void write_terms(struct json_writer *w, const struct erase_options *o)
{
        const struct {
                const char *key, *value;
        } texts[] = {{"regulation", o->regulation},
                     {"reference", o->reference},
                     {"received_at", o->received_at},
                     {"deadline", o->deadline}};
        write_texts(w, "models", &o->models);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
                if (texts[i].value == NULL)
                        continue;
                jw_member_string(w, texts[i].key, texts[i].value);
        }
        if (o->hold)
                jw_member_bool(w, "hold", true);
}

/* Arguments are bytes; the writer would replace what is not UTF-8 and name somebody else. */
static int check_names(const struct text_list *list)
{
        for (size_t i = 0; i < list->count; i++)
                if (!is_plain_text(list->items[i], strlen(list->items[i])))
                        return complain_usage("an id is not UTF-8");
        return 0;
}

static int write_request(const struct erase_options *o, struct buf *out)
{
        struct json_writer w;
        int status = check_names(&o->subjects);
        if (status == 0)
                status = check_names(&o->records);
        jw_init(&w, out);
        jw_object(&w);
        write_texts(&w, "subjects", &o->subjects);
        if (status == 0)
                status = write_records(&w, &o->records);
        if (status != 0)
                return status;
        write_terms(&w, o);
        jw_end_object(&w);
        return out->failed ? complain_memory() : 0;
}

/* --- waiting --- */

static bool erasure_ended(const struct json *e)
{
        const char *state = json_string(json_get(e, "state"));
        return state == NULL || strcmp(state, "completed") == 0 || strcmp(state, "refused") == 0;
}

/* The milestones of *doc that are new are printed (show), until the erasure has ended. */
static int erasure_wait(struct ctl *c, bool show, struct http_answer *a, struct json **doc)
{
        struct buf path = {0};
        uint32_t round = 0;
        unsigned shown = 0;
        const char *id = json_string(json_get(*doc, "id"));
        buf_append_str(&path, "/v1/erasures/");
        path_escape(&path, id != NULL ? id : "");
        int status = path_text(&path) != NULL ? 0 : EXIT_FAILED;
        while (status == 0) {
                if (show)
                        erasure_print_times(*doc, &shown);
                if (erasure_ended(*doc))
                        break;
                poll_pause(&round);
                json_free(doc);
                http_answer_free(a);
                status = api_poll(c, (const char *)path.data, a, doc);
        }
        buf_free(&path, false);
        if (status == 0 && strcmp(json_string(json_get(*doc, "state")) != NULL
                                          ? json_string(json_get(*doc, "state"))
                                          : "",
                                  "completed") != 0)
                status = complain("the erasure was not carried out");
        return status;
}

/* --- one request --- */

static int print_dry_run(const struct json *doc)
{
        static const char *const heads[] = {"model", "shard", "slice", "records", NULL};
        struct table t;
        double seconds = json_number(json_get(doc, "retrain_seconds"));
        (void)printf("%.0f records would be forgotten", json_number(json_get(doc, "matched")));
        if (isfinite(seconds))
                (void)printf("; retraining would take about %.3g s", seconds);
        (void)fputs(". Nothing was changed.\n", stdout);
        const struct json *v = json_first(json_get(doc, "affected"));
        if (v == NULL)
                return 0;
        table_begin(&t, heads);
        for (; v != NULL; v = json_next(v))
                for (int i = 0; heads[i] != NULL; i++)
                        table_add_member(&t, v, heads[i]);
        return table_print(&t, stdout);
}

static int erase_one(struct ctl *c, const struct erase_options *o)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf body = {0};
        const char *path = o->dry_run ? "/v1/erasures?dry_run=true" : "/v1/erasures";
        unsigned shown = 0;
        int status = write_request(o, &body);
        if (status == 0)
                status = api_post(c, path, o->idempotency_key, &body, &a, &doc);
        buf_free(&body, true);
        if (status != 0)
                goto out;
        if (o->dry_run) {
                status = c->json ? print_json(&a.body) : print_dry_run(doc);
                goto out;
        }
        if (!c->json)
                erasure_print_head(doc);
        if (o->wait)
                status = erasure_wait(c, !c->json, &a, &doc);
        else if (!c->json)
                erasure_print_times(doc, &shown);
        if (doc != NULL) {
                int printed = c->json   ? print_json(&a.body)
                              : o->hold ? 0
                                        : erasure_print_affected(doc);
                status = status != 0 ? status : printed;
        }
out:
        json_free(&doc);
        http_answer_free(&a);
        return status;
}

/* --- a file --- */

enum { CHUNK_LINES = 2000, CHUNK_BYTES = 8 * 1024 * 1024 };

struct batch {
        struct ctl *c;
        const struct erase_options *o;
        struct source *source;
        struct csv *lines;
        struct buf body;
        uint32_t count;
        uint64_t line[CHUNK_LINES]; /* of the file, for each line of the body */
        struct buf ids;             /* of the erasures, NUL after NUL, for --wait */
        struct json_writer answers; /* --json: the answers, in order */
        struct buf answers_text;
        uint64_t erasures, matched, refused;
};

static int read_lines(void *arg, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        return source_read(arg, out, cap, len, e);
}

static void add_subject(struct batch *b, const char *text, size_t len, uint64_t line)
{
        struct json_writer w;
        char key[IDEMPOTENCY_KEY_MAX + 32];
        jw_init(&w, &b->body);
        jw_object(&w);
        jw_key(&w, "subjects");
        jw_array(&w);
        jw_string_n(&w, text, len);
        jw_end_array(&w);
        write_terms(&w, b->o);
        if (b->o->idempotency_key != NULL) {
                (void)snprintf(key, sizeof key, "%.*s/%llu", (int)IDEMPOTENCY_KEY_MAX,
                               b->o->idempotency_key, (unsigned long long)line);
                jw_member_string(&w, "idempotency_key", key);
        }
        jw_end_object(&w);
        buf_append(&b->body, "\n", 1);
        b->line[b->count++] = line;
}

static void take_answer(struct batch *b, const struct json *v, uint64_t line)
{
        const char *id = json_string(json_get(v, "id"));
        const char *detail = json_string(json_get(v, "detail"));
        json_copy(&b->answers, v);
        if (id != NULL) {
                b->erasures++;
                b->matched += (uint64_t)json_number(json_get(v, "matched"));
                buf_append(&b->ids, id, strlen(id) + 1);
        } else {
                b->refused++;
                (void)complain("line %llu: %s", (unsigned long long)line,
                               detail != NULL ? detail : "refused");
        }
}

static int send_chunk(struct batch *b)
{
        const struct http_request r = {.method = "POST",
                                       .path = "/v1/erasures:batch",
                                       .accept = "application/x-ndjson",
                                       .content_type = "application/x-ndjson",
                                       .body = b->body.data,
                                       .body_len = b->body.len};
        struct http_answer a = {0};
        if (b->count == 0)
                return 0;
        int status = b->body.failed ? complain_memory() : api_call(b->c, &r, &a);
        const char *at = (const char *)a.body.data;
        const char *end = at != NULL ? at + a.body.len : at;
        for (uint32_t i = 0; status == 0 && i < b->count; i++) {
                struct json *doc = NULL;
                const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
                const char *stop = newline != NULL ? newline : end;
                if (at >= end || json_parse(at, (size_t)(stop - at), &doc, NULL) != 0) {
                        status = complain("the answer ends early; send the file again with the "
                                          "same --idempotency-key");
                        break;
                }
                take_answer(b, doc, b->line[i]);
                json_free(&doc);
                at = newline != NULL ? newline + 1 : end;
        }
        http_answer_free(&a);
        buf_reset(&b->body, true);
        b->count = 0;
        return status;
}

/* Every line of the file, in chunks. A name that is not UTF-8 stops it before its chunk is sent. */
static int send_lines(struct batch *b)
{
        struct errinfo e = {0};
        struct csv_record r;
        for (;;) {
                int n = csv_next(b->lines, &r, &e);
                if (n < 0)
                        return complain("%s: %s", b->o->from_file, e.detail);
                if (n == 0)
                        return send_chunk(b);
                size_t len = r.fields[0].len;
                if (len > 0 && r.fields[0].text[len - 1] == '\r')
                        len--;
                if (len == 0)
                        continue;
                if (!is_plain_text(r.fields[0].text, len))
                        return complain("%s: line %llu is not UTF-8", b->o->from_file,
                                        (unsigned long long)r.line);
                add_subject(b, r.fields[0].text, len, r.line);
                if (b->count == CHUNK_LINES || b->body.len > CHUNK_BYTES) {
                        int status = send_chunk(b);
                        if (status != 0)
                                return status;
                }
        }
}

static int wait_for_all(struct batch *b)
{
        struct progress p;
        int status = 0;
        const char *id = (const char *)b->ids.data;
        progress_begin(&p, "erasing", 0);
        for (uint64_t i = 0; status == 0 && i < b->erasures; i++, id += strlen(id) + 1) {
                struct http_answer a = {0};
                struct json *doc = NULL;
                struct buf path = {0};
                buf_printf(&path, "/v1/erasures/%s", id);
                status = path_text(&path) == NULL ? EXIT_FAILED
                                                  : api_poll(b->c, (char *)path.data, &a, &doc);
                if (status == 0)
                        status = erasure_wait(b->c, false, &a, &doc);
                progress_fraction(&p, (double)(i + 1) / (double)b->erasures, -1);
                json_free(&doc);
                http_answer_free(&a);
                buf_free(&path, false);
        }
        progress_end(&p);
        return status;
}

static int report(struct batch *b)
{
        int status = 0;
        if (b->c->json) {
                jw_end_array(&b->answers);
                status = print_json(&b->answers_text);
        } else {
                (void)printf("%llu erasures, %llu records %s, %llu lines refused\n",
                             (unsigned long long)b->erasures, (unsigned long long)b->matched,
                             b->o->wait ? "forgotten, scrubbed and retrained without" : "forgotten",
                             (unsigned long long)b->refused);
        }
        return status != 0 ? status : b->refused > 0 ? EXIT_FAILED : 0;
}

static int erase_file(struct ctl *c, const struct erase_options *o)
{
        static const struct csv_options whole_lines = {0, false};
        struct errinfo e = {0};
        static struct batch b; /* one a process */
        int status = 0;
        b = (struct batch){.c = c, .o = o};
        jw_init(&b.answers, &b.answers_text);
        jw_array(&b.answers);
        if (source_open(o->from_file, &b.source, &e) != 0)
                return complain_about(&e);
        if (csv_open(read_lines, b.source, &whole_lines, &b.lines, &e) != 0)
                status = complain_about(&e);
        if (status == 0)
                status = send_lines(&b);
        if (status == 0 && o->wait)
                status = wait_for_all(&b);
        int reported = report(&b);
        csv_close(&b.lines);
        source_close(&b.source);
        buf_free(&b.body, true);
        buf_free(&b.ids, false);
        buf_free(&b.answers_text, false);
        return status != 0 ? status : reported;
}

int erase_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct erase_options *o = options;
        const bool named = o->subjects.count > 0 || o->records.count > 0;
        (void)in;
        if (named == (o->from_file != NULL))
                return complain_usage("say whom: --subject S, --record MODEL:ID, or --from-file "
                                      "FILE alone");
        if (o->from_file != NULL && o->dry_run)
                return complain_usage("--dry-run goes with --subject and --record");
        if (o->hold && o->wait)
                return complain_usage(
                        "--wait would wait for somebody's decision: leave out --hold");
        return o->from_file != NULL ? erase_file(c, o) : erase_one(c, o);
}
