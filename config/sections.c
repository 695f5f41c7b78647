/* SPDX-License-Identifier: Apache-2.0
 * sections.c: sections that have a name of their own, [webhook NAME] and [witness NAME]. There may
 * be several of a kind, so they stand beside the option table, and are no flags. What an address
 * or a key says, the daemon knows. */
#include "config/config.h"
#include "config/options.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FIELD(type, member)                                                                        \
        {                                                                                          \
#member, offsetof(type, member), sizeof(((type *)NULL)->member)                    \
        }

static int check_webhook(const void *item, const char *field, struct errinfo *e);
static int check_witness(const void *item, const char *field, struct errinfo *e);

const struct section_spec config_sections[] = {
        {.kind = "webhook",
         .help = "A section [webhook NAME] for each endpoint that is told of events, at most 16. "
                 "events names types of the audit log, PREFIX.* for all that begin so, or *; "
                 "default erasure.*. Messages are Standard Webhooks, signed with "
                 "keys/webhook-NAME.secret, which is made at the first start: `unlearnctl webhook "
                 "rotate NAME` makes and prints another.",
         .example = {"[webhook crm]", "url = https://crm.example.org/hooks/unlearnd",
                     "events = erasure.*, model.trained"},
         .reserved = "callbacks", /* has the secret of all callbacks */
         .fields = {FIELD(struct webhook_config, url), FIELD(struct webhook_config, events)},
         .max = WEBHOOKS_MAX,
         .count = offsetof(struct config, webhook_count),
         .items = offsetof(struct config, webhooks),
         .item_size = sizeof(struct webhook_config),
         .check = check_webhook},
        {.kind = "witness",
         .help = "A section [witness NAME] for each witness that cosigns the checkpoints of the "
                 "audit log (C2SP tlog-witness), at most 16; see docs/witnesses.md. url is its "
                 "submission prefix, to which /add-checkpoint is appended; key its verifier key "
                 "(Ed25519), as it publishes it. It has to know this log's origin and key.",
         .example = {"[witness garden]", "url = https://witness.example/",
                     "key = witness.example/w1+c0f4f0b1+"
                     "BHMwCHH0TBaOfJSd4sdQ5gwsm7j/UwAXxaJnI06ctNuO"},
         .fields = {FIELD(struct witness_config, url), FIELD(struct witness_config, key)},
         .max = WITNESSES_MAX,
         .count = offsetof(struct config, witness_count),
         .items = offsetof(struct config, witnesses),
         .item_size = sizeof(struct witness_config),
         .check = check_witness},
};
const size_t config_section_count = sizeof config_sections / sizeof config_sections[0];

/* Every item begins with its name, so that one code serves all kinds. */
static_assert(offsetof(struct webhook_config, name) == 0, "the name is first");
static_assert(offsetof(struct witness_config, name) == 0, "the name is first");
static_assert(sizeof(((struct webhook_config *)NULL)->name) == SECTION_NAME_MAX + 1, "one size");
static_assert(sizeof(((struct witness_config *)NULL)->name) == SECTION_NAME_MAX + 1, "one size");

static uint32_t item_count(const struct config *c, const struct section_spec *s)
{
        uint32_t count;
        memcpy(&count, (const char *)c + s->count, sizeof count);
        return count;
}

static const char *item_at(const struct config *c, const struct section_spec *s, uint32_t i)
{
        return (const char *)c + s->items + (size_t)i * s->item_size;
}

/* "webhook crm": the kind, with *name at what follows it. */
const struct section_spec *config_section(const char *section, const char **name)
{
        for (size_t i = 0; i < config_section_count; i++) {
                size_t len = strlen(config_sections[i].kind);
                if (strncmp(section, config_sections[i].kind, len) == 0 && section[len] == ' ') {
                        *name = section + len + 1;
                        return &config_sections[i];
                }
        }
        return NULL;
}

static int check_name(const struct section_spec *s, const char *name, struct errinfo *e)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
        size_t len = strlen(name);
        if (len >= 1 && len <= SECTION_NAME_MAX && strspn(name, letters) == len && name[0] != '-' &&
            name[0] != '_' && (s->reserved == NULL || strcmp(name, s->reserved) != 0))
                return 0;
        return ul_fail(e, UL_INVALID, "a %s's name must match [a-z0-9][a-z0-9_-]{0,%d}%s%s",
                       s->kind, SECTION_NAME_MAX - 1, s->reserved != NULL ? ", and not be " : "",
                       s->reserved != NULL ? s->reserved : "");
}

/* The item of that name; a new one where there is none yet. */
static int find_or_add(struct config *c, const struct section_spec *s, const char *name, char **out,
                       struct errinfo *e)
{
        uint32_t count = item_count(c, s), i = 0;
        while (i < count && strcmp(item_at(c, s, i), name) != 0)
                i++;
        if (i == s->max)
                return ul_fail(e, UL_INVALID, "there are more than %u sections [%s ...]",
                               (unsigned)s->max, s->kind);
        *out = (char *)c + s->items + (size_t)i * s->item_size;
        if (i == count) {
                (void)snprintf(*out, SECTION_NAME_MAX + 1, "%s", name);
                count++;
                memcpy((char *)c + s->count, &count, sizeof count);
        }
        return 0;
}

int config_section_set(struct config *c, const struct section_spec *s, const char *name,
                       const char *option, const char *value, struct errinfo *e)
{
        char *item = NULL;
        size_t i = 0;
        int err = check_name(s, name, e);
        if (err != 0)
                return err;
        while (i < SECTION_FIELDS && strcmp(s->fields[i].name, option) != 0)
                i++;
        if (i == SECTION_FIELDS)
                return ul_fail(e, UL_INVALID,
                               "unknown option '%.64s' in [%s ...]; there are %s and %s", option,
                               s->kind, s->fields[0].name, s->fields[1].name);
        err = find_or_add(c, s, name, &item, e);
        if (err != 0)
                return err;
        char *at = item + s->fields[i].offset;
        size_t len = strlen(value), size = s->fields[i].size;
        if (at[0] != '\0')
                return ul_fail(e, UL_INVALID, "option '%s' is given twice", option);
        if (len == 0 || len >= size)
                return ul_fail(e, UL_INVALID, "%s must have 1 to %zu bytes", option, size - 1);
        memcpy(at, value, len + 1);
        return 0;
}

int config_sections_check(const struct config *c, struct errinfo *e)
{
        for (size_t k = 0; k < config_section_count; k++) {
                const struct section_spec *s = &config_sections[k];
                for (uint32_t i = 0; i < item_count(c, s); i++) {
                        char field[ERRINFO_FIELD_MAX];
                        (void)snprintf(field, sizeof field, "%s %s", s->kind, item_at(c, s, i));
                        int err = s->check(item_at(c, s, i), field, e);
                        if (err != 0)
                                return err;
                }
        }
        return 0;
}

static int check_url(const char *url, const char *field, struct errinfo *e)
{
        if (strncasecmp(url, "https://", 8) == 0 || strncasecmp(url, "http://", 7) == 0)
                return 0;
        return ul_fail_field(e, UL_INVALID, field, "[%s] wants url = https://...", field);
}

static int check_witness(const void *item, const char *field, struct errinfo *e)
{
        const struct witness_config *w = item;
        int err = check_url(w->url, field, e);
        if (err == 0 && w->key[0] == '\0')
                err = ul_fail_field(e, UL_INVALID, field, "[%s] wants key = NAME+KEYID+KEY", field);
        return err;
}

/* --- events --- */

static const char between[] = ", \t";

static bool pattern_valid(const char *p, size_t len)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789._";
        if (len == 1 && p[0] == '*')
                return true;
        if (len > 2 && p[len - 1] == '*' && p[len - 2] == '.')
                len--;
        return len > 0 && strspn(p, letters) >= len;
}

static int check_webhook(const void *item, const char *field, struct errinfo *e)
{
        const struct webhook_config *w = item;
        int err = check_url(w->url, field, e);
        const char *p = w->events;
        for (p += strspn(p, between); err == 0 && *p != '\0'; p += strspn(p, between)) {
                size_t len = strcspn(p, between);
                if (!pattern_valid(p, len))
                        err = ul_fail_field(e, UL_INVALID, field,
                                            "events of [%s] must be types such as "
                                            "erasure.completed, erasure.* or *",
                                            field);
                p += len;
        }
        return err;
}

const char *config_events(const char *events)
{
        return events[0] != '\0' ? events : "erasure.*";
}

bool config_events_match(const char *events, const char *type)
{
        const char *p = config_events(events);
        for (p += strspn(p, between); *p != '\0'; p += strspn(p, between)) {
                size_t len = strcspn(p, between);
                bool prefix = p[len - 1] == '*';
                if (prefix ? strncmp(p, type, len - 1) == 0
                           : strlen(type) == len && strncmp(p, type, len) == 0)
                        return true;
                p += len;
        }
        return false;
}
