/* SPDX-License-Identifier: Apache-2.0
 * aggregate.c: joins what the members of a snapshot say. Pure: no allocation, no state.
 *
 * Members are added in their order and each row by itself, so a row's bits depend neither on the
 * rows beside it nor on how many there are. */
#include "lib/sisa/aggregate.h"
#include <assert.h>
#include <string.h>

/* Rounds up, so that the members' own scratch begins on a cache line where ours did. */
static size_t padded(size_t floats)
{
        return (floats + 15) / 16 * 16;
}

size_t aggregate_scratch(struct constituent *const *members, uint32_t count,
                         const struct model_config *c, uint32_t n)
{
        size_t most = 0;
        for (uint32_t i = 0; i < count; i++) {
                size_t one = constituent_scratch(members[i], n);
                most = one > most ? one : most;
        }
        return padded((size_t)n * c->outputs) + most;
}

/* said: [n, outputs] of one member. */
static void add_values(const float *said, size_t values, float *out)
{
        for (size_t i = 0; i < values; i++)
                out[i] += said[i];
}

static void add_votes(const float *said, uint32_t n, uint32_t outputs, float *out)
{
        for (uint32_t row = 0; row < n; row++) {
                const float *p = said + (size_t)row * outputs;
                uint32_t best = 0;
                for (uint32_t k = 1; k < outputs; k++)
                        if (p[k] > p[best]) /* the lowest class wins a tie */
                                best = k;
                out[(size_t)row * outputs + best] += 1.0F;
        }
}

void aggregate_forward(struct constituent *const *members, uint32_t count,
                       const struct model_config *c, const float *x, uint32_t n, float *scratch,
                       float *out)
{
        assert(count > 0);
        const size_t values = (size_t)n * c->outputs;
        const bool vote = c->task == TASK_CLASSIFICATION && c->aggregation == AGGREGATION_VOTE;
        float *said = scratch;
        float *inner = scratch + padded(values);
        memset(out, 0, values * sizeof *out);
        for (uint32_t i = 0; i < count; i++) {
                constituent_forward(members[i], x, n, inner, said);
                if (vote)
                        add_votes(said, n, c->outputs, out);
                else
                        add_values(said, values, out);
        }
        if (vote) { /* a division: full agreement is exactly 1 */
                for (size_t i = 0; i < values; i++)
                        out[i] /= (float)count;
        } else {
                const float share = 1.0F / (float)count;
                for (size_t i = 0; i < values; i++)
                        out[i] *= share;
        }
}
