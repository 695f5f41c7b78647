/* SPDX-License-Identifier: Apache-2.0
 * certificate_page.h: a certificate as a page for people, to be read and printed. Pure. */
#ifndef UNLEARND_API_CERTIFICATE_PAGE_H
#define UNLEARND_API_CERTIFICATE_PAGE_H

#include "api/page.h"
#include "lib/util/err.h"

/* Its Content-Security-Policy. */
const char *certificate_page_policy(char out[PAGE_POLICY_SIZE]);
/* Appends the page. statement: as it was recorded. UL_CORRUPT for one that cannot be read. */
int certificate_page(const struct buf *statement, const char *vkey, struct buf *out);

#endif
