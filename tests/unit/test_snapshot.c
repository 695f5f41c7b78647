/* SPDX-License-Identifier: Apache-2.0
 * test_snapshot.c: invariant 4 at its root: when snapshot_publish returns nobody holds the old
 * snapshot any more, whatever readers do; nobody ever sees one that is gone; and neither side
 * starves the other. It compiles snapshot.c itself, with the reader's windows wide open. Worth most
 * under the thread and address sanitizers. */
static void lose_the_processor(void);
#define SNAPSHOT_WINDOW lose_the_processor
#include "daemon/snapshot.c"

#include "lib/util/clock.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { READERS = 8, PUBLICATIONS = 3000 };

static struct model_config *config;

/* Every now and then, each thread in a rhythm of its own. */
static void lose_the_processor(void)
{
        static _Thread_local uint32_t count;
        static _Atomic uint32_t threads;
        if (count == 0)
                count = atomic_fetch_add(&threads, 1) + 1;
        if (++count % 3 == 0)
                (void)sched_yield();
}

static int make_config(void **state)
{
        static const char text[] = "{\"name\":\"m\",\"kind\":\"softmax\",\"task\":\"regression\","
                                   "\"features\":1,\"targets\":1,\"standardize\":false}";
        struct errinfo e = {0};
        (void)state;
        if (crypto_init() != 0)
                return -1;
        int err = model_config_parse(text, sizeof text - 1, &config, &e);
        if (err != 0)
                (void)fprintf(stderr, "%s %s\n", e.field, e.detail);
        return err;
}

static int destroy_config(void **state)
{
        (void)state;
        model_config_destroy(&config);
        return 0;
}

/* A constituent that answers `value` whatever it is asked: weight 0, bias `value`. */
static struct served *constant(float value, uint32_t shard, uint8_t mark)
{
        const float params[2] = {0, value};
        uint8_t hash[SHA256_BYTES];
        struct constituent *k = NULL;
        struct errinfo e = {0};
        memset(hash, mark, sizeof hash);
        assert_int_equal(constituent_create(config, params, NULL, NULL, &k, &e), 0);
        struct served *s = served_create(k, shard, 1, hash);
        assert_non_null(s);
        return s;
}

static struct snapshot *snapshot_of(uint64_t generation)
{
        struct served *one = constant((float)generation, 0, 1);
        struct snapshot *s = snapshot_create(generation, &one, 1, 0);
        served_unref(&one); /* the snapshot holds it */
        assert_null(one);
        assert_non_null(s);
        return s;
}

static float answer(const struct snapshot *s)
{
        float x = 0, out = -1, scratch[4096];
        assert_true(constituent_scratch(s->members[0], 1) <= sizeof scratch / sizeof *scratch);
        constituent_forward(s->members[0], &x, 1, scratch, &out);
        return out;
}

static void a_cell_is_empty_until_something_is_published(void **state)
{
        struct snapshot_cell *cell = snapshot_cell_create();
        (void)state;
        assert_non_null(cell);
        assert_null(snapshot_acquire(cell));
        snapshot_release(cell, NULL);
        snapshot_publish(cell, snapshot_of(7));
        const struct snapshot *s = snapshot_acquire(cell);
        assert_int_equal(s->generation, 7);
        assert_true(answer(s) == 7.0f);
        assert_false(snapshot_superseded(cell, s));
        snapshot_release(cell, s);
        snapshot_publish(cell, NULL); /* nothing clean is left */
        assert_null(snapshot_acquire(cell));
        snapshot_publish(cell, snapshot_of(8));
        snapshot_cell_destroy(&cell); /* with what is current */
        assert_null(cell);
}

static void constituents_are_shared_by_successive_snapshots(void **state)
{
        struct snapshot_cell *cell = snapshot_cell_create();
        struct served *k[3] = {constant(0, 0, 1), constant(1, 1, 2), constant(2, 5, 3)};
        (void)state;
        snapshot_publish(cell, snapshot_create(1, k, 3, 0));
        struct served *two[2] = {k[0], k[2]};
        snapshot_publish(cell, snapshot_create(2, two, 2, 1));
        served_unref(&k[1]); /* the last reference: shard 1 was rolled back */
        const struct snapshot *s = snapshot_acquire(cell);
        assert_int_equal(s->clean, 2);
        assert_int_equal(s->degraded, 1);
        assert_ptr_equal(s->held[0], k[0]);
        assert_ptr_equal(s->held[1], k[2]);
        assert_int_equal(served_slice(s->held[1]), 1);
        snapshot_release(cell, s);
        served_unref(&k[0]);
        served_unref(&k[2]);
        s = snapshot_acquire(cell);
        assert_true(answer(s) == 0.0f); /* the snapshot's own references keep them */
        snapshot_release(cell, s);
        snapshot_cell_destroy(&cell);
}

static void the_hash_is_of_the_constituents_and_their_order_alone(void **state)
{
        struct served *k[2] = {constant(0, 3, 9), constant(1, 4, 8)};
        struct served *other = constant(5, 4, 7);
        struct snapshot_cell *cell = snapshot_cell_create();
        uint8_t both[2 * SHA256_BYTES], expected[SHA256_BYTES];
        (void)state;
        memset(both, 9, SHA256_BYTES);
        memset(both + SHA256_BYTES, 8, SHA256_BYTES);
        sha256(both, sizeof both, expected);
        struct snapshot *a = snapshot_create(1, k, 2, 0), *b = snapshot_create(99, k, 2, 6);
        assert_memory_equal(a->hash, expected, SHA256_BYTES);
        assert_memory_equal(b->hash, expected, SHA256_BYTES);
        struct served *pair[2] = {k[0], other};
        struct snapshot *c = snapshot_create(1, pair, 2, 0);
        assert_memory_not_equal(c->hash, expected, SHA256_BYTES);
        struct snapshot *none = snapshot_create(1, NULL, 0, 2);
        assert_int_equal(none->clean, 0);
        snapshot_publish(cell, a);
        snapshot_publish(cell, b);
        snapshot_publish(cell, c);
        snapshot_publish(cell, none);
        snapshot_cell_destroy(&cell);
        served_unref(&k[0]);
        served_unref(&k[1]);
        served_unref(&other);
}

/* --- publishing waits --- */

struct publisher {
        struct snapshot_cell *cell;
        struct snapshot *next;
        _Atomic bool returned;
};

static void *publish_one(void *arg)
{
        struct publisher *p = arg;
        snapshot_publish(p->cell, p->next);
        atomic_store(&p->returned, true);
        return NULL;
}

static void sleep_ms(long ms)
{
        const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
        (void)nanosleep(&t, NULL);
}

static void publish_returns_only_after_the_last_reader_of_the_old(void **state)
{
        struct publisher p = {.cell = snapshot_cell_create()};
        pthread_t thread;
        (void)state;
        snapshot_publish(p.cell, snapshot_of(1));
        const struct snapshot *first = snapshot_acquire(p.cell);
        const struct snapshot *second = snapshot_acquire(p.cell);
        p.next = snapshot_of(2);
        assert_int_equal(pthread_create(&thread, NULL, publish_one, &p), 0);
        while (!snapshot_superseded(p.cell, first))
                (void)sched_yield();
        /* readers of the new one neither wait nor count */
        const struct snapshot *fresh = snapshot_acquire(p.cell);
        assert_int_equal(fresh->generation, 2);
        assert_false(snapshot_superseded(p.cell, fresh));
        sleep_ms(50);
        assert_false(atomic_load(&p.returned));
        snapshot_release(p.cell, first);
        sleep_ms(50);
        assert_false(atomic_load(&p.returned));
        assert_true(answer(second) == 1.0f); /* still whole */
        snapshot_release(p.cell, second);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(atomic_load(&p.returned));
        snapshot_release(p.cell, fresh);
        snapshot_cell_destroy(&p.cell);
}

/* --- the storm --- */

struct storm {
        struct snapshot_cell *cell;
        _Atomic bool stop;
        _Atomic uint64_t reads;
        _Atomic uint64_t wrong;
        /* what each reader says that it holds: set after acquire, cleared before release */
        struct {
                _Alignas(64) _Atomic uint64_t generation;
        } holds[READERS];
        _Atomic uint32_t next_reader;
};

static void *read_storm(void *arg)
{
        struct storm *w = arg;
        uint32_t me = atomic_fetch_add(&w->next_reader, 1);
        uint64_t last = 0, reads = 0;
        while (!atomic_load(&w->stop)) {
                const struct snapshot *s = snapshot_acquire(w->cell);
                if (s == NULL)
                        continue;
                atomic_store(&w->holds[me].generation, s->generation);
                if (s->generation < last || answer(s) != (float)s->generation)
                        atomic_fetch_add(&w->wrong, 1);
                last = s->generation;
                if (reads % 64 == me)
                        (void)sched_yield(); /* holds it across a switch */
                atomic_store(&w->holds[me].generation, 0);
                snapshot_release(w->cell, s);
                reads++;
        }
        atomic_fetch_add(&w->reads, reads);
        return NULL;
}

static void nobody_holds_the_old_after_publish_in_a_storm_of_readers(void **state)
{
        struct storm *w = aligned_alloc(64, sizeof *w);
        pthread_t threads[READERS];
        uint64_t worst_us = 0;
        (void)state;
        assert_non_null(w);
        memset(w, 0, sizeof *w);
        w->cell = snapshot_cell_create();
        for (int i = 0; i < READERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, read_storm, w), 0);
        for (uint64_t g = 1; g <= PUBLICATIONS; g++) {
                uint64_t began = mono_us();
                snapshot_publish(w->cell, g % 7 == 0 ? NULL : snapshot_of(g));
                uint64_t took = mono_us() - began;
                worst_us = took > worst_us ? took : worst_us;
                for (int i = 0; i < READERS; i++) {
                        uint64_t held = atomic_load(&w->holds[i].generation);
                        if (held != 0 && held < g)
                                fail_msg("reader %d holds %llu after %llu was published", i,
                                         (unsigned long long)held, (unsigned long long)g);
                }
        }
        snapshot_publish(w->cell, snapshot_of(PUBLICATIONS + 1));
        sleep_ms(20);
        atomic_store(&w->stop, true);
        for (int i = 0; i < READERS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(atomic_load(&w->wrong), 0);
        assert_true(atomic_load(&w->reads) > 0);
        assert_true(worst_us < 5000000); /* the writer does not starve, on a busy machine either */
        snapshot_cell_destroy(&w->cell);
        free(w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_cell_is_empty_until_something_is_published),
                cmocka_unit_test(constituents_are_shared_by_successive_snapshots),
                cmocka_unit_test(the_hash_is_of_the_constituents_and_their_order_alone),
                cmocka_unit_test(publish_returns_only_after_the_last_reader_of_the_old),
                cmocka_unit_test(nobody_holds_the_old_after_publish_in_a_storm_of_readers),
        };
        return cmocka_run_group_tests_name("snapshot", tests, make_config, destroy_config);
}
