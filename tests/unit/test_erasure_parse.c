/* SPDX-License-Identifier: Apache-2.0
 * test_erasure_parse.c: the body of an erasure. Pseudonyms are stood in for by the first bytes of
 * the id, so that a test can see which ids were hashed, and how often. */
#include "api/erasure_parse.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned hashed;

static void first_bytes(void *arg, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES])
{
        assert_ptr_equal(arg, &hashed);
        hashed++;
        memset(out, 0, PSEUDONYM_BYTES);
        memcpy(out, id, len < PSEUDONYM_BYTES ? len : PSEUDONYM_BYTES);
}

/* What the daemon says of addresses: here, that only one is any good. */
static int only_example_org(void *arg, const char *url, struct errinfo *e)
{
        assert_ptr_equal(arg, &hashed);
        return strcmp(url, "https://example.org/") == 0 ? 0
                                                        : ul_fail(e, UL_INVALID, "not that one");
}

static int parse_as(const char *text, bool batch, struct erasure_body *out, struct errinfo *e)
{
        struct erasure_reader r = {.pseudonym = first_bytes,
                                   .callback = only_example_org,
                                   .arg = &hashed,
                                   .batch = batch};
        struct json *doc = NULL;
        memset(e, 0, sizeof(*e));
        assert_int_equal(json_parse(text, strlen(text), &doc, e), 0);
        int err = erasure_parse(doc, &r, out, e);
        json_free(&doc);
        return err;
}

static void refused(const char *text, const char *field)
{
        struct erasure_body b;
        struct errinfo e;
        assert_int_equal(parse_as(text, false, &b, &e), UL_INVALID);
        assert_string_equal(e.field, field);
        assert_true(e.detail[0] != '\0');
        assert_null(b.request.subjects);
        assert_null(b.request.records);
        assert_null(b.request.models);
        assert_null(b.request.callback_url);
}

static void a_callback_is_asked_about_and_kept(void **state)
{
        (void)state;
        struct erasure_body b;
        struct errinfo e;
        assert_int_equal(
                parse_as("{\"subjects\":[\"a\"],\"callback_url\":\"https://example.org/\"}", false,
                         &b, &e),
                0);
        assert_string_equal(b.request.callback_url, "https://example.org/");
        erasure_body_clear(&b);
        assert_null(b.request.callback_url);
        refused("{\"subjects\":[\"a\"],\"callback_url\":\"https://example.net/\"}",
                "/callback_url");
        refused("{\"subjects\":[\"a\"],\"callback_url\":7}", "/callback_url");
        refused("{\"subjects\":[\"a\"],\"callback_url\":null}", "/callback_url");
        refused("{\"callback_url\":\"https://example.org/\"}", "/subjects");
}

static void the_contracts_example_is_read_whole(void **state)
{
        (void)state;
        struct erasure_body b;
        struct errinfo e;
        assert_int_equal(parse_as("{\"subjects\":[\"alice@example.org\"],"
                                  "\"records\":[{\"model\":\"digits\",\"id\":\"r17\"}],"
                                  "\"models\":[\"digits\"],\"regulation\":\"gdpr\","
                                  "\"received_at\":\"2026-01-31T09:00:00Z\","
                                  "\"deadline\":\"2026-02-28T10:00:00+01:00\","
                                  "\"reference\":\"DSR-1042\"}",
                                  false, &b, &e),
                         0);
        const struct erase_request *r = &b.request;
        assert_int_equal(r->subject_count, 1);
        assert_memory_equal(r->subjects[0], "alice@example.or", 16);
        assert_int_equal(r->record_count, 1);
        assert_string_equal(r->records[0].model, "digits");
        assert_memory_equal(r->records[0].pseudonym, "r17", 4);
        assert_int_equal(r->model_count, 1);
        assert_string_equal(r->models[0], "digits");
        assert_int_equal(r->regulation, ERASE_GDPR);
        assert_int_equal(r->received_ms, 1769850000000);
        assert_int_equal(r->deadline_ms, 1772269200000);
        assert_string_equal(r->reference, "DSR-1042");
        assert_false(r->idem.present);
        assert_string_equal(r->actor, "");
        erasure_body_clear(&b);
        assert_null(b.request.subjects);
}

static void what_is_left_out_stays_at_its_default(void **state)
{
        (void)state;
        struct erasure_body b;
        struct errinfo e;
        assert_int_equal(parse_as("{\"subjects\":[\"a\"]}", false, &b, &e), 0);
        assert_int_equal(b.request.regulation, ERASE_NONE);
        assert_int_equal(b.request.received_ms, 0);
        assert_int_equal(b.request.deadline_ms, 0);
        assert_int_equal(b.request.model_count, 0);
        assert_string_equal(b.request.reference, "");
        erasure_body_clear(&b);
}

static void an_id_named_twice_is_erased_once(void **state)
{
        (void)state;
        struct erasure_body b;
        struct errinfo e;
        assert_int_equal(parse_as("{\"subjects\":[\"b\",\"a\",\"b\",\"c\",\"a\"],"
                                  "\"records\":[{\"model\":\"m\",\"id\":\"x\"},"
                                  "{\"id\":\"x\",\"model\":\"m\"},{\"model\":\"n\",\"id\":\"x\"}],"
                                  "\"models\":[\"m\",\"n\",\"m\"]}",
                                  false, &b, &e),
                         0);
        assert_int_equal(b.request.subject_count, 3);
        assert_memory_equal(b.request.subjects[0], "a", 2);
        assert_memory_equal(b.request.subjects[1], "b", 2);
        assert_memory_equal(b.request.subjects[2], "c", 2);
        assert_int_equal(b.request.record_count, 2); /* of two models: two records */
        assert_int_equal(b.request.model_count, 2);
        erasure_body_clear(&b);
}

static void a_request_that_names_nobody_is_refused(void **state)
{
        (void)state;
        refused("{}", "/subjects");
        refused("{\"subjects\":[]}", "/subjects");
        refused("{\"subjects\":[],\"records\":[]}", "/subjects");
        refused("{\"models\":[\"m\"]}", "/subjects");
        refused("[]", "");
        refused("\"alice\"", "");
}

static void unknown_members_are_refused_by_name(void **state)
{
        (void)state;
        refused("{\"subjects\":[\"a\"],\"subject\":\"b\"}", "/subject");
        refused("{\"subjects\":[\"a\"],\"held\":true}", "/held");
        refused("{\"subjects\":[\"a\"],\"idempotency_key\":\"k\"}", "/idempotency_key");
        refused("{\"records\":[{\"model\":\"m\",\"id\":\"a\",\"shard\":1}]}", "/records/0/shard");
}

static void wrong_types_are_refused_where_they_stand(void **state)
{
        (void)state;
        refused("{\"subjects\":\"a\"}", "/subjects");
        refused("{\"subjects\":[\"a\"],\"hold\":1}", "/hold");
        refused("{\"subjects\":{\"a\":1}}", "/subjects");
        refused("{\"subjects\":null}", "/subjects");
        refused("{\"subjects\":[\"a\",7]}", "/subjects/1");
        refused("{\"subjects\":[\"a\",\"\"]}", "/subjects/1");
        refused("{\"records\":[\"r\"]}", "/records/0");
        refused("{\"records\":[{\"model\":\"m\"}]}", "/records/0/id");
        refused("{\"records\":[{\"id\":\"a\"}]}", "/records/0/model");
        refused("{\"records\":[{\"model\":\"m\",\"id\":\"a\"},{\"model\":\"M\",\"id\":\"a\"}]}",
                "/records/1/model");
        refused("{\"records\":[{\"model\":\"m\",\"id\":17}]}", "/records/0/id");
        refused("{\"records\":[{\"model\":\"m\",\"id\":\"\"}]}", "/records/0/id");
        refused("{\"subjects\":[\"a\"],\"models\":[\"ok\",\"../etc\"]}", "/models/1");
        refused("{\"subjects\":[\"a\"],\"models\":[3]}", "/models/0");
        refused("{\"subjects\":[\"a\"],\"models\":\"m\"}", "/models");
        refused("{\"subjects\":[\"a\"],\"regulation\":\"GDPR\"}", "/regulation");
        refused("{\"subjects\":[\"a\"],\"regulation\":\"\"}", "/regulation");
        refused("{\"subjects\":[\"a\"],\"regulation\":null}", "/regulation");
}

static void an_empty_list_of_models_is_neither_all_nor_none(void **state)
{
        (void)state;
        refused("{\"subjects\":[\"a\"],\"models\":[]}", "/models");
}

static void references_keep_to_their_characters(void **state)
{
        (void)state;
        struct erasure_body b;
        struct errinfo e;
        char text[256];
        char ref[REFERENCE_MAX + 2];
        assert_int_equal(
                parse_as("{\"subjects\":[\"a\"],\"reference\":\"AZaz09._:/#-\"}", false, &b, &e),
                0);
        erasure_body_clear(&b);
        memset(ref, 'x', sizeof(ref) - 1);
        ref[REFERENCE_MAX + 1] = '\0';
        snprintf(text, sizeof(text), "{\"subjects\":[\"a\"],\"reference\":\"%s\"}", ref);
        refused(text, "/reference"); /* 65 */
        ref[REFERENCE_MAX] = '\0';
        snprintf(text, sizeof(text), "{\"subjects\":[\"a\"],\"reference\":\"%s\"}", ref);
        assert_int_equal(parse_as(text, false, &b, &e), 0);
        assert_int_equal(strlen(b.request.reference), REFERENCE_MAX);
        erasure_body_clear(&b);
        refused("{\"subjects\":[\"a\"],\"reference\":\"\"}", "/reference");
        refused("{\"subjects\":[\"a\"],\"reference\":\"two words\"}", "/reference");
        refused("{\"subjects\":[\"a\"],\"reference\":\"alice@example.org\"}", "/reference");
        refused("{\"subjects\":[\"a\"],\"reference\":\"a\\nb\"}", "/reference");
        refused("{\"subjects\":[\"a\"],\"reference\":\"\xc3\xa9\"}", "/reference");
}

static void times_must_be_times_and_in_order(void **state)
{
        (void)state;
        refused("{\"subjects\":[\"a\"],\"received_at\":\"yesterday\"}", "/received_at");
        refused("{\"subjects\":[\"a\"],\"received_at\":1769850000}", "/received_at");
        refused("{\"subjects\":[\"a\"],\"received_at\":\"2199-01-31T09:00:00Z\"}", "/received_at");
        refused("{\"subjects\":[\"a\"],\"deadline\":\"2026-02-30T00:00:00Z\"}", "/deadline");
        /* 0 means "not given" behind the parser: the epoch must not pass for it */
        refused("{\"subjects\":[\"a\"],\"received_at\":\"1970-01-01T00:00:00Z\"}", "/received_at");
        refused("{\"subjects\":[\"a\"],\"deadline\":\"1970-01-01T00:00:00Z\"}", "/deadline");
        refused("{\"subjects\":[\"a\"],\"received_at\":\"2026-01-02T00:00:00Z\","
                "\"deadline\":\"2026-01-01T00:00:00Z\"}",
                "/deadline");
}

static void append_ids(char *text, size_t size, size_t *used, unsigned count)
{
        *used += (size_t)snprintf(text + *used, size - *used, "{\"subjects\":[");
        for (unsigned i = 0; i < count; i++)
                *used += (size_t)snprintf(text + *used, size - *used, "%s\"s%u\"", i ? "," : "", i);
        *used += (size_t)snprintf(text + *used, size - *used, "]}");
}

static void a_thousand_subjects_pass_and_one_more_does_not(void **state)
{
        (void)state;
        static char text[32 * 1024];
        struct erasure_body b;
        struct errinfo e;
        size_t used = 0;
        append_ids(text, sizeof(text), &used, ERASURE_SUBJECTS_MAX);
        assert_int_equal(parse_as(text, false, &b, &e), 0);
        assert_int_equal(b.request.subject_count, ERASURE_SUBJECTS_MAX);
        erasure_body_clear(&b);
        used = 0;
        append_ids(text, sizeof(text), &used, ERASURE_SUBJECTS_MAX + 1);
        hashed = 0;
        refused(text, "/subjects");
        assert_int_equal(hashed, 0); /* counted before any work is done */
}

static void an_id_may_have_512_bytes_and_no_more(void **state)
{
        (void)state;
        char id[ID_BYTES_MAX + 2], text[ID_BYTES_MAX + 64];
        struct erasure_body b;
        struct errinfo e;
        memset(id, 'i', sizeof(id) - 1);
        id[ID_BYTES_MAX + 1] = '\0';
        snprintf(text, sizeof(text), "{\"subjects\":[\"%s\"]}", id);
        refused(text, "/subjects/0");
        snprintf(text, sizeof(text), "{\"records\":[{\"model\":\"m\",\"id\":\"%s\"}]}", id);
        refused(text, "/records/0/id");
        id[ID_BYTES_MAX] = '\0';
        snprintf(text, sizeof(text), "{\"subjects\":[\"%s\"]}", id);
        assert_int_equal(parse_as(text, false, &b, &e), 0);
        erasure_body_clear(&b);
}

static void no_refusal_repeats_what_was_sent(void **state)
{
        (void)state;
        static const char *const bodies[] = {
                "{\"subjects\":[\"ok\",\"\"],\"reference\":\"secret\"}",
                "{\"records\":[{\"model\":\"secret@example.org\",\"id\":\"a\"}]}",
                "{\"subjects\":[\"a\"],\"reference\":\"secret@example.org\"}",
                "{\"subjects\":[\"a\"],\"models\":[\"secret@example.org\"]}",
                "{\"subjects\":[\"a\"],\"regulation\":\"secret\"}",
                "{\"subjects\":[\"a\"],\"deadline\":\"secret\"}",
        };
        for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
                struct erasure_body b;
                struct errinfo e;
                assert_int_equal(parse_as(bodies[i], false, &b, &e), UL_INVALID);
                assert_null(strstr(e.detail, "secret"));
                assert_null(strstr(e.field, "secret"));
        }
}

static void a_batch_line_may_carry_its_key(void **state)
{
        (void)state;
        struct erasure_body b;
        struct errinfo e;
        assert_int_equal(
                parse_as("{\"subjects\":[\"a\"],\"idempotency_key\":\"k 1\"}", true, &b, &e), 0);
        assert_string_equal(b.idempotency_key, "k 1");
        erasure_body_clear(&b);
        assert_int_equal(parse_as("{\"subjects\":[\"a\"],\"idempotency_key\":\"\"}", true, &b, &e),
                         UL_INVALID);
        assert_string_equal(e.field, "/idempotency_key");
        assert_int_equal(
                parse_as("{\"subjects\":[\"a\"],\"idempotency_key\":\"\\u0001\"}", true, &b, &e),
                UL_INVALID);
        assert_string_equal(e.field, "/idempotency_key");
        assert_null(b.request.subjects); /* what had been read was given back */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_contracts_example_is_read_whole),
                cmocka_unit_test(what_is_left_out_stays_at_its_default),
                cmocka_unit_test(an_id_named_twice_is_erased_once),
                cmocka_unit_test(a_request_that_names_nobody_is_refused),
                cmocka_unit_test(a_callback_is_asked_about_and_kept),
                cmocka_unit_test(unknown_members_are_refused_by_name),
                cmocka_unit_test(wrong_types_are_refused_where_they_stand),
                cmocka_unit_test(an_empty_list_of_models_is_neither_all_nor_none),
                cmocka_unit_test(references_keep_to_their_characters),
                cmocka_unit_test(times_must_be_times_and_in_order),
                cmocka_unit_test(a_thousand_subjects_pass_and_one_more_does_not),
                cmocka_unit_test(an_id_may_have_512_bytes_and_no_more),
                cmocka_unit_test(no_refusal_repeats_what_was_sent),
                cmocka_unit_test(a_batch_line_may_carry_its_key),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
