/* SPDX-License-Identifier: Apache-2.0
 * certificate_page.h: a certificate as a page for people, to be read and printed; pure, so that who
 * checked a statement makes the page from it, and believes no page that he is sent. */
#ifndef UNLEARND_AUDIT_CERTIFICATE_PAGE_H
#define UNLEARND_AUDIT_CERTIFICATE_PAGE_H

#include "lib/util/err.h"
#include "lib/util/page.h"

/* Its Content-Security-Policy. */
const char *certificate_page_policy(char out[PAGE_POLICY_SIZE]);
/* Appends the page. statement: as it was recorded. UL_CORRUPT for one that cannot be read. */
int certificate_page(const struct buf *statement, const char *vkey, struct buf *out);

#endif
