/* SPDX-License-Identifier: Apache-2.0
 * writer.c: see writer.h. A group ends when the queue is empty, at GROUP_MAX commands, or after
 * GROUP_US of work, so that no transaction is held for longer than a client may wait. */
#include "daemon/writer.h"

#include "daemon/metrics.h"
#include "lib/audit/log.h"
#include "lib/util/clock.h"
#include "lib/util/crash_point.h"
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum {
        GROUP_MAX = 512,   /* commands: the gain of one sync is spent long before */
        GROUP_US = 50000,  /* DESIGN.md: no longer than 50 ms in one transaction */
        QUEUE_MAX = 65536, /* commands: over it the daemon says so rather than grow */
        IDLE_WAKE_S = 1,   /* shows the watchdog that the thread lives */
};

struct writer {
        /* set once */
        struct store *store;
        const struct audit_log *log;
        struct writer_hooks hooks;
        pthread_t thread;
        /* writer thread */
        struct metric_held held; /* of the present group */
        /* shared, under mutex */
        pthread_mutex_t mutex;
        pthread_cond_t arrived;
        struct command *head, *tail;
        uint32_t queued;
        bool closing;
        /* any thread */
        _Atomic uint64_t heartbeat_us;
};

static struct command *take(struct writer *w)
{
        struct command *c = w->head;
        if (c != NULL) {
                w->head = c->next;
                if (w->head == NULL)
                        w->tail = NULL;
                w->queued--;
                c->next = NULL;
        }
        return c;
}

/* Waits for a command; NULL when closing and nothing is left. */
static struct command *take_waiting(struct writer *w)
{
        pthread_mutex_lock(&w->mutex);
        struct command *c = take(w);
        while (c == NULL && !w->closing) {
                struct timespec until;
                clock_gettime(CLOCK_MONOTONIC, &until);
                until.tv_sec += IDLE_WAKE_S;
                pthread_cond_timedwait(&w->arrived, &w->mutex, &until);
                atomic_store(&w->heartbeat_us, mono_us());
                c = take(w);
        }
        pthread_mutex_unlock(&w->mutex);
        return c;
}

static struct command *take_now(struct writer *w)
{
        pthread_mutex_lock(&w->mutex);
        struct command *c = take(w);
        pthread_mutex_unlock(&w->mutex);
        return c;
}

static int finish_child(struct command *c, struct txn **child)
{
        int err = txn_commit(child, &c->e);
        if (err != 0)
                buf_reset(&c->ledger, false);
        return err;
}

static int run_in_child(struct writer *w, struct command *c, struct txn *parent)
{
        struct txn *child = NULL;
        int err = store_nested(parent, &child, &c->e);
        if (err != 0)
                return err;
        metric_hold(&w->held);
        err = c->run(c, child);
        metric_hold(NULL);
        if (err == 0)
                return finish_child(c, &child);
        bool store = txn_error(child) == err; /* not the command's own refusal */
        txn_abort(&child);
        buf_reset(&c->ledger, false);
        return store ? w->hooks.failed(w->hooks.arg, err, &c->e) : err;
}

/* Nothing of the group was made: every command that ran is told so. */
static void fail_group(struct writer *w, struct command *first, int err, struct errinfo *e)
{
        if (e->code == 0)
                (void)ul_fail(e, err, "the change was not committed");
        err = w->hooks.failed(w->hooks.arg, err, e);
        for (struct command *c = first; c != NULL; c = c->next) {
                if (c->err == 0) {
                        c->err = err;
                        c->e = *e;
                }
        }
}

/* What must be durable elsewhere goes first: see ledger_write.c for what a crash in between does.
 */
static int commit_group(struct writer *w, const struct command *first, struct txn **t,
                        struct errinfo *e)
{
        int err = audit_checkpoint_sign(*t, w->log);
        CRASH_POINT("commit.signed");
        if (err == 0 && w->hooks.before_commit != NULL)
                err = w->hooks.before_commit(w->hooks.arg, first, *t, e);
        if (err != 0) {
                txn_abort(t);
                return err;
        }
        err = txn_commit(t, e);
        CRASH_POINT("commit.committed");
        if (err != 0 && w->hooks.commit_failed != NULL)
                w->hooks.commit_failed(w->hooks.arg);
        return err;
}

/* Runs one group; returns the commands in order, each with its err set. */
static struct command *run_group(struct writer *w, struct command *first, uint32_t *count)
{
        struct command *tail = first;
        struct errinfo e = {0};
        struct txn *t = NULL;
        uint64_t began = mono_us();
        int err = store_write(w->store, &t, &e);
        uint32_t ok = 0;

        *count = 0;
        for (struct command *c = first; c != NULL; c = take_now(w)) {
                if (c != first) {
                        tail->next = c;
                        tail = c;
                }
                ++*count;
                uint32_t counted = w->held.count;
                c->err = err != 0 ? 0 : run_in_child(w, c, t);
                ok += c->err == 0;
                if (c->err != 0)
                        metric_held_drop(&w->held, counted);
                if (*count >= GROUP_MAX || mono_us() - began > GROUP_US)
                        break;
        }
        if (err == 0 && ok > 0) {
                err = commit_group(w, first, &t, &e);
                metric_add(METRIC_COMMITS, 1);
                metric_observe(METRIC_COMMIT_SECONDS, (double)(mono_us() - began) / 1e6);
        } else if (t != NULL) {
                txn_abort(&t);
        }
        metric_held_end(&w->held, err == 0);
        if (err != 0)
                fail_group(w, first, err, &e);
        return first;
}

static void finish_group(struct writer *w, struct command *first)
{
        for (struct command *c = first; c != NULL; c = c->next)
                if (c->err == 0 && c->committed != NULL)
                        c->committed(c);
        w->hooks.publish(w->hooks.arg);
        CRASH_POINT("commit.published");
        for (struct command *c = first; c != NULL;) {
                struct command *next = c->next; /* done ends the command's life */
                buf_free(&c->ledger, false);
                c->done(c, c->err);
                c = next;
        }
}

static void *writer_main(void *arg)
{
        struct writer *w = arg;
        struct command *first;
        store_bind_writer(w->store);
        while ((first = take_waiting(w)) != NULL) {
                uint32_t count = 0;
                atomic_store(&w->heartbeat_us, mono_us());
                first = run_group(w, first, &count);
                metric_add(METRIC_COMMANDS, count);
                finish_group(w, first);
                atomic_store(&w->heartbeat_us, mono_us());
        }
        return NULL;
}

int writer_create(struct store *store, const struct audit_log *log,
                  const struct writer_hooks *hooks, struct writer **out, struct errinfo *e)
{
        struct writer *w = calloc(1, sizeof *w);
        pthread_condattr_t attr;
        if (w == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the writer");
        w->store = store;
        w->log = log;
        w->hooks = *hooks;
        atomic_store(&w->heartbeat_us, mono_us());
        pthread_mutex_init(&w->mutex, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&w->arrived, &attr);
        pthread_condattr_destroy(&attr);
        int rc = pthread_create(&w->thread, NULL, writer_main, w);
        if (rc != 0) {
                pthread_cond_destroy(&w->arrived);
                pthread_mutex_destroy(&w->mutex);
                free(w);
                return ul_fail(e, UL_INTERNAL, "cannot start the writer thread (error %d)", rc);
        }
        *out = w;
        return 0;
}

void writer_destroy(struct writer **pw)
{
        struct writer *w = *pw;
        if (w == NULL)
                return;
        pthread_mutex_lock(&w->mutex);
        w->closing = true;
        pthread_cond_signal(&w->arrived);
        pthread_mutex_unlock(&w->mutex);
        pthread_join(w->thread, NULL);
        assert(w->head == NULL);
        pthread_cond_destroy(&w->arrived);
        pthread_mutex_destroy(&w->mutex);
        free(w);
        *pw = NULL;
}

int writer_submit(struct writer *w, struct command *c, struct errinfo *e)
{
        int err = 0;
        assert(c->run != NULL && c->done != NULL);
        c->next = NULL;
        c->err = 0;
        pthread_mutex_lock(&w->mutex);
        if (w->closing) {
                err = ul_fail(e, UL_CLOSED, "the daemon is stopping");
        } else if (w->queued >= QUEUE_MAX) {
                err = ul_fail(e, UL_BUSY, "too many changes are waiting; try again in a second");
                if (e != NULL)
                        e->retry_after_s = 1;
        } else {
                if (w->tail != NULL)
                        w->tail->next = c;
                else
                        w->head = c;
                w->tail = c;
                w->queued++;
                pthread_cond_signal(&w->arrived);
        }
        pthread_mutex_unlock(&w->mutex);
        return err;
}

bool on_writer_thread(const struct writer *w)
{
        return pthread_equal(pthread_self(), w->thread) != 0;
}

uint64_t writer_heartbeat_us(const struct writer *w)
{
        return atomic_load(&w->heartbeat_us);
}
