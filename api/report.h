/* SPDX-License-Identifier: Apache-2.0
 * report.h: the report of a period, for programs and for people. */
#ifndef UNLEARND_API_REPORT_H
#define UNLEARND_API_REPORT_H

#include "api/http.h"
#include "lib/util/page.h"

enum handler_result get_report(struct request *req);

/* render_report.c: pure */
void render_report(struct json_writer *w, const struct report_view *v);
/* One page of HTML that prints on paper: no script, nothing fetched. */
void render_report_html(struct buf *out, const struct report_view *v);
const char *report_page_policy(char out[PAGE_POLICY_SIZE]); /* its Content-Security-Policy */

#endif
