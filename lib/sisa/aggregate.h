/* SPDX-License-Identifier: Apache-2.0
 * aggregate.h: what the constituents say together: the mean of class probabilities, the majority
 * vote (the lowest class wins a tie; probabilities are vote shares), the mean of regression values.
 */
#ifndef UNLEARND_SISA_AGGREGATE_H
#define UNLEARND_SISA_AGGREGATE_H

#include "lib/models/model.h"

/* Scratch floats for n rows. */
size_t aggregate_scratch(struct constituent *const *members, uint32_t count,
                         const struct model_config *c, uint32_t n);
/* x: [n, features]; out: [n, outputs]. count >= 1. Row i's bits depend on row i alone. */
void aggregate_forward(struct constituent *const *members, uint32_t count,
                       const struct model_config *c, const float *x, uint32_t n, float *scratch,
                       float *out);

#endif
