/* SPDX-License-Identifier: Apache-2.0
 * webhooks.c: /v1/webhooks: who is told of events and how that goes; a new secret, a test message,
 * an end to being disabled. A secret is shown in the answer that made it and nowhere else. */
#include "api/http_more.h"
#include "api/routes.h"
#include <string.h>

enum { OVERLAP_DEFAULT_S = 24 * 3600, OVERLAP_MAX_S = 30 * 24 * 3600 };

static void render(struct json_writer *w, const struct webhook_view *v)
{
        jw_object(w);
        jw_member_text(w, "name", v->name);
        jw_member_text(w, "url", v->url);
        jw_member_text(w, "events", v->events);
        jw_member_text(w, "state", v->enabled ? "enabled" : "disabled");
        jw_member_time(w, "since", v->changed_ms);
        jw_member_u64(w, "pending", v->pending);
        jw_member_u64(w, "failures", v->failures);
        jw_member_time(w, "last_attempt_at", v->attempt_ms);
        jw_member_text(w, "last_outcome", v->outcome);
        jw_key(w, "last_status");
        if (v->status != 0)
                jw_u64(w, v->status);
        else
                jw_null(w);
        jw_member_time(w, "last_delivered_at", v->delivered_ms);
        jw_end_object(w);
}

static int list_webhook(void *arg, const struct webhook_view *v)
{
        struct list *l = arg;
        if (list_full(l))
                return 1;
        render(&l->w, v);
        hex_encode(v->key, sizeof v->key, l->next);
        return 0;
}

static enum handler_result list_webhooks(struct request *req)
{
        struct errinfo e = {0};
        struct page page;
        struct list l;
        uint8_t after[WEBHOOK_KEY_BYTES];
        int err = request_page(req, &page, &e);
        if (err == 0 && page.cursor != NULL &&
            hex_decode(page.cursor, strlen(page.cursor), after, sizeof after) != sizeof after)
                err = ul_fail_field(&e, UL_SYNTAX, "cursor", "cursor is not one of this list");
        if (err != 0)
                return reply_problem(req, err, &e);
        list_begin(&l, page.limit);
        err = service_webhook_list(request_service(req), page.cursor != NULL ? after : NULL,
                                   list_webhook, &l, &e);
        return list_reply(req, &l, err, &e);
}

static enum handler_result get_webhook(struct request *req)
{
        struct errinfo e = {0};
        struct webhook_view view;
        struct buf out = {0};
        struct json_writer w;
        int err =
                service_webhook_get(request_service(req), request_param(req, "webhook"), &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        render(&w, &view);
        return reply_json(req, 200, &out);
}

/* --- changes --- */

static void rotated(void *arg, int err, const struct errinfo *e, const struct webhook_result *r)
{
        struct request *req = arg;
        struct buf out = {0};
        struct json_writer w;
        if (err != 0) {
                reply_problem(req, err, e);
        } else {
                jw_init(&w, &out);
                jw_object(&w);
                jw_member_text(&w, "secret", r->secret);
                jw_member_time(&w, "previous_until", r->previous_until_ms);
                jw_end_object(&w);
                reply_header(req, "Cache-Control", "no-store");
                reply_json(req, 200, &out); /* wiped with the request */
        }
        request_complete(req);
}

static int read_overlap(struct request *req, uint32_t *out, struct errinfo *e)
{
        const struct json_field field = {.name = "overlap_seconds",
                                         .type = JF_U32,
                                         .offset = 0,
                                         .min = 0,
                                         .max = OVERLAP_MAX_S};
        size_t len = 0;
        struct json *doc = NULL;
        (void)request_body(req, &len);
        *out = OVERLAP_DEFAULT_S;
        if (len == 0)
                return 0;
        int err = request_json(req, &doc, e);
        if (err == 0)
                err = json_decode(doc, &field, 1, out, "", e);
        json_free(&doc);
        return err;
}

static enum handler_result rotate_webhook(struct request *req)
{
        struct errinfo e = {0};
        uint32_t overlap_s = 0;
        int err = read_overlap(req, &overlap_s, &e);
        if (err == 0)
                err = service_webhook_rotate(request_service(req), request_param(req, "webhook"),
                                             overlap_s, request_actor(req), rotated, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static void enabled(void *arg, int err, const struct errinfo *e, const struct webhook_result *r)
{
        struct request *req = arg;
        struct buf out = {0};
        struct json_writer w;
        if (err != 0) {
                reply_problem(req, err, e);
        } else {
                jw_init(&w, &out);
                render(&w, &r->view);
                reply_json(req, 200, &out);
        }
        request_complete(req);
}

static enum handler_result enable_webhook(struct request *req)
{
        struct errinfo e = {0};
        int err = request_no_content(req, &e);
        if (err == 0)
                err = service_webhook_enable(request_service(req), request_param(req, "webhook"),
                                             request_actor(req), enabled, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static void queued(void *arg, int err, const struct errinfo *e, const struct webhook_result *r)
{
        struct request *req = arg;
        struct buf out = {0};
        struct json_writer w;
        char text[ULID_TEXT + 8] = "msg_";
        if (err != 0) {
                reply_problem(req, err, e);
        } else {
                ulid_format(r->id, text + 4);
                jw_init(&w, &out);
                jw_object(&w);
                jw_member_text(&w, "id", text);
                jw_member_time(&w, "queued_at", r->queued_ms);
                jw_end_object(&w);
                reply_json(req, 202, &out);
        }
        request_complete(req);
}

static enum handler_result test_webhook(struct request *req)
{
        struct errinfo e = {0};
        int err = request_no_content(req, &e);
        if (err == 0)
                err = service_webhook_test(request_service(req), request_param(req, "webhook"),
                                           request_actor(req), queued, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static const char *const list_query[] = {"limit", "cursor", NULL};

const struct route webhooks_routes[] = {
        {.method = "GET",
         .pattern = "/v1/webhooks",
         .scopes = SCOPE_ADMIN,
         .query = list_query,
         .handle = list_webhooks},
        {.method = "GET",
         .pattern = "/v1/webhooks/{webhook}",
         .scopes = SCOPE_ADMIN,
         .handle = get_webhook},
        {.method = "POST",
         .pattern = "/v1/webhooks/{webhook}/rotate",
         .scopes = SCOPE_ADMIN,
         .body = BODY_BUFFERED,
         .handle = rotate_webhook},
        {.method = "POST",
         .pattern = "/v1/webhooks/{webhook}/enable",
         .scopes = SCOPE_ADMIN,
         .body = BODY_BUFFERED,
         .handle = enable_webhook},
        {.method = "POST",
         .pattern = "/v1/webhooks/{webhook}/test",
         .scopes = SCOPE_ADMIN,
         .body = BODY_BUFFERED,
         .handle = test_webhook},
        {.method = NULL},
};
