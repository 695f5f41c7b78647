/* SPDX-License-Identifier: Apache-2.0
 * suppressions.c: who may not be loaded again, as the API reads it: by page, and as an export from
 * a place on, in short read transactions. An export leaves the instance, so its beginning is
 * audited; the key check tells another instance whether its pseudonyms are the same people's. */
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk {
        struct txn *t;
        service_suppression_fn fn;
        void *arg;
        struct suppression_place *place; /* of the last one that was shown; may be NULL */
};

static int scope_name(struct txn *t, uint32_t scope, char out[MODEL_NAME_MAX + 1])
{
        char key[32];
        struct buf name = {0};
        (void)snprintf(key, sizeof key, "scope_name/%u", scope);
        int err = t_blob_get(t, key, &name);
        if (err == 0)
                (void)snprintf(out, MODEL_NAME_MAX + 1, "%.*s", (int)name.len,
                               (const char *)name.data);
        buf_free(&name, false);
        return err;
}

static int show(void *arg, const uint8_t pseudonym[PSEUDONYM_BYTES], uint32_t scope, uint32_t kind,
                const struct suppression_row *row)
{
        struct walk *w = arg;
        struct suppression_view v = {.kind = kind == SUPPRESS_SUBJECT ? "subject" : "record",
                                     .since_ms = row->since_ms};
        memcpy(v.pseudonym, pseudonym, PSEUDONYM_BYTES);
        memcpy(v.erasure, row->erasure, ULID_BYTES);
        /* of models of one name, also where none is left */
        int err = scope != 0 ? scope_name(w->t, scope, v.model) : 0;
        if (err != 0)
                return err;
        if (w->place != NULL) {
                *w->place = (struct suppression_place){.begun = true, .scope = scope, .kind = kind};
                memcpy(w->place->pseudonym, pseudonym, PSEUDONYM_BYTES);
        }
        return w->fn(w->arg, &v);
}

int service_suppression_list(struct service *s, const uint8_t *after, service_suppression_fn fn,
                             void *arg, struct errinfo *e)
{
        struct walk w = {.fn = fn, .arg = arg};
        int err = told_read(s, &w.t, e);
        if (err != 0)
                return err;
        err = t_suppression_each(w.t, after, UINT32_MAX, UINT32_MAX, show, &w);
        txn_abort(&w.t);
        return err < 0 ? ul_fail(e, err, "the suppressions cannot be read") : 0;
}

int service_suppression_walk(struct service *s, struct suppression_place *place,
                             service_suppression_fn fn, void *arg, bool *more, struct errinfo *e)
{
        struct walk w = {.fn = fn, .arg = arg, .place = place};
        const struct suppression_place from = *place;
        int err = told_read(s, &w.t, e);
        if (err != 0)
                return err;
        err = t_suppression_each(w.t, from.begun ? from.pseudonym : NULL, from.scope, from.kind,
                                 show, &w);
        txn_abort(&w.t);
        *more = err > 0;
        return err < 0 ? ul_fail(e, err, "the suppressions cannot be read") : 0;
}

void service_key_check(struct service *s, uint8_t out[KEY_CHECK_BYTES])
{
        /* never a pseudonym: those are made of 32 bytes */
        static const char label[] = "unlearnd: whose suppressions these are";
        _Static_assert(sizeof label - 1 != SHA256_BYTES, "of another length than any pseudonym's");
        keyed_hash(s->pseudonym_key, label, sizeof label - 1, out, KEY_CHECK_BYTES);
}

/* --- the beginning of an export --- */

struct export_command {
        struct command cmd;
        struct service *service;
        char actor[ACTOR_MAX];
        service_simple_done done;
        void *arg;
};

static int export_run(struct command *c, struct txn *t)
{
        struct export_command *x = (struct export_command *)c;
        struct event ev;
        uint64_t count = 0;
        int err = t_suppression_count(t, &count);
        if (err != 0)
                return err;
        event_begin(&ev);
        jw_member_u64(&ev.w, "suppressions", count);
        return event_append(&ev, x->service, t, "suppressions.exported", x->actor, NULL, NULL);
}

static void export_done(struct command *c, int err)
{
        struct export_command *x = (struct export_command *)c;
        x->done(x->arg, err, &c->e);
        free(x);
}

int service_suppression_export(struct service *s, const char *actor, service_simple_done done,
                               void *arg, struct errinfo *e)
{
        struct export_command *x = calloc(1, sizeof *x);
        if (x == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an export");
        x->cmd.run = export_run;
        x->cmd.done = export_done;
        x->service = s;
        x->done = done;
        x->arg = arg;
        (void)snprintf(x->actor, sizeof x->actor, "%s", actor);
        int err = service_submit(s, &x->cmd, HEALTH_ERASES, e);
        if (err != 0)
                free(x);
        return err;
}
