/* SPDX-License-Identifier: Apache-2.0
 * health.h: what is wrong with the ground that the daemon stands on. A durable write that failed
 * begins a fault; while one stands, new changes are refused rather than lost, reads and predictions
 * go on, and readiness, the metrics and the log say so. Whoever had the write fail does it again
 * and ends the fault when it holds: nothing that a sync failed for is trusted before that. It knows
 * nothing of what was written.
 *
 *   fine --health_begin--> standing --health_end--> fine
 *                                   `--health_fail--> failed: the process must end
 *
 * Any thread may call any of these. */
#ifndef UNLEARND_DAEMON_HEALTH_H
#define UNLEARND_DAEMON_HEALTH_H

#include "lib/util/err.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum health_reason {
        HEALTH_STORE,  /* a commit: ends with one that holds */
        HEALTH_ROWS,   /* rows of an upload: ends when what is left of it is cut off, or abort.c has
                          to */
        HEALTH_SCRUB,  /* overwriting: ends when all of it is overwritten */
        HEALTH_FILES,  /* job files, checkpoints, folders: ends when a file can be made durable */
        HEALTH_LEDGER, /* the erasure ledger: ends when a line of it is durable */
        HEALTH_WORKER, /* a shard's workers failed again and again: ends with one that succeeds */
        HEALTH_DAMAGE, /* the control database is damaged: ends with a restore */
        HEALTH_REASONS
};
enum health_change { HEALTH_ADDS, HEALTH_ERASES };

struct health {
        pthread_mutex_t lock;
        /* shared, under lock */
        struct {
                bool stands;
                int err;           /* of its beginning */
                uint64_t since_us; /* mono_us() */
        } fault[HEALTH_REASONS];
        /* any thread */
        _Atomic uint32_t standing; /* a bit a reason */
        _Atomic uint64_t count[HEALTH_REASONS];
        _Atomic bool failed;
};

void health_init(struct health *h);
void health_destroy(struct health *h);
const char *health_name(enum health_reason r); /* "store", ...: a label and a word of the log */

/* Whether this error of a durable write is the ground's and not the request's: UL_IO, UL_NOSPACE,
 * UL_BUSY (no descriptor is free). */
bool health_is_fault(int err);
/* Counts a fault; logs the first one. Nothing where !health_is_fault(err), except for HEALTH_WORKER
 * and HEALTH_DAMAGE. detail: for the log, without personal data. */
void health_begin(struct health *h, enum health_reason r, int err, const char *detail);
/* The write holds now; logs it where the fault stood. */
void health_end(struct health *h, enum health_reason r);
bool health_stands(const struct health *h, enum health_reason r);
uint64_t health_count(const struct health *h, enum health_reason r);

/* 0, or UL_UNAVAILABLE with retry_after_s. What puts data on the disk is refused under every fault
 * but HEALTH_WORKER and HEALTH_LEDGER, which it does not need; an erasure only under HEALTH_STORE
 * and HEALTH_LEDGER: it needs a commit and a line, what it overwrites stands in the store until it
 * is overwritten, and it must not wait for a disk that is full. HEALTH_DAMAGE is service_submit's
 * to look at: an erasure outlives the restore where a ledger has it. */
int health_accepts(struct health *h, enum health_change change, struct errinfo *e);
/* 0, or UL_UNAVAILABLE that says what is wrong and what to do about it. HEALTH_WORKER is no reason:
 * predictions never wait for training (invariant 8). Names no file and no model: it is public. */
int health_ready(struct health *h, struct errinfo *e);

/* The store cannot be used any more, and what it holds is known only to the next start: asks the
 * process to end (SIGTERM to itself). */
void health_fail(struct health *h, const char *detail);
bool health_failed(const struct health *h);

#endif
