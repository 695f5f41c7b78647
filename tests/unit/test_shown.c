/* SPDX-License-Identifier: Apache-2.0
 * test_shown.c: what may be seen of the store: the commits up to the last shown_advance, by every
 * reader at any time, with none waiting and no page kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/shown.h"
#include "tests/unit/store_fixture.h"
#include <pthread.h>
#include <stdatomic.h>

enum { READERS = 3 };

static struct shown *open_shown(struct fixture *f)
{
        struct shown *v = NULL;
        assert_int_equal(shown_open(f->store, READERS, &v, NULL), 0);
        return v;
}

static void put(struct fixture *f, uint64_t n)
{
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "n", n), 0);
        commit(&t);
}

static struct txn *take(struct shown *v)
{
        struct txn *t = NULL;
        assert_int_equal(shown_read(v, &t, NULL), 0);
        return t;
}

static uint64_t seen_by(struct txn *t)
{
        uint64_t n = 77;
        assert_int_equal(t_counter_get(t, "n", &n), 0);
        return n;
}

static uint64_t seen(struct shown *v)
{
        struct txn *t = take(v);
        uint64_t n = seen_by(t);
        txn_abort(&t);
        assert_null(t);
        return n;
}

static void a_commit_is_seen_once_it_is_shown(void **state)
{
        struct fixture *f = *state;
        struct shown *v = open_shown(f);
        put(f, 1);
        shown_advance(v);
        assert_int_equal(seen(v), 1);
        put(f, 2);
        assert_int_equal(seen(v), 1);
        assert_int_equal(seen(v), 1);
        shown_advance(v);
        assert_int_equal(seen(v), 2);
        shown_close(&v);
        assert_null(v);
}

static void nothing_is_shown_at_first(void **state)
{
        struct fixture *f = *state;
        struct shown *v = open_shown(f);
        struct txn *t = NULL;
        struct errinfo e = {0};
        assert_int_equal(shown_read(v, &t, &e), UL_BUSY);
        assert_null(t);
        assert_int_equal(e.retry_after_s, 1);
        shown_close(&v);
}

static void every_reader_gets_the_new_state_while_all_hold_an_old_one(void **state)
{
        struct fixture *f = *state;
        struct shown *v = open_shown(f);
        struct txn *old[READERS], *new[READERS];
        for (uint64_t n = 1; n < 20; n++) {
                put(f, n);
                shown_advance(v);
                for (int i = 0; i < READERS; i++)
                        old[i] = take(v);
                put(f, n + 100);
                shown_advance(v);
                for (int i = 0; i < READERS; i++) { /* each comes back before it asks again */
                        assert_int_equal(seen_by(old[i]), n);
                        txn_abort(&old[i]);
                        new[i] = take(v);
                }
                for (int i = 0; i < READERS; i++) {
                        assert_int_equal(seen_by(new[i]), n + 100);
                        txn_abort(&new[i]);
                }
        }
        shown_close(&v);
}

static void more_readers_than_announced_are_told_to_come_again(void **state)
{
        struct fixture *f = *state;
        struct shown *v = open_shown(f);
        struct txn *t[2 * READERS], *more = NULL;
        put(f, 1);
        shown_advance(v);
        for (int i = 0; i < 2 * READERS; i++)
                t[i] = take(v);
        assert_int_equal(shown_read(v, &more, NULL), UL_BUSY);
        for (int i = 0; i < 2 * READERS; i++)
                txn_abort(&t[i]);
        assert_int_equal(seen(v), 1);
        shown_close(&v);
}

static void an_error_ends_with_its_reader(void **state)
{
        struct fixture *f = *state;
        struct shown *v = open_shown(f);
        put(f, 1);
        shown_advance(v);
        for (int i = 0; i < 4 * READERS; i++) {
                struct txn *t = take(v);
                uint64_t n;
                assert_int_equal(txn_error(t), 0);
                assert_int_equal(txn_fail(t, UL_NOMEM), UL_NOMEM);
                assert_int_equal(t_counter_get(t, "n", &n), UL_NOMEM);
                txn_abort(&t);
        }
        assert_int_equal(seen(v), 1);
        shown_close(&v);
}

/* What LMDB may not use again makes the file grow. */
static void no_page_is_kept_for_a_reader_that_does_not_read(void **state)
{
        struct fixture *f = *state;
        struct shown *v = open_shown(f);
        uint64_t after_a_few = 0, used = 0, map;
        for (uint64_t n = 0; n < 400; n++) {
                put(f, n);
                shown_advance(v);
                assert_int_equal(seen(v), n);
                store_usage(f->store, &used, &map);
                if (n == 20)
                        after_a_few = used;
        }
        assert_int_equal(used, after_a_few);
        shown_close(&v);
}

struct threads {
        struct shown *shown;
        _Atomic uint64_t told;
        _Atomic bool stop;
        _Atomic uint64_t reads, early, late, refused;
};

/* What was told before the read began is seen, and nothing that is not told at its end. */
static void *read_on(void *arg)
{
        struct threads *x = arg;
        while (!atomic_load(&x->stop)) {
                struct txn *t = NULL;
                uint64_t before = atomic_load(&x->told), n = 0;
                if (shown_read(x->shown, &t, NULL) != 0) {
                        atomic_fetch_add(&x->refused, 1);
                        continue;
                }
                (void)t_counter_get(t, "n", &n);
                txn_abort(&t);
                atomic_fetch_add(&x->late, n < before);
                atomic_fetch_add(&x->early, n > atomic_load(&x->told) + 1);
                atomic_fetch_add(&x->reads, 1);
        }
        return NULL;
}

static void readers_on_threads_see_what_is_shown_and_are_never_refused(void **state)
{
        struct fixture *f = *state;
        struct threads x = {.shown = open_shown(f)};
        pthread_t thread[READERS];
        put(f, 0);
        shown_advance(x.shown);
        for (int i = 0; i < READERS; i++)
                assert_int_equal(pthread_create(&thread[i], NULL, read_on, &x), 0);
        for (uint64_t n = 1; n <= 200 || atomic_load(&x.reads) < 1000; n++) {
                put(f, n);
                shown_advance(x.shown);
                atomic_store(&x.told, n);
        }
        atomic_store(&x.stop, true);
        for (int i = 0; i < READERS; i++)
                assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(x.early, 0);
        assert_int_equal(x.late, 0);
        assert_int_equal(x.refused, 0);
        shown_close(&x.shown);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(nothing_is_shown_at_first),
                CASE(a_commit_is_seen_once_it_is_shown),
                CASE(every_reader_gets_the_new_state_while_all_hold_an_old_one),
                CASE(more_readers_than_announced_are_told_to_come_again),
                CASE(an_error_ends_with_its_reader),
                CASE(no_page_is_kept_for_a_reader_that_does_not_read),
                CASE(readers_on_threads_see_what_is_shown_and_are_never_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
