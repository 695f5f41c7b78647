/* SPDX-License-Identifier: Apache-2.0
 * outgoing_kinds.c: the uses of the queue. Numbers are stored: new ones go to the end. */
#include "daemon/outgoing.h"
#include "daemon/webhook.h"

const struct outgoing_kind *outgoing_kind(uint8_t number)
{
        static const struct outgoing_kind *const kinds[OUTGOING_KINDS] = {
                [OUTGOING_WEBHOOK] = &webhook_kind,
                [OUTGOING_OPENDSR] = &opendsr_kind,
        };
        return number < OUTGOING_KINDS ? kinds[number] : NULL;
}
