/* SPDX-License-Identifier: Apache-2.0
 * clock.h: the one clock. Wall time in milliseconds since 1970 for what people read, monotonic
 * time for durations; both replaceable in tests. RFC 3339 text and calendar arithmetic in UTC. */
#ifndef UNLEARND_UTIL_CLOCK_H
#define UNLEARND_UTIL_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t now_ms(void);   /* wall clock, UTC */
uint64_t mono_us(void); /* monotonic, for durations */

/* Tests: both clocks then stand still at these values until clock_use_system(). */
void clock_use_fixed(int64_t wall_ms, uint64_t monotonic_us);
void clock_use_system(void);

enum { RFC3339_SIZE = 32 };
/* "2026-01-31T09:00:00.000Z"; years 1970..9999. Returns out. */
char *time_format(int64_t ms, char out[RFC3339_SIZE]);
/* Any RFC 3339 offset is read; returns false if the text is not a valid time. */
bool time_parse(const char *text, size_t len, int64_t *ms);
/* A calendar month later (31 January + 1 month = the last day of February): GDPR art. 12(3). */
int64_t time_add_months(int64_t ms, int months);

/* ULID (128 bits: 48-bit milliseconds, 80 random bits; monotonic within a process). */
enum { ULID_BYTES = 16, ULID_TEXT = 26 };
void ulid_make(uint8_t out[ULID_BYTES]);
char *ulid_format(const uint8_t id[ULID_BYTES], char out[ULID_TEXT + 1]);
bool ulid_parse(const char *text, size_t len, uint8_t out[ULID_BYTES]);

#endif
