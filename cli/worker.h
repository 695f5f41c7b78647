/* SPDX-License-Identifier: Apache-2.0
 * worker.h: runs unlearn-worker on a job, without a daemon, and listens to what it says. */
#ifndef UNLEARND_CLI_WORKER_H
#define UNLEARND_CLI_WORKER_H

#include "cli/progress.h"
#include "lib/sisa/job.h"

/* The program: `given`, or the one beside unlearnctl, or in libexec. UL_NOT_FOUND. */
int worker_find(const char *given, char out[PATH_SIZE], struct errinfo *e);

struct worker_result {
        uint32_t slice; /* of the last checkpoint; 0: there was none */
        uint8_t file_hash[SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
};
/* Writes the job into its scratch folder, runs the worker, waits for its end. kernel: what BLAS is
 * told to compute with; "" leaves that to it. The worker's own error is passed on. */
int worker_run(const char *program, const struct job *j, const char *kernel,
               struct progress *progress, struct worker_result *out, struct errinfo *e);

#endif
