/* SPDX-License-Identifier: Apache-2.0
 * restore.c: a backup becomes a data directory, offline. First every file is checked against the
 * manifest; then the directory is marked, so that a restore that is interrupted is never served;
 * then it is emptied (--force), filled, synced, checked again, and the mark is taken away. Running
 * it again after an interruption begins anew. It knows files, and nothing of what is in them. */
#include "cli/commands.h"
#include "cli/lock.h"
#include "cli/progress.h"
#include "lib/backup/copy.h"
#include "lib/backup/manifest.h"
#include "lib/ledger/ledger.h"
#include "lib/util/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct restore_options {
        const char *data_dir, *ledger_dir;
        bool force;
};
const struct option_spec restore_options[] = {
        {"data-dir", "D", OPTION_TEXT, offsetof(struct restore_options, data_dir),
         "the data directory to fill; no daemon may serve it"},
        {"ledger-dir", "L", OPTION_TEXT, offsetof(struct restore_options, ledger_dir),
         "look into the erasure ledger, and say how much will be replayed"},
        {"force", NULL, OPTION_FLAG, offsetof(struct restore_options, force),
         "overwrite what is in the data directory; its keys/ stay where the backup has none"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};
const size_t restore_options_size = sizeof(struct restore_options);

struct restore {
        const char *from, *to;
        struct backup_manifest m;
        int lock_fd;
        struct progress bar;
        uint64_t done;
        struct errinfo e;
};

static bool step(void *arg, uint64_t bytes)
{
        struct restore *r = arg;
        r->done += bytes;
        progress_bytes(&r->bar, r->done);
        return true;
}

/* --- the backup --- */

static int read_manifest(struct restore *r)
{
        char path[PATH_SIZE];
        struct buf text = {0};
        int err = path_format(path, &r->e, "%s/" BACKUP_MANIFEST, r->from);
        if (err == 0)
                err = read_file(path, BACKUP_MANIFEST_MAX, &text, &r->e);
        if (err == UL_NOT_FOUND)
                err = ul_fail(&r->e, UL_NOT_FOUND,
                              "%.150s is no backup: it has no " BACKUP_MANIFEST, r->from);
        if (err == 0)
                err = manifest_parse((const char *)text.data, text.len, &r->m, &r->e);
        buf_free(&text, false);
        return err;
}

/* Every file below `root` is what the manifest says; `sync`: and durable. */
static int check_files(struct restore *r, const char *root, bool sync, const char *advice)
{
        const struct copy_watch watch = {.step = step, .arg = r};
        uint8_t sum[SHA256_BYTES];
        char path[PATH_SIZE];
        int err = 0;
        for (uint32_t i = 0; i < r->m.file_count && err == 0; i++) {
                const struct backup_file *f = &r->m.files[i];
                uint64_t bytes = 0;
                err = path_format(path, &r->e, "%s/%s", root, f->path);
                if (err == 0)
                        err = hash_file(path, sync, &watch, &bytes, sum, &r->e);
                if (err == UL_NOT_FOUND)
                        err = ul_fail(&r->e, UL_CORRUPT, "%s is missing%s", f->path, advice);
                else if (err == 0 && (bytes != f->bytes || memcmp(sum, f->sha256, sizeof sum) != 0))
                        err = ul_fail(&r->e, UL_CORRUPT, "%s is damaged%s", f->path, advice);
        }
        return err;
}

/* --- the data directory --- */

static int lock_target(struct restore *r)
{
        int err = make_dirs(r->to, &r->e);
        return err == 0 ? lock_data_dir(r->to, &r->lock_fd, &r->e) : err;
}

/* What a restore may find in an empty data directory. */
static bool expected(const char *name)
{
        static const char *const names[] = {".", "..", "lock", "keys", "lost+found"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (strcmp(name, names[i]) == 0)
                        return true;
        return false;
}

/* Whether something stands there; what a restore that was interrupted left does not count. */
static int look(struct restore *r, bool *empty)
{
        char mark[PATH_SIZE];
        int err = path_format(mark, &r->e, "%s/" RESTORE_MARK, r->to);
        *empty = true;
        if (err != 0 || file_exists(mark))
                return err;
        DIR *d = opendir(r->to);
        if (d == NULL)
                return ul_fail_errno(&r->e, "cannot read the data directory");
        const struct dirent *entry;
        while ((errno = 0, entry = readdir(d)) != NULL)
                *empty = *empty && expected(entry->d_name);
        err = errno != 0 ? ul_fail_errno(&r->e, "cannot read the data directory") : 0;
        (void)closedir(d);
        return err;
}

static int mark(struct restore *r)
{
        char path[PATH_SIZE];
        int err = path_format(path, &r->e, "%s/" RESTORE_MARK, r->to);
        return err == 0 ? write_file_durably(path, "", 0, &r->e) : err;
}

static int unmark(struct restore *r)
{
        char path[PATH_SIZE];
        int err = path_format(path, &r->e, "%s/" RESTORE_MARK, r->to);
        if (err != 0)
                return err;
        if (unlink(path) != 0)
                return ul_fail_errno(&r->e, "cannot take the mark of the restore away");
        return sync_dir(r->to, &r->e);
}

/* What was there is overwritten, not only unlinked: it is people's data too. */
static int empty_target(struct restore *r)
{
        static const char *const files[] = {BACKUP_DATABASE, BACKUP_DATABASE "-lock"};
        static const char *const trees[] = {"models", "scratch"};
        char path[PATH_SIZE];
        int err = 0;
        for (size_t i = 0; i < 2 && err == 0; i++) {
                err = path_format(path, &r->e, "%s/%s", r->to, files[i]);
                if (err == 0)
                        err = scrub_and_unlink(path, &r->e);
        }
        for (size_t i = 0; i < 2 && err == 0; i++) {
                err = path_format(path, &r->e, "%s/%s", r->to, trees[i]);
                if (err == 0)
                        err = scrub_tree(path, &r->e);
        }
        return err;
}

static int parent_of(struct restore *r, const char *path, char out[PATH_SIZE])
{
        return path_format(out, &r->e, "%.*s", (int)(strrchr(path, '/') - path), path);
}

static int fill_target(struct restore *r)
{
        const struct copy_watch watch = {.step = step, .arg = r};
        char from[PATH_SIZE], to[PATH_SIZE], parent[PATH_SIZE];
        int err = 0;
        for (uint32_t i = 0; i < r->m.file_count && err == 0; i++) {
                const struct backup_file *f = &r->m.files[i];
                uint64_t bytes = 0;
                err = path_format(from, &r->e, "%s/%s", r->from, f->path);
                if (err == 0)
                        err = path_format(to, &r->e, "%s/%s", r->to, f->path);
                if (err == 0)
                        err = parent_of(r, to, parent);
                if (err == 0 && !file_exists(parent))
                        err = make_dirs(parent, &r->e);
                if (err == 0)
                        err = scrub_and_unlink(to, &r->e); /* a key of before */
                if (err == 0)
                        err = copy_file(from, to, f->bytes, &watch, &bytes, &r->e);
        }
        if (err == 0)
                err = check_files(r, r->to, true, " after it was copied: run it again");
        for (uint32_t i = 0; i < r->m.file_count && err == 0; i++) {
                err = path_format(to, &r->e, "%s/%s", r->to, r->m.files[i].path);
                if (err == 0)
                        err = parent_of(r, to, parent);
                if (err == 0)
                        err = sync_dir(parent, &r->e);
        }
        return err;
}

/* --- keys, and what the ledger has --- */

/* The pseudonym key that the data directory will be served with; *has false: there is none yet. */
static int read_key(struct restore *r, const char *root, uint8_t key[KEY_BYTES], bool *has)
{
        char path[PATH_SIZE];
        struct buf b = {0};
        int err = path_format(path, &r->e, "%s/keys/pseudonym.key", root);
        *has = false;
        if (err == 0)
                err = read_file(path, KEY_BYTES + 1, &b, &r->e);
        *has = err == 0 && b.len == KEY_BYTES;
        if (*has)
                memcpy(key, b.data, KEY_BYTES);
        buf_free(&b, true);
        return err == UL_NOT_FOUND ? 0 : err;
}

static int check_key(struct restore *r, uint8_t key[KEY_BYTES], bool *has)
{
        uint8_t identity[BACKUP_IDENTITY_BYTES];
        int err = read_key(r, r->m.with_keys ? r->from : r->to, key, has);
        if (err != 0 || !*has)
                return err;
        backup_identity(key, identity);
        if (memcmp(identity, r->m.identity, sizeof identity) != 0)
                return ul_fail(&r->e, UL_CONFLICT,
                               "keys/pseudonym.key in the data directory is not the one that this "
                               "backup was made with: put the right one there first");
        return 0;
}

struct ahead {
        uint64_t erasures, lifts, imported;
};

static int count_ahead(void *arg, const struct ledger_entry *x)
{
        struct ahead *n = arg;
        n->erasures += x->kind == LEDGER_ERASURE;
        n->lifts += x->kind == LEDGER_LIFT;
        n->imported += x->suppression_count;
        return 0;
}

static int tell_replay(struct restore *r, const char *ledger_dir, const uint8_t key[KEY_BYTES],
                       bool has_key)
{
        struct ledger_mark at = {.bytes = r->m.ledger_bytes};
        struct ledger *l = NULL;
        struct ahead n = {0};
        bool known = false;
        memcpy(at.check, r->m.ledger_check, sizeof at.check);
        if (ledger_dir == NULL) {
                remark("erasures that came after the backup are replayed when the daemon starts "
                       "with "
                       "its ledger_dir; without one it cannot know of them");
                return 0;
        }
        if (!has_key)
                return ul_fail(&r->e, UL_NOT_FOUND,
                               "the ledger cannot be read without keys/pseudonym.key: put it into "
                               "the data directory");
        int err = ledger_open_read(ledger_dir, key, &l, &r->e);
        if (err == 0 && r->m.has_ledger)
                err = ledger_has(l, &at, &known, &r->e);
        if (err == 0)
                err = ledger_each(l, known ? &at : NULL, count_ahead, &n, &r->e);
        if (err == 0 && known)
                remark("%llu erasures, %llu lifted and %llu imported suppressions that came after "
                       "the backup will be replayed when the daemon starts",
                       (unsigned long long)n.erasures, (unsigned long long)n.lifts,
                       (unsigned long long)n.imported);
        else if (err == 0)
                remark("the ledger does not go through the place where the backup was made: what "
                       "the backup does not know of its %llu erasures will be replayed when the "
                       "daemon starts",
                       (unsigned long long)n.erasures);
        ledger_close(&l);
        return err;
}

/* --- all of it --- */

static int tell(const struct ctl *c, const struct restore *r)
{
        char time[RFC3339_SIZE], id[ULID_TEXT + 1];
        const struct backup_manifest *m = &r->m;
        (void)time_format(m->created_ms, time);
        const char *last = m->has_last_erasure ? ulid_format(m->last_erasure, id) : NULL;
        if (c->json)
                (void)printf("{\"created_at\":\"%s\",\"files\":%u,\"bytes\":%llu,"
                             "\"erasures\":%llu,\"last_erasure\":%s%s%s}\n",
                             time, m->file_count, (unsigned long long)manifest_bytes(m),
                             (unsigned long long)m->erasures, last != NULL ? "\"" : "",
                             last != NULL ? last : "null", last != NULL ? "\"" : "");
        else
                (void)printf("restored the backup of %s: %u files, %llu bytes, %llu erasures%s%s\n",
                             time, m->file_count, (unsigned long long)manifest_bytes(m),
                             (unsigned long long)m->erasures, last != NULL ? ", the last " : "",
                             last != NULL ? last : "");
        return 0;
}

static int restore(struct restore *r, const struct restore_options *o, uint8_t key[KEY_BYTES],
                   bool *has_key)
{
        bool empty = false;
        int err = read_manifest(r);
        if (err == 0) {
                progress_begin(&r->bar, "restore", 3 * manifest_bytes(&r->m));
                err = check_files(r, r->from, false, ": this backup cannot be used");
        }
        if (err == 0)
                err = lock_target(r);
        if (err == 0)
                err = look(r, &empty);
        if (err == 0 && !empty && !o->force)
                err = ul_fail(&r->e, UL_CONFLICT,
                              "%.150s is not empty; --force overwrites what is there", r->to);
        if (err == 0)
                err = check_key(r, key, has_key);
        if (err == 0)
                err = mark(r);
        if (err == 0)
                err = empty_target(r);
        if (err == 0)
                err = fill_target(r);
        if (err == 0)
                err = unmark(r);
        return err;
}

int restore_run(struct ctl *c, const struct operands *in, const void *options)
{
        const struct restore_options *o = options;
        struct restore r = {.from = in->items[0], .to = o->data_dir, .lock_fd = -1};
        uint8_t key[KEY_BYTES];
        bool has_key = false;
        if (o->data_dir == NULL)
                return complain_usage("restore wants --data-dir");
        int err = 0;
        if (o->ledger_dir != NULL && !ledger_exists(o->ledger_dir))
                err = ul_fail_field(&r.e, UL_NOT_FOUND, "--ledger-dir",
                                    "there is no %s in %.150s: mount its disk, or leave the option "
                                    "out",
                                    LEDGER_FILE, o->ledger_dir);
        if (err == 0)
                err = restore(&r, o, key, &has_key);
        progress_end(&r.bar);
        if (err == 0) {
                (void)tell(c, &r);
                if (!has_key)
                        remark("the backup has no keys: put keys/pseudonym.key and keys/log.key "
                               "into the data directory before the daemon starts");
                err = tell_replay(&r, o->ledger_dir, key, has_key);
        }
        wipe(key, sizeof key);
        manifest_clear(&r.m);
        if (r.lock_fd >= 0)
                (void)close(r.lock_fd);
        return err == 0 ? EXIT_DONE : complain_about(&r.e);
}
