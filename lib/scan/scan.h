/* SPDX-License-Identifier: Apache-2.0
 * scan.h: looks through every byte of a data directory, or of any file or device, for what could
 * be left of people: invariant 5, checked from outside by an auditor who trusts no index. It reads
 * files alone: what the control database calls allocated or free makes no difference to it, and it
 * works on a stopped daemon's directory, a running one's, and a copy.
 *
 * What is looked for
 *   ids        of subjects and records: as they stand, escaped for JSON, percent-encoded, UTF-16;
 *              their SHA-256 (bytes, hex, base64); with the key, their pseudonyms
 *   rows       the features of a record in each type that they fit (f32, u8, bits); of a text or
 *              of columns, in the encoding of every model whose configuration or rows are found
 *   texts      pieces of the text, and of the line that was uploaded; addresses and numbers in it
 *   parameters every checkpoint, or what is left of one, by the commitment in its provenance
 *
 * What is evidence. A finding is a trace unless something else explains it:
 *   - a pseudonym in the control database or the erasure ledger is bookkeeping: a suppression has
 *     to know whom it keeps out. In a row file, or anywhere else, it is a trace.
 *   - the features stand in an intact row of another record: two records may be equal. With the
 *     key and the record's id the rows can be told apart; a part of a row that stands in another
 *     intact row with other features is that one's, and not reported at all.
 *   - one ordinary word of a text: others use it too. Two dozen bytes of the text are a trace.
 * What is too short or too uniform to be told from chance (a row of zeros) is not looked for, and
 * said to be not searchable.
 *
 * A checkpoint's provenance holds SHA-256 of the sorted pseudonyms that it was trained on. The row
 * files hold those of all live records, so each commitment that may exist is computed from them;
 * one that is not among them was trained on something that is no longer there. With the key the
 * searched records are tried: does it fit with them? */
#ifndef UNLEARND_SCAN_SCAN_H
#define UNLEARND_SCAN_SCAN_H

#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include "lib/util/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum scan_kind {
        SCAN_ID,
        SCAN_HASH,
        SCAN_PSEUDONYM,
        SCAN_ROW,
        SCAN_ROW_PART,
        SCAN_TEXT,
        SCAN_TOKEN,
        SCAN_WORD,
        SCAN_CHECKPOINT,
};
const char *scan_kind_name(enum scan_kind kind);

enum { SCAN_WHO_MAX = 48 };
struct scan_finding {
        enum scan_kind kind;
        bool trace;       /* false: explained, and told as information alone */
        const char *who;  /* as it was given to scan_subject and the like; "" of a checkpoint that
                             fits nobody */
        const char *what; /* the form, or the explanation */
        const char *path;
        uint64_t offset;
        bool in_name; /* a name is the trace: path is the folder that it is in, offset 0 */
};

struct scan_events {
        void (*found)(void *arg, const struct scan_finding *f);
        /* Nothing is wrong, but this cannot be looked for. */
        void (*unsearchable)(void *arg, const char *who, const char *why);
        /* Something was not read: the result is not "clean". */
        void (*unread)(void *arg, const char *path, const char *why);
        void *arg;
};

struct scan_totals {
        uint64_t files, bytes; /* read; holes of sparse files are not */
        uint64_t traces, explained, unsearchable, unread;
        uint64_t checkpoints; /* provenances that were judged */
};

struct scan;
/* data_dir (may be NULL: only files are read) and key (NULL: no pseudonyms) are borrowed. Reads
 * the configurations and the shapes of rows that the directory holds. UL_NOMEM. */
int scan_create(const char *data_dir, const uint8_t *key, const struct scan_events *events,
                struct scan **out, struct errinfo *e);
void scan_destroy(struct scan **s); /* wipes */

/* Whom to look for; `who` stands for them in findings and is no personal datum. UL_NOMEM. */
int scan_subject(struct scan *s, const char *id, size_t len, const char *who, struct errinfo *e);
int scan_record(struct scan *s, const char *id, size_t len, const char *who, struct errinfo *e);
/* A record as it is uploaded: an object with id, subject, and features, text or columns; `line` is
 * what stood in the file. UL_INVALID for another value. */
int scan_line(struct scan *s, const struct json *record, const char *line, size_t len,
              const char *who, struct errinfo *e);

/* Everything below data_dir. What cannot be read is told through `unread`; only UL_NOMEM ends it.
 */
int scan_directory(struct scan *s, struct errinfo *e);
/* One file, whatever it is: an image of a disk, a block device, a log, a core. */
int scan_image(struct scan *s, const char *path, struct errinfo *e);
const struct scan_totals *scan_totals(const struct scan *s);

struct model_config;
/* The configuration of this digest (model_config_hash), of a control database read as bytes, as
 * those of a backup or a copy may be. The caller destroys it. UL_NOT_FOUND, UL_IO. */
int scan_find_config(const char *control, const uint8_t hash[SHA256_BYTES],
                     struct model_config **out, struct errinfo *e);

#endif
