/* SPDX-License-Identifier: Apache-2.0
 * audit.c: entries of the audit log that match, as a table or as the daemon's streamed export. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/table.h"
#include <string.h>

struct audit_options {
        const char *type, *model, *erasure, *subject, *record, *reference, *since, *until, *order;
        const char *export, *output, *checkpoint;
        bool cosigned;
        struct count_option limit;
};
#define AT(m) offsetof(struct audit_options, m)
const struct option_spec audit_options[] = {
        {"type", "T", OPTION_TEXT, AT(type), "of this type"},
        {"model", "M", OPTION_TEXT, AT(model), "about this model"},
        {"erasure", "ID", OPTION_TEXT, AT(erasure), "about this erasure"},
        {"subject", "S", OPTION_TEXT, AT(subject), "about this subject"},
        {"record", "R", OPTION_TEXT, AT(record), "about this record"},
        {"reference", "R", OPTION_TEXT, AT(reference), "with this ticket"},
        {"since", "TIME", OPTION_TEXT, AT(since), "then or later (RFC 3339)"},
        {"until", "TIME", OPTION_TEXT, AT(until), "then or before"},
        {"order", "asc|desc", OPTION_TEXT, AT(order), "by index; asc by default"},
        {"limit", "N", OPTION_COUNT, AT(limit), "at most N (100; 0: all)"},
        {"export", "ndjson|csv", OPTION_TEXT, AT(export), "all that match, streamed"},
        {"output", "FILE", OPTION_TEXT, AT(output), "with --export: to this file (also -o)"},
        {"checkpoint", "FILE", OPTION_TEXT, AT(checkpoint),
         "with --export ndjson: the signed checkpoint, to this file"},
        {"cosigned", NULL, OPTION_FLAG, AT(cosigned),
         "with --checkpoint: the newest that witnesses cosigned"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t audit_options_size = sizeof(struct audit_options);

/* data as JSON on one line */
static int add_entry(void *table, const struct json *entry)
{
        struct table *t = table;
        struct buf data = {0};
        struct json_writer w;
        jw_init(&w, &data);
        json_copy(&w, json_get(entry, "data"));
        buf_append(&data, "", 1);
        table_add_member(t, entry, "index");
        table_add_member(t, entry, "time");
        table_add_member(t, entry, "type");
        table_add_member(t, entry, "actor");
        table_add(t, data.failed ? NULL : (const char *)data.data);
        buf_free(&data, false);
        return 0;
}

static bool write_piece(void *arg, const char *data, size_t len)
{
        if (fwrite(data, 1, len, arg) == len)
                return true;
        (void)complain("the export cannot be written");
        return false;
}

static int export_checkpoint(struct ctl *c, const char *path, bool cosigned)
{
        struct http_answer a = {0};
        const struct http_request r = {.method = "GET",
                                       .path = cosigned ? "/v1/audit/checkpoint?cosigned=true"
                                                        : "/v1/audit/checkpoint"};
        int status = api_call(c, &r, &a);
        if (status == 0)
                status = write_output(path, &a.body);
        http_answer_free(&a);
        return status;
}

static int export_entries(struct ctl *c, const struct audit_options *o, const char *path)
{
        const bool csv = strcmp(o->export, "csv") == 0;
        struct http_answer a = {0};
        FILE *out = stdout;
        if (!csv && strcmp(o->export, "ndjson") != 0)
                return complain_usage("--export takes ndjson or csv");
        if (o->limit.given)
                return complain_usage("--limit does not go with --export");
        if (o->checkpoint != NULL) { /* first: the export then has every entry that it covers */
                int status = export_checkpoint(c, o->checkpoint, o->cosigned);
                if (status != 0)
                        return status;
        }
        if (o->output != NULL)
                out = fopen(o->output, "we");
        if (out == NULL)
                return complain("%s cannot be written", o->output);
        const struct http_request r = {.method = "GET",
                                       .path = path,
                                       .accept = csv ? "text/csv" : "application/x-ndjson",
                                       .sink = write_piece,
                                       .arg = out};
        int status = api_call(c, &r, &a);
        if (o->output != NULL && fclose(out) != 0 && status == 0)
                status = complain("%s cannot be written", o->output);
        http_answer_free(&a);
        return status;
}

int audit_run(struct ctl *c, const struct operands *in, const void *options)
{
        static const char *const heads[] = {"index", "time", "type", "actor", "data", NULL};
        const struct audit_options *o = options;
        const struct {
                const char *name, *value;
        } filters[] = {{"type", o->type},       {"model", o->model},   {"erasure", o->erasure},
                       {"subject", o->subject}, {"record", o->record}, {"reference", o->reference},
                       {"since", o->since},     {"until", o->until},   {"order", o->order}};
        struct buf path = {0};
        (void)in;
        if ((o->output != NULL || o->checkpoint != NULL) && o->export == NULL)
                return complain_usage("--output and --checkpoint go with --export");
        if (o->cosigned && o->checkpoint == NULL)
                return complain_usage("--cosigned goes with --checkpoint");
        buf_append_str(&path, "/v1/audit");
        for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
                path_query(&path, filters[i].name, filters[i].value);
        const char *text = path_text(&path);
        int status = EXIT_FAILED;
        if (text != NULL && o->export != NULL)
                status = export_entries(c, o, text);
        else if (text != NULL)
                status = print_list(c, text, o->limit.given ? o->limit.value : 100, heads,
                                    add_entry);
        buf_free(&path, true);
        return status;
}
