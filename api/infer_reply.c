/* SPDX-License-Identifier: Apache-2.0
 * infer_reply.c: outputs of a model to answers: the V2 protocol in JSON or with raw tensors behind
 * it, the V1 list of predictions, and the metadata that announces them. */
#include "api/infer.h"
#include <stdio.h>
#include <string.h>

static const char *output_type(enum infer_output o)
{
        if (o == OUTPUT_LABEL)
                return "BYTES";
        return o == OUTPUT_CLASS ? "INT64" : "FP32";
}

static bool is_matrix(enum infer_output o)
{
        return o == OUTPUT_PROBABILITIES || o == OUTPUT_VALUE;
}

/* The best class; of equals the first. y: [outputs] */
static uint32_t best_class(const float *y, uint32_t outputs)
{
        uint32_t best = 0;
        for (uint32_t i = 1; i < outputs; i++) {
                if (y[i] > y[best])
                        best = i;
        }
        return best;
}

/* --- metadata --- */

/* rows -1: any; columns 0: a vector */
static void write_shape(struct json_writer *w, int64_t rows, uint32_t columns)
{
        jw_key(w, "shape");
        jw_array(w);
        jw_i64(w, rows);
        if (columns != 0)
                jw_u64(w, columns);
        jw_end_array(w);
}

static void write_tensor(struct json_writer *w, const char *name, const char *type, int64_t rows,
                         uint32_t columns)
{
        jw_member_string(w, "name", name);
        jw_member_string(w, "datatype", type);
        write_shape(w, rows, columns);
}

void infer_write_metadata(struct json_writer *w, const struct model_config *c)
{
        bool text = c->encoder == ENCODER_HASH_TEXT, table = c->encoder == ENCODER_TABULAR;
        jw_key(w, "inputs");
        jw_array(w);
        jw_object(w);
        write_tensor(w, "input", text || table ? "BYTES" : "FP32", -1,
                     text ? 0 : (table ? c->column_count : c->features));
        jw_end_object(w);
        jw_end_array(w);
        jw_key(w, "outputs");
        jw_array(w);
        for (int i = OUTPUT_LABEL; i <= OUTPUT_VALUE; i++) {
                enum infer_output o = (enum infer_output)i;
                if ((o == OUTPUT_VALUE) != (c->task == TASK_REGRESSION))
                        continue;
                jw_object(w);
                write_tensor(w, infer_output_name(o), output_type(o), -1,
                             is_matrix(o) ? c->outputs : 0);
                jw_end_object(w);
        }
        jw_end_array(w);
}

/* --- V2 --- */

static void append_le32(struct buf *b, size_t v)
{
        uint8_t bytes[4];
        put_le32(bytes, (uint32_t)v);
        buf_append(b, bytes, sizeof bytes);
}

static void append_raw(struct buf *b, enum infer_output o, const struct predict *p)
{
        const struct model_config *c = predict_config(p);
        const float *y = predict_output(p);
        uint32_t n = predict_count(p);
        if (is_matrix(o)) {
                buf_append(b, y, (size_t)n * c->outputs * sizeof *y);
                return;
        }
        for (uint32_t i = 0; i < n; i++) {
                uint32_t best = best_class(y + (size_t)i * c->outputs, c->outputs);
                if (o == OUTPUT_CLASS) {
                        uint8_t bytes[8];
                        put_le64(bytes, best);
                        buf_append(b, bytes, sizeof bytes);
                } else {
                        append_le32(b, strlen(c->labels[best]));
                        buf_append_str(b, c->labels[best]);
                }
        }
}

static void write_data(struct json_writer *w, enum infer_output o, const struct predict *p)
{
        const struct model_config *c = predict_config(p);
        const float *y = predict_output(p);
        uint32_t n = predict_count(p);
        jw_key(w, "data");
        jw_array(w);
        for (size_t i = 0; is_matrix(o) && i < (size_t)n * c->outputs; i++)
                jw_float(w, y[i]);
        for (uint32_t i = 0; !is_matrix(o) && i < n; i++) {
                uint32_t best = best_class(y + (size_t)i * c->outputs, c->outputs);
                if (o == OUTPUT_CLASS)
                        jw_u64(w, best);
                else
                        jw_string(w, c->labels[best]);
        }
        jw_end_array(w);
}

static void write_output(struct json_writer *w, const struct infer *in, uint32_t at,
                         struct buf *raw)
{
        const struct model_config *c = predict_config(in->predict);
        enum infer_output o = in->outputs[at].what;
        jw_object(w);
        write_tensor(w, infer_output_name(o), output_type(o), predict_count(in->predict),
                     is_matrix(o) ? c->outputs : 0);
        if (in->outputs[at].binary) {
                size_t before = raw->len;
                append_raw(raw, o, in->predict);
                jw_key(w, "parameters");
                jw_object(w);
                jw_member_u64(w, "binary_data_size", raw->len - before);
                jw_end_object(w);
        } else {
                write_data(w, o, in->predict);
        }
        jw_end_object(w);
}

static void write_v2(struct json_writer *w, const struct infer *in, struct buf *raw)
{
        jw_object(w);
        jw_member_string(w, "model_name", predict_config(in->predict)->name);
        jw_member_string(w, "model_version", INFER_VERSION);
        if (in->has_id)
                jw_member_string(w, "id", in->id);
        jw_key(w, "parameters");
        jw_object(w);
        jw_member_u64(w, "generation", predict_generation(in->predict));
        jw_member_u64(w, "clean_constituents", predict_clean(in->predict));
        jw_end_object(w);
        jw_key(w, "outputs");
        jw_array(w);
        for (uint32_t i = 0; i < in->output_count; i++)
                write_output(w, in, i, raw);
        jw_end_array(w);
        jw_end_object(w);
}

static enum handler_result reply_v2(struct request *req, const struct infer *in)
{
        struct buf out = {0}, raw = {0};
        struct json_writer w;
        bool binary = false;
        for (uint32_t i = 0; i < in->output_count; i++)
                binary |= in->outputs[i].binary;
        jw_init(&w, &out);
        write_v2(&w, in, &raw);
        if (!binary)
                return reply_json(req, 200, &out);
        char length[24];
        snprintf(length, sizeof length, "%zu", out.len);
        buf_append(&out, raw.data, raw.len);
        out.failed |= raw.failed;
        buf_free(&raw, true);
        reply_header(req, INFER_HEADER, length);
        return reply_body(req, 200, "application/octet-stream", &out);
}

/* --- V1 --- */

static void write_prediction(struct json_writer *w, const struct model_config *c, const float *y)
{
        if (c->task == TASK_CLASSIFICATION) {
                jw_string(w, c->labels[best_class(y, c->outputs)]);
                return;
        }
        if (c->outputs == 1) {
                jw_float(w, y[0]);
                return;
        }
        jw_array(w);
        for (uint32_t i = 0; i < c->outputs; i++)
                jw_float(w, y[i]);
        jw_end_array(w);
}

static enum handler_result reply_v1(struct request *req, const struct infer *in)
{
        const struct model_config *c = predict_config(in->predict);
        const float *y = predict_output(in->predict);
        struct buf out = {0};
        struct json_writer w;
        jw_init(&w, &out);
        jw_object(&w);
        jw_key(&w, "predictions");
        jw_array(&w);
        for (uint32_t i = 0; i < predict_count(in->predict); i++)
                write_prediction(&w, c, y + (size_t)i * c->outputs);
        jw_end_array(&w);
        jw_end_object(&w);
        return reply_json(req, 200, &out);
}

enum handler_result infer_reply(struct request *req, const struct infer *in)
{
        return in->v1 ? reply_v1(req, in) : reply_v2(req, in);
}
