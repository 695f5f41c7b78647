/* SPDX-License-Identifier: Apache-2.0
 * source.h: a file or the standard input as a stream, raw or decompressed (gzip, zstd; told by its
 * first bytes, not by its name). What it held is wiped. It knows no format. */
#ifndef UNLEARND_CLI_SOURCE_H
#define UNLEARND_CLI_SOURCE_H

#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

struct source;
/* path "-": the standard input. */
int source_open(const char *path, struct source **out, struct errinfo *e);
void source_close(struct source **s);

const char *source_encoding(const struct source *s); /* "gzip", "zstd" or NULL */
uint64_t source_size(const struct source *s);        /* raw bytes; 0 where it is not known */
uint64_t source_position(const struct source *s);    /* raw bytes read so far */

/* The first bytes, decompressed, without taking them. */
int source_peek(struct source *s, void *out, size_t cap, size_t *len, struct errinfo *e);
/* Up to cap bytes; *len is 0 at the end. One kind of read a source. UL_SYNTAX for a damaged or
 * truncated stream. */
int source_read_raw(struct source *s, void *out, size_t cap, size_t *len, struct errinfo *e);
int source_read(struct source *s, void *out, size_t cap, size_t *len, struct errinfo *e);

#endif
