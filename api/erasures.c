/* SPDX-License-Identifier: Apache-2.0
 * erasures.c: /v1/erasures: create, dry run, list, one; and the routes of the batch
 * (erasure_batch.c) and the suppressions (suppression*.c). Raw ids live here from the body's
 * arrival to their hashing and no longer: the body and the parsed document are wiped before the
 * service is called. */
#include "api/erasures.h"
#include "api/http_more.h"
#include "api/render.h"
#include "api/routes.h"
#include <stdio.h>
#include <string.h>

static void hash_id(void *arg, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES])
{
        service_pseudonym(arg, id, len, out);
}

static int check_callback(void *arg, const char *url, struct errinfo *e)
{
        return service_callback_check(arg, url, e);
}

struct erasure_reader erasure_reader_of(struct request *req, bool batch)
{
        return (struct erasure_reader){.pseudonym = hash_id,
                                       .callback = check_callback,
                                       .arg = request_service(req),
                                       .batch = batch};
}

/* Wipes what held raw ids, whether or not it could be read. */
static int read_erasure(struct request *req, struct erasure_body *out, struct errinfo *e)
{
        struct json *doc = NULL;
        struct erasure_reader reader = erasure_reader_of(req, false);
        int err = request_json(req, &doc, e);
        request_body_wipe(req);
        if (err == 0)
                err = erasure_parse(doc, &reader, out, e);
        json_free(&doc);
        if (err == 0)
                snprintf(out->request.actor, sizeof(out->request.actor), "%s", request_actor(req));
        return err;
}

static enum handler_result preview(struct request *req, struct erasure_body *body)
{
        struct errinfo e = {0};
        struct erasure_view view = {0};
        struct buf out = {0};
        struct json_writer w;
        int err = service_erase_preview(request_service(req), &body->request, &view, &e);
        erasure_body_clear(body);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        render_preview(&w, &view);
        erasure_view_clear(&view);
        return reply_json(req, 200, &out);
}

static void erased(void *arg, int err, const struct errinfo *e, const struct erasure_view *view)
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
        render_erasure(&w, view);
        reply_location(req, "/v1/erasures/%s", ulid_format(view->id, id));
        reply_replayed(req, view->replayed);
        reply_json(req, 202, &out);
        request_complete(req);
}

static enum handler_result create_erasure(struct request *req)
{
        struct errinfo e = {0};
        struct erasure_body body = {0};
        struct idempotency idem = {0};
        bool dry_run = false;
        size_t len = 0;
        const uint8_t *text = request_body(req, &len);
        int err = request_query_bool(req, "dry_run", &dry_run, &e);
        if (err == 0 && !dry_run)
                err = request_idempotency(req, text, len, &idem, &e);
        if (err == 0)
                err = read_erasure(req, &body, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        if (dry_run)
                return preview(req, &body);
        body.request.idem = idem;
        err = service_erase(request_service(req), &body.request, erased, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static enum handler_result get_erasure(struct request *req)
{
        struct errinfo e = {0};
        struct erasure_view view = {0};
        struct buf out = {0};
        struct json_writer w;
        uint8_t id[ULID_BYTES];
        int err = param_ulid(req, "id", "erasure", id, &e);
        if (err == 0)
                err = service_erasure_get(request_service(req), id, &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        render_erasure(&w, &view);
        erasure_view_clear(&view);
        return reply_json(req, 200, &out);
}

static int list_erasure(void *arg, const struct erasure_view *view)
{
        struct list *l = arg;
        if (list_full(l))
                return 1;
        render_erasure(&l->w, view);
        ulid_format(view->id, l->next);
        return 0;
}

static int read_filter(const struct request *req, struct erasure_filter *f, struct errinfo *e)
{
        static const char *const states[] = {"accepted", "forgotten", "completed", "refused", NULL};
        bool overdue = false;
        int err = query_choice(req, "state", states, &f->state, e);
        if (err == 0)
                err = query_model(req, &f->model, e);
        if (err == 0)
                err = request_query_bool(req, "overdue", &overdue, e);
        if (err == 0)
                err = query_interval(req, &f->since_ms, &f->until_ms, e);
        f->overdue = request_query(req, "overdue") == NULL ? -1 : overdue;
        return err;
}

static enum handler_result list_erasures(struct request *req)
{
        struct errinfo e = {0};
        struct erasure_filter filter = {0};
        struct page page;
        struct list l;
        bool seen = false;
        uint8_t before[ULID_BYTES];
        int err = request_page(req, &page, &e);
        if (err == 0)
                err = query_ulid(req, "cursor", &seen, before, &e);
        if (err == 0)
                err = read_filter(req, &filter, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        list_begin(&l, page.limit);
        uint64_t start = mono_us();
        bool more = false;
        do {
                err = service_erasure_list(request_service(req), &filter, seen ? before : NULL,
                                           list_erasure, &l, before, &more, &e);
                seen = true;
        } while (err == 0 && more && mono_us() - start < PAGE_BUDGET_US);
        if (more && !l.more) { /* the page is what was found in its time */
                l.more = true;
                ulid_format(before, l.next);
        }
        return list_reply(req, &l, err, &e);
}

static const char *const create_query[] = {"dry_run", NULL};
static const char *const list_query[] = {"state", "model", "overdue", "since",
                                         "until", "limit", "cursor",  NULL};
static const char *const page_query[] = {"limit", "cursor", NULL};
static const char *const import_query[] = {"erase_held", NULL};

const struct route erasures_routes[] = {
        {.method = "POST",
         .pattern = "/v1/erasures",
         .scopes = SCOPE_ERASE,
         .body = BODY_BUFFERED,
         .query = create_query,
         .handle = create_erasure},
        {.method = "GET",
         .pattern = "/v1/erasures",
         .scopes = SCOPE_ERASE,
         .query = list_query,
         .handle = list_erasures},
        {.method = "POST",
         .pattern = "/v1/erasures:batch",
         .scopes = SCOPE_ERASE,
         .body = BODY_BUFFERED,
         .body_max = BATCH_BODY_MAX,
         .handle = erase_batch},
        {.method = "GET",
         .pattern = "/v1/erasures/{id}",
         .scopes = SCOPE_ERASE,
         .handle = get_erasure},
        {.method = "POST",
         .pattern = "/v1/erasures/{id}/release",
         .scopes = SCOPE_ERASE,
         .body = BODY_BUFFERED,
         .handle = release_erasure},
        {.method = "POST",
         .pattern = "/v1/erasures/{id}/refuse",
         .scopes = SCOPE_ERASE,
         .body = BODY_BUFFERED,
         .handle = refuse_erasure},
        {.method = "POST",
         .pattern = "/v1/erasures/{id}/extend",
         .scopes = SCOPE_ERASE,
         .body = BODY_BUFFERED,
         .handle = extend_erasure},
        {.method = "GET",
         .pattern = "/v1/suppressions",
         .scopes = SCOPE_ADMIN,
         .query = page_query,
         .handle = list_suppressions},
        {.method = "POST",
         .pattern = "/v1/suppressions:import",
         .scopes = SCOPE_ADMIN,
         .body = BODY_STREAMED,
         .body_max = BODY_MAX_UPLOAD,
         .query = import_query,
         .upload = &suppression_import_ops},
        {.method = "DELETE",
         .pattern = "/v1/suppressions/{pseudonym}",
         .scopes = SCOPE_ADMIN,
         .handle = lift_suppression},
        {.method = NULL},
};
