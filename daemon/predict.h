/* SPDX-License-Identifier: Apache-2.0
 * predict.h: gathers the predictions that wait into one batch a model and answers them on its own
 * threads. It waits for nothing: whatever is there when a thread comes free is the batch. The
 * public side (struct predict and its accessors) is in service.h. */
#ifndef UNLEARND_DAEMON_PREDICT_H
#define UNLEARND_DAEMON_PREDICT_H

#include "daemon/encoding.h"
#include "daemon/service.h"
#include "daemon/snapshot.h"

struct predictor;
int predictor_create(uint32_t threads, struct predictor **out, struct errinfo *e);
/* Answers what is queued (UL_CLOSED for what comes later), joins the threads. Every prediction must
 * be closed by then, those that are queued by their `done`. */
void predictor_destroy(struct predictor **p);

/* config, encoding and cell are borrowed; `release(hold)` is called by predict_close. On failure
 * (UL_UNAVAILABLE with retry_after_s = 1 where nothing clean can answer, UL_NOMEM) `hold` stays the
 * caller's.
 *
 * A batch holds the snapshot that answers it until the `done` of each of its predictions has
 * returned, so that no answer of an old snapshot leaves after the erasure's 202 (invariant 4): done
 * must only set the reply and resume the connection; what waits in it makes erasures wait. It may
 * call predict_close. */
int predict_create(struct predictor *p, const struct model_config *config,
                   const struct encoding *encoding, struct snapshot_cell *cell, void *hold,
                   void (*release)(void *hold), struct predict **out, struct errinfo *e);

#endif
