/* SPDX-License-Identifier: Apache-2.0
 * scheduler.h: the loop thread as others see it: scheduler.c and the files beside it. */
#ifndef UNLEARND_DAEMON_SCHEDULER_H
#define UNLEARND_DAEMON_SCHEDULER_H

#include "daemon/state.h"

/* Puts it into the service, where the writer thread may find it at once. */
int scheduler_create(struct service *s, struct errinfo *e);
/* From any thread: look again at what is dirty, to be scrubbed, to be deleted. */
void scheduler_wake(struct scheduler *k);
/* Kills what runs, joins the loop. The writer must still run. */
void scheduler_stop(struct scheduler *k);
/* After the writer's end: its last commands still wake a stopped scheduler. */
void scheduler_destroy(struct scheduler *k);
uint64_t scheduler_heartbeat_us(const struct scheduler *k);
/* A verification of these shards (copied), made before its job is, so that a job never lacks one.
 * NULL: no memory. */
struct verification *verification_create(struct model *m, const uint32_t *shards, uint32_t count);
void verification_destroy(struct verification **v);
/* From any thread: begins it; the job's row exists already. */
void scheduler_verify(struct scheduler *k, struct verification *take,
                      const uint8_t job[ULID_BYTES]);
/* From any thread: scrub and purge a model that is marked `deleting`; done (may be NULL) after it.
 */
int scheduler_delete(struct scheduler *k, struct model *m_take, service_model_done done, void *arg);
uint32_t scheduler_running(const struct scheduler *k);
/* From another thread, while the loop runs: from its return on (until it is called with false) no
 * committed row is overwritten and no checkpoint unlinked. A checkpoint that a commit knows is
 * never replaced either: its shard is not trained before its scrubs are done. */
void scheduler_hold(struct scheduler *k, bool held);

#endif
