/* SPDX-License-Identifier: Apache-2.0
 * status.c: is the daemon well: readiness, and why not; models, erasures that are not completed,
 * witnesses; and metrics. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/table.h"
#include <string.h>

struct overview {
        struct json_writer w; /* --json */
        struct buf out;
        struct table models, erasures, witnesses;
        uint64_t pending, witness_count;
        bool json, ready;
        char why[ERRINFO_DETAIL_MAX]; /* it is not: the fault, and what to do; "": it did not say */
};

static void take_reason(struct overview *o, const struct buf *body)
{
        struct json *doc = NULL;
        const char *why = NULL;
        if (body->len > 0 && json_parse((const char *)body->data, body->len, &doc, NULL) == 0 &&
            json_type_of(doc) == JSON_OBJECT)
                why = json_string(json_get(doc, "error"));
        (void)snprintf(o->why, sizeof o->why, "%s", why != NULL ? why : "");
        json_free(&doc);
}

/* Whether requests are served. Not ready is an answer, no failure of the call. */
static int get_ready(struct ctl *c, struct overview *o)
{
        const struct http_request r = {.method = "GET", .path = "/v2/health/ready"};
        struct http_answer a = {0};
        int status = http_call(c, &r, &a);
        o->ready = status == 0 && a.status == 200;
        if (status == 0 && a.status == 503)
                take_reason(o, &a.body);
        else if (status == 0 && !o->ready)
                status = api_complain(&a);
        http_answer_free(&a);
        return status;
}

static int take_model(void *arg, const struct json *m)
{
        static const char *const keys[] = {
                "name",          "state", "records", "clean_constituents", "degraded_constituents",
                "damaged_shards"};
        struct overview *o = arg;
        if (o->json)
                json_copy(&o->w, m);
        for (size_t i = 0; !o->json && i < sizeof keys / sizeof *keys; i++)
                table_add_member(&o->models, m, keys[i]);
        return 0;
}

static int take_erasure(void *arg, const struct json *e)
{
        static const char *const keys[] = {"id",          "state",    "matched",
                                           "accepted_at", "deadline", "overdue"};
        struct overview *o = arg;
        o->pending++;
        if (o->json)
                json_copy(&o->w, e);
        for (size_t i = 0; !o->json && i < sizeof keys / sizeof *keys; i++)
                table_add_member(&o->erasures, e, keys[i]);
        return 0;
}

static void take_witness(struct overview *o, const struct json *v)
{
        static const char *const keys[] = {"name", "size", "last_cosigned_at", "last_outcome",
                                           "failures"};
        o->witness_count++;
        if (o->json)
                json_copy(&o->w, v);
        for (size_t i = 0; !o->json && i < sizeof keys / sizeof *keys; i++)
                table_add_member(&o->witnesses, v, keys[i]);
}

/* Who may not read the log is shown none, and told nothing of it. */
static int take_witnesses(struct ctl *c, struct overview *o)
{
        const struct http_request r = {.method = "GET", .path = "/v1/audit/witnesses"};
        struct http_answer a = {0};
        struct errinfo e = {0};
        struct json *doc = NULL;
        int status = http_call(c, &r, &a);
        if (status == 0 && a.status == 200 &&
            json_parse((const char *)a.body.data, a.body.len, &doc, &e) != 0)
                status = complain("the daemon's list of witnesses: %s", e.detail);
        else if (status == 0 && a.status != 200 && a.status != 403)
                status = api_complain(&a);
        const struct json *items = doc != NULL ? json_get(doc, "items") : NULL;
        for (const struct json *v = items != NULL ? json_first(items) : NULL; v != NULL;
             v = json_next(v))
                take_witness(o, v);
        json_free(&doc);
        http_answer_free(&a);
        return status;
}

static int gather(struct ctl *c, struct overview *o)
{
        bool more = false;
        jw_init(&o->w, &o->out);
        jw_object(&o->w);
        jw_member_string(&o->w, "url", c->url);
        jw_member_bool(&o->w, "ready", o->ready);
        if (o->why[0] != '\0')
                jw_member_string(&o->w, "reason", o->why);
        jw_key(&o->w, "models");
        jw_array(&o->w);
        int status = api_list(c, "/v1/models", 0, take_model, o, &more);
        if (status != 0)
                return status;
        jw_end_array(&o->w);
        jw_key(&o->w, "pending_erasures");
        jw_array(&o->w);
        status = api_list(c, "/v1/erasures?state=forgotten", 20, take_erasure, o, &more);
        if (status != 0)
                return status;
        jw_end_array(&o->w);
        jw_member_bool(&o->w, "more_pending", more);
        jw_key(&o->w, "witnesses");
        jw_array(&o->w);
        status = take_witnesses(c, o);
        if (status != 0)
                return status;
        jw_end_array(&o->w);
        jw_end_object(&o->w);
        if (more && !o->json)
                remark("more erasures are pending than are shown; see unlearnctl erasures --state "
                       "forgotten");
        return 0;
}

static int print_overview(const struct ctl *c, struct overview *o)
{
        (void)printf("%s is %s", c->url, o->ready ? "ready" : "not ready");
        if (o->why[0] != '\0') {
                (void)fputs(": ", stdout);
                print_text(stdout, o->why);
        }
        (void)fputs("\n\n", stdout);
        int status = table_print(&o->models, stdout);
        if (status == 0 && o->pending > 0) {
                (void)fputc('\n', stdout);
                status = table_print(&o->erasures, stdout);
        } else if (status == 0) {
                (void)puts("\nNo erasure is pending.");
        }
        if (status == 0 && o->witness_count > 0) {
                (void)fputc('\n', stdout);
                status = table_print(&o->witnesses, stdout);
        }
        return status;
}

int status_run(struct ctl *c, const struct operands *in, const void *options)
{
        static const char *const models[] = {"model",    "state",   "records", "clean",
                                             "degraded", "damaged", NULL};
        static const char *const erasures[] = {
                "pending erasure", "state", "records", "accepted_at", "deadline", "overdue", NULL};
        static const char *const witnesses[] = {"witness",          "cosigned entries",
                                                "last_cosigned_at", "last_outcome",
                                                "failures",         NULL};
        struct overview o = {.json = c->json};
        (void)in;
        (void)options;
        table_begin(&o.models, models);
        table_begin(&o.erasures, erasures);
        table_begin(&o.witnesses, witnesses);
        int status = get_ready(c, &o);
        if (status == 0)
                status = gather(c, &o);
        if (status == 0)
                status = c->json ? print_json(&o.out) : print_overview(c, &o);
        table_drop(&o.models);
        table_drop(&o.erasures);
        table_drop(&o.witnesses);
        buf_free(&o.out, false);
        return status == 0 && !o.ready ? EXIT_FAILED : status;
}

static bool write_out(void *arg, const char *data, size_t len)
{
        return fwrite(data, 1, len, arg) == len;
}

int metrics_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct http_request r = {.method = "GET",
                                       .path = "/metrics",
                                       .accept = "text/plain",
                                       .sink = write_out,
                                       .arg = stdout};
        struct http_answer a = {0};
        (void)in;
        (void)options;
        if (c->json)
                return complain_usage("metrics are Prometheus text, not JSON");
        int status = api_call(c, &r, &a);
        http_answer_free(&a);
        return status;
}
