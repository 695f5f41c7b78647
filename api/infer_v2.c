/* SPDX-License-Identifier: Apache-2.0
 * infer_v2.c: a request of the Open Inference Protocol, with its tensors in JSON or behind it as
 * raw bytes (the binary tensor extension), to rows of features. It knows neither routes nor
 * answers. */
#include "api/infer.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what V1 needs too --- */

const char *infer_output_name(enum infer_output o)
{
        static const char *const names[] = {[OUTPUT_LABEL] = "label",
                                            [OUTPUT_CLASS] = "class",
                                            [OUTPUT_PROBABILITIES] = "probabilities",
                                            [OUTPUT_VALUE] = "value"};
        return names[o];
}

int infer_place(struct errinfo *e, const char *format, ...)
{
        char field[2 * ERRINFO_FIELD_MAX];
        va_list args;
        va_start(args, format);
        int n = vsnprintf(field, sizeof field, format, args);
        va_end(args);
        if (n < 0 || (size_t)n + strlen(e->field) >= sizeof e->field)
                return e->code;
        memcpy(field + n, e->field, strlen(e->field) + 1);
        memcpy(e->field, field, strlen(field) + 1);
        return e->code;
}

/* --- a request's parts --- */

/* The one input. */
struct input {
        const char *name;
        enum tensor_type type;
        uint32_t rank;
        uint64_t shape[2];
        const struct tensor_span *data; /* in JSON, or */
        const uint8_t *raw;             /* behind it; one of them is NULL */
        size_t raw_len;
};

static int decode_object(const struct json *v, const struct json_field *fields, size_t n, void *out,
                         const char *prefix, struct errinfo *e)
{
        if (json_type_of(v) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, prefix, "this must be an object");
        return json_decode(v, fields, n, out, prefix, e);
}
#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

/* --- outputs --- */

struct output_text {
        char name[32];
        const struct json *parameters;
};

static bool output_exists(const struct model_config *c, enum infer_output o)
{
        return (c->task == TASK_REGRESSION) == (o == OUTPUT_VALUE);
}

static void want_all_outputs(struct infer *in, bool binary)
{
        const struct model_config *c = predict_config(in->predict);
        in->output_count = 0;
        for (int o = OUTPUT_LABEL; o <= OUTPUT_VALUE; o++) {
                if (!output_exists(c, (enum infer_output)o))
                        continue;
                in->outputs[in->output_count].what = (enum infer_output)o;
                in->outputs[in->output_count].binary = binary;
                in->output_count++;
        }
}

static int want_output(struct infer *in, const struct json *v, const char *place, bool binary,
                       struct errinfo *e)
{
        static const struct json_field fields[] = {
                {.name = "name",
                 .type = JF_STRING,
                 .offset = offsetof(struct output_text, name),
                 .size = sizeof((struct output_text *)0)->name,
                 .required = true},
                {.name = "parameters",
                 .type = JF_VALUE,
                 .offset = offsetof(struct output_text, parameters)},
        };
        static const struct json_field parameters[] = {{.name = "binary_data", .type = JF_BOOL}};
        struct output_text text = {0};
        int err = decode_object(v, fields, COUNT(fields), &text, place, e);
        if (err == 0 && text.parameters != NULL) {
                err = decode_object(text.parameters, parameters, COUNT(parameters), &binary,
                                    "/parameters", e);
                if (err != 0)
                        return infer_place(e, "%s", place);
        }
        if (err != 0)
                return err;
        int o = OUTPUT_LABEL;
        while (o <= OUTPUT_VALUE && strcmp(infer_output_name((enum infer_output)o), text.name) != 0)
                o++;
        if (o > OUTPUT_VALUE || !output_exists(predict_config(in->predict), (enum infer_output)o))
                return ul_fail_field(e, UL_INVALID, place,
                                     "the model has no output of this name; its metadata lists "
                                     "them");
        for (uint32_t i = 0; i < in->output_count; i++) {
                if (in->outputs[i].what == (enum infer_output)o)
                        return ul_fail_field(e, UL_INVALID, place, "this output is there twice");
        }
        assert(in->output_count < INFER_OUTPUTS_MAX);
        in->outputs[in->output_count].what = (enum infer_output)o;
        in->outputs[in->output_count].binary = binary;
        in->output_count++;
        return 0;
}

static int want_outputs(struct infer *in, const struct json *list, bool binary, struct errinfo *e)
{
        if (list == NULL || (json_type_of(list) == JSON_ARRAY && json_first(list) == NULL)) {
                want_all_outputs(in, binary);
                return 0;
        }
        if (json_type_of(list) != JSON_ARRAY)
                return ul_fail_field(e, UL_INVALID, "/outputs", "this must be an array");
        uint32_t i = 0;
        for (const struct json *v = json_first(list); v != NULL; v = json_next(v), i++) {
                struct errinfo place = {0};
                infer_place(&place, "/outputs/%u", i);
                int err = want_output(in, v, place.field, binary, e);
                if (err != 0)
                        return err;
        }
        return 0;
}

/* --- the input --- */

struct input_text {
        char name[64];
        char datatype[16];
        const struct json *shape, *parameters, *data;
};
static const struct json_field input_fields[] = {
        {.name = "name",
         .type = JF_STRING,
         .offset = offsetof(struct input_text, name),
         .size = sizeof((struct input_text *)0)->name,
         .required = true},
        {.name = "datatype",
         .type = JF_STRING,
         .offset = offsetof(struct input_text, datatype),
         .size = sizeof((struct input_text *)0)->datatype,
         .required = true},
        {.name = "shape",
         .type = JF_VALUE,
         .offset = offsetof(struct input_text, shape),
         .required = true},
        {.name = "parameters", .type = JF_VALUE, .offset = offsetof(struct input_text, parameters)},
        {.name = "data", .type = JF_VALUE, .offset = offsetof(struct input_text, data)},
};

static int read_shape(const struct json *v, struct input *out, struct errinfo *e)
{
        if (json_type_of(v) != JSON_ARRAY || json_length(v) < 1 || json_length(v) > 2)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/shape",
                                     "the shape is an array of two sizes, rows first");
        for (const struct json *c = json_first(v); c != NULL; c = json_next(c)) {
                int64_t size = 0;
                if (!json_integer(c, 0, INT32_MAX, &size))
                        return ul_fail_field(e, UL_INVALID, "/inputs/0/shape",
                                             "a size is a whole number");
                out->shape[out->rank++] = (uint64_t)size;
        }
        return 0;
}

/* Raw bytes belong to the input exactly: nothing may be left over. */
static int read_raw(const struct json *parameters, const uint8_t *raw, size_t raw_len,
                    struct input *out, struct errinfo *e)
{
        static const struct json_field fields[] = {{.name = "binary_data_size", .type = JF_U64}};
        uint64_t size = 0;
        bool given = false;
        if (parameters != NULL) {
                int err = decode_object(parameters, fields, COUNT(fields), &size,
                                        "/inputs/0/parameters", e);
                if (err != 0)
                        return err;
                given = json_get(parameters, "binary_data_size") != NULL;
        }
        if (!given && raw_len != 0)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/parameters/binary_data_size",
                                     "bytes follow the JSON, but no input says that they are its "
                                     "own");
        if (!given)
                return 0;
        if (size != raw_len)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/parameters/binary_data_size",
                                     "wrong size: %llu bytes are announced and %zu follow the JSON",
                                     (unsigned long long)size, raw_len);
        out->raw = raw;
        out->raw_len = raw_len;
        return 0;
}

static int read_tensor(const struct json *list, const struct tensor_cuts *cuts, const uint8_t *raw,
                       size_t raw_len, struct input *out, struct errinfo *e)
{
        struct input_text text = {0};
        if (json_type_of(list) != JSON_ARRAY || json_length(list) != 1)
                return ul_fail_field(e, UL_INVALID, "/inputs",
                                     "there is one input, and its name is \"input\"");
        int err = decode_object(json_first(list), input_fields, COUNT(input_fields), &text,
                                "/inputs/0", e);
        if (err != 0)
                return err;
        if (strcmp(text.name, "input") != 0)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/name",
                                     "the input's name is \"input\"");
        if (!tensor_type_parse(text.datatype, &out->type))
                return ul_fail_field(e, UL_INVALID, "/inputs/0/datatype",
                                     "the datatypes are FP32, FP64, INT8 to INT64, UINT8 to "
                                     "UINT64, BOOL and BYTES");
        err = read_shape(text.shape, out, e);
        if (err == 0)
                err = read_raw(text.parameters, raw, raw_len, out, e);
        if (err != 0)
                return err;
        if ((text.data != NULL) == (out->raw != NULL))
                return ul_fail_field(e, UL_INVALID, "/inputs/0/data",
                                     text.data != NULL ? "data is there in JSON and as raw bytes"
                                                       : "data is missing");
        if (text.data != NULL) {
                out->data = tensor_find(cuts, text.data);
                if (out->data == NULL)
                        return ul_fail_field(e, UL_INVALID, "/inputs/0/data",
                                             "this must be an array");
        }
        return 0;
}

/* --- rows of features --- */

static int wrong_shape(const struct model_config *c, struct errinfo *e)
{
        if (c->encoder == ENCODER_TABULAR)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/shape",
                                     "wrong size: the model takes [n, %u] BYTES (columns), or "
                                     "[n, %u] numbers (encoded features)",
                                     c->column_count, c->features);
        if (c->encoder == ENCODER_HASH_TEXT)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/shape",
                                     "wrong size: the model takes [n] or [n, 1] BYTES (texts), or "
                                     "[n, %u] numbers (encoded features)",
                                     c->features);
        return ul_fail_field(e, UL_INVALID, "/inputs/0/shape",
                             "wrong size: the model takes [n, %u] numbers", c->features);
}

static int fill_numbers(struct predict *p, const struct input *t, struct errinfo *e)
{
        const struct model_config *c = predict_config(p);
        if (t->rank != 2 || t->shape[1] != c->features)
                return wrong_shape(c, e);
        size_t size = tensor_type_size(t->type);
        if (t->raw != NULL && t->raw_len != t->shape[0] * c->features * size)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/parameters/binary_data_size",
                                     "wrong size: the shape makes %llu bytes",
                                     (unsigned long long)(t->shape[0] * c->features * size));
        float *x = NULL;
        int err = predict_rows(p, (uint32_t)t->shape[0], &x, e);
        if (err != 0)
                return infer_place(e, "/inputs/0/shape");
        if (t->raw != NULL)
                err = tensor_binary(t->raw, t->shape[0] * c->features, t->type, x, e);
        else
                err = tensor_numbers(t->data->text, t->data->len, t->type, t->shape[0], c->features,
                                     x, e);
        return err != 0 ? infer_place(e, "/inputs/0/data") : 0;
}

static int fill_text(struct predict *p, uint32_t columns, size_t at, const char *text, size_t len,
                     struct errinfo *e)
{
        uint32_t row = (uint32_t)(at / columns);
        return predict_config(p)->encoder == ENCODER_HASH_TEXT
                       ? predict_encode_text(p, row, text, len, e)
                       : predict_encode_column(p, row, (uint32_t)(at % columns), text, len, e);
}

static int fill_raw_bytes(struct predict *p, const struct input *t, size_t count, uint32_t columns,
                          struct errinfo *e)
{
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
                const char *text = NULL;
                size_t len = 0;
                int err = tensor_next_bytes(t->raw, t->raw_len, &at, &text, &len, e);
                if (err == 0)
                        err = fill_text(p, columns, i, text, len, e);
                if (err != 0)
                        return err;
        }
        return at == t->raw_len ? 0 : ul_fail(e, UL_INVALID, "wrong size: bytes are left over");
}

/* Texts in JSON: flat, or an array of rows. *at counts them. */
static int fill_json_bytes(struct predict *p, const struct json *list, uint32_t depth, size_t count,
                           uint32_t columns, size_t *at, struct errinfo *e)
{
        size_t start = *at;
        for (const struct json *v = json_first(list); v != NULL; v = json_next(v)) {
                int err = 0;
                if (json_type_of(v) == JSON_ARRAY && depth == 1) {
                        err = fill_json_bytes(p, v, 2, count, columns, at, e);
                        if (err != 0)
                                return err;
                        continue;
                }
                const char *text = json_string(v);
                if (text == NULL)
                        return ul_fail(e, UL_INVALID, "BYTES are strings in JSON");
                if (*at == count)
                        return ul_fail(e, UL_INVALID, "wrong size: %zu strings are wanted", count);
                err = fill_text(p, columns, *at, text, strlen(text), e);
                if (err != 0)
                        return err;
                (*at)++;
        }
        if (depth == 2 && *at - start != columns)
                return ul_fail(e, UL_INVALID, "wrong size: a row has %u strings", columns);
        return 0;
}

static int fill_bytes(struct predict *p, const struct input *t, struct errinfo *e)
{
        const struct model_config *c = predict_config(p);
        uint32_t columns = c->encoder == ENCODER_TABULAR ? c->column_count : 1;
        bool flat_text = c->encoder == ENCODER_HASH_TEXT && t->rank == 1;
        float *x = NULL;
        if (c->encoder == ENCODER_NONE)
                return ul_fail_field(e, UL_INVALID, "/inputs/0/datatype",
                                     "the model takes numbers, not BYTES");
        if (!flat_text && (t->rank != 2 || t->shape[1] != columns))
                return wrong_shape(c, e);
        int err = predict_rows(p, (uint32_t)t->shape[0], &x, e);
        if (err != 0)
                return infer_place(e, "/inputs/0/shape");
        size_t count = (size_t)t->shape[0] * columns, at = 0;
        if (t->raw != NULL) {
                err = fill_raw_bytes(p, t, count, columns, e);
                return err != 0 ? infer_place(e, "/inputs/0/data") : 0;
        }
        struct json *list = NULL;
        err = json_parse(t->data->text, t->data->len, &list, e);
        if (err != 0)
                return err;
        err = fill_json_bytes(p, list, 1, count, columns, &at, e);
        json_free(&list);
        if (err == 0 && at != count)
                err = ul_fail(e, UL_INVALID, "wrong size: %zu strings are wanted", count);
        return err != 0 ? infer_place(e, "/inputs/0/data") : 0;
}

/* --- the request --- */

struct request_text {
        bool has_id;
        char id[INFER_ID_MAX + 1];
        const struct json *parameters, *inputs, *outputs;
};
static const struct json_field request_fields[] = {
        {.name = "id",
         .type = JF_STRING,
         .offset = offsetof(struct request_text, id),
         .size = sizeof((struct request_text *)0)->id},
        {.name = "parameters",
         .type = JF_VALUE,
         .offset = offsetof(struct request_text, parameters)},
        {.name = "inputs",
         .type = JF_VALUE,
         .offset = offsetof(struct request_text, inputs),
         .required = true},
        {.name = "outputs", .type = JF_VALUE, .offset = offsetof(struct request_text, outputs)},
};

static int read_request(struct infer *in, const struct json *doc, const struct tensor_cuts *cuts,
                        const uint8_t *raw, size_t raw_len, struct errinfo *e)
{
        static const struct json_field parameters[] = {
                {.name = "binary_data_output", .type = JF_BOOL}};
        struct request_text text = {0};
        struct input input = {0};
        bool binary = false;
        int err = decode_object(doc, request_fields, COUNT(request_fields), &text, "", e);
        if (err == 0 && text.parameters != NULL)
                err = decode_object(text.parameters, parameters, COUNT(parameters), &binary,
                                    "/parameters", e);
        if (err == 0)
                err = want_outputs(in, text.outputs, binary, e);
        if (err == 0)
                err = read_tensor(text.inputs, cuts, raw, raw_len, &input, e);
        if (err != 0)
                return err;
        in->has_id = json_get(doc, "id") != NULL;
        memcpy(in->id, text.id, sizeof in->id);
        return input.type == TENSOR_BYTES ? fill_bytes(in->predict, &input, e)
                                          : fill_numbers(in->predict, &input, e);
}

static int json_length_of(const char *header, size_t body_len, size_t *out, struct errinfo *e)
{
        *out = body_len;
        if (header == NULL)
                return 0;
        char *end = NULL;
        unsigned long long n = strtoull(header, &end, 10);
        if (header[0] < '0' || header[0] > '9' || *end != '\0' || n > body_len)
                return ul_fail(e, UL_SYNTAX,
                               INFER_HEADER " is the number of bytes of JSON in the body");
        *out = (size_t)n;
        return 0;
}

int infer_read_v2(struct infer *in, const uint8_t *body, size_t body_len, const char *header_length,
                  struct errinfo *e)
{
        struct tensor_cuts cuts = {0};
        struct json *doc = NULL;
        size_t json_len = 0;
        int err = json_length_of(header_length, body_len, &json_len, e);
        if (err == 0)
                err = tensor_cut((const char *)body, json_len, "data", 3, &cuts, e);
        if (err == 0)
                err = json_parse((const char *)cuts.envelope.data, cuts.envelope.len, &doc, e);
        if (err == 0)
                err = read_request(in, doc, &cuts, body + json_len, body_len - json_len, e);
        json_free(&doc);
        tensor_cuts_clear(&cuts);
        return err;
}
