/* SPDX-License-Identifier: Apache-2.0
 * router.c: finds the route of a raw path. The table is sorted once so that literals stand before
 * parameters; then the first pattern that matches decides, and the methods of that one pattern
 * alone make the Allow of a 405. Some fifty patterns are compared from the left, which costs less
 * than any index would. */
#include "api/router.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* --- patterns --- */

static size_t segment_length(const char *s)
{
        return strcspn(s, "/");
}

/* How specific a pattern's segment is: a lower number is tried first. */
static int segment_rank(const char *segment, size_t len)
{
        if (len == 0 || segment[0] != '{')
                return 0;
        if (segment[len - 1] != '}')
                return 1; /* {name}:suffix */
        return len > 4 && memcmp(segment + len - 4, "...", 3) == 0 ? 3 : 2;
}

static int compare_patterns(const char *a, const char *b)
{
        while (*a == '/' && *b == '/') {
                a++;
                b++;
                size_t a_len = segment_length(a), b_len = segment_length(b);
                int rank = segment_rank(a, a_len) - segment_rank(b, b_len);
                if (rank != 0)
                        return rank;
                size_t least = a_len < b_len ? a_len : b_len;
                int order = memcmp(a, b, least);
                if (order != 0)
                        return order;
                if (a_len != b_len)
                        return a_len > b_len ? -1 : 1;
                a += a_len;
                b += b_len;
        }
        return (*a == '/') - (*b == '/');
}

static int compare_routes(const void *a, const void *b)
{
        const struct route *const *x = a, *const *y = b;
        int order = compare_patterns((*x)->pattern, (*y)->pattern);
        return order != 0 ? order : strcmp((*x)->method, (*y)->method);
}

static void check_route(const struct route *r)
{
        assert(r->pattern[0] == '/');
        assert(strcmp(r->method, "HEAD") != 0);
        if (r->body == BODY_STREAMED)
                assert(r->upload != NULL && r->handle == NULL && r->body_max != 0);
        else
                assert(r->upload == NULL && r->handle != NULL);
        uint32_t params = 0;
        for (const char *p = strchr(r->pattern, '{'); p != NULL; p = strchr(p + 1, '{')) {
                assert(p[-1] == '/' && strchr(p, '}') != NULL);
                params++;
        }
        assert(params <= ROUTE_PARAMS_MAX);
}

void route_table_build(struct route_table *t, const struct route *const *arrays, uint32_t n)
{
        t->count = 0;
        for (uint32_t i = 0; i < n; i++) {
                for (const struct route *r = arrays[i]; r->method != NULL; r++) {
                        assert(t->count < ROUTES_MAX);
                        check_route(r);
                        t->routes[t->count++] = r;
                }
        }
        qsort(t->routes, t->count, sizeof t->routes[0], compare_routes);
        for (uint32_t i = 1; i < t->count; i++)
                assert(compare_routes(&t->routes[i - 1], &t->routes[i]) != 0);
}

/* --- matching --- */

static void add_param(struct route_match *m, const char *name, size_t name_len, const char *value,
                      size_t value_len)
{
        m->params[m->param_count].name = name;
        m->params[m->param_count].name_len = name_len;
        m->params[m->param_count].value = value;
        m->params[m->param_count].value_len = value_len;
        m->param_count++;
}

/* One segment of a pattern that starts with '{' against one segment of the path. */
static bool match_parameter(const char *pattern, size_t pattern_len, const char *path,
                            size_t path_len, struct route_match *m)
{
        const char *close = memchr(pattern, '}', pattern_len);
        const char *suffix = close + 1;
        size_t suffix_len = (size_t)(pattern + pattern_len - suffix);
        if (path_len <= suffix_len)
                return false;
        if (memcmp(path + path_len - suffix_len, suffix, suffix_len) != 0)
                return false;
        add_param(m, pattern + 1, (size_t)(close - pattern - 1), path, path_len - suffix_len);
        return true;
}

static bool match_pattern(const char *pattern, const char *path, struct route_match *m)
{
        m->param_count = 0;
        while (*pattern == '/' && *path == '/') {
                pattern++;
                path++;
                size_t pattern_len = segment_length(pattern), path_len = segment_length(path);
                switch (segment_rank(pattern, pattern_len)) {
                case 0:
                        if (pattern_len != path_len || memcmp(pattern, path, path_len) != 0)
                                return false;
                        break;
                case 3:
                        add_param(m, pattern + 1, pattern_len - 5, path, strlen(path));
                        return true;
                default:
                        if (!match_parameter(pattern, pattern_len, path, path_len, m))
                                return false;
                }
                pattern += pattern_len;
                path += path_len;
        }
        return *pattern == '\0' && *path == '\0';
}

static void allow_append(char allow[ALLOW_MAX], const char *method)
{
        size_t used = strlen(allow);
        size_t need = strlen(method) + (used != 0 ? 2 : 0);
        if (used + need + 1 > ALLOW_MAX)
                return;
        if (used != 0) {
                memcpy(allow + used, ", ", 2);
                used += 2;
        }
        memcpy(allow + used, method, strlen(method) + 1);
}

int route_find(const struct route_table *t, const char *method, const char *path,
               struct route_match *out)
{
        const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
        memset(out, 0, sizeof *out);
        const char *pattern = NULL;
        for (uint32_t i = 0; i < t->count; i++) {
                const struct route *r = t->routes[i];
                if (pattern != NULL) {
                        if (strcmp(pattern, r->pattern) != 0)
                                break;
                } else if (match_pattern(r->pattern, path, out)) {
                        pattern = r->pattern;
                } else {
                        continue;
                }
                if (strcmp(r->method, wanted) == 0) {
                        out->route = r;
                        return 200;
                }
                allow_append(out->allow, r->method);
                if (strcmp(r->method, "GET") == 0)
                        allow_append(out->allow, "HEAD");
        }
        return pattern != NULL ? 405 : 404;
}

/* --- percent-encoding (RFC 3986, section 2.1) --- */

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

long percent_decode(const char *text, size_t len, bool plus, char *out)
{
        size_t n = 0;
        for (size_t i = 0; i < len; i++) {
                char c = text[i];
                if (c == '+' && plus) {
                        c = ' ';
                } else if (c == '%') {
                        int high = i + 1 < len ? hex_digit(text[i + 1]) : -1;
                        int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;
                        if (high < 0 || low < 0)
                                return -1;
                        c = (char)(high * 16 + low);
                        i += 2;
                }
                if (c == '\0')
                        return -1;
                out[n++] = c;
        }
        out[n] = '\0';
        return (long)n;
}

void percent_encode(struct buf *out, const char *text, size_t len)
{
        static const char digits[] = "0123456789ABCDEF";
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)text[i];
                bool unreserved = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                                  (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' ||
                                  c == '~';
                char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
                if (unreserved)
                        buf_append(out, text + i, 1);
                else
                        buf_append(out, escaped, sizeof escaped);
        }
}
