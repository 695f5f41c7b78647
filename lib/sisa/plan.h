/* SPDX-License-Identifier: Apache-2.0
 * plan.h: a pure function from what a shard holds to the stages that must be trained.
 *
 * Stage r trains on slices 1..r together for e_r epochs; e_r is 2 e / (R + 1) on average
 * (Bourtoule et al. 2021, sec. IV), made whole by cumulative rounding up, so that the first stage
 * always trains. Slices past the configured R were appended by later training runs; where one
 * has no live row its stage changes nothing and is not counted, so that the result is what it
 * would be had the erased records never arrived (invariant 2). A non-empty one trains for as many
 * epochs as the last configured stage. A configured slice that is empty still spends its epochs on
 * slices 1..r: they belong to the position.
 *
 * Few epochs over many slices round some stages to 0. Two never are, so that no constituent serves
 * parameters fresh from the generator and no new data goes unlearned: the stage that brings the
 * shard's first live records, and a non-empty appended one, train for at least one epoch. */
#ifndef UNLEARND_SISA_PLAN_H
#define UNLEARND_SISA_PLAN_H

#include "lib/util/limits.h"
#include <stdbool.h>
#include <stdint.h>

struct plan_stage {
        uint32_t slice;  /* the slice whose checkpoint this stage makes */
        uint32_t stage;  /* effective number: r for r <= R, then R + the count of non-empty appended
                            slices up to this one */
        uint32_t epochs; /* 0: the checkpoint repeats its parent's parameters */
        uint32_t first_epoch; /* of the learning-rate schedule, by position: goes on from the
                                 stages before */
        uint64_t live;        /* live records of slices 1..slice */
};
/* live: [slices] live records of slice i + 1. configured: R. Writes slices - from + 1 stages for
 * slices from..slices and returns their number. */
uint32_t plan_stages(const uint64_t *live, uint32_t slices, uint32_t configured, uint32_t epochs,
                     uint32_t from, struct plan_stage *out);
/* Sample steps (live * epochs summed): the unit of cost estimates and of progress. */
uint64_t plan_cost(const struct plan_stage *stages, uint32_t n);

#endif
