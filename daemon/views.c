/* SPDX-License-Identifier: Apache-2.0
 * views.c: from rows of the store to what the API shows. Everything that can be derived is derived
 * here (overdue, degraded, served_from_slice), not stored. */
#include "daemon/views.h"
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/run.h"
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const erasure_states[] = {[ERASURE_ACCEPTED] = "accepted",
                                             [ERASURE_FORGOTTEN] = "forgotten",
                                             [ERASURE_COMPLETED] = "completed",
                                             [ERASURE_REFUSED] = "refused"};
static const char *const regulations[] = {[REGULATION_NONE] = NULL,
                                          [REGULATION_GDPR] = "gdpr",
                                          [REGULATION_CCPA] = "ccpa",
                                          [REGULATION_OTHER] = "other"};
static const char *const job_kinds[] = {[JOB_TRAIN] = "train",
                                        [JOB_RETRAIN] = "retrain",
                                        [JOB_VERIFY] = "verify",
                                        [JOB_BACKUP] = "backup",
                                        [JOB_COMPACT] = "compact"};
static const char *const job_states[] = {[JOB_QUEUED] = "queued",
                                         [JOB_RUNNING] = "running",
                                         [JOB_SUCCEEDED] = "succeeded",
                                         [JOB_FAILED] = "failed",
                                         [JOB_CANCELLED] = "cancelled"};
static const char *const model_states[] = {[MODEL_EMPTY] = "empty",
                                           [MODEL_LOADED] = "loaded",
                                           [MODEL_TRAINING] = "training",
                                           [MODEL_READY] = "ready",
                                           [MODEL_DEGRADED] = "degraded"};

const char *regulation_name(uint8_t regulation)
{
        return regulations[regulation];
}

const char *model_state_name(enum model_state v)
{
        return model_states[v];
}

int view_served_from(struct txn *t, uint32_t model, uint32_t shard, uint32_t *slice)
{
        struct shard_row row;
        struct slice_row srow;
        struct compaction c;
        *slice = 0;
        int err = t_shard_get(t, model, shard, &row);
        if (err == 0)
                err = compaction_get(t, model, shard, &c);
        if (err != 0)
                return err;
        uint32_t from = c.standing != 0 ? c.standing : row.clean;
        if (from == 0)
                return 0;
        err = t_slice_get(t, model, shard, from, &srow);
        if (err == 0 && srow.has_checkpoint && srow.records > 0)
                *slice = from;
        return err == UL_NOT_FOUND ? 0 : err;
}

const char *erasure_state_name(uint8_t state)
{
        return erasure_states[state];
}

bool erasure_overdue(const struct erasure_row *row)
{
        int64_t ended = row->completed_ms != 0 ? row->completed_ms : row->refused_ms;
        return (ended != 0 ? ended : now_ms()) > row->deadline_ms;
}

int view_erasure_row(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                     const struct erasure_affected *affected, struct erasure_view *out)
{
        int err = 0;
        *out = (struct erasure_view){.state = erasure_states[row->state],
                                     .matched = row->matched,
                                     .regulation = regulations[row->regulation],
                                     .received_ms = row->received_ms,
                                     .accepted_ms = row->accepted_ms,
                                     .forgotten_ms = row->forgotten_ms,
                                     .scrubbed_ms = row->scrubbed_ms,
                                     .completed_ms = row->completed_ms,
                                     .deadline_ms = row->deadline_ms,
                                     .held = row->held != 0,
                                     .refused_ms = row->refused_ms,
                                     .refusal = reason_name(REASON_REFUSAL, row->refusal),
                                     .first_deadline_ms = row->first_deadline_ms,
                                     .extension = reason_name(REASON_EXTENSION, row->extension),
                                     .scope = row->scoped ? "named_models" : "all_models",
                                     .guarantee = "exact"};
        memcpy(out->id, id, ULID_BYTES);
        (void)snprintf(out->reference, sizeof out->reference, "%.*s", REFERENCE_MAX,
                       row->reference);
        out->overdue = erasure_overdue(row);
        if (row->affected_count == 0)
                return 0;
        out->affected = calloc(row->affected_count, sizeof *out->affected);
        if (out->affected == NULL)
                return UL_NOMEM;
        out->affected_count = row->affected_count;
        for (uint32_t i = 0; i < row->affected_count && err == 0; i++) {
                struct affected_view *v = &out->affected[i];
                *v = (struct affected_view){.shard = affected[i].shard,
                                            .slice = affected[i].slice,
                                            .records = affected[i].records,
                                            .state = affected[i].state == AFFECTED_COMPLETED
                                                             ? "completed"
                                                             : "retraining"};
                memcpy(v->model, affected[i].model_name, sizeof v->model);
                err = view_served_from(t, affected[i].model, affected[i].shard,
                                       &v->served_from_slice);
                if (err == UL_NOT_FOUND) /* the model was deleted since */
                        err = 0;
        }
        if (err != 0)
                erasure_view_clear(out);
        return err;
}

int view_erasure(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                 struct erasure_view *out)
{
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        (void)s;
        int err = t_erasure_get(t, id, &row, &affected);
        if (err == 0)
                err = view_erasure_row(t, id, &row, affected, out);
        free(affected);
        return err;
}

static int count_dirty(struct txn *t, const struct model *m, const struct model_row *row,
                       uint32_t *dirty)
{
        *dirty = 0;
        for (uint32_t i = 0; i < m->config->shards; i++) {
                struct shard_row shard;
                int err = t_shard_get(t, m->id, i, &shard);
                if (err != 0)
                        return err;
                *dirty += shard_dirty(row, &shard);
        }
        return 0;
}

int view_model(struct model *m, struct txn *t, struct model_view *out)
{
        struct model_row row;
        struct training training;
        uint32_t dirty = 0;
        bool behind = true; /* what is served is not yet what was committed */
        *out = (struct model_view){.config = m->config, .created_ms = m->created_ms};
        int err = t_model_get(t, m->config->name, &row, NULL);
        if (err == 0)
                err = count_dirty(t, m, &row, &dirty);
        if (err != 0)
                return err;
        int in_training = training_get(t, m->id, &training);
        if (in_training != 0 && in_training != UL_NOT_FOUND)
                return in_training;
        out->records = row.records;
        out->generation = row.generation;
        out->damaged_shards = rows_damaged_shards(m);
        const struct snapshot *now = snapshot_acquire(m->cell);
        if (now != NULL) {
                out->generation = now->generation;
                behind = now->generation < row.generation;
                out->clean_constituents = now->clean;
                out->degraded_constituents = now->degraded;
                out->ready = now->clean > 0;
                out->has_served_hash = now->clean > 0;
                memcpy(out->served_hash, now->hash, SHA256_BYTES);
        }
        snapshot_release(m->cell, now);
        if (in_training == 0)
                out->state = MODEL_TRAINING;
        else if (out->damaged_shards > 0)
                out->state = MODEL_DEGRADED;
        else if (!row.trained)
                out->state = row.records > 0 ? MODEL_LOADED : MODEL_EMPTY;
        else
                out->state = dirty + atomic_load(&m->unread) == 0 && !behind ? MODEL_READY
                                                                             : MODEL_DEGRADED;
        out->hold = model_ref(m);
        return 0;
}

void model_view_release(struct model_view *v)
{
        model_unref(v->hold);
        *v = (struct model_view){0};
}

static double progress_of(struct service *s, struct txn *t, const struct model *m,
                          const uint8_t id[ULID_BYTES], const struct job_row *row)
{
        struct training training;
        double running = progress_get(s, id);
        if (row->state == JOB_SUCCEEDED)
                return 1;
        if ((row->kind == JOB_TRAIN || row->kind == JOB_COMPACT) && m != NULL &&
            training_get(t, row->model, &training) == 0) {
                double shards = m->config->shards;
                running = (shards - training_left(&training) + running) / shards;
        } else if (row->kind == JOB_VERIFY && row->attempts > 0) {
                running /= row->attempts; /* of so many shards, see scheduler_verify */
        }
        return running < 1 ? running : 1;
}

int view_job(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
             const struct job_row *row, const char *result, size_t result_len, struct job_view *out)
{
        *out = (struct job_view){.kind = job_kinds[row->kind],
                                 .state = job_states[row->state],
                                 .shard = row->shard == UINT32_MAX ? -1 : (int64_t)row->shard,
                                 .eta_seconds = -1,
                                 .created_ms = row->created_ms,
                                 .started_ms = row->started_ms,
                                 .ended_ms = row->ended_ms,
                                 .attempts = row->kind == JOB_VERIFY ? 1 : row->attempts};
        struct model *m = registry_find_id(s, row->model);
        memcpy(out->id, id, ULID_BYTES);
        (void)snprintf(out->model, sizeof out->model, "%s", row->model_name);
        (void)snprintf(out->error, sizeof out->error, "%s", row->error);
        out->progress = progress_of(s, t, m, id, row);
        if (row->state == JOB_RUNNING && out->progress > 0.01) {
                double elapsed = (double)(now_ms() - row->started_ms) / 1e3;
                elapsed = elapsed > 0 ? elapsed : 0; /* the clock was set back */
                out->eta_seconds = elapsed * (1 - out->progress) / out->progress;
        } else if (row->state != JOB_RUNNING && row->state != JOB_QUEUED) {
                out->eta_seconds = 0;
        }
        model_unref(m);
        if (result_len > 0)
                buf_append(&out->result, result, result_len);
        if (out->result.failed) {
                job_view_clear(out);
                return UL_NOMEM;
        }
        return 0;
}

void job_view_clear(struct job_view *v)
{
        buf_free(&v->result, false);
        *v = (struct job_view){0};
}
