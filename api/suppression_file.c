/* SPDX-License-Identifier: Apache-2.0
 * suppression_file.c: see suppression_file.h. The reader takes what the writer makes, members in
 * any order, and nothing else. */
#include "api/suppression_file.h"

#include "lib/util/json.h"
#include <stdio.h>
#include <string.h>

static const char format_name[] = "unlearnd-suppressions";
enum { FORMAT_VERSION = 1 };

/* --- writing --- */

void suppression_file_begin(struct buf *out, struct service *s, int64_t now_ms)
{
        uint8_t check[KEY_CHECK_BYTES];
        struct json_writer w;
        service_key_check(s, check);
        jw_init(&w, out);
        jw_object(&w);
        jw_member_string(&w, "format", format_name);
        jw_member_u64(&w, "version", FORMAT_VERSION);
        jw_member_hex(&w, "key_check", check, sizeof(check));
        jw_member_time(&w, "exported_at", now_ms);
        jw_end_object(&w);
        buf_append(out, "\n", 1);
}

void suppression_file_end(struct buf *out, uint64_t count)
{
        struct json_writer w;
        jw_init(&w, out);
        jw_object(&w);
        jw_member_u64(&w, "suppressions", count);
        jw_end_object(&w);
        buf_append(out, "\n", 1);
}

/* --- reading --- */

struct head {
        char format[32];
        uint32_t version;
        char key_check[2 * KEY_CHECK_BYTES + 1];
        int64_t exported_ms;
};
struct item {
        char pseudonym[2 * PSEUDONYM_BYTES + 1];
        char kind[16];
        const struct json *model;
        char erasure[ULID_TEXT + 1];
        int64_t since_ms;
};
struct tail {
        uint64_t suppressions;
};

#define TEXT(s, m) JF_STRING, .offset = offsetof(struct s, m), .size = sizeof(((struct s *)0)->m)
#define PLAIN(s, m) .offset = offsetof(struct s, m), .size = sizeof(((struct s *)0)->m)
static const struct json_field head_fields[] = {
        {"format", TEXT(head, format), .required = true},
        {"version", JF_U32, PLAIN(head, version), .required = true},
        {"key_check", TEXT(head, key_check), .required = true},
        {"exported_at", JF_TIME, PLAIN(head, exported_ms), .required = true},
};
static const struct json_field item_fields[] = {
        {"pseudonym", TEXT(item, pseudonym), .required = true},
        {"kind", TEXT(item, kind), .required = true},
        {"model", JF_VALUE, PLAIN(item, model), .required = true},
        {"erasure", TEXT(item, erasure), .required = true},
        {"since", JF_TIME, PLAIN(item, since_ms), .required = true},
};
static const struct json_field tail_fields[] = {
        {"suppressions", JF_U64, PLAIN(tail, suppressions), .required = true},
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int read_head(const struct suppression_reader *r, const struct json *doc, struct errinfo *e)
{
        struct head h = {0};
        uint8_t check[KEY_CHECK_BYTES];
        int err = json_decode(doc, head_fields, COUNT(head_fields), &h, "", e);
        if (err != 0)
                return err;
        if (strcmp(h.format, format_name) != 0 || h.version != FORMAT_VERSION)
                return ul_fail_field(e, UL_INVALID, "/format", "this is no %s of version %d",
                                     format_name, FORMAT_VERSION);
        if (hex_decode(h.key_check, strlen(h.key_check), check, sizeof(check)) != sizeof(check))
                return ul_fail_field(e, UL_INVALID, "/key_check", "must be %d hex digits",
                                     2 * KEY_CHECK_BYTES);
        if (!equal_ct(check, r->key_check, sizeof(check)))
                return ul_fail_field(e, UL_CONFLICT, "/key_check",
                                     "these suppressions are of another pseudonym key: they would "
                                     "name nobody here; both instances need the same "
                                     "keys/pseudonym.key");
        return 0;
}

static int read_item(const struct json *doc, struct suppression_view *v, struct errinfo *e)
{
        struct item m = {0};
        int err = json_decode(doc, item_fields, COUNT(item_fields), &m, "", e);
        if (err != 0)
                return err;
        *v = (struct suppression_view){.since_ms = m.since_ms};
        if (hex_decode(m.pseudonym, strlen(m.pseudonym), v->pseudonym, PSEUDONYM_BYTES) !=
            PSEUDONYM_BYTES)
                return ul_fail_field(e, UL_INVALID, "/pseudonym", "must be %d hex digits",
                                     2 * PSEUDONYM_BYTES);
        if (strcmp(m.kind, "subject") != 0 && strcmp(m.kind, "record") != 0)
                return ul_fail_field(e, UL_INVALID, "/kind", "must be subject or record");
        v->kind = strcmp(m.kind, "record") == 0 ? "record" : "subject";
        if (!ulid_parse(m.erasure, strlen(m.erasure), v->erasure))
                return ul_fail_field(e, UL_INVALID, "/erasure", "must be an erasure's id");
        if (v->since_ms <= 0)
                return ul_fail_field(e, UL_INVALID, "/since", "must be a time after 1970");
        const char *name = json_string(m.model);
        if (json_type_of(m.model) == JSON_NULL && strcmp(v->kind, "subject") == 0)
                return 0;
        if (name == NULL || !model_name_valid(name, strlen(name)))
                return ul_fail_field(e, UL_INVALID, "/model",
                                     "must be a model's name, or null for a subject in all models");
        memcpy(v->model, name, strlen(name) + 1);
        return 0;
}

static int read_tail(struct suppression_reader *r, const struct json *doc, struct errinfo *e)
{
        struct tail m = {0};
        int err = json_decode(doc, tail_fields, COUNT(tail_fields), &m, "", e);
        if (err == 0 && m.suppressions != r->entries)
                err = ul_fail_field(e, UL_INVALID, "/suppressions",
                                    "the file was changed or is not whole: another number of "
                                    "suppressions stands before its end");
        r->ended = err == 0;
        return err;
}

static int read_document(struct suppression_reader *r, const struct json *doc,
                         struct suppression_view *out, bool *entry, struct errinfo *e)
{
        if (json_type_of(doc) != JSON_OBJECT)
                return ul_fail(e, UL_INVALID, "must be a JSON object");
        if (r->lines == 1)
                return read_head(r, doc, e);
        if (r->ended)
                return ul_fail(e, UL_INVALID, "nothing may stand behind the end of the file");
        if (json_get(doc, "suppressions") != NULL)
                return read_tail(r, doc, e);
        int err = read_item(doc, out, e);
        *entry = err == 0;
        r->entries += err == 0;
        return err;
}

/* Says which line it was. */
static int in_line(const struct suppression_reader *r, int err, struct errinfo *e)
{
        struct errinfo why = *e;
        (void)ul_fail_field(e, err, why.field, "line %llu: %s", (unsigned long long)r->lines,
                            why.detail);
        return err;
}

int suppression_read_line(struct suppression_reader *r, const char *line, size_t len,
                          struct suppression_view *out, bool *entry, struct errinfo *e)
{
        struct json *doc = NULL;
        int err = 0;
        *entry = false;
        r->lines++;
        if (len > 0 && line[len - 1] == '\r')
                len--;
        if (len > SUPPRESSION_LINE_MAX)
                err = ul_fail(e, UL_INVALID, "is over %d bytes long", SUPPRESSION_LINE_MAX);
        if (err == 0)
                err = json_parse(line, len, &doc, e);
        if (err == 0)
                err = read_document(r, doc, out, entry, e);
        json_free(&doc);
        return err == 0 ? 0 : in_line(r, err, e);
}

int suppression_read_end(const struct suppression_reader *r, struct errinfo *e)
{
        if (r->lines == 0)
                return ul_fail(e, UL_SYNTAX, "an export of suppressions is needed as the body");
        if (!r->ended)
                return ul_fail(e, UL_INVALID,
                               "the file is not whole: its last line, which says how many "
                               "suppressions there are, is missing");
        return 0;
}
