/* SPDX-License-Identifier: Apache-2.0
 * recover.c: start is recovery: the one path from a data directory to a serving daemon, the same
 * after a clean stop and after a crash. It removes what no commit knows: rows past the committed
 * counts, checkpoints that were renamed but not recorded, scratch folders, staged uploads. What was
 * committed but not carried out (scrubs, retrains, deletions) the loop finds by itself. It runs
 * before the writer exists. */
#include "daemon/run.h"
#include "daemon/state.h"
#include "daemon/upload.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- models --- */

struct loading {
        struct service *s;
        struct txn *t;
        struct errinfo *e;
};

static int load_model(void *arg, const char *name, const struct model_row *row, const char *config,
                      size_t config_len)
{
        struct loading *l = arg;
        struct model_config *c = NULL;
        struct model *m = NULL;
        uint32_t scope = 0;
        int err = model_scope(l->t, name, false, &scope);
        if (err == 0)
                err = model_config_parse(config, config_len, &c, l->e);
        if (err == 0)
                err = model_create(l->s, row->id, scope, c, row->created_ms, &m, l->e);
        if (err != 0)
                return err;
        atomic_store(&m->deleting, row->deleting != 0);
        if (row->deleting)
                atomic_fetch_add(&l->s->going, 1);
        return registry_add(l->s, m, l->e);
}

/* --- files that no commit knows --- */

static bool ends_with(const char *name, const char *end)
{
        size_t n = strlen(name);
        size_t k = strlen(end);
        return n >= k && strcmp(name + n - k, end) == 0;
}

/* slice-NNN.ckpt of a recorded checkpoint stays; every other .ckpt and .tmp goes. */
static int check_file(struct model *m, struct txn *t, uint32_t shard, const char *dir,
                      const char *name, struct errinfo *e)
{
        char path[PATH_SIZE];
        bool temporary = ends_with(name, ".tmp");
        if (!temporary && !ends_with(name, ".ckpt"))
                return 0;
        if (!temporary && strncmp(name, "slice-", 6) == 0) {
                struct slice_row row;
                unsigned long slice = strtoul(name + 6, NULL, 10);
                if (slice >= 1 && slice <= SLICES_TOTAL_MAX &&
                    t_slice_get(t, m->id, shard, (uint32_t)slice, &row) == 0 && row.has_checkpoint)
                        return 0;
        }
        int err = path_format(path, e, "%s/%s", dir, name);
        if (err == 0)
                err = scrub_and_unlink(path, e);
        CRASH_POINT("recover.file_removed");
        return err;
}

static int check_shard(struct model *m, struct txn *t, uint32_t shard, struct errinfo *e)
{
        char dir[PATH_SIZE];
        int err = path_format(dir, e, "%s/shard-%03u", m->root, shard);
        if (err != 0)
                return err;
        DIR *d = opendir(dir);
        if (d == NULL)
                return errno == ENOENT ? 0 : ul_fail_errno(e, "opening a shard's folder");
        const struct dirent *entry;
        while (err == 0 && (errno = 0, entry = readdir(d)) != NULL)
                err = check_file(m, t, shard, dir, entry->d_name, e);
        if (err == 0 && errno != 0)
                err = ul_fail_errno(e, "reading a shard's folder");
        (void)closedir(d);
        return err;
}

/* A folder below models/ that is no model's is the rest of a deletion. */
static int check_folders(struct service *s, struct errinfo *e)
{
        char path[PATH_SIZE];
        int err = 0;
        DIR *d = opendir(s->models_dir);
        if (d == NULL)
                return ul_fail_errno(e, "opening the models' folder");
        const struct dirent *entry;
        while (err == 0 && (errno = 0, entry = readdir(d)) != NULL) {
                bool known = entry->d_name[0] == '.';
                for (uint32_t i = 0; i < s->model_count && !known; i++)
                        known = strcmp(s->models[i]->config->name, entry->d_name) == 0;
                if (known)
                        continue;
                err = path_format(path, e, "%s/%s", s->models_dir, entry->d_name);
                if (err == 0)
                        err = scrub_tree(path, e);
        }
        (void)closedir(d);
        return err;
}

static int check_model(struct model *m, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = upload_trim(m, false, e);
        CRASH_POINT("recover.rows_trimmed");
        if (err == 0)
                err = store_read(m->service->store, &t, e);
        for (uint32_t i = 0; i < m->config->shards && err == 0; i++)
                err = check_shard(m, t, i, e);
        if (t != NULL)
                txn_abort(&t);
        return err;
}

/* --- rows of the store --- */

struct ids {
        struct txn *t;
        uint32_t *upload; /* [upload_count] */
        uint32_t upload_count;
        uint8_t (*job)[ULID_BYTES]; /* [job_count] */
        uint32_t job_count;
};

static int add_upload(void *arg, uint32_t upload, const struct upload_row *row)
{
        struct ids *l = arg;
        uint32_t *grown = realloc(l->upload, (l->upload_count + 1) * sizeof *grown);
        (void)row;
        if (grown == NULL)
                return UL_NOMEM;
        l->upload = grown;
        l->upload[l->upload_count++] = upload;
        return 0;
}

static int add_job(void *arg, const uint8_t id[ULID_BYTES], const struct job_row *row,
                   const char *result, size_t result_len)
{
        struct ids *l = arg;
        struct training tr;
        (void)result;
        (void)result_len;
        if (row->state != JOB_QUEUED && row->state != JOB_RUNNING)
                return 0;
        if ((row->kind == JOB_TRAIN || row->kind == JOB_COMPACT) &&
            training_get(l->t, row->model, &tr) == 0 && memcmp(tr.job, id, ULID_BYTES) == 0)
                return 0; /* it goes on */
        uint8_t(*grown)[ULID_BYTES] = realloc(l->job, (l->job_count + 1) * sizeof *grown);
        if (grown == NULL)
                return UL_NOMEM;
        l->job = grown;
        memcpy(l->job[l->job_count++], id, ULID_BYTES);
        return 0;
}

/* Staged uploads are called off (the loop removes them); jobs that died with the process end. */
static int settle_rows(struct service *s, struct errinfo *e)
{
        struct ids l = {0};
        int err = store_write(s->store, &l.t, e);
        if (err != 0)
                return err;
        err = t_upload_each(l.t, add_upload, &l);
        if (err == 0)
                err = t_job_each_desc(l.t, NULL, add_job, &l);
        for (uint32_t i = 0; i < l.upload_count && err == 0; i++)
                err = upload_call_off(l.t, l.upload[i]);
        for (uint32_t i = 0; i < l.job_count && err == 0; i++)
                err = job_end(l.t, l.job[i], JOB_CANCELLED, "the daemon was restarted", NULL, 0);
        if (err == 0) {
                CRASH_POINT("recover.rows_settled");
                err = txn_commit(&l.t, e);
                CRASH_POINT("recover.rows_committed");
        } else {
                txn_abort(&l.t);
                (void)ul_fail(e, err, "the control database cannot be brought up to date");
        }
        free(l.upload);
        free(l.job);
        return err;
}

int recover(struct service *s, struct errinfo *e)
{
        struct loading l = {.s = s, .e = e};
        struct txn *t = NULL;
        int err = scrub_tree(s->scratch_dir, e);
        CRASH_POINT("recover.scratch_gone");
        if (err == 0)
                err = make_dirs(s->scratch_dir, e);
        if (err == 0)
                err = make_dirs(s->models_dir, e);
        /* A killed daemon may have made folders and files that this one finds and would not sync.
         */
        if (err == 0)
                err = sync_names(s->config.data_dir, e);
        if (err == 0)
                err = store_read(s->store, &t, e);
        if (err != 0)
                return err;
        l.t = t;
        err = t_model_each(t, load_model, &l);
        txn_abort(&t);
        if (err == 0)
                err = settle_rows(s, e);
        for (uint32_t i = 0; i < s->model_count && err == 0; i++)
                if (!atomic_load(&s->models[i]->deleting))
                        err = check_model(s->models[i], e);
        if (err == 0)
                err = check_folders(s, e);
        CRASH_POINT("recover.recovered");
        if (err != 0 && e->code == 0)
                (void)ul_fail(e, err, "the data directory cannot be recovered");
        return err;
}
