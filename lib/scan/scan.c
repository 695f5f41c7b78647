/* SPDX-License-Identifier: Apache-2.0
 * scan.c: one search from beginning to end: learn what a directory holds, take whom to look for,
 * build the matcher, read every file and its name. It must not know why a hit is one. */
#include "lib/scan/scan_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char provenance_key[] = "\"retained\":\"";

const char *scan_kind_name(enum scan_kind kind)
{
        static const char *const names[] = {
                [SCAN_ID] = "id",
                [SCAN_HASH] = "hash",
                [SCAN_PSEUDONYM] = "pseudonym",
                [SCAN_ROW] = "row",
                [SCAN_ROW_PART] = "row part",
                [SCAN_TEXT] = "text",
                [SCAN_TOKEN] = "token",
                [SCAN_WORD] = "word",
                [SCAN_CHECKPOINT] = "checkpoint",
        };
        return names[kind];
}

int scan_create(const char *data_dir, const uint8_t *key, const struct scan_events *events,
                struct scan **out, struct errinfo *e)
{
        struct scan *s = calloc(1, sizeof *s);
        *out = s;
        if (s == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a scan");
        s->data_dir = data_dir;
        s->key = key;
        s->events = *events;
        int err = matcher_create(&s->matcher, e);
        if (err == 0 && data_dir != NULL)
                err = learn_directory(s, e);
        if (err != 0)
                scan_destroy(out);
        return err;
}

static void drop(void *items, size_t bytes)
{
        if (items != NULL)
                wipe(items, bytes);
        free(items);
}

void scan_destroy(struct scan **ps)
{
        struct scan *s = *ps;
        *ps = NULL;
        if (s == NULL)
                return;
        matcher_destroy(&s->matcher);
        commitments_free(s);
        for (size_t i = 0; i < s->config_count; i++)
                model_config_destroy(&s->configs[i]);
        free(s->configs);
        free(s->shapes);
        free(s->needles);
        free(s->slots);
        free(s->features);
        drop(s->people, s->people_count * sizeof *s->people);
        drop(s->searched, s->searched_count * sizeof *s->searched);
        buf_free(&s->feature_bytes, true);
        free(s);
}

const struct scan_totals *scan_totals(const struct scan *s)
{
        return &s->totals;
}

/* After the last person: from here on nothing is added. */
static int make_ready(struct scan *s, struct errinfo *e)
{
        const struct needle provenance = {
                .kind = SCAN_CHECKPOINT, .rule = RULE_ANYWHERE, .who = NOBODY};
        if (s->ready)
                return 0;
        int err = needle_add(s, &provenance, provenance_key, sizeof provenance_key - 1, e);
        if (err == 0 && s->key != NULL)
                err = learn_records(s, e);
        if (err == 0)
                err = matcher_build(s->matcher, e);
        if (err == 0 && s->data_dir != NULL)
                err = commitments_read(s, e);
        s->ready = err == 0;
        return err;
}

/* --- one file --- */

struct searching {
        struct scan *s;
        struct scan_file *f;
        const uint8_t *data;
        size_t len;
        uint64_t offset; /* of data[0] */
};

static int hit(void *arg, uint32_t tag, size_t at, size_t len)
{
        struct searching *x = arg;
        return judge(x->s, x->f, &x->s->needles[tag], x->data, x->len, at, len, x->offset + at);
}

static int search_block(void *arg, const uint8_t *data, size_t len, size_t from, size_t to,
                        uint64_t offset)
{
        struct searching *x = arg;
        x->data = data;
        x->len = len;
        x->offset = offset;
        return matcher_run(x->s->matcher, data, len, from, to, hit, x);
}

static int hit_name(void *arg, uint32_t tag, size_t at, size_t len)
{
        struct searching *x = arg;
        const struct needle *n = &x->s->needles[tag];
        const bool told = n->kind == SCAN_ID || n->kind == SCAN_HASH || n->kind == SCAN_PSEUDONYM ||
                          n->kind == SCAN_TOKEN;
        char folder[SCAN_PATH_MAX];
        size_t cut = strlen(x->f->path) - strlen(x->f->relative) + at;
        (void)len;
        if (!told || n->rule == RULE_ROWS_ALONE)
                return 0;
        while (cut > 0 && x->f->path[cut - 1] != '/')
                cut--; /* the name itself is what must not be repeated */
        memcpy(folder, x->f->path, cut);
        folder[cut] = '\0';
        const struct scan_finding finding = {.kind = (enum scan_kind)n->kind,
                                             .trace = true,
                                             .who = x->s->people[n->who].who,
                                             .what = n->what,
                                             .path = folder,
                                             .in_name = true};
        x->s->totals.traces++;
        x->s->events.found(x->s->events.arg, &finding);
        return 0;
}

/* Of a regular file its size; of a device, where its end is. */
static uint64_t size_of(int fd)
{
        off_t end = lseek(fd, 0, SEEK_END);
        return end > 0 ? (uint64_t)end : 0;
}

static int search_file(struct scan *s, int fd, const char *path, const char *relative,
                       struct errinfo *e)
{
        struct scan_file f = {.fd = fd, .path = path, .relative = relative, .bytes = size_of(fd)};
        struct searching x = {.s = s, .f = &f};
        int err = 0;
        if (relative != NULL && *relative != '\0')
                err = matcher_run(s->matcher, (const uint8_t *)relative, strlen(relative), 0,
                                  strlen(relative), hit_name, &x);
        f.is_rows = read_row_shape(fd, f.bytes, &f.shape);
        if (f.is_rows && (f.row = calloc(1, row_bytes(&f.shape))) == NULL)
                err = ul_fail(e, UL_NOMEM, "no memory for a row");
        if (err == 0)
                err = read_blocks(fd, f.bytes, search_block, &x, &s->totals.bytes, e);
        if (err == 0)
                s->totals.files++;
        if (err == UL_IO) {
                tell_unread(s, path, e->detail);
                err = 0;
        }
        if (f.row != NULL)
                drop(f.row, row_bytes(&f.shape));
        return err;
}

int scan_directory(struct scan *s, struct errinfo *e)
{
        int err = make_ready(s, e);
        return err == 0 ? walk_files(s, s->data_dir, search_file, e) : err;
}

int scan_image(struct scan *s, const char *path, struct errinfo *e)
{
        struct stat st;
        int err = make_ready(s, e);
        if (err != 0)
                return err;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) != 0)
                tell_unread(s, path, strerror(errno));
        else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                tell_unread(s, path, "neither a file nor a block device");
        else
                err = search_file(s, fd, path, NULL, e);
        if (fd >= 0)
                (void)close(fd);
        return err;
}
