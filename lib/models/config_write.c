/* SPDX-License-Identifier: Apache-2.0
 * config_write.c: a configuration as canonical JSON, and what is derived from one: its hash, key,
 * parameter count and label numbers. The order of the members and the form of the numbers are part
 * of every checkpoint's provenance (config_hash): changing them orphans what was trained. */
#include "lib/models/config.h"
#include <string.h>

static void strings(struct json_writer *w, const char *key, char *const *texts, uint32_t n)
{
        jw_key(w, key);
        jw_array(w);
        for (uint32_t i = 0; i < n; i++)
                jw_string(w, texts[i]);
        jw_end_array(w);
}

static void text(struct json_writer *w, const char *key, const char *value)
{
        jw_member_string(w, key, value);
}

static void count(struct json_writer *w, const char *key, uint64_t value)
{
        jw_member_u64(w, key, value);
}

static void number(struct json_writer *w, const char *key, double value)
{
        jw_member_double(w, key, value);
}

static void columns(struct json_writer *w, const struct model_config *c)
{
        jw_key(w, "columns");
        jw_array(w);
        for (uint32_t i = 0; i < c->column_count; i++) {
                const struct column_spec *column = &c->columns[i];
                jw_object(w);
                text(w, "name", column->name);
                text(w, "type", column->categorical ? "categorical" : "numeric");
                if (column->categorical)
                        strings(w, "values", column->values, column->value_count);
                jw_end_object(w);
        }
        jw_end_array(w);
}

static void shape(struct json_writer *w, const struct model_config *c)
{
        count(w, "features", c->features);
        if (c->task == TASK_REGRESSION) {
                count(w, "targets", c->outputs);
        } else {
                count(w, "classes", c->outputs);
                strings(w, "labels", c->labels, c->outputs);
        }
        if (c->encoder == ENCODER_TABULAR)
                columns(w, c);
        if (c->kind != KIND_MLP)
                return;
        jw_key(w, "hidden");
        jw_array(w);
        for (uint32_t i = 0; i < c->hidden_count; i++)
                jw_u64(w, c->hidden[i]);
        jw_end_array(w);
        text(w, "activation", c->activation == ACTIVATION_TANH ? "tanh" : "relu");
}

void model_config_write(const struct model_config *c, struct json_writer *w, bool with_name)
{
        if (with_name && c->name[0])
                text(w, "name", c->name);
        text(w, "kind", kind_name(c->kind));
        text(w, "task", task_name(c->task));
        text(w, "encoder", encoder_name(c->encoder));
        text(w, "dtype", dtype_name(c->dtype));
        shape(w, c);
        count(w, "shards", c->shards);
        count(w, "slices", c->slices);
        count(w, "epochs", c->epochs);
        count(w, "batch_size", c->batch_size);
        number(w, "learning_rate", c->learning_rate);
        number(w, "learning_rate_decay", c->learning_rate_decay);
        number(w, "momentum", c->momentum);
        number(w, "l2", c->l2);
        text(w, "optimizer", c->optimizer == OPTIMIZER_ADAM ? "adam" : "sgd");
        text(w, "aggregation", c->aggregation == AGGREGATION_VOTE ? "vote" : "mean");
        count(w, "seed", c->seed);
        jw_member_bool(w, "standardize", c->standardize);
}

void model_config_hash(const struct model_config *c, uint8_t out[SHA256_BYTES])
{
        memcpy(out, c->hash, SHA256_BYTES);
}

bool model_name_valid(const char *name, size_t len)
{
        if (len < 1 || len > MODEL_NAME_MAX)
                return false;
        for (size_t i = 0; i < len; i++) {
                const char ch = name[i];
                const bool plain = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
                if (!plain && (i == 0 || (ch != '_' && ch != '-')))
                        return false;
        }
        return true;
}

int model_label_index(const struct model_config *c, const char *label, size_t len)
{
        if (!c->labels || len > LABEL_BYTES_MAX || memchr(label, 0, len))
                return -1;
        for (uint32_t i = 0; i < c->outputs; i++)
                if (strncmp(c->labels[i], label, len) == 0 && c->labels[i][len] == '\0')
                        return (int)i;
        return -1;
}

void model_key(const struct model_config *c, const uint8_t pseudonym_key[KEY_BYTES],
               uint8_t out[KEY_BYTES])
{
        uint8_t words[5 + 8] = {'m', 'o', 'd', 'e', 'l'};

        put_le64(words + 5, c->seed);
        keyed_hash(pseudonym_key, words, sizeof words, out, KEY_BYTES);
}

uint64_t model_parameter_count(const struct model_config *c)
{
        uint64_t total = 0, in = c->features;

        for (uint32_t i = 0; i < c->hidden_count; i++) {
                total += (in + 1) * c->hidden[i];
                in = c->hidden[i];
        }
        return total + (in + 1) * c->outputs;
}
