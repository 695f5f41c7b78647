/* SPDX-License-Identifier: Apache-2.0
 * plan.c: the arithmetic of plan.h. Pure: it must not know files, models or time.
 *
 * Everything here is a function of the slices' positions and of which of them are empty, so a
 * shard from which records were erased plans what a shard plans that never held them. */
#include "lib/sisa/plan.h"
#include <assert.h>

/* Epochs of stages 1..r: 2 e r / (R + 1), rounded up. Bourtoule et al., sec. IV. */
static uint32_t epochs_through(uint32_t r, uint32_t configured, uint32_t epochs)
{
        uint64_t twice = 2 * (uint64_t)epochs * r;
        return (uint32_t)((twice + configured) / ((uint64_t)configured + 1));
}

static uint32_t at_least_one(uint32_t n)
{
        return n > 0 ? n : 1;
}

uint32_t plan_stages(const uint64_t *live, uint32_t slices, uint32_t configured, uint32_t epochs,
                     uint32_t from, struct plan_stage *out)
{
        assert(configured > 0 && epochs > 0 && from > 0 && from <= slices);
        const uint32_t all = epochs_through(configured, configured, epochs);
        const uint32_t appended =
                at_least_one(all - epochs_through(configured - 1, configured, epochs));
        uint64_t total = 0;
        uint32_t extra = 0; /* non-empty appended slices so far */
        uint32_t n = 0;
        for (uint32_t slice = 1; slice <= slices; slice++) {
                const uint64_t here = live[slice - 1];
                struct plan_stage s = {.slice = slice};
                if (slice <= configured) {
                        s.stage = slice;
                        s.first_epoch = epochs_through(slice - 1, configured, epochs);
                        s.epochs = epochs_through(slice, configured, epochs) - s.first_epoch;
                        if (total == 0 && here > 0) /* fresh parameters are not served untrained */
                                s.epochs = at_least_one(s.epochs);
                } else {
                        s.first_epoch = all + extra * appended;
                        s.epochs = here > 0 ? appended : 0;
                        extra += here > 0;
                        s.stage = configured + extra;
                }
                total += here;
                s.live = total;
                if (slice >= from)
                        out[n++] = s;
        }
        return n;
}

uint64_t plan_cost(const struct plan_stage *stages, uint32_t n)
{
        uint64_t steps = 0;
        for (uint32_t i = 0; i < n; i++)
                steps += stages[i].live * stages[i].epochs;
        return steps;
}
