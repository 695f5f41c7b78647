/* SPDX-License-Identifier: Apache-2.0
 * test_train.c: invariant 2: what is trained is a function of configuration, key and retained set.
 * Each test trains two worlds that hold the same records by different histories, and compares
 * bytes; or one with another record, and finds that they differ. */
#include "tests/unit/train_world.h"
#include <math.h>

#define CLASSES ",\"classes\":3"
#define TWO_TARGETS ",\"task\":\"regression\",\"targets\":2,\"learning_rate\":0.01"
#define SOFTMAX ",\"kind\":\"softmax\",\"features\":21,\"slices\":3,\"epochs\":5"
#define MLP ",\"kind\":\"mlp\",\"features\":21,\"slices\":3,\"epochs\":5,\"hidden\":[10,6]"

/* Every kind, task, dtype and optimizer in some combination. */
static const char *const configurations[] = {
        SOFTMAX CLASSES ",\"dtype\":\"f32\"",
        SOFTMAX CLASSES ",\"dtype\":\"u8\"",
        SOFTMAX CLASSES ",\"dtype\":\"bit\",\"standardize\":false,\"momentum\":0.0",
        SOFTMAX TWO_TARGETS ",\"dtype\":\"f32\"",
        SOFTMAX TWO_TARGETS ",\"dtype\":\"bit\",\"l2\":0.01",
        MLP CLASSES ",\"dtype\":\"f32\",\"activation\":\"tanh\"",
        MLP CLASSES ",\"dtype\":\"u8\",\"optimizer\":\"adam\",\"learning_rate\":0.01",
        MLP CLASSES ",\"dtype\":\"bit\",\"learning_rate_decay\":0.1,\"batch_size\":1",
        MLP TWO_TARGETS ",\"dtype\":\"u8\",\"l2\":0.001",
        MLP TWO_TARGETS ",\"dtype\":\"f32\",\"standardize\":false,\"batch_size\":64",
};
enum { CONFIGURATIONS = sizeof configurations / sizeof *configurations, RECORDS = 61 };

/* Records 0..RECORDS - 1 over the slices, in number order. */
static uint32_t straight(struct placed *out, uint32_t slices)
{
        for (uint32_t i = 0; i < RECORDS; i++)
                out[i] = (struct placed){.n = i, .slice = 1 + mix(i, 5) % slices};
        return RECORDS;
}

static void shuffle_rows(struct placed *rows, uint32_t n, uint32_t seed)
{
        for (uint32_t i = n; i > 1; i--) {
                uint32_t k = mix(seed, i) % i;
                struct placed held = rows[i - 1];
                rows[i - 1] = rows[k];
                rows[k] = held;
        }
}

/* --- one retained set, many histories --- */

static void training_twice_gives_the_same_bytes(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world a;
        struct world b;
        uint32_t n = straight(rows, 3);
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                world_open(&a, configurations[i], 3, rows, n);
                world_open(&b, configurations[i], 3, rows, n);
                world_train_ok(&a, 1);
                world_train_ok(&b, 1);
                assert_same_training(&a, &b);
                world_close(&b);
                world_close(&a);
        }
}

static void the_order_of_arrival_leaves_no_trace(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world a;
        struct world b;
        uint32_t n = straight(rows, 3);
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                world_open(&a, configurations[i], 3, rows, n);
                world_train_ok(&a, 1);
                shuffle_rows(rows, n, i);
                world_open(&b, configurations[i], 3, rows, n);
                world_train_ok(&b, 1);
                assert_same_training(&a, &b);
                world_close(&b);
                world_close(&a);
        }
}

/* Files from which records were erased, in any position, against files that never held them. */
static void erased_records_leave_no_trace(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world never;
        struct world erased;
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                uint32_t n = straight(rows, 3);
                world_open(&never, configurations[i], 3, rows, n);
                world_train_ok(&never, 1);
                for (uint32_t k = 0; k < 40; k++)
                        rows[n++] =
                                (struct placed){.n = 1000 + k, .slice = 1 + k % 3, .erased = true};
                shuffle_rows(rows, n, 100 + i);
                world_open(&erased, configurations[i], 3, rows, n);
                world_train_ok(&erased, 1);
                assert_same_training(&never, &erased);
                world_close(&erased);
                world_close(&never);
        }
}

static void going_on_from_any_checkpoint_equals_training_from_nothing(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world whole;
        struct world rest;
        uint32_t n = straight(rows, 5); /* two of them appended */
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                world_open(&whole, configurations[i], 5, rows, n);
                world_train_ok(&whole, 1);
                for (uint32_t from = 2; from <= 5; from++) {
                        world_open(&rest, configurations[i], 5, rows, n);
                        world_adopt(&rest, &whole, from - 1);
                        world_train_ok(&rest, from);
                        for (uint32_t s = from; s <= 5; s++) {
                                assert_same_hash(whole.stage[s].data, rest.stage[s].data);
                                assert_same_hash(whole.stage[s].file, rest.stage[s].file);
                        }
                        world_close(&rest);
                }
                world_close(&whole);
        }
}

/* The whole story: train, erase one record of slice 2, roll back to slice 1, retrain. */
static void a_retrain_after_an_erasure_equals_never_having_seen_the_record(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                struct world before;
                struct world after;
                struct world never;
                uint32_t n = straight(rows, 3);
                rows[n++] = (struct placed){.n = 4711, .slice = 2};
                world_open(&before, configurations[i], 3, rows, n);
                world_train_ok(&before, 1);
                rows[n - 1].erased = true;
                world_open(&after, configurations[i], 3, rows, n);
                world_adopt(&after, &before, 1);
                world_train_ok(&after, 2);
                world_open(&never, configurations[i], 3, rows, n - 1);
                world_train_ok(&never, 1);
                assert_same_hash(before.stage[1].file, never.stage[1].file);
                for (uint32_t s = 2; s <= 3; s++) {
                        assert_same_hash(after.stage[s].file, never.stage[s].file);
                        assert_other_hash(before.stage[s].data, never.stage[s].data);
                        assert_other_hash(before.stage[s].retained, never.stage[s].retained);
                }
                world_close(&never);
                world_close(&after);
                world_close(&before);
        }
}

/* A data directory that never saw the records does not have the slice at all. */
static void an_appended_slice_that_became_empty_leaves_no_trace(void **state)
{
        (void)state;
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                struct placed rows[WORLD_RECORDS];
                struct placed fewer[WORLD_RECORDS];
                struct world with;
                struct world without;
                uint32_t n = straight(rows, 3);
                uint32_t m = n;
                memcpy(fewer, rows, n * sizeof *rows);
                for (uint32_t k = 0; k < 9; k++) { /* slices 4 and 6 are erased, 5 stays */
                        struct placed p = {.n = 2000 + k, .slice = 4 + k % 3};
                        p.erased = p.slice != 5;
                        rows[n++] = p;
                        if (!p.erased)
                                fewer[m++] = (struct placed){.n = p.n, .slice = 4};
                }
                world_open(&with, configurations[i], 6, rows, n);
                world_open(&without, configurations[i], 4, fewer, m);
                world_train_ok(&with, 1);
                world_train_ok(&without, 1);
                assert_same_hash(with.stage[4].data, with.stage[3].data); /* changes nothing */
                assert_same_hash(with.stage[4].data, without.stage[3].data);
                assert_same_hash(with.stage[5].data, without.stage[4].data);
                assert_same_hash(with.stage[6].data, without.stage[4].data);
                assert_same_hash(with.stage[6].retained, without.stage[4].retained);
                assert_other_hash(with.stage[5].data, with.stage[4].data);
                world_close(&without);
                world_close(&with);
        }
}

/* And the empty one may be the parent of a later retrain. */
static void an_empty_appended_slice_can_be_gone_on_from(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world whole;
        struct world rest;
        uint32_t n = straight(rows, 3);
        rows[n++] = (struct placed){.n = 3000, .slice = 4, .erased = true};
        rows[n++] = (struct placed){.n = 3001, .slice = 5};
        world_open(&whole, configurations[0], 5, rows, n);
        world_open(&rest, configurations[0], 5, rows, n);
        world_train_ok(&whole, 1);
        for (uint32_t from = 4; from <= 5; from++) {
                world_adopt(&rest, &whole, from - 1);
                world_train_ok(&rest, from);
                assert_same_hash(whole.stage[5].file, rest.stage[5].file);
        }
        world_close(&rest);
        world_close(&whole);
}

static void a_first_slice_without_live_rows_starts_nothing(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world erased;
        struct world never;
        struct checkpoint c;
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                uint32_t n = 0;
                for (uint32_t k = 0; k < 30; k++)
                        rows[n++] = (struct placed){.n = k, .slice = 2 + k % 2};
                world_open(&never, configurations[i], 3, rows, n);
                for (uint32_t k = 0; k < 5; k++)
                        rows[n++] = (struct placed){.n = 500 + k, .slice = 1, .erased = true};
                world_open(&erased, configurations[i], 3, rows, n);
                world_train_ok(&never, 1);
                world_train_ok(&erased, 1);
                assert_same_training(&never, &erased);
                world_read(&erased, 1, &c);
                assert_int_equal(c.tensor_count, 0);
                assert_true(c.records == 0);
                checkpoint_clear(&c);
                world_adopt(&erased, &never, 1); /* going on from nothing */
                world_train_ok(&erased, 2);
                assert_same_hash(never.stage[3].file, erased.stage[3].file);
                world_close(&erased);
                world_close(&never);
        }
}

static void a_shard_without_any_record_trains_to_nothing(void **state)
{
        (void)state;
        struct world w;
        struct checkpoint c;
        world_open(&w, configurations[0], 3, NULL, 0);
        world_train_ok(&w, 1);
        assert_true(w.total == 0 && w.done == 0);
        world_read(&w, 3, &c);
        assert_int_equal(c.tensor_count, 0);
        checkpoint_clear(&c);
        world_close(&w);
}

/* Rows of an upload that did not commit stand past the committed count. */
static void rows_past_the_committed_count_do_not_exist(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world a;
        struct world b;
        uint32_t n = straight(rows, 3);
        world_open(&a, configurations[0], 3, rows, n);
        world_train_ok(&a, 1);
        rows[n++] = (struct placed){.n = 600, .slice = 2};
        world_open(&b, configurations[0], 3, rows, n);
        b.slice[1].rows--;
        b.slice[1].live--;
        world_train_ok(&b, 1);
        assert_same_training(&a, &b);
        world_close(&b);
        world_close(&a);
}

/* --- what must count, counts --- */

static void one_record_more_or_less_changes_its_slice_and_those_after(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
                struct world a;
                struct world b;
                uint32_t n = straight(rows, 3);
                world_open(&a, configurations[i], 3, rows, n);
                rows[n++] = (struct placed){.n = 999, .slice = 2};
                world_open(&b, configurations[i], 3, rows, n);
                world_train_ok(&a, 1);
                world_train_ok(&b, 1);
                assert_same_hash(a.stage[1].file, b.stage[1].file);
                assert_other_hash(a.stage[2].data, b.stage[2].data);
                assert_other_hash(a.stage[3].data, b.stage[3].data);
                world_close(&b);
                world_close(&a);
        }
}

static void key_and_shard_choose_the_streams(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world a;
        struct world b;
        uint32_t n = straight(rows, 3);
        world_open(&a, configurations[5], 3, rows, n);
        world_train_ok(&a, 1);
        world_open(&b, configurations[5], 3, rows, n);
        b.job.model_key[31] ^= 1;
        world_train_ok(&b, 1);
        assert_other_hash(a.stage[1].data, b.stage[1].data);
        world_close(&b);
        world_shard = 3;
        world_open(&b, configurations[5], 3, rows, n);
        world_shard = 2;
        world_train_ok(&b, 1);
        assert_other_hash(a.stage[1].data, b.stage[1].data);
        world_close(&b);
        world_close(&a);
}

static void the_learning_rate_schedule_goes_on_over_stages(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world a;
        struct world b;
        uint32_t n = straight(rows, 3);
        world_open(&a, SOFTMAX CLASSES ",\"learning_rate_decay\":0.5", 3, rows, n);
        world_open(&b, SOFTMAX CLASSES ",\"learning_rate_decay\":0.0", 3, rows, n);
        world_train_ok(&a, 1);
        world_train_ok(&b, 1);
        assert_other_hash(a.stage[2].data, b.stage[2].data);
        world_close(&b);
        world_close(&a);
}

static void a_stage_without_an_epoch_repeats_its_parent(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world w;
        uint32_t n = straight(rows, 4);
        world_open(&w, ",\"kind\":\"softmax\",\"features\":9,\"slices\":4,\"epochs\":1" CLASSES, 4,
                   rows, n);
        world_train_ok(&w, 1); /* 1, 0, 1, 0 epochs */
        assert_same_hash(w.stage[1].data, w.stage[2].data);
        assert_other_hash(w.stage[2].data, w.stage[3].data);
        assert_same_hash(w.stage[3].data, w.stage[4].data);
        assert_other_hash(w.stage[3].retained, w.stage[4].retained);
        assert_true(w.stage[4].records == RECORDS);
        world_close(&w);
}

/* --- what a checkpoint says --- */

static void a_checkpoint_tells_where_it_comes_from(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world w;
        uint8_t hash[SHA256_BYTES];
        const uint8_t zeros[SHA256_BYTES] = {0};
        uint32_t n = straight(rows, 3);
        world_open(&w, configurations[6], 3, rows, n);
        world_train_ok(&w, 1);
        model_config_hash(w.job.config, hash);
        for (uint32_t s = 1; s <= 3; s++) {
                struct checkpoint c;
                world_read(&w, s, &c);
                assert_same_hash(c.config_hash, hash);
                assert_int_equal(c.shard, world_shard);
                assert_int_equal(c.slice, s);
                assert_int_equal(c.stage, s);
                assert_same_hash(c.parent, s == 1 ? zeros : w.stage[s - 1].file);
                assert_string_equal(c.kernel, kernels_name());
                assert_int_equal(c.tensor_count, 8);
                assert_string_equal(c.tensors[0].name, "mean");
                assert_string_equal(c.tensors[1].name, "scale");
                assert_string_equal(c.tensors[2].name, "layers.0.weight");
                assert_int_equal(c.tensors[2].rows, 21);
                assert_int_equal(c.tensors[2].cols, 10);
                assert_string_equal(c.tensors[7].name, "layers.2.bias");
                assert_int_equal(c.tensors[7].rows, 3);
                assert_int_equal(c.tensors[7].cols, 0);
                checkpoint_clear(&c);
        }
        world_close(&w);
}

static int compare_pseudonyms(const void *a, const void *b)
{
        return memcmp(a, b, PSEUDONYM_BYTES);
}

static void the_commitment_is_the_hash_of_the_sorted_live_pseudonyms(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world w;
        uint8_t sorted[RECORDS][PSEUDONYM_BYTES];
        uint8_t hash[SHA256_BYTES];
        uint32_t n = straight(rows, 3);
        rows[n++] = (struct placed){.n = 5000, .slice = 1, .erased = true};
        world_open(&w, configurations[0], 3, rows, n);
        world_train_ok(&w, 1);
        for (uint32_t s = 1; s <= 3; s++) {
                uint32_t k = 0;
                for (uint32_t i = 0; i < n; i++) {
                        if (rows[i].slice > s || rows[i].erased)
                                continue;
                        sha256(&rows[i].n, sizeof rows[i].n, hash);
                        memcpy(sorted[k++], hash, PSEUDONYM_BYTES);
                }
                qsort(sorted, k, PSEUDONYM_BYTES, compare_pseudonyms);
                sha256(sorted, (size_t)k * PSEUDONYM_BYTES, hash);
                assert_same_hash(hash, w.stage[s].retained);
                assert_true(w.stage[s].records == k);
        }
        world_close(&w);
}

/* Invariant 3: fitted on the first slice with live rows, on them alone, and carried from there. */
static void standardisation_is_fitted_on_the_first_live_rows_alone(void **state)
{
        (void)state;
        struct placed rows[WORLD_RECORDS];
        struct world w;
        uint32_t n = straight(rows, 2);
        for (uint32_t i = 0; i < n; i++)
                rows[i].slice++; /* slices 2 and 3: slice 1 is empty */
        rows[n++] = (struct placed){.n = 7000, .slice = 2, .erased = true};
        world_open(&w, configurations[1], 3, rows, n);
        world_train_ok(&w, 1);
        for (uint32_t s = 2; s <= 3; s++) {
                struct checkpoint c;
                world_read(&w, s, &c);
                for (uint32_t f = 0; f < 21; f++) {
                        double sum = 0;
                        double squares = 0;
                        double count = 0;
                        for (uint32_t i = 0; i < n; i++) {
                                if (rows[i].slice != 2 || rows[i].erased)
                                        continue;
                                double v = record_byte(w.job.config, rows[i].n, f);
                                sum += v;
                                squares += v * v;
                                count++;
                        }
                        double mean = sum / count;
                        double deviation = sqrt(squares / count - mean * mean);
                        assert_true(fabs((double)c.tensors[0].data[f] - mean) < 1e-4);
                        assert_true(fabs((double)c.tensors[1].data[f] * deviation - 1) < 1e-4);
                }
                checkpoint_clear(&c);
        }
        world_close(&w);
}

/* --- and it learns --- */

static void training_learns_the_classes(void **state)
{
        (void)state;
        static const char *const learn[] = {
                ",\"kind\":\"softmax\",\"features\":40,\"dtype\":\"u8\",\"slices\":2,"
                "\"epochs\":20" CLASSES,
                ",\"kind\":\"mlp\",\"hidden\":[16],\"features\":40,\"dtype\":\"bit\","
                "\"slices\":2,\"epochs\":20,\"standardize\":true" CLASSES,
        };
        struct placed rows[WORLD_RECORDS];
        for (uint32_t i = 0; i < 300; i++)
                rows[i] = (struct placed){.n = i, .slice = 1 + i % 2};
        for (uint32_t i = 0; i < sizeof learn / sizeof *learn; i++) {
                struct world w;
                struct checkpoint c;
                struct constituent *k = NULL;
                uint8_t row[512];
                float x[40];
                float out[3];
                uint32_t right = 0;
                world_open(&w, learn[i], 2, rows, 300);
                world_train_ok(&w, 1);
                world_read(&w, 2, &c);
                assert_int_equal(constituent_create(w.job.config, c.tensors[2].data,
                                                    c.tensors[0].data, c.tensors[1].data, &k,
                                                    &world_error),
                                 0);
                float *scratch = calloc(constituent_scratch(k, 1) + 16, sizeof *scratch);
                assert_non_null(scratch);
                for (uint32_t r = 10000; r < 10300; r++) { /* not those it was trained on */
                        record_make(&w, r, row);
                        row_widen(&w.shape, row, x);
                        constituent_forward(k, x, 1, scratch, out);
                        uint32_t best = out[1] > out[0] ? 1 : 0;
                        best = out[2] > out[best] ? 2 : best;
                        right += best == record_class(w.job.config, r);
                }
                assert_true(right > 285);
                free(scratch);
                constituent_destroy(&k);
                checkpoint_clear(&c);
                world_close(&w);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(training_twice_gives_the_same_bytes),
                cmocka_unit_test(the_order_of_arrival_leaves_no_trace),
                cmocka_unit_test(erased_records_leave_no_trace),
                cmocka_unit_test(going_on_from_any_checkpoint_equals_training_from_nothing),
                cmocka_unit_test(a_retrain_after_an_erasure_equals_never_having_seen_the_record),
                cmocka_unit_test(an_appended_slice_that_became_empty_leaves_no_trace),
                cmocka_unit_test(an_empty_appended_slice_can_be_gone_on_from),
                cmocka_unit_test(a_first_slice_without_live_rows_starts_nothing),
                cmocka_unit_test(a_shard_without_any_record_trains_to_nothing),
                cmocka_unit_test(rows_past_the_committed_count_do_not_exist),
                cmocka_unit_test(one_record_more_or_less_changes_its_slice_and_those_after),
                cmocka_unit_test(key_and_shard_choose_the_streams),
                cmocka_unit_test(the_learning_rate_schedule_goes_on_over_stages),
                cmocka_unit_test(a_stage_without_an_epoch_repeats_its_parent),
                cmocka_unit_test(a_checkpoint_tells_where_it_comes_from),
                cmocka_unit_test(the_commitment_is_the_hash_of_the_sorted_live_pseudonyms),
                cmocka_unit_test(standardisation_is_fitted_on_the_first_live_rows_alone),
                cmocka_unit_test(training_learns_the_classes),
        };
        return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
