/* SPDX-License-Identifier: Apache-2.0
 * reads.c: jobs, erasures and the audit log as the API reads them: one short read
 * transaction a call, on the caller's thread. */
#include "daemon/state.h"
#include "daemon/views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- jobs --- */

int service_job_get(struct service *s, const uint8_t id[ULID_BYTES], struct job_view *out,
                    struct errinfo *e)
{
        struct txn *t = NULL;
        struct job_row row;
        struct buf result = {0};
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = t_job_get(t, id, &row, &result);
        if (err == 0)
                err = view_job(s, t, id, &row, (const char *)result.data, result.len, out);
        if (err != 0)
                (void)ul_fail(e, err,
                              err == UL_NOT_FOUND ? "there is no job of this id"
                                                  : "the job cannot be read");
        buf_free(&result, false);
        txn_abort(&t);
        return err;
}

struct job_walk {
        struct service *s;
        struct txn *t;
        service_job_fn fn;
        void *arg;
};

static int show_job(void *arg, const uint8_t id[ULID_BYTES], const struct job_row *row,
                    const char *result, size_t result_len)
{
        struct job_walk *w = arg;
        struct job_view view;
        int err = view_job(w->s, w->t, id, row, result, result_len, &view);
        if (err != 0)
                return err;
        err = w->fn(w->arg, &view);
        job_view_clear(&view);
        return err;
}

int service_job_list(struct service *s, const uint8_t *before, service_job_fn fn, void *arg,
                     struct errinfo *e)
{
        struct job_walk w = {.s = s, .fn = fn, .arg = arg};
        int err = told_read(s, &w.t, e);
        if (err != 0)
                return err;
        err = t_job_each_desc(w.t, before, show_job, &w);
        txn_abort(&w.t);
        return err < 0 ? ul_fail(e, err, "the jobs cannot be read") : 0;
}

/* --- erasures --- */

int service_erasure_get(struct service *s, const uint8_t id[ULID_BYTES], struct erasure_view *out,
                        struct errinfo *e)
{
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = view_erasure(s, t, id, out);
        if (err != 0)
                (void)ul_fail(e, err,
                              err == UL_NOT_FOUND ? "there is no erasure of this id"
                                                  : "the erasure cannot be read");
        txn_abort(&t);
        return err;
}

enum { ERASURE_SCAN_MAX = 4096 }; /* rows looked at in one read transaction */

struct erasure_walk {
        struct txn *t;
        const struct erasure_filter *f;
        service_erasure_fn fn;
        void *arg;
        uint32_t looked;
        uint8_t last[ULID_BYTES]; /* that was looked at */
        bool cut;                 /* there are more */
};

static bool touches(const struct erasure_row *row, const struct erasure_affected *affected,
                    const char *model)
{
        for (uint32_t i = 0; i < row->affected_count; i++)
                if (strcmp(affected[i].model_name, model) == 0)
                        return true;
        return false;
}

static bool wanted(const struct erasure_filter *f, const struct erasure_row *row,
                   const struct erasure_affected *affected)
{
        return (f->since_ms == 0 || row->accepted_ms >= f->since_ms) &&
               (f->until_ms == 0 || row->accepted_ms <= f->until_ms) &&
               (f->state == NULL || strcmp(f->state, erasure_state_name(row->state)) == 0) &&
               (f->overdue < 0 || (f->overdue != 0) == erasure_overdue(row)) &&
               (f->model == NULL || touches(row, affected, f->model));
}

static int show_erasure(void *arg, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                        const struct erasure_affected *affected)
{
        struct erasure_walk *w = arg;
        struct erasure_view v;
        if (w->looked == ERASURE_SCAN_MAX) {
                w->cut = true;
                return 1;
        }
        w->looked++;
        memcpy(w->last, id, ULID_BYTES);
        if (!wanted(w->f, row, affected))
                return 0;
        int err = view_erasure_row(w->t, id, row, affected, &v);
        if (err != 0)
                return err;
        err = w->fn(w->arg, &v);
        erasure_view_clear(&v);
        return err;
}

int service_erasure_list(struct service *s, const struct erasure_filter *f, const uint8_t *before,
                         service_erasure_fn fn, void *arg, uint8_t next[ULID_BYTES], bool *more,
                         struct errinfo *e)
{
        struct erasure_walk w = {.f = f, .fn = fn, .arg = arg};
        *more = false;
        int err = told_read(s, &w.t, e);
        if (err != 0)
                return err;
        err = t_erasure_each_desc(w.t, before, show_erasure, &w);
        txn_abort(&w.t);
        *more = w.cut;
        memcpy(next, w.last, ULID_BYTES);
        return err < 0 ? ul_fail(e, err, "the erasures cannot be read") : 0;
}

/* --- audit --- */

enum { AUDIT_SCAN_MAX = 4096 }; /* entries looked at in one read transaction */

struct audit_walk {
        service_audit_fn fn;
        void *arg;
};

static int show_entry(void *arg, uint64_t index, const char *entry, size_t len,
                      const uint8_t leaf_hash[SHA256_BYTES])
{
        struct audit_walk *w = arg;
        struct audit_view v = {.index = index, .entry = entry, .entry_len = len};
        memcpy(v.leaf_hash, leaf_hash, SHA256_BYTES);
        return w->fn(w->arg, &v);
}

int service_audit_query(struct service *s, const struct audit_query *q, service_audit_fn fn,
                        void *arg, uint64_t *next, struct errinfo *e)
{
        struct audit_filter f = {.type = q->type,
                                 .model = q->model,
                                 .reference = q->reference,
                                 .erasure = q->erasure,
                                 .subject = q->subject,
                                 .record = q->record,
                                 .since_ms = q->since_ms,
                                 .until_ms = q->until_ms,
                                 .descending = q->descending,
                                 .from = q->from};
        struct audit_walk w = {.fn = fn, .arg = arg};
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = audit_query(t, &f, AUDIT_SCAN_MAX, show_entry, &w, next);
        txn_abort(&t);
        return err < 0 ? ul_fail(e, err, "the audit log cannot be read") : 0;
}

int service_audit_get(struct service *s, uint64_t index, service_audit_fn fn, void *arg,
                      struct errinfo *e)
{
        struct buf entry = {0};
        struct txn *t = NULL;
        struct audit_view v = {.index = index};
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = audit_get(t, index, &entry, v.leaf_hash);
        txn_abort(&t);
        if (err == 0) {
                v.entry = (const char *)entry.data;
                v.entry_len = entry.len;
                (void)fn(arg, &v);
        } else if (err == UL_GONE) {
                char hex[2 * SHA256_BYTES + 1];
                (void)ul_fail(e, err,
                              "the entry was pruned after its retention; its leaf hash is %s, and "
                              "its proof holds",
                              hex_encode(v.leaf_hash, SHA256_BYTES, hex));
        } else {
                (void)ul_fail(e, err,
                              err == UL_NOT_FOUND ? "the log has no entry of this index"
                                                  : "the audit log cannot be read");
        }
        buf_free(&entry, false);
        return err;
}

/* The latest checkpoint, and the size that a proof is for: that of the checkpoint where none is
 * asked for. */
static int proof_begin(struct service *s, struct txn **t, struct audit_proof *out,
                       struct errinfo *e)
{
        *out = (struct audit_proof){0};
        int err = told_read(s, t, e);
        if (err != 0)
                return err;
        err = audit_checkpoint(*t, &out->checkpoint);
        if (err == UL_NOT_FOUND)
                return ul_fail(e, UL_NOT_FOUND, "the log is empty");
        return err != 0 ? ul_fail(e, err, "the checkpoint cannot be read") : 0;
}

int service_audit_inclusion(struct service *s, uint64_t index, uint64_t size,
                            struct audit_proof *out, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = proof_begin(s, &t, out, e);
        if (err == 0) {
                out->index = index;
                out->size = size != 0 ? size : audit_size(t);
                err = audit_get(t, index, NULL, out->leaf_hash);
                if (err == UL_NOT_FOUND)
                        (void)ul_fail(e, err, "the log has no entry of this index");
        }
        if (err == 0)
                err = audit_inclusion(t, index, out->size, out->hashes, &out->count, e);
        if (err == 0)
                err = audit_root(t, out->size, out->root, e);
        if (t != NULL)
                txn_abort(&t);
        if (err != 0)
                audit_proof_clear(out);
        return err;
}

int service_audit_consistency(struct service *s, uint64_t from, uint64_t to,
                              struct audit_proof *out, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = proof_begin(s, &t, out, e);
        if (err == 0) {
                out->index = from;
                out->size = to != 0 ? to : audit_size(t);
                err = audit_consistency(t, from, out->size, out->hashes, &out->count, e);
        }
        if (err == 0)
                err = audit_root(t, out->size, out->root, e);
        if (t != NULL)
                txn_abort(&t);
        if (err != 0)
                audit_proof_clear(out);
        return err;
}

void audit_proof_clear(struct audit_proof *p)
{
        buf_free(&p->checkpoint, false);
        *p = (struct audit_proof){0};
}

int service_audit_checkpoint(struct service *s, struct buf *out, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = audit_checkpoint(t, out);
        txn_abort(&t);
        return err == 0 ? 0
                        : ul_fail(e, err,
                                  err == UL_NOT_FOUND ? "the log is empty"
                                                      : "the checkpoint cannot be read");
}

int service_audit_tile(struct service *s, const char *path, struct buf *out, bool *full,
                       struct errinfo *e)
{
        struct txn *t = NULL;
        struct tile tile;
        int err = tile_path_parse(path, &tile, e);
        if (err == 0)
                err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = audit_tile(t, &tile, out, e);
        txn_abort(&t);
        *full = tile.width == TILE_WIDTH;
        return err;
}

const char *service_audit_vkey(struct service *s)
{
        return audit_vkey(s->log);
}

struct key_walk {
        service_audit_key_fn fn;
        void *arg;
};

static int show_key(void *arg, const struct audit_key *key)
{
        const struct key_walk *w = arg;
        const struct audit_key_view v = {.vkey = key->vkey,
                                         .announced = key->announced,
                                         .entry = key->entry,
                                         .handover = key->handover,
                                         .handover_len = key->handover_len,
                                         .current = key->current};
        return w->fn(w->arg, &v);
}

int service_audit_keys(struct service *s, service_audit_key_fn fn, void *arg, struct errinfo *e)
{
        struct key_walk w = {.fn = fn, .arg = arg};
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = audit_keys(t, s->log, show_key, &w);
        txn_abort(&t);
        return err < 0 ? ul_fail(e, err, "the log's keys cannot be read") : 0;
}
