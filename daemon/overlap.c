/* SPDX-License-Identifier: Apache-2.0
 * overlap.c: an erasure of people whom an earlier one took, or who are in a model that is being
 * deleted. It finds nothing of them in the index; but it must not be called scrubbed before their
 * bytes are overwritten, nor completed before the shards are retrained. So it waits with whoever
 * does that. The earlier one may have touched more than these people: better late than wrong. */
#include "daemon/erasure.h"
#include "daemon/erasure_ledger.h"
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- lists of items of one size --- */

static bool holds(const struct buf *list, const void *item, size_t size)
{
        for (size_t at = 0; at < list->len; at += size)
                if (memcmp(list->data + at, item, size) == 0)
                        return true;
        return false;
}

static int add(struct txn *t, struct buf *list, const void *item, size_t size)
{
        buf_append(list, item, size);
        return list->failed ? txn_fail(t, UL_NOMEM) : 0;
}

/* Appends the items that the blob holds; none: 0. */
static int list_get(struct txn *t, const char *name, size_t size, struct buf *out)
{
        int err = t_blob_get(t, name, out);
        if (err == 0 && out->len % size != 0)
                err = txn_fail(t, UL_CORRUPT);
        return err == UL_NOT_FOUND ? 0 : err;
}

static int list_put(struct txn *t, const char *name, const struct buf *list)
{
        return list->len == 0 ? t_blob_del(t, name) : t_blob_put(t, name, list->data, list->len);
}

/* --- waiting --- */

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
        if (holds(&h->follows, earlier, ULID_BYTES))
                return 0;
        h->follow_count++;
        int err = add(t, &h->follows, earlier, ULID_BYTES);
        return err != 0 ? err
                        : hits_scrub(t, id, 0, (enum scrub_kind)SCRUB_FOLLOW, earlier,
                                     &(struct scrub_row){0});
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

/* By the suppression that the earlier one made. */
static int wait_for_suppressor(struct hits *h, struct txn *t,
                               const uint8_t pseudonym[PSEUDONYM_BYTES], struct model *m,
                               enum suppression_kind kind, const uint8_t *id)
{
        struct suppression_row by;
        int err = t_suppression_get(t, pseudonym, m->scope, kind, &by);
        if (err != 0)
                return err == UL_NOT_FOUND ? 0 : err;
        return wait_for(h, t, by.erasure, &m, 1, id);
}

/* --- where no suppression says it: of single records, and where it was lifted ---
 * "erasing/PSEUDONYM": slots, each the newest erasure in one scope (of a model, or 0: all of them)
 * that took records of the person one by one, or whose suppression was lifted. Whoever takes a slot
 * has waited for the one that it takes it from, so one a scope is enough, and scopes bound them.
 * "erasing-by/ERASURE": the persons. Both until that erasure is completed. */

enum { SLOT_BYTES = ULID_BYTES + 4, NOTE_BYTES = PSEUDONYM_BYTES + 4, NAME_SIZE = 64 };

static uint32_t scope_of(const uint8_t item[ULID_BYTES + 4])
{
        return get_be32(item + ULID_BYTES);
}

static void make_item(uint8_t item[ULID_BYTES + 4], const uint8_t who[ULID_BYTES], uint32_t scope)
{
        memcpy(item, who, ULID_BYTES);
        put_be32(item + ULID_BYTES, scope);
}

static const char *slots_name(const uint8_t person[PSEUDONYM_BYTES], char out[NAME_SIZE])
{
        char hex[2 * PSEUDONYM_BYTES + 1];
        (void)snprintf(out, NAME_SIZE, "erasing/%s", hex_encode(person, PSEUDONYM_BYTES, hex));
        return out;
}

static const char *persons_name(const uint8_t erasure[ULID_BYTES], char out[NAME_SIZE])
{
        char text[ULID_TEXT + 1];
        (void)snprintf(out, NAME_SIZE, "erasing-by/%s", ulid_format(erasure, text));
        return out;
}

/* models: [count], where the person is looked for. What was taken of a model that is being deleted
 * is in nobody's scope any more: while there is one, who asks for all heeds every slot. */
static int wait_for_slots(struct hits *h, struct txn *t, const uint8_t person[PSEUDONYM_BYTES],
                          struct model *const *models, uint32_t count, const uint8_t *id)
{
        char name[NAME_SIZE];
        struct buf slots = {0};
        int err = list_get(t, slots_name(person, name), SLOT_BYTES, &slots);
        for (size_t at = 0; at < slots.len && err == 0; at += SLOT_BYTES) {
                const uint8_t *slot = slots.data + at;
                if (scope_of(slot) == 0 || (h->going && h->everywhere))
                        err = wait_for(h, t, slot, models, count, id);
                for (uint32_t i = 0; i < count && err == 0; i++)
                        if (models[i]->scope == scope_of(slot))
                                err = wait_for(h, t, slot, &models[i], 1, id);
        }
        buf_free(&slots, false);
        return err;
}

int overlap_subject(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                    const uint8_t *id)
{
        int err = wait_for_slots(h, t, subject, h->models, h->scope_count, id);
        for (uint32_t k = 0; k < h->scope_count && err == 0; k++) {
                err = wait_for_suppressor(h, t, subject, h->models[k], SUPPRESS_SUBJECT, id);
                if (err == 0)
                        err = wait_for_suppressor(h, t, subject, h->models[k], SUPPRESS_RECORD, id);
        }
        return err;
}

int overlap_person(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                   struct model *m, const uint8_t *id)
{
        int err = wait_for_slots(h, t, subject, &m, 1, id);
        return err == 0 ? wait_for_suppressor(h, t, subject, m, SUPPRESS_SUBJECT, id) : err;
}

/* A record without a subject is its own: the person's suppression names it too. */
int overlap_record(struct hits *h, struct txn *t, const uint8_t record[PSEUDONYM_BYTES],
                   struct model *m, const uint8_t *id)
{
        int err = overlap_person(h, t, record, m, id);
        return err == 0 ? wait_for_suppressor(h, t, record, m, SUPPRESS_RECORD, id) : err;
}

int overlap_note(struct hits *h, struct txn *t, const uint8_t subject[PSEUDONYM_BYTES],
                 struct model *m, const uint8_t *id)
{
        uint8_t note[NOTE_BYTES];
        make_item(note, subject, m->scope);
        if (holds(&h->noted, note, NOTE_BYTES))
                return 0;
        int err = add(t, &h->noted, note, NOTE_BYTES);
        return err == 0 ? wait_for_slots(h, t, subject, &m, 1, id) : err;
}

/* Whether the erasure took effect after the other. */
static int came_after(struct txn *t, const uint8_t erasure[ULID_BYTES],
                      const uint8_t other[ULID_BYTES], bool *after)
{
        uint8_t mine[ULID_BYTES] = {0}, its[ULID_BYTES] = {0};
        int err = erasure_order(t, erasure, mine);
        if (err == 0)
                err = erasure_order(t, other, its);
        *after = err == 0 && memcmp(mine, its, ULID_BYTES) > 0;
        return err;
}

static int take_slot(struct txn *t, const uint8_t person[PSEUDONYM_BYTES], uint32_t scope,
                     const uint8_t erasure[ULID_BYTES])
{
        char name[NAME_SIZE];
        uint8_t slot[SLOT_BYTES];
        struct buf slots = {0};
        bool after = true;
        size_t at = 0;
        int err = list_get(t, slots_name(person, name), SLOT_BYTES, &slots);
        make_item(slot, erasure, scope);
        while (at < slots.len && scope_of(slots.data + at) != scope)
                at += SLOT_BYTES;
        if (err == 0 && at == slots.len)
                err = add(t, &slots, slot, SLOT_BYTES);
        else if (err == 0)
                err = came_after(t, erasure, slots.data + at, &after);
        if (err == 0 && after) {
                memcpy(slots.data + at, slot, SLOT_BYTES);
                err = list_put(t, name, &slots);
        }
        buf_free(&slots, false);
        return err;
}

static int persons_add(struct txn *t, const uint8_t erasure[ULID_BYTES], struct buf *persons,
                       const uint8_t person[PSEUDONYM_BYTES], uint32_t scope)
{
        int err = 0;
        if (!holds(persons, person, PSEUDONYM_BYTES))
                err = add(t, persons, person, PSEUDONYM_BYTES);
        return err == 0 ? take_slot(t, person, scope, erasure) : err;
}

int overlap_keep(const struct hits *h, struct txn *t, const uint8_t id[ULID_BYTES])
{
        char name[NAME_SIZE];
        struct buf persons = {0};
        int err = 0;
        for (size_t at = 0; at < h->noted.len && err == 0; at += NOTE_BYTES)
                err = persons_add(t, id, &persons, h->noted.data + at,
                                  scope_of(h->noted.data + at));
        if (err == 0)
                err = list_put(t, persons_name(id, name), &persons);
        buf_free(&persons, false);
        return err;
}

int overlap_lifted(struct txn *t, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t scope,
                   const uint8_t erasure[ULID_BYTES])
{
        char name[NAME_SIZE];
        struct erasure_row row;
        struct buf persons = {0};
        int err = t_erasure_get(t, erasure, &row, NULL);
        if (err != 0 || row.state != ERASURE_FORGOTTEN)
                return err == UL_NOT_FOUND ? 0 : err; /* of another instance, or over */
        err = list_get(t, persons_name(erasure, name), PSEUDONYM_BYTES, &persons);
        if (err == 0)
                err = persons_add(t, erasure, &persons, pseudonym, scope);
        if (err == 0)
                err = list_put(t, name, &persons);
        buf_free(&persons, false);
        return err;
}

static int leave_slots(struct txn *t, const uint8_t person[PSEUDONYM_BYTES],
                       const uint8_t erasure[ULID_BYTES])
{
        char name[NAME_SIZE];
        struct buf slots = {0}, others = {0};
        int err = list_get(t, slots_name(person, name), SLOT_BYTES, &slots);
        for (size_t at = 0; at < slots.len && err == 0; at += SLOT_BYTES)
                if (memcmp(slots.data + at, erasure, ULID_BYTES) != 0)
                        err = add(t, &others, slots.data + at, SLOT_BYTES);
        if (err == 0 && others.len != slots.len)
                err = list_put(t, name, &others);
        buf_free(&others, false);
        buf_free(&slots, false);
        return err;
}

int overlap_end(struct txn *t, const uint8_t id[ULID_BYTES])
{
        char name[NAME_SIZE];
        struct buf persons = {0};
        int err = list_get(t, persons_name(id, name), PSEUDONYM_BYTES, &persons);
        for (size_t at = 0; at < persons.len && err == 0; at += PSEUDONYM_BYTES)
                err = leave_slots(t, persons.data + at, id);
        if (err == 0 && persons.len > 0)
                err = t_blob_del(t, name);
        buf_free(&persons, false);
        return err;
}

/* --- models that are being deleted --- */

struct going {
        struct hits *h;
        struct txn *t;
        const struct erase_request *r;
        const struct ledger_entry *x;
        const uint8_t *id;
};

static bool in_scope(const struct hits *h, uint32_t model)
{
        for (uint32_t i = 0; i < h->model_count; i++)
                if (h->models[i]->id == model)
                        return true;
        return false;
}

static bool named(const struct ledger_entry *x, const char *model)
{
        for (uint32_t i = 0; i < x->model_count; i++)
                if (strcmp(x->models[i], model) == 0)
                        return true;
        for (uint32_t i = 0; i < x->record_count; i++)
                if (strcmp(x->records[i].model, model) == 0)
                        return true;
        return false;
}

/* *there: the model holds a subject of the request, if only until it is scrubbed. */
static int subject_held(const struct going *g, uint32_t model, bool *there)
{
        struct subject_row subject;
        int err = 0;
        *there = false;
        for (uint32_t i = 0; i < g->r->subject_count && err == 0 && !*there; i++) {
                err = t_subject_get(g->t, model, g->r->subjects[i], &subject);
                *there = err == 0;
                err = err == UL_NOT_FOUND ? 0 : err;
        }
        return err;
}

/* The index does not tell whom earlier erasures took from the model: who names it waits in any
 * case. delete.c ends what waits for a model, when its files are gone. */
static int look_into(void *arg, const char *name, const struct model_row *row, const char *config,
                     size_t config_len)
{
        static const uint8_t nobody[PSEUDONYM_BYTES];
        struct going *g = arg;
        (void)config;
        (void)config_len;
        if (!row->deleting || in_scope(g->h, row->id))
                return 0;
        bool waits = g->x != NULL && named(g->x, name);
        int err = 0;
        if (!waits && g->h->everywhere)
                err = subject_held(g, row->id, &waits);
        if (err != 0 || !waits)
                return err;
        g->h->going_count++;
        return hits_scrub(g->t, g->id, row->id, SCRUB_SUBJECT, nobody, &(struct scrub_row){0});
}

int overlap_going(struct hits *h, struct txn *t, const struct erase_request *r,
                  const struct ledger_entry *x, const uint8_t id[ULID_BYTES])
{
        struct going g = {.h = h, .t = t, .r = r, .x = x, .id = id};
        return h->going ? t_model_each(t, look_into, &g) : 0;
}
