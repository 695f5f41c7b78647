/* SPDX-License-Identifier: Apache-2.0
 * test_job.c: the job file goes to the worker and comes back the same, and a job that could not be
 * run is refused by name. */
#include "lib/sisa/job.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct errinfo e;
static struct job_slice slices[3] = {{10, 9}, {0, 0}, {7, 7}};

static struct job sample(void)
{
        static const char config[] =
                "{\"name\":\"digits\",\"kind\":\"mlp\",\"features\":64,"
                "\"dtype\":\"u8\",\"classes\":3,\"labels\":[\"a\",\"b\",\"\\\"\"],"
                "\"hidden\":[16,8],\"shards\":4,\"slices\":2,\"seed\":7}";
        struct job j = {.id = "01ARZ3NDEKTSV4RRFFQ69G5FAV",
                        .fence = (UINT64_C(1) << 53) - 1,
                        .root = "/data/models/digits \"x\"",
                        .scratch = "/data/scratch/01ARZ3",
                        .shard = 3,
                        .from = 2,
                        .slices = 3,
                        .slice = slices,
                        .kernel = "SkylakeX"};
        for (int i = 0; i < KEY_BYTES; i++) {
                j.model_key[i] = (uint8_t)i;
                j.parent[i] = (uint8_t)(255 - i);
        }
        assert_int_equal(model_config_parse(config, sizeof config - 1, &j.config, &e), 0);
        return j;
}

static void write_sample(struct buf *out)
{
        struct job j = sample();
        buf_init(out, 0);
        assert_int_equal(job_write(&j, out), 0);
        model_config_destroy(&j.config);
}

static void a_job_comes_back_the_same(void **state)
{
        (void)state;
        struct buf text;
        struct buf again = {0};
        struct job *r = NULL;
        struct job j = sample();
        uint8_t x[SHA256_BYTES];
        uint8_t y[SHA256_BYTES];
        write_sample(&text);
        assert_int_equal(job_parse((const char *)text.data, text.len, &r, &e), 0);
        assert_string_equal(r->id, j.id);
        assert_true(r->fence == j.fence);
        assert_string_equal(r->root, j.root);
        assert_string_equal(r->scratch, j.scratch);
        assert_memory_equal(r->model_key, j.model_key, KEY_BYTES);
        assert_memory_equal(r->parent, j.parent, SHA256_BYTES);
        assert_int_equal(r->shard, 3);
        assert_int_equal(r->from, 2);
        assert_int_equal(r->slices, 3);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(r->slice[i].rows, slices[i].rows);
                assert_true(r->slice[i].live == slices[i].live);
        }
        assert_string_equal(r->kernel, "SkylakeX");
        model_config_hash(r->config, x);
        model_config_hash(j.config, y);
        assert_memory_equal(x, y, SHA256_BYTES);
        assert_string_equal(r->config->name, "digits");
        assert_int_equal(job_write(r, &again), 0);
        assert_int_equal(again.len, text.len);
        assert_memory_equal(again.data, text.data, text.len);
        job_destroy(&r);
        assert_null(r);
        model_config_destroy(&j.config);
        buf_free(&again, true);
        buf_free(&text, true);
}

static void the_longest_job_fits(void **state)
{
        (void)state;
        struct job j = sample();
        struct job *r = NULL;
        struct buf text = {0};
        j.slices = SLICES_TOTAL_MAX;
        j.slice = calloc(j.slices, sizeof *j.slice);
        assert_non_null(j.slice);
        for (uint32_t i = 0; i < j.slices; i++)
                j.slice[i] = (struct job_slice){UINT32_MAX, UINT32_MAX - i};
        memset(j.root, 'r', PATH_SIZE - 1);
        j.root[0] = '/';
        assert_int_equal(job_write(&j, &text), 0);
        assert_true(text.len < 512 * 1024); /* what the worker allows beside the configuration */
        assert_int_equal(job_parse((const char *)text.data, text.len, &r, &e), 0);
        assert_int_equal(r->slices, SLICES_TOTAL_MAX);
        assert_true(r->slice[SLICES_TOTAL_MAX - 1].live == UINT32_MAX - SLICES_TOTAL_MAX + 1);
        assert_string_equal(r->root, j.root);
        job_destroy(&r);
        free(j.slice);
        model_config_destroy(&j.config);
        buf_free(&text, true);
}

/* Replaces the one occurrence of `from` in the sample's text and parses. */
static int parse_with(const char *from, const char *to, struct job **out)
{
        struct buf text;
        struct buf changed = {0};
        write_sample(&text);
        buf_append(&text, "", 1);
        const char *whole = (const char *)text.data;
        const char *at = strstr(whole, from);
        assert_non_null(at);
        buf_append(&changed, whole, (size_t)(at - whole));
        buf_append_str(&changed, to);
        buf_append_str(&changed, at + strlen(from));
        memset(&e, 0, sizeof e);
        int err = job_parse((const char *)changed.data, changed.len, out, &e);
        buf_free(&changed, true);
        buf_free(&text, true);
        return err;
}

static void a_job_that_cannot_be_run_is_refused(void **state)
{
        (void)state;
        static const struct {
                const char *from, *to, *field;
        } bad[] = {
                {"\"shard\":3", "\"shard\":4", "/shard"},
                {"\"shard\":3", "\"shard\":-1", "/shard"},
                {"\"from\":2", "\"from\":0", "/from"},
                {"\"from\":2", "\"from\":4", "/from"},
                {"\"from\":2", "\"from\":2,\"more\":1", "/more"},
                {"\"from\":2,", "", "/from"},
                {"\"root\":\"/", "\"root\":\"", "/root"},
                {"\"scratch\":\"/", "\"scratch\":\"../", "/scratch"},
                {"\"id\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"", "\"id\":\"\"", "/id"},
                {"01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAVxxxxxx", "/id"},
                {"\"model_key\":\"00", "\"model_key\":\"", "/model_key"},
                {"\"model_key\":\"00", "\"model_key\":\"0000", "/model_key"},
                {"\"model_key\":\"00", "\"model_key\":\"zz", "/model_key"},
                {"\"parent\":\"ff", "\"parent\":\"fx", "/parent"},
                {"\"live\":9", "\"live\":11", "/slices"},
                {"\"live\":9", "\"live\":-1", NULL},
                {"\"live\":9", "\"alive\":9", NULL},
                {"{\"rows\":10,\"live\":9},{\"rows\":0,\"live\":0},{\"rows\":7,\"live\":7}", "",
                 "/slices"},
                {"{\"rows\":0,\"live\":0}", "[]", "/slices"},
                {"\"kernel\":\"SkylakeX\"", "\"kernel\":\"k2345678901234567890123456789012\"",
                 "/kernel"},
                {"\"fence\":9007199254740991", "\"fence\":\"1\"", "/fence"},
                {"\"kind\":\"mlp\"", "\"kind\":\"forest\"", NULL},
        };
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct job *r = (struct job *)1;
                int err = parse_with(bad[i].from, bad[i].to, &r);
                if (err != UL_INVALID)
                        print_error("%s: %s\n", bad[i].to, ul_err_name(err));
                assert_int_equal(err, UL_INVALID);
                assert_null(r);
                if (bad[i].field != NULL)
                        assert_string_equal(e.field, bad[i].field);
        }
}

static void what_is_not_a_job_at_all_is_refused(void **state)
{
        (void)state;
        static const char *const bad[] = {"", "{", "[]", "null", "{}", "1", "{\"id\":\"a\"}"};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct job *r = (struct job *)1;
                assert_true(job_parse(bad[i], strlen(bad[i]), &r, &e) < 0);
                assert_null(r);
        }
}

static void every_truncation_is_refused(void **state)
{
        (void)state;
        struct buf text;
        write_sample(&text);
        for (size_t len = 0; len < text.len; len++) {
                struct job *r = NULL;
                assert_int_equal(job_parse((const char *)text.data, len, &r, &e), UL_SYNTAX);
                assert_null(r);
        }
        buf_free(&text, true);
}

static void a_fence_that_json_cannot_hold_is_not_written(void **state)
{
        (void)state;
        struct job j = sample();
        struct buf text = {0};
        j.fence = (UINT64_C(1) << 53) + 1;
        assert_int_equal(job_write(&j, &text), UL_INVALID);
        model_config_destroy(&j.config);
        buf_free(&text, true);
}

static void a_text_that_does_not_fit_is_an_error(void **state)
{
        (void)state;
        struct job j = sample();
        struct buf text;
        buf_init(&text, 100);
        assert_int_equal(job_write(&j, &text), UL_NOMEM);
        model_config_destroy(&j.config);
        buf_free(&text, true);
}

static void paths_are_those_of_the_data_directory(void **state)
{
        (void)state;
        char path[PATH_SIZE];
        char longest[PATH_SIZE];
        assert_int_equal(rows_path(path, "/d/models/m", 7, 12, &e), 0);
        assert_string_equal(path, "/d/models/m/shard-007/slice-012.rows");
        assert_int_equal(checkpoint_path(path, "/d/models/m", 255, 4096, &e), 0);
        assert_string_equal(path, "/d/models/m/shard-255/slice-4096.ckpt");
        assert_int_equal(scratch_path(path, "/s", 1, &e), 0);
        assert_string_equal(path, "/s/slice-001.ckpt");
        memset(longest, 'x', sizeof longest);
        longest[PATH_SIZE - 1] = '\0';
        assert_int_equal(rows_path(path, longest, 0, 1, &e), UL_TOO_LARGE);
        assert_int_equal(checkpoint_path(path, longest, 0, 1, &e), UL_TOO_LARGE);
        assert_int_equal(scratch_path(path, longest, 1, &e), UL_TOO_LARGE);
}

static void a_job_file_with_any_bit_flipped_or_byte_missing_is_refused(void **state)
{
        (void)state;
        struct buf text = {0};
        size_t json_len = 0;
        buf_append_str(&text, "{\"shard\":1}");
        const size_t json = text.len;
        assert_int_equal(job_seal(&text), 0);
        assert_int_equal(job_unseal(text.data, text.len, &json_len, NULL), 0);
        assert_int_equal(json_len, json);
        for (size_t i = 0; i < 8 * text.len; i++) {
                text.data[i / 8] ^= (uint8_t)(1u << (i % 8));
                assert_int_equal(job_unseal(text.data, text.len, &json_len, NULL), UL_CORRUPT);
                text.data[i / 8] ^= (uint8_t)(1u << (i % 8));
        }
        for (size_t len = 0; len < text.len; len++)
                assert_int_equal(job_unseal(text.data, len, &json_len, NULL), UL_CORRUPT);
        buf_free(&text, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_job_comes_back_the_same),
                cmocka_unit_test(the_longest_job_fits),
                cmocka_unit_test(a_job_that_cannot_be_run_is_refused),
                cmocka_unit_test(what_is_not_a_job_at_all_is_refused),
                cmocka_unit_test(every_truncation_is_refused),
                cmocka_unit_test(a_fence_that_json_cannot_hold_is_not_written),
                cmocka_unit_test(a_text_that_does_not_fit_is_an_error),
                cmocka_unit_test(paths_are_those_of_the_data_directory),
                cmocka_unit_test(a_job_file_with_any_bit_flipped_or_byte_missing_is_refused),
        };
        if (crypto_init() != 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
