/* SPDX-License-Identifier: Apache-2.0
 * cosignature.c: see cosignature.h. What it reads comes from strangers, so that a line is used when
 * it is known to be whole, and believed when its signature holds. */
#include "lib/audit/cosignature.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
        TYPE_ED25519 = 0x01,
        TYPE_COSIGNATURE_V1 = 0x04,
        TYPE_ML_DSA_44 = 0x06,
        PUBLIC_TEXT = (1 + SIGN_PUBLIC_BYTES + 2) / 3 * 4,
        HASH_TEXT = (SHA256_BYTES + 2) / 3 * 4,
        KEY_BYTES_MAX = 2048, /* of other algorithms */
        DIGITS_MAX = 20,      /* of a u64 */
        HEADER_MAX = 64,      /* the two lines before the checkpoint's text */
};

/* --- keys --- */

static void key_id(const char *name, uint8_t type, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                   uint8_t id[NOTE_KEY_ID_BYTES])
{
        const uint8_t between[2] = {'\n', type};
        uint8_t digest[SHA256_BYTES];
        struct sha256_state s;
        sha256_begin(&s);
        sha256_add(&s, name, strlen(name));
        sha256_add(&s, between, sizeof between);
        sha256_add(&s, public_key, SIGN_PUBLIC_BYTES);
        sha256_end(&s, digest);
        memcpy(id, digest, NOTE_KEY_ID_BYTES);
}

int cosigner_parse(const char *vkey, size_t len, struct cosigner *out, struct errinfo *e)
{
        uint8_t id[NOTE_KEY_ID_BYTES], key[NOTE_KEY_ID_BYTES], typed[KEY_BYTES_MAX];
        const size_t hex_len = 2 * sizeof id;
        const char *plus = memchr(vkey, '+', len);
        size_t name_len = plus != NULL ? (size_t)(plus - vkey) : 0;
        long n = -1;
        memset(out, 0, sizeof *out);
        if (plus != NULL && len > name_len + 2 + hex_len && plus[1 + hex_len] == '+' &&
            hex_decode(plus + 1, hex_len, id, sizeof id) == (long)sizeof id)
                n = base64_decode(plus + 2 + hex_len, len - name_len - 2 - hex_len, typed,
                                  sizeof typed);
        if (n < 1 || !note_name_valid(vkey, name_len))
                return ul_fail(
                        e, UL_SYNTAX,
                        "a witness's key is NAME+KEYID+KEY, on one line, as it publishes it");
        if (typed[0] == TYPE_ML_DSA_44)
                return ul_fail(e, UL_UNSUPPORTED,
                               "this is an ML-DSA-44 key; give the witness's Ed25519 key (type 4)");
        if ((typed[0] != TYPE_COSIGNATURE_V1 && typed[0] != TYPE_ED25519) ||
            n != 1 + SIGN_PUBLIC_BYTES)
                return ul_fail(e, UL_UNSUPPORTED, "this is not an Ed25519 key of a witness");
        memcpy(out->name, vkey, name_len);
        memcpy(out->public_key, typed + 1, SIGN_PUBLIC_BYTES);
        key_id(out->name, typed[0], out->public_key, key);
        key_id(out->name, TYPE_COSIGNATURE_V1, out->public_key, out->id);
        if (memcmp(key, id, sizeof id) != 0)
                return ul_fail(e, UL_CORRUPT,
                               "the key id of the witness's key is not that of its "
                               "name and key");
        return 0;
}

char *cosigner_format(const struct cosigner *w, char out[NOTE_VKEY_SIZE])
{
        uint8_t typed[1 + SIGN_PUBLIC_BYTES];
        char hex[2 * NOTE_KEY_ID_BYTES + 1], key[PUBLIC_TEXT + 1];
        typed[0] = TYPE_COSIGNATURE_V1;
        memcpy(typed + 1, w->public_key, SIGN_PUBLIC_BYTES);
        (void)snprintf(out, NOTE_VKEY_SIZE, "%s+%s+%s", w->name,
                       hex_encode(w->id, sizeof w->id, hex),
                       base64_encode(typed, sizeof typed, key));
        return out;
}

/* --- cosignatures --- */

void cosignature_write(const struct cosigner *w, const struct cosignature *c, struct buf *out)
{
        uint8_t raw[COSIGNATURE_BYTES];
        put_be64(raw, c->time);
        memcpy(raw + 8, c->signature, SIGN_BYTES);
        note_signature_write(w->name, w->id, raw, sizeof raw, out);
}

/* 0 or an error: UL_CORRUPT, UL_NOMEM. */
static int verify(const struct cosigner *w, const struct cosignature *c, const char *text,
                  size_t text_len)
{
        struct buf message = {0};
        buf_init(&message, HEADER_MAX + NOTE_BYTES_MAX);
        buf_printf(&message, "cosignature/v1\ntime %" PRIu64 "\n", c->time);
        buf_append(&message, text, text_len);
        int err = message.failed ? UL_NOMEM : 0;
        if (err == 0 && (c->time > INT64_MAX ||
                         !sign_verify(w->public_key, message.data, message.len, c->signature)))
                err = UL_CORRUPT;
        buf_free(&message, false);
        return err;
}

/* One line. UL_NOT_FOUND: by somebody else. */
static int read_line(const char *line, size_t len, const char *text, size_t text_len,
                     const struct cosigner *w, struct cosignature *out)
{
        struct note_signature s;
        if (!note_signature_parse(line, len, &s))
                return UL_SYNTAX;
        if (s.name_len != strlen(w->name) || memcmp(s.name, w->name, s.name_len) != 0 ||
            memcmp(s.id, w->id, sizeof w->id) != 0)
                return UL_NOT_FOUND;
        if (s.len != COSIGNATURE_BYTES)
                return UL_CORRUPT;
        out->time = get_be64(s.bytes);
        memcpy(out->signature, s.bytes + 8, SIGN_BYTES);
        return verify(w, out, text, text_len);
}

int cosignature_find(const char *lines, size_t len, const char *text, size_t text_len,
                     const struct cosigner *w, struct cosignature *out, struct errinfo *e)
{
        bool found = false;
        memset(out, 0, sizeof *out);
        if (len > NOTE_BYTES_MAX || text_len > NOTE_BYTES_MAX)
                return ul_fail(e, UL_TOO_LARGE, "the signatures are over %d bytes", NOTE_BYTES_MAX);
        for (int i = 0; len > 0; i++) {
                struct cosignature c;
                const char *newline = memchr(lines, '\n', len);
                size_t n = newline != NULL ? (size_t)(newline - lines) : 0;
                int err = newline == NULL || i >= NOTE_SIGNATURES_MAX
                                  ? UL_SYNTAX
                                  : read_line(lines, n, text, text_len, w, &c);
                if (err == UL_SYNTAX)
                        return ul_fail(e, err, "signature line %d is malformed", i + 1);
                if (err == UL_CORRUPT)
                        return ul_fail(e, err, "the cosignature does not verify");
                if (err != 0 && err != UL_NOT_FOUND)
                        return ul_fail(e, err, "no memory for a cosignature");
                if (err == 0 && (!found || c.time > out->time))
                        *out = c;
                found = found || err == 0;
                lines += n + 1;
                len -= n + 1;
        }
        return found ? 0 : ul_fail(e, UL_NOT_FOUND, "there is no cosignature by %.100s", w->name);
}

int cosignature_find_in_note(const char *note, size_t len, const struct cosigner *w,
                             struct cosignature *out, size_t *text_len, struct errinfo *e)
{
        memset(out, 0, sizeof *out);
        int err = note_split(note, len, text_len, e);
        if (err == 0)
                err = cosignature_find(note + *text_len + 1, len - *text_len - 1, note, *text_len,
                                       w, out, e);
        return err;
}

int cosignature_timely(const struct cosignature *c, int64_t since_s, int64_t now_s,
                       struct errinfo *e)
{
        assert(c->time <= INT64_MAX);
        if ((int64_t)c->time - COSIGNATURE_SKEW_S > now_s)
                return ul_fail(e, UL_INVALID, "the cosignature's time is in the future");
        if (since_s > 0 && (int64_t)c->time < since_s - COSIGNATURE_SKEW_S)
                return ul_fail(e, UL_INVALID,
                               "the cosignature's time is before what it signs was written");
        return 0;
}

/* --- add-checkpoint --- */

void witness_request(uint64_t old, const uint8_t (*hashes)[SHA256_BYTES], uint32_t count,
                     const void *note, size_t note_len, struct buf *out)
{
        char hash[HASH_TEXT + 1];
        assert(count <= WITNESS_REQUEST_PROOF);
        buf_printf(out, "old %" PRIu64 "\n", old);
        for (uint32_t i = 0; i < count; i++)
                buf_printf(out, "%s\n", base64_encode(hashes[i], SHA256_BYTES, hash));
        buf_append_str(out, "\n");
        buf_append(out, note, note_len);
}

bool witness_size(const void *body, size_t len, uint64_t *size)
{
        const char *text = body;
        uint64_t v = 0;
        *size = 0;
        if (len < 2 || len > DIGITS_MAX + 1 || text[len - 1] != '\n' ||
            (text[0] == '0' && len != 2))
                return false;
        for (size_t i = 0; i + 1 < len; i++) {
                if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
                    __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
                        return false;
        }
        *size = v;
        return true;
}
