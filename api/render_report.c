/* SPDX-License-Identifier: Apache-2.0
 * render_report.c: the report of a period as JSON and as a page; see report.h. It must not know
 * where the numbers come from. */
#include "api/report.h"
#include <stdio.h>
#include <string.h>

/* --- JSON --- */

static void member_times(struct json_writer *w, const char *key, const struct report_times *t)
{
        const struct {
                const char *key;
                double value;
        } members[] = {{"median", t->median_s}, {"mean", t->mean_s}, {"worst", t->worst_s}};
        jw_key(w, key);
        jw_object(w);
        jw_member_u64(w, "count", t->count);
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
                jw_key(w, members[i].key);
                if (t->count == 0)
                        jw_null(w);
                else
                        jw_double(w, members[i].value);
        }
        jw_end_object(w);
}

static void member_reasons(struct json_writer *w, const char *key, const uint64_t *counts,
                           const char *(*name)(uint32_t code))
{
        jw_key(w, key);
        jw_object(w);
        for (uint32_t i = 1; i < REPORT_REASONS; i++)
                if (counts[i] > 0 && name(i) != NULL)
                        jw_member_u64(w, name(i), counts[i]);
        jw_end_object(w);
}

static void group_members(struct json_writer *w, const struct report_group *g)
{
        jw_member_u64(w, "received", g->received);
        jw_member_u64(w, "completed", g->completed);
        jw_member_u64(w, "refused", g->refused);
        jw_member_u64(w, "pending", g->pending);
        jw_member_u64(w, "held", g->held);
        jw_member_u64(w, "in_time", g->in_time);
        jw_member_u64(w, "overdue", g->overdue);
        jw_member_u64(w, "overdue_pending", g->overdue_pending);
        jw_member_u64(w, "extended", g->extended);
        member_reasons(w, "refused_by_reason", g->refused_for, service_refusal_reason);
        member_reasons(w, "extended_by_reason", g->extended_for, service_extension_reason);
        member_times(w, "seconds_to_forgotten", &g->forgotten);
        member_times(w, "seconds_to_completed", &g->completed_in);
        member_times(w, "seconds_to_answer", &g->answered);
}

void render_report(struct json_writer *w, const struct report_view *v)
{
        jw_object(w);
        jw_member_time(w, "since", v->since_ms);
        jw_member_time(w, "until", v->until_ms);
        jw_member_time(w, "generated_at", v->generated_ms);
        jw_member_string(w, "log", v->log_name);
        jw_key(w, "total");
        jw_object(w);
        group_members(w, v->total);
        jw_end_object(w);
        jw_key(w, "by_regulation");
        jw_array(w);
        for (uint32_t i = 0; i < v->group_count; i++) {
                const struct report_group *g = &v->groups[i];
                if (g->received == 0)
                        continue;
                jw_object(w);
                jw_member_text(w, "regulation", g->regulation);
                group_members(w, g);
                jw_end_object(w);
        }
        jw_end_array(w);
        jw_end_object(w);
}

/* --- a page --- */

static const char style[] =
        "body{font:11pt/1.4 Georgia,serif;max-width:48em;margin:2em auto;padding:0 1em}\n"
        "table{border-collapse:collapse;width:100%}\n"
        "th,td{border-bottom:1px solid #999;padding:.25em .5em;text-align:right}\n"
        "th:first-child,td:first-child{text-align:left}\n"
        "tr.part td:first-child{padding-left:2em}\n"
        "caption{text-align:left;font-weight:bold;padding:1em 0 .5em}\n"
        "footer{font-size:9pt;margin-top:2em;overflow-wrap:anywhere}\n"
        "@media print{body{margin:0;max-width:none}}\n";

const char *report_page_policy(char out[PAGE_POLICY_SIZE])
{
        return page_policy(style, out);
}

/* 0.012 s, 3.4 min, 5.1 h, 12.0 days */
static void duration(struct buf *out, uint64_t count, double seconds)
{
        if (count == 0)
                buf_append_str(out, "&ndash;");
        else if (seconds < 60)
                buf_printf(out, "%.3g s", seconds);
        else if (seconds < 3600)
                buf_printf(out, "%.1f min", seconds / 60);
        else if (seconds < 48 * 3600.0)
                buf_printf(out, "%.1f h", seconds / 3600);
        else
                buf_printf(out, "%.1f days", seconds / 86400);
}

static void period(struct buf *out, const struct report_view *v)
{
        char text[RFC3339_SIZE];
        buf_append_str(out, "<p>Received ");
        if (v->since_ms != 0)
                buf_printf(out, "from %s ", time_format(v->since_ms, text));
        if (v->until_ms != 0)
                buf_printf(out, "until %s ", time_format(v->until_ms, text));
        if (v->since_ms == 0 && v->until_ms == 0)
                buf_append_str(out, "at any time ");
        buf_printf(out, "(UTC); as of %s.</p>\n", time_format(v->generated_ms, text));
}

static const struct report_group *column(const struct report_view *v, uint32_t i)
{
        return i < v->group_count ? &v->groups[i] : v->total;
}

/* Those of which there are any, and the total. */
static bool shown(const struct report_view *v, uint32_t i)
{
        return i == v->group_count || v->groups[i].received > 0;
}

static void heading(struct buf *out, const struct report_view *v, const char *caption)
{
        buf_printf(out, "<table>\n<caption>%s</caption>\n<tr><th></th>", caption);
        for (uint32_t i = 0; i <= v->group_count; i++) {
                if (!shown(v, i))
                        continue;
                const char *name = column(v, i)->regulation;
                buf_append_str(out, "<th>");
                if (i == v->group_count)
                        buf_append_str(out, "all");
                else if (name == NULL)
                        buf_append_str(out, "none named");
                else
                        for (const char *p = name; *p != '\0'; p++)
                                buf_printf(out, "%c", *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
                buf_append_str(out, "</th>");
        }
        buf_append_str(out, "</tr>\n");
}

static void count_row(struct buf *out, const struct report_view *v, const char *name, bool part,
                      size_t offset)
{
        buf_printf(out, "<tr%s><td>%s</td>", part ? " class=\"part\"" : "", name);
        for (uint32_t i = 0; i <= v->group_count; i++) {
                uint64_t value;
                if (!shown(v, i))
                        continue;
                memcpy(&value, (const char *)column(v, i) + offset, sizeof(value));
                buf_printf(out, "<td>%llu</td>", (unsigned long long)value);
        }
        buf_append_str(out, "</tr>\n");
}

static void time_row(struct buf *out, const struct report_view *v, const char *name, size_t times,
                     size_t member)
{
        buf_printf(out, "<tr><td>%s</td>", name);
        for (uint32_t i = 0; i <= v->group_count; i++) {
                struct report_times t;
                double seconds;
                if (!shown(v, i))
                        continue;
                memcpy(&t, (const char *)column(v, i) + times, sizeof(t));
                memcpy(&seconds, (const char *)&t + member, sizeof(seconds));
                buf_append_str(out, "<td>");
                duration(out, t.count, seconds);
                buf_append_str(out, "</td>");
        }
        buf_append_str(out, "</tr>\n");
}

static void reason_rows(struct buf *out, const struct report_view *v, size_t offset,
                        const uint64_t *totals, const char *(*name)(uint32_t code))
{
        for (uint32_t i = 1; i < REPORT_REASONS; i++)
                if (totals[i] > 0 && name(i) != NULL)
                        count_row(out, v, name(i), true, offset + i * sizeof(uint64_t));
}

#define COUNT(member) offsetof(struct report_group, member)
#define TIMES(member) offsetof(struct report_group, member)

static void counts(struct buf *out, const struct report_view *v)
{
        heading(out, v, "Requests");
        count_row(out, v, "received", false, COUNT(received));
        count_row(out, v, "completed", false, COUNT(completed));
        count_row(out, v, "refused", false, COUNT(refused));
        reason_rows(out, v, COUNT(refused_for), v->total->refused_for, service_refusal_reason);
        count_row(out, v, "not answered yet", false, COUNT(pending));
        count_row(out, v, "held for a decision", true, COUNT(held));
        count_row(out, v, "answered in time", false, COUNT(in_time));
        count_row(out, v, "overdue", false, COUNT(overdue));
        count_row(out, v, "not answered yet", true, COUNT(overdue_pending));
        count_row(out, v, "deadline extended", false, COUNT(extended));
        reason_rows(out, v, COUNT(extended_for), v->total->extended_for, service_extension_reason);
        buf_append_str(out, "</table>\n");
}

static void times(struct buf *out, const struct report_view *v)
{
        static const struct {
                const char *name;
                size_t times, member;
        } rows[] = {
                {"forgotten, median", TIMES(forgotten), offsetof(struct report_times, median_s)},
                {"forgotten, worst", TIMES(forgotten), offsetof(struct report_times, worst_s)},
                {"completed, median", TIMES(completed_in), offsetof(struct report_times, median_s)},
                {"completed, worst", TIMES(completed_in), offsetof(struct report_times, worst_s)},
                {"answered, median", TIMES(answered), offsetof(struct report_times, median_s)},
                {"answered, mean", TIMES(answered), offsetof(struct report_times, mean_s)},
        };
        heading(out, v, "Time from receipt");
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                time_row(out, v, rows[i].name, rows[i].times, rows[i].member);
        buf_append_str(out, "</table>\n");
}

void render_report_html(struct buf *out, const struct report_view *v)
{
        buf_append_str(out,
                       "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                       "<title>Erasure requests</title>\n<style>");
        buf_append_str(out, style);
        buf_append_str(out, "</style>\n</head>\n<body>\n<h1>Erasure requests</h1>\n");
        period(out, v);
        counts(out, v);
        times(out, v);
        buf_append_str(out,
                       "<footer><p><em>Forgotten</em>: no prediction is influenced by the person's "
                       "data any more. <em>Completed</em>: the model is retrained without it. "
                       "<em>Answered</em>: completed or refused. Deadlines: one month (GDPR art. "
                       "12(3)), 45 days (Cal. Civ. Code 1798.130), with their extensions.</p>\n"
                       "<p>Every number can be recomputed, as far as its retention reaches back, "
                       "from the audit log ");
        page_text(out, v->log_name);
        buf_append_str(out, ".</p></footer>\n</body>\n</html>\n");
}
