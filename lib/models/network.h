/* SPDX-License-Identifier: Apache-2.0
 * network.h: private to models: what softmax and mlp share, a chain of dense layers and its
 * trainer. A kind that is no such chain would bring its own and leave this alone. */
#ifndef UNLEARND_MODELS_NETWORK_H
#define UNLEARND_MODELS_NETWORK_H

#include "lib/kernels/kernels.h"
#include "lib/models/model.h"

extern const struct model_ops softmax_ops;
extern const struct model_ops mlp_ops;

/* hidden_count + 1 dense layers, in order, without gaps. */
void network_shape(const struct model_config *c, struct model_shape *out);
/* n values uniform in [-limit, limit). */
void network_uniform(float *w, size_t n, double limit, struct prng *rng);
/* LINEAR for the last layer, else the configured activation. */
enum activation_kind network_activation(const struct model_config *c, uint32_t layer);

int network_trainer_create(const struct model_config *c, const struct model_shape *s, float *params,
                           struct trainer **out, struct errinfo *e);
void network_trainer_destroy(struct trainer **t);
float network_step(struct trainer *t, const float *x, const uint32_t *classes, const float *targets,
                   uint32_t n, float learning_rate);

#endif
