/* SPDX-License-Identifier: Apache-2.0
 * commands.h: what main.c's table of commands points to: a handler each, and its options with the
 * size of the struct that they fill. */
#ifndef UNLEARND_CLI_COMMANDS_H
#define UNLEARND_CLI_COMMANDS_H

#include "cli/cli.h"

#define COMMAND(name)                                                                              \
        extern const struct option_spec name##_options[];                                          \
        extern const size_t name##_options_size;                                                   \
        int name##_run(struct ctl *c, const struct operands *in, const void *options)

#define PLAIN_COMMAND(name)                                                                        \
        int name##_run(struct ctl *c, const struct operands *in, const void *options)

/* status.c */
PLAIN_COMMAND(status);
PLAIN_COMMAND(metrics);
/* models.c */
COMMAND(model_create);
PLAIN_COMMAND(model_list);
PLAIN_COMMAND(model_show);
COMMAND(model_delete);
PLAIN_COMMAND(shards);
/* load.c */
COMMAND(load);
COMMAND(evaluate);
/* predict.c */
COMMAND(predict);
/* train.c */
COMMAND(train);
COMMAND(compact);
COMMAND(verify);
COMMAND(jobs);
COMMAND(job);
/* erase.c */
COMMAND(erase);
/* erasures.c */
COMMAND(erasures);
PLAIN_COMMAND(erasure);
/* suppressions.c */
COMMAND(suppressions);
COMMAND(suppressions_export);
COMMAND(suppressions_import);
PLAIN_COMMAND(suppressions_lift);
/* decide.c */
PLAIN_COMMAND(erasure_release);
COMMAND(erasure_refuse);
COMMAND(erasure_extend);
/* certificate.c */
COMMAND(certificate);
/* audit.c */
COMMAND(audit);
/* report.c */
COMMAND(report);
/* audit_verify.c */
COMMAND(audit_verify);
/* rotate_key.c */
COMMAND(audit_rotate_key);
/* scan.c */
COMMAND(scan);
/* backup.c */
COMMAND(backup);
/* restore.c */
COMMAND(restore);
/* recalls.c */
COMMAND(recalls);
/* webhooks.c */
PLAIN_COMMAND(webhook_list);
PLAIN_COMMAND(webhook_enable);
PLAIN_COMMAND(webhook_test);
COMMAND(webhook_rotate);
/* token.c */
COMMAND(token_new);

#endif
