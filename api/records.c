/* SPDX-License-Identifier: Apache-2.0
 * records.c: uploads and evaluations, which stream a body of labelled records into an intake, and
 * the lookup of one record. It must not look into a record: bytes pass through it to the intake,
 * and nothing of them is kept here.
 *
 * Rows that an upload has committed stay, also where its stream breaks later; so the problem that
 * answers a broken one carries the counts so far. */
#include "api/http_more.h"
#include "api/render.h"
#include "api/routes.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { UPLOAD_MAGIC = 0x75706c64 };

struct upload {
        uint32_t magic;
        bool atomic, evaluate;
        uint32_t classes; /* of the model that is evaluated; 0: a regression */
        struct intake *intake;
};

static void upload_free(void *context)
{
        struct upload *u = context;
        assert(u->magic == UPLOAD_MAGIC);
        service_intake_close(&u->intake);
        u->magic = 0;
        free(u);
}

static struct upload *upload_of(struct request *req)
{
        struct upload *u = request_context(req);
        assert(u != NULL && u->magic == UPLOAD_MAGIC);
        return u;
}

static void upload_wake(void *arg)
{
        request_wake(arg);
}

static int read_format(struct request *req, struct intake_options *o, struct errinfo *e)
{
        static const struct {
                const char *type;
                enum intake_format format;
        } types[] = {
                {"application/x-ndjson", INTAKE_NDJSON},
                {"text/csv", INTAKE_CSV},
                {"application/x-npy", INTAKE_NPY},
        };
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
                if (request_content_type_is(req, types[i].type)) {
                        o->format = types[i].format;
                        return 0;
                }
        }
        return ul_fail_field(e, UL_UNSUPPORTED, "Content-Type",
                             "records are application/x-ndjson, text/csv or application/x-npy");
}

static int read_compression(struct request *req, struct intake_options *o, struct errinfo *e)
{
        const char *coding = request_header(req, "Content-Encoding");
        if (coding == NULL || strcasecmp(coding, "identity") == 0)
                o->compression = INTAKE_PLAIN;
        else if (strcasecmp(coding, "gzip") == 0 || strcasecmp(coding, "x-gzip") == 0)
                o->compression = INTAKE_GZIP;
        else if (strcasecmp(coding, "zstd") == 0)
                o->compression = INTAKE_ZSTD;
        else
                return ul_fail_field(e, UL_UNSUPPORTED, "Content-Encoding",
                                     "records may be encoded with gzip or zstd, and once");
        return 0;
}

/* The ids of an npy upload are prefix + row number: without one, two uploads would collide. */
static int read_prefix(struct request *req, struct intake_options *o, struct errinfo *e)
{
        enum { ROW_DIGITS = 20 };
        o->id_prefix = request_query(req, "id_prefix");
        bool needed = o->format == INTAKE_NPY && !o->evaluate;
        if (needed && o->id_prefix == NULL)
                return ul_fail_field(e, UL_SYNTAX, "id_prefix",
                                     "id_prefix is needed with application/x-npy");
        if (!needed && o->id_prefix != NULL)
                return ul_fail_field(e, UL_SYNTAX, "id_prefix",
                                     "id_prefix goes with application/x-npy only");
        if (o->id_prefix == NULL)
                o->id_prefix = "";
        if (strlen(o->id_prefix) > ID_BYTES_MAX - ROW_DIGITS)
                return ul_fail_field(e, UL_SYNTAX, "id_prefix",
                                     "id_prefix must have at most %d bytes",
                                     ID_BYTES_MAX - ROW_DIGITS);
        return 0;
}

static int read_options(struct request *req, struct intake_options *o, struct errinfo *e)
{
        o->actor = request_actor(req);
        int err = request_query_bool(req, "atomic", &o->atomic, e);
        if (err == 0)
                err = read_format(req, o, e);
        if (err == 0)
                err = read_compression(req, o, e);
        if (err == 0)
                err = read_prefix(req, o, e);
        return err;
}

static int upload_begin(struct request *req, struct intake_options *o, struct upload **out,
                        struct errinfo *e)
{
        int err = read_options(req, o, e);
        if (err != 0)
                return err;
        struct upload *u = calloc(1, sizeof(*u));
        if (u == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the upload");
        u->magic = UPLOAD_MAGIC;
        u->atomic = o->atomic;
        u->evaluate = o->evaluate;
        request_set_context(req, u, upload_free);
        *out = u;
        return service_intake_begin(request_service(req), request_param(req, "m"), o, upload_wake,
                                    req, &u->intake, e);
}

static int records_begin(struct request *req, struct errinfo *e)
{
        struct intake_options o = {0};
        struct upload *u = NULL;
        return upload_begin(req, &o, &u, e);
}

/* What a model is recognised by, to know that one name meant one model throughout. */
struct model_shape {
        int64_t created_ms;
        uint32_t classes;
};

static int model_shape(struct request *req, struct model_shape *out, struct errinfo *e)
{
        struct model_view view = {0};
        int err = service_model_get(request_service(req), request_param(req, "m"), &view, e);
        if (err != 0)
                return err;
        out->created_ms = view.created_ms;
        out->classes = view.config->task == TASK_CLASSIFICATION ? view.config->outputs : 0;
        model_view_release(&view);
        return 0;
}

/* The result's confusion matrix has the classes of the model that the intake was begun with; that
 * is the one seen here only if the name stood for the same model before and after. */
static int evaluate_begin(struct request *req, struct errinfo *e)
{
        struct intake_options o = {.evaluate = true};
        struct model_shape before, after;
        struct upload *u = NULL;
        int err = model_shape(req, &before, e);
        if (err == 0)
                err = upload_begin(req, &o, &u, e);
        if (err == 0)
                err = model_shape(req, &after, e);
        if (err != 0)
                return err;
        if (before.created_ms != after.created_ms || before.classes != after.classes)
                return ul_fail(e, UL_CONFLICT, "the model was replaced meanwhile; try again");
        u->classes = after.classes;
        return 0;
}

/* The problem, with the counts of what was read and kept until it came. */
static void upload_failed(struct request *req, struct upload *u, int err, const struct errinfo *e)
{
        struct errinfo bare = *e;
        struct buf out = {0}, members = {0};
        struct json_writer w;
        int status = problem_status(err);
        bare.field[0] = '\0'; /* errors[] is written with the lines */
        problem_write(&out, status, err, &bare, NULL, request_path(req));
        jw_init(&w, &members);
        render_intake_problem(&w, service_intake_result(u->intake), !u->atomic, u->evaluate, e);
        json_join(&out, &members);
        buf_free(&members, false);
        if (status == 503) {
                char seconds[16];
                snprintf(seconds, sizeof(seconds), "%u",
                         e->retry_after_s > 0 ? e->retry_after_s : 1);
                reply_header(req, "Retry-After", seconds);
        }
        reply_body(req, status, "application/problem+json", &out);
}

static int upload_data(struct request *req, const void *data, size_t len, size_t *consumed,
                       struct errinfo *e)
{
        struct upload *u = upload_of(req);
        int err = service_intake_feed(u->intake, data, len, consumed, e);
        if (err != 0 && err != UL_AGAIN)
                upload_failed(req, u, err, e);
        return err;
}

static int upload_end(struct request *req, struct errinfo *e)
{
        struct upload *u = upload_of(req);
        struct buf out = {0};
        struct json_writer w;
        int err = service_intake_finish(u->intake, e);
        if (err == UL_AGAIN)
                return err;
        if (err != 0) {
                upload_failed(req, u, err, e);
                return err;
        }
        jw_init(&w, &out);
        if (u->evaluate)
                render_evaluation(&w, service_intake_result(u->intake), u->classes);
        else
                render_intake(&w, service_intake_result(u->intake), true);
        reply_json(req, 200, &out);
        return 0;
}

static enum handler_result get_record(struct request *req)
{
        struct errinfo e = {0};
        struct record_view view = {0};
        struct buf out = {0};
        struct json_writer w;
        uint8_t pseudonym[PSEUDONYM_BYTES];
        int err = pseudonym_of_text(request_service(req), "id", request_param(req, "id"), pseudonym,
                                    &e);
        if (err == 0)
                err = service_record_get(request_service(req), request_param(req, "m"), pseudonym,
                                         &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        render_record(&w, &view);
        return reply_json(req, 200, &out);
}

static const struct upload_ops records_ops = {records_begin, upload_data, upload_end};
static const struct upload_ops evaluate_ops = {evaluate_begin, upload_data, upload_end};
static const char *const upload_query[] = {"atomic", "id_prefix", NULL};

const struct route records_routes[] = {
        {.method = "POST",
         .pattern = "/v1/models/{m}/records",
         .scopes = SCOPE_INGEST,
         .body = BODY_STREAMED,
         .body_max = BODY_MAX_UPLOAD,
         .flags = ROUTE_ENCODED_BODY,
         .query = upload_query,
         .upload = &records_ops},
        {.method = "POST",
         .pattern = "/v1/models/{m}/evaluate",
         .scopes = SCOPE_INGEST,
         .body = BODY_STREAMED,
         .body_max = BODY_MAX_UPLOAD,
         .flags = ROUTE_ENCODED_BODY,
         .upload = &evaluate_ops},
        {.method = "GET",
         .pattern = "/v1/models/{m}/records/{id}",
         .scopes = SCOPE_INGEST,
         .handle = get_record},
        {.method = NULL},
};
