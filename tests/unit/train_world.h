/* SPDX-License-Identifier: Apache-2.0
 * train_world.h: small shards on disk for the tests of training: records are functions of their
 * number, and a world says which of them stand in which file, in which order, and which were
 * erased there. */
#ifndef UNLEARND_TESTS_TRAIN_WORLD_H
#define UNLEARND_TESTS_TRAIN_WORLD_H

#include "lib/kernels/kernels.h"
#include "lib/models/model.h"
#include "lib/records/rowfile.h"
#include "lib/sisa/train.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORLD_SLICES = 10, WORLD_RECORDS = 512 };

/* One row of a file. */
struct placed {
        uint32_t n; /* the record */
        uint32_t slice;
        bool erased;
};

struct world {
        char root[PATH_SIZE];
        char scratch[PATH_SIZE];
        struct job job;
        struct job_slice slice[WORLD_SLICES];
        struct row_shape shape;
        /* what training said */
        struct {
                uint8_t file[SHA256_BYTES], data[SHA256_BYTES], retained[SHA256_BYTES];
                uint64_t records;
        } stage[WORLD_SLICES + 1];
        uint32_t stages;      /* how many it reported */
        uint32_t first_stage; /* the first of them */
        uint64_t done, total;
        uint32_t reports;
        bool started_at_zero, backwards;
};

static char world_base[PATH_SIZE];
static uint32_t world_number;
static uint32_t world_shard = 2;
static struct errinfo world_error;

static inline int world_setup(void **state)
{
        (void)state;
        const char *tmp = getenv("TMPDIR");
        if (crypto_init() != 0 || kernels_init(&world_error) != 0)
                return -1;
        if (path_format(world_base, &world_error, "%s/test_train.XXXXXX",
                        tmp != NULL ? tmp : "/tmp") != 0)
                return -1;
        return mkdtemp(world_base) != NULL ? 0 : -1;
}

static inline int world_teardown(void **state)
{
        (void)state;
        return scrub_tree(world_base, &world_error);
}

static inline uint32_t mix(uint32_t a, uint32_t b)
{
        uint64_t v = ((uint64_t)a << 32 | b) * UINT64_C(0x9e3779b97f4a7c15);
        v ^= v >> 29;
        v *= UINT64_C(0xbf58476d1ce4e5b9);
        return (uint32_t)(v >> 32);
}

/* The class of a record, and its features: two in three follow the class. */
static inline uint32_t record_class(const struct model_config *c, uint32_t n)
{
        return mix(n, 77) % c->outputs;
}

static inline uint32_t record_byte(const struct model_config *c, uint32_t n, uint32_t i)
{
        uint32_t noise = mix(n, i + 1000) % 256;
        uint32_t class = c->task == TASK_CLASSIFICATION ? record_class(c, n) : 0;
        uint32_t centre = mix(class, i) % 256;
        return i % 3 == 2 ? noise : (3 * centre + noise) / 4;
}

static inline void record_make(const struct world *w, uint32_t n, uint8_t *row)
{
        const struct model_config *c = w->job.config;
        uint8_t digest[SHA256_BYTES];
        uint8_t *to = row + row_feature_offset(&w->shape);
        float targets[4] = {0};
        memset(row, 0, row_bytes(&w->shape));
        sha256(&n, sizeof n, digest);
        memcpy(row, digest, PSEUDONYM_BYTES);
        for (uint32_t i = 0; i < c->features; i++) {
                uint32_t byte = record_byte(c, n, i);
                float f = (float)byte / 64.0F - 2.0F;
                if (c->dtype == DTYPE_F32)
                        memcpy(to + 4 * (size_t)i, &f, sizeof f);
                else if (c->dtype == DTYPE_U8)
                        to[i] = (uint8_t)byte;
                else if (byte >= 128)
                        to[i / 8] = (uint8_t)(to[i / 8] | 1U << i % 8);
                for (uint32_t t = 0; t < w->shape.targets; t++)
                        targets[t] += f * (float)(i % (t + 2)) / 8.0F;
        }
        if (w->shape.targets == 0)
                put_le32(row + ROW_LABEL_OFFSET, record_class(c, n));
        else
                memcpy(row + ROW_LABEL_OFFSET, targets, 4 * (size_t)w->shape.targets);
        row_seal(row, row_bytes(&w->shape));
}

static inline void world_place(struct world *w, const struct placed *p)
{
        char path[PATH_SIZE];
        uint8_t row[2048];
        struct rowfile *f = NULL;
        struct job_slice *s = &w->slice[p->slice - 1];
        assert_true(p->slice <= w->job.slices && row_bytes(&w->shape) <= sizeof row);
        assert_int_equal(rows_path(path, w->root, w->job.shard, p->slice, &world_error), 0);
        assert_int_equal(
                rowfile_open(path, &w->shape, w->job.shard, p->slice, true, &f, &world_error), 0);
        record_make(w, p->n, row);
        assert_int_equal(rowfile_append(f, s->rows, row, 1, &world_error), 0);
        if (p->erased)
                assert_int_equal(rowfile_erase(f, s->rows, &world_error), 0);
        s->rows++;
        s->live += !p->erased;
        rowfile_close(&f);
}

/* options: members of the configuration, ",..." or "". */
static inline void world_open(struct world *w, const char *options, uint32_t slices,
                              const struct placed *rows, uint32_t count)
{
        char text[512];
        char shard[PATH_SIZE];
        memset(w, 0, sizeof *w);
        int n = snprintf(text, sizeof text, "{\"name\":\"m\",\"shards\":4,\"seed\":3%s%s}",
                         strstr(options, "batch_size") == NULL ? ",\"batch_size\":8" : "", options);
        assert_true(n > 0 && (size_t)n < sizeof text);
        int err = model_config_parse(text, (size_t)n, &w->job.config, &world_error);
        if (err != 0)
                print_error("%s %s: %s\n", text, world_error.field, world_error.detail);
        assert_int_equal(err, 0);
        const struct model_config *c = w->job.config;
        w->shape = (struct row_shape){.dtype = (uint32_t)c->dtype,
                                      .features = c->features,
                                      .targets = c->task == TASK_REGRESSION ? c->outputs : 0};
        world_number++;
        assert_int_equal(path_format(w->root, &world_error, "%s/%u", world_base, world_number), 0);
        assert_int_equal(path_format(w->scratch, &world_error, "%s/scratch", w->root), 0);
        assert_int_equal(path_format(shard, &world_error, "%s/shard-%03u", w->root, world_shard),
                         0);
        assert_int_equal(make_dirs(shard, &world_error), 0);
        memcpy(w->job.id, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 27);
        memcpy(w->job.root, w->root, sizeof w->job.root);
        memcpy(w->job.scratch, w->scratch, sizeof w->job.scratch);
        memset(w->job.model_key, 0x5a, sizeof w->job.model_key);
        w->job.shard = world_shard;
        w->job.from = 1;
        w->job.slices = slices;
        w->job.slice = w->slice;
        for (uint32_t i = 0; i < count; i++)
                world_place(w, &rows[i]);
}

static inline void world_close(struct world *w)
{
        model_config_destroy(&w->job.config);
}

static inline void world_on_progress(void *arg, uint64_t done, uint64_t total)
{
        struct world *w = arg;
        if (w->reports == 0)
                w->started_at_zero = done == 0;
        w->backwards |= w->reports > 0 && (done < w->done || total != w->total);
        w->done = done;
        w->total = total;
        w->reports++;
}

static inline void world_on_stage(void *arg, uint32_t slice, const uint8_t file[SHA256_BYTES],
                                  const struct checkpoint *c)
{
        struct world *w = arg;
        assert_int_equal(c->slice, slice);
        if (w->stages++ == 0)
                w->first_stage = slice;
        assert_int_equal(slice, w->first_stage + w->stages - 1);
        memcpy(w->stage[slice].file, file, SHA256_BYTES);
        memcpy(w->stage[slice].retained, c->retained, SHA256_BYTES);
        checkpoint_data_hash(c, w->stage[slice].data);
        w->stage[slice].records = c->records;
}

static inline int world_train(struct world *w, uint32_t from)
{
        const struct train_events events = {
                .progress = world_on_progress, .stage = world_on_stage, .arg = w};
        w->job.from = from;
        w->stages = 0;
        w->reports = 0;
        memset(&world_error, 0, sizeof world_error);
        return sisa_train(&w->job, &events, &world_error);
}

static inline void world_train_ok(struct world *w, uint32_t from)
{
        int err = world_train(w, from);
        if (err != 0)
                print_error("%s: %s\n", ul_err_name(err), world_error.detail);
        assert_int_equal(err, 0);
        assert_int_equal(w->first_stage, from);
        assert_int_equal(w->stages, w->job.slices - from + 1);
}

/* The checkpoint of a slice as training left it. */
static inline void world_read(const struct world *w, uint32_t slice, struct checkpoint *out)
{
        char path[PATH_SIZE];
        uint8_t hash[SHA256_BYTES];
        assert_int_equal(scratch_path(path, w->scratch, slice, &world_error), 0);
        assert_int_equal(checkpoint_read(path, w->stage[slice].file, out, hash, &world_error), 0);
}

/* Puts a trained checkpoint in its place, as the parent of slice + 1. */
static inline void world_adopt(struct world *w, const struct world *from, uint32_t slice)
{
        char source[PATH_SIZE];
        char target[PATH_SIZE];
        struct buf b = {0};
        assert_int_equal(scratch_path(source, from->scratch, slice, &world_error), 0);
        assert_int_equal(checkpoint_path(target, w->root, w->job.shard, slice, &world_error), 0);
        assert_int_equal(read_file(source, 1 << 20, &b, &world_error), 0);
        assert_int_equal(write_file_durably(target, b.data, b.len, &world_error), 0);
        memcpy(w->job.parent, from->stage[slice].file, SHA256_BYTES);
        buf_free(&b, true);
}

static inline void assert_same_hash(const uint8_t *a, const uint8_t *b)
{
        assert_memory_equal(a, b, SHA256_BYTES);
}

static inline void assert_other_hash(const uint8_t *a, const uint8_t *b)
{
        assert_memory_not_equal(a, b, SHA256_BYTES);
}

/* Files, data, commitments and counts of all slices. */
static inline void assert_same_training(const struct world *a, const struct world *b)
{
        assert_int_equal(a->job.slices, b->job.slices);
        for (uint32_t i = 1; i <= a->job.slices; i++) {
                assert_same_hash(a->stage[i].data, b->stage[i].data);
                assert_same_hash(a->stage[i].retained, b->stage[i].retained);
                assert_same_hash(a->stage[i].file, b->stage[i].file);
                assert_true(a->stage[i].records == b->stage[i].records);
        }
}

#endif
