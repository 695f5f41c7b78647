/* SPDX-License-Identifier: Apache-2.0
 * feed.h: a file as the daemon takes it: passed through as it is (compressed too) where the daemon
 * reads it by itself, else turned into NDJSON row by row. A line of what is sent stands in for the
 * same line of the file, so that the daemon's line numbers are the file's. Errors are told here.
 * It sends nothing. */
#ifndef UNLEARND_CLI_FEED_H
#define UNLEARND_CLI_FEED_H

#include "cli/layout.h"

enum { FEED_REFUSALS_MAX = 100, FEED_REASON_MAX = 64 };
/* Rows that could not even be sent. */
struct feed_refusals {
        uint64_t count;
        struct {
                uint64_t line;
                char reason[FEED_REASON_MAX];
        } first[FEED_REFUSALS_MAX];
};

struct feed;
int feed_open(const char *path, const struct file_options *o, enum feed_use use, struct feed **out);
/* Whether feed_prepare needs the model's shape. */
bool feed_is_table(const struct feed *f);
/* Before anything is read. The shape is borrowed for the life of the feed. */
int feed_prepare(struct feed *f, const struct model_shape *shape);
void feed_close(struct feed **f);

const char *feed_content_type(const struct feed *f);
const char *feed_content_encoding(const struct feed *f); /* NULL: none */
bool feed_is_npy(const struct feed *f);
uint64_t feed_size(const struct feed *f); /* of the file; 0 where it is not known */
uint64_t feed_position(const struct feed *f);

/* Upload: bytes for the body, 0 at the end, -1 for an error. stop_at_refusal: a row that cannot
 * be sent is an error. */
long feed_read(struct feed *f, char *out, size_t cap, bool stop_at_refusal);
const struct feed_refusals *feed_refused(const struct feed *f);

/* Prediction: the next row's input as JSON and its id, appended. 1, 0 at the end, -1. */
int feed_next(struct feed *f, struct buf *input, struct buf *id);

/* The rows of a command's option table for a struct whose member `file` is a file_options. */
#define FILE_OPTION(type, member) offsetof(type, file) + offsetof(struct file_options, member)
#define FILE_OPTIONS(type)                                                                         \
        {"format", "FORMAT", OPTION_TEXT, FILE_OPTION(type, format),                               \
         "ndjson, csv, npy or auto (the default)"},                                                \
                {"delimiter", "C", OPTION_TEXT, FILE_OPTION(type, delimiter),                      \
                 "of a CSV: one character, tab, or auto (the default)"},                           \
                {"quotes", "yes|no", OPTION_TEXT, FILE_OPTION(type, quotes),                       \
                 "whether quotes have a meaning; yes, but no with tabs"},                          \
                {"no-header", NULL, OPTION_FLAG, FILE_OPTION(type, no_header),                     \
                 "the CSV has no header row; columns are 1, 2, ..."},                              \
                {"columns", "A,B,...", OPTION_TEXT, FILE_OPTION(type, columns),                    \
                 "names of its columns, with --no-header"},                                        \
                {"id", "COLUMN", OPTION_TEXT, FILE_OPTION(type, id),                               \
                 "column of the record's id (id; else row-0, row-1, ...)"},                        \
                {"id-prefix", "P", OPTION_TEXT, FILE_OPTION(type, id_prefix), "in place of row-"}, \
                {"label", "COLUMN", OPTION_TEXT, FILE_OPTION(type, label),                         \
                 "column of the label (label)"},                                                   \
                {"label-last", NULL, OPTION_FLAG, FILE_OPTION(type, label_last),                   \
                 "the last column is the label, with --no-header"},                                \
                {"text", "COLUMN", OPTION_TEXT, FILE_OPTION(type, text),                           \
                 "column of the text, of a model of texts (text)"},                                \
        {                                                                                          \
                "rows", "A:B", OPTION_TEXT, FILE_OPTION(type, rows),                               \
                        "only rows A to B - 1, counted from 0; either may be left out"             \
        }

#endif
