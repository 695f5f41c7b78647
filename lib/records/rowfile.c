/* SPDX-License-Identifier: Apache-2.0
 * rowfile.c: fixed-width rows on disk. The header is written once, through a temporary file and a
 * rename, so a row file with half a header cannot exist. Rows carry their own checksums, so that an
 * erasure is one overwrite and no file-wide sum has to be kept. It must not know which rows are
 * committed or live: LMDB says so, and callers bring the count. */
#include "lib/records/rowfile.h"

#include "lib/util/bytes.h"
#include "lib/util/crash_point.h"
#include "lib/util/file.h"
#include "lib/util/limits.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { CRC_OFFSET = PSEUDONYM_BYTES, CRC_BYTES = 4, ROWFILE_VERSION = 1, HEADER_CRC_OFFSET = 60 };
enum { ROW_F32 = 0, ROW_U8 = 1, ROW_BIT = 2 };

static const uint8_t rowfile_magic[8] = {'U', 'L', 'R', 'O', 'W', 'S', '\r', '\n'};

struct rowfile {
        int fd;
        uint32_t row_bytes;
};

/* --- one row --- */

uint32_t row_label_bytes(const struct row_shape *s)
{
        assert(s->targets <= TARGETS_MAX);
        return s->targets == 0 ? 4 : 4 * s->targets;
}

uint32_t row_feature_bytes(const struct row_shape *s)
{
        assert(s->features > 0 && s->features <= FEATURES_MAX);
        switch (s->dtype) {
        case ROW_F32:
                return 4 * s->features;
        case ROW_U8:
                return s->features;
        default:
                assert(s->dtype == ROW_BIT);
                return (s->features + 7) / 8;
        }
}

uint32_t row_feature_offset(const struct row_shape *s)
{
        return ROW_LABEL_OFFSET + row_label_bytes(s);
}

uint32_t row_bytes(const struct row_shape *s)
{
        return (row_feature_offset(s) + row_feature_bytes(s) + 3) & ~3u;
}

static uint32_t row_crc(const uint8_t *row, uint32_t bytes)
{
        static const uint8_t zero[CRC_BYTES];
        uint32_t crc = crc32c(0, row, CRC_OFFSET);
        crc = crc32c(crc, zero, CRC_BYTES);
        return crc32c(crc, row + CRC_OFFSET + CRC_BYTES, bytes - CRC_OFFSET - CRC_BYTES);
}

void row_seal(uint8_t *row, uint32_t bytes)
{
        assert(bytes > ROW_LABEL_OFFSET);
        put_le32(row + CRC_OFFSET, row_crc(row, bytes));
}

static bool all_zero(const uint8_t *p, size_t len)
{
        uint8_t seen = 0;
        for (size_t i = 0; i < len; i++)
                seen |= p[i];
        return seen == 0;
}

bool row_erased(const uint8_t *row)
{
        return all_zero(row, PSEUDONYM_BYTES);
}

bool row_intact(const uint8_t *row, uint32_t bytes)
{
        /* An erasure leaves nothing: anything behind a zero pseudonym is damage, or a leak. */
        if (row_erased(row))
                return all_zero(row, bytes);
        return get_le32(row + CRC_OFFSET) == row_crc(row, bytes);
}

/* At -O2 gcc leaves the plain loops scalar, so the blocks are spelled out; the last elements go one
 * by one, and tests hold both to the same plain loop. */
typedef int32_t i32x4 __attribute__((vector_size(16)));

static void widen_u8(const uint8_t *restrict in, uint32_t n, float *restrict out)
{
        uint32_t i = 0;
#ifdef __SSE2__
        const __m128i zero = _mm_setzero_si128();
        for (; i + 16 <= n; i += 16) {
                const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(in + i));
                const __m128i low = _mm_unpacklo_epi8(bytes, zero); /* as u16 */
                const __m128i high = _mm_unpackhi_epi8(bytes, zero);
                _mm_storeu_ps(out + i, _mm_cvtepi32_ps(_mm_unpacklo_epi16(low, zero)));
                _mm_storeu_ps(out + i + 4, _mm_cvtepi32_ps(_mm_unpackhi_epi16(low, zero)));
                _mm_storeu_ps(out + i + 8, _mm_cvtepi32_ps(_mm_unpacklo_epi16(high, zero)));
                _mm_storeu_ps(out + i + 12, _mm_cvtepi32_ps(_mm_unpackhi_epi16(high, zero)));
        }
#endif
        for (; i < n; i++)
                out[i] = (float)in[i];
}

static void widen_bits(const uint8_t *restrict in, uint32_t n, float *restrict out)
{
        static const i32x4 low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
        static const i32x4 one = {0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000}; /* 1.0f */
        uint32_t i = 0;
        for (; i + 8 <= n; i += 8) {
                const int32_t byte = in[i / 8];
                const i32x4 all = {byte, byte, byte, byte};
                const i32x4 a = ((all & low) != 0) & one; /* true is all ones */
                const i32x4 b = ((all & high) != 0) & one;
                memcpy(out + i, &a, sizeof a);
                memcpy(out + i + 4, &b, sizeof b);
        }
        for (; i < n; i++)
                out[i] = (float)(((uint32_t)in[i / 8] >> (i % 8)) & 1u);
}

void row_widen(const struct row_shape *s, const uint8_t *row, float *out)
{
        const uint8_t *features = row + row_feature_offset(s);
        if (s->dtype == ROW_F32)
                memcpy(out, features, 4 * (size_t)s->features);
        else if (s->dtype == ROW_U8)
                widen_u8(features, s->features, out);
        else
                widen_bits(features, s->features, out);
}

/* --- the header --- */

static void header_make(const struct row_shape *s, uint32_t shard, uint32_t slice,
                        uint8_t out[ROWFILE_HEADER_BYTES])
{
        assert(slice > 0);
        memset(out, 0, ROWFILE_HEADER_BYTES);
        memcpy(out, rowfile_magic, sizeof rowfile_magic);
        put_le32(out + 8, ROWFILE_VERSION);
        put_le32(out + 12, s->dtype);
        put_le32(out + 16, s->features);
        put_le32(out + 20, s->targets);
        put_le32(out + 24, row_bytes(s));
        put_le32(out + 28, shard);
        put_le32(out + 32, slice);
        put_le32(out + HEADER_CRC_OFFSET, crc32c(0, out, HEADER_CRC_OFFSET));
}

static int header_check(int fd, const struct row_shape *s, uint32_t shard, uint32_t slice,
                        uint64_t file_bytes, struct errinfo *e)
{
        uint8_t want[ROWFILE_HEADER_BYTES], have[ROWFILE_HEADER_BYTES];
        if (file_bytes < ROWFILE_HEADER_BYTES)
                return ul_fail(e, UL_CORRUPT, "a row file is shorter than its header");
        int err = read_at(fd, have, sizeof have, 0, e);
        if (err)
                return err;
        header_make(s, shard, slice, want);
        if (memcmp(have, want, sizeof want) == 0)
                return 0;
        if (memcmp(have, rowfile_magic, sizeof rowfile_magic) != 0)
                return ul_fail(e, UL_CORRUPT, "a file is not a row file");
        if (get_le32(have + HEADER_CRC_OFFSET) != crc32c(0, have, HEADER_CRC_OFFSET))
                return ul_fail(e, UL_CORRUPT, "the header of a row file is damaged");
        return ul_fail(e, UL_CORRUPT,
                       "a row file belongs to another shape, shard, slice or version "
                       "(shard %u, slice %u were asked for)",
                       shard, slice);
}

/* Whole, and not the one that was asked for. */
static int header_foreign(int fd, const struct row_shape *s, uint32_t shard, uint32_t slice,
                          bool *foreign, struct errinfo *e)
{
        uint8_t want[ROWFILE_HEADER_BYTES], have[ROWFILE_HEADER_BYTES];
        int err = read_at(fd, have, sizeof have, 0, e);
        header_make(s, shard, slice, want);
        *foreign = err == 0 && memcmp(have, rowfile_magic, sizeof rowfile_magic) == 0 &&
                   get_le32(have + HEADER_CRC_OFFSET) == crc32c(0, have, HEADER_CRC_OFFSET) &&
                   memcmp(have, want, sizeof want) != 0;
        return err;
}

/* --- the file --- */

static int open_row_file(const char *path, int flags, int *fd, struct errinfo *e)
{
        do
                *fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
        while (*fd < 0 && errno == EINTR);
        if (*fd >= 0)
                return 0;
        if (errno == ENOENT)
                return ul_fail(e, UL_NOT_FOUND, "a row file is absent");
        return ul_fail_errno(e, "open a row file");
}

static int file_bytes(int fd, uint64_t *out, struct errinfo *e)
{
        struct stat st;
        if (fstat(fd, &st) != 0)
                return ul_fail_errno(e, "stat a row file");
        if (!S_ISREG(st.st_mode))
                return ul_fail(e, UL_CORRUPT, "a row file is not a regular file");
        *out = (uint64_t)st.st_size;
        return 0;
}

static uint64_t row_offset(uint32_t bytes, uint64_t at)
{
        return ROWFILE_HEADER_BYTES + at * bytes;
}

/* Absent: made with its header, durably. write_file_durably's rename makes it all or nothing. */
static int create_if_absent(const char *path, const struct row_shape *shape, uint32_t shard,
                            uint32_t slice, struct errinfo *e)
{
        if (file_exists(path))
                return 0;
        uint8_t header[ROWFILE_HEADER_BYTES];
        header_make(shape, shard, slice, header);
        return write_file_durably(path, header, sizeof header, e);
}

int rowfile_open(const char *path, const struct row_shape *shape, uint32_t shard, uint32_t slice,
                 bool create, struct rowfile **out, struct errinfo *e)
{
        uint64_t bytes = 0;
        *out = NULL;
        struct rowfile *f = malloc(sizeof *f);
        if (f == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a row file");
        *f = (struct rowfile){.fd = -1, .row_bytes = row_bytes(shape)};
        int err = create ? create_if_absent(path, shape, shard, slice, e) : 0;
        if (err == 0)
                err = open_row_file(path, O_RDWR, &f->fd, e);
        if (err == 0)
                err = file_bytes(f->fd, &bytes, e);
        if (err == 0)
                err = header_check(f->fd, shape, shard, slice, bytes, e);
        if (err)
                rowfile_close(&f);
        *out = f;
        return err;
}

int rowfile_open_to_erase(const char *path, const struct row_shape *shape, uint32_t shard,
                          uint32_t slice, struct rowfile **out, struct errinfo *e)
{
        uint64_t bytes = 0;
        bool foreign = false;
        *out = NULL;
        struct rowfile *f = malloc(sizeof *f);
        if (f == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a row file");
        *f = (struct rowfile){.fd = -1, .row_bytes = row_bytes(shape)};
        int err = open_row_file(path, O_RDWR, &f->fd, e);
        if (err == 0)
                err = file_bytes(f->fd, &bytes, e);
        if (err == 0 && bytes >= ROWFILE_HEADER_BYTES)
                err = header_foreign(f->fd, shape, shard, slice, &foreign, e);
        if (err == 0 && foreign)
                err = ul_fail(e, UL_CORRUPT, "a row file was exchanged with another slice's");
        if (err)
                rowfile_close(&f);
        *out = f;
        return err;
}

void rowfile_close(struct rowfile **f)
{
        if (*f == NULL)
                return;
        if ((*f)->fd >= 0)
                (void)close((*f)->fd); /* what had to be durable was synced */
        free(*f);
        *f = NULL;
}

int rowfile_append(struct rowfile *f, uint32_t at, const uint8_t *rows, uint32_t n,
                   struct errinfo *e)
{
        uint64_t bytes = 0;
        if (n == 0)
                return 0;
        if (n > UINT32_MAX - at)
                return ul_fail(e, UL_TOO_LARGE, "a slice holds at most 2^32 - 1 rows");
        int err = file_bytes(f->fd, &bytes, e);
        if (err)
                return err;
        /* A gap would read as erased rows that nobody erased. */
        if (bytes < row_offset(f->row_bytes, at))
                return ul_fail(e, UL_CORRUPT, "a row file holds fewer rows than were committed");
        return write_at(f->fd, rows, (size_t)n * f->row_bytes, row_offset(f->row_bytes, at), e);
}

void rowfile_start_sync(struct rowfile *f)
{
        /* Only a hint: rowfile_sync after it reports what goes wrong. */
        (void)sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int rowfile_sync(struct rowfile *f, struct errinfo *e)
{
        return sync_data(f->fd, e);
}

static int row_present(const struct rowfile *f, uint32_t at, struct errinfo *e)
{
        uint64_t bytes = 0;
        int err = file_bytes(f->fd, &bytes, e);
        if (err)
                return err;
        if (bytes < row_offset(f->row_bytes, (uint64_t)at + 1))
                return ul_fail(e, UL_CORRUPT, "row %u is past the end of its file", at);
        return 0;
}

int rowfile_erase(struct rowfile *f, uint32_t at, struct errinfo *e)
{
        uint64_t bytes = 0;
        const uint64_t begin = row_offset(f->row_bytes, at);
        int err = file_bytes(f->fd, &bytes, e);
        if (err)
                return err;
        if (bytes >= begin + f->row_bytes)
                return scrub_range(f->fd, begin, f->row_bytes, e);
        err = bytes > begin ? scrub_range(f->fd, begin, bytes - begin, e) : 0;
        return err ? err : ul_fail(e, UL_NOT_FOUND, "row %u is past the end of its file", at);
}

int rowfile_read(struct rowfile *f, uint32_t at, uint8_t *row, struct errinfo *e)
{
        int err = row_present(f, at, e);
        if (err == 0)
                err = read_at(f->fd, row, f->row_bytes, row_offset(f->row_bytes, at), e);
        if (err)
                return err;
        if (!row_intact(row, f->row_bytes))
                return ul_fail(e, UL_CORRUPT, "the checksum of row %u does not hold", at);
        return 0;
}

int rowfile_trim(struct rowfile *f, uint32_t committed, uint64_t *budget, struct errinfo *e)
{
        uint64_t bytes = 0;
        const uint64_t keep = row_offset(f->row_bytes, committed);
        int err = file_bytes(f->fd, &bytes, e);
        if (err)
                return err;
        if (bytes < keep)
                return ul_fail(e, UL_CORRUPT, "a row file holds fewer rows than were committed");
        if (bytes == keep)
                return 0;
        err = scrub_tail(f->fd, keep, budget, e);
        if (err)
                return err;
        CRASH_POINT("trim.truncated");
        return sync_data(f->fd, e);
}

int rowfile_renew(struct rowfile *f, const struct row_shape *shape, uint32_t shard, uint32_t slice,
                  uint64_t *budget, struct errinfo *e)
{
        uint8_t header[ROWFILE_HEADER_BYTES];
        int err = scrub_tail(f->fd, 0, budget, e);
        if (err)
                return err;
        header_make(shape, shard, slice, header);
        err = write_at(f->fd, header, sizeof header, 0, e);
        if (err == 0)
                err = sync_data(f->fd, e);
        return err;
}

/* --- the workers' view --- */

int rowview_open(const char *path, const struct row_shape *shape, uint32_t shard, uint32_t slice,
                 uint32_t committed, struct rowview *out, struct errinfo *e)
{
        uint64_t bytes = 0;
        int fd = -1;
        const uint32_t width = row_bytes(shape);
        const uint64_t need = row_offset(width, committed);
        *out = (struct rowview){.count = committed, .row_bytes = width, .shape = *shape};
        int err = open_row_file(path, O_RDONLY, &fd, e);
        if (err)
                return err;
        err = file_bytes(fd, &bytes, e);
        if (err == 0)
                err = header_check(fd, shape, shard, slice, bytes, e);
        if (err)
                goto out;
        if (bytes < need) {
                err = ul_fail(e, UL_CORRUPT, "a row file holds fewer rows than were committed");
                goto out;
        }
        void *map = mmap(NULL, (size_t)need, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
                err = ul_fail_errno(e, "map a row file");
                goto out;
        }
        out->map = map;
        out->map_bytes = (size_t)need;
        out->rows = (const uint8_t *)map + ROWFILE_HEADER_BYTES;
out:
        (void)close(fd);
        return err;
}

void rowview_close(struct rowview *v)
{
        if (v->map != NULL)
                (void)munmap(v->map, v->map_bytes);
        *v = (struct rowview){0};
}
