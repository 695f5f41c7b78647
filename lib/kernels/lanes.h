/* SPDX-License-Identifier: Apache-2.0
 * lanes.h: private to kernels and its tests: the vector code, one table of functions for each
 * instruction set. The body is lanes_body.h, compiled once a set by lanes_*.c; which table is used
 * depends on the processor alone, never on a batch. It must not know BLAS or models. */
#ifndef UNLEARND_KERNELS_LANES_H
#define UNLEARND_KERNELS_LANES_H

#include "lib/kernels/kernels.h"

struct lane_kernels {
        const char *name;
        void (*activate)(float *y, size_t ld, uint32_t n, uint32_t width, const float *bias,
                         enum activation_kind f);
        void (*activate_backward)(float *d, const float *y, size_t floats, enum activation_kind f);
        /* The softmax of one row in place; returns the sum of its exponentials, *max its maximum.
         */
        float (*softmax_row)(float *row, size_t ld, uint32_t width, float *max);
        void (*column_sums)(const float *d, size_t ld, uint32_t n, float *sums);
        void (*exp_floats)(float *x, size_t n);
        void (*tanh_floats)(float *x, size_t n);
        void (*momentum_update)(float *w, float *v, size_t n, float l2, float rate);
        void (*adam_update)(float *w, const float *g, float *m, float *v, size_t n,
                            const struct adam_rates *r);
        void (*moments_add)(const float *x, uint32_t n, uint32_t features, double *sum,
                            double *sumsq);
        void (*standardise_rows)(const float *x, uint32_t n, uint32_t features, const float *mean,
                                 const float *scale, float *y);
        void (*packed_forward)(const float *packed, uint32_t in, uint32_t out, const float *x,
                               size_t ldx, uint32_t n, float *y, size_t ldy);
};

/* What this processor can run, best first; `count` of them. */
enum { LANE_SETS_MAX = 3 };
const struct lane_kernels *lanes_best(void);
int lanes_available(const struct lane_kernels *out[LANE_SETS_MAX]);

#if defined(__x86_64__)
const struct lane_kernels *lanes_avx512(void);
const struct lane_kernels *lanes_avx2(void);
#endif
const struct lane_kernels *lanes_portable(void);

/* Layout of a packed layer, shared by packed_fill and the kernels. */
enum { PANEL = 32 };
static inline uint32_t panel_width(uint32_t padded, uint32_t first)
{
        return padded - first < PANEL ? padded - first : PANEL;
}

#endif
