/* SPDX-License-Identifier: Apache-2.0
 * model.h: the one small interface behind which model kinds live. A kind is a table of pure
 * functions over flat parameter arrays; softmax.c and mlp.c are the first two, and a further one
 * touches nothing else. It must not know shards, slices or files. */
#ifndef UNLEARND_MODELS_MODEL_H
#define UNLEARND_MODELS_MODEL_H

#include "lib/models/config.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

/* One dense layer inside the flat parameter array: weight [in, out] row-major, then bias [out]. */
struct model_layer {
        uint32_t in, out;
        size_t weight, bias; /* offsets in floats */
};

/* The shape of a constituent: softmax is one layer, mlp is hidden_count + 1. */
struct model_shape {
        uint32_t layer_count;
        struct model_layer layers[HIDDEN_LAYERS_MAX + 1];
        size_t parameters; /* floats in all */
};

struct trainer; /* scratch memory and optimizer state of one training stage */

struct model_ops {
        void (*shape)(const struct model_config *c, struct model_shape *out);
        /* Fills params from the stream: a function of configuration and stream alone. */
        void (*init)(const struct model_config *c, const struct model_shape *s, struct prng *rng,
                     float *params);
        /* A trainer over `params` (borrowed, changed in place); optimizer state starts at zero.
         * Asserts that kernels_init has been called. UL_NOMEM. */
        int (*trainer_create)(const struct model_config *c, const struct model_shape *s,
                              float *params, struct trainer **out, struct errinfo *e);
        void (*trainer_destroy)(struct trainer **t); /* wipes */
        /* One step on a batch of 1..batch_size rows. x: [n, features] f32 row-major, standardised;
         * exactly one of classes [n] and targets [n, outputs] is given, as the task says. Returns
         * the batch's mean loss before the step: cross entropy, or half the summed squares of a
         * row; not finite once training has diverged. */
        float (*step)(struct trainer *t, const float *x, const uint32_t *classes,
                      const float *targets, uint32_t n, float learning_rate);
};
const struct model_ops *model_ops_of(enum model_kind kind);

/* Serving form of a constituent: standardisation folded into the first layer, weights packed for
 * the batch-invariant kernel. Immutable; shared by snapshots. */
struct constituent;
/* params: [shape.parameters]; mean, scale: [features] (x' = (x - mean) * scale), NULL: identity. */
int constituent_create(const struct model_config *c, const float *params, const float *mean,
                       const float *scale, struct constituent **out, struct errinfo *e);
void constituent_destroy(struct constituent **k); /* wipes the parameters first */
/* Scratch floats that constituent_forward needs for n rows. */
size_t constituent_scratch(const struct constituent *k, uint32_t n);
/* out: [n, outputs]: class probabilities (softmax applied) or regression values. x: [n, features].
 * Row i's bits depend on row i alone, whatever n is (ANCHORS.md, first trap). Thread-safe. */
void constituent_forward(const struct constituent *k, const float *x, uint32_t n, float *scratch,
                         float *out);

#endif
