/* SPDX-License-Identifier: Apache-2.0
 * test_bytes.c: fixed-width numbers, CRC-32C by both of its ways, and the growable buffer. The
 * source is included, because the table way is not reachable where the CPU has SSE 4.2. */
#include "lib/util/bytes.c" // NOLINT

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

static void numbers_have_the_bytes_that_their_names_say(void **state)
{
        (void)state;
        uint8_t b[10];
        memset(b, 0xEE, sizeof b);
        put_le16(b + 1, 0x0102);
        assert_memory_equal(b, "\xEE\x02\x01\xEE", 4);
        put_le32(b + 1, 0x01020304);
        assert_memory_equal(b, "\xEE\x04\x03\x02\x01\xEE", 6);
        put_be32(b + 1, 0x01020304);
        assert_memory_equal(b, "\xEE\x01\x02\x03\x04\xEE", 6);
        put_le64(b + 1, UINT64_C(0x0102030405060708));
        assert_memory_equal(b, "\xEE\x08\x07\x06\x05\x04\x03\x02\x01\xEE", 10);
        put_be64(b + 1, UINT64_C(0x0102030405060708));
        assert_memory_equal(b, "\xEE\x01\x02\x03\x04\x05\x06\x07\x08\xEE", 10);
}

static void numbers_read_back_from_odd_addresses(void **state)
{
        (void)state;
        uint8_t b[9];
        put_le16(b + 1, 0xFEDC);
        assert_int_equal(get_le16(b + 1), 0xFEDC);
        put_le32(b + 1, 0xFEDCBA98);
        assert_int_equal(get_le32(b + 1), 0xFEDCBA98);
        put_be32(b + 1, 0xFEDCBA98);
        assert_int_equal(get_be32(b + 1), 0xFEDCBA98);
        put_le64(b + 1, UINT64_MAX - 5);
        assert_true(get_le64(b + 1) == UINT64_MAX - 5);
        put_be64(b + 1, UINT64_MAX - 5);
        assert_true(get_be64(b + 1) == UINT64_MAX - 5);
}

static void big_endian_keys_sort_like_their_numbers(void **state)
{
        (void)state;
        const uint64_t v[] = {0, 1, 255, 256, 65535, 65536, UINT64_C(1) << 40, UINT64_MAX};
        for (size_t i = 1; i < sizeof v / sizeof *v; i++) {
                uint8_t a[8], b[8];
                put_be64(a, v[i - 1]);
                put_be64(b, v[i]);
                assert_true(memcmp(a, b, 8) < 0);
        }
}

/* The vectors of RFC 3720, B.4, and the check value of the catalogue. */
static void crc32c_gives_the_published_values(void **state)
{
        (void)state;
        uint8_t b[32] = {0};
        assert_int_equal(crc32c(0, b, 32), 0x8A9136AA);
        memset(b, 0xFF, 32);
        assert_int_equal(crc32c(0, b, 32), 0x62A8AB43);
        for (uint8_t i = 0; i < 32; i++)
                b[i] = i;
        assert_int_equal(crc32c(0, b, 32), 0x46DD794E);
        assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
        assert_int_equal(crc32c(0, NULL, 0), 0);
        assert_int_equal(crc32c(0x12345678, NULL, 0), 0x12345678);
}

static void crc32c_is_the_same_with_and_without_the_cpu_instruction(void **state)
{
        (void)state;
        uint8_t b[300];
        for (size_t i = 0; i < sizeof b; i++)
                b[i] = (uint8_t)(i * 7919 >> 3);
        for (size_t from = 0; from < 9; from++) {
                for (size_t len = 0; len + from <= sizeof b; len++) {
                        uint32_t table = ~crc_by_table(~0xABCDEF01U, b + from, len);
                        assert_int_equal(crc32c(0xABCDEF01U, b + from, len), table);
                }
        }
}

static void crc32c_continues_over_parts(void **state)
{
        (void)state;
        const char text[] = "the quick brown fox jumps over the lazy dog";
        uint32_t whole = crc32c(0, text, sizeof text);
        for (size_t cut = 0; cut <= sizeof text; cut++)
                assert_int_equal(crc32c(crc32c(0, text, cut), text + cut, sizeof text - cut),
                                 whole);
}

static void a_buffer_grows_and_keeps_what_it_holds(void **state)
{
        (void)state;
        struct buf b = {0};
        for (int i = 0; i < 10000; i++)
                buf_printf(&b, "%04d", i);
        buf_append_str(&b, "end");
        buf_append(&b, "", 0);
        buf_append(&b, NULL, 0);
        assert_false(b.failed);
        assert_int_equal(b.len, 40003);
        for (int i = 0; i < 10000; i += 777) {
                char expected[8];
                snprintf(expected, sizeof expected, "%04d", i);
                assert_memory_equal(b.data + 4 * i, expected, 4);
        }
        assert_memory_equal(b.data + 40000, "end", 3);
        buf_free(&b, true);
        assert_null(b.data);
        assert_int_equal(b.len + b.cap, 0);
}

static void a_formatted_text_of_any_length_arrives_whole(void **state)
{
        (void)state;
        for (int n = 0; n < 600; n++) {
                struct buf b;
                buf_init(&b, 0);
                buf_append_str(&b, "ab");
                buf_printf(&b, "%0*d", n, 7);
                size_t digits = n == 0 ? 1 : (size_t)n;
                assert_int_equal(b.len, 2 + digits);
                assert_int_equal(b.data[b.len - 1], '7');
                buf_free(&b, false);
        }
}

static void a_maximum_can_be_filled_exactly_and_not_passed(void **state)
{
        (void)state;
        struct buf b;
        buf_init(&b, 10);
        buf_append(&b, "12345", 5);
        buf_printf(&b, "%s", "67890");
        assert_false(b.failed);
        assert_int_equal(b.len, 10);
        buf_append(&b, "x", 1);
        assert_true(b.failed);
        assert_int_equal(b.len, 10);
        assert_memory_equal(b.data, "1234567890", 10);
        buf_free(&b, false);
        buf_init(&b, 10);
        buf_printf(&b, "%s", "12345678901");
        assert_true(b.failed);
        assert_int_equal(b.len, 0);
        buf_free(&b, false);
}

static void an_error_sticks_until_the_reset(void **state)
{
        (void)state;
        struct buf b;
        buf_init(&b, 4);
        buf_append(&b, "12345", 5);
        buf_append(&b, "1", 1);
        buf_printf(&b, "1");
        assert_null(buf_extend(&b, 1));
        assert_true(b.failed);
        assert_int_equal(b.len, 0);
        buf_reset(&b, false);
        buf_append(&b, "1234", 4);
        assert_false(b.failed);
        assert_int_equal(b.len, 4);
        assert_int_equal(b.max, 4);
        buf_free(&b, false);
}

static void absurd_lengths_fail_instead_of_wrapping_round(void **state)
{
        (void)state;
        struct buf b;
        buf_init(&b, 0);
        buf_append(&b, "abc", 3);
        assert_null(buf_extend(&b, SIZE_MAX));
        assert_null(buf_extend(&b, SIZE_MAX - 2));
        assert_true(b.failed);
        assert_int_equal(b.len, 3);
        buf_free(&b, false);
}

static void an_extension_is_counted_and_never_null(void **state)
{
        (void)state;
        struct buf b;
        buf_init(&b, 0);
        assert_non_null(buf_extend(&b, 0));
        uint8_t *room = buf_extend(&b, 5);
        assert_ptr_equal(room, b.data);
        memcpy(room, "hello", 5);
        room = buf_extend(&b, 1000);
        assert_ptr_equal(room, b.data + 5);
        assert_int_equal(b.len, 1005);
        assert_memory_equal(b.data, "hello", 5);
        buf_free(&b, false);
}

static void a_wiping_reset_leaves_nothing_and_keeps_the_memory(void **state)
{
        (void)state;
        struct buf b;
        buf_init(&b, 0);
        buf_append_str(&b, "alice@example.org, and her address");
        buf_reset(&b, false); /* leaves the bytes behind len */
        buf_append_str(&b, "b");
        uint8_t *data = b.data;
        buf_reset(&b, true);
        assert_ptr_equal(b.data, data);
        assert_int_equal(b.len, 0);
        for (size_t i = 0; i < b.cap; i++)
                assert_int_equal(b.data[i], 0);
        buf_free(&b, true);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_have_the_bytes_that_their_names_say),
                cmocka_unit_test(numbers_read_back_from_odd_addresses),
                cmocka_unit_test(big_endian_keys_sort_like_their_numbers),
                cmocka_unit_test(crc32c_gives_the_published_values),
                cmocka_unit_test(crc32c_is_the_same_with_and_without_the_cpu_instruction),
                cmocka_unit_test(crc32c_continues_over_parts),
                cmocka_unit_test(a_buffer_grows_and_keeps_what_it_holds),
                cmocka_unit_test(a_formatted_text_of_any_length_arrives_whole),
                cmocka_unit_test(a_maximum_can_be_filled_exactly_and_not_passed),
                cmocka_unit_test(an_error_sticks_until_the_reset),
                cmocka_unit_test(absurd_lengths_fail_instead_of_wrapping_round),
                cmocka_unit_test(an_extension_is_counted_and_never_null),
                cmocka_unit_test(a_wiping_reset_leaves_nothing_and_keeps_the_memory),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
