/* SPDX-License-Identifier: Apache-2.0
 * witnesses.h: whether witnesses that the caller trusts have cosigned the log that is checked. */
#ifndef UNLEARND_CLI_WITNESSES_H
#define UNLEARND_CLI_WITNESSES_H

#include "cli/http.h"
#include "lib/audit/cosignature.h"

/* What witnesses say: all of them cosigned the same checkpoint. */
struct testimony {
        struct cosigner *witness; /* [count], owned */
        struct cosignature *cosignature;
        size_t count;
        struct checkpoint head; /* that they cosigned */
};
/* All tell what is wrong and return an exit status. */
/* Reads the keys, each of which has to be another; EXIT_USAGE. The caller clears `out` in every
 * case. */
int testimony_begin(const struct text_list *vkeys, struct testimony *out);
void testimony_clear(struct testimony *y);
/* None of them is the log itself, which vouches for itself already; EXIT_USAGE. */
int testimony_not_by(const struct testimony *y, const struct note_key *log);
/* Each cosigned not more than so many days ago: what they last saw says little of the log as it is
 * now. Not asked of a certificate's proof: that its entry is in the tree that they saw stays true.
 */
int testimony_recent(const struct testimony *y, uint64_t days);
/* The newest checkpoint of those that the daemon has which all of them cosigned. Whose log it is,
 * and that the log goes on from it, is the caller's to check. */
int testimony_fetch(struct ctl *c, struct testimony *y);
/* The same of a note that is there, and of the one in a tlog-proof that holds. */
int testimony_take(struct testimony *y, const void *note, size_t len);
int testimony_take_proof(struct testimony *y, const struct buf *proof);
void testimony_print(const struct testimony *y);                        /* a line each */
void testimony_write(const struct testimony *y, struct json_writer *w); /* an array */

#endif
