/* SPDX-License-Identifier: Apache-2.0
 * test_tables_recalls.c: in which generations a slice had a part, and which erasures withdrew some.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "tests/unit/store_fixture.h"

struct intervals {
        struct served_row row[8];
        uint32_t count;
};

static int take(void *arg, const struct served_row *row)
{
        struct intervals *l = arg;
        assert_in_range(l->count, 0, 7);
        l->row[l->count++] = *row;
        return 0;
}

static struct intervals of(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice)
{
        struct intervals l = {0};
        assert_int_equal(t_served_each(t, model, shard, slice, take, &l), 0);
        return l;
}

static void an_interval_is_open_until_it_is_closed(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        assert_int_equal(t_served_close(t, 1, 2, 3, 9, 90), 0); /* nothing is open */
        assert_int_equal(of(t, 1, 2, 3).count, 0);
        assert_int_equal(t_served_open(t, 1, 2, 3, 4, 40), 0);
        struct intervals l = of(t, 1, 2, 3);
        assert_true(l.count == 1 && l.row[0].first == 4 && l.row[0].last == 0 &&
                    l.row[0].from_ms == 40);
        assert_int_equal(t_served_close(t, 1, 2, 3, 6, 60), 0);
        assert_int_equal(t_served_close(t, 1, 2, 3, 7, 70), 0); /* it is closed */
        assert_int_equal(t_served_open(t, 1, 2, 3, 300, 80), 0);
        l = of(t, 1, 2, 3);
        assert_true(l.count == 2 && l.row[0].last == 6 && l.row[0].until_ms == 60 &&
                    l.row[1].first == 300 && l.row[1].last == 0);
        commit(&t);
}

static void slices_shards_and_models_do_not_touch_each_other(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        for (uint32_t model = 1; model <= 2; model++)
                for (uint32_t shard = 0; shard < 2; shard++)
                        for (uint32_t slice = 1; slice <= 2; slice++)
                                assert_int_equal(t_served_open(t, model, shard, slice, 5, 1), 0);
        assert_int_equal(t_served_close(t, 1, 1, 1, 8, 2), 0);
        for (uint32_t model = 1; model <= 2; model++)
                for (uint32_t shard = 0; shard < 2; shard++)
                        for (uint32_t slice = 1; slice <= 2; slice++) {
                                struct intervals l = of(t, model, shard, slice);
                                bool closed = model == 1 && shard == 1 && slice == 1;
                                assert_int_equal(l.count, 1);
                                assert_true(l.row[0].last == (closed ? 8 : 0));
                        }
        txn_abort(&t);
}

struct recalls {
        uint64_t number[8];
        struct recall_row row[8];
        uint32_t count;
};

static int take_recall(void *arg, uint64_t number, const struct recall_row *row)
{
        struct recalls *l = arg;
        l->number[l->count] = number;
        l->row[l->count++] = *row;
        return 0;
}

static void recalls_are_numbered_in_order_for_each_model(void **state)
{
        struct fixture *f = *state;
        for (uint64_t i = 1; i <= 3; i++) {
                struct txn *t = begin_write(f);
                struct recall_row row = {.generation = 10 * i, .withdrawn_ms = (int64_t)i};
                memcpy(row.erasure, ID(100 - i), ULID_BYTES);
                assert_int_equal(t_recall_append(t, 7, &row), 0);
                assert_int_equal(t_recall_append(t, 8, &row), 0);
                commit(&t);
                fixture_reopen(f);
        }
        struct txn *t = begin_read(f);
        struct recalls all = {0}, rest = {0};
        assert_int_equal(t_recall_each(t, 7, 0, take_recall, &all), 0);
        assert_int_equal(all.count, 3);
        for (uint32_t i = 0; i < 3; i++) {
                assert_true(all.number[i] == i + 1 && all.row[i].generation == 10 * (i + 1));
                assert_memory_equal(all.row[i].erasure, ID(99 - i), ULID_BYTES);
        }
        assert_int_equal(t_recall_each(t, 7, 2, take_recall, &rest), 0);
        assert_true(rest.count == 1 && rest.number[0] == 3 && rest.row[0].withdrawn_ms == 3);
        txn_abort(&t);
}

static void a_deleted_model_leaves_none_of_it(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        struct recall_row row = {.generation = 1};
        struct recalls left = {0}, others = {0};
        bool more = true;
        for (uint32_t model = 1; model <= 2; model++) {
                assert_int_equal(t_served_open(t, model, 0, 1, 1, 1), 0);
                assert_int_equal(t_recall_append(t, model, &row), 0);
        }
        for (int i = 0; more && i < 10; i++)
                assert_int_equal(t_model_purge(t, 1, 1, &more), 0);
        assert_false(more);
        assert_int_equal(of(t, 1, 0, 1).count, 0);
        assert_int_equal(of(t, 2, 0, 1).count, 1);
        assert_int_equal(t_recall_each(t, 1, 0, take_recall, &left), 0);
        assert_int_equal(t_recall_each(t, 2, 0, take_recall, &others), 0);
        assert_true(left.count == 0 && others.count == 1);
        txn_abort(&t);
}

static void a_value_that_was_cut_short_is_damage(void **state)
{
        struct fixture *f = *state;
        static const uint8_t value[64];
        uint8_t served[20] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1},
                recall[12] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
        struct intervals l = {0};
        struct recalls r = {0};
        for (size_t len = 0; len < 24; len++) {
                struct txn *t = begin_write(f);
                assert_int_equal(db_put(t, TABLE_SERVED, served, sizeof served, value, len), 0);
                assert_int_equal(t_served_each(t, 1, 0, 1, take, &l), UL_CORRUPT);
                txn_abort(&t);
                t = begin_write(f);
                assert_int_equal(db_put(t, TABLE_RECALLS, recall, sizeof recall, value, len), 0);
                assert_int_equal(t_recall_each(t, 1, 0, take_recall, &r), UL_CORRUPT);
                txn_abort(&t);
        }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(an_interval_is_open_until_it_is_closed),
                CASE(slices_shards_and_models_do_not_touch_each_other),
                CASE(recalls_are_numbered_in_order_for_each_model),
                CASE(a_deleted_model_leaves_none_of_it),
                CASE(a_value_that_was_cut_short_is_damage),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
