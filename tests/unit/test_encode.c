/* SPDX-License-Identifier: Apache-2.0
 * Encoders: the text hash is fixed for ever (stored rows depend on it), and what does not fit a
 * dtype, a column or the labels is refused by name, without its value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/records/encode.h"
#include "lib/util/bytes.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void count(const char *text, uint32_t features, float *out)
{
        encode_text(text, strlen(text), features, out);
}

static float total(const float *x, uint32_t n)
{
        float sum = 0;
        for (uint32_t i = 0; i < n; i++)
                sum += x[i];
        return sum;
}

static void the_text_hash_is_fixed_for_ever(void **state)
{
        (void)state;
        /* From an independent implementation of FNV-1a 64, fmix64 and multiply-and-shift. */
        static const struct {
                uint32_t features, the, quick, the_quick, zurich, number;
        } golden[] = {
                {64, 50, 31, 46, 38, 32},
                {1000, 793, 495, 732, 599, 504},
                {65536, 52031, 32502, 47999, 39256, 33035},
        };
        float *x = malloc(65536 * sizeof *x);
        assert_non_null(x);
        for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
                const uint32_t n = golden[i].features;
                count("The QUICK", n, x);
                assert_true(x[golden[i].the] == 1 && x[golden[i].quick] == 1);
                assert_true(x[golden[i].the_quick] == 1);
                assert_true(total(x, n) == 3);
                count("z\xc3\xbcrich", n, x);
                assert_true(x[golden[i].zurich] == 1 && total(x, n) == 1);
                count("42", n, x);
                assert_true(x[golden[i].number] == 1 && total(x, n) == 1);
        }
        free(x);
}

static void only_case_of_ascii_and_separators_do_not_matter(void **state)
{
        (void)state;
        float a[1000], b[1000];
        count("the quick", 1000, a);
        count("  --THE,,,\n\tquick!?", 1000, b);
        assert_memory_equal(a, b, sizeof a);
        encode_text("the\0quick", 9, 1000, b);
        assert_memory_equal(a, b, sizeof a);
        count("quick the", 1000, b); /* the order does: another 2-gram */
        assert_memory_not_equal(a, b, sizeof a);
        assert_true(b[930] == 1);
        count("thequick", 1000, b);
        assert_memory_not_equal(a, b, sizeof a);
}

static void no_words_are_no_counts(void **state)
{
        (void)state;
        float x[10];
        memset(x, 0xff, sizeof x);
        count(" .,;-_ ", 10, x);
        assert_true(total(x, 10) == 0);
        memset(x, 0xff, sizeof x);
        encode_text("", 0, 10, x);
        assert_true(total(x, 10) == 0);
}

static void counts_saturate_at_255(void **state)
{
        (void)state;
        char text[2 * 1000 + 1] = "";
        float x[1];
        for (int i = 0; i < 1000; i++)
                memcpy(text + 2 * i, "a ", 3);
        count(text, 1, x);
        assert_true(x[0] == 255);
}

static const struct encoding_column columns[] = {
        {.name = "age", .first_feature = 0},
        {.name = "a/b~c",
         .categorical = true,
         .value_count = 2,
         .values = (const char *const[]){"red", "green"},
         .first_feature = 1},
};
static const struct encoding tabular = {.shape = {0, 4, 0},
                                        .encoder = 2,
                                        .classes = 2,
                                        .labels = (const char *const[]){"no", "yes"},
                                        .column_count = 2,
                                        .columns = columns};

static int column(uint32_t c, const char *text, float *x, struct errinfo *e)
{
        return encode_column(&tabular, c, text, text == NULL ? 0 : strlen(text), x, e);
}

static void categories_are_one_hot_with_a_place_for_others(void **state)
{
        (void)state;
        static const struct {
                const char *text;
                float want[3];
        } t[] = {
                {"red", {1, 0, 0}}, {"green", {0, 1, 0}}, {"blue", {0, 0, 1}}, {"", {0, 0, 1}},
                {NULL, {0, 0, 1}},  {"Red", {0, 0, 1}},   {"re", {0, 0, 1}},   {"redd", {0, 0, 1}},
        };
        struct errinfo e;
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                float x[5] = {9, 9, 9, 9, 9};
                assert_int_equal(column(1, t[i].text, x, &e), 0);
                assert_memory_equal(x + 1, t[i].want, sizeof t[i].want);
                assert_true(x[0] == 9 && x[4] == 9);
        }
        float x[4] = {0};
        /* A NUL in the text must not make it equal, nor be read past. */
        assert_int_equal(encode_column(&tabular, 1, "red\0xyzzyxyzzyxyzzyxyzzyxyzzy", 29, x, &e),
                         0);
        assert_true(x[1] == 0 && x[3] == 1);
}

static void a_numeric_column_takes_finite_numbers_only(void **state)
{
        (void)state;
        static const char *const good[] = {"3.5", " 3.5", "3.5\t", "35e-1"};
        static const char *const bad[] = {"",     " ",    "x",    "3.5x", "3 5", "nan",
                                          "1e99", "-inf", "0x10", "1,5",  NULL};
        struct errinfo e;
        for (size_t i = 0; i < 4; i++) {
                float x[4] = {0};
                assert_int_equal(column(0, good[i], x, &e), 0);
                assert_true(x[0] == 3.5f);
        }
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                float x[4] = {0};
                assert_int_equal(column(0, bad[i], x, &e), UL_INVALID);
                assert_string_equal(e.field, "/columns/age");
        }
}

static int features(uint32_t dtype, const float *x, uint32_t n, uint8_t *row, struct errinfo *e)
{
        const struct row_shape s = {dtype, n, 0};
        memset(row, 0xee, row_bytes(&s));
        return encode_features(&s, x, row, e);
}

static void bits_are_packed_least_significant_first(void **state)
{
        (void)state;
        const float x[10] = {1, 0, 1, 0, 0, 0, 0, 1, 0, 1};
        uint8_t row[64];
        struct errinfo e;
        assert_int_equal(features(2, x, 10, row, &e), 0);
        assert_int_equal(row[24], 0x85);
        assert_int_equal(row[25], 0x02);
        assert_int_equal(row[26] | row[27], 0); /* padding */
        assert_int_equal(row[23], 0xee);        /* before the features: not touched */
}

static void what_a_dtype_cannot_hold_is_refused_by_position(void **state)
{
        (void)state;
        static const struct {
                uint32_t dtype;
                float value;
                int err;
        } t[] = {
                {0, INFINITY, UL_INVALID},
                {0, -INFINITY, UL_INVALID},
                {0, NAN, UL_INVALID},
                {0, 3.4028235e38f, 0},
                {0, -3.4028235e38f, 0},
                {0, 1e-45f, 0},
                {1, 255, 0},
                {1, 256, UL_INVALID},
                {1, -1, UL_INVALID},
                {1, 0.5f, UL_INVALID},
                {1, NAN, UL_INVALID},
                {1, INFINITY, UL_INVALID},
                {1, 254.99998f, UL_INVALID},
                {1, 1e30f, UL_INVALID},
                {2, 1, 0},
                {2, 0, 0},
                {2, 2, UL_INVALID},
                {2, 0.5f, UL_INVALID},
                {2, -1, UL_INVALID},
                {2, NAN, UL_INVALID},
                {1, -0.0f, 0},
        };
        uint8_t row[512];
        struct errinfo e;
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                float x[37] = {0};
                x[36] = t[i].value;
                assert_int_equal(features(t[i].dtype, x, 37, row, &e), t[i].err);
                if (t[i].err)
                        assert_string_equal(e.field, "/features/36");
        }
}

static void encoding_and_widening_are_inverse(void **state)
{
        (void)state;
        for (uint32_t dtype = 0; dtype <= 2; dtype++) {
                for (uint32_t n = 1; n < 70; n++) {
                        const struct row_shape s = {dtype, n, 0};
                        float x[70], y[70];
                        uint8_t row[400];
                        for (uint32_t i = 0; i < n; i++)
                                x[i] = dtype == 0   ? (float)i / 7.0f - 3
                                       : dtype == 1 ? (float)((i * 37) & 255)
                                                    : (float)((i * i + n) % 3 == 1);
                        assert_int_equal(features(dtype, x, n, row, NULL), 0);
                        row_widen(&s, row, y);
                        assert_memory_equal(x, y, n * sizeof *x);
                }
        }
}

static void a_label_is_one_of_the_models_or_refused(void **state)
{
        (void)state;
        struct errinfo e;
        uint8_t row[64] = {0};
        assert_int_equal(encode_label_text(&tabular, "yes", 3, row, &e), 0);
        assert_int_equal(get_le32(row + ROW_LABEL_OFFSET), 1);
        assert_int_equal(encode_label_text(&tabular, "no!", 2, row, &e), 0);
        assert_int_equal(get_le32(row + ROW_LABEL_OFFSET), 0);
        static const char *const bad[] = {"", "ye", "yess", "YES", "1", "secret-diagnosis"};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                assert_int_equal(encode_label_text(&tabular, bad[i], strlen(bad[i]), row, &e),
                                 UL_INVALID);
                assert_string_equal(e.field, "/label");
                assert_null(strstr(e.detail, "secret"));
        }
        assert_int_equal(encode_label_text(&tabular, "yes\0more than there is", 22, row, &e),
                         UL_INVALID);
}

static void targets_are_finite_and_as_many_as_configured(void **state)
{
        (void)state;
        const struct encoding enc = {.shape = {0, 1, 2}};
        struct errinfo e;
        uint8_t row[64] = {0};
        const float good[2] = {1.5f, -2}, bad[2] = {1, NAN};
        assert_int_equal(encode_targets(&enc, good, 2, row, &e), 0);
        assert_memory_equal(row + ROW_LABEL_OFFSET, good, 8);
        assert_int_equal(encode_targets(&enc, good, 1, row, &e), UL_INVALID);
        assert_int_equal(encode_targets(&enc, bad, 2, row, &e), UL_INVALID);
        assert_string_equal(e.field, "/label");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_text_hash_is_fixed_for_ever),
                cmocka_unit_test(only_case_of_ascii_and_separators_do_not_matter),
                cmocka_unit_test(no_words_are_no_counts),
                cmocka_unit_test(counts_saturate_at_255),
                cmocka_unit_test(categories_are_one_hot_with_a_place_for_others),
                cmocka_unit_test(a_numeric_column_takes_finite_numbers_only),
                cmocka_unit_test(bits_are_packed_least_significant_first),
                cmocka_unit_test(what_a_dtype_cannot_hold_is_refused_by_position),
                cmocka_unit_test(encoding_and_widening_are_inverse),
                cmocka_unit_test(a_label_is_one_of_the_models_or_refused),
                cmocka_unit_test(targets_are_finite_and_as_many_as_configured),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
