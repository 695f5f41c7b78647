/* SPDX-License-Identifier: Apache-2.0
 * What a model's configuration accepts, refuses and defaults to, and that its canonical text is
 * exactly what it reads back. */
#include "lib/models/config.h"
#include "lib/models/model.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the headers above first */
#include <setjmp.h>

#include <cmocka.h>

static struct model_config *parsed(const char *text)
{
        struct model_config *c = NULL;
        struct errinfo e = {0};
        if (model_config_parse(text, strlen(text), &c, &e))
                fail_msg("%s: %s %s", text, e.field, e.detail);
        return c;
}

static char *written(const struct model_config *c, bool with_name)
{
        struct buf b;
        struct json_writer w;

        buf_init(&b, 0);
        jw_init(&w, &b);
        jw_object(&w);
        model_config_write(c, &w, with_name);
        jw_end_object(&w);
        buf_append(&b, "", 1);
        assert_false(b.failed);
        return (char *)b.data;
}

static void refused_at(const char *text, const char *field)
{
        struct model_config *c = NULL;
        struct errinfo e = {0};

        if (model_config_parse(text, strlen(text), &c, &e) != UL_INVALID)
                fail_msg("accepted: %s", text);
        assert_null(c);
        assert_int_equal(e.code, UL_INVALID);
        if (strcmp(e.field, field))
                fail_msg("%s: refused at %s and not at %s", text, e.field, field);
        assert_true(e.detail[0]);
}

#define DIGITS "\"name\":\"digits\",\"kind\":\"mlp\",\"features\":64,\"classes\":10"
#define LOGIT "\"name\":\"m\",\"kind\":\"softmax\",\"features\":4,\"classes\":2"
#define TABLE "\"name\":\"t\",\"kind\":\"softmax\",\"classes\":2,\"encoder\":\"tabular\""

static void the_smallest_body_gets_the_documented_defaults(void **state)
{
        struct model_config *c = parsed("{" DIGITS "}");

        (void)state;
        assert_string_equal(c->name, "digits");
        assert_int_equal(c->task, TASK_CLASSIFICATION);
        assert_int_equal(c->dtype, DTYPE_F32);
        assert_int_equal(c->encoder, ENCODER_NONE);
        assert_int_equal(c->outputs, 10);
        assert_int_equal(c->hidden_count, 1);
        assert_int_equal(c->hidden[0], 128);
        assert_int_equal(c->activation, ACTIVATION_RELU);
        assert_int_equal(c->shards, 8);
        assert_int_equal(c->slices, 4);
        assert_int_equal(c->epochs, 20);
        assert_int_equal(c->batch_size, 32);
        assert_true(c->learning_rate == 0.1 && c->momentum == 0.9 && c->l2 == 0);
        assert_true(c->learning_rate_decay == 0);
        assert_int_equal(c->optimizer, OPTIMIZER_SGD);
        assert_int_equal(c->aggregation, AGGREGATION_MEAN);
        assert_int_equal(c->seed, 1);
        assert_true(c->standardize);
        assert_string_equal(c->labels[9], "9");
        model_config_destroy(&c);
        assert_null(c);
        model_config_destroy(&c);
}

static void a_list_that_begins_to_number_the_classes_is_completed(void **state)
{
        (void)state;
        struct model_config *c = parsed("{\"name\":\"m\",\"kind\":\"softmax\",\"features\":2,"
                                        "\"classes\":4,\"labels\":[\"0\",\"1\"]}");
        assert_string_equal(c->labels[1], "1");
        assert_string_equal(c->labels[3], "3");
        model_config_destroy(&c);
}

static void the_canonical_text_is_pinned(void **state)
{
        struct model_config *c = parsed("{" LOGIT ",\"labels\":[\"no\",\"yes\"]}");
        char *text = written(c, true);

        (void)state;
        /* Part of every checkpoint's provenance: see config_write.c. */
        assert_string_equal(
                text, "{\"name\":\"m\",\"kind\":\"softmax\",\"task\":\"classification\","
                      "\"encoder\":\"none\",\"dtype\":\"f32\",\"features\":4,\"classes\":2,"
                      "\"labels\":[\"no\",\"yes\"],\"shards\":8,\"slices\":4,\"epochs\":20,"
                      "\"batch_size\":32,\"learning_rate\":0.1,\"learning_rate_decay\":0,"
                      "\"momentum\":0.9,\"l2\":0,\"optimizer\":\"sgd\",\"aggregation\":\"mean\","
                      "\"seed\":1,\"standardize\":true}");
        free(text);
        model_config_destroy(&c);
}

static void whatever_is_accepted_reads_back_as_the_same_text_and_hash(void **state)
{
        static const char *const bodies[] = {
                "{" DIGITS "}",
                "{" LOGIT "}",
                "{" DIGITS ",\"dtype\":\"u8\",\"hidden\":[8,7,6,5,4,3,2,1],\"activation\":\"tanh\","
                "\"shards\":256,\"slices\":64,\"epochs\":10000,\"batch_size\":4096,"
                "\"learning_rate\":0.030000000000000002,\"momentum\":0,\"l2\":1e-5,"
                "\"learning_rate_decay\":0.3333333333333333,\"optimizer\":\"adam\","
                "\"aggregation\":\"vote\",\"seed\":9007199254740991,\"standardize\":false}",
                "{" LOGIT ",\"dtype\":\"bit\",\"shards\":1,\"slices\":1,\"seed\":0,\"l2\":-0.0,"
                "\"labels\":[\"\\\"q\\\\\",\"\xc3\xa9\\n\"]}",
                "{\"name\":\"r\",\"kind\":\"mlp\",\"task\":\"regression\",\"features\":3,"
                "\"targets\":64}",
                "{\"name\":\"r\",\"kind\":\"softmax\",\"task\":\"regression\",\"features\":3}",
                "{" LOGIT ",\"encoder\":\"hash_text\",\"standardize\":true}",
                "{" TABLE ",\"features\":5,\"columns\":[{\"name\":\"age\",\"type\":\"numeric\"},"
                "{\"type\":\"categorical\",\"name\":\"work/~\",\"values\":[\"\",\"a\",\"b\"]}]}",
        };

        (void)state;
        for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
                struct model_config *a = parsed(bodies[i]);
                char *once = written(a, true), *bare = written(a, false);
                struct model_config *b = parsed(once), *n = parsed(bare);
                char *twice = written(b, true), *bare_again = written(n, true);
                uint8_t ha[SHA256_BYTES], hb[SHA256_BYTES], want[SHA256_BYTES];
                assert_string_equal(once, twice);
                assert_string_equal(bare, bare_again);
                assert_string_equal(n->name, "");
                model_config_hash(a, ha);
                model_config_hash(b, hb);
                sha256(bare, strlen(bare), want);
                assert_memory_equal(ha, hb, sizeof ha);
                assert_memory_equal(ha, want, sizeof ha);
                free(once), free(twice), free(bare), free(bare_again);
                model_config_destroy(&a);
                model_config_destroy(&b);
                model_config_destroy(&n);
        }
}

static void the_hash_covers_every_option_but_the_name(void **state)
{
        static const char *const bodies[] = {
                "{" DIGITS "}",
                "{" DIGITS ",\"seed\":2}",
                "{" DIGITS ",\"hidden\":[127]}",
                "{" DIGITS ",\"activation\":\"tanh\"}",
                "{" DIGITS ",\"l2\":1e-9}",
                "{" DIGITS ",\"momentum\":0.8}",
                "{" DIGITS ",\"learning_rate_decay\":0.01}",
                "{" DIGITS ",\"learning_rate\":0.2}",
                "{" DIGITS ",\"slices\":5}",
                "{" DIGITS ",\"shards\":5}",
                "{" DIGITS ",\"epochs\":5}",
                "{" DIGITS ",\"batch_size\":5}",
                "{" DIGITS ",\"standardize\":false}",
                "{" DIGITS ",\"aggregation\":\"vote\"}",
                "{" DIGITS ",\"dtype\":\"u8\"}",
        };
        enum { N = sizeof bodies / sizeof *bodies };
        uint8_t hash[N + 1][SHA256_BYTES];

        (void)state;
        for (size_t i = 0; i < N; i++) {
                struct model_config *c = parsed(bodies[i]);
                model_config_hash(c, hash[i]);
                model_config_destroy(&c);
                for (size_t j = 0; j < i; j++)
                        assert_memory_not_equal(hash[i], hash[j], SHA256_BYTES);
        }
        struct model_config *c =
                parsed("{\"kind\":\"mlp\",\"name\":\"other\",\"classes\":10,\"features\":64}");
        model_config_hash(c, hash[N]);
        assert_memory_equal(hash[N], hash[0], SHA256_BYTES);
        model_config_destroy(&c);
}

static void what_is_wrong_is_refused_where_it_stands(void **state)
{
        static const struct {
                const char *body, *field;
        } cases[] = {
                {"{" DIGITS ",\"colour\":1}", "/colour"},
                {"{\"name\":\"m\",\"features\":4,\"classes\":2}", "/kind"},
                {"{\"name\":\"m\",\"kind\":\"softmax\",\"classes\":2}", "/features"},
                {"{\"name\":\"m\",\"kind\":\"softmax\",\"features\":4}", "/classes"},
                {"{\"name\":\"m\",\"kind\":\"forest\",\"features\":4,\"classes\":2}", "/kind"},
                {"{\"name\":\"m\",\"kind\":3,\"features\":4,\"classes\":2}", "/kind"},
                {"{\"name\":\"M\",\"kind\":\"softmax\",\"features\":4,\"classes\":2}", "/name"},
                {"{\"name\":\"\",\"kind\":\"softmax\",\"features\":4,\"classes\":2}", "/name"},
                {"{\"name\":\"../x\",\"kind\":\"softmax\",\"features\":4,\"classes\":2}", "/name"},
                {"{\"name\":\"m\",\"kind\":\"softmax\",\"features\":0,\"classes\":2}", "/features"},
                {"{\"name\":\"m\",\"kind\":\"softmax\",\"features\":65537,\"classes\":2}",
                 "/features"},
                {"{\"name\":\"m\",\"kind\":\"softmax\",\"features\":1.5,\"classes\":2}",
                 "/features"},
                {"{\"name\":\"m\",\"kind\":\"softmax\",\"features\":4,\"classes\":1}", "/classes"},
                {"{\"name\":\"m\",\"kind\":\"softmax\",\"features\":4,\"classes\":1001}",
                 "/classes"},
                {"{" LOGIT ",\"task\":\"ranking\"}", "/task"},
                {"{" LOGIT ",\"task\":\"regression\"}", "/classes"},
                {"{" LOGIT ",\"targets\":1}", "/targets"},
                {"{" LOGIT ",\"hidden\":[3]}", "/hidden"},
                {"{" LOGIT ",\"activation\":\"relu\"}", "/activation"},
                {"{" DIGITS ",\"activation\":\"gelu\"}", "/activation"},
                {"{" DIGITS ",\"hidden\":[]}", "/hidden"},
                {"{" DIGITS ",\"hidden\":128}", "/hidden"},
                {"{" DIGITS ",\"hidden\":null}", "/hidden"},
                {"{" DIGITS ",\"hidden\":[1,2,3,4,5,6,7,8,9]}", "/hidden"},
                {"{" DIGITS ",\"hidden\":[5,0]}", "/hidden/1"},
                {"{" DIGITS ",\"hidden\":[8193]}", "/hidden/0"},
                {"{" DIGITS ",\"hidden\":[\"5\"]}", "/hidden/0"},
                {"{" DIGITS ",\"hidden\":[8192,8192]}", "/hidden"},
                {"{" LOGIT ",\"labels\":[\"a\"]}", "/labels"},
                {"{" LOGIT ",\"labels\":{}}", "/labels"},
                {"{" LOGIT ",\"labels\":[\"a\",\"a\"]}", "/labels/1"},
                {"{" LOGIT ",\"labels\":[\"a\",\"\"]}", "/labels/1"},
                {"{" LOGIT ",\"labels\":[1,\"a\"]}", "/labels/0"},
                {"{" LOGIT ",\"shards\":0}", "/shards"},
                {"{" LOGIT ",\"shards\":257}", "/shards"},
                {"{" LOGIT ",\"shards\":-1}", "/shards"},
                {"{" LOGIT ",\"slices\":0}", "/slices"},
                {"{" LOGIT ",\"slices\":65}", "/slices"},
                {"{" LOGIT ",\"slices\":-1}", "/slices"},
                {"{" LOGIT ",\"epochs\":0}", "/epochs"},
                {"{" LOGIT ",\"epochs\":10001}", "/epochs"},
                {"{" LOGIT ",\"batch_size\":0}", "/batch_size"},
                {"{" LOGIT ",\"batch_size\":4097}", "/batch_size"},
                {"{" LOGIT ",\"learning_rate\":0}", "/learning_rate"},
                {"{" LOGIT ",\"learning_rate\":-1}", "/learning_rate"},
                {"{" LOGIT ",\"learning_rate_decay\":-0.1}", "/learning_rate_decay"},
                {"{" LOGIT ",\"momentum\":1}", "/momentum"},
                {"{" LOGIT ",\"l2\":-1e-9}", "/l2"},
                {"{" LOGIT ",\"optimizer\":\"lbfgs\"}", "/optimizer"},
                {"{" LOGIT ",\"aggregation\":\"max\"}", "/aggregation"},
                {"{" LOGIT ",\"seed\":9007199254740992}", "/seed"},
                {"{" LOGIT ",\"seed\":-1}", "/seed"},
                {"{" LOGIT ",\"standardize\":1}", "/standardize"},
                {"{" LOGIT ",\"dtype\":\"f64\"}", "/dtype"},
                {"{" LOGIT ",\"encoder\":\"bert\"}", "/encoder"},
                {"{" LOGIT ",\"encoder\":\"hash_text\",\"dtype\":\"f32\"}", "/dtype"},
                {"{" LOGIT ",\"columns\":[]}", "/columns"},
                {"{" LOGIT ",\"encoder\":\"tabular\"}", "/columns"},
                {"{\"name\":\"r\",\"kind\":\"softmax\",\"task\":\"regression\",\"features\":3,"
                 "\"targets\":65}",
                 "/targets"},
                {"{\"name\":\"r\",\"kind\":\"softmax\",\"task\":\"regression\",\"features\":3,"
                 "\"labels\":[\"a\"]}",
                 "/labels"},
                {"{\"name\":\"r\",\"kind\":\"softmax\",\"task\":\"regression\",\"features\":3,"
                 "\"aggregation\":\"vote\"}",
                 "/aggregation"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                refused_at(cases[i].body, cases[i].field);
}

static void columns_are_refused_where_they_are_wrong(void **state)
{
        static const struct {
                const char *columns, *field;
        } cases[] = {
                {"[]", "/columns"},
                {"{}", "/columns"},
                {"[1]", "/columns/0"},
                {"[{\"name\":\"a\"}]", "/columns/0/type"},
                {"[{\"type\":\"numeric\"}]", "/columns/0/name"},
                {"[{\"name\":\"\",\"type\":\"numeric\"}]", "/columns/0/name"},
                {"[{\"name\":\"label\",\"type\":\"numeric\"}]", "/columns/0/name"},
                {"[{\"name\":\"a\",\"type\":\"date\"}]", "/columns/0/type"},
                {"[{\"name\":\"a\",\"type\":\"numeric\",\"unit\":\"kg\"}]", "/columns/0/unit"},
                {"[{\"name\":\"a\",\"type\":\"numeric\",\"values\":[\"x\"]}]", "/columns/0/values"},
                {"[{\"name\":\"a\",\"type\":\"categorical\"}]", "/columns/0/values"},
                {"[{\"name\":\"a\",\"type\":\"categorical\",\"values\":[]}]", "/columns/0/values"},
                {"[{\"name\":\"a\",\"type\":\"categorical\",\"values\":[\"x\",3]}]",
                 "/columns/0/values/1"},
                {"[{\"name\":\"a\",\"type\":\"categorical\",\"values\":[\"x\",\"y\",\"x\"]}]",
                 "/columns/0/values/2"},
                {"[{\"name\":\"a\",\"type\":\"numeric\"},{\"name\":\"b\",\"type\":\"numeric\"},"
                 "{\"name\":\"a\",\"type\":\"numeric\"}]",
                 "/columns/2/name"},
        };
        char body[1024];

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                snprintf(body, sizeof body, "{" TABLE ",\"columns\":%s}", cases[i].columns);
                refused_at(body, cases[i].field);
        }
        refused_at("{" TABLE
                   ",\"dtype\":\"u8\",\"columns\":[{\"name\":\"a\",\"type\":\"numeric\"}]}",
                   "/dtype");
        refused_at("{" TABLE ",\"features\":2,\"columns\":[{\"name\":\"a\",\"type\":\"numeric\"}]}",
                   "/features");
}

static void columns_place_their_features_one_after_the_other(void **state)
{
        struct model_config *c = parsed(
                "{" TABLE ",\"columns\":[{\"name\":\"age\",\"type\":\"numeric\"},"
                "{\"name\":\"work\",\"type\":\"categorical\",\"values\":[\"a\",\"b\",\"c\"]},"
                "{\"name\":\"pay\",\"type\":\"numeric\"}]}");

        (void)state;
        assert_int_equal(c->features, 1 + (3 + 1) + 1);
        assert_int_equal(c->columns[0].first_feature, 0);
        assert_int_equal(c->columns[1].first_feature, 1);
        assert_int_equal(c->columns[2].first_feature, 5);
        assert_int_equal(c->columns[1].value_count, 3);
        assert_string_equal(c->columns[1].values[2], "c");
        assert_int_equal(c->dtype, DTYPE_F32);
        model_config_destroy(&c);
}

/* 65 columns of 1,024 values are more than FEATURES_MAX. */
static void columns_may_not_make_more_features_than_are_served(void **state)
{
        struct buf b;
        struct model_config *c = NULL;
        struct errinfo e = {0};

        (void)state;
        buf_init(&b, 0);
        buf_append_str(&b, "{" TABLE ",\"columns\":[");
        for (int i = 0; i < 65; i++) {
                buf_printf(&b, "%s{\"name\":\"c%d\",\"type\":\"categorical\",\"values\":[",
                           i ? "," : "", i);
                for (int v = 0; v < CATEGORIES_MAX; v++)
                        buf_printf(&b, "%s\"%d\"", v ? "," : "", v);
                buf_append_str(&b, "]}");
        }
        buf_append_str(&b, "]}");
        assert_false(b.failed);
        assert_int_equal(model_config_parse((char *)b.data, b.len, &c, &e), UL_INVALID);
        assert_string_equal(e.field, "/columns");
        buf_free(&b, false);
}

static void standardize_defaults_to_what_the_data_can_bear(void **state)
{
        static const struct {
                const char *body;
                bool want;
        } cases[] = {
                {"{" LOGIT ",\"dtype\":\"f32\"}", true},
                {"{" LOGIT ",\"dtype\":\"u8\"}", true},
                {"{" LOGIT ",\"dtype\":\"bit\"}", false},
                {"{" LOGIT ",\"dtype\":\"bit\",\"standardize\":true}", true},
                {"{" LOGIT ",\"encoder\":\"hash_text\"}", false},
                {"{" LOGIT ",\"encoder\":\"hash_text\",\"standardize\":true}", true},
        };

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct model_config *c = parsed(cases[i].body);
                assert_int_equal(c->standardize, cases[i].want);
                model_config_destroy(&c);
        }
}

static void defaults_follow_encoder_and_optimizer(void **state)
{
        struct model_config *c = parsed("{" LOGIT ",\"encoder\":\"hash_text\"}");

        (void)state;
        assert_int_equal(c->dtype, DTYPE_U8);
        model_config_destroy(&c);
        c = parsed("{" LOGIT ",\"optimizer\":\"adam\"}");
        assert_true(c->learning_rate == 0.001);
        model_config_destroy(&c);
        c = parsed("{\"name\":\"r\",\"kind\":\"mlp\",\"task\":\"regression\",\"features\":3}");
        assert_int_equal(c->outputs, 1);
        assert_null(c->labels);
        assert_int_equal(model_label_index(c, "0", 1), -1);
        model_config_destroy(&c);
}

static void a_request_needs_a_name_and_stored_text_does_not(void **state)
{
        static const char body[] = "{\"kind\":\"softmax\",\"features\":4,\"classes\":2}";
        struct json *doc = NULL;
        struct model_config *c = NULL;
        struct errinfo e = {0};

        (void)state;
        assert_int_equal(json_parse(body, sizeof body - 1, &doc, &e), 0);
        assert_int_equal(model_config_decode(doc, &c, &e), UL_INVALID);
        assert_string_equal(e.field, "/name");
        json_free(&doc);
        c = parsed(body);
        model_config_destroy(&c);
}

static void what_is_no_object_is_refused(void **state)
{
        struct model_config *c = NULL;
        struct errinfo e = {0};

        (void)state;
        assert_int_equal(model_config_parse("[]", 2, &c, &e), UL_INVALID);
        assert_int_equal(model_config_parse("{", 1, &c, &e), UL_SYNTAX);
        assert_int_equal(model_config_parse("{", MODEL_CONFIG_BYTES_MAX + 1UL, &c, &e),
                         UL_TOO_LARGE);
        assert_null(c);
}

static void names_are_file_names_and_metric_labels(void **state)
{
        char longest[65];

        (void)state;
        memset(longest, 'a', sizeof longest);
        assert_true(model_name_valid("a", 1));
        assert_true(model_name_valid("0_-", 3));
        assert_true(model_name_valid(longest, 63));
        assert_false(model_name_valid(longest, 64));
        assert_false(model_name_valid("", 0));
        assert_false(model_name_valid("-a", 2));
        assert_false(model_name_valid("_a", 2));
        assert_false(model_name_valid("a.b", 3));
        assert_false(model_name_valid("a\0b", 3));
        assert_false(model_name_valid("\xc3\xa9", 2));
}

static void labels_are_found_by_their_whole_text(void **state)
{
        struct model_config *c = parsed("{" LOGIT ",\"labels\":[\"spam\",\"spa\"]}");

        (void)state;
        assert_int_equal(model_label_index(c, "spam", 4), 0);
        assert_int_equal(model_label_index(c, "spam", 3), 1);
        assert_int_equal(model_label_index(c, "spam", 2), -1);
        assert_int_equal(model_label_index(c, "spam\0", 5), -1);
        assert_int_equal(model_label_index(c, "", 0), -1);
        model_config_destroy(&c);
}

static void parameters_are_counted_without_overflow(void **state)
{
        struct model_config *c = parsed("{" DIGITS ",\"hidden\":[128,32]}");
        struct model_config huge = {.features = FEATURES_MAX,
                                    .hidden_count = HIDDEN_LAYERS_MAX,
                                    .outputs = CLASSES_MAX};

        (void)state;
        assert_int_equal(model_parameter_count(c), 65 * 128 + 129 * 32 + 33 * 10);
        for (int i = 0; i < HIDDEN_LAYERS_MAX; i++)
                huge.hidden[i] = HIDDEN_UNITS_MAX;
        assert_true(model_parameter_count(&huge) > PARAMETERS_MAX);
        assert_int_equal(model_parameter_count(&huge),
                         65537ULL * 8192 + 7 * 8193ULL * 8192 + 8193ULL * 1000);
        model_config_destroy(&c);
        /* The largest that is allowed: 65,537 x 1,000 is under 64 Mi. */
        c = parsed("{\"name\":\"m\",\"kind\":\"softmax\",\"features\":65536,\"classes\":1000}");
        model_config_destroy(&c);
        refused_at("{\"name\":\"m\",\"kind\":\"mlp\",\"features\":65536,\"classes\":2,"
                   "\"hidden\":[1024]}",
                   "/hidden");
}

static void the_model_key_depends_on_seed_and_pseudonym_key_alone(void **state)
{
        const uint8_t k1[KEY_BYTES] = {1}, k2[KEY_BYTES] = {2};
        struct model_config *a = parsed("{" DIGITS "}"), *b = parsed("{" LOGIT "}");
        struct model_config *s = parsed("{" DIGITS ",\"seed\":2}");
        uint8_t out[4][KEY_BYTES];

        (void)state;
        model_key(a, k1, out[0]);
        model_key(b, k1, out[1]);
        model_key(s, k1, out[2]);
        model_key(a, k2, out[3]);
        assert_memory_equal(out[0], out[1], KEY_BYTES);
        assert_memory_not_equal(out[0], out[2], KEY_BYTES);
        assert_memory_not_equal(out[0], out[3], KEY_BYTES);
        model_config_destroy(&a);
        model_config_destroy(&b);
        model_config_destroy(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_list_that_begins_to_number_the_classes_is_completed),
                cmocka_unit_test(the_smallest_body_gets_the_documented_defaults),
                cmocka_unit_test(the_canonical_text_is_pinned),
                cmocka_unit_test(whatever_is_accepted_reads_back_as_the_same_text_and_hash),
                cmocka_unit_test(the_hash_covers_every_option_but_the_name),
                cmocka_unit_test(what_is_wrong_is_refused_where_it_stands),
                cmocka_unit_test(columns_are_refused_where_they_are_wrong),
                cmocka_unit_test(columns_place_their_features_one_after_the_other),
                cmocka_unit_test(columns_may_not_make_more_features_than_are_served),
                cmocka_unit_test(standardize_defaults_to_what_the_data_can_bear),
                cmocka_unit_test(defaults_follow_encoder_and_optimizer),
                cmocka_unit_test(a_request_needs_a_name_and_stored_text_does_not),
                cmocka_unit_test(what_is_no_object_is_refused),
                cmocka_unit_test(names_are_file_names_and_metric_labels),
                cmocka_unit_test(labels_are_found_by_their_whole_text),
                cmocka_unit_test(parameters_are_counted_without_overflow),
                cmocka_unit_test(the_model_key_depends_on_seed_and_pseudonym_key_alone),
        };
        if (crypto_init())
                return 1;
        return cmocka_run_group_tests_name("model_config", tests, NULL, NULL);
}
