/* SPDX-License-Identifier: Apache-2.0
 * test_schedule.c: the scheduler's own decision function (daemon/schedule.c) through a year of
 * erasures with a virtual clock. What could have been met is told by an oracle for every erasure:
 * its shard alone on the machine, with a worker of its own that never waits. Nobody ends earlier:
 * beginning earlier only ever leaves more finished slices behind. A deadline that the oracle meets
 * must be met with two workers and fifteen other shards.
 *
 * Gathering puts work off, which whoever comes then has to wait for. So with a window the oracle is
 * given a shard that is wholly to be trained again when the erasure comes: a deadline that leaves
 * time for that must be met whatever the window. The table that is printed stands in
 * docs/scheduling.md. */
#include "daemon/schedule.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SHARDS = 16, SLICES = 4, WORKERS = 2, ERASURES = 20000 };
#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define YEAR (365 * DAY)
#define SLICE_COST (10 * MINUTE) /* what training one slice takes */

/* --- the year --- */

struct erasure {
        int64_t at, deadline, completed;
        int64_t alone, whole; /* when the oracles complete it */
        uint32_t shard, slice;
};
struct shard {
        uint32_t clean; /* finished slices that hold nothing erased */
        bool running;
        int64_t began; /* the slice that is being trained */
        int64_t dirty_since, deadline;
        uint32_t waiting;
        double misjudged; /* estimates are wrong by this factor */
};
struct year {
        struct erasure *all; /* [ERASURES], by time */
        uint32_t seen;       /* that have come */
        struct shard shard[SHARDS];
        uint32_t workers;
        int64_t now;
        /* what it cost */
        int64_t busy;
        uint64_t retrains, stopped;
};

static uint64_t random_state;

static double uniform(void) /* xorshift64*, Vigna (2016) */
{
        random_state ^= random_state >> 12;
        random_state ^= random_state << 25;
        random_state ^= random_state >> 27;
        return (double)((random_state * UINT64_C(2685821657736338717)) >> 11) / 9007199254740992.0;
}

static int by_time(const void *a, const void *b)
{
        const struct erasure *x = a, *y = b;
        return (x->at > y->at) - (x->at < y->at);
}

/* Most come with what is left of a month; one in ten with hours or less, some with too little. */
static struct erasure *arrivals(uint64_t seed)
{
        struct erasure *all = calloc(ERASURES, sizeof *all);
        assert_non_null(all);
        random_state = seed;
        for (uint32_t i = 0; i < ERASURES; i++) {
                struct erasure *e = &all[i];
                e->at = (int64_t)(uniform() * (double)YEAR);
                double left = uniform() < 0.9 ? uniform() * 29.0 * (double)DAY + (double)DAY
                                              : uniform() * 6.0 * (double)HOUR;
                e->deadline = e->at + (int64_t)left;
                e->shard = (uint32_t)(uniform() * SHARDS);
                e->slice = (uint32_t)(uniform() * SLICES) + 1;
        }
        qsort(all, ERASURES, sizeof *all, by_time);
        return all;
}

static void year_begin(struct year *y, struct erasure *all, uint32_t workers)
{
        *y = (struct year){.all = all, .workers = workers};
        for (uint32_t i = 0; i < SHARDS; i++)
                y->shard[i] = (struct shard){.clean = SLICES,
                                             .deadline = INT64_MAX,
                                             .misjudged = 0.5 + 1.5 * i / (SHARDS - 1)};
}

static void stop(struct year *y, struct shard *s)
{
        y->busy += y->now - s->began;
        y->stopped++;
        s->running = false;
}

/* As roll_back() and the fence do: a run that is touched ends, finished slices below stay. */
static void arrive(struct year *y, const struct erasure *e)
{
        struct shard *s = &y->shard[e->shard];
        if (s->running)
                stop(y, s);
        if (s->clean == SLICES && s->waiting == 0)
                s->dirty_since = y->now;
        if (s->clean >= e->slice)
                s->clean = e->slice - 1;
        if (e->deadline < s->deadline)
                s->deadline = e->deadline;
        s->waiting++;
}

static void slice_ended(struct year *y, uint32_t shard)
{
        struct shard *s = &y->shard[shard];
        y->busy += SLICE_COST;
        s->began = y->now;
        if (++s->clean < SLICES)
                return;
        for (uint32_t i = y->seen; s->waiting > 0 && i-- > 0;) {
                struct erasure *e = &y->all[i];
                if (e->shard == shard && e->completed == 0) {
                        e->completed = y->now;
                        s->waiting--;
                }
        }
        s->running = false;
        s->deadline = INT64_MAX;
        y->retrains++;
}

/* What daemon/pick.c makes of the store. */
static uint32_t items_of(const struct year *y, struct schedule_item items[SHARDS])
{
        uint32_t n = 0;
        for (uint32_t i = 0; i < SHARDS; i++) {
                const struct shard *s = &y->shard[i];
                if (s->clean == SLICES)
                        continue;
                int64_t cost =
                        (SLICES - s->clean) * SLICE_COST - (s->running ? y->now - s->began : 0);
                items[n++] =
                        (struct schedule_item){.dirty_since_ms = s->dirty_since,
                                               .deadline_ms = s->deadline,
                                               .cost_ms = (int64_t)((double)cost * s->misjudged),
                                               .waiting = s->waiting,
                                               .tag = i,
                                               .running = s->running};
        }
        return n;
}

static int64_t decide(struct year *y, int64_t gather)
{
        struct schedule_item items[SHARDS];
        const struct schedule_rules rules = {.gather_ms = gather, .workers = y->workers};
        uint32_t n = items_of(y, items);
        int64_t next = schedule_decide(items, n, &rules, y->now);
        bool stopped = false;
        for (uint32_t i = 0; i < n; i++) {
                struct shard *s = &y->shard[items[i].tag];
                if (items[i].action == SCHEDULE_START) {
                        s->running = true;
                        s->began = y->now;
                } else if (items[i].action == SCHEDULE_STOP) {
                        assert_true(s->running);
                        stop(y, s);
                        stopped = true;
                }
        }
        uint32_t running = 0;
        for (uint32_t i = 0; i < SHARDS; i++)
                running += y->shard[i].running;
        assert_true(running <= y->workers);
        return stopped ? y->now : next;
}

/* The next end of a slice. */
static int64_t next_end(const struct year *y, uint32_t *shard)
{
        int64_t end = INT64_MAX;
        for (uint32_t i = 0; i < SHARDS; i++) {
                if (y->shard[i].running && y->shard[i].began + SLICE_COST < end) {
                        end = y->shard[i].began + SLICE_COST;
                        *shard = i;
                }
        }
        return end;
}

static void simulate(struct year *y, int64_t gather, uint32_t count)
{
        int64_t look = INT64_MAX;
        for (;;) {
                uint32_t shard = 0;
                int64_t end = next_end(y, &shard);
                int64_t arrival = y->seen < count ? y->all[y->seen].at : INT64_MAX;
                int64_t next = end < arrival ? end : arrival;
                next = look < next ? look : next;
                if (next == INT64_MAX)
                        return;
                assert_true(next >= y->now);
                y->now = next;
                if (next == end)
                        slice_ended(y, shard);
                else if (next == arrival)
                        arrive(y, &y->all[y->seen++]);
                look = decide(y, gather);
        }
}

/* The oracle of a shard that is wholly to be trained again when the erasure comes. */
static int64_t after_the_whole_shard(const struct erasure *all, uint32_t i)
{
        int64_t now = all[i].at;
        uint32_t clean = 0;
        for (uint32_t k = i + 1; k < ERASURES && clean < SLICES; k++) {
                if (all[k].shard != all[i].shard)
                        continue;
                int64_t slices = (all[k].at - now) / SLICE_COST;
                if (slices >= SLICES - clean)
                        break;
                clean += (uint32_t)slices;
                now = all[k].at;
                clean = clean >= all[k].slice ? all[k].slice - 1 : clean;
        }
        return now + (SLICES - clean) * SLICE_COST;
}

/* The oracle: the erasures of each shard, alone, with a worker that begins at once. */
static void consult(struct erasure *all)
{
        struct erasure *own = calloc(ERASURES, sizeof *own);
        uint32_t *from = calloc(ERASURES, sizeof *from);
        struct year *y = malloc(sizeof *y);
        assert_true(own != NULL && from != NULL && y != NULL);
        for (uint32_t s = 0; s < SHARDS; s++) {
                uint32_t n = 0;
                for (uint32_t i = 0; i < ERASURES; i++) {
                        if (all[i].shard == s) {
                                from[n] = i;
                                own[n++] = all[i];
                        }
                }
                year_begin(y, own, 1);
                simulate(y, 0, n);
                for (uint32_t i = 0; i < n; i++)
                        all[from[i]].alone = own[i].completed;
        }
        for (uint32_t i = 0; i < ERASURES; i++)
                all[i].whole = after_the_whole_shard(all, i);
        free(own);
        free(from);
        free(y);
}

/* --- what came of it --- */

struct outcome {
        uint64_t retrains, stopped, missed, hopeless, short_of_whole;
        double worker_hours, median_hours, worst_late_hours;
};

static int by_value(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
        return (x > y) - (x < y);
}

static struct outcome run_year(struct erasure *all, int64_t gather)
{
        struct year *y = malloc(sizeof *y);
        int64_t *took = calloc(ERASURES, sizeof *took);
        struct outcome o = {0};
        assert_true(y != NULL && took != NULL);
        for (uint32_t i = 0; i < ERASURES; i++)
                all[i].completed = 0;
        year_begin(y, all, WORKERS);
        simulate(y, gather, ERASURES);
        for (uint32_t i = 0; i < ERASURES; i++) {
                const struct erasure *e = &all[i];
                assert_true(e->completed >= e->alone && e->alone > e->at && e->whole >= e->alone);
                took[i] = e->completed - e->at;
                if (e->completed <= e->deadline)
                        continue;
                double late = (double)(e->completed - e->deadline) / (double)HOUR;
                o.missed++;
                o.hopeless += e->alone > e->deadline;
                o.short_of_whole += e->whole > e->deadline;
                o.worst_late_hours = late > o.worst_late_hours ? late : o.worst_late_hours;
        }
        qsort(took, ERASURES, sizeof *took, by_value);
        o.retrains = y->retrains;
        o.stopped = y->stopped;
        o.worker_hours = (double)y->busy / (double)HOUR;
        o.median_hours = (double)took[ERASURES / 2] / (double)HOUR;
        free(took);
        free(y);
        return o;
}

static void print_row(const char *window, const struct outcome *o)
{
        printf("| %s | %llu | %llu | %.0f | %.1f h | %llu | %llu | %llu | %.1f h |\n", window,
               (unsigned long long)o->retrains, (unsigned long long)o->stopped, o->worker_hours,
               o->median_hours, (unsigned long long)o->missed, (unsigned long long)o->hopeless,
               (unsigned long long)(o->missed - o->hopeless), o->worst_late_hours);
}

static void no_deadline_is_missed_that_could_have_been_met(void **state)
{
        static const struct {
                const char *name;
                int64_t gather;
        } windows[] = {{"none", 0},       {"10 min", 10 * MINUTE}, {"1 h", HOUR},
                       {"6 h", 6 * HOUR}, {"12 h", 12 * HOUR},     {"24 h", DAY}};
        (void)state;
        for (uint64_t seed = 1; seed <= 5; seed++) {
                struct erasure *all = arrivals(seed * UINT64_C(0x9E3779B97F4A7C15));
                double before = 1e18;
                consult(all);
                if (seed == 1)
                        printf("| window | retrains | stopped | worker hours | median to completed "
                               "| missed | nobody could | lost to gathering | worst lateness |\n"
                               "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
                for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
                        struct outcome o = run_year(all, windows[i].gather);
                        uint64_t could = i == 0 ? o.hopeless : o.short_of_whole;
                        if (seed == 1)
                                print_row(windows[i].name, &o);
                        if (o.missed != could)
                                fail_msg("seed %llu, window %s: %llu deadlines missed that could "
                                         "have been met",
                                         (unsigned long long)seed, windows[i].name,
                                         (unsigned long long)(o.missed - could));
                        assert_true(o.hopeless > 10); /* the oracle says no, too */
                        assert_true(o.worker_hours < before);
                        before = o.worker_hours;
                }
                free(all);
        }
}

/* --- single decisions --- */

static const struct schedule_rules one_worker = {.gather_ms = HOUR, .workers = 1};

static struct schedule_item dirty(uint32_t tag, int64_t since, int64_t deadline, int64_t cost)
{
        return (struct schedule_item){.dirty_since_ms = since,
                                      .deadline_ms = deadline,
                                      .cost_ms = cost,
                                      .waiting = 1,
                                      .tag = tag};
}

static void the_earliest_deadline_goes_first_then_most_waiting_then_training(void **state)
{
        struct schedule_rules two = {.workers = 2};
        (void)state;
        struct schedule_item items[] = {dirty(0, 0, INT64_MAX, MINUTE),
                                        dirty(1, 0, 9 * DAY, MINUTE), dirty(2, 0, 8 * DAY, MINUTE),
                                        dirty(3, 0, 9 * DAY, MINUTE)};
        items[0].waiting = 0; /* a training */
        items[3].waiting = 2;
        assert_true(schedule_decide(items, 4, &two, DAY) == INT64_MAX);
        static const uint32_t order[] = {2, 3, 1, 0};
        for (uint32_t i = 0; i < 4; i++) {
                assert_int_equal(items[i].tag, order[i]);
                assert_int_equal(items[i].action, i < 2 ? SCHEDULE_START : SCHEDULE_WAIT);
        }
        assert_true(schedule_decide(NULL, 0, &two, DAY) == INT64_MAX);
}

static void a_shard_gathers_for_the_window_and_no_longer(void **state)
{
        struct schedule_item x = dirty(0, DAY, 30 * DAY, MINUTE);
        (void)state;
        assert_true(schedule_decide(&x, 1, &one_worker, DAY) == DAY + HOUR);
        assert_int_equal(x.action, SCHEDULE_WAIT);
        assert_true(schedule_decide(&x, 1, &one_worker, DAY + HOUR) == INT64_MAX);
        assert_int_equal(x.action, SCHEDULE_START);
        /* a clock that was set back */
        (void)schedule_decide(&x, 1, &one_worker, DAY - 1);
        assert_int_equal(x.action, SCHEDULE_START);
}

static void a_near_deadline_ends_the_gathering(void **state)
{
        struct schedule_item x = dirty(0, DAY, DAY + 6 * HOUR, 10 * MINUTE);
        (void)state;
        int64_t at = schedule_decide(&x, 1, &one_worker, DAY);
        assert_true(at > DAY && at < DAY + HOUR);
        struct schedule_item both[] = {x, dirty(1, DAY, 30 * DAY, 5 * HOUR)};
        (void)schedule_decide(both, 2, &one_worker, DAY); /* much else is known to be done */
        assert_int_equal(both[0].action, SCHEDULE_START);
        assert_int_equal(both[1].action, SCHEDULE_WAIT);
}

static void a_run_makes_room_where_a_deadline_would_be_missed_and_only_there(void **state)
{
        (void)state;
        struct schedule_item urgent = dirty(0, 0, DAY + 3 * HOUR, 20 * MINUTE);
        struct schedule_item runs = dirty(1, 0, 20 * DAY, 5 * HOUR);
        runs.running = true;
        struct schedule_item items[] = {runs, urgent};
        (void)schedule_decide(items, 2, &one_worker, DAY);
        assert_int_equal(items[0].action, SCHEDULE_WAIT); /* its worker is not free yet */
        assert_int_equal(items[1].action, SCHEDULE_STOP);
        items[1].stopping = true;
        (void)schedule_decide(items, 2, &one_worker, DAY);
        assert_int_equal(items[1].action, SCHEDULE_WAIT); /* once */
        items[1].stopping = false;
        items[1].cost_ms = MINUTE; /* it ends soon */
        (void)schedule_decide(items, 2, &one_worker, DAY);
        assert_int_equal(items[1].action, SCHEDULE_WAIT);
        items[1].cost_ms = 5 * HOUR;
        (void)schedule_decide(items, 2, &one_worker, DAY + 3 * HOUR); /* too late anyway */
        assert_int_equal(items[1].action, SCHEDULE_WAIT);
        items[1].deadline_ms = DAY; /* nearer than the one that waits */
        (void)schedule_decide(items, 2, &one_worker, DAY);
        assert_int_equal(items[0].action, SCHEDULE_WAIT);
        assert_true(items[0].running);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_earliest_deadline_goes_first_then_most_waiting_then_training),
                cmocka_unit_test(a_shard_gathers_for_the_window_and_no_longer),
                cmocka_unit_test(a_near_deadline_ends_the_gathering),
                cmocka_unit_test(a_run_makes_room_where_a_deadline_would_be_missed_and_only_there),
                cmocka_unit_test(no_deadline_is_missed_that_could_have_been_met),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
