/* SPDX-License-Identifier: Apache-2.0
 * CSV uploads: RFC 4180's quotes, the header's roles, and that a broken line costs itself alone and
 * quoted text never becomes a record. */
#include "tests/unit/ingest_harness.h"

#include "lib/util/limits.h"
#include <stdio.h>

static const struct encoding numbers = {
        .shape = {0, 3, 0}, .classes = 2, .labels = (const char *const[]){"0", "big, \"cat\""}};
static const struct encoding text = {.shape = {1, 64, 0},
                                     .encoder = 1,
                                     .classes = 2,
                                     .labels = (const char *const[]){"ham", "spam"}};
static const struct encoding_column columns[] = {
        {.name = "age", .first_feature = 0},
        {.name = "city",
         .categorical = true,
         .value_count = 2,
         .values = (const char *const[]){"Bern", "3"},
         .first_feature = 1},
};
static const struct encoding tabular = {.shape = {0, 4, 0},
                                        .encoder = 2,
                                        .classes = 2,
                                        .labels = (const char *const[]){"0", "1"},
                                        .column_count = 2,
                                        .columns = columns};
static const struct encoding regression = {.shape = {0, 2, 3}};

static struct run *start(const struct encoding *enc, bool labels_required)
{
        struct run *r = calloc(1, sizeof *r);
        assert_non_null(r);
        r->o = (struct ingest_options){.format = INGEST_CSV,
                                       .encoding = enc,
                                       .pseudonym_key = harness_key,
                                       .labels_required = labels_required};
        return r;
}

static struct run *run_text(const struct encoding *enc, const char *csv)
{
        struct run *r = start(enc, true);
        harness_run(r, csv, strlen(csv));
        return r;
}

static void features_are(const struct event *ev, const struct encoding *enc, const float *want)
{
        float have[64];
        row_widen(&enc->shape, ev->row, have);
        assert_memory_equal(have, want, enc->shape.features * sizeof *have);
}

static void a_record_becomes_a_sealed_row(void **state)
{
        (void)state;
        struct run *r = run_text(&numbers, "id,subject,label,erasure_likelihood,a,b,c\n"
                                           "r1,alice,0,low,1,-2.5,3e1\n"
                                           "r2,,\"big, \"\"cat\"\"\",,4,\"5\", 6 \n");
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 2);
        harness_row_is(&r->events[0], 2, "r1", "alice");
        assert_int_equal(r->events[0].likelihood, LIKELIHOOD_LOW);
        features_are(&r->events[0], &numbers, (const float[]){1, -2.5f, 30});
        harness_row_is(&r->events[1], 3, "r2", NULL);
        assert_int_equal(r->events[1].likelihood, LIKELIHOOD_UNSET);
        assert_int_equal(get_le32(r->events[1].row + ROW_LABEL_OFFSET), 1);
        features_are(&r->events[1], &numbers, (const float[]){4, 5, 6});
        free(r);
}

static void known_columns_may_stand_anywhere(void **state)
{
        (void)state;
        struct run *r = run_text(&numbers, "x,subject,y,id,z,label\n1,bob,2,r1,3,0\n");
        assert_int_equal(r->count, 1);
        harness_row_is(&r->events[0], 2, "r1", "bob");
        features_are(&r->events[0], &numbers, (const float[]){1, 2, 3});
        free(r);
        r = run_text(&tabular,
                     "city,label,id,age\nBern,1,r1,40\n,0,r2,1\n3,0,r3, 2 \nx,0,r4,old\n");
        assert_int_equal(r->count, 4);
        features_are(&r->events[0], &tabular, (const float[]){40, 1, 0, 0});
        features_are(&r->events[1], &tabular, (const float[]){1, 0, 0, 1});
        features_are(&r->events[2], &tabular, (const float[]){2, 0, 1, 0});
        harness_bad_is(&r->events[3], 5, UL_INVALID, "/columns/age");
        free(r);
}

static void several_targets_have_a_column_each(void **state)
{
        (void)state;
        struct run *r = run_text(&regression, "id,label.0,label.2,label.1,a,b\n"
                                              "r1,1,3, 2 ,8,9\n"
                                              "r2,1,,2,8,9\n"
                                              "r3,1,1e39,2,8,9\n");
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 3);
        assert_memory_equal(r->events[0].row + ROW_LABEL_OFFSET, ((const float[]){1, 2, 3}), 12);
        harness_bad_is(&r->events[1], 3, UL_INVALID, "/label");
        harness_bad_is(&r->events[2], 4, UL_INVALID, "/label");
        free(r);
}

static void headers_that_do_not_fit_the_model_are_refused_by_name(void **state)
{
        (void)state;
        static const struct {
                const struct encoding *enc;
                const char *header;
                const char *field;
        } t[] = {
                {&numbers, "", ""},
                {&numbers, "\n", "id"},
                {&numbers, "label,a,b,c\n", "id"},
                {&numbers, "id,a,b,c\n", "label"},
                {&numbers, "id,label,a,b\n", ""},
                {&numbers, "id,label,a,b,c,extra\n", "extra"},
                {&numbers, "id,label,a,b,c,subject,erasure_likelihood,one,more\n", "one"},
                {&numbers, "id,id,label,a,b,c\n", "id"},
                {&numbers, "id,label,label,a,b,c\n", "label"},
                {&numbers, "id,subject,subject,label,a,b,c\n", "subject"},
                {&numbers, "id,label,\"a,b,c\n", ""},
                {&numbers, "id,label,a\"x,b,c\n", ""},
                {&text, "id,label\n", "text"},
                {&text, "id,label,Text\n", "Text"},
                {&text, "id,label,text,text\n", "text"},
                {&tabular, "id,label,age\n", "city"},
                {&tabular, "id,label,age,city,town\n", "town"},
                {&tabular, "id,label,age,age,city\n", "age"},
                {&tabular, "id,label,ag,city\n", "ag"},
                {&regression, "id,label.0,label.1,a,b\n", "label.2"},
                {&regression, "id,label.0,label.1,label.1,label.2,a,b\n", "label.1"},
                {&regression, "id,label.0,label.1,label.2,a,b,label.3\n", "label.3"},
                {&regression, "id,label,a,b\n", "label"},
                {&regression, "id,a,b\n", "label.0"},
                {&numbers, "id,label,label.1,a,b\n", "label.1"},
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct run *r = run_text(t[i].enc, t[i].header);
                assert_int_equal(r->err, UL_SYNTAX);
                assert_int_equal(r->count, 0);
                assert_string_equal(r->e.field, t[i].field);
                assert_true(r->e.detail[0] != '\0');
                free(r);
        }
}

static void a_long_column_name_is_cut_in_the_reason(void **state)
{
        (void)state;
        struct buf b = {0};
        buf_append_str(&b, "id,label,a,b,c,");
        memset(buf_extend(&b, 5000), 'n', 5000);
        buf_append_str(&b, "\n");
        struct run *r = start(&numbers, true);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->err, UL_SYNTAX);
        assert_int_equal(strspn(r->e.field, "n"), strlen(r->e.field));
        free(r);
        buf_free(&b, false);
}

static void labels_may_be_left_out_where_they_are_not_required(void **state)
{
        (void)state;
        static const char with[] = "id,label,a,b,c\nr1,,1,2,3\nr2,0,1,2,3\nr3,7,1,2,3\n";
        static const char without[] = "id,a,b,c\nr1,1,2,3\n";
        struct run *r = start(&numbers, false);
        harness_run(r, with, sizeof with - 1);
        assert_int_equal(r->count, 3);
        harness_row_is(&r->events[0], 2, "r1", NULL);
        harness_row_is(&r->events[1], 3, "r2", NULL);
        harness_bad_is(&r->events[2], 4, UL_INVALID, "/label");
        harness_run(r, without, sizeof without - 1);
        assert_int_equal(r->count, 1);
        harness_row_is(&r->events[0], 2, "r1", NULL);
        free(r);
        r = start(&regression, false);
        harness_run(r, "id,a,b\nr1,1,2\n", 14);
        assert_int_equal(r->count, 1);
        harness_row_is(&r->events[0], 2, "r1", NULL);
        harness_run(r, "id,label.0,a,b\nr1,1,2,3\n", 24);
        assert_int_equal(r->err, UL_SYNTAX); /* some targets but not all */
        free(r);
}

static void a_broken_record_costs_itself_alone(void **state)
{
        (void)state;
        struct run *r = run_text(&numbers, "id,label,a,b,c\n"
                                           "r2,0,1,2\n"                 /* 2: too few */
                                           "r3,0,1,2,3,4\n"             /* 3: too many */
                                           "r4,0,1,2,3,\n"              /* 4: too many */
                                           "r5,0,1,,3\n"                /* 5: no number */
                                           "r6,0,1,2x,3\n"              /* 6 */
                                           "r7 5\" disk,0,1,2,3\n"      /* 7: a stray quote */
                                           "\"r8\"x,0,1,2,3\n"          /* 8: text after a quote */
                                           ",0,1,2,3\n"                 /* 9: no id */
                                           "r10,dog,1,2,3\n"            /* 10 */
                                           "r11,0,1,nan,3\n"            /* 11 */
                                           "r12,0,1,1e39,3\n"           /* 12 */
                                           "r13;0;1;2;3\n"              /* 13: another delimiter */
                                           "\n\r\n"                     /* 14, 15: ignored */
                                           "\xff,0,1,2,3\n"             /* 16: not UTF-8 */
                                           "\xed\xa0\x80,0,1,2,3\n"     /* 17: a surrogate */
                                           "\xc0\x80,0,1,2,3\n"         /* 18: overlong */
                                           "\xf0\x9f\x98\x80,0,1,2,3\n" /* 19: good */
                                           "r20,0,1,2,3");
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 17);
        static const struct {
                int code;
                const char *field;
        } want[] = {
                {UL_SYNTAX, ""},
                {UL_SYNTAX, ""},
                {UL_SYNTAX, ""},
                {UL_INVALID, "/features/1"},
                {UL_INVALID, "/features/1"},
                {UL_SYNTAX, ""},
                {UL_SYNTAX, ""},
                {UL_INVALID, "/id"},
                {UL_INVALID, "/label"},
                {UL_INVALID, "/features/1"},
                {UL_INVALID, "/features/1"},
                {UL_SYNTAX, ""},
                {UL_INVALID, "/id"},
                {UL_INVALID, "/id"},
                {UL_INVALID, "/id"},
        };
        for (uint64_t i = 0; i < 15; i++)
                harness_bad_is(&r->events[i], i + (i < 12 ? 2 : 4), want[i].code, want[i].field);
        harness_row_is(&r->events[15], 19, "\xf0\x9f\x98\x80", NULL);
        harness_row_is(&r->events[16], 20, "r20", NULL);
        free(r);
}

static const char quoted[] = "\xef\xbb\xbf"
                             "id,label,text\r\n"
                             "\"a,\"\"b\"\"\",ham,\"one\r\ntwo \"\"three\"\"\n\"\r\n"
                             "c,spam,\r\n"
                             "\"\"\"\",ham,\"\"\r\n"
                             "d,ham,\"x\ny,ham,z\n\"\r\n"
                             "\r\n"
                             "e,ham,\"broken\" \r\n"
                             "f,ham,last";

static void assert_quoted(const struct run *r)
{
        float want[64];
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 6);
        harness_row_is(&r->events[0], 2, "a,\"b\"", NULL);
        encode_text("one two three", 13, 64, want);
        features_are(&r->events[0], &text, want);
        harness_row_is(&r->events[1], 5, "c", NULL);
        harness_row_is(&r->events[2], 6, "\"", NULL);
        harness_row_is(&r->events[3], 7, "d", NULL); /* "y" was never a record */
        harness_bad_is(&r->events[4], 11, UL_SYNTAX, "");
        harness_row_is(&r->events[5], 12, "f", NULL);
}

static void quotes_hold_however_the_bytes_arrive(void **state)
{
        (void)state;
        struct run *r = start(&text, true);
        harness_all_cuts(r, quoted, sizeof quoted - 1);
        assert_quoted(r);
        free(r);
}

static void compressed_records_are_the_same(void **state)
{
        (void)state;
        for (int kind = INGEST_GZIP; kind <= INGEST_ZSTD; kind++) {
                struct buf b = {0};
                struct run *r = start(&text, true);
                r->o.compression = (enum ingest_compression)kind;
                harness_compress(r->o.compression, quoted, sizeof quoted - 1, &b);
                harness_all_cuts(r, b.data, b.len);
                assert_quoted(r);
                free(r);
                buf_free(&b, false);
        }
}

static void a_quote_that_never_closes_is_one_bad_record(void **state)
{
        (void)state;
        static const char csv[] = "id,label,text\na,ham,x\nb,ham,\"y\nc,ham,z\nd,ham,z\n";
        struct run *r = start(&text, true);
        harness_all_cuts(r, csv, sizeof csv - 1);
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 2);
        harness_row_is(&r->events[0], 2, "a", NULL);
        harness_bad_is(&r->events[1], 3, UL_SYNTAX, "");
        free(r);
}

static void text_within_quotes_is_no_record_even_over_the_limit(void **state)
{
        (void)state;
        for (int extra = 0; extra <= 1; extra++) {
                struct buf b = {0};
                static const char head[] = "id,label,text\n", open[] = "a,ham,\"",
                                  evil[] = "\nevil,ham,resurrected\n";
                buf_append_str(&b, head);
                buf_append_str(&b, open);
                const size_t pad =
                        NDJSON_LINE_MAX - (sizeof open - 1) - (sizeof evil - 1) - 1 + (size_t)extra;
                memset(buf_extend(&b, pad), 'x', pad);
                buf_append_str(&b, evil);
                buf_append_str(&b, "\"\nb,ham,y\n");
                static const size_t chunks[] = {0, 999, 65536};
                for (size_t c = 0; c < 3; c++) {
                        struct run *r = start(&text, true);
                        r->chunk = chunks[c];
                        r->again = true;
                        harness_run(r, b.data, b.len);
                        assert_int_equal(r->err, 0);
                        assert_int_equal(r->count, 2);
                        if (extra)
                                harness_bad_is(&r->events[0], 2, UL_TOO_LARGE, "");
                        else
                                harness_row_is(&r->events[0], 2, "a", NULL);
                        harness_row_is(&r->events[1], 5, "b", NULL);
                        free(r);
                }
                buf_free(&b, false);
        }
}

static void a_header_over_the_limit_ends_the_upload(void **state)
{
        (void)state;
        struct buf b = {0};
        memset(buf_extend(&b, NDJSON_LINE_MAX + 1), 'x', NDJSON_LINE_MAX + 1);
        for (int newline = 0; newline < 2; newline++) {
                struct run *r = start(&text, true);
                r->chunk = 65536;
                harness_run(r, b.data, b.len);
                assert_int_equal(r->err, UL_SYNTAX);
                assert_int_equal(r->count, 0);
                free(r);
                buf_append_str(&b, "\n");
        }
        buf_free(&b, false);
}

static void more_columns_than_a_header_can_have_are_refused_early(void **state)
{
        (void)state;
        struct buf b = {0};
        for (int i = 0; i < 10000; i++)
                buf_append_str(&b, "f,");
        buf_append_str(&b, "id\n");
        struct run *r = start(&numbers, true);
        harness_run(r, b.data, b.len);
        assert_int_equal(r->err, UL_SYNTAX);
        free(r);
        buf_free(&b, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_record_becomes_a_sealed_row),
                cmocka_unit_test(known_columns_may_stand_anywhere),
                cmocka_unit_test(several_targets_have_a_column_each),
                cmocka_unit_test(headers_that_do_not_fit_the_model_are_refused_by_name),
                cmocka_unit_test(a_long_column_name_is_cut_in_the_reason),
                cmocka_unit_test(labels_may_be_left_out_where_they_are_not_required),
                cmocka_unit_test(a_broken_record_costs_itself_alone),
                cmocka_unit_test(quotes_hold_however_the_bytes_arrive),
                cmocka_unit_test(compressed_records_are_the_same),
                cmocka_unit_test(a_quote_that_never_closes_is_one_bad_record),
                cmocka_unit_test(text_within_quotes_is_no_record_even_over_the_limit),
                cmocka_unit_test(a_header_over_the_limit_ends_the_upload),
                cmocka_unit_test(more_columns_than_a_header_can_have_are_refused_early),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
