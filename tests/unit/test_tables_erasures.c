/* SPDX-License-Identifier: Apache-2.0
 * test_tables_erasures.c: erasures with what they touched, the shards that they wait for, what is
 * still to be scrubbed, and who may not be loaded again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "tests/unit/store_fixture.h"

static struct erasure_row erasure(uint32_t affected)
{
        struct erasure_row row;
        memset(&row, 0, sizeof row);
        row.state = ERASURE_COMPLETED;
        row.regulation = REGULATION_CCPA;
        row.held = 1;
        row.refusal = 2;
        row.extension = 3;
        row.overdue = 1;
        row.refused_ms = -9;
        row.first_deadline_ms = 10;
        fill(row.executed, sizeof row.executed, 5);
        row.matched = UINT64_MAX;
        row.received_ms = 1;
        row.accepted_ms = 2;
        row.forgotten_ms = 3;
        row.scrubbed_ms = 4;
        row.completed_ms = 5;
        row.deadline_ms = 6;
        row.scrubs_left = 7;
        row.shards_left = 8;
        row.audit_index = UINT64_MAX - 1;
        memset(row.reference, 'R', REFERENCE_MAX);
        row.affected_count = affected;
        return row;
}

static struct erasure_affected *affected_shards(uint32_t n)
{
        struct erasure_affected *a = calloc(n > 0 ? n : 1, sizeof *a);
        assert_non_null(a);
        for (uint32_t i = 0; i < n; i++) {
                a[i].model = i;
                a[i].shard = i + 1;
                a[i].slice = i + 2;
                a[i].state = AFFECTED_COMPLETED;
                a[i].records = i + UINT64_C(0x100000000);
                memset(a[i].model_name, 'a' + (int)(i % 26), i % (MODEL_NAME_MAX + 1));
        }
        return a;
}

static void an_erasure_comes_back_with_every_shard_that_it_touched(void **state)
{
        struct fixture *f = *state;
        static const uint32_t counts[] = {0, 1, 3, 200, 5000};
        for (int i = 0; i < 5; i++) {
                struct erasure_row row = erasure(counts[i]), got;
                struct erasure_affected *in = affected_shards(counts[i]), *out = NULL;
                struct txn *t = begin_write(f);
                assert_int_equal(t_erasure_get(t, ID(counts[i]), &got, &out), UL_NOT_FOUND);
                assert_null(out);
                assert_int_equal(t_erasure_put(t, ID(counts[i]), &row, counts[i] > 0 ? in : NULL),
                                 0);
                commit(&t);
                t = begin_read(f);
                assert_int_equal(t_erasure_get(t, ID(counts[i]), &got, NULL), 0);
                assert_memory_equal(&got, &row, sizeof row);
                assert_int_equal(t_erasure_get(t, ID(counts[i]), &got, &out), 0);
                assert_memory_equal(&got, &row, sizeof row);
                if (counts[i] == 0)
                        assert_null(out);
                else
                        assert_memory_equal(out, in, counts[i] * sizeof *in);
                txn_abort(&t);
                free(out);
                free(in);
        }
}

struct seen {
        uint64_t id[16];
        unsigned n, stop_at;
};

static int on_erasure(void *arg, const uint8_t id[16], const struct erasure_row *row,
                      const struct erasure_affected *affected)
{
        struct seen *s = arg;
        s->id[s->n++] = get_be64(id + 8);
        assert_int_equal(row->affected_count, get_be64(id + 8) % 3);
        assert_true((affected == NULL) == (row->affected_count == 0));
        return s->n == s->stop_at ? 42 : 0;
}

static void erasures_are_walked_newest_first_from_before_a_given_one(void **state)
{
        struct fixture *f = *state;
        struct seen s = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(t_erasure_each_desc(t, NULL, on_erasure, &s), 0);
        assert_int_equal(s.n, 0);
        for (uint64_t i = 10; i > 0; i -= 2) {
                struct erasure_affected *a = affected_shards((uint32_t)(i % 3));
                struct erasure_row row = erasure((uint32_t)(i % 3));
                assert_int_equal(t_erasure_put(t, ID(i), &row, a), 0);
                free(a);
        }
        assert_int_equal(t_erasure_each_desc(t, NULL, on_erasure, &s), 0);
        assert_int_equal(s.n, 5);
        assert_memory_equal(s.id, ((uint64_t[]){10, 8, 6, 4, 2}), 40);
        for (uint64_t before = 0; before < 13; before++) {
                s = (struct seen){0};
                assert_int_equal(t_erasure_each_desc(t, ID(before), on_erasure, &s), 0);
                unsigned expected = before > 10 ? 5 : before > 0 ? (unsigned)(before - 1) / 2 : 0;
                assert_int_equal(s.n, expected);
                if (s.n > 0)
                        assert_true(s.id[0] < before && s.id[s.n - 1] == 2);
        }
        s = (struct seen){.stop_at = 2};
        assert_int_equal(t_erasure_each_desc(t, NULL, on_erasure, &s), 42);
        assert_int_equal(s.n, 2);
        commit(&t);
}

static void an_erasure_that_claims_more_shards_than_it_holds_is_damage(void **state)
{
        struct fixture *f = *state;
        struct erasure_row row = erasure(2), got;
        struct erasure_affected *a = affected_shards(2), *out = NULL;
        struct unpacker v;
        uint8_t value[512];
        struct txn *t = begin_write(f);
        assert_int_equal(t_erasure_put(t, ID(1), &row, a), 0);
        assert_int_equal(db_get(t, TABLE_ERASURES, ID(1), 16, &v), 0);
        size_t len = v.left;
        memcpy(value, v.at, len);
        for (size_t cut = 0; cut < len; cut++) {
                struct txn *child = begin_child(t);
                assert_int_equal(db_put(child, TABLE_ERASURES, ID(1), 16, value, cut), 0);
                assert_int_equal(t_erasure_get(child, ID(1), &got, &out), UL_CORRUPT);
                assert_null(out);
                txn_abort(&child);
        }
        value[0] = ERASURE_REFUSED + 1;
        assert_int_equal(db_put(t, TABLE_ERASURES, ID(1), 16, value, len), 0);
        assert_int_equal(t_erasure_get(t, ID(1), &got, &out), UL_CORRUPT);
        txn_abort(&t);
        free(a);
}

/* --- held, deadlines --- */

static void what_a_held_erasure_asks_for_comes_back_and_goes(void **state)
{
        struct fixture *f = *state;
        static char text[100000];
        struct buf b = {0};
        memset(text, 'h', sizeof text);
        struct txn *t = begin_write(f);
        assert_int_equal(t_held_get(t, ID(1), &b), UL_NOT_FOUND);
        assert_int_equal(t_held_put(t, ID(1), text, sizeof text), 0);
        assert_int_equal(t_held_get(t, ID(1), &b), 0);
        assert_int_equal(b.len, sizeof text);
        assert_memory_equal(b.data, text, sizeof text);
        assert_int_equal(t_held_del(t, ID(1)), 0);
        assert_int_equal(t_held_del(t, ID(1)), UL_NOT_FOUND);
        commit(&t);
        buf_free(&b, false);
}

static int on_deadline(void *arg, int64_t deadline_ms, const uint8_t id[16])
{
        struct seen *s = arg;
        s->id[s->n++] = (uint64_t)deadline_ms * 100 + get_be64(id + 8);
        return s->n == s->stop_at ? 42 : 0;
}

static void deadlines_are_walked_earliest_first_those_noted_apart(void **state)
{
        struct fixture *f = *state;
        struct seen s = {0}, noted = {0}, two = {.stop_at = 2};
        struct txn *t = begin_write(f);
        assert_int_equal(t_deadline_put(t, false, 300, ID(1)), 0);
        assert_int_equal(t_deadline_put(t, false, 2, ID(9)), 0);
        assert_int_equal(t_deadline_put(t, false, 2, ID(3)), 0);
        assert_int_equal(t_deadline_put(t, true, 1, ID(4)), 0);
        assert_int_equal(t_deadline_each(t, false, on_deadline, &s), 0);
        assert_int_equal(s.n, 3);
        assert_memory_equal(s.id, ((uint64_t[]){203, 209, 30001}), 24);
        assert_int_equal(t_deadline_each(t, true, on_deadline, &noted), 0);
        assert_int_equal(noted.n, 1);
        assert_int_equal(t_deadline_each(t, false, on_deadline, &two), 42);
        assert_int_equal(two.n, 2);
        assert_int_equal(t_deadline_del(t, true, 2, ID(3)), UL_NOT_FOUND);
        assert_int_equal(t_deadline_del(t, false, 2, ID(3)), 0);
        assert_int_equal(t_deadline_del(t, false, 2, ID(3)), UL_NOT_FOUND);
        commit(&t);
}

/* --- waiting --- */

static int on_waiting(void *arg, const uint8_t id[16])
{
        struct seen *s = arg;
        s->id[s->n++] = get_be64(id + 8);
        return s->n == s->stop_at ? 42 : 0;
}

static void erasures_wait_for_one_shard_of_one_model(void **state)
{
        struct fixture *f = *state;
        struct seen s = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(t_waiting_put(t, 1, 2, ID(9)), 0);
        assert_int_equal(t_waiting_put(t, 1, 2, ID(3)), 0);
        assert_int_equal(t_waiting_put(t, 1, 2, ID(3)), 0);
        assert_int_equal(t_waiting_put(t, 1, 3, ID(4)), 0);
        assert_int_equal(t_waiting_put(t, 1, 1, ID(5)), 0);
        assert_int_equal(t_waiting_put(t, 2, 2, ID(6)), 0);
        assert_int_equal(t_waiting_each(t, 1, 2, on_waiting, &s), 0);
        assert_int_equal(s.n, 2);
        assert_memory_equal(s.id, ((uint64_t[]){3, 9}), 16);
        s = (struct seen){.stop_at = 1};
        assert_int_equal(t_waiting_each(t, 1, 2, on_waiting, &s), 42);
        assert_int_equal(t_waiting_del(t, 1, 2, ID(3)), 0);
        assert_int_equal(t_waiting_del(t, 1, 2, ID(3)), UL_NOT_FOUND);
        s = (struct seen){0};
        assert_int_equal(t_waiting_each(t, 1, 2, on_waiting, &s), 0);
        assert_int_equal(s.n, 1);
        commit(&t);
}

/* --- scrub --- */

struct scrubs {
        struct scrub_key key[8];
        struct scrub_row row[8];
        unsigned n;
};

static int on_scrub(void *arg, const struct scrub_key *k, const struct scrub_row *row)
{
        struct scrubs *s = arg;
        s->key[s->n] = *k;
        s->row[s->n++] = *row;
        return 0;
}

static void what_is_to_be_scrubbed_is_kept_by_erasure_until_it_is_done(void **state)
{
        struct fixture *f = *state;
        struct scrubs s = {0};
        struct scrub_key k = {.model = 258, .kind = SCRUB_RECORD};
        struct scrub_row row = {.shard = 1, .slice = UINT32_MAX, .row = 3};
        memcpy(k.pseudonym, ID(77), 16);
        struct txn *t = begin_write(f);
        for (uint64_t i = 3; i > 0; i--) {
                memcpy(k.erasure, ID(i), 16);
                assert_int_equal(t_scrub_put(t, &k, &row), 0);
        }
        k.kind = SCRUB_SUBJECT;
        assert_int_equal(t_scrub_put(t, &k, &row), 0);
        assert_int_equal(t_scrub_each(t, NULL, on_scrub, &s), 0);
        assert_int_equal(s.n, 4);
        assert_memory_equal(&s.key[0], &k, sizeof k);
        assert_memory_equal(&s.row[3], &row, sizeof row);
        assert_int_equal(s.key[1].kind, SCRUB_RECORD);
        assert_int_equal(get_be64(s.key[3].erasure + 8), 3);
        const struct scrub_key second = s.key[1];
        s.n = 0;
        assert_int_equal(t_scrub_each(t, &second, on_scrub, &s), 0);
        assert_int_equal(s.n, 2);
        assert_int_equal(get_be64(s.key[0].erasure + 8), 2);
        s.n = 0;
        assert_int_equal(t_scrub_each(t, &s.key[1], on_scrub, &s), 0);
        assert_int_equal(s.n, 0);
        assert_int_equal(t_scrub_del(t, &k), 0);
        assert_int_equal(t_scrub_del(t, &k), UL_NOT_FOUND);
        s.n = 0;
        assert_int_equal(t_scrub_each(t, NULL, on_scrub, &s), 0);
        assert_int_equal(s.n, 3);
        commit(&t);
}

/* --- suppressions --- */

static struct suppression_row since(int64_t ms)
{
        struct suppression_row row = {.since_ms = ms};
        memcpy(row.erasure, ID(123), 16);
        return row;
}

static void a_suppression_holds_for_its_model_or_for_all_and_for_its_kind(void **state)
{
        struct fixture *f = *state;
        struct suppression_row row = since(5), got;
        struct txn *t = begin_write(f);
        assert_int_equal(t_suppression_put(t, ID(1), 7, SUPPRESS_SUBJECT, &row), 0);
        assert_int_equal(t_suppression_get(t, ID(1), 7, SUPPRESS_SUBJECT, &got), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(t_suppression_get(t, ID(1), 8, SUPPRESS_SUBJECT, &got), UL_NOT_FOUND);
        assert_int_equal(t_suppression_get(t, ID(1), 7, SUPPRESS_RECORD, &got), UL_NOT_FOUND);
        assert_int_equal(t_suppression_get(t, ID(2), 7, SUPPRESS_SUBJECT, &got), UL_NOT_FOUND);
        row = since(6);
        assert_int_equal(t_suppression_put(t, ID(1), 0, SUPPRESS_SUBJECT, &row), 0);
        assert_int_equal(t_suppression_get(t, ID(1), 8, SUPPRESS_SUBJECT, &got), 0);
        assert_int_equal(got.since_ms, 6);
        assert_int_equal(t_suppression_get(t, ID(1), 7, SUPPRESS_SUBJECT, &got), 0);
        assert_int_equal(got.since_ms, 5);
        assert_int_equal(t_suppression_get(t, ID(1), 0, SUPPRESS_RECORD, &got), UL_NOT_FOUND);
        commit(&t);
}

static void lifting_removes_every_entry_of_one_pseudonym(void **state)
{
        struct fixture *f = *state;
        struct suppression_row row = since(5), got;
        uint32_t removed = 9;
        struct txn *t = begin_write(f);
        uint64_t held;
        assert_int_equal(t_suppression_lift(t, ID(2), &removed), 0);
        assert_int_equal(removed, 0);
        for (uint64_t p = 1; p <= 3; p++)
                for (uint32_t model = 0; model < 4; model++)
                        for (uint32_t kind = 1; kind <= 2; kind++)
                                assert_int_equal(t_suppression_put(t, ID(p), model, kind, &row), 0);
        assert_int_equal(t_suppression_count(t, &held), 0);
        assert_int_equal(held, 24);
        assert_int_equal(t_suppression_lift(t, ID(2), &removed), 0);
        assert_int_equal(removed, 8);
        assert_int_equal(t_suppression_count(t, &held), 0);
        assert_int_equal(held, 16);
        for (uint64_t p = 1; p <= 3; p++)
                assert_int_equal(t_suppression_get(t, ID(p), 3, SUPPRESS_RECORD, &got),
                                 p == 2 ? UL_NOT_FOUND : 0);
        commit(&t);
}

static int on_suppression(void *arg, const uint8_t pseudonym[16], uint32_t model, uint32_t kind,
                          const struct suppression_row *row)
{
        struct seen *s = arg;
        assert_int_equal(row->since_ms, 5);
        s->id[s->n++] = get_be64(pseudonym + 8) * 100 + model * 10 + kind;
        return s->n == s->stop_at ? 42 : 0;
}

static void suppressions_are_walked_from_the_key_after_a_given_one(void **state)
{
        struct fixture *f = *state;
        static const uint64_t all[] = {101, 111, 112, 201, 312};
        struct suppression_row row = since(5);
        struct seen s = {0};
        struct txn *t = begin_write(f);
        for (int i = 4; i >= 0; i--)
                assert_int_equal(t_suppression_put(t, ID(all[i] / 100),
                                                   (uint32_t)(all[i] / 10 % 10),
                                                   (uint32_t)(all[i] % 10), &row),
                                 0);
        assert_int_equal(t_suppression_each(t, NULL, 0, 0, on_suppression, &s), 0);
        assert_int_equal(s.n, 5);
        assert_memory_equal(s.id, all, sizeof all);
        s = (struct seen){.stop_at = 1};
        assert_int_equal(t_suppression_each(t, ID(1), 1, 1, on_suppression, &s), 42);
        assert_int_equal(s.id[0], 112);
        s = (struct seen){0};
        assert_int_equal(t_suppression_each(t, ID(1), UINT32_MAX, UINT32_MAX, on_suppression, &s),
                         0);
        assert_int_equal(s.n, 2);
        assert_memory_equal(s.id, all + 3, 16);
        commit(&t);
}

static void an_erasure_here_takes_the_place_of_an_imported_suppression(void **state)
{
        struct fixture *f = *state;
        struct suppression_row own = since(5), imported = since(6), got;
        struct txn *t = begin_write(f);
        /* an erasure of elsewhere, with a clock of its own */
        memcpy(own.erasure, ID(10), ULID_BYTES);
        memcpy(imported.erasure, ID(99), ULID_BYTES);
        memcpy(imported.import, ID(20), ULID_BYTES);
        assert_false(suppression_imported(&own));
        assert_true(suppression_imported(&imported));
        assert_int_equal(t_suppression_put(t, ID(1), 0, SUPPRESS_SUBJECT, &imported), 0);
        assert_int_equal(t_suppression_get(t, ID(1), 0, SUPPRESS_SUBJECT, &got), 0);
        assert_memory_equal(&got, &imported, sizeof got);
        assert_int_equal(t_suppression_put(t, ID(1), 0, SUPPRESS_SUBJECT, &own), 0);
        assert_int_equal(t_suppression_get(t, ID(1), 0, SUPPRESS_SUBJECT, &got), 0);
        assert_memory_equal(&got, &own, sizeof got);
        commit(&t);
}

static void an_import_and_what_a_lift_took_away_are_known_again(void **state)
{
        struct fixture *f = *state;
        struct lift_entry entry = {.model = 3, .kind = SUPPRESS_SUBJECT, .row = since(5)};
        struct lift_row row = {.lifted_ms = 7, .entry_count = 1};
        struct txn *t = begin_write(f);
        assert_int_equal(t_import_has(t, ID(1)), UL_NOT_FOUND);
        assert_int_equal(t_import_put(t, ID(1), 1769850000123, 512), 0);
        assert_int_equal(t_import_has(t, ID(1)), 0);
        assert_int_equal(t_import_has(t, ID(2)), UL_NOT_FOUND);
        memcpy(entry.row.erasure, ID(8), ULID_BYTES);
        memcpy(row.pseudonym, ID(4), PSEUDONYM_BYTES);
        assert_int_equal(t_lift_put(t, ID(100), &row, &entry), 0);
        assert_int_equal(t_suppression_noted(t, ID(4), 3, SUPPRESS_SUBJECT, ID(8)), 0);
        assert_int_equal(t_suppression_noted(t, ID(4), 3, SUPPRESS_SUBJECT, ID(9)), UL_NOT_FOUND);
        assert_int_equal(t_suppression_noted(t, ID(5), 3, SUPPRESS_SUBJECT, ID(8)), UL_NOT_FOUND);
        assert_int_equal(t_suppression_noted(t, ID(4), 4, SUPPRESS_SUBJECT, ID(8)), UL_NOT_FOUND);
        assert_int_equal(t_suppression_noted(t, ID(4), 3, SUPPRESS_RECORD, ID(8)), UL_NOT_FOUND);
        commit(&t);
}

static int see_lift(void *arg, const uint8_t id[ULID_BYTES], const struct lift_row *row,
                    const struct lift_entry *entries)
{
        uint64_t *seen = arg;
        assert_memory_equal(id, ID(*seen + 1), ULID_BYTES);
        assert_int_equal(row->lifted_ms, (int64_t)*seen + 100);
        assert_int_equal(row->entry_count, *seen);
        for (uint32_t i = 0; i < row->entry_count; i++) {
                assert_int_equal(entries[i].model, i);
                assert_memory_equal(entries[i].row.erasure, ID(9), ULID_BYTES);
        }
        ++*seen;
        return 0;
}

static void a_lift_is_kept_with_what_it_took_away(void **state)
{
        struct fixture *f = *state;
        struct lift_entry entries[3] = {{.model = 0, .kind = SUPPRESS_SUBJECT},
                                        {.model = 1, .kind = SUPPRESS_RECORD},
                                        {.model = 2, .kind = SUPPRESS_SUBJECT}};
        uint64_t seen = 0;
        for (size_t i = 0; i < 3; i++)
                memcpy(entries[i].row.erasure, ID(9), ULID_BYTES);
        struct txn *t = begin_write(f);
        for (uint32_t n = 0; n <= 3; n++) {
                struct lift_row row = {.lifted_ms = 100 + n, .entry_count = n};
                assert_int_equal(t_lift_put(t, ID(n + 1), &row, entries), 0);
        }
        commit(&t);
        t = begin_read(f);
        assert_int_equal(t_lift_has(t, ID(2)), 0);
        assert_int_equal(t_lift_has(t, ID(5)), UL_NOT_FOUND);
        assert_int_equal(t_lift_each(t, see_lift, &seen), 0);
        assert_int_equal(seen, 4);
        txn_abort(&t);
}

static void evidence_is_kept_by_erasure_and_shard_with_its_digests(void **state)
{
        struct fixture *f = *state;
        uint8_t digests[4096][SHA256_BYTES], (*got)[SHA256_BYTES] = NULL;
        struct evidence_row out;
        static const uint32_t counts[] = {0, 1, 4096};
        for (size_t i = 0; i < sizeof digests; i++)
                ((uint8_t *)digests)[i] = (uint8_t)(i * 7);
        for (int i = 0; i < 3; i++) {
                struct evidence_row in;
                memset(&in, 0, sizeof in);
                in.first = 3;
                in.destroyed = counts[i];
                in.deleted = 1;
                in.slices = 9;
                memset(in.file_hash, 1, sizeof in.file_hash);
                memset(in.data_hash, 2, sizeof in.data_hash);
                memset(in.retained, 3, sizeof in.retained);
                memset(in.config_hash, 4, sizeof in.config_hash);
                in.records = UINT64_MAX;
                in.trained_ms = 77;
                memset(in.kernel, 'k', sizeof in.kernel - 1);
                struct txn *t = begin_write(f);
                assert_int_equal(t_evidence_get(t, ID(1), 2, 3, &out, &got), UL_NOT_FOUND);
                assert_null(got);
                assert_int_equal(t_evidence_put(t, ID(1), 2, 3, &in,
                                                (const uint8_t(*)[SHA256_BYTES])digests),
                                 0);
                commit(&t);
                t = begin_write(f);
                assert_int_equal(t_evidence_get(t, ID(1), 3, 2, &out, &got), UL_NOT_FOUND);
                assert_int_equal(t_evidence_get(t, ID(1), 2, 3, &out, &got), 0);
                assert_memory_equal(&out, &in, sizeof in);
                assert_memory_equal(got, digests, (size_t)counts[i] * SHA256_BYTES);
                free(got);
                assert_int_equal(t_evidence_del(t, ID(1), 2, 3), 0);
                assert_int_equal(t_evidence_del(t, ID(1), 2, 3), UL_NOT_FOUND);
                commit(&t);
        }
}

static void a_certificate_is_kept_as_it_was_written(void **state)
{
        struct fixture *f = *state;
        struct buf got = {0};
        uint64_t index = 0;
        char *text = malloc(1 << 20);
        assert_non_null(text);
        memset(text, 'x', 1 << 20);
        struct txn *t = begin_write(f);
        assert_int_equal(t_certificate_get(t, ID(1), &index, &got), UL_NOT_FOUND);
        assert_int_equal(t_certificate_put(t, ID(1), UINT64_MAX, text, 1 << 20), 0);
        assert_int_equal(t_certificate_put(t, ID(2), 7, "{}", 2), 0);
        commit(&t);
        t = begin_read(f);
        assert_int_equal(t_certificate_get(t, ID(1), &index, &got), 0);
        assert_int_equal(index, UINT64_MAX);
        assert_int_equal(got.len, 1 << 20);
        assert_memory_equal(got.data, text, 1 << 20);
        assert_int_equal(t_certificate_get(t, ID(2), &index, NULL), 0);
        assert_int_equal(index, 7);
        txn_abort(&t);
        buf_free(&got, false);
        free(text);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(an_erasure_comes_back_with_every_shard_that_it_touched),
                CASE(erasures_are_walked_newest_first_from_before_a_given_one),
                CASE(an_erasure_that_claims_more_shards_than_it_holds_is_damage),
                CASE(what_a_held_erasure_asks_for_comes_back_and_goes),
                CASE(deadlines_are_walked_earliest_first_those_noted_apart),
                CASE(erasures_wait_for_one_shard_of_one_model),
                CASE(what_is_to_be_scrubbed_is_kept_by_erasure_until_it_is_done),
                CASE(a_suppression_holds_for_its_model_or_for_all_and_for_its_kind),
                CASE(lifting_removes_every_entry_of_one_pseudonym),
                CASE(a_lift_is_kept_with_what_it_took_away),
                CASE(evidence_is_kept_by_erasure_and_shard_with_its_digests),
                CASE(a_certificate_is_kept_as_it_was_written),
                CASE(suppressions_are_walked_from_the_key_after_a_given_one),
                CASE(an_erasure_here_takes_the_place_of_an_imported_suppression),
                CASE(an_import_and_what_a_lift_took_away_are_known_again),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
