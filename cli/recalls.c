/* SPDX-License-Identifier: Apache-2.0
 * recalls.c: which generations of a model are withdrawn, and by which erasures. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/table.h"
#include <stdio.h>

struct recalls_options {
        const char *since;
        struct count_option generation;
};
const struct option_spec recalls_options[] = {
        {"since", "TIME", OPTION_TEXT, offsetof(struct recalls_options, since),
         "only what was withdrawn then or later"},
        {"generation", "N", OPTION_COUNT, offsetof(struct recalls_options, generation),
         "only what withdraws this generation"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t recalls_options_size = sizeof(struct recalls_options);

/* "3-5, 7" */
static void add_generations(struct table *t, const struct json *ranges)
{
        struct buf text = {0};
        for (const struct json *r = json_first(ranges); r != NULL; r = json_next(r)) {
                double first = json_number(json_get(r, "first"));
                double last = json_number(json_get(r, "last"));
                buf_printf(&text, "%s%.0f", text.len > 0 ? ", " : "", first);
                if (last > first)
                        buf_printf(&text, "-%.0f", last);
        }
        table_add(t, path_text(&text));
        buf_free(&text, false);
}

static int add_row(void *table, const struct json *item)
{
        table_add_member(table, item, "erasure");
        table_add_member(table, item, "withdrawn_at");
        table_add_member(table, item, "completed_at");
        table_add_member(table, item, "replaced_by");
        add_generations(table, json_get(item, "generations"));
        return 0;
}

int recalls_run(struct ctl *c, const struct operands *in, const void *options)
{
        static const char *const heads[] = {"erasure",     "withdrawn_at", "completed_at",
                                            "replaced_by", "generations",  NULL};
        const struct recalls_options *o = options;
        struct buf path = {0};
        char number[24];
        buf_append_str(&path, "/v1/models/");
        path_escape(&path, in->items[0]);
        buf_append_str(&path, "/recalls");
        path_query(&path, "since", o->since);
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)o->generation.value);
        path_query(&path, "generation", o->generation.given ? number : NULL);
        const char *text = path_text(&path);
        int status = text == NULL ? EXIT_FAILED : print_list(c, text, 0, heads, add_row);
        buf_free(&path, false);
        return status;
}
