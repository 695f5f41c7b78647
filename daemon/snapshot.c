/* SPDX-License-Identifier: Apache-2.0
 * snapshot.c: see snapshot.h. A cell has two slots, each with a count of readers; `turn` counts
 * publications, and turn % 2 is the current slot.
 *
 *   reader   t = turn; readers[t % 2]++; where turn is t still, slot t % 2 is held, else readers--
 *            and again
 *   writer   fills the other slot (drained by the publication before), turn = t + 1, waits until
 *            readers[t % 2] is 0, destroys what stood there
 *
 * Why it holds: increments, turn and the writer's look at the count are sequentially consistent. A
 * reader whose second look at turn still finds t incremented before the writer's turn = t + 1, so
 * the writer sees it. A reader that was late, by any number of publications, holds nothing and
 * touches nothing but the count, which it takes back; it comes back with the new turn, so a writer
 * waits for each late reader once and cannot starve. turn has 64 bits and does not wrap. */
#include "daemon/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CACHE_LINE = 64 };

/* Where a reader may lose its processor with the most harm; tests give it something to do. */
#ifndef SNAPSHOT_WINDOW
#define SNAPSHOT_WINDOW() ((void)0)
#endif

struct served {
        _Atomic uint32_t refs;
        /* set once */
        struct constituent *constituent;
        uint32_t shard, slice;
        uint8_t data_hash[SHA256_BYTES];
};

/* What snapshot_create returns points at the first member. */
struct slotted {
        struct snapshot s;
        uint32_t slot; /* set by the writer before it is current */
};

struct slot {
        _Alignas(CACHE_LINE) _Atomic uint32_t readers; /* also the futex word */
        _Atomic uint32_t waiting;                      /* the writer sleeps on readers */
        /* writer; read by who holds the slot */
        struct slotted *at;
};

struct snapshot_cell {
        struct slot slot[2];
        _Alignas(CACHE_LINE) _Atomic uint64_t turn;
        _Atomic bool publishing; /* asserts that there is one writer */
};

/* --- served --- */

struct served *served_create(struct constituent *k_take, uint32_t shard, uint32_t slice,
                             const uint8_t data_hash[SHA256_BYTES])
{
        struct served *k = calloc(1, sizeof *k);
        if (k == NULL) {
                constituent_destroy(&k_take);
                return NULL;
        }
        atomic_init(&k->refs, 1);
        k->constituent = k_take;
        k->shard = shard;
        k->slice = slice;
        memcpy(k->data_hash, data_hash, SHA256_BYTES);
        return k;
}

struct served *served_ref(struct served *k)
{
        uint32_t before = atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
        assert(before > 0 && before < UINT32_MAX);
        (void)before;
        return k;
}

void served_unref(struct served **pk)
{
        struct served *k = *pk;
        if (k == NULL)
                return;
        *pk = NULL;
        uint32_t before = atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel);
        assert(before > 0);
        if (before > 1)
                return;
        constituent_destroy(&k->constituent); /* wipes */
        free(k);
}

uint32_t served_slice(const struct served *k)
{
        return k->slice;
}

/* --- snapshot --- */

static void snapshot_destroy(struct slotted *d)
{
        if (d == NULL)
                return;
        for (uint32_t i = 0; d->s.held != NULL && i < d->s.clean; i++)
                served_unref(&d->s.held[i]);
        free(d->s.held);
        free(d->s.members);
        free(d);
}

struct snapshot *snapshot_create(uint64_t generation, struct served *const *served, uint32_t count,
                                 uint32_t degraded)
{
        struct slotted *d = calloc(1, sizeof *d);
        struct sha256_state hash;
        if (d == NULL)
                return NULL;
        d->s.generation = generation;
        d->s.degraded = degraded;
        if (count > 0) {
                d->s.members = calloc(count, sizeof(struct constituent *));
                d->s.held = calloc(count, sizeof(struct served *));
                if (d->s.members == NULL || d->s.held == NULL) {
                        snapshot_destroy(d);
                        return NULL;
                }
        }
        sha256_begin(&hash);
        for (uint32_t i = 0; i < count; i++) {
                assert(i == 0 || served[i]->shard > served[i - 1]->shard);
                d->s.held[i] = served_ref(served[i]);
                d->s.members[i] = served[i]->constituent;
                sha256_add(&hash, served[i]->data_hash, SHA256_BYTES);
        }
        d->s.clean = count;
        sha256_end(&hash, d->s.hash);
        return &d->s;
}

/* --- cell --- */

struct snapshot_cell *snapshot_cell_create(void)
{
        struct snapshot_cell *cell = aligned_alloc(CACHE_LINE, sizeof *cell);
        if (cell == NULL)
                return NULL;
        memset(cell, 0, sizeof *cell);
        return cell;
}

void snapshot_cell_destroy(struct snapshot_cell **pcell)
{
        struct snapshot_cell *cell = *pcell;
        if (cell == NULL)
                return;
        for (int i = 0; i < 2; i++) {
                assert(atomic_load(&cell->slot[i].readers) == 0);
                snapshot_destroy(cell->slot[i].at);
        }
        free(cell);
        *pcell = NULL;
}

/* The last reader out wakes the writer. Nothing of the cell is touched after the count but
 * `waiting`, and a cell outlives its readers' release (snapshot_cell_destroy). */
static void leave(struct slot *slot)
{
        uint32_t before = atomic_fetch_sub(&slot->readers, 1);
        assert(before > 0);
        if (before == 1 && atomic_load(&slot->waiting) != 0)
                (void)syscall(SYS_futex, &slot->readers, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

const struct snapshot *snapshot_acquire(struct snapshot_cell *cell)
{
        for (;;) {
                uint64_t turn = atomic_load(&cell->turn);
                struct slot *slot = &cell->slot[turn % 2];
                SNAPSHOT_WINDOW();
                uint32_t before = atomic_fetch_add(&slot->readers, 1);
                assert(before < UINT32_MAX);
                (void)before;
                SNAPSHOT_WINDOW();
                if (atomic_load(&cell->turn) == turn) {
                        if (slot->at != NULL)
                                return &slot->at->s;
                        leave(slot);
                        return NULL;
                }
                leave(slot); /* published in between: it holds nothing */
        }
}

void snapshot_release(struct snapshot_cell *cell, const struct snapshot *s)
{
        if (s != NULL)
                leave(&cell->slot[((const struct slotted *)s)->slot]);
}

bool snapshot_superseded(const struct snapshot_cell *cell, const struct snapshot *s)
{
        /* while `s` is held no more than one publication can have happened */
        return atomic_load(&cell->turn) % 2 != ((const struct slotted *)s)->slot;
}

static void drain(struct slot *slot)
{
        atomic_store(&slot->waiting, 1);
        for (;;) {
                uint32_t readers = atomic_load(&slot->readers);
                if (readers == 0)
                        break;
                /* returns at once where the count has moved; any other wake-up looks again */
                long rc = syscall(SYS_futex, &slot->readers, FUTEX_WAIT_PRIVATE, readers, NULL,
                                  NULL, 0);
                assert(rc == 0 || errno == EAGAIN || errno == EINTR);
                (void)rc;
        }
        atomic_store(&slot->waiting, 0);
}

void snapshot_publish(struct snapshot_cell *cell, struct snapshot *take)
{
        bool busy = atomic_exchange(&cell->publishing, true);
        assert(!busy);
        (void)busy;
        uint64_t turn = atomic_load(&cell->turn);
        struct slot *old = &cell->slot[turn % 2];
        struct slot *next = &cell->slot[(turn + 1) % 2];
        struct slotted *d = (struct slotted *)take;

        assert(next->at == NULL);
        if (d != NULL)
                d->slot = (uint32_t)((turn + 1) % 2);
        next->at = d;
        atomic_store(&cell->turn, turn + 1);
        drain(old);
        snapshot_destroy(old->at);
        old->at = NULL;
        atomic_store(&cell->publishing, false);
}
