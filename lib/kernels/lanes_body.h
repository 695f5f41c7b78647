/* SPDX-License-Identifier: Apache-2.0
 * lanes_body.h: the vector code, included once by each lanes_*.c under its own target, with LANES,
 * TILE_ROWS, VEC_FMA and VEC_SQRT defined. It has no include guard on purpose.
 * No multiply and add may fuse outside VEC_FMA, and VEC_FMA is for packed_forward alone: that is
 * what makes all other results the same on every processor. gcc does not fuse under -std=c17;
 * clang is told. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
/* Half a vector of floats, and the same numbers as doubles. */
typedef float half_vec __attribute__((vector_size(2 * LANES)));
typedef double wide_vec __attribute__((vector_size(4 * LANES)));
enum { HALF = LANES / 2, VECS_A_ROW = LANE_FLOATS / LANES };

INLINE vec load(const float *p)
{
        vec v;
        memcpy(&v, p, sizeof v);
        return v;
}

INLINE void store(float *p, vec v)
{
        memcpy(p, &v, sizeof v);
}

/* The first n < LANES floats; the others are 0. */
INLINE vec load_part(const float *p, size_t n)
{
        vec v = {0};
        memcpy(&v, p, n * sizeof *p);
        return v;
}

INLINE void store_part(float *p, vec v, size_t n)
{
        memcpy(p, &v, n * sizeof *p);
}

/* x - 0 is x for every x, -0 among them; x + 0 is not. */
INLINE vec splat(float x)
{
        return x - (vec){0};
}

INLINE vec pick(mask m, vec yes, vec no)
{
        return (vec)((m & (mask)yes) | (~m & (mask)no));
}

/* Comparisons are false for a NaN, so that these pass it on from x. */
INLINE vec at_least(vec x, float low)
{
        return pick(x < splat(low), splat(low), x);
}

INLINE vec at_most(vec x, float high)
{
        return pick(x > splat(high), splat(high), x);
}

/* 2^n e^r with n = round(x / ln 2), r = x - n ln 2 in two steps, e^r by the minimax polynomial of
 * Cephes' expf. Below -87.3 the result would be subnormal and is 0. */
INLINE vec vec_exp(vec x)
{
        const float round = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer */
        const mask tiny = x < splat(-87.3f);
        x = at_most(at_least(x, -87.3f), 88.3f);
        const vec shifted = x * 1.44269504088896341f + round;
        const vec n = shifted - round;
        const vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
        vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * (r * r) + r + 1.0f;
        const bits exponent = (bits)shifted - (bits)splat(round) + 127u;
        return pick(tiny, (vec){0}, p * (vec)(exponent << 23));
}

/* The rational approximation of degree 13 / 6 that Eigen uses, on [-8, 8]; beyond it the value at
 * 8 is within the promised error of 1. */
INLINE vec vec_tanh(vec x)
{
        const vec c = at_most(at_least(x, -7.99881172180175781f), 7.99881172180175781f);
        const vec s = c * c;
        vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
        p = p * s + -8.60467152213735e-11f;
        p = p * s + 5.12229709037114e-08f;
        p = p * s + 1.48572235717979e-05f;
        p = p * s + 6.37261928875436e-04f;
        p = p * s + 4.89352455891786e-03f;
        vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
        q = q * s + 2.26843463243900e-03f;
        q = q * s + 4.89352518554385e-03f;
        const vec t = at_most(at_least(c * p / q, -1.0f), 1.0f);
        const vec small = (vec)((bits)x & 0x7fffffffu);
        return pick(small < splat(0.0004f), x, t);
}

INLINE vec vec_activate(vec y, enum activation_kind f)
{
        return f == RELU ? pick(y > (vec){0}, y, pick(y == y, (vec){0}, y))
                         : (f == TANH ? vec_tanh(y) : y);
}

INLINE void activate_as(float *y, size_t ld, uint32_t n, uint32_t width, const float *bias,
                        enum activation_kind f)
{
        for (size_t c = 0; c < ld; c += LANES) {
                vec b = {0};
                if (bias && c + LANES <= width)
                        b = load(bias + c);
                else if (bias && c < width)
                        b = load_part(bias + c, width - c);
                float *p = y + c;
                for (uint32_t i = 0; i < n; i++, p += ld)
                        store(p, vec_activate(bias ? load(p) + b : load(p), f));
        }
}

static void lane_activate(float *y, size_t ld, uint32_t n, uint32_t width, const float *bias,
                          enum activation_kind f)
{
        if (f == RELU)
                activate_as(y, ld, n, width, bias, RELU);
        else if (f == TANH)
                activate_as(y, ld, n, width, bias, TANH);
        else if (bias)
                activate_as(y, ld, n, width, bias, LINEAR);
}

static void lane_activate_backward(float *d, const float *y, size_t floats, enum activation_kind f)
{
        if (f == RELU) {
                for (size_t i = 0; i < floats; i += LANES)
                        store(d + i, pick(load(y + i) > (vec){0}, load(d + i), (vec){0}));
        } else if (f == TANH) {
                for (size_t i = 0; i < floats; i += LANES) {
                        const vec t = load(y + i);
                        store(d + i, load(d + i) * (1.0f - t * t));
                }
        }
}

/* Halves the 16 lanes until one is left: one order of additions for every LANES. */
INLINE float lane_total(const float lane[LANE_FLOATS])
{
        float s[LANE_FLOATS];
        memcpy(s, lane, sizeof s);
        for (int step = LANE_FLOATS / 2; step > 0; step /= 2)
                for (int i = 0; i < step; i++)
                        s[i] += s[i + step];
        return s[0];
}

INLINE float row_max(const float *row, size_t ld)
{
        vec m = splat(-INFINITY);
        for (size_t c = 0; c < ld; c += LANES) {
                const vec v = load(row + c);
                m = pick(v > m, v, m);
        }
        float top = m[0];
        for (int i = 1; i < LANES; i++)
                top = m[i] > top ? m[i] : top;
        return top;
}

static float lane_softmax_row(float *row, size_t ld, uint32_t width, float *max)
{
        for (size_t c = width; c < ld; c++)
                row[c] = -INFINITY;
        const float top = row_max(row, ld);
        vec acc[VECS_A_ROW] = {{0}};
        for (size_t c = 0; c < ld; c += LANE_FLOATS) {
                UNROLL
                for (int v = 0; v < VECS_A_ROW; v++) {
                        const vec p = vec_exp(load(row + c + v * LANES) - top);
                        store(row + c + v * LANES, p);
                        acc[v] += p;
                }
        }
        float lane[LANE_FLOATS];
        memcpy(lane, acc, sizeof lane);
        const float sum = lane_total(lane);
        const float inverse = 1.0f / sum;
        for (size_t c = 0; c < ld; c += LANES)
                store(row + c, load(row + c) * inverse);
        *max = top;
        return sum;
}

static void lane_column_sums(const float *d, size_t ld, uint32_t n, float *sums)
{
        for (size_t c = 0; c < ld; c += LANES) {
                vec s = {0};
                for (uint32_t i = 0; i < n; i++)
                        s += load(d + i * ld + c);
                store(sums + c, s);
        }
}

static void lane_exp_floats(float *x, size_t n)
{
        size_t i = 0;
        for (; i + LANES <= n; i += LANES)
                store(x + i, vec_exp(load(x + i)));
        store_part(x + i, vec_exp(load_part(x + i, n - i)), n - i);
}

static void lane_tanh_floats(float *x, size_t n)
{
        size_t i = 0;
        for (; i + LANES <= n; i += LANES)
                store(x + i, vec_tanh(load(x + i)));
        store_part(x + i, vec_tanh(load_part(x + i, n - i)), n - i);
}

static void lane_momentum_update(float *w, float *v, size_t n, float l2, float rate)
{
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
                const vec weight = load(w + i);
                const vec velocity = load(v + i) + l2 * weight;
                store(v + i, velocity);
                store(w + i, weight - rate * velocity);
        }
        for (; i < n; i++) {
                v[i] = v[i] + l2 * w[i];
                w[i] = w[i] - rate * v[i];
        }
}

struct adam_vecs {
        vec w, m, v;
};

INLINE struct adam_vecs adam_step(struct adam_vecs a, vec gradient, const struct adam_rates *r)
{
        const vec g = gradient + r->l2 * a.w;
        a.m = r->beta1 * a.m + (1.0f - r->beta1) * g;
        a.v = r->beta2 * a.v + (1.0f - r->beta2) * (g * g);
        a.w = a.w - (r->rate * r->correct1) * a.m / (VEC_SQRT(a.v * r->correct2) + r->epsilon);
        return a;
}

static void lane_adam_update(float *w, const float *g, float *m, float *v, size_t n,
                             const struct adam_rates *r)
{
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
                const struct adam_vecs a = adam_step(
                        (struct adam_vecs){load(w + i), load(m + i), load(v + i)}, load(g + i), r);
                store(w + i, a.w);
                store(m + i, a.m);
                store(v + i, a.v);
        }
        const size_t left = n - i;
        const struct adam_vecs a =
                adam_step((struct adam_vecs){load_part(w + i, left), load_part(m + i, left),
                                             load_part(v + i, left)},
                          load_part(g + i, left), r);
        store_part(w + i, a.w, left);
        store_part(m + i, a.m, left);
        store_part(v + i, a.v, left);
}

static void lane_moments_add(const float *x, uint32_t n, uint32_t features, double *sum,
                             double *sumsq)
{
        for (uint32_t i = 0; i < n; i++, x += features) {
                uint32_t f = 0;
                for (; f + HALF <= features; f += HALF) {
                        half_vec narrow;
                        wide_vec s, q;
                        memcpy(&narrow, x + f, sizeof narrow);
                        memcpy(&s, sum + f, sizeof s);
                        memcpy(&q, sumsq + f, sizeof q);
                        const wide_vec v = __builtin_convertvector(narrow, wide_vec);
                        s += v;
                        q += v * v;
                        memcpy(sum + f, &s, sizeof s);
                        memcpy(sumsq + f, &q, sizeof q);
                }
                for (; f < features; f++) {
                        sum[f] += (double)x[f];
                        sumsq[f] += (double)x[f] * (double)x[f];
                }
        }
}

static void lane_standardise_rows(const float *x, uint32_t n, uint32_t features, const float *mean,
                                  const float *scale, float *y)
{
        for (uint32_t i = 0; i < n; i++, x += features, y += features) {
                uint32_t f = 0;
                for (; f + LANES <= features; f += LANES)
                        store(y + f, (load(x + f) - load(mean + f)) * load(scale + f));
                for (; f < features; f++)
                        y[f] = (x[f] - mean[f]) * scale[f];
        }
}

#include "lib/kernels/lanes_packed.h"

const struct lane_kernels *LANES_TABLE(void)
{
        static const struct lane_kernels table = {
                .name = LANES_NAME,
                .activate = lane_activate,
                .activate_backward = lane_activate_backward,
                .softmax_row = lane_softmax_row,
                .column_sums = lane_column_sums,
                .exp_floats = lane_exp_floats,
                .tanh_floats = lane_tanh_floats,
                .momentum_update = lane_momentum_update,
                .adam_update = lane_adam_update,
                .moments_add = lane_moments_add,
                .standardise_rows = lane_standardise_rows,
                .packed_forward = lane_packed_forward,
        };
        return &table;
}
