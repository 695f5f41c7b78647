/* SPDX-License-Identifier: Apache-2.0
 * record.c: what a program does to the files below one directory, in order and with the data, for
 * the power-loss tests: preloaded into the daemon and its workers, it writes every call that a disk
 * may keep or lose to one log. tests/crash/power_replay.py reads that log.
 *
 *   UNLEARND_POWER_DIR   the directory (absolute, no symbolic link in it)
 *   UNLEARND_POWER_LOG   the log, outside of it
 *   UNLEARND_POWER_KILL  n: the process ends by SIGKILL in place of its nth sync (0: never)
 *
 * A call and its line in the log are one step under a lock of the log file, across threads and
 * processes, so that the log's order is the order of things: the position is the sequence number.
 * The lock is taken on a description of its own for each call: a worker closes every descriptor
 * that it did not open, and a killed one leaves no lock behind. No table of descriptors is kept:
 * a descriptor is asked what it refers to. Whatever is not wrapped here (stdio, copy_file_range)
 * shows in the test that compares the replayed files with the real ones.
 *
 *   0   u32 magic      4  u32 kind     8  u64 inode    16 u64 offset or size
 *   24  u32 path_len   28 u32 to_len   32 u32 data_len 36 u32 flags
 *   40  path, to, data   paths are relative to the directory, "" is the directory itself */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
        CREATE = 1, /* path; flags: DIRECTORY */
        WRITE,      /* inode, offset, data; flags: SYNCED */
        RESIZE,     /* inode, size */
        RENAME,     /* path, to */
        UNLINK,     /* path; also of directories */
        LINK,       /* path, to */
        SYNC,       /* inode; flags: DIRECTORY */
        MAP,        /* inode: written from now on without a call */
};
enum { DIRECTORY = 1, SYNCED = 2 };
enum { MAGIC = 0x52575055, VECTORS_MAX = 64 };

struct event {
        uint32_t magic, kind;
        uint64_t inode, offset;
        uint32_t path_len, to_len, data_len, flags;
};

static const char *directory, *log_path;
static long kill_at;
static _Atomic long syncs;

__attribute__((constructor)) static void begin(void)
{
        const char *n = getenv("UNLEARND_POWER_KILL");
        directory = getenv("UNLEARND_POWER_DIR");
        log_path = getenv("UNLEARND_POWER_LOG");
        kill_at = n != NULL ? strtol(n, NULL, 10) : 0;
}

/* A recording with a gap proves nothing. */
static void give_up(const char *what)
{
        (void)syscall(SYS_write, STDERR_FILENO, "power: ", 7);
        (void)syscall(SYS_write, STDERR_FILENO, what, strlen(what));
        (void)syscall(SYS_write, STDERR_FILENO, "\n", 1);
        _exit(70);
}

/* --- the log --- */

static int lock_log(void)
{
        int fd = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (fd < 0)
                give_up("cannot open the log");
        while (flock(fd, LOCK_EX) != 0)
                if (errno != EINTR)
                        give_up("cannot lock the log");
        return fd;
}

/* The caller's errno is kept: it is about the call that was recorded. */
static void unlock_log(int fd)
{
        int error = errno;
        (void)flock(fd, LOCK_UN); /* a fork in another thread may hold a copy of the descriptor */
        (void)syscall(SYS_close, fd);
        errno = error;
}

static void append(int fd, struct event ev, const char *path, const char *to, const void *data)
{
        int error = errno;
        ev.magic = MAGIC;
        ev.path_len = path == NULL ? 0 : (uint32_t)strlen(path);
        ev.to_len = to == NULL ? 0 : (uint32_t)strlen(to);
        const struct iovec v[] = {{&ev, sizeof ev},
                                  {(void *)(uintptr_t)path, ev.path_len},
                                  {(void *)(uintptr_t)to, ev.to_len},
                                  {(void *)(uintptr_t)data, ev.data_len}};
        size_t want = sizeof ev + ev.path_len + ev.to_len + ev.data_len;
        if (syscall(SYS_writev, fd, v, 4) != (long)want)
                give_up("cannot write the log");
        errno = error;
}

/* --- what is recorded --- */

/* The part of an absolute path below the directory, or NULL. */
static const char *below(const char *path)
{
        size_t n = directory == NULL || log_path == NULL ? 0 : strlen(directory);
        if (n == 0 || path == NULL || strncmp(path, directory, n) != 0)
                return NULL;
        return path[n] == '/' ? path + n + 1 : path[n] == '\0' ? path + n : NULL;
}

/* Whether fd is a file or a directory below the directory; st is filled then. */
static bool ours(int fd, struct stat *st)
{
        char link[40], path[PATH_MAX];
        int error = errno;
        bool found = false;
        if (directory != NULL && fstat(fd, st) == 0 &&
            (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))) {
                (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
                ssize_t n = readlink(link, path, sizeof path - 1);
                path[n > 0 ? n : 0] = '\0';
                found = below(path) != NULL;
        }
        errno = error;
        return found;
}

static struct event of(enum kind kind, const struct stat *st)
{
        return (struct event){.kind = (uint32_t)kind,
                              .inode = st->st_ino,
                              .flags = S_ISDIR(st->st_mode) ? DIRECTORY : 0};
}

static bool dies_here(void)
{
        return kill_at > 0 && atomic_fetch_add(&syncs, 1) + 1 == kill_at;
}

static void die(void)
{
        (void)kill(getpid(), SIGKILL);
        (void)pause();
}

/* --- names --- */

static int recorded_open(const char *path, int flags, mode_t mode)
{
        const char *name = below(path);
        struct stat st;
        if (name == NULL || (flags & (O_CREAT | O_TRUNC)) == 0)
                return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
        int log = lock_log();
        bool absent = lstat(path, &st) != 0;
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
        if (fd >= 0 && fstat(fd, &st) == 0) {
                if (absent)
                        append(log, of(CREATE, &st), name, NULL, NULL);
                else if ((flags & O_TRUNC) != 0)
                        append(log, of(RESIZE, &st), NULL, NULL, NULL);
        }
        unlock_log(log);
        return fd;
}

#define OPEN_LIKE(NAME)                                                                            \
        int NAME(const char *path, int flags, ...);                                                \
        int NAME(const char *path, int flags, ...)                                                 \
        {                                                                                          \
                va_list args;                                                                      \
                va_start(args, flags);                                                             \
                mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;     \
                va_end(args);                                                                      \
                return recorded_open(path, flags, mode);                                           \
        }
OPEN_LIKE(open)
OPEN_LIKE(open64)

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
        return recorded_open(path, flags, 0);
}

int mkdir(const char *path, mode_t mode)
{
        const char *name = below(path);
        struct stat st;
        if (name == NULL)
                return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
        int log = lock_log();
        int r = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
        if (r == 0 && lstat(path, &st) == 0)
                append(log, of(CREATE, &st), name, NULL, NULL);
        unlock_log(log);
        return r;
}

static int removed(const char *path, int flags)
{
        const char *name = below(path);
        if (name == NULL)
                return (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
        int log = lock_log();
        int r = (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
        if (r == 0)
                append(log, (struct event){.kind = UNLINK}, name, NULL, NULL);
        unlock_log(log);
        return r;
}

int unlink(const char *path)
{
        return removed(path, 0);
}

int rmdir(const char *path)
{
        return removed(path, AT_REMOVEDIR);
}

static int two_names(enum kind kind, const char *from, const char *to)
{
        const char *a = below(from), *b = below(to);
        if ((a == NULL) != (b == NULL))
                give_up("a file crosses the border of the directory");
        int log = a == NULL ? -1 : lock_log();
        int r = kind == RENAME ? (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to)
                               : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
        if (log < 0)
                return r;
        if (r == 0)
                append(log, (struct event){.kind = (uint32_t)kind}, a, b, NULL);
        unlock_log(log);
        return r;
}

int rename(const char *from, const char *to)
{
        return two_names(RENAME, from, to);
}

int link(const char *from, const char *to)
{
        return two_names(LINK, from, to);
}

/* --- content --- */

/* offset < 0: where the descriptor stands. A process that dies in place of an O_DSYNC write's sync
 * has written, and not synced. */
static ssize_t recorded_write(int fd, const void *data, size_t len, off_t offset)
{
        struct stat st;
        if (!ours(fd, &st))
                return offset < 0 ? syscall(SYS_write, fd, data, len)
                                  : syscall(SYS_pwrite64, fd, data, len, offset);
        int log = lock_log();
        ssize_t n = offset < 0 ? syscall(SYS_write, fd, data, len)
                               : syscall(SYS_pwrite64, fd, data, len, offset);
        if (n > 0) {
                struct event ev = of(WRITE, &st);
                bool synced = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
                bool dying = synced && dies_here();
                ev.offset = (uint64_t)(offset < 0 ? lseek(fd, 0, SEEK_CUR) - n : offset);
                ev.data_len = (uint32_t)n;
                ev.flags = synced && !dying ? SYNCED : 0;
                append(log, ev, NULL, NULL, data);
                if (dying)
                        die();
        }
        unlock_log(log);
        return n;
}

/* A vector becomes calls of one buffer each: a disk may tear it there too. */
static ssize_t recorded_vector(int fd, const struct iovec *v, int count, off_t offset)
{
        ssize_t total = 0;
        for (int i = 0; i < count; i++) {
                ssize_t n = recorded_write(fd, v[i].iov_base, v[i].iov_len,
                                           offset < 0 ? -1 : offset + total);
                if (n < 0)
                        return total > 0 ? total : n;
                total += n;
                if ((size_t)n < v[i].iov_len)
                        break;
        }
        return total;
}

ssize_t write(int fd, const void *data, size_t len)
{
        return recorded_write(fd, data, len, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
        return recorded_write(fd, data, len, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t offset)
{
        return recorded_write(fd, data, len, offset);
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
        struct stat st;
        if (!ours(fd, &st)) /* a socket: one call, one packet */
                return syscall(SYS_writev, fd, v, count);
        return recorded_vector(fd, v, count, -1);
}

ssize_t pwritev(int fd, const struct iovec *v, int count, off_t offset)
{
        return recorded_vector(fd, v, count, offset);
}

static int resized(int fd, off_t size)
{
        struct stat st;
        if (!ours(fd, &st))
                return (int)syscall(SYS_ftruncate, fd, size);
        int log = lock_log();
        int r = (int)syscall(SYS_ftruncate, fd, size);
        if (r == 0) {
                struct event ev = of(RESIZE, &st);
                ev.offset = (uint64_t)size;
                append(log, ev, NULL, NULL, NULL);
        }
        unlock_log(log);
        return r;
}

int ftruncate(int fd, off_t size)
{
        return resized(fd, size);
}

int ftruncate64(int fd, off_t size)
{
        return resized(fd, size);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
        struct stat st;
        bool writes = fd >= 0 && (protection & PROT_WRITE) != 0 && (flags & MAP_SHARED) != 0;
        if (writes && ours(fd, &st)) {
                int log = lock_log();
                append(log, of(MAP, &st), NULL, NULL, NULL);
                unlock_log(log);
        }
        return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

/* --- syncs; sync_file_range and msync promise nothing here and are not recorded --- */

static int synced(int fd, long call)
{
        struct stat st;
        if (!ours(fd, &st))
                return (int)syscall(call, fd);
        int log = lock_log();
        if (dies_here())
                die();
        int r = (int)syscall(call, fd);
        if (r == 0)
                append(log, of(SYNC, &st), NULL, NULL, NULL);
        unlock_log(log);
        return r;
}

int fsync(int fd)
{
        return synced(fd, SYS_fsync);
}

int fdatasync(int fd)
{
        return synced(fd, SYS_fdatasync);
}
