/* SPDX-License-Identifier: Apache-2.0
 * infer.h: one prediction between its request and its answer, shared by infer.c (routes, waiting),
 * infer_v2.c and infer_v1.c (requests to rows of features) and infer_reply.c (outputs to answers).
 *
 * Shapes: n rows; features, outputs and columns as the model's configuration has them. */
#ifndef UNLEARND_API_INFER_H
#define UNLEARND_API_INFER_H

#include "api/http.h"
#include "api/tensor.h"

enum { INFER_ID_MAX = 512, INFER_OUTPUTS_MAX = 3 };
#define INFER_VERSION "1"                              /* the one version of every model */
#define INFER_HEADER "Inference-Header-Content-Length" /* bytes of JSON before the raw tensors */

enum infer_output { OUTPUT_LABEL, OUTPUT_CLASS, OUTPUT_PROBABILITIES, OUTPUT_VALUE };
const char *infer_output_name(enum infer_output o);

struct infer {
        struct predict *predict; /* NULL once it is answered */
        bool v1;
        bool versioned; /* the path named the version */
        bool has_id;
        char id[INFER_ID_MAX + 1];
        uint32_t output_count;
        struct {
                enum infer_output what;
                bool binary;
        } outputs[INFER_OUTPUTS_MAX];
};

/* --- infer_v2.c, infer_v1.c: the body to rows of the prediction. UL_SYNTAX, UL_INVALID with the
 * place, UL_TOO_LARGE. */
int infer_read_v2(struct infer *in, const uint8_t *body, size_t body_len, const char *header_length,
                  struct errinfo *e);
int infer_read_v1(struct infer *in, const uint8_t *body, size_t body_len, struct errinfo *e);
/* One value of a column, from JSON: a string, a number, or null. */
int infer_column(struct predict *p, uint32_t row, uint32_t column, const struct json *v,
                 struct errinfo *e);
/* Puts the place of the whole before that of the part; returns e->code. */
int infer_place(struct errinfo *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- infer_reply.c --- */
enum handler_result infer_reply(struct request *req, const struct infer *in);
/* "inputs" and "outputs" of the model's metadata. */
void infer_write_metadata(struct json_writer *w, const struct model_config *c);

#endif
