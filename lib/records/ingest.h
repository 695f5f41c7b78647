/* SPDX-License-Identifier: Apache-2.0
 * ingest.h: an upload as a stream of bytes, turned into sealed rows one at a time. A push parser:
 * bytes go in as the network delivers them, rows come out through a callback; nothing is held but
 * the line at hand, and that is wiped. Raw ids leave this module only as pseudonyms. */
#ifndef UNLEARND_RECORDS_INGEST_H
#define UNLEARND_RECORDS_INGEST_H

#include "lib/records/encode.h"

/* What each format holds. A refused line or row costs itself alone; see ingest_events.bad.
 *
 *   ndjson  an object a line, at most NDJSON_LINE_MAX bytes (longer: a bad line, not buffered).
 *           "id" a string of 1..ID_BYTES_MAX bytes; "subject" the same, optional; "label" a string
 *           or a number (matched against the model's labels through its text form: 3.0 is "3"), or
 *           for regression a number or an array of them; "erasure_likelihood" optional; and by the
 *           encoder "features" (array of numbers), "text" or "columns" (an object that names every
 *           column; null in a categorical one is "other"). Anything else is refused by name. Empty
 *           lines are ignored.
 *   csv     RFC 4180 with a header row: `id`, optional `subject` and `erasure_likelihood` (empty
 *           fields: not given), `label` (several targets: label.0, label.1, ...), and by the
 *           encoder: all other columns in order are the features, none named label or label.N;
 *           or the configured columns by name, in any order; or `text`. A record has the limit of
 *           a line and may span lines.
 *   npy     version 1.0 or 2.0, C order, <f4 <f8 |u1 |i1 <i2 <i4 <i8 |b1, encoder none only, of
 *           shape [n, features + 1] with the label in the LAST column (classification: a whole
 *           number whose text form is one of the labels) or [n, features + targets]; where labels
 *           are not required also [n, features]. Row i has the id `id_prefix` + i, from 0.
 *
 * Without labels_required a line may leave its label out (the row's label is then zero); one that
 * is there must still be right. */
enum ingest_format { INGEST_NDJSON, INGEST_CSV, INGEST_NPY };
enum ingest_compression { INGEST_PLAIN, INGEST_GZIP, INGEST_ZSTD };
/* "erasure_likelihood"; UNSET is treated as normal for a new subject and as agreement for a held.
 */
enum erasure_likelihood { LIKELIHOOD_UNSET, LIKELIHOOD_LOW, LIKELIHOOD_NORMAL, LIKELIHOOD_HIGH };

struct ingest_row {
        uint64_t line; /* 1-based line where it began (csv: the header is 1; npy: 1-based row) */
        uint8_t record[PSEUDONYM_BYTES];
        uint8_t subject[PSEUDONYM_BYTES]; /* the record's own where none was given */
        uint32_t likelihood;              /* enum erasure_likelihood */
        const uint8_t *row;               /* [row_bytes] sealed; borrowed during the call */
};

struct ingest_events {
        /* Returns 0, UL_AGAIN to stop after this row (ingest_feed returns UL_AGAIN and the caller
         * feeds the unconsumed rest later), or an error, which ends the upload. */
        int (*row)(void *arg, const struct ingest_row *row);
        /* A line that was refused, with the reason (no content of it). Same returns as row(). */
        int (*bad)(void *arg, uint64_t line, const struct errinfo *why);
        void *arg;
};

struct ingest_options {
        enum ingest_format format;
        enum ingest_compression compression;
        const struct encoding *encoding; /* borrowed for the life of the ingest */
        const uint8_t *pseudonym_key;    /* [KEY_BYTES], borrowed */
        const char *id_prefix;           /* npy: the ids are prefix + row number; NULL: "" */
        bool labels_required;            /* false for prediction files */
};

struct ingest;
/* UL_INVALID or UL_UNSUPPORTED for options that do not go together (npy for a model of text). */
int ingest_create(const struct ingest_options *o, const struct ingest_events *ev,
                  struct ingest **out, struct errinfo *e);
/* Feeds bytes. *consumed says how many were taken (all, unless UL_AGAIN). UL_AGAIN where a callback
 * says so, and where a few bytes have become many by decompression: the call has been long enough.
 * UL_SYNTAX for a stream
 * that cannot go on (bad compression, bad npy header, CSV header without needed columns). After
 * UL_AGAIN with all consumed, rows may still wait inside (decompressed): feed with len 0, the next
 * bytes, or finish goes on with them. Any other error is the end; later calls return it again. An
 * error of a callback is returned as it is and leaves *e alone (cleared at the call). */
int ingest_feed(struct ingest *in, const void *data, size_t len, size_t *consumed,
                struct errinfo *e);
/* The end of the body: the last line without a newline, or UL_SYNTAX for a truncated stream. May
 * return UL_AGAIN like feed; call again. */
int ingest_finish(struct ingest *in, struct errinfo *e);
/* Wipes every buffer. */
void ingest_destroy(struct ingest **in);

#endif
