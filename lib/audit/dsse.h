/* SPDX-License-Identifier: Apache-2.0
 * dsse.h: DSSE envelopes (github.com/secure-systems-lab/dsse, protocol 1.0) signed with the log's
 * Ed25519 key; pure, so that a verifier needs no daemon.
 *
 *      {"payload":BASE64,"payloadType":TYPE,"signatures":[{"keyid":NAME+ID,"sig":BASE64}]}
 *
 * What is signed is DSSEv1 LEN(type) type LEN(payload) payload, with the payload's raw bytes. The
 * keyid is the verifier key (note.h) without its last part: NAME+HEX(key id). It is a hint and no
 * more: every signature is tried. */
#ifndef UNLEARND_AUDIT_DSSE_H
#define UNLEARND_AUDIT_DSSE_H

#include "lib/audit/note.h"

enum {
        DSSE_BYTES_MAX = 8 * 1024 * 1024, /* of an envelope that is read */
        DSSE_KEYID_SIZE = NOTE_NAME_MAX + 1 + 2 * NOTE_KEY_ID_BYTES + 1,
        DSSE_SIGNATURES_MAX = 100,
};

char *dsse_keyid(const struct note_key *key, char out[DSSE_KEYID_SIZE]);
/* Appends the envelope, one line without a newline. `seed` is the private half of `key`. */
void dsse_sign(const struct note_key *key, const uint8_t seed[SIGN_SEED_BYTES], const char *type,
               const void *payload, size_t len, struct buf *out);
/* 0: `key` signed it as a payload of this type, which is appended to `payload`. UL_SYNTAX: not an
 * envelope; UL_UNSUPPORTED: of another type; UL_CORRUPT: no signature is this key's. key NULL: no
 * signature is looked at. */
int dsse_verify(const void *envelope, size_t len, const struct note_key *key, const char *type,
                struct buf *payload, struct errinfo *e);

#endif
