/* SPDX-License-Identifier: Apache-2.0
 * crash_point.c: see crash_point.h. It is empty in everything that ships. What goes wrong in here
 * is a broken test, and ends the process. */
#include "lib/util/crash_point.h"

#ifdef UNLEARND_FAULTS
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The linker's names for the ends of the section. */
extern const char *const __start_crash_points[];
extern const char *const __stop_crash_points[];

__attribute__((constructor)) static void list_if_asked(void)
{
        const char *point = getenv("UNLEARND_CRASH_POINT");
        if (point == NULL || strcmp(point, "list") != 0)
                return;
        for (const char *const *p = __start_crash_points; p < __stop_crash_points; p++)
                (void)puts(*p);
        _exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Which pass this is, over all processes: the size of the point's file with this pass's byte. */
static long count_pass(const char *folder, const char *name)
{
        char path[PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s.%s", folder, program_invocation_short_name, name);
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, ".", 1) != 1)
                abort();
        long pass = (long)lseek(fd, 0, SEEK_CUR);
        (void)close(fd);
        return pass;
}

/* The pass at which `name` kills this program; 0 where it does not. */
static long armed_for(const char *armed, const char *name)
{
        char point[256];
        int n = snprintf(point, sizeof point, "%s/%s", program_invocation_short_name, name);
        if (armed == NULL || n < 0 || strncmp(armed, point, (size_t)n) != 0)
                return 0;
        if (armed[n] == '\0')
                return 1;
        return armed[n] == ':' ? strtol(armed + n + 1, NULL, 10) : 0;
}

void crash_point_pass(const char *name)
{
        const char *folder = getenv("UNLEARND_CRASH_PASSES");
        if (folder == NULL)
                return;
        long pass = count_pass(folder, name);
        if (pass != armed_for(getenv("UNLEARND_CRASH_POINT"), name))
                return;
        (void)kill(getpid(), SIGKILL);
        for (;;)
                (void)pause();
}
#endif
