/* SPDX-License-Identifier: Apache-2.0
 * log.c: writes events to stderr. A line is one write(2) of less than PIPE_BUF bytes, so that lines
 * of several threads never mix; it is made outside the lock, so that a stuck reader of stderr holds
 * up only those who log. Control characters become '?', so that a value cannot forge a line. */
#include "lib/util/log.h"

#include "lib/util/clock.h"
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
        LINE_MAX_BYTES = 2048,
        EVENT_NAME_MAX = 64,
        EVENTS_MAX = 256,       /* distinct names; those beyond share the last slot */
        EVENTS_PER_WINDOW = 50, /* of one name; a second of it is still readable */
        WINDOW_US = 1000000,
};

struct event {
        char name[EVENT_NAME_MAX];
        uint64_t window_us; /* when its present window began */
        uint32_t written;   /* in this window */
        uint32_t left_out;  /* since the last summary */
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static _Atomic int threshold = LOG_LEVEL_INFO;

/* under mutex */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct event events[EVENTS_MAX];
static size_t events_count;
static size_t events_waiting; /* of them with left_out > 0 */

void log_set_level(enum log_level level)
{
        atomic_store(&threshold, (int)level);
}

enum log_level log_level_parse(const char *name, int *ok)
{
        enum log_level level = LOG_LEVEL_INFO;
        int found = 0;
        for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
                if (strcmp(name, level_names[i]) == 0) {
                        level = (enum log_level)i;
                        found = 1;
                }
        }
        if (ok != NULL)
                *ok = found;
        return level;
}

static void write_line(const char *line, size_t len)
{
        int saved = errno;
        while (len > 0) {
                ssize_t n = write(STDERR_FILENO, line, len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break; /* there is nowhere left to complain */
                line += n;
                len -= (size_t)n;
        }
        errno = saved;
}

static size_t begin_line(char *line, enum log_level level, const char *event)
{
        char ts[RFC3339_SIZE];
        int n = snprintf(line, LINE_MAX_BYTES, "%s %s %.*s", time_format(now_ms(), ts),
                         level_names[level], EVENT_NAME_MAX - 1, event);
        return n < 0 ? 0 : (size_t)n;
}

static void end_line(char *line, size_t len)
{
        if (len > LINE_MAX_BYTES - 2)
                len = LINE_MAX_BYTES - 2;
        for (size_t i = 0; i < len; i++) {
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
                        line[i] = '?';
        }
        line[len] = '\n';
        write_line(line, len + 1);
}

static void write_summary(const char *event, uint32_t left_out)
{
        char line[LINE_MAX_BYTES];
        size_t n = begin_line(line, LOG_LEVEL_WARN, "log_rate_limited");
        int more = snprintf(line + n, sizeof line - n, " event=%s left_out=%u", event, left_out);
        end_line(line, n + (more < 0 ? 0 : (size_t)more));
}

/* The slot of a name; under mutex. */
static struct event *slot_of(const char *name)
{
        for (size_t i = 0; i < events_count; i++) {
                if (strncmp(events[i].name, name, EVENT_NAME_MAX - 1) == 0)
                        return &events[i];
        }
        if (events_count == EVENTS_MAX)
                return &events[EVENTS_MAX - 1];
        struct event *e = &events[events_count++];
        if (events_count == EVENTS_MAX)
                name = "others";
        snprintf(e->name, sizeof e->name, "%s", name);
        return e;
}

/* True if one more of this event may be written; under mutex. */
static bool admit(const char *name, uint64_t now_us)
{
        struct event *e = slot_of(name);
        if (e->written == 0 || now_us - e->window_us >= WINDOW_US) {
                e->window_us = now_us;
                e->written = 0;
        }
        if (e->written < EVENTS_PER_WINDOW) {
                e->written++;
                return true;
        }
        if (e->left_out == 0)
                events_waiting++;
        if (e->left_out < UINT32_MAX)
                e->left_out++;
        return false;
}

/* Takes one event whose window is over and that left something out; under mutex. */
static uint32_t take_summary(uint64_t now_us, char name[static EVENT_NAME_MAX])
{
        for (size_t i = 0; events_waiting > 0 && i < events_count; i++) {
                struct event *e = &events[i];
                if (e->left_out == 0 || now_us - e->window_us < WINDOW_US)
                        continue;
                uint32_t left_out = e->left_out;
                memcpy(name, e->name, EVENT_NAME_MAX);
                e->left_out = 0;
                events_waiting--;
                return left_out;
        }
        return 0;
}

/* Every event, of whatever name, brings out the summaries that are due. */
static void write_due_summaries(uint64_t now_us)
{
        char name[EVENT_NAME_MAX];
        for (;;) {
                pthread_mutex_lock(&mutex);
                uint32_t left_out = take_summary(now_us, name);
                pthread_mutex_unlock(&mutex);
                if (left_out == 0)
                        return;
                write_summary(name, left_out);
        }
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
        if ((int)level > atomic_load(&threshold))
                return;
        uint64_t now_us = mono_us();
        write_due_summaries(now_us);
        pthread_mutex_lock(&mutex);
        bool admitted = admit(event, now_us);
        pthread_mutex_unlock(&mutex);
        if (!admitted)
                return;
        char line[LINE_MAX_BYTES];
        size_t n = begin_line(line, level, event);
        va_list args;
        va_start(args, format);
        if (format[0] != '\0')
                line[n++] = ' ';
        int more = vsnprintf(line + n, sizeof line - n, format, args);
        va_end(args);
        end_line(line, n + (more < 0 ? 0 : (size_t)more));
}
