/* SPDX-License-Identifier: Apache-2.0
 * bytes.h: fixed-width little-endian (values) and big-endian (sortable keys) numbers, and the one
 * growable buffer. All on-disk integers of the project go through here. */
#ifndef UNLEARND_UTIL_BYTES_H
#define UNLEARND_UTIL_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "row files and tensors are little-endian");

void put_le16(uint8_t *p, uint16_t v);
void put_le32(uint8_t *p, uint32_t v);
void put_le64(uint8_t *p, uint64_t v);
uint16_t get_le16(const uint8_t *p);
uint32_t get_le32(const uint8_t *p);
uint64_t get_le64(const uint8_t *p);
void put_be32(uint8_t *p, uint32_t v);
void put_be64(uint8_t *p, uint64_t v);
uint32_t get_be32(const uint8_t *p);
uint64_t get_be64(const uint8_t *p);

/* CRC-32C (Castagnoli, RFC 3720), start with crc = 0. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* A growable byte buffer with a sticky error: writers call it many times and look at `failed` once.
 * Zero-initialise, or buf_init with a maximum. */
struct buf {
        uint8_t *data;
        size_t len;
        size_t cap;
        size_t max;  /* 0: bounded by memory only */
        bool failed; /* an append did not fit or memory ran out; later appends do nothing */
};

void buf_init(struct buf *b, size_t max);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_append_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for `len` more bytes, or NULL; the caller fills them and the length already counts them. */
void *buf_extend(struct buf *b, size_t len);
/* Keeps the memory; wipe = true overwrites it first (personal data). */
void buf_reset(struct buf *b, bool wipe);
void buf_free(struct buf *b, bool wipe);

#endif
