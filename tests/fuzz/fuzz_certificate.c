/* SPDX-License-Identifier: Apache-2.0
 * fuzz_certificate.c: what a verifier is handed of an erasure. '0': an envelope as it came, '1': a
 * tlog-proof as it came, '2': a statement, signed here: whatever is signed is read back as it is,
 * and not with any byte of it changed. */
#include "lib/audit/certificate.h"
#include "lib/audit/dsse.h"
#include "lib/audit/proof.h"
#include "tests/fuzz/fuzz.h"

static const uint8_t seed[SIGN_SEED_BYTES] = {7};
static struct note_key key;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        uint8_t public_key[SIGN_PUBLIC_BYTES];
        (void)argc, (void)argv;
        if (crypto_init() != 0)
                return -1;
        sign_keypair(seed, public_key);
        return note_key_make("example.org/log", public_key, &key, NULL);
}

static int open_envelope(const void *data, size_t size)
{
        struct certificate_read c;
        struct errinfo e = {0};
        const int err = certificate_open(data, size, &key, &c, &e);
        if (err != 0) {
                fuzz_check_refusal(err, &e);
                assert(strcmp(e.field, "signature") == 0 || strcmp(e.field, "statement") == 0);
        } else {
                assert(c.erasure != NULL && c.predicate != NULL && c.statement.len > 0);
        }
        certificate_clear(&c);
        return err;
}

static void check_proof(const void *data, size_t size)
{
        struct tlog_proof p;
        struct errinfo e = {0};
        const int err = tlog_proof_verify(data, size, &key, &p, &e);
        if (err != 0)
                fuzz_check_refusal(err, &e);
        else
                assert(p.entry.len > 0 && p.index < p.head.size);
        tlog_proof_clear(&p);
}

static void check_signed(const uint8_t *data, size_t size)
{
        struct buf envelope = {0}, payload = {0};
        struct errinfo e = {0};
        if (size == 0)
                return;
        dsse_sign(&key, seed, CERTIFICATE_PAYLOAD_TYPE, data, size, &envelope);
        assert(!envelope.failed);
        assert(dsse_verify(envelope.data, envelope.len, &key, CERTIFICATE_PAYLOAD_TYPE, &payload,
                           &e) == 0);
        assert(payload.len == size && memcmp(payload.data, data, size) == 0);
        (void)open_envelope(envelope.data, envelope.len);
        /* {"payload":" and then base64 */
        const size_t at = 12 + crc32c(0, data, size) % (size / 3 * 4 + 1);
        envelope.data[at] = envelope.data[at] == 'A' ? 'B' : 'A';
        assert(open_envelope(envelope.data, envelope.len) != 0);
        buf_free(&payload, false);
        buf_free(&envelope, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint32_t choice = fuzz_choice(&data, &size, 3);
        if (choice == 0)
                (void)open_envelope(data, size);
        else if (choice == 1)
                check_proof(data, size);
        else
                check_signed(data, size);
        return 0;
}
