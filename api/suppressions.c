/* SPDX-License-Identifier: Apache-2.0
 * suppressions.c: who may not be loaded again, and lifting it; the routes are in erasures.c. It
 * knows pseudonyms only: whose they are, nobody here can tell. */
#include "api/erasures.h"
#include "api/http_more.h"
#include "api/render.h"
#include "api/suppression_cursor.h"
#include <string.h>

_Static_assert((int)SUPPRESSION_CURSOR_SIZE <= (int)LIST_CURSOR_MAX, "a cursor fits");

struct walk {
        struct list list;
        struct suppression_cursor cursor;
};

static int list_suppression(void *arg, const struct suppression_view *v)
{
        struct walk *w = arg;
        if (!suppression_cursor_visit(&w->cursor, v->pseudonym))
                return 0;
        if (list_full(&w->list))
                return 1;
        render_suppression(&w->list.w, v);
        suppression_cursor_format(&w->cursor, w->list.next);
        return 0;
}

enum handler_result list_suppressions(struct request *req)
{
        struct errinfo e = {0};
        struct walk w = {0};
        struct page page;
        if (request_accepts(req, "application/x-ndjson"))
                return export_suppressions(req);
        int err = request_page(req, &page, &e);
        if (err == 0 && page.cursor != NULL && !suppression_cursor_parse(page.cursor, &w.cursor))
                err = ul_fail_field(&e, UL_SYNTAX, "cursor", "cursor is not one of this list");
        if (err != 0)
                return reply_problem(req, err, &e);
        list_begin(&w.list, page.limit);
        err = service_suppression_list(request_service(req),
                                       w.cursor.has_previous ? w.cursor.previous : NULL,
                                       list_suppression, &w, &e);
        return list_reply(req, &w.list, err, &e);
}

static void lifted(void *arg, int err, const struct errinfo *e)
{
        struct request *req = arg;
        if (err != 0)
                reply_problem(req, err, e);
        else
                reply_empty(req, 204);
        request_complete(req);
}

enum handler_result lift_suppression(struct request *req)
{
        struct errinfo e = {0};
        uint8_t pseudonym[PSEUDONYM_BYTES];
        const char *text = request_param(req, "pseudonym");
        if (!pseudonym_parse(text, strlen(text), pseudonym)) {
                ul_fail_field(&e, UL_NOT_FOUND, "pseudonym",
                              "there is no such suppression: a pseudonym is %d hex digits",
                              2 * PSEUDONYM_BYTES);
                return reply_problem(req, UL_NOT_FOUND, &e);
        }
        int err = service_suppression_lift(request_service(req), pseudonym, request_actor(req),
                                           lifted, req, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}
