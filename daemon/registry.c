/* SPDX-License-Identifier: Apache-2.0
 * registry.c: the models that exist, by name, with counted references, so that a model that is
 * being deleted lives until the last request that uses it has left. It knows nothing of what a
 * model's records or checkpoints are. */
#include "daemon/state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void model_free(struct model *m)
{
        serving_clear(m);
        if (m->cell != NULL)
                snapshot_cell_destroy(&m->cell);
        encoding_clear(&m->encoding);
        model_config_destroy(&m->config);
        wipe(m->key, sizeof m->key);
        free(m);
}

int model_create(struct service *s, uint32_t id, uint32_t scope, struct model_config *config_take,
                 int64_t created_ms, struct model **out, struct errinfo *e)
{
        struct model *m = calloc(1, sizeof *m);
        int err;
        if (m == NULL) {
                model_config_destroy(&config_take);
                return ul_fail(e, UL_NOMEM, "no memory for a model");
        }
        atomic_init(&m->refs, 1);
        m->service = s;
        m->id = id;
        m->scope = scope;
        m->config = config_take;
        m->created_ms = created_ms;
        model_key(m->config, s->pseudonym_key, m->key);
        model_config_hash(m->config, m->config_hash);
        err = path_format(m->root, e, "%s/%s", s->models_dir, m->config->name);
        if (err == 0)
                err = encoding_make(m->config, &m->encoding, e);
        if (err == 0) {
                m->cell = snapshot_cell_create();
                if (m->cell == NULL)
                        err = ul_fail(e, UL_NOMEM, "no memory for a model");
        }
        if (err != 0) {
                model_free(m);
                return err;
        }
        *out = m;
        return 0;
}

int model_scope(struct txn *t, const char *name, bool make, uint32_t *scope)
{
        char key[MODEL_NAME_MAX + 16];
        uint64_t v = 0;
        uint64_t last = 0;
        (void)snprintf(key, sizeof key, "scope/%s", name);
        int err = t_counter_get(t, key, &v);
        if (err == 0 && v == 0 && make) {
                err = t_counter_get(t, "last_scope", &last);
                v = last + 1; /* 0 means all models */
                if (err == 0)
                        err = t_counter_put(t, "last_scope", v);
                if (err == 0)
                        err = t_counter_put(t, key, v);
                (void)snprintf(key, sizeof key, "scope_name/%llu", (unsigned long long)v);
                if (err == 0)
                        err = t_blob_put(t, key, name, strlen(name));
        }
        *scope = (uint32_t)v;
        return err;
}

struct model *model_ref(struct model *m)
{
        atomic_fetch_add(&m->refs, 1);
        return m;
}

void model_unref(struct model *m)
{
        if (m == NULL)
                return;
        uint32_t before = atomic_fetch_sub(&m->refs, 1);
        assert(before > 0);
        if (before == 1)
                model_free(m);
}

/* Position of `name`, or where it would stand. Under registry_lock. */
static uint32_t position(const struct service *s, const char *name, bool *found)
{
        uint32_t low = 0;
        uint32_t high = s->model_count;
        *found = false;
        while (low < high) {
                uint32_t mid = (low + high) / 2;
                int order = strcmp(s->models[mid]->config->name, name);
                if (order == 0) {
                        *found = true;
                        return mid;
                }
                if (order < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

struct model *registry_find(struct service *s, const char *name)
{
        struct model *m = NULL;
        bool found;
        pthread_rwlock_rdlock(&s->registry_lock);
        uint32_t at = position(s, name, &found);
        if (found && !atomic_load(&s->models[at]->deleting))
                m = model_ref(s->models[at]);
        pthread_rwlock_unlock(&s->registry_lock);
        return m;
}

struct model *registry_find_id(struct service *s, uint32_t id)
{
        struct model *m = NULL;
        pthread_rwlock_rdlock(&s->registry_lock);
        for (uint32_t i = 0; i < s->model_count && m == NULL; i++)
                if (s->models[i]->id == id && !atomic_load(&s->models[i]->deleting))
                        m = model_ref(s->models[i]);
        pthread_rwlock_unlock(&s->registry_lock);
        return m;
}

int registry_get(struct service *s, const char *name, struct model **out, struct errinfo *e)
{
        *out = registry_find(s, name);
        if (*out == NULL)
                return ul_fail(e, UL_NOT_FOUND,
                               "there is no model of this name; GET /v1/models lists them");
        return 0;
}

int registry_add(struct service *s, struct model *m_take, struct errinfo *e)
{
        int err = 0;
        bool found;
        pthread_rwlock_wrlock(&s->registry_lock);
        uint32_t at = position(s, m_take->config->name, &found);
        if (found) {
                err = ul_fail(e, UL_EXISTS, "a model of this name exists already");
        } else {
                struct model **grown = realloc(s->models, (s->model_count + 1) * sizeof *s->models);
                if (grown == NULL) {
                        err = ul_fail(e, UL_NOMEM, "no memory for a model");
                } else {
                        s->models = grown;
                        memmove(grown + at + 1, grown + at, (s->model_count - at) * sizeof *grown);
                        grown[at] = m_take;
                        s->model_count++;
                }
        }
        pthread_rwlock_unlock(&s->registry_lock);
        if (err != 0)
                model_unref(m_take);
        return err;
}

void registry_remove(struct service *s, const struct model *m)
{
        struct model *gone = NULL;
        pthread_rwlock_wrlock(&s->registry_lock);
        for (uint32_t i = 0; i < s->model_count; i++) {
                if (s->models[i] != m)
                        continue;
                gone = s->models[i];
                memmove(s->models + i, s->models + i + 1,
                        (s->model_count - i - 1) * sizeof *s->models);
                s->model_count--;
                break;
        }
        pthread_rwlock_unlock(&s->registry_lock);
        model_unref(gone);
}

int registry_all(struct service *s, struct model ***out, uint32_t *count, struct errinfo *e)
{
        int err = 0;
        *out = NULL;
        *count = 0;
        pthread_rwlock_rdlock(&s->registry_lock);
        struct model **all = malloc((s->model_count + 1) * sizeof *all);
        if (all == NULL) {
                err = ul_fail(e, UL_NOMEM, "no memory for the list of models");
        } else {
                for (uint32_t i = 0; i < s->model_count; i++)
                        if (!atomic_load(&s->models[i]->deleting))
                                all[(*count)++] = model_ref(s->models[i]);
                *out = all;
        }
        pthread_rwlock_unlock(&s->registry_lock);
        return err;
}

void registry_release(struct model **models, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++)
                model_unref(models[i]);
        free(models);
}
