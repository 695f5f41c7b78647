/* SPDX-License-Identifier: Apache-2.0
 * outgoing_queue.c: see outgoing.h. The queue as the store has it: everything here runs in a
 * transaction, and knows no socket. */
#include "daemon/outgoing.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <string.h>

enum {
        DELAY_MAX_MS = 12 * 3600 * 1000,
        SWEEP_STEP = 64,
};

int64_t outgoing_delay_ms(uint32_t first_ms, uint32_t failures, uint32_t random)
{
        int64_t ms = first_ms;
        for (uint32_t i = 1; i < failures && ms < DELAY_MAX_MS; i++)
                ms *= 4;
        if (ms > DELAY_MAX_MS)
                ms = DELAY_MAX_MS;
        return ms - ms / 4 + (int64_t)((double)ms / 2 * random / UINT32_MAX);
}

void outgoing_endpoint_hash(enum outgoing_kind_number kind, const char *name, const char *url,
                            uint8_t hash[ENDPOINT_HASH_BYTES])
{
        uint8_t digest[SHA256_BYTES];
        const uint8_t about[2] = {(uint8_t)kind, name != NULL};
        struct sha256_state h;
        const char *text = name != NULL ? name : url;
        sha256_begin(&h);
        sha256_add(&h, about, sizeof about);
        sha256_add(&h, text, strlen(text));
        sha256_end(&h, digest);
        memcpy(hash, digest, ENDPOINT_HASH_BYTES);
}

static bool known_erasure(const struct delivery_row *row)
{
        static const uint8_t none[ULID_BYTES];
        return memcmp(row->erasure, none, sizeof none) != 0;
}

/* --- into the queue --- */

static int endpoint_of(struct txn *t, const struct delivery *d, uint8_t hash[ENDPOINT_HASH_BYTES],
                       struct endpoint_row *row)
{
        outgoing_endpoint_hash(d->kind, d->name, d->url, hash);
        int err = t_endpoint_get(t, hash, row);
        if (err != UL_NOT_FOUND)
                return err;
        if (d->name != NULL)
                return UL_NOT_FOUND; /* not in the configuration */
        *row = (struct endpoint_row){.kind = (uint8_t)d->kind, .changed_ms = now_ms()};
        (void)snprintf(row->url, sizeof row->url, "%s", d->url);
        return 0;
}

static int drop_new(const char *type, const char *reason)
{
        metric_add(METRIC_DELIVERIES_DROPPED, 1);
        log_event(LOG_LEVEL_WARN, "delivery_dropped", "type=%s reason=%s", type, reason);
        return 0;
}

/* A callback's address has no name that an operator could enable: a 410 that was a mistake must not
 * silence it for ever. */
static bool pardoned(const struct service *s, const struct endpoint_row *row, int64_t now)
{
        return row->state == ENDPOINT_GONE && row->name[0] == '\0' &&
               outgoing_too_old(s, row->changed_ms, now);
}

int outgoing_enqueue(struct service *s, struct txn *t, const struct delivery *d, const uint8_t *id)
{
        uint8_t made[ULID_BYTES], hash[ENDPOINT_HASH_BYTES];
        struct endpoint_row endpoint;
        uint64_t waiting = 0;
        int64_t now = now_ms();
        struct delivery_row row = {.kind = (uint8_t)d->kind, .created_ms = now, .next_ms = now};
        assert(outgoing_kind(row.kind) != NULL && d->body != NULL);
        assert(d->body_len <= DELIVERY_BODY_MAX);
        int err = endpoint_of(t, d, hash, &endpoint);
        if (err == 0)
                err = t_delivery_count(t, &waiting);
        if (err == UL_NOT_FOUND)
                return drop_new(d->type, "not_configured");
        if (err != 0)
                return err;
        if (pardoned(s, &endpoint, now))
                endpoint.state = ENDPOINT_ENABLED;
        if (endpoint.state != ENDPOINT_ENABLED)
                return drop_new(d->type, "endpoint_is_disabled");
        if (waiting >= DELIVERIES_MAX)
                return drop_new(d->type, "the_queue_is_full");
        memcpy(row.endpoint, hash, sizeof hash);
        if (d->erasure != NULL)
                memcpy(row.erasure, d->erasure, ULID_BYTES);
        (void)snprintf(row.type, sizeof row.type, "%s", d->type);
        if (id == NULL)
                ulid_make(made);
        endpoint.pending++;
        err = t_delivery_put(t, id != NULL ? id : made, &row, d->headers, d->body, d->body_len);
        if (err == 0)
                err = t_endpoint_put(t, hash, &endpoint);
        CRASH_POINT("delivery.enqueued");
        s->delivery_made = true;
        return err;
}

int outgoing_load(struct txn *t, const uint8_t id[ULID_BYTES], struct outgoing_item *it,
                  struct buf *headers, struct buf *body)
{
        memcpy(it->id, id, ULID_BYTES);
        int err = t_delivery_get(t, id, &it->row, headers, body);
        if (err == 0 && t_endpoint_get(t, it->row.endpoint, &it->endpoint) == UL_NOT_FOUND)
                err = txn_fail(t, UL_CORRUPT);
        if (err == 0)
                err = txn_error(t);
        if (err == 0 && body != NULL) {
                it->body = body->data;
                it->body_len = body->len;
        }
        return err;
}

/* --- out of it --- */

bool outgoing_too_old(const struct service *s, int64_t since_ms, int64_t now)
{
        return now - since_ms > (int64_t)s->config.delivery_give_up_s * 1000;
}

/* An endpoint that is an erasure's alone is forgotten with its last delivery, unless it is
 * disabled: that must be remembered. */
static int put_endpoint(struct txn *t, const struct outgoing_item *it)
{
        const struct endpoint_row *row = &it->endpoint;
        bool passing = row->name[0] == '\0' && row->state == ENDPOINT_ENABLED;
        if (row->pending == 0 && (passing || row->state == ENDPOINT_REMOVED)) {
                int err = t_endpoint_del(t, it->row.endpoint);
                return err == UL_NOT_FOUND ? 0 : err;
        }
        return t_endpoint_put(t, it->row.endpoint, row);
}

static int take_out(struct txn *t, struct outgoing_item *it)
{
        int err = t_delivery_del(t, it->id);
        if (err == 0 && it->endpoint.pending > 0)
                it->endpoint.pending--;
        return err;
}

static void event_of(struct event *ev, const struct outgoing_item *it)
{
        char hash[2 * ENDPOINT_HASH_BYTES + 1];
        const struct outgoing_kind *kind = outgoing_kind(it->row.kind);
        event_begin(ev);
        if (it->endpoint.name[0] != '\0')
                jw_member_text(&ev->w, "endpoint", it->endpoint.name);
        else /* its address may hold a secret of its owner's */
                jw_member_text(&ev->w, "endpoint",
                               hex_encode(it->row.endpoint, ENDPOINT_HASH_BYTES, hash));
        jw_member_text(&ev->w, "kind", kind != NULL ? kind->name : NULL);
        jw_member_text(&ev->w, "outcome", http_outcome_name(it->endpoint.outcome));
        jw_member_u64(&ev->w, "status", it->endpoint.status);
}

static int give_up(struct service *s, struct txn *t, struct outgoing_item *it)
{
        struct event ev;
        struct audit_keys keys = {.erasure = known_erasure(&it->row) ? it->row.erasure : NULL};
        event_of(&ev, it);
        event_ulid(&ev, "delivery", it->id);
        jw_member_text(&ev.w, "type", it->row.type);
        if (keys.erasure != NULL)
                event_ulid(&ev, "erasure", it->row.erasure);
        jw_member_u64(&ev.w, "attempts", it->row.attempts);
        int err = event_append(&ev, s, t, "delivery.abandoned", "unlearnd", &keys, NULL);
        metric_add(METRIC_DELIVERIES_ABANDONED, 1);
        return err == 0 ? take_out(t, it) : err;
}

static int postpone(struct service *s, struct txn *t, struct outgoing_item *it,
                    const struct outgoing_answer *a, int64_t now)
{
        uint32_t random;
        random_bytes(&random, sizeof random);
        it->row.attempts++;
        int64_t pause = outgoing_delay_ms(s->config.delivery_retry_ms, it->row.attempts, random);
        if (pause < (int64_t)a->retry_after_s * 1000)
                pause = (int64_t)a->retry_after_s * 1000;
        it->row.next_ms = now + pause;
        if (outgoing_too_old(s, it->row.created_ms, it->row.next_ms))
                return give_up(s, t, it);
        int err = t_delivery_put(t, it->id, &it->row, NULL, NULL, 0);
        CRASH_POINT("delivery.postponed");
        return err;
}

/* It wants nothing more: so it gets nothing more until somebody enables it again. */
static int disable(struct service *s, struct txn *t, struct outgoing_item *it, int64_t now)
{
        struct event ev;
        metric_add(METRIC_DELIVERIES_DROPPED, 1);
        if (it->endpoint.state != ENDPOINT_ENABLED) /* an attempt beside this one said it first */
                return take_out(t, it);
        it->endpoint.state = ENDPOINT_GONE;
        it->endpoint.changed_ms = now;
        event_of(&ev, it);
        jw_member_u64(&ev.w, "dropped", it->endpoint.pending);
        int err = event_append(&ev, s, t, "endpoint.disabled", "unlearnd", NULL, NULL);
        return err == 0 ? take_out(t, it) : err;
}

bool outgoing_delivered(enum http_outcome outcome, uint32_t status)
{
        return status >= 200 && status < 300 &&
               (outcome == HTTP_ANSWERED || outcome == HTTP_BROKEN);
}

static enum outgoing_verdict verdict_of(const struct outgoing_answer *a)
{
        if (outgoing_delivered(a->outcome, a->status))
                return OUTGOING_DELIVERED;
        return a->outcome == HTTP_ANSWERED && a->status == 410 ? OUTGOING_GONE : OUTGOING_FAILED;
}

int outgoing_record(struct service *s, struct txn *t, const struct outgoing_item *sent,
                    const struct outgoing_answer *a)
{
        const struct outgoing_kind *kind = outgoing_kind(sent->row.kind);
        struct outgoing_item it = *sent; /* the loop still reads the other */
        enum outgoing_verdict verdict = verdict_of(a);
        int64_t now = now_ms();
        int err = outgoing_load(t, sent->id, &it, NULL, NULL); /* it may be gone, or have changed */
        if (err == UL_NOT_FOUND)
                return 0;
        if (err == 0 && kind != NULL && kind->answered != NULL)
                err = kind->answered(s, t, &it, a, &verdict);
        if (err != 0)
                return err;
        it.endpoint.attempt_ms = now;
        it.endpoint.outcome = (uint8_t)a->outcome;
        it.endpoint.status = a->status;
        it.endpoint.failures = verdict == OUTGOING_DELIVERED ? 0 : it.endpoint.failures + 1;
        if (verdict == OUTGOING_DELIVERED) {
                it.endpoint.delivered_ms = now;
                err = take_out(t, &it);
        } else if (verdict == OUTGOING_GONE) {
                err = disable(s, t, &it, now);
        } else {
                err = postpone(s, t, &it, a, now);
        }
        return err == 0 ? put_endpoint(t, &it) : err;
}

struct sweep {
        uint8_t id[SWEEP_STEP][ULID_BYTES];
        uint32_t count;
        const struct service *service;
        bool all;
        int64_t now;
};

static int sweep_due(void *arg, const uint8_t id[ULID_BYTES], int64_t next_ms)
{
        struct sweep *w = arg;
        if (w->count == SWEEP_STEP || (!w->all && !outgoing_too_old(w->service, next_ms, w->now)))
                return 1;
        memcpy(w->id[w->count++], id, ULID_BYTES);
        return 0;
}

int outgoing_sweep(struct service *s, struct txn *t, const uint8_t hash[ENDPOINT_HASH_BYTES],
                   bool *left)
{
        struct sweep w = {.service = s, .now = now_ms()};
        struct outgoing_item it = {0};
        int err = t_endpoint_get(t, hash, &it.endpoint);
        if (err != 0)
                return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
        w.all = it.endpoint.state != ENDPOINT_ENABLED;
        err = t_delivery_each_due(t, hash, sweep_due, &w);
        err = err == 1 ? 0 : err;
        *left = w.count == SWEEP_STEP;
        for (uint32_t i = 0; i < w.count && err == 0; i++) {
                err = outgoing_load(t, w.id[i], &it, NULL, NULL);
                if (err != 0)
                        break;
                if (w.all)
                        metric_add(METRIC_DELIVERIES_DROPPED, 1);
                err = w.all ? take_out(t, &it) : give_up(s, t, &it);
                if (err == 0)
                        err = put_endpoint(t, &it);
        }
        return err;
}
