/* SPDX-License-Identifier: Apache-2.0
 * test_placement.c: invariant 1: where a record goes is a function of its subject, the model's key
 * and the hint. */
#include "lib/records/ingest.h"
#include "lib/sisa/placement.h"
#include "lib/util/bytes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { SHARDS = 8, SLICES = 5, MANY = 40000 };
static const uint8_t key[KEY_BYTES] = {1, 2, 3, 4, 5};

static struct placement place(uint32_t n, uint32_t likelihood, uint32_t shards, uint32_t slices)
{
        uint8_t subject[PSEUDONYM_BYTES] = {0};
        put_le32(subject, n);
        return placement_of(key, subject, likelihood, shards, slices);
}

/* Two instances with one key must agree, today and after an upgrade. */
static void placement_stays_what_it_was(void **state)
{
        (void)state;
        static const struct placement golden[] = {{0, 1}, {3, 3}, {6, 4}, {3, 1},
                                                  {7, 5}, {5, 4}, {4, 2}, {5, 2}};
        for (uint32_t n = 0; n < sizeof golden / sizeof *golden; n++) {
                struct placement p = place(n, LIKELIHOOD_NORMAL, SHARDS, SLICES);
                assert_int_equal(p.shard, golden[n].shard);
                assert_int_equal(p.slice, golden[n].slice);
        }
}

/* Were both draws one, shard and slice would go together and most cells stay empty. */
static void subjects_spread_evenly_over_shards_and_slices(void **state)
{
        (void)state;
        uint32_t seen[SHARDS][SLICES + 1] = {0};
        for (uint32_t n = 0; n < MANY; n++) {
                struct placement p = place(n, LIKELIHOOD_NORMAL, SHARDS, SLICES);
                assert_true(p.shard < SHARDS && p.slice >= 1 && p.slice <= SLICES);
                seen[p.shard][p.slice]++;
        }
        for (uint32_t shard = 0; shard < SHARDS; shard++)
                for (uint32_t slice = 1; slice <= SLICES; slice++) /* 1000 +- 5 sigma */
                        assert_in_range(seen[shard][slice], 840, 1160);
}

static void a_likely_erasure_goes_where_it_is_cheapest(void **state)
{
        (void)state;
        uint32_t seen[SHARDS] = {0};
        for (uint32_t n = 0; n < 1000; n++) {
                struct placement p = place(n, LIKELIHOOD_HIGH, SHARDS, SLICES);
                assert_int_equal(p.slice, SLICES);
                assert_true(p.shard < SHARDS / 4);
                seen[p.shard]++;
        }
        assert_true(seen[0] > 400 && seen[1] > 400);
        assert_int_equal(place(7, LIKELIHOOD_HIGH, 3, 4).shard, 0); /* at least one shard */
}

static void an_unlikely_erasure_goes_into_the_first_half_of_the_slices(void **state)
{
        (void)state;
        uint32_t shards[SHARDS] = {0};
        uint32_t slices[SLICES + 1] = {0};
        for (uint32_t n = 0; n < 3000; n++) {
                struct placement p = place(n, LIKELIHOOD_LOW, SHARDS, SLICES);
                shards[p.shard]++;
                slices[p.slice]++;
        }
        for (uint32_t i = 0; i < SHARDS; i++)
                assert_true(shards[i] > 250);
        for (uint32_t i = 1; i <= 3; i++)
                assert_true(slices[i] > 800);
        assert_int_equal(slices[4] + slices[5], 0);
}

static void no_hint_is_the_normal_hint(void **state)
{
        (void)state;
        for (uint32_t n = 0; n < 500; n++) {
                struct placement a = place(n, LIKELIHOOD_UNSET, SHARDS, SLICES);
                struct placement b = place(n, LIKELIHOOD_NORMAL, SHARDS, SLICES);
                assert_int_equal(a.shard, b.shard);
                assert_int_equal(a.slice, b.slice);
        }
}

static void one_shard_and_one_slice_hold_everything(void **state)
{
        (void)state;
        for (uint32_t hint = LIKELIHOOD_UNSET; hint <= LIKELIHOOD_HIGH; hint++)
                for (uint32_t n = 0; n < 100; n++) {
                        struct placement p = place(n, hint, 1, 1);
                        assert_int_equal(p.shard, 0);
                        assert_int_equal(p.slice, 1);
                }
}

static void another_key_places_otherwise(void **state)
{
        (void)state;
        uint8_t other[KEY_BYTES];
        uint8_t subject[PSEUDONYM_BYTES] = {0};
        uint32_t same = 0;
        memcpy(other, key, sizeof other);
        other[31] ^= 1;
        for (uint32_t n = 0; n < 4000; n++) {
                put_le32(subject, n);
                struct placement a = placement_of(key, subject, LIKELIHOOD_NORMAL, SHARDS, SLICES);
                struct placement b =
                        placement_of(other, subject, LIKELIHOOD_NORMAL, SHARDS, SLICES);
                same += a.shard == b.shard && a.slice == b.slice;
        }
        assert_in_range(same, 50, 150); /* one in 40 by chance */
}

static void every_byte_of_the_subject_counts(void **state)
{
        (void)state;
        for (size_t byte = 0; byte < PSEUDONYM_BYTES; byte++) {
                uint8_t subject[PSEUDONYM_BYTES] = {0};
                uint32_t moved = 0;
                struct placement at = placement_of(key, subject, LIKELIHOOD_NORMAL, 256, 64);
                for (uint32_t v = 1; v < 256; v++) {
                        subject[byte] = (uint8_t)v;
                        struct placement p = placement_of(key, subject, LIKELIHOOD_NORMAL, 256, 64);
                        moved += p.shard != at.shard;
                }
                assert_true(moved > 240);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(placement_stays_what_it_was),
                cmocka_unit_test(subjects_spread_evenly_over_shards_and_slices),
                cmocka_unit_test(a_likely_erasure_goes_where_it_is_cheapest),
                cmocka_unit_test(an_unlikely_erasure_goes_into_the_first_half_of_the_slices),
                cmocka_unit_test(no_hint_is_the_normal_hint),
                cmocka_unit_test(one_shard_and_one_slice_hold_everything),
                cmocka_unit_test(another_key_places_otherwise),
                cmocka_unit_test(every_byte_of_the_subject_counts),
        };
        if (crypto_init() != 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
