/* SPDX-License-Identifier: Apache-2.0
 * infer.c: the Open Inference Protocol V2 and KServe's V1 predict: health, metadata, predictions.
 * It must not know how a batch is made. The predict thread only resumes the connection; the answer
 * is written on the HTTP thread, because an erasure waits for whatever a completion does. */
#include "api/infer.h"
#include "api/routes.h"
#include <stdlib.h>
#include <string.h>

/* --- health --- */

static enum handler_result reply_flag(struct request *req, const char *name)
{
        struct buf out = {0};
        buf_printf(&out, "{\"%s\":true}", name);
        return reply_json(req, 200, &out);
}

static enum handler_result get_live(struct request *req)
{
        return reply_flag(req, "live");
}

static enum handler_result get_ready(struct request *req)
{
        struct errinfo e = {0};
        int err = service_ready(request_service(req), &e);
        return err != 0 ? reply_problem(req, err, &e) : reply_flag(req, "ready");
}

/* --- metadata --- */

static enum handler_result get_server(struct request *req)
{
        struct buf out = {0};
        struct json_writer w;
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_string(&w, "name", "unlearnd");
        jw_member_string(&w, "version", service_version());
        jw_key(&w, "extensions");
        jw_array(&w);
        jw_string(&w, "binary_tensor_data");
        jw_end_array(&w);
        jw_end_object(&w);
        return reply_json(req, 200, &out);
}

/* UL_NOT_FOUND where the path names another version than the one there is. */
static int check_version(struct request *req, struct errinfo *e)
{
        const char *version = request_param(req, "v");
        if (version != NULL && strcmp(version, INFER_VERSION) != 0)
                return ul_fail(e, UL_NOT_FOUND,
                               "a model has the one version \"" INFER_VERSION "\"");
        return 0;
}

static int open_view(struct request *req, struct model_view *view, struct errinfo *e)
{
        int err = check_version(req, e);
        if (err != 0)
                return err;
        return service_model_get(request_service(req), request_param(req, "m"), view, e);
}

static enum handler_result get_model(struct request *req)
{
        struct errinfo e = {0};
        struct model_view view;
        int err = open_view(req, &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        struct buf out = {0};
        struct json_writer w;
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_string(&w, "name", view.config->name);
        jw_key(&w, "versions");
        jw_array(&w);
        jw_string(&w, INFER_VERSION);
        jw_end_array(&w);
        jw_member_string(&w, "platform", "unlearnd");
        infer_write_metadata(&w, view.config);
        jw_end_object(&w);
        model_view_release(&view);
        return reply_json(req, 200, &out);
}

static enum handler_result get_model_ready(struct request *req)
{
        struct errinfo e = {0};
        struct model_view view;
        int err = open_view(req, &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        bool ready = view.ready;
        struct buf out = {0};
        struct json_writer w;
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_string(&w, "name", view.config->name);
        jw_member_bool(&w, "ready", true);
        jw_end_object(&w);
        model_view_release(&view);
        if (ready)
                return reply_json(req, 200, &out);
        buf_free(&out, false);
        return reply_problem(
                req, ul_fail(&e, UL_UNAVAILABLE, "the model has nothing to answer with yet"), &e);
}

/* --- predictions --- */

static void infer_free(void *context)
{
        struct infer *in = context;
        predict_close(&in->predict);
        free(in);
}

static enum handler_result answer(struct request *req)
{
        struct infer *in = request_context(req);
        enum handler_result r = infer_reply(req, in);
        predict_close(&in->predict);
        return r;
}

static void on_predicted(void *arg, int err, const struct errinfo *e)
{
        struct request *req = arg;
        if (err != 0) {
                reply_problem(req, err, e);
                request_complete(req);
                return;
        }
        request_complete_with(req, answer);
}

static int read_input(struct request *req, struct infer *in, struct errinfo *e)
{
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        int err = in->v1 ? infer_read_v1(in, body, len, e)
                         : infer_read_v2(in, body, len, request_header(req, INFER_HEADER), e);
        request_body_wipe(req);
        return err;
}

static enum handler_result predict(struct request *req, bool v1)
{
        struct errinfo e = {0};
        struct infer *in = calloc(1, sizeof *in);
        if (in == NULL)
                return reply_problem(req, ul_fail(&e, UL_NOMEM, "no memory for a prediction"), &e);
        request_set_context(req, in, infer_free);
        in->v1 = v1;
        in->versioned = request_param(req, "v") != NULL;
        int err = check_version(req, &e);
        if (err == 0)
                err = service_predict_open(request_service(req), request_param(req, "m"),
                                           &in->predict, &e);
        if (err == 0)
                err = read_input(req, in, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        err = service_predict(in->predict, on_predicted, req, &e);
        if (err == 0)
                return HANDLER_PENDING;
        if (err == UL_INVALID)
                infer_place(&e, v1 ? "/instances" : "/inputs/0/data");
        return reply_problem(req, err, &e);
}

static enum handler_result post_infer(struct request *req)
{
        return predict(req, false);
}

static enum handler_result post_predict(struct request *req)
{
        return predict(req, true);
}

#define GET_ROUTE(path, needed, handler)                                                           \
        {                                                                                          \
                .method = "GET", .pattern = path, .scopes = needed, .handle = handler              \
        }
#define INFER_ROUTE(path, handler)                                                                 \
        {                                                                                          \
                .method = "POST", .pattern = path, .scopes = SCOPE_PREDICT, .body = BODY_BUFFERED, \
                .body_max = BODY_MAX_INFER, .handle = handler                                      \
        }

const struct route infer_routes[] = {
        GET_ROUTE("/v2", SCOPE_PREDICT, get_server),
        GET_ROUTE("/v2/", SCOPE_PREDICT, get_server),
        GET_ROUTE("/v2/health/live", 0, get_live),
        GET_ROUTE("/v2/health/ready", 0, get_ready),
        GET_ROUTE("/v2/models/{m}", SCOPE_PREDICT, get_model),
        GET_ROUTE("/v2/models/{m}/ready", SCOPE_PREDICT, get_model_ready),
        GET_ROUTE("/v2/models/{m}/versions/{v}", SCOPE_PREDICT, get_model),
        GET_ROUTE("/v2/models/{m}/versions/{v}/ready", SCOPE_PREDICT, get_model_ready),
        INFER_ROUTE("/v2/models/{m}/infer", post_infer),
        INFER_ROUTE("/v2/models/{m}/versions/{v}/infer", post_infer),
        INFER_ROUTE("/v1/models/{m}:predict", post_predict),
        {.method = NULL},
};
