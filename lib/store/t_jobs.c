/* SPDX-License-Identifier: Apache-2.0
 * t_jobs.c: ulid -> the job and its result text, in one value. It does not read the text. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* value: kind u8, state u8, model u32, shard u32, attempts u32, created, started, ended i64,
 * cost u64, model_name text, error text, then the result */
enum {
        ROW_BYTES_MAX = 2 + 3 * 4 + 4 * 8 + 1 + MODEL_NAME_MAX + 1 + 1 +
                        (int)sizeof((struct job_row *)0)->error,
};

static void pack_row(struct packer *p, const struct job_row *row)
{
        pack_u8(p, row->kind);
        pack_u8(p, row->state);
        pack_u32(p, row->model);
        pack_u32(p, row->shard);
        pack_u32(p, row->attempts);
        pack_i64(p, row->created_ms);
        pack_i64(p, row->started_ms);
        pack_i64(p, row->ended_ms);
        pack_u64(p, row->cost);
        pack_text(p, row->model_name, sizeof row->model_name);
        pack_text(p, row->error, sizeof row->error);
}

/* Leaves u at the result. */
static void unpack_row(struct unpacker *u, struct job_row *row)
{
        memset(row, 0, sizeof *row);
        row->kind = unpack_u8(u);
        row->state = unpack_u8(u);
        row->model = unpack_u32(u);
        row->shard = unpack_u32(u);
        row->attempts = unpack_u32(u);
        row->created_ms = unpack_i64(u);
        row->started_ms = unpack_i64(u);
        row->ended_ms = unpack_i64(u);
        row->cost = unpack_u64(u);
        unpack_text(u, row->model_name, sizeof row->model_name);
        unpack_text(u, row->error, sizeof row->error);
        if (row->kind > JOB_COMPACT || row->state > JOB_CANCELLED)
                u->bad = true;
}

int t_job_put(struct txn *t, const uint8_t id[ULID_BYTES], const struct job_row *row,
              const char *result, size_t result_len)
{
        assert(result != NULL || result_len == 0);
        if (t->err != 0)
                return t->err;
        size_t size = ROW_BYTES_MAX + result_len;
        uint8_t *value = malloc(size);
        if (value == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(value, size);
        pack_row(&p, row);
        pack_bytes(&p, result, result_len);
        int err = db_put(t, TABLE_JOBS, id, ULID_BYTES, value, packed(&p));
        free(value);
        return err;
}

int t_job_get(struct txn *t, const uint8_t id[ULID_BYTES], struct job_row *row, struct buf *result)
{
        struct unpacker v;
        memset(row, 0, sizeof *row);
        int err = db_get(t, TABLE_JOBS, id, ULID_BYTES, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        if (v.bad)
                return txn_fail(t, UL_CORRUPT);
        if (result == NULL)
                return 0;
        buf_append(result, v.at, v.left);
        return result->failed ? txn_fail(t, UL_NOMEM) : 0;
}

int t_job_prune(struct txn *t, uint64_t keep)
{
        enum { AT_ONCE = 4 };
        uint8_t oldest[ULID_BYTES];
        struct job_row row;
        uint64_t count;
        int err = db_count(t, TABLE_JOBS, &count);
        for (int i = 0; err == 0 && i < AT_ONCE && count > keep; i++, count--) {
                err = db_first(t, TABLE_JOBS, NULL, 0, oldest, sizeof oldest);
                if (err == 0)
                        err = t_job_get(t, oldest, &row, NULL);
                if (err != 0 || row.state == JOB_QUEUED || row.state == JOB_RUNNING)
                        break;
                err = db_del(t, TABLE_JOBS, oldest, sizeof oldest);
        }
        return err;
}

struct job_walk {
        struct txn *t;
        t_job_fn fn;
        void *arg;
};

static int on_job(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct job_walk *w = arg;
        struct job_row row;
        uint8_t id[ULID_BYTES];
        unpack_bytes(key, id, sizeof id);
        unpack_row(value, &row);
        if (!unpacked(key) || value->bad)
                return txn_fail(w->t, UL_CORRUPT);
        const char *result = value->left > 0 ? (const char *)value->at : NULL;
        return w->fn(w->arg, id, &row, result, value->left);
}

int t_job_each_desc(struct txn *t, const uint8_t *before, t_job_fn fn, void *arg)
{
        struct job_walk w = {.t = t, .fn = fn, .arg = arg};
        struct db_span span = {
                .from = before, .from_len = ULID_BYTES, .past = true, .descending = true};
        return db_walk(t, TABLE_JOBS, &span, on_job, &w);
}
