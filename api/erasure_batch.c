/* SPDX-License-Identifier: Apache-2.0
 * erasure_batch.c: POST /v1/erasures:batch: an erasure request a line, an answer a line in the same
 * order, one group commit for all lines that are valid. A line that is refused, empty ones
 * included, gets its problem document and stops nothing else. An answer line is what POST
 * /v1/erasures would have said: an erasure has "id", a problem has "status". */
#include "api/erasures.h"
#include "api/http_more.h"
#include "api/render.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAGIC = 0x62617463 };

struct batch {
        uint32_t magic;
        struct request *request;
        uint32_t line_count;
        uint32_t request_count; /* lines that are valid */
        /* [line_count]; NULL: the line is the next of `requests` */
        struct errinfo **refused;
        /* [request_count]; the service's from the call on, the array itself until the end */
        struct erase_request *requests;
        bool handed_over;
};

static void batch_free(void *context)
{
        struct batch *b = context;
        assert(b->magic == BATCH_MAGIC);
        for (uint32_t i = 0; b->refused != NULL && i < b->line_count; i++)
                free(b->refused[i]);
        for (uint32_t i = 0; !b->handed_over && i < b->request_count; i++)
                erase_request_clear(&b->requests[i]);
        free(b->refused);
        free(b->requests);
        b->magic = 0;
        free(b);
}

/* Lines end with a newline, the last one with or without. */
static uint32_t count_lines(const char *text, size_t len)
{
        uint32_t n = 0;
        for (const char *end = text + len; text < end && n <= BATCH_ERASURES_MAX; n++) {
                const char *newline = memchr(text, '\n', (size_t)(end - text));
                text = newline == NULL ? end : newline + 1;
        }
        return n;
}

static struct batch *batch_create(uint32_t lines)
{
        struct batch *b = calloc(1, sizeof(*b));
        if (b == NULL)
                return NULL;
        b->magic = BATCH_MAGIC;
        b->line_count = lines;
        b->refused = calloc(lines, sizeof(struct errinfo *));
        b->requests = calloc(lines, sizeof(*b->requests));
        if (b->refused == NULL || b->requests == NULL) {
                batch_free(b);
                return NULL;
        }
        return b;
}

static void add_part(struct buf *b, const char *text)
{
        uint8_t size[8];
        size_t len = strlen(text);
        put_le64(size, len);
        buf_append(b, size, sizeof(size));
        buf_append(b, text, len);
}

/* A line's key is in a name space of its own, and is the token's, as those of the header are. */
static int line_idempotency(struct request *req, const char *key, const char *line, size_t len,
                            struct idempotency *out, struct errinfo *e)
{
        struct buf parts = {0};
        if (key[0] == '\0')
                return 0;
        add_part(&parts, "erasures:batch");
        add_part(&parts, request_actor(req));
        add_part(&parts, key);
        bool failed = parts.failed;
        if (!failed) {
                service_keyed_hash(request_service(req), parts.data, parts.len, out->key);
                service_keyed_hash(request_service(req), line, len, out->body);
                out->present = true;
        }
        buf_free(&parts, true);
        return failed ? ul_fail(e, UL_NOMEM, "no memory for the idempotency key") : 0;
}

static int read_line(struct request *req, const char *line, size_t len, struct erase_request *out,
                     struct errinfo *e)
{
        struct erasure_reader reader = erasure_reader_of(req, true);
        struct erasure_body body = {0};
        struct json *doc = NULL;
        if (len > NDJSON_LINE_MAX)
                return ul_fail(e, UL_TOO_LARGE, "a line has at most %d bytes", NDJSON_LINE_MAX);
        if (len == 0)
                return ul_fail(e, UL_SYNTAX, "the line is empty");
        int err = json_parse(line, len, &doc, e);
        if (err == 0)
                err = erasure_parse(doc, &reader, &body, e);
        json_free(&doc);
        if (err == 0)
                err = line_idempotency(req, body.idempotency_key, line, len, &body.request.idem, e);
        if (err != 0) {
                erasure_body_clear(&body);
                return err;
        }
        snprintf(body.request.actor, sizeof(body.request.actor), "%s", request_actor(req));
        *out = body.request;
        wipe(&body, sizeof(body));
        return 0;
}

static int read_lines(struct request *req, struct batch *b, const char *text, size_t len)
{
        const char *end = text + len;
        for (uint32_t i = 0; i < b->line_count; i++) {
                struct errinfo e = {0};
                const char *newline = memchr(text, '\n', (size_t)(end - text));
                size_t line_len = (size_t)((newline == NULL ? end : newline) - text);
                if (line_len > 0 && text[line_len - 1] == '\r')
                        line_len--;
                int err = read_line(req, text, line_len, &b->requests[b->request_count], &e);
                if (err == 0) {
                        b->request_count++;
                } else {
                        b->refused[i] = malloc(sizeof(e));
                        if (b->refused[i] == NULL)
                                return UL_NOMEM;
                        e.code = err;
                        *b->refused[i] = e;
                }
                text = newline == NULL ? end : newline + 1;
        }
        return 0;
}

static void write_outcome(struct buf *out, struct json_writer *w,
                          const struct erase_outcome *outcome)
{
        if (outcome->err == 0)
                render_erasure(w, &outcome->view);
        else
                problem_write(out, problem_status(outcome->err), outcome->err, &outcome->e, NULL,
                              NULL);
}

static void write_results(const struct batch *b, const struct erase_outcome *outcomes,
                          struct buf *out)
{
        uint32_t next = 0;
        for (uint32_t i = 0; i < b->line_count; i++) {
                const struct errinfo *e = b->refused[i];
                struct json_writer w;
                jw_init(&w, out);
                if (e != NULL)
                        problem_write(out, problem_status(e->code), e->code, e, NULL, NULL);
                else if (outcomes != NULL) /* NULL: every line was refused */
                        write_outcome(out, &w, &outcomes[next++]);
                buf_append(out, "\n", 1);
        }
}

static enum handler_result reply_results(struct batch *b, const struct erase_outcome *outcomes)
{
        struct buf out = {0};
        write_results(b, outcomes, &out);
        return reply_body(b->request, 200, "application/x-ndjson", &out);
}

static void batch_done(void *arg, int err, const struct errinfo *e,
                       const struct erase_outcome *outcomes, uint32_t count)
{
        struct batch *b = arg;
        assert(b->magic == BATCH_MAGIC);
        struct request *req = b->request;
        if (err != 0) {
                reply_problem(req, err, e);
        } else {
                assert(count == b->request_count);
                reply_results(b, outcomes);
        }
        request_complete(req); /* b may be gone now */
}

static int batch_refused_whole(struct request *req, uint32_t lines, struct errinfo *e)
{
        if (!request_content_type_is(req, "application/x-ndjson"))
                return ul_fail_field(e, UL_UNSUPPORTED, "Content-Type",
                                     "a batch is application/x-ndjson");
        if (request_header(req, "Idempotency-Key") != NULL)
                return ul_fail_field(e, UL_SYNTAX, "Idempotency-Key",
                                     "give each line an idempotency_key of its own instead");
        if (lines == 0)
                return ul_fail(e, UL_SYNTAX, "a batch has at least one line");
        if (lines > BATCH_ERASURES_MAX)
                return ul_fail(e, UL_TOO_LARGE, "a batch has at most %d lines", BATCH_ERASURES_MAX);
        return 0;
}

enum handler_result erase_batch(struct request *req)
{
        struct errinfo e = {0};
        size_t len = 0;
        const char *text = (const char *)request_body(req, &len);
        uint32_t lines = count_lines(text, len);
        int err = batch_refused_whole(req, lines, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        struct batch *b = batch_create(lines);
        if (b == NULL)
                return reply_problem(req, UL_NOMEM, NULL);
        b->request = req;
        request_set_context(req, b, batch_free);
        err = read_lines(req, b, text, len);
        request_body_wipe(req);
        if (err != 0)
                return reply_problem(req, err, NULL);
        if (b->request_count == 0)
                return reply_results(b, NULL);
        b->handed_over = true;
        err = service_erase_batch(request_service(req), b->requests, b->request_count, batch_done,
                                  b, &e);
        return err == 0 ? HANDLER_PENDING : reply_problem(req, err, &e);
}
