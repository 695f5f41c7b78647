/* SPDX-License-Identifier: Apache-2.0
 * hold.c: erasures that wait for a decision: the requester is not verified, or the request is
 * disputed. Under hold a request is durable and nothing is forgotten; it is kept as the line that
 * the erasure ledger would have (pseudonyms), and looked up when it is released, so that it finds
 * whatever was loaded meanwhile. It goes into the ledger at its release, not before: what is in
 * the ledger is carried out at the next start. The states are drawn in complete.c.
 *
 * Extending a deadline is here too: the third decision. */
#include "daemon/erasure.h"
#include "daemon/erasure_ledger.h"
#include "daemon/opendsr.h"
#include "daemon/state.h"
#include "daemon/views.h"

#include "lib/util/crash_point.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CCPA_DAYS_MAX = 90, GDPR_MONTHS_MAX = 3, DAY_MS = 24 * 3600 * 1000 };

/* --- submitted --- */

static int keep(struct txn *t, const struct erase_request *r, const uint8_t id[ULID_BYTES],
                const struct erasure_row *row)
{
        struct ledger_entry x;
        struct buf text = {0};
        int err = ledger_entry_of(r, id, &x);
        if (err != 0)
                return txn_fail(t, err);
        x.time_ms = row->accepted_ms;
        x.received_ms = row->received_ms;
        x.deadline_ms = row->deadline_ms;
        ledger_entry_write(&text, &x);
        err = text.failed ? txn_fail(t, UL_NOMEM) : t_held_put(t, id, text.data, text.len - 1);
        free(x.records);
        buf_free(&text, false);
        return err;
}

int erasure_hold(struct service *s, struct txn *t, const struct erase_request *r,
                 const struct erasure_origin *from, struct erasure_row *row, struct errinfo *e)
{
        struct hits h = {0};
        int err = hits_scope(&h, s, r, e); /* a name that is wrong is told now */
        hits_clear(&h);
        if (err != 0)
                return err;
        *row = erasure_new_row(r, from->accepted_ms);
        err = keep(t, r, from->id, row);
        if (err == 0)
                err = erasure_audit_accepted(s, t, r, from, row);
        if (err == 0)
                err = pending_begin(t, from->id, row);
        if (err == 0)
                err = t_erasure_put(t, from->id, row, NULL);
        if (err == 0)
                err = opendsr_tell(s, t, from->id, row);
        CRASH_POINT("hold.recorded");
        return err == 0 ? 0 : ul_fail(e, err, "the erasure could not be recorded");
}

/* --- decided --- */

struct decision {
        struct command cmd;
        struct service *service;
        int (*decide)(struct decision *d, struct txn *t, struct erasure_row *row,
                      struct erasure_affected *affected);
        uint8_t id[ULID_BYTES];
        char reason[32];
        int64_t deadline_ms;
        char actor[ACTOR_MAX];
        struct effects fx;
        struct erasure_view view;
        bool replayed; /* it was decided so before */
        uint64_t queued_us;
        service_erase_done done;
        void *arg;
};

static int append(struct decision *d, struct txn *t, const struct erasure_row *row,
                  const char *type)
{
        struct event ev;
        struct audit_keys keys = {.erasure = d->id, .reference = row->reference};
        event_begin(&ev);
        event_ulid(&ev, "erasure", d->id);
        jw_member_text(&ev.w, "reference", row->reference);
        jw_member_text(&ev.w, "regulation", regulation_name(row->regulation));
        jw_member_text(&ev.w, "reason_code", d->reason);
        jw_member_time(&ev.w, "deadline", row->deadline_ms);
        if (row->first_deadline_ms != 0)
                jw_member_time(&ev.w, "first_deadline", row->first_deadline_ms);
        return event_append(&ev, d->service, t, type, d->actor, &keys, NULL);
}

static int conflict(struct decision *d, const char *why)
{
        return ul_fail(&d->cmd.e, UL_CONFLICT, "%s", why);
}

static int release(struct decision *d, struct txn *t, struct erasure_row *row,
                   struct erasure_affected *affected)
{
        struct buf text = {0};
        struct ledger_entry x = {0};
        (void)affected;
        if (row->state == ERASURE_REFUSED)
                return conflict(d, "the erasure was refused; what was refused is asked for anew");
        if (!row->held)
                return conflict(d,
                                "the erasure was not submitted under hold: it was executed then");
        if (row->state != ERASURE_ACCEPTED) {
                d->replayed = true;
                return 0;
        }
        int err = t_held_get(t, d->id, &text);
        if (err == UL_NOT_FOUND)
                err = txn_fail(t, UL_CORRUPT);
        if (err == 0)
                err = ledger_entry_parse((const char *)text.data, text.len, &x, &d->cmd.e);
        if (err == 0) {
                ulid_make(x.executed);
                x.deadline_ms = row->deadline_ms;
                err = erasure_release(d->service, t, &x, row, d->actor, &d->fx, &d->cmd.e);
        }
        if (err == 0 && d->service->ledger != NULL)
                ledger_entry_write(&d->cmd.ledger, &x);
        CRASH_POINT("hold.released");
        ledger_entry_clear(&x);
        buf_free(&text, false);
        return err;
}

static int refuse(struct decision *d, struct txn *t, struct erasure_row *row,
                  struct erasure_affected *affected)
{
        uint8_t code =
                reason_find(REASON_REFUSAL, d->reason, (enum erase_regulation)row->regulation);
        if (code == 0)
                return ul_fail_field(&d->cmd.e, UL_INVALID, "/reason_code",
                                     "is no reason for a refusal under this erasure's regulation");
        if (row->state == ERASURE_REFUSED && row->refusal == code) {
                d->replayed = true;
                return 0;
        }
        if (row->state == ERASURE_REFUSED)
                return conflict(d, "the erasure was refused for another reason");
        if (row->state != ERASURE_ACCEPTED)
                return conflict(d, row->held
                                           ? "the erasure was released and executed"
                                           : "only an erasure submitted under hold can be refused");
        row->state = ERASURE_REFUSED;
        row->refusal = code;
        row->refused_ms = now_ms() > row->accepted_ms ? now_ms() : row->accepted_ms;
        int err = pending_end(d->service, t, d->id, row, row->refused_ms);
        if (err == 0)
                err = append(d, t, row, "erasure.refused");
        if (err == 0)
                err = t_held_del(t, d->id);
        if (err == 0)
                err = opendsr_tell(d->service, t, d->id, row);
        if (err == 0)
                err = t_erasure_put(t, d->id, row, affected);
        CRASH_POINT("hold.refused");
        return err;
}

/* GDPR art. 12(3): two further months. 11 CCR 7021(b): at most 90 days in total. */
static int64_t latest_deadline(const struct erasure_row *row)
{
        if (row->regulation == REGULATION_CCPA)
                return row->received_ms + (int64_t)CCPA_DAYS_MAX * DAY_MS;
        if (row->regulation == REGULATION_OTHER)
                return INT64_MAX; /* another law's */
        return time_add_months(row->received_ms, GDPR_MONTHS_MAX);
}

static int check_extension(struct decision *d, const struct erasure_row *row)
{
        if (row->state == ERASURE_COMPLETED || row->state == ERASURE_REFUSED)
                return conflict(d, "the erasure has ended");
        if (row->first_deadline_ms != 0)
                return conflict(d, "the deadline was extended before; that is possible once");
        if (row->overdue || now_ms() > row->deadline_ms)
                return conflict(d, "the deadline has passed; the person had to be told before it");
        if (d->deadline_ms <= row->deadline_ms)
                return ul_fail_field(&d->cmd.e, UL_INVALID, "/deadline",
                                     "must be after the present deadline");
        if (d->deadline_ms > latest_deadline(row))
                return ul_fail_field(&d->cmd.e, UL_INVALID, "/deadline",
                                     row->regulation == REGULATION_CCPA
                                             ? "must be within 90 days of received_at (ccpa)"
                                             : "must be within 3 months of received_at (gdpr)");
        return 0;
}

static int extend(struct decision *d, struct txn *t, struct erasure_row *row,
                  struct erasure_affected *affected)
{
        uint8_t code =
                reason_find(REASON_EXTENSION, d->reason, (enum erase_regulation)row->regulation);
        if (code == 0)
                return ul_fail_field(
                        &d->cmd.e, UL_INVALID, "/reason_code",
                        "is no reason for an extension under this erasure's regulation");
        if (row->first_deadline_ms != 0 && row->extension == code &&
            row->deadline_ms == d->deadline_ms) {
                d->replayed = true;
                return 0;
        }
        int err = check_extension(d, row);
        if (err != 0)
                return err;
        row->first_deadline_ms = row->deadline_ms;
        row->extension = code;
        err = pending_extend(t, d->id, row, d->deadline_ms);
        if (err == 0)
                err = append(d, t, row, "erasure.extended");
        if (err == 0)
                err = opendsr_tell(d->service, t, d->id, row);
        if (err == 0) /* a shard that waits for it keeps the earlier deadline */
                err = t_erasure_put(t, d->id, row, affected);
        CRASH_POINT("hold.extended");
        return err;
}

static int decision_run(struct command *c, struct txn *t)
{
        struct decision *d = (struct decision *)c;
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        int err = t_erasure_get(t, d->id, &row, &affected);
        if (err == UL_NOT_FOUND)
                return ul_fail(&c->e, UL_NOT_FOUND, "there is no erasure of this id");
        if (err == 0)
                err = d->decide(d, t, &row, affected);
        if (err == 0)
                err = view_erasure(d->service, t, d->id, &d->view);
        d->view.replayed = d->replayed;
        free(affected);
        if (err != 0 && c->e.code == 0)
                (void)ul_fail(&c->e, err, "the decision could not be recorded");
        return err;
}

static void decision_committed(struct command *c)
{
        struct decision *d = (struct decision *)c;
        effects_apply(d->service, &d->fx);
}

static void decision_done(struct command *c, int err)
{
        struct decision *d = (struct decision *)c;
        if (err == 0 && d->decide == release && !d->replayed) { /* it is served by now */
                metric_add(METRIC_RECORDS_ERASED, d->view.matched);
                metric_observe(METRIC_TIME_TO_FORGOTTEN, (double)(mono_us() - d->queued_us) / 1e6);
        }
        d->done(d->arg, err, &c->e, err == 0 ? &d->view : NULL);
        effects_clear(&d->fx);
        erasure_view_clear(&d->view);
        free(d);
}

static int submit(struct service *s, const struct decision *what, const char *actor,
                  struct errinfo *e)
{
        struct decision *d = malloc(sizeof *d);
        if (d == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a decision");
        *d = *what;
        d->cmd = (struct command){
                .run = decision_run, .committed = decision_committed, .done = decision_done};
        d->service = s;
        d->queued_us = mono_us();
        (void)snprintf(d->actor, sizeof d->actor, "%s", actor);
        int err = service_submit(s, &d->cmd, HEALTH_ERASES, e);
        if (err != 0)
                free(d);
        return err;
}

int service_erasure_release(struct service *s, const uint8_t id[ULID_BYTES], const char *actor,
                            service_erase_done done, void *arg, struct errinfo *e)
{
        struct decision d = {.decide = release, .done = done, .arg = arg};
        memcpy(d.id, id, ULID_BYTES);
        return submit(s, &d, actor, e);
}

int service_erasure_refuse(struct service *s, const uint8_t id[ULID_BYTES], const char *reason_code,
                           const char *actor, service_erase_done done, void *arg, struct errinfo *e)
{
        struct decision d = {.decide = refuse, .done = done, .arg = arg};
        memcpy(d.id, id, ULID_BYTES);
        (void)snprintf(d.reason, sizeof d.reason, "%s", reason_code);
        return submit(s, &d, actor, e);
}

int service_erasure_extend(struct service *s, const uint8_t id[ULID_BYTES], int64_t deadline_ms,
                           const char *reason_code, const char *actor, service_erase_done done,
                           void *arg, struct errinfo *e)
{
        struct decision d = {
                .decide = extend, .deadline_ms = deadline_ms, .done = done, .arg = arg};
        memcpy(d.id, id, ULID_BYTES);
        (void)snprintf(d.reason, sizeof d.reason, "%s", reason_code);
        return submit(s, &d, actor, e);
}
