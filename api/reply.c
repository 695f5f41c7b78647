/* SPDX-License-Identifier: Apache-2.0
 * reply.c: what handlers answer, kept in the request until its HTTP thread hands it to
 * libmicrohttpd. The body stays the request's own memory (no copy) and is wiped with it. A reply
 * that must leave before the request's body has ended is written to the socket by hand, because
 * libmicrohttpd 0.9.75 takes none in that state. */
#include "api/internal.h"
#include "lib/util/crypto.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { STREAM_BLOCK_BYTES = 32 * 1024 };

static enum handler_result reply_set(struct request *req, int status, const char *content_type)
{
        struct reply *r = &req->reply;
        r->set = true;
        r->status = status;
        r->content_type = content_type;
        return HANDLER_DONE;
}

enum handler_result reply_body(struct request *req, int status, const char *content_type,
                               struct buf *take)
{
        struct reply *r = &req->reply;
        bool failed = take->failed;
        if (r->set || failed)
                buf_free(take, true);
        else
                r->body = *take;
        memset(take, 0, sizeof *take);
        if (r->set)
                return HANDLER_DONE;
        if (failed)
                return reply_problem(req, UL_NOMEM, NULL);
        return reply_set(req, status, content_type);
}

enum handler_result reply_json(struct request *req, int status, struct buf *take)
{
        return reply_body(req, status, "application/json", take);
}

enum handler_result reply_static(struct request *req, int status, const char *content_type,
                                 const void *data, size_t len)
{
        struct reply *r = &req->reply;
        if (r->set)
                return HANDLER_DONE;
        r->fixed = data;
        r->fixed_len = len;
        return reply_set(req, status, content_type);
}

enum handler_result reply_empty(struct request *req, int status)
{
        return reply_static(req, status, NULL, "", 0);
}

static enum handler_result problem(struct request *req, int status, int err,
                                   const struct errinfo *e, const char *detail)
{
        if (req->reply.set)
                return HANDLER_DONE;
        if (status == 429 || status == 503) {
                char seconds[16];
                uint32_t retry = e != NULL && e->retry_after_s != 0 ? e->retry_after_s : 1;
                snprintf(seconds, sizeof seconds, "%u", retry);
                reply_header(req, "Retry-After", seconds);
        }
        struct buf out = {0};
        if (req->opendsr && (status == 409 || status == 422))
                status = 400;
        if (req->v2)
                problem_write_v2(&out, status, e, detail);
        else if (req->opendsr)
                problem_write_opendsr(&out, status, err, e, detail);
        else
                problem_write(&out, status, err, e, detail, req->path);
        if (out.failed) {
                buf_free(&out, true);
                return reply_static(req, status, NULL, "", 0);
        }
        bool plain = req->v2 || req->opendsr;
        return reply_body(req, status, plain ? "application/json" : "application/problem+json",
                          &out);
}

enum handler_result reply_problem(struct request *req, int err, const struct errinfo *e)
{
        return problem(req, problem_status(err), err, e, NULL);
}

enum handler_result reply_problem_status(struct request *req, int status, const char *detail)
{
        return problem(req, status, 0, NULL, detail);
}

void reply_header(struct request *req, const char *name, const char *value)
{
        struct reply *r = &req->reply;
        size_t len = strlen(value);
        if (len > REPLY_HEADER_VALUE_MAX || r->header_count == REPLY_HEADERS_MAX)
                return;
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)value[i];
                if (c < 32 || c == 127)
                        return;
        }
        char *copy = strdup(value);
        if (copy == NULL)
                return;
        uint32_t at = 0;
        while (at < r->header_count && strcasecmp(r->headers[at].name, name) != 0)
                at++;
        if (at < r->header_count)
                free(r->headers[at].value);
        else
                r->header_count++;
        r->headers[at].name = name;
        r->headers[at].value = copy;
}

void reply_location(struct request *req, const char *format, ...)
{
        char value[REPLY_HEADER_VALUE_MAX];
        va_list args;
        va_start(args, format);
        int n = vsnprintf(value, sizeof value, format, args);
        va_end(args);
        if (n > 0 && (size_t)n < sizeof value)
                reply_header(req, "Location", value);
}

enum handler_result reply_stream(struct request *req, int status, const char *content_type,
                                 stream_fn fn, void *arg)
{
        struct reply *r = &req->reply;
        if (r->set)
                return HANDLER_DONE;
        r->stream = fn;
        r->stream_arg = arg;
        return reply_set(req, status, content_type);
}

void reply_clear(struct reply *r)
{
        buf_free(&r->body, true);
        for (uint32_t i = 0; i < r->header_count; i++) {
                wipe(r->headers[i].value, strlen(r->headers[i].value));
                free(r->headers[i].value);
        }
        memset(r, 0, sizeof *r);
}

/* --- leaving --- */

/* The next piece. 1: there are bytes; 0: none yet, the connection is suspended or has given its
 * turn away; negative: what libmicrohttpd is to be told. */
static ssize_t stream_refill(struct request *req)
{
        struct reply *r = &req->reply;
        if (r->stream_last)
                return MHD_CONTENT_READER_END_OF_STREAM;
        r->stream_at = 0;
        buf_reset(&r->body, true);
        int more = r->stream(req, r->stream_arg, &r->body);
        if (r->body.failed || (more < 0 && more != UL_AGAIN))
                return MHD_CONTENT_READER_END_WITH_ERROR;
        r->stream_last = more == 0;
        if (r->body.len != 0)
                return 1;
        if (r->stream_last)
                return MHD_CONTENT_READER_END_OF_STREAM;
        if (more == UL_AGAIN && server_stopping(req->server))
                return MHD_CONTENT_READER_END_WITH_ERROR;
        if (more == UL_AGAIN && request_suspend_unless_woken(req))
                return 0;
        request_yield(req); /* nothing to send, but more to look at */
        return 0;
}

static ssize_t stream_read(void *arg, uint64_t pos, char *out, size_t max)
{
        (void)pos;
        struct request *req = arg;
        struct reply *r = &req->reply;
        assert(req->magic == REQUEST_MAGIC);
        if (r->stream_at == r->body.len) {
                ssize_t state = stream_refill(req);
                if (state != 1)
                        return state;
        }
        size_t n = r->body.len - r->stream_at;
        if (n > max)
                n = max;
        memcpy(out, r->body.data + r->stream_at, n);
        r->stream_at += n;
        return (ssize_t)n;
}

static const void *reply_bytes(const struct reply *r, size_t *len)
{
        *len = r->fixed != NULL ? r->fixed_len : r->body.len;
        return r->fixed != NULL ? r->fixed : r->body.data;
}

static struct MHD_Response *make_response(struct request *req)
{
        struct reply *r = &req->reply;
        if (r->stream != NULL)
                return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES,
                                                         stream_read, req, NULL);
        size_t len = 0;
        const void *data = reply_bytes(r, &len);
        /* PERSISTENT memory is never written to: the interface merely lacks a const */
        return MHD_create_response_from_buffer(len, (void *)(uintptr_t)(len != 0 ? data : ""),
                                               MHD_RESPMEM_PERSISTENT);
}

enum MHD_Result reply_queue(struct request *req)
{
        struct reply *r = &req->reply;
        assert(r->set);
        struct MHD_Response *response = make_response(req);
        if (response == NULL)
                return MHD_NO;
        enum MHD_Result good = MHD_add_response_header(response, "X-Request-Id", req->id);
        if (r->content_type != NULL)
                good &= MHD_add_response_header(response, "Content-Type", r->content_type);
        for (uint32_t i = 0; i < r->header_count; i++)
                good &= MHD_add_response_header(response, r->headers[i].name, r->headers[i].value);
        if (server_stopping(req->server))
                good &= MHD_add_response_header(response, "Connection", "close");
        if (good == MHD_YES)
                good = MHD_queue_response(req->connection, (unsigned)r->status, response);
        MHD_destroy_response(response);
        return good;
}

void reply_send_early(struct request *req)
{
        const struct reply *r = &req->reply;
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info == NULL)
                return;
        size_t len = 0;
        const void *data = reply_bytes(r, &len);
        struct buf out = {0};
        buf_printf(&out, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
                   r->status, problem_title(r->status), len);
        buf_printf(&out, "X-Request-Id: %s\r\n", req->id);
        if (r->content_type != NULL)
                buf_printf(&out, "Content-Type: %s\r\n", r->content_type);
        for (uint32_t i = 0; i < r->header_count; i++)
                buf_printf(&out, "%s: %s\r\n", r->headers[i].name, r->headers[i].value);
        buf_append_str(&out, "\r\n");
        buf_append(&out, data, len);
        /* best effort: the connection is closed after it whatever comes of it */
        if (!out.failed)
                (void)!send(info->connect_fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        buf_free(&out, true);
}
