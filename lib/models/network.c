/* SPDX-License-Identifier: Apache-2.0
 * network.c: trains a chain of dense layers: forward, loss, backward and update of one batch.
 * Invariant 2 (DESIGN.md): the new parameters are a function of the old ones, the batch and the
 * optimizer's state alone; nothing here asks for time, addresses or threads.
 * The weights are the largest thing that a step touches, so each is passed over as seldom as the
 * rule allows: plain SGD is folded into the product (w = (1 - rate l2) w - rate/n x^T dy), momentum
 * is accumulated by the product's beta and applied in one more pass.
 *
 *   activations[l]: [batch, ld[l]] output of layer l; the last one becomes the loss gradient
 *   delta[0..1]:    [batch, widest ld] gradients by a hidden layer's output, in turn */
#include "lib/models/network.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
        ALIGNMENT = 64,
        ALIGN_FLOATS = ALIGNMENT / sizeof(float),
        LAYERS_MAX = HIDDEN_LAYERS_MAX + 1
};
#define ADAM_BETA2 0.999
#define ADAM_EPSILON 1e-8f

struct trainer {
        /* set at creation */
        struct model_shape shape;
        enum model_task task;
        enum model_optimizer optimizer;
        enum activation_kind activation;
        uint32_t batch_size;
        double momentum;
        float l2;
        float *params; /* borrowed */

        /* scratch and state: one block, each array 64-byte aligned */
        float *block;
        size_t block_floats;
        size_t ld[LAYERS_MAX];
        float *activations[LAYERS_MAX];
        float *delta[2];
        float *sums;         /* [widest ld]: gradient of a bias */
        float *gradient;     /* [parameters], Adam */
        float *first_moment; /* [parameters], SGD's velocity or Adam's m */
        float *second_moment;

        /* of the running stage */
        double beta1_power, beta2_power; /* beta^t */
};

/* Lays the arrays out; with block NULL it only counts. */
static size_t lay_out(struct trainer *t, float *block)
{
        size_t at = 0, widest = 0;
        const size_t batch = t->batch_size;
        const bool adam = t->optimizer == OPTIMIZER_ADAM;
        const size_t state = t->shape.parameters;
        struct {
                float **array;
                size_t floats;
        } parts[LAYERS_MAX + 6];
        size_t n = 0;

        for (uint32_t l = 0; l < t->shape.layer_count; l++) {
                t->ld[l] = padded_width(t->shape.layers[l].out);
                widest = t->ld[l] > widest ? t->ld[l] : widest;
                parts[n].array = &t->activations[l];
                parts[n++].floats = batch * t->ld[l];
        }
        parts[n].array = &t->sums;
        parts[n++].floats = widest;
        for (uint32_t i = 0; i < 2 && i + 1 < t->shape.layer_count; i++) {
                parts[n].array = &t->delta[i];
                parts[n++].floats = batch * widest;
        }
        if (adam || t->momentum > 0) {
                parts[n].array = &t->first_moment;
                parts[n++].floats = state;
        }
        if (adam) {
                parts[n].array = &t->second_moment;
                parts[n++].floats = state;
                parts[n].array = &t->gradient;
                parts[n++].floats = state;
        }
        for (size_t i = 0; i < n; i++) {
                if (block)
                        *parts[i].array = block + at;
                at += (parts[i].floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
        }
        return at;
}

int network_trainer_create(const struct model_config *c, const struct model_shape *s, float *params,
                           struct trainer **out, struct errinfo *e)
{
        struct trainer *t = calloc(1, sizeof *t);

        assert(kernels_single_threaded()); /* kernels_init comes first */
        *out = NULL;
        if (!t)
                return ul_fail(e, UL_NOMEM, "no memory for a trainer");
        t->shape = *s;
        t->task = c->task;
        t->optimizer = c->optimizer;
        t->activation = network_activation(c, 0);
        t->batch_size = c->batch_size;
        t->momentum = c->momentum;
        t->l2 = (float)c->l2;
        t->params = params;
        t->beta1_power = t->beta2_power = 1;
        t->block_floats = lay_out(t, NULL);
        t->block = aligned_alloc(ALIGNMENT, t->block_floats * sizeof *t->block);
        if (!t->block) {
                free(t);
                return ul_fail(e, UL_NOMEM, "no memory for a trainer's scratch");
        }
        memset(t->block, 0, t->block_floats * sizeof *t->block);
        lay_out(t, t->block);
        *out = t;
        return 0;
}

void network_trainer_destroy(struct trainer **trainer)
{
        struct trainer *t = *trainer;

        if (!t)
                return;
        wipe(t->block, t->block_floats * sizeof *t->block);
        free(t->block);
        free(t);
        *trainer = NULL;
}

static void forward(struct trainer *t, const float *x, uint32_t n)
{
        const uint32_t last = t->shape.layer_count - 1;
        size_t ldx = t->shape.layers[0].in;

        for (uint32_t l = 0; l <= last; l++) {
                const struct model_layer *layer = &t->shape.layers[l];
                float *y = t->activations[l];
                dense_forward(x, ldx, t->params + layer->weight, n, layer->in, layer->out, y,
                              t->ld[l]);
                activate(y, t->ld[l], n, layer->out, t->params + layer->bias,
                         l == last ? LINEAR : t->activation);
                x = y;
                ldx = t->ld[l];
        }
}

/* The last activations become n times the gradient of the mean loss. */
static double loss_gradient(struct trainer *t, const uint32_t *classes, const float *targets,
                            uint32_t n)
{
        const uint32_t last = t->shape.layer_count - 1;
        const uint32_t width = t->shape.layers[last].out;

        return t->task == TASK_REGRESSION
                       ? squared_loss(t->activations[last], t->ld[last], targets, n, width)
                       : softmax_loss(t->activations[last], t->ld[last], classes, n, width);
}

/* What one layer's update is made of. d: [n, ldd], n times the gradient by the layer's output. */
struct layer_step {
        const struct model_layer *layer;
        const float *x;
        size_t ldx;
        const float *d;
        size_t ldd;
        uint32_t n;
        float rate;
};

static void weight_product(const struct layer_step *s, float alpha, float beta, float *g)
{
        dense_backward_weights(s->x, s->ldx, s->d, s->ldd, s->n, s->layer->in, s->layer->out, alpha,
                               beta, g);
}

static void update_plain(struct trainer *t, const struct layer_step *s)
{
        const float per_row = s->rate / (float)s->n;
        float *bias = t->params + s->layer->bias;

        weight_product(s, -per_row, 1.0f - s->rate * t->l2, t->params + s->layer->weight);
        for (uint32_t o = 0; o < s->layer->out; o++)
                bias[o] -= per_row * t->sums[o];
}

static void update_momentum(struct trainer *t, const struct layer_step *s)
{
        const float per_row = 1.0f / (float)s->n, momentum = (float)t->momentum;
        float *bias = t->params + s->layer->bias;
        float *velocity = t->first_moment + s->layer->bias;

        weight_product(s, per_row, momentum, t->first_moment + s->layer->weight);
        momentum_update(t->params + s->layer->weight, t->first_moment + s->layer->weight,
                        (size_t)s->layer->in * s->layer->out, t->l2, s->rate);
        for (uint32_t o = 0; o < s->layer->out; o++) {
                velocity[o] = momentum * velocity[o] + per_row * t->sums[o];
                bias[o] -= s->rate * velocity[o];
        }
}

static void update_adam(struct trainer *t, const struct layer_step *s)
{
        const float per_row = 1.0f / (float)s->n;
        const size_t weight = s->layer->weight, bias = s->layer->bias;
        struct adam_rates r = {
                .beta1 = (float)t->momentum,
                .beta2 = (float)ADAM_BETA2,
                .correct1 = (float)(1 / (1 - t->beta1_power)),
                .correct2 = (float)(1 / (1 - t->beta2_power)),
                .epsilon = ADAM_EPSILON,
                .l2 = t->l2,
                .rate = s->rate,
        };

        weight_product(s, per_row, 0.0f, t->gradient + weight);
        for (uint32_t o = 0; o < s->layer->out; o++)
                t->gradient[bias + o] = per_row * t->sums[o];
        adam_update(t->params + weight, t->gradient + weight, t->first_moment + weight,
                    t->second_moment + weight, bias - weight, &r);
        r.l2 = 0;
        adam_update(t->params + bias, t->gradient + bias, t->first_moment + bias,
                    t->second_moment + bias, s->layer->out, &r);
}

static void update(struct trainer *t, const struct layer_step *s)
{
        column_sums(s->d, s->ldd, s->n, t->sums);
        if (t->optimizer == OPTIMIZER_ADAM)
                update_adam(t, s);
        else if (t->momentum > 0)
                update_momentum(t, s);
        else
                update_plain(t, s);
}

/* From the last layer to the first; a layer's input gradient is taken before its weights change. */
static void backward(struct trainer *t, const float *x, uint32_t n, float rate)
{
        uint32_t l = t->shape.layer_count - 1;
        const float *d = t->activations[l];

        for (;; l--) {
                const struct model_layer *layer = &t->shape.layers[l];
                const struct layer_step s = {
                        .layer = layer,
                        .x = l > 0 ? t->activations[l - 1] : x,
                        .ldx = l > 0 ? t->ld[l - 1] : layer->in,
                        .d = d,
                        .ldd = t->ld[l],
                        .n = n,
                        .rate = rate,
                };
                if (l == 0) {
                        update(t, &s);
                        return;
                }
                float *below = t->delta[(l - 1) % 2];
                dense_backward_input(d, t->ld[l], t->params + layer->weight, n, layer->in,
                                     layer->out, below, t->ld[l - 1]);
                activate_backward(below, s.x, n * t->ld[l - 1], t->activation);
                update(t, &s);
                d = below;
        }
}

float network_step(struct trainer *t, const float *x, const uint32_t *classes, const float *targets,
                   uint32_t n, float learning_rate)
{
        assert(n > 0 && n <= t->batch_size);
        assert((t->task == TASK_REGRESSION) ? targets && !classes : classes && !targets);
        t->beta1_power *= t->momentum;
        t->beta2_power *= ADAM_BETA2;
        forward(t, x, n);
        const double loss = loss_gradient(t, classes, targets, n);
        backward(t, x, n, learning_rate);
        return (float)(loss / (double)n);
}
