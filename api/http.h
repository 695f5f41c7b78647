/* SPDX-License-Identifier: Apache-2.0
 * http.h: what a resource handler sees of HTTP: the route table entry, the request, the replies,
 * asynchronous completion, streamed uploads and streamed answers. Only server.c knows
 * libmicrohttpd; handlers never include microhttpd.h.
 *
 * A plain handler:
 *         static enum handler_result get_thing(struct request *req)
 *         {
 *                 struct errinfo e = {0};
 *                 struct buf out = {0};
 *                 int err = service_thing(request_service(req), request_param(req, "m"), &e);
 *                 if (err != 0)
 *                         return reply_problem(req, err, &e);
 *                 ... write JSON to out ...
 *                 return reply_json(req, 200, &out);
 *         }
 * An asynchronous one: hand `req` to the service as `arg`, return HANDLER_PENDING when the service
 * returned 0 (reply_problem otherwise). In the done callback (any thread; it may run before the
 * handler has returned): call one reply_ function, then request_complete(req) as the very last
 * thing; `req` must not be touched after it. A reply_ function's return value is then ignored.
 *
 * Before a handler runs: the path and the method are matched, the token and its scope and quota are
 * checked, unknown or repeated query parameters and badly encoded paths are refused with 400, the
 * body's limits and Content-Encoding are enforced, and a buffered body is complete.
 * Handlers run on HTTP threads and must not block. */
#ifndef UNLEARND_API_HTTP_H
#define UNLEARND_API_HTTP_H

#include "daemon/service.h"
#include "lib/util/bytes.h"
#include "lib/util/err.h"
#include "lib/util/json.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request;

/* --- routes --- */
enum handler_result {
        HANDLER_DONE,    /* a reply is set */
        HANDLER_PENDING, /* request_complete() will be called exactly once */
};
typedef enum handler_result (*handler_fn)(struct request *req);

/* A route asks for any one of its scopes; admin opens every route. 0: no token needed. */
enum scope {
        SCOPE_INGEST = 1 << 0,
        SCOPE_PREDICT = 1 << 1,
        SCOPE_ERASE = 1 << 2,
        SCOPE_AUDIT = 1 << 3,
        SCOPE_ADMIN = 1 << 4,
};

enum body_kind {
        BODY_NONE,     /* a body is refused with 400 */
        BODY_BUFFERED, /* complete before the handler runs; see body_max */
        BODY_STREAMED, /* `upload` gets it piece by piece; `handle` is NULL */
};
#define BODY_MAX_INFER ((size_t)-1)  /* body_max: the configured infer_max_bytes */
#define BODY_MAX_UPLOAD ((size_t)-2) /* body_max: the configured upload_max_bytes */

enum route_flag {
        ROUTE_ENCODED_BODY = 1 << 0,  /* Content-Encoding is the handler's business; others: 415 */
        ROUTE_LOOPBACK_OPEN = 1 << 1, /* no token needed from a loopback address */
};

/* A streamed body. All run on one HTTP thread at a time. Any error other than UL_AGAIN is rendered
 * as a problem (unless a reply_ function was called before) and ends the request; the connection is
 * closed where body is left unread. begin may start what data feeds; give it to request_set_context
 * so that the clean-up closes it. UL_AGAIN: nothing more can be done until request_wake(req). */
struct upload_ops {
        int (*begin)(struct request *req, struct errinfo *e); /* headers are there; no UL_AGAIN */
        /* *consumed < len only with UL_AGAIN; the rest is offered again after the wake */
        int (*data)(struct request *req, const void *data, size_t len, size_t *consumed,
                    struct errinfo *e);
        /* after the last byte: 0 with a reply set, or UL_AGAIN to be called again after the wake */
        int (*end)(struct request *req, struct errinfo *e);
};

/* Patterns: literal segments, `{name}` for one segment, which may be followed by a literal suffix
 * ("/v1/models/{m}:predict"); `{name...}` as the last one takes the rest of the path. Literals win
 * over parameters. Arrays end with an entry whose method is NULL. HEAD is served by GET. */
struct route {
        const char *method;
        const char *pattern;
        uint32_t scopes; /* any of; 0: open */
        enum body_kind body;
        size_t body_max; /* bytes; 0 with BODY_BUFFERED: JSON_BODY_MAX */
        uint32_t flags;
        const char *const *query; /* known query parameters, NULL-terminated; NULL: none */
        handler_fn handle;
        const struct upload_ops *upload;
};
enum { ROUTE_PARAMS_MAX = 4, QUERY_PARAMS_MAX = 16 };

/* --- the request ------------------------------------------------------------------------------
 * Everything returned is borrowed until the request ends. */
struct service *request_service(struct request *req);
const char *request_method(const struct request *req); /* "GET" also for HEAD */
const char *request_path(const struct request *req);   /* raw, as sent, without the query */
const char *request_actor(const struct request *req);  /* the token's name, or "anonymous" */
bool request_has_scope(const struct request *req, uint32_t scopes); /* any of */
/* Percent-decoded, never holds a NUL (refused before); "" is possible only for `{name...}`. NULL:
 * the pattern has no such name. */
const char *request_param(const struct request *req, const char *name);
/* Percent-decoded ("+" is a space); NULL where absent. */
const char *request_query(const struct request *req, const char *name);
/* true, false, 1, 0; UL_SYNTAX otherwise. *out keeps its default where absent. */
int request_query_bool(const struct request *req, const char *name, bool *out, struct errinfo *e);
/* Decimal digits within [min, max]; UL_SYNTAX otherwise. *out keeps its default where absent. */
int request_query_u64(const struct request *req, const char *name, uint64_t min, uint64_t max,
                      uint64_t *out, struct errinfo *e);
/* RFC 3339; UL_SYNTAX otherwise. */
int request_query_time(const struct request *req, const char *name, int64_t *out_ms,
                       struct errinfo *e);
const char *request_header(struct request *req, const char *name); /* first value; NULL: absent */
/* Does Accept name this media type, as the first of its list that is not a wildcard? */
bool request_accepts(struct request *req, const char *media_type);
/* The media type of Content-Type equals `media_type` (parameters and case are ignored). */
bool request_content_type_is(struct request *req, const char *media_type);
/* The buffered body; a NUL stands behind it. Wiped when the request ends. */
const uint8_t *request_body(const struct request *req, size_t *len);
/* Overwrites and drops the body at once (raw ids that were read from it). */
void request_body_wipe(struct request *req);
/* The body as one JSON value. UL_UNSUPPORTED where Content-Type is given and is not JSON,
 * UL_SYNTAX. The caller frees with json_free. */
int request_json(struct request *req, struct json **out, struct errinfo *e);
/* The service is stopping: what waits without end should finish. */
bool request_stopping(const struct request *req);

/* One pointer of the handler's own, and how it is released: exactly once, when the request has
 * ended or its client has gone away, and never before a pending completion has come. */
void request_set_context(struct request *req, void *context, void (*cleanup)(void *context));
void *request_context(const struct request *req);

/* --- replies ----------------------------------------------------------------------------------
 * The first reply wins; each returns HANDLER_DONE. `take`: the buffer's memory is taken over (and
 * the caller's struct emptied); one that has failed becomes a 503. */
enum handler_result reply_json(struct request *req, int status, struct buf *take);
enum handler_result reply_body(struct request *req, int status, const char *content_type,
                               struct buf *take);
/* data stays valid for the life of the process */
enum handler_result reply_static(struct request *req, int status, const char *content_type,
                                 const void *data, size_t len);
enum handler_result reply_empty(struct request *req, int status); /* 204 and the like */
/* The status comes from the table of problem.c; `e` may be NULL. Sets Retry-After. */
enum handler_result reply_problem(struct request *req, int err, const struct errinfo *e);
/* An error that has no ul_err of its own. */
enum handler_result reply_problem_status(struct request *req, int status, const char *detail);
/* Adds a header to the reply, before or after the reply_ function; a value that does not fit or
 * holds control characters is left out. At most REPLY_HEADERS_MAX; name is a string literal. */
enum { REPLY_HEADERS_MAX = 12, REPLY_HEADER_VALUE_MAX = 2048 };
void reply_header(struct request *req, const char *name, const char *value);
void reply_location(struct request *req, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/* An answer of any length in constant memory. fn appends the next piece to `out` (empty on entry;
 * about 32 KB are good) and returns 1: more will follow (a piece may be empty: other connections
 * get their turn), 0: this was the last piece, UL_AGAIN: call again after request_wake(req),
 * another error: the connection is cut off, so that the client sees that the answer is not whole.
 * fn is not called for HEAD. Release its state with request_set_context. */
typedef int (*stream_fn)(struct request *req, void *arg, struct buf *out);
enum handler_result reply_stream(struct request *req, int status, const char *content_type,
                                 stream_fn fn, void *arg);

/* --- asynchronous completion ------------------------------------------------------------------
 * All may be called from any thread, also before the handler has returned. */
void request_complete(struct request *req); /* exactly once for a HANDLER_PENDING; the last touch */
/* The same, but `finish` makes the reply, later, on the HTTP thread: for a completion that must not
 * keep its thread busy. It returns HANDLER_DONE. */
void request_complete_with(struct request *req, handler_fn finish);
void request_wake(struct request *req); /* after UL_AGAIN; spurious wakes are harmless */

/* --- idempotency ------------------------------------------------------------------------------
 * Reads Idempotency-Key ("..." or bare). out->present is false where there is none. The key is
 * hashed with the actor, the method and the route pattern; the body's hash covers the raw path, the
 * query and the body given. UL_SYNTAX for a malformed key. */
int request_idempotency(struct request *req, const void *body, size_t len, struct idempotency *out,
                        struct errinfo *e);
/* Idempotency-Replayed: true, where `replayed`. */
void reply_replayed(struct request *req, bool replayed);

/* --- lists ------------------------------------------------------------------------------------
 * Routes that use it name "limit" and "cursor" among their query parameters. */
struct page {
        uint32_t limit;     /* 1..LIST_LIMIT_MAX */
        const char *cursor; /* NULL: the first page; else the text that was next_cursor */
};
int request_page(const struct request *req, struct page *out, struct errinfo *e);
/* Writes "next_cursor" into the open object and sets Link: rel="next"; next NULL: null, no link. */
void reply_next_cursor(struct request *req, struct json_writer *w, const char *next);

/* --- problem.c: pure --- */
int problem_status(int err); /* the one table */
const char *problem_title(int status);
/* application/problem+json; name: ul_err_name or NULL. */
void problem_write(struct buf *out, int status, int err, const struct errinfo *e,
                   const char *detail, const char *instance);
/* {"error": "..."}, as the Open Inference Protocol has it. */
void problem_write_v2(struct buf *out, int status, const struct errinfo *e, const char *detail);
bool problem_is_v2_path(const char *path);
/* {"error": {"code", "message", "errors": [{"domain", "reason", "message"}]}}, as OpenDSR has it.
 */
void problem_write_opendsr(struct buf *out, int status, int err, const struct errinfo *e,
                           const char *detail);
bool problem_is_opendsr_path(const char *path);

#endif
