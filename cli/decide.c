/* SPDX-License-Identifier: Apache-2.0
 * decide.c: what becomes of an erasure under hold, and of a deadline. */
#include "cli/commands.h"
#include "cli/erasure_print.h"
#include "cli/http.h"

static int decide(struct ctl *c, const char *id, const char *what, const struct buf *body)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf path = {0};
        unsigned shown = 0;
        buf_append_str(&path, "/v1/erasures/");
        path_escape(&path, id);
        buf_append_str(&path, what);
        const char *text = path_text(&path);
        int status = text == NULL ? EXIT_FAILED : api_post(c, text, NULL, body, &a, &doc);
        if (status == 0 && c->json) {
                status = print_json(&a.body);
        } else if (status == 0) {
                const char *state = json_string(json_get(doc, "state"));
                erasure_print_head(doc);
                (void)printf("%-11s %s\n", "state", state != NULL ? state : "-");
                erasure_print_times(doc, &shown);
        }
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}

int erasure_release_run(struct ctl *c, const struct operands *in, const void *options)
{
        struct buf body = {0};
        (void)options;
        buf_append_str(&body, "{}");
        int status = decide(c, in->items[0], "/release", &body);
        buf_free(&body, false);
        return status;
}

struct erasure_refuse_options {
        const char *reason;
};
const struct option_spec erasure_refuse_options[] = {
        {"reason", "CODE", OPTION_TEXT, offsetof(struct erasure_refuse_options, reason),
         "why: identity_not_verified, gdpr_17_3_e, ... (unlearnctl(1))"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t erasure_refuse_options_size = sizeof(struct erasure_refuse_options);

struct erasure_extend_options {
        const char *reason, *deadline;
};
const struct option_spec erasure_extend_options[] = {
        {"deadline", "TIME", OPTION_TEXT, offsetof(struct erasure_extend_options, deadline),
         "the new one (RFC 3339)"},
        {"reason", "CODE", OPTION_TEXT, offsetof(struct erasure_extend_options, reason),
         "why: complexity, number_of_requests, reasonably_necessary"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t erasure_extend_options_size = sizeof(struct erasure_extend_options);

static int decide_for_reason(struct ctl *c, const char *id, const char *what, const char *reason,
                             const char *deadline)
{
        struct buf body = {0};
        struct json_writer w;
        jw_init(&w, &body);
        jw_object(&w);
        jw_member_string(&w, "reason_code", reason);
        if (deadline != NULL)
                jw_member_string(&w, "deadline", deadline);
        jw_end_object(&w);
        int status = body.failed ? complain_memory() : decide(c, id, what, &body);
        buf_free(&body, false);
        return status;
}

int erasure_refuse_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct erasure_refuse_options *o = options;
        if (o->reason == NULL)
                return complain_usage("say why: --reason CODE");
        return decide_for_reason(c, in->items[0], "/refuse", o->reason, NULL);
}

int erasure_extend_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct erasure_extend_options *o = options;
        if (o->reason == NULL || o->deadline == NULL)
                return complain_usage("say until when and why: --deadline TIME --reason CODE");
        return decide_for_reason(c, in->items[0], "/extend", o->reason, o->deadline);
}
