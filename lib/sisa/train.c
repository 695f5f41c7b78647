/* SPDX-License-Identifier: Apache-2.0
 * train.c: runs the stages of a job, one after the other, each from the parameters of the one
 * before. It must not know kinds of models (model.h), file layouts or who asked.
 *
 * What a stage does depends on nothing but configuration, key, the stage's number and the rows
 * selected: optimizer state starts at zero in each stage and the streams are drawn afresh, so that
 * going on from a checkpoint and training from nothing are the same arithmetic (invariant 2). The
 * streams name the effective stage, not the slice: an appended slice that became empty leaves no
 * trace. Standardisation is fitted in the stage that first has live rows and is carried along with
 * the parameters from then on (invariant 3). */
#include "lib/sisa/train.h"
#include "lib/kernels/kernels.h"
#include "lib/models/model.h"
#include "lib/sisa/dataset.h"
#include "lib/util/clock.h"
#include "lib/util/crash_point.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(2 + 2 * (HIDDEN_LAYERS_MAX + 1) <= CHECKPOINT_TENSORS_MAX, "tensors of a model");

enum { PROGRESS_US = 100 * 1000, ALIGN = 64 };
/* How often a stage that diverges is trained anew, each time at half the rate: down to 1/65536. */
enum { HALVINGS_MAX = 16 };
/* A stage whose loss rose is taken to diverge if its largest parameter grew by more than this. */
static const double GROWTH_MAX = 10;
/* First words of the streams drawn under the model's key. */
enum { STREAM_INIT = 1, STREAM_SHUFFLE = 2 };

struct run {
        /* set once */
        const struct job *j;
        const struct train_events *ev;
        const struct model_config *c;
        const struct model_ops *ops;
        struct model_shape shape;
        struct dataset *data;
        struct plan_stage *stages; /* [j->slices], of slice i + 1 */
        /* a batch */
        uint32_t batch;    /* rows that fit */
        float *x;          /* [batch, features] */
        uint32_t *classes; /* [batch]; NULL for a regression */
        float *targets;    /* [batch, outputs]; NULL for a classification */
        /* the chain: what the last stage left, and its file's digest */
        struct checkpoint chain;
        uint8_t chain_hash[SHA256_BYTES];
        float *mean, *scale; /* [features] in chain.block; NULL: not standardised */
        float *params;       /* [shape.parameters] in chain.block; NULL: no live row so far */
        float *start;        /* [shape.parameters] what a stage began with */
        /* progress, in sample steps */
        uint64_t done, total, reported_us;
};

/* --- progress --- */

static void report(struct run *r)
{
        r->reported_us = mono_us();
        if (r->ev->progress != NULL)
                r->ev->progress(r->ev->arg, r->done, r->total);
}

static void advance(struct run *r, uint32_t rows)
{
        r->done += rows;
        if (mono_us() - r->reported_us >= PROGRESS_US)
                report(r);
}

/* --- the tensors of a constituent --- */

static void add_tensor(struct checkpoint *k, const char *name, uint32_t rows, uint32_t cols)
{
        struct checkpoint_tensor *t = &k->tensors[k->tensor_count++];
        int n = snprintf(t->name, sizeof t->name, "%s", name);
        assert(n > 0 && (size_t)n < sizeof t->name);
        t->rows = rows;
        t->cols = cols;
}

/* Names and shapes: mean and scale where the model standardises, then the flat parameters. */
static void lay_out(const struct run *r, struct checkpoint *k)
{
        char name[32];
        size_t at = 0;
        k->tensor_count = 0;
        if (r->c->standardize) {
                add_tensor(k, "mean", r->c->features, 0);
                add_tensor(k, "scale", r->c->features, 0);
        }
        for (uint32_t i = 0; i < r->shape.layer_count; i++) {
                const struct model_layer *l = &r->shape.layers[i];
                assert(l->weight == at && l->bias == at + (size_t)l->in * l->out);
                at = l->bias + l->out;
                (void)snprintf(name, sizeof name, "layers.%u.weight", i);
                add_tensor(k, name, l->in, l->out);
                (void)snprintf(name, sizeof name, "layers.%u.bias", i);
                add_tensor(k, name, l->out, 0);
        }
        assert(at == r->shape.parameters);
}

/* Points mean, scale and params into the chain's block, and its tensors too. */
static void attach(struct run *r)
{
        float *next = r->chain.block;
        for (uint32_t i = 0; i < r->chain.tensor_count; i++) {
                struct checkpoint_tensor *t = &r->chain.tensors[i];
                t->data = next;
                next += (size_t)t->rows * (t->cols > 0 ? t->cols : 1);
        }
        r->params = r->chain.block;
        if (r->c->standardize) {
                r->mean = r->chain.block;
                r->scale = r->mean + r->c->features;
                r->params = r->scale + r->c->features;
        }
}

/* --- a batch --- */

static void *allocate_rows(size_t rows, size_t row_bytes)
{
        size_t bytes = (rows * row_bytes + ALIGN - 1) / ALIGN * ALIGN;
        void *p = aligned_alloc(ALIGN, bytes);
        if (p != NULL)
                memset(p, 0, bytes);
        return p;
}

static int allocate_batch(struct run *r, struct errinfo *e)
{
        const uint64_t live = r->stages[r->j->slices - 1].live;
        r->batch = live < r->c->batch_size ? (uint32_t)live : r->c->batch_size;
        if (r->batch == 0)
                return 0;
        r->x = allocate_rows(r->batch, r->c->features * sizeof *r->x);
        if (r->c->task == TASK_REGRESSION)
                r->targets = allocate_rows(r->batch, r->c->outputs * sizeof *r->targets);
        else
                r->classes = allocate_rows(r->batch, sizeof *r->classes);
        if (r->x == NULL || (r->classes == NULL && r->targets == NULL))
                return ul_fail(e, UL_NOMEM, "no memory for a batch of %u rows", r->batch);
        return 0;
}

static void free_batch(struct run *r)
{
        if (r->x != NULL)
                wipe(r->x, (size_t)r->batch * r->c->features * sizeof *r->x);
        if (r->targets != NULL)
                wipe(r->targets, (size_t)r->batch * r->c->outputs * sizeof *r->targets);
        if (r->classes != NULL)
                wipe(r->classes, r->batch * sizeof *r->classes);
        free(r->targets);
        free(r->classes);
        free(r->x);
}

/* --- a stage --- */

/* Fits mean and scale on the selected rows, in canonical order. */
static int fit_standardisation(struct run *r, uint32_t rows, struct errinfo *e)
{
        const size_t features = r->c->features;
        double *moments = calloc(2 * features, sizeof *moments);
        float *range = calloc(2 * features, sizeof *range);
        if (moments == NULL || range == NULL) {
                free(moments);
                free(range);
                return ul_fail(e, UL_NOMEM, "no memory to fit the standardisation");
        }
        double *const sum = moments, *const sumsq = moments + features;
        float *const low = range, *const high = range + features;
        for (size_t f = 0; f < features; f++) {
                low[f] = INFINITY;
                high[f] = -INFINITY;
        }
        for (uint32_t at = 0, n; at < rows; at += n) {
                n = rows - at < r->batch ? rows - at : r->batch;
                dataset_draw(r->data, at, n, r->x, r->classes, r->targets);
                moments_add(r->x, n, r->c->features, sum, sumsq);
                range_add(r->x, n, r->c->features, low, high);
        }
        moments_finish(sum, sumsq, rows, r->c->features, r->mean, r->scale);
        scale_limit(low, high, r->c->features, r->c->dtype == DTYPE_U8 ? 1.0f / UINT8_MAX : 1.0f,
                    r->mean, r->scale);
        wipe(moments, 2 * features * sizeof *moments);
        wipe(range, 2 * features * sizeof *range);
        free(moments);
        free(range);
        return 0;
}

/* The first live rows: parameters from the generator, standardisation from the rows. */
static int begin_chain(struct run *r, uint32_t rows, struct errinfo *e)
{
        struct prng rng;
        const uint64_t words[] = {STREAM_INIT, r->j->shard};
        lay_out(r, &r->chain);
        const size_t fitted = r->c->standardize ? 2 * (size_t)r->c->features : 0;
        r->chain.block_bytes = (fitted + r->shape.parameters) * sizeof(float);
        r->chain.block = allocate_rows(1, r->chain.block_bytes);
        if (r->chain.block == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a constituent's parameters");
        attach(r);
        prng_init(&rng, r->j->model_key, words, sizeof words / sizeof *words);
        r->ops->init(r->c, &r->shape, &rng, r->params);
        wipe(&rng, sizeof rng);
        return r->c->standardize ? fit_standardisation(r, rows, e) : 0;
}

/* One attempt at a stage: mean losses of its first batch, and of its latest epoch. */
struct attempt {
        struct trainer *trainer;
        double first, latest;
};

static void train_epoch(struct run *r, struct attempt *a, const struct plan_stage *s,
                        uint32_t epoch, uint32_t rows)
{
        struct prng rng;
        const uint64_t words[] = {STREAM_SHUFFLE, r->j->shard, s->stage, epoch};
        const double decayed =
                r->c->learning_rate / (1.0 + r->c->learning_rate_decay * (double)epoch);
        const float rate = (float)ldexp(decayed, -(int)r->chain.halvings);
        double sum = 0;
        prng_init(&rng, r->j->model_key, words, sizeof words / sizeof *words);
        dataset_shuffle(r->data, &rng);
        wipe(&rng, sizeof rng);
        for (uint32_t at = 0, n; at < rows; at += n) {
                /* The last batch of an epoch is trained as short as it is. */
                n = rows - at < r->batch ? rows - at : r->batch;
                dataset_draw(r->data, at, n, r->x, r->classes, r->targets);
                if (r->mean != NULL)
                        standardise_rows(r->x, n, r->c->features, r->mean, r->scale, r->x);
                const float loss = r->ops->step(a->trainer, r->x, r->classes, r->targets, n, rate);
                if (at == 0 && epoch == s->first_epoch)
                        a->first = (double)loss;
                sum += n * (double)loss;
                if (!isfinite(sum))
                        break;
                advance(r, n);
        }
        a->latest = sum / rows;
}

/* The largest parameter's size; infinity where one is no number. */
static double reach_of(const float *params, size_t n)
{
        double reach = 0;
        for (size_t i = 0; i < n; i++) {
                if (!isfinite(params[i]))
                        return (double)INFINITY;
                reach = fmax(reach, fabs((double)params[i]));
        }
        return reach;
}

/* All epochs of a stage at the rate that chain.halvings says. It diverges when numbers run out, or
 * are on their way there: a stage of a few steps may end before. */
static int try_epochs(struct run *r, const struct plan_stage *s, uint32_t rows, bool *diverged,
                      struct errinfo *e)
{
        struct attempt a = {0};
        int err = r->ops->trainer_create(r->c, &r->shape, r->params, &a.trainer, e);
        if (err != 0)
                return err;
        for (uint32_t i = 0; isfinite(a.latest) && i < s->epochs; i++)
                train_epoch(r, &a, s, s->first_epoch + i, rows);
        r->ops->trainer_destroy(&a.trainer);
        const double before = reach_of(r->start, r->shape.parameters);
        const double after = reach_of(r->params, r->shape.parameters);
        *diverged = !isfinite(a.latest) || !isfinite(after) ||
                    (a.latest > a.first && after > GROWTH_MAX * (1 + before));
        return 0;
}

/* A stage that diverges is trained anew from where it began, at half the rate, until it does not.
 * Whoever is left after an erasure must be trainable, however few they are; and it is a function of
 * the stage's inputs like all else here, so that going on and training from nothing stay equal. */
static int train_epochs(struct run *r, const struct plan_stage *s, uint32_t rows, struct errinfo *e)
{
        const size_t bytes = r->shape.parameters * sizeof *r->params;
        const uint64_t began = r->done;
        bool diverged;
        r->chain.halvings = 0;
        if (rows == 0 || s->epochs == 0)
                return 0;
        if (r->start == NULL && (r->start = malloc(bytes)) == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a second copy of the parameters");
        memcpy(r->start, r->params, bytes);
        int err = try_epochs(r, s, rows, &diverged, e);
        while (err == 0 && diverged && r->chain.halvings < HALVINGS_MAX) {
                r->chain.halvings++;
                r->done = began;
                memcpy(r->params, r->start, bytes);
                err = try_epochs(r, s, rows, &diverged, e);
        }
        if (err == 0 && diverged)
                err = ul_fail(
                        e, UL_INVALID,
                        "training diverged in shard %u slice %u, also at 1/%u of the rate: use "
                        "a lower learning_rate, or standardize",
                        r->j->shard, s->slice, 1U << HALVINGS_MAX);
        return err;
}

/* Writes the chain as the checkpoint of this stage; it is the next one's parent. */
static int finish_stage(struct run *r, const struct plan_stage *s, struct errinfo *e)
{
        char path[PATH_SIZE];
        r->chain.shard = r->j->shard;
        r->chain.slice = s->slice;
        r->chain.stage = s->stage;
        r->chain.records = s->live;
        memcpy(r->chain.parent, r->chain_hash, SHA256_BYTES);
        int err = scratch_path(path, r->j->scratch, s->slice, e);
        if (err == 0)
                err = checkpoint_write(path, &r->chain, r->chain_hash, e);
        CRASH_POINT("worker.stage_written");
        if (err == 0 && r->ev->stage != NULL)
                r->ev->stage(r->ev->arg, s->slice, r->chain_hash, &r->chain);
        CRASH_POINT("worker.stage_told");
        return err;
}

static int train_stage(struct run *r, const struct plan_stage *s, struct errinfo *e)
{
        int err = 0;
        const uint32_t rows = dataset_select(r->data, s->slice, r->chain.retained);
        assert(rows == s->live); /* dataset_open has held the job to its counts */
        if (rows > 0 && r->params == NULL)
                err = begin_chain(r, rows, e);
        if (err == 0)
                err = train_epochs(r, s, rows, e);
        CRASH_POINT("worker.stage_trained");
        if (err == 0)
                err = dataset_check(r->data, e);
        return err != 0 ? err : finish_stage(r, s, e);
}

/* --- a job --- */

/* Whether the parent's tensors are those of this model. */
static bool parent_fits(const struct run *r)
{
        const struct checkpoint *have = &r->chain;
        struct checkpoint want = {0};
        lay_out(r, &want);
        if (have->tensor_count != want.tensor_count)
                return false;
        for (uint32_t i = 0; i < want.tensor_count; i++)
                if (strcmp(have->tensors[i].name, want.tensors[i].name) != 0 ||
                    have->tensors[i].rows != want.tensors[i].rows ||
                    have->tensors[i].cols != want.tensors[i].cols)
                        return false;
        return true;
}

/* The checkpoint to go on from: of this shard and configuration, and trained on exactly the rows
 * that slices 1..from - 1 still hold. */
static int load_parent(struct run *r, struct errinfo *e)
{
        char path[PATH_SIZE];
        uint8_t config_hash[SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
        const struct plan_stage *s = &r->stages[r->j->from - 2];
        int err = checkpoint_path(path, r->j->root, r->j->shard, s->slice, e);
        if (err == 0)
                err = checkpoint_read(path, r->j->parent, &r->chain, r->chain_hash, e);
        if (err != 0)
                return err;
        model_config_hash(r->c, config_hash);
        if (memcmp(r->chain.config_hash, config_hash, SHA256_BYTES) != 0 ||
            r->chain.shard != r->j->shard || r->chain.slice != s->slice ||
            r->chain.stage != s->stage)
                return ul_fail(e, UL_CORRUPT, "the parent checkpoint belongs elsewhere");
        (void)dataset_select(r->data, s->slice, retained);
        if (r->chain.records != s->live || memcmp(r->chain.retained, retained, SHA256_BYTES) != 0)
                return ul_fail(e, UL_CONFLICT,
                               "the parent checkpoint was trained on other records");
        if (r->chain.records == 0)
                return 0;
        if (!parent_fits(r))
                return ul_fail(e, UL_CORRUPT, "the parent checkpoint has another shape");
        attach(r);
        return 0;
}

static int prepare(struct run *r, struct errinfo *e)
{
        const struct job *j = r->j;
        if (j->kernel[0] != '\0' && strcmp(j->kernel, kernels_name()) != 0)
                return ul_fail(
                        e, UL_INVALID,
                        "the job is pinned to the kernel %s, and this worker runs %s; run it on "
                        "a machine that has the kernel, without OPENBLAS_CORETYPE",
                        j->kernel, kernels_name());
        r->ops = model_ops_of(r->c->kind);
        r->ops->shape(r->c, &r->shape);
        r->stages = calloc(j->slices, sizeof *r->stages);
        uint64_t *live = calloc(j->slices, sizeof *live);
        if (r->stages == NULL || live == NULL) {
                free(live);
                return ul_fail(e, UL_NOMEM, "no memory for a job's plan");
        }
        for (uint32_t i = 0; i < j->slices; i++)
                live[i] = j->slice[i].live;
        uint32_t n = plan_stages(live, j->slices, r->c->slices, r->c->epochs, 1, r->stages);
        assert(n == j->slices);
        free(live);
        r->total = plan_cost(r->stages + (j->from - 1), j->slices - (j->from - 1));
        return 0;
}

/* Everything that does not train: rows, memory, parent, the folder to write to. */
static int open_inputs(struct run *r, struct errinfo *e)
{
        int err = dataset_open(r->j, &r->data, e);
        if (err == 0)
                err = allocate_batch(r, e);
        if (err == 0 && r->j->from > 1)
                err = load_parent(r, e);
        if (err != 0)
                return err;
        model_config_hash(r->c, r->chain.config_hash);
        int n = snprintf(r->chain.kernel, sizeof r->chain.kernel, "%s", kernels_name());
        if (n < 0 || (size_t)n >= sizeof r->chain.kernel)
                return ul_fail(e, UL_INTERNAL, "the BLAS kernel's name is too long");
        return make_dirs(r->j->scratch, e);
}

int sisa_train(const struct job *j, const struct train_events *ev, struct errinfo *e)
{
        struct run r = {.j = j, .ev = ev, .c = j->config};
        assert(j->from >= 1 && j->from <= j->slices);
        int err = prepare(&r, e);
        if (err == 0) {
                report(&r);
                err = open_inputs(&r, e);
        }
        for (uint32_t i = j->from - 1; err == 0 && i < j->slices; i++)
                err = train_stage(&r, &r.stages[i], e);
        if (err == 0) {
                assert(r.done == r.total);
                report(&r);
        }
        if (r.start != NULL)
                wipe(r.start, r.shape.parameters * sizeof *r.start);
        free(r.start);
        checkpoint_clear(&r.chain);
        free_batch(&r);
        dataset_close(&r.data);
        free(r.stages);
        return err;
}
