/* SPDX-License-Identifier: Apache-2.0
 * copy.c: see copy.h. */
#include "lib/backup/copy.h"

#include "lib/util/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP_BYTES = 1024 * 1024 };

static int fail_file(struct errinfo *e, const char *verb, const char *path)
{
        char what[160];
        int error = errno;
        size_t len = strlen(path);
        (void)snprintf(what, sizeof what, "cannot %s %s%s", verb, len > 100 ? "..." : "",
                       len > 100 ? path + len - 100 : path);
        errno = error;
        int err = ul_fail_errno(e, what);
        if (error != ENOENT)
                return err;
        if (e != NULL)
                e->code = UL_NOT_FOUND;
        return UL_NOT_FOUND;
}

static int open_source(const char *path, int *fd, uint64_t *size, struct errinfo *e)
{
        struct stat st;
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (*fd < 0)
                return fail_file(e, "open", path);
        if (fstat(*fd, &st) != 0)
                return fail_file(e, "look at", path);
        if (!S_ISREG(st.st_mode))
                return ul_fail(e, UL_CORRUPT, "a backup holds regular files only");
        *size = (uint64_t)st.st_size;
        return 0;
}

/* Reads up to `size` bytes step by step, into `to` (< 0: nowhere) and `sum` (NULL: nowhere). */
static int pump(int from, int to, uint64_t size, struct sha256_state *sum,
                const struct copy_watch *w, struct errinfo *e)
{
        uint8_t *step = malloc(STEP_BYTES);
        int err = step == NULL ? ul_fail(e, UL_NOMEM, "no memory to copy a file") : 0;
        for (uint64_t at = 0; at < size && err == 0;) {
                size_t n = size - at < STEP_BYTES ? (size_t)(size - at) : STEP_BYTES;
                err = read_at(from, step, n, at, e);
                if (err == 0 && to >= 0)
                        err = write_at(to, step, n, at, e);
                if (err == 0 && sum != NULL)
                        sha256_add(sum, step, n);
                if (err == 0 && w != NULL && !w->step(w->arg, n))
                        err = ul_fail(e, UL_CLOSED, "broken off");
                at += n;
        }
        if (step != NULL)
                wipe(step, STEP_BYTES); /* rows */
        free(step);
        return err;
}

int copy_file(const char *from, const char *to, uint64_t limit, const struct copy_watch *w,
              uint64_t *bytes, struct errinfo *e)
{
        int source = -1;
        uint64_t size = 0;
        int err = open_source(from, &source, &size, e);
        if (err == 0) {
                *bytes = size < limit ? size : limit;
                int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
                err = target < 0 ? fail_file(e, "create", to)
                                 : pump(source, target, *bytes, NULL, w, e);
                if (target >= 0 && close(target) != 0 && err == 0)
                        err = fail_file(e, "close", to);
        }
        if (source >= 0)
                (void)close(source);
        return err;
}

int hash_file(const char *path, bool sync, const struct copy_watch *w, uint64_t *bytes,
              uint8_t sum[SHA256_BYTES], struct errinfo *e)
{
        struct sha256_state s;
        int fd = -1;
        int err = open_source(path, &fd, bytes, e);
        sha256_begin(&s);
        if (err == 0)
                err = pump(fd, -1, *bytes, &s, w, e);
        sha256_end(&s, sum);
        if (err == 0 && sync && fsync(fd) != 0)
                err = fail_file(e, "sync", path);
        if (fd >= 0)
                (void)close(fd);
        return err;
}
