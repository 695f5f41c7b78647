/* SPDX-License-Identifier: Apache-2.0
 * overlap.c: an erasure of people whom an earlier one took, or who are in a model that is being
 * deleted. It finds nothing of them in the index; but it must not be called scrubbed before their
 * bytes are overwritten, nor completed before the shards are retrained. So it waits with whoever
 * does that. The earlier one may have touched more than these people: better late than wrong. */
#include "daemon/erasure.h"
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shards of the model that wait for the retrain of an earlier erasure. */
static int wait_for_shards(struct hits *h, struct model *m, const struct erasure_affected *affected,
                           uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                if (affected[i].model != m->id || affected[i].state != AFFECTED_RETRAINING)
                        continue;
                struct hit *hit = hit_of(h, m, affected[i].shard);
                if (hit == NULL)
                        return UL_NOMEM;
                if (affected[i].slice < hit->followed)
                        hit->followed = affected[i].slice;
        }
        return 0;
}

static int wait_for_scrub(struct hits *h, struct txn *t, const uint8_t earlier[ULID_BYTES],
                          const uint8_t *id)
{
        for (uint32_t i = 0; i < h->follow_count; i++)
                if (memcmp(h->follows[i], earlier, ULID_BYTES) == 0)
                        return 0;
        void *grown = realloc(h->follows, (h->follow_count + 1) * sizeof *h->follows);
        if (grown == NULL)
                return txn_fail(t, UL_NOMEM);
        h->follows = grown;
        memcpy(h->follows[h->follow_count++], earlier, ULID_BYTES);
        return hits_scrub(t, id, 0, (enum scrub_kind)SCRUB_FOLLOW, earlier, &(struct scrub_row){0});
}

/* models: [count], in which both are about these people. */
static int wait_for(struct hits *h, struct txn *t, const uint8_t earlier[ULID_BYTES],
                    struct model *const *models, uint32_t count, const uint8_t *id)
{
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        if (memcmp(earlier, id, ULID_BYTES) == 0)
                return 0;
        int err = t_erasure_get(t, earlier, &row, &affected);
        if (err == UL_NOT_FOUND) /* of another instance */
                return 0;
        if (err == 0 && row.state == ERASURE_FORGOTTEN) {
                for (uint32_t i = 0; i < count && err == 0; i++)
                        err = wait_for_shards(h, models[i], affected, row.affected_count);
                if (err == 0 && row.scrubbed_ms == 0)
                        err = wait_for_scrub(h, t, earlier, id);
        }
        free(affected);
        return err;
}

int overlap_suppressed(struct hits *h, struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES],
                       struct model *m, enum suppression_kind kind, const uint8_t *id)
{
        struct suppression_row by;
        int err = t_suppression_get(t, pseudonym, m->scope, kind, &by);
        if (err != 0)
                return err == UL_NOT_FOUND ? 0 : err;
        return wait_for(h, t, by.erasure, &m, 1, id);
}

/* --- where no suppression says it: of single records, and where it was lifted ---
 * "erasing/PSEUDONYM": the newest erasure that took records of the person one by one, which waits
 * for the one before it, or whose suppression was lifted; "erasing-by/ERASURE": of whom. Both until
 * that erasure is completed. */

enum { NAME_SIZE = 64 };

static const char *subject_blob(const uint8_t subject[PSEUDONYM_BYTES], char out[NAME_SIZE])
{
        char hex[2 * PSEUDONYM_BYTES + 1];
        (void)snprintf(out, NAME_SIZE, "erasing/%s", hex_encode(subject, PSEUDONYM_BYTES, hex));
        return out;
}

static const char *erasure_blob(const uint8_t id[ULID_BYTES], char out[NAME_SIZE])
{
        char text[ULID_TEXT + 1];
        (void)snprintf(out, NAME_SIZE, "erasing-by/%s", ulid_format(id, text));
        return out;
}

/* *found: there is one. */
static int newest_of(struct txn *t, const uint8_t subject[PSEUDONYM_BYTES], uint8_t id[ULID_BYTES],
                     bool *found)
{
        char name[NAME_SIZE];
        struct buf b = {0};
        int err = t_blob_get(t, subject_blob(subject, name), &b);
        *found = err == 0;
        if (err == 0 && b.len != ULID_BYTES)
                err = txn_fail(t, UL_CORRUPT);
        if (err == 0)
                memcpy(id, b.data, ULID_BYTES);
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

static int wait_for_newest(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                           const uint8_t *id)
{
        uint8_t earlier[ULID_BYTES];
        bool found = false;
        int err = newest_of(t, subject, earlier, &found);
        return err == 0 && found ? wait_for(h, t, earlier, h->models, h->model_count, id) : err;
}

int overlap_subject(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                    const uint8_t *id)
{
        int err = wait_for_newest(h, t, subject, id);
        for (uint32_t k = 0; k < h->scope_count && err == 0; k++) {
                err = overlap_suppressed(h, t, subject, h->models[k], SUPPRESS_SUBJECT, id);
                if (err == 0)
                        err = overlap_suppressed(h, t, subject, h->models[k], SUPPRESS_RECORD, id);
        }
        return err;
}

int overlap_note(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                 const uint8_t *id)
{
        for (uint32_t i = 0; i < h->noted_count; i++)
                if (memcmp(h->noted[i], subject, PSEUDONYM_BYTES) == 0)
                        return 0;
        void *grown = realloc(h->noted, (h->noted_count + 1) * sizeof *h->noted);
        if (grown == NULL)
                return txn_fail(t, UL_NOMEM);
        h->noted = grown;
        memcpy(h->noted[h->noted_count++], subject, PSEUDONYM_BYTES);
        return wait_for_newest(h, t, subject, id);
}

int overlap_keep(const struct hits *h, struct txn *t, const uint8_t *id)
{
        char name[NAME_SIZE];
        int err = 0;
        for (uint32_t i = 0; i < h->noted_count && err == 0; i++)
                err = t_blob_put(t, subject_blob(h->noted[i], name), id, ULID_BYTES);
        if (err == 0 && h->noted_count > 0)
                err = t_blob_put(t, erasure_blob(id, name), h->noted,
                                 h->noted_count * sizeof *h->noted);
        return err;
}

int overlap_record(struct hits *h, struct txn *t, const uint8_t record[PSEUDONYM_BYTES],
                   struct model *m, const uint8_t *id)
{
        int err = wait_for_newest(h, t, record, id);
        return err == 0 ? overlap_suppressed(h, t, record, m, SUPPRESS_RECORD, id) : err;
}

int overlap_lifted(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES],
                   const uint8_t erasure[ULID_BYTES])
{
        char name[NAME_SIZE];
        struct erasure_row row;
        struct buf of = {0};
        int err = t_erasure_get(t, erasure, &row, NULL);
        if (err != 0 || row.state != ERASURE_FORGOTTEN)
                return err == UL_NOT_FOUND ? 0 : err; /* of another instance, or over */
        err = t_blob_get(t, erasure_blob(erasure, name), &of);
        err = err == UL_NOT_FOUND ? 0 : err;
        buf_append(&of, pseudonym, PSEUDONYM_BYTES);
        if (err == 0 && of.failed)
                err = txn_fail(t, UL_NOMEM);
        if (err == 0)
                err = t_blob_put(t, name, of.data, of.len);
        if (err == 0)
                err = t_blob_put(t, subject_blob(pseudonym, name), erasure, ULID_BYTES);
        buf_free(&of, false);
        return err;
}

int overlap_end(struct txn *t, const uint8_t id[ULID_BYTES])
{
        char name[NAME_SIZE];
        uint8_t newest[ULID_BYTES];
        struct buf b = {0};
        bool found = false;
        int err = t_blob_get(t, erasure_blob(id, name), &b);
        for (size_t at = 0; err == 0 && at + PSEUDONYM_BYTES <= b.len; at += PSEUDONYM_BYTES) {
                err = newest_of(t, b.data + at, newest, &found);
                if (err == 0 && found && memcmp(newest, id, ULID_BYTES) == 0)
                        err = t_blob_del(t, subject_blob(b.data + at, name));
        }
        if (err == 0)
                err = t_blob_del(t, erasure_blob(id, name));
        buf_free(&b, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

/* --- models that are being deleted --- */

struct going {
        struct hits *h;
        struct txn *t;
        const uint8_t *subject, *id;
};

static bool in_scope(const struct hits *h, uint32_t model)
{
        for (uint32_t i = 0; i < h->model_count; i++)
                if (h->models[i]->id == model)
                        return true;
        return false;
}

/* delete.c ends what waits for a model, when its files are gone. */
static int look_into(void *arg, const char *name, const struct model_row *row, const char *config,
                     size_t config_len)
{
        struct going *g = arg;
        struct subject_row subject;
        (void)name;
        (void)config;
        (void)config_len;
        if (!row->deleting || in_scope(g->h, row->id))
                return 0;
        int err = t_subject_get(g->t, row->id, g->subject, &subject);
        if (err != 0)
                return err == UL_NOT_FOUND ? 0 : err;
        g->h->going_count++;
        return hits_scrub(g->t, g->id, row->id, SCRUB_SUBJECT, g->subject,
                          &(struct scrub_row){.shard = subject.shard});
}

int overlap_going(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                  const uint8_t *id)
{
        struct going g = {.h = h, .t = t, .subject = subject, .id = id};
        return t_model_each(t, look_into, &g);
}
