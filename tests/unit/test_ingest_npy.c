/* SPDX-License-Identifier: Apache-2.0
 * npy uploads: the header's dictionary as numpy and others write it, every dtype, labels in the
 * last columns, and files that are cut short or go on too long. */
#include "tests/unit/ingest_harness.h"

#include "lib/util/limits.h"
#include <math.h>
#include <stdio.h>

static const struct encoding numbers = {
        .shape = {0, 2, 0}, .classes = 3, .labels = (const char *const[]){"0", "-7", "1"}};
static const struct encoding regression = {.shape = {0, 2, 2}};

static struct run *start(const struct encoding *enc)
{
        struct run *r = calloc(1, sizeof *r);
        assert_non_null(r);
        r->o = (struct ingest_options){.format = INGEST_NPY,
                                       .encoding = enc,
                                       .pseudonym_key = harness_key,
                                       .id_prefix = "row-",
                                       .labels_required = true};
        return r;
}

/* A file of version major.0 with this dictionary, and these bytes of rows. */
static struct buf file(uint8_t major, const char *dictionary, const void *rows, size_t len)
{
        struct buf b = {0};
        uint8_t head[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', major, 0};
        put_le32(head + 8, (uint32_t)strlen(dictionary));
        buf_append(&b, head, major == 1 ? 10 : 12);
        buf_append_str(&b, dictionary);
        buf_append(&b, rows, len);
        return b;
}

static struct buf plain(const char *descr, const char *shape, const void *rows, size_t len)
{
        char dictionary[300];
        (void)snprintf(dictionary, sizeof dictionary,
                       "{'descr': '%s', 'fortran_order': False, 'shape': %s, }          \n", descr,
                       shape);
        return file(1, dictionary, rows, len);
}

static void features_are(const struct event *ev, const struct encoding *enc, const float *want)
{
        float have[64];
        row_widen(&enc->shape, ev->row, have);
        assert_memory_equal(have, want, enc->shape.features * sizeof *have);
}

/* What numpy 1.24 writes for np.array([[1.5, 2, 0], [3, -4, 1]], dtype='<f4'). */
static const uint8_t golden[] =
        "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
        "                                                          \n"
        "\x00\x00\xc0\x3f\x00\x00\x00\x40\x00\x00\x00\x00"
        "\x00\x00\x40\x40\x00\x00\x80\xc0\x00\x00\x80\x3f";

static void the_file_that_numpy_writes_is_read_however_it_arrives(void **state)
{
        (void)state;
        struct run *r = start(&numbers);
        assert_int_equal(sizeof golden - 1, 128 + 24);
        harness_all_cuts(r, golden, sizeof golden - 1);
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 2);
        harness_row_is(&r->events[0], 1, "row-0", NULL);
        harness_row_is(&r->events[1], 2, "row-1", NULL);
        features_are(&r->events[0], &numbers, (const float[]){1.5f, 2});
        features_are(&r->events[1], &numbers, (const float[]){3, -4});
        assert_int_equal(get_le32(r->events[0].row + ROW_LABEL_OFFSET), 0);
        assert_int_equal(get_le32(r->events[1].row + ROW_LABEL_OFFSET), 2);
        assert_int_equal(r->events[1].likelihood, LIKELIHOOD_UNSET);
        free(r);
}

static void compressed_files_are_the_same(void **state)
{
        (void)state;
        for (int kind = INGEST_GZIP; kind <= INGEST_ZSTD; kind++) {
                struct buf b = {0};
                struct run *r = start(&numbers);
                r->o.compression = (enum ingest_compression)kind;
                harness_compress(r->o.compression, golden, sizeof golden - 1, &b);
                harness_all_cuts(r, b.data, b.len);
                assert_int_equal(r->err, 0);
                assert_int_equal(r->count, 2);
                harness_row_is(&r->events[1], 2, "row-1", NULL);
                free(r);
                buf_free(&b, false);
        }
}

static void every_dtype_holds_the_same_numbers(void **state)
{
        (void)state;
        static const float f4[] = {5, 7, 1};
        static const double f8[] = {5, 7, 1};
        static const uint8_t u1[] = {5, 7, 1};
        static const int16_t i2[] = {5, 7, 1};
        static const int32_t i4[] = {5, 7, 1};
        static const int64_t i8[] = {5, 7, 1};
        static const struct {
                const char *descr;
                const void *rows;
                size_t len;
        } t[] = {
                {"<f4", f4, sizeof f4}, {"<f8", f8, sizeof f8}, {"|u1", u1, sizeof u1},
                {"|i1", u1, sizeof u1}, {"<i2", i2, sizeof i2}, {"<i4", i4, sizeof i4},
                {"<i8", i8, sizeof i8},
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct run *r = start(&numbers);
                struct buf b = plain(t[i].descr, "(1, 3)", t[i].rows, t[i].len);
                harness_all_cuts(r, b.data, b.len);
                assert_int_equal(r->err, 0);
                assert_int_equal(r->count, 1);
                harness_row_is(&r->events[0], 1, "row-0", NULL);
                features_are(&r->events[0], &numbers, (const float[]){5, 7});
                assert_int_equal(get_le32(r->events[0].row + ROW_LABEL_OFFSET), 2);
                buf_free(&b, false);
                free(r);
        }
}

static void signs_and_truth_values_are_read_right(void **state)
{
        (void)state;
        static const uint8_t i1[] = {0x80, 0xff, 0xf9}, b1[] = {1, 0, 1, 1, 2, 0};
        static const uint8_t u1[] = {0x80, 0xff, 1};
        struct run *r = start(&numbers);
        struct buf b = plain("|i1", "(1, 3)", i1, 3);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->count, 1);
        features_are(&r->events[0], &numbers, (const float[]){-128, -1});
        assert_int_equal(get_le32(r->events[0].row + ROW_LABEL_OFFSET), 1); /* "-7" */
        buf_free(&b, false);
        b = plain("|u1", "(1, 3)", u1, 3);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->count, 1);
        features_are(&r->events[0], &numbers, (const float[]){128, 255});
        buf_free(&b, false);
        b = plain("|b1", "(2, 3)", b1, 6);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->count, 2);
        features_are(&r->events[0], &numbers, (const float[]){1, 0});
        harness_bad_is(&r->events[1], 2, UL_INVALID, "/features/1");
        buf_free(&b, false);
        free(r);
}

static void bad_rows_cost_themselves_alone(void **state)
{
        (void)state;
        static const double rows[] = {
                1, 2, 0,   NAN, 2, 0, 1, INFINITY, 0,        1, 1e39, 0,     1, 2, 0.5,
                1, 2, NAN, 1,   2, 9, 1, 2,        INFINITY, 1, 2,    1e300, 3, 4, -7,
        };
        struct run *r = start(&numbers);
        struct buf b = plain("<f8", "(10, 3)", rows, sizeof rows);
        harness_all_cuts(r, b.data, b.len);
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 10);
        harness_row_is(&r->events[0], 1, "row-0", NULL);
        harness_bad_is(&r->events[1], 2, UL_INVALID, "/features/0");
        harness_bad_is(&r->events[2], 3, UL_INVALID, "/features/1");
        harness_bad_is(&r->events[3], 4, UL_INVALID, "/features/1");
        for (uint64_t i = 4; i < 9; i++)
                harness_bad_is(&r->events[i], i + 1, UL_INVALID, "/label");
        harness_row_is(&r->events[9], 10, "row-9", NULL);
        buf_free(&b, false);
        free(r);
}

static void targets_are_the_last_columns(void **state)
{
        (void)state;
        static const float rows[] = {1, 2, 30, 40, 5, 6, NAN, 8};
        struct run *r = start(&regression);
        struct buf b = plain("<f4", "(2, 4)", rows, sizeof rows);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->count, 2);
        features_are(&r->events[0], &regression, (const float[]){1, 2});
        assert_memory_equal(r->events[0].row + ROW_LABEL_OFFSET, ((const float[]){30, 40}), 8);
        harness_bad_is(&r->events[1], 2, UL_INVALID, "/label");
        buf_free(&b, false);
        free(r);
}

static void labels_may_be_left_out_where_they_are_not_required(void **state)
{
        (void)state;
        static const float rows[] = {1, 2, 3, 4};
        struct run *r = start(&numbers);
        struct buf b = plain("<f4", "(2, 2)", rows, sizeof rows);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->err, UL_SYNTAX);
        r->o.labels_required = false;
        r->o.id_prefix = NULL;
        harness_run(r, b.data, b.len);
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 2);
        harness_row_is(&r->events[1], 2, "1", NULL);
        features_are(&r->events[1], &numbers, (const float[]){3, 4});
        harness_run(r, golden, sizeof golden - 1); /* with labels too */
        assert_int_equal(r->count, 2);
        assert_int_equal(get_le32(r->events[1].row + ROW_LABEL_OFFSET), 2);
        buf_free(&b, false);
        free(r);
}

static void headers_of_other_writers_are_read(void **state)
{
        (void)state;
        static const char *const t[] = {
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }\n",
                "{\"shape\":(1,3,),\"descr\":\"<f4\",\"fortran_order\":False}",
                " { 'fortran_order' : False , 'descr' : '<f4' , 'shape' : ( 1 , 3 ) } \n",
        };
        static const float row[] = {1, 2, 0};
        for (uint8_t major = 1; major <= 2; major++) {
                for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                        struct run *r = start(&numbers);
                        struct buf b = file(major, t[i], row, sizeof row);
                        harness_all_cuts(r, b.data, b.len);
                        assert_int_equal(r->err, 0);
                        assert_int_equal(r->count, 1);
                        buf_free(&b, false);
                        free(r);
                }
        }
}

static void headers_that_are_not_one_plain_array_are_refused(void **state)
{
        (void)state;
#define OK "'fortran_order': False, 'shape': (1, 3)"
        static const char *const t[] = {
                "",
                "{}",
                "{'descr': '<f4', 'fortran_order': False}",
                "{'descr': '<f4', " OK, /* not closed */
                "{'descr': '<f4', " OK "} x",
                "{'descr': '<f4', " OK ", 'more': 1}",
                "{'descr': '<f4', 'descr': '<f4', " OK "}",
                "{'descr': '<f4' " OK "}",
                "{'descr': <f4, " OK "}",
                "{'descr': '>f4', " OK "}",
                "{'descr': '<f2', " OK "}",
                "{'descr': '<U5', " OK "}",
                "{'descr': '|O', " OK "}",
                "{'descr': '<f4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', " OK "}",
                "{'descr': [('a', '<f4')], " OK "}",
                "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3)}",
                "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1, 3)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': ()}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 1)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 0)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3)}",
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 18446744073709551619)}",
        };
        static const float row[] = {1, 2, 0};
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct run *r = start(&numbers);
                struct buf b = file(1, t[i], row, sizeof row);
                harness_run(r, b.data, b.len);
                assert_int_equal(r->err, UL_SYNTAX);
                assert_int_equal(r->count, 0);
                r->chunk = 1;
                harness_run(r, b.data, b.len);
                assert_int_equal(r->err, UL_SYNTAX);
                buf_free(&b, false);
                free(r);
        }
}

static void other_files_versions_and_endless_headers_are_refused(void **state)
{
        (void)state;
        static const struct {
                const char *bytes;
                size_t len;
        } t[] = {
                {"id,label,a,b\nr1,0,1,2\n", 23},          {"\x93NUMPX\x01\x00\x10\x00", 10},
                {"\x93NUMPY\x03\x00\x10\x00\x00\x00", 12}, {"\x93NUMPY\x00\x00\x10\x00", 10},
                {"\x93NUMPY\x01\x01\x10\x00", 10},         {"\x93NUMPY\x01\x00\xff\xff", 10},
                {"\x93NUMPY\x02\x00\xff\xff\xff\xff", 12},
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct run *r = start(&numbers);
                harness_all_cuts(r, t[i].bytes, t[i].len);
                assert_int_equal(r->err, UL_SYNTAX);
                free(r);
        }
}

static void a_file_cut_short_is_noticed_at_every_byte(void **state)
{
        (void)state;
        struct run *r = start(&numbers);
        for (size_t len = 0; len < sizeof golden - 1; len++) {
                harness_run(r, golden, len);
                assert_int_equal(r->err, UL_SYNTAX);
                assert_int_equal(r->count, len < 128 + 12 ? 0 : 1);
        }
        free(r);
}

static void a_file_that_goes_on_is_refused(void **state)
{
        (void)state;
        struct run *r = start(&numbers);
        harness_all_cuts(r, golden, sizeof golden); /* one NUL more */
        assert_int_equal(r->err, UL_SYNTAX);
        assert_int_equal(r->count, 2);
        free(r);
}

static void an_array_of_no_rows_is_no_rows(void **state)
{
        (void)state;
        struct run *r = start(&numbers);
        struct buf b = plain("<f4", "(0, 3)", NULL, 0);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 0);
        buf_free(&b, false);
        free(r);
}

static void a_claim_of_endless_rows_costs_nothing(void **state)
{
        (void)state;
        static const float row[] = {1, 2, 0};
        struct run *r = start(&numbers);
        struct buf b = plain("<f4", "(18446744073709551615, 3)", row, sizeof row);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->err, UL_SYNTAX);
        assert_int_equal(r->count, 1);
        buf_free(&b, false);
        free(r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_file_that_numpy_writes_is_read_however_it_arrives),
                cmocka_unit_test(compressed_files_are_the_same),
                cmocka_unit_test(every_dtype_holds_the_same_numbers),
                cmocka_unit_test(signs_and_truth_values_are_read_right),
                cmocka_unit_test(bad_rows_cost_themselves_alone),
                cmocka_unit_test(targets_are_the_last_columns),
                cmocka_unit_test(labels_may_be_left_out_where_they_are_not_required),
                cmocka_unit_test(headers_of_other_writers_are_read),
                cmocka_unit_test(headers_that_are_not_one_plain_array_are_refused),
                cmocka_unit_test(other_files_versions_and_endless_headers_are_refused),
                cmocka_unit_test(a_file_cut_short_is_noticed_at_every_byte),
                cmocka_unit_test(a_file_that_goes_on_is_refused),
                cmocka_unit_test(an_array_of_no_rows_is_no_rows),
                cmocka_unit_test(a_claim_of_endless_rows_costs_nothing),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
