/* SPDX-License-Identifier: Apache-2.0
 * models.c: /v1/models: create, list, show, delete, and the calls that start a training or a
 * verification. It must not know what a configuration means: lib/models reads and writes it. */
#include "api/http_more.h"
#include "api/jobs.h"
#include "api/render.h"
#include "api/routes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum handler_result get_model(struct request *req)
{
        struct errinfo e = {0};
        struct model_view view = {0};
        struct buf out = {0};
        struct json_writer w;
        int err = service_model_get(request_service(req), request_param(req, "m"), &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        render_model(&w, &view);
        model_view_release(&view);
        return reply_json(req, 200, &out);
}

static void list_views(struct list *l, struct model_view *views, uint32_t count)
{
        for (uint32_t i = 0; i < count && !list_full(l); i++) {
                render_model(&l->w, &views[i]);
                snprintf(l->next, sizeof(l->next), "%s", views[i].config->name);
        }
        for (uint32_t i = 0; i < count; i++)
                model_view_release(&views[i]);
}

static enum handler_result list_models(struct request *req)
{
        struct errinfo e = {0};
        struct page page;
        struct list l;
        uint32_t count = 0;
        int err = request_page(req, &page, &e);
        if (err == 0 && page.cursor != NULL && !model_name_valid(page.cursor, strlen(page.cursor)))
                err = ul_fail_field(&e, UL_SYNTAX, "cursor", "cursor is not one of this list");
        if (err != 0)
                return reply_problem(req, err, &e);
        /* one more than the page: whether there is a next one */
        struct model_view *views = calloc(page.limit + 1, sizeof(*views));
        if (views == NULL)
                return reply_problem(req, UL_NOMEM, NULL);
        list_begin(&l, page.limit);
        err = service_model_list(request_service(req), page.cursor, page.limit + 1, views, &count,
                                 &e);
        if (err == 0)
                list_views(&l, views, count);
        free(views);
        return list_reply(req, &l, err, &e);
}

static void model_created(void *arg, int err, const struct errinfo *e,
                          const struct model_view *view, bool replayed)
{
        struct request *req = arg;
        struct buf out = {0};
        struct json_writer w;
        if (err != 0) {
                reply_problem(req, err, e);
                request_complete(req);
                return;
        }
        jw_init(&w, &out);
        render_model(&w, view);
        reply_location(req, "/v1/models/%s", view->config->name);
        reply_replayed(req, replayed);
        reply_json(req, 201, &out);
        request_complete(req);
}

static enum handler_result create_model(struct request *req)
{
        struct errinfo e = {0};
        struct json *doc = NULL;
        struct model_config *config = NULL;
        struct idempotency idem = {0};
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        int err = request_idempotency(req, body, len, &idem, &e);
        if (err == 0)
                err = request_json(req, &doc, &e);
        if (err == 0)
                err = model_config_decode(doc, &config, &e);
        json_free(&doc);
        if (err == 0)
                err = service_model_create(request_service(req), config, request_actor(req), &idem,
                                           model_created, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static void model_deleted(void *arg, int err, const struct errinfo *e,
                          const struct model_view *view, bool replayed)
{
        struct request *req = arg;
        (void)view;
        (void)replayed;
        if (err != 0)
                reply_problem(req, err, e);
        else
                reply_empty(req, 204);
        request_complete(req);
}

static enum handler_result delete_model(struct request *req)
{
        struct errinfo e = {0};
        int err = service_model_delete(request_service(req), request_param(req, "m"),
                                       request_actor(req), model_deleted, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static int write_shard(void *arg, const struct shard_view *shard)
{
        render_shard(arg, shard);
        return 0;
}

static enum handler_result get_shards(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        struct json_writer w;
        const char *model = request_param(req, "m");
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_string(&w, "model", model);
        jw_key(&w, "shards");
        jw_array(&w);
        int err = service_shards(request_service(req), model, write_shard, &w, &e);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        jw_end_array(&w);
        jw_end_object(&w);
        return reply_json(req, 200, &out);
}

/* A job of the whole model, which needs no word more. */
static enum handler_result whole_model(struct request *req,
                                       int (*service)(struct service *, const char *, const char *,
                                                      const struct idempotency *, service_job_done,
                                                      void *, struct errinfo *))
{
        struct errinfo e = {0};
        struct idempotency idem = {0};
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        int err = request_idempotency(req, body, len, &idem, &e);
        if (err == 0)
                err = request_no_content(req, &e);
        if (err == 0)
                err = service(request_service(req), request_param(req, "m"), request_actor(req),
                              &idem, job_started, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static enum handler_result train_model(struct request *req)
{
        return whole_model(req, service_train);
}

static enum handler_result compact_model(struct request *req)
{
        return whole_model(req, service_compact);
}

struct verify_request {
        const struct json *list;
        bool has_list;
        uint32_t count; /* 0: every shard */
        uint32_t shards[SHARDS_MAX];
};

static int parse_shard(const struct json *v, uint32_t i, struct verify_request *out,
                       struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        int64_t shard = 0;
        snprintf(field, sizeof(field), "/shards/%u", i);
        if (!json_integer(v, 0, SHARDS_MAX - 1, &shard))
                return ul_fail_field(e, UL_INVALID, field, "must be a shard's number, 0 to %d",
                                     SHARDS_MAX - 1);
        for (uint32_t k = 0; k < out->count; k++) {
                if (out->shards[k] == (uint32_t)shard)
                        return ul_fail_field(e, UL_INVALID, field, "names a shard again");
        }
        out->shards[out->count++] = (uint32_t)shard;
        return 0;
}

static int parse_verify(const struct json *doc, struct verify_request *out, struct errinfo *e)
{
        static const struct json_field fields[] = {
                {.name = "shards",
                 .type = JF_VALUE,
                 .offset = offsetof(struct verify_request, list),
                 .size = sizeof(const struct json *),
                 .seen_offset = offsetof(struct verify_request, has_list)},
        };
        int err = json_decode(doc, fields, sizeof(fields) / sizeof(fields[0]), out, "", e);
        if (err != 0 || !out->has_list)
                return err;
        if (json_type_of(out->list) != JSON_ARRAY || json_length(out->list) == 0 ||
            json_length(out->list) > SHARDS_MAX)
                return ul_fail_field(e, UL_INVALID, "/shards",
                                     "must be an array of 1 to %d shards; leave it out for all",
                                     SHARDS_MAX);
        uint32_t i = 0;
        for (const struct json *v = json_first(out->list); v != NULL && err == 0; v = json_next(v))
                err = parse_shard(v, i++, out, e);
        return err;
}

static enum handler_result verify_model(struct request *req)
{
        struct errinfo e = {0};
        struct idempotency idem = {0};
        struct verify_request v = {0};
        struct json *doc = NULL;
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        int err = request_idempotency(req, body, len, &idem, &e);
        if (err == 0 && len > 0)
                err = request_json(req, &doc, &e);
        if (err == 0 && len > 0)
                err = parse_verify(doc, &v, &e);
        json_free(&doc);
        if (err == 0)
                err = service_verify(request_service(req), request_param(req, "m"),
                                     v.count > 0 ? v.shards : NULL, v.count, request_actor(req),
                                     &idem, job_started, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

static const char *const list_query[] = {"limit", "cursor", NULL};

const struct route models_routes[] = {
        {.method = "GET",
         .pattern = "/v1/models",
         .scopes = SCOPE_INGEST,
         .query = list_query,
         .handle = list_models},
        {.method = "POST",
         .pattern = "/v1/models",
         .scopes = SCOPE_INGEST,
         .body = BODY_BUFFERED,
         .handle = create_model},
        {.method = "GET", .pattern = "/v1/models/{m}", .scopes = SCOPE_INGEST, .handle = get_model},
        {.method = "DELETE",
         .pattern = "/v1/models/{m}",
         .scopes = SCOPE_INGEST,
         .handle = delete_model},
        {.method = "GET",
         .pattern = "/v1/models/{m}/shards",
         .scopes = SCOPE_INGEST,
         .handle = get_shards},
        {.method = "POST",
         .pattern = "/v1/models/{m}/train",
         .scopes = SCOPE_INGEST,
         .body = BODY_BUFFERED,
         .handle = train_model},
        {.method = "POST",
         .pattern = "/v1/models/{m}/compact",
         .scopes = SCOPE_INGEST,
         .body = BODY_BUFFERED,
         .handle = compact_model},
        {.method = "POST",
         .pattern = "/v1/models/{m}/verify",
         .scopes = SCOPE_INGEST,
         .body = BODY_BUFFERED,
         .handle = verify_model},
        {.method = NULL},
};
