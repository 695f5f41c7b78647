/* SPDX-License-Identifier: Apache-2.0
 * scrub.c: what must be overwritten, until it is (invariant 5). A pass takes a bounded number of
 * targets: rows are overwritten in place, files are synced, and only then does the writer record
 * that they are gone. After a crash in between the pass is done again: overwriting twice is
 * harmless. Checkpoints wait until the superseded run of their shard has ended, so that its scratch
 * folder is gone too before anybody says "scrubbed". What cannot be overwritten keeps nothing else
 * on the disk: passes go on past it, and come back to it in the next round. */
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/loop.h"
#include "daemon/scheduler.h"
#include "daemon/upload.h"

#include "lib/sisa/job.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <stdlib.h>
#include <string.h>

enum {
        PASS_TARGETS = 256,  /* of a pass: the writer's 50 ms */
        PASS_RECORDS = 2048, /* index entries of a pass */
        PASS_FILES = 64,     /* open at once */
        RETRY_US = 1000000,
};

struct target {
        struct scrub_key key;
        struct scrub_row row;
        bool done;             /* everything of it is overwritten */
        uint32_t first, count; /* SCRUB_SUBJECT: index entries, in pass.records */
};

struct open_file {
        uint32_t model, shard, slice;
        struct rowfile *file; /* NULL: it cannot be opened */
        struct errinfo e;     /* why */
};

struct pass {
        struct loop_command lc;
        struct target targets[PASS_TARGETS];
        uint32_t target_count;
        bool more;                    /* targets were left for the next pass */
        const struct scrub_key *past; /* where it goes on; NULL: where this one began */
        uint8_t records[PASS_RECORDS][PSEUDONYM_BYTES]; /* whose rows are overwritten */
        uint32_t record_count;
        struct open_file files[PASS_FILES];
        uint32_t file_count;
        /* shards whose stale checkpoints this pass removed already, down to `slice` */
        struct {
                uint32_t model, shard, slice;
        } swept[PASS_TARGETS];
        uint32_t swept_count;
        struct { /* shards whose moves under way left nothing any more in old places */
                uint32_t model, shard;
        } closed[PASS_TARGETS];
        uint32_t closed_count;
        struct txn *t; /* of the walk */
        struct errinfo e;
        int err; /* nothing of the pass counts */
};

static int collect(void *arg, const struct scrub_key *key, const struct scrub_row *row)
{
        struct pass *p = arg;
        struct erasure_row earlier;
        /* Not taken before its time, lest those that wait crowd out what they wait for. */
        if (key->kind == SCRUB_FOLLOW && t_erasure_get(p->t, key->pseudonym, &earlier, NULL) == 0 &&
            earlier.scrubbed_ms == 0)
                return 0;
        if (p->target_count == PASS_TARGETS) {
                p->more = true;
                return 1;
        }
        p->targets[p->target_count++] = (struct target){.key = *key, .row = *row};
        return 0;
}

/* --- files --- */

static int close_files(struct pass *p)
{
        int err = 0;
        for (uint32_t i = 0; i < p->file_count; i++)
                if (p->files[i].file != NULL)
                        rowfile_start_sync(p->files[i].file);
        for (uint32_t i = 0; i < p->file_count; i++) {
                if (p->files[i].file == NULL)
                        continue;
                int rc = rowfile_sync(p->files[i].file, &p->e);
                err = err != 0 ? err : rc;
                rowfile_close(&p->files[i].file);
        }
        CRASH_POINT("scrub.rows_synced");
        p->file_count = 0;
        p->err = p->err != 0 ? p->err : err; /* whose rows were in them is not known any more */
        return err;
}

static int file_of(struct pass *p, struct model *m, uint32_t shard, uint32_t slice,
                   struct rowfile **out)
{
        bool whole = false;
        for (uint32_t i = 0; i < p->file_count; i++) {
                const struct open_file *f = &p->files[i];
                if (f->model != m->id || f->shard != shard || f->slice != slice)
                        continue;
                *out = f->file;
                if (f->file == NULL)
                        p->e = f->e;
                return f->file == NULL ? f->e.code : 0;
        }
        int err = p->file_count == PASS_FILES ? close_files(p) : 0;
        if (err != 0)
                return err;
        err = rows_open_to_erase(m, shard, slice, out, &whole, &p->e);
        if (whole)
                rows_try_again(m, shard); /* what is overwritten may be what was damaged */
        p->files[p->file_count] =
                (struct open_file){.model = m->id, .shard = shard, .slice = slice, .file = *out};
        if (err != 0)
                p->files[p->file_count].e = p->e;
        p->file_count++;
        return err;
}

/* What a compaction moved a moment ago may be the target's. All of the pass sees the same moves. */
static int close_moves(struct pass *p, struct model *m, uint32_t shard)
{
        for (uint32_t i = 0; i < p->closed_count; i++)
                if (p->closed[i].model == m->id && p->closed[i].shard == shard)
                        return 0;
        int err = compact_close(p->t, m, shard, &p->e);
        if (err != 0)
                return err;
        p->closed[p->closed_count].model = m->id;
        p->closed[p->closed_count++].shard = shard;
        return 0;
}

static int erase_row(struct pass *p, struct model *m, uint32_t shard, uint32_t slice, uint32_t row)
{
        struct rowfile *f = NULL;
        int err = file_of(p, m, shard, slice, &f);
        if (err == UL_NOT_FOUND) /* a file that is away may come back, with the row in it */
                rows_damaged(m, shard, p->e.detail);
        if (err != 0)
                return err;
        err = rowfile_erase(f, row, &p->e);
        CRASH_POINT("scrub.row_zeroed");
        if (err != UL_NOT_FOUND)
                return err;
        rows_damaged(m, shard, p->e.detail); /* cut off: there is nothing left to overwrite */
        return 0;
}

/* --- targets --- */

struct subject_rows {
        struct pass *p;
        struct model *m;
        int err; /* of the first row that could not be overwritten */
        struct errinfo e;
};

static int erase_record(void *arg, const uint8_t record[PSEUDONYM_BYTES],
                        const struct record_row *row)
{
        struct subject_rows *s = arg;
        struct pass *p = s->p;
        bool staged = false;
        int err = record_staged(p->t, row, &staged);
        if (err != 0 || staged) /* a called-off upload removes its own */
                return err;
        if (p->record_count == PASS_RECORDS)
                return 1;
        err = erase_row(p, s->m, row->shard, row->slice, row->row);
        if (p->err != 0)
                return p->err;
        if (err == 0) {
                memcpy(p->records[p->record_count++], record, PSEUDONYM_BYTES);
        } else if (s->err == 0) { /* the person's other rows go all the same */
                s->err = err;
                s->e = p->e;
        }
        return 0;
}

/* 1: there is no room for all of the person's records. */
static int scrub_subject(struct pass *p, struct target *x, struct model *m)
{
        struct subject_rows s = {.p = p, .m = m};
        x->first = p->record_count;
        int err = t_record_each_of_subject(p->t, m->id, x->key.pseudonym, NULL, erase_record, &s);
        x->count = p->record_count - x->first;
        x->done = err == 0 && s.err == 0;
        if (err == 0 && s.err != 0)
                p->e = s.e;
        return err != 0 ? err : s.err;
}

static int scrub_checkpoints(struct pass *p, struct scheduler *k, struct target *x, struct model *m)
{
        char path[PATH_SIZE];
        struct shard_row shard;
        uint32_t model = x->key.model;
        if (run_find(k, model, x->row.shard) != NULL)
                return 0; /* its end wakes the loop */
        struct compaction compaction;
        int err = t_shard_get(p->t, model, x->row.shard, &shard);
        if (err == 0)
                err = compaction_get(p->t, model, x->row.shard, &compaction);
        if (err != 0)
                return err;
        uint32_t to = shard.slices;
        if (compaction.source > to + 1) /* those of slices that there were before */
                to = compaction.source - 1;
        for (uint32_t i = 0; i < p->swept_count; i++)
                if (p->swept[i].model == model && p->swept[i].shard == x->row.shard &&
                    p->swept[i].slice - 1 < to)
                        to = p->swept[i].slice - 1;
        for (uint32_t slice = x->row.slice; slice <= to && err == 0; slice++) {
                struct slice_row row;
                err = t_slice_get(p->t, model, x->row.shard, slice, &row);
                if (err == UL_NOT_FOUND)
                        err = 0;
                if (err == 0 && row.has_checkpoint)
                        continue; /* trained again since: not a stale one */
                if (err == 0)
                        err = checkpoint_path(path, m->root, x->row.shard, slice, &p->e);
                if (err == 0)
                        err = scrub_and_unlink(path, &p->e);
                CRASH_POINT("scrub.checkpoint_gone");
        }
        if (err == 0) {
                p->swept[p->swept_count].model = model;
                p->swept[p->swept_count].shard = x->row.shard;
                p->swept[p->swept_count++].slice = x->row.slice;
                x->done = true;
        }
        return err;
}

static int scrub_target(struct pass *p, struct scheduler *k, struct target *x, struct model *m)
{
        struct upload_row upload;
        int err;
        switch ((enum scrub_kind)x->key.kind) {
        case SCRUB_RECORD:
                err = close_moves(p, m, x->row.shard);
                if (err == 0)
                        err = erase_row(p, m, x->row.shard, x->row.slice, x->row.row);
                x->done = err == 0;
                return err;
        case SCRUB_SUBJECT:
                err = close_moves(p, m, x->row.shard);
                return err == 0 ? scrub_subject(p, x, m) : err;
        case SCRUB_CHECKPOINTS:
                return scrub_checkpoints(p, k, x, m);
        case SCRUB_UPLOAD:
                err = t_upload_get(p->t, get_be32(x->key.pseudonym), &upload);
                x->done = err == UL_NOT_FOUND;
                return err == UL_NOT_FOUND ? 0 : err;
        }
        return ul_fail(&p->e, UL_CORRUPT, "a scrub target of an unknown kind");
}

/* --- what the writer records --- */

static int record_target(struct pass *p, struct txn *t, const struct target *x)
{
        uint32_t model = x->key.model;
        struct shard_row shard;
        int err = 0;
        for (uint32_t i = 0; i < x->count && err == 0; i++)
                err = t_record_del(t, model, p->records[x->first + i]);
        if (err != 0 || !x->done)
                return err;
        if (x->key.kind == SCRUB_SUBJECT)
                err = t_subject_del(t, model, x->key.pseudonym);
        if (err == 0)
                err = t_scrub_del(t, &x->key);
        if (err == 0 && x->key.kind != SCRUB_UPLOAD && x->key.kind != SCRUB_FOLLOW) {
                err = t_shard_get(t, model, x->row.shard, &shard);
                if (err == 0 && shard.scrubs > 0)
                        shard.scrubs--;
                if (err == 0)
                        err = t_shard_put(t, model, x->row.shard, &shard);
        }
        return err;
}

static int pass_run(struct loop_command *lc, struct txn *t)
{
        struct pass *p = (struct pass *)lc;
        int err = 0;
        uint32_t done = 0;
        for (uint32_t i = 0; i < p->target_count && err == 0; i++) {
                const struct target *x = &p->targets[i];
                err = record_target(p, t, x);
                if (err == UL_NOT_FOUND) /* the model was deleted meanwhile */
                        return ul_fail(&lc->cmd.e, UL_CONFLICT, "the model was deleted");
                done += x->done;
                bool last = i + 1 == p->target_count ||
                            memcmp(x->key.erasure, p->targets[i + 1].key.erasure, ULID_BYTES) != 0;
                if (err == 0 && last && done > 0)
                        err = erasure_scrubbed(lc->k->service, t, x->key.erasure, done);
                if (last)
                        done = 0;
        }
        CRASH_POINT("scrub.recorded");
        return err;
}

static void pass_back(struct loop_command *lc, int err)
{
        struct pass *p = (struct pass *)lc;
        struct scheduler *k = lc->k;
        CRASH_POINT("scrub.committed");
        k->scrubbing = false;
        if (err != 0) {
                if (err != UL_UNAVAILABLE) /* the store's fault tells of itself */
                        log_event(LOG_LEVEL_WARN, "scrub_not_recorded", "error=%s detail=\"%s\"",
                                  ul_err_name(err), lc->cmd.e.detail);
                loop_due(k, mono_us() + RETRY_US);
        } else {
                scheduler_wake(k);
        }
        wipe(p->records, sizeof p->records);
        free(p);
}

/* --- passes --- */

bool retries_failed(struct retries *r)
{
        r->again_us = mono_us() + RETRY_US;
        if (++r->failed <= r->said)
                return false; /* that many had failed in the round before */
        r->said = r->failed;
        return true;
}

void retries_begin(struct retries *r)
{
        r->said = r->failed < r->said ? r->failed : r->said;
        r->failed = 0;
}

/* What could not be overwritten is again, all of it, until it is. */
static void scrub_failed(struct scheduler *k, int err, const struct errinfo *e)
{
        struct scrub_round *r = &k->scrub;
        health_begin(&k->service->health, HEALTH_SCRUB, err, e->detail);
        if (health_is_fault(err)) { /* the fault tells of itself */
                r->fault = r->fault_stands = true;
                r->retries.again_us = mono_us() + RETRY_US;
        } else if (retries_failed(&r->retries)) {
                log_event(LOG_LEVEL_ERROR, "scrub_failed", "error=%s detail=\"%s\"",
                          ul_err_name(err), e->detail);
        }
}

/* The next pass goes on past the target: everybody gets a turn before anybody gets another. */
static void pass_past(struct pass *p, uint32_t targets)
{
        if (targets > 0)
                p->past = &p->targets[targets - 1].key;
}

/* Overwrites everything that the pass took; p->err is set where nothing of it counts. */
static void scrub_all(struct pass *p, struct scheduler *k)
{
        for (uint32_t i = 0; i < p->target_count && p->err == 0; i++) {
                struct target *x = &p->targets[i];
                if (x->key.kind == SCRUB_FOLLOW) { /* see collect */
                        x->done = true;
                        continue;
                }
                struct model *m = registry_find_id(k->service, x->key.model);
                if (m == NULL)
                        continue; /* delete.c ends what waits for a deleted model */
                int err = scrub_target(p, k, x, m);
                model_unref(m);
                if (err == 1) { /* with this one the next pass begins */
                        p->target_count = i + 1;
                        p->more = true;
                        p->past = NULL;
                        pass_past(p, i);
                } else if (err != 0 && p->err == 0) {
                        /* One damaged file must not keep everybody else's data on the disk. */
                        scrub_failed(k, err, &p->e);
                        if (!p->more)
                                pass_past(p, i + 1);
                }
        }
        (void)close_files(p);
        if (p->err != 0)
                pass_past(p, p->target_count);
}

/* Begins a round where the one before is over. */
static void round_next(struct scrub_round *r)
{
        if (r->more || mono_us() < r->retries.again_us)
                return;
        r->begun = false;
        retries_begin(&r->retries);
        r->fault = false;
}

static void round_advance(struct scrub_round *r, const struct pass *p)
{
        r->more = p->more;
        if (p->past != NULL) {
                r->after = *p->past;
                r->begun = true;
        }
        if (!r->more)
                r->fault_stands = r->fault;
}

/* Takes and overwrites; true where there is something to record. */
static bool pass_do(struct pass *p, struct scheduler *k)
{
        struct scrub_round *r = &k->scrub;
        uint32_t done = 0;
        p->err = store_read(k->service->store, &p->t, &p->e);
        if (p->err == 0) {
                int err = t_scrub_each(p->t, r->begun ? &r->after : NULL, collect, p);
                p->err = err == 1 ? 0 : err;
                if (p->more)
                        pass_past(p, p->target_count);
                if (p->target_count > 0)
                        scrub_all(p, k);
                txn_abort(&p->t);
        }
        if (p->err != 0)
                scrub_failed(k, p->err, &p->e);
        round_advance(r, p);
        for (uint32_t i = 0; i < p->target_count; i++)
                done += p->targets[i].done || p->targets[i].count > 0;
        return p->err == 0 && done > 0;
}

void scrub_pass(struct scheduler *k)
{
        struct scrub_round *r = &k->scrub;
        if (k->scrubbing)
                return;
        struct pass *p = calloc(1, sizeof *p);
        if (p == NULL) {
                loop_due(k, mono_us() + RETRY_US);
                return;
        }
        round_next(r);
        bool record = pass_do(p, k);
        k->scrub_failed |= r->fault_stands;
        if (!record) {
                if (r->more || r->retries.again_us > mono_us())
                        loop_due(k, r->more ? mono_us() : r->retries.again_us);
                wipe(p->records, sizeof p->records);
                free(p);
                return;
        }
        p->lc.run = pass_run;
        p->lc.back = pass_back;
        k->scrubbing = true;
        loop_submit(k, &p->lc);
}
