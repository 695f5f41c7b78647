/* SPDX-License-Identifier: Apache-2.0
 * bytes.c: numbers of fixed width, CRC-32C and the growable buffer. It knows nothing of what the
 * bytes mean. A buffer that grows overwrites the block that it leaves, because many hold personal
 * data and realloc() would leave a copy of it in the heap. */
#include "lib/util/bytes.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

/* The host is little-endian: see the assertion in the header. */
void put_le16(uint8_t *p, uint16_t v)
{
        memcpy(p, &v, sizeof v);
}

void put_le32(uint8_t *p, uint32_t v)
{
        memcpy(p, &v, sizeof v);
}

void put_le64(uint8_t *p, uint64_t v)
{
        memcpy(p, &v, sizeof v);
}

uint16_t get_le16(const uint8_t *p)
{
        uint16_t v;
        memcpy(&v, p, sizeof v);
        return v;
}

uint32_t get_le32(const uint8_t *p)
{
        uint32_t v;
        memcpy(&v, p, sizeof v);
        return v;
}

uint64_t get_le64(const uint8_t *p)
{
        uint64_t v;
        memcpy(&v, p, sizeof v);
        return v;
}

void put_be32(uint8_t *p, uint32_t v)
{
        put_le32(p, __builtin_bswap32(v));
}

void put_be64(uint8_t *p, uint64_t v)
{
        put_le64(p, __builtin_bswap64(v));
}

uint32_t get_be32(const uint8_t *p)
{
        return __builtin_bswap32(get_le32(p));
}

uint64_t get_be64(const uint8_t *p)
{
        return __builtin_bswap64(get_le64(p));
}

static uint32_t crc_table[256];
static pthread_once_t crc_table_once = PTHREAD_ONCE_INIT;

static void crc_table_fill(void)
{
        for (uint32_t i = 0; i < 256; i++) {
                uint32_t r = i;
                for (int bit = 0; bit < 8; bit++)
                        r = (r >> 1) ^ ((r & 1) ? 0x82F63B78U : 0); /* RFC 3720, reflected */
                crc_table[i] = r;
        }
}

static uint32_t crc_by_table(uint32_t r, const uint8_t *p, size_t len)
{
        pthread_once(&crc_table_once, crc_table_fill);
        for (size_t i = 0; i < len; i++)
                r = (r >> 8) ^ crc_table[(r ^ p[i]) & 0xFF];
        return r;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_sse42(uint32_t r, const uint8_t *p,
                                                               size_t len)
{
        uint64_t wide = r;
        for (; len >= 8; p += 8, len -= 8)
                wide = _mm_crc32_u64(wide, get_le64(p));
        r = (uint32_t)wide;
        for (; len > 0; p++, len--)
                r = _mm_crc32_u8(r, *p);
        return r;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#if defined(__x86_64__)
        if (__builtin_cpu_supports("sse4.2"))
                return ~crc_by_sse42(~crc, data, len);
#endif
        return ~crc_by_table(~crc, data, len);
}

void buf_init(struct buf *b, size_t max)
{
        *b = (struct buf){.max = max};
}

/* Makes cap >= len + more + spare; only len + more counts against the maximum. */
static bool reserve(struct buf *b, size_t more, size_t spare)
{
        if (b->failed)
                return false;
        size_t limit = b->max != 0 ? b->max : SIZE_MAX / 4;
        if (b->len > limit || more > limit - b->len)
                goto fail;
        size_t need = b->len + more + spare;
        if (need <= b->cap)
                return true;
        size_t cap = b->cap < 128 ? 128 : b->cap * 2;
        if (cap < need)
                cap = need;
        uint8_t *data = malloc(cap);
        if (data == NULL)
                goto fail;
        if (b->data != NULL) {
                memcpy(data, b->data, b->len);
                explicit_bzero(b->data, b->cap);
                free(b->data);
        }
        b->data = data;
        b->cap = cap;
        return true;
fail:
        b->failed = true;
        return false;
}

void *buf_extend(struct buf *b, size_t len)
{
        if (!reserve(b, len, 1)) /* never NULL for success, even where len is 0 */
                return NULL;
        void *room = b->data + b->len;
        b->len += len;
        return room;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
        if (len == 0)
                return;
        void *room = buf_extend(b, len);
        if (room != NULL)
                memcpy(room, data, len);
}

void buf_append_str(struct buf *b, const char *s)
{
        buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *format, ...)
{
        if (!reserve(b, 0, 1))
                return;
        va_list args, again;
        va_start(args, format);
        va_copy(again, args);
        size_t room = b->cap - b->len;
        int n = vsnprintf((char *)b->data + b->len, room, format, args);
        if (n < 0) {
                b->failed = true;
        } else if (reserve(b, (size_t)n, 1)) {
                if ((size_t)n >= room)
                        vsnprintf((char *)b->data + b->len, (size_t)n + 1, format, again);
                b->len += (size_t)n;
        }
        va_end(again);
        va_end(args);
}

void buf_reset(struct buf *b, bool wipe)
{
        /* All of it: what an earlier reset left behind the present length counts too. */
        if (wipe && b->data != NULL)
                explicit_bzero(b->data, b->cap);
        b->len = 0;
        b->failed = false;
}

void buf_free(struct buf *b, bool wipe)
{
        buf_reset(b, wipe);
        free(b->data);
        b->data = NULL;
        b->cap = 0;
}
