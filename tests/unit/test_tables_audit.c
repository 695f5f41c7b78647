/* SPDX-License-Identifier: Apache-2.0
 * test_tables_audit.c: the log's nodes and its index keep what they are given, whatever the tier or
 * the era, and their keys stand as t_audit.c draws them: that is what keeps an append as cheap at
 * ten million entries as at the first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "tests/unit/store_fixture.h"

#define ERA (UINT64_C(1) << 18)

/* --- nodes --- */

static const uint8_t *hash_of(uint32_t level, uint64_t index, uint8_t out[SHA256_BYTES])
{
        memset(out, 0, SHA256_BYTES);
        put_le32(out, level + 1);
        put_le64(out + 4, index);
        return out;
}

#define HASH(level, index) hash_of((level), (index), (uint8_t[SHA256_BYTES]){0})

/* As merkle_append puts them. */
static void put_leaves(struct txn *t, uint64_t from, uint64_t to)
{
        for (uint64_t size = from; size < to; size++) {
                uint32_t level = 0;
                assert_int_equal(t_audit_node_put(t, 0, size, HASH(0, size)), 0);
                for (uint64_t rest = size; (rest & 1) != 0; rest >>= 1, level++)
                        assert_int_equal(t_audit_node_put(t, level + 1, rest >> 1,
                                                          HASH(level + 1, rest >> 1)),
                                         0);
        }
}

static void expect_node(struct txn *t, uint32_t level, uint64_t index)
{
        uint8_t hash[SHA256_BYTES];
        assert_int_equal(t_audit_node_get(t, level, index, hash), 0);
        assert_memory_equal(hash, HASH(level, index), sizeof hash);
}

static void every_node_of_every_level_is_found_and_no_other(void **state)
{
        static const uint64_t size = 70000; /* three tiers */
        struct fixture *f = *state;
        uint8_t hash[SHA256_BYTES];
        uint64_t count = 0, stored = 0;
        struct txn *t = begin_write(f);
        put_leaves(t, 0, size);
        for (uint32_t level = 0; level < 64; level++) {
                for (uint64_t i = 0; i < size >> level; i++, count++)
                        expect_node(t, level, i);
                assert_int_equal(t_audit_node_get(t, level, size >> level, hash), UL_NOT_FOUND);
        }
        assert_int_equal(db_count(t, TABLE_AUDIT_NODES, &stored), 0);
        assert_int_equal(stored, count);
        commit(&t);
}

static void nodes_of_the_largest_logs_do_not_meet(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        for (uint32_t level = 0; level < 63; level++)
                for (uint64_t back = 0; back < 3 && back < UINT64_C(1) << (63 - level); back++) {
                        uint64_t index = (UINT64_C(1) << (63 - level)) - 1 - back;
                        assert_int_equal(t_audit_node_put(t, level, index, HASH(level, index)), 0);
                }
        for (uint32_t level = 0; level < 63; level++)
                for (uint64_t back = 0; back < 3 && back < UINT64_C(1) << (63 - level); back++)
                        expect_node(t, level, (UINT64_C(1) << (63 - level)) - 1 - back);
        txn_abort(&t);
}

static void a_node_that_is_put_again_is_replaced(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        put_leaves(t, 0, 600);
        assert_int_equal(t_audit_node_put(t, 1, 7, HASH(5, 5)), 0);
        uint8_t hash[SHA256_BYTES];
        assert_int_equal(t_audit_node_get(t, 1, 7, hash), 0);
        assert_memory_equal(hash, HASH(5, 5), sizeof hash);
        txn_abort(&t);
}

/* What the table takes on disk: pages that were split in their middle stay half empty. */
static void nodes_fill_their_pages(void **state)
{
        enum { LEAVES = 100000, NODE_BYTES = 10 + 32 + DB_TAG_BYTES + 10 };
        struct fixture *f = *state;
        uint64_t before, after, map;
        store_usage(f->store, &before, &map);
        struct txn *t = begin_write(f);
        put_leaves(t, 0, LEAVES);
        commit(&t);
        store_usage(f->store, &after, &map);
        assert_in_range(after - before, 0, (uint64_t)2 * LEAVES * NODE_BYTES * 11 / 10);
}

/* --- the index --- */

/* Around the ends of eras, and one era without any. */
static const uint64_t places[] = {0,       1,           ERA - 1,     ERA,         ERA + 5,
                                  2 * ERA, 2 * ERA + 1, 4 * ERA - 1, 5 * ERA + 7, 6 * ERA};
enum { PLACES = sizeof places / sizeof places[0] };

struct seen {
        uint64_t index[PLACES];
        uint32_t count;
        uint32_t stop_after; /* 0: never */
};

static int see(void *arg, uint64_t index)
{
        struct seen *s = arg;
        assert_in_range(s->count, 0, PLACES - 1);
        s->index[s->count++] = index;
        return s->count == s->stop_after ? 77 : 0;
}

static void put_places(struct txn *t)
{
        for (uint32_t i = 0; i < PLACES; i++) {
                assert_int_equal(t_audit_index_put(t, 4, ID(9), places[i]), 0);
                assert_int_equal(t_audit_index_put(t, 4, ID(8), places[i] + 1), 0);
                assert_int_equal(t_audit_index_put(t, 3, ID(9), places[i] + 2), 0);
                assert_int_equal(t_audit_index_put(t, 5, ID(9), places[i] + 3), 0);
        }
}

static void check_walk(struct txn *t, uint64_t from, bool descending)
{
        struct seen s = {0};
        uint32_t n = 0;
        assert_int_equal(t_audit_index_each(t, 4, ID(9), from, descending, see, &s), 0);
        for (uint32_t k = 0; k < PLACES; k++) {
                uint64_t place = places[descending ? PLACES - 1 - k : k];
                if (descending ? place > from : place < from)
                        continue;
                assert_true(n < s.count);
                assert_int_equal(s.index[n++], place);
        }
        assert_int_equal(s.count, n);
}

static void a_walk_meets_every_entry_of_every_era_in_order(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        put_places(t);
        for (uint32_t i = 0; i < PLACES; i++)
                for (uint64_t around = 0; around < 3; around++)
                        for (int descending = 0; descending < 2; descending++)
                                check_walk(t, places[i] + around - 1, descending == 1);
        check_walk(t, UINT64_MAX, true); /* before 0 came UINT64_MAX too */
        check_walk(t, 3 * ERA + 3, true);
        check_walk(t, 3 * ERA + 3, false);
        commit(&t);
}

static void a_walk_ends_where_it_is_told_and_finds_nothing_of_others(void **state)
{
        struct fixture *f = *state;
        struct seen s = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(t_audit_index_each(t, 4, ID(9), 0, false, see, &s), 0);
        assert_int_equal(t_audit_index_each(t, 4, ID(9), UINT64_MAX, true, see, &s), 0);
        put_places(t);
        assert_int_equal(t_audit_index_each(t, 4, ID(7), 0, false, see, &s), 0);
        assert_int_equal(t_audit_index_each(t, 6, ID(9), UINT64_MAX, true, see, &s), 0);
        assert_int_equal(s.count, 0);
        for (uint32_t n = 1; n <= PLACES; n++) {
                s = (struct seen){.stop_after = n};
                assert_int_equal(t_audit_index_each(t, 4, ID(9), 0, false, see, &s), 77);
                assert_int_equal(s.count, n);
                assert_int_equal(s.index[n - 1], places[n - 1]);
        }
        commit(&t);
}

static void an_entry_has_only_what_it_was_indexed_under(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        put_places(t);
        for (uint32_t i = 0; i < PLACES; i++) {
                assert_int_equal(t_audit_index_has(t, 4, ID(9), places[i]), 0);
                assert_int_equal(t_audit_index_has(t, 4, ID(9), places[i] + ERA * 9), UL_NOT_FOUND);
                assert_int_equal(t_audit_index_has(t, 6, ID(9), places[i]), UL_NOT_FOUND);
                assert_int_equal(t_audit_index_has(t, 4, ID(7), places[i]), UL_NOT_FOUND);
        }
        txn_abort(&t);
}

static void the_largest_indexes_are_kept(void **state)
{
        struct fixture *f = *state;
        struct seen s = {0};
        struct txn *t = begin_write(f);
        for (uint64_t back = 0; back < 3; back++)
                assert_int_equal(t_audit_index_put(t, 4, ID(9), UINT64_MAX - back), 0);
        assert_int_equal(t_audit_index_each(t, 4, ID(9), UINT64_MAX - 1, false, see, &s), 0);
        assert_true(s.count == 2 && s.index[0] == UINT64_MAX - 1 && s.index[1] == UINT64_MAX);
        s = (struct seen){0};
        assert_int_equal(t_audit_index_each(t, 4, ID(9), UINT64_MAX, true, see, &s), 0);
        assert_true(s.count == 3 && s.index[2] == UINT64_MAX - 2);
        txn_abort(&t);
}

static void pruning_looks_at_the_oldest_first_and_takes_what_is_before(void **state)
{
        struct fixture *f = *state;
        uint8_t last[AUDIT_INDEX_KEY_BYTES];
        struct seen s = {0};
        bool left = true, begun = false;
        struct txn *t = begin_write(f);
        put_places(t);
        for (int steps = 0; left; steps++, begun = true) {
                assert_in_range(steps, 0, 4 * 7 / 3); /* what is of later eras is not looked at */
                assert_int_equal(
                        t_audit_index_prune(t, 2 * ERA + 1, 3, begun ? last : NULL, last, &left),
                        0);
        }
        assert_int_equal(t_audit_index_each(t, 4, ID(9), 0, false, see, &s), 0);
        assert_int_equal(s.count, 4);
        assert_int_equal(s.index[0], 2 * ERA + 1);
        txn_abort(&t);
}

static void a_key_of_another_length_is_damage(void **state)
{
        struct fixture *f = *state;
        struct seen s = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(db_put(t, TABLE_AUDIT_INDEX, "short", 5, NULL, 0), 0);
        assert_int_equal(t_audit_index_each(t, 4, ID(9), 0, false, see, &s), UL_CORRUPT);
        assert_int_equal(txn_error(t), UL_CORRUPT);
        txn_abort(&t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(every_node_of_every_level_is_found_and_no_other),
                TEST(nodes_of_the_largest_logs_do_not_meet),
                TEST(a_node_that_is_put_again_is_replaced),
                TEST(nodes_fill_their_pages),
                TEST(a_walk_meets_every_entry_of_every_era_in_order),
                TEST(a_walk_ends_where_it_is_told_and_finds_nothing_of_others),
                TEST(an_entry_has_only_what_it_was_indexed_under),
                TEST(the_largest_indexes_are_kept),
                TEST(pruning_looks_at_the_oldest_first_and_takes_what_is_before),
                TEST(a_key_of_another_length_is_damage),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
