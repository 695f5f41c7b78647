/* SPDX-License-Identifier: Apache-2.0
 * erase_index.c: finds what an erasure's subjects and records are held in, and tombstones it. A
 * subject is forgotten by its subject entry alone, whatever number of records it has; its index
 * entries go in bounded steps with the scrub (DESIGN.md, Corners). The dry run takes the same path
 * and writes nothing. It knows nothing of checkpoints: erase.c rolls back. */
#include "daemon/compact.h"
#include "daemon/erasure.h"
#include "daemon/state.h"
#include "daemon/upload.h"

#include "lib/util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_COUNTS_MAX = 64 };

/* Live records of one subject, a slice at a time. */
struct counts {
        struct txn *t;
        struct subject_slice *slice; /* [count] */
        uint32_t count, cap;
        uint32_t staged_upload; /* 0, or the upload that was found holding some of them */
        int err;
};

static int scope_add(struct hits *h, struct model *m_take)
{
        struct model **grown = realloc(h->models, (h->model_count + 1) * sizeof(struct model *));
        if (grown == NULL) {
                model_unref(m_take);
                return UL_NOMEM;
        }
        h->models = grown;
        h->models[h->model_count++] = m_take;
        return 0;
}

/* Among the first `count` of the erasure's models. */
static struct model *find(const struct hits *h, const char *name, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                if (strcmp(h->models[i]->config->name, name) == 0)
                        return h->models[i];
        return NULL;
}

/* Adds the model unless it is there already. */
static int scope_named(struct hits *h, struct service *s, const char *name, const char *list,
                       uint32_t at, const char *member, struct errinfo *e)
{
        char field[64];
        if (find(h, name, h->model_count) != NULL)
                return 0;
        struct model *m = registry_find(s, name);
        if (m == NULL) {
                (void)snprintf(field, sizeof field, "/%s/%u%s", list, at, member);
                return ul_fail_field(e, UL_INVALID, field, "there is no model of this name");
        }
        if (scope_add(h, m) != 0)
                return ul_fail(e, UL_NOMEM, "no memory for an erasure");
        return 0;
}

int hits_scope(struct hits *h, struct service *s, const struct erase_request *r, struct errinfo *e)
{
        int err = 0;
        *h = (struct hits){.everywhere = r->model_count == 0, .going = atomic_load(&s->going) > 0};
        if (r->model_count == 0)
                err = registry_all(s, &h->models, &h->model_count, e);
        for (uint32_t i = 0; i < r->model_count && err == 0; i++)
                err = scope_named(h, s, r->models[i], "models", i, "", e);
        h->scope_count = h->model_count;
        for (uint32_t i = 0; i < r->record_count && err == 0; i++)
                err = scope_named(h, s, r->records[i].model, "records", i, "/model", e);
        return err;
}

void hits_clear(struct hits *h)
{
        registry_release(h->models, h->model_count);
        free(h->hit);
        free(h->uploads);
        buf_free(&h->follows, false);
        buf_free(&h->noted, false);
        *h = (struct hits){0};
}

struct hit *hit_of(struct hits *h, struct model *m, uint32_t shard)
{
        for (uint32_t i = 0; i < h->count; i++)
                if (h->hit[i].model == m && h->hit[i].shard == shard)
                        return &h->hit[i];
        if (h->count == h->cap) {
                uint32_t cap = h->cap == 0 ? 8 : h->cap * 2;
                struct hit *grown = realloc(h->hit, cap * sizeof *grown);
                if (grown == NULL)
                        return NULL;
                h->hit = grown;
                h->cap = cap;
        }
        struct hit *hit = &h->hit[h->count++];
        *hit = (struct hit){
                .model = m, .shard = shard, .slice = UINT32_MAX, .followed = UINT32_MAX};
        return hit;
}

static int count_slice(struct counts *c, uint32_t slice, uint32_t records)
{
        if (c->count == c->cap) {
                uint32_t cap = c->cap == 0 ? 8 : c->cap * 2;
                struct subject_slice *grown = realloc(c->slice, cap * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                c->slice = grown;
                c->cap = cap;
        }
        c->slice[c->count++] = (struct subject_slice){.slice = slice, .records = records};
        return 0;
}

static int count_in(struct counts *c, uint32_t slice)
{
        for (uint32_t i = 0; i < c->count; i++) {
                if (c->slice[i].slice == slice) {
                        c->slice[i].records++;
                        return 0;
                }
        }
        return count_slice(c, slice, 1);
}

static int count_record(void *arg, const uint8_t record[PSEUDONYM_BYTES],
                        const struct record_row *row)
{
        struct counts *c = arg;
        bool staged = false;
        (void)record;
        int err = record_staged(c->t, row, &staged);
        if (err == 0 && staged)
                c->staged_upload = row->upload;
        else if (err == 0)
                err = count_in(c, row->slice);
        c->err = err;
        return err;
}

/* Live records of a subject by slice: from its entry, or by a walk where that counts staged ones
 * too. */
static int count_subject(struct counts *c, struct txn *t, uint32_t model,
                         const uint8_t subject[PSEUDONYM_BYTES], const struct subject_row *row)
{
        uint32_t active = 0;
        int err = 0;
        *c = (struct counts){.t = t};
        if (row->staged != 0)
                err = upload_staged(t, model, &active);
        if (err != 0)
                return err;
        if (row->staged != 0 && row->staged == active) {
                err = t_record_each_of_subject(t, model, subject, NULL, count_record, c);
                return c->err != 0 ? c->err : err;
        }
        for (uint32_t i = 0; i < row->slice_count && err == 0; i++)
                err = count_slice(c, row->slices[i].slice, row->slices[i].records);
        return err;
}

static int tombstone_slice(struct txn *t, uint32_t model, uint32_t shard, uint32_t slice,
                           uint32_t records)
{
        struct slice_row row;
        int err = t_slice_get(t, model, shard, slice, &row);
        if (err != 0)
                return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
        if (row.live < records)
                return txn_fail(t, UL_CORRUPT);
        row.live -= records;
        row.erased += records;
        return t_slice_put(t, model, shard, slice, &row);
}

int hits_scrub(struct txn *t, const uint8_t *id, uint32_t model, enum scrub_kind kind,
               const uint8_t pseudonym[PSEUDONYM_BYTES], const struct scrub_row *row)
{
        struct scrub_key key = {.model = model, .kind = kind};
        memcpy(key.erasure, id, ULID_BYTES);
        memcpy(key.pseudonym, pseudonym, PSEUDONYM_BYTES);
        return t_scrub_put(t, &key, row);
}

/* An atomic upload in progress holds some of it: it can never commit, and the erasure counts as
 * scrubbed when its rows are gone. */
static int call_off(struct hits *h, struct txn *t, uint32_t model, uint32_t upload,
                    const uint8_t *id)
{
        uint8_t name[PSEUDONYM_BYTES] = {0};
        for (uint32_t i = 0; i < h->upload_count; i++)
                if (h->uploads[i] == upload)
                        return 0;
        uint32_t *grown = realloc(h->uploads, (h->upload_count + 1) * sizeof *grown);
        if (grown == NULL)
                return txn_fail(t, UL_NOMEM);
        h->uploads = grown;
        h->uploads[h->upload_count++] = upload;
        put_be32(name, upload);
        int err = upload_call_off(t, upload);
        return err != 0 ? err
                        : hits_scrub(t, id, model, SCRUB_UPLOAD, name, &(struct scrub_row){0});
}

static int subject_hit(struct hits *h, struct txn *t, struct model *m,
                       const uint8_t subject[PSEUDONYM_BYTES], const uint8_t *id)
{
        struct subject_row row;
        struct counts c = {0};
        struct hit *hit = NULL;
        int err = t_subject_get(t, m->id, subject, &row);
        if (err == UL_NOT_FOUND || (err == 0 && row.erased))
                return 0;
        if (err == 0)
                err = count_subject(&c, t, m->id, subject, &row);
        if (err == 0 && c.staged_upload != 0 && id != NULL)
                err = call_off(h, t, m->id, c.staged_upload, id);
        if (err == 0 && c.count > 0 && (hit = hit_of(h, m, row.shard)) == NULL)
                err = UL_NOMEM;
        for (uint32_t i = 0; err == 0 && i < c.count; i++) {
                uint32_t slice = c.slice[i].slice;
                h->matched += c.slice[i].records;
                hit->records += c.slice[i].records;
                err = compaction_slice(t, m, subject, &row, &slice);
                if (slice < hit->slice)
                        hit->slice = slice;
                if (id != NULL && err == 0)
                        err = tombstone_slice(t, m->id, row.shard, c.slice[i].slice,
                                              c.slice[i].records);
        }
        if (err == 0 && c.count > 0 && id != NULL) {
                row.erased = 1;
                hit->scrubs++;
                (void)t_subject_put(t, m->id, subject, &row);
                err = hits_scrub(t, id, m->id, SCRUB_SUBJECT, subject,
                                 &(struct scrub_row){.shard = row.shard});
        }
        free(c.slice);
        return err;
}

static bool subject_named(const struct erase_request *r, const uint8_t subject[PSEUDONYM_BYTES],
                          uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                if (memcmp(r->subjects[i], subject, PSEUDONYM_BYTES) == 0)
                        return true;
        return false;
}

static bool record_named_before(const struct erase_request *r, uint32_t at)
{
        for (uint32_t i = 0; i < at; i++)
                if (memcmp(r->records[i].pseudonym, r->records[at].pseudonym, PSEUDONYM_BYTES) ==
                            0 &&
                    strcmp(r->records[i].model, r->records[at].model) == 0)
                        return true;
        return false;
}

static int record_hit(struct hits *h, struct txn *t, struct model *m, const struct erase_request *r,
                      uint32_t at, const uint8_t *id)
{
        const uint8_t *record = r->records[at].pseudonym;
        struct record_row row;
        struct subject_row subject;
        bool staged = false;
        int err = t_record_get(t, m->id, record, &row);
        if (err == UL_NOT_FOUND || record_named_before(r, at))
                return err == UL_NOT_FOUND ? 0 : err;
        if (err == 0)
                err = record_staged(t, &row, &staged);
        if (err == 0 && staged)
                return id != NULL ? call_off(h, t, m->id, row.upload, id) : 0;
        if (err == 0)
                err = t_subject_get(t, m->id, row.subject, &subject);
        if (err != 0)
                return err;
        bool in_scope = find(h, m->config->name, h->scope_count) != NULL;
        if (in_scope && subject_named(r, row.subject, r->subject_count))
                return 0; /* forgotten with its subject */
        if (subject.erased)
                return id != NULL ? overlap_person(h, t, row.subject, m, id) : 0;
        struct hit *hit = hit_of(h, m, row.shard);
        if (hit == NULL)
                return UL_NOMEM;
        uint32_t slice = row.slice;
        h->matched++;
        hit->records++;
        err = compaction_slice(t, m, row.subject, &subject, &slice);
        if (slice < hit->slice)
                hit->slice = slice;
        if (id == NULL || err != 0)
                return err;
        hit->scrubs++;
        (void)tombstone_slice(t, m->id, row.shard, row.slice, 1);
        (void)t_subject_less(t, m->id, row.subject, &subject, row.slice);
        (void)t_record_del(t, m->id, record);
        err = overlap_note(h, t, row.subject, m, id);
        return err != 0 ? err
                        : hits_scrub(t, id, m->id, SCRUB_RECORD, record,
                                     &(struct scrub_row){.shard = row.shard,
                                                         .slice = row.slice,
                                                         .row = row.row});
}

static int suppress(struct txn *t, const struct hits *h, const struct erase_request *r,
                    const uint8_t subject[PSEUDONYM_BYTES], const uint8_t *id)
{
        struct suppression_row row = {.since_ms = now_ms()};
        int err = 0;
        memcpy(row.erasure, id, ULID_BYTES);
        if (r->model_count == 0)
                return t_suppression_put(t, subject, 0, SUPPRESS_SUBJECT, &row);
        for (uint32_t i = 0; i < h->scope_count && err == 0; i++)
                err = t_suppression_put(t, subject, h->models[i]->scope, SUPPRESS_SUBJECT, &row);
        return err;
}

int hits_collect(struct hits *h, struct txn *t, const struct erase_request *r, const uint8_t *id,
                 struct errinfo *e)
{
        int err = 0;
        for (uint32_t i = 0; i < r->subject_count && err == 0; i++) {
                if (subject_named(r, r->subjects[i], i))
                        continue;
                if (id != NULL)
                        err = overlap_subject(h, t, r->subjects[i], id);
                if (id != NULL && err == 0)
                        err = suppress(t, h, r, r->subjects[i], id);
                for (uint32_t k = 0; k < h->scope_count && err == 0; k++)
                        err = subject_hit(h, t, h->models[k], r->subjects[i], id);
        }
        for (uint32_t i = 0; i < r->record_count && err == 0; i++) {
                struct suppression_row row = {.since_ms = now_ms()};
                struct model *m = find(h, r->records[i].model, h->model_count);
                if (id != NULL) {
                        memcpy(row.erasure, id, ULID_BYTES);
                        err = overlap_record(h, t, r->records[i].pseudonym, m, id);
                        if (err == 0)
                                err = t_suppression_put(t, r->records[i].pseudonym, m->scope,
                                                        SUPPRESS_RECORD, &row);
                }
                if (err == 0)
                        err = record_hit(h, t, m, r, i, id);
        }
        return err == 0 ? 0 : ul_fail(e, err, "the index cannot be read or changed");
}
