/* SPDX-License-Identifier: Apache-2.0
 * log_private.h: what the stored half of lib/audit shares, and nobody else includes. */
#ifndef UNLEARND_AUDIT_LOG_PRIVATE_H
#define UNLEARND_AUDIT_LOG_PRIVATE_H

#include "lib/audit/log.h"
#include "lib/audit/note.h"

struct audit_log {
        struct note_key key;
        char vkey[NOTE_VKEY_SIZE];
        uint8_t seed[SIGN_SEED_BYTES];
};
/* audit_open without looking at what is stored. */
int log_make(const char *origin, const uint8_t seed[SIGN_SEED_BYTES], struct audit_log **out,
             struct errinfo *e);

#endif
