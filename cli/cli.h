/* SPDX-License-Identifier: Apache-2.0
 * cli.h: what the commands of unlearnctl share: the global options, how a command and its options
 * are described (one table feeds the parser, --help and the completion), and how errors are told.
 * Commands return an exit status; whoever finds an error tells it on stderr, once. */
#ifndef UNLEARND_CLI_CLI_H
#define UNLEARND_CLI_CLI_H

#include "lib/util/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct http;
struct ctl {
        const char *url;   /* without a slash at its end */
        const char *token; /* NULL: none */
        bool json;
        struct http *http;
};

/* --- options --- */

enum option_type {
        OPTION_FLAG,  /* bool */
        OPTION_TEXT,  /* const char *; NULL where it is not given */
        OPTION_COUNT, /* struct count_option */
        OPTION_LIST,  /* struct text_list; may be given again and again */
};
struct count_option {
        bool given;
        uint64_t value;
};
struct text_list {
        const char **items;
        size_t count;
};
struct option_spec {
        const char *name;  /* without the dashes; NULL ends a table */
        const char *value; /* what stands for its value in the help; NULL for a flag */
        enum option_type type;
        size_t offset; /* into the command's struct of options */
        const char *help;
};

/* A command's operands (what is not an option). */
struct operands {
        int count;
        const char **items;
};

struct command {
        const char *name;                  /* one or two words */
        const char *operands;              /* for the usage line */
        int min, max;                      /* operands */
        const struct option_spec *options; /* NULL: none */
        const size_t *options_size; /* of the struct that they fill; zeroed before. NULL: none */
        int (*run)(struct ctl *c, const struct operands *in, const void *options);
        const char *summary; /* one line */
        const char *more;    /* the rest of its help; NULL: none */
};

/* The longest struct of options. */
enum { OPTIONS_SIZE_MAX = 1024 };

/* Fills `options`, `c` and `in` from the words after the command's name. 0, or EXIT_USAGE. */
int options_parse(const struct command *command, int argc, char **argv, struct ctl *c,
                  struct operands *in, void *options);
void options_free(const struct command *command, struct operands *in, void *options);
/* The options of a command as its help shows them. */
void options_help(const struct option_spec *options, FILE *out);

/* --- errors --- */

/* "error: ..." on stderr; returns EXIT_FAILED. Control characters are not passed on. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
int complain_about(const struct errinfo *e); /* the detail */
int complain_memory(void);
/* The same, with EXIT_USAGE. */
int complain_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "note: ..." on stderr. */
void remark(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
