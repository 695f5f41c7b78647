/* SPDX-License-Identifier: Apache-2.0
 * witness.c: see witness.h. Rounds on the loop: who is due, an offer to each, what an answer means.
 * What a witness says is believed only under its key; what it says of its own tree only chooses
 * which proof it is sent, once a round. */
#include "daemon/witness.h"
#include "daemon/scheduler.h"

#include "daemon/loop.h"
#include "daemon/outgoing.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
        PAUSE_MAX_MS = 3600 * 1000,    /* of one that fails */
        REFRESH_MS = 24 * 3600 * 1000, /* a log at rest is cosigned again, to be seen at rest */
        AGAIN_US = 1000000,            /* what could not be begun, or recorded */
        ADDRESS_SIZE = URL_MAX + 16,
};

struct round;
struct offer {
        struct http_call call; /* first: the client gives it back */
        struct round *round;
        uint32_t witness; /* its place in the configuration */
        bool open;        /* no answer has come */
        bool corrected;   /* it said which tree it has */
        uint64_t old;
        struct buf body;
        char address[ADDRESS_SIZE];
};
struct round {
        struct loop_command lc; /* first: it records the round */
        struct witnessing *all;
        struct witness_round w;
        uint32_t open; /* offers */
        struct offer offer[WITNESSES_MAX];
        struct errinfo why[WITNESSES_MAX]; /* for the log */
        uint32_t retry_after_s[WITNESSES_MAX];
};
struct witnessing {
        /* set once */
        struct scheduler *k;
        struct http_client *http;
        /* loop thread */
        struct round *round; /* the one under way */
        uint64_t due_us[WITNESSES_MAX];
};

static void free_round(struct round *r)
{
        r->all->round = NULL;
        for (uint32_t i = 0; i < WITNESSES_MAX; i++) {
                buf_free(&r->offer[i].body, false);
                buf_free(&r->offer[i].call.answer, false);
        }
        buf_free(&r->w.note, false);
        free(r);
}

/* --- after a round --- */

static int record_run(struct loop_command *lc, struct txn *t)
{
        return witness_record(lc->k->service, t, &((struct round *)lc)->w);
}

/* Never the address, which may hold a secret. */
static void log_result(const struct round *r, uint32_t i)
{
        const struct witness_result *x = &r->w.result[i];
        const char *name = r->all->k->service->config.witnesses[i].name;
        bool worst = x->outcome == WITNESS_INCONSISTENT || x->outcome == WITNESS_AHEAD;
        if (x->outcome == WITNESS_COSIGNED)
                log_event(x->news ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "witness_cosigned",
                          "witness=%s size=%" PRIu64, name, r->w.size);
        else
                log_event(!x->news ? LOG_LEVEL_DEBUG
                          : worst  ? LOG_LEVEL_ERROR
                                   : LOG_LEVEL_WARN,
                          "witness_failed",
                          "witness=%s outcome=%s status=%u size=%" PRIu64 " failures=%u "
                          "detail=\"%s\"",
                          name, witness_outcome_name((uint8_t)x->outcome), x->status, r->w.size,
                          x->failures, r->why[i].detail);
}

static uint64_t pause_us(const struct round *r, uint32_t i)
{
        uint32_t random, first_ms = r->all->k->service->config.witness_interval_ms;
        int64_t least_ms = (int64_t)r->retry_after_s[i] * 1000, ms = first_ms;
        int64_t most_ms = first_ms > PAUSE_MAX_MS ? first_ms : PAUSE_MAX_MS;
        random_bytes(&random, sizeof random);
        if (r->w.result[i].failures > 0)
                ms = outgoing_delay_ms(first_ms, r->w.result[i].failures, random);
        if (ms > most_ms)
                ms = most_ms;
        return (uint64_t)(ms > least_ms ? ms : least_ms) * 1000;
}

static void record_back(struct loop_command *lc, int err)
{
        struct round *r = (struct round *)lc;
        struct witnessing *all = r->all;
        struct scheduler *k = lc->k;
        uint64_t now = mono_us();
        for (uint32_t i = 0; i < WITNESSES_MAX; i++) {
                if (!r->w.result[i].offered)
                        continue;
                if (err == 0)
                        log_result(r, i);
                all->due_us[i] = now + (err != 0 ? AGAIN_US : pause_us(r, i));
        }
        free_round(r);
        scheduler_wake(k);
}

/* An offer has ended. The last one ends the round. */
static void end_offer(struct offer *o, enum witness_outcome outcome)
{
        struct round *r = o->round;
        struct witness_result *x = &r->w.result[o->witness];
        assert(o->open && r->open > 0);
        o->open = false;
        x->outcome = outcome;
        x->status = o->call.status;
        r->retry_after_s[o->witness] = o->call.retry_after_s;
        metric_witness(witness_outcome_name((uint8_t)outcome));
        if (--r->open > 0)
                return;
        r->lc.run = record_run;
        r->lc.back = record_back;
        loop_submit(r->all->k, &r->lc);
}

/* --- an offer --- */

static void answered(struct http_call *c);

static int write_body(struct offer *o, struct txn *t, struct errinfo *e)
{
        uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES];
        const struct witness_round *w = &o->round->w;
        uint32_t count = 0;
        int err = o->old == 0 ? 0 : audit_consistency(t, o->old, w->size, hashes, &count, e);
        if (err != 0)
                return err;
        if (count > WITNESS_REQUEST_PROOF)
                return ul_fail(e, UL_INTERNAL, "the proof is longer than a witness takes");
        buf_reset(&o->body, false);
        witness_request(o->old, (const uint8_t(*)[SHA256_BYTES])hashes, count, w->note.data,
                        w->note.len, &o->body);
        return o->body.failed ? ul_fail(e, UL_NOMEM, "no memory for a witness") : 0;
}

/* An error ends the offer as broken: it must not be made again without a pause. */
static void make(struct offer *o, struct txn *t)
{
        struct errinfo *e = &o->round->why[o->witness];
        int err = write_body(o, t, e);
        buf_free(&o->call.answer, false);
        o->call = (struct http_call){.url = o->address,
                                     .headers = "Content-Type: text/plain; charset=utf-8\n",
                                     .body = o->body.data,
                                     .body_len = o->body.len,
                                     .done = answered};
        if (err == 0)
                err = http_call_start(o->round->all->http, &o->call, e);
        if (err != 0)
                end_offer(o, WITNESS_BROKEN);
}

static void take_cosignature(struct offer *o)
{
        struct round *r = o->round;
        const struct service *s = r->all->k->service;
        struct errinfo *e = &r->why[o->witness];
        struct cosignature *c = &r->w.result[o->witness].cosignature;
        int err = cosignature_find((const char *)o->call.answer.data, o->call.answer.len,
                                   (const char *)r->w.note.data, r->w.text_len,
                                   &s->cosigners[o->witness], c, e);
        if (err == UL_NOT_FOUND || err == UL_CORRUPT)
                end_offer(o, WITNESS_BAD_SIGNATURE);
        else if (err != 0)
                end_offer(o, WITNESS_MALFORMED);
        else if (cosignature_timely(c, r->w.since_s, now_ms() / 1000, e) != 0)
                end_offer(o, WITNESS_BAD_TIME);
        else
                end_offer(o, WITNESS_COSIGNED);
}

static bool has_type(const struct http_call *c, const char *type)
{
        size_t len = strlen(type);
        return strncasecmp(c->content_type, type, len) == 0 &&
               (c->content_type[len] == '\0' || c->content_type[len] == ';' ||
                c->content_type[len] == ' ');
}

/* 409: it has another tree than we believed, and says which; or another one of this size. */
static void correct(struct offer *o)
{
        const struct witness_round *w = &o->round->w;
        struct errinfo *e = &o->round->why[o->witness];
        struct txn *t = NULL;
        uint64_t size = 0;
        bool told = has_type(&o->call, "text/x.tlog.size") &&
                    witness_size(o->call.answer.data, o->call.answer.len, &size);
        if ((told && size == o->old) || (!told && o->old == w->size)) {
                (void)ul_fail(e, UL_CONFLICT,
                              "the witness has seen another tree of %" PRIu64 " entries", o->old);
                end_offer(o, WITNESS_INCONSISTENT);
        } else if (!told) {
                (void)ul_fail(e, UL_SYNTAX, "its 409 does not say the size of its tree");
                end_offer(o, WITNESS_MALFORMED);
        } else if (size > w->size) {
                (void)ul_fail(e, UL_CONFLICT,
                              "the witness has cosigned %" PRIu64 " entries: was an older backup "
                              "restored?",
                              size);
                end_offer(o, WITNESS_AHEAD);
        } else if (o->corrected || told_read(o->round->all->k->service, &t, e) != 0) {
                (void)ul_fail(e, UL_CONFLICT, "the witness went on meanwhile");
                end_offer(o, WITNESS_STATUS);
        } else {
                o->corrected = true;
                o->old = size;
                make(o, t);
        }
        if (t != NULL)
                txn_abort(&t);
}

/* An answer with a status that refuses. */
static void refused(struct offer *o)
{
        static const struct {
                uint32_t status;
                enum witness_outcome outcome;
                const char *detail;
        } known[] = {
                {403, WITNESS_UNKNOWN_KEY,
                 "the witness does not trust the log's key: give its operator the present one "
                 "(GET /v1/audit/key)"},
                {404, WITNESS_UNKNOWN_LOG,
                 "the witness does not know this log, or the url is not its submission prefix: "
                 "give its operator the log's origin and key (GET /v1/audit/key)"},
                {422, WITNESS_INCONSISTENT,
                 "the witness has seen another history of this log: was an older backup restored?"},
        };
        struct errinfo *e = &o->round->why[o->witness];
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
                if (known[i].status == o->call.status) {
                        (void)ul_fail(e, UL_CONFLICT, "%s", known[i].detail);
                        end_offer(o, known[i].outcome);
                        return;
                }
        }
        (void)ul_fail(e, UL_CONFLICT, "%s",
                      o->call.status >= 300 && o->call.status < 400
                              ? "the witness redirects, and redirects are not followed: is its "
                                "url another one by now?"
                              : "the witness refuses or fails");
        end_offer(o, WITNESS_STATUS);
}

static enum witness_outcome outcome_of(const struct http_call *c)
{
        switch (c->outcome) {
        case HTTP_REFUSED:
                return WITNESS_REFUSED;
        case HTTP_UNREACHABLE:
                return WITNESS_UNREACHABLE;
        case HTTP_TLS:
                return WITNESS_TLS;
        case HTTP_TIMEOUT:
                return WITNESS_TIMEOUT;
        default:
                return WITNESS_BROKEN;
        }
}

static void answered(struct http_call *c)
{
        struct offer *o = (struct offer *)c;
        struct round *r = o->round;
        CRASH_POINT("witness.answered");
        if (c->outcome == HTTP_ABORTED) { /* the daemon stops; nothing of the round is recorded */
                o->open = false;
                if (--r->open == 0)
                        free_round(r);
        } else if (c->outcome != HTTP_ANSWERED) {
                (void)ul_fail(&r->why[o->witness], UL_IO, "no answer, or not a whole one");
                end_offer(o, outcome_of(c));
        } else if (c->status == 200) {
                take_cosignature(o);
        } else if (c->status == 409) {
                correct(o);
        } else {
                refused(o);
        }
}

/* --- a round --- */

/* Whether the witness has something to cosign. old: the tree that it cosigned last. */
static bool wants(const struct witness_row *row, uint64_t size, int64_t now, uint64_t *old)
{
        *old = row->size <= size ? row->size : 0;
        return row->size != size || row->failures > 0 || now < row->cosigned_ms ||
               now - row->cosigned_ms >= REFRESH_MS;
}

static void submission_address(const char *prefix, char out[ADDRESS_SIZE])
{
        size_t len = strlen(prefix);
        while (len > 0 && prefix[len - 1] == '/')
                len--;
        (void)snprintf(out, ADDRESS_SIZE, "%.*s/add-checkpoint", (int)len, prefix);
}

/* Chooses who is offered the checkpoint. */
static int invite(struct round *r, struct txn *t)
{
        struct witnessing *all = r->all;
        struct service *s = all->k->service;
        uint64_t now = mono_us();
        for (uint32_t i = 0; i < s->config.witness_count; i++) {
                struct offer *o = &r->offer[i];
                struct witness_row row;
                if (all->due_us[i] > now)
                        continue;
                int err = witness_known(s, t, i, &row, NULL);
                if (err != 0)
                        return err;
                all->due_us[i] = now + (uint64_t)s->config.witness_interval_ms * 1000;
                if (!wants(&row, r->w.size, now_ms(), &o->old))
                        continue;
                o->round = r;
                o->witness = i;
                o->open = true;
                submission_address(s->config.witnesses[i].url, o->address);
                r->w.result[i].offered = true;
                r->open++;
        }
        return 0;
}

static int open_round(struct round *r, struct txn *t)
{
        struct checkpoint head;
        int err = audit_checkpoint(t, &r->w.note);
        if (err == 0)
                err = note_split((const char *)r->w.note.data, r->w.note.len, &r->w.text_len, NULL);
        if (err == 0)
                err = checkpoint_parse((const char *)r->w.note.data, r->w.text_len, &head, NULL);
        if (err != 0)
                return err;
        int64_t since_s = audit_time(t) / 1000, now_s = now_ms() / 1000;
        r->w.size = head.size;
        r->w.since_s = since_s < now_s ? since_s : now_s; /* the clock was set back */
        return invite(r, t);
}

/* NULL: nobody has anything to cosign, or the log cannot be read. */
static struct round *new_round(struct witnessing *all, struct txn *t)
{
        struct round *r = calloc(1, sizeof *r);
        int err = r == NULL ? UL_NOMEM : 0;
        if (r != NULL) {
                r->all = all;
                all->round = r;
                err = open_round(r, t);
        }
        if (err != 0 && err != UL_NOT_FOUND) /* the log is empty */
                log_event(LOG_LEVEL_WARN, "witnesses_not_asked", "error=%s", ul_err_name(err));
        if (r != NULL && (err != 0 || r->open == 0)) {
                free_round(r);
                r = NULL;
        }
        return r;
}

static void begin(struct witnessing *all)
{
        struct txn *t = NULL;
        if (told_read(all->k->service, &t, NULL) != 0)
                return; /* at a later look */
        struct round *r = new_round(all, t);
        uint32_t open = r != NULL ? r->open : 0;
        for (uint32_t i = 0; open > 0 && i < WITNESSES_MAX; i++) {
                if (r->w.result[i].offered) {
                        open--; /* the last one may end the round */
                        make(&r->offer[i], t);
                }
        }
        txn_abort(&t);
}

void witness_pass(struct scheduler *k)
{
        struct witnessing *all = k->witnessing;
        uint64_t now = mono_us(), first = UINT64_MAX;
        uint32_t count = k->service->config.witness_count;
        for (uint32_t i = 0; i < count; i++)
                if (all->due_us[i] < first)
                        first = all->due_us[i];
        if (count == 0 || all->round != NULL)
                return; /* its end looks again */
        if (first > now) {
                loop_due(k, first);
        } else {
                begin(all);
                if (all->round == NULL) /* nothing to cosign, or it could not be read */
                        for (uint32_t i = 0; i < count; i++)
                                if (all->due_us[i] <= now)
                                        all->due_us[i] = now + AGAIN_US;
        }
}

/* --- its life --- */

int witness_create(struct scheduler *k, struct errinfo *e)
{
        struct witnessing *all = calloc(1, sizeof *all);
        if (all == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for witnesses");
        int err = outgoing_client(k, &all->http, e);
        if (err != 0) {
                free(all);
                return err;
        }
        all->k = k;
        k->witnessing = all;
        return 0;
}

void witness_stop(struct scheduler *k)
{
        if (k->witnessing != NULL)
                http_client_stop(k->witnessing->http);
}

void witness_destroy(struct scheduler *k)
{
        struct witnessing *all = k->witnessing;
        if (all == NULL)
                return;
        assert(all->round == NULL);
        http_client_destroy(&all->http);
        free(all);
        k->witnessing = NULL;
}
