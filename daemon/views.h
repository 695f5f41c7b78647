/* SPDX-License-Identifier: Apache-2.0
 * views.h: what clients are shown of the store's rows. */
#ifndef UNLEARND_DAEMON_VIEWS_H
#define UNLEARND_DAEMON_VIEWS_H

#include "daemon/state.h"

/* --- estimate.c --- */
int estimate_retrain(struct model *m, struct txn *t, uint32_t shard, uint32_t from,
                     double *seconds);
/* Seconds until the shard that is next is likely clean again: advice while nothing is left. */
uint32_t estimate_retry_after(struct model *m);

/* --- views.c --- */
const char *regulation_name(uint8_t regulation); /* NULL: none */
int view_erasure(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                 struct erasure_view *out);
const char *erasure_state_name(uint8_t state);
bool erasure_overdue(const struct erasure_row *row); /* ended too late, or now is too late */
int view_erasure_row(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                     const struct erasure_affected *affected, struct erasure_view *out);
int view_model(struct model *m, struct txn *t, struct model_view *out);
int view_job(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
             const struct job_row *row, const char *result, size_t result_len,
             struct job_view *out);
/* The slice that a shard is served from; 0: it is left out. */
int view_served_from(struct txn *t, uint32_t model, uint32_t shard, uint32_t *slice);

#endif
