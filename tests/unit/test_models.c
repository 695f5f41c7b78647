/* SPDX-License-Identifier: Apache-2.0
 * Training: every optimizer, activation and loss against a plain double-precision reference of the
 * same formulas, and the bits of the result: a function of inputs alone (invariant 2, DESIGN.md).
 */
#include "lib/kernels/kernels.h"
#include "lib/models/model.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the headers above first */
#include <setjmp.h>

#include <cmocka.h>

enum { PARAMS = 4096, ROWS = 24 };

static struct model_config *parsed(const char *text)
{
        struct model_config *c = NULL;
        struct errinfo e = {0};
        if (model_config_parse(text, strlen(text), &c, &e))
                fail_msg("%s: %s %s", text, e.field, e.detail);
        return c;
}

static void stream(struct prng *rng, uint64_t word)
{
        const uint8_t key[KEY_BYTES] = {5};
        prng_init(rng, key, &word, 1);
}

static void noise(float *out, size_t n, uint64_t word)
{
        struct prng rng;
        stream(&rng, word);
        for (size_t i = 0; i < n; i++)
                out[i] = prng_float(&rng) * 2 - 1;
}

/* ---- the reference: one network, one batch, no tricks ---- */

struct reference {
        const struct model_config *c;
        struct model_shape s;
        double w[PARAMS], m[PARAMS], v[PARAMS], g[PARAMS];
        double y[HIDDEN_LAYERS_MAX + 2][ROWS][64]; /* y[0]: input, y[l + 1]: output of layer l */
        double d[ROWS][64];
        uint32_t steps;
};

static void ref_forward(struct reference *r, uint32_t n)
{
        for (uint32_t l = 0; l < r->s.layer_count; l++) {
                const struct model_layer *k = &r->s.layers[l];
                for (uint32_t i = 0; i < n; i++) {
                        for (uint32_t o = 0; o < k->out; o++) {
                                double z = r->w[k->bias + o];
                                for (uint32_t j = 0; j < k->in; j++)
                                        z += r->y[l][i][j] * r->w[k->weight + j * k->out + o];
                                if (l + 1 < r->s.layer_count)
                                        z = r->c->activation == ACTIVATION_TANH ? tanh(z)
                                                                                : fmax(z, 0);
                                r->y[l + 1][i][o] = z;
                        }
                }
        }
}

static double ref_loss(struct reference *r, const uint32_t *classes, const float *targets,
                       uint32_t n)
{
        const uint32_t outputs = r->c->outputs;
        double loss = 0;

        for (uint32_t i = 0; i < n; i++) {
                const double *z = r->y[r->s.layer_count][i];
                double sum = 0;
                for (uint32_t o = 0; o < outputs; o++)
                        sum += exp(z[o]);
                if (classes)
                        loss += log(sum) - z[classes[i]];
                for (uint32_t o = 0; o < outputs; o++) {
                        r->d[i][o] = classes ? exp(z[o]) / sum - (o == classes[i])
                                             : z[o] - (double)targets[i * outputs + o];
                        if (targets)
                                loss += r->d[i][o] * r->d[i][o] / 2;
                }
        }
        return loss / n;
}

static void ref_backward(struct reference *r, uint32_t n)
{
        for (uint32_t l = r->s.layer_count; l-- > 0;) {
                const struct model_layer *k = &r->s.layers[l];
                double below[ROWS][64] = {{0}};
                for (uint32_t i = 0; i < n; i++) {
                        for (uint32_t o = 0; o < k->out; o++) {
                                r->g[k->bias + o] += r->d[i][o] / n;
                                for (uint32_t j = 0; j < k->in; j++) {
                                        const size_t at = k->weight + j * k->out + o;
                                        r->g[at] += r->y[l][i][j] * r->d[i][o] / n;
                                        below[i][j] += r->d[i][o] * r->w[at];
                                }
                        }
                        for (uint32_t j = 0; j < k->in; j++) {
                                const double y = r->y[l][i][j];
                                r->d[i][j] =
                                        below[i][j] *
                                        (r->c->activation == ACTIVATION_TANH ? 1 - y * y : y > 0);
                        }
                }
        }
}

static bool is_weight(const struct model_shape *s, size_t at)
{
        for (uint32_t l = 0; l < s->layer_count; l++)
                if (at >= s->layers[l].bias && at < s->layers[l].bias + s->layers[l].out)
                        return false;
        return true;
}

static double ref_step(struct reference *r, const float *x, const uint32_t *classes,
                       const float *targets, uint32_t n, double rate)
{
        const struct model_config *c = r->c;

        memset(r->g, 0, sizeof r->g);
        for (uint32_t i = 0; i < n; i++)
                for (uint32_t j = 0; j < c->features; j++)
                        r->y[0][i][j] = (double)x[i * c->features + j];
        ref_forward(r, n);
        const double loss = ref_loss(r, classes, targets, n);
        ref_backward(r, n);
        r->steps++;
        for (size_t p = 0; p < r->s.parameters; p++) {
                const double g = r->g[p] + (is_weight(&r->s, p) ? c->l2 * r->w[p] : 0);
                if (c->optimizer == OPTIMIZER_SGD) {
                        r->v[p] = c->momentum * r->v[p] + g;
                        r->w[p] -= rate * r->v[p];
                        continue;
                }
                r->m[p] = c->momentum * r->m[p] + (1 - c->momentum) * g;
                r->v[p] = 0.999 * r->v[p] + 0.001 * g * g;
                r->w[p] -= rate * r->m[p] / (1 - pow(c->momentum, r->steps)) /
                           (sqrt(r->v[p] / (1 - pow(0.999, r->steps))) + 1e-8);
        }
        return loss;
}

/* ---- the batches of these tests ---- */

struct batch {
        float x[ROWS * 64], targets[ROWS * 4];
        uint32_t classes[ROWS];
};

static void batch_make(struct batch *b, const struct model_config *c, uint64_t word)
{
        noise(b->x, (size_t)ROWS * c->features, word);
        noise(b->targets, sizeof b->targets / sizeof *b->targets, word + 1000);
        for (uint32_t i = 0; i < ROWS; i++)
                b->classes[i] = (uint32_t)((b->x[i * c->features] + 1) / 2 * (float)c->outputs);
}

/* Trains `steps` steps on batches of changing size, with every array `shift` floats off the line.
 * `r` may be NULL. */
static void train(const struct model_config *c, float *params, int steps, size_t shift,
                  struct reference *r)
{
        const struct model_ops *ops = model_ops_of(c->kind);
        const bool regression = c->task == TASK_REGRESSION;
        static float moved[PARAMS + 64], x[ROWS * 64 + 64], targets[ROWS * 4 + 64];
        struct model_shape s;
        struct trainer *t = NULL;
        struct batch b;

        ops->shape(c, &s);
        memcpy(moved + shift, params, s.parameters * sizeof *params);
        assert_int_equal(ops->trainer_create(c, &s, moved + shift, &t, NULL), 0);
        for (int i = 0; i < steps; i++) {
                const uint32_t n = i % 3 == 2 ? 1 + (uint32_t)i % ROWS : ROWS;
                const float rate = 0.05f / (1 + 0.1f * (float)i);
                batch_make(&b, c, (uint64_t)i);
                memcpy(x + shift, b.x, sizeof b.x);
                memcpy(targets + shift, b.targets, sizeof b.targets);
                const float loss = ops->step(t, x + shift, regression ? NULL : b.classes,
                                             regression ? targets + shift : NULL, n, rate);
                if (r) {
                        const double want =
                                ref_step(r, b.x, regression ? NULL : b.classes,
                                         regression ? b.targets : NULL, n, (double)rate);
                        if (!(fabs((double)loss - want) < 1e-4 * (1 + want)))
                                fail_msg("step %d: loss %g, not %g", i, (double)loss, want);
                }
        }
        ops->trainer_destroy(&t);
        assert_null(t);
        memcpy(params, moved + shift, s.parameters * sizeof *params);
}

#define HEAD "{\"batch_size\":24,"
#define CLASSES "\"features\":37,\"classes\":5"
static const char *const shapes[] = {
        "\"kind\":\"softmax\"," CLASSES,
        "\"kind\":\"softmax\",\"features\":1,\"classes\":2",
        "\"kind\":\"softmax\",\"task\":\"regression\",\"features\":20,\"targets\":3",
        "\"kind\":\"mlp\",\"hidden\":[32]," CLASSES,
        "\"kind\":\"mlp\",\"hidden\":[17,1,33],\"activation\":\"tanh\"," CLASSES,
        "\"kind\":\"mlp\",\"hidden\":[19,40]," CLASSES,
        "\"kind\":\"mlp\",\"hidden\":[16],\"activation\":\"tanh\",\"task\":\"regression\","
        "\"features\":64,\"targets\":4",
};
static const char *const rules[] = {
        "\"momentum\":0",         "\"momentum\":0,\"l2\":0.05",
        "\"momentum\":0.9",       "\"momentum\":0.5,\"l2\":0.05",
        "\"optimizer\":\"adam\"", "\"optimizer\":\"adam\",\"momentum\":0.8,\"l2\":0.05",
};
enum { SHAPES = sizeof shapes / sizeof *shapes, RULES = sizeof rules / sizeof *rules };

static struct model_config *combined(size_t shape, size_t rule)
{
        char text[512];
        snprintf(text, sizeof text, HEAD "%s,%s}", shapes[shape], rules[rule]);
        return parsed(text);
}

static void fresh(const struct model_config *c, struct model_shape *s, float *params)
{
        struct prng rng;
        stream(&rng, 77);
        model_ops_of(c->kind)->shape(c, s);
        assert_true(s->parameters <= PARAMS);
        model_ops_of(c->kind)->init(c, s, &rng, params);
}

static void training_follows_the_reference(const struct model_config *c, const char *what)
{
        struct reference *r = calloc(1, sizeof *r);
        float params[PARAMS];

        assert_non_null(r);
        r->c = c;
        fresh(c, &r->s, params);
        for (size_t i = 0; i < r->s.parameters; i++)
                r->w[i] = (double)params[i];
        train(c, params, 12, 0, r);
        /* Adam divides by the root of a square: where a gradient is nearly zero it amplifies
         * rounding up to a full step. */
        const double tolerance = c->optimizer == OPTIMIZER_ADAM ? 5e-3 : 2e-5;
        for (size_t i = 0; i < r->s.parameters; i++)
                if (!(fabs((double)params[i] - r->w[i]) < tolerance))
                        fail_msg("%s: parameter %zu is %g, not %g", what, i, (double)params[i],
                                 r->w[i]);
        free(r);
}

static void every_kind_and_rule_trains_as_the_formulas_say(void **state)
{
        (void)state;
        for (size_t s = 0; s < SHAPES; s++) {
                for (size_t u = 0; u < RULES; u++) {
                        struct model_config *c = combined(s, u);
                        char what[512];
                        snprintf(what, sizeof what, "%s %s", shapes[s], rules[u]);
                        training_follows_the_reference(c, what);
                        model_config_destroy(&c);
                }
        }
}

static void trained_bits_do_not_depend_on_memory(void **state)
{
        (void)state;
        for (size_t s = 0; s < SHAPES * RULES; s++) {
                struct model_config *c = combined(s / RULES, s % RULES);
                float first[PARAMS], again[PARAMS];
                struct model_shape shape;
                fresh(c, &shape, first);
                train(c, first, 8, 0, NULL);
                for (size_t shift = 1; shift < 17; shift += 3) {
                        void *between = malloc(shift * 1000); /* moves the next scratch */
                        fresh(c, &shape, again);
                        train(c, again, 8, shift, NULL);
                        assert_memory_equal(first, again, shape.parameters * sizeof *first);
                        free(between);
                }
                model_config_destroy(&c);
        }
}

/* Rows past the batch, and what an earlier batch left in the scratch, must not be seen. */
static void a_short_batch_sees_its_own_rows_alone(void **state)
{
        struct model_config *c = combined(5, 0);
        const struct model_ops *ops = model_ops_of(c->kind);
        float a[PARAMS], b[PARAMS], kept[PARAMS];
        struct model_shape s;
        struct trainer *t = NULL;
        struct batch full;

        (void)state;
        fresh(c, &s, a);
        batch_make(&full, c, 1);
        assert_int_equal(ops->trainer_create(c, &s, a, &t, NULL), 0);
        ops->step(t, full.x, full.classes, NULL, ROWS, 0.1f);
        memcpy(kept, a, sizeof a);
        ops->step(t, full.x, full.classes, NULL, 3, 0.1f);
        ops->trainer_destroy(&t);

        memcpy(b, kept, sizeof b);
        for (size_t i = 3UL * c->features; i < sizeof full.x / sizeof *full.x; i++)
                full.x[i] = NAN;
        assert_int_equal(ops->trainer_create(c, &s, b, &t, NULL), 0);
        ops->step(t, full.x, full.classes, NULL, 3, 0.1f);
        ops->trainer_destroy(&t);
        assert_memory_equal(a, b, s.parameters * sizeof *a);
        model_config_destroy(&c);
}

/* ---- shapes and starts ---- */

static void layers_lie_one_after_the_other(void **state)
{
        struct model_config *c = combined(4, 0);
        struct model_shape s;

        (void)state;
        model_ops_of(c->kind)->shape(c, &s);
        assert_int_equal(s.layer_count, 4);
        size_t at = 0;
        for (uint32_t l = 0; l < s.layer_count; l++) {
                assert_int_equal(s.layers[l].weight, at);
                assert_int_equal(s.layers[l].bias, at + (size_t)s.layers[l].in * s.layers[l].out);
                at = s.layers[l].bias + s.layers[l].out;
                if (l)
                        assert_int_equal(s.layers[l].in, s.layers[l - 1].out);
        }
        assert_int_equal(s.parameters, at);
        assert_int_equal(model_parameter_count(c), at);
        model_config_destroy(&c);
}

static void first_parameters_are_a_function_of_the_stream(void **state)
{
        struct model_config *c = combined(3, 0);
        struct model_shape s;
        float a[PARAMS], b[PARAMS];
        struct prng rng;

        (void)state;
        fresh(c, &s, a);
        fresh(c, &s, b);
        assert_memory_equal(a, b, s.parameters * sizeof *a);
        stream(&rng, 78);
        model_ops_of(c->kind)->init(c, &s, &rng, b);
        assert_memory_not_equal(a, b, s.parameters * sizeof *a);
        model_config_destroy(&c);
}

static void uniform_within(const float *w, size_t n, double limit)
{
        double squares = 0, top = 0;
        for (size_t i = 0; i < n; i++) {
                squares += (double)w[i] * (double)w[i];
                top = fmax(top, fabs((double)w[i]));
        }
        assert_true(top <= limit * 1.0001 && top > 0.9 * limit);
        assert_true(fabs(sqrt(squares / (double)n) / (limit / sqrt(3)) - 1) < 0.1);
}

static void weights_start_after_he_or_glorot(void **state)
{
        struct model_config *relu = combined(3, 0);
        struct model_config *tanh_net = combined(6, 0), *soft = combined(0, 0);
        struct model_shape s;
        float p[PARAMS];

        (void)state;
        fresh(relu, &s, p);
        uniform_within(p, (size_t)37 * 32, sqrt(6.0 / 37));
        uniform_within(p + s.layers[1].weight, (size_t)32 * 5, sqrt(6.0 / (32 + 5)));
        for (uint32_t l = 0; l < 2; l++)
                for (uint32_t o = 0; o < s.layers[l].out; o++)
                        assert_true(p[s.layers[l].bias + o] == 0);
        fresh(tanh_net, &s, p);
        uniform_within(p, (size_t)64 * 16, sqrt(6.0 / (64 + 16)));
        fresh(soft, &s, p);
        for (size_t i = 0; i < s.parameters; i++)
                assert_true(p[i] == 0);
        model_config_destroy(&relu);
        model_config_destroy(&tanh_net);
        model_config_destroy(&soft);
}

/* ---- what training is for ---- */

static void an_mlp_learns_what_no_linear_model_can(void **state)
{
        static const float x[] = {-1, -1, -1, 1, 1, -1, 1, 1};
        static const uint32_t classes[] = {0, 1, 1, 0};
        struct model_config *c = parsed("{\"kind\":\"mlp\",\"features\":2,\"classes\":2,"
                                        "\"hidden\":[16],\"activation\":\"tanh\"}");
        const struct model_ops *ops = model_ops_of(c->kind);
        float p[PARAMS], loss = 9;
        struct model_shape s;
        struct trainer *t = NULL;

        (void)state;
        fresh(c, &s, p);
        assert_int_equal(ops->trainer_create(c, &s, p, &t, NULL), 0);
        for (int i = 0; i < 500; i++)
                loss = ops->step(t, x, classes, NULL, 4, 0.1f);
        assert_true(loss < 0.05f);
        ops->trainer_destroy(&t);
        model_config_destroy(&c);
}

static void divergence_shows_in_the_loss(void **state)
{
        struct model_config *c = combined(2, 0);
        const struct model_ops *ops = model_ops_of(c->kind);
        float p[PARAMS], loss = 0;
        struct model_shape s;
        struct trainer *t = NULL;
        struct batch b;

        (void)state;
        fresh(c, &s, p);
        batch_make(&b, c, 1);
        assert_int_equal(ops->trainer_create(c, &s, p, &t, NULL), 0);
        for (int i = 0; i < 300; i++)
                loss = ops->step(t, b.x, NULL, b.targets, ROWS, 1000);
        assert_true(!isfinite(loss));
        ops->trainer_destroy(&t);
        ops->trainer_destroy(&t);
        model_config_destroy(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_kind_and_rule_trains_as_the_formulas_say),
                cmocka_unit_test(trained_bits_do_not_depend_on_memory),
                cmocka_unit_test(a_short_batch_sees_its_own_rows_alone),
                cmocka_unit_test(layers_lie_one_after_the_other),
                cmocka_unit_test(first_parameters_are_a_function_of_the_stream),
                cmocka_unit_test(weights_start_after_he_or_glorot),
                cmocka_unit_test(an_mlp_learns_what_no_linear_model_can),
                cmocka_unit_test(divergence_shows_in_the_loss),
        };
        if (crypto_init() || kernels_init(NULL))
                return 1;
        return cmocka_run_group_tests_name("models", tests, NULL, NULL);
}
