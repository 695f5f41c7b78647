/* SPDX-License-Identifier: Apache-2.0
 * ledger_complete.c: makes a ledger that is new, or that lost something, whole again from what the
 * database holds: the suppressions (each names the erasure or the import that made it) and the
 * lifts (each with the suppressions that it took away). An erasure whose every person was erased
 * again later is told by the later one. It must not know how the ledger's lines look. */
#include "daemon/erasure_ledger.h"
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP_BYTES = 1024 * 1024 };

/* One suppression there is or was, or (lift) the end of them for a pseudonym. */
struct fact {
        uint8_t id[ULID_BYTES];    /* of the erasure, of the import, or of the lift */
        uint8_t order[ULID_BYTES]; /* of when it took effect */
        bool lift, imported;
        uint8_t erasure[ULID_BYTES]; /* imported: for which it was made elsewhere */
        uint32_t scope, kind;
        uint8_t pseudonym[PSEUDONYM_BYTES];
        int64_t time_ms;
};
struct facts {
        struct txn *t;
        struct fact *all; /* [count] */
        size_t count, cap;
        uint8_t (*told)[ULID_BYTES]; /* [told_count], sorted: what the ledger has */
        size_t told_count, told_cap;
};

static int by_id(const void *a, const void *b)
{
        return memcmp(a, b, ULID_BYTES);
}

static int by_fact(const void *a, const void *b)
{
        const struct fact *x = a, *y = b;
        int order = memcmp(x->order, y->order, ULID_BYTES);
        if (order == 0)
                order = (x->kind > y->kind) - (x->kind < y->kind);
        if (order == 0)
                order = memcmp(x->pseudonym, y->pseudonym, PSEUDONYM_BYTES);
        return order != 0 ? order : (x->scope > y->scope) - (x->scope < y->scope);
}

/* --- gathering --- */

static int note_told(void *arg, const struct ledger_entry *x)
{
        struct facts *f = arg;
        if (f->told_count == f->told_cap) {
                size_t cap = f->told_cap == 0 ? 1024 : f->told_cap * 2;
                void *grown = realloc(f->told, cap * sizeof *f->told);
                if (grown == NULL)
                        return UL_NOMEM;
                f->told = grown;
                f->told_cap = cap;
        }
        memcpy(f->told[f->told_count++], x->id, ULID_BYTES);
        return 0;
}

static int add(struct facts *f, const struct fact *x)
{
        if (f->told_count > 0 &&
            bsearch(x->id, f->told, f->told_count, sizeof *f->told, by_id) != NULL)
                return 0;
        if (f->count == f->cap) {
                size_t cap = f->cap == 0 ? 1024 : f->cap * 2;
                struct fact *grown = realloc(f->all, cap * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                f->all = grown;
                f->cap = cap;
        }
        f->all[f->count++] = *x;
        return 0;
}

static int add_suppression(void *arg, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t scope,
                           uint32_t kind, const struct suppression_row *row)
{
        struct facts *f = arg;
        struct fact x = {.scope = scope, .kind = kind, .time_ms = row->since_ms};
        int err = suppression_order(f->t, row, x.order);
        if (err != 0)
                return err;
        x.imported = suppression_imported(row);
        memcpy(x.id, x.imported ? row->import : row->erasure, ULID_BYTES);
        memcpy(x.erasure, row->erasure, ULID_BYTES);
        memcpy(x.pseudonym, pseudonym, PSEUDONYM_BYTES);
        return add(f, &x);
}

static int add_lift(void *arg, const uint8_t id[ULID_BYTES], const struct lift_row *row,
                    const struct lift_entry *entries)
{
        struct fact x = {.lift = true, .time_ms = row->lifted_ms};
        memcpy(x.id, id, ULID_BYTES);
        memcpy(x.order, id, ULID_BYTES);
        memcpy(x.pseudonym, row->pseudonym, PSEUDONYM_BYTES);
        int err = add(arg, &x);
        for (uint32_t i = 0; i < row->entry_count && err == 0; i++)
                err = add_suppression(arg, row->pseudonym, entries[i].model, entries[i].kind,
                                      &entries[i].row);
        return err;
}

static int gather(struct service *s, struct txn *t, struct facts *f, struct errinfo *e)
{
        int err = ledger_each(s->ledger, NULL, note_told, f, e);
        if (f->told_count > 0)
                qsort(f->told, f->told_count, sizeof *f->told, by_id);
        if (err == 0)
                err = t_suppression_each(t, NULL, 0, 0, add_suppression, f);
        if (err == 0)
                err = t_lift_each(t, add_lift, f);
        if (f->count > 0)
                qsort(f->all, f->count, sizeof *f->all, by_fact);
        return err;
}

/* --- writing --- */

static int scope_name(struct txn *t, uint32_t scope, char out[MODEL_NAME_MAX + 1])
{
        struct buf name = {0};
        char key[32];
        (void)snprintf(key, sizeof key, "scope_name/%u", scope);
        int err = t_blob_get(t, key, &name);
        if (err == 0 && name.len <= MODEL_NAME_MAX) {
                memcpy(out, name.data, name.len);
                out[name.len] = '\0';
        } else {
                err = UL_CORRUPT;
        }
        buf_free(&name, false);
        return err;
}

static int add_model(struct txn *t, struct ledger_entry *x, uint32_t scope)
{
        char name[MODEL_NAME_MAX + 1];
        int err = scope_name(t, scope, name);
        for (uint32_t i = 0; i < x->model_count && err == 0; i++)
                if (strcmp(x->models[i], name) == 0)
                        return 0;
        if (err == 0)
                memcpy(x->models[x->model_count++], name, sizeof name);
        return err;
}

/* The facts of one erasure as the entry that made them: its subjects share their models. */
static int entry_of(struct txn *t, const struct fact *f, size_t n, struct ledger_entry *x)
{
        bool everywhere = false;
        int err = 0;
        for (size_t i = 0; i < n && err == 0; i++) {
                if (f[i].kind == SUPPRESS_RECORD) {
                        struct ledger_record *r = &x->records[x->record_count++];
                        err = scope_name(t, f[i].scope, r->model);
                        memcpy(r->pseudonym, f[i].pseudonym, PSEUDONYM_BYTES);
                        continue;
                }
                if (i == 0 || memcmp(f[i].pseudonym, f[i - 1].pseudonym, PSEUDONYM_BYTES) != 0)
                        memcpy(x->subjects[x->subject_count++], f[i].pseudonym, PSEUDONYM_BYTES);
                if (f[i].scope == 0)
                        everywhere = true;
                else
                        err = add_model(t, x, f[i].scope);
        }
        if (everywhere)
                x->model_count = 0;
        return err;
}

static int write_erasure(struct txn *t, const struct fact *f, size_t n, struct buf *lines)
{
        struct ledger_entry x = {.kind = LEDGER_ERASURE, .time_ms = f->time_ms};
        struct erasure_row row;
        memcpy(x.id, f->id, ULID_BYTES);
        x.models = calloc(n, sizeof *x.models);
        x.subjects = calloc(n, sizeof *x.subjects);
        x.records = calloc(n, sizeof *x.records);
        int err = x.models == NULL || x.subjects == NULL || x.records == NULL
                          ? UL_NOMEM
                          : t_erasure_get(t, f->id, &row, NULL);
        if (err == 0) {
                memcpy(x.executed, row.executed, ULID_BYTES);
                x.time_ms = row.accepted_ms;
                x.received_ms = row.received_ms;
                x.deadline_ms = row.deadline_ms;
                x.regulation = row.regulation;
                memcpy(x.reference, row.reference, sizeof x.reference);
                x.reference[REFERENCE_MAX] = '\0';
                err = entry_of(t, f, n, &x);
        }
        if (err == 0)
                ledger_entry_write(lines, &x);
        ledger_entry_clear(&x);
        return err;
}

/* One step of an import again. When it was is in its id. */
static int write_import(struct txn *t, const struct fact *f, size_t n, struct buf *lines)
{
        struct ledger_entry x = {.kind = LEDGER_IMPORT};
        int err = 0;
        memcpy(x.id, f->id, ULID_BYTES);
        for (size_t i = 0; i < 6; i++) /* the first 48 bits of a ULID */
                x.time_ms = x.time_ms << 8 | f->id[i];
        x.suppressions = calloc(n, sizeof *x.suppressions);
        if (x.suppressions == NULL)
                return UL_NOMEM;
        for (size_t i = 0; i < n && err == 0; i++) {
                struct ledger_suppression *s = &x.suppressions[x.suppression_count++];
                s->record = f[i].kind == SUPPRESS_RECORD;
                s->since_ms = f[i].time_ms;
                memcpy(s->pseudonym, f[i].pseudonym, PSEUDONYM_BYTES);
                memcpy(s->erasure, f[i].erasure, ULID_BYTES);
                err = f[i].scope != 0 ? scope_name(t, f[i].scope, s->model) : 0;
        }
        if (err == 0)
                ledger_entry_write(lines, &x);
        ledger_entry_clear(&x);
        return err;
}

static int write_lift(const struct fact *f, struct buf *lines)
{
        struct ledger_entry x = {.kind = LEDGER_LIFT, .time_ms = f->time_ms};
        memcpy(x.id, f->id, ULID_BYTES);
        memcpy(x.pseudonym, f->pseudonym, PSEUDONYM_BYTES);
        ledger_entry_write(lines, &x);
        return 0;
}

static int write_all(struct service *s, struct txn *t, const struct facts *f, uint32_t *count,
                     struct errinfo *e)
{
        struct buf lines = {0};
        int err = 0;
        for (size_t i = 0, n; i < f->count && err == 0; i += n) {
                for (n = 1; i + n < f->count && by_id(f->all[i].id, f->all[i + n].id) == 0;)
                        n++;
                const struct fact *x = &f->all[i];
                err = x->lift       ? write_lift(x, &lines)
                      : x->imported ? write_import(t, x, n, &lines)
                                    : write_erasure(t, x, n, &lines);
                ++*count;
                if (err == 0 && lines.failed)
                        err = UL_NOMEM;
                if (err == 0 && (lines.len > GROUP_BYTES || i + n == f->count)) {
                        err = ledger_append(s->ledger, &lines, e);
                        buf_reset(&lines, false);
                }
        }
        buf_free(&lines, false);
        return err;
}

int ledger_complete(struct service *s, uint32_t *count, struct errinfo *e)
{
        struct facts f = {0};
        struct txn *t = NULL;
        *count = 0;
        int err = store_read(s->store, &t, e);
        f.t = t;
        if (err == 0)
                err = gather(s, t, &f, e);
        if (err == 0)
                err = write_all(s, t, &f, count, e);
        if (t != NULL)
                txn_abort(&t);
        free(f.all);
        free(f.told);
        if (err != 0 && e->code == 0)
                (void)ul_fail(e, err, "the erasure ledger cannot be completed from the database");
        return err;
}
