/* SPDX-License-Identifier: Apache-2.0
 * suppressions.c: who may not be loaded again: listed, lifted, and carried from one daemon to
 * another that has the same pseudonym key. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/table.h"
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

struct suppressions_options {
        struct count_option limit;
};
const struct option_spec suppressions_options[] = {
        {"limit", "N", OPTION_COUNT, offsetof(struct suppressions_options, limit),
         "at most N, by pseudonym (100; 0: all)"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t suppressions_options_size = sizeof(struct suppressions_options);

static const char *const suppression_heads[] = {"pseudonym", "kind",  "model",
                                                "erasure",   "since", NULL};

static int add_suppression(void *table, const struct json *s)
{
        for (int i = 0; suppression_heads[i] != NULL; i++)
                table_add_member(table, s, suppression_heads[i]);
        return 0;
}

int suppressions_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct suppressions_options *o = options;
        (void)in;
        return print_list(c, "/v1/suppressions", o->limit.given ? o->limit.value : 100,
                          suppression_heads, add_suppression);
}

int suppressions_lift_run(struct ctl *c, const struct operands *in, const void *options)
{
        struct http_answer a = {0};
        struct buf path = {0};
        int status = EXIT_FAILED;
        (void)options;
        buf_append_str(&path, "/v1/suppressions/");
        path_escape(&path, in->items[0]);
        if (path_text(&path) != NULL) {
                const struct http_request r = {.method = "DELETE", .path = (char *)path.data};
                status = api_call(c, &r, &a);
        }
        if (status == 0)
                (void)puts(c->json ? "{\"lifted\":true}" : "lifted; the audit log has it");
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}

/* --- export --- */

struct suppressions_export_options {
        const char *output;
};
const struct option_spec suppressions_export_options[] = {
        {"output", "FILE", OPTION_TEXT, offsetof(struct suppressions_export_options, output),
         "to this file"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t suppressions_export_options_size = sizeof(struct suppressions_export_options);

static bool write_piece(void *arg, const char *data, size_t len)
{
        if (fwrite(data, 1, len, arg) == len)
                return true;
        (void)complain("the export cannot be written");
        return false;
}

int suppressions_export_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct suppressions_export_options *o = options;
        struct http_answer a = {0};
        FILE *out = o->output != NULL ? fopen(o->output, "we") : stdout;
        (void)in;
        if (out == NULL)
                return complain("%s cannot be written", o->output);
        const struct http_request r = {.method = "GET",
                                       .path = "/v1/suppressions",
                                       .accept = "application/x-ndjson",
                                       .sink = write_piece,
                                       .arg = out};
        int status = api_call(c, &r, &a);
        if (o->output != NULL && fclose(out) != 0 && status == 0)
                status = complain("%s cannot be written", o->output);
        http_answer_free(&a);
        return status;
}

/* --- import --- */

struct suppressions_import_options {
        bool erase_held;
};
const struct option_spec suppressions_import_options[] = {
        {"erase-held", NULL, OPTION_FLAG, offsetof(struct suppressions_import_options, erase_held),
         "erase the people among them who are held there"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t suppressions_import_options_size = sizeof(struct suppressions_import_options);

static long read_piece(void *arg, char *out, size_t cap)
{
        size_t n = fread(out, 1, cap, arg);
        if (n == 0 && ferror((FILE *)arg)) {
                (void)complain("the file cannot be read");
                return HTTP_READ_FAILED;
        }
        return (long)n;
}

static const char *const import_heads[] = {"added", "already", "lifted", "held", "erasures", NULL};

static int print_import(struct ctl *c, const struct http_answer *a)
{
        struct json *doc = NULL;
        struct table t;
        if (c->json)
                return print_json(&a->body);
        if (json_parse((const char *)a->body.data, a->body.len, &doc, NULL) != 0)
                return complain("the answer is no JSON: is that an unlearnd?");
        table_begin(&t, import_heads);
        for (int i = 0; import_heads[i] != NULL; i++)
                table_add_member(&t, doc, import_heads[i]);
        int status = table_print(&t, stdout);
        if (json_type_of(json_get(doc, "advice")) == JSON_STRING)
                remark("people are held there who are suppressed now; nothing was taken away: "
                       "import the file again with --erase-held to erase them");
        json_free(&doc);
        return status;
}

int suppressions_import_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct suppressions_import_options *o = options;
        const bool standard = strcmp(in->items[0], "-") == 0;
        struct http_answer a = {0};
        FILE *from = standard ? stdin : fopen(in->items[0], "re");
        if (from == NULL)
                return complain("%s cannot be read: %s", in->items[0], strerror(errno));
        const struct http_request r = {.method = "POST",
                                       .path = o->erase_held
                                                       ? "/v1/suppressions:import?erase_held=true"
                                                       : "/v1/suppressions:import",
                                       .accept = "application/json",
                                       .content_type = "application/x-ndjson",
                                       .read = read_piece,
                                       .arg = from};
        int status = api_call(c, &r, &a);
        if (status == 0)
                status = print_import(c, &a);
        if (!standard)
                (void)fclose(from);
        http_answer_free(&a);
        return status;
}
