/* SPDX-License-Identifier: Apache-2.0
 * run.h: what a job does to the store: a run of a worker for one shard, from its preparation to
 * what it publishes, and the training that was asked for. */
#ifndef UNLEARND_DAEMON_RUN_H
#define UNLEARND_DAEMON_RUN_H

#include "daemon/state.h"

enum run_kind { RUN_TRAIN, RUN_VERIFY };
struct run_stage {
        uint32_t slice;
        uint8_t file_hash[SHA256_BYTES];
        uint8_t data_hash[SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
        uint64_t records;
};
/* One execution of a worker for one shard. */
struct run {
        struct run *next;
        struct service *service;
        struct model *model; /* referenced */
        enum run_kind kind;
        uint8_t id[ULID_BYTES];  /* of the run: its scratch folder */
        uint8_t job[ULID_BYTES]; /* of the job that clients see */
        uint32_t shard;
        /* by run_prepare, the writer thread's until that is done */
        uint32_t from, slices;
        uint64_t fence;
        uint8_t parent[SHA256_BYTES];
        struct job_slice *slice; /* [slices], owned */
        uint64_t cost;           /* sample steps */
        char scratch[PATH_SIZE];
        char kernel[32];
        /* what came of it */
        struct run_stage *stages; /* [stage_count], cap slices */
        uint32_t stage_count;
        int err;
        struct errinfo e;
        uint64_t started_us;
        /* loop thread */
        struct execution *execution;
        struct run_command *command; /* its commands, one after another; owned */
        double fraction;             /* done, as the worker says */
        bool killed;
        bool preempted;   /* killed for a shard whose deadline is nearer */
        bool unpublished; /* checkpoints may have been renamed that no commit knows */
        bool unrecorded;  /* its own job is over, and its row does not say so yet */
        bool recording;   /* a command that says it is at the writer */
        bool leaving;     /* ended; only its files and its job's row are not */
        bool parked;      /* checked, and to be published once nothing is held */
        bool publishing;  /* at the writer */
        /* writer thread, by run_prepare */
        bool replaces; /* a checkpoint that is served stands where it publishes one */
        /* writer thread, by run_publish */
        bool fenced; /* some of its stages were refused */
        bool whole;  /* all its stages are published; the shard may have a slice more by now */
        bool clean;  /* the shard is clean now */
};
void run_destroy(struct run **r);
/* Marks the shard as in training under a new fence and fills `r` (from, slices, parent...).
 * UL_CONFLICT: nothing to do for the shard any more. Creates a retrain job unless the shard belongs
 * to a training that was asked for. */
int run_prepare(struct run *r, struct txn *t, struct errinfo *e);
/* Renames checkpoints into place (verified), records them, completes what waited. */
int run_publish(struct run *r, struct txn *t, struct effects *fx, struct errinfo *e);
/* The model's training that was asked for: its job, and the shards that it still waits for. */
struct training {
        uint8_t job[ULID_BYTES];
        uint8_t left[SHARDS_MAX / 8];
};
int training_get(struct txn *t, uint32_t model, struct training *out);      /* UL_NOT_FOUND: none */
int training_put(struct txn *t, uint32_t model, const struct training *tr); /* NULL: it is over */
bool training_has(const struct training *tr, uint32_t shard);
uint32_t training_left(const struct training *tr);
/* One shard of the training or compaction that was asked for is done, or given up: `failed` says
 * why. One whose compaction is not over is not done. */
int training_less(struct service *s, struct txn *t, struct model *m, uint32_t shard,
                  const char *failed);
int job_end(struct txn *t, const uint8_t id[ULID_BYTES], enum job_state state, const char *error,
            const char *result, size_t result_len);

#endif
