/* SPDX-License-Identifier: Apache-2.0
 * commitment.c: was a checkpoint trained on an erased record? Its provenance commits to the sorted
 * pseudonyms of slices 1..r of its shard; the row files hold those of the records that are there.
 * A commitment that none of the present sets has was made over something that is gone: whose, is
 * found by putting searched records back in. It must not know how a checkpoint is trained, and
 * needs no more of its file than the few lines of provenance. */
#include "lib/scan/scan_private.h"

#include "lib/util/file.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES_MAX = 1000 };
#define NEEDLE "\"retained\":\"" /* see scan.c */

static int by_pseudonym(const void *a, const void *b)
{
        return memcmp(((const struct member *)a)->pseudonym, ((const struct member *)b)->pseudonym,
                      PSEUDONYM_BYTES);
}

/* --- what is there --- */

static int add_member(struct shard_members *x, const uint8_t *pseudonym, uint32_t slice,
                      struct errinfo *e)
{
        int err = scan_grow(&x->members, x->count, &x->capacity, sizeof *x->members, e);
        if (err != 0)
                return err;
        struct member *m = &x->members[x->count++];
        memcpy(m->pseudonym, pseudonym, PSEUDONYM_BYTES);
        m->slice = slice;
        return 0;
}

struct reading {
        struct shard_members *shard;
        struct row_shape shape;
        uint32_t slice;
        struct errinfo *e;
};

/* Rows are as long as they are: read one at a time, they cross blocks. */
static int read_members(int fd, uint64_t bytes, struct reading *r)
{
        enum { AT_ONCE = 256 * 1024 };
        const uint32_t width = row_bytes(&r->shape);
        const uint32_t batch = width < AT_ONCE ? AT_ONCE / width : 1;
        uint8_t *rows = malloc((size_t)batch * width);
        int err = rows == NULL ? ul_fail(r->e, UL_NOMEM, "no memory for rows") : 0;
        uint64_t left = (bytes - ROWFILE_HEADER_BYTES) / width, at = ROWFILE_HEADER_BYTES;
        while (err == 0 && left > 0) {
                const uint32_t n = left < batch ? (uint32_t)left : batch;
                err = read_at(fd, rows, (size_t)n * width, at, r->e);
                for (uint32_t i = 0; i < n && err == 0; i++) {
                        const uint8_t *row = rows + (size_t)i * width;
                        if (!row_erased(row) && row_intact(row, width))
                                err = add_member(r->shard, row, r->slice, r->e);
                }
                at += (uint64_t)n * width;
                left -= n;
        }
        if (rows != NULL)
                wipe(rows, (size_t)batch * width);
        free(rows);
        return err;
}

/* models/NAME/shard-SSS/slice-RRR.rows; files of one shard come one after another. */
static int take_file(struct scan *s, int fd, const char *path, const char *relative,
                     struct errinfo *e)
{
        char *last = s->shard_folder;
        struct stat st;
        struct reading r = {.e = e};
        const char *name = strrchr(relative, '/');
        if (name == NULL || !ends_in(relative, ".rows") ||
            sscanf(name, "/slice-%u.rows", &r.slice) != 1 || r.slice == 0 ||
            r.slice > SLICES_TOTAL_MAX)
                return 0;
        if (fstat(fd, &st) != 0 || !read_row_shape(fd, (uint64_t)st.st_size, &r.shape)) {
                tell_unread(s, path,
                            "a row file without a sound header: checkpoints of its shard "
                            "cannot be judged");
                return 0;
        }
        const size_t folder = (size_t)(name - relative);
        if (strlen(last) != folder || memcmp(last, relative, folder) != 0) {
                struct shard_members *grown =
                        realloc(s->shards, (s->shard_count + 1) * sizeof *grown);
                if (grown == NULL)
                        return ul_fail(e, UL_NOMEM, "no memory for shards");
                s->shards = grown;
                s->shards[s->shard_count++] = (struct shard_members){0};
                memcpy(last, relative, folder);
                last[folder] = '\0';
        }
        r.shard = &s->shards[s->shard_count - 1];
        r.shard->slices = r.slice > r.shard->slices ? r.slice : r.shard->slices;
        int err = read_members(fd, (uint64_t)st.st_size, &r);
        if (err != 0 && err != UL_NOMEM) {
                tell_unread(s, path, e->detail);
                err = 0;
        }
        return err;
}

/* Of slices 1..slice, with `extra` [n] put in, which are sorted and not members. */
static void commit(const struct shard_members *x, uint32_t slice, const struct member *extra,
                   size_t n, uint8_t out[SHA256_BYTES])
{
        struct sha256_state h;
        size_t k = 0;
        sha256_begin(&h);
        for (size_t i = 0; i < x->count; i++) {
                if (x->members[i].slice > slice)
                        continue;
                for (; k < n && by_pseudonym(&extra[k], &x->members[i]) < 0; k++)
                        sha256_add(&h, extra[k].pseudonym, PSEUDONYM_BYTES);
                sha256_add(&h, x->members[i].pseudonym, PSEUDONYM_BYTES);
        }
        for (; k < n; k++)
                sha256_add(&h, extra[k].pseudonym, PSEUDONYM_BYTES);
        sha256_end(&h, out);
}

int commitments_read(struct scan *s, struct errinfo *e)
{
        char root[SCAN_PATH_MAX];
        struct stat st;
        commitments_free(s);
        int n = snprintf(root, sizeof root, "%s/models", s->data_dir);
        if (n < 0 || n >= SCAN_PATH_MAX)
                return ul_fail(e, UL_TOO_LARGE, "the data directory's path is too long");
        if (lstat(root, &st) != 0)
                return 0;
        s->quiet = true;
        int err = walk_files(s, root, take_file, e);
        s->quiet = false;
        for (size_t i = 0; i < s->shard_count && err == 0; i++) {
                struct shard_members *x = &s->shards[i];
                if (x->count > 0)
                        qsort(x->members, x->count, sizeof *x->members, by_pseudonym);
                x->commitments = calloc(x->slices, sizeof *x->commitments);
                if (x->commitments == NULL)
                        return ul_fail(e, UL_NOMEM, "no memory for commitments");
                for (uint32_t slice = 1; slice <= x->slices; slice++)
                        commit(x, slice, NULL, 0, x->commitments[slice - 1]);
        }
        return err;
}

void commitments_free(struct scan *s)
{
        for (size_t i = 0; i < s->shard_count; i++) {
                struct shard_members *x = &s->shards[i];
                if (x->members != NULL)
                        wipe(x->members, x->count * sizeof *x->members);
                free(x->members);
                free(x->commitments);
        }
        free(s->shards);
        s->shards = NULL;
        s->shard_count = 0;
        s->shard_folder[0] = '\0';
}

/* --- one checkpoint --- */

static bool is_present(const struct scan *s, const uint8_t retained[SHA256_BYTES])
{
        uint8_t empty[SHA256_BYTES];
        sha256("", 0, empty);
        if (memcmp(empty, retained, SHA256_BYTES) == 0)
                return true; /* nobody's */
        for (size_t i = 0; i < s->shard_count; i++)
                for (uint32_t k = 0; k < s->shards[i].slices; k++)
                        if (memcmp(s->shards[i].commitments[k], retained, SHA256_BYTES) == 0)
                                return true;
        return false;
}

/* Searched records that a shard does not hold. */
struct putting_back {
        struct member *extra; /* [count], sorted */
        size_t count;
};

/* Those of a subject (group NOBODY: all). `searched` is sorted, so they are. */
static void gather(const struct scan *s, const struct shard_members *x, size_t from, size_t to,
                   uint32_t group, struct putting_back *p)
{
        p->count = 0;
        for (size_t i = from; i < to; i++) {
                struct member m = {0};
                memcpy(m.pseudonym, s->searched[i].pseudonym, PSEUDONYM_BYTES);
                if ((group == NOBODY || s->searched[i].group == group) &&
                    (x->count == 0 ||
                     bsearch(&m, x->members, x->count, sizeof m, by_pseudonym) == NULL))
                        p->extra[p->count++] = m;
        }
}

static bool fits(const struct shard_members *x, const struct putting_back *p,
                 const uint8_t retained[SHA256_BYTES])
{
        uint8_t made[SHA256_BYTES];
        for (uint32_t slice = 1; slice <= x->slices && p->count > 0; slice++) {
                commit(x, slice, p->extra, p->count, made);
                if (memcmp(made, retained, SHA256_BYTES) == 0)
                        return true;
        }
        return false;
}

/* Whether the commitment fits with searched records put back into a shard: one of them, all of a
 * subject (which are together in a slice), all. *who is one of those. */
static bool fits_with(const struct scan *s, const struct shard_members *x, struct putting_back *p,
                      const uint8_t retained[SHA256_BYTES], uint32_t *who)
{
        const size_t n = s->searched_count, tries = n < TRIES_MAX ? n : TRIES_MAX;
        for (size_t i = 0; i < tries; i++) {
                *who = s->searched[i].who;
                gather(s, x, i, i + 1, NOBODY, p);
                if (fits(x, p, retained))
                        return true;
        }
        for (size_t i = 0; i < tries; i++) {
                *who = s->searched[i].group;
                if (*who == NOBODY)
                        continue;
                gather(s, x, 0, n, *who, p);
                if (fits(x, p, retained))
                        return true;
        }
        gather(s, x, 0, n, NOBODY, p);
        *who = n > 0 ? s->searched[0].who : NOBODY;
        return fits(x, p, retained);
}

static void judge_commitment(struct scan *s, struct scan_file *f,
                             const uint8_t retained[SHA256_BYTES], uint64_t offset)
{
        struct putting_back p = {0};
        uint32_t who = NOBODY;
        bool found = false;
        s->totals.checkpoints++;
        if (is_present(s, retained))
                return;
        p.extra = calloc(s->searched_count + 1, sizeof *p.extra);
        if (p.extra == NULL) {
                s->err = UL_NOMEM;
                return;
        }
        for (size_t i = 0; i < s->shard_count && s->key != NULL && !found; i++)
                found = fits_with(s, &s->shards[i], &p, retained, &who);
        wipe(p.extra, (s->searched_count + 1) * sizeof *p.extra);
        free(p.extra);
        tell_found(s, f, SCAN_CHECKPOINT, true, found ? who : NOBODY,
                   found ? "a checkpoint that was trained on the record"
                         : "a checkpoint that was trained on records that are no longer there",
                   offset);
}

/* Whether a file has this text at a place. */
static bool text_at(const struct scan_file *f, uint64_t offset, const char *text)
{
        char have[16];
        const size_t len = strlen(text);
        return len <= sizeof have && read_at(f->fd, have, len, offset, NULL) == 0 &&
               memcmp(have, text, len) == 0;
}

/* A checkpoint has "parent":"HEX","retained":"HEX","records":"N"; the audit log's entries, which
 * tell what was trained on once and is gone, name the same hash among other members. One neighbour
 * is enough: a fragment may end at the other. */
static bool is_provenance(const struct scan_file *f, uint64_t offset)
{
        enum { HEX = 2 * SHA256_BYTES };
        static const char before[] = "\"parent\":\"", after[] = "\",\"records\":\"";
        const size_t back = sizeof before - 1 + HEX + 2;
        return (offset >= back && text_at(f, offset - back, before)) ||
               text_at(f, offset + sizeof NEEDLE - 1 + HEX, after);
}

void judge_provenance(struct scan *s, struct scan_file *f, uint64_t offset)
{
        char hex[2 * SHA256_BYTES];
        uint8_t retained[SHA256_BYTES];
        if (!is_provenance(f, offset) ||
            read_at(f->fd, hex, sizeof hex, offset + sizeof NEEDLE - 1, NULL) != 0 ||
            hex_decode(hex, sizeof hex, retained, sizeof retained) != SHA256_BYTES)
                return;
        if (s->data_dir != NULL)
                judge_commitment(s, f, retained, offset);
        else
                tell_found(s, f, SCAN_CHECKPOINT, false, NOBODY,
                           "a checkpoint, which the rows of its data directory would tell more of",
                           offset);
}
