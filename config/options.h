/* SPDX-License-Identifier: Apache-2.0
 * options.h: the option table itself, shared by the parser (config.c) and by what is written from
 * it (document.c). Nobody else includes it. */
#ifndef UNLEARND_CONFIG_OPTIONS_H
#define UNLEARND_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
        OPTION_TEXT,   /* char[size] */
        OPTION_CHOICE, /* char[size], one of `choices` */
        OPTION_U32,    /* min..max */
        OPTION_BYTES,  /* uint64_t; K, M, G and T are powers of 1024 */
        OPTION_BOOL,   /* true, yes, on, 1 and their opposites */
};
struct option_spec {
        const char *section, *name;
        enum option_type type;
        size_t offset, size; /* of the member of struct config */
        uint64_t min, max;   /* of numbers */
        const char *choices; /* "a|b|c" */
        const char *value;   /* the default as the file would say it */
        const char *metavar; /* in --help */
        const char *help;    /* whole sentences */
};
extern const struct option_spec config_options[];
extern const size_t config_option_count;

/* --- sections [webhook NAME], webhooks.c --- */
struct config;
struct errinfo;
bool webhook_section(const char *section);
/* One option of such a section; UL_INVALID. An option that is given twice is refused. */
int webhook_set(struct config *c, const char *section, const char *name, const char *value,
                struct errinfo *e);
int webhooks_check(const struct config *c, struct errinfo *e);
/* What they are for, and an example. */
extern const char webhook_help[];
extern const char *const webhook_example[]; /* lines, NULL-terminated */

/* --- sections [witness NAME], witnesses.c; the same --- */
bool witness_section(const char *section);
int witness_set(struct config *c, const char *section, const char *name, const char *value,
                struct errinfo *e);
int witnesses_check(const struct config *c, struct errinfo *e);
extern const char witness_help[];
extern const char *const witness_example[];

/* What a section is about, for the documented file. */
const char *config_section_help(const char *section);

#endif
