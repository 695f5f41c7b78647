/* SPDX-License-Identifier: Apache-2.0
 * effects.c: what memory must know of a command once it is committed, and not before: a command
 * that fails leaves memory as it was. */
#include "daemon/scheduler.h"
#include "daemon/state.h"

#include <stdlib.h>

int effects_drop(struct effects *fx, struct model *m, uint32_t shard, uint32_t from_slice)
{
        if (fx->count == fx->cap) {
                uint32_t cap = fx->cap == 0 ? 8 : fx->cap * 2;
                struct effect_drop *grown = realloc(fx->drops, cap * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                fx->drops = grown;
                fx->cap = cap;
        }
        fx->drops[fx->count++] = (struct effect_drop){
                .model = model_ref(m), .shard = shard, .from_slice = from_slice};
        return 0;
}

void effects_apply(struct service *s, struct effects *fx)
{
        for (uint32_t i = 0; i < fx->count; i++) {
                struct effect_drop *d = &fx->drops[i];
                serving_drop(d->model, d->shard, d->from_slice);
                d->model->refresh = true;
        }
        if (fx->wake)
                scheduler_wake(s->scheduler);
        effects_clear(fx);
}

void effects_clear(struct effects *fx)
{
        for (uint32_t i = 0; i < fx->count; i++)
                model_unref(fx->drops[i].model);
        free(fx->drops);
        *fx = (struct effects){0};
}
