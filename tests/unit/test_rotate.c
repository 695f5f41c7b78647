/* SPDX-License-Identifier: Apache-2.0
 * test_rotate.c: another key for the log: announced under the old one's last signature, wholly or
 * not at all, and only by who has the old one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/note.h"
#include "tests/unit/audit_fixture.h"

static const uint8_t seeds[3][SIGN_SEED_BYTES] = {{1, 2, 3}, {4}, {5}}; /* the first: `seed` */

static struct note_key key_of(int n)
{
        uint8_t public_key[SIGN_PUBLIC_BYTES];
        struct note_key key;
        sign_keypair(seeds[n], public_key);
        assert_int_equal(note_key_make(origin, public_key, &key, NULL), 0);
        return key;
}

static int open_with(struct fixture *f, int n, struct audit_log **log)
{
        struct txn *t = begin_read(f);
        int err = audit_open(t, origin, seeds[n], log, NULL);
        txn_abort(&t);
        return err;
}

static void rotate(struct fixture *f, int from, int to)
{
        struct errinfo e = {0};
        struct buf data = {0};
        struct txn *t = begin_write(f);
        if (audit_rotate(t, origin, seeds[from], seeds[to], start_ms, &data, &e) != 0)
                fail_msg("audit_rotate: %s", e.detail);
        assert_true(data.len > 0 && data.data[0] == '{');
        commit(&t);
        buf_free(&data, false);
}

struct seen {
        int count;
        uint64_t sizes[3]; /* of what was handed over */
};

static int see(void *arg, const struct audit_key *key)
{
        struct seen *s = arg;
        struct checkpoint c;
        char vkey[NOTE_VKEY_SIZE];
        const struct note_key own = key_of(s->count);
        assert_string_equal(key->vkey, note_vkey_format(&own, vkey));
        if (s->count == 0) {
                assert_int_equal(key->announced, UINT64_MAX);
                assert_int_equal(key->handover_len, 0);
        } else {
                const struct note_key before = key_of(s->count - 1);
                assert_int_equal(
                        checkpoint_verify(key->handover, key->handover_len, &before, &c, NULL), 0);
                assert_int_equal(
                        checkpoint_verify(key->handover, key->handover_len, &own, &c, NULL), 0);
                assert_int_equal(c.size, key->announced + 1);
                s->sizes[s->count] = c.size;
        }
        s->count++;
        return 0;
}

static struct seen keys_of(struct fixture *f, const struct audit_log *log)
{
        struct seen s = {0};
        struct txn *t = begin_read(f);
        assert_int_equal(audit_keys(t, log, see, &s), 0);
        txn_abort(&t);
        return s;
}

static void every_key_hands_over_to_the_next(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f), *none = NULL;
        grow(f, log, 0, 5);
        assert_int_equal(keys_of(f, log).count, 1);
        audit_close(&log);
        rotate(f, 0, 1);
        assert_int_equal(open_with(f, 0, &none), UL_CORRUPT);
        assert_int_equal(open_with(f, 1, &log), 0);
        grow(f, log, 6, 4);
        audit_close(&log);
        rotate(f, 1, 2);
        assert_int_equal(open_with(f, 1, &none), UL_CORRUPT);
        assert_int_equal(open_with(f, 2, &log), 0);
        struct seen s = keys_of(f, log);
        assert_int_equal(s.count, 3);
        assert_int_equal(s.sizes[1], 6);
        assert_int_equal(s.sizes[2], 11);
        audit_close(&log);
}

static void an_empty_log_can_hand_over_too(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = NULL;
        rotate(f, 0, 1);
        assert_int_equal(open_with(f, 1, &log), 0);
        assert_int_equal(keys_of(f, log).count, 2);
        audit_close(&log);
}

static void nothing_is_left_of_one_that_did_not_commit(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        grow(f, log, 0, 5);
        audit_close(&log);
        struct buf data = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(audit_rotate(t, origin, seeds[0], seeds[1], start_ms, &data, NULL), 0);
        txn_abort(&t);
        buf_free(&data, false);
        log = open_good(f);
        assert_int_equal(keys_of(f, log).count, 1);
        t = begin_read(f);
        assert_int_equal(audit_size(t), 5);
        txn_abort(&t);
        audit_close(&log);
}

static void only_who_has_the_old_key_hands_over_and_to_another(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct errinfo e = {0};
        struct buf data = {0};
        grow(f, log, 0, 5);
        audit_close(&log);
        struct txn *t = begin_write(f);
        assert_int_equal(audit_rotate(t, origin, seeds[2], seeds[1], start_ms, &data, &e),
                         UL_CORRUPT);
        txn_abort(&t);
        t = begin_write(f);
        assert_int_equal(audit_rotate(t, origin, seeds[0], seeds[0], start_ms, &data, &e),
                         UL_INVALID);
        txn_abort(&t);
        assert_int_equal(data.len, 0);
        log = open_good(f);
        audit_close(&log);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(every_key_hands_over_to_the_next),
                CASE(an_empty_log_can_hand_over_too),
                CASE(nothing_is_left_of_one_that_did_not_commit),
                CASE(only_who_has_the_old_key_hands_over_and_to_another),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
