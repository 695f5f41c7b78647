/* SPDX-License-Identifier: Apache-2.0
 * log_keys.h: from a key of the log that is trusted to the one that took its place. */
#ifndef UNLEARND_CLI_LOG_KEYS_H
#define UNLEARND_CLI_LOG_KEYS_H

#include "cli/http.h"
#include "lib/audit/note.h"

bool same_key(const struct note_key *a, const struct note_key *b);
/* Follows the log's announcements from `from` to `to`; each is under a checkpoint that the key
 * before it signed. seen (may be NULL): a tree of `from`, which the handovers must go on from.
 * *last: the last handover. 0; UL_NOT_FOUND: the log does not say that it had `from`; EXIT_FAILED:
 * something does not hold, told. */
int follow_keys(struct ctl *c, const struct note_key *from, const struct note_key *to,
                const struct checkpoint *seen, struct checkpoint *last);
/* Whether the tree `to` goes on from the tree `from`, by a proof that the log gives. 0; UL_CORRUPT:
 * it does not; EXIT_FAILED: no proof is to be had, told. */
int check_growth(struct ctl *c, const struct checkpoint *from, const struct checkpoint *to);

#endif
