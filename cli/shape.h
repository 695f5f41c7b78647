/* SPDX-License-Identifier: Apache-2.0
 * shape.h: what a model's records look like, as GET /v1/models/{m} tells it. */
#ifndef UNLEARND_CLI_SHAPE_H
#define UNLEARND_CLI_SHAPE_H

#include "cli/cli.h"
#include "lib/util/json.h"

enum shape_encoder { SHAPE_NUMBERS, SHAPE_TEXT, SHAPE_TABLE };
struct model_shape {
        struct json *doc; /* owns what follows */
        enum shape_encoder encoder;
        bool regression;
        uint32_t targets;
        const struct json *columns; /* of a table */
        const struct json *labels;  /* of a classification */
};

/* Told where it fails. */
int shape_get(struct ctl *c, const char *model, struct model_shape *out);
void shape_free(struct model_shape *s);
/* The column of this name (a name is `len` bytes), or NULL. */
const struct json *shape_column(const struct model_shape *s, const char *name, size_t len);
bool shape_has_label(const struct model_shape *s, const char *label, size_t len);
/* Appends /v1/models/NAME and a tail. */
struct buf;
void model_path(struct buf *path, const char *model, const char *tail);

#endif
