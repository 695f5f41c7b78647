/* SPDX-License-Identifier: Apache-2.0
 * test_tables_records.c: records, the index from subjects to them, subject rows, and the purge of a
 * model. A random history is compared with a plain array at every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "tests/unit/store_fixture.h"

static struct record_row record(uint64_t subject, uint32_t row)
{
        struct record_row r = {.shard = 1, .slice = 2, .row = row, .upload = 3};
        memcpy(r.subject, ID(subject), 16);
        return r;
}

struct list {
        uint64_t id[64];
        uint32_t row[64];
        unsigned n, stop_at;
};

static int collect(void *arg, const uint8_t id[16], const struct record_row *row)
{
        struct list *l = arg;
        assert_true(l->n < 64);
        l->id[l->n] = get_be64(id + 8);
        l->row[l->n++] = row->row;
        return l->n == l->stop_at ? 7 : 0;
}

static void a_record_comes_back_whole_and_belongs_to_its_model(void **state)
{
        struct fixture *f = *state;
        struct record_row row = record(9, UINT32_MAX), got;
        struct txn *t = begin_write(f);
        assert_int_equal(t_record_put(t, 1, ID(5), &row), 0);
        assert_int_equal(t_record_get(t, 1, ID(5), &got), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(t_record_get(t, 2, ID(5), &got), UL_NOT_FOUND);
        assert_int_equal(t_record_get(t, 256, ID(5), &got), UL_NOT_FOUND);
        commit(&t);
}

static void the_record_that_is_its_own_subject_has_its_place_in_the_order(void **state)
{
        struct fixture *f = *state;
        static const uint64_t ids[] = {1, 4, 5, 6, 9};
        struct list l = {0};
        struct txn *t = begin_write(f);
        for (int i = 0; i < 5; i++) {
                struct record_row row = record(5, (uint32_t)ids[i]);
                assert_int_equal(t_record_put(t, 1, ID(ids[i]), &row), 0);
        }
        assert_int_equal(t_record_each_of_subject(t, 1, ID(5), NULL, collect, &l), 0);
        assert_int_equal(l.n, 5);
        assert_memory_equal(l.id, ids, sizeof ids);
        for (unsigned after = 0; after <= 10; after++) {
                l = (struct list){0};
                assert_int_equal(t_record_each_of_subject(t, 1, ID(5), ID(after), collect, &l), 0);
                unsigned skip = 0;
                while (skip < 5 && ids[skip] <= after)
                        skip++;
                assert_int_equal(l.n, 5 - skip);
                assert_memory_equal(l.id, ids + skip, sizeof ids[0] * l.n);
        }
        l = (struct list){.stop_at = 3}; /* ends on the implied one */
        assert_int_equal(t_record_each_of_subject(t, 1, ID(5), NULL, collect, &l), 7);
        assert_int_equal(l.n, 3);
        commit(&t);
}

static void a_record_named_as_a_subject_but_of_another_is_not_that_subjects(void **state)
{
        struct fixture *f = *state;
        struct list l = {0};
        struct record_row row = record(6, 1);
        struct txn *t = begin_write(f);
        assert_int_equal(t_record_put(t, 1, ID(5), &row), 0);
        assert_int_equal(t_record_each_of_subject(t, 1, ID(5), NULL, collect, &l), 0);
        assert_int_equal(l.n, 0);
        assert_int_equal(t_record_each_of_subject(t, 1, ID(6), NULL, collect, &l), 0);
        assert_int_equal(l.n, 1);
        row = record(5, 1); /* now its own: the entry under 6 goes */
        assert_int_equal(t_record_put(t, 1, ID(5), &row), 0);
        l = (struct list){0};
        assert_int_equal(t_record_each_of_subject(t, 1, ID(6), NULL, collect, &l), 0);
        assert_int_equal(l.n, 0);
        assert_int_equal(t_record_each_of_subject(t, 1, ID(5), NULL, collect, &l), 0);
        assert_int_equal(l.n, 1);
        commit(&t);
}

enum { IDS = 24 };
struct mirror {
        bool held[IDS];
        uint64_t subject[IDS];
        uint32_t row[IDS];
};

static void compare(struct txn *t, const struct mirror *m)
{
        for (uint64_t s = 0; s < IDS; s++) {
                struct list l = {0}, expected = {0};
                for (uint64_t i = 0; i < IDS; i++)
                        if (m->held[i] && m->subject[i] == s) {
                                expected.id[expected.n] = i;
                                expected.row[expected.n++] = m->row[i];
                        }
                assert_int_equal(t_record_each_of_subject(t, 1, ID(s), NULL, collect, &l), 0);
                assert_memory_equal(&l, &expected, sizeof l);
        }
        struct list l = {0}, expected = {0};
        for (uint64_t i = 0; i < IDS; i++)
                if (m->held[i] && i > 3) {
                        expected.id[expected.n] = i;
                        expected.row[expected.n++] = m->row[i];
                }
        assert_int_equal(t_record_each(t, 1, ID(3), collect, &l), 0);
        assert_memory_equal(&l, &expected, sizeof l);
}

static void a_random_history_agrees_with_a_plain_array(void **state)
{
        struct fixture *f = *state;
        struct mirror m = {0}, before;
        struct prng p;
        static const uint8_t key[KEY_BYTES] = {1};
        prng_init(&p, key, NULL, 0);
        struct txn *t = begin_write(f);
        struct record_row other = record(3, 1);
        assert_int_equal(t_record_put(t, 2, ID(3), &other), 0); /* a neighbour model */
        assert_int_equal(t_record_put(t, 0, ID(3), &other), 0);
        for (int group = 0; group < 60; group++) {
                struct txn *child = begin_child(t);
                before = m;
                for (int i = 0; i < 12; i++) {
                        uint64_t id = prng_below(&p, IDS);
                        if (prng_below(&p, 3) > 0) {
                                m.subject[id] = prng_below(&p, IDS / 3);
                                m.row[id] = prng_u32(&p);
                                m.held[id] = true;
                                struct record_row row = record(m.subject[id], m.row[id]);
                                assert_int_equal(t_record_put(child, 1, ID(id), &row), 0);
                        } else {
                                assert_int_equal(t_record_del(child, 1, ID(id)),
                                                 m.held[id] ? 0 : UL_NOT_FOUND);
                                m.held[id] = false;
                        }
                }
                compare(child, &m);
                if (prng_below(&p, 2) == 0) {
                        txn_abort(&child);
                        m = before;
                } else {
                        commit(&child);
                }
                compare(t, &m);
        }
        commit(&t);
}

static void an_index_that_disagrees_with_the_records_is_damage(void **state)
{
        struct fixture *f = *state;
        struct list l = {0};
        uint8_t key[36];
        struct txn *t = begin_write(f);
        put_be32(key, 1);
        memcpy(key + 4, ID(5), 16);
        memcpy(key + 20, ID(8), 16);
        assert_int_equal(db_put(t, TABLE_SUBJECT_RECORDS, key, sizeof key, NULL, 0), 0);
        assert_int_equal(t_record_each_of_subject(t, 1, ID(5), NULL, collect, &l), UL_CORRUPT);
        assert_int_equal(txn_error(t), UL_CORRUPT);
        txn_abort(&t);
}

/* --- subjects --- */

static void assert_same_subject(const struct subject_row *got, const struct subject_row *want)
{
        assert_memory_equal(got, want, offsetof(struct subject_row, slices));
        assert_memory_equal(got->slices, want->slices, want->slice_count * sizeof want->slices[0]);
}

static void a_subject_comes_back_with_the_slices_it_has(void **state)
{
        static const uint32_t counts[] = {0, 1, 8, 9, 1000, SLICES_TOTAL_MAX};
        struct fixture *f = *state;
        struct subject_row row = {0}, got;
        struct txn *t = begin_write(f);
        for (uint32_t n = 0; n < sizeof counts / sizeof counts[0]; n++) {
                memset(&row, 0, sizeof row);
                row.shard = 255;
                row.likelihood = 2;
                row.erased = 1;
                row.staged = 5;
                row.slice_count = counts[n];
                fill(row.slices, counts[n] * sizeof row.slices[0], n);
                assert_int_equal(t_subject_put(t, 1, ID(n), &row), 0);
                assert_int_equal(t_subject_get(t, 1, ID(n), &got), 0);
                assert_same_subject(&got, &row);
        }
        row.slice_count = 1; /* a shorter row over a longer one */
        assert_int_equal(t_subject_put(t, 1, ID(5), &row), 0);
        assert_int_equal(t_subject_get(t, 1, ID(5), &got), 0);
        assert_same_subject(&got, &row);
        assert_int_equal(t_subject_del(t, 1, ID(5)), 0);
        assert_int_equal(t_subject_get(t, 1, ID(5), &got), UL_NOT_FOUND);
        assert_int_equal(t_subject_get(t, 2, ID(4), &got), UL_NOT_FOUND);
        commit(&t);
}

static void a_subject_is_counted_in_every_slice_there_can_be(void **state)
{
        struct fixture *f = *state;
        struct subject_row row = {0}, got;
        struct txn *t = begin_write(f);
        for (uint32_t i = 0; i < 2 * SLICES_TOTAL_MAX; i++)
                subject_more(&row, 1 + i % SLICES_TOTAL_MAX);
        assert_int_equal(row.slice_count, SLICES_TOTAL_MAX);
        for (uint32_t slice = 1; slice < SLICES_TOTAL_MAX; slice++) {
                subject_less(&row, slice);
                subject_less(&row, slice);
                subject_less(&row, slice); /* it is not there any more */
        }
        assert_int_equal(row.slice_count, 1);
        assert_int_equal(row.slices[0].slice, SLICES_TOTAL_MAX);
        assert_int_equal(row.slices[0].records, 2);
        assert_int_equal(t_subject_put(t, 1, ID(1), &row), 0);
        assert_int_equal(t_subject_less(t, 1, ID(1), &row, SLICES_TOTAL_MAX), 0);
        assert_int_equal(t_subject_get(t, 1, ID(1), &got), 0);
        assert_same_subject(&got, &row);
        assert_int_equal(t_subject_less(t, 1, ID(1), &row, SLICES_TOTAL_MAX), 0);
        assert_int_equal(t_subject_get(t, 1, ID(1), &got), UL_NOT_FOUND);
        commit(&t);
}

/* --- purge --- */

static uint32_t put_everything(struct txn *t, uint32_t model)
{
        struct shard_row shard = {0};
        struct slice_row slice = {0};
        struct subject_row subject = {0};
        for (uint32_t i = 0; i < 10; i++) {
                struct record_row row = record(i / 2, i);
                assert_int_equal(t_record_put(t, model, ID(i), &row), 0);
                assert_int_equal(t_subject_put(t, model, ID(i), &subject), 0);
                assert_int_equal(t_shard_put(t, model, i, &shard), 0);
                assert_int_equal(t_slice_put(t, model, i, i, &slice), 0);
                assert_int_equal(t_waiting_put(t, model, i, ID(i)), 0);
        }
        return 5 * 10 + 9; /* record 0 is its own subject */
}

static int count_key(void *arg, struct unpacker *key, struct unpacker *value)
{
        (void)key;
        (void)value;
        ++*(uint32_t *)arg;
        return 0;
}

static uint32_t entries_of(struct txn *t, uint32_t model)
{
        static const enum table tables[] = {TABLE_RECORDS, TABLE_SUBJECT_RECORDS, TABLE_SUBJECTS,
                                            TABLE_SHARDS,  TABLE_SLICES,          TABLE_WAITING};
        uint8_t prefix[4];
        uint32_t count = 0;
        put_be32(prefix, model);
        for (int i = 0; i < 6; i++)
                assert_int_equal(db_walk(t, tables[i],
                                         &(struct db_span){.prefix = prefix, .prefix_len = 4},
                                         count_key, &count),
                                 0);
        return count;
}

static void purging_a_model_is_bounded_and_touches_no_other(void **state)
{
        struct fixture *f = *state;
        bool left = true;
        struct txn *t = begin_write(f);
        uint32_t all = put_everything(t, 7);
        assert_int_equal(put_everything(t, 6), all);
        assert_int_equal(put_everything(t, 8), all);
        assert_int_equal(entries_of(t, 7), all);
        for (uint32_t n = 7; n < all; n += 7) {
                assert_int_equal(t_model_purge(t, 7, 7, &left), 0);
                assert_true(left);
                assert_int_equal(entries_of(t, 7), all - n);
        }
        assert_int_equal(t_model_purge(t, 7, all % 7, &left), 0);
        assert_false(left); /* exactly what was there: nothing is left */
        assert_int_equal(entries_of(t, 7), 0);
        assert_int_equal(t_model_purge(t, 7, 0, &left), 0);
        assert_false(left);
        assert_int_equal(t_model_purge(t, 6, 0, &left), 0);
        assert_true(left);
        assert_int_equal(entries_of(t, 6), all);
        assert_int_equal(entries_of(t, 8), all);
        commit(&t);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(a_record_comes_back_whole_and_belongs_to_its_model),
                CASE(the_record_that_is_its_own_subject_has_its_place_in_the_order),
                CASE(a_record_named_as_a_subject_but_of_another_is_not_that_subjects),
                CASE(a_random_history_agrees_with_a_plain_array),
                CASE(an_index_that_disagrees_with_the_records_is_damage),
                CASE(a_subject_comes_back_with_the_slices_it_has),
                CASE(a_subject_is_counted_in_every_slice_there_can_be),
                CASE(purging_a_model_is_bounded_and_touches_no_other),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
