/* SPDX-License-Identifier: Apache-2.0
 * ops.c: what operators and their tools ask for: metrics, and the API's description. */
#include "api/ops.h"
#include "api/routes.h"

static enum handler_result get_metrics(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        int err = service_metrics(request_service(req), &out, &e);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        return reply_body(req, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

static enum handler_result get_openapi(struct request *req)
{
        return reply_static(req, 200, "application/json", openapi_json, openapi_json_len);
}

const struct route ops_routes[] = {
        {.method = "GET",
         .pattern = "/metrics",
         .scopes = SCOPE_AUDIT,
         .flags = ROUTE_LOOPBACK_OPEN,
         .handle = get_metrics},
        {.method = "GET", .pattern = "/openapi.json", .handle = get_openapi},
        {.method = NULL},
};
