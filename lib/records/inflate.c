/* SPDX-License-Identifier: Apache-2.0
 * inflate.c: gzip (RFC 1952, any number of members) and zstd (RFC 8878, any number of frames) as a
 * pull of at most one window of output a call, so that a small body that inflates to terabytes
 * costs time that its sender pays for, and never memory. Both libraries get an allocator that wipes
 * what is freed, since their windows hold the last rows. It must not know what the bytes mean. */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_createDCtx_advanced: the only way to bring an allocator   \
                                  */
#include <zstd.h>
#include <zstd_errors.h>
#define ZLIB_CONST
#include <zlib.h>

#include "lib/records/ingest_private.h"
#include "lib/util/crypto.h"
#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* 128 MiB of history: what `zstd -19 --long` writes by default, and zstd's own default limit. */
enum { ZSTD_WINDOW_LOG_MAX = FUZZ_OR(20, 27) };

struct inflater {
        enum ingest_compression kind;
        bool begun;    /* some input was seen */
        bool boundary; /* the input so far ends with a whole member or frame */
        bool ready;    /* gzip is initialised */
        z_stream gzip;
        ZSTD_DCtx *zstd;
        uint32_t magic_at; /* how many bytes of the frame's magic number were seen */
        bool skippable;
};

/* --- an allocator that wipes --- */

enum { ALLOC_HEAD = 16 }; /* keeps malloc's alignment */

static void *wiping_alloc(void *opaque, size_t size)
{
        (void)opaque;
        if (size > SIZE_MAX - ALLOC_HEAD)
                return NULL;
        uint8_t *p = malloc(ALLOC_HEAD + size);
        if (p == NULL)
                return NULL;
        memcpy(p, &size, sizeof size);
        return p + ALLOC_HEAD;
}

static void wiping_free(void *opaque, void *address)
{
        size_t size;
        (void)opaque;
        if (address == NULL)
                return;
        uint8_t *p = (uint8_t *)address - ALLOC_HEAD;
        memcpy(&size, p, sizeof size);
        wipe(p, ALLOC_HEAD + size);
        free(p);
}

static void *zlib_alloc(void *opaque, unsigned items, unsigned size)
{
        size_t bytes;
        if (__builtin_mul_overflow((size_t)items, (size_t)size, &bytes))
                return NULL;
        return wiping_alloc(opaque, bytes);
}

/* --- gzip --- */

static int gzip_begin(struct inflater *z, struct errinfo *e)
{
        z->gzip.zalloc = zlib_alloc;
        z->gzip.zfree = wiping_free;
        /* 16: the gzip wrapper and nothing else, its checksum verified. */
        int r = inflateInit2(&z->gzip, 15 + 16);
        if (r == Z_MEM_ERROR)
                return ul_fail(e, UL_NOMEM, "no memory to decompress gzip");
        if (r != Z_OK)
                return ul_fail(e, UL_INTERNAL, "zlib would not start (%d)", r);
        z->ready = true;
        return 0;
}

static int gzip_error(int r, struct errinfo *e)
{
        if (r == Z_MEM_ERROR)
                return ul_fail(e, UL_NOMEM, "no memory to decompress gzip");
        if (r == Z_DATA_ERROR || r == Z_NEED_DICT)
                return ul_fail(e, UL_SYNTAX, "the gzip stream is damaged or followed by garbage");
        return ul_fail(e, UL_INTERNAL, "zlib failed (%d)", r);
}

/* One step within one member. */
static int gzip_step(struct inflater *z, struct errinfo *e)
{
        if (z->boundary && z->begun && z->gzip.avail_in > 0) {
                if (inflateReset(&z->gzip) != Z_OK)
                        return ul_fail(e, UL_INTERNAL, "zlib would not start a member");
                z->boundary = false;
        }
        int r = inflate(&z->gzip, Z_NO_FLUSH);
        if (r == Z_STREAM_END)
                z->boundary = true;
        else if (r != Z_OK && r != Z_BUF_ERROR) /* BUF_ERROR: nothing to do without more input */
                return gzip_error(r, e);
        return 0;
}

static int gzip_run(struct inflater *z, const void *data, size_t len, size_t *used, uint8_t *out,
                    size_t cap, size_t *made, struct errinfo *e)
{
        const unsigned take = len > UINT_MAX ? UINT_MAX : (unsigned)len;
        assert(cap <= UINT_MAX);
        z->gzip.next_in = data;
        z->gzip.avail_in = take;
        z->gzip.next_out = out;
        z->gzip.avail_out = (unsigned)cap;
        int err = 0;
        bool moved = true;
        while (err == 0 && moved && z->gzip.avail_out > 0) {
                const unsigned in_before = z->gzip.avail_in, out_before = z->gzip.avail_out;
                if (z->boundary && in_before == 0)
                        break;
                err = gzip_step(z, e);
                moved = z->gzip.avail_in != in_before || z->gzip.avail_out != out_before;
                z->begun = z->begun || moved;
        }
        *used = take - z->gzip.avail_in;
        *made = cap - z->gzip.avail_out;
        return err;
}

/* --- zstd --- */

static int zstd_begin(struct inflater *z, struct errinfo *e)
{
        const ZSTD_customMem memory = {.customAlloc = wiping_alloc, .customFree = wiping_free};
        z->zstd = ZSTD_createDCtx_advanced(memory);
        if (z->zstd == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to decompress zstd");
        size_t r = ZSTD_DCtx_setParameter(z->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
        if (ZSTD_isError(r))
                return ul_fail(e, UL_INTERNAL, "zstd would not start: %s", ZSTD_getErrorName(r));
        return 0;
}

static int zstd_garbage(struct errinfo *e)
{
        return ul_fail(e, UL_SYNTAX, "the zstd stream is damaged or followed by garbage");
}

static int zstd_error(size_t r, struct errinfo *e)
{
        switch (ZSTD_getErrorCode(r)) {
        case ZSTD_error_memory_allocation:
                return ul_fail(e, UL_NOMEM, "no memory to decompress zstd");
        case ZSTD_error_frameParameter_windowTooLarge:
                return ul_fail(e, UL_SYNTAX,
                               "the zstd window is over %d MiB: compress without "
                               "--ultra --long above 27",
                               1 << (ZSTD_WINDOW_LOG_MAX - 20));
        default:
                return zstd_garbage(e);
        }
}

/* RFC 8878, 3.1: a frame, or one to skip. The library would take its formats of before the RFC too,
 * by decoders that are old and little used. */
static bool zstd_magic(struct inflater *z, const uint8_t *p, size_t len)
{
        static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd}, skip[] = {0x50, 0x2a, 0x4d, 0x18};
        for (size_t i = 0; i < len && z->magic_at < sizeof frame; i++, z->magic_at++) {
                uint8_t got = p[i];
                if (z->magic_at == 0) {
                        z->skippable = (got & 0xf0) == skip[0]; /* all sixteen of them */
                        got &= z->skippable ? 0xf0 : 0xff;
                }
                if (got != (z->skippable ? skip : frame)[z->magic_at])
                        return false;
        }
        return true;
}

static int zstd_run(struct inflater *z, const void *data, size_t len, size_t *used, uint8_t *out,
                    size_t cap, size_t *made, struct errinfo *e)
{
        ZSTD_inBuffer in = {.src = data, .size = len};
        ZSTD_outBuffer to = {.dst = out, .size = cap};
        int err = 0;
        while (to.pos < to.size) {
                const size_t in_before = in.pos, out_before = to.pos;
                if (z->boundary && in.pos == in.size)
                        break;
                if (z->boundary)
                        z->magic_at = 0;
                if (!zstd_magic(z, (const uint8_t *)data + in.pos, in.size - in.pos)) {
                        err = zstd_garbage(e);
                        break;
                }
                size_t r = ZSTD_decompressStream(z->zstd, &to, &in);
                if (ZSTD_isError(r)) {
                        err = zstd_error(r, e);
                        break;
                }
                if (in.pos == in_before && to.pos == out_before)
                        break;
                z->begun = true;
                z->boundary = r == 0;
                /* All flushed. zstd counts calls that can do nothing, and fails at the 16th. */
                if (in.pos == in.size && to.pos < to.size)
                        break;
        }
        *used = in.pos;
        *made = to.pos;
        return err;
}

/* --- both --- */

int inflater_create(enum ingest_compression kind, struct inflater **out, struct errinfo *e)
{
        assert(kind == INGEST_GZIP || kind == INGEST_ZSTD);
        struct inflater *z = calloc(1, sizeof *z);
        *out = NULL;
        if (z == NULL)
                return ul_fail(e, UL_NOMEM, "no memory to decompress");
        z->kind = kind;
        int err = kind == INGEST_GZIP ? gzip_begin(z, e) : zstd_begin(z, e);
        if (err)
                inflater_destroy(&z);
        *out = z;
        return err;
}

int inflater_run(struct inflater *z, const void *data, size_t len, size_t *used, uint8_t *out,
                 size_t cap, size_t *made, struct errinfo *e)
{
        assert(cap > 0);
        if (z->kind == INGEST_GZIP)
                return gzip_run(z, data, len, used, out, cap, made, e);
        return zstd_run(z, data, len, used, out, cap, made, e);
}

bool inflater_complete(const struct inflater *z)
{
        return z->begun && z->boundary;
}

void inflater_destroy(struct inflater **z)
{
        if (*z == NULL)
                return;
        if ((*z)->ready)
                (void)inflateEnd(&(*z)->gzip);
        (void)ZSTD_freeDCtx((*z)->zstd); /* NULL is fine */
        wipe(*z, sizeof **z);
        free(*z);
        *z = NULL;
}
