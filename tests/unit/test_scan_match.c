/* SPDX-License-Identifier: Apache-2.0
 * The search for many patterns at once, held to the plain one: memcmp at every position. */
#include "lib/scan/match.h"
#include "lib/util/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { HITS_MAX = 1 << 16 };

struct hits {
        size_t count;
        struct hit {
                uint32_t tag;
                size_t at, len;
        } hit[HITS_MAX];
        size_t stop_after; /* 0: never */
};

static int take(void *arg, uint32_t tag, size_t at, size_t len)
{
        struct hits *h = arg;
        assert_true(h->count < HITS_MAX);
        h->hit[h->count++] = (struct hit){tag, at, len};
        return h->count == h->stop_after ? 42 : 0;
}

static int by_place(const void *a, const void *b)
{
        const struct hit *x = a, *y = b;
        if (x->at != y->at)
                return x->at < y->at ? -1 : 1;
        return x->tag < y->tag ? -1 : x->tag > y->tag;
}

static struct matcher *made(void)
{
        struct matcher *m = NULL;
        assert_int_equal(matcher_create(&m, NULL), 0);
        return m;
}

static void add(struct matcher *m, const void *bytes, size_t len, uint32_t tag)
{
        assert_int_equal(matcher_add(m, bytes, len, tag, NULL), 0);
}

static struct hits *search(const struct matcher *m, const void *data, size_t len)
{
        struct hits *h = calloc(1, sizeof *h);
        assert_non_null(h);
        assert_int_equal(matcher_run(m, data, len, 0, len, take, h), 0);
        qsort(h->hit, h->count, sizeof *h->hit, by_place);
        return h;
}

static void it_finds_what_memcmp_at_every_position_finds(void **state)
{
        enum { DATA = 20000, PATTERNS = 300 };
        const char *given = getenv("UNLEARND_TEST_SEED");
        const uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
        const uint8_t key[KEY_BYTES] = {1};
        struct prng p;
        uint8_t *data = malloc(DATA);
        struct {
                uint8_t bytes[MATCH_BYTES_MAX];
                size_t len;
        } *pattern = calloc(PATTERNS, sizeof *pattern);
        (void)state;
        print_message("UNLEARND_TEST_SEED=%llu\n", (unsigned long long)seed);
        assert_true(data != NULL && pattern != NULL);
        prng_init(&p, key, &seed, 1);
        struct matcher *m = made();
        /* few different bytes: much looks alike, and patterns share what they begin with */
        for (size_t i = 0; i < DATA; i++)
                data[i] = (uint8_t)(prng_below(&p, 8) == 0 ? prng_below(&p, 3) : 0);
        for (uint32_t k = 0; k < PATTERNS; k++) {
                pattern[k].len =
                        MATCH_BYTES_MIN + prng_below(&p, MATCH_BYTES_MAX - MATCH_BYTES_MIN + 1) /
                                                  (k % 2 == 0 ? 1 : 16);
                memcpy(pattern[k].bytes, data + prng_below(&p, DATA - MATCH_BYTES_MAX),
                       pattern[k].len);
                add(m, pattern[k].bytes, pattern[k].len, k);
        }
        assert_int_equal(matcher_build(m, NULL), 0);
        assert_int_equal(matcher_count(m), PATTERNS);
        /* in ranges that meet, as blocks of a file do */
        struct hits *found = calloc(1, sizeof *found), *want = calloc(1, sizeof *want);
        assert_true(found != NULL && want != NULL);
        size_t from = 0;
        for (int n = 0; from < DATA && found->count < HITS_MAX / 2; n++) {
                size_t to = from + 1 + prng_below(&p, 700);
                to = to > DATA ? DATA : to;
                assert_int_equal(matcher_run(m, data, DATA, from, to, take, found), 0);
                from = to;
        }
        for (size_t at = 0; at < from; at++)
                for (uint32_t k = 0; k < PATTERNS; k++)
                        if (pattern[k].len <= DATA - at &&
                            memcmp(data + at, pattern[k].bytes, pattern[k].len) == 0)
                                (void)take(want, k, at, pattern[k].len);
        qsort(found->hit, found->count, sizeof *found->hit, by_place);
        assert_int_equal(found->count, want->count);
        assert_true(want->count >= PATTERNS / 2);
        assert_memory_equal(found->hit, want->hit, want->count * sizeof *want->hit);
        matcher_destroy(&m);
        free(found);
        free(want);
        free(pattern);
        free(data);
}

static void it_finds_a_pattern_at_the_very_beginning_and_at_the_very_end(void **state)
{
        struct matcher *m = made();
        (void)state;
        add(m, "beginning", 9, 1);
        add(m, "fin.", 4, 2);
        assert_int_equal(matcher_build(m, NULL), 0);
        struct hits *h = search(m, "beginning and fin.", 18);
        assert_int_equal(h->count, 2);
        assert_int_equal(h->hit[0].at, 0);
        assert_int_equal(h->hit[1].at, 14);
        free(h);
        h = search(m, "fin", 3);
        assert_int_equal(h->count, 0);
        free(h);
        h = search(m, "", 0);
        assert_int_equal(h->count, 0);
        free(h);
        matcher_destroy(&m);
}

static void equal_patterns_are_told_each(void **state)
{
        struct matcher *m = made();
        (void)state;
        add(m, "the same row", 12, 7);
        add(m, "the same row", 12, 8);
        assert_int_equal(matcher_build(m, NULL), 0);
        struct hits *h = search(m, "__the same row__", 16);
        assert_int_equal(h->count, 2);
        assert_int_equal(h->hit[0].tag, 7);
        assert_int_equal(h->hit[1].tag, 8);
        free(h);
        matcher_destroy(&m);
}

static void an_answer_of_the_callback_ends_the_search(void **state)
{
        struct matcher *m = made();
        struct hits *h = calloc(1, sizeof *h);
        (void)state;
        assert_non_null(h);
        h->stop_after = 2;
        add(m, "again", 5, 0);
        assert_int_equal(matcher_build(m, NULL), 0);
        assert_int_equal(matcher_run(m, (const uint8_t *)"again again again", 17, 0, 17, take, h),
                         42);
        assert_int_equal(h->count, 2);
        free(h);
        matcher_destroy(&m);
}

static void more_may_be_added_and_built_again(void **state)
{
        struct matcher *m = made();
        (void)state;
        add(m, "the first one", 13, 1);
        assert_int_equal(matcher_build(m, NULL), 0);
        add(m, "the second one", 14, 2);
        assert_int_equal(matcher_build(m, NULL), 0);
        struct hits *h = search(m, "the first one, the second one", 29);
        assert_int_equal(h->count, 2);
        free(h);
        matcher_destroy(&m);
}

static void without_a_pattern_nothing_is_found(void **state)
{
        struct matcher *m = made();
        (void)state;
        assert_int_equal(matcher_build(m, NULL), 0);
        struct hits *h = search(m, "whatever there is", 17);
        assert_int_equal(h->count, 0);
        free(h);
        matcher_destroy(&m);
        matcher_destroy(&m); /* NULL by now */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_finds_what_memcmp_at_every_position_finds),
                cmocka_unit_test(it_finds_a_pattern_at_the_very_beginning_and_at_the_very_end),
                cmocka_unit_test(equal_patterns_are_told_each),
                cmocka_unit_test(an_answer_of_the_callback_ends_the_search),
                cmocka_unit_test(more_may_be_added_and_built_again),
                cmocka_unit_test(without_a_pattern_nothing_is_found),
        };
        if (crypto_init() != 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
