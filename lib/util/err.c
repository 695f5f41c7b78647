/* SPDX-License-Identifier: Apache-2.0
 * err.c: fills the caller's errinfo. It knows no other module. A text is built in a local buffer
 * first, so that a caller may wrap an error in itself ("load: %s", e->detail), and what is cut is
 * cut between characters, so that it is still valid UTF-8 in a problem document. */
#define UL_ERR_IMPLEMENTATION
#include "lib/util/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
        [-UL_OK] = "ok",
        [-UL_SYNTAX] = "syntax",
        [-UL_INVALID] = "invalid",
        [-UL_NOT_FOUND] = "not_found",
        [-UL_EXISTS] = "exists",
        [-UL_CONFLICT] = "conflict",
        [-UL_TOO_LARGE] = "too_large",
        [-UL_UNSUPPORTED] = "unsupported",
        [-UL_MISMATCH] = "mismatch",
        [-UL_BUSY] = "busy",
        [-UL_UNAVAILABLE] = "unavailable",
        [-UL_CLOSED] = "closed",
        [-UL_IO] = "io",
        [-UL_NOSPACE] = "nospace",
        [-UL_NOMEM] = "nomem",
        [-UL_CORRUPT] = "corrupt",
        [-UL_FENCED] = "fenced",
        [-UL_TIMEOUT] = "timeout",
        [-UL_INTERNAL] = "internal",
        [-UL_DAMAGED] = "damaged_rows",
        [-UL_AGAIN] = "again",
        [-UL_GONE] = "gone",
};

const char *ul_err_name(int code)
{
        if (code > 0 || code < UL_GONE)
                return "unknown";
        return names[-code];
}

/* Drops the bytes of a UTF-8 character that the cut left incomplete at the end. */
static size_t whole_characters(const char *text, size_t len)
{
        size_t back = 0;
        while (back < 3 && back < len && ((unsigned char)text[len - 1 - back] & 0xC0) == 0x80)
                back++;
        if (back == len)
                return len;
        unsigned char lead = (unsigned char)text[len - 1 - back];
        size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
        return need > back + 1 ? len - 1 - back : len;
}

/* Copies the text of `text_len` bytes, cut to `size` with its NUL. */
static void set_text(char *out, size_t size, const char *text, size_t text_len)
{
        size_t len = text_len;
        if (len >= size)
                len = whole_characters(text, size - 1);
        memmove(out, text, len);
        out[len] = '\0';
}

__attribute__((format(printf, 4, 0))) static int
fail(struct errinfo *e, int code, const char *field, const char *format, va_list args)
{
        if (e == NULL)
                return code;
        char detail[ERRINFO_DETAIL_MAX];
        int n = vsnprintf(detail, sizeof detail, format, args);
        if (n < 0)
                detail[0] = '\0';
        size_t len = strlen(detail);
        if (n >= (int)sizeof detail)
                len = whole_characters(detail, len);
        set_text(e->field, sizeof e->field, field, strlen(field));
        set_text(e->detail, sizeof e->detail, detail, len);
        e->code = code;
        e->retry_after_s = 0;
        return code;
}

int ul_fail(struct errinfo *e, int code, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        int r = fail(e, code, "", format, args);
        va_end(args);
        return r;
}

int ul_fail_field(struct errinfo *e, int code, const char *field, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        int r = fail(e, code, field, format, args);
        va_end(args);
        return r;
}

int ul_fail_errno(struct errinfo *e, const char *what)
{
        int error = errno;
        int code = UL_IO;
        if (error == ENOSPC || error == EDQUOT)
                code = UL_NOSPACE;
        else if (error == ENOMEM)
                code = UL_NOMEM;
        else if (error == EMFILE || error == ENFILE)
                code = UL_BUSY;
        char text[128];
        ul_fail(e, code, "%s: %s", what, strerror_r(error, text, sizeof text));
        errno = error;
        return code;
}
