/* SPDX-License-Identifier: Apache-2.0
 * suppression_import.c: POST /v1/suppressions:import: an export of another instance, streamed in.
 * It knows lines and answers; what a line says is suppression_file.c's business, what becomes of it
 * the service's. What came before a line that is refused stays imported, so the problem carries the
 * counts, as that of an upload does. */
#include "api/erasures.h"
#include "api/http_more.h"
#include "api/render.h"
#include "api/suppression_file.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMPORT_MAGIC = 0x73757069 };

struct import {
        uint32_t magic;
        struct suppression_import *service;
        struct suppression_reader reader;
        struct buf line; /* the beginning of the one that is coming in */
        bool waiting;    /* `view` was read and is not taken yet */
        struct suppression_view view;
        int err; /* the import ends with it, once nothing is in flight */
        struct errinfo e;
};

static void import_free(void *context)
{
        struct import *in = context;
        assert(in->magic == IMPORT_MAGIC);
        service_import_close(&in->service);
        buf_free(&in->line, false);
        in->magic = 0;
        free(in);
}

static struct import *import_of(struct request *req)
{
        struct import *in = request_context(req);
        assert(in != NULL && in->magic == IMPORT_MAGIC);
        return in;
}

static void import_wake(void *arg)
{
        request_wake(arg);
}

static int import_begin(struct request *req, struct errinfo *e)
{
        bool erase = false;
        int err = request_query_bool(req, "erase_held", &erase, e);
        if (err == 0 && !request_content_type_is(req, "application/x-ndjson"))
                err = ul_fail_field(e, UL_UNSUPPORTED, "Content-Type",
                                    "an export of suppressions is application/x-ndjson");
        if (err != 0)
                return err;
        struct import *in = calloc(1, sizeof(*in));
        if (in == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the import");
        in->magic = IMPORT_MAGIC;
        buf_init(&in->line, SUPPRESSION_LINE_MAX + 2);
        service_key_check(request_service(req), in->reader.key_check);
        request_set_context(req, in, import_free);
        return service_import_begin(request_service(req), request_actor(req), erase, import_wake,
                                    req, &in->service, e);
}

/* --- lines --- */

/* Gives the line that was read last to the service. */
static int pass_on(struct import *in, struct errinfo *e)
{
        if (!in->waiting)
                return 0;
        int err = service_import_add(in->service, &in->view, e);
        in->waiting = err == UL_AGAIN;
        return err;
}

static int take_line(struct import *in, const char *text, size_t len, struct errinfo *e)
{
        int err = suppression_read_line(&in->reader, text, len, &in->view, &in->waiting, e);
        return err == 0 ? pass_on(in, e) : err;
}

/* All that the data holds; *used is what need not be offered again. */
static int take_data(struct import *in, const char *data, size_t len, size_t *used,
                     struct errinfo *e)
{
        int err = pass_on(in, e);
        while (err == 0 && *used < len) {
                const char *at = data + *used;
                const char *newline = memchr(at, '\n', len - *used);
                size_t piece = newline != NULL ? (size_t)(newline - at) : len - *used;
                *used += piece + (newline != NULL);
                if (newline != NULL && in->line.len == 0) {
                        err = take_line(in, at, piece, e);
                        continue;
                }
                /* one byte over the limit is enough to be refused */
                size_t room = in->line.max - in->line.len;
                buf_append(&in->line, at, piece < room ? piece : room);
                if (in->line.failed)
                        err = ul_fail(e, UL_NOMEM, "no memory for a line");
                else if (newline != NULL || in->line.len == in->line.max)
                        err = take_line(in, (const char *)in->line.data, in->line.len, e);
                if (newline != NULL)
                        buf_reset(&in->line, false);
        }
        return err;
}

/* --- the answer --- */

static void write_counts(struct json_writer *w, const struct import_result *r)
{
        char id[ULID_TEXT + 1];
        const struct {
                const char *name;
                uint64_t value;
        } counts[] = {{"added", r->added},
                      {"already", r->already},
                      {"lifted", r->lifted},
                      {"held", r->held},
                      {"erasures", r->erasures}};
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                jw_member_u64(w, counts[i].name, counts[i].value);
        }
        jw_key(w, "held_pseudonyms");
        jw_array(w);
        for (uint64_t i = 0; i < r->held && i < IMPORT_SHOWN_MAX; i++)
                jw_hex(w, r->held_pseudonyms[i], PSEUDONYM_BYTES);
        jw_end_array(w);
        jw_key(w, "erasure_ids");
        jw_array(w);
        for (uint64_t i = 0; i < r->erasures && i < IMPORT_SHOWN_MAX; i++)
                jw_string(w, ulid_format(r->erasure_ids[i], id));
        jw_end_array(w);
        jw_key(w, "advice");
        if (r->held > 0 && r->erasures == 0)
                jw_string(w, "people are held here who are suppressed now, and nothing was taken "
                             "away: import the file again with erase_held=true to erase them");
        else
                jw_null(w);
}

static void import_failed(struct request *req, struct import *in)
{
        struct buf out = {0}, members = {0};
        struct json_writer w;
        const int status = problem_status(in->err);
        problem_write(&out, status, in->err, &in->e, NULL, request_path(req));
        jw_init(&w, &members);
        jw_object(&w);
        write_counts(&w, service_import_result(in->service));
        jw_end_object(&w);
        json_join(&out, &members);
        buf_free(&members, false);
        if (status == 503) {
                char seconds[16];
                snprintf(seconds, sizeof(seconds), "%u",
                         in->e.retry_after_s > 0 ? in->e.retry_after_s : 1);
                reply_header(req, "Retry-After", seconds);
        }
        reply_body(req, status, "application/problem+json", &out);
}

/* Keeps the first error, and gives it when the counts are final. */
static int conclude(struct request *req, struct import *in, int err, struct errinfo *e)
{
        if (err == 0 || err == UL_AGAIN)
                return err;
        if (in->err == 0) {
                in->err = err;
                in->e = *e;
        }
        if (service_import_finish(in->service, NULL) == UL_AGAIN)
                return UL_AGAIN;
        import_failed(req, in);
        return in->err;
}

static int import_data(struct request *req, const void *data, size_t len, size_t *consumed,
                       struct errinfo *e)
{
        struct import *in = import_of(req);
        int err = in->err != 0 ? in->err : take_data(in, data, len, consumed, e);
        return conclude(req, in, err, e);
}

static int import_end(struct request *req, struct errinfo *e)
{
        struct import *in = import_of(req);
        struct buf out = {0};
        struct json_writer w;
        int err = in->err != 0 ? in->err : pass_on(in, e);
        if (err == 0 && in->line.len > 0) { /* the last line needs no newline */
                err = take_line(in, (const char *)in->line.data, in->line.len, e);
                buf_reset(&in->line, false);
        }
        if (err == 0)
                err = suppression_read_end(&in->reader, e);
        if (err == 0)
                err = service_import_finish(in->service, e);
        if (err != 0)
                return conclude(req, in, err, e);
        jw_init(&w, &out);
        jw_object(&w);
        write_counts(&w, service_import_result(in->service));
        jw_end_object(&w);
        reply_json(req, 200, &out);
        return 0;
}

const struct upload_ops suppression_import_ops = {import_begin, import_data, import_end};
