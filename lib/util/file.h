/* SPDX-License-Identifier: Apache-2.0
 * file.h: the one place where files are made durable and the one where they are erased. Every
 * system call is checked, EINTR and short transfers are handled here and nowhere else. */
#ifndef UNLEARND_UTIL_FILE_H
#define UNLEARND_UTIL_FILE_H

#include "lib/util/bytes.h"
#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { PATH_SIZE = 512 };
/* snprintf into a path; UL_TOO_LARGE if it does not fit. */
int path_format(char out[PATH_SIZE], struct errinfo *e, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* Reads a whole file of at most `max` bytes into `out` (appended). UL_NOT_FOUND if absent. */
int read_file(const char *path, size_t max, struct buf *out, struct errinfo *e);
int read_at(int fd, void *data, size_t len, uint64_t offset, struct errinfo *e); /* all or error */
int write_at(int fd, const void *data, size_t len, uint64_t offset, struct errinfo *e);
int sync_data(int fd, struct errinfo *e); /* fdatasync */

/* Writes path.tmp (mode 0600), fsyncs it, renames it over path, fsyncs the directory. */
int write_file_durably(const char *path, const void *data, size_t len, struct errinfo *e);
/* rename(2) within one file system, then fsync of the target's directory. */
int rename_durably(const char *from, const char *to, struct errinfo *e);
int sync_dir(const char *path, struct errinfo *e);
/* sync_dir for the directory that holds `path`. */
int sync_parent(const char *path, struct errinfo *e);
/* sync_dir for `path` and every directory below it: the names that a killed process gave, and did
 * not live to sync. Symbolic links are not followed. */
int sync_names(const char *path, struct errinfo *e);
/* mkdir -p with mode 0700; each new level's parent is synced. */
int make_dirs(const char *path, struct errinfo *e);
bool file_exists(const char *path);

/* Overwrites bytes [offset, offset + len) with zeros in place. Does not sync. */
int scrub_range(int fd, uint64_t offset, uint64_t len, struct errinfo *e);
/* What is erased in steps lowers *budget by the bytes that it overwrites, and by some for each file
 * and folder that it syncs or removes; it returns UL_AGAIN (and says nothing in *e) once that is
 * spent and something is left. The same call again goes on, also after a crash in between: what is
 * done is gone. Where *budget was not 0, something was done. budget NULL: all of it at once. */

/* Overwrites what a file holds past `keep` bytes, from its end on, fdatasyncs, and cuts it off. The
 * new length is not synced. */
int scrub_tail(int fd, uint64_t keep, uint64_t *budget, struct errinfo *e);
/* Lowers it by what a caller did beside these. */
void scrub_spend(uint64_t *budget, uint64_t bytes);
/* scrub_and_unlink and scrub_tree in steps. */
int scrub_some(const char *path, uint64_t *budget, struct errinfo *e);
int scrub_tree_some(const char *path, uint64_t *budget, struct errinfo *e);
/* Overwrites the whole file with zeros, fdatasyncs, truncates, unlinks, syncs the directory.
 * An absent file is success. */
int scrub_and_unlink(const char *path, struct errinfo *e);
/* scrub_and_unlink for every regular file below `path` (symbolic links are unlinked, not followed),
 * then removes the directories. An absent tree is success. */
int scrub_tree(const char *path, struct errinfo *e);

#endif
