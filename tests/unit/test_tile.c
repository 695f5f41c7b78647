/* SPDX-License-Identifier: Apache-2.0
 * test_tile.c: tile paths, and the tiles of a log against those that another implementation
 * published and against what proofs say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/note.h"
#include "lib/audit/tile.h"
#include "lib/util/file.h"
#include "tests/unit/audit_fixture.h"
#include "tests/unit/vectors.h"
#include <string.h>

static void paths_read_back_as_they_are_written(void **state)
{
        static const struct {
                const char *path;
                struct tile tile;
        } cases[] = {
                {"0/000", {false, 0, 0, 256}},
                {"0/000.p/1", {false, 0, 0, 1}},
                {"7/999.p/255", {false, 7, 999, 255}},
                {"0/x001/000", {false, 0, 1000, 256}},
                {"1/x001/x234/067", {false, 1, 1234067, 256}},
                {"entries/x001/x000/000.p/99", {true, 0, 1000000, 99}},
                {"0/x018/x446/x744/x073/x709/x551/615", {false, 0, UINT64_MAX, 256}},
        };
        char text[TILE_PATH_SIZE];
        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                struct tile got;
                memset(&got, 0xff, sizeof got);
                assert_int_equal(tile_path_parse(cases[i].path, &got, NULL), 0);
                assert_int_equal(got.entries, cases[i].tile.entries);
                assert_int_equal(got.level, cases[i].tile.level);
                assert_true(got.index == cases[i].tile.index);
                assert_int_equal(got.width, cases[i].tile.width);
                assert_string_equal(tile_path_format(&got, text), cases[i].path);
        }
}

static void what_is_not_the_one_way_to_write_it_is_refused(void **state)
{
        static const char *const bad[] = {"",
                                          "0",
                                          "0/",
                                          "/000",
                                          "8/000",
                                          "00/000",
                                          "-1/000",
                                          "x/000",
                                          "0/0",
                                          "0/00",
                                          "0/0000",
                                          "0/000/",
                                          "0/000/000",
                                          "0/x000/000",
                                          "0/x001",
                                          "0/x001/",
                                          "0/x01/000",
                                          "0/X001/000",
                                          "0/001/000",
                                          "0/000.p",
                                          "0/000.p/",
                                          "0/000.p/0",
                                          "0/000.p/01",
                                          "0/000.p/256",
                                          "0/000.p/1/",
                                          "0/000.p/-1",
                                          "entries",
                                          "entries/",
                                          "entries/x000/001",
                                          "data/000",
                                          "0/x018/x446/x744/x073/x709/x551/616",
                                          "0/../000",
                                          "0/000 ",
                                          "4294967296/000"};
        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                struct tile t;
                struct errinfo e = {0};
                if (tile_path_parse(bad[i], &t, &e) != UL_SYNTAX)
                        fail_msg("taken: %s", bad[i]);
                assert_non_null(strstr(e.detail, "x001/x234/067"));
        }
}

static void a_tile_has_what_the_log_has_of_it(void **state)
{
        static const struct {
                struct tile tile;
                uint64_t size;
                uint32_t width;
        } cases[] = {
                {{false, 0, 0, 0}, 0, 0},          {{false, 0, 0, 0}, 1, 1},
                {{false, 0, 0, 0}, 300, 256},      {{false, 0, 1, 0}, 300, 44},
                {{false, 0, 2, 0}, 300, 0},        {{false, 1, 0, 0}, 255, 0},
                {{false, 1, 0, 0}, 513, 2},        {{true, 0, 1, 0}, 257, 1},
                {{false, 2, 0, 0}, 1 << 17, 2},    {{false, 7, 0, 0}, UINT64_MAX, 255},
                {{false, 0, UINT64_MAX, 0}, 5, 0},
        };
        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                assert_int_equal(tile_available(&cases[i].tile, cases[i].size), cases[i].width);
}

/* --- a log of our own --- */

static struct buf tile_of(struct fixture *f, const char *path)
{
        struct tile tile;
        struct buf out = {0};
        struct errinfo e = {0};
        struct txn *t = begin_read(f);
        assert_int_equal(tile_path_parse(path, &tile, NULL), 0);
        if (audit_tile(t, &tile, &out, &e) != 0)
                fail_msg("%s: %s", path, e.detail);
        txn_abort(&t);
        return out;
}

static void tiles_make_the_root_and_entries_make_the_tiles(void **state)
{
        enum { SIZE = 600 };
        static const char *const hashes[] = {"0/000", "0/001", "0/002.p/88"};
        static const char *const entries[] = {"entries/000", "entries/001", "entries/002.p/88"};
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct merkle_frontier all = {0};
        uint8_t root[SHA256_BYTES], want[SHA256_BYTES], leaf[SHA256_BYTES];
        grow(f, log, 0, SIZE);
        for (size_t i = 0; i < 3; i++) {
                struct buf h = tile_of(f, hashes[i]), data = tile_of(f, entries[i]);
                const uint8_t *p = data.data, *end = data.data + data.len;
                for (size_t k = 0; k < h.len; k += SHA256_BYTES) {
                        assert_true(end - p > 2);
                        size_t len = (size_t)p[0] << 8 | p[1];
                        assert_true((size_t)(end - p) >= 2 + len);
                        merkle_leaf(p + 2, len, leaf);
                        assert_memory_equal(leaf, h.data + k, sizeof leaf);
                        merkle_frontier_add(&all, leaf);
                        p += 2 + len;
                }
                assert_ptr_equal(p, end);
                buf_free(&h, false);
                buf_free(&data, false);
        }
        assert_int_equal(all.size, SIZE);
        merkle_frontier_root(&all, root);
        struct txn *t = begin_read(f);
        assert_int_equal(audit_root(t, SIZE, want, NULL), 0);
        assert_memory_equal(root, want, sizeof root);
        /* level 1: the roots of 256 leaves each */
        struct buf upper = tile_of(f, "1/000.p/2");
        assert_int_equal(audit_root(t, 256, want, NULL), 0);
        assert_int_equal(upper.len, 2 * SHA256_BYTES);
        assert_memory_equal(upper.data, want, sizeof want);
        buf_free(&upper, false);
        txn_abort(&t);
        audit_close(&log);
}

static void a_tile_that_is_not_full_yet_is_had_at_its_width_and_no_wider(void **state)
{
        struct fixture *f = *state;
        struct audit_log *log = open_good(f);
        struct txn *t;
        struct buf out = {0};
        static const char *const absent[] = {"0/000.p/4", "0/000",           "0/001.p/1",
                                             "1/000.p/1", "entries/000.p/4", "7/000"};
        grow(f, log, 0, 3);
        t = begin_read(f);
        for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
                struct tile tile;
                assert_int_equal(tile_path_parse(absent[i], &tile, NULL), 0);
                assert_int_equal(audit_tile(t, &tile, &out, NULL), UL_NOT_FOUND);
                assert_int_equal(out.len, 0);
        }
        txn_abort(&t);
        out = tile_of(f, "0/000.p/2"); /* of an earlier checkpoint */
        assert_int_equal(out.len, 2 * SHA256_BYTES);
        buf_free(&out, false);
        audit_close(&log);
}

/* --- a log of somebody else's --- */

static struct buf published(const char *dir, const char *name)
{
        char path[512];
        struct buf b = {0};
        struct errinfo e = {0};
        (void)snprintf(path, sizeof path, "%s/log/%s", dir, name);
        if (read_file(path, 1 << 20, &b, &e) != 0)
                fail_msg("%s: %s", path, e.detail);
        return b;
}

static void the_tiles_of_a_published_log_hold(void **state)
{
        static const char vkey[] = "example.com/log/testdata+33d7b496+"
                                   "AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
        enum { LAST = 15 };
        char dir[256];
        struct note_key key;
        (void)state;
        if (!vectors_unpack("tlog-tiles-log.tar.gz", dir))
                skip();
        assert_int_equal(note_vkey_parse(vkey, strlen(vkey), &key, NULL), 0);
        for (uint32_t size = 1; size <= LAST; size++) {
                struct tile h = {false, 0, 0, size}, d = {true, 0, 0, size};
                char name[TILE_PATH_SIZE + 16], path[TILE_PATH_SIZE];
                struct merkle_frontier all = {0};
                struct checkpoint c;
                uint8_t leaf[SHA256_BYTES], root[SHA256_BYTES];
                (void)snprintf(name, sizeof name, "tile/%s", tile_path_format(&h, path));
                struct buf hashes = published(dir, name);
                (void)snprintf(name, sizeof name, "tile/%s", tile_path_format(&d, path));
                struct buf entries = published(dir, name);
                (void)snprintf(name, sizeof name, "checkpoint.%u", size);
                struct buf note = published(dir, name);
                assert_int_equal(hashes.len, size * SHA256_BYTES);
                const uint8_t *p = entries.data;
                for (uint32_t i = 0; i < size; i++) {
                        size_t len = (size_t)p[0] << 8 | p[1];
                        assert_true(p + 2 + len <= entries.data + entries.len);
                        merkle_leaf(p + 2, len, leaf);
                        assert_memory_equal(leaf, hashes.data + i * SHA256_BYTES, sizeof leaf);
                        merkle_frontier_add(&all, leaf);
                        p += 2 + len;
                }
                assert_int_equal(
                        checkpoint_verify((const char *)note.data, note.len, &key, &c, NULL), 0);
                merkle_frontier_root(&all, root);
                assert_int_equal(c.size, size);
                assert_memory_equal(c.root, root, sizeof root);
                buf_free(&hashes, false);
                buf_free(&entries, false);
                buf_free(&note, false);
        }
        vectors_remove(dir);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(paths_read_back_as_they_are_written),
                cmocka_unit_test(what_is_not_the_one_way_to_write_it_is_refused),
                cmocka_unit_test(a_tile_has_what_the_log_has_of_it),
                CASE(tiles_make_the_root_and_entries_make_the_tiles),
                CASE(a_tile_that_is_not_full_yet_is_had_at_its_width_and_no_wider),
                cmocka_unit_test(the_tiles_of_a_published_log_hold),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
