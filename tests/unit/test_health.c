/* SPDX-License-Identifier: Apache-2.0
 * test_health.c: what is refused while a durable write fails, what is not, and that the log says it
 * where it begins and where it ends. */
#include "daemon/health.h"

#include "lib/util/clock.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct health h;

static int setup(void **state)
{
        (void)state;
        health_init(&h);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        health_destroy(&h);
        return 0;
}

static bool refused(enum health_change change)
{
        struct errinfo e = {0};
        int err = health_accepts(&h, change, &e);
        if (err == 0)
                return false;
        assert_int_equal(err, UL_UNAVAILABLE);
        assert_int_equal(e.code, UL_UNAVAILABLE);
        assert_true(e.retry_after_s > 0);
        return true;
}

static void a_healthy_service_accepts_everything(void **state)
{
        (void)state;
        assert_false(refused(HEALTH_ADDS));
        assert_false(refused(HEALTH_ERASES));
        assert_int_equal(health_ready(&h, NULL), 0);
        for (enum health_reason r = 0; r < HEALTH_REASONS; r++) {
                assert_false(health_stands(&h, r));
                assert_int_equal(health_count(&h, r), 0);
        }
}

static void a_store_that_cannot_be_written_refuses_everything(void **state)
{
        (void)state;
        health_begin(&h, HEALTH_STORE, UL_NOSPACE, "x");
        assert_true(refused(HEALTH_ADDS));
        assert_true(refused(HEALTH_ERASES));
        assert_int_equal(health_ready(&h, NULL), UL_UNAVAILABLE);
        health_end(&h, HEALTH_STORE);
        assert_false(refused(HEALTH_ADDS));
        assert_false(refused(HEALTH_ERASES));
}

static void other_faults_refuse_new_data_and_accept_erasures(void **state)
{
        static const enum health_reason others[] = {HEALTH_ROWS, HEALTH_SCRUB, HEALTH_FILES};
        (void)state;
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
                health_begin(&h, others[i], UL_IO, "x");
                assert_true(refused(HEALTH_ADDS));
                assert_false(refused(HEALTH_ERASES));
                assert_int_equal(health_ready(&h, NULL), UL_UNAVAILABLE);
                health_end(&h, others[i]);
                assert_int_equal(health_ready(&h, NULL), 0);
        }
}

static void failing_workers_refuse_nothing(void **state)
{
        (void)state;
        health_begin(&h, HEALTH_WORKER, UL_TIMEOUT, "x");
        assert_true(health_stands(&h, HEALTH_WORKER));
        assert_false(refused(HEALTH_ADDS));
        assert_int_equal(health_ready(&h, NULL), 0);
}

static void each_fault_ends_alone(void **state)
{
        (void)state;
        health_begin(&h, HEALTH_STORE, UL_IO, "x");
        health_begin(&h, HEALTH_SCRUB, UL_IO, "x");
        health_end(&h, HEALTH_STORE);
        assert_true(refused(HEALTH_ADDS));
        assert_false(refused(HEALTH_ERASES));
        health_end(&h, HEALTH_SCRUB);
        assert_false(refused(HEALTH_ADDS));
}

static void what_a_request_did_wrong_is_no_fault(void **state)
{
        static const int others[] = {UL_INVALID, UL_NOT_FOUND, UL_CONFLICT,    UL_NOMEM,
                                     UL_CORRUPT, UL_CLOSED,    UL_UNAVAILABLE, UL_INTERNAL};
        (void)state;
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
                assert_false(health_is_fault(others[i]));
                health_begin(&h, HEALTH_STORE, others[i], "x");
                assert_false(health_stands(&h, HEALTH_STORE));
        }
        assert_int_equal(health_count(&h, HEALTH_STORE), 0);
        assert_true(health_is_fault(UL_IO));
        assert_true(health_is_fault(UL_NOSPACE));
        assert_true(health_is_fault(UL_BUSY));
}

static void the_refusal_says_what_is_wrong_and_what_to_do(void **state)
{
        struct errinfo e = {0};
        (void)state;
        health_begin(&h, HEALTH_ROWS, UL_NOSPACE, "/secret/path");
        assert_int_equal(health_ready(&h, &e), UL_UNAVAILABLE);
        assert_non_null(strstr(e.detail, "rows"));
        assert_non_null(strstr(e.detail, "nospace"));
        assert_non_null(strstr(e.detail, "free space"));
        assert_null(strstr(e.detail, "/secret/path")); /* readiness is public */
        health_end(&h, HEALTH_ROWS);
        health_begin(&h, HEALTH_ROWS, UL_IO, "x");
        assert_int_equal(health_ready(&h, &e), UL_UNAVAILABLE);
        assert_non_null(strstr(e.detail, "look at the disk"));
}

/* What `fn` writes to standard error. */
static void logged(void (*fn)(void), char out[4096])
{
        FILE *f = tmpfile();
        int saved = dup(STDERR_FILENO);
        assert_non_null(f);
        assert_true(dup2(fileno(f), STDERR_FILENO) >= 0);
        fn();
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        close(saved);
        rewind(f);
        out[fread(out, 1, 4095, f)] = '\0';
        fclose(f);
}

static uint32_t times(const char *text, const char *part)
{
        uint32_t n = 0;
        for (const char *p = text; (p = strstr(p, part)) != NULL; p++)
                n++;
        return n;
}

static void many_failures(void)
{
        for (int i = 0; i < 20; i++)
                health_begin(&h, HEALTH_SCRUB, UL_IO, "cannot sync a file");
        for (int i = 0; i < 20; i++)
                health_end(&h, HEALTH_SCRUB);
}

static void the_log_tells_a_beginning_and_an_end_once(void **state)
{
        char text[4096];
        (void)state;
        logged(many_failures, text);
        assert_int_equal(times(text, " error degraded reason=scrub error=io"), 1);
        assert_int_equal(times(text, "detail=\"cannot sync a file\""), 1);
        assert_int_equal(times(text, " info recovered reason=scrub"), 1);
        assert_int_equal(times(text, "\n"), 2);
        assert_int_equal(health_count(&h, HEALTH_SCRUB), 20);
}

static _Atomic int terms;

static void on_term(int number)
{
        (void)number;
        terms++;
}

static void a_failed_store_asks_the_process_to_end_once(void **state)
{
        struct errinfo e = {0};
        struct sigaction caught = {.sa_handler = on_term}, before;
        (void)state;
        assert_int_equal(sigaction(SIGTERM, &caught, &before), 0);
        assert_false(health_failed(&h));
        health_fail(&h, "x");
        health_fail(&h, "x");
        assert_int_equal(sigaction(SIGTERM, &before, NULL), 0);
        assert_int_equal(terms, 1);
        assert_true(health_failed(&h));
        assert_int_equal(health_accepts(&h, HEALTH_ERASES, &e), UL_CLOSED);
        assert_int_equal(health_ready(&h, NULL), UL_CLOSED);
}

static void *flip(void *arg)
{
        for (int i = 0; i < 2000; i++) {
                health_begin(&h, (enum health_reason)(i % HEALTH_WORKER), UL_IO, "x");
                (void)health_ready(&h, NULL);
                health_end(&h, (enum health_reason)(i % HEALTH_WORKER));
        }
        return arg;
}

static void many_threads(void)
{
        pthread_t t[4];
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&t[i], NULL, flip, NULL), 0);
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(pthread_join(t[i], NULL), 0);
}

static void threads_leave_no_fault_standing_that_was_ended(void **state)
{
        char text[4096];
        uint64_t n = 0;
        (void)state;
        logged(many_threads, text);
        for (enum health_reason r = 0; r < HEALTH_REASONS; r++) {
                assert_false(health_stands(&h, r));
                n += health_count(&h, r);
        }
        assert_int_equal(n, 4 * 2000);
        assert_int_equal(health_ready(&h, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(a_healthy_service_accepts_everything),
                T(a_store_that_cannot_be_written_refuses_everything),
                T(other_faults_refuse_new_data_and_accept_erasures),
                T(failing_workers_refuse_nothing),
                T(each_fault_ends_alone),
                T(what_a_request_did_wrong_is_no_fault),
                T(the_refusal_says_what_is_wrong_and_what_to_do),
                T(the_log_tells_a_beginning_and_an_end_once),
                T(a_failed_store_asks_the_process_to_end_once),
                T(threads_leave_no_fault_standing_that_was_ended),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
