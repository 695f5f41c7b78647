/* SPDX-License-Identifier: Apache-2.0
 * certificate.c: see certificate.h. One text for one erasure: its digest stands in the log, so
 * nothing here may depend on the clock or on what came after. */
#include "lib/audit/certificate.h"

#include "lib/audit/dsse.h"
#include "lib/audit/proof.h"
#include <assert.h>
#include <string.h>

#define STATEMENT_TYPE "https://in-toto.io/Statement/v1"

static const char *const outcomes[] = {[CERTIFICATE_RETRAINED] = "retrained",
                                       [CERTIFICATE_NEVER_TRAINED] = "never_trained",
                                       [CERTIFICATE_MODEL_DELETED] = "model_deleted"};

static const char *const scopes[] = {
        [CERTIFICATE_ALL_MODELS] = "all_models", [CERTIFICATE_NAMED_MODELS] = "named_models"};

/* --- writing --- */

static void member_hex(struct json_writer *w, const char *key, const uint8_t digest[SHA256_BYTES])
{
        jw_member_hex(w, key, digest, SHA256_BYTES);
}

static void write_subject(struct json_writer *w, const char *name, const uint8_t *digest)
{
        jw_object(w);
        jw_member_text(w, "name", name);
        jw_key(w, "digest");
        jw_object(w);
        member_hex(w, "sha256", digest);
        jw_end_object(w);
        jw_end_object(w);
}

/* in-toto wants one subject at least. */
static void write_subjects(struct json_writer *w, const struct certificate *c)
{
        struct buf name = {.max = 512};
        bool any = false;
        jw_array(w);
        for (uint32_t i = 0; i < c->count; i++) {
                const struct certificate_constituent *x = &c->constituents[i];
                if (x->outcome != CERTIFICATE_RETRAINED)
                        continue;
                buf_reset(&name, false);
                buf_printf(&name, "models/%s/shard-%03u/slice-%03u.ckpt", x->model, x->shard,
                           x->slices);
                buf_append(&name, "", 1);
                write_subject(w, name.failed ? x->model : (const char *)name.data, x->file_hash);
                any = true;
        }
        if (!any) {
                buf_reset(&name, false);
                buf_printf(&name, "log entry %llu", (unsigned long long)c->forgotten_index);
                buf_append(&name, "", 1);
                write_subject(w, name.failed ? "log entry" : (const char *)name.data,
                              c->forgotten_entry);
        }
        jw_end_array(w);
        buf_free(&name, false);
}

/* The digests one by one where there are few enough; over all of them in every case. */
static void write_destroyed(struct json_writer *w, const struct certificate_constituent *x,
                            bool all)
{
        uint8_t over[SHA256_BYTES];
        jw_key(w, "checkpoints_destroyed");
        jw_object(w);
        jw_member_u64(w, "count", x->destroyed);
        jw_key(w, "first_slice");
        if (x->destroyed > 0)
                jw_u64(w, x->first);
        else
                jw_null(w);
        sha256(x->digests, (size_t)x->destroyed * SHA256_BYTES, over);
        member_hex(w, "digests_sha256", over);
        jw_key(w, "digests");
        if (!all) {
                jw_null(w);
        } else {
                jw_array(w);
                for (uint32_t i = 0; i < x->destroyed; i++)
                        jw_hex(w, x->digests[i], SHA256_BYTES);
                jw_end_array(w);
        }
        jw_end_object(w);
}

static void write_before(struct json_writer *w, const struct certificate_constituent *x)
{
        jw_key(w, "before");
        if (x->destroyed == 0) {
                jw_null(w);
                return;
        }
        jw_object(w);
        jw_member_u64(w, "slices", (uint64_t)x->first + x->destroyed - 1);
        member_hex(w, "sha256", x->digests[x->destroyed - 1]);
        jw_end_object(w);
}

static void write_after(struct json_writer *w, const struct certificate_constituent *x)
{
        jw_key(w, "after");
        if (x->outcome != CERTIFICATE_RETRAINED) {
                jw_null(w);
                return;
        }
        jw_object(w);
        jw_member_u64(w, "slices", x->slices);
        member_hex(w, "sha256", x->file_hash);
        member_hex(w, "parameters_sha256", x->data_hash);
        member_hex(w, "config_sha256", x->config_hash);
        jw_member_text(w, "kernel", x->kernel);
        jw_key(w, "retained");
        jw_object(w);
        jw_member_u64(w, "records", x->retained_records);
        member_hex(w, "sha256", x->retained);
        jw_end_object(w);
        jw_member_time(w, "trained_at", x->trained_ms);
        jw_end_object(w);
}

static void write_constituents(struct json_writer *w, const struct certificate *c)
{
        jw_key(w, "constituents");
        jw_array(w);
        for (uint32_t i = 0; i < c->count; i++) {
                const struct certificate_constituent *x = &c->constituents[i];
                jw_object(w);
                jw_member_text(w, "model", x->model);
                jw_member_u64(w, "shard", x->shard);
                jw_member_u64(w, "slice", x->slice);
                jw_member_u64(w, "records", x->records);
                jw_member_text(w, "outcome", outcomes[x->outcome]);
                write_before(w, x);
                write_destroyed(w, x, c->destroyed <= CERTIFICATE_DIGESTS_MAX);
                write_after(w, x);
                jw_end_object(w);
        }
        jw_end_array(w);
        jw_member_u64(w, "constituents_left_out", c->left_out);
}

static void write_predicate(struct json_writer *w, const struct certificate *c)
{
        jw_object(w);
        jw_member_text(w, "erasure", c->erasure);
        jw_member_text(w, "regulation", c->regulation);
        jw_member_text(w, "reference", c->reference);
        jw_member_time(w, "received_at", c->received_ms);
        jw_member_time(w, "accepted_at", c->accepted_ms);
        jw_member_time(w, "forgotten_at", c->forgotten_ms);
        jw_member_time(w, "scrubbed_at", c->scrubbed_ms);
        jw_member_time(w, "completed_at", c->completed_ms);
        jw_member_time(w, "deadline", c->deadline_ms);
        jw_member_time(w, "first_deadline", c->first_deadline_ms);
        jw_member_bool(w, "overdue", c->completed_ms > c->deadline_ms);
        jw_member_u64(w, "matched", c->matched);
        jw_member_text(w, "scope", scopes[c->scope]);
        jw_member_text(w, "guarantee", c->guarantee);
        write_constituents(w, c);
        jw_member_u64(w, "checkpoints_destroyed", c->destroyed);
        jw_member_u64(w, "log_index", c->completed_index);
        jw_key(w, "log");
        jw_object(w);
        jw_member_text(w, "origin", c->origin);
        jw_member_u64(w, "forgotten_index", c->forgotten_index);
        jw_member_u64(w, "completed_index", c->completed_index);
        jw_end_object(w);
        jw_member_text(w, "software", c->software);
        jw_end_object(w);
}

void certificate_write(const struct certificate *c, struct buf *out)
{
        struct json_writer w;
        jw_init(&w, out);
        jw_object(&w);
        jw_member_text(&w, "_type", STATEMENT_TYPE);
        jw_key(&w, "subject");
        write_subjects(&w, c);
        jw_member_text(&w, "predicateType", CERTIFICATE_PREDICATE_TYPE);
        jw_key(&w, "predicate");
        write_predicate(&w, c);
        jw_end_object(&w);
}

/* --- checking --- */

static bool is_text(const struct json *object, const char *key, const char *wanted)
{
        const char *text = object != NULL ? json_string(json_get(object, key)) : NULL;
        return text != NULL && strcmp(text, wanted) == 0;
}

static int check_statement(struct certificate_read *c, const struct note_key *key,
                           struct errinfo *e)
{
        static const char field[] = "statement";
        int64_t index = 0;
        if (json_type_of(c->doc) != JSON_OBJECT || !is_text(c->doc, "_type", STATEMENT_TYPE))
                return ul_fail_field(e, UL_SYNTAX, field, "it is not an in-toto Statement v1");
        if (!is_text(c->doc, "predicateType", CERTIFICATE_PREDICATE_TYPE))
                return ul_fail_field(e, UL_UNSUPPORTED, field,
                                     "it is not a certificate of an erasure, version 1");
        c->predicate = json_get(c->doc, "predicate");
        if (c->predicate == NULL || json_type_of(c->predicate) != JSON_OBJECT)
                return ul_fail_field(e, UL_SYNTAX, field, "it has no predicate");
        c->erasure = json_string(json_get(c->predicate, "erasure"));
        const struct json *log = json_get(c->predicate, "log");
        if (c->erasure == NULL || log == NULL || json_type_of(log) != JSON_OBJECT ||
            !json_integer(json_get(c->predicate, "log_index"), 0, INT64_MAX, &index))
                return ul_fail_field(e, UL_SYNTAX, field,
                                     "it does not say which erasure and which log it is of");
        c->log_index = (uint64_t)index;
        if (key != NULL && !is_text(log, "origin", key->name))
                return ul_fail_field(e, UL_CORRUPT, field, "it is of another log than the key");
        return 0;
}

int certificate_open(const void *envelope, size_t len, const struct note_key *key,
                     struct certificate_read *out, struct errinfo *e)
{
        struct errinfo why = {0};
        *out = (struct certificate_read){0};
        int err = dsse_verify(envelope, len, key, CERTIFICATE_PAYLOAD_TYPE, &out->statement, &why);
        if (err != 0)
                return ul_fail_field(e, err, "signature", "%s", why.detail);
        sha256(out->statement.data, out->statement.len, out->digest);
        err = json_parse((const char *)out->statement.data, out->statement.len, &out->doc, &why);
        if (err != 0)
                return ul_fail_field(e, err, "statement", "%s", why.detail);
        return check_statement(out, key, e);
}

void certificate_clear(struct certificate_read *c)
{
        buf_free(&c->statement, false);
        json_free(&c->doc);
        *c = (struct certificate_read){0};
}

/* The entry {"v":1,"index":N,...,"type":"erasure.completed",...,"data":{...}} */
static int check_entry(const struct certificate_read *c, const struct json *entry,
                       const struct tlog_proof *p, struct errinfo *e)
{
        static const char field[] = "entry";
        char digest[2 * SHA256_BYTES + 1];
        int64_t index = -1;
        const struct json *data = json_get(entry, "data");
        if (p->index != c->log_index ||
            !json_integer(json_get(entry, "index"), 0, INT64_MAX, &index) ||
            (uint64_t)index != p->index)
                return ul_fail_field(e, UL_CORRUPT, field,
                                     "the proof is of another entry than the certificate names");
        if (!is_text(entry, "type", CERTIFICATE_ENTRY_TYPE) || data == NULL ||
            json_type_of(data) != JSON_OBJECT || !is_text(data, "erasure", c->erasure))
                return ul_fail_field(e, UL_CORRUPT, field,
                                     "the entry does not record the end of this erasure");
        if (!is_text(data, "certificate", hex_encode(c->digest, SHA256_BYTES, digest)))
                return ul_fail_field(e, UL_CORRUPT, field,
                                     "the log records another certificate for this erasure");
        return 0;
}

int certificate_check_proof(const struct certificate_read *c, const void *proof, size_t len,
                            const struct note_key *key, struct checkpoint *head, struct errinfo *e)
{
        struct tlog_proof p;
        struct json *entry = NULL;
        int err = tlog_proof_verify(proof, len, key, &p, e);
        if (err == 0)
                err = json_parse((const char *)p.entry.data, p.entry.len, &entry, e);
        if (err == 0 && json_type_of(entry) != JSON_OBJECT)
                err = ul_fail_field(e, UL_CORRUPT, "entry", "the entry is not a log entry");
        if (err == 0)
                err = check_entry(c, entry, &p, e);
        *head = p.head;
        json_free(&entry);
        tlog_proof_clear(&p);
        return err;
}
