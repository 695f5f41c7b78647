/* SPDX-License-Identifier: Apache-2.0
 * opendsr.c: OpenDSR 2.0 under /opendsr/v2, and the names of its first version (10.1 of the
 * specification). Every answer to a request that was understood is signed, over its raw body, on
 * the HTTP thread: a signature takes milliseconds that the writer has not. The controller is the
 * token's name. The request is echoed in its answer, as the specification demands, and lives in
 * memory until then. */
#include "api/http_more.h"
#include "api/opendsr_parse.h"
#include "api/routes.h"
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXCHANGE_MAGIC = 0x6f647372 };
static const char api_version[] = "2.0";

/* False: the reply is set. */
static bool spoken(struct request *req, struct opendsr_info *info)
{
        service_opendsr_info(request_service(req), info);
        if (!info->spoken)
                reply_problem_status(req, 404,
                                     "OpenDSR is not configured here: see opendsr_domain");
        return info->spoken;
}

static void sign_headers(struct request *req, const char *domain, const char *signature)
{
        reply_header(req, "X-OpenDSR-Processor-Domain", domain);
        reply_header(req, "X-OpenDSR-Signature", signature);
        reply_header(req, "X-OpenGDPR-Processor-Domain", domain);
        reply_header(req, "X-OpenGDPR-Signature", signature);
        reply_header(req, "Cache-Control", "no-store");
}

static enum handler_result reply_signed(struct request *req, int status, struct buf *out)
{
        char signature[OPENDSR_SIGNATURE_SIZE];
        struct opendsr_info info;
        struct errinfo e = {0};
        int err = out->failed ? UL_NOMEM : 0;
        service_opendsr_info(request_service(req), &info);
        if (err == 0)
                err = service_opendsr_sign(request_service(req), out->data, out->len, signature,
                                           &e);
        if (err != 0) {
                buf_free(out, true);
                return reply_problem(req, err, &e);
        }
        sign_headers(req, info.domain, signature);
        return reply_json(req, status, out);
}

/* --- discovery, which needs no token: signed once --- */

static void write_discovery(struct json_writer *w, const struct opendsr_info *info)
{
        static const char *const formats[] = {"raw", "sha256"};
        struct buf url = {0};
        jw_object(w);
        jw_member_string(w, "api_version", api_version);
        jw_key(w, "supported_identities");
        jw_array(w);
        for (size_t i = 0; opendsr_identity_types[i] != NULL; i++) {
                if (!opendsr_identity_accepted(info->identities, opendsr_identity_types[i]))
                        continue;
                for (size_t k = 0; k < 2; k++) {
                        jw_object(w);
                        jw_member_string(w, "identity_type", opendsr_identity_types[i]);
                        jw_member_string(w, "identity_format", formats[k]);
                        jw_end_object(w);
                }
        }
        jw_end_array(w);
        jw_key(w, "supported_subject_request_types");
        jw_array(w);
        jw_string(w, "erasure");
        jw_end_array(w);
        buf_printf(&url, "%s/certificate", info->base_url);
        jw_key(w, "processor_certificate");
        jw_string_n(w, (const char *)url.data, url.len);
        jw_end_object(w);
        buf_free(&url, false);
}

static int discovery_signature(struct service *s, const struct buf *body,
                               char out[OPENDSR_SIGNATURE_SIZE], struct errinfo *e)
{
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        static uint8_t signed_hash[SHA256_BYTES];
        static char signature[OPENDSR_SIGNATURE_SIZE];
        uint8_t hash[SHA256_BYTES];
        int err = 0;
        sha256(body->data, body->len, hash);
        pthread_mutex_lock(&lock);
        if (signature[0] == '\0' || memcmp(hash, signed_hash, sizeof(hash)) != 0) {
                err = service_opendsr_sign(s, body->data, body->len, signature, e);
                memcpy(signed_hash, hash, sizeof(hash));
        }
        memcpy(out, signature, sizeof(signature));
        pthread_mutex_unlock(&lock);
        return err;
}

static enum handler_result get_discovery(struct request *req)
{
        char signature[OPENDSR_SIGNATURE_SIZE];
        struct opendsr_info info;
        struct errinfo e = {0};
        struct buf out = {0};
        struct json_writer w;
        if (!spoken(req, &info))
                return HANDLER_DONE;
        jw_init(&w, &out);
        write_discovery(&w, &info);
        int err = out.failed ? UL_NOMEM
                             : discovery_signature(request_service(req), &out, signature, &e);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        sign_headers(req, info.domain, signature);
        return reply_json(req, 200, &out);
}

static enum handler_result get_certificate(struct request *req)
{
        struct opendsr_info info;
        struct buf out = {0};
        if (!spoken(req, &info))
                return HANDLER_DONE;
        buf_append(&out, info.certificate, info.certificate_len);
        return reply_body(req, 200, "application/x-pem-file", &out);
}

/* --- one request and its answer, which is made on the HTTP thread --- */

struct exchange {
        uint32_t magic;
        struct request *request;
        char id[OPENDSR_ID_SIZE];
        struct buf encoded; /* POST: the body in base64 */
        int err;
        struct errinfo e;
        int64_t received_ms, expected_ms, refused_ms;
        bool replayed;
};

static void exchange_free(void *context)
{
        struct exchange *x = context;
        assert(x->magic == EXCHANGE_MAGIC);
        buf_free(&x->encoded, true);
        x->magic = 0;
        free(x);
}

static struct exchange *exchange_begin(struct request *req)
{
        struct exchange *x = calloc(1, sizeof(*x));
        if (x == NULL)
                return NULL;
        x->magic = EXCHANGE_MAGIC;
        x->request = req;
        request_set_context(req, x, exchange_free);
        return x;
}

static void take_view(struct exchange *x, int err, const struct errinfo *e,
                      const struct erasure_view *view)
{
        assert(x->magic == EXCHANGE_MAGIC);
        x->err = err;
        if (err != 0) {
                x->e = *e;
                return;
        }
        x->received_ms = view->accepted_ms;
        x->expected_ms = view->deadline_ms;
        x->refused_ms = view->refused_ms;
        x->replayed = view->replayed;
}

static enum handler_result finish_create(struct request *req)
{
        struct exchange *x = request_context(req);
        struct buf out = {0};
        struct json_writer w;
        if (x->err != 0)
                return reply_problem(req, x->err, &x->e);
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_string(&w, "controller_id", request_actor(req));
        jw_member_time(&w, "expected_completion_time", x->expected_ms);
        jw_member_time(&w, "received_time", x->received_ms);
        jw_key(&w, "encoded_request");
        jw_string_n(&w, (const char *)x->encoded.data, x->encoded.len);
        jw_member_string(&w, "subject_request_id", x->id);
        jw_end_object(&w);
        buf_free(&x->encoded, true);
        reply_location(req, "/opendsr/v2/requests/%s", x->id);
        reply_replayed(req, x->replayed);
        return reply_signed(req, 201, &out);
}

static void created(void *arg, int err, const struct errinfo *e, const struct erasure_view *view)
{
        struct exchange *x = arg;
        take_view(x, err, e, view);
        request_complete_with(x->request, finish_create);
}

static void hash_raw(void *arg, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES])
{
        service_pseudonym(arg, id, len, out);
}

static void hash_digest(void *arg, const uint8_t sha256_of[SHA256_BYTES],
                        uint8_t out[PSEUDONYM_BYTES])
{
        service_pseudonym_of_digest(arg, sha256_of, out);
}

static int check_url(void *arg, const char *url, struct errinfo *e)
{
        return service_opendsr_url_check(arg, url, e);
}

static int encode_body(struct exchange *x, const uint8_t *body, size_t len)
{
        char *to = buf_extend(&x->encoded, base64_size(len));
        if (to == NULL)
                return UL_NOMEM;
        base64_encode(body, len, to);
        x->encoded.len = strlen(to); /* without the NUL */
        return 0;
}

/* Everything of the body that is needed; the body itself is wiped. */
static int read_request(struct request *req, const struct opendsr_info *info, struct exchange *x,
                        struct erase_request *r, struct errinfo *e)
{
        struct opendsr_reader reader = {.domain = info->domain,
                                        .identities = info->identities,
                                        .regulation = info->regulation,
                                        .now_ms = now_ms(),
                                        .pseudonym = hash_raw,
                                        .of_digest = hash_digest,
                                        .url_check = check_url,
                                        .arg = request_service(req)};
        struct json *doc = NULL;
        uint8_t hash[32];
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        service_keyed_hash(request_service(req), body, len, hash);
        int err = encode_body(x, body, len);
        if (err == 0)
                err = request_json(req, &doc, e);
        request_body_wipe(req);
        if (err == 0)
                err = opendsr_parse(doc, &reader, r, e);
        json_free(&doc);
        if (err != 0)
                return err;
        memcpy(r->opendsr->body, hash, sizeof(hash));
        memcpy(x->id, r->opendsr->id, sizeof(x->id));
        r->hold = info->hold;
        snprintf(r->actor, sizeof(r->actor), "%s", request_actor(req));
        return 0;
}

static enum handler_result create_request(struct request *req)
{
        struct erase_request r = {0};
        struct opendsr_info info;
        struct errinfo e = {0};
        if (!spoken(req, &info))
                return HANDLER_DONE;
        struct exchange *x = exchange_begin(req);
        int err = x != NULL ? read_request(req, &info, x, &r, &e) : UL_NOMEM;
        if (err == 0)
                err = service_erase(request_service(req), &r, created, x, &e);
        else
                erase_request_clear(&r);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

/* --- status and cancellation --- */

static int read_id(struct request *req, const char **out, struct errinfo *e)
{
        *out = request_param(req, "id");
        if (opendsr_id_valid(*out))
                return 0;
        return ul_fail_field(e, UL_SYNTAX, "/subject_request_id",
                             "must be a lower-case UUID of version 4");
}

static enum handler_result get_request(struct request *req)
{
        struct erasure_view view = {0};
        struct opendsr_info info;
        struct errinfo e = {0};
        struct buf out = {0};
        struct json_writer w;
        const char *id = NULL;
        if (!spoken(req, &info))
                return HANDLER_DONE;
        int err = read_id(req, &id, &e);
        if (err == 0)
                err = service_opendsr_get(request_service(req), request_actor(req), id, &view, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_string(&w, "controller_id", request_actor(req));
        jw_member_time(&w, "expected_completion_time", view.deadline_ms);
        jw_member_string(&w, "subject_request_id", id);
        jw_member_string(&w, "request_status", service_opendsr_status(view.state));
        jw_member_string(&w, "api_version", api_version);
        jw_member_u64(&w, "results_count", view.matched);
        jw_end_object(&w);
        erasure_view_clear(&view);
        return reply_signed(req, 200, &out);
}

static enum handler_result finish_cancel(struct request *req)
{
        struct exchange *x = request_context(req);
        struct buf out = {0};
        struct json_writer w;
        if (x->err == UL_CONFLICT)
                ul_fail(&x->e, UL_CONFLICT, "only a request that is pending can be cancelled");
        if (x->err != 0)
                return reply_problem(req, x->err, &x->e);
        jw_init(&w, &out);
        jw_object(&w);
        jw_member_string(&w, "controller_id", request_actor(req));
        jw_member_string(&w, "subject_request_id", x->id);
        jw_member_time(&w, "received_time", x->refused_ms);
        jw_member_string(&w, "api_version", api_version);
        jw_end_object(&w);
        return reply_signed(req, 202, &out);
}

static void cancelled(void *arg, int err, const struct errinfo *e, const struct erasure_view *view)
{
        struct exchange *x = arg;
        take_view(x, err, e, view);
        request_complete_with(x->request, finish_cancel);
}

static enum handler_result cancel_request(struct request *req)
{
        struct opendsr_info info;
        struct errinfo e = {0};
        const char *id = NULL;
        if (!spoken(req, &info))
                return HANDLER_DONE;
        int err = read_id(req, &id, &e);
        struct exchange *x = err == 0 ? exchange_begin(req) : NULL;
        if (err == 0 && x == NULL)
                err = UL_NOMEM;
        if (err == 0) {
                snprintf(x->id, sizeof(x->id), "%s", id);
                err = service_opendsr_cancel(request_service(req), request_actor(req), id,
                                             cancelled, x, &e);
        }
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}

const struct route opendsr_routes[] = {
        {.method = "GET", .pattern = "/opendsr/v2/discovery", .handle = get_discovery},
        {.method = "GET", .pattern = "/opendsr/v2/certificate", .handle = get_certificate},
        {.method = "POST",
         .pattern = "/opendsr/v2/requests",
         .scopes = SCOPE_ERASE,
         .body = BODY_BUFFERED,
         .handle = create_request},
        {.method = "GET",
         .pattern = "/opendsr/v2/requests/{id}",
         .scopes = SCOPE_ERASE,
         .handle = get_request},
        {.method = "DELETE",
         .pattern = "/opendsr/v2/requests/{id}",
         .scopes = SCOPE_ERASE,
         .handle = cancel_request},
        {.method = "POST",
         .pattern = "/opendsr/v2/opengdpr_requests",
         .scopes = SCOPE_ERASE,
         .body = BODY_BUFFERED,
         .handle = create_request},
        {.method = "GET",
         .pattern = "/opendsr/v2/opengdpr_requests/{id}",
         .scopes = SCOPE_ERASE,
         .handle = get_request},
        {.method = "DELETE",
         .pattern = "/opendsr/v2/opengdpr_requests/{id}",
         .scopes = SCOPE_ERASE,
         .handle = cancel_request},
        {.method = NULL},
};
