/* SPDX-License-Identifier: Apache-2.0
 * tile.c: see tile.h. It knows numbers and paths alone, neither trees nor where nodes are kept. */
#include "lib/audit/tile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool digit(char c)
{
        return c >= '0' && c <= '9';
}

/* Decimal without leading zeros, at most `max`. NULL: not there. */
static const char *number(const char *p, uint32_t max, uint32_t *out)
{
        uint32_t n = 0;
        if (!digit(*p) || (p[0] == '0' && digit(p[1])))
                return NULL;
        for (; digit(*p); p++) {
                n = n * 10 + (uint32_t)(*p - '0');
                if (n > max)
                        return NULL;
        }
        *out = n;
        return p;
}

/* Groups of three digits, all but the last with an x. */
static const char *groups(const char *p, uint64_t *out)
{
        uint64_t n = 0;
        bool last = false;
        for (bool first = true; !last; first = false) {
                last = *p != 'x';
                p += !last;
                if (!digit(p[0]) || !digit(p[1]) || !digit(p[2]))
                        return NULL;
                uint64_t group = (uint64_t)(p[0] - '0') * 100 + (uint64_t)(p[1] - '0') * 10 +
                                 (uint64_t)(p[2] - '0');
                if ((first && !last && group == 0) || n > (UINT64_MAX - group) / 1000)
                        return NULL;
                n = n * 1000 + group;
                p += 3;
                if (!last && *p++ != '/')
                        return NULL;
        }
        *out = n;
        return p;
}

int tile_path_parse(const char *path, struct tile *out, struct errinfo *e)
{
        static const char entries[] = "entries/";
        struct tile t = {.width = TILE_WIDTH};
        const char *p = path;
        t.entries = strncmp(p, entries, sizeof entries - 1) == 0;
        if (t.entries)
                p += sizeof entries - 1;
        else if ((p = number(p, TILE_LEVEL_MAX, &t.level)) != NULL)
                p = *p == '/' ? p + 1 : NULL;
        if (p != NULL)
                p = groups(p, &t.index);
        if (p != NULL && strncmp(p, ".p/", 3) == 0)
                p = number(p + 3, TILE_WIDTH - 1, &t.width);
        if (p == NULL || *p != '\0' || t.width == 0)
                return ul_fail(e, UL_SYNTAX,
                               "a tile is L/N, L/N.p/W, entries/N or entries/N.p/W, with N in "
                               "groups of three digits such as x001/x234/067, L at most %d and W "
                               "under %d",
                               TILE_LEVEL_MAX, TILE_WIDTH);
        *out = t;
        return 0;
}

char *tile_path_format(const struct tile *t, char out[TILE_PATH_SIZE])
{
        uint64_t divisor = 1;
        size_t n = 0;
        while (t->index / divisor >= 1000)
                divisor *= 1000;
        if (t->entries)
                n += (size_t)snprintf(out, TILE_PATH_SIZE, "entries/");
        else
                n += (size_t)snprintf(out, TILE_PATH_SIZE, "%" PRIu32 "/", t->level);
        for (; divisor > 1; divisor /= 1000)
                n += (size_t)snprintf(out + n, TILE_PATH_SIZE - n, "x%03" PRIu64 "/",
                                      t->index / divisor % 1000);
        n += (size_t)snprintf(out + n, TILE_PATH_SIZE - n, "%03" PRIu64, t->index % 1000);
        if (t->width < TILE_WIDTH)
                (void)snprintf(out + n, TILE_PATH_SIZE - n, ".p/%" PRIu32, t->width);
        return out;
}

uint32_t tile_available(const struct tile *t, uint64_t size)
{
        uint64_t nodes = size >> (TILE_HEIGHT * t->level);
        if (t->index > UINT64_MAX / TILE_WIDTH || nodes <= t->index * TILE_WIDTH)
                return 0;
        uint64_t rest = nodes - t->index * TILE_WIDTH;
        return rest < TILE_WIDTH ? (uint32_t)rest : TILE_WIDTH;
}
