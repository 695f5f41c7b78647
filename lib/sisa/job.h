/* SPDX-License-Identifier: Apache-2.0
 * job.h: the job file: all that unlearn-worker is told, as canonical JSON; and what it reports, a
 * line at a time, on its standard output. Written by the daemon's executor, read by the worker;
 * the same file serves a batch system. Paths are relative to `root`.
 *
 * The file is the JSON, a newline, the SHA-256 of the JSON in hex, a newline: a bit that flips on
 * the way would train other bytes than those asked for, and nobody would know.
 *
 *   worker's lines:  progress DONE TOTAL          sample steps
 *                    stage SLICE FILE_HASH DATA_HASH RETAINED_HASH RECORDS   (hex; durable by then)
 *                    done
 *                    error CODE_NAME TEXT
 */
#ifndef UNLEARND_SISA_JOB_H
#define UNLEARND_SISA_JOB_H

#include "lib/models/config.h"
#include "lib/util/bytes.h"
#include "lib/util/file.h"

struct job_slice {
        uint32_t rows; /* committed rows of its row file (0: there is no file) */
        uint64_t live; /* how many of them must turn out to be live */
};

struct job {
        char id[32];                 /* ULID of the job */
        uint64_t fence;              /* echoed; the daemon refuses stale ones */
        char root[PATH_SIZE];        /* models/NAME in the data directory, absolute */
        char scratch[PATH_SIZE];     /* where new checkpoints go: scratch/slice-%03u.ckpt */
        struct model_config *config; /* owned */
        uint8_t model_key[KEY_BYTES];
        uint32_t shard;
        uint32_t from;                /* first slice to train; its parent is from - 1 */
        uint32_t slices;              /* train up to this one */
        struct job_slice *slice;      /* [slices], owned */
        uint8_t parent[SHA256_BYTES]; /* file digest of slice from - 1's checkpoint (from > 1) */
        char kernel[32];              /* refuse to run under another BLAS kernel; "" takes any */
};
int job_write(const struct job *j, struct buf *out);
/* Appends the digest of what job_write wrote. */
int job_seal(struct buf *out);
/* *json_len: what of the file is the JSON. UL_CORRUPT where the digest does not hold. */
int job_unseal(const void *file, size_t len, size_t *json_len, struct errinfo *e);
int job_parse(const char *text, size_t len, struct job **out, struct errinfo *e);
void job_destroy(struct job **j);

/* shard-%03u/slice-%03u.rows and .ckpt below a root. */
int rows_path(char out[PATH_SIZE], const char *root, uint32_t shard, uint32_t slice,
              struct errinfo *e);
int checkpoint_path(char out[PATH_SIZE], const char *root, uint32_t shard, uint32_t slice,
                    struct errinfo *e);
int scratch_path(char out[PATH_SIZE], const char *scratch, uint32_t slice, struct errinfo *e);

#endif
