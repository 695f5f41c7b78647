/* SPDX-License-Identifier: Apache-2.0
 * writer.h: the one writer thread. Everything that changes state is a command; all that is queued
 * goes into one transaction and one sync (group commit), each in a child transaction of its own, so
 * that one that fails takes nothing of its neighbours with it. It knows nothing of what a command
 * does. */
#ifndef UNLEARND_DAEMON_WRITER_H
#define UNLEARND_DAEMON_WRITER_H

#include "lib/store/store.h"
#include "lib/util/bytes.h"

struct audit_log;

struct command {
        struct command *next; /* the queue's */
        /* Writer thread, inside a child transaction. Nonzero aborts the child; e says why. */
        int (*run)(struct command *c, struct txn *t);
        /* Writer thread, after the commit of a command that ran: applies what memory must know. May
         * be NULL. All of a group run before its snapshots are published. */
        void (*committed)(struct command *c);
        /* Writer thread, exactly once, after the snapshots are published (invariant 4). Ends the
         * command's life: the writer does not touch it any more. */
        void (*done)(struct command *c, int err);
        /* Lines for the erasure ledger, filled by run, durable before the commit. The writer's to
         * free. */
        struct buf ledger;
        struct errinfo e;
        int err; /* the writer's */
};

struct writer;
struct writer_hooks {
        /* Between `committed` and `done` of a group: publish the snapshots that it changed. */
        void (*publish)(void *arg);
        /* The store failed: returns the error, and puts the text in e, that clients are told. */
        int (*failed)(void *arg, int err, struct errinfo *e);
        /* Before a group's commit, in its transaction, with its commands (those with err == 0
         * succeeded): nonzero fails the group. And where that commit failed. Both may be NULL. */
        int (*before_commit)(void *arg, const struct command *first, struct txn *t,
                             struct errinfo *e);
        void (*commit_failed)(void *arg);
        void *arg;
};
int writer_create(struct store *store, const struct audit_log *log,
                  const struct writer_hooks *hooks, struct writer **out, struct errinfo *e);
/* Commits what is queued, then ends the thread. */
void writer_destroy(struct writer **w);
/* Queues a command (the writer's until done). UL_CLOSED after destroy began, UL_BUSY when the queue
 * is full. */
int writer_submit(struct writer *w, struct command *c, struct errinfo *e);
bool on_writer_thread(const struct writer *w);
/* mono_us() of the last moment that it moved; its own idle wake-ups count. */
uint64_t writer_heartbeat_us(const struct writer *w);

#endif
