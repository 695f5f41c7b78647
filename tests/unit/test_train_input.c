/* SPDX-License-Identifier: Apache-2.0
 * test_train_input.c: what a job finds on disk is not believed: damaged rows, wrong counts, parents
 * that belong elsewhere, another kernel. And what a job says while it runs. */
#include "tests/unit/train_world.h"
#include <math.h>

static const char options[] = ",\"kind\":\"mlp\",\"features\":21,\"slices\":3,\"epochs\":6,"
                              "\"hidden\":[5],\"dtype\":\"u8\""
                              ",\"classes\":3";
enum { RECORDS = 45 };

static void open_plain(struct world *w)
{
        struct placed rows[RECORDS];
        for (uint32_t i = 0; i < RECORDS; i++)
                rows[i] = (struct placed){.n = i, .slice = 1 + i % 3};
        world_open(w, options, 3, rows, RECORDS);
}

/* Changes bytes of a row file behind its checksums. */
static void poke(const struct world *w, uint32_t slice, uint32_t row, uint32_t at,
                 const void *bytes, size_t len, bool seal)
{
        char path[PATH_SIZE];
        uint8_t whole[512];
        uint32_t width = row_bytes(&w->shape);
        long start = ROWFILE_HEADER_BYTES + (long)row * width;
        assert_int_equal(rows_path(path, w->root, w->job.shard, slice, &world_error), 0);
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        assert_int_equal(fseek(f, start, SEEK_SET), 0);
        assert_int_equal(fread(whole, 1, width, f), width);
        memcpy(whole + at, bytes, len);
        if (seal)
                row_seal(whole, width);
        assert_int_equal(fseek(f, start, SEEK_SET), 0);
        assert_int_equal(fwrite(whole, 1, width, f), width);
        assert_int_equal(fclose(f), 0);
}

static void assert_fails(struct world *w, uint32_t from, int expected, const char *says)
{
        int err = world_train(w, from);
        if (err != expected || strstr(world_error.detail, says) == NULL)
                print_error("%s: %s\n", ul_err_name(err), world_error.detail);
        assert_int_equal(err, expected);
        assert_int_equal(world_error.code, expected);
        assert_non_null(strstr(world_error.detail, says));
        assert_int_equal(w->stages, 0); /* nothing was trained from bad input */
}

/* --- rows --- */

static void a_damaged_row_is_named(void **state)
{
        (void)state;
        struct world w;
        open_plain(&w);
        poke(&w, 2, 4, row_feature_offset(&w.shape), "\xff\x00\xff", 3, false);
        assert_fails(&w, 1, UL_DAMAGED, "shard 2 slice 2 row 4");
        world_close(&w);
}

static void a_row_that_was_half_erased_is_damaged(void **state)
{
        (void)state;
        const uint8_t zeros[PSEUDONYM_BYTES] = {0};
        struct world w;
        open_plain(&w);
        poke(&w, 3, 14, 0, zeros, sizeof zeros, false);
        assert_fails(&w, 1, UL_DAMAGED, "shard 2 slice 3 row 14");
        world_close(&w);
}

static void a_class_that_the_model_does_not_have_is_damage(void **state)
{
        (void)state;
        uint8_t label[4];
        struct world w;
        open_plain(&w);
        put_le32(label, 3);
        poke(&w, 1, 2, ROW_LABEL_OFFSET, label, sizeof label, true);
        assert_fails(&w, 1, UL_DAMAGED, "shard 2 slice 1 row 2");
        world_close(&w);
}

static void a_target_that_is_no_number_is_damage(void **state)
{
        (void)state;
        const uint8_t nan[4] = {0, 0, 0xc0, 0x7f};
        const struct placed rows[] = {{.n = 1, .slice = 1}, {.n = 2, .slice = 1}};
        struct world w;
        world_open(&w, ",\"kind\":\"softmax\",\"features\":3,\"task\":\"regression\"", 2, rows, 2);
        poke(&w, 1, 1, ROW_LABEL_OFFSET, nan, sizeof nan, true);
        assert_fails(&w, 1, UL_DAMAGED, "shard 2 slice 1 row 1");
        world_close(&w);
}

static void one_record_held_twice_is_damage(void **state)
{
        (void)state;
        const struct placed rows[] = {
                {.n = 1, .slice = 1}, {.n = 2, .slice = 1}, {.n = 1, .slice = 2}};
        struct world w;
        world_open(&w, options, 2, rows, 3);
        assert_fails(&w, 1, UL_DAMAGED, "twice");
        world_close(&w);
}

static void live_rows_other_than_the_jobs_count_are_damage(void **state)
{
        (void)state;
        struct world w;
        open_plain(&w);
        for (uint32_t s = 0; s < 3; s++) {
                w.slice[s].live--;
                assert_fails(&w, 1, UL_DAMAGED, "more live rows");
                w.slice[s].live += 1;
                if (s < 2) { /* an erasure that the job does not know of */
                        const uint8_t zeros[512] = {0};
                        poke(&w, s + 1, 0, 0, zeros, row_bytes(&w.shape), false);
                        assert_fails(&w, 1, UL_DAMAGED, "fewer live rows");
                        w.slice[s].live--;
                }
        }
        world_train_ok(&w, 1);
        world_close(&w);
}

static void poke_after_the_first_stage(void *arg, uint32_t slice, const uint8_t hash[SHA256_BYTES],
                                       const struct checkpoint *c)
{
        struct world *w = arg;
        world_on_stage(w, slice, hash, c);
        if (slice == 1)
                poke(w, 1, 3, row_feature_offset(&w->shape), "\xff\x00\xff", 3, false);
}

/* The files stay mapped while they are trained on. */
static void a_row_that_is_damaged_during_the_training_spoils_only_what_follows(void **state)
{
        (void)state;
        struct world w;
        open_plain(&w);
        const struct train_events events = {
                .progress = world_on_progress, .stage = poke_after_the_first_stage, .arg = &w};
        w.job.from = 1;
        w.stages = 0;
        assert_int_equal(sisa_train(&w.job, &events, &world_error), UL_DAMAGED);
        assert_non_null(strstr(world_error.detail, "shard 2 slice 1 row 3: it changed"));
        assert_int_equal(w.stages, 1);
        world_close(&w);
}

static void a_missing_or_foreign_row_file_is_refused(void **state)
{
        (void)state;
        struct world w;
        char one[PATH_SIZE];
        char two[PATH_SIZE];
        open_plain(&w);
        assert_int_equal(rows_path(one, w.root, w.job.shard, 1, &world_error), 0);
        assert_int_equal(path_format(two, &world_error, "%s/aside", w.root), 0);
        assert_int_equal(rename(one, two), 0);
        assert_fails(&w, 1, UL_DAMAGED, "damaged rows: shard 2 slice 1: a row file is absent");
        assert_int_equal(rename(two, one), 0);
        w.slice[2].rows++; /* fewer rows than were committed */
        assert_int_equal(world_train(&w, 1), UL_DAMAGED);
        world_close(&w);

        open_plain(&w);
        assert_int_equal(rows_path(one, w.root, w.job.shard, 1, &world_error), 0);
        assert_int_equal(rows_path(two, w.root, w.job.shard, 2, &world_error), 0);
        assert_int_equal(rename(one, two), 0); /* slice 1's rows under slice 2's name */
        w.slice[0] = (struct job_slice){0};
        assert_int_equal(world_train(&w, 1), UL_DAMAGED);
        world_close(&w);
}

/* --- the parent --- */

static void a_parent_with_another_digest_is_refused(void **state)
{
        (void)state;
        struct world w;
        open_plain(&w);
        world_train_ok(&w, 1);
        world_adopt(&w, &w, 1);
        w.job.parent[0] ^= 1;
        assert_fails(&w, 2, UL_CORRUPT, "digest");
        world_close(&w);
}

static void a_missing_parent_is_refused(void **state)
{
        (void)state;
        struct world w;
        open_plain(&w);
        assert_fails(&w, 2, UL_NOT_FOUND, "missing");
        world_close(&w);
}

/* The exactness of a retrain rests on its parent: an erased record in slice 1 spoils it. */
static void a_parent_trained_on_other_records_is_a_conflict(void **state)
{
        (void)state;
        struct world before;
        struct world after;
        const struct placed old[] = {
                {.n = 1, .slice = 1}, {.n = 2, .slice = 1}, {.n = 3, .slice = 2}};
        const struct placed other[] = {/* as many, but not the same */
                                       {.n = 1, .slice = 1},
                                       {.n = 9, .slice = 1},
                                       {.n = 3, .slice = 2}};
        const struct placed fewer[] = {
                {.n = 1, .slice = 1}, {.n = 2, .slice = 1, .erased = true}, {.n = 3, .slice = 2}};
        world_open(&before, options, 2, old, 3);
        world_train_ok(&before, 1);
        world_open(&after, options, 2, other, 3);
        world_adopt(&after, &before, 1);
        assert_fails(&after, 2, UL_CONFLICT, "other records");
        world_close(&after);
        world_open(&after, options, 2, fewer, 3);
        world_adopt(&after, &before, 1);
        assert_fails(&after, 2, UL_CONFLICT, "other records");
        world_close(&after);
        world_close(&before);
}

static void a_parent_of_another_configuration_shard_or_slice_is_refused(void **state)
{
        (void)state;
        struct world w;
        struct world other;
        struct placed rows[RECORDS];
        char path[PATH_SIZE];
        char to[PATH_SIZE];
        for (uint32_t i = 0; i < RECORDS; i++)
                rows[i] = (struct placed){.n = i, .slice = 1 + i % 3};
        open_plain(&w);
        world_train_ok(&w, 1);
        world_open(&other,
                   ",\"kind\":\"mlp\",\"features\":21,\"slices\":3,\"epochs\":7,\"hidden\":[5],"
                   "\"dtype\":\"u8\",\"classes\":3",
                   3, rows, RECORDS);
        world_adopt(&other, &w, 1);
        assert_fails(&other, 2, UL_CORRUPT, "elsewhere");
        world_close(&other);

        world_adopt(&w, &w, 2); /* slice 2's checkpoint under slice 1's name */
        assert_int_equal(checkpoint_path(path, w.root, w.job.shard, 2, &world_error), 0);
        assert_int_equal(checkpoint_path(to, w.root, w.job.shard, 1, &world_error), 0);
        assert_int_equal(rename(path, to), 0);
        assert_fails(&w, 2, UL_CORRUPT, "elsewhere");
        world_close(&w);
}

/* --- kernel, divergence, progress --- */

static void a_job_pinned_to_another_kernel_is_refused(void **state)
{
        (void)state;
        struct world w;
        open_plain(&w);
        memcpy(w.job.kernel, "Z80", 4);
        assert_fails(&w, 1, UL_INVALID, "Z80");
        assert_int_equal(w.stages, 0);
        int n = snprintf(w.job.kernel, sizeof w.job.kernel, "%s", kernels_name());
        assert_true(n > 0 && (size_t)n < sizeof w.job.kernel);
        world_train_ok(&w, 1);
        world_close(&w);
}

/* Not-a-number is never made durable as somebody's model. */
static void a_training_that_diverges_says_so(void **state)
{
        (void)state;
        struct placed rows[RECORDS];
        struct world w;
        for (uint32_t i = 0; i < RECORDS; i++)
                rows[i] = (struct placed){.n = i, .slice = 1};
        world_open(&w,
                   ",\"kind\":\"softmax\",\"features\":21,\"epochs\":50,\"slices\":1,"
                   "\"dtype\":\"u8\",\"task\":\"regression\",\"standardize\":false,"
                   "\"learning_rate\":10",
                   1, rows, RECORDS);
        assert_fails(&w, 1, UL_INVALID, "learning_rate");
        world_close(&w);
}

/* ... but a rate that can be lowered until it does not is lowered: in the stages that need it
 * alone, in the same way wherever the training begins, and the checkpoint says how often. */
static void a_stage_that_diverges_is_trained_at_half_the_rate(void **state)
{
        (void)state;
        struct placed rows[RECORDS];
        struct world w, again;
        uint32_t halved = 0;
        for (uint32_t i = 0; i < RECORDS; i++)
                rows[i] = (struct placed){.n = i, .slice = i % 3 + 1};
        const char *config = ",\"kind\":\"mlp\",\"hidden\":[5],\"features\":21,\"epochs\":60,"
                             "\"slices\":3,\"batch_size\":4,\"dtype\":\"u8\","
                             "\"task\":\"regression\",\"learning_rate\":0.7";
        world_open(&w, config, 3, rows, RECORDS);
        world_train_ok(&w, 1);
        assert_false(w.done < w.total);
        for (uint32_t s = 1; s <= 3; s++) {
                struct checkpoint c;
                world_read(&w, s, &c);
                halved += c.halvings;
                assert_in_range(c.halvings, 0, 15);
                for (size_t i = 0; i < c.block_bytes / sizeof *c.block; i++)
                        assert_true(isfinite(c.block[i]));
                checkpoint_clear(&c);
        }
        assert_true(halved > 0);
        for (uint32_t from = 2; from <= 3; from++) {
                world_open(&again, config, 3, rows, RECORDS);
                world_adopt(&again, &w, from - 1);
                world_train_ok(&again, from);
                for (uint32_t s = from; s <= 3; s++)
                        assert_memory_equal(again.stage[s].file, w.stage[s].file, SHA256_BYTES);
                world_close(&again);
        }
        world_close(&w);
}

static void progress_runs_from_nothing_to_the_plans_cost(void **state)
{
        (void)state;
        struct world w;
        struct plan_stage stages[3];
        const uint64_t live[3] = {15, 15, 15};
        open_plain(&w);
        for (uint32_t from = 1; from <= 3; from++) {
                if (from > 1)
                        world_adopt(&w, &w, from - 1);
                world_train_ok(&w, from);
                uint32_t n = plan_stages(live, 3, 3, 6, from, stages);
                assert_true(w.started_at_zero);
                assert_false(w.backwards);
                assert_true(w.total == plan_cost(stages, n));
                assert_true(w.done == w.total);
                assert_true(w.reports >= 2);
        }
        world_close(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_damaged_row_is_named),
                cmocka_unit_test(a_row_that_was_half_erased_is_damaged),
                cmocka_unit_test(a_class_that_the_model_does_not_have_is_damage),
                cmocka_unit_test(a_target_that_is_no_number_is_damage),
                cmocka_unit_test(one_record_held_twice_is_damage),
                cmocka_unit_test(live_rows_other_than_the_jobs_count_are_damage),
                cmocka_unit_test(
                        a_row_that_is_damaged_during_the_training_spoils_only_what_follows),
                cmocka_unit_test(a_missing_or_foreign_row_file_is_refused),
                cmocka_unit_test(a_parent_with_another_digest_is_refused),
                cmocka_unit_test(a_missing_parent_is_refused),
                cmocka_unit_test(a_parent_trained_on_other_records_is_a_conflict),
                cmocka_unit_test(a_parent_of_another_configuration_shard_or_slice_is_refused),
                cmocka_unit_test(a_job_pinned_to_another_kernel_is_refused),
                cmocka_unit_test(a_training_that_diverges_says_so),
                cmocka_unit_test(a_stage_that_diverges_is_trained_at_half_the_rate),
                cmocka_unit_test(progress_runs_from_nothing_to_the_plans_cost),
        };
        return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
