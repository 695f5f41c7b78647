/* SPDX-License-Identifier: Apache-2.0
 * erasure.h: the life of one erasure inside transactions: what it finds, whom it overlaps with,
 * what it waits for, what is kept as evidence, and its end. */
#ifndef UNLEARND_DAEMON_ERASURE_H
#define UNLEARND_DAEMON_ERASURE_H

#include "daemon/state.h"
#include "lib/ledger/ledger.h"

/* --- erase.c, erase_index.c: one erasure inside a transaction --- */
/* What an erasure found in one shard. */
struct hit {
        struct model *model; /* borrowed from the hits' models */
        uint32_t shard;
        uint32_t slice;   /* the lowest */
        uint64_t records; /* 0: an earlier erasure took them, and the shard waits for its retrain */
        uint32_t followed; /* where records is 0: the lowest slice that the earlier one touched */
        uint32_t scrubs;   /* targets in t_scrub that are rows of this shard */
        uint32_t from;     /* the lowest whose checkpoint goes */
        bool covered;      /* training covers it: the erasure waits for its retrain */
        bool rolled_back;  /* a checkpoint that was clean is not any more */
};
struct hits {
        struct hit *hit;
        uint32_t count, cap;
        uint64_t matched;
        struct model **models; /* [model_count], referenced */
        uint32_t model_count;
        uint32_t scope_count; /* the first ones: where subjects are looked for */
        uint32_t *uploads;    /* [upload_count] staged uploads that were hit and called off */
        uint32_t upload_count;
        bool everywhere; /* all models are asked for */
        bool going;      /* there are models that are being deleted */
        /* overlap.c */
        struct buf follows; /* ULIDs: earlier erasures whose scrubs it waits for */
        struct buf noted;   /* whose records it takes one by one: slots, as they are kept */
        uint32_t follow_count;
        uint32_t going_count; /* models being deleted whose end it waits for */
};
/* A scrub target beside those of tables.h: an earlier erasure (named in the key's pseudonym, model
 * 0) that took the data already and has not overwritten it yet. */
enum { SCRUB_FOLLOW = 5 };
_Static_assert((int)PSEUDONYM_BYTES == (int)ULID_BYTES,
               "an erasure's id stands in a pseudonym's place");
/* Resolves r->models (all where none is named). UL_INVALID names the field. */
int hits_scope(struct hits *h, struct service *s, const struct erase_request *r, struct errinfo *e);
/* Looks everything up; `id` NULL: only counts (dry run), else tombstones and fills t_scrub. */
int hits_collect(struct hits *h, struct txn *t, const struct erase_request *r, const uint8_t *id,
                 struct errinfo *e);
void hits_clear(struct hits *h);
/* The hit of this shard, a new one where there is none; NULL: no memory. */
struct hit *hit_of(struct hits *h, struct model *m, uint32_t shard);
int hits_scrub(struct txn *t, const uint8_t *id, uint32_t model, enum scrub_kind kind,
               const uint8_t pseudonym[PSEUDONYM_BYTES], const struct scrub_row *row);

/* --- overlap.c: whom an earlier erasure, or the deletion of a model, is taking away already --- */
/* Before the suppressions become this erasure's. A subject, in every model where it looks. */
int overlap_subject(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                    const uint8_t *id);
/* A record by its own name. */
int overlap_record(struct hits *h, struct txn *t, const uint8_t record[PSEUDONYM_BYTES],
                   struct model *m, const uint8_t *id);
/* A record that goes with this person, whom an earlier one took. */
int overlap_person(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                   struct model *m, const uint8_t *id);
/* A record of this person goes by itself. */
int overlap_note(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                 struct model *m, const uint8_t *id);
/* Keeps what was noted: the erasure is recorded, and has not ended. */
int overlap_keep(const struct hits *h, struct txn *t, const uint8_t id[ULID_BYTES]);
/* Models that are being deleted: those that the entry names, of which a request from it says
 * nothing (NULL: it comes from a client), and those that hold a subject where all are asked for. */
int overlap_going(struct hits *h, struct txn *t, const struct erase_request *r,
                  const struct ledger_entry *x, const uint8_t id[ULID_BYTES]);
/* The suppression (scope, or 0) that the erasure made of this pseudonym is lifted: what overlaps
 * with it is found without, from now on. */
int overlap_lifted(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t scope,
                   const uint8_t erasure[ULID_BYTES]);
/* It is completed: nobody has to wait for it any more. */
int overlap_end(struct txn *t, const uint8_t id[ULID_BYTES]);

int64_t erasure_default_deadline(enum erase_regulation regulation, int64_t received_ms);

/* Where an erasure comes from: a client now, a release, or the ledger. */
struct erasure_origin {
        uint8_t id[ULID_BYTES];
        uint8_t executed[ULID_BYTES]; /* see struct erasure_row */
        int64_t accepted_ms;
        const struct erasure_row *held;   /* its row under hold; NULL: it is new */
        const struct ledger_entry *entry; /* that it was read from; NULL: a client asks now */
        bool replayed;                    /* from the ledger: the database had forgotten it */
};
/* The row of an erasure that was accepted and not executed. */
struct erasure_row erasure_new_row(const struct erase_request *r, int64_t accepted_ms);
/* Appends erasure.accepted (with "hold" where it is held), .released or .replayed. */
int erasure_audit_accepted(struct service *s, struct txn *t, const struct erase_request *r,
                           const struct erasure_origin *from, const struct erasure_row *row);
/* An erasure that the ledger knows and the database does not, or (`held`) only under hold. */
int erasure_replay(struct service *s, struct txn *t, const struct ledger_entry *x,
                   const struct erasure_row *held, struct errinfo *e);
/* Executes a held erasure, as x says; fx is the caller's to apply. */
int erasure_release(struct service *s, struct txn *t, const struct ledger_entry *x,
                    const struct erasure_row *held, const char *actor, struct effects *fx,
                    struct errinfo *e);

/* --- hold.c: erasures that wait for somebody's decision --- */
/* Records the request without executing it; *row is what was recorded. */
int erasure_hold(struct service *s, struct txn *t, const struct erase_request *r,
                 const struct erasure_origin *from, struct erasure_row *row, struct errinfo *e);

/* --- pending.c: erasures that have not ended, by deadline --- */
int pending_begin(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row);
/* Gives it another deadline, before the present one has passed. */
int pending_extend(struct txn *t, const uint8_t id[ULID_BYTES], struct erasure_row *row,
                   int64_t deadline_ms);
/* It is completed or refused: what is late is noted. The caller puts the row. */
int pending_end(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                struct erasure_row *row, int64_t ended_ms);
void pending_gauges(struct txn *t, struct metric_gauges *g);

/* --- reasons.c: the codes that refusals and extensions give as their reason --- */
enum reason_use { REASON_REFUSAL, REASON_EXTENSION };
/* The number to store; 0: no such code for this use under this regulation. */
uint8_t reason_find(enum reason_use use, const char *code, enum erase_regulation regulation);
const char *reason_name(enum reason_use use, uint8_t reason); /* NULL: none */

/* --- recalls.c: in a transaction --- */
/* From this generation on the shard is served from a checkpoint of to_slice, which was below
 * from_slice before; up to this one it was, and is below from_slice after. */
int served_begin(struct txn *t, const struct model *m, uint32_t shard, uint32_t from_slice,
                 uint32_t to_slice, uint64_t generation);
int served_end(struct txn *t, const struct model *m, uint32_t shard, uint32_t from_slice,
               uint32_t to_slice, uint64_t generation);
/* Notes that an erasure withdraws the generations before this one, if what it took was ever served.
 */
int recall_note(struct txn *t, const struct model *m, const struct hits *h,
                const uint8_t id[ULID_BYTES], uint64_t generation, int64_t now);
/* A backup was restored: which generations were served since (since_ms: not after that ended), and
 * with whom, is not known. Every model's count goes on far beyond them, so that none of them is
 * given to another model; and every slice is noted as served in them, so that they are withdrawn by
 * whatever erasure comes. Before anything is served. */
int served_lost(struct service *s, struct txn *t, int64_t since_ms, struct errinfo *e);

/* --- complete.c: the last steps of an erasure, in a transaction --- */
/* `scrubs` scrub targets of the erasure are done. */
int erasure_scrubbed(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                     uint32_t scrubs);
/* Completes erasures that wait for a clean shard, at most `max`; *left: more wait. */
int erasures_complete_shard(struct service *s, struct txn *t, uint32_t model, uint32_t shard,
                            uint32_t max, bool *left);
/* Ends a fresh erasure at once where nothing is left to do for it. */
int erasure_settle(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                   struct erasure_row *row, struct erasure_affected *affected, int64_t now);

/* --- evidence.c: what an erasure's certificate says, kept from step to step --- */
/* In roll_back: the digests of the checkpoints that are given up, slice by slice from `first` on.
 */
struct evidence {
        uint32_t first, count;
        struct buf digests;
};
void evidence_took(struct evidence *ev, uint32_t slice, const struct slice_row *row);
int evidence_forgotten(struct evidence *ev, struct txn *t, const uint8_t id[ULID_BYTES],
                       uint32_t model, uint32_t shard); /* also frees */
/* The shard is clean, or its model is being deleted. */
int evidence_ended(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES], uint32_t model,
                   uint32_t shard);
/* --- certificate.c --- */
/* Records the certificate of an erasure that is completed by this transaction, and appends the log
 * entry that commits to it. */
int certificate_record(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                       const struct erasure_row *row, const struct erasure_affected *affected);

#endif
