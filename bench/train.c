/* SPDX-License-Identifier: Apache-2.0
 * train.c: `train ours|sgemm CASE MS` prints the samples a second of one thread over MS
 * milliseconds: the trainer behind lib/models/model.h, or nothing but its matrix products on the
 * same shapes, which is what no trainer over this BLAS can exceed. `train square N` prints the
 * GFLOP/s of one N x N x N product, `train info` the kernels in use. One measurement a process, so
 * that bench.py can take turns between the sides. It must not know files or the daemon. */
#include "lib/kernels/kernels.h"
#include "lib/models/model.h"
#include "lib/util/clock.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, WARM_BATCHES = 32, CLOCK_EVERY = 16, SQUARE_MAX = 8192, MS_MAX = 60000 };

/* rows * features floats are some 30 MB: more than a core's own caches, as real data would be. */
static const struct bench_case {
        const char *name;
        const char *config;
        uint32_t rows;
        uint32_t density; /* percent of the features that are not zero */
        bool binary;
} cases[] = {
        {"wide",
         "{\"kind\":\"mlp\",\"features\":784,\"classes\":10,\"hidden\":[128],"
         "\"batch_size\":64,\"momentum\":0}",
         8192, 100, false},
        {"wide-momentum",
         "{\"kind\":\"mlp\",\"features\":784,\"classes\":10,\"hidden\":[128],"
         "\"batch_size\":64,\"momentum\":0.9}",
         8192, 100, false},
        {"purchase",
         "{\"kind\":\"mlp\",\"features\":600,\"classes\":2,\"hidden\":[128],"
         "\"activation\":\"tanh\",\"batch_size\":16,\"momentum\":0}",
         16384, 9, true},
        {"softmax",
         "{\"kind\":\"softmax\",\"features\":784,\"classes\":10,\"batch_size\":64,"
         "\"momentum\":0}",
         8192, 100, false},
};

static uint32_t next_random(uint64_t *state)
{
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        return (uint32_t)(*state >> 33);
}

static float next_float(uint64_t *state)
{
        return (float)(next_random(state) >> 7) / (float)(1u << 24);
}

static float *floats(size_t n)
{
        const size_t bytes = (n * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        float *p = aligned_alloc(ALIGNMENT, bytes);
        if (p)
                memset(p, 0, bytes);
        return p;
}

static void fill(float *p, size_t n, float scale, uint64_t seed)
{
        for (size_t i = 0; i < n; i++)
                p[i] = (next_float(&seed) - 0.5f) * scale;
}

/* What both sides run on. */
struct work {
        const struct bench_case *what;
        struct model_config *config;
        struct model_shape shape;
        float *x; /* [rows, features] */
        uint32_t *classes;
        float *params;
};

static void work_clear(struct work *w)
{
        free(w->params);
        free(w->classes);
        free(w->x);
        model_config_destroy(&w->config);
}

static int work_make(struct work *w, const struct bench_case *c, struct errinfo *e)
{
        uint64_t seed = 1;
        int rc = model_config_parse(c->config, strlen(c->config), &w->config, e);

        if (rc)
                return rc;
        w->what = c;
        const size_t n = (size_t)c->rows * w->config->features;
        model_ops_of(w->config->kind)->shape(w->config, &w->shape);
        w->x = floats(n);
        w->classes = calloc(c->rows, sizeof *w->classes);
        w->params = floats(w->shape.parameters);
        if (!w->x || !w->classes || !w->params)
                return ul_fail(e, UL_NOMEM, "no memory for the rows");
        for (size_t i = 0; i < n; i++) {
                const bool set = next_random(&seed) % 100 < c->density;
                w->x[i] = !set ? 0.0f : c->binary ? 1.0f : next_float(&seed);
        }
        for (uint32_t i = 0; i < c->rows; i++)
                w->classes[i] = next_random(&seed) % w->config->outputs;
        fill(w->params, w->shape.parameters, 0.1f, 2);
        return 0;
}

/* One batch of a side; `at` is its first row. */
typedef void (*batch_fn)(void *side, uint32_t at, uint32_t n);

static double samples_per_second(const struct work *w, uint64_t ms, batch_fn run, void *side)
{
        const uint32_t n = w->config->batch_size;
        uint64_t samples = 0, begin = 0, now = 0;
        uint32_t at = 0;

        for (uint64_t batch = 0;; batch++) {
                if (batch == WARM_BATCHES) {
                        begin = mono_us();
                        samples = 0;
                }
                run(side, at, n);
                samples += n;
                at = at + 2 * n <= w->what->rows ? at + n : 0;
                if (batch > WARM_BATCHES && batch % CLOCK_EVERY == 0) {
                        now = mono_us();
                        if (now - begin >= ms * 1000)
                                return (double)samples * 1e6 / (double)(now - begin);
                }
        }
}

/* --- the trainer --- */

struct ours {
        const struct work *work;
        const struct model_ops *ops;
        struct trainer *trainer;
        float loss;
};

static void ours_batch(void *side, uint32_t at, uint32_t n)
{
        struct ours *o = side;
        const struct work *w = o->work;
        o->loss = o->ops->step(o->trainer, w->x + (size_t)at * w->config->features, w->classes + at,
                               NULL, n, 0.01f);
}

static int measure_ours(const struct work *w, uint64_t ms, double *out, struct errinfo *e)
{
        struct ours o = {.work = w, .ops = model_ops_of(w->config->kind)};
        int rc = o.ops->trainer_create(w->config, &w->shape, w->params, &o.trainer, e);

        if (rc)
                return rc;
        *out = samples_per_second(w, ms, ours_batch, &o);
        if (!isfinite(o.loss))
                rc = ul_fail(e, UL_INTERNAL, "the training diverged, so its speed means nothing");
        o.ops->trainer_destroy(&o.trainer);
        return rc;
}

/* --- its products alone --- */

/* Operands stay fixed but for the weights, which move by next to nothing. */
struct products {
        const struct work *work;
        float *hidden[HIDDEN_LAYERS_MAX + 1]; /* input of layer l, l > 0: [batch, ld] */
        float *grad[HIDDEN_LAYERS_MAX + 1];   /* by the output of layer l: [batch, ld] */
        float *result;                        /* [batch, widest ld] */
};

static void products_clear(struct products *p)
{
        for (uint32_t l = 0; l <= HIDDEN_LAYERS_MAX; l++) {
                free(p->hidden[l]);
                free(p->grad[l]);
        }
        free(p->result);
}

static int products_make(struct products *p, struct errinfo *e)
{
        const struct model_shape *s = &p->work->shape;
        const size_t batch = p->work->config->batch_size;
        size_t widest = 0;

        for (uint32_t l = 0; l < s->layer_count; l++) {
                const size_t ld = padded_width(s->layers[l].out), n = batch * ld;
                widest = ld > widest ? ld : widest;
                p->grad[l] = floats(n);
                p->hidden[l + 1] = floats(n);
                if (!p->grad[l] || !p->hidden[l + 1])
                        return ul_fail(e, UL_NOMEM, "no memory for the products");
                fill(p->grad[l], n, 1.0f, 3 + l);
                fill(p->hidden[l + 1], n, 1.0f, 13 + l);
        }
        p->result = floats(batch * widest);
        return p->result ? 0 : ul_fail(e, UL_NOMEM, "no memory for the products");
}

static void products_batch(void *side, uint32_t at, uint32_t n)
{
        struct products *p = side;
        const struct work *w = p->work;
        const struct model_shape *s = &w->shape;

        for (uint32_t l = 0; l < s->layer_count; l++) {
                const struct model_layer *layer = &s->layers[l];
                const float *x = l ? p->hidden[l] : w->x + (size_t)at * layer->in;
                const size_t ldx = l ? padded_width(layer->in) : layer->in;
                const size_t ld = padded_width(layer->out);
                float *weight = w->params + layer->weight;
                dense_forward(x, ldx, weight, n, layer->in, layer->out, p->result, ld);
                if (l)
                        dense_backward_input(p->grad[l], ld, weight, n, layer->in, layer->out,
                                             p->result, ldx);
                dense_backward_weights(x, ldx, p->grad[l], ld, n, layer->in, layer->out, -1e-9f,
                                       1.0f, weight);
        }
}

static int measure_products(const struct work *w, uint64_t ms, double *out, struct errinfo *e)
{
        struct products p = {.work = w};
        const int rc = products_make(&p, e);

        if (rc == 0)
                *out = samples_per_second(w, ms, products_batch, &p);
        products_clear(&p);
        return rc;
}

/* The machine's limit: the best of three, since one product is one sample. */
static int measure_square(uint32_t n, double *out, struct errinfo *e)
{
        const size_t area = (size_t)n * n;
        float *a = floats(area), *b = floats(area), *c = floats(area);
        int rc = 0;

        if (!a || !b || !c) {
                rc = ul_fail(e, UL_NOMEM, "no memory for the matrices");
                goto out;
        }
        fill(a, area, 1.0f, 1);
        fill(b, area, 1.0f, 2);
        dense_forward(a, n, b, n, n, n, c, n);
        *out = 0;
        for (int i = 0; i < 3; i++) {
                const uint64_t begin = mono_us();
                dense_forward(a, n, b, n, n, n, c, n);
                const double gflops = 2e-3 * (double)n * (double)area / (double)(mono_us() - begin);
                *out = gflops > *out ? gflops : *out;
        }
out:
        free(c);
        free(b);
        free(a);
        return rc;
}

/* --- command line --- */

static uint32_t number(const char *text, uint32_t max)
{
        char *end = NULL;
        const unsigned long v = strtoul(text, &end, 10);
        return *text && !*end && v > 0 && v <= max ? (uint32_t)v : 0;
}

static int measure_case(const char *side, const char *name, uint32_t ms, double *out,
                        struct errinfo *e)
{
        struct work w = {0};
        int rc = ul_fail(e, UL_NOT_FOUND, "no such case: %s", name);

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                if (strcmp(cases[i].name, name) == 0)
                        rc = work_make(&w, &cases[i], e);
        if (rc == 0)
                rc = strcmp(side, "ours") == 0 ? measure_ours(&w, ms, out, e)
                                               : measure_products(&w, ms, out, e);
        work_clear(&w);
        return rc;
}

int main(int argc, char **argv)
{
        struct errinfo e = {0};
        const char *side = argc > 1 ? argv[1] : "";
        const uint32_t count = argc > 2 ? number(argv[argc - 1], MS_MAX) : 0;
        double result = 0;
        int rc = UL_SYNTAX;

        if (kernels_init(&e) != 0) {
                (void)fprintf(stderr, "train: %s\n", e.detail);
                return 1;
        }
        if (argc == 2 && strcmp(side, "info") == 0)
                return printf("%s %s\n", kernels_name(), kernels_lanes()) < 0;
        if (argc == 3 && strcmp(side, "square") == 0 && count > 0 && count <= SQUARE_MAX)
                rc = measure_square(count, &result, &e);
        else if (argc == 4 && count > 0 &&
                 (strcmp(side, "ours") == 0 || strcmp(side, "sgemm") == 0))
                rc = measure_case(side, argv[2], count, &result, &e);
        if (rc == UL_SYNTAX) {
                (void)fprintf(stderr, "usage: train info | square N | ours|sgemm CASE MS\n");
                return 2;
        }
        if (rc != 0) {
                (void)fprintf(stderr, "train: %s\n", e.detail);
                return 1;
        }
        return printf("%.6g\n", result) < 0;
}
