/* SPDX-License-Identifier: Apache-2.0
 * suppression_cursor.c: see suppression_cursor.h. It must not know what an entry says: only whose
 * it is. The count is of entries of one pseudonym, so that lifting another one between two pages
 * moves nothing. */
#include "api/suppression_cursor.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { HEX_LEN = 2 * PSEUDONYM_BYTES, COUNT_DIGITS_MAX = 9 };

bool pseudonym_parse(const char *text, size_t len, uint8_t out[PSEUDONYM_BYTES])
{
        return len == HEX_LEN && hex_decode(text, len, out, PSEUDONYM_BYTES) == PSEUDONYM_BYTES;
}

static bool parse_count(const char *text, uint32_t *out)
{
        size_t len = strlen(text);
        uint32_t n = 0;
        if (len == 0 || len > COUNT_DIGITS_MAX)
                return false;
        for (; *text != '\0'; text++) {
                if (*text < '0' || *text > '9')
                        return false;
                n = n * 10 + (uint32_t)(*text - '0');
        }
        *out = n;
        return true;
}

bool suppression_cursor_parse(const char *text, struct suppression_cursor *c)
{
        const char *first = strchr(text, '.');
        const char *second = first != NULL ? strchr(first + 1, '.') : NULL;
        memset(c, 0, sizeof(*c));
        if (second == NULL || !parse_count(second + 1, &c->skip))
                return false;
        c->has_previous = first != text;
        if (c->has_previous && !pseudonym_parse(text, (size_t)(first - text), c->previous))
                return false;
        c->has_current = true;
        c->has_before = c->has_previous;
        memcpy(c->before, c->previous, PSEUDONYM_BYTES);
        return pseudonym_parse(first + 1, (size_t)(second - first - 1), c->current);
}

bool suppression_cursor_visit(struct suppression_cursor *c,
                              const uint8_t pseudonym[PSEUDONYM_BYTES])
{
        if (c->has_at && memcmp(c->at, pseudonym, PSEUDONYM_BYTES) == 0) {
                c->seen++;
        } else {
                if (c->has_at) {
                        c->has_before = true;
                        memcpy(c->before, c->at, PSEUDONYM_BYTES);
                }
                c->has_at = true;
                memcpy(c->at, pseudonym, PSEUDONYM_BYTES);
                c->seen = 1;
        }
        return !c->has_current || c->seen > c->skip ||
               memcmp(c->at, c->current, PSEUDONYM_BYTES) != 0;
}

char *suppression_cursor_format(const struct suppression_cursor *c,
                                char out[SUPPRESSION_CURSOR_SIZE])
{
        char before[HEX_LEN + 1] = "", at[HEX_LEN + 1];
        assert(c->has_at);
        if (c->has_before)
                hex_encode(c->before, PSEUDONYM_BYTES, before);
        snprintf(out, SUPPRESSION_CURSOR_SIZE, "%s.%s.%u", before,
                 hex_encode(c->at, PSEUDONYM_BYTES, at), c->seen);
        return out;
}
