/* SPDX-License-Identifier: Apache-2.0
 * json_scan.h: internal to the json files: the strict grammar that is checked before cJSON
 * sees a text, and what a UTF-8 character is. */
#ifndef UNLEARND_UTIL_JSON_SCAN_H
#define UNLEARND_UTIL_JSON_SCAN_H

#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

/* UL_OK if `text` is exactly one JSON value (RFC 8259) in valid UTF-8 within JSON_DEPTH_MAX, with
 * finite numbers and without NUL in strings; UL_SYNTAX with the byte offset in the detail. */
int json_scan(const char *text, size_t len, struct errinfo *e);

/* The byte offset of the key number `ordinal` (from 0, in the order of the text) of a text that
 * json_scan accepted. */
size_t json_scan_key_offset(const char *text, size_t len, size_t ordinal);

/* The length of the well-formed UTF-8 character at p (RFC 3629), which has `left` >= 1 bytes; 0 if
 * there is none. */
size_t json_utf8_bytes(const uint8_t *p, size_t left);

#endif
