/* SPDX-License-Identifier: Apache-2.0
 * schedule.h: which dirty shard is trained next, when, and when a run has to make room: a pure
 * function of what is given, so that a test can let a year pass (tests/unit/test_schedule.c). It
 * knows no store, no clock and no worker.
 *
 * The earliest deadline goes first. A shard waits for the gathering window, so that one retrain
 * serves more erasures, but only while its deadline leaves room for several times the work that is
 * known. Where every worker is busy and waiting for one would cost a deadline that can still be
 * met, the run with the latest deadline is stopped: its finished slices are kept. */
#ifndef UNLEARND_DAEMON_SCHEDULE_H
#define UNLEARND_DAEMON_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum schedule_action { SCHEDULE_WAIT, SCHEDULE_START, SCHEDULE_STOP };
struct schedule_item { /* a dirty shard */
        int64_t dirty_since_ms;
        int64_t deadline_ms; /* the earliest of the erasures that wait; INT64_MAX: none waits */
        int64_t cost_ms;     /* estimate of its retrain, or of what is left of it where it runs */
        uint32_t waiting;    /* erasures */
        uint32_t tag;        /* the caller's; the lower one first where all else is equal */
        bool running;
        bool stopping;               /* it was stopped, and its worker is about to be free */
        enum schedule_action action; /* the answer */
};
struct schedule_rules {
        int64_t gather_ms;
        uint32_t workers;
};

/* Sorts the items by urgency and sets what is to be done with each. Returns when to decide again
 * if nothing happens before; INT64_MAX: never. */
int64_t schedule_decide(struct schedule_item *items, uint32_t count,
                        const struct schedule_rules *rules, int64_t now_ms);

#endif
