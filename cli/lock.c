/* SPDX-License-Identifier: Apache-2.0
 * lock.c: see lock.h. */
#include "cli/lock.h"

#include "lib/util/file.h"
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

int lock_data_dir(const char *dir, int *fd, struct errinfo *e)
{
        char path[PATH_SIZE];
        *fd = -1;
        int err = path_format(path, e, "%s/lock", dir);
        if (err != 0)
                return err;
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (*fd < 0)
                return ul_fail_errno(e, "cannot open the data directory's lock");
        if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
                return 0;
        (void)close(*fd);
        *fd = -1;
        return ul_fail(e, UL_CONFLICT, "an unlearnd serves %.150s: stop it first", dir);
}
