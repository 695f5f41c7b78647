/* SPDX-License-Identifier: Apache-2.0
 * render.h: the daemon's views as the JSON, CSV and problem texts that clients see, in the shapes
 * of CONTRACT.md. Pure: views in, text out; no requests, no service calls. Every time that has not
 * come yet and every value that is not there is null; no member is ever left out.
 *
 * Those that take a writer write one whole value. */
#ifndef UNLEARND_API_RENDER_H
#define UNLEARND_API_RENDER_H

#include "daemon/service.h"
#include "lib/util/json.h"

void render_model(struct json_writer *w, const struct model_view *v);
void render_shard(struct json_writer *w, const struct shard_view *v);
void render_record(struct json_writer *w, const struct record_view *v);
void render_job(struct json_writer *w, const struct job_view *v);

void render_erasure(struct json_writer *w, const struct erasure_view *v);
void render_preview(struct json_writer *w, const struct erasure_view *v); /* of a dry run */
void render_suppression(struct json_writer *w, const struct suppression_view *v);

/* kept: false where an atomic upload left nothing, so that nothing counts as accepted. */
void render_intake(struct json_writer *w, const struct intake_result *r, bool kept);
/* classes: of the model, 0 for a regression. */
void render_evaluation(struct json_writer *w, const struct intake_result *r, uint32_t classes);
/* The members that the problem document of a failed intake has beside its own: the counts so far
 * (not for an evaluation) and errors[], each with the problem's `detail` and the upload's `line`
 * and `reason`; `why` is the failure itself and comes first where it names a field. */
void render_intake_problem(struct json_writer *w, const struct intake_result *r, bool kept,
                           bool evaluate, const struct errinfo *why);

/* The entry's own members and leaf_hash. What stands before ,"leaf_hash" and a closing brace are
 * the bytes that were hashed. */
void render_audit_entry(struct json_writer *w, const struct audit_view *v);
/* RFC 4180, with its line end. UL_CORRUPT for an entry that is not of the log's form. */
extern const char render_audit_csv_header[];
int render_audit_csv(struct buf *out, const struct audit_view *v);
void render_inclusion(struct json_writer *w, const struct audit_proof *p);
void render_consistency(struct json_writer *w, uint64_t from, uint64_t to,
                        const struct audit_proof *p);

#endif
