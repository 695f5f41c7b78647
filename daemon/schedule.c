/* SPDX-License-Identifier: Apache-2.0
 * schedule.c: see schedule.h. */
#include "daemon/schedule.h"

#include <stdlib.h>

/* Estimates are of the past: a shard starts while this many times the known work would fit. */
enum { RESERVE = 4 };

static int by_urgency(const void *a, const void *b)
{
        const struct schedule_item *x = a;
        const struct schedule_item *y = b;
        if (x->deadline_ms != y->deadline_ms)
                return x->deadline_ms < y->deadline_ms ? -1 : 1;
        if (x->waiting != y->waiting)
                return x->waiting > y->waiting ? -1 : 1;
        return x->tag < y->tag ? -1 : x->tag > y->tag;
}

/* Greedy scheduling ends all that is known within work / workers + the longest (Graham, 1966). */
static int64_t reserve(const struct schedule_item *items, uint32_t count, uint32_t workers)
{
        int64_t work = 0;
        int64_t longest = 0;
        for (uint32_t i = 0; i < count; i++) {
                work += items[i].cost_ms;
                if (items[i].cost_ms > longest)
                        longest = items[i].cost_ms;
        }
        return RESERVE * (work / (workers > 0 ? workers : 1) + longest);
}

/* When the item may start; `now` where it may. A deadline that is not several windows away is not
 * gambled with: whoever comes while the shard is trained begins its retrain anew. A clock that was
 * set back opens the window. */
static int64_t start_of(const struct schedule_item *x, const struct schedule_rules *rules,
                        int64_t reserve_ms, int64_t now)
{
        int64_t at = x->dirty_since_ms + rules->gather_ms;
        if (x->waiting == 0 || at - now > rules->gather_ms)
                return now;
        int64_t latest = x->deadline_ms - reserve_ms - RESERVE * rules->gather_ms;
        if (x->deadline_ms != INT64_MAX && latest < at)
                at = latest;
        return at > now ? at : now;
}

/* Until a worker is free, if nothing is stopped; INT64_MAX where none runs. */
static int64_t soonest_free(const struct schedule_item *items, uint32_t count)
{
        int64_t soonest = INT64_MAX;
        for (uint32_t i = 0; i < count; i++)
                if (items[i].running && items[i].cost_ms < soonest)
                        soonest = items[i].cost_ms;
        return soonest;
}

/* The run to stop for x, NULL: none. The items are in order of urgency. */
static struct schedule_item *makes_room(struct schedule_item *items, uint32_t count,
                                        const struct schedule_item *x, int64_t now)
{
        if (x->deadline_ms == INT64_MAX || x->deadline_ms <= now)
                return NULL; /* it is late whatever is done */
        const int64_t free_ms = soonest_free(items, count);
        if (free_ms == INT64_MAX || (x->deadline_ms - now) / RESERVE > free_ms + x->cost_ms)
                return NULL; /* there is nothing to stop, or it can wait */
        for (uint32_t i = count; i-- > 0 && items[i].deadline_ms > x->deadline_ms;)
                if (items[i].running && !items[i].stopping && items[i].action == SCHEDULE_WAIT)
                        return &items[i];
        return NULL;
}

int64_t schedule_decide(struct schedule_item *items, uint32_t count,
                        const struct schedule_rules *rules, int64_t now_ms)
{
        int64_t next = INT64_MAX;
        int64_t reserve_ms = reserve(items, count, rules->workers);
        uint32_t busy = 0;
        uint32_t leaving = 0;
        if (count > 0)
                qsort(items, count, sizeof *items, by_urgency);
        for (uint32_t i = 0; i < count; i++) {
                items[i].action = SCHEDULE_WAIT;
                busy += items[i].running;
                leaving += items[i].running && items[i].stopping;
        }
        for (uint32_t i = 0; i < count; i++) {
                struct schedule_item *x = &items[i];
                if (x->running)
                        continue;
                int64_t at = start_of(x, rules, reserve_ms, now_ms);
                if (at > now_ms) {
                        next = at < next ? at : next;
                } else if (busy < rules->workers) {
                        x->action = SCHEDULE_START;
                        busy++;
                } else if (leaving > 0) {
                        leaving--; /* that worker will be its own */
                } else {
                        struct schedule_item *victim = makes_room(items, count, x, now_ms);
                        if (victim != NULL)
                                victim->action = SCHEDULE_STOP;
                }
        }
        return next;
}
