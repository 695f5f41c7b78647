/* SPDX-License-Identifier: Apache-2.0
 * match.h: where any of many byte patterns occurs in a buffer. Of each pattern one window of 8
 * bytes (4 of a short one) is its anchor: the one that the other patterns share least. A bit field
 * tells at each position whether an anchor may stand there; only then is anything compared. It
 * must not know files, nor what a pattern means. */
#ifndef UNLEARND_SCAN_MATCH_H
#define UNLEARND_SCAN_MATCH_H

#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

enum { MATCH_BYTES_MIN = 4, MATCH_BYTES_MAX = 128 };

struct matcher;
/* UL_NOMEM. */
int matcher_create(struct matcher **out, struct errinfo *e);
void matcher_destroy(struct matcher **m); /* wipes: patterns are personal data */

/* Copies MATCH_BYTES_MIN..MAX bytes. `tag` is the caller's. UL_NOMEM. */
int matcher_add(struct matcher *m, const void *bytes, size_t len, uint32_t tag, struct errinfo *e);
size_t matcher_count(const struct matcher *m);
/* After the last pattern, before the first run; more may be added and built again. UL_NOMEM. */
int matcher_build(struct matcher *m, struct errinfo *e);

/* Every occurrence that begins in [from, to) and ends within len, in no order within a few bytes;
 * of equal patterns each. `fn` returns 0 to go on; another value ends the run and is returned. */
typedef int (*match_fn)(void *arg, uint32_t tag, size_t at, size_t len);
int matcher_run(const struct matcher *m, const uint8_t *data, size_t len, size_t from, size_t to,
                match_fn fn, void *arg);

#endif
