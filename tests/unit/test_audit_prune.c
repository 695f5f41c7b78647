/* SPDX-License-Identifier: Apache-2.0
 * test_audit_prune.c: retention: the bytes of old entries go and what they were found by, the
 * hashes, the roots and all proofs stay, whatever the steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/merkle.h"
#include "tests/unit/audit_fixture.h"

enum { SIZE = 1100 };

static int64_t time_of(uint64_t index)
{
        return start_ms + (int64_t)index * 1000;
}

static uint64_t prune(struct fixture *f, int64_t before_ms, uint32_t max)
{
        uint64_t from = 99, to = 99;
        struct txn *t = begin_write(f);
        uint64_t first = audit_first(t);
        assert_int_equal(audit_prune(t, before_ms, max, &from, &to), 0);
        assert_int_equal(from, first);
        assert_int_equal(audit_first(t), to);
        commit(&t);
        return to;
}

static unsigned sweep(struct fixture *f, uint32_t max)
{
        unsigned steps = 1;
        bool left = true;
        for (; left; steps++) {
                struct txn *t = begin_write(f);
                assert_int_equal(audit_sweep(t, max, &left), 0);
                commit(&t);
                assert_true(steps < 10000);
        }
        return steps;
}

static void whole_tiles_of_what_is_older_go_and_nothing_else(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        assert_int_equal(prune(f, INT64_MAX, 1024), 0); /* an empty log */
        grow(f, log, 0, 1);
        assert_int_equal(prune(f, INT64_MAX, 1024), 0); /* its last entry */
        grow(f, log, 1, SIZE - 1);
        assert_int_equal(prune(f, start_ms, 1024), 0);
        assert_int_equal(prune(f, time_of(255), 1024), 0);
        assert_int_equal(prune(f, time_of(256), 1024), 256);
        assert_int_equal(prune(f, time_of(700), 1024), 512);
        assert_int_equal(prune(f, time_of(700), 1024), 512);
        assert_int_equal(prune(f, time_of(300), 1024), 512); /* never back */
        assert_int_equal(prune(f, INT64_MAX, 256), 768);     /* at most so many */
        assert_int_equal(prune(f, INT64_MAX, 1024), 1024);
        assert_int_equal(prune(f, INT64_MAX, 1024), 1024);
        audit_close(&log);
}

static void check_proofs(struct txn *t, uint8_t (*leaf)[SHA256_BYTES], const uint8_t root[32])
{
        uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES], again[SHA256_BYTES];
        uint32_t count;
        for (uint64_t i = 0; i < SIZE; i++) {
                assert_int_equal(audit_inclusion(t, i, SIZE, hashes, &count, NULL), 0);
                assert_true(merkle_verify_inclusion(i, SIZE, leaf[i], (const uint8_t(*)[32])hashes,
                                                    count, root));
                assert_int_equal(audit_get(t, i, NULL, again), 0);
                assert_memory_equal(again, leaf[i], sizeof again);
        }
        for (uint64_t from = 1; from <= SIZE; from += 97) {
                uint8_t then[SHA256_BYTES];
                assert_int_equal(audit_root(t, from, then, NULL), 0);
                assert_int_equal(audit_consistency(t, from, SIZE, hashes, &count, NULL), 0);
                assert_true(merkle_verify_consistency(from, SIZE, (const uint8_t(*)[32])hashes,
                                                      count, then, root));
        }
}

static void every_root_and_proof_holds_as_before(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        static uint8_t leaf[SIZE][SHA256_BYTES];
        uint8_t root[SHA256_BYTES], after[SHA256_BYTES];
        uint64_t next = 0;
        struct buf entry = {0};
        struct errinfo e = {0};
        grow(f, log, 0, SIZE);
        struct txn *t = begin_read(f);
        for (uint64_t i = 0; i < SIZE; i++)
                assert_int_equal(audit_get(t, i, NULL, leaf[i]), 0);
        assert_int_equal(audit_root(t, SIZE, root, NULL), 0);
        txn_abort(&t);
        assert_int_equal(prune(f, INT64_MAX, 1024), 1024);
        sweep(f, 100000);
        t = begin_read(f);
        assert_int_equal(audit_root(t, SIZE, after, NULL), 0);
        assert_memory_equal(after, root, sizeof root);
        check_proofs(t, leaf, root);
        for (uint64_t i = 0; i < SIZE; i += 3) {
                buf_reset(&entry, false);
                int err = audit_get(t, i, &entry, after);
                assert_int_equal(err, i < 1024 ? UL_GONE : 0);
                assert_true((entry.len == 0) == (i < 1024));
                assert_memory_equal(after, leaf[i], sizeof after);
        }
        assert_int_equal(audit_get(t, SIZE, &entry, NULL), UL_NOT_FOUND);
        assert_int_equal(audit_check(t, 0, SIZE, &next, &e), 0); /* hashes, and what is left */
        struct tile tile = {.entries = true, .index = 3, .width = 256};
        buf_reset(&entry, false);
        assert_int_equal(audit_tile(t, &tile, &entry, &e), UL_GONE);
        tile.index = 4;
        tile.width = SIZE - 1024;
        assert_int_equal(audit_tile(t, &tile, &entry, &e), 0);
        tile = (struct tile){.index = 3, .width = 256};
        buf_reset(&entry, false);
        assert_int_equal(audit_tile(t, &tile, &entry, &e), 0);
        assert_memory_equal(entry.data, leaf[768], 256 * SHA256_BYTES);
        assert_int_equal(txn_error(t), 0);
        txn_abort(&t);
        audit_close(&log);
        log = open_good(f); /* a start checks it */
        grow(f, log, SIZE, 10);
        buf_free(&entry, false);
        audit_close(&log);
}

struct found {
        uint64_t first, count;
};

static int on_found(void *arg, uint64_t index, const char *entry, size_t len,
                    const uint8_t leaf_hash[SHA256_BYTES])
{
        struct found *x = arg;
        (void)entry;
        (void)len;
        (void)leaf_hash;
        if (x->count++ == 0)
                x->first = index;
        return 0;
}

static struct found ask(struct fixture *f, struct audit_filter q)
{
        struct found x = {.first = UINT64_MAX};
        uint64_t next;
        struct txn *t = begin_read(f);
        assert_int_equal(audit_query(t, &q, 100000, on_found, &x, &next), 0);
        txn_abort(&t);
        return x;
}

static int count_key(void *arg, uint64_t index)
{
        (void)index;
        ++*(uint64_t *)arg;
        return 0;
}

static uint64_t keys_of(struct fixture *f, const uint8_t subject[16])
{
        uint64_t n = 0;
        struct txn *t = begin_read(f);
        assert_int_equal(
                t_audit_index_each(t, 4 /* by subject */, subject, 0, false, count_key, &n), 0);
        txn_abort(&t);
        return n;
}

static void a_query_begins_where_the_log_does_also_while_it_is_swept(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        bool left = false;
        grow(f, log, 0, SIZE);
        assert_int_equal(keys_of(f, ID(2005)), 1);
        assert_int_equal(keys_of(f, ID(1002)), SIZE / 5);
        assert_int_equal(prune(f, INT64_MAX, 1024), 1024);
        for (int swept = 0; swept < 2; swept++) {
                struct found x = ask(f, (struct audit_filter){0});
                assert_true(x.first == 1024 && x.count == SIZE - 1024);
                x = ask(f, (struct audit_filter){.descending = true, .from = UINT64_MAX});
                assert_true(x.first == SIZE - 1 && x.count == SIZE - 1024);
                x = ask(f, (struct audit_filter){.subject = ID(2005)});
                assert_int_equal(x.count, 0);
                x = ask(f, (struct audit_filter){.subject = ID(1002), .from = 3});
                assert_true(x.first == 1027 && x.count == 15);
                x = ask(f,
                        (struct audit_filter){.since_ms = time_of(3), .until_ms = time_of(1030)});
                assert_true(x.first == 1024 && x.count == 7);
                x = ask(f, (struct audit_filter){.until_ms = time_of(3)});
                assert_int_equal(x.count, 0);
                assert_true(sweep(f, 1000) > (swept == 0 ? 5u : 1u));
        }
        assert_int_equal(keys_of(f, ID(2005)), 0);
        assert_int_equal(keys_of(f, ID(1002)), 15);
        struct txn *t = begin_write(f);
        assert_int_equal(audit_sweep(t, 1, &left), 0); /* nothing to do */
        assert_false(left);
        txn_abort(&t);
        audit_close(&log);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(whole_tiles_of_what_is_older_go_and_nothing_else),
                CASE(every_root_and_proof_holds_as_before),
                CASE(a_query_begins_where_the_log_does_also_while_it_is_swept),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
