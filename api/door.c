/* SPDX-License-Identifier: Apache-2.0
 * door.c: who comes in and who is shown out. One thread accepts the connections, hands each to
 * libmicrohttpd, and looks over all of them once a second. It must not know requests beyond whether
 * a connection has one in flight.
 *
 * libmicrohttpd 0.9.75 is not given the listening socket, for three reasons:
 *   - MHD_quiesce_daemon() races with the library's own threads over the removal of that socket
 *     from epoll, and the loser aborts the process: a client that leaves at the moment of a SIGTERM
 *     is enough;
 *   - at its limit it stops accepting, so whoever holds idle connections locks everybody out. Here
 *     the one that has been idle longest makes room;
 *   - its timeout begins anew with every byte, so a header that comes a byte a minute lasts for
 *     ever. Here a connection may be without a request for idle_timeout_s and no longer.
 *
 * The library waits for edges, and takes a short read for "nothing is left": an end of stream that
 * arrived before that read has raised its last edge already and is not seen until the timeout. So
 * the round raises another: shutdown(SHUT_RD) changes nothing about a stream that has ended, except
 * that all who wait for it are woken. */
#include "api/internal.h"
#include "lib/util/clock.h"
#include "lib/util/log.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
        ROUND_MS = 1000,
        HURRY_MS = 50,       /* a round while draining; a rest while nobody can be let in */
        ROUND_CHUNK = 256,   /* connections a poll() */
        ACCEPTS_A_TURN = 64, /* then the rounds get their turn */
        WARN_EVERY_US = 10000000,
};

/* --- the connections, under the server's lock --- */

static void append_locked(struct server *srv, struct peer *p)
{
        p->next = NULL;
        p->previous = srv->last_peer;
        if (srv->last_peer != NULL)
                srv->last_peer->next = p;
        else
                srv->first_peer = p;
        srv->last_peer = p;
}

static void unlink_locked(struct server *srv, struct peer *p)
{
        if (p->next != NULL)
                p->next->previous = p->previous;
        else
                srv->last_peer = p->previous;
        if (p->previous != NULL)
                p->previous->next = p->next;
        else
                srv->first_peer = p->next;
}

void door_busy_locked(struct peer *p)
{
        if (p != NULL)
                p->busy = true;
}

void door_idle_locked(struct server *srv, struct peer *p)
{
        if (p == NULL)
                return;
        p->busy = false;
        p->idle_since_us = mono_us();
        unlink_locked(srv, p);
        append_locked(srv, p);
}

static bool is_full_locked(const struct server *srv)
{
        return srv->peers + srv->arriving >= srv->connections_max;
}

static void wake(struct server *srv)
{
        (void)eventfd_write(srv->door_wake, 1); /* fails only where it has been woken for long */
}

static void peer_arrived(struct server *srv, int fd, void **context)
{
        struct peer *p = calloc(1, sizeof *p);
        if (p == NULL) {
                (void)shutdown(fd, SHUT_RDWR);
                return;
        }
        p->magic = PEER_MAGIC;
        p->fd = fd;
        p->idle_since_us = mono_us();
        pthread_mutex_lock(&srv->lock);
        append_locked(srv, p);
        srv->peers++;
        srv->arriving -= srv->arriving > 0;
        if (server_stopping(srv))
                pthread_cond_signal(&srv->changed);
        pthread_mutex_unlock(&srv->lock);
        *context = p;
}

static void peer_left(struct server *srv, struct peer *p)
{
        pthread_mutex_lock(&srv->lock);
        unlink_locked(srv, p);
        bool was_full = is_full_locked(srv);
        srv->peers--;
        pthread_mutex_unlock(&srv->lock);
        p->magic = 0;
        free(p);
        if (was_full)
                wake(srv);
}

void door_notified(void *server, struct MHD_Connection *c, void **context,
                   enum MHD_ConnectionNotificationCode code)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct peer *p = *context;
        if (code == MHD_CONNECTION_NOTIFY_STARTED && info != NULL) {
                peer_arrived(server, info->connect_fd, context);
        } else if (code == MHD_CONNECTION_NOTIFY_CLOSED && p != NULL) {
                assert(p->magic == PEER_MAGIC);
                *context = NULL;
                peer_left(server, p);
        }
}

struct peer *door_peer_of(struct MHD_Connection *c)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct peer *p = info != NULL ? info->socket_context : NULL;
        assert(p == NULL || p->magic == PEER_MAGIC);
        return p;
}

/* --- showing out --- */

static bool is_full(struct server *srv)
{
        pthread_mutex_lock(&srv->lock);
        bool full = is_full_locked(srv);
        pthread_mutex_unlock(&srv->lock);
        return full;
}

static void show_out_locked(struct peer *p)
{
        p->leaving = true;
        (void)shutdown(p->fd, SHUT_RDWR);
}

/* A request that the HTTP threads have not got to yet. */
static bool has_unread(const struct peer *p)
{
        char byte;
        return recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* The list is in the order in which they became idle, save for those that are busy now. */
static void show_out_longest_idle(struct server *srv)
{
        pthread_mutex_lock(&srv->lock);
        struct peer *p = srv->first_peer;
        while (p != NULL && (p->busy || p->leaving || has_unread(p)))
                p = p->next;
        if (p != NULL)
                show_out_locked(p);
        pthread_mutex_unlock(&srv->lock);
}

static void warn(struct server *srv, const char *event, const char *why)
{
        uint64_t now = mono_us();
        if (srv->door_warned_us != 0 && now - srv->door_warned_us < WARN_EVERY_US)
                return;
        srv->door_warned_us = now;
        log_event(LOG_LEVEL_WARN, event, "reason=%s connections_max=%u", why, srv->connections_max);
}

static void make_room(struct server *srv, const char *why)
{
        warn(srv, "connections_full", why);
        show_out_longest_idle(srv);
}

/* --- the round --- */

static bool overdue(const struct server *srv, const struct peer *p, uint64_t now)
{
        return srv->idle_timeout_s != 0 && !p->busy && !p->leaving &&
               now - p->idle_since_us > (uint64_t)srv->idle_timeout_s * 1000000;
}

static struct peer *look_over_locked(struct server *srv, struct peer *p, uint64_t now)
{
        struct pollfd fds[ROUND_CHUNK];
        nfds_t n = 0;
        for (; p != NULL && n < ROUND_CHUNK; p = p->next) {
                if (overdue(srv, p, now))
                        show_out_locked(p);
                fds[n++] = (struct pollfd){.fd = p->fd, .events = POLLRDHUP};
        }
        if (poll(fds, n, 0) <= 0)
                return p;
        for (nfds_t i = 0; i < n; i++) {
                if (fds[i].revents != 0)
                        (void)shutdown(fds[i].fd, SHUT_RD);
        }
        return p;
}

static void go_round(struct server *srv)
{
        uint64_t now = mono_us();
        pthread_mutex_lock(&srv->lock);
        if (!server_stopping(srv))
                srv->arriving = 0; /* where the library found no memory for one, it never says so */
        for (struct peer *p = srv->first_peer; p != NULL;)
                p = look_over_locked(srv, p, now);
        pthread_mutex_unlock(&srv->lock);
}

/* --- letting in --- */

/* A descriptor, or -1: nobody is there, or nobody can be let in (*rest). */
static int accept_one(struct server *srv, struct sockaddr_storage *a, socklen_t *len, bool *rest)
{
        for (;;) {
                *len = sizeof *a;
                int fd = accept4(srv->listen_fd, (struct sockaddr *)a, len,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd >= 0 || errno == EAGAIN)
                        return fd;
                if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO)
                        continue; /* that one has left again */
                *rest = true;
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                        make_room(srv, strerrorname_np(errno));
                else
                        warn(srv, "accept_failed", strerrorname_np(errno));
                return -1;
        }
}

/* True: nobody can be let in just now. */
static bool let_in(struct server *srv)
{
        struct sockaddr_storage a;
        socklen_t len;
        bool rest = false;
        if (is_full(srv)) {
                make_room(srv, "connections_max");
                return true;
        }
        for (int i = 0; i < ACCEPTS_A_TURN && !is_full(srv); i++) {
                int fd = accept_one(srv, &a, &len, &rest);
                if (fd < 0)
                        break;
                pthread_mutex_lock(&srv->lock);
                srv->arriving++;
                pthread_mutex_unlock(&srv->lock);
                /* closes the descriptor where it fails */
                (void)MHD_add_connection(srv->daemon, fd, (struct sockaddr *)&a, len);
        }
        return rest;
}

/* --- the thread --- */

static int wait_ms(uint64_t next_us, bool rest)
{
        uint64_t now = mono_us();
        uint64_t left_ms = next_us > now ? (next_us - now) / 1000 + 1 : 0;
        return (int)(rest && left_ms > HURRY_MS ? HURRY_MS : left_ms);
}

static void *door_main(void *arg)
{
        struct server *srv = arg;
        uint64_t next_us = 0;
        bool rest = false;
        while (!atomic_load_explicit(&srv->door_closed, memory_order_acquire)) {
                struct pollfd fds[] = {
                        {.fd = srv->door_wake, .events = POLLIN},
                        {.fd = rest || server_stopping(srv) ? -1 : srv->listen_fd,
                         .events = POLLIN},
                };
                eventfd_t ignored;
                (void)poll(fds, 2, wait_ms(next_us, rest));
                if (fds[0].revents != 0)
                        (void)eventfd_read(srv->door_wake, &ignored);
                rest = fds[1].revents != 0 && !server_stopping(srv) && let_in(srv);
                if (mono_us() < next_us && !server_stopping(srv))
                        continue;
                go_round(srv);
                next_us = mono_us() + 1000 * (uint64_t)(server_stopping(srv) ? HURRY_MS : ROUND_MS);
        }
        return NULL;
}

int door_open(struct server *srv, struct errinfo *e)
{
        int flags = fcntl(srv->listen_fd, F_GETFL);
        if (flags < 0 || fcntl(srv->listen_fd, F_SETFL, flags | O_NONBLOCK) != 0)
                return ul_fail_errno(e, "cannot prepare the listening socket");
        srv->door_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (srv->door_wake < 0)
                return ul_fail_errno(e, "cannot make an event descriptor");
        int rc = pthread_create(&srv->door, NULL, door_main, srv);
        if (rc == 0)
                return 0;
        close(srv->door_wake);
        srv->door_wake = -1;
        return ul_fail(e, UL_INTERNAL, "cannot start the thread that accepts connections: %s",
                       strerror(rc));
}

void door_hurry(struct server *srv)
{
        wake(srv);
}

void door_close(struct server *srv)
{
        atomic_store_explicit(&srv->door_closed, true, memory_order_release);
        wake(srv);
        (void)pthread_join(srv->door, NULL);
}
