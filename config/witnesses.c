/* SPDX-License-Identifier: Apache-2.0
 * witnesses.c: sections [witness NAME]: who cosigns the checkpoints of the audit log. Like webhooks
 * they have names of their own. What a key says, the daemon knows. */
#include "config/config.h"
#include "config/options.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SECTION "witness "

const char witness_help[] =
        "A section [witness NAME] for each witness that cosigns the checkpoints of the audit log "
        "(C2SP tlog-witness), at most 16; see docs/witnesses.md. url is its submission prefix, to "
        "which /add-checkpoint is appended; key its verifier key (Ed25519), as it publishes it. It "
        "has to know this log's origin and key.";
const char *const witness_example[] = {
        "[witness garden]", "url = https://witness.example/",
        "key = witness.example/w1+c0f4f0b1+BHMwCHH0TBaOfJSd4sdQ5gwsm7j/UwAXxaJnI06ctNuO", NULL};

bool witness_section(const char *section)
{
        return strncmp(section, SECTION, sizeof SECTION - 1) == 0;
}

static bool name_valid(const char *name)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
        size_t len = strlen(name);
        return len >= 1 && len <= WITNESS_NAME_MAX && strspn(name, letters) == len &&
               name[0] != '-' && name[0] != '_';
}

static struct witness_config *find_or_add(struct config *c, const char *name, struct errinfo *e)
{
        for (uint32_t i = 0; i < c->witness_count; i++)
                if (strcmp(c->witnesses[i].name, name) == 0)
                        return &c->witnesses[i];
        if (c->witness_count == WITNESSES_MAX) {
                (void)ul_fail(e, UL_INVALID, "there are more than %d witnesses", WITNESSES_MAX);
                return NULL;
        }
        struct witness_config *w = &c->witnesses[c->witness_count++];
        (void)snprintf(w->name, sizeof w->name, "%s", name);
        return w;
}

int witness_set(struct config *c, const char *section, const char *name, const char *value,
                struct errinfo *e)
{
        const char *which = section + sizeof SECTION - 1;
        if (!name_valid(which))
                return ul_fail(e, UL_INVALID,
                               "a witness's name must match [a-z0-9][a-z0-9_-]{0,%d}",
                               WITNESS_NAME_MAX - 1);
        bool url = strcmp(name, "url") == 0;
        if (!url && strcmp(name, "key") != 0)
                return ul_fail(e, UL_INVALID,
                               "unknown option '%.64s' in [witness ...]; there are url and key",
                               name);
        struct witness_config *w = find_or_add(c, which, e);
        if (w == NULL)
                return UL_INVALID;
        char *at = url ? w->url : w->key;
        size_t size = url ? sizeof w->url : sizeof w->key;
        if (at[0] != '\0')
                return ul_fail(e, UL_INVALID, "option '%s' is given twice", name);
        if (value[0] == '\0' || strlen(value) >= size)
                return ul_fail(e, UL_INVALID, "%s must have 1 to %zu bytes", name, size - 1);
        memcpy(at, value, strlen(value) + 1);
        return 0;
}

int witnesses_check(const struct config *c, struct errinfo *e)
{
        for (uint32_t i = 0; i < c->witness_count; i++) {
                const struct witness_config *w = &c->witnesses[i];
                char field[ERRINFO_FIELD_MAX];
                (void)snprintf(field, sizeof field, "witness %s", w->name);
                if (strncasecmp(w->url, "https://", 8) != 0 &&
                    strncasecmp(w->url, "http://", 7) != 0)
                        return ul_fail_field(e, UL_INVALID, field,
                                             "[witness %s] wants url = https://...", w->name);
                if (w->key[0] == '\0')
                        return ul_fail_field(e, UL_INVALID, field,
                                             "[witness %s] wants key = NAME+KEYID+KEY", w->name);
        }
        return 0;
}
