/* SPDX-License-Identifier: Apache-2.0
 * http_client.c: see http_client.h. libcurl's multi interface driven by the loop: curl names the
 * sockets and the moment that it waits for, uv_poll and uv_timer tell it when. Where memory for a
 * watch runs out the transfer is not told of its socket, and ends by its timeout. */
#include "daemon/http_client.h"

#include "lib/util/limits.h"
#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum {
        CONNECTIONS_KEPT = 16, /* for the next request to the same server */
        RETRY_AFTER_MAX_S = 24 * 3600,
};

struct watch { /* of one socket */
        uv_poll_t poll;
        struct http_client *client;
        curl_socket_t fd;
        struct watch *next;
};

struct http_client {
        /* set once */
        CURLM *multi;
        struct network allowed[NETWORKS_MAX];
        uint32_t allowed_count;
        char *ca_file; /* NULL: the system's */
        uint32_t timeout_ms;
        /* loop thread */
        uv_timer_t timer;
        struct watch *watches;
        struct transfer *transfers;
        bool stopped;
};

struct transfer {
        struct http_client *client;
        struct http_call *call;
        CURL *easy;
        struct curl_slist *headers;
        bool https;
        bool opened, refused; /* a socket; an address */
        size_t head_bytes;
        struct transfer *next;
};

const char *http_outcome_name(enum http_outcome o)
{
        static const char *const names[HTTP_OUTCOMES] = {
                [HTTP_ANSWERED] = "answered",       [HTTP_REFUSED] = "refused",
                [HTTP_UNREACHABLE] = "unreachable", [HTTP_TLS] = "tls",
                [HTTP_TIMEOUT] = "timeout",         [HTTP_BROKEN] = "broken",
                [HTTP_ABORTED] = "aborted",
        };
        return o < HTTP_OUTCOMES ? names[o] : "unknown";
}

/* --- addresses of the form that is asked for --- */

static bool part_is(CURLU *u, CURLUPart part, const char *text)
{
        char *value = NULL;
        bool same = curl_url_get(u, part, &value, 0) == CURLUE_OK && strcasecmp(value, text) == 0;
        curl_free(value);
        return same;
}

static bool has_part(CURLU *u, CURLUPart part)
{
        char *value = NULL;
        bool there = curl_url_get(u, part, &value, 0) == CURLUE_OK && value[0] != '\0';
        curl_free(value);
        return there;
}

static int check_parts(CURLU *u, bool http_allowed, struct errinfo *e)
{
        bool http = part_is(u, CURLUPART_SCHEME, "http");
        if (!http && !part_is(u, CURLUPART_SCHEME, "https"))
                return ul_fail(e, UL_INVALID, "must begin with https://");
        if (http && !http_allowed)
                return ul_fail(e, UL_INVALID,
                               "must begin with https://: plain http is for the networks of "
                               "allow_networks in the configuration");
        if (!has_part(u, CURLUPART_HOST))
                return ul_fail(e, UL_INVALID, "names no host");
        if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD))
                return ul_fail(e, UL_INVALID, "must hold no user name and no password");
        if (has_part(u, CURLUPART_FRAGMENT))
                return ul_fail(e, UL_INVALID, "must have no fragment");
        return 0;
}

int http_url_check(const char *url, bool http_allowed, struct errinfo *e)
{
        size_t len = strlen(url);
        if (len == 0 || len > URL_MAX)
                return ul_fail(e, UL_INVALID, "must have 1 to %d bytes", URL_MAX);
        if (strstr(url, ":///") != NULL) /* libcurl takes the path for the host */
                return ul_fail(e, UL_INVALID, "names no host");
        const char *colon = strchr(url, ':'); /* and "https:/x" for "https://x" */
        if (colon == NULL || strncmp(colon, "://", 3) != 0)
                return ul_fail(e, UL_INVALID, "must be an address such as https://host/path");
        for (size_t i = 0; i < len; i++)
                if (url[i] <= ' ' || url[i] > '~')
                        return ul_fail(e, UL_INVALID,
                                       "must be printable ASCII without spaces: encode the rest");
        CURLU *u = curl_url();
        if (u == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for an address");
        int err = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK
                          ? ul_fail(e, UL_INVALID, "must be an address such as https://host/path")
                          : check_parts(u, http_allowed, e);
        curl_url_cleanup(u);
        return err;
}

/* --- the guard --- */

static bool is_allowed(const struct http_client *h, const uint8_t address[ADDRESS_BYTES])
{
        for (uint32_t i = 0; i < h->allowed_count; i++)
                if (network_contains(&h->allowed[i], address))
                        return true;
        return false;
}

/* curl asks for a socket to this very address: the only way to one. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
        struct transfer *x = arg;
        uint8_t address[ADDRESS_BYTES];
        if (purpose != CURLSOCKTYPE_IPCXN || !address_of(&a->addr, address) ||
            (!is_allowed(x->client, address) && (!x->https || !address_public(address)))) {
                x->refused = true;
                errno = EACCES;
                return CURL_SOCKET_BAD;
        }
        x->opened = true;
        return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* --- what comes back --- */

static size_t take_head(char *data, size_t size, size_t n, void *arg)
{
        struct transfer *x = arg;
        (void)data;
        x->head_bytes += size * n;
        return x->head_bytes <= HTTP_ANSWER_HEAD_MAX ? size * n : 0; /* 0 ends the transfer */
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
        struct transfer *x = arg;
        struct buf *b = &x->call->answer;
        buf_append(b, data, size * n);
        return b->failed ? 0 : size * n;
}

static enum http_outcome outcome_of(const struct transfer *x, CURLcode code)
{
        switch (code) {
        case CURLE_OK:
                return HTTP_ANSWERED;
        case CURLE_OPERATION_TIMEDOUT:
                return HTTP_TIMEOUT;
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
                return x->refused && !x->opened ? HTTP_REFUSED : HTTP_UNREACHABLE;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
                return HTTP_TLS;
        default:
                return x->refused && !x->opened ? HTTP_REFUSED : HTTP_BROKEN;
        }
}

static void unlink_transfer(struct transfer *x)
{
        struct transfer **at = &x->client->transfers;
        while (*at != x)
                at = &(*at)->next;
        *at = x->next;
}

static void free_transfer(struct transfer *x)
{
        curl_slist_free_all(x->headers);
        if (x->easy != NULL)
                curl_easy_cleanup(x->easy);
        free(x);
}

static void keep_content_type(struct transfer *x)
{
        struct http_call *c = x->call;
        char *type = NULL;
        c->content_type[0] = '\0';
        if (curl_easy_getinfo(x->easy, CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type != NULL &&
            strlen(type) < sizeof c->content_type)
                memcpy(c->content_type, type, strlen(type) + 1);
}

/* Ends the transfer, which is in no list any more, and the call. */
static void finish(struct transfer *x, enum http_outcome outcome)
{
        struct http_call *c = x->call;
        long status = 0;
        curl_off_t retry_after = 0;
        (void)curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
        (void)curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &retry_after);
        c->outcome = outcome;
        c->status = status > 0 && status < 1000 ? (uint32_t)status : 0;
        c->retry_after_s = retry_after <= 0                  ? 0
                           : retry_after > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S
                                                             : (uint32_t)retry_after;
        keep_content_type(x);
        (void)curl_multi_remove_handle(x->client->multi, x->easy);
        free_transfer(x);
        c->transfer = NULL;
        c->done(c);
}

static void finish_ended(struct http_client *h)
{
        CURLMsg *msg;
        int left;
        while ((msg = curl_multi_info_read(h->multi, &left)) != NULL) {
                struct transfer *x = NULL;
                if (msg->msg != CURLMSG_DONE)
                        continue;
                (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&x);
                assert(x != NULL && x->client == h);
                unlink_transfer(x);
                finish(x, outcome_of(x, msg->data.result));
        }
}

/* --- the loop --- */

static void act(struct http_client *h, curl_socket_t fd, int what)
{
        int running;
        (void)curl_multi_socket_action(h->multi, fd, what, &running);
        finish_ended(h);
}

static void on_timer(uv_timer_t *timer)
{
        act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
        const struct watch *w = poll->data;
        int what = status < 0 ? CURL_CSELECT_ERR : 0;
        if ((events & UV_READABLE) != 0)
                what |= CURL_CSELECT_IN;
        if ((events & UV_WRITABLE) != 0)
                what |= CURL_CSELECT_OUT;
        act(w->client, w->fd, what); /* w may be gone after it */
}

static void free_watch(uv_handle_t *handle)
{
        free(handle->data);
}

static void end_watch(struct watch *w)
{
        struct watch **at = &w->client->watches;
        while (*at != w)
                at = &(*at)->next;
        *at = w->next;
        (void)uv_poll_stop(&w->poll);
        uv_close((uv_handle_t *)&w->poll, free_watch);
}

static struct watch *make_watch(struct http_client *h, curl_socket_t fd)
{
        struct watch *w = calloc(1, sizeof *w);
        if (w == NULL || uv_poll_init(h->timer.loop, &w->poll, fd) != 0) {
                free(w);
                return NULL;
        }
        w->poll.data = w;
        w->client = h;
        w->fd = fd;
        w->next = h->watches;
        h->watches = w;
        (void)curl_multi_assign(h->multi, fd, w);
        return w;
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
        struct http_client *h = arg;
        struct watch *w = assigned;
        int events = 0;
        (void)easy;
        if (what == CURL_POLL_REMOVE) {
                if (w != NULL)
                        end_watch(w);
                (void)curl_multi_assign(h->multi, fd, NULL);
                return 0;
        }
        if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
                events |= UV_READABLE;
        if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
                events |= UV_WRITABLE;
        if (w == NULL)
                w = make_watch(h, fd);
        if (w != NULL)
                (void)uv_poll_start(&w->poll, events, on_socket);
        return 0;
}

static int watch_time(CURLM *multi, long timeout_ms, void *arg)
{
        struct http_client *h = arg;
        (void)multi;
        if (timeout_ms < 0)
                (void)uv_timer_stop(&h->timer);
        else if (!h->stopped)
                (void)uv_timer_start(&h->timer, on_timer, (uint64_t)timeout_ms, 0);
        return 0;
}

/* --- calls --- */

/* Each line "Name: value\n" of the call, and what curl would add of its own accord taken away. */
static bool add_headers(struct transfer *x, const char *lines)
{
        static const char agent[] = "User-Agent: unlearnd/" UNLEARND_VERSION;
        static const char *const ours[] = {agent, "Accept:", "Expect:"};
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
                struct curl_slist *more = curl_slist_append(x->headers, ours[i]);
                if (more == NULL)
                        return false;
                x->headers = more;
        }
        while (lines != NULL && *lines != '\0') {
                size_t len = strcspn(lines, "\n");
                char *line = strndup(lines, len);
                struct curl_slist *more = line != NULL ? curl_slist_append(x->headers, line) : NULL;
                free(line);
                if (more == NULL)
                        return false;
                x->headers = more;
                lines += len + (lines[len] == '\n');
        }
        return true;
}

#define SET(option, value) (good = good && curl_easy_setopt(x->easy, option, value) == CURLE_OK)

/* What keeps the request within bounds; each must be understood by this libcurl. */
static bool set_limits(struct transfer *x)
{
        bool good = true;
        SET(CURLOPT_PROTOCOLS_STR, "http,https");
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_PROXY, "");
        SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
        SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
        SET(CURLOPT_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_SSL_VERIFYHOST, 2L);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_QUICK_EXIT, 1L); /* a name server that hangs must not hold up the loop */
        SET(CURLOPT_TIMEOUT_MS, (long)x->client->timeout_ms);
        SET(CURLOPT_CONNECTTIMEOUT_MS, (long)x->client->timeout_ms);
        SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
        SET(CURLOPT_OPENSOCKETDATA, x);
        if (x->client->ca_file != NULL) {
                SET(CURLOPT_CAINFO, x->client->ca_file);
                SET(CURLOPT_CAPATH, NULL);
        }
        return good;
}

static bool set_request(struct transfer *x, const struct http_call *c)
{
        bool good = add_headers(x, c->headers);
        SET(CURLOPT_URL, c->url);
        SET(CURLOPT_PRIVATE, x);
        SET(CURLOPT_HTTPHEADER, x->headers);
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body_len);
        SET(CURLOPT_POSTFIELDS, c->body_len > 0 ? c->body : "");
        SET(CURLOPT_HEADERFUNCTION, take_head);
        SET(CURLOPT_HEADERDATA, x);
        SET(CURLOPT_WRITEFUNCTION, take_body);
        SET(CURLOPT_WRITEDATA, x);
        return good;
}

int http_call_start(struct http_client *h, struct http_call *c, struct errinfo *e)
{
        struct transfer *x = calloc(1, sizeof *x);
        if (x == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a request");
        assert(!h->stopped && c->done != NULL);
        x->client = h;
        x->call = c;
        x->https = strncasecmp(c->url, "https:", 6) == 0;
        x->easy = curl_easy_init();
        buf_init(&c->answer, HTTP_ANSWER_MAX);
        if (x->easy == NULL || !set_limits(x) || !set_request(x, c) ||
            curl_multi_add_handle(h->multi, x->easy) != CURLM_OK) {
                free_transfer(x);
                return ul_fail(e, UL_NOMEM, "a request cannot be begun");
        }
        c->transfer = x;
        x->next = h->transfers;
        h->transfers = x;
        return 0;
}

/* --- its life --- */

static bool set_multi(struct http_client *h)
{
        return curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, watch_socket) == CURLM_OK &&
               curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) == CURLM_OK &&
               curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, watch_time) == CURLM_OK &&
               curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) == CURLM_OK &&
               curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT) ==
                       CURLM_OK;
}

int http_client_create(uv_loop_t *loop, const struct http_client_options *o,
                       struct http_client **out, struct errinfo *e)
{
        struct http_client *h = calloc(1, sizeof *h);
        assert(o->allowed_count <= NETWORKS_MAX);
        if (h == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the HTTP client");
        if (o->allowed_count > 0)
                memcpy(h->allowed, o->allowed, o->allowed_count * sizeof *o->allowed);
        h->allowed_count = o->allowed_count;
        h->timeout_ms = o->timeout_ms;
        h->ca_file = o->ca_file[0] != '\0' ? strdup(o->ca_file) : NULL;
        bool no_memory = o->ca_file[0] != '\0' && h->ca_file == NULL;
        if (!no_memory && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
                h->multi = curl_multi_init();
        if (h->multi == NULL || !set_multi(h)) {
                if (h->multi != NULL)
                        (void)curl_multi_cleanup(h->multi);
                free(h->ca_file);
                free(h);
                return ul_fail(e, UL_INTERNAL, "libcurl does not start");
        }
        (void)uv_timer_init(loop, &h->timer); /* cannot fail */
        h->timer.data = h;
        *out = h;
        return 0;
}

static void timer_closed(uv_handle_t *handle)
{
        (void)handle;
}

void http_client_stop(struct http_client *h)
{
        if (h == NULL || h->stopped)
                return;
        h->stopped = true;
        while (h->transfers != NULL) {
                struct transfer *x = h->transfers;
                h->transfers = x->next;
                finish(x, HTTP_ABORTED);
        }
        (void)curl_multi_cleanup(h->multi); /* its connections too */
        h->multi = NULL;
        while (h->watches != NULL)
                end_watch(h->watches);
        uv_close((uv_handle_t *)&h->timer, timer_closed);
}

void http_client_destroy(struct http_client **ph)
{
        struct http_client *h = *ph;
        if (h == NULL)
                return;
        assert(h->stopped);
        free(h->ca_file);
        free(h);
        *ph = NULL;
}
