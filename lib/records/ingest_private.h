/* SPDX-License-Identifier: Apache-2.0
 * ingest_private.h: what the files of the ingest share, and nobody else includes: the row at hand,
 * the line at hand, the three format parsers behind one table, and the decompressor. Parsers know
 * nothing of compression or chunks' origin; ingest.c knows nothing of formats. */
#ifndef UNLEARND_RECORDS_INGEST_PRIVATE_H
#define UNLEARND_RECORDS_INGEST_PRIVATE_H

#include "lib/records/ingest.h"
#include "lib/util/limits.h"

/* --- helpers of encode.c --- */
/* "/columns/NAME" with the name escaped as a JSON pointer, cut to fit. Returns out. */
char *column_pointer(const char *name, char out[ERRINFO_FIELD_MAX]);
/* The whole of text as one number, blanks around it let pass. */
bool parse_field_f32(const char *text, size_t len, float *out);
/* encode_column of a numeric column whose value is a number already. */
int encode_number_column(const struct encoding *enc, uint32_t column, float value, float *features,
                         struct errinfo *e);

/* --- one line at a time --- */

/* A line that arrives in pieces. The memory has its full size from the start: growing it would
 * leave copies of personal data behind in freed memory. The pages are touched only when used. */
struct held_line {
        char *data; /* [NDJSON_LINE_MAX] */
        size_t len;
        bool overlong; /* it went over the maximum: dropped, the rest of it is skipped */
};
void held_add(struct held_line *h, const char *data, size_t len);
void held_clear(struct held_line *h); /* wipes */

struct ingest;
/* A format. Parsers return what ingest_feed returns; on UL_AGAIN *consumed stands behind the row
 * that was delivered. */
struct ingest_parser {
        int (*create)(struct ingest *in, struct errinfo *e);
        int (*feed)(struct ingest *in, const char *data, size_t len, size_t *consumed,
                    struct errinfo *e);
        /* Called once; may return UL_AGAIN for the last row, after which all is delivered. */
        int (*finish)(struct ingest *in, struct errinfo *e);
        void (*destroy)(struct ingest *in); /* wipes; also after a failed create */
};
extern const struct ingest_parser ndjson_parser, csv_parser, npy_parser;

struct inflater;

struct ingest {
        /* set by ingest_create */
        const struct ingest_parser *parser;
        const struct encoding *enc;
        struct ingest_events events;
        const uint8_t *key;
        char id_prefix[ID_BYTES_MAX + 1];
        bool labels_required;
        uint32_t row_bytes;
        uint32_t *column_order; /* tabular: columns sorted by name, for column_find */

        /* the row at hand, filled by the parser through ingest_set_* */
        uint8_t *row;    /* [row_bytes] */
        float *features; /* [features] */
        float targets[TARGETS_MAX];
        uint8_t record[PSEUDONYM_BYTES];
        uint8_t subject[PSEUDONYM_BYTES];
        uint32_t likelihood;

        /* the line at hand (ndjson, csv) */
        struct held_line held;
        char *scratch;  /* [NDJSON_LINE_MAX] envelope, or unescaped field */
        uint64_t lines; /* that have ended; npy: rows */

        /* the parser's own */
        void *state;

        /* decompression; inflater is NULL for plain */
        struct inflater *inflater;
        uint8_t *window; /* [INGEST_WINDOW_BYTES] */
        size_t window_at, window_len;
        bool inflater_full; /* it filled the window: it may hold more without more input */

        /* how it ends */
        bool finished; /* the parser's finish was called */
        int ended;     /* the error that ended it, or 0 */
};

/* struct encoding.encoder */
enum { ENCODE_NONE = 0, ENCODE_HASH_TEXT = 1, ENCODE_TABULAR = 2 };

enum {
        INGEST_WINDOW_BYTES = FUZZ_OR(64, 64 * 1024),
        INGEST_WINDOWS_A_CALL = 4, /* then whoever else the thread serves gets a turn */
};

/* --- what parsers do with the row at hand (ingest.c) --- */
void ingest_row_begin(struct ingest *in);
/* 1..ID_BYTES_MAX bytes of UTF-8 without NUL. The id comes first: it is the default subject. */
int ingest_set_id(struct ingest *in, const char *id, size_t len, struct errinfo *e);
int ingest_set_subject(struct ingest *in, const char *subject, size_t len, struct errinfo *e);
int ingest_set_likelihood(struct ingest *in, const char *text, size_t len, struct errinfo *e);
/* A class by a number's text form; encode_label_text takes texts. */
int ingest_set_label_number(struct ingest *in, double value, struct errinfo *e);
/* in->features to the row; tabular: the error's field names the column. e is never NULL. */
int ingest_set_features(struct ingest *in, struct errinfo *e);
int ingest_deliver(struct ingest *in, uint64_t line);
/* Reports a line as refused. */
int ingest_refuse(struct ingest *in, uint64_t line, const struct errinfo *why);
/* The refusal of a line over NDJSON_LINE_MAX. */
int ingest_refuse_overlong(struct ingest *in, uint64_t line);
/* Position of a column by its name, or -1. */
long column_find(const struct ingest *in, const char *name, size_t len);
/* The shortest text that reads back as v, whole numbers without a point; returns its length. */
enum { NUMBER_TEXT_SIZE = 32 };
size_t number_text(double v, char out[NUMBER_TEXT_SIZE]);

/* --- decompression (inflate.c) --- */
int inflater_create(enum ingest_compression kind, struct inflater **out, struct errinfo *e);
/* Decompresses into out[0, cap): *used bytes of input taken, *made bytes of output. Stops when the
 * output is full or the input is used up. UL_SYNTAX for a damaged stream, or trailing garbage. */
int inflater_run(struct inflater *z, const void *data, size_t len, size_t *used, uint8_t *out,
                 size_t cap, size_t *made, struct errinfo *e);
/* Whether the input so far is a whole number (one at least) of members or frames. */
bool inflater_complete(const struct inflater *z);
void inflater_destroy(struct inflater **z); /* wipes its window */

#endif
