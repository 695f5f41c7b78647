/* SPDX-License-Identifier: Apache-2.0
 * The arithmetic: its results against plain references, and above all its bits: the same for every
 * vector width, alignment and number of rows. Invariant 2 (DESIGN.md) rests on these. */
#include "lib/kernels/kernels.h"
#include "lib/kernels/lanes.h"
#include "lib/util/crypto.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the headers above first */
#include <setjmp.h>

#include <cmocka.h>

static float *floats(size_t n)
{
        float *p = calloc(n + LANE_FLOATS, sizeof *p);
        assert_non_null(p);
        return p;
}

static float *noise(size_t n, uint64_t stream, float amplitude)
{
        const uint8_t key[KEY_BYTES] = {7};
        struct prng rng;
        float *p = floats(n);

        prng_init(&rng, key, &stream, 1);
        for (size_t i = 0; i < n; i++)
                p[i] = (prng_float(&rng) - 0.5f) * 2 * amplitude;
        return p;
}

static float *copy(const float *from, size_t n)
{
        float *p = floats(n);
        memcpy(p, from, n * sizeof *p);
        return p;
}

static void same_bits(const float *a, const float *b, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (memcmp(a + i, b + i, sizeof *a))
                        fail_msg("element %zu: %a and %a", i, (double)a[i], (double)b[i]);
}

static void close_to(double a, double b, double tolerance)
{
        if (!(fabs(a - b) <= tolerance))
                fail_msg("%.9g is not %.9g within %.2g", a, b, tolerance);
}

/* ---- functions ---- */

static void exp_is_within_two_units_of_the_last_place(void **state)
{
        (void)state;
        for (double x = -87.2; x < 88.0; x += 0.00137) {
                float y = (float)x;
                const double exact = exp((double)y);
                exp_floats(&y, 1);
                close_to((double)y / exact, 1, 2 * 1.2e-7);
        }
}

static void exp_of_the_extremes(void **state)
{
        float x[] = {0.0f, -0.0f, -INFINITY, -1000.0f, -88.0f, NAN, 88.0f};
        (void)state;
        exp_floats(x, 7);
        assert_true(x[0] == 1 && x[1] == 1 && x[2] == 0 && x[3] == 0 && x[4] == 0);
        assert_true(isnan(x[5]) && isfinite(x[6]));
}

static void tanh_is_within_four_units_of_the_last_place(void **state)
{
        (void)state;
        for (double x = -12; x < 12; x += 0.000913) {
                float y = (float)x;
                const double exact = tanh((double)y);
                tanh_floats(&y, 1);
                assert_true(y >= -1 && y <= 1);
                close_to((double)y, exact, 4 * 1.2e-7 * fabs(exact) + 1e-30);
        }
}

static void tanh_of_the_extremes(void **state)
{
        float x[] = {0.0f, INFINITY, -INFINITY, NAN, 1e-30f, -20.0f};
        (void)state;
        tanh_floats(x, 6);
        assert_true(x[0] == 0 && isnan(x[3]));
        close_to((double)x[1], 1, 4e-7);
        close_to((double)x[2], -1, 4e-7);
        close_to((double)x[5], -1, 4e-7);
        assert_true(x[4] == 1e-30f);
}

/* The golden digest holds for any compiler and processor: a fused multiply-add would break it. */
static void exp_and_tanh_give_the_recorded_bits(void **state)
{
        static const char golden[] =
                "1a5a49ee095d7f443fb7fae8c7eb9f99edff599881ea0a5e13a0d5c8bb9205fc";
        enum { N = 20000 };
        float *x = floats(2 * N);
        uint8_t digest[SHA256_BYTES];
        char text[2 * SHA256_BYTES + 1];

        (void)state;
        for (int i = 0; i < N; i++) {
                x[i] = (float)(i - N / 2) * 0.0078125f;
                x[N + i] = (float)(i - N / 2) * 0.0009765625f;
        }
        exp_floats(x, N);
        tanh_floats(x + N, N);
        sha256(x, 2 * N * sizeof *x, digest);
        assert_string_equal(hex_encode(digest, sizeof digest, text), golden);
        free(x);
}

/* ---- every instruction set, the same bits ---- */

static void each_set_activates_alike(const struct lane_kernels *a, const struct lane_kernels *b)
{
        for (uint32_t width = 1; width < 70; width += 3) {
                const size_t ld = padded_width(width), n = 5 * ld;
                float *bias = noise(width, width, 1);
                for (int f = LINEAR; f <= TANH; f++) {
                        float *y1 = noise(n, 100 + width, 4), *y2 = copy(y1, n);
                        float *d1 = noise(n, 200 + width, 1), *d2 = copy(d1, n);
                        a->activate(y1, ld, 5, width, bias, (enum activation_kind)f);
                        b->activate(y2, ld, 5, width, bias, (enum activation_kind)f);
                        same_bits(y1, y2, n);
                        a->activate_backward(d1, y1, n, (enum activation_kind)f);
                        b->activate_backward(d2, y1, n, (enum activation_kind)f);
                        same_bits(d1, d2, n);
                        a->column_sums(y1, ld, 5, d1);
                        b->column_sums(y1, ld, 5, d2);
                        same_bits(d1, d2, ld);
                        free(y1), free(y2), free(d1), free(d2);
                }
                free(bias);
        }
}

static void each_set_takes_the_same_softmax(const struct lane_kernels *a,
                                            const struct lane_kernels *b)
{
        for (uint32_t width = 1; width <= 1000; width += width < 70 ? 1 : 93) {
                const size_t ld = padded_width(width);
                float *y1 = noise(ld, width, 30), *y2 = copy(y1, ld), m1, m2;
                const float s1 = a->softmax_row(y1, ld, width, &m1);
                const float s2 = b->softmax_row(y2, ld, width, &m2);
                same_bits(y1, y2, ld);
                same_bits(&s1, &s2, 1);
                same_bits(&m1, &m2, 1);
                free(y1), free(y2);
        }
}

static void each_set_updates_alike(const struct lane_kernels *a, const struct lane_kernels *b)
{
        const struct adam_rates r = {0.9f, 0.999f, 5.3f, 501.0f, 1e-8f, 1e-3f, 0.01f};

        for (size_t n = 1; n < 70; n++) {
                float *w1 = noise(n, n, 1), *v1 = noise(n, n + 1, 1), *g = noise(n, n + 2, 1);
                float *w2 = copy(w1, n), *v2 = copy(v1, n), *m1 = copy(g, n), *m2 = copy(g, n);
                a->momentum_update(w1, v1, n, 0.01f, 0.1f);
                b->momentum_update(w2, v2, n, 0.01f, 0.1f);
                same_bits(w1, w2, n);
                same_bits(v1, v2, n);
                for (size_t i = 0; i < n; i++)
                        v1[i] = v2[i] = fabsf(v1[i]);
                a->adam_update(w1, g, m1, v1, n, &r);
                b->adam_update(w2, g, m2, v2, n, &r);
                same_bits(w1, w2, n);
                same_bits(m1, m2, n);
                same_bits(v1, v2, n);
                free(w1), free(w2), free(v1), free(v2), free(m1), free(m2), free(g);
        }
}

static void each_set_standardises_alike(const struct lane_kernels *a, const struct lane_kernels *b)
{
        for (uint32_t f = 1; f < 40; f++) {
                float *x = noise((size_t)7 * f, f, 9), *m = noise(f, f + 1, 1);
                float *y1 = floats((size_t)7 * f), *y2 = floats((size_t)7 * f);
                double s[4][40] = {{0}};
                a->moments_add(x, 7, f, s[0], s[1]);
                b->moments_add(x, 7, f, s[2], s[3]);
                assert_memory_equal(s[0], s[2], sizeof s[0]);
                assert_memory_equal(s[1], s[3], sizeof s[1]);
                a->standardise_rows(x, 7, f, m, m, y1);
                b->standardise_rows(x, 7, f, m, m, y2);
                same_bits(y1, y2, (size_t)7 * f);
                free(x), free(m), free(y1), free(y2);
        }
}

static void every_instruction_set_gives_the_same_bits(void **state)
{
        const struct lane_kernels *sets[LANE_SETS_MAX];
        const int n = lanes_available(sets);

        (void)state;
        assert_ptr_equal(sets[0], lanes_best());
        for (int i = 1; i < n; i++) {
                each_set_activates_alike(sets[0], sets[i]);
                each_set_takes_the_same_softmax(sets[0], sets[i]);
                each_set_updates_alike(sets[0], sets[i]);
                each_set_standardises_alike(sets[0], sets[i]);
        }
}

/* ---- the serving product ---- */

static const struct {
        uint32_t in, out;
} served[] = {{784, 128}, {600, 128}, {128, 2},  {784, 10}, {600, 2},  {64, 10}, {1, 1},    {3, 17},
              {257, 31},  {255, 33},  {512, 48}, {513, 65}, {97, 144}, {5, 100}, {300, 161}};
enum { SERVED = sizeof served / sizeof *served };

/* One element, one order: the definition that packed_forward is held to. */
static float chain(const float *x, const float *w, uint32_t in, uint32_t out, uint32_t o,
                   float bias, bool fused)
{
        volatile float acc = bias;
        for (uint32_t k = 0; k < in; k++) {
                const volatile float product = x[k] * w[(size_t)k * out + o];
                acc = fused ? fmaf(x[k], w[(size_t)k * out + o], acc) : acc + product;
        }
        return acc;
}

static void packed_products_are_chains_over_k(void **state)
{
        const struct lane_kernels *sets[LANE_SETS_MAX];
        const int set_count = lanes_available(sets);
        enum { N = 13 };

        (void)state;
        for (int s = 0; s < SERVED; s++) {
                const uint32_t in = served[s].in, out = served[s].out;
                const size_t ld = padded_width(out);
                float *x = noise((size_t)N * in, 1, 2), *w = noise((size_t)in * out, 2, 1);
                float *bias = noise(out, 3, 1), *packed = floats(packed_floats(in, out));
                float *y = floats(N * ld);
                packed_fill(w, bias, in, out, packed);
                for (int i = 0; i < set_count; i++) {
                        const bool fused = sets[i] != lanes_portable();
                        sets[i]->packed_forward(packed, in, out, x, in, N, y, ld);
                        for (uint32_t r = 0; r < N; r++) {
                                for (uint32_t o = 0; o < ld; o++) {
                                        const float want = o < out ? chain(x + r * in, w, in, out,
                                                                           o, bias[o], fused)
                                                                   : 0;
                                        same_bits(&y[r * ld + o], &want, 1);
                                }
                        }
                }
                free(x), free(w), free(bias), free(packed), free(y);
        }
}

static void a_row_is_the_same_in(const struct lane_kernels *set, uint32_t in, uint32_t out,
                                 const float *packed, const float *x, const float *all, uint32_t n)
{
        const size_t ld = padded_width(out);
        float *y = floats(n * ld);

        set->packed_forward(packed, in, out, x, in, n, y, ld);
        same_bits(y, all, n * ld);
        free(y);
}

static void a_packed_product_does_not_depend_on_the_batch(void **state)
{
        static const uint32_t sizes[] = {65, 127, 128, 834, 1000};
        const struct lane_kernels *sets[LANE_SETS_MAX];
        const int set_count = lanes_available(sets);

        (void)state;
        for (int s = 0; s < SERVED * set_count; s++) {
                const struct lane_kernels *set = sets[s / SERVED];
                const uint32_t in = served[s % SERVED].in, out = served[s % SERVED].out;
                const size_t ld = padded_width(out);
                float *x = noise((size_t)1000 * in, 4, 1), *w = noise((size_t)in * out, 5, 1);
                float *bias = noise(out, 6, 1), *packed = floats(packed_floats(in, out));
                float *one_by_one = floats(1000 * ld);
                packed_fill(w, bias, in, out, packed);
                for (uint32_t i = 0; i < 1000; i++)
                        set->packed_forward(packed, in, out, x + (size_t)i * in, in, 1,
                                            one_by_one + i * ld, ld);
                for (uint32_t n = 1; n <= 64; n++)
                        a_row_is_the_same_in(set, in, out, packed, x, one_by_one, n);
                for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                        a_row_is_the_same_in(set, in, out, packed, x, one_by_one, sizes[i]);
                free(x), free(w), free(bias), free(packed), free(one_by_one);
        }
}

static void a_packed_product_writes_nothing_past_its_rows(void **state)
{
        enum { IN = 30, OUT = 10, LD = 32, N = 7 };
        float *x = noise(N * IN, 1, 1), *w = noise(IN * OUT, 2, 1), *bias = noise(OUT, 3, 1);
        float *packed = floats(packed_floats(IN, OUT)), *y = floats((N + 1) * LD);

        (void)state;
        for (int i = 0; i < (N + 1) * LD; i++)
                y[i] = 77;
        packed_fill(w, bias, IN, OUT, packed);
        packed_forward(packed, IN, OUT, x, IN, N, y, LD);
        for (int i = 0; i < (N + 1) * LD; i++)
                if (i >= N * LD || i % LD >= (int)padded_width(OUT))
                        assert_true(y[i] == 77);
        free(x), free(w), free(bias), free(packed), free(y);
}

/* ---- the training products ---- */

static const struct {
        uint32_t n, in, out;
} trained[] = {{64, 784, 128}, {64, 128, 10}, {16, 600, 128}, {16, 128, 2},
               {1, 784, 128},  {1, 784, 10},  {1, 128, 1},    {7, 33, 1},
               {5, 1, 3},      {32, 64, 10},  {3, 17, 19}};
enum { TRAINED = sizeof trained / sizeof *trained };

static void products_at(const float *x, const float *w, const float *d, int s, size_t shift,
                        float *y, float *dx, float *g)
{
        const uint32_t n = trained[s].n, in = trained[s].in, out = trained[s].out;
        const size_t ld = padded_width(out), ldx = padded_width(in);
        float *x1 = floats(n * in + 64), *w1 = floats((size_t)in * out + 64);
        float *d1 = floats(n * ld + 64), *y1 = floats(n * ld + 64), *dx1 = floats(n * ldx + 64);
        float *g1 = floats((size_t)in * out + 64);

        memcpy(x1 + shift, x, (size_t)n * in * sizeof *x);
        memcpy(w1 + shift, w, (size_t)in * out * sizeof *x);
        memcpy(d1 + shift, d, n * ld * sizeof *x);
        memcpy(g1 + shift, w, (size_t)in * out * sizeof *x);
        dense_forward(x1 + shift, in, w1 + shift, n, in, out, y1 + shift, ld);
        dense_backward_input(d1 + shift, ld, w1 + shift, n, in, out, dx1 + shift, ldx);
        dense_backward_weights(x1 + shift, in, d1 + shift, ld, n, in, out, -0.01f, 0.9f,
                               g1 + shift);
        memcpy(y, y1 + shift, n * ld * sizeof *x);
        memcpy(dx, dx1 + shift, n * ldx * sizeof *x);
        memcpy(g, g1 + shift, (size_t)in * out * sizeof *x);
        free(x1), free(w1), free(d1), free(y1), free(dx1), free(g1);
}

static void check_products(const float *x, const float *w, const float *d, int s, const float *y,
                           const float *dx, const float *g)
{
        const uint32_t n = trained[s].n, in = trained[s].in, out = trained[s].out;
        const size_t ld = padded_width(out), ldx = padded_width(in);

        for (uint32_t i = 0; i < n; i++) {
                for (uint32_t o = 0; o < out; o++) {
                        double sum = 0;
                        for (uint32_t k = 0; k < in; k++)
                                sum += (double)x[i * in + k] * (double)w[k * out + o];
                        close_to((double)y[i * ld + o], sum, 1e-4);
                }
                for (uint32_t k = 0; k < in; k++) {
                        double sum = 0;
                        for (uint32_t o = 0; o < out; o++)
                                sum += (double)d[i * ld + o] * (double)w[k * out + o];
                        close_to((double)dx[i * ldx + k], sum, 1e-4);
                }
        }
        for (uint32_t k = 0; k < in; k++) {
                for (uint32_t o = 0; o < out; o++) {
                        double sum = 0;
                        for (uint32_t i = 0; i < n; i++)
                                sum += (double)x[i * in + k] * (double)d[i * ld + o];
                        close_to((double)g[k * out + o], 0.9 * (double)w[k * out + o] - 0.01 * sum,
                                 1e-4);
                }
        }
}

static void training_products_are_right_and_do_not_depend_on_alignment(void **state)
{
        (void)state;
        for (int s = 0; s < TRAINED; s++) {
                const uint32_t n = trained[s].n, in = trained[s].in, out = trained[s].out;
                const size_t ny = n * padded_width(out), nx = n * padded_width(in);
                const size_t nw = (size_t)in * out;
                float *x = noise(n * in, 1, 1), *w = noise(nw, 2, 1), *d = noise(ny, 3, 1);
                float *y0 = floats(ny), *dx0 = floats(nx), *g0 = floats(nw);
                float *y = floats(ny), *dx = floats(nx), *g = floats(nw);
                products_at(x, w, d, s, 0, y0, dx0, g0);
                check_products(x, w, d, s, y0, dx0, g0);
                for (size_t shift = 1; shift < 17; shift++) {
                        products_at(x, w, d, s, shift, y, dx, g);
                        same_bits(y, y0, ny);
                        same_bits(dx, dx0, nx);
                        same_bits(g, g0, nw);
                }
                free(x), free(w), free(d), free(y0), free(dx0), free(g0), free(y), free(dx);
                free(g);
        }
}

/* ---- losses ---- */

static void softmax_rows_sum_to_one_and_survive_large_logits(void **state)
{
        float y[2 * LANE_FLOATS] = {1000, 1001, 999};

        (void)state;
        y[LANE_FLOATS] = -1e30f, y[LANE_FLOATS + 1] = 3, y[LANE_FLOATS + 2] = 3;
        softmax_rows(y, LANE_FLOATS, 2, 3);
        close_to((double)(y[0] + y[1] + y[2]), 1, 1e-6);
        close_to((double)y[1], exp(1) / (1 + exp(1) + exp(-1)), 1e-6);
        assert_true(y[LANE_FLOATS] == 0);
        close_to((double)y[LANE_FLOATS + 1], 0.5, 1e-7);
        for (int i = 3; i < LANE_FLOATS; i++)
                assert_true(y[i] == 0);
}

static void a_softmax_row_does_not_depend_on_the_batch(void **state)
{
        enum { WIDTH = 21, LD = 32, N = 50 };
        float *all = noise(N * LD, 1, 5), *one = copy(all, N * LD);

        (void)state;
        softmax_rows(all, LD, N, WIDTH);
        for (int i = 0; i < N; i++)
                softmax_rows(one + i * LD, LD, 1, WIDTH);
        same_bits(all, one, N * LD);
        free(all), free(one);
}

/* 200 rows: more than share one logarithm. */
static void cross_entropy_and_its_gradient_match_the_definition(void **state)
{
        enum { WIDTH = 37, LD = 48, N = 200 };
        float *y = noise(N * LD, 9, 10), *z = copy(y, N * LD);
        uint32_t classes[N];
        double want = 0;

        (void)state;
        for (uint32_t i = 0; i < N; i++)
                classes[i] = i * 7 % WIDTH;
        const double loss = softmax_loss(y, LD, classes, N, WIDTH);
        for (uint32_t i = 0; i < N; i++) {
                double sum = 0;
                for (uint32_t c = 0; c < WIDTH; c++)
                        sum += exp((double)z[i * LD + c]);
                want += log(sum) - (double)z[i * LD + classes[i]];
                for (uint32_t c = 0; c < WIDTH; c++)
                        close_to((double)y[i * LD + c],
                                 exp((double)z[i * LD + c]) / sum - (c == classes[i]), 1e-6);
                for (uint32_t c = WIDTH; c < LD; c++)
                        assert_true(y[i * LD + c] == 0);
        }
        close_to(loss, want, 1e-4 * want);
        free(y), free(z);
}

static void squared_loss_is_half_the_sum_of_squares(void **state)
{
        float y[2 * LANE_FLOATS] = {1, 2};
        const float targets[4] = {0, 4, 1, 0};

        (void)state;
        y[LANE_FLOATS] = 1;
        close_to(squared_loss(y, LANE_FLOATS, targets, 2, 2), 2.5, 1e-9);
        assert_true(y[0] == 1 && y[1] == -2 && y[LANE_FLOATS] == 0);
}

static void a_nan_is_not_hidden(void **state)
{
        float y[LANE_FLOATS] = {1, NAN, 2}, r[LANE_FLOATS] = {NAN, -1};

        (void)state;
        softmax_rows(y, LANE_FLOATS, 1, 3);
        assert_true(isnan(y[0]) && isnan(y[1]));
        activate(r, LANE_FLOATS, 1, 2, NULL, RELU);
        assert_true(isnan(r[0]) && r[1] == 0);
}

/* ---- standardisation ---- */

static void moments_do_not_depend_on_where_calls_are_split(void **state)
{
        enum { N = 101, F = 13 };
        float *x = noise(N * F, 11, 3);
        double a[2][F] = {{0}}, b[2][F] = {{0}};

        (void)state;
        moments_add(x, N, F, a[0], a[1]);
        for (uint32_t at = 0, step = 1; at < N; at += step, step = step % 5 + 1) {
                const uint32_t n = N - at < step ? N - at : step;
                moments_add(x + at * F, n, F, b[0], b[1]);
        }
        assert_memory_equal(a, b, sizeof a);
        free(x);
}

static void standardised_rows_have_mean_zero_and_deviation_one(void **state)
{
        enum { N = 500, F = 9 };
        float *x = noise(N * F, 12, 3), mean[F], scale[F];
        double sum[F] = {0}, sumsq[F] = {0};

        (void)state;
        for (int i = 0; i < N; i++)
                x[i * F + 4] = x[i * F + 4] * 1000 + 50000;
        moments_add(x, N, F, sum, sumsq);
        moments_finish(sum, sumsq, N, F, mean, scale);
        standardise_rows(x, N, F, mean, scale, x);
        memset(sum, 0, sizeof sum), memset(sumsq, 0, sizeof sumsq);
        moments_add(x, N, F, sum, sumsq);
        for (int f = 0; f < F; f++) {
                close_to(sum[f] / N, 0, 1e-4);
                close_to(sumsq[f] / N, 1, 1e-4);
        }
        free(x);
}

/* 0.1 and 1.7e9 have rounding in their squares that would pass for a tiny variance. */
static void a_feature_that_does_not_vary_gets_scale_one(void **state)
{
        const float constant[] = {0, 0.1f, -3.3333333f, 1.7e9f, 1e-20f, 3e38f};
        enum { F = 6, N = 1001 };
        double sum[F] = {0}, sumsq[F] = {0};
        float mean[F], scale[F];

        (void)state;
        for (int i = 0; i < N; i++)
                moments_add(constant, 1, F, sum, sumsq);
        moments_finish(sum, sumsq, N, F, mean, scale);
        for (int f = 0; f < F; f++) {
                assert_true(scale[f] == 1);
                close_to((double)mean[f], (double)constant[f], 1e-6 * fabs((double)constant[f]));
        }
}

/* One lit pixel in a thousand images: by its deviation alone, the next one would be at 30. */
static void a_feature_that_hardly_varies_is_not_blown_up(void **state)
{
        enum { N = 1000, F = 3 };
        float *x = noise(N * F, 13, 1), mean[F], scale[F], low[F], high[F];
        double sum[F] = {0}, sumsq[F] = {0}, far = 0;

        (void)state;
        for (int f = 0; f < F; f++)
                low[f] = INFINITY, high[f] = -INFINITY;
        for (int i = 0; i < N; i++) {
                x[i * F + 1] = i == 417 ? 200 : 0;
                x[i * F + 2] = 7;
        }
        moments_add(x, N, F, sum, sumsq);
        range_add(x, 400, F, low, high);
        range_add(x + 400 * F, N - 400, F, low, high);
        assert_true(low[1] == 0 && high[1] == 200 && low[2] == 7 && high[2] == 7);
        moments_finish(sum, sumsq, N, F, mean, scale);
        const float before = scale[0];
        assert_true((200 - mean[1]) * scale[1] > 30);
        scale_limit(low, high, F, 1.0f / 255, mean, scale);
        assert_true(scale[0] == before); /* what varies evenly stays as it was */
        close_to((double)((200 - mean[1]) * scale[1]), 5, 1e-5);
        assert_true(scale[2] == 1.0f / 255);
        standardise_rows(x, N, F, mean, scale, x);
        for (int i = 0; i < N * F; i++)
                far = fmax(far, fabs((double)x[i]));
        assert_in_range((int)ceil(far), 1, 6);
        free(x);
}

static void moments_of_no_rows_are_the_identity(void **state)
{
        double zero[3] = {0};
        float mean[3], scale[3];

        (void)state;
        moments_finish(zero, zero, 0, 3, mean, scale);
        for (int f = 0; f < 3; f++)
                assert_true(mean[f] == 0 && scale[f] == 1);
}

/* ---- start ---- */

static void an_empty_coretype_is_refused(void **state)
{
        struct errinfo e = {0};
        (void)state;
        setenv("OPENBLAS_CORETYPE", "", 1);
        assert_int_equal(kernels_init(&e), UL_INVALID);
        assert_string_equal(e.field, "OPENBLAS_CORETYPE");
        unsetenv("OPENBLAS_CORETYPE");
        assert_int_equal(kernels_init(&e), 0);
}

static void start_leaves_one_blas_thread_and_names_the_kernel(void **state)
{
        (void)state;
        assert_int_equal(kernels_init(NULL), 0);
        assert_true(kernels_single_threaded());
        assert_true(strlen(kernels_name()) > 0 && strlen(kernels_lanes()) > 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_empty_coretype_is_refused),
                cmocka_unit_test(start_leaves_one_blas_thread_and_names_the_kernel),
                cmocka_unit_test(exp_is_within_two_units_of_the_last_place),
                cmocka_unit_test(exp_of_the_extremes),
                cmocka_unit_test(tanh_is_within_four_units_of_the_last_place),
                cmocka_unit_test(tanh_of_the_extremes),
                cmocka_unit_test(exp_and_tanh_give_the_recorded_bits),
                cmocka_unit_test(every_instruction_set_gives_the_same_bits),
                cmocka_unit_test(packed_products_are_chains_over_k),
                cmocka_unit_test(a_packed_product_does_not_depend_on_the_batch),
                cmocka_unit_test(a_packed_product_writes_nothing_past_its_rows),
                cmocka_unit_test(training_products_are_right_and_do_not_depend_on_alignment),
                cmocka_unit_test(softmax_rows_sum_to_one_and_survive_large_logits),
                cmocka_unit_test(a_softmax_row_does_not_depend_on_the_batch),
                cmocka_unit_test(cross_entropy_and_its_gradient_match_the_definition),
                cmocka_unit_test(squared_loss_is_half_the_sum_of_squares),
                cmocka_unit_test(a_nan_is_not_hidden),
                cmocka_unit_test(moments_do_not_depend_on_where_calls_are_split),
                cmocka_unit_test(standardised_rows_have_mean_zero_and_deviation_one),
                cmocka_unit_test(a_feature_that_does_not_vary_gets_scale_one),
                cmocka_unit_test(a_feature_that_hardly_varies_is_not_blown_up),
                cmocka_unit_test(moments_of_no_rows_are_the_identity),
        };
        if (crypto_init())
                return 1;
        return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
