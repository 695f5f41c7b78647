/* SPDX-License-Identifier: Apache-2.0
 * reasons.c: why an erasure was refused or its deadline extended: codes, never free text, so that
 * no personal datum can get into the log and a report can count. The numbers are stored: new codes
 * go to the end. It knows nothing of states. */
#include "daemon/erasure.h"
#include "daemon/state.h"

#include <string.h>

enum { GDPR = 1 << ERASE_GDPR, CCPA = 1 << ERASE_CCPA, ELSE = 1 << ERASE_NONE | 1 << ERASE_OTHER };

_Static_assert(REPORT_REASONS > 20, "a report counts by code");

struct reason {
        const char *name;
        uint32_t regulations; /* under which it can be given */
};

static const struct reason refusals[] = {
        {"identity_not_verified", GDPR | CCPA | ELSE}, /* GDPR 12(6); 11 CCR 7062 */
        {"manifestly_unfounded", GDPR | CCPA | ELSE},  /* GDPR 12(5); Civ. Code 1798.145(h)(3) */
        {"excessive", GDPR | CCPA | ELSE},             /* the same */
        {"duplicate", GDPR | CCPA | ELSE},             /* another request of the person stands */
        {"withdrawn", GDPR | CCPA | ELSE},             /* by the person */
        {"gdpr_17_3_a", GDPR | ELSE},                  /* freedom of expression and information */
        {"gdpr_17_3_b", GDPR | ELSE},                  /* a legal obligation, or a public task */
        {"gdpr_17_3_c", GDPR | ELSE},                  /* public health */
        {"gdpr_17_3_d", GDPR | ELSE},                  /* archiving, research, statistics */
        {"gdpr_17_3_e", GDPR | ELSE},                  /* legal claims */
        {"ccpa_1798_105_d_1", CCPA | ELSE}, /* Civ. Code 1798.105(d): the transaction, warranty */
        {"ccpa_1798_105_d_2", CCPA | ELSE}, /* security and integrity */
        {"ccpa_1798_105_d_3", CCPA | ELSE}, /* repairing errors */
        {"ccpa_1798_105_d_4", CCPA | ELSE}, /* free speech */
        {"ccpa_1798_105_d_5", CCPA | ELSE}, /* CalECPA */
        {"ccpa_1798_105_d_6", CCPA | ELSE}, /* research in the public interest */
        {"ccpa_1798_105_d_7", CCPA | ELSE}, /* internal uses that the consumer expects */
        {"ccpa_1798_105_d_8", CCPA | ELSE}, /* a legal obligation */
        {"ccpa_1798_145", CCPA | ELSE},     /* Civ. Code 1798.145: exempt */
        {"other_law", GDPR | CCPA | ELSE},
};
static const struct reason extensions[] = {
        {"complexity", GDPR | CCPA | ELSE},         /* GDPR 12(3) */
        {"number_of_requests", GDPR | CCPA | ELSE}, /* GDPR 12(3) */
        {"reasonably_necessary", CCPA | ELSE},      /* Civ. Code 1798.130(a)(2)(A) */
};

static const struct reason *table(enum reason_use use, size_t *count)
{
        *count = use == REASON_REFUSAL ? sizeof refusals / sizeof refusals[0]
                                       : sizeof extensions / sizeof extensions[0];
        return use == REASON_REFUSAL ? refusals : extensions;
}

uint8_t reason_find(enum reason_use use, const char *code, enum erase_regulation regulation)
{
        size_t count = 0;
        const struct reason *all = table(use, &count);
        for (size_t i = 0; i < count; i++)
                if (strcmp(all[i].name, code) == 0)
                        return all[i].regulations & 1u << regulation ? (uint8_t)(i + 1) : 0;
        return 0;
}

const char *reason_name(enum reason_use use, uint8_t reason)
{
        size_t count = 0;
        const struct reason *all = table(use, &count);
        return reason > 0 && reason <= count ? all[reason - 1].name : NULL;
}
