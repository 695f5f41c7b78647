/* SPDX-License-Identifier: Apache-2.0
 * jobs.c: GET /v1/jobs and /v1/jobs/{id}, and how a call that starts a job answers. It must not
 * know what a job does: kinds, states and results are the daemon's words. */
#include "api/jobs.h"
#include "api/http_more.h"
#include "api/render.h"
#include "api/routes.h"
#include <string.h>

void job_started(void *arg, int err, const struct errinfo *e, const struct job_view *job,
                 bool replayed)
{
        struct request *req = arg;
        struct buf out = {0};
        struct json_writer w;
        char id[ULID_TEXT + 1];
        if (err != 0) {
                reply_problem(req, err, e);
                request_complete(req);
                return;
        }
        jw_init(&w, &out);
        render_job(&w, job);
        reply_location(req, "/v1/jobs/%s", ulid_format(job->id, id));
        reply_replayed(req, replayed);
        reply_json(req, 202, &out);
        request_complete(req);
}

static enum handler_result get_job(struct request *req)
{
        struct errinfo e = {0};
        struct job_view view = {0};
        struct buf out = {0};
        struct json_writer w;
        uint8_t id[ULID_BYTES];
        int err = param_ulid(req, "id", "job", id, &e);
        if (err == 0)
                err = service_job_get(request_service(req), id, &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        render_job(&w, &view);
        job_view_clear(&view);
        return reply_json(req, 200, &out);
}

static int list_job(void *arg, const struct job_view *job)
{
        struct list *l = arg;
        if (list_full(l))
                return 1;
        render_job(&l->w, job);
        ulid_format(job->id, l->next);
        return 0;
}

static enum handler_result list_jobs(struct request *req)
{
        struct errinfo e = {0};
        struct page page;
        struct list l;
        bool seen = false;
        uint8_t before[ULID_BYTES];
        int err = request_page(req, &page, &e);
        if (err == 0)
                err = query_ulid(req, "cursor", &seen, before, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        list_begin(&l, page.limit);
        err = service_job_list(request_service(req), seen ? before : NULL, list_job, &l, &e);
        return list_reply(req, &l, err, &e);
}

static const char *const list_query[] = {"limit", "cursor", NULL};

const struct route jobs_routes[] = {
        {.method = "GET",
         .pattern = "/v1/jobs",
         .scopes = SCOPE_INGEST,
         .query = list_query,
         .handle = list_jobs},
        {.method = "GET", .pattern = "/v1/jobs/{id}", .scopes = SCOPE_INGEST, .handle = get_job},
        {.method = NULL},
};
