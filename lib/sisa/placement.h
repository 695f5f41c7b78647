/* SPDX-License-Identifier: Apache-2.0
 * placement.h: invariant 1: (shard, slice) is a function of the subject and the model key alone,
 * plus the client's hint; never of other records or of arrival order. */
#ifndef UNLEARND_SISA_PLACEMENT_H
#define UNLEARND_SISA_PLACEMENT_H

#include "lib/util/crypto.h"
#include <stdint.h>

struct placement {
        uint32_t shard; /* 0-based */
        uint32_t slice; /* 1-based; only for records loaded before the first training */
};
/* likelihood: numbers of enum erasure_likelihood. normal (and unset): uniform over all shards and
 * slices. high: the last slice of the first max(1, shards / 4) shards, where erasing is cheapest.
 * low: uniform over all shards and the first (slices + 1) / 2 slices. */
struct placement placement_of(const uint8_t model_key[KEY_BYTES],
                              const uint8_t subject[PSEUDONYM_BYTES], uint32_t likelihood,
                              uint32_t shards, uint32_t slices);

#endif
