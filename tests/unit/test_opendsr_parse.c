/* SPDX-License-Identifier: Apache-2.0
 * test_opendsr_parse.c: the body of an OpenDSR request: what is read, and that no refusal repeats
 * anything of it. The daemon's answers are looked at in tests/api/test_opendsr.py. */
#include "api/opendsr_parse.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ID "a7551968-d5d6-44b2-9831-815ac9017798"
#define HEAD                                                                                       \
        "\"subject_request_id\":\"" ID "\",\"subject_request_type\":\"erasure\","                  \
        "\"submitted_time\":\"2026-01-31T10:00:00+01:00\""
#define JANE "jane.doe"
#define EMAIL(value, format)                                                                       \
        "{\"identity_type\":\"email\",\"identity_value\":\"" value                                 \
        "\",\"identity_format\":\"" format "\"}"
/* SHA-256 of "jane.doe" is not needed: any digest is one */
#define DIGEST "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
static const int64_t now = 1769850000000 + 3600 * 1000; /* 2026-01-31T10:00:00Z */

static const uint8_t key[KEY_BYTES] = {7};

static void raw(void *arg, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES])
{
        (void)arg;
        pseudonym_of(key, id, len, out);
}

static void of_digest(void *arg, const uint8_t sha256_of[SHA256_BYTES],
                      uint8_t out[PSEUDONYM_BYTES])
{
        (void)arg;
        pseudonym_of_digest(key, sha256_of, out);
}

static int url_check(void *arg, const char *url, struct errinfo *e)
{
        (void)arg;
        return strncmp(url, "https://", 8) == 0 ? 0 : ul_fail(e, UL_INVALID, "must be https");
}

static const struct opendsr_reader reader = {.domain = "p.example",
                                             .identities = "controller_customer_id, email",
                                             .regulation = ERASE_CCPA,
                                             .now_ms = now,
                                             .pseudonym = raw,
                                             .of_digest = of_digest,
                                             .url_check = url_check};

static int parse(const char *text, struct erase_request *out, struct errinfo *e)
{
        struct json *doc = NULL;
        assert_int_equal(json_parse(text, strlen(text), &doc, NULL), 0);
        int err = opendsr_parse(doc, &reader, out, e);
        json_free(&doc);
        return err;
}

static void a_request_is_read(void **state)
{
        struct erase_request r;
        struct errinfo e = {0};
        (void)state;
        assert_int_equal(
                parse("{" HEAD ",\"regulation\":\"gdpr\",\"subject_identities\":[" EMAIL(
                              JANE, "raw") "," EMAIL(DIGEST,
                                                     "sha256") "],\"status_callback_urls\":["
                                                               "\"https://c.example/a\","
                                                               "\"https://c.example/b\"]}",
                      &r, &e),
                0);
        assert_int_equal(r.regulation, ERASE_GDPR);
        assert_int_equal(r.received_ms, now - 3600 * 1000);
        assert_string_equal(r.reference, ID);
        assert_string_equal(r.opendsr->id, ID);
        assert_int_equal(r.subject_count, 2);
        assert_int_equal(r.opendsr->url_count, 2);
        assert_string_equal(r.opendsr->urls[1], "https://c.example/b");
        assert_int_equal(r.model_count, 0);
        erase_request_clear(&r);
}

static void one_person_by_id_and_by_hash_is_one(void **state)
{
        struct erase_request r;
        struct errinfo e = {0};
        uint8_t digest[SHA256_BYTES];
        char hex[2 * SHA256_BYTES + 1], text[1024];
        (void)state;
        sha256(JANE, strlen(JANE), digest);
        (void)snprintf(text, sizeof text,
                       "{" HEAD ",\"subject_identities\":[" EMAIL(JANE, "raw") "," EMAIL(
                               JANE, "raw") "," EMAIL("%s", "sha256") "]}",
                       hex_encode(digest, sizeof digest, hex));
        assert_int_equal(parse(text, &r, &e), 0);
        assert_int_equal(r.subject_count, 1);
        assert_int_equal(r.regulation, ERASE_CCPA);
        erase_request_clear(&r);
}

static void our_extension_is_read_and_no_other(void **state)
{
        struct erase_request r;
        struct errinfo e = {0};
        (void)state;
        assert_int_equal(parse("{" HEAD ",\"extensions\":{\"q.example\":{\"x\":[1]},\"p.example\":{"
                               "\"subject_identities\":[" EMAIL(JANE, "raw") "],\"models\":["
                                                                             "\"digits\"]}}}",
                               &r, &e),
                         0);
        assert_int_equal(r.subject_count, 1);
        assert_int_equal(r.model_count, 1);
        assert_string_equal(r.models[0], "digits");
        erase_request_clear(&r);
}

static void ids_are_lower_case_uuids_of_version_4(void **state)
{
        static const char *const bad[] = {"",
                                          "a7551968-d5d6-44b2-9831-815ac901779",
                                          "a7551968-d5d6-44b2-9831-815ac90177980",
                                          "A7551968-d5d6-44b2-9831-815ac9017798",
                                          "a7551968-d5d6-54b2-9831-815ac9017798",
                                          "a7551968-d5d6-44b2-7831-815ac9017798",
                                          "a7551968_d5d6-44b2-9831-815ac9017798",
                                          "g7551968-d5d6-44b2-9831-815ac9017798"};
        (void)state;
        assert_true(opendsr_id_valid(ID));
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                assert_false(opendsr_id_valid(bad[i]));
}

static void types_are_whole_words_of_the_list(void **state)
{
        (void)state;
        assert_true(opendsr_identity_accepted(reader.identities, "email"));
        assert_true(opendsr_identity_accepted(reader.identities, "controller_customer_id"));
        assert_false(opendsr_identity_accepted(reader.identities, "mail"));
        assert_false(opendsr_identity_accepted(reader.identities, "emails"));
        assert_false(opendsr_identity_accepted(reader.identities, ""));
        assert_false(opendsr_identity_accepted("", "email"));
}

static void refused(const char *text, const char *field)
{
        struct erase_request r;
        struct errinfo e = {0};
        if (parse(text, &r, &e) != UL_INVALID)
                fail_msg("taken: %s", text);
        erase_request_clear(&r);
        assert_string_equal(e.field, field);
        assert_null(strstr(e.detail, "jane"));
        assert_null(strstr(e.field, "jane"));
}

static void a_refusal_names_the_place_and_nobody(void **state)
{
        (void)state;
        refused("[]", "");
        refused("{}", "/subject_request_id");
        refused("{" HEAD "}", "/subject_identities");
        refused("{" HEAD ",\"" JANE "\":1}", "");
        refused("{" HEAD ",\"subject_identities\":{}}", "/subject_identities");
        refused("{" HEAD ",\"subject_identities\":[\"" JANE "\"]}", "/subject_identities/0");
        refused("{" HEAD ",\"subject_identities\":[" EMAIL("a", "raw") "," EMAIL(JANE, "md5") "]}",
                "/subject_identities/1");
        refused("{" HEAD ",\"subject_identities\":[" EMAIL(JANE, "sha256") "]}",
                "/subject_identities/0");
        refused("{" HEAD ",\"subject_identities\":[{\"" JANE "\":1}]}", "/subject_identities/0");
        refused("{" HEAD ",\"extensions\":{\"p.example\":{\"" JANE "\":1}}}", "/extensions");
        refused("{" HEAD ",\"extensions\":{\"p.example\":{\"models\":[\"../" JANE "\"]}}}",
                "/extensions/models");
        refused("{" HEAD
                ",\"subject_identities\":[" EMAIL(JANE, "raw") "],\"status_callback_urls\":[\"" JANE
                                                               "\"]}",
                "/status_callback_urls/0");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_request_is_read),
                cmocka_unit_test(one_person_by_id_and_by_hash_is_one),
                cmocka_unit_test(our_extension_is_read_and_no_other),
                cmocka_unit_test(ids_are_lower_case_uuids_of_version_4),
                cmocka_unit_test(types_are_whole_words_of_the_list),
                cmocka_unit_test(a_refusal_names_the_place_and_nobody),
        };
        if (crypto_init() != 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
