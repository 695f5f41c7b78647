/* SPDX-License-Identifier: Apache-2.0
 * crash_point.h: named places at which tests kill the process, one after every durable step. They
 * exist only in a build with UNLEARND_FAULTS (`make FLAVOUR=faults`); elsewhere a point is no code
 * at all. A point registers itself where it stands, through a section of its own, so that there is
 * no list to forget one in. What is armed is said by the environment:
 *
 *   UNLEARND_CRASH_PASSES=DIR   each pass of a point appends a byte to DIR/PROGRAM.NAME, so that
 *                               passes are counted over every process of a test
 *   UNLEARND_CRASH_POINT=PROGRAM/NAME[:n]  SIGKILL at the n-th pass (default 1), and only then
 *   UNLEARND_CRASH_POINT=list   prints the names of this program's points, and ends
 *
 * Names are `module.step`, the step in the past tense: what is true when the process dies. */
#ifndef UNLEARND_UTIL_CRASH_POINT_H
#define UNLEARND_UTIL_CRASH_POINT_H

#ifdef UNLEARND_FAULTS
enum { CRASH_POINTS = 1 };
#define CRASH_POINT(name)                                                                          \
        do {                                                                                       \
                static const char *const crash_point_                                              \
                        __attribute__((section("crash_points"), used)) = name;                     \
                crash_point_pass(crash_point_);                                                    \
        } while (0)
/* Counts a pass of the point, and does not return where the process is to die at it. */
void crash_point_pass(const char *name);
/* What a child process must inherit for its own points to be armed. */
#define CRASH_POINT_VARIABLES "UNLEARND_CRASH_POINT", "UNLEARND_CRASH_PASSES",
#else
enum { CRASH_POINTS = 0 };
#define CRASH_POINT(name) ((void)0)
#define CRASH_POINT_VARIABLES
#endif

#endif
