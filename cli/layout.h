/* SPDX-License-Identifier: Apache-2.0
 * layout.h: which column of a delimited file is what to a model, and a row of it as the JSON that
 * the daemon reads. It reads no file. */
#ifndef UNLEARND_CLI_LAYOUT_H
#define UNLEARND_CLI_LAYOUT_H

#include "cli/csv.h"
#include "cli/shape.h"
#include "lib/util/bytes.h"

/* The options that say how a file is to be read; commands have them in their own structs. */
struct file_options {
        const char *format, *delimiter, *quotes;
        const char *columns; /* names, of a file without a header */
        bool no_header, label_last;
        const char *id, *subject, *label, *text, *likelihood;
        const char *id_prefix; /* NULL: "row-" */
        struct count_option subject_every;
        const char *rows, *holdout;
};

enum feed_use { FEED_LOAD, FEED_EVALUATE, FEED_PREDICT };

struct layout {
        const struct file_options *options; /* borrowed, as the shape */
        const struct model_shape *shape;
        enum feed_use use;
        size_t count;
        struct layout_column *columns; /* [count] */
        bool has_id;
        bool as_is; /* the daemon reads a file with this header by itself */
};

/* From the header, or (names == NULL) from the number of fields and --columns. Told where it
 * fails. */
int layout_make(const struct file_options *o, const struct model_shape *m, enum feed_use use,
                const struct csv_record *names, size_t count, struct layout *out);
void layout_free(struct layout *l);

/* Appends row number `row` as one JSON text; of a prediction, its input alone. `id` (may be NULL)
 * gets the row's id. Returns NULL, or why the row is refused. */
const char *layout_write(const struct layout *l, const struct csv_record *r, uint64_t row,
                         struct buf *out, struct buf *id);

/* One number as JSON: as it stands where it is one, else by its value; false where it is none. */
bool write_number(struct json_writer *w, const char *text, size_t len);
bool is_number_text(const char *text, size_t len, double *value);
/* UTF-8 without NUL. */
bool is_plain_text(const char *text, size_t len);

#endif
