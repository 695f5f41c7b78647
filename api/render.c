/* SPDX-License-Identifier: Apache-2.0
 * render.c: models, shards, records, jobs, erasures and intakes as JSON; see render.h. The audit
 * log's texts are in render_audit.c. It must not know where a view came from or who asked. */
#include "api/render.h"
#include <string.h>

static void member_string(struct json_writer *w, const char *key, const char *value)
{
        jw_key(w, key);
        if (value == NULL || value[0] == '\0')
                jw_null(w);
        else
                jw_string(w, value);
}

static void member_u64(struct json_writer *w, const char *key, uint64_t value)
{
        jw_key(w, key);
        jw_u64(w, value);
}

static void member_time(struct json_writer *w, const char *key, int64_t ms)
{
        jw_key(w, key);
        jw_time(w, ms);
}

static void member_bool(struct json_writer *w, const char *key, bool value)
{
        jw_key(w, key);
        jw_bool(w, value);
}

static void member_double(struct json_writer *w, const char *key, double value)
{
        jw_key(w, key);
        jw_double(w, value);
}

static void member_hash(struct json_writer *w, const char *key, bool present,
                        const uint8_t hash[SHA256_BYTES])
{
        jw_key(w, key);
        if (present)
                jw_hex(w, hash, SHA256_BYTES);
        else
                jw_null(w);
}

static void member_ulid(struct json_writer *w, const char *key, const uint8_t id[ULID_BYTES])
{
        char text[ULID_TEXT + 1];
        jw_key(w, key);
        jw_string(w, ulid_format(id, text));
}

void render_model(struct json_writer *w, const struct model_view *v)
{
        jw_object(w);
        model_config_write(v->config, w, true);
        member_string(w, "state", model_state_name(v->state));
        member_u64(w, "records", v->records);
        member_bool(w, "ready", v->ready);
        member_u64(w, "generation", v->generation);
        member_u64(w, "clean_constituents", v->clean_constituents);
        member_u64(w, "degraded_constituents", v->degraded_constituents);
        member_u64(w, "damaged_shards", v->damaged_shards);
        member_hash(w, "served_hash", v->has_served_hash, v->served_hash);
        member_time(w, "created_at", v->created_ms);
        jw_end_object(w);
}

static const char *slice_state(const struct shard_view *shard, const struct slice_view *v)
{
        if (v->has_checkpoint)
                return "clean";
        if (shard->dirty_from != 0 && v->slice >= shard->dirty_from)
                return "dirty";
        return v->live > 0 ? "loaded" : "empty";
}

void render_shard(struct json_writer *w, const struct shard_view *v)
{
        jw_object(w);
        member_u64(w, "shard", v->shard);
        member_string(w, "state", v->state);
        jw_key(w, "dirty_from");
        if (v->dirty_from == 0)
                jw_null(w);
        else
                jw_u64(w, v->dirty_from);
        member_u64(w, "served_from_slice", v->served_from_slice);
        jw_key(w, "slices");
        jw_array(w);
        for (uint32_t i = 0; i < v->slice_count; i++) {
                const struct slice_view *s = &v->slices[i];
                jw_object(w);
                member_u64(w, "slice", s->slice);
                member_u64(w, "live", s->live);
                member_u64(w, "erased", s->erased);
                member_string(w, "state", slice_state(v, s));
                member_hash(w, "checkpoint_hash", s->has_checkpoint, s->checkpoint_hash);
                jw_end_object(w);
        }
        jw_end_array(w);
        jw_end_object(w);
}

void render_record(struct json_writer *w, const struct record_view *v)
{
        jw_object(w);
        member_u64(w, "shard", v->shard);
        member_u64(w, "slice", v->slice);
        member_string(w, "state", v->state);
        jw_end_object(w);
}

void render_job(struct json_writer *w, const struct job_view *v)
{
        jw_object(w);
        member_ulid(w, "id", v->id);
        member_string(w, "kind", v->kind);
        member_string(w, "state", v->state);
        member_string(w, "model", v->model);
        jw_key(w, "shard");
        if (v->shard < 0)
                jw_null(w);
        else
                jw_i64(w, v->shard);
        member_double(w, "progress", v->progress);
        jw_key(w, "eta_seconds");
        if (v->eta_seconds < 0)
                jw_null(w);
        else
                jw_double(w, v->eta_seconds);
        member_time(w, "created_at", v->created_ms);
        member_time(w, "started_at", v->started_ms);
        member_time(w, "ended_at", v->ended_ms);
        member_u64(w, "attempts", v->attempts);
        member_string(w, "error", v->error);
        jw_key(w, "result");
        if (v->result.len == 0)
                jw_null(w);
        else
                jw_raw(w, (const char *)v->result.data, v->result.len);
        jw_end_object(w);
}

/* What was hit; with the states that only a real erasure has, or without. */
static void member_affected(struct json_writer *w, const struct erasure_view *v, bool states)
{
        jw_key(w, "affected");
        jw_array(w);
        for (uint32_t i = 0; i < v->affected_count; i++) {
                const struct affected_view *a = &v->affected[i];
                jw_object(w);
                member_string(w, "model", a->model);
                member_u64(w, "shard", a->shard);
                member_u64(w, "slice", a->slice);
                member_u64(w, "records", a->records);
                if (states) {
                        member_string(w, "state", a->state);
                        member_u64(w, "served_from_slice", a->served_from_slice);
                }
                jw_end_object(w);
        }
        jw_end_array(w);
}

void render_erasure(struct json_writer *w, const struct erasure_view *v)
{
        jw_object(w);
        member_ulid(w, "id", v->id);
        member_string(w, "state", v->state);
        member_u64(w, "matched", v->matched);
        member_string(w, "regulation", v->regulation);
        member_string(w, "reference", v->reference);
        member_time(w, "received_at", v->received_ms);
        member_time(w, "accepted_at", v->accepted_ms);
        member_time(w, "forgotten_at", v->forgotten_ms);
        member_time(w, "scrubbed_at", v->scrubbed_ms);
        member_time(w, "completed_at", v->completed_ms);
        member_time(w, "deadline", v->deadline_ms);
        member_time(w, "first_deadline", v->first_deadline_ms);
        member_string(w, "extension_reason", v->extension);
        member_bool(w, "overdue", v->overdue);
        member_bool(w, "hold", v->held);
        member_time(w, "refused_at", v->refused_ms);
        member_string(w, "refusal_reason", v->refusal);
        member_string(w, "guarantee", v->guarantee);
        member_affected(w, v, true);
        jw_end_object(w);
}

void render_preview(struct json_writer *w, const struct erasure_view *v)
{
        jw_object(w);
        member_u64(w, "matched", v->matched);
        member_affected(w, v, false);
        member_double(w, "retrain_seconds", v->retrain_seconds);
        jw_end_object(w);
}

void render_suppression(struct json_writer *w, const struct suppression_view *v)
{
        jw_object(w);
        jw_key(w, "pseudonym");
        jw_hex(w, v->pseudonym, PSEUDONYM_BYTES);
        member_string(w, "kind", v->kind);
        member_string(w, "model", v->model);
        member_ulid(w, "erasure", v->erasure);
        member_time(w, "since", v->since_ms);
        jw_end_object(w);
}

/* problem: with the `detail` that RFC 9457 readers look for. */
static void intake_lines(struct json_writer *w, const struct intake_result *r, bool problem)
{
        for (uint32_t i = 0; i < r->error_count && i < UPLOAD_ERRORS_MAX; i++) {
                const struct intake_error *line = &r->errors[i];
                jw_object(w);
                member_u64(w, "line", line->line);
                jw_key(w, "reason");
                jw_string(w, line->why.detail);
                if (problem) {
                        jw_key(w, "detail");
                        jw_string(w, line->why.detail);
                }
                if (line->why.field[0] != '\0')
                        member_string(w, "pointer", line->why.field);
                jw_end_object(w);
        }
}

static void intake_counts(struct json_writer *w, const struct intake_result *r, bool kept)
{
        member_u64(w, "accepted", kept ? r->accepted : 0);
        member_u64(w, "duplicates", r->duplicates);
        member_u64(w, "suppressed", r->suppressed);
        member_u64(w, "rejected", r->rejected);
}

void render_intake(struct json_writer *w, const struct intake_result *r, bool kept)
{
        jw_object(w);
        intake_counts(w, r, kept);
        jw_key(w, "errors");
        jw_array(w);
        intake_lines(w, r, false);
        jw_end_array(w);
        jw_end_object(w);
}

void render_intake_problem(struct json_writer *w, const struct intake_result *r, bool kept,
                           bool evaluate, const struct errinfo *why)
{
        jw_object(w);
        if (evaluate)
                member_u64(w, "rejected", r->rejected);
        else
                intake_counts(w, r, kept);
        jw_key(w, "errors");
        jw_array(w);
        if (why->field[0] != '\0') {
                jw_object(w);
                member_string(w, "pointer", why->field);
                member_string(w, "detail", why->detail);
                jw_end_object(w);
        }
        intake_lines(w, r, true);
        jw_end_array(w);
        jw_end_object(w);
}

static void member_confusion(struct json_writer *w, const uint64_t *confusion, uint32_t classes)
{
        jw_key(w, "confusion");
        jw_array(w);
        for (uint32_t i = 0; i < classes; i++) {
                jw_array(w);
                for (uint32_t j = 0; j < classes; j++)
                        jw_u64(w, confusion[(size_t)i * classes + j]);
                jw_end_array(w);
        }
        jw_end_array(w);
}

void render_evaluation(struct json_writer *w, const struct intake_result *r, uint32_t classes)
{
        jw_object(w);
        member_u64(w, "evaluated", r->evaluated);
        if (classes > 0 && r->confusion != NULL) {
                member_double(w, "accuracy", r->accuracy);
                member_double(w, "log_loss", r->log_loss);
                member_confusion(w, r->confusion, classes);
        } else {
                member_double(w, "mean_squared_error", r->mean_squared_error);
        }
        member_u64(w, "generation", r->generation);
        member_u64(w, "clean_constituents", r->clean_constituents);
        member_u64(w, "rejected", r->rejected);
        jw_key(w, "errors");
        jw_array(w);
        intake_lines(w, r, false);
        jw_end_array(w);
        jw_end_object(w);
}
