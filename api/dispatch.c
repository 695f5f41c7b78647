/* SPDX-License-Identifier: Apache-2.0
 * dispatch.c: one request through its phases: admitted (route, token, quota, limits), its body
 * taken in, its handler run, its reply handed over. It must not know resources.
 *
 * libmicrohttpd calls dispatch() once when the headers are there, once for each piece of the body,
 * and once at its end; again after each resume. It takes a reply only in the first and the last of
 * these. So a request that is refused keeps its reply until its body was thrown away; where that
 * would be long, the reply is written by hand, a little more is read so that the client gets to see
 * it (closing with unread input resets the connection), and the connection is closed. */
#include "api/auth.h"
#include "api/internal.h"
#include "lib/util/log.h"
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
        DISCARD_MAX = 256 * 1024,      /* of a refused body, to keep the connection */
        LINGER_MAX = 8 * 1024 * 1024,  /* thrown away after the reply went out early */
        LINGER_US = 5 * 1000 * 1000,   /* the same as a time */
        SLOWEST_BYTES_A_SECOND = 1024, /* of a body, once idle_timeout_s have passed */
};

/* --- the first call: may it come in? --- */

/* "http://host/path" is legal in a request line (RFC 9112, 3.2.2). */
static const char *origin_form(const char *url)
{
        if (strncasecmp(url, "http://", 7) != 0)
                return url;
        const char *slash = strchr(url + 7, '/');
        return slash != NULL ? slash : "/";
}

static bool has_body(struct request *req)
{
        const char *length = request_header(req, "Content-Length");
        if (request_header(req, "Transfer-Encoding") != NULL)
                return true;
        return length != NULL && strspn(length, "0") != strlen(length);
}

static bool loopback_peer(struct request *req)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        if (info == NULL || info->client_addr == NULL)
                return false;
        const struct sockaddr *a = info->client_addr;
        if (a->sa_family == AF_INET) {
                const struct sockaddr_in *in = (const void *)a;
                return ntohl(in->sin_addr.s_addr) >> 24 == 127;
        }
        if (a->sa_family == AF_INET6) {
                const struct in6_addr *in6 =
                        &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
                return IN6_IS_ADDR_LOOPBACK(in6) ||
                       (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
        }
        return a->sa_family == AF_UNIX;
}

static void find_route(struct request *req, struct route_match *match)
{
        const char *method = req->method;
        int status = route_find(req->server->routes, method, req->path, match);
        req->route = match->route;
        if (status == 404) {
                reply_problem_status(req, 404, "there is nothing at this path");
        } else if (status == 405) {
                reply_header(req, "Allow", match->allow);
                reply_problem_status(req, 405, "this path does not take this method; see Allow");
        }
}

static void announce_quota(struct request *req, const struct auth_result *r)
{
        char text[96];
        if (r->quota == 0)
                return;
        snprintf(text, sizeof text, "\"default\";q=%u;w=%u", r->quota, r->window_s);
        reply_header(req, "RateLimit-Policy", text);
        snprintf(text, sizeof text, "\"default\";r=%u;t=%u", r->remaining, r->reset_s);
        reply_header(req, "RateLimit", text);
}

static void refuse_token(struct request *req, enum auth_verdict verdict,
                         const struct auth_result *r)
{
        if (verdict == AUTH_OVER_QUOTA) {
                char seconds[16];
                snprintf(seconds, sizeof seconds, "%u", r->reset_s);
                reply_problem_status(req, 429, "the token's quota is used up; see Retry-After");
                reply_header(req, "Retry-After", seconds);
                return;
        }
        reply_header(req, "WWW-Authenticate",
                     verdict == AUTH_MISSING
                             ? "Bearer realm=\"unlearnd\""
                             : "Bearer realm=\"unlearnd\", error=\"invalid_token\"");
        reply_problem_status(req, 401,
                             verdict == AUTH_MISSING
                                     ? "a token is needed: Authorization: Bearer TOKEN"
                                     : "the token is not known");
}

static void refuse_scope(struct request *req, uint32_t wanted)
{
        char names[64], text[192];
        scopes_describe(wanted, names, sizeof names);
        snprintf(text, sizeof text, "the token \"%s\" lacks the scope: %s", req->actor, names);
        reply_header(req, "WWW-Authenticate",
                     "Bearer realm=\"unlearnd\", error=\"insufficient_scope\"");
        reply_problem_status(req, 403, text);
}

/* Without tokens a web page that is open on this machine could call us as anybody. Browsers say
 * where a page is from; it must be from here. */
static bool foreign_origin(struct request *req)
{
        const char *origin = request_header(req, "Origin");
        const char *host = request_header(req, "Host");
        if (origin == NULL)
                return false;
        const char *authority = strstr(origin, "://");
        return authority == NULL || host == NULL || strcasecmp(authority + 3, host) != 0;
}

static void authorise(struct request *req)
{
        const struct route *route = req->route;
        struct auth *auth = req->server->auth;
        struct auth_result r;
        memcpy(req->actor, "anonymous", sizeof "anonymous");
        if (auth_is_open(auth) && foreign_origin(req)) {
                reply_problem_status(req, 403, "requests of foreign web pages need a token");
                return;
        }
        if (route->scopes == 0 || ((route->flags & ROUTE_LOOPBACK_OPEN) != 0 && loopback_peer(req)))
                return;
        enum auth_verdict verdict = auth_check(auth, request_header(req, "Authorization"), &r);
        announce_quota(req, &r);
        if (verdict != AUTH_OK) {
                refuse_token(req, verdict, &r);
                return;
        }
        memcpy(req->actor, r.actor, sizeof req->actor);
        req->scopes = r.scopes;
        if (!request_has_scope(req, route->scopes))
                refuse_scope(req, route->scopes);
}

static uint64_t body_limit(const struct request *req)
{
        const struct route *route = req->route;
        if (route->body == BODY_NONE)
                return 0;
        if (route->body_max == BODY_MAX_INFER)
                return req->server->infer_max_bytes;
        if (route->body_max == BODY_MAX_UPLOAD)
                return req->server->upload_max_bytes;
        return route->body_max != 0 ? route->body_max : JSON_BODY_MAX;
}

static void refuse_length(struct request *req)
{
        char text[96];
        if (req->route->body == BODY_NONE) {
                reply_problem_status(req, 400, "this request takes no body");
                return;
        }
        snprintf(text, sizeof text, "the body is over the limit of %llu bytes",
                 (unsigned long long)req->body_limit);
        struct errinfo e = {0};
        reply_problem(req, ul_fail(&e, UL_TOO_LARGE, "%s", text), &e);
}

static void check_body_headers(struct request *req)
{
        const char *encoding = request_header(req, "Content-Encoding");
        const char *length = request_header(req, "Content-Length");
        req->body_limit = body_limit(req);
        if (encoding != NULL && strcasecmp(encoding, "identity") != 0 &&
            (req->route->flags & ROUTE_ENCODED_BODY) == 0) {
                struct errinfo e = {0};
                reply_problem(req,
                              ul_fail(&e, UL_UNSUPPORTED, "this request takes no Content-Encoding"),
                              &e);
        } else if (length != NULL && strtoull(length, NULL, 10) > req->body_limit) {
                refuse_length(req);
        }
}

/* Leaves a reply in the request where it is refused. */
static void admit(struct request *req)
{
        struct errinfo e = {0};
        struct route_match match;
        if (server_stopping(req->server)) {
                reply_problem(req, ul_fail(&e, UL_CLOSED, "the service is stopping"), &e);
                return;
        }
        find_route(req, &match);
        if (!req->reply.set)
                authorise(req);
        if (!req->reply.set) {
                int err = request_decode(req, &match, &e);
                if (err != 0)
                        reply_problem(req, err, &e);
        }
        if (!req->reply.set)
                check_body_headers(req);
        if (!req->reply.set && req->route->body == BODY_STREAMED) {
                int err = req->route->upload->begin(req, &e);
                if (err != 0)
                        reply_problem(req, err, &e);
        }
}

static enum MHD_Result send_reply(struct request *req)
{
        req->phase = PHASE_SENDING;
        return reply_queue(req);
}

static enum MHD_Result first_call(struct server *srv, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, void **context)
{
        struct request *req = request_create(srv, srv->service, c, origin_form(url), method);
        if (req == NULL)
                return MHD_NO;
        *context = req;
        server_add_request(srv, req);
        request_identify(req);
        if (framing_refuse(req, version))
                return send_reply(req);
        admit(req);
        req->phase = PHASE_BODY;
        if (!req->reply.set)
                return MHD_YES;
        req->phase = PHASE_DISCARD;
        if (has_body(req) && request_header(req, "Expect") != NULL)
                return send_reply(req); /* the client waits for our word before it sends */
        return MHD_YES;
}

/* --- the body --- */

/* False: so slow that it must be meant. Time in which we kept the client waiting does not count. */
static bool fast_enough(const struct request *req)
{
        uint64_t spent_us = mono_us() - req->started_us - req->paused_us;
        uint64_t allowed_s = req->server->idle_timeout_s + req->body_seen / SLOWEST_BYTES_A_SECOND;
        return req->server->idle_timeout_s == 0 || spent_us / 1000000 <= allowed_s;
}

static enum MHD_Result discard(struct request *req, size_t *size)
{
        const char *length = request_header(req, "Content-Length");
        req->discarded += *size;
        *size = 0;
        if (req->phase == PHASE_LINGER) {
                bool enough = req->discarded > LINGER_MAX ||
                              mono_us() - req->started_us > LINGER_US + req->paused_us;
                return enough ? MHD_NO : MHD_YES;
        }
        if (req->discarded > DISCARD_MAX ||
            (length != NULL && strtoull(length, NULL, 10) > DISCARD_MAX)) {
                reply_send_early(req);
                req->phase = PHASE_LINGER;
                req->discarded = 0;
                req->paused_us = mono_us() - req->started_us;
        }
        return MHD_YES;
}

/* From here on the request is refused: the reply is set, what comes is thrown away. */
static enum MHD_Result refuse_rest(struct request *req, int err, const struct errinfo *e,
                                   size_t *size)
{
        reply_problem(req, err, e);
        request_body_wipe(req);
        req->phase = PHASE_DISCARD;
        return discard(req, size);
}

/* True: the connection is suspended until the wake, or for a turn of the others where it has been
 * woken already. */
static bool pause_upload(struct request *req)
{
        if (server_stopping(req->server))
                return false;
        req->paused_since_us = mono_us();
        if (!request_suspend_unless_woken(req))
                request_yield(req);
        return true;
}

static void count_pause(struct request *req)
{
        if (req->paused_since_us != 0)
                req->paused_us += mono_us() - req->paused_since_us;
        req->paused_since_us = 0;
}

static enum MHD_Result take_streamed(struct request *req, const char *data, size_t *size)
{
        struct errinfo e = {0};
        if (*size > req->body_limit - req->body_seen) {
                int err = ul_fail(&e, UL_TOO_LARGE, "the body is over the limit of %llu bytes",
                                  (unsigned long long)req->body_limit);
                return refuse_rest(req, err, &e, size);
        }
        for (;;) {
                if (server_stopping(req->server))
                        return refuse_rest(req, ul_fail(&e, UL_CLOSED, "the service is stopping"),
                                           &e, size);
                size_t consumed = 0;
                int err = req->route->upload->data(req, data, *size, &consumed, &e);
                if (err == 0)
                        consumed = *size;
                assert(consumed <= *size);
                if (err != 0 && err != UL_AGAIN)
                        return refuse_rest(req, err, &e, size);
                req->body_seen += consumed;
                data += consumed;
                *size -= consumed;
                /* With nothing left, libmicrohttpd 0.9.75 would go on to the next chunk of the body
                 * although the connection is suspended: the next call waits instead. */
                if (err == 0 || *size == 0 || pause_upload(req))
                        return MHD_YES;
        }
}

static enum MHD_Result take_buffered(struct request *req, const char *data, size_t *size)
{
        struct errinfo e = {0};
        if (req->route->body == BODY_NONE) {
                refuse_length(req);
                return refuse_rest(req, UL_SYNTAX, NULL, size);
        }
        int err = request_body_append(req, data, *size, &e);
        if (err != 0)
                return refuse_rest(req, err, &e, size);
        req->body_seen += *size;
        *size = 0;
        return MHD_YES;
}

static enum MHD_Result take_body(struct request *req, const char *data, size_t *size)
{
        if (req->phase != PHASE_BODY)
                return discard(req, size);
        count_pause(req);
        if (!fast_enough(req)) {
                reply_problem_status(req, 408, "the body came too slowly");
                reply_send_early(req);
                return MHD_NO;
        }
        return req->route->body == BODY_STREAMED ? take_streamed(req, data, size)
                                                 : take_buffered(req, data, size);
}

/* --- after the body --- */

static enum MHD_Result await_completion(struct request *req)
{
        req->phase = PHASE_PENDING;
        if (request_suspend_unless_completed(req))
                return MHD_YES;
        if (req->finish != NULL)
                req->finish(req);
        server_leave_handler(req->server);
        return send_reply(req);
}

static enum MHD_Result run_handler(struct request *req)
{
        if (!server_enter_handler(req->server)) {
                struct errinfo e = {0};
                reply_problem(req, ul_fail(&e, UL_CLOSED, "the service is stopping"), &e);
                return send_reply(req);
        }
        /* for the completion, which may come before the handler has returned */
        atomic_fetch_add_explicit(&req->references, 1, memory_order_relaxed);
        if (req->route->handle(req) == HANDLER_PENDING)
                return await_completion(req);
        request_unref(req);
        server_leave_handler(req->server);
        return send_reply(req);
}

static enum MHD_Result end_upload(struct request *req)
{
        struct errinfo e = {0};
        count_pause(req);
        req->phase = PHASE_ENDING;
        int err = 0;
        do {
                err = server_stopping(req->server)
                              ? ul_fail(&e, UL_CLOSED, "the service is stopping")
                              : req->route->upload->end(req, &e);
                if (err == UL_AGAIN && pause_upload(req))
                        return MHD_YES;
        } while (err == UL_AGAIN);
        if (err != 0)
                reply_problem(req, err, &e);
        return send_reply(req);
}

enum MHD_Result dispatch(void *server, struct MHD_Connection *c, const char *url,
                         const char *method, const char *version, const char *upload_data,
                         size_t *upload_data_size, void **context)
{
        struct request *req = *context;
        if (req == NULL)
                return first_call(server, c, url, method, version, context);
        assert(req->magic == REQUEST_MAGIC);
        if (*upload_data_size != 0)
                return take_body(req, upload_data, upload_data_size);
        switch (req->phase) {
        case PHASE_BODY:
                return req->route->body == BODY_STREAMED ? end_upload(req) : run_handler(req);
        case PHASE_DISCARD:
                return send_reply(req);
        case PHASE_PENDING:
                return await_completion(req);
        case PHASE_ENDING:
                return end_upload(req);
        case PHASE_LINGER:
        case PHASE_SENDING:
                break;
        }
        return MHD_NO;
}

/* --- the end --- */

/* W3C trace context, version 00: 00-32hex-16hex-2hex. */
static bool traceparent_valid(const char *t)
{
        static const char form[] = "00-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
        if (t == NULL || strlen(t) != sizeof form - 1)
                return false;
        for (size_t i = 0; i < sizeof form - 1; i++) {
                bool hex = (t[i] >= '0' && t[i] <= '9') || (t[i] >= 'a' && t[i] <= 'f');
                if (form[i] == 'h' ? !hex : t[i] != form[i])
                        return false;
        }
        return true;
}

/* Never the path: it may name a person. */
static void report(struct request *req, enum MHD_RequestTerminationCode why)
{
        double seconds = (double)(mono_us() - req->started_us) / 1e6;
        const char *pattern = req->route != NULL ? req->route->pattern : "unmatched";
        const char *trace = request_header(req, "traceparent");
        int status = req->reply.set ? req->reply.status : 0;
        if (req->reply.set)
                service_count_request(req->service, req->method, pattern, status, seconds);
        log_event(LOG_LEVEL_DEBUG, "request",
                  "method=%s route=%s status=%d seconds=%.6f actor=%s id=%s whole=%d trace=%s",
                  req->method, pattern, status, seconds, req->actor[0] != '\0' ? req->actor : "-",
                  req->id, why == MHD_REQUEST_TERMINATED_COMPLETED_OK,
                  traceparent_valid(trace) ? trace : "-");
}

void dispatch_ended(void *server, struct MHD_Connection *c, void **context,
                    enum MHD_RequestTerminationCode why)
{
        (void)c;
        struct request *req = *context;
        if (req == NULL)
                return;
        *context = NULL;
        assert(req->magic == REQUEST_MAGIC);
        report(req, why);
        /* a client that left while it waited is seen to have left once the completion has come */
        if (req->phase == PHASE_PENDING)
                server_leave_handler(server);
        request_end(req);
        server_remove_request(server, req);
        request_unref(req);
}
