/* SPDX-License-Identifier: Apache-2.0
 * notify.h: what systemd is told and what it hands over: readiness, reloads, the watchdog, a
 * socket. The one owner of libsystemd. Without systemd every call does nothing. */
#ifndef UNLEARND_DAEMON_NOTIFY_H
#define UNLEARND_DAEMON_NOTIFY_H

#include "lib/util/err.h"
#include <stdint.h>

struct notify_socket {
        int fd; /* -1: none was handed over */
        char host[64];
        uint16_t port;
};
/* The listening socket of socket activation. UL_INVALID for more than one, or one that is not a
 * listening TCP socket. */
int notify_listen_socket(struct notify_socket *out, struct errinfo *e);

/* status: a sentence for `systemctl status`. */
void notify_ready(const char *status);
void notify_reloading(void); /* notify_ready ends it */
void notify_stopping(void);
void notify_watchdog(void);
/* WatchdogSec in microseconds, 0: none is set. */
uint64_t notify_watchdog_us(void);

#endif
