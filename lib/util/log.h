/* SPDX-License-Identifier: Apache-2.0
 * log.h: the one logger: one line an event on stderr, `ts level event key=value ...`, each event
 * name rate-limited (a summary line says how many were left out). Never pass it personal data. */
#ifndef UNLEARND_UTIL_LOG_H
#define UNLEARND_UTIL_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_level_parse(const char *name, int *ok);
/* `event` is a static snake_case name; `format` gives the key=value pairs (quote texts yourself
 * with %s only for values that cannot hold spaces). Safe from any thread. */
void log_event(enum log_level level, const char *event, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

#endif
