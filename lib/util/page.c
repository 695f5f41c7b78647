/* SPDX-License-Identifier: Apache-2.0
 * page.c: see page.h. */
#include "lib/util/page.h"

#include "lib/util/crypto.h"
#include <stdio.h>
#include <string.h>

const char *page_policy(const char *style, char out[PAGE_POLICY_SIZE])
{
        uint8_t digest[SHA256_BYTES];
        char text[48];
        sha256(style, strlen(style), digest);
        (void)snprintf(out, PAGE_POLICY_SIZE,
                       "default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action "
                       "'none'; frame-ancestors 'none'",
                       base64_encode(digest, sizeof digest, text));
        return out;
}

void page_text(struct buf *out, const char *text)
{
        for (; *text != '\0'; text++) {
                switch (*text) {
                case '&':
                        buf_append_str(out, "&amp;");
                        break;
                case '<':
                        buf_append_str(out, "&lt;");
                        break;
                case '>':
                        buf_append_str(out, "&gt;");
                        break;
                case '"':
                        buf_append_str(out, "&quot;");
                        break;
                case '\'':
                        buf_append_str(out, "&#39;");
                        break;
                default:
                        buf_append(out, text, 1);
                }
        }
}
