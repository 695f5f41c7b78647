/* SPDX-License-Identifier: Apache-2.0
 * events.c: audit entries. An entry is appended in the transaction of the change that it reports
 * (invariant 6) and holds no personal data: counts, names of models, ids of our own making. Whoever
 * asked to be told of it is told from that transaction on. */
#include "daemon/webhook.h"

#include <stdlib.h>
#include <string.h>

void event_begin(struct event *ev)
{
        *ev = (struct event){0};
        buf_init(&ev->data, AUDIT_ENTRY_MAX);
        jw_init(&ev->w, &ev->data);
        jw_object(&ev->w);
}

void event_ulid(struct event *ev, const char *key, const uint8_t id[ULID_BYTES])
{
        char text[ULID_TEXT + 1];
        jw_member_string(&ev->w, key, ulid_format(id, text));
}

int event_append(struct event *ev, struct service *s, struct txn *t, const char *type,
                 const char *actor, const struct audit_keys *keys, uint64_t *index)
{
        static const struct audit_keys none = {0};
        uint64_t ignored;
        int64_t now = now_ms();
        int err;
        jw_end_object(&ev->w);
        if (ev->data.failed)
                err = txn_fail(t, UL_NOMEM);
        else
                err = audit_append(t, s->log, now, type, actor, keys != NULL ? keys : &none,
                                   (const char *)ev->data.data, ev->data.len,
                                   index != NULL ? index : &ignored);
        if (err == 0)
                err = webhook_tell(s, t, type, now, keys != NULL ? keys->erasure : NULL,
                                   (const char *)ev->data.data, ev->data.len);
        buf_free(&ev->data, false);
        if (err == 0)
                metric_add(METRIC_AUDIT_ENTRIES, 1);
        return err;
}

int affected_models(struct txn *t, const struct erasure_affected *affected, uint32_t count,
                    const char ***models, struct audit_keys *keys)
{
        const char **names = calloc(count + 1, sizeof *names);
        size_t n = 0;
        *models = names;
        if (names == NULL)
                return txn_fail(t, UL_NOMEM);
        for (uint32_t i = 0; i < count; i++) {
                size_t k = 0;
                while (k < n && strcmp(names[k], affected[i].model_name) != 0)
                        k++;
                if (k == n)
                        names[n++] = affected[i].model_name;
        }
        keys->models = names;
        keys->model_count = n;
        return 0;
}
