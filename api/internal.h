/* SPDX-License-Identifier: Apache-2.0
 * internal.h: the request object, shared by server.c (which moves it through its phases),
 * request.c (what handlers ask of it) and reply.c (what they answer). Handlers never see it.
 *
 * Life: created at the first access-handler call, ended in libmicrohttpd's completion notice (the
 * clean-up hook runs there, on an HTTP thread), freed with its last reference. A completion or a
 * wake on another thread holds a reference while it touches the lock: once resumed, the HTTP thread
 * may end the request before the other thread has left the mutex. A connection stays suspended
 * until its completion has come, so the end never overtakes a pending completion. */
#ifndef UNLEARND_API_INTERNAL_H
#define UNLEARND_API_INTERNAL_H

#include "api/http.h"
#include "api/router.h"
#include "api/server.h"
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

enum { REQUEST_MAGIC = 0x52455131, PEER_MAGIC = 0x50454552, REQUEST_ID_MAX = 64 };

enum phase {
        PHASE_BODY,    /* pieces of the body come in */
        PHASE_DISCARD, /* a reply is set; what is left of the body is thrown away, then it is sent
                        */
        PHASE_LINGER,  /* the reply went out ahead of the body's end; discard, then close */
        PHASE_PENDING, /* a handler waits for its completion */
        PHASE_ENDING,  /* upload_ops.end asked for another call */
        PHASE_SENDING, /* the reply is libmicrohttpd's business now */
};

struct reply {
        bool set;
        int status;
        const char *content_type; /* static text, or NULL */
        struct buf body;          /* owned */
        const void *fixed;        /* static data instead of body, or NULL */
        size_t fixed_len;
        stream_fn stream; /* instead of both, or NULL */
        void *stream_arg;
        size_t stream_at; /* bytes of `body`, the present piece, already sent */
        bool stream_last; /* no piece after the present one */
        uint32_t header_count;
        struct {
                const char *name; /* static text */
                char *value;      /* owned */
        } headers[REPLY_HEADERS_MAX];
};

struct query_param {
        const char *name, *value; /* in request.text */
};

struct request {
        uint32_t magic;
        /* under server.lock */
        struct request *next, *previous;

        /* set at the first call, then read only */
        struct server *server;
        struct service *service;
        struct MHD_Connection *connection;
        struct peer *peer;         /* NULL as of door_peer_of() */
        const struct route *route; /* NULL: none matched */
        const char *method;        /* static text; "GET" for HEAD */
        bool head;
        bool v2;      /* errors in the inference protocol's shape */
        bool opendsr; /* errors in OpenDSR's, which knows 400 for all that is wrong in a request */
        bool peer_loopback;
        char *path; /* owned copy of the raw path */
        char *text; /* owned: decoded parameters, query names and values; wiped */
        size_t text_len;
        uint32_t param_count;
        struct {
                const char *name; /* in the pattern; ends at '}', '.' */
                size_t name_len;
                const char *value;
        } params[ROUTE_PARAMS_MAX];
        uint32_t query_count;
        struct query_param query[QUERY_PARAMS_MAX];
        char actor[ACTOR_MAX];
        uint32_t scopes;
        char id[REQUEST_ID_MAX + 1];
        uint64_t started_us;

        /* owned by the HTTP thread of the connection */
        enum phase phase;
        uint64_t body_limit, body_seen, discarded;
        uint8_t *body; /* buffered; wiped */
        size_t body_len, body_cap;
        uint64_t paused_us;       /* spent suspended while the body was coming in */
        uint64_t paused_since_us; /* 0: not suspended */
        void *context;
        void (*cleanup)(void *context);

        /* owned by the HTTP thread, or by whoever completes a pending handler until it did */
        struct reply reply;

        /* under lock */
        pthread_mutex_t lock;
        bool completed;    /* request_complete() was called */
        handler_fn finish; /* makes the reply on the HTTP thread; NULL: it is set */
        bool suspended;
        bool pending; /* suspended for a completion: a wake must not resume it */
        bool woken;   /* a wake that came while not suspended: the next wait is skipped */

        _Atomic uint32_t references;
};

/* One connection, from libmicrohttpd's notice of its start to that of its end. All fields but the
 * first two are under server.lock. */
struct peer {
        uint32_t magic;
        int fd; /* open as long as the peer is in the list */
        struct peer *next, *previous;
        bool busy;    /* a request is in flight */
        bool leaving; /* shut down by us; libmicrohttpd has yet to see it */
        uint64_t idle_since_us;
};

/* --- server.c --- */
struct server {
        /* set once before the first request */
        struct service *service;
        struct auth *auth;
        const struct route_table *routes;
        uint64_t upload_max_bytes, infer_max_bytes, body_bytes_max;
        uint32_t idle_timeout_s, connections_max;
        struct MHD_Daemon *daemon;
        int listen_fd;
        pthread_t door;
        int door_wake; /* an eventfd */

        /* any thread: no request is begun any more, uploads end, waits without end end */
        _Atomic bool stopping;
        _Atomic uint64_t body_bytes; /* of long bodies that are held whole; see request.c */
        _Atomic bool door_closed;    /* its thread is to end */

        /* the thread at the door */
        uint64_t door_warned_us; /* 0: never */

        /* under lock */
        pthread_mutex_t lock;
        pthread_cond_t changed;   /* a request has ended, or a handler is no longer pending */
        struct request *requests; /* every one that has not ended */
        uint32_t pending;         /* handlers that run, or whose completion has not been seen */
        bool closed;              /* no handler is started any more */
        struct peer *first_peer, *last_peer; /* in the order in which they became idle */
        uint32_t peers;
        uint32_t arriving; /* handed over, and not in the list yet */
};
bool server_stopping(struct server *srv);
void server_add_request(struct server *srv, struct request *req);
void server_remove_request(struct server *srv, struct request *req);
/* false: too late, answer UL_CLOSED. True: server_leave_handler() once its reply is there. */
bool server_enter_handler(struct server *srv);
void server_leave_handler(struct server *srv);

/* --- door.c --- */
/* Starts to accept connections. After door_close() none comes in; those that are there stay. */
int door_open(struct server *srv, struct errinfo *e);
void door_close(struct server *srv);
/* The server is stopping: nobody is let in any more, and the rounds are made faster. */
void door_hurry(struct server *srv);
/* MHD_OPTION_NOTIFY_CONNECTION */
void door_notified(void *server, struct MHD_Connection *c, void **context,
                   enum MHD_ConnectionNotificationCode code);
/* NULL: there was no memory for it; the connection is being closed. */
struct peer *door_peer_of(struct MHD_Connection *c);
/* Under server.lock; a NULL peer is ignored. */
void door_busy_locked(struct peer *p);
void door_idle_locked(struct server *srv, struct peer *p);

/* --- framing.c --- */
/* True: the request's end or its host is in doubt. Its reply, which closes the connection, is set,
 * and must be queued at once: nothing that follows on the connection can be trusted. */
bool framing_refuse(struct request *req, const char *version);

/* --- dispatch.c --- */
enum MHD_Result dispatch(void *server, struct MHD_Connection *c, const char *url,
                         const char *method, const char *version, const char *upload_data,
                         size_t *upload_data_size, void **context);
void dispatch_ended(void *server, struct MHD_Connection *c, void **context,
                    enum MHD_RequestTerminationCode why);

/* --- request.c --- */
/* NULL: out of memory. url is the raw path. */
struct request *request_create(struct server *srv, struct service *s, struct MHD_Connection *c,
                               const char *url, const char *method);
/* Decodes what the router matched, and the query. UL_SYNTAX names the parameter. */
int request_decode(struct request *req, const struct route_match *match, struct errinfo *e);
/* UL_SYNTAX "query parameter NAME WHY"; a name that is not harmless text is left out. */
int request_refuse_query(struct errinfo *e, const char *name, const char *why);
/* Copies or makes the X-Request-Id. */
void request_identify(struct request *req);
/* UL_TOO_LARGE over body_limit, UL_BUSY, UL_NOMEM. Old copies are wiped when the buffer moves. */
int request_body_append(struct request *req, const void *data, size_t len, struct errinfo *e);
/* Runs the clean-up, wipes and frees everything but the memory of the request itself. */
void request_end(struct request *req);
void request_unref(struct request *req);
/* The HTTP thread: true: suspended, come back; false: what was waited for is already there. */
bool request_suspend_unless_completed(struct request *req);
bool request_suspend_unless_woken(struct request *req);
/* The HTTP thread: come back, but let the thread's other connections go first. */
void request_yield(struct request *req);

/* --- reply.c --- */
void reply_clear(struct reply *r);
/* Gives the reply to libmicrohttpd. */
enum MHD_Result reply_queue(struct request *req);
/* Writes it to the socket by hand: libmicrohttpd takes no reply while a body is coming in. */
void reply_send_early(struct request *req);

#endif
