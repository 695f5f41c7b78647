/* SPDX-License-Identifier: Apache-2.0
 * crypto.h: the one owner of libsodium: hashes, pseudonyms, signatures, the deterministic random
 * stream that placement and training draw from, and base64/hex. Call crypto_init() first. */
#ifndef UNLEARND_UTIL_CRYPTO_H
#define UNLEARND_UTIL_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        SHA256_BYTES = 32,
        PSEUDONYM_BYTES = 16, /* 128 bits: keyed, so an adversary cannot search for collisions */
        KEY_BYTES = 32,
        SIGN_SEED_BYTES = 32,
        SIGN_PUBLIC_BYTES = 32,
        SIGN_BYTES = 64,
        SHORT_KEY_BYTES = 16,
};

int crypto_init(void); /* 0, or UL_INTERNAL */

void wipe(void *p, size_t len); /* never optimised away */
void random_bytes(void *p, size_t len);
bool equal_ct(const void *a, const void *b, size_t len); /* constant time */

void sha256(const void *data, size_t len, uint8_t out[SHA256_BYTES]);
struct sha256_state {
        uint64_t opaque[32];
};
void sha256_begin(struct sha256_state *s);
void sha256_add(struct sha256_state *s, const void *data, size_t len);
void sha256_end(struct sha256_state *s, uint8_t out[SHA256_BYTES]); /* wipes s */

/* Keyed BLAKE2b with `out_len` of 16..64 bytes. */
void keyed_hash(const uint8_t key[KEY_BYTES], const void *data, size_t len, uint8_t *out,
                size_t out_len);
/* HMAC-SHA-256 (RFC 2104) with a key of any length, over pieces. */
struct hmac_state {
        uint64_t opaque[64];
};
void hmac_sha256_begin(struct hmac_state *s, const void *key, size_t key_len);
void hmac_sha256_add(struct hmac_state *s, const void *data, size_t len);
void hmac_sha256_end(struct hmac_state *s, uint8_t out[SHA256_BYTES]); /* wipes s */
/* SipHash-2-4: tells damage from data, some nanoseconds a value; not for secrets. */
uint64_t short_hash(const uint8_t key[SHORT_KEY_BYTES], const void *data, size_t len);
/* BLAKE2b(key, SHA-256(id)): DESIGN.md, vocabulary. Wipes its intermediate digest. */
void pseudonym_of(const uint8_t key[KEY_BYTES], const void *id, size_t len,
                  uint8_t out[PSEUDONYM_BYTES]);

/* The same where only the SHA-256 of the id is known. */
void pseudonym_of_digest(const uint8_t key[KEY_BYTES], const uint8_t digest[SHA256_BYTES],
                         uint8_t out[PSEUDONYM_BYTES]);

/* Ed25519 (RFC 8032). */
void sign_keypair(const uint8_t seed[SIGN_SEED_BYTES], uint8_t public_key[SIGN_PUBLIC_BYTES]);
void sign_detached(const uint8_t seed[SIGN_SEED_BYTES], const void *msg, size_t len,
                   uint8_t sig[SIGN_BYTES]);
bool sign_verify(const uint8_t public_key[SIGN_PUBLIC_BYTES], const void *msg, size_t len,
                 const uint8_t sig[SIGN_BYTES]);

/* A deterministic stream (ChaCha20 under a 32-byte key derived from `key` and the label words).
 * Same key and words, same numbers, on every machine. */
struct prng {
        uint8_t key[KEY_BYTES];
        uint64_t block; /* next block of the stream */
        uint32_t used;  /* bytes of `pool` already given out */
        uint8_t pool[1024];
};
void prng_init(struct prng *p, const uint8_t key[KEY_BYTES], const uint64_t *words, size_t n);
uint32_t prng_u32(struct prng *p);
/* Uniform in 0..bound-1, unbiased (bound > 0). */
uint32_t prng_below(struct prng *p, uint32_t bound);
/* Uniform in [0, 1) with 24 bits. */
float prng_float(struct prng *p);

/* Text forms. Encoders write a NUL and return `out`; decoders return the byte count or -1. */
char *hex_encode(const void *data, size_t len, char *out); /* out: 2 len + 1 */
long hex_decode(const char *text, size_t len, void *out, size_t max);
size_t base64_size(size_t len);                               /* with padding and NUL */
char *base64_encode(const void *data, size_t len, char *out); /* standard alphabet, padded */
long base64_decode(const char *text, size_t len, void *out, size_t max); /* strict */

#endif
