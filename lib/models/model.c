/* SPDX-License-Identifier: Apache-2.0
 * model.c: the registry of kinds, and the shape that kinds made of dense layers share. */
#include "lib/models/model.h"
#include "lib/models/network.h"
#include <assert.h>

const struct model_ops *model_ops_of(enum model_kind kind)
{
        static const struct model_ops *const kinds[] = {
                [KIND_SOFTMAX] = &softmax_ops,
                [KIND_MLP] = &mlp_ops,
        };
        assert((size_t)kind < sizeof kinds / sizeof *kinds);
        return kinds[kind];
}

void network_shape(const struct model_config *c, struct model_shape *out)
{
        uint32_t in = c->features;
        size_t at = 0;

        *out = (struct model_shape){.layer_count = c->hidden_count + 1};
        for (uint32_t i = 0; i < out->layer_count; i++) {
                struct model_layer *l = &out->layers[i];
                l->in = in;
                l->out = i < c->hidden_count ? c->hidden[i] : c->outputs;
                l->weight = at;
                l->bias = at + (size_t)l->in * l->out;
                at = l->bias + l->out;
                in = l->out;
        }
        out->parameters = at;
}

void network_uniform(float *w, size_t n, double limit, struct prng *rng)
{
        const float width = (float)(2 * limit);
        for (size_t i = 0; i < n; i++)
                w[i] = (prng_float(rng) - 0.5f) * width;
}

enum activation_kind network_activation(const struct model_config *c, uint32_t layer)
{
        if (layer >= c->hidden_count)
                return LINEAR;
        return c->activation == ACTIVATION_TANH ? TANH : RELU;
}
