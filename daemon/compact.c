/* SPDX-License-Identifier: Apache-2.0
 * compact.c: compaction, in transactions: what it has done to a shard, and what that means for
 * whoever else changes the shard. The rows are moved by compact_move.c, the files looked after by
 * compact_pass.c.
 *
 *   (none)   --compaction_ask-->       waiting    the job was asked for
 *   waiting  --compaction_begin-->     tidying    its chain of checkpoints is given up but for one
 *   tidying  --compact_step-->         moving     their files are gone
 *   moving   --compaction_moved-->     training   every record stands where placement.h puts it
 *   training --compaction_published--> sweeping   the new chain is whole
 *   sweeping --compaction_end-->       (none)     the old checkpoint's file is gone
 *   waiting  --compaction_withdraw-->  (none)     the job failed before the shard's turn
 *
 * What is served meanwhile (invariants 4 and 8) is the checkpoint that was served before, which
 * from then on is `standing`: it holds retained people alone, so it may be served until the new
 * chain is whole. While there is one, `clean` is 0 and only a whole chain is published. It was
 * trained on slices that do not exist any more, so any erasure in the shard drops it.
 *
 * Between any two steps the index says where every record stands, and rows of it elsewhere are
 * overwritten before the next step: see compact_pass.c. No run starts while records move. */
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/run.h"
#include "daemon/state.h"
#include "daemon/views.h"

#include "lib/sisa/placement.h"
#include "lib/util/crash_point.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PACKED_BYTES = 8 + 8 * 4, TOTALS_BYTES = 2 * 4 + 8 };

/* --- rows --- */

static void shard_name(char out[48], uint32_t model, uint32_t shard)
{
        (void)snprintf(out, 48, "compaction/%u/%u", model, shard);
}

int compaction_get(struct txn *t, uint32_t model, uint32_t shard, struct compaction *c)
{
        char name[48];
        struct buf b = {0};
        *c = (struct compaction){0};
        shard_name(name, model, shard);
        int err = t_blob_get(t, name, &b);
        if (err == 0 && b.len != PACKED_BYTES)
                err = txn_fail(t, UL_CORRUPT);
        if (err == 0) {
                uint32_t *const field[] = {&c->state,  &c->standing, &c->whole,  &c->before,
                                           &c->source, &c->moved,    &c->closed, &c->emptied};
                c->records = get_le64(b.data);
                for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
                        *field[i] = get_le32(b.data + 8 + 4 * i);
        }
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

int compaction_put(struct txn *t, uint32_t model, uint32_t shard, const struct compaction *c)
{
        char name[48];
        uint8_t packed[PACKED_BYTES];
        shard_name(name, model, shard);
        if (c == NULL)
                return t_blob_del(t, name);
        const uint32_t field[] = {c->state,  c->standing, c->whole,  c->before,
                                  c->source, c->moved,    c->closed, c->emptied};
        put_le64(packed, c->records);
        for (size_t i = 0; i < sizeof field / sizeof field[0]; i++)
                put_le32(packed + 8 + 4 * i, field[i]);
        return t_blob_put(t, name, packed, sizeof packed);
}

void compaction_go(struct compaction *c, enum compaction_state to)
{
        static const enum compaction_state from[] = {[COMPACTION_WAITING] = COMPACTION_NONE,
                                                     [COMPACTION_TIDYING] = COMPACTION_WAITING,
                                                     [COMPACTION_MOVING] = COMPACTION_TIDYING,
                                                     [COMPACTION_TRAINING] = COMPACTION_MOVING,
                                                     [COMPACTION_SWEEPING] = COMPACTION_TRAINING};
        assert(c->state == from[to]);
        c->state = to;
}

bool compaction_holds(const struct compaction *c)
{
        return c->state == COMPACTION_TIDYING || c->state == COMPACTION_MOVING ||
               c->state == COMPACTION_SWEEPING;
}

static bool moves(const struct compaction *c)
{
        return c->state == COMPACTION_TIDYING || c->state == COMPACTION_MOVING;
}

int compaction_moves(struct txn *t, const struct model *m, bool *moving)
{
        struct compaction c;
        int err = 0;
        *moving = false;
        for (uint32_t i = 0; i < m->config->shards && err == 0 && !*moving; i++) {
                err = compaction_get(t, m->id, i, &c);
                *moving = moves(&c);
        }
        return err;
}

/* --- what the job tells at its end --- */

struct totals {
        uint32_t shards, slices;
        uint64_t records;
};

static void totals_name(char out[48], uint32_t model)
{
        (void)snprintf(out, 48, "compaction/%u", model);
}

static int totals_get(struct txn *t, uint32_t model, struct totals *out)
{
        char name[48];
        struct buf b = {0};
        *out = (struct totals){0};
        totals_name(name, model);
        int err = t_blob_get(t, name, &b);
        if (err == 0 && b.len != TOTALS_BYTES)
                err = txn_fail(t, UL_CORRUPT);
        if (err == 0)
                *out = (struct totals){.shards = get_le32(b.data),
                                       .slices = get_le32(b.data + 4),
                                       .records = get_le64(b.data + 8)};
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

static int totals_put(struct txn *t, uint32_t model, const struct totals *all)
{
        char name[48];
        uint8_t packed[TOTALS_BYTES];
        totals_name(name, model);
        put_le32(packed, all->shards);
        put_le32(packed + 4, all->slices);
        put_le64(packed + 8, all->records);
        return t_blob_put(t, name, packed, sizeof packed);
}

int compaction_any(struct txn *t, const struct model *m, bool *any)
{
        char name[48];
        struct buf b = {0};
        totals_name(name, m->id);
        int err = t_blob_get(t, name, &b);
        *any = err == 0;
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

int compaction_take_result(struct txn *t, const struct model *m, struct buf *out)
{
        struct totals all;
        struct json_writer w;
        char name[48];
        totals_name(name, m->id);
        int err = totals_get(t, m->id, &all);
        if (err == 0)
                err = t_blob_del(t, name);
        if (err != 0)
                return err;
        jw_init(&w, out);
        jw_object(&w);
        jw_member_u64(&w, "shards", all.shards);
        jw_member_u64(&w, "slices_removed", all.slices);
        jw_member_u64(&w, "records_moved", all.records);
        jw_end_object(&w);
        return out->failed ? txn_fail(t, UL_NOMEM) : 0;
}

int compaction_forget(struct txn *t, const struct model *m)
{
        char name[48];
        int err = 0;
        for (uint32_t i = 0; i < m->config->shards && err == 0; i++)
                err = compaction_put(t, m->id, i, NULL);
        totals_name(name, m->id);
        return err == 0 ? t_blob_del(t, name) : err;
}

/* --- the job --- */

/* Whether something of the shard stands in a slice past the configured ones. */
static int has_appended(struct txn *t, const struct model *m, const struct shard_row *row,
                        uint32_t shard, bool *out)
{
        struct slice_row open;
        int err = t_slice_get(t, m->id, shard, row->slices + 1, &open);
        *out = row->slices > m->config->slices || (err == 0 && open.rows > 0);
        return err == UL_NOT_FOUND ? 0 : err;
}

int compaction_ask(struct txn *t, const struct model *m, struct training *tr)
{
        struct totals none = {0};
        int err = totals_put(t, m->id, &none);
        for (uint32_t i = 0; i < m->config->shards && err == 0; i++) {
                struct shard_row row;
                struct compaction c;
                bool work = true;
                err = t_shard_get(t, m->id, i, &row);
                if (err == 0)
                        err = compaction_get(t, m->id, i, &c);
                if (err == 0 && c.state == COMPACTION_NONE) /* else one that failed goes on */
                        err = has_appended(t, m, &row, i, &work);
                if (err != 0 || !work)
                        continue;
                tr->left[i / 8] |= (uint8_t)(1u << (i % 8));
                row.attempts = 0;
                if (c.state == COMPACTION_NONE)
                        compaction_go(&c, COMPACTION_WAITING);
                err = compaction_put(t, m->id, i, &c);
                if (err == 0)
                        err = t_shard_put(t, m->id, i, &row);
        }
        return err;
}

int compaction_withdraw(struct txn *t, const struct model *m)
{
        struct compaction c;
        int err = 0;
        for (uint32_t i = 0; i < m->config->shards && err == 0; i++) {
                err = compaction_get(t, m->id, i, &c);
                if (err == 0 && c.state == COMPACTION_WAITING)
                        err = compaction_put(t, m->id, i, NULL);
        }
        return err;
}

static int job_runs(struct txn *t, const struct model *m)
{
        struct training tr;
        struct job_row job;
        int err = training_get(t, m->id, &tr);
        if (err == 0)
                err = t_job_get(t, tr.job, &job, NULL);
        if (err != 0 || job.state != JOB_QUEUED)
                return err == UL_NOT_FOUND ? 0 : err;
        job.state = JOB_RUNNING;
        job.started_ms = now_ms();
        return t_job_put(t, tr.job, &job, NULL, 0);
}

/* --- a shard's turn --- */

/* Gives the chain up; what is served stands until there is a new one. */
static int give_up_chain(struct txn *t, const struct model *m, uint32_t shard,
                         struct shard_row *row, struct compaction *c)
{
        struct model_row model;
        struct slice_row slice;
        int err = view_served_from(t, m->id, shard, &c->standing);
        c->whole = c->standing != 0 && row->clean == row->slices;
        for (uint32_t i = 1; i <= row->clean && err == 0; i++) {
                if (i == c->standing)
                        continue;
                err = t_slice_get(t, m->id, shard, i, &slice);
                slice.has_checkpoint = 0;
                if (err == 0)
                        err = t_slice_put(t, m->id, shard, i, &slice);
        }
        if (err == 0 && c->standing == 0) { /* it held nobody: the shard had no part */
                err = t_model_get(t, m->config->name, &model, NULL);
                if (err == 0)
                        err = served_end(t, m, shard, 1, row->clean, model.generation);
        }
        row->clean = 0;
        return err;
}

int compaction_begin(struct txn *t, const struct model *m, uint32_t shard, struct compaction *c)
{
        struct shard_row row;
        struct slice_row open;
        int err = t_shard_get(t, m->id, shard, &row);
        if (err != 0)
                return err;
        compaction_go(c, COMPACTION_TIDYING);
        err = give_up_chain(t, m, shard, &row, c);
        if (err != 0)
                return err;
        c->before = row.slices;
        err = t_slice_get(t, m->id, shard, row.slices + 1, &open);
        if (err == 0 && open.rows > 0) /* frozen: uploads go on behind it */
                row.slices++;
        else if (err != 0 && err != UL_NOT_FOUND)
                return err;
        c->source = 1;
        row.fence++;
        row.touched = 1;
        if (row.dirty_since_ms == 0)
                row.dirty_since_ms = now_ms();
        err = t_shard_put(t, m->id, shard, &row);
        if (err == 0)
                err = compaction_put(t, m->id, shard, c);
        if (err == 0)
                err = job_runs(t, m);
        CRASH_POINT("compact.begun");
        return err;
}

int compaction_moved(struct service *s, struct txn *t, const struct model *m, uint32_t shard,
                     struct compaction *c)
{
        struct totals all;
        struct training tr;
        struct event ev;
        struct audit_keys keys = {.model = m->config->name};
        compaction_go(c, COMPACTION_TRAINING);
        int err = totals_get(t, m->id, &all);
        all.shards++;
        all.slices += c->before - m->config->slices;
        all.records += c->records;
        if (err == 0)
                err = totals_put(t, m->id, &all);
        if (err == 0)
                err = training_get(t, m->id, &tr);
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "model", m->config->name);
        jw_member_u64(&ev.w, "shard", shard);
        jw_member_u64(&ev.w, "slices_before", c->before);
        jw_member_u64(&ev.w, "slices", m->config->slices);
        jw_member_u64(&ev.w, "records_moved", c->records);
        if (err == 0)
                event_ulid(&ev, "job", tr.job);
        return event_append(&ev, s, t, "shard.compacted", "unlearnd", &keys, NULL);
}

int compaction_end(struct service *s, struct txn *t, struct model *m, uint32_t shard,
                   const struct compaction *c)
{
        struct shard_row row;
        struct slice_row slice;
        int err = t_shard_get(t, m->id, shard, &row);
        for (uint32_t i = row.slices + 1; i < c->source && err == 0; i++) {
                err = t_slice_get(t, m->id, shard, i, &slice);
                if (err == 0 && slice.rows + slice.staged == 0) /* only its checkpoint stood */
                        err = t_slice_del(t, m->id, shard, i);
                err = err == UL_NOT_FOUND ? 0 : err;
        }
        if (err == 0)
                err = compaction_put(t, m->id, shard, NULL);
        if (err == 0)
                err = training_less(s, t, m, shard, NULL);
        CRASH_POINT("compact.ended");
        return err;
}

/* --- what others do to the shard meanwhile --- */

int compaction_published(struct txn *t, const struct model *m, uint32_t shard, struct compaction *c,
                         const struct shard_row *row, uint64_t generation)
{
        struct slice_row slice;
        uint32_t stood = c->standing;
        int err = 0;
        if (stood > row->clean) { /* those below it were served, and are */
                err = t_slice_get(t, m->id, shard, stood, &slice);
                slice.has_checkpoint = 0;
                if (err == 0)
                        err = t_slice_put(t, m->id, shard, stood, &slice);
                if (err == 0)
                        err = served_end(t, m, shard, row->clean + 1, stood, generation - 1);
        } else if (stood != 0) {
                err = served_begin(t, m, shard, stood + 1, row->clean, generation);
        }
        c->standing = 0;
        if (c->state == COMPACTION_TRAINING && row->clean >= row->slices)
                compaction_go(c, COMPACTION_SWEEPING);
        return err == 0 ? compaction_put(t, m->id, shard, c) : err;
}

int compaction_drop_standing(struct txn *t, const struct model *m, uint32_t shard,
                             uint64_t generation, struct compaction *c, struct slice_row *dropped)
{
        uint32_t stood = c->standing;
        int err = t_slice_get(t, m->id, shard, stood, dropped);
        dropped->has_checkpoint = 0;
        if (err == 0)
                err = t_slice_put(t, m->id, shard, stood, dropped);
        if (err == 0)
                err = served_end(t, m, shard, 1, stood, generation);
        c->standing = 0;
        return err == 0 ? compaction_put(t, m->id, shard, c) : err;
}

int compaction_slice(struct txn *t, const struct model *m, const uint8_t subject[PSEUDONYM_BYTES],
                     const struct subject_row *row, uint32_t *slice)
{
        struct compaction c;
        const struct model_config *config = m->config;
        if (*slice <= config->slices)
                return 0;
        int err = compaction_get(t, m->id, row->shard, &c);
        if (err == 0 && moves(&c))
                *slice = placement_of(m->key, subject, row->likelihood, config->shards,
                                      config->slices)
                                 .slice;
        return err;
}

/* From then on that nothing but appended slices is moved any more: no row is put into a slice that
 * is yet to be emptied, nor into a file that is about to be removed. The shard has no chain, and no
 * run starts before the moves are over, so that a row more is as good as before a first training.
 */
int compaction_takes_rows(struct txn *t, const struct model *m, uint32_t shard, bool *takes)
{
        struct compaction c;
        const uint32_t configured = m->config->slices;
        int err = compaction_get(t, m->id, shard, &c);
        *takes = err == 0 && c.state == COMPACTION_MOVING && c.source > configured &&
                 (c.emptied == 0 || c.emptied > configured);
        return err;
}
