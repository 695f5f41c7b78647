/* SPDX-License-Identifier: Apache-2.0
 * entry.h: what one line of the erasure ledger says: an erasure that was accepted, or a suppression
 * that was lifted, or suppressions that were imported. Pseudonyms, names of models and times only.
 * It knows nothing of files.
 *
 *   e ULID accepted_ms received_ms deadline_ms regulation reference|- models subjects records
 *   h ULID executed_ULID accepted_ms received_ms ...   an erasure that was held, at its release
 *   l ULID lifted_ms pseudonym
 *   i ULID imported_ms suppression,suppression
 *
 * models: "*" (all) or a,b,c; subjects: "-" or hex,hex; records: "-" or model:hex,model:hex. The
 * regulation is enum regulation's number. A suppression is s (subject) or r (record), its model or
 * "*", its pseudonym, the erasure that it was made for and since when:
 * s:model:hex:ULID:since_ms. */
#ifndef UNLEARND_LEDGER_ENTRY_H
#define UNLEARND_LEDGER_ENTRY_H

#include "lib/util/bytes.h"
#include "lib/util/clock.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include "lib/util/limits.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A line: the largest erasure that a client may send, with room to spare. */
enum { LEDGER_LINE_MAX = 256 * 1024, LEDGER_IMPORT_MAX = 512 /* suppressions of a line */ };

enum ledger_kind { LEDGER_ERASURE, LEDGER_LIFT, LEDGER_IMPORT };
struct ledger_record {
        char model[MODEL_NAME_MAX + 1];
        uint8_t pseudonym[PSEUDONYM_BYTES];
};
struct ledger_suppression {
        bool record;                    /* of a record, else of a subject */
        char model[MODEL_NAME_MAX + 1]; /* "": all models */
        uint8_t pseudonym[PSEUDONYM_BYTES];
        uint8_t erasure[ULID_BYTES];
        int64_t since_ms;
};
struct ledger_entry {
        enum ledger_kind kind;
        uint8_t id[ULID_BYTES]; /* the erasure's, or one made for the lift or the import */
        int64_t time_ms;        /* of acceptance, of the lift, or of the import */
        /* an erasure */
        uint8_t executed[ULID_BYTES]; /* its id, or for one that was held an id of its release */
        int64_t received_ms, deadline_ms;
        uint32_t regulation;
        char reference[REFERENCE_MAX + 1];    /* "": none */
        char (*models)[MODEL_NAME_MAX + 1];   /* [model_count]; none: all models */
        uint8_t (*subjects)[PSEUDONYM_BYTES]; /* [subject_count] */
        struct ledger_record *records;        /* [record_count] */
        uint32_t model_count, subject_count, record_count;
        /* a lift */
        uint8_t pseudonym[PSEUDONYM_BYTES];
        /* an import */
        struct ledger_suppression *suppressions; /* [suppression_count] */
        uint32_t suppression_count;
};

/* Appends the line with its newline. */
void ledger_entry_write(struct buf *out, const struct ledger_entry *entry);
/* Reads a line (without the newline); the arrays are allocated: ledger_entry_clear. UL_CORRUPT,
 * UL_NOMEM. */
int ledger_entry_parse(const char *line, size_t len, struct ledger_entry *out, struct errinfo *e);
void ledger_entry_clear(struct ledger_entry *entry);

#endif
