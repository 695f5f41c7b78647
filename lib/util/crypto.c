/* SPDX-License-Identifier: Apache-2.0
 * crypto.c: the one file that includes sodium.h. It keeps no keys and knows no formats.
 * What libsodium can only refuse for a programmer's mistake is asserted. The random stream's
 * numbers decide where records live and how models are trained: they must never change. */
#include "lib/util/crypto.h"

#include "lib/util/bytes.h"
#include "lib/util/err.h"
#include <assert.h>
#include <sodium.h>
#include <string.h>

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct sha256_state), "opaque state");
_Static_assert(_Alignof(crypto_hash_sha256_state) <= _Alignof(struct sha256_state), "alignment");
_Static_assert(sizeof(crypto_auth_hmacsha256_state) <= sizeof(struct hmac_state), "opaque state");
_Static_assert(_Alignof(crypto_auth_hmacsha256_state) <= _Alignof(struct hmac_state), "alignment");
_Static_assert((int)SHA256_BYTES == (int)crypto_hash_sha256_BYTES, "SHA-256");
_Static_assert((int)SIGN_SEED_BYTES == (int)crypto_sign_SEEDBYTES, "Ed25519 seed");
_Static_assert((int)SIGN_PUBLIC_BYTES == (int)crypto_sign_PUBLICKEYBYTES, "Ed25519 key");
_Static_assert((int)SIGN_BYTES == (int)crypto_sign_BYTES, "Ed25519 signature");
_Static_assert((int)KEY_BYTES == (int)crypto_stream_chacha20_KEYBYTES, "ChaCha20 key");
_Static_assert((int)SHORT_KEY_BYTES == (int)crypto_shorthash_KEYBYTES, "SipHash key");
_Static_assert(crypto_shorthash_BYTES == 8, "SipHash");

int crypto_init(void)
{
        return sodium_init() < 0 ? UL_INTERNAL : UL_OK;
}

void wipe(void *p, size_t len)
{
        if (len > 0)
                sodium_memzero(p, len);
}

void random_bytes(void *p, size_t len)
{
        randombytes_buf(p, len);
}

bool equal_ct(const void *a, const void *b, size_t len)
{
        return len == 0 || sodium_memcmp(a, b, len) == 0;
}

void sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES])
{
        int r = crypto_hash_sha256(out, data, len);
        assert(r == 0);
}

static crypto_hash_sha256_state *inside(struct sha256_state *s)
{
        return (crypto_hash_sha256_state *)(void *)s->opaque;
}

void sha256_begin(struct sha256_state *s)
{
        int r = crypto_hash_sha256_init(inside(s));
        assert(r == 0);
}

void sha256_add(struct sha256_state *s, const void *data, size_t len)
{
        if (len == 0)
                return;
        int r = crypto_hash_sha256_update(inside(s), data, len);
        assert(r == 0);
}

void sha256_end(struct sha256_state *s, uint8_t out[SHA256_BYTES])
{
        int r = crypto_hash_sha256_final(inside(s), out);
        assert(r == 0);
        wipe(s, sizeof *s);
}

static crypto_auth_hmacsha256_state *inside_hmac(struct hmac_state *s)
{
        return (crypto_auth_hmacsha256_state *)(void *)s->opaque;
}

void hmac_sha256_begin(struct hmac_state *s, const void *key, size_t key_len)
{
        int r = crypto_auth_hmacsha256_init(inside_hmac(s), key, key_len);
        assert(r == 0);
}

void hmac_sha256_add(struct hmac_state *s, const void *data, size_t len)
{
        if (len == 0)
                return;
        int r = crypto_auth_hmacsha256_update(inside_hmac(s), data, len);
        assert(r == 0);
}

void hmac_sha256_end(struct hmac_state *s, uint8_t out[SHA256_BYTES])
{
        int r = crypto_auth_hmacsha256_final(inside_hmac(s), out);
        assert(r == 0);
        wipe(s, sizeof *s);
}

void keyed_hash(const uint8_t key[KEY_BYTES], const void *data, size_t len, uint8_t *out,
                size_t out_len)
{
        assert(out_len >= crypto_generichash_BYTES_MIN && out_len <= crypto_generichash_BYTES_MAX);
        int r = crypto_generichash(out, out_len, data, len, key, KEY_BYTES);
        assert(r == 0);
}

uint64_t short_hash(const uint8_t key[SHORT_KEY_BYTES], const void *data, size_t len)
{
        uint8_t out[crypto_shorthash_BYTES];
        int r = crypto_shorthash(out, data, len, key);
        assert(r == 0);
        return get_le64(out);
}

void pseudonym_of(const uint8_t key[KEY_BYTES], const void *id, size_t len,
                  uint8_t out[PSEUDONYM_BYTES])
{
        uint8_t digest[SHA256_BYTES];
        sha256(id, len, digest);
        pseudonym_of_digest(key, digest, out);
        wipe(digest, sizeof digest);
}

void pseudonym_of_digest(const uint8_t key[KEY_BYTES], const uint8_t digest[SHA256_BYTES],
                         uint8_t out[PSEUDONYM_BYTES])
{
        keyed_hash(key, digest, SHA256_BYTES, out, PSEUDONYM_BYTES);
}

static void expand_seed(const uint8_t seed[SIGN_SEED_BYTES], uint8_t public_key[SIGN_PUBLIC_BYTES],
                        uint8_t secret[crypto_sign_SECRETKEYBYTES])
{
        int r = crypto_sign_seed_keypair(public_key, secret, seed);
        assert(r == 0);
}

void sign_keypair(const uint8_t seed[SIGN_SEED_BYTES], uint8_t public_key[SIGN_PUBLIC_BYTES])
{
        uint8_t secret[crypto_sign_SECRETKEYBYTES];
        expand_seed(seed, public_key, secret);
        wipe(secret, sizeof secret);
}

void sign_detached(const uint8_t seed[SIGN_SEED_BYTES], const void *msg, size_t len,
                   uint8_t sig[SIGN_BYTES])
{
        uint8_t public_key[SIGN_PUBLIC_BYTES];
        uint8_t secret[crypto_sign_SECRETKEYBYTES];
        expand_seed(seed, public_key, secret);
        int r = crypto_sign_detached(sig, NULL, msg, len, secret);
        assert(r == 0);
        wipe(secret, sizeof secret);
}

bool sign_verify(const uint8_t public_key[SIGN_PUBLIC_BYTES], const void *msg, size_t len,
                 const uint8_t sig[SIGN_BYTES])
{
        return crypto_sign_verify_detached(sig, msg, len, public_key) == 0;
}

void prng_init(struct prng *p, const uint8_t key[KEY_BYTES], const uint64_t *words, size_t n)
{
        crypto_generichash_state state;
        int r = crypto_generichash_init(&state, key, KEY_BYTES, KEY_BYTES);
        for (size_t i = 0; i < n && r == 0; i++) {
                uint8_t word[8];
                put_le64(word, words[i]);
                r = crypto_generichash_update(&state, word, sizeof word);
        }
        if (r == 0)
                r = crypto_generichash_final(&state, p->key, KEY_BYTES);
        assert(r == 0);
        wipe(&state, sizeof state);
        p->block = 0;
        p->used = sizeof p->pool; /* nothing in it yet */
        memset(p->pool, 0, sizeof p->pool);
}

/* The original ChaCha20 with its 64-bit block counter: the stream never ends in practice. */
static void prng_refill(struct prng *p)
{
        static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
        memset(p->pool, 0, sizeof p->pool);
        int r = crypto_stream_chacha20_xor_ic(p->pool, p->pool, sizeof p->pool, nonce, p->block,
                                              p->key);
        assert(r == 0);
        p->block += sizeof p->pool / 64;
        p->used = 0;
}

uint32_t prng_u32(struct prng *p)
{
        if (p->used == sizeof p->pool)
                prng_refill(p);
        uint32_t v = get_le32(p->pool + p->used);
        p->used += sizeof v;
        return v;
}

/* Lemire, "Fast random integer generation in an interval" (2019), algorithm 5. */
uint32_t prng_below(struct prng *p, uint32_t bound)
{
        assert(bound > 0);
        uint64_t product = (uint64_t)prng_u32(p) * bound;
        if ((uint32_t)product < bound) {
                uint32_t threshold = (uint32_t)(-bound) % bound;
                while ((uint32_t)product < threshold)
                        product = (uint64_t)prng_u32(p) * bound;
        }
        return (uint32_t)(product >> 32);
}

float prng_float(struct prng *p)
{
        return (float)(prng_u32(p) >> 8) * 0x1p-24F;
}

char *hex_encode(const void *data, size_t len, char *out)
{
        static const char digits[] = "0123456789abcdef";
        const uint8_t *bytes = data;
        for (size_t i = 0; i < len; i++) {
                out[2 * i] = digits[bytes[i] >> 4];
                out[2 * i + 1] = digits[bytes[i] & 15];
        }
        out[2 * len] = '\0';
        return out;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

long hex_decode(const char *text, size_t len, void *out, size_t max)
{
        uint8_t *bytes = out;
        if (len % 2 != 0 || len / 2 > max)
                return -1;
        for (size_t i = 0; i < len / 2; i++) {
                int high = hex_digit(text[2 * i]);
                int low = hex_digit(text[2 * i + 1]);
                if (high < 0 || low < 0)
                        return -1;
                bytes[i] = (uint8_t)(high * 16 + low);
        }
        return (long)(len / 2);
}

size_t base64_size(size_t len)
{
        return (len + 2) / 3 * 4 + 1;
}

char *base64_encode(const void *data, size_t len, char *out)
{
        return sodium_bin2base64(out, base64_size(len), data, len, sodium_base64_VARIANT_ORIGINAL);
}

long base64_decode(const char *text, size_t len, void *out, size_t max)
{
        if (len == 0)
                return 0;
        size_t n = 0;
        for (size_t i = 0; i < len; i++) /* libsodium takes some bytes over 127 for digits */
                if ((unsigned char)text[i] > 127)
                        return -1;
        if (sodium_base642bin(out, max, text, len, NULL, &n, NULL,
                              sodium_base64_VARIANT_ORIGINAL) != 0)
                return -1;
        return (long)n;
}
