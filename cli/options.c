/* SPDX-License-Identifier: Apache-2.0
 * options.c: the parser of a command's options by its table, and how errors are told. Options and
 * operands may stand in any order; "--" ends the options. It knows no command. */
#include "cli/cli.h"

#include "cli/table.h"
#include "lib/util/crypto.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec global_options[] = {
        {"url", "URL", OPTION_TEXT, offsetof(struct ctl, url),
         "the daemon's address (UNLEARND_URL; http://127.0.0.1:8417)"},
        {"token", "TOKEN", OPTION_TEXT, offsetof(struct ctl, token),
         "the bearer token (better in UNLEARND_TOKEN: others see arguments)"},
        {"json", NULL, OPTION_FLAG, offsetof(struct ctl, json), "print JSON"},
        {NULL, NULL, OPTION_FLAG, 0, NULL},
};

/* --- errors --- */

static void tell(const char *what, const char *format, va_list args)
{
        char text[1024];
        (void)vsnprintf(text, sizeof text, format, args);
        (void)fflush(stdout); /* so that both keep their order on a terminal */
        (void)fputs(what, stderr);
        print_text(stderr, text);
        (void)fputc('\n', stderr);
}

int complain(const char *format, ...)
{
        va_list args;
        va_start(args, format);
        tell("error: ", format, args);
        va_end(args);
        return EXIT_FAILED;
}

int complain_usage(const char *format, ...)
{
        va_list args;
        va_start(args, format);
        tell("error: ", format, args);
        va_end(args);
        return EXIT_USAGE;
}

void remark(const char *format, ...)
{
        va_list args;
        va_start(args, format);
        tell("note: ", format, args);
        va_end(args);
}

int complain_about(const struct errinfo *e)
{
        return complain("%s", e->detail);
}

int complain_memory(void)
{
        return complain("out of memory");
}

/* --- parsing --- */

static const struct option_spec *find_option(const struct option_spec *table, const char *name,
                                             size_t len)
{
        for (; table != NULL && table->name != NULL; table++)
                if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
                        return table;
        return NULL;
}

static bool parse_count(const char *text, uint64_t *out)
{
        uint64_t v = 0;
        if (text[0] == '\0' || strlen(text) > 18)
                return false;
        for (; *text != '\0'; text++) {
                if (*text < '0' || *text > '9')
                        return false;
                v = v * 10 + (uint64_t)(*text - '0');
        }
        *out = v;
        return true;
}

static int list_add(struct text_list *list, const char *value)
{
        const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
        if (items == NULL)
                return complain_memory();
        list->items = items;
        list->items[list->count++] = value;
        return 0;
}

static int set_option(const struct option_spec *o, const char *value, void *base)
{
        void *at = (char *)base + o->offset;
        switch (o->type) {
        case OPTION_FLAG:
                *(bool *)at = true;
                return 0;
        case OPTION_TEXT:
                *(const char **)at = value;
                return 0;
        case OPTION_LIST:
                return list_add(at, value);
        case OPTION_COUNT: {
                struct count_option *count = at;
                count->given = true;
                if (!parse_count(value, &count->value))
                        return complain_usage("--%s takes a whole number", o->name);
                return 0;
        }
        }
        return EXIT_FAILED;
}

/* One "--name", "--name=value" or "--name value"; *at is moved past the value. */
static int take_option(const struct command *command, int argc, char **argv, int *at, struct ctl *c,
                       void *options)
{
        const char *name = argv[*at] + 2;
        const char *equals = strchr(name, '=');
        const size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
        const char *value = equals != NULL ? equals + 1 : NULL;
        void *base = options;
        const struct option_spec *o = find_option(command->options, name, len);
        if (o == NULL) {
                o = find_option(global_options, name, len);
                base = c;
        }
        if (o == NULL)
                return complain_usage("%s has no option --%.*s; see unlearnctl %s --help",
                                      command->name, (int)len, name, command->name);
        if (o->type == OPTION_FLAG && value != NULL)
                return complain_usage("--%s takes no value", o->name);
        if (o->type != OPTION_FLAG && value == NULL) {
                if (*at + 1 >= argc)
                        return complain_usage("--%s needs a value: --%s %s", o->name, o->name,
                                              o->value);
                value = argv[++*at];
        }
        return set_option(o, value, base);
}

int options_parse(const struct command *command, int argc, char **argv, struct ctl *c,
                  struct operands *in, void *options)
{
        bool only_operands = false;
        in->count = 0;
        in->items = calloc((size_t)argc + 1, sizeof *in->items);
        if (in->items == NULL)
                return complain_memory();
        for (int i = 0; i < argc; i++) {
                if (!only_operands && strcmp(argv[i], "--") == 0) {
                        only_operands = true;
                } else if (!only_operands && strncmp(argv[i], "--", 2) == 0) {
                        int err = take_option(command, argc, argv, &i, c, options);
                        if (err != 0)
                                return err;
                } else if (!only_operands && strcmp(argv[i], "-o") == 0 &&
                           find_option(command->options, "output", 6) != NULL) {
                        static char output[] = "--output";
                        argv[i] = output;
                        int err = take_option(command, argc, argv, &i, c, options);
                        if (err != 0)
                                return err;
                } else if (!only_operands && argv[i][0] == '-' && argv[i][1] != '\0') {
                        return complain_usage("%s is no option: all of them are long, as in "
                                              "unlearnctl %s --help",
                                              argv[i], command->name);
                } else {
                        in->items[in->count++] = argv[i];
                }
        }
        if (in->count < command->min || in->count > command->max)
                return complain_usage("usage: unlearnctl %s %s", command->name, command->operands);
        return 0;
}

void options_free(const struct command *command, struct operands *in, void *options)
{
        const struct option_spec *o = command->options;
        for (; o != NULL && o->name != NULL; o++) {
                struct text_list *list = (void *)((char *)options + o->offset);
                if (o->type == OPTION_LIST)
                        free(list->items);
        }
        free(in->items);
        in->items = NULL;
        wipe(options, OPTIONS_SIZE_MAX);
}

static void print_options(const struct option_spec *o, FILE *out)
{
        for (; o != NULL && o->name != NULL; o++) {
                int width = fprintf(out, "  --%s%s%s", o->name, o->value != NULL ? " " : "",
                                    o->value != NULL ? o->value : "");
                fprintf(out, "%*s%s\n", width < 28 ? 28 - width : 1, "", o->help);
        }
}

void options_help(const struct option_spec *options, FILE *out)
{
        if (options != NULL) {
                fputs("\nOptions:\n", out);
                print_options(options, out);
        }
        fputs("\nGlobal options:\n", out);
        print_options(global_options, out);
        fprintf(out, "  --help%*sthis help\n", 20, "");
}
