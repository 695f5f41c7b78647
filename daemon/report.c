/* SPDX-License-Identifier: Apache-2.0
 * report.c: what a regulator asks for of the erasures received in a period (GDPR art. 12(3), 11 CCR
 * 7102): how many, what became of them, in time or not, and how long it took. Counts are exact, and
 * so are medians: every duration is kept, four bytes each, until the report is made. The walk goes
 * in bounded steps, each a read transaction of its own, so a report holds up nobody. It must not
 * know how a report looks. */
#include "daemon/erasure.h"
#include "daemon/state.h"
#include "daemon/views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WALK_STEP = 2000, TIMES = 3, GROUPS = REGULATION_OTHER + 2, TOTAL = GROUPS - 1 };

struct durations {
        float *seconds; /* [count]; four bytes are exact to a second in half a year */
        size_t count, cap;
        double sum;
};

struct report {
        struct service *service;
        int64_t since_ms, until_ms; /* of received_at, both included; 0: open */
        int64_t now;
        bool begun;
        uint8_t before[ULID_BYTES]; /* begun: erasures from here on were seen */
        uint32_t step;
        bool walked;
        uint32_t sorted; /* lists of durations */
        struct durations took[GROUPS][TIMES];
        struct report_group group[GROUPS];
        int err;
};

int service_report_begin(struct service *s, int64_t since_ms, int64_t until_ms, struct report **out,
                         struct errinfo *e)
{
        struct report *r = calloc(1, sizeof *r);
        if (r == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a report");
        r->service = s;
        r->since_ms = since_ms;
        r->until_ms = until_ms;
        r->now = now_ms();
        for (uint32_t i = 0; i < TOTAL; i++)
                r->group[i].regulation = regulation_name((uint8_t)i);
        *out = r;
        return 0;
}

void service_report_free(struct report **pr)
{
        struct report *r = *pr;
        *pr = NULL;
        if (r == NULL)
                return;
        for (uint32_t g = 0; g < GROUPS; g++)
                for (uint32_t k = 0; k < TIMES; k++)
                        free(r->took[g][k].seconds);
        free(r);
}

/* --- counting --- */

static int add_duration(struct durations *d, int64_t from_ms, int64_t to_ms)
{
        double seconds = to_ms > from_ms ? (double)(to_ms - from_ms) / 1e3 : 0;
        if (d->count == d->cap) {
                size_t cap = d->cap == 0 ? 256 : d->cap * 2;
                float *grown = realloc(d->seconds, cap * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                d->seconds = grown;
                d->cap = cap;
        }
        d->seconds[d->count++] = (float)seconds;
        d->sum += seconds;
        return 0;
}

static int add_times(struct durations took[TIMES], const struct erasure_row *row, int64_t ended_ms)
{
        int err = 0;
        if (row->forgotten_ms != 0)
                err = add_duration(&took[0], row->received_ms, row->forgotten_ms);
        if (err == 0 && row->completed_ms != 0)
                err = add_duration(&took[1], row->received_ms, row->completed_ms);
        if (err == 0 && ended_ms != 0)
                err = add_duration(&took[2], row->received_ms, ended_ms);
        return err;
}

static int count_in(struct report *r, uint32_t at, const struct erasure_row *row)
{
        struct report_group *g = &r->group[at];
        int64_t ended_ms = row->completed_ms != 0 ? row->completed_ms : row->refused_ms;
        bool late = (ended_ms != 0 ? ended_ms : r->now) > row->deadline_ms;
        g->received++;
        g->completed += row->state == ERASURE_COMPLETED;
        g->refused += row->state == ERASURE_REFUSED;
        g->pending += ended_ms == 0;
        g->held += row->state == ERASURE_ACCEPTED;
        g->in_time += ended_ms != 0 && !late;
        g->overdue += late;
        g->overdue_pending += ended_ms == 0 && late;
        g->extended += row->extension != 0;
        if (row->refusal < REPORT_REASONS)
                g->refused_for[row->refusal] += row->refusal != 0;
        if (row->extension < REPORT_REASONS)
                g->extended_for[row->extension] += row->extension != 0;
        return add_times(r->took[at], row, ended_ms);
}

/* t_erasure_fn: 1 at the end of a step. */
static int see(void *arg, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
               const struct erasure_affected *affected)
{
        struct report *r = arg;
        (void)affected;
        if (r->step == 0)
                return 1;
        r->step--;
        r->begun = true;
        memcpy(r->before, id, ULID_BYTES);
        if ((r->since_ms != 0 && row->received_ms < r->since_ms) ||
            (r->until_ms != 0 && row->received_ms > r->until_ms))
                return 0;
        r->err = count_in(r, row->regulation, row);
        if (r->err == 0)
                r->err = count_in(r, TOTAL, row);
        return r->err;
}

static int walk(struct report *r, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = told_read(r->service, &t, e);
        if (err != 0)
                return err;
        r->step = WALK_STEP;
        err = t_erasure_each_desc(t, r->begun ? r->before : NULL, see, r);
        txn_abort(&t);
        if (err < 0)
                return ul_fail(e, err, "the erasures cannot be read");
        r->walked = err == 0;
        return 0;
}

/* --- how long it took --- */

static int by_seconds(const void *a, const void *b)
{
        float x = *(const float *)a, y = *(const float *)b;
        return (x > y) - (x < y);
}

/* As the milliseconds were, where four bytes hold them. */
static double to_ms(double seconds)
{
        return round(seconds * 1e3) / 1e3;
}

static void sum_up(struct report *r, uint32_t list)
{
        struct durations *d = &r->took[list / TIMES][list % TIMES];
        struct report_group *g = &r->group[list / TIMES];
        struct report_times *out[TIMES] = {&g->forgotten, &g->completed_in, &g->answered};
        if (d->count == 0)
                return;
        qsort(d->seconds, d->count, sizeof *d->seconds, by_seconds);
        *out[list % TIMES] =
                (struct report_times){.count = d->count,
                                      .median_s = (to_ms((double)d->seconds[(d->count - 1) / 2]) +
                                                   to_ms((double)d->seconds[d->count / 2])) /
                                                  2,
                                      .mean_s = d->sum / (double)d->count,
                                      .worst_s = to_ms((double)d->seconds[d->count - 1])};
        free(d->seconds);
        *d = (struct durations){0};
}

int service_report_step(struct report *r, bool *done, struct errinfo *e)
{
        *done = false;
        if (!r->walked)
                return walk(r, e);
        if (r->sorted < GROUPS * TIMES)
                sum_up(r, r->sorted++);
        *done = r->sorted == GROUPS * TIMES;
        return 0;
}

void service_report_view(const struct report *r, struct report_view *out)
{
        *out = (struct report_view){.since_ms = r->since_ms,
                                    .until_ms = r->until_ms,
                                    .generated_ms = r->now,
                                    .log_name = service_audit_vkey(r->service),
                                    .total = &r->group[TOTAL],
                                    .groups = r->group,
                                    .group_count = TOTAL};
}

const char *service_refusal_reason(uint32_t code)
{
        return reason_name(REASON_REFUSAL, (uint8_t)code);
}

const char *service_extension_reason(uint32_t code)
{
        return reason_name(REASON_EXTENSION, (uint8_t)code);
}
