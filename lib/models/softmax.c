/* SPDX-License-Identifier: Apache-2.0
 * softmax.c: multinomial logistic regression (or, for task regression, linear regression): one
 * dense layer. It starts at zero, since its loss is convex and has no symmetry to break; the
 * stream is left untouched. */
#include "lib/models/network.h"
#include <string.h>

static void softmax_init(const struct model_config *c, const struct model_shape *s,
                         struct prng *rng, float *params)
{
        (void)c;
        (void)rng;
        memset(params, 0, s->parameters * sizeof *params);
}

const struct model_ops softmax_ops = {
        .shape = network_shape,
        .init = softmax_init,
        .trainer_create = network_trainer_create,
        .trainer_destroy = network_trainer_destroy,
        .step = network_step,
};
