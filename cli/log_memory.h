/* SPDX-License-Identifier: Apache-2.0
 * log_memory.h: which log was seen at an address: its key and the last checkpoint, in
 * $XDG_STATE_HOME/unlearnd. Trust on first use, unless a key is pinned. */
#ifndef UNLEARND_CLI_LOG_MEMORY_H
#define UNLEARND_CLI_LOG_MEMORY_H

#include "cli/http.h"
#include "lib/audit/note.h"
#include "lib/util/file.h"

/* A file: the vkey on a line, then the checkpoint as it was signed. */
struct memory {
        char path[PATH_SIZE];
        bool exists;
        bool handed_over; /* by the pinned key; nothing was seen before */
        struct note_key key;
        struct checkpoint checkpoint;
};

/* All tell what is wrong and return an exit status. */
int memory_read(const struct ctl *c, struct memory *m);
/* Remembers `note`, which is the checkpoint `head` signed by `key`, unless more of the same log was
 * remembered since memory_read. */
int memory_write(const struct ctl *c, const struct memory *m, const struct note_key *key,
                 const struct checkpoint *head, const struct buf *note);

int get_text(struct ctl *c, const char *path, struct http_answer *a);
/* The key that the log must be signed with: pinned (NULL: not), remembered, or the daemon's. Where
 * the log exchanged its key since, it is followed from the pinned or remembered one to the present
 * one, and what is remembered becomes the last handover: the caller must hold the log against it,
 * since a handover alone does not say that the log goes on from what it signed. */
int choose_key(struct ctl *c, const char *pinned, struct memory *m, struct note_key *key);

#endif
