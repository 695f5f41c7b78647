/* SPDX-License-Identifier: Apache-2.0
 * train.h: trains the stages of one job: invariant 2, the bytes of a checkpoint are a function of
 * configuration, seed and the live rows of slices 1..r in canonical order. */
#ifndef UNLEARND_SISA_TRAIN_H
#define UNLEARND_SISA_TRAIN_H

#include "lib/checkpoint/checkpoint.h"
#include "lib/sisa/job.h"
#include "lib/sisa/plan.h"

struct train_events {
        void (*progress)(void *arg, uint64_t done, uint64_t total); /* at most some 10 a second */
        /* After a stage's checkpoint is durable in the scratch folder. */
        void (*stage)(void *arg, uint32_t slice, const uint8_t file_hash[SHA256_BYTES],
                      const struct checkpoint *c);
        void *arg;
};
/* Reads rows and parent checkpoint, trains, writes checkpoints to the scratch folder. UL_DAMAGED
 * for rows that cannot be trusted, UL_CORRUPT for the parent, UL_CONFLICT for one that was trained
 * on other records, UL_INVALID for a kernel other than the pinned one. */
int sisa_train(const struct job *j, const struct train_events *ev, struct errinfo *e);

#endif
