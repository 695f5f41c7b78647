/* SPDX-License-Identifier: Apache-2.0
 * store.c: the environment and its transactions: see store.h. Creating makes every table and the
 * schema version under another name first, so a file is either absent or whole. It knows the names
 * of the tables, not what is in them.
 *
 * LMDB takes the newer of two meta pages, and neither has a checksum: a flipped bit in the newer
 * one's transaction id would bring the last transaction but one back, with an acknowledged erasure
 * undone. So every transaction writes its own id into the tree that its meta page points to, and
 * store_check holds both meta pages to it. It costs a page a commit, and no sync. */
#include "lib/store/db.h"

#include "lib/util/crash_point.h"
#include "lib/util/file.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
        READERS_MAX = 4096, /* read transactions at once: 64 bytes of lock file each */
        TABLES_MAX = 64,
        MAP_BYTES_MIN = 64 * 1024,
        FILE_MODE = 0600,
        DISK_BYTES_MIN =
                1024 * 1024, /* LMDB writes 256 KiB at once: less room cuts a write short */
};

struct store {
        /* set once, before the store is handed out */
        MDB_env *env;
        MDB_dbi dbi[TABLE_COUNT];
        /* set once by store_bind_writer; then read by any thread */
        pthread_t writer;
        _Atomic bool bound;
        /* set once by store_watch, before other threads */
        store_damage_fn on_damage;
        void *on_damage_arg;
        /* any thread */
        _Atomic(const char *) damaged; /* see store_damaged */
};

static const char *const table_name[TABLE_COUNT] = {
        [TABLE_META] = "meta",
        [TABLE_COUNTERS] = "counters",
        [TABLE_BLOBS] = "blobs",
        [TABLE_MODELS] = "models",
        [TABLE_RECORDS] = "records",
        [TABLE_SUBJECT_RECORDS] = "subject_records",
        [TABLE_SUBJECTS] = "subjects",
        [TABLE_SHARDS] = "shards",
        [TABLE_SLICES] = "slices",
        [TABLE_ERASURES] = "erasures",
        [TABLE_WAITING] = "waiting",
        [TABLE_SCRUB] = "scrub",
        [TABLE_SUPPRESSIONS] = "suppressions",
        [TABLE_JOBS] = "jobs",
        [TABLE_IDEMPOTENCY] = "idempotency",
        [TABLE_IDEMPOTENCY_UNTIL] = "idempotency_until",
        [TABLE_AUDIT_LEAVES] = "audit_leaves",
        [TABLE_AUDIT_NODES] = "audit_nodes",
        [TABLE_AUDIT_INDEX] = "audit_index",
        [TABLE_UPLOADS] = "uploads",
        [TABLE_LIFTS] = "lifts",
        [TABLE_HELD] = "held",
        [TABLE_DEADLINES] = "deadlines",
        [TABLE_ENDPOINTS] = "endpoints",
        [TABLE_DELIVERIES] = "deliveries",
        [TABLE_DELIVERIES_DUE] = "deliveries_due",
        [TABLE_CALLBACKS] = "callbacks",
        [TABLE_EVIDENCE] = "evidence",
        [TABLE_CERTIFICATES] = "certificates",
        [TABLE_NOTED] = "noted",
        [TABLE_IMPORTS] = "imports",
        [TABLE_OPENDSR] = "opendsr",
        [TABLE_OPENDSR_OF] = "opendsr_of",
        [TABLE_SERVED] = "served",
        [TABLE_RECALLS] = "recalls",
};

const char *db_table_name(enum table table)
{
        return table_name[table];
}

/* Said once: what was served from it since is as it was read. */
static void note_damage(struct store *s, const char *what)
{
        const char *none = NULL;
        if (atomic_compare_exchange_strong(&s->damaged, &none, what) && s->on_damage != NULL)
                s->on_damage(s->on_damage_arg, what);
}

int db_damaged(struct txn *t, enum table table)
{
        t->damaged = table_name[table];
        note_damage(t->store, t->damaged);
        return txn_fail(t, UL_CORRUPT);
}

int db_pages_damaged(struct store *s)
{
        note_damage(s, "pages");
        return UL_CORRUPT;
}

unsigned db_handle(const struct txn *t, enum table table)
{
        return t->store->dbi[table];
}

int db_cause(const struct store *s, int mdb_code)
{
        mdb_filehandle_t fd;
        struct statvfs fs;
        if (mdb_code != EIO || mdb_env_get_fd(s->env, &fd) != 0 || fstatvfs(fd, &fs) != 0)
                return mdb_code;
        return (uint64_t)fs.f_bavail * fs.f_frsize < DISK_BYTES_MIN ? ENOSPC : EIO;
}

static int fail_mdb(struct errinfo *e, int rc, const char *what)
{
        int err = ul_fail(e, db_error(rc), "%s: %s", what, mdb_strerror(rc));
        if (e != NULL && err == UL_BUSY)
                e->retry_after_s = 1;
        return err;
}

static int fail_sticky(const struct txn *t, struct errinfo *e)
{
        if (t->damaged != NULL)
                return ul_fail(e, t->err,
                               "the control database is damaged: a value of table %s fails its "
                               "checksum",
                               t->damaged);
        if (t->cause != 0)
                return ul_fail(e, t->err, "the control database: %s", mdb_strerror(t->cause));
        return ul_fail(e, t->err, "the change was not made: %s", ul_err_name(t->err));
}

/* See the head of this file. */
static int put_commit_id(struct txn *t)
{
        uint8_t id[8];
        put_le64(id, mdb_txn_id(t->mdb));
        return db_put(t, TABLE_META, DB_COMMIT, strlen(DB_COMMIT), id, sizeof id);
}

/* --- opening --- */

/* The file: `path` itself, or control.mdb in the directory that it names. */
static int control_path(const char *path, char file[PATH_SIZE], struct errinfo *e)
{
        struct stat st;
        bool is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
        return path_format(file, e, "%s%s", path, is_dir ? "/control.mdb" : "");
}

static int open_env(struct store *s, const char *file, uint64_t map_bytes, unsigned flags,
                    struct errinfo *e)
{
        int rc = mdb_env_create(&s->env);
        if (rc == 0)
                rc = mdb_env_set_mapsize(s->env, (size_t)map_bytes);
        if (rc == 0)
                rc = mdb_env_set_maxdbs(s->env, TABLES_MAX);
        if (rc == 0)
                rc = mdb_env_set_maxreaders(s->env, READERS_MAX);
        /* NOTLS: a read transaction belongs to its object, not to the thread that made it */
        if (rc == 0)
                rc = mdb_env_open(s->env, file, MDB_NOSUBDIR | MDB_NOTLS | flags, FILE_MODE);
        if (rc == 0) {
                int dead; /* slots of a process that was killed would hold old pages for ever */
                rc = mdb_reader_check(s->env, &dead);
        }
        return rc == 0 ? 0 : fail_mdb(e, rc, "cannot open the control database");
}

/* LMDB opens the data file without O_CLOEXEC and shows only one of its two descriptors; a worker
 * must inherit none. Those of this process are found by what they refer to. */
static int close_on_exec(struct store *s, struct errinfo *e)
{
        struct stat file, st;
        mdb_filehandle_t known;
        struct dirent *entry;
        if (mdb_env_get_fd(s->env, &known) != 0 || fstat(known, &file) != 0)
                return ul_fail_errno(e, "cannot look at the control database");
        DIR *d = opendir("/proc/self/fd");
        if (d == NULL)
                return ul_fail_errno(e, "/proc/self/fd");
        int err = 0;
        while (err == 0 && (entry = readdir(d)) != NULL) {
                char *end;
                long fd = strtol(entry->d_name, &end, 10);
                if (*end != '\0' || fd < 0 || fd > INT_MAX || fstat((int)fd, &st) != 0 ||
                    st.st_dev != file.st_dev || st.st_ino != file.st_ino)
                        continue;
                if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0)
                        err = ul_fail_errno(e, "cannot keep the control database from workers");
        }
        (void)closedir(d);
        return err;
}

static int check_schema(struct txn *t, bool fresh, struct errinfo *e)
{
        uint8_t version[4];
        struct unpacker v;

        if (fresh) {
                put_le32(version, DB_SCHEMA_VERSION);
                (void)db_put(t, TABLE_META, DB_SCHEMA, strlen(DB_SCHEMA), version, sizeof version);
                return put_commit_id(t) == 0 ? 0 : fail_sticky(t, e);
        }
        int err = db_get(t, TABLE_META, DB_SCHEMA, strlen(DB_SCHEMA), &v);
        if (err == UL_NOT_FOUND)
                return ul_fail(e, UL_CORRUPT, "the control database has no schema version");
        if (err != 0)
                return fail_sticky(t, e);
        uint32_t found = unpack_u32(&v);
        if (!unpacked(&v))
                return ul_fail(e, UL_CORRUPT, "the control database has no schema version");
        if (found != DB_SCHEMA_VERSION)
                return ul_fail(e, UL_CORRUPT,
                               "the control database has schema version %u and this program reads "
                               "%d: use the version that wrote it",
                               found, DB_SCHEMA_VERSION);
        return 0;
}

/* Opens every table in one transaction, and creates them in an empty file. */
static int open_tables(struct store *s, struct errinfo *e)
{
        MDB_txn *mdb = NULL;
        MDB_dbi main_dbi;
        MDB_stat st;
        int err = 0;
        int rc = mdb_txn_begin(s->env, NULL, 0, &mdb);
        if (rc != 0)
                return fail_mdb(e, rc, "cannot begin a transaction");
        rc = mdb_dbi_open(mdb, NULL, 0, &main_dbi);
        if (rc == 0)
                rc = mdb_stat(mdb, main_dbi, &st);
        bool fresh = rc == 0 && st.ms_entries == 0;
        for (int i = 0; rc == 0 && i < TABLE_COUNT; i++)
                rc = mdb_dbi_open(mdb, table_name[i], MDB_CREATE, &s->dbi[i]);
        if (rc != 0)
                err = fail_mdb(e, rc, "cannot open the tables of the control database");
        else
                err = check_schema(&(struct txn){.store = s, .mdb = mdb, .write = true}, fresh, e);
        if (err != 0) {
                mdb_txn_abort(mdb);
                return err;
        }
        rc = mdb_txn_commit(mdb);
        return rc == 0 ? 0 : fail_mdb(e, rc, "cannot create the control database");
}

/* Those of a file that is only read: they must be there. */
static int find_tables(struct store *s, struct errinfo *e)
{
        MDB_txn *mdb = NULL;
        int err = 0;
        int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &mdb);
        if (rc != 0)
                return fail_mdb(e, rc, "cannot begin a transaction");
        for (int i = 0; rc == 0 && i < TABLE_COUNT; i++)
                rc = mdb_dbi_open(mdb, table_name[i], 0, &s->dbi[i]);
        if (rc != 0)
                err = fail_mdb(e, rc, "cannot open the tables of the control database");
        else
                err = check_schema(&(struct txn){.store = s, .mdb = mdb}, false, e);
        if (err != 0) {
                mdb_txn_abort(mdb);
                return err;
        }
        rc = mdb_txn_commit(mdb); /* which keeps the handles */
        return rc == 0 ? 0 : fail_mdb(e, rc, "cannot open the tables of the control database");
}

/* The file's name must survive a power cut too, and so must a commit that is seen here and that a
 * killed process did not live to sync: whoever hears of it will rely on it. */
static int sync_what_is_there(struct store *s, const char *file, struct errinfo *e)
{
        int rc = mdb_env_sync(s->env, 1);
        if (rc != 0)
                return fail_mdb(e, rc, "cannot sync the control database");
        return sync_parent(file, e);
}

static int unlink_if_there(const char *path, struct errinfo *e)
{
        return unlink(path) == 0 || errno == ENOENT
                       ? 0
                       : ul_fail_errno(e, "cannot remove the rest of a database never finished");
}

/* LMDB makes its file in place, and half of one is neither empty nor a database: a power cut would
 * leave a directory that no start can use. So it is made whole under another name first. */
static int create_file(const char *file, uint64_t map_bytes, struct errinfo *e)
{
        char path[PATH_SIZE], lock[PATH_SIZE];
        struct store s = {0};
        int err = path_format(path, e, "%s.new", file);
        if (err == 0)
                err = path_format(lock, e, "%s.new-lock", file);
        if (err == 0)
                err = unlink_if_there(path, e);
        if (err == 0)
                err = unlink_if_there(lock, e);
        if (err == 0)
                err = open_env(&s, path, map_bytes, 0, e);
        if (err == 0)
                err = open_tables(&s, e);
        if (s.env != NULL)
                mdb_env_close(s.env);
        if (err == 0)
                err = unlink_if_there(lock, e);
        return err == 0 ? rename_durably(path, file, e) : err;
}

int store_open(const char *path, uint64_t map_bytes, struct store **out, struct errinfo *e)
{
        char file[PATH_SIZE];
        *out = NULL;
        int err = control_path(path, file, e);
        if (err != 0)
                return err;
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        if (map_bytes < MAP_BYTES_MIN || map_bytes > SIZE_MAX - page)
                return ul_fail_field(e, UL_INVALID, "map_bytes",
                                     "the map must be at least %d bytes", MAP_BYTES_MIN);
        map_bytes = (map_bytes + page - 1) / page * page;

        if (!file_exists(file))
                err = create_file(file, map_bytes, e);
        if (err != 0)
                return err;
        struct store *s = calloc(1, sizeof *s);
        if (s == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the store");
        err = open_env(s, file, map_bytes, 0, e);
        if (err == 0)
                err = close_on_exec(s, e);
        CRASH_POINT("store.opened");
        if (err == 0)
                err = open_tables(s, e);
        CRASH_POINT("store.tables_made");
        if (err == 0)
                err = sync_what_is_there(s, file, e);
        if (err != 0) {
                store_close(&s);
                return err;
        }
        *out = s;
        return 0;
}

int store_open_copy(const char *path, struct store **out, struct errinfo *e)
{
        mdb_filehandle_t fd;
        struct stat st;
        *out = NULL;
        if (stat(path, &st) != 0)
                return ul_fail_errno(e, "cannot look at a copy of the control database");
        struct store *s = calloc(1, sizeof *s);
        if (s == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the store");
        /* a map of its size: there may be no room for a second one of the store's */
        int err =
                open_env(s, path, (uint64_t)st.st_size + MAP_BYTES_MIN, MDB_RDONLY | MDB_NOLOCK, e);
        /* read-only, LMDB has one descriptor, and shows it */
        if (err == 0 && (mdb_env_get_fd(s->env, &fd) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0))
                err = ul_fail_errno(e, "cannot keep a copy of the control database from workers");
        if (err == 0)
                err = find_tables(s, e);
        if (err != 0)
                store_close(&s);
        else
                *out = s;
        return err;
}

void store_close(struct store **ps)
{
        struct store *s = *ps;
        *ps = NULL;
        if (s == NULL)
                return;
        if (s->env != NULL)
                mdb_env_close(s->env);
        free(s);
}

int store_copy(struct store *s, const char *path, struct errinfo *e)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        if (fd < 0)
                return ul_fail_errno(e, "cannot create a copy of the control database");
        int rc = mdb_env_copyfd2(s->env, fd, MDB_CP_COMPACT);
        int err = rc == 0 ? 0 : fail_mdb(e, rc, "cannot copy the control database");
        if (close(fd) != 0 && err == 0)
                err = ul_fail_errno(e, "cannot copy the control database");
        return err;
}

void store_usage(struct store *s, uint64_t *used_bytes, uint64_t *map_bytes)
{
        MDB_envinfo info;
        MDB_stat st;
        *used_bytes = *map_bytes = 0;
        if (mdb_env_info(s->env, &info) != 0 || mdb_env_stat(s->env, &st) != 0)
                return;
        *used_bytes = ((uint64_t)info.me_last_pgno + 1) * st.ms_psize;
        *map_bytes = info.me_mapsize;
}

/* A value of LMDB's free list is a page number array behind its length. */
static int count_free(MDB_txn *t, uint64_t *pages)
{
        enum { FREE_LIST = 0 }; /* LMDB's own handle of it */
        MDB_cursor *c = NULL;
        MDB_val k, v;
        int rc = mdb_cursor_open(t, FREE_LIST, &c);
        if (rc != 0)
                return rc;
        while ((rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0) {
                size_t n = 0;
                if (v.mv_size >= sizeof n)
                        memcpy(&n, v.mv_data, sizeof n);
                *pages += n;
        }
        mdb_cursor_close(c);
        return rc == MDB_NOTFOUND ? 0 : rc;
}

int store_room(struct store *s, uint64_t *bytes, struct errinfo *e)
{
        MDB_txn *t = NULL;
        MDB_stat st;
        uint64_t used, map, pages = 0;
        *bytes = 0;
        int rc = mdb_env_stat(s->env, &st);
        if (rc == 0)
                rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &t);
        if (rc == 0)
                rc = count_free(t, &pages);
        if (t != NULL)
                mdb_txn_abort(t);
        if (rc != 0)
                return fail_mdb(e, rc, "cannot look for room in the control database");
        store_usage(s, &used, &map);
        *bytes = map - used + pages * st.ms_psize;
        return 0;
}

bool store_broken(struct store *s)
{
        MDB_txn *t = NULL;
        int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &t);
        if (rc == 0)
                mdb_txn_abort(t);
        return rc == MDB_PANIC;
}

const char *store_damaged(const struct store *s)
{
        return atomic_load(&s->damaged);
}

void store_watch(struct store *s, store_damage_fn fn, void *arg)
{
        s->on_damage = fn;
        s->on_damage_arg = arg;
}

void store_bind_writer(struct store *s)
{
        assert(!atomic_load(&s->bound));
        s->writer = pthread_self();
        atomic_store(&s->bound, true);
}

static bool may_write(struct store *s)
{
        return !atomic_load(&s->bound) || pthread_equal(s->writer, pthread_self()) != 0;
}

/* --- transactions --- */

static int begin(struct store *s, struct txn *parent, bool write, struct txn **out,
                 struct errinfo *e)
{
        *out = NULL;
        struct txn *t = calloc(1, sizeof *t);
        if (t == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a transaction");
        int rc = mdb_txn_begin(s->env, parent != NULL ? parent->mdb : NULL, write ? 0 : MDB_RDONLY,
                               &t->mdb);
        if (rc != 0) {
                free(t);
                return fail_mdb(e, rc, "cannot begin a transaction");
        }
        t->store = s;
        t->parent = parent;
        t->write = write;
        if (parent != NULL)
                parent->child_open = true;
        *out = t;
        return 0;
}

int store_read(struct store *s, struct txn **out, struct errinfo *e)
{
        return begin(s, NULL, false, out, e);
}

int store_write(struct store *s, struct txn **out, struct errinfo *e)
{
        assert(may_write(s));
        return begin(s, NULL, true, out, e);
}

int store_nested(struct txn *parent, struct txn **out, struct errinfo *e)
{
        assert(parent->write && !parent->child_open && may_write(parent->store));
        *out = NULL;
        if (parent->err != 0)
                return fail_sticky(parent, e);
        return begin(parent->store, parent, true, out, e);
}

int txn_error(const struct txn *t)
{
        return t->err;
}

int txn_fail(struct txn *t, int code)
{
        assert(code != 0);
        if (t->err == 0)
                t->err = code == UL_CORRUPT ? db_pages_damaged(t->store) : code;
        return t->err;
}

/* LMDB's side is over; forget ours. */
static void leave(struct txn **pt)
{
        struct txn *t = *pt;
        *pt = NULL;
        if (t->parent != NULL)
                t->parent->child_open = false;
        free(t);
}

int txn_commit(struct txn **pt, struct errinfo *e)
{
        struct txn *t = *pt;
        assert(!t->child_open && t->shown == NULL && (!t->write || may_write(t->store)));
        if (t->changed && t->parent == NULL)
                (void)put_commit_id(t);
        if (t->err != 0) {
                int err = fail_sticky(t, e);
                txn_abort(pt);
                return err;
        }
        if (t->changed && t->parent != NULL)
                t->parent->changed = true;
        int rc = db_cause(t->store, mdb_txn_commit(t->mdb)); /* frees it, failed or not */
        if (db_error(rc) == UL_CORRUPT)
                (void)db_pages_damaged(t->store);
        leave(pt);
        return rc == 0 ? 0 : fail_mdb(e, rc, "cannot commit");
}

void txn_abort(struct txn **pt)
{
        struct txn *t = *pt;
        if (t == NULL)
                return;
        assert(!t->child_open && (!t->write || may_write(t->store)));
        if (t->shown != NULL) {
                *pt = NULL;
                shown_take_back(t);
                return;
        }
        mdb_txn_abort(t->mdb);
        leave(pt);
}
