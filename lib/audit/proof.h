/* SPDX-License-Identifier: Apache-2.0
 * proof.h: C2SP tlog-proof: that an entry is in the log, as one text that needs nothing but the
 * log's key; pure.
 *
 *      c2sp.org/tlog-proof@v1
 *      extra BASE64                  here: the entry, whose hash is the leaf
 *      index 17
 *      gSKyXoYZ...cPlQ=              the inclusion proof, from the leaf's sibling up
 *                                    an empty line
 *      example.org/log               the checkpoint, as it was signed
 *      ...
 *
 * The format says that extra data is not to be trusted. Ours is hashed into the leaf, so a proof
 * that holds vouches for it. */
#ifndef UNLEARND_AUDIT_PROOF_H
#define UNLEARND_AUDIT_PROOF_H

#include "lib/audit/merkle.h"
#include "lib/audit/note.h"

enum { TLOG_PROOF_BYTES_MAX = 256 * 1024 };

/* Appends the proof. note: the signed checkpoint. */
void tlog_proof_write(uint64_t index, const void *entry, size_t entry_len,
                      const uint8_t (*hashes)[SHA256_BYTES], uint32_t count, const void *note,
                      size_t note_len, struct buf *out);

struct tlog_proof {
        uint64_t index;
        struct buf entry; /* what the proof carries */
        struct checkpoint head;
};
/* 0: the entry that it carries is in the log of this key, under the checkpoint that it carries.
 * UL_SYNTAX: not a proof, or one without an entry; UL_CORRUPT: `e` says what does not hold, with
 * the field "checkpoint" or "inclusion". The caller clears `out` in every case. */
int tlog_proof_verify(const void *text, size_t len, const struct note_key *key,
                      struct tlog_proof *out, struct errinfo *e);
void tlog_proof_clear(struct tlog_proof *p);

#endif
