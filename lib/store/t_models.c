/* SPDX-License-Identifier: Apache-2.0
 * t_models.c: name -> row and configuration text, in one value. It does not read the text. */
#include "lib/store/db.h"
#include "lib/store/tables.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* value: id u32, deleting u32, trained u32, generation u64, records u64, created i64, text */
enum { ROW_BYTES = 3 * 4 + 3 * 8 };

static size_t name_len(const char *name)
{
        size_t len = strnlen(name, MODEL_NAME_MAX + 1);
        assert(len > 0 && len <= MODEL_NAME_MAX);
        return len;
}

static void pack_row(struct packer *p, const struct model_row *row)
{
        pack_u32(p, row->id);
        pack_u32(p, row->deleting);
        pack_u32(p, row->trained);
        pack_u64(p, row->generation);
        pack_u64(p, row->records);
        pack_i64(p, row->created_ms);
}

/* Leaves u at the configuration. */
static void unpack_row(struct unpacker *u, struct model_row *row)
{
        memset(row, 0, sizeof *row);
        row->id = unpack_u32(u);
        row->deleting = unpack_u32(u);
        row->trained = unpack_u32(u);
        row->generation = unpack_u64(u);
        row->records = unpack_u64(u);
        row->created_ms = unpack_i64(u);
}

int t_model_get(struct txn *t, const char *name, struct model_row *row, struct buf *config_json)
{
        struct unpacker v;
        memset(row, 0, sizeof *row);
        size_t len = strnlen(name, MODEL_NAME_MAX + 1);
        if (len == 0 || len > MODEL_NAME_MAX) /* a client's name, which nothing can have */
                return t->err != 0 ? t->err : UL_NOT_FOUND;
        int err = db_get(t, TABLE_MODELS, name, len, &v);
        if (err != 0)
                return err;
        unpack_row(&v, row);
        if (v.bad)
                return txn_fail(t, UL_CORRUPT);
        if (config_json == NULL)
                return 0;
        buf_append(config_json, v.at, v.left);
        return config_json->failed ? txn_fail(t, UL_NOMEM) : 0;
}

int t_model_put(struct txn *t, const char *name, const struct model_row *row, const void *config,
                size_t config_len)
{
        size_t len = name_len(name);
        if (config == NULL) {
                struct model_row old;
                struct unpacker v;
                config_len = 0;
                int err = db_get(t, TABLE_MODELS, name, len, &v);
                if (err != 0 && err != UL_NOT_FOUND)
                        return err;
                if (err == 0) {
                        unpack_row(&v, &old);
                        if (v.bad)
                                return txn_fail(t, UL_CORRUPT);
                        config = v.at;
                        config_len = v.left;
                }
        }
        if (t->err != 0)
                return t->err;
        /* a copy: the stored text's page may move while it is written over */
        size_t size = ROW_BYTES + config_len;
        uint8_t *value = malloc(size);
        if (value == NULL)
                return txn_fail(t, UL_NOMEM);
        struct packer p = pack_into(value, size);
        pack_row(&p, row);
        pack_bytes(&p, config, config_len);
        int err = db_put(t, TABLE_MODELS, name, len, value, packed(&p));
        free(value);
        return err;
}

int t_model_del(struct txn *t, const char *name)
{
        return db_del(t, TABLE_MODELS, name, name_len(name));
}

struct model_walk {
        struct txn *t;
        t_model_fn fn;
        void *arg;
};

static int on_model(void *arg, struct unpacker *key, struct unpacker *value)
{
        struct model_walk *w = arg;
        struct model_row row;
        char name[MODEL_NAME_MAX + 1] = "";
        unpack_row(value, &row);
        if (value->bad || key->left > MODEL_NAME_MAX)
                return txn_fail(w->t, UL_CORRUPT);
        memcpy(name, key->at, key->left);
        return w->fn(w->arg, name, &row, (const char *)value->at, value->left);
}

int t_model_each(struct txn *t, t_model_fn fn, void *arg)
{
        struct model_walk w = {.t = t, .fn = fn, .arg = arg};
        return db_walk(t, TABLE_MODELS, &(struct db_span){0}, on_model, &w);
}
