/* SPDX-License-Identifier: Apache-2.0
 * webhook_admin.c: what an operator asks of webhooks: who there is and how they fare, a new secret,
 * a test message, an end to being disabled. */
#include "daemon/webhook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- looking --- */

static void fill_view(const struct config *c, const uint8_t hash[ENDPOINT_HASH_BYTES],
                      const struct endpoint_row *row, struct webhook_view *v)
{
        int at = row->name[0] != '\0' ? webhook_find(c, row->name) : -1;
        *v = (struct webhook_view){.enabled = row->state == ENDPOINT_ENABLED,
                                   .changed_ms = row->changed_ms,
                                   .pending = row->pending,
                                   .failures = row->failures,
                                   .attempt_ms = row->attempt_ms,
                                   .delivered_ms = row->delivered_ms,
                                   .status = row->status};
        memcpy(v->key, hash, ENDPOINT_HASH_BYTES);
        (void)snprintf(v->name, sizeof v->name, "%s", row->name);
        (void)snprintf(v->url, sizeof v->url, "%s", row->url);
        if (at >= 0)
                (void)snprintf(v->events, sizeof v->events, "%s",
                               config_events(c->webhooks[at].events));
        if (row->attempt_ms != 0)
                v->outcome = row->failures == 0 ? "delivered"
                             : row->outcome == HTTP_ANSWERED
                                     ? "status"
                                     : http_outcome_name((enum http_outcome)row->outcome);
}

struct walk {
        struct service *s;
        service_webhook_fn fn;
        void *arg;
};

static int show(void *arg, const uint8_t hash[ENDPOINT_HASH_BYTES], const struct endpoint_row *row)
{
        struct walk *w = arg;
        struct webhook_view v;
        if (row->kind != OUTGOING_WEBHOOK || row->state == ENDPOINT_REMOVED)
                return 0;
        fill_view(&w->s->config, hash, row, &v);
        return w->fn(w->arg, &v);
}

int service_webhook_list(struct service *s, const uint8_t *after, service_webhook_fn fn, void *arg,
                         struct errinfo *e)
{
        struct walk w = {.s = s, .fn = fn, .arg = arg};
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = t_endpoint_each(t, after, show, &w);
        txn_abort(&t);
        return err < 0 ? ul_fail(e, err, "the webhooks cannot be read") : 0;
}

static int not_found(struct errinfo *e)
{
        return ul_fail_field(e, UL_NOT_FOUND, "webhook",
                             "the configuration has no [webhook] section of this name");
}

static int get_row(struct service *s, struct txn *t, const char *name,
                   uint8_t hash[ENDPOINT_HASH_BYTES], struct endpoint_row *row, struct errinfo *e)
{
        if (webhook_find(&s->config, name) < 0)
                return not_found(e);
        outgoing_endpoint_hash(OUTGOING_WEBHOOK, name, NULL, hash);
        int err = t_endpoint_get(t, hash, row);
        return err == UL_NOT_FOUND ? txn_fail(t, UL_CORRUPT) : err;
}

int service_webhook_get(struct service *s, const char *name, struct webhook_view *out,
                        struct errinfo *e)
{
        uint8_t hash[ENDPOINT_HASH_BYTES];
        struct endpoint_row row;
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = get_row(s, t, name, hash, &row, e);
        txn_abort(&t);
        if (err == 0)
                fill_view(&s->config, hash, &row, out);
        else if (e->code == 0)
                (void)ul_fail(e, err, "the webhook cannot be read");
        return err;
}

/* --- changing --- */

struct webhook_command {
        struct command cmd;
        struct service *service;
        char name[WEBHOOK_NAME_MAX + 1];
        char actor[ACTOR_MAX];
        int64_t overlap_ms;
        struct webhook_result result;
        service_webhook_done done;
        void *arg;
};

static int audit(struct webhook_command *c, struct txn *t, const char *type, int64_t until_ms)
{
        struct event ev;
        event_begin(&ev);
        jw_member_text(&ev.w, "webhook", c->name);
        if (until_ms != 0)
                jw_member_time(&ev.w, "previous_until", until_ms);
        return event_append(&ev, c->service, t, type, c->actor, NULL, NULL);
}

/* The file is durable before the commit: where that fails the answer says so, and the new secret
 * signs beside the old one. */
static int rotate_run(struct command *cmd, struct txn *t)
{
        struct webhook_command *c = (struct webhook_command *)cmd;
        struct webhooks *w = c->service->webhooks;
        int at = webhook_find(&c->service->config, c->name);
        bool callbacks = strcmp(c->name, WEBHOOK_CALLBACKS) == 0;
        int64_t now = now_ms();
        if (at < 0 && !callbacks)
                return not_found(&cmd->e);
        c->result.previous_until_ms = now + c->overlap_ms;
        int err = audit(c, t, "webhook.rotated", c->result.previous_until_ms);
        if (err != 0)
                return err;
        pthread_mutex_lock(&w->lock);
        err = webhook_secrets_rotate(callbacks ? &w->callbacks : &w->of[at], c->overlap_ms, now,
                                     c->result.secret, &cmd->e);
        pthread_mutex_unlock(&w->lock);
        return err;
}

static int enable_run(struct command *cmd, struct txn *t)
{
        struct webhook_command *c = (struct webhook_command *)cmd;
        uint8_t hash[ENDPOINT_HASH_BYTES];
        struct endpoint_row row;
        int err = get_row(c->service, t, c->name, hash, &row, &cmd->e);
        if (err == 0 && row.state != ENDPOINT_ENABLED) {
                row.state = ENDPOINT_ENABLED;
                row.changed_ms = now_ms();
                row.failures = 0;
                err = t_endpoint_put(t, hash, &row);
                if (err == 0)
                        err = audit(c, t, "webhook.enabled", 0);
        }
        if (err == 0)
                fill_view(&c->service->config, hash, &row, &c->result.view);
        return err;
}

static int test_run(struct command *cmd, struct txn *t)
{
        struct webhook_command *c = (struct webhook_command *)cmd;
        uint8_t hash[ENDPOINT_HASH_BYTES];
        struct endpoint_row row;
        char data[64 + WEBHOOK_NAME_MAX];
        int err = get_row(c->service, t, c->name, hash, &row, &cmd->e);
        if (err == 0 && row.state != ENDPOINT_ENABLED)
                err = ul_fail(&cmd->e, UL_CONFLICT,
                              "this webhook is disabled since its receiver answered 410 Gone; "
                              "enable it first");
        if (err != 0)
                return err;
        ulid_make(c->result.id);
        c->result.queued_ms = now_ms();
        int n = snprintf(data, sizeof data, "{\"webhook\":\"%s\"}", c->name);
        return webhook_send(c->service, t, c->name, NULL, "webhook.test", c->result.queued_ms, NULL,
                            data, (size_t)n, c->result.id);
}

static void command_done(struct command *cmd, int err)
{
        struct webhook_command *c = (struct webhook_command *)cmd;
        c->done(c->arg, err, &cmd->e, err == 0 ? &c->result : NULL);
        wipe(&c->result, sizeof c->result);
        free(c);
}

static int submit(struct service *s, const char *name, const char *actor, int64_t overlap_ms,
                  int (*run)(struct command *, struct txn *), service_webhook_done done, void *arg,
                  struct errinfo *e)
{
        struct webhook_command *c = calloc(1, sizeof *c);
        if (c == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a webhook");
        c->cmd.run = run;
        c->cmd.done = command_done;
        c->service = s;
        c->overlap_ms = overlap_ms;
        (void)snprintf(c->name, sizeof c->name, "%s", name);
        (void)snprintf(c->actor, sizeof c->actor, "%s", actor);
        c->done = done;
        c->arg = arg;
        int err = strlen(name) > WEBHOOK_NAME_MAX ? not_found(e)
                                                  : service_submit(s, &c->cmd, HEALTH_ADDS, e);
        if (err != 0)
                free(c);
        return err;
}

int service_webhook_rotate(struct service *s, const char *name, uint32_t overlap_s,
                           const char *actor, service_webhook_done done, void *arg,
                           struct errinfo *e)
{
        return submit(s, name, actor, (int64_t)overlap_s * 1000, rotate_run, done, arg, e);
}

int service_webhook_enable(struct service *s, const char *name, const char *actor,
                           service_webhook_done done, void *arg, struct errinfo *e)
{
        return submit(s, name, actor, 0, enable_run, done, arg, e);
}

int service_webhook_test(struct service *s, const char *name, const char *actor,
                         service_webhook_done done, void *arg, struct errinfo *e)
{
        return submit(s, name, actor, 0, test_run, done, arg, e);
}
