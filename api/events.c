/* SPDX-License-Identifier: Apache-2.0
 * events.c: GET /v1/events: server-sent events (the WHATWG's HTML standard, 9.2). An event's id is
 * the index of its audit entry, so that Last-Event-ID means the same after any restart. No thread
 * and no queue belong to a stream: it is asked for the next piece when its socket takes one, and
 * suspended where there is none. */
#include "api/http_more.h"
#include "api/routes.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
        STREAM_MAGIC = 0x53534531,
        PIECE_BYTES = 32 * 1024,
        LIFE_S = 3600, /* then it comes again, with its token, which may be revoked by now */
        RETRY_MS = 2000,
};

struct stream {
        uint32_t magic;
        struct event_watch *watch;
        struct buf *out; /* the present piece */
        uint64_t until_us;
        bool begun;
};

static void stream_free(void *context)
{
        struct stream *s = context;
        assert(s->magic == STREAM_MAGIC);
        service_watch_end(&s->watch);
        s->magic = 0;
        free(s);
}

/* JSON holds no line break, so one data line is enough. */
static int write_event(void *arg, const struct event_view *v)
{
        struct stream *s = arg;
        struct json_writer w;
        if (v->durable)
                buf_printf(s->out, "id: %llu\n", (unsigned long long)v->index);
        buf_printf(s->out, "event: %.*s\ndata: ", (int)v->type_len, v->type);
        jw_init(&w, s->out);
        jw_object(&w);
        if (v->durable) {
                jw_member_u64(&w, "index", v->index);
        }
        jw_key(&w, "time");
        jw_string_n(&w, v->time, v->time_len);
        jw_key(&w, "type");
        jw_string_n(&w, v->type, v->type_len);
        jw_key(&w, "data");
        jw_raw(&w, v->data, v->data_len);
        jw_end_object(&w);
        buf_append_str(s->out, "\n\n");
        return s->out->failed || s->out->len >= PIECE_BYTES;
}

static int next_piece(struct request *req, void *arg, struct buf *out)
{
        struct stream *s = arg;
        struct errinfo e = {0};
        bool more = false, beat = false;
        assert(s->magic == STREAM_MAGIC);
        if (request_stopping(req) || mono_us() > s->until_us)
                return 0; /* the client comes again with Last-Event-ID */
        if (!s->begun)
                buf_printf(out, "retry: %d\n\n", RETRY_MS);
        s->begun = true;
        s->out = out;
        int err = service_watch_read(s->watch, write_event, s, &more, &beat, &e);
        s->out = NULL;
        if (err == 0 && beat && out->len == 0)
                buf_append_str(out, ":\n\n");
        if (err != 0)
                return err;
        if (out->failed)
                return UL_NOMEM;
        return more || out->len > 0 ? 1 : UL_AGAIN;
}

static void wake(void *arg)
{
        request_wake(arg);
}

/* Decimal digits, as our own ids are; *seen false where there is none (or an empty one). */
static int last_event_id(struct request *req, bool *seen, uint64_t *out, struct errinfo *e)
{
        const char *text = request_header(req, "Last-Event-ID");
        *seen = text != NULL && text[0] != '\0';
        if (!*seen)
                return 0;
        size_t len = strlen(text);
        if (len > 18 || strspn(text, "0123456789") != len)
                return ul_fail_field(e, UL_SYNTAX, "Last-Event-ID",
                                     "Last-Event-ID must be the id of an event");
        *out = strtoull(text, NULL, 10);
        return 0;
}

static enum handler_result stream_events(struct request *req)
{
        struct errinfo e = {0};
        uint64_t last = 0;
        bool resume = false;
        int err = last_event_id(req, &resume, &last, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        struct stream *s = calloc(1, sizeof *s);
        if (s == NULL)
                return reply_problem(req, UL_NOMEM, NULL);
        s->magic = STREAM_MAGIC;
        s->until_us = mono_us() + (uint64_t)LIFE_S * 1000000;
        err = service_watch_begin(request_service(req), resume, last, wake, req, &s->watch, &e);
        if (err != 0) {
                free(s);
                return reply_problem(req, err, &e);
        }
        request_set_context(req, s, stream_free);
        reply_header(req, "Cache-Control", "no-store");
        reply_header(req, "X-Accel-Buffering", "no"); /* a proxy must not gather it */
        return reply_stream(req, 200, "text/event-stream", next_piece, s);
}

const struct route events_routes[] = {
        {.method = "GET", .pattern = "/v1/events", .scopes = SCOPE_ERASE, .handle = stream_events},
        {.method = NULL},
};
