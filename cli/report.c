/* SPDX-License-Identifier: Apache-2.0
 * report.c: the report of a period: a table, JSON, or the page that prints. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/table.h"

struct report_options {
        const char *since, *until, *output;
        bool html;
};
#define AT(m) offsetof(struct report_options, m)
const struct option_spec report_options[] = {
        {"since", "TIME", OPTION_TEXT, AT(since), "received then or later (RFC 3339)"},
        {"until", "TIME", OPTION_TEXT, AT(until), "received then or before"},
        {"html", NULL, OPTION_FLAG, AT(html), "the page that prints"},
        {"output", "FILE", OPTION_TEXT, AT(output), "with --html: to this file"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t report_options_size = sizeof(struct report_options);

static const char *const counts[] = {"received", "completed", "refused", "pending",
                                     "in_time",  "overdue",   "extended"};

static void add_seconds(struct table *t, const struct json *group, const char *key,
                        const char *which)
{
        const struct json *v = json_get(json_get(group, key), which);
        char text[48] = "-";
        if (v != NULL && json_type_of(v) == JSON_NUMBER)
                (void)snprintf(text, sizeof text, "%.3f s", json_number(v));
        table_add(t, text);
}

static void add_group(struct table *t, const char *name, const struct json *group)
{
        table_add(t, name);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
                table_add_member(t, group, counts[i]);
        add_seconds(t, group, "seconds_to_forgotten", "median");
        add_seconds(t, group, "seconds_to_forgotten", "worst");
        add_seconds(t, group, "seconds_to_completed", "median");
        add_seconds(t, group, "seconds_to_completed", "worst");
}

static int print_report(const struct json *doc)
{
        static const char *const heads[] = {"regulation", "received", "completed",       "refused",
                                            "pending",    "in_time",  "overdue",         "extended",
                                            "forgotten",  "worst",    "completed after", "worst",
                                            NULL};
        struct table t;
        table_begin(&t, heads);
        for (const struct json *g = json_first(json_get(doc, "by_regulation")); g != NULL;
             g = json_next(g)) {
                const char *name = json_string(json_get(g, "regulation"));
                add_group(&t, name != NULL ? name : "none", g);
        }
        add_group(&t, "all", json_get(doc, "total"));
        return table_print(&t, stdout);
}

static bool write_piece(void *arg, const char *data, size_t len)
{
        if (fwrite(data, 1, len, arg) == len)
                return true;
        (void)complain("the report cannot be written");
        return false;
}

static int fetch_page(struct ctl *c, const char *path, const char *output)
{
        struct http_answer a = {0};
        FILE *out = output != NULL ? fopen(output, "we") : stdout;
        if (out == NULL)
                return complain("%s cannot be written", output);
        const struct http_request r = {.method = "GET",
                                       .path = path,
                                       .accept = "text/html",
                                       .sink = write_piece,
                                       .arg = out};
        int status = api_call(c, &r, &a);
        if (output != NULL && fclose(out) != 0 && status == 0)
                status = complain("%s cannot be written", output);
        http_answer_free(&a);
        return status;
}

int report_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct report_options *o = options;
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf path = {0};
        (void)in;
        if (o->output != NULL && !o->html)
                return complain_usage("--output goes with --html");
        buf_append_str(&path, "/v1/audit/report");
        path_query(&path, "since", o->since);
        path_query(&path, "until", o->until);
        const char *text = path_text(&path);
        int status = EXIT_FAILED;
        if (text != NULL && o->html) {
                status = fetch_page(c, text, o->output);
        } else if (text != NULL) {
                status = api_get(c, text, &a, &doc);
                if (status == 0)
                        status = c->json ? print_json(&a.body) : print_report(doc);
        }
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}
