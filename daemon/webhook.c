/* SPDX-License-Identifier: Apache-2.0
 * webhook.c: see webhook.h. What is told of is never about deliveries themselves: an endpoint that
 * fails must not make more work for itself. */
#include "daemon/webhook.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- a message --- */

int webhook_find(const struct config *c, const char *name)
{
        for (uint32_t i = 0; i < c->webhook_count; i++)
                if (strcmp(c->webhooks[i].name, name) == 0)
                        return (int)i;
        return -1;
}

static int sign(struct service *s, const struct outgoing_item *it, struct buf *headers,
                struct errinfo *e)
{
        struct webhooks *w = s->webhooks;
        char id[ULID_TEXT + 1], text[ULID_TEXT + 8];
        int64_t now = now_ms();
        const char *name = it->endpoint.name;
        int at = name[0] != '\0' ? webhook_find(&s->config, name) : -1;
        if (name[0] != '\0' && at < 0)
                return ul_fail(e, UL_NOT_FOUND, "this webhook is not in the configuration");
        (void)snprintf(text, sizeof text, "msg_%s", ulid_format(it->id, id));
        buf_printf(headers,
                   "Content-Type: application/json\nwebhook-id: %s\nwebhook-timestamp: %" PRId64
                   "\nwebhook-signature: ",
                   text, now / 1000);
        pthread_mutex_lock(&w->lock);
        webhook_sign(at < 0 ? &w->callbacks : &w->of[at], now, text, now / 1000, it->body,
                     it->body_len, headers);
        pthread_mutex_unlock(&w->lock);
        buf_append_str(headers, "\n");
        return 0;
}

const struct outgoing_kind webhook_kind = {.name = "webhook", .sign = sign};

int webhook_send(struct service *s, struct txn *t, const char *name, const char *url,
                 const char *type, int64_t time_ms, const uint8_t *erasure, const char *data,
                 size_t data_len, const uint8_t *id)
{
        struct buf body = {0};
        struct json_writer w;
        buf_init(&body, DELIVERY_BODY_MAX);
        jw_init(&w, &body);
        jw_object(&w);
        jw_member_string(&w, "type", type);
        jw_member_time(&w, "timestamp", time_ms);
        jw_key(&w, "data");
        jw_raw(&w, data, data_len);
        jw_end_object(&w);
        int err = body.failed ? txn_fail(t, UL_NOMEM) : 0;
        if (err == 0)
                err = outgoing_enqueue(s, t,
                                       &(struct delivery){.kind = OUTGOING_WEBHOOK,
                                                          .name = name,
                                                          .url = url,
                                                          .type = type,
                                                          .erasure = erasure,
                                                          .body = body.data,
                                                          .body_len = body.len},
                                       id);
        buf_free(&body, false);
        return err;
}

int service_callback_check(struct service *s, const char *url, struct errinfo *e)
{
        return http_url_check(url, s->config.allow_networks[0] != '\0', e);
}

/* --- who wants to know --- */

static bool about_deliveries(const char *type)
{
        static const char *const prefixes[] = {"delivery.", "endpoint.", "webhook."};
        for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
                if (strncmp(type, prefixes[i], strlen(prefixes[i])) == 0)
                        return true;
        return false;
}

static int tell_callback(struct service *s, struct txn *t, const char *type, int64_t time_ms,
                         const uint8_t *erasure, const char *data, size_t data_len)
{
        struct buf url = {0};
        int err = t_callback_get(t, erasure, &url);
        if (err == 0) {
                buf_append(&url, "", 1);
                err = url.failed ? txn_fail(t, UL_NOMEM)
                                 : webhook_send(s, t, NULL, (const char *)url.data, type, time_ms,
                                                erasure, data, data_len, NULL);
                bool last = strcmp(type, "erasure.completed") == 0 ||
                            strcmp(type, "erasure.refused") == 0;
                if (err == 0 && last)
                        err = t_callback_del(t, erasure);
        }
        buf_free(&url, false);
        return err == UL_NOT_FOUND ? 0 : err;
}

int webhook_tell(struct service *s, struct txn *t, const char *type, int64_t time_ms,
                 const uint8_t *erasure, const char *data, size_t data_len)
{
        int err = 0;
        if (about_deliveries(type))
                return 0;
        for (uint32_t i = 0; i < s->config.webhook_count && err == 0; i++) {
                const struct webhook_config *w = &s->config.webhooks[i];
                if (config_events_match(w->events, type))
                        err = webhook_send(s, t, w->name, NULL, type, time_ms, erasure, data,
                                           data_len, NULL);
        }
        if (err == 0 && erasure != NULL && strncmp(type, "erasure.", 8) == 0)
                err = tell_callback(s, t, type, time_ms, erasure, data, data_len);
        return err;
}

/* --- start: the store follows the configuration --- */

/* An endpoint that has got another address begins anew. */
static int follow(struct txn *t, const struct webhook_config *w)
{
        uint8_t hash[ENDPOINT_HASH_BYTES];
        struct endpoint_row row;
        outgoing_endpoint_hash(OUTGOING_WEBHOOK, w->name, NULL, hash);
        int err = t_endpoint_get(t, hash, &row);
        if (err == 0 && strcmp(row.url, w->url) == 0 && strcmp(row.name, w->name) == 0)
                return 0;
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        uint64_t pending = err == 0 ? row.pending : 0;
        row = (struct endpoint_row){
                .kind = OUTGOING_WEBHOOK, .pending = pending, .changed_ms = now_ms()};
        memcpy(row.name, w->name, sizeof w->name);
        memcpy(row.url, w->url, sizeof row.url);
        return t_endpoint_put(t, hash, &row);
}
_Static_assert((int)WEBHOOK_NAME_MAX == (int)ENDPOINT_NAME_MAX, "a name fits");

struct leftover { /* the first endpoint that is not in the configuration any more */
        const struct config *config;
        uint8_t hash[ENDPOINT_HASH_BYTES];
        struct endpoint_row row;
};

static int find_leftover(void *arg, const uint8_t hash[ENDPOINT_HASH_BYTES],
                         const struct endpoint_row *row)
{
        struct leftover *l = arg;
        if (row->kind != OUTGOING_WEBHOOK || row->name[0] == '\0' ||
            webhook_find(l->config, row->name) >= 0)
                return 0;
        memcpy(l->hash, hash, ENDPOINT_HASH_BYTES);
        l->row = *row;
        return 1;
}

static int retire(struct txn *t, struct leftover *l)
{
        if (l->row.pending == 0)
                return t_endpoint_del(t, l->hash);
        log_event(LOG_LEVEL_WARN, "webhook_removed", "endpoint=%s dropped=%" PRIu64, l->row.name,
                  l->row.pending);
        l->row.name[0] = '\0';
        l->row.state = ENDPOINT_REMOVED;
        l->row.changed_ms = now_ms();
        return t_endpoint_put(t, l->hash, &l->row);
}

static int follow_all(struct service *s, struct errinfo *e)
{
        struct txn *t = NULL;
        struct leftover l = {.config = &s->config};
        int err = store_write(s->store, &t, e);
        if (err != 0)
                return err;
        for (uint32_t i = 0; i < s->config.webhook_count && err == 0; i++)
                err = follow(t, &s->config.webhooks[i]);
        while (err == 0 && (err = t_endpoint_each(t, NULL, find_leftover, &l)) == 1)
                err = retire(t, &l);
        if (err == 0)
                err = txn_commit(&t, e);
        else
                txn_abort(&t);
        CRASH_POINT("webhook.followed");
        return err != 0 && e->code == 0 ? ul_fail(e, err, "the webhooks cannot be recorded") : err;
}

static int open_secrets(struct service *s, struct errinfo *e)
{
        char file[SECRET_NAME_MAX];
        webhook_secret_file(NULL, file);
        int err = webhook_secrets_open(s->config.data_dir, file, &s->webhooks->callbacks, e);
        for (uint32_t i = 0; i < s->config.webhook_count && err == 0; i++) {
                webhook_secret_file(s->config.webhooks[i].name, file);
                err = webhook_secrets_open(s->config.data_dir, file, &s->webhooks->of[i], e);
        }
        return err;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(a, b);
}

int webhook_each_secret(struct service *s,
                        int (*fn)(void *arg, const char *file, const struct buf *text,
                                  struct errinfo *e),
                        void *arg, struct errinfo *e)
{
        char files[WEBHOOKS_MAX + 1][SECRET_NAME_MAX];
        uint32_t count = s->config.webhook_count + 1;
        int err = 0;
        webhook_secret_file(NULL, files[0]);
        for (uint32_t i = 1; i < count; i++)
                webhook_secret_file(s->config.webhooks[i - 1].name, files[i]);
        qsort(files, count, sizeof files[0], by_name);
        for (uint32_t i = 0; i < count && err == 0; i++) {
                struct webhook_secrets w;
                struct buf text = {0};
                err = webhook_secrets_open(s->config.data_dir, files[i], &w, e);
                if (err == 0)
                        err = read_file(w.path, SECRET_FILE_MAX, &text, e);
                if (err == 0)
                        err = fn(arg, files[i], &text, e);
                webhook_secrets_wipe(&w);
                buf_free(&text, true);
        }
        return err;
}

int webhook_start(struct service *s, struct errinfo *e)
{
        for (uint32_t i = 0; i < s->config.webhook_count; i++) {
                const struct webhook_config *w = &s->config.webhooks[i];
                struct errinfo why = {0};
                int err = http_url_check(w->url, s->config.allow_networks[0] != '\0', &why);
                if (err != 0)
                        return ul_fail(e, err, "the url of [webhook %s] %.180s", w->name,
                                       why.detail);
        }
        s->webhooks = calloc(1, sizeof *s->webhooks);
        if (s->webhooks == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for webhooks");
        pthread_mutex_init(&s->webhooks->lock, NULL);
        int err = open_secrets(s, e);
        return err == 0 ? follow_all(s, e) : err;
}

void webhook_stop(struct service *s)
{
        if (s->webhooks == NULL)
                return;
        webhook_secrets_wipe(&s->webhooks->callbacks);
        for (uint32_t i = 0; i < WEBHOOKS_MAX; i++)
                webhook_secrets_wipe(&s->webhooks->of[i]);
        pthread_mutex_destroy(&s->webhooks->lock);
        free(s->webhooks);
        s->webhooks = NULL;
}
