/* SPDX-License-Identifier: Apache-2.0
 * executor_local.c: jobs in child processes on the libuv loop. A child gets its job file's path,
 * an empty standard input, a pipe as standard output whose lines (lib/sisa/job.h) become events,
 * the daemon's standard error and nothing else: no descriptor, no variable but the few it needs. It
 * is a process group of its own, so that SIGKILL reaches all of it. It knows nothing of what a job
 * is.
 *
 * What a worker says is untrusted: lines are bounded, and one that is not understood ends it.
 *
 *   running --(exit)--> draining --(end of the pipe, or GRACE_MS)--> closing --(handles)--> ended
 *           --(end of the pipe)--> waits for the exit (the wall clock still runs)
 *
 * libuv has no hook between fork and exec: limits are set by prlimit(2) right after the spawn, and
 * the worker sets idle priority and a parent-death signal itself as well. */
#include "daemon/executor.h"

#include "lib/util/crash_point.h"
#include "lib/util/file.h"
#include "lib/util/log.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

enum {
        LINE_BYTES_MAX = 512, /* `stage` takes 240, `error` a sentence */
        ENV_MAX = 16,
        ENV_BYTES_MAX = 4096, /* a variable that is passed on */
        GRACE_MS = 1000,      /* for the end of the pipe after the exit */
        EXECUTION_MAGIC = 0x55584543,
        HANDLES = 3,
};

struct local {
        struct executor base;
        /* set once */
        uv_loop_t *loop;
        char worker_path[PATH_SIZE];
        /* loop thread */
        uint32_t running;
};

struct execution {
        uint32_t magic;
        struct local *local;
        struct executor_events ev;
        uint32_t seconds;
        uv_process_t process;
        uv_pipe_t pipe;
        uv_timer_t timer;
        uint32_t open_handles;
        bool started; /* `ended` is owed */
        bool exited, eof, closing;
        bool done; /* the worker said so */
        int64_t exit_status;
        int term_signal;
        int err; /* the first reason why it failed */
        struct errinfo e;
        size_t line_len;
        char line[LINE_BYTES_MAX];
};

static struct execution *execution_of(void *data)
{
        struct execution *run = data;
        assert(run != NULL && run->magic == EXECUTION_MAGIC);
        return run;
}

/* --- the end --- */

/* Keeps the first reason. */
static void fail(struct execution *run, int err, const char *why)
{
        if (run->err == 0)
                run->err = ul_fail(&run->e, err, "%s", why);
}

static void kill_group(struct execution *run)
{
        /* before it was waited for, its number cannot be another's */
        if (run->started && !run->exited && kill(-run->process.pid, SIGKILL) != 0 && errno == ESRCH)
                (void)uv_process_kill(&run->process, SIGKILL);
}

static void judge(struct execution *run)
{
        char why[ERRINFO_DETAIL_MAX];
        if (run->err != 0)
                return;
        if (run->term_signal != 0) {
                (void)snprintf(why, sizeof why, "the worker was ended by signal %d (%s)",
                               run->term_signal, strsignal(run->term_signal));
                fail(run, UL_INTERNAL, why);
        } else if (run->exit_status != 0) {
                (void)snprintf(why, sizeof why, "the worker ended with status %lld",
                               (long long)run->exit_status);
                fail(run, UL_INTERNAL, why);
        } else if (!run->done) {
                fail(run, UL_INTERNAL, "the worker ended before it was done");
        }
}

static void on_closed(uv_handle_t *handle)
{
        struct execution *run = execution_of(handle->data);
        if (--run->open_handles > 0)
                return;
        if (run->started) {
                judge(run);
                run->local->running--;
                run->ev.ended(run->ev.arg, run->err, &run->e);
        }
        run->magic = 0;
        free(run);
}

static void close_all(struct execution *run)
{
        if (run->closing)
                return;
        run->closing = true;
        uv_close((uv_handle_t *)&run->timer, on_closed);
        uv_close((uv_handle_t *)&run->pipe, on_closed);
        if (run->open_handles == HANDLES)
                uv_close((uv_handle_t *)&run->process, on_closed);
}

/* --- lines --- */

/* Takes the word before the next space off *text; NULL where there is none left. */
static char *next_word(char **text)
{
        char *word = *text;
        if (word == NULL || *word == '\0')
                return NULL;
        char *space = strchr(word, ' ');
        if (space != NULL)
                *space++ = '\0';
        *text = space;
        return word;
}

static bool take_number(char **text, uint64_t max, uint64_t *out)
{
        char *word = next_word(text), *end = NULL;
        if (word == NULL || word[0] < '0' || word[0] > '9')
                return false;
        errno = 0;
        *out = strtoull(word, &end, 10);
        return errno == 0 && *end == '\0' && *out <= max;
}

static bool take_hash(char **text, uint8_t out[SHA256_BYTES])
{
        char *word = next_word(text);
        return word != NULL && strlen(word) == 2 * (size_t)SHA256_BYTES &&
               hex_decode(word, strlen(word), out, SHA256_BYTES) == SHA256_BYTES;
}

static bool say_progress(struct execution *run, char *rest)
{
        uint64_t done = 0, total = 0;
        if (!take_number(&rest, UINT64_MAX, &done) || !take_number(&rest, UINT64_MAX, &total) ||
            rest != NULL || done > total)
                return false;
        if (run->ev.progress != NULL)
                run->ev.progress(run->ev.arg, done, total);
        return true;
}

static bool say_stage(struct execution *run, char *rest)
{
        struct executor_stage stage = {0};
        uint64_t slice = 0;
        if (!take_number(&rest, SLICES_TOTAL_MAX, &slice) || slice == 0 ||
            !take_hash(&rest, stage.file_hash) || !take_hash(&rest, stage.data_hash) ||
            !take_hash(&rest, stage.retained) || !take_number(&rest, UINT64_MAX, &stage.records) ||
            rest != NULL)
                return false;
        stage.slice = (uint32_t)slice;
        if (run->ev.stage != NULL)
                run->ev.stage(run->ev.arg, &stage);
        return true;
}

static bool say_error(struct execution *run, char *rest)
{
        const char *name = next_word(&rest);
        int err = UL_INTERNAL;
        if (name == NULL)
                return false;
        for (int code = UL_SYNTAX; code > UL_AGAIN; code--)
                if (strcmp(ul_err_name(code), name) == 0)
                        err = code;
        fail(run, err, rest != NULL ? rest : name);
        return true;
}

static bool say(struct execution *run, char *line)
{
        char *rest = line;
        if (run->err != 0)
                return true; /* what follows a failure is noise */
        for (char *p = line; *p != '\0'; p++)
                if (*p < ' ' || *p > '~')
                        *p = '?';
        const char *verb = next_word(&rest);
        if (verb == NULL || run->done)
                return false; /* nothing follows `done` */
        if (strcmp(verb, "progress") == 0)
                return say_progress(run, rest);
        if (strcmp(verb, "stage") == 0)
                return say_stage(run, rest);
        if (strcmp(verb, "error") == 0)
                return say_error(run, rest);
        if (strcmp(verb, "done") == 0 && rest == NULL) {
                run->done = true;
                return true;
        }
        return false;
}

/* One byte at a time: a line is short, and comes some 10 times a second. */
static void feed(struct execution *run, const char *data, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (data[i] != '\n' && data[i] != '\0' && run->line_len < LINE_BYTES_MAX - 1) {
                        run->line[run->line_len++] = data[i];
                        continue;
                }
                bool whole = data[i] == '\n';
                run->line[run->line_len] = '\0';
                run->line_len = 0;
                if (!whole || !say(run, run->line)) {
                        fail(run, UL_INTERNAL,
                             whole ? "the worker said something that is not understood"
                                   : "the worker said a line that is too long or not text");
                        kill_group(run);
                        return; /* the rest of the block says nothing either */
                }
        }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
        (void)handle;
        (void)suggested;
        static char block[4096]; /* libuv reads into it and calls on_read before anything else */
        *buf = uv_buf_init(block, sizeof block);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
        struct execution *run = execution_of(stream->data);
        if (n > 0) {
                if (run->err == 0)
                        feed(run, buf->base, (size_t)n);
                return;
        }
        if (n == 0)
                return;
        if (n == UV_EOF && run->line_len > 0)
                fail(run, UL_INTERNAL, "the worker ended in the middle of a line");
        else if (n != UV_EOF)
                fail(run, UL_IO, uv_strerror((int)n));
        (void)uv_read_stop(stream);
        run->eof = true;
        if (run->exited)
                close_all(run);
}

/* --- exit and clock --- */

static void on_grace(uv_timer_t *timer)
{
        struct execution *run = execution_of(timer->data);
        fail(run, UL_INTERNAL, "the worker ended, but something that it started still runs");
        close_all(run);
}

static void on_timeout(uv_timer_t *timer)
{
        struct execution *run = execution_of(timer->data);
        char why[ERRINFO_DETAIL_MAX];
        (void)snprintf(why, sizeof why, "the worker was ended after %u seconds (worker_seconds)",
                       run->seconds);
        fail(run, UL_TIMEOUT, why);
        kill_group(run);
}

static void on_exit_status(uv_process_t *process, int64_t status, int term_signal)
{
        struct execution *run = execution_of(process->data);
        run->exited = true;
        run->exit_status = status;
        run->term_signal = term_signal;
        if (run->eof)
                close_all(run);
        else if (uv_timer_start(&run->timer, on_grace, GRACE_MS, 0) != 0)
                close_all(run);
}

/* --- start --- */

static void cloexec_one_by_one(void)
{
        DIR *dir = opendir("/proc/self/fd");
        const struct dirent *entry;
        if (dir == NULL)
                return;
        while ((entry = readdir(dir)) != NULL) {
                long fd = strtol(entry->d_name, NULL, 10); /* "." and ".." give 0 */
                int flags = fd > STDERR_FILENO ? fcntl((int)fd, F_GETFD) : -1;
                if (flags >= 0)
                        (void)fcntl((int)fd, F_SETFD, flags | FD_CLOEXEC);
        }
        (void)closedir(dir);
}

/* Whatever a library opened without O_CLOEXEC must not reach a worker. */
static void close_on_exec(void)
{
        if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
                cloexec_one_by_one(); /* before Linux 5.11 */
}

/* The few variables that a worker needs: what the operator told BLAS of this machine goes before
 * what the model is pinned to. OPENBLAS_CORETYPE is passed on even where it is empty: the worker
 * refuses that, rather than compute other bits (kernels.h). */
static uint32_t fill_env(const char *kernel, char text[ENV_MAX][ENV_BYTES_MAX],
                         char *env[ENV_MAX + 1])
{
        static const char *const passed[] = {
                "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LD_LIBRARY_PATH",    "ASAN_OPTIONS",
                "TSAN_OPTIONS",      "UBSAN_OPTIONS",    CRASH_POINT_VARIABLES};
        static const char *const fixed[] = {"LC_ALL=C", "OPENBLAS_NUM_THREADS=1"};
        uint32_t n = 0;
        for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++, n++)
                (void)snprintf(text[n], ENV_BYTES_MAX, "%s", fixed[i]);
        for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
                const char *value = getenv(passed[i]);
                int len = value == NULL
                                  ? ENV_BYTES_MAX
                                  : snprintf(text[n], ENV_BYTES_MAX, "%s=%s", passed[i], value);
                n += len >= 0 && len < ENV_BYTES_MAX;
        }
        if (getenv("OPENBLAS_CORETYPE") == NULL && kernel != NULL && kernel[0] != '\0')
                (void)snprintf(text[n++], ENV_BYTES_MAX, "OPENBLAS_CORETYPE=%s", kernel);
        for (uint32_t i = 0; i < n; i++)
                env[i] = text[i];
        env[n] = NULL;
        return n;
}

static int spawn(struct execution *run, const char *job_path, const char *kernel, struct errinfo *e)
{
        char(*text)[ENV_BYTES_MAX] = calloc(ENV_MAX, ENV_BYTES_MAX);
        char *env[ENV_MAX + 1];
        char job[PATH_SIZE];
        char *args[] = {run->local->worker_path, job, NULL};
        uv_stdio_container_t stdio[3] = {
                {.flags = UV_IGNORE},
                {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
                 .data.stream = (uv_stream_t *)&run->pipe},
                {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        };
        uv_process_options_t options = {
                .exit_cb = on_exit_status,
                .file = run->local->worker_path,
                .args = args,
                .env = env,
                .flags = UV_PROCESS_DETACHED, /* setsid: a group of its own */
                .stdio_count = 3,
                .stdio = stdio,
        };
        if (text == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to start a worker");
        int err = path_format(job, e, "%s", job_path);
        if (err == 0) {
                (void)fill_env(kernel, text, env);
                close_on_exec();
                int rc = uv_spawn(run->local->loop, &run->process, &options);
                run->open_handles++; /* uv_spawn initialises the handle in every case */
                if (rc != 0)
                        err = ul_fail(e, UL_IO, "cannot start the worker %.120s: %s",
                                      run->local->worker_path, uv_strerror(rc));
        }
        free(text);
        return err;
}

/* Sanitizers reserve terabytes of address space for their shadow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMIT_ADDRESS_SPACE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMIT_ADDRESS_SPACE 0
#endif
#endif
#ifndef LIMIT_ADDRESS_SPACE
#define LIMIT_ADDRESS_SPACE 1
#endif

static int limit(pid_t pid, __rlimit_resource_t what, rlim_t value, struct errinfo *e)
{
        struct rlimit r = {.rlim_cur = value, .rlim_max = value};
        if (prlimit(pid, what, &r, NULL) == 0 || errno == ESRCH)
                return 0; /* ESRCH: it has ended already */
        return ul_fail_errno(e, "cannot limit a worker (prlimit)");
}

static int confine(struct execution *run, const struct executor_limits *limits, struct errinfo *e)
{
        pid_t pid = run->process.pid;
        struct sched_param idle = {0};
        int err = limit(pid, RLIMIT_CORE, 0, e);
        if (err == 0 && limits->memory_bytes > 0 && LIMIT_ADDRESS_SPACE)
                err = limit(pid, RLIMIT_AS, (rlim_t)limits->memory_bytes, e);
        if (sched_setscheduler(pid, SCHED_IDLE, &idle) != 0 && errno != ESRCH)
                log_event(LOG_LEVEL_WARN, "worker_priority", "error=%s", strerrorname_np(errno));
        return err;
}

static int local_start(struct executor *x, const char *job_path,
                       const struct executor_limits *limits, const struct executor_events *ev,
                       struct execution **out, struct errinfo *e)
{
        struct local *l = (struct local *)x;
        struct execution *run = calloc(1, sizeof *run);
        assert(ev->ended != NULL);
        if (run == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to start a worker");
        run->magic = EXECUTION_MAGIC;
        run->local = l;
        run->ev = *ev;
        run->seconds = limits->seconds;
        run->process.data = run->pipe.data = run->timer.data = run;
        int rc = uv_pipe_init(l->loop, &run->pipe, 0);
        if (rc != 0) {
                free(run);
                return ul_fail(e, UL_IO, "cannot start a worker: %s", uv_strerror(rc));
        }
        (void)uv_timer_init(l->loop, &run->timer); /* cannot fail */
        run->open_handles = HANDLES - 1;
        int err = spawn(run, job_path, limits->kernel, e);
        if (err != 0) {
                close_all(run); /* freed by the loop, without `ended` */
                return err;
        }
        run->started = true;
        l->running++;
        *out = run;
        /* From here on a failure is the execution's, told by `ended`. */
        if (confine(run, limits, &run->e) != 0) {
                run->err = run->e.code;
                kill_group(run);
        }
        rc = uv_read_start((uv_stream_t *)&run->pipe, on_alloc, on_read);
        if (rc == 0 && limits->seconds > 0)
                rc = uv_timer_start(&run->timer, on_timeout, (uint64_t)limits->seconds * 1000, 0);
        if (rc != 0) {
                fail(run, UL_IO, uv_strerror(rc));
                kill_group(run);
        }
        return 0;
}

static void local_kill(struct execution *run)
{
        fail(execution_of(run), UL_CLOSED, "the worker was told to end");
        kill_group(run);
}

static void local_destroy(struct executor **x)
{
        struct local *l = (struct local *)*x;
        if (l == NULL)
                return;
        assert(l->running == 0);
        free(l);
        *x = NULL;
}

int executor_local_create(struct uv_loop_s *loop, const char *worker_path, struct executor **out,
                          struct errinfo *e)
{
        static const struct executor_ops ops = {local_start, local_kill, local_destroy};
        struct local *l = calloc(1, sizeof *l);
        if (l == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the executor");
        l->base.ops = &ops;
        l->loop = loop;
        int err = path_format(l->worker_path, e, "%s", worker_path);
        if (err == 0 && access(worker_path, X_OK) != 0)
                err = ul_fail(e, UL_NOT_FOUND, "cannot run the worker %.120s: %s; set worker_path",
                              worker_path, strerror(errno));
        if (err != 0) {
                free(l);
                return err;
        }
        *out = &l->base;
        return 0;
}
