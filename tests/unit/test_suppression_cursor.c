/* SPDX-License-Identifier: Apache-2.0
 * test_suppression_cursor.c: pages of suppressions, walked against a list of entries that the
 * service would give, with any page size: each entry once, none lost, also while others are lifted.
 */
#include "api/suppression_cursor.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Whose the entries are, in order, by one letter. */
static void pseudonym_of_letter(char c, uint8_t out[PSEUDONYM_BYTES])
{
        memset(out, c, PSEUDONYM_BYTES);
}

/* As service_suppression_list: what comes after `previous`, whose entries are skipped whole. Adds
 * the letters of one page to `got`; returns whether another page follows, from *cursor. */
static bool page(const char *entries, unsigned limit, char *cursor, char *got)
{
        struct suppression_cursor c = {0};
        char next[SUPPRESSION_CURSOR_SIZE] = "";
        unsigned count = 0;
        if (cursor[0] != '\0')
                assert_true(suppression_cursor_parse(cursor, &c));
        for (const char *p = entries; *p != '\0'; p++) {
                uint8_t pseudonym[PSEUDONYM_BYTES];
                pseudonym_of_letter(*p, pseudonym);
                if (c.has_previous && memcmp(pseudonym, c.previous, PSEUDONYM_BYTES) <= 0)
                        continue;
                if (!suppression_cursor_visit(&c, pseudonym))
                        continue;
                if (count == limit) {
                        memcpy(cursor, next, sizeof(next));
                        return true;
                }
                count++;
                strncat(got, p, 1);
                suppression_cursor_format(&c, next);
        }
        return false;
}

static void every_entry_comes_once_for_any_page_size(void **state)
{
        (void)state;
        static const char *const lists[] = {"",           "a",         "aaaa",         "abcd",
                                            "aabbbccccd", "abbbbbbbc", "aaaaaabcccccc"};
        for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
                for (unsigned limit = 1; limit <= 15; limit++) {
                        char cursor[SUPPRESSION_CURSOR_SIZE] = "", got[64] = "";
                        unsigned pages = 1;
                        while (page(lists[i], limit, cursor, got))
                                assert_true(pages++ < 32);
                        assert_string_equal(got, lists[i]);
                }
        }
}

static void lifting_others_between_pages_loses_nobody(void **state)
{
        (void)state;
        char cursor[SUPPRESSION_CURSOR_SIZE] = "", got[64] = "";
        assert_true(page("aabbbcc", 4, cursor, got)); /* ends within b */
        assert_string_equal(got, "aabb");
        char before[SUPPRESSION_CURSOR_SIZE];
        memcpy(before, cursor, sizeof(before));
        got[0] = '\0';
        assert_false(page("bbbcc", 9, cursor, got)); /* a is lifted */
        assert_string_equal(got, "bcc");
        got[0] = '\0';
        memcpy(cursor, before, sizeof(before));
        assert_false(page("aacc", 9, cursor, got)); /* b is lifted */
        assert_string_equal(got, "cc");
}

static void what_is_no_cursor_is_refused(void **state)
{
        (void)state;
        static const char *const bad[] = {
                "",
                ".",
                "..",
                "..1",
                ".61616161616161616161616161616161.",
                ".61616161616161616161616161616161.x",
                ".61616161616161616161616161616161.-1",
                ".61616161616161616161616161616161.1 ",
                ".61616161616161616161616161616161.9999999999",
                ".616161616161616161616161616161.1",
                ".6161616161616161616161616161616g.1",
                "61.61616161616161616161616161616161.1",
                "61616161616161616161616161616161.1",
                ".61616161616161616161616161616161.1.1",
        };
        struct suppression_cursor c;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_false(suppression_cursor_parse(bad[i], &c));
        assert_true(suppression_cursor_parse(".61616161616161616161616161616161.1", &c));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_entry_comes_once_for_any_page_size),
                cmocka_unit_test(lifting_others_between_pages_loses_nobody),
                cmocka_unit_test(what_is_no_cursor_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
