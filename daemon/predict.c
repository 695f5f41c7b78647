/* SPDX-License-Identifier: Apache-2.0
 * predict.c: see predict.h. What waits stands in lanes, one a model (a snapshot cell), served in
 * turn; a thread that comes free takes a lane's front, up to BATCH_ROWS_MAX rows, as its batch. It
 * knows nothing of HTTP or of how a model is trained.
 *
 * Small requests are copied together into one block, large ones are computed where they stand, both
 * BLOCK_ROWS at a time, so that scratch memory has a bound. A row's bits depend on the row alone
 * (model.h), so none of this can be seen in an answer.
 *
 * An erasure waits for the batch that holds the old snapshot (invariant 4). So that it does not
 * wait for a large one, a batch looks after every block whether it was superseded, and starts anew
 * on the new snapshot; RESTARTS_MAX times, lest a stream of erasures starve it. */
#include "daemon/predict.h"

#include "daemon/metrics.h"
#include "lib/sisa/aggregate.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        BATCH_ROWS_MAX = 1024,  /* small requests in one batch: past it nothing is gained */
        BLOCK_ROWS = 128,       /* rows of one pass over the weights */
        BLOCK_FLOATS = 1 << 20, /* of wide rows fewer go into a block: 4 MiB */
        QUEUE_MAX = 65536,      /* requests waiting; over it clients are told to come back */
        RESTARTS_MAX = 3,       /* see above */
        RETRY_AFTER_S = 1,      /* advice, which the service betters where it knows more */
        THREADS_MAX = 256,
};
/* Input and output of one request, and of all requests alive. */
#define REQUEST_BYTES_MAX ((uint64_t)256 << 20)
#define TOTAL_BYTES_MAX ((uint64_t)1 << 30)

enum predict_state { PREDICT_OPEN, PREDICT_QUEUED, PREDICT_ANSWERED };

struct predict {
        /* set once */
        struct predictor *predictor;
        const struct model_config *config;
        const struct encoding *encoding;
        struct snapshot_cell *cell;
        void *hold;
        void (*release)(void *hold);
        service_predict_done done;
        void *arg;
        /* the client's and, while queued, the batch's: who leaves last calls `release` and frees */
        _Atomic uint32_t refs;
        /* the client until service_predict, then the predict thread until done */
        enum predict_state state;
        float *x;   /* [n, features] */
        float *out; /* [n, outputs] */
        uint32_t n;
        uint64_t bytes; /* of x and out, counted in predictor->bytes */
        uint64_t queued_us;
        uint64_t generation;
        uint32_t clean;
        /* under the predictor's mutex, then the predict thread's */
        struct predict *next;      /* behind it in its lane, then in its batch */
        struct predict *lane_next; /* of a lane's front: the next lane's front */
        struct predict *lane_tail; /* of a lane's front: the lane's last */
};

struct workspace { /* a thread's; wiped after each batch */
        float *x, *out, *scratch;
        size_t x_cap, out_cap, scratch_cap;    /* floats */
        size_t x_used, out_used, scratch_used; /* floats, of this batch */
};

struct predictor {
        /* set once */
        uint32_t thread_count;
        pthread_t *threads;
        /* shared, under mutex */
        pthread_mutex_t mutex;
        pthread_cond_t arrived;
        struct predict *lanes, *lanes_tail; /* fronts */
        uint32_t queued;
        bool closing;
        /* any thread */
        _Atomic uint64_t bytes;
};

/* --- lanes (mutex held) --- */

static void lane_add(struct predictor *q, struct predict *front)
{
        front->lane_next = NULL;
        if (q->lanes_tail != NULL)
                q->lanes_tail->lane_next = front;
        else
                q->lanes = front;
        q->lanes_tail = front;
}

static void push(struct predictor *q, struct predict *p)
{
        p->next = NULL;
        q->queued++;
        for (struct predict *front = q->lanes; front != NULL; front = front->lane_next) {
                if (front->cell == p->cell) {
                        front->lane_tail->next = p;
                        front->lane_tail = p;
                        return;
                }
        }
        p->lane_tail = p;
        lane_add(q, p);
}

/* The front of the first lane, up to BATCH_ROWS_MAX rows and at least one request; what is left of
 * the lane goes behind the others. */
static struct predict *take_batch(struct predictor *q)
{
        struct predict *front = q->lanes, *last = front;
        if (front == NULL)
                return NULL;
        uint64_t rows = front->n;
        q->queued--;
        while (last->next != NULL && rows + last->next->n <= BATCH_ROWS_MAX) {
                last = last->next;
                rows += last->n;
                q->queued--;
        }
        q->lanes = front->lane_next;
        if (q->lanes == NULL)
                q->lanes_tail = NULL;
        struct predict *rest = last->next;
        if (rest != NULL) {
                rest->lane_tail = front->lane_tail;
                lane_add(q, rest);
        }
        last->next = NULL;
        return front;
}

/* --- computing --- */

/* Keeps no content: every block is filled after it. */
static int reserve(float **block, size_t *cap, size_t *used, size_t floats)
{
        if (floats > *cap) {
                float *grown = malloc(floats * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                if (*block != NULL) {
                        wipe(*block, *used * sizeof **block);
                        free(*block);
                }
                *block = grown;
                *cap = floats;
        }
        if (floats > *used)
                *used = floats;
        return 0;
}

static void workspace_wipe(struct workspace *w)
{
        if (w->x_used > 0)
                wipe(w->x, w->x_used * sizeof *w->x);
        if (w->out_used > 0)
                wipe(w->out, w->out_used * sizeof *w->out);
        if (w->scratch_used > 0)
                wipe(w->scratch, w->scratch_used * sizeof *w->scratch);
        w->x_used = w->out_used = w->scratch_used = 0;
}

static void workspace_free(struct workspace *w)
{
        workspace_wipe(w);
        free(w->x);
        free(w->out);
        free(w->scratch);
}

static uint32_t block_rows(const struct model_config *c)
{
        uint32_t widest = c->features > c->outputs ? c->features : c->outputs;
        uint32_t rows = BLOCK_FLOATS / widest;
        return rows < 1 ? 1 : rows > BLOCK_ROWS ? BLOCK_ROWS : rows;
}

/* x: [n, features], out: [n, outputs]; n <= block_rows. */
static int forward(struct workspace *w, const struct snapshot *s, const struct model_config *c,
                   const float *x, uint32_t n, float *out)
{
        size_t floats = aggregate_scratch(s->members, s->clean, c, n);
        int err = reserve(&w->scratch, &w->scratch_cap, &w->scratch_used, floats);
        if (err == 0)
                aggregate_forward(s->members, s->clean, c, x, n, w->scratch, out);
        return err;
}

/* Requests from `first` to before `end`, together n rows, as one block. */
static int forward_gathered(struct workspace *w, const struct snapshot *s, struct predict *first,
                            const struct predict *end, uint32_t n)
{
        const struct model_config *c = first->config;
        size_t width = c->features, outputs = c->outputs, at = 0;
        int err = reserve(&w->x, &w->x_cap, &w->x_used, n * width);
        if (err == 0)
                err = reserve(&w->out, &w->out_cap, &w->out_used, n * outputs);
        if (err != 0)
                return err;
        for (const struct predict *p = first; p != end; p = p->next) {
                memcpy(w->x + at * width, p->x, p->n * width * sizeof *p->x);
                at += p->n;
        }
        err = forward(w, s, c, w->x, n, w->out);
        at = 0;
        for (struct predict *p = first; err == 0 && p != end; p = p->next) {
                memcpy(p->out, w->out + at * outputs, p->n * outputs * sizeof *p->out);
                at += p->n;
        }
        return err;
}

/* One request where it stands. UL_AGAIN: superseded. */
static int forward_alone(struct workspace *w, const struct snapshot *s, struct predict *p,
                         bool may_stop)
{
        const struct model_config *c = p->config;
        uint32_t step = block_rows(c);
        for (uint32_t at = 0; at < p->n; at += step) {
                uint32_t n = p->n - at < step ? p->n - at : step;
                if (may_stop && snapshot_superseded(p->cell, s))
                        return UL_AGAIN;
                int err = forward(w, s, c, p->x + (size_t)at * c->features, n,
                                  p->out + (size_t)at * c->outputs);
                if (err != 0)
                        return err;
        }
        return 0;
}

/* UL_AGAIN: superseded, and nothing of it may be answered. */
static int compute(struct workspace *w, const struct snapshot *s, struct predict *batch,
                   bool may_stop)
{
        uint32_t limit = block_rows(batch->config);
        for (struct predict *p = batch; p != NULL;) {
                struct predict *end = p->next;
                uint32_t n = p->n;
                int err = 0;
                while (end != NULL && n + end->n <= limit) {
                        n += end->n;
                        end = end->next;
                }
                if (may_stop && snapshot_superseded(batch->cell, s))
                        return UL_AGAIN;
                if (end == p->next)
                        err = forward_alone(w, s, p, may_stop);
                else
                        err = forward_gathered(w, s, p, end, n);
                if (err != 0)
                        return err;
                p = end;
        }
        return 0;
}

static int fail_nothing_clean(struct errinfo *e)
{
        int err = ul_fail(e, UL_UNAVAILABLE,
                          "no constituent of the model is clean at the moment; try again");
        if (e != NULL)
                e->retry_after_s = RETRY_AFTER_S;
        return err;
}

/* Computes the batch on the current snapshot. *held: the snapshot that the result is of; the
 * caller releases it. */
static int run_batch(struct workspace *w, struct predict *batch, const struct snapshot **held,
                     struct errinfo *e)
{
        for (int restarts = 0;; restarts++) {
                const struct snapshot *s = snapshot_acquire(batch->cell);
                int err = UL_UNAVAILABLE;
                if (s != NULL && s->clean > 0)
                        err = compute(w, s, batch, restarts < RESTARTS_MAX);
                if (err == UL_AGAIN) {
                        snapshot_release(batch->cell, s);
                        continue;
                }
                *held = s;
                if (err == UL_UNAVAILABLE)
                        return fail_nothing_clean(e);
                if (err != 0)
                        return ul_fail(e, err, "no memory to compute a prediction");
                return 0;
        }
}

static void unref(struct predict *p)
{
        if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) > 1)
                return;
        if (p->release != NULL)
                p->release(p->hold);
        free(p);
}

/* The snapshot is held until every `done` has returned (invariant 4), and the model behind its cell
 * until the snapshot is released: `done` may have closed the prediction. */
static void answer_batch(struct workspace *w, struct predict *batch)
{
        struct errinfo e = {0};
        const struct snapshot *held = NULL;
        struct snapshot_cell *cell = batch->cell;
        uint64_t rows = 0;
        int err = run_batch(w, batch, &held, &e);

        for (struct predict *p = batch; p != NULL; p = p->next) {
                rows += p->n;
                if (err == 0) {
                        p->generation = held->generation;
                        p->clean = held->clean;
                }
        }
        if (err == 0) {
                metric_add(METRIC_PREDICTIONS, rows);
                metric_add(METRIC_PREDICT_BATCHES, 1);
        }
        for (struct predict *p = batch; p != NULL; p = p->next) {
                metric_observe(METRIC_PREDICT_SECONDS, (double)(mono_us() - p->queued_us) / 1e6);
                p->state = PREDICT_ANSWERED;
                p->done(p->arg, err, &e);
        }
        snapshot_release(cell, held);
        for (struct predict *p = batch; p != NULL;) {
                struct predict *next = p->next;
                unref(p);
                p = next;
        }
        workspace_wipe(w);
}

static void *predict_main(void *arg)
{
        struct predictor *q = arg;
        struct workspace w = {0};
        pthread_mutex_lock(&q->mutex);
        for (;;) {
                struct predict *batch = take_batch(q);
                if (batch != NULL) {
                        pthread_mutex_unlock(&q->mutex);
                        answer_batch(&w, batch);
                        pthread_mutex_lock(&q->mutex);
                } else if (q->closing) {
                        break;
                } else {
                        pthread_cond_wait(&q->arrived, &q->mutex);
                }
        }
        pthread_mutex_unlock(&q->mutex);
        workspace_free(&w);
        return NULL;
}

/* --- predictor --- */

int predictor_create(uint32_t threads, struct predictor **out, struct errinfo *e)
{
        assert(threads >= 1 && threads <= THREADS_MAX);
        struct predictor *q = calloc(1, sizeof *q);
        if (q == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for predictions");
        q->threads = calloc(threads, sizeof *q->threads);
        if (q->threads == NULL) {
                free(q);
                return ul_fail(e, UL_NOMEM, "no memory for predictions");
        }
        pthread_mutex_init(&q->mutex, NULL);
        pthread_cond_init(&q->arrived, NULL);
        for (; q->thread_count < threads; q->thread_count++) {
                int rc = pthread_create(&q->threads[q->thread_count], NULL, predict_main, q);
                if (rc != 0) {
                        predictor_destroy(&q);
                        return ul_fail(e, UL_INTERNAL, "cannot start a predict thread (error %d)",
                                       rc);
                }
        }
        *out = q;
        return 0;
}

void predictor_destroy(struct predictor **pq)
{
        struct predictor *q = *pq;
        if (q == NULL)
                return;
        pthread_mutex_lock(&q->mutex);
        q->closing = true;
        pthread_cond_broadcast(&q->arrived);
        pthread_mutex_unlock(&q->mutex);
        for (uint32_t i = 0; i < q->thread_count; i++)
                pthread_join(q->threads[i], NULL);
        assert(q->lanes == NULL && q->queued == 0);
        assert(atomic_load(&q->bytes) == 0); /* every prediction was closed */
        pthread_cond_destroy(&q->arrived);
        pthread_mutex_destroy(&q->mutex);
        free(q->threads);
        free(q);
        *pq = NULL;
}

/* --- one prediction --- */

int predict_create(struct predictor *q, const struct model_config *config,
                   const struct encoding *encoding, struct snapshot_cell *cell, void *hold,
                   void (*release)(void *hold), struct predict **out, struct errinfo *e)
{
        const struct snapshot *s = snapshot_acquire(cell);
        bool clean = s != NULL && s->clean > 0;
        snapshot_release(cell, s);
        if (!clean)
                return fail_nothing_clean(e);
        struct predict *p = calloc(1, sizeof *p);
        if (p == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a prediction");
        atomic_init(&p->refs, 1);
        p->predictor = q;
        p->config = config;
        p->encoding = encoding;
        p->cell = cell;
        p->hold = hold;
        p->release = release;
        *out = p;
        return 0;
}

void predict_close(struct predict **pp)
{
        struct predict *p = *pp;
        if (p == NULL)
                return;
        *pp = NULL;
        assert(p->state != PREDICT_QUEUED);
        if (p->x != NULL)
                wipe(p->x, (size_t)p->n * p->config->features * sizeof *p->x);
        if (p->out != NULL)
                wipe(p->out, (size_t)p->n * p->config->outputs * sizeof *p->out);
        free(p->x);
        free(p->out);
        p->x = p->out = NULL;
        atomic_fetch_sub(&p->predictor->bytes, p->bytes);
        unref(p);
}

const struct model_config *predict_config(const struct predict *p)
{
        return p->config;
}

int predict_rows(struct predict *p, uint32_t n, float **x, struct errinfo *e)
{
        uint64_t row = ((uint64_t)p->config->features + p->config->outputs) * sizeof(float);
        uint64_t most = REQUEST_BYTES_MAX / row;
        assert(p->state == PREDICT_OPEN && p->x == NULL);
        if (most > PREDICT_ROWS_MAX)
                most = PREDICT_ROWS_MAX;
        if (n == 0)
                return ul_fail(e, UL_INVALID, "a prediction needs at least one row");
        if (n > most)
                return ul_fail(e, UL_TOO_LARGE, "at most %llu rows of this model fit one request",
                               (unsigned long long)most);
        uint64_t bytes = n * row;
        if (atomic_fetch_add(&p->predictor->bytes, bytes) + bytes > TOTAL_BYTES_MAX) {
                atomic_fetch_sub(&p->predictor->bytes, bytes);
                int err = ul_fail(e, UL_BUSY,
                                  "too many predictions are waiting; try again in a "
                                  "second");
                if (e != NULL)
                        e->retry_after_s = RETRY_AFTER_S;
                return err;
        }
        p->bytes = bytes;
        p->n = n;
        p->x = calloc((size_t)n * p->config->features, sizeof *p->x);
        p->out = calloc((size_t)n * p->config->outputs, sizeof *p->out);
        if (p->x == NULL || p->out == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for %u rows", n); /* close gives it back */
        *x = p->x;
        return 0;
}

int predict_encode_text(struct predict *p, uint32_t row, const char *text, size_t len,
                        struct errinfo *e)
{
        (void)e;
        assert(p->state == PREDICT_OPEN && row < p->n);
        encode_text(text, len, p->config->features, p->x + (size_t)row * p->config->features);
        return 0;
}

int predict_encode_column(struct predict *p, uint32_t row, uint32_t column, const char *text,
                          size_t len, struct errinfo *e)
{
        assert(p->state == PREDICT_OPEN && row < p->n && column < p->config->column_count);
        return encode_column(p->encoding, column, text, len,
                             p->x + (size_t)row * p->config->features, e);
}

/* The exponent's bits are all ones in infinities and NaN; an OR over them vectorises. */
static bool row_finite(const float *x, uint32_t n)
{
        uint32_t bad = 0;
        for (uint32_t i = 0; i < n; i++) {
                uint32_t bits;
                memcpy(&bits, &x[i], sizeof bits);
                bad |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        return bad == 0;
}

static int fail_not_finite(const float *x, uint32_t row, uint32_t features, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        uint32_t at = 0;
        while (at + 1 < features && row_finite(&x[at], 1))
                at++;
        (void)snprintf(field, sizeof field, "/%u/%u", row, at);
        return ul_fail_field(e, UL_INVALID, field, "every feature must be a finite number");
}

int service_predict(struct predict *p, service_predict_done done, void *arg, struct errinfo *e)
{
        struct predictor *q = p->predictor;
        uint32_t features = p->config->features;
        int err = 0;
        assert(p->state == PREDICT_OPEN && p->out != NULL);
        for (uint32_t row = 0; row < p->n; row++)
                if (!row_finite(p->x + (size_t)row * features, features))
                        return fail_not_finite(p->x + (size_t)row * features, row, features, e);
        p->done = done;
        p->arg = arg;
        p->queued_us = mono_us();
        pthread_mutex_lock(&q->mutex);
        if (q->closing) {
                err = ul_fail(e, UL_CLOSED, "the daemon is stopping");
        } else if (q->queued >= QUEUE_MAX) {
                err = ul_fail(e, UL_BUSY,
                              "too many predictions are waiting; try again in a "
                              "second");
                if (e != NULL)
                        e->retry_after_s = RETRY_AFTER_S;
        } else {
                p->state = PREDICT_QUEUED;
                atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
                push(q, p);
                pthread_cond_signal(&q->arrived);
        }
        pthread_mutex_unlock(&q->mutex);
        return err;
}

const float *predict_output(const struct predict *p)
{
        return p->out;
}

uint32_t predict_count(const struct predict *p)
{
        return p->n;
}

uint64_t predict_generation(const struct predict *p)
{
        return p->generation;
}

uint32_t predict_clean(const struct predict *p)
{
        return p->clean;
}
