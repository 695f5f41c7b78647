/* SPDX-License-Identifier: Apache-2.0
 * replay.c: see replay.h. A row file says nothing of how many of its rows were committed, so all
 * that are whole are taken: where that is wrong the commitment is another, and the caller sees it.
 */
#include "lib/sisa/replay.h"

#include "lib/records/rowfile.h"
#include "lib/util/bytes.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int by_pseudonym(const void *a, const void *b)
{
        return memcmp(a, b, PSEUDONYM_BYTES);
}

/* The whole rows that a slice's file has room for; 0 where there is none. */
static int count_rows(const char *path, const struct row_shape *shape, uint32_t *out,
                      struct errinfo *e)
{
        struct stat st;
        *out = 0;
        if (stat(path, &st) != 0)
                return errno == ENOENT ? 0 : ul_fail_errno(e, "looking at a row file");
        if (!S_ISREG(st.st_mode))
                return ul_fail(e, UL_DAMAGED, "a row file is no file");
        if (st.st_size > ROWFILE_HEADER_BYTES) {
                uint64_t n = (uint64_t)(st.st_size - ROWFILE_HEADER_BYTES) / row_bytes(shape);
                if (n > UINT32_MAX)
                        return ul_fail(e, UL_DAMAGED, "a row file is too large");
                *out = (uint32_t)n;
        }
        return 0;
}

static int read_slice(struct replay *r, const struct row_shape *shape, uint32_t slice,
                      struct buf *pseudonyms, struct errinfo *e)
{
        struct job_slice *s = &r->job->slice[slice - 1];
        struct rowview v;
        char path[PATH_SIZE];
        int err = rows_path(path, r->job->root, r->job->shard, slice, e);
        if (err == 0)
                err = count_rows(path, shape, &s->rows, e);
        if (err != 0 || s->rows == 0)
                return err;
        err = rowview_open(path, shape, r->job->shard, slice, s->rows, &v, e);
        if (err != 0)
                return err;
        for (uint32_t i = 0; i < v.count && err == 0; i++) {
                const uint8_t *row = v.rows + (size_t)i * v.row_bytes;
                if (!row_intact(row, v.row_bytes))
                        err = ul_fail(e, UL_DAMAGED, "row %u of slice %u is damaged", i, slice);
                else if (!row_erased(row)) {
                        buf_append(pseudonyms, row, PSEUDONYM_BYTES);
                        s->live++;
                }
        }
        rowview_close(&v);
        return err == 0 && pseudonyms->failed ? ul_fail(e, UL_NOMEM, "no memory for a replay")
                                              : err;
}

static int fill(struct replay *r, const char *root, struct model_config *config, uint32_t shard,
                uint32_t slices, struct errinfo *e)
{
        struct job *j = r->job;
        if (shard >= config->shards || slices == 0 || slices > SLICES_TOTAL_MAX)
                return ul_fail(e, UL_INVALID, "the model has no such shard or slice");
        int err = path_format(j->root, e, "%s", root);
        j->shard = shard;
        j->from = 1;
        j->slices = slices;
        j->slice = calloc(slices, sizeof *j->slice);
        memcpy(j->id, "replay", sizeof "replay");
        return err == 0 && j->slice == NULL ? ul_fail(e, UL_NOMEM, "no memory for a replay") : err;
}

int replay_open(const char *root, struct model_config *config_take,
                const uint8_t pseudonym_key[KEY_BYTES], uint32_t shard, uint32_t slices,
                struct replay *out, struct errinfo *e)
{
        struct buf pseudonyms = {0};
        const struct model_config *c = config_take;
        const struct row_shape shape = {.dtype = (uint32_t)c->dtype,
                                        .features = c->features,
                                        .targets = c->task == TASK_REGRESSION ? c->outputs : 0};
        *out = (struct replay){.job = calloc(1, sizeof *out->job)};
        if (out->job == NULL) {
                model_config_destroy(&config_take);
                return ul_fail(e, UL_NOMEM, "no memory for a replay");
        }
        out->job->config = config_take;
        model_key(config_take, pseudonym_key, out->job->model_key);
        int err = fill(out, root, config_take, shard, slices, e);
        for (uint32_t i = 1; i <= slices && err == 0; i++)
                err = read_slice(out, &shape, i, &pseudonyms, e);
        if (err == 0) {
                out->records = pseudonyms.len / PSEUDONYM_BYTES;
                if (out->records > 0)
                        qsort(pseudonyms.data, out->records, PSEUDONYM_BYTES, by_pseudonym);
                sha256(pseudonyms.data, pseudonyms.len, out->retained);
        }
        buf_free(&pseudonyms, true);
        return err;
}

void replay_clear(struct replay *r)
{
        job_destroy(&r->job);
        *r = (struct replay){0};
}
