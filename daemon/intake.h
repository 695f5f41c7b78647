/* SPDX-License-Identifier: Apache-2.0
 * intake.h: what intake.c and evaluate.c share: a batch of rows that streamed in, and what becomes
 * of it. Nothing else includes it. */
#ifndef UNLEARND_DAEMON_INTAKE_H
#define UNLEARND_DAEMON_INTAKE_H

#include "daemon/state.h"
#include "daemon/upload.h"

struct batch {
        struct upload_item *items; /* [UPLOAD_BATCH_ROWS] */
        uint8_t *rows;             /* [capacity, row_bytes] */
        uint32_t count;
};

/* Sums over labelled records that were predicted; see evaluate.c. */
struct evaluation {
        struct predict *predict; /* in flight */
        uint64_t count;
        uint64_t correct;
        double log_loss;
        double squared_error;
        uint64_t generation;
        uint32_t clean;
        uint64_t *confusion; /* [classes, classes], NULL for regression */
};
int evaluation_init(struct evaluation *ev, const struct model_config *c, struct errinfo *e);
/* Predicts the batch; done as of service_predict. The batch's rows are not used after it. */
int evaluation_submit(struct evaluation *ev, struct service *s, struct model *m,
                      const struct batch *b, service_predict_done done, void *arg,
                      struct errinfo *e);
/* Compares what was predicted with the batch's labels; in the done callback. */
void evaluation_add(struct evaluation *ev, const struct model *m, const struct batch *b);
void evaluation_result(const struct evaluation *ev, const struct model_config *c,
                       struct intake_result *out);
void evaluation_clear(struct evaluation *ev);

#endif
