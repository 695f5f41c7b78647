/* SPDX-License-Identifier: Apache-2.0
 * serving.c: from what the store says is clean to a snapshot. A shard is served from its highest
 * clean checkpoint, or from one that stands while it is compacted; one that holds no record is left
 * out. Where a checkpoint cannot be read or memory runs out, the constituent is left out, never
 * served stale (invariant 4). */
#include "daemon/compact.h"
#include "daemon/state.h"

#include "lib/checkpoint/checkpoint.h"
#include "lib/sisa/job.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the loaded checkpoint of (shard, slice) is kept; grows the table. NULL: out of memory. */
static struct served **place(struct model *m, uint32_t shard, uint32_t slice)
{
        if (slice > m->served_slices) {
                uint32_t width = slice > m->config->slices ? slice + 3 : m->config->slices;
                struct served **wide = calloc((size_t)m->config->shards * width, sizeof *wide);
                if (wide == NULL)
                        return NULL;
                for (uint32_t sh = 0; sh < m->config->shards && m->served != NULL; sh++)
                        memcpy(wide + (size_t)sh * width, m->served + (size_t)sh * m->served_slices,
                               m->served_slices * sizeof *wide);
                free(m->served);
                m->served = wide;
                m->served_slices = width;
        }
        return m->served + (size_t)shard * m->served_slices + (slice - 1);
}

void serving_drop(struct model *m, uint32_t shard, uint32_t from_slice)
{
        for (uint32_t slice = from_slice; slice >= 1 && slice <= m->served_slices; slice++) {
                struct served **at = m->served + (size_t)shard * m->served_slices + (slice - 1);
                if (*at != NULL)
                        served_unref(at);
        }
}

void serving_clear(struct model *m)
{
        for (uint32_t shard = 0; shard < m->config->shards && m->served != NULL; shard++)
                serving_drop(m, shard, 1);
        free(m->served);
        m->served = NULL;
        m->served_slices = 0;
}

/* Splits a checkpoint's tensors (mean, scale, then layers in order) into a constituent. */
static int constituent_of(const struct model *m, const struct checkpoint *c,
                          struct constituent **out, struct errinfo *e)
{
        const float *mean = NULL;
        const float *scale = NULL;
        const float *params = NULL;
        uint64_t floats = 0;
        for (uint32_t i = 0; i < c->tensor_count; i++) {
                const struct checkpoint_tensor *x = &c->tensors[i];
                uint64_t n = (uint64_t)x->rows * (x->cols != 0 ? x->cols : 1);
                bool vector = x->cols == 0 && x->rows == m->config->features;
                if (strcmp(x->name, "mean") == 0 && vector)
                        mean = x->data;
                else if (strcmp(x->name, "scale") == 0 && vector)
                        scale = x->data;
                else {
                        if (params == NULL)
                                params = x->data;
                        if (x->data != params + floats)
                                return ul_fail(e, UL_CORRUPT, "a checkpoint's layers have gaps");
                        floats += n;
                }
        }
        if (params == NULL || floats != model_parameter_count(m->config) ||
            (mean == NULL) != (scale == NULL) || (mean != NULL) != m->config->standardize)
                return ul_fail(e, UL_CORRUPT, "a checkpoint does not have its model's shape");
        return constituent_create(m->config, params, mean, scale, out, e);
}

static int load(struct model *m, uint32_t shard, uint32_t slice, const struct slice_row *row,
                struct served **out, struct errinfo *e)
{
        char path[PATH_SIZE];
        struct checkpoint c = {0};
        struct constituent *k = NULL;
        uint8_t hash[SHA256_BYTES];
        int err = checkpoint_path(path, m->root, shard, slice, e);
        if (err != 0)
                return err;
        err = checkpoint_read(path, row->file_hash, &c, hash, e);
        if (err != 0)
                return err;
        if (memcmp(c.config_hash, m->config_hash, SHA256_BYTES) != 0 || c.shard != shard ||
            c.slice != slice)
                err = ul_fail(e, UL_CORRUPT, "a checkpoint belongs to another model or shard");
        else
                err = constituent_of(m, &c, &k, e);
        checkpoint_clear(&c);
        if (err != 0)
                return err;
        *out = served_create(k, shard, slice, row->data_hash);
        return *out != NULL ? 0 : ul_fail(e, UL_NOMEM, "no memory for a constituent");
}

/* Memory or descriptors ran out: published again as soon as the loop can have it (probe.c). */
static void publish_again(struct model *m)
{
        m->refresh = true;
        atomic_store(&m->service->unsettled, true);
}

/* The member of one shard, or NULL where it is left out. Borrowed from m->served. *failed: there is
 * a checkpoint, and it could not be had. */
static struct served *member(struct model *m, struct txn *t, uint32_t shard, uint32_t slice,
                             bool *failed)
{
        struct slice_row row;
        struct errinfo e = {0};
        *failed = false;
        if (slice == 0 || t_slice_get(t, m->id, shard, slice, &row) != 0 || !row.has_checkpoint ||
            row.records == 0)
                return NULL;
        struct served **at = place(m, shard, slice);
        if (at != NULL && *at != NULL)
                return *at;
        int err = at == NULL ? UL_NOMEM : load(m, shard, slice, &row, at, &e);
        *failed = err != 0;
        if (err == 0)
                return *at;
        if (err == UL_NOMEM || err == UL_BUSY)
                publish_again(m);
        else if (!checkpoint_damaged(m, shard, slice, e.detail))
                publish_again(m); /* to find it again */
        return NULL;
}

void serving_publish(struct model *m)
{
        struct txn *t = NULL;
        struct errinfo e = {0};
        struct model_row row = {0};
        struct snapshot *next = NULL;
        uint32_t count = 0;
        uint32_t degraded = 0;
        uint32_t unread = 0;
        struct served **members = calloc(m->config->shards, sizeof *members);
        m->refresh = false;
        int err = members == NULL ? UL_NOMEM : store_read(m->service->store, &t, &e);
        if (err == 0)
                err = t_model_get(t, m->config->name, &row, NULL);
        for (uint32_t i = 0; err == 0 && i < m->config->shards; i++) {
                struct shard_row shard;
                struct compaction c;
                err = t_shard_get(t, m->id, i, &shard);
                if (err == 0)
                        err = compaction_get(t, m->id, i, &c);
                if (err != 0)
                        break;
                bool failed;
                struct served *k =
                        member(m, t, i, c.standing != 0 ? c.standing : shard.clean, &failed);
                if (k != NULL)
                        members[count++] = k;
                bool stands = c.standing != 0 && c.whole != 0;
                unread += failed;
                degraded += failed || (shard_dirty(&row, &shard) && !stands);
        }
        if (err == 0 && !row.deleting && row.trained)
                next = snapshot_create(row.generation, members, count, degraded);
        if (err == 0 && next == NULL && !row.deleting && row.trained)
                err = UL_NOMEM;
        if (err != 0)
                log_event(LOG_LEVEL_ERROR, "snapshot_failed", "model=%s error=%s", m->config->name,
                          ul_err_name(err));
        if (t != NULL)
                txn_abort(&t);
        free(members);
        atomic_store(&m->unread, unread);
        CRASH_POINT("snapshot.built");
        snapshot_publish(m->cell, next);
        CRASH_POINT("snapshot.published");
        if (err != 0 && err != UL_NOT_FOUND) /* nothing is served after a failure */
                publish_again(m);
}

/* The first model after `after` in name order that is marked; NULL: none. The caller unrefs. */
static struct model *next_marked(struct service *s, const char *after)
{
        struct model *found = NULL;
        pthread_rwlock_rdlock(&s->registry_lock);
        for (uint32_t i = 0; i < s->model_count && found == NULL; i++)
                if (s->models[i]->refresh && strcmp(s->models[i]->config->name, after) > 0)
                        found = model_ref(s->models[i]);
        pthread_rwlock_unlock(&s->registry_lock);
        return found;
}

/* Only the writer thread changes `refresh`; the registry may change beside it. One at a time and by
 * name, without an array of them: nothing may be answered before the old snapshots are gone, so
 * this must not fail. One that fails is marked again, and passed by until the next group. */
void serving_publish_marked(void *service)
{
        char after[MODEL_NAME_MAX + 1] = "";
        struct model *m;
        while ((m = next_marked(service, after)) != NULL) {
                (void)snprintf(after, sizeof after, "%s", m->config->name);
                serving_publish(m);
                model_unref(m);
        }
}
