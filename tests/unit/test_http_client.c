/* SPDX-License-Identifier: Apache-2.0
 * test_http_client.c: whatever stands at the other end, a request of ours ends once, in time and
 * within bounds, and goes to no address that is not allowed. The server is a thread that does what
 * the path says. */
#include "daemon/http_client.h"

#include "lib/util/clock.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 1000, CONNECTIONS_MAX = 64 };

/* --- the other end --- */

static struct {
        int fd;
        uint16_t port;
        pthread_t thread;
        _Atomic uint32_t connections;
        char request[8192]; /* the last one */
        _Atomic bool ended;
} server;

static void say(int fd, const char *text)
{
        (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* Sends for as long as somebody listens. */
static void say_for_ever(int fd, const char *head, const char *piece)
{
        say(fd, head);
        while (send(fd, piece, strlen(piece), MSG_NOSIGNAL) > 0)
                continue;
}

static void hold(int fd)
{
        char rest[64];
        while (recv(fd, rest, sizeof rest, 0) > 0)
                continue;
}

static void behave(int fd, const char *path)
{
        static char piece[16384];
        memset(piece, 'x', sizeof piece - 1);
        if (strncmp(path, "/ok", 3) == 0)
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n"
                        "Content-Type: text/x.tlog.size\r\n\r\nhi");
        else if (strncmp(path, "/type", 5) == 0)
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
                        "Content-Type: "
                        "text/a-type-that-is-a-good-deal-longer-than-those-which-anybody-asks-"
                        "for\r\n\r\n");
        else if (strncmp(path, "/500", 4) == 0)
                say(fd, "HTTP/1.1 500 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n"
                        "Connection: close\r\n\r\n");
        else if (strncmp(path, "/redirect", 9) == 0)
                say(fd, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n"
                        "Connection: close\r\n\r\n");
        else if (strncmp(path, "/hang", 5) == 0)
                hold(fd);
        else if (strncmp(path, "/body", 5) == 0)
                say_for_ever(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", piece);
        else if (strncmp(path, "/heads", 6) == 0)
                say_for_ever(fd, "HTTP/1.1 200 OK\r\n", "X-Header: again and again\r\n");
        else if (strncmp(path, "/cut", 4) == 0)
                say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhi");
        else if (strncmp(path, "/nonsense", 9) == 0)
                say(fd, "SSH-2.0-OpenSSH_9.2\r\n");
}

static void *serve_one(void *arg)
{
        int fd = (int)(intptr_t)arg;
        size_t len = 0;
        char text[8192];
        while (len < sizeof text - 1) {
                ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);
                if (n <= 0)
                        break;
                len += (size_t)n;
                text[len] = '\0';
                if (strstr(text, "\r\n\r\n") != NULL)
                        break;
        }
        text[len] = '\0';
        memcpy(server.request, text, sizeof text);
        if (len > 5)
                behave(fd, text + 5);
        (void)close(fd);
        return NULL;
}

static void *serve(void *arg)
{
        (void)arg;
        int fd;
        while ((fd = accept(server.fd, NULL, NULL)) >= 0) {
                pthread_t t;
                atomic_fetch_add(&server.connections, 1);
                if (pthread_create(&t, NULL, serve_one, (void *)(intptr_t)fd) == 0)
                        (void)pthread_detach(t);
        }
        return NULL;
}

static int start_server(void **state)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t len = sizeof a;
        (void)state;
        server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server.fd < 0 || bind(server.fd, (struct sockaddr *)&a, len) != 0 ||
            listen(server.fd, CONNECTIONS_MAX) != 0 ||
            getsockname(server.fd, (struct sockaddr *)&a, &len) != 0)
                return -1;
        server.port = ntohs(a.sin_port);
        return pthread_create(&server.thread, NULL, serve, NULL);
}

static int stop_server(void **state)
{
        (void)state;
        (void)shutdown(server.fd, SHUT_RDWR);
        (void)pthread_join(server.thread, NULL);
        return close(server.fd);
}

/* --- this end --- */

struct bench {
        uv_loop_t loop;
        struct http_client *http;
};

static void bench_open(struct bench *b, const char *allowed)
{
        struct network networks[NETWORKS_MAX];
        struct http_client_options o = {
                .allowed = networks, .ca_file = "", .timeout_ms = TIMEOUT_MS};
        struct errinfo e = {0};
        assert_true(networks_parse(allowed, networks, &o.allowed_count));
        assert_int_equal(uv_loop_init(&b->loop), 0);
        assert_int_equal(http_client_create(&b->loop, &o, &b->http, &e), 0);
}

static void bench_close(struct bench *b)
{
        http_client_stop(b->http);
        assert_int_equal(uv_run(&b->loop, UV_RUN_DEFAULT), 0);
        http_client_destroy(&b->http);
        assert_int_equal(uv_loop_close(&b->loop), 0);
}

struct request {
        struct http_call call;
        uint32_t ended;
        char url[256];
};

static void ended(struct http_call *c)
{
        ((struct request *)c)->ended++;
}

static void begin(struct bench *b, struct request *r, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
static void begin(struct bench *b, struct request *r, const char *format, ...)
{
        struct errinfo e = {0};
        va_list args;
        *r = (struct request){.call = {.headers = "X-One: 1\nContent-Type: application/json\n",
                                       .body = "{}",
                                       .body_len = 2,
                                       .done = ended}};
        va_start(args, format);
        (void)vsnprintf(r->url, sizeof r->url, format, args);
        va_end(args);
        r->call.url = r->url;
        assert_int_equal(http_call_start(b->http, &r->call, &e), 0);
        assert_int_equal(r->ended, 0);
}

static void wait_for(struct bench *b, struct request *r)
{
        uint64_t began = mono_us();
        while (r->ended == 0) {
                (void)uv_run(&b->loop, UV_RUN_ONCE);
                assert_true(mono_us() - began < 20000000);
        }
        assert_int_equal(r->ended, 1);
}

static void post(struct bench *b, struct request *r, const char *path)
{
        begin(b, r, "http://127.0.0.1:%u%s", server.port, path);
        wait_for(b, r);
        buf_free(&r->call.answer, false);
}

static void a_request_carries_its_headers_and_body(void **state)
{
        (void)state;
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.0/8");
        begin(&b, &r, "http://127.0.0.1:%u/ok?x=1", server.port);
        wait_for(&b, &r);
        assert_int_equal(r.call.outcome, HTTP_ANSWERED);
        assert_int_equal(r.call.status, 200);
        assert_int_equal(r.call.answer.len, 2);
        buf_free(&r.call.answer, false);
        assert_non_null(strstr(server.request, "POST /ok?x=1 HTTP/1.1\r\n"));
        assert_non_null(strstr(server.request, "\r\nX-One: 1\r\n"));
        assert_non_null(strstr(server.request, "\r\nContent-Type: application/json\r\n"));
        assert_non_null(strstr(server.request, "\r\nUser-Agent: unlearnd/"));
        assert_null(strstr(server.request, "Expect"));
        bench_close(&b);
}

static void an_address_that_is_not_allowed_is_never_connected_to(void **state)
{
        (void)state;
        static const char *const hosts[] = {
                "127.0.0.1", "localhost",       "2130706433", "0x7f.1",
                "0",         "0.0.0.0",         "[::1]",      "[::ffff:127.0.0.1]",
                "[::]",      "169.254.169.254", "10.0.0.1",   "[fe80::1]"};
        struct bench b;
        struct request r;
        uint32_t before = atomic_load(&server.connections);
        bench_open(&b, "");
        for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
                for (int tls = 0; tls < 2; tls++) {
                        begin(&b, &r, "http%s://%s:%u/ok", tls ? "s" : "", hosts[i], server.port);
                        wait_for(&b, &r);
                        if (r.call.outcome != HTTP_REFUSED)
                                fail_msg("%s: %s", r.url, http_outcome_name(r.call.outcome));
                }
        }
        bench_close(&b);
        assert_int_equal(atomic_load(&server.connections), before);
}

static void allowing_one_network_allows_no_other(void **state)
{
        (void)state;
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.2, 10.0.0.0/8");
        post(&b, &r, "/ok");
        assert_int_equal(r.call.outcome, HTTP_REFUSED);
        bench_close(&b);
        bench_open(&b, "127.0.0.1");
        begin(&b, &r, "http://localhost:%u/ok", server.port);
        wait_for(&b, &r);
        buf_free(&r.call.answer, false);
        assert_int_equal(r.call.outcome, HTTP_ANSWERED);
        bench_close(&b);
}

static void a_redirect_is_an_answer_and_not_followed(void **state)
{
        (void)state;
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.1");
        uint32_t before = atomic_load(&server.connections);
        post(&b, &r, "/redirect");
        assert_int_equal(r.call.outcome, HTTP_ANSWERED);
        assert_int_equal(r.call.status, 302);
        assert_int_equal(atomic_load(&server.connections), before + 1);
        bench_close(&b);
}

static void retry_after_is_told(void **state)
{
        (void)state;
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.1");
        post(&b, &r, "/500");
        assert_int_equal(r.call.status, 500);
        assert_int_equal(r.call.retry_after_s, 7);
        bench_close(&b);
}

static void the_type_of_an_answer_is_told_unless_it_is_a_long_one(void **state)
{
        (void)state;
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.1");
        post(&b, &r, "/ok");
        assert_string_equal(r.call.content_type, "text/x.tlog.size");
        static const char *const without[] = {"/type", "/500", "/nonsense"};
        for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
                post(&b, &r, without[i]);
                assert_string_equal(r.call.content_type, "");
        }
        bench_close(&b);
}

static void answers_without_end_are_cut_off(void **state)
{
        (void)state;
        static const struct {
                const char *path;
                uint32_t status;
        } cases[] = {{"/body", 200}, {"/heads", 200}, {"/cut", 200}, {"/nonsense", 0}, {"/x", 0}};
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.1");
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                begin(&b, &r, "http://127.0.0.1:%u%s", server.port, cases[i].path);
                wait_for(&b, &r);
                assert_int_equal(r.call.outcome, HTTP_BROKEN);
                assert_int_equal(r.call.status, cases[i].status);
                assert_true(r.call.answer.len <= HTTP_ANSWER_MAX);
                buf_free(&r.call.answer, false);
        }
        bench_close(&b);
}

static void one_that_hangs_ends_in_time_and_holds_up_nobody(void **state)
{
        (void)state;
        struct bench b;
        struct request slow[8], r;
        bench_open(&b, "127.0.0.1");
        uint64_t began = mono_us();
        for (int i = 0; i < 8; i++)
                begin(&b, &slow[i], "http://127.0.0.1:%u/hang", server.port);
        post(&b, &r, "/ok");
        assert_int_equal(r.call.status, 200);
        assert_int_equal(slow[0].ended + slow[7].ended, 0);
        for (int i = 0; i < 8; i++) {
                wait_for(&b, &slow[i]);
                assert_int_equal(slow[i].call.outcome, HTTP_TIMEOUT);
        }
        assert_true(mono_us() - began >= (uint64_t)TIMEOUT_MS * 1000);
        bench_close(&b);
}

static void nobody_there_and_no_such_name_are_unreachable(void **state)
{
        (void)state;
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.1");
        begin(&b, &r, "http://127.0.0.1:1/");
        wait_for(&b, &r);
        assert_int_equal(r.call.outcome, HTTP_UNREACHABLE);
        bench_close(&b);
}

static void a_server_that_speaks_no_tls_is_not_trusted(void **state)
{
        (void)state;
        struct bench b;
        struct request r;
        bench_open(&b, "127.0.0.1");
        begin(&b, &r, "https://127.0.0.1:%u/nonsense", server.port);
        wait_for(&b, &r);
        assert_true(r.call.outcome == HTTP_TLS || r.call.outcome == HTTP_TIMEOUT);
        bench_close(&b);
}

static void a_stop_ends_what_is_under_way(void **state)
{
        (void)state;
        struct bench b;
        struct request r[3];
        bench_open(&b, "127.0.0.1");
        for (int i = 0; i < 3; i++)
                begin(&b, &r[i], "http://127.0.0.1:%u/hang", server.port);
        for (int i = 0; i < 5; i++)
                (void)uv_run(&b.loop, UV_RUN_NOWAIT);
        http_client_stop(b.http);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(r[i].ended, 1);
                assert_int_equal(r[i].call.outcome, HTTP_ABORTED);
        }
        bench_close(&b);
}

static void an_address_that_could_mean_something_else_is_refused(void **state)
{
        (void)state;
        static const char *const bad[] = {"",
                                          "example.org",
                                          "//example.org",
                                          "ftp://example.org/",
                                          "file:///etc/passwd",
                                          "https://",
                                          "https:///x",
                                          "https:/example.org/x",
                                          "https:example.org",
                                          "https://a b/",
                                          "https://user@example.org/",
                                          "https://user:pass@example.org/",
                                          "https://example.org/#x",
                                          "https://example.org/\n",
                                          "https://ex\xc3\xa4mple.org/",
                                          "gopher://x/",
                                          "javascript:alert(1)",
                                          "https://example.org:99999/"};
        static const char *const good[] = {"https://example.org", "https://example.org:8443/a?b=c",
                                           "HTTPS://EXAMPLE.ORG/", "https://[2a00::1]/x",
                                           "https://192.0.2.1/"};
        struct errinfo e;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                e = (struct errinfo){0};
                if (http_url_check(bad[i], true, &e) != UL_INVALID)
                        fail_msg("\"%s\" is taken", bad[i]);
                assert_true(e.detail[0] != '\0');
        }
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
                if (http_url_check(good[i], false, &e) != 0)
                        fail_msg("\"%s\" is refused: %s", good[i], e.detail);
        assert_int_equal(http_url_check("http://example.org/", false, &e), UL_INVALID);
        assert_int_equal(http_url_check("http://example.org/", true, &e), 0);
        char longest[2100];
        memset(longest, 'a', sizeof longest);
        memcpy(longest, "https://example.org/", 20);
        longest[2049] = '\0';
        assert_int_equal(http_url_check(longest, true, &e), UL_INVALID);
        longest[2048] = '\0';
        assert_int_equal(http_url_check(longest, true, &e), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_request_carries_its_headers_and_body),
                cmocka_unit_test(an_address_that_is_not_allowed_is_never_connected_to),
                cmocka_unit_test(allowing_one_network_allows_no_other),
                cmocka_unit_test(a_redirect_is_an_answer_and_not_followed),
                cmocka_unit_test(retry_after_is_told),
                cmocka_unit_test(the_type_of_an_answer_is_told_unless_it_is_a_long_one),
                cmocka_unit_test(answers_without_end_are_cut_off),
                cmocka_unit_test(one_that_hangs_ends_in_time_and_holds_up_nobody),
                cmocka_unit_test(nobody_there_and_no_such_name_are_unreachable),
                cmocka_unit_test(a_server_that_speaks_no_tls_is_not_trusted),
                cmocka_unit_test(a_stop_ends_what_is_under_way),
                cmocka_unit_test(an_address_that_could_mean_something_else_is_refused),
        };
        return cmocka_run_group_tests(tests, start_server, stop_server);
}
