/* SPDX-License-Identifier: Apache-2.0
 * fuzz_cosignature.c: what comes from witnesses, and what is said to be of them. '0': a
 * checkpoint's text and the answer of a witness to it, an empty line between; '1': a note with
 * cosignatures; '2': a witness's key; '3': the body of a 409. '4': a time and a text, cosigned
 * here; the line must be found among the rest of the input where that is one of signature lines,
 * and not with any one byte changed. Nothing verifies that the witness's key did not sign. */
#include "lib/audit/cosignature.h"
#include "tests/fuzz/fuzz.h"
#include <inttypes.h>
#include <strings.h>

static const uint8_t seed[SIGN_SEED_BYTES] = {9};
static struct cosigner witness;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        uint8_t typed[1 + SIGN_PUBLIC_BYTES] = {4}, digest[SHA256_BYTES];
        static const char name[] = "witness.example/w1\n";
        char vkey[NOTE_VKEY_SIZE], hex[9], key[45];
        struct sha256_state s;
        (void)argc, (void)argv;
        if (crypto_init() != 0)
                return -1;
        sign_keypair(seed, typed + 1);
        sha256_begin(&s);
        sha256_add(&s, name, sizeof name - 1);
        sha256_add(&s, typed, sizeof typed);
        sha256_end(&s, digest);
        const int n = snprintf(vkey, sizeof vkey, "%.*s+%s+%s", (int)sizeof name - 2, name,
                               hex_encode(digest, 4, hex), base64_encode(typed, sizeof typed, key));
        return cosigner_parse(vkey, (size_t)n, &witness, NULL);
}

/* What the specification says is signed. */
static void message_of(uint64_t time, const char *text, size_t len, struct buf *out)
{
        buf_printf(out, "cosignature/v1\ntime %" PRIu64 "\n", time);
        buf_append(out, text, len);
}

/* 0, or a refusal that says why. What is found, the key has signed. */
static int check_find(const char *lines, size_t len, const char *text, size_t text_len)
{
        struct cosignature c;
        struct errinfo e = {0};
        const int err = cosignature_find(lines, len, text, text_len, &witness, &c, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return err;
        }
        struct buf message = {0}, line = {0};
        message_of(c.time, text, text_len, &message);
        assert(c.time <= INT64_MAX);
        assert(sign_verify(witness.public_key, message.data, message.len, c.signature));
        cosignature_write(&witness, &c, &line);
        assert(line.len <= len && memmem(lines, len, line.data, line.len) != NULL);
        buf_free(&message, false);
        buf_free(&line, false);
        return 0;
}

static void check_answer(const char *text, size_t size)
{
        const char *end = memmem(text, size, "\n\n", 2);
        if (end != NULL)
                (void)check_find(end + 2, size - (size_t)(end + 2 - text), text,
                                 (size_t)(end + 1 - text));
}

static void check_note(const char *note, size_t size)
{
        struct cosignature c;
        struct errinfo e = {0};
        size_t text_len = 0;
        const int err = cosignature_find_in_note(note, size, &witness, &c, &text_len, &e);
        if (err != 0)
                fuzz_check_refusal(err, &e);
        else
                assert(check_find(note + text_len + 1, size - text_len - 1, note, text_len) == 0);
}

static void check_key(const char *text, size_t size)
{
        struct cosigner w, again;
        struct errinfo e = {0};
        char out[NOTE_VKEY_SIZE];
        const int err = cosigner_parse(text, size, &w, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                return;
        }
        cosigner_format(&w, out);
        assert(cosigner_parse(out, strlen(out), &again, &e) == 0);
        assert(memcmp(&again, &w, sizeof w) == 0 && strlen(out) == size);
        /* the same key, in the form that it came in or with type 4 */
        assert(memcmp(out + size - 42, text + size - 42, 42) == 0);
}

static void check_size(const char *body, size_t size)
{
        uint64_t n;
        char again[32];
        if (!witness_size(body, size, &n)) {
                assert(n == 0);
                return;
        }
        assert((size_t)snprintf(again, sizeof again, "%" PRIu64 "\n", n) == size);
        assert(memcmp(again, body, size) == 0);
}

static void check_cosigned(const uint8_t *data, size_t size)
{
        struct cosignature c = {.time = 0};
        struct buf message = {0}, lines = {0};
        const char *text = (const char *)data + 8;
        if (size < 9)
                return;
        const char *end = memmem(text, size - 8, "\n\n", 2);
        const size_t text_len = end != NULL ? (size_t)(end + 1 - text) : size - 8;
        c.time = get_be64(data);
        message_of(c.time, text, text_len, &message);
        sign_detached(seed, message.data, message.len, c.signature);
        if (end != NULL)
                buf_append(&lines, end + 2, size - 8 - text_len - 1);
        const size_t before = lines.len;
        const bool others = before == 0 || check_find((const char *)lines.data, before, text,
                                                      text_len) == UL_NOT_FOUND;
        cosignature_write(&witness, &c, &lines);
        const int err = check_find((const char *)lines.data, lines.len, text, text_len);
        assert(!others || c.time > INT64_MAX || err == 0 || err == UL_SYNTAX); /* too many */
        const size_t at = before + crc32c(0, data, size) % (lines.len - before);
        lines.data[at] ^= 1;
        if (others)
                assert(check_find((const char *)lines.data, lines.len, text, text_len) != 0);
        buf_free(&message, false);
        buf_free(&lines, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint32_t choice = fuzz_choice(&data, &size, 5);
        const char *text = (const char *)data;
        if (choice == 0)
                check_answer(text, size);
        else if (choice == 1)
                check_note(text, size);
        else if (choice == 2)
                check_key(text, size);
        else if (choice == 3)
                check_size(text, size);
        else
                check_cosigned(data, size);
        return 0;
}
