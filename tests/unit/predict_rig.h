/* SPDX-License-Identifier: Apache-2.0
 * predict_rig.h: a model as the daemon holds it, with constituents made up on the spot, and a
 * `done` that remembers; shared by the tests of predict.c. */
#ifndef UNLEARND_TESTS_PREDICT_RIG_H
#define UNLEARND_TESTS_PREDICT_RIG_H

#include "daemon/predict.h"

#include "lib/sisa/aggregate.h"
#include "lib/util/clock.h"
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const char mlp_text[] = "{\"name\":\"m\",\"kind\":\"mlp\",\"features\":37,\"classes\":5,"
                               "\"hidden\":[19],\"activation\":\"tanh\",\"shards\":3}";
static const char wide_text[] = "{\"name\":\"w\",\"kind\":\"mlp\",\"features\":256,\"classes\":2,"
                                "\"hidden\":[512]}";
static const char constant_text[] = "{\"name\":\"c\",\"kind\":\"softmax\",\"task\":\"regression\","
                                    "\"features\":1,\"targets\":1}";

/* A model as the daemon holds it: configuration, encoding, cell. */
struct rig {
        struct model_config *config;
        struct encoding_holder encoding;
        struct snapshot_cell *cell;
        _Atomic uint32_t released;
};

static inline void rig_open(struct rig *r, const char *text)
{
        struct errinfo e = {0};
        memset(r, 0, sizeof *r);
        if (model_config_parse(text, strlen(text), &r->config, &e) != 0)
                fail_msg("%s %s", e.field, e.detail);
        assert_int_equal(encoding_make(r->config, &r->encoding, &e), 0);
        r->cell = snapshot_cell_create();
        assert_non_null(r->cell);
}

static inline void rig_close(struct rig *r)
{
        snapshot_cell_destroy(&r->cell);
        encoding_clear(&r->encoding);
        model_config_destroy(&r->config);
}

/* `count` constituents; parameters drawn from the generation, or zeros and `constant` as the last.
 */
static inline struct snapshot *make_snapshot(const struct rig *r, uint64_t generation,
                                             uint32_t count, float constant)
{
        struct served *held[8];
        uint8_t key[KEY_BYTES] = {7}, hash[SHA256_BYTES] = {0};
        size_t n = (size_t)model_parameter_count(r->config);
        float *params = malloc(n * sizeof *params);
        struct errinfo e = {0};
        struct prng rng;
        assert_non_null(params);
        prng_init(&rng, key, &generation, 1);
        for (uint32_t i = 0; i < count; i++) {
                struct constituent *k = NULL;
                for (size_t p = 0; p < n; p++)
                        params[p] = isnan(constant) ? prng_float(&rng) - 0.5f
                                                    : (p + 1 == n ? constant : 0);
                assert_int_equal(constituent_create(r->config, params, NULL, NULL, &k, &e), 0);
                held[i] = served_create(k, i, 1, hash);
                assert_non_null(held[i]);
        }
        struct snapshot *s = snapshot_create(generation, held, count, 0);
        assert_non_null(s);
        for (uint32_t i = 0; i < count; i++)
                served_unref(&held[i]);
        free(params);
        return s;
}

static inline void on_release(void *hold)
{
        struct rig *r = hold;
        atomic_fetch_add(&r->released, 1);
}

static inline struct predict *open_predict(struct predictor *q, struct rig *r)
{
        struct predict *p = NULL;
        struct errinfo e = {0};
        assert_int_equal(
                predict_create(q, r->config, &r->encoding.e, r->cell, r, on_release, &p, &e), 0);
        assert_ptr_equal(predict_config(p), r->config);
        return p;
}

static inline struct predictor *make_predictor(uint32_t threads)
{
        struct predictor *q = NULL;
        struct errinfo e = {0};
        assert_int_equal(predictor_create(threads, &q, &e), 0);
        return q;
}

static inline float *rows_of(struct predict *p, uint32_t n)
{
        struct errinfo e = {0};
        float *x = NULL;
        assert_int_equal(predict_rows(p, n, &x, &e), 0);
        assert_int_equal(predict_count(p), n);
        return x;
}

/* A done that keeps what it was told. */
struct answer {
        sem_t done;
        int err;
        struct errinfo e;
        uint32_t order; /* among all answers */
        _Atomic uint32_t calls;
};

static _Atomic uint32_t answers;

static inline void on_done(void *arg, int err, const struct errinfo *e)
{
        struct answer *a = arg;
        a->err = err;
        a->e = *e;
        a->order = atomic_fetch_add(&answers, 1);
        atomic_fetch_add(&a->calls, 1);
        (void)sem_post(&a->done);
}

static inline void answer_init(struct answer *a)
{
        memset(a, 0, sizeof *a);
        assert_int_equal(sem_init(&a->done, 0, 0), 0);
}

static inline void answer_wait(struct answer *a)
{
        while (sem_wait(&a->done) != 0) {
        }
}

static inline void submit(struct predict *p, struct answer *a)
{
        struct errinfo e = {0};
        answer_init(a);
        assert_int_equal(service_predict(p, on_done, a, &e), 0);
}

static inline void fill(float *x, uint32_t n, uint32_t features, uint32_t seed)
{
        for (size_t i = 0; i < (size_t)n * features; i++)
                x[i] = (float)((i * 7 + seed * 31) % 101) / 50.0f - 1.0f;
}

#endif
