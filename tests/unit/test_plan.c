/* SPDX-License-Identifier: Apache-2.0
 * test_plan.c: which stages are trained, for how long, under which number: invariant 2 in
 * arithmetic, before any training. */
#include "lib/sisa/plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SLOTS = 64 };

static void epochs_are_those_of_the_paper(void **state)
{
        (void)state;
        const uint64_t live[] = {10, 10, 10, 10};
        struct plan_stage s[4];
        assert_int_equal(plan_stages(live, 4, 4, 20, 1, s), 4);
        for (uint32_t i = 0; i < 4; i++) { /* 2 * 20 / 5 */
                assert_int_equal(s[i].slice, i + 1);
                assert_int_equal(s[i].stage, i + 1);
                assert_int_equal(s[i].epochs, 8);
                assert_int_equal(s[i].first_epoch, 8 * i);
                assert_int_equal(s[i].live, 10 * (i + 1));
        }
        /* Equal slices: the work of 20 epochs over all 40 records. */
        assert_int_equal(plan_cost(s, 4), 20 * 40);
}

static void epochs_that_do_not_divide_are_rounded_up_cumulatively(void **state)
{
        (void)state;
        const uint64_t live[] = {1, 1, 1, 1};
        const uint32_t expected[] = {2, 1, 1, 1}; /* ceil(6 r / 5): 2, 3, 4, 5 */
        struct plan_stage s[4];
        (void)plan_stages(live, 4, 4, 3, 1, s);
        for (uint32_t i = 0; i < 4; i++)
                assert_int_equal(s[i].epochs, expected[i]);
}

static void cumulative_epochs_follow_the_formula_for_every_shape(void **state)
{
        (void)state;
        uint64_t live[SLOTS];
        struct plan_stage s[SLOTS];
        for (uint32_t i = 0; i < SLOTS; i++)
                live[i] = i + 1;
        for (uint32_t configured = 1; configured <= SLOTS; configured++)
                for (uint32_t epochs = 1; epochs <= 200; epochs += epochs < 40 ? 1 : 37) {
                        uint64_t sum = 0;
                        (void)plan_stages(live, configured, configured, epochs, 1, s);
                        assert_true(s[0].epochs > 0);
                        for (uint32_t r = 1; r <= configured; r++) {
                                assert_int_equal(s[r - 1].first_epoch, sum);
                                sum += s[r - 1].epochs;
                                /* sum = ceil(2 e r / (R + 1)), without a division */
                                assert_true(sum * (configured + 1) >= 2 * epochs * r);
                                assert_true((sum - 1) * (configured + 1) < 2 * epochs * r);
                        }
                }
}

static void one_slice_trains_all_epochs(void **state)
{
        (void)state;
        const uint64_t live[] = {7};
        struct plan_stage s[1];
        (void)plan_stages(live, 1, 1, 13, 1, s);
        assert_int_equal(s[0].epochs, 13);
}

static void the_largest_model_does_not_overflow(void **state)
{
        (void)state;
        uint64_t live[SLICES_MAX];
        struct plan_stage s[SLICES_MAX];
        for (uint32_t i = 0; i < SLICES_MAX; i++)
                live[i] = UINT32_MAX / SLICES_MAX;
        (void)plan_stages(live, SLICES_MAX, SLICES_MAX, EPOCHS_MAX, 1, s);
        const struct plan_stage *last = &s[SLICES_MAX - 1];
        assert_int_equal(last->first_epoch + last->epochs, (2 * EPOCHS_MAX * 64 + 64) / 65);
        assert_true(plan_cost(s, SLICES_MAX) > (uint64_t)EPOCHS_MAX * UINT32_MAX / 2);
}

static void a_later_start_plans_the_tail_of_the_whole(void **state)
{
        (void)state;
        const uint64_t live[] = {3, 0, 5, 1, 0, 2, 4};
        struct plan_stage all[7];
        struct plan_stage tail[7];
        (void)plan_stages(live, 7, 4, 10, 1, all);
        for (uint32_t from = 1; from <= 7; from++) {
                memset(tail, 0, sizeof tail);
                assert_int_equal(plan_stages(live, 7, 4, 10, from, tail), 8 - from);
                assert_memory_equal(tail, all + (from - 1), (8 - from) * sizeof *tail);
        }
}

static void an_empty_configured_slice_keeps_its_epochs(void **state)
{
        (void)state;
        const uint64_t live[] = {3, 0, 5};
        struct plan_stage s[3];
        (void)plan_stages(live, 3, 3, 6, 1, s);
        assert_int_equal(s[1].stage, 2);
        assert_int_equal(s[1].epochs, 3);
        assert_int_equal(s[1].live, 3);
        assert_int_equal(s[2].first_epoch, 6);
}

static void an_appended_slice_trains_as_the_last_configured_one(void **state)
{
        (void)state;
        const uint64_t live[] = {2, 2, 2, 1, 1};
        struct plan_stage s[5];
        (void)plan_stages(live, 5, 3, 10, 1, s); /* 5, 5, 5 */
        assert_int_equal(s[3].stage, 4);
        assert_int_equal(s[3].epochs, 5);
        assert_int_equal(s[3].first_epoch, 15);
        assert_int_equal(s[3].live, 7);
        assert_int_equal(s[4].stage, 5);
        assert_int_equal(s[4].first_epoch, 20);
        assert_int_equal(s[4].live, 8);
}

static void an_appended_slice_that_is_empty_is_not_counted(void **state)
{
        (void)state;
        const uint64_t live[] = {2, 2, 0, 3};
        struct plan_stage s[4];
        (void)plan_stages(live, 4, 2, 6, 1, s);
        assert_int_equal(s[2].epochs, 0);
        assert_int_equal(s[2].stage, 2);
        assert_int_equal(s[2].live, 4);
        assert_int_equal(s[3].stage, 3);
        assert_int_equal(s[3].first_epoch, 8);
}

/* Invariant 2: the plan with empty appended slices is the plan of a shard that never had them. */
static void plans_with_and_without_empty_appended_slices_agree(void **state)
{
        (void)state;
        srand(1);
        for (uint32_t round = 0; round < 2000; round++) {
                uint64_t live[SLOTS];
                uint64_t without[SLOTS];
                struct plan_stage a[SLOTS];
                struct plan_stage b[SLOTS];
                uint32_t configured = 1 + (uint32_t)rand() % 6;
                uint32_t slices = configured + (uint32_t)rand() % 8;
                uint32_t epochs = 1 + (uint32_t)rand() % 12;
                uint32_t kept = 0;
                for (uint32_t i = 0; i < slices; i++) {
                        live[i] = rand() % 3 == 0 ? 0 : (uint64_t)(1 + rand() % 9);
                        if (i < configured || live[i] > 0)
                                without[kept++] = live[i];
                }
                (void)plan_stages(live, slices, configured, epochs, 1, a);
                (void)plan_stages(without, kept, configured, epochs, 1, b);
                uint32_t at = 0;
                for (uint32_t i = 0; i < slices; i++) {
                        if (i >= configured && live[i] == 0) {
                                assert_int_equal(a[i].epochs, 0);
                                continue;
                        }
                        assert_int_equal(a[i].stage, b[at].stage);
                        assert_int_equal(a[i].epochs, b[at].epochs);
                        assert_int_equal(a[i].first_epoch, b[at].first_epoch);
                        assert_int_equal(a[i].live, b[at].live);
                        at++;
                }
                assert_int_equal(at, kept);
                assert_int_equal(plan_cost(a, slices), plan_cost(b, kept));
        }
}

static void stages_without_an_epoch_exist_where_epochs_are_few(void **state)
{
        (void)state;
        const uint64_t live[] = {1, 1, 1, 1};
        const uint32_t expected[] = {1, 0, 1, 0}; /* ceil(2 r / 5): 1, 1, 2, 2 */
        struct plan_stage s[4];
        (void)plan_stages(live, 4, 4, 1, 1, s);
        for (uint32_t i = 0; i < 4; i++)
                assert_int_equal(s[i].epochs, expected[i]);
}

static void the_first_live_records_are_always_trained_on(void **state)
{
        (void)state;
        const uint64_t live[] = {0, 0, 0, 5, 5};
        struct plan_stage s[5];
        (void)plan_stages(live, 5, 4, 1, 1, s);
        assert_int_equal(s[3].epochs, 1);
        assert_int_equal(s[4].epochs, 1); /* and new data too */
        assert_int_equal(plan_cost(s, 5), 15);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(epochs_are_those_of_the_paper),
                cmocka_unit_test(epochs_that_do_not_divide_are_rounded_up_cumulatively),
                cmocka_unit_test(cumulative_epochs_follow_the_formula_for_every_shape),
                cmocka_unit_test(one_slice_trains_all_epochs),
                cmocka_unit_test(the_largest_model_does_not_overflow),
                cmocka_unit_test(a_later_start_plans_the_tail_of_the_whole),
                cmocka_unit_test(an_empty_configured_slice_keeps_its_epochs),
                cmocka_unit_test(an_appended_slice_trains_as_the_last_configured_one),
                cmocka_unit_test(an_appended_slice_that_is_empty_is_not_counted),
                cmocka_unit_test(plans_with_and_without_empty_appended_slices_agree),
                cmocka_unit_test(stages_without_an_epoch_exist_where_epochs_are_few),
                cmocka_unit_test(the_first_live_records_are_always_trained_on),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
