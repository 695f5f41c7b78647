/* SPDX-License-Identifier: Apache-2.0
 * opendsr.h: the life of erasures that came by OpenDSR. How requests are read is api/'s. */
#ifndef UNLEARND_DAEMON_OPENDSR_H
#define UNLEARND_DAEMON_OPENDSR_H

#include "daemon/state.h"

/* --- opendsr.c --- */
/* Reads the signing key, where the configuration speaks OpenDSR. */
int opendsr_start(struct service *s, struct errinfo *e);
void opendsr_stop(struct service *s);
void opendsr_request_free(struct opendsr_request *r);
/* Like idempotency_check, for a request that came by OpenDSR; *row names the erasure. */
int opendsr_check(struct service *s, struct txn *t, const struct erase_request *r,
                  struct idempotency_row *row, struct errinfo *e);
int opendsr_keep(struct service *s, struct txn *t, const struct erase_request *r,
                 const uint8_t id[ULID_BYTES]);
/* --- opendsr_callback.c: the status of an erasure changed: whoever asked for it by OpenDSR is told
 * at every address that it gave. */
int opendsr_tell(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                 const struct erasure_row *row);

#endif
