/* SPDX-License-Identifier: Apache-2.0
 * test_json.c: what the reader refuses, and how objects become structs. The source of the
 * reader is included with free() renamed, so that a test sees what is left in the blocks that it
 * gives back. */
#include "lib/util/json.h"

#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

static int freed_blocks, freed_with_content;

/* What the code under test frees with: looks for content that one of the tests has parsed. */
static void free_after_a_look(void *block)
{
        const double number = 987654321.25;
        size_t n = block == NULL ? 0 : malloc_usable_size(block);
        if (n > 0) {
                freed_blocks++;
                freed_with_content += memmem(block, n, "secret", 6) != NULL ||
                                      memmem(block, n, "987654321", 9) != NULL ||
                                      memmem(block, n, &number, sizeof number) != NULL;
        }
        free(block);
}

#define free(block) free_after_a_look(block)
#include "lib/util/json.c" // NOLINT
#undef free

static struct json *parse(const char *text)
{
        struct json *doc = NULL;
        struct errinfo e;
        if (json_parse(text, strlen(text), &doc, &e) != UL_OK)
                fail_msg("%.60s: %s", text, e.detail);
        return doc;
}

/* The copy has exactly `len` bytes, so that the sanitizer sees an overrun. */
static int parse_bytes(const char *text, size_t len, struct errinfo *e)
{
        struct json *doc = NULL;
        char *copy = malloc(len > 0 ? len : 1);
        assert_non_null(copy);
        memcpy(copy, text, len);
        int r = json_parse(copy, len, &doc, e);
        assert_true((r == UL_OK) == (doc != NULL));
        if (doc != NULL)
                json_free(&doc);
        assert_null(doc);
        free(copy);
        return r;
}

static void assert_refused(const char *text, size_t len, long offset)
{
        struct errinfo e = {0};
        char where[40];
        if (parse_bytes(text, len, &e) != UL_SYNTAX)
                fail_msg("accepted: %.*s", (int)len, text);
        assert_int_equal(e.code, UL_SYNTAX);
        snprintf(where, sizeof where, "at byte %ld:", offset);
        if (offset >= 0 && strstr(e.detail, where) == NULL)
                fail_msg("%.*s: %s, not %s", (int)len, text, e.detail, where);
}

static void values_of_every_type_are_read(void **state)
{
        (void)state;
        struct json *d = parse(" {\"n\":null,\"t\":true,\"f\":false,\"i\":-12.5e1,\"s\":\"x\","
                               "\"a\":[1,[2],{}],\"o\":{\"k\":\"v\"}}\r\n\t ");
        assert_int_equal(json_type_of(d), JSON_OBJECT);
        assert_int_equal(json_length(d), 7);
        assert_int_equal(json_type_of(json_get(d, "n")), JSON_NULL);
        assert_true(json_is_true(json_get(d, "t")));
        assert_false(json_is_true(json_get(d, "f")));
        assert_int_equal(json_type_of(json_get(d, "f")), JSON_BOOL);
        assert_true(json_number(json_get(d, "i")) == -125.0);
        assert_string_equal(json_string(json_get(d, "s")), "x");
        assert_null(json_string(json_get(d, "i")));
        assert_true(isnan(json_number(json_get(d, "s"))));
        assert_null(json_get(d, "N")); /* case matters */
        assert_null(json_get(d, "absent"));
        assert_null(json_get(json_get(d, "absent"), "x"));
        const struct json *a = json_get(d, "a");
        assert_int_equal(json_length(a), 3);
        assert_true(json_number(json_first(a)) == 1);
        assert_int_equal(json_type_of(json_next(json_first(a))), JSON_ARRAY);
        assert_null(json_key(json_first(a)));
        assert_string_equal(json_key(json_first(json_get(d, "o"))), "k");
        assert_null(json_first(json_next(json_next(json_first(a)))));
        assert_string_equal(json_type_name(JSON_OBJECT), "object");
        json_free(&d);
        assert_null(d);
        json_free(&d); /* harmless */
}

static void texts_and_escapes_are_decoded(void **state)
{
        (void)state;
        struct json *d =
                parse("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\uDE00\xC3\xA9\"");
        assert_string_equal(json_string(d), "\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"
                                            "\xC3\xA9");
        json_free(&d);
}

static void what_is_not_json_is_refused_with_its_place(void **state)
{
        (void)state;
        static const struct {
                const char *text;
                long at;
        } cases[] = {{"", 0},
                     {"  ", 2},
                     {"{", 1},
                     {"[", 1},
                     {"[1,]", 3},
                     {"[,1]", 1},
                     {"[1 2]", 3},
                     {"{\"a\":1,}", 7},
                     {"{a:1}", 1},
                     {"{'a':1}", 1},
                     {"{\"a\" 1}", 5},
                     {"{\"a\":}", 5},
                     {"{\"a\"}", 4},
                     {"{1:2}", 1},
                     {"[1}", 2},
                     {"{\"a\":1]", 6},
                     {"tru", 0},
                     {"True", 0},
                     {"nul", 0},
                     {"truex", 4},
                     {"nan", 0},
                     {"NaN", 0},
                     {"Infinity", 0},
                     {"-Infinity", 0},
                     {"-", 0},
                     {"+1", 0},
                     {"01", 1},
                     {"-01", 2},
                     {"1.", 1},
                     {".5", 0},
                     {"1e", 1},
                     {"1e+", 1},
                     {"0x10", 1},
                     {"1 2", 2},
                     {"{} {}", 3},
                     {"[]]", 2},
                     {"\"abc", 4},
                     {"\"a\\", 3},
                     {"\"\\x\"", 2},
                     {"\"\\u12\"", 3},
                     {"\"\\u12G4\"", 3},
                     {"\"\\ud800\"", 7},
                     {"\"\\ud800\\n\"", 8},
                     {"\"\\ud800\\u0041\"", 9},
                     {"\"\\udc00\"", 3},
                     {"\"a\tb\"", 2},
                     {"\"a\nb\"", 2},
                     {"// c\n1", 0},
                     {"1 /* */", 2},
                     {"\xEF\xBB\xBF{}", 0},
                     {"\xC2\xA0"
                      "1",
                      0},
                     {"\v1", 0},
                     {"\f1", 0},
                     {"1e999", 0},
                     {"[0,-1e400]", 3},
                     {"[1e308,1e309]", 7}};
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                assert_refused(cases[i].text, strlen(cases[i].text), cases[i].at);
}

static void a_nul_is_refused_in_every_form(void **state)
{
        (void)state;
        assert_refused("\"a\\u0000b\"", 10, 4);
        assert_refused("\"a\0b\"", 5, 2);
        assert_refused("1\0", 2, 1);
        assert_refused("{}\0", 3, 2);
        assert_refused("\0", 1, 0);
        assert_refused("{\"\\u0000\":1}", 12, 4);
        assert_refused("\"\\\0\"", 4, 2);
}

static void invalid_utf8_is_refused(void **state)
{
        (void)state;
        static const char *const wrong[] = {"\x80",
                                            "\xBF",
                                            "\xC0\x80",
                                            "\xC1\xBF",
                                            "\xC2",
                                            "\xC2 ",
                                            "\xE0\x80\x80",
                                            "\xE0\x9F\xBF",
                                            "\xE2\x82",
                                            "\xED\xA0\x80",
                                            "\xED\xBF\xBF",
                                            "\xF0\x80\x80\x80",
                                            "\xF0\x8F\xBF\xBF",
                                            "\xF0\x9F\x98",
                                            "\xF4\x90\x80\x80",
                                            "\xF5\x80\x80\x80",
                                            "\xFE",
                                            "\xFF",
                                            "\xE2\x28\xA1",
                                            "\xF0\x28\x8C\xBC"};
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                char text[32];
                int n = snprintf(text, sizeof text, "[\"a%s\"]", wrong[i]);
                assert_refused(text, (size_t)n, 3);
                n = snprintf(text, sizeof text, "{\"a%s\":1}", wrong[i]);
                assert_refused(text, (size_t)n, 3);
                n = snprintf(text, sizeof text, "\"a%s", wrong[i]); /* cut off there */
                assert_refused(text, (size_t)n, -1);
        }
        struct errinfo e;
        const char good[] = "\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"
                            "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"";
        assert_int_equal(parse_bytes(good, sizeof good - 1, &e), UL_OK);
}

static void depth_is_limited(void **state)
{
        (void)state;
        char text[400];
        struct errinfo e;
        for (int depth = 1; depth <= JSON_DEPTH_MAX + 2; depth++) {
                size_t n = 0;
                for (int i = 0; i < depth; i++)
                        n += (size_t)snprintf(text + n, 8, i % 2 ? "[" : "{\"a\":");
                text[n++] = '1';
                for (int i = depth; i-- > 0;)
                        text[n++] = i % 2 ? ']' : '}';
                int expected = depth <= JSON_DEPTH_MAX ? UL_OK : UL_SYNTAX;
                assert_int_equal(parse_bytes(text, n, &e), expected);
        }
        static char bomb[1000000];
        memset(bomb, '[', sizeof bomb);
        assert_refused(bomb, sizeof bomb, JSON_DEPTH_MAX);
        /* siblings do not add up */
        size_t n = 0;
        text[n++] = '[';
        for (int i = 0; i < 100; i++) {
                memcpy(text + n, "[],", 3);
                n += 3;
        }
        memcpy(text + n, "0]", 2);
        assert_int_equal(parse_bytes(text, n + 2, &e), UL_OK);
}

static void duplicate_keys_are_refused_however_they_are_written(void **state)
{
        (void)state;
        const char *text = "{\"a\":1,\"b\":2,\"a\":3}";
        assert_refused(text, strlen(text), 13);
        text = "{\"a\":1,\"\\u0061\":3}";
        assert_refused(text, strlen(text), 7);
        text = "[{\"x\":{\"k\":1,\"l\":{\"k\":2},\"k\":3}}]";
        assert_refused(text, strlen(text), 25);
        text = "{\"a\":{\"b\":1},\"c\":[{\"d\":1}],\"a\":0}";
        assert_refused(text, strlen(text), 27);
        text = "{\"\":1,\"\":2}";
        assert_refused(text, strlen(text), 6);
        struct errinfo e;
        text = "[{\"a\":1,\"A\":2},{\"a\":{\"a\":[{\"a\":1}]}}]";
        assert_int_equal(parse_bytes(text, strlen(text), &e), UL_OK);
}

/* A million bytes of keys: found in n log n, or this test does not end. */
static void a_duplicate_among_many_keys_is_found_quickly(void **state)
{
        (void)state;
        struct buf b = {0};
        struct errinfo e;
        buf_append_str(&b, "{");
        for (int i = 0; i < 100000; i++)
                buf_printf(&b, "\"k%d\":0,", i);
        size_t at = b.len;
        buf_append_str(&b, "\"z\":0}");
        assert_int_equal(parse_bytes((char *)b.data, b.len, &e), UL_OK);
        memcpy(b.data + at + 1, "k", 1);
        b.len = at;
        buf_append_str(&b, "\"k77777\":0}");
        assert_refused((char *)b.data, b.len, (long)at);
        buf_free(&b, false);
}

static void errors_never_quote_the_text(void **state)
{
        (void)state;
        static const char *const texts[] = {
                "{\"alice@example.org\":1,\"alice@example.org\":2}", "[\"alice@example.org\" x]",
                "{\"alice@example.org\" 1}", "\"alice@example.org\\q\""};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
                struct errinfo e = {0};
                assert_int_equal(parse_bytes(texts[i], strlen(texts[i]), &e), UL_SYNTAX);
                assert_null(strstr(e.detail, "alice"));
                assert_string_equal(e.field, "");
        }
}

static void every_cut_of_a_document_is_refused(void **state)
{
        (void)state;
        const char text[] = "{\"a\":[1.5e3,true,null,\"\\u00e9\xE2\x82\xAC\"],\"b\":{\"c\":-0}}";
        struct errinfo e;
        for (size_t n = 0; n < sizeof text - 1; n++)
                assert_int_equal(parse_bytes(text, n, &e), UL_SYNTAX);
        assert_int_equal(parse_bytes(text, sizeof text - 1, &e), UL_OK);
}

static void a_long_number_is_read_or_refused_but_never_cut(void **state)
{
        (void)state;
        char text[128];
        struct errinfo e;
        for (size_t n = 1; n < 100; n++) {
                memset(text, '7', n);
                assert_int_equal(parse_bytes(text, n, &e), n <= 63 ? UL_OK : UL_SYNTAX);
        }
}

static void integers_are_exact_or_refused(void **state)
{
        (void)state;
        static const struct {
                const char *text;
                bool ok;
        } cases[] = {{"0", true},
                     {"-0", true},
                     {"12", true},
                     {"1e3", true},
                     {"12.0", true},
                     {"9007199254740991", true},
                     {"-9007199254740991", true},
                     {"9007199254740993", false},
                     {"9223372036854775807", false},
                     {"18446744073709551615", false},
                     {"1e300", false},
                     {"1.5", false},
                     {"-1.0000001", false},
                     {"\"1\"", false},
                     {"true", false},
                     {"null", false}};
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct json *d = parse(cases[i].text);
                int64_t v = 77;
                bool ok = json_integer(d, INT64_MIN, INT64_MAX, &v);
                if (ok != cases[i].ok)
                        fail_msg("%s", cases[i].text);
                assert_true(ok ? (double)v == json_number(d) : v == 77);
                json_free(&d);
        }
        struct json *d = parse("10");
        int64_t v;
        assert_true(json_integer(d, 10, 10, &v));
        assert_false(json_integer(d, 11, 20, &v));
        assert_false(json_integer(d, 0, 9, &v));
        json_free(&d);
}

static void a_freed_document_leaves_no_string_key_or_number(void **state)
{
        (void)state;
        freed_blocks = freed_with_content = 0;
        struct json *d = parse("{\"a secret key\":[987654321.25,{\"k\":\"a secret text\"}]}");
        json_free(&d);
        assert_in_range(freed_blocks, 8, 20);
        assert_int_equal(freed_with_content, 0);
        struct errinfo e; /* a refused document is no different */
        const char *text = "{\"a\":\"secret\",\"b\":987654321.25,\"a\":\"secret\"}";
        assert_int_equal(json_parse(text, strlen(text), &d, &e), UL_SYNTAX);
        assert_true(freed_blocks > 15);
        assert_int_equal(freed_with_content, 0);
}

struct sample {
        char name[8];
        uint32_t small;
        uint64_t seed;
        int64_t offset;
        double rate;
        bool on;
        bool on_seen;
        int64_t when;
        const struct json *any;
        double free;
};

static const struct json_field sample_fields[] = {
        {.name = "name",
         .type = JF_STRING,
         .offset = offsetof(struct sample, name),
         .size = sizeof(((struct sample *)0)->name),
         .min = 1,
         .required = true},
        {.name = "small",
         .type = JF_U32,
         .offset = offsetof(struct sample, small),
         .min = 1,
         .max = 256},
        {.name = "seed", .type = JF_U64, .offset = offsetof(struct sample, seed)},
        {.name = "offset", .type = JF_I64, .offset = offsetof(struct sample, offset)},
        {.name = "rate", .type = JF_DOUBLE, .offset = offsetof(struct sample, rate), .max = 1},
        {.name = "on",
         .type = JF_BOOL,
         .offset = offsetof(struct sample, on),
         .seen_offset = offsetof(struct sample, on_seen)},
        {.name = "when", .type = JF_TIME, .offset = offsetof(struct sample, when)},
        {.name = "any", .type = JF_VALUE, .offset = offsetof(struct sample, any)},
        {.name = "free", .type = JF_DOUBLE, .offset = offsetof(struct sample, free)},
};

static int decode(const char *text, struct sample *out, struct errinfo *e, struct json **doc)
{
        *doc = parse(text);
        return json_decode(*doc, sample_fields, sizeof sample_fields / sizeof *sample_fields, out,
                           "/s", e);
}

static void an_object_becomes_a_struct_and_defaults_stay(void **state)
{
        (void)state;
        struct sample s = {.name = "default", .small = 7, .rate = 0.25, .any = NULL};
        struct errinfo e;
        struct json *doc;
        assert_int_equal(decode("{\"name\":\"ab\"}", &s, &e, &doc), UL_OK);
        assert_memory_equal(s.name, "ab\0\0\0\0\0\0", 8);
        assert_int_equal(s.small, 7);
        assert_true(s.rate == 0.25);
        assert_false(s.on_seen);
        json_free(&doc);
        assert_int_equal(decode("{\"name\":\"abcdefg\",\"small\":256,\"seed\":9007199254740991,"
                                "\"offset\":-5,\"rate\":1,\"on\":false,\"free\":-1e300,"
                                "\"when\":\"1970-01-01T00:00:01Z\",\"any\":[1]}",
                                &s, &e, &doc),
                         UL_OK);
        assert_string_equal(s.name, "abcdefg");
        assert_int_equal(s.small, 256);
        assert_true(s.seed == UINT64_C(9007199254740991));
        assert_true(s.offset == -5);
        assert_true(s.rate == 1 && s.free == -1e300);
        assert_true(s.on_seen && !s.on);
        assert_true(s.when == 1000);
        assert_int_equal(json_length(s.any), 1);
        json_free(&doc);
}

static void what_does_not_fit_is_refused_by_its_pointer(void **state)
{
        (void)state;
        static const struct {
                const char *text;
                const char *field;
                const char *detail; /* a part of it */
        } cases[] = {{"{}", "/s/name", "required"},
                     {"{\"name\":\"\"}", "/s/name", "1 to 7 bytes"},
                     {"{\"name\":\"12345678\"}", "/s/name", "1 to 7 bytes"},
                     {"{\"name\":5}", "/s/name", "a string, not number"},
                     {"{\"name\":null}", "/s/name", "a string, not null"},
                     {"{\"name\":\"a\",\"small\":0}", "/s/small", "1 to 256"},
                     {"{\"name\":\"a\",\"small\":257}", "/s/small", "1 to 256"},
                     {"{\"name\":\"a\",\"small\":1.5}", "/s/small", "integer"},
                     {"{\"name\":\"a\",\"small\":\"1\"}", "/s/small", "an integer, not string"},
                     {"{\"name\":\"a\",\"seed\":-1}", "/s/seed", "from 0 to 9007199254740991"},
                     {"{\"name\":\"a\",\"seed\":9007199254740993}", "/s/seed", "from 0"},
                     {"{\"name\":\"a\",\"offset\":1e17}", "/s/offset", "from -9007199254740991"},
                     {"{\"name\":\"a\",\"rate\":1.0001}", "/s/rate", "from 0 to 1"},
                     {"{\"name\":\"a\",\"rate\":-1e-9}", "/s/rate", "from 0 to 1"},
                     {"{\"name\":\"a\",\"rate\":[]}", "/s/rate", "a number, not array"},
                     {"{\"name\":\"a\",\"on\":1}", "/s/on", "true or false, not number"},
                     {"{\"name\":\"a\",\"when\":\"yesterday\"}", "/s/when", "RFC 3339"},
                     {"{\"name\":\"a\",\"when\":0}", "/s/when", "a string, not number"},
                     {"{\"name\":\"a\",\"colour\":0}", "/s/colour", "not a known field"},
                     {"{\"Name\":\"a\"}", "/s/Name", "not a known field"},
                     {"{\"name\":\"a\",\"a/b~c\":0}", "/s/a~1b~0c", "not a known field"},
                     {"[]", "/s", "an object, not array"},
                     {"null", "/s", "an object, not null"}};
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct sample s = {0};
                struct errinfo e = {0};
                struct json *doc;
                assert_int_equal(decode(cases[i].text, &s, &e, &doc), UL_INVALID);
                assert_int_equal(e.code, UL_INVALID);
                assert_string_equal(e.field, cases[i].field);
                if (strstr(e.detail, cases[i].detail) == NULL)
                        fail_msg("%s: %s", cases[i].text, e.detail);
                json_free(&doc);
        }
}

static void a_refusal_never_repeats_a_value(void **state)
{
        (void)state;
        struct sample s = {0};
        struct errinfo e;
        struct json *doc;
        decode("{\"name\":\"alice@example.org\"}", &s, &e, &doc);
        assert_null(strstr(e.detail, "alice"));
        json_free(&doc);
}

static void an_unknown_field_of_any_length_is_cut_between_characters(void **state)
{
        (void)state;
        for (size_t shift = 0; shift < 3; shift++) {
                struct buf b = {0};
                struct errinfo e;
                struct sample s = {0};
                buf_append_str(&b, "{\"");
                buf_append(&b, "xx", shift);
                for (int i = 0; i < 500; i++)
                        buf_append_str(&b, "\xE2\x82\xAC");
                buf_append(&b, "\":1}", 5);
                struct json *doc;
                assert_int_equal(decode((char *)b.data, &s, &e, &doc), UL_INVALID);
                assert_int_equal((strlen(e.field) - 3 - shift) % 3, 0);
                assert_true(strlen(e.field) > ERRINFO_FIELD_MAX - 5);
                json_free(&doc);
                buf_free(&b, false);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(values_of_every_type_are_read),
                cmocka_unit_test(texts_and_escapes_are_decoded),
                cmocka_unit_test(what_is_not_json_is_refused_with_its_place),
                cmocka_unit_test(a_nul_is_refused_in_every_form),
                cmocka_unit_test(invalid_utf8_is_refused),
                cmocka_unit_test(depth_is_limited),
                cmocka_unit_test(duplicate_keys_are_refused_however_they_are_written),
                cmocka_unit_test(a_duplicate_among_many_keys_is_found_quickly),
                cmocka_unit_test(errors_never_quote_the_text),
                cmocka_unit_test(every_cut_of_a_document_is_refused),
                cmocka_unit_test(a_long_number_is_read_or_refused_but_never_cut),
                cmocka_unit_test(integers_are_exact_or_refused),
                cmocka_unit_test(a_freed_document_leaves_no_string_key_or_number),
                cmocka_unit_test(an_object_becomes_a_struct_and_defaults_stay),
                cmocka_unit_test(what_does_not_fit_is_refused_by_its_pointer),
                cmocka_unit_test(a_refusal_never_repeats_a_value),
                cmocka_unit_test(an_unknown_field_of_any_length_is_cut_between_characters),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
