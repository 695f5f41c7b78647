/* SPDX-License-Identifier: Apache-2.0
 * server.h: the HTTP side, started and stopped by daemon/main.c. */
#ifndef UNLEARND_API_SERVER_H
#define UNLEARND_API_SERVER_H

#include "lib/util/err.h"
#include <stdbool.h>
#include <stdint.h>

struct service;
struct server;
struct server_options {
        const char *host;
        uint16_t port; /* 0: any free one */
        int listen_fd; /* -1, or a bound and listening socket (systemd activation), taken over */
        uint32_t threads, connections_max, idle_timeout_s;
        uint64_t upload_max_bytes, infer_max_bytes;
        const char *tokens_file; /* "": none */
        bool no_auth;
};
/* *port: the one that is listened on. */
int server_start(struct service *s, const struct server_options *o, struct server **out,
                 uint16_t *port, struct errinfo *e);
/* Re-reads the tokens file; the old tokens stay where it does not parse. */
int server_reload(struct server *srv, struct errinfo *e);
/* Stops accepting and answers what is in flight (uploads and waits get UL_CLOSED). After it no
 * handler runs; the service may then be stopped. */
void server_drain(struct server *srv);
void server_stop(struct server **srv);

#endif
