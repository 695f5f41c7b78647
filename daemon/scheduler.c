/* SPDX-License-Identifier: Apache-2.0
 * scheduler.c: the loop thread. On every wake it looks at the store and does what is due, in this
 * order: kill what was superseded, remove called-off uploads, scrub, compact, delete, complete,
 * then start workers (schedule.c says which). All it knows is in the store, so that after a crash
 * the first look finds everything again (STYLE.md 19). */
#include "daemon/scheduler.h"
#include "daemon/erasure.h"
#include "daemon/loop.h"
#include "daemon/run.h"

#include "lib/util/log.h"
#include <assert.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

enum { BEAT_MS = 500, COMPLETE_STEP = 512 };

void loop_post(struct scheduler *k, struct call *c)
{
        pthread_mutex_lock(&k->lock);
        c->next = k->posted;
        k->posted = c;
        pthread_mutex_unlock(&k->lock);
        (void)uv_async_send(&k->async);
}

void loop_due(struct scheduler *k, uint64_t at_us)
{
        if (k->next_due_us == 0 || at_us < k->next_due_us)
                k->next_due_us = at_us;
}

/* --- commands of the loop --- */

static int command_run(struct command *c, struct txn *t)
{
        struct loop_command *lc = (struct loop_command *)c;
        int err = lc->run(lc, t);
        return err != 0 ? err : txn_error(t);
}

static void command_committed(struct command *c)
{
        struct loop_command *lc = (struct loop_command *)c;
        lc->fx.wake = false; /* the call back wakes the loop */
        effects_apply(lc->k->service, &lc->fx);
}

static void command_back(struct call *call)
{
        struct loop_command *lc =
                (struct loop_command *)((char *)call - offsetof(struct loop_command, call));
        lc->k->commands--;
        lc->back(lc, lc->err);
}

static void command_done(struct command *c, int err)
{
        struct loop_command *lc = (struct loop_command *)c;
        effects_clear(&lc->fx);
        if (err != 0 && lc->undo != NULL)
                lc->undo(lc);
        lc->err = err;
        lc->call.fn = command_back;
        loop_post(lc->k, &lc->call);
}

void loop_submit(struct scheduler *k, struct loop_command *c)
{
        c->cmd.run = command_run;
        c->cmd.committed = command_committed;
        c->cmd.done = command_done;
        c->k = k;
        k->commands++;
        int err = writer_submit(k->service->writer, &c->cmd, &c->cmd.e);
        if (err != 0) { /* the queue is full: later, on the loop as always */
                c->err = err;
                c->call.fn = command_back;
                loop_post(k, &c->call);
        }
}

/* --- erasures that wait for a shard which is clean already (more than one publication completes)
 * --- */

struct complete_command {
        struct loop_command lc;
        uint32_t model, shard;
};

static int complete_run(struct loop_command *lc, struct txn *t)
{
        struct complete_command *c = (struct complete_command *)lc;
        struct shard_row row;
        bool left;
        int err = t_shard_get(t, c->model, c->shard, &row);
        if (err == UL_NOT_FOUND || (err == 0 && row.clean < row.slices))
                return 0; /* deleted, or an erasure came since: those wait for its retrain */
        return err != 0 ? err
                        : erasures_complete_shard(lc->k->service, t, c->model, c->shard,
                                                  COMPLETE_STEP, &left);
}

static void complete_back(struct loop_command *lc, int err)
{
        if (err != 0)
                loop_due(lc->k, mono_us() + 1000000);
        else
                scheduler_wake(lc->k); /* there may be more */
        lc->k->completing = false;
        free(lc);
}

static void complete_shard(struct scheduler *k, uint32_t model, uint32_t shard)
{
        struct complete_command *c = calloc(1, sizeof *c);
        if (c == NULL) {
                loop_due(k, mono_us() + 1000000);
                return;
        }
        c->lc.run = complete_run;
        c->lc.back = complete_back;
        c->model = model;
        c->shard = shard;
        k->completing = true;
        loop_submit(k, &c->lc);
}

static void complete_pass(struct scheduler *k)
{
        struct model **models = NULL;
        uint32_t count = 0;
        struct txn *t = NULL;
        if (k->completing || registry_all(k->service, &models, &count, NULL) != 0)
                return;
        if (store_read(k->service->store, &t, NULL) != 0)
                goto out;
        for (uint32_t i = 0; i < count && !k->completing; i++) {
                for (uint32_t shard = 0; shard < models[i]->config->shards; shard++) {
                        struct shard_row row;
                        if (t_shard_get(t, models[i]->id, shard, &row) == 0 && row.waiting > 0 &&
                            row.clean >= row.slices) {
                                complete_shard(k, models[i]->id, shard);
                                break;
                        }
                }
        }
        txn_abort(&t);
out:
        registry_release(models, count);
}

/* --- the thread --- */

static void run_posted(struct scheduler *k)
{
        pthread_mutex_lock(&k->lock);
        struct call *list = k->posted;
        k->posted = NULL;
        pthread_mutex_unlock(&k->lock);
        struct call *in_order = NULL;
        while (list != NULL) { /* posted newest first */
                struct call *next = list->next;
                list->next = in_order;
                in_order = list;
                list = next;
        }
        while (in_order != NULL) {
                struct call *c = in_order;
                in_order = c->next;
                c->fn(c);
        }
}

static void on_handle_closed(uv_handle_t *h)
{
        (void)h;
}

/* Everything that is due. While the store cannot be written nothing of it could be recorded. */
static void passes(struct scheduler *k)
{
        struct health *h = &k->service->health;
        k->scrub_failed = false;
        runs_kill_stale(k);
        runs_unpark(k);
        runs_leave(k);
        if (!health_stands(h, HEALTH_STORE)) {
                uploads_pass(k);
                if (!k->held) {
                        scrub_pass(k);
                        compact_pass(k);
                        delete_pass(k);
                }
                complete_pass(k);
                pending_pass(k);
                retention_pass(k);
                runs_pass(k);
                verify_pass(k);
                if (!k->service->config.hold_outgoing) {
                        outgoing_pass(k);
                        witness_pass(k);
                }
                if (!k->held && !k->scrub_failed && !k->scrubbing)
                        health_end(h, HEALTH_SCRUB);
        }
        probe_pass(k);
}

static void answer_hold(struct scheduler *k);

static void look(struct scheduler *k)
{
        atomic_store(&k->heartbeat_us, mono_us());
        k->next_due_us = 0;
        feed_beat(k->service);
        run_posted(k);
        answer_hold(k);
        if (k->stopping) {
                runs_kill_all(k);
                runs_unpark(k);
                runs_leave(k);
                outgoing_stop(k);
                witness_stop(k);
                if (k->runs == NULL && k->commands == 0 &&
                    !uv_is_closing((uv_handle_t *)&k->async)) {
                        uv_close((uv_handle_t *)&k->async, on_handle_closed);
                        uv_close((uv_handle_t *)&k->timer, on_handle_closed);
                        return;
                }
        } else {
                passes(k);
        }
        uint32_t running = 0;
        for (const struct run *r = k->runs; r != NULL; r = r->next)
                running += !r->leaving;
        atomic_store(&k->running, running);
        uint64_t wait_ms = BEAT_MS;
        uint64_t now = mono_us();
        if (k->next_due_us != 0 && k->next_due_us < now + BEAT_MS * 1000)
                wait_ms = k->next_due_us > now ? (k->next_due_us - now) / 1000 + 1 : 1;
        if (!uv_is_closing((uv_handle_t *)&k->timer))
                (void)uv_timer_start(&k->timer, k->timer.timer_cb, wait_ms, 0);
        atomic_store(&k->heartbeat_us, mono_us());
}

static void on_async(uv_async_t *a)
{
        look(a->data);
}

static void on_timer(uv_timer_t *timer)
{
        look(timer->data);
}

static void *loop_main(void *arg)
{
        struct scheduler *k = arg;
        atomic_store(&k->service->scheduler, k); /* it finds itself through the service */
        (void)uv_run(&k->loop, UV_RUN_DEFAULT);
        return NULL;
}

int scheduler_create(struct service *s, struct errinfo *e)
{
        struct scheduler *k = calloc(1, sizeof *k);
        if (k == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the scheduler");
        k->service = s;
        atomic_store(&k->heartbeat_us, mono_us());
        pthread_mutex_init(&k->lock, NULL);
        int rc = uv_loop_init(&k->loop);
        if (rc != 0) {
                free(k);
                return ul_fail(e, UL_INTERNAL, "the event loop cannot start: %s", uv_strerror(rc));
        }
        int err = executor_local_create(&k->loop, s->config.worker_path, &k->executor, e);
        if (err != 0)
                goto fail;
        err = outgoing_create(k, e);
        if (err != 0)
                goto fail_executor;
        err = witness_create(k, e);
        if (err != 0)
                goto fail_outgoing;
        rc = uv_async_init(&k->loop, &k->async, on_async);
        if (rc == 0)
                rc = uv_timer_init(&k->loop, &k->timer);
        k->async.data = k;
        k->timer.data = k;
        if (rc == 0)
                rc = uv_timer_start(&k->timer, on_timer, 1, 0);
        if (rc == 0)
                rc = pthread_create(&k->thread, NULL, loop_main, k);
        if (rc == 0) { /* not before: the writer thread must not find what may be freed again */
                atomic_store(&s->scheduler, k);
                return 0;
        }
        err = ul_fail(e, UL_INTERNAL, "the loop thread cannot start (error %d)", rc);
        witness_stop(k);
        witness_destroy(k);
fail_outgoing:
        outgoing_stop(k);
        outgoing_destroy(k);
fail_executor:
        k->executor->ops->destroy(&k->executor);
fail:
        (void)uv_loop_close(&k->loop);
        pthread_mutex_destroy(&k->lock);
        free(k);
        return err;
}

void scheduler_wake(struct scheduler *k)
{
        if (k != NULL)
                (void)uv_async_send(&k->async);
}

struct hold_call {
        struct call call;
        struct scheduler *k;
        bool held;
        sem_t done;
};

/* What is on its way to the writer already may still replace a checkpoint, or say that a row file
 * is empty: not before it is back. */
static void answer_hold(struct scheduler *k)
{
        struct hold_call *h = k->hold;
        if (h == NULL || (h->held && (runs_replacing(k) || k->compacting)))
                return;
        k->hold = NULL;
        (void)sem_post(&h->done);
}

static void hold_fn(struct call *c)
{
        struct hold_call *h = (struct hold_call *)c;
        h->k->held = h->held;
        h->k->hold = h; /* one backup at a time */
        answer_hold(h->k);
}

void scheduler_hold(struct scheduler *k, bool held)
{
        struct hold_call h = {.call = {.fn = hold_fn}, .k = k, .held = held};
        (void)sem_init(&h.done, 0, 0); /* cannot fail: not shared, and 0 is a value */
        loop_post(k, &h.call);
        while (sem_wait(&h.done) != 0)
                continue; /* EINTR */
        (void)sem_destroy(&h.done);
}

struct stop_call {
        struct call call;
        struct scheduler *k;
};

static void stop_fn(struct call *c)
{
        ((struct stop_call *)c)->k->stopping = true;
}

void scheduler_stop(struct scheduler *k)
{
        if (k == NULL)
                return;
        struct stop_call stop = {.call = {.fn = stop_fn}, .k = k};
        loop_post(k, &stop.call);
        pthread_join(k->thread, NULL);
        assert(k->runs == NULL && k->commands == 0);
}

void scheduler_destroy(struct scheduler *k)
{
        if (k == NULL)
                return;
        run_posted(k); /* what the writer's last commands posted is taken over, to be given up */
        k->executor->ops->destroy(&k->executor);
        /* Whatever the executor closed at its end still has a callback to come. */
        while (uv_loop_close(&k->loop) == UV_EBUSY)
                (void)uv_run(&k->loop, UV_RUN_NOWAIT);
        outgoing_destroy(k);
        witness_destroy(k);
        verify_clear(k);
        delete_clear(k);
        for (struct backoff *b = k->backoffs; b != NULL;) {
                struct backoff *next = b->next;
                free(b);
                b = next;
        }
        pthread_mutex_destroy(&k->lock);
        atomic_store(&k->service->scheduler, NULL);
        free(k);
}

uint64_t scheduler_heartbeat_us(const struct scheduler *k)
{
        return atomic_load(&k->heartbeat_us);
}

uint32_t scheduler_running(const struct scheduler *k)
{
        return atomic_load(&k->running);
}
