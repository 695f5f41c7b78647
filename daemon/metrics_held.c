/* SPDX-License-Identifier: Apache-2.0
 * metrics_held.c: counts of changes that may not come true. A command counts where it makes its
 * change, inside a transaction that may still fail, with its neighbours' or alone; what it counted
 * is held until that is known. */
#include "daemon/metrics.h"

#include <stdlib.h>

struct metric_count {
        bool observed; /* a histogram's */
        uint32_t which;
        uint64_t n;
        double seconds;
};

static _Thread_local struct metric_held *holder;

void metric_hold(struct metric_held *h)
{
        holder = h;
}

static bool keep(const struct metric_count *c)
{
        struct metric_held *h = holder;
        if (h == NULL)
                return false;
        if (h->count == h->cap) {
                uint32_t cap = h->cap == 0 ? 64 : h->cap * 2;
                struct metric_count *grown = realloc(h->counts, cap * sizeof *grown);
                if (grown == NULL)
                        return false; /* counted at once: better than not at all */
                h->counts = grown;
                h->cap = cap;
        }
        h->counts[h->count++] = *c;
        return true;
}

bool metric_keep_add(enum metric_counter c, uint64_t n)
{
        return keep(&(struct metric_count){.which = c, .n = n});
}

bool metric_keep_observe(enum metric_histogram h, double seconds)
{
        return keep(&(struct metric_count){.observed = true, .which = h, .seconds = seconds});
}

void metric_held_drop(struct metric_held *h, uint32_t count)
{
        h->count = count;
}

void metric_held_end(struct metric_held *h, bool came_true)
{
        for (uint32_t i = 0; i < h->count && came_true; i++) {
                const struct metric_count *c = &h->counts[i];
                if (c->observed)
                        metric_observe((enum metric_histogram)c->which, c->seconds);
                else
                        metric_add((enum metric_counter)c->which, c->n);
        }
        free(h->counts);
        *h = (struct metric_held){0};
}
