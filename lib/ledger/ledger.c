/* SPDX-License-Identifier: Apache-2.0
 * ledger.c: see ledger.h. One descriptor, positioned reads and writes; where the good part ends is
 * kept in memory, and what stands behind it after a failed write is cut off before the next one. */
#include "lib/ledger/ledger.h"

#include "lib/util/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
        CHECK_HEX = 2 * LEDGER_CHECK_BYTES,
        /* a line in the file: text, space, check, newline */
        FILE_LINE_MAX = LEDGER_LINE_MAX + CHECK_HEX + 2,
        CHUNK = 64 * 1024,
};

#define NO_COPY                                                                                    \
        "put back a copy of it; without one, move it away and start once with ledger_dir = none"

struct ledger {
        int fd;
        char path[PATH_SIZE];
        uint8_t key[KEY_BYTES];
        struct ledger_mark first; /* after the header */
        struct ledger_mark end;   /* after the last whole group */
        struct ledger_mark back;  /* the end before the last append */
        bool unclean;             /* something stands behind `end` */
};

/* --- checks --- */

static void check_of(const struct ledger *l, const uint8_t *before, const char *text, size_t len,
                     struct buf *scratch, uint8_t out[LEDGER_CHECK_BYTES])
{
        buf_reset(scratch, false);
        if (before != NULL)
                buf_append(scratch, before, LEDGER_CHECK_BYTES);
        buf_append(scratch, text, len);
        if (scratch->failed) /* no memory: a check that nothing agrees with */
                random_bytes(out, LEDGER_CHECK_BYTES);
        else
                keyed_hash(l->key, scratch->data, scratch->len, out, LEDGER_CHECK_BYTES);
}

/* Appends "text CHECK\n" and makes *check the line's. */
static void seal(const struct ledger *l, uint8_t check[LEDGER_CHECK_BYTES], bool chained,
                 const char *text, size_t len, struct buf *scratch, struct buf *out)
{
        char hex[CHECK_HEX + 1];
        check_of(l, chained ? check : NULL, text, len, scratch, check);
        buf_append(out, text, len);
        buf_append_str(out, " ");
        buf_append_str(out, hex_encode(check, LEDGER_CHECK_BYTES, hex));
        buf_append_str(out, "\n");
}

/* Whether a line (without its newline) holds; then *check is its own and *len that of its text. */
static bool holds(const struct ledger *l, uint8_t check[LEDGER_CHECK_BYTES], bool chained,
                  const char *line, size_t *len, struct buf *scratch)
{
        uint8_t said[LEDGER_CHECK_BYTES], is[LEDGER_CHECK_BYTES];
        if (*len < CHECK_HEX + 2 || line[*len - CHECK_HEX - 1] != ' ' ||
            hex_decode(line + *len - CHECK_HEX, CHECK_HEX, said, sizeof said) != sizeof said)
                return false;
        check_of(l, chained ? check : NULL, line, *len - CHECK_HEX - 1, scratch, is);
        if (memcmp(said, is, sizeof is) != 0)
                return false;
        memcpy(check, is, sizeof is);
        *len -= CHECK_HEX + 1;
        return true;
}

/* --- reading lines --- */

struct lines {
        int fd;
        uint64_t at, end; /* the next line begins at `at` */
        char *data;       /* [FILE_LINE_MAX] of the file from `from` on */
        uint64_t from;
        size_t have;
};

static int lines_begin(struct lines *r, int fd, uint64_t at, uint64_t end, struct errinfo *e)
{
        *r = (struct lines){.fd = fd, .at = at, .end = end, .from = at};
        r->data = calloc(1, FILE_LINE_MAX);
        return r->data != NULL ? 0 : ul_fail(e, UL_NOMEM, "no memory to read the erasure ledger");
}

/* The next line without its newline; UL_NOT_FOUND where no whole line is left. */
static int lines_next(struct lines *r, const char **line, size_t *len, struct errinfo *e)
{
        for (int filled = 0;; filled++) {
                size_t skip = (size_t)(r->at - r->from);
                const char *newline = memchr(r->data + skip, '\n', r->have - skip);
                if (newline != NULL) {
                        *line = r->data + skip;
                        *len = (size_t)(newline - *line);
                        r->at += *len + 1;
                        return 0;
                }
                if (filled > 0 || r->from + r->have == r->end)
                        return UL_NOT_FOUND;
                memmove(r->data, r->data + skip, r->have - skip);
                r->have -= skip;
                r->from = r->at;
                uint64_t left = r->end - r->from - r->have;
                size_t room = FILE_LINE_MAX - r->have;
                size_t n = left < room ? (size_t)left : room;
                int err = read_at(r->fd, r->data + r->have, n, r->from + r->have, e);
                if (err != 0)
                        return err;
                r->have += n;
        }
}

/* --- the header --- */

static void header_text(const struct ledger *l, char out[96])
{
        uint8_t identity[16];
        char hex[sizeof identity * 2 + 1];
        keyed_hash(l->key, "identity", 8, identity, sizeof identity);
        (void)snprintf(out, 96, "unlearnd-ledger 1 %s", hex_encode(identity, sizeof identity, hex));
}

static int header_write(struct ledger *l, const char *path, struct errinfo *e)
{
        char text[96];
        uint8_t check[LEDGER_CHECK_BYTES];
        struct buf scratch = {0}, out = {0};
        header_text(l, text);
        seal(l, check, false, text, strlen(text), &scratch, &out);
        int err = out.failed ? ul_fail(e, UL_NOMEM, "no memory for the erasure ledger")
                             : write_file_durably(path, out.data, out.len, e);
        buf_free(&scratch, false);
        buf_free(&out, false);
        return err;
}

static int header_check(struct ledger *l, struct lines *r, struct errinfo *e)
{
        char wanted[96];
        struct buf scratch = {0};
        const char *line = NULL;
        size_t len = 0;
        header_text(l, wanted);
        int err = lines_next(r, &line, &len, e);
        bool ours = err == 0 && len > strlen(wanted) && memcmp(line, wanted, strlen(wanted)) == 0;
        bool whole = err == 0 && holds(l, l->first.check, false, line, &len, &scratch);
        bool another = err == 0 && !ours && strncmp(line, "unlearnd-ledger ", 16) == 0;
        buf_free(&scratch, false);
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        if (another)
                return ul_fail(e, UL_CONFLICT,
                               "the erasure ledger belongs to another installation (or another "
                               "version): it was made with another keys/pseudonym.key");
        if (!ours || !whole)
                return ul_fail(e, UL_CORRUPT,
                               "the erasure ledger %.120s is damaged in its first line: " NO_COPY,
                               l->path);
        l->first.bytes = r->at;
        return 0;
}

/* --- the whole file --- */

/* Whether what stands behind the last whole group can be a group that a crash cut short: its lines
 * hold but it has no end, its last line is not whole, or blocks that were never written read as
 * zeros; and no other group follows it. */
static int torn(const struct ledger *l, uint64_t size, bool lines_hold, bool *yes,
                struct errinfo *e)
{
        uint8_t *chunk = malloc(CHUNK);
        uint32_t ends = 0; /* lines that end a group, the last line left out */
        bool zeros = false, at_start = true, is_end = false;
        uint8_t last = '\n';
        int err = chunk == NULL ? ul_fail(e, UL_NOMEM, "no memory for the erasure ledger") : 0;
        for (uint64_t at = l->end.bytes; at < size && err == 0;) {
                size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
                err = read_at(l->fd, chunk, n, at, e);
                for (size_t i = 0; i < n && err == 0; i++) {
                        if (at_start) {
                                ends += is_end;
                                is_end = chunk[i] == '.';
                        }
                        at_start = chunk[i] == '\n';
                        zeros = zeros || chunk[i] == 0;
                        last = chunk[i];
                }
                at += n;
        }
        free(chunk);
        *yes = ends == 0 && (zeros || last != '\n' || lines_hold);
        return err;
}

/* Sets `end`; UL_CORRUPT where a line does not hold. */
static int check_all(struct ledger *l, uint64_t size, struct errinfo *e)
{
        struct lines r;
        struct buf scratch = {0};
        struct ledger_mark at;
        const char *line = "";
        size_t len = 0;
        bool cut_short = false;
        int err = lines_begin(&r, l->fd, 0, size, e);
        if (err == 0)
                err = header_check(l, &r, e);
        l->end = at = l->first;
        while (err == 0 && (err = lines_next(&r, &line, &len, e)) == 0 &&
               holds(l, at.check, true, line, &len, &scratch)) {
                at.bytes = r.at;
                if (line[0] == '.')
                        l->end = at;
        }
        free(r.data);
        buf_free(&scratch, false);
        if (err != 0 && err != UL_NOT_FOUND)
                return err;
        l->unclean = l->end.bytes < size;
        /* the walk ended at the last newline, or at a line that does not hold */
        err = l->unclean ? torn(l, size, err == UL_NOT_FOUND, &cut_short, e) : 0;
        if (err == 0 && l->unclean && !cut_short)
                return ul_fail(e, UL_CORRUPT,
                               "the erasure ledger %.120s is damaged after byte %llu: " NO_COPY,
                               l->path, (unsigned long long)l->end.bytes);
        return err;
}

static int cut_off(struct ledger *l, struct errinfo *e)
{
        if (!l->unclean)
                return 0;
        if (ftruncate(l->fd, (off_t)l->end.bytes) != 0)
                return ul_fail_errno(e, "cannot cut the erasure ledger");
        int err = sync_data(l->fd, e);
        l->unclean = err != 0;
        return err;
}

static int lock(struct ledger *l, struct errinfo *e)
{
        if (flock(l->fd, LOCK_EX | LOCK_NB) == 0)
                return 0;
        if (errno == EWOULDBLOCK)
                return ul_fail(e, UL_CONFLICT, "another unlearnd writes this erasure ledger");
        return ul_fail_errno(e, "cannot lock the erasure ledger");
}

static int open_checked(const char *dir, const uint8_t pseudonym_key[KEY_BYTES], bool write,
                        struct ledger **out, uint64_t *size, struct errinfo *e)
{
        struct stat st;
        struct ledger *l = calloc(1, sizeof *l);
        *out = l;
        if (l == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for the erasure ledger");
        keyed_hash(pseudonym_key, "erasure ledger", 14, l->key, KEY_BYTES);
        l->fd = -1;
        int err = write ? make_dirs(dir, e) : 0;
        if (err == 0)
                err = path_format(l->path, e, "%s/%s", dir, LEDGER_FILE);
        if (err == 0 && write && !file_exists(l->path))
                err = header_write(l, l->path, e);
        if (err != 0)
                return err;
        l->fd = open(l->path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
        if (l->fd < 0) {
                char what[PATH_SIZE + 40];
                (void)snprintf(what, sizeof what, "cannot open the erasure ledger %s", l->path);
                return ul_fail_errno(e, what);
        }
        if (write && (err = lock(l, e)) != 0)
                return err;
        if (fstat(l->fd, &st) != 0)
                return ul_fail_errno(e, "cannot look at the erasure ledger");
        *size = (uint64_t)st.st_size;
        return check_all(l, *size, e);
}

bool ledger_exists(const char *dir)
{
        char path[PATH_SIZE];
        return path_format(path, NULL, "%s/%s", dir, LEDGER_FILE) == 0 && file_exists(path);
}

int ledger_open(const char *dir, const uint8_t pseudonym_key[KEY_BYTES], struct ledger **out,
                uint64_t *torn_bytes, struct errinfo *e)
{
        uint64_t size = 0;
        int err = open_checked(dir, pseudonym_key, true, out, &size, e);
        if (err == 0 && torn_bytes != NULL)
                *torn_bytes = size - (*out)->end.bytes;
        if (err == 0)
                err = cut_off(*out, e);
        if (err != 0)
                ledger_close(out);
        return err;
}

int ledger_open_read(const char *dir, const uint8_t pseudonym_key[KEY_BYTES], struct ledger **out,
                     struct errinfo *e)
{
        uint64_t size = 0;
        int err = open_checked(dir, pseudonym_key, false, out, &size, e);
        if (err != 0)
                ledger_close(out);
        return err;
}

void ledger_close(struct ledger **pl)
{
        struct ledger *l = *pl;
        *pl = NULL;
        if (l == NULL)
                return;
        if (l->fd >= 0)
                (void)close(l->fd);
        wipe(l->key, sizeof l->key);
        free(l);
}

/* --- places and entries --- */

void ledger_end(const struct ledger *l, struct ledger_mark *out)
{
        *out = l->end;
}

int ledger_has(struct ledger *l, const struct ledger_mark *mark, bool *has, struct errinfo *e)
{
        char hex[CHECK_HEX + 1], found[CHECK_HEX + 2];
        *has = false;
        if (mark->bytes < l->first.bytes || mark->bytes > l->end.bytes)
                return 0;
        int err = read_at(l->fd, found, sizeof found - 1, mark->bytes - CHECK_HEX - 1, e);
        (void)hex_encode(mark->check, LEDGER_CHECK_BYTES, hex);
        *has = err == 0 && memcmp(found, hex, CHECK_HEX) == 0 && found[CHECK_HEX] == '\n';
        return err;
}

int ledger_each(struct ledger *l, const struct ledger_mark *from, ledger_fn fn, void *arg,
                struct errinfo *e)
{
        struct lines r;
        const char *line = "";
        size_t len = 0;
        int err = lines_begin(&r, l->fd, from != NULL ? from->bytes : l->first.bytes, l->end.bytes,
                              e);
        while (err == 0 && (err = lines_next(&r, &line, &len, e)) == 0) {
                struct ledger_entry entry;
                if (line[0] == '.')
                        continue;
                if (len < CHECK_HEX + 1)
                        err = ul_fail(e, UL_CORRUPT, "the erasure ledger changed while it is read");
                else
                        err = ledger_entry_parse(line, len - CHECK_HEX - 1, &entry, e);
                if (err != 0)
                        break;
                err = fn(arg, &entry);
                ledger_entry_clear(&entry);
        }
        free(r.data);
        return err == UL_NOT_FOUND ? 0 : err;
}

/* --- appending --- */

/* Whether the open file is still the one that a next start will read: what is written into one that
 * was moved away, or is below a mount that is gone, is found by nobody. */
static int still_there(const struct ledger *l, struct errinfo *e)
{
        struct stat named, ours;
        bool same = stat(l->path, &named) == 0 && fstat(l->fd, &ours) == 0 &&
                    named.st_dev == ours.st_dev && named.st_ino == ours.st_ino;
        if (!same)
                return ul_fail(e, UL_IO,
                               "erasures.ledger is not in its place any more: it was moved away, "
                               "replaced, or its disk is not mounted");
        if ((uint64_t)ours.st_size < l->end.bytes)
                return ul_fail(e, UL_IO, "erasures.ledger was cut short by somebody else");
        return 0;
}

/* Before something is written: the file is ours, and ends where we know. */
static int prepare(struct ledger *l, struct errinfo *e)
{
        int err = still_there(l, e);
        return err == 0 ? cut_off(l, e) : err;
}

/* The group as it stands in the file, and the place after it. */
static int build(const struct ledger *l, const struct buf *lines, struct buf *out,
                 struct ledger_mark *end, struct errinfo *e)
{
        struct buf scratch = {0};
        char last[32];
        uint32_t count = 0;
        const char *at = (const char *)lines->data;
        const char *stop = at + lines->len;
        *end = l->end;
        for (; at < stop; count++) {
                const char *newline = memchr(at, '\n', (size_t)(stop - at));
                if (newline == NULL || newline - at > LEDGER_LINE_MAX) {
                        buf_free(&scratch, false);
                        return ul_fail(e, UL_INTERNAL, "a line of the erasure ledger is too long");
                }
                seal(l, end->check, true, at, (size_t)(newline - at), &scratch, out);
                at = newline + 1;
        }
        (void)snprintf(last, sizeof last, ". %u", count);
        seal(l, end->check, true, last, strlen(last), &scratch, out);
        end->bytes += out->len;
        bool failed = out->failed || scratch.failed;
        buf_free(&scratch, false);
        return failed ? ul_fail(e, UL_NOMEM, "no memory for the erasure ledger") : 0;
}

int ledger_append(struct ledger *l, const struct buf *lines, struct errinfo *e)
{
        struct buf out = {0};
        struct ledger_mark end;
        int err = prepare(l, e);
        if (err == 0)
                err = build(l, lines, &out, &end, e);
        if (err == 0) {
                l->unclean = true; /* until the end is moved */
                err = write_at(l->fd, out.data, out.len, l->end.bytes, e);
                if (err == 0)
                        err = sync_data(l->fd, e);
                if (err == 0) {
                        l->back = l->end;
                        l->end = end;
                        l->unclean = false;
                } else {
                        (void)cut_off(l, NULL); /* else before the next append */
                }
        }
        buf_free(&out, false);
        return err;
}

int ledger_probe(struct ledger *l, struct errinfo *e)
{
        static const char zeros[4096];
        int err = prepare(l, e);
        if (err != 0)
                return err;
        l->unclean = true;
        err = write_at(l->fd, zeros, sizeof zeros, l->end.bytes, e);
        if (err == 0)
                err = sync_data(l->fd, e);
        int cut = cut_off(l, err == 0 ? e : NULL);
        return err != 0 ? err : cut;
}

void ledger_take_back(struct ledger *l)
{
        if (l->back.bytes == 0)
                return;
        l->end = l->back;
        l->back = (struct ledger_mark){0};
        l->unclean = true;
        (void)cut_off(l, NULL);
}
