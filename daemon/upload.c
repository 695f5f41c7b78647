/* SPDX-License-Identifier: Apache-2.0
 * upload.c: a batch of rows into row files and index. The order is what makes it safe: suppression
 * and duplicates are checked, then rows are appended past the committed counts, then the files are
 * synced, then the index commits (DESIGN.md, Corners). It knows nothing of how rows arrive.
 * What is special about atomic uploads stands in staged.c. */
#include "daemon/upload.h"
#include "daemon/compact.h"
#include "daemon/run.h"
#include "daemon/state.h"

#include "lib/records/ingest.h"
#include "lib/sisa/job.h"
#include "lib/sisa/placement.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One slice that the batch appends to. */
struct touched {
        uint32_t shard, slice;
        struct slice_row row;
        bool is_new;
        uint32_t base;  /* position of its first new row */
        uint32_t count; /* new rows */
        struct rowfile *file;
};

enum { NOT_LOOKED_UP = 0, AS_PLACED = SLICES_TOTAL_MAX + 2 }; /* no open slice has the number */

struct placing {
        struct upload_batch *b;
        struct txn *t;
        struct model_row model;
        uint32_t active;         /* staged upload of the model, 0: none */
        uint32_t *slice_of;      /* [shards] open slice of a trained model, or one of these: */
        struct touched *touched; /* [touched_count] */
        uint32_t touched_count, touched_cap;
        uint32_t *home; /* [batch count] index into touched, UINT32_MAX: refused */
        struct errinfo *e;
};

void intake_result_error(struct intake_result *r, uint64_t line, const struct errinfo *why)
{
        r->rejected++;
        if (r->error_count == UPLOAD_ERRORS_MAX)
                return;
        r->errors[r->error_count].line = line;
        r->errors[r->error_count].why = *why;
        r->error_count++;
}

/* --- placing --- */

static int look_up_open(struct placing *p, uint32_t shard)
{
        struct shard_row row;
        bool as_placed = false;
        int err = t_shard_get(p->t, p->b->model->id, shard, &row);
        if (err == 0)
                err = compaction_takes_rows(p->t, p->b->model, shard, &as_placed);
        if (err == 0)
                p->slice_of[shard] = as_placed ? AS_PLACED : row.slices + 1;
        return err;
}

/* *slice comes as the one of the placement. */
static int open_slice(struct placing *p, uint32_t shard, uint32_t *slice)
{
        int err = p->slice_of[shard] == NOT_LOOKED_UP ? look_up_open(p, shard) : 0;
        if (err != 0 || p->slice_of[shard] == AS_PLACED)
                return err;
        *slice = p->slice_of[shard];
        return *slice <= SLICES_TOTAL_MAX
                       ? 0
                       : ul_fail(p->e, UL_CONFLICT,
                                 "a shard has too many appended slices; compact the model");
}

static int touched_of(struct placing *p, uint32_t shard, uint32_t slice, uint32_t *at)
{
        for (uint32_t i = p->touched_count; i-- > 0;) {
                if (p->touched[i].shard == shard && p->touched[i].slice == slice) {
                        *at = i;
                        return 0;
                }
        }
        if (p->touched_count == p->touched_cap) {
                uint32_t cap = p->touched_cap == 0 ? 64 : p->touched_cap * 2;
                struct touched *grown = realloc(p->touched, cap * sizeof *grown);
                if (grown == NULL)
                        return txn_fail(p->t, UL_NOMEM);
                p->touched = grown;
                p->touched_cap = cap;
        }
        struct touched *n = &p->touched[p->touched_count];
        *n = (struct touched){.shard = shard, .slice = slice};
        int err = t_slice_get(p->t, p->b->model->id, shard, slice, &n->row);
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        n->is_new = n->row.rows + n->row.staged == 0; /* a compaction removes an emptied file */
        n->base = n->row.rows + n->row.staged;
        *at = p->touched_count++;
        return 0;
}

/* 1: suppressed. A subject that was erased stays so until its last entry is tombstoned. */
static int suppressed(struct placing *p, const struct upload_item *it)
{
        struct suppression_row row;
        uint32_t model = p->b->model->scope;
        int err = t_suppression_get(p->t, it->subject, model, SUPPRESS_SUBJECT, &row);
        if (err == UL_NOT_FOUND)
                err = t_suppression_get(p->t, it->record, model, SUPPRESS_RECORD, &row);
        if (err == UL_NOT_FOUND && memcmp(it->record, it->subject, PSEUDONYM_BYTES) != 0)
                err = t_suppression_get(p->t, it->record, model, SUPPRESS_SUBJECT, &row);
        return err == 0 ? 1 : err == UL_NOT_FOUND ? 0 : err;
}

static int refuse(struct placing *p, const struct upload_item *it, const char *field,
                  const char *detail)
{
        struct errinfo why = {0};
        (void)ul_fail_field(&why, UL_INVALID, field, "%s", detail);
        intake_result_error(&p->b->counts, it->line, &why);
        return 0;
}

/* The subject's entry with this record added; *ok false: the line was refused. */
static int place_subject(struct placing *p, const struct upload_item *it, uint32_t *shard,
                         uint32_t *slice, bool *ok)
{
        struct subject_row row;
        const struct model_config *c = p->b->model->config;
        uint32_t likelihood = it->likelihood;
        *ok = false;
        int err = t_subject_get(p->t, p->b->model->id, it->subject, &row);
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        if (err == 0 && row.erased) {
                p->b->counts.suppressed++;
                return 0;
        }
        if (err == 0 && likelihood != LIKELIHOOD_UNSET && likelihood != row.likelihood)
                return refuse(p, it, "/erasure_likelihood",
                              "another likelihood is held for this subject");
        if (err == UL_NOT_FOUND)
                row.likelihood = likelihood == LIKELIHOOD_UNSET ? LIKELIHOOD_NORMAL : likelihood;
        struct placement at =
                placement_of(p->b->model->key, it->subject, row.likelihood, c->shards, c->slices);
        row.shard = *shard = at.shard;
        *slice = at.slice;
        if (p->model.trained && (err = open_slice(p, at.shard, slice)) != 0)
                return err;
        subject_more(&row, *slice);
        if (p->b->atomic)
                row.staged = *p->b->upload;
        *ok = true;
        return t_subject_put(p->t, p->b->model->id, it->subject, &row);
}

static int place_one(struct placing *p, uint32_t i)
{
        const struct upload_item *it = &p->b->items[i];
        struct record_row row = {0};
        uint32_t at = 0;
        bool ok;
        p->home[i] = UINT32_MAX;
        int err = suppressed(p, it);
        if (err != 0) {
                p->b->counts.suppressed += err == 1;
                return err == 1 ? 0 : err;
        }
        err = t_record_get(p->t, p->b->model->id, it->record, &row);
        if (err != UL_NOT_FOUND) {
                p->b->counts.duplicates += err == 0;
                return err;
        }
        row = (struct record_row){.upload = p->b->atomic ? *p->b->upload : 0};
        memcpy(row.subject, it->subject, PSEUDONYM_BYTES);
        err = place_subject(p, it, &row.shard, &row.slice, &ok);
        if (err != 0 || !ok)
                return err;
        err = touched_of(p, row.shard, row.slice, &at);
        if (err != 0)
                return err;
        row.row = p->touched[at].base + p->touched[at].count++;
        p->home[i] = at;
        p->b->counts.accepted++;
        return t_record_put(p->t, p->b->model->id, it->record, &row);
}

/* --- rows into files --- */

static int open_file(struct placing *p, struct touched *x)
{
        struct model *m = p->b->model;
        char path[PATH_SIZE];
        char dir[PATH_SIZE];
        int err = path_format(dir, p->e, "%s/shard-%03u", m->root, x->shard);
        if (err == 0)
                err = rows_path(path, m->root, x->shard, x->slice, p->e);
        if (err == 0 && x->is_new && !file_exists(dir))
                err = make_dirs(dir, p->e);
        if (err == 0)
                err = rowfile_open(path, &m->encoding.e.shape, x->shard, x->slice, x->is_new,
                                   &x->file, p->e);
        return err;
}

/* Rows have one place, so where that is damaged they cannot be taken. */
static int out_of_service(struct placing *p, const struct touched *x)
{
        const struct errinfo why = *p->e;
        slice_damaged(p->b->model, x->shard, x->slice, &why);
        return ul_fail(p->e, UL_DAMAGED,
                       "shard %u is out of service: its rows are damaged (%.100s); nothing of this "
                       "batch was taken",
                       x->shard, why.detail);
}

/* Rows of the batch that live in `x`, one after another, through `out` (room for all of them). */
static int append_rows(struct placing *p, uint32_t index, uint32_t width, uint8_t *out)
{
        struct touched *x = &p->touched[index];
        uint32_t n = 0;
        for (uint32_t i = 0; i < p->b->count; i++)
                if (p->home[i] == index)
                        memcpy(out + (size_t)n++ * width, p->b->rows + (size_t)i * width, width);
        assert(n == x->count);
        int err = rowfile_append(x->file, x->base, out, n, p->e);
        wipe(out, (size_t)n * width);
        return err;
}

static int write_rows(struct placing *p)
{
        uint32_t width = row_bytes(&p->b->model->encoding.e.shape);
        uint8_t *out = malloc((size_t)p->b->count * width + 1);
        int err = out == NULL ? ul_fail(p->e, UL_NOMEM, "no memory for rows") : 0;
        for (uint32_t i = 0; i < p->touched_count && err == 0; i++) {
                if (p->touched[i].count == 0)
                        continue;
                err = open_file(p, &p->touched[i]);
                if (err == 0)
                        err = append_rows(p, i, width, out);
                CRASH_POINT("upload.rows_written");
                if (err == UL_CORRUPT || err == UL_NOT_FOUND)
                        err = out_of_service(p, &p->touched[i]);
                if (err == 0)
                        rowfile_start_sync(p->touched[i].file);
        }
        for (uint32_t i = 0; i < p->touched_count && err == 0; i++)
                if (p->touched[i].file != NULL)
                        err = rowfile_sync(p->touched[i].file, p->e);
        CRASH_POINT("upload.rows_synced");
        for (uint32_t i = 0; i < p->touched_count; i++)
                if (p->touched[i].file != NULL)
                        rowfile_close(&p->touched[i].file);
        free(out);
        return err;
}

static int index_slices(struct placing *p)
{
        int err = 0;
        for (uint32_t i = 0; i < p->touched_count && err == 0; i++) {
                struct touched *x = &p->touched[i];
                if (p->b->atomic) {
                        x->row.staged += x->count;
                } else {
                        x->row.rows += x->count;
                        x->row.live += x->count;
                }
                if (x->count > 0)
                        err = t_slice_put(p->t, p->b->model->id, x->shard, x->slice, &x->row);
        }
        return err;
}

/* None begins while a compaction moves records: these would have to wait for it, in the middle of a
 * shard. */
static int check_moves(struct placing *p)
{
        struct training tr;
        bool any = false;
        bool moving = false;
        int err = compaction_any(p->t, p->b->model, &any);
        if (err == 0 && any)
                err = compaction_moves(p->t, p->b->model, &moving);
        if (err != 0 || !moving)
                return err;
        err = training_get(p->t, p->b->model->id, &tr);
        if (err == UL_NOT_FOUND)
                return ul_fail(p->e, UL_CONFLICT,
                               "a compaction of this model failed and is not finished; ask for it "
                               "again, and send this after it");
        return err != 0 ? err
                        : ul_fail(p->e, UL_CONFLICT,
                                  "a compaction is moving the model's records; send it again "
                                  "after it");
}

static int begin_staged(struct placing *p)
{
        struct upload_batch *b = p->b;
        struct upload_row row = {.model = b->model->id, .started_ms = now_ms()};
        uint64_t next = 0;
        int err = check_moves(p);
        if (err == 0)
                err = t_counter_get(p->t, "next_upload", &next);
        if (err != 0)
                return err;
        err = t_counter_put(p->t, "next_upload", next + 1);
        *b->upload = (uint32_t)next + 1;
        b->began = true;
        if (err == 0)
                err = t_upload_put(p->t, *b->upload, &row);
        CRASH_POINT("staged.begun");
        return err == 0 ? upload_set_staged(p->t, b->model->id, *b->upload) : err;
}

/* Starts a staged upload, or checks that it, or no other, is in progress. */
static int check_staging(struct placing *p)
{
        struct upload_batch *b = p->b;
        struct upload_row row;
        int err = upload_staged(p->t, b->model->id, &p->active);
        if (err != 0)
                return err;
        if (p->active != 0 && (!b->atomic || p->active != *b->upload))
                return ul_fail(p->e, UL_CONFLICT,
                               "an atomic upload to this model is in progress; try again after it");
        if (!b->atomic)
                return 0;
        if (*b->upload != 0) {
                err = t_upload_get(p->t, *b->upload, &row);
                if (err == UL_NOT_FOUND || (err == 0 && row.called_off))
                        return ul_fail(p->e, UL_CONFLICT,
                                       "an erasure came while the upload was in progress; nothing "
                                       "was kept, send it again");
                return err;
        }
        return begin_staged(p);
}

/* What a sync failed for may be on the disk or not: until it is overwritten and cut off, nothing is
 * appended after it, not even by the next command of this group. */
int upload_rows_failed(struct service *s, struct model *m, int err, struct errinfo *e)
{
        m->untrimmed = true;
        health_begin(&s->health, HEALTH_ROWS, err, e->detail);
        int refused = health_accepts(&s->health, HEALTH_ADDS, e);
        return refused != 0 ? refused : err;
}

static int check_trimmed(struct service *s, const struct model *m, struct errinfo *e)
{
        if (!m->untrimmed)
                return 0;
        int err = health_accepts(&s->health, HEALTH_ADDS, e);
        if (err == 0) {
                err = ul_fail(e, UL_BUSY, "an upload that failed is being undone; try again");
                e->retry_after_s = 1;
        }
        return err;
}

int upload_apply(struct service *s, struct txn *t, struct upload_batch *b, struct errinfo *e)
{
        struct placing p = {.b = b, .t = t, .e = e};
        const char *name = b->model->config->name;
        int err = check_trimmed(s, b->model, e);
        if (err != 0)
                return err;
        p.home = malloc((b->count + 1) * sizeof *p.home);
        p.slice_of = calloc(b->model->config->shards, sizeof *p.slice_of);
        if (p.home == NULL || p.slice_of == NULL)
                err = ul_fail(e, UL_NOMEM, "no memory for an upload");
        if (err == 0)
                err = t_model_get(t, name, &p.model, NULL);
        /* another model may have been made under the name while the records streamed in */
        if (err == UL_NOT_FOUND || (err == 0 && (p.model.deleting || p.model.id != b->model->id)))
                err = ul_fail(e, UL_NOT_FOUND, "the model is being deleted");
        if (err == 0)
                err = check_staging(&p);
        for (uint32_t i = 0; i < b->count && err == 0; i++)
                err = place_one(&p, i);
        if (err == 0 && b->counts.accepted > 0) {
                b->wrote = true;
                err = write_rows(&p);
                if (err != 0)
                        err = upload_rows_failed(s, b->model, err, e);
        }
        if (err == 0)
                err = index_slices(&p);
        if (err == 0 && b->counts.accepted > 0 && !b->atomic) {
                p.model.records += b->counts.accepted;
                err = t_model_put(t, name, &p.model, NULL, 0);
                if (err == 0)
                        err = upload_audit(s, t, b->model, b->actor, &b->counts);
        }
        CRASH_POINT("upload.recorded");
        free(p.home);
        free(p.slice_of);
        free(p.touched);
        return err;
}

void upload_counted(struct upload_batch *b)
{
        b->result->accepted += b->counts.accepted;
        b->result->duplicates += b->counts.duplicates;
        b->result->suppressed += b->counts.suppressed;
        uint64_t refused = b->counts.rejected;
        for (uint32_t i = 0; i < b->counts.error_count; i++, refused--)
                intake_result_error(b->result, b->counts.errors[i].line, &b->counts.errors[i].why);
        b->result->rejected += refused;
}
