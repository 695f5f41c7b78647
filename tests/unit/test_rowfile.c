/* SPDX-License-Identifier: Apache-2.0
 * Row files: the layout byte for byte, what an erasure and a trim leave behind, and that a damaged
 * or foreign file is refused. Invariants 4 and 5 of DESIGN.md rest on these. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/records/rowfile.h"
#include "lib/util/bytes.h"
#include "lib/util/file.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct row_shape u8_shape = {.dtype = 1, .features = 3, .targets = 0};
static const struct row_shape bit_shape = {.dtype = 2, .features = 10, .targets = 2};

/* clang-format off */
/* A file of shard 5, slice 2 with two rows of u8_shape. */
static const uint8_t golden_u8[] = {
        0x55, 0x4c, 0x52, 0x4f, 0x57, 0x53, 0x0d, 0x0a, /* magic */
        0x01, 0x00, 0x00, 0x00,                         /* version 1 */
        0x01, 0x00, 0x00, 0x00,                         /* dtype u8 */
        0x03, 0x00, 0x00, 0x00,                         /* features */
        0x00, 0x00, 0x00, 0x00,                         /* targets */
        0x1c, 0x00, 0x00, 0x00,                         /* row bytes */
        0x05, 0x00, 0x00, 0x00,                         /* shard */
        0x02, 0x00, 0x00, 0x00,                         /* slice */
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xb1, 0xee, 0x9e, 0x71,                         /* crc32c */
        /* row 0 */
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c,
        0x0d, 0x0e, 0x0f, 0x10, 0x54, 0xfb, 0xd0, 0x77, 0x07, 0x00, 0x00, 0x00,
        0x00, 0x80, 0xff, 0x00,
        /* row 1 */
        0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb,
        0xfc, 0xfd, 0xfe, 0xff, 0x19, 0xc4, 0xa6, 0x7f, 0x01, 0x00, 0x00, 0x00,
        0x09, 0x08, 0x07, 0x00,
};
/* A file of shard 0, slice 1 with one row of bit_shape: targets 1.5 and -2, bits 0, 2 and 9. */
static const uint8_t golden_bit[] = {
        0x55, 0x4c, 0x52, 0x4f, 0x57, 0x53, 0x0d, 0x0a, 0x01, 0x00, 0x00, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x0a, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
        0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x10, 0x57, 0x30, 0xac,
        /* row 0 */
        0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
        0xaa, 0xaa, 0xaa, 0xaa, 0x09, 0xb6, 0x6a, 0x18, 0x00, 0x00, 0xc0, 0x3f,
        0x00, 0x00, 0x00, 0xc0, 0x05, 0x02, 0x00, 0x00,
};
/* clang-format on */

struct fixture {
        char dir[PATH_SIZE];
        char path[PATH_SIZE];
        struct errinfo e;
};

static int setup(void **state)
{
        const char *tmp = getenv("TMPDIR");
        struct fixture *x = calloc(1, sizeof *x);
        assert_non_null(x);
        assert_int_equal(crypto_init(), 0);
        assert_int_equal(path_format(x->dir, NULL, "%s/rowfile-XXXXXX", tmp ? tmp : "/tmp"), 0);
        assert_non_null(mkdtemp(x->dir));
        assert_int_equal(path_format(x->path, NULL, "%s/slice-002.rows", x->dir), 0);
        *state = x;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *x = *state;
        assert_int_equal(scrub_tree(x->dir, NULL), 0);
        free(x);
        return 0;
}

static void put_file(const char *path, const void *data, size_t len)
{
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, len, f), len);
        assert_int_equal(fclose(f), 0);
}

static struct buf get_file(const char *path)
{
        struct buf b = {0};
        assert_int_equal(read_file(path, 1 << 20, &b, NULL), 0);
        return b;
}

static void assert_file(const char *path, const uint8_t *want, size_t len)
{
        struct buf b = get_file(path);
        assert_int_equal(b.len, len);
        assert_memory_equal(b.data, want, len);
        buf_free(&b, false);
}

static struct rowfile *open_u8(struct fixture *x, bool create)
{
        struct rowfile *f = NULL;
        assert_int_equal(rowfile_open(x->path, &u8_shape, 5, 2, create, &f, &x->e), 0);
        assert_non_null(f);
        return f;
}

/* Row i of u8_shape as a client's code would make it. */
static void make_row(uint8_t row[28], uint8_t first, uint8_t step, uint32_t label, const uint8_t *v)
{
        memset(row, 0, 28);
        for (int i = 0; i < 16; i++)
                row[i] = (uint8_t)(first + i * step);
        put_le32(row + ROW_LABEL_OFFSET, label);
        memcpy(row + 24, v, 3);
        row_seal(row, 28);
}

static void the_layout_is_the_one_that_the_header_draws(void **state)
{
        struct fixture *x = *state;
        uint8_t rows[56];
        make_row(rows, 1, 1, 7, (const uint8_t[]){0, 128, 255});
        make_row(rows + 28, 0xf0, 1, 1, (const uint8_t[]){9, 8, 7});
        struct rowfile *f = open_u8(x, true);
        assert_int_equal(rowfile_append(f, 0, rows, 2, &x->e), 0);
        rowfile_start_sync(f);
        assert_int_equal(rowfile_sync(f, &x->e), 0);
        rowfile_close(&f);
        assert_null(f);
        assert_file(x->path, golden_u8, sizeof golden_u8);
}

static void bits_and_targets_stand_where_the_header_draws_them(void **state)
{
        struct fixture *x = *state;
        struct rowview v;
        float wide[10];
        put_file(x->path, golden_bit, sizeof golden_bit);
        assert_int_equal(row_bytes(&bit_shape), 32);
        assert_int_equal(row_feature_offset(&bit_shape), 28);
        assert_int_equal(rowview_open(x->path, &bit_shape, 0, 1, 1, &v, &x->e), 0);
        assert_true(row_intact(v.rows, v.row_bytes));
        row_widen(&bit_shape, v.rows, wide);
        for (int i = 0; i < 10; i++)
                assert_true(wide[i] == (i == 0 || i == 2 || i == 9 ? 1.0f : 0.0f));
        rowview_close(&v);
        assert_null(v.rows);
}

static void widths_are_padded_to_four_and_bits_to_bytes(void **state)
{
        (void)state;
        static const struct {
                struct row_shape s;
                uint32_t bytes;
        } t[] = {
                {{0, 1, 0}, 28},
                {{0, 784, 0}, 24 + 3136},
                {{1, 4, 0}, 28},
                {{1, 5, 0}, 32},
                {{2, 600, 0}, 24 + 76},
                {{2, 1, 0}, 28},
                {{2, 32, 0}, 28},
                {{2, 33, 0}, 32},
                {{0, 2, 3}, 20 + 12 + 8},
                {{1, 1, 64}, 280},
                {{0, 65536, 0}, 24 + 262144},
        };
        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
                assert_int_equal(row_bytes(&t[i].s), t[i].bytes);
}

static void files_are_private_and_creation_leaves_no_other_file(void **state)
{
        struct fixture *x = *state;
        struct stat st;
        char tmp[PATH_SIZE + 8];
        struct rowfile *f = open_u8(x, true);
        rowfile_close(&f);
        assert_int_equal(stat(x->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(st.st_size, ROWFILE_HEADER_BYTES);
        (void)snprintf(tmp, sizeof tmp, "%s.tmp", x->path);
        assert_false(file_exists(tmp));
}

static void an_absent_file_is_not_found_unless_it_is_to_be_created(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = NULL;
        struct rowview v;
        assert_int_equal(rowfile_open(x->path, &u8_shape, 5, 2, false, &f, &x->e), UL_NOT_FOUND);
        assert_null(f);
        assert_int_equal(rowview_open(x->path, &u8_shape, 5, 2, 0, &v, &x->e), UL_NOT_FOUND);
        assert_null(v.map);
        assert_false(file_exists(x->path));
}

static void opening_an_existing_file_keeps_its_rows(void **state)
{
        struct fixture *x = *state;
        uint8_t row[28];
        put_file(x->path, golden_u8, sizeof golden_u8);
        struct rowfile *f = open_u8(x, true);
        assert_int_equal(rowfile_read(f, 1, row, &x->e), 0);
        assert_memory_equal(row, golden_u8 + 64 + 28, 28);
        rowfile_close(&f);
        assert_file(x->path, golden_u8, sizeof golden_u8);
}

static void every_flipped_bit_of_the_header_is_refused(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = NULL;
        struct rowview v;
        uint8_t bytes[sizeof golden_u8];
        for (size_t bit = 0; bit < 8 * ROWFILE_HEADER_BYTES; bit++) {
                memcpy(bytes, golden_u8, sizeof bytes);
                bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ (1u << (bit % 8)));
                put_file(x->path, bytes, sizeof bytes);
                assert_int_equal(rowfile_open(x->path, &u8_shape, 5, 2, true, &f, &x->e),
                                 UL_CORRUPT);
                assert_int_equal(rowview_open(x->path, &u8_shape, 5, 2, 2, &v, &x->e), UL_CORRUPT);
                assert_null(f);
        }
        for (size_t len = 0; len < ROWFILE_HEADER_BYTES; len++) {
                put_file(x->path, golden_u8, len);
                assert_int_equal(rowfile_open(x->path, &u8_shape, 5, 2, true, &f, &x->e),
                                 UL_CORRUPT);
        }
}

static void a_file_of_another_shape_shard_or_slice_is_refused(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = NULL;
        put_file(x->path, golden_u8, sizeof golden_u8);
        const struct row_shape wider = {1, 4, 0}, other = {2, 3, 0}, regression = {1, 3, 1};
        assert_int_equal(rowfile_open(x->path, &wider, 5, 2, true, &f, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_open(x->path, &other, 5, 2, true, &f, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_open(x->path, &regression, 5, 2, true, &f, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_open(x->path, &u8_shape, 4, 2, true, &f, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_open(x->path, &u8_shape, 5, 3, true, &f, &x->e), UL_CORRUPT);
}

static void symbolic_links_and_directories_are_not_followed(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = NULL;
        char link[PATH_SIZE + 8];
        put_file(x->path, golden_u8, sizeof golden_u8);
        (void)snprintf(link, sizeof link, "%s.link", x->path);
        assert_int_equal(symlink(x->path, link), 0);
        assert_int_not_equal(rowfile_open(link, &u8_shape, 5, 2, false, &f, &x->e), 0);
        assert_int_not_equal(rowfile_open(x->dir, &u8_shape, 5, 2, false, &f, &x->e), 0);
        assert_null(f);
}

static void erasing_zeroes_one_row_and_nothing_else(void **state)
{
        struct fixture *x = *state;
        uint8_t want[sizeof golden_u8], row[28];
        put_file(x->path, golden_u8, sizeof golden_u8);
        memcpy(want, golden_u8, sizeof want);
        memset(want + 64, 0, 28);
        struct rowfile *f = open_u8(x, false);
        assert_int_equal(rowfile_erase(f, 0, &x->e), 0);
        assert_int_equal(rowfile_erase(f, 0, &x->e), 0); /* again, as after a crash */
        assert_int_equal(rowfile_read(f, 0, row, &x->e), 0);
        assert_true(row_erased(row));
        assert_true(row_intact(row, 28));
        rowfile_close(&f);
        assert_file(x->path, want, sizeof want);
}

static void erasing_leaves_no_byte_of_a_row_whatever_stood_there(void **state)
{
        struct fixture *x = *state;
        uint8_t full[sizeof golden_u8], want[sizeof golden_u8];
        memcpy(full, golden_u8, sizeof full);
        memcpy(want, golden_u8, sizeof want);
        memset(full + 64, 0xab, 28); /* damaged, and without a zero */
        memset(want + 64, 0, 28);
        put_file(x->path, full, sizeof full);
        struct rowfile *f = open_u8(x, false);
        assert_int_equal(rowfile_erase(f, 0, &x->e), 0);
        rowfile_close(&f);
        assert_file(x->path, want, sizeof want);
}

static void rows_past_the_end_can_neither_be_read_nor_erased(void **state)
{
        struct fixture *x = *state;
        uint8_t row[28];
        put_file(x->path, golden_u8, sizeof golden_u8 - 1); /* the second row is torn */
        struct rowfile *f = open_u8(x, false);
        assert_int_equal(rowfile_read(f, 1, row, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_erase(f, 2, &x->e), UL_NOT_FOUND);
        assert_int_equal(rowfile_read(f, UINT32_MAX, row, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_erase(f, UINT32_MAX, &x->e), UL_NOT_FOUND);
        rowfile_close(&f);
        assert_file(x->path, golden_u8, sizeof golden_u8 - 1);
}

static void what_is_there_of_a_torn_row_is_erased(void **state)
{
        struct fixture *x = *state;
        uint8_t want[sizeof golden_u8 - 5];
        put_file(x->path, golden_u8, sizeof want);
        memcpy(want, golden_u8, sizeof want);
        memset(want + 64 + 28, 0, sizeof want - 64 - 28);
        struct rowfile *f = open_u8(x, false);
        assert_int_equal(rowfile_erase(f, 1, &x->e), UL_NOT_FOUND);
        rowfile_close(&f);
        assert_file(x->path, want, sizeof want);
}

static void a_damaged_header_keeps_no_row_from_being_erased(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = NULL;
        uint8_t bytes[sizeof golden_u8];
        for (size_t bit = 0; bit < 8 * ROWFILE_HEADER_BYTES; bit++) {
                memcpy(bytes, golden_u8, sizeof bytes);
                bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ (1u << (bit % 8)));
                put_file(x->path, bytes, sizeof bytes);
                assert_int_equal(rowfile_open_to_erase(x->path, &u8_shape, 5, 2, &f, &x->e), 0);
                assert_int_equal(rowfile_erase(f, 0, &x->e), 0);
                rowfile_close(&f);
                memset(bytes + 64, 0, 28);
                assert_file(x->path, bytes, sizeof bytes);
        }
        put_file(x->path, golden_u8, 20);
        assert_int_equal(rowfile_open_to_erase(x->path, &u8_shape, 5, 2, &f, &x->e), 0);
        assert_int_equal(rowfile_erase(f, 0, &x->e), UL_NOT_FOUND);
        rowfile_close(&f);
}

static void another_slices_file_is_not_erased_in(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = NULL;
        put_file(x->path, golden_u8, sizeof golden_u8);
        assert_int_equal(rowfile_open_to_erase(x->path, &u8_shape, 4, 2, &f, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_open_to_erase(x->path, &u8_shape, 5, 3, &f, &x->e), UL_CORRUPT);
        assert_null(f);
}

static void every_flipped_bit_of_a_row_is_noticed(void **state)
{
        (void)state;
        uint8_t row[28];
        for (size_t bit = 0; bit < 8 * sizeof row; bit++) {
                memcpy(row, golden_u8 + 64, sizeof row);
                assert_true(row_intact(row, sizeof row));
                row[bit / 8] = (uint8_t)(row[bit / 8] ^ (1u << (bit % 8)));
                assert_false(row_intact(row, sizeof row));
        }
}

static void a_row_that_was_erased_in_part_is_not_intact(void **state)
{
        struct fixture *x = *state;
        uint8_t row[28];
        for (size_t cut = 16; cut < 27; cut++) { /* the last byte of the row is padding */
                memcpy(row, golden_u8 + 64 + 28, sizeof row);
                memset(row, 0, cut);
                assert_true(row_erased(row));
                assert_false(row_intact(row, sizeof row));
        }
        put_file(x->path, golden_u8, sizeof golden_u8);
        struct rowfile *f = open_u8(x, false);
        FILE *raw = fopen(x->path, "r+b");
        assert_int_equal(fwrite((const uint8_t[16]){0}, 1, 16, raw), 16);
        assert_int_equal(fseek(raw, 64, SEEK_SET), 0);
        assert_int_equal(fwrite((const uint8_t[16]){0}, 1, 16, raw), 16);
        assert_int_equal(fclose(raw), 0);
        assert_int_equal(rowfile_read(f, 0, row, &x->e), UL_CORRUPT);
        rowfile_close(&f);
}

static void appending_overwrites_what_was_not_committed(void **state)
{
        struct fixture *x = *state;
        uint8_t rows[84], got[28];
        for (int i = 0; i < 3; i++)
                make_row(rows + 28 * i, (uint8_t)(1 + i), 1, (uint32_t)i,
                         (const uint8_t[]){1, 2, 3});
        struct rowfile *f = open_u8(x, true);
        assert_int_equal(rowfile_append(f, 0, rows, 2, &x->e), 0);
        assert_int_equal(rowfile_append(f, 1, rows + 56, 1, &x->e), 0);
        assert_int_equal(rowfile_append(f, 1, rows, 0, &x->e), 0);
        assert_int_equal(rowfile_read(f, 0, got, &x->e), 0);
        assert_memory_equal(got, rows, 28);
        assert_int_equal(rowfile_read(f, 1, got, &x->e), 0);
        assert_memory_equal(got, rows + 56, 28);
        rowfile_close(&f);
}

static void a_gap_is_never_appended_over(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = open_u8(x, true);
        assert_int_equal(rowfile_append(f, 1, golden_u8 + 64, 1, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_append(f, UINT32_MAX, golden_u8 + 64, 1, &x->e), UL_TOO_LARGE);
        rowfile_close(&f);
        assert_file(x->path, golden_u8 /* shard 5, slice 2 */, ROWFILE_HEADER_BYTES);
}

static void trimming_cuts_uncommitted_rows_torn_ones_too(void **state)
{
        struct fixture *x = *state;
        for (size_t tail = 0; tail <= 28; tail++) {
                put_file(x->path, golden_u8, 64 + 28 + tail);
                struct rowfile *f = open_u8(x, false);
                assert_int_equal(rowfile_trim(f, 1, NULL, &x->e), 0);
                assert_int_equal(rowfile_trim(f, 1, NULL, &x->e), 0);
                rowfile_close(&f);
                assert_file(x->path, golden_u8, 64 + 28);
        }
        struct rowfile *f = open_u8(x, false);
        assert_int_equal(rowfile_trim(f, 2, NULL, &x->e), UL_CORRUPT);
        assert_int_equal(rowfile_trim(f, 0, NULL, &x->e), 0);
        rowfile_close(&f);
        assert_file(x->path, golden_u8, 64);
}

static void a_file_of_which_nothing_is_committed_gets_a_new_header(void **state)
{
        struct fixture *x = *state;
        struct rowfile *f = NULL;
        for (size_t bytes = 0; bytes <= sizeof golden_u8; bytes += 13) {
                uint8_t damaged[sizeof golden_u8];
                memcpy(damaged, golden_u8, sizeof damaged);
                damaged[0] ^= 1;
                put_file(x->path, damaged, bytes);
                assert_int_equal(rowfile_open_to_erase(x->path, &u8_shape, 5, 2, &f, &x->e), 0);
                uint64_t budget = 20;
                int err;
                while ((err = rowfile_renew(f, &u8_shape, 5, 2, &budget, &x->e)) == UL_AGAIN)
                        budget = 20;
                assert_int_equal(err, 0);
                rowfile_close(&f);
                assert_file(x->path, golden_u8, 64);
        }
}

/* Stands in for the C library's: looks at what is about to be cut off. */
static uint64_t cut_bytes;
static bool cut_was_zero;

int ftruncate(int fd, off_t length)
{
        uint8_t byte;
        cut_was_zero = true;
        for (cut_bytes = 0; pread(fd, &byte, 1, length + (off_t)cut_bytes) == 1; cut_bytes++)
                cut_was_zero = cut_was_zero && byte == 0;
        return (int)syscall(SYS_ftruncate, fd, length);
}

static void trimming_zeroes_before_it_truncates(void **state)
{
        struct fixture *x = *state;
        put_file(x->path, golden_u8, sizeof golden_u8 - 1);
        struct rowfile *f = open_u8(x, false);
        assert_int_equal(rowfile_trim(f, 0, NULL, &x->e), 0);
        rowfile_close(&f);
        assert_int_equal(cut_bytes, 55);
        assert_true(cut_was_zero);
        assert_file(x->path, golden_u8, 64);
}

static void a_view_shows_only_what_is_committed(void **state)
{
        struct fixture *x = *state;
        struct rowview v;
        put_file(x->path, golden_u8, sizeof golden_u8);
        for (uint32_t n = 0; n <= 2; n++) {
                assert_int_equal(rowview_open(x->path, &u8_shape, 5, 2, n, &v, &x->e), 0);
                assert_int_equal(v.count, n);
                assert_int_equal(v.row_bytes, 28);
                assert_int_equal(v.map_bytes, 64 + 28 * n);
                assert_memory_equal(v.rows, golden_u8 + 64, 28 * n);
                rowview_close(&v);
                rowview_close(&v); /* closing twice is harmless */
        }
        assert_int_equal(rowview_open(x->path, &u8_shape, 5, 2, 3, &v, &x->e), UL_CORRUPT);
        assert_int_equal(rowview_open(x->path, &u8_shape, 5, 2, UINT32_MAX, &v, &x->e), UL_CORRUPT);
}

static void widening_agrees_with_a_plain_loop_at_every_width(void **state)
{
        (void)state;
        for (uint32_t n = 1; n <= 200; n++) {
                for (uint32_t dtype = 0; dtype <= 2; dtype++) {
                        const struct row_shape s = {dtype, n, 0};
                        uint8_t *row = malloc(row_bytes(&s)); /* exact: reading over it shows */
                        float *out = malloc(n * sizeof *out);
                        assert_true(row != NULL && out != NULL);
                        for (uint32_t i = 0; i < row_bytes(&s); i++)
                                row[i] = (uint8_t)(i * 167 + 13 * n);
                        row_widen(&s, row, out);
                        const uint8_t *f = row + row_feature_offset(&s);
                        for (uint32_t i = 0; i < n; i++) {
                                float want;
                                memcpy(&want, f + (dtype == 0 ? 4 * i : 0), 4);
                                if (dtype == 1)
                                        want = (float)f[i];
                                if (dtype == 2)
                                        want = (float)(f[i / 8] >> (i % 8) & 1);
                                assert_memory_equal(&out[i], &want, 4);
                        }
                        free(out);
                        free(row);
                }
        }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(the_layout_is_the_one_that_the_header_draws),
                T(bits_and_targets_stand_where_the_header_draws_them),
                T(widths_are_padded_to_four_and_bits_to_bytes),
                T(files_are_private_and_creation_leaves_no_other_file),
                T(an_absent_file_is_not_found_unless_it_is_to_be_created),
                T(opening_an_existing_file_keeps_its_rows),
                T(every_flipped_bit_of_the_header_is_refused),
                T(a_file_of_another_shape_shard_or_slice_is_refused),
                T(symbolic_links_and_directories_are_not_followed),
                T(erasing_zeroes_one_row_and_nothing_else),
                T(erasing_leaves_no_byte_of_a_row_whatever_stood_there),
                T(rows_past_the_end_can_neither_be_read_nor_erased),
                T(what_is_there_of_a_torn_row_is_erased),
                T(a_damaged_header_keeps_no_row_from_being_erased),
                T(another_slices_file_is_not_erased_in),
                T(every_flipped_bit_of_a_row_is_noticed),
                T(a_row_that_was_erased_in_part_is_not_intact),
                T(appending_overwrites_what_was_not_committed),
                T(a_gap_is_never_appended_over),
                T(trimming_cuts_uncommitted_rows_torn_ones_too),
                T(a_file_of_which_nothing_is_committed_gets_a_new_header),
                T(trimming_zeroes_before_it_truncates),
                T(a_view_shows_only_what_is_committed),
                T(widening_agrees_with_a_plain_loop_at_every_width),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
