/* SPDX-License-Identifier: Apache-2.0
 * shown.c: see shown.h. A transaction that is reset keeps its slot in LMDB's table of readers, so
 * renewing it costs no more than reading the newest commit's number. */
#include "lib/store/db.h"

#include "lib/store/shown.h"
#include <assert.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdlib.h>

struct shown {
        pthread_mutex_t lock;
        /* under lock */
        struct txn *ready;  /* to be handed out: of the last shown_advance */
        struct txn *behind; /* reset: brought up by the next one */
        uint64_t advance;   /* counts them */
        uint32_t out;
        int failed; /* LMDB's code, where the last one could not bring them up */
};

static void push(struct txn **list, struct txn *t)
{
        t->next = *list;
        *list = t;
}

static struct txn *pop(struct txn **list)
{
        struct txn *t = *list;
        if (t != NULL)
                *list = t->next;
        return t;
}

int shown_open(struct store *s, uint32_t readers, struct shown **out, struct errinfo *e)
{
        struct shown *v = calloc(1, sizeof *v);
        if (v == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for readers of the control database");
        pthread_mutex_init(&v->lock, NULL);
        int err = 0;
        for (uint32_t i = 0; i < 2 * readers && err == 0; i++) {
                struct txn *t = NULL;
                err = store_read(s, &t, e);
                if (err != 0)
                        break;
                t->shown = v;
                mdb_txn_reset(t->mdb);
                push(&v->behind, t);
        }
        if (err != 0)
                shown_close(&v);
        *out = v;
        return err;
}

void shown_close(struct shown **pv)
{
        struct shown *v = *pv;
        struct txn *t;
        *pv = NULL;
        if (v == NULL)
                return;
        assert(v->out == 0);
        while ((t = pop(&v->ready)) != NULL || (t = pop(&v->behind)) != NULL) {
                t->shown = NULL; /* an ordinary one again */
                txn_abort(&t);
        }
        pthread_mutex_destroy(&v->lock);
        free(v);
}

void shown_advance(struct shown *v)
{
        struct txn *t, *done = NULL;
        pthread_mutex_lock(&v->lock);
        v->advance++;
        v->failed = 0;
        while ((t = pop(&v->ready)) != NULL || (t = pop(&v->behind)) != NULL) {
                mdb_txn_reset(t->mdb);
                int rc = v->failed != 0 ? v->failed : mdb_txn_renew(t->mdb);
                t->advance = v->advance;
                v->failed = rc;
                push(&done, t);
        }
        *(v->failed == 0 ? &v->ready : &v->behind) = done;
        pthread_mutex_unlock(&v->lock);
}

int shown_read(struct shown *v, struct txn **out, struct errinfo *e)
{
        pthread_mutex_lock(&v->lock);
        *out = pop(&v->ready);
        v->out += *out != NULL;
        int rc = v->failed != 0 ? v->failed : MDB_READERS_FULL;
        pthread_mutex_unlock(&v->lock);
        if (*out != NULL)
                return 0;
        int err = ul_fail(e, db_error(rc), "cannot begin a transaction: %s", mdb_strerror(rc));
        if (e != NULL && err == UL_BUSY)
                e->retry_after_s = 1;
        return err;
}

void shown_take_back(struct txn *t)
{
        struct shown *v = t->shown;
        t->err = t->cause = 0;
        t->damaged = NULL;
        pthread_mutex_lock(&v->lock);
        assert(v->out > 0);
        v->out--;
        bool old = t->advance != v->advance;
        if (old) /* or it would keep pages from being used again */
                mdb_txn_reset(t->mdb);
        push(old ? &v->behind : &v->ready, t);
        pthread_mutex_unlock(&v->lock);
}
