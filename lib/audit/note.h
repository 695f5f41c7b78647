/* SPDX-License-Identifier: Apache-2.0
 * note.h: C2SP signed notes with Ed25519 keys, and the tlog-checkpoint that is the text of one;
 * pure, so that a verifier needs no daemon.
 *
 *      example.org/log            \
 *      15                          | the text: here a checkpoint (origin, size, root)
 *      rKbDipCv...383cs=          /
 *                                   an empty line
 *      — example.org/log M9e0l...   one or more signatures: U+2014, space, key name, space,
 *                                   base64(key id [4] | Ed25519 signature of the text [64])
 *
 * A key id is the first 4 bytes of SHA-256(NAME | "\n" | 0x01 | public key); a verifier key in
 * text form ("vkey") is NAME+HEX(key id)+BASE64(0x01 | public key). */
#ifndef UNLEARND_AUDIT_NOTE_H
#define UNLEARND_AUDIT_NOTE_H

#include "lib/util/bytes.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        NOTE_NAME_MAX = 255, /* bytes of a key name or origin */
        NOTE_KEY_ID_BYTES = 4,
        NOTE_VKEY_SIZE = NOTE_NAME_MAX + 1 + 8 + 1 + 44 + 1,
        NOTE_BYTES_MAX = 64 * 1024,
        NOTE_SIGNATURES_MAX = 100,
        NOTE_SIGNATURE_MAX = 8 * 1024, /* bytes; those of other algorithms have nearly 5 kB */
};

struct note_key {
        char name[NOTE_NAME_MAX + 1];
        uint8_t id[NOTE_KEY_ID_BYTES];
        uint8_t public_key[SIGN_PUBLIC_BYTES];
};

/* Valid UTF-8 of 1..NOTE_NAME_MAX bytes without plus, Unicode spaces and control characters. */
bool note_name_valid(const char *name, size_t len);
/* UL_INVALID where the name is not valid. */
int note_key_make(const char *name, const uint8_t public_key[SIGN_PUBLIC_BYTES],
                  struct note_key *out, struct errinfo *e);
char *note_vkey_format(const struct note_key *key, char out[NOTE_VKEY_SIZE]);
/* UL_SYNTAX; UL_UNSUPPORTED for another algorithm; UL_CORRUPT where the key id is not the key's. */
int note_vkey_parse(const char *vkey, size_t len, struct note_key *out, struct errinfo *e);

/* Appends text, the empty line and one signature. The text is valid UTF-8 that ends in a newline,
 * is more than that newline and has no other control characters: UL_INVALID. `seed` is the private
 * half of `key`. */
int note_sign(const struct note_key *key, const uint8_t seed[SIGN_SEED_BYTES], const char *text,
              size_t text_len, struct buf *out, struct errinfo *e);
/* 0: signed by `key`, and the text is note[0, *text_len). Signatures by other keys are passed over,
 * as the specification says; one that bears this key's name and id and does not verify refuses the
 * note. UL_SYNTAX: not a note; UL_CORRUPT: not signed by this key. */
int note_verify(const char *note, size_t len, const struct note_key *key, size_t *text_len,
                struct errinfo *e);

/* A signature line, without its newline: whose it is, name and id say, and nothing is verified. */
struct note_signature {
        const char *name; /* in the line, not terminated */
        size_t name_len;
        uint8_t id[NOTE_KEY_ID_BYTES];
        uint8_t bytes[NOTE_SIGNATURE_MAX];
        size_t len;
};
/* False: it is none. */
bool note_signature_parse(const char *line, size_t len, struct note_signature *out);
/* One line for `len` <= NOTE_SIGNATURE_MAX bytes of a signature, with its newline. */
void note_signature_write(const char *name, const uint8_t id[NOTE_KEY_ID_BYTES],
                          const uint8_t *signature, size_t len, struct buf *out);
/* The length of a note's text; its signature lines begin one byte after it. UL_SYNTAX: not a note,
 * as far as can be told without its lines. UL_TOO_LARGE. */
int note_split(const char *note, size_t len, size_t *text_len, struct errinfo *e);

/* The type of the log entry that announces another key, {"old": vkey, "new": vkey}. */
#define AUDIT_KEY_ROTATED "log.key_rotated"
/* The type of the entry that says that the first `to` entries were pruned after their retention. */
#define AUDIT_PRUNED "audit.pruned"

struct checkpoint {
        char origin[NOTE_NAME_MAX + 1];
        uint64_t size;
        uint8_t root[SHA256_BYTES];
};
/* Appends the three lines. */
void checkpoint_format(const char *origin, uint64_t size, const uint8_t root[SHA256_BYTES],
                       struct buf *out);
/* The text of a note (extension lines are allowed and ignored). UL_SYNTAX. */
int checkpoint_parse(const char *text, size_t len, struct checkpoint *out, struct errinfo *e);
/* note_verify, then checkpoint_parse, then the origin must be the key's name: UL_CORRUPT. */
int checkpoint_verify(const char *note, size_t len, const struct note_key *key,
                      struct checkpoint *out, struct errinfo *e);

#endif
