/* SPDX-License-Identifier: Apache-2.0
 * encoding.c: see encoding.h. The two sides number their enums alike (rowfile.h and encode.h say
 * so); the assertions here are what keeps it true. It must not know what is encoded. */
#include "daemon/encoding.h"

#include <stdlib.h>

_Static_assert(DTYPE_F32 == 0 && DTYPE_U8 == 1 && DTYPE_BIT == 2, "row_shape.dtype numbers these");
_Static_assert(ENCODER_NONE == 0 && ENCODER_HASH_TEXT == 1 && ENCODER_TABULAR == 2,
               "encoding.encoder numbers these");

int encoding_make(const struct model_config *c, struct encoding_holder *out, struct errinfo *e)
{
        bool regression = c->task == TASK_REGRESSION;
        *out = (struct encoding_holder){0};
        if (c->column_count > 0) {
                out->columns = calloc(c->column_count, sizeof *out->columns);
                if (out->columns == NULL)
                        return ul_fail(e, UL_NOMEM, "no memory for the columns of a model");
        }
        for (uint32_t i = 0; i < c->column_count; i++) {
                const struct column_spec *from = &c->columns[i];
                out->columns[i] = (struct encoding_column){
                        .name = from->name,
                        .categorical = from->categorical,
                        .value_count = from->value_count,
                        .values = (const char *const *)from->values,
                        .first_feature = from->first_feature,
                };
        }
        out->e = (struct encoding){
                .shape = {.dtype = (uint32_t)c->dtype,
                          .features = c->features,
                          .targets = regression ? c->outputs : 0},
                .encoder = (uint32_t)c->encoder,
                .classes = regression ? 0 : c->outputs,
                .labels = regression ? NULL : (const char *const *)c->labels,
                .column_count = c->column_count,
                .columns = out->columns,
        };
        return 0;
}

void encoding_clear(struct encoding_holder *h)
{
        free(h->columns);
        *h = (struct encoding_holder){0};
}
