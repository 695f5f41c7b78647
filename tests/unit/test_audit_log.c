/* SPDX-License-Identifier: Apache-2.0
 * test_audit_log.c: the stored log (invariant 6): what an entry looks like, that it comes and goes
 * with its transaction, that proofs and checkpoints verify offline, and that a change of any stored
 * leaf, node or checkpoint is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/note.h"
#include "lib/store/db.h"
#include "tests/unit/audit_fixture.h"

/* --- entries --- */

static void an_entry_is_canonical_json_and_its_leaf_is_exactly_its_bytes(void **state)
{
        static const char expected[] =
                "{\"v\":1,\"index\":0,\"time\":\"2023-11-14T22:13:20.000Z\",\"type\":\"model."
                "created\",\"actor\":\"a\\\"b\",\"data\":{\"model\":\"digits\",\"records\":[1,2]}}";
        static const char data[] = "{\"model\":\"digits\",\"records\":[1,2]}";
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct buf entry = {0};
        uint8_t hash[32], leaf[32];
        uint64_t index = 9;
        struct txn *t = begin_write(f);
        assert_int_equal(audit_append(t, log, start_ms, "model.created", "a\"b", NULL, data,
                                      strlen(data), &index),
                         0);
        assert_int_equal(index, 0);
        assert_int_equal(audit_get(t, 0, &entry, hash), 0);
        assert_int_equal(entry.len, strlen(expected));
        assert_memory_equal(entry.data, expected, entry.len);
        merkle_leaf(expected, strlen(expected), leaf);
        assert_memory_equal(hash, leaf, sizeof hash);
        memset(hash, 0, sizeof hash);
        assert_int_equal(audit_get(t, 0, NULL, hash), 0);
        assert_memory_equal(hash, leaf, sizeof hash);
        assert_int_equal(audit_get(t, 1, &entry, hash), UL_NOT_FOUND);
        assert_int_equal(audit_get(t, UINT64_MAX, NULL, NULL), UL_NOT_FOUND);
        assert_int_equal(txn_error(t), 0);
        txn_abort(&t);
        buf_free(&entry, false);
        audit_close(&log);
        assert_null(log);
}

static void an_empty_log_has_no_checkpoint_and_signs_nothing(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct buf note = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(audit_checkpoint_sign(t, log), 0);
        assert_int_equal(audit_checkpoint(t, &note), UL_NOT_FOUND);
        assert_int_equal(audit_size(t), 0);
        assert_int_equal(note.len, 0);
        commit(&t);
        audit_close(&log);
        log = open_good(f);
        audit_close(&log);
}

static int64_t time_of(struct txn *t, uint64_t index)
{
        struct buf entry = {0};
        int64_t ms = 0;
        assert_int_equal(audit_get(t, index, &entry, NULL), 0);
        buf_append(&entry, "", 1);
        const char *at = strstr((const char *)entry.data, "\"time\":\"");
        assert_non_null(at);
        assert_true(time_parse(at + 8, 24, &ms));
        buf_free(&entry, false);
        return ms;
}

static void a_clock_that_was_set_back_does_not_set_entries_back(void **state)
{
        static const int64_t at[] = {5000, 2000, 0, 5001, -3, 5001};
        static const int64_t kept[] = {5000, 5000, 5000, 5001, 5001, 5001};
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct txn *t = begin_write(f);
        for (int i = 0; i < 6; i++)
                assert_int_equal(append(t, log, at[i], "x", NULL, NULL), 0);
        for (int i = 0; i < 6; i++)
                assert_int_equal(time_of(t, (uint64_t)i), kept[i]);
        txn_abort(&t);
        audit_close(&log);
}

static void an_entry_over_the_limit_is_refused_and_leaves_the_parent_usable(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        static char data[AUDIT_ENTRY_MAX + 2];
        memset(data, ' ', sizeof data);
        data[0] = '{';
        for (size_t len = AUDIT_ENTRY_MAX - 1; len <= AUDIT_ENTRY_MAX + 1; len++) {
                struct txn *t = begin_write(f);
                struct txn *child = begin_child(t);
                data[len - 1] = '}';
                assert_int_equal(audit_append(child, log, 1, "x", "y", NULL, data, len, NULL),
                                 UL_TOO_LARGE);
                assert_int_equal(txn_error(child), UL_TOO_LARGE);
                txn_abort(&child);
                assert_int_equal(append(t, log, 1, "x", NULL, NULL), 0);
                assert_int_equal(audit_size(t), 1);
                txn_abort(&t);
                data[len - 1] = ' ';
        }
        audit_close(&log);
}

/* --- with the transaction --- */

static void an_event_whose_change_was_rolled_back_was_never_logged(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct merkle_frontier tree = {0};
        uint8_t root[32], expected[32];
        struct errinfo e = {0};
        struct txn *t = begin_write(f);
        for (uint64_t i = 0; i < 40; i++) {
                uint64_t index, before = audit_size(t);
                struct txn *child = begin_child(t);
                struct audit_keys keys = {.reference = i % 2 == 0 ? "kept" : "lost"};
                assert_int_equal(append(child, log, 1000, "x", &keys, &index), 0);
                assert_int_equal(index, before);
                if (i % 2 == 0) {
                        uint8_t leaf[32];
                        struct buf entry = {0};
                        assert_int_equal(audit_get(child, index, &entry, leaf), 0);
                        merkle_frontier_add(&tree, leaf);
                        buf_free(&entry, false);
                        commit(&child);
                } else {
                        txn_abort(&child);
                }
        }
        assert_int_equal(audit_size(t), 20);
        assert_int_equal(audit_root(t, 20, root, &e), 0);
        merkle_frontier_root(&tree, expected);
        assert_memory_equal(root, expected, sizeof root);
        assert_int_equal(audit_checkpoint_sign(t, log), 0);
        commit(&t);
        audit_close(&log);
        fixture_reopen(f);
        log = open_good(f);
        audit_close(&log);
}

static void a_checkpoint_is_signed_once_for_each_size(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct buf first = {0}, second = {0};
        grow(f, log, 0, 3);
        struct txn *t = begin_write(f);
        assert_int_equal(audit_checkpoint(t, &first), 0);
        assert_int_equal(t_blob_put(t, "audit_checkpoint", "untouched", 9), 0);
        assert_int_equal(audit_checkpoint_sign(t, log), 0);
        assert_int_equal(audit_checkpoint(t, &second), 0);
        assert_int_equal(second.len, 9);
        txn_abort(&t);
        buf_free(&first, false);
        buf_free(&second, false);
        audit_close(&log);
}

/* --- offline --- */

static void checkpoints_and_proofs_verify_offline_for_every_index_and_size(void **state)
{
        enum { SIZE = 40 };
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct note_key key;
        uint8_t roots[SIZE + 1][32], leaves[SIZE][32];
        uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES];
        uint32_t count;
        struct errinfo e = {0};
        assert_int_equal(note_vkey_parse(audit_vkey(log), strlen(audit_vkey(log)), &key, NULL), 0);
        for (uint64_t n = 0; n < SIZE; n++) {
                struct buf note = {0}, entry = {0};
                struct checkpoint c;
                grow(f, log, n, 1);
                struct txn *t = begin_read(f);
                assert_int_equal(audit_checkpoint(t, &note), 0);
                assert_int_equal(checkpoint_verify((const char *)note.data, note.len, &key, &c, &e),
                                 0);
                assert_string_equal(c.origin, origin);
                assert_int_equal(c.size, n + 1);
                memcpy(roots[n + 1], c.root, 32);
                assert_int_equal(audit_get(t, n, &entry, NULL), 0);
                merkle_leaf(entry.data, entry.len, leaves[n]);
                txn_abort(&t);
                buf_free(&note, false);
                buf_free(&entry, false);
        }
        struct txn *t = begin_read(f);
        for (uint64_t n = 1; n <= SIZE; n++) {
                uint8_t root[32];
                assert_int_equal(audit_root(t, n, root, &e), 0);
                assert_memory_equal(root, roots[n], 32);
                for (uint64_t i = 0; i < n; i++) {
                        assert_int_equal(audit_inclusion(t, i, n, hashes, &count, &e), 0);
                        assert_true(merkle_verify_inclusion(
                                i, n, leaves[i], (const uint8_t(*)[32])hashes, count, roots[n]));
                        assert_int_equal(audit_consistency(t, i + 1, n, hashes, &count, &e), 0);
                        assert_true(merkle_verify_consistency(i + 1, n,
                                                              (const uint8_t(*)[32])hashes, count,
                                                              roots[i + 1], roots[n]));
                }
        }
        txn_abort(&t);
        audit_close(&log);
}

static void proofs_that_cannot_be_are_refused_by_field(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        uint8_t hashes[2 * AUDIT_PROOF_MAX][SHA256_BYTES];
        uint32_t count;
        struct errinfo e = {0};
        grow(f, log, 0, 5);
        struct txn *t = begin_read(f);
        assert_int_equal(audit_inclusion(t, 5, 5, hashes, &count, &e), UL_NOT_FOUND);
        assert_int_equal(audit_inclusion(t, 3, 3, hashes, &count, &e), UL_INVALID);
        assert_string_equal(e.field, "size");
        assert_int_equal(audit_inclusion(t, 3, 6, hashes, &count, &e), UL_INVALID);
        assert_int_equal(audit_inclusion(t, 0, 0, hashes, &count, &e), UL_INVALID);
        assert_int_equal(audit_consistency(t, 0, 5, hashes, &count, &e), UL_INVALID);
        assert_string_equal(e.field, "from");
        assert_int_equal(audit_consistency(t, 4, 3, hashes, &count, &e), UL_INVALID);
        assert_string_equal(e.field, "from");
        assert_int_equal(audit_consistency(t, 4, 6, hashes, &count, &e), UL_INVALID);
        assert_string_equal(e.field, "to");
        assert_int_equal(audit_root(t, 6, hashes[0], &e), UL_INVALID);
        assert_int_equal(txn_error(t), 0);
        txn_abort(&t);
        audit_close(&log);
}

/* --- persons --- */

/* A subject's pseudonym is found by, and stands nowhere in what an auditor is given. */
static void subjects_and_records_are_indexed_and_not_part_of_the_entry(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct buf entry = {0};
        uint8_t subject[1][16], hex[33];
        memset(subject, 0xab, sizeof subject);
        struct audit_keys keys = {.subjects = (const uint8_t(*)[16])subject, .subject_count = 1};
        struct txn *t = begin_write(f);
        assert_int_equal(append(t, log, start_ms, "x", &keys, NULL), 0);
        assert_int_equal(audit_get(t, 0, &entry, NULL), 0);
        hex_encode(subject, 16, (char *)hex);
        assert_null(memmem(entry.data, entry.len, subject, 16));
        assert_null(memmem(entry.data, entry.len, hex, 32));
        txn_abort(&t);
        buf_free(&entry, false);
        audit_close(&log);
}

/* --- damage --- */

#define DAMAGED_SIZE UINT64_C(21)

static void refuse_open(struct fixture *f, const char *what)
{
        struct audit_log *log = NULL;
        struct errinfo e = {0};
        int err = open_log(f, &log, &e);
        if (err != UL_CORRUPT)
                fail_msg("%s: opened with %d", what, err);
        assert_null(log);
        assert_int_equal(e.code, UL_CORRUPT);
        assert_true(e.detail[0] != '\0');
}

/* Changes one stored value, sees that the log does not open, puts it back, sees that it does. */
static void tamper(struct fixture *f, enum table table, const void *key, size_t key_len,
                   const void *value, size_t len, const char *what)
{
        struct unpacker v;
        static uint8_t old[4096];
        struct txn *t = begin_write(f);
        assert_int_equal(db_get(t, table, key, key_len, &v), 0);
        size_t old_len = v.left;
        assert_true(old_len <= sizeof old);
        memcpy(old, v.at, old_len);
        if (value != NULL)
                assert_int_equal(db_put(t, table, key, key_len, value, len), 0);
        else
                assert_int_equal(db_del(t, table, key, key_len), 0);
        commit(&t);
        refuse_open(f, what);
        t = begin_write(f);
        assert_int_equal(db_put(t, table, key, key_len, old, old_len), 0);
        commit(&t);
        struct audit_log *log = open_good(f);
        audit_close(&log);
}

static void tamper_bit(struct fixture *f, enum table table, const void *key, size_t key_len,
                       size_t at, const char *what)
{
        struct unpacker v;
        uint8_t value[4096];
        struct txn *t = begin_read(f);
        assert_int_equal(db_get(t, table, key, key_len, &v), 0);
        size_t len = v.left;
        assert_true(len > 0 && len <= sizeof value);
        memcpy(value, v.at, len);
        txn_abort(&t);
        value[at % len] ^= (uint8_t)(1u << (at % 8));
        tamper(f, table, key, key_len, value, len, what);
}

static void a_changed_leaf_is_seen_at_start_and_when_it_is_read(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        grow(f, log, 0, DAMAGED_SIZE);
        for (uint64_t i = 0; i < DAMAGED_SIZE; i++) {
                uint8_t key[8];
                put_be64(key, i);
                tamper_bit(f, TABLE_AUDIT_LEAVES, key, sizeof key, (size_t)(i * 31 + 3), "leaf");
                tamper(f, TABLE_AUDIT_LEAVES, key, sizeof key, NULL, 0, "leaf gone");
                tamper(f, TABLE_AUDIT_LEAVES, key, sizeof key, "", 0, "leaf emptied");
        }
        struct answer a = {0};
        struct buf entry = {0};
        uint8_t key[8];
        uint64_t next;
        struct audit_filter q = {0};
        put_be64(key, 4);
        struct txn *t = begin_write(f);
        assert_int_equal(db_put(t, TABLE_AUDIT_LEAVES, key, sizeof key, "{}", 2), 0);
        assert_int_equal(audit_query(t, &q, 100, on_entry, &a, &next), UL_CORRUPT);
        assert_int_equal(a.n, 4); /* nothing false was given out */
        txn_abort(&t);
        t = begin_write(f);
        assert_int_equal(db_put(t, TABLE_AUDIT_LEAVES, key, sizeof key, "{}", 2), 0);
        buf_append_str(&entry, "x");
        assert_int_equal(audit_get(t, 4, &entry, NULL), UL_CORRUPT);
        assert_int_equal(entry.len, 1);
        txn_abort(&t);
        buf_free(&entry, false);
        audit_close(&log);
}

static void a_changed_node_is_seen_at_start(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        grow(f, log, 0, DAMAGED_SIZE);
        for (uint32_t level = 0; DAMAGED_SIZE >> level > 0; level++) {
                for (uint64_t i = 0; i < DAMAGED_SIZE >> level; i++) {
                        uint8_t key[10]; /* t_audit.c draws it; all levels are of the lowest tier */
                        key[0] = 0xff;
                        put_be64(key + 1, (i + 1) << level);
                        key[9] = (uint8_t)level;
                        tamper_bit(f, TABLE_AUDIT_NODES, key, sizeof key, (size_t)i * 5 + level,
                                   "node");
                        tamper(f, TABLE_AUDIT_NODES, key, sizeof key, NULL, 0, "node gone");
                }
        }
        audit_close(&log);
}

static void a_changed_checkpoint_is_seen_at_start(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct buf old = {0}, now = {0};
        grow(f, log, 0, DAMAGED_SIZE - 1);
        struct txn *t = begin_read(f);
        assert_int_equal(audit_checkpoint(t, &old), 0);
        txn_abort(&t);
        grow(f, log, DAMAGED_SIZE - 1, 1);
        t = begin_read(f);
        assert_int_equal(audit_checkpoint(t, &now), 0);
        txn_abort(&t);
        for (size_t at = 0; at < now.len; at++)
                tamper_bit(f, TABLE_BLOBS, "audit_checkpoint", 16, at, "checkpoint");
        /* an honest one, of an earlier size: the newest entry would not be covered */
        tamper(f, TABLE_BLOBS, "audit_checkpoint", 16, old.data, old.len, "older checkpoint");
        tamper(f, TABLE_BLOBS, "audit_checkpoint", 16, NULL, 0, "checkpoint gone");
        for (size_t at = 0; at < 24; at++)
                tamper_bit(f, TABLE_BLOBS, "audit_head", 10, at, "head");
        tamper(f, TABLE_BLOBS, "audit_head", 10, NULL, 0, "head gone");
        buf_free(&old, false);
        buf_free(&now, false);
        audit_close(&log);
}

/* The whole log is made anew with one entry less: consistent in itself, but not signed by this key.
 */
static void a_history_that_another_key_signed_is_seen_at_start(void **state)
{
        static const uint8_t other_seed[SIGN_SEED_BYTES] = {9};
        struct fixture *f = *state;
        struct audit_log *log = NULL;
        struct errinfo e = {0};
        struct txn *t = begin_read(f);
        assert_int_equal(audit_open(t, origin, other_seed, &log, &e), 0);
        txn_abort(&t);
        grow(f, log, 0, 4);
        audit_close(&log);
        refuse_open(f, "another key");
        t = begin_read(f);
        assert_int_equal(audit_open(t, "another.example", other_seed, &log, &e), UL_CORRUPT);
        txn_abort(&t);
}

static int get_node(void *arg, uint32_t level, uint64_t index, uint8_t hash[SHA256_BYTES])
{
        return t_audit_node_get(arg, level, index, hash);
}

static int put_node(void *arg, uint32_t level, uint64_t index, const uint8_t hash[SHA256_BYTES])
{
        return t_audit_node_put(arg, level, index, hash);
}

/* An entry is changed, and every hash above it with it: only the signature knows. */
static void a_history_rewritten_consistently_is_seen_at_start(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        grow(f, log, 0, 6);
        struct txn *t = begin_write(f);
        for (uint64_t i = 0; i < 6; i++) {
                struct buf entry = {0};
                uint8_t leaf[32];
                assert_int_equal(t_audit_leaf_get(t, i, &entry), 0);
                char *actor = memmem(entry.data, entry.len, "tests", 5);
                assert_non_null(actor);
                actor[0] = i == 2 ? 'b' : 't';
                assert_int_equal(t_audit_leaf_put(t, i, entry.data, entry.len), 0);
                merkle_leaf(entry.data, entry.len, leaf);
                assert_int_equal(merkle_append(i, leaf, get_node, put_node, t), 0);
                buf_free(&entry, false);
        }
        commit(&t);
        refuse_open(f, "rewritten");
        audit_close(&log);
}

static void entries_beyond_the_end_or_without_a_checkpoint_are_seen_at_start(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct txn *t = begin_write(f);
        assert_int_equal(append(t, log, 1, "x", NULL, NULL), 0);
        commit(&t); /* not signed */
        refuse_open(f, "never signed");
        t = begin_write(f);
        assert_int_equal(audit_checkpoint_sign(t, log), 0);
        commit(&t);
        struct audit_log *again = open_good(f);
        audit_close(&again);
        t = begin_write(f);
        assert_int_equal(t_audit_leaf_put(t, 1, "{}", 2), 0);
        commit(&t);
        refuse_open(f, "beyond the end");
        audit_close(&log);
}

static void a_complete_check_goes_in_bounded_steps_and_names_the_entry(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct errinfo e = {0};
        uint64_t next = 0;
        unsigned steps = 0;
        grow(f, log, 0, DAMAGED_SIZE);
        struct txn *t = begin_write(f);
        do {
                assert_int_equal(audit_check(t, next, 4, &next, &e), 0);
                steps++;
        } while (next != UINT64_MAX);
        assert_int_equal(steps, 6);
        assert_int_equal(audit_check(t, DAMAGED_SIZE, 4, &next, &e), 0);
        assert_true(next == UINT64_MAX);
        uint8_t hash[32] = {0};
        assert_int_equal(t_audit_node_put(t, 1, 5, hash), 0); /* over leaves 10 and 11 */
        assert_int_equal(audit_check(t, 0, 11, &next, &e), 0);
        assert_int_equal(next, 11);
        assert_int_equal(audit_check(t, 0, 100, &next, &e), UL_CORRUPT);
        assert_non_null(strstr(e.detail, "entry 11"));
        txn_abort(&t);
        audit_close(&log);
}

static void an_origin_that_cannot_be_a_key_name_is_refused(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = NULL;
        struct errinfo e = {0};
        struct txn *t = begin_read(f);
        assert_int_equal(audit_open(t, "a log", seed, &log, &e), UL_INVALID);
        assert_string_equal(e.field, "origin");
        assert_null(log);
        txn_abort(&t);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(an_entry_is_canonical_json_and_its_leaf_is_exactly_its_bytes),
                CASE(an_empty_log_has_no_checkpoint_and_signs_nothing),
                CASE(a_clock_that_was_set_back_does_not_set_entries_back),
                CASE(an_entry_over_the_limit_is_refused_and_leaves_the_parent_usable),
                CASE(an_event_whose_change_was_rolled_back_was_never_logged),
                CASE(a_checkpoint_is_signed_once_for_each_size),
                CASE(checkpoints_and_proofs_verify_offline_for_every_index_and_size),
                CASE(proofs_that_cannot_be_are_refused_by_field),
                CASE(subjects_and_records_are_indexed_and_not_part_of_the_entry),
                CASE(a_changed_leaf_is_seen_at_start_and_when_it_is_read),
                CASE(a_changed_node_is_seen_at_start),
                CASE(a_changed_checkpoint_is_seen_at_start),
                CASE(a_history_that_another_key_signed_is_seen_at_start),
                CASE(a_history_rewritten_consistently_is_seen_at_start),
                CASE(entries_beyond_the_end_or_without_a_checkpoint_are_seen_at_start),
                CASE(a_complete_check_goes_in_bounded_steps_and_names_the_entry),
                CASE(an_origin_that_cannot_be_a_key_name_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
