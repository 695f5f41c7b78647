/* SPDX-License-Identifier: Apache-2.0
 * file.c: durable writes and erasure of files. It knows paths and descriptors, not what is in them.
 * A file is made durable by: temporary file, write, fsync, rename, fsync of the directory. A file
 * is erased by: overwrite in place, fdatasync, truncate, unlink, fsync of the directory; a crash in
 * between leaves a file that the same call erases at the next start. What is large is erased from
 * its end on and cut as it goes, so that how far that has come stands in the file itself. */
#include "lib/util/file.h"

#include "lib/util/crash_point.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
        CHUNK = 65536,
        TREE_DEPTH_MAX = 16,  /* the data directory has four levels */
        SYNC_BYTES = 1 << 18, /* what can be overwritten in the time of a sync */
        TREE_PASSES_MAX = 8,  /* readdir() may miss entries while others are removed */
};

static const uint8_t zeros[CHUNK];

int path_format(char out[PATH_SIZE], struct errinfo *e, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        int n = vsnprintf(out, PATH_SIZE, format, args);
        va_end(args);
        if (n < 0)
                return ul_fail(e, UL_INTERNAL, "a path could not be formatted");
        if (n >= PATH_SIZE) {
                out[0] = '\0'; /* a cut path names another file: never use it */
                return ul_fail(e, UL_TOO_LARGE,
                               "a path is longer than %d bytes: use a shorter "
                               "data directory",
                               PATH_SIZE - 1);
        }
        return UL_OK;
}

/* ul_fail_errno with the path, keeping the end of it, which tells more. */
static int fail_path(struct errinfo *e, const char *verb, const char *path)
{
        int error = errno;
        char what[160];
        size_t len = strlen(path);
        const char *tail = len > 100 ? path + len - 100 : path;
        snprintf(what, sizeof what, "cannot %s %s%s", verb, tail == path ? "" : "...", tail);
        errno = error;
        return ul_fail_errno(e, what);
}

static int open_retry(const char *path, int flags, mode_t mode)
{
        int fd;
        do
                fd = open(path, flags | O_CLOEXEC, mode);
        while (fd < 0 && errno == EINTR);
        return fd;
}

/* Linux closes the descriptor even where it says EINTR: never a second try. */
static int close_checked(int fd)
{
        return close(fd) == 0 || errno == EINTR ? 0 : -1;
}

static ssize_t read_retry(int fd, void *data, size_t len)
{
        ssize_t n;
        do
                n = read(fd, data, len);
        while (n < 0 && errno == EINTR);
        return n;
}

static int sync_retry(int fd, int (*sync)(int))
{
        int r;
        do
                r = sync(fd);
        while (r != 0 && errno == EINTR);
        return r;
}

/* The directory that holds `path`, for fsync. */
static int parent_of(const char *path, char out[PATH_SIZE], struct errinfo *e)
{
        size_t len = strlen(path);
        while (len > 1 && path[len - 1] == '/')
                len--;
        while (len > 0 && path[len - 1] != '/')
                len--;
        while (len > 1 && path[len - 1] == '/')
                len--;
        if (len == 0)
                return path_format(out, e, ".");
        return path_format(out, e, "%.*s", (int)(len > PATH_SIZE ? PATH_SIZE : len), path);
}

int sync_parent(const char *path, struct errinfo *e)
{
        char parent[PATH_SIZE];
        int r = parent_of(path, parent, e);
        return r != UL_OK ? r : sync_dir(parent, e);
}

static int read_all(int fd, const char *path, size_t max, struct buf *out, struct errinfo *e)
{
        uint8_t chunk[8192];
        size_t total = 0;
        int r = UL_OK;
        for (;;) {
                ssize_t n = read_retry(fd, chunk, sizeof chunk);
                if (n < 0)
                        r = fail_path(e, "read", path);
                if (n <= 0)
                        break;
                if ((size_t)n > max - total) {
                        r = ul_fail(e, UL_TOO_LARGE, "a file is larger than %zu bytes", max);
                        break;
                }
                total += (size_t)n;
                buf_append(out, chunk, (size_t)n);
                if (out->failed) {
                        r = ul_fail(e, UL_NOMEM, "no room for the content of a file");
                        break;
                }
        }
        explicit_bzero(chunk, sizeof chunk); /* keys are read through here */
        return r;
}

int read_file(const char *path, size_t max, struct buf *out, struct errinfo *e)
{
        size_t before = out->len;
        int fd = open_retry(path, O_RDONLY, 0);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
                fail_path(e, "open", path);
                if (e != NULL)
                        e->code = UL_NOT_FOUND;
                return UL_NOT_FOUND;
        }
        if (fd < 0)
                return fail_path(e, "open", path);
        int r = read_all(fd, path, max, out, e);
        if (r != UL_OK && out->len > before) {
                explicit_bzero(out->data + before, out->len - before);
                out->len = before;
        }
        close_checked(fd);
        return r;
}

static int check_range(uint64_t offset, uint64_t len, struct errinfo *e)
{
        if (offset > INT64_MAX || len > INT64_MAX - offset)
                return ul_fail(e, UL_TOO_LARGE, "a position in a file is out of range");
        return UL_OK;
}

int read_at(int fd, void *data, size_t len, uint64_t offset, struct errinfo *e)
{
        uint8_t *p = data;
        int r = check_range(offset, len, e);
        while (r == UL_OK && len > 0) {
                ssize_t n = pread(fd, p, len, (off_t)offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return ul_fail_errno(e, "cannot read");
                if (n == 0)
                        return ul_fail(e, UL_CORRUPT, "a file ends before its content does");
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return r;
}

int write_at(int fd, const void *data, size_t len, uint64_t offset, struct errinfo *e)
{
        const uint8_t *p = data;
        int r = check_range(offset, len, e);
        while (r == UL_OK && len > 0) {
                ssize_t n = pwrite(fd, p, len, (off_t)offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return ul_fail_errno(e, "cannot write");
                if (n == 0)
                        return ul_fail(e, UL_IO, "cannot write: the file takes no more bytes");
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return r;
}

int sync_data(int fd, struct errinfo *e)
{
        return sync_retry(fd, fdatasync) == 0 ? UL_OK : ul_fail_errno(e, "cannot sync a file");
}

int sync_dir(const char *path, struct errinfo *e)
{
        int fd = open_retry(path, O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0)
                return fail_path(e, "open the directory", path);
        int r = UL_OK;
        if (sync_retry(fd, fsync) != 0)
                r = fail_path(e, "sync the directory", path);
        if (close_checked(fd) != 0 && r == UL_OK)
                r = fail_path(e, "close the directory", path);
        return r;
}

static int sync_level(const char *path, int depth, struct errinfo *e);

static int sync_member(const char *dir, const char *name, int depth, struct errinfo *e)
{
        char path[PATH_SIZE];
        struct stat st;
        int r = path_format(path, e, "%s/%s", dir, name);
        if (r != UL_OK)
                return r;
        if (lstat(path, &st) != 0)
                return errno == ENOENT ? UL_OK : fail_path(e, "look at", path);
        return S_ISDIR(st.st_mode) ? sync_level(path, depth + 1, e) : UL_OK;
}

static int sync_level(const char *path, int depth, struct errinfo *e)
{
        if (depth > TREE_DEPTH_MAX)
                return ul_fail(e, UL_TOO_LARGE, "a tree to sync is deeper than %d levels",
                               TREE_DEPTH_MAX);
        DIR *dir = opendir(path);
        if (dir == NULL)
                return fail_path(e, "open the directory", path);
        int r = sync_retry(dirfd(dir), fsync) == 0 ? UL_OK
                                                   : fail_path(e, "sync the directory", path);
        while (r == UL_OK) {
                errno = 0;
                const struct dirent *entry = readdir(dir);
                if (entry == NULL && errno != 0)
                        r = fail_path(e, "read the directory", path);
                if (entry == NULL)
                        break;
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        r = sync_member(path, entry->d_name, depth, e);
        }
        closedir(dir);
        return r;
}

int sync_names(const char *path, struct errinfo *e)
{
        return sync_level(path, 0, e);
}

int rename_durably(const char *from, const char *to, struct errinfo *e)
{
        if (rename(from, to) != 0)
                return fail_path(e, "rename a file to", to);
        return sync_parent(to, e);
}

/* The temporary file with its content on disk; nothing of it is left where that fails. */
static int write_temporary(const char *path, const void *data, size_t len, struct errinfo *e)
{
        int r = scrub_and_unlink(path, e); /* of a crash before the rename */
        if (r != UL_OK)
                return r;
        int fd = open_retry(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (fd < 0)
                return fail_path(e, "create", path);
        if (CRASH_POINTS) /* dying in the middle of the content */
                r = write_at(fd, data, len / 2, 0, e);
        CRASH_POINT("file.half_written");
        if (r == UL_OK)
                r = write_at(fd, data, len, 0, e);
        CRASH_POINT("file.written");
        if (r == UL_OK && sync_retry(fd, fsync) != 0)
                r = fail_path(e, "sync", path);
        CRASH_POINT("file.synced");
        if (close_checked(fd) != 0 && r == UL_OK)
                r = fail_path(e, "close", path);
        if (r != UL_OK)
                scrub_and_unlink(path, NULL); /* the first error is the one to tell */
        return r;
}

int write_file_durably(const char *path, const void *data, size_t len, struct errinfo *e)
{
        char temporary[PATH_SIZE];
        int r = path_format(temporary, e, "%s.tmp", path);
        if (r != UL_OK)
                return r;
        r = write_temporary(temporary, data, len, e);
        if (r != UL_OK)
                return r;
        if (rename(temporary, path) != 0) {
                r = fail_path(e, "rename a file to", path);
                scrub_and_unlink(temporary, NULL);
                return r;
        }
        CRASH_POINT("file.renamed");
        r = sync_parent(path, e);
        CRASH_POINT("file.durable");
        return r;
}

/* One level of make_dirs. */
static int make_dir(const char *path, struct errinfo *e)
{
        if (mkdir(path, 0700) == 0) {
                CRASH_POINT("file.dir_made");
                int r = sync_parent(path, e);
                if (r != UL_OK) /* one that is there counts as durable the next time */
                        (void)rmdir(path);
                return r;
        }
        if (errno != EEXIST)
                return fail_path(e, "create the directory", path);
        struct stat st;
        if (stat(path, &st) != 0)
                return fail_path(e, "look at", path);
        if (!S_ISDIR(st.st_mode)) {
                errno = ENOTDIR;
                return fail_path(e, "create the directory", path);
        }
        return UL_OK;
}

int make_dirs(const char *path, struct errinfo *e)
{
        char part[PATH_SIZE];
        int r = path_format(part, e, "%s", path);
        for (size_t i = 1; r == UL_OK && part[0] != '\0'; i++) {
                char c = part[i];
                if ((c == '/' || c == '\0') && part[i - 1] != '/') {
                        part[i] = '\0';
                        r = make_dir(part, e);
                        part[i] = c;
                }
                if (c == '\0')
                        break;
        }
        return r;
}

bool file_exists(const char *path)
{
        struct stat st;
        return stat(path, &st) == 0;
}

int scrub_range(int fd, uint64_t offset, uint64_t len, struct errinfo *e)
{
        int r = check_range(offset, len, e);
        while (r == UL_OK && len > 0) {
                size_t n = len > CHUNK ? CHUNK : (size_t)len;
                r = write_at(fd, zeros, n, offset, e);
                offset += n;
                len -= n;
        }
        return r;
}

void scrub_spend(uint64_t *budget, uint64_t bytes)
{
        if (budget != NULL)
                *budget -= bytes < *budget ? bytes : *budget;
}

static bool spent(const uint64_t *budget)
{
        return budget != NULL && *budget == 0;
}

static int cut_off(int fd, uint64_t size, struct errinfo *e)
{
        int r;
        do
                r = ftruncate(fd, (off_t)size);
        while (r != 0 && errno == EINTR);
        return r == 0 ? UL_OK : ul_fail_errno(e, "cannot truncate a file");
}

int scrub_tail(int fd, uint64_t keep, uint64_t *budget, struct errinfo *e)
{
        struct stat st;
        if (fstat(fd, &st) != 0)
                return ul_fail_errno(e, "cannot look at a file");
        uint64_t size = (uint64_t)st.st_size;
        if (size <= keep)
                return UL_OK;
        if (spent(budget))
                return UL_AGAIN;
        uint64_t left = size - keep;
        uint64_t n = budget == NULL || left < *budget ? left : *budget;
        int r = scrub_range(fd, size - n, n, e);
        CRASH_POINT("scrub_file.zeroed");
        if (r == UL_OK) /* zeros must reach the disk before the file system gets the blocks back */
                r = sync_data(fd, e);
        CRASH_POINT("scrub_file.synced");
        if (r == UL_OK)
                r = cut_off(fd, size - n, e);
        CRASH_POINT("scrub_file.truncated");
        scrub_spend(budget, n + SYNC_BYTES);
        return r != UL_OK ? r : n < left ? UL_AGAIN : UL_OK;
}

/* Overwrites and empties a regular file. */
static int scrub_content(const char *path, uint64_t *budget, struct errinfo *e)
{
        struct stat st;
        int fd = open_retry(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0);
        if (fd < 0)
                return fail_path(e, "open", path);
        int r = UL_OK;
        if (fstat(fd, &st) != 0)
                r = fail_path(e, "look at", path);
        else if (!S_ISREG(st.st_mode))
                r = ul_fail(e, UL_IO, "a file changed its kind while it was erased");
        if (r == UL_OK)
                r = scrub_tail(fd, 0, budget, e);
        if (close_checked(fd) != 0 && (r == UL_OK || r == UL_AGAIN))
                r = fail_path(e, "close", path);
        return r;
}

/* scrub_and_unlink without the directory's sync; *gone tells whether there was anything. */
static int scrub_entry(const char *path, bool *gone, uint64_t *budget, struct errinfo *e)
{
        struct stat st;
        *gone = false;
        if (lstat(path, &st) != 0) {
                if (errno == ENOENT || errno == ENOTDIR)
                        return UL_OK;
                return fail_path(e, "look at", path);
        }
        if (spent(budget))
                return UL_AGAIN;
        if (S_ISREG(st.st_mode)) {
                int r = scrub_content(path, budget, e);
                if (r != UL_OK)
                        return r;
        }
        if (unlink(path) != 0 && errno != ENOENT)
                return fail_path(e, "unlink", path);
        CRASH_POINT("scrub_file.unlinked");
        scrub_spend(budget, SYNC_BYTES);
        *gone = true;
        return UL_OK;
}

static int scrub_directory(const char *path, int depth, uint64_t *budget, struct errinfo *e);

static int scrub_member(const char *dir, const char *name, int depth, uint64_t *budget,
                        struct errinfo *e)
{
        char path[PATH_SIZE];
        struct stat st;
        bool gone;
        int r = path_format(path, e, "%s/%s", dir, name);
        if (r != UL_OK)
                return r;
        if (lstat(path, &st) != 0)
                return errno == ENOENT ? UL_OK : fail_path(e, "look at", path);
        return S_ISDIR(st.st_mode) ? scrub_directory(path, depth + 1, budget, e)
                                   : scrub_entry(path, &gone, budget, e);
}

/* Empties a directory once through; what could not be seen is found by the next pass. */
static int scrub_members(const char *path, int depth, uint64_t *budget, struct errinfo *e)
{
        DIR *dir = opendir(path);
        if (dir == NULL)
                return fail_path(e, "open the directory", path);
        int r = UL_OK;
        while (r == UL_OK) {
                errno = 0;
                struct dirent *entry = readdir(dir);
                if (entry == NULL && errno != 0)
                        r = fail_path(e, "read the directory", path);
                if (entry == NULL)
                        break;
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        r = scrub_member(path, entry->d_name, depth, budget, e);
        }
        closedir(dir);
        return r;
}

static int scrub_directory(const char *path, int depth, uint64_t *budget, struct errinfo *e)
{
        if (depth > TREE_DEPTH_MAX)
                return ul_fail(e, UL_TOO_LARGE, "a tree to erase is deeper than %d levels",
                               TREE_DEPTH_MAX);
        for (int pass = 0; pass < TREE_PASSES_MAX; pass++) {
                int r = scrub_members(path, depth, budget, e);
                if (r == UL_OK)
                        r = spent(budget) ? UL_AGAIN : sync_dir(path, e);
                if (r != UL_OK)
                        return r;
                scrub_spend(budget, SYNC_BYTES);
                if (rmdir(path) == 0 || errno == ENOENT)
                        return UL_OK;
                if (errno != ENOTEMPTY && errno != EEXIST)
                        break;
        }
        return fail_path(e, "remove the directory", path);
}

int scrub_some(const char *path, uint64_t *budget, struct errinfo *e)
{
        bool gone;
        int r = scrub_entry(path, &gone, budget, e);
        return r == UL_OK && gone ? sync_parent(path, e) : r;
}

int scrub_and_unlink(const char *path, struct errinfo *e)
{
        return scrub_some(path, NULL, e);
}

int scrub_tree_some(const char *path, uint64_t *budget, struct errinfo *e)
{
        struct stat st;
        if (lstat(path, &st) != 0) {
                if (errno == ENOENT || errno == ENOTDIR)
                        return UL_OK;
                return fail_path(e, "look at", path);
        }
        if (!S_ISDIR(st.st_mode))
                return scrub_some(path, budget, e);
        int r = scrub_directory(path, 0, budget, e);
        return r == UL_OK ? sync_parent(path, e) : r;
}

int scrub_tree(const char *path, struct errinfo *e)
{
        return scrub_tree_some(path, NULL, e);
}
