/* SPDX-License-Identifier: Apache-2.0
 * copy.h: files copied and hashed in steps that are watched: for progress, and to be broken off. */
#ifndef UNLEARND_BACKUP_COPY_H
#define UNLEARND_BACKUP_COPY_H

#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stdint.h>

/* Called with the bytes of each step; false breaks off with UL_CLOSED. */
struct copy_watch {
        bool (*step)(void *arg, uint64_t bytes);
        void *arg;
};

/* Copies the first `limit` bytes (or what there is) into a new file of mode 0600, which must not
 * exist; not synced. *bytes: how many. UL_NOT_FOUND: there is no `from`; UL_CORRUPT: it was cut
 * short while it was read. */
int copy_file(const char *from, const char *to, uint64_t limit, const struct copy_watch *w,
              uint64_t *bytes, struct errinfo *e);
/* Size and SHA-256; `sync`: fsyncs it too. UL_NOT_FOUND. */
int hash_file(const char *path, bool sync, const struct copy_watch *w, uint64_t *bytes,
              uint8_t sum[SHA256_BYTES], struct errinfo *e);

#endif
