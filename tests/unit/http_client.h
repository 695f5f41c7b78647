/* SPDX-License-Identifier: Apache-2.0
 * http_client.h: a small HTTP client for tests over raw sockets, so that a test decides about every
 * byte and every pause. Each test program is one file, hence the static functions. */
#ifndef UNLEARND_TESTS_HTTP_CLIENT_H
#define UNLEARND_TESTS_HTTP_CLIENT_H

#include "lib/util/bytes.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

struct answer {
        int status; /* 0: the connection ended without one */
        char headers[8192];
        struct buf body;
        bool whole; /* the body ended as it said that it would */
};

static inline int dial(uint16_t port)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
        struct timeval wait = {.tv_sec = 20};
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fd >= 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
        return fd;
}

/* False: the other side has closed. */
static inline bool send_bytes(int fd, const void *data, size_t len)
{
        const char *p = data;
        while (len > 0) {
                ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
                if (n <= 0)
                        return false;
                p += n;
                len -= (size_t)n;
        }
        return true;
}

static inline bool send_text(int fd, const char *text)
{
        return send_bytes(fd, text, strlen(text));
}

static inline bool read_line(int fd, char *line, size_t size)
{
        size_t n = 0;
        while (n + 1 < size) {
                if (recv(fd, line + n, 1, 0) != 1)
                        return false;
                if (line[n] == '\n') {
                        line[n > 0 && line[n - 1] == '\r' ? n - 1 : n] = '\0';
                        return true;
                }
                n++;
        }
        return false;
}

static inline bool read_exactly(int fd, struct buf *out, size_t len)
{
        uint8_t *room = buf_extend(out, len);
        size_t got = 0;
        while (got < len) {
                ssize_t n = recv(fd, room + got, len - got, 0);
                if (n <= 0) {
                        out->len -= len - got;
                        return false;
                }
                got += (size_t)n;
        }
        return true;
}

static inline const char *header_of(const struct answer *a, const char *name)
{
        static char value[2100];
        const char *p = a->headers;
        size_t len = strlen(name);
        while (*p != '\0') {
                size_t line = strcspn(p, "\n");
                if (strncasecmp(p, name, len) == 0 && p[len] == ':') {
                        snprintf(value, sizeof value, "%.*s", (int)(line - len - 2), p + len + 2);
                        return value;
                }
                p += line + (p[line] == '\n');
        }
        return NULL;
}

static inline bool read_chunks(int fd, struct buf *out)
{
        char line[64];
        for (;;) {
                if (!read_line(fd, line, sizeof line))
                        return false;
                size_t len = strtoul(line, NULL, 16);
                if (len != 0 && !read_exactly(fd, out, len))
                        return false;
                if (!read_line(fd, line, sizeof line))
                        return false;
                if (len == 0)
                        return true;
        }
}

/* head: the answer to a HEAD request, which has no body. */
static inline void read_answer(int fd, struct answer *a, bool head)
{
        char line[4096];
        size_t used = 0;
        memset(a, 0, sizeof *a);
        if (!read_line(fd, line, sizeof line))
                return;
        assert_int_equal(strncmp(line, "HTTP/1.1 ", 9), 0);
        int status = (int)strtol(line + 9, NULL, 10);
        while (read_line(fd, line, sizeof line) && line[0] != '\0')
                used += (size_t)snprintf(a->headers + used, sizeof a->headers - used, "%s\n", line);
        a->status = status;
        const char *length = header_of(a, "Content-Length");
        a->whole = true;
        if (head || status == 100 || status == 204)
                return;
        if (length != NULL)
                a->whole = read_exactly(fd, &a->body, strtoul(length, NULL, 10));
        else if (header_of(a, "Transfer-Encoding") != NULL)
                a->whole = read_chunks(fd, &a->body);
        buf_append(&a->body, "", 1); /* so that it reads as text */
        a->body.len--;
}

static inline void drop(struct answer *a)
{
        buf_free(&a->body, false);
        memset(a, 0, sizeof *a);
}

/* Sends a request on fd and reads the answer. headers: whole lines; body NULL: none. */
static inline int exchange_on(int fd, struct answer *a, const char *method, const char *target,
                              const char *headers, const void *body, size_t len)
{
        struct buf out = {0};
        buf_printf(&out, "%s %s HTTP/1.1\r\nHost: test\r\n%s", method, target,
                   headers != NULL ? headers : "");
        if (body != NULL)
                buf_printf(&out, "Content-Length: %zu\r\n", len);
        buf_append_str(&out, "\r\n");
        if (body != NULL)
                buf_append(&out, body, len);
        assert_false(out.failed);
        send_bytes(fd, out.data, out.len);
        buf_free(&out, false);
        drop(a);
        read_answer(fd, a, strcmp(method, "HEAD") == 0);
        return a->status;
}

/* The same on a connection of its own. */
static inline int exchange(uint16_t port, struct answer *a, const char *method, const char *target,
                           const char *headers, const void *body, size_t len)
{
        int fd = dial(port);
        int status = exchange_on(fd, a, method, target, headers, body, len);
        close(fd);
        return status;
}

static inline const char *body_text(const struct answer *a)
{
        return a->body.data != NULL ? (const char *)a->body.data : "";
}

static inline void assert_contains(const struct answer *a, const char *part)
{
        if (strstr(body_text(a), part) == NULL)
                fail_msg("\"%s\" is not in: %s", part, body_text(a));
}

#endif
