/* SPDX-License-Identifier: Apache-2.0
 * number.h: decimal text to float, the same last bit as strtof in the C locale, several times
 * faster for the short numbers that tensors and CSV files hold. */
#ifndef UNLEARND_UTIL_NUMBER_H
#define UNLEARND_UTIL_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads one JSON-style number (sign, digits, fraction, exponent; no hex, inf or nan) at text.
 * Returns the bytes consumed, 0 if there is no number. Out of range gives +-inf as strtof does. */
size_t parse_f32(const char *text, size_t len, float *out);
size_t parse_f64(const char *text, size_t len, double *out);

#endif
