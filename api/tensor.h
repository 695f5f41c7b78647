/* SPDX-License-Identifier: Apache-2.0
 * tensor.h: the numbers of a tensor, straight out of the text or the bytes of a request: the array
 * is most of a request, and a tree of it would cost twenty times its parsing. Pure: it knows
 * neither requests nor models.
 *
 * tensor_cut takes the arrays out of a JSON text and leaves a marker string in the place of each,
 * so that the strict JSON reader sees all the rest; replacing one value by another keeps JSON
 * exactly as valid as it was. What was cut is then read by one of the functions below, as strictly.
 */
#ifndef UNLEARND_API_TENSOR_H
#define UNLEARND_API_TENSOR_H

#include "lib/util/bytes.h"
#include "lib/util/err.h"
#include "lib/util/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tensor_span { /* one array, borrowed from the text: starts at '[' and ends behind its ']' */
        const char *text;
        size_t len;
        uint32_t elements; /* of its own elements, those that are arrays, objects or strings */
        char first;        /* the first character of its first element; ']' where it is empty */
};
struct tensor_cuts {
        struct buf envelope; /* the text without the arrays */
        struct tensor_span *spans;
        uint32_t count, cap;
};
/* Cuts every array that is the value of `key` in an object `depth` levels deep (1: of the top
 * object). UL_SYNTAX where an array does not end, UL_NOMEM. Cleared by the caller in every case. */
int tensor_cut(const char *text, size_t len, const char *key, uint32_t depth,
               struct tensor_cuts *out, struct errinfo *e);
/* The array that stood where `marker` is; NULL: there was none. */
const struct tensor_span *tensor_find(const struct tensor_cuts *cuts, const struct json *marker);
void tensor_cuts_clear(struct tensor_cuts *cuts); /* wipes */

enum tensor_type {
        TENSOR_BOOL,
        TENSOR_UINT8,
        TENSOR_UINT16,
        TENSOR_UINT32,
        TENSOR_UINT64,
        TENSOR_INT8,
        TENSOR_INT16,
        TENSOR_INT32,
        TENSOR_INT64,
        TENSOR_FP32,
        TENSOR_FP64,
        TENSOR_BYTES,
};
const char *tensor_type_name(enum tensor_type t);
bool tensor_type_parse(const char *name, enum tensor_type *out);
size_t tensor_type_size(enum tensor_type t); /* bytes of an element; 0 for BYTES */

/* Reads [rows, columns] numbers, flat in row-major order or as an array of rows, into out. NaN and
 * Infinity are read as what they are: refusing them is the service's, which names the place.
 * UL_INVALID with field "" or "/row/column" for a wrong count or a value that the type cannot hold;
 * UL_SYNTAX. rows * columns must not overflow. */
int tensor_numbers(const char *text, size_t len, enum tensor_type type, size_t rows, size_t columns,
                   float *out, struct errinfo *e);
/* data: `count` elements of `type` (not BYTES), little-endian, without alignment. A BOOL is 0 or 1:
 * UL_INVALID otherwise. */
int tensor_binary(const uint8_t *data, size_t count, enum tensor_type type, float *out,
                  struct errinfo *e);
/* One BYTES element (u32 length, bytes) at *at of data; moves *at behind it. UL_INVALID where it
 * runs over the end. */
int tensor_next_bytes(const uint8_t *data, size_t len, size_t *at, const char **text,
                      size_t *text_len, struct errinfo *e);

#endif
