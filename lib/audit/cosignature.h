/* SPDX-License-Identifier: Apache-2.0
 * cosignature.h: what witnesses say of a log (C2SP tlog-cosignature, Ed25519), and what is sent to
 * them for it (C2SP tlog-witness); pure, so that a verifier needs no daemon.
 *
 * A cosignature is a signature line of the checkpoint's note; its bytes are
 *
 *      time u64 be (seconds since 1970) | Ed25519 signature [64] of
 *
 *      cosignature/v1                 \
 *      time 1679315147                 | and the checkpoint's text: origin, size, root
 *      example.org/log ...            /
 *
 * It says: at this time, this was the largest tree of this log that the witness had seen, and it
 * goes on from every one that it had seen before. The key id is the first 4 bytes of
 * SHA-256(NAME | "\n" | 0x04 | public key); a verifier key is NAME+HEX(key id)+BASE64(0x04 | public
 * key). A cosigner is no note_key: neither stands for the other where the type is looked at. */
#ifndef UNLEARND_AUDIT_COSIGNATURE_H
#define UNLEARND_AUDIT_COSIGNATURE_H

#include "lib/audit/note.h"

enum {
        COSIGNATURE_BYTES = 8 + SIGN_BYTES,
        COSIGNATURE_SKEW_S = 300,   /* clocks may differ by so much */
        WITNESS_REQUEST_PROOF = 63, /* hashes of a request, at most */
};

struct cosigner {
        char name[NOTE_NAME_MAX + 1];
        uint8_t id[NOTE_KEY_ID_BYTES];
        uint8_t public_key[SIGN_PUBLIC_BYTES];
};
/* Takes the key with type 0x04, and also with 0x01, as some witnesses publish it (its key id is
 * then that of the type, and the cosigner's is made anew). UL_SYNTAX; UL_UNSUPPORTED for another
 * algorithm, such as ML-DSA-44; UL_CORRUPT where the key id is not the key's. */
int cosigner_parse(const char *vkey, size_t len, struct cosigner *out, struct errinfo *e);
char *cosigner_format(const struct cosigner *w, char out[NOTE_VKEY_SIZE]); /* with 0x04 */

struct cosignature {
        uint64_t time; /* seconds since 1970, at most 2^63 - 1 */
        uint8_t signature[SIGN_BYTES];
};
/* Appends its line. */
void cosignature_write(const struct cosigner *w, const struct cosignature *c, struct buf *out);
/* Looks through signature lines, each ended by a newline, for the newest cosignature by `w` of the
 * text. Lines of other keys are passed over. UL_SYNTAX: not lines of signatures; UL_NOT_FOUND: none
 * is by `w`; UL_CORRUPT: one that bears its name and id does not verify; UL_TOO_LARGE. */
int cosignature_find(const char *lines, size_t len, const char *text, size_t text_len,
                     const struct cosigner *w, struct cosignature *out, struct errinfo *e);
/* The same in a note. *text_len: of its text. */
int cosignature_find_in_note(const char *note, size_t len, const struct cosigner *w,
                             struct cosignature *out, size_t *text_len, struct errinfo *e);
/* Whether it was made between `since_s` and `now_s`, give or take COSIGNATURE_SKEW_S. UL_INVALID
 * says on which side it is not. */
int cosignature_timely(const struct cosignature *c, int64_t since_s, int64_t now_s,
                       struct errinfo *e);

/* Appends the body of an add-checkpoint request: the size of the witness's tree, the consistency
 * proof from it, and the signed checkpoint. */
void witness_request(uint64_t old, const uint8_t (*hashes)[SHA256_BYTES], uint32_t count,
                     const void *note, size_t note_len, struct buf *out);
/* The body of a 409: the size of the witness's tree and a newline. False: it is not one. */
bool witness_size(const void *body, size_t len, uint64_t *size);

#endif
