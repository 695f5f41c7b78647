/* SPDX-License-Identifier: Apache-2.0
 * test_store.c: the environment and its transactions: what sticks, what an aborted child takes with
 * it (nothing), who may write, and what a full disk, a full map and a kill leave behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/db.h"
#include "lib/util/file.h"
#include "tests/unit/store_fixture.h"
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static uint64_t counter(struct txn *t, const char *name)
{
        uint64_t v = 77;
        assert_int_equal(t_counter_get(t, name, &v), 0);
        return v;
}

static uint64_t committed(struct fixture *f, const char *name)
{
        struct txn *t = begin_read(f);
        uint64_t v = counter(t, name);
        txn_abort(&t);
        assert_null(t);
        return v;
}

/* --- the file --- */

static void a_new_store_is_readable_by_its_owner_alone(void **state)
{
        struct fixture *f = *state;
        struct stat st;
        char path[300];
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        (void)snprintf(path, sizeof path, "%s/control.mdb-lock", f->dir);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
}

static void its_descriptors_are_closed_on_exec(void **state)
{
        struct fixture *f = *state;
        DIR *d = opendir("/proc/self/fd");
        struct dirent *entry;
        int seen = 0;
        assert_non_null(d);
        while ((entry = readdir(d)) != NULL) {
                char path[300], target[600];
                (void)snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
                ssize_t n = readlink(path, target, sizeof target - 1);
                if (n <= 0)
                        continue;
                target[n] = '\0';
                if (strncmp(target, f->dir, strlen(f->dir)) != 0)
                        continue;
                seen++;
                assert_true(fcntl((int)strtol(entry->d_name, NULL, 10), F_GETFD) & FD_CLOEXEC);
        }
        closedir(d);
        assert_true(seen >= 2);
}

static void a_terabyte_of_map_costs_only_what_is_used(void **state)
{
        struct fixture *f = *state;
        uint64_t used, map;
        struct stat st;
        char path[300];
        store_close(&f->store);
        assert_int_equal(store_open(f->dir, UINT64_C(1) << 40, &f->store, NULL), 0);
        store_usage(f->store, &used, &map);
        assert_true(map == UINT64_C(1) << 40);
        assert_true(used > 0 && used < 1 << 20);
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_blocks * 512 < 1 << 20);
}

static void the_file_can_be_named_itself(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        char path[300];
        assert_int_equal(t_counter_put(t, "n", 5), 0);
        commit(&t);
        store_close(&f->store);
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        assert_int_equal(store_open(path, FIXTURE_MAP_BYTES, &f->store, NULL), 0);
        assert_int_equal(committed(f, "n"), 5);
}

static void another_schema_version_is_refused_and_left_alone(void **state)
{
        struct fixture *f = *state;
        struct errinfo e = {0};
        uint8_t version[4];
        struct txn *t = begin_write(f);
        put_le32(version, 99);
        assert_int_equal(db_put(t, TABLE_META, "schema", 6, version, sizeof version), 0);
        commit(&t);
        store_close(&f->store);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(store_open(f->dir, FIXTURE_MAP_BYTES, &f->store, &e), UL_CORRUPT);
                assert_null(f->store);
                assert_non_null(strstr(e.detail, "schema version 99"));
        }
}

static void a_store_without_a_schema_version_is_refused(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        assert_int_equal(db_del(t, TABLE_META, "schema", 6), 0);
        commit(&t);
        store_close(&f->store);
        assert_int_equal(store_open(f->dir, FIXTURE_MAP_BYTES, &f->store, NULL), UL_CORRUPT);
}

static void a_file_that_is_no_database_is_refused(void **state)
{
        struct fixture *f = *state;
        char path[300], junk[16384];
        struct errinfo e = {0};
        store_close(&f->store);
        fill(junk, sizeof junk, 3);
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        assert_int_equal(write_file_durably(path, junk, sizeof junk, &e), 0);
        assert_int_equal(store_open(f->dir, FIXTURE_MAP_BYTES, &f->store, &e), UL_CORRUPT);
        assert_int_equal(e.code, UL_CORRUPT);
}

static void a_missing_directory_and_a_tiny_map_are_errors(void **state)
{
        struct fixture *f = *state;
        struct store *s = NULL;
        struct errinfo e = {0};
        char path[300];
        (void)snprintf(path, sizeof path, "%s/absent/control.mdb", f->dir);
        assert_int_equal(store_open(path, FIXTURE_MAP_BYTES, &s, &e), UL_IO);
        assert_null(s);
        assert_int_equal(store_open(f->dir, 4096, &s, &e), UL_INVALID);
        assert_string_equal(e.field, "map_bytes");
        assert_null(s);
}

/* Memory that malloc hands out is filled with a byte; with MDB_NOMEMINIT it would reach the file.
 */
static void memory_of_the_process_never_reaches_the_file(void **state)
{
        struct fixture *f = *state;
        char path[300];
        struct buf file = {0};
        uint8_t stale[64];
        mallopt(M_PERTURB, 0x5a); /* fresh memory is then filled with the complement */
        for (uint64_t i = 0; i < 200; i++) {
                struct txn *t = begin_write(f);
                struct txn *child = begin_child(t);
                char name[32];
                (void)snprintf(name, sizeof name, "name-%u", (unsigned)i);
                assert_int_equal(t_blob_put(child, name, "some text", 9), 0);
                commit(&child);
                commit(&t);
        }
        mallopt(M_PERTURB, 0);
        store_close(&f->store);
        (void)snprintf(path, sizeof path, "%s/control.mdb", f->dir);
        assert_int_equal(read_file(path, 64 << 20, &file, NULL), 0);
        memset(stale, 0xa5, sizeof stale);
        assert_null(memmem(file.data, file.len, stale, sizeof stale));
        memset(stale, 0x5a, sizeof stale);
        assert_null(memmem(file.data, file.len, stale, sizeof stale));
        buf_free(&file, false);
}

/* --- transactions --- */

static void the_first_error_sticks_and_the_commit_returns_it(void **state)
{
        struct fixture *f = *state;
        struct errinfo e = {0};
        uint64_t v;
        struct txn *t = begin_write(f), *child = NULL;
        assert_int_equal(t_counter_put(t, "before", 1), 0);
        assert_int_equal(txn_error(t), 0);
        assert_int_equal(txn_fail(t, UL_CONFLICT), UL_CONFLICT);
        assert_int_equal(txn_fail(t, UL_IO), UL_CONFLICT);
        assert_int_equal(txn_error(t), UL_CONFLICT);
        assert_int_equal(t_counter_put(t, "after", 1), UL_CONFLICT);
        assert_int_equal(t_counter_get(t, "before", &v), UL_CONFLICT);
        assert_int_equal(v, 0);
        assert_int_equal(store_nested(t, &child, &e), UL_CONFLICT);
        assert_null(child);
        e.code = 0;
        assert_int_equal(txn_commit(&t, &e), UL_CONFLICT);
        assert_null(t);
        assert_int_equal(e.code, UL_CONFLICT);
        assert_int_equal(committed(f, "before"), 0);
}

static void not_found_leaves_the_transaction_usable(void **state)
{
        struct fixture *f = *state;
        struct record_row row;
        struct buf b = {0};
        struct txn *t = begin_write(f);
        assert_int_equal(t_record_get(t, 1, ID(1), &row), UL_NOT_FOUND);
        assert_int_equal(t_blob_get(t, "absent", &b), UL_NOT_FOUND);
        assert_int_equal(t_record_del(t, 1, ID(1)), UL_NOT_FOUND);
        assert_int_equal(txn_error(t), 0);
        assert_int_equal(t_counter_put(t, "n", 3), 0);
        commit(&t);
        assert_int_equal(committed(f, "n"), 3);
}

/* A command of a group commit: many rows in several tables. */
static int command(struct txn *t, uint64_t n)
{
        char name[32];
        (void)snprintf(name, sizeof name, "command-%u", (unsigned)n);
        int err = t_counter_put(t, name, n + 1);
        for (uint64_t i = 0; err == 0 && i < 200; i++) {
                struct record_row row = {.shard = (uint32_t)n};
                memcpy(row.subject, ID(n), 16);
                err = t_record_put(t, 1, ID(n * 1000 + i), &row);
        }
        return err;
}

static int count_record(void *arg, const uint8_t record[16], const struct record_row *row)
{
        (void)record;
        (void)row;
        ++*(unsigned *)arg;
        return 0;
}

static unsigned records_of(struct txn *t, uint64_t n)
{
        unsigned count = 0;
        assert_int_equal(t_record_each_of_subject(t, 1, ID(n), NULL, count_record, &count), 0);
        return count;
}

static void an_aborted_child_takes_nothing_of_its_neighbours(void **state)
{
        struct fixture *f = *state;
        struct errinfo e;
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "shared", 1), 0);
        for (uint64_t n = 0; n < 30; n++) {
                uint64_t seen;
                struct txn *child = begin_child(t);
                assert_int_equal(command(child, n), 0);
                assert_int_equal(t_counter_get(child, "shared", &seen), 0);
                assert_int_equal(t_counter_put(child, "shared", seen + 1), 0);
                if (n % 3 == 1) {
                        txn_abort(&child);
                } else if (n % 3 == 2) {
                        (void)txn_fail(child, UL_INVALID);
                        assert_int_equal(txn_commit(&child, &e), UL_INVALID);
                } else {
                        commit(&child);
                }
                assert_null(child);
                assert_int_equal(txn_error(t), 0);
        }
        commit(&t);
        fixture_reopen(f);
        t = begin_read(f);
        for (uint64_t n = 0; n < 30; n++) {
                char name[32];
                (void)snprintf(name, sizeof name, "command-%u", (unsigned)n);
                assert_int_equal(counter(t, name), n % 3 == 0 ? n + 1 : 0);
                assert_int_equal(records_of(t, n), n % 3 == 0 ? 200 : 0);
        }
        assert_int_equal(counter(t, "shared"), 11);
        txn_abort(&t);
}

static void an_aborted_parent_takes_its_committed_children_along(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        struct txn *child = begin_child(t);
        struct txn *grandchild = begin_child(child);
        assert_int_equal(t_counter_put(grandchild, "n", 9), 0);
        commit(&grandchild);
        commit(&child);
        assert_int_equal(counter(t, "n"), 9);
        txn_abort(&t);
        assert_int_equal(committed(f, "n"), 0);
        txn_abort(&t); /* of nothing: nothing */
}

static void a_reader_keeps_what_it_saw_and_waits_for_nobody(void **state)
{
        struct fixture *f = *state;
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "n", 1), 0);
        commit(&t);
        struct txn *reader = begin_read(f);
        t = begin_write(f);
        assert_int_equal(t_counter_put(t, "n", 2), 0);
        assert_int_equal(counter(reader, "n"), 1);
        assert_int_equal(committed(f, "n"), 1);
        commit(&t);
        assert_int_equal(counter(reader, "n"), 1);
        txn_abort(&reader);
        assert_int_equal(committed(f, "n"), 2);
}

static void a_thousand_and_more_readers_at_once_are_served_on_one_thread(void **state)
{
        enum { READERS = 2000 };
        struct fixture *f = *state;
        struct txn **readers = calloc(READERS, sizeof *readers);
        assert_non_null(readers);
        for (int i = 0; i < READERS; i++)
                readers[i] = begin_read(f);
        for (int i = 0; i < READERS; i++)
                txn_abort(&readers[i]);
        free(readers);
}

static void too_many_readers_are_told_to_come_again(void **state)
{
        enum { READERS = 5000 };
        struct fixture *f = *state;
        struct txn **readers = calloc(READERS, sizeof *readers);
        struct errinfo e = {0};
        int i = 0, err = 0;
        assert_non_null(readers);
        for (; i < READERS && err == 0; i++)
                err = store_read(f->store, &readers[i], &e);
        assert_int_equal(err, UL_BUSY);
        assert_true(e.retry_after_s > 0);
        while (i-- > 0)
                txn_abort(&readers[i]);
        free(readers);
        assert_int_equal(committed(f, "n"), 0);
}

/* --- no space --- */

static int fill_up(struct txn *t, int blocks)
{
        static const uint8_t block[4000];
        int err = 0;
        for (int i = 0; err == 0 && i < blocks; i++) {
                char name[32];
                (void)snprintf(name, sizeof name, "fill-%d", i);
                err = t_blob_put(t, name, block, sizeof block);
        }
        return err;
}

static void a_full_map_is_no_space_and_spares_the_parent(void **state)
{
        struct fixture *f = *state;
        struct errinfo e = {0};
        struct buf b = {0};
        store_close(&f->store);
        assert_int_equal(store_open(f->dir, 2 << 20, &f->store, NULL), 0);
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "before", 1), 0);
        struct txn *child = begin_child(t);
        assert_int_equal(fill_up(child, 100000), UL_NOSPACE);
        assert_int_equal(txn_error(child), UL_NOSPACE);
        assert_int_equal(t_counter_put(child, "n", 1), UL_NOSPACE);
        assert_int_equal(txn_commit(&child, &e), UL_NOSPACE);
        assert_int_equal(e.code, UL_NOSPACE);
        assert_true(e.detail[0] != '\0');
        child = begin_child(t);
        assert_int_equal(t_counter_put(child, "after", 2), 0);
        commit(&child);
        commit(&t);
        fixture_reopen(f); /* with a larger map, nothing is in the way */
        assert_int_equal(committed(f, "before"), 1);
        assert_int_equal(committed(f, "after"), 2);
        t = begin_read(f);
        assert_int_equal(t_blob_get(t, "fill-0", &b), UL_NOT_FOUND);
        txn_abort(&t);
}

/* What a transaction gets that does not fit into a file of `limit` bytes. */
static int overfill(struct fixture *f, rlim_t limit)
{
        struct rlimit old, small;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        small = (struct rlimit){.rlim_cur = limit, .rlim_max = old.rlim_max};
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "n", 2), 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(fill_up(t, 1000), 0); /* the map has room: the file is what has none */
        int err = txn_commit(&t, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        (void)signal(SIGXFSZ, handler);
        return err;
}

static void a_write_that_fails_or_is_cut_short_leaves_the_last_commit(void **state)
{
        struct fixture *f = *state;
        uint64_t used, map;
        for (uint64_t i = 1; i < 6; i++) {
                struct txn *t = begin_write(f);
                assert_int_equal(t_counter_put(t, "n", i * 10), 0);
                commit(&t);
                store_usage(f->store, &used, &map);
                /* refused whole, or cut between two pages or within one (a plain I/O error, as
                 * nothing says why) */
                int err = overfill(f, used + i % 3 * 5000);
                assert_true(err == UL_NOSPACE || (err == UL_IO && i % 3 != 0));
                assert_int_equal(committed(f, "n"), i * 10);
        }
        fixture_reopen(f);
        assert_int_equal(committed(f, "n"), 50);
}

/* The file never shrinks: what was freed must count, or a map that was full once stays full. */
static void pages_that_were_freed_are_room(void **state)
{
        enum { BYTES = 512 * 1024 };
        struct fixture *f = *state;
        uint64_t empty, full, freed;
        char *big = calloc(1, BYTES);
        assert_non_null(big);
        assert_int_equal(store_room(f->store, &empty, NULL), 0);
        struct txn *t = begin_write(f);
        assert_int_equal(t_blob_put(t, "big", big, BYTES), 0);
        commit(&t);
        assert_int_equal(store_room(f->store, &full, NULL), 0);
        assert_true(full + BYTES <= empty);
        for (uint64_t i = 0; i < 3; i++) { /* a page is free once no snapshot needs it */
                t = begin_write(f);
                assert_int_equal(t_blob_put(t, "big", "", 0), 0);
                assert_int_equal(t_counter_put(t, "n", i), 0);
                commit(&t);
        }
        assert_int_equal(store_room(f->store, &freed, NULL), 0);
        assert_true(freed >= full + BYTES / 2);
        free(big);
}

static bool write_text(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
        if (fd >= 0)
                (void)close(fd);
        return ok;
}

/* In a child: mounts a disk of 2 MiB over `dir`, fills it, empties it. Its exit status says what
 * happened; 77: no disk could be mounted here. */
static int on_a_small_disk(const char *dir)
{
        struct store *s = NULL;
        struct txn *t = NULL;
        uint64_t v = 0;
        char users[64], groups[64], path[300];
        (void)snprintf(users, sizeof users, "0 %u 1\n", (unsigned)getuid());
        (void)snprintf(groups, sizeof groups, "0 %u 1\n", (unsigned)getgid());
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 ||
            !write_text("/proc/self/setgroups", "deny") ||
            !write_text("/proc/self/uid_map", users) || !write_text("/proc/self/gid_map", groups) ||
            mount("tmpfs", dir, "tmpfs", 0, "size=2m") != 0)
                return 77;
        if (store_open(dir, FIXTURE_MAP_BYTES, &s, NULL) != 0 || store_write(s, &t, NULL) != 0 ||
            t_counter_put(t, "n", 1) != 0 || txn_commit(&t, NULL) != 0)
                return 1;
        for (int i = 0; i < 3; i++) {
                if (store_write(s, &t, NULL) != 0 || t_counter_put(t, "n", 2) != 0 ||
                    fill_up(t, 1000) != 0 || txn_commit(&t, NULL) != UL_NOSPACE)
                        return 2;
                if (store_read(s, &t, NULL) != 0 || t_counter_get(t, "n", &v) != 0 || v != 1)
                        return 3;
                txn_abort(&t);
        }
        store_close(&s);
        (void)snprintf(path, sizeof path, "%s/control.mdb", dir);
        return store_open(path, FIXTURE_MAP_BYTES, &s, NULL) == 0 ? 0 : 4;
}

static void a_full_disk_is_no_space_and_leaves_the_last_commit(void **state)
{
        struct fixture *f = *state;
        int status = 0;
        store_close(&f->store);
        fixture_remove(f->dir);
        assert_int_equal(mkdir(f->dir, 0700), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(on_a_small_disk(f->dir));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
                print_message("skipped: a small disk cannot be mounted here\n");
                skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- threads and processes --- */

struct writer_thread {
        struct fixture *f;
        bool bind;
        uint64_t value;
};

static void *write_once(void *arg)
{
        struct writer_thread *w = arg;
        struct txn *t = NULL;
        if (w->bind)
                store_bind_writer(w->f->store);
        if (store_write(w->f->store, &t, NULL) != 0 || t_counter_put(t, "n", w->value) != 0 ||
            txn_commit(&t, NULL) != 0)
                return NULL;
        return w;
}

static void a_copy_has_what_is_committed_and_nothing_else(void **state)
{
        struct fixture *f = *state;
        struct store *copy = NULL;
        struct errinfo e = {0};
        char path[300];
        uint64_t v = 0;
        (void)snprintf(path, sizeof path, "%s/copy.mdb", f->dir);
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "a", 1), 0);
        commit(&t);
        t = begin_write(f);
        assert_int_equal(t_counter_put(t, "a", 2), 0);
        assert_int_equal(store_copy(f->store, path, &e), 0);
        commit(&t);
        assert_int_equal(store_copy(f->store, path, &e), UL_IO); /* never over another file */
        assert_int_equal(store_open_copy(path, &copy, &e), 0);
        assert_int_equal(store_read(copy, &t, &e), 0);
        assert_int_equal(t_counter_get(t, "a", &v), 0);
        assert_int_equal(v, 1);
        txn_abort(&t);
        store_close(&copy);
        t = begin_read(f);
        assert_int_equal(t_counter_get(t, "a", &v), 0);
        assert_int_equal(v, 2);
        txn_abort(&t);
}

static void on_thread(struct writer_thread *w)
{
        pthread_t thread;
        void *result = NULL;
        assert_int_equal(pthread_create(&thread, NULL, write_once, w), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_non_null(result);
}

static void any_thread_may_write_before_a_writer_is_bound(void **state)
{
        struct fixture *f = *state;
        struct writer_thread a = {.f = f, .value = 1}, b = {.f = f, .value = 2, .bind = true};
        on_thread(&a);
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "main", 1), 0);
        commit(&t);
        on_thread(&b);
        assert_int_equal(committed(f, "n"), 2);
        assert_int_equal(committed(f, "main"), 1);
}

static void writing_on_another_thread_than_the_writers_is_a_bug(void **state)
{
        struct fixture *f = *state;
        int status = 0;
        struct writer_thread w = {.f = f, .value = 1, .bind = true};
        on_thread(&w);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct txn *t = NULL;
                (void)signal(SIGABRT, SIG_DFL);
                (void)close(STDERR_FILENO); /* the assertion's line */
                (void)store_write(f->store, &t, NULL);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void *read_once(void *arg)
{
        struct txn *t = arg;
        uint64_t v = 0;
        if (t_counter_get(t, "n", &v) != 0 || v != 1)
                return NULL;
        return t;
}

static void a_read_transaction_may_move_to_another_thread(void **state)
{
        struct fixture *f = *state;
        pthread_t thread;
        void *result = NULL;
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "n", 1), 0);
        commit(&t);
        struct txn *here = begin_read(f), *there = begin_read(f);
        assert_int_equal(pthread_create(&thread, NULL, read_once, there), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, there);
        txn_abort(&there);
        assert_int_equal(counter(here, "n"), 1);
        txn_abort(&here);
}

static void a_database_whose_making_was_cut_off_is_made_again(void **state)
{
        struct fixture *f = *state;
        char path[PATH_SIZE], rest[PATH_SIZE];
        store_close(&f->store);
        assert_int_equal(path_format(path, NULL, "%s/control.mdb", f->dir), 0);
        assert_int_equal(path_format(rest, NULL, "%s.new", path), 0);
        assert_int_equal(truncate(path, 4096), 0); /* the first of two pages */
        assert_int_equal(rename(path, rest), 0);
        fixture_open(f);
        assert_false(file_exists(rest));
        assert_int_equal(path_format(rest, NULL, "%s.new-lock", path), 0);
        assert_false(file_exists(rest));
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "n", 1), 0);
        commit(&t);
        fixture_reopen(f);
        assert_int_equal(committed(f, "n"), 1);
}

static void a_killed_process_leaves_what_it_committed_and_nothing_else(void **state)
{
        struct fixture *f = *state;
        int status = 0;
        store_close(&f->store);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct txn *t = NULL;
                if (store_open(f->dir, FIXTURE_MAP_BYTES, &f->store, NULL) != 0 ||
                    store_write(f->store, &t, NULL) != 0 || t_counter_put(t, "n", 1) != 0 ||
                    txn_commit(&t, NULL) != 0 || store_write(f->store, &t, NULL) != 0 ||
                    t_counter_put(t, "n", 2) != 0)
                        _exit(1);
                struct txn *reader = NULL;
                if (store_read(f->store, &reader, NULL) != 0)
                        _exit(1);
                (void)kill(getpid(), SIGKILL);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        fixture_open(f);
        assert_int_equal(committed(f, "n"), 1);
        struct txn *t = begin_write(f);
        assert_int_equal(t_counter_put(t, "n", 3), 0);
        commit(&t);
        assert_int_equal(committed(f, "n"), 3);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                CASE(a_new_store_is_readable_by_its_owner_alone),
                CASE(its_descriptors_are_closed_on_exec),
                CASE(a_terabyte_of_map_costs_only_what_is_used),
                CASE(the_file_can_be_named_itself),
                CASE(another_schema_version_is_refused_and_left_alone),
                CASE(a_store_without_a_schema_version_is_refused),
                CASE(a_file_that_is_no_database_is_refused),
                CASE(a_missing_directory_and_a_tiny_map_are_errors),
                CASE(memory_of_the_process_never_reaches_the_file),
                CASE(the_first_error_sticks_and_the_commit_returns_it),
                CASE(not_found_leaves_the_transaction_usable),
                CASE(an_aborted_child_takes_nothing_of_its_neighbours),
                CASE(an_aborted_parent_takes_its_committed_children_along),
                CASE(a_reader_keeps_what_it_saw_and_waits_for_nobody),
                CASE(a_thousand_and_more_readers_at_once_are_served_on_one_thread),
                CASE(too_many_readers_are_told_to_come_again),
                CASE(a_full_map_is_no_space_and_spares_the_parent),
                CASE(a_write_that_fails_or_is_cut_short_leaves_the_last_commit),
                CASE(a_full_disk_is_no_space_and_leaves_the_last_commit),
                CASE(a_copy_has_what_is_committed_and_nothing_else),
                CASE(any_thread_may_write_before_a_writer_is_bound),
                CASE(writing_on_another_thread_than_the_writers_is_a_bug),
                CASE(a_read_transaction_may_move_to_another_thread),
                CASE(pages_that_were_freed_are_room),
                CASE(a_database_whose_making_was_cut_off_is_made_again),
                CASE(a_killed_process_leaves_what_it_committed_and_nothing_else),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
