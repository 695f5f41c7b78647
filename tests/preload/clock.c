/* SPDX-License-Identifier: Apache-2.0
 * clock.c: preloaded into a program under test: its wall clock is UNLEARND_TEST_CLOCK seconds ahead
 * (or behind), so that months pass between two starts. Monotonic clocks are left alone. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *t)
{
        long r = syscall(SYS_clock_gettime, clock, t);
        const char *ahead = getenv("UNLEARND_TEST_CLOCK");
        if (r == 0 && clock == CLOCK_REALTIME && ahead != NULL)
                t->tv_sec += strtol(ahead, NULL, 10);
        return (int)r;
}
