/* SPDX-License-Identifier: Apache-2.0
 * certificate_page.c: see certificate_page.h. For a reader who knows the law and no machine
 * learning: what was asked, what was done, when, and how it can be checked. One file that needs
 * nothing from anywhere; whatever comes out of the statement is escaped. */
#include "lib/audit/certificate_page.h"

#include "lib/util/crypto.h"
#include "lib/util/json.h"
#include <stdio.h>
#include <string.h>

enum { PARTS_SHOWN = 100 };

static const char style[] =
        "body{font:16px/1.5 Georgia,serif;color:#1a1a1a;max-width:46rem;margin:2.5rem auto;"
        "padding:0 1.25rem}"
        "h1{font-size:1.9rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2rem 0 .5rem;"
        "border-bottom:1px solid #999;padding-bottom:.2rem}"
        "table{border-collapse:collapse;width:100%;font-size:.92rem}"
        "th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;"
        "border-bottom:1px solid #ddd}th{font-weight:600}"
        "code{font:.82em/1.4 ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}"
        "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f4f2;padding:.7rem}"
        ".lead{font-size:1.1rem}.small{font-size:.85rem;color:#444}"
        "@media print{body{margin:0;max-width:none;font-size:11pt}pre{border:1px solid #999}"
        "h2{break-after:avoid}tr{break-inside:avoid}}";

const char *certificate_page_policy(char out[PAGE_POLICY_SIZE])
{
        return page_policy(style, out);
}

/* --- text --- */

/* A member's text; "" where it is null. */
static const char *text_of(const struct json *object, const char *key)
{
        const char *text = object != NULL ? json_string(json_get(object, key)) : NULL;
        return text != NULL ? text : "";
}

static uint64_t count_of(const struct json *object, const char *key)
{
        int64_t v = 0;
        const struct json *member = object != NULL ? json_get(object, key) : NULL;
        return member != NULL && json_integer(member, 0, INT64_MAX, &v) ? (uint64_t)v : 0;
}

/* NULL unless it is an object. */
static const struct json *object_of(const struct json *object, const char *key)
{
        const struct json *v = object != NULL ? json_get(object, key) : NULL;
        return v != NULL && json_type_of(v) == JSON_OBJECT ? v : NULL;
}

/* 2026-01-31T09:00:00.000Z as people write it. */
static void time_text(struct buf *out, const char *rfc3339)
{
        char date[11] = "", clock[9] = "";
        if (strlen(rfc3339) >= 19) {
                memcpy(date, rfc3339, 10);
                memcpy(clock, rfc3339 + 11, 8);
                page_text(out, date);
                buf_append_str(out, ", ");
                page_text(out, clock);
                buf_append_str(out, " UTC");
        } else {
                buf_append_str(out, "not stated");
        }
}

static void plural(struct buf *out, uint64_t n, const char *one, const char *many)
{
        buf_printf(out, "%llu %s", (unsigned long long)n, n == 1 ? one : many);
}

static void row_begin(struct buf *out, const char *head)
{
        buf_append_str(out, "<tr><th scope=\"row\">");
        page_text(out, head);
        buf_append_str(out, "</th><td>");
}

static void row_text(struct buf *out, const char *head, const char *text)
{
        row_begin(out, head);
        page_text(out, text[0] != '\0' ? text : "none given");
        buf_append_str(out, "</td></tr>\n");
}

static void row_time(struct buf *out, const char *head, const char *rfc3339, const char *meaning)
{
        row_begin(out, head);
        time_text(out, rfc3339);
        if (meaning != NULL) {
                buf_append_str(out, "<br><span class=\"small\">");
                page_text(out, meaning);
                buf_append_str(out, "</span>");
        }
        buf_append_str(out, "</td></tr>\n");
}

/* --- sections --- */

static const char *law(const char *regulation)
{
        if (strcmp(regulation, "gdpr") == 0)
                return "General Data Protection Regulation (EU) 2016/679, Article 17";
        if (strcmp(regulation, "ccpa") == 0)
                return "California Consumer Privacy Act, Civil Code 1798.105";
        return regulation[0] != '\0' ? "another one, as the request said" : "none named";
}

static void write_head(struct buf *out, const struct json *p)
{
        char policy[PAGE_POLICY_SIZE];
        buf_append_str(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                            "<meta name=\"viewport\" content=\"width=device-width\">\n"
                            "<meta name=\"referrer\" content=\"no-referrer\">\n"
                            "<meta http-equiv=\"Content-Security-Policy\" content=\"");
        /* frame-ancestors means nothing in a file; the header says it */
        *strstr(certificate_page_policy(policy), "; frame-ancestors") = '\0';
        buf_append_str(out, policy);
        buf_append_str(out, "\">\n<title>Certificate of erasure ");
        page_text(out, text_of(p, "erasure"));
        buf_append_str(out, "</title>\n<style>");
        buf_append_str(out, style);
        buf_append_str(out, "</style></head><body>\n<h1>Certificate of erasure</h1>\n"
                            "<p class=\"small\">Number <code>");
        page_text(out, text_of(p, "erasure"));
        buf_append_str(out, "</code></p>\n");
}

/* What is said holds in all models, or in those that were named: the page must not say more. */
static void write_summary(struct buf *out, const struct json *p)
{
        bool all = strcmp(text_of(p, "scope"), "all_models") == 0;
        const struct json *parts = json_get(p, "constituents");
        uint64_t matched = count_of(p, "matched");
        buf_append_str(out, "<p class=\"lead\">");
        if (!all)
                buf_append_str(out, "The request was for some models by name, and only they were "
                                    "looked at. ");
        if (matched > 0) {
                plural(out, matched, "record was", "records were");
                buf_append_str(
                        out, " erased. Everything that the models had learned from them was taken "
                             "back at once, and the parts of the models that it had touched were "
                             "trained again without them.");
        } else if (parts != NULL && json_first(parts) != NULL) {
                buf_append_str(out, "An earlier request had erased the records already. The parts "
                                    "of the models that they had touched were trained again "
                                    "without them.");
        } else {
                buf_append_str(out, "No record of the person, or of those named in the request, "
                                    "was held.");
        }
        buf_append_str(out, all ? " No model of the service takes them in again.</p>\n"
                                : " These models do not take them in again.</p>\n");
}

static void write_asked(struct buf *out, const struct json *p)
{
        buf_append_str(out, "<h2>What was asked</h2>\n<table>\n");
        row_text(out, "Law", law(text_of(p, "regulation")));
        row_text(out, "Reference", text_of(p, "reference"));
        row_time(out, "Received", text_of(p, "received_at"), NULL);
        row_time(out, "To be done by", text_of(p, "deadline"), NULL);
        if (text_of(p, "first_deadline")[0] != '\0')
                row_time(out, "Extended from", text_of(p, "first_deadline"), NULL);
        buf_append_str(out,
                       "</table>\n<p class=\"small\">This page does not say who was forgotten: "
                       "nothing in the certificate or in the log does. The reference leads "
                       "whoever handled the request to it.</p>\n");
}

static void write_done(struct buf *out, const struct json *p)
{
        const struct json *late = json_get(p, "overdue");
        buf_append_str(out, "<h2>What was done, and when</h2>\n<table>\n");
        row_time(out, "Accepted", text_of(p, "accepted_at"),
                 "The request was written down so that no failure could lose it.");
        row_time(out, "Forgotten", text_of(p, "forgotten_at"),
                 "From this moment on no answer of a model was influenced by the records.");
        row_time(out, "Scrubbed", text_of(p, "scrubbed_at"),
                 "The records, and every saved state of a model that had been trained on them, had "
                 "been overwritten and removed from the disk.");
        row_time(out, "Completed", text_of(p, "completed_at"),
                 "Nothing was left to do: every part of a model that was affected had been trained "
                 "again without the records.");
        row_begin(out, "In time");
        buf_append_str(out, late != NULL && json_is_true(late)
                                    ? "no: completed after the date above"
                                    : "yes");
        buf_append_str(out, "</td></tr>\n</table>\n");
}

static void fingerprint(struct buf *out, const struct json *of)
{
        const char *hex = text_of(of, "sha256");
        if (hex[0] == '\0') {
                buf_append_str(out, "none");
                return;
        }
        buf_append_str(out, "<code>");
        page_text(out, hex);
        buf_append_str(out, "</code>");
}

static void write_part(struct buf *out, const struct json *c)
{
        const struct json *after = object_of(c, "after");
        const char *outcome = text_of(c, "outcome");
        buf_append_str(out, "<tr><td>");
        page_text(out, text_of(c, "model"));
        buf_printf(out, ", part %llu</td><td>", (unsigned long long)count_of(c, "shard"));
        plural(out, count_of(c, "records"), "record", "records");
        buf_append_str(out, "</td><td>");
        plural(out, count_of(object_of(c, "checkpoints_destroyed"), "count"),
               "saved state destroyed", "saved states destroyed");
        buf_append_str(out, "</td><td>");
        if (after != NULL) {
                buf_append_str(out, "trained again on the ");
                plural(out, count_of(object_of(after, "retained"), "records"), "record", "records");
                buf_append_str(out, " that remain");
        } else if (strcmp(outcome, "model_deleted") == 0) {
                buf_append_str(out, "the whole model was deleted");
        } else {
                buf_append_str(out, "nothing had been trained on them yet");
        }
        buf_append_str(out,
                       "</td></tr>\n<tr><td colspan=\"4\" class=\"small\">Fingerprint before: ");
        fingerprint(out, object_of(c, "before"));
        buf_append_str(out, "<br>Fingerprint after: ");
        fingerprint(out, after);
        buf_append_str(out, "</td></tr>\n");
}

static void write_parts(struct buf *out, const struct json *p)
{
        const struct json *list = json_get(p, "constituents");
        const struct json *c = list != NULL ? json_first(list) : NULL;
        uint64_t left = count_of(p, "constituents_left_out");
        if (c == NULL)
                return;
        buf_append_str(out, "<h2>What it touched</h2>\n<table>\n<tr><th>Part of a model</th>"
                            "<th>Erased</th><th>Old states</th><th>New state</th></tr>\n");
        for (int i = 0; c != NULL; i++, c = json_next(c)) {
                if (i < PARTS_SHOWN)
                        write_part(out, c);
                else
                        left++;
        }
        buf_append_str(out, "</table>\n");
        if (left > 0) {
                buf_append_str(out, "<p class=\"small\">And ");
                plural(out, left, "part more.", "parts more.");
                buf_append_str(out, "</p>\n");
        }
        if (strcmp(text_of(p, "guarantee"), "exact") == 0)
                buf_append_str(
                        out, "<p><strong>Guarantee: exact.</strong> The new state of each part is, "
                             "bit for bit, the one that training without these records gives. "
                             "It is not an approximation, and anybody who holds the "
                             "remaining records can repeat it.</p>\n");
}

static void write_check(struct buf *out, const struct json *p, const struct buf *statement,
                        const char *vkey)
{
        uint8_t digest[SHA256_BYTES];
        char hex[2 * SHA256_BYTES + 1];
        const char *id = text_of(p, "erasure");
        sha256(statement->data, statement->len, digest);
        buf_append_str(out,
                       "<h2>How this can be checked</h2>\n"
                       "<p>This page is for reading. What counts is the signed file behind it, "
                       "and the log that the service cannot rewrite without being seen. Both "
                       "can be checked on another computer, without trusting the service:</p>\n"
                       "<pre>unlearnctl certificate ");
        page_text(out, id);
        buf_append_str(out, " -o certificate.json --proof certificate.tlog-proof\n"
                            "unlearnctl certificate --verify certificate.json \\\n"
                            "  --proof certificate.tlog-proof \\\n  --key '");
        page_text(out, vkey);
        buf_append_str(out, "'</pre>\n<table>\n");
        row_text(out, "Log", text_of(object_of(p, "log"), "origin"));
        row_begin(out, "Entry");
        buf_printf(out,
                   "number %llu records this certificate; number %llu recorded the moment of "
                   "forgetting</td></tr>\n",
                   (unsigned long long)count_of(p, "log_index"),
                   (unsigned long long)count_of(object_of(p, "log"), "forgotten_index"));
        row_begin(out, "Fingerprint of the signed statement");
        buf_append_str(out, "<code>");
        buf_append_str(out, hex_encode(digest, sizeof digest, hex));
        buf_append_str(out, "</code></td></tr>\n");
        row_begin(out, "Key of the log");
        buf_append_str(out, "<code>");
        page_text(out, vkey);
        buf_append_str(out,
                       "</code><br><span class=\"small\">Compare it with the one that you were "
                       "given by another way.</span></td></tr>\n</table>\n"
                       "<p class=\"small\">Made by ");
        page_text(out, text_of(p, "software"));
        buf_append_str(out, ".</p>\n</body></html>\n");
}

int certificate_page(const struct buf *statement, const char *vkey, struct buf *out)
{
        struct json *doc = NULL;
        int err = json_parse((const char *)statement->data, statement->len, &doc, NULL);
        const struct json *p = err == 0 ? object_of(doc, "predicate") : NULL;
        if (p == NULL) {
                json_free(&doc);
                return err == UL_NOMEM ? err : UL_CORRUPT;
        }
        write_head(out, p);
        write_summary(out, p);
        write_asked(out, p);
        write_done(out, p);
        write_parts(out, p);
        write_check(out, p, statement, vkey);
        json_free(&doc);
        return out->failed ? UL_NOMEM : 0;
}
