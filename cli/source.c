/* SPDX-License-Identifier: Apache-2.0
 * source.c: see source.h. The first piece of a file is read at once: it tells the compression, and
 * a peek decompresses a copy of it, so that nothing needs to be read twice. */
#include "cli/source.h"

#include "lib/util/crypto.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { PIECE_BYTES = 128 * 1024 };
enum packing { PLAIN, GZIP, ZSTD };

struct unpacker {
        enum packing packing;
        bool ready;    /* gzip */
        bool boundary; /* between members or frames: the stream may end here */
        z_stream gzip;
        ZSTD_DCtx *zstd;
};

struct source {
        int fd;
        bool is_stdin;
        uint64_t size, position;
        enum packing packing;
        struct unpacker unpacker;
        bool ended;
        size_t at, len; /* of `piece` */
        uint8_t piece[PIECE_BYTES];
};

/* --- unpacking --- */

static int unpacker_begin(struct unpacker *u, enum packing packing, struct errinfo *e)
{
        *u = (struct unpacker){.packing = packing, .boundary = true};
        if (packing == GZIP)
                u->ready = inflateInit2(&u->gzip, 15 + 16) == Z_OK;
        else if (packing == ZSTD)
                u->zstd = ZSTD_createDCtx();
        return packing == PLAIN || u->ready || u->zstd != NULL
                       ? 0
                       : ul_fail(e, UL_NOMEM, "no memory to decompress");
}

static void unpacker_end(struct unpacker *u)
{
        if (u->ready)
                (void)inflateEnd(&u->gzip);
        (void)ZSTD_freeDCtx(u->zstd);
        wipe(u, sizeof *u);
}

static int unpack_gzip(struct unpacker *u, const uint8_t *in, size_t len, size_t *used,
                       uint8_t *out, size_t cap, size_t *made, struct errinfo *e)
{
        if (u->boundary && len > 0) {
                if (inflateReset(&u->gzip) != Z_OK)
                        return ul_fail(e, UL_INTERNAL, "zlib cannot be reset");
                u->boundary = false;
        }
        u->gzip.next_in = (Bytef *)(uintptr_t)in;
        u->gzip.avail_in = (uInt)len;
        u->gzip.next_out = out;
        u->gzip.avail_out = (uInt)cap;
        int r = inflate(&u->gzip, Z_NO_FLUSH);
        *used = len - u->gzip.avail_in;
        *made = cap - u->gzip.avail_out;
        u->boundary = r == Z_STREAM_END;
        if (r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR)
                return 0;
        return ul_fail(e, r == Z_MEM_ERROR ? UL_NOMEM : UL_SYNTAX, "the gzip stream is damaged");
}

static int unpack_zstd(struct unpacker *u, const uint8_t *in, size_t len, size_t *used,
                       uint8_t *out, size_t cap, size_t *made, struct errinfo *e)
{
        ZSTD_inBuffer from = {in, len, 0};
        ZSTD_outBuffer to = {out, cap, 0};
        size_t r = ZSTD_decompressStream(u->zstd, &to, &from);
        if (ZSTD_isError(r))
                return ul_fail(e, UL_SYNTAX, "the zstd stream is damaged");
        *used = from.pos;
        *made = to.pos;
        if (*used > 0 || *made > 0)
                u->boundary = r == 0;
        return 0;
}

/* cap > 0. Nothing used and nothing made: it needs more bytes. */
static int unpack(struct unpacker *u, const uint8_t *in, size_t len, size_t *used, uint8_t *out,
                  size_t cap, size_t *made, struct errinfo *e)
{
        *used = *made = 0;
        if (u->packing == GZIP)
                return unpack_gzip(u, in, len, used, out, cap, made, e);
        if (u->packing == ZSTD)
                return unpack_zstd(u, in, len, used, out, cap, made, e);
        *used = *made = len < cap ? len : cap;
        memcpy(out, in, *used);
        return 0;
}

/* --- the file --- */

static int fill(struct source *s, struct errinfo *e)
{
        while (s->len < sizeof s->piece && !s->ended) {
                ssize_t n = read(s->fd, s->piece + s->len, sizeof s->piece - s->len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return ul_fail_errno(e, "the file cannot be read");
                s->ended = n == 0;
                s->len += (size_t)n;
                s->position += (uint64_t)n;
                if (s->is_stdin && n > 0 && s->position > (uint64_t)n)
                        break; /* what is there; but the first piece as whole as can be */
        }
        return 0;
}

static enum packing packing_of(const uint8_t *p, size_t len)
{
        static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
        if (len >= sizeof gzip && memcmp(p, gzip, sizeof gzip) == 0)
                return GZIP;
        return len >= sizeof zstd && memcmp(p, zstd, sizeof zstd) == 0 ? ZSTD : PLAIN;
}

static int open_file(struct source *s, const char *path, struct errinfo *e)
{
        struct stat st;
        s->is_stdin = strcmp(path, "-") == 0;
        s->fd = s->is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
        if (s->fd < 0)
                return ul_fail_errno(e, path);
        if (fstat(s->fd, &st) != 0)
                return ul_fail_errno(e, path);
        if (S_ISDIR(st.st_mode))
                return ul_fail(e, UL_INVALID, "%s is a directory", path);
        if (S_ISREG(st.st_mode))
                s->size = (uint64_t)st.st_size;
        return 0;
}

int source_open(const char *path, struct source **out, struct errinfo *e)
{
        struct source *s = calloc(1, sizeof *s);
        *out = NULL;
        if (s == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to read a file");
        s->fd = -1;
        int err = open_file(s, path, e);
        if (err == 0)
                err = fill(s, e);
        if (err == 0) {
                s->packing = packing_of(s->piece, s->len);
                err = unpacker_begin(&s->unpacker, s->packing, e);
        }
        if (err != 0)
                source_close(&s);
        *out = s;
        return err;
}

void source_close(struct source **s)
{
        if (*s == NULL)
                return;
        unpacker_end(&(*s)->unpacker);
        if (!(*s)->is_stdin && (*s)->fd >= 0)
                (void)close((*s)->fd);
        wipe(*s, sizeof **s);
        free(*s);
        *s = NULL;
}

const char *source_encoding(const struct source *s)
{
        static const char *const names[] = {[PLAIN] = NULL, [GZIP] = "gzip", [ZSTD] = "zstd"};
        return names[s->packing];
}

uint64_t source_size(const struct source *s)
{
        return s->size;
}

uint64_t source_position(const struct source *s)
{
        return s->position - (s->len - s->at);
}

int source_peek(struct source *s, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        struct unpacker u;
        size_t at = s->at;
        *len = 0;
        int err = unpacker_begin(&u, s->packing, e);
        while (err == 0 && *len < cap) {
                size_t used = 0, made = 0;
                err = unpack(&u, s->piece + at, s->len - at, &used, (uint8_t *)out + *len,
                             cap - *len, &made, e);
                at += used;
                *len += made;
                if (used == 0 && made == 0)
                        break;
        }
        unpacker_end(&u);
        return err;
}

int source_read_raw(struct source *s, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        if (s->at == s->len) {
                s->at = s->len = 0;
                int err = fill(s, e);
                if (err != 0)
                        return err;
        }
        *len = s->len - s->at < cap ? s->len - s->at : cap;
        memcpy(out, s->piece + s->at, *len);
        s->at += *len;
        return 0;
}

int source_read(struct source *s, void *out, size_t cap, size_t *len, struct errinfo *e)
{
        *len = 0;
        for (;;) {
                size_t used = 0;
                int err = unpack(&s->unpacker, s->piece + s->at, s->len - s->at, &used, out, cap,
                                 len, e);
                s->at += used;
                if (err != 0 || *len > 0)
                        return err;
                if (used > 0)
                        continue;
                if (s->at < s->len)
                        return ul_fail(e, UL_SYNTAX, "bytes follow the compressed stream");
                s->at = s->len = 0;
                err = fill(s, e);
                if (err != 0)
                        return err;
                if (s->len == 0)
                        break;
        }
        return s->unpacker.boundary ? 0 : ul_fail(e, UL_SYNTAX, "the compressed stream is cut off");
}
