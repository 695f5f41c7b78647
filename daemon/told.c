/* SPDX-License-Identifier: Apache-2.0
 * told.c: when others may be told of a commit: not before the snapshots that go with it are served,
 * so that "forgotten" is true for whoever hears of it too (invariant 4). The writer's hooks. */
#include "daemon/state.h"

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
        feed_told(s, s->will_tell);
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
