/* SPDX-License-Identifier: Apache-2.0
 * abort.c: removes staged uploads that were called off: first their rows, then their index entries
 * in bounded steps; with the last of those it is over, and an erasure that waited for it is
 * scrubbed. What a file that cannot be opened holds is not gone, so that such an upload stays until
 * it can; it keeps no other one. */
#include "daemon/loop.h"
#include "daemon/scheduler.h"
#include "daemon/upload.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdlib.h>

struct abort_command {
        struct loop_command lc;
        struct model *model; /* referenced */
        struct upload_abort abort;
        bool left;
};

static int cut(struct txn *t, struct model *m, struct errinfo *e)
{
        struct errinfo why;
        int unopened = 0;
        for (uint32_t i = 0; i < m->config->shards; i++) {
                int err = upload_cut(t, m, i, NULL, &why);
                if (err == 0)
                        continue;
                *e = why;
                if (err != UL_NOT_FOUND && err != UL_CORRUPT)
                        return err;
                unopened = err;
        }
        return unopened;
}

static int abort_run(struct loop_command *lc, struct txn *t)
{
        struct abort_command *c = (struct abort_command *)lc;
        /* On the writer thread, so that no other upload appends meanwhile. */
        int err = c->abort.started ? 0 : cut(t, c->model, &lc->cmd.e);
        CRASH_POINT("staged.abort_trimmed");
        return err == 0 ? upload_abort_step(t, c->model, &c->abort, &c->left) : err;
}

/* The next one's turn. */
static void abort_failed(struct scheduler *k, const struct model *m, uint32_t upload, int err,
                         const struct errinfo *e)
{
        k->abort.after = upload;
        if (retries_failed(&k->abort.retries))
                log_event(LOG_LEVEL_ERROR, "upload_not_removed",
                          "model=%s error=%s detail=\"%s\" action=\"tried again\"", m->config->name,
                          ul_err_name(err), e->detail);
}

static void abort_back(struct loop_command *lc, int err)
{
        struct abort_command *c = (struct abort_command *)lc;
        struct scheduler *k = lc->k;
        if (err == 0 && c->left && !k->stopping) {
                loop_submit(k, lc);
                return;
        }
        if (err != 0)
                abort_failed(k, c->model, c->abort.upload, err, &lc->cmd.e);
        CRASH_POINT("staged.abort_committed");
        k->aborting = false;
        model_unref(c->model);
        free(c);
        scheduler_wake(k);
}

struct find_off {
        struct service *service;
        uint32_t after, upload;
        struct model *model; /* referenced */
};

static int find_called_off(void *arg, uint32_t upload, const struct upload_row *row)
{
        struct find_off *f = arg;
        if (upload <= f->after || !upload_called_off(row))
                return 0;
        f->model = registry_find_id(f->service, row->model);
        if (f->model == NULL)
                return 0; /* it goes with its model */
        f->upload = upload;
        return 1;
}

/* Begins a round where it is time to. */
static void round_next(struct scheduler *k)
{
        struct abort_round *r = &k->abort;
        if (r->after == 0)
                return;
        if (mono_us() < r->retries.again_us) {
                loop_due(k, r->retries.again_us);
                return;
        }
        r->after = 0;
        retries_begin(&r->retries);
}

void uploads_pass(struct scheduler *k)
{
        struct txn *t = NULL;
        if (k->aborting || store_read(k->service->store, &t, NULL) != 0)
                return;
        round_next(k);
        struct find_off f = {.service = k->service, .after = k->abort.after};
        (void)t_upload_each(t, find_called_off, &f);
        txn_abort(&t);
        if (f.model == NULL) {
                if (k->abort.after == 0) /* nothing is left of what the log was told */
                        k->abort.retries = (struct retries){0};
                return;
        }
        struct abort_command *c = calloc(1, sizeof *c);
        if (c == NULL) {
                model_unref(f.model);
                return;
        }
        c->lc.run = abort_run;
        c->lc.back = abort_back;
        c->model = f.model;
        c->abort.upload = f.upload;
        k->aborting = true;
        loop_submit(k, &c->lc);
}
