/* SPDX-License-Identifier: Apache-2.0
 * fuzz_body.c: JSON bodies: the strict reader and, on every object that it accepts, the four
 * readers of what a client writes (a model's configuration, an erasure, a line of a batch, a
 * request of OpenDSR). What is
 * accepted is written again and must read back as the same. */
#include "api/erasure_parse.h"
#include "api/opendsr_parse.h"
#include "daemon/http_client.h"
#include "lib/models/config.h"
#include "lib/util/json_scan.h"
#include "tests/fuzz/fuzz.h"
#include <math.h>
#include <strings.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        return crypto_init();
}

/* --- any JSON --- */

static bool utf8(const char *text)
{
        const uint8_t *p = (const uint8_t *)text;
        for (size_t left = strlen(text), n; left > 0; left -= n, p += n) {
                n = json_utf8_bytes(p, left);
                if (n == 0)
                        return false;
        }
        return true;
}

static void write_value(const struct json *v, struct json_writer *w)
{
        switch (json_type_of(v)) {
        case JSON_NULL:
                jw_null(w);
                return;
        case JSON_BOOL:
                jw_bool(w, json_is_true(v));
                return;
        case JSON_NUMBER:
                assert(isfinite(json_number(v)));
                jw_double(w, json_number(v));
                return;
        case JSON_STRING:
                assert(utf8(json_string(v)));
                jw_string(w, json_string(v));
                return;
        case JSON_ARRAY:
                jw_array(w);
                for (const struct json *c = json_first(v); c != NULL; c = json_next(c))
                        write_value(c, w);
                jw_end_array(w);
                return;
        case JSON_OBJECT:
                jw_object(w);
                for (const struct json *c = json_first(v); c != NULL; c = json_next(c)) {
                        assert(utf8(json_key(c)) && json_get(v, json_key(c)) == c);
                        jw_key(w, json_key(c));
                        write_value(c, w);
                }
                jw_end_object(w);
                return;
        }
        abort();
}

static void text_of(const struct json *v, struct buf *out)
{
        struct json_writer w;
        jw_init(&w, out);
        write_value(v, &w);
        assert(!out->failed);
}

/* Written and read again, a document is the same document. */
static void check_round_trip(const struct json *doc)
{
        struct buf once = {0}, twice = {0};
        struct json *again = NULL;
        struct errinfo e = {0};
        text_of(doc, &once);
        assert(json_parse((const char *)once.data, once.len, &again, &e) == 0);
        text_of(again, &twice);
        assert(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
        json_free(&again);
        buf_free(&once, false);
        buf_free(&twice, false);
}

/* --- a model's configuration --- */

static void check_model(const struct model_config *c)
{
        assert(model_name_valid(c->name, strlen(c->name)));
        assert(c->features >= 1 && c->features <= FEATURES_MAX);
        assert(c->outputs >= 1 &&
               c->outputs <= (c->task == TASK_REGRESSION ? TARGETS_MAX : CLASSES_MAX));
        assert(c->hidden_count <= HIDDEN_LAYERS_MAX);
        assert((c->kind == KIND_MLP) == (c->hidden_count > 0));
        for (uint32_t i = 0; i < c->hidden_count; i++)
                assert(c->hidden[i] >= 1 && c->hidden[i] <= HIDDEN_UNITS_MAX);
        assert(c->shards >= 1 && c->shards <= SHARDS_MAX);
        assert(c->slices >= 1 && c->slices <= SLICES_MAX);
        assert(c->epochs >= 1 && c->epochs <= EPOCHS_MAX);
        assert(c->batch_size >= 1 && c->batch_size <= BATCH_MAX);
        assert(isfinite(c->learning_rate) && c->learning_rate > 0);
        assert(c->momentum >= 0 && c->momentum < 1 && c->l2 >= 0 && c->learning_rate_decay >= 0);
        assert(c->seed < UINT64_C(1) << 53 && c->column_count <= COLUMNS_MAX);
        assert(model_parameter_count(c) <= PARAMETERS_MAX);
        for (uint32_t i = 0; c->labels != NULL && i < c->outputs; i++)
                assert(model_label_index(c, c->labels[i], strlen(c->labels[i])) == (int)i);
}

static void config_text(const struct model_config *c, struct buf *out)
{
        struct json_writer w;
        jw_init(&w, out);
        jw_object(&w);
        model_config_write(c, &w, true);
        jw_end_object(&w);
        assert(!out->failed && out->len <= MODEL_CONFIG_BYTES_MAX);
}

static void try_model(const struct json *doc)
{
        struct model_config *c = NULL, *again = NULL;
        struct buf once = {0}, twice = {0};
        struct errinfo e = {0};
        const int err = model_config_decode(doc, &c, &e);
        if (err != 0) {
                assert(c == NULL);
                fuzz_check_refusal(err, &e);
                return;
        }
        check_model(c);
        config_text(c, &once);
        assert(model_config_parse((const char *)once.data, once.len, &again, &e) == 0);
        config_text(again, &twice);
        assert(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
        assert(memcmp(c->hash, again->hash, SHA256_BYTES) == 0);
        model_config_destroy(&again);
        model_config_destroy(&c);
        buf_free(&once, false);
        buf_free(&twice, false);
}

/* --- an erasure --- */

static void pseudonym(void *arg, const void *id, size_t len, uint8_t out[PSEUDONYM_BYTES])
{
        static const uint8_t key[KEY_BYTES];
        (void)arg;
        assert(len >= 1 && len <= ID_BYTES_MAX);
        pseudonym_of(key, id, len, out);
}

static int callback(void *arg, const char *url, struct errinfo *e)
{
        (void)arg;
        return http_url_check(url, false, e);
}

static void check_erasure(const struct erase_request *r)
{
        assert(r->subject_count <= ERASURE_SUBJECTS_MAX);
        assert(r->record_count <= ERASURE_RECORDS_MAX && r->model_count <= ERASURE_MODELS_MAX);
        assert(r->subject_count + r->record_count > 0);
        for (uint32_t i = 1; i < r->subject_count; i++) /* sorted, each once */
                assert(memcmp(r->subjects[i - 1], r->subjects[i], PSEUDONYM_BYTES) < 0);
        for (uint32_t i = 0; i < r->record_count; i++)
                assert(model_name_valid(r->records[i].model, strlen(r->records[i].model)));
        for (uint32_t i = 0; i < r->model_count; i++)
                assert(model_name_valid(r->models[i], strlen(r->models[i])));
        assert(r->reference[0] == '\0' || reference_valid(r->reference, strlen(r->reference)));
        assert(r->actor[0] == '\0');
        if (r->callback_url != NULL) {
                assert(strlen(r->callback_url) <= URL_MAX);
                assert(strncasecmp(r->callback_url, "https://", 8) == 0);
        }
}

static void try_erasure(const struct json *doc, bool batch)
{
        const struct erasure_reader reader = {
                .pseudonym = pseudonym, .callback = callback, .batch = batch};
        struct erasure_body b;
        struct errinfo e = {0};
        const int err = erasure_parse(doc, &reader, &b, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return;
        }
        check_erasure(&b.request);
        assert(batch || b.idempotency_key[0] == '\0');
        erasure_body_clear(&b);
}

static void of_digest(void *arg, const uint8_t digest[SHA256_BYTES], uint8_t out[PSEUDONYM_BYTES])
{
        (void)arg;
        memcpy(out, digest, PSEUDONYM_BYTES);
}

static int url_check(void *arg, const char *url, struct errinfo *e)
{
        (void)arg;
        return strlen(url) <= OPENDSR_URL_MAX ? 0 : ul_fail(e, UL_INVALID, "is too long");
}

static void try_opendsr(const struct json *doc)
{
        const struct opendsr_reader reader = {.domain = "p.example",
                                              .identities = "email,android_id",
                                              .now_ms = INT64_C(1769850000000),
                                              .pseudonym = pseudonym,
                                              .of_digest = of_digest,
                                              .url_check = url_check};
        struct erase_request r;
        struct errinfo e = {0};
        const int err = opendsr_parse(doc, &reader, &r, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
        } else {
                assert(r.subject_count > 0 && r.subject_count <= ERASURE_SUBJECTS_MAX);
                assert(opendsr_id_valid(r.opendsr->id) && r.received_ms > 0);
                assert(r.opendsr->url_count <= OPENDSR_URLS_MAX);
                assert(reference_valid(r.reference, strlen(r.reference)));
        }
        erase_request_clear(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct json *doc = NULL;
        struct errinfo e = {0};
        const int err = json_parse((const char *)data, size, &doc, &e);
        if (err != 0) {
                assert(doc == NULL && err == UL_SYNTAX);
                fuzz_check_refusal(err, &e);
                return 0;
        }
        check_round_trip(doc);
        if (json_type_of(doc) == JSON_OBJECT) {
                try_model(doc);
                try_erasure(doc, false);
                try_erasure(doc, true);
                try_opendsr(doc);
        }
        json_free(&doc);
        return 0;
}
