/* SPDX-License-Identifier: Apache-2.0
 * rowfile.h: the rows of one slice of one shard, fixed width, appended, and overwritten in place
 * when they are erased. It knows nothing of LMDB: how many rows are committed is the caller's
 * knowledge, and rows past that count do not exist.
 *
 *   header, 64 bytes, little-endian
 *     0  magic     "ULROWS\r\n"
 *     8  version   u32 = 1
 *    12  dtype     u32 (enum model_dtype)
 *    16  features  u32
 *    20  targets   u32 (label floats of a row; 0: the label is a u32 class)
 *    24  row_bytes u32
 *    28  shard     u32
 *    32  slice     u32 (1-based)
 *    36  zero      24 bytes
 *    60  crc32c    u32 of bytes 0..59
 *   row i at 64 + i * row_bytes
 *     0  pseudonym 16 bytes; all zero: the row was erased, the rest is zero too
 *    16  crc32c    u32 of the row with this field zero
 *    20  label     u32 class, or f32[targets]
 *     .  features  f32[n] | u8[n] | bits, (n + 7) / 8 bytes, least significant bit first
 *     .  padding   zeros to a multiple of 4
 */
#ifndef UNLEARND_RECORDS_ROWFILE_H
#define UNLEARND_RECORDS_ROWFILE_H

#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROWFILE_HEADER_BYTES = 64, ROW_LABEL_OFFSET = 20 };

/* The shape of a row; dtype numbers are those of enum model_dtype (f32 0, u8 1, bit 2). */
struct row_shape {
        uint32_t dtype;
        uint32_t features;
        uint32_t targets; /* 0 for classification */
};
uint32_t row_label_bytes(const struct row_shape *s);
uint32_t row_feature_bytes(const struct row_shape *s);
uint32_t row_feature_offset(const struct row_shape *s);
uint32_t row_bytes(const struct row_shape *s);

/* Sets the checksum of a row that is otherwise filled in. */
void row_seal(uint8_t *row, uint32_t row_bytes);
/* Whether the checksum holds; an erased row (all zero) is intact. */
bool row_intact(const uint8_t *row, uint32_t row_bytes);
bool row_erased(const uint8_t *row);

struct rowfile;

/* Opens for appending and erasing; creates file and header (durably) if absent and `create`.
 * UL_CORRUPT if the header does not agree with shape, shard and slice; UL_NOT_FOUND. */
int rowfile_open(const char *path, const struct row_shape *shape, uint32_t shard, uint32_t slice,
                 bool create, struct rowfile **out, struct errinfo *e);
/* Opens for erasing and trimming alone, whose positions the caller knows: a damaged header must not
 * keep a row from being overwritten. UL_CORRUPT for another slice's file, which is not to be
 * overwritten; UL_NOT_FOUND. */
int rowfile_open_to_erase(const char *path, const struct row_shape *shape, uint32_t shard,
                          uint32_t slice, struct rowfile **out, struct errinfo *e);
void rowfile_close(struct rowfile **f);
/* Writes n sealed rows from position `at` on (the caller's committed count). Not yet durable. */
int rowfile_append(struct rowfile *f, uint32_t at, const uint8_t *rows, uint32_t n,
                   struct errinfo *e);
/* Starts write-back without waiting, so that many files share one journal commit. */
void rowfile_start_sync(struct rowfile *f);
int rowfile_sync(struct rowfile *f, struct errinfo *e);
/* Overwrites row `at` with zeros in place. Not yet durable. UL_NOT_FOUND where the file ends before
 * the row does: what there is of it is overwritten. */
int rowfile_erase(struct rowfile *f, uint32_t at, struct errinfo *e);
/* Reads one row; UL_CORRUPT where its checksum does not hold. */
int rowfile_read(struct rowfile *f, uint32_t at, uint8_t *row, struct errinfo *e);
/* Overwrites and cuts off everything past `committed` rows, in steps where there is a budget
 * (util/file.h: NULL, UL_AGAIN); UL_CORRUPT if there are fewer. Durable on return. */
int rowfile_trim(struct rowfile *f, uint32_t committed, uint64_t *budget, struct errinfo *e);
/* The same for a file of which nothing is committed and the header may be damaged: a new one stands
 * in it then. After a crash in between it is done again. */
int rowfile_renew(struct rowfile *f, const struct row_shape *shape, uint32_t shard, uint32_t slice,
                  uint64_t *budget, struct errinfo *e);

/* Read-only view for workers: the file mapped, header checked, `committed` rows readable.
 * rows: [committed, row_bytes], borrowed until rowview_close. */
struct rowview {
        const uint8_t *rows;
        uint32_t count;
        uint32_t row_bytes;
        struct row_shape shape;
        void *map;
        size_t map_bytes;
};
int rowview_open(const char *path, const struct row_shape *shape, uint32_t shard, uint32_t slice,
                 uint32_t committed, struct rowview *out, struct errinfo *e);
void rowview_close(struct rowview *v);

/* Widens the features of one row to f32[features]. */
void row_widen(const struct row_shape *s, const uint8_t *row, float *out);

#endif
