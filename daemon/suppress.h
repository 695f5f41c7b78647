/* SPDX-License-Identifier: Apache-2.0
 * suppress.h: suppressions that end (lift.c) or come from another instance (import_apply.c), inside
 * a transaction. Those that an erasure makes are its own: erasure.h. */
#ifndef UNLEARND_DAEMON_SUPPRESS_H
#define UNLEARND_DAEMON_SUPPRESS_H

#include "daemon/state.h"
#include "lib/ledger/ledger.h"

/* --- lift.c --- */
/* Takes a pseudonym's suppressions away and remembers the lift under `id`; *removed counts. A lift
 * that is replayed leaves those of later erasures. */
int suppression_lift(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                     int64_t lifted_ms, const uint8_t pseudonym[PSEUDONYM_BYTES], const char *actor,
                     bool replayed, uint32_t *removed);

/* --- import_apply.c --- */
/* One step of an import: one transaction, one line of the ledger, one entry of the log. */
struct import_step {
        uint8_t id[ULID_BYTES];
        const char *actor; /* borrowed */
        bool replayed;     /* from the ledger */
        /* what came of it */
        uint32_t taken; /* of the entries that were offered */
        uint32_t already, lifted, called_off;
        uint32_t added_count, held_count;
        struct ledger_suppression added[LEDGER_IMPORT_MAX];
        uint32_t held[LEDGER_IMPORT_MAX]; /* their places among those offered */
};
/* Takes entries (at most LEDGER_IMPORT_MAX) until all are taken or the budget (0: none) is spent.
 */
int import_apply(struct service *s, struct txn *t, const struct ledger_suppression *entries,
                 uint32_t count, int64_t imported_ms, uint64_t budget_us, struct import_step *step,
                 struct errinfo *e);

#endif
