/* SPDX-License-Identifier: Apache-2.0
 * files.c: every byte of every file, in blocks that overlap so that nothing hides on a boundary.
 * It writes nothing and follows no link. Files are read, not mapped: the daemon may truncate one
 * meanwhile. What it cannot look into is told, for a file that was not read is not clean. It must
 * not know what is looked for. */
#include "lib/scan/scan_private.h"

#include "lib/util/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1024 * 1024, DEPTH_MAX = 32 };

void tell_unread(struct scan *s, const char *path, const char *why)
{
        s->totals.unread++;
        s->events.unread(s->events.arg, path, why);
}

bool ends_in(const char *text, const char *end)
{
        const size_t n = strlen(text), k = strlen(end);
        return n >= k && memcmp(text + n - k, end, k) == 0;
}

/* --- blocks --- */

/* Up to `len` bytes; fewer only at the end of the file. */
static long read_some(int fd, uint8_t *out, size_t len, uint64_t offset)
{
        size_t have = 0;
        while (have < len) {
                ssize_t n = pread(fd, out + have, len - have, (off_t)(offset + have));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -1;
                if (n == 0)
                        break;
                have += (size_t)n;
        }
        return (long)have;
}

/* The next stretch of data at or after `at`; false at the end. A file system without holes says
 * that all is data. */
static bool next_data(int fd, uint64_t bytes, uint64_t at, uint64_t *from, uint64_t *to)
{
        if (at >= bytes)
                return false;
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
                return false;
        *from = data < 0 ? at : (uint64_t)data;
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        *to = hole < 0 || (uint64_t)hole > bytes ? bytes : (uint64_t)hole;
        return *from<bytes && * to> * from;
}

struct blocks {
        int fd;
        uint64_t bytes; /* of the file */
        uint8_t *data;  /* [BLOCK_BYTES + 2 * SCAN_MARGIN] */
        scan_block_fn fn;
        void *arg;
};

/* Needles that begin in [from, to). *end: the file turned out to end before `to`. */
static int read_block(const struct blocks *b, uint64_t from, uint64_t to, bool *end,
                      struct errinfo *e)
{
        const uint64_t low = from > SCAN_MARGIN ? from - SCAN_MARGIN : 0;
        const uint64_t high = b->bytes - to > SCAN_MARGIN ? to + SCAN_MARGIN : b->bytes;
        const long len = read_some(b->fd, b->data, (size_t)(high - low), low);
        if (len < 0)
                return ul_fail_errno(e, "cannot read");
        const size_t first = (size_t)(from - low);
        size_t past = (size_t)(to - low);
        *end = (size_t)len < past;
        past = *end ? (size_t)len : past;
        return past > first ? b->fn(b->arg, b->data, (size_t)len, first, past, low) : 0;
}

int read_blocks(int fd, uint64_t bytes, scan_block_fn fn, void *arg, uint64_t *read_bytes,
                struct errinfo *e)
{
        struct blocks b = {.fd = fd, .bytes = bytes, .fn = fn, .arg = arg};
        const size_t room = BLOCK_BYTES + 2 * SCAN_MARGIN;
        uint64_t done = 0, from, to;
        int err = 0;
        bool end = false;
        b.data = malloc(room);
        if (b.data == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to read files");
        while (err == 0 && !end && next_data(fd, bytes, done, &from, &to)) {
                *read_bytes += to - from;
                /* what begins with zeros may begin in the hole before */
                uint64_t at = from - done > SCAN_MARGIN ? from - SCAN_MARGIN : done;
                for (; at < to && err == 0 && !end; at += BLOCK_BYTES)
                        err = read_block(&b, at, to - at > BLOCK_BYTES ? at + BLOCK_BYTES : to,
                                         &end, e);
                done = to;
        }
        wipe(b.data, room);
        free(b.data);
        return err;
}

/* --- the tree --- */

struct walk {
        struct scan *s;
        const char *root;
        scan_file_fn fn;
        struct errinfo *e;
};

static void walk_unread(const struct walk *w, const char *path, const char *why)
{
        if (!w->s->quiet)
                tell_unread(w->s, path, why);
}

static const char *below(const struct walk *w, const char *path)
{
        path += strlen(w->root);
        return path + strspn(path, "/");
}

static int visit_file(const struct walk *w, const char *path)
{
        int fd;
        do
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        while (fd < 0 && errno == EINTR);
        if (fd < 0 && errno == ENOENT)
                return 0; /* a running daemon removed it */
        if (fd < 0) {
                walk_unread(w, path, strerror(errno));
                return 0;
        }
        int err = w->fn(w->s, fd, path, below(w, path), w->e);
        (void)close(fd);
        return err;
}

static int visit_directory(const struct walk *w, const char *path, int depth);

static int visit(const struct walk *w, const char *path, int depth)
{
        struct stat st;
        if (lstat(path, &st) != 0) {
                if (errno != ENOENT)
                        walk_unread(w, path, strerror(errno));
                return 0;
        }
        if (S_ISDIR(st.st_mode))
                return visit_directory(w, path, depth + 1);
        if (S_ISREG(st.st_mode))
                return visit_file(w, path);
        walk_unread(w, path,
                    S_ISLNK(st.st_mode) ? "a symbolic link, which is not followed: scan its target"
                                        : "not a regular file");
        return 0;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count)
{
        for (size_t i = 0; i < count; i++)
                free(names[i]);
        free(names);
}

/* Sorted, so that two runs tell the same in the same order. */
static int read_names(const struct walk *w, const char *path, char ***out, size_t *count)
{
        size_t capacity = 0;
        char **names = NULL;
        const struct dirent *entry;
        int err = 0;
        *count = 0;
        *out = NULL;
        DIR *d = opendir(path);
        if (d == NULL) {
                if (errno != ENOENT || strcmp(path, w->root) == 0)
                        walk_unread(w, path, strerror(errno));
                return 0;
        }
        while (err == 0 && (errno = 0, entry = readdir(d)) != NULL) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                err = scan_grow(&names, *count, &capacity, sizeof *names, w->e);
                if (err == 0 && (names[*count] = strdup(entry->d_name)) != NULL)
                        ++*count;
                else if (err == 0)
                        err = ul_fail(w->e, UL_NOMEM, "no memory to read a directory");
        }
        if (err == 0 && errno != 0)
                walk_unread(w, path, strerror(errno));
        (void)closedir(d);
        if (err != 0) {
                free_names(names, *count);
                return err;
        }
        if (*count > 0)
                qsort(names, *count, sizeof *names, by_name);
        *out = names;
        return 0;
}

static int visit_directory(const struct walk *w, const char *path, int depth)
{
        char **names;
        size_t count;
        if (depth > DEPTH_MAX) {
                walk_unread(w, path, "too deep");
                return 0;
        }
        int err = read_names(w, path, &names, &count);
        if (err != 0)
                return err;
        char *member = malloc(SCAN_PATH_MAX);
        if (member == NULL)
                err = ul_fail(w->e, UL_NOMEM, "no memory to read a directory");
        for (size_t i = 0; i < count && err == 0; i++) {
                int n = snprintf(member, SCAN_PATH_MAX, "%s/%s", path, names[i]);
                if (n < 0 || n >= SCAN_PATH_MAX)
                        walk_unread(w, path, "a path in it is too long");
                else
                        err = visit(w, member, depth);
        }
        free(member);
        free_names(names, count);
        return err;
}

int walk_files(struct scan *s, const char *root, scan_file_fn fn, struct errinfo *e)
{
        const struct walk w = {.s = s, .root = root, .fn = fn, .e = e};
        return visit_directory(&w, root, 0);
}

/* --- row files --- */

/* Drawn in records/rowfile.h. The header's own checksum says that it is one. */
bool read_row_shape(int fd, uint64_t bytes, struct row_shape *out)
{
        uint8_t h[ROWFILE_HEADER_BYTES];
        if (bytes < sizeof h || read_some(fd, h, sizeof h, 0) != sizeof h ||
            memcmp(h, "ULROWS\r\n", 8) != 0 || get_le32(h + 60) != crc32c(0, h, 60))
                return false;
        *out = (struct row_shape){.dtype = get_le32(h + 12),
                                  .features = get_le32(h + 16),
                                  .targets = get_le32(h + 20)};
        return out->dtype <= DTYPE_BIT && out->features > 0 && out->features <= FEATURES_MAX &&
               out->targets <= TARGETS_MAX && get_le32(h + 24) == row_bytes(out);
}
