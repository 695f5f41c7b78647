/* SPDX-License-Identifier: Apache-2.0
 * test_ledger.c: the erasure ledger's format: what is appended is read back, what a crash tore is
 * cut off, what was changed is refused, whatever byte it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/ledger/ledger.h"
#include "lib/util/file.h"
#include "tests/unit/store_fixture.h"
#include <fcntl.h>

static const uint8_t key[KEY_BYTES] = "a pseudonym key, made for a test";

struct place {
        char dir[256];
        char file[300];
};

static int setup(void **state)
{
        struct place *p = calloc(1, sizeof *p);
        assert_non_null(p);
        assert_int_equal(crypto_init(), 0);
        fixture_dir(p->dir);
        (void)snprintf(p->file, sizeof p->file, "%s/%s", p->dir, LEDGER_FILE);
        *state = p;
        return 0;
}

static int teardown(void **state)
{
        struct place *p = *state;
        fixture_remove(p->dir);
        free(p);
        return 0;
}

static struct ledger *open_ledger(const struct place *p)
{
        struct ledger *l = NULL;
        struct errinfo e = {0};
        if (ledger_open(p->dir, key, &l, NULL, &e) != 0)
                fail_msg("ledger_open: %s", e.detail);
        return l;
}

static int try_open(const struct place *p, struct errinfo *e)
{
        struct ledger *l = NULL;
        *e = (struct errinfo){0};
        int err = ledger_open(p->dir, key, &l, NULL, e);
        ledger_close(&l);
        return err;
}

static void append_lift(struct ledger *l, unsigned id)
{
        struct ledger_entry x = {.kind = LEDGER_LIFT, .time_ms = id};
        struct buf lines = {0};
        fill(x.id, sizeof x.id, id);
        x.id[0] = 1; /* a ULID's first bits */
        ledger_entry_write(&lines, &x);
        assert_int_equal(ledger_append(l, &lines, NULL), 0);
        buf_free(&lines, false);
}

struct seen {
        unsigned count;
        int64_t times[64];
};

static int see(void *arg, const struct ledger_entry *x)
{
        struct seen *s = arg;
        assert_true(s->count < 64);
        s->times[s->count++] = x->time_ms;
        return 0;
}

static struct seen all_of(struct ledger *l)
{
        struct seen s = {0};
        assert_int_equal(ledger_each(l, NULL, see, &s, NULL), 0);
        return s;
}

static struct buf content_of(const char *file)
{
        struct buf b = {0};
        assert_int_equal(read_file(file, 1 << 20, &b, NULL), 0);
        return b;
}

static void write_content(const char *file, const void *data, size_t len)
{
        int fd = open(file, O_WRONLY | O_TRUNC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, len), (ssize_t)len);
        assert_int_equal(close(fd), 0);
}

/* --- entries --- */

static void check_an_erasure(bool held)
{
        char models[2][MODEL_NAME_MAX + 1] = {"digits", "adult-2"};
        uint8_t subjects[3][PSEUDONYM_BYTES];
        struct ledger_record records[2] = {{.model = "digits"}, {.model = "b"}};
        struct ledger_entry x = {.kind = LEDGER_ERASURE,
                                 .id = {1, 2, 3},
                                 .time_ms = 1769850000123,
                                 .received_ms = 1769850000000,
                                 .deadline_ms = 1772269200000,
                                 .regulation = 2,
                                 .reference = "DSR-1042",
                                 .models = models,
                                 .subjects = subjects,
                                 .records = records,
                                 .model_count = 2,
                                 .subject_count = 3,
                                 .record_count = 2};
        struct ledger_entry y;
        struct buf line = {0}, again = {0};
        fill(subjects, sizeof subjects, 1);
        fill(records[0].pseudonym, PSEUDONYM_BYTES, 2);
        fill(records[1].pseudonym, PSEUDONYM_BYTES, 3);
        if (held)
                fill(x.executed, sizeof x.executed, 4);
        else
                memcpy(x.executed, x.id, ULID_BYTES);
        ledger_entry_write(&line, &x);
        assert_int_equal(line.data[0], held ? 'h' : 'e');
        assert_int_equal(ledger_entry_parse((char *)line.data, line.len - 1, &y, NULL), 0);
        assert_memory_equal(y.id, x.id, ULID_BYTES);
        assert_memory_equal(y.executed, x.executed, ULID_BYTES);
        assert_int_equal(y.deadline_ms, x.deadline_ms);
        assert_string_equal(y.reference, "DSR-1042");
        assert_memory_equal(y.subjects, subjects, sizeof subjects);
        ledger_entry_write(&again, &y);
        assert_int_equal(again.len, line.len);
        assert_memory_equal(again.data, line.data, line.len);
        ledger_entry_clear(&y);
        buf_free(&line, false);
        buf_free(&again, false);
}

static void an_erasure_is_read_as_it_was_written(void **state)
{
        (void)state;
        check_an_erasure(false);
        check_an_erasure(true);
}

static void an_import_is_read_as_it_was_written(void **state)
{
        struct ledger_suppression s[2] = {{.since_ms = 1769850000123, .erasure = {9, 8, 7}},
                                          {.record = true, .model = "digits", .since_ms = 5}};
        struct ledger_entry x = {.kind = LEDGER_IMPORT,
                                 .id = {1, 2, 3},
                                 .time_ms = 1769850000124,
                                 .suppressions = s,
                                 .suppression_count = 2};
        struct ledger_entry y;
        struct buf line = {0}, again = {0};
        (void)state;
        fill(s[0].pseudonym, PSEUDONYM_BYTES, 1);
        fill(s[1].pseudonym, PSEUDONYM_BYTES, 2);
        ledger_entry_write(&line, &x);
        assert_int_equal(ledger_entry_parse((char *)line.data, line.len - 1, &y, NULL), 0);
        assert_int_equal(y.kind, LEDGER_IMPORT);
        assert_int_equal(y.suppression_count, 2);
        assert_false(y.suppressions[0].record);
        assert_string_equal(y.suppressions[0].model, "");
        assert_memory_equal(y.suppressions[0].erasure, s[0].erasure, ULID_BYTES);
        assert_true(y.suppressions[1].record);
        assert_string_equal(y.suppressions[1].model, "digits");
        ledger_entry_write(&again, &y);
        assert_int_equal(again.len, line.len);
        assert_memory_equal(again.data, line.data, line.len);
        ledger_entry_clear(&y);
        buf_free(&line, false);
        buf_free(&again, false);
}

static void the_longest_import_fits_a_line(void **state)
{
        struct ledger_suppression *s = calloc(LEDGER_IMPORT_MAX, sizeof *s);
        struct ledger_entry x = {
                .kind = LEDGER_IMPORT, .time_ms = 253402300799999, .suppressions = s};
        struct buf line = {0};
        (void)state;
        assert_non_null(s);
        for (; x.suppression_count < LEDGER_IMPORT_MAX; x.suppression_count++) {
                memset(s[x.suppression_count].model, 'm', MODEL_NAME_MAX);
                s[x.suppression_count].since_ms = 253402300799999; /* of the year 9999 */
        }
        ledger_entry_write(&line, &x);
        assert_true(line.len < LEDGER_LINE_MAX - 1024);
        buf_free(&line, false);
        free(s);
}

static void a_line_that_the_writer_would_not_make_is_refused(void **state)
{
#define ID_TEXT "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define ID_TEXT2 "01ARZ3NDEKTSV4RRFFQ69G5FAW"
#define HEX "000102030405060708090a0b0c0d0e0f"
        static const char *const good[] = {
                "e " ID_TEXT " 1 2 3 0 - * " HEX " -",
                "e " ID_TEXT " 1 2 3 0 - a,b - a:" HEX,
                "h " ID_TEXT " " ID_TEXT2 " 1 2 3 0 - * " HEX " -",
                "l " ID_TEXT " 1 " HEX,
                "i " ID_TEXT " 1 s:*:" HEX ":" ID_TEXT ":5",
                "i " ID_TEXT " 1 r:a:" HEX ":" ID_TEXT ":5,s:b:" HEX ":" ID_TEXT ":6",
        };
        static const char *const bad[] = {
                "",
                "e",
                "x " ID_TEXT " 1 2 3 0 - * " HEX " -",
                "e 01ARZ3NDEKTSV4RRFFQ69G5FA 1 2 3 0 - * " HEX " -",
                "e " ID_TEXT " -1 2 3 0 - * " HEX " -",
                "e " ID_TEXT " 99999999999999999999 2 3 0 - * " HEX " -",
                "e " ID_TEXT " 1 2 3 256 - * " HEX " -",
                "e " ID_TEXT " 1 2 3 0 - ../x " HEX " -",
                "e " ID_TEXT " 1 2 3 0 - a,, " HEX " -",
                "e " ID_TEXT " 1 2 3 0 - * " HEX "0 -",
                "e " ID_TEXT " 1 2 3 0 - * " HEX ", -",
                "e " ID_TEXT " 1 2 3 0 - * " HEX,
                "e " ID_TEXT " 1 2 3 0 - * " HEX " " HEX,
                "e " ID_TEXT " 1 2 3 0 - * " HEX " - more",
                "h " ID_TEXT " 1 2 3 0 - * " HEX " -",
                "h " ID_TEXT " " ID_TEXT " 1 2 3 0 - * " HEX " -",
                "l " ID_TEXT " 1 " HEX " more",
                "l " ID_TEXT " 1",
                "il " ID_TEXT " 1 " HEX,
                "i " ID_TEXT " 1",
                "i " ID_TEXT " 1 ",
                "i " ID_TEXT " 1 x:*:" HEX ":" ID_TEXT ":5",
                "i " ID_TEXT " 1 s::" HEX ":" ID_TEXT ":5",
                "i " ID_TEXT " 1 s:../x:" HEX ":" ID_TEXT ":5",
                "i " ID_TEXT " 1 s:*:" HEX "0:" ID_TEXT ":5",
                "i " ID_TEXT " 1 s:*:" HEX ":" ID_TEXT "0:5",
                "i " ID_TEXT " 1 s:*:" HEX ":" ID_TEXT ":-5",
                "i " ID_TEXT " 1 s:*:" HEX ":" ID_TEXT ":5:6",
                "i " ID_TEXT " 1 s:*:" HEX ":" ID_TEXT ":5,",
                "i " ID_TEXT " 1 s:*:" HEX ":" ID_TEXT ":5 more",
        };
        struct ledger_entry x;
        (void)state;
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                assert_int_equal(ledger_entry_parse(good[i], strlen(good[i]), &x, NULL), 0);
                ledger_entry_clear(&x);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                if (ledger_entry_parse(bad[i], strlen(bad[i]), &x, NULL) != UL_CORRUPT)
                        fail_msg("taken: %s", bad[i]);
}

/* --- the file --- */

static void entries_come_back_in_order_after_a_reopening(void **state)
{
        struct ledger *l = open_ledger(*state);
        for (unsigned i = 1; i <= 20; i++)
                append_lift(l, i);
        ledger_close(&l);
        l = open_ledger(*state);
        append_lift(l, 21);
        struct seen s = all_of(l);
        assert_int_equal(s.count, 21);
        for (unsigned i = 0; i < s.count; i++)
                assert_int_equal(s.times[i], i + 1);
        ledger_close(&l);
}

static void the_file_is_the_same_bytes_on_every_machine(void **state)
{
        static const char golden[] =
                "unlearnd-ledger 1 4a33fb8d60357d6a9550bd59dfecec0f "
                "af7be123defad0263e2cdf1f7913c9c3\n"
                "l 01YCC3TRM7NK8ZC6T0CP5AZN7S 7 00000000000000000000000000000000 "
                "c7c8d048de9091850e721f4211d2363a\n"
                ". 1 65b7bfc425f231fd6e08bed1a6e5f2b1\n";
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        append_lift(l, 7);
        ledger_close(&l);
        struct buf b = content_of(p->file);
        assert_int_equal(b.len, sizeof golden - 1);
        assert_memory_equal(b.data, golden, sizeof golden - 1);
        buf_free(&b, false);
}

static void a_ledger_of_another_key_is_refused(void **state)
{
        struct place *p = *state;
        uint8_t other[KEY_BYTES] = "another key";
        struct ledger *l = open_ledger(p);
        struct errinfo e = {0};
        ledger_close(&l);
        assert_int_equal(ledger_open(p->dir, other, &l, NULL, &e), UL_CONFLICT);
        assert_null(l);
        assert_non_null(strstr(e.detail, "another installation"));
}

static void two_writers_are_refused(void **state)
{
        struct errinfo e;
        struct ledger *l = open_ledger(*state);
        assert_int_equal(try_open(*state, &e), UL_CONFLICT);
        ledger_close(&l);
        assert_int_equal(try_open(*state, &e), 0);
}

/* Every length of the file that a crash in the last append can leave. */
static void a_torn_end_is_cut_off_at_every_length(void **state)
{
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        struct ledger_mark before, after;
        append_lift(l, 1);
        ledger_end(l, &before);
        append_lift(l, 2);
        ledger_end(l, &after);
        ledger_close(&l);
        struct buf b = content_of(p->file);
        assert_int_equal(b.len, after.bytes);
        for (size_t len = before.bytes; len < after.bytes; len++) {
                uint64_t torn = 0;
                write_content(p->file, b.data, len);
                assert_int_equal(ledger_open(p->dir, key, &l, &torn, NULL), 0);
                assert_int_equal(torn, len - before.bytes);
                assert_int_equal(all_of(l).count, 1);
                append_lift(l, 3);
                assert_int_equal(all_of(l).count, 2);
                ledger_close(&l);
        }
        buf_free(&b, false);
}

static void a_probe_leaves_nothing_and_what_a_crash_leaves_of_one_is_cut_off(void **state)
{
        enum { PROBE = 4096 };
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        uint64_t torn = 0;
        append_lift(l, 1);
        struct buf before = content_of(p->file);
        assert_int_equal(ledger_probe(l, NULL), 0);
        struct buf after = content_of(p->file);
        assert_int_equal(after.len, before.len);
        assert_memory_equal(after.data, before.data, before.len);
        append_lift(l, 2);
        assert_int_equal(all_of(l).count, 2);
        ledger_close(&l);
        buf_reset(&after, false);
        buf_append(&after, before.data, before.len);
        for (int i = 0; i < PROBE; i++)
                buf_append(&after, "", 1);
        write_content(p->file, after.data, after.len);
        assert_int_equal(ledger_open(p->dir, key, &l, &torn, NULL), 0);
        assert_int_equal(torn, PROBE);
        assert_int_equal(all_of(l).count, 1);
        ledger_close(&l);
        buf_free(&before, false);
        buf_free(&after, false);
}

/* The size was written and some blocks of the last group were not. */
static void a_last_group_with_blocks_of_zeros_is_cut_off(void **state)
{
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        struct ledger_mark before, after;
        append_lift(l, 1);
        ledger_end(l, &before);
        append_lift(l, 2);
        ledger_end(l, &after);
        ledger_close(&l);
        struct buf b = content_of(p->file);
        memset(b.data + before.bytes, 0, 20);
        write_content(p->file, b.data, b.len);
        l = open_ledger(p);
        assert_int_equal(all_of(l).count, 1);
        ledger_close(&l);
        buf_free(&b, false);
}

/* Bits of every byte, the last one excepted: without its newline a line is not whole yet. */
static void every_flipped_byte_is_refused(void **state)
{
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        unsigned refused = 0;
        for (unsigned i = 1; i <= 3; i++)
                append_lift(l, i);
        ledger_close(&l);
        struct buf b = content_of(p->file);
        for (size_t at = 0; at + 1 < b.len; at++) {
                struct errinfo e;
                b.data[at] ^= 0x01;
                write_content(p->file, b.data, b.len);
                int err = try_open(p, &e);
                if (err != UL_CORRUPT && err != UL_CONFLICT)
                        fail_msg("byte %zu: %s", at, ul_err_name(err));
                refused++;
                b.data[at] ^= 0x01;
        }
        write_content(p->file, b.data, b.len);
        l = open_ledger(p);
        assert_int_equal(all_of(l).count, 3);
        ledger_close(&l);
        print_message("figure: ledger bytes flipped %zu, refused %u\n", b.len - 1, refused);
        buf_free(&b, false);
}

static void a_line_that_is_missing_in_the_middle_is_refused(void **state)
{
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        struct ledger_mark one, two;
        struct errinfo e;
        append_lift(l, 1);
        ledger_end(l, &one);
        append_lift(l, 2);
        ledger_end(l, &two);
        append_lift(l, 3);
        ledger_close(&l);
        struct buf b = content_of(p->file);
        memmove(b.data + one.bytes, b.data + two.bytes, b.len - two.bytes);
        write_content(p->file, b.data, b.len - (two.bytes - one.bytes));
        assert_int_equal(try_open(p, &e), UL_CORRUPT);
        assert_non_null(strstr(e.detail, "damaged after byte"));
        buf_free(&b, false);
}

static void a_place_is_known_only_where_the_ledger_went_through_it(void **state)
{
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        struct ledger_mark at, other;
        struct seen s = {0};
        bool has = false;
        append_lift(l, 1);
        ledger_end(l, &at);
        append_lift(l, 2);
        assert_int_equal(ledger_has(l, &at, &has, NULL), 0);
        assert_true(has);
        assert_int_equal(ledger_each(l, &at, see, &s, NULL), 0);
        assert_int_equal(s.count, 1);
        assert_int_equal(s.times[0], 2);
        other = at;
        other.check[3] ^= 1;
        assert_int_equal(ledger_has(l, &other, &has, NULL), 0);
        assert_false(has);
        other = at;
        other.bytes = UINT64_MAX;
        assert_int_equal(ledger_has(l, &other, &has, NULL), 0);
        assert_false(has);
        ledger_close(&l);
}

static void a_group_that_is_taken_back_leaves_no_trace(void **state)
{
        struct place *p = *state;
        struct ledger *l = open_ledger(p);
        struct ledger_mark before, after;
        append_lift(l, 1);
        ledger_end(l, &before);
        append_lift(l, 2);
        ledger_take_back(l);
        ledger_take_back(l); /* once only */
        ledger_end(l, &after);
        assert_int_equal(after.bytes, before.bytes);
        append_lift(l, 3);
        ledger_close(&l);
        l = open_ledger(p);
        struct seen s = all_of(l);
        assert_int_equal(s.count, 2);
        assert_int_equal(s.times[1], 3);
        ledger_close(&l);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_erasure_is_read_as_it_was_written),
                cmocka_unit_test(an_import_is_read_as_it_was_written),
                cmocka_unit_test(the_longest_import_fits_a_line),
                cmocka_unit_test(a_line_that_the_writer_would_not_make_is_refused),
#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                FILE_TEST(entries_come_back_in_order_after_a_reopening),
                FILE_TEST(the_file_is_the_same_bytes_on_every_machine),
                FILE_TEST(a_ledger_of_another_key_is_refused),
                FILE_TEST(two_writers_are_refused),
                FILE_TEST(a_torn_end_is_cut_off_at_every_length),
                FILE_TEST(a_probe_leaves_nothing_and_what_a_crash_leaves_of_one_is_cut_off),
                FILE_TEST(a_last_group_with_blocks_of_zeros_is_cut_off),
                FILE_TEST(every_flipped_byte_is_refused),
                FILE_TEST(a_line_that_is_missing_in_the_middle_is_refused),
                FILE_TEST(a_place_is_known_only_where_the_ledger_went_through_it),
                FILE_TEST(a_group_that_is_taken_back_leaves_no_trace),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
