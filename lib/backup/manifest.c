/* SPDX-License-Identifier: Apache-2.0
 * manifest.c: see manifest.h. Strict: what a reader does not expect is damage. */
#include "lib/backup/manifest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHA_HEX = 2 * SHA256_BYTES, CHECK_HEX = 2 * BACKUP_CHECK_BYTES };

void backup_identity(const uint8_t pseudonym_key[KEY_BYTES], uint8_t out[BACKUP_IDENTITY_BYTES])
{
        keyed_hash(pseudonym_key, "backup identity", 15, out, BACKUP_IDENTITY_BYTES);
}

int manifest_add(struct backup_manifest *m, const struct backup_file *file)
{
        if (m->file_count == m->file_cap) {
                uint32_t cap = m->file_cap == 0 ? 64 : m->file_cap * 2;
                struct backup_file *grown = realloc(m->files, cap * sizeof *grown);
                if (grown == NULL)
                        return UL_NOMEM;
                m->files = grown;
                m->file_cap = cap;
        }
        assert(m->files != NULL);
        m->files[m->file_count++] = *file;
        return 0;
}

uint64_t manifest_bytes(const struct backup_manifest *m)
{
        uint64_t sum = 0;
        for (uint32_t i = 0; i < m->file_count; i++)
                sum += m->files[i].bytes;
        return sum;
}

void manifest_clear(struct backup_manifest *m)
{
        free(m->files);
        *m = (struct backup_manifest){0};
}

/* --- writing --- */

void manifest_write(const struct backup_manifest *m, struct buf *out)
{
        char hex[SHA_HEX + 1], time[RFC3339_SIZE], id[ULID_TEXT + 1];
        uint8_t sum[SHA256_BYTES];
        buf_printf(out, "unlearnd-backup 1\ncreated %s\nversion %s\n",
                   time_format(m->created_ms, time), m->version);
        buf_printf(out, "identity %s\nkeys %s\n", hex_encode(m->identity, sizeof m->identity, hex),
                   m->with_keys ? "yes" : "no");
        buf_printf(out, "erasures %llu %s\naudit %llu\n", (unsigned long long)m->erasures,
                   m->has_last_erasure ? ulid_format(m->last_erasure, id) : "-",
                   (unsigned long long)m->audit_size);
        if (m->has_ledger)
                buf_printf(out, "ledger %llu %s\n", (unsigned long long)m->ledger_bytes,
                           hex_encode(m->ledger_check, sizeof m->ledger_check, hex));
        else
                buf_append_str(out, "ledger -\n");
        for (uint32_t i = 0; i < m->file_count; i++)
                buf_printf(out, "file %s %llu %s\n",
                           hex_encode(m->files[i].sha256, SHA256_BYTES, hex),
                           (unsigned long long)m->files[i].bytes, m->files[i].path);
        if (out->failed)
                return;
        sha256(out->data, out->len, sum);
        buf_printf(out, "end %s\n", hex_encode(sum, sizeof sum, hex));
}

/* --- reading --- */

struct reader {
        const char *at, *end;
        bool bad;
};

/* The rest of a line that begins with "key "; NULL and bad where it does not. */
static const char *line_of(struct reader *r, const char *key, size_t *len)
{
        size_t n = strlen(key);
        const char *newline = r->at < r->end ? memchr(r->at, '\n', (size_t)(r->end - r->at)) : NULL;
        if (r->bad || newline == NULL || (size_t)(newline - r->at) < n + 1 ||
            memcmp(r->at, key, n) != 0 || r->at[n] != ' ') {
                r->bad = true;
                *len = 0;
                return NULL;
        }
        const char *text = r->at + n + 1;
        *len = (size_t)(newline - text);
        r->at = newline + 1;
        return text;
}

/* The word before the next space (or the end) of a line's rest. */
static const char *word_of(const char **at, size_t *left, size_t *len)
{
        const char *word = *at;
        const char *space = *left > 0 ? memchr(word, ' ', *left) : NULL;
        *len = space != NULL ? (size_t)(space - word) : *left;
        size_t used = *len + (space != NULL);
        *at += used;
        *left -= used;
        return word;
}

static uint64_t number_of(struct reader *r, const char *text, size_t len)
{
        uint64_t v = 0;
        r->bad = r->bad || len == 0 || len > 18;
        for (size_t i = 0; i < len && !r->bad; i++) {
                r->bad = text[i] < '0' || text[i] > '9';
                v = v * 10 + (uint64_t)(text[i] - '0');
        }
        return v;
}

static void hex_of(struct reader *r, const char *text, size_t len, uint8_t *out, size_t bytes)
{
        if (r->bad || len != 2 * bytes || hex_decode(text, len, out, bytes) != (long)bytes)
                r->bad = true;
}

static bool is(const char *text, size_t len, const char *word)
{
        return text != NULL && len == strlen(word) && memcmp(text, word, len) == 0;
}

/* Relative, without "..", of the letters that our own names have. */
static bool path_safe(const char *text, size_t len)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-./";
        char before = '/';
        if (len == 0 || len > BACKUP_PATH_MAX || text[len - 1] == '/')
                return false;
        for (size_t i = 0; i < len; i++) {
                if (memchr(letters, text[i], sizeof letters - 1) == NULL ||
                    (before == '/' && (text[i] == '/' || text[i] == '.')))
                        return false;
                before = text[i];
        }
        return true;
}

static void read_head(struct reader *r, struct backup_manifest *m)
{
        size_t len, n;
        const char *text = line_of(r, "unlearnd-backup", &len);
        r->bad = r->bad || !is(text, len, "1");
        text = line_of(r, "created", &len);
        r->bad = r->bad || !time_parse(text, len, &m->created_ms);
        text = line_of(r, "version", &len);
        r->bad = r->bad || len == 0 || len >= sizeof m->version;
        for (size_t i = 0; i < len && !r->bad; i++) {
                r->bad = text[i] <= ' ' || text[i] > '~';
                m->version[i] = text[i];
        }
        text = line_of(r, "identity", &len);
        hex_of(r, text, len, m->identity, sizeof m->identity);
        text = line_of(r, "keys", &len);
        m->with_keys = is(text, len, "yes");
        r->bad = r->bad || (!m->with_keys && !is(text, len, "no"));
        text = line_of(r, "erasures", &len);
        if (r->bad)
                return;
        const char *word = word_of(&text, &len, &n);
        m->erasures = number_of(r, word, n);
        m->has_last_erasure = !is(text, len, "-");
        if (m->has_last_erasure && (len != ULID_TEXT || !ulid_parse(text, len, m->last_erasure)))
                r->bad = true;
        text = line_of(r, "audit", &len);
        m->audit_size = number_of(r, text, len);
        text = line_of(r, "ledger", &len);
        m->has_ledger = !is(text, len, "-");
        if (r->bad || !m->has_ledger)
                return;
        word = word_of(&text, &len, &n);
        m->ledger_bytes = number_of(r, word, n);
        hex_of(r, text, len, m->ledger_check, sizeof m->ledger_check);
}

static int read_file_line(struct reader *r, struct backup_manifest *m)
{
        struct backup_file file = {0};
        size_t len, n;
        const char *text = line_of(r, "file", &len);
        if (r->bad)
                return 0;
        const char *word = word_of(&text, &len, &n);
        hex_of(r, word, n, file.sha256, SHA256_BYTES);
        word = word_of(&text, &len, &n);
        file.bytes = number_of(r, word, n);
        const struct backup_file *before = m->file_count > 0 ? &m->files[m->file_count - 1] : NULL;
        r->bad = r->bad || !path_safe(text, len);
        if (r->bad)
                return 0;
        memcpy(file.path, text, len);
        r->bad = before != NULL && strcmp(before->path, file.path) >= 0;
        return r->bad ? 0 : manifest_add(m, &file);
}

int manifest_parse(const char *text, size_t len, struct backup_manifest *out, struct errinfo *e)
{
        struct reader r = {.at = text, .end = len > 0 ? text + len : text};
        uint8_t said[SHA256_BYTES], is_sum[SHA256_BYTES];
        size_t n;
        int err = 0;
        *out = (struct backup_manifest){0};
        read_head(&r, out);
        while (!r.bad && err == 0 && r.end - r.at > 5 && memcmp(r.at, "file ", 5) == 0)
                err = read_file_line(&r, out);
        if (!r.bad && err == 0) {
                sha256(text, (size_t)(r.at - text), is_sum);
                const char *sum = line_of(&r, "end", &n);
                hex_of(&r, sum, n, said, sizeof said);
                r.bad = r.bad || r.at != r.end || memcmp(said, is_sum, sizeof said) != 0;
        }
        if (err == 0 && !r.bad)
                return 0;
        manifest_clear(out);
        if (err != 0)
                return ul_fail(e, err, "no memory for a backup's manifest");
        return ul_fail(e, UL_CORRUPT, "the backup's MANIFEST is damaged, or of another version");
}
