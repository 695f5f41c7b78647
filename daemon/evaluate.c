/* SPDX-License-Identifier: Apache-2.0
 * evaluate.c: predicts labelled records that stream in and compares: accuracy, log loss, confusion
 * matrix, mean squared error. Nothing is stored; the predictions go through the same queue as
 * everybody's. */
#include "daemon/intake.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int evaluation_init(struct evaluation *ev, const struct model_config *c, struct errinfo *e)
{
        *ev = (struct evaluation){0};
        if (c->task == TASK_REGRESSION)
                return 0;
        ev->confusion = calloc((size_t)c->outputs * c->outputs, sizeof *ev->confusion);
        return ev->confusion != NULL ? 0 : ul_fail(e, UL_NOMEM, "no memory for an evaluation");
}

int evaluation_submit(struct evaluation *ev, struct service *s, struct model *m,
                      const struct batch *b, service_predict_done done, void *arg,
                      struct errinfo *e)
{
        const struct row_shape *shape = &m->encoding.e.shape;
        uint32_t width = row_bytes(shape);
        float *x = NULL;
        assert(ev->predict == NULL);
        int err = service_predict_open(s, m->config->name, &ev->predict, e);
        if (err == 0 && predict_config(ev->predict) != m->config) /* another of the same name */
                err = ul_fail(e, UL_NOT_FOUND, "the model was deleted");
        if (err == 0)
                err = predict_rows(ev->predict, b->count, &x, e);
        for (uint32_t i = 0; i < b->count && err == 0; i++)
                row_widen(shape, b->rows + (size_t)i * width, x + (size_t)i * shape->features);
        if (err == 0)
                err = service_predict(ev->predict, done, arg, e);
        if (err != 0 && ev->predict != NULL)
                predict_close(&ev->predict);
        return err;
}

static void add_class(struct evaluation *ev, const float *out, uint32_t classes, uint32_t label)
{
        uint32_t best = 0;
        for (uint32_t k = 1; k < classes; k++)
                if (out[k] > out[best])
                        best = k;
        if (label >= classes)
                return; /* the encoder refuses such a row */
        ev->correct += best == label;
        ev->confusion[(size_t)label * classes + best]++;
        ev->log_loss -= log(fmax((double)out[label], 1e-15));
}

void evaluation_add(struct evaluation *ev, const struct model *m, const struct batch *b)
{
        uint32_t outputs = m->config->outputs;
        uint32_t width = row_bytes(&m->encoding.e.shape);
        const float *out = predict_output(ev->predict);
        for (uint32_t i = 0; i < b->count; i++) {
                const uint8_t *label = b->rows + (size_t)i * width + ROW_LABEL_OFFSET;
                const float *y = out + (size_t)i * outputs;
                if (m->config->task == TASK_CLASSIFICATION) {
                        add_class(ev, y, outputs, get_le32(label));
                        continue;
                }
                for (uint32_t k = 0; k < outputs; k++) {
                        float target;
                        memcpy(&target, label + 4 * (size_t)k, sizeof target);
                        double d = (double)y[k] - (double)target;
                        ev->squared_error += d * d / outputs;
                }
        }
        ev->count += b->count;
        ev->generation = predict_generation(ev->predict);
        ev->clean = predict_clean(ev->predict);
        predict_close(&ev->predict);
}

void evaluation_result(const struct evaluation *ev, const struct model_config *c,
                       struct intake_result *out)
{
        double n = ev->count > 0 ? (double)ev->count : NAN;
        out->evaluated = ev->count;
        out->generation = ev->generation;
        out->clean_constituents = ev->clean;
        out->confusion = ev->confusion;
        if (c->task == TASK_CLASSIFICATION) {
                out->accuracy = (double)ev->correct / n;
                out->log_loss = ev->log_loss / n;
                out->mean_squared_error = NAN;
        } else {
                out->accuracy = out->log_loss = NAN;
                out->mean_squared_error = ev->squared_error / n;
        }
}

void evaluation_clear(struct evaluation *ev)
{
        if (ev->predict != NULL)
                predict_close(&ev->predict);
        free(ev->confusion);
        ev->confusion = NULL;
}
