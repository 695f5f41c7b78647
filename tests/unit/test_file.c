/* SPDX-License-Identifier: Apache-2.0
 * test_file.c: durable writes and erasure. The source is included with its system calls renamed, so
 * that a test can make the Nth one fail or come up short, see their order, and look at what a file
 * holds when it is synced (DESIGN.md, invariants 4 and 5). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

/* What the code under test calls in place of the system. */
static struct {
        int calls_until_failure; /* 0: no failure */
        int error;
        size_t transfer_max; /* bytes of one read or write; 0: as asked */
        bool interrupt;      /* every other call says EINTR first */
        unsigned calls;
        char trace[256]; /* one letter a call */
} fault;

static bool fault_hits(char letter)
{
        size_t n = strlen(fault.trace);
        if (fault.interrupt && fault.calls++ % 2 == 0 && strchr("orwsSd", letter) != NULL) {
                errno = EINTR;
                return true;
        }
        if (n + 1 < sizeof fault.trace) {
                fault.trace[n] = letter;
                fault.trace[n + 1] = '\0';
        }
        if (fault.calls_until_failure > 0 && --fault.calls_until_failure == 0) {
                errno = fault.error;
                return true;
        }
        return false;
}

static size_t at_most(size_t len)
{
        return fault.transfer_max > 0 && len > fault.transfer_max ? fault.transfer_max : len;
}

static int test_open(const char *path, int flags, mode_t mode)
{
        return fault_hits(flags & O_DIRECTORY ? 'd' : 'o') ? -1 : open(path, flags, mode);
}

static ssize_t test_read(int fd, void *data, size_t len)
{
        return fault_hits('r') ? -1 : read(fd, data, at_most(len));
}

static ssize_t test_pread(int fd, void *data, size_t len, off_t offset)
{
        return fault_hits('r') ? -1 : pread(fd, data, at_most(len), offset);
}

static ssize_t test_pwrite(int fd, const void *data, size_t len, off_t offset)
{
        return fault_hits('w') ? -1 : pwrite(fd, data, at_most(len), offset);
}

/* S: of a directory, s: of a file. */
static int test_fsync(int fd)
{
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        return fault_hits(S_ISDIR(st.st_mode) ? 'S' : 's') ? -1 : fsync(fd);
}

/* What a file held when it was last synced before its truncation. */
static uint64_t synced_bytes_not_zero;

static int test_fdatasync(int fd)
{
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        FILE *f = fopen(path, "rb");
        if (f != NULL) {
                for (int c = fgetc(f); c != EOF; c = fgetc(f))
                        synced_bytes_not_zero += c != 0;
                fclose(f);
        }
        return fault_hits('s') ? -1 : fdatasync(fd);
}

static int test_rename(const char *from, const char *to)
{
        return fault_hits('R') ? -1 : rename(from, to);
}

static int test_unlink(const char *path)
{
        return fault_hits('u') ? -1 : unlink(path);
}

/* What was cut off and not zero. */
static uint64_t cut_bytes_not_zero;

static int test_ftruncate(int fd, off_t len)
{
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        FILE *f = fopen(path, "rb");
        if (f != NULL && fseek(f, len, SEEK_SET) == 0)
                for (int c = fgetc(f); c != EOF; c = fgetc(f))
                        cut_bytes_not_zero += c != 0;
        if (f != NULL)
                fclose(f);
        return fault_hits('t') ? -1 : ftruncate(fd, len);
}

static int test_mkdir(const char *path, mode_t mode)
{
        return fault_hits('m') ? -1 : mkdir(path, mode);
}

#define open(path, flags, mode) test_open(path, flags, mode)
#define read(fd, data, len) test_read(fd, data, len)
#define pread(fd, data, len, offset) test_pread(fd, data, len, offset)
#define pwrite(fd, data, len, offset) test_pwrite(fd, data, len, offset)
#define fsync test_fsync
#define fdatasync test_fdatasync
#define rename(from, to) test_rename(from, to)
#define unlink(path) test_unlink(path)
#define ftruncate(fd, len) test_ftruncate(fd, len)
#define mkdir(path, mode) test_mkdir(path, mode)
#include "lib/util/file.c" // NOLINT
#undef open
#undef read
#undef pread
#undef pwrite
#undef fsync
#undef fdatasync
#undef rename
#undef unlink
#undef ftruncate
#undef mkdir

static char root[256];

static const char *at(const char *name)
{
        static char paths[4][PATH_SIZE];
        static int next;
        next = (next + 1) % 4;
        snprintf(paths[next], PATH_SIZE, "%s/%s", root, name);
        return paths[next];
}

static void put_file(const char *path, const void *data, size_t len)
{
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, len, f), len);
        assert_int_equal(fclose(f), 0);
}

static void assert_content(const char *path, const void *data, size_t len)
{
        struct buf b = {0};
        assert_int_equal(read_file(path, 1 << 20, &b, NULL), UL_OK);
        assert_int_equal(b.len, len);
        if (len > 0)
                assert_memory_equal(b.data, data, len);
        buf_free(&b, false);
}

static int entries_of(const char *path)
{
        int n = 0;
        DIR *dir = opendir(path);
        assert_non_null(dir);
        while (readdir(dir) != NULL)
                n++;
        closedir(dir);
        return n - 2;
}

static void a_path_that_does_not_fit_is_refused_whole(void **state)
{
        (void)state;
        char path[PATH_SIZE], longest[PATH_SIZE];
        struct errinfo e;
        assert_int_equal(path_format(path, &e, "%s/%03d", "models", 7), UL_OK);
        assert_string_equal(path, "models/007");
        memset(longest, 'x', sizeof longest);
        longest[PATH_SIZE - 1] = '\0';
        assert_int_equal(path_format(path, &e, "%s", longest), UL_OK);
        assert_int_equal(path_format(path, &e, "%sy", longest), UL_TOO_LARGE);
        assert_string_equal(path, "");
}

static void a_file_reads_whole_or_not_at_all(void **state)
{
        (void)state;
        static uint8_t data[100000];
        struct buf b = {0};
        struct errinfo e;
        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (uint8_t)(i * 7);
        put_file(at("f"), data, sizeof data);
        buf_append(&b, "ab", 2);
        assert_int_equal(read_file(at("f"), sizeof data, &b, &e), UL_OK);
        assert_int_equal(b.len, sizeof data + 2);
        assert_memory_equal(b.data, "ab", 2);
        assert_memory_equal(b.data + 2, data, sizeof data);
        b.len = 2;
        assert_int_equal(read_file(at("f"), sizeof data - 1, &b, &e), UL_TOO_LARGE);
        assert_int_equal(b.len, 2);
        assert_int_equal(read_file(at("absent"), 10, &b, &e), UL_NOT_FOUND);
        assert_int_equal(e.code, UL_NOT_FOUND);
        assert_int_equal(read_file(root, 10, &b, &e), UL_IO); /* a directory */
        fault.calls_until_failure = 4;
        fault.error = EIO;
        assert_int_equal(read_file(at("f"), sizeof data, &b, &e), UL_IO);
        assert_int_equal(b.len, 2);
        buf_free(&b, false);
        buf_init(&b, 1000);
        assert_int_equal(read_file(at("f"), sizeof data, &b, &e), UL_NOMEM);
        buf_free(&b, false);
        put_file(at("empty"), "", 0);
        assert_content(at("empty"), "", 0);
}

static void short_and_interrupted_transfers_are_finished(void **state)
{
        (void)state;
        uint8_t data[1000], back[1000];
        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (uint8_t)(i * 13 + 1);
        fault.transfer_max = 7;
        fault.interrupt = true;
        assert_int_equal(write_file_durably(at("f"), data, sizeof data, NULL), UL_OK);
        assert_content(at("f"), data, sizeof data);
        int fd = open(at("f"), O_RDWR);
        assert_int_equal(read_at(fd, back, 500, 100, NULL), UL_OK);
        assert_memory_equal(back, data + 100, 500);
        assert_int_equal(write_at(fd, data, 30, 1000, NULL), UL_OK);
        assert_int_equal(sync_data(fd, NULL), UL_OK);
        assert_int_equal(read_at(fd, back, 30, 1000, NULL), UL_OK);
        assert_memory_equal(back, data, 30);
        close(fd);
        assert_int_equal(scrub_and_unlink(at("f"), NULL), UL_OK);
        assert_false(file_exists(at("f")));
        assert_true(fault.calls > 100);
}

static void reading_past_the_end_is_an_error(void **state)
{
        (void)state;
        uint8_t back[8];
        struct errinfo e;
        put_file(at("f"), "12345", 5);
        int fd = open(at("f"), O_RDONLY);
        assert_int_equal(read_at(fd, back, 5, 0, &e), UL_OK);
        assert_int_equal(read_at(fd, back, 6, 0, &e), UL_CORRUPT);
        assert_int_equal(read_at(fd, back, 1, 5, &e), UL_CORRUPT);
        assert_int_equal(read_at(fd, back, 0, 100, &e), UL_OK);
        assert_int_equal(read_at(fd, back, 1, UINT64_MAX, &e), UL_TOO_LARGE);
        assert_int_equal(write_at(fd, back, 1, INT64_MAX, &e), UL_TOO_LARGE);
        assert_int_equal(write_at(fd, back, 1, 0, &e), UL_IO); /* opened for reading */
        close(fd);
}

/* The order of the steps is what makes it durable. */
static void a_durable_write_syncs_before_and_after_the_rename(void **state)
{
        (void)state;
        struct stat st;
        umask(0);
        assert_int_equal(write_file_durably(at("f"), "new", 3, NULL), UL_OK);
        umask(022);
        assert_string_equal(fault.trace, "owsRdS");
        assert_content(at("f"), "new", 3);
        assert_int_equal(stat(at("f"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(entries_of(root), 1);
        fault.trace[0] = '\0';
        assert_int_equal(rename_durably(at("f"), at("g"), NULL), UL_OK);
        assert_string_equal(fault.trace, "RdS");
        assert_content(at("g"), "new", 3);
}

/* SQLite's habit: the Nth call fails, until a run is clean; after each, the file is the old or the
 * new one and never a part, and no temporary file is left but by the failure of its own erasure. */
static void a_durable_write_that_fails_anywhere_leaves_old_or_new(void **state)
{
        (void)state;
        static const int errors[] = {ENOSPC, EIO, EDQUOT, ENOMEM};
        static const int codes[] = {UL_NOSPACE, UL_IO, UL_NOSPACE, UL_NOMEM};
        for (int i = 0; i < 4; i++) {
                int r = UL_IO;
                for (int n = 1; r != UL_OK; n++) {
                        struct errinfo e = {0};
                        put_file(at("f"), "old one", 7);
                        memset(&fault, 0, sizeof fault);
                        fault.calls_until_failure = n;
                        fault.error = errors[i];
                        r = write_file_durably(at("f"), "new", 3, &e);
                        bool renamed = strstr(fault.trace, "Rd") != NULL;
                        memset(&fault, 0, sizeof fault);
                        if (r != UL_OK) {
                                assert_int_equal(r, codes[i]);
                                assert_int_equal(e.code, r);
                                assert_true(strlen(e.detail) > 0);
                        }
                        if (r == UL_OK || renamed)
                                assert_content(at("f"), "new", 3);
                        else
                                assert_content(at("f"), "old one", 7);
                        assert_false(file_exists(at("f.tmp")));
                        assert_true(n < 20);
                }
        }
}

static void a_stale_temporary_file_is_replaced(void **state)
{
        (void)state;
        put_file(at("victim"), "untouched", 9);
        assert_int_equal(symlink(at("victim"), at("f.tmp")), 0);
        assert_int_equal(write_file_durably(at("f"), "new", 3, NULL), UL_OK);
        assert_content(at("victim"), "untouched", 9);
        put_file(at("f.tmp"), "left by a crash, and longer", 27);
        assert_int_equal(write_file_durably(at("f"), "newer", 5, NULL), UL_OK);
        assert_content(at("f"), "newer", 5);
        assert_int_equal(entries_of(root), 2);
}

static void a_write_beyond_the_file_size_limit_is_reported(void **state)
{
        (void)state;
        static uint8_t data[100000];
        struct rlimit before, limit;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur =
                50000; /* SIGXFSZ is ignored by main: the write comes up short, then fails */
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        struct errinfo e;
        int r = write_file_durably(at("f"), data, sizeof data, &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(r, UL_IO);
        assert_int_equal(entries_of(root), 0);
}

static void directories_are_made_level_by_level(void **state)
{
        (void)state;
        struct stat st;
        struct errinfo e;
        assert_int_equal(make_dirs(at("a/b//c/"), &e), UL_OK);
        /* the levels that exist are only looked at, each new one is synced into its parent */
        size_t n = strspn(fault.trace, "m");
        assert_in_range(n, 2, 32);
        assert_string_equal(fault.trace + n - 1, "mdSmdSmdS");
        assert_int_equal(stat(at("a/b/c"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_int_equal(make_dirs(at("a/b/c"), &e), UL_OK);
        put_file(at("a/file"), "x", 1);
        assert_int_equal(make_dirs(at("a/file"), &e), UL_IO);
        assert_int_equal(make_dirs(at("a/file/d"), &e), UL_IO);
        assert_int_equal(make_dirs("/", &e), UL_OK);
        assert_int_equal(make_dirs(".", &e), UL_OK);
}

static void a_range_is_zeroed_and_nothing_else(void **state)
{
        (void)state;
        static uint8_t data[200000], expected[200000];
        memset(data, 0xA5, sizeof data);
        memcpy(expected, data, sizeof data);
        memset(expected + 11, 0, 150000);
        put_file(at("f"), data, sizeof data);
        int fd = open(at("f"), O_RDWR);
        struct stat before, after;
        assert_int_equal(fstat(fd, &before), 0);
        assert_int_equal(scrub_range(fd, 11, 150000, NULL), UL_OK);
        assert_int_equal(scrub_range(fd, 5, 0, NULL), UL_OK);
        assert_int_equal(fstat(fd, &after), 0);
        close(fd);
        assert_content(at("f"), expected, sizeof expected);
        assert_true(before.st_ino == after.st_ino && before.st_size == after.st_size);
        assert_null(strchr(fault.trace, 's'));
}

static void a_scrubbed_file_is_zero_on_disk_before_it_is_unlinked(void **state)
{
        (void)state;
        static uint8_t data[150001];
        memset(data, 0xA5, sizeof data);
        put_file(at("f"), data, sizeof data);
        synced_bytes_not_zero = 0;
        assert_int_equal(scrub_and_unlink(at("f"), NULL), UL_OK);
        assert_string_equal(fault.trace, "owwwstudS");
        assert_int_equal(synced_bytes_not_zero, 0);
        assert_false(file_exists(at("f")));
        assert_int_equal(scrub_and_unlink(at("f"), NULL), UL_OK);
        assert_int_equal(scrub_and_unlink(at("no/such/dir"), NULL), UL_OK);
}

/* Another name of the same file holds the same bytes: they must be gone there too. */
static void scrubbing_reaches_the_bytes_and_not_just_the_name(void **state)
{
        (void)state;
        put_file(at("f"), "alice", 5);
        assert_int_equal(link(at("f"), at("other")), 0);
        int fd = open(at("f"), O_RDONLY);
        assert_int_equal(scrub_and_unlink(at("f"), NULL), UL_OK);
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, 0);
        close(fd);
        assert_content(at("other"), "", 0);
}

static void scrubbing_a_link_spares_its_target(void **state)
{
        (void)state;
        put_file(at("target"), "untouched", 9);
        assert_int_equal(symlink(at("target"), at("link")), 0);
        assert_int_equal(symlink("/nonexistent/x", at("dangling")), 0);
        assert_int_equal(mkfifo(at("pipe"), 0600), 0);
        assert_int_equal(scrub_and_unlink(at("link"), NULL), UL_OK);
        assert_int_equal(scrub_and_unlink(at("dangling"), NULL), UL_OK);
        assert_int_equal(scrub_and_unlink(at("pipe"), NULL), UL_OK); /* and does not hang */
        assert_content(at("target"), "untouched", 9);
        assert_int_equal(entries_of(root), 1);
        assert_int_equal(mkdir(at("dir"), 0700), 0);
        assert_int_equal(scrub_and_unlink(at("dir"), NULL), UL_IO);
}

static void a_scrub_that_fails_is_finished_by_the_next(void **state)
{
        (void)state;
        int r = UL_IO;
        for (int n = 1; r != UL_OK; n++) {
                put_file(at("f"), "alice", 5);
                memset(&fault, 0, sizeof fault);
                fault.calls_until_failure = n;
                fault.error = EIO;
                r = scrub_and_unlink(at("f"), NULL);
                memset(&fault, 0, sizeof fault);
                assert_int_equal(scrub_and_unlink(at("f"), NULL), UL_OK);
                assert_false(file_exists(at("f")));
                assert_true(n < 20);
        }
}

static void a_large_file_is_scrubbed_in_steps_from_its_end_on(void **state)
{
        (void)state;
        static uint8_t data[400001];
        memset(data, 0xA5, sizeof data);
        put_file(at("f"), data, sizeof data);
        cut_bytes_not_zero = 0;
        uint64_t left = sizeof data;
        int steps = 0;
        for (int r = UL_AGAIN; r == UL_AGAIN; steps++) {
                uint64_t budget = 150000;
                r = scrub_some(at("f"), &budget, NULL);
                assert_int_equal(r, steps < 2 ? UL_AGAIN : UL_OK);
                assert_int_equal(budget, 0);
                left -= left < 150000 ? left : 150000;
                if (left > 0) /* what is not its turn yet stands as it was */
                        assert_content(at("f"), data, (size_t)left);
        }
        assert_int_equal(steps, 3);
        assert_int_equal(cut_bytes_not_zero, 0);
        assert_false(file_exists(at("f")));
}

static void a_tail_is_cut_off_in_steps_and_what_comes_before_it_stays(void **state)
{
        (void)state;
        static uint8_t data[9000];
        memset(data, 0xA5, sizeof data);
        put_file(at("f"), data, sizeof data);
        int fd = open(at("f"), O_RDWR);
        uint64_t budget = 0;
        assert_int_equal(scrub_tail(fd, 1000, &budget, NULL), UL_AGAIN);
        assert_content(at("f"), data, sizeof data);
        budget = 5000;
        assert_int_equal(scrub_tail(fd, 1000, &budget, NULL), UL_AGAIN);
        assert_content(at("f"), data, 4000);
        budget = 5000;
        assert_int_equal(scrub_tail(fd, 1000, &budget, NULL), UL_OK);
        assert_content(at("f"), data, 1000);
        budget = 0;
        assert_int_equal(scrub_tail(fd, 1000, &budget, NULL), UL_OK);
        assert_int_equal(scrub_tail(fd, 2000, NULL, NULL), UL_OK); /* there is no such tail */
        assert_content(at("f"), data, 1000);
        close(fd);
}

static void make_tree(void)
{
        assert_int_equal(make_dirs(at("tree/a/b"), NULL), UL_OK);
        assert_int_equal(make_dirs(at("tree/empty"), NULL), UL_OK);
        assert_int_equal(make_dirs(at("outside"), NULL), UL_OK);
        put_file(at("outside/file"), "untouched", 9);
        put_file(at("tree/1"), "one", 3);
        put_file(at("tree/a/2"), "two", 3);
        put_file(at("tree/a/b/.hidden"), "three", 5);
        assert_int_equal(symlink(at("outside"), at("tree/a/link")), 0);
        for (int i = 0; i < 300; i++) {
                char name[64];
                snprintf(name, sizeof name, "tree/a/b/many-%d", i);
                put_file(at(name), "data", 4);
        }
}

static void a_tree_is_scrubbed_and_links_are_not_followed(void **state)
{
        (void)state;
        make_tree();
        put_file(at("keep"), "x", 1);
        assert_int_equal(link(at("tree/a/b/.hidden"), at("witness")), 0);
        assert_int_equal(scrub_tree(at("tree"), NULL), UL_OK);
        assert_false(file_exists(at("tree")));
        assert_content(at("witness"), "", 0);
        assert_content(at("outside/file"), "untouched", 9);
        assert_content(at("keep"), "x", 1);
        assert_int_equal(scrub_tree(at("tree"), NULL), UL_OK);
        assert_int_equal(symlink(at("outside"), at("tree")), 0);
        assert_int_equal(scrub_tree(at("tree"), NULL), UL_OK);
        assert_content(at("outside/file"), "untouched", 9);
        assert_int_equal(scrub_tree(at("keep"), NULL), UL_OK);
        assert_false(file_exists(at("keep")));
}

static void a_tree_is_scrubbed_in_steps_that_all_do_something(void **state)
{
        (void)state;
        make_tree();
        int steps = 0, r = UL_AGAIN;
        for (; r == UL_AGAIN; steps++) {
                uint64_t budget = 1 << 20; /* a few files */
                r = scrub_tree_some(at("tree"), &budget, NULL);
                assert_true(steps < 400);
        }
        assert_int_equal(r, UL_OK);
        assert_true(steps > 20);
        assert_false(file_exists(at("tree")));
        assert_content(at("outside/file"), "untouched", 9);
}

static void a_tree_that_fails_half_way_is_finished_by_the_next(void **state)
{
        (void)state;
        for (int n = 1; n < 1200; n += 97) {
                make_tree();
                memset(&fault, 0, sizeof fault);
                fault.calls_until_failure = n;
                fault.error = EIO;
                assert_int_equal(scrub_tree(at("tree"), NULL), UL_IO);
                memset(&fault, 0, sizeof fault);
                assert_int_equal(scrub_tree(at("tree"), NULL), UL_OK);
                assert_false(file_exists(at("tree")));
        }
}

static void the_names_of_a_tree_are_synced_at_every_level_or_an_error_says_where(void **state)
{
        (void)state;
        struct errinfo e = {0};
        assert_int_equal(make_dirs(at("tree/a/b"), NULL), UL_OK);
        assert_int_equal(make_dirs(at("tree/c"), NULL), UL_OK);
        put_file(at("tree/a/f"), "x", 1);
        assert_int_equal(symlink(root, at("tree/loop")), 0);
        memset(&fault, 0, sizeof fault);
        assert_int_equal(sync_names(at("tree"), NULL), UL_OK);
        assert_string_equal(fault.trace, "SSSS");
        for (int n = 1; n <= 4; n++) {
                memset(&fault, 0, sizeof fault);
                fault.calls_until_failure = n;
                fault.error = EIO;
                assert_int_equal(sync_names(at("tree"), &e), UL_IO);
                assert_non_null(strstr(e.detail, "/tree"));
        }
        memset(&fault, 0, sizeof fault);
        assert_int_equal(sync_names(at("absent"), &e), UL_IO);
}

static void no_descriptor_is_left_open(void **state)
{
        (void)state;
        int before = entries_of("/proc/self/fd");
        for (int n = 1; n < 14; n++) {
                struct buf b = {0};
                put_file(at("f"), "x", 1);
                memset(&fault, 0, sizeof fault);
                fault.calls_until_failure = n;
                fault.error = EIO;
                write_file_durably(at("f"), "y", 1, NULL);
                fault.calls_until_failure = n;
                read_file(at("f"), 10, &b, NULL);
                fault.calls_until_failure = n;
                scrub_and_unlink(at("f"), NULL);
                fault.calls_until_failure = n;
                make_dirs(at("x/y/z"), NULL);
                fault.calls_until_failure = n;
                sync_names(root, NULL);
                fault.calls_until_failure = n;
                scrub_tree(at("x"), NULL);
                buf_free(&b, false);
        }
        assert_int_equal(entries_of("/proc/self/fd"), before);
}

static int setup(void **state)
{
        (void)state;
        const char *tmp = getenv("TMPDIR");
        memset(&fault, 0, sizeof fault);
        snprintf(root, sizeof root, "%s/unlearnd-file-XXXXXX", tmp != NULL ? tmp : "/tmp");
        return mkdtemp(root) == NULL;
}

static int teardown(void **state)
{
        (void)state;
        memset(&fault, 0, sizeof fault);
        return scrub_tree(root, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_path_that_does_not_fit_is_refused_whole),
                TEST(a_file_reads_whole_or_not_at_all),
                TEST(short_and_interrupted_transfers_are_finished),
                TEST(reading_past_the_end_is_an_error),
                TEST(a_durable_write_syncs_before_and_after_the_rename),
                TEST(a_durable_write_that_fails_anywhere_leaves_old_or_new),
                TEST(a_stale_temporary_file_is_replaced),
                TEST(a_write_beyond_the_file_size_limit_is_reported),
                TEST(directories_are_made_level_by_level),
                TEST(a_range_is_zeroed_and_nothing_else),
                TEST(a_scrubbed_file_is_zero_on_disk_before_it_is_unlinked),
                TEST(scrubbing_reaches_the_bytes_and_not_just_the_name),
                TEST(scrubbing_a_link_spares_its_target),
                TEST(a_scrub_that_fails_is_finished_by_the_next),
                TEST(a_large_file_is_scrubbed_in_steps_from_its_end_on),
                TEST(a_tail_is_cut_off_in_steps_and_what_comes_before_it_stays),
                TEST(a_tree_is_scrubbed_and_links_are_not_followed),
                TEST(a_tree_is_scrubbed_in_steps_that_all_do_something),
                TEST(a_tree_that_fails_half_way_is_finished_by_the_next),
                TEST(the_names_of_a_tree_are_synced_at_every_level_or_an_error_says_where),
                TEST(no_descriptor_is_left_open),
        };
        signal(SIGXFSZ, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
