/* SPDX-License-Identifier: Apache-2.0
 * backup.c: asks the daemon for a backup and watches it being written. */
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/job_wait.h"
#include "cli/table.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct backup_options {
        bool with_keys;
};
const struct option_spec backup_options[] = {
        {"with-keys", NULL, OPTION_FLAG, offsetof(struct backup_options, with_keys),
         "all of keys/ too: whoever has such a backup can find people in it, sign as this log and "
         "send webhooks in its name; without it keep a copy of keys/ elsewhere"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t backup_options_size = sizeof(struct backup_options);

/* A relative path with a slash is one of this directory; a name is the daemon's to place. */
static int write_directory(struct json_writer *w, const char *dir)
{
        struct buf path = {0};
        int status = 0;
        if (dir[0] == '/' || strchr(dir, '/') == NULL) {
                jw_string(w, dir);
                return 0;
        }
        char *here = getcwd(NULL, 0);
        if (here == NULL)
                return complain("the current directory cannot be found");
        while (strncmp(dir, "./", 2) == 0)
                dir += 2;
        buf_printf(&path, "%s/%s", here, dir);
        if (path_text(&path) != NULL)
                jw_string(w, (const char *)path.data);
        else
                status = EXIT_FAILED;
        buf_free(&path, false);
        free(here);
        return status;
}

static int print_backup(const struct ctl *c, const struct http_answer *a, const struct json *job)
{
        static const char *const heads[] = {"directory", "files",        "bytes", "with_keys",
                                            "erasures",  "last_erasure", NULL};
        struct table t;
        if (c->json)
                return print_json(&a->body);
        table_begin(&t, heads);
        for (int i = 0; heads[i] != NULL; i++)
                table_add_member(&t, json_get(job, "result"), heads[i]);
        return table_print(&t, stdout);
}

int backup_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct backup_options *o = options;
        struct http_answer a = {0};
        struct json *doc = NULL;
        struct json_writer w;
        struct buf body = {0};
        jw_init(&w, &body);
        jw_object(&w);
        jw_key(&w, "directory");
        int status = write_directory(&w, in->items[0]);
        jw_member_bool(&w, "with_keys", o->with_keys);
        jw_end_object(&w);
        if (status == 0)
                status = api_post(c, "/v1/backups", NULL, &body, &a, &doc);
        if (status == 0)
                status = job_wait(c, "backup", &a, &doc);
        if (status == 0)
                status = print_backup(c, &a, doc);
        json_free(&doc);
        http_answer_free(&a);
        buf_free(&body, false);
        return status;
}
