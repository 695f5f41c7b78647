/* SPDX-License-Identifier: Apache-2.0
 * told.c: when others may know of a commit: not before the snapshots that go with it are served,
 * so that "forgotten" is true for whoever hears or reads of it too (invariant 4). The writer's
 * hooks, and the reads of the API. */
#include "daemon/state.h"

#include <time.h>

enum { SERVED_WAIT_S = 5 }; /* publishing takes milliseconds: a longer wait is a fault */

void told_init(struct service *s)
{
        pthread_condattr_t attr;
        pthread_mutex_init(&s->told_lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&s->told_more, &attr);
        pthread_condattr_destroy(&attr);
}

void told_free(struct service *s)
{
        pthread_cond_destroy(&s->told_more);
        pthread_mutex_destroy(&s->told_lock);
}

int told_before_commit(void *service, const struct command *first, struct txn *t, struct errinfo *e)
{
        struct service *s = service;
        atomic_store(&s->untold, true);
        s->will_tell = audit_size(t);
        int err = ledger_before_commit(service, first, t, e);
        if (err != 0) /* there will be no commit */
                s->will_tell = atomic_load(&s->told);
        return err;
}

void told_commit_failed(void *service)
{
        struct service *s = service;
        s->will_tell = atomic_load(&s->told);
        ledger_commit_failed(service);
}

void told_published(void *service)
{
        struct service *s = service;
        serving_publish_marked(service);
        atomic_store(&s->untold, false);
        pthread_mutex_lock(&s->told_lock);
        feed_told(s, s->will_tell);
        pthread_cond_broadcast(&s->told_more);
        pthread_mutex_unlock(&s->told_lock);
        if (s->delivery_made) {
                s->delivery_made = false;
                atomic_store(&s->deliveries_due, true);
                scheduler_wake(atomic_load(&s->scheduler));
        }
}

bool told_all(struct service *s)
{
        return !atomic_load(&s->untold);
}

static bool wait_told(struct service *s, uint64_t size)
{
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += SERVED_WAIT_S;
        pthread_mutex_lock(&s->told_lock);
        int rc = 0;
        while (atomic_load(&s->told) < size && rc == 0)
                rc = pthread_cond_timedwait(&s->told_more, &s->told_lock, &until);
        bool told = atomic_load(&s->told) >= size;
        pthread_mutex_unlock(&s->told_lock);
        return told;
}

int told_read(struct service *s, struct txn **out, struct errinfo *e)
{
        int err = store_read(s->store, out, e);
        if (err != 0 || on_writer_thread(s->writer) || wait_told(s, audit_size(*out)))
                return err;
        txn_abort(out);
        err = ul_fail(e, UL_BUSY,
                      "a change that was made is not served yet; try again in a second");
        if (e != NULL)
                e->retry_after_s = 1;
        return err;
}
