/* SPDX-License-Identifier: Apache-2.0
 * ledger_start.c: the erasure ledger at start. What it knows and the database does not was accepted
 * after the backup that has been restored: it is replayed, in the ledger's order, before anybody is
 * served. Entries are known by their ids, so a replay that a crash cut short goes on where it was;
 * how far the ledger was followed is noted only after the replayed erasures are scrubbed. */
#include "daemon/erasure.h"
#include "daemon/erasure_ledger.h"
#include "daemon/state.h"
#include "daemon/suppress.h"

#include "lib/util/log.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
        REPLAY_STEP = 256,          /* entries of a transaction */
        POLL_MS = 10,               /* while scrubs are waited for */
        TELL_US = 10 * 1000 * 1000, /* says so */
        GIVE_UP_TELLS = 6,          /* without one done: a damaged file */
};

struct replay {
        struct service *s;
        struct txn *t; /* NULL: none is open */
        uint32_t step;
        bool begun; /* something was replayed: the generations were counted on */
        uint64_t seen, erasures, lifts, imports;
        struct errinfo *e;
};

/* --- one entry --- */

static int replay_erasure(struct replay *p, const struct ledger_entry *x,
                          const struct erasure_row *held)
{
        int err = erasure_replay(p->s, p->t, x, held, p->e);
        p->erasures += err == 0;
        return err;
}

static int replay_lift(struct replay *p, const struct ledger_entry *x)
{
        uint32_t removed = 0;
        int err = suppression_lift(p->s, p->t, x->id, x->time_ms, x->pseudonym, "unlearnd", true,
                                   &removed);
        p->lifts += err == 0;
        return err;
}

/* Whoever is held in what was restored was held when the backup was made, and erased or deleted
 * after it; the erasures among that are in the ledger, too. The rest is told, as an import does. */
static int replay_import(struct replay *p, const struct ledger_entry *x)
{
        struct import_step *step = calloc(1, sizeof *step);
        if (step == NULL)
                return ul_fail(p->e, UL_NOMEM, "no memory to replay the erasure ledger");
        if (x->suppression_count > LEDGER_IMPORT_MAX) {
                free(step);
                return ul_fail(p->e, UL_CORRUPT, "a line of the erasure ledger is too long");
        }
        step->actor = "unlearnd";
        step->replayed = true;
        memcpy(step->id, x->id, ULID_BYTES);
        int err = import_apply(p->s, p->t, x->suppressions, x->suppression_count, x->time_ms, 0,
                               step, p->e);
        if (err == 0 && step->held_count > 0)
                log_event(LOG_LEVEL_WARN, "suppressed_and_held",
                          "people=%u reason=imported_suppressions_were_replayed "
                          "advice=import_them_again_with_erase_held",
                          step->held_count);
        free(step);
        p->imports += err == 0;
        return err;
}

/* *row: the erasure's. */
static int entry_known(struct replay *p, const struct ledger_entry *x, struct erasure_row *row)
{
        switch (x->kind) {
        case LEDGER_ERASURE:
                return t_erasure_get(p->t, x->id, row, NULL);
        case LEDGER_LIFT:
                return t_lift_has(p->t, x->id);
        case LEDGER_IMPORT:
                return t_import_has(p->t, x->id);
        }
        return UL_CORRUPT;
}

static int replay_unknown(struct replay *p, const struct ledger_entry *x,
                          const struct erasure_row *held)
{
        switch (x->kind) {
        case LEDGER_ERASURE:
                return replay_erasure(p, x, held);
        case LEDGER_LIFT:
                return replay_lift(p, x);
        case LEDGER_IMPORT:
                return replay_import(p, x);
        }
        return UL_CORRUPT;
}

static int commit_step(struct replay *p)
{
        if (p->t == NULL)
                return 0;
        int err = audit_checkpoint_sign(p->t, p->s->log);
        if (err == 0)
                return txn_commit(&p->t, p->e);
        txn_abort(&p->t);
        return err;
}

static int replay_entry(void *arg, const struct ledger_entry *x)
{
        struct replay *p = arg;
        struct erasure_row row;
        int err = p->t == NULL ? store_write(p->s->store, &p->t, p->e) : 0;
        p->seen++;
        if (err != 0)
                return err;
        bool held = false;
        err = entry_known(p, x, &row);
        if (err == 0 && x->kind == LEDGER_ERASURE)
                held = row.state == ERASURE_ACCEPTED;
        if (err == UL_NOT_FOUND || held) { /* it was released after what the database holds */
                err = p->begun ? 0 : served_lost(p->s, p->t, x->time_ms, p->e);
                p->begun = true;
                if (err == 0)
                        err = replay_unknown(p, x, held ? &row : NULL);
                p->step++;
        }
        if (err == 0 && p->step >= REPLAY_STEP) {
                err = commit_step(p);
                p->step = 0;
        }
        return err;
}

static int replay_all(struct replay *p, const struct ledger_mark *from)
{
        int err = ledger_each(p->s->ledger, from, replay_entry, p, p->e);
        if (err == 0)
                err = commit_step(p);
        else if (p->t != NULL)
                txn_abort(&p->t);
        if (err != 0 && p->e->code == 0)
                (void)ul_fail(p->e, err, "the erasure ledger cannot be replayed");
        if (err == 0 && p->erasures + p->lifts + p->imports > 0)
                log_event(LOG_LEVEL_WARN, "ledger_replayed",
                          "erasures=%llu lifts=%llu imports=%llu reason=a_backup_was_restored",
                          (unsigned long long)p->erasures, (unsigned long long)p->lifts,
                          (unsigned long long)p->imports);
        return err;
}

/* --- start --- */

static int get_mark(struct service *s, struct ledger_mark *mark, bool *known, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = store_read(s->store, &t, e);
        if (err != 0)
                return err;
        err = ledger_mark_get(t, mark, known);
        txn_abort(&t);
        return err == 0 ? 0 : ul_fail(e, err, "the control database cannot be read");
}

/* Without a ledger. One that was kept is not given up by a line that is missing. */
static int start_without(struct service *s, bool known, struct errinfo *e)
{
        struct txn *t = NULL;
        bool none = strcmp(s->config.ledger_dir, "none") == 0;
        if (known && !none)
                return ul_fail_field(e, UL_CONFLICT, "store.ledger_dir",
                                     "this data directory was used with an erasure ledger: set "
                                     "ledger_dir, or set it to none to go on without");
        log_event(LOG_LEVEL_WARN, "no_ledger",
                  "advice=set_ledger_dir_or_a_restored_backup_cannot_know_of_later_erasures");
        if (!known)
                return 0;
        int err = store_write(s->store, &t, e);
        if (err == 0)
                err = ledger_mark_put(t, NULL);
        if (err == 0)
                return txn_commit(&t, e);
        txn_abort(&t);
        return err;
}

/* The second place must not go with the first. */
static int check_place(const struct service *s, struct errinfo *e)
{
        size_t len = strlen(s->config.data_dir);
        char *real = realpath(s->config.ledger_dir, NULL);
        if (real == NULL)
                return ul_fail_errno(e, "resolving ledger_dir");
        bool inside = strncmp(real, s->config.data_dir, len) == 0 &&
                      (real[len] == '/' || real[len] == '\0');
        free(real);
        return inside ? ul_fail_field(e, UL_INVALID, "store.ledger_dir",
                                      "the erasure ledger must not be below the data directory: it "
                                      "would be lost with it")
                      : 0;
}

/* A disk that is not mounted, or a path that is mistyped, must not pass for an empty ledger:
 * whoever was erased since the backup would be back. */
static int check_there(const struct service *s, bool known, struct errinfo *e)
{
        if (!known || ledger_exists(s->config.ledger_dir))
                return 0;
        return ul_fail_field(e, UL_CONFLICT, "store.ledger_dir",
                             "one was kept, and %s is not in %.70s: mount its disk or put back a "
                             "copy; if it is lost, start once with ledger_dir = none, then with it "
                             "again: one is made from the database",
                             LEDGER_FILE, s->config.ledger_dir);
}

/* The ledger does not go through the place that the database has followed it to. */
static int complete(struct service *s, bool known, struct errinfo *e)
{
        uint32_t count = 0;
        if (known)
                log_event(
                        LOG_LEVEL_ERROR, "ledger_incomplete",
                        "reason=it_lost_what_the_database_knows action=completed_from_the_database "
                        "advice=find_out_why");
        int err = ledger_complete(s, &count, e);
        if (err == 0)
                log_event(LOG_LEVEL_INFO, "ledger_completed", "entries=%u", count);
        return err;
}

int ledger_start(struct service *s, bool *replayed, struct errinfo *e)
{
        struct ledger_mark mark;
        uint64_t torn = 0;
        bool known = false;
        bool followed = false;
        int err = get_mark(s, &mark, &known, e);
        *replayed = false;
        if (err != 0)
                return err;
        if (s->config.ledger_dir[0] == '\0' || strcmp(s->config.ledger_dir, "none") == 0)
                return start_without(s, known, e);
        err = check_there(s, known, e);
        if (err == 0)
                err = make_dirs(s->config.ledger_dir, e);
        if (err == 0)
                err = check_place(s, e);
        if (err == 0)
                err = ledger_open(s->config.ledger_dir, s->pseudonym_key, &s->ledger, &torn, e);
        if (err == 0 && torn > 0)
                log_event(LOG_LEVEL_WARN, "ledger_tail_cut",
                          "bytes=%llu reason=an_append_was_interrupted", (unsigned long long)torn);
        if (err == 0 && known)
                err = ledger_has(s->ledger, &mark, &followed, e);
        struct replay p = {.s = s, .e = e};
        if (err == 0)
                err = replay_all(&p, followed ? &mark : NULL);
        if (err == 0 && !followed)
                err = complete(s, known, e);
        *replayed = p.seen > 0;
        s->ledger_due = !*replayed;
        return err;
}

/* --- scrubbed before ready --- */

static int count_scrub(void *arg, const struct scrub_key *key, const struct scrub_row *row)
{
        uint64_t *n = arg;
        (void)key;
        (void)row;
        ++*n;
        return 0;
}

static int scrubs_left(struct service *s, uint64_t *left)
{
        struct txn *t = NULL;
        *left = 0;
        int err = store_read(s->store, &t, NULL);
        if (err != 0)
                return err;
        err = t_scrub_each(t, NULL, count_scrub, left);
        txn_abort(&t);
        return err;
}

void ledger_wait_scrubbed(struct service *s, bool (*stop_asked)(void), bool *scrubbed)
{
        const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
        uint64_t left = 0, before = UINT64_MAX;
        uint64_t moved_us = mono_us();
        uint32_t tells = 0;
        int err;
        while ((err = scrubs_left(s, &left)) == 0 && left > 0 && tells < GIVE_UP_TELLS &&
               !stop_asked()) {
                if (left < before) {
                        before = left;
                        moved_us = mono_us();
                        tells = 0;
                } else if (mono_us() - moved_us > TELL_US) {
                        moved_us = mono_us();
                        tells++;
                        log_event(LOG_LEVEL_WARN, "waiting_for_scrubs", "left=%llu",
                                  (unsigned long long)left);
                }
                (void)nanosleep(&pause, NULL);
        }
        *scrubbed = err == 0 && left == 0;
        if (left > 0 && !stop_asked()) /* forgotten all the same: scrub.c goes on trying, and says
                                          what is wrong */
                log_event(LOG_LEVEL_ERROR, "scrubs_left", "targets=%llu", (unsigned long long)left);
}
