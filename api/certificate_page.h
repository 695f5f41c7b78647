/* SPDX-License-Identifier: Apache-2.0
 * certificate_page.h: a certificate as a page for people, to be read and printed. Pure. */
#ifndef UNLEARND_API_CERTIFICATE_PAGE_H
#define UNLEARND_API_CERTIFICATE_PAGE_H

#include "lib/util/bytes.h"
#include "lib/util/err.h"

enum { PAGE_POLICY_SIZE = 192 };
/* The page's Content-Security-Policy: its own style sheet, known by its hash, and nothing else. */
const char *certificate_page_policy(char out[PAGE_POLICY_SIZE]);
/* Appends the page. statement: as it was recorded. UL_CORRUPT for one that cannot be read. */
int certificate_page(const struct buf *statement, const char *vkey, struct buf *out);

#endif
