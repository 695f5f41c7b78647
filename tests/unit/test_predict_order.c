/* SPDX-License-Identifier: Apache-2.0
 * test_predict_order.c: no answer of an old snapshot is handed out once its publication has
 * returned (invariant 4), a large request holds up no erasure, one model's flood no other model,
 * and the end loses no answer. */
#include "tests/unit/predict_rig.h"

/* --- invariant 4 --- */

struct race {
        struct rig rig;
        struct predictor *q;
        _Atomic uint64_t returned; /* the last generation whose publication has returned */
        _Atomic uint64_t answered, stale, wrong;
        _Atomic bool stop;
};
struct race_request {
        struct race *race;
        struct predict *p;
        sem_t done;
};

static void on_race_done(void *arg, int err, const struct errinfo *e)
{
        struct race_request *q = arg;
        (void)e;
        if (err == 0) {
                uint64_t generation = predict_generation(q->p);
                for (uint32_t i = 0; i < predict_count(q->p); i++)
                        if (predict_output(q->p)[i] != (float)generation)
                                atomic_fetch_add(&q->race->wrong, 1);
                for (int i = 0; i < 20; i++) { /* the answer is on its way out */
                        (void)sched_yield();
                        if (atomic_load(&q->race->returned) > generation)
                                atomic_fetch_add(&q->race->stale, 1);
                }
        }
        atomic_fetch_add(&q->race->answered, 1);
        predict_close(&q->p); /* as an API that is done with it may */
        (void)sem_post(&q->done);
}

static void *ask(void *arg)
{
        struct race *w = arg;
        struct race_request q = {.race = w};
        uint32_t n = 1;
        (void)sem_init(&q.done, 0, 0);
        while (!atomic_load(&w->stop)) {
                struct errinfo e = {0};
                float *x = NULL;
                if (predict_create(w->q, w->rig.config, &w->rig.encoding.e, w->rig.cell, &w->rig,
                                   on_release, &q.p, &e) != 0)
                        continue;
                if (predict_rows(q.p, n, &x, &e) == 0 &&
                    service_predict(q.p, on_race_done, &q, &e) == 0)
                        while (sem_wait(&q.done) != 0) {
                        }
                else
                        predict_close(&q.p);
                n = n % 400 + 37;
        }
        return NULL;
}

static void no_answer_is_older_than_the_last_publication(void **state)
{
        enum { ASKERS = 6, PUBLICATIONS = 400 };
        struct race w = {.stop = false};
        pthread_t threads[ASKERS];
        (void)state;
        rig_open(&w.rig, constant_text);
        w.q = make_predictor(2);
        snapshot_publish(w.rig.cell, make_snapshot(&w.rig, 1, 2, 1));
        for (int i = 0; i < ASKERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, ask, &w), 0);
        for (uint64_t g = 2; g < PUBLICATIONS; g++) {
                snapshot_publish(w.rig.cell,
                                 g % 9 == 0 ? NULL : make_snapshot(&w.rig, g, 2, (float)g));
                atomic_store(&w.returned, g);
                if (g % 4 == 0)
                        (void)usleep(1000);
        }
        atomic_store(&w.stop, true);
        for (int i = 0; i < ASKERS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        predictor_destroy(&w.q);
        assert_int_equal(atomic_load(&w.stale), 0);
        assert_int_equal(atomic_load(&w.wrong), 0);
        assert_true(atomic_load(&w.answered) > 0);
        rig_close(&w.rig);
}

static void a_large_request_starts_anew_rather_than_hold_up_an_erasure(void **state)
{
        struct rig r;
        struct predictor *q = make_predictor(1);
        struct answer a;
        (void)state;
        rig_open(&r, wide_text);
        snapshot_publish(r.cell, make_snapshot(&r, 1, 2, NAN));
        struct predict *p = open_predict(q, &r);
        uint32_t n = 60000;
        fill(rows_of(p, n), n, r.config->features, 1);
        submit(p, &a);
        (void)usleep(30000);
        uint32_t early = atomic_load(&a.calls); /* a very fast machine */
        snapshot_publish(r.cell, make_snapshot(&r, 2, 2, NAN));
        /* without a restart, publish would have waited for the answer */
        if (early == 0) {
                answer_wait(&a);
                assert_int_equal(a.err, 0);
                assert_int_equal(predict_generation(p), 2);
        }
        assert_int_equal(atomic_load(&a.calls), 1);
        predict_close(&p);
        predictor_destroy(&q);
        rig_close(&r);
}

/* As the last reference to a model does: all of it goes. The cell asserts that no reader is left.
 */
static void on_release_destroy(void *hold)
{
        struct rig *r = hold;
        rig_close(r);
        atomic_fetch_add(&r->released, 1);
}

static void the_model_outlives_the_snapshot_that_answers(void **state)
{
        struct rig r;
        struct predictor *q = make_predictor(1);
        struct race w = {.stop = false};
        struct race_request request = {.race = &w};
        struct errinfo e = {0};
        (void)state;
        rig_open(&r, constant_text);
        snapshot_publish(r.cell, make_snapshot(&r, 1, 1, 1));
        assert_int_equal(predict_create(q, r.config, &r.encoding.e, r.cell, &r, on_release_destroy,
                                        &request.p, &e),
                         0);
        (void)rows_of(request.p, 1);
        (void)sem_init(&request.done, 0, 0);
        assert_int_equal(service_predict(request.p, on_race_done, &request, &e), 0);
        while (sem_wait(&request.done) != 0) {
        }
        predictor_destroy(&q);
        assert_int_equal(atomic_load(&r.released), 1);
}

/* --- the queue --- */

struct gate { /* a done that waits, so that the queue fills behind it */
        sem_t inside, open;
};

static void on_gate(void *arg, int err, const struct errinfo *e)
{
        struct gate *g = arg;
        (void)err;
        (void)e;
        (void)sem_post(&g->inside);
        while (sem_wait(&g->open) != 0) {
        }
}

static void close_gate(struct gate *g, struct predict *p)
{
        struct errinfo e = {0};
        assert_int_equal(sem_init(&g->inside, 0, 0), 0);
        assert_int_equal(sem_init(&g->open, 0, 0), 0);
        (void)rows_of(p, 1);
        assert_int_equal(service_predict(p, on_gate, g, &e), 0);
        while (sem_wait(&g->inside) != 0) {
        }
}

static void one_models_flood_does_not_hold_up_another(void **state)
{
        enum { FLOOD = 8 };
        struct rig busy, quiet;
        struct predictor *q = make_predictor(1);
        struct predict *p[FLOOD], *other, *first;
        struct answer a[FLOOD], b;
        struct gate g;
        (void)state;
        rig_open(&busy, constant_text);
        rig_open(&quiet, constant_text);
        snapshot_publish(busy.cell, make_snapshot(&busy, 1, 1, 1));
        snapshot_publish(quiet.cell, make_snapshot(&quiet, 1, 1, 1));
        first = open_predict(q, &busy);
        close_gate(&g, first);
        for (int i = 0; i < FLOOD; i++) {
                p[i] = open_predict(q, &busy);
                (void)rows_of(p[i], 1000); /* one of them is a batch */
                submit(p[i], &a[i]);
        }
        other = open_predict(q, &quiet);
        (void)rows_of(other, 1);
        submit(other, &b);
        (void)sem_post(&g.open);
        answer_wait(&b);
        assert_int_equal(b.err, 0);
        for (int i = 0; i < FLOOD; i++) {
                answer_wait(&a[i]);
                predict_close(&p[i]);
        }
        assert_true(b.order < a[1].order); /* behind one batch of the flood, and no more */
        predict_close(&other);
        predict_close(&first);
        predictor_destroy(&q);
        rig_close(&busy);
        rig_close(&quiet);
}

static void *destroy(void *arg)
{
        struct predictor **q = arg;
        predictor_destroy(q);
        return NULL;
}

struct closing {
        struct predict *p;
        _Atomic uint32_t *answered;
};

static void on_done_close(void *arg, int err, const struct errinfo *e)
{
        struct closing *c = arg;
        (void)e;
        if (err == 0)
                atomic_fetch_add(c->answered, 1);
        predict_close(&c->p);
}

/* Until the end has begun requests are taken; returns how many. */
static uint32_t submit_until_refused(struct predictor *q, struct rig *r, struct closing *c,
                                     uint32_t max, _Atomic uint32_t *answered)
{
        for (uint32_t i = 0; i < max; i++) {
                struct errinfo e = {0};
                c[i] = (struct closing){open_predict(q, r), answered};
                (void)rows_of(c[i].p, 1);
                int err = service_predict(c[i].p, on_done_close, &c[i], &e);
                if (err != 0) {
                        assert_int_equal(err, UL_CLOSED);
                        predict_close(&c[i].p);
                        return i;
                }
                (void)usleep(1000);
        }
        fail_msg("nothing was refused");
        return 0;
}

static void the_end_answers_what_waits_and_takes_nothing_more(void **state)
{
        enum { MOST = 5000 };
        struct rig r;
        struct predictor *q = make_predictor(1), *ending = q;
        struct closing *c = calloc(MOST, sizeof *c);
        struct predict *first;
        _Atomic uint32_t answered = 0;
        struct gate g;
        pthread_t thread;
        (void)state;
        assert_non_null(c);
        rig_open(&r, constant_text);
        snapshot_publish(r.cell, make_snapshot(&r, 1, 1, 1));
        first = open_predict(q, &r);
        close_gate(&g, first);
        predict_close(&first); /* answered is closed, also while its done still runs */
        assert_int_equal(pthread_create(&thread, NULL, destroy, &ending), 0);
        uint32_t taken = submit_until_refused(q, &r, c, MOST, &answered);
        assert_int_equal(atomic_load(&answered), 0);
        (void)sem_post(&g.open);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_null(ending);
        assert_int_equal(atomic_load(&answered), taken);
        assert_int_equal(atomic_load(&r.released), taken + 2);
        rig_close(&r);
        free(c);
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
                cmocka_unit_test(no_answer_is_older_than_the_last_publication),
                cmocka_unit_test(a_large_request_starts_anew_rather_than_hold_up_an_erasure),
                cmocka_unit_test(the_model_outlives_the_snapshot_that_answers),
                cmocka_unit_test(one_models_flood_does_not_hold_up_another),
                cmocka_unit_test(the_end_answers_what_waits_and_takes_nothing_more),
        };
        return cmocka_run_group_tests_name("predict_order", tests, start, NULL);
}
