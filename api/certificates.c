/* SPDX-License-Identifier: Apache-2.0
 * certificates.c: /v1/erasures/{id}/certificate and /proof: the signed file, the page for people by
 * content negotiation, and the proof that the log records it. */
#include "api/http_more.h"
#include "api/routes.h"
#include "lib/audit/certificate_page.h"

static enum handler_result reply_page(struct request *req, const struct buf *statement)
{
        struct buf page = {0};
        char policy[PAGE_POLICY_SIZE];
        int err = certificate_page(statement, service_audit_vkey(request_service(req)), &page);
        if (err != 0) {
                buf_free(&page, false);
                return reply_problem(req, err, NULL);
        }
        reply_page_headers(req, certificate_page_policy(policy));
        return reply_body(req, 200, "text/html; charset=utf-8", &page);
}

static enum handler_result get_certificate(struct request *req)
{
        struct errinfo e = {0};
        struct buf statement = {0}, envelope = {0};
        uint8_t id[ULID_BYTES];
        bool page = request_accepts(req, "text/html");
        int err = param_ulid(req, "id", "erasure", id, &e);
        if (err == 0)
                err = service_certificate(request_service(req), id, &statement,
                                          page ? NULL : &envelope, &e);
        reply_header(req, "Vary", "Accept");
        if (err != 0)
                (void)reply_problem(req, err, &e);
        else if (page)
                (void)reply_page(req, &statement);
        else
                (void)reply_json(req, 200, &envelope);
        buf_free(&envelope, false);
        buf_free(&statement, false);
        return HANDLER_DONE;
}

static enum handler_result get_erasure_proof(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        uint8_t id[ULID_BYTES];
        bool cosigned = false;
        int err = param_ulid(req, "id", "erasure", id, &e);
        if (err == 0)
                err = request_query_bool(req, "cosigned", &cosigned, &e);
        if (err == 0)
                err = service_erasure_proof(request_service(req), id, cosigned, &out, &e);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        return reply_body(req, 200, "text/plain; charset=utf-8", &out);
}

static const char *const proof_query[] = {"cosigned", NULL};

const struct route certificates_routes[] = {
        {.method = "GET",
         .pattern = "/v1/erasures/{id}/certificate",
         .scopes = SCOPE_ERASE | SCOPE_AUDIT,
         .handle = get_certificate},
        {.method = "GET",
         .pattern = "/v1/erasures/{id}/proof",
         .scopes = SCOPE_ERASE | SCOPE_AUDIT,
         .query = proof_query,
         .handle = get_erasure_proof},
        {.method = NULL},
};
