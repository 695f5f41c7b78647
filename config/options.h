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
enum { OPTIONS_MAX = 64 };
extern const struct option_spec config_options[];
extern const size_t config_option_count;

/* --- sections with a name of their own, [KIND NAME]; sections.c --- */
enum { SECTION_FIELDS = 2, SECTION_EXAMPLE = 3 };
struct config;
struct errinfo;
struct section_spec {
        const char *kind;
        const char *help;                     /* what it is for: whole sentences */
        const char *example[SECTION_EXAMPLE]; /* lines */
        const char *reserved;                 /* a name that is taken, or NULL */
        struct {
                const char *name;
                size_t offset, size; /* of the text in an item */
        } fields[SECTION_FIELDS];
        uint32_t max;        /* items of this kind */
        size_t count, items; /* of the members of struct config */
        size_t item_size;
        int (*check)(const void *item, const char *field, struct errinfo *e);
};
extern const struct section_spec config_sections[];
extern const size_t config_section_count;
/* The kind of a section, and where its own name begins; NULL for any other section. */
const struct section_spec *config_section(const char *section, const char **name);
/* One option of such a section; UL_INVALID. An option that is given twice is refused. */
int config_section_set(struct config *c, const struct section_spec *s, const char *name,
                       const char *option, const char *value, struct errinfo *e);
/* What one option alone cannot show. */
int config_sections_check(const struct config *c, struct errinfo *e);

/* What a section is about, for the documented file. */
const char *config_section_help(const char *section);

#endif
