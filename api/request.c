/* SPDX-License-Identifier: Apache-2.0
 * request.c: what handlers ask of a request: parameters, headers, body; and the request's birth,
 * waiting and end. It must not know routes' business nor how replies leave.
 * Parameters and bodies may hold ids of people: they are wiped with the request. */
#include "api/internal.h"
#include "lib/util/crypto.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- birth --- */

/* Methods are compared by text; one that no route can have needs no name of its own. */
static const char *method_text(const char *method)
{
        static const char *const known[] = {"GET",    "HEAD",  "POST",   "PUT",
                                            "DELETE", "PATCH", "OPTIONS"};
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
                if (strcmp(known[i], method) == 0)
                        return known[i];
        }
        return "OTHER";
}

struct request *request_create(struct server *srv, struct service *s, struct MHD_Connection *c,
                               const char *url, const char *method)
{
        struct request *req = calloc(1, sizeof *req);
        if (req == NULL)
                return NULL;
        req->path = strdup(url);
        if (req->path == NULL || pthread_mutex_init(&req->lock, NULL) != 0) {
                free(req->path);
                free(req);
                return NULL;
        }
        req->magic = REQUEST_MAGIC;
        req->server = srv;
        req->service = s;
        req->connection = c;
        req->peer = door_peer_of(c);
        req->method = method_text(method);
        req->head = strcmp(req->method, "HEAD") == 0;
        if (req->head)
                req->method = "GET";
        req->v2 = problem_is_v2_path(req->path);
        req->opendsr = problem_is_opendsr_path(req->path);
        req->started_us = mono_us();
        atomic_init(&req->references, 1);
        return req;
}

static bool id_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.' || c == ':' || c == '/' || c == '+' || c == '=';
}

void request_identify(struct request *req)
{
        const char *given = request_header(req, "X-Request-Id");
        size_t len = given != NULL ? strlen(given) : 0;
        bool good = len > 0 && len <= REQUEST_ID_MAX;
        for (size_t i = 0; good && i < len; i++)
                good = id_char(given[i]);
        if (good) {
                memcpy(req->id, given, len + 1);
                return;
        }
        uint8_t id[ULID_BYTES];
        ulid_make(id);
        ulid_format(id, req->id);
}

/* --- parameters --- */

struct query_walk {
        struct request *req;
        char *at; /* where the next text goes; NULL: only count */
        size_t bytes;
        uint32_t count;
        int err;
        struct errinfo *e;
};

int request_refuse_query(struct errinfo *e, const char *name, const char *why)
{
        bool printable = name[0] != '\0' && strlen(name) <= 64;
        for (const char *p = name; printable && *p != '\0'; p++)
                printable = *p > 32 && *p < 127;
        if (!printable)
                return ul_fail(e, UL_SYNTAX, "a query parameter %s", why);
        return ul_fail_field(e, UL_SYNTAX, name, "query parameter \"%s\" %s", name, why);
}

static bool query_known(const struct route *route, const char *name)
{
        for (const char *const *k = route->query; k != NULL && *k != NULL; k++) {
                if (strcmp(*k, name) == 0)
                        return true;
        }
        return false;
}

static void query_add(struct query_walk *walk, const char *key, size_t key_len, const char *value,
                      size_t value_len)
{
        struct request *req = walk->req;
        char *name = walk->at;
        /* libmicrohttpd has turned "+" into a space by now */
        long n = percent_decode(key, key_len, false, name);
        if (n < 0) {
                walk->err = request_refuse_query(walk->e, "", "is badly encoded");
                return;
        }
        char *text = name + n + 1;
        long m = percent_decode(value, value_len, false, text);
        walk->at = m >= 0 ? text + m + 1 : text;
        if (!query_known(req->route, name))
                walk->err = request_refuse_query(walk->e, name, "is not known here");
        else if (m < 0)
                walk->err = request_refuse_query(walk->e, name, "is badly encoded");
        else if (request_query(req, name) != NULL)
                walk->err = request_refuse_query(walk->e, name, "is given twice");
        else if (req->query_count == QUERY_PARAMS_MAX)
                walk->err = ul_fail(walk->e, UL_SYNTAX, "too many query parameters");
        if (walk->err != 0)
                return;
        req->query[req->query_count].name = name;
        req->query[req->query_count].value = text;
        req->query_count++;
}

static enum MHD_Result query_visit(void *arg, enum MHD_ValueKind kind, const char *key,
                                   size_t key_len, const char *value, size_t value_len)
{
        (void)kind;
        struct query_walk *walk = arg;
        if (walk->at != NULL && walk->err == 0)
                query_add(walk, key, key_len, value != NULL ? value : "",
                          value != NULL ? value_len : 0);
        walk->bytes += key_len + (value != NULL ? value_len : 0) + 2;
        walk->count++;
        return walk->err == 0 ? MHD_YES : MHD_NO;
}

int request_decode(struct request *req, const struct route_match *match, struct errinfo *e)
{
        struct query_walk walk = {.req = req, .e = e};
        MHD_get_connection_values_n(req->connection, MHD_GET_ARGUMENT_KIND, query_visit, &walk);
        size_t need = walk.bytes;
        for (uint32_t i = 0; i < match->param_count; i++)
                need += match->params[i].value_len + 1;
        if (need == 0)
                return 0;
        req->text = malloc(need);
        if (req->text == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the parameters");
        req->text_len = need;
        char *at = req->text;
        for (uint32_t i = 0; i < match->param_count; i++) {
                long n = percent_decode(match->params[i].value, match->params[i].value_len, false,
                                        at);
                if (n < 0)
                        return ul_fail(e, UL_SYNTAX,
                                       "the path is badly encoded: want %%XX, and never %%00");
                req->params[i].name = match->params[i].name;
                req->params[i].name_len = match->params[i].name_len;
                req->params[i].value = at;
                req->param_count++;
                at += n + 1;
        }
        walk.at = at;
        if (walk.count != 0)
                MHD_get_connection_values_n(req->connection, MHD_GET_ARGUMENT_KIND, query_visit,
                                            &walk);
        return walk.err;
}

const char *request_param(const struct request *req, const char *name)
{
        size_t len = strlen(name);
        for (uint32_t i = 0; i < req->param_count; i++) {
                if (req->params[i].name_len == len && memcmp(req->params[i].name, name, len) == 0)
                        return req->params[i].value;
        }
        return NULL;
}

const char *request_query(const struct request *req, const char *name)
{
        for (uint32_t i = 0; i < req->query_count; i++) {
                if (strcmp(req->query[i].name, name) == 0)
                        return req->query[i].value;
        }
        return NULL;
}

int request_query_bool(const struct request *req, const char *name, bool *out, struct errinfo *e)
{
        const char *v = request_query(req, name);
        if (v == NULL)
                return 0;
        if (strcmp(v, "true") == 0 || strcmp(v, "1") == 0)
                *out = true;
        else if (strcmp(v, "false") == 0 || strcmp(v, "0") == 0)
                *out = false;
        else
                return request_refuse_query(e, name, "is true or false");
        return 0;
}

int request_query_u64(const struct request *req, const char *name, uint64_t min, uint64_t max,
                      uint64_t *out, struct errinfo *e)
{
        const char *v = request_query(req, name);
        if (v == NULL)
                return 0;
        uint64_t n = 0;
        bool good = v[0] != '\0' && strlen(v) <= 20;
        for (const char *p = v; good && *p != '\0'; p++) {
                uint64_t digit = (uint64_t)(*p - '0');
                good = *p >= '0' && *p <= '9' && n <= (UINT64_MAX - digit) / 10;
                n = n * 10 + digit;
        }
        if (!good || n < min || n > max)
                return ul_fail_field(e, UL_SYNTAX, name,
                                     "query parameter \"%s\" is a whole number from %llu to %llu",
                                     name, (unsigned long long)min, (unsigned long long)max);
        *out = n;
        return 0;
}

int request_query_time(const struct request *req, const char *name, int64_t *out_ms,
                       struct errinfo *e)
{
        const char *v = request_query(req, name);
        if (v == NULL)
                return 0;
        if (!time_parse(v, strlen(v), out_ms))
                return request_refuse_query(e, name, "is a time such as 2026-01-31T09:00:00Z");
        return 0;
}

/* --- the plain accessors --- */

struct service *request_service(struct request *req)
{
        return req->service;
}

const char *request_method(const struct request *req)
{
        return req->method;
}

const char *request_path(const struct request *req)
{
        return req->path;
}

const char *request_actor(const struct request *req)
{
        return req->actor;
}

bool request_has_scope(const struct request *req, uint32_t scopes)
{
        return (req->scopes & (scopes | SCOPE_ADMIN)) != 0;
}

bool request_stopping(const struct request *req)
{
        return server_stopping(req->server);
}

void request_set_context(struct request *req, void *context, void (*cleanup)(void *context))
{
        assert(req->context == NULL && req->cleanup == NULL);
        req->context = context;
        req->cleanup = cleanup;
}

void *request_context(const struct request *req)
{
        return req->context;
}

const char *request_header(struct request *req, const char *name)
{
        return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

/* The type/subtype at `text`, without parameters: does it equal `wanted`? */
static bool media_type_equals(const char *text, size_t len, const char *wanted)
{
        while (len > 0 && (*text == ' ' || *text == '\t')) {
                text++;
                len--;
        }
        const char *semicolon = memchr(text, ';', len);
        if (semicolon != NULL)
                len = (size_t)(semicolon - text);
        while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
                len--;
        return strlen(wanted) == len && strncasecmp(text, wanted, len) == 0;
}

bool request_accepts(struct request *req, const char *media_type)
{
        const char *accept = request_header(req, "Accept");
        while (accept != NULL && *accept != '\0') {
                size_t len = strcspn(accept, ",");
                if (memchr(accept, '*', len) == NULL)
                        return media_type_equals(accept, len, media_type);
                accept += len + (accept[len] == ',');
        }
        return false;
}

bool request_content_type_is(struct request *req, const char *media_type)
{
        const char *type = request_header(req, "Content-Type");
        return type != NULL && media_type_equals(type, strlen(type), media_type);
}

/* --- the body --- */

enum { BODY_FIRST_BYTES = 64 * 1024 }; /* what an announced length is believed at first */

/* Bodies that came half and stay so must not take all the memory. Short ones do not count, so that
 * who holds many long ones does not keep the others from their predictions. */
static uint64_t body_charge(size_t cap)
{
        return cap > BODY_FIRST_BYTES ? cap : 0;
}

static bool body_reserve(struct server *srv, uint64_t bytes)
{
        if (bytes == 0 || atomic_fetch_add(&srv->body_bytes, bytes) + bytes <= srv->body_bytes_max)
                return true;
        atomic_fetch_sub(&srv->body_bytes, bytes);
        return false;
}

/* realloc would leave a copy of somebody's data behind where the block moves. */
static int body_grow(struct request *req, size_t need, struct errinfo *e)
{
        size_t cap = req->body_cap != 0 ? req->body_cap * 2 : need;
        if (cap < need)
                cap = need;
        if (!body_reserve(req->server, body_charge(cap))) {
                int err = ul_fail(e, UL_BUSY,
                                  "too many long bodies are coming in; try again in a "
                                  "second");
                e->retry_after_s = 1;
                return err;
        }
        uint8_t *data = malloc(cap);
        if (data == NULL) {
                atomic_fetch_sub(&req->server->body_bytes, body_charge(cap));
                return ul_fail(e, UL_NOMEM, "no memory for the body");
        }
        atomic_fetch_sub(&req->server->body_bytes, body_charge(req->body_cap));
        if (req->body != NULL) {
                memcpy(data, req->body, req->body_len);
                wipe(req->body, req->body_len);
                free(req->body);
        }
        req->body = data;
        req->body_cap = cap;
        return 0;
}

int request_body_append(struct request *req, const void *data, size_t len, struct errinfo *e)
{
        int err = 0;
        if (len > req->body_limit - req->body_len)
                return ul_fail(e, UL_TOO_LARGE, "the body is over the limit of %llu bytes",
                               (unsigned long long)req->body_limit);
        if (req->body == NULL) {
                const char *announced = request_header(req, "Content-Length");
                unsigned long long n = announced != NULL ? strtoull(announced, NULL, 10) : 0;
                size_t first = n < BODY_FIRST_BYTES ? (size_t)n : BODY_FIRST_BYTES;
                err = body_grow(req, (first > len ? first : len) + 1, e);
        }
        if (err == 0 && req->body_cap - req->body_len < len + 1)
                err = body_grow(req, req->body_len + len + 1, e);
        if (err != 0)
                return err;
        memcpy(req->body + req->body_len, data, len);
        req->body_len += len;
        req->body[req->body_len] = '\0';
        return 0;
}

const uint8_t *request_body(const struct request *req, size_t *len)
{
        *len = req->body_len;
        return req->body != NULL ? req->body : (const uint8_t *)"";
}

void request_body_wipe(struct request *req)
{
        if (req->body != NULL)
                wipe(req->body, req->body_len);
        free(req->body);
        atomic_fetch_sub(&req->server->body_bytes, body_charge(req->body_cap));
        req->body = NULL;
        req->body_len = req->body_cap = 0;
}

int request_json(struct request *req, struct json **out, struct errinfo *e)
{
        *out = NULL;
        if (request_header(req, "Content-Type") != NULL &&
            !request_content_type_is(req, "application/json"))
                return ul_fail(e, UL_UNSUPPORTED, "the body must be application/json");
        if (req->body_len == 0)
                return ul_fail(e, UL_SYNTAX, "a JSON body is needed");
        return json_parse((const char *)req->body, req->body_len, out, e);
}

/* --- waiting and the end --- */

void request_unref(struct request *req)
{
        if (atomic_fetch_sub_explicit(&req->references, 1, memory_order_acq_rel) != 1)
                return;
        req->magic = 0;
        pthread_mutex_destroy(&req->lock);
        free(req);
}

static void resume_locked(struct request *req)
{
        req->suspended = false;
        MHD_resume_connection(req->connection);
}

void request_complete_with(struct request *req, handler_fn finish)
{
        assert(req->magic == REQUEST_MAGIC);
        pthread_mutex_lock(&req->lock);
        assert(!req->completed && (req->reply.set || finish != NULL));
        req->completed = true;
        req->finish = finish;
        if (req->suspended)
                resume_locked(req);
        pthread_mutex_unlock(&req->lock);
        request_unref(req); /* the one that was taken for the handler */
}

void request_complete(struct request *req)
{
        request_complete_with(req, NULL);
}

void request_wake(struct request *req)
{
        assert(req->magic == REQUEST_MAGIC);
        atomic_fetch_add_explicit(&req->references, 1, memory_order_relaxed);
        pthread_mutex_lock(&req->lock);
        if (req->suspended && !req->pending)
                resume_locked(req);
        else
                req->woken = true;
        pthread_mutex_unlock(&req->lock);
        request_unref(req);
}

bool request_suspend_unless_completed(struct request *req)
{
        pthread_mutex_lock(&req->lock);
        bool wait = !req->completed;
        if (wait) {
                MHD_suspend_connection(req->connection);
                req->suspended = req->pending = true;
        }
        pthread_mutex_unlock(&req->lock);
        return wait;
}

bool request_suspend_unless_woken(struct request *req)
{
        pthread_mutex_lock(&req->lock);
        bool wait = !req->woken;
        req->woken = false;
        if (wait) {
                MHD_suspend_connection(req->connection);
                req->suspended = true;
        }
        pthread_mutex_unlock(&req->lock);
        return wait;
}

void request_yield(struct request *req)
{
        MHD_suspend_connection(req->connection);
        MHD_resume_connection(req->connection);
}

void request_end(struct request *req)
{
        if (req->cleanup != NULL)
                req->cleanup(req->context);
        req->cleanup = NULL;
        req->context = NULL;
        reply_clear(&req->reply);
        request_body_wipe(req);
        if (req->text != NULL)
                wipe(req->text, req->text_len);
        free(req->text);
        req->text = NULL;
        wipe(req->path, strlen(req->path));
        free(req->path);
        req->path = NULL;
}
