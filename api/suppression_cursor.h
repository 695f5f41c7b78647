/* SPDX-License-Identifier: Apache-2.0
 * suppression_cursor.h: where a page of suppressions starts and ends. A pseudonym may have several
 * entries (a model, a kind each) while the service goes on from a pseudonym, not from an entry. So
 * a cursor is three parts, PREVIOUS.CURRENT.N: go on after PREVIOUS (empty: from the start) and
 * leave out the first N entries of CURRENT. Pure. */
#ifndef UNLEARND_API_SUPPRESSION_CURSOR_H
#define UNLEARND_API_SUPPRESSION_CURSOR_H

#include "lib/util/crypto.h"
#include <stdbool.h>
#include <stdint.h>

enum { SUPPRESSION_CURSOR_SIZE = 2 * (2 * PSEUDONYM_BYTES) + 2 + 10 + 1 };

/* Zero-initialise for the first page. */
struct suppression_cursor {
        /* where the page starts */
        bool has_previous, has_current;
        uint8_t previous[PSEUDONYM_BYTES], current[PSEUDONYM_BYTES];
        uint32_t skip;
        /* where the walk is: at entry number `seen` of `at`; `before` is the pseudonym ahead of it
         */
        bool has_before, has_at;
        uint8_t before[PSEUDONYM_BYTES], at[PSEUDONYM_BYTES];
        uint32_t seen;
};

bool suppression_cursor_parse(const char *text, struct suppression_cursor *c);
/* The next entry of the walk after `previous`; false: it was on an earlier page. */
bool suppression_cursor_visit(struct suppression_cursor *c,
                              const uint8_t pseudonym[PSEUDONYM_BYTES]);
/* The cursor that goes on behind the entry that was visited last. Returns out. */
char *suppression_cursor_format(const struct suppression_cursor *c,
                                char out[SUPPRESSION_CURSOR_SIZE]);
/* Exactly the hex digits of one pseudonym. */
bool pseudonym_parse(const char *text, size_t len, uint8_t out[PSEUDONYM_BYTES]);

#endif
