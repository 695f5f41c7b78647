/* SPDX-License-Identifier: Apache-2.0
 * erasure_decide.c: what becomes of an erasure under hold, and of a deadline: release, refuse,
 * extend; the routes are in erasures.c. Reasons are codes: no free text comes in here. */
#include "api/erasures.h"
#include "api/http_more.h"
#include "api/render.h"
#include <string.h>

struct decision_body {
        char reason_code[32];
        int64_t deadline_ms;
};
static const struct json_field fields[] = {
        {"reason_code", JF_STRING, .offset = offsetof(struct decision_body, reason_code),
         .size = sizeof(((struct decision_body *)0)->reason_code), .min = 1, .max = 31,
         .required = true},
        /* last: an extension alone knows it */
        {"deadline", JF_TIME, .offset = offsetof(struct decision_body, deadline_ms),
         .size = sizeof(int64_t), .required = true},
};

static void decided(void *arg, int err, const struct errinfo *e, const struct erasure_view *view,
                    int status)
{
        struct request *req = arg;
        struct buf out = {0};
        struct json_writer w;
        if (err != 0) {
                reply_problem(req, err, e);
        } else {
                jw_init(&w, &out);
                render_erasure(&w, view);
                reply_replayed(req, view->replayed);
                reply_json(req, status, &out);
        }
        request_complete(req);
}

static void released(void *arg, int err, const struct errinfo *e, const struct erasure_view *view)
{
        decided(arg, err, e, view, 202);
}

static void changed(void *arg, int err, const struct errinfo *e, const struct erasure_view *view)
{
        decided(arg, err, e, view, 200);
}

static int read_body(struct request *req, bool deadline, struct decision_body *out,
                     struct errinfo *e)
{
        struct json *doc = NULL;
        int err = request_json(req, &doc, e);
        if (err == 0 && json_type_of(doc) != JSON_OBJECT)
                err = ul_fail_field(e, UL_INVALID, "", "the request must be a JSON object");
        if (err == 0)
                err = json_decode(doc, fields, deadline ? 2 : 1, out, "", e);
        json_free(&doc);
        return err;
}

enum handler_result release_erasure(struct request *req)
{
        struct errinfo e = {0};
        uint8_t id[ULID_BYTES];
        int err = param_ulid(req, "id", "erasure", id, &e);
        if (err == 0)
                err = request_no_content(req, &e);
        if (err == 0)
                err = service_erasure_release(request_service(req), id, request_actor(req),
                                              released, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

enum handler_result refuse_erasure(struct request *req)
{
        struct errinfo e = {0};
        struct decision_body body = {0};
        uint8_t id[ULID_BYTES];
        int err = param_ulid(req, "id", "erasure", id, &e);
        if (err == 0)
                err = read_body(req, false, &body, &e);
        if (err == 0)
                err = service_erasure_refuse(request_service(req), id, body.reason_code,
                                             request_actor(req), changed, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

enum handler_result extend_erasure(struct request *req)
{
        struct errinfo e = {0};
        struct decision_body body = {0};
        uint8_t id[ULID_BYTES];
        int err = param_ulid(req, "id", "erasure", id, &e);
        if (err == 0)
                err = read_body(req, true, &body, &e);
        if (err == 0)
                err = service_erasure_extend(request_service(req), id, body.deadline_ms,
                                             body.reason_code, request_actor(req), changed, req,
                                             &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}
