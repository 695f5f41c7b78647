/* SPDX-License-Identifier: Apache-2.0
 * executor_null.c: jobs in the calling process, for tests: what the worker does, without one. The
 * whole job runs inside start(), so every event, `ended` too, comes before start() returns; *out is
 * set before the first of them and is dead after `ended`. Limits are not applied. */
#include "daemon/executor.h"

#include "lib/sisa/job.h"
#include "lib/sisa/train.h"
#include "lib/util/file.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { JOB_FILE_MAX = 16 * 1024 * 1024 };

struct execution {
        struct executor_events ev;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
        const struct execution *run = arg;
        if (run->ev.progress != NULL)
                run->ev.progress(run->ev.arg, done, total);
}

static void on_stage(void *arg, uint32_t slice, const uint8_t file_hash[SHA256_BYTES],
                     const struct checkpoint *c)
{
        const struct execution *run = arg;
        struct executor_stage stage = {.slice = slice, .records = c->records};
        memcpy(stage.file_hash, file_hash, SHA256_BYTES);
        memcpy(stage.retained, c->retained, SHA256_BYTES);
        checkpoint_data_hash(c, stage.data_hash);
        if (run->ev.stage != NULL)
                run->ev.stage(run->ev.arg, &stage);
}

static int train(struct execution *run, const char *job_path, struct errinfo *e)
{
        struct train_events ev = {on_progress, on_stage, run};
        struct buf text = {0};
        size_t json_len = 0;
        struct job *job = NULL;
        int err = read_file(job_path, JOB_FILE_MAX, &text, e);
        if (err == 0)
                err = job_unseal(text.data, text.len, &json_len, e);
        if (err == 0)
                err = job_parse((const char *)text.data, json_len, &job, e);
        if (err == 0)
                err = sisa_train(job, &ev, e);
        job_destroy(&job);
        buf_free(&text, true); /* holds the model's key */
        return err;
}

static int null_start(struct executor *x, const char *job_path,
                      const struct executor_limits *limits, const struct executor_events *ev,
                      struct execution **out, struct errinfo *e)
{
        struct execution *run = calloc(1, sizeof *run);
        struct errinfo why = {0};
        (void)x;
        (void)limits;
        assert(ev->ended != NULL);
        if (run == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to start a job");
        run->ev = *ev;
        *out = run;
        int err = train(run, job_path, &why);
        ev->ended(ev->arg, err, &why);
        free(run);
        return 0;
}

static void null_kill(struct execution *run)
{
        (void)run; /* from within an event: the job ends soon enough */
}

static void null_destroy(struct executor **x)
{
        free(*x);
        *x = NULL;
}

int executor_null_create(struct executor **out, struct errinfo *e)
{
        static const struct executor_ops ops = {null_start, null_kill, null_destroy};
        struct executor *x = calloc(1, sizeof *x);
        if (x == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the executor");
        x->ops = &ops;
        *out = x;
        return 0;
}
