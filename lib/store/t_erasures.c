/* SPDX-License-Identifier: Apache-2.0
 * t_erasures.c: ulid -> the erasure and the shards that it touched, in one value. ULIDs begin with
 * their time, so key order is order of acceptance. Which state may follow which is not known here.
 */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* value: state, regulation, flags, refusal, extension, overdue u8 [6], matched u64,
 * received..deadline, refused, first_deadline i64 [8], executed ulid, scrubs_left u32, shards_left
 * u32, audit_index u64, reference text, affected_count u32, then each affected: model u32, shard
 * u32, slice u32, state u32, records u64, name text */
enum {
        ROW_BYTES_MAX = 6 + 8 + 8 * 8 + ULID_BYTES + 2 * 4 + 8 + 1 +
                        (int)sizeof((struct erasure_row *)0)->reference + 4,
        FLAG_HELD = 1,
        FLAG_SCOPED = 2,
        AFFECTED_BYTES_MIN = 4 * 4 + 8 + 1,
        AFFECTED_BYTES_MAX = AFFECTED_BYTES_MIN + MODEL_NAME_MAX + 1,
};

static void pack_row(struct packer *p, const struct erasure_row *row)
{
        pack_u8(p, row->state);
        pack_u8(p, row->regulation);
        pack_u8(p, (uint8_t)((row->held ? FLAG_HELD : 0) | (row->scoped ? FLAG_SCOPED : 0)));
        pack_u8(p, row->refusal);
        pack_u8(p, row->extension);
        pack_u8(p, row->overdue);
        pack_u64(p, row->matched);
        pack_i64(p, row->received_ms);
        pack_i64(p, row->accepted_ms);
        pack_i64(p, row->forgotten_ms);
        pack_i64(p, row->scrubbed_ms);
        pack_i64(p, row->completed_ms);
        pack_i64(p, row->deadline_ms);
        pack_i64(p, row->refused_ms);
        pack_i64(p, row->first_deadline_ms);
        pack_bytes(p, row->executed, ULID_BYTES);
        pack_u32(p, row->scrubs_left);
        pack_u32(p, row->shards_left);
        pack_u64(p, row->audit_index);
        pack_text(p, row->reference, sizeof row->reference);
        pack_u32(p, row->affected_count);
}

static void unpack_row(struct unpacker *u, struct erasure_row *row)
{
        memset(row, 0, sizeof *row);
        row->state = unpack_u8(u);
        row->regulation = unpack_u8(u);
        uint8_t flags = unpack_u8(u);
        row->held = (flags & FLAG_HELD) != 0;
        row->scoped = (flags & FLAG_SCOPED) != 0;
        row->refusal = unpack_u8(u);
        row->extension = unpack_u8(u);
        row->overdue = unpack_u8(u);
        row->matched = unpack_u64(u);
        row->received_ms = unpack_i64(u);
        row->accepted_ms = unpack_i64(u);
        row->forgotten_ms = unpack_i64(u);
        row->scrubbed_ms = unpack_i64(u);
        row->completed_ms = unpack_i64(u);
        row->deadline_ms = unpack_i64(u);
        row->refused_ms = unpack_i64(u);
        row->first_deadline_ms = unpack_i64(u);
        unpack_bytes(u, row->executed, ULID_BYTES);
        row->scrubs_left = unpack_u32(u);
        row->shards_left = unpack_u32(u);
        row->audit_index = unpack_u64(u);
        unpack_text(u, row->reference, sizeof row->reference);
        row->affected_count = unpack_u32(u);
        if (row->state > ERASURE_REFUSED || row->regulation > REGULATION_OTHER ||
            row->overdue > 1 || flags > (FLAG_HELD | FLAG_SCOPED) || row->deadline_ms < 0 ||
            row->affected_count > u->left / AFFECTED_BYTES_MIN)
                u->bad = true;
}

static void unpack_affected(struct unpacker *u, struct erasure_affected *a)
{
        memset(a, 0, sizeof *a);
        a->model = unpack_u32(u);
        a->shard = unpack_u32(u);
        a->slice = unpack_u32(u);
        a->state = unpack_u32(u);
        a->records = unpack_u64(u);
        unpack_text(u, a->model_name, sizeof a->model_name);
}

int t_erasure_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                  const struct erasure_affected *affected)
{
        assert(affected != NULL || row->affected_count == 0);
        if (t->err != 0)
                return t->err;
        size_t size = ROW_BYTES_MAX + (size_t)row->affected_count * AFFECTED_BYTES_MAX;
        uint8_t *value = malloc(size);
        if (value == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(value, size);
        pack_row(&p, row);
        for (uint32_t i = 0; i < row->affected_count; i++) {
                const struct erasure_affected *a = &affected[i];
                pack_u32(&p, a->model);
                pack_u32(&p, a->shard);
                pack_u32(&p, a->slice);
                pack_u32(&p, a->state);
                pack_u64(&p, a->records);
                pack_text(&p, a->model_name, sizeof a->model_name);
        }
        int err = db_put(t, TABLE_ERASURES, id, ULID_BYTES, value, packed(&p));
        free(value);
        return err;
}

/* Both parts of a value; *affected is allocated where there are any. */
static int unpack_erasure(struct txn *t, struct unpacker *u, struct erasure_row *row,
                          struct erasure_affected **affected)
{
        *affected = NULL;
        unpack_row(u, row);
        if (u->bad)
                return txn_fail(t, UL_CORRUPT);
        if (row->affected_count > 0) {
                *affected = calloc(row->affected_count, sizeof **affected);
                if (*affected == NULL)
                        return txn_fail(t, UL_NOMEM);
        }
        for (uint32_t i = 0; i < row->affected_count; i++)
                unpack_affected(u, &(*affected)[i]);
        int err = db_unpacked(t, u);
        if (err != 0) {
                free(*affected);
                *affected = NULL;
        }
        return err;
}

int t_erasure_get(struct txn *t, const uint8_t id[ULID_BYTES], struct erasure_row *row,
                  struct erasure_affected **affected)
{
        struct unpacker v;
        memset(row, 0, sizeof *row);
        if (affected != NULL)
                *affected = NULL;
        int err = db_get(t, TABLE_ERASURES, id, ULID_BYTES, &v);
        if (err != 0)
                return err;
        if (affected != NULL)
                return unpack_erasure(t, &v, row, affected);
        unpack_row(&v, row);
        return v.bad ? txn_fail(t, UL_CORRUPT) : 0;
}

struct erasure_walk {
        struct txn *t;
        t_erasure_fn fn;
        void *arg;
};

static int on_erasure(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct erasure_walk *w = arg;
        struct erasure_row row;
        struct erasure_affected *affected = NULL;
        uint8_t id[ULID_BYTES];
        unpack_bytes(key, id, sizeof id);
        if (!unpacked(key))
                return txn_fail(w->t, UL_CORRUPT);
        int err = unpack_erasure(w->t, value, &row, &affected);
        if (err == 0)
                err = w->fn(w->arg, id, &row, affected);
        free(affected);
        return err;
}

int t_erasure_each_desc(struct txn *t, const uint8_t *before, t_erasure_fn fn, void *arg)
{
        struct erasure_walk w = {.t = t, .fn = fn, .arg = arg};
        struct db_span span = {
                .from = before, .from_len = ULID_BYTES, .past = true, .descending = true};
        return db_walk(t, TABLE_ERASURES, &span, on_erasure, &w);
}
