/* SPDX-License-Identifier: Apache-2.0
 * router.h: the one route table and its matching, pure. It works on the raw path: an id with an
 * encoded slash is one segment. It must not know connections or handlers' business. */
#ifndef UNLEARND_API_ROUTER_H
#define UNLEARND_API_ROUTER_H

#include "api/http.h"

enum { ROUTES_MAX = 256, ALLOW_MAX = 64, PATH_BYTES_MAX = 4096 };

struct route_table {
        uint32_t count;
        const struct route *routes[ROUTES_MAX]; /* most specific first, equal patterns together */
};
/* Joins arrays that end with method NULL; asserts that patterns are well formed and distinct. */
void route_table_build(struct route_table *t, const struct route *const *arrays, uint32_t n);
/* The daemon's own table (routes.c); built once, any thread. */
const struct route_table *route_table_default(void);

struct route_match {
        const struct route *route; /* NULL with 404 and 405 */
        uint32_t param_count;
        struct {
                const char *name; /* in the pattern, not terminated */
                size_t name_len;
                const char *value; /* in the path, raw */
                size_t value_len;
        } params[ROUTE_PARAMS_MAX];
        char allow[ALLOW_MAX]; /* 405: the methods there are */
};
/* 200, 404 or 405. HEAD finds GET. */
int route_find(const struct route_table *t, const char *method, const char *path,
               struct route_match *out);

/* Decodes %XX (and '+' as a space where `plus`); returns the length, or -1 for a bad escape or a
 * NUL. out holds len + 1 bytes. */
long percent_decode(const char *text, size_t len, bool plus, char *out);
/* Encodes everything but RFC 3986 unreserved characters. */
void percent_encode(struct buf *out, const char *text, size_t len);

#endif
