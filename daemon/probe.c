/* SPDX-License-Identifier: Apache-2.0
 * probe.c: looks, every second while something is wrong, whether it still is: a small durable file,
 * then a durable commit; and does again what only the writer thread may do (cut off what a failed
 * upload left, publish a snapshot that could not be made). What was overwritten in vain is done
 * again by whoever had it to do: scrub.c, delete.c, runs.c. */
#include "daemon/loop.h"
#include "daemon/scheduler.h"
#include "daemon/upload.h"
#include "lib/ledger/ledger.h"

#include <stdlib.h>

enum {
        PROBE_US = 1000000,
        PROBE_BYTES = 1 << 20, /* room for a commit and a batch of rows */
};

struct probe {
        struct command cmd;
        struct call call;
        struct scheduler *k;
        bool untrimmed; /* of some model, still */
        int ledger_err; /* of a ledger that could not be written */
        int err;
};

/* A change, so that LMDB writes and syncs its pages and its meta page. */
static int touch_store(struct command *c, struct txn *t)
{
        struct probe *p = (struct probe *)c;
        struct service *s = p->k->service;
        uint64_t n = 0;
        if (health_stands(&s->health, HEALTH_LEDGER)) /* the writer's own file */
                p->ledger_err = ledger_probe(s->ledger, NULL);
        int err = t_counter_get(t, "probes", &n);
        return err == 0 ? t_counter_put(t, "probes", n + 1) : err;
}

/* Writer thread, after its group: rows that are not committed are nobody's now. */
static void settle(struct command *c, int err)
{
        struct probe *p = (struct probe *)c;
        struct service *s = p->k->service;
        struct model **models = NULL;
        uint32_t count = 0;
        p->err = err;
        if (err == 0)
                intake_call_off_again(s);
        else /* what it was to do again is still to be done */
                atomic_store(&s->unsettled, true);
        p->untrimmed = registry_all(s, &models, &count, NULL) != 0;
        for (uint32_t i = 0; i < count; i++) {
                if (models[i]->untrimmed && !atomic_load(&models[i]->deleting))
                        upload_undo(models[i]);
                p->untrimmed |= models[i]->untrimmed;
        }
        registry_release(models, count);
        loop_post(p->k, &p->call);
}

static bool store_has_room(struct store *s)
{
        uint64_t room;
        return store_room(s, &room, NULL) == 0 && room >= PROBE_BYTES;
}

static void probed(struct call *call)
{
        struct probe *p = (struct probe *)((char *)call - offsetof(struct probe, call));
        struct scheduler *k = p->k;
        struct health *h = &k->service->health;
        k->probing = false;
        k->commands--;
        if (p->err == 0 && store_has_room(k->service->store))
                health_end(h, HEALTH_STORE);
        if (p->err == 0 && !p->untrimmed)
                health_end(h, HEALTH_ROWS);
        if (p->err == 0 && p->ledger_err == 0)
                health_end(h, HEALTH_LEDGER);
        free(p);
        scheduler_wake(k);
}

/* Rows end with what was cut off, the store with a commit: both at the writer. */
static void probe_writer(struct scheduler *k)
{
        struct probe *p = calloc(1, sizeof *p);
        if (p == NULL)
                return;
        *p = (struct probe){
                .cmd = {.run = touch_store, .done = settle}, .call = {.fn = probed}, .k = k};
        atomic_store(&k->service->unsettled, false); /* set again by whatever fails again */
        if (writer_submit(k->service->writer, &p->cmd, NULL) != 0) {
                atomic_store(&k->service->unsettled, true);
                free(p);
                return;
        }
        k->probing = true;
        k->commands++;
}

static int probe_file(struct service *s, struct errinfo *e)
{
        char path[PATH_SIZE];
        char *zeros = calloc(1, PROBE_BYTES);
        int err = zeros == NULL ? ul_fail(e, UL_NOMEM, "no memory for a probe")
                                : path_format(path, e, "%s/probe", s->scratch_dir);
        if (err == 0)
                err = write_file_durably(path, zeros, PROBE_BYTES, e);
        if (err == 0)
                err = scrub_and_unlink(path, e);
        free(zeros);
        return err;
}

void probe_pass(struct scheduler *k)
{
        struct service *s = k->service;
        struct health *h = &s->health;
        struct errinfo e = {0};
        bool rows = health_stands(h, HEALTH_ROWS);
        bool store = health_stands(h, HEALTH_STORE);
        bool files = health_stands(h, HEALTH_FILES);
        bool ledger = health_stands(h, HEALTH_LEDGER);
        if (health_stands(h, HEALTH_WORKER) && !runs_failing(k))
                health_end(h, HEALTH_WORKER);
        if (k->probing || health_failed(h) ||
            (!rows && !store && !files && !ledger && !atomic_load(&s->unsettled)))
                return;
        if (mono_us() < k->probe_us) {
                loop_due(k, k->probe_us);
                return;
        }
        k->probe_us = mono_us() + PROBE_US;
        loop_due(k, k->probe_us);
        bool written = probe_file(s, &e) == 0;
        if (written)
                health_end(h, HEALTH_FILES);
        if (written || ledger) /* the ledger is on another disk */
                probe_writer(k);
}
