/* SPDX-License-Identifier: Apache-2.0
 * witnesses.c: /v1/audit/witnesses: who cosigns the log's checkpoints, and how that goes. Auditors
 * see it, so that no address is in it, which may hold a secret of the operator's. */
#include "api/http_more.h"
#include "api/routes.h"

static int render(void *arg, const struct witness_view *v)
{
        struct json_writer *w = arg;
        jw_object(w);
        jw_member_string(w, "name", v->name);
        jw_member_string(w, "vkey", v->key);
        jw_member_u64(w, "size", v->size);
        jw_member_time(w, "cosignature_time", v->cosignature_s * 1000);
        jw_member_time(w, "last_cosigned_at", v->cosigned_ms);
        jw_member_time(w, "last_attempt_at", v->attempt_ms);
        jw_member_text(w, "last_outcome", v->outcome);
        jw_key(w, "last_status");
        if (v->status != 0)
                jw_u64(w, v->status);
        else
                jw_null(w);
        jw_member_u64(w, "failures", v->failures);
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
        items_begin(&w, &out);
        int err = service_witness_list(request_service(req), render, &w, &e);
        return items_reply(req, &w, err, &e);
}

const struct route witnesses_routes[] = {
        {.method = "GET",
         .pattern = "/v1/audit/witnesses",
         .scopes = SCOPE_AUDIT,
         .handle = list_witnesses},
        {.method = NULL},
};
