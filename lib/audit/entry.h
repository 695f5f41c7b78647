/* SPDX-License-Identifier: Apache-2.0
 * entry.h (private to lib/audit): the text of one entry, and what it is found by. */
#ifndef UNLEARND_AUDIT_ENTRY_H
#define UNLEARND_AUDIT_ENTRY_H

#include "lib/util/bytes.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Kinds of the index, as they are on disk. */
enum entry_kind {
        ENTRY_BY_TYPE = 1,
        ENTRY_BY_MODEL = 2,
        ENTRY_BY_ERASURE = 3, /* value: the ULID */
        ENTRY_BY_SUBJECT = 4, /* value: the pseudonym */
        ENTRY_BY_RECORD = 5,  /* value: the pseudonym */
        ENTRY_BY_REFERENCE = 6,
};
enum { ENTRY_VALUE_BYTES = 16 };
/* Texts are indexed by the first 16 bytes of their SHA-256. */
void entry_value(const char *text, uint8_t value[ENTRY_VALUE_BYTES]);

/* Appends the canonical JSON; `data` is a JSON object's text. */
void entry_write(struct buf *out, uint64_t index, int64_t time_ms, const char *type,
                 const char *actor, const char *data, size_t data_len);
/* The time of an entry that entry_write made for this index; false: it is none. */
bool entry_time(const void *entry, size_t len, uint64_t index, int64_t *ms);

#endif
