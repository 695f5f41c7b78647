/* SPDX-License-Identifier: Apache-2.0
 * test_executor.c: workers that hang, die, talk nonsense or never stop talking cost one job and
 * nothing else (invariant 8): `ended` comes exactly once, last and soon, and a worker has nothing
 * of the daemon's but what it needs. The workers are shell scripts. */
#include "daemon/executor.h"

#include "lib/util/clock.h"
#include "lib/util/file.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
#define HASH_C "0000000000000000000000000000000000000000000000000000000000000001"
#define SHORT "00000000000000000000000000000000000000000000000000000000000001"

static char dir[PATH_SIZE];
static char script[PATH_SIZE];
static char job[PATH_SIZE];

static int make_dir(void **state)
{
        const char *tmp = getenv("TMPDIR");
        (void)state;
        if (path_format(dir, NULL, "%s/executor.XXXXXX", tmp != NULL ? tmp : "/tmp") != 0 ||
            mkdtemp(dir) == NULL)
                return -1;
        return path_format(script, NULL, "%s/worker.sh", dir) |
               path_format(job, NULL, "%s/job.json", dir);
}

static int remove_dir(void **state)
{
        (void)state;
        return scrub_tree(dir, NULL);
}

/* Everything that an execution told. */
struct seen {
        uint32_t progress, stages, ended;
        uint64_t done, total;
        struct executor_stage stage;
        int err;
        struct errinfo e;
        uint64_t ended_us;
};

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
        struct seen *s = arg;
        assert_int_equal(s->ended, 0);
        s->progress++;
        s->done = done;
        s->total = total;
}

static void on_stage(void *arg, const struct executor_stage *stage)
{
        struct seen *s = arg;
        assert_int_equal(s->ended, 0);
        s->stages++;
        s->stage = *stage;
}

static void on_ended(void *arg, int err, const struct errinfo *e)
{
        struct seen *s = arg;
        s->ended++;
        s->err = err;
        s->e = *e;
        s->ended_us = mono_us();
}

static void write_script(const char *body)
{
        int fd = open(script, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, body, strlen(body)), strlen(body));
        assert_int_equal(close(fd), 0);
}

struct bench {
        uv_loop_t loop;
        struct executor *x;
};

static void bench_open(struct bench *b, const char *body)
{
        struct errinfo e = {0};
        write_script(body);
        assert_int_equal(uv_loop_init(&b->loop), 0);
        assert_int_equal(executor_local_create(&b->loop, script, &b->x, &e), 0);
}

static struct execution *bench_start(struct bench *b, struct seen *s, uint64_t memory,
                                     uint32_t seconds)
{
        const struct executor_limits limits = {memory, seconds, NULL};
        const struct executor_events ev = {on_progress, on_stage, on_ended, s};
        struct execution *run = NULL;
        struct errinfo e = {0};
        *s = (struct seen){0};
        assert_int_equal(b->x->ops->start(b->x, job, &limits, &ev, &run, &e), 0);
        assert_int_equal(s->ended, 0); /* never from within start */
        return run;
}

/* Runs until nothing is left of any execution, and checks that nothing is. */
static void bench_close(struct bench *b)
{
        assert_int_equal(uv_run(&b->loop, UV_RUN_DEFAULT), 0);
        b->x->ops->destroy(&b->x);
        assert_null(b->x);
        assert_int_equal(uv_loop_close(&b->loop), 0);
}

/* One worker with this script; returns the seconds until it ended. */
static double run(const char *body, struct seen *s, uint32_t seconds)
{
        struct bench b;
        bench_open(&b, body);
        uint64_t began = mono_us();
        (void)bench_start(&b, s, 0, seconds);
        bench_close(&b);
        assert_int_equal(s->ended, 1);
        return (double)(s->ended_us - began) / 1e6;
}

static void assert_failed(const struct seen *s, int err, const char *needle)
{
        assert_int_equal(s->ended, 1);
        if (s->err != err || strstr(s->e.detail, needle) == NULL)
                fail_msg("error %d '%s' where %d '%s' was expected", s->err, s->e.detail, err,
                         needle);
        assert_int_equal(s->e.code, err);
}

static void a_worker_that_does_its_job_is_heard_in_order(void **state)
{
        struct seen s;
        (void)state;
        (void)run("#!/bin/sh\n"
                  "echo progress 0 10\n"
                  "printf 'prog'; sleep 0.05; printf 'ress 4 1'; sleep 0.05; printf '0\\nprogress "
                  "10 10\\n'\n"
                  "echo stage 3 " HASH_A " " HASH_B " " HASH_C " 18446744073709551615\n"
                  "echo done\n",
                  &s, 30);
        assert_int_equal(s.err, 0);
        assert_int_equal(s.progress, 3);
        assert_true(s.done == 10 && s.total == 10);
        assert_int_equal(s.stages, 1);
        assert_int_equal(s.stage.slice, 3);
        assert_true(s.stage.records == UINT64_MAX);
        assert_int_equal(s.stage.file_hash[0], 0xaa);
        assert_int_equal(s.stage.data_hash[31], 0xbb);
        assert_int_equal(s.stage.retained[31], 1);
}

static void the_last_lines_before_an_exit_are_not_lost(void **state)
{
        struct seen s;
        (void)state;
        for (int i = 0; i < 20; i++) {
                (void)run("#!/bin/sh\n"
                          "i=0; while [ $i -lt 200 ]; do echo progress $i 200; i=$((i+1)); done\n"
                          "echo done\n",
                          &s, 30);
                assert_int_equal(s.err, 0);
                assert_int_equal(s.progress, 200);
        }
}

static void success_takes_both_the_word_and_the_status(void **state)
{
        struct seen s;
        (void)state;
        (void)run("#!/bin/sh\nexit 3\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "status 3");
        (void)run("#!/bin/sh\necho done\nexit 3\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "status 3");
        (void)run("#!/bin/sh\nexit 0\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "before it was done");
        (void)run("#!/bin/sh\necho done\nkill -9 $$\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "signal 9");
        (void)run("#!/bin/sh\nprintf done\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "middle of a line");
        (void)run("#!/bin/sh\nulimit -t 1; exec sh -c 'kill -XCPU $$'\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "signal 24");
}

static void the_workers_own_reason_is_passed_on(void **state)
{
        struct seen s;
        (void)state;
        (void)run("#!/bin/sh\necho error corrupt row 7 of slice 2 is damaged\nexit 1\n", &s, 30);
        assert_failed(&s, UL_CORRUPT, "row 7 of slice 2 is damaged");
        (void)run("#!/bin/sh\necho error no_space disk full\necho garbage\nexit 1\n", &s, 30);
        assert_int_equal(s.ended, 1);
        assert_true(s.err < 0);
        assert_string_equal(s.e.detail, "disk full");
        (void)run("#!/bin/sh\necho error surprise\nexit 1\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "surprise");
        /* an error is an error, whatever follows */
        (void)run("#!/bin/sh\necho error corrupt x\necho done\nexit 0\n", &s, 30);
        assert_failed(&s, UL_CORRUPT, "x");
        (void)run("#!/bin/sh\nprintf 'error corrupt a\\033[2Jb\\n'\nexit 1\n", &s, 30);
        assert_failed(&s, UL_CORRUPT, "a?[2Jb");
}

static void what_is_not_understood_ends_the_worker_at_once(void **state)
{
        static const char *const lines[] = {
                "hello",
                "",
                " ",
                "progress 1",
                "progress 2 1",
                "progress 1 2 3",
                "progress -1 2",
                "progress 1 x",
                "progress 1 99999999999999999999",
                "stage 0 " HASH_A " " HASH_A " " HASH_A " 1",
                "stage 4097 " HASH_A " " HASH_A " " HASH_A " 1",
                "stage 1 " HASH_A " " HASH_A " 1",
                "stage 1 " SHORT " " HASH_A " " HASH_A " 1",
                "stage 1 " SHORT "zz " HASH_A " " HASH_A " 1",
                "stage 1 " HASH_A "00 " HASH_A " " HASH_A " 1",
                "stage 1 " HASH_A " " HASH_A " " HASH_A,
                "stage 1 " HASH_A " " HASH_A " " HASH_A " 1 1",
                "done done",
                "done\\ndone",
                "done\\nprogress 1 1",
                "error",
        };
        char body[1024];
        struct seen s;
        (void)state;
        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
                (void)snprintf(body, sizeof body, "#!/bin/sh\nprintf '%s\\n'\nsleep 60\n",
                               lines[i]);
                assert_true(run(body, &s, 30) < 10);
                assert_failed(&s, UL_INTERNAL, "not understood");
                assert_int_equal(s.stages, 0);
        }
}

static void a_line_without_end_is_bounded(void **state)
{
        struct seen s;
        (void)state;
        assert_true(run("#!/bin/sh\nexec tr '\\0' x < /dev/zero\n", &s, 30) < 10);
        assert_failed(&s, UL_INTERNAL, "too long");
        assert_true(run("#!/bin/sh\nexec cat /dev/zero\n", &s, 30) < 10);
        assert_failed(&s, UL_INTERNAL, "not text");
        /* the longest line that fits, and one byte more */
        (void)run("#!/bin/sh\nprintf 'error corrupt %0497d\\n' 0\nexit 1\n", &s, 30);
        assert_failed(&s, UL_CORRUPT, "0000");
        (void)run("#!/bin/sh\nprintf 'error corrupt %0498d\\n' 0\nexit 1\n", &s, 30);
        assert_failed(&s, UL_INTERNAL, "too long");
}

static void a_worker_that_hangs_is_ended_by_the_clock(void **state)
{
        struct seen s;
        (void)state;
        double took = run("#!/bin/sh\ntrap '' TERM INT HUP\nsleep 60\nsleep 60\n", &s, 1);
        assert_true(took >= 0.9 && took < 10);
        assert_failed(&s, UL_TIMEOUT, "after 1 seconds");
        /* also where it closed its output */
        took = run("#!/bin/sh\nexec >/dev/null\nsleep 60\n", &s, 1);
        assert_true(took >= 0.9 && took < 10);
        assert_failed(&s, UL_TIMEOUT, "after 1 seconds");
}

static void kill_soon(uv_timer_t *timer)
{
        struct execution **run_of = timer->data;
        struct executor *const *x = (struct executor *const *)(run_of + 1);
        (*x)->ops->kill(*run_of);
        (*x)->ops->kill(*run_of); /* twice is once */
        uv_close((uv_handle_t *)timer, NULL);
}

static void kill_reaches_what_the_worker_started_too(void **state)
{
        struct bench b;
        struct seen s;
        uv_timer_t timer;
        struct {
                struct execution *run;
                struct executor *x;
        } both;
        (void)state;
        bench_open(&b, "#!/bin/sh\nsleep 60 &\nsleep 60\n");
        uint64_t began = mono_us();
        both.run = bench_start(&b, &s, 0, 0);
        both.x = b.x;
        assert_int_equal(uv_timer_init(&b.loop, &timer), 0);
        timer.data = &both;
        assert_int_equal(uv_timer_start(&timer, kill_soon, 100, 0), 0);
        bench_close(&b);
        assert_failed(&s, UL_CLOSED, "told to end");
        /* within the grace for the pipe: the sleeper that held it was killed too */
        assert_true(s.ended_us - began < 900000);
}

static void a_stranger_that_holds_the_pipe_does_not_hold_the_job(void **state)
{
        struct seen s;
        (void)state;
        double took = run("#!/bin/sh\nsetsid sleep 5 &\nsleep 0.2\necho done\nexit 0\n", &s, 30);
        assert_true(took < 4);
        assert_failed(&s, UL_INTERNAL, "still runs");
}

static void many_workers_run_at_a_time(void **state)
{
        enum { MANY = 20 };
        struct bench b;
        struct seen s[MANY];
        (void)state;
        bench_open(&b, "#!/bin/sh\necho progress 1 2\nsleep 0.1\necho done\n");
        for (int i = 0; i < MANY; i++)
                (void)bench_start(&b, &s[i], 0, 30);
        bench_close(&b);
        for (int i = 0; i < MANY; i++) {
                assert_int_equal(s[i].ended, 1);
                assert_int_equal(s[i].err, 0);
                assert_int_equal(s[i].progress, 1);
        }
}

static void a_worker_that_cannot_start_is_told_by_start_alone(void **state)
{
        struct bench b;
        struct seen s = {0};
        const struct executor_limits limits = {0, 30, NULL};
        const struct executor_events ev = {on_progress, on_stage, on_ended, &s};
        struct execution *run_of = NULL;
        struct errinfo e = {0};
        (void)state;
        bench_open(&b, "#!/nonexistent/interpreter\n");
        assert_int_equal(b.x->ops->start(b.x, job, &limits, &ev, &run_of, &e), UL_IO);
        assert_non_null(strstr(e.detail, "cannot start the worker"));
        bench_close(&b);
        assert_int_equal(s.ended, 0);

        uv_loop_t loop;
        struct executor *x = NULL;
        assert_int_equal(uv_loop_init(&loop), 0);
        assert_int_equal(executor_local_create(&loop, "/nonexistent/w", &x, &e), UL_NOT_FOUND);
        assert_non_null(strstr(e.detail, "worker_path"));
        assert_int_equal(uv_loop_close(&loop), 0);
}

/* What the worker wrote into job.json.NAME. */
static void read_back(const char *name, struct buf *out)
{
        char path[PATH_SIZE];
        assert_int_equal(path_format(path, NULL, "%s.%s", job, name), 0);
        buf_reset(out, false);
        assert_int_equal(read_file(path, 1 << 20, out, NULL), 0);
        for (size_t i = 0; i < out->len; i++)
                out->data[i] = out->data[i] == 0 ? '\n' : out->data[i];
        buf_append(out, "", 1);
}

static void assert_has(const struct buf *text, const char *needle, bool expected)
{
        if ((strstr((const char *)text->data, needle) != NULL) != expected)
                fail_msg("'%s' is%s in: %s", needle, expected ? " not" : "", text->data);
}

/* The standard signals that are ignored, as a mask; the C library's own real-time ones are not the
 * daemon's to set. */
static unsigned long long ignored_signals(const struct buf *status)
{
        const char *line = strstr((const char *)status->data, "SigIgn:\t");
        assert_non_null(line);
        return strtoull(line + strlen("SigIgn:\t"), NULL, 16) & 0x7fffffffULL;
}

static void a_worker_has_nothing_of_the_daemons_but_what_it_needs(void **state)
{
        struct bench b;
        struct seen s;
        struct buf text = {0};
        char secret[PATH_SIZE];
        (void)state;
        assert_int_equal(path_format(secret, NULL, "%s/control.mdb", dir), 0);
        int leaked = open(secret, O_RDWR | O_CREAT, 0600); /* as a careless library would */
        assert_true(leaked >= 0);
        (void)setenv("SECRET_TOKEN", "hunter2", 1);
        (void)setenv("OPENBLAS_CORETYPE", "", 1); /* set and empty is passed on as it is */
        bench_open(&b, "#!/bin/sh\n"
                       "cat /proc/$$/environ > $1.environ\n"
                       "ls -l /proc/$$/fd > $1.fd\n"
                       "if read x; then echo data; else echo eof; fi > $1.stdin\n"
                       "sleep 0.3\n"
                       "cat /proc/$$/limits > $1.limits\n"
                       /* not cat: a shell blocks signals while it starts a program */
                       "while read l; do echo \"$l\"; done < /proc/$$/status > $1.status\n"
                       "cut -d' ' -f5,6,41 /proc/$$/stat > $1.stat; echo $$ >> $1.stat\n"
                       "echo done\n");
        /* a thread that blocks and ignores signals, as the daemon may */
        sigset_t blocked, before;
        (void)sigemptyset(&blocked);
        (void)sigaddset(&blocked, SIGTERM);
        (void)pthread_sigmask(SIG_BLOCK, &blocked, &before);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)bench_start(&b, &s, (uint64_t)1 << 30, 30);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        bench_close(&b);
        (void)signal(SIGPIPE, SIG_DFL);
        (void)unsetenv("OPENBLAS_CORETYPE");
        assert_int_equal(s.err, 0);

        read_back("environ", &text);
        assert_has(&text, "hunter2", false);
        assert_has(&text, "HOME=", false);
        assert_has(&text, "OPENBLAS_CORETYPE=\n", true);
        assert_has(&text, "OPENBLAS_NUM_THREADS=1", true);
        read_back("fd", &text);
        assert_has(&text, "control.mdb", false);
        assert_has(&text, "0 -> /dev/null", true);
        read_back("stdin", &text);
        assert_has(&text, "eof", true);
        read_back("status", &text);
        assert_has(&text, "SigBlk:\t0000000000000000", true);
        assert_int_equal(ignored_signals(&text), 0);
        read_back("limits", &text);
        assert_has(&text, "Max core file size        0                    0", true);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        assert_has(&text, "Max address space         1073741824           1073741824", true);
#endif
        read_back("stat", &text);
        long group = 0, session = 0, policy = 0, pid = 0;
        assert_int_equal(
                sscanf((const char *)text.data, "%ld %ld %ld %ld", &group, &session, &policy, &pid),
                4);
        assert_int_equal(group, pid); /* a group and a session of its own */
        assert_int_equal(session, pid);
        assert_int_equal(policy, 5); /* SCHED_IDLE */
        assert_int_equal(close(leaked), 0);
        buf_free(&text, false);
}

static void jobs_in_the_calling_process_end_within_start(void **state)
{
        struct seen s = {0};
        const struct executor_limits limits = {0, 0, NULL};
        const struct executor_events ev = {on_progress, on_stage, on_ended, &s};
        struct execution *run_of = NULL;
        struct executor *x = NULL;
        struct errinfo e = {0};
        (void)state;
        assert_int_equal(executor_null_create(&x, &e), 0);
        assert_int_equal(x->ops->start(x, "/nonexistent/job", &limits, &ev, &run_of, &e), 0);
        assert_int_equal(s.ended, 1);
        assert_int_equal(s.err, UL_NOT_FOUND);
        assert_int_equal(write_file_durably(job, "{}", 2, NULL), 0);
        assert_int_equal(x->ops->start(x, job, &limits, &ev, &run_of, &e), 0);
        assert_int_equal(s.ended, 2);
        assert_true(s.err < 0);
        x->ops->destroy(&x);
        assert_null(x);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_worker_that_does_its_job_is_heard_in_order),
                cmocka_unit_test(the_last_lines_before_an_exit_are_not_lost),
                cmocka_unit_test(success_takes_both_the_word_and_the_status),
                cmocka_unit_test(the_workers_own_reason_is_passed_on),
                cmocka_unit_test(what_is_not_understood_ends_the_worker_at_once),
                cmocka_unit_test(a_line_without_end_is_bounded),
                cmocka_unit_test(a_worker_that_hangs_is_ended_by_the_clock),
                cmocka_unit_test(kill_reaches_what_the_worker_started_too),
                cmocka_unit_test(a_stranger_that_holds_the_pipe_does_not_hold_the_job),
                cmocka_unit_test(many_workers_run_at_a_time),
                cmocka_unit_test(a_worker_that_cannot_start_is_told_by_start_alone),
                cmocka_unit_test(a_worker_has_nothing_of_the_daemons_but_what_it_needs),
                cmocka_unit_test(jobs_in_the_calling_process_end_within_start),
        };
        return cmocka_run_group_tests_name("executor", tests, make_dir, remove_dir);
}
