/* SPDX-License-Identifier: Apache-2.0
 * witnesses.c: /v1/audit/witnesses: who cosigns the log's checkpoints, and how that goes. Auditors
 * see it, so that no address is in it, which may hold a secret of the operator's. */
#include "api/http_more.h"
#include "api/routes.h"

static int render(void *arg, const struct witness_view *v)
{
        struct json_writer *w = arg;
        jw_object(w);
        jw_key(w, "name");
        jw_string(w, v->name);
        jw_key(w, "vkey");
        jw_string(w, v->key);
        jw_key(w, "size");
        jw_u64(w, v->size);
        jw_key(w, "cosignature_time");
        jw_time(w, v->cosignature_s * 1000);
        jw_key(w, "last_cosigned_at");
        jw_time(w, v->cosigned_ms);
        jw_key(w, "last_attempt_at");
        jw_time(w, v->attempt_ms);
        jw_key(w, "last_outcome");
        if (v->outcome != NULL)
                jw_string(w, v->outcome);
        else
                jw_null(w);
        jw_key(w, "last_status");
        if (v->status != 0)
                jw_u64(w, v->status);
        else
                jw_null(w);
        jw_key(w, "failures");
        jw_u64(w, v->failures);
        jw_key(w, "checkpoint");
        if (v->checkpoint_len > 0)
                jw_string_n(w, v->checkpoint, v->checkpoint_len);
        else
                jw_null(w);
        jw_end_object(w);
        return 0;
}

static enum handler_result list_witnesses(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        struct json_writer w;
        jw_init(&w, &out);
        jw_object(&w);
        jw_key(&w, "items");
        jw_array(&w);
        int err = service_witness_list(request_service(req), render, &w, &e);
        jw_end_array(&w);
        jw_end_object(&w);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        return reply_json(req, 200, &out);
}

const struct route witnesses_routes[] = {
        {.method = "GET",
         .pattern = "/v1/audit/witnesses",
         .scopes = SCOPE_AUDIT,
         .handle = list_witnesses},
        {.method = NULL},
};
