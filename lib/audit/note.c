/* SPDX-License-Identifier: Apache-2.0
 * note.c: see note.h. Everything here may read a file from a stranger: no line is used before it is
 * known to be whole. It knows nothing of where notes are kept. */
#include "lib/audit/note.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
        ALGORITHM_ED25519 = 0x01,
        PUBLIC_TEXT = (1 + SIGN_PUBLIC_BYTES + 2) / 3 * 4,
        ROOT_TEXT = (SHA256_BYTES + 2) / 3 * 4,
        DIGITS_MAX = 20, /* of a u64 */
};

static const char dash[] = "\xe2\x80\x94 "; /* U+2014, space */
enum { DASH_BYTES = sizeof dash - 1 };

/* --- text --- */

/* Reads one UTF-8 sequence (RFC 3629: shortest form, no surrogates); returns its length, 0 if it is
 * none. */
static size_t utf8_next(const uint8_t *p, size_t len, uint32_t *rune)
{
        static const uint32_t lowest[5] = {0, 0, 0x80, 0x800, 0x10000};
        size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
        if (n == 1) {
                *rune = p[0];
                return 1;
        }
        if (p[0] < 0xc2 || p[0] > 0xf4 || len < n)
                return 0;
        uint32_t r = p[0] & (0x7fu >> n);
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                r = r << 6 | (p[i] & 0x3fu);
        }
        if (r < lowest[n] || r > 0x10ffff || (r >= 0xd800 && r <= 0xdfff))
                return 0;
        *rune = r;
        return n;
}

/* Unicode White_Space beyond ASCII. */
static bool is_space(uint32_t r)
{
        return r == ' ' || r == 0x85 || r == 0xa0 || r == 0x1680 || (r >= 0x2000 && r <= 0x200a) ||
               r == 0x2028 || r == 0x2029 || r == 0x202f || r == 0x205f || r == 0x3000;
}

static bool is_control(uint32_t r)
{
        return r < 0x20 || r == 0x7f;
}

bool note_name_valid(const char *name, size_t len)
{
        const uint8_t *p = (const uint8_t *)name;
        if (len == 0 || len > NOTE_NAME_MAX)
                return false;
        for (size_t i = 0, n; i < len; i += n) {
                uint32_t r;
                n = utf8_next(p + i, len - i, &r);
                if (n == 0 || r == '+' || is_space(r) || is_control(r))
                        return false;
        }
        return true;
}

/* Valid UTF-8, no control characters but newline, and a newline at the end. */
static bool text_valid(const char *text, size_t len)
{
        const uint8_t *p = (const uint8_t *)text;
        if (len == 0 || text[len - 1] != '\n')
                return false;
        for (size_t i = 0, n; i < len; i += n) {
                uint32_t r;
                n = utf8_next(p + i, len - i, &r);
                if (n == 0 || (r < 0x20 && r != '\n'))
                        return false;
        }
        return true;
}

/* --- keys --- */

static void key_id(struct note_key *key)
{
        static const uint8_t between[2] = {'\n', ALGORITHM_ED25519};
        uint8_t digest[SHA256_BYTES];
        struct sha256_state s;
        sha256_begin(&s);
        sha256_add(&s, key->name, strlen(key->name));
        sha256_add(&s, between, sizeof between);
        sha256_add(&s, key->public_key, SIGN_PUBLIC_BYTES);
        sha256_end(&s, digest);
        memcpy(key->id, digest, sizeof key->id);
}

static int key_make(const char *name, size_t len, const uint8_t *public_key, struct note_key *out,
                    struct errinfo *e)
{
        memset(out, 0, sizeof *out);
        if (!note_name_valid(name, len))
                return ul_fail(e, UL_INVALID,
                               "a key name is 1 to %d bytes of UTF-8 without spaces and plus signs",
                               NOTE_NAME_MAX);
        memcpy(out->name, name, len);
        memcpy(out->public_key, public_key, SIGN_PUBLIC_BYTES);
        key_id(out);
        return 0;
}

int note_key_make(const char *name, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                  struct note_key *out, struct errinfo *e)
{
        return key_make(name, strnlen(name, NOTE_NAME_MAX + 1), public_key, out, e);
}

char *note_vkey_format(const struct note_key *key, char out[NOTE_VKEY_SIZE])
{
        uint8_t typed[1 + SIGN_PUBLIC_BYTES];
        size_t at = strlen(key->name);
        typed[0] = ALGORITHM_ED25519;
        memcpy(typed + 1, key->public_key, SIGN_PUBLIC_BYTES);
        memcpy(out, key->name, at);
        out[at++] = '+';
        hex_encode(key->id, sizeof key->id, out + at);
        at += 2 * sizeof key->id;
        out[at++] = '+';
        base64_encode(typed, sizeof typed, out + at);
        return out;
}

int note_vkey_parse(const char *vkey, size_t len, struct note_key *out, struct errinfo *e)
{
        uint8_t id[NOTE_KEY_ID_BYTES], typed[1 + SIGN_PUBLIC_BYTES];
        const char *plus = memchr(vkey, '+', len);
        size_t name_len = plus != NULL ? (size_t)(plus - vkey) : 0;
        size_t hex_len = 2 * sizeof id;
        memset(out, 0, sizeof *out);
        if (plus == NULL || len != name_len + 1 + hex_len + 1 + PUBLIC_TEXT ||
            plus[1 + hex_len] != '+' ||
            hex_decode(plus + 1, hex_len, id, sizeof id) != (long)sizeof id ||
            base64_decode(plus + 2 + hex_len, PUBLIC_TEXT, typed, sizeof typed) !=
                    (long)sizeof typed)
                return ul_fail(e, UL_SYNTAX, "a verifier key is NAME+KEYID+KEY, on one line");
        if (typed[0] != ALGORITHM_ED25519)
                return ul_fail(e, UL_UNSUPPORTED, "the verifier key is not an Ed25519 key");
        if (key_make(vkey, name_len, typed + 1, out, e) != 0)
                return ul_fail(e, UL_SYNTAX, "the verifier key's name is not valid");
        if (memcmp(out->id, id, sizeof id) != 0)
                return ul_fail(e, UL_CORRUPT, "the verifier key's id is not that of its key");
        return 0;
}

/* --- notes --- */

int note_sign(const struct note_key *key, const uint8_t seed[SIGN_SEED_BYTES], const char *text,
              size_t text_len, struct buf *out, struct errinfo *e)
{
        uint8_t signature[SIGN_BYTES];
        if (text_len < 2 || !text_valid(text, text_len)) /* an empty line alone says nothing */
                return ul_fail(e, UL_INVALID,
                               "the text of a note is UTF-8 without control characters and ends in "
                               "a newline");
        sign_detached(seed, text, text_len, signature);
        buf_append(out, text, text_len);
        buf_append_str(out, "\n");
        note_signature_write(key->name, key->id, signature, sizeof signature, out);
        return out->failed ? ul_fail(e, UL_NOMEM, "no memory for a note") : 0;
}

/* The text's length: up to the last empty line, which stands between text and signatures. */
static bool find_signatures(const char *note, size_t len, size_t *text_len)
{
        for (size_t i = len; i >= 2; i--) {
                if (note[i - 1] == '\n' && note[i - 2] == '\n') {
                        *text_len = i - 1;
                        return *text_len > 1 && i < len;
                }
        }
        return false;
}

int note_split(const char *note, size_t len, size_t *text_len, struct errinfo *e)
{
        *text_len = 0;
        if (len > NOTE_BYTES_MAX)
                return ul_fail(e, UL_TOO_LARGE, "the note is over %d bytes", NOTE_BYTES_MAX);
        if (!text_valid(note, len) || !find_signatures(note, len, text_len))
                return ul_fail(e, UL_SYNTAX, "this is not a signed note");
        return 0;
}

bool note_signature_parse(const char *line, size_t len, struct note_signature *out)
{
        uint8_t raw[NOTE_KEY_ID_BYTES + NOTE_SIGNATURE_MAX];
        if (len <= DASH_BYTES || memcmp(line, dash, DASH_BYTES) != 0)
                return false;
        line += DASH_BYTES;
        len -= DASH_BYTES;
        const char *space = memchr(line, ' ', len);
        if (space == NULL || !note_name_valid(line, (size_t)(space - line)))
                return false;
        out->name = line;
        out->name_len = (size_t)(space - line);
        long n = base64_decode(space + 1, len - out->name_len - 1, raw, sizeof raw);
        if (n <= NOTE_KEY_ID_BYTES)
                return false;
        out->len = (size_t)n - NOTE_KEY_ID_BYTES;
        memcpy(out->id, raw, sizeof out->id);
        memcpy(out->bytes, raw + NOTE_KEY_ID_BYTES, out->len);
        return true;
}

void note_signature_write(const char *name, const uint8_t id[NOTE_KEY_ID_BYTES],
                          const uint8_t *signature, size_t len, struct buf *out)
{
        uint8_t raw[NOTE_KEY_ID_BYTES + NOTE_SIGNATURE_MAX];
        char encoded[(sizeof raw + 2) / 3 * 4 + 1];
        assert(len > 0 && len <= NOTE_SIGNATURE_MAX);
        memcpy(raw, id, NOTE_KEY_ID_BYTES);
        memcpy(raw + NOTE_KEY_ID_BYTES, signature, len);
        buf_append_str(out, dash);
        buf_append_str(out, name);
        buf_append_str(out, " ");
        buf_append_str(out, base64_encode(raw, NOTE_KEY_ID_BYTES + len, encoded));
        buf_append_str(out, "\n");
}

enum line { LINE_BAD, LINE_OTHER, LINE_SIGNED, LINE_FORGED };

/* One signature line, without its newline. */
static enum line check_line(const char *line, size_t len, const char *text, size_t text_len,
                            const struct note_key *key)
{
        struct note_signature s;
        if (!note_signature_parse(line, len, &s))
                return LINE_BAD;
        if (s.name_len != strlen(key->name) || memcmp(s.name, key->name, s.name_len) != 0 ||
            memcmp(s.id, key->id, sizeof key->id) != 0)
                return LINE_OTHER;
        if (s.len != SIGN_BYTES || !sign_verify(key->public_key, text, text_len, s.bytes))
                return LINE_FORGED;
        return LINE_SIGNED;
}

int note_verify(const char *note, size_t len, const struct note_key *key, size_t *text_len,
                struct errinfo *e)
{
        bool is_signed = false;
        size_t end = 0;
        *text_len = 0;
        int err = note_split(note, len, &end, e);
        if (err != 0)
                return err;
        const char *line = note + end + 1;
        size_t left = len - end - 1;
        for (int i = 0; left > 0; i++) {
                const char *newline = memchr(line, '\n', left);
                size_t n = (size_t)(newline - line); /* the note ends in one */
                enum line kind =
                        i < NOTE_SIGNATURES_MAX ? check_line(line, n, note, end, key) : LINE_BAD;
                if (kind == LINE_BAD)
                        return ul_fail(e, UL_SYNTAX, "signature line %d is malformed", i + 1);
                if (kind == LINE_FORGED)
                        return ul_fail(e, UL_CORRUPT, "the signature does not verify");
                is_signed = is_signed || kind == LINE_SIGNED;
                line += n + 1;
                left -= n + 1;
        }
        if (!is_signed)
                return ul_fail(e, UL_CORRUPT, "the note is not signed by this key");
        *text_len = end;
        return 0;
}

/* --- checkpoints --- */

void checkpoint_format(const char *origin, uint64_t size, const uint8_t root[SHA256_BYTES],
                       struct buf *out)
{
        char encoded[ROOT_TEXT + 1];
        buf_append_str(out, origin);
        buf_printf(out, "\n%" PRIu64 "\n", size);
        buf_append_str(out, base64_encode(root, SHA256_BYTES, encoded));
        buf_append_str(out, "\n");
}

/* Cuts the next line off; false where there is none or it is empty. */
static bool next_line(const char **text, size_t *left, const char **line, size_t *len)
{
        const char *newline = memchr(*text, '\n', *left);
        if (newline == NULL || newline == *text)
                return false;
        *line = *text;
        *len = (size_t)(newline - *text);
        *text += *len + 1;
        *left -= *len + 1;
        return true;
}

/* Decimal without leading zeros. */
static bool parse_size(const char *line, size_t len, uint64_t *out)
{
        uint64_t v = 0;
        if (len > DIGITS_MAX || (len > 1 && line[0] == '0'))
                return false;
        for (size_t i = 0; i < len; i++) {
                if (line[i] < '0' || line[i] > '9')
                        return false;
                if (__builtin_mul_overflow(v, 10, &v) ||
                    __builtin_add_overflow(v, (uint64_t)(line[i] - '0'), &v))
                        return false;
        }
        *out = v;
        return true;
}

int checkpoint_parse(const char *text, size_t len, struct checkpoint *out, struct errinfo *e)
{
        const char *line = NULL;
        size_t n = 0;
        bool ok = text_valid(text, len);
        memset(out, 0, sizeof *out);
        ok = ok && next_line(&text, &len, &line, &n) && n <= NOTE_NAME_MAX;
        if (ok)
                memcpy(out->origin, line, n);
        ok = ok && next_line(&text, &len, &line, &n) && parse_size(line, n, &out->size);
        ok = ok && next_line(&text, &len, &line, &n) && n == ROOT_TEXT &&
             base64_decode(line, n, out->root, sizeof out->root) == SHA256_BYTES;
        while (ok && len > 0)
                ok = next_line(&text, &len, &line, &n);
        return ok ? 0 : ul_fail(e, UL_SYNTAX, "this is not a checkpoint: origin, size and root");
}

int checkpoint_verify(const char *note, size_t len, const struct note_key *key,
                      struct checkpoint *out, struct errinfo *e)
{
        size_t text_len;
        memset(out, 0, sizeof *out);
        int err = note_verify(note, len, key, &text_len, e);
        if (err == 0)
                err = checkpoint_parse(note, text_len, out, e);
        if (err == 0 && strcmp(out->origin, key->name) != 0)
                err = ul_fail(e, UL_CORRUPT, "the checkpoint is of another log");
        return err;
}
