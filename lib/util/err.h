/* SPDX-License-Identifier: Apache-2.0
 * err.h: one enum of errors for the whole program, and the bounded text that goes with one.
 * It knows nothing of HTTP: api/problem.c maps these codes to status codes, in one table. */
#ifndef UNLEARND_UTIL_ERR_H
#define UNLEARND_UTIL_ERR_H

#include <stdint.h>

/* Functions that can fail return 0 or one of these (all negative). */
enum ul_err {
        UL_OK = 0,
        UL_SYNTAX = -1,      /* the input is not well formed (400) */
        UL_INVALID = -2,     /* well formed, but its content is refused; `field` says where (422) */
        UL_NOT_FOUND = -3,   /* 404 */
        UL_EXISTS = -4,      /* a thing of that name is there already (409) */
        UL_CONFLICT = -5,    /* not possible in the present state (409) */
        UL_TOO_LARGE = -6,   /* over a limit of size (413) */
        UL_UNSUPPORTED = -7, /* a media type or encoding that is not served (415) */
        UL_MISMATCH = -8,    /* idempotency key seen before with another body (422) */
        UL_BUSY = -9,        /* a queue is full; retry_after_s is set (503) */
        UL_UNAVAILABLE = -10, /* nothing clean is left to serve; retry_after_s is set (503) */
        UL_CLOSED = -11,      /* the daemon is stopping (503) */
        UL_IO = -12,          /* a system call failed; detail holds strerror (500) */
        UL_NOSPACE = -13,     /* the disk or the map is full (503) */
        UL_NOMEM = -14,       /* 503 */
        UL_CORRUPT = -15,     /* a checksum or a layout does not hold (500) */
        UL_FENCED = -16,      /* the result belongs to a superseded job */
        UL_TIMEOUT = -17,     /* 503 */
        UL_INTERNAL = -18,    /* a library failed in a way that it should not (500) */
        UL_DAMAGED = -19, /* rows on disk cannot be trusted: their shard is out of service (500) */
        UL_AGAIN = -20,   /* not an error: call again after the announced wake-up */
        UL_GONE = -21,    /* it was there, and was removed for good (410) */
};

enum { ERRINFO_FIELD_MAX = 128, ERRINFO_DETAIL_MAX = 256 };

/* Where and why, for people. Owned by the caller; never holds ids, labels, texts or secrets. */
struct errinfo {
        int code;                        /* the ul_err that was returned */
        uint32_t retry_after_s;          /* 0: no advice */
        char field[ERRINFO_FIELD_MAX];   /* JSON pointer or option name, "" where none applies */
        char detail[ERRINFO_DETAIL_MAX]; /* one sentence, with the way out in it */
};

/* Fills `e` (may be NULL) and returns `code`, so that callers write `return ul_fail(e, UL_IO,
 * ...)`. The text is cut, never overrun. */
int ul_fail(struct errinfo *e, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* The same with the offending field as a JSON pointer ("/hidden/0"). */
int ul_fail_field(struct errinfo *e, int code, const char *field, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* UL_IO (UL_NOSPACE for ENOSPC/EDQUOT, UL_NOMEM for ENOMEM, UL_BUSY where no descriptor is free)
 * with "what: strerror(errno)". */
int ul_fail_errno(struct errinfo *e, const char *what);

#if defined(__clang_analyzer__) && !defined(UL_ERR_IMPLEMENTATION)
/* What the functions promise, for an analyser that cannot see into them: the code comes back. */
#define ul_fail(e, code, ...) ((ul_fail)(e, code, __VA_ARGS__), (code))
#define ul_fail_field(e, code, ...) ((ul_fail_field)(e, code, __VA_ARGS__), (code))
#define ul_fail_errno(e, what) ((ul_fail_errno)(e, what), UL_IO)
#endif

/* A short fixed name such as "not_found"; never NULL. */
const char *ul_err_name(int code);

#endif
