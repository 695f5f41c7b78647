/* SPDX-License-Identifier: Apache-2.0
 * pending.c: erasures from their acceptance to their end, by deadline: what is overdue, said in the
 * log once an erasure and never before or without the commit that notes it, so that neither a
 * restart nor a crash says it again or forgets it. An erasure that ends late without having been
 * noted (nobody ran when the deadline passed) is noted as it ends. It must not know what ends one.
 */
#include "daemon/erasure.h"
#include "daemon/loop.h"
#include "daemon/scheduler.h"
#include "daemon/views.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNTER_PENDING "erasures_pending"
#define COUNTER_OVERDUE "erasures_overdue"
enum { NOTE_STEP = 256, AGAIN_US = 1000000 };

static int count(struct txn *t, const char *name, bool more)
{
        uint64_t n = 0;
        int err = t_counter_get(t, name, &n);
        if (err == 0 && !more && n == 0)
                err = txn_fail(t, UL_CORRUPT);
        return err != 0 ? err : t_counter_put(t, name, more ? n + 1 : n - 1);
}

int pending_begin(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row)
{
        int err = count(t, COUNTER_PENDING, true);
        return err == 0 ? t_deadline_put(t, false, row->deadline_ms, id) : err;
}

static int take_out(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row)
{
        int err = t_deadline_del(t, row->overdue, row->deadline_ms, id);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

int pending_extend(struct txn *t, const uint8_t id[ULID_BYTES], struct erasure_row *row,
                   int64_t deadline_ms)
{
        assert(!row->overdue);
        int err = take_out(t, id, row);
        row->deadline_ms = deadline_ms;
        return err == 0 ? t_deadline_put(t, false, deadline_ms, id) : err;
}

static int append(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                  const struct erasure_row *row)
{
        struct event ev;
        struct audit_keys keys = {.erasure = id, .reference = row->reference};
        event_begin(&ev);
        event_ulid(&ev, "erasure", id);
        jw_member_text(&ev.w, "reference", row->reference);
        jw_member_text(&ev.w, "regulation", regulation_name(row->regulation));
        jw_member_time(&ev.w, "deadline", row->deadline_ms);
        return event_append(&ev, s, t, "erasure.overdue", "unlearnd", &keys, NULL);
}

int pending_end(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                struct erasure_row *row, int64_t ended_ms)
{
        int err = take_out(t, id, row);
        if (err == 0)
                err = count(t, COUNTER_PENDING, false);
        if (err == 0 && row->overdue)
                err = count(t, COUNTER_OVERDUE, false);
        else if (err == 0 && ended_ms > row->deadline_ms) {
                row->overdue = 1;
                err = append(s, t, id, row);
        }
        return err;
}

/* --- noticing --- */

struct due_list {
        int64_t now;
        uint8_t (*id)[ULID_BYTES]; /* [count] */
        uint32_t count, max;
};

/* t_deadline_fn: 1 where the rest is not due, or the list is full. */
static int collect(void *arg, int64_t deadline_ms, const uint8_t id[ULID_BYTES])
{
        struct due_list *l = arg;
        if (deadline_ms >= l->now || l->count == l->max)
                return 1;
        memcpy(l->id[l->count++], id, ULID_BYTES);
        return 0;
}

static int note(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES])
{
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        int err = t_erasure_get(t, id, &row, &affected);
        if (err == 0)
                err = take_out(t, id, &row);
        row.overdue = 1;
        if (err == 0)
                err = t_deadline_put(t, true, row.deadline_ms, id);
        if (err == 0)
                err = t_erasure_put(t, id, &row, affected);
        if (err == 0)
                err = count(t, COUNTER_OVERDUE, true);
        if (err == 0)
                err = append(s, t, id, &row);
        CRASH_POINT("overdue.noted");
        free(affected);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

struct note_command {
        struct loop_command lc;
        uint32_t noted;
};

static int note_run(struct loop_command *lc, struct txn *t)
{
        struct due_list l = {
                .now = now_ms(), .max = NOTE_STEP, .id = malloc(NOTE_STEP * ULID_BYTES)};
        if (l.id == NULL)
                return txn_fail(t, UL_NOMEM);
        int err = t_deadline_each(t, false, collect, &l);
        err = err == 1 ? 0 : err;
        for (uint32_t i = 0; i < l.count && err == 0; i++)
                err = note(lc->k->service, t, l.id[i]);
        ((struct note_command *)lc)->noted = l.count;
        free(l.id);
        return err;
}

static void note_back(struct loop_command *lc, int err)
{
        uint32_t noted = ((struct note_command *)lc)->noted;
        if (err != 0)
                loop_due(lc->k, mono_us() + AGAIN_US);
        else if (noted > 0)
                log_event(LOG_LEVEL_WARN, "erasures_overdue", "more=%u", noted);
        lc->k->noting = false;
        if (err == 0)
                scheduler_wake(lc->k); /* there may be more */
        free(lc);
}

void pending_pass(struct scheduler *k)
{
        struct due_list l = {.now = now_ms(), .max = 1, .id = (uint8_t[1][ULID_BYTES]){{0}}};
        struct txn *t = NULL;
        if (k->noting || store_read(k->service->store, &t, NULL) != 0)
                return;
        (void)t_deadline_each(t, false, collect, &l);
        txn_abort(&t);
        struct note_command *c = l.count > 0 ? calloc(1, sizeof *c) : NULL;
        if (c == NULL)
                return; /* at a later look */
        c->lc.run = note_run;
        c->lc.back = note_back;
        k->noting = true;
        loop_submit(k, &c->lc);
}

/* --- gauges --- */

struct nearest {
        int64_t deadline_ms; /* 0: none */
        int64_t now;
        uint64_t overdue;
};

static int first_of(void *arg, int64_t deadline_ms, const uint8_t id[ULID_BYTES])
{
        struct nearest *n = arg;
        (void)id;
        if (n->deadline_ms == 0 || deadline_ms < n->deadline_ms)
                n->deadline_ms = deadline_ms;
        return 1;
}

static int due_of(void *arg, int64_t deadline_ms, const uint8_t id[ULID_BYTES])
{
        struct nearest *n = arg;
        (void)id;
        n->overdue += deadline_ms < n->now;
        return deadline_ms >= n->now;
}

void pending_gauges(struct txn *t, struct metric_gauges *g)
{
        struct nearest n = {.now = now_ms()};
        (void)t_counter_get(t, COUNTER_PENDING, &g->pending_erasures);
        (void)t_counter_get(t, COUNTER_OVERDUE, &n.overdue);
        (void)t_deadline_each(t, false, due_of, &n); /* not noted yet: those of a moment */
        (void)t_deadline_each(t, true, first_of, &n);
        (void)t_deadline_each(t, false, first_of, &n);
        g->overdue_erasures = n.overdue;
        g->nearest_deadline_seconds =
                n.deadline_ms == 0 ? NAN : (double)(n.deadline_ms - n.now) / 1e3;
}
