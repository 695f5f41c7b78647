/* SPDX-License-Identifier: Apache-2.0
 * dsse.c: see dsse.h. Envelopes come from strangers: nothing is decoded before its length is known
 * to fit, and no payload is given out before a signature over it holds. */
#include "lib/audit/dsse.h"

#include "lib/util/json.h"
#include <stdlib.h>
#include <string.h>

char *dsse_keyid(const struct note_key *key, char out[DSSE_KEYID_SIZE])
{
        size_t at = strlen(key->name);
        memcpy(out, key->name, at);
        out[at++] = '+';
        hex_encode(key->id, sizeof key->id, out + at);
        return out;
}

/* The pre-authentication encoding. */
static void encode(struct buf *out, const char *type, const void *payload, size_t len)
{
        buf_printf(out, "DSSEv1 %zu %s %zu ", strlen(type), type, len);
        buf_append(out, payload, len);
}

static void write_base64(struct json_writer *w, const void *data, size_t len)
{
        char *text = malloc(base64_size(len));
        if (text == NULL) {
                w->out->failed = true;
                return;
        }
        jw_string(w, base64_encode(data, len, text));
        free(text);
}

void dsse_sign(const struct note_key *key, const uint8_t seed[SIGN_SEED_BYTES], const char *type,
               const void *payload, size_t len, struct buf *out)
{
        struct buf message = {0};
        struct json_writer w;
        uint8_t signature[SIGN_BYTES];
        char keyid[DSSE_KEYID_SIZE];
        encode(&message, type, payload, len);
        if (message.failed) {
                out->failed = true;
                goto out;
        }
        sign_detached(seed, message.data, message.len, signature);
        jw_init(&w, out);
        jw_object(&w);
        jw_key(&w, "payload");
        write_base64(&w, payload, len);
        jw_member_string(&w, "payloadType", type);
        jw_key(&w, "signatures");
        jw_array(&w);
        jw_object(&w);
        jw_member_string(&w, "keyid", dsse_keyid(key, keyid));
        jw_key(&w, "sig");
        write_base64(&w, signature, sizeof signature);
        jw_end_object(&w);
        jw_end_array(&w);
        jw_end_object(&w);
out:
        buf_free(&message, false);
}

/* base64_decode reads some bytes over 0x7f as if their top bit were not set. */
static bool ascii(const char *text)
{
        for (; *text != '\0'; text++)
                if ((uint8_t)*text > 0x7f)
                        return false;
        return true;
}

static int decode_payload(const struct json *doc, struct buf *out, struct errinfo *e)
{
        const char *text = json_string(json_get(doc, "payload"));
        if (text == NULL || !ascii(text))
                return ul_fail(e, UL_SYNTAX, "the envelope has no payload in base64");
        size_t text_len = strlen(text);
        size_t start = out->len;
        uint8_t *room = buf_extend(out, text_len / 4 * 3 + 3);
        if (room == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the payload");
        long n = base64_decode(text, text_len, room, text_len / 4 * 3 + 3);
        out->len = start + (n > 0 ? (size_t)n : 0);
        return n > 0 ? 0 : ul_fail(e, UL_SYNTAX, "the envelope's payload is not base64");
}

static bool signed_by(const struct json *signature, const struct note_key *key,
                      const struct buf *message)
{
        uint8_t raw[SIGN_BYTES];
        const char *text = json_string(json_get(signature, "sig"));
        return text != NULL && ascii(text) &&
               base64_decode(text, strlen(text), raw, sizeof raw) == SIGN_BYTES &&
               sign_verify(key->public_key, message->data, message->len, raw);
}

static int check_signatures(const struct json *doc, const struct note_key *key,
                            const struct buf *message, struct errinfo *e)
{
        const struct json *list = json_get(doc, "signatures");
        int left = DSSE_SIGNATURES_MAX;
        if (key == NULL)
                return 0;
        if (list == NULL || json_type_of(list) != JSON_ARRAY || json_first(list) == NULL)
                return ul_fail(e, UL_SYNTAX, "the envelope has no signatures");
        for (const struct json *s = json_first(list); s != NULL && left > 0; s = json_next(s)) {
                if (signed_by(s, key, message))
                        return 0;
                left--;
        }
        return ul_fail(e, UL_CORRUPT, "no signature of the envelope is this key's");
}

int dsse_verify(const void *envelope, size_t len, const struct note_key *key, const char *type,
                struct buf *payload, struct errinfo *e)
{
        struct json *doc = NULL;
        struct buf raw = {0}, message = {0};
        if (len > DSSE_BYTES_MAX)
                return ul_fail(e, UL_TOO_LARGE, "the envelope is over %d bytes", DSSE_BYTES_MAX);
        int err = json_parse(envelope, len, &doc, e);
        if (err != 0)
                return err;
        const char *said = json_string(json_get(doc, "payloadType"));
        if (said == NULL)
                err = ul_fail(e, UL_SYNTAX, "this is not a DSSE envelope: it has no payloadType");
        else if (strcmp(said, type) != 0)
                err = ul_fail(e, UL_UNSUPPORTED, "the envelope's payload is not %s", type);
        if (err == 0)
                err = decode_payload(doc, &raw, e);
        if (err == 0)
                encode(&message, type, raw.data, raw.len);
        if (err == 0)
                err = message.failed ? ul_fail(e, UL_NOMEM, "no memory for the payload")
                                     : check_signatures(doc, key, &message, e);
        if (err == 0)
                buf_append(payload, raw.data, raw.len);
        if (err == 0 && payload->failed)
                err = ul_fail(e, UL_NOMEM, "no memory for the payload");
        buf_free(&message, false);
        buf_free(&raw, false);
        json_free(&doc);
        return err;
}
