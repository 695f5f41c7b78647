/* SPDX-License-Identifier: Apache-2.0
 * csv.h: delimited text, a record at a time: RFC 4180 with any delimiter, with or without quotes.
 * Without a delimiter a record is a line as it stands. It must not know what the fields mean. */
#ifndef UNLEARND_CLI_CSV_H
#define UNLEARND_CLI_CSV_H

#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct csv_options {
        char delimiter; /* 0: none */
        bool quotes;
};
struct csv_field {
        const char *text; /* borrowed until the next record; not NUL-terminated */
        size_t len;
};
struct csv_record {
        uint64_t line;  /* where it begins, from 1 */
        uint64_t lines; /* how many it spans */
        size_t count;
        const struct csv_field *fields;
};

struct csv;
/* `read` gives up to cap bytes; *len 0 at the end. */
typedef int (*csv_read_fn)(void *arg, void *out, size_t cap, size_t *len, struct errinfo *e);
int csv_open(csv_read_fn read, void *arg, const struct csv_options *o, struct csv **out,
             struct errinfo *e);
/* 1: a record; 0: the end; or an error: UL_SYNTAX for quotes that never end, UL_TOO_LARGE for a
 * record over NDJSON_LINE_MAX. A byte order mark before the first record is passed over. */
int csv_next(struct csv *c, struct csv_record *r, struct errinfo *e);
void csv_close(struct csv **c); /* wipes */

/* The delimiter (',' ';' tab or '|') that cuts the first records of a text into the same number of
 * fields; ',' where none does. */
char csv_delimiter(const char *text, size_t len);

#endif
