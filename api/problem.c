/* SPDX-License-Identifier: Apache-2.0
 * problem.c: errors as clients see them: the one table from ul_err to status, RFC 9457 problem
 * details, and the shapes that the Open Inference Protocol and OpenDSR have for them. Pure: it
 * knows neither requests nor connections. */
#include "api/http.h"
#include <string.h>

static const struct {
        int err;
        int status;
        const char *title;
} errors[] = {
        {UL_SYNTAX, 400, "The request is malformed"},
        {UL_INVALID, 422, "The content is not valid"},
        {UL_NOT_FOUND, 404, "There is no such thing"},
        {UL_EXISTS, 409, "A thing of that name exists"},
        {UL_CONFLICT, 409, "Not possible in the present state"},
        {UL_TOO_LARGE, 413, "The content is too large"},
        {UL_UNSUPPORTED, 415, "The media type or encoding is not served"},
        {UL_MISMATCH, 422, "The idempotency key was used with another request"},
        {UL_BUSY, 503, "The service is busy"},
        {UL_UNAVAILABLE, 503, "Not available at the moment"},
        {UL_CLOSED, 503, "The service is stopping"},
        {UL_IO, 500, "Input or output failed"},
        {UL_NOSPACE, 503, "There is no space left"},
        {UL_NOMEM, 503, "There is no memory left"},
        {UL_CORRUPT, 500, "Stored data is damaged"},
        {UL_FENCED, 409, "The work was superseded"},
        {UL_TIMEOUT, 503, "The service did not answer in time"},
        {UL_INTERNAL, 500, "Internal error"},
        {UL_DAMAGED, 500, "Rows on disk are damaged"},
        {UL_AGAIN, 503, "The service is busy"},
        {UL_GONE, 410, "No longer kept"},
};

static const struct {
        int status;
        const char *title;
} titles[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
};

int problem_status(int err)
{
        for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
                if (errors[i].err == err)
                        return errors[i].status;
        }
        return 500;
}

const char *problem_title(int status)
{
        for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++) {
                if (titles[i].status == status)
                        return titles[i].title;
        }
        return "Error";
}

static const char *title_of(int status, int err)
{
        for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
                if (err != 0 && errors[i].err == err)
                        return errors[i].title;
        }
        return problem_title(status);
}

/* An explanation never holds more than the caller put there; a 500 without one says nothing. */
static const char *detail_of(int status, const struct errinfo *e, const char *detail)
{
        if (detail != NULL && detail[0] != '\0')
                return detail;
        if (e != NULL && e->detail[0] != '\0')
                return e->detail;
        return problem_title(status);
}

void problem_write(struct buf *out, int status, int err, const struct errinfo *e,
                   const char *detail, const char *instance)
{
        struct json_writer w;
        jw_init(&w, out);
        jw_object(&w);
        jw_key(&w, "type");
        if (err != 0) {
                char type[64] = "urn:unlearnd:problem:";
                size_t used = strlen(type);
                strncat(type, ul_err_name(err), sizeof type - used - 1);
                jw_string(&w, type);
        } else {
                jw_string(&w, "about:blank");
        }
        jw_member_string(&w, "title", title_of(status, err));
        jw_member_i64(&w, "status", status);
        jw_member_string(&w, "detail", detail_of(status, e, detail));
        if (instance != NULL)
                jw_member_string(&w, "instance", instance);
        if (e != NULL && e->field[0] != '\0') {
                jw_key(&w, "errors");
                jw_array(&w);
                jw_object(&w);
                jw_member_string(&w, "pointer", e->field);
                jw_member_string(&w, "detail", detail_of(status, e, detail));
                jw_end_object(&w);
                jw_end_array(&w);
        }
        jw_end_object(&w);
}

void problem_write_v2(struct buf *out, int status, const struct errinfo *e, const char *detail)
{
        struct buf text = {0};
        buf_append_str(&text, detail_of(status, e, detail));
        if (e != NULL && e->field[0] != '\0')
                buf_printf(&text, " (at %s)", e->field);
        struct json_writer w;
        jw_init(&w, out);
        jw_object(&w);
        jw_key(&w, "error");
        if (text.failed)
                jw_string(&w, problem_title(status));
        else
                jw_string_n(&w, (const char *)text.data, text.len);
        jw_end_object(&w);
        buf_free(&text, false);
}

/* What a client wrote is never repeated: pointers name the specification's own fields. */
void problem_write_opendsr(struct buf *out, int status, int err, const struct errinfo *e,
                           const char *detail)
{
        struct buf text = {0};
        struct json_writer w;
        if (e != NULL && e->field[0] != '\0')
                buf_printf(&text, "%s: ", e->field[0] == '/' ? e->field + 1 : e->field);
        buf_append_str(&text, detail_of(status, e, detail));
        buf_append(&text, "", 1);
        const char *message = text.failed ? problem_title(status) : (const char *)text.data;
        jw_init(&w, out);
        jw_object(&w);
        jw_key(&w, "error");
        jw_object(&w);
        jw_member_i64(&w, "code", status);
        jw_member_string(&w, "message", message);
        jw_key(&w, "errors");
        jw_array(&w);
        jw_object(&w);
        jw_member_string(&w, "domain", status == 400 ? "Validation" : "Processor");
        jw_member_string(&w, "reason", err != 0 ? ul_err_name(err) : problem_title(status));
        jw_member_string(&w, "message", message);
        jw_end_object(&w);
        jw_end_array(&w);
        jw_end_object(&w);
        jw_end_object(&w);
        buf_free(&text, true);
}

bool problem_is_opendsr_path(const char *path)
{
        static const char prefix[] = "/opendsr/";
        return strncmp(path, prefix, sizeof prefix - 1) == 0;
}

bool problem_is_v2_path(const char *path)
{
        return strncmp(path, "/v2", 3) == 0 && (path[3] == '\0' || path[3] == '/');
}
