/* SPDX-License-Identifier: Apache-2.0
 * framing.c: is it beyond doubt where this request ends, and whom it is for? What a proxy and we
 * could read in two ways would let a client hide a second request in the first (request smuggling;
 * RFC 9112, 6.3 and 11.2). libmicrohttpd 0.9.75 takes the first of two lengths, passes over a
 * length beside a Transfer-Encoding, reads a body of an unknown coding until the connection ends,
 * takes "Content-Length : 5" for a name of its own, and a bare CR, at which others end a line, for
 * a part of the value.
 *
 * Folded headers (obs-fold; RFC 9112, 5.2) it glues together wrongly: the continuation goes behind
 * the *name*, so that "Content-Length:\r\n 18" arrives as "Content-Length18" with no value. All
 * folds are refused, as the RFC allows. They are seen by where the name stands: libmicrohttpd hands
 * out names and values in the buffer that they were read into, name, NUL, blanks, value; a name
 * that grew was copied to behind it. Where a buffer's last bytes let it grow in place instead, it
 * may pass for another name, but for no length nor coding. It must not know routes. */
#include "api/internal.h"
#include <string.h>
#include <strings.h>

struct headers {
        uint32_t hosts, lengths, codings;
        bool chunked;   /* every coding is "chunked" */
        bool malformed; /* a name that is no token, or a value with a CR in it */
        bool folded;    /* a value that goes on in the next line */
};

/* tchar of RFC 9110, 5.6.2 */
static bool token_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *text, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (!token_char(text[i]))
                        return false;
        }
        return len > 0;
}

static bool named(const char *name, size_t len, const char *wanted)
{
        return len == strlen(wanted) && strncasecmp(name, wanted, len) == 0;
}

static bool goes_on(const char *name, size_t len, const char *wanted)
{
        return len > strlen(wanted) && strncasecmp(name, wanted, strlen(wanted)) == 0;
}

/* See above. Addresses first: only within one buffer are the bytes between them there to read. */
static bool is_folded(const char *name, size_t name_len, const char *value)
{
        const char *at = name + name_len;
        if ((uintptr_t)value <= (uintptr_t)at)
                return true;
        while (++at < value)
                if (*at != ' ' && *at != '\t')
                        return true;
        return goes_on(name, name_len, "Content-Length") ||
               goes_on(name, name_len, "Transfer-Encoding");
}

static enum MHD_Result visit(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_len,
                             const char *value, size_t value_len)
{
        (void)kind;
        struct headers *h = arg;
        if (!is_token(name, name_len) || (value != NULL && memchr(value, '\r', value_len))) {
                h->malformed = true;
        } else if (is_folded(name, name_len, value)) {
                h->folded = true;
        } else if (named(name, name_len, "Host")) {
                h->hosts++;
        } else if (named(name, name_len, "Content-Length")) {
                h->lengths++;
        } else if (named(name, name_len, "Transfer-Encoding")) {
                h->codings++;
                h->chunked = h->chunked && named(value, value_len, "chunked");
        }
        return MHD_YES;
}

bool framing_refuse(struct request *req, const char *version)
{
        struct headers h = {.chunked = true};
        bool http_1_0 = strcmp(version, "HTTP/1.0") == 0;
        const char *fault = NULL;
        int status = 400;
        MHD_get_connection_values_n(req->connection, MHD_HEADER_KIND, visit, &h);
        if (h.malformed) {
                fault = "a header has a character in its name or value that it cannot have";
        } else if (h.folded) {
                fault = "a header goes on in the next line (obsolete line folding)";
        } else if (h.hosts > 1 || (h.hosts == 0 && !http_1_0)) {
                fault = "exactly one Host header is needed";
        } else if (h.lengths > 1) {
                fault = "Content-Length is given more than once";
        } else if (h.codings > 0 && (h.lengths > 0 || http_1_0)) {
                fault = "Transfer-Encoding goes neither with Content-Length nor with HTTP/1.0";
        } else if (h.codings > 1 || !h.chunked) {
                fault = "the one Transfer-Encoding that is known here is chunked, and once";
                status = 501;
        }
        if (fault == NULL)
                return false;
        reply_header(req, "Connection", "close");
        reply_problem_status(req, status, fault);
        return true;
}
