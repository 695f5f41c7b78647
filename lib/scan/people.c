/* SPDX-License-Identifier: Apache-2.0
 * people.c: an id in all the forms in which it could be left. A daemon that keeps its promise
 * writes none of them but the pseudonym; the others are what a bug, a log line, a core dump or an
 * old version could leave. It must not know where they are looked for. */
#include "lib/scan/scan_private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        ID_ANYWHERE_MIN = 8,  /* shorter: as a whole word alone */
        DIGITS_ANYWHERE = 12, /* digits occur in times and hashes */
        EVIDENCE_CHANGES = 8,
        PERIOD_MAX = 4, /* the longest that counts as uniform: one f32 */
};

int scan_grow(void *array, size_t count, size_t *capacity, size_t item_bytes, struct errinfo *e)
{
        void **items = array;
        if (count < *capacity)
                return 0;
        size_t more = *capacity == 0 ? 64 : 2 * *capacity;
        void *grown = more < NOBODY ? calloc(more, item_bytes) : NULL;
        if (grown == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for so many things to look for");
        if (count > 0) {
                memcpy(grown, *items, count * item_bytes);
                wipe(*items, count * item_bytes);
        }
        free(*items);
        *items = grown;
        *capacity = more;
        return 0;
}

static bool has_period(const uint8_t *p, size_t len, size_t period)
{
        return len > period && memcmp(p, p + period, len - period) == 0;
}

bool is_evidence(const uint8_t *p, size_t len)
{
        size_t changes = len > 0 && p[0] != 0;
        if (len < EVIDENCE_BYTES_MIN)
                return false;
        for (size_t i = 1; i < len; i++)
                changes += p[i] != p[i - 1];
        for (size_t period = 1; period <= PERIOD_MAX; period++)
                if (has_period(p, len, period))
                        return false;
        return changes >= EVIDENCE_CHANGES;
}

int needle_add(struct scan *s, const struct needle *n, const void *bytes, size_t len,
               struct errinfo *e)
{
        assert(len >= MATCH_BYTES_MIN);
        len = len > MATCH_BYTES_MAX ? MATCH_BYTES_MAX : len;
        int err =
                scan_grow(&s->needles, s->needle_count, &s->needle_capacity, sizeof *s->needles, e);
        if (err == 0)
                err = matcher_add(s->matcher, bytes, len, (uint32_t)s->needle_count, e);
        if (err == 0)
                s->needles[s->needle_count++] = *n;
        return err;
}

void tell_unsearchable(struct scan *s, const char *who, const char *why)
{
        s->totals.unsearchable++;
        s->events.unsearchable(s->events.arg, who, why);
}

/* --- forms of an id --- */

struct forms {
        struct scan *s;
        uint32_t who;
        const char *id;
        size_t len;
        bool plain_ascii;
        uint8_t rule; /* of a form in the clear */
        struct errinfo *e;
};

static int form(const struct forms *f, uint8_t kind, uint8_t rule, const char *what,
                const void *bytes, size_t len)
{
        const struct needle n = {.kind = kind, .rule = rule, .who = f->who, .what = what};
        return len < MATCH_BYTES_MIN ? 0 : needle_add(f->s, &n, bytes, len, f->e);
}

/* A form in the clear, where it is another than the id itself. */
static int other_form(const struct forms *f, const char *what, const struct buf *b)
{
        if (b->failed)
                return ul_fail(f->e, UL_NOMEM, "no memory for an id");
        if (b->len == f->len && memcmp(b->data, f->id, f->len) == 0)
                return 0;
        return form(f, SCAN_ID, f->rule, what, b->data, b->len);
}

/* Code points of UTF-8 that is well formed; of other bytes, the bytes. */
static size_t next_point(const char *p, size_t left, uint32_t *point)
{
        const uint8_t *u = (const uint8_t *)p;
        const size_t n = u[0] < 0xc0 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
        *point = u[0];
        if (n == 1 || n > left)
                return 1;
        *point = u[0] & (0x7fu >> n);
        for (size_t i = 1; i < n; i++) {
                if ((u[i] & 0xc0) != 0x80) {
                        *point = u[0];
                        return 1;
                }
                *point = *point << 6 | (u[i] & 0x3fu);
        }
        return n;
}

/* One or two units of UTF-16. */
static size_t units_of(uint32_t point, uint16_t out[2])
{
        if (point < 0x10000) {
                out[0] = (uint16_t)point;
                return 1;
        }
        out[0] = (uint16_t)(0xd800 + ((point - 0x10000) >> 10));
        out[1] = (uint16_t)(0xdc00 + ((point - 0x10000) & 0x3ff));
        return 2;
}

static int add_json(const struct forms *f)
{
        struct buf b = {0}, ascii = {0};
        struct json_writer w;
        jw_init(&w, &b);
        jw_string_n(&w, f->id, f->len);
        if (!b.failed) { /* without its quotes */
                b.len -= 2;
                memmove(b.data, b.data + 1, b.len);
        }
        int err = other_form(f, "id, escaped for JSON", &b);
        for (size_t i = 0; i < b.len && !f->plain_ascii && err == 0;) {
                uint32_t point;
                uint16_t units[2];
                i += next_point((const char *)b.data + i, b.len - i, &point);
                if (point < 0x80) {
                        buf_append(&ascii, &(char){(char)point}, 1);
                        continue;
                }
                const size_t n = units_of(point, units);
                for (size_t k = 0; k < n; k++)
                        buf_printf(&ascii, "\\u%04x", units[k]);
        }
        if (err == 0 && !f->plain_ascii)
                err = other_form(f, "id, escaped for JSON in ASCII", &ascii);
        buf_free(&b, true);
        buf_free(&ascii, true);
        return err;
}

/* RFC 3986. */
static bool is_unreserved(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '.' || c == '_' || c == '~';
}

static int add_percent(const struct forms *f, const char *format)
{
        struct buf b = {0};
        bool any = false;
        for (size_t i = 0; i < f->len; i++) {
                if (is_unreserved(f->id[i]))
                        buf_append(&b, &f->id[i], 1);
                else
                        buf_printf(&b, format[1] == 'X' ? "%%%02X" : "%%%02x",
                                   (unsigned)(uint8_t)f->id[i]);
                any = any || !is_unreserved(f->id[i]);
        }
        int err = any || b.failed ? other_form(f, "id, percent-encoded", &b) : 0;
        buf_free(&b, true);
        return err;
}

static int add_utf16(const struct forms *f, bool big)
{
        struct buf b = {0};
        for (size_t i = 0; i < f->len;) {
                uint32_t point;
                uint16_t units[2];
                i += next_point(f->id + i, f->len - i, &point);
                const size_t n = units_of(point, units);
                for (size_t k = 0; k < n; k++) {
                        const uint8_t low = (uint8_t)units[k], high = (uint8_t)(units[k] >> 8);
                        buf_append(&b, (uint8_t[]){big ? high : low, big ? low : high}, 2);
                }
        }
        int err = 0;
        if (b.failed)
                err = ul_fail(f->e, UL_NOMEM, "no memory for an id");
        else if (b.len >= ID_ANYWHERE_MIN)
                err = form(f, SCAN_ID, RULE_ANYWHERE, "id, as UTF-16", b.data, b.len);
        buf_free(&b, true);
        return err;
}

/* Bytes, and as hex in both cases. */
static int add_digest(const struct forms *f, uint8_t kind, const uint8_t *digest, size_t len,
                      const char *as_bytes, const char *as_hex)
{
        char hex[2 * SHA256_BYTES + 1];
        hex_encode(digest, len, hex);
        int err = form(f, kind, RULE_ANYWHERE, as_bytes, digest, len);
        if (err == 0)
                err = form(f, kind, RULE_ANYWHERE, as_hex, hex, 2 * len);
        for (size_t i = 0; i < 2 * len; i++)
                if (hex[i] >= 'a')
                        hex[i] = (char)(hex[i] - 'a' + 'A');
        if (err == 0)
                err = form(f, kind, RULE_ANYWHERE, as_hex, hex, 2 * len);
        wipe(hex, sizeof hex);
        return err;
}

static int add_hashes(const struct forms *f, const struct person *p)
{
        char text[64];
        assert(base64_size(SHA256_BYTES) <= sizeof text);
        int err = add_digest(f, SCAN_HASH, p->digest, SHA256_BYTES, "SHA-256 of the id",
                             "SHA-256 of the id, in hex");
        base64_encode(p->digest, SHA256_BYTES, text);
        if (err == 0) /* without its padding */
                err = form(f, SCAN_HASH, RULE_ANYWHERE, "SHA-256 of the id, in base64", text,
                           strcspn(text, "="));
        if (err == 0 && f->s->key != NULL)
                err = add_digest(f, SCAN_PSEUDONYM, p->pseudonym, PSEUDONYM_BYTES, "pseudonym",
                                 "pseudonym, in hex");
        wipe(text, sizeof text);
        return err;
}

static uint8_t clear_rule(const char *id, size_t len)
{
        const bool digits = strspn(id, "0123456789") >= len;
        if (len < ID_ANYWHERE_MIN || (digits && len < DIGITS_ANYWHERE) ||
            !is_evidence((const uint8_t *)id, len))
                return RULE_WHOLE_WORD;
        return RULE_ANYWHERE;
}

static int add_forms(struct scan *s, uint32_t who, const char *id, size_t len, struct errinfo *e)
{
        const struct person *p = &s->people[who];
        struct forms f = {.s = s, .who = who, .id = id, .len = len, .plain_ascii = true, .e = e};
        f.rule = clear_rule(id, len);
        for (size_t i = 0; i < len; i++)
                f.plain_ascii = f.plain_ascii && (uint8_t)id[i] < 0x80;
        if (len < MATCH_BYTES_MIN)
                tell_unsearchable(s, p->who,
                                  "the id is too short to be told from chance in the "
                                  "clear; its hashes are looked for");
        int err = form(&f, SCAN_ID, f.rule, "id", id, len);
        if (err == 0)
                err = add_json(&f);
        if (err == 0)
                err = add_percent(&f, "%X");
        if (err == 0)
                err = add_percent(&f, "%x");
        if (err == 0)
                err = add_utf16(&f, false);
        if (err == 0)
                err = add_utf16(&f, true);
        return err == 0 ? add_hashes(&f, p) : err;
}

/* --- the table of people --- */

static size_t slot_of(const struct scan *s, const uint8_t digest[SHA256_BYTES])
{
        size_t at = (size_t)get_le64(digest) & (s->slot_count - 1);
        while (s->slots[at] != NOBODY &&
               memcmp(s->people[s->slots[at]].digest, digest, SHA256_BYTES) != 0)
                at = (at + 1) & (s->slot_count - 1);
        return at;
}

static int more_slots(struct scan *s, struct errinfo *e)
{
        if (2 * (s->people_count + 1) <= s->slot_count)
                return 0;
        const size_t count = s->slot_count == 0 ? 256 : 2 * s->slot_count;
        uint32_t *slots = malloc(count * sizeof *slots);
        if (slots == NULL)
                return ul_fail(e, UL_NOMEM, "no memory for so many people");
        memset(slots, 0xff, count * sizeof *slots);
        free(s->slots);
        s->slots = slots;
        s->slot_count = count;
        for (size_t i = 0; i < s->people_count; i++)
                s->slots[slot_of(s, s->people[i].digest)] = (uint32_t)i;
        return 0;
}

int person_add(struct scan *s, const char *id, size_t len, bool is_subject, const char *who,
               uint32_t *out, struct errinfo *e)
{
        struct person new = {.group = NOBODY};
        if (len == 0 || len > ID_BYTES_MAX)
                return ul_fail(e, UL_INVALID, "an id is 1..%d bytes", ID_BYTES_MAX);
        sha256(id, len, new.digest);
        int err = more_slots(s, e);
        if (err != 0)
                return err;
        const size_t at = slot_of(s, new.digest);
        *out = s->slots[at];
        if (*out == NOBODY) {
                err = scan_grow(&s->people, s->people_count, &s->people_capacity, sizeof *s->people,
                                e);
                if (err != 0)
                        return err;
                (void)snprintf(new.who, sizeof new.who, "%s", who);
                if (s->key != NULL)
                        pseudonym_of(s->key, id, len, new.pseudonym);
                *out = (uint32_t)s->people_count;
                s->people[s->people_count++] = new;
                s->slots[at] = *out;
                err = add_forms(s, *out, id, len, e);
        }
        s->people[*out].is_subject |= is_subject;
        s->people[*out].is_record |= !is_subject;
        return err;
}

int scan_subject(struct scan *s, const char *id, size_t len, const char *who, struct errinfo *e)
{
        uint32_t at;
        return person_add(s, id, len, true, who, &at, e);
}

int scan_record(struct scan *s, const char *id, size_t len, const char *who, struct errinfo *e)
{
        uint32_t at;
        return person_add(s, id, len, false, who, &at, e);
}
