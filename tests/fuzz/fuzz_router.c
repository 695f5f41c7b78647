/* SPDX-License-Identifier: Apache-2.0
 * fuzz_router.c: request lines on the daemon's own routes, "METHOD PATH"; the text of the path is
 * also taken as the other texts that paths and queries carry: percent-encoded names, cursors,
 * pseudonyms, references, and the value of each kind of query parameter. */
#include "api/erasure_parse.h"
#include "api/http_more.h"
#include "api/internal.h"
#include "api/suppression_cursor.h"
#include "tests/fuzz/fuzz.h"

static const struct route_table *routes;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc, (void)argv;
        routes = route_table_default();
        return crypto_init();
}

static void check_encoding(const char *text, size_t len)
{
        char *plain = malloc(len + 1);
        struct buf encoded = {0};
        assert(plain != NULL);
        for (int plus = 0; plus < 2; plus++) {
                const long n = percent_decode(text, len, plus == 1, plain);
                assert(n >= -1 && n <= (long)len);
                if (n >= 0)
                        assert(strlen(plain) == (size_t)n);
        }
        if (memchr(text, '\0', len) != NULL)
                goto out; /* can be written, and is refused by the reader */
        percent_encode(&encoded, text, len);
        assert(!encoded.failed);
        char *again = malloc(encoded.len + 1);
        assert(again != NULL);
        const long n = percent_decode((const char *)encoded.data, encoded.len, true, again);
        assert(n == (long)len && memcmp(again, text, len) == 0);
        free(again);
out:
        free(plain);
        buf_free(&encoded, false);
}

static void check_match(const struct route_match *m, const char *method, const char *path)
{
        const char *end = path + strlen(path);
        assert(strcmp(m->route->method, strcmp(method, "HEAD") == 0 ? "GET" : method) == 0);
        assert(m->param_count <= ROUTE_PARAMS_MAX);
        for (uint32_t i = 0; i < m->param_count; i++) {
                const char *value = m->params[i].value;
                const size_t len = m->params[i].value_len;
                const bool rest = strstr(m->route->pattern, "...}") != NULL;
                assert(value >= path && value + len <= end);
                assert(rest || (len > 0 && memchr(value, '/', len) == NULL));
                check_encoding(value, len);
        }
}

static void check_route(const char *method, const char *path)
{
        struct route_match m;
        const int status = route_find(routes, method, path, &m);
        assert(status == 200 || status == 404 || status == 405);
        assert((status == 200) == (m.route != NULL));
        if (status == 200)
                check_match(&m, method, path);
        if (status == 405)
                assert(m.allow[0] != '\0' && strlen(m.allow) < ALLOW_MAX);
        (void)problem_is_v2_path(path);
}

static void check_texts(const char *text)
{
        struct suppression_cursor c, again;
        char out[SUPPRESSION_CURSOR_SIZE];
        uint8_t pseudonym[PSEUDONYM_BYTES];
        if (reference_valid(text, strlen(text)))
                assert(strlen(text) >= 1 && strlen(text) <= REFERENCE_MAX);
        if (pseudonym_parse(text, strlen(text), pseudonym))
                assert(strlen(text) == 2 * PSEUDONYM_BYTES);
        if (!suppression_cursor_parse(text, &c))
                return;
        /* A page that goes on at the cursor's own entry ends with a cursor that can be read. */
        (void)suppression_cursor_visit(&c, c.current);
        assert(suppression_cursor_parse(suppression_cursor_format(&c, out), &again));
        assert(memcmp(again.current, c.current, PSEUDONYM_BYTES) == 0);
        assert(again.has_previous == c.has_previous);
        assert(memcmp(again.previous, c.previous, PSEUDONYM_BYTES) == 0);
}

/* The value of a parameter that the route knows, each time of another kind. */
static void check_query(const char *text)
{
        static const char *const names[] = {"limit", "cursor", "since", "until", "model", "flag"};
        struct request req = {0};
        struct errinfo e = {0};
        struct page page;
        uint8_t ulid[ULID_BYTES];
        int64_t since = 0, until = 0;
        uint64_t n = 5;
        bool flag = false, seen = false;
        const char *model = NULL;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
                req.query[req.query_count++] =
                        (struct query_param){.name = names[i], .value = text};
        if (request_page(&req, &page, &e) == 0)
                assert(page.limit >= 1 && page.limit <= LIST_LIMIT_MAX && page.cursor == text);
        if (request_query_u64(&req, "limit", 3, UINT64_MAX, &n, &e) == 0)
                assert(n >= 3 && n == strtoull(text, NULL, 10));
        if (query_interval(&req, &since, &until, &e) == 0)
                assert(since >= 0 && since == until);
        if (query_model(&req, &model, &e) == 0)
                assert(model == text && model_name_valid(text, strlen(text)));
        if (request_query_bool(&req, "flag", &flag, &e) == 0)
                assert(strlen(text) <= 5);
        (void)query_ulid(&req, "cursor", &seen, ulid, &e);
        assert(seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *line = fuzz_text(data, size);
        char *blank = strchr(line, ' ');
        if (blank != NULL) {
                *blank = '\0';
                check_route(line, blank + 1);
                check_encoding(blank + 1, size - (size_t)(blank + 1 - line));
                check_texts(blank + 1);
                check_query(blank + 1);
        }
        free(line);
        return 0;
}
