/* SPDX-License-Identifier: Apache-2.0
 * job.c: the job file's text, both ways, and the names of the files that a job reads and writes.
 * It must not know what training does with them.
 *
 * A job file holds the model's key, so its writer gives it mode 0600 and scrubs it; here the key
 * is wiped with the job. */
#include "lib/sisa/job.h"
#include "lib/util/json.h"
#include "lib/util/limits.h"
#include <stdlib.h>
#include <string.h>

/* The largest integer that JSON readers agree on. */
static const uint64_t json_exact_max = UINT64_C(1) << 53;

/* --- writing --- */

static void put_slices(struct json_writer *w, const struct job *j)
{
        jw_key(w, "slices");
        jw_array(w);
        for (uint32_t i = 0; i < j->slices; i++) {
                jw_object(w);
                jw_member_u64(w, "rows", j->slice[i].rows);
                jw_member_u64(w, "live", j->slice[i].live);
                jw_end_object(w);
        }
        jw_end_array(w);
}

int job_write(const struct job *j, struct buf *out)
{
        struct json_writer w;
        if (j->fence > json_exact_max)
                return UL_INVALID;
        jw_init(&w, out);
        jw_object(&w);
        jw_member_string(&w, "id", j->id);
        jw_member_u64(&w, "fence", j->fence);
        jw_member_string(&w, "root", j->root);
        jw_member_string(&w, "scratch", j->scratch);
        jw_key(&w, "config");
        jw_object(&w);
        model_config_write(j->config, &w, true);
        jw_end_object(&w);
        jw_member_hex(&w, "model_key", j->model_key, KEY_BYTES);
        jw_member_u64(&w, "shard", j->shard);
        jw_member_u64(&w, "from", j->from);
        put_slices(&w, j);
        jw_member_hex(&w, "parent", j->parent, SHA256_BYTES);
        jw_member_string(&w, "kernel", j->kernel);
        jw_end_object(&w);
        return out->failed ? UL_NOMEM : 0;
}

/* --- the digest --- */

enum { SEAL_BYTES = 1 + 2 * SHA256_BYTES + 1 };

static void make_seal(const void *json, size_t len, char out[SEAL_BYTES + 1])
{
        uint8_t digest[SHA256_BYTES];
        sha256(json, len, digest);
        out[0] = '\n';
        (void)hex_encode(digest, sizeof digest, out + 1);
        out[SEAL_BYTES - 1] = '\n';
        out[SEAL_BYTES] = '\0';
}

int job_seal(struct buf *out)
{
        char seal[SEAL_BYTES + 1];
        if (out->failed)
                return UL_NOMEM;
        make_seal(out->data, out->len, seal);
        buf_append(out, seal, SEAL_BYTES);
        return out->failed ? UL_NOMEM : 0;
}

int job_unseal(const void *file, size_t len, size_t *json_len, struct errinfo *e)
{
        char seal[SEAL_BYTES + 1];
        *json_len = len < SEAL_BYTES ? 0 : len - SEAL_BYTES;
        make_seal(file, *json_len, seal);
        if (len < SEAL_BYTES || memcmp((const char *)file + *json_len, seal, SEAL_BYTES) != 0)
                return ul_fail(e, UL_CORRUPT, "the job file is damaged: its digest does not hold");
        return 0;
}

/* --- reading --- */

/* What json_decode fills: the job, and what needs another look. */
struct draft {
        struct job job;
        const struct json *config;
        const struct json *slices;
        char model_key[2 * KEY_BYTES + 1];
        char parent[2 * SHA256_BYTES + 1];
};

#define TEXT(member, from)                                                                         \
        .type = JF_STRING, .offset = offsetof(struct draft, member),                               \
        .size = sizeof(((struct draft *)0)->member), .min = (from),                                \
        .max = (double)sizeof(((struct draft *)0)->member) - 1, .required = true
#define FIELD(kind, member)                                                                        \
        .type = (kind), .offset = offsetof(struct draft, member), .required = true
static const struct json_field job_fields[] = {
        {.name = "id", TEXT(job.id, 1)},
        {.name = "fence", FIELD(JF_U64, job.fence)},
        {.name = "root", TEXT(job.root, 1)},
        {.name = "scratch", TEXT(job.scratch, 1)},
        {.name = "config", FIELD(JF_VALUE, config)},
        {.name = "model_key", TEXT(model_key, 2 * KEY_BYTES)},
        {.name = "shard", FIELD(JF_U32, job.shard)},
        {.name = "from", FIELD(JF_U32, job.from)},
        {.name = "slices", FIELD(JF_VALUE, slices)},
        {.name = "parent", TEXT(parent, 2 * SHA256_BYTES)},
        {.name = "kernel", TEXT(job.kernel, 0)},
};
static const struct json_field slice_fields[] = {
        {.name = "rows",
         .type = JF_U32,
         .offset = offsetof(struct job_slice, rows),
         .required = true},
        {.name = "live",
         .type = JF_U64,
         .offset = offsetof(struct job_slice, live),
         .required = true},
};
#undef FIELD
#undef TEXT

static int read_slices(const struct json *v, struct job *j, struct errinfo *e)
{
        if (json_type_of(v) != JSON_ARRAY)
                return ul_fail_field(e, UL_INVALID, "/slices", "must be an array");
        size_t n = json_length(v);
        if (n < 1 || n > SLICES_TOTAL_MAX)
                return ul_fail_field(e, UL_INVALID, "/slices", "must have 1 to %d members",
                                     (int)SLICES_TOTAL_MAX);
        j->slices = (uint32_t)n;
        j->slice = calloc(n, sizeof *j->slice);
        if (j->slice == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a job's slices");
        struct job_slice *to = j->slice;
        for (const struct json *s = json_first(v); s != NULL; s = json_next(s), to++) {
                if (json_type_of(s) != JSON_OBJECT)
                        return ul_fail_field(e, UL_INVALID, "/slices", "must hold objects");
                int err = json_decode(s, slice_fields, sizeof slice_fields / sizeof *slice_fields,
                                      to, "/slices", e);
                if (err != 0)
                        return err;
                if (to->live > to->rows)
                        return ul_fail_field(e, UL_INVALID, "/slices", "more live rows than rows");
        }
        return 0;
}

static int check_ranges(const struct job *j, struct errinfo *e)
{
        if (j->root[0] != '/')
                return ul_fail_field(e, UL_INVALID, "/root", "must be an absolute path");
        if (j->scratch[0] != '/')
                return ul_fail_field(e, UL_INVALID, "/scratch", "must be an absolute path");
        if (j->shard >= j->config->shards)
                return ul_fail_field(e, UL_INVALID, "/shard", "the model has no such shard");
        if (j->from < 1 || j->from > j->slices)
                return ul_fail_field(e, UL_INVALID, "/from", "must be one of the job's slices");
        return 0;
}

static int read_draft(const struct json *doc, struct draft *d, struct errinfo *e)
{
        if (json_type_of(doc) != JSON_OBJECT)
                return ul_fail(e, UL_INVALID, "a job file must hold a JSON object");
        int err = json_decode(doc, job_fields, sizeof job_fields / sizeof *job_fields, d, "", e);
        if (err != 0)
                return err;
        if (hex_decode(d->model_key, strlen(d->model_key), d->job.model_key, KEY_BYTES) !=
            KEY_BYTES)
                return ul_fail_field(e, UL_INVALID, "/model_key", "must be 64 hex digits");
        if (hex_decode(d->parent, strlen(d->parent), d->job.parent, SHA256_BYTES) != SHA256_BYTES)
                return ul_fail_field(e, UL_INVALID, "/parent", "must be 64 hex digits");
        if (json_type_of(d->config) != JSON_OBJECT)
                return ul_fail_field(e, UL_INVALID, "/config", "must be an object");
        err = model_config_decode(d->config, &d->job.config, e);
        if (err == 0)
                err = read_slices(d->slices, &d->job, e);
        return err != 0 ? err : check_ranges(&d->job, e);
}

int job_parse(const char *text, size_t len, struct job **out, struct errinfo *e)
{
        struct json *doc = NULL;
        struct draft *d = NULL;
        struct job *j = calloc(1, sizeof *j);
        int err = 0;

        *out = NULL;
        d = calloc(1, sizeof *d);
        if (j == NULL || d == NULL) {
                err = ul_fail(e, UL_NOMEM, "no memory for a job");
                goto out;
        }
        err = json_parse(text, len, &doc, e);
        if (err == 0)
                err = read_draft(doc, d, e);
        *j = d->job; /* owns what was allocated, also after a failure */
        if (err == 0) {
                *out = j;
                j = NULL;
        }
out:
        if (d != NULL)
                wipe(d, sizeof *d);
        free(d);
        json_free(&doc);
        job_destroy(&j);
        return err;
}

void job_destroy(struct job **j)
{
        if (*j == NULL)
                return;
        model_config_destroy(&(*j)->config);
        free((*j)->slice);
        wipe(*j, sizeof **j);
        free(*j);
        *j = NULL;
}

/* --- paths --- */

int rows_path(char out[PATH_SIZE], const char *root, uint32_t shard, uint32_t slice,
              struct errinfo *e)
{
        return path_format(out, e, "%s/shard-%03u/slice-%03u.rows", root, shard, slice);
}

int checkpoint_path(char out[PATH_SIZE], const char *root, uint32_t shard, uint32_t slice,
                    struct errinfo *e)
{
        return path_format(out, e, "%s/shard-%03u/slice-%03u.ckpt", root, shard, slice);
}

int scratch_path(char out[PATH_SIZE], const char *scratch, uint32_t slice, struct errinfo *e)
{
        return path_format(out, e, "%s/slice-%03u.ckpt", scratch, slice);
}
