/* SPDX-License-Identifier: Apache-2.0
 * feed.c: what happens, for whoever watches: the audit log read forward from a place on, up to what
 * may be told (told.c), and beside it how far jobs are. A watch remembers a place and nothing else:
 * a reader that is slow costs no memory, and one that comes back after a crash goes on where it
 * was. Locks: feed_lock, then whatever `wake` takes. */
#include "daemon/state.h"
#include "daemon/views.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
        SCAN_MAX = 512,       /* entries in one read transaction */
        PROGRESS_US = 500000, /* between two looks at the jobs */
        HEARTBEAT_US =
                15 * 1000000, /* proxies give up on a silent connection after 30 s and more */
        JOBS_MAX = 16,        /* told of at a time */
};

struct event_watch {
        struct service *service;
        void (*wake)(void *arg);
        void *arg;
        /* the reader's */
        uint64_t next; /* entry */
        uint32_t seen_progress, seen_beat;
        /* under feed_lock */
        struct event_watch *after;
        /* any thread */
        _Atomic bool waits; /* nothing was left at its last look */
};

/* What scope `erase` may know: what became of people's data, not what operators did. */
static bool public_type(const char *type, size_t len)
{
        static const char *const prefixes[] = {"erasure.",    "shard.",     "model.",
                                               "training.",   "records.",   "verification.",
                                               "compaction.", "checkpoint."};
        for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
                size_t n = strlen(prefixes[i]);
                if (len > n && memcmp(type, prefixes[i], n) == 0)
                        return true;
        }
        return false;
}

/* --- waking --- */

static void wake_all(struct service *s)
{
        pthread_mutex_lock(&s->feed_lock);
        for (struct event_watch *w = s->watches; w != NULL; w = w->after)
                if (atomic_exchange(&w->waits, false))
                        w->wake(w->arg);
        pthread_mutex_unlock(&s->feed_lock);
}

void feed_told(struct service *s, uint64_t size)
{
        if (atomic_exchange(&s->told, size) != size)
                wake_all(s);
}

void feed_progress(struct service *s)
{
        uint64_t now = mono_us(), last = atomic_load(&s->progress_us);
        if (now - last < PROGRESS_US ||
            !atomic_compare_exchange_strong(&s->progress_us, &last, now))
                return;
        atomic_fetch_add(&s->progress_number, 1);
        wake_all(s);
}

void feed_beat(struct service *s)
{
        uint64_t now = mono_us();
        if (now - s->beat_us < HEARTBEAT_US)
                return;
        s->beat_us = now;
        atomic_fetch_add(&s->beat_number, 1);
        wake_all(s);
}

/* --- a watch --- */

/* What was pruned cannot be told any more, and must not be passed over in silence. */
static int check_kept(struct service *s, uint64_t from, struct errinfo *e)
{
        struct txn *t = NULL;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        bool kept = from >= audit_first(t);
        err = txn_error(t);
        txn_abort(&t);
        if (err != 0)
                return ul_fail(e, err, "the audit log cannot be read");
        return kept ? 0
                    : ul_fail_field(e, UL_GONE, "Last-Event-ID",
                                    "entries after this one were pruned after their retention; "
                                    "begin without it");
}

int service_watch_begin(struct service *s, bool resume, uint64_t last, void (*wake)(void *arg),
                        void *arg, struct event_watch **out, struct errinfo *e)
{
        uint64_t told = atomic_load(&s->told);
        uint32_t count = 0;
        if (resume && last >= told)
                return ul_fail_field(e, UL_CONFLICT, "Last-Event-ID",
                                     "the log has no entry of this index: it is another log, or an "
                                     "older one was restored");
        int err = resume ? check_kept(s, last + 1, e) : 0;
        if (err != 0)
                return err;
        struct event_watch *w = calloc(1, sizeof *w);
        if (w == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for a stream of events");
        w->service = s;
        w->wake = wake;
        w->arg = arg;
        w->next = resume ? last + 1 : told;
        w->seen_progress = atomic_load(&s->progress_number) - 1;
        w->seen_beat = atomic_load(&s->beat_number);
        pthread_mutex_lock(&s->feed_lock);
        for (const struct event_watch *x = s->watches; x != NULL; x = x->after)
                count++;
        if (count < EVENT_STREAMS_MAX) {
                w->after = s->watches;
                s->watches = w;
        }
        pthread_mutex_unlock(&s->feed_lock);
        if (count >= EVENT_STREAMS_MAX) {
                free(w);
                e->retry_after_s = 10;
                return ul_fail(e, UL_BUSY, "there are %d streams of events already",
                               EVENT_STREAMS_MAX);
        }
        *out = w;
        return 0;
}

void service_watch_end(struct event_watch **pw)
{
        struct event_watch *w = *pw;
        if (w == NULL)
                return;
        pthread_mutex_lock(&w->service->feed_lock);
        struct event_watch **at = &w->service->watches;
        while (*at != w)
                at = &(*at)->after;
        *at = w->after;
        pthread_mutex_unlock(&w->service->feed_lock);
        free(w);
        *pw = NULL;
}

/* --- reading --- */

static int read_entries(struct event_watch *w, struct txn *t, service_event_fn fn, void *arg,
                        uint64_t told)
{
        struct buf entry = {0};
        int err = 0, stop = 0;
        for (uint32_t i = 0; i < SCAN_MAX && w->next < told && err == 0 && stop == 0; i++) {
                struct event_view v = {.durable = true, .index = w->next};
                struct audit_parts p;
                buf_reset(&entry, false);
                err = audit_get(t, w->next, &entry, NULL);
                if (err == 0 && !audit_entry_parts(entry.data, entry.len, &p))
                        err = UL_CORRUPT;
                if (err != 0)
                        break;
                w->next++;
                if (!public_type(p.type, p.type_len))
                        continue;
                v.type = p.type;
                v.type_len = p.type_len;
                v.time = p.time;
                v.time_len = p.time_len;
                v.data = p.data;
                v.data_len = p.data_len;
                stop = fn(arg, &v);
        }
        buf_free(&entry, false);
        return err;
}

/* The jobs whose runs are under way, each once. */
static uint32_t jobs_under_way(struct service *s, uint8_t ids[JOBS_MAX][ULID_BYTES])
{
        uint32_t count = 0;
        pthread_mutex_lock(&s->progress_lock);
        for (const struct progress *p = s->progress; p != NULL && count < JOBS_MAX; p = p->next) {
                bool known = false;
                for (uint32_t i = 0; i < count && !known; i++)
                        known = memcmp(ids[i], p->job, ULID_BYTES) == 0;
                if (!known)
                        memcpy(ids[count++], p->job, ULID_BYTES);
        }
        pthread_mutex_unlock(&s->progress_lock);
        return count;
}

static void write_progress(struct json_writer *w, const struct job_view *job)
{
        char id[ULID_TEXT + 1];
        jw_object(w);
        jw_member_string(w, "job", ulid_format(job->id, id));
        jw_member_string(w, "kind", job->kind);
        jw_member_string(w, "model", job->model);
        jw_member_double(w, "progress", job->progress);
        jw_member_double(w, "eta_seconds", job->eta_seconds < 0 ? (double)NAN : job->eta_seconds);
        jw_end_object(w);
}

static int read_progress(struct event_watch *w, struct txn *t, service_event_fn fn, void *arg)
{
        uint8_t ids[JOBS_MAX][ULID_BYTES];
        char time[RFC3339_SIZE];
        uint32_t count = jobs_under_way(w->service, ids);
        int err = 0;
        time_format(now_ms(), time);
        for (uint32_t i = 0; i < count && err == 0; i++) {
                struct event_view v = {.type = "job.progress", .time = time};
                struct job_row row;
                struct job_view job = {0};
                struct json_writer jw;
                struct buf data = {0};
                err = t_job_get(t, ids[i], &row, NULL);
                if (err == UL_NOT_FOUND || (err == 0 && row.state != JOB_RUNNING)) {
                        err = 0;
                        continue;
                }
                if (err == 0)
                        err = view_job(w->service, t, ids[i], &row, NULL, 0, &job);
                if (err == 0) {
                        jw_init(&jw, &data);
                        write_progress(&jw, &job);
                        v.type_len = strlen(v.type);
                        v.time_len = strlen(v.time);
                        v.data = (const char *)data.data;
                        v.data_len = data.len;
                        err = data.failed ? UL_NOMEM : 0;
                }
                if (err == 0)
                        (void)fn(arg, &v);
                buf_free(&data, false);
                job_view_clear(&job);
        }
        return err;
}

int service_watch_read(struct event_watch *w, service_event_fn fn, void *arg, bool *more,
                       bool *beat, struct errinfo *e)
{
        struct service *s = w->service;
        struct txn *t = NULL;
        atomic_store(&w->waits, true); /* before looking: what comes meanwhile wakes it again */
        uint64_t told = atomic_load(&s->told);
        uint32_t progress = atomic_load(&s->progress_number);
        uint32_t beats = atomic_load(&s->beat_number);
        *beat = beats != w->seen_beat;
        w->seen_beat = beats;
        *more = false;
        if (w->next >= told && progress == w->seen_progress)
                return 0;
        int err = told_read(s, &t, e);
        if (err != 0)
                return err;
        err = read_entries(w, t, fn, arg, told);
        if (err == 0 && progress != w->seen_progress)
                err = read_progress(w, t, fn, arg);
        w->seen_progress = progress;
        txn_abort(&t);
        *more = w->next < told;
        return err == 0 ? 0 : ul_fail(e, err, "the audit log cannot be read");
}
