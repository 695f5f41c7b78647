/* SPDX-License-Identifier: Apache-2.0
 * webhooks.c: sections [webhook NAME]: endpoints that are told of events. They have names of their
 * own, so they stand beside the option table, and are no flags. */
#include "config/config.h"
#include "config/options.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SECTION "webhook "
static const char between[] = ", \t";

const char webhook_help[] =
        "A section [webhook NAME] for each endpoint that is told of events, at most 16. events "
        "names types of the audit log, PREFIX.* for all that begin so, or *; default erasure.*. "
        "Messages are Standard Webhooks, signed with keys/webhook-NAME.secret, which is made at "
        "the first start: `unlearnctl webhook rotate NAME` makes and prints another.";
const char *const webhook_example[] = {"[webhook crm]",
                                       "url = https://crm.example.org/hooks/unlearnd",
                                       "events = erasure.*, model.trained", NULL};

bool webhook_section(const char *section)
{
        return strncmp(section, SECTION, sizeof SECTION - 1) == 0;
}

/* "callbacks" stands for the secret of all callbacks. */
static bool name_valid(const char *name)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
        size_t len = strlen(name);
        return len >= 1 && len <= WEBHOOK_NAME_MAX && strspn(name, letters) == len &&
               name[0] != '-' && name[0] != '_' && strcmp(name, "callbacks") != 0;
}

static struct webhook_config *find_or_add(struct config *c, const char *name, struct errinfo *e)
{
        for (uint32_t i = 0; i < c->webhook_count; i++)
                if (strcmp(c->webhooks[i].name, name) == 0)
                        return &c->webhooks[i];
        if (c->webhook_count == WEBHOOKS_MAX) {
                (void)ul_fail(e, UL_INVALID, "there are more than %d webhooks", WEBHOOKS_MAX);
                return NULL;
        }
        struct webhook_config *w = &c->webhooks[c->webhook_count++];
        (void)snprintf(w->name, sizeof w->name, "%s", name);
        return w;
}

int webhook_set(struct config *c, const char *section, const char *name, const char *value,
                struct errinfo *e)
{
        const char *which = section + sizeof SECTION - 1;
        if (!name_valid(which))
                return ul_fail(e, UL_INVALID,
                               "a webhook's name must match [a-z0-9][a-z0-9_-]{0,%d}, and not be "
                               "callbacks",
                               WEBHOOK_NAME_MAX - 1);
        bool url = strcmp(name, "url") == 0;
        if (!url && strcmp(name, "events") != 0)
                return ul_fail(e, UL_INVALID,
                               "unknown option '%.64s' in [webhook ...]; there are url and events",
                               name);
        struct webhook_config *w = find_or_add(c, which, e);
        if (w == NULL)
                return UL_INVALID;
        char *at = url ? w->url : w->events;
        size_t size = url ? sizeof w->url : sizeof w->events;
        if (at[0] != '\0')
                return ul_fail(e, UL_INVALID, "option '%s' is given twice", name);
        if (value[0] == '\0' || strlen(value) >= size)
                return ul_fail(e, UL_INVALID, "%s must have 1 to %zu bytes", name, size - 1);
        memcpy(at, value, strlen(value) + 1);
        return 0;
}

static bool pattern_valid(const char *p, size_t len)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789._";
        if (len == 1 && p[0] == '*')
                return true;
        if (len > 2 && p[len - 1] == '*' && p[len - 2] == '.')
                len--;
        return len > 0 && strspn(p, letters) >= len;
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

int webhooks_check(const struct config *c, struct errinfo *e)
{
        for (uint32_t i = 0; i < c->webhook_count; i++) {
                const struct webhook_config *w = &c->webhooks[i];
                char field[ERRINFO_FIELD_MAX];
                (void)snprintf(field, sizeof field, "webhook %s", w->name);
                if (strncasecmp(w->url, "https://", 8) != 0 &&
                    strncasecmp(w->url, "http://", 7) != 0)
                        return ul_fail_field(e, UL_INVALID, field,
                                             "[webhook %s] wants url = https://...", w->name);
                const char *p = w->events;
                for (p += strspn(p, between); *p != '\0'; p += strspn(p, between)) {
                        size_t len = strcspn(p, between);
                        if (!pattern_valid(p, len))
                                return ul_fail_field(e, UL_INVALID, field,
                                                     "events of [webhook %s] must be types such "
                                                     "as erasure.completed, erasure.* or *",
                                                     w->name);
                        p += len;
                }
        }
        return 0;
}
