/* SPDX-License-Identifier: Apache-2.0
 * told.c: when others may know of a commit: not before the snapshots that go with it are served,
 * so that "forgotten" is true for whoever hears or reads of it too (invariant 4). Until then the
 * store is shown as it was before (lib/store/shown.h): nobody waits for it (invariant 8). */
#include "daemon/scheduler.h"
#include "daemon/state.h"

enum { OTHER_READERS = 3 }; /* beside the HTTP threads: the loop, the writer, the main thread */

int told_start(struct service *s, struct errinfo *e)
{
        return shown_open(s->store, s->config.http_threads + OTHER_READERS, &s->shown, e);
}

void told_stop(struct service *s)
{
        shown_close(&s->shown);
}

void told_published(void *service)
{
        struct service *s = service;
        struct txn *t = NULL;
        serving_publish_marked(service);
        shown_advance(s->shown);
        if (shown_read(s->shown, &t, NULL) == 0) {
                uint64_t size = audit_size(t);
                if (txn_error(t) == 0)
                        feed_told(s, size);
                txn_abort(&t);
        }
        if (s->delivery_made) {
                s->delivery_made = false;
                atomic_store(&s->deliveries_due, true);
                scheduler_wake(atomic_load(&s->scheduler));
        }
}

int told_read(struct service *s, struct txn **out, struct errinfo *e)
{
        return on_writer_thread(s->writer) ? store_read(s->store, out, e)
                                           : shown_read(s->shown, out, e);
}
