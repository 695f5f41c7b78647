/* SPDX-License-Identifier: Apache-2.0
 * manifest.h: what a backup says of itself: MANIFEST, a text file at the top of its directory, with
 * the size and the SHA-256 of every file, and how much of the world the backup knows. It knows
 * nothing of how a backup is made.
 *
 *   unlearnd-backup 1
 *   created 2026-01-31T09:00:00.000Z
 *   version 0.1.0
 *   identity 32 hex digits, made from the pseudonym key
 *   keys yes|no                     whether keys/ is in the backup
 *   erasures COUNT ULID|-           how many it knows, and the last of them
 *   audit COUNT                     entries of the audit log
 *   ledger BYTES CHECK | ledger -   how far the erasure ledger had been followed
 *   file SHA256 BYTES PATH          one a file, in order of their paths
 *   end SHA256                      of everything before this line
 */
#ifndef UNLEARND_BACKUP_MANIFEST_H
#define UNLEARND_BACKUP_MANIFEST_H

#include "lib/util/bytes.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stdint.h>

#define BACKUP_MANIFEST "MANIFEST"
#define BACKUP_DATABASE "control.mdb"
/* Stands in a data directory that a restore has begun to fill and not finished. */
#define RESTORE_MARK "restoring"

enum {
        BACKUP_PATH_MAX = 127, /* models/NAME/shard-SSS/slice-RRRR.rows */
        BACKUP_IDENTITY_BYTES = 16,
        BACKUP_CHECK_BYTES = 16,
        BACKUP_MANIFEST_MAX = 512 * 1024 * 1024, /* 200 bytes a file */
};

struct backup_file {
        char path[BACKUP_PATH_MAX + 1]; /* relative, '/' between its parts */
        uint64_t bytes;
        uint8_t sha256[SHA256_BYTES];
};
struct backup_manifest {
        int64_t created_ms;
        char version[32];
        uint8_t identity[BACKUP_IDENTITY_BYTES];
        bool with_keys;
        uint64_t erasures;
        bool has_last_erasure;
        uint8_t last_erasure[ULID_BYTES];
        uint64_t audit_size;
        bool has_ledger;
        uint64_t ledger_bytes;
        uint8_t ledger_check[BACKUP_CHECK_BYTES];
        struct backup_file *files; /* [file_count], owned */
        uint32_t file_count, file_cap;
};

/* Which installation a key belongs to, without telling the key. */
void backup_identity(const uint8_t pseudonym_key[KEY_BYTES], uint8_t out[BACKUP_IDENTITY_BYTES]);

/* UL_NOMEM. */
int manifest_add(struct backup_manifest *m, const struct backup_file *file);
void manifest_write(const struct backup_manifest *m, struct buf *out);
/* UL_CORRUPT for anything that manifest_write did not make, and for a path that leaves the backup.
 */
int manifest_parse(const char *text, size_t len, struct backup_manifest *out, struct errinfo *e);
uint64_t manifest_bytes(const struct backup_manifest *m); /* of all files */
void manifest_clear(struct backup_manifest *m);

#endif
