/* SPDX-License-Identifier: Apache-2.0
 * witness.h: the witnesses of the audit log (C2SP tlog-witness): the newest checkpoint is offered
 * to all who have not cosigned it, and what they cosign is verified and kept.
 *
 * Offers go out in rounds, one at a time: one checkpoint to whoever is due, and when the last has
 * answered one commit records what came of it, so that a checkpoint gets the cosignatures of all
 * who are well. A witness that fails is due later and later. All that must outlast the process is a
 * row for each: which tree it cosigned last, and that checkpoint's note with all cosignatures of
 * it. Nothing of it goes into the log, which would never come to rest.
 *
 * witness.c is what happens on the loop, witness_record.c what happens in transactions. */
#ifndef UNLEARND_DAEMON_WITNESS_H
#define UNLEARND_DAEMON_WITNESS_H

#include "daemon/state.h"
#include "lib/audit/cosignature.h"

/* How an offer ended; stored, so the numbers stay. */
enum witness_outcome {
        WITNESS_COSIGNED = 0,
        WITNESS_STATUS = 1,        /* an answer that the protocol does not know */
        WITNESS_UNKNOWN_LOG = 2,   /* 404 */
        WITNESS_UNKNOWN_KEY = 3,   /* 403 */
        WITNESS_INCONSISTENT = 4,  /* 422, or 409 for another tree of this size */
        WITNESS_AHEAD = 5,         /* it has seen more entries than there are */
        WITNESS_MALFORMED = 6,     /* not what the specification says, or too long */
        WITNESS_BAD_SIGNATURE = 7, /* not its key's, or not of this checkpoint */
        WITNESS_BAD_TIME = 8,
        WITNESS_REFUSED = 9, /* by us: an address that is not allowed */
        WITNESS_UNREACHABLE = 10,
        WITNESS_TLS = 11,
        WITNESS_TIMEOUT = 12,
        WITNESS_BROKEN = 13, /* not HTTP, or cut off */
        WITNESS_OUTCOMES
};
const char *witness_outcome_name(uint8_t outcome); /* "cosigned", "unknown_log", ... */

/* Reads the keys of the configuration. UL_INVALID names the section. After the log is open. */
int witness_start(struct service *s, struct errinfo *e);
void witness_end(struct service *s);
void witness_gauges(struct service *s, struct txn *t, struct metric_gauges *g);

/* The newest checkpoint that a witness cosigned, with all cosignatures of it, in place of what
 * `note` held. UL_NOT_FOUND. */
int witness_newest(struct service *s, struct txn *t, struct buf *note, uint64_t *size);

/* --- for witness.c, in a transaction --- */
/* What is known of a witness of the configuration: its row, or an empty one where it has none, or
 * one under another key. note: as t_witness_get. */
int witness_known(struct service *s, struct txn *t, uint32_t i, struct witness_row *row,
                  struct buf *note);
/* What a round offered, and what came of it. */
struct witness_result {
        bool offered;
        enum witness_outcome outcome;
        uint32_t status; /* HTTP's; 0: no answer came */
        struct cosignature cosignature;
        /* filled by witness_record */
        uint32_t failures;
        bool news; /* it fares otherwise than before */
};
struct witness_round {
        struct buf note; /* the checkpoint, as the log signed it */
        size_t text_len; /* of it */
        uint64_t size;   /* of its tree */
        int64_t since_s; /* no cosignature of it can be older */
        struct witness_result result[WITNESSES_MAX];
};
int witness_record(struct service *s, struct txn *t, struct witness_round *r);

#endif
