/* SPDX-License-Identifier: Apache-2.0
 * backup_copy.c: a consistent copy of a data directory that is being served. First everything is
 * copied as it happens to be, which may take long. Then scrubs are held, the database is copied,
 * and what that copy refers to and the first pass did not catch as it is now is copied again: so
 * the hold is as short as what changed meanwhile. Rows that were appended after the copied commit
 * are past the counts that it knows, and do not exist for it (upload.c); an erasure after it may
 * still be in the copy, which is what the erasure ledger is for. */
#include "daemon/backup.h"
#include "daemon/erasure_ledger.h"
#include "daemon/scheduler.h"
#include "daemon/state.h"

#include "daemon/keys.h"
#include "daemon/webhook.h"
#include "lib/backup/copy.h"
#include "lib/sisa/job.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { SETTLED_S = 2 }; /* a file that was changed this recently may change within its time stamp */

struct item {
        char path[BACKUP_PATH_MAX + 1];
        uint64_t limit; /* bytes that the commit knows of; UINT64_MAX: all */
        bool optional;  /* a checkpoint, which is trained again where it is missing */
};
struct items {
        struct txn *t;
        struct item *all; /* [count], by path */
        uint32_t count, cap;
        const char *root; /* models/NAME: of the walk */
        uint32_t row_bytes;
        struct errinfo *e;
};

/* --- what a commit refers to --- */

static int add(struct items *l, const char *path, uint64_t limit, bool optional)
{
        if (strlen(path) > BACKUP_PATH_MAX)
                return UL_TOO_LARGE;
        if (l->count == l->cap) {
                uint32_t cap = l->cap == 0 ? 256 : l->cap * 2;
                struct item *grown = realloc(l->all, cap * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                l->all = grown;
                l->cap = cap;
        }
        struct item *x = &l->all[l->count++];
        *x = (struct item){.limit = limit, .optional = optional};
        memcpy(x->path, path, strlen(path) + 1);
        return 0;
}

static int add_slice(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row)
{
        struct items *l = arg;
        char path[PATH_SIZE];
        int err = rows_path(path, l->root, shard, slice, l->e);
        if (err == 0)
                err = add(l, path, ROWFILE_HEADER_BYTES + (uint64_t)row->rows * l->row_bytes,
                          row->rows == 0);
        if (err == 0 && row->has_checkpoint)
                err = checkpoint_path(path, l->root, shard, slice, l->e);
        if (err == 0 && row->has_checkpoint)
                err = add(l, path, UINT64_MAX, true);
        return err;
}

static int add_model(void *arg, const char *name, const struct model_row *row, const char *config,
                     size_t config_len)
{
        struct items *l = arg;
        struct model_config *c = NULL;
        struct encoding_holder encoding;
        char root[PATH_SIZE];
        if (row->deleting)
                return 0; /* its deletion goes on where it is restored */
        int err = model_config_parse(config, config_len, &c, l->e);
        if (err != 0)
                return err;
        err = encoding_make(c, &encoding, l->e);
        if (err == 0) {
                l->row_bytes = row_bytes(&encoding.e.shape);
                encoding_clear(&encoding);
                err = path_format(root, l->e, "models/%s", name);
        }
        l->root = root;
        if (err == 0)
                err = t_slice_each(l->t, row->id, UINT32_MAX, add_slice, l);
        l->root = NULL;
        model_config_destroy(&c);
        return err;
}

static int by_path(const void *a, const void *b)
{
        return strcmp(((const struct item *)a)->path, ((const struct item *)b)->path);
}

static int list_items(struct txn *t, struct items *out, struct errinfo *e)
{
        *out = (struct items){.t = t, .e = e};
        int err = t_model_each(t, add_model, out);
        if (out->count > 0)
                qsort(out->all, out->count, sizeof *out->all, by_path);
        return err == 0 || e->code != 0 ? err : ul_fail(e, err, "the models cannot be listed");
}

static int list_now(struct service *s, struct items *out, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = store_read(s->store, &t, e);
        if (err != 0)
                return err;
        err = list_items(t, out, e);
        txn_abort(&t);
        return err;
}

/* --- copying --- */

static bool step(void *arg, uint64_t bytes)
{
        struct backup_progress *p = arg;
        p->done = p->done + bytes < p->total ? p->done + bytes : p->total;
        progress_set(p->service, p->job, 0, p->done, p->total);
        return !atomic_load(&p->service->backup_cancelled);
}

/* The folder of a path below `dir`, made where it is missing. */
static int make_parent(const char *path, struct errinfo *e)
{
        char dir[PATH_SIZE];
        const char *slash = strrchr(path, '/');
        int err = path_format(dir, e, "%.*s", (int)(slash - path), path);
        return err == 0 && !file_exists(dir) ? make_dirs(dir, e) : err;
}

/* A copy bears the time stamp of what it was made from, unless that may be changing. */
static bool copied_before(const char *to, const struct stat *source, uint64_t size)
{
        struct stat st;
        return stat(to, &st) == 0 && (uint64_t)st.st_size == size &&
               st.st_mtim.tv_sec == source->st_mtim.tv_sec &&
               st.st_mtim.tv_nsec == source->st_mtim.tv_nsec;
}

static int stamp(const char *to, const struct stat *source, int64_t begun_s, struct errinfo *e)
{
        struct timespec times[2] = {source->st_mtim, source->st_mtim};
        if (source->st_mtim.tv_sec + SETTLED_S > begun_s)
                times[0] = times[1] = (struct timespec){0};
        return utimensat(AT_FDCWD, to, times, 0) == 0
                       ? 0
                       : ul_fail_errno(e, "cannot set the time of a copy");
}

static int copy_item(struct backup_progress *p, const char *dir, const struct item *x, bool final,
                     struct errinfo *e)
{
        const struct copy_watch watch = {.step = step, .arg = p};
        char from[PATH_SIZE], to[PATH_SIZE];
        struct stat st;
        uint64_t bytes = 0;
        int64_t begun_s = (int64_t)time(NULL);
        int err = path_format(from, e, "%s/%s", p->service->config.data_dir, x->path);
        if (err == 0)
                err = path_format(to, e, "%s/%s", dir, x->path);
        if (err != 0)
                return err;
        bool there = stat(from, &st) == 0;
        uint64_t size = there && (uint64_t)st.st_size < x->limit ? (uint64_t)st.st_size : x->limit;
        if (there && copied_before(to, &st, size))
                return 0;
        err = scrub_and_unlink(to, e);
        if (err == 0 && !there)
                return !final || x->optional
                               ? 0
                               : ul_fail(e, UL_CORRUPT, "a row file is missing: %s", x->path);
        if (err == 0)
                err = make_parent(to, e);
        if (err == 0)
                err = copy_file(from, to, x->limit, &watch, &bytes, e);
        if ((err == UL_NOT_FOUND || err == UL_CORRUPT) && !final) {
                *e = (struct errinfo){0}; /* cut short and unlinked meanwhile: the final pass */
                return scrub_and_unlink(to, e); /* knows whether it is wanted */
        }
        if (err == 0 && final && !x->optional && bytes < x->limit)
                return ul_fail(e, UL_CORRUPT, "a row file is shorter than its commit: %s", x->path);
        return err == 0 ? stamp(to, &st, begun_s, e) : err;
}

static int copy_items(struct backup_progress *p, const char *dir, const struct items *l, bool final,
                      struct errinfo *e)
{
        int err = 0;
        for (uint32_t i = 0; i < l->count && err == 0; i++)
                err = copy_item(p, dir, &l->all[i], final, e);
        return err;
}

/* Copies of the first pass that the copied commit does not know any more. */
static int drop_others(const char *dir, const struct items *first, const struct items *final,
                       struct errinfo *e)
{
        char path[PATH_SIZE];
        int err = 0;
        for (uint32_t i = 0; i < first->count && err == 0; i++) {
                const struct item *x = &first->all[i];
                if (final->count > 0 &&
                    bsearch(x, final->all, final->count, sizeof *final->all, by_path) != NULL)
                        continue;
                err = path_format(path, e, "%s/%s", dir, x->path);
                if (err == 0)
                        err = scrub_and_unlink(path, e);
        }
        return err;
}

/* --- the database --- */

static int count_erasure(void *arg, const uint8_t id[ULID_BYTES], const struct erasure_row *row,
                         const struct erasure_affected *affected)
{
        struct backup_manifest *m = arg;
        (void)row;
        (void)affected;
        if (m->erasures++ == 0) { /* the newest comes first */
                m->has_last_erasure = true;
                memcpy(m->last_erasure, id, ULID_BYTES);
        }
        return 0;
}

static int describe(struct txn *t, struct backup_manifest *m)
{
        struct ledger_mark mark;
        int err = t_erasure_each_desc(t, NULL, count_erasure, m);
        if (err == 0)
                err = ledger_mark_get(t, &mark, &m->has_ledger);
        if (err != 0)
                return err;
        m->audit_size = audit_size(t);
        m->ledger_bytes = mark.bytes;
        memcpy(m->ledger_check, mark.check, sizeof m->ledger_check);
        return 0;
}

/* What the copied commit knows and refers to, read from the copy itself. */
static int read_copy(const char *file, struct backup_manifest *m, struct items *out,
                     struct errinfo *e)
{
        struct store *copy = NULL;
        struct txn *t = NULL;
        int err = store_open_copy(file, &copy, e);
        if (err == 0)
                err = store_read(copy, &t, e);
        if (err == 0)
                err = list_items(t, out, e);
        if (err == 0 && (err = describe(t, m)) != 0)
                (void)ul_fail(e, err, "the copy of the control database cannot be read");
        if (t != NULL)
                txn_abort(&t);
        store_close(&copy);
        return err;
}

/* As a start after its restore would: a backup that is of no use fails while there is another. */
static int check_copy(const char *dir, struct errinfo *e)
{
        struct store_found found;
        struct errinfo why = {0};
        char file[PATH_SIZE];
        int err = path_format(file, e, "%s/" BACKUP_DATABASE, dir);
        if (err != 0)
                return err;
        err = store_check(file, &found, &why);
        if (err == 0 && !found.empty)
                return 0;
        return ul_fail(e, err != 0 ? err : UL_CORRUPT,
                       "the copy of the control database is damaged (%s): start the daemon again, "
                       "which checks the database itself, and look at the kernel's log",
                       err != 0 ? why.detail : "it is empty");
}

static int copy_held(struct backup_progress *p, const char *dir, struct backup_manifest *m,
                     struct items *final, struct errinfo *e)
{
        char file[PATH_SIZE];
        int err = path_format(file, e, "%s/" BACKUP_DATABASE, dir);
        if (err != 0)
                return err;
        scheduler_hold(p->service->scheduler, true);
        uint64_t held_us = mono_us();
        err = store_copy(p->service->store, file, e);
        CRASH_POINT("backup.store_copied");
        if (err == 0)
                err = read_copy(file, m, final, e);
        if (err == 0)
                err = copy_items(p, dir, final, true, e);
        scheduler_hold(p->service->scheduler, false);
        scheduler_wake(p->service->scheduler);
        log_event(LOG_LEVEL_INFO, "backup_copied", "files=%u scrubs_held_ms=%llu", final->count,
                  (unsigned long long)(mono_us() - held_us) / 1000);
        return err;
}

/* --- the manifest --- */

static int seal_file(struct backup_progress *p, const char *dir, const char *path,
                     struct backup_manifest *m, struct errinfo *e)
{
        const struct copy_watch watch = {.step = step, .arg = p};
        struct backup_file file = {0};
        char full[PATH_SIZE], parent[PATH_SIZE];
        memcpy(file.path, path, strlen(path));
        int err = path_format(full, e, "%s/%s", dir, path);
        if (err == 0)
                err = hash_file(full, true, &watch, &file.bytes, file.sha256, e);
        if (err == 0)
                err = path_format(parent, e, "%.*s", (int)(strrchr(full, '/') - full), full);
        if (err == 0)
                err = sync_dir(parent, e);
        if (err == 0 && manifest_add(m, &file) != 0)
                err = ul_fail(e, UL_NOMEM, "no memory for a backup's manifest");
        return err;
}

static int copy_key(const char *data_dir, const char *dir, const char *name, struct errinfo *e)
{
        char path[PATH_SIZE];
        uint8_t key[KEY_BYTES];
        int err = path_format(path, e, "%s/keys/%s", dir, name);
        if (err == 0)
                err = make_parent(path, e);
        if (err == 0)
                err = key_load(data_dir, name, false, key, e);
        if (err == 0)
                err = write_file_durably(path, key, sizeof key, e);
        wipe(key, sizeof key);
        return err;
}

struct sealing {
        struct backup_progress *progress;
        const char *dir;
        struct backup_manifest *manifest;
};

static int seal_secret(void *arg, const char *file, const struct buf *text, struct errinfo *e)
{
        struct sealing *l = arg;
        char path[PATH_SIZE], full[PATH_SIZE];
        int err = path_format(path, e, "keys/%s", file);
        if (err == 0)
                err = path_format(full, e, "%s/%s", l->dir, path);
        if (err == 0)
                err = write_file_durably(full, text->data, text->len, e);
        return err == 0 ? seal_file(l->progress, l->dir, path, l->manifest, e) : err;
}

/* Syncs and hashes every file, in order of their paths, and writes the manifest. */
static int seal_all(struct backup_progress *p, const char *dir, const struct items *l,
                    struct backup_manifest *m, struct errinfo *e)
{
        static const char *const keys[] = {"log.key", "pseudonym.key"};
        char path[PATH_SIZE];
        struct buf text = {0};
        int err = seal_file(p, dir, BACKUP_DATABASE, m, e);
        for (size_t i = 0; i < 2 && err == 0 && m->with_keys; i++) {
                err = copy_key(p->service->config.data_dir, dir, keys[i], e);
                if (err == 0)
                        err = path_format(path, e, "keys/%s", keys[i]);
                if (err == 0)
                        err = seal_file(p, dir, path, m, e);
        }
        if (err == 0 && m->with_keys)
                err = webhook_each_secret(
                        p->service, seal_secret,
                        &(struct sealing){.progress = p, .dir = dir, .manifest = m}, e);
        for (uint32_t i = 0; i < l->count && err == 0; i++) {
                err = path_format(path, e, "%s/%s", dir, l->all[i].path);
                if (err == 0 && (file_exists(path) || !l->all[i].optional))
                        err = seal_file(p, dir, l->all[i].path, m, e);
        }
        if (err == 0)
                manifest_write(m, &text);
        if (err == 0 && text.failed)
                err = ul_fail(e, UL_NOMEM, "no memory for a backup's manifest");
        if (err == 0)
                err = path_format(path, e, "%s/" BACKUP_MANIFEST, dir);
        if (err == 0)
                err = write_file_durably(path, text.data, text.len, e);
        buf_free(&text, false);
        return err;
}

/* Everything is read twice: copied, and hashed. */
static uint64_t bytes_to_do(struct service *s, const struct items *l)
{
        char path[PATH_SIZE];
        struct stat st;
        uint64_t sum = 0, used = 0, map = 0;
        for (uint32_t i = 0; i < l->count; i++)
                if (path_format(path, NULL, "%s/%s", s->config.data_dir, l->all[i].path) == 0 &&
                    stat(path, &st) == 0)
                        sum += (uint64_t)st.st_size;
        store_usage(s->store, &used, &map);
        return 2 * sum + used + 1;
}

int backup_copy(struct backup_progress *p, const char *dir, bool with_keys,
                struct backup_manifest *out, struct errinfo *e)
{
        struct items first = {0}, final = {0};
        *out = (struct backup_manifest){
                .created_ms = now_ms(), .version = UNLEARND_VERSION, .with_keys = with_keys};
        backup_identity(p->service->pseudonym_key, out->identity);
        int err = list_now(p->service, &first, e);
        p->total = bytes_to_do(p->service, &first);
        if (err == 0)
                err = copy_items(p, dir, &first, false, e);
        if (err == 0)
                err = copy_held(p, dir, out, &final, e);
        if (err == 0)
                err = check_copy(dir, e);
        if (err == 0)
                err = drop_others(dir, &first, &final, e);
        if (err == 0)
                err = seal_all(p, dir, &final, out, e);
        free(first.all);
        free(final.all);
        return err;
}
