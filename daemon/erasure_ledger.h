/* SPDX-License-Identifier: Apache-2.0
 * erasure_ledger.h: the ledger as the daemon keeps it: what goes into it, and what comes back at
 * start. Its file and lines are lib/ledger's. */
#ifndef UNLEARND_DAEMON_ERASURE_LEDGER_H
#define UNLEARND_DAEMON_ERASURE_LEDGER_H

#include "daemon/state.h"
#include "lib/ledger/ledger.h"

/* --- ledger_request.c --- */
/* The entry of a request; its arrays but the records (free() them) are the request's. UL_NOMEM. */
int ledger_entry_of(const struct erase_request *r, const uint8_t id[ULID_BYTES],
                    struct ledger_entry *out);
/* What an entry asks for, of the models that exist: those of other names get the suppressions. The
 * actor is the caller's to set. Clear with erase_request_clear. */
int ledger_request(struct service *s, struct txn *t, const struct ledger_entry *x,
                   struct erase_request *out, struct errinfo *e);
/* When an erasure took effect: its row's `executed`; its id where there is no row. */
int erasure_order(struct txn *t, const uint8_t id[ULID_BYTES], uint8_t out[ULID_BYTES]);
/* The same of a suppression: an imported one took effect with its import. */
int suppression_order(struct txn *t, const struct suppression_row *row, uint8_t out[ULID_BYTES]);

/* --- ledger_write.c: the erasure ledger while the daemon serves; see there for the order --- */
/* Adds the line of an erasure to a command's ledger lines, unless it was recorded before. */
void ledger_note_erasure(struct service *s, struct buf *lines, const struct erase_request *r,
                         const struct erasure_view *v);
void ledger_note_lift(struct service *s, struct buf *lines, const uint8_t id[ULID_BYTES],
                      int64_t lifted_ms, const uint8_t pseudonym[PSEUDONYM_BYTES]);
void ledger_note_import(struct service *s, struct buf *lines, const uint8_t id[ULID_BYTES],
                        int64_t imported_ms, struct ledger_suppression *suppressions,
                        uint32_t count);
/* The writer's hooks. */
int ledger_before_commit(void *service, const struct command *first, struct txn *t,
                         struct errinfo *e);
void ledger_commit_failed(void *service);
/* How far the database has followed the ledger; *known false: never. */
int ledger_mark_get(struct txn *t, struct ledger_mark *out, bool *known);
int ledger_mark_put(struct txn *t, const struct ledger_mark *mark); /* NULL: no ledger any more */

/* --- ledger_start.c: the ledger at start --- */
/* Opens the ledger and replays what the database does not know (a restored backup), or completes a
 * ledger that lost what the database knows. Before the writer exists. *replayed: scrubs of erasures
 * from the ledger may be under way, and how far it was followed is noted only after them. */
int ledger_start(struct service *s, bool *replayed, struct errinfo *e);
/* Waits until they are done, then sets *scrubbed, or until a stop is asked for: the loop runs,
 * nobody is served yet. */
void ledger_wait_scrubbed(struct service *s, bool (*stop_asked)(void), bool *scrubbed);

/* --- ledger_complete.c --- */
/* Appends what the database knows and the ledger does not; *count entries. */
int ledger_complete(struct service *s, uint32_t *count, struct errinfo *e);

#endif
