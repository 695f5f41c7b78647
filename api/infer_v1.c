/* SPDX-License-Identifier: Apache-2.0
 * infer_v1.c: KServe's V1 predict: {"instances": [...]}, each a list of features, a text, an object
 * {"features"}, {"text"} or {"columns"}, as the model's encoder has it. All are of one form. */
#include "api/infer.h"
#include "lib/util/crypto.h"
#include <string.h>

int infer_column(struct predict *p, uint32_t row, uint32_t column, const struct json *v,
                 struct errinfo *e)
{
        const char *text = json_string(v);
        switch (json_type_of(v)) {
        case JSON_STRING:
                return predict_encode_column(p, row, column, text, strlen(text), e);
        case JSON_NULL: /* "other" of a categorical column; a numeric one refuses it */
                return predict_encode_column(p, row, column, NULL, 0, e);
        case JSON_NUMBER: {
                struct buf number = {0};
                struct json_writer w;
                jw_init(&w, &number);
                jw_double(&w, json_number(v));
                int err = number.failed
                                  ? ul_fail(e, UL_NOMEM, "no memory for a number")
                                  : predict_encode_column(p, row, column, (const char *)number.data,
                                                          number.len, e);
                buf_free(&number, true);
                return err;
        }
        case JSON_BOOL:
        case JSON_ARRAY:
        case JSON_OBJECT:
                break;
        }
        return ul_fail(e, UL_INVALID, "a column is a string, a number or null");
}

static int find_column(const struct model_config *c, const char *name)
{
        for (uint32_t i = 0; i < c->column_count; i++) {
                if (strcmp(c->columns[i].name, name) == 0)
                        return (int)i;
        }
        return -1;
}

static int fill_columns(struct predict *p, uint32_t row, const struct json *columns,
                        struct errinfo *e)
{
        const struct model_config *c = predict_config(p);
        if (columns == NULL || json_type_of(columns) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, "/columns", "this must be an object");
        for (const struct json *v = json_first(columns); v != NULL; v = json_next(v)) {
                int at = find_column(c, json_key(v));
                if (at < 0)
                        return ul_fail_field(e, UL_INVALID, "/columns",
                                             "a column is there that the model does not have");
                int err = infer_column(p, row, (uint32_t)at, v, e);
                if (err != 0)
                        return err;
        }
        for (uint32_t i = 0; i < c->column_count; i++) {
                if (json_get(columns, c->columns[i].name) == NULL)
                        return ul_fail_field(e, UL_INVALID, "/columns",
                                             "wrong size: column \"%s\" is missing",
                                             c->columns[i].name);
        }
        return 0;
}

/* An object's one member, under the name that the encoder has for it. */
static int only_member(const struct json *object, const char *name, const struct json **out,
                       struct errinfo *e)
{
        const struct json_field fields[] = {{.name = name, .type = JF_VALUE, .required = true}};
        if (json_type_of(object) != JSON_OBJECT)
                return ul_fail(e, UL_INVALID, "an instance of this model is an object with \"%s\"",
                               name);
        return json_decode(object, fields, 1, (void *)out, "", e);
}

static int fill_instance(struct predict *p, uint32_t row, const struct json *v,
                         const struct tensor_cuts *cuts, float *x, struct errinfo *e)
{
        const struct model_config *c = predict_config(p);
        const struct json *member = NULL;
        const char *text = json_string(v);
        if (c->encoder == ENCODER_NONE) {
                int err = only_member(v, "features", &member, e);
                if (err != 0)
                        return err;
                const struct tensor_span *span = tensor_find(cuts, member);
                if (span == NULL)
                        return ul_fail_field(e, UL_INVALID, "/features", "this must be an array");
                return tensor_numbers(span->text, span->len, TENSOR_FP32, 1, c->features,
                                      x + (size_t)row * c->features, e);
        }
        if (c->encoder == ENCODER_HASH_TEXT) {
                if (text == NULL) {
                        int err = only_member(v, "text", &member, e);
                        if (err != 0)
                                return err;
                        text = json_string(member);
                }
                if (text == NULL)
                        return ul_fail_field(e, UL_INVALID, "/text", "this must be a string");
                return predict_encode_text(p, row, text, strlen(text), e);
        }
        int err = only_member(v, "columns", &member, e);
        return err != 0 ? err : fill_columns(p, row, member, e);
}

static int fill_instances(struct predict *p, const struct tensor_span *span, float *x,
                          struct errinfo *e)
{
        struct tensor_cuts cuts = {0};
        struct json *list = NULL;
        int err = tensor_cut(span->text, span->len, "features", 2, &cuts, e);
        if (err == 0)
                err = json_parse((const char *)cuts.envelope.data, cuts.envelope.len, &list, e);
        uint32_t row = 0;
        const struct json *v = err == 0 ? json_first(list) : NULL;
        for (; v != NULL && err == 0; v = json_next(v), row++) {
                err = row == predict_count(p)
                              ? ul_fail(e, UL_INVALID, "the instances are not of one form")
                              : fill_instance(p, row, v, &cuts, x, e);
                if (err != 0)
                        infer_place(e, "/%u", row);
        }
        if (err == 0 && row != predict_count(p))
                err = ul_fail(e, UL_INVALID, "the instances are not of one form");
        json_free(&list);
        tensor_cuts_clear(&cuts);
        return err;
}

static int read_instances(struct predict *p, const struct tensor_span *span, struct errinfo *e)
{
        const struct model_config *c = predict_config(p);
        float *x = NULL;
        if (span->first != '[' && span->first != '{' && span->first != '"')
                return span->first == ']'
                               ? ul_fail(e, UL_INVALID, "at least one instance is needed")
                               : ul_fail(e, UL_INVALID,
                                         "an instance is an array of features, a string or an "
                                         "object");
        int err = predict_rows(p, span->elements, &x, e);
        if (err != 0)
                return err;
        if (span->first == '[')
                return tensor_numbers(span->text, span->len, TENSOR_FP32, span->elements,
                                      c->features, x, e);
        return fill_instances(p, span, x, e);
}

int infer_read_v1(struct infer *in, const uint8_t *body, size_t body_len, struct errinfo *e)
{
        static const struct json_field fields[] = {
                {.name = "instances", .type = JF_VALUE, .required = true}};
        struct tensor_cuts cuts = {0};
        struct json *doc = NULL;
        const struct json *marker = NULL;
        int err = tensor_cut((const char *)body, body_len, "instances", 1, &cuts, e);
        if (err == 0)
                err = json_parse((const char *)cuts.envelope.data, cuts.envelope.len, &doc, e);
        if (err == 0 && json_type_of(doc) != JSON_OBJECT)
                err = ul_fail(e, UL_INVALID, "the body must be an object with \"instances\"");
        if (err == 0)
                err = json_decode(doc, fields, 1, (void *)&marker, "", e);
        if (err == 0) {
                const struct tensor_span *span = tensor_find(&cuts, marker);
                err = span != NULL ? read_instances(in->predict, span, e)
                                   : ul_fail(e, UL_INVALID, "this must be an array");
                if (err != 0)
                        infer_place(e, "/instances");
        }
        json_free(&doc);
        tensor_cuts_clear(&cuts);
        return err;
}
