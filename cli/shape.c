/* SPDX-License-Identifier: Apache-2.0
 * shape.c: see shape.h. */
#include "cli/shape.h"

#include "cli/http.h"
#include <string.h>

void model_path(struct buf *path, const char *model, const char *tail)
{
        buf_append_str(path, "/v1/models/");
        path_escape(path, model);
        buf_append_str(path, tail);
}

int shape_get(struct ctl *c, const char *model, struct model_shape *out)
{
        struct http_answer a = {0};
        struct buf path = {0};
        int64_t targets = 0;
        *out = (struct model_shape){0};
        model_path(&path, model, "");
        const char *text = path_text(&path);
        int status = text == NULL ? EXIT_FAILED : api_get(c, text, &a, &out->doc);
        if (status == 0) {
                const char *encoder = json_string(json_get(out->doc, "encoder"));
                encoder = encoder != NULL ? encoder : "none";
                out->encoder = strcmp(encoder, "hash_text") == 0 ? SHAPE_TEXT
                               : strcmp(encoder, "tabular") == 0 ? SHAPE_TABLE
                                                                 : SHAPE_NUMBERS;
                out->columns = json_get(out->doc, "columns");
                out->labels = json_get(out->doc, "labels");
                out->regression = json_integer(json_get(out->doc, "targets"), 1, 64, &targets);
                out->targets = (uint32_t)targets;
        }
        http_answer_free(&a);
        buf_free(&path, false);
        return status;
}

void shape_free(struct model_shape *s)
{
        if (s->doc != NULL)
                json_free(&s->doc);
        *s = (struct model_shape){0};
}

static bool text_is(const char *text, const char *other, size_t len)
{
        return text != NULL && strlen(text) == len && memcmp(text, other, len) == 0;
}

const struct json *shape_column(const struct model_shape *s, const char *name, size_t len)
{
        for (const struct json *v = json_first(s->columns); v != NULL; v = json_next(v))
                if (text_is(json_string(json_get(v, "name")), name, len))
                        return v;
        return NULL;
}

bool shape_has_label(const struct model_shape *s, const char *label, size_t len)
{
        for (const struct json *v = json_first(s->labels); v != NULL; v = json_next(v))
                if (text_is(json_string(v), label, len))
                        return true;
        return false;
}
