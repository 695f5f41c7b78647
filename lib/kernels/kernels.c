/* SPDX-License-Identifier: Apache-2.0
 * kernels.c: everything of kernels.h that is not a BLAS product: the choice of the vector code by
 * processor, and the loops around it. The choice is asked of the processor on every call (a few
 * loads) rather than kept, so that there is no global to initialise. */
#include "lib/kernels/kernels.h"
#include "lib/kernels/lanes.h"
#include <assert.h>
#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

enum { LOG_EVERY = 64 };

#if defined(__x86_64__)
static bool has_avx512(void)
{
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
}

static bool has_avx2(void)
{
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

const struct lane_kernels *lanes_best(void)
{
#if defined(__x86_64__)
        if (has_avx512())
                return lanes_avx512();
        if (has_avx2())
                return lanes_avx2();
#endif
        return lanes_portable();
}

int lanes_available(const struct lane_kernels *out[LANE_SETS_MAX])
{
        int n = 0;
#if defined(__x86_64__)
        if (has_avx512())
                out[n++] = lanes_avx512();
        if (has_avx2())
                out[n++] = lanes_avx2();
#endif
        out[n++] = lanes_portable();
        return n;
}

const char *kernels_lanes(void)
{
        return lanes_best()->name;
}

size_t padded_width(uint32_t width)
{
        return ((size_t)width + LANE_FLOATS - 1) / LANE_FLOATS * LANE_FLOATS;
}

void activate(float *y, size_t ld, uint32_t n, uint32_t width, const float *bias,
              enum activation_kind f)
{
        assert(ld % LANE_FLOATS == 0 && width <= ld);
        lanes_best()->activate(y, ld, n, width, bias, f);
}

void activate_backward(float *d, const float *y, size_t floats, enum activation_kind f)
{
        assert(floats % LANE_FLOATS == 0);
        lanes_best()->activate_backward(d, y, floats, f);
}

void softmax_rows(float *y, size_t ld, uint32_t n, uint32_t width)
{
        const struct lane_kernels *lanes = lanes_best();
        float max;

        assert(ld == padded_width(width));
        for (uint32_t i = 0; i < n; i++)
                lanes->softmax_row(y + i * ld, ld, width, &max);
}

double softmax_loss(float *y, size_t ld, const uint32_t *classes, uint32_t n, uint32_t width)
{
        const struct lane_kernels *lanes = lanes_best();
        double loss = 0, product = 1;

        assert(ld == padded_width(width));
        for (uint32_t i = 0; i < n; i++) {
                float *row = y + i * ld, max;
                assert(classes[i] < width);
                const float logit = row[classes[i]];
                const float sum = lanes->softmax_row(row, ld, width, &max);
                row[classes[i]] -= 1.0f;
                loss += (double)max - (double)logit;
                /* log(a) + log(b) = log(ab): a sum is at most `width`, so that 64 of them fit a
                 * double and one logarithm serves 64 rows. */
                product *= (double)sum;
                if (i % LOG_EVERY == LOG_EVERY - 1 || i + 1 == n) {
                        loss += log(product);
                        product = 1;
                }
        }
        return loss;
}

double squared_loss(float *y, size_t ld, const float *targets, uint32_t n, uint32_t width)
{
        double loss = 0;
        for (uint32_t i = 0; i < n; i++) {
                float *row = y + i * ld;
                for (uint32_t c = 0; c < width; c++) {
                        row[c] -= targets[(size_t)i * width + c];
                        loss += 0.5 * (double)row[c] * (double)row[c];
                }
        }
        return loss;
}

void column_sums(const float *d, size_t ld, uint32_t n, float *sums)
{
        assert(ld % LANE_FLOATS == 0);
        lanes_best()->column_sums(d, ld, n, sums);
}

void exp_floats(float *x, size_t n)
{
        lanes_best()->exp_floats(x, n);
}

void tanh_floats(float *x, size_t n)
{
        lanes_best()->tanh_floats(x, n);
}

void momentum_update(float *w, float *v, size_t n, float l2, float rate)
{
        lanes_best()->momentum_update(w, v, n, l2, rate);
}

void adam_update(float *w, const float *g, float *m, float *v, size_t n, const struct adam_rates *r)
{
        lanes_best()->adam_update(w, g, m, v, n, r);
}

void moments_add(const float *x, uint32_t n, uint32_t features, double *sum, double *sumsq)
{
        lanes_best()->moments_add(x, n, features, sum, sumsq);
}

void moments_finish(const double *sum, const double *sumsq, uint64_t rows, uint32_t features,
                    float *mean, float *scale)
{
        for (uint32_t f = 0; f < features; f++) {
                const double count = rows > 0 ? (double)rows : 1.0;
                const double m = sum[f] / count;
                const double square = sumsq[f] / count;
                const double variance = square - m * m;
                const float s = (float)(1.0 / sqrt(variance));
                const bool varies = variance > 1e-12 * square && isfinite(s);
                mean[f] = (float)m;
                scale[f] = varies ? s : 1.0f;
        }
}

void range_add(const float *x, uint32_t n, uint32_t features, float *low, float *high)
{
        for (uint32_t i = 0; i < n; i++, x += features)
                for (uint32_t f = 0; f < features; f++) {
                        low[f] = x[f] < low[f] ? x[f] : low[f];
                        high[f] = x[f] > high[f] ? x[f] : high[f];
                }
}

void scale_limit(const float *low, const float *high, uint32_t features, float unit,
                 const float *mean, float *scale)
{
        for (uint32_t f = 0; f < features; f++) {
                const float reach = fmaxf(high[f] - mean[f], mean[f] - low[f]);
                if (low[f] == high[f])
                        scale[f] = unit;
                else if (scale[f] * reach > DEVIATIONS_MAX)
                        scale[f] = DEVIATIONS_MAX / reach;
        }
}

void standardise_rows(const float *x, uint32_t n, uint32_t features, const float *mean,
                      const float *scale, float *y)
{
        lanes_best()->standardise_rows(x, n, features, mean, scale, y);
}

size_t packed_floats(uint32_t in, uint32_t out)
{
        return padded_width(out) * ((size_t)in + 1);
}

void packed_fill(const float *w, const float *bias, uint32_t in, uint32_t out, float *packed)
{
        const uint32_t padded = (uint32_t)padded_width(out);

        memset(packed, 0, packed_floats(in, out) * sizeof *packed);
        memcpy(packed, bias, out * sizeof *packed);
        float *p = packed + padded;
        for (uint32_t first = 0; first < padded; first += PANEL) {
                const uint32_t width = panel_width(padded, first);
                const uint32_t real = out - first < width ? out - first : width;
                for (uint32_t k = 0; k < in; k++, p += width)
                        memcpy(p, w + (size_t)k * out + first, real * sizeof *p);
        }
}

void packed_forward(const float *packed, uint32_t in, uint32_t out, const float *x, size_t ldx,
                    uint32_t n, float *y, size_t ldy)
{
        assert(in > 0 && out > 0 && ldy >= padded_width(out));
        lanes_best()->packed_forward(packed, in, out, x, ldx, n, y, ldy);
}
