/* SPDX-License-Identifier: Apache-2.0
 * model_admin.c: models come and go: creation, deletion, and what is known of them. */
#include "daemon/run.h"
#include "daemon/scheduler.h"
#include "daemon/state.h"
#include "daemon/upload.h"
#include "daemon/views.h"
#include "lib/util/crash_point.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct create {
        struct command cmd;
        struct service *service;
        struct model_config *config; /* owned until it moves into the model */
        char actor[ACTOR_MAX];
        struct idempotency idem;
        service_model_done done;
        void *arg;
        struct model *model; /* made in run, registered in committed */
        struct model_view view;
        bool replayed;
        char replay_of[MODEL_NAME_MAX + 1];
        int late; /* what went wrong after the commit */
};

static int create_replay(struct create *c, struct txn *t)
{
        struct idempotency_row kept;
        int err = idempotency_check(t, &c->idem, &kept, &c->cmd.e);
        if (err != UL_EXISTS)
                return err;
        struct model_row row;
        err = t_model_get(t, kept.resource, &row, NULL);
        if (err == UL_NOT_FOUND || (err == 0 && row.deleting))
                return ul_fail(&c->cmd.e, UL_CONFLICT, "the model was deleted since");
        (void)snprintf(c->replay_of, sizeof c->replay_of, "%s", kept.resource);
        c->replayed = true;
        return err == 0 ? UL_EXISTS : err;
}

/* The first request may be of the same group: its model is registered with the commit. */
static void replay_view(struct create *c)
{
        c->late = service_model_get(c->service, c->replay_of, &c->view, &c->cmd.e);
        if (c->late == UL_NOT_FOUND)
                c->late = ul_fail(&c->cmd.e, UL_CONFLICT, "the model was deleted since");
}

static int create_rows(struct create *c, struct txn *t, struct model_row *row)
{
        struct buf text = {0};
        struct json_writer w;
        uint64_t id = 0;
        int err = t_counter_get(t, "next_model_id", &id);
        if (err == 0)
                err = t_counter_put(t, "next_model_id", id + 1);
        if (err != 0)
                return err;
        row->id = (uint32_t)id + 1; /* 0 means all models */
        row->created_ms = now_ms();
        jw_init(&w, &text);
        jw_object(&w);
        model_config_write(c->config, &w, true);
        jw_end_object(&w);
        if (text.failed || text.len > MODEL_CONFIG_BYTES_MAX)
                err = ul_fail(&c->cmd.e, UL_INVALID, "the configuration is over %d bytes",
                              MODEL_CONFIG_BYTES_MAX);
        else
                err = t_model_put(t, c->config->name, row, text.data, text.len);
        buf_free(&text, false);
        for (uint32_t i = 0; i < c->config->shards && err == 0; i++) {
                struct shard_row shard = {.slices = c->config->slices, .touched = UINT32_MAX};
                err = t_shard_put(t, row->id, i, &shard);
        }
        return err;
}

static int create_run(struct command *cmd, struct txn *t)
{
        struct create *c = (struct create *)cmd;
        struct model_row row = {0};
        struct event ev;
        char name[MODEL_NAME_MAX + 1];
        uint32_t scope = 0;
        int err = create_replay(c, t);
        if (err != 0)
                return err == UL_EXISTS ? 0 : err;
        memcpy(name, c->config->name, sizeof name);
        err = t_model_get(t, name, &row, NULL);
        if (err == 0)
                return ul_fail_field(&cmd->e, UL_EXISTS, "/name",
                                     row.deleting ? "a model of this name is being deleted"
                                                  : "a model of this name exists already");
        if (err != UL_NOT_FOUND)
                return err;
        if (c->service->model_count >= MODELS_MAX) /* only this thread adds models */
                return ul_fail(&cmd->e, UL_CONFLICT, "there are %d models already", MODELS_MAX);
        row = (struct model_row){0};
        err = create_rows(c, t, &row);
        if (err != 0)
                return err;
        struct model_config *config = c->config;
        c->config = NULL;
        err = model_scope(t, name, true, &scope);
        if (err == 0)
                err = model_create(c->service, row.id, scope, config, row.created_ms, &c->model,
                                   &cmd->e);
        else
                model_config_destroy(&config);
        if (err == 0)
                err = idempotency_keep(t, &c->idem, name, 201);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "model", name);
        jw_member_hex(&ev.w, "config", c->model->config_hash, SHA256_BYTES);
        struct audit_keys keys = {.model = name};
        err = event_append(&ev, c->service, t, "model.created", c->actor, &keys, NULL);
        CRASH_POINT("create.recorded");
        return err != 0 ? err : view_model(c->model, t, &c->view);
}

static void create_committed(struct command *cmd)
{
        struct create *c = (struct create *)cmd;
        if (c->replayed) {
                replay_view(c);
                return;
        }
        CRASH_POINT("create.committed");
        struct model *m = c->model;
        c->model = NULL;
        c->late = registry_add(c->service, m, &cmd->e);
}

static void create_done(struct command *cmd, int err)
{
        struct create *c = (struct create *)cmd;
        if (err == 0)
                err = c->late;
        c->done(c->arg, err, &cmd->e, err == 0 ? &c->view : NULL, c->replayed);
        model_view_release(&c->view);
        model_unref(c->model);
        if (c->config != NULL)
                model_config_destroy(&c->config);
        free(c);
}

int service_model_create(struct service *s, struct model_config *config_take, const char *actor,
                         const struct idempotency *idem, service_model_done done, void *arg,
                         struct errinfo *e)
{
        struct create *c = calloc(1, sizeof *c);
        if (c == NULL) {
                model_config_destroy(&config_take);
                return ul_fail(e, UL_NOMEM, "no memory for a model");
        }
        c->cmd.run = create_run;
        c->cmd.committed = create_committed;
        c->cmd.done = create_done;
        c->service = s;
        c->config = config_take;
        (void)snprintf(c->actor, sizeof c->actor, "%s", actor);
        if (idem != NULL)
                c->idem = *idem;
        c->done = done;
        c->arg = arg;
        int err = service_submit(s, &c->cmd, HEALTH_ADDS, e);
        if (err != 0) {
                model_config_destroy(&c->config);
                free(c);
        }
        return err;
}

/* --- deletion: marked here, carried out by delete.c --- */

struct removal {
        struct command cmd;
        struct model *model; /* referenced */
        char actor[ACTOR_MAX];
        service_model_done done;
        void *arg;
};

static int removal_run(struct command *cmd, struct txn *t)
{
        struct removal *r = (struct removal *)cmd;
        struct model_row row;
        struct event ev;
        const char *name = r->model->config->name;
        int err = t_model_get(t, name, &row, NULL);
        if (err == UL_NOT_FOUND || (err == 0 && (row.deleting || row.id != r->model->id)))
                return ul_fail(&cmd->e, UL_NOT_FOUND, "the model is deleted already");
        if (err != 0)
                return err;
        row.deleting = 1;
        err = t_model_put(t, name, &row, NULL, 0);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_text(&ev.w, "model", name);
        jw_member_u64(&ev.w, "records", row.records);
        struct audit_keys keys = {.model = name};
        err = event_append(&ev, r->model->service, t, "model.deletion_requested", r->actor, &keys,
                           NULL);
        CRASH_POINT("delete.marked");
        return err;
}

static void removal_committed(struct command *cmd)
{
        struct removal *r = (struct removal *)cmd;
        CRASH_POINT("delete.mark_committed");
        atomic_store(&r->model->deleting, true);
        atomic_fetch_add(&r->model->service->going, 1);
        snapshot_publish(r->model->cell, NULL);
        registry_remove(r->model->service, r->model);
}

static void removal_done(struct command *cmd, int err)
{
        struct removal *r = (struct removal *)cmd;
        struct service *s = r->model->service;
        if (err == 0)
                err = scheduler_delete(s->scheduler, r->model, r->done, r->arg);
        else
                model_unref(r->model);
        if (err != 0)
                r->done(r->arg, err, &cmd->e, NULL, false);
        free(r);
}

int service_model_delete(struct service *s, const char *name, const char *actor,
                         service_model_done done, void *arg, struct errinfo *e)
{
        struct model *m = NULL;
        int err = registry_get(s, name, &m, e);
        if (err != 0)
                return err;
        struct removal *r = calloc(1, sizeof *r);
        if (r == NULL) {
                model_unref(m);
                return ul_fail(e, UL_NOMEM, "no memory for a deletion");
        }
        r->cmd.run = removal_run;
        r->cmd.committed = removal_committed;
        r->cmd.done = removal_done;
        r->model = m;
        (void)snprintf(r->actor, sizeof r->actor, "%s", actor);
        r->done = done;
        r->arg = arg;
        err = service_submit(s, &r->cmd, HEALTH_ERASES, e);
        if (err != 0) {
                model_unref(m);
                free(r);
        }
        return err;
}

/* --- reads --- */

/* A model is registered before its creation is served, and its rows may go before a reader has let
 * go of it: what is shown has no such model then. */
static int fail_read(struct errinfo *e, int err, const char *text)
{
        return ul_fail(e, err, "%s", err == UL_NOT_FOUND ? "there is no model of this name" : text);
}

int service_model_get(struct service *s, const char *name, struct model_view *out,
                      struct errinfo *e)
{
        struct model *m = NULL;
        struct txn *t = NULL;
        int err = registry_get(s, name, &m, e);
        if (err == 0)
                err = told_read(s, &t, e);
        if (err == 0) {
                err = view_model(m, t, out);
                txn_abort(&t);
                if (err != 0)
                        (void)fail_read(e, err, "the model cannot be read");
        }
        model_unref(m);
        return err;
}

int service_model_list(struct service *s, const char *after, uint32_t limit, struct model_view *out,
                       uint32_t *count, struct errinfo *e)
{
        struct model **models = NULL;
        uint32_t n = 0;
        struct txn *t = NULL;
        *count = 0;
        int err = registry_all(s, &models, &n, e);
        if (err != 0)
                return err;
        err = told_read(s, &t, e);
        for (uint32_t i = 0; i < n && *count < limit && err == 0; i++) {
                if (after != NULL && strcmp(models[i]->config->name, after) <= 0)
                        continue;
                err = view_model(models[i], t, &out[*count]);
                if (err == 0)
                        ++*count;
                else if (err == UL_NOT_FOUND) /* deleted between registry and store */
                        err = 0;
        }
        if (t != NULL)
                txn_abort(&t);
        if (err != 0) {
                for (uint32_t i = 0; i < *count; i++)
                        model_view_release(&out[i]);
                *count = 0;
                if (e->code == 0)
                        (void)ul_fail(e, err, "the models cannot be read");
        }
        registry_release(models, n);
        return err;
}

struct slice_list {
        struct slice_view *view;
        uint32_t count, cap;
};

static int add_slice(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row)
{
        struct slice_list *l = arg;
        if (l->count == l->cap) {
                uint32_t cap = l->cap == 0 ? 16 : l->cap * 2;
                struct slice_view *grown = realloc(l->view, cap * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                l->view = grown;
                l->cap = cap;
        }
        struct slice_view *v = &l->view[l->count++];
        *v = (struct slice_view){.shard = shard,
                                 .slice = slice,
                                 .live = row->live,
                                 .erased = row->erased,
                                 .has_checkpoint = row->has_checkpoint != 0};
        memcpy(v->checkpoint_hash, row->file_hash, SHA256_BYTES);
        return 0;
}

static int show_shard(struct model *m, struct txn *t, const struct model_row *model, uint32_t shard,
                      service_shard_fn fn, void *arg)
{
        struct slice_list l = {0};
        struct shard_row row;
        struct training training;
        struct shard_view v = {.shard = shard};
        int err = t_shard_get(t, m->id, shard, &row);
        if (err == 0)
                err = view_served_from(t, m->id, shard, &v.served_from_slice);
        if (err == 0)
                err = t_slice_each(t, m->id, shard, add_slice, &l);
        if (err == 0) {
                bool dirty = shard_dirty(model, &row);
                bool trained =
                        training_get(t, m->id, &training) == 0 && training_has(&training, shard);
                v.dirty_from = dirty ? row.clean + 1 : 0;
                v.slice_count = l.count;
                v.slices = l.view;
                v.state = rows_known_damaged(m, shard) ? "damaged"
                          : !model->trained            ? (l.count > 0 ? "loaded" : "empty")
                          : trained                    ? "training"
                          : dirty                      ? "dirty"
                                                       : "clean";
                err = fn(arg, &v);
        }
        free(l.view);
        return err;
}

int service_shards(struct service *s, const char *model, service_shard_fn fn, void *arg,
                   struct errinfo *e)
{
        struct model *m = NULL;
        struct txn *t = NULL;
        struct model_row row;
        int err = registry_get(s, model, &m, e);
        if (err == 0)
                err = told_read(s, &t, e);
        if (err == 0)
                err = t_model_get(t, m->config->name, &row, NULL);
        for (uint32_t i = 0; err == 0 && i < m->config->shards; i++)
                err = show_shard(m, t, &row, i, fn, arg);
        if (err < 0 && e->code == 0)
                (void)fail_read(e, err, "the shards cannot be read");
        if (t != NULL)
                txn_abort(&t);
        model_unref(m);
        return err < 0 ? err : 0;
}

int service_record_get(struct service *s, const char *model, const uint8_t record[PSEUDONYM_BYTES],
                       struct record_view *out, struct errinfo *e)
{
        struct model *m = NULL;
        struct txn *t = NULL;
        struct record_row row;
        struct subject_row subject = {0};
        struct shard_row shard;
        struct model_row mrow;
        bool staged = false;
        int err = registry_get(s, model, &m, e);
        if (err == 0)
                err = told_read(s, &t, e);
        if (err == 0)
                err = t_record_get(t, m->id, record, &row);
        if (err == 0)
                err = t_subject_get(t, m->id, row.subject, &subject);
        if (err == 0)
                err = record_staged(t, &row, &staged);
        if (err == 0)
                err = t_shard_get(t, m->id, row.shard, &shard);
        if (err == 0)
                err = t_model_get(t, m->config->name, &mrow, NULL);
        if (err == 0 && (subject.erased || staged))
                err = UL_NOT_FOUND;
        if (err == 0)
                *out = (struct record_view){
                        .shard = row.shard,
                        .slice = row.slice,
                        .state = mrow.trained && row.slice <= shard.clean ? "trained" : "loaded"};
        else if (e->code == 0)
                (void)ul_fail(e, err,
                              err == UL_NOT_FOUND ? "no such record is held"
                                                  : "the record cannot be read");
        if (t != NULL)
                txn_abort(&t);
        model_unref(m);
        return err;
}
