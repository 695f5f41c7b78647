/* SPDX-License-Identifier: Apache-2.0
 * compact_move.c: the steps of a compaction that move rows. A step takes a bounded number of rows
 * of one slice, appends those that are live to the files of the slices where they belong, syncs
 * these, and changes the index: the order of an upload (upload.c). What stood in the old place is
 * overwritten by the loop before the next step begins (compact_pass.c).
 *
 * Slices are taken one after another: first the configured ones that have rows of erased people
 * among their own, which go to the last appended slice; then every appended one, the last of those
 * and the open one included, whose rows go where placement.h puts them. So each configured slice
 * ends with live rows alone, and no row is ever written over another. */
#include "daemon/compact.h"
#include "daemon/state.h"
#include "daemon/upload.h"

#include "lib/sisa/job.h"
#include "lib/sisa/placement.h"
#include "lib/util/crash_point.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        STEP_ROWS = 512,
        STEP_BYTES = 4 << 20, /* over the widest row */
        STEP_US = 10000,      /* of the index; the writer's 50 ms hold a sync too */
};

struct target {
        struct slice_row row;
        bool is_new;
        bool known; /* row is filled in */
        uint32_t count;
        struct rowfile *file;
};

struct step {
        struct service *service;
        struct model *m;
        struct txn *t;
        uint32_t shard;
        struct shard_row row;
        struct compaction *c;
        struct slice_row source;
        uint32_t width;                        /* bytes of a row */
        uint32_t most;                         /* rows of the step */
        uint8_t *rows;                         /* [most, width] that are moved */
        uint32_t home[STEP_ROWS];              /* the target of each */
        uint32_t count;                        /* of them */
        struct target targets[SLICES_MAX + 1]; /* by slice; 0: the last appended one */
        struct compact_outcome *out;
        struct errinfo *e;
};

static uint32_t target_slice(const struct step *st, uint32_t target)
{
        return target == 0 ? st->row.slices : target;
}

/* Rows have one place: where they cannot be read they cannot be moved. */
static int out_of_service(struct step *st, uint32_t slice)
{
        char detail[ERRINFO_DETAIL_MAX];
        (void)snprintf(detail, sizeof detail, "slice %u: %.200s", slice, st->e->detail);
        rows_damaged(st->m, st->shard, detail);
        return ul_fail(st->e, UL_DAMAGED,
                       "shard %u is out of service: its rows are damaged (%.100s)", st->shard,
                       detail);
}

static bool is_damage(int err)
{
        return err == UL_CORRUPT || err == UL_NOT_FOUND;
}

static int open_rows(struct step *st, uint32_t slice, bool create, struct rowfile **out)
{
        char path[PATH_SIZE];
        int err = rows_path(path, st->m->root, st->shard, slice, st->e);
        if (err == 0)
                err = rowfile_open(path, &st->m->encoding.e.shape, st->shard, slice, create, out,
                                   st->e);
        return is_damage(err) ? out_of_service(st, slice) : err;
}

/* --- the index --- */

static int target_of(struct step *st, uint32_t target, struct target **out)
{
        struct target *x = *out = &st->targets[target];
        if (x->known)
                return 0;
        int err = t_slice_get(st->t, st->m->id, st->shard, target_slice(st, target), &x->row);
        x->known = err == 0 || err == UL_NOT_FOUND;
        x->is_new = x->row.rows == 0;
        return x->known ? 0 : err;
}

/* Takes the row at `at` along, unless it is nobody's any more: an erasure's scrub is still to come.
 */
static int take_row(struct step *st, uint32_t at, const uint8_t *row)
{
        const struct model_config *config = st->m->config;
        struct record_row record;
        struct subject_row subject;
        struct target *x = NULL;
        uint32_t target = 0;
        int err = row_erased(row) ? UL_NOT_FOUND : t_record_get(st->t, st->m->id, row, &record);
        if (err == UL_NOT_FOUND ||
            (err == 0 &&
             (record.shard != st->shard || record.slice != st->c->source || record.row != at)))
                return 0;
        if (err == 0)
                err = t_subject_get(st->t, st->m->id, record.subject, &subject);
        if (err != 0 || subject.erased)
                return err == UL_NOT_FOUND ? txn_fail(st->t, UL_CORRUPT) : err;
        if (st->c->source > config->slices)
                target = placement_of(st->m->key, record.subject, subject.likelihood,
                                      config->shards, config->slices)
                                 .slice;
        err = target_of(st, target, &x);
        if (err != 0)
                return err;
        if (x->row.rows + x->count == UINT32_MAX)
                return ul_fail(st->e, UL_TOO_LARGE, "a slice holds at most 2^32 - 1 rows");
        subject_less(&subject, record.slice);
        subject_more(&subject, target_slice(st, target));
        record.slice = target_slice(st, target);
        record.row = x->row.rows + x->count++;
        st->c->records += target != 0;
        st->home[st->count] = target;
        memcpy(st->rows + (size_t)st->count++ * st->width, row, st->width);
        err = t_record_put(st->t, st->m->id, row, &record);
        return err == 0 ? t_subject_put(st->t, st->m->id, record.subject, &subject) : err;
}

static int take_rows(struct step *st)
{
        uint64_t began = mono_us();
        struct rowfile *f = NULL;
        uint8_t *row = malloc(st->width);
        int err = row == NULL ? ul_fail(st->e, UL_NOMEM, "no memory for rows")
                              : open_rows(st, st->c->source, false, &f);
        for (uint32_t i = 0; i < st->most && err == 0 && st->c->moved < st->source.rows; i++) {
                if (i > 0 && mono_us() - began > STEP_US)
                        break;
                err = rowfile_read(f, st->c->moved, row, st->e);
                if (is_damage(err) && st->row.scrubs > 0) /* a crash may have cut a scrub short */
                        err = ul_fail(st->e, UL_BUSY, "rows of the shard are being overwritten");
                else if (is_damage(err))
                        err = out_of_service(st, st->c->source);
                if (err == 0)
                        err = take_row(st, st->c->moved++, row);
        }
        if (f != NULL)
                rowfile_close(&f);
        if (row != NULL)
                wipe(row, st->width);
        free(row);
        return err;
}

/* --- the files --- */

static int append(struct step *st, uint32_t target, uint8_t *out)
{
        struct target *x = &st->targets[target];
        uint32_t n = 0;
        for (uint32_t i = 0; i < st->count; i++)
                if (st->home[i] == target)
                        memcpy(out + (size_t)n++ * st->width, st->rows + (size_t)i * st->width,
                               st->width);
        int err = open_rows(st, target_slice(st, target), x->is_new, &x->file);
        if (err == 0)
                err = rowfile_append(x->file, x->row.rows, out, n, st->e);
        CRASH_POINT("compact.rows_written");
        if (err == UL_CORRUPT)
                err = out_of_service(st, target_slice(st, target));
        if (err == 0)
                rowfile_start_sync(x->file);
        return err;
}

static int write_rows(struct step *st)
{
        uint8_t *out = malloc((size_t)st->count * st->width + 1);
        int err = out == NULL ? ul_fail(st->e, UL_NOMEM, "no memory for rows") : 0;
        st->out->wrote = true;
        for (uint32_t i = 0; i <= SLICES_MAX && err == 0; i++)
                if (st->targets[i].count > 0)
                        err = append(st, i, out);
        for (uint32_t i = 0; i <= SLICES_MAX; i++) {
                struct target *x = &st->targets[i];
                if (x->file == NULL)
                        continue;
                if (err == 0)
                        err = rowfile_sync(x->file, st->e);
                rowfile_close(&x->file);
        }
        CRASH_POINT("compact.rows_synced");
        if (out != NULL)
                wipe(out, (size_t)st->count * st->width);
        free(out);
        if (err != 0 && err != UL_DAMAGED && err != UL_NOMEM)
                err = upload_rows_failed(st->service, st->m, err, st->e);
        return err;
}

/* --- steps --- */

static int move_rows(struct step *st)
{
        int err = 0;
        st->width = row_bytes(&st->m->encoding.e.shape);
        st->most = STEP_BYTES / st->width < STEP_ROWS ? STEP_BYTES / st->width : STEP_ROWS;
        assert(st->most > 0);
        st->rows = malloc((size_t)st->most * st->width);
        if (st->rows == NULL)
                return ul_fail(st->e, UL_NOMEM, "no memory for rows");
        err = take_rows(st);
        if (err == 0 && st->count > 0)
                err = write_rows(st);
        for (uint32_t i = 0; i <= SLICES_MAX && err == 0; i++) {
                struct target *x = &st->targets[i];
                if (x->count == 0)
                        continue;
                x->row.rows += x->count;
                x->row.live += x->count;
                err = t_slice_put(st->t, st->m->id, st->shard, target_slice(st, i), &x->row);
        }
        if (err == 0) {
                st->source.live -= st->count < st->source.live ? st->count : st->source.live;
                err = t_slice_put(st->t, st->m->id, st->shard, st->c->source, &st->source);
        }
        wipe(st->rows, (size_t)st->count * st->width);
        free(st->rows);
        return err;
}

/* The next source; past the last one the shard has its configured slices again. */
static int next_source(struct step *st)
{
        st->c->moved = st->c->closed = 0;
        if (st->c->source++ <= st->row.slices)
                return 0;
        st->row.slices = st->m->config->slices;
        return t_shard_put(st->t, st->m->id, st->shard, &st->row);
}

/* The source's rows are all moved: from this commit on it has none. Scrubs of rows in it must be
 * over, for others may come to stand in their places. */
static int empty_source(struct step *st)
{
        struct slice_row *row = &st->source;
        uint32_t slice = st->c->source;
        if (st->row.scrubs > 0)
                return ul_fail(st->e, UL_BUSY, "erased rows of the shard are being overwritten");
        if (row->live != 0) {
                (void)ul_fail(st->e, UL_CORRUPT, "it holds fewer live rows than it should");
                return out_of_service(st, slice);
        }
        row->rows = 0;
        st->c->emptied = slice;
        int err = slice <= st->m->config->slices || row->has_checkpoint
                          ? t_slice_put(st->t, st->m->id, st->shard, slice, row)
                          : t_slice_del(st->t, st->m->id, st->shard, slice);
        return err == 0 ? next_source(st) : err;
}

/* Goes on to a source that has something to move. *found false: there is none left. */
static int find_source(struct step *st, bool *found)
{
        const uint32_t configured = st->m->config->slices;
        for (;;) {
                uint32_t slice = st->c->source;
                *found = false;
                if (slice > st->row.slices + 1)
                        return 0;
                int err = t_slice_get(st->t, st->m->id, st->shard, slice, &st->source);
                *found = err == 0 && (slice > configured || (st->source.rows > st->source.live &&
                                                             st->row.slices > configured));
                if (*found || (err != 0 && err != UL_NOT_FOUND))
                        return err;
                err = next_source(st);
                if (err != 0)
                        return err;
        }
}

static int move(struct step *st)
{
        bool found = false;
        struct compaction *c = st->c;
        if (c->state == COMPACTION_TIDYING)
                compaction_go(c, COMPACTION_MOVING);
        c->closed = c->moved;
        c->emptied = 0;
        int err = t_shard_get(st->t, st->m->id, st->shard, &st->row);
        if (err == 0)
                err = c->moved == 0
                              ? find_source(st, &found)
                              : t_slice_get(st->t, st->m->id, st->shard, c->source, &st->source);
        found |= c->moved > 0;
        if (err == 0 && !found)
                err = compaction_moved(st->service, st->t, st->m, st->shard, c);
        else if (err == 0 && c->moved == st->source.rows)
                err = empty_source(st);
        else if (err == 0)
                err = move_rows(st);
        if (err == 0)
                err = compaction_put(st->t, st->m->id, st->shard, c);
        CRASH_POINT("compact.moved");
        return err;
}

/* Where the rows of an atomic upload stand is known when it has ended. */
static int may_move(const struct step *st)
{
        uint32_t staged = 0;
        int err = upload_staged(st->t, st->m->id, &staged);
        if (err == 0 && (staged != 0 || st->m->untrimmed))
                err = ul_fail(st->e, UL_BUSY, "an upload to the model is in progress");
        return err;
}

int compact_step(struct service *s, struct txn *t, struct model *m, uint32_t shard,
                 const struct compaction *seen, struct compact_outcome *out, struct errinfo *e)
{
        struct model_row model;
        struct compaction c;
        int err = t_model_get(t, m->config->name, &model, NULL);
        if (err == UL_NOT_FOUND || (err == 0 && (model.deleting || model.id != m->id)))
                return ul_fail(e, UL_CONFLICT, "the model is being deleted");
        if (err == 0)
                err = compaction_get(t, m->id, shard, &c);
        if (err == 0 && memcmp(&c, seen, sizeof c) != 0)
                return ul_fail(e, UL_BUSY, "something came in between");
        if (err != 0)
                return err;
        if (c.state == COMPACTION_SWEEPING)
                return compaction_end(s, t, m, shard, &c);
        struct step *st = calloc(1, sizeof *st);
        if (st == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a compaction");
        *st = (struct step){
                .service = s, .m = m, .t = t, .shard = shard, .c = &c, .out = out, .e = e};
        err = may_move(st);
        if (err == 0)
                err = c.state == COMPACTION_WAITING ? compaction_begin(t, m, shard, &c) : move(st);
        out->records = c.records - seen->records;
        free(st);
        return err;
}
