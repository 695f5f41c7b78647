/* SPDX-License-Identifier: Apache-2.0
 * test_checkpoint.c: the checkpoint file: one form, read back bit for bit, and nothing else read.
 * The reader is a parser of what may be hostile: most tests here hand it files that are wrong. */
#include "lib/checkpoint/checkpoint.h"
#include "lib/util/bytes.h"
#include "lib/util/file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[PATH_SIZE];
static char path[PATH_SIZE];
static struct errinfo e;

static int make_dir(void **state)
{
        (void)state;
        const char *tmp = getenv("TMPDIR");
        if (path_format(dir, &e, "%s/test_checkpoint.XXXXXX", tmp != NULL ? tmp : "/tmp") != 0 ||
            mkdtemp(dir) == NULL)
                return -1;
        return path_format(path, &e, "%s/slice-003.ckpt", dir);
}

static int remove_dir(void **state)
{
        (void)state;
        return scrub_tree(dir, &e);
}

static void put_file(const void *data, size_t len)
{
        assert_int_equal(write_file_durably(path, data, len, &e), 0);
}

static void get_file(struct buf *out)
{
        assert_int_equal(read_file(path, 1 << 20, out, &e), 0);
}

/* A vector of two and a matrix of two by one. */
static float values[4] = {1.0F, -2.5F, 3.25F, -0.0F};
static struct checkpoint sample(void)
{
        struct checkpoint c = {.shard = 7,
                               .slice = 3,
                               .stage = 3,
                               .records = 1234567890123,
                               .kernel = "SkylakeX",
                               .tensor_count = 2};
        memset(c.config_hash, 0xab, sizeof c.config_hash);
        memset(c.parent, 0x01, sizeof c.parent);
        memset(c.retained, 0xf0, sizeof c.retained);
        c.tensors[0] =
                (struct checkpoint_tensor){.name = "layers.0.bias", .rows = 2, .data = values + 2};
        c.tensors[1] = (struct checkpoint_tensor){
                .name = "layers.0.weight", .rows = 2, .cols = 1, .data = values};
        return c;
}

#define X8(x) x x x x x x x x
#define HASH(x) X8(x) X8(x) X8(x) X8(x)
#define META                                                                                                                                                             \
        "\"__metadata__\":{\"format\":\"unlearnd.checkpoint.v1\",\"config_hash\":\"" HASH("ab") "\",\"shard\":\"7\",\"slice\":\"3\",\"stage\":\"3\",\"parent\":\"" HASH( \
                "01") "\",\"retained\":\"" HASH("f0") "\",\"records\":\"1234567890123\","                                                                                \
                                                      "\"kernel\":\"SkylakeX\"}"
#define BIAS "\"layers.0.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define WEIGHT "\"layers.0.weight\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]}"

/* prefix + header padded with spaces + data_len bytes of zeros */
static void put_raw(const char *header, size_t data_len)
{
        struct buf b = {0};
        uint8_t prefix[8] = {0};
        buf_init(&b, 0);
        buf_append(&b, prefix, sizeof prefix);
        buf_append_str(&b, header);
        while (b.len % 64 != 0)
                buf_append(&b, " ", 1);
        put_le64(b.data, b.len - 8);
        uint8_t *data = buf_extend(&b, data_len);
        assert_non_null(data);
        memset(data, 0, data_len);
        put_file(b.data, b.len);
        buf_free(&b, false);
}

static int read_it(struct checkpoint *out)
{
        uint8_t hash[SHA256_BYTES];
        return checkpoint_read(path, NULL, out, hash, &e);
}

static void assert_refused(void)
{
        struct checkpoint c;
        e.code = 0;
        int err = read_it(&c);
        if (err != UL_CORRUPT)
                print_error("got %s\n", ul_err_name(err));
        assert_int_equal(err, UL_CORRUPT);
        assert_int_equal(e.code, UL_CORRUPT);
        assert_null(c.block);
        assert_int_equal(c.tensor_count, 0);
}

/* --- what is written --- */

/* The layout drawn in checkpoint.h, byte for byte. */
static void the_file_is_the_golden_one(void **state)
{
        (void)state;
        static const char header[] = "{" META "," BIAS "," WEIGHT "}";
        struct checkpoint c = sample();
        uint8_t hash[SHA256_BYTES];
        uint8_t again[SHA256_BYTES];
        struct buf b = {0};
        assert_int_equal(checkpoint_write(path, &c, hash, &e), 0);
        get_file(&b);
        uint64_t n = get_le64(b.data);
        assert_int_equal((8 + n) % 64, 0);
        assert_int_equal(b.len, 8 + n + 16);
        assert_memory_equal(b.data + 8, header, sizeof header - 1);
        for (size_t i = 8 + sizeof header - 1; i < 8 + n; i++)
                assert_int_equal(b.data[i], ' ');
        assert_memory_equal(b.data + 8 + n, values + 2, 8);
        assert_memory_equal(b.data + 8 + n + 8, values, 8);
        sha256(b.data, b.len, again);
        assert_memory_equal(hash, again, SHA256_BYTES);
        buf_free(&b, false);
}

static void a_checkpoint_reads_back_bit_for_bit(void **state)
{
        (void)state;
        struct checkpoint c = sample();
        struct checkpoint r;
        uint8_t hash[SHA256_BYTES];
        uint8_t again[SHA256_BYTES];
        uint8_t data[SHA256_BYTES];
        assert_int_equal(checkpoint_write(path, &c, hash, &e), 0);
        assert_int_equal(checkpoint_read(path, hash, &r, again, &e), 0);
        assert_memory_equal(hash, again, SHA256_BYTES);
        assert_memory_equal(r.config_hash, c.config_hash, SHA256_BYTES);
        assert_memory_equal(r.parent, c.parent, SHA256_BYTES);
        assert_memory_equal(r.retained, c.retained, SHA256_BYTES);
        assert_int_equal(r.shard, 7);
        assert_int_equal(r.slice, 3);
        assert_int_equal(r.stage, 3);
        assert_true(r.records == c.records);
        assert_string_equal(r.kernel, "SkylakeX");
        assert_int_equal(r.tensor_count, 2);
        for (uint32_t i = 0; i < 2; i++) {
                assert_string_equal(r.tensors[i].name, c.tensors[i].name);
                assert_int_equal(r.tensors[i].rows, c.tensors[i].rows);
                assert_int_equal(r.tensors[i].cols, c.tensors[i].cols);
                assert_memory_equal(r.tensors[i].data, c.tensors[i].data, 8);
        }
        assert_int_equal(r.block_bytes, 16);
        checkpoint_data_hash(&c, hash);
        checkpoint_data_hash(&r, data);
        assert_memory_equal(hash, data, SHA256_BYTES);
        checkpoint_clear(&r);
        assert_null(r.block);
}

static void a_checkpoint_without_records_has_no_tensors(void **state)
{
        (void)state;
        struct checkpoint c = sample();
        struct checkpoint r;
        uint8_t hash[SHA256_BYTES];
        uint8_t nothing[SHA256_BYTES];
        c.tensor_count = 0;
        c.records = 0;
        assert_int_equal(checkpoint_write(path, &c, hash, &e), 0);
        assert_int_equal(checkpoint_read(path, hash, &r, hash, &e), 0);
        assert_int_equal(r.tensor_count, 0);
        assert_null(r.block);
        checkpoint_data_hash(&r, hash);
        sha256("", 0, nothing);
        assert_memory_equal(hash, nothing, SHA256_BYTES);
        checkpoint_clear(&r);
}

static void the_data_hash_covers_the_data_alone(void **state)
{
        (void)state;
        struct checkpoint a = sample();
        struct checkpoint b = sample();
        uint8_t x[SHA256_BYTES];
        uint8_t y[SHA256_BYTES];
        float other[4];
        b.slice = 9;
        b.records = 1;
        memset(b.parent, 9, sizeof b.parent);
        checkpoint_data_hash(&a, x);
        checkpoint_data_hash(&b, y);
        assert_memory_equal(x, y, SHA256_BYTES);
        memcpy(other, values, sizeof other);
        other[3] = 0.0F; /* was -0.0: equal as a number, not as bytes */
        b.tensors[0].data = other + 2;
        checkpoint_data_hash(&b, y);
        assert_memory_not_equal(x, y, SHA256_BYTES);
}

static void the_file_is_private(void **state)
{
        (void)state;
        struct checkpoint c = sample();
        struct stat st;
        uint8_t hash[SHA256_BYTES];
        assert_int_equal(checkpoint_write(path, &c, hash, &e), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
}

/* --- what is refused --- */

static void a_file_with_another_digest_is_corrupt(void **state)
{
        (void)state;
        struct checkpoint c = sample();
        struct checkpoint r;
        uint8_t hash[SHA256_BYTES];
        uint8_t other[SHA256_BYTES];
        assert_int_equal(checkpoint_write(path, &c, hash, &e), 0);
        hash[31] ^= 1;
        assert_int_equal(checkpoint_read(path, hash, &r, other, &e), UL_CORRUPT);
        assert_null(r.block);
}

static void every_flipped_bit_is_noticed(void **state)
{
        (void)state;
        struct checkpoint c = sample();
        struct checkpoint r;
        uint8_t hash[SHA256_BYTES];
        uint8_t other[SHA256_BYTES];
        struct buf b = {0};
        assert_int_equal(checkpoint_write(path, &c, hash, &e), 0);
        get_file(&b);
        for (size_t bit = 0; bit < 8 * b.len; bit++) {
                b.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
                FILE *f = fopen(path, "wb");
                assert_non_null(f);
                assert_int_equal(fwrite(b.data, 1, b.len, f), b.len);
                assert_int_equal(fclose(f), 0);
                assert_int_equal(checkpoint_read(path, hash, &r, other, &e), UL_CORRUPT);
                if (read_it(&r) == 0) /* a digit of the provenance: valid, but another file */
                        checkpoint_clear(&r);
                b.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        buf_free(&b, false);
}

static void every_truncation_and_every_extra_byte_is_corrupt(void **state)
{
        (void)state;
        struct checkpoint c = sample();
        uint8_t hash[SHA256_BYTES];
        struct buf b = {0};
        assert_int_equal(checkpoint_write(path, &c, hash, &e), 0);
        get_file(&b);
        buf_append(&b, "x", 1);
        assert_false(b.failed);
        put_file(b.data, b.len);
        assert_refused();
        for (size_t len = b.len - 1; len-- > 0;) {
                assert_int_equal(truncate(path, (off_t)len), 0);
                assert_refused();
        }
        buf_free(&b, false);
}

static void a_header_length_out_of_range_is_corrupt(void **state)
{
        (void)state;
        const uint64_t lengths[] = {0,
                                    1,
                                    55,
                                    57,
                                    1024 * 1024 + 56,
                                    UINT64_C(1) << 32,
                                    UINT64_C(1) << 63,
                                    UINT64_MAX - 7,
                                    UINT64_MAX};
        uint8_t file[2048] = {0};
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                memset(file, ' ', sizeof file);
                memcpy(file + 8, "{" META "," BIAS "}", sizeof "{" META "," BIAS "}" - 1);
                put_le64(file, lengths[i]);
                put_file(file, sizeof file);
                assert_refused();
        }
}

static void the_sample_header_is_accepted_when_written_by_hand(void **state)
{
        (void)state;
        struct checkpoint r;
        put_raw("{" META "," BIAS "," WEIGHT "}", 16);
        assert_int_equal(read_it(&r), 0);
        checkpoint_clear(&r);
}

static void a_header_in_any_other_form_is_corrupt(void **state)
{
        (void)state;
#define T(name, dtype, shape, offsets)                                                             \
        "\"" name "\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) "{" META "," T("a", dtype, shape, offsets) "}"
        static const struct {
                const char *header;
                size_t data;
        } bad[] = {
                {"", 0},
                {"[]", 0},
                {"{}", 0},
                {"{" BIAS "}", 8},
                {"{" BIAS "," META "}", 8},             /* metadata is not first */
                {"{" META "}", 0},                      /* records, but no tensors */
                {"{" META "," BIAS "} x", 8},           /* trailing bytes */
                {"{" META ", " BIAS "}", 8},            /* another form */
                {"{" META "," BIAS "}\n", 8},           /* padding is of spaces */
                {"{" META "," BIAS "," BIAS "}", 16},   /* one name twice */
                {"{" META "," WEIGHT "," BIAS "}", 16}, /* offsets go back */
                {"{" META "," WEIGHT "}", 16},          /* a gap at the start */
                {"{" META "," BIAS "," T("a", "\"F32\"", "[1]", "[4,8]") "}", 12},   /* overlap */
                {"{" META "," BIAS "," T("a", "\"F32\"", "[1]", "[12,16]") "}", 16}, /* gap */
                {"{" META "," T("", "\"F32\"", "[1]", "[0,4]") "}", 4},
                {"{" META "," T("a23456789012345678901234567890123", "\"F32\"", "[1]", "[0,4]") "}",
                 4},
                {ONE("\"F64\"", "[1]", "[0,8]"), 8},
                {ONE("\"f32\"", "[1]", "[0,4]"), 4},
                {ONE("1", "[1]", "[0,4]"), 4},
                {ONE("\"F32\"", "[]", "[0,4]"), 4},
                {ONE("\"F32\"", "1", "[0,4]"), 4},
                {ONE("\"F32\"", "[0]", "[0,0]"), 0},
                {ONE("\"F32\"", "[1,0]", "[0,0]"), 0},
                {ONE("\"F32\"", "[-1]", "[0,4]"), 4},
                {ONE("\"F32\"", "[1.5]", "[0,4]"), 4},
                {ONE("\"F32\"", "[1.0]", "[0,4]"), 4},
                {ONE("\"F32\"", "[1e0]", "[0,4]"), 4},
                {ONE("\"F32\"", "[1,1,1]", "[0,4]"), 4},
                {ONE("\"F32\"", "[1]", "[0,3]"), 4},
                {ONE("\"F32\"", "[1]", "[0,4,4]"), 4},
                {ONE("\"F32\"", "[1]", "[4,0]"), 4},
                {ONE("\"F32\"", "[1]", "\"0\""), 4},
                {ONE("\"F32\"", "[4294967295,4294967295]", "[0,4]"), 4},
                {ONE("\"F32\"", "[4294967296]", "[0,4]"), 4},
                {ONE("\"F32\"", "[1073741824,4]", "[0,0]"), 0}, /* 2^34 bytes: 0 in 32 bits */
                {ONE("\"F32\"", "[1e300]", "[0,4]"), 4},
                {"{" META ",\"a\":{}}", 0},
                {"{" META ",\"a\":[]}", 0},
                {"{" META ",\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4},
                {"{" META ",\"a\":{\"shape\":[1],\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4},
                {"{" META
                 ",\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}",
                 4},
                {"{\"__metadata__\":{}}", 0},
                {"{\"__metadata__\":[]}", 0},
                {"{\"__metadata__\":{\"format\":\"pt\"}}", 0},
        };
#undef ONE
#undef T
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                print_message("%zu: %.60s\n", i,
                              strlen(bad[i].header) > sizeof META ? bad[i].header + sizeof META
                                                                  : bad[i].header);
                put_raw(bad[i].header, bad[i].data);
                assert_refused();
        }
}

/* Replaces one text of the golden header's metadata. */
static void put_metadata_with(const char *from, const char *to)
{
        static const char whole[] = "{" META "," BIAS "," WEIGHT "}";
        struct buf b = {0};
        const char *at = strstr(whole, from);
        assert_non_null(at);
        buf_append(&b, whole, (size_t)(at - whole));
        buf_append_str(&b, to);
        buf_append_str(&b, at + strlen(from));
        buf_append(&b, "", 1);
        put_raw((const char *)b.data, 16);
        buf_free(&b, false);
}

static void metadata_in_any_other_form_is_corrupt(void **state)
{
        (void)state;
        static const char *const bad[][2] = {
                {"checkpoint.v1", "checkpoint.v2"},
                {"\"format\":", "\"Format\":"},
                {"\"shard\":\"7\"", "\"shard\":7"},
                {"\"shard\":\"7\"", "\"shard\":\"07\""},
                {"\"shard\":\"7\"", "\"shard\":\"-7\""},
                {"\"shard\":\"7\"", "\"shard\":\" 7\""},
                {"\"shard\":\"7\"", "\"shard\":\"\""},
                {"\"shard\":\"7\"", "\"shard\":\"4294967296\""},
                {"\"shard\":\"7\",", ""},
                {"\"shard\":\"7\",", "\"shard\":\"7\",\"extra\":\"1\","},
                {"\"shard\":\"7\",", "\"shard\":\"7\",\"shard\":\"7\","},
                {"\"slice\":\"3\"", "\"slice\":\"0\""},
                {"\"stage\":\"3\"", "\"stage\":\"0\""},
                {"\"stage\":\"3\"", "\"stage\":\"3x\""},
                {"\"parent\":\"01", "\"parent\":\""},
                {"\"parent\":\"01", "\"parent\":\"0101"},
                {"\"parent\":\"01", "\"parent\":\"0g"},
                {"\"retained\":\"f0", "\"retained\":\"F0"},
                {"\"1234567890123\"", "\"0\""},
                {"\"1234567890123\"", "\"18446744073709551616\""},
                {"\"1234567890123\"", "\"99999999999999999999\""},
                {"SkylakeX", "Skylake\\u0000"},
                {"SkylakeX", "\\u0053kylakeX"},
                {"SkylakeX", "k2345678901234567890123456789012"},
                {"SkylakeX\"", "SkylakeX\",\"halvings\":\"\""},
                {"SkylakeX\"", "SkylakeX\",\"halvings\":\"0\""},
                {"SkylakeX\"", "SkylakeX\",\"halvings\":\"x\""},
                {"SkylakeX\"", "SkylakeX\",\"halvings\":\"4294967296\""},
        };
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                print_message("%s\n", bad[i][1]);
                put_metadata_with(bad[i][0], bad[i][1]);
                assert_refused();
        }
}

static void too_many_tensors_are_corrupt(void **state)
{
        (void)state;
        for (uint32_t count = CHECKPOINT_TENSORS_MAX; count <= CHECKPOINT_TENSORS_MAX + 1;
             count++) {
                struct buf b = {0};
                struct checkpoint r;
                buf_append_str(&b, "{" META);
                for (uint32_t i = 0; i < count; i++)
                        buf_printf(&b,
                                   ",\"t%u\":{\"dtype\":\"F32\",\"shape\":[1],"
                                   "\"data_offsets\":[%u,%u]}",
                                   i, 4 * i, 4 * i + 4);
                buf_append(&b, "}", 2);
                put_raw((const char *)b.data, (size_t)4 * count);
                buf_free(&b, false);
                if (count > CHECKPOINT_TENSORS_MAX) {
                        assert_refused();
                        continue;
                }
                assert_int_equal(read_it(&r), 0);
                checkpoint_clear(&r);
        }
}

/* A small file must not make the reader reserve what it announces. */
static void announced_sizes_are_held_against_the_file_before_memory_is_taken(void **state)
{
        (void)state;
        put_raw("{" META ",\"a\":{\"dtype\":\"F32\",\"shape\":[67108864],"
                "\"data_offsets\":[0,268435456]}}",
                64);
        assert_refused();
}

static void what_is_not_a_regular_file_is_not_read(void **state)
{
        (void)state;
        struct checkpoint c = sample();
        struct checkpoint r;
        uint8_t hash[SHA256_BYTES];
        char other[PATH_SIZE];
        assert_int_equal(scrub_and_unlink(path, &e), 0);
        assert_int_equal(read_it(&r), UL_NOT_FOUND);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_refused(); /* and does not hang */
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_refused();
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(path_format(other, &e, "%s/other", dir), 0);
        assert_int_equal(checkpoint_write(other, &c, hash, &e), 0);
        assert_int_equal(symlink(other, path), 0);
        assert_int_equal(read_it(&r), UL_IO);
        assert_int_equal(unlink(path), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_file_is_the_golden_one),
                cmocka_unit_test(a_checkpoint_reads_back_bit_for_bit),
                cmocka_unit_test(a_checkpoint_without_records_has_no_tensors),
                cmocka_unit_test(the_data_hash_covers_the_data_alone),
                cmocka_unit_test(the_file_is_private),
                cmocka_unit_test(a_file_with_another_digest_is_corrupt),
                cmocka_unit_test(every_flipped_bit_is_noticed),
                cmocka_unit_test(every_truncation_and_every_extra_byte_is_corrupt),
                cmocka_unit_test(a_header_length_out_of_range_is_corrupt),
                cmocka_unit_test(the_sample_header_is_accepted_when_written_by_hand),
                cmocka_unit_test(a_header_in_any_other_form_is_corrupt),
                cmocka_unit_test(metadata_in_any_other_form_is_corrupt),
                cmocka_unit_test(too_many_tensors_are_corrupt),
                cmocka_unit_test(announced_sizes_are_held_against_the_file_before_memory_is_taken),
                cmocka_unit_test(what_is_not_a_regular_file_is_not_read),
        };
        if (crypto_init() != 0)
                return 1;
        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
