/* SPDX-License-Identifier: Apache-2.0
 * fuzz_tokens.c: the tokens file, and the Authorization header: the first line of the input is the
 * header, the rest is the file. A token that the file does not name opens nothing; one that it does
 * gives the scopes of its line and no actor that could not stand in a log. */
#include "api/auth.h"
#include "api/http.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        fuzz_file_init();
        return crypto_init();
}

static void check_actor(const char *actor)
{
        const size_t len = strlen(actor);
        assert(len >= 1 && len < ACTOR_MAX);
        for (size_t i = 0; i < len; i++) {
                const char c = actor[i];
                assert((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       (i > 0 && (c == '.' || c == '_' || c == '-')));
        }
}

static bool holds_hash_of(const uint8_t *file, size_t size, const char *token)
{
        uint8_t hash[SHA256_BYTES], found[SHA256_BYTES];
        sha256(token, strlen(token), hash);
        for (size_t at = 0; at + 2 * sizeof hash <= size; at++)
                if (hex_decode((const char *)file + at, 2 * sizeof hash, found, sizeof found) ==
                            SHA256_BYTES &&
                    memcmp(hash, found, sizeof hash) == 0)
                        return true;
        return false;
}

static void check_header(struct auth *a, const char *header, const uint8_t *file, size_t size)
{
        struct auth_result r = {0};
        const enum auth_verdict verdict = auth_check(a, header, &r);
        if (verdict != AUTH_OK && verdict != AUTH_OVER_QUOTA)
                return;
        /* "Bearer TOKEN": the token is the last word of the header */
        const char *token = strrchr(header, ' ');
        assert(token != NULL && holds_hash_of(file, size, token + 1));
        check_actor(r.actor);
        assert(r.scopes != 0);
        assert(r.quota <= RATE_MAX && r.window_s <= RATE_WINDOW_MAX_S);
        assert(r.remaining <= r.quota);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint8_t *newline = size > 0 ? memchr(data, '\n', size) : NULL;
        if (newline == NULL)
                return 0;
        char *header = fuzz_text(data, (size_t)(newline - data));
        const uint8_t *file = newline + 1;
        const size_t file_size = size - (size_t)(file - data);
        struct auth *a = NULL;
        struct errinfo e = {0};
        const int err = auth_open(fuzz_file(file, file_size), &a, &e);
        if (err != 0) {
                assert(a == NULL);
                fuzz_check_refusal(err, &e);
        } else {
                struct auth_result r = {0};
                assert(!auth_is_open(a) && auth_check(a, NULL, &r) == AUTH_MISSING);
                check_header(a, header, file, file_size);
                assert(auth_reload(a, &e) == 0);
                auth_close(&a);
        }
        free(header);
        return 0;
}
