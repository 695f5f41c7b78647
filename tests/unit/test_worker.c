/* SPDX-License-Identifier: Apache-2.0
 * test_worker.c: unlearn-worker as a program: its lines, its exit status, and that it trains the
 * bytes that the library trains. Skipped where the program is not built. */
#include "tests/unit/train_world.h"
#include <sys/wait.h>

static char worker[PATH_SIZE];
static const char options[] =
        ",\"kind\":\"softmax\",\"features\":5,\"slices\":2,\"epochs\":3,\"classes\":3";
enum { RECORDS = 20 };

/* build/tests/test_worker -> build/unlearn-worker; UNLEARN_WORKER names another. */
static bool find_worker(void)
{
        char self[PATH_SIZE];
        const char *named = getenv("UNLEARN_WORKER");
        if (named != NULL)
                return path_format(worker, &world_error, "%s", named) == 0 && file_exists(worker);
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        if (n <= 0)
                return false;
        self[n] = '\0';
        for (int up = 0; up < 2; up++) {
                char *slash = strrchr(self, '/');
                if (slash == NULL)
                        return false;
                *slash = '\0';
        }
        return path_format(worker, &world_error, "%s/unlearn-worker", self) == 0 &&
               file_exists(worker);
}

/* Runs the worker with one argument; its output, NUL-terminated, into `out`. */
static int run_worker(const char *argument, struct buf *out)
{
        int ends[2];
        int status = 0;
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)dup2(ends[1], 1);
                execl(worker, "unlearn-worker", argument, (char *)NULL);
                _exit(99);
        }
        close(ends[1]);
        for (;;) {
                uint8_t chunk[4096];
                ssize_t n = read(ends[0], chunk, sizeof chunk);
                if (n <= 0)
                        break;
                buf_append(out, chunk, (size_t)n);
        }
        close(ends[0]);
        buf_append(out, "", 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void open_small(struct world *w)
{
        struct placed rows[RECORDS];
        for (uint32_t i = 0; i < RECORDS; i++)
                rows[i] = (struct placed){.n = i, .slice = 1 + i % 2};
        world_open(w, options, 2, rows, RECORDS);
}

static void write_job(const struct world *w, char path[PATH_SIZE])
{
        struct buf text = {0};
        assert_int_equal(job_write(&w->job, &text), 0);
        assert_int_equal(job_seal(&text), 0);
        assert_int_equal(path_format(path, &world_error, "%s/job.json", w->root), 0);
        assert_int_equal(write_file_durably(path, text.data, text.len, &world_error), 0);
        buf_free(&text, true);
}

static void a_job_is_trained_and_reported_line_by_line(void **state)
{
        (void)state;
        struct world w;
        struct buf said = {0};
        struct buf expected = {0};
        char path[PATH_SIZE];
        char hex[3][2 * SHA256_BYTES + 1];
        if (!find_worker())
                skip();
        open_small(&w);
        world_train_ok(&w, 1); /* what the library says */
        assert_int_equal(scrub_tree(w.scratch, &world_error), 0);
        write_job(&w, path);
        assert_int_equal(run_worker(path, &said), 0);
        for (uint32_t s = 1; s <= 2; s++) {
                struct checkpoint c;
                buf_reset(&expected, false);
                buf_printf(&expected, "\nstage %u %s %s %s %u\n", s,
                           hex_encode(w.stage[s].file, SHA256_BYTES, hex[0]),
                           hex_encode(w.stage[s].data, SHA256_BYTES, hex[1]),
                           hex_encode(w.stage[s].retained, SHA256_BYTES, hex[2]),
                           (unsigned)w.stage[s].records);
                buf_append(&expected, "", 1);
                assert_non_null(strstr((char *)said.data, (char *)expected.data));
                world_read(&w, s, &c); /* and the file is there */
                checkpoint_clear(&c);
        }
        assert_int_equal(strncmp((char *)said.data, "progress 0 60\n", 14), 0);
        assert_non_null(strstr((char *)said.data, "\nprogress 60 60\n"));
        assert_string_equal((char *)said.data + said.len - 6, "done\n");
        buf_free(&expected, false);
        buf_free(&said, false);
        world_close(&w);
}

static void a_job_that_fails_says_why_and_exits_1(void **state)
{
        (void)state;
        struct world w;
        struct buf said = {0};
        char path[PATH_SIZE];
        if (!find_worker())
                skip();
        open_small(&w);
        w.slice[0].live--;
        write_job(&w, path);
        assert_int_equal(run_worker(path, &said), 1);
        assert_non_null(strstr((char *)said.data, "error damaged_rows "));
        assert_null(strstr((char *)said.data, "done"));
        buf_reset(&said, false);
        assert_int_equal(run_worker("/nonexistent/job.json", &said), 1);
        assert_int_equal(strncmp((char *)said.data, "error not_found ", 16), 0);
        buf_reset(&said, false);
        FILE *f = fopen(path, "r+");
        assert_non_null(f);
        assert_int_equal(fseek(f, 30, SEEK_SET), 0);
        assert_true(fputc('~', f) != EOF);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(run_worker(path, &said), 1);
        assert_int_equal(strncmp((char *)said.data, "error corrupt the job file", 26), 0);
        buf_free(&said, false);
        world_close(&w);
}

static void help_and_version_are_told(void **state)
{
        (void)state;
        struct buf said = {0};
        if (!find_worker())
                skip();
        assert_int_equal(run_worker("--help", &said), 0);
        assert_non_null(strstr((char *)said.data, "usage: unlearn-worker JOBFILE"));
        buf_reset(&said, false);
        assert_int_equal(run_worker("--version", &said), 0);
        assert_int_equal(strncmp((char *)said.data, "unlearn-worker ", 15), 0);
        buf_reset(&said, false);
        assert_int_equal(run_worker("--unknown", &said), 1);
        buf_free(&said, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_job_is_trained_and_reported_line_by_line),
                cmocka_unit_test(a_job_that_fails_says_why_and_exits_1),
                cmocka_unit_test(help_and_version_are_told),
        };
        return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
