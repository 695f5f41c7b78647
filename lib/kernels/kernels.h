/* SPDX-License-Identifier: Apache-2.0
 * kernels.h: the arithmetic: BLAS for training, a kernel of our own for serving. Pure functions on
 * plain arrays: no allocation, no globals, no I/O. Legend: n rows of a batch, I inputs, O outputs,
 * ld the floats from one row to the next; all matrices row-major f32; no array need be aligned,
 * and no result depends on alignment.
 *
 * Two rules of bits. (1) Everything but the BLAS products and packed_forward gives the same bits
 * on any CPU, with any vector width, by any compiler: no fused multiply-add, and sums over a row
 * run in 16 fixed lanes. The BLAS products are a function of their inputs and of kernels_name().
 * (2) packed_forward and the row functions give row i the same bits for every n. */
#ifndef UNLEARND_KERNELS_KERNELS_H
#define UNLEARND_KERNELS_KERNELS_H

#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sets one BLAS thread and checks which OpenBLAS was loaded: UL_INTERNAL for the serial build
 * (unsafe in a process that computes on several threads), UL_INVALID for OPENBLAS_CORETYPE set but
 * empty (it would choose another kernel and other bits). */
int kernels_init(struct errinfo *e);
/* openblas_get_corename(), e.g. "SkylakeX". */
const char *kernels_name(void);
/* The vector instructions that packed_forward uses here: "avx512", "avx2", "portable". */
const char *kernels_lanes(void);
/* Whether kernels_init has been called: what trainers assert. */
bool kernels_single_threaded(void);

/* Rows are padded to whole 16-float lanes: the ld of every activation below. */
enum { LANE_FLOATS = 16 };
size_t padded_width(uint32_t width);

/* ---- training: BLAS products ---- */

/* y = x w.  x: [n, I] ldx; w: [I, O]; y: [n, O] ldy. */
void dense_forward(const float *x, size_t ldx, const float *w, uint32_t n, uint32_t in,
                   uint32_t out, float *y, size_t ldy);
/* dx = dy w^T.  dy: [n, O] lddy; dx: [n, I] lddx. */
void dense_backward_input(const float *dy, size_t lddy, const float *w, uint32_t n, uint32_t in,
                          uint32_t out, float *dx, size_t lddx);
/* g = alpha x^T dy + beta g.  g: [I, O]. With alpha = -rate / n and g = w this is the SGD step. */
void dense_backward_weights(const float *x, size_t ldx, const float *dy, size_t lddy, uint32_t n,
                            uint32_t in, uint32_t out, float alpha, float beta, float *g);

/* ---- activations and losses; y: [n, ld], ld a padded_width ---- */

enum activation_kind { LINEAR, RELU, TANH };
/* y = f(y + bias) on the whole padded width; bias: [width] or NULL. */
void activate(float *y, size_t ld, uint32_t n, uint32_t width, const float *bias,
              enum activation_kind f);
/* d *= f'(.), from the activation's own output y; both [n * ld]. */
void activate_backward(float *d, const float *y, size_t floats, enum activation_kind f);
/* Softmax of each row's first `width` values in place; the padding becomes 0. */
void softmax_rows(float *y, size_t ld, uint32_t n, uint32_t width);
/* Logits to softmax - onehot(class), in place. Returns the summed cross entropy. */
double softmax_loss(float *y, size_t ld, const uint32_t *classes, uint32_t n, uint32_t width);
/* y to y - target, in place. targets: [n, width] dense. Returns the sum of (y - target)^2 / 2. */
double squared_loss(float *y, size_t ld, const float *targets, uint32_t n, uint32_t width);
/* sums: [ld] = the column sums of d, added from row 0 on. */
void column_sums(const float *d, size_t ld, uint32_t n, float *sums);

/* exp and tanh as the functions above use them (in place); within 2 and 4 units of the last place.
 */
void exp_floats(float *x, size_t n);
void tanh_floats(float *x, size_t n);

/* ---- updates of n parameters ---- */

/* v += l2 w; w -= rate v. */
void momentum_update(float *w, float *v, size_t n, float l2, float rate);
struct adam_rates {
        float beta1, beta2;
        float correct1, correct2; /* 1 / (1 - beta^t) */
        float epsilon, l2, rate;
};
/* g' = g + l2 w; m, v: the moments (Kingma and Ba, 2015, algorithm 1). */
void adam_update(float *w, const float *g, float *m, float *v, size_t n,
                 const struct adam_rates *r);

/* ---- standardisation: x' = (x - mean) * scale ---- */

/* Adds n rows in order; x: [n, features] dense. The sums start at zero; calls may be split
 * anywhere between rows without a change of bits. */
void moments_add(const float *x, uint32_t n, uint32_t features, double *sum, double *sumsq);
/* Mean and 1 / standard deviation of `rows` rows; scale 1 for a feature that does not vary (a
 * variance under 1e-12 of the mean square is rounding), mean 0 and scale 1 for no rows. */
void moments_finish(const double *sum, const double *sumsq, uint64_t rows, uint32_t features,
                    float *mean, float *scale);
/* Widens low and high [features], which begin at +inf and -inf, to n rows. x: [n, features] dense.
 */
void range_add(const float *x, uint32_t n, uint32_t features, float *low, float *high);
/* Lowers scale so that no fitted row lies further than DEVIATIONS_MAX from the mean: a feature that
 * is nearly always the same has so small a deviation that its few other values would be hundreds of
 * it. One that never varied may do so in later rows, and gets `unit`. */
#define DEVIATIONS_MAX 5.0f
void scale_limit(const float *low, const float *high, uint32_t features, float unit,
                 const float *mean, float *scale);
/* y may be x. Both [n, features] dense. */
void standardise_rows(const float *x, uint32_t n, uint32_t features, const float *mean,
                      const float *scale, float *y);

/* ---- serving: batch invariant by construction ---- */

/* Packed layer: bias [padded O], then panels of 32 outputs (the last may be 16), each [I][32]. */
size_t packed_floats(uint32_t in, uint32_t out);
void packed_fill(const float *w, const float *bias, uint32_t in, uint32_t out, float *packed);
/* y = x w + b on the whole padded width (padding: 0). Every element starts from its bias and adds
 * its products for k = 0, 1, ..., I - 1 in that order, whatever n is; fused on avx512 and avx2,
 * whose bits agree, and rounded twice on "portable". */
void packed_forward(const float *packed, uint32_t in, uint32_t out, const float *x, size_t ldx,
                    uint32_t n, float *y, size_t ldy);

#endif
