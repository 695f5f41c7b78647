/* SPDX-License-Identifier: Apache-2.0
 * staged.c: an atomic upload from its first batch to its end. It is staged: its rows stand past the
 * committed count of their files, its index entries carry its id, and neither exists for anybody
 * else until one transaction makes them live. An erasure that hits it calls it off; it can then
 * only be aborted. */
#include "daemon/state.h"
#include "daemon/upload.h"
#include "lib/util/crash_point.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ABORT_STEP = 2000 };

static void staged_name(char out[32], uint32_t model)
{
        (void)snprintf(out, 32, "staged/%u", model);
}

int upload_staged(struct txn *t, uint32_t model, uint32_t *upload)
{
        char name[32];
        uint64_t v = 0;
        staged_name(name, model);
        int err = t_counter_get(t, name, &v);
        *upload = (uint32_t)v;
        return err;
}

int upload_set_staged(struct txn *t, uint32_t model, uint32_t upload)
{
        char name[32];
        staged_name(name, model);
        return t_counter_put(t, name, upload);
}

int record_staged(struct txn *t, const struct record_row *row, bool *staged)
{
        struct upload_row upload;
        *staged = false;
        if (row->upload == 0)
                return 0;
        int err = t_upload_get(t, row->upload, &upload);
        *staged = err == 0;
        return err == UL_NOT_FOUND ? 0 : err;
}

int upload_audit(struct service *s, struct txn *t, const struct model *m, const char *actor,
                 const struct intake_result *counts)
{
        struct event ev;
        struct audit_keys keys = {.model = m->config->name};
        event_begin(&ev);
        jw_member_text(&ev.w, "model", m->config->name);
        jw_member_u64(&ev.w, "accepted", counts->accepted);
        jw_member_u64(&ev.w, "duplicates", counts->duplicates);
        jw_member_u64(&ev.w, "suppressed", counts->suppressed);
        jw_member_u64(&ev.w, "rejected", counts->rejected);
        return event_append(&ev, s, t, "records.loaded", actor, &keys, NULL);
}

/* --- the end of a staged upload --- */

struct promote {
        struct txn *t;
        uint32_t model;
        bool keep; /* false: the staged rows cease to exist */
        struct {
                uint32_t shard, slice;
                struct slice_row row;
        } * found;
        uint32_t count, cap;
};

static int find_staged(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row)
{
        struct promote *p = arg;
        if (row->staged == 0)
                return 0;
        if (p->count == p->cap) {
                uint32_t cap = p->cap == 0 ? 64 : p->cap * 2;
                void *grown = realloc(p->found, cap * sizeof *p->found);
                if (grown == NULL)
                        return UL_NOMEM;
                p->found = grown;
                p->cap = cap;
        }
        p->found[p->count].shard = shard;
        p->found[p->count].slice = slice;
        p->found[p->count++].row = *row;
        return 0;
}

static int settle_staged(struct txn *t, uint32_t model, bool keep)
{
        struct promote p = {.t = t, .model = model, .keep = keep};
        int err = t_slice_each(t, model, UINT32_MAX, find_staged, &p);
        for (uint32_t i = 0; i < p.count && err == 0; i++) {
                struct slice_row *row = &p.found[i].row;
                if (keep) {
                        row->rows += row->staged;
                        row->live += row->staged;
                }
                row->staged = 0;
                err = t_slice_put(t, model, p.found[i].shard, p.found[i].slice, row);
        }
        free(p.found);
        return err;
}

int upload_commit(struct service *s, struct txn *t, struct model *m, uint32_t upload,
                  const char *actor, const struct intake_result *counts, struct errinfo *e)
{
        struct upload_row row;
        struct model_row model;
        int err = t_upload_get(t, upload, &row);
        if (err == UL_NOT_FOUND || (err == 0 && row.called_off))
                return ul_fail(e, UL_CONFLICT,
                               "an erasure came while the upload was in progress; nothing was "
                               "kept, send it again");
        if (err == 0)
                err = settle_staged(t, m->id, true);
        if (err == 0)
                err = t_upload_del(t, upload);
        if (err == 0)
                err = upload_set_staged(t, m->id, 0);
        if (err == 0)
                err = t_model_get(t, m->config->name, &model, NULL);
        if (err == 0) {
                model.records += counts->accepted;
                err = t_model_put(t, m->config->name, &model, NULL, 0);
        }
        CRASH_POINT("staged.promoted");
        return err == 0 ? upload_audit(s, t, m, actor, counts) : err;
}

bool upload_called_off(const struct upload_row *row)
{
        return row->called_off != 0;
}

int upload_call_off(struct txn *t, uint32_t upload)
{
        struct upload_row row;
        int err = t_upload_get(t, upload, &row);
        if (err != 0)
                return err;
        row.called_off = 1;
        return t_upload_put(t, upload, &row);
}

struct abort_list {
        uint32_t upload;
        uint32_t looked, count;
        struct {
                uint8_t record[PSEUDONYM_BYTES];
                struct record_row row;
        } * item; /* [ABORT_STEP] */
        uint8_t last[PSEUDONYM_BYTES];
};

static int find_abort(void *arg, const uint8_t record[PSEUDONYM_BYTES],
                      const struct record_row *row)
{
        struct abort_list *l = arg;
        if (l->looked == ABORT_STEP)
                return 1;
        l->looked++;
        memcpy(l->last, record, PSEUDONYM_BYTES);
        if (row->upload == l->upload) {
                memcpy(l->item[l->count].record, record, PSEUDONYM_BYTES);
                l->item[l->count++].row = *row;
        }
        return 0;
}

static int abort_record(struct txn *t, uint32_t model, const uint8_t record[PSEUDONYM_BYTES],
                        const struct record_row *row)
{
        struct subject_row subject;
        int err = t_subject_get(t, model, row->subject, &subject);
        if (err == 0)
                err = t_subject_less(t, model, row->subject, &subject, row->slice);
        if (err == 0 || err == UL_NOT_FOUND)
                err = t_record_del(t, model, record);
        return err;
}

int upload_abort_step(struct txn *t, struct model *m, struct upload_abort *a, bool *left)
{
        struct abort_list l = {.upload = a->upload};
        struct upload_row row;
        *left = false;
        int err = t_upload_get(t, a->upload, &row);
        if (err != 0)
                return err == UL_NOT_FOUND ? 0 : err;
        l.item = malloc(ABORT_STEP * sizeof *l.item);
        if (l.item == NULL)
                return txn_fail(t, UL_NOMEM);
        err = upload_call_off(t, a->upload);
        if (err == 0)
                err = t_record_each(t, m->id, a->started ? a->after : NULL, find_abort, &l);
        *left = err == 1;
        err = *left ? 0 : err;
        for (uint32_t i = 0; i < l.count && err == 0; i++)
                err = abort_record(t, m->id, l.item[i].record, &l.item[i].row);
        if (err == 0 && *left) {
                memcpy(a->after, l.last, PSEUDONYM_BYTES);
                a->started = true;
        } else if (err == 0) {
                err = settle_staged(t, m->id, false);
                if (err == 0)
                        err = t_upload_del(t, a->upload);
                if (err == 0)
                        err = upload_set_staged(t, m->id, 0);
        }
        CRASH_POINT("staged.abort_recorded");
        free(l.item);
        return err;
}
