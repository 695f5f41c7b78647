/* SPDX-License-Identifier: Apache-2.0
 * ingest.h: an upload as a stream of bytes, turned into sealed rows one at a time. A push parser:
 * bytes go in as the network delivers them, rows come out through a callback; nothing is held but
 * the line at hand, and that is wiped. Raw ids leave this module only as pseudonyms. */
#ifndef UNLEARND_RECORDS_INGEST_H
#define UNLEARND_RECORDS_INGEST_H

#include "lib/records/encode.h"

enum ingest_format { INGEST_NDJSON, INGEST_CSV, INGEST_NPY };
enum ingest_compression { INGEST_PLAIN, INGEST_GZIP, INGEST_ZSTD };
/* "erasure_likelihood"; UNSET is treated as normal for a new subject and as agreement for a held.
 */
enum erasure_likelihood { LIKELIHOOD_UNSET, LIKELIHOOD_LOW, LIKELIHOOD_NORMAL, LIKELIHOOD_HIGH };

struct ingest_row {
        uint64_t line; /* 1-based line (npy: 1-based row) it came from */
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
        const char *id_prefix;           /* npy: the ids are prefix + row number from 0 */
        bool labels_required;            /* false for prediction files */
};

struct ingest;
int ingest_create(const struct ingest_options *o, const struct ingest_events *ev,
                  struct ingest **out, struct errinfo *e);
/* Feeds bytes. *consumed says how many were taken (all, unless UL_AGAIN). UL_SYNTAX for a stream
 * that cannot go on (bad compression, bad npy header, CSV header without needed columns). */
int ingest_feed(struct ingest *in, const void *data, size_t len, size_t *consumed,
                struct errinfo *e);
/* The end of the body: the last line without a newline, or UL_SYNTAX for a truncated stream. May
 * return UL_AGAIN like feed; call again. */
int ingest_finish(struct ingest *in, struct errinfo *e);
/* Wipes every buffer. */
void ingest_destroy(struct ingest **in);

#endif
