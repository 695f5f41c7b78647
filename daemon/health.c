/* SPDX-License-Identifier: Apache-2.0
 * health.c: see health.h. A log line is written where a fault begins and where it ends, never for
 * each request that it turned away. */
#include "daemon/health.h"

#include "lib/util/clock.h"
#include "lib/util/log.h"
#include <assert.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { RETRY_AFTER_S = 2 }; /* the loop looks every second whether a fault is over */

static const struct {
        const char *name, *what;
} reasons[HEALTH_REASONS] = {
        [HEALTH_STORE] = {"store", "the control database cannot be written"},
        [HEALTH_ROWS] = {"rows", "the row files of an upload cannot be written"},
        [HEALTH_SCRUB] = {"scrub", "erased data cannot be overwritten"},
        [HEALTH_FILES] = {"files", "job files and checkpoints cannot be written"},
        [HEALTH_LEDGER] = {"ledger",
                           "the erasure ledger cannot be written, so no erasure is accepted"},
        [HEALTH_WORKER] = {"worker", "the workers of a shard fail again and again"},
        [HEALTH_DAMAGE] = {"damage", "the control database is damaged"},
};

enum {
        ADVICE_NOSPACE,
        ADVICE_MAP,
        ADVICE_BUSY,
        ADVICE_IO,
        ADVICE_LEDGER,
        ADVICE_WORKER,
        ADVICE_DAMAGE
};
static const char *const advices[] = {
        [ADVICE_NOSPACE] = "free space on the file system of the data directory",
        [ADVICE_MAP] = "free space on the file system of the data directory, or raise map_bytes",
        [ADVICE_BUSY] = "raise LimitNOFILE or lower connections_max",
        [ADVICE_IO] = "look at the disk of the data directory and at the kernel's log",
        [ADVICE_LEDGER] =
                "look at the disk of ledger_dir: its space, its mount and the kernel's log",
        [ADVICE_WORKER] = "look at the job's error, worker_memory_bytes and worker_seconds",
        [ADVICE_DAMAGE] = "stop it, and put the newest backup back: unlearnctl restore",
};

static const char *advice(enum health_reason r, int err)
{
        if (r == HEALTH_WORKER)
                return advices[ADVICE_WORKER];
        if (r == HEALTH_LEDGER)
                return advices[ADVICE_LEDGER];
        if (r == HEALTH_DAMAGE)
                return advices[ADVICE_DAMAGE];
        if (r == HEALTH_STORE && err == UL_NOSPACE)
                return advices[ADVICE_MAP];
        return advices[err == UL_NOSPACE ? ADVICE_NOSPACE
                       : err == UL_BUSY  ? ADVICE_BUSY
                                         : ADVICE_IO];
}

void health_init(struct health *h)
{
        memset(h, 0, sizeof *h);
        pthread_mutex_init(&h->lock, NULL);
}

void health_destroy(struct health *h)
{
        pthread_mutex_destroy(&h->lock);
}

const char *health_name(enum health_reason r)
{
        assert(r < HEALTH_REASONS);
        return reasons[r].name;
}

bool health_is_fault(int err)
{
        return err == UL_IO || err == UL_NOSPACE || err == UL_BUSY;
}

void health_begin(struct health *h, enum health_reason r, int err, const char *detail)
{
        if (!health_is_fault(err) && r != HEALTH_WORKER && r != HEALTH_DAMAGE)
                return;
        atomic_fetch_add(&h->count[r], 1);
        pthread_mutex_lock(&h->lock);
        bool begins = !h->fault[r].stands;
        if (begins) {
                h->fault[r].stands = true;
                h->fault[r].err = err;
                h->fault[r].since_us = mono_us();
                atomic_fetch_or(&h->standing, 1u << r);
        }
        pthread_mutex_unlock(&h->lock);
        if (begins)
                log_event(LOG_LEVEL_ERROR, "degraded",
                          "reason=%s error=%s detail=\"%s\" advice=\"%s\"", reasons[r].name,
                          ul_err_name(err), detail, advice(r, err));
}

void health_end(struct health *h, enum health_reason r)
{
        uint64_t since_us = 0;
        if (!health_stands(h, r))
                return;
        pthread_mutex_lock(&h->lock);
        bool ends = h->fault[r].stands;
        if (ends) {
                since_us = h->fault[r].since_us;
                h->fault[r].stands = false;
                atomic_fetch_and(&h->standing, ~(1u << r));
        }
        pthread_mutex_unlock(&h->lock);
        if (ends)
                log_event(LOG_LEVEL_INFO, "recovered", "reason=%s after_seconds=%.1f",
                          reasons[r].name, (double)(mono_us() - since_us) / 1e6);
}

bool health_stands(const struct health *h, enum health_reason r)
{
        return (atomic_load(&h->standing) >> r & 1) != 0;
}

uint64_t health_count(const struct health *h, enum health_reason r)
{
        return atomic_load(&h->count[r]);
}

static int refuse(struct health *h, uint32_t among, struct errinfo *e)
{
        for (enum health_reason r = 0; r < HEALTH_REASONS; r++) {
                if ((among >> r & 1) == 0)
                        continue;
                pthread_mutex_lock(&h->lock);
                bool stands = h->fault[r].stands;
                int err = h->fault[r].err;
                pthread_mutex_unlock(&h->lock);
                if (!stands)
                        continue; /* it ended just now */
                (void)ul_fail(e, UL_UNAVAILABLE, "degraded (%s, %s): %s; %s", reasons[r].name,
                              ul_err_name(err), reasons[r].what, advice(r, err));
                if (e != NULL)
                        e->retry_after_s = RETRY_AFTER_S;
                return UL_UNAVAILABLE;
        }
        return 0;
}

static int among(struct health *h, uint32_t reasons_asked, struct errinfo *e)
{
        if (health_failed(h))
                return ul_fail(e, UL_CLOSED,
                               "the control database failed and the daemon starts again; send the "
                               "request again, with its Idempotency-Key");
        return refuse(h, atomic_load(&h->standing) & reasons_asked, e);
}

int health_accepts(struct health *h, enum health_change change, struct errinfo *e)
{
        return among(h,
                     change == HEALTH_ERASES ? 1u << HEALTH_STORE | 1u << HEALTH_LEDGER
                                             : ~(1u << HEALTH_WORKER | 1u << HEALTH_LEDGER),
                     e);
}

int health_ready(struct health *h, struct errinfo *e)
{
        return among(h, ~(1u << HEALTH_WORKER), e);
}

void health_fail(struct health *h, const char *detail)
{
        if (atomic_exchange(&h->failed, true))
                return;
        log_event(LOG_LEVEL_ERROR, "store_failed",
                  "detail=\"%s\" action=\"the daemon ends; its next start recovers what was "
                  "committed\" advice=\"%s\"",
                  detail, advices[ADVICE_IO]);
        (void)kill(getpid(), SIGTERM);
}

bool health_failed(const struct health *h)
{
        return atomic_load(&h->failed);
}
