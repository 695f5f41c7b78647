/* SPDX-License-Identifier: Apache-2.0
 * schema.h: a model's columns and labels, worked out from a table of data. The schema goes to the
 * daemon and into its configuration, so it must hold nobody's data: a value that fewer than ten
 * people have is not in it. */
#ifndef UNLEARND_CLI_SCHEMA_H
#define UNLEARND_CLI_SCHEMA_H

#include "cli/layout.h"

struct schema_request {
        const char *path;
        struct file_options file; /* id, subject and label name columns; label is needed */
        const char *task;         /* NULL: by the label's values */
};
/* Appends the members encoder, task, classes, labels and columns to the open object of `w`. What
 * was left out is remarked on; errors are told. */
int schema_write(const struct schema_request *r, struct json_writer *w);

#endif
