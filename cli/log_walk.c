/* SPDX-License-Identifier: Apache-2.0
 * log_walk.c: see log_walk.h. */
#include "cli/log_walk.h"

#include "cli/cli.h"
#include "lib/audit/tile.h"
#include "lib/util/json.h"
#include "lib/util/limits.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void walk_begin(struct walk *w)
{
        w->frontier = (struct merkle_frontier){.size = 0};
        w->entries = w->pruned = w->gap = 0;
        w->announced = false;
        buf_reset(&w->line, false);
        merkle_empty(w->root);
        progress_begin(&w->progress, "checking", 0);
}

void walk_leaf(struct walk *w, const uint8_t leaf[SHA256_BYTES])
{
        w->entries++;
        if (w->frontier.size < w->checkpoint.size)
                merkle_frontier_add(&w->frontier, leaf);
        if (w->frontier.size == w->checkpoint.size)
                merkle_frontier_root(&w->frontier, w->root);
        if (w->remembered > 0 && w->frontier.size == w->remembered && w->entries == w->remembered)
                merkle_frontier_root(&w->frontier, w->remembered_root);
}

int walk_complain_missing(const struct walk *w)
{
        return complain("entry %" PRIu64 " is missing or out of order", w->entries);
}

/* Another entry than the next. Where those before it may have been pruned, the caller tells. */
static int misplaced(struct walk *w, const char *line, size_t len)
{
        static const char head[] = "{\"v\":1,\"index\":";
        uint64_t index = 0;
        size_t i = sizeof head - 1;
        if (len < i || memcmp(line, head, i) != 0)
                return walk_complain_missing(w);
        for (; i < len && line[i] >= '0' && line[i] <= '9' && index < UINT64_MAX / 16; i++)
                index = 10 * index + (uint64_t)(line[i] - '0');
        if (i == len || line[i] != ',' || index <= w->entries || index % TILE_WIDTH != 0)
                return walk_complain_missing(w);
        w->gap = index;
        return EXIT_FAILED;
}

/* The entry with these bytes says that the log's first `pruned` entries were pruned. */
static bool announces(const struct buf *entry, uint64_t pruned)
{
        static const char kind[] = "\"" AUDIT_PRUNED "\"";
        struct json *doc = NULL;
        int64_t to = 0;
        if (memmem(entry->data, entry->len, kind, sizeof kind - 1) == NULL ||
            json_parse((const char *)entry->data, entry->len, &doc, NULL) != 0)
                return false;
        const char *type = json_string(json_get(doc, "type"));
        const struct json *data = json_get(doc, "data");
        bool yes = type != NULL && strcmp(type, AUDIT_PRUNED) == 0 && data != NULL &&
                   json_integer(json_get(data, "to"), 0, INT64_MAX, &to) && (uint64_t)to == pruned;
        json_free(&doc);
        return yes;
}

/* {"v":1,"index":N,... ,"leaf_hash":"HEX"}: the hashed bytes are those of the entry without the
 * last member. */
static int check_line(struct walk *w, const char *line, size_t len)
{
        static const char tail[] = ",\"leaf_hash\":\"";
        const size_t tail_len = sizeof tail - 1 + 2 * SHA256_BYTES + 2;
        uint8_t told[SHA256_BYTES], leaf[SHA256_BYTES];
        char head[64];
        struct buf entry = {0};
        int n = snprintf(head, sizeof head, "{\"v\":1,\"index\":%" PRIu64 ",", w->entries);
        const char *end = line + len - tail_len;
        if (n < 0 || len < tail_len + (size_t)n || memcmp(end, tail, sizeof tail - 1) != 0 ||
            hex_decode(end + sizeof tail - 1, 2 * SHA256_BYTES, told, sizeof told) !=
                    SHA256_BYTES ||
            memcmp(line + len - 2, "\"}", 2) != 0)
                return complain("entry %" PRIu64 " is not in the form of an entry", w->entries);
        if (memcmp(line, head, (size_t)n) != 0)
                return misplaced(w, line, len);
        buf_append(&entry, line, len - tail_len);
        buf_append(&entry, "}", 1);
        if (entry.failed)
                return complain_memory();
        merkle_leaf(entry.data, entry.len, leaf);
        if (w->pruned > 0 && !w->announced && w->entries < w->checkpoint.size)
                w->announced = announces(&entry, w->pruned);
        buf_free(&entry, false);
        if (memcmp(leaf, told, sizeof leaf) != 0)
                return complain("entry %" PRIu64 " is not what was hashed: it was changed",
                                w->entries);
        walk_leaf(w, leaf);
        return 0;
}

bool walk_take(void *arg, const char *data, size_t len)
{
        struct walk *w = arg;
        while (len > 0) {
                const char *newline = memchr(data, '\n', len);
                size_t n = newline != NULL ? (size_t)(newline - data) : len;
                if (w->line.len + n > 2 * AUDIT_ENTRY_MAX) {
                        progress_end(&w->progress);
                        (void)complain("entry %" PRIu64 " is too long to be one", w->entries);
                        return false;
                }
                buf_append(&w->line, data, n);
                if (w->line.failed) {
                        (void)complain_memory();
                        return false;
                }
                if (newline == NULL)
                        break;
                if (check_line(w, (const char *)w->line.data, w->line.len) != 0)
                        return false;
                buf_reset(&w->line, false);
                data += n + 1;
                len -= n + 1;
        }
        if (w->checkpoint.size > 0)
                progress_fraction(&w->progress, (double)w->entries / (double)w->checkpoint.size,
                                  -1);
        return true;
}

uint64_t walk_not_covered(const struct walk *w)
{
        return w->entries > w->checkpoint.size ? w->entries - w->checkpoint.size : 0;
}

int walk_end(struct walk *w, bool whole)
{
        progress_end(&w->progress);
        if (!whole)
                return EXIT_FAILED;
        if (w->line.len > 0 || w->entries < w->checkpoint.size)
                return complain("the log has %" PRIu64 " entries, its checkpoint says %" PRIu64,
                                w->entries, w->checkpoint.size);
        if (memcmp(w->root, w->checkpoint.root, SHA256_BYTES) != 0)
                return complain("the entries do not make the root that is signed: the log was "
                                "changed");
        return 0;
}
