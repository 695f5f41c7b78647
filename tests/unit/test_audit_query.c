/* SPDX-License-Identifier: Apache-2.0
 * test_audit_query.c: every combination of filters, order, page size and early end against a plain
 * scan of what was appended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/audit_fixture.h"

static bool matches(const struct audit_filter *f, uint64_t i)
{
        static const char *const types[] = {"erasure.forgotten", "shard.retrained",
                                            "model.created"};
        char model[16], reference[16];
        int64_t ms = start_ms + (int64_t)i * 1000;
        (void)snprintf(model, sizeof model, "model-%u", (unsigned)(i % 4));
        (void)snprintf(reference, sizeof reference, "DSR-%u", (unsigned)(i / 10));
        return (f->type == NULL || strcmp(f->type, types[i % 3]) == 0) &&
               (f->model == NULL || strcmp(f->model, model) == 0) &&
               (f->reference == NULL || strcmp(f->reference, reference) == 0) &&
               (f->erasure == NULL || memcmp(f->erasure, ID(i / 2), 16) == 0) &&
               (f->subject == NULL || memcmp(f->subject, ID(1000 + i % 5), 16) == 0 ||
                memcmp(f->subject, ID(2000 + i), 16) == 0) &&
               (f->record == NULL || memcmp(f->record, ID(1000 + i % 5), 16) == 0) &&
               (f->since_ms == 0 || ms >= f->since_ms) && (f->until_ms == 0 || ms <= f->until_ms) &&
               (f->descending ? i <= f->from : i >= f->from);
}

/* Asks page after page and compares with the plain filter. */
static void compare_query(struct txn *t, struct audit_filter f, uint32_t scan, unsigned stop_after)
{
        struct answer all = {0}, expected = {0};
        for (uint64_t k = 0; k < QUERY_SIZE; k++) {
                uint64_t i = f.descending ? QUERY_SIZE - 1 - k : k;
                if (matches(&f, i))
                        expected.index[expected.n++] = i;
        }
        uint64_t next = f.from;
        for (int page = 0; page <= QUERY_SIZE + 1; page++) {
                struct answer a = {.stop_after = stop_after};
                f.from = next;
                int err = audit_query(t, &f, scan, on_entry, &a, &next);
                assert_int_equal(err, a.n > 0 && a.n == stop_after ? 5 : 0);
                assert_true(a.n <= scan && all.n + a.n <= expected.n);
                memcpy(all.index + all.n, a.index, a.n * sizeof a.index[0]);
                all.n += a.n;
                if (next == UINT64_MAX)
                        break;
                assert_true(page < QUERY_SIZE);
        }
        assert_int_equal(all.n, expected.n);
        assert_memory_equal(all.index, expected.index, sizeof all.index);
}

static void every_combination_of_filters_finds_what_a_plain_scan_finds(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        grow(f, log, 0, QUERY_SIZE / 2);
        grow(f, log, QUERY_SIZE / 2, QUERY_SIZE / 2);
        struct txn *t = begin_read(f);
        for (unsigned mask = 0; mask < 512; mask++) {
                struct audit_filter q = {
                        .type = mask & 1 ? "shard.retrained" : NULL,
                        .model = mask & 2 ? "model-2" : NULL,
                        .erasure = mask & 4 ? ID(11) : NULL,
                        .subject = mask & 8 ? ID(1002) : NULL,
                        .record = mask & 16 ? ID(1002) : NULL,
                        .reference = mask & 32 ? "DSR-2" : NULL,
                        .since_ms = mask & 64 ? start_ms + 20500 : 0,
                        .until_ms = mask & 128 ? start_ms + 26000 : 0,
                        .descending = (mask & 256) != 0,
                        .from = mask & 256 ? UINT64_MAX : 0,
                };
                compare_query(t, q, 1000, 0);
                compare_query(t, q, 1, 0);
                compare_query(t, q, 7, 2);
                q.from = 22;
                compare_query(t, q, 3, 1);
        }
        txn_abort(&t);
        audit_close(&log);
}

static void times_are_bounds_that_are_included(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct answer a = {0};
        uint64_t next;
        struct txn *t = begin_write(f);
        for (int i = 0; i < 9; i++) /* three entries at each of three times */
                assert_int_equal(append(t, log, start_ms + i / 3, "x", NULL, NULL), 0);
        struct audit_filter q = {.since_ms = start_ms + 1, .until_ms = start_ms + 1};
        assert_int_equal(audit_query(t, &q, 100, on_entry, &a, &next), 0);
        assert_int_equal(a.n, 3);
        assert_int_equal(a.index[0], 3);
        assert_true(next == UINT64_MAX);
        q = (struct audit_filter){.since_ms = start_ms + 3};
        assert_int_equal(audit_query(t, &q, 100, on_entry, &a, &next), 0);
        q = (struct audit_filter){.until_ms = start_ms - 1};
        assert_int_equal(audit_query(t, &q, 100, on_entry, &a, &next), 0);
        q = (struct audit_filter){.since_ms = start_ms + 2, .until_ms = start_ms};
        assert_int_equal(audit_query(t, &q, 100, on_entry, &a, &next), 0);
        q = (struct audit_filter){.from = 9};
        assert_int_equal(audit_query(t, &q, 100, on_entry, &a, &next), 0);
        assert_int_equal(a.n, 3);
        assert_true(next == UINT64_MAX);
        txn_abort(&t);
        audit_close(&log);
}

static void a_query_of_an_empty_log_ends_at_once(void **state)
{
        struct fixture *f = *state;
        struct answer a = {0};
        uint64_t next = 0;
        struct txn *t = begin_read(f);
        for (int descending = 0; descending < 2; descending++) {
                struct audit_filter q = {.descending = descending != 0,
                                         .from = descending ? UINT64_MAX : 0};
                assert_int_equal(audit_query(t, &q, 10, on_entry, &a, &next), 0);
                assert_true(next == UINT64_MAX);
        }
        assert_int_equal(a.n, 0);
        txn_abort(&t);
}

static bool text_is(const char *text, size_t len, const char *expected)
{
        return len == strlen(expected) && memcmp(text, expected, len) == 0;
}

static void the_parts_of_an_entry_are_found_where_they_stand(void **state)
{
        (void)state;
        struct audit_parts p;
        char entry[] =
                "{\"v\":1,\"index\":12,\"time\":\"2026-01-31T09:00:00.000Z\","
                "\"type\":\"a.b\",\"actor\":\"x\\\",\\\"data\\\":{\",\"data\":{\"k\":{\"d\":1}}}";
        size_t len = strlen(entry);
        assert_true(audit_entry_parts(entry, len, &p));
        assert_true(text_is(p.time, p.time_len, "2026-01-31T09:00:00.000Z"));
        assert_true(text_is(p.type, p.type_len, "a.b"));
        assert_true(text_is(p.data, p.data_len, "{\"k\":{\"d\":1}}"));
        for (size_t cut = 0; cut < len - 2; cut++)
                assert_false(audit_entry_parts(entry, cut, &p));
        memcpy(entry, "{\"V\"", 4);
        assert_false(audit_entry_parts(entry, len, &p));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(every_combination_of_filters_finds_what_a_plain_scan_finds),
                CASE(times_are_bounds_that_are_included),
                CASE(a_query_of_an_empty_log_ends_at_once),
                CASE(the_parts_of_an_entry_are_found_where_they_stand),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
