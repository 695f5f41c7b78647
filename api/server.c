/* SPDX-License-Identifier: Apache-2.0
 * server.c: libmicrohttpd started, drained and stopped; the list of requests in flight. It must not
 * know what a request means (dispatch.c).
 *
 * Draining is in an order that libmicrohttpd dictates: it aborts the process when it is stopped
 * while a connection is suspended. So first no new request is begun and everything that waits
 * without end is woken; then what is in flight gets GRACE_MS to leave; then no handler is started
 * any more, and every completion that is still to come is awaited, for it always comes. Only then
 * are the connections that are left closed. */
#include "api/auth.h"
#include "api/internal.h"
#include "lib/util/limits.h"
#include "lib/util/log.h"
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
        GRACE_MS = 5000,
        BACKLOG = 1024,
        CONNECTION_BYTES = 32 * 1024, /* of headers, and of one piece of a body */
        THREADS_MAX = 64,
        BODIES_MAX = 32, /* of the largest size, in memory at a time */
        /* The door counts. The library must not: 0.9.75 keeps a lock when it refuses a connection
         * that it was given, and never serves again. */
        NO_LIMIT = INT_MAX,
};

/* --- the requests in flight --- */

bool server_stopping(struct server *srv)
{
        return atomic_load_explicit(&srv->stopping, memory_order_acquire);
}

void server_add_request(struct server *srv, struct request *req)
{
        pthread_mutex_lock(&srv->lock);
        req->next = srv->requests;
        if (req->next != NULL)
                req->next->previous = req;
        srv->requests = req;
        door_busy_locked(req->peer);
        pthread_mutex_unlock(&srv->lock);
}

void server_remove_request(struct server *srv, struct request *req)
{
        pthread_mutex_lock(&srv->lock);
        if (req->next != NULL)
                req->next->previous = req->previous;
        if (req->previous != NULL)
                req->previous->next = req->next;
        else
                srv->requests = req->next;
        req->next = req->previous = NULL;
        door_idle_locked(srv, req->peer);
        if (server_stopping(srv))
                pthread_cond_signal(&srv->changed);
        pthread_mutex_unlock(&srv->lock);
}

bool server_enter_handler(struct server *srv)
{
        pthread_mutex_lock(&srv->lock);
        bool open = !srv->closed;
        if (open)
                srv->pending++;
        pthread_mutex_unlock(&srv->lock);
        return open;
}

void server_leave_handler(struct server *srv)
{
        pthread_mutex_lock(&srv->lock);
        assert(srv->pending > 0);
        srv->pending--;
        if (server_stopping(srv))
                pthread_cond_signal(&srv->changed);
        pthread_mutex_unlock(&srv->lock);
}

/* --- the listening socket --- */

static int listen_at(const struct addrinfo *a)
{
        int one = 1;
        int fd =
                socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd < 0)
                return -1;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
            bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
                return fd;
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
}

static int open_listener(const struct server_options *o, int *out, struct errinfo *e)
{
        char port[8], host[64];
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                 .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
        struct addrinfo *list = NULL;
        size_t len = strlen(o->host);
        bool brackets = len > 2 && o->host[0] == '[' && o->host[len - 1] == ']';
        snprintf(port, sizeof port, "%u", o->port);
        snprintf(host, sizeof host, "%.*s", (int)(len - 2 * brackets), o->host + brackets);
        int rc = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
        if (rc != 0)
                return ul_fail(e, UL_INVALID, "cannot listen on %s: %s", o->host, gai_strerror(rc));
        int fd = -1;
        for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
                fd = listen_at(a);
        int saved = errno;
        freeaddrinfo(list);
        if (fd < 0)
                return ul_fail(e, UL_IO, "cannot listen on %s port %s: %s", o->host, port,
                               strerror(saved));
        *out = fd;
        return 0;
}

static int listener_port(int fd, uint16_t *out, struct errinfo *e)
{
        struct sockaddr_storage a = {0};
        socklen_t len = sizeof a;
        if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
                return ul_fail_errno(e, "cannot read the address of the listening socket");
        if (a.ss_family == AF_INET6)
                *out = ntohs(((const struct sockaddr_in6 *)&a)->sin6_port);
        else if (a.ss_family == AF_INET)
                *out = ntohs(((const struct sockaddr_in *)&a)->sin_port);
        else
                *out = 0; /* a Unix socket */
        return 0;
}

/* --- libmicrohttpd --- */

/* Paths and queries stay as they were sent: the router needs to know a%2Fb from a/b. */
static size_t keep_escapes(void *arg, struct MHD_Connection *c, char *text)
{
        (void)arg;
        (void)c;
        return strlen(text);
}

static void log_message(void *arg, const char *format, va_list args)
{
        (void)arg;
        char text[256];
        if (vsnprintf(text, sizeof text, format, args) < 0)
                return;
        for (char *p = text; *p != '\0'; p++) {
                if (*p == '"' || *p < 32)
                        *p = ' ';
        }
        log_event(LOG_LEVEL_DEBUG, "http_library", "message=\"%s\"", text);
}

/* The reason would else go to the standard error stream without a time or a level. */
static void panic(void *arg, const char *file, unsigned line, const char *reason)
{
        (void)arg;
        log_event(LOG_LEVEL_ERROR, "http_library_panic", "reason=\"%.*s\" at=%s:%u",
                  (int)strcspn(reason, "\n"), reason, file, line);
        abort();
}

static int start_daemon(struct server *srv, const struct server_options *o, struct errinfo *e)
{
        unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                         MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET;
        unsigned threads = o->threads == 0 ? 1 : o->threads;
        if (threads > THREADS_MAX)
                threads = THREADS_MAX;
        struct MHD_OptionItem pool[] = {{MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL},
                                        {MHD_OPTION_END, 0, NULL}};
        if (threads == 1)
                pool[0].option = MHD_OPTION_END;
        MHD_set_panic_func(panic, NULL);
        srv->daemon = MHD_start_daemon(
                flags, 0, NULL, NULL, dispatch, srv, MHD_OPTION_EXTERNAL_LOGGER, log_message, NULL,
                MHD_OPTION_NOTIFY_CONNECTION, door_notified, srv, MHD_OPTION_NOTIFY_COMPLETED,
                dispatch_ended, srv, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
                MHD_OPTION_CONNECTION_LIMIT, (unsigned)NO_LIMIT, MHD_OPTION_CONNECTION_TIMEOUT,
                (unsigned)o->idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                (size_t)CONNECTION_BYTES, MHD_OPTION_ARRAY, pool, MHD_OPTION_END);
        if (srv->daemon == NULL)
                return ul_fail(e, UL_INTERNAL,
                               "cannot start the HTTP threads (threads=%u): is the limit of open "
                               "files too low?",
                               threads);
        return 0;
}

static int init_locks(struct server *srv, struct errinfo *e)
{
        pthread_condattr_t attr;
        if (pthread_mutex_init(&srv->lock, NULL) != 0)
                return ul_fail(e, UL_NOMEM, "no memory for a lock");
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        int rc = pthread_cond_init(&srv->changed, &attr);
        pthread_condattr_destroy(&attr);
        if (rc == 0)
                return 0;
        pthread_mutex_destroy(&srv->lock);
        return ul_fail(e, UL_NOMEM, "no memory for a condition");
}

static void server_free(struct server *srv)
{
        if (srv->daemon != NULL)
                MHD_stop_daemon(srv->daemon);
        if (srv->listen_fd >= 0)
                close(srv->listen_fd);
        if (srv->door_wake >= 0)
                close(srv->door_wake);
        auth_close(&srv->auth);
        pthread_cond_destroy(&srv->changed);
        pthread_mutex_destroy(&srv->lock);
        free(srv);
}

int server_start(struct service *s, const struct server_options *o, struct server **out,
                 uint16_t *port, struct errinfo *e)
{
        *out = NULL;
        struct server *srv = calloc(1, sizeof *srv);
        if (srv == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the HTTP server");
        int err = init_locks(srv, e);
        if (err != 0) {
                free(srv);
                return err;
        }
        srv->service = s;
        srv->routes = route_table_default();
        srv->upload_max_bytes = o->upload_max_bytes;
        srv->infer_max_bytes = o->infer_max_bytes;
        srv->body_bytes_max = BODIES_MAX * (o->infer_max_bytes > INFER_BODY_MAX ? o->infer_max_bytes
                                                                                : INFER_BODY_MAX);
        srv->idle_timeout_s = o->idle_timeout_s;
        srv->connections_max = o->connections_max;
        srv->listen_fd = o->listen_fd;
        srv->door_wake = -1;
        err = auth_open(o->no_auth ? "" : o->tokens_file, &srv->auth, e);
        if (err == 0 && srv->listen_fd < 0)
                err = open_listener(o, &srv->listen_fd, e);
        if (err == 0)
                err = listener_port(srv->listen_fd, port, e);
        if (err == 0)
                err = start_daemon(srv, o, e);
        if (err == 0)
                err = door_open(srv, e);
        if (err != 0) {
                server_free(srv);
                return err;
        }
        *out = srv;
        return 0;
}

int server_reload(struct server *srv, struct errinfo *e)
{
        return auth_reload(srv->auth, e);
}

/* --- the end --- */

static void wake_all_locked(struct server *srv)
{
        for (struct request *req = srv->requests; req != NULL; req = req->next)
                request_wake(req);
}

/* Under the lock: waits for `changed` until the time is there; false: it is. */
static bool wait_changed(struct server *srv, const struct timespec *until)
{
        return pthread_cond_timedwait(&srv->changed, &srv->lock, until) != ETIMEDOUT;
}

static void await_requests(struct server *srv)
{
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += GRACE_MS / 1000;
        pthread_mutex_lock(&srv->lock);
        wake_all_locked(srv);
        while (srv->requests != NULL && wait_changed(srv, &until))
                continue;
        uint32_t left = 0;
        for (struct request *req = srv->requests; req != NULL; req = req->next)
                left++;
        if (left > 0)
                log_event(LOG_LEVEL_WARN, "drain_cut_short", "requests=%u after_ms=%d", left,
                          GRACE_MS);
        srv->closed = true;
        while (srv->pending > 0)
                pthread_cond_wait(&srv->changed, &srv->lock);
        pthread_mutex_unlock(&srv->lock);
}

/* The library frees a connection that no thread of its own has taken up yet without its lock. */
static void await_arrivals(struct server *srv)
{
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec++;
        pthread_mutex_lock(&srv->lock);
        while (srv->arriving > 0 && wait_changed(srv, &until))
                continue;
        pthread_mutex_unlock(&srv->lock);
}

void server_drain(struct server *srv)
{
        if (srv->daemon == NULL)
                return;
        atomic_store_explicit(&srv->stopping, true, memory_order_release);
        door_hurry(srv);
        await_requests(srv);
        door_close(srv); /* it must not hand over a connection from here on */
        await_arrivals(srv);
        MHD_stop_daemon(srv->daemon);
        srv->daemon = NULL;
        pthread_mutex_lock(&srv->lock);
        assert(srv->requests == NULL && srv->peers == 0);
        pthread_mutex_unlock(&srv->lock);
}

void server_stop(struct server **srv)
{
        if (*srv == NULL)
                return;
        server_drain(*srv);
        server_free(*srv);
        *srv = NULL;
}
