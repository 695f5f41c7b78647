/* SPDX-License-Identifier: Apache-2.0
 * config.h: what a model is: every option of POST /v1/models with its default and range, read from
 * and written to its one text form, canonical JSON, which is also what LMDB and job files hold.
 * It must not know how any of it is trained. */
#ifndef UNLEARND_MODELS_CONFIG_H
#define UNLEARND_MODELS_CONFIG_H

#include "lib/util/crypto.h"
#include "lib/util/err.h"
#include "lib/util/json.h"
#include "lib/util/limits.h"
#include <stdbool.h>
#include <stdint.h>

enum model_kind { KIND_SOFTMAX, KIND_MLP };
enum model_task { TASK_CLASSIFICATION, TASK_REGRESSION };
enum model_dtype { DTYPE_F32, DTYPE_U8, DTYPE_BIT };
enum model_encoder { ENCODER_NONE, ENCODER_HASH_TEXT, ENCODER_TABULAR };
enum model_optimizer { OPTIMIZER_SGD, OPTIMIZER_ADAM };
enum model_activation { ACTIVATION_RELU, ACTIVATION_TANH };
enum model_aggregation { AGGREGATION_MEAN, AGGREGATION_VOTE };

/* One column of a tabular record. Numeric: one feature. Categorical: one feature for each declared
 * value and one for "other" (anything else), one-hot. */
struct column_spec {
        char *name;
        bool categorical;
        uint32_t value_count;
        char **values;          /* declared values, in the order of their features */
        uint32_t first_feature; /* where its features start in the encoded row */
};

struct model_config {
        char name[MODEL_NAME_MAX + 1];
        enum model_kind kind;
        enum model_task task;
        enum model_dtype dtype;
        enum model_encoder encoder;
        enum model_optimizer optimizer;
        enum model_activation activation;
        enum model_aggregation aggregation;
        uint32_t features; /* width of an encoded row (tabular: derived from the columns) */
        uint32_t outputs;  /* classes, or targets of a regression */
        uint32_t hidden_count;
        uint32_t hidden[HIDDEN_LAYERS_MAX];
        uint32_t shards;
        uint32_t slices;
        uint32_t epochs;
        uint32_t batch_size;
        double learning_rate;
        double learning_rate_decay; /* rate at epoch t: learning_rate / (1 + decay t) */
        double momentum;            /* of SGD; Adam's first decay rate (beta 1) */
        double l2;                  /* added to the gradient of weights, not of biases */
        uint64_t seed;              /* under 2^53, JSON's exact integers */
        bool standardize;
        char **labels; /* classification: [outputs] class names; default their indices */
        uint32_t column_count;
        struct column_spec *columns;
        uint8_t hash[SHA256_BYTES]; /* of the canonical JSON without the name; set by decoding */
};

/* From a request body (`name` required), or from stored text (which may have been written without
 * its name: then name is ""). UL_INVALID with the field's pointer; unknown fields, and fields that
 * the kind, task or encoder has no use for, are refused. UL_TOO_LARGE where the canonical JSON
 * would exceed MODEL_CONFIG_BYTES_MAX. The caller frees with model_config_destroy, and does not
 * change the result: its hash is part of it. */
int model_config_decode(const struct json *object, struct model_config **out, struct errinfo *e);
int model_config_parse(const char *text, size_t len, struct model_config **out, struct errinfo *e);
void model_config_destroy(struct model_config **config);

/* Members of the canonical JSON object (every option that applies, in a fixed order) into an open
 * object of `w`. Decoding them gives the same configuration and the same text again. */
void model_config_write(const struct model_config *c, struct json_writer *w, bool with_name);
/* SHA-256 of the canonical JSON without the name: two instances agree on it. */
void model_config_hash(const struct model_config *c, uint8_t out[SHA256_BYTES]);

bool model_name_valid(const char *name, size_t len);
/* Index of a class label, or -1. */
int model_label_index(const struct model_config *c, const char *label, size_t len);
/* The key that placement and training draw from: keyed_hash(pseudonym key, "model", seed). */
void model_key(const struct model_config *c, const uint8_t pseudonym_key[KEY_BYTES],
               uint8_t out[KEY_BYTES]);
/* f32 parameters of one constituent of this shape. */
uint64_t model_parameter_count(const struct model_config *c);

const char *kind_name(enum model_kind v);
const char *task_name(enum model_task v);
const char *dtype_name(enum model_dtype v);
const char *encoder_name(enum model_encoder v);

#endif
