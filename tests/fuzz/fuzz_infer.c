/* SPDX-License-Identifier: Apache-2.0
 * fuzz_infer.c: requests for predictions. The first byte chooses the model, the rest of the first
 * line is the header that announces the length of the JSON ("" for none), and what follows is the
 * body: read as V2 with the binary tensor extension, and without a header also as V1.
 *
 * An accepted body must fill every feature of every row that it announces: the memory of the rows
 * holds something else in each of two readings, and the rows must come out the same. */
#include "api/infer.h"
#include "lib/records/encode.h"
#include "tests/fuzz/fuzz.h"

/* --- the models --- */

static const char *const labels[] = {"0", "1"};
static const char *const values[] = {"clerk", "nurse"};
static const struct encoding_column columns[] = {
        {.name = "age"},
        {.name = "job",
         .categorical = true,
         .value_count = 2,
         .values = values,
         .first_feature = 1},
};
static const struct encoding tabular = {.shape = {0, 4, 0},
                                        .encoder = 2,
                                        .classes = 2,
                                        .labels = labels,
                                        .column_count = 2,
                                        .columns = columns};
static char *job_values[] = {(char[]){"clerk"}, (char[]){"nurse"}};
static struct column_spec column_specs[] = {
        {.name = (char[]){"age"}},
        {.name = (char[]){"job"},
         .categorical = true,
         .value_count = 2,
         .values = job_values,
         .first_feature = 1},
};
static const struct model_config models[] = {
        {.features = 3, .outputs = 2},
        {.features = 8, .outputs = 2, .encoder = ENCODER_HASH_TEXT},
        {.features = 4,
         .outputs = 2,
         .encoder = ENCODER_TABULAR,
         .column_count = 2,
         .columns = column_specs},
        {.features = 2, .outputs = 2, .task = TASK_REGRESSION},
};
enum { MODELS = sizeof models / sizeof models[0], ROWS_MAX = 1000 };

/* --- what the daemon does with rows --- */

struct predict {
        const struct model_config *config;
        uint8_t background; /* what the memory of the rows held */
        float *x;
        uint32_t n;
};

const struct model_config *predict_config(const struct predict *p)
{
        return p->config;
}

uint32_t predict_count(const struct predict *p)
{
        return p->n;
}

int predict_rows(struct predict *p, uint32_t n, float **x, struct errinfo *e)
{
        assert(p->x == NULL);
        if (n == 0)
                return ul_fail(e, UL_INVALID, "at least one row");
        if (n > ROWS_MAX)
                return ul_fail(e, UL_TOO_LARGE, "too many rows");
        const size_t bytes = (size_t)n * p->config->features * sizeof *p->x;
        p->n = n;
        p->x = malloc(bytes);
        assert(p->x != NULL);
        memset(p->x, p->background, bytes);
        *x = p->x;
        return 0;
}

int predict_encode_text(struct predict *p, uint32_t row, const char *text, size_t len,
                        struct errinfo *e)
{
        (void)e;
        assert(row < p->n && p->config->encoder == ENCODER_HASH_TEXT);
        encode_text(text, len, p->config->features, p->x + (size_t)row * p->config->features);
        return 0;
}

int predict_encode_column(struct predict *p, uint32_t row, uint32_t column, const char *text,
                          size_t len, struct errinfo *e)
{
        assert(row < p->n && p->config->encoder == ENCODER_TABULAR);
        assert(column < p->config->column_count);
        return encode_column(&tabular, column, text, len, p->x + (size_t)row * p->config->features,
                             e);
}

/* --- a request --- */

struct request_bytes {
        const uint8_t *body; /* a NUL behind it */
        size_t len;
        const char *header;
        bool v1;
};

static int read_once(const struct request_bytes *r, struct predict *p)
{
        struct infer in = {.predict = p, .v1 = r->v1};
        struct errinfo e = {0};
        const int err = r->v1 ? infer_read_v1(&in, r->body, r->len, &e)
                              : infer_read_v2(&in, r->body, r->len, r->header, &e);
        assert(in.output_count <= INFER_OUTPUTS_MAX);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return err;
        }
        assert(p->n >= 1 && (r->v1 || in.output_count >= 1));
        assert(memchr(in.id, '\0', sizeof in.id) != NULL);
        return 0;
}

static void read_twice(const struct request_bytes *r, const struct model_config *c)
{
        const bool one_hot = c->encoder == ENCODER_TABULAR; /* sets ones over the daemon's zeros */
        struct predict p = {.config = c}, q = {.config = c, .background = one_hot ? 0 : 0xff};
        const int err = read_once(r, &p), again = read_once(r, &q);
        assert(err == again);
        if (err == 0) {
                assert(p.n == q.n);
                assert(memcmp(p.x, q.x, (size_t)p.n * c->features * sizeof *p.x) == 0);
        }
        free(p.x);
        free(q.x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const struct model_config *c = &models[fuzz_choice(&data, &size, MODELS)];
        const uint8_t *newline = size > 0 ? memchr(data, '\n', size) : NULL;
        if (newline == NULL)
                return 0;
        char *header = fuzz_text(data, (size_t)(newline - data));
        const size_t len = size - (size_t)(newline + 1 - data);
        char *body = fuzz_text(newline + 1, len);
        struct request_bytes r = {.body = (const uint8_t *)body, .len = len};
        r.header = header[0] != '\0' ? header : NULL;
        read_twice(&r, c);
        r.v1 = true;
        if (r.header == NULL)
                read_twice(&r, c);
        free(body);
        free(header);
        return 0;
}
