/* SPDX-License-Identifier: Apache-2.0
 * rsa.h: signatures that others verify with an X.509 certificate: RSA-SHA256 (PKCS #1 v1.5, RFC
 * 8017, 8.2) over raw bytes. The one owner of GnuTLS. It knows nothing of what is signed. */
#ifndef UNLEARND_SIGNING_RSA_H
#define UNLEARND_SIGNING_RSA_H

#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

/* Bits of a key: what is safe at the least, and what a header line can hold at the most. */
enum {
        RSA_BITS_MIN = 2048,
        RSA_BITS_MAX = 8192,
        RSA_SIGNATURE_SIZE = 4 * (RSA_BITS_MAX / 8) / 3 + 8
};

struct rsa_signer; /* any thread */

/* PEM files of a private key (not encrypted) and of its certificate, which may be followed by those
 * of its issuers. now_ms: the certificate must be valid then. UL_INVALID names the file and what is
 * wrong: no RSA key, too short or too long, the certificate is another key's, or out of its time.
 */
int rsa_signer_open(const char *key_file, const char *certificate_file, int64_t now_ms,
                    struct rsa_signer **out, struct errinfo *e);
void rsa_signer_close(struct rsa_signer **s);
/* The signature in base64 (standard alphabet, padded), NUL-terminated. UL_INTERNAL. */
int rsa_sign(struct rsa_signer *s, const void *data, size_t len, char out[RSA_SIGNATURE_SIZE],
             struct errinfo *e);
/* The certificate file as it was read. */
const char *rsa_signer_certificate(const struct rsa_signer *s, size_t *len);
/* When the certificate ends to be valid. */
int64_t rsa_signer_expires_ms(const struct rsa_signer *s);

#endif
