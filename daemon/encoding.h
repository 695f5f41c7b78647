/* SPDX-License-Identifier: Apache-2.0
 * encoding.h: the encoder's view (lib/records/encode.h) of a model configuration. The two modules
 * of the library do not know each other; the daemon joins them here. */
#ifndef UNLEARND_DAEMON_ENCODING_H
#define UNLEARND_DAEMON_ENCODING_H

#include "lib/models/config.h"
#include "lib/records/encode.h"

struct encoding_holder {
        struct encoding e;               /* borrows labels, names and values of the configuration */
        struct encoding_column *columns; /* owned; what e.columns points to */
};
/* `c` must outlive the holder. On failure the holder is empty and needs no clearing. */
int encoding_make(const struct model_config *c, struct encoding_holder *out, struct errinfo *e);
void encoding_clear(struct encoding_holder *h);

#endif
