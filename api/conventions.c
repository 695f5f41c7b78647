/* SPDX-License-Identifier: Apache-2.0
 * conventions.c: the conventions that many resources share: Idempotency-Key, and lists that are
 * paged with limit, cursor and Link. What a key was used for before is the service's business. */
#include "api/internal.h"
#include <string.h>

/* --- idempotency --- */

/* A structured-field string (RFC 8941, 3.3.3), or the same characters without quotes. */
static int parse_idempotency_key(const char *text, char out[IDEMPOTENCY_KEY_MAX + 1], size_t *len,
                                 struct errinfo *e)
{
        size_t n = 0;
        bool quoted = *text == '"', closed = false;
        for (const char *p = text + quoted; *p != '\0'; p++) {
                char c = *p;
                if (quoted && c == '"') {
                        closed = p[1] == '\0';
                        break;
                }
                if (quoted && c == '\\') {
                        c = *++p;
                        if (c != '"' && c != '\\')
                                goto bad;
                }
                if (c < (quoted ? 32 : 33) || c > 126 || (!quoted && c == '"'))
                        goto bad;
                if (n == IDEMPOTENCY_KEY_MAX)
                        return ul_fail(e, UL_SYNTAX, "Idempotency-Key has at most %d characters",
                                       (int)IDEMPOTENCY_KEY_MAX);
                out[n++] = c;
        }
        if (n == 0 || closed != quoted)
                goto bad;
        *len = n;
        return 0;
bad:
        return ul_fail(e, UL_SYNTAX, "Idempotency-Key is a quoted string of printable characters");
}

/* Lengths stand before the texts, so that no two lists of parts look alike. */
static void add_part(struct buf *b, const void *data, size_t len)
{
        uint8_t size[8];
        put_le64(size, len);
        buf_append(b, size, sizeof size);
        buf_append(b, data, len);
}

int request_idempotency(struct request *req, const void *body, size_t len, struct idempotency *out,
                        struct errinfo *e)
{
        memset(out, 0, sizeof *out);
        const char *header = request_header(req, "Idempotency-Key");
        if (header == NULL)
                return 0;
        char key[IDEMPOTENCY_KEY_MAX + 1];
        size_t key_len = 0;
        int err = parse_idempotency_key(header, key, &key_len, e);
        if (err != 0)
                return err;
        struct buf parts = {0};
        add_part(&parts, req->actor, strlen(req->actor));
        add_part(&parts, req->method, strlen(req->method));
        add_part(&parts, req->route->pattern, strlen(req->route->pattern));
        add_part(&parts, key, key_len);
        if (!parts.failed)
                service_keyed_hash(req->service, parts.data, parts.len, out->key);
        bool failed = parts.failed;
        buf_free(&parts, true);

        /* the body alone may be large: its own hash stands for it */
        uint8_t body_hash[32];
        service_keyed_hash(req->service, body, len, body_hash);
        add_part(&parts, req->path, strlen(req->path));
        for (uint32_t i = 0; i < req->query_count; i++) {
                add_part(&parts, req->query[i].name, strlen(req->query[i].name));
                add_part(&parts, req->query[i].value, strlen(req->query[i].value));
        }
        add_part(&parts, body_hash, sizeof body_hash);
        if (!parts.failed)
                service_keyed_hash(req->service, parts.data, parts.len, out->body);
        failed |= parts.failed;
        buf_free(&parts, true);
        if (failed)
                return ul_fail(e, UL_NOMEM, "no memory for the idempotency key");
        out->present = true;
        return 0;
}

void reply_replayed(struct request *req, bool replayed)
{
        if (replayed)
                reply_header(req, "Idempotency-Replayed", "true");
}

/* --- lists --- */

int request_page(const struct request *req, struct page *out, struct errinfo *e)
{
        uint64_t limit = LIST_LIMIT_DEFAULT;
        int err = request_query_u64(req, "limit", 1, LIST_LIMIT_MAX, &limit, e);
        if (err != 0)
                return err;
        out->limit = (uint32_t)limit;
        out->cursor = request_query(req, "cursor");
        if (out->cursor != NULL && out->cursor[0] == '\0')
                return request_refuse_query(e, "cursor", "is empty");
        return 0;
}

static void link_param(struct buf *b, const char *name, const char *value, bool *first)
{
        buf_append_str(b, *first ? "?" : "&");
        *first = false;
        percent_encode(b, name, strlen(name));
        buf_append_str(b, "=");
        percent_encode(b, value, strlen(value));
}

void reply_next_cursor(struct request *req, struct json_writer *w, const char *next)
{
        jw_key(w, "next_cursor");
        if (next == NULL) {
                jw_null(w);
                return;
        }
        jw_string(w, next);
        struct buf link = {0};
        bool first = true;
        buf_append_str(&link, "<");
        buf_append_str(&link, req->path);
        for (uint32_t i = 0; i < req->query_count; i++) {
                if (strcmp(req->query[i].name, "cursor") != 0)
                        link_param(&link, req->query[i].name, req->query[i].value, &first);
        }
        link_param(&link, "cursor", next, &first);
        buf_append_str(&link, ">; rel=\"next\"");
        buf_append(&link, "", 1);
        if (!link.failed)
                reply_header(req, "Link", (const char *)link.data);
        buf_free(&link, true);
}
