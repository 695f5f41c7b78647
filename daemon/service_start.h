/* SPDX-License-Identifier: Apache-2.0
 * service_start.h: what main.c asks of the service: start is recovery, stop only makes the next one
 * shorter. */
#ifndef UNLEARND_DAEMON_SERVICE_START_H
#define UNLEARND_DAEMON_SERVICE_START_H

#include "lib/util/err.h"
#include <stdbool.h>
#include <stdint.h>

struct config;
struct service;

/* Opens the data directory, recovers what a crash left half done, publishes the snapshots, starts
 * the writer and loop threads. Ready to serve on return, unless `stop_asked` said meanwhile that
 * the daemon is to end: then it must not be served. A store that fails asks for that too. */
int service_start(const struct config *c, bool (*stop_asked)(void), struct service **out,
                  struct errinfo *e);
/* After server_drain: ends jobs (they resume at the next start), commits what is queued. */
void service_stop(struct service **s);
/* The store failed in a way that only the next start can mend; the process was sent a SIGTERM. */
bool service_failed(const struct service *s);
/* Whether the loop and the writer both moved within the last `ms`: for the watchdog. */
bool service_alive(struct service *s, uint32_t ms);

#endif
