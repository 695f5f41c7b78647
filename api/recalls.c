/* SPDX-License-Identifier: Apache-2.0
 * recalls.c: GET /v1/models/{m}/recalls: which generations of a model are withdrawn and why, the
 * oldest withdrawal first, so that a consumer that comes again reads on from its last cursor. */
#include "api/http_more.h"
#include "api/routes.h"
#include <stdio.h>
#include <string.h>

static void time_member(struct json_writer *w, const char *key, int64_t ms)
{
        jw_member_time(w, key, ms);
}

static void render(struct json_writer *w, const struct recall_view *v)
{
        char id[ULID_TEXT + 1];
        jw_object(w);
        jw_member_string(w, "erasure", ulid_format(v->erasure, id));
        jw_member_text(w, "regulation", v->regulation);
        time_member(w, "withdrawn_at", v->withdrawn_ms);
        time_member(w, "completed_at", v->completed_ms);
        jw_member_u64(w, "replaced_by", v->replaced_by);
        jw_key(w, "generations");
        jw_array(w);
        for (uint32_t i = 0; i < v->range_count; i++) {
                const struct recall_range *r = &v->ranges[i];
                jw_object(w);
                jw_member_u64(w, "first", r->first);
                jw_member_u64(w, "last", r->last);
                time_member(w, "served_from", r->from_ms);
                time_member(w, "served_until", r->until_ms);
                jw_end_object(w);
        }
        jw_end_array(w);
        jw_end_object(w);
}

static int list_recall(void *arg, const struct recall_view *v)
{
        struct list *l = arg;
        if (list_full(l))
                return 1;
        render(&l->w, v);
        return 0;
}

/* The number of the last one of the page before. */
static int read_cursor(const char *cursor, uint64_t *after, struct errinfo *e)
{
        size_t len = cursor != NULL ? strlen(cursor) : 0;
        *after = 0;
        if (cursor == NULL)
                return 0;
        if (len == 0 || len > 18 || strspn(cursor, "0123456789") != len)
                return ul_fail_field(e, UL_SYNTAX, "cursor", "cursor is not one of this list");
        for (size_t i = 0; i < len; i++)
                *after = *after * 10 + (uint64_t)(cursor[i] - '0');
        return 0;
}

static enum handler_result list_recalls(struct request *req)
{
        struct errinfo e = {0};
        struct recall_filter f = {0};
        struct page page;
        struct list l;
        uint64_t after = 0, next = UINT64_MAX;
        int err = request_page(req, &page, &e);
        if (err == 0)
                err = read_cursor(page.cursor, &after, &e);
        if (err == 0)
                err = request_query_time(req, "since", &f.since_ms, &e);
        if (err == 0)
                err = request_query_u64(req, "generation", 0, UINT64_MAX - 1, &f.generation, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        f.has_generation = request_query(req, "generation") != NULL;
        list_begin(&l, page.limit);
        err = service_recall_list(request_service(req), request_param(req, "m"), &f, after,
                                  list_recall, &l, &next, &e);
        l.more = next != UINT64_MAX;
        if (l.more)
                (void)snprintf(l.next, sizeof l.next, "%llu", (unsigned long long)next);
        return list_reply(req, &l, err, &e);
}

static const char *const list_query[] = {"since", "generation", "limit", "cursor", NULL};

const struct route recalls_routes[] = {
        {.method = "GET",
         .pattern = "/v1/models/{m}/recalls",
         .scopes = SCOPE_PREDICT | SCOPE_AUDIT,
         .query = list_query,
         .handle = list_recalls},
        {.method = NULL},
};
