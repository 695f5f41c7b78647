/* SPDX-License-Identifier: Apache-2.0
 * outgoing.c: the queue on the loop: which delivery next, its attempt, and the command that records
 * how it ended. All that it knows is in the store but for the attempts under way, so that after a
 * crash the first look finds everything again.
 *
 * Turns go round the endpoints. One that answers has up to ENDPOINT_ATTEMPTS at a time; one that
 * failed last has one, waits HOLD_MAX_MS at most before it is tried with anything, and all of those
 * together have at most half of the places: whoever hangs never keeps others waiting. */
#include "daemon/outgoing.h"
#include "daemon/scheduler.h"

#include "daemon/loop.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
        ATTEMPTS_MAX = 32,
        FAILING_MAX = ATTEMPTS_MAX / 2,
        ENDPOINT_ATTEMPTS = 4,
        HOLD_MAX_MS = 60000,
        AGAIN_US = 1000000, /* what could not be recorded, or begun */
};

struct attempt {
        struct http_call call; /* first: the client gives it back */
        struct loop_command lc;
        struct outgoing *outgoing;
        struct attempt *next;
        struct outgoing_item item;
        struct buf headers, body;
        bool failing; /* counted among those */
};

struct outgoing {
        /* set once */
        struct scheduler *k;
        struct http_client *http;
        /* loop thread */
        struct attempt *attempts; /* under way, or being recorded */
        uint32_t attempt_count, failing_count;
        uint8_t after[ENDPOINT_HASH_BYTES]; /* the endpoint that had the last turn */
        bool had_turn;
        bool look;       /* something changed */
        int64_t next_ms; /* the earliest delivery of those that wait; 0: none */
        bool sweeping;
};

/* --- an attempt --- */

static void free_attempt(struct attempt *a)
{
        struct outgoing *o = a->outgoing;
        struct attempt **at = &o->attempts;
        while (*at != a)
                at = &(*at)->next;
        *at = a->next;
        o->attempt_count--;
        o->failing_count -= a->failing;
        o->look = true;
        buf_free(&a->headers, true); /* a signature */
        buf_free(&a->body, false);
        buf_free(&a->call.answer, false);
        free(a);
}

static int record_run(struct loop_command *lc, struct txn *t)
{
        struct attempt *a = (struct attempt *)((char *)lc - offsetof(struct attempt, lc));
        const struct outgoing_answer answer = {.outcome = a->call.outcome,
                                               .status = a->call.status,
                                               .retry_after_s = a->call.retry_after_s,
                                               .body = a->call.answer.data,
                                               .body_len = a->call.answer.len};
        return outgoing_record(lc->k->service, t, &a->item, &answer);
}

static void record_back(struct loop_command *lc, int err)
{
        struct attempt *a = (struct attempt *)((char *)lc - offsetof(struct attempt, lc));
        struct scheduler *k = lc->k;
        CRASH_POINT("delivery.recorded");
        free_attempt(a);
        if (err != 0) /* it is sent again */
                loop_due(k, mono_us() + AGAIN_US);
        else
                scheduler_wake(k);
}

/* Never the address, which may hold a secret, nor anything of the answer's body. */
static void log_attempt(const struct attempt *a)
{
        char id[ULID_TEXT + 1];
        log_event(LOG_LEVEL_DEBUG, "delivery_attempt",
                  "id=%s type=%s endpoint=%s outcome=%s status=%u attempt=%u",
                  ulid_format(a->item.id, id), a->item.row.type,
                  a->item.endpoint.name[0] != '\0' ? a->item.endpoint.name : "-",
                  http_outcome_name(a->call.outcome), a->call.status, a->item.row.attempts + 1);
}

static void record(struct attempt *a)
{
        a->lc.run = record_run;
        a->lc.back = record_back;
        loop_submit(a->outgoing->k, &a->lc);
}

static void attempt_done(struct http_call *c)
{
        struct attempt *a = (struct attempt *)c;
        CRASH_POINT("delivery.answered");
        if (c->outcome == HTTP_ABORTED) { /* the daemon stops; it is sent at the next start */
                free_attempt(a);
                return;
        }
        if (outgoing_delivered(c->outcome, c->status))
                metric_delivery("delivered");
        else
                metric_delivery(c->outcome == HTTP_ANSWERED ? "status"
                                                            : http_outcome_name(c->outcome));
        log_attempt(a);
        record(a);
}

/* Reads the delivery; UL_NOT_FOUND: it is gone meanwhile. */
static int read_item(struct attempt *a, const uint8_t id[ULID_BYTES])
{
        struct txn *t = NULL;
        int err = store_read(a->outgoing->k->service->store, &t, NULL);
        if (err != 0)
                return err;
        err = outgoing_load(t, id, &a->item, &a->headers, &a->body);
        txn_abort(&t);
        return err;
}

static void begin(struct outgoing *o, const uint8_t id[ULID_BYTES])
{
        struct attempt *a = calloc(1, sizeof *a);
        struct service *s = o->k->service;
        struct errinfo e = {0};
        if (a == NULL) {
                loop_due(o->k, mono_us() + AGAIN_US);
                return;
        }
        a->outgoing = o;
        a->next = o->attempts;
        o->attempts = a;
        o->attempt_count++;
        int err = read_item(a, id);
        const struct outgoing_kind *kind = outgoing_kind(a->item.row.kind);
        if (err != 0 || kind == NULL) { /* a kind of a later version: left alone */
                free_attempt(a);
                return;
        }
        a->failing = a->item.endpoint.failures > 0;
        o->failing_count += a->failing;
        err = kind->sign(s, &a->item, &a->headers, &e);
        buf_append(&a->headers, "", 1);
        if (err == 0 && a->headers.failed)
                err = ul_fail(&e, UL_NOMEM, "no memory for a delivery");
        a->call.url = a->item.endpoint.url;
        a->call.headers = (const char *)a->headers.data;
        a->call.body = a->body.data;
        a->call.body_len = a->body.len;
        a->call.done = attempt_done;
        if (err == 0)
                err = http_call_start(o->http, &a->call, &e);
        if (err == 0)
                return;
        log_event(LOG_LEVEL_WARN, "delivery_not_begun", "type=%s error=%s detail=\"%s\"",
                  a->item.row.type, ul_err_name(err), e.detail);
        a->call.outcome = HTTP_BROKEN; /* a failed attempt: it must not be tried without a pause */
        record(a);
}

/* --- what is too old, or for nobody --- */

struct sweep_command {
        struct loop_command lc;
        struct outgoing *outgoing;
        uint8_t endpoint[ENDPOINT_HASH_BYTES];
        bool left;
};

static int sweep_run(struct loop_command *lc, struct txn *t)
{
        struct sweep_command *c = (struct sweep_command *)lc;
        return outgoing_sweep(lc->k->service, t, c->endpoint, &c->left);
}

static void sweep_back(struct loop_command *lc, int err)
{
        struct sweep_command *c = (struct sweep_command *)lc;
        CRASH_POINT("delivery.swept");
        c->outgoing->sweeping = false;
        c->outgoing->look = true;
        if (err != 0)
                loop_due(lc->k, mono_us() + AGAIN_US);
        else
                scheduler_wake(lc->k);
        free(c);
}

static void sweep(struct outgoing *o, const uint8_t endpoint[ENDPOINT_HASH_BYTES])
{
        struct sweep_command *c = o->sweeping ? NULL : calloc(1, sizeof *c);
        if (c == NULL)
                return; /* at a later look */
        c->lc.run = sweep_run;
        c->lc.back = sweep_back;
        c->outgoing = o;
        memcpy(c->endpoint, endpoint, ENDPOINT_HASH_BYTES);
        o->sweeping = true;
        loop_submit(o->k, &c->lc);
}

/* --- whose turn it is --- */

struct choice { /* at one endpoint */
        struct outgoing *o;
        const uint8_t *endpoint;
        int64_t now;
        int64_t not_before;         /* of the endpoint */
        uint32_t room;              /* attempts that may begin here */
        bool stale;                 /* the first one that waits is too old */
        uint8_t (*ids)[ULID_BYTES]; /* [ATTEMPTS_MAX], of all endpoints */
        uint32_t *count;
};

static bool under_way(const struct outgoing *o, const uint8_t id[ULID_BYTES])
{
        for (const struct attempt *a = o->attempts; a != NULL; a = a->next)
                if (memcmp(a->item.id, id, ULID_BYTES) == 0)
                        return true;
        return false;
}

static void wait_until(struct outgoing *o, int64_t ms)
{
        if (o->next_ms == 0 || ms < o->next_ms)
                o->next_ms = ms;
}

static int choose(void *arg, const uint8_t id[ULID_BYTES], int64_t next_ms)
{
        struct choice *c = arg;
        if (under_way(c->o, id))
                return 0;
        if (outgoing_too_old(c->o->k->service, next_ms, c->now)) {
                c->stale = true;
                return 1;
        }
        if (next_ms > c->now || c->not_before > c->now) {
                wait_until(c->o, next_ms > c->not_before ? next_ms : c->not_before);
                return 1;
        }
        if (c->room == 0 || *c->count == ATTEMPTS_MAX)
                return 1; /* an attempt that ends looks again */
        memcpy(c->ids[(*c->count)++], id, ULID_BYTES);
        c->room--;
        return 0;
}

static uint32_t attempts_at(const struct outgoing *o, const uint8_t endpoint[ENDPOINT_HASH_BYTES])
{
        uint32_t n = 0;
        for (const struct attempt *a = o->attempts; a != NULL; a = a->next)
                n += memcmp(a->item.row.endpoint, endpoint, ENDPOINT_HASH_BYTES) == 0;
        return n;
}

/* One that failed is left alone for as long as its first delivery would be, up to HOLD_MAX_MS. */
static int64_t held_until(const struct service *s, const struct endpoint_row *row, int64_t now)
{
        if (row->failures == 0 || row->attempt_ms > now) /* the clock was set back */
                return 0;
        int64_t ms = outgoing_delay_ms(s->config.delivery_retry_ms, row->failures, UINT32_MAX / 2);
        return row->attempt_ms + (ms < HOLD_MAX_MS ? ms : HOLD_MAX_MS);
}

static int choose_at(struct outgoing *o, struct txn *t, struct choice *c, uint32_t room,
                     uint32_t *failing)
{
        struct endpoint_row row;
        uint32_t now_there = attempts_at(o, c->endpoint);
        int err = t_endpoint_get(t, c->endpoint, &row);
        if (err != 0)
                return err;
        uint32_t most = row.failures > 0 ? 1 : ENDPOINT_ATTEMPTS;
        c->not_before = held_until(o->k->service, &row, c->now);
        c->room = now_there < most ? most - now_there : 0;
        if (c->room > room)
                c->room = room;
        if (row.failures > 0 && *failing >= FAILING_MAX)
                c->room = 0;
        c->stale = row.state != ENDPOINT_ENABLED;
        uint32_t before = *c->count;
        if (!c->stale)
                err = t_delivery_each_due(t, c->endpoint, choose, c);
        if (row.failures > 0)
                *failing += *c->count - before;
        if (c->stale)
                sweep(o, c->endpoint);
        return err == 1 ? 0 : err;
}

/* Goes round all endpoints once, from the one after the last that had a turn. */
static int choose_all(struct outgoing *o, struct txn *t, uint8_t (*ids)[ULID_BYTES],
                      uint32_t *count)
{
        struct choice c = {.o = o, .now = now_ms(), .ids = ids, .count = count};
        uint8_t first[ENDPOINT_HASH_BYTES], endpoint[ENDPOINT_HASH_BYTES], at[ENDPOINT_HASH_BYTES];
        uint32_t failing = o->failing_count, room = ATTEMPTS_MAX - o->attempt_count;
        bool any = false;
        const uint8_t *after = o->had_turn ? o->after : NULL;
        int err = 0;
        *count = 0;
        while (err == 0 && *count < room) {
                err = t_delivery_next_endpoint(t, after, endpoint);
                if (err == UL_NOT_FOUND && after != NULL) /* round the corner */
                        err = t_delivery_next_endpoint(t, NULL, endpoint);
                if (err != 0 || (any && memcmp(endpoint, first, sizeof first) == 0))
                        break;
                if (!any)
                        memcpy(first, endpoint, sizeof first);
                any = true;
                c.endpoint = endpoint;
                uint32_t before = *count;
                err = choose_at(o, t, &c, room - before, &failing);
                if (*count > before) {
                        memcpy(o->after, endpoint, sizeof o->after);
                        o->had_turn = true;
                }
                memcpy(at, endpoint, sizeof at);
                after = at;
        }
        return err == UL_NOT_FOUND ? 0 : err;
}

void outgoing_pass(struct scheduler *k)
{
        struct outgoing *o = k->outgoing;
        struct service *s = k->service;
        uint8_t ids[ATTEMPTS_MAX][ULID_BYTES];
        uint32_t count = 0;
        struct txn *t = NULL;
        if (atomic_exchange(&s->deliveries_due, false))
                o->look = true;
        if (!o->look && (o->next_ms == 0 || now_ms() < o->next_ms))
                goto out;
        if (o->attempt_count >= ATTEMPTS_MAX || told_read(s, &t, NULL) != 0)
                return; /* at the end of an attempt; at the next look */
        o->look = false;
        o->next_ms = 0;
        int err = choose_all(o, t, ids, &count);
        txn_abort(&t);
        if (err != 0)
                o->look = true;
        for (uint32_t i = 0; i < count; i++)
                begin(o, ids[i]);
out:
        if (o->next_ms != 0) {
                int64_t ms = o->next_ms - now_ms();
                loop_due(k, mono_us() + (ms > 0 ? (uint64_t)ms * 1000 : 1000));
        }
}

/* --- its life --- */

int outgoing_client(struct scheduler *k, struct http_client **out, struct errinfo *e)
{
        const struct config *c = &k->service->config;
        struct network allowed[NETWORKS_MAX];
        struct http_client_options options = {
                .allowed = allowed, .ca_file = c->ca_file, .timeout_ms = c->delivery_timeout_ms};
        bool valid = networks_parse(c->allow_networks, allowed, &options.allowed_count);
        assert(valid); /* config_check */
        (void)valid;
        return http_client_create(&k->loop, &options, out, e);
}

int outgoing_create(struct scheduler *k, struct errinfo *e)
{
        struct outgoing *o = calloc(1, sizeof *o);
        if (o == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for deliveries");
        int err = outgoing_client(k, &o->http, e);
        if (err != 0) {
                free(o);
                return err;
        }
        o->k = k;
        o->look = true;
        k->outgoing = o;
        return 0;
}

void outgoing_stop(struct scheduler *k)
{
        if (k->outgoing != NULL)
                http_client_stop(k->outgoing->http);
}

void outgoing_destroy(struct scheduler *k)
{
        struct outgoing *o = k->outgoing;
        if (o == NULL)
                return;
        assert(o->attempts == NULL);
        http_client_destroy(&o->http);
        free(o);
        k->outgoing = NULL;
}
