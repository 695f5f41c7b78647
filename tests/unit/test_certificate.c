/* SPDX-License-Identifier: Apache-2.0
 * test_certificate.c: envelopes, certificates and their proofs as a stranger may hand them over:
 * what was signed is read, and nothing that was changed in any one byte, cut, or taken from
 * elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/audit/certificate.h"
#include "lib/audit/dsse.h"
#include "lib/audit/proof.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char origin[] = "example.org/log";
static const uint8_t seed[SIGN_SEED_BYTES] = {9};

static struct note_key key_of(const uint8_t from[SIGN_SEED_BYTES], const char *name)
{
        uint8_t public_key[SIGN_PUBLIC_BYTES];
        struct note_key key;
        sign_keypair(from, public_key);
        assert_int_equal(note_key_make(name, public_key, &key, NULL), 0);
        return key;
}

/* --- envelopes --- */

static void what_is_signed_is_the_encoding_of_the_specification(void **state)
{
        /* the example of protocol.md */
        static const char pae[] = "DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        const struct note_key key = key_of(seed, origin);
        struct buf out = {0};
        struct json *doc = NULL;
        uint8_t sig[SIGN_BYTES];
        char keyid[DSSE_KEYID_SIZE], id[9];
        (void)state;
        dsse_sign(&key, seed, "http://example.com/HelloWorld", "hello world", 11, &out);
        assert_int_equal(json_parse((const char *)out.data, out.len, &doc, NULL), 0);
        assert_string_equal(json_string(json_get(doc, "payload")), "aGVsbG8gd29ybGQ=");
        assert_string_equal(json_string(json_get(doc, "payloadType")),
                            "http://example.com/HelloWorld");
        const struct json *s = json_first(json_get(doc, "signatures"));
        const char *text = json_string(json_get(s, "sig"));
        assert_int_equal(base64_decode(text, strlen(text), sig, sizeof sig), SIGN_BYTES);
        assert_true(sign_verify(key.public_key, pae, strlen(pae), sig));
        assert_string_equal(json_string(json_get(s, "keyid")), dsse_keyid(&key, keyid));
        assert_memory_equal(keyid, "example.org/log+", 16);
        assert_string_equal(keyid + 16, hex_encode(key.id, sizeof key.id, id));
        json_free(&doc);
        buf_free(&out, false);
}

static int verify(const char *envelope, const struct note_key *key, const char *type)
{
        struct buf payload = {0};
        struct errinfo e = {0};
        int err = dsse_verify(envelope, strlen(envelope), key, type, &payload, &e);
        assert_int_equal(payload.len > 0, err == 0);
        assert_int_equal(e.code, err);
        buf_free(&payload, false);
        return err;
}

static void an_envelope_is_read_by_its_key_alone(void **state)
{
        static const uint8_t other_seed[SIGN_SEED_BYTES] = {10};
        const struct note_key key = key_of(seed, origin), other = key_of(other_seed, origin);
        struct buf ours = {0}, theirs = {0}, both = {0};
        (void)state;
        dsse_sign(&key, seed, "t", "payload", 7, &ours);
        dsse_sign(&other, other_seed, "t", "payload", 7, &theirs);
        buf_append(&ours, "", 1);
        buf_append(&theirs, "", 1);
        assert_int_equal(verify((char *)ours.data, &key, "t"), 0);
        assert_int_equal(verify((char *)ours.data, &key, "u"), UL_UNSUPPORTED);
        assert_int_equal(verify((char *)ours.data, &other, "t"), UL_CORRUPT);
        assert_int_equal(verify((char *)theirs.data, &key, "t"), UL_CORRUPT);
        /* keyids are hints: signatures of others, or without one, are passed over */
        char *list = strstr((char *)theirs.data, "[{");
        char *mine = strstr((char *)ours.data, "[{");
        buf_append(&both, ours.data, (size_t)(mine - (char *)ours.data));
        buf_append(&both, list, strlen(list) - 2);
        buf_append_str(&both, ",{\"sig\":");
        buf_append_str(&both, strstr(mine, "\"sig\":") + 6);
        buf_append(&both, "", 1);
        assert_int_equal(verify((char *)both.data, &key, "t"), 0);
        assert_int_equal(verify((char *)both.data, &other, "t"), 0);
        buf_free(&both, false);
        buf_free(&theirs, false);
        buf_free(&ours, false);
}

static void what_is_no_envelope_is_refused(void **state)
{
        const struct note_key key = key_of(seed, origin);
        static const char *const bad[] = {
                "{}",
                "[]",
                "7",
                "{\"payload\":\"YQ==\"}",
                "{\"payloadType\":\"t\"}",
                "{\"payload\":\"YQ==\",\"payloadType\":\"t\"}",
                "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":[]}",
                "{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":{}}",
                "{\"payload\":\"YQ=\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
                "{\"payload\":7,\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
                "{\"payload\":\"\",\"payloadType\":\"t\",\"signatures\":[{\"sig\":\"YQ==\"}]}",
        };
        (void)state;
        assert_int_equal(verify("", &key, "t"), UL_SYNTAX);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                assert_int_equal(verify(bad[i], &key, "t"), UL_SYNTAX);
        assert_int_equal(verify("{\"payload\":\"YQ==\",\"payloadType\":\"t\",\"signatures\":"
                                "[{\"sig\":\"YQ==\"},7,{\"keyid\":\"x\"}]}",
                                &key, "t"),
                         UL_CORRUPT);
}

/* --- a log of eleven entries, one of which records a certificate --- */

enum { ENTRIES = 11, AT = 6, LEVELS = 5 };
struct world {
        struct note_key key;
        struct buf statement, envelope, proof, note;
        struct buf entry[ENTRIES];
        uint8_t node[LEVELS][16][SHA256_BYTES];
        uint8_t root[SHA256_BYTES];
};

static int get_node(void *arg, uint32_t level, uint64_t index, uint8_t hash[SHA256_BYTES])
{
        struct world *w = arg;
        memcpy(hash, w->node[level][index], SHA256_BYTES);
        return 0;
}

static int put_node(void *arg, uint32_t level, uint64_t index, const uint8_t hash[SHA256_BYTES])
{
        struct world *w = arg;
        memcpy(w->node[level][index], hash, SHA256_BYTES);
        return 0;
}

static void prove(struct world *w, uint64_t index)
{
        uint8_t hashes[MERKLE_PROOF_MAX][SHA256_BYTES];
        uint32_t count = 0;
        buf_reset(&w->proof, false);
        assert_int_equal(merkle_inclusion(index, ENTRIES, get_node, w, hashes, &count), 0);
        tlog_proof_write(index, w->entry[index].data, w->entry[index].len,
                         (const uint8_t(*)[SHA256_BYTES])hashes, count, w->note.data, w->note.len,
                         &w->proof);
        assert_false(w->proof.failed);
}

static void write_certificate(struct world *w, const char *erasure)
{
        static const uint8_t digests[2][SHA256_BYTES] = {{1}, {2}};
        static const uint8_t hash[SHA256_BYTES] = {3};
        const struct certificate_constituent x = {.model = "m",
                                                  .shard = 3,
                                                  .slice = 2,
                                                  .records = 4,
                                                  .outcome = CERTIFICATE_RETRAINED,
                                                  .first = 2,
                                                  .destroyed = 2,
                                                  .digests = digests,
                                                  .slices = 3,
                                                  .file_hash = hash,
                                                  .data_hash = hash,
                                                  .retained = hash,
                                                  .config_hash = hash,
                                                  .kernel = "Haswell"};
        const struct certificate c = {.erasure = erasure,
                                      .guarantee = "exact",
                                      .software = "test",
                                      .constituents = &x,
                                      .count = 1,
                                      .destroyed = 2,
                                      .origin = origin,
                                      .forgotten_index = AT - 1,
                                      .completed_index = AT,
                                      .forgotten_entry = hash};
        buf_reset(&w->statement, false);
        buf_reset(&w->envelope, false);
        certificate_write(&c, &w->statement);
        assert_false(w->statement.failed);
        dsse_sign(&w->key, seed, CERTIFICATE_PAYLOAD_TYPE, w->statement.data, w->statement.len,
                  &w->envelope);
        assert_false(w->envelope.failed);
}

static int setup(void **state)
{
        struct world *w = calloc(1, sizeof *w);
        struct buf text = {0};
        uint8_t digest[SHA256_BYTES];
        char hex[2 * SHA256_BYTES + 1];
        assert_non_null(w);
        assert_int_equal(crypto_init(), 0);
        w->key = key_of(seed, origin);
        write_certificate(w, "E");
        sha256(w->statement.data, w->statement.len, digest);
        for (uint64_t i = 0; i < ENTRIES; i++) {
                uint8_t leaf[SHA256_BYTES];
                buf_printf(&w->entry[i],
                           "{\"v\":1,\"index\":%d,\"type\":\"%s\",\"data\":{\"erasure\":\"%s\","
                           "\"certificate\":\"%s\"}}",
                           (int)i, i == 7 ? "other" : "erasure.completed", i == 8 ? "F" : "E",
                           hex_encode(digest, sizeof digest, hex));
                merkle_leaf(w->entry[i].data, w->entry[i].len, leaf);
                assert_int_equal(merkle_append(i, leaf, get_node, put_node, w), 0);
        }
        assert_int_equal(merkle_root(ENTRIES, get_node, w, w->root), 0);
        checkpoint_format(origin, ENTRIES, w->root, &text);
        assert_int_equal(
                note_sign(&w->key, seed, (const char *)text.data, text.len, &w->note, NULL), 0);
        buf_free(&text, false);
        prove(w, AT);
        *state = w;
        return 0;
}

static int teardown(void **state)
{
        struct world *w = *state;
        for (int i = 0; i < ENTRIES; i++)
                buf_free(&w->entry[i], false);
        buf_free(&w->note, false);
        buf_free(&w->proof, false);
        buf_free(&w->envelope, false);
        buf_free(&w->statement, false);
        free(w);
        return 0;
}

/* Which check fails; "" for none. */
static const char *check(const struct world *w, const void *envelope, size_t envelope_len,
                         const void *proof, size_t proof_len)
{
        static char field[ERRINFO_FIELD_MAX];
        struct certificate_read c;
        struct errinfo e = {0};
        struct checkpoint head;
        int err = certificate_open(envelope, envelope_len, &w->key, &c, &e);
        if (err == 0)
                err = certificate_check_proof(&c, proof, proof_len, &w->key, &head, &e);
        if (err == 0)
                assert_int_equal(head.size, ENTRIES);
        (void)snprintf(field, sizeof field, "%s", err == 0 ? "" : e.field[0] ? e.field : "form");
        certificate_clear(&c);
        return field;
}

static const char *check_both(const struct world *w)
{
        return check(w, w->envelope.data, w->envelope.len, w->proof.data, w->proof.len);
}

static void a_certificate_and_its_proof_hold(void **state)
{
        struct world *w = *state;
        struct certificate_read c;
        assert_string_equal(check_both(w), "");
        assert_int_equal(certificate_open(w->envelope.data, w->envelope.len, &w->key, &c, NULL), 0);
        assert_string_equal(c.erasure, "E");
        assert_int_equal(c.log_index, AT);
        assert_int_equal(c.statement.len, w->statement.len);
        assert_memory_equal(c.statement.data, w->statement.data, c.statement.len);
        certificate_clear(&c);
}

static void no_byte_of_an_envelope_can_be_changed(void **state)
{
        struct world *w = *state;
        size_t refused = 0;
        for (size_t i = 0; i < w->envelope.len; i++) {
                struct certificate_read c;
                w->envelope.data[i] ^= 1;
                int err = certificate_open(w->envelope.data, w->envelope.len, &w->key, &c, NULL);
                /* but the keyid, which is a hint: nothing is believed of it */
                if (err == 0)
                        assert_memory_equal(c.statement.data, w->statement.data, w->statement.len);
                refused += err != 0;
                certificate_clear(&c);
                w->envelope.data[i] ^= 1;
        }
        assert_true(refused > w->envelope.len - 64);
}

static void no_byte_of_a_proof_can_be_changed_and_none_be_missing(void **state)
{
        struct world *w = *state;
        for (size_t i = 0; i < w->proof.len; i++) {
                w->proof.data[i] ^= 1;
                assert_string_not_equal(check_both(w), "");
                w->proof.data[i] ^= 1;
                assert_string_not_equal(
                        check(w, w->envelope.data, w->envelope.len, w->proof.data, i), "");
        }
}

static void each_lie_is_found_by_its_check(void **state)
{
        static const uint8_t other_seed[SIGN_SEED_BYTES] = {10};
        struct world *w = *state;
        const struct note_key own = w->key;
        char *text;
        /* another key, and one of another log */
        w->key = key_of(other_seed, origin);
        assert_string_equal(check_both(w), "signature");
        w->key = key_of(seed, "example.org/other");
        assert_string_equal(check_both(w), "statement");
        w->key = own;
        /* another entry: not the index, not the type, not the erasure that the certificate says */
        prove(w, AT + 1);
        assert_string_equal(check_both(w), "entry");
        prove(w, AT);
        /* a certificate that the log does not know, well signed */
        write_certificate(w, "G");
        assert_string_equal(check_both(w), "entry");
        write_certificate(w, "E");
        assert_string_equal(check_both(w), "");
        /* an index, a hash, a root that are others */
        text = strstr((char *)w->proof.data, "index 6");
        text[6] = '5';
        assert_string_equal(check_both(w), "inclusion");
        text[6] = '6';
        text[8] = text[8] == 'A' ? 'B' : 'A';
        assert_string_equal(check_both(w), "inclusion");
        prove(w, AT);
        text = strstr((char *)w->proof.data, "\n11\n");
        text[2] = '2';
        assert_string_equal(check_both(w), "checkpoint");
        prove(w, AT);
        assert_string_equal(check_both(w), "");
}

static void what_is_signed_and_no_certificate_is_refused(void **state)
{
        struct world *w = *state;
        static const char *const bad[] = {
                "7",
                "{\"_type\":\"https://in-toto.io/Statement/v0.1\"}",
                "{\"_type\":\"https://in-toto.io/Statement/v1\"}",
                "{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicateType\":\"x\"}",
                "{\"_type\":\"https://in-toto.io/Statement/v1\","
                "\"predicateType\":\"urn:unlearnd:erasure-certificate:v1\"}",
                "{\"_type\":\"https://in-toto.io/Statement/v1\","
                "\"predicateType\":\"urn:unlearnd:erasure-certificate:v1\",\"predicate\":[]}",
                "{\"_type\":\"https://in-toto.io/Statement/v1\","
                "\"predicateType\":\"urn:unlearnd:erasure-certificate:v1\","
                "\"predicate\":{\"erasure\":\"E\",\"log_index\":6}}",
        };
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                buf_reset(&w->envelope, false);
                dsse_sign(&w->key, seed, CERTIFICATE_PAYLOAD_TYPE, bad[i], strlen(bad[i]),
                          &w->envelope);
                assert_string_equal(check_both(w), "statement");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_signed_is_the_encoding_of_the_specification),
                cmocka_unit_test(an_envelope_is_read_by_its_key_alone),
                cmocka_unit_test(what_is_no_envelope_is_refused),
                cmocka_unit_test_setup_teardown(a_certificate_and_its_proof_hold, setup, teardown),
                cmocka_unit_test_setup_teardown(no_byte_of_an_envelope_can_be_changed, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        no_byte_of_a_proof_can_be_changed_and_none_be_missing, setup, teardown),
                cmocka_unit_test_setup_teardown(each_lie_is_found_by_its_check, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_signed_and_no_certificate_is_refused, setup,
                                                teardown),
        };
        if (crypto_init() != 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
