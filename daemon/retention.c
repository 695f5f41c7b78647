/* SPDX-License-Identifier: Apache-2.0
 * retention.c: entries of the audit log that are older than retention_months go, once an hour, in
 * bounded steps, each of which says so in the log in its own commit. What may go and what must stay
 * is lib/audit/prune.c's business. */
#include "daemon/loop.h"
#include "daemon/scheduler.h"

#include "lib/audit/note.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdlib.h>

enum {
        PRUNE_STEP = 1024, /* entries of a commit */
        SWEEP_STEP = 4096, /* keys of the index */
};
#define LOOK_US (UINT64_C(3600) * 1000000)
#define AGAIN_US UINT64_C(1000000)

struct prune_command {
        struct loop_command lc;
        uint64_t needed; /* the first entry that has to stay */
        uint64_t from, to;
        bool left; /* keys to sweep */
};

/* Entries that a certificate will be made of stay: those since the oldest erasure under way. */
struct needed {
        struct txn *t;
        uint64_t first;
};

static int on_pending(void *arg, int64_t deadline_ms, const uint8_t id[ULID_BYTES])
{
        struct needed *n = arg;
        struct erasure_row row;
        (void)deadline_ms;
        int err = t_erasure_get(n->t, id, &row, NULL);
        if (err == 0 && row.state == ERASURE_FORGOTTEN && row.audit_index < n->first)
                n->first = row.audit_index;
        return err;
}

/* The first entry that has to stay. Read beside the writer, whom a walk over all that is pending
 * would hold up: what is forgotten after it has an entry after the log's present end. */
static int find_needed(struct store *store, uint64_t *first)
{
        struct needed n = {0};
        int err = store_read(store, &n.t, NULL);
        if (err != 0)
                return err;
        n.first = audit_size(n.t);
        err = t_deadline_each(n.t, false, on_pending, &n);
        if (err == 0)
                err = t_deadline_each(n.t, true, on_pending, &n);
        txn_abort(&n.t);
        *first = n.first;
        return err;
}

static int prune(struct prune_command *c, struct txn *t, int64_t before_ms)
{
        uint64_t first = audit_first(t);
        uint64_t most = c->needed > first ? c->needed - first : 0;
        return audit_prune(t, before_ms, most < PRUNE_STEP ? (uint32_t)most : (uint32_t)PRUNE_STEP,
                           &c->from, &c->to);
}

static int append(struct service *s, struct txn *t, const struct prune_command *c,
                  int64_t before_ms)
{
        struct event ev;
        event_begin(&ev);
        jw_member_u64(&ev.w, "from", c->from);
        jw_member_u64(&ev.w, "to", c->to);
        jw_member_u64(&ev.w, "retention_months", s->config.retention_months);
        jw_member_time(&ev.w, "older_than", before_ms);
        return event_append(&ev, s, t, AUDIT_PRUNED, "unlearnd", NULL, NULL);
}

static int prune_run(struct loop_command *lc, struct txn *t)
{
        struct prune_command *c = (struct prune_command *)lc;
        struct service *s = lc->k->service;
        int64_t before_ms = time_add_months(now_ms(), -(int)s->config.retention_months);
        int err = prune(c, t, before_ms);
        if (err == 0 && c->to > c->from)
                err = append(s, t, c, before_ms);
        CRASH_POINT("retention.pruned");
        if (err == 0 && c->to == c->from) /* the index once, when all that goes has gone */
                err = audit_sweep(t, SWEEP_STEP, &c->left);
        return err;
}

static void prune_back(struct loop_command *lc, int err)
{
        struct prune_command *c = (struct prune_command *)lc;
        struct scheduler *k = lc->k;
        bool more = err == 0 && (c->to > c->from || c->left);
        if (err == 0 && c->to > c->from)
                log_event(LOG_LEVEL_INFO, "audit_pruned", "from=%llu to=%llu",
                          (unsigned long long)c->from, (unsigned long long)c->to);
        k->pruning = false;
        k->prune_us = mono_us() + (more ? 0 : err != 0 ? AGAIN_US : LOOK_US);
        if (more)
                scheduler_wake(k);
        free(c);
}

void retention_pass(struct scheduler *k)
{
        if (k->service->config.retention_months == 0 || k->pruning || mono_us() < k->prune_us)
                return;
        struct prune_command *c = calloc(1, sizeof *c);
        if (c == NULL)
                return; /* at a later look */
        if (find_needed(k->service->store, &c->needed) != 0) {
                free(c);
                k->prune_us = mono_us() + AGAIN_US;
                return;
        }
        c->lc.run = prune_run;
        c->lc.back = prune_back;
        k->pruning = true;
        loop_submit(k, &c->lc);
}
