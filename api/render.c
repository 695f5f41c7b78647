/* SPDX-License-Identifier: Apache-2.0
 * render.c: models, shards, records, jobs, erasures and intakes as JSON; see render.h. The audit
 * log's texts are in render_audit.c. It must not know where a view came from or who asked. */
#include "api/render.h"
#include <string.h>

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
        jw_member_string(w, key, ulid_format(id, text));
}

void render_model(struct json_writer *w, const struct model_view *v)
{
        jw_object(w);
        model_config_write(v->config, w, true);
        jw_member_text(w, "state", model_state_name(v->state));
        jw_member_u64(w, "records", v->records);
        jw_member_bool(w, "ready", v->ready);
        jw_member_u64(w, "generation", v->generation);
        jw_member_u64(w, "clean_constituents", v->clean_constituents);
        jw_member_u64(w, "degraded_constituents", v->degraded_constituents);
        jw_member_u64(w, "damaged_shards", v->damaged_shards);
        member_hash(w, "served_hash", v->has_served_hash, v->served_hash);
        jw_member_time(w, "created_at", v->created_ms);
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
        jw_member_u64(w, "shard", v->shard);
        jw_member_text(w, "state", v->state);
        jw_key(w, "dirty_from");
        if (v->dirty_from == 0)
                jw_null(w);
        else
                jw_u64(w, v->dirty_from);
        jw_member_u64(w, "served_from_slice", v->served_from_slice);
        jw_key(w, "slices");
        jw_array(w);
        for (uint32_t i = 0; i < v->slice_count; i++) {
                const struct slice_view *s = &v->slices[i];
                jw_object(w);
                jw_member_u64(w, "slice", s->slice);
                jw_member_u64(w, "live", s->live);
                jw_member_u64(w, "erased", s->erased);
                jw_member_text(w, "state", slice_state(v, s));
                member_hash(w, "checkpoint_hash", s->has_checkpoint, s->checkpoint_hash);
                jw_end_object(w);
        }
        jw_end_array(w);
        jw_end_object(w);
}

void render_record(struct json_writer *w, const struct record_view *v)
{
        jw_object(w);
        jw_member_u64(w, "shard", v->shard);
        jw_member_u64(w, "slice", v->slice);
        jw_member_text(w, "state", v->state);
        jw_end_object(w);
}

void render_job(struct json_writer *w, const struct job_view *v)
{
        jw_object(w);
        member_ulid(w, "id", v->id);
        jw_member_text(w, "kind", v->kind);
        jw_member_text(w, "state", v->state);
        jw_member_text(w, "model", v->model);
        jw_key(w, "shard");
        if (v->shard < 0)
                jw_null(w);
        else
                jw_i64(w, v->shard);
        jw_member_double(w, "progress", v->progress);
        jw_key(w, "eta_seconds");
        if (v->eta_seconds < 0)
                jw_null(w);
        else
                jw_double(w, v->eta_seconds);
        jw_member_time(w, "created_at", v->created_ms);
        jw_member_time(w, "started_at", v->started_ms);
        jw_member_time(w, "ended_at", v->ended_ms);
        jw_member_u64(w, "attempts", v->attempts);
        jw_member_text(w, "error", v->error);
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
                jw_member_text(w, "model", a->model);
                jw_member_u64(w, "shard", a->shard);
                jw_member_u64(w, "slice", a->slice);
                jw_member_u64(w, "records", a->records);
                if (states) {
                        jw_member_text(w, "state", a->state);
                        jw_member_u64(w, "served_from_slice", a->served_from_slice);
                }
                jw_end_object(w);
        }
        jw_end_array(w);
}

void render_erasure(struct json_writer *w, const struct erasure_view *v)
{
        jw_object(w);
        member_ulid(w, "id", v->id);
        jw_member_text(w, "state", v->state);
        jw_member_u64(w, "matched", v->matched);
        jw_member_text(w, "regulation", v->regulation);
        jw_member_text(w, "reference", v->reference);
        jw_member_time(w, "received_at", v->received_ms);
        jw_member_time(w, "accepted_at", v->accepted_ms);
        jw_member_time(w, "forgotten_at", v->forgotten_ms);
        jw_member_time(w, "scrubbed_at", v->scrubbed_ms);
        jw_member_time(w, "completed_at", v->completed_ms);
        jw_member_time(w, "deadline", v->deadline_ms);
        jw_member_time(w, "first_deadline", v->first_deadline_ms);
        jw_member_text(w, "extension_reason", v->extension);
        jw_member_bool(w, "overdue", v->overdue);
        jw_member_bool(w, "hold", v->held);
        jw_member_time(w, "refused_at", v->refused_ms);
        jw_member_text(w, "refusal_reason", v->refusal);
        jw_member_text(w, "scope", v->scope);
        jw_member_text(w, "guarantee", v->guarantee);
        member_affected(w, v, true);
        jw_end_object(w);
}

void render_preview(struct json_writer *w, const struct erasure_view *v)
{
        jw_object(w);
        jw_member_u64(w, "matched", v->matched);
        member_affected(w, v, false);
        jw_member_double(w, "retrain_seconds", v->retrain_seconds);
        jw_end_object(w);
}

void render_suppression(struct json_writer *w, const struct suppression_view *v)
{
        jw_object(w);
        jw_member_hex(w, "pseudonym", v->pseudonym, PSEUDONYM_BYTES);
        jw_member_text(w, "kind", v->kind);
        jw_member_text(w, "model", v->model);
        member_ulid(w, "erasure", v->erasure);
        jw_member_time(w, "since", v->since_ms);
        jw_end_object(w);
}

/* problem: with the `detail` that RFC 9457 readers look for. */
static void intake_lines(struct json_writer *w, const struct intake_result *r, bool problem)
{
        for (uint32_t i = 0; i < r->error_count && i < UPLOAD_ERRORS_MAX; i++) {
                const struct intake_error *line = &r->errors[i];
                jw_object(w);
                jw_member_u64(w, "line", line->line);
                jw_member_string(w, "reason", line->why.detail);
                if (problem)
                        jw_member_string(w, "detail", line->why.detail);
                if (line->why.field[0] != '\0')
                        jw_member_text(w, "pointer", line->why.field);
                jw_end_object(w);
        }
}

static void intake_counts(struct json_writer *w, const struct intake_result *r, bool kept)
{
        jw_member_u64(w, "accepted", kept ? r->accepted : 0);
        jw_member_u64(w, "duplicates", r->duplicates);
        jw_member_u64(w, "suppressed", r->suppressed);
        jw_member_u64(w, "rejected", r->rejected);
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
                jw_member_u64(w, "rejected", r->rejected);
        else
                intake_counts(w, r, kept);
        jw_key(w, "errors");
        jw_array(w);
        if (why->field[0] != '\0') {
                jw_object(w);
                jw_member_text(w, "pointer", why->field);
                jw_member_text(w, "detail", why->detail);
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
        jw_member_u64(w, "evaluated", r->evaluated);
        if (classes > 0 && r->confusion != NULL) {
                jw_member_double(w, "accuracy", r->accuracy);
                jw_member_double(w, "log_loss", r->log_loss);
                member_confusion(w, r->confusion, classes);
        } else {
                jw_member_double(w, "mean_squared_error", r->mean_squared_error);
        }
        jw_member_u64(w, "generation", r->generation);
        jw_member_u64(w, "clean_constituents", r->clean_constituents);
        jw_member_u64(w, "rejected", r->rejected);
        jw_key(w, "errors");
        jw_array(w);
        intake_lines(w, r, false);
        jw_end_array(w);
        jw_end_object(w);
}
