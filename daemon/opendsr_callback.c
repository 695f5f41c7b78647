/* SPDX-License-Identifier: Apache-2.0
 * opendsr_callback.c: the controller is told of every change of a request's status. The body is
 * made and queued in the transaction of the change; it is signed at each attempt, on the loop,
 * since a signature takes milliseconds that the writer has not. Callbacks may overtake each other:
 * the one that is sent last need not tell the last status, so controllers that must know ask. */
#include "daemon/opendsr.h"
#include "daemon/outgoing.h"

#include "lib/util/crash_point.h"
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {[ERASURE_ACCEPTED] = "accepted",
                                          [ERASURE_FORGOTTEN] = "forgotten",
                                          [ERASURE_COMPLETED] = "completed",
                                          [ERASURE_REFUSED] = "refused"};

static void write_body(struct buf *out, const struct opendsr_row *request,
                       const struct erasure_row *row, const char *url)
{
        struct json_writer w;
        jw_init(&w, out);
        jw_object(&w);
        jw_member_string(&w, "controller_id", request->controller);
        jw_member_time(&w, "expected_completion_time", row->deadline_ms);
        jw_member_string(&w, "status_callback_url", url);
        jw_member_string(&w, "subject_request_id", request->id);
        jw_member_string(&w, "request_status", service_opendsr_status(state_names[row->state]));
        jw_member_string(&w, "api_version", "2.0");
        jw_member_u64(&w, "results_count", row->matched);
        jw_end_object(&w);
}

static int tell_one(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                    const struct opendsr_row *request, const struct erasure_row *row,
                    const char *url)
{
        static const char *const types[] = {[ERASURE_ACCEPTED] = "opendsr.pending",
                                            [ERASURE_FORGOTTEN] = "opendsr.in_progress",
                                            [ERASURE_COMPLETED] = "opendsr.completed",
                                            [ERASURE_REFUSED] = "opendsr.cancelled"};
        struct buf body = {0};
        buf_init(&body, DELIVERY_BODY_MAX);
        write_body(&body, request, row, url);
        int err = body.failed ? txn_fail(t, UL_NOMEM) : 0;
        if (err == 0)
                err = outgoing_enqueue(
                        s, t,
                        &(struct delivery){.kind = OUTGOING_OPENDSR,
                                           .url = url,
                                           .type = types[row->state],
                                           .erasure = id,
                                           .headers = "Content-Type: application/json\n",
                                           .body = body.data,
                                           .body_len = body.len},
                        NULL);
        buf_free(&body, false);
        return err;
}

/* The addresses were for this; what the controller calls the request stays, as it may repeat it. */
static int forget_addresses(struct txn *t, const uint8_t hash[OPENDSR_HASH_BYTES],
                            struct opendsr_row *request)
{
        request->url_count = 0;
        return t_opendsr_put(t, hash, request, NULL);
}

int opendsr_tell(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                 const struct erasure_row *row)
{
        uint8_t hash[OPENDSR_HASH_BYTES];
        struct opendsr_row request;
        char(*urls)[OPENDSR_URL_MAX + 1] = NULL;
        int err = t_opendsr_of(t, id, hash);
        if (err != 0)
                return err == UL_NOT_FOUND ? 0 : err;
        err = t_opendsr_get(t, hash, &request, &urls);
        for (uint32_t i = 0; i < request.url_count && err == 0; i++)
                err = tell_one(s, t, id, &request, row, urls[i]);
        free(urls);
        const bool ended = row->state == ERASURE_COMPLETED || row->state == ERASURE_REFUSED;
        if (err == 0 && ended && request.url_count > 0)
                err = forget_addresses(t, hash, &request);
        CRASH_POINT("opendsr.told");
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

/* --- as the queue asks --- */

static int sign(struct service *s, const struct outgoing_item *it, struct buf *headers,
                struct errinfo *e)
{
        char signature[OPENDSR_SIGNATURE_SIZE];
        if (s->opendsr_signer == NULL)
                return ul_fail(e, UL_CONFLICT, "OpenDSR is not configured any more");
        int err = service_opendsr_sign(s, it->body, it->body_len, signature, e);
        if (err != 0)
                return err;
        const char *domain = s->config.opendsr_domain;
        buf_printf(headers, "X-OpenDSR-Processor-Domain: %s\nX-OpenDSR-Signature: %s\n", domain,
                   signature);
        buf_printf(headers, "X-OpenGDPR-Processor-Domain: %s\nX-OpenGDPR-Signature: %s\n", domain,
                   signature);
        return 0;
}

/* 410 is nothing that the specification knows: the address may be that of other requests, too. */
static int answered(struct service *s, struct txn *t, const struct outgoing_item *it,
                    const struct outgoing_answer *a, enum outgoing_verdict *verdict)
{
        (void)s;
        (void)t;
        (void)it;
        (void)a;
        if (*verdict == OUTGOING_GONE)
                *verdict = OUTGOING_FAILED;
        return 0;
}

const struct outgoing_kind opendsr_kind = {.name = "opendsr", .sign = sign, .answered = answered};
