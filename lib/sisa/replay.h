/* SPDX-License-Identifier: Apache-2.0
 * replay.h: a job that trains one constituent again from row files alone, for somebody who has no
 * control database: what is live, and how much, is counted in the files. */
#ifndef UNLEARND_SISA_REPLAY_H
#define UNLEARND_SISA_REPLAY_H

#include "lib/sisa/job.h"

struct replay {
        struct job *job;                /* owned; from slice 1, without a pinned kernel */
        uint64_t records;               /* live ones of slices 1..slices */
        uint8_t retained[SHA256_BYTES]; /* their commitment, as checkpoints have it */
};
/* root: models/NAME, absolute. Takes the configuration in every case. Rows that are cut short or
 * damaged are UL_DAMAGED. The caller clears `out` in every case. */
int replay_open(const char *root, struct model_config *config_take,
                const uint8_t pseudonym_key[KEY_BYTES], uint32_t shard, uint32_t slices,
                struct replay *out, struct errinfo *e);
void replay_clear(struct replay *r); /* wipes */

#endif
