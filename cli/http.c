/* SPDX-License-Identifier: Apache-2.0
 * http.c: libcurl, wrapped: one handle, so that polls and pages share a connection. It knows HTTP
 * and nothing of what the daemon says in it (api.c). An error answer that comes while the body is
 * still being sent is an answer, not a transport error. */
#include "cli/http.h"

#include "lib/util/crypto.h"
#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ANSWER_MAX = 256 * 1024 * 1024, CONNECT_SECONDS = 10 };

struct http {
        CURL *curl;
        char error[CURL_ERROR_SIZE];
};

/* One request in flight. */
struct exchange {
        const struct http_request *request;
        struct http_answer *answer;
        CURL *curl;
        size_t sent; /* of request->body */
        bool told;   /* a callback has told why it broke off */
        bool too_large;
};

static int http_open(struct ctl *c)
{
        if (c->http != NULL)
                return 0;
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return complain("libcurl cannot be initialised");
        c->http = calloc(1, sizeof *c->http);
        if (c->http == NULL)
                return complain_memory();
        c->http->curl = curl_easy_init();
        return c->http->curl != NULL ? 0 : complain_memory();
}

void http_close(struct ctl *c)
{
        if (c->http == NULL)
                return;
        curl_easy_cleanup(c->http->curl);
        free(c->http);
        c->http = NULL;
        curl_global_cleanup();
}

static size_t give_body(char *out, size_t size, size_t count, void *arg)
{
        struct exchange *x = arg;
        const size_t cap = size * count;
        if (x->request->read != NULL) {
                long n = x->request->read(x->request->arg, out, cap);
                if (n < 0) {
                        x->told = true;
                        return CURL_READFUNC_ABORT;
                }
                return (size_t)n;
        }
        size_t n = x->request->body_len - x->sent;
        n = n < cap ? n : cap;
        if (n > 0)
                memcpy(out, (const char *)x->request->body + x->sent, n);
        x->sent += n;
        return n;
}

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
        struct exchange *x = arg;
        const size_t len = size * count;
        long status = 0;
        curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
        if (x->request->sink != NULL && status / 100 == 2) {
                x->told = !x->request->sink(x->request->arg, data, len);
                return x->told ? 0 : len;
        }
        buf_append(&x->answer->body, data, len);
        x->too_large = x->answer->body.failed;
        return x->too_large ? 0 : len;
}

static size_t take_header(char *data, size_t size, size_t count, void *arg)
{
        static const char name[] = "Retry-After:";
        struct exchange *x = arg;
        const size_t len = size * count;
        if (len > sizeof name - 1 && strncasecmp(data, name, sizeof name - 1) == 0) {
                uint32_t seconds = 0;
                for (size_t i = sizeof name - 1; i < len && seconds < 100000; i++)
                        if (data[i] >= '0' && data[i] <= '9')
                                seconds = seconds * 10 + (uint32_t)(data[i] - '0');
                x->answer->retry_after_s = seconds;
        }
        return len;
}

/* Appends "name: value"; with a NULL value nothing. */
static int add_header(struct curl_slist **headers, const char *name, const char *value)
{
        struct buf text = {0};
        if (value == NULL)
                return 0;
        buf_printf(&text, "%s: %s", name, value);
        buf_append(&text, "", 1);
        struct curl_slist *more =
                text.failed ? NULL : curl_slist_append(*headers, (char *)text.data);
        buf_free(&text, true);
        if (more == NULL)
                return complain_memory();
        *headers = more;
        return 0;
}

static int make_headers(const struct ctl *c, const struct http_request *r,
                        struct curl_slist **headers)
{
        struct buf bearer = {0};
        int err = add_header(headers, "Accept", r->accept != NULL ? r->accept : "*/*");
        if (err == 0)
                err = add_header(headers, "Content-Type", r->content_type);
        if (err == 0)
                err = add_header(headers, "Content-Encoding", r->content_encoding);
        if (err == 0)
                err = add_header(headers, "Idempotency-Key", r->idempotency_key);
        if (err == 0 && r->read != NULL)
                err = add_header(headers, "Transfer-Encoding", "chunked");
        if (err == 0 && c->token != NULL) {
                buf_printf(&bearer, "Bearer %s", c->token);
                buf_append(&bearer, "", 1);
                err = bearer.failed ? complain_memory()
                                    : add_header(headers, "Authorization", (char *)bearer.data);
                buf_free(&bearer, true);
        }
        if (err == 0) { /* do not wait for a 100 Continue */
                struct curl_slist *more = curl_slist_append(*headers, "Expect:");
                err = more == NULL ? complain_memory() : 0;
                *headers = more != NULL ? more : *headers;
        }
        return err;
}

static bool is_loopback(const char *url)
{
        return strstr(url, "//127.") != NULL || strstr(url, "//localhost") != NULL ||
               strstr(url, "//[::1]") != NULL;
}

static CURLcode set_body(CURL *curl, const struct http_request *r)
{
        CURLcode err = CURLE_OK;
        if (strcmp(r->method, "GET") == 0)
                return curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
        if (strcmp(r->method, "POST") == 0) {
                err = curl_easy_setopt(curl, CURLOPT_POST, 1L);
                if (err == CURLE_OK && r->read == NULL)
                        err = curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                                               (curl_off_t)r->body_len);
                return err;
        }
        return curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, r->method);
}

static CURLcode set_options(struct ctl *c, struct exchange *x, const char *url,
                            struct curl_slist *headers)
{
        CURL *curl = c->http->curl;
        curl_easy_reset(curl); /* keeps the connection */
        const struct {
                CURLoption option;
                const void *value;
        } pointers[] = {
                {CURLOPT_URL, url},
                {CURLOPT_HTTPHEADER, headers},
                {CURLOPT_ERRORBUFFER, c->http->error},
                {CURLOPT_PROTOCOLS_STR, "http,https"},
                {CURLOPT_USERAGENT, "unlearnctl/" UNLEARND_VERSION},
                {CURLOPT_PROXY, is_loopback(url) ? "" : NULL},
                {CURLOPT_READDATA, x},
                {CURLOPT_WRITEDATA, x},
                {CURLOPT_HEADERDATA, x},
        };
        CURLcode err = set_body(curl, x->request);
        for (size_t i = 0; err == CURLE_OK && i < sizeof pointers / sizeof *pointers; i++)
                if (pointers[i].value != NULL)
                        err = curl_easy_setopt(curl, pointers[i].option, pointers[i].value);
        if (err == CURLE_OK)
                err = curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        if (err == CURLE_OK)
                err = curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
        if (err == CURLE_OK)
                err = curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
        if (err == CURLE_OK)
                err = curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
        if (err == CURLE_OK)
                err = curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        return err;
}

static int explain(const struct ctl *c, CURLcode err, const struct exchange *x)
{
        if (x->told)
                return EXIT_FAILED;
        if (x->too_large)
                return complain("the answer does not fit into memory");
        if (err == CURLE_COULDNT_CONNECT) {
                int status = complain("nothing answers at %s", c->url);
                (void)fputs("  Start the daemon with: unlearnd --data-dir DIR (or systemctl start "
                            "unlearnd),\n  or say where it is: --url URL or UNLEARND_URL.\n",
                            stderr);
                return status;
        }
        if (err == CURLE_URL_MALFORMAT || err == CURLE_UNSUPPORTED_PROTOCOL)
                return complain("%s is no address: want http://HOST:PORT", c->url);
        return complain("%s: %s", c->url,
                        c->http->error[0] != '\0' ? c->http->error : curl_easy_strerror(err));
}

int http_call(struct ctl *c, const struct http_request *r, struct http_answer *a)
{
        struct buf url = {0};
        struct curl_slist *headers = NULL;
        assert(r->path[0] == '/');
        *a = (struct http_answer){0};
        buf_init(&a->body, ANSWER_MAX);
        int status = http_open(c);
        if (status == 0)
                status = make_headers(c, r, &headers);
        if (status != 0)
                goto out;
        buf_printf(&url, "%s%s", c->url, r->path);
        buf_append(&url, "", 1);
        if (url.failed) {
                status = complain_memory();
                goto out;
        }
        struct exchange x = {.request = r, .answer = a, .curl = c->http->curl};
        c->http->error[0] = '\0';
        CURLcode err = set_options(c, &x, (char *)url.data, headers);
        if (err == CURLE_OK)
                err = curl_easy_perform(c->http->curl);
        curl_easy_getinfo(c->http->curl, CURLINFO_RESPONSE_CODE, &a->status);
        const bool refused = !x.told && a->status >= 400 && a->body.len > 0 &&
                             (err == CURLE_SEND_ERROR || err == CURLE_RECV_ERROR);
        if (err != CURLE_OK && !refused)
                status = explain(c, err, &x);
out:
        for (struct curl_slist *h = headers; h != NULL; h = h->next)
                wipe(h->data, strlen(h->data)); /* the token */
        curl_slist_free_all(headers);
        buf_free(&url, true); /* ids */
        return status;
}

void http_answer_free(struct http_answer *a)
{
        buf_free(&a->body, true);
}
