/* SPDX-License-Identifier: Apache-2.0
 * mlp.c: dense layers with relu or tanh between them. Weights before a relu start uniform after He
 * et al. (2015), the others after Glorot and Bengio (2010); biases start at zero. */
#include "lib/models/network.h"
#include <math.h>
#include <string.h>

static void mlp_init(const struct model_config *c, const struct model_shape *s, struct prng *rng,
                     float *params)
{
        for (uint32_t i = 0; i < s->layer_count; i++) {
                const struct model_layer *l = &s->layers[i];
                const bool he = network_activation(c, i) == RELU;
                const double fan = he ? (double)l->in : (double)l->in + (double)l->out;
                network_uniform(params + l->weight, (size_t)l->in * l->out, sqrt(6.0 / fan), rng);
                memset(params + l->bias, 0, l->out * sizeof *params);
        }
}

const struct model_ops mlp_ops = {
        .shape = network_shape,
        .init = mlp_init,
        .trainer_create = network_trainer_create,
        .trainer_destroy = network_trainer_destroy,
        .step = network_step,
};
