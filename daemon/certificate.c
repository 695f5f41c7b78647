/* SPDX-License-Identifier: Apache-2.0
 * certificate.c: an erasure's certificate: the statement is made of the evidence and stored, and
 * its digest appended to the log, in the transaction that completes the erasure. It is signed when
 * it is asked for: the signature says no more than the log's does, and a key that was retired since
 * signs nothing any more. */
#include "lib/audit/certificate.h"

#include "daemon/erasure.h"
#include "daemon/state.h"
#include "daemon/views.h"
#include "daemon/witness.h"
#include "lib/audit/proof.h"
#include "lib/util/crash_point.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct gathered {
        struct certificate c;
        struct certificate_constituent *constituents; /* [c.count] */
        struct evidence_row *rows;                    /* [c.count] */
        uint8_t (**digests)[SHA256_BYTES];            /* [c.count] */
        char id[ULID_TEXT + 1];
        uint8_t forgotten_entry[SHA256_BYTES];
};

static void gathered_clear(struct gathered *g)
{
        for (uint32_t i = 0; g->digests != NULL && i < g->c.count; i++)
                free(g->digests[i]);
        free(g->digests);
        free(g->rows);
        free(g->constituents);
}

static struct certificate_constituent constituent(const struct erasure_affected *a,
                                                  const struct evidence_row *row,
                                                  const uint8_t (*digests)[SHA256_BYTES])
{
        return (struct certificate_constituent){.model = a->model_name,
                                                .shard = a->shard,
                                                .slice = a->slice,
                                                .records = a->records,
                                                .outcome = row->deleted ? CERTIFICATE_MODEL_DELETED
                                                           : row->slices != 0
                                                                   ? CERTIFICATE_RETRAINED
                                                                   : CERTIFICATE_NEVER_TRAINED,
                                                .first = row->first,
                                                .destroyed = row->destroyed,
                                                .digests = digests,
                                                .slices = row->slices,
                                                .file_hash = row->file_hash,
                                                .data_hash = row->data_hash,
                                                .retained = row->retained,
                                                .config_hash = row->config_hash,
                                                .retained_records = row->records,
                                                .trained_ms = row->trained_ms,
                                                .kernel = row->kernel};
}

/* Takes the evidence of every shard out of the store; what one certificate has no room for is
 * counted. */
static int gather(struct gathered *g, struct txn *t, const uint8_t id[ULID_BYTES],
                  const struct erasure_affected *affected, uint32_t count)
{
        uint32_t said = count < CERTIFICATE_CONSTITUENTS_MAX ? count : CERTIFICATE_CONSTITUENTS_MAX;
        int err = 0;
        g->constituents = calloc(said + 1, sizeof *g->constituents);
        g->rows = calloc(said + 1, sizeof *g->rows);
        g->digests = calloc(said + 1, sizeof *g->digests);
        if (g->constituents == NULL || g->rows == NULL || g->digests == NULL)
                return txn_fail(t, UL_NOMEM);
        g->c.count = said;
        g->c.left_out = count - said;
        g->c.constituents = g->constituents;
        for (uint32_t i = 0; i < count && err == 0; i++) {
                const struct erasure_affected *a = &affected[i];
                struct evidence_row row;
                uint8_t(*digests)[SHA256_BYTES] = NULL;
                err = t_evidence_get(t, id, a->model, a->shard, &row, &digests);
                if (err == 0)
                        err = t_evidence_del(t, id, a->model, a->shard);
                if (err == UL_NOT_FOUND) /* nothing had been trained on it */
                        err = 0;
                g->c.destroyed += row.destroyed;
                if (i >= said) {
                        free(digests);
                        continue;
                }
                g->rows[i] = row;
                g->digests[i] = digests;
                g->constituents[i] =
                        constituent(a, &g->rows[i], (const uint8_t(*)[SHA256_BYTES])digests);
        }
        return err;
}

/* SHA-256 of the entry's bytes; of one that was pruned meanwhile, what is left: its leaf hash. */
static int hash_entry(struct txn *t, uint64_t index, uint8_t out[SHA256_BYTES])
{
        struct buf entry = {0};
        int err = audit_get(t, index, &entry, out);
        if (err == 0)
                sha256(entry.data, entry.len, out);
        err = err == UL_GONE ? 0 : err;
        buf_free(&entry, false);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

static void fill(struct gathered *g, struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                 const struct erasure_row *row)
{
        struct certificate *c = &g->c;
        c->erasure = ulid_format(id, g->id);
        c->regulation = regulation_name(row->regulation);
        c->reference = row->reference;
        c->guarantee = "exact";
        c->software = "unlearnd " UNLEARND_VERSION;
        c->received_ms = row->received_ms;
        c->accepted_ms = row->accepted_ms;
        c->forgotten_ms = row->forgotten_ms;
        c->scrubbed_ms = row->scrubbed_ms;
        c->completed_ms = row->completed_ms;
        c->deadline_ms = row->deadline_ms;
        c->first_deadline_ms = row->first_deadline_ms;
        c->matched = row->matched;
        c->scope = row->scoped ? CERTIFICATE_NAMED_MODELS : CERTIFICATE_ALL_MODELS;
        c->origin = audit_origin(s->log);
        c->forgotten_index = row->audit_index;
        c->completed_index = audit_size(t);
        c->forgotten_entry = g->forgotten_entry;
}

static int append_completed(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                            const struct erasure_row *row, const struct erasure_affected *affected,
                            const struct certificate *c, const uint8_t digest[SHA256_BYTES])
{
        struct event ev;
        struct audit_keys keys = {.erasure = id, .reference = row->reference};
        const char **models = NULL;
        uint64_t index = 0;
        int err = affected_models(t, affected, row->affected_count, &models, &keys);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "erasure", c->erasure);
        jw_member_u64(&ev.w, "matched", row->matched);
        jw_member_text(&ev.w, "reference", row->reference);
        jw_member_text(&ev.w, "regulation", c->regulation);
        jw_member_text(&ev.w, "guarantee", c->guarantee);
        jw_member_u64(&ev.w, "constituents", (uint64_t)c->count + c->left_out);
        jw_member_u64(&ev.w, "checkpoints_destroyed", c->destroyed);
        jw_member_hex(&ev.w, "certificate", digest, SHA256_BYTES);
        err = event_append(&ev, s, t, CERTIFICATE_ENTRY_TYPE, "unlearnd", &keys, &index);
        free(models);
        assert(err != 0 || index == c->completed_index);
        return err;
}

int certificate_record(struct service *s, struct txn *t, const uint8_t id[ULID_BYTES],
                       const struct erasure_row *row, const struct erasure_affected *affected)
{
        struct gathered g = {0};
        struct buf statement = {0};
        uint8_t digest[SHA256_BYTES];
        int err = gather(&g, t, id, affected, row->affected_count);
        if (err == 0)
                err = hash_entry(t, row->audit_index, g.forgotten_entry);
        if (err != 0)
                goto out;
        fill(&g, s, t, id, row);
        certificate_write(&g.c, &statement);
        if (statement.failed) {
                err = txn_fail(t, UL_NOMEM);
                goto out;
        }
        sha256(statement.data, statement.len, digest);
        err = t_certificate_put(t, id, g.c.completed_index, statement.data, statement.len);
        CRASH_POINT("certificate.recorded");
        if (err == 0)
                err = append_completed(s, t, id, row, affected, &g.c, digest);
out:
        buf_free(&statement, false);
        gathered_clear(&g);
        return err;
}

/* --- reading --- */

static int find(struct txn *t, const uint8_t id[ULID_BYTES], uint64_t *index, struct buf *statement,
                struct errinfo *e)
{
        struct erasure_row row;
        int err = t_erasure_get(t, id, &row, NULL);
        if (err == UL_NOT_FOUND)
                return ul_fail(e, err, "there is no erasure of this id");
        if (err == 0 && row.state == ERASURE_REFUSED)
                return ul_fail(e, UL_CONFLICT,
                               "the erasure was refused: nothing was erased, and there is no "
                               "certificate");
        if (err == 0 && row.state != ERASURE_COMPLETED)
                return ul_fail(e, UL_CONFLICT,
                               "the erasure is not completed yet; its certificate is made then");
        if (err == 0)
                err = t_certificate_get(t, id, index, statement);
        return err == 0 ? 0 : ul_fail(e, err, "the certificate cannot be read");
}

int service_certificate(struct service *s, const uint8_t id[ULID_BYTES], struct buf *statement,
                        struct buf *envelope, struct errinfo *e)
{
        struct txn *t = NULL;
        uint64_t index;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = find(t, id, &index, statement, e);
        txn_abort(&t);
        if (err == 0 && envelope != NULL &&
            audit_envelope(s->log, CERTIFICATE_PAYLOAD_TYPE, statement->data, statement->len,
                           envelope) != 0)
                err = ul_fail(e, UL_NOMEM, "no memory for the certificate");
        return err;
}

/* The checkpoint that a proof of this entry is given under, and the size of its tree. */
static int proof_head(struct service *s, struct txn *t, uint64_t index, bool cosigned,
                      struct buf *note, uint64_t *size, struct errinfo *e)
{
        int err = cosigned ? witness_newest(s, t, note, size) : audit_checkpoint(t, note);
        if (!cosigned)
                *size = audit_size(t);
        if (cosigned && (err == UL_NOT_FOUND || (err == 0 && *size <= index)))
                return ul_fail(e, UL_CONFLICT,
                               "no witness has cosigned the log as far as this entry yet");
        return err == 0 ? 0 : ul_fail(e, err, "the audit log cannot be read");
}

int service_erasure_proof(struct service *s, const uint8_t id[ULID_BYTES], bool cosigned,
                          struct buf *out, struct errinfo *e)
{
        uint8_t hashes[AUDIT_PROOF_MAX][SHA256_BYTES];
        struct buf entry = {0}, note = {0};
        struct txn *t = NULL;
        uint64_t index = 0, size = 0;
        uint32_t count = 0;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = find(t, id, &index, NULL, e);
        if (err == 0) {
                err = audit_get(t, index, &entry, NULL);
                if (err == UL_GONE)
                        (void)ul_fail(e, err,
                                      "the log entry was pruned after its retention; a proof that "
                                      "was fetched before goes on to hold");
                else if (err != 0)
                        (void)ul_fail(e, err, "the audit log cannot be read");
        }
        if (err == 0)
                err = proof_head(s, t, index, cosigned, &note, &size, e);
        if (err == 0)
                err = audit_inclusion(t, index, size, hashes, &count, e);
        txn_abort(&t);
        if (err == 0)
                tlog_proof_write(index, entry.data, entry.len,
                                 (const uint8_t(*)[SHA256_BYTES])hashes, count, note.data, note.len,
                                 out);
        buf_free(&note, false);
        buf_free(&entry, false);
        return err == 0 && out->failed ? ul_fail(e, UL_NOMEM, "no memory for the proof") : err;
}
