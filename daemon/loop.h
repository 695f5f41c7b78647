/* SPDX-License-Identifier: Apache-2.0
 * loop.h: what the files of the loop thread share: scheduler.c (the thread, and what comes first),
 * runs.c (workers), scrub.c, abort.c, verify.c, delete.c. Everything in struct scheduler belongs to
 * the loop thread unless its heading says otherwise. Work that changes the store goes to the writer
 * as a command and comes back as a call. */
#ifndef UNLEARND_DAEMON_LOOP_H
#define UNLEARND_DAEMON_LOOP_H

#include "daemon/executor.h"
#include "daemon/run.h"
#include "daemon/state.h"
#include <uv.h>

/* A function that another thread wants to run on the loop thread. */
struct call {
        struct call *next;
        void (*fn)(struct call *c);
};

struct backoff {
        struct backoff *next;
        uint32_t model, shard;
        uint32_t failures; /* in a row */
        uint32_t delay_ms;
        uint64_t until_us;
};

/* What fails is tried again in rounds, in which everything has its turn, and said once: the log
 * hears of as many as did not fail in the round before. */
struct retries {
        uint64_t again_us;     /* no round begins before */
        uint32_t failed, said; /* in this round; how many of them the log knows */
};

/* Where the passes of scrub.c are: one after another they go through all targets, and begin again
 * with the first when that was the last and what failed may be tried again. */
struct scrub_round {
        bool begun;
        struct scrub_key after; /* begun: targets up to here had their turn */
        bool more;              /* there are targets past it for sure */
        struct retries retries;
        bool fault;        /* the disk's, in this round... */
        bool fault_stands; /* ...or in the one before it */
};

/* Where the removal of called-off uploads is (abort.c). */
struct abort_round {
        uint32_t after;         /* uploads up to this one could not be removed */
        uint32_t upload, shard; /* of this one the rows in earlier shards are cut off; 0: of none */
        struct errinfo unopened; /* but for this one's files; code 0: all of them */
        struct retries retries;
};

/* Whose turn in a compaction it is (compact_pass.c): shards under way go before those that wait for
 * theirs. What fails is passed over until the next round. */
struct compact_turn {
        bool waiting;
        uint32_t model, shard;
};
struct compact_round {
        bool begun;                 /* something was passed over... */
        struct compact_turn after;  /* ...and this the last */
        uint64_t again_us;          /* when everything has its turn again */
        bool fault;                 /* files could not be written, at the last try... */
        struct compact_turn faulty; /* ...of this one's */
};

/* What a shard's retrain was estimated to cost, as long as nothing of it changes: pick.c. */
enum { COSTS_KEPT = 4096 };
struct cost {
        uint32_t model, shard;
        uint32_t from, slices; /* from 0: none is kept */
        uint64_t fence, samples_per_second;
        int64_t ms;
};

struct deletion;
struct hold_call;

struct scheduler {
        /* set once */
        struct service *service;
        pthread_t thread;
        uv_loop_t loop;
        uv_async_t async;
        uv_timer_t timer;
        struct executor *executor;
        struct outgoing *outgoing;
        struct witnessing *witnessing;
        /* loop thread */
        struct run *runs; /* from being prepared to being gone */
        struct verification *verifications;
        struct deletion *deletions;
        struct backoff *backoffs;
        struct cost
                costs[COSTS_KEPT]; /* by a hash of model and shard; a later one takes the place */
        uint32_t commands;         /* of the loop, at the writer */
        bool scrubbing;            /* a pass of scrub.c is at the writer */
        struct scrub_round scrub;
        bool aborting; /* index entries of an upload are being removed at the writer */
        struct abort_round abort;
        bool completing;
        bool compacting; /* a step of a compaction is at the writer */
        struct compact_round compact;
        bool noting;            /* a command of pending.c is at the writer */
        bool scrub_failed;      /* at this look: something could not be overwritten */
        bool pruning;           /* a command of retention.c is at the writer */
        uint64_t prune_us;      /* not before */
        bool probing;           /* a commit of probe.c is at the writer */
        uint64_t probe_us;      /* not before */
        struct hold_call *hold; /* waits for its answer; NULL: none */
        bool held; /* nothing that is committed is overwritten or unlinked: a backup copies it */
        bool stopping;
        uint64_t next_due_us; /* the earliest moment when there may be work again; 0: none */
        /* shared, under lock */
        pthread_mutex_t lock;
        struct call *posted;
        /* any thread */
        _Atomic uint64_t heartbeat_us;
        _Atomic uint32_t running;
};

void loop_post(struct scheduler *k, struct call *c);
void loop_due(struct scheduler *k, uint64_t at_us); /* look again then, at the latest */

/* A command of the loop: run on the writer thread, `back` on the loop thread. */
struct loop_command {
        struct command cmd;
        struct call call;
        struct scheduler *k;
        int (*run)(struct loop_command *c, struct txn *t);
        void (*undo)(struct loop_command *c); /* writer thread, where it failed; may be NULL */
        void (*back)(struct loop_command *c, int err); /* frees c */
        struct effects fx;                             /* applied after the commit */
        int err;
};
void loop_submit(struct scheduler *k, struct loop_command *c);

/* runs.c */
struct run *run_find(struct scheduler *k, uint32_t model, uint32_t shard);
uint32_t runs_of(struct scheduler *k, uint32_t model);
bool runs_free(
        const struct scheduler *k); /* may another worker start? not while HEALTH_FILES stands */
void run_start(struct scheduler *k, struct model *m, uint32_t shard, enum run_kind kind,
               const uint8_t *job);
void runs_kill_stale(struct scheduler *k);
void runs_kill_all(struct scheduler *k);
void run_kill(struct scheduler *k, struct run *r);
/* Whether the shard's workers failed a moment ago; notes when to look again. */
bool runs_backing_off(struct scheduler *k, uint32_t model, uint32_t shard);
void runs_leave(struct scheduler *k); /* scrubs again what could not be scrubbed at a run's end */
/* Whether a publication that replaces a checkpoint which a commit knows is at the writer. */
bool runs_replacing(const struct scheduler *k);
void runs_unpark(struct scheduler *k);  /* publishes what waited for the end of a hold */
bool runs_failing(struct scheduler *k); /* a shard's workers failed again and again */
bool runs_failing_of(struct scheduler *k, uint32_t model, uint32_t shard); /* this one's did */

/* scrub.c */
void scrub_pass(struct scheduler *k);
bool retries_failed(struct retries *r); /* notes it; false: the log knows */
void retries_begin(struct retries *r);  /* a round */

/* abort.c */
void uploads_pass(struct scheduler *k); /* removes staged uploads that were called off */

/* pick.c */
void runs_pass(struct scheduler *k); /* starts what is due, stops what has to make room */

/* pending.c */
void pending_pass(struct scheduler *k); /* notes what is overdue */
/* outgoing.c */
int outgoing_create(struct scheduler *k, struct errinfo *e);
void outgoing_pass(struct scheduler *k);
void outgoing_stop(struct scheduler *k); /* attempts under way are broken off */
void outgoing_destroy(struct scheduler *k);

/* witness.c */
int witness_create(struct scheduler *k, struct errinfo *e);
void witness_pass(struct scheduler *k);
void witness_stop(struct scheduler *k);
void witness_destroy(struct scheduler *k);

/* retention.c */
void retention_pass(struct scheduler *k);

/* probe.c */
void probe_pass(struct scheduler *k);

/* compact_pass.c */
void compact_pass(struct scheduler *k);
/* Overwrites what the shard's move under way left of rows in their old places, as `t` knows it. */
int compact_close(struct txn *t, struct model *m, uint32_t shard, struct errinfo *e);

/* verify.c */
void verify_pass(struct scheduler *k);
void verify_ended(struct scheduler *k, struct run *r);
/* The run could not begin: UL_CONFLICT where nothing can be verified at the moment. */
void verify_refused(struct scheduler *k, const struct run *r, int err);
void verify_clear(struct scheduler *k);

/* delete.c */
void delete_pass(struct scheduler *k);
void delete_clear(struct scheduler *k);

#endif
