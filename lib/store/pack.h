/* SPDX-License-Identifier: Apache-2.0
 * pack.h (private to lib/store): the one way a row becomes bytes and comes back. A value is its
 * fields in the order in which they are packed, little-endian, without padding; texts are a length
 * byte and the bytes. The unpacker never reads past the value: what does not fit marks it bad, and
 * a value that is bad or longer than its row is UL_CORRUPT. It knows nothing of LMDB. */
#ifndef UNLEARND_STORE_PACK_H
#define UNLEARND_STORE_PACK_H

#include "lib/util/bytes.h"
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct packer {
        uint8_t *start, *at, *end;
};

static inline struct packer pack_into(uint8_t *out, size_t size)
{
        return (struct packer){.start = out, .at = out, .end = out + size};
}

static inline size_t packed(const struct packer *p)
{
        return (size_t)(p->at - p->start);
}

static inline uint8_t *pack_room(struct packer *p, size_t len)
{
        uint8_t *at = p->at;
        assert((size_t)(p->end - p->at) >= len);
        p->at += len;
        return at;
}

static inline void pack_u8(struct packer *p, uint8_t v)
{
        *pack_room(p, 1) = v;
}

static inline void pack_u32(struct packer *p, uint32_t v)
{
        put_le32(pack_room(p, 4), v);
}

static inline void pack_u64(struct packer *p, uint64_t v)
{
        put_le64(pack_room(p, 8), v);
}

static inline void pack_i64(struct packer *p, int64_t v)
{
        put_le64(pack_room(p, 8), (uint64_t)v);
}

static inline void pack_bytes(struct packer *p, const void *data, size_t len)
{
        if (len > 0)
                memcpy(pack_room(p, len), data, len);
}

/* text: NUL-terminated within its array of `size` <= 256 bytes. */
static inline void pack_text(struct packer *p, const char *text, size_t size)
{
        size_t len = strnlen(text, size);
        assert(len < size && len <= UINT8_MAX);
        pack_u8(p, (uint8_t)len);
        pack_bytes(p, text, len);
}

/* Keys are big-endian, so that they sort. */
static inline void pack_key32(struct packer *p, uint32_t v)
{
        put_be32(pack_room(p, 4), v);
}

static inline void pack_key64(struct packer *p, uint64_t v)
{
        put_be64(pack_room(p, 8), v);
}

struct unpacker {
        const uint8_t *at;
        size_t left;
        bool bad;
};

static inline struct unpacker unpack_from(const void *data, size_t len)
{
        return (struct unpacker){.at = data, .left = len};
}

static inline const uint8_t *unpack_room(struct unpacker *u, size_t len)
{
        const uint8_t *at = u->at;
        if (u->bad || u->left < len) {
                u->bad = true;
                return NULL;
        }
        u->at += len;
        u->left -= len;
        return at;
}

static inline uint8_t unpack_u8(struct unpacker *u)
{
        const uint8_t *at = unpack_room(u, 1);
        return at != NULL ? *at : 0;
}

static inline uint32_t unpack_u32(struct unpacker *u)
{
        const uint8_t *at = unpack_room(u, 4);
        return at != NULL ? get_le32(at) : 0;
}

static inline uint64_t unpack_u64(struct unpacker *u)
{
        const uint8_t *at = unpack_room(u, 8);
        return at != NULL ? get_le64(at) : 0;
}

static inline int64_t unpack_i64(struct unpacker *u)
{
        return (int64_t)unpack_u64(u);
}

static inline void unpack_bytes(struct unpacker *u, void *out, size_t len)
{
        const uint8_t *at = unpack_room(u, len);
        if (at != NULL)
                memcpy(out, at, len);
        else
                memset(out, 0, len);
}

static inline void unpack_text(struct unpacker *u, char *out, size_t size)
{
        size_t len = unpack_u8(u);
        const uint8_t *at = len < size ? unpack_room(u, len) : NULL;
        memset(out, 0, size);
        if (at != NULL)
                memcpy(out, at, len);
        else
                u->bad = true;
}

static inline uint32_t unpack_key32(struct unpacker *u)
{
        const uint8_t *at = unpack_room(u, 4);
        return at != NULL ? get_be32(at) : 0;
}

static inline uint64_t unpack_key64(struct unpacker *u)
{
        const uint8_t *at = unpack_room(u, 8);
        return at != NULL ? get_be64(at) : 0;
}

/* Everything was there, and nothing more. */
static inline bool unpacked(const struct unpacker *u)
{
        return !u->bad && u->left == 0;
}

#endif
