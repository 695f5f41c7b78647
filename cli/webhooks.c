/* SPDX-License-Identifier: Apache-2.0
 * webhooks.c: the endpoints that the daemon tells of events: listed, tried, given a new secret,
 * enabled again. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/table.h"
#include <string.h>

static const char *const heads[] = {"name",         "state",       "events", "pending", "failures",
                                    "last_outcome", "last_status", "url",    NULL};

static int add_row(void *table, const struct json *item)
{
        for (int i = 0; heads[i] != NULL; i++)
                table_add_member(table, item, heads[i]);
        return 0;
}

int webhook_list_run(struct ctl *c, const struct operands *in, const void *options)
{
        (void)in;
        (void)options;
        return print_list(c, "/v1/webhooks", 0, heads, add_row);
}

/* /v1/webhooks/NAME and what follows; the caller frees. NULL: no memory (told). */
static const char *path_of(struct buf *path, const char *name, const char *action)
{
        buf_append_str(path, "/v1/webhooks/");
        path_escape(path, name);
        buf_append_str(path, action);
        return path_text(path);
}

static int post(struct ctl *c, const char *name, const char *action, const struct buf *body,
                struct http_answer *a, struct json **doc)
{
        static const struct buf nothing;
        struct buf path = {0};
        const char *text = path_of(&path, name, action);
        int status = text == NULL ? EXIT_FAILED
                                  : api_post(c, text, NULL, body != NULL ? body : &nothing, a, doc);
        buf_free(&path, false);
        return status;
}

int webhook_enable_run(struct ctl *c, const struct operands *in, const void *options)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        (void)options;
        int status = post(c, in->items[0], "/enable", NULL, &a, &doc);
        if (status == 0 && c->json)
                status = print_json(&a.body);
        json_free(&doc);
        http_answer_free(&a);
        return status;
}

struct rotate_options {
        struct count_option overlap;
};
const struct option_spec webhook_rotate_options[] = {
        {"overlap", "SECONDS", OPTION_COUNT, offsetof(struct rotate_options, overlap),
         "how long the present secret signs too; a day by default, 0: it ends at once"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t webhook_rotate_options_size = sizeof(struct rotate_options);

int webhook_rotate_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct rotate_options *o = options;
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf body = {0};
        if (o->overlap.given)
                buf_printf(&body, "{\"overlap_seconds\": %llu}",
                           (unsigned long long)o->overlap.value);
        int status = post(c, in->items[0], "/rotate", &body, &a, &doc);
        if (status == 0 && c->json) {
                status = print_json(&a.body);
        } else if (status == 0) {
                print_text(stdout, json_string(json_get(doc, "secret")));
                (void)fputc('\n', stdout);
                remark("the secret before it signs too until %s",
                       json_string(json_get(doc, "previous_until")));
        }
        buf_free(&body, false);
        json_free(&doc); /* wiped */
        http_answer_free(&a);
        return status;
}

/* What came of the first attempt since the message was queued. */
static int wait_for_attempt(struct ctl *c, const char *name, const char *queued_at)
{
        enum { ROUNDS = 60 };
        struct buf path = {0};
        const char *text = path_of(&path, name, "");
        int status = text == NULL ? EXIT_FAILED : 0;
        bool tried = false;
        for (uint32_t round = 0, i = 0; status == 0 && !tried && i < ROUNDS; i++) {
                struct http_answer a = {0};
                struct json *doc = NULL;
                poll_pause(&round);
                status = api_poll(c, text, &a, &doc);
                const char *at = json_string(json_get(doc, "last_attempt_at"));
                const char *outcome = json_string(json_get(doc, "last_outcome"));
                tried = status == 0 && at != NULL && strcmp(at, queued_at) >= 0;
                if (tried && c->json)
                        (void)print_json(&a.body);
                else if (tried)
                        (void)puts(outcome != NULL ? outcome : "-");
                if (tried && (outcome == NULL || strcmp(outcome, "delivered") != 0))
                        status = complain("the message was not taken: %s; it is tried again",
                                          outcome != NULL ? outcome : "unknown");
                json_free(&doc);
                http_answer_free(&a);
        }
        if (status == 0 && !tried)
                status = complain("nothing came of it so far; see unlearnctl webhook list");
        buf_free(&path, false);
        return status;
}

int webhook_test_run(struct ctl *c, const struct operands *in, const void *options)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        (void)options;
        int status = post(c, in->items[0], "/test", NULL, &a, &doc);
        const char *queued_at = json_string(json_get(doc, "queued_at"));
        if (status == 0)
                status = queued_at != NULL ? wait_for_attempt(c, in->items[0], queued_at)
                                           : complain("the daemon's answer is not understood");
        json_free(&doc);
        http_answer_free(&a);
        return status;
}
