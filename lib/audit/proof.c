/* SPDX-License-Identifier: Apache-2.0
 * proof.c: see proof.h. A proof may come from a stranger: lines are used when they are whole. */
#include "lib/audit/proof.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char first_line[] = "c2sp.org/tlog-proof@v1";
enum { HASH_TEXT = (SHA256_BYTES + 2) / 3 * 4 };

void tlog_proof_write(uint64_t index, const void *entry, size_t entry_len,
                      const uint8_t (*hashes)[SHA256_BYTES], uint32_t count, const void *note,
                      size_t note_len, struct buf *out)
{
        char hash[HASH_TEXT + 1];
        char *extra = malloc(base64_size(entry_len));
        if (extra == NULL) {
                out->failed = true;
                return;
        }
        buf_append_str(out, first_line);
        buf_append_str(out, "\nextra ");
        buf_append_str(out, base64_encode(entry, entry_len, extra));
        buf_printf(out, "\nindex %" PRIu64 "\n", index);
        for (uint32_t i = 0; i < count; i++) {
                buf_append_str(out, base64_encode(hashes[i], SHA256_BYTES, hash));
                buf_append_str(out, "\n");
        }
        buf_append_str(out, "\n");
        buf_append(out, note, note_len);
        free(extra);
}

struct text {
        const char *at;
        size_t left;
};

/* Cuts the next line off, without its newline; false where there is none. */
static bool next_line(struct text *t, const char **line, size_t *len)
{
        const char *newline = t->left > 0 ? memchr(t->at, '\n', t->left) : NULL;
        if (newline == NULL)
                return false;
        *line = t->at;
        *len = (size_t)(newline - t->at);
        t->at += *len + 1;
        t->left -= *len + 1;
        return true;
}

static bool begins(const char *line, size_t len, const char *word)
{
        size_t n = strlen(word);
        return len > n && memcmp(line, word, n) == 0;
}

static bool read_extra(const char *text, size_t len, struct buf *out)
{
        uint8_t *room = buf_extend(out, len / 4 * 3 + 3);
        long n = room != NULL ? base64_decode(text, len, room, len / 4 * 3 + 3) : -1;
        out->len = n > 0 ? (size_t)n : 0;
        return n > 0;
}

/* Decimal without leading zeros. */
static bool read_index(const char *text, size_t len, uint64_t *out)
{
        uint64_t v = 0;
        if (len == 0 || (len > 1 && text[0] == '0'))
                return false;
        for (size_t i = 0; i < len; i++) {
                if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
                    __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
                        return false;
        }
        *out = v;
        return true;
}

/* Up to the empty line. */
static bool read_hashes(struct text *t, uint8_t (*hashes)[SHA256_BYTES], size_t *count)
{
        const char *line;
        size_t len;
        for (*count = 0; next_line(t, &line, &len); (*count)++) {
                if (len == 0)
                        return true;
                if (*count == MERKLE_PROOF_MAX || len != HASH_TEXT ||
                    base64_decode(line, len, hashes[*count], SHA256_BYTES) != SHA256_BYTES)
                        return false;
        }
        return false;
}

int tlog_proof_verify(const void *text, size_t len, const struct note_key *key,
                      struct tlog_proof *out, struct errinfo *e)
{
        struct text t = {.at = text, .left = len};
        uint8_t hashes[MERKLE_PROOF_MAX][SHA256_BYTES], leaf[SHA256_BYTES];
        const char *line = NULL;
        size_t n = 0, count = 0;
        struct errinfo why = {0};
        *out = (struct tlog_proof){0};
        bool ok = len <= TLOG_PROOF_BYTES_MAX && next_line(&t, &line, &n) &&
                  n == sizeof first_line - 1 && memcmp(line, first_line, n) == 0;
        if (!ok)
                return ul_fail(e, UL_SYNTAX, "this is not a C2SP tlog-proof");
        ok = next_line(&t, &line, &n) && begins(line, n, "extra ") &&
             read_extra(line + 6, n - 6, &out->entry);
        if (!ok)
                return ul_fail(e, UL_SYNTAX, "the proof does not carry the entry that it is of");
        ok = next_line(&t, &line, &n) && begins(line, n, "index ") &&
             read_index(line + 6, n - 6, &out->index) && read_hashes(&t, hashes, &count);
        if (!ok)
                return ul_fail(e, UL_SYNTAX, "the proof is cut short or malformed");
        if (checkpoint_verify(t.at, t.left, key, &out->head, &why) != 0)
                return ul_fail_field(e, why.code, "checkpoint", "the proof's checkpoint: %s",
                                     why.detail);
        merkle_leaf(out->entry.data, out->entry.len, leaf);
        if (!merkle_verify_inclusion(out->index, out->head.size, leaf,
                                     (const uint8_t(*)[SHA256_BYTES])hashes, count, out->head.root))
                return ul_fail_field(e, UL_CORRUPT, "inclusion",
                                     "the entry is not at index %" PRIu64
                                     " of the log that the checkpoint signs",
                                     out->index);
        return 0;
}

void tlog_proof_clear(struct tlog_proof *p)
{
        buf_free(&p->entry, false);
        *p = (struct tlog_proof){0};
}
