/* SPDX-License-Identifier: Apache-2.0
 * job_wait.h: waiting for a job with a line of progress (train.c). */
#ifndef UNLEARND_CLI_JOB_WAIT_H
#define UNLEARND_CLI_JOB_WAIT_H

#include "cli/http.h"

/* Until the job of *doc has ended; *a and *doc are replaced by its last state. EXIT_FAILED unless
 * it succeeded. */
int job_wait(struct ctl *c, const char *what, struct http_answer *a, struct json **doc);

#endif
