/* SPDX-License-Identifier: Apache-2.0
 * Serving: a prediction depends on its own row alone, whatever it is batched with (ANCHORS.md, the
 * first trap), and is what the trained network says about the standardised row. */
#include "lib/kernels/kernels.h"
#include "lib/models/model.h"
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the headers above first */
#include <setjmp.h>

#include <cmocka.h>

enum { MOST = 1000 };

static struct model_config *parsed(const char *text)
{
        struct model_config *c = NULL;
        struct errinfo e = {0};
        if (model_config_parse(text, strlen(text), &c, &e))
                fail_msg("%s: %s %s", text, e.field, e.detail);
        return c;
}

static float *noise(size_t n, uint64_t word, float low, float high)
{
        const uint8_t key[KEY_BYTES] = {5};
        struct prng rng;
        float *p = malloc((n + 1) * sizeof *p);

        assert_non_null(p);
        prng_init(&rng, key, &word, 1);
        for (size_t i = 0; i < n; i++)
                p[i] = low + prng_float(&rng) * (high - low);
        return p;
}

/* A model with random parameters and standardisation. */
struct fixture {
        struct model_config *c;
        struct model_shape s;
        float *params, *mean, *scale;
        struct constituent *k;
};

static void fixture_open(struct fixture *f, const char *text, bool standardise)
{
        f->c = parsed(text);
        model_ops_of(f->c->kind)->shape(f->c, &f->s);
        f->params = noise(f->s.parameters, 1, -0.1f, 0.1f);
        f->mean = noise(f->c->features, 2, -3, 3);
        f->scale = noise(f->c->features, 3, 0.5f, 2);
        assert_int_equal(constituent_create(f->c, f->params, standardise ? f->mean : NULL,
                                            standardise ? f->scale : NULL, &f->k, NULL),
                         0);
}

static void fixture_close(struct fixture *f)
{
        constituent_destroy(&f->k);
        assert_null(f->k);
        constituent_destroy(&f->k);
        free(f->params), free(f->mean), free(f->scale);
        model_config_destroy(&f->c);
}

/* With a scratch of exactly the announced size, so that the sanitizer sees one float more. */
static float *forward(const struct constituent *k, const struct model_config *c, const float *x,
                      uint32_t n)
{
        float *scratch = malloc(constituent_scratch(k, n) * sizeof *scratch);
        float *out = malloc((size_t)n * c->outputs * sizeof *out);

        assert_non_null(scratch);
        assert_non_null(out);
        memset(scratch, 0xff, constituent_scratch(k, n) * sizeof *scratch); /* NaNs */
        constituent_forward(k, x, n, scratch, out);
        free(scratch);
        return out;
}

/* ---- what is said ---- */

static double activation_of(const struct model_config *c, double z)
{
        return c->activation == ACTIVATION_TANH ? tanh(z) : fmax(z, 0);
}

/* Doubles, from the definition; y: [outputs]. */
static void reference(const struct fixture *f, bool standardise, const float *x, double *y)
{
        double in[1024], out[1024], sum = 0;

        for (uint32_t i = 0; i < f->c->features; i++)
                in[i] = standardise ? ((double)x[i] - (double)f->mean[i]) * (double)f->scale[i]
                                    : (double)x[i];
        for (uint32_t l = 0; l < f->s.layer_count; l++) {
                const struct model_layer *k = &f->s.layers[l];
                for (uint32_t o = 0; o < k->out; o++) {
                        double z = (double)f->params[k->bias + o];
                        for (uint32_t i = 0; i < k->in; i++)
                                z += in[i] * (double)f->params[k->weight + i * k->out + o];
                        out[o] = l + 1 < f->s.layer_count ? activation_of(f->c, z) : z;
                }
                memcpy(in, out, sizeof in);
        }
        for (uint32_t o = 0; o < f->c->outputs; o++)
                sum += exp(out[o]);
        for (uint32_t o = 0; o < f->c->outputs; o++)
                y[o] = f->c->task == TASK_REGRESSION ? out[o] : exp(out[o]) / sum;
}

static void says_what_the_network_says(const struct fixture *f, bool standardise, const float *x,
                                       uint32_t n, double tolerance)
{
        float *out = forward(f->k, f->c, x, n);
        double want[1024];

        for (uint32_t i = 0; i < n; i++) {
                reference(f, standardise, x + i * f->c->features, want);
                for (uint32_t o = 0; o < f->c->outputs; o++) {
                        const double got = (double)out[i * f->c->outputs + o];
                        if (!(fabs(got - want[o]) <= tolerance))
                                fail_msg("row %u output %u: %g, not %g", i, o, got, want[o]);
                }
        }
        free(out);
}

static const char *const kinds[] = {
        "{\"kind\":\"mlp\",\"features\":784,\"classes\":10,\"hidden\":[128]}",
        "{\"kind\":\"mlp\",\"features\":600,\"classes\":2,\"hidden\":[128],"
        "\"activation\":\"tanh\"}",
        "{\"kind\":\"softmax\",\"features\":784,\"classes\":10}",
        "{\"kind\":\"softmax\",\"features\":600,\"classes\":2}",
        "{\"kind\":\"softmax\",\"features\":64,\"classes\":10}",
        "{\"kind\":\"mlp\",\"features\":1,\"classes\":2,\"hidden\":[1]}",
        "{\"kind\":\"mlp\",\"features\":257,\"classes\":33,\"hidden\":[31,145,7,64],"
        "\"activation\":\"tanh\"}",
        "{\"kind\":\"mlp\",\"task\":\"regression\",\"features\":93,\"targets\":3,"
        "\"hidden\":[100,16]}",
        "{\"kind\":\"softmax\",\"features\":5,\"classes\":1000}",
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void a_constituent_says_what_the_network_says(void **state)
{
        (void)state;
        for (int i = 0; i < 2 * KINDS; i++) {
                struct fixture f;
                fixture_open(&f, kinds[i / 2], i % 2);
                float *x = noise((size_t)29 * f.c->features, 9, -2, 2);
                says_what_the_network_says(&f, i % 2, x, 29, 1e-4);
                free(x);
                fixture_close(&f);
        }
}

/* Feature 0 is around a million and varies by one: folded, its two halves would cancel. */
static void a_feature_far_from_zero_keeps_its_digits(void **state)
{
        struct fixture f;
        struct constituent *k = NULL;

        (void)state;
        fixture_open(&f, kinds[7], true);
        f.mean[0] = 1e6f;
        f.scale[0] = 10;
        float *x = noise((size_t)29 * f.c->features, 9, -2, 2);
        for (size_t i = 0; i < 29; i++)
                x[i * f.c->features] = 1e6f + (float)i / 16;
        assert_int_equal(constituent_create(f.c, f.params, f.mean, f.scale, &k, NULL), 0);
        constituent_destroy(&f.k);
        f.k = k;
        says_what_the_network_says(&f, true, x, 29, 1e-4);
        free(x);
        fixture_close(&f);
}

static void probabilities_are_probabilities(void **state)
{
        struct fixture f;

        (void)state;
        fixture_open(&f, kinds[8], false);
        float *x = noise(5UL * 7, 4, -1e4f, 1e4f), *out = forward(f.k, f.c, x, 7);
        for (uint32_t i = 0; i < 7; i++) {
                double sum = 0;
                for (uint32_t o = 0; o < 1000; o++) {
                        assert_true(out[i * 1000 + o] >= 0 && out[i * 1000 + o] <= 1);
                        sum += (double)out[i * 1000 + o];
                }
                assert_true(fabs(sum - 1) < 1e-5);
        }
        free(x), free(out);
        fixture_close(&f);
}

/* ---- batch invariance ---- */

static void same_as_alone(const struct fixture *f, const float *x, const float *alone, uint32_t n,
                          uint32_t first)
{
        const size_t outputs = f->c->outputs, bytes = n * outputs * sizeof(float);
        float *out = forward(f->k, f->c, x + (size_t)first * f->c->features, n);

        if (memcmp(out, alone + first * outputs, bytes))
                fail_msg("%s: rows %u + %u differ from the rows alone", kind_name(f->c->kind),
                         first, n);
        free(out);
}

static void rows_are_the_same_in_every_batch(struct fixture *f)
{
        static const uint32_t sizes[] = {65, 95, 96, 97, 127, 128, 834, 1000};
        const size_t outputs = f->c->outputs;
        float *x = noise((size_t)MOST * f->c->features, 6, -2, 2);
        float *alone = malloc(MOST * outputs * sizeof *alone);

        assert_non_null(alone);
        for (uint32_t i = 0; i < MOST; i++) {
                float *one = forward(f->k, f->c, x + (size_t)i * f->c->features, 1);
                memcpy(alone + i * outputs, one, outputs * sizeof *one);
                free(one);
        }
        for (uint32_t n = 1; n <= 64; n++)
                same_as_alone(f, x, alone, n, n * 13);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                same_as_alone(f, x, alone, sizes[i], 0);
        free(x), free(alone);
}

static void a_row_has_the_same_bits_in_every_batch(void **state)
{
        (void)state;
        for (int i = 0; i < 2 * KINDS; i++) {
                struct fixture f;
                fixture_open(&f, kinds[i / 2], i % 2);
                rows_are_the_same_in_every_batch(&f);
                fixture_close(&f);
        }
}

static void a_bad_neighbour_changes_no_other_row(void **state)
{
        struct fixture f;

        (void)state;
        fixture_open(&f, kinds[0], true);
        float *x = noise(20UL * 784, 6, -2, 2);
        float *before = forward(f.k, f.c, x, 20);
        for (size_t i = 0; i < 784; i++)
                x[7 * 784 + i] = i % 2 ? NAN : INFINITY;
        float *after = forward(f.k, f.c, x, 20);
        for (size_t i = 0; i < 20; i++) {
                if (i != 7)
                        assert_memory_equal(before + i * 10, after + i * 10, 10 * sizeof *x);
        }
        free(x), free(before), free(after);
        fixture_close(&f);
}

static void bits_do_not_depend_on_alignment(void **state)
{
        struct fixture f;

        (void)state;
        fixture_open(&f, kinds[1], true);
        const size_t xs = 19UL * 600, scratch_floats = constituent_scratch(f.k, 19);
        float *x = noise(xs, 6, -2, 2), *want = forward(f.k, f.c, x, 19);
        float *moved = malloc((xs + 16) * sizeof *moved), out[19 * 2 + 16];
        float *scratch = malloc((scratch_floats + 16) * sizeof *scratch);
        assert_non_null(moved);
        assert_non_null(scratch);
        for (size_t shift = 0; shift < 16; shift++) {
                memcpy(moved + shift, x, xs * sizeof *x);
                constituent_forward(f.k, moved + shift, 19, scratch + shift, out + shift);
                assert_memory_equal(out + shift, want, 19 * 2 * sizeof *out);
        }
        free(x), free(want), free(moved), free(scratch);
        fixture_close(&f);
}

struct thread_work {
        const struct fixture *f;
        const float *x, *want;
        bool same;
};

static void *forward_often(void *arg)
{
        struct thread_work *w = arg;

        w->same = true;
        for (uint32_t n = 1; n <= 60; n++) {
                float *out = forward(w->f->k, w->f->c, w->x, n);
                w->same = w->same && memcmp(out, w->want, n * 10 * sizeof *out) == 0;
                free(out);
        }
        return NULL;
}

static void two_threads_may_ask_one_constituent(void **state)
{
        struct fixture f;
        struct thread_work work[2];
        pthread_t threads[2];

        (void)state;
        fixture_open(&f, kinds[0], true);
        float *x = noise(60UL * 784, 6, -2, 2), *want = forward(f.k, f.c, x, 60);
        for (int i = 0; i < 2; i++) {
                work[i] = (struct thread_work){&f, x, want, false};
                assert_int_equal(pthread_create(&threads[i], NULL, forward_often, &work[i]), 0);
        }
        for (int i = 0; i < 2; i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                assert_true(work[i].same);
        }
        free(x), free(want);
        fixture_close(&f);
}

static void the_scratch_is_bounded_whatever_the_rows(void **state)
{
        struct fixture f;

        (void)state;
        fixture_open(&f, kinds[0], true);
        assert_true(constituent_scratch(f.k, 1) < constituent_scratch(f.k, 96));
        assert_int_equal(constituent_scratch(f.k, 96), constituent_scratch(f.k, 65536));
        fixture_close(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_constituent_says_what_the_network_says),
                cmocka_unit_test(a_feature_far_from_zero_keeps_its_digits),
                cmocka_unit_test(probabilities_are_probabilities),
                cmocka_unit_test(a_row_has_the_same_bits_in_every_batch),
                cmocka_unit_test(a_bad_neighbour_changes_no_other_row),
                cmocka_unit_test(bits_do_not_depend_on_alignment),
                cmocka_unit_test(two_threads_may_ask_one_constituent),
                cmocka_unit_test(the_scratch_is_bounded_whatever_the_rows),
        };
        if (crypto_init() || kernels_init(NULL))
                return 1;
        return cmocka_run_group_tests_name("constituent", tests, NULL, NULL);
}
