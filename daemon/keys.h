/* SPDX-License-Identifier: Apache-2.0
 * keys.h: the secrets of a data directory. */
#ifndef UNLEARND_DAEMON_KEYS_H
#define UNLEARND_DAEMON_KEYS_H

#include "lib/store/store.h"

#define KEY_PSEUDONYM "pseudonym.key" /* who is who */
#define KEY_LOG "log.key"             /* the seed of the log's Ed25519 key */

/* From $CREDENTIALS_DIRECTORY/NAME, or DATA_DIR/keys/NAME, which is made durably if absent and
 * may_create. UL_NOT_FOUND: absent in a data directory that is in use already. */
int key_load(const char *data_dir, const char *name, bool may_create, uint8_t out[KEY_BYTES],
             struct errinfo *e);
/* Whether it is the key that this store has known since its first start: UL_CORRUPT for a damaged
 * one, and for another one in its place. Any 32 bytes are a key: only the store can tell. */
int key_recognise(struct store *store, const char *name, const uint8_t key[KEY_BYTES],
                  struct errinfo *e);

/* key_recognise for the log's key. Where it is another one and log.key.old (in the same places) is
 * the one that the store knows, the log is handed over to it (audit_rotate), durably; then the old
 * one is overwritten and removed from the data directory. */
#define KEY_LOG_OLD "log.key.old"
/* Called in the transaction of the announcement, with what it says. */
typedef int (*key_announced_fn)(void *arg, struct txn *t, const char *data, size_t len);
int key_log_settle(struct store *store, const char *data_dir, const char *origin,
                   const uint8_t key[KEY_BYTES], key_announced_fn announced, void *arg,
                   struct errinfo *e);

#endif
