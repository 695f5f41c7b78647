/* SPDX-License-Identifier: Apache-2.0
 * executor.h: run a job somewhere. executor_local.c starts a child process of unlearn-worker on the
 * libuv loop; executor_null.c runs the same code in the calling process, for tests. All calls and
 * all events are on the loop thread. */
#ifndef UNLEARND_DAEMON_EXECUTOR_H
#define UNLEARND_DAEMON_EXECUTOR_H

#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include "lib/util/limits.h"
#include <stdbool.h>
#include <stdint.h>

struct executor_stage { /* a stage line of the worker: its checkpoint is durable in scratch */
        uint32_t slice;
        uint8_t file_hash[SHA256_BYTES];
        uint8_t data_hash[SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
        uint64_t records;
};
struct executor_events {
        void (*progress)(void *arg, uint64_t done, uint64_t total);
        void (*stage)(void *arg, const struct executor_stage *stage);
        /* Exactly once, last. err 0: the worker said `done` and exited 0; otherwise why not. */
        void (*ended)(void *arg, int err, const struct errinfo *e);
        void *arg;
};
struct executor_limits {
        uint64_t memory_bytes; /* 0: none */
        uint32_t seconds;      /* wall clock, 0: none */
        /* The BLAS kernel that the job is pinned to; "" or NULL: what OpenBLAS picks. The worker is
         * told to use it, unless the daemon's own OPENBLAS_CORETYPE says otherwise; where the
         * machine cannot, the worker refuses the job. */
        const char *kernel;
};
struct executor;
struct execution;
struct executor_ops {
        /* job_path: a job file (lib/sisa/job.h), readable until `ended`. */
        int (*start)(struct executor *x, const char *job_path, const struct executor_limits *limits,
                     const struct executor_events *ev, struct execution **out, struct errinfo *e);
        /* Asks for an immediate end (SIGKILL); `ended` still comes. */
        void (*kill)(struct execution *run);
        /* All executions must have ended. */
        void (*destroy)(struct executor **x);
};
struct executor {
        const struct executor_ops *ops;
};

struct uv_loop_s;
int executor_local_create(struct uv_loop_s *loop, const char *worker_path, struct executor **out,
                          struct errinfo *e);
int executor_null_create(struct executor **out, struct errinfo *e);

#endif
