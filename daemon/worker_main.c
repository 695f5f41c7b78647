/* SPDX-License-Identifier: Apache-2.0
 * worker_main.c: unlearn-worker: one job file in, checkpoints out, the line protocol of
 * lib/sisa/job.h on standard output. It must not know HTTP, LMDB or the daemon: the same program
 * runs as the daemon's child and under a batch system.
 *
 * It takes the lowest priority itself, so that serving never waits for training wherever it runs
 * (invariant 8), and it leaves no core: its memory holds rows and the model's key. When whoever
 * reads its lines is gone it ends: a result that nobody waits for is not worth a write. */
#include "lib/kernels/kernels.h"
#include "lib/sisa/train.h"
#include "lib/util/crash_point.h"
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* The configuration's maximum, 4096 slices of under 48 bytes, and the rest. */
enum { JOB_FILE_MAX = MODEL_CONFIG_BYTES_MAX + 512 * 1024 };
enum { EXIT_DONE = 0, EXIT_FAILED = 1 };

/* LeakSanitizer stops the process with ptrace, which an undumpable one refuses. */
#if defined(__SANITIZE_ADDRESS__)
#define TRACED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRACED 1
#endif
#endif
#ifndef TRACED
#define TRACED 0
#endif

/* --- the process --- */

/* Must hold before a job is read. */
static int forbid_cores(void)
{
        const struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_CORE, &none) != 0)
                return -1;
        return TRACED ? 0 : prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* Best effort: a machine that refuses any of it still trains the same bytes. */
static void step_back(void)
{
        const struct sched_param idle = {.sched_priority = 0};
        if (sched_setscheduler(0, SCHED_IDLE, &idle) != 0)
                (void)setpriority(PRIO_PROCESS, 0, 19);
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        /* A killed daemon's worker must not go on writing into a scratch folder that the next start
         * has scrubbed already. */
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        (void)umask(077);
        if (close_range(3, ~0U, 0) != 0)
                for (int fd = 3; fd < 1024; fd++)
                        (void)close(fd);
        (void)signal(SIGPIPE, SIG_DFL); /* a daemon that ignores it would have us inherit that */
}

/* --- the lines --- */

/* Each line leaves at once; if it cannot, nobody reads. */
static void end_line(void)
{
        if (putchar('\n') == EOF || fflush(stdout) != 0)
                _exit(EXIT_FAILED);
}

static void put_hash(const uint8_t hash[SHA256_BYTES])
{
        char text[2 * SHA256_BYTES + 1];
        (void)printf(" %s", hex_encode(hash, SHA256_BYTES, text));
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
        (void)arg;
        (void)printf("progress %" PRIu64 " %" PRIu64, done, total);
        end_line();
}

static void on_stage(void *arg, uint32_t slice, const uint8_t file_hash[SHA256_BYTES],
                     const struct checkpoint *c)
{
        uint8_t data_hash[SHA256_BYTES];
        (void)arg;
        checkpoint_data_hash(c, data_hash);
        (void)printf("stage %" PRIu32, slice);
        put_hash(file_hash);
        put_hash(data_hash);
        put_hash(c->retained);
        (void)printf(" %" PRIu64, c->records);
        end_line();
}

static void put_error(int err, struct errinfo *e)
{
        for (char *p = e->detail; *p != '\0'; p++)
                if ((unsigned char)*p < ' ')
                        *p = ' ';
        (void)printf("error %s %s%s%s", ul_err_name(err), e->field, e->field[0] != '\0' ? " " : "",
                     e->detail);
        end_line();
}

/* --- the job --- */

static int run_job(const char *path, struct errinfo *e)
{
        const struct train_events events = {.progress = on_progress, .stage = on_stage};
        struct buf text = {0};
        struct job *job = NULL;
        size_t json_len = 0;
        buf_init(&text, JOB_FILE_MAX);
        int err = crypto_init();
        if (err != 0)
                (void)ul_fail(e, err, "libsodium does not start");
        if (err == 0)
                err = kernels_init(e);
        if (err == 0)
                err = read_file(path, JOB_FILE_MAX, &text, e);
        if (err == 0)
                err = job_unseal(text.data, text.len, &json_len, e);
        if (err == 0)
                err = job_parse((const char *)text.data, json_len, &job, e);
        buf_free(&text, true);
        CRASH_POINT("worker.job_read");
        if (err == 0)
                err = sisa_train(job, &events, e);
        CRASH_POINT("worker.trained");
        job_destroy(&job);
        return err;
}

static const char usage[] = "usage: unlearn-worker JOBFILE\n"
                            "Trains the stages that the job file describes and writes their "
                            "checkpoints to its scratch\n"
                            "folder. Reports on standard output, a line each: progress DONE TOTAL; "
                            "stage SLICE FILE_HASH\n"
                            "DATA_HASH RETAINED_HASH RECORDS; then done, or error CODE TEXT. Exit "
                            "status 0 after done,\n"
                            "1 otherwise. Runs at the lowest priority.\n"
                            "  --help     this text\n"
                            "  --version  the version\n";

int main(int argc, char **argv)
{
        struct errinfo e = {0};
        if (argc == 2 && strcmp(argv[1], "--help") == 0)
                return fputs(usage, stdout) == EOF || fflush(stdout) != 0 ? EXIT_FAILED : EXIT_DONE;
        if (argc == 2 && strcmp(argv[1], "--version") == 0) {
                (void)puts("unlearn-worker " UNLEARND_VERSION);
                return fflush(stdout) != 0 ? EXIT_FAILED : EXIT_DONE;
        }
        if (argc != 2 || argv[1][0] == '-') {
                (void)fputs(usage, stderr);
                return EXIT_FAILED;
        }
        if (forbid_cores() != 0) {
                (void)ul_fail_errno(&e, "forbid core dumps");
                put_error(e.code, &e);
                return EXIT_FAILED;
        }
        step_back();
        int err = run_job(argv[1], &e);
        if (err != 0) {
                put_error(err, &e);
                return EXIT_FAILED;
        }
        (void)fputs("done", stdout);
        end_line();
        CRASH_POINT("worker.done_told");
        return EXIT_DONE;
}
