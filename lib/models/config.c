/* SPDX-License-Identifier: Apache-2.0
 * config.c: the options of a model read from JSON. Each option's name, type and range is one line
 * of a table; what depends on another option (defaults by encoder, fields that do not apply) is
 * checked after it, one function a group. An option that has no effect is refused like an unknown
 * one: a client that sends it expects something that would not happen. */
#include "lib/models/config.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD = 32, SEED_BITS = 53 };

/* The request as it stands; `has` flags say what was given. */
struct request {
        char name[MODEL_NAME_MAX + 1];
        char kind[WORD], task[WORD], dtype[WORD], encoder[WORD];
        char optimizer[WORD], activation[WORD], aggregation[WORD];
        uint32_t features, classes, targets;
        uint32_t shards, slices, epochs, batch_size;
        double learning_rate, learning_rate_decay, momentum, l2;
        uint64_t seed;
        bool standardize;
        const struct json *labels, *hidden, *columns;
        bool has_name, has_dtype, has_features, has_classes, has_targets, has_activation;
        bool has_learning_rate, has_standardize;
        bool has_labels, has_hidden, has_columns;
};

#define AT(member) offsetof(struct request, member)
#define TEXT(member) JF_STRING, AT(member), sizeof(((struct request *)NULL)->member)
static const struct json_field request_fields[] = {
        {"name", TEXT(name), 1, MODEL_NAME_MAX, false, AT(has_name)},
        {"kind", TEXT(kind), 0, 0, true, 0},
        {"task", TEXT(task), 0, 0, false, 0},
        {"encoder", TEXT(encoder), 0, 0, false, 0},
        {"dtype", TEXT(dtype), 0, 0, false, AT(has_dtype)},
        {"features", JF_U32, AT(features), 0, 1, FEATURES_MAX, false, AT(has_features)},
        {"classes", JF_U32, AT(classes), 0, 2, CLASSES_MAX, false, AT(has_classes)},
        {"targets", JF_U32, AT(targets), 0, 1, TARGETS_MAX, false, AT(has_targets)},
        {"labels", JF_VALUE, AT(labels), 0, 0, 0, false, AT(has_labels)},
        {"columns", JF_VALUE, AT(columns), 0, 0, 0, false, AT(has_columns)},
        {"hidden", JF_VALUE, AT(hidden), 0, 0, 0, false, AT(has_hidden)},
        {"activation", TEXT(activation), 0, 0, false, AT(has_activation)},
        {"shards", JF_U32, AT(shards), 0, 1, SHARDS_MAX, false, 0},
        {"slices", JF_U32, AT(slices), 0, 1, SLICES_MAX, false, 0},
        {"epochs", JF_U32, AT(epochs), 0, 1, EPOCHS_MAX, false, 0},
        {"batch_size", JF_U32, AT(batch_size), 0, 1, BATCH_MAX, false, 0},
        {"learning_rate", JF_DOUBLE, AT(learning_rate), 0, 1e-9, 1000, false,
         AT(has_learning_rate)},
        {"learning_rate_decay", JF_DOUBLE, AT(learning_rate_decay), 0, 0, 1000, false, 0},
        {"momentum", JF_DOUBLE, AT(momentum), 0, 0, 0.9999, false, 0},
        {"l2", JF_DOUBLE, AT(l2), 0, 0, 1000, false, 0},
        {"optimizer", TEXT(optimizer), 0, 0, false, 0},
        {"aggregation", TEXT(aggregation), 0, 0, false, 0},
        {"seed", JF_U64, AT(seed), 0, 0, (double)((1ULL << SEED_BITS) - 1), false, 0},
        {"standardize", JF_BOOL, AT(standardize), 0, 0, 0, false, AT(has_standardize)},
};

static const struct request request_defaults = {
        .task = "classification",
        .encoder = "none",
        .optimizer = "sgd",
        .activation = "relu",
        .aggregation = "mean",
        .targets = 1,
        .shards = 8,
        .slices = 4,
        .epochs = 20,
        .batch_size = 32,
        .momentum = 0.9,
        .seed = 1,
};

struct word_list {
        const char *field;
        const char *const *words;
        uint32_t count;
        const char *all; /* for people */
};
static const char *const kinds[] = {"softmax", "mlp"};
static const char *const tasks[] = {"classification", "regression"};
static const char *const dtypes[] = {"f32", "u8", "bit"};
static const char *const encoders[] = {"none", "hash_text", "tabular"};
static const char *const optimizers[] = {"sgd", "adam"};
static const char *const activations[] = {"relu", "tanh"};
static const char *const aggregations[] = {"mean", "vote"};
static const struct word_list kind_words = {"/kind", kinds, 2, "softmax or mlp"};
static const struct word_list task_words = {"/task", tasks, 2, "classification or regression"};
static const struct word_list dtype_words = {"/dtype", dtypes, 3, "f32, u8 or bit"};
static const struct word_list encoder_words = {"/encoder", encoders, 3,
                                               "none, hash_text or tabular"};
static const struct word_list optimizer_words = {"/optimizer", optimizers, 2, "sgd or adam"};
static const struct word_list activation_words = {"/activation", activations, 2, "relu or tanh"};
static const struct word_list aggregation_words = {"/aggregation", aggregations, 2, "mean or vote"};
static const struct word_list type_words = {
        "/type", (const char *const[]){"numeric", "categorical"}, 2, "numeric or categorical"};

static int word_index(const struct word_list *list, const char *word, const char *prefix,
                      uint32_t *out, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];

        for (uint32_t i = 0; i < list->count; i++) {
                if (strcmp(word, list->words[i]) == 0) {
                        *out = i;
                        return 0;
                }
        }
        snprintf(field, sizeof field, "%s%s", prefix, list->field);
        return ul_fail_field(e, UL_INVALID, field, "must be %s", list->all);
}

static int words_apply(const struct request *r, struct model_config *c, struct errinfo *e)
{
        uint32_t i = 0;
        int err;

        if ((err = word_index(&kind_words, r->kind, "", &i, e)))
                return err;
        c->kind = (enum model_kind)i;
        if ((err = word_index(&task_words, r->task, "", &i, e)))
                return err;
        c->task = (enum model_task)i;
        if ((err = word_index(&encoder_words, r->encoder, "", &i, e)))
                return err;
        c->encoder = (enum model_encoder)i;
        if ((err = word_index(&optimizer_words, r->optimizer, "", &i, e)))
                return err;
        c->optimizer = (enum model_optimizer)i;
        if ((err = word_index(&activation_words, r->activation, "", &i, e)))
                return err;
        c->activation = (enum model_activation)i;
        if ((err = word_index(&aggregation_words, r->aggregation, "", &i, e)))
                return err;
        c->aggregation = (enum model_aggregation)i;
        i = c->encoder == ENCODER_HASH_TEXT ? DTYPE_U8 : DTYPE_F32;
        if (r->has_dtype && (err = word_index(&dtype_words, r->dtype, "", &i, e)))
                return err;
        c->dtype = (enum model_dtype)i;
        return 0;
}

/* Fields that were given and mean nothing beside the others. */
static int refuse_idle(const struct request *r, const struct model_config *c, struct errinfo *e)
{
        const bool regression = c->task == TASK_REGRESSION;
        const struct {
                bool refused;
                const char *field, *detail;
        } rules[] = {
                {r->has_hidden && c->kind != KIND_MLP, "/hidden", "applies to kind mlp only"},
                {r->has_activation && c->kind != KIND_MLP, "/activation",
                 "applies to kind mlp only"},
                {r->has_classes && regression, "/classes",
                 "applies to task classification only; a regression has targets"},
                {r->has_labels && regression, "/labels", "applies to task classification only"},
                {r->has_targets && !regression, "/targets",
                 "applies to task regression only; a classification has classes"},
                {c->aggregation == AGGREGATION_VOTE && regression, "/aggregation",
                 "must be mean for a regression"},
                {r->has_columns && c->encoder != ENCODER_TABULAR, "/columns",
                 "applies to encoder tabular only"},
                {c->encoder == ENCODER_HASH_TEXT && c->dtype != DTYPE_U8, "/dtype",
                 "must be u8 for encoder hash_text, which counts"},
                {c->encoder == ENCODER_TABULAR && c->dtype != DTYPE_F32, "/dtype",
                 "must be f32 for encoder tabular"},
                {!r->has_columns && c->encoder == ENCODER_TABULAR, "/columns",
                 "is required for encoder tabular"},
                {!r->has_features && c->encoder != ENCODER_TABULAR, "/features", "is required"},
                {!r->has_classes && !regression, "/classes", "is required for task classification"},
        };
        for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
                if (rules[i].refused)
                        return ul_fail_field(e, UL_INVALID, rules[i].field, "%s", rules[i].detail);
        return 0;
}

struct entry {
        const char *text;
        uint32_t index;
};

static int entry_order(const void *a, const void *b)
{
        const struct entry *x = a, *y = b;
        const int order = strcmp(x->text, y->text);
        return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* Sorted, so that a hostile body costs n log n. Sorts `entries`. */
static int refuse_repeated(struct entry *entries, uint32_t n, const char *prefix,
                           const char *suffix, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];

        qsort(entries, n, sizeof *entries, entry_order);
        for (uint32_t i = 1; i < n; i++) {
                if (strcmp(entries[i - 1].text, entries[i].text) != 0)
                        continue;
                snprintf(field, sizeof field, "%s/%u%s", prefix, entries[i].index, suffix);
                return ul_fail_field(e, UL_INVALID, field, "repeats an earlier one");
        }
        return 0;
}

static void texts_free(char ***texts, uint32_t n)
{
        for (uint32_t i = 0; *texts && i < n; i++)
                free((*texts)[i]);
        free(*texts);
        *texts = NULL;
}

/* An array of `n` distinct strings of min..max bytes into a fresh array. The caller frees *out,
 * also after a failure. */
static int texts_decode(const struct json *array, uint32_t n, size_t min, size_t max,
                        const char *prefix, char ***out, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];
        struct entry *entries = calloc(n, sizeof *entries);
        uint32_t i = 0;
        int err = 0;

        *out = calloc(n, sizeof **out);
        if (!entries || !*out) {
                err = ul_fail(e, UL_NOMEM, "no memory for a model's names");
                goto out;
        }
        for (const struct json *v = json_first(array); v && i < n; v = json_next(v), i++) {
                const char *s = json_string(v);
                if (!s || strlen(s) < min || strlen(s) > max) {
                        snprintf(field, sizeof field, "%s/%u", prefix, i);
                        err = ul_fail_field(e, UL_INVALID, field,
                                            "must be a string of %zu to %zu bytes", min, max);
                        goto out;
                }
                if (!((*out)[i] = strdup(s))) {
                        err = ul_fail(e, UL_NOMEM, "no memory for a model's names");
                        goto out;
                }
                entries[i] = (struct entry){(*out)[i], i};
        }
        assert(i == n);
        err = refuse_repeated(entries, n, prefix, "", e);
out:
        free(entries);
        return err;
}

/* Whether a list that is shorter than the classes only begins to number them ("0", "1"): the rest
 * is then numbered too. Names must be complete. */
static bool begins_numbering(const struct json *labels, uint32_t classes)
{
        char index[16];
        uint32_t i = 0;
        if (json_type_of(labels) != JSON_ARRAY || json_length(labels) >= classes)
                return false;
        for (const struct json *v = json_first(labels); v; v = json_next(v), i++) {
                const char *s = json_string(v);
                snprintf(index, sizeof index, "%u", i);
                if (!s || strcmp(s, index) != 0)
                        return false;
        }
        return i > 0;
}

static int labels_decode(const struct request *r, struct model_config *c, struct errinfo *e)
{
        if (c->task == TASK_REGRESSION)
                return 0;
        if (r->has_labels && !begins_numbering(r->labels, c->outputs)) {
                if (json_type_of(r->labels) != JSON_ARRAY || json_length(r->labels) != c->outputs)
                        return ul_fail_field(e, UL_INVALID, "/labels",
                                             "must be an array of %u strings, one for each class",
                                             c->outputs);
                return texts_decode(r->labels, c->outputs, 1, LABEL_BYTES_MAX, "/labels",
                                    &c->labels, e);
        }
        c->labels = calloc(c->outputs, sizeof *c->labels);
        for (uint32_t i = 0; c->labels && i < c->outputs; i++) {
                if (asprintf(&c->labels[i], "%u", i) < 0) {
                        c->labels[i] = NULL;
                        return ul_fail(e, UL_NOMEM, "no memory for a model's labels");
                }
        }
        return c->labels ? 0 : ul_fail(e, UL_NOMEM, "no memory for a model's labels");
}

static int hidden_decode(const struct request *r, struct model_config *c, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];

        if (c->kind != KIND_MLP)
                return 0;
        if (!r->has_hidden) {
                c->hidden_count = 1;
                c->hidden[0] = 128;
                return 0;
        }
        const size_t n = json_type_of(r->hidden) == JSON_ARRAY ? json_length(r->hidden) : 0;
        if (n < 1 || n > HIDDEN_LAYERS_MAX)
                return ul_fail_field(e, UL_INVALID, "/hidden", "must be an array of 1 to %d sizes",
                                     HIDDEN_LAYERS_MAX);
        for (const struct json *v = json_first(r->hidden); v; v = json_next(v)) {
                int64_t units;
                if (!json_integer(v, 1, HIDDEN_UNITS_MAX, &units)) {
                        snprintf(field, sizeof field, "/hidden/%u", c->hidden_count);
                        return ul_fail_field(e, UL_INVALID, field,
                                             "must be an integer from 1 to %d", HIDDEN_UNITS_MAX);
                }
                c->hidden[c->hidden_count++] = (uint32_t)units;
        }
        return 0;
}

struct column_request {
        char name[COLUMN_NAME_MAX + 1];
        char type[WORD];
        const struct json *values;
        bool has_values;
};
static const struct json_field column_fields[] = {
        {"name", JF_STRING, offsetof(struct column_request, name), COLUMN_NAME_MAX + 1, 1,
         COLUMN_NAME_MAX, true, 0},
        {"type", JF_STRING, offsetof(struct column_request, type), WORD, 0, 0, true, 0},
        {"values", JF_VALUE, offsetof(struct column_request, values), 0, 0, 0, false,
         offsetof(struct column_request, has_values)},
};

/* The other members of a record: a CSV column of that name would be ambiguous. */
static bool column_reserved(const char *name)
{
        return strcmp(name, "id") == 0 || strcmp(name, "subject") == 0 ||
               strcmp(name, "label") == 0 || strcmp(name, "erasure_likelihood") == 0;
}

static int column_values(const struct column_request *r, const char *prefix,
                         struct column_spec *out, struct errinfo *e)
{
        char field[ERRINFO_FIELD_MAX];

        snprintf(field, sizeof field, "%s/values", prefix);
        if (!out->categorical)
                return r->has_values ? ul_fail_field(e, UL_INVALID, field,
                                                     "applies to type categorical only")
                                     : 0;
        const size_t n =
                r->has_values && json_type_of(r->values) == JSON_ARRAY ? json_length(r->values) : 0;
        if (n < 1 || n > CATEGORIES_MAX)
                return ul_fail_field(e, UL_INVALID, field, "must be an array of 1 to %d strings",
                                     CATEGORIES_MAX);
        out->value_count = (uint32_t)n;
        return texts_decode(r->values, out->value_count, 0, CATEGORY_BYTES_MAX, field, &out->values,
                            e);
}

static int column_decode(const struct json *v, uint32_t index, struct column_spec *out,
                         struct errinfo *e)
{
        struct column_request r = {0};
        char prefix[WORD], field[ERRINFO_FIELD_MAX];
        uint32_t type;
        int err;

        snprintf(prefix, sizeof prefix, "/columns/%u", index);
        if (json_type_of(v) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, prefix, "must be an object");
        if ((err = json_decode(v, column_fields, sizeof column_fields / sizeof *column_fields, &r,
                               prefix, e)))
                return err;
        if ((err = word_index(&type_words, r.type, prefix, &type, e)))
                return err;
        if (column_reserved(r.name)) {
                snprintf(field, sizeof field, "%s/name", prefix);
                return ul_fail_field(e, UL_INVALID, field,
                                     "is the name of another member of a record");
        }
        out->categorical = type == 1;
        if (!(out->name = strdup(r.name)))
                return ul_fail(e, UL_NOMEM, "no memory for a model's columns");
        return column_values(&r, prefix, out, e);
}

static int column_names_check(const struct model_config *c, struct errinfo *e)
{
        struct entry *entries = calloc(c->column_count, sizeof *entries);
        int err;

        if (!entries)
                return ul_fail(e, UL_NOMEM, "no memory for a model's columns");
        for (uint32_t i = 0; i < c->column_count; i++)
                entries[i] = (struct entry){c->columns[i].name, i};
        err = refuse_repeated(entries, c->column_count, "/columns", "/name", e);
        free(entries);
        return err;
}

static int columns_decode(const struct request *r, struct model_config *c, struct errinfo *e)
{
        uint32_t i = 0, width = 0; /* at most COLUMNS_MAX * (CATEGORIES_MAX + 1) */
        int err;

        c->features = r->features;
        if (c->encoder != ENCODER_TABULAR)
                return 0;
        const size_t n = json_type_of(r->columns) == JSON_ARRAY ? json_length(r->columns) : 0;
        if (n < 1 || n > COLUMNS_MAX)
                return ul_fail_field(e, UL_INVALID, "/columns",
                                     "must be an array of 1 to %d columns", COLUMNS_MAX);
        if (!(c->columns = calloc(n, sizeof *c->columns)))
                return ul_fail(e, UL_NOMEM, "no memory for a model's columns");
        c->column_count = (uint32_t)n;
        for (const struct json *v = json_first(r->columns); v; v = json_next(v), i++) {
                if ((err = column_decode(v, i, &c->columns[i], e)))
                        return err;
                c->columns[i].first_feature = width;
                width += c->columns[i].categorical ? c->columns[i].value_count + 1 : 1;
        }
        if (width > FEATURES_MAX)
                return ul_fail_field(e, UL_INVALID, "/columns",
                                     "make %u features; at most %d are served", width,
                                     FEATURES_MAX);
        if (r->has_features && r->features != width)
                return ul_fail_field(e, UL_INVALID, "/features",
                                     "must be %u, which the columns make, or left out", width);
        c->features = width;
        return column_names_check(c, e);
}

static int name_apply(const struct request *r, bool need_name, struct model_config *c,
                      struct errinfo *e)
{
        if (!r->has_name && need_name)
                return ul_fail_field(e, UL_INVALID, "/name", "is required");
        if (r->has_name && !model_name_valid(r->name, strlen(r->name)))
                return ul_fail_field(e, UL_INVALID, "/name",
                                     "must be 1 to %d of a-z, 0-9, _ and -, starting with a letter "
                                     "or digit",
                                     MODEL_NAME_MAX);
        memcpy(c->name, r->name, sizeof c->name);
        return 0;
}

/* + 0.0 turns -0 into 0, so that the two have one canonical text. */
static void numbers_apply(const struct request *r, struct model_config *c)
{
        c->outputs = c->task == TASK_REGRESSION ? r->targets : r->classes;
        c->shards = r->shards;
        c->slices = r->slices;
        c->epochs = r->epochs;
        c->batch_size = r->batch_size;
        c->learning_rate = r->has_learning_rate             ? r->learning_rate
                           : c->optimizer == OPTIMIZER_ADAM ? 0.001
                                                            : 0.1;
        c->learning_rate_decay = r->learning_rate_decay + 0.0;
        c->momentum = r->momentum + 0.0;
        c->l2 = r->l2 + 0.0;
        c->seed = r->seed;
        /* Bits and word counts are sparse, and centred they would not be. */
        c->standardize = r->has_standardize
                                 ? r->standardize
                                 : c->dtype != DTYPE_BIT && c->encoder != ENCODER_HASH_TEXT;
}

static int hash_set(struct model_config *c, struct errinfo *e)
{
        struct buf text;
        struct json_writer w;
        int err = 0;

        buf_init(&text, 0);
        jw_init(&w, &text);
        jw_object(&w);
        model_config_write(c, &w, false);
        jw_end_object(&w);
        if (text.failed)
                err = ul_fail(e, UL_NOMEM, "no memory for a model's configuration");
        else if (text.len > MODEL_CONFIG_BYTES_MAX - 128) /* leaves room for the name */
                err = ul_fail(e, UL_TOO_LARGE, "the configuration is over %d bytes",
                              MODEL_CONFIG_BYTES_MAX);
        else
                sha256(text.data, text.len, c->hash);
        buf_free(&text, false);
        return err;
}

static int request_apply(const struct request *r, bool need_name, struct model_config *c,
                         struct errinfo *e)
{
        int err;

        if ((err = name_apply(r, need_name, c, e)) || (err = words_apply(r, c, e)) ||
            (err = refuse_idle(r, c, e)))
                return err;
        numbers_apply(r, c);
        if ((err = labels_decode(r, c, e)) || (err = hidden_decode(r, c, e)) ||
            (err = columns_decode(r, c, e)))
                return err;
        if (model_parameter_count(c) > PARAMETERS_MAX)
                return ul_fail_field(e, UL_INVALID, c->kind == KIND_MLP ? "/hidden" : "/features",
                                     "makes a model of more than %d parameters", PARAMETERS_MAX);
        return hash_set(c, e);
}

static int decode(const struct json *object, bool need_name, struct model_config **out,
                  struct errinfo *e)
{
        struct request r = request_defaults;
        struct model_config *c = NULL;
        int err;

        *out = NULL;
        if (json_type_of(object) != JSON_OBJECT)
                return ul_fail(e, UL_INVALID, "a model's configuration is a JSON object");
        if ((err = json_decode(object, request_fields,
                               sizeof request_fields / sizeof *request_fields, &r, "", e)))
                return err;
        if (!(c = calloc(1, sizeof *c)))
                return ul_fail(e, UL_NOMEM, "no memory for a model's configuration");
        if ((err = request_apply(&r, need_name, c, e))) {
                model_config_destroy(&c);
                return err;
        }
        *out = c;
        return 0;
}

int model_config_decode(const struct json *object, struct model_config **out, struct errinfo *e)
{
        return decode(object, true, out, e);
}

int model_config_parse(const char *text, size_t len, struct model_config **out, struct errinfo *e)
{
        struct json *doc = NULL;
        int err;

        *out = NULL;
        if (len > MODEL_CONFIG_BYTES_MAX)
                return ul_fail(e, UL_TOO_LARGE, "the configuration is over %d bytes",
                               MODEL_CONFIG_BYTES_MAX);
        if ((err = json_parse(text, len, &doc, e)))
                return err;
        err = decode(doc, false, out, e);
        json_free(&doc);
        return err;
}

void model_config_destroy(struct model_config **config)
{
        struct model_config *c = *config;

        if (!c)
                return;
        texts_free(&c->labels, c->outputs);
        for (uint32_t i = 0; i < c->column_count; i++) {
                free(c->columns[i].name);
                texts_free(&c->columns[i].values, c->columns[i].value_count);
        }
        free(c->columns);
        free(c);
        *config = NULL;
}

const char *kind_name(enum model_kind v)
{
        return kinds[v];
}

const char *task_name(enum model_task v)
{
        return tasks[v];
}

const char *dtype_name(enum model_dtype v)
{
        return dtypes[v];
}

const char *encoder_name(enum model_encoder v)
{
        return encoders[v];
}
