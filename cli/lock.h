/* SPDX-License-Identifier: Apache-2.0
 * lock.h: a data directory that no daemon serves, and none begins to while the descriptor is open.
 */
#ifndef UNLEARND_CLI_LOCK_H
#define UNLEARND_CLI_LOCK_H

#include "lib/util/err.h"

/* UL_CONFLICT where a daemon serves it. The caller closes *fd. */
int lock_data_dir(const char *dir, int *fd, struct errinfo *e);

#endif
