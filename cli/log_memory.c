/* SPDX-License-Identifier: Apache-2.0
 * log_memory.c: see log_memory.h. */
#include "cli/log_memory.h"

#include "cli/log_keys.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int memory_path(const struct ctl *c, struct memory *m, struct errinfo *e)
{
        uint8_t digest[SHA256_BYTES];
        char name[2 * 16 + 1];
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        sha256(c->url, strlen(c->url), digest);
        hex_encode(digest, 16, name);
        if (state != NULL && state[0] == '/')
                return path_format(m->path, e, "%s/unlearnd/%s.log", state, name);
        if (home == NULL || home[0] != '/')
                return ul_fail(e, UL_INVALID,
                               "neither XDG_STATE_HOME nor HOME says where to remember the log");
        return path_format(m->path, e, "%s/.local/state/unlearnd/%s.log", home, name);
}

int memory_read(const struct ctl *c, struct memory *m)
{
        struct errinfo e = {0};
        struct buf text = {0};
        if (memory_path(c, m, &e) != 0)
                return complain_about(&e);
        int err = read_file(m->path, NOTE_BYTES_MAX, &text, &e);
        if (err == UL_NOT_FOUND) {
                buf_free(&text, false);
                return 0;
        }
        const char *p = (const char *)text.data;
        const char *newline = err == 0 ? memchr(p, '\n', text.len) : NULL;
        if (err == 0 && newline == NULL)
                err = ul_fail(&e, UL_CORRUPT, "it is damaged");
        if (err == 0)
                err = note_vkey_parse(p, (size_t)(newline - p), &m->key, &e);
        if (err == 0)
                err = checkpoint_verify(newline + 1, text.len - (size_t)(newline + 1 - p), &m->key,
                                        &m->checkpoint, &e);
        m->exists = err == 0;
        buf_free(&text, false);
        return err == 0 ? 0 : complain("%s: %s", m->path, e.detail);
}

/* One that is remembered at a time, whoever else verifies: the lock of the folder itself, so that
 * no file is left. */
static int lock_folder(const struct memory *m, int *fd, struct errinfo *e)
{
        char dir[PATH_SIZE];
        memcpy(dir, m->path, sizeof dir);
        *strrchr(dir, '/') = '\0';
        int err = make_dirs(dir, e);
        if (err != 0)
                return err;
        *fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (*fd < 0 || flock(*fd, LOCK_EX) != 0)
                return ul_fail_errno(e, "its folder cannot be locked");
        return 0;
}

/* Another verification, which ran beside this one, has remembered more of the same log. */
static bool remembered_more(const struct memory *now, const struct note_key *key, uint64_t size)
{
        return now->exists && strcmp(now->key.name, key->name) == 0 && now->checkpoint.size > size;
}

int memory_write(const struct ctl *c, const struct memory *m, const struct note_key *key,
                 const struct checkpoint *head, const struct buf *note)
{
        struct errinfo e = {0};
        struct buf text = {0};
        struct memory now = {.exists = false};
        char vkey[NOTE_VKEY_SIZE];
        int fd = -1;
        int err = lock_folder(m, &fd, &e);
        int status = err == 0 ? memory_read(c, &now) : 0;
        if (err == 0 && status == 0 && !remembered_more(&now, key, head->size)) {
                buf_printf(&text, "%s\n", note_vkey_format(key, vkey));
                buf_append(&text, note->data, note->len);
                err = text.failed ? ul_fail(&e, UL_NOMEM, "out of memory")
                                  : write_file_durably(m->path, text.data, text.len, &e);
        }
        if (fd >= 0)
                (void)close(fd);
        buf_free(&text, false);
        return err == 0 ? status : complain("the checkpoint cannot be remembered: %s", e.detail);
}

int get_text(struct ctl *c, const char *path, struct http_answer *a)
{
        const struct http_request r = {.method = "GET", .path = path, .accept = "text/plain"};
        return api_call(c, &r, a);
}

static int daemon_key(struct ctl *c, struct note_key *key)
{
        struct http_answer a = {0};
        struct errinfo e = {0};
        int status = get_text(c, "/v1/audit/key", &a);
        size_t len = a.body.len;
        while (status == 0 && len > 0 && a.body.data[len - 1] == '\n')
                len--;
        if (status == 0 && note_vkey_parse((const char *)a.body.data, len, key, &e) != 0)
                status = complain("the daemon's key: %s", e.detail);
        http_answer_free(&a);
        return status;
}

/* The remembered key is not the log's any more. pin: NULL where none is pinned. A pin is no reason
 * to forget what was seen: it may be of the same log, and what is shown now an older state of it.
 */
static int follow_memory(struct ctl *c, const struct note_key *pin, struct memory *m,
                         const struct note_key *key)
{
        struct checkpoint last;
        int status = follow_keys(c, &m->key, key, &m->checkpoint, &last);
        if (status == 0) {
                remark("the log's key was exchanged: the one that is remembered handed over");
                m->checkpoint = last;
                m->key = *key;
        } else if (status == UL_NOT_FOUND && pin != NULL && strcmp(pin->name, m->key.name) != 0) {
                m->exists = false; /* of another log that was at this address */
                status = 0;
        } else if (status == UL_NOT_FOUND) {
                const bool same = strcmp(key->name, m->key.name) == 0;
                status = complain("the log at %s has another key than before%s. If that is right, "
                                  "%sremove %s",
                                  c->url, same ? ", and does not say that it took its place" : "",
                                  same ? "" : "give it with --key, or ", m->path);
        }
        return status;
}

/* What the pinned key handed over is the beginning of what is remembered, or is remembered itself.
 */
static int check_pin(struct ctl *c, const struct note_key *pin, struct memory *m,
                     const struct note_key *key)
{
        struct checkpoint last;
        if (same_key(pin, key))
                return 0;
        int status = follow_keys(c, pin, key, NULL, &last);
        if (status == UL_NOT_FOUND)
                return complain("the log's key is not the one that --key pins");
        if (status == 0 && m->exists)
                status = check_growth(c, &last, &m->checkpoint);
        if (status == UL_CORRUPT)
                return complain("the log that is remembered in %s does not go on from the one that "
                                "the pinned key handed over: its history was changed",
                                m->path);
        if (status != 0)
                return status;
        remark("the log's key was exchanged: the one that --key pins handed over");
        if (!m->exists) {
                m->exists = m->handed_over = true;
                m->checkpoint = last;
                m->key = *key;
        }
        return 0;
}

int choose_key(struct ctl *c, const char *pinned, struct memory *m, struct note_key *key)
{
        struct errinfo e = {0};
        struct note_key pin;
        if (pinned != NULL && note_vkey_parse(pinned, strlen(pinned), &pin, &e) != 0)
                return complain_usage("--key: %s", e.detail);
        int status = daemon_key(c, key);
        if (status == 0 && m->exists && !same_key(&m->key, key))
                status = follow_memory(c, pinned != NULL ? &pin : NULL, m, key);
        if (status == 0 && pinned != NULL)
                status = check_pin(c, &pin, m, key);
        return status;
}
