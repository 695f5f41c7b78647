/* SPDX-License-Identifier: Apache-2.0
 * constituent.c: the serving form of a trained network. Rows go through all layers in blocks that
 * fit the cache; packed_forward and the row functions are batch invariant, so blocks, and who else
 * is in one, change no bit.
 * Standardisation is folded into the first layer, in double precision:
 *   sum_k (x_k - m_k) s_k w_ko + b_o = sum_k x_k (s_k w_ko) + (b_o - sum_k m_k s_k w_ko)
 * unless some |m s| is so large that the two sums would cancel more bits than f32 can spare (a year
 * with a deviation of a day); then rows are standardised first, as they were in training. */
#include "lib/kernels/kernels.h"
#include "lib/models/network.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
        ALIGNMENT = 64,
        ALIGN_FLOATS = ALIGNMENT / sizeof(float),
        BLOCK_ROWS = 96,
        FOLD_LIMIT = 1024, /* leaves 14 of 24 bits */
};

struct constituent {
        struct model_shape shape;
        enum activation_kind activation;
        bool probabilities;
        size_t widest;                        /* padded */
        size_t packed[HIDDEN_LAYERS_MAX + 1]; /* offsets into block */
        bool standardise;                     /* mean and scale are in the block: not folded */
        size_t mean, scale;
        float *block;
        size_t block_floats;
};

static bool folds(const float *mean, const float *scale, uint32_t features)
{
        for (uint32_t f = 0; f < features; f++)
                if (!(fabs((double)mean[f] * (double)scale[f]) <= FOLD_LIMIT))
                        return false;
        return true;
}

/* w: [in, out] then bias [out], as in model_layer. bias_wide: [out]. */
static void fold(const struct model_layer *l, const float *params, const float *mean,
                 const float *scale, float *folded, double *bias_wide)
{
        const float *w = params + l->weight, *bias = params + l->bias;
        const size_t bias_at = l->bias - l->weight;

        for (uint32_t o = 0; o < l->out; o++)
                bias_wide[o] = (double)bias[o];
        for (uint32_t k = 0; k < l->in; k++) {
                for (uint32_t o = 0; o < l->out; o++) {
                        const size_t i = (size_t)k * l->out + o;
                        const double scaled = (double)w[i] * (double)scale[k];
                        folded[i] = (float)scaled;
                        /* the f32 that rows will meet, so that x = mean gives the bias again */
                        bias_wide[o] -= (double)mean[k] * (double)folded[i];
                }
        }
        for (uint32_t o = 0; o < l->out; o++)
                folded[bias_at + o] = (float)bias_wide[o];
}

static int pack_folded(struct constituent *k, const float *params, const float *mean,
                       const float *scale, struct errinfo *e)
{
        const struct model_layer *l = &k->shape.layers[0];
        const size_t floats = (size_t)l->in * l->out + l->out;
        float *folded = malloc(floats * sizeof *folded);
        double *bias = malloc(l->out * sizeof *bias);
        int err = 0;

        if (folded && bias) {
                fold(l, params, mean, scale, folded, bias);
                packed_fill(folded, folded + (size_t)l->in * l->out, l->in, l->out,
                            k->block + k->packed[0]);
        } else {
                err = ul_fail(e, UL_NOMEM, "no memory to fold a constituent");
        }
        if (bias)
                wipe(bias, l->out * sizeof *bias);
        if (folded)
                wipe(folded, floats * sizeof *folded);
        free(bias);
        free(folded);
        return err;
}

static size_t take(size_t *at, size_t floats)
{
        const size_t start = *at;
        *at += (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
        return start;
}

static void lay_out(struct constituent *k)
{
        size_t at = 0;

        for (uint32_t l = 0; l < k->shape.layer_count; l++) {
                const struct model_layer *layer = &k->shape.layers[l];
                const size_t padded = padded_width(layer->out);
                k->packed[l] = take(&at, packed_floats(layer->in, layer->out));
                k->widest = padded > k->widest ? padded : k->widest;
        }
        if (k->standardise) {
                k->mean = take(&at, k->shape.layers[0].in);
                k->scale = take(&at, k->shape.layers[0].in);
        }
        k->block_floats = at;
}

static int pack(struct constituent *k, const float *params, const float *mean, const float *scale,
                struct errinfo *e)
{
        const size_t row_bytes = k->shape.layers[0].in * sizeof *mean;
        const bool folded = mean && !k->standardise;

        for (uint32_t l = folded ? 1 : 0; l < k->shape.layer_count; l++) {
                const struct model_layer *layer = &k->shape.layers[l];
                packed_fill(params + layer->weight, params + layer->bias, layer->in, layer->out,
                            k->block + k->packed[l]);
        }
        if (k->standardise) {
                memcpy(k->block + k->mean, mean, row_bytes);
                memcpy(k->block + k->scale, scale, row_bytes);
        }
        return folded ? pack_folded(k, params, mean, scale, e) : 0;
}

int constituent_create(const struct model_config *c, const float *params, const float *mean,
                       const float *scale, struct constituent **out, struct errinfo *e)
{
        struct constituent *k = calloc(1, sizeof *k);
        int err;

        assert(!mean == !scale);
        *out = NULL;
        if (!k)
                return ul_fail(e, UL_NOMEM, "no memory for a constituent");
        model_ops_of(c->kind)->shape(c, &k->shape);
        k->activation = network_activation(c, 0);
        k->probabilities = c->task == TASK_CLASSIFICATION;
        k->standardise = mean && !folds(mean, scale, c->features);
        lay_out(k);
        k->block = aligned_alloc(ALIGNMENT, k->block_floats * sizeof *k->block);
        if (!k->block) {
                free(k);
                return ul_fail(e, UL_NOMEM, "no memory for a constituent's parameters");
        }
        if ((err = pack(k, params, mean, scale, e))) {
                constituent_destroy(&k);
                return err;
        }
        *out = k;
        return 0;
}

void constituent_destroy(struct constituent **constituent)
{
        struct constituent *k = *constituent;

        if (!k)
                return;
        wipe(k->block, k->block_floats * sizeof *k->block);
        free(k->block);
        free(k);
        *constituent = NULL;
}

size_t constituent_scratch(const struct constituent *k, uint32_t n)
{
        const size_t rows = n < BLOCK_ROWS ? n : BLOCK_ROWS;
        const size_t input = k->standardise ? k->shape.layers[0].in : 0;
        return rows * (2 * k->widest + input);
}

/* n <= BLOCK_ROWS. */
static void forward_block(const struct constituent *k, const float *x, uint32_t n, float *scratch,
                          float *out)
{
        const uint32_t last = k->shape.layer_count - 1, features = k->shape.layers[0].in;
        float *const turn[2] = {scratch, scratch + n * k->widest};
        size_t ldx = features, ldy = 0;
        float *y = NULL;

        if (k->standardise) {
                float *input = scratch + 2 * n * k->widest;
                standardise_rows(x, n, features, k->block + k->mean, k->block + k->scale, input);
                x = input;
        }
        for (uint32_t l = 0; l <= last; l++) {
                const struct model_layer *layer = &k->shape.layers[l];
                y = turn[l % 2];
                ldy = padded_width(layer->out);
                packed_forward(k->block + k->packed[l], layer->in, layer->out, x, ldx, n, y, ldy);
                activate(y, ldy, n, layer->out, NULL, l == last ? LINEAR : k->activation);
                x = y;
                ldx = ldy;
        }
        const uint32_t outputs = k->shape.layers[last].out;
        if (k->probabilities)
                softmax_rows(y, ldy, n, outputs);
        for (uint32_t i = 0; i < n; i++)
                memcpy(out + (size_t)i * outputs, y + i * ldy, outputs * sizeof *out);
}

void constituent_forward(const struct constituent *k, const float *x, uint32_t n, float *scratch,
                         float *out)
{
        const size_t features = k->shape.layers[0].in;
        const size_t outputs = k->shape.layers[k->shape.layer_count - 1].out;

        for (uint32_t done = 0; done < n; done += BLOCK_ROWS) {
                const uint32_t rows = n - done < BLOCK_ROWS ? n - done : BLOCK_ROWS;
                forward_block(k, x + done * features, rows, scratch, out + done * outputs);
        }
}
