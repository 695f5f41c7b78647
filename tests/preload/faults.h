/* SPDX-License-Identifier: Apache-2.0
 * faults.h: the control block that a test and the shim in the daemon both map. A test writes rules
 * into the file that UNLEARND_FAULTS names and changes them while the daemon runs; the shim counts
 * what matched. tests/crash/faults.py holds the same layout.
 *
 *   0     magic "ULFAULT1"
 *   8     i64  clock_offset_ms   added to what CLOCK_REALTIME says
 *   16    char root[256]         only files below it; "" means all
 *   272   struct rule[RULES]
 */
#ifndef UNLEARND_TESTS_FAULTS_SHIM_H
#define UNLEARND_TESTS_FAULTS_SHIM_H

#include <stdint.h>

enum { RULES = 8, ROOT_BYTES = 256, NAME_BYTES = 64 };

enum kind {                 /* a bit each */
            KIND_WRITE = 1, /* write, writev, pwrite, pwritev */
            KIND_META = 2,  /* the same on a descriptor that is O_DSYNC: LMDB's meta page */
            KIND_SYNC = 4,  /* fsync, fdatasync, msync, syncfs */
            KIND_TRUNCATE = 8,
            KIND_ALLOCATE = 16, /* fallocate */
            KIND_OPEN = 32,     /* open, openat, opendir */
            KIND_SOCKET = 64,   /* socket, accept4, epoll_create1 */
            KIND_MEMORY = 128,  /* malloc, calloc, realloc, posix_memalign */
            KIND_MAP = 256,     /* mmap */
            KIND_RENAME = 512,
            KIND_UNLINK = 1024,
            KIND_MKDIR = 2048,
            KIND_THREAD = 4096, /* pthread_create */
};

enum {                             /* in place of an errno */
       SHORT_WRITE = -1,           /* half of the bytes are written */
       SLOW = -2,                  /* the call waits first, and succeeds */
       SLOW_NS = 200 * 1000 * 1000 /* for so long */
};
/* With the errno of a sync: the file's writes since its last sync are lost, as a kernel loses pages
 * that a disk did not take (those since the rule was switched on; not O_DSYNC ones). */
enum { LOSES = 1 << 16 };

struct rule {
        _Atomic uint32_t kinds; /* 0: the rule is off */
        _Atomic int32_t error;  /* 0: only counts */
        _Atomic uint64_t first; /* the call that fails first, from 1 */
        _Atomic uint64_t last;  /* and last */
        _Atomic uint64_t seen;  /* calls that matched */
        _Atomic uint64_t hit;   /* of them made to fail */
        char name[NAME_BYTES];  /* part of the file's path; "" means any */
};

struct control {
        char magic[8];
        _Atomic int64_t clock_offset_ms;
        char root[ROOT_BYTES];
        struct rule rules[RULES];
};
_Static_assert(sizeof(struct rule) == 104, "as in tests/crash/faults.py");

#endif
