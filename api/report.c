/* SPDX-License-Identifier: Apache-2.0
 * report.c: GET /v1/audit/report. The count goes over all erasures in bounded steps between other
 * connections' turns; what is sent is one document at the end. */
#include "api/report.h"
#include "api/http_more.h"
#include <stdlib.h>

struct reporting {
        struct report *report;
        bool html;
};

static void reporting_free(void *context)
{
        struct reporting *r = context;
        service_report_free(&r->report);
        free(r);
}

static int report_piece(struct request *req, void *arg, struct buf *out)
{
        struct reporting *r = arg;
        struct errinfo e = {0};
        struct report_view view;
        struct json_writer w;
        bool done = false;
        if (request_stopping(req))
                return UL_CLOSED;
        int err = service_report_step(r->report, &done, &e);
        if (err != 0)
                return err;
        if (!done)
                return 1;
        service_report_view(r->report, &view);
        if (r->html) {
                render_report_html(out, &view);
        } else {
                jw_init(&w, out);
                render_report(&w, &view);
        }
        return out->failed ? UL_NOMEM : 0;
}

enum handler_result get_report(struct request *req)
{
        struct errinfo e = {0};
        int64_t since_ms = 0, until_ms = 0;
        int err = query_interval(req, &since_ms, &until_ms, &e);
        struct reporting *r = err == 0 ? calloc(1, sizeof(*r)) : NULL;
        if (err == 0 && r == NULL)
                err = ul_fail(&e, UL_NOMEM, "no memory for a report");
        if (err == 0)
                err = service_report_begin(request_service(req), since_ms, until_ms, &r->report,
                                           &e);
        if (err != 0) {
                free(r);
                return reply_problem(req, err, &e);
        }
        r->html = request_accepts(req, "text/html");
        request_set_context(req, r, reporting_free);
        if (r->html) {
                char policy[PAGE_POLICY_SIZE];
                reply_page_headers(req, report_page_policy(policy));
        }
        return reply_stream(req, 200, r->html ? "text/html; charset=utf-8" : "application/json",
                            report_piece, r);
}
