/* SPDX-License-Identifier: Apache-2.0
 * ledger.h: the erasure ledger: an append-only file in a second place that remembers every accepted
 * erasure and every lifted suppression, so that a restored backup can be told what was forgotten
 * after it was made. It knows the file's format and nothing of databases or of when to write.
 *
 *   unlearnd-ledger 1 IDENTITY CHECK      the header
 *   ENTRY CHECK                           entry.h, one a line
 *   . COUNT CHECK                         ends a group of COUNT entries, which are there together
 *                                         or not at all
 *
 * CHECK is 32 hex digits: BLAKE2b, keyed, of the CHECK before it and the text of its line (of the
 * text alone in the header), so a line that was changed, moved, taken out or made up without the
 * key shows. IDENTITY is made from the key: the ledger of another installation is refused.
 *
 * What a crash leaves half written is the last group, never acknowledged to anybody: it is cut off
 * when the ledger is opened. Every other line that does not hold is damage, and refused. */
#ifndef UNLEARND_LEDGER_LEDGER_H
#define UNLEARND_LEDGER_LEDGER_H

#include "lib/ledger/entry.h"

enum { LEDGER_CHECK_BYTES = 16 };
#define LEDGER_FILE "erasures.ledger"

/* A place between two groups. */
struct ledger_mark {
        uint64_t bytes;
        uint8_t check[LEDGER_CHECK_BYTES]; /* of the line before it */
};

struct ledger;

bool ledger_exists(const char *dir); /* DIR/erasures.ledger */
/* Opens DIR/erasures.ledger, creating directory and file, checks all of it, cuts off a torn end
 * (*torn_bytes, may be NULL) and holds its lock. UL_CORRUPT: damaged; UL_CONFLICT: another
 * installation's, or in use by another process. */
int ledger_open(const char *dir, const uint8_t pseudonym_key[KEY_BYTES], struct ledger **out,
                uint64_t *torn_bytes, struct errinfo *e);
/* The same of a ledger that exists, for a look: no lock, nothing is created or cut. */
int ledger_open_read(const char *dir, const uint8_t pseudonym_key[KEY_BYTES], struct ledger **out,
                     struct errinfo *e);
void ledger_close(struct ledger **l);

void ledger_end(const struct ledger *l, struct ledger_mark *out);
/* Whether the ledger goes through this place. */
int ledger_has(struct ledger *l, const struct ledger_mark *mark, bool *has, struct errinfo *e);

/* All entries in order, from a place on (NULL: the first). Nonzero from fn ends the walk with it.
 */
typedef int (*ledger_fn)(void *arg, const struct ledger_entry *entry);
int ledger_each(struct ledger *l, const struct ledger_mark *from, ledger_fn fn, void *arg,
                struct errinfo *e);

/* Appends lines of ledger_entry_write as one group, durable on return. After an error nothing of
 * the group is there, or it is taken away before the next append. UL_IO also where the file is not
 * in its place any more, or was cut by somebody else. */
int ledger_append(struct ledger *l, const struct buf *lines, struct errinfo *e);
/* Whether a line could be made durable now; leaves nothing. What a crash leaves of it is a torn
 * end. */
int ledger_probe(struct ledger *l, struct errinfo *e);
/* Takes the last appended group away again (once): what it tells of did not happen. */
void ledger_take_back(struct ledger *l);

#endif
