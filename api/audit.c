/* SPDX-License-Identifier: Apache-2.0
 * audit.c: /v1/audit: entries by page, as a streamed export and one by one, and the proofs, the
 * checkpoint and the key that they are checked with. Subject and record filters are raw ids: they
 * are hashed when they are read, and no message or log line repeats them. */
#include "api/http_more.h"
#include "api/render.h"
#include "api/report.h"
#include "api/routes.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
        EXPORT_MAGIC = 0x61657870,
        EXPORT_PIECE_BYTES = 32 * 1024,
};

/* A query with the memory that its pointers need; the texts are the request's. */
struct filter {
        struct audit_query query;
        uint8_t erasure[ULID_BYTES];
        uint8_t subject[PSEUDONYM_BYTES], record[PSEUDONYM_BYTES];
};

static int read_type(const struct request *req, const char **out, struct errinfo *e)
{
        enum { TYPE_MAX = 64 };
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._";
        const char *text = request_query(req, "type");
        if (text != NULL &&
            (text[0] == '\0' || strlen(text) > TYPE_MAX || strspn(text, allowed) != strlen(text)))
                return ul_fail_field(e, UL_SYNTAX, "type", "type must match [a-z0-9._]{1,%d}",
                                     TYPE_MAX);
        *out = text;
        return 0;
}

static int read_pseudonym(struct request *req, const char *name, uint8_t hash[PSEUDONYM_BYTES],
                          const uint8_t **out, struct errinfo *e)
{
        const char *text = request_query(req, name);
        if (text == NULL)
                return 0;
        *out = hash;
        return pseudonym_of_text(request_service(req), name, text, hash, e);
}

static int read_keys(struct request *req, struct filter *f, struct errinfo *e)
{
        bool seen = false;
        int err = read_type(req, &f->query.type, e);
        if (err == 0)
                err = query_model(req, &f->query.model, e);
        if (err == 0)
                err = query_reference(req, &f->query.reference, e);
        if (err == 0)
                err = query_ulid(req, "erasure", &seen, f->erasure, e);
        if (err == 0 && seen)
                f->query.erasure = f->erasure;
        if (err == 0)
                err = read_pseudonym(req, "subject", f->subject, &f->query.subject, e);
        if (err == 0)
                err = read_pseudonym(req, "record", f->record, &f->query.record, e);
        return err;
}

static int read_filter(struct request *req, struct filter *f, struct errinfo *e)
{
        static const char *const orders[] = {"asc", "desc", NULL};
        const char *order = NULL;
        int err = read_keys(req, f, e);
        if (err == 0)
                err = query_interval(req, &f->query.since_ms, &f->query.until_ms, e);
        if (err == 0)
                err = query_choice(req, "order", orders, &order, e);
        f->query.descending = order != NULL && strcmp(order, "desc") == 0;
        f->query.from = f->query.descending ? UINT64_MAX : 0;
        return err;
}

/* --- one page --- */

struct walk {
        struct list list;
        uint64_t over; /* the first entry of the next page */
};

static int list_entry(void *arg, const struct audit_view *v)
{
        struct walk *w = arg;
        if (list_full(&w->list)) {
                w->over = v->index;
                return 1;
        }
        render_audit_entry(&w->list.w, v);
        return 0;
}

/* Goes on until the page is full, the log is at its end or the time is up. */
static int fill_page(struct service *s, struct audit_query *q, struct walk *w, struct errinfo *e)
{
        uint64_t start = mono_us();
        do {
                uint64_t next = UINT64_MAX;
                int err = service_audit_query(s, q, list_entry, w, &next, e);
                if (err < 0)
                        return err;
                q->from = w->list.more ? w->over : next;
        } while (!w->list.more && q->from != UINT64_MAX && mono_us() - start < PAGE_BUDGET_US);
        w->list.more = q->from != UINT64_MAX;
        if (w->list.more) {
                struct buf text = {.max = LIST_CURSOR_MAX};
                buf_printf(&text, "%llu", (unsigned long long)q->from);
                if (!text.failed) {
                        memcpy(w->list.next, text.data, text.len);
                        w->list.next[text.len] = '\0';
                }
                buf_free(&text, false);
        }
        return 0;
}

static enum handler_result list_page(struct request *req, struct filter *f)
{
        struct errinfo e = {0};
        struct page page;
        struct walk w = {0};
        int err = request_page(req, &page, &e);
        if (err == 0 && page.cursor != NULL)
                err = request_query_u64(req, "cursor", 0, UINT64_MAX - 1, &f->query.from, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        list_begin(&w.list, page.limit);
        err = fill_page(request_service(req), &f->query, &w, &e);
        return list_reply(req, &w.list, err, &e);
}

/* --- everything that matches, in constant memory --- */

struct export
{
        uint32_t magic;
        bool csv, started;
        int err; /* of an entry that could not be written */
        struct filter filter;
        struct buf *out; /* during a call */
};

static void export_free(void *context)
{
        struct export *x = context;
        assert(x->magic == EXPORT_MAGIC);
        wipe(x, sizeof(*x));
        free(x);
}

static int export_entry(void *arg, const struct audit_view *v)
{
        struct export *x = arg;
        struct json_writer w;
        if (x->csv) {
                x->err = render_audit_csv(x->out, v);
        } else {
                jw_init(&w, x->out);
                render_audit_entry(&w, v);
                buf_append(x->out, "\n", 1);
        }
        return x->err != 0 || x->out->failed || x->out->len >= EXPORT_PIECE_BYTES;
}

static int export_piece(struct request *req, void *arg, struct buf *out)
{
        struct export *x = arg;
        struct errinfo e = {0};
        uint64_t next = UINT64_MAX;
        assert(x->magic == EXPORT_MAGIC);
        if (request_stopping(req))
                return UL_CLOSED;
        if (x->csv && !x->started)
                buf_append_str(out, render_audit_csv_header);
        x->started = true;
        x->out = out;
        int err = service_audit_query(request_service(req), &x->filter.query, export_entry, x,
                                      &next, &e);
        x->out = NULL;
        if (err < 0)
                return err;
        if (x->err != 0)
                return x->err;
        if (out->failed)
                return UL_NOMEM;
        x->filter.query.from = next;
        return next != UINT64_MAX;
}

static enum handler_result export_entries(struct request *req, const struct filter *f, bool csv)
{
        struct errinfo e = {0};
        int err = query_unpaged(req, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        struct export *x = calloc(1, sizeof(*x));
        if (x == NULL)
                return reply_problem(req, UL_NOMEM, NULL);
        x->magic = EXPORT_MAGIC;
        x->csv = csv;
        x->filter = *f;
        /* what points into the filter must point into the copy */
        x->filter.query.erasure = f->query.erasure != NULL ? x->filter.erasure : NULL;
        x->filter.query.subject = f->query.subject != NULL ? x->filter.subject : NULL;
        x->filter.query.record = f->query.record != NULL ? x->filter.record : NULL;
        request_set_context(req, x, export_free);
        return reply_stream(req, 200, csv ? "text/csv; charset=utf-8" : "application/x-ndjson",
                            export_piece, x);
}

static enum handler_result query_log(struct request *req)
{
        struct errinfo e = {0};
        struct filter f = {0};
        int err = read_filter(req, &f, &e);
        if (err != 0)
                return reply_problem(req, err, &e);
        if (request_accepts(req, "application/x-ndjson"))
                return export_entries(req, &f, false);
        if (request_accepts(req, "text/csv"))
                return export_entries(req, &f, true);
        return list_page(req, &f);
}

/* --- one entry and the proofs --- */

static int write_entry(void *arg, const struct audit_view *v)
{
        render_audit_entry(arg, v);
        return 0;
}

static enum handler_result get_entry(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        struct json_writer w;
        uint64_t index = 0;
        jw_init(&w, &out);
        int err = param_u64(req, "index", &index, &e);
        if (err == 0)
                err = service_audit_get(request_service(req), index, write_entry, &w, &e);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        return reply_json(req, 200, &out);
}

/* What the service refuses of a proof's numbers came as query parameters: malformed, not invalid
 * content. */
static int as_query_error(int err)
{
        return err == UL_INVALID ? UL_SYNTAX : err;
}

static enum handler_result get_inclusion(struct request *req)
{
        struct errinfo e = {0};
        struct audit_proof proof = {0};
        struct buf out = {0};
        struct json_writer w;
        uint64_t index = 0, size = 0;
        int err = param_u64(req, "index", &index, &e);
        if (err == 0)
                err = request_query_u64(req, "size", 1, UINT64_MAX - 1, &size, &e);
        if (err == 0)
                err = service_audit_inclusion(request_service(req), index, size, &proof, &e);
        if (err != 0)
                return reply_problem(req, as_query_error(err), &e);
        jw_init(&w, &out);
        render_inclusion(&w, &proof);
        audit_proof_clear(&proof);
        return reply_json(req, 200, &out);
}

static int required(const struct request *req, const char *name, uint64_t *out, struct errinfo *e)
{
        if (request_query(req, name) == NULL)
                return ul_fail_field(e, UL_SYNTAX, name, "query parameter \"%s\" is needed", name);
        return request_query_u64(req, name, 1, UINT64_MAX - 1, out, e);
}

static enum handler_result get_consistency(struct request *req)
{
        struct errinfo e = {0};
        struct audit_proof proof = {0};
        struct buf out = {0};
        struct json_writer w;
        uint64_t from = 0, to = 0;
        int err = required(req, "from", &from, &e);
        if (err == 0)
                err = required(req, "to", &to, &e);
        if (err == 0 && from > to)
                err = ul_fail_field(&e, UL_SYNTAX, "from", "from must not be over to");
        if (err == 0)
                err = service_audit_consistency(request_service(req), from, to, &proof, &e);
        if (err != 0)
                return reply_problem(req, as_query_error(err), &e);
        jw_init(&w, &out);
        render_consistency(&w, from, to, &proof);
        audit_proof_clear(&proof);
        return reply_json(req, 200, &out);
}

static enum handler_result get_checkpoint(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        bool cosigned = false;
        int err = request_query_bool(req, "cosigned", &cosigned, &e);
        if (err == 0)
                err = cosigned ? service_audit_cosigned(request_service(req), &out, &e)
                               : service_audit_checkpoint(request_service(req), &out, &e);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        return reply_body(req, 200, "text/plain; charset=utf-8", &out);
}

static enum handler_result get_tile(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        bool full = false;
        int err = service_audit_tile(request_service(req), request_param(req, "tile"), &out, &full,
                                     &e);
        if (err != 0) {
                buf_free(&out, false);
                return reply_problem(req, err, &e);
        }
        reply_header(req, "Cache-Control",
                     full ? "private, max-age=31536000, immutable" : "no-store");
        return reply_body(req, 200, "application/octet-stream", &out);
}

static enum handler_result get_key(struct request *req)
{
        struct buf out = {0};
        buf_append_str(&out, service_audit_vkey(request_service(req)));
        return reply_body(req, 200, "text/plain; charset=utf-8", &out);
}

static int write_key(void *arg, const struct audit_key_view *v)
{
        struct json_writer *w = arg;
        jw_object(w);
        jw_member_string(w, "vkey", v->vkey);
        jw_member_bool(w, "current", v->current);
        jw_key(w, "announced");
        if (v->announced != UINT64_MAX)
                jw_u64(w, v->announced);
        else
                jw_null(w);
        jw_member_text(w, "entry", v->entry);
        jw_key(w, "handover");
        if (v->handover_len > 0)
                jw_string_n(w, v->handover, v->handover_len);
        else
                jw_null(w);
        jw_end_object(w);
        return 0;
}

static enum handler_result get_keys(struct request *req)
{
        struct errinfo e = {0};
        struct buf out = {0};
        struct json_writer w;
        items_begin(&w, &out);
        int err = service_audit_keys(request_service(req), write_key, &w, &e);
        return items_reply(req, &w, err, &e);
}

static const char *const log_query[] = {"type",   "model",     "erasure", "subject",
                                        "record", "reference", "since",   "until",
                                        "order",  "limit",     "cursor",  NULL};
static const char *const report_query[] = {"since", "until", NULL};
static const char *const inclusion_query[] = {"size", NULL};
static const char *const checkpoint_query[] = {"cosigned", NULL};
static const char *const consistency_query[] = {"from", "to", NULL};

const struct route audit_routes[] = {
        {.method = "GET",
         .pattern = "/v1/audit",
         .scopes = SCOPE_AUDIT,
         .query = log_query,
         .handle = query_log},
        {.method = "GET",
         .pattern = "/v1/audit/{index}",
         .scopes = SCOPE_AUDIT,
         .handle = get_entry},
        {.method = "GET",
         .pattern = "/v1/audit/{index}/proof",
         .scopes = SCOPE_AUDIT,
         .query = inclusion_query,
         .handle = get_inclusion},
        {.method = "GET",
         .pattern = "/v1/audit/report",
         .scopes = SCOPE_AUDIT,
         .query = report_query,
         .handle = get_report},
        {.method = "GET",
         .pattern = "/v1/audit/consistency",
         .scopes = SCOPE_AUDIT,
         .query = consistency_query,
         .handle = get_consistency},
        {.method = "GET",
         .pattern = "/v1/audit/checkpoint",
         .scopes = SCOPE_AUDIT,
         .query = checkpoint_query,
         .handle = get_checkpoint},
        {.method = "GET",
         .pattern = "/v1/audit/tile/{tile...}",
         .scopes = SCOPE_AUDIT,
         .handle = get_tile},
        {.method = "GET", .pattern = "/v1/audit/key", .scopes = SCOPE_AUDIT, .handle = get_key},
        {.method = "GET", .pattern = "/v1/audit/keys", .scopes = SCOPE_AUDIT, .handle = get_keys},
        {.method = NULL},
};
