/* SPDX-License-Identifier: Apache-2.0
 * suppression_export.c: GET /v1/suppressions as ndjson: all of them, for another instance that has
 * the same pseudonym key, in constant memory. The first line says which key, by a check value that
 * reveals nothing of it; the last one how many there were, so that a file that was cut short shows.
 * Suppressions that come or go while it is streamed may be in it or not. */
#include "api/erasures.h"
#include "api/http_more.h"
#include "api/render.h"
#include "api/suppression_file.h"
#include <assert.h>
#include <stdlib.h>

enum { EXPORT_MAGIC = 0x73757078, PIECE_BYTES = 32 * 1024 };

struct export
{
        uint32_t magic;
        struct request *request;
        bool begun;
        uint64_t count;
        struct suppression_place place;
        struct buf *out; /* during a call */
};

static void export_free(void *context)
{
        struct export *x = context;
        assert(x->magic == EXPORT_MAGIC);
        x->magic = 0;
        free(x);
}

static int write_entry(void *arg, const struct suppression_view *v)
{
        struct export *x = arg;
        struct json_writer w;
        jw_init(&w, x->out);
        render_suppression(&w, v);
        buf_append(x->out, "\n", 1);
        x->count++;
        return x->out->failed || x->out->len >= PIECE_BYTES;
}

static int export_piece(struct request *req, void *arg, struct buf *out)
{
        struct export *x = arg;
        struct errinfo e = {0};
        bool more = false;
        assert(x->magic == EXPORT_MAGIC);
        if (request_stopping(req))
                return UL_CLOSED;
        if (!x->begun)
                suppression_file_begin(out, request_service(req), now_ms());
        x->begun = true;
        x->out = out;
        int err = service_suppression_walk(request_service(req), &x->place, write_entry, x, &more,
                                           &e);
        x->out = NULL;
        if (err != 0)
                return err;
        if (!more)
                suppression_file_end(out, x->count);
        return out->failed ? UL_NOMEM : more;
}

/* The log has it: now it may leave. */
static void export_noted(void *arg, int err, const struct errinfo *e)
{
        struct export *x = arg;
        struct request *req = x->request;
        if (err != 0)
                reply_problem(req, err, e);
        else
                reply_stream(req, 200, "application/x-ndjson", export_piece, x);
        request_complete(req);
}

enum handler_result export_suppressions(struct request *req)
{
        struct errinfo e = {0};
        int err = query_unpaged(req, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        struct export *x = calloc(1, sizeof(*x));
        if (x == NULL)
                return reply_problem(req, UL_NOMEM, NULL);
        x->magic = EXPORT_MAGIC;
        x->request = req;
        request_set_context(req, x, export_free);
        err = service_suppression_export(request_service(req), request_actor(req), export_noted, x,
                                         &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}
