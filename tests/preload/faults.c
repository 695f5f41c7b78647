/* SPDX-License-Identifier: Apache-2.0
 * faults.c: LD_PRELOAD library for tests: true errno errors for chosen calls on files below a path,
 * and a wall clock that a test steps, both while the daemon runs (see faults.h). It goes to the
 * kernel directly (syscall, __libc_malloc), so that nothing of it can recurse, and it allocates
 * nothing. Workers do not inherit it: the daemon hands them a short list of variables. */
#include "tests/preload/faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { LINK_BYTES = 512 };

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
int __open_2(const char *path, int flags);

static struct control *control; /* set once, before main() */

/* syscall() is variadic: what the kernel reads as 64 bits must be passed as such. */
static void *map(void *p, size_t len, int protection, int flags, int fd, off_t offset)
{
        return (void *)syscall(SYS_mmap, p, len, (long)protection, (long)flags, (long)fd, offset);
}

__attribute__((constructor)) static void map_control(void)
{
        const char *path = getenv("UNLEARND_FAULTS");
        if (path == NULL)
                return;
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
        if (fd < 0)
                return;
        void *p = map(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void)syscall(SYS_close, fd);
        if (p != MAP_FAILED && memcmp(p, "ULFAULT1", 8) == 0)
                control = p;
}

/* --- which calls --- */

static bool below_root(const char *path)
{
        return strncmp(path, control->root, strlen(control->root)) == 0;
}

/* 0: the call goes through; else the error of the first rule that says so. path NULL: no file. */
static int fault(unsigned kind, const char *path)
{
        for (int i = 0; control != NULL && i < RULES; i++) {
                struct rule *r = &control->rules[i];
                if ((r->kinds & kind) == 0)
                        continue;
                if (path != NULL && (!below_root(path) || strstr(path, r->name) == NULL))
                        continue;
                uint64_t n = ++r->seen;
                if (r->error == 0 || n < r->first || n > r->last)
                        continue;
                r->hit++;
                if (r->error != SLOW)
                        return r->error;
                (void)nanosleep(&(struct timespec){.tv_nsec = SLOW_NS}, NULL);
                return 0;
        }
        return 0;
}

static bool asked(unsigned kind)
{
        for (int i = 0; control != NULL && i < RULES; i++)
                if ((control->rules[i].kinds & kind) != 0)
                        return true;
        return false;
}

static int fault_fd(unsigned kind, int fd)
{
        char link[64];
        char path[LINK_BYTES];
        if (!asked(kind))
                return 0;
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        long n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
        if (n <= 0)
                return 0;
        path[n] = '\0';
        return path[0] == '/' ? fault(kind, path) : 0; /* pipes and sockets are no files */
}

static unsigned write_kind(int fd)
{
        long flags = syscall(SYS_fcntl, fd, F_GETFL);
        return flags >= 0 && (flags & O_DSYNC) != 0 ? KIND_META : KIND_WRITE;
}

static int fail(int error)
{
        errno = error;
        return -1;
}

/* --- writes that a failed sync loses --- */

enum { UNDO_MAX = 8192, UNDO_BYTES = 16 << 20 };

static atomic_flag undo_lock = ATOMIC_FLAG_INIT;
/* under undo_lock */
static struct {
        dev_t device;
        ino_t file; /* 0: dropped */
        off_t offset;
        size_t len, old; /* written; that were there before, kept at `at` */
        size_t at;
} undo[UNDO_MAX];
static size_t undo_count, undo_used;
static char undo_bytes[UNDO_BYTES];

static bool loses(void)
{
        for (int i = 0; control != NULL && i < RULES; i++)
                if (control->rules[i].kinds != 0 && (control->rules[i].error & LOSES) != 0)
                        return true;
        return false;
}

static void lock_undo(void)
{
        while (atomic_flag_test_and_set(&undo_lock))
                continue;
}

/* Before `len` bytes are written at `offset`. A test that overruns the table ends. */
static void note_write(int fd, size_t len, off_t offset)
{
        struct stat st;
        if (!loses() || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || write_kind(fd) == KIND_META)
                return;
        lock_undo();
        if (undo_count == UNDO_MAX || len > UNDO_BYTES - undo_used)
                abort();
        long old = syscall(SYS_pread64, fd, undo_bytes + undo_used, len, offset);
        undo[undo_count].device = st.st_dev;
        undo[undo_count].file = st.st_ino;
        undo[undo_count].offset = offset;
        undo[undo_count].len = len;
        undo[undo_count].old = old > 0 ? (size_t)old : 0;
        undo[undo_count++].at = undo_used;
        undo_used += len;
        atomic_flag_clear(&undo_lock);
}

/* A sync of the file ended: what was written is on the disk, or lost. */
static void end_writes(int fd, bool lost)
{
        struct stat st;
        if (!loses() || fstat(fd, &st) != 0)
                return;
        lock_undo();
        bool left = false;
        for (size_t i = undo_count; i-- > 0;) {
                if (undo[i].file != st.st_ino || undo[i].device != st.st_dev) {
                        left |= undo[i].file != 0;
                        continue;
                }
                undo[i].file = 0;
                char *bytes = undo_bytes + undo[i].at;
                memset(bytes + undo[i].old, 0, undo[i].len - undo[i].old);
                if (lost)
                        (void)syscall(SYS_pwrite64, fd, bytes, undo[i].len, undo[i].offset);
        }
        if (!left)
                undo_count = undo_used = 0;
        atomic_flag_clear(&undo_lock);
}

static int sync_file(int fd, long number)
{
        int error = fault_fd(KIND_SYNC, fd);
        int r = error > 0 ? fail(error & ~LOSES) : (int)syscall(number, fd);
        int saved = errno;
        if (error <= 0 || (error & LOSES) != 0)
                end_writes(fd, error > 0);
        errno = saved;
        return r;
}

/* What a write that is cut short writes: some of it, and never all where that is possible. */
static size_t half(size_t len)
{
        return len > 1 ? len / 2 : len;
}

/* --- writes --- */

static size_t total(const struct iovec *v, int count)
{
        size_t len = 0;
        for (int i = 0; i < count; i++)
                len += v[i].iov_len;
        return len;
}

EXPORT ssize_t write(int fd, const void *data, size_t len)
{
        int error = fault_fd(write_kind(fd), fd);
        if (error > 0)
                return fail(error);
        note_write(fd, len, lseek(fd, 0, SEEK_CUR));
        return syscall(SYS_write, fd, data, error == SHORT_WRITE ? half(len) : len);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
        int error = fault_fd(write_kind(fd), fd);
        if (error > 0)
                return fail(error);
        note_write(fd, len, offset);
        return syscall(SYS_pwrite64, fd, data, error == SHORT_WRITE ? half(len) : len, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t len, off_t offset)
{
        return pwrite(fd, data, len, offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *v, int count)
{
        int error = fault_fd(write_kind(fd), fd);
        if (error > 0)
                return fail(error);
        if (error == SHORT_WRITE && count > 0)
                return syscall(SYS_write, fd, v->iov_base, half(v->iov_len));
        note_write(fd, total(v, count), lseek(fd, 0, SEEK_CUR));
        return syscall(SYS_writev, fd, v, count);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *v, int count, off_t offset)
{
        int error = fault_fd(write_kind(fd), fd);
        if (error > 0)
                return fail(error);
        if (error == SHORT_WRITE && count > 0)
                return syscall(SYS_pwrite64, fd, v->iov_base, half(v->iov_len), offset);
        note_write(fd, total(v, count), offset);
        return syscall(SYS_pwritev, fd, v, count, offset, 0L);
}

EXPORT int ftruncate(int fd, off_t length)
{
        int error = fault_fd(KIND_TRUNCATE, fd);
        return error > 0 ? fail(error) : (int)syscall(SYS_ftruncate, fd, length);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t len)
{
        int error = fault_fd(KIND_ALLOCATE, fd);
        return error > 0 ? fail(error) : (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

/* --- syncs --- */

EXPORT int fsync(int fd)
{
        return sync_file(fd, SYS_fsync);
}

EXPORT int fdatasync(int fd)
{
        return sync_file(fd, SYS_fdatasync);
}

EXPORT int syncfs(int fd)
{
        return sync_file(fd, SYS_syncfs);
}

EXPORT int msync(void *p, size_t len, int flags)
{
        int error = fault(KIND_SYNC, NULL);
        return error > 0 ? fail(error & ~LOSES) : (int)syscall(SYS_msync, p, len, flags);
}

/* --- names --- */

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
        int error = asked(KIND_OPEN) && path[0] == '/' ? fault(KIND_OPEN, path) : 0;
        return error > 0 ? fail(error) : (int)syscall(SYS_openat, dir, path, flags, mode);
}

static mode_t mode_of(int flags, va_list args)
{
        return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...)
{
        va_list args;
        va_start(args, flags);
        mode_t mode = mode_of(flags, args);
        va_end(args);
        return open_at(AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
        va_list args;
        va_start(args, flags);
        mode_t mode = mode_of(flags, args);
        va_end(args);
        return open_at(AT_FDCWD, path, flags, mode);
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
        va_list args;
        va_start(args, flags);
        mode_t mode = mode_of(flags, args);
        va_end(args);
        return open_at(dir, path, flags, mode);
}

EXPORT int __open_2(const char *path, int flags) /* what _FORTIFY_SOURCE calls */
{
        return open_at(AT_FDCWD, path, flags, 0);
}

EXPORT int rename(const char *from, const char *to)
{
        int error = fault(KIND_RENAME, to);
        return error > 0 ? fail(error)
                         : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int unlink(const char *path)
{
        int error = fault(KIND_UNLINK, path);
        return error > 0 ? fail(error) : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

EXPORT int mkdir(const char *path, mode_t mode)
{
        int error = fault(KIND_MKDIR, path);
        return error > 0 ? fail(error) : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

/* --- descriptors that are no files --- */

EXPORT int socket(int domain, int type, int protocol)
{
        int error = fault(KIND_SOCKET, NULL);
        return error > 0 ? fail(error) : (int)syscall(SYS_socket, domain, type, protocol);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
        int error = fault(KIND_SOCKET, NULL);
        return error > 0 ? fail(error) : (int)syscall(SYS_accept4, fd, address, len, flags);
}

EXPORT int epoll_create1(int flags)
{
        int error = fault(KIND_SOCKET, NULL);
        return error > 0 ? fail(error) : (int)syscall(SYS_epoll_create1, flags);
}

/* --- memory --- */

EXPORT void *malloc(size_t size)
{
        int error = fault(KIND_MEMORY, NULL);
        if (error <= 0)
                return __libc_malloc(size);
        errno = error;
        return NULL;
}

EXPORT void *calloc(size_t count, size_t size)
{
        int error = fault(KIND_MEMORY, NULL);
        if (error <= 0)
                return __libc_calloc(count, size);
        errno = error;
        return NULL;
}

EXPORT void *realloc(void *p, size_t size)
{
        int error = fault(KIND_MEMORY, NULL);
        if (error <= 0)
                return __libc_realloc(p, size);
        errno = error;
        return NULL;
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
        if (fault(KIND_MEMORY, NULL) > 0)
                return ENOMEM;
        *out = __libc_memalign(alignment, size);
        return *out != NULL ? 0 : ENOMEM;
}

EXPORT void *mmap(void *p, size_t len, int protection, int flags, int fd, off_t offset)
{
        int error = fd >= 0 ? fault_fd(KIND_MAP, fd) : fault(KIND_MAP, NULL);
        if (error <= 0)
                return map(p, len, protection, flags, fd, offset);
        errno = error;
        return MAP_FAILED;
}

/* --- threads --- */

EXPORT int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
        union {
                void *found;
                int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
        } next = {.found = dlsym(RTLD_NEXT, "pthread_create")};
        int error = fault(KIND_THREAD, NULL);
        return error > 0 ? error : next.create(out, attr, fn, arg);
}

/* --- the wall clock --- */

EXPORT int clock_gettime(clockid_t clock, struct timespec *out)
{
        int r = (int)syscall(SYS_clock_gettime, clock, out);
        if (r == 0 && clock == CLOCK_REALTIME && control != NULL) {
                int64_t ms = control->clock_offset_ms;
                out->tv_sec += (time_t)(ms / 1000);
                out->tv_nsec += (long)(ms % 1000) * 1000000;
                if (out->tv_nsec >= 1000000000) {
                        out->tv_sec++;
                        out->tv_nsec -= 1000000000;
                } else if (out->tv_nsec < 0) {
                        out->tv_sec--;
                        out->tv_nsec += 1000000000;
                }
        }
        return r;
}

EXPORT int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
        struct timespec t;
        (void)zone;
        if (clock_gettime(CLOCK_REALTIME, &t) != 0)
                return -1;
        *out = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
        return 0;
}

EXPORT time_t time(time_t *out)
{
        struct timespec t;
        if (clock_gettime(CLOCK_REALTIME, &t) != 0)
                return -1;
        if (out != NULL)
                *out = t.tv_sec;
        return t.tv_sec;
}
