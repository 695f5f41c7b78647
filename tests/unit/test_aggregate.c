/* SPDX-License-Identifier: Apache-2.0
 * test_aggregate.c: what the constituents say together. The members here are softmax and linear
 * models of one feature whose answers are chosen through their biases. */
#include "lib/kernels/kernels.h"
#include "lib/sisa/aggregate.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CLASSES = 3, MEMBERS_MAX = 16, ROWS_MAX = 70 };

static struct errinfo e;
static struct model_config *config;
static struct constituent *members[MEMBERS_MAX];
static uint32_t count;

static void begin(const char *options)
{
        char text[512];
        int n = snprintf(text, sizeof text,
                         "{\"name\":\"m\",\"kind\":\"softmax\",\"features\":2,%s}", options);
        assert_true(n > 0 && (size_t)n < sizeof text);
        assert_int_equal(model_config_parse(text, (size_t)n, &config, &e), 0);
        count = 0;
}

/* logits or values: weight of the two features [2, outputs], then bias [outputs]. */
static void add_member(const float *params)
{
        assert_true(count < MEMBERS_MAX);
        assert_int_equal(constituent_create(config, params, NULL, NULL, &members[count++], &e), 0);
}

/* A member that gives class k the probability p[k], whatever the row. */
static void add_opinion(float a, float b, float c)
{
        const float params[9] = {0, 0, 0, 0, 0, 0, logf(a), logf(b), logf(c)};
        add_member(params);
}

static void end(void)
{
        for (uint32_t i = 0; i < count; i++)
                constituent_destroy(&members[i]);
        model_config_destroy(&config);
        count = 0;
}

static void ask(const float *x, uint32_t n, float *out)
{
        size_t floats = aggregate_scratch(members, count, config, n);
        float *scratch = aligned_alloc(64, (floats * sizeof(float) + 127) / 64 * 64);
        assert_non_null(scratch);
        memset(scratch, 0xff, floats * sizeof(float)); /* NaNs: nothing may rest on its content */
        memset(out, 0xff, (size_t)n * config->outputs * sizeof *out);
        aggregate_forward(members, count, config, x, n, scratch, out);
        free(scratch);
}

static const float zero[2] = {0, 0};

static void the_mean_of_probabilities_is_taken(void **state)
{
        (void)state;
        float out[CLASSES];
        begin("\"classes\":3");
        add_opinion(0.5F, 0.25F, 0.25F);
        add_opinion(0.1F, 0.8F, 0.1F);
        ask(zero, 1, out);
        assert_float_equal(out[0], 0.3F, 1e-6);
        assert_float_equal(out[1], 0.525F, 1e-6);
        assert_float_equal(out[2], 0.175F, 1e-6);
        end();
}

/* The mean and the vote can differ: one very sure member against two lukewarm ones. */
static void a_vote_counts_members_and_not_their_certainty(void **state)
{
        (void)state;
        float out[CLASSES];
        begin("\"classes\":3,\"aggregation\":\"vote\"");
        add_opinion(0.98F, 0.01F, 0.01F);
        add_opinion(0.3F, 0.4F, 0.3F);
        add_opinion(0.3F, 0.4F, 0.3F);
        ask(zero, 1, out);
        assert_true(out[0] == 1.0F / 3.0F);
        assert_true(out[1] == 2.0F / 3.0F);
        assert_true(out[2] == 0.0F);
        end();
}

static void full_agreement_is_a_vote_of_exactly_one(void **state)
{
        (void)state;
        float out[CLASSES];
        begin("\"classes\":3,\"aggregation\":\"vote\"");
        for (uint32_t i = 0; i < 13; i++) {
                add_opinion(0.2F, 0.2F, 0.6F);
                ask(zero, 1, out);
                assert_true(out[0] == 0.0F && out[1] == 0.0F && out[2] == 1.0F);
        }
        end();
}

static void the_lowest_class_wins_a_tie_within_a_member(void **state)
{
        (void)state;
        const float even[9] = {0};
        float out[CLASSES];
        begin("\"classes\":3,\"aggregation\":\"vote\"");
        add_member(even);
        ask(zero, 1, out);
        assert_true(out[0] == 1.0F && out[1] == 0.0F && out[2] == 0.0F);
        end();
}

static void one_member_speaks_for_itself_bit_for_bit(void **state)
{
        (void)state;
        float out[CLASSES];
        float alone[CLASSES];
        begin("\"classes\":3");
        add_opinion(0.123F, 0.456F, 0.421F);
        ask(zero, 1, out);
        float *scratch = aligned_alloc(64, 4096);
        assert_non_null(scratch);
        assert_true(constituent_scratch(members[0], 1) <= 1024);
        constituent_forward(members[0], zero, 1, scratch, alone);
        free(scratch);
        assert_memory_equal(out, alone, sizeof out);
        end();
}

static void the_mean_of_regression_values_is_taken(void **state)
{
        (void)state;
        const float a[6] = {1, 0, 0, 2, 10, 20}; /* y0 = x0 + 10, y1 = 2 x1 + 20 */
        const float b[6] = {3, 0, 0, 0, -2, 0};
        const float x[4] = {1, 2, -3, 5};
        float out[4];
        begin("\"task\":\"regression\",\"targets\":2");
        add_member(a);
        add_member(b);
        ask(x, 2, out);
        assert_true(out[0] == 6.0F);  /* (11 + 1) / 2 */
        assert_true(out[1] == 12.0F); /* (24 + 0) / 2 */
        assert_true(out[2] == -2.0F); /* (7 - 11) / 2 */
        assert_true(out[3] == 15.0F); /* (30 + 0) / 2 */
        end();
}

static float noise(uint32_t n)
{
        n = n * 2654435761U + 12345;
        return (float)(n >> 8) / (float)(1 << 24) * 6.0F - 3.0F;
}

/* A prediction must not depend on who else asked at the same moment. */
static void a_rows_bits_depend_on_that_row_alone(void **state)
{
        (void)state;
        static const char *const options[] = {"\"classes\":3",
                                              "\"classes\":3,\"aggregation\":\"vote\"",
                                              "\"task\":\"regression\",\"targets\":3"};
        float x[2 * ROWS_MAX];
        float out[CLASSES * ROWS_MAX];
        float alone[CLASSES * ROWS_MAX];
        for (uint32_t i = 0; i < 2 * ROWS_MAX; i++)
                x[i] = noise(i);
        for (size_t o = 0; o < sizeof options / sizeof *options; o++) {
                begin(options[o]);
                for (uint32_t i = 0; i < 7; i++) {
                        float params[9];
                        for (uint32_t k = 0; k < 9; k++)
                                params[k] = noise(1000 + 9 * i + k);
                        add_member(params);
                }
                for (uint32_t i = 0; i < ROWS_MAX; i++)
                        ask(x + (size_t)2 * i, 1, alone + (size_t)CLASSES * i);
                for (uint32_t n = 1; n <= ROWS_MAX; n++) {
                        ask(x, n, out);
                        assert_memory_equal(out, alone, CLASSES * n * sizeof *out);
                        ask(x + (size_t)2 * (ROWS_MAX - n), n, out);
                        assert_memory_equal(out, alone + (size_t)CLASSES * (ROWS_MAX - n),
                                            CLASSES * n * sizeof *out);
                }
                end();
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_mean_of_probabilities_is_taken),
                cmocka_unit_test(a_vote_counts_members_and_not_their_certainty),
                cmocka_unit_test(full_agreement_is_a_vote_of_exactly_one),
                cmocka_unit_test(the_lowest_class_wins_a_tie_within_a_member),
                cmocka_unit_test(one_member_speaks_for_itself_bit_for_bit),
                cmocka_unit_test(the_mean_of_regression_values_is_taken),
                cmocka_unit_test(a_rows_bits_depend_on_that_row_alone),
        };
        if (crypto_init() != 0 || kernels_init(&e) != 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
