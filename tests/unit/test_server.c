/* SPDX-License-Identifier: Apache-2.0
 * test_server.c: the HTTP server under real connections, with routes and a service of the test's
 * own: parameters, limits, completions from other threads, streamed bodies and answers, clients
 * that go away, and draining. */
#include "api/router.h"
#include "api/server.h"
#include "lib/util/crypto.h"
#include "tests/unit/http_client.h"
#include <pthread.h>
#include <stdatomic.h>

/* --- the service: only what the core of the API calls --- */

static _Atomic int counted; /* answered requests */
static char counted_route[64];

void service_count_request(struct service *s, const char *method, const char *route, int status,
                           double seconds)
{
        (void)s;
        (void)method;
        (void)status;
        (void)seconds;
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        pthread_mutex_lock(&lock);
        snprintf(counted_route, sizeof counted_route, "%s", route);
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&counted, 1);
}

void service_keyed_hash(struct service *s, const void *data, size_t len, uint8_t out[32])
{
        (void)s;
        sha256(data, len, out);
}

/* --- the routes --- */

static _Atomic int alive;    /* contexts that were not cleaned up */
static _Atomic int cleanups; /* all of them */

struct context {
        struct request *req;
        pthread_t thread;
        bool has_thread;
        uint64_t bytes, sum;
        int again;
        uint32_t pieces, next;
        unsigned sleep_us;
};

static void context_free(void *arg)
{
        struct context *c = arg;
        if (c->has_thread)
                pthread_join(c->thread, NULL);
        free(c);
        atomic_fetch_sub(&alive, 1);
        atomic_fetch_add(&cleanups, 1);
}

static struct context *context_new(struct request *req)
{
        struct context *c = calloc(1, sizeof *c);
        assert_non_null(c);
        c->req = req;
        atomic_fetch_add(&alive, 1);
        request_set_context(req, c, context_free);
        return c;
}

static enum handler_result get_echo(struct request *req)
{
        struct buf out = {0};
        buf_printf(&out, "{\"id\":\"%s\",\"x\":\"%s\",\"actor\":\"%s\"}", request_param(req, "id"),
                   request_query(req, "x") != NULL ? request_query(req, "x") : "-",
                   request_actor(req));
        return reply_json(req, 200, &out);
}

static enum handler_result post_length(struct request *req)
{
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        struct buf out = {0};
        assert_int_equal(body[len], 0);
        buf_printf(&out, "%zu", len);
        return reply_body(req, 200, "text/plain", &out);
}

static enum handler_result post_key(struct request *req)
{
        struct errinfo e = {0};
        struct idempotency idem;
        char key[65], body_hash[65];
        size_t len = 0;
        const uint8_t *body = request_body(req, &len);
        int err = request_idempotency(req, body, len, &idem, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        struct buf out = {0};
        buf_printf(&out, "%d %s %s", idem.present, hex_encode(idem.key, 32, key),
                   hex_encode(idem.body, 32, body_hash));
        reply_replayed(req, idem.present);
        return reply_body(req, 200, "text/plain", &out);
}

static enum handler_result get_list(struct request *req)
{
        struct errinfo e = {0};
        struct page page;
        struct buf out = {0};
        struct json_writer w;
        int err = request_page(req, &page, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        jw_init(&w, &out);
        jw_object(&w);
        jw_key(&w, "limit");
        jw_u64(&w, page.limit);
        reply_next_cursor(req, &w, page.cursor == NULL ? "a/b=" : NULL);
        jw_end_object(&w);
        return reply_json(req, 200, &out);
}

static enum handler_result finish_later(struct request *req)
{
        struct buf out = {0};
        buf_append_str(&out, "{\"finished\":true}");
        return reply_json(req, 202, &out);
}

static void *complete_later(void *arg)
{
        struct request *req = arg;
        usleep(20000);
        request_complete_with(req, finish_later);
        return NULL;
}

static void start_detached(void *(*fn)(void *), void *arg)
{
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, fn, arg), 0);
        assert_int_equal(pthread_detach(t), 0);
}

static enum handler_result post_later(struct request *req)
{
        context_new(req);
        start_detached(complete_later, req);
        return HANDLER_PENDING;
}

static void *complete_at_once(void *arg)
{
        struct request *req = arg;
        struct buf out = {0};
        buf_append_str(&out, "{}");
        reply_json(req, 200, &out);
        request_complete(req);
        return NULL;
}

/* The completion races with the handler's return. */
static enum handler_result post_race(struct request *req)
{
        context_new(req);
        start_detached(complete_at_once, req);
        return HANDLER_PENDING;
}

/* The completion has come before the handler returns. */
static enum handler_result post_early(struct request *req)
{
        context_new(req);
        complete_at_once(req);
        return HANDLER_PENDING;
}

static int upload_begin(struct request *req, struct errinfo *e)
{
        if (request_query(req, "refuse") != NULL)
                return ul_fail(e, UL_NOT_FOUND, "refused at once");
        context_new(req);
        return 0;
}

static void *wake_later(void *arg)
{
        struct context *c = arg;
        usleep(c->sleep_us);
        request_wake(c->req);
        return NULL;
}

static int wait_for_wake(struct context *c, unsigned sleep_us)
{
        if (c->has_thread)
                pthread_join(c->thread, NULL);
        c->sleep_us = sleep_us;
        c->has_thread = pthread_create(&c->thread, NULL, wake_later, c) == 0;
        return UL_AGAIN;
}

/* Takes at most 5,000 bytes a call, every third one only after a wake. */
static int upload_data(struct request *req, const void *data, size_t len, size_t *consumed,
                       struct errinfo *e)
{
        struct context *c = request_context(req);
        const uint8_t *bytes = data;
        size_t take = len < 5000 ? len : 5000;
        for (size_t i = 0; i < take; i++)
                c->sum += bytes[i];
        c->bytes += take;
        *consumed = take;
        if (c->bytes > 3000000)
                return ul_fail(e, UL_INVALID, "enough of it");
        if (request_query(req, "stuck") != NULL)
                return UL_AGAIN; /* only the drain ends this one */
        if (take == len)
                return 0;
        if (++c->again % 3 == 0)
                return wait_for_wake(c, 500);
        request_wake(req); /* a wake that comes before the wait */
        return UL_AGAIN;
}

static int upload_end(struct request *req, struct errinfo *e)
{
        struct context *c = request_context(req);
        struct buf out = {0};
        (void)e;
        if (c->pieces++ < 2)
                return wait_for_wake(c, 1000);
        buf_printf(&out, "%llu %llu", (unsigned long long)c->bytes, (unsigned long long)c->sum);
        reply_body(req, 200, "text/plain", &out);
        return 0;
}

static int stream_piece(struct request *req, void *arg, struct buf *out)
{
        struct context *c = arg;
        (void)req;
        if (c->next == c->pieces)
                return 0;
        c->next++;
        if (c->next % 3 == 0)
                return 1; /* nothing to say this time */
        for (int i = 0; i < 1000; i++)
                buf_printf(out, "%u,%d\n", c->next, i);
        return 1;
}

static int stream_cut(struct request *req, void *arg, struct buf *out)
{
        struct context *c = arg;
        (void)req;
        buf_append_str(out, "piece\n");
        return c->next++ == 3 ? UL_IO : 1;
}

static int stream_wait(struct request *req, void *arg, struct buf *out)
{
        struct context *c = arg;
        if (request_stopping(req))
                return 0;
        if (c->next++ == 0) {
                buf_append_str(out, "first\n");
                return 1;
        }
        return UL_AGAIN;
}

static enum handler_result get_stream(struct request *req)
{
        struct context *c = context_new(req);
        const char *pieces = request_query(req, "pieces");
        c->pieces = pieces != NULL ? (uint32_t)strtoul(pieces, NULL, 10) : 0;
        const char *kind = request_query(req, "kind");
        stream_fn fn = kind == NULL ? stream_piece : *kind == 'c' ? stream_cut : stream_wait;
        return reply_stream(req, 200, "text/csv", fn, c);
}

static enum handler_result get_fail(struct request *req)
{
        struct errinfo e = {0};
        int err = ul_fail(&e, UL_UNAVAILABLE, "nothing is clean");
        e.retry_after_s = 7;
        return reply_problem(req, err, &e);
}

static const char *const query_x[] = {"x", NULL};
static const char *const query_list[] = {"limit", "cursor", "type", NULL};
static const char *const query_upload[] = {"refuse", "stuck", NULL};
static const char *const query_stream[] = {"pieces", "kind", NULL};
static const struct upload_ops upload = {upload_begin, upload_data, upload_end};
static const struct route routes[] = {
        {.method = "GET",
         .pattern = "/echo/{id}",
         .scopes = SCOPE_AUDIT,
         .query = query_x,
         .handle = get_echo},
        {.method = "GET", .pattern = "/open/{id}", .handle = get_echo},
        {.method = "GET",
         .pattern = "/local/{id}",
         .scopes = SCOPE_AUDIT,
         .flags = ROUTE_LOOPBACK_OPEN,
         .handle = get_echo},
        {.method = "POST",
         .pattern = "/length",
         .body = BODY_BUFFERED,
         .body_max = 1000000,
         .handle = post_length},
        {.method = "POST", .pattern = "/key/{id}", .body = BODY_BUFFERED, .handle = post_key},
        {.method = "GET", .pattern = "/list", .query = query_list, .handle = get_list},
        {.method = "POST", .pattern = "/later", .body = BODY_BUFFERED, .handle = post_later},
        {.method = "POST", .pattern = "/race", .body = BODY_BUFFERED, .handle = post_race},
        {.method = "POST", .pattern = "/early", .body = BODY_BUFFERED, .handle = post_early},
        {.method = "POST",
         .pattern = "/upload",
         .body = BODY_STREAMED,
         .body_max = BODY_MAX_UPLOAD,
         .flags = ROUTE_ENCODED_BODY,
         .query = query_upload,
         .upload = &upload},
        {.method = "GET", .pattern = "/stream", .query = query_stream, .handle = get_stream},
        {.method = "GET", .pattern = "/fail", .handle = get_fail},
        {.method = "GET", .pattern = "/v2/fail", .handle = get_fail},
        {.method = NULL},
};

static struct route_table table;
const struct route_table *route_table_default(void)
{
        return &table;
}

/* --- the server --- */

static struct server *server;
static uint16_t port;
static struct answer got;
static char tokens[] = "/tmp/server-tokens-XXXXXX";
#define ADMIN "Authorization: Bearer admin-token\r\n"
#define AUDIT "Authorization: Bearer audit-token\r\n"
#define ERASE "Authorization: Bearer erase-token\r\n"
#define SLOW "Authorization: Bearer slow-token\r\n"
enum { UPLOAD_MAX = 4000000 };

static void start(const char *host, const char *tokens_file, uint32_t threads)
{
        struct errinfo e = {0};
        const struct server_options o = {.host = host,
                                         .listen_fd = -1,
                                         .threads = threads,
                                         .connections_max = 200,
                                         .idle_timeout_s = 2,
                                         .upload_max_bytes = UPLOAD_MAX,
                                         .infer_max_bytes = 100000,
                                         .tokens_file = tokens_file};
        int err = server_start(NULL, &o, &server, &port, &e);
        if (err != 0)
                fail_msg("server_start: %s", e.detail);
        assert_true(port != 0);
}

static void write_line(FILE *f, const char *name, const char *scopes, const char *rest)
{
        char token[64], hex[65];
        uint8_t hash[32];
        snprintf(token, sizeof token, "%s-token", name);
        sha256(token, strlen(token), hash);
        fprintf(f, "%s %s %s %s\n", name, scopes, hex_encode(hash, 32, hex), rest);
}

static int set_up(void **state)
{
        (void)state;
        const struct route *const arrays[] = {routes};
        if (crypto_init() != 0)
                return -1;
        route_table_build(&table, arrays, 1);
        int fd = mkstemp(tokens);
        FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (f == NULL)
                return -1;
        write_line(f, "admin", "admin", "");
        write_line(f, "audit", "audit", "");
        write_line(f, "erase", "erase", "");
        write_line(f, "slow", "audit", "rate=2/60");
        return fclose(f);
}

static int tear_down(void **state)
{
        (void)state;
        return unlink(tokens);
}

static int open_server(void **state)
{
        (void)state;
        start("127.0.0.1", "", 2);
        return 0;
}

static int token_server(void **state)
{
        (void)state;
        start("127.0.0.1", tokens, 1);
        return 0;
}

/* Whatever a test did: every context has been cleaned up once the server has stopped. */
static int stop_server(void **state)
{
        (void)state;
        drop(&got);
        server_stop(&server);
        return atomic_load(&alive) == 0 ? 0 : -1;
}

static int ask(const char *method, const char *target, const char *headers, const char *body)
{
        return exchange(port, &got, method, target, headers, body, body != NULL ? strlen(body) : 0);
}

static void await_alive(int want)
{
        for (int i = 0; i < 500 && atomic_load(&alive) != want; i++)
                usleep(10000);
        assert_int_equal(atomic_load(&alive), want);
}

/* --- routes and parameters --- */

static void parameters_are_decoded_after_the_path_was_split(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/echo/a%2Fb?x=1+2%2B3%26", NULL, NULL), 200);
        assert_string_equal(body_text(&got), "{\"id\":\"a/b\",\"x\":\"1 2+3&\","
                                             "\"actor\":\"anonymous\"}");
        assert_string_equal(header_of(&got, "Content-Type"), "application/json");
        assert_int_equal(ask("GET", "http://elsewhere/echo/%c3%A9", NULL, NULL), 200);
        assert_contains(&got, "\"id\":\"\xc3\xa9\"");
        assert_int_equal(ask("GET", "/echo/a/b", NULL, NULL), 404);
        assert_int_equal(ask("GET", "/echo/%00", NULL, NULL), 400);
        assert_int_equal(ask("GET", "/echo/%zz", NULL, NULL), 400);
        assert_int_equal(ask("GET", "/echo/a%2", NULL, NULL), 400);
}

static void unknown_and_repeated_query_parameters_are_refused_by_name(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/echo/a?y=1", NULL, NULL), 400);
        assert_contains(&got, "\\\"y\\\"");
        assert_string_equal(header_of(&got, "Content-Type"), "application/problem+json");
        assert_int_equal(ask("GET", "/echo/a?x=1&x=2", NULL, NULL), 400);
        assert_int_equal(ask("GET", "/echo/a?%78=5", NULL, NULL), 200);
        assert_contains(&got, "\"x\":\"5\"");
        assert_int_equal(ask("GET", "/echo/a?x", NULL, NULL), 200);
        assert_contains(&got, "\"x\":\"\"");
        assert_int_equal(ask("GET", "/echo/a?x=%0", NULL, NULL), 400);
        assert_int_equal(ask("GET", "/open/a?x=1", NULL, NULL), 400);
}

static void problems_have_the_shape_of_their_path(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/fail", NULL, NULL), 503);
        assert_string_equal(header_of(&got, "Retry-After"), "7");
        assert_contains(&got, "\"status\":503");
        assert_contains(&got, "\"instance\":\"/fail\"");
        assert_int_equal(ask("GET", "/v2/fail", NULL, NULL), 503);
        assert_string_equal(body_text(&got), "{\"error\":\"nothing is clean\"}");
        assert_int_equal(ask("GET", "/nowhere", NULL, NULL), 404);
        assert_int_equal(ask("GET", "/v2/nowhere", NULL, NULL), 404);
        assert_contains(&got, "\"error\":");
        assert_int_equal(ask("DELETE", "/echo/a", NULL, NULL), 405);
        assert_string_equal(header_of(&got, "Allow"), "GET, HEAD");
        assert_int_equal(ask("BREW", "/echo/a", NULL, NULL), 405);
}

static void head_answers_like_get_without_a_body(void **state)
{
        (void)state;
        int fd = dial(port);
        assert_int_equal(exchange_on(fd, &got, "HEAD", "/echo/abc", NULL, NULL, 0), 200);
        assert_string_equal(header_of(&got, "Content-Length"), "40");
        /* the connection is still in step */
        assert_int_equal(exchange_on(fd, &got, "GET", "/echo/abc", NULL, NULL, 0), 200);
        assert_int_equal(exchange_on(fd, &got, "HEAD", "/stream?pieces=9", NULL, NULL, 0), 200);
        close(fd);
        await_alive(0);
}

static void a_request_id_is_echoed_or_made(void **state)
{
        (void)state;
        ask("GET", "/open/a", "X-Request-Id: build-17.a\r\n", NULL);
        assert_string_equal(header_of(&got, "X-Request-Id"), "build-17.a");
        ask("GET", "/open/a", "X-Request-Id: a b\r\n", NULL);
        assert_int_equal(strlen(header_of(&got, "X-Request-Id")), ULID_TEXT);
        ask("GET", "/nowhere", NULL, NULL);
        assert_int_equal(strlen(header_of(&got, "X-Request-Id")), ULID_TEXT);
}

static void every_answer_is_counted_under_its_pattern(void **state)
{
        (void)state;
        int before = atomic_load(&counted);
        ask("GET", "/open/somebody@example.org", NULL, NULL);
        for (int i = 0; i < 200 && atomic_load(&counted) == before; i++)
                usleep(1000);
        assert_int_equal(atomic_load(&counted), before + 1);
        assert_string_equal(counted_route, "/open/{id}");
}

static void a_list_links_to_its_next_page(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/list?type=a%20b&limit=7", NULL, NULL), 200);
        assert_contains(&got, "\"limit\":7");
        assert_contains(&got, "\"next_cursor\":\"a/b=\"");
        const char *link = header_of(&got, "Link");
        assert_non_null(link);
        assert_non_null(strstr(link, "type=a%20b"));
        assert_non_null(strstr(link, "cursor=a%2Fb%3D>; rel=\"next\""));
        assert_int_equal(ask("GET", "/list?cursor=a%2Fb%3D", NULL, NULL), 200);
        assert_contains(&got, "\"limit\":100");
        assert_contains(&got, "\"next_cursor\":null");
        assert_null(header_of(&got, "Link"));
        static const char *const bad[] = {"0", "1001", "", "1e3", "-1", "99999999999999999999"};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                char target[64];
                snprintf(target, sizeof target, "/list?limit=%s", bad[i]);
                assert_int_equal(ask("GET", target, NULL, NULL), 400);
                assert_contains(&got, "\"pointer\":\"limit\"");
        }
}

static void an_idempotency_key_is_bound_to_route_and_body(void **state)
{
        (void)state;
        char first[200], other[200];
        assert_int_equal(ask("POST", "/key/a", NULL, "{}"), 200);
        assert_int_equal(body_text(&got)[0], '0');
        assert_null(header_of(&got, "Idempotency-Replayed"));
        assert_int_equal(ask("POST", "/key/a", "Idempotency-Key: \"k-1\"\r\n", "{}"), 200);
        assert_string_equal(header_of(&got, "Idempotency-Replayed"), "true");
        snprintf(first, sizeof first, "%s", body_text(&got));
        /* the quotes are optional, and do not matter */
        assert_int_equal(ask("POST", "/key/a", "Idempotency-Key: k-1\r\n", "{}"), 200);
        assert_string_equal(body_text(&got), first);
        /* the same key with another body or another path: same key hash, another body hash */
        assert_int_equal(ask("POST", "/key/a", "Idempotency-Key: k-1\r\n", "{ }"), 200);
        assert_int_equal(strncmp(body_text(&got), first, 66), 0);
        assert_string_not_equal(body_text(&got), first);
        assert_int_equal(ask("POST", "/key/b", "Idempotency-Key: k-1\r\n", "{}"), 200);
        snprintf(other, sizeof other, "%s", body_text(&got));
        assert_int_equal(strncmp(other, first, 66), 0);
        assert_string_not_equal(other, first);
        static const char *const bad[] = {"",       "\"",       "\"\"", "\"a",     "a\"b",
                                          "\"a\"b", "\"a\\b\"", "a b",  "\xc3\xa9"};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                char header[64];
                snprintf(header, sizeof header, "Idempotency-Key: %s\r\n", bad[i]);
                assert_int_equal(ask("POST", "/key/a", header, "{}"), 400);
        }
        char longest[400] = "Idempotency-Key: ";
        memset(longest + 17, 'k', 256);
        snprintf(longest + 17 + 256, 8, "\r\n");
        assert_int_equal(ask("POST", "/key/a", longest, "{}"), 400);
        snprintf(longest + 17 + 255, 8, "\r\n");
        assert_int_equal(ask("POST", "/key/a", longest, "{}"), 200);
}

/* --- tokens --- */

static void tokens_open_only_their_scopes(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/echo/a", NULL, NULL), 401);
        assert_int_equal(strncmp(header_of(&got, "WWW-Authenticate"), "Bearer", 6), 0);
        assert_int_equal(ask("GET", "/echo/a", "Authorization: Bearer x\r\n", NULL), 401);
        assert_int_equal(ask("GET", "/echo/a", ERASE, NULL), 403);
        assert_contains(&got, "audit or admin");
        assert_int_equal(ask("GET", "/echo/a", AUDIT, NULL), 200);
        assert_contains(&got, "\"actor\":\"audit\"");
        assert_int_equal(ask("GET", "/echo/a", ADMIN, NULL), 200);
        assert_int_equal(ask("GET", "/open/a", NULL, NULL), 200);
        assert_int_equal(ask("GET", "/local/a", NULL, NULL), 200);
        assert_int_equal(ask("GET", "/nowhere", NULL, NULL), 404);
        /* a refused request says nothing about its parameters */
        assert_int_equal(ask("GET", "/echo/a?unknown=1", NULL, NULL), 401);
}

static void a_quota_is_announced_and_kept(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/echo/a", SLOW, NULL), 200);
        assert_string_equal(header_of(&got, "RateLimit-Policy"), "\"default\";q=2;w=60");
        assert_string_equal(header_of(&got, "RateLimit"), "\"default\";r=1;t=60");
        assert_int_equal(ask("GET", "/echo/a", SLOW, NULL), 200);
        assert_int_equal(ask("GET", "/echo/a", SLOW, NULL), 429);
        long seconds = strtol(header_of(&got, "Retry-After"), NULL, 10);
        assert_true(seconds > 50 && seconds <= 60);
        assert_int_equal(ask("GET", "/echo/a", AUDIT, NULL), 200);
        assert_null(header_of(&got, "RateLimit"));
}

static void a_foreign_web_page_cannot_call_where_there_are_no_tokens(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/echo/a", "Origin: http://evil.example\r\n", NULL), 403);
        assert_int_equal(ask("GET", "/echo/a", "Origin: null\r\n", NULL), 403);
        assert_int_equal(ask("GET", "/echo/a", "Origin: http://test\r\n", NULL), 200);
}

/* --- bodies --- */

static void a_body_at_its_limit_is_taken_and_one_byte_more_is_not(void **state)
{
        (void)state;
        char *body = calloc(1, 1000001);
        assert_non_null(body);
        assert_int_equal(exchange(port, &got, "POST", "/length", NULL, body, 1000000), 200);
        assert_string_equal(body_text(&got), "1000000");
        assert_int_equal(exchange(port, &got, "POST", "/length", NULL, body, 1000001), 413);
        assert_int_equal(exchange(port, &got, "POST", "/length", NULL, "", 0), 200);
        assert_string_equal(body_text(&got), "0");
        free(body);
}

static void a_chunked_body_is_stopped_at_its_limit(void **state)
{
        (void)state;
        static const char head[] = "POST /length HTTP/1.1\r\nHost: t\r\n"
                                   "Transfer-Encoding: chunked\r\n\r\n";
        char *chunk = calloc(1, 65536);
        size_t sent = 0;
        assert_non_null(chunk);
        int fd = dial(port);
        assert_true(send_text(fd, head));
        /* it never ends: the server must */
        while (sent < 64 * 1024 * 1024 && send_text(fd, "10000\r\n") &&
               send_bytes(fd, chunk, 65536) && send_text(fd, "\r\n"))
                sent += 65536;
        assert_true(sent < 32 * 1024 * 1024);
        read_answer(fd, &got, false);
        close(fd);
        /* the reset may have overtaken the answer; what comes must be a 413 */
        assert_true(got.status == 413 || got.status == 0);

        fd = dial(port);
        assert_true(send_text(fd, head));
        assert_true(send_text(fd, "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"));
        drop(&got);
        read_answer(fd, &got, false);
        assert_string_equal(body_text(&got), "11");
        close(fd);
        free(chunk);
}

static void a_client_that_reads_sees_the_413_of_an_endless_body(void **state)
{
        (void)state;
        char *body = calloc(1, 1300000);
        assert_non_null(body);
        int fd = dial(port);
        assert_true(send_text(fd, "POST /length HTTP/1.1\r\nHost: t\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n13d620\r\n"));
        assert_true(send_bytes(fd, body, 1300000));
        read_answer(fd, &got, false);
        assert_int_equal(got.status, 413);
        assert_string_equal(header_of(&got, "Connection"), "close");
        assert_contains(&got, "1000000");
        close(fd);
        free(body);
}

static void a_refused_small_body_leaves_the_connection_usable(void **state)
{
        (void)state;
        int fd = dial(port);
        assert_int_equal(exchange_on(fd, &got, "POST", "/nowhere", NULL, "abc", 3), 404);
        assert_int_equal(exchange_on(fd, &got, "GET", "/open/a", NULL, "abc", 3), 400);
        assert_int_equal(
                exchange_on(fd, &got, "POST", "/length", "Content-Encoding: gzip\r\n", "abc", 3),
                415);
        assert_int_equal(exchange_on(fd, &got, "POST", "/length", "Content-Encoding: identity\r\n",
                                     "abc", 3),
                         200);
        assert_int_equal(exchange_on(fd, &got, "POST", "/upload?refuse=1", NULL, "abc", 3), 404);
        assert_int_equal(exchange_on(fd, &got, "GET", "/open/a", NULL, NULL, 0), 200);
        close(fd);
}

static void expect_100_is_answered_before_the_body(void **state)
{
        (void)state;
        int fd = dial(port);
        assert_true(send_text(fd, "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n"
                                  "Expect: 100-continue\r\n\r\n"));
        read_answer(fd, &got, false);
        assert_int_equal(got.status, 100);
        assert_true(send_text(fd, "hello"));
        read_answer(fd, &got, false);
        assert_int_equal(got.status, 200);
        assert_string_equal(body_text(&got), "5");
        drop(&got);
        /* a refusal comes instead of the 100 */
        assert_true(send_text(fd, "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 5000000\r\n"
                                  "Expect: 100-continue\r\n\r\n"));
        read_answer(fd, &got, false);
        assert_int_equal(got.status, 413);
        close(fd);
}

/* --- completions from other threads --- */

static void a_completion_may_come_before_during_and_after_the_return(void **state)
{
        (void)state;
        int fd = dial(port);
        for (int i = 0; i < 300; i++) {
                assert_int_equal(exchange_on(fd, &got, "POST", "/race", NULL, "{}", 2), 200);
                assert_int_equal(exchange_on(fd, &got, "POST", "/early", NULL, "{}", 2), 200);
        }
        for (int i = 0; i < 5; i++) {
                assert_int_equal(exchange_on(fd, &got, "POST", "/later", NULL, "{}", 2), 202);
                assert_string_equal(body_text(&got), "{\"finished\":true}");
        }
        close(fd);
        await_alive(0);
}

static void a_client_that_leaves_while_it_waits_leaks_nothing(void **state)
{
        (void)state;
        int before = atomic_load(&cleanups);
        for (int i = 0; i < 50; i++) {
                int fd = dial(port);
                assert_true(send_text(fd, "POST /later HTTP/1.1\r\nHost: t\r\n"
                                          "Content-Length: 2\r\n\r\n{}"));
                close(fd);
        }
        for (int i = 0; i < 300 && atomic_load(&cleanups) < before + 50; i++)
                usleep(10000);
        assert_int_equal(atomic_load(&cleanups), before + 50);
        await_alive(0);
}

/* --- streamed bodies --- */

static void an_upload_arrives_whole_through_every_wait(void **state)
{
        (void)state;
        size_t len = 2000003;
        uint64_t sum = 0;
        char want[64];
        uint8_t *body = malloc(len);
        assert_non_null(body);
        for (size_t i = 0; i < len; i++) {
                body[i] = (uint8_t)(i * 31 + i / 251);
                sum += body[i];
        }
        snprintf(want, sizeof want, "%zu %llu", len, (unsigned long long)sum);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(exchange(port, &got, "POST", "/upload",
                                          "Content-Encoding: gzip\r\n", body, len),
                                 200);
                assert_string_equal(body_text(&got), want);
        }
        free(body);
        await_alive(0);
}

static void an_upload_that_fails_half_way_gets_its_reason(void **state)
{
        (void)state;
        uint8_t *body = calloc(1, UPLOAD_MAX + 1);
        assert_non_null(body);
        assert_int_equal(exchange(port, &got, "POST", "/upload", NULL, body, 3500000), 422);
        assert_contains(&got, "enough of it");
        assert_int_equal(exchange(port, &got, "POST", "/upload", NULL, body, UPLOAD_MAX + 1), 413);
        free(body);
        await_alive(0);
}

static void an_upload_that_is_cut_off_is_cleaned_up(void **state)
{
        (void)state;
        char *body = calloc(1, 100000);
        int before = atomic_load(&cleanups);
        assert_non_null(body);
        for (int i = 0; i < 20; i++) {
                int fd = dial(port);
                send_text(fd, "POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 500000\r\n\r\n");
                send_bytes(fd, body, (size_t)(i * 5000));
                close(fd);
        }
        for (int i = 0; i < 500 && atomic_load(&cleanups) < before + 20; i++)
                usleep(10000);
        assert_int_equal(atomic_load(&cleanups), before + 20);
        free(body);
}

static void a_client_that_trickles_is_closed(void **state)
{
        (void)state;
        int fd = dial(port);
        uint64_t start_us = mono_us();
        assert_true(
                send_text(fd, "POST /length HTTP/1.1\r\nHost: t\r\nContent-Length: 500\r\n\r\n"));
        while (mono_us() - start_us < 10000000 && send_text(fd, "x"))
                usleep(200000);
        assert_true(mono_us() - start_us < 8000000);
        read_answer(fd, &got, false);
        assert_true(got.status == 408 || got.status == 0);
        close(fd);
}

static void a_silent_client_is_closed_after_the_timeout(void **state)
{
        (void)state;
        char byte;
        int fd = dial(port);
        uint64_t start_us = mono_us();
        assert_true(send_text(fd, "GET /open/a HTTP/1.1\r\nHo"));
        while (recv(fd, &byte, 1, 0) > 0)
                continue;
        assert_true(mono_us() - start_us < 8000000);
        close(fd);
}

/* --- streamed answers --- */

static void a_long_answer_comes_whole_and_in_order(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/stream?pieces=300", NULL, NULL), 200);
        assert_true(got.whole);
        const char *p = body_text(&got);
        for (unsigned piece = 1; piece <= 300; piece++) {
                for (int i = 0; piece % 3 != 0 && i < 1000; i++) {
                        char line[32];
                        int n = snprintf(line, sizeof line, "%u,%d\n", piece, i);
                        assert_memory_equal(p, line, (size_t)n);
                        p += n;
                }
        }
        assert_int_equal(*p, 0);
        assert_int_equal(ask("GET", "/stream?pieces=0", NULL, NULL), 200);
        assert_true(got.whole);
        assert_int_equal(got.body.len, 0);
        await_alive(0);
}

static void an_answer_that_fails_half_way_is_not_taken_for_whole(void **state)
{
        (void)state;
        assert_int_equal(ask("GET", "/stream?kind=cut", NULL, NULL), 200);
        assert_false(got.whole);
        await_alive(0);
}

static void a_reader_that_leaves_ends_the_stream(void **state)
{
        (void)state;
        int fd = dial(port);
        char some[1000];
        assert_true(send_text(fd, "GET /stream?pieces=4000000 HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert_true(recv(fd, some, sizeof some, 0) > 0);
        close(fd);
        await_alive(0);
}

/* --- draining --- */

static void draining_answers_what_waits_and_ends_what_would_not(void **state)
{
        (void)state;
        int waiting = dial(port), stuck = dial(port), listening = dial(port), idle = dial(port);
        send_text(waiting, "POST /later HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}");
        send_text(stuck, "POST /upload?stuck=1 HTTP/1.1\r\nHost: t\r\n"
                         "Content-Length: 1000\r\n\r\nabc");
        send_text(listening, "GET /stream?kind=wait HTTP/1.1\r\nHost: t\r\n\r\n");
        await_alive(3);
        uint64_t start_us = mono_us();
        server_drain(server);
        assert_int_equal(atomic_load(&alive), 0);
        assert_true(mono_us() - start_us < 15000000);
        read_answer(waiting, &got, false);
        assert_int_equal(got.status, 202);
        drop(&got);
        read_answer(listening, &got, false);
        assert_int_equal(got.status, 200);
        assert_string_equal(body_text(&got), "first\n");
        assert_true(got.whole);
        close(waiting);
        close(stuck);
        close(listening);
        close(idle);
}

static _Atomic bool hammering;

static void *hammer(void *arg)
{
        (void)arg;
        while (atomic_load(&hammering)) {
                struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
                a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                int fd = socket(AF_INET, SOCK_STREAM, 0);
                char some[512];
                static const char text[] = "POST /race HTTP/1.1\r\nHost: t\r\n"
                                           "Content-Length: 2\r\n\r\n{}";
                if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
                        for (int i = 0; i < 20 && send_bytes(fd, text, sizeof text - 1); i++)
                                if (recv(fd, some, sizeof some, 0) <= 0)
                                        break;
                }
                close(fd);
        }
        return NULL;
}

static void draining_under_load_neither_aborts_nor_leaks(void **state)
{
        (void)state;
        for (int round = 0; round < 5; round++) {
                pthread_t threads[4];
                atomic_store(&hammering, true);
                for (int i = 0; i < 4; i++)
                        assert_int_equal(pthread_create(&threads[i], NULL, hammer, NULL), 0);
                usleep(150000);
                server_stop(&server);
                assert_int_equal(atomic_load(&alive), 0);
                atomic_store(&hammering, false);
                for (int i = 0; i < 4; i++)
                        pthread_join(threads[i], NULL);
                start("127.0.0.1", "", (uint32_t)(1 + round % 3));
        }
}

static void the_server_listens_on_ipv6_and_on_a_given_socket(void **state)
{
        (void)state;
        server_stop(&server);
        int probe = socket(AF_INET6, SOCK_STREAM, 0);
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        bool have_six = probe >= 0 && bind(probe, (struct sockaddr *)&six, sizeof six) == 0;
        if (probe >= 0)
                close(probe);
        if (have_six) {
                start("::1", "", 1);
                six.sin6_port = htons(port);
                int fd = socket(AF_INET6, SOCK_STREAM, 0);
                assert_int_equal(connect(fd, (struct sockaddr *)&six, sizeof six), 0);
                assert_int_equal(exchange_on(fd, &got, "GET", "/local/a", NULL, NULL, 0), 200);
                close(fd);
                server_stop(&server);
        }
        struct errinfo e = {0};
        struct server_options o = {.host = "127.0.0.1",
                                   .listen_fd = socket(AF_INET, SOCK_STREAM, 0),
                                   .threads = 2,
                                   .connections_max = 10,
                                   .idle_timeout_s = 5,
                                   .tokens_file = ""};
        struct sockaddr_in four = {.sin_family = AF_INET};
        four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(bind(o.listen_fd, (struct sockaddr *)&four, sizeof four), 0);
        assert_int_equal(listen(o.listen_fd, 16), 0);
        assert_int_equal(server_start(NULL, &o, &server, &port, &e), 0);
        assert_int_equal(ask("GET", "/open/a", NULL, NULL), 200);

        o.listen_fd = -1;
        o.port = port;
        struct server *second = NULL;
        uint16_t second_port;
        assert_int_equal(server_start(NULL, &o, &second, &second_port, &e), UL_IO);
        assert_null(second);
}

#define OPEN(test) cmocka_unit_test_setup_teardown(test, open_server, stop_server)
#define TOKENS(test) cmocka_unit_test_setup_teardown(test, token_server, stop_server)

int main(void)
{
        const struct CMUnitTest tests[] = {
                OPEN(parameters_are_decoded_after_the_path_was_split),
                OPEN(unknown_and_repeated_query_parameters_are_refused_by_name),
                OPEN(problems_have_the_shape_of_their_path),
                OPEN(head_answers_like_get_without_a_body),
                OPEN(a_request_id_is_echoed_or_made),
                OPEN(every_answer_is_counted_under_its_pattern),
                OPEN(a_list_links_to_its_next_page),
                OPEN(an_idempotency_key_is_bound_to_route_and_body),
                TOKENS(tokens_open_only_their_scopes),
                TOKENS(a_quota_is_announced_and_kept),
                OPEN(a_foreign_web_page_cannot_call_where_there_are_no_tokens),
                OPEN(a_body_at_its_limit_is_taken_and_one_byte_more_is_not),
                OPEN(a_chunked_body_is_stopped_at_its_limit),
                OPEN(a_client_that_reads_sees_the_413_of_an_endless_body),
                OPEN(a_refused_small_body_leaves_the_connection_usable),
                OPEN(expect_100_is_answered_before_the_body),
                OPEN(a_completion_may_come_before_during_and_after_the_return),
                OPEN(a_client_that_leaves_while_it_waits_leaks_nothing),
                OPEN(an_upload_arrives_whole_through_every_wait),
                OPEN(an_upload_that_fails_half_way_gets_its_reason),
                OPEN(an_upload_that_is_cut_off_is_cleaned_up),
                OPEN(a_client_that_trickles_is_closed),
                OPEN(a_silent_client_is_closed_after_the_timeout),
                OPEN(a_long_answer_comes_whole_and_in_order),
                OPEN(an_answer_that_fails_half_way_is_not_taken_for_whole),
                OPEN(a_reader_that_leaves_ends_the_stream),
                OPEN(draining_answers_what_waits_and_ends_what_would_not),
                OPEN(draining_under_load_neither_aborts_nor_leaks),
                OPEN(the_server_listens_on_ipv6_and_on_a_given_socket),
        };
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
