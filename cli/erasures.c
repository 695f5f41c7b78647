/* SPDX-License-Identifier: Apache-2.0
 * erasures.c: erasures, listed and shown. */
#include "cli/commands.h"
#include "cli/erasure_print.h"
#include "cli/http.h"
#include "lib/util/clock.h"
#include <math.h>
#include <string.h>

/* --- one --- */

static void print_pair(const char *key, const char *value)
{
        (void)printf("%-11s ", key);
        print_text(stdout, value);
        (void)fputc('\n', stdout);
}

void erasure_print_head(const struct json *erasure)
{
        static const char *const keys[] = {"id", "matched", "regulation", "reference", "deadline"};
        static const char *const names[] = {"erasure", "records", "regulation", "reference",
                                            "deadline"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
                const struct json *v = json_get(erasure, keys[i]);
                char number[48];
                if (v != NULL && json_type_of(v) == JSON_NUMBER) {
                        format_number(json_number(v), number, sizeof number);
                        print_pair(names[i], number);
                } else if (json_string(v) != NULL) {
                        print_pair(names[i], json_string(v));
                }
        }
        (void)fflush(stdout);
}

static bool time_of(const struct json *erasure, const char *key, int64_t *ms)
{
        const char *text = json_string(json_get(erasure, key));
        return text != NULL && time_parse(text, strlen(text), ms);
}

void erasure_print_times(const struct json *erasure, unsigned *shown)
{
        static const struct {
                const char *key, *name;
        } times[] = {{"accepted_at", "accepted"},
                     {"forgotten_at", "forgotten"},
                     {"scrubbed_at", "scrubbed"},
                     {"completed_at", "completed"}};
        int64_t accepted = 0, at = 0;
        bool has_accepted = time_of(erasure, "accepted_at", &accepted);
        for (unsigned i = 0; i < sizeof times / sizeof *times; i++) {
                if ((*shown & (1u << i)) != 0 || !time_of(erasure, times[i].key, &at))
                        continue;
                *shown |= 1u << i;
                (void)printf("%-11s %s", times[i].name,
                             json_string(json_get(erasure, times[i].key)));
                if (i > 0 && has_accepted)
                        (void)printf("  +%.3f s", (double)(at - accepted) / 1000);
                (void)fputc('\n', stdout);
        }
        (void)fflush(stdout);
}

int erasure_print_affected(const struct json *erasure)
{
        static const char *const heads[] = {
                "model", "shard", "slice", "records", "state", "served_from_slice", NULL};
        struct table t;
        const struct json *v = json_first(json_get(erasure, "affected"));
        if (v == NULL) {
                (void)puts("No record was held; the suppression stands.");
                return 0;
        }
        table_begin(&t, heads);
        for (; v != NULL; v = json_next(v))
                for (int i = 0; heads[i] != NULL; i++)
                        table_add_member(&t, v, heads[i]);
        return table_print(&t, stdout);
}

int erasure_run(struct ctl *c, const struct operands *in, const void *options)
{
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct buf path = {0};
        unsigned shown = 0;
        (void)options;
        buf_append_str(&path, "/v1/erasures/");
        path_escape(&path, in->items[0]);
        const char *text = path_text(&path);
        int status = text == NULL ? EXIT_FAILED : api_get(c, text, &a, &doc);
        if (status == 0 && c->json) {
                status = print_json(&a.body);
        } else if (status == 0) {
                erasure_print_head(doc);
                const char *state = json_string(json_get(doc, "state"));
                print_pair("state", state != NULL ? state : "-");
                if (json_is_true(json_get(doc, "overdue")))
                        print_pair("overdue", "yes");
                erasure_print_times(doc, &shown);
                status = erasure_print_affected(doc);
        }
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}

/* --- all --- */

struct erasures_options {
        const char *state, *model, *since, *until;
        bool overdue;
        struct count_option limit;
};
#define AT(m) offsetof(struct erasures_options, m)
const struct option_spec erasures_options[] = {
        {"state", "S", OPTION_TEXT, AT(state), "accepted, forgotten, completed or refused"},
        {"model", "M", OPTION_TEXT, AT(model), "that touched this model"},
        {"overdue", NULL, OPTION_FLAG, AT(overdue),
         "ended after their deadline, or past it and not ended"},
        {"since", "TIME", OPTION_TEXT, AT(since), "accepted then or later (RFC 3339)"},
        {"until", "TIME", OPTION_TEXT, AT(until), "accepted then or before"},
        {"limit", "N", OPTION_COUNT, AT(limit), "at most N, newest first (100; 0: all)"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t erasures_options_size = sizeof(struct erasures_options);

static int add_erasure(void *table, const struct json *e)
{
        static const char *const keys[] = {"id",           "state",     "matched",
                                           "regulation",   "reference", "accepted_at",
                                           "completed_at", "deadline",  "overdue"};
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
                table_add_member(table, e, keys[i]);
        return 0;
}

int erasures_run(struct ctl *c, const struct operands *in, const void *options)
{
        static const char *const heads[] = {
                "id",          "state",        "records",  "regulation", "reference",
                "accepted_at", "completed_at", "deadline", "overdue",    NULL};
        const struct erasures_options *o = options;
        struct buf path = {0};
        (void)in;
        buf_append_str(&path, "/v1/erasures");
        path_query(&path, "state", o->state);
        path_query(&path, "model", o->model);
        path_query(&path, "overdue", o->overdue ? "true" : NULL);
        path_query(&path, "since", o->since);
        path_query(&path, "until", o->until);
        const char *text = path_text(&path);
        int status = text == NULL ? EXIT_FAILED
                                  : print_list(c, text, o->limit.given ? o->limit.value : 100,
                                               heads, add_erasure);
        buf_free(&path, false);
        return status;
}
