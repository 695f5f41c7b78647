/* SPDX-License-Identifier: Apache-2.0
 * backup.c: a backup as a job: where it may be written, its thread, its end. It is written into a
 * hidden directory beside its place and renamed when it is whole and durable, so a directory that
 * bears the name of a backup is one. backup_copy.c makes the copy. */
#include "daemon/backup.h"
#include "daemon/run.h"
#include "daemon/state.h"
#include "daemon/views.h"

#include "lib/util/crash_point.h"
#include "lib/util/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum {
        NAME_MAX_BYTES = 100,
        AGAIN_MS = 200, /* an end that could not be recorded */
};
#define PARTIAL_END ".unlearnd-partial"

struct backup {
        struct command cmd;
        struct service *service;
        char target[PATH_SIZE], partial[PATH_SIZE];
        bool with_keys;
        char actor[ACTOR_MAX];
        struct idempotency idem;
        service_job_done done;
        void *arg;
        struct job_view view;
        bool replayed;
        bool started; /* its thread is there, and has the claim and the memory */
        /* its thread, after the request */
        uint8_t job[ULID_BYTES];
        int err; /* how it ended */
        struct errinfo e;
        struct backup_manifest manifest;
        /* from the writer thread to its own: the command is done */
        sem_t done_there;
        bool committed;
};

/* --- one at a time --- */

void backup_init(struct service *s)
{
        pthread_mutex_init(&s->backup_lock, NULL);
        pthread_cond_init(&s->backup_idle, NULL);
}

static bool claim(struct service *s)
{
        pthread_mutex_lock(&s->backup_lock);
        bool free_now = !s->backup_busy && !atomic_load(&s->backup_cancelled);
        if (free_now)
                s->backup_busy = true;
        pthread_mutex_unlock(&s->backup_lock);
        return free_now;
}

static void give_up_claim(struct service *s)
{
        pthread_mutex_lock(&s->backup_lock);
        s->backup_busy = false;
        pthread_cond_signal(&s->backup_idle);
        pthread_mutex_unlock(&s->backup_lock);
}

void backup_stop(struct service *s)
{
        atomic_store(&s->backup_cancelled, true);
        pthread_mutex_lock(&s->backup_lock);
        while (s->backup_busy)
                pthread_cond_wait(&s->backup_idle, &s->backup_lock);
        pthread_mutex_unlock(&s->backup_lock);
}

/* --- places --- */

/* The lock of a partial backup, so that no other daemon of the same backup_dir takes it for a rest.
 * -1: it is held. */
static int lock_partial(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
                (void)close(fd);
                return -1;
        }
        return fd;
}

static int drop_rest(const struct service *s, const char *name, struct errinfo *e)
{
        char path[PATH_SIZE];
        size_t len = strlen(name), end = strlen(PARTIAL_END);
        if (name[0] != '.' || len <= end || strcmp(name + len - end, PARTIAL_END) != 0)
                return 0;
        int err = path_format(path, e, "%s/%s", s->config.backup_dir, name);
        int fd = err == 0 ? lock_partial(path) : -1;
        if (fd < 0)
                return err;
        log_event(LOG_LEVEL_WARN, "backup_rest_removed", "reason=it_was_interrupted");
        err = scrub_tree(path, e);
        (void)close(fd);
        return err;
}

int backup_start(struct service *s, struct errinfo *e)
{
        int err = 0;
        if (s->config.backup_dir[0] == '\0')
                return 0;
        err = make_dirs(s->config.backup_dir, e);
        char *real = err == 0 ? realpath(s->config.backup_dir, NULL) : NULL;
        size_t len = strlen(s->config.data_dir);
        if (err == 0 && real == NULL)
                err = ul_fail_errno(e, "resolving backup_dir");
        if (err == 0 && strncmp(real, s->config.data_dir, len) == 0 &&
            (real[len] == '/' || real[len] == '\0'))
                err = ul_fail_field(e, UL_INVALID, "store.backup_dir",
                                    "backup_dir must not be below the data directory");
        if (err == 0)
                err = path_format(s->config.backup_dir, e, "%s", real);
        free(real);
        DIR *d = err == 0 ? opendir(s->config.backup_dir) : NULL;
        if (err == 0 && d == NULL)
                err = ul_fail_errno(e, "opening backup_dir");
        const struct dirent *entry;
        while (err == 0 && (entry = readdir(d)) != NULL)
                err = drop_rest(s, entry->d_name, e);
        if (d != NULL)
                (void)closedir(d);
        return err;
}

static bool name_valid(const char *name)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789._-";
        size_t len = strlen(name);
        return len >= 1 && len <= NAME_MAX_BYTES && name[0] != '.' && name[0] != '-' &&
               strspn(name, letters) == len;
}

/* `directory` is a name, or backup_dir and a name: nothing else can be written to. */
static int place(const struct service *s, const char *directory, struct backup *b,
                 struct errinfo *e)
{
        const char *root = s->config.backup_dir;
        size_t len = strlen(root);
        if (root[0] == '\0')
                return ul_fail(e, UL_CONFLICT,
                               "no backups are allowed: set backup_dir in the configuration");
        if (directory[0] == '/' && strncmp(directory, root, len) == 0 && directory[len] == '/')
                directory += len + 1;
        if (!name_valid(directory))
                return ul_fail_field(e, UL_INVALID, "/directory",
                                     "must be a name below %s on the daemon's host: up to %d "
                                     "letters, digits, '.', '_' and '-'",
                                     root, NAME_MAX_BYTES);
        int err = path_format(b->target, e, "%s/%s", root, directory);
        if (err == 0)
                err = path_format(b->partial, e, "%s/.%s" PARTIAL_END, root, directory);
        return err;
}

/* --- the end --- */

static void write_result(const struct backup *b, struct buf *out)
{
        struct json_writer w;
        char id[ULID_TEXT + 1];
        jw_init(&w, out);
        jw_object(&w);
        jw_member_string(&w, "directory", b->target);
        jw_member_u64(&w, "files", b->manifest.file_count);
        jw_member_u64(&w, "bytes", manifest_bytes(&b->manifest));
        jw_member_bool(&w, "with_keys", b->with_keys);
        jw_member_u64(&w, "erasures", b->manifest.erasures);
        jw_key(&w, "last_erasure");
        if (b->manifest.has_last_erasure)
                jw_string(&w, ulid_format(b->manifest.last_erasure, id));
        else
                jw_null(&w);
        jw_member_u64(&w, "audit_size", b->manifest.audit_size);
        jw_end_object(&w);
}

static int audit_end(struct backup *b, struct txn *t)
{
        struct event ev;
        event_begin(&ev);
        event_ulid(&ev, "job", b->job);
        jw_member_u64(&ev.w, "files", b->manifest.file_count);
        jw_member_u64(&ev.w, "bytes", manifest_bytes(&b->manifest));
        jw_member_u64(&ev.w, "erasures", b->manifest.erasures);
        jw_member_bool(&ev.w, "with_keys", b->with_keys);
        return event_append(&ev, b->service, t, "backup.made", b->actor, NULL, NULL);
}

static int end_run(struct command *c, struct txn *t)
{
        struct backup *b = (struct backup *)c;
        struct buf result = {0};
        if (b->err != 0)
                return job_end(t, b->job, b->err == UL_CLOSED ? JOB_CANCELLED : JOB_FAILED,
                               b->e.detail, NULL, 0);
        write_result(b, &result);
        int err = result.failed ? txn_fail(t, UL_NOMEM)
                                : job_end(t, b->job, JOB_SUCCEEDED, NULL, (const char *)result.data,
                                          result.len);
        buf_free(&result, false);
        return err == 0 ? audit_end(b, t) : err;
}

static void end_done(struct command *c, int err)
{
        struct backup *b = (struct backup *)c;
        b->committed = err == 0;
        (void)sem_post(&b->done_there);
}

static bool wait_committed(struct backup *b)
{
        while (sem_wait(&b->done_there) != 0)
                continue; /* EINTR */
        return b->committed;
}

static bool try_record(struct backup *b)
{
        b->cmd = (struct command){.run = end_run, .done = end_done};
        return writer_submit(b->service->writer, &b->cmd, &b->cmd.e) == 0 && wait_committed(b);
}

/* The job's last state, by the writer: until it is recorded, or a stop leaves it to the next start.
 */
static void record_end(struct backup *b)
{
        const struct timespec pause = {.tv_nsec = AGAIN_MS * 1000000L};
        struct service *s = b->service;
        if (try_record(b))
                return;
        log_event(LOG_LEVEL_ERROR, "backup_not_recorded",
                  "error=%s detail=\"%s\" action=\"tried again\"", ul_err_name(b->cmd.e.code),
                  b->cmd.e.detail);
        while (!atomic_load(&s->backup_cancelled)) {
                (void)nanosleep(&pause, NULL);
                if (!health_stands(&s->health, HEALTH_STORE) && try_record(b))
                        return;
        }
}

static void backup_free(struct backup *b)
{
        (void)sem_destroy(&b->done_there);
        job_view_clear(&b->view);
        manifest_clear(&b->manifest);
        free(b);
}

/* --- the thread --- */

static int write_backup(struct backup *b)
{
        struct backup_progress p = {.service = b->service};
        memcpy(p.job, b->job, ULID_BYTES);
        int err = scrub_tree(b->partial, &b->e);
        if (err == 0)
                err = make_dirs(b->partial, &b->e);
        int fd = err == 0 ? lock_partial(b->partial) : -1;
        if (err == 0 && fd < 0)
                err = ul_fail(&b->e, UL_CONFLICT, "another daemon writes this backup");
        if (err == 0)
                err = backup_copy(&p, b->partial, b->with_keys, &b->manifest, &b->e);
        CRASH_POINT("backup.copied");
        if (err == 0 && file_exists(b->target))
                err = ul_fail(&b->e, UL_EXISTS, "the backup's directory was made meanwhile");
        if (err == 0)
                err = rename_durably(b->partial, b->target, &b->e);
        CRASH_POINT("backup.renamed");
        if (err != 0 && fd >= 0)
                (void)scrub_tree(b->partial, NULL); /* else at the next start */
        if (fd >= 0)
                (void)close(fd);
        return err;
}

static void make_backup(struct backup *b)
{
        b->err = write_backup(b);
        progress_end(b->service, b->job, 0);
        metric_add(b->err == 0 ? METRIC_BACKUPS : METRIC_BACKUPS_FAILED, 1);
        if (b->err != 0)
                log_event(LOG_LEVEL_ERROR, "backup_failed", "error=%s detail=\"%s\"",
                          ul_err_name(b->err), b->e.detail);
        record_end(b);
}

static void *backup_main(void *arg)
{
        struct backup *b = arg;
        struct service *s = b->service;
        if (wait_committed(b))
                make_backup(b);
        backup_free(b);
        give_up_claim(s);
        return NULL;
}

/* Before the commit: a job that nothing runs is never there. */
static int start_thread(struct backup *b, struct errinfo *e)
{
        pthread_attr_t attr;
        pthread_t thread;
        (void)pthread_attr_init(&attr);
        (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        int rc = pthread_create(&thread, &attr, backup_main, b);
        (void)pthread_attr_destroy(&attr);
        if (rc != 0)
                return ul_fail(e, UL_NOMEM, "no thread can be started for the backup (error %d)",
                               rc);
        b->started = true;
        return 0;
}

/* --- the request --- */

static int begin(struct backup *b, struct errinfo *e)
{
        if (!claim(b->service))
                return ul_fail(e, UL_CONFLICT, "a backup is being written; try again after it");
        int err = start_thread(b, e);
        if (err != 0)
                give_up_claim(b->service);
        return err;
}

static int request_run(struct command *c, struct txn *t)
{
        struct backup *b = (struct backup *)c;
        struct idempotency_row kept;
        struct job_row row = {.kind = JOB_BACKUP, .state = JOB_RUNNING, .shard = UINT32_MAX};
        struct event ev;
        char text[ULID_TEXT + 1];
        int err = idempotency_check(t, &b->idem, &kept, &c->e);
        if (err == UL_EXISTS) {
                struct buf result = {0};
                b->replayed = true;
                if (!ulid_parse(kept.resource, strlen(kept.resource), b->job))
                        return UL_CORRUPT;
                err = t_job_get(t, b->job, &row, &result);
                if (err == 0)
                        err = view_job(b->service, t, b->job, &row, (const char *)result.data,
                                       result.len, &b->view);
                buf_free(&result, false);
                return err;
        }
        if (err == 0 && file_exists(b->target))
                err = ul_fail_field(&c->e, UL_EXISTS, "/directory",
                                    "there is a backup of this name already");
        if (err == 0)
                err = begin(b, &c->e);
        if (err != 0)
                return err;
        ulid_make(b->job);
        row.created_ms = row.started_ms = now_ms();
        row.attempts = 1;
        err = t_job_put(t, b->job, &row, NULL, 0);
        if (err == 0)
                err = idempotency_keep(t, &b->idem, ulid_format(b->job, text), 202);
        if (err != 0)
                return err;
        event_begin(&ev);
        event_ulid(&ev, "job", b->job);
        jw_member_bool(&ev.w, "with_keys", b->with_keys);
        err = event_append(&ev, b->service, t, "backup.requested", b->actor, NULL, NULL);
        return err == 0 ? view_job(b->service, t, b->job, &row, NULL, 0, &b->view) : err;
}

static void request_done(struct command *c, int err)
{
        struct backup *b = (struct backup *)c;
        b->done(b->arg, err, &c->e, err == 0 ? &b->view : NULL, b->replayed);
        if (b->started)
                end_done(c, err); /* the thread goes on, or gives up */
        else
                backup_free(b);
}

int service_backup(struct service *s, const char *directory, bool with_keys, const char *actor,
                   const struct idempotency *idem, service_job_done done, void *arg,
                   struct errinfo *e)
{
        struct backup *b = calloc(1, sizeof *b);
        if (b == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a backup");
        b->cmd.run = request_run;
        b->cmd.done = request_done;
        b->service = s;
        b->with_keys = with_keys;
        (void)snprintf(b->actor, sizeof b->actor, "%s", actor);
        if (idem != NULL)
                b->idem = *idem;
        b->done = done;
        b->arg = arg;
        (void)sem_init(&b->done_there, 0, 0);
        int err = place(s, directory, b, e);
        if (err == 0)
                err = writer_submit(s->writer, &b->cmd, e);
        if (err != 0)
                backup_free(b);
        return err;
}
