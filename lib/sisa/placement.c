/* SPDX-License-Identifier: Apache-2.0
 * placement.c: invariant 1: two 64-bit draws from keyed BLAKE2b of the subject, one for the shard
 * and one for the slice. It must not know what is already held.
 *
 * Draws are scaled to a range by the high half of a product: the bias is under range / 2^64, far
 * below what could be seen, and no draw is ever rejected. */
#include "lib/sisa/placement.h"
#include "lib/records/ingest.h"
#include "lib/util/bytes.h"
#include <assert.h>
#include <string.h>

/* Keeps these draws apart from all others under the same key. */
static const char domain[] = "unlearnd.placement.v1";

static uint32_t scale_to(uint64_t draw, uint32_t range)
{
        return (uint32_t)(((unsigned __int128)draw * range) >> 64);
}

struct placement placement_of(const uint8_t model_key[KEY_BYTES],
                              const uint8_t subject[PSEUDONYM_BYTES], uint32_t likelihood,
                              uint32_t shards, uint32_t slices)
{
        assert(shards > 0 && slices > 0);
        uint8_t input[sizeof domain + PSEUDONYM_BYTES];
        uint8_t draws[16];
        memcpy(input, domain, sizeof domain);
        memcpy(input + sizeof domain, subject, PSEUDONYM_BYTES);
        keyed_hash(model_key, input, sizeof input, draws, sizeof draws);
        const uint64_t shard_draw = get_le64(draws);
        const uint64_t slice_draw = get_le64(draws + 8);

        if (likelihood == LIKELIHOOD_HIGH) {
                uint32_t few = shards / 4 > 0 ? shards / 4 : 1;
                return (struct placement){.shard = scale_to(shard_draw, few), .slice = slices};
        }
        uint32_t range = likelihood == LIKELIHOOD_LOW ? (slices + 1) / 2 : slices;
        return (struct placement){.shard = scale_to(shard_draw, shards),
                                  .slice = 1 + scale_to(slice_draw, range)};
}
