/* SPDX-License-Identifier: Apache-2.0
 * predict.h: gathers the predictions that wait into one batch a model and answers them on its own
 * threads. It waits for nothing: whatever is there when a thread comes free is the batch. The
 * public side (struct predict and its accessors) is in service.h. */
#ifndef UNLEARND_DAEMON_PREDICT_H
#define UNLEARND_DAEMON_PREDICT_H

#include "daemon/service.h"
#include "daemon/snapshot.h"

struct predictor;
int predictor_create(uint32_t threads, struct predictor **out, struct errinfo *e);
/* Answers what is queued (UL_CLOSED for what comes later), joins the threads. */
void predictor_destroy(struct predictor **p);

/* config and cell are borrowed; `release(hold)` is called by predict_close. */
int predict_create(struct predictor *p, const struct model_config *config,
                   struct snapshot_cell *cell, void *hold, void (*release)(void *hold),
                   struct predict **out, struct errinfo *e);

#endif
