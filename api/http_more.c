/* SPDX-License-Identifier: Apache-2.0
 * http_more.c: see http_more.h. A malformed id in a path names nothing, so it is a 404 like any
 * other name that is not there; a malformed query parameter is a 400 that names it. No message
 * repeats what was sent: a subject's id may have been put in the wrong place. */
#include "api/http_more.h"
#include "api/erasure_parse.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

int param_ulid(const struct request *req, const char *name, const char *what,
               uint8_t out[ULID_BYTES], struct errinfo *e)
{
        const char *text = request_param(req, name);
        assert(text != NULL);
        if (!ulid_parse(text, strlen(text), out))
                return ul_fail_field(e, UL_NOT_FOUND, name,
                                     "there is no such %s: an id is a ULID of 26 characters", what);
        return 0;
}

/* At most 19 digits, no sign, no leading zero: always below UINT64_MAX, the service's "none". */
static bool decimal(const char *text, uint64_t *out)
{
        size_t len = strlen(text);
        uint64_t v = 0;
        if (len == 0 || len > 19 || (len > 1 && text[0] == '0'))
                return false;
        for (size_t i = 0; i < len; i++) {
                if (text[i] < '0' || text[i] > '9')
                        return false;
                v = v * 10 + (uint64_t)(text[i] - '0');
        }
        *out = v;
        return true;
}

int param_u64(const struct request *req, const char *name, uint64_t *out, struct errinfo *e)
{
        const char *text = request_param(req, name);
        assert(text != NULL);
        if (!decimal(text, out))
                return ul_fail_field(e, UL_NOT_FOUND, name, "an %s is a decimal number", name);
        return 0;
}

int query_ulid(const struct request *req, const char *name, bool *seen, uint8_t out[ULID_BYTES],
               struct errinfo *e)
{
        const char *text = request_query(req, name);
        *seen = text != NULL;
        if (text != NULL && !ulid_parse(text, strlen(text), out))
                return ul_fail_field(e, UL_SYNTAX, name, "%s must be a ULID of 26 characters",
                                     name);
        return 0;
}

int query_model(const struct request *req, const char **out, struct errinfo *e)
{
        *out = request_query(req, "model");
        if (*out != NULL && !model_name_valid(*out, strlen(*out)))
                return ul_fail_field(e, UL_SYNTAX, "model",
                                     "model must match [a-z0-9][a-z0-9_-]{0,62}");
        return 0;
}

int query_reference(const struct request *req, const char **out, struct errinfo *e)
{
        *out = request_query(req, "reference");
        if (*out != NULL && !reference_valid(*out, strlen(*out)))
                return ul_fail_field(e, UL_SYNTAX, "reference",
                                     "reference must match [A-Za-z0-9._:/#-]{1,64}");
        return 0;
}

int query_interval(const struct request *req, int64_t *since_ms, int64_t *until_ms,
                   struct errinfo *e)
{
        *since_ms = *until_ms = 0;
        int err = request_query_time(req, "since", since_ms, e);
        if (err == 0)
                err = request_query_time(req, "until", until_ms, e);
        if (err == 0 && request_query(req, "until") != NULL && *until_ms == 0)
                *until_ms = 1; /* 0 is none; nothing is as old as either */
        if (err == 0 && request_query(req, "until") != NULL && *until_ms < *since_ms)
                err = ul_fail_field(e, UL_SYNTAX, "until", "until must not be before since");
        return err;
}

int query_unpaged(const struct request *req, struct errinfo *e)
{
        static const char *const paging[] = {"limit", "cursor"};
        for (size_t i = 0; i < sizeof paging / sizeof paging[0]; i++)
                if (request_query(req, paging[i]) != NULL)
                        return ul_fail_field(e, UL_SYNTAX, paging[i],
                                             "an export has no pages: leave out %s", paging[i]);
        return 0;
}

int query_choice(const struct request *req, const char *name, const char *const *names,
                 const char **out, struct errinfo *e)
{
        char list[ERRINFO_DETAIL_MAX / 2] = "";
        const char *text = request_query(req, name);
        *out = NULL;
        if (text == NULL)
                return 0;
        for (size_t i = 0, used = 0; names[i] != NULL; i++) {
                if (strcmp(text, names[i]) == 0) {
                        *out = names[i];
                        return 0;
                }
                if (used < sizeof(list))
                        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
                                                 i > 0 ? ", " : "", names[i]);
        }
        return ul_fail_field(e, UL_SYNTAX, name, "%s must be one of: %s", name, list);
}

int pseudonym_of_text(struct service *s, const char *name, const char *id,
                      uint8_t out[PSEUDONYM_BYTES], struct errinfo *e)
{
        size_t len = strlen(id);
        if (len == 0 || len > ID_BYTES_MAX)
                return ul_fail_field(e, UL_SYNTAX, name, "%s must have 1 to %d bytes", name,
                                     ID_BYTES_MAX);
        service_pseudonym(s, id, len, out);
        return 0;
}

int request_no_content(struct request *req, struct errinfo *e)
{
        size_t len = 0;
        struct json *doc = NULL;
        (void)request_body(req, &len);
        if (len == 0)
                return 0;
        int err = request_json(req, &doc, e);
        if (err == 0)
                err = json_decode(doc, NULL, 0, NULL, "", e);
        json_free(&doc);
        return err;
}

void items_begin(struct json_writer *w, struct buf *out)
{
        jw_init(w, out);
        jw_object(w);
        jw_key(w, "items");
        jw_array(w);
}

enum handler_result items_reply(struct request *req, struct json_writer *w, int err,
                                const struct errinfo *e)
{
        if (err != 0) {
                buf_free(w->out, false);
                return reply_problem(req, err, e);
        }
        jw_end_array(w);
        jw_end_object(w);
        return reply_json(req, 200, w->out);
}

void list_begin(struct list *l, uint32_t limit)
{
        memset(l, 0, sizeof(*l));
        l->limit = limit;
        items_begin(&l->w, &l->out);
}

bool list_full(struct list *l)
{
        if (l->count == l->limit || (l->count > 0 && l->out.len >= LIST_BYTES_MAX)) {
                l->more = true;
                return true;
        }
        l->count++;
        return false;
}

enum handler_result list_reply(struct request *req, struct list *l, int err,
                               const struct errinfo *e)
{
        if (err < 0) {
                buf_free(&l->out, false);
                return reply_problem(req, err, e);
        }
        jw_end_array(&l->w);
        reply_next_cursor(req, &l->w, l->more ? l->next : NULL);
        jw_end_object(&l->w);
        return reply_json(req, 200, &l->out);
}

void reply_page_headers(struct request *req, const char *policy)
{
        reply_header(req, "Content-Security-Policy", policy);
        reply_header(req, "X-Content-Type-Options", "nosniff");
        reply_header(req, "Referrer-Policy", "no-referrer");
}

void json_join(struct buf *into, const struct buf *from)
{
        if (into->failed)
                return;
        if (from->failed) {
                into->failed = true;
                return;
        }
        assert(into->len >= 2 && into->data[into->len - 1] == '}');
        assert(from->len >= 2 && from->data[0] == '{');
        bool comma = into->len > 2 && from->len > 2;
        into->len--;
        if (comma)
                buf_append(into, ",", 1);
        buf_append(into, from->data + 1, from->len - 1);
}
