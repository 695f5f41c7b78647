/* SPDX-License-Identifier: Apache-2.0
 * backup.h: backups while the daemon serves. */
#ifndef UNLEARND_DAEMON_BACKUP_H
#define UNLEARND_DAEMON_BACKUP_H

#include "daemon/state.h"
#include "lib/backup/manifest.h"

/* --- backup.c --- */
void backup_init(struct service *s);
/* Removes what a backup that was interrupted left below backup_dir. */
int backup_start(struct service *s, struct errinfo *e);
/* Breaks off what runs; the writer and the loop still run. */
void backup_stop(struct service *s);

/* --- backup_copy.c: the files of one backup; on a thread of its own --- */
struct backup_progress {
        struct service *service;
        uint8_t job[ULID_BYTES];
        uint64_t done, total; /* bytes */
};
/* Fills `dir` (empty, exists) with a consistent copy, durable but for its own name. */
int backup_copy(struct backup_progress *p, const char *dir, bool with_keys,
                struct backup_manifest *out, struct errinfo *e);

#endif
