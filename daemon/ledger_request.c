/* SPDX-License-Identifier: Apache-2.0
 * ledger_request.c: between an erasure's request and the entry that remembers it: a line of the
 * erasure ledger, or the same text kept in the database while the erasure is held. It must not know
 * where the text is. */
#include "daemon/erasure_ledger.h"
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>

int ledger_entry_of(const struct erase_request *r, const uint8_t id[ULID_BYTES],
                    struct ledger_entry *out)
{
        *out = (struct ledger_entry){.kind = LEDGER_ERASURE,
                                     .regulation = (uint32_t)r->regulation,
                                     .models = r->models,
                                     .model_count = r->model_count,
                                     .subjects = r->subjects,
                                     .subject_count = r->subject_count,
                                     .record_count = r->record_count};
        memcpy(out->id, id, ULID_BYTES);
        memcpy(out->executed, id, ULID_BYTES);
        memcpy(out->reference, r->reference, sizeof out->reference);
        out->records = calloc(r->record_count + 1, sizeof *out->records);
        if (out->records == NULL)
                return UL_NOMEM;
        for (uint32_t i = 0; i < r->record_count; i++) {
                memcpy(out->records[i].model, r->records[i].model, sizeof out->records[i].model);
                memcpy(out->records[i].pseudonym, r->records[i].pseudonym, PSEUDONYM_BYTES);
        }
        return 0;
}

int erasure_order(struct txn *t, const uint8_t id[ULID_BYTES], uint8_t out[ULID_BYTES])
{
        struct erasure_row row;
        int err = t_erasure_get(t, id, &row, NULL);
        memcpy(out, err == 0 ? row.executed : id, ULID_BYTES);
        return err == UL_NOT_FOUND ? 0 : err;
}

int suppression_order(struct txn *t, const struct suppression_row *row, uint8_t out[ULID_BYTES])
{
        if (!suppression_imported(row))
                return erasure_order(t, row->erasure, out);
        memcpy(out, row->import, ULID_BYTES);
        return 0;
}

static bool model_exists(struct service *s, const char *name)
{
        struct model *m = registry_find(s, name);
        model_unref(m);
        return m != NULL;
}

/* A model of this name is not there (yet, or any more): whoever loads one finds them suppressed. */
static int suppress_by_name(struct txn *t, const char *model, enum suppression_kind kind,
                            const uint8_t pseudonym[PSEUDONYM_BYTES], const struct ledger_entry *x)
{
        struct suppression_row row = {.since_ms = x->time_ms};
        uint32_t scope = 0;
        memcpy(row.erasure, x->id, ULID_BYTES);
        int err = model_scope(t, model, true, &scope);
        return err == 0 ? t_suppression_put(t, pseudonym, scope, kind, &row) : err;
}

static int add_records(struct service *s, struct txn *t, const struct ledger_entry *x,
                       struct erase_request *r)
{
        int err = 0;
        for (uint32_t i = 0; i < x->record_count && err == 0; i++) {
                const struct ledger_record *rec = &x->records[i];
                if (!model_exists(s, rec->model)) {
                        err = suppress_by_name(t, rec->model, SUPPRESS_RECORD, rec->pseudonym, x);
                        continue;
                }
                struct erase_record *to = &r->records[r->record_count++];
                memcpy(to->model, rec->model, sizeof to->model);
                memcpy(to->pseudonym, rec->pseudonym, PSEUDONYM_BYTES);
        }
        return err;
}

/* The models of the entry that exist, into the request; the others' suppressions. */
static int scope_request(struct service *s, struct txn *t, const struct ledger_entry *x,
                         struct erase_request *r)
{
        int err = 0;
        for (uint32_t i = 0; i < x->model_count && err == 0; i++) {
                if (model_exists(s, x->models[i])) {
                        memcpy(r->models[r->model_count++], x->models[i], sizeof x->models[i]);
                        continue;
                }
                for (uint32_t k = 0; k < x->subject_count && err == 0; k++)
                        err = suppress_by_name(t, x->models[i], SUPPRESS_SUBJECT, x->subjects[k],
                                               x);
        }
        /* No model in the request would mean all of them. */
        bool nowhere = x->model_count > 0 && r->model_count == 0;
        for (uint32_t i = 0; i < x->subject_count && !nowhere; i++)
                memcpy(r->subjects[r->subject_count++], x->subjects[i], PSEUDONYM_BYTES);
        return err == 0 ? add_records(s, t, x, r) : err;
}

int ledger_request(struct service *s, struct txn *t, const struct ledger_entry *x,
                   struct erase_request *out, struct errinfo *e)
{
        *out = (struct erase_request){.regulation = (enum erase_regulation)x->regulation,
                                      .received_ms = x->received_ms,
                                      .deadline_ms = x->deadline_ms};
        if (x->regulation > ERASE_OTHER)
                return ul_fail(e, UL_CORRUPT, "the erasure ledger names an unknown regulation");
        memcpy(out->reference, x->reference, sizeof out->reference);
        out->models = calloc(x->model_count + 1, sizeof *out->models);
        out->subjects = calloc(x->subject_count + 1, sizeof *out->subjects);
        out->records = calloc(x->record_count + 1, sizeof *out->records);
        int err = UL_NOMEM;
        if (out->models != NULL && out->subjects != NULL && out->records != NULL)
                err = scope_request(s, t, x, out);
        if (err != 0) {
                erase_request_clear(out);
                (void)ul_fail(e, err, "what the erasure asks for cannot be read");
        }
        return err;
}
