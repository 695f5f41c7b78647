/* SPDX-License-Identifier: Apache-2.0
 * http.h: one request at a time to the daemon; the owner of libcurl. api_* knows besides how the
 * daemon answers: problem documents, pages and jobs. Errors are told here; callers pass the exit
 * status on. */
#ifndef UNLEARND_CLI_HTTP_H
#define UNLEARND_CLI_HTTP_H

#include "cli/cli.h"
#include "lib/util/bytes.h"
#include "lib/util/json.h"

enum { HTTP_READ_FAILED = -1 };

struct http_request {
        const char *method;
        const char *path; /* with its query, encoded */
        const char *accept, *content_type, *content_encoding, *idempotency_key; /* NULL: none */
        /* the body: bytes, or a function that fills up to cap bytes and returns how many, 0 at the
         * end, or HTTP_READ_FAILED, which breaks the request off (the reader has told why) */
        const void *body;
        size_t body_len;
        long (*read)(void *arg, char *out, size_t cap);
        /* takes the body of a 2xx answer as it arrives; false ends the transfer (the sink has told
         * why). NULL: the answer's buffer has it */
        bool (*sink)(void *arg, const char *data, size_t len);
        void *arg; /* of both */
};
struct http_answer {
        long status;
        uint32_t retry_after_s; /* 0: not said */
        struct buf body;        /* an error's, where the request has a sink */
};

void http_close(struct ctl *c);
/* 0 where an answer came, whatever its status. */
int http_call(struct ctl *c, const struct http_request *r, struct http_answer *a);
void http_answer_free(struct http_answer *a);

/* 0 for a 2xx answer. Otherwise the problem has been told. */
int api_call(struct ctl *c, const struct http_request *r, struct http_answer *a);
/* Tells the problem in an answer that is not 2xx; returns EXIT_FAILED. */
int api_complain(const struct http_answer *a);
/* GET, and the answer parsed. The caller frees both (also after a failure). */
int api_get(struct ctl *c, const char *path, struct http_answer *a, struct json **doc);
/* POST of JSON. */
int api_post(struct ctl *c, const char *path, const char *idempotency_key, const struct buf *body,
             struct http_answer *a, struct json **doc);

/* Appends to a path: text as it is, a percent-encoded segment, one query parameter (NULL: none). */
void path_escape(struct buf *path, const char *text);
void path_query(struct buf *path, const char *name, const char *value);
/* The NUL-terminated text; NULL where memory ran out (told). */
const char *path_text(struct buf *path);

/* Walks a list, page by page, up to `limit` items (0: all). `each` returns 0 to go on. */
int api_list(struct ctl *c, const char *path, uint64_t limit,
             int (*each)(void *arg, const struct json *item), void *arg, bool *more);

/* The same as a table (row adds the cells of one item) or, with --json, as {"items", "more"}. */
int print_list(struct ctl *c, const char *path, uint64_t limit, const char *const *heads,
               int (*row)(void *table, const struct json *item));

/* Writes a parsed value again. */
void json_copy(struct json_writer *w, const struct json *v);
/* Writes a file, or to stdout for "-". */
int write_output(const char *path, const struct buf *text);
/* A JSON text and a newline to stdout. */
int print_json(const struct buf *text);

/* Sleeps before a poll: 20 ms at first, then longer, one second at most. */
void poll_pause(uint32_t *round);
/* GET again and again: like api_get, but 429 and 503 with Retry-After are waited out. */
int api_poll(struct ctl *c, const char *path, struct http_answer *a, struct json **doc);

#endif
