/* SPDX-License-Identifier: Apache-2.0
 * rsa.c: see rsa.h. GnuTLS's objects belong to one thread at a time, so a lock stands before the
 * key; a signature takes some milliseconds. */
#include "lib/signing/rsa.h"

#include "lib/util/bytes.h"
#include "lib/util/crypto.h"
#include "lib/util/file.h"
#include <assert.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PEM_BYTES_MAX = 256 * 1024, KEY_ID_MAX = 64, CHAIN_MAX = 16 };

struct rsa_signer {
        /* set once */
        struct buf certificate;
        int64_t expires_ms;
        /* under lock */
        pthread_mutex_t lock;
        gnutls_privkey_t key;
};

static int refuse(struct errinfo *e, const char *file, const char *what)
{
        return ul_fail(e, UL_INVALID, "%.120s %s", file, what);
}

static int read_pem(const char *file, struct buf *out, struct errinfo *e)
{
        int err = read_file(file, PEM_BYTES_MAX, out, e);
        if (err == UL_TOO_LARGE)
                return refuse(e, file, "is too long for a PEM file");
        return err;
}

static int read_key(const char *file, gnutls_x509_privkey_t *key, struct errinfo *e)
{
        struct buf pem = {0};
        unsigned bits = 0;
        int err = read_pem(file, &pem, e);
        if (err == 0 && gnutls_x509_privkey_init(key) != 0)
                err = ul_fail(e, UL_NOMEM, "no memory for a key");
        if (err == 0) {
                gnutls_datum_t d = {.data = pem.data, .size = (unsigned)pem.len};
                if (gnutls_x509_privkey_import(*key, &d, GNUTLS_X509_FMT_PEM) != 0)
                        err = refuse(e, file, "holds no private key in PEM, or an encrypted one");
        }
        buf_free(&pem, true);
        if (err == 0 && gnutls_x509_privkey_get_pk_algorithm2(*key, &bits) != GNUTLS_PK_RSA)
                err = refuse(e, file, "holds a key that is not RSA");
        if (err == 0 && bits < RSA_BITS_MIN)
                err = refuse(e, file, "holds an RSA key of less than 2048 bits");
        if (err == 0 && bits > RSA_BITS_MAX)
                err = refuse(e, file, "holds an RSA key of more than 8192 bits");
        return err;
}

/* The first certificate of the file; the rest must be certificates, too. */
static int read_certificate(const char *file, struct buf *pem, gnutls_x509_crt_t *out,
                            struct errinfo *e)
{
        gnutls_x509_crt_t *chain = NULL;
        unsigned count = 0;
        int err = read_pem(file, pem, e);
        if (err != 0)
                return err;
        gnutls_datum_t d = {.data = pem->data, .size = (unsigned)pem->len};
        if (gnutls_x509_crt_list_import2(&chain, &count, &d, GNUTLS_X509_FMT_PEM, 0) < 0 ||
            count == 0)
                return refuse(e, file, "holds no certificate in PEM");
        if (count > CHAIN_MAX)
                err = refuse(e, file, "holds more than 16 certificates");
        else
                *out = chain[0];
        for (unsigned i = err == 0 ? 1 : 0; i < count; i++)
                gnutls_x509_crt_deinit(chain[i]);
        gnutls_free(chain);
        return err;
}

static int check_pair(const char *file, gnutls_x509_privkey_t key, gnutls_x509_crt_t certificate,
                      struct errinfo *e)
{
        unsigned char a[KEY_ID_MAX], b[KEY_ID_MAX];
        size_t a_len = sizeof a, b_len = sizeof b;
        if (gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, a, &a_len) != 0 ||
            gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, b, &b_len) != 0)
                return ul_fail(e, UL_INTERNAL, "the key and its certificate cannot be compared");
        if (a_len != b_len || memcmp(a, b, a_len) != 0)
                return refuse(e, file, "is not the certificate of the private key");
        return 0;
}

static int check_time(const char *file, gnutls_x509_crt_t certificate, int64_t now_ms,
                      int64_t *expires_ms, struct errinfo *e)
{
        time_t from = gnutls_x509_crt_get_activation_time(certificate);
        time_t until = gnutls_x509_crt_get_expiration_time(certificate);
        if (from == (time_t)-1 || until == (time_t)-1)
                return refuse(e, file, "does not say when the certificate is valid");
        *expires_ms = (int64_t)until * 1000;
        if (now_ms < (int64_t)from * 1000)
                return refuse(e, file, "holds a certificate that is not valid yet");
        if (now_ms >= *expires_ms)
                return refuse(e, file, "holds a certificate that has expired");
        return 0;
}

int rsa_signer_open(const char *key_file, const char *certificate_file, int64_t now_ms,
                    struct rsa_signer **out, struct errinfo *e)
{
        gnutls_x509_privkey_t key = NULL;
        gnutls_x509_crt_t certificate = NULL;
        struct rsa_signer *s = calloc(1, sizeof *s);
        if (s == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a signer");
        pthread_mutex_init(&s->lock, NULL);
        int err = read_key(key_file, &key, e);
        if (err == 0)
                err = read_certificate(certificate_file, &s->certificate, &certificate, e);
        if (err == 0)
                err = check_pair(certificate_file, key, certificate, e);
        if (err == 0)
                err = check_time(certificate_file, certificate, now_ms, &s->expires_ms, e);
        if (err == 0 && (gnutls_privkey_init(&s->key) != 0 ||
                         gnutls_privkey_import_x509(s->key, key, GNUTLS_PRIVKEY_IMPORT_COPY) != 0))
                err = ul_fail(e, UL_INTERNAL, "%.120s cannot be used", key_file);
        if (certificate != NULL)
                gnutls_x509_crt_deinit(certificate);
        if (key != NULL)
                gnutls_x509_privkey_deinit(key);
        if (err != 0)
                rsa_signer_close(&s);
        *out = s;
        return err;
}

void rsa_signer_close(struct rsa_signer **ps)
{
        struct rsa_signer *s = *ps;
        *ps = NULL;
        if (s == NULL)
                return;
        if (s->key != NULL)
                gnutls_privkey_deinit(s->key);
        buf_free(&s->certificate, false);
        pthread_mutex_destroy(&s->lock);
        free(s);
}

int rsa_sign(struct rsa_signer *s, const void *data, size_t len, char out[RSA_SIGNATURE_SIZE],
             struct errinfo *e)
{
        /* GnuTLS takes no const; it only reads */
        gnutls_datum_t text = {.data = (unsigned char *)(uintptr_t)data, .size = (unsigned)len};
        gnutls_datum_t signature = {0};
        out[0] = '\0';
        pthread_mutex_lock(&s->lock);
        int rc = gnutls_privkey_sign_data2(s->key, GNUTLS_SIGN_RSA_SHA256, 0, &text, &signature);
        pthread_mutex_unlock(&s->lock);
        if (rc != 0)
                return ul_fail(e, UL_INTERNAL, "signing failed: %s", gnutls_strerror(rc));
        assert(base64_size(signature.size) <= RSA_SIGNATURE_SIZE);
        base64_encode(signature.data, signature.size, out);
        gnutls_free(signature.data);
        return 0;
}

const char *rsa_signer_certificate(const struct rsa_signer *s, size_t *len)
{
        *len = s->certificate.len;
        return (const char *)s->certificate.data;
}

int64_t rsa_signer_expires_ms(const struct rsa_signer *s)
{
        return s->expires_ms;
}
