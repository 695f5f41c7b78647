/* SPDX-License-Identifier: Apache-2.0
 * http_client.h: requests of ours to other people's servers, on a libuv loop, without a thread of
 * its own (libcurl's resolver has one). It trusts nobody at the other end:
 *
 *   - the address that is connected to is checked, at the moment of connecting, so that a name
 *     whose address changes in between gains nothing: address_public(), or one of `allowed`;
 *   - plain http goes to `allowed` addresses alone; certificates and names are verified;
 *   - no redirect is followed, no proxy and no .netrc is used, no cookie is kept;
 *   - a request has `timeout_ms` for all of it, and its answer a limit.
 *
 * It knows nothing of what is sent. All of it belongs to the loop's thread. */
#ifndef UNLEARND_DAEMON_HTTP_CLIENT_H
#define UNLEARND_DAEMON_HTTP_CLIENT_H

#include "lib/util/bytes.h"
#include "lib/util/err.h"
#include "lib/util/network.h"
#include <uv.h>

struct http_client;
struct transfer;

struct http_client_options {
        const struct network *allowed; /* [allowed_count], copied */
        uint32_t allowed_count;        /* at most NETWORKS_MAX */
        const char *ca_file;           /* "": the system's */
        uint32_t timeout_ms;
};

enum {
        HTTP_ANSWER_MAX = 64 * 1024,
        HTTP_ANSWER_HEAD_MAX = 64 * 1024,
        HTTP_CONTENT_TYPE_SIZE = 64,
};

/* How a request ended; stored, so the numbers stay. */
enum http_outcome {
        HTTP_ANSWERED = 0,    /* with `status` */
        HTTP_REFUSED = 1,     /* by us: an address that is not allowed, or http to it */
        HTTP_UNREACHABLE = 2, /* no address, no connection */
        HTTP_TLS = 3,         /* no trust */
        HTTP_TIMEOUT = 4,
        HTTP_BROKEN = 5,  /* not HTTP, cut off, or longer than an answer may be */
        HTTP_ABORTED = 6, /* http_client_stop */
        HTTP_OUTCOMES
};
const char *http_outcome_name(enum http_outcome o); /* "answered", "refused", ... */

struct http_call {
        /* the caller's, borrowed until done */
        const char *url;
        const char *headers; /* lines "Name: value\n" */
        const void *body;    /* POSTed */
        size_t body_len;
        /* On the loop, exactly once, never from within http_call_start. Ends the call's life. */
        void (*done)(struct http_call *c);
        /* the result */
        enum http_outcome outcome;
        uint32_t status;        /* HTTP_ANSWERED; also HTTP_BROKEN where the head had come */
        uint32_t retry_after_s; /* Retry-After; 0: none */
        struct buf answer;      /* its body; freed with the call by its owner */
        char content_type[HTTP_CONTENT_TYPE_SIZE]; /* "": none, or a longer one */
        /* the client's */
        struct transfer *transfer;
};

/* Checks what can be checked without a name server: http or https, a host, no user name in it, no
 * fragment, printable ASCII, at most URL_MAX bytes. UL_INVALID says what is wrong. http: only where
 * some network is allowed. */
int http_url_check(const char *url, bool http_allowed, struct errinfo *e);

int http_client_create(uv_loop_t *loop, const struct http_client_options *o,
                       struct http_client **out, struct errinfo *e);
int http_call_start(struct http_client *h, struct http_call *c, struct errinfo *e);
/* Ends every call (HTTP_ABORTED) and closes the handles; the loop must run on until they are. */
void http_client_stop(struct http_client *h);
void http_client_destroy(struct http_client **h); /* after the loop has ended */

#endif
