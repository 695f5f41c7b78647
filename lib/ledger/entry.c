/* SPDX-License-Identifier: Apache-2.0
 * entry.c: see entry.h. The reader takes what the writer makes and nothing else. */
#include "lib/ledger/entry.h"

#include <stdlib.h>
#include <string.h>

enum { HEX_SIZE = 2 * PSEUDONYM_BYTES + 1 };

/* --- writing --- */

static void write_pseudonym(struct buf *out, const uint8_t pseudonym[PSEUDONYM_BYTES])
{
        char hex[HEX_SIZE];
        buf_append_str(out, hex_encode(pseudonym, PSEUDONYM_BYTES, hex));
}

static void write_erasure(struct buf *out, const struct ledger_entry *x)
{
        buf_printf(out, " %lld %lld %u %s ", (long long)x->received_ms, (long long)x->deadline_ms,
                   x->regulation, x->reference[0] != '\0' ? x->reference : "-");
        for (uint32_t i = 0; i < x->model_count; i++)
                buf_printf(out, "%s%s", i > 0 ? "," : "", x->models[i]);
        buf_append_str(out, x->model_count == 0 ? "* " : " ");
        for (uint32_t i = 0; i < x->subject_count; i++) {
                buf_append_str(out, i > 0 ? "," : "");
                write_pseudonym(out, x->subjects[i]);
        }
        buf_append_str(out, x->subject_count == 0 ? "- " : " ");
        for (uint32_t i = 0; i < x->record_count; i++) {
                buf_printf(out, "%s%s:", i > 0 ? "," : "", x->records[i].model);
                write_pseudonym(out, x->records[i].pseudonym);
        }
        buf_append_str(out, x->record_count == 0 ? "-" : "");
}

static void write_suppressions(struct buf *out, const struct ledger_entry *x)
{
        char id[ULID_TEXT + 1];
        for (uint32_t i = 0; i < x->suppression_count; i++) {
                const struct ledger_suppression *s = &x->suppressions[i];
                buf_printf(out, "%s%c:%s:", i > 0 ? "," : " ", s->record ? 'r' : 's',
                           s->model[0] != '\0' ? s->model : "*");
                write_pseudonym(out, s->pseudonym);
                buf_printf(out, ":%s:%lld", ulid_format(s->erasure, id), (long long)s->since_ms);
        }
}

static const char kind_letters[] = {
        [LEDGER_ERASURE] = 'e', [LEDGER_LIFT] = 'l', [LEDGER_IMPORT] = 'i'};

void ledger_entry_write(struct buf *out, const struct ledger_entry *x)
{
        char id[ULID_TEXT + 1];
        bool held = x->kind == LEDGER_ERASURE && memcmp(x->id, x->executed, ULID_BYTES) != 0;
        buf_printf(out, "%c %s ", held ? 'h' : kind_letters[x->kind], ulid_format(x->id, id));
        if (held)
                buf_printf(out, "%s ", ulid_format(x->executed, id));
        buf_printf(out, "%lld", (long long)x->time_ms);
        switch (x->kind) {
        case LEDGER_ERASURE:
                write_erasure(out, x);
                break;
        case LEDGER_LIFT:
                buf_append_str(out, " ");
                write_pseudonym(out, x->pseudonym);
                break;
        case LEDGER_IMPORT:
                write_suppressions(out, x);
                break;
        }
        buf_append_str(out, "\n");
}

/* --- reading --- */

struct text {
        const char *at;
        size_t len;
};

/* Cuts off what stands before `separator`, or all of it. */
static struct text cut(struct text *rest, char separator)
{
        struct text word = *rest;
        const char *end = rest->len > 0 ? memchr(rest->at, separator, rest->len) : NULL;
        if (end == NULL) {
                *rest = (struct text){0};
                return word;
        }
        word.len = (size_t)(end - rest->at);
        rest->at = end + 1;
        rest->len -= word.len + 1;
        return word;
}

static bool is(struct text word, const char *text)
{
        return word.len == strlen(text) && memcmp(word.at, text, word.len) == 0;
}

static bool read_number(struct text word, int64_t max, int64_t *out)
{
        int64_t v = 0;
        bool ok = word.len > 0 && word.len <= 18;
        for (size_t i = 0; i < word.len && ok; i++) {
                ok = word.at[i] >= '0' && word.at[i] <= '9';
                v = v * 10 + (word.at[i] - '0');
        }
        *out = v;
        return ok && v <= max;
}

static bool read_id(struct text word, uint8_t out[ULID_BYTES])
{
        return word.len == ULID_TEXT && ulid_parse(word.at, word.len, out);
}

static bool read_pseudonym(struct text word, uint8_t out[PSEUDONYM_BYTES])
{
        return word.len == HEX_SIZE - 1 &&
               hex_decode(word.at, word.len, out, PSEUDONYM_BYTES) == PSEUDONYM_BYTES;
}

static bool read_name(struct text word, char out[MODEL_NAME_MAX + 1])
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
        if (word.len == 0 || word.len > MODEL_NAME_MAX)
                return false;
        memcpy(out, word.at, word.len);
        out[word.len] = '\0';
        return strspn(out, letters) == word.len;
}

static bool read_reference(struct text word, char out[REFERENCE_MAX + 1])
{
        if (word.len == 0 || word.len > REFERENCE_MAX)
                return false;
        if (!is(word, "-"))
                memcpy(out, word.at, word.len);
        return true;
}

static size_t list_count(struct text list)
{
        size_t n = 1;
        for (size_t i = 0; i < list.len; i++)
                n += list.at[i] == ',';
        return n;
}

/* The three lists; `none` is how an empty one is written. *ok: it could be read. */
static void *list_begin(struct text list, const char *none, size_t size, uint32_t *count, bool *ok)
{
        *count = 0;
        if (is(list, none))
                return NULL;
        *count = (uint32_t)list_count(list);
        void *items = calloc(*count, size);
        *ok = *ok && items != NULL;
        return items;
}

static bool read_lists(struct text models, struct text subjects, struct text records,
                       struct ledger_entry *x)
{
        bool ok = true;
        x->models = list_begin(models, "*", sizeof *x->models, &x->model_count, &ok);
        x->subjects = list_begin(subjects, "-", sizeof *x->subjects, &x->subject_count, &ok);
        x->records = list_begin(records, "-", sizeof *x->records, &x->record_count, &ok);
        for (uint32_t i = 0; i < x->model_count && ok; i++)
                ok = read_name(cut(&models, ','), x->models[i]);
        for (uint32_t i = 0; i < x->subject_count && ok; i++)
                ok = read_pseudonym(cut(&subjects, ','), x->subjects[i]);
        for (uint32_t i = 0; i < x->record_count && ok; i++) {
                struct text pseudonym = cut(&records, ',');
                struct text model = cut(&pseudonym, ':');
                ok = read_name(model, x->records[i].model) &&
                     read_pseudonym(pseudonym, x->records[i].pseudonym);
        }
        return ok;
}

static bool read_erasure(struct text *rest, struct ledger_entry *x)
{
        int64_t regulation = 0;
        bool ok = read_number(cut(rest, ' '), INT64_MAX, &x->received_ms) &&
                  read_number(cut(rest, ' '), INT64_MAX, &x->deadline_ms) &&
                  read_number(cut(rest, ' '), UINT8_MAX, &regulation) &&
                  read_reference(cut(rest, ' '), x->reference);
        x->regulation = (uint32_t)regulation;
        if (!ok)
                return false;
        struct text models = cut(rest, ' ');
        struct text subjects = cut(rest, ' ');
        struct text records = cut(rest, ' ');
        return models.len > 0 && subjects.len > 0 && records.len > 0 &&
               read_lists(models, subjects, records, x);
}

static bool read_suppression(struct text word, struct ledger_suppression *s)
{
        struct text kind = cut(&word, ':');
        struct text model = cut(&word, ':');
        struct text pseudonym = cut(&word, ':');
        struct text erasure = cut(&word, ':');
        s->record = is(kind, "r");
        return (s->record || is(kind, "s")) && (is(model, "*") || read_name(model, s->model)) &&
               read_pseudonym(pseudonym, s->pseudonym) && read_id(erasure, s->erasure) &&
               read_number(word, INT64_MAX, &s->since_ms);
}

static bool read_suppressions(struct text *rest, struct ledger_entry *x)
{
        struct text list = cut(rest, ' ');
        bool ok = true;
        if (list.len == 0)
                return false;
        x->suppressions = list_begin(list, "", sizeof *x->suppressions, &x->suppression_count, &ok);
        for (uint32_t i = 0; i < x->suppression_count && ok; i++)
                ok = read_suppression(cut(&list, ','), &x->suppressions[i]);
        return ok;
}

static bool read_kind(struct text word, enum ledger_kind *out)
{
        for (size_t i = 0; word.len == 1 && i < sizeof kind_letters; i++) {
                *out = (enum ledger_kind)i;
                if (kind_letters[i] == word.at[0])
                        return true;
        }
        return false;
}

static bool read_rest(struct text *rest, struct ledger_entry *x)
{
        switch (x->kind) {
        case LEDGER_ERASURE:
                return read_erasure(rest, x);
        case LEDGER_LIFT:
                return read_pseudonym(cut(rest, ' '), x->pseudonym);
        case LEDGER_IMPORT:
                return read_suppressions(rest, x);
        }
        return false;
}

int ledger_entry_parse(const char *line, size_t len, struct ledger_entry *out, struct errinfo *e)
{
        struct text rest = {line, len};
        struct text kind = cut(&rest, ' ');
        struct text id = cut(&rest, ' ');
        *out = (struct ledger_entry){0};
        bool held = is(kind, "h");
        bool ok = (held || read_kind(kind, &out->kind)) && read_id(id, out->id);
        if (ok && held)
                ok = read_id(cut(&rest, ' '), out->executed) &&
                     memcmp(out->id, out->executed, ULID_BYTES) != 0;
        else if (ok && out->kind == LEDGER_ERASURE)
                memcpy(out->executed, out->id, ULID_BYTES);
        ok = ok && read_number(cut(&rest, ' '), INT64_MAX, &out->time_ms) && read_rest(&rest, out);
        if (ok && rest.len == 0)
                return 0;
        ledger_entry_clear(out);
        return ul_fail(e, UL_CORRUPT, "a line of the erasure ledger is not understood");
}

void ledger_entry_clear(struct ledger_entry *x)
{
        free(x->models);
        free(x->subjects);
        free(x->records);
        free(x->suppressions);
        *x = (struct ledger_entry){0};
}
