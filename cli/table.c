/* SPDX-License-Identifier: Apache-2.0
 * table.c: see table.h. Widths are counted in characters, not bytes; a column of numbers alone is
 * set to the right. */
#include "cli/table.h"

#include "cli/cli.h"
#include "lib/util/json_scan.h"
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* --- text --- */

/* C0, DEL, and C1 (U+0080 to U+009F): a terminal would obey them. */
static bool is_control(const uint8_t *p, size_t n)
{
        return (n == 1 && (p[0] < 0x20 || p[0] == 0x7f)) || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

void print_text(FILE *out, const char *text)
{
        const uint8_t *p = (const uint8_t *)text;
        size_t left = strlen(text);
        while (left > 0) {
                size_t n = json_utf8_bytes(p, left);
                if (n == 0 || is_control(p, n))
                        (void)fputc('?', out);
                else
                        (void)fwrite(p, 1, n, out);
                n = n == 0 ? 1 : n;
                p += n;
                left -= n;
        }
}

static size_t text_width(const char *text)
{
        size_t n = 0;
        for (; *text != '\0'; text++)
                n += ((unsigned char)*text & 0xc0) != 0x80;
        return n;
}

void format_number(double v, char *out, size_t size)
{
        if (fabs(v) < 1e15 && v == trunc(v))
                (void)snprintf(out, size, "%.0f", v);
        else
                (void)snprintf(out, size, "%.6g", v);
}

/* --- tables --- */

void table_begin(struct table *t, const char *const *heads)
{
        memset(t, 0, sizeof *t);
        while (heads[t->columns] != NULL) {
                assert(t->columns < TABLE_COLUMNS_MAX);
                t->heads[t->columns] = heads[t->columns];
                t->columns++;
        }
}

void table_add(struct table *t, const char *cell)
{
        if (t->failed)
                return;
        if (t->count == t->capacity) {
                size_t capacity = t->capacity == 0 ? 64 : 2 * t->capacity;
                char **cells = realloc(t->cells, capacity * sizeof *cells);
                if (cells == NULL) {
                        t->failed = true;
                        return;
                }
                t->cells = cells;
                t->capacity = capacity;
        }
        t->cells[t->count] = strdup(cell != NULL ? cell : "-");
        if (t->cells[t->count] == NULL)
                t->failed = true;
        else
                t->count++;
}

void table_add_format(struct table *t, const char *format, ...)
{
        char text[256];
        va_list args;
        va_start(args, format);
        (void)vsnprintf(text, sizeof text, format, args);
        va_end(args);
        table_add(t, text);
}

void table_add_member(struct table *t, const struct json *object, const char *key)
{
        char number[48];
        const struct json *v = json_get(object, key);
        if (v == NULL) {
                table_add(t, NULL);
                return;
        }
        switch (json_type_of(v)) {
        case JSON_STRING:
                table_add(t, json_string(v));
                return;
        case JSON_NUMBER:
                format_number(json_number(v), number, sizeof number);
                table_add(t, number);
                return;
        case JSON_BOOL:
                table_add(t, json_is_true(v) ? "yes" : "no");
                return;
        case JSON_NULL:
        case JSON_ARRAY:
        case JSON_OBJECT:
                break;
        }
        table_add(t, NULL);
}

static bool is_number(const char *cell)
{
        char *end = NULL;
        if (strcmp(cell, "-") == 0)
                return true;
        (void)strtod(cell, &end);
        return end != cell && (*end == '\0' || strcmp(end, " %") == 0 || strcmp(end, " s") == 0 ||
                               strcmp(end, " ms") == 0);
}

static void print_cell(FILE *out, const char *cell, size_t width, bool right, bool last)
{
        size_t own = text_width(cell), pad = width > own ? width - own : 0;
        if (right)
                (void)fprintf(out, "%*s", (int)pad, "");
        print_text(out, cell);
        if (!right && !last)
                (void)fprintf(out, "%*s", (int)pad, "");
        (void)fputs(last ? "\n" : "  ", out);
}

void table_drop(struct table *t)
{
        for (size_t i = 0; i < t->count; i++)
                free(t->cells[i]);
        free(t->cells);
        t->cells = NULL;
        t->count = t->capacity = 0;
}

int table_print(struct table *t, FILE *out)
{
        size_t width[TABLE_COLUMNS_MAX] = {0};
        bool right[TABLE_COLUMNS_MAX] = {false};
        const size_t columns = (size_t)t->columns;
        assert(t->failed || t->count % columns == 0);
        for (size_t k = 0; k < columns; k++) {
                width[k] = text_width(t->heads[k]);
                right[k] = t->count > 0;
        }
        for (size_t i = 0; i < t->count; i++) {
                size_t w = text_width(t->cells[i]);
                if (w > width[i % columns])
                        width[i % columns] = w;
                if (!is_number(t->cells[i]))
                        right[i % columns] = false;
        }
        for (size_t k = 0; !t->failed && k < columns; k++)
                print_cell(out, t->heads[k], width[k], right[k], k + 1 == columns);
        for (size_t i = 0; i < t->count; i++) {
                size_t k = i % columns;
                if (!t->failed)
                        print_cell(out, t->cells[i], width[k], right[k], k + 1 == columns);
        }
        table_drop(t);
        return t->failed ? complain_memory() : 0;
}
