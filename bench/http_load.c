/* SPDX-License-Identifier: Apache-2.0
 * http_load.c: sends prepared requests to a port of loopback over keep-alive connections, one
 * outstanding a connection, and prints rate and latencies as one JSON line. One thread, epoll, raw
 * sockets: it is to cost as little as it can, since it shares the machine with what it measures.
 * A latency is from the first byte sent to the last byte of the answer received, so it holds the
 * wait behind other connections here too. It must not know what it sends.
 *
 *   http_load [-c CONNECTIONS] [-n REQUESTS] [-m MS] [-t CONTENT_TYPE] [-b BODIES] [-f FIRST]
 *             PORT PATH
 *
 * BODIES holds one body a line, sent in turn from line FIRST on; without it requests are GETs. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
        CONNECTIONS_MAX = 1024,
        REQUESTS_MAX = 4 * 1024 * 1024,
        ANSWER_MAX = 64 * 1024,
        MS_MAX = 600000,
        STUCK_MS = 30000,
};

struct options {
        uint32_t connections, requests, ms, first;
        const char *type, *bodies;
        uint16_t port;
        const char *path;
};

/* Ready to send: [start[i], start[i + 1]) of text. */
struct prepared {
        char *text;
        size_t *start;
        size_t count;
};

struct connection {
        int fd;
        uint64_t sent_ns;
        size_t have;   /* bytes of the answer so far */
        size_t needed; /* its length once the head is in; 0 before */
        int status;
        char answer[ANSWER_MAX];
};

struct load {
        struct options o;
        struct prepared requests;
        struct connection *connections;
        int epoll;
        uint64_t begin_ns, end_ns;
        uint32_t sent, answered, refused;
        int first_refusal;
        uint64_t *latency_ns; /* [answered] */
};

static uint64_t now_ns(void)
{
        struct timespec t;
        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int fail(const char *what)
{
        (void)fprintf(stderr, "http_load: %s: %s\n", what, strerror(errno));
        return -1;
}

static int fail_text(const char *what)
{
        (void)fprintf(stderr, "http_load: %s\n", what);
        return -1;
}

/* --- requests --- */

static int append(FILE *to, const struct options *o, const char *body, size_t len)
{
        if (fprintf(to, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n", o->bodies ? "POST" : "GET",
                    o->path, o->port) < 0)
                return fail("prepare");
        if (o->bodies &&
            fprintf(to, "Content-Type: %s\r\nContent-Length: %zu\r\n", o->type, len) < 0)
                return fail("prepare");
        if (fputs("\r\n", to) == EOF || fwrite(body, 1, len, to) != len)
                return fail("prepare");
        return 0;
}

static int note_start(struct prepared *p, FILE *to)
{
        const long at = ftell(to);
        size_t *more = NULL;

        if ((p->count & (p->count + 1)) == 0) { /* 0, 1, 3, 7, ...: full */
                more = realloc(p->start, 2 * (p->count + 1) * sizeof *p->start);
                if (!more)
                        return fail("prepare");
                p->start = more;
        }
        if (at < 0)
                return fail("prepare");
        p->start[p->count] = (size_t)at;
        return 0;
}

static int prepare_bodies(struct prepared *p, const struct options *o, FILE *to)
{
        char *line = NULL;
        size_t size = 0;
        ssize_t len = 0;
        int rc = 0;
        FILE *from = fopen(o->bodies, "r");

        if (!from)
                return fail(o->bodies);
        for (uint32_t i = 0; rc == 0 && (len = getline(&line, &size, from)) > 0; i++) {
                if (line[len - 1] == '\n')
                        len--;
                if (i < o->first || p->count == REQUESTS_MAX)
                        continue;
                rc = append(to, o, line, (size_t)len);
                p->count++;
                if (rc == 0)
                        rc = note_start(p, to);
        }
        free(line);
        (void)fclose(from);
        return rc;
}

static int prepare(struct prepared *p, const struct options *o)
{
        size_t bytes = 0;
        int rc = 0;
        FILE *to = open_memstream(&p->text, &bytes);

        if (!to)
                return fail("prepare");
        rc = note_start(p, to);
        if (rc == 0 && o->bodies) {
                rc = prepare_bodies(p, o, to);
        } else if (rc == 0) {
                rc = append(to, o, "", 0);
                p->count++;
                if (rc == 0)
                        rc = note_start(p, to);
        }
        if (fclose(to) != 0 && rc == 0)
                rc = fail("prepare");
        return rc == 0 && p->count == 0 ? fail_text("no bodies") : rc;
}

/* --- one exchange --- */

static int send_all(int fd, const char *data, size_t len)
{
        while (len > 0) {
                const ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
                if (n < 0 && errno == EAGAIN) {
                        struct pollfd p = {.fd = fd, .events = POLLOUT};
                        if (poll(&p, 1, STUCK_MS) != 1)
                                return fail_text("a connection takes no more");
                } else if (n < 0) {
                        return fail("send");
                } else {
                        data += n;
                        len -= (size_t)n;
                }
        }
        return 0;
}

static bool finished(const struct load *l)
{
        return l->sent == l->o.requests || (l->o.ms > 0 && now_ns() >= l->end_ns);
}

static int send_next(struct load *l, struct connection *c)
{
        const size_t i = l->sent % l->requests.count;
        const size_t *start = l->requests.start;

        l->sent++;
        c->have = c->needed = 0;
        c->sent_ns = now_ns();
        return send_all(c->fd, l->requests.text + start[i], start[i + 1] - start[i]);
}

/* Sets status and needed once the head is in. */
static int read_head(struct connection *c)
{
        static const char length[] = "\r\ncontent-length:";
        const char *end = memmem(c->answer, c->have, "\r\n\r\n", 4);

        if (!end)
                return 0;
        if (c->have < 12 || memcmp(c->answer, "HTTP/1.", 7) != 0)
                return fail_text("the answer is not HTTP/1");
        c->status = (c->answer[9] - '0') * 100 + (c->answer[10] - '0') * 10 + c->answer[11] - '0';
        for (const char *p = c->answer; p < end; p++) {
                if (*p != '\r' || strncasecmp(p, length, sizeof length - 1) != 0)
                        continue;
                c->needed =
                        (size_t)(end - c->answer) + 4 + strtoul(p + sizeof length - 1, NULL, 10);
                return c->needed <= ANSWER_MAX ? 0 : fail_text("an answer is too long");
        }
        return fail_text("an answer has no Content-Length");
}

static void note_answer(struct load *l, const struct connection *c)
{
        l->latency_ns[l->answered++] = now_ns() - c->sent_ns;
        if (c->status >= 200 && c->status < 300)
                return;
        if (l->refused++ == 0)
                l->first_refusal = c->status;
}

static int on_readable(struct load *l, struct connection *c)
{
        const ssize_t n = recv(c->fd, c->answer + c->have, ANSWER_MAX - c->have, 0);

        if (n < 0)
                return errno == EAGAIN ? 0 : fail("recv");
        if (n == 0)
                return fail_text("the server closed a connection");
        c->have += (size_t)n;
        if (c->needed == 0 && read_head(c) != 0)
                return -1;
        if (c->needed == 0 || c->have < c->needed)
                return c->have < ANSWER_MAX ? 0 : fail_text("an answer is too long");
        note_answer(l, c);
        return finished(l) ? 0 : send_next(l, c);
}

/* --- the run --- */

static int connect_one(struct load *l, struct connection *c)
{
        const struct sockaddr_in to = {.sin_family = AF_INET,
                                       .sin_port = htons(l->o.port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
        const int on = 1;

        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&to, sizeof to) != 0)
                return fail("connect");
        if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
                return fail("setsockopt");
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) /* connecting was to block */
                return fail("fcntl");
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &want) != 0)
                return fail("epoll_ctl");
        return 0;
}

static int run(struct load *l)
{
        struct epoll_event events[CONNECTIONS_MAX];

        for (uint32_t i = 0; i < l->o.connections; i++)
                if (connect_one(l, &l->connections[i]) != 0)
                        return -1;
        l->begin_ns = now_ns();
        l->end_ns = l->begin_ns + (uint64_t)l->o.ms * 1000000u;
        for (uint32_t i = 0; i < l->o.connections && !finished(l); i++)
                if (send_next(l, &l->connections[i]) != 0)
                        return -1;
        while (l->answered < l->sent) {
                const int n = epoll_wait(l->epoll, events, CONNECTIONS_MAX, STUCK_MS);
                if (n < 0)
                        return fail("epoll_wait");
                if (n == 0)
                        return fail_text("no answer for 30 seconds");
                for (int i = 0; i < n; i++)
                        if (on_readable(l, events[i].data.ptr) != 0)
                                return -1;
        }
        l->end_ns = now_ns();
        return 0;
}

static int by_value(const void *a, const void *b)
{
        const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
        return (x > y) - (x < y);
}

static double quantile_us(const struct load *l, double q)
{
        return (double)l->latency_ns[(size_t)((double)(l->answered - 1) * q)] / 1e3;
}

static int print_result(struct load *l)
{
        const double seconds = (double)(l->end_ns - l->begin_ns) / 1e9;

        qsort(l->latency_ns, l->answered, sizeof *l->latency_ns, by_value);
        return printf("{\"connections\": %u, \"requests\": %u, \"seconds\": %.6f, "
                      "\"per_second\": %.1f, \"p50_us\": %.1f, \"p90_us\": %.1f, "
                      "\"p99_us\": %.1f, \"max_us\": %.1f, \"refused\": %u, "
                      "\"first_refusal\": %d}\n",
                      l->o.connections, l->answered, seconds, (double)l->answered / seconds,
                      quantile_us(l, 0.5), quantile_us(l, 0.9), quantile_us(l, 0.99),
                      quantile_us(l, 1.0), l->refused, l->first_refusal) < 0
                       ? -1
                       : 0;
}

static bool number(const char *text, uint32_t max, uint32_t *out)
{
        char *end = NULL;
        const unsigned long v = strtoul(text, &end, 10);
        *out = (uint32_t)v;
        return *text && !*end && v <= max;
}

static bool parse(int argc, char **argv, struct options *o)
{
        uint32_t port = 0;
        bool ok = true;
        int c = 0;

        *o = (struct options){.connections = 1, .type = "application/json"};
        while (ok && (c = getopt(argc, argv, "c:n:m:t:b:f:")) != -1) {
                if (c == 'c')
                        ok = number(optarg, CONNECTIONS_MAX, &o->connections) && o->connections;
                else if (c == 'n')
                        ok = number(optarg, REQUESTS_MAX, &o->requests);
                else if (c == 'm')
                        ok = number(optarg, MS_MAX, &o->ms);
                else if (c == 'f')
                        ok = number(optarg, REQUESTS_MAX, &o->first);
                else if (c == 't')
                        o->type = optarg;
                else if (c == 'b')
                        o->bodies = optarg;
                else
                        ok = false;
        }
        if (!ok || argc - optind != 2 || !number(argv[optind], UINT16_MAX, &port) ||
            (o->requests == 0 && o->ms == 0))
                return false;
        o->port = (uint16_t)port;
        o->path = argv[optind + 1];
        if (o->requests == 0)
                o->requests = REQUESTS_MAX;
        return true;
}

int main(int argc, char **argv)
{
        struct load l = {.epoll = -1};
        int rc = -1;

        if (!parse(argc, argv, &l.o)) {
                (void)fprintf(stderr, "usage: http_load [-c CONNECTIONS] [-n REQUESTS] [-m MS] "
                                      "[-t TYPE] [-b BODIES] [-f FIRST] PORT PATH\n");
                return 2;
        }
        l.connections = calloc(l.o.connections, sizeof *l.connections);
        l.latency_ns = calloc(l.o.requests, sizeof *l.latency_ns);
        l.epoll = epoll_create1(EPOLL_CLOEXEC);
        if (!l.connections || !l.latency_ns || l.epoll < 0)
                rc = fail("start");
        else if (prepare(&l.requests, &l.o) == 0 && run(&l) == 0)
                rc = print_result(&l);
        for (uint32_t i = 0; l.connections && i < l.o.connections; i++)
                if (l.connections[i].fd > 0)
                        (void)close(l.connections[i].fd);
        if (l.epoll >= 0)
                (void)close(l.epoll);
        free(l.latency_ns);
        free(l.connections);
        free(l.requests.start);
        free(l.requests.text);
        return rc == 0 ? 0 : 1;
}
