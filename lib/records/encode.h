/* SPDX-License-Identifier: Apache-2.0
 * encode.h: one record as clients write it, turned into one sealed row; and one input of a
 * prediction, turned into f32 features. The encoders: none (numbers as they are), tabular (numeric
 * and one-hot columns) and hash_text (word 1- and 2-grams hashed to u8 counts, Weinberger et al.
 * 2009, so that there is no vocabulary to forget). It must not know where rows go. */
#ifndef UNLEARND_RECORDS_ENCODE_H
#define UNLEARND_RECORDS_ENCODE_H

#include "lib/records/rowfile.h"
#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include <stddef.h>
#include <stdint.h>

/* What an encoder must know of a model; the daemon fills it from struct model_config (numbers are
 * those of its enums), borrowed pointers. */
struct encoding {
        struct row_shape shape;
        uint32_t encoder;          /* enum model_encoder: none 0, hash_text 1, tabular 2 */
        uint32_t classes;          /* 0: regression */
        const char *const *labels; /* [classes] */
        uint32_t column_count;
        const struct encoding_column {
                const char *name;
                bool categorical;
                uint32_t value_count;
                const char *const *values;
                uint32_t first_feature;
        } * columns;
};

/* Text to feature counts: f32[features] (zeroed first; counts saturate at 255). Lower-cased ASCII,
 * words are runs of letters, digits and bytes over 127; 1-grams "word" and 2-grams "word word".
 * bucket = ((fmix64(fnv1a64(gram)) >> 32) * features) >> 32: fixed and public, never keyed. */
void encode_text(const char *text, size_t len, uint32_t features, float *out);
/* One tabular value into its features. UL_INVALID with field "/columns/NAME" if a numeric column
 * holds no finite number (spaces around it are let pass). text NULL: no value, which is "other" in
 * a categorical column; so is every text that is not a declared value. */
int encode_column(const struct encoding *enc, uint32_t column, const char *text, size_t len,
                  float *features, struct errinfo *e);
/* f32 features to the row's dtype: u8 wants integers 0..255, bit wants 0 or 1, all finite;
 * UL_INVALID with field "/features/N". Fills label-free row bytes from the feature offset on. */
int encode_features(const struct row_shape *shape, const float *features, uint8_t *row,
                    struct errinfo *e);
/* A class label (text form) or the targets into the row's label bytes. UL_INVALID "/label". */
int encode_label_text(const struct encoding *enc, const char *text, size_t len, uint8_t *row,
                      struct errinfo *e);
int encode_targets(const struct encoding *enc, const float *targets, uint32_t n, uint8_t *row,
                   struct errinfo *e);

#endif
