/* SPDX-License-Identifier: Apache-2.0
 * test_tables.c: counters, models, shards, slices, jobs, idempotency keys and uploads: every field
 * comes back, walks go in key order and end where they should, damage is told from absence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "tests/unit/store_fixture.h"

/* --- counters and blobs --- */

static void an_absent_counter_is_zero_and_a_stored_one_comes_back(void **state)
{
        struct fixture *f = *state;
        uint64_t v = 5;
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_get(t, "n", &v), 0);
        assert_int_equal(v, 0);
        assert_int_equal(t_counter_put(t, "n", UINT64_MAX), 0);
        assert_int_equal(t_counter_put(t, "m", 1), 0);
        assert_int_equal(t_counter_get(t, "n", &v), 0);
        assert_true(v == UINT64_MAX);
        commit(&t);
}

static void a_blob_is_appended_to_the_callers_buffer(void **state)
{
        struct fixture *f = *state;
        struct buf b = {0};
        static uint8_t big[100000];
        fill(big, sizeof big, 1);
        struct txn *t = begin_write(f);
        assert_int_equal(t_blob_put(t, "big", big, sizeof big), 0);
        assert_int_equal(t_blob_put(t, "empty", "", 0), 0);
        commit(&t);
        t = begin_read(f);
        buf_append_str(&b, "x");
        assert_int_equal(t_blob_get(t, "big", &b), 0);
        assert_int_equal(b.len, 1 + sizeof big);
        assert_memory_equal(b.data + 1, big, sizeof big);
        assert_int_equal(t_blob_get(t, "empty", &b), 0);
        assert_int_equal(b.len, 1 + sizeof big);
        assert_int_equal(t_blob_get(t, "absent", &b), UL_NOT_FOUND);
        txn_abort(&t);
        t = begin_write(f);
        assert_int_equal(t_blob_del(t, "empty"), 0);
        assert_int_equal(t_blob_del(t, "absent"), 0);
        assert_int_equal(t_blob_get(t, "empty", &b), UL_NOT_FOUND);
        assert_int_equal(t_blob_get(t, "big", &b), 0);
        commit(&t);
        buf_free(&b, false);
}

/* --- models --- */

static void a_model_keeps_its_configuration_when_only_the_row_is_put(void **state)
{
        struct fixture *f = *state;
        struct model_row row = {.id = 7,
                                .deleting = 1,
                                .trained = 1,
                                .generation = UINT64_C(1) << 40,
                                .records = 12,
                                .created_ms = -5},
                         got;
        struct buf b = {0};
        static char config[20000];
        memset(config, 'c', sizeof config);
        struct txn *t = begin_write(f);
        assert_int_equal(t_model_get(t, "digits", &got, NULL), UL_NOT_FOUND);
        assert_int_equal(t_model_put(t, "digits", &row, config, sizeof config), 0);
        row.records = 13;
        assert_int_equal(t_model_put(t, "digits", &row, NULL, 0), 0);
        assert_int_equal(t_model_get(t, "digits", &got, &b), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(b.len, sizeof config);
        assert_memory_equal(b.data, config, sizeof config);
        assert_int_equal(t_model_get(t, "", &got, NULL), UL_NOT_FOUND);
        char longer[MODEL_NAME_MAX + 2];
        memset(longer, 'a', sizeof longer);
        longer[sizeof longer - 1] = '\0';
        assert_int_equal(t_model_get(t, longer, &got, NULL), UL_NOT_FOUND);
        assert_int_equal(t_model_del(t, "digits"), 0);
        assert_int_equal(t_model_del(t, "digits"), UL_NOT_FOUND);
        commit(&t);
        buf_free(&b, false);
}

struct names {
        char text[256];
        int stop_at, seen;
};

static int on_model(void *arg, const char *name, const struct model_row *row, const char *config,
                    size_t config_len)
{
        struct names *n = arg;
        size_t at = strlen(n->text);
        (void)snprintf(n->text + at, sizeof n->text - at, "%s=%u%.*s ", name, row->id,
                       (int)config_len, config);
        return ++n->seen == n->stop_at ? -99 : 0;
}

static void models_are_walked_in_name_order_until_the_callback_ends_it(void **state)
{
        struct fixture *f = *state;
        static const char *const names[] = {"b", "a-1", "ab", "a", "z"};
        struct names n = {0};
        struct txn *t = begin_write(f);
        for (uint32_t i = 0; i < 5; i++) {
                struct model_row row = {.id = i};
                assert_int_equal(t_model_put(t, names[i], &row, "{}", 2), 0);
        }
        assert_int_equal(t_model_each(t, on_model, &n), 0);
        assert_string_equal(n.text, "a=3{} a-1=1{} ab=2{} b=0{} z=4{} ");
        n = (struct names){.stop_at = 2};
        assert_int_equal(t_model_each(t, on_model, &n), -99);
        assert_string_equal(n.text, "a=3{} a-1=1{} ");
        assert_int_equal(txn_error(t), 0); /* the callback's value is its own affair */
        commit(&t);
}

/* --- shards and slices --- */

static int on_shard(void *arg, uint32_t shard, const struct shard_row *row)
{
        uint32_t *expected = arg;
        assert_int_equal(shard, *expected);
        assert_int_equal(row->waiting, shard + 1);
        *expected += shard < 2 ? 1 : 254;
        return 0;
}

static void shards_come_back_whole_and_in_order_of_their_model_alone(void **state)
{
        struct fixture *f = *state;
        struct shard_row row, got;
        static const uint32_t shards[] = {256, 2, 0, 1};
        struct txn *t = begin_write(f);
        fill(&row, sizeof row, 1);
        assert_int_equal(t_shard_get(t, 4, 0, &got), UL_NOT_FOUND);
        assert_int_equal(t_shard_put(t, 4, UINT32_MAX, &row), 0);
        assert_int_equal(t_shard_put(t, 6, 0, &row), 0);
        for (int i = 0; i < 4; i++) {
                row.waiting = shards[i] + 1;
                assert_int_equal(t_shard_put(t, 5, shards[i], &row), 0);
        }
        assert_int_equal(t_shard_get(t, 5, 1, &got), 0);
        assert_memory_equal(&got, &row, sizeof row); /* shard 1 was put last */
        uint32_t expected = 0;
        assert_int_equal(t_shard_each(t, 5, on_shard, &expected), 0);
        assert_int_equal(expected, 256 + 254);
        commit(&t);
}

struct slices {
        uint32_t key[8][2];
        uint32_t n;
};

static int on_slice(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row)
{
        struct slices *s = arg;
        s->key[s->n][0] = shard;
        s->key[s->n++][1] = slice;
        assert_int_equal(row->rows, shard * 1000 + slice);
        return 0;
}

static void slices_come_back_whole_and_by_shard_or_by_model(void **state)
{
        struct fixture *f = *state;
        static const uint32_t keys[][2] = {{1, 300}, {0, 2}, {1, 1}, {0, 1}, {300, 7}};
        struct slice_row row, got;
        struct slices s = {0};
        struct txn *t = begin_write(f);
        fill(&row, sizeof row, 5);
        fill(&got, sizeof got, 9);
        assert_int_equal(t_slice_get(t, 2, 0, 1, &got), UL_NOT_FOUND);
        static const struct slice_row zero;
        assert_memory_equal(&got, &zero, sizeof got);
        for (int i = 0; i < 5; i++) {
                row.rows = keys[i][0] * 1000 + keys[i][1];
                assert_int_equal(t_slice_put(t, 2, keys[i][0], keys[i][1], &row), 0);
        }
        assert_int_equal(t_slice_put(t, 3, 0, 1, &row), 0);
        assert_int_equal(t_slice_get(t, 2, 300, 7, &got), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(t_slice_each(t, 2, UINT32_MAX, on_slice, &s), 0);
        static const uint32_t all[][2] = {{0, 1}, {0, 2}, {1, 1}, {1, 300}, {300, 7}};
        assert_int_equal(s.n, 5);
        assert_memory_equal(s.key, all, sizeof all);
        assert_int_equal(t_slice_del(t, 3, 0, 1), 0);
        assert_int_equal(t_slice_del(t, 3, 0, 1), UL_NOT_FOUND);
        assert_int_equal(t_slice_get(t, 2, 0, 1, &got), 0);
        s = (struct slices){0};
        assert_int_equal(t_slice_each(t, 2, 1, on_slice, &s), 0);
        assert_int_equal(s.n, 2);
        assert_memory_equal(s.key, all + 2, sizeof all[0] * 2);
        commit(&t);
}

/* --- jobs --- */

static struct job_row job(uint32_t n)
{
        struct job_row row;
        memset(&row, 0, sizeof row);
        row.kind = JOB_VERIFY;
        row.state = JOB_RUNNING;
        row.model = n;
        row.shard = UINT32_MAX;
        row.attempts = 3;
        row.created_ms = 1;
        row.started_ms = 2;
        row.ended_ms = 3;
        row.cost = UINT64_MAX;
        memset(row.model_name, 'm', sizeof row.model_name - 1);
        memset(row.error, 'e', sizeof row.error - 1);
        return row;
}

static int on_job(void *arg, const uint8_t id[ULID_BYTES], const struct job_row *row,
                  const char *result, size_t result_len)
{
        uint64_t *expected = arg;
        assert_int_equal(get_be64(id + 8), *expected);
        assert_int_equal(row->model, *expected);
        assert_int_equal(result_len, *expected == 3 ? 2 : 0);
        assert_true((result == NULL) == (result_len == 0));
        return --*expected == 0 ? 1 : 0;
}

static void jobs_come_back_whole_and_newest_first(void **state)
{
        struct fixture *f = *state;
        struct job_row row = job(1), got;
        struct buf b = {0};
        struct txn *t = begin_write(f);
        uint64_t expected = 0;
        assert_int_equal(t_job_each_desc(t, NULL, on_job, &expected), 0);
        for (uint32_t i = 0; i < 6; i++) {
                row = job(i);
                assert_int_equal(t_job_put(t, ID(i), &row, i == 3 ? "{}" : NULL, i == 3 ? 2 : 0),
                                 0);
        }
        row = job(3);
        assert_int_equal(t_job_get(t, ID(3), &got, &b), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(b.len, 2);
        assert_int_equal(t_job_get(t, ID(9), &got, NULL), UL_NOT_FOUND);
        expected = 5;
        assert_int_equal(t_job_each_desc(t, NULL, on_job, &expected), 1);
        expected = 3;
        assert_int_equal(t_job_each_desc(t, ID(4), on_job, &expected), 1);
        expected = 5; /* from a key that is not there */
        assert_int_equal(t_job_each_desc(t, ID(100), on_job, &expected), 1);
        expected = 0;
        assert_int_equal(t_job_each_desc(t, ID(0), on_job, &expected), 0);
        commit(&t);
        buf_free(&b, false);
}

static void the_oldest_jobs_that_have_ended_are_pruned(void **state)
{
        struct txn *t = begin_write(*state);
        struct job_row row = job(1), got;
        for (uint8_t i = 1; i <= 9; i++) {
                row = job(i);
                row.state = i == 6 ? JOB_RUNNING : JOB_SUCCEEDED;
                assert_int_equal(t_job_put(t, ID(i), &row, NULL, 0), 0);
        }
        assert_int_equal(t_job_prune(t, 9), 0);
        assert_int_equal(t_job_get(t, ID(1), &got, NULL), 0);
        assert_int_equal(t_job_prune(t, 7), 0);
        assert_int_equal(t_job_get(t, ID(2), &got, NULL), UL_NOT_FOUND);
        assert_int_equal(t_job_get(t, ID(3), &got, NULL), 0);
        assert_int_equal(t_job_prune(t, 1), 0); /* up to the one that runs */
        assert_int_equal(t_job_get(t, ID(5), &got, NULL), UL_NOT_FOUND);
        assert_int_equal(t_job_get(t, ID(6), &got, NULL), 0);
        assert_int_equal(t_job_get(t, ID(7), &got, NULL), 0);
        txn_abort(&t);
}

/* --- idempotency --- */

static const uint8_t *key32(uint64_t n, uint8_t out[32])
{
        memset(out, 0xee, 32);
        put_be64(out, n);
        return out;
}
#define KEY(n) key32((n), (uint8_t[32]){0})

static struct idempotency_row answer(int64_t expires_ms)
{
        struct idempotency_row row = {.expires_ms = expires_ms, .status = 202};
        memset(row.resource, 'r', sizeof row.resource - 1);
        fill(row.body, sizeof row.body, 2);
        return row;
}

static void idempotency_keys_expire_by_time_and_a_bounded_number_at_a_time(void **state)
{
        struct fixture *f = *state;
        struct idempotency_row row = answer(0), got;
        uint32_t removed = 99;
        struct txn *t = begin_write(f);
        assert_int_equal(t_idempotency_expire(t, 1000, 10, &removed), 0);
        assert_int_equal(removed, 0);
        for (uint64_t i = 0; i < 10; i++) {
                row = answer((int64_t)(1000 - i * 10));
                assert_int_equal(t_idempotency_put(t, KEY(i), &row), 0);
        }
        assert_int_equal(t_idempotency_get(t, KEY(9), &got), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(t_idempotency_expire(t, 950, 3, &removed), 0);
        assert_int_equal(removed, 3); /* 910, 920, 930 */
        assert_int_equal(t_idempotency_get(t, KEY(7), &got), UL_NOT_FOUND);
        assert_int_equal(t_idempotency_get(t, KEY(6), &got), 0);
        assert_int_equal(t_idempotency_expire(t, 950, 100, &removed), 0);
        assert_int_equal(removed, 1); /* 940; 950 itself is not before now */
        assert_int_equal(t_idempotency_get(t, KEY(5), &got), 0);
        commit(&t);
}

static void putting_an_idempotency_key_again_moves_its_expiry(void **state)
{
        struct fixture *f = *state;
        struct idempotency_row row = answer(100), got;
        uint32_t removed;
        struct txn *t = begin_write(f);
        assert_int_equal(t_idempotency_put(t, KEY(1), &row), 0);
        row = answer(5000);
        row.status = 201;
        assert_int_equal(t_idempotency_put(t, KEY(1), &row), 0);
        assert_int_equal(t_idempotency_expire(t, 1000, 10, &removed), 0);
        assert_int_equal(removed, 0);
        assert_int_equal(t_idempotency_get(t, KEY(1), &got), 0);
        assert_int_equal(got.status, 201);
        assert_int_equal(t_idempotency_expire(t, 6000, 10, &removed), 0);
        assert_int_equal(removed, 1);
        commit(&t);
}

/* --- uploads --- */

static int on_upload(void *arg, uint32_t upload, const struct upload_row *row)
{
        uint32_t *sum = arg;
        *sum = *sum * 10 + upload + row->model;
        return 0;
}

static void uploads_come_back_and_go(void **state)
{
        struct fixture *f = *state;
        struct upload_row row = {.model = 3, .records = UINT64_MAX, .started_ms = -1}, got;
        uint32_t sum = 0;
        struct txn *t = begin_write(f);
        assert_int_equal(t_upload_put(t, 2, &row), 0);
        row.model = 1;
        assert_int_equal(t_upload_put(t, 1, &row), 0);
        assert_int_equal(t_upload_get(t, 1, &got), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_int_equal(t_upload_each(t, on_upload, &sum), 0);
        assert_int_equal(sum, 25);
        assert_int_equal(t_upload_del(t, 1), 0);
        assert_int_equal(t_upload_del(t, 1), UL_NOT_FOUND);
        assert_int_equal(t_upload_get(t, 1, &got), UL_NOT_FOUND);
        commit(&t);
}

/* --- damage --- */

static int get_damaged(struct txn *t, enum table table)
{
        union {
                struct shard_row shard;
                struct slice_row slice;
                struct subject_row subject;
                struct record_row record;
                struct upload_row upload;
                struct job_row job;
                struct idempotency_row idempotency;
                struct erasure_row erasure;
                struct suppression_row suppression;
                struct model_row model;
                uint64_t counter;
                uint8_t hash[32];
        } row;
        switch (table) {
        case TABLE_COUNTERS:
                return t_counter_get(t, "n", &row.counter);
        case TABLE_MODELS:
                return t_model_get(t, "n", &row.model, NULL);
        case TABLE_RECORDS:
                return t_record_get(t, 1, ID(1), &row.record);
        case TABLE_SUBJECTS:
                return t_subject_get(t, 1, ID(1), &row.subject);
        case TABLE_SHARDS:
                return t_shard_get(t, 1, 1, &row.shard);
        case TABLE_SLICES:
                return t_slice_get(t, 1, 1, 1, &row.slice);
        case TABLE_ERASURES:
                return t_erasure_get(t, ID(1), &row.erasure, NULL);
        case TABLE_SUPPRESSIONS:
                return t_suppression_get(t, ID(1), 1, SUPPRESS_SUBJECT, &row.suppression);
        case TABLE_JOBS:
                return t_job_get(t, ID(1), &row.job, NULL);
        case TABLE_IDEMPOTENCY:
                return t_idempotency_get(t, KEY(1), &row.idempotency);
        case TABLE_AUDIT_NODES:
                return t_audit_node_get(t, 1, 1, row.hash);
        default:
                return t_upload_get(t, 1, &row.upload);
        }
}

static const struct {
        enum table table;
        size_t key_len;
        const char *key; /* as hexadecimal words would be: 1, 1, 1 or a 16-byte 1 */
} damaged[] = {
        {TABLE_COUNTERS, 1, "n"},
        {TABLE_MODELS, 1, "n"},
        {TABLE_RECORDS, 20, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"},
        {TABLE_SUBJECTS, 20, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"},
        {TABLE_SHARDS, 8, "\0\0\0\1\0\0\0\1"},
        {TABLE_SLICES, 12, "\0\0\0\1\0\0\0\1\0\0\0\1"},
        {TABLE_ERASURES, 16, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"},
        {TABLE_SUPPRESSIONS, 24, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\1"},
        {TABLE_JOBS, 16, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"},
        {TABLE_IDEMPOTENCY, 32,
         "\0\0\0\0\0\0\0\1\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee"
         "\xee\xee\xee\xee\xee\xee"},
        {TABLE_AUDIT_NODES, 10, "\xff\0\0\0\0\0\0\0\4\1"},
        {TABLE_UPLOADS, 4, "\0\0\0\1"},
};

static void a_value_that_was_cut_short_is_damage_and_not_absence(void **state)
{
        struct fixture *f = *state;
        static const uint8_t value[3] = {1, 1, 1};
        for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
                struct txn *t = begin_write(f);
                assert_int_equal(get_damaged(t, damaged[i].table),
                                 damaged[i].table == TABLE_COUNTERS ? 0 : UL_NOT_FOUND);
                for (size_t len = 0; len <= sizeof value; len++) {
                        struct txn *child = begin_child(t);
                        assert_int_equal(db_put(child, damaged[i].table, damaged[i].key,
                                                damaged[i].key_len, value, len),
                                         0);
                        assert_int_equal(get_damaged(child, damaged[i].table), UL_CORRUPT);
                        assert_int_equal(txn_error(child), UL_CORRUPT);
                        txn_abort(&child);
                }
                txn_abort(&t);
        }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(an_absent_counter_is_zero_and_a_stored_one_comes_back),
                CASE(a_blob_is_appended_to_the_callers_buffer),
                CASE(a_model_keeps_its_configuration_when_only_the_row_is_put),
                CASE(models_are_walked_in_name_order_until_the_callback_ends_it),
                CASE(shards_come_back_whole_and_in_order_of_their_model_alone),
                CASE(slices_come_back_whole_and_by_shard_or_by_model),
                CASE(jobs_come_back_whole_and_newest_first),
                CASE(the_oldest_jobs_that_have_ended_are_pruned),
                CASE(idempotency_keys_expire_by_time_and_a_bounded_number_at_a_time),
                CASE(putting_an_idempotency_key_again_moves_its_expiry),
                CASE(uploads_come_back_and_go),
                CASE(a_value_that_was_cut_short_is_damage_and_not_absence),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
