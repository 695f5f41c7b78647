/* SPDX-License-Identifier: Apache-2.0
 * test_render.c: views as the texts that clients see: the members of CONTRACT.md, in full, with
 * null for what is not there. */
#include "api/http_more.h"
#include "api/render.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct buf out;
static struct json_writer w;

static int begin(void **state)
{
        (void)state;
        memset(&out, 0, sizeof(out));
        jw_init(&w, &out);
        return 0;
}

static int end(void **state)
{
        (void)state;
        buf_free(&out, false);
        return 0;
}

static void text_is(const char *expected)
{
        assert_false(out.failed);
        buf_append(&out, "", 1);
        assert_string_equal((const char *)out.data, expected);
        out.len--;
}

static const uint8_t some_id[ULID_BYTES] = {0x01, 0x89, 0xc6, 0xa0, 0, 0, 0, 1};

static void an_erasure_has_every_member_of_the_contract(void **state)
{
        (void)state;
        char id[ULID_TEXT + 1], expected[1024];
        struct affected_view affected = {.model = "digits",
                                         .shard = 3,
                                         .slice = 2,
                                         .records = 12,
                                         .state = "retraining",
                                         .served_from_slice = 1};
        struct erasure_view v = {.state = "forgotten",
                                 .matched = 12,
                                 .regulation = "gdpr",
                                 .reference = "DSR-1042",
                                 .received_ms = 1769850000000,
                                 .accepted_ms = 1769850000001,
                                 .forgotten_ms = 1769850000002,
                                 .deadline_ms = 1772269200000,
                                 .first_deadline_ms = 1769850000003,
                                 .extension = "complexity",
                                 .held = true,
                                 .scope = "all_models",
                                 .guarantee = "exact",
                                 .affected_count = 1,
                                 .affected = &affected};
        memcpy(v.id, some_id, ULID_BYTES);
        render_erasure(&w, &v);
        snprintf(expected, sizeof(expected),
                 "{\"id\":\"%s\",\"state\":\"forgotten\",\"matched\":12,\"regulation\":\"gdpr\","
                 "\"reference\":\"DSR-1042\",\"received_at\":\"2026-01-31T09:00:00.000Z\","
                 "\"accepted_at\":\"2026-01-31T09:00:00.001Z\","
                 "\"forgotten_at\":\"2026-01-31T09:00:00.002Z\",\"scrubbed_at\":null,"
                 "\"completed_at\":null,\"deadline\":\"2026-02-28T09:00:00.000Z\","
                 "\"first_deadline\":\"2026-01-31T09:00:00.003Z\","
                 "\"extension_reason\":\"complexity\",\"overdue\":false,\"hold\":true,"
                 "\"refused_at\":null,\"refusal_reason\":null,\"scope\":\"all_models\","
                 "\"guarantee\":\"exact\",\"affected\":"
                 "[{\"model\":\"digits\","
                 "\"shard\":3,\"slice\":2,\"records\":12,\"state\":\"retraining\","
                 "\"served_from_slice\":1}]}",
                 ulid_format(some_id, id));
        text_is(expected);
}

static void an_erasure_of_nobody_says_null_and_nothing_affected(void **state)
{
        (void)state;
        struct erasure_view v = {.state = "completed", .scope = "all_models", .guarantee = "exact"};
        render_erasure(&w, &v);
        buf_append(&out, "", 1);
        const char *text = (const char *)out.data;
        assert_non_null(strstr(text, "\"matched\":0,\"regulation\":null,\"reference\":null,"));
        assert_non_null(strstr(text, "\"affected\":[]}"));
}

static void a_dry_run_has_no_states(void **state)
{
        (void)state;
        struct affected_view affected = {
                .model = "m", .shard = 1, .slice = 4, .records = 2, .state = "retraining"};
        struct erasure_view v = {
                .matched = 2, .affected_count = 1, .affected = &affected, .retrain_seconds = 0.5};
        render_preview(&w, &v);
        text_is("{\"matched\":2,\"affected\":[{\"model\":\"m\",\"shard\":1,\"slice\":4,"
                "\"records\":2}],\"retrain_seconds\":0.5}");
}

static void a_job_passes_its_result_on_and_says_null_for_the_unknown(void **state)
{
        (void)state;
        char id[ULID_TEXT + 1], expected[512];
        struct job_view v = {.kind = "verify",
                             .state = "running",
                             .model = "m",
                             .shard = -1,
                             .progress = 0.25,
                             .eta_seconds = -1,
                             .created_ms = 1769850000000};
        memcpy(v.id, some_id, ULID_BYTES);
        render_job(&w, &v);
        snprintf(expected, sizeof(expected),
                 "{\"id\":\"%s\",\"kind\":\"verify\",\"state\":\"running\",\"model\":\"m\","
                 "\"shard\":null,\"progress\":0.25,\"eta_seconds\":null,"
                 "\"created_at\":\"2026-01-31T09:00:00.000Z\",\"started_at\":null,"
                 "\"ended_at\":null,\"attempts\":0,\"error\":null,\"result\":null}",
                 ulid_format(some_id, id));
        text_is(expected);
        buf_reset(&out, false);
        jw_init(&w, &out);
        v.shard = 0;
        v.eta_seconds = 0;
        buf_append_str(&v.result, "{\"shards\":[]}");
        render_job(&w, &v);
        buf_append(&out, "", 1);
        assert_non_null(strstr((char *)out.data, "\"shard\":0,"));
        assert_non_null(strstr((char *)out.data, "\"eta_seconds\":0,"));
        assert_non_null(strstr((char *)out.data, "\"result\":{\"shards\":[]}}"));
        buf_free(&v.result, false);
}

static void a_shard_shows_where_it_is_dirty(void **state)
{
        (void)state;
        struct slice_view slices[] = {
                {.slice = 1, .live = 5, .has_checkpoint = true},
                {.slice = 2, .live = 4, .erased = 1},
                {.slice = 3},
        };
        struct shard_view v = {.shard = 7,
                               .dirty_from = 2,
                               .served_from_slice = 1,
                               .state = "dirty",
                               .slice_count = 3,
                               .slices = slices};
        char expected[1024], hash[2 * SHA256_BYTES + 1];
        memset(hash, 'a', sizeof(hash) - 1);
        hash[2 * SHA256_BYTES] = '\0';
        memset(slices[0].checkpoint_hash, 0xaa, SHA256_BYTES);
        render_shard(&w, &v);
        snprintf(expected, sizeof(expected),
                 "{\"shard\":7,\"state\":\"dirty\",\"dirty_from\":2,\"served_from_slice\":1,"
                 "\"slices\":[{\"slice\":1,\"live\":5,\"erased\":0,\"state\":\"clean\","
                 "\"checkpoint_hash\":\"%s\"},{\"slice\":2,\"live\":4,\"erased\":1,"
                 "\"state\":\"dirty\",\"checkpoint_hash\":null},{\"slice\":3,\"live\":0,"
                 "\"erased\":0,\"state\":\"dirty\",\"checkpoint_hash\":null}]}",
                 hash);
        text_is(expected);
        buf_reset(&out, false);
        jw_init(&w, &out);
        v.dirty_from = 0;
        v.state = "loaded";
        v.slices = &slices[1];
        v.slice_count = 2;
        render_shard(&w, &v);
        buf_append(&out, "", 1);
        assert_non_null(strstr((char *)out.data, "\"dirty_from\":null,"));
        assert_non_null(strstr((char *)out.data, "\"erased\":1,\"state\":\"loaded\""));
        assert_non_null(strstr((char *)out.data, "\"erased\":0,\"state\":\"empty\""));
}

static struct intake_result *result_with_two_bad_lines(void)
{
        struct intake_result *r = calloc(1, sizeof(*r));
        assert_non_null(r);
        r->accepted = 10;
        r->duplicates = 1;
        r->suppressed = 2;
        r->rejected = 2;
        r->error_count = 2;
        r->errors[0].line = 3;
        ul_fail_field(&r->errors[0].why, UL_INVALID, "/label", "no such class");
        r->errors[1].line = 9;
        ul_fail(&r->errors[1].why, UL_SYNTAX, "not JSON");
        return r;
}

static void an_upload_gives_lines_and_reasons(void **state)
{
        (void)state;
        struct intake_result *r = result_with_two_bad_lines();
        render_intake(&w, r, true);
        text_is("{\"accepted\":10,\"duplicates\":1,\"suppressed\":2,\"rejected\":2,\"errors\":["
                "{\"line\":3,\"reason\":\"no such class\",\"pointer\":\"/label\"},"
                "{\"line\":9,\"reason\":\"not JSON\"}]}");
        free(r);
}

static void a_broken_upload_is_a_problem_with_the_counts(void **state)
{
        (void)state;
        struct intake_result *r = result_with_two_bad_lines();
        struct errinfo why = {0}, bare;
        struct buf members = {0};
        ul_fail_field(&why, UL_SYNTAX, "id", "the header has no such column");
        bare = why;
        bare.field[0] = '\0';
        problem_write(&out, 400, UL_SYNTAX, &bare, NULL, "/v1/models/m/records");
        jw_init(&w, &members);
        render_intake_problem(&w, r, true, false, &why);
        json_join(&out, &members);
        buf_free(&members, false);

        struct json *doc = NULL;
        assert_int_equal(json_parse((char *)out.data, out.len, &doc, NULL), 0);
        assert_int_equal((int)json_number(json_get(doc, "status")), 400);
        assert_int_equal((int)json_number(json_get(doc, "accepted")), 10);
        assert_int_equal((int)json_number(json_get(doc, "suppressed")), 2);
        const struct json *errors = json_get(doc, "errors");
        assert_int_equal(json_length(errors), 3);
        const struct json *first = json_first(errors);
        assert_string_equal(json_string(json_get(first, "pointer")), "id");
        const struct json *second = json_next(first);
        assert_int_equal((int)json_number(json_get(second, "line")), 3);
        assert_string_equal(json_string(json_get(second, "detail")), "no such class");
        assert_string_equal(json_string(json_get(second, "reason")), "no such class");
        json_free(&doc);
        free(r);
}

static void an_atomic_upload_that_left_nothing_accepted_nothing(void **state)
{
        (void)state;
        struct intake_result *r = result_with_two_bad_lines();
        struct errinfo why = {0};
        render_intake_problem(&w, r, false, false, &why);
        assert_memory_equal(out.data, "{\"accepted\":0,\"duplicates\":1,", 29);
        free(r);
}

static void an_evaluation_is_of_classes_or_of_targets(void **state)
{
        (void)state;
        static const uint64_t confusion[] = {5, 1, 0, 4};
        struct intake_result *r = calloc(1, sizeof(*r));
        assert_non_null(r);
        r->evaluated = 10;
        r->accuracy = 0.9;
        r->log_loss = NAN;
        r->mean_squared_error = 0.25;
        r->confusion = confusion;
        r->generation = 4;
        r->clean_constituents = 8;
        render_evaluation(&w, r, 2);
        text_is("{\"evaluated\":10,\"accuracy\":0.9,\"log_loss\":null,\"confusion\":[[5,1],[0,4]],"
                "\"generation\":4,\"clean_constituents\":8,\"rejected\":0,\"errors\":[]}");
        buf_reset(&out, false);
        jw_init(&w, &out);
        render_evaluation(&w, r, 0);
        text_is("{\"evaluated\":10,\"mean_squared_error\":0.25,\"generation\":4,"
                "\"clean_constituents\":8,\"rejected\":0,\"errors\":[]}");
        free(r);
}

static const char entry[] = "{\"v\":1,\"index\":7,\"time\":\"2026-01-31T09:00:00.000Z\","
                            "\"type\":\"erasure.forgotten\",\"actor\":\"a\\\"b,\\\"data\\\":\","
                            "\"data\":{\"model\":\"m\",\"data\":[1]}}";

static struct audit_view audit_view_of(const char *text)
{
        struct audit_view v = {.index = 7, .entry = text, .entry_len = strlen(text)};
        memset(v.leaf_hash, 0xab, SHA256_BYTES);
        return v;
}

static void what_stands_before_the_leaf_hash_are_the_bytes_that_were_hashed(void **state)
{
        (void)state;
        struct audit_view v = audit_view_of(entry);
        jw_array(&w);
        render_audit_entry(&w, &v);
        render_audit_entry(&w, &v);
        jw_end_array(&w);
        struct json *doc = NULL;
        assert_int_equal(json_parse((char *)out.data, out.len, &doc, NULL), 0);
        assert_int_equal(json_length(doc), 2);
        assert_int_equal(json_length(json_first(doc)), 7);
        json_free(&doc);
        assert_memory_equal(out.data + 1, entry, strlen(entry) - 1);
        assert_memory_equal(out.data + strlen(entry), ",\"leaf_hash\":\"abab", 18);
}

static void csv_fields_are_quoted_and_data_is_the_entrys_own_text(void **state)
{
        (void)state;
        struct audit_view v = audit_view_of(entry);
        char expected[1024], hash[2 * SHA256_BYTES + 1];
        assert_int_equal(render_audit_csv(&out, &v), 0);
        snprintf(expected, sizeof(expected),
                 "7,\"2026-01-31T09:00:00.000Z\",\"erasure.forgotten\",\"a\"\"b,\"\"data\"\":\","
                 "\"{\"\"model\"\":\"\"m\"\",\"\"data\"\":[1]}\",%s\r\n",
                 hex_encode(v.leaf_hash, SHA256_BYTES, hash));
        text_is(expected);
}

static void csv_fields_are_no_formulas(void **state)
{
        (void)state;
        static const char *const starts[] = {"=", "+", "-", "@", "\\t", "\\r", "\\n"};
        for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
                char text[256];
                snprintf(text, sizeof(text),
                         "{\"v\":1,\"index\":7,\"time\":\"x\",\"type\":\"y\",\"actor\":\"%scmd|'/c "
                         "calc'!A0\",\"data\":{}}",
                         starts[i]);
                struct audit_view v = audit_view_of(text);
                assert_int_equal(render_audit_csv(&out, &v), 0);
                buf_append(&out, "", 1);
                assert_memory_equal(out.data, "7,\"x\",\"y\",\"'", 12);
                assert_non_null(strstr((char *)out.data, "cmd|'/c calc'!A0\",\"{}\","));
                buf_reset(&out, false);
        }
}

static void an_entry_of_another_form_is_not_exported(void **state)
{
        (void)state;
        struct audit_view v = audit_view_of("{\"v\":1,\"time\":\"x\",\"type\":\"y\",\"data\":{}}");
        assert_int_equal(render_audit_csv(&out, &v), UL_CORRUPT);
        v = audit_view_of("{\"v\":1,");
        assert_int_equal(render_audit_csv(&out, &v), UL_CORRUPT);
        assert_int_equal(out.len, 0);
}

static void proofs_give_their_hashes_in_base64(void **state)
{
        (void)state;
        struct audit_proof *p = calloc(1, sizeof(*p));
        assert_non_null(p);
        p->index = 1;
        p->size = 3;
        p->count = 2;
        memset(p->hashes[1], 0xff, SHA256_BYTES);
        buf_append_str(&p->checkpoint, "origin\n3\n");
        render_consistency(&w, 2, 3, p);
        text_is("{\"from\":2,\"to\":3,\"hashes\":[\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\","
                "\"//////////////////////////////////////////8=\"],"
                "\"checkpoint\":\"origin\\n3\\n\"}");
        buf_reset(&out, false);
        jw_init(&w, &out);
        p->count = 0;
        render_inclusion(&w, p);
        assert_memory_equal(out.data, "{\"index\":1,\"size\":3,\"leaf_hash\":\"00", 35);
        buf_free(&p->checkpoint, false);
        free(p);
}

static void joining_objects_keeps_them_json(void **state)
{
        (void)state;
        static const char *const cases[][3] = {{"{}", "{}", "{}"},
                                               {"{\"a\":1}", "{}", "{\"a\":1}"},
                                               {"{}", "{\"b\":2}", "{\"b\":2}"},
                                               {"{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}"}};
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct buf a = {0}, b = {0};
                buf_append_str(&a, cases[i][0]);
                buf_append_str(&b, cases[i][1]);
                json_join(&a, &b);
                assert_int_equal(a.len, strlen(cases[i][2]));
                assert_memory_equal(a.data, cases[i][2], a.len);
                buf_free(&a, false);
                buf_free(&b, false);
        }
}

#define RENDER_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
        const struct CMUnitTest tests[] = {
                RENDER_TEST(an_erasure_has_every_member_of_the_contract),
                RENDER_TEST(an_erasure_of_nobody_says_null_and_nothing_affected),
                RENDER_TEST(a_dry_run_has_no_states),
                RENDER_TEST(a_job_passes_its_result_on_and_says_null_for_the_unknown),
                RENDER_TEST(a_shard_shows_where_it_is_dirty),
                RENDER_TEST(an_upload_gives_lines_and_reasons),
                RENDER_TEST(a_broken_upload_is_a_problem_with_the_counts),
                RENDER_TEST(an_atomic_upload_that_left_nothing_accepted_nothing),
                RENDER_TEST(an_evaluation_is_of_classes_or_of_targets),
                RENDER_TEST(what_stands_before_the_leaf_hash_are_the_bytes_that_were_hashed),
                RENDER_TEST(csv_fields_are_quoted_and_data_is_the_entrys_own_text),
                RENDER_TEST(csv_fields_are_no_formulas),
                RENDER_TEST(an_entry_of_another_form_is_not_exported),
                RENDER_TEST(proofs_give_their_hashes_in_base64),
                RENDER_TEST(joining_objects_keeps_them_json),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
