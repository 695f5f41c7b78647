/* SPDX-License-Identifier: Apache-2.0
 * replay.h: `verify` without a daemon: a certificate's constituents trained again from row files.
 */
#ifndef UNLEARND_CLI_REPLAY_H
#define UNLEARND_CLI_REPLAY_H

#include "cli/cli.h"

struct replay_options {
        const char *data_dir, *certificate, *key, *pseudonym_key, *config, *worker;
};
/* model: only this one; NULL: all. shards: only these; none: all. */
int replay_run(struct ctl *c, const struct replay_options *o, const char *model,
               const struct text_list *shards);

#endif
