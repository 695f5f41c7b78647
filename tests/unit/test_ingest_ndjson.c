/* SPDX-License-Identifier: Apache-2.0
 * NDJSON uploads: what a line may say, and by which field it is refused if it says anything else.
 * How the bytes arrive is test_ingest_stream.c's matter. */
#include "tests/unit/ingest_harness.h"

#include "lib/util/limits.h"
#include "lib/util/number.h"
#include <stdio.h>

static const struct encoding numbers = {
        .shape = {0, 3, 0}, .classes = 3, .labels = (const char *const[]){"0", "1.5", "cat"}};
static const struct encoding two_targets = {.shape = {0, 1, 2}};
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
        {.name = "ag", .first_feature = 4},
};
static const struct encoding tabular = {.shape = {0, 5, 0},
                                        .encoder = 2,
                                        .classes = 2,
                                        .labels = (const char *const[]){"0", "1"},
                                        .column_count = 3,
                                        .columns = columns};

static struct ingest_options options(const struct encoding *enc)
{
        return (struct ingest_options){.format = INGEST_NDJSON,
                                       .encoding = enc,
                                       .pseudonym_key = harness_key,
                                       .labels_required = true};
}

static struct run *run_text(const struct encoding *enc, const char *lines)
{
        struct run *r = calloc(1, sizeof *r);
        assert_non_null(r);
        r->o = options(enc);
        harness_run(r, lines, strlen(lines));
        return r;
}

static void features_are(const struct event *ev, const struct encoding *enc, const float *want)
{
        float have[64];
        row_widen(&enc->shape, ev->row, have);
        assert_memory_equal(have, want, enc->shape.features * sizeof *have);
}

static void a_line_becomes_a_sealed_row(void **state)
{
        (void)state;
        struct run *r = run_text(
                &numbers, "{\"id\":\"r1\",\"subject\":\"alice@example.org\",\"label\":\"cat\","
                          "\"features\":[1,-2.5e0,3],\"erasure_likelihood\":\"high\"}\n"
                          "{ \"features\" : [ 0 , 1e-3,\t7 ] , \"label\" : 1.50, \"id\" : "
                          "\"z\\u00fc\" }\r\n");
        assert_int_equal(r->err, 0);
        assert_int_equal(r->count, 2);
        harness_row_is(&r->events[0], 1, "r1", "alice@example.org");
        assert_int_equal(r->events[0].likelihood, LIKELIHOOD_HIGH);
        assert_int_equal(get_le32(r->events[0].row + ROW_LABEL_OFFSET), 2);
        features_are(&r->events[0], &numbers, (const float[]){1, -2.5f, 3});
        harness_row_is(&r->events[1], 2, "z\xc3\xbc", NULL);
        assert_int_equal(r->events[1].likelihood, LIKELIHOOD_UNSET);
        assert_int_equal(get_le32(r->events[1].row + ROW_LABEL_OFFSET), 1);
        features_are(&r->events[1], &numbers, (const float[]){0, 1e-3f, 7});
        free(r);
}

static void features_have_the_last_bit_of_strtof(void **state)
{
        (void)state;
        static const char *const t[] = {"0.1",
                                        "16777217",
                                        "3.4028234e38",
                                        "1e-45",
                                        "-0.0",
                                        "0.30000001192092896",
                                        "123456789.123456789",
                                        "1.00000017881393432617187499",
                                        "5e-324"};
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                char line[200];
                (void)snprintf(line, sizeof line,
                               "{\"id\":\"a\",\"label\":0,\"features\":[%s,%s,%s]}", t[i], t[i],
                               t[i]);
                struct run *r = run_text(&numbers, line);
                const float f = strtof(t[i], NULL);
                assert_int_equal(r->count, 1);
                features_are(&r->events[0], &numbers, (const float[]){f, f, f});
                free(r);
        }
}

static void lines_that_say_something_wrong_are_refused_by_field(void **state)
{
        (void)state;
        static const struct {
                const char *line;
                int code;
                const char *field;
        } t[] = {
#define GOOD "\"id\":\"a\",\"label\":0"
                {"{" GOOD ",\"features\":[1,2]}", UL_INVALID, "/features"},
                {"{" GOOD ",\"features\":[1,2,3,4]}", UL_INVALID, "/features"},
                {"{" GOOD ",\"features\":[]}", UL_INVALID, "/features"},
                {"{" GOOD ",\"features\":[1,2,]}", UL_INVALID, "/features/2"},
                {"{" GOOD ",\"features\":[1,2,3,]}", UL_INVALID, "/features"},
                {"{" GOOD ",\"features\":[,1,2,3]}", UL_INVALID, "/features/0"},
                {"{" GOOD ",\"features\":[1 2,3]}", UL_INVALID, "/features/0"},
                {"{" GOOD ",\"features\":[1,null,3]}", UL_INVALID, "/features/1"},
                {"{" GOOD ",\"features\":[1,\"2\",3]}", UL_INVALID, "/features/1"},
                {"{" GOOD ",\"features\":[1,[2],3]}", UL_INVALID, "/features/1"},
                {"{" GOOD ",\"features\":[01,2,3]}", UL_INVALID, "/features/0"},
                {"{" GOOD ",\"features\":[+1,2,3]}", UL_INVALID, "/features/0"},
                {"{" GOOD ",\"features\":[.5,2,3]}", UL_INVALID, "/features/0"},
                {"{" GOOD ",\"features\":[1.,2,3]}", UL_INVALID, "/features/0"},
                {"{" GOOD ",\"features\":[1,-,3]}", UL_INVALID, "/features/1"},
                {"{" GOOD ",\"features\":[1,2,1e]}", UL_INVALID, "/features/2"},
                {"{" GOOD ",\"features\":[1,NaN,3]}", UL_INVALID, "/features/1"},
                {"{" GOOD ",\"features\":[1,2,Infinity]}", UL_INVALID, "/features/2"},
                {"{" GOOD ",\"features\":[1,2,1e39]}", UL_INVALID, "/features/2"},
                {"{" GOOD ",\"features\":[1,2,3", UL_SYNTAX, "/features"},
                {"{" GOOD ",\"features\":[1,2,3]", UL_SYNTAX, ""},
                {"{" GOOD ",\"features\":[1,2,3]}}", UL_SYNTAX, ""},
                {"{" GOOD ",\"features\":[1,2,3]}{}", UL_SYNTAX, ""},
                {"{" GOOD ",\"features\":0}", UL_INVALID, "/features"},
                {"{" GOOD ",\"features\":\"[1,2,3]\"}", UL_INVALID, "/features"},
                {"{" GOOD "}", UL_INVALID, "/features"},
                {"{" GOOD ",\"text\":\"x\"}", UL_INVALID, "/text"},
                {"{" GOOD ",\"features\":[1,2,3],\"extra\":1}", UL_INVALID, "/extra"},
                {"{" GOOD ",\"columns\":{\"features\":[1,2,3]}}", UL_INVALID, "/columns"},
                {"{" GOOD ",\"x\":\"\\\"features\\\":[1,2,3]\"}", UL_INVALID, "/x"},
                {"{" GOOD ",\"Features\":[1,2,3]}", UL_INVALID, "/Features"},
                /* the array in the wrong place, or twice */
                {"[\"features\",[1,2,3]]", UL_INVALID, ""},
                {"[\"features\":[1,2,3]]", UL_SYNTAX, ""},
                {"[0,\"features\":[1,2,3]]", UL_SYNTAX, ""},
                {"\"features\":[1,2,3]", UL_SYNTAX, ""},
                {"{\"x\":{" GOOD ",\"features\":[1,2,3]}}", UL_INVALID, "/x"},
                {"{" GOOD ",\"x\":\"features\":[1,2,3]}", UL_SYNTAX, ""},
                {"}{" GOOD ",\"features\":[1,2,3]}", UL_SYNTAX, ""},
                {"42", UL_INVALID, ""},
                {"null", UL_INVALID, ""},
                {"nonsense", UL_SYNTAX, ""},
                {"{\"id\":\"\\", UL_SYNTAX, ""},
                /* names */
                {"{\"label\":0,\"features\":[1,2,3]}", UL_INVALID, "/id"},
                {"{\"id\":\"\",\"label\":0,\"features\":[1,2,3]}", UL_INVALID, "/id"},
                {"{\"id\":7,\"label\":0,\"features\":[1,2,3]}", UL_INVALID, "/id"},
                {"{\"id\":null,\"label\":0,\"features\":[1,2,3]}", UL_INVALID, "/id"},
                {"{" GOOD ",\"subject\":\"\",\"features\":[1,2,3]}", UL_INVALID, "/subject"},
                {"{" GOOD ",\"subject\":1,\"features\":[1,2,3]}", UL_INVALID, "/subject"},
                {"{" GOOD ",\"erasure_likelihood\":\"never\",\"features\":[1,2,3]}", UL_INVALID,
                 "/erasure_likelihood"},
                {"{" GOOD ",\"erasure_likelihood\":1,\"features\":[1,2,3]}", UL_INVALID,
                 "/erasure_likelihood"},
                /* labels */
                {"{\"id\":\"a\",\"features\":[1,2,3]}", UL_INVALID, "/label"},
                {"{\"id\":\"a\",\"label\":null,\"features\":[1,2,3]}", UL_INVALID, "/label"},
                {"{\"id\":\"a\",\"label\":1,\"features\":[1,2,3]}", UL_INVALID, "/label"},
                {"{\"id\":\"a\",\"label\":\"dog\",\"features\":[1,2,3]}", UL_INVALID, "/label"},
                {"{\"id\":\"a\",\"label\":true,\"features\":[1,2,3]}", UL_INVALID, "/label"},
                {"{\"id\":\"a\",\"label\":[0],\"features\":[1,2,3]}", UL_INVALID, "/label"},
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct run *r = run_text(&numbers, t[i].line);
                assert_int_equal(r->err, 0);
                assert_int_equal(r->count, 1);
                harness_bad_is(&r->events[0], 1, t[i].code, t[i].field);
                free(r);
        }
}

static void a_key_that_is_there_twice_is_refused(void **state)
{
        (void)state;
        static const char *const t[] = {
                "{" GOOD ",\"features\":[1,2,3],\"features\":[1,2,3]}",
                "{" GOOD ",\"features\":[1,2,3],\"features\":0}",
                "{" GOOD ",\"features\":0,\"features\":[1,2,3]}",
                "{" GOOD ",\"f\\u0065atures\":[1,2,3],\"features\":[1,2,3]}",
                "{" GOOD ",\"features\":[1,2,3],\"f\\u0065atures\":[4,5,6]}",
                "{" GOOD ",\"features\":[1,2,3],\"id\":\"b\"}",
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct run *r = run_text(&numbers, t[i]);
                assert_int_equal(r->count, 1);
                assert_true(r->events[0].bad);
                free(r);
        }
}

static void text_that_looks_like_features_is_only_text(void **state)
{
        (void)state;
        struct run *r = run_text(
                &numbers, "{\"id\":\"\\\"features\\\":[9,9,9]\\\\\",\"subject\":\"features\","
                          "\"label\":0,\"features\":[1,2,3]}");
        assert_int_equal(r->count, 1);
        harness_row_is(&r->events[0], 1, "\"features\":[9,9,9]\\", "features");
        features_are(&r->events[0], &numbers, (const float[]){1, 2, 3});
        free(r);
}

static void a_reason_never_holds_what_the_line_said(void **state)
{
        (void)state;
        static const char *const t[] = {
                "{\"id\":\"Xq7zSecret\",\"label\":\"Xq7zSecret\",\"features\":[1,2,3]}",
                "{\"id\":\"Xq7zSecret\",\"label\":0,\"features\":[1,Xq7zSecret,3]}",
                "{\"id\":\"Xq7zSecret\" \"Xq7zSecret\"}",
                "Xq7zSecret",
                ("{\"id\":\"Xq7zSecret\",\"label\":0,\"erasure_likelihood\":\"Xq7zSecret\","
                 "\"features\":[1,2,3]}"),
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct run *r = run_text(&numbers, t[i]);
                assert_int_equal(r->count, 1);
                assert_true(r->events[0].bad);
                assert_null(strstr(r->events[0].detail, "Xq7z"));
                assert_null(strstr(r->events[0].field, "Xq7z"));
                free(r);
        }
}

static void ids_have_a_longest_length_in_bytes(void **state)
{
        (void)state;
        for (size_t len = ID_BYTES_MAX - 1; len <= ID_BYTES_MAX + 1; len++) {
                char id[ID_BYTES_MAX + 2], line[ID_BYTES_MAX + 100];
                memset(id, 'x', sizeof id);
                id[len] = '\0';
                (void)snprintf(line, sizeof line,
                               "{\"id\":\"%s\",\"label\":0,\"features\":[1,2,3]}", id);
                struct run *r = run_text(&numbers, line);
                assert_int_equal(r->count, 1);
                if (len <= ID_BYTES_MAX)
                        harness_row_is(&r->events[0], 1, id, NULL);
                else
                        harness_bad_is(&r->events[0], 1, UL_INVALID, "/id");
                free(r);
        }
}

static void labels_may_be_left_out_where_they_are_not_required(void **state)
{
        (void)state;
        static const char lines[] = "{\"id\":\"a\",\"features\":[1,2,3]}\n"
                                    "{\"id\":\"b\",\"label\":\"cat\",\"features\":[1,2,3]}\n"
                                    "{\"id\":\"c\",\"label\":\"dog\",\"features\":[1,2,3]}\n";
        struct run r = {.o = options(&numbers)};
        r.o.labels_required = false;
        harness_run(&r, lines, sizeof lines - 1);
        assert_int_equal(r.count, 3);
        harness_row_is(&r.events[0], 1, "a", NULL);
        assert_int_equal(get_le32(r.events[0].row + ROW_LABEL_OFFSET), 0);
        harness_row_is(&r.events[1], 2, "b", NULL);
        assert_int_equal(get_le32(r.events[1].row + ROW_LABEL_OFFSET), 2);
        harness_bad_is(&r.events[2], 3, UL_INVALID, "/label");
}

static void regression_takes_a_number_or_as_many_as_targets(void **state)
{
        (void)state;
        static const struct encoding one = {.shape = {0, 1, 1}};
        struct run *r = run_text(&one, "{\"id\":\"a\",\"label\":2.5,\"features\":[1]}\n"
                                       "{\"id\":\"a\",\"label\":[2.5],\"features\":[1]}\n"
                                       "{\"id\":\"a\",\"label\":\"2.5\",\"features\":[1]}\n"
                                       "{\"id\":\"a\",\"label\":1e39,\"features\":[1]}\n");
        float label;
        assert_int_equal(r->count, 4);
        for (int i = 0; i < 2; i++) {
                assert_false(r->events[i].bad);
                memcpy(&label, r->events[i].row + ROW_LABEL_OFFSET, 4);
                assert_true(label == 2.5f);
        }
        harness_bad_is(&r->events[2], 3, UL_INVALID, "/label");
        harness_bad_is(&r->events[3], 4, UL_INVALID, "/label");
        free(r);
        r = run_text(&two_targets, "{\"id\":\"a\",\"label\":[2.5,-1],\"features\":[1]}\n"
                                   "{\"id\":\"a\",\"label\":[2.5],\"features\":[1]}\n"
                                   "{\"id\":\"a\",\"label\":[1,2,3],\"features\":[1]}\n"
                                   "{\"id\":\"a\",\"label\":[1,\"2\"],\"features\":[1]}\n"
                                   "{\"id\":\"a\",\"label\":2.5,\"features\":[1]}\n");
        assert_int_equal(r->count, 5);
        assert_memory_equal(r->events[0].row + ROW_LABEL_OFFSET, ((const float[]){2.5f, -1}), 8);
        for (uint64_t i = 1; i < 5; i++)
                harness_bad_is(&r->events[i], i + 1, UL_INVALID, "/label");
        free(r);
}

static void text_is_hashed_as_the_encoder_does(void **state)
{
        (void)state;
        float want[64];
        struct run *r = run_text(&text, "{\"id\":\"a\",\"label\":\"spam\",\"text\":\"The quick\"}\n"
                                        "{\"id\":\"b\",\"label\":\"ham\",\"text\":7}\n"
                                        "{\"id\":\"c\",\"label\":\"ham\",\"features\":[1]}\n");
        encode_text("The quick", 9, 64, want);
        assert_int_equal(r->count, 3);
        features_are(&r->events[0], &text, want);
        harness_bad_is(&r->events[1], 2, UL_INVALID, "/text");
        harness_bad_is(&r->events[2], 3, UL_INVALID, "/features");
        free(r);
}

static void every_column_must_be_named_and_no_other(void **state)
{
        (void)state;
        static const struct {
                const char *columns;
                const char *field; /* NULL: good */
                float want[5];
        } t[] = {
                {"{\"age\":3.5,\"city\":\"Bern\",\"ag\":1}", NULL, {3.5f, 1, 0, 0, 1}},
                {"{\"ag\":\"-1\",\"city\":null,\"age\":\"2\"}", NULL, {2, 0, 0, 1, -1}},
                {"{\"ag\":1,\"city\":3.0,\"age\":2}", NULL, {2, 0, 1, 0, 1}},
                {"{\"ag\":1,\"city\":\"Paris\",\"age\":2}", NULL, {2, 0, 0, 1, 1}},
                {"{\"ag\":1,\"city\":\"Bern\"}", "/columns/age", {0}},
                {"{\"age\":1,\"city\":\"Bern\"}", "/columns/ag", {0}},
                {"{\"age\":1,\"ag\":1}", "/columns/city", {0}},
                {"{\"age\":1,\"ag\":1,\"city\":1,\"a\":1}", "/columns/a", {0}},
                {"{\"age\":1,\"ag\":1,\"city\":1,\"ages\":1}", "/columns/ages", {0}},
                {"{\"age\":1,\"ag\":1,\"city\":1,\"x/y\":1}", "/columns/x~1y", {0}},
                {"{\"age\":null,\"ag\":1,\"city\":1}", "/columns/age", {0}},
                {"{\"age\":true,\"ag\":1,\"city\":1}", "/columns/age", {0}},
                {"{\"age\":[1],\"ag\":1,\"city\":1}", "/columns/age", {0}},
                {"{\"age\":1e39,\"ag\":1,\"city\":1}", "/columns/age", {0}},
                {"{\"age\":\"x\",\"ag\":1,\"city\":1}", "/columns/age", {0}},
                {"[]", "/columns", {0}},
                {"{}", "/columns/age", {0}},
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                char line[300];
                (void)snprintf(line, sizeof line, "{" GOOD ",\"columns\":%s}", t[i].columns);
                struct run *r = run_text(&tabular, line);
                assert_int_equal(r->count, 1);
                if (t[i].field != NULL)
                        harness_bad_is(&r->events[0], 1, UL_INVALID, t[i].field);
                else
                        features_are(&r->events[0], &tabular, t[i].want);
                free(r);
        }
}

static void a_dtype_that_cannot_hold_a_column_names_the_column(void **state)
{
        (void)state;
        struct encoding bytes = tabular;
        bytes.shape.dtype = 1;
        struct run *r = run_text(&bytes, "{" GOOD ",\"columns\":{\"age\":3,\"city\":\"\","
                                         "\"ag\":300}}\n"
                                         "{" GOOD ",\"columns\":{\"age\":0.5,\"city\":\"\","
                                         "\"ag\":30}}\n");
        assert_int_equal(r->count, 2);
        harness_bad_is(&r->events[0], 1, UL_INVALID, "/columns/ag");
        harness_bad_is(&r->events[1], 2, UL_INVALID, "/columns/age");
        free(r);
}

static void options_that_do_not_go_together_are_refused(void **state)
{
        (void)state;
        const struct ingest_events ev = {harness_row, harness_bad, NULL};
        struct ingest *in = NULL;
        struct errinfo e;
        struct encoding bits = text;
        bits.shape.dtype = 2;
        struct ingest_options o = options(&bits);
        assert_int_equal(ingest_create(&o, &ev, &in, &e), UL_INVALID);
        o = options(&text);
        o.format = INGEST_NPY;
        assert_int_equal(ingest_create(&o, &ev, &in, &e), UL_UNSUPPORTED);
        o = options(&numbers);
        o.id_prefix = "\xff";
        assert_int_equal(ingest_create(&o, &ev, &in, &e), UL_INVALID);
        char longest[ID_BYTES_MAX + 1];
        memset(longest, 'x', sizeof longest);
        longest[ID_BYTES_MAX] = '\0';
        o.id_prefix = longest;
        assert_int_equal(ingest_create(&o, &ev, &in, &e), UL_INVALID);
        assert_null(in);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_line_becomes_a_sealed_row),
                cmocka_unit_test(features_have_the_last_bit_of_strtof),
                cmocka_unit_test(lines_that_say_something_wrong_are_refused_by_field),
                cmocka_unit_test(a_key_that_is_there_twice_is_refused),
                cmocka_unit_test(text_that_looks_like_features_is_only_text),
                cmocka_unit_test(a_reason_never_holds_what_the_line_said),
                cmocka_unit_test(ids_have_a_longest_length_in_bytes),
                cmocka_unit_test(labels_may_be_left_out_where_they_are_not_required),
                cmocka_unit_test(regression_takes_a_number_or_as_many_as_targets),
                cmocka_unit_test(text_is_hashed_as_the_encoder_does),
                cmocka_unit_test(every_column_must_be_named_and_no_other),
                cmocka_unit_test(a_dtype_that_cannot_hold_a_column_names_the_column),
                cmocka_unit_test(options_that_do_not_go_together_are_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
