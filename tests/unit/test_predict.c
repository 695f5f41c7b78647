/* SPDX-License-Identifier: Apache-2.0
 * test_predict.c: a row's answer does not depend on who else asked at the moment; what cannot be
 * answered says why, or when to come back. The order of answers is test_predict_order.c's. */
#include "tests/unit/predict_rig.h"

/* --- the same bits --- */

enum { MANY = 150 };

/* Row by row, alone: what no batch may change. */
static void assert_rows(const struct rig *r, const struct predict *p, uint32_t seed)
{
        const struct model_config *c = r->config;
        const struct snapshot *s = snapshot_acquire(r->cell);
        size_t floats = aggregate_scratch(s->members, s->clean, c, 1);
        float *scratch = malloc(floats * sizeof *scratch);
        float *x = malloc((size_t)predict_count(p) * c->features * sizeof *x);
        float out[16];
        assert_non_null(x);
        assert_non_null(scratch);
        fill(x, predict_count(p), c->features, seed);
        for (uint32_t i = 0; i < predict_count(p); i++) {
                aggregate_forward(s->members, s->clean, c, x + (size_t)i * c->features, 1, scratch,
                                  out);
                assert_memory_equal(out, predict_output(p) + (size_t)i * c->outputs,
                                    c->outputs * sizeof *out);
        }
        free(x);
        free(scratch);
        snapshot_release(r->cell, s);
}

static void a_row_has_the_same_bits_whoever_else_asks(void **state)
{
        struct rig r;
        struct predictor *q = make_predictor(2);
        struct predict *p[MANY];
        struct answer a[MANY];
        (void)state;
        rig_open(&r, mlp_text);
        snapshot_publish(r.cell, make_snapshot(&r, 41, 3, NAN));
        for (uint32_t round = 0; round < 3; round++) {
                for (uint32_t i = 0; i < MANY; i++) {
                        static const uint32_t sizes[] = {1, 1, 1, 2, 3, 127, 128, 129, 700, 16, 1};
                        p[i] = open_predict(q, &r);
                        uint32_t n = sizes[(i * 5 + round) % (sizeof sizes / sizeof *sizes)];
                        fill(rows_of(p[i], n), n, r.config->features, i);
                }
                for (uint32_t i = 0; i < MANY; i++)
                        submit(p[i], &a[i]);
                for (uint32_t i = 0; i < MANY; i++) {
                        answer_wait(&a[i]);
                        assert_int_equal(a[i].err, 0);
                        assert_int_equal(predict_generation(p[i]), 41);
                        assert_int_equal(predict_clean(p[i]), 3);
                        assert_rows(&r, p[i], i);
                        predict_close(&p[i]);
                        assert_null(p[i]);
                }
        }
        predictor_destroy(&q);
        assert_int_equal(atomic_load(&r.released), 3 * MANY);
        rig_close(&r);
}

/* --- what cannot be answered --- */

static void nothing_clean_means_come_back_later(void **state)
{
        struct rig r;
        struct predictor *q = make_predictor(1);
        struct predict *p = NULL;
        struct answer a;
        struct errinfo e = {0};
        (void)state;
        rig_open(&r, constant_text);
        for (int published = 0; published < 2; published++) { /* nothing, then no constituent */
                e = (struct errinfo){0};
                assert_int_equal(
                        predict_create(q, r.config, &r.encoding.e, r.cell, &r, on_release, &p, &e),
                        UL_UNAVAILABLE);
                assert_int_equal(e.retry_after_s, 1);
                snapshot_publish(r.cell, make_snapshot(&r, 1, 0, 0));
        }
        assert_int_equal(atomic_load(&r.released), 0); /* the hold stayed the caller's */
        /* the last clean one goes between open and answer */
        snapshot_publish(r.cell, make_snapshot(&r, 2, 1, 0));
        p = open_predict(q, &r);
        (void)rows_of(p, 1);
        snapshot_publish(r.cell, NULL);
        submit(p, &a);
        answer_wait(&a);
        assert_int_equal(a.err, UL_UNAVAILABLE);
        assert_int_equal(a.e.retry_after_s, 1);
        predict_close(&p);
        predictor_destroy(&q);
        assert_int_equal(atomic_load(&r.released), 1);
        rig_close(&r);
}

static void input_that_is_not_finite_is_named(void **state)
{
        static const struct {
                uint32_t row, feature;
                float value;
                const char *field;
        } bad[] = {{0, 0, NAN, "/0/0"},
                   {0, 36, INFINITY, "/0/36"},
                   {4, 0, -INFINITY, "/4/0"},
                   {4, 36, -NAN, "/4/36"},
                   {2, 17, INFINITY, "/2/17"}};
        struct rig r;
        struct predictor *q = make_predictor(1);
        (void)state;
        rig_open(&r, mlp_text);
        snapshot_publish(r.cell, make_snapshot(&r, 1, 1, NAN));
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct predict *p = open_predict(q, &r);
                struct answer a;
                struct errinfo e = {0};
                float *x = rows_of(p, 5);
                x[0] = 3.4e38f; /* finite, and so is a denormal */
                x[1] = 1e-45f;
                x[bad[i].row * 37 + bad[i].feature] = bad[i].value;
                answer_init(&a);
                assert_int_equal(service_predict(p, on_done, &a, &e), UL_INVALID);
                assert_string_equal(e.field, bad[i].field);
                assert_int_equal(atomic_load(&a.calls), 0);
                predict_close(&p);
        }
        predictor_destroy(&q);
        rig_close(&r);
}

static void requests_and_their_sum_are_bounded(void **state)
{
        struct rig r;
        struct predictor *q = make_predictor(1);
        struct predict *p[4], *one;
        struct errinfo e = {0};
        float *x = NULL;
        (void)state;
        rig_open(&r, wide_text);
        snapshot_publish(r.cell, make_snapshot(&r, 1, 1, NAN));
        one = open_predict(q, &r);
        assert_int_equal(predict_rows(one, 0, &x, &e), UL_INVALID);
        assert_int_equal(predict_rows(one, PREDICT_ROWS_MAX + 1, &x, &e), UL_TOO_LARGE);
        assert_non_null(strstr(e.detail, "at most 65536 rows"));
        assert_int_equal(predict_rows(one, 1, &x, &e), 0);
        predict_close(&one);
        predictor_destroy(&q);
        rig_close(&r);

        /* a small request that would take gigabytes of features */
        rig_open(&r, "{\"name\":\"t\",\"kind\":\"softmax\",\"features\":65536,\"classes\":2,"
                     "\"encoder\":\"hash_text\",\"dtype\":\"u8\"}");
        q = make_predictor(1);
        snapshot_publish(r.cell, make_snapshot(&r, 1, 1, 0));
        one = open_predict(q, &r);
        assert_int_equal(predict_rows(one, 1024, &x, &e), UL_TOO_LARGE);
        assert_non_null(strstr(e.detail, "at most 1023 rows"));
        for (int i = 0; i < 4; i++) {
                p[i] = open_predict(q, &r);
                (void)rows_of(p[i], 1023);
        }
        assert_int_equal(predict_rows(one, 1023, &x, &e), UL_BUSY);
        assert_int_equal(e.retry_after_s, 1);
        predict_close(&p[0]);
        assert_int_equal(predict_rows(one, 1023, &x, &e), 0); /* room again */
        for (int i = 1; i < 4; i++)
                predict_close(&p[i]);
        predict_close(&one);
        predictor_destroy(&q);
        rig_close(&r);
}

static void text_and_columns_are_encoded_as_records_are(void **state)
{
        struct rig r;
        struct predictor *q = make_predictor(1);
        struct errinfo e = {0};
        float expected[64];
        (void)state;
        rig_open(&r, "{\"name\":\"t\",\"kind\":\"softmax\",\"features\":64,\"classes\":2,"
                     "\"encoder\":\"hash_text\",\"dtype\":\"u8\"}");
        snapshot_publish(r.cell, make_snapshot(&r, 1, 1, NAN));
        struct predict *p = open_predict(q, &r);
        float *x = rows_of(p, 2);
        assert_int_equal(predict_encode_text(p, 1, "Hello world", 11, &e), 0);
        encode_text("Hello world", 11, 64, expected);
        assert_memory_equal(x + 64, expected, sizeof expected);
        predict_close(&p);
        rig_close(&r);

        rig_open(&r, "{\"name\":\"t\",\"kind\":\"softmax\",\"classes\":2,\"encoder\":\"tabular\","
                     "\"columns\":[{\"name\":\"age\",\"type\":\"numeric\"},{\"name\":\"job\","
                     "\"type\":\"categorical\",\"values\":[\"a\",\"b\"]}]}");
        snapshot_publish(r.cell, make_snapshot(&r, 1, 1, NAN));
        p = open_predict(q, &r);
        x = rows_of(p, 2);
        assert_int_equal(r.config->features, 4);
        assert_int_equal(predict_encode_column(p, 1, 0, "2.5", 3, &e), 0);
        assert_int_equal(predict_encode_column(p, 1, 1, "b", 1, &e), 0);
        assert_true(x[4] == 2.5f && x[5] == 0 && x[6] == 1 && x[7] == 0);
        assert_int_equal(predict_encode_column(p, 0, 0, "old", 3, &e), UL_INVALID);
        predict_close(&p);
        predictor_destroy(&q);
        rig_close(&r);
}

static int start(void **state)
{
        (void)state;
        (void)alarm(300); /* a lost wake-up must not hang the suite */
        return crypto_init();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_row_has_the_same_bits_whoever_else_asks),
                cmocka_unit_test(nothing_clean_means_come_back_later),
                cmocka_unit_test(input_that_is_not_finite_is_named),
                cmocka_unit_test(requests_and_their_sum_are_bounded),
                cmocka_unit_test(text_and_columns_are_encoded_as_records_are),
        };
        return cmocka_run_group_tests_name("predict", tests, start, NULL);
}
