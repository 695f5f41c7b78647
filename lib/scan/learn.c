/* SPDX-License-Identifier: Apache-2.0
 * learn.c: what a directory says about itself, as bytes: the shapes of its row files, the models'
 * configurations (canonical JSON in the control database, deleted models' often too), and which
 * records a searched subject has or had. All of it is only used to know what else to look for, so
 * that a stale or made-up value costs a needle that is never found. It opens no database. */
#include "lib/scan/scan_private.h"

#include "lib/util/file.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char config_head[] = "{\"name\":\"";
enum {
        CONFIGS_MAX = 4 * MODELS_MAX,
        CONFIG_HEAD_MAX = sizeof config_head + MODEL_NAME_MAX + 16, /* up to its "kind" */
};
_Static_assert((int)CONFIG_HEAD_MAX <= (int)SCAN_MARGIN, "a block has it whole");

/* --- shapes --- */

static int add_shape(struct scan *s, const struct row_shape *shape, struct errinfo *e)
{
        for (size_t i = 0; i < s->shape_count; i++)
                if (s->shapes[i].dtype == shape->dtype && s->shapes[i].features == shape->features)
                        return 0;
        struct row_shape *grown = realloc(s->shapes, (s->shape_count + 1) * sizeof *grown);
        if (grown == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for shapes");
        s->shapes = grown;
        s->shapes[s->shape_count++] = *shape;
        return 0;
}

static int take_shape(struct scan *s, int fd, const char *path, const char *relative,
                      struct errinfo *e)
{
        struct row_shape shape;
        struct stat st;
        (void)path;
        (void)relative;
        if (fstat(fd, &st) != 0 || !read_row_shape(fd, (uint64_t)st.st_size, &shape))
                return 0; /* what cannot be read is told when it is searched */
        return add_shape(s, &shape, e);
}

/* --- configurations --- */

size_t scan_object_end(const char *text, size_t len)
{
        size_t depth = 0;
        bool string = false;
        for (size_t i = 0; i < len; i++) {
                if (string && text[i] == '\\')
                        i++;
                else if (text[i] == '"')
                        string = !string;
                else if (!string && text[i] == '{')
                        depth++;
                else if (!string && text[i] == '}' && --depth == 0)
                        return i + 1;
        }
        return 0;
}

static int keep_config(struct scan *s, struct model_config **c, struct errinfo *e)
{
        bool known = s->config_count == CONFIGS_MAX;
        for (size_t i = 0; i < s->config_count && !known; i++)
                known = memcmp(s->configs[i]->hash, (*c)->hash, SHA256_BYTES) == 0;
        if (known)
                return 0;
        struct model_config **grown =
                realloc(s->configs, (s->config_count + 1) * sizeof(struct model_config *));
        if (grown == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for configurations");
        s->configs = grown;
        const struct row_shape shape = {.dtype = (uint32_t)(*c)->dtype, .features = (*c)->features};
        const bool text = (*c)->encoder == ENCODER_HASH_TEXT;
        s->configs[s->config_count++] = *c;
        *c = NULL;
        return text ? add_shape(s, &shape, e) : 0;
}

/* --- the control database, as bytes --- */

struct learning {
        struct scan *s;
        int fd;
        struct matcher *matcher;
        char *text;      /* [MODEL_CONFIG_BYTES_MAX] */
        uint64_t offset; /* of the block's first byte */
        const uint8_t *data;
        size_t len;
        struct errinfo *e;
};

static int take_config(void *arg, uint32_t tag, size_t at, size_t len)
{
        static const char kind[] = "\",\"kind\":\"";
        struct learning *l = arg;
        struct model_config *c = NULL;
        const size_t near = l->len - at < CONFIG_HEAD_MAX ? l->len - at : CONFIG_HEAD_MAX;
        (void)tag;
        (void)len;
        if (memmem(l->data + at, near, kind, sizeof kind - 1) == NULL)
                return 0; /* a column, say, of which a configuration may have a thousand */
        ssize_t n = pread(l->fd, l->text, MODEL_CONFIG_BYTES_MAX, (off_t)(l->offset + at));
        const size_t end = n > 0 ? scan_object_end(l->text, (size_t)n) : 0;
        if (end == 0 || model_config_parse(l->text, end, &c, NULL) != 0)
                return 0;
        int err = keep_config(l->s, &c, l->e);
        if (c != NULL)
                model_config_destroy(&c);
        return err;
}

/* A node of LMDB is u16 size low, size high, flags, key size; key; value. The index has
 *   records          key: model, record    value: subject, shard, slice, row, upload
 *   subject_records  key: model, subject, record
 * (store/t_records.c), so that a record's pseudonym stands right beside its subject's, on free
 * pages as on others. */
enum { RECORD_KEY_BYTES = 4 + PSEUDONYM_BYTES, INDEX_KEY_BYTES = 4 + 2 * PSEUDONYM_BYTES };

static bool key_size_is(const uint8_t *data, size_t key_at, uint16_t bytes)
{
        return key_at >= 2 && get_le16(data + key_at - 2) == bytes;
}

static int take_neighbours(void *arg, uint32_t who, size_t at, size_t len)
{
        struct learning *l = arg;
        const uint8_t *record = NULL;
        if (at >= RECORD_KEY_BYTES && key_size_is(l->data, at - RECORD_KEY_BYTES, RECORD_KEY_BYTES))
                record = l->data + at - PSEUDONYM_BYTES;
        else if (at >= 4 && key_size_is(l->data, at - 4, INDEX_KEY_BYTES) &&
                 l->len - at >= len + PSEUDONYM_BYTES)
                record = l->data + at + len;
        return record != NULL ? searched_add(l->s, record, who, who, true, l->e) : 0;
}

static int learn_block(struct learning *l, const uint8_t *data, size_t len, size_t from, size_t to,
                       uint64_t offset, match_fn fn)
{
        l->data = data;
        l->len = len;
        l->offset = offset;
        return matcher_run(l->matcher, data, len, from, to, fn, l);
}

static int configs_block(void *arg, const uint8_t *data, size_t len, size_t from, size_t to,
                         uint64_t offset)
{
        return learn_block(arg, data, len, from, to, offset, take_config);
}

static int records_block(void *arg, const uint8_t *data, size_t len, size_t from, size_t to,
                         uint64_t offset)
{
        return learn_block(arg, data, len, from, to, offset, take_neighbours);
}

/* An absent or unreadable database teaches nothing; the search itself tells of it. */
static int read_control(struct learning *l, scan_block_fn fn)
{
        char path[SCAN_PATH_MAX];
        struct stat st;
        uint64_t read_bytes = 0;
        int n = snprintf(path, sizeof path, "%s/control.mdb", l->s->data_dir);
        if (n < 0 || n >= SCAN_PATH_MAX)
                return ul_fail(l->e, UL_TOO_LARGE, "the data directory's path is too long");
        l->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (l->fd < 0)
                return 0;
        int err = matcher_build(l->matcher, l->e);
        if (err == 0 && fstat(l->fd, &st) == 0 && S_ISREG(st.st_mode))
                err = read_blocks(l->fd, (uint64_t)st.st_size, fn, l, &read_bytes, l->e);
        (void)close(l->fd);
        return err == UL_IO ? 0 : err;
}

static int learn_configs(struct scan *s, struct errinfo *e)
{
        struct learning l = {.s = s, .e = e};
        l.text = malloc(MODEL_CONFIG_BYTES_MAX);
        int err = l.text == NULL ? ul_fail(e, UL_NOMEM, "no memory for configurations") : 0;
        if (err == 0)
                err = matcher_create(&l.matcher, e);
        if (err == 0)
                err = matcher_add(l.matcher, config_head, sizeof config_head - 1, 0, e);
        if (err == 0)
                err = read_control(&l, configs_block);
        matcher_destroy(&l.matcher);
        free(l.text);
        return err;
}

int learn_directory(struct scan *s, struct errinfo *e)
{
        char models[SCAN_PATH_MAX];
        struct stat st;
        int n = snprintf(models, sizeof models, "%s/models", s->data_dir);
        if (n < 0 || n >= SCAN_PATH_MAX)
                return ul_fail(e, UL_TOO_LARGE, "the data directory's path is too long");
        s->quiet = true;
        int err = lstat(models, &st) == 0 ? walk_files(s, models, take_shape, e) : 0;
        s->quiet = false;
        return err == 0 ? learn_configs(s, e) : err;
}

static int by_pseudonym(const void *a, const void *b)
{
        return memcmp(((const struct searched *)a)->pseudonym,
                      ((const struct searched *)b)->pseudonym, PSEUDONYM_BYTES);
}

int searched_add(struct scan *s, const uint8_t *pseudonym, uint32_t who, uint32_t group,
                 bool learned, struct errinfo *e)
{
        int err = scan_grow(&s->searched, s->searched_count, &s->searched_capacity,
                            sizeof *s->searched, e);
        if (err != 0)
                return err;
        struct searched *x = &s->searched[s->searched_count++];
        *x = (struct searched){.who = who, .group = group, .learned = learned};
        memcpy(x->pseudonym, pseudonym, PSEUDONYM_BYTES);
        return 0;
}

bool pseudonym_is_searched(const struct scan *s, const uint8_t pseudonym[PSEUDONYM_BYTES])
{
        struct searched x = {0};
        memcpy(x.pseudonym, pseudonym, PSEUDONYM_BYTES);
        return s->searched_count > 0 &&
               bsearch(&x, s->searched, s->searched_count, sizeof x, by_pseudonym) != NULL;
}

/* Sorted; of equal ones the first that was given stays, for it has a name of its own. */
static void unite(struct scan *s)
{
        size_t n = 0;
        if (s->searched_count == 0)
                return;
        qsort(s->searched, s->searched_count, sizeof *s->searched, by_pseudonym);
        for (size_t i = 0; i < s->searched_count; i++) {
                struct searched *x = &s->searched[i];
                if (n == 0 || by_pseudonym(x, &s->searched[n - 1]) != 0)
                        s->searched[n++] = *x;
                else if (s->searched[n - 1].learned && !x->learned)
                        s->searched[n - 1] = *x;
        }
        s->searched_count = n;
}

static int add_learned(struct scan *s, struct errinfo *e)
{
        int err = 0;
        for (size_t i = 0; i < s->searched_count && err == 0; i++) {
                const struct searched *x = &s->searched[i];
                const struct needle n = {
                        .kind = SCAN_PSEUDONYM, .rule = RULE_ROWS_ALONE, .who = x->who};
                if (x->learned)
                        err = needle_add(s, &n, x->pseudonym, PSEUDONYM_BYTES, e);
        }
        return err;
}

int learn_records(struct scan *s, struct errinfo *e)
{
        struct learning l = {.s = s, .e = e};
        int err = matcher_create(&l.matcher, e);
        for (size_t i = 0; i < s->people_count && err == 0; i++) {
                const struct person *p = &s->people[i];
                if (p->is_record)
                        err = searched_add(s, p->pseudonym, (uint32_t)i, p->group, false, e);
                if (err == 0 && p->is_subject)
                        err = matcher_add(l.matcher, p->pseudonym, PSEUDONYM_BYTES, (uint32_t)i, e);
        }
        if (err == 0 && matcher_count(l.matcher) > 0 && s->data_dir != NULL)
                err = read_control(&l, records_block);
        matcher_destroy(&l.matcher);
        if (err != 0)
                return err;
        unite(s);
        return add_learned(s, e);
}
