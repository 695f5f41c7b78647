/* SPDX-License-Identifier: Apache-2.0
 * backups.c: POST /v1/backups, which starts a job. Where a backup may be written is the daemon's
 * configuration; a client only names it. */
#include "api/http_more.h"
#include "api/jobs.h"
#include "api/routes.h"
#include "lib/util/file.h"

struct backup_body {
        char directory[PATH_SIZE];
        bool with_keys;
};

static enum handler_result create_backup(struct request *req)
{
        static const struct json_field fields[] = {
                {.name = "directory",
                 .type = JF_STRING,
                 .offset = offsetof(struct backup_body, directory),
                 .size = sizeof(((struct backup_body *)0)->directory),
                 .min = 1,
                 .required = true},
                {.name = "with_keys",
                 .type = JF_BOOL,
                 .offset = offsetof(struct backup_body, with_keys)},
        };
        struct errinfo e = {0};
        struct idempotency idem = {0};
        struct backup_body b = {0};
        struct json *doc = NULL;
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        int err = request_idempotency(req, body, len, &idem, &e);
        if (err == 0)
                err = request_json(req, &doc, &e);
        if (err == 0)
                err = json_decode(doc, fields, sizeof fields / sizeof fields[0], &b, "", &e);
        json_free(&doc);
        if (err == 0)
                err = service_backup(request_service(req), b.directory, b.with_keys,
                                     request_actor(req), &idem, job_started, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

const struct route backups_routes[] = {
        {.method = "POST",
         .pattern = "/v1/backups",
         .scopes = SCOPE_ADMIN,
         .body = BODY_BUFFERED,
         .handle = create_backup},
        {.method = NULL},
};
