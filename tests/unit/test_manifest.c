/* SPDX-License-Identifier: Apache-2.0
 * test_manifest.c: what a backup says of itself is read back as it was written, and nothing else
 * is: no changed byte, no path that leaves the backup. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/backup/copy.h"
#include "lib/backup/manifest.h"
#include "lib/util/file.h"
#include "tests/unit/store_fixture.h"
#include <fcntl.h>

static int setup(void **state)
{
        (void)state;
        return crypto_init();
}

static void add(struct backup_manifest *m, const char *path, uint64_t bytes)
{
        struct backup_file f = {.bytes = bytes};
        (void)snprintf(f.path, sizeof f.path, "%s", path);
        fill(f.sha256, sizeof f.sha256, (unsigned)bytes);
        assert_int_equal(manifest_add(m, &f), 0);
}

static struct backup_manifest sample(void)
{
        struct backup_manifest m = {.created_ms = 1769850000123,
                                    .version = "0.1.0",
                                    .with_keys = true,
                                    .erasures = 7,
                                    .has_last_erasure = true,
                                    .last_erasure = {1, 2, 3},
                                    .audit_size = 99,
                                    .has_ledger = true,
                                    .ledger_bytes = 4711};
        fill(m.identity, sizeof m.identity, 3);
        fill(m.ledger_check, sizeof m.ledger_check, 4);
        add(&m, "control.mdb", 40960);
        add(&m, "keys/log.key", 32);
        add(&m, "models/digits/shard-000/slice-001.rows", 0);
        return m;
}

static struct buf text_of(const struct backup_manifest *m)
{
        struct buf b = {0};
        manifest_write(m, &b);
        assert_false(b.failed);
        return b;
}

static int parse(const char *text, size_t len)
{
        struct backup_manifest m;
        int err = manifest_parse(text, len, &m, NULL);
        manifest_clear(&m);
        return err;
}

static void a_manifest_is_read_as_it_was_written(void **state)
{
        struct backup_manifest m = sample(), read;
        struct buf text = text_of(&m), again;
        (void)state;
        assert_int_equal(manifest_parse((char *)text.data, text.len, &read, NULL), 0);
        assert_int_equal(read.file_count, 3);
        assert_int_equal(read.erasures, 7);
        assert_int_equal(manifest_bytes(&read), 40960 + 32);
        assert_string_equal(read.files[2].path, "models/digits/shard-000/slice-001.rows");
        again = text_of(&read);
        assert_int_equal(again.len, text.len);
        assert_memory_equal(again.data, text.data, text.len);
        buf_free(&again, false);
        buf_free(&text, false);
        manifest_clear(&read);
        manifest_clear(&m);
}

static void one_without_keys_erasures_and_ledger_is_read_too(void **state)
{
        struct backup_manifest m = {.version = "0.1.0"}, read;
        (void)state;
        add(&m, "control.mdb", 1);
        struct buf text = text_of(&m);
        assert_int_equal(manifest_parse((char *)text.data, text.len, &read, NULL), 0);
        assert_false(read.with_keys || read.has_last_erasure || read.has_ledger);
        buf_free(&text, false);
        manifest_clear(&read);
        manifest_clear(&m);
}

static void every_changed_byte_and_every_cut_is_refused(void **state)
{
        struct backup_manifest m = sample();
        struct buf text = text_of(&m);
        (void)state;
        for (size_t at = 0; at < text.len; at++) {
                for (unsigned bit = 0; bit < 8; bit++) {
                        text.data[at] ^= (uint8_t)(1u << bit);
                        /* hex digits are read in either case: the same manifest */
                        int err = parse((char *)text.data, text.len);
                        if (err == 0 && bit != 5)
                                fail_msg("byte %zu bit %u is taken", at, bit);
                        text.data[at] ^= (uint8_t)(1u << bit);
                }
                assert_int_equal(parse((char *)text.data, at), UL_CORRUPT);
        }
        buf_free(&text, false);
        manifest_clear(&m);
}

static void a_path_that_leaves_the_backup_is_refused(void **state)
{
        static const char *const bad[] = {"/etc/passwd", "../x", "models/../../x", "models//x",
                                          "models/./x",  "",     ".hidden",        "models/",
                                          "a b",         "x\\y", "Models/x",       "models/.x"};
        static const char *const good[] = {"control.mdb", "a-b/c_d/e.1"};
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct backup_manifest m = {.version = "0.1.0"};
                add(&m, bad[i], 1);
                struct buf text = text_of(&m);
                if (parse((char *)text.data, text.len) != UL_CORRUPT)
                        fail_msg("taken: %s", bad[i]);
                buf_free(&text, false);
                manifest_clear(&m);
        }
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                struct backup_manifest m = {.version = "0.1.0"};
                add(&m, good[i], 1);
                struct buf text = text_of(&m);
                assert_int_equal(parse((char *)text.data, text.len), 0);
                buf_free(&text, false);
                manifest_clear(&m);
        }
}

static void a_path_that_stands_twice_is_refused(void **state)
{
        struct backup_manifest m = {.version = "0.1.0"};
        (void)state;
        add(&m, "control.mdb", 1);
        add(&m, "control.mdb", 2);
        struct buf text = text_of(&m);
        assert_int_equal(parse((char *)text.data, text.len), UL_CORRUPT);
        buf_free(&text, false);
        manifest_clear(&m);
}

static bool count_steps(void *arg, uint64_t bytes)
{
        uint64_t *left = arg;
        if (*left < bytes)
                return false;
        *left -= bytes;
        return true;
}

static void a_copy_is_cut_at_its_limit_watched_and_broken_off(void **state)
{
        char dir[256], from[300], to[300];
        uint64_t bytes = 0, left = 1 << 20;
        uint8_t sum[SHA256_BYTES], wanted[SHA256_BYTES];
        struct copy_watch watch = {.step = count_steps, .arg = &left};
        (void)state;
        fixture_dir(dir);
        (void)snprintf(from, sizeof from, "%s/from", dir);
        (void)snprintf(to, sizeof to, "%s/to", dir);
        assert_int_equal(copy_file(from, to, UINT64_MAX, NULL, &bytes, NULL), UL_NOT_FOUND);
        assert_int_equal(write_file_durably(from, "0123456789", 10, NULL), 0);
        assert_int_equal(copy_file(from, to, 4, &watch, &bytes, NULL), 0);
        assert_int_equal(bytes, 4);
        assert_int_equal(copy_file(from, to, 4, &watch, &bytes, NULL), UL_IO); /* it exists */
        assert_int_equal(hash_file(to, true, NULL, &bytes, sum, NULL), 0);
        sha256("0123", 4, wanted);
        assert_memory_equal(sum, wanted, sizeof sum);
        left = 3;
        assert_int_equal(hash_file(to, false, &watch, &bytes, sum, NULL), UL_CLOSED);
        fixture_remove(dir);
}

static bool cut_source(void *arg, uint64_t bytes)
{
        return bytes > 0 && truncate(arg, 0) == 0;
}

static void a_file_that_is_cut_short_while_it_is_copied_is_told(void **state)
{
        char dir[256], from[300], to[300];
        uint64_t bytes = 0;
        struct copy_watch watch = {.step = cut_source, .arg = from};
        (void)state;
        fixture_dir(dir);
        (void)snprintf(from, sizeof from, "%s/from", dir);
        (void)snprintf(to, sizeof to, "%s/to", dir);
        assert_int_equal(write_file_durably(from, "x", 1, NULL), 0);
        assert_int_equal(truncate(from, 3 << 20), 0);
        assert_int_equal(copy_file(from, to, UINT64_MAX, &watch, &bytes, NULL), UL_CORRUPT);
        fixture_remove(dir);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_manifest_is_read_as_it_was_written),
                cmocka_unit_test(one_without_keys_erasures_and_ledger_is_read_too),
                cmocka_unit_test(every_changed_byte_and_every_cut_is_refused),
                cmocka_unit_test(a_path_that_leaves_the_backup_is_refused),
                cmocka_unit_test(a_path_that_stands_twice_is_refused),
                cmocka_unit_test(a_copy_is_cut_at_its_limit_watched_and_broken_off),
                cmocka_unit_test(a_file_that_is_cut_short_while_it_is_copied_is_told),
        };
        return cmocka_run_group_tests(tests, setup, NULL);
}
