/* SPDX-License-Identifier: Apache-2.0
 * webhook.h: Standard Webhooks: events of the audit log told to the endpoints of the configuration,
 * and those of an erasure to its callback_url. A message is {"type", "timestamp", "data"} with the
 * entry's own type, time and data, so it holds no personal data; its headers are webhook-id,
 * webhook-timestamp and webhook-signature. */
#ifndef UNLEARND_DAEMON_WEBHOOK_H
#define UNLEARND_DAEMON_WEBHOOK_H

#include "daemon/outgoing.h"
#include "daemon/webhook_secret.h"

_Static_assert((int)WEBHOOK_KEY_BYTES == (int)ENDPOINT_HASH_BYTES, "a view's key is a hash");
extern const struct outgoing_kind webhook_kind;

struct webhooks {
        pthread_mutex_t lock;
        /* shared, under lock */
        struct webhook_secrets callbacks;
        struct webhook_secrets of[WEBHOOKS_MAX]; /* as in the configuration */
};

/* Reads or makes the secrets, and brings the store's endpoints to what the configuration says.
 * UL_INVALID names the section. Before the writer exists. */
int webhook_start(struct service *s, struct errinfo *e);
void webhook_stop(struct service *s);
/* In the transaction of an audit entry: queues it for whoever wants to know. */
int webhook_tell(struct service *s, struct txn *t, const char *type, int64_t time_ms,
                 const uint8_t *erasure, const char *data, size_t data_len);
/* A message to one endpoint of the configuration, under `id`. */
int webhook_send(struct service *s, struct txn *t, const char *name, const char *url,
                 const char *type, int64_t time_ms, const uint8_t *erasure, const char *data,
                 size_t data_len, const uint8_t *id);
/* Calls fn for each file of secrets, in the order of the names, with its bytes. A nonzero return
 * ends it. */
int webhook_each_secret(struct service *s,
                        int (*fn)(void *arg, const char *file, const struct buf *text,
                                  struct errinfo *e),
                        void *arg, struct errinfo *e);
/* Its place in the configuration; -1: it has none of this name. */
int webhook_find(const struct config *c, const char *name);

#endif
