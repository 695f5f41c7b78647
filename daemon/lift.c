/* SPDX-License-Identifier: Apache-2.0
 * lift.c: a suppression is lifted: the person may be loaded again. What was taken away is kept
 * under the lift's id, so that the ledger can be completed and a lift is never replayed twice. */
#include "daemon/erasure.h"
#include "daemon/erasure_ledger.h"
#include "daemon/state.h"
#include "daemon/suppress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gathered {
        const uint8_t *pseudonym;
        struct lift_entry *entries; /* [count] */
        uint32_t count;
};

static int gather(void *arg, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t model,
                  uint32_t kind, const struct suppression_row *row)
{
        struct gathered *g = arg;
        if (memcmp(pseudonym, g->pseudonym, PSEUDONYM_BYTES) != 0)
                return 1;
        struct lift_entry *grown = realloc(g->entries, (g->count + 1) * sizeof *grown);
        if (grown == NULL)
                return UL_NOMEM;
        g->entries = grown;
        g->entries[g->count++] = (struct lift_entry){.model = model, .kind = kind, .row = *row};
        return 0;
}

/* Was one of them made by an erasure, or brought by an import, that took effect after the lift? */
static int any_later(struct txn *t, const struct gathered *g, const uint8_t id[ULID_BYTES],
                     bool *later)
{
        uint8_t order[ULID_BYTES];
        int err = 0;
        *later = false;
        for (uint32_t i = 0; i < g->count && err == 0 && !*later; i++) {
                err = suppression_order(t, &g->entries[i].row, order);
                *later = err == 0 && memcmp(order, id, ULID_BYTES) > 0;
        }
        return err;
}

/* An erasure that comes after still has to wait for those that they stand for. */
static int keep_overlap(struct txn *t, const struct gathered *g)
{
        int err = 0;
        for (uint32_t i = 0; i < g->count && err == 0; i++)
                err = overlap_lifted(t, g->pseudonym, g->entries[i].model,
                                     g->entries[i].row.erasure);
        return err;
}

static int audit_lift(struct service *s, struct txn *t, int64_t lifted_ms, const struct gathered *g,
                      const char *actor, bool replayed, uint32_t removed)
{
        const uint8_t(*whom)[PSEUDONYM_BYTES] = (const uint8_t(*)[PSEUDONYM_BYTES])g->pseudonym;
        struct audit_keys keys = {.subjects = whom, .records = whom};
        struct event ev;
        for (uint32_t i = 0; i < g->count; i++) {
                if (g->entries[i].kind == SUPPRESS_RECORD)
                        keys.record_count = 1;
                else
                        keys.subject_count = 1;
        }
        if (g->count == 0) /* replayed, and an erasure has suppressed whom it was about since */
                keys.subject_count = 1;
        event_begin(&ev);
        jw_member_u64(&ev.w, "lifted", removed);
        if (replayed)
                jw_member_time(&ev.w, "lifted_at", lifted_ms);
        return event_append(&ev, s, t, replayed ? "suppression.replayed" : "suppression.lifted",
                            actor, &keys, NULL);
}

int suppression_lift(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                     int64_t lifted_ms, const uint8_t pseudonym[PSEUDONYM_BYTES], const char *actor,
                     bool replayed, uint32_t *removed)
{
        struct gathered g = {.pseudonym = pseudonym};
        struct lift_row row = {.lifted_ms = lifted_ms};
        *removed = 0;
        int err = t_suppression_each(t, pseudonym, 0, 0, gather, &g);
        err = err == 1 ? 0 : err;
        bool later = false;
        if (replayed && err == 0)
                err = any_later(t, &g, id, &later);
        if (later)
                g.count = 0;
        else if (err == 0)
                err = t_suppression_lift(t, pseudonym, removed);
        if (err == 0)
                err = keep_overlap(t, &g);
        if (err == 0 && (*removed > 0 || replayed)) {
                row.entry_count = g.count;
                memcpy(row.pseudonym, pseudonym, PSEUDONYM_BYTES);
                err = t_lift_put(t, id, &row, g.entries);
                if (err == 0)
                        err = audit_lift(s, t, lifted_ms, &g, actor, replayed, *removed);
        }
        free(g.entries);
        return err;
}

/* --- as a client asks for it --- */

struct lift {
        struct command cmd;
        struct service *service;
        uint8_t pseudonym[PSEUDONYM_BYTES];
        char actor[ACTOR_MAX];
        service_simple_done done;
        void *arg;
};

static int lift_run(struct command *c, struct txn *t)
{
        struct lift *l = (struct lift *)c;
        uint8_t id[ULID_BYTES];
        uint32_t removed = 0;
        int64_t now = now_ms();
        ulid_make(id);
        int err = suppression_lift(l->service, t, id, now, l->pseudonym, l->actor, false, &removed);
        if (err == 0 && removed == 0)
                return ul_fail(&c->e, UL_NOT_FOUND, "this pseudonym is not suppressed");
        if (err == 0)
                ledger_note_lift(l->service, &c->ledger, id, now, l->pseudonym);
        return err;
}

static void lift_done(struct command *c, int err)
{
        struct lift *l = (struct lift *)c;
        l->done(l->arg, err, &c->e);
        free(l);
}

int service_suppression_lift(struct service *s, const uint8_t pseudonym[PSEUDONYM_BYTES],
                             const char *actor, service_simple_done done, void *arg,
                             struct errinfo *e)
{
        struct lift *l = calloc(1, sizeof *l);
        if (l == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to lift a suppression");
        l->cmd.run = lift_run;
        l->cmd.done = lift_done;
        l->service = s;
        memcpy(l->pseudonym, pseudonym, PSEUDONYM_BYTES);
        (void)snprintf(l->actor, sizeof l->actor, "%s", actor);
        l->done = done;
        l->arg = arg;
        int err = service_submit(s, &l->cmd, HEALTH_ERASES, e);
        if (err != 0)
                free(l);
        return err;
}
