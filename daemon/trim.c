/* SPDX-License-Identifier: Apache-2.0
 * trim.c: what stands in row files past the counts that a commit knows, or in row files that no
 * commit knows: overwritten and cut off. A crash or a failed batch leaves such rows, and so does an
 * atomic upload that was called off: while that one's end is not recorded nobody appends to the
 * model (upload.c, compact_move.c, jobs.c refuse), so that its rows can be cut off on any thread,
 * in steps. */
#include "daemon/state.h"
#include "daemon/upload.h"

#include "lib/sisa/job.h"
#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN_BYTES = 4096 }; /* what can be overwritten while a file is opened */

struct trimming {
        struct model *m;
        struct txn *t;
        bool keep_staged;
        uint64_t *budget; /* NULL: no end */
        struct errinfo *e;
        uint32_t files;           /* looked at */
        bool whole;               /* so far all files of the shard could be opened as they are */
        struct errinfo staged_in; /* a file with staged rows that cannot be opened; code 0: none */
};

/* A file without a committed row may have been cut short by a crash in its removal
 * (compact_pass.c), or be damaged: nothing of it is missing, and it begins anew. */
static int trim_to_nothing(struct trimming *tr, const char *path, uint32_t shard, uint32_t slice,
                           bool *opened)
{
        struct rowfile *f = NULL;
        const struct row_shape *shape = &tr->m->encoding.e.shape;
        int err = rowfile_open(path, shape, shard, slice, false, &f, tr->e);
        bool whole = err == 0;
        if (err == UL_CORRUPT) /* not that of another slice */
                err = rowfile_open_to_erase(path, shape, shard, slice, &f, tr->e);
        *opened = err == 0;
        if (whole)
                err = rowfile_trim(f, 0, tr->budget, tr->e);
        else if (err == 0)
                err = rowfile_renew(f, shape, shard, slice, tr->budget, tr->e);
        if (f != NULL)
                rowfile_close(&f);
        return err;
}

static int trim_to(struct trimming *tr, uint32_t shard, uint32_t slice, uint32_t rows, bool *opened)
{
        struct rowfile *f = NULL;
        bool whole = false;
        int err = rows_open_to_erase(tr->m, shard, slice, &f, &whole, tr->e);
        *opened = err == 0;
        tr->whole &= whole;
        if (err == 0)
                err = rowfile_trim(f, rows, tr->budget, tr->e);
        if (f != NULL)
                rowfile_close(&f);
        return err;
}

/* What is damaged or away keeps nothing else on the disk. */
static int trim_slice(void *arg, uint32_t shard, uint32_t slice, const struct slice_row *row)
{
        struct trimming *tr = arg;
        char path[PATH_SIZE];
        bool opened = false;
        uint32_t rows = row->rows + (tr->keep_staged ? row->staged : 0);
        tr->files++;
        int err = rows_path(path, tr->m->root, shard, slice, tr->e);
        if (err == 0)
                err = rows == 0 ? trim_to_nothing(tr, path, shard, slice, &opened)
                                : trim_to(tr, shard, slice, rows, &opened);
        if (err != UL_CORRUPT && err != UL_NOT_FOUND)
                return err;
        if (err == UL_NOT_FOUND && row->rows + row->staged == 0)
                return 0;
        tr->whole = false;
        if (!opened && row->staged > 0) /* it may come back, with the rows in it */
                tr->staged_in = *tr->e;
        if (rows > 0 || err == UL_CORRUPT)
                slice_damaged(tr->m, shard, slice, tr->e);
        return 0;
}

/* A row file of a slice that no commit knows: all of its rows were refused or lost. */
static int remove_unknown(struct trimming *tr, uint32_t shard, const char *dir, const char *name)
{
        struct slice_row row;
        char path[PATH_SIZE];
        char *end = NULL;
        if (strncmp(name, "slice-", 6) != 0)
                return 0;
        unsigned long slice = strtoul(name + 6, &end, 10);
        if (strcmp(end, ".rows") != 0)
                return 0;
        int err = slice > SLICES_TOTAL_MAX
                          ? UL_NOT_FOUND
                          : t_slice_get(tr->t, tr->m->id, shard, (uint32_t)slice, &row);
        if (err != UL_NOT_FOUND)
                return err;
        err = path_format(path, tr->e, "%s/%s", dir, name);
        if (err == 0)
                err = scrub_some(path, tr->budget, tr->e);
        CRASH_POINT("trim.unknown_removed");
        return err;
}

static int trim_unknown(struct trimming *tr, uint32_t shard)
{
        char dir[PATH_SIZE];
        int err = path_format(dir, tr->e, "%s/shard-%03u", tr->m->root, shard);
        if (err != 0)
                return err;
        DIR *d = opendir(dir);
        if (d == NULL)
                return errno == ENOENT || errno == ENOTDIR
                               ? 0
                               : ul_fail_errno(tr->e, "opening a shard's folder");
        const struct dirent *entry;
        while (err == 0 && (errno = 0, entry = readdir(d)) != NULL)
                err = remove_unknown(tr, shard, dir, entry->d_name);
        if (err == 0 && errno != 0)
                err = ul_fail_errno(tr->e, "reading a shard's folder");
        (void)closedir(d);
        return err;
}

static int trim_shard(struct trimming *tr, uint32_t shard)
{
        tr->whole = true;
        tr->staged_in = (struct errinfo){0};
        int err = t_slice_each(tr->t, tr->m->id, shard, trim_slice, tr);
        return err == 0 ? trim_unknown(tr, shard) : err;
}

int upload_cut(struct txn *t, struct model *m, uint32_t shard, uint64_t *budget, struct errinfo *e)
{
        struct trimming tr = {.m = m, .t = t, .budget = budget, .e = e};
        int err = trim_shard(&tr, shard);
        scrub_spend(budget,
                    (uint64_t)tr.files * OPEN_BYTES); /* after it, so that each call goes on */
        if (err == 0 && tr.whole)
                rows_try_again(m, shard); /* what was away may be what is there again */
        if (err != 0 || tr.staged_in.code == 0)
                return err;
        *e = tr.staged_in;
        return e->code;
}

int upload_trim(struct model *m, bool keep_staged, struct errinfo *e)
{
        struct trimming tr = {.m = m, .keep_staged = keep_staged, .e = e};
        int err = store_read(m->service->store, &tr.t, e);
        if (err != 0)
                return err;
        for (uint32_t i = 0; i < m->config->shards && err == 0; i++)
                err = trim_shard(&tr, i);
        txn_abort(&tr.t);
        return err;
}

/* What is staged of it is being cut off by the loop, and whatever stands behind that (abort.c). */
static int being_aborted(struct model *m, bool *being, struct errinfo *e)
{
        struct txn *t = NULL;
        struct upload_row row;
        uint32_t upload = 0;
        *being = false;
        int err = store_read(m->service->store, &t, e);
        if (err != 0)
                return err;
        err = upload_staged(t, m->id, &upload);
        if (err == 0 && upload != 0)
                err = t_upload_get(t, upload, &row);
        *being = err == 0 && upload != 0 && upload_called_off(&row);
        txn_abort(&t);
        return err == 0 ? 0 : ul_fail(e, err, "the model's staged upload cannot be read");
}

void upload_undo(struct model *m)
{
        struct service *s = m->service;
        struct errinfo e = {0};
        bool being = false;
        int err = being_aborted(m, &being, &e);
        if (err == 0 && !being)
                err = upload_trim(m, true, &e);
        m->untrimmed = err != 0;
        if (err == 0)
                return;
        atomic_store(&s->unsettled, true);
        health_begin(&s->health, HEALTH_ROWS, err, e.detail);
        if (!health_is_fault(err))
                log_event(LOG_LEVEL_ERROR, "rows_not_trimmed",
                          "model=%s error=%s detail=\"%s\" action=\"tried again\"", m->config->name,
                          ul_err_name(err), e.detail);
}
