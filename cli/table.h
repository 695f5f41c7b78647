/* SPDX-License-Identifier: Apache-2.0
 * table.h: tables for people: columns as wide as their widest cell, numbers to the right. Text of
 * others never reaches the terminal as control characters. It knows nothing of what it prints. */
#ifndef UNLEARND_CLI_TABLE_H
#define UNLEARND_CLI_TABLE_H

#include "lib/util/json.h"
#include <stdint.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 12 };

struct table {
        int columns;
        const char *heads[TABLE_COLUMNS_MAX]; /* borrowed */
        char **cells;                         /* [count], row by row */
        size_t count, capacity;
        bool failed; /* out of memory; told by table_print */
};

/* heads: NULL-terminated; all NULL-free cells follow through table_add, row by row. */
void table_begin(struct table *t, const char *const *heads);
void table_add(struct table *t, const char *cell); /* NULL: "-" */
void table_add_format(struct table *t, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* A member of an object as text: strings as they are, null and absent as "-". */
void table_add_member(struct table *t, const struct json *object, const char *key);
void table_drop(struct table *t); /* frees without printing */
/* Prints and frees. 0, or EXIT_FAILED. */
int table_print(struct table *t, FILE *out);

/* Text without control characters. */
void print_text(FILE *out, const char *text);
/* A number without a needless fraction. */
void format_number(double v, char *out, size_t size);

#endif
