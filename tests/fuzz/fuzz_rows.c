/* SPDX-License-Identifier: Apache-2.0
 * fuzz_rows.c: a row file: its header, and the rows behind it. The first byte chooses the dtype,
 * the second how many rows were committed; with an odd third byte the checksums are set right
 * first, so that what is behind them is reached. Reading through the mapping (workers) and through
 * the file (the daemon) must agree; a bit that flips in a sealed row is noticed. */
#include "lib/records/rowfile.h"
#include "tests/fuzz/fuzz.h"

enum { FEATURES = 19, SHARD = 2, SLICE = 3 };
static uint8_t header[3][ROWFILE_HEADER_BYTES]; /* of a file that was made, by dtype */

static struct row_shape shape_of(uint32_t dtype)
{
        return (struct row_shape){.dtype = dtype, .features = FEATURES, .targets = dtype};
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        fuzz_file_init();
        for (uint32_t dtype = 0; dtype < 3; dtype++) {
                const struct row_shape s = shape_of(dtype);
                struct rowfile *f = NULL;
                struct buf b = {0};
                fuzz_file_remove();
                assert(rowfile_open(fuzz_file_path, &s, SHARD, SLICE, true, &f, NULL) == 0);
                rowfile_close(&f);
                assert(read_file(fuzz_file_path, sizeof header[0], &b, NULL) == 0);
                assert(b.len == sizeof header[0]);
                memcpy(header[dtype], b.data, b.len);
                buf_free(&b, false);
        }
        return crypto_init();
}

static void set_checksums(uint8_t *file, size_t size, uint32_t bytes)
{
        if (size < ROWFILE_HEADER_BYTES)
                return;
        put_le32(file + 60, crc32c(0, file, 60));
        for (size_t at = ROWFILE_HEADER_BYTES; at + bytes <= size; at += bytes)
                row_seal(file + at, bytes);
}

static void check_row(const struct row_shape *s, const uint8_t *row)
{
        const uint32_t bytes = row_bytes(s);
        uint8_t copy[256];
        float x[FEATURES];
        row_widen(s, row, x);
        memcpy(copy, row, bytes);
        row_seal(copy, bytes);
        if (row_erased(copy))
                return;
        assert(row_intact(copy, bytes));
        const uint32_t bit = crc32c(0, row, bytes) % (8 * bytes);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert(!row_intact(copy, bytes) || row_erased(copy));
}

static void check_file(const struct row_shape *s, uint32_t committed)
{
        struct rowview v = {0};
        struct rowfile *f = NULL;
        struct errinfo e = {0};
        uint8_t row[256];
        const int viewed = rowview_open(fuzz_file_path, s, SHARD, SLICE, committed, &v, &e);
        if (viewed != 0)
                fuzz_check_refusal(viewed, &e);
        const int opened = rowfile_open(fuzz_file_path, s, SHARD, SLICE, false, &f, &e);
        assert(opened == 0 || viewed != 0);
        for (uint32_t i = 0; opened == 0 && i < committed; i++) {
                const int read = rowfile_read(f, i, row, &e);
                if (viewed != 0)
                        continue;
                const uint8_t *mapped = v.rows + (size_t)i * v.row_bytes;
                assert(v.count == committed && (read == 0) == row_intact(mapped, v.row_bytes));
                check_row(s, mapped);
                if (read == 0)
                        assert(memcmp(row, mapped, v.row_bytes) == 0);
        }
        if (viewed == 0)
                rowview_close(&v);
        if (opened == 0) {
                assert((rowfile_trim(f, committed, NULL, &e) == 0) == (viewed == 0));
                rowfile_close(&f);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const struct row_shape s = shape_of(fuzz_choice(&data, &size, 3));
        const uint32_t committed = fuzz_choice(&data, &size, 8);
        const bool sealed = fuzz_choice(&data, &size, 2) == 1;
        uint8_t *file = (uint8_t *)fuzz_text(data, size);
        assert(row_bytes(&s) <= 256);
        if (sealed)
                set_checksums(file, size, row_bytes(&s));
        fuzz_file(file, size);
        struct rowfile *f = NULL;
        struct errinfo e = {0};
        const bool right =
                size >= sizeof header[0] && memcmp(file, header[s.dtype], sizeof header[0]) == 0;
        const int err = rowfile_open(fuzz_file_path, &s, SHARD, SLICE, false, &f, &e);
        assert((err == 0) == right);
        if (err != 0)
                fuzz_check_refusal(err, &e);
        rowfile_close(&f);
        check_file(&s, committed);
        free(file);
        return 0;
}
