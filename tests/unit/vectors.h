/* SPDX-License-Identifier: Apache-2.0
 * vectors.h: published test vectors, unpacked into a folder of the test's own. They stand outside
 * the repository: in $UNLEARND_SHARED/data/vectors, or ../shared beside it. */
#ifndef UNLEARND_TESTS_VECTORS_H
#define UNLEARND_TESTS_VECTORS_H

#include <ftw.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static inline int vectors_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        return remove(path);
}

static inline void vectors_remove(const char *dir)
{
        (void)nftw(dir, vectors_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* False: the archive is not there, and the test should skip(), having said so. */
static inline bool vectors_unpack(const char *archive, char dir[256])
{
        const char *shared = getenv("UNLEARND_SHARED"), *tmp = getenv("TMPDIR");
        char path[512];
        int status = -1;
        pid_t pid;
        (void)snprintf(path, sizeof path, "%s/data/vectors/%s",
                       shared != NULL ? shared : "../shared", archive);
        if (access(path, R_OK) != 0) {
                print_message("skipped: %s is not there (set UNLEARND_SHARED)\n", path);
                return false;
        }
        (void)snprintf(dir, 256, "%s/unlearnd-vectors-XXXXXX", tmp != NULL ? tmp : "/tmp");
        assert_non_null(mkdtemp(dir));
        char *argv[] = {(char[]){"tar"}, (char[]){"-xzf"}, path, (char[]){"-C"}, dir, NULL};
        assert_int_equal(posix_spawnp(&pid, "tar", NULL, NULL, argv, environ), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        return true;
}

#endif
