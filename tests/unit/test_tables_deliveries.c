/* SPDX-License-Identifier: Apache-2.0
 * test_tables_deliveries.c: endpoints, and what waits to be sent to them: found by endpoint and
 * time, gone with its index entry, unchanged but for its row where it is postponed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "tests/unit/store_fixture.h"

static struct delivery_row delivery(uint64_t endpoint, int64_t next_ms)
{
        struct delivery_row row = {.kind = 3, .attempts = 7, .created_ms = 11, .next_ms = next_ms};
        memcpy(row.endpoint, ID(endpoint), ENDPOINT_HASH_BYTES);
        memcpy(row.erasure, ID(99), ULID_BYTES);
        memset(row.type, 't', DELIVERY_TYPE_MAX);
        return row;
}

static void put(struct txn *t, uint64_t id, uint64_t endpoint, int64_t next_ms)
{
        struct delivery_row row = delivery(endpoint, next_ms);
        assert_int_equal(t_delivery_put(t, ID(id), &row, "A: b\n", "body", 4), 0);
}

struct seen {
        uint64_t id[8];
        int64_t at[8];
        uint32_t count;
};

static int see(void *arg, const uint8_t id[ULID_BYTES], int64_t next_ms)
{
        struct seen *s = arg;
        assert_in_range(s->count, 0, 7);
        s->id[s->count] = get_be32(id + 12);
        s->at[s->count++] = next_ms;
        return 0;
}

static void a_delivery_comes_back_as_it_was(void **state)
{
        struct fixture *f = *state;
        struct delivery_row row = delivery(1, 5), got;
        struct buf headers = {0}, body = {0};
        static char large[DELIVERY_BODY_MAX];
        static char lines[DELIVERY_HEADERS_MAX + 1];
        fill(large, sizeof large, 1);
        memset(lines, 'h', DELIVERY_HEADERS_MAX);
        struct txn *t = begin_write(f);
        assert_int_equal(t_delivery_get(t, ID(1), &got, NULL, NULL), UL_NOT_FOUND);
        assert_int_equal(t_delivery_put(t, ID(1), &row, lines, large, sizeof large), 0);
        commit(&t);
        fixture_reopen(f);
        t = begin_read(f);
        assert_int_equal(t_delivery_get(t, ID(1), &got, &headers, &body), 0);
        assert_memory_equal(got.endpoint, row.endpoint, ENDPOINT_HASH_BYTES);
        assert_memory_equal(got.erasure, row.erasure, ULID_BYTES);
        assert_string_equal(got.type, row.type);
        assert_true(got.kind == 3 && got.attempts == 7 && got.created_ms == 11 && got.next_ms == 5);
        assert_int_equal(headers.len, DELIVERY_HEADERS_MAX);
        assert_int_equal(body.len, sizeof large);
        assert_memory_equal(body.data, large, sizeof large);
        txn_abort(&t);
        buf_free(&headers, false);
        buf_free(&body, false);
}

static void what_waits_is_found_by_endpoint_the_earliest_first(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        struct seen s = {0};
        uint8_t endpoint[ENDPOINT_HASH_BYTES];
        assert_int_equal(t_delivery_next_endpoint(t, NULL, endpoint), UL_NOT_FOUND);
        put(t, 1, 20, 300);
        put(t, 2, 20, 100);
        put(t, 3, 10, 200);
        put(t, 4, 20, 100);
        put(t, 5, 30, 0);
        assert_int_equal(t_delivery_each_due(t, ID(20), see, &s), 0);
        assert_int_equal(s.count, 3);
        assert_true(s.id[0] == 2 && s.id[1] == 4 && s.id[2] == 1 && s.at[0] == 100 &&
                    s.at[2] == 300);
        const uint8_t *after = NULL;
        for (uint64_t k = 10; k <= 30; k += 10) {
                assert_int_equal(t_delivery_next_endpoint(t, after, endpoint), 0);
                assert_memory_equal(endpoint, ID(k), ENDPOINT_HASH_BYTES);
                after = endpoint;
        }
        assert_int_equal(t_delivery_next_endpoint(t, after, endpoint), UL_NOT_FOUND);
        txn_abort(&t);
}

static void a_postponed_delivery_moves_and_keeps_its_text(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        struct delivery_row row = delivery(1, 900);
        struct seen s = {0};
        struct buf headers = {0}, body = {0};
        uint64_t count = 0;
        put(t, 1, 1, 100);
        put(t, 2, 1, 500);
        row.attempts = 8;
        assert_int_equal(t_delivery_put(t, ID(1), &row, NULL, NULL, 0), 0);
        assert_int_equal(t_delivery_each_due(t, ID(1), see, &s), 0);
        assert_true(s.count == 2 && s.id[0] == 2 && s.id[1] == 1 && s.at[1] == 900);
        assert_int_equal(t_delivery_get(t, ID(1), &row, &headers, &body), 0);
        assert_int_equal(row.attempts, 8);
        assert_memory_equal(body.data, "body", 4);
        assert_memory_equal(headers.data, "A: b\n", 5);
        assert_int_equal(t_delivery_count(t, &count), 0);
        assert_int_equal(count, 2);
        assert_int_equal(t_delivery_put(t, ID(3), &row, NULL, NULL, 0), UL_NOT_FOUND);
        buf_free(&headers, false);
        buf_free(&body, false);
        txn_abort(&t);
}

static void a_deleted_delivery_leaves_no_index_entry(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        struct seen s = {0};
        uint64_t left = 1;
        put(t, 1, 1, 100);
        assert_int_equal(t_delivery_del(t, ID(1)), 0);
        assert_int_equal(t_delivery_del(t, ID(1)), UL_NOT_FOUND);
        assert_int_equal(t_delivery_each_due(t, ID(1), see, &s), 0);
        assert_int_equal(s.count, 0);
        assert_int_equal(db_count(t, TABLE_DELIVERIES_DUE, &left), 0);
        assert_int_equal(left, 0);
        txn_abort(&t);
}

static int count_endpoint(void *arg, const uint8_t hash[ENDPOINT_HASH_BYTES],
                          const struct endpoint_row *row)
{
        (void)hash;
        assert_int_equal(row->failures, 4);
        ++*(uint32_t *)arg;
        return 0;
}

static void an_endpoint_comes_back_with_the_longest_address(void **state)
{
        struct fixture *f = *state;
        struct endpoint_row row = {.kind = 1,
                                   .state = ENDPOINT_GONE,
                                   .outcome = 2,
                                   .status = 410,
                                   .failures = 4,
                                   .pending = UINT64_MAX,
                                   .changed_ms = 1,
                                   .attempt_ms = 2,
                                   .delivered_ms = 3};
        struct endpoint_row got;
        uint32_t count = 0;
        memset(row.name, 'n', ENDPOINT_NAME_MAX);
        memset(row.url, 'u', URL_MAX);
        struct txn *t = begin_write(f);
        assert_int_equal(t_endpoint_get(t, ID(1), &got), UL_NOT_FOUND);
        for (uint64_t i = 1; i <= 3; i++)
                assert_int_equal(t_endpoint_put(t, ID(i), &row), 0);
        assert_int_equal(t_endpoint_get(t, ID(2), &got), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(t_endpoint_each(t, ID(1), count_endpoint, &count), 0);
        assert_int_equal(count, 2);
        assert_int_equal(t_endpoint_del(t, ID(2)), 0);
        assert_int_equal(t_endpoint_get(t, ID(2), &got), UL_NOT_FOUND);
        txn_abort(&t);
}

static void a_value_that_was_cut_short_is_damage(void **state)
{
        struct fixture *f = *state;
        static const uint8_t value[90];
        struct delivery_row d;
        struct endpoint_row e;
        for (size_t len = 0; len < 35; len++) {
                struct txn *t = begin_write(f);
                assert_int_equal(db_put(t, TABLE_ENDPOINTS, ID(1), 16, value, len), 0);
                assert_int_equal(t_endpoint_get(t, ID(1), &e), UL_CORRUPT);
                txn_abort(&t);
        }
        for (size_t len = 0; len < 58; len++) {
                struct txn *t = begin_write(f);
                assert_int_equal(db_put(t, TABLE_DELIVERIES, ID(1), 16, value, len), 0);
                assert_int_equal(t_delivery_get(t, ID(1), &d, NULL, NULL), UL_CORRUPT);
                txn_abort(&t);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_delivery_comes_back_as_it_was, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(what_waits_is_found_by_endpoint_the_earliest_first,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_postponed_delivery_moves_and_keeps_its_text,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_deleted_delivery_leaves_no_index_entry,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(an_endpoint_comes_back_with_the_longest_address,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_value_that_was_cut_short_is_damage, fixture_setup,
                                                fixture_teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
