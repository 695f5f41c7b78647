/* SPDX-License-Identifier: Apache-2.0
 * worker.c: see worker.h. The lines are those of lib/sisa/job.h. What the worker says of itself is
 * for the caller to compare: a checkpoint that it names is read back and hashed here. */
#include "cli/worker.h"

#include "lib/util/limits.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 1024, ENV_BYTES_MAX = 4096, ENV_MAX = 8 };

int worker_find(const char *given, char out[PATH_SIZE], struct errinfo *e)
{
        char self[PATH_SIZE];
        int err = 0;
        if (given != NULL) {
                err = path_format(out, e, "%s", given);
                return err != 0 || access(out, X_OK) == 0
                               ? err
                               : ul_fail(e, UL_NOT_FOUND, "there is no worker program at %.150s",
                                         given);
        }
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        char *slash = NULL;
        if (n > 0) {
                self[n] = '\0';
                slash = strrchr(self, '/');
        }
        static const char *const places[] = {"unlearn-worker",
                                             "../libexec/unlearnd/unlearn-worker"};
        if (slash != NULL)
                *slash = '\0';
        for (size_t i = 0; slash != NULL && i < sizeof places / sizeof *places; i++)
                if (path_format(out, e, "%s/%s", self, places[i]) == 0 && access(out, X_OK) == 0)
                        return 0;
        return ul_fail(e, UL_NOT_FOUND,
                       "unlearn-worker is not beside unlearnctl: give its path with --worker");
}

/* --- what it says --- */

struct listening {
        const struct job *job;
        struct progress *progress;
        struct worker_result *out;
        bool done;
        struct errinfo *e;
};

static int garbled(struct listening *l)
{
        return ul_fail(l->e, UL_INTERNAL, "the worker said something that is not understood");
}

static int hear_stage(struct listening *l, const char *rest)
{
        char file[65], data[65], retained[65];
        uint32_t slice = 0;
        uint64_t records = 0;
        if (sscanf(rest, "%" SCNu32 " %64s %64s %64s %" SCNu64, &slice, file, data, retained,
                   &records) != 5 ||
            hex_decode(file, strlen(file), l->out->file_hash, SHA256_BYTES) != SHA256_BYTES ||
            hex_decode(retained, strlen(retained), l->out->retained, SHA256_BYTES) != SHA256_BYTES)
                return garbled(l);
        l->out->slice = slice;
        return 0;
}

static int hear(struct listening *l, const char *line)
{
        uint64_t done = 0, total = 0;
        if (l->done)
                return garbled(l); /* nothing follows `done` */
        if (strcmp(line, "done") == 0) {
                l->done = true;
                return 0;
        }
        if (strncmp(line, "stage ", 6) == 0)
                return hear_stage(l, line + 6);
        if (sscanf(line, "progress %" SCNu64 " %" SCNu64, &done, &total) == 2) {
                if (total > 0)
                        progress_fraction(l->progress, (double)done / (double)total, -1);
                return 0;
        }
        if (strncmp(line, "error ", 6) == 0) {
                const char *text = strchr(line + 6, ' ');
                return ul_fail(l->e, UL_INVALID, "the worker: %s",
                               text != NULL ? text + 1 : line + 6);
        }
        return garbled(l);
}

/* Up to the end of what it says; the first error is kept, the rest read away. */
static int listen_to(struct listening *l, int fd)
{
        char line[LINE_BYTES_MAX];
        int err = 0;
        FILE *in = fdopen(fd, "r");
        if (in == NULL) {
                (void)close(fd);
                return ul_fail_errno(l->e, "listening to the worker");
        }
        while (fgets(line, sizeof line, in) != NULL) {
                char *newline = strchr(line, '\n');
                if (newline != NULL)
                        *newline = '\0';
                if (err == 0)
                        err = newline != NULL ? hear(l, line) : garbled(l);
        }
        (void)fclose(in);
        return err;
}

/* --- the process --- */

/* The few variables that a worker needs, as the daemon gives them. */
static void fill_env(const char *kernel, char text[ENV_MAX][ENV_BYTES_MAX], char *env[ENV_MAX + 1])
{
        static const char *const passed[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE",
                                             "LD_LIBRARY_PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS"};
        size_t n = 0;
        (void)snprintf(text[n++], ENV_BYTES_MAX, "OPENBLAS_NUM_THREADS=1");
        if (getenv("OPENBLAS_CORETYPE") == NULL && kernel[0] != '\0')
                (void)snprintf(text[n++], ENV_BYTES_MAX, "OPENBLAS_CORETYPE=%s", kernel);
        for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) {
                const char *value = getenv(passed[i]);
                if (value != NULL && strlen(value) < ENV_BYTES_MAX - 32)
                        (void)snprintf(text[n++], ENV_BYTES_MAX, "%s=%s", passed[i], value);
        }
        for (size_t i = 0; i < n; i++)
                env[i] = text[i];
        env[n] = NULL;
}

/* Signals that the caller holds back end the worker at once. */
static int spawn_unblocked(pid_t *pid, const char *name, const posix_spawn_file_actions_t *actions,
                           char **args, char **env)
{
        posix_spawnattr_t attributes;
        sigset_t none;
        (void)sigemptyset(&none);
        int rc = posix_spawnattr_init(&attributes);
        if (rc != 0)
                return rc;
        rc = posix_spawnattr_setsigmask(&attributes, &none);
        if (rc == 0)
                rc = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        if (rc == 0)
                rc = posix_spawn(pid, name, actions, &attributes, args, env);
        (void)posix_spawnattr_destroy(&attributes);
        return rc;
}

static int spawn(const char *program, const char *job_file, const char *kernel, pid_t *pid, int *fd,
                 struct errinfo *e)
{
        char(*text)[ENV_BYTES_MAX] = calloc(ENV_MAX, ENV_BYTES_MAX);
        char *env[ENV_MAX + 1], name[PATH_SIZE], job[PATH_SIZE];
        char *args[] = {name, job, NULL};
        int ends[2] = {-1, -1};
        posix_spawn_file_actions_t actions;
        int err = text == NULL ? ul_fail(e, UL_NOMEM, "no memory to start a worker") : 0;
        if (err == 0)
                err = path_format(name, e, "%s", program);
        if (err == 0)
                err = path_format(job, e, "%s", job_file);
        if (err == 0 && pipe2(ends, O_CLOEXEC) != 0)
                err = ul_fail_errno(e, "making a pipe");
        if (err != 0)
                goto out;
        fill_env(kernel, text, env);
        int rc = posix_spawn_file_actions_init(&actions);
        if (rc == 0) {
                rc = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
                if (rc == 0)
                        rc = spawn_unblocked(pid, name, &actions, args, env);
                (void)posix_spawn_file_actions_destroy(&actions);
        }
        (void)close(ends[1]);
        if (rc != 0) {
                (void)close(ends[0]);
                errno = rc;
                err = ul_fail_errno(e, "starting the worker");
        } else {
                *fd = ends[0];
        }
out:
        free(text);
        return err;
}

static int write_job(const struct job *j, char path[PATH_SIZE], struct errinfo *e)
{
        struct buf text = {0};
        int err = path_format(path, e, "%s/job.json", j->scratch);
        if (err == 0 && (job_write(j, &text) != 0 || job_seal(&text) != 0))
                err = ul_fail(e, UL_NOMEM, "no memory for a job");
        if (err == 0)
                err = write_file_durably(path, text.data, text.len, e);
        buf_free(&text, true);
        return err;
}

int worker_run(const char *program, const struct job *j, const char *kernel,
               struct progress *progress, struct worker_result *out, struct errinfo *e)
{
        struct listening l = {.job = j, .progress = progress, .out = out, .e = e};
        char job_file[PATH_SIZE];
        pid_t pid = -1;
        int fd = -1, status = -1;
        *out = (struct worker_result){0};
        int err = write_job(j, job_file, e);
        if (err == 0)
                err = spawn(program, job_file, kernel, &pid, &fd, e);
        if (err != 0)
                return err;
        err = listen_to(&l, fd);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                continue;
        if (err == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !l.done))
                err = ul_fail(e, UL_INTERNAL, "the worker ended without a result");
        return err;
}
