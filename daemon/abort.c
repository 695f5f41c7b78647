/* SPDX-License-Identifier: Apache-2.0
 * abort.c: removes staged uploads that were called off: first their rows, here, so that the writer
 * waits for no disk, then their index entries; both in bounded steps. With the last of those it is
 * over, and an erasure that waited for it is scrubbed. What a file that cannot be opened holds is
 * not gone, so that such an upload stays until it can; it keeps no other one. */
#include "daemon/loop.h"
#include "daemon/scheduler.h"
#include "daemon/upload.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdlib.h>

enum { CUT_BYTES = CRASH_POINTS ? 1 << 16 : 8 << 20 /* of a look */, RETRY_US = 1000000 };

/* --- index entries --- */

struct abort_command {
        struct loop_command lc;
        struct model *model; /* referenced */
        struct upload_abort abort;
        bool left;
};

static int abort_run(struct loop_command *lc, struct txn *t)
{
        struct abort_command *c = (struct abort_command *)lc;
        return upload_abort_step(t, c->model, &c->abort, &c->left);
}

/* The next one's turn. */
static void abort_failed(struct scheduler *k, const struct model *m, uint32_t upload, int err,
                         const struct errinfo *e)
{
        k->abort.after = upload;
        k->abort.upload = 0;
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

static void submit(struct scheduler *k, struct model *m, uint32_t upload)
{
        struct abort_command *c = calloc(1, sizeof *c);
        if (c == NULL) {
                loop_due(k, mono_us() + RETRY_US);
                return;
        }
        c->lc.run = abort_run;
        c->lc.back = abort_back;
        c->model = model_ref(m);
        c->abort.upload = upload;
        k->aborting = true;
        loop_submit(k, &c->lc);
}

/* --- rows --- */

/* UL_AGAIN: there are more of them. */
static int cut_rows(struct abort_round *r, struct txn *t, struct model *m, uint32_t upload,
                    struct errinfo *e)
{
        uint64_t budget = CUT_BYTES;
        if (r->upload != upload) {
                r->upload = upload;
                r->shard = 0;
                r->unopened = (struct errinfo){0};
        }
        for (; r->shard < m->config->shards; r->shard++) {
                int err = budget == 0 ? UL_AGAIN : upload_cut(t, m, r->shard, &budget, e);
                if (err == UL_NOT_FOUND || err == UL_CORRUPT)
                        r->unopened = *e; /* the other shards' go all the same */
                else if (err != 0)
                        return err;
        }
        *e = r->unopened;
        return e->code;
}

static void carry_on(struct scheduler *k, struct txn *t, struct model *m, uint32_t upload)
{
        struct errinfo e = {0};
        int err = cut_rows(&k->abort, t, m, upload, &e);
        if (err == UL_AGAIN) {
                CRASH_POINT("staged.abort_cut");
                loop_due(k, mono_us());
        } else if (err != 0) {
                abort_failed(k, m, upload, err, &e);
                loop_due(k, mono_us()); /* whose turn is next */
        } else {
                CRASH_POINT("staged.abort_trimmed");
                submit(k, m, upload);
        }
}

/* --- whose turn it is --- */

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
        if (f.model != NULL) {
                carry_on(k, t, f.model, f.upload);
                model_unref(f.model);
        } else if (k->abort.after == 0) { /* nothing is left of what the log was told */
                k->abort.retries = (struct retries){0};
        }
        txn_abort(&t);
}
