/* SPDX-License-Identifier: Apache-2.0
 * test_log.c: the shape of a line, the levels, the limit of each event name, and lines of several
 * threads. stderr is a file while a test looks at it. */
#include "lib/util/clock.h"
#include "lib/util/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

#define WALL_MS INT64_C(1769850000123) /* 2026-01-31T09:00:00.123Z */

static char text[8 * 1024 * 1024];
static uint64_t mono = 1000000;

struct capture {
        FILE *file;
        int saved;
};

static struct capture capture_begin(void)
{
        struct capture c = {.file = tmpfile()};
        assert_non_null(c.file);
        fflush(stderr);
        c.saved = dup(STDERR_FILENO);
        assert_true(c.saved >= 0);
        assert_true(dup2(fileno(c.file), STDERR_FILENO) >= 0);
        return c;
}

/* What was written to stderr since capture_begin, in `text`. */
static void capture_end(struct capture c)
{
        assert_true(dup2(c.saved, STDERR_FILENO) >= 0);
        close(c.saved);
        rewind(c.file);
        size_t n = fread(text, 1, sizeof text - 1, c.file);
        text[n] = '\0';
        fclose(c.file);
}

static int count(const char *what)
{
        int n = 0;
        for (const char *p = strstr(text, what); p != NULL; p = strstr(p + 1, what))
                n++;
        return n;
}

static void pass_us(uint64_t us)
{
        mono += us;
        clock_use_fixed(WALL_MS, mono);
}

static void a_line_is_time_level_event_and_pairs(void **state)
{
        (void)state;
        struct capture c = capture_begin();
        errno = ENOENT;
        log_event(LOG_LEVEL_WARN, "shape", "model=%s shard=%d", "digits", 3);
        log_event(LOG_LEVEL_ERROR, "bare", "%s", "");
        int after = errno;
        capture_end(c);
        assert_string_equal(text, "2026-01-31T09:00:00.123Z warn shape model=digits shard=3\n"
                                  "2026-01-31T09:00:00.123Z error bare \n");
        assert_int_equal(after, ENOENT);
}

static void events_below_the_level_are_not_written(void **state)
{
        (void)state;
        struct capture c = capture_begin();
        log_event(LOG_LEVEL_DEBUG, "hidden", "a=1"); /* info is the default */
        log_event(LOG_LEVEL_INFO, "shown", "a=1");
        log_set_level(LOG_LEVEL_ERROR);
        log_event(LOG_LEVEL_WARN, "hidden", "a=1");
        log_event(LOG_LEVEL_ERROR, "shown", "a=1");
        log_set_level(LOG_LEVEL_DEBUG);
        log_event(LOG_LEVEL_DEBUG, "shown", "a=1");
        log_set_level(LOG_LEVEL_INFO);
        capture_end(c);
        assert_int_equal(count("hidden"), 0);
        assert_int_equal(count(" shown a=1\n"), 3);
}

static void level_names_are_read(void **state)
{
        (void)state;
        int ok = 7;
        assert_int_equal(log_level_parse("debug", &ok), LOG_LEVEL_DEBUG);
        assert_int_equal(ok, 1);
        assert_int_equal(log_level_parse("error", NULL), LOG_LEVEL_ERROR);
        assert_int_equal(log_level_parse("warn", &ok), LOG_LEVEL_WARN);
        log_level_parse("Warning", &ok);
        assert_int_equal(ok, 0);
        log_level_parse("", &ok);
        assert_int_equal(ok, 0);
}

static void a_value_cannot_forge_a_line(void **state)
{
        (void)state;
        struct capture c = capture_begin();
        log_event(LOG_LEVEL_INFO, "forged", "a=%s", "x\n2026 error fake\r\x1b[31m\x7f");
        capture_end(c);
        assert_int_equal(count("\n"), 1);
        assert_int_equal(count("\x1b"), 0);
        assert_int_equal(count("a=x?2026 error fake??[31m?\n"), 1);
}

static void a_long_line_is_cut_and_ends(void **state)
{
        (void)state;
        static char value[10000];
        memset(value, 'v', sizeof value - 1);
        struct capture c = capture_begin();
        log_event(LOG_LEVEL_INFO, "long_line", "a=%s", value);
        capture_end(c);
        assert_in_range(strlen(text), 1000, 4096); /* PIPE_BUF: written in one piece */
        assert_int_equal(count("\n"), 1);
        assert_int_equal(text[strlen(text) - 1], '\n');
}

static void a_busy_event_is_limited_and_summed_up(void **state)
{
        (void)state;
        struct capture c = capture_begin();
        for (int i = 0; i < 1000; i++)
                log_event(LOG_LEVEL_INFO, "busy", "i=%d", i);
        log_event(LOG_LEVEL_INFO, "quiet", "i=1"); /* has a limit of its own */
        capture_end(c);
        assert_int_equal(count(" busy "), 50);
        assert_int_equal(count(" quiet "), 1);
        assert_int_equal(count("log_rate_limited"), 0);
        assert_non_null(strstr(text, "i=49\n"));
        c = capture_begin();
        pass_us(1000000);
        log_event(LOG_LEVEL_INFO, "quiet", "i=2"); /* any event brings the summary out */
        log_event(LOG_LEVEL_INFO, "busy", "i=1000");
        capture_end(c);
        assert_int_equal(count("log_rate_limited event=busy left_out=950\n"), 1);
        assert_int_equal(count(" busy i=1000\n"), 1);
        c = capture_begin();
        pass_us(5000000);
        log_event(LOG_LEVEL_INFO, "quiet", "i=3");
        capture_end(c);
        assert_int_equal(count("log_rate_limited"), 0); /* said once */
}

static void more_names_than_slots_share_one_limit(void **state)
{
        (void)state;
        pass_us(2000000);
        struct capture c = capture_begin();
        for (int i = 0; i < 2000; i++) {
                char name[32];
                snprintf(name, sizeof name, "name_%d", i);
                log_event(LOG_LEVEL_INFO, name, "%s", "x=1");
        }
        capture_end(c);
        assert_in_range(count(" name_"), 200, 400);
        pass_us(2000000);
        c = capture_begin();
        log_event(LOG_LEVEL_INFO, "name_0", "x=2");
        capture_end(c);
        assert_int_equal(count("event=others left_out="), 1);
        assert_int_equal(count(" name_0 x=2"), 1);
}

enum { THREADS = 4, EACH = 2000 };

static void *log_many(void *arg)
{
        const char *name = arg;
        for (int i = 0; i < EACH; i++)
                log_event(LOG_LEVEL_INFO, name, "value=%d end=yes", i);
        return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state)
{
        (void)state;
        static char names[THREADS][8] = {"busy", "quiet", "shown", "shape"};
        pthread_t threads[THREADS];
        pass_us(2000000);
        struct capture c = capture_begin();
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, log_many, names[i]), 0);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        capture_end(c);
        int lines = 0;
        for (char *line = text, *end = strchr(line, '\n'); end != NULL; lines++) {
                *end = '\0';
                assert_true(strncmp(line, "2026-01-31T09:00:00.123Z info ", 30) == 0);
                assert_string_equal(end - 8, " end=yes");
                line = end + 1;
                end = strchr(line, '\n');
        }
        assert_int_equal(lines, THREADS * 50);
}

static int fix_clock(void **state)
{
        (void)state;
        pass_us(0);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_line_is_time_level_event_and_pairs),
                cmocka_unit_test(events_below_the_level_are_not_written),
                cmocka_unit_test(level_names_are_read),
                cmocka_unit_test(a_value_cannot_forge_a_line),
                cmocka_unit_test(a_long_line_is_cut_and_ends),
                cmocka_unit_test(a_busy_event_is_limited_and_summed_up),
                cmocka_unit_test(more_names_than_slots_share_one_limit),
                cmocka_unit_test(lines_of_several_threads_do_not_mix),
        };
        return cmocka_run_group_tests(tests, fix_clock, NULL);
}
