/* SPDX-License-Identifier: Apache-2.0
 * test_tables_opendsr.c: the table of requests that came by OpenDSR. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/store_fixture.h"

static void a_request_is_found_by_its_hash_and_by_its_erasure(void **state)
{
        struct fixture *f = *state;
        static const char urls[2][OPENDSR_URL_MAX + 1] = {"https://c.example/a",
                                                          "https://d.example/"};
        struct opendsr_row row = {.id = "a7551968-d5d6-44b2-9831-815ac9017798",
                                  .controller = "platform",
                                  .body = {1, 2, 3},
                                  .url_count = 2};
        struct opendsr_row got;
        char(*read)[OPENDSR_URL_MAX + 1] = NULL;
        uint8_t hash[OPENDSR_HASH_BYTES];
        struct txn *t = begin_write(f);
        memcpy(row.erasure, ID(5), ULID_BYTES);
        assert_int_equal(t_opendsr_get(t, ID(1), &got, &read), UL_NOT_FOUND);
        assert_null(read);
        assert_int_equal(t_opendsr_put(t, ID(1), &row, urls), 0);
        assert_int_equal(t_opendsr_get(t, ID(1), &got, &read), 0);
        assert_memory_equal(&got, &row, sizeof row);
        assert_string_equal(read[0], urls[0]);
        assert_string_equal(read[1], urls[1]);
        free(read);
        assert_int_equal(t_opendsr_get(t, ID(1), &got, NULL), 0);
        assert_int_equal(t_opendsr_of(t, ID(5), hash), 0);
        assert_memory_equal(hash, ID(1), sizeof hash);
        assert_int_equal(t_opendsr_of(t, ID(6), hash), UL_NOT_FOUND);
        commit(&t);
}

static void the_longest_addresses_fit(void **state)
{
        struct fixture *f = *state;
        char(*urls)[OPENDSR_URL_MAX + 1] = calloc(OPENDSR_URLS_MAX, sizeof *urls);
        char(*read)[OPENDSR_URL_MAX + 1] = NULL;
        struct opendsr_row row = {.url_count = OPENDSR_URLS_MAX}, got;
        assert_non_null(urls);
        for (uint32_t i = 0; i < row.url_count; i++)
                memset(urls[i], 'a' + (int)i, OPENDSR_URL_MAX);
        memset(row.controller, 'c', OPENDSR_CONTROLLER_MAX);
        struct txn *t = begin_write(f);
        assert_int_equal(t_opendsr_put(t, ID(1), &row, (const char(*)[OPENDSR_URL_MAX + 1]) urls),
                         0);
        assert_int_equal(t_opendsr_get(t, ID(1), &got, &read), 0);
        assert_memory_equal(read, urls, row.url_count * sizeof *urls);
        free(read);
        free(urls);
        commit(&t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_request_is_found_by_its_hash_and_by_its_erasure,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(the_longest_addresses_fit, fixture_setup,
                                                fixture_teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
