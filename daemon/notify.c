/* SPDX-License-Identifier: Apache-2.0
 * notify.c: see notify.h. A message that cannot be sent is logged and no error: the service works
 * without its manager. It must not know what the daemon serves. */
#include "daemon/notify.h"

#include "lib/util/log.h"
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

static int socket_address(struct notify_socket *out, struct errinfo *e)
{
        struct sockaddr_storage a = {0};
        socklen_t len = sizeof a;
        const void *ip = NULL;
        if (getsockname(out->fd, (struct sockaddr *)&a, &len) != 0)
                return ul_fail_errno(e, "cannot read the address of systemd's socket");
        if (a.ss_family == AF_INET) {
                const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a;
                ip = &v4->sin_addr;
                out->port = ntohs(v4->sin_port);
        } else if (a.ss_family == AF_INET6) {
                const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a;
                ip = &v6->sin6_addr;
                out->port = ntohs(v6->sin6_port);
        }
        if (ip == NULL || inet_ntop(a.ss_family, ip, out->host, sizeof out->host) == NULL)
                return ul_fail(e, UL_INVALID,
                               "systemd's socket is not TCP: give unlearnd.socket a ListenStream "
                               "such as 127.0.0.1:8417");
        return 0;
}

int notify_listen_socket(struct notify_socket *out, struct errinfo *e)
{
        *out = (struct notify_socket){.fd = -1};
        int n = sd_listen_fds(1); /* unsets the variables: workers must not see them */
        if (n < 0)
                return ul_fail(e, UL_INVALID, "cannot take over systemd's sockets: %s",
                               strerror(-n));
        if (n == 0)
                return 0;
        if (n > 1)
                return ul_fail(e, UL_INVALID,
                               "systemd handed over %d sockets: unlearnd.socket may have one "
                               "ListenStream only",
                               n);
        if (sd_is_socket(SD_LISTEN_FDS_START, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
                return ul_fail(e, UL_INVALID,
                               "systemd's socket does not listen: unlearnd.socket wants "
                               "ListenStream and Accept=no");
        out->fd = SD_LISTEN_FDS_START;
        return socket_address(out, e);
}

static void check(int rc, const char *what)
{
        if (rc < 0)
                log_event(LOG_LEVEL_WARN, "notify_failed", "message=%s error=%d", what, -rc);
}

void notify_ready(const char *status)
{
        check(sd_notifyf(0, "READY=1\nSTATUS=%s", status), "ready");
}

void notify_reloading(void)
{
        struct timespec now;
        (void)clock_gettime(CLOCK_MONOTONIC, &now); /* systemd compares it with its own clock */
        check(sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reading the tokens again",
                         (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000),
              "reloading");
}

void notify_stopping(void)
{
        check(sd_notify(0, "STOPPING=1\nSTATUS=Answering what is in flight"), "stopping");
}

void notify_watchdog(void)
{
        check(sd_notify(0, "WATCHDOG=1"), "watchdog");
}

uint64_t notify_watchdog_us(void)
{
        uint64_t us = 0;
        return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}
