/* SPDX-License-Identifier: Apache-2.0
 * jobs.h: the answer of every call that starts a job. */
#ifndef UNLEARND_API_JOBS_H
#define UNLEARND_API_JOBS_H

#include "api/http.h"

/* A service_job_done whose arg is the pending request: 202 with Location and the job, or the
 * problem; then completes the request. */
void job_started(void *req, int err, const struct errinfo *e, const struct job_view *job,
                 bool replayed);

#endif
