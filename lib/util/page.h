/* SPDX-License-Identifier: Apache-2.0
 * page.h: what the pages for people share. A page is one file that needs nothing from anywhere: no
 * script, its own style sheet, whatever comes from elsewhere escaped. Pure. */
#ifndef UNLEARND_UTIL_PAGE_H
#define UNLEARND_UTIL_PAGE_H

#include "lib/util/bytes.h"

enum { PAGE_POLICY_SIZE = 192 };
/* The Content-Security-Policy of a page: its own style sheet (the text of its one style element),
 * known by its hash, and nothing else. */
const char *page_policy(const char *style, char out[PAGE_POLICY_SIZE]);
/* Appends text for an element or a quoted attribute. */
void page_text(struct buf *out, const char *text);

#endif
