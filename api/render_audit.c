/* SPDX-License-Identifier: Apache-2.0
 * render_audit.c: audit entries and proofs as JSON and CSV; see render.h. An entry is canonical
 * JSON with its members in the fixed order v, index, time, type, actor, data: it is passed on byte
 * by byte, never written anew, so that a reader can hash what was hashed. */
#include "api/render.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

void render_audit_entry(struct json_writer *w, const struct audit_view *v)
{
        char hex[2 * SHA256_BYTES + 1];
        assert(v->entry_len > 2 && v->entry[v->entry_len - 1] == '}');
        jw_raw(w, v->entry, v->entry_len - 1);
        buf_printf(w->out, ",\"leaf_hash\":\"%s\"}", hex_encode(v->leaf_hash, SHA256_BYTES, hex));
}

const char render_audit_csv_header[] = "index,time,type,actor,data,leaf_hash\r\n";

/* A field in quotes, its own quotes doubled (RFC 4180, 2.7). One that a spreadsheet would take for
 * a formula begins with an apostrophe. */
static void csv_quoted(struct buf *out, const char *text, size_t len)
{
        static const char formula[] = {'=', '+', '-', '@', '\t', '\r', '\n'};
        buf_append(out, "\"", 1);
        if (len > 0 && memchr(formula, text[0], sizeof(formula)) != NULL)
                buf_append(out, "'", 1);
        while (len > 0) {
                const char *quote = memchr(text, '"', len);
                size_t plain = quote == NULL ? len : (size_t)(quote - text) + 1;
                buf_append(out, text, plain);
                if (quote != NULL)
                        buf_append(out, "\"", 1);
                text += plain;
                len -= plain;
        }
        buf_append(out, "\"", 1);
}

/* The text of the data member. Inside a JSON string a quote is escaped, so the first ,"data": is
 * the member itself: what could hold another stands behind it. */
static const char *entry_data(const struct audit_view *v, size_t *len)
{
        static const char member[] = ",\"data\":";
        const char *at = memmem(v->entry, v->entry_len, member, sizeof(member) - 1);
        if (at == NULL)
                return NULL;
        at += sizeof(member) - 1;
        *len = (size_t)(v->entry + v->entry_len - 1 - at);
        return at;
}

struct piece {
        const char *at;
        size_t len;
};
enum { CSV_TEXTS = 3 };
static const char *const csv_texts[CSV_TEXTS] = {"time", "type", "actor"};

/* The texts as they stand in the entry, one right behind the other. False: they do not, or one
 * holds an escape. */
static bool plain_texts(const struct audit_view *v, struct piece texts[CSV_TEXTS])
{
        const char *at = v->entry, *end = v->entry + v->entry_len;
        for (size_t i = 0; i < CSV_TEXTS; i++) {
                char member[16];
                int n = snprintf(member, sizeof(member), ",\"%s\":\"", csv_texts[i]);
                assert(n > 0 && (size_t)n < sizeof(member));
                const char *found = memmem(at, (size_t)(end - at), member, (size_t)n);
                if (found == NULL || (i > 0 && found != at))
                        return false;
                at = found + n;
                const char *quote = memchr(at, '"', (size_t)(end - at));
                if (quote == NULL || memchr(at, '\\', (size_t)(quote - at)) != NULL)
                        return false;
                texts[i] = (struct piece){at, (size_t)(quote - at)};
                at = quote + 1;
        }
        return true;
}

static int parsed_texts(const struct json *doc, struct piece texts[CSV_TEXTS])
{
        for (size_t i = 0; i < CSV_TEXTS; i++) {
                texts[i].at = json_string(json_get(doc, csv_texts[i]));
                if (texts[i].at == NULL)
                        return UL_CORRUPT;
                texts[i].len = strlen(texts[i].at);
        }
        return 0;
}

/* Only an entry with an escape in one of its texts is parsed. */
int render_audit_csv(struct buf *out, const struct audit_view *v)
{
        struct json *doc = NULL;
        struct piece texts[CSV_TEXTS];
        char hex[2 * SHA256_BYTES + 1];
        size_t data_len = 0;
        int err = 0;
        if (!plain_texts(v, texts)) {
                err = json_parse(v->entry, v->entry_len, &doc, NULL);
                if (err != 0)
                        return err == UL_NOMEM ? err : UL_CORRUPT;
                err = parsed_texts(doc, texts);
        }
        const char *data = entry_data(v, &data_len);
        if (err == 0 && data == NULL)
                err = UL_CORRUPT;
        if (err != 0)
                goto out;
        buf_printf(out, "%llu", (unsigned long long)v->index);
        for (size_t i = 0; i < CSV_TEXTS; i++) {
                buf_append(out, ",", 1);
                csv_quoted(out, texts[i].at, texts[i].len);
        }
        buf_append(out, ",", 1);
        csv_quoted(out, data, data_len);
        buf_printf(out, ",%s\r\n", hex_encode(v->leaf_hash, SHA256_BYTES, hex));
out:
        json_free(&doc);
        return err;
}

/* hashes and checkpoint, which both proofs end with */
static void proof_members(struct json_writer *w, const struct audit_proof *p)
{
        char text[48]; /* 44 characters of base64 for 32 bytes */
        assert(base64_size(SHA256_BYTES) <= sizeof(text));
        jw_key(w, "hashes");
        jw_array(w);
        for (uint32_t i = 0; i < p->count; i++)
                jw_string(w, base64_encode(p->hashes[i], SHA256_BYTES, text));
        jw_end_array(w);
        jw_key(w, "checkpoint");
        jw_string_n(w, (const char *)p->checkpoint.data, p->checkpoint.len);
}

void render_inclusion(struct json_writer *w, const struct audit_proof *p)
{
        jw_object(w);
        jw_member_u64(w, "index", p->index);
        jw_member_u64(w, "size", p->size);
        jw_member_hex(w, "leaf_hash", p->leaf_hash, SHA256_BYTES);
        proof_members(w, p);
        jw_end_object(w);
}

void render_consistency(struct json_writer *w, uint64_t from, uint64_t to,
                        const struct audit_proof *p)
{
        jw_object(w);
        jw_member_u64(w, "from", from);
        jw_member_u64(w, "to", to);
        proof_members(w, p);
        jw_end_object(w);
}
